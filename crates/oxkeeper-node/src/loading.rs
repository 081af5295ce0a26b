//! Start-up, and starting over after TRUNC: the data directory to a state and a history.

use oxkeeper_proto::snapshot::{Database, DigestCheck, NodeRecord, SnapshotDigest, SnapshotSink};
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{Acl, Zxid};
use oxkeeper_state::{Options, State, StateDatabase};
use oxkeeper_storage::{Disk, LoadOptions, LoggedTxn, StorageError, load};
use oxkeeper_zab::{History, Proposal};

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
    /// From here to its zxid the log on disk has every transaction, for sure.
    pub contiguous_from: Zxid,
    /// The caller must write a snapshot before it serves.
    pub needs_snapshot: bool,
    /// Transactions replayed on top of the snapshot.
    pub replayed: u64,
    /// For the operator.
    pub warnings: Vec<String>,
}

/// How far a load has come, for those who measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// It begins.
    Begun,
    /// The snapshot is read.
    SnapshotRead,
    /// The log behind it, too.
    Loaded {
        /// Transactions replayed.
        replayed: u64,
    },
}

/// A database that tells when its snapshot was complete.
struct Watched<'a> {
    database: StateDatabase,
    snapshot_read: &'a dyn Fn(),
}

impl SnapshotSink for Watched<'_> {
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

impl Database for Watched<'_> {
    fn snapshot_loaded(
        &mut self,
        zxid: Zxid,
        digest: Option<SnapshotDigest>,
    ) -> Result<(), String> {
        self.database.snapshot_loaded(zxid, digest)?;
        (self.snapshot_read)();
        Ok(())
    }

    fn apply(&mut self, payload: &Payload<'_>, bytes: &[u8]) -> Result<DigestCheck, String> {
        self.database.apply(payload, bytes)
    }
}

/// Loads the newest valid snapshot and the log behind it.
pub fn load_state<D: Disk>(
    disk: &D,
    settings: &LoadSettings,
    reached: &dyn Fn(Milestone),
) -> Result<LoadedState, StorageError> {
    reached(Milestone::Begun);
    let snapshot_read = || reached(Milestone::SnapshotRead);
    let make = || Watched {
        database: StateDatabase::new(settings.seed, settings.state),
        snapshot_read: &snapshot_read,
    };
    let loaded = load(disk, &settings.options, make)?;
    reached(Milestone::Loaded { replayed: loaded.replayed });
    let recent = loaded.recent.into_iter().map(proposal).collect();
    let mut state = loaded.database.database.into_state();
    state.set_last_zxid(loaded.last_zxid);
    Ok(LoadedState {
        state,
        history: History { last_zxid: loaded.last_zxid, recent, lost_tail: loaded.lost_tail },
        contiguous_from: loaded.contiguous_from,
        needs_snapshot: loaded.needs_snapshot,
        replayed: loaded.replayed,
        warnings: loaded.warnings,
    })
}

/// What the log has as the protocol wants it.
pub(crate) fn proposal(logged: LoggedTxn) -> Proposal {
    Proposal { zxid: logged.zxid, payload: logged.payload }
}
