//! The disk queue of one server, with virtual latency: when the store of the node works, and what the
//! checks say about it.

use std::collections::VecDeque;
use std::sync::Arc;

use oxkeeper_node::{
    Done, LoadSettings, LoadedState, Op, SnapshotJob, SnapshotSettings, SnapshotStep, StepSize,
    Store, StoreSettings, load_state,
};
use oxkeeper_proto::Zxid;
use oxkeeper_replica::{Input, Shared};
use oxkeeper_state::Options;
use oxkeeper_storage::{LoadOptions, LogOptions, MarkSync, OnLostTail, StorageError};
use oxkeeper_zab::DiskRequest;
use oxkeeper_zab::Input as Z;
use oxkeeper_zab::LogRead;

use crate::disk::apache::Attic;
use crate::disk::trust::UnderWay;
use crate::disk::{FuseDisk, Phase};
use crate::server::{Death, Mail};
use crate::violation::Violation;
use crate::world::{Due, World};

const RECORD_LIMIT: usize = 1 << 20;

/// The store, and what waits for it.
#[derive(Debug)]
pub struct Queue {
    store: Store<FuseDisk>,
    mark: MarkSync<FuseDisk>,
    waiting: VecDeque<Op<FuseDisk>>,
    /// Being carried out.
    busy: Vec<Op<FuseDisk>>,
    /// Since when what is being carried out was, in ms of the monotonic clock.
    busy_since: u64,
    /// A periodic snapshot being written while transactions go on.
    snapshot: Option<SnapshotJob<FuseDisk>>,
}

impl Queue {
    /// Nothing to do.
    pub fn new(store: Store<FuseDisk>) -> Result<Queue, StorageError> {
        let mark = store.mark_sync()?;
        Ok(Queue {
            store,
            mark,
            waiting: VecDeque::new(),
            busy: Vec::new(),
            busy_since: 0,
            snapshot: None,
        })
    }

    /// Last zxid handed over for the log.
    pub fn appended(&self) -> oxkeeper_proto::Zxid {
        self.store.appended()
    }

    /// Since when an append is being carried out, in ms of the monotonic clock.
    pub fn append_since(&self) -> Option<u64> {
        self.busy.first().filter(|op| is_append(op)).map(|_| self.busy_since)
    }

    /// Nothing queued and nothing under way.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.busy.is_empty()
    }
}

/// What the storage is about to do.
fn phase(op: &Op<FuseDisk>) -> Phase {
    match op {
        Op::Request(DiskRequest::Append(_)) => Phase::Append,
        Op::Request(DiskRequest::Truncate(_)) => Phase::Cut,
        Op::Request(DiskRequest::SaveSnapshot) => Phase::Adoption,
        Op::Request(DiskRequest::Reload) => Phase::Reload,
        Op::Request(_) => Phase::Epoch,
        Op::Publish { .. } => Phase::Publication,
        Op::Purge { .. } => Phase::Purge,
    }
}

fn is_append(op: &Op<FuseDisk>) -> bool {
    matches!(op, Op::Request(DiskRequest::Append(_)))
}

impl World<'_> {
    fn queue(&mut self, server: usize) -> Option<&mut Queue> {
        self.servers[server].process.as_mut().map(|process| &mut process.queue)
    }

    /// Settings of a server's store.
    pub fn store_settings(&self) -> StoreSettings {
        StoreSettings {
            log: LogOptions {
                preallocate_kib: self.plan.disk.preallocate_kib,
                force_sync: self.plan.disk.force_sync,
                record_limit: RECORD_LIMIT,
            },
            snap_count: self.plan.snap_count,
            snap_size_kib: -1,
            log_size_kib: -1,
            snapshot_size_factor: self.plan.snapshot_size_factor,
            snapshot: SnapshotSettings {
                compression: self.plan.disk.compression,
                last_zxid_section: true,
            },
            load: LoadSettings {
                options: LoadOptions {
                    record_limit: RECORD_LIMIT,
                    recent: self.plan.commit_log_count,
                    on_lost_tail: match self.plan.shape.is_standalone() {
                        true => OnLostTail::Refuse,
                        false => OnLostTail::Report,
                    },
                    autocreate: self.plan.disk.autocreate,
                    ..LoadOptions::default()
                },
                seed: 7,
                state: Options::default(),
            },
        }
    }

    /// Loads a server's directory.
    pub fn load(&self, server: usize) -> Result<LoadedState, StorageError> {
        load_state(&self.servers[server].disk, &self.store_settings().load, &|_| {})
    }

    /// Queues work.
    pub fn queue_disk(&mut self, server: usize, ops: impl IntoIterator<Item = Op<FuseDisk>>) {
        if let Some(queue) = self.queue(server) {
            queue.waiting.extend(ops);
        }
        self.start_disk(server);
    }

    fn start_disk(&mut self, server: usize) {
        let (slow, now) = (self.servers[server].disk_slow, self.clocks(server).mono_ms);
        let most = self.dice.between(1, 40) as usize;
        let Some(queue) = self.queue(server) else { return };
        if !queue.busy.is_empty() {
            return;
        }
        let Some(first) = queue.waiting.pop_front() else { return };
        let append = is_append(&first);
        queue.busy_since = now;
        queue.busy.push(first);
        while append
            && queue.busy.len() < most
            && let Some(next) = queue.waiting.pop_front_if(|next| is_append(next))
        {
            queue.busy.push(next);
        }
        let delay = self.dice.between(100, 3_000) * slow;
        self.after_for(server, delay, Due::Disk);
    }

    /// The disk has done what it was busy with.
    pub fn disk_due(&mut self, server: usize) -> Result<(), Violation> {
        if self.hangs(server, Due::Disk) {
            return Ok(());
        }
        let Some(queue) = self.queue(server) else { return Ok(()) };
        let busy = std::mem::take(&mut queue.busy);
        for op in &busy {
            if !is_append(op) {
                self.note(|| format!("s{} disk: {op:?}", server + 1));
            }
            self.check_op(server, op)?;
        }
        let result = self.carry_out(server, busy);
        if !self.survives(server, result, "disk queue")? {
            return Ok(());
        }
        self.start_disk(server);
        let idle = self.queue(server).is_some_and(|queue| queue.is_idle());
        if idle && self.dice.one_in(4) {
            self.servers[server].disk.enter(Phase::Preparation);
            let prepared = match self.queue(server) {
                Some(queue) => queue.store.prepare().map(|_| ()),
                None => Ok(()),
            };
            self.survives(server, prepared, "log preparation")?;
        }
        Ok(())
    }

    fn check_op(&mut self, server: usize, op: &Op<FuseDisk>) -> Result<(), Violation> {
        match op {
            Op::Request(DiskRequest::SaveCurrentEpoch(epoch)) => {
                self.check_current_epoch(server, *epoch)
            }
            _ => Ok(()),
        }
    }

    /// Tells a storage error from a loss of power or an injected fault (the server crashes) and a
    /// broken rule. False: the server is gone.
    pub fn survives(
        &mut self,
        server: usize,
        result: Result<(), StorageError>,
        during: &str,
    ) -> Result<bool, Violation> {
        match result {
            _ if self.servers[server].disk.is_blown() => {
                self.note(|| format!("s{} loses power in the {during}", server + 1));
                self.crash(server, Death::Power);
                Ok(false)
            }
            Ok(()) => Ok(true),
            Err(error) => {
                self.note(|| format!("s{} ends: {during}: {error}", server + 1));
                self.excuses(server, &error)?;
                let power = self.dice.one_in(2);
                self.crash(server, if power { Death::Power } else { Death::Kill });
                Ok(false)
            }
        }
    }

    fn carry_out(&mut self, server: usize, ops: Vec<Op<FuseDisk>>) -> Result<(), StorageError> {
        // As if no snapshot was old enough to cut behind it.
        let cut = |op: &Op<_>| matches!(op, Op::Request(DiskRequest::Truncate(_)));
        if ops.iter().any(cut) && self.dice.one_in(3) {
            self.done(server, Done::Input(Input::Zab(Z::TruncateFailed)));
            return Ok(());
        }
        if let Some(op) = ops.first() {
            self.servers[server].disk.enter(phase(op));
            self.changes_history(server, op);
        }
        let Some(queue) = self.queue(server) else { return Ok(()) };
        let mut all = Vec::new();
        let result = queue.store.carry_out(ops, &mut |done| all.push(done));
        if result.is_ok() {
            self.has_changed_history(server);
            all.into_iter().for_each(|done| self.done(server, done));
        }
        result
    }

    /// What a start may find if the process ends in the middle of it.
    fn changes_history(&mut self, server: usize, op: &Op<FuseDisk>) {
        let durable = self.servers[server].durable;
        self.servers[server].trust.under_way = match op {
            Op::Request(DiskRequest::Truncate(zxid)) => {
                self.servers[server].attic = Attic::default();
                Some(UnderWay::Down(*zxid))
            }
            Op::Request(DiskRequest::SaveCurrentEpoch(_)) => Some(UnderWay::Down(durable)),
            Op::Request(DiskRequest::SaveSnapshot) => {
                let shared = self.shared(server);
                let zxid = shared.map_or(Zxid::ZERO, |shared| shared.state.read().last_zxid());
                if self.plan.disk.apache {
                    let disk = &self.servers[server].disk.mem;
                    self.servers[server].attic = Attic::of(disk, durable, zxid);
                }
                Some(UnderWay::Adoption(zxid))
            }
            _ => None,
        };
    }

    /// That was carried out. What a leader cuts off is nobody's loss.
    fn has_changed_history(&mut self, server: usize) {
        let trust = &mut self.servers[server].trust;
        if let (Some(UnderWay::Down(zxid)), Some(harm)) = (trust.under_way, &mut trust.harm) {
            harm.told = harm.told.min(zxid);
        }
        trust.under_way = None;
    }

    fn done(&mut self, server: usize, done: Done<FuseDisk>) {
        match done {
            Done::Input(input) => {
                self.note_durable(server, &input);
                self.mail(server, Mail::Input(input));
            }
            Done::TakeSnapshot(job) => {
                if let Some(queue) = self.queue(server) {
                    queue.snapshot = Some(job);
                }
                self.after_for(server, 500, Due::SnapshotStep);
            }
            Done::Published { .. } => self.summary.snapshots += 1,
            Done::Purged(Ok(purged)) => {
                self.summary.purged += (purged.snapshots.len() + purged.logs.len()) as u64;
            }
            Done::Purged(Err(error)) => self.note(|| format!("s{} purge: {error}", server + 1)),
            Done::Synced(_) | Done::SnapshotBegun | Done::Reached(_) => {}
        }
    }

    /// What an answer says about the disk.
    fn note_durable(&mut self, server: usize, input: &Input) {
        match input {
            Input::Zab(Z::Flushed(zxid)) => self.servers[server].durable = *zxid,
            Input::Zab(Z::SnapshotSaved) => {
                let shared = self.shared(server);
                let last = shared.map(|shared| shared.state.read().last_zxid());
                self.servers[server].durable = last.unwrap_or_default();
                self.checks.deliveries.adopted(server, last.unwrap_or_default());
                self.forget_loss(server);
            }
            Input::Reloaded(_, history) => {
                self.servers[server].durable = history.last_zxid;
                self.checks.deliveries.loaded(server, history.last_zxid);
            }
            Input::Zab(Z::AcceptedEpochSaved(epoch)) => {
                self.servers[server].trust.accepted = *epoch;
            }
            Input::Zab(Z::CurrentEpochSaved(epoch)) => {
                self.servers[server].trust.current = *epoch;
                self.forget_loss(server);
            }
            Input::Zab(Z::TruncateFailed) => self.summary.refused_cuts += 1,
            _ => {}
        }
    }

    /// A leader has told what the history is: what was lost beyond that is nobody's loss.
    fn forget_loss(&mut self, server: usize) {
        let durable = self.servers[server].durable;
        if let Some(harm) = &mut self.servers[server].trust.harm {
            harm.told = durable;
        }
    }

    fn shared(&self, server: usize) -> Option<Arc<Shared>> {
        self.servers[server].process.as_ref().map(|process| process.shared.clone())
    }

    /// The next few nodes of a periodic snapshot.
    pub fn snapshot_step(&mut self, server: usize) -> Result<(), Violation> {
        if self.hangs(server, Due::SnapshotStep) {
            return Ok(());
        }
        self.servers[server].disk.enter(Phase::Snapshot);
        let size = StepSize { nodes: self.dice.between(1, 24) as u32, bytes: 4096, chunk: 1 };
        let Some(queue) = self.queue(server) else { return Ok(()) };
        let Some(mut job) = queue.snapshot.take() else { return Ok(()) };
        let history = job.history();
        match job.step(size) {
            Ok(SnapshotStep::More) => {
                queue.snapshot = Some(job);
                let delay = self.dice.between(100, 8_000);
                self.after_for(server, delay, Due::SnapshotStep);
            }
            Ok(SnapshotStep::Complete(complete)) => {
                self.queue_disk(server, [Op::Publish { history, complete: Some(complete) }]);
            }
            Ok(SnapshotStep::Outdated) => {
                self.queue_disk(server, [Op::Publish { history, complete: None }]);
            }
            Err(error) => {
                self.survives(server, Err(error), "periodic snapshot")?;
            }
        }
        Ok(())
    }

    /// The mark of the log becomes durable.
    pub fn sync_mark(&mut self, server: usize) -> Result<(), Violation> {
        if self.hangs(server, Due::SyncMark) {
            return Ok(());
        }
        self.after_for(server, 1_000_000, Due::SyncMark);
        self.servers[server].disk.enter(Phase::Mark);
        let Some(queue) = self.queue(server) else { return Ok(()) };
        let result = queue.mark.sync().map(|_| ());
        self.survives(server, result, "sync of the mark").map(|_| ())
    }

    /// Old snapshots and logs go, whatever else the disk is doing.
    pub fn purge(&mut self, server: usize) {
        let delay = self.dice.between(100_000, 3_000_000);
        self.after_for(server, delay, Due::Purge);
        self.queue_disk(server, [Op::Purge { retain: 3 }]);
    }

    /// Old proposals for a learner.
    pub fn log_read(&mut self, server: usize, read: LogRead) {
        if self.hangs(server, Due::LogRead { read }) {
            return;
        }
        let LogRead { link, from, to } = read;
        let old = self.queue(server).map(|queue| queue.store.old_proposals());
        let proposals = old.and_then(|old| old.read(from, to));
        self.summary.log_reads += u64::from(proposals.is_some());
        self.zab_input(server, Z::LogRead { link, proposals });
    }
}
