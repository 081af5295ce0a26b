//! Removing what no start would need. Source: `docs/spec/storage-formats.md` 11.

use crate::disk::{Disk, Place};
use crate::error::StorageError;
use crate::log_reader::log_files;
use crate::snapshot_reader::{looks_valid, snapshot_files};

/// Fewest snapshots that are kept.
pub const MIN_RETAIN: usize = 3;

/// What a purge removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Names of snapshots.
    pub snapshots: Vec<String>,
    /// Names of logs.
    pub logs: Vec<String>,
}

/// Keeps the newest `retain` valid snapshots (at least 3) and all that is needed to start from the
/// oldest of them; removes the rest. Removes nothing if there is no valid snapshot.
///
/// Takes no lock. In a running server it belongs into the queue of the thread that owns the log, so that
/// neither a cut nor an adoption is under way. What [`seams`](crate::seams) says of the logs that go is
/// dropped when the next log begins.
pub fn purge<D: Disk>(disk: &D, retain: usize) -> Result<Purged, StorageError> {
    let mut purged = Purged::default();
    let snapshots = snapshot_files(disk)?;
    let (mut oldest, mut kept) = (None, 0);
    for (zxid, name) in &snapshots {
        if kept < retain.max(MIN_RETAIN) && looks_valid(disk, name)? {
            (oldest, kept) = (Some(*zxid), kept + 1);
        }
    }
    let Some(oldest) = oldest else { return Ok(purged) };
    for (_, name) in snapshots.into_iter().filter(|(zxid, _)| *zxid < oldest).rev() {
        disk.remove(Place::Snapshots, &name)?;
        purged.snapshots.push(name);
    }
    // Durable before the logs go: an old snapshot must not outlive the records after it.
    disk.sync_dir(Place::Snapshots)?;
    let logs = log_files(disk)?;
    // The last log that begins at or below the oldest snapshot has the records after it.
    let needed = logs.iter().take_while(|(first, _)| *first <= oldest).count().saturating_sub(1);
    for (_, name) in logs.into_iter().take(needed) {
        disk.remove(Place::Logs, &name)?;
        purged.logs.push(name);
    }
    disk.sync_dir(Place::Logs)?;
    Ok(purged)
}
