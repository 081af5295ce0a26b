//! What a peer did wrong, and why links and roles end.

use oxkeeper_proto::{Epoch, ServerId, Zxid};

use crate::history::HistorySummary;

/// A peer broke the protocol, or cannot go on with this server. Its connection is closed; nothing else
/// changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[allow(missing_docs)]
pub enum Misbehaved {
    #[error("unexpected {got} while {phase}")]
    Unexpected { phase: &'static str, got: String },
    #[error("{packet} cannot be read: {error}")]
    Malformed { packet: &'static str, error: oxkeeper_proto::DecodeError },
    #[error("proposal {got} does not follow {previous}")]
    Gap { previous: Zxid, got: Zxid },
    #[error("packet {packet} proposes transaction {payload}")]
    WrongZxid { packet: Zxid, payload: Zxid },
    #[error("{got} is beyond the leader's epoch {epoch:#x}")]
    BeyondEpoch { epoch: Epoch, got: Zxid },
    #[error("commit of {got}, but the oldest pending proposal is {oldest:?}")]
    CommitOutOfOrder { oldest: Option<Zxid>, got: Zxid },
    #[error("ACK of {got}, but the last proposal is {proposed}")]
    AckOfUnproposed { proposed: Zxid, got: Zxid },
    #[error("the leader's epoch {got:#x} is older than the accepted epoch {accepted:#x}")]
    OldEpoch { accepted: Epoch, got: Epoch },
    #[error(
        "the leader was elected with {theirs} of epoch {epoch:#x}, this server has {ours}, and could say so \
         only by this refusal"
    )]
    BehindLearner { epoch: Epoch, theirs: Zxid, ours: Zxid },
    #[error("ACKEPOCH of epoch {got:#x} by a server that has promised epoch {promised:#x}")]
    BrokenPromise { promised: Epoch, got: Epoch },
    #[error("a check outside a multi was proposed as {0}; no server could load it again")]
    TopLevelCheck(Zxid),
    #[error("server {server} has a newer history ({theirs}) than this leader ({ours})")]
    NewerThanLeader { server: ServerId, theirs: HistorySummary, ours: HistorySummary },
    #[error("server {server} has configuration version {theirs:#x}, this leader {ours:#x}")]
    NewerConfig { server: ServerId, theirs: i64, ours: i64 },
    #[error("more than {0} syncs wait for an answer")]
    TooManySyncs(usize),
    #[error("nothing heard for {0} ms")]
    Silent(u64),
    #[error("a proposal was not acknowledged for {0} ms")]
    Slow(u64),
}

impl Misbehaved {
    /// Did the peer break the protocol? If not, it is silent or slow, or has a history, a promise or a
    /// configuration that elections sort out.
    pub fn breaks_protocol(&self) -> bool {
        match self {
            Misbehaved::Unexpected { .. }
            | Misbehaved::Malformed { .. }
            | Misbehaved::Gap { .. }
            | Misbehaved::WrongZxid { .. }
            | Misbehaved::BeyondEpoch { .. }
            | Misbehaved::CommitOutOfOrder { .. }
            | Misbehaved::AckOfUnproposed { .. }
            | Misbehaved::BrokenPromise { .. }
            | Misbehaved::TopLevelCheck(_) => true,
            Misbehaved::OldEpoch { .. }
            | Misbehaved::BehindLearner { .. }
            | Misbehaved::NewerThanLeader { .. }
            | Misbehaved::NewerConfig { .. }
            | Misbehaved::TooManySyncs(_)
            | Misbehaved::Silent(_)
            | Misbehaved::Slow(_) => false,
        }
    }
}

/// Why a role has ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[allow(missing_docs)]
pub enum Lost {
    #[error("no quorum within initLimit while {waiting}")]
    NoQuorumInTime { waiting: &'static str },
    #[error("no quorum of voters is connected")]
    NoQuorum,
    #[error("server {server} has accepted epoch {theirs:#x}, this is {ours:#x}")]
    PromisedNewer { server: ServerId, theirs: Epoch, ours: Epoch },
    #[error("the epoch's zxids are used up")]
    ZxidsUsedUp,
    #[error("the disk has not written {oldest} within {ms} ms")]
    DiskHangs { oldest: Zxid, ms: u64 },
    #[error("the disk does not keep up: {bytes} bytes wait for it")]
    DiskTooSlow { bytes: usize },
    #[error("no quorum keeps up: proposals of {bytes} bytes wait for it")]
    QuorumTooSlow { bytes: usize },
    #[error(
        "{bytes} bytes from leader {leader} wait for the end of the synchronization, or for their commits"
    )]
    TooMuchQueued { leader: ServerId, bytes: usize },
    #[error("the connection to leader {0} is closed")]
    LeaderClosed(ServerId),
    #[error("leader {leader}: {error}")]
    Leader { leader: ServerId, error: Misbehaved },
    #[error("the log cannot be cut where leader {0} says")]
    CannotCut(ServerId),
}

impl Lost {
    /// See [`Misbehaved::breaks_protocol`].
    pub fn breaks_protocol(&self) -> bool {
        matches!(self, Lost::Leader { error, .. } if error.breaks_protocol())
    }
}

/// Why a leader closes a learner's link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum CloseReason {
    #[error("learner {}: {error}", server.map_or("unknown".to_owned(), |id| id.to_string()))]
    Misbehaved { server: Option<ServerId>, error: Misbehaved },
    #[error("there are {0} learners already")]
    TooMany(usize),
    #[error("learner {0}: connected again")]
    ConnectedAgain(ServerId),
}

impl CloseReason {
    /// See [`Misbehaved::breaks_protocol`].
    pub fn breaks_protocol(&self) -> bool {
        matches!(self, CloseReason::Misbehaved { error, .. } if error.breaks_protocol())
    }
}

/// What a learner's packet can end: its own link, or the whole role.
#[derive(Debug)]
pub(crate) enum Fault {
    Link(Misbehaved),
    Role(Lost),
}

impl From<Misbehaved> for Fault {
    fn from(error: Misbehaved) -> Fault {
        Fault::Link(error)
    }
}

impl From<Lost> for Fault {
    fn from(lost: Lost) -> Fault {
        Fault::Role(lost)
    }
}
