//! The transaction log of a running server: every proposal it has accepted, in zxid order.
//!
//! `append` only buffers; a proposal is durable once `sync` has returned a zxid at or above its own.
//! A process never appends to a file that it found: the first record opens `log.<its zxid>`.
//!
//! A new file is prepared under a temporary name, header and zeros on disk, and renamed when its
//! first record comes. So no crash can leave a log without its header, which Apache cannot start
//! on, nor an empty one.
//!
//! Zeros are written ahead of the records, in small steps: a sync then overwrites bytes that the
//! file system has allocated already and needs no journal commit; and no append waits for the 64
//! MiB that Apache reserves at once.

use std::time::Duration;

use oxkeeper_proto::txn::payload_zxid;
use oxkeeper_proto::{Epoch, Zxid};

use crate::acknowledged::MarkWriter;
use crate::adoption::Adoption;
use crate::disk::{Disk, DiskError, DiskFile, Place};
use crate::epochs::current_epoch;
use crate::error::StorageError;
use crate::log_cut::{self, Truncated};
use crate::log_file::{BATCH_LIMIT, DEFAULT_RECORD_LIMIT, HEADER, RECORD_OVERHEAD, put_record};
use crate::names;
use crate::seams::Seams;
use crate::snapshot_writer::CompleteSnapshot;

/// Zeros are written ahead in steps of this size: a step costs less than half a millisecond more
/// than a sync without one, 4 MiB at once ten.
const STEP: u64 = 256 << 10;
/// How far ahead [`TxnLog::prepare`] goes while nobody waits.
const AHEAD: u64 = 4 << 20;
/// Name of a file that is being prepared.
const SPARE: &str = "tmp-next-log";

/// How the log is written.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// `preAllocSize` in KiB: upper bound of the zeros written ahead; <= 0: none.
    pub preallocate_kib: i64,
    /// `forceSync`: false acknowledges without a sync, and loses data on a crash. What may be lost is
    /// not noted in the [mark](crate::acknowledged): losing it is what the operator has chosen.
    pub force_sync: bool,
    /// Longest payload accepted, in bytes; what readers accept.
    pub record_limit: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { preallocate_kib: 65536, force_sync: true, record_limit: DEFAULT_RECORD_LIMIT }
    }
}

/// What a [`TxnLog::sync`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Everything up to this zxid is durable. The zxid the log was opened with, if nothing was
    /// appended since.
    pub zxid: Zxid,
    /// Records of this batch.
    pub records: usize,
    /// Bytes of this batch, without zeros.
    pub bytes: usize,
    /// How long the disk took for fdatasync alone, for `fsync.warningthresholdms`.
    pub took: Duration,
}

/// The log of one server process.
pub struct TxnLog<D: Disk> {
    disk: D,
    options: LogOptions,
    file: Option<Open<D::File>>,
    spare: Option<Open<D::File>>,
    /// Records not yet written, encoded.
    batch: Vec<u8>,
    /// Ends in `batch` of the parts that are written and synced one by one; the last part is open.
    parts: Vec<usize>,
    batch_records: usize,
    /// First zxid in `batch`; names a new file.
    batch_first: Zxid,
    appended: Zxid,
    synced: Zxid,
    mark: MarkWriter<D>,
    seams: Seams,
    /// The first failure. Whatever the disk holds after it is unknown, so nothing is tried again.
    poisoned: Option<StorageError>,
}

struct Open<F> {
    file: F,
    /// Where the next record goes.
    position: u64,
    /// Zeros are written up to here.
    zeroed: u64,
}

impl<D: Disk> TxnLog<D> {
    /// A log whose history so far ends with `last`, from [`load`](crate::load::load), behind the
    /// [epochs](crate::EpochFiles::load) of an ensemble member. Opens no log file, but makes the
    /// [mark](crate::acknowledged) say at least `last`, durably: this server will vote with it. (Not
    /// with `forceSync=no`: older files may never have been synced.)
    pub fn open(disk: D, options: LogOptions, last: Zxid) -> Result<Self, StorageError> {
        let mut seams = Seams::read(&disk)?.unwrap_or_default();
        seams.prune(&disk)?;
        let durable = if options.force_sync { last } else { Zxid::ZERO };
        let mark = MarkWriter::open(&disk, durable, current_epoch(&disk)?.unwrap_or(0))?;
        Ok(TxnLog {
            disk,
            options,
            file: None,
            spare: None,
            batch: Vec::new(),
            parts: Vec::new(),
            batch_records: 0,
            batch_first: last,
            appended: last,
            synced: last,
            mark,
            seams,
            poisoned: None,
        })
    }

    /// The last zxid appended, durable or not.
    pub fn appended(&self) -> Zxid {
        self.appended
    }

    /// The last durable zxid. Never above [`TxnLog::appended`].
    pub fn synced(&self) -> Zxid {
        self.synced
    }

    /// Bytes of records (and header) in the present file, for [`RollPolicy`](crate::RollPolicy).
    pub fn file_len(&self) -> u64 {
        self.file.as_ref().map_or(0, |open| open.position)
    }

    /// Queues a payload. Refused, and nothing changed, if the log would get a hole, go backwards,
    /// or have a record that no reader accepts.
    pub fn append(&mut self, zxid: Zxid, payload: &[u8]) -> Result<(), StorageError> {
        self.check_poison()?;
        if payload.len() > self.options.record_limit {
            let limit = self.options.record_limit;
            let reason = format!("{} bytes are more than the {limit} of the limit", payload.len());
            return Err(StorageError::BadRecord { zxid, reason });
        }
        match payload_zxid(payload) {
            Ok(inside) if inside == zxid => {}
            Ok(inside) => {
                let reason = format!("the transaction's own header says {inside}");
                return Err(StorageError::BadRecord { zxid, reason });
            }
            Err(error) => {
                return Err(StorageError::BadRecord { zxid, reason: error.to_string() });
            }
        }
        if !follows(self.appended, zxid) {
            return Err(StorageError::OutOfOrder { offered: zxid, previous: self.appended });
        }
        if self.batch.is_empty() {
            self.batch_first = zxid;
        }
        let part = self.batch.len() - self.parts.last().copied().unwrap_or(0);
        if part > 0 && part + payload.len() + RECORD_OVERHEAD > BATCH_LIMIT {
            self.parts.push(self.batch.len());
        }
        put_record(&mut self.batch, payload);
        self.batch_records += 1;
        self.appended = zxid;
        Ok(())
    }

    /// Writes all that is queued, in one call (one per 4 MiB), and makes it durable; then notes in the
    /// [mark](crate::acknowledged) that it may be acknowledged.
    ///
    /// After a failure the log is dead: this and every later call returns that failure.
    pub fn sync(&mut self) -> Result<Synced, StorageError> {
        self.check_poison()?;
        let (records, bytes) = (self.batch_records, self.batch.len());
        let mut took = Duration::ZERO;
        if records > 0 {
            took = self.write_batch().map_err(|error| self.poison(error.into()))?;
            self.forget_batch();
            self.synced = self.appended;
        }
        Ok(Synced { zxid: self.synced, records, bytes, took })
    }

    /// Does a little of the work that the next syncs would have to do: prepares a file, or writes
    /// zeros ahead. For moments when nothing is queued; returns false when there is nothing to do.
    pub fn prepare(&mut self) -> Result<bool, StorageError> {
        self.check_poison()?;
        self.prepare_step().map_err(|error| self.poison(error.into()))
    }

    /// Ends the present file, after a sync of what is queued. The next record opens a new one.
    pub fn roll(&mut self) -> Result<Synced, StorageError> {
        let synced = self.sync()?;
        if let Some(Open { file, .. }) = self.file.take()
            && !self.options.force_sync
        {
            // A loss of power may take the end of the history, but not leave a hole before a later file.
            file.sync().map_err(|error| self.poison(error.into()))?;
        }
        Ok(synced)
    }

    /// Everything appended is durable, and is what this server has in the epoch it enters: from here
    /// on no more than that counts as acknowledged.
    pub(crate) fn enter_epoch(&mut self, epoch: Epoch) -> Result<(), StorageError> {
        self.sync()?;
        let known = self.mark.mark().zxid.min(self.synced);
        let durable = if self.options.force_sync { self.synced } else { known };
        self.mark.set(durable, epoch).map_err(|error| self.poison(error.into()))
    }

    /// TRUNC: keeps everything up to and including `zxid`; deletes what is newer, logs and snapshots.
    ///
    /// Refused with [`StorageError::CannotTruncate`], and nothing touched, if no snapshot at or below
    /// `zxid` is left to replay from, or no record of it. Every step is durable before the next,
    /// newest first, so a crash between them leaves a history without holes that the leader cuts
    /// again. Load again afterwards, and open a new log.
    pub fn truncate(&mut self, zxid: Zxid) -> Result<Truncated, StorageError> {
        self.roll()?;
        let limit = self.options.record_limit;
        match log_cut::truncate(&self.disk, zxid, limit, &mut self.mark) {
            Ok(cut) => {
                self.begin_at(cut.last);
                Ok(cut)
            }
            Err(error @ StorageError::CannotTruncate { .. }) => Err(error),
            Err(error) => Err(self.poison(error)),
        }
    }

    /// Gives a snapshot of a state that came from the leader its name, and makes it the whole history:
    /// every other snapshot and every log goes, and this log goes on behind it. Returns the name.
    ///
    /// If the log ends with the snapshot's zxid it is the same history, and nothing goes. A crash
    /// leaves the old history or the new one, which the next [`load`](crate::load::load) completes.
    /// What was appended and not synced is forgotten.
    pub fn adopt(&mut self, snapshot: CompleteSnapshot<D>) -> Result<String, StorageError> {
        self.check_poison()?;
        let same = snapshot.zxid() == self.synced && self.batch.is_empty();
        let adopted = if same { self.publish(snapshot) } else { self.replace_history(snapshot) };
        adopted.map_err(|error| self.poison(error))
    }

    fn publish(&mut self, snapshot: CompleteSnapshot<D>) -> Result<String, StorageError> {
        let name = snapshot.publish()?;
        self.mark.set(self.synced, self.mark.mark().epoch)?;
        Ok(name)
    }

    fn replace_history(&mut self, snapshot: CompleteSnapshot<D>) -> Result<String, StorageError> {
        let adoption = Adoption::begin(&self.disk, &snapshot)?;
        let name = snapshot.publish()?;
        self.mark.set(adoption.zxid, self.mark.mark().epoch)?;
        adoption.finish(&self.disk)?;
        self.seams = Seams::default();
        self.begin_at(adoption.zxid);
        Ok(name)
    }

    /// The next record follows `last`, in a new file.
    fn begin_at(&mut self, last: Zxid) {
        self.forget_batch();
        self.file = None;
        (self.batch_first, self.appended, self.synced) = (last, last, last);
    }

    fn forget_batch(&mut self) {
        self.batch.clear();
        self.parts.clear();
        self.batch_records = 0;
    }

    fn check_poison(&self) -> Result<(), StorageError> {
        self.poisoned.clone().map_or(Ok(()), Err)
    }

    fn poison(&mut self, error: StorageError) -> StorageError {
        self.poisoned = Some(error.clone());
        error
    }

    /// Bytes written ahead in one step; 0 if the setting says none.
    fn step(&self) -> u64 {
        u64::try_from(self.options.preallocate_kib).unwrap_or(0).saturating_mul(1024).min(STEP)
    }

    fn write_batch(&mut self) -> Result<Duration, DiskError> {
        let mut open = match self.file.take() {
            Some(open) => open,
            None => self.begin_file()?,
        };
        let step = self.step();
        let mut took = Duration::ZERO;
        let (mut start, len) = (0, self.batch.len());
        self.parts.push(len);
        for end in std::mem::take(&mut self.parts) {
            let new_position = open.position + (end - start) as u64;
            // The last part takes its zeros along in the same write.
            let mut bytes = start..end;
            if end == len && step > 0 && new_position > open.zeroed {
                let zeroed = new_position.next_multiple_of(step);
                self.batch.resize(end + (zeroed - new_position) as usize, 0);
                open.zeroed = zeroed;
                bytes = start..self.batch.len();
            }
            let bytes = &self.batch[bytes];
            if !self.options.force_sync {
                open.file.write_at(bytes, open.position)?;
            } else if step == 0 {
                open.file.write_at(bytes, open.position)?;
                took += open.file.sync()?;
            } else {
                took += open.file.append_durably(bytes, open.position)?;
            }
            (open.position, start) = (new_position, end);
        }
        self.file = Some(open);
        if self.options.force_sync {
            // Before anybody is told.
            self.mark.advance(self.appended)?;
        }
        Ok(took)
    }

    /// The prepared file under its real name. One sync of the directory makes that name durable and
    /// what `seams` says of it; without either nothing in the file is acknowledged.
    fn begin_file(&mut self) -> Result<Open<D::File>, DiskError> {
        let open = match self.spare.take() {
            Some(open) => open,
            None => self.make_spare()?,
        };
        self.seams.begin_file(&self.disk, self.batch_first, self.synced)?;
        self.disk.rename(Place::Logs, SPARE, &names::log(self.batch_first))?;
        self.disk.sync_dir(Place::Logs)?;
        Ok(open)
    }

    fn make_spare(&self) -> Result<Open<D::File>, DiskError> {
        let file = self.disk.create(Place::Logs, SPARE)?;
        let mut bytes = HEADER.to_vec();
        bytes.resize(HEADER.len().max(self.step() as usize), 0);
        file.write_at(&bytes, 0)?;
        file.sync()?;
        Ok(Open { file, position: HEADER.len() as u64, zeroed: bytes.len() as u64 })
    }

    fn prepare_step(&mut self) -> Result<bool, DiskError> {
        let step = self.step();
        let ahead = AHEAD.min(u64::try_from(self.options.preallocate_kib).unwrap_or(0) << 10);
        match &mut self.file {
            None if self.spare.is_none() => self.spare = Some(self.make_spare()?),
            Some(open) if step > 0 && open.zeroed < open.position + ahead => {
                open.file.write_at(&vec![0; step as usize], open.zeroed.max(open.position))?;
                open.zeroed = open.zeroed.max(open.position) + step;
                open.file.sync()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Whether a record `next` may stand behind `previous`: the next one, or the first of a later epoch.
/// Anything else is a hole that no start would survive (ZOOKEEPER-3642, 4925).
pub fn follows(previous: Zxid, next: Zxid) -> bool {
    is_next(previous, next)
        || (previous.epoch() != next.epoch() && previous < next && next.counter() == 1)
}

/// Whether the numbers say that nothing is between them. A single server of Apache's counts on where
/// the counter of an epoch ends.
pub(crate) fn is_next(previous: Zxid, next: Zxid) -> bool {
    previous.0.checked_add(1) == Some(next.0)
}
