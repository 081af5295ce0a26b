//! A snapshot from the leader takes the place of all that was there, at once for every later start.
//!
//! ```text
//! adopting:  epoch <currentEpoch>
//!            <name of the snapshot> <length> <checksum of its end>
//!            <name of a log or snapshot that goes>*
//! ```
//!
//! The marker is durable before the snapshot has its name, and goes last. A start that finds it either
//! finishes the removal or, if anybody else has used the directory since, forgets it and removes
//! nothing. Source: `docs/spec/storage-formats.md` 10.6.

use oxkeeper_proto::Zxid;

use crate::disk::{Disk, DiskError, Place};
use crate::epochs::current_epoch;
use crate::error::StorageError;
use crate::log_reader::log_files;
use crate::names;
use crate::own_file::{self, Content};
use crate::seams::SEAMS;
use crate::snapshot_reader::snapshot_files;
use crate::snapshot_writer::{CompleteSnapshot, Stamp};

/// Name of the marker, beside the snapshots.
pub const ADOPTING: &str = "adopting";
const TITLE: &str = "oxkeeper adoption 1";

/// An adoption under way.
#[derive(Clone, Debug)]
pub(crate) struct Adoption {
    /// Name of the adopted snapshot.
    pub snapshot: String,
    /// Its zxid.
    pub zxid: Zxid,
    /// What goes, in this order.
    removes: Vec<String>,
}

impl Adoption {
    /// Writes the marker, durably. The snapshot may get its name next, then [`Adoption::finish`].
    pub fn begin<D: Disk>(disk: &D, snapshot: &CompleteSnapshot<D>) -> Result<Self, StorageError> {
        let (name, zxid) = (snapshot.name(), snapshot.zxid());
        let removes = all_but(disk, &name, zxid)?;
        let mut lines = vec![
            format!("epoch {}", current_epoch(disk)?.unwrap_or(0)),
            format!("{name} {}", snapshot.stamp()?.as_str()),
        ];
        lines.extend(removes.iter().cloned());
        own_file::write(disk, Place::Snapshots, ADOPTING, TITLE, &lines)?;
        disk.sync_dir(Place::Snapshots)?;
        Ok(Adoption { snapshot: name, zxid, removes })
    }

    /// Removes everything else and the marker. The snapshot has its name, and the mark says its zxid.
    pub fn finish<D: Disk>(&self, disk: &D) -> Result<(), StorageError> {
        // The name may be one that a crash left visible but not durable.
        disk.sync_dir(Place::Snapshots)?;
        for name in &self.removes {
            let place = place_of(name);
            remove(disk, place, name)?;
            disk.sync_dir(place)?;
        }
        remove(disk, Place::Logs, SEAMS)?;
        disk.sync_dir(Place::Logs)?;
        forget(disk)?;
        Ok(())
    }

    /// The adoption that a crash interrupted, if it can be finished: its snapshot has its name, and
    /// nothing has come since. Otherwise the marker goes and nothing else.
    pub fn interrupted<D: Disk>(disk: &D) -> Result<Option<Self>, StorageError> {
        let adoption = match own_file::read(disk, Place::Snapshots, ADOPTING, TITLE)? {
            Content::Missing => return Ok(None),
            Content::Damaged => None,
            Content::Lines(lines) => Self::confirmed(disk, &lines)?,
        };
        if adoption.is_none() {
            forget(disk)?;
        }
        Ok(adoption)
    }

    fn confirmed<D: Disk>(disk: &D, lines: &[String]) -> Result<Option<Self>, StorageError> {
        let [epoch, adopted, removes @ ..] = lines else { return Ok(None) };
        let Some((snapshot, stamp)) = adopted.split_once(' ') else { return Ok(None) };
        let Some(zxid) = names::snapshot_zxid(snapshot) else { return Ok(None) };
        // Another epoch was entered, with a log that may have one of the listed names again.
        if *epoch != format!("epoch {}", current_epoch(disk)?.unwrap_or(0)) {
            return Ok(None);
        }
        match disk.open(Place::Snapshots, snapshot).and_then(|file| Stamp::of(&file)) {
            Ok(found) if found.as_str() == stamp => {}
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => return Ok(None),
        }
        let there = all_but(disk, snapshot, zxid)?;
        let known = there.iter().all(|name| removes.contains(name));
        let snapshot = snapshot.to_owned();
        Ok(known.then_some(Adoption { snapshot, zxid, removes: there }))
    }
}

/// Forgets an adoption.
pub(crate) fn forget<D: Disk>(disk: &D) -> Result<(), DiskError> {
    remove(disk, Place::Snapshots, ADOPTING)?;
    disk.sync_dir(Place::Snapshots)
}

/// All snapshots and logs but `kept`, in the order in which they may go: at each moment a reader that
/// knows no marker finds `kept` as the newest snapshot and at most a beginning of the log behind it.
fn all_but<D: Disk>(disk: &D, kept: &str, zxid: Zxid) -> Result<Vec<String>, StorageError> {
    let mut snapshots = snapshot_files(disk)?;
    snapshots.retain(|(_, name)| name != kept);
    let older = snapshots.iter().position(|(at, _)| *at < zxid).unwrap_or(snapshots.len());
    let older = snapshots.split_off(older);
    let newest_logs_first = log_files(disk)?.into_iter().rev();
    let all = snapshots.into_iter().chain(newest_logs_first).chain(older);
    Ok(all.map(|(_, name)| name).collect())
}

fn place_of(name: &str) -> Place {
    if names::log_zxid(name).is_some() { Place::Logs } else { Place::Snapshots }
}

/// Removes a file that a purge may have removed already.
fn remove<D: Disk>(disk: &D, place: Place, name: &str) -> Result<(), DiskError> {
    match disk.remove(place, name) {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}
