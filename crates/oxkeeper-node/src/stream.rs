//! The tree on its way to a learner: snapshot body bytes, made in small steps under the state's read
//! lock. Source: `docs/spec/quorum-protocol.md` 10.6.

use std::sync::Arc;

use oxkeeper_replica::{Shared, StateId};
use oxkeeper_state::Walk;

/// What a step has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamStep {
    /// There is more.
    More,
    /// That was all; the signature follows.
    End,
    /// The state was replaced, or has taken in what no quorum vouches for. What was sent must not be
    /// completed: the learner would take transactions for committed that a later leader may cut.
    Outdated,
}

/// A snapshot stream.
pub struct TreeStream {
    shared: Arc<Shared>,
    /// The state that is to be sent.
    of: StateId,
    /// Once it has begun.
    walk: Option<Walk>,
}

impl std::fmt::Debug for TreeStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TreeStream").field("begun", &self.walk.is_some()).finish_non_exhaustive()
    }
}

/// Nodes looked at, and bytes made, under one hold of the read lock.
const STEP: (u32, usize) = (512, 64 * 1024);
/// Bytes of one chunk.
const CHUNK: usize = 256 * 1024;

impl TreeStream {
    /// Of the state that was `of` when the SNAP packet was made. It is read from when the first chunk is
    /// asked for, so the tree is at least as new as the packet.
    pub fn new(shared: Arc<Shared>, of: StateId) -> TreeStream {
        TreeStream { shared, of, walk: None }
    }

    /// Appends some hundred KiB to `out`.
    pub fn next_chunk(&mut self, out: &mut Vec<u8>) -> StreamStep {
        let start = out.len();
        while out.len() - start < CHUNK {
            match self.step(STEP.0, STEP.1, out) {
                StreamStep::More => {}
                end => return end,
            }
        }
        StreamStep::More
    }

    /// Appends what `nodes` nodes make, or about `bytes`.
    pub fn step(&mut self, nodes: u32, bytes: usize, out: &mut Vec<u8>) -> StreamStep {
        let state = self.shared.state.read();
        if self.shared.state_id() != self.of {
            return StreamStep::Outdated;
        }
        let walk = self.walk.get_or_insert_with(|| {
            let walk = Walk::begin(&state);
            walk.put_tables(out);
            walk
        });
        match walk.step(&state, nodes, bytes, out) {
            true => StreamStep::End,
            false => StreamStep::More,
        }
    }
}
