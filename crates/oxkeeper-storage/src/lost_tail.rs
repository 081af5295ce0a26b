//! What this server has acknowledged and no longer has, and how a start goes on.
//! Source: `docs/spec/storage-formats.md` 7.1.

use std::fmt;

use oxkeeper_proto::Zxid;

use crate::acknowledged::{Mark, MarkWriter};
use crate::disk::{Disk, DiskFile, Place};
use crate::error::StorageError;
use crate::load::{LoadOptions, OnLostTail};
use crate::log_file::{BATCH_LIMIT, EndOfLog, RECORD_OVERHEAD};
use crate::log_reader::{LogReader, settle};
use crate::names;
use crate::tail::{self, Behind};

/// Transactions at the end of the history that were there and are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostTail {
    /// Path of the newest log, or of the log directory if there is no log.
    pub file: String,
    /// Where its records end.
    pub offset: u64,
    /// What stands there.
    pub found: String,
    /// The last transaction that is left.
    pub last: Zxid,
    /// The last one that was there.
    pub to: Zxid,
}

impl fmt::Display for LostTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostTail { file, offset, found, last, to } = self;
        write!(f, "{file}, byte {offset}: the history ends here with {last}; {found}. ")?;
        if last.epoch() == to.epoch() {
            let missing = to.0 - last.0.max(-1);
            write!(
                f,
                "{missing} transactions that were written, {:#x} to {to}, are missing",
                last.0 + 1
            )
        } else {
            write!(f, "What was written after {last}, up to {to}, is missing")
        }
    }
}

/// How the records of the log end, and what this server knows about it.
pub(crate) struct EndOfHistory<'a, D: Disk> {
    pub disk: &'a D,
    pub options: &'a LoadOptions,
    pub reader: &'a LogReader<D>,
    /// The mark, unless another program has used the directory since.
    pub mark: Option<Mark>,
    /// currentEpoch.
    pub epoch: u32,
    /// Last zxid of the history.
    pub last: Zxid,
}

impl<D: Disk> EndOfHistory<'_, D> {
    /// Owns the end, if nothing that was acknowledged is missing. Else refuses, or sets the damaged
    /// end aside and returns the last zxid that is lost, as `options` say.
    pub fn settle(&self, warnings: &mut Vec<String>) -> Result<Option<Zxid>, StorageError> {
        let behind = match self.reader.newest_end() {
            None => None,
            Some((name, end)) => {
                let limit = self.options.record_limit;
                tail::look_behind(self.disk, name, *end, self.last, limit)?
            }
        };
        let lost = self.lost_to(behind.as_ref());
        if let Some(to) = lost {
            self.go_on_without(to, behind.as_ref(), warnings)?;
        }
        self.tell_unfinished(warnings);
        self.own(behind.is_some() && lost.is_none())?;
        self.remove_empty_newest(warnings)?;
        Ok(lost.filter(|_| self.options.on_lost_tail == OnLostTail::Report))
    }

    /// The last zxid that was there, if it is above the last one that is.
    fn lost_to(&self, behind: Option<&Behind>) -> Option<Zxid> {
        // -1 is an empty database that may not be trusted: nothing is less than that.
        let last = self.last.max(Zxid::ZERO);
        let acknowledged = self.mark.map(|mark| mark.zxid).filter(|zxid| last < *zxid);
        let behind = behind.filter(|behind| acknowledged.is_some() || !self.is_torn(behind));
        acknowledged.max(behind.map(|behind| behind.last))
    }

    /// Whether these records can be the rest of a batch that a loss of power tore, and nobody was
    /// told of: the mark, if there is one, does not reach there, and no batch is longer.
    fn is_torn(&self, behind: &Behind) -> bool {
        let batch = (BATCH_LIMIT + self.options.record_limit + RECORD_OVERHEAD) as u64;
        let end = self.reader.newest_end().map_or(0, |(_, end)| *end);
        self.mark.is_some() && behind.end - end <= batch
    }

    fn go_on_without(
        &self,
        to: Zxid,
        behind: Option<&Behind>,
        warnings: &mut Vec<String>,
    ) -> Result<(), StorageError> {
        let lost = self.describe(to, behind);
        match self.options.on_lost_tail {
            OnLostTail::Refuse => return Err(StorageError::LostTail(lost)),
            // Whoever starts here again before all is back must not take it for whole.
            OnLostTail::Report => self.set_mark(to)?,
            OnLostTail::Accept => {}
        }
        let aside = match self.reader.newest_end() {
            Some((name, end)) => self.cut(name, *end)?,
            None => None,
        };
        let kept = aside.map_or_else(String::new, |name| {
            let path = self.disk.path(Place::Logs, &name);
            format!(" What stood there is kept in {path}.")
        });
        if self.options.on_lost_tail == OnLostTail::Accept {
            self.set_mark(self.last)?;
            warnings.push(format!(
                "{lost}. Going on without them, as oxkeeper.acceptLostTail=true says: clients were \
                 told of them and will not find them.{kept}"
            ));
        } else {
            warnings.push(format!(
                "{lost}. This member copies them from the others and does not vote until it has \
                 them. (Where all members were given an older backup on purpose, nobody has them: \
                 start each once with oxkeeper.acceptLostTail=true.){kept}"
            ));
        }
        Ok(())
    }

    /// Ends the log at `end`; what stands behind is kept under another name, which is returned.
    fn cut(&self, name: &str, end: u64) -> Result<Option<String>, StorageError> {
        let aside = tail::set_aside(self.disk, name, end)?;
        if aside.is_some() {
            let file = self.disk.open_for_write(Place::Logs, name)?;
            file.set_len(end)?;
            file.sync()?;
        }
        Ok(aside)
    }

    fn set_mark(&self, zxid: Zxid) -> Result<(), StorageError> {
        let mut writer = MarkWriter::open(self.disk, self.last, self.epoch)?;
        Ok(writer.set(zxid, self.epoch)?)
    }

    fn describe(&self, to: Zxid, behind: Option<&Behind>) -> LostTail {
        let directory = (self.disk.path(Place::Logs, ""), 0);
        let (file, offset) = match self.reader.newest_end() {
            Some((name, end)) => (self.disk.path(Place::Logs, name), *end),
            None => directory,
        };
        LostTail { file, offset, found: self.what_is_there(behind), last: self.last, to }
    }

    fn what_is_there(&self, behind: Option<&Behind>) -> String {
        let aside = self.reader.newest_end().map(|(name, end)| names::damaged(name, *end));
        let list = self.disk.list(Place::Logs).unwrap_or_default();
        let unfinished = self.reader.unfinished().iter().find(|unfinished| unfinished.newest);
        match (behind, unfinished) {
            (Some(Behind { first, offset, .. }), _) => {
                format!("behind a hole, at byte {offset}, there are records again, from {first} on")
            }
            (None, Some(unfinished)) => format!("the next record {}", why(unfinished.end)),
            (None, None) if let Some(name) = self.reader.empty_newest() => {
                format!("{} is empty", self.disk.path(Place::Logs, name))
            }
            (None, None) if aside.as_ref().is_some_and(|aside| list.contains(aside)) => {
                let aside = aside.unwrap_or_default();
                format!(
                    "an earlier start has put the rest into {}",
                    self.disk.path(Place::Logs, &aside)
                )
            }
            (None, None) if self.reader.newest_end().is_none() => "there is no log".to_owned(),
            (None, None) => "nothing follows, so a newer log file is gone, or its end".to_owned(),
        }
    }

    fn tell_unfinished(&self, warnings: &mut Vec<String>) {
        for unfinished in self.reader.unfinished() {
            warnings.push(format!(
                "{} ends at byte {} with a record that {}; it and what follows in that file is \
                 ignored.",
                self.disk.path(Place::Logs, &unfinished.name),
                unfinished.offset,
                why(unfinished.end)
            ));
        }
    }

    /// Makes the end of the newest log durable. `torn`: whole records stand behind it that belong to
    /// no history; they go, like a torn record that would stop a later reader.
    fn own(&self, torn: bool) -> Result<(), StorageError> {
        let Some((name, end)) = self.reader.newest_end() else { return Ok(()) };
        let torn_record = self
            .reader
            .unfinished()
            .iter()
            .any(|unfinished| unfinished.newest && unfinished.end == EndOfLog::Torn);
        settle(self.disk, name, *end, torn || torn_record)
    }

    fn remove_empty_newest(&self, warnings: &mut Vec<String>) -> Result<(), StorageError> {
        let Some(name) = self.reader.empty_newest() else { return Ok(()) };
        self.disk.remove(Place::Logs, name)?;
        self.disk.sync_dir(Place::Logs)?;
        warnings.push(format!("Removed the empty log {}.", self.disk.path(Place::Logs, name)));
        Ok(())
    }
}

fn why(end: EndOfLog) -> &'static str {
    match end {
        EndOfLog::Torn => "was never written completely",
        EndOfLog::NoEndByte => "has no end byte",
        _ => "is cut short",
    }
}
