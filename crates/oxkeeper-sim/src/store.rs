//! The disk queue of one server: as the log thread of the production server, with virtual latency.

use std::collections::VecDeque;

use oxkeeper_proto::snapshot::SnapshotDigest;
use oxkeeper_proto::txn::DIGEST_VERSION;
use oxkeeper_proto::{Epoch, Zxid};
use oxkeeper_replica::{Input, Shared};
use oxkeeper_state::{Options, State, StateDatabase, Walk};
use oxkeeper_storage::{
    CompleteSnapshot, Compression, EpochFiles, LoadOptions, LogOptions, Roll, RollPolicy, Sections,
    SnapshotWriter, StorageError, TxnLog, load, log_diff_allowed, read_range,
};
use oxkeeper_zab::{History, Input as Z, LinkId, Proposal};

use crate::fuse::FuseDisk;
use crate::server::Mail;
use crate::world::{Event, Violation, World};

const RECORD_LIMIT: usize = 1 << 20;

/// Work, carried out in order.
#[allow(missing_docs)]
pub enum DiskOp {
    Append(Proposal),
    SaveAcceptedEpoch(Epoch),
    PrepareCurrentEpoch(Epoch),
    SaveCurrentEpoch(Epoch),
    SaveSnapshot,
    Truncate(Zxid),
    Reload,
    /// A periodic snapshot is complete; `None`: its state was replaced meanwhile.
    Publish {
        generation: u64,
        finished: Option<CompleteSnapshot<FuseDisk>>,
    },
}

impl std::fmt::Debug for DiskOp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DiskOp::Append(proposal) => write!(f, "append {}", proposal.zxid),
            DiskOp::SaveAcceptedEpoch(epoch) => write!(f, "save acceptedEpoch {epoch}"),
            DiskOp::PrepareCurrentEpoch(epoch) => write!(f, "announce currentEpoch {epoch}"),
            DiskOp::SaveCurrentEpoch(epoch) => write!(f, "save currentEpoch {epoch}"),
            DiskOp::SaveSnapshot => write!(f, "save snapshot"),
            DiskOp::Truncate(zxid) => write!(f, "truncate to {zxid}"),
            DiskOp::Reload => write!(f, "reload"),
            DiskOp::Publish { finished, .. } => {
                write!(f, "publish snapshot {:?}", finished.as_ref().map(CompleteSnapshot::zxid))
            }
        }
    }
}

/// A periodic snapshot being written while transactions go on.
struct Running {
    generation: u64,
    /// Generation of the state itself.
    state_generation: u64,
    walk: Walk,
    writer: SnapshotWriter<FuseDisk>,
}

/// The log thread's state.
pub struct Store {
    disk: FuseDisk,
    log: TxnLog<FuseDisk>,
    epochs: EpochFiles<FuseDisk>,
    roll: RollPolicy,
    queue: VecDeque<DiskOp>,
    /// Being carried out.
    busy: Vec<DiskOp>,
    running: Option<Running>,
    snapshot_running: bool,
    /// Counts replacements of the history.
    generation: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("queue", &self.queue).finish_non_exhaustive()
    }
}

fn log_options() -> LogOptions {
    LogOptions { preallocate_kib: 4, force_sync: true, record_limit: RECORD_LIMIT }
}

/// A loaded directory.
pub struct LoadedState {
    /// The state after the last logged transaction.
    pub state: State,
    /// Its zxid and the newest proposals.
    pub history: History,
    /// A snapshot must be written before it serves.
    pub needs_snapshot: bool,
}

/// Loads a directory as the server does.
pub fn load_state(disk: &FuseDisk, recent: usize) -> Result<LoadedState, StorageError> {
    let options = LoadOptions { record_limit: RECORD_LIMIT, recent, ..LoadOptions::default() };
    let loaded = load(disk, &options, || StateDatabase::new(7, Options::default()))?;
    let proposal = |logged: oxkeeper_storage::Proposal| Proposal {
        zxid: logged.zxid,
        payload: logged.payload,
    };
    let recent = loaded.recent.into_iter().map(proposal).collect();
    let mut state = loaded.database.into_state();
    state.set_last_zxid(loaded.last_zxid);
    Ok(LoadedState {
        state,
        history: History { last_zxid: loaded.last_zxid, recent, lost_tail: None },
        needs_snapshot: loaded.needs_snapshot,
    })
}

fn complete(
    walk: &Walk,
    writer: SnapshotWriter<FuseDisk>,
    state: &State,
) -> Result<CompleteSnapshot<FuseDisk>, StorageError> {
    let end = walk.finish(state);
    let digest = end.digest.map(|(zxid, tree)| SnapshotDigest {
        zxid,
        version: DIGEST_VERSION,
        tree: tree as i64,
    });
    let last_zxid = digest.is_some().then_some(end.last_zxid);
    writer.complete(&Sections { digest, last_zxid })
}

/// A snapshot of the state as it is.
pub fn write_snapshot(
    disk: &FuseDisk,
    shared: &Shared,
) -> Result<CompleteSnapshot<FuseDisk>, StorageError> {
    let state = shared.state.read();
    let mut walk = Walk::begin(&state);
    let mut writer = SnapshotWriter::create(disk.clone(), walk.zxid(), Compression::None)?;
    let mut chunk = Vec::new();
    walk.put_tables(&mut chunk);
    while !walk.step(&state, 64, 8192, &mut chunk) {
        writer.write(&chunk)?;
        chunk.clear();
    }
    writer.write(&chunk)?;
    complete(&walk, writer, &state)
}

impl Store {
    /// A queue on a history that ends with `last`.
    pub fn new(disk: FuseDisk, last: Zxid, snap_count: i64, random: [u64; 2]) -> Store {
        Store {
            log: TxnLog::new(disk.clone(), log_options(), last),
            epochs: EpochFiles::new(disk.clone()),
            roll: RollPolicy::new(snap_count, -1, -1, random),
            disk,
            queue: VecDeque::new(),
            busy: Vec::new(),
            running: None,
            snapshot_running: false,
            generation: 0,
        }
    }

    /// Last zxid handed over for the log.
    pub fn appended(&self) -> Zxid {
        self.log.appended()
    }

    /// Nothing queued and nothing under way.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.busy.is_empty()
    }
}

impl World<'_> {
    fn store(&mut self, server: usize) -> Option<&mut Store> {
        self.servers[server].process.as_mut().map(|process| &mut process.store)
    }

    /// Queues work.
    pub fn queue_disk(&mut self, server: usize, ops: impl IntoIterator<Item = DiskOp>) {
        if let Some(store) = self.store(server) {
            store.queue.extend(ops);
        }
        self.start_disk(server);
    }

    fn start_disk(&mut self, server: usize) {
        let slow = self.servers[server].disk_slow;
        let most = self.dice.between(1, 40) as usize;
        let incarnation = self.servers[server].incarnation;
        let Some(store) = self.store(server) else { return };
        if !store.busy.is_empty() {
            return;
        }
        let Some(first) = store.queue.pop_front() else { return };
        let append = matches!(first, DiskOp::Append(_));
        store.busy.push(first);
        while append
            && store.busy.len() < most
            && matches!(store.queue.front(), Some(DiskOp::Append(_)))
            && let Some(next) = store.queue.pop_front()
        {
            store.busy.push(next);
        }
        let delay = self.dice.between(100, 3_000) * slow;
        self.after(delay, Event::Disk { server, incarnation });
    }

    /// The disk has done what it was busy with.
    pub fn disk_due(&mut self, server: usize, incarnation: u64) -> Result<(), Violation> {
        if !self.servers[server].is_running(incarnation) {
            return Ok(());
        }
        let Some(store) = self.store(server) else { return Ok(()) };
        let busy = std::mem::take(&mut store.busy);
        for op in &busy {
            self.note(|| format!("s{} disk: {op:?}", server + 1));
        }
        let result = self.carry_out(server, busy);
        if !self.survives(server, result, "disk queue")? {
            return Ok(());
        }
        self.start_disk(server);
        let idle = self.store(server).is_some_and(|store| store.is_idle());
        if idle && self.dice.one_in(4) {
            let prepared = match self.store(server) {
                Some(store) => store.log.prepare().map(|_| ()),
                None => Ok(()),
            };
            self.survives(server, prepared.map(|()| Ok(())), "log preparation")?;
        }
        Ok(())
    }

    /// Tells a storage error from a loss of power or an injected fault (the server crashes) and a
    /// broken rule. False: the server is gone.
    pub fn survives(
        &mut self,
        server: usize,
        result: Result<Result<(), Violation>, StorageError>,
        during: &str,
    ) -> Result<bool, Violation> {
        match result {
            _ if self.servers[server].disk.is_blown() => {
                self.note(|| format!("s{} loses power in the {during}", server + 1));
                self.crash(server, true);
                Ok(false)
            }
            Ok(result) => result.map(|()| true),
            Err(error) if self.servers[server].disk_fault => {
                self.note(|| format!("s{} ends: {during}: {error}", server + 1));
                self.summary.disk_faults += 1;
                let power = self.dice.one_in(2);
                self.crash(server, power);
                Ok(false)
            }
            Err(error) => Err(format!("s{}: {during}: {error}", server + 1)),
        }
    }

    fn carry_out(
        &mut self,
        server: usize,
        ops: Vec<DiskOp>,
    ) -> Result<Result<(), Violation>, StorageError> {
        let mut appended = false;
        for op in ops {
            match op {
                DiskOp::Append(proposal) => {
                    if let Err(violation) = self.check_append(server, &proposal) {
                        return Ok(Err(violation));
                    }
                    let Some(store) = self.store(server) else { return Ok(Ok(())) };
                    store.log.append(proposal.zxid, &proposal.payload)?;
                    store.roll.appended(proposal.payload.len());
                    appended = true;
                }
                DiskOp::SaveCurrentEpoch(epoch) => {
                    if let Err(violation) = self.check_current_epoch(server, epoch) {
                        return Ok(Err(violation));
                    }
                    self.other(server, DiskOp::SaveCurrentEpoch(epoch))?;
                }
                op => self.other(server, op)?,
            }
        }
        if appended && let Some(store) = self.store(server) {
            let synced = store.log.sync()?.zxid;
            self.servers[server].durable = synced;
            self.zab_input(server, Z::Flushed(synced));
        }
        self.roll_if_due(server)?;
        Ok(Ok(()))
    }

    fn other(&mut self, server: usize, op: DiskOp) -> Result<(), StorageError> {
        let recent = self.plan.commit_log_count;
        // As if no snapshot was old enough to cut behind it.
        let refuse = matches!(op, DiskOp::Truncate(_)) && self.dice.one_in(6);
        let shared = self.servers[server].process.as_ref().map(|process| process.shared.clone());
        let (Some(shared), Some(store)) = (shared, self.store(server)) else { return Ok(()) };
        match op {
            DiskOp::SaveAcceptedEpoch(epoch) => {
                store.epochs.save_accepted(epoch)?;
                self.zab_input(server, Z::AcceptedEpochSaved(epoch));
            }
            DiskOp::PrepareCurrentEpoch(epoch) => store.epochs.announce_current(epoch)?,
            DiskOp::SaveCurrentEpoch(epoch) => {
                store.epochs.save_current(epoch)?;
                self.zab_input(server, Z::CurrentEpochSaved(epoch));
            }
            DiskOp::SaveSnapshot => {
                store.generation += 1;
                let zxid = shared.state.read().last_zxid();
                write_snapshot(&store.disk, &shared)?.publish()?;
                if store.log.appended() != zxid {
                    oxkeeper_storage::adopt_snapshot(&store.disk, zxid)?;
                    store.log = TxnLog::new(store.disk.clone(), log_options(), zxid);
                }
                self.servers[server].durable = zxid;
                self.zab_input(server, Z::SnapshotSaved);
            }
            DiskOp::Truncate(zxid) => {
                store.log.roll()?;
                if refuse {
                    self.summary.refused_cuts += 1;
                    self.zab_input(server, Z::TruncateFailed);
                    return Ok(());
                }
                match oxkeeper_storage::truncate(&store.disk, zxid, RECORD_LIMIT) {
                    Ok(_) => self.reload(server, recent)?,
                    Err(StorageError::CannotTruncate { .. }) => {
                        self.summary.refused_cuts += 1;
                        self.zab_input(server, Z::TruncateFailed);
                    }
                    Err(error) => return Err(error),
                }
            }
            DiskOp::Reload => {
                store.log.roll()?;
                self.reload(server, recent)?;
            }
            DiskOp::Publish { generation, finished } => {
                store.snapshot_running = false;
                let current = store.generation;
                if let Some(finished) = finished.filter(|_| generation == current) {
                    finished.publish()?;
                    self.summary.snapshots += 1;
                }
            }
            DiskOp::Append(_) => unreachable!("handled by the caller"),
        }
        Ok(())
    }

    fn reload(&mut self, server: usize, recent: usize) -> Result<(), StorageError> {
        let Some(store) = self.store(server) else { return Ok(()) };
        store.generation += 1;
        let loaded = load_state(&store.disk, recent)?;
        let last = loaded.history.last_zxid;
        store.log = TxnLog::new(store.disk.clone(), log_options(), last);
        self.servers[server].durable = last;
        let input = Input::Reloaded(Box::new(loaded.state), loaded.history);
        self.mail(server, Mail::Input(input));
        Ok(())
    }

    fn roll_if_due(&mut self, server: usize) -> Result<(), StorageError> {
        let random = [self.dice.any(), self.dice.any()];
        let Some(store) = self.store(server) else { return Ok(()) };
        let decision = store.roll.decide(store.log.file_len());
        if decision == Roll::No {
            return Ok(());
        }
        store.log.roll()?;
        if decision == Roll::LogAndSnapshot {
            store.roll.rolled(random);
            if !store.snapshot_running {
                store.snapshot_running = true;
                self.start_snapshot(server)?;
            }
        }
        Ok(())
    }

    fn start_snapshot(&mut self, server: usize) -> Result<(), StorageError> {
        let incarnation = self.servers[server].incarnation;
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        let walk = Walk::begin(&process.shared.state.read());
        let disk = process.store.disk.clone();
        let mut writer = SnapshotWriter::create(disk, walk.zxid(), Compression::None)?;
        let mut chunk = Vec::new();
        walk.put_tables(&mut chunk);
        writer.write(&chunk)?;
        let generation = process.store.generation;
        let state_generation = process.shared.generation();
        process.store.running = Some(Running { generation, state_generation, walk, writer });
        self.after(500, Event::SnapshotStep { server, incarnation });
        Ok(())
    }

    /// The next few nodes of a periodic snapshot.
    pub fn snapshot_step(&mut self, server: usize, incarnation: u64) -> Result<(), Violation> {
        if !self.servers[server].is_running(incarnation) {
            return Ok(());
        }
        let nodes = self.dice.between(1, 24) as u32;
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        let Some(mut running) = process.store.running.take() else { return Ok(()) };
        let generation = running.generation;
        if running.state_generation != process.shared.generation() {
            // The walk belongs to a state that is gone.
            self.queue_disk(server, [DiskOp::Publish { generation, finished: None }]);
            return Ok(());
        }
        let mut chunk = Vec::new();
        let state = process.shared.state.read();
        let done = running.walk.step(&state, nodes, 4096, &mut chunk);
        let result = running.writer.write(&chunk).and_then(|()| {
            if done {
                let finished = complete(&running.walk, running.writer, &state)?;
                let finished = Some(finished);
                return Ok(Some(DiskOp::Publish { generation, finished }));
            }
            process.store.running = Some(running);
            Ok(None)
        });
        drop(state);
        match result {
            Ok(Some(publish)) => self.queue_disk(server, [publish]),
            Ok(None) => {
                let delay = self.dice.between(100, 8_000);
                self.after(delay, Event::SnapshotStep { server, incarnation });
            }
            Err(error) => {
                self.survives(server, Err(error), "periodic snapshot")?;
            }
        }
        Ok(())
    }

    /// Old snapshots and logs go, whatever else the disk is doing.
    pub fn purge(&mut self, server: usize, incarnation: u64) -> Result<(), Violation> {
        if !self.servers[server].is_running(incarnation) {
            return Ok(());
        }
        let delay = self.dice.between(100_000, 3_000_000);
        self.after(delay, Event::Purge { server, incarnation });
        let disk = self.servers[server].disk.clone();
        let result = oxkeeper_storage::purge(&disk, 3).map(|purged| {
            self.summary.purged += (purged.snapshots.len() + purged.logs.len()) as u64;
            Ok(())
        });
        self.survives(server, result, "purge").map(|_| ())
    }

    /// Old proposals for a learner.
    pub fn log_read(
        &mut self,
        server: usize,
        incarnation: u64,
        link: LinkId,
        from: Zxid,
        to: Zxid,
    ) {
        if !self.servers[server].is_running(incarnation) {
            return;
        }
        let disk = self.servers[server].disk.clone();
        let factor = self.plan.snapshot_size_factor;
        let read = || -> Result<_, StorageError> {
            if !log_diff_allowed(&disk, from, factor)? {
                return Ok(None);
            }
            read_range(&disk, from, to, RECORD_LIMIT, 64 << 20)
        };
        let proposals = read().ok().flatten().map(|span| {
            let base = Proposal { zxid: span.base, payload: bytes::Bytes::new() };
            let logged = span.proposals.into_iter();
            let logged = logged.map(|p| Proposal { zxid: p.zxid, payload: p.payload });
            std::iter::once(base).chain(logged).collect()
        });
        self.summary.log_reads += u64::from(Option::is_some(&proposals));
        self.zab_input(server, Z::LogRead { link, proposals });
    }
}
