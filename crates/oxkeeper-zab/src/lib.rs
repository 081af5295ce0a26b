//! Zab without I/O: leader election and the roles of an ensemble member.
//!
//! [`Zab`] is one server's protocol state as a value. It is told what happened ([`Input`]) and the
//! time, and answers with what must be done ([`Output`]), in order. It never sees a socket, a file, a
//! clock or a thread. Of a transaction it knows the header, and that the whole decodes: a leader's
//! proposal is read where it arrives ([`Proposal::from_wire`]), so that nobody behind it meets one that
//! cannot be read. What a transaction means it does not know.
//!
//! Durability is an input: a proposal is acknowledged only when [`Input::Flushed`] has named it, an
//! epoch is promised only when [`Input::AcceptedEpochSaved`] has.
//!
//! **Duties of the driver.** Perform outputs in the order given. Disk outputs ([`Output::Append`],
//! [`Output::SaveAcceptedEpoch`], [`Output::SaveCurrentEpoch`], [`Output::SaveSnapshot`],
//! [`Output::Truncate`], [`Output::Reload`]) go through one queue, each is carried out after those
//! before it, and each is answered by the input named at it. Packets to one link keep their order,
//! and follow a snapshot stream requested before them. Inputs of one link keep their order. A link
//! that was closed by an output delivers nothing more.
//!
//! Source: `docs/spec/quorum-protocol.md`.

mod core;
mod election;
mod error;
mod history;
mod leader;
mod learner;
mod proposal;
mod queue;
mod watermarks;
mod zab;

pub use election::Vote;
pub use error::{CloseReason, Lost, Misbehaved};
pub use leader::SyncCounts;
pub use learner::SyncKind;
pub use proposal::Proposal;
pub use queue::MAX_QUEUED_BYTES;
pub use zab::Zab;

use bytes::Bytes;
use oxkeeper_proto::client::Id;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::quorum::{Notification, Packet};
use oxkeeper_proto::{Epoch, ServerId, Zxid};

/// One connection accepted on this server's quorum port. Never reused within a process.
pub type LinkId = u64;

/// What a server needs to know of itself and the ensemble.
#[derive(Clone, Debug)]
pub struct Config {
    /// This server.
    pub me: ServerId,
    /// Members and quorum rule.
    pub ensemble: EnsembleConfig,
    /// Unit of the limits, in ms.
    pub tick_ms: u64,
    /// Ticks a learner may take to connect and synchronize.
    pub init_limit: u64,
    /// Ticks of silence after which a leader or learner is given up.
    pub sync_limit: u64,
    /// Committed proposals kept in memory for DIFF (`commitLogCount`, at least 500).
    pub commit_log_count: usize,
    /// Always synchronize by SNAP.
    pub force_snapshot_sync: bool,
    /// End an election at once when every connected voter agrees, instead of after 200 ms of quiet.
    pub fast_election: bool,
}

/// What the disk holds when the server starts, or after [`Output::Truncate`] / [`Output::Reload`].
#[derive(Clone, Debug, Default)]
pub struct History {
    /// zxid of the last logged transaction, all of which are applied to the tree; -1 if the database
    /// is empty and not trusted.
    pub last_zxid: Zxid,
    /// The newest logged proposals, ascending, up to `last_zxid`; at most `commit_log_count` are kept.
    pub recent: Vec<Proposal>,
    /// The zxid up to which this server had acknowledged, if its log ends before: the disk has lost
    /// what others count on. `None`: nothing is lost.
    ///
    /// Such a member neither votes nor acknowledges until a leader has brought it up to date; see
    /// [`Zab::lost_tail`] and `docs/spec/quorum-protocol.md` 4.1.
    pub lost_tail: Option<Zxid>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    // ---- election port
    /// `from` sent a notification.
    Notified {
        /// The sender.
        from: ServerId,
        /// Its vote.
        notification: Notification,
    },
    /// The election connection to `peer` is up or down (a link that was never up is down).
    ElectionLink {
        /// The other end.
        peer: ServerId,
        /// Connected?
        up: bool,
    },

    // ---- quorum port, as a learner
    /// The connection asked for by [`Output::ConnectLeader`] stands.
    LeaderConnected,
    /// It cannot be made, or broke, or sent garbage.
    LeaderClosed,
    /// A packet from the leader.
    FromLeader(Packet),
    /// The snapshot stream behind a SNAP packet is arriving (counts as a sign of life).
    SnapshotProgress,
    /// The snapshot stream behind a SNAP packet has been read completely, its signature is right; the
    /// driver holds the new tree ready for [`Output::AdoptSnapshot`].
    SnapshotReceived,

    // ---- quorum port, as the leader
    /// A learner connected (only after [`Output::Listen`]).
    LearnerConnected(LinkId),
    /// The link broke or sent garbage.
    LearnerClosed(LinkId),
    /// A packet from a learner.
    FromLearner(LinkId, Packet),
    /// The stream behind [`Output::SnapshotToLearner`] goes on. As long as it does, the learner has no
    /// deadline; after its end it has time to read and write it, see `docs/spec/quorum-protocol.md` 12.
    /// To be told every second or so; a driver that never does leaves the learner initLimit for all of it.
    SnapshotStreamed {
        /// To which learner.
        link: LinkId,
        /// Bytes taken by the socket since the stream began.
        bytes: u64,
        /// Was that the last of it?
        ended: bool,
    },

    // ---- disk
    /// Every appended proposal up to this zxid is durable.
    Flushed(Zxid),
    /// Answer to [`Output::SaveAcceptedEpoch`].
    AcceptedEpochSaved(Epoch),
    /// Answer to [`Output::SaveCurrentEpoch`].
    CurrentEpochSaved(Epoch),
    /// Answer to [`Output::SaveSnapshot`].
    SnapshotSaved,
    /// Answer to [`Output::Truncate`] and [`Output::Reload`]: the tree was loaded anew.
    Reloaded(History),
    /// Answer to [`Output::Truncate`] if the log cannot be cut there; nothing was changed.
    TruncateFailed,
    /// Answer to [`Output::ReadLog`]: logged proposals from the first with zxid > `from` (preceded by
    /// the last one with zxid <= `from`, see there), ascending, or `None` if the log cannot serve.
    LogRead {
        /// For which learner.
        link: LinkId,
        /// The proposals.
        proposals: Option<Vec<Proposal>>,
    },

    // ---- from the replica
    /// Leader only, while serving: a prepared transaction. Its zxid is [`Zab::next_zxid`].
    Propose(Proposal),
    /// Learner only, while serving: a REQUEST packet for the leader.
    Forward(Packet),
    /// While serving: a sync of a local client. A learner sends `request` (a REQUEST packet with
    /// operation 9) to the leader; a leader ignores it and waits for what it has proposed so far.
    Sync(Packet),
    /// Learner only: the answer to [`Output::Pinged`], (session, timeout)* as in a PING reply.
    PingReply {
        /// zxid of the ping.
        zxid: Zxid,
        /// Touched sessions.
        touches: Bytes,
    },
    /// Leader only: a packet for a learner that the replica made (REVALIDATE reply).
    ToLearner(LinkId, Packet),
    /// Leader only: stop leading (the epoch's zxids are used up).
    StepDown,
}

/// What must be done, in order.
#[derive(Clone, Debug)]
pub enum Output {
    // ---- election port
    /// Send a notification (one slot per peer: newest wins; resent on a new connection). Connects if
    /// there is no connection.
    Notify {
        /// Receiver.
        to: ServerId,
        /// The vote.
        notification: Notification,
    },
    /// Try to connect to every member that has no election connection.
    ConnectElection,

    // ---- quorum port, as a learner
    /// Connect to this member's quorum port; a refused connection is tried again for a while.
    ConnectLeader(ServerId),
    /// Close that connection, or give up connecting.
    CloseLeader,
    /// Send a packet to the leader.
    ToLeader(Packet),
    /// Replace the tree by the one received. `Apply` outputs before this one belong to the old tree.
    AdoptSnapshot(Zxid),

    // ---- quorum port, as the leader
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
    /// Read the log for a learner whose last zxid is `from`; up to `to` at least.
    ReadLog {
        /// For which learner.
        link: LinkId,
        /// The learner's last zxid.
        from: Zxid,
        /// The oldest zxid still in memory.
        to: Zxid,
    },
    /// Close a learner's link.
    CloseLearner {
        /// Which.
        link: LinkId,
        /// Why; displayed in plain words.
        reason: CloseReason,
    },

    // ---- disk
    /// Append to the log. Answer: [`Input::Flushed`] with its zxid or a later one.
    Append(Proposal),
    /// Write acceptedEpoch. Answer: [`Input::AcceptedEpochSaved`].
    SaveAcceptedEpoch(Epoch),
    /// Write the epoch beside currentEpoch (`currentEpoch.tmp`), before history of that epoch follows.
    /// No answer.
    PrepareCurrentEpoch(Epoch),
    /// Write currentEpoch. Answer: [`Input::CurrentEpochSaved`].
    SaveCurrentEpoch(Epoch),
    /// Write and sync a snapshot of the tree as it is now. Answer: [`Input::SnapshotSaved`].
    SaveSnapshot,
    /// Drop the tree, cut the log behind this zxid, load anew. Answer: [`Input::Reloaded`], or
    /// [`Input::TruncateFailed`].
    Truncate(Zxid),
    /// Drop the tree and load it anew. Answer: [`Input::Reloaded`].
    Reload,

    // ---- the tree and the clients
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
    /// The oldest unanswered [`Input::Sync`] is done: everything it must see has been given to `Apply`.
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
    /// A learner asks whether a session lives: data of its REVALIDATE. Answer: [`Input::ToLearner`].
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
    /// The leader pings. Answer: [`Input::PingReply`].
    Pinged(Zxid),
    /// The leader's answer to a REVALIDATE.
    Revalidated(Bytes),
}

/// What a server is doing, for operators (`zk_peer_state`, `zabstate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Phase {
    Election,
    Discovery,
    Synchronization,
    Broadcast,
}
