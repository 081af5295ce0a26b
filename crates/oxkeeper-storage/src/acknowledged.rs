//! `acknowledged`: up to which zxid this server has made its log durable and may have told others.
//!
//! ```text
//! two records, at bytes 0 and 512, written by turns:
//!   "OXAK"  version: u32 = 1  sequence: u64  zxid: i64  epoch: u32  crc32 of the 28 bytes before
//! ```
//!
//! The log of a dead server ends where its records end; what a fault has taken from that end leaves
//! no trace in the log itself. This mark says how far it reached. It is written after each batch, in
//! place and without waiting for the disk: exact after the death of the process, and as old as the
//! last [`MarkSync::sync`] after a loss of power. Source: `docs/spec/storage-formats.md` 10.4.

use std::sync::{Arc, Mutex, PoisonError};

use oxkeeper_proto::{Epoch, Zxid};

use crate::disk::{Disk, DiskError, DiskFile, Place, read_small};
use crate::error::StorageError;

/// Name of the file, beside the logs.
pub const ACKNOWLEDGED: &str = "acknowledged";
const MAGIC: [u8; 4] = *b"OXAK";
const VERSION: u32 = 1;
const RECORD: usize = 32;
/// One record per sector: a torn write leaves the other one.
const SLOT: usize = 512;
const LEN: usize = 2 * SLOT;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Counts the writes; the greater of the two records is the newer.
    sequence: u64,
    /// Everything up to here was durable and may have been acknowledged.
    pub zxid: Zxid,
    /// currentEpoch when it was written (0 without that file). Older than currentEpoch: another
    /// program has used the directory since, and may have cut the log with good reason.
    pub epoch: Epoch,
}

/// What is known of the mark at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is no such file: the directory is new, or comes from Apache.
    Missing,
    /// Neither record is whole.
    Damaged,
    /// The newer of the whole records.
    Mark(Mark),
}

impl Mark {
    fn encode(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.zxid.0.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.epoch.to_be_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Mark> {
        let bytes: &[u8; RECORD] = bytes.get(..RECORD)?.try_into().ok()?;
        let int = |at: usize| bytes[at..at + 4].iter().fold(0, |n, b| n << 8 | u32::from(*b));
        let long = |at: usize| u64::from(int(at)) << 32 | u64::from(int(at + 4));
        let whole =
            bytes[..4] == MAGIC && int(4) == VERSION && int(28) == crc32fast::hash(&bytes[..28]);
        whole.then(|| Mark { sequence: long(8), zxid: Zxid(long(16) as i64), epoch: int(24) })
    }

    fn newest(bytes: &[u8]) -> Option<Mark> {
        let slots = [0, SLOT].map(|at| bytes.get(at..).and_then(Mark::decode));
        slots.into_iter().flatten().max_by_key(|mark| mark.sequence)
    }
}

/// Reads the mark. A read error is an error, never "damaged".
pub fn read<D: Disk>(disk: &D) -> Result<Found, DiskError> {
    match read_small(disk, Place::Logs, ACKNOWLEDGED, LEN) {
        Ok(bytes) => Ok(Mark::newest(&bytes).map_or(Found::Damaged, Found::Mark)),
        Err(error) if error.is_not_found() => Ok(Found::Missing),
        Err(error) => Err(error),
    }
}

/// Writes the mark. One per directory at a time.
pub(crate) struct MarkWriter<D: Disk> {
    file: D::File,
    mark: Mark,
}

impl<D: Disk> MarkWriter<D> {
    /// Opens the file, or creates it, and makes it say at least `zxid`, in `epoch`, durably. A mark
    /// that says more stays: what is missing is not yet accounted for.
    pub fn open(disk: &D, zxid: Zxid, epoch: Epoch) -> Result<Self, DiskError> {
        let found = read(disk)?;
        let file = match found {
            Found::Missing => disk.create(Place::Logs, ACKNOWLEDGED)?,
            Found::Damaged | Found::Mark(_) => disk.open_for_write(Place::Logs, ACKNOWLEDGED)?,
        };
        let mark = match found {
            Found::Mark(mark) => mark,
            Found::Missing | Found::Damaged => Mark { sequence: 0, zxid, epoch },
        };
        let mut writer = MarkWriter { file, mark };
        writer.set(mark.zxid.max(zxid), epoch)?;
        if found == Found::Missing {
            disk.sync_dir(Place::Logs)?;
        }
        Ok(writer)
    }

    /// What the file says.
    pub fn mark(&self) -> Mark {
        self.mark
    }

    /// Everything up to `zxid` is durable in the log. Does not wait for the disk. Never lowers the
    /// mark: a member whose lost tail comes back from the leader has it back only when it is there.
    pub fn advance(&mut self, zxid: Zxid) -> Result<(), DiskError> {
        if zxid <= self.mark.zxid {
            return Ok(());
        }
        self.mark.zxid = zxid;
        self.write_slot()
    }

    /// Sets the mark durably, also to less. Neither record says anything else afterwards.
    pub fn set(&mut self, zxid: Zxid, epoch: Epoch) -> Result<(), DiskError> {
        (self.mark.zxid, self.mark.epoch) = (zxid, epoch);
        self.write_slot()?;
        self.write_slot()?;
        self.file.sync().map(|_| ())
    }

    fn write_slot(&mut self) -> Result<(), DiskError> {
        self.mark.sequence += 1;
        let slot = self.mark.sequence % 2 * SLOT as u64;
        self.file.write_at(&self.mark.encode(), slot)
    }
}

/// Before currentEpoch becomes `epoch` at a start: a mark that is there goes along, durably.
pub(crate) fn restamp<D: Disk>(disk: &D, epoch: Epoch) -> Result<(), DiskError> {
    match read(disk)? {
        Found::Mark(mark) if mark.epoch < epoch => {
            MarkWriter::open(disk, mark.zxid, epoch).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// Makes the mark durable now and then, beside the thread that writes it. Clones are the same.
pub struct MarkSync<D: Disk>(Arc<Mutex<Synced<D::File>>>);

struct Synced<F> {
    file: F,
    /// What the file held at the last sync.
    durable: [u8; LEN],
}

impl<D: Disk> Clone for MarkSync<D> {
    fn clone(&self) -> Self {
        MarkSync(self.0.clone())
    }
}

impl<D: Disk> std::fmt::Debug for MarkSync<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MarkSync").finish_non_exhaustive()
    }
}

impl<D: Disk> MarkSync<D> {
    /// For the mark of `disk`, which a [`TxnLog`](crate::TxnLog) has created by now. Stays good when
    /// that log is replaced by another.
    pub fn open(disk: &D) -> Result<Self, StorageError> {
        let file = disk.open(Place::Logs, ACKNOWLEDGED)?;
        Ok(MarkSync(Arc::new(Mutex::new(Synced { file, durable: [0; LEN] }))))
    }

    /// Makes the mark durable if it has changed since the last call; says whether. To be called about
    /// once a second. An error must end the process, as any failed sync does.
    pub fn sync(&self) -> Result<bool, StorageError> {
        let mut synced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = [0; LEN];
        synced.file.read_at(&mut bytes, 0)?;
        if bytes == synced.durable {
            return Ok(false);
        }
        synced.file.sync()?;
        synced.durable = bytes;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_whole_or_nothing() {
        let mark = Mark { sequence: 7, zxid: Zxid::new(5, 100), epoch: 6 };
        let bytes = mark.encode();
        assert_eq!(Mark::decode(&bytes), Some(mark));
        for at in 0..RECORD {
            let mut damaged = bytes;
            damaged[at] ^= 4;
            assert_eq!(Mark::decode(&damaged), None, "byte {at}");
            assert_eq!(Mark::decode(&bytes[..at]), None);
        }
    }
}
