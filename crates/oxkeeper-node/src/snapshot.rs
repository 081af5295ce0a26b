//! A snapshot of a tree that goes on changing, written in steps.

use std::sync::Arc;

use oxkeeper_proto::snapshot::SnapshotDigest;
use oxkeeper_proto::txn::DIGEST_VERSION;
use oxkeeper_replica::{Shared, StateId};
use oxkeeper_state::{State, Walk};
use oxkeeper_storage::{
    CompleteSnapshot, Compression, Disk, Sections, SnapshotWriter, StorageError,
};

use crate::store::HistoryId;

/// How snapshots are written.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotSettings {
    /// `snapshot.compression.method`.
    pub compression: Compression,
    /// `serializeLastProcessedZxid.enabled`.
    pub last_zxid_section: bool,
}

/// How much one step does.
#[derive(Clone, Copy, Debug)]
pub struct StepSize {
    /// Nodes looked at under one hold of the read lock, at most.
    pub nodes: u32,
    /// Bytes made under one hold of the read lock, about.
    pub bytes: usize,
    /// Bytes that go to the disk at once, about.
    pub chunk: usize,
}

impl StepSize {
    /// Some ten µs under the lock; writes that a disk likes.
    pub const USUAL: StepSize = StepSize { nodes: 256, bytes: 32 * 1024, chunk: 256 * 1024 };
}

/// What a step has come to.
#[derive(Debug)]
pub enum SnapshotStep<D: Disk> {
    /// There is more to write.
    More,
    /// Written and durable, but without its name; see [`CompleteSnapshot::publish`].
    Complete(Box<CompleteSnapshot<D>>),
    /// The state was replaced meanwhile: half of one tree and half of another make no snapshot.
    Outdated,
}

/// A snapshot being written. Nothing is touched before the first step.
pub struct SnapshotJob<D: Disk> {
    disk: D,
    shared: Arc<Shared>,
    settings: SnapshotSettings,
    /// The history when it was asked for.
    history: HistoryId,
    purpose: Purpose,
    begun: Option<Begun<D>>,
}

/// What a snapshot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To shorten the next start.
    Periodic,
    /// To be the whole history: the tree came from the leader.
    Adoption,
}

struct Begun<D: Disk> {
    walk: Walk,
    writer: SnapshotWriter<D>,
    /// Of the state that is walked.
    state: StateId,
    chunk: Vec<u8>,
}

impl<D: Disk> std::fmt::Debug for SnapshotJob<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotJob").field("history", &self.history).finish_non_exhaustive()
    }
}

impl<D: Disk> SnapshotJob<D> {
    /// A snapshot of the state in `shared`, asked for in this history of the store.
    pub fn new(
        disk: D,
        shared: Arc<Shared>,
        settings: SnapshotSettings,
        history: HistoryId,
        purpose: Purpose,
    ) -> SnapshotJob<D> {
        SnapshotJob { disk, shared, settings, history, purpose, begun: None }
    }

    /// Goes with the outcome to [`Op::Publish`](crate::Op::Publish).
    pub fn history(&self) -> HistoryId {
        self.history
    }

    /// Writes a piece. After anything but [`SnapshotStep::More`] the job is over.
    pub fn step(&mut self, size: StepSize) -> Result<SnapshotStep<D>, StorageError> {
        let begun = match &mut self.begun {
            Some(begun) => begun,
            None => {
                let begun = self.begin(size)?;
                self.begun.insert(begun)
            }
        };
        let mut done = false;
        while !done && begun.chunk.len() < size.chunk {
            let state = self.shared.state.read();
            if self.shared.state_id() != begun.state {
                return Ok(SnapshotStep::Outdated);
            }
            done = begun.walk.step(&state, size.nodes, size.bytes, &mut begun.chunk);
        }
        begun.writer.write(&begun.chunk)?;
        begun.chunk.clear();
        if !done {
            return Ok(SnapshotStep::More);
        }
        self.complete()
    }

    /// Writes all of it at once.
    pub fn run(mut self) -> Result<SnapshotStep<D>, StorageError> {
        loop {
            match self.step(StepSize::USUAL)? {
                SnapshotStep::More => {}
                end => return Ok(end),
            }
        }
    }

    fn begin(&self, size: StepSize) -> Result<Begun<D>, StorageError> {
        let (walk, state) = {
            let state = self.shared.state.read();
            (Walk::begin(&state), self.shared.state_id())
        };
        let create = match self.purpose {
            Purpose::Periodic => SnapshotWriter::create,
            Purpose::Adoption => SnapshotWriter::create_adopted,
        };
        let writer = create(self.disk.clone(), walk.zxid(), self.settings.compression)?;
        let mut chunk = Vec::with_capacity(size.chunk + size.bytes);
        walk.put_tables(&mut chunk);
        Ok(Begun { walk, writer, state, chunk })
    }

    fn complete(&mut self) -> Result<SnapshotStep<D>, StorageError> {
        let Some(Begun { walk, writer, state: began_in, .. }) = self.begun.take() else {
            return Ok(SnapshotStep::Outdated);
        };
        let sections = {
            let state = self.shared.state.read();
            if self.shared.state_id() != began_in {
                return Ok(SnapshotStep::Outdated);
            }
            sections(&walk, &state, self.settings.last_zxid_section)
        };
        Ok(SnapshotStep::Complete(Box::new(writer.complete(&sections)?)))
    }
}

fn sections(walk: &Walk, state: &State, with_last_zxid: bool) -> Sections {
    let end = walk.finish(state);
    let digest = end.digest.map(|(zxid, tree)| SnapshotDigest {
        zxid,
        version: DIGEST_VERSION,
        tree: tree as i64,
    });
    // Never the last zxid alone: no Apache server could read that.
    let last_zxid = (with_last_zxid && digest.is_some()).then_some(end.last_zxid);
    Sections { digest, last_zxid }
}
