//! Writing snapshots of a tree that goes on changing.

use std::sync::Arc;
use std::time::Duration;

use oxkeeper_proto::Zxid;
use oxkeeper_proto::snapshot::SnapshotDigest;
use oxkeeper_proto::txn::DIGEST_VERSION;
use oxkeeper_replica::Shared;
use oxkeeper_state::Walk;
use oxkeeper_storage::{
    CompleteSnapshot, Compression, RealDisk, Sections, SnapshotWriter, StorageError, TxnLog,
};

/// Nodes looked at, and bytes made, under one hold of the read lock: some ten µs.
const STEP: (u32, usize) = (256, 32 * 1024);
/// Bytes between two pauses.
const CHUNK: usize = 256 * 1024;

/// How snapshots are written.
#[derive(Clone, Debug)]
pub struct SnapshotSettings {
    /// `snapshot.compression.method`.
    pub compression: Compression,
    /// `serializeLastProcessedZxid.enabled`.
    pub last_zxid_section: bool,
    /// Pause after each 256 KiB of a snapshot that nobody waits for: leaves disk and processor to the
    /// writes that go on.
    pub pace: Duration,
}

/// A snapshot that is durable but not visible yet.
pub struct Finished(CompleteSnapshot<RealDisk>);

impl std::fmt::Debug for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "snapshot of {}", self.0.zxid())
    }
}

impl Finished {
    /// Gives it its name; see [`CompleteSnapshot::publish`].
    pub fn publish(self) -> Result<Zxid, StorageError> {
        let zxid = self.0.zxid();
        let name = self.0.publish()?;
        tracing::info!("Snapshotting: {zxid} to {name}");
        Ok(zxid)
    }
}

impl Finished {
    /// Makes it the whole history; see [`TxnLog::adopt`].
    pub fn adopt(self, log: &mut TxnLog<RealDisk>) -> Result<Zxid, StorageError> {
        let zxid = self.0.zxid();
        let name = log.adopt(self.0)?;
        tracing::info!("Snapshotting: {zxid} to {name}");
        Ok(zxid)
    }
}

/// Writes a snapshot of the state in `shared`, in small steps. `pace`: pause between chunks. `None` if
/// the state was replaced meanwhile: half of one tree and half of another make no snapshot.
pub fn write(
    disk: &RealDisk,
    shared: &Arc<Shared>,
    settings: &SnapshotSettings,
    pace: Option<Duration>,
) -> Result<Option<Finished>, StorageError> {
    let (mut walk, generation) = {
        let state = shared.state.read();
        (Walk::begin(&state), shared.generation())
    };
    // A periodic snapshot of the same zxid may be under way.
    let create =
        if pace.is_some() { SnapshotWriter::create } else { SnapshotWriter::create_adopted };
    let mut writer = create(disk.clone(), walk.zxid(), settings.compression)?;
    let mut chunk = Vec::with_capacity(CHUNK + STEP.1);
    walk.put_tables(&mut chunk);
    let mut done = false;
    while !done {
        while !done && chunk.len() < CHUNK {
            let state = shared.state.read();
            if shared.generation() != generation {
                return Ok(None);
            }
            done = walk.step(&state, STEP.0, STEP.1, &mut chunk);
        }
        writer.write(&chunk)?;
        chunk.clear();
        if let Some(pause) = pace.filter(|pause| !done && !pause.is_zero()) {
            std::thread::sleep(pause);
        }
    }
    let end = {
        let state = shared.state.read();
        if shared.generation() != generation {
            return Ok(None);
        }
        walk.finish(&state)
    };
    let digest = end.digest.map(|(zxid, tree)| SnapshotDigest {
        zxid,
        version: DIGEST_VERSION,
        tree: tree as i64,
    });
    // Never the last zxid alone: no Apache server could read that.
    let last_zxid = (settings.last_zxid_section && digest.is_some()).then_some(end.last_zxid);
    Ok(Some(Finished(writer.complete(&Sections { digest, last_zxid })?)))
}
