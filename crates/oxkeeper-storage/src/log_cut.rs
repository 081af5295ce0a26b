//! TRUNC: forgetting what the leader never committed. Source: `docs/spec/storage-formats.md` 5.3.

use oxkeeper_proto::Zxid;
use oxkeeper_proto::txn::payload_zxid;

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

/// Keeps everything up to and including `zxid`; deletes what is newer, logs and snapshots.
///
/// Refused, and nothing touched, if no snapshot at or below `zxid` is left to replay from. Every step
/// is durable before the next, newest first, so a crash between them leaves a history without holes
/// that the leader cuts again. Reload the state afterwards.
pub fn truncate<D: Disk>(
    disk: &D,
    zxid: Zxid,
    record_limit: usize,
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

/// Deletes all log files, newest first: a snapshot that came from the leader has replaced their
/// history, and on top of an older snapshot they must never be replayed again.
pub fn discard_logs<D: Disk>(disk: &D) -> Result<Vec<String>, StorageError> {
    let mut removed = Vec::new();
    for (_, name) in log_files(disk)?.into_iter().rev() {
        remove(disk, Place::Logs, name, &mut removed)?;
    }
    Ok(removed)
}

/// Makes the snapshot at `zxid`, which came from the leader and is published, the whole history:
/// deletes newer snapshots, which a later start would prefer, then all logs, as [`discard_logs`]
/// does.
pub fn adopt_snapshot<D: Disk>(disk: &D, zxid: Zxid) -> Result<Vec<String>, StorageError> {
    let mut removed = Vec::new();
    for (_, name) in snapshot_files(disk)?.into_iter().filter(|(at, _)| zxid < *at) {
        remove(disk, Place::Snapshots, name, &mut removed)?;
    }
    removed.extend(discard_logs(disk)?);
    Ok(removed)
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
