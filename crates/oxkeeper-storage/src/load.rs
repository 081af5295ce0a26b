//! Start-up: the newest valid snapshot, then the log. Source: `docs/spec/storage-formats.md` 7.

use bytes::Bytes;
pub use oxkeeper_proto::snapshot::Database;
use oxkeeper_proto::{Epoch, Zxid};

use crate::acknowledged::{self, Found, Mark, MarkWriter};
use crate::adoption::{self, Adoption};
use crate::disk::{Disk, DiskFile, Place};
use crate::epochs::current_epoch;
use crate::error::{SnapshotProblem, StorageError};
use crate::log_file::DEFAULT_RECORD_LIMIT;
use crate::log_reader::LogReader;
use crate::lost_tail::EndOfHistory;
use crate::names;
use crate::replay::Replay;
use crate::seams::Seams;
use crate::snapshot_reader::{SnapshotInfo, looks_valid, read_snapshot, snapshot_files};

/// Most snapshots that are tried, newest first.
const SNAPSHOTS_TRIED: usize = 100;

/// A transaction as it was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedTxn {
    /// From the payload's header.
    pub zxid: Zxid,
    /// Header, record, digest: the bytes of the log and of the wire.
    pub payload: Bytes,
}

/// What a start does when transactions are gone that this server has acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLostTail {
    /// Refuses with [`StorageError::LostTail`], and nothing is touched: a single server.
    #[default]
    Refuse,
    /// Goes on, and says it in [`Loaded::lost_tail`]: a member of an ensemble, which must not vote
    /// until it is synchronized with a leader. Later starts say it again until then.
    Report,
    /// Goes on as if they had never been: `oxkeeper.acceptLostTail=true` at a single server.
    Accept,
}

/// Settings of a start.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// `snapshot.trust.empty`: logs without a snapshot are replayed from the beginning.
    pub trust_empty: bool,
    /// `zookeeper.db.autocreate`: an empty directory is an empty database.
    pub autocreate: bool,
    /// `oxkeeper.skipLoneChecks`: a check outside of a multi (type 13) is skipped with a warning.
    pub skip_lone_checks: bool,
    /// Longest payload, string or buffer accepted, in bytes.
    pub record_limit: usize,
    /// How many of the last transactions are kept for learners (`commitLogCount`).
    pub recent: usize,
    /// What to do when acknowledged transactions are gone.
    pub on_lost_tail: OnLostTail,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            trust_empty: false,
            autocreate: true,
            skip_lone_checks: false,
            record_limit: DEFAULT_RECORD_LIMIT,
            recent: 500,
            on_lost_tail: OnLostTail::Refuse,
        }
    }
}

/// The outcome of a start.
#[derive(Debug)]
pub struct Loaded<T> {
    /// What the caller's factory made, filled.
    pub database: T,
    /// The snapshot it began with; `None` for a new or an untrusted empty database.
    pub snapshot: Option<SnapshotInfo>,
    /// Last zxid of the history. -1: empty, and not allowed to vote until synced.
    pub last_zxid: Zxid,
    /// Whether the caller must write a snapshot now: a new database (`snapshot.0`), or logs that
    /// were trusted without one.
    pub needs_snapshot: bool,
    /// The last transactions replayed, at most `recent`, in order and without a hole for sure.
    pub recent: Vec<LoggedTxn>,
    /// From here to `last_zxid` the log on disk has every transaction, for sure; for
    /// [`read_range`](crate::read_range).
    pub contiguous_from: Zxid,
    /// Transactions up to here were acknowledged or written and are gone: this member must not vote
    /// until it is synchronized with a leader. Only with [`OnLostTail::Report`].
    pub lost_tail: Option<Zxid>,
    /// Transactions replayed.
    pub replayed: u64,
    /// What an operator should read, in full sentences.
    pub warnings: Vec<String>,
}

/// Loads the history of `disk` into what `make` makes (again for each snapshot that fails).
///
/// Afterwards everything loaded is durable, also the end of a log that a dead process wrote and did
/// not sync. Leftovers of a crash (temporary files, an unfinished adoption, an empty or torn newest
/// log) are cleaned up. Ensemble members read their [epochs](crate::EpochFiles::load) next.
///
/// What is missing in the middle of the history is an error. What is missing at its end, as far as
/// this server can know it, is treated as [`LoadOptions::on_lost_tail`] says.
pub fn load<D: Disk, T: Database>(
    disk: &D,
    options: &LoadOptions,
    mut make: impl FnMut() -> T,
) -> Result<Loaded<T>, StorageError> {
    check_directories(disk)?;
    let initialize = disk.take_initialize()?;
    remove_temporary(disk)?;
    sync_names(disk)?;
    let mut warnings = Vec::new();
    let epoch = current_epoch(disk)?.unwrap_or(0);
    let mut base = find_base(disk, options, epoch, initialize, &mut make, &mut warnings)?;
    let Known { mark, seams } = Known::read(disk, epoch, &mut warnings)?;

    let mut replay = Replay::new(options, &seams, base.zxid);
    let from = Zxid(base.zxid.0.saturating_add(1));
    let mut reader = LogReader::new(disk.clone(), from, options.record_limit)?;
    let replayed = replay.run(disk, &mut reader, &mut base.database);
    base.is_bridged(&replay, replayed)?;
    warnings.append(&mut replay.warnings);
    let end = EndOfHistory { disk, options, reader: &reader, mark, epoch, last: replay.last };
    let lost_tail = end.settle(&mut warnings)?;
    Ok(Loaded {
        database: base.database,
        snapshot: base.snapshot,
        last_zxid: replay.last,
        needs_snapshot: base.needs_snapshot,
        recent: replay.take_recent(),
        contiguous_from: replay.contiguous_from,
        lost_tail,
        replayed: replay.replayed,
        warnings,
    })
}

/// What this server noted about its log, if that still holds.
struct Known {
    mark: Option<Mark>,
    seams: Seams,
}

impl Known {
    /// Reads the notes. Those from before another program used the directory are removed: that one may
    /// have cut the log with good reason, and begun a file of a name that is noted.
    fn read<D: Disk>(
        disk: &D,
        epoch: Epoch,
        warnings: &mut Vec<String>,
    ) -> Result<Self, StorageError> {
        let found = acknowledged::read(disk)?;
        if let Found::Mark(_) = found {
            // A dead process may have written it without waiting; now a start relies on it.
            disk.open(Place::Logs, acknowledged::ACKNOWLEDGED)?.sync()?;
        }
        let mark = match found {
            Found::Mark(mark) if epoch <= mark.epoch => Some(mark),
            _ => None,
        };
        if found == Found::Damaged {
            warnings.push(format!(
                "{} is damaged: it is not known whether the end of the log is missing.",
                disk.path(Place::Logs, acknowledged::ACKNOWLEDGED)
            ));
        }
        let seams = match Seams::read(disk)? {
            Some(seams) if mark.is_some() => Some(seams),
            Some(_) => None,
            None => {
                warnings.push(format!(
                    "{} is damaged: learners that are far behind get a snapshot.",
                    disk.path(Place::Logs, crate::seams::SEAMS)
                ));
                None
            }
        };
        if seams.is_none() {
            Seams::remove(disk)?;
        }
        if mark.is_none() && found != Found::Missing {
            disk.remove(Place::Logs, acknowledged::ACKNOWLEDGED)?;
            disk.sync_dir(Place::Logs)?;
        }
        Ok(Known { mark, seams: seams.unwrap_or_default() })
    }
}

/// Files of one kind in the directory of the other (1): the configuration changed under them.
fn check_directories<D: Disk>(disk: &D) -> Result<(), StorageError> {
    if disk.one_directory() {
        return Ok(());
    }
    let misplaced = |place, prefix: &str, other: &str| -> Result<(), StorageError> {
        match disk.list(place)?.into_iter().find(|name| name.starts_with(prefix)) {
            None => Ok(()),
            Some(name) => Err(StorageError::Directory {
                path: disk.path(place, &name),
                reason: format!(
                    "is in the wrong directory, it belongs into the {other}. Was dataDir or \
                     dataLogDir changed? Move all such files, or change the setting back"
                ),
            }),
        }
    };
    misplaced(Place::Logs, "snapshot.", "dataDir")?;
    misplaced(Place::Snapshots, "log.", "dataLogDir")
}

fn remove_temporary<D: Disk>(disk: &D) -> Result<(), StorageError> {
    for place in [Place::Snapshots, Place::Logs] {
        for name in disk.list(place)? {
            if name.starts_with(names::TEMPORARY) {
                disk.remove(place, &name)?;
            }
        }
    }
    Ok(())
}

/// A dead process may have given a file its name and not come to sync the directory, or failed to. The
/// start reads what stands under that name and builds on it: a loss of power must not bring the file of
/// before back.
fn sync_names<D: Disk>(disk: &D) -> Result<(), StorageError> {
    disk.sync_dir(Place::Snapshots)?;
    if !disk.one_directory() {
        disk.sync_dir(Place::Logs)?;
    }
    Ok(())
}

/// A snapshot that was passed over.
struct Skipped {
    zxid: Zxid,
    path: String,
    why: String,
    /// It looked complete.
    tried: bool,
}

/// Where a replay begins.
struct Base<T> {
    database: T,
    snapshot: Option<SnapshotInfo>,
    zxid: Zxid,
    needs_snapshot: bool,
    /// Newer snapshots that cannot be used, newest first.
    skipped: Vec<Skipped>,
}

impl<T> Base<T> {
    /// After the replay: the log has led past every newer snapshot, and nothing is missing before it.
    fn is_bridged(
        &self,
        replay: &Replay<'_>,
        replayed: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let Some(newest) = self.skipped.first() else { return replayed };
        let (reached, next) = match (&replayed, replay.unproven) {
            (_, Some(seam)) if seam.before < newest.zxid => (seam.before, Some(seam.behind)),
            (Err(StorageError::Hole { previous, found, .. }), _) if *previous < newest.zxid => {
                (*previous, Some(*found))
            }
            (Ok(()), _) if replay.last < newest.zxid => (replay.last, None),
            _ => return replayed,
        };
        Err(StorageError::Unbridged {
            snapshot: newest.path.clone(),
            why: newest.why.clone(),
            zxid: newest.zxid,
            base: self.zxid,
            reached,
            next,
        })
    }
}

fn find_base<D: Disk, T: Database>(
    disk: &D,
    options: &LoadOptions,
    epoch: Epoch,
    initialize: bool,
    make: &mut impl FnMut() -> T,
    warnings: &mut Vec<String>,
) -> Result<Base<T>, StorageError> {
    if let Some((database, info)) = finish_adoption(disk, options, epoch, make, warnings)? {
        let zxid = info.zxid;
        let snapshot = Some(info);
        return Ok(Base { database, snapshot, zxid, needs_snapshot: false, skipped: Vec::new() });
    }
    let mut skipped = Vec::new();
    let found = newest_snapshot(disk, options, make, &mut skipped)?;
    let skips = skipped.iter().map(|skip| format!("Skipped a snapshot: {}.", skip.why));
    warnings.extend(skips);
    if let Some((database, info)) = found {
        let zxid = info.zxid;
        let snapshot = Some(info);
        return Ok(Base { database, snapshot, zxid, needs_snapshot: false, skipped });
    }
    if skipped.iter().any(|skip| skip.tried) {
        let problems = skipped.into_iter().filter(|skip| skip.tried).map(|skip| skip.why).collect();
        let directory = disk.path(Place::Snapshots, "");
        return Err(StorageError::AllSnapshotsBad { directory, problems });
    }
    let zxid = start_without_snapshot(disk, options, initialize)?;
    let mut database = make();
    database.snapshot_loaded(zxid, None).map_err(|reason| StorageError::Directory {
        path: disk.path(Place::Snapshots, ""),
        reason,
    })?;
    let needs_snapshot = Zxid::ZERO <= zxid;
    Ok(Base { database, snapshot: None, zxid, needs_snapshot, skipped })
}

/// The snapshot whose adoption a crash interrupted; everything else is gone afterwards.
fn finish_adoption<D: Disk, T: Database>(
    disk: &D,
    options: &LoadOptions,
    epoch: Epoch,
    make: &mut impl FnMut() -> T,
    warnings: &mut Vec<String>,
) -> Result<Option<(T, SnapshotInfo)>, StorageError> {
    let Some(adoption) = Adoption::interrupted(disk)? else { return Ok(None) };
    match try_snapshot(disk, options, &adoption.snapshot, make) {
        Ok(loaded) => {
            MarkWriter::open(disk, adoption.zxid, epoch)?.set(adoption.zxid, epoch)?;
            adoption.finish(disk)?;
            let path = disk.path(Place::Snapshots, &adoption.snapshot);
            warnings.push(format!("{path} has replaced an older history, as was begun before."));
            Ok(Some(loaded))
        }
        Err(error) if is_damage(&error) => {
            adoption::forget(disk)?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The newest snapshot that is valid in every byte.
fn newest_snapshot<D: Disk, T: Database>(
    disk: &D,
    options: &LoadOptions,
    make: &mut impl FnMut() -> T,
    skipped: &mut Vec<Skipped>,
) -> Result<Option<(T, SnapshotInfo)>, StorageError> {
    let mut tried = 0;
    for (zxid, name) in snapshot_files(disk)? {
        let path = disk.path(Place::Snapshots, &name);
        if !looks_valid(disk, &name)? {
            let why = format!("{path} is not a complete snapshot");
            skipped.push(Skipped { zxid, path, why, tried: false });
            continue;
        }
        if tried == SNAPSHOTS_TRIED {
            break;
        }
        tried += 1;
        match try_snapshot(disk, options, &name, make) {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(error) if is_damage(&error) => {
                skipped.push(Skipped { zxid, path, why: error.to_string(), tried: true });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether a snapshot is at fault, and not the disk or a setting.
fn is_damage(error: &StorageError) -> bool {
    match error {
        StorageError::Snapshot { problem, .. } => {
            !matches!(problem, SnapshotProblem::TooLong { .. })
        }
        _ => false,
    }
}

fn try_snapshot<D: Disk, T: Database>(
    disk: &D,
    options: &LoadOptions,
    name: &str,
    make: &mut impl FnMut() -> T,
) -> Result<(T, SnapshotInfo), StorageError> {
    let mut database = make();
    let info = read_snapshot(disk, name, &mut database, options.record_limit)?;
    match database.snapshot_loaded(info.zxid, info.digest) {
        Ok(()) => Ok((database, info)),
        Err(reason) => Err(StorageError::Snapshot {
            file: disk.path(Place::Snapshots, name),
            offset: info.len,
            problem: SnapshotProblem::State(reason),
        }),
    }
}

/// The zxid at which a history without a snapshot starts.
fn start_without_snapshot<D: Disk>(
    disk: &D,
    options: &LoadOptions,
    initialize: bool,
) -> Result<Zxid, StorageError> {
    let mut reader = LogReader::new(disk.clone(), Zxid::ZERO, options.record_limit)?;
    match reader.next_record()? {
        Some(_) if options.trust_empty => Ok(Zxid::ZERO),
        Some(record) => Err(StorageError::NoSnapshot {
            directory: disk.path(Place::Snapshots, ""),
            log: record.file.to_owned(),
        }),
        None if initialize || options.autocreate => Ok(Zxid::ZERO),
        None => Ok(Zxid(-1)),
    }
}
