//! TRUNC: forgetting what the leader never committed. Source: `docs/spec/storage-formats.md` 5.3.

use oxkeeper_proto::Zxid;
use oxkeeper_proto::txn::payload_zxid;

use crate::acknowledged::MarkWriter;
use crate::disk::{Disk, DiskFile, Place};
use crate::error::{LogProblem, StorageError};
use crate::log_file::{LogFile, Step};
use crate::log_reader::{LogReader, log_files};
use crate::snapshot_reader::{looks_valid, snapshot_files};

/// What a cut has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// The last zxid that the directory still has: of a record, or of the newest snapshot.
    pub last: Zxid,
    /// Names of the files removed.
    pub removed: Vec<String>,
}

/// See [`TxnLog::truncate`](crate::TxnLog::truncate).
pub(crate) fn truncate<D: Disk>(
    disk: &D,
    zxid: Zxid,
    record_limit: usize,
    mark: &mut MarkWriter<D>,
) -> Result<Truncated, StorageError> {
    let snapshots = snapshot_files(disk)?;
    let mut base = None;
    for (at, name) in snapshots.iter().filter(|(at, _)| *at <= zxid) {
        if looks_valid(disk, name)? {
            base = Some(*at);
            break;
        }
    }
    let Some(base) = base else {
        let reason = "no snapshot that old is left to start from".to_owned();
        return Err(StorageError::CannotTruncate { zxid, reason });
    };
    let logs = log_files(disk)?;
    if logs.is_empty() && base < zxid {
        let reason = "there is no log file".to_owned();
        return Err(StorageError::CannotTruncate { zxid, reason });
    }

    if base != zxid && !has_record(disk, zxid, record_limit)? {
        // Cutting further back would forget what this server has acknowledged.
        let reason = "the log has no such transaction".to_owned();
        return Err(StorageError::CannotTruncate { zxid, reason });
    }

    // Before anything goes: what goes was acknowledged and is missed by nobody.
    let acknowledged = mark.mark();
    mark.set(acknowledged.zxid.min(zxid), acknowledged.epoch)?;
    let mut removed = Vec::new();
    for (_, name) in snapshots.into_iter().filter(|(at, _)| zxid < *at) {
        remove(disk, Place::Snapshots, name, &mut removed)?;
    }
    let kept = logs.iter().take_while(|(first, _)| *first <= zxid).count();
    for (_, name) in logs[kept..].iter().rev() {
        remove(disk, Place::Logs, name.clone(), &mut removed)?;
    }
    let mut last = base;
    // A file may have no record at all (header only): then the one before it has the last.
    for (_, name) in logs[..kept].iter().rev() {
        if let Some(found) = cut_file(disk, name, zxid, record_limit)? {
            last = last.max(found);
            break;
        }
    }
    Ok(Truncated { last, removed })
}

fn has_record<D: Disk>(disk: &D, zxid: Zxid, record_limit: usize) -> Result<bool, StorageError> {
    let mut reader = LogReader::new(disk.clone(), zxid, record_limit)?;
    Ok(reader.next_record()?.is_some_and(|record| record.zxid == zxid))
}

fn remove<D: Disk>(
    disk: &D,
    place: Place,
    name: String,
    removed: &mut Vec<String>,
) -> Result<(), StorageError> {
    disk.remove(place, &name)?;
    disk.sync_dir(place)?;
    removed.push(name);
    Ok(())
}

/// Ends the file after the last record with at most `zxid`; returns that record's zxid.
fn cut_file<D: Disk>(
    disk: &D,
    name: &str,
    zxid: Zxid,
    record_limit: usize,
) -> Result<Option<Zxid>, StorageError> {
    let mut log = LogFile::new(disk.open(Place::Logs, name)?, true, record_limit)?;
    let mut last = None;
    let mut end = log.position();
    loop {
        let (offset, found) = match log.step()? {
            Step::End(_) => break,
            Step::Record { offset, payload } => (offset, payload_zxid(payload)),
        };
        let found = found.map_err(|error| log.problem_at(offset, LogProblem::Record(error)))?;
        if zxid < found {
            break;
        }
        last = Some(found);
        end = log.position();
    }
    let file = disk.open_for_write(Place::Logs, name)?;
    file.set_len(end)?;
    file.sync()?;
    Ok(last)
}
