//! From a loaded directory to a node and its disk queue.

use std::sync::Arc;

use oxkeeper_proto::{Epochs, Zxid};
use oxkeeper_replica::{ClientPortSettings, Now, Replica, ReplicaConfig, Shared};
use oxkeeper_storage::{Disk, EpochFiles, StorageError};

use crate::loading::LoadedState;
use crate::node::Node;
use crate::snapshot::{Purpose, SnapshotJob, SnapshotStep};
use crate::store::{HistoryId, LogEnds, Store, StoreSettings};

/// Everything a server is told at its start.
pub struct NodeSettings {
    /// Of the disk queue.
    pub store: StoreSettings,
    /// Of the client port.
    pub clients: ClientPortSettings,
    /// Of the replica.
    pub replica: ReplicaConfig,
    /// Of an ensemble's member; `None`: standalone.
    pub zab: Option<oxkeeper_zab::Config>,
    /// Places watches in memory; clients should not know it.
    pub watch_seed: u64,
    /// Random numbers, for thresholds that should differ between members.
    pub random: Box<dyn FnMut() -> u64 + Send>,
}

/// A server that has not run yet.
#[derive(Debug)]
pub struct Started<D: Disk> {
    /// What connections and the replica both see.
    pub shared: Arc<Shared>,
    /// The server as a value.
    pub node: Node,
    /// Its disk queue.
    pub store: Store<D>,
    /// Of an ensemble's member.
    pub epochs: Option<Epochs>,
}

/// Makes a server of what [`load_state`](crate::load_state) has read.
pub fn start<D: Disk>(
    disk: D,
    loaded: LoadedState,
    settings: NodeSettings,
    now: Now,
) -> Result<Started<D>, StorageError> {
    let LoadedState { state, history, contiguous_from, needs_snapshot, .. } = loaded;
    let NodeSettings { store, clients, replica, zab, watch_seed, random } = settings;
    let shared = Arc::new(Shared::new(state, clients, watch_seed));
    if needs_snapshot {
        let job = SnapshotJob::new(
            disk.clone(),
            shared.clone(),
            store.snapshot,
            HistoryId::default(),
            Purpose::Periodic,
        );
        let SnapshotStep::Complete(complete) = job.run()? else {
            panic!("nobody else has the state yet");
        };
        (*complete).publish()?;
    }
    let last = history.last_zxid;
    let epochs = match &zab {
        Some(_) => Some(EpochFiles::new(disk.clone()).load(last)?),
        None => None,
    };
    let ends = LogEnds { proven_from: contiguous_from, last: last.max(Zxid::ZERO) };
    let store = Store::new(disk, store, ends, shared.clone(), random)?;
    let mut outputs = Vec::new();
    let replica = match (zab, epochs) {
        (Some(zab), Some(epochs)) => {
            Replica::member(shared.clone(), replica, zab, epochs, history, now, &mut outputs)
        }
        _ => Replica::solo(shared.clone(), replica, now, &mut outputs),
    };
    Ok(Started { shared, node: Node::new(replica, outputs), store, epochs })
}
