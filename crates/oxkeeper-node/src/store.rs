//! The disk queue of one server: everything whose order against the log matters.
//!
//! One [`Store`] per process, used by one thread at a time. A failure means that nobody knows what the
//! disk holds: the process must end, and only a restart reads it back.
//! Source: `docs/spec/operations.md` 9.3.

use std::sync::Arc;

use oxkeeper_proto::Zxid;
use oxkeeper_replica::{Input, Shared};
use oxkeeper_storage::{
    CompleteSnapshot, Disk, DiskError, EpochFiles, LogOptions, MarkSync, Purged, Roll, RollPolicy,
    StorageError, Synced, TxnLog,
};
use oxkeeper_zab::{DiskRequest, Input as Z};

use crate::loading::{LoadSettings, Milestone, load_state};
use crate::old_proposals::OldProposals;
use crate::snapshot::{Purpose, SnapshotJob, SnapshotSettings, SnapshotStep};

/// Work for the queue, carried out in order.
#[derive(Debug)]
pub enum Op<D: Disk> {
    /// Of the protocol.
    Request(DiskRequest),
    /// A periodic snapshot has ended: give it its name, unless the history was replaced since.
    Publish {
        /// [`SnapshotJob::history`].
        history: HistoryId,
        /// Nothing, if it was given up.
        complete: Option<Box<CompleteSnapshot<D>>>,
    },
    /// Remove what no start would need.
    Purge {
        /// `autopurge.snapRetainCount`.
        retain: usize,
    },
}

/// What the queue gives back, at once.
#[derive(Debug)]
pub enum Done<D: Disk> {
    /// For the replica.
    Input(Input),
    /// What was appended is durable; the `Flushed` that says so has been given.
    Synced(Synced),
    /// A periodic snapshot is due: step it to its end, beside the queue, then queue [`Op::Publish`].
    TakeSnapshot(SnapshotJob<D>),
    /// A snapshot that the protocol waits for begins.
    SnapshotBegun,
    /// A snapshot has its name.
    Published {
        /// Its zxid.
        zxid: Zxid,
        /// Its name.
        name: String,
    },
    /// A reload.
    Reached(Milestone),
    /// A purge has ended.
    Purged(Result<Purged, DiskError>),
}

/// Settings of the log and of snapshots.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Format and preallocation of the log.
    pub log: LogOptions,
    /// `snapCount`.
    pub snap_count: i64,
    /// `snapSizeLimitInKb`.
    pub snap_size_kib: i64,
    /// `txnLogSizeLimitInKb`.
    pub log_size_kib: i64,
    /// `snapshotSizeFactor`.
    pub snapshot_size_factor: f64,
    /// How snapshots are written.
    pub snapshot: SnapshotSettings,
    /// How the directory is loaded.
    pub load: LoadSettings,
}

/// What the log on disk has of the history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogEnds {
    /// From here on the log has every transaction, for sure.
    pub proven_from: Zxid,
    /// The history's last zxid.
    pub last: Zxid,
}

/// Tells the histories on a disk apart: another one begins with each cut, load and snapshot from a leader.
/// A periodic snapshot of an earlier one must not become part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistoryId(u64);

/// The disk queue.
pub struct Store<D: Disk> {
    disk: D,
    log: TxnLog<D>,
    epochs: EpochFiles<D>,
    roll: RollPolicy,
    settings: StoreSettings,
    shared: Arc<Shared>,
    old_proposals: OldProposals<D>,
    snapshot_running: bool,
    history: HistoryId,
    /// For thresholds that should differ between members.
    random: Box<dyn FnMut() -> u64 + Send>,
}

impl<D: Disk> std::fmt::Debug for Store<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let appended = self.log.appended();
        f.debug_struct("Store").field("appended", &appended).finish_non_exhaustive()
    }
}

impl<D: Disk> Store<D> {
    /// A queue on the history that was loaded.
    pub(crate) fn new(
        disk: D,
        settings: StoreSettings,
        LogEnds { proven_from, last }: LogEnds,
        shared: Arc<Shared>,
        mut random: Box<dyn FnMut() -> u64 + Send>,
    ) -> Result<Store<D>, StorageError> {
        let roll = RollPolicy::new(
            settings.snap_count,
            settings.snap_size_kib,
            settings.log_size_kib,
            [random(), random()],
        );
        let old_proposals = OldProposals::new(
            disk.clone(),
            proven_from,
            settings.snapshot_size_factor,
            settings.log.record_limit,
        );
        Ok(Store {
            log: TxnLog::open(disk.clone(), settings.log.clone(), last)?,
            epochs: EpochFiles::new(disk.clone()),
            disk,
            roll,
            settings,
            shared,
            old_proposals,
            snapshot_running: false,
            history: HistoryId::default(),
            random,
        })
    }

    /// Reads old proposals, beside the queue.
    pub fn old_proposals(&self) -> OldProposals<D> {
        self.old_proposals.clone()
    }

    /// Makes the log's mark durable, beside the queue; to be called once a second.
    pub fn mark_sync(&self) -> Result<MarkSync<D>, StorageError> {
        MarkSync::open(&self.disk)
    }

    /// The last zxid taken for the log, durable or not.
    pub fn appended(&self) -> Zxid {
        self.log.appended()
    }

    /// Bytes of records in the present log file.
    pub fn log_file_len(&self) -> u64 {
        self.log.file_len()
    }

    /// Carries out everything in `ops`. Appends that follow each other become durable together; what is
    /// between them waits for those before it.
    pub fn carry_out(
        &mut self,
        ops: impl IntoIterator<Item = Op<D>>,
        done: &mut impl FnMut(Done<D>),
    ) -> Result<(), StorageError> {
        let mut appended = false;
        for op in ops {
            match op {
                Op::Request(DiskRequest::Append(proposal)) => {
                    self.log.append(proposal.zxid, &proposal.payload)?;
                    self.roll.appended(proposal.payload.len());
                    appended = true;
                }
                op => {
                    if std::mem::take(&mut appended) {
                        self.sync(done)?;
                    }
                    self.other(op, done)?;
                }
            }
        }
        if appended {
            self.sync(done)?;
        }
        self.roll_if_due(done)
    }

    /// Does a little of what later appends would have to do; false: nothing is left to do. For moments
    /// when the queue is empty.
    pub fn prepare(&mut self) -> Result<bool, StorageError> {
        self.log.prepare()
    }

    fn sync(&mut self, done: &mut impl FnMut(Done<D>)) -> Result<(), StorageError> {
        let synced = self.log.sync()?;
        done(Done::Input(Input::Zab(Z::Flushed(synced.zxid))));
        done(Done::Synced(synced));
        Ok(())
    }

    fn other(&mut self, op: Op<D>, done: &mut impl FnMut(Done<D>)) -> Result<(), StorageError> {
        match op {
            Op::Request(request) => self.request(request, done),
            Op::Publish { history, complete } => {
                self.snapshot_running = false;
                match complete.filter(|_| history == self.history) {
                    Some(complete) => publish(*complete, done),
                    None => Ok(()),
                }
            }
            Op::Purge { retain } => {
                let purged = match oxkeeper_storage::purge(&self.disk, retain) {
                    // A file that cannot be read or removed is in nobody's way until the next purge.
                    Err(StorageError::Disk(error)) if !error.op.starts_with("sync") => Err(error),
                    purged => Ok(purged?),
                };
                done(Done::Purged(purged));
                Ok(())
            }
        }
    }

    fn request(
        &mut self,
        request: DiskRequest,
        done: &mut impl FnMut(Done<D>),
    ) -> Result<(), StorageError> {
        let mut answer = |input| done(Done::Input(Input::Zab(input)));
        match request {
            DiskRequest::Append(proposal) => {
                // Appends are taken together by `carry_out`.
                self.log.append(proposal.zxid, &proposal.payload)?;
                self.sync(done)?;
            }
            DiskRequest::SaveAcceptedEpoch(epoch) => {
                self.epochs.save_accepted(epoch)?;
                answer(Z::AcceptedEpochSaved(epoch));
            }
            DiskRequest::PrepareCurrentEpoch(epoch) => self.epochs.announce_current(epoch)?,
            DiskRequest::SaveCurrentEpoch(epoch) => {
                self.epochs.save_current(epoch, &mut self.log)?;
                answer(Z::CurrentEpochSaved(epoch));
            }
            DiskRequest::SaveSnapshot => self.save_snapshot(done)?,
            DiskRequest::Truncate(zxid) => match self.log.truncate(zxid) {
                Ok(_) => self.reload(done)?,
                Err(error @ StorageError::CannotTruncate { .. }) => {
                    tracing::warn!("{error}. Asking the leader for a snapshot instead");
                    answer(Z::TruncateFailed);
                }
                Err(error) => return Err(error),
            },
            DiskRequest::Reload => {
                self.log.roll()?;
                self.reload(done)?;
            }
        }
        Ok(())
    }

    /// A snapshot that must be durable before the protocol goes on: the tree came from the leader.
    fn save_snapshot(&mut self, done: &mut impl FnMut(Done<D>)) -> Result<(), StorageError> {
        self.history.0 += 1;
        done(Done::SnapshotBegun);
        let SnapshotStep::Complete(complete) = self.snapshot(Purpose::Adoption).run()? else {
            panic!("nobody replaces the state while the role waits for its snapshot");
        };
        let (zxid, replaced) = (complete.zxid(), self.log.appended());
        let name = self.log.adopt(*complete)?;
        if replaced != zxid {
            self.old_proposals.prove_from(zxid);
        }
        published(zxid, name, done);
        done(Done::Input(Input::Zab(Z::SnapshotSaved)));
        Ok(())
    }

    fn snapshot(&self, purpose: Purpose) -> SnapshotJob<D> {
        let (disk, shared) = (self.disk.clone(), self.shared.clone());
        SnapshotJob::new(disk, shared, self.settings.snapshot, self.history, purpose)
    }

    fn reload(&mut self, done: &mut impl FnMut(Done<D>)) -> Result<(), StorageError> {
        self.history.0 += 1;
        let loaded = {
            let done = std::cell::RefCell::new(&mut *done);
            let reached = |milestone| (done.borrow_mut())(Done::Reached(milestone));
            load_state(&self.disk, &self.settings.load, &reached)?
        };
        let last = loaded.history.last_zxid;
        self.log = TxnLog::open(self.disk.clone(), self.settings.log.clone(), last)?;
        self.old_proposals.prove_from(loaded.contiguous_from);
        done(Done::Input(Input::Reloaded(Box::new(loaded.state), loaded.history)));
        Ok(())
    }

    fn roll_if_due(&mut self, done: &mut impl FnMut(Done<D>)) -> Result<(), StorageError> {
        let decision = self.roll.decide(self.log.file_len());
        if decision == Roll::No {
            return Ok(());
        }
        self.log.roll()?;
        if decision == Roll::LogAndSnapshot {
            self.roll.rolled([(self.random)(), (self.random)()]);
            if !self.snapshot_running {
                self.snapshot_running = true;
                done(Done::TakeSnapshot(self.snapshot(Purpose::Periodic)));
            }
        }
        Ok(())
    }
}

fn publish<D: Disk>(
    complete: CompleteSnapshot<D>,
    done: &mut impl FnMut(Done<D>),
) -> Result<(), StorageError> {
    let zxid = complete.zxid();
    published(zxid, complete.publish()?, done);
    Ok(())
}

fn published<D: Disk>(zxid: Zxid, name: String, done: &mut impl FnMut(Done<D>)) {
    tracing::info!("Snapshotting: {zxid} to {name}");
    done(Done::Published { zxid, name });
}
