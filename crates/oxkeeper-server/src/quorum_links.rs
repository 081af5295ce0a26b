//! The quorum port: connections between a leader and its learners.
//!
//! [`LeaderLink`] is a learner's connection to its leader, [`LearnerListener`] a leader's port and
//! its links to learners. Both read packets in batches (all that one read brought) and hand them to
//! a callback, which must not block; both write without blocking the caller. The end of a link is
//! reported once, at once, with its reason, unless this side asked for it.
//!
//! A partner that vanishes without a word is found out by ticks, not by TCP: connecting is limited by
//! `connectToLearnerMasterLimit` (or `initLimit`) ticks, a connection's first packet by `initLimit`
//! ticks; from then on the protocol itself counts (`oxkeeper_zab`: `initLimit` ticks up to UPTODATE,
//! `syncLimit` ticks without a packet afterwards, on both sides) and closes the link, which shuts the
//! socket down whatever waits in it.
//!
//! Source: `docs/spec/quorum-protocol.md` 8, 9, 10.6.

use std::time::Duration;

mod leader_link;
mod learner_listener;
mod packets;
#[cfg(test)]
mod tests;

pub use crate::outbox::SnapshotSource;
pub use leader_link::{LeaderEvent, LeaderLink, LeaderLinkConfig};
pub use learner_listener::{LearnerEvent, LearnerListener, ListenerConfig};

/// One connection accepted on this server's quorum port, as `oxkeeper_zab::LinkId`. Increasing, never
/// reused within a process.
pub type LinkId = u64;

/// Bytes that may wait for a peer before it is cut off, if nothing else is configured.
pub const DEFAULT_QUEUE_LIMIT: usize = 512 << 20;

/// A leader that refuses connections may be about to open its port: it is tried for this long. (The
/// reference tries five times, 100 ms apart.)
pub const REFUSED_FOR: Duration = Duration::from_millis(500);

/// Bounds of what one connection may make this server hold.
#[derive(Clone, Copy, Debug)]
pub struct LinkLimits {
    /// Longest string or buffer accepted in a packet or snapshot (`jute.maxbuffer` plus
    /// `jute.maxbuffer.extrasize`), in bytes.
    pub max_len: usize,
    /// Most bytes that may wait to be written.
    pub queue: usize,
}
