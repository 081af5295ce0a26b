//! The disk's threads: the log (which also does everything whose order against the log matters),
//! periodic snapshots, and old proposals for learners.
//!
//! A failed write or sync ends the process: what the disk holds after it is unknown, and only a
//! restart reads it back. Source: `docs/spec/operations.md` 9.3.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oxkeeper_proto::{Epoch, Zxid};
use oxkeeper_replica::{Input, Shared, Summary};
use oxkeeper_storage::{
    EpochFiles, LogOptions, MarkSync, RealDisk, Roll, RollPolicy, StorageError, TxnLog,
};
use oxkeeper_zab::{LinkId, Proposal};
use parking_lot::Mutex;

use crate::driver::{Event, ExitOnPanic};
use crate::loading::{LoadSettings, LoadedState, load_state};
use crate::mailbox::Mailbox;
use crate::snapshots::{self, SnapshotSettings};

/// Work for the log thread, carried out in order.
#[derive(Debug)]
pub enum DiskOp {
    /// Append; [`oxkeeper_zab::Input::Flushed`] follows when it is durable.
    Append(Proposal),
    /// Write acceptedEpoch.
    SaveAcceptedEpoch(Epoch),
    /// Announce an epoch whose history follows.
    PrepareCurrentEpoch(Epoch),
    /// Write currentEpoch.
    SaveCurrentEpoch(Epoch),
    /// Write a snapshot of the tree as it is, replacing the log's history.
    SaveSnapshot,
    /// Cut the log and load anew.
    Truncate(Zxid),
    /// Load anew.
    Reload,
    /// A periodic snapshot has ended: give it its name, unless the history was replaced since.
    Publish {
        /// [`LogThread::generation`] when it began.
        generation: u64,
        /// Nothing, if it was given up.
        finished: Option<snapshots::Finished>,
    },
    /// Everything before this is done; end.
    Stop,
}

/// Settings of the log and of snapshots.
#[derive(Clone, Debug)]
pub struct DiskSettings {
    /// Format and preallocation of the log.
    pub log: LogOptions,
    /// `snapCount`.
    pub snap_count: i64,
    /// `snapSizeLimitInKb`.
    pub snap_size_kib: i64,
    /// `txnLogSizeLimitInKb`.
    pub log_size_kib: i64,
    /// `fsync.warningthresholdms`.
    pub slow_sync: Duration,
    /// `snapshotSizeFactor`.
    pub snapshot_size_factor: f64,
    /// How snapshots are written.
    pub snapshot: SnapshotSettings,
    /// How the directory is loaded.
    pub load: LoadSettings,
}

/// Counters for operators.
#[derive(Debug, Default)]
pub struct DiskStats {
    /// Syncs slower than the threshold.
    pub slow_syncs: AtomicU64,
    /// Time of each sync in ms.
    pub fsynctime: Summary,
    /// Time to write a snapshot, in ms.
    pub snapshottime: Summary,
    /// Transactions made durable by one sync.
    pub sync_processor_batch_size: Summary,
    /// Transactions that had gathered when the log thread looked.
    pub sync_processor_queue_size: Summary,
    /// Transactions that came to the log thread.
    pub sync_processor_request_queued: AtomicU64,
    /// Time from the start to a loaded database, in ms.
    pub dbinittime: Summary,
    /// Part of it until the snapshot was read, in ms.
    pub startup_snap_load_time: Summary,
    /// Part of it behind the snapshot, in ms.
    pub startup_txns_load_time: Summary,
    /// Transactions replayed.
    pub startup_txns_loaded: Summary,
    /// zxid and wall clock seconds of the last snapshot taken; 0 before the first.
    pub last_snapshot: Mutex<(i64, i64)>,
}

impl DiskStats {
    /// Names and values of the summaries.
    pub fn summaries(&self) -> [(&'static str, &Summary); 8] {
        [
            ("dbinittime", &self.dbinittime),
            ("fsynctime", &self.fsynctime),
            ("snapshottime", &self.snapshottime),
            ("startup_snap_load_time", &self.startup_snap_load_time),
            ("startup_txns_load_time", &self.startup_txns_load_time),
            ("startup_txns_loaded", &self.startup_txns_loaded),
            ("sync_processor_batch_size", &self.sync_processor_batch_size),
            ("sync_processor_queue_size", &self.sync_processor_queue_size),
        ]
    }

    /// Records a load of the data directory.
    pub fn loaded(&self, loaded: &LoadedState) {
        let ms = |time: Duration| time.as_millis() as u64;
        self.dbinittime.record(ms(loaded.snapshot_time + loaded.replay_time));
        self.startup_snap_load_time.record(ms(loaded.snapshot_time));
        self.startup_txns_load_time.record(ms(loaded.replay_time));
        self.startup_txns_loaded.record(loaded.replayed);
    }

    /// Starts anew (`srst`).
    pub fn reset(&self) {
        self.summaries().iter().for_each(|(_, summary)| summary.reset());
        self.sync_processor_request_queued.store(0, Ordering::Relaxed);
    }
}

/// The queue to the log thread.
pub struct DiskThread {
    queue: Arc<Mailbox<DiskOp>>,
    mailbox: Arc<Mailbox<Event>>,
    disk: RealDisk,
    settings: DiskSettings,
    /// From this zxid on the log on disk has every transaction, for sure.
    proven_from: Arc<AtomicI64>,
    thread: JoinHandle<()>,
}

impl DiskThread {
    /// Starts the log thread on a history that ends with `last`, and of which the log has everything
    /// from `contiguous_from` on.
    pub fn start(
        disk: RealDisk,
        settings: DiskSettings,
        (contiguous_from, last): (Zxid, Zxid),
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox<Event>>,
        stats: Arc<DiskStats>,
    ) -> std::io::Result<DiskThread> {
        let queue = Arc::new(Mailbox::default());
        let random = [crate::random(), crate::random()];
        let roll = RollPolicy::new(
            settings.snap_count,
            settings.snap_size_kib,
            settings.log_size_kib,
            random,
        );
        let log = TxnLog::open(disk.clone(), settings.log.clone(), last)
            .unwrap_or_else(|error| fatal(&error));
        sync_mark(&disk, Arc::downgrade(&stats))?;
        let proven_from = Arc::new(AtomicI64::new(contiguous_from.0));
        let worker = LogThread {
            log,
            proven_from: proven_from.clone(),
            epochs: EpochFiles::new(disk.clone()),
            disk: disk.clone(),
            settings: settings.clone(),
            roll,
            shared,
            mailbox: mailbox.clone(),
            queue: queue.clone(),
            stats,
            snapshot_running: false,
            generation: 0,
            unsynced: 0,
            rest_us: 0,
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(|| worker.run())?;
        Ok(DiskThread { queue, mailbox, disk, settings, proven_from, thread })
    }

    /// Queues work, in order, leaving `ops` empty.
    pub fn append(&self, ops: &mut Vec<DiskOp>) {
        self.queue.append(ops);
    }

    /// Reads old proposals on a thread of its own; the answer is a `LogRead`.
    pub fn read_log(&self, link: LinkId, from: Zxid, to: Zxid) {
        let (disk, mailbox) = (self.disk.clone(), self.mailbox.clone());
        let factor = self.settings.snapshot_size_factor;
        let limit = self.settings.log.record_limit;
        let proven_from = Zxid(self.proven_from.load(Ordering::Acquire));
        let read = move || {
            let proposals = crate::loading::read_log(&disk, from, to, proven_from, factor, limit);
            let input = oxkeeper_zab::Input::LogRead { link, proposals };
            mailbox.push(Event::Input(Input::Zab(input)));
        };
        if let Err(error) = std::thread::Builder::new().name("log-read".to_owned()).spawn(read) {
            tracing::warn!(%error, "no thread to read the log; the learner gets a snapshot");
            let input = oxkeeper_zab::Input::LogRead { link, proposals: None };
            self.mailbox.push(Event::Input(Input::Zab(input)));
        }
    }

    /// Waits until everything queued is done.
    pub fn finish(self) {
        self.queue.push(DiskOp::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the log thread has panicked");
        }
    }
}

/// Makes the log's mark durable once a second, as long as the server lives.
fn sync_mark(disk: &RealDisk, server: Weak<DiskStats>) -> std::io::Result<()> {
    let mark = MarkSync::open(disk).unwrap_or_else(|error| fatal(&error));
    let work = move || {
        while server.strong_count() > 0 {
            if let Err(error) = mark.sync() {
                fatal(&error);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    std::thread::Builder::new().name("mark".to_owned()).spawn(work).map(|_| ())
}

struct LogThread {
    log: TxnLog<RealDisk>,
    proven_from: Arc<AtomicI64>,
    epochs: EpochFiles<RealDisk>,
    disk: RealDisk,
    settings: DiskSettings,
    roll: RollPolicy,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox<Event>>,
    queue: Arc<Mailbox<DiskOp>>,
    stats: Arc<DiskStats>,
    snapshot_running: bool,
    /// Counts replacements of the history (cuts, reloads, snapshots from a leader).
    generation: u64,
    /// Transactions appended since the last sync.
    unsynced: u64,
    /// Time of syncs that is not yet in the statistics, below 1000.
    rest_us: u64,
}

/// Idle time after which the log prepares for what comes.
const IDLE: Duration = Duration::from_millis(2);

impl LogThread {
    fn run(mut self) {
        // A server whose log thread is gone would go on to promise what nobody writes.
        let _guard = ExitOnPanic;
        if let Err(error) = self.work() {
            fatal(&error);
        }
    }

    fn work(&mut self) -> Result<(), StorageError> {
        let mut ops = Vec::new();
        let mut preparing = true;
        loop {
            let deadline = preparing.then(|| Instant::now() + IDLE);
            self.queue.take(&mut ops, deadline);
            if ops.is_empty() {
                preparing = self.log.prepare()?;
                continue;
            }
            self.stats.sync_processor_queue_size.record(ops.len() as u64);
            let mut appended = false;
            for op in ops.drain(..) {
                match op {
                    DiskOp::Append(proposal) => {
                        self.log.append(proposal.zxid, &proposal.payload)?;
                        self.roll.appended(proposal.payload.len());
                        self.unsynced += 1;
                        appended = true;
                    }
                    DiskOp::Stop => return self.sync(),
                    op => {
                        // Order matters: what was appended before is durable before this.
                        if std::mem::take(&mut appended) {
                            self.sync()?;
                        }
                        self.other(op)?;
                    }
                }
            }
            if appended {
                self.sync()?;
                preparing = true;
            }
            self.roll_if_due()?;
        }
    }

    fn answer(&self, input: oxkeeper_zab::Input) {
        self.mailbox.push(Event::Input(Input::Zab(input)));
    }

    /// Makes what was appended durable, and says so.
    fn sync(&mut self) -> Result<(), StorageError> {
        let synced = self.log.sync()?;
        self.answer(oxkeeper_zab::Input::Flushed(synced.zxid));
        let stats = &self.stats;
        // What is left of a millisecond counts for the next one: the sum stays true.
        let took_us = synced.took.as_micros() as u64 + self.rest_us;
        self.rest_us = took_us % 1000;
        stats.fsynctime.record(took_us / 1000);
        let batch = std::mem::take(&mut self.unsynced);
        stats.sync_processor_batch_size.record(batch);
        stats.sync_processor_request_queued.fetch_add(batch, Ordering::Relaxed);
        if self.settings.slow_sync < synced.took {
            self.stats.slow_syncs.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "fsync-ing the write ahead log in log took {}ms which will adversely effect \
                 operation latency.File size is {} bytes. See the ZooKeeper troubleshooting guide",
                synced.took.as_millis(),
                self.log.file_len()
            );
        }
        Ok(())
    }

    fn other(&mut self, op: DiskOp) -> Result<(), StorageError> {
        use oxkeeper_zab::Input as Z;
        match op {
            DiskOp::SaveAcceptedEpoch(epoch) => {
                self.epochs.save_accepted(epoch)?;
                self.answer(Z::AcceptedEpochSaved(epoch));
            }
            DiskOp::PrepareCurrentEpoch(epoch) => self.epochs.announce_current(epoch)?,
            DiskOp::SaveCurrentEpoch(epoch) => {
                self.epochs.save_current(epoch, &mut self.log)?;
                self.answer(Z::CurrentEpochSaved(epoch));
            }
            DiskOp::SaveSnapshot => self.save_snapshot()?,
            DiskOp::Truncate(zxid) => match self.log.truncate(zxid) {
                Ok(_) => self.reload()?,
                Err(error @ StorageError::CannotTruncate { .. }) => {
                    tracing::warn!("{error}. Asking the leader for a snapshot instead");
                    self.answer(Z::TruncateFailed);
                }
                Err(error) => return Err(error),
            },
            DiskOp::Reload => {
                self.log.roll()?;
                self.reload()?;
            }
            DiskOp::Publish { generation, finished } => {
                self.snapshot_running = false;
                if let Some(finished) = finished.filter(|_| generation == self.generation) {
                    self.publish(finished)?;
                }
            }
            DiskOp::Append(_) | DiskOp::Stop => unreachable!("handled by the caller"),
        }
        Ok(())
    }

    /// A snapshot that must be durable before the protocol goes on: the tree came from the leader.
    fn save_snapshot(&mut self) -> Result<(), StorageError> {
        self.generation += 1;
        let begun = Instant::now();
        let finished = snapshots::write(&self.disk, &self.shared, &self.settings.snapshot, None)?;
        self.stats.snapshottime.record(begun.elapsed().as_millis() as u64);
        let finished = finished.expect("nobody replaces the state while the role waits for this");
        let replaced = self.log.appended();
        let zxid = finished.adopt(&mut self.log)?;
        if replaced != zxid {
            self.proven_from.store(zxid.0, Ordering::Release);
        }
        self.published(zxid);
        self.answer(oxkeeper_zab::Input::SnapshotSaved);
        Ok(())
    }

    fn publish(&self, finished: snapshots::Finished) -> Result<(), StorageError> {
        let zxid = finished.publish()?;
        self.published(zxid);
        Ok(())
    }

    fn published(&self, zxid: Zxid) {
        *self.stats.last_snapshot.lock() = (zxid.0, crate::wall_seconds());
    }

    fn reload(&mut self) -> Result<(), StorageError> {
        self.generation += 1;
        let loaded = load_state(&self.disk, &self.settings.load)?;
        self.stats.loaded(&loaded);
        let last = loaded.history.last_zxid;
        self.log = TxnLog::open(self.disk.clone(), self.settings.log.clone(), last)?;
        self.proven_from.store(loaded.contiguous_from.0, Ordering::Release);
        let input = Input::Reloaded(Box::new(loaded.state), loaded.history);
        self.mailbox.push(Event::Input(input));
        Ok(())
    }

    fn roll_if_due(&mut self) -> Result<(), StorageError> {
        let decision = self.roll.decide(self.log.file_len());
        if decision == Roll::No {
            return Ok(());
        }
        self.log.roll()?;
        if decision == Roll::LogAndSnapshot {
            self.roll.rolled([crate::random(), crate::random()]);
            if !self.snapshot_running {
                self.snapshot_running = true;
                self.start_snapshot();
            }
        }
        Ok(())
    }

    fn start_snapshot(&mut self) {
        let (disk, shared) = (self.disk.clone(), self.shared.clone());
        let (settings, queue) = (self.settings.snapshot.clone(), self.queue.clone());
        let (pace, generation) = (Some(settings.pace), self.generation);
        let (stats, begun) = (self.stats.clone(), Instant::now());
        let take = move || match snapshots::write(&disk, &shared, &settings, pace) {
            // Named by the log thread, behind everything that the snapshot may contain.
            Ok(finished) => {
                if finished.is_some() {
                    stats.snapshottime.record(begun.elapsed().as_millis() as u64);
                }
                queue.push(DiskOp::Publish { generation, finished });
            }
            Err(error) => fatal(&error),
        };
        if let Err(error) = std::thread::Builder::new().name("snapshot".to_owned()).spawn(take) {
            tracing::warn!(%error, "no thread for a snapshot; the next roll tries again");
            self.snapshot_running = false;
        }
    }
}

/// Ends the process: its disk can no longer be trusted.
pub fn fatal(error: &StorageError) -> ! {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("disk");
    let text = format!("Severe unrecoverable error, from thread : {thread}: {error}");
    crate::termination::report(&text);
    tracing::error!("Severe unrecoverable error, exiting");
    tracing::error!("{text}");
    tracing::error!("Exiting JVM with code {}", error.exit_code());
    std::process::exit(error.exit_code())
}
