//! What must be done, by who does it.

use bytes::Bytes;
use oxkeeper_proto::client::Id;
use oxkeeper_proto::quorum::{Notification, Packet};
use oxkeeper_proto::{Epoch, ServerId, Zxid};

use crate::{CloseReason, LinkId, Proposal};

/// What must be done, in order.
#[derive(Clone, Debug)]
pub enum Output {
    /// By the election port.
    Election(ElectionRequest),
    /// By the quorum port.
    Port(PortRequest),
    /// By the disk's queue, each after those before it.
    Disk(DiskRequest),
    /// By a reader of the log, beside the queue. Answer: [`Input::LogRead`](crate::Input::LogRead).
    ReadLog(LogRead),
    /// By the replica.
    Replica(Effect),
}

impl Output {
    pub(crate) fn to_leader(packet: Packet) -> Output {
        Output::Port(PortRequest::ToLeader(packet))
    }

    pub(crate) fn to_learner(link: LinkId, packet: Packet) -> Output {
        Output::Port(PortRequest::ToLearner(link, packet))
    }

    /// PROPOSAL, or INFORM for an observer.
    pub(crate) fn proposal(link: LinkId, proposal: Proposal, inform: bool) -> Output {
        Output::Port(PortRequest::ProposalToLearner { link, proposal, inform })
    }
}

/// For the election port.
#[derive(Clone, Debug)]
pub enum ElectionRequest {
    /// Send a notification (one slot per peer: newest wins; resent on a new connection). Connects if
    /// there is no connection.
    Notify {
        /// Receiver.
        to: ServerId,
        /// The vote.
        notification: Notification,
    },
    /// Try to connect to every member that has no election connection.
    Connect,
}

/// For the quorum port.
#[derive(Clone, Debug)]
pub enum PortRequest {
    // ---- as a learner
    /// Connect to this member's quorum port; a refused connection is tried again for a while.
    ConnectLeader(ServerId),
    /// Close that connection, or give up connecting.
    CloseLeader,
    /// Send a packet to the leader.
    ToLeader(Packet),

    // ---- as the leader
    /// Accept learners on the quorum port.
    Listen,
    /// Stop accepting and close all learner links.
    StopListening,
    /// Send a packet to a learner.
    ToLearner(LinkId, Packet),
    /// Send PROPOSAL or INFORM around an encoded payload (`inform`: INFORM).
    ProposalToLearner {
        /// Receiver.
        link: LinkId,
        /// The shared bytes.
        proposal: Proposal,
        /// INFORM instead of PROPOSAL.
        inform: bool,
    },
    /// Stream the tree, as it is when this output is performed or later, to a learner; packets for
    /// it that follow wait until the stream's end.
    SnapshotToLearner(LinkId),
    /// Close a learner's link.
    CloseLearner {
        /// Which.
        link: LinkId,
        /// Why; displayed in plain words.
        reason: CloseReason,
    },
}

/// For the disk's queue.
#[derive(Clone)]
pub enum DiskRequest {
    /// Append to the log. Answer: [`Input::Flushed`](crate::Input::Flushed) with its zxid or a later one.
    Append(Proposal),
    /// Write acceptedEpoch. Answer: [`Input::AcceptedEpochSaved`](crate::Input::AcceptedEpochSaved).
    SaveAcceptedEpoch(Epoch),
    /// Write the epoch beside currentEpoch (`currentEpoch.tmp`), before history of that epoch follows.
    /// No answer.
    PrepareCurrentEpoch(Epoch),
    /// Write currentEpoch. Answer: [`Input::CurrentEpochSaved`](crate::Input::CurrentEpochSaved).
    SaveCurrentEpoch(Epoch),
    /// Write and sync a snapshot of the tree as it is now; it replaces the log's history. Answer:
    /// [`Input::SnapshotSaved`](crate::Input::SnapshotSaved).
    SaveSnapshot,
    /// Drop the tree, cut the log behind this zxid, load anew. Answer:
    /// [`Input::Reloaded`](crate::Input::Reloaded), or
    /// [`Input::TruncateFailed`](crate::Input::TruncateFailed).
    Truncate(Zxid),
    /// Drop the tree and load it anew. Answer: [`Input::Reloaded`](crate::Input::Reloaded).
    Reload,
}

impl std::fmt::Debug for DiskRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DiskRequest::Append(proposal) => write!(f, "append {}", proposal.zxid),
            DiskRequest::SaveAcceptedEpoch(epoch) => write!(f, "save acceptedEpoch {epoch}"),
            DiskRequest::PrepareCurrentEpoch(epoch) => write!(f, "announce currentEpoch {epoch}"),
            DiskRequest::SaveCurrentEpoch(epoch) => write!(f, "save currentEpoch {epoch}"),
            DiskRequest::SaveSnapshot => write!(f, "save snapshot"),
            DiskRequest::Truncate(zxid) => write!(f, "truncate to {zxid}"),
            DiskRequest::Reload => write!(f, "reload"),
        }
    }
}

/// Old proposals that a learner needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// For which learner.
    pub link: LinkId,
    /// Its last zxid.
    pub from: Zxid,
    /// The oldest zxid still in memory: the log is needed up to there at least.
    pub to: Zxid,
}

/// For the replica: what the protocol does to the tree, the clients and their sessions.
#[derive(Clone, Debug)]
pub enum Effect {
    // ---- the tree and the clients
    /// Replace the tree by the one received. `Apply` before this one belongs to the old tree.
    AdoptSnapshot(Zxid),
    /// Apply to the tree. In zxid order, each proposal once (per load of the tree).
    Apply(Proposal),
    /// The role is established: serve clients. For a leader, `lastProcessedZxid` becomes
    /// `epoch << 32` first.
    StartServing {
        /// The new epoch.
        epoch: Epoch,
        /// Is this server the leader?
        leading: bool,
    },
    /// The role has ended: close all client connections (sessions survive), forget all requests that
    /// were not answered. `Apply` may follow, for logged proposals whose fate the next leader decides.
    StopServing,
    /// The oldest unanswered [`Input::Sync`](crate::Input::Sync) is done: everything it must see has been
    /// given to `Apply`.
    SyncDone,

    // ---- the leader's business with sessions
    /// A learner forwarded a client's request (not a sync): `data` and identities of its REQUEST.
    Forwarded {
        /// The learner.
        link: LinkId,
        /// [`oxkeeper_proto::quorum::Request`].
        data: Bytes,
        /// Identities of the client.
        auth: Vec<Id>,
    },
    /// A learner asks whether a session lives: data of its REVALIDATE. Answer:
    /// [`Input::ToLearner`](crate::Input::ToLearner).
    Revalidate {
        /// The learner.
        link: LinkId,
        /// [`oxkeeper_proto::quorum::RevalidateRequest`].
        data: Bytes,
    },
    /// A learner reports sessions that were active: data of its PING reply.
    Touched {
        /// The learner.
        link: LinkId,
        /// (session, timeout)*.
        touches: Bytes,
    },

    // ---- the learner's business with sessions
    /// The leader pings. Answer: [`Input::PingReply`](crate::Input::PingReply).
    Pinged(Zxid),
    /// The leader's answer to a REVALIDATE.
    Revalidated(Bytes),
}
