//! acceptedEpoch and currentEpoch. Source: `docs/spec/storage-formats.md` 10.1.

use oxkeeper_proto::{Epoch, Epochs, Zxid};

use crate::acknowledged;
use crate::disk::{Disk, DiskFile, Place, read_small, write_atomically};
use crate::error::{EpochProblem, StorageError};
use crate::log_writer::TxnLog;

const ACCEPTED: &str = "acceptedEpoch";
const CURRENT: &str = "currentEpoch";
/// The announced epoch. In Apache: left by a crash between writing currentEpoch and renaming it.
const CURRENT_TMP: &str = "currentEpoch.tmp";
/// What becomes currentEpoch. Not [`CURRENT_TMP`]: until the rename is durable, a start needs that one.
const CURRENT_NEW: &str = "currentEpoch.new";
/// Longer files hold no number.
const LIMIT: usize = 64;

fn text(epoch: Epoch) -> Vec<u8> {
    epoch.to_string().into_bytes()
}

/// currentEpoch as it stands in its file; `None` if there is none, or no number in it (which
/// [`EpochFiles::load`] refuses).
pub(crate) fn current_epoch<D: Disk>(disk: &D) -> Result<Option<Epoch>, StorageError> {
    match EpochFiles::new(disk.clone()).read(CURRENT) {
        Err(StorageError::Epoch { .. }) => Ok(None),
        read => read,
    }
}

/// The files. Each save is durable when it returns.
#[derive(Clone, Debug)]
pub struct EpochFiles<D: Disk> {
    disk: D,
}

impl<D: Disk> EpochFiles<D> {
    /// The files of `disk`; touches nothing.
    pub fn new(disk: D) -> Self {
        EpochFiles { disk }
    }

    /// Reads both at a start, after the history was loaded up to `last`. Missing files are written
    /// with the epoch of `last`. Files that contradict the history or each other are an error: a
    /// server that forgot an epoch could follow an old leader.
    pub fn load(&self, last: Zxid) -> Result<Epochs, StorageError> {
        // A database that was never synced has zxid -1 and no epoch yet.
        let of_history = last.max(Zxid::ZERO).epoch();
        let current = match self.read(CURRENT)? {
            None => {
                self.write_current(of_history)?;
                of_history
            }
            Some(current) if current < of_history => self.take_over_temporary(current, last)?,
            Some(current) => current,
        };
        let accepted = match self.read(ACCEPTED)? {
            None => {
                // Apache takes the history's epoch here, and then refuses it if currentEpoch says
                // more; what this server is in, it has accepted.
                let accepted = of_history.max(current);
                self.save_accepted(accepted)?;
                accepted
            }
            Some(accepted) => accepted,
        };
        if accepted < current {
            return Err(
                self.problem(ACCEPTED, EpochProblem::AcceptedBehindCurrent { accepted, current })
            );
        }
        Ok(Epochs { accepted, current })
    }

    /// Before ACKEPOCH is sent, and at a leader when its quorum has reported.
    pub fn save_accepted(&self, epoch: Epoch) -> Result<(), StorageError> {
        Ok(write_atomically(&self.disk, Place::Snapshots, ACCEPTED, &text(epoch))?)
    }

    /// Before NEWLEADER is acknowledged and after the history is durable, and at a leader when the
    /// epoch acknowledgements are complete.
    ///
    /// `log` is what this server has in that epoch: what was appended is durable, and from here on
    /// no more than that counts as acknowledged.
    pub fn save_current(&self, epoch: Epoch, log: &mut TxnLog<D>) -> Result<(), StorageError> {
        log.enter_epoch(epoch)?;
        self.write(epoch)
    }

    /// As [`Self::save_current`], at a start.
    fn write_current(&self, epoch: Epoch) -> Result<(), StorageError> {
        // First: a mark of an older epoch than currentEpoch would count as outdated.
        acknowledged::restamp(&self.disk, epoch)?;
        self.write(epoch)
    }

    fn write(&self, epoch: Epoch) -> Result<(), StorageError> {
        let file = self.disk.create(Place::Snapshots, CURRENT_NEW)?;
        file.write_at(&text(epoch), 0)?;
        file.sync()?;
        self.disk.rename(Place::Snapshots, CURRENT_NEW, CURRENT)?;
        self.disk.sync_dir(Place::Snapshots)?;
        // The announcement has served.
        match self.disk.remove(Place::Snapshots, CURRENT_TMP) {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Writes the epoch whose history is about to be logged beside currentEpoch. A crash before
    /// [`Self::save_current`] leaves it there, and [`Self::load`] takes it over.
    pub fn announce_current(&self, epoch: Epoch) -> Result<(), StorageError> {
        // An earlier announcement may still be needed, until this one is complete.
        Ok(write_atomically(&self.disk, Place::Snapshots, CURRENT_TMP, &text(epoch))?)
    }

    fn take_over_temporary(&self, current: Epoch, last: Zxid) -> Result<Epoch, StorageError> {
        match self.read(CURRENT_TMP) {
            Err(error @ StorageError::Disk(_)) => Err(error),
            // Not the announced epoch: a history that ends before it must not outrank one that reaches
            // it. Records are logged in order, so with the first of an epoch all before it is here.
            Ok(Some(epoch)) if last.epoch() <= epoch => {
                self.write_current(last.epoch())?;
                Ok(last.epoch())
            }
            _ => Err(self.problem(CURRENT, EpochProblem::BehindHistory { current, last })),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Epoch>, StorageError> {
        let bytes = match read_small(&self.disk, Place::Snapshots, name, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let text = String::from_utf8_lossy(line);
        match text.trim_end_matches('\r').parse() {
            Ok(epoch) => Ok(Some(epoch)),
            Err(_) => {
                let found = text.chars().take(20).collect();
                Err(self.problem(name, EpochProblem::NotANumber { found }))
            }
        }
    }

    fn problem(&self, name: &str, problem: EpochProblem) -> StorageError {
        StorageError::Epoch { file: self.disk.path(Place::Snapshots, name), problem }
    }
}
