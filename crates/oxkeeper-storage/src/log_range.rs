//! Old proposals from the log, for a learner that is further behind than memory reaches.
//! Source: `docs/spec/quorum-protocol.md` 10.4.

use bytes::Bytes;
use oxkeeper_proto::Zxid;

use crate::disk::{Disk, DiskFile, Place};
use crate::error::StorageError;
use crate::load::LoggedTxn;
use crate::log_reader::{LogReader, files_from, log_files};
use crate::seams::Seams;
use crate::snapshot_reader::{looks_valid, snapshot_files};

/// Whether sending the log from a learner's zxid `from` costs less than a snapshot: the log files
/// after the one that contains `from` are together at most `factor` (`snapshotSizeFactor`) times as
/// large as the newest snapshot. 0: no limit. Negative: never.
pub fn log_diff_allowed<D: Disk>(disk: &D, from: Zxid, factor: f64) -> Result<bool, StorageError> {
    if factor < 0.0 {
        return Ok(false);
    }
    if factor == 0.0 {
        return Ok(true);
    }
    let mut snapshot_len = None;
    for (_, name) in snapshot_files(disk)? {
        if looks_valid(disk, &name)? {
            snapshot_len = Some(disk.open(Place::Snapshots, &name)?.len()?);
            break;
        }
    }
    let Some(snapshot_len) = snapshot_len else { return Ok(false) };
    let mut log_len = 0_u64;
    for (_, name) in files_from(log_files(disk)?, Zxid(from.0.saturating_add(1))).iter().skip(1) {
        log_len = log_len.saturating_add(disk.open(Place::Logs, name)?.len()?);
    }
    Ok(log_len as f64 <= snapshot_len as f64 * factor)
}

/// A piece of the log without holes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSpan {
    /// The last record with zxid <= the start that was asked for: what a learner there has in
    /// common with this server. Equal to the start, or the learner's last one is not in this log.
    pub base: Zxid,
    /// The records after it, in order.
    pub proposals: Vec<LoggedTxn>,
}

/// The records with `from` < zxid <= `to`, and the last transaction at or before `from`.
///
/// `None` if the log does not reach back to `from`, ends before `to`, if it is not proven that nothing
/// is missing in between, or if the records have more than `max_bytes` together: then a snapshot must
/// do. `to` must be synced. `proven_from`: from there on nothing was missing
/// ([`Loaded::contiguous_from`](crate::Loaded::contiguous_from); after an adoption, the zxid of the
/// snapshot), though a purge may have taken the first files since. Numbers do not prove it where an epoch begins: a snapshot from a leader leaves a hole
/// before it that looks like none.
pub fn read_range<D: Disk>(
    disk: &D,
    from: Zxid,
    to: Zxid,
    proven_from: Zxid,
    record_limit: usize,
    max_bytes: usize,
) -> Result<Option<LogSpan>, StorageError> {
    let seams = Seams::read(disk)?.unwrap_or_default();
    // One file earlier than needed for `from` itself: its predecessor may be the common record.
    let mut reader = LogReader::new(disk.clone(), from, record_limit)?;
    reader.include_earlier();
    // The history has that transaction, whether or not the log has it. Not so zxid 0, which is also
    // what a learner says that wants a snapshot.
    let mut base = Some(proven_from).filter(|zxid| Zxid::ZERO < *zxid && *zxid <= from);
    let mut previous = base;
    // Whether `previous` was read: what follows a transaction that the log has not (any more) may have
    // been purged with it, unless it is the next one.
    let mut in_log = false;
    let mut proposals = Vec::new();
    let mut bytes = 0;
    while let Some(record) = reader.next_record()? {
        let zxid = record.zxid;
        if zxid <= from {
            base = base.max(Some(zxid));
            (previous, in_log) = (base, base == Some(zxid));
            continue;
        } else if to < zxid {
            break;
        }
        let Some(before) = previous.replace(zxid) else { return Ok(None) };
        bytes += record.payload.len();
        let joined = if proven_from <= before && (in_log || zxid.is_next(before)) {
            zxid.may_follow(before)
        } else {
            seams.joins(before, zxid, record.begins, record.before)
        };
        if !joined || bytes > max_bytes {
            return Ok(None);
        }
        in_log = true;
        proposals.push(LoggedTxn { zxid, payload: Bytes::copy_from_slice(record.payload) });
        if zxid == to {
            break;
        }
    }
    match base {
        Some(base) if previous.is_some_and(|previous| to <= previous) => {
            Ok(Some(LogSpan { base, proposals }))
        }
        _ => Ok(None),
    }
}
