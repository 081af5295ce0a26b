//! What a peer did wrong.

use oxkeeper_proto::{ServerId, Zxid};

/// A peer broke the protocol. Its connection is closed; nothing else changes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Misbehaved {
    #[error("unexpected {got} while {phase}")]
    Unexpected { phase: &'static str, got: String },
    #[error("{packet} cannot be read: {error}")]
    Malformed { packet: &'static str, error: oxkeeper_proto::DecodeError },
    #[error("proposal {got} does not follow {previous}")]
    Gap { previous: Zxid, got: Zxid },
    #[error("commit of {got}, but the oldest pending proposal is {oldest:?}")]
    CommitOutOfOrder { oldest: Option<Zxid>, got: Zxid },
    #[error("ACK of {got}, but the last proposal is {proposed}")]
    AckOfUnproposed { proposed: Zxid, got: Zxid },
    #[error("the leader's epoch {got:#x} is older than the accepted epoch {accepted:#x}")]
    OldEpoch { accepted: u32, got: u32 },
    #[error("a check outside a multi was proposed as {0}; no server could load it again")]
    TopLevelCheck(Zxid),
    #[error("server {server} has a newer history ({theirs:?}) than this leader ({ours:?})")]
    NewerThanLeader { server: ServerId, theirs: (u32, Zxid), ours: (u32, Zxid) },
    #[error("server {server} has configuration version {theirs:#x}, this leader {ours:#x}")]
    NewerConfig { server: ServerId, theirs: i64, ours: i64 },
    #[error("nothing heard for {0} ms")]
    Silent(u64),
    #[error("a proposal was not acknowledged for {0} ms")]
    Slow(u64),
}
