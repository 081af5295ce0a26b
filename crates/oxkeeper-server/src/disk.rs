//! The disk's threads: the log thread runs the node's disk queue; periodic snapshots and old proposals
//! for learners have threads of their own.
//!
//! A failed write or sync ends the process: what the disk holds after it is unknown, and only a
//! restart reads it back. Source: `docs/spec/operations.md` 9.3.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oxkeeper_node::{
    Done, Milestone, OldProposals, Op, SnapshotJob, SnapshotStep, StepSize, Store,
};
use oxkeeper_replica::{Input, Summary};
use oxkeeper_storage::{CompleteSnapshot, RealDisk, StorageError, Synced};
use oxkeeper_zab::DiskRequest;
use oxkeeper_zab::LogRead;
use parking_lot::Mutex;

use crate::driver::{Event, ExitOnPanic};
use crate::mailbox::Mailbox;

/// What operators may set about the threads.
#[derive(Clone, Copy, Debug)]
pub struct DiskSettings {
    /// `fsync.warningthresholdms`.
    pub slow_sync: Duration,
    /// Pause after each piece of a snapshot that nobody waits for: leaves disk and processor to the
    /// writes that go on.
    pub snapshot_pace: Duration,
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

    /// Starts anew (`srst`).
    pub fn reset(&self) {
        self.summaries().iter().for_each(|(_, summary)| summary.reset());
        self.sync_processor_request_queued.store(0, Ordering::Relaxed);
    }
}

/// Measures a load of the data directory.
#[derive(Debug)]
pub struct LoadTimer {
    stats: Arc<DiskStats>,
    times: Mutex<[Instant; 2]>,
}

impl LoadTimer {
    /// Records into `stats`.
    pub fn new(stats: Arc<DiskStats>) -> LoadTimer {
        LoadTimer { stats, times: Mutex::new([Instant::now(); 2]) }
    }

    /// The load has come to a milestone.
    pub fn reached(&self, milestone: Milestone) {
        let ms = |time: Duration| time.as_millis() as u64;
        let mut times = self.times.lock();
        match milestone {
            Milestone::Begun => *times = [Instant::now(); 2],
            Milestone::SnapshotRead => times[1] = Instant::now(),
            Milestone::Loaded { replayed } => {
                let [begun, snapshot_read] = *times;
                self.stats.dbinittime.record(ms(begun.elapsed()));
                self.stats.startup_snap_load_time.record(ms(snapshot_read - begun));
                self.stats.startup_txns_load_time.record(ms(snapshot_read.elapsed()));
                self.stats.startup_txns_loaded.record(replayed);
            }
        }
    }
}

/// Work for the log thread.
#[derive(Debug)]
pub enum Job {
    /// For the store.
    Op(Op<RealDisk>),
    /// Everything before this is done; end.
    Stop,
}

/// The queue to the log thread.
pub struct DiskThread {
    queue: Arc<Mailbox<Job>>,
    mailbox: Arc<Mailbox<Event>>,
    old_proposals: OldProposals<RealDisk>,
    thread: JoinHandle<()>,
}

impl DiskThread {
    /// Starts the log thread.
    pub fn start(
        store: Store<RealDisk>,
        settings: DiskSettings,
        mailbox: Arc<Mailbox<Event>>,
        stats: Arc<DiskStats>,
    ) -> std::io::Result<DiskThread> {
        let queue = Arc::new(Mailbox::default());
        let old_proposals = store.old_proposals();
        sync_mark(&store, Arc::downgrade(&stats))?;
        let worker = LogThread {
            store,
            out: Answers {
                mailbox: mailbox.clone(),
                queue: queue.clone(),
                settings,
                timer: LoadTimer::new(stats.clone()),
                stats,
                snapshot_begun: None,
                rest_us: 0,
                file_len: 0,
            },
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(|| worker.run())?;
        Ok(DiskThread { queue, mailbox, old_proposals, thread })
    }

    /// Queues work of the protocol, in order, leaving `requests` empty.
    pub fn request(&self, requests: &mut Vec<DiskRequest>) {
        self.queue.extend(requests.drain(..).map(|request| Job::Op(Op::Request(request))));
    }

    /// Where else work can be queued.
    pub fn queue(&self) -> Arc<Mailbox<Job>> {
        self.queue.clone()
    }

    /// Reads old proposals on a thread of its own; the answer is a `LogRead`.
    pub fn read_log(&self, read: LogRead) {
        let LogRead { link, from, to } = read;
        let (old, mailbox) = (self.old_proposals.clone(), self.mailbox.clone());
        let work = move || {
            let proposals = old.read(from, to);
            let input = oxkeeper_zab::Input::LogRead { link, proposals };
            mailbox.push(Event::input(Input::Zab(input)));
        };
        if let Err(error) = std::thread::Builder::new().name("log-read".to_owned()).spawn(work) {
            tracing::warn!(%error, "no thread to read the log; the learner gets a snapshot");
            let input = oxkeeper_zab::Input::LogRead { link, proposals: None };
            self.mailbox.push(Event::input(Input::Zab(input)));
        }
    }

    /// Waits until everything queued is done.
    pub fn finish(self) {
        self.queue.push(Job::Stop);
        if self.thread.join().is_err() {
            tracing::error!("the log thread has panicked");
        }
    }
}

/// Makes the log's mark durable once a second, as long as the server lives.
fn sync_mark(store: &Store<RealDisk>, server: Weak<DiskStats>) -> std::io::Result<()> {
    let mark = store.mark_sync().unwrap_or_else(|error| fatal(&error));
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

/// Idle time after which the log prepares for what comes.
const IDLE: Duration = Duration::from_millis(2);

struct LogThread {
    store: Store<RealDisk>,
    out: Answers,
}

impl LogThread {
    fn run(mut self) {
        // A server whose log thread is gone would go on to promise what nobody writes.
        let _guard = ExitOnPanic;
        if let Err(error) = self.work() {
            fatal(&error);
        }
    }

    fn work(&mut self) -> Result<(), StorageError> {
        let queue = self.out.queue.clone();
        let mut jobs = Vec::new();
        let mut preparing = true;
        let mut going = true;
        while going {
            let deadline = preparing.then(|| Instant::now() + IDLE);
            queue.take(&mut jobs, deadline);
            if jobs.is_empty() {
                preparing = self.store.prepare()?;
                continue;
            }
            preparing = true;
            self.out.stats.sync_processor_queue_size.record(jobs.len() as u64);
            self.out.file_len = self.store.log_file_len();
            let ops = jobs.drain(..).map_while(|job| match job {
                Job::Op(op) => Some(op),
                Job::Stop => {
                    going = false;
                    None
                }
            });
            let out = &mut self.out;
            self.store.carry_out(ops, &mut |done| out.done(done))?;
        }
        Ok(())
    }
}

/// Where what the store gives back goes.
struct Answers {
    mailbox: Arc<Mailbox<Event>>,
    queue: Arc<Mailbox<Job>>,
    settings: DiskSettings,
    stats: Arc<DiskStats>,
    timer: LoadTimer,
    snapshot_begun: Option<Instant>,
    /// Time of syncs that is not yet in the statistics, below 1000.
    rest_us: u64,
    /// Of the present log file, in bytes.
    file_len: u64,
}

impl Answers {
    fn done(&mut self, done: Done<RealDisk>) {
        match done {
            Done::Input(input) => self.mailbox.push(Event::input(input)),
            Done::Synced(synced) => self.synced(synced),
            Done::TakeSnapshot(job) => self.take_snapshot(job),
            Done::SnapshotBegun => self.snapshot_begun = Some(Instant::now()),
            Done::Published { .. } => {
                if let Some(begun) = self.snapshot_begun.take() {
                    self.stats.snapshottime.record(begun.elapsed().as_millis() as u64);
                }
            }
            Done::Reached(milestone) => self.timer.reached(milestone),
            Done::Purged(Ok(purged)) => tracing::info!(?purged, "purge task completed"),
            Done::Purged(Err(error)) => {
                tracing::warn!(%error, "purge failed; trying again next time");
            }
        }
    }

    fn synced(&mut self, synced: Synced) {
        let stats = &self.stats;
        // What is left of a millisecond counts for the next one: the sum stays true.
        let took_us = synced.took.as_micros() as u64 + self.rest_us;
        self.rest_us = took_us % 1000;
        stats.fsynctime.record(took_us / 1000);
        let batch = synced.records as u64;
        stats.sync_processor_batch_size.record(batch);
        stats.sync_processor_request_queued.fetch_add(batch, Ordering::Relaxed);
        if self.settings.slow_sync < synced.took {
            stats.slow_syncs.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "fsync-ing the write ahead log in log took {}ms which will adversely effect \
                 operation latency.File size is {} bytes. See the ZooKeeper troubleshooting guide",
                synced.took.as_millis(),
                self.file_len + synced.bytes as u64
            );
        }
    }

    /// Takes a periodic snapshot on a thread of its own. It is named by the log thread, behind everything
    /// that it may contain.
    fn take_snapshot(&self, job: SnapshotJob<RealDisk>) {
        let history = job.history();
        let (queue, stats, pace) =
            (self.queue.clone(), self.stats.clone(), self.settings.snapshot_pace);
        let publish = move |complete| Job::Op(Op::Publish { history, complete });
        let work = move || {
            let begun = Instant::now();
            let complete = write_paced(job, pace).unwrap_or_else(|error| fatal(&error));
            if complete.is_some() {
                stats.snapshottime.record(begun.elapsed().as_millis() as u64);
            }
            queue.push(publish(complete));
        };
        if let Err(error) = std::thread::Builder::new().name("snapshot".to_owned()).spawn(work) {
            tracing::warn!(%error, "no thread for a snapshot; the next roll tries again");
            self.queue.push(publish(None));
        }
    }
}

fn write_paced(
    mut job: SnapshotJob<RealDisk>,
    pace: Duration,
) -> Result<Option<Box<CompleteSnapshot<RealDisk>>>, StorageError> {
    loop {
        match job.step(StepSize::USUAL)? {
            SnapshotStep::More => std::thread::sleep(pace),
            SnapshotStep::Complete(complete) => return Ok(Some(complete)),
            SnapshotStep::Outdated => return Ok(None),
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
