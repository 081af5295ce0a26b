//! Start-up: the newest valid snapshot, then the log. Source: `docs/spec/storage-formats.md` 7.

use std::collections::VecDeque;

use bytes::Bytes;
pub use oxkeeper_proto::snapshot::Database;
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{DecodeError, Zxid};

use crate::disk::{Disk, Place};
use crate::error::{LogProblem, StorageError};
use crate::log_file::{DEFAULT_RECORD_LIMIT, EndOfLog};
use crate::log_reader::{LogReader, log_files, remove_empty_newest, settle};
use crate::log_writer::follows;
use crate::names;
use crate::snapshot_reader::{SnapshotInfo, looks_valid, read_snapshot, snapshot_files};

/// Most snapshots that are tried, newest first.
const SNAPSHOTS_TRIED: usize = 100;

/// A transaction as it was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// From the payload's header.
    pub zxid: Zxid,
    /// Header, record, digest: the bytes of the log and of the wire.
    pub payload: Bytes,
}

/// Settings of a start.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// `snapshot.trust.empty`: logs without a snapshot are replayed from the beginning.
    pub trust_empty: bool,
    /// `zookeeper.db.autocreate`: an empty directory is an empty database.
    pub autocreate: bool,
    /// Rescue: a check outside of a multi (type 13) is skipped with a warning.
    pub skip_lone_checks: bool,
    /// Longest payload, string or buffer accepted, in bytes.
    pub record_limit: usize,
    /// How many of the last transactions are kept for learners (`commitLogCount`).
    pub recent: usize,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            trust_empty: false,
            autocreate: true,
            skip_lone_checks: false,
            record_limit: DEFAULT_RECORD_LIMIT,
            recent: 500,
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
    /// The last transactions replayed, at most `recent`, in order and without a hole.
    pub recent: Vec<Proposal>,
    /// Transactions replayed.
    pub replayed: u64,
    /// What an operator should read, in full sentences.
    pub warnings: Vec<String>,
}

/// Loads the history of `disk` into what `make` makes (again for each snapshot that fails).
///
/// Afterwards everything loaded is durable, also the end of a log that a dead process wrote and did
/// not sync. Leftovers of a crash (temporary files, an empty or torn newest log) are cleaned up.
/// Ensemble members read their [epochs](crate::EpochFiles::load) next.
pub fn load<D: Disk, T: Database>(
    disk: &D,
    options: &LoadOptions,
    mut make: impl FnMut() -> T,
) -> Result<Loaded<T>, StorageError> {
    check_directories(disk)?;
    let initialize = disk.take_initialize()?;
    remove_temporary(disk)?;
    let mut warnings = Vec::new();
    if let Some(name) = remove_empty_newest(disk)? {
        warnings.push(format!("Removed the empty log {}.", disk.path(Place::Logs, &name)));
    }
    let (database, snapshot, last_zxid, needs_snapshot) =
        match newest_snapshot(disk, options, &mut make, &mut warnings)? {
            Some((database, info)) => {
                let zxid = info.zxid;
                (database, Some(info), zxid, false)
            }
            None => {
                let start = start_without_snapshot(disk, options, initialize)?;
                (make(), None, start, Zxid::ZERO <= start)
            }
        };
    let mut loaded = Loaded {
        database,
        snapshot,
        last_zxid,
        needs_snapshot,
        recent: Vec::new(),
        replayed: 0,
        warnings,
    };
    replay(disk, options, &mut loaded)?;
    Ok(loaded)
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

/// The newest snapshot that is valid in every byte.
fn newest_snapshot<D: Disk, T: Database>(
    disk: &D,
    options: &LoadOptions,
    make: &mut impl FnMut() -> T,
    warnings: &mut Vec<String>,
) -> Result<Option<(T, SnapshotInfo)>, StorageError> {
    let mut problems = Vec::new();
    for (_, name) in snapshot_files(disk)? {
        if problems.len() == SNAPSHOTS_TRIED {
            break;
        }
        let path = disk.path(Place::Snapshots, &name);
        if !looks_valid(disk, &name)? {
            warnings.push(format!("Skipped {path}: it is not a complete snapshot."));
            continue;
        }
        let mut database = make();
        match read_snapshot(disk, &name, &mut database, options.record_limit) {
            Ok(info) => match database.snapshot_loaded(info.zxid, info.digest) {
                Ok(()) => return Ok(Some((database, info))),
                Err(reason) => problems.push(format!("{path}: {reason}")),
            },
            Err(error @ StorageError::Disk(_)) => return Err(error),
            Err(error) => problems.push(error.to_string()),
        }
        warnings.extend(problems.last().map(|problem| format!("Skipped a snapshot: {problem}.")));
    }
    if problems.is_empty() {
        return Ok(None);
    }
    Err(StorageError::AllSnapshotsBad { directory: disk.path(Place::Snapshots, ""), problems })
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

/// Applies the log after the snapshot, then owns its end.
fn replay<D: Disk, T: Database>(
    disk: &D,
    options: &LoadOptions,
    loaded: &mut Loaded<T>,
) -> Result<(), StorageError> {
    if loaded.snapshot.is_none() {
        let zxid = loaded.last_zxid;
        loaded.database.snapshot_loaded(zxid, None).map_err(|reason| StorageError::Directory {
            path: disk.path(Place::Snapshots, ""),
            reason,
        })?;
    }
    if log_files(disk)?.is_empty() {
        return Ok(());
    }
    let from = Zxid(loaded.last_zxid.0.saturating_add(1));
    let mut reader = LogReader::new(disk.clone(), from, options.record_limit)?;
    let mut recent: VecDeque<(Zxid, Vec<u8>)> = VecDeque::with_capacity(options.recent.min(1024));
    while let Some(record) = reader.next_record()? {
        let previous = loaded.last_zxid;
        if !follows(previous, record.zxid) {
            let (file, offset) = (record.file.to_owned(), record.offset);
            return Err(StorageError::Hole { file, offset, found: record.zxid, previous });
        }
        let problem = |problem| {
            let (file, offset) = (record.file.to_owned(), record.offset);
            StorageError::Log { file, offset, problem }
        };
        match Payload::decode(record.payload) {
            Ok(payload) => loaded
                .database
                .apply(&payload, record.payload)
                .map_err(|reason| problem(LogProblem::Apply(reason)))?,
            Err(error) if is_lone_check(&error) && options.skip_lone_checks => {
                loaded.warnings.push(format!(
                    "Skipped transaction {} ({}, byte {}): a check outside of a multi.",
                    record.zxid, record.file, record.offset
                ));
            }
            Err(error) if is_lone_check(&error) => return Err(problem(LogProblem::LoneCheck)),
            Err(error) => return Err(problem(LogProblem::Record(error))),
        }
        loaded.last_zxid = record.zxid;
        loaded.replayed += 1;
        if options.recent > 0 {
            // The oldest one's buffer serves for the newest: no allocation per record.
            let oldest = if recent.len() == options.recent { recent.pop_front() } else { None };
            let mut payload = oldest.map_or_else(Vec::new, |(_, payload)| payload);
            payload.clear();
            payload.extend_from_slice(record.payload);
            recent.push_back((record.zxid, payload));
        }
    }
    // Boxed: a buffer may have served for a much longer payload before.
    let exact = |(zxid, payload): (Zxid, Vec<u8>)| Proposal {
        zxid,
        payload: payload.into_boxed_slice().into(),
    };
    loaded.recent = recent.into_iter().map(exact).collect();
    own_the_end(disk, &reader, &mut loaded.warnings)
}

fn is_lone_check(error: &DecodeError) -> bool {
    matches!(error, DecodeError::BadValue { what: "transaction type", value: 13, at: 32 })
}

/// Makes the end of the newest log durable, and tells about unfinished records.
fn own_the_end<D: Disk>(
    disk: &D,
    reader: &LogReader<D>,
    warnings: &mut Vec<String>,
) -> Result<(), StorageError> {
    let mut cut = false;
    for unfinished in reader.unfinished() {
        cut |= unfinished.newest && unfinished.end == EndOfLog::Torn;
        let path = disk.path(Place::Logs, &unfinished.name);
        let why = match unfinished.end {
            EndOfLog::Torn => "was never written completely",
            EndOfLog::NoEndByte => "has no end byte",
            _ => "is cut short",
        };
        warnings.push(format!(
            "{path} ends at byte {} with a record that {why}; it and what follows in that file is \
             ignored.",
            unfinished.offset
        ));
    }
    match reader.newest_end() {
        Some((name, end)) => settle(disk, name, *end, cut),
        None => Ok(()),
    }
}
