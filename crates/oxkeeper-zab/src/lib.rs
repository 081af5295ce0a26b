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
//! **Duties of the driver.** Perform outputs in the order given. Disk outputs ([`DiskRequest::Append`],
//! [`DiskRequest::SaveAcceptedEpoch`], [`DiskRequest::SaveCurrentEpoch`], [`DiskRequest::SaveSnapshot`],
//! [`DiskRequest::Truncate`], [`DiskRequest::Reload`]) go through one queue, each is carried out after those
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
mod output;
mod proposal;
mod queue;
mod watermarks;
mod zab;

pub use election::Vote;
pub use error::{CloseReason, Lost, Misbehaved};
pub use history::HistorySummary;
pub use leader::{LearnerStatus, SyncCounts};
pub use learner::SyncKind;
pub use output::{DiskRequest, Effect, ElectionRequest, LogRead, Output, PortRequest};
pub use proposal::Proposal;
pub use queue::MAX_QUEUED_BYTES;
pub use zab::Zab;

use bytes::Bytes;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::quorum::{Notification, Packet};
use oxkeeper_proto::{Epoch, ServerId, Zxid};

/// One connection accepted on this server's quorum port. Never reused within a process.
pub type LinkId = u64;

/// What a server needs to know of itself and the ensemble.
#[derive(Clone, Debug, Hash)]
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
    /// What ends a role; others than the default are for tests.
    pub limits: Limits,
}

/// What one role may come to.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Limits {
    /// Bytes that may wait in one place.
    pub queued_bytes: usize,
    /// Counter of the last zxid that a leader gives out.
    pub last_counter: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { queued_bytes: MAX_QUEUED_BYTES, last_counter: Zxid::COUNTER_END - 1 }
    }
}

/// What the disk holds when the server starts, or after [`DiskRequest::Truncate`] / [`DiskRequest::Reload`].
#[derive(Clone, Debug, Default, Hash)]
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
#[derive(Clone, Debug, Hash)]
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
    /// The connection asked for by [`PortRequest::ConnectLeader`] stands.
    LeaderConnected,
    /// It cannot be made, or broke, or sent garbage.
    LeaderClosed,
    /// A packet from the leader.
    FromLeader(Packet),
    /// The snapshot stream behind a SNAP packet is arriving (counts as a sign of life).
    SnapshotProgress,
    /// The snapshot stream behind a SNAP packet has been read completely, its signature is right; the
    /// driver holds the new tree ready for [`Effect::AdoptSnapshot`].
    SnapshotReceived,

    // ---- quorum port, as the leader
    /// A learner connected (only after [`PortRequest::Listen`]).
    LearnerConnected(LinkId),
    /// The link broke or sent garbage.
    LearnerClosed(LinkId),
    /// A packet from a learner.
    FromLearner(LinkId, Packet),
    /// The stream behind [`PortRequest::SnapshotToLearner`] goes on. As long as it does, the learner has no
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
    /// Answer to [`DiskRequest::SaveAcceptedEpoch`].
    AcceptedEpochSaved(Epoch),
    /// Answer to [`DiskRequest::SaveCurrentEpoch`].
    CurrentEpochSaved(Epoch),
    /// Answer to [`DiskRequest::SaveSnapshot`].
    SnapshotSaved,
    /// Answer to [`DiskRequest::Truncate`] and [`DiskRequest::Reload`]: the tree was loaded anew.
    Reloaded(History),
    /// Answer to [`DiskRequest::Truncate`] if the log cannot be cut there; nothing was changed.
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
    /// Learner only: the answer to [`Effect::Pinged`], (session, timeout)* as in a PING reply.
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

/// What a server is doing, for operators (`zk_peer_state`, `zabstate`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Phase {
    Election,
    Discovery,
    Synchronization,
    Broadcast,
}
