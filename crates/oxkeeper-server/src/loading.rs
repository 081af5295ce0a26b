//! Start-up, and starting over after TRUNC: the data directory to a state and a history.

use std::time::{Duration, Instant};

use oxkeeper_proto::snapshot::{Database, NodeRecord, SnapshotDigest, SnapshotSink};
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{Acl, Zxid};
use oxkeeper_state::{Options, State, StateDatabase};
use oxkeeper_storage::{Disk, LoadOptions, StorageError, load, log_diff_allowed, read_range};
use oxkeeper_zab::{History, Proposal};

/// Old proposals for one learner are not worth more memory than this, in bytes.
const MAX_LOG_DIFF: usize = 256 << 20;

/// How a data directory is read.
#[derive(Clone, Copy, Debug)]
pub struct LoadSettings {
    /// What is accepted.
    pub options: LoadOptions,
    /// Where entries lie in memory; see [`State::new`].
    pub seed: u64,
    /// Digests and owner rules.
    pub state: Options,
}

/// A loaded directory.
#[derive(Debug)]
pub struct LoadedState {
    /// The state after the last logged transaction.
    pub state: State,
    /// Its zxid and the newest proposals.
    pub history: History,
    /// The caller must write a snapshot before it serves.
    pub needs_snapshot: bool,
    /// Transactions replayed on top of the snapshot.
    pub replayed: u64,
    /// Time until the snapshot was read.
    pub snapshot_time: Duration,
    /// Time for the log behind it.
    pub replay_time: Duration,
    /// For the operator.
    pub warnings: Vec<String>,
}

/// A database that knows when its snapshot was complete.
struct Timed {
    database: StateDatabase,
    snapshot_read: Instant,
}

impl SnapshotSink for Timed {
    fn session(&mut self, id: i64, timeout_ms: i32) {
        self.database.session(id, timeout_ms);
    }

    fn acl(&mut self, id: i64, acl: Vec<Acl>) {
        self.database.acl(id, acl);
    }

    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), String> {
        self.database.node(node)
    }
}

impl Database for Timed {
    fn snapshot_loaded(
        &mut self,
        zxid: Zxid,
        digest: Option<SnapshotDigest>,
    ) -> Result<(), String> {
        self.database.snapshot_loaded(zxid, digest)?;
        self.snapshot_read = Instant::now();
        Ok(())
    }

    fn apply(&mut self, payload: &Payload<'_>, bytes: &[u8]) -> Result<(), String> {
        self.database.apply(payload, bytes)
    }
}

/// Loads the newest valid snapshot and the log behind it.
pub fn load_state<D: Disk>(disk: &D, settings: &LoadSettings) -> Result<LoadedState, StorageError> {
    let begun = Instant::now();
    let make = || Timed {
        database: StateDatabase::new(settings.seed, settings.state),
        snapshot_read: Instant::now(),
    };
    let loaded = load(disk, &settings.options, make)?;
    let snapshot_time = loaded.database.snapshot_read.duration_since(begun);
    let replay_time = loaded.database.snapshot_read.elapsed();
    let recent = loaded
        .recent
        .into_iter()
        .map(|logged| Proposal { zxid: logged.zxid, payload: logged.payload })
        .collect();
    let mut state = loaded.database.database.into_state();
    state.set_last_zxid(loaded.last_zxid);
    Ok(LoadedState {
        state,
        history: History { last_zxid: loaded.last_zxid, recent, lost_tail: None },
        needs_snapshot: loaded.needs_snapshot,
        replayed: loaded.replayed,
        snapshot_time,
        replay_time,
        warnings: loaded.warnings,
    })
}

/// Old proposals for a learner that has everything up to `from`; `None` if a snapshot serves it
/// better. Starts with the last proposal at or below `from`, as the choice between DIFF and TRUNC
/// needs it.
pub fn read_log<D: Disk>(
    disk: &D,
    from: Zxid,
    to: Zxid,
    factor: f64,
    record_limit: usize,
) -> Option<Vec<Proposal>> {
    let read = || -> Result<_, StorageError> {
        if !log_diff_allowed(disk, from, factor)? {
            return Ok(None);
        }
        read_range(disk, from, to, record_limit, MAX_LOG_DIFF)
    };
    let span = match read() {
        Ok(span) => span?,
        Err(error) => {
            tracing::warn!(%error, "cannot read the log for a learner; it gets a snapshot");
            return None;
        }
    };
    let base = Proposal { zxid: span.base, payload: bytes::Bytes::new() };
    let proposals = span.proposals.into_iter();
    let proposals = proposals.map(|logged| Proposal { zxid: logged.zxid, payload: logged.payload });
    Some(std::iter::once(base).chain(proposals).collect())
}
