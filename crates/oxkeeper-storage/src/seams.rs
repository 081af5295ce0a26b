//! `seams`: which zxid precedes the first record of each log that this server began.
//!
//! Inside an epoch the numbers say whether a record is missing; a new epoch counts from 1 again and
//! says nothing. A log named here was written by [`TxnLog`](crate::TxnLog) alone, which never skips
//! a transaction: inside that file an epoch follows the one before without a hole, and its first
//! record follows the zxid noted here. Source: `docs/spec/storage-formats.md` 10.5.

use std::collections::BTreeMap;

use oxkeeper_proto::Zxid;

use crate::disk::{Disk, DiskError, Place};
use crate::log_reader::log_files;
use crate::own_file::{self, Content};
use crate::{StorageError, names};

/// Name of the file, beside the logs.
pub const SEAMS: &str = "seams";
const TITLE: &str = "oxkeeper seams 1";

/// What is known about how a record of a later epoch follows the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seam {
    /// Nothing is missing between them.
    Proven,
    /// Another transaction was there before it.
    Torn(Zxid),
    /// Nothing.
    Unknown,
}

/// The file: first zxid of a log to the zxid before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seams(BTreeMap<Zxid, Zxid>);

impl Seams {
    /// Reads the file; `None` if it is damaged.
    pub fn read<D: Disk>(disk: &D) -> Result<Option<Seams>, DiskError> {
        Ok(match own_file::read(disk, Place::Logs, SEAMS, TITLE)? {
            Content::Missing => Some(Seams::default()),
            Content::Damaged => None,
            Content::Lines(lines) => {
                let pairs: Option<BTreeMap<Zxid, Zxid>> = lines.iter().map(|l| pair(l)).collect();
                pairs.map(Seams)
            }
        })
    }

    /// Forgets everything, durably.
    pub fn remove<D: Disk>(disk: &D) -> Result<(), DiskError> {
        match disk.remove(Place::Logs, SEAMS) {
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
            Ok(()) => disk.sync_dir(Place::Logs),
        }
    }

    /// Notes that `first` follows `previous`, forgets the logs that are gone, and writes the file.
    /// Durable after the next sync of the directory.
    pub fn begin_file<D: Disk>(
        &mut self,
        disk: &D,
        first: Zxid,
        previous: Zxid,
    ) -> Result<(), DiskError> {
        let names = disk.list(Place::Logs)?;
        let there: Vec<Zxid> = names.iter().filter_map(|name| names::log_zxid(name)).collect();
        self.0.retain(|zxid, _| there.contains(zxid));
        self.0.insert(first, previous);
        let line = |(first, previous): (&Zxid, &Zxid)| format!("{:x} {:x}", first.0, previous.0);
        let lines: Vec<String> = self.0.iter().map(line).collect();
        own_file::write(disk, Place::Logs, SEAMS, TITLE, &lines)
    }

    /// Forgets the logs that are gone, in memory.
    pub fn prune<D: Disk>(&mut self, disk: &D) -> Result<(), StorageError> {
        let there = log_files(disk)?;
        self.0.retain(|zxid, _| there.iter().any(|(first, _)| first == zxid));
        Ok(())
    }

    /// Whether `found`, the first record of its epoch, follows `previous`. `file`: the first zxid of
    /// the log it is in; `before`: the record before it in that file.
    pub fn seam(&self, previous: Zxid, found: Zxid, file: Zxid, before: Option<Zxid>) -> Seam {
        let Some(noted) = self.0.get(&file).copied() else { return Seam::Unknown };
        let said = before.unwrap_or(noted);
        if said == previous || (previous.counter() == 0 && said < previous) {
            // Counter 0 is no transaction: a snapshot of a leader that had proposed nothing yet.
            Seam::Proven
        } else if said.epoch() == found.epoch() {
            // The log began on such a snapshot; what was before it is not known.
            Seam::Unknown
        } else {
            Seam::Torn(said)
        }
    }

    /// Whether nothing is missing between two records that follow each other in the log, by their
    /// numbers and by what is noted.
    pub fn joins(&self, previous: Zxid, found: Zxid, file: Zxid, before: Option<Zxid>) -> bool {
        found.may_follow(previous)
            && (previous.epoch() == found.epoch()
                || self.seam(previous, found, file, before) == Seam::Proven)
    }
}

fn pair(line: &str) -> Option<(Zxid, Zxid)> {
    let (first, previous) = line.split_once(' ')?;
    let number = |text| u64::from_str_radix(text, 16).ok().map(|zxid| Zxid(zxid as i64));
    Some((number(first)?, number(previous)?))
}
