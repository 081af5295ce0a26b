//! The quorum port: at most one leader link or one listener at a time, one buffer per link and step.

use std::collections::BTreeMap;

use oxkeeper_proto::quorum::{Packet, PacketKind, put_payload_packet};
use oxkeeper_proto::{Encode, Zxid};
use oxkeeper_replica::Input;
use oxkeeper_state::StateLoader;
use oxkeeper_zab::{Input as Z, LinkId, Proposal};

use crate::node::Driver;

/// A role that this server has taken since its process began: following one leader, or leading. A role
/// dials or listens once; what its link or listener tells is told with its id, and means nothing to a
/// later one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleId(u64);

/// What happened on the quorum port, in one role.
pub enum PortEvent {
    /// The connection to the leader stands.
    LeaderConnected,
    /// Packets of the leader, in order. SNAP is the last of its batch; its stream follows.
    FromLeader(Vec<Packet>),
    /// The stream behind a SNAP packet is arriving.
    SnapshotProgress,
    /// It was read to its end, its signature is right.
    SnapshotReceived(Box<StateLoader>),
    /// The connection could not be made, or ended. The last event of its role.
    LeaderClosed,
    /// The port cannot be opened.
    ListenFailed,
    /// A learner connected.
    LearnerConnected(LinkId),
    /// Packets of a learner, in order.
    FromLearner(LinkId, Vec<Packet>),
    /// The socket has taken more of a snapshot stream.
    SnapshotStreamed {
        /// To which learner.
        link: LinkId,
        /// Bytes so far.
        bytes: u64,
        /// That was all.
        ended: bool,
    },
    /// A learner's link ended. The last event of that link.
    LearnerClosed(LinkId),
}

impl std::fmt::Debug for PortEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PortEvent::LeaderConnected => write!(f, "leader connected"),
            PortEvent::FromLeader(packets) => write!(f, "from leader {packets:?}"),
            PortEvent::SnapshotProgress => write!(f, "snapshot progress"),
            PortEvent::SnapshotReceived(_) => write!(f, "snapshot received"),
            PortEvent::LeaderClosed => write!(f, "leader closed"),
            PortEvent::ListenFailed => write!(f, "listen failed"),
            PortEvent::LearnerConnected(link) => write!(f, "learner {link} connected"),
            PortEvent::FromLearner(link, packets) => write!(f, "from learner {link} {packets:?}"),
            PortEvent::SnapshotStreamed { link, bytes, ended } => {
                write!(f, "snapshot to learner {link}: {bytes} bytes, ended {ended}")
            }
            PortEvent::LearnerClosed(link) => write!(f, "learner {link} closed"),
        }
    }
}

impl PortEvent {
    /// How many packets it brings; `None` for what links do otherwise.
    pub fn packets(&self) -> Option<usize> {
        match self {
            PortEvent::FromLeader(packets) | PortEvent::FromLearner(_, packets) => {
                Some(packets.len())
            }
            _ => None,
        }
    }
}

/// Connections to the leader or from learners, as the node sees them.
#[derive(Debug, Default)]
pub(crate) struct Port {
    /// The present or last role: events of an earlier one are stale.
    role: RoleId,
    /// It is over, although no other has dialed or listened yet.
    ended: bool,
    to_leader: Vec<u8>,
    to_learners: BTreeMap<LinkId, Vec<u8>>,
    /// zxid of the SNAP packet whose stream is arriving.
    snap_zxid: Zxid,
}

impl Port {
    /// A role begins; what an earlier one's link or listener tells is stale from now on.
    pub fn next_role(&mut self) -> RoleId {
        self.role.0 += 1;
        self.ended = false;
        self.role
    }

    /// The role is over: what its link or listener tells is stale from now on.
    pub fn end_role(&mut self) {
        self.ended = true;
    }

    /// Collects a packet for the leader.
    pub fn send_to_leader(&mut self, packet: &Packet) {
        packet.encode(&mut self.to_leader);
    }

    /// Collects a packet for a learner.
    pub fn send_to_learner(&mut self, link: LinkId, packet: &Packet) {
        packet.encode(self.to_learners.entry(link).or_default());
    }

    /// Collects a proposal for a learner.
    pub fn propose(&mut self, link: LinkId, proposal: &Proposal, inform: bool) {
        let kind = if inform { PacketKind::Inform } else { PacketKind::Proposal };
        let out = self.to_learners.entry(link).or_default();
        put_payload_packet(out, kind, proposal.zxid, &proposal.payload);
    }

    /// Sends what has been collected: one buffer per link.
    pub fn flush(&mut self, driver: &mut impl Driver) {
        if !self.to_leader.is_empty() {
            driver.send_to_leader(std::mem::take(&mut self.to_leader));
        }
        while let Some((link, packets)) = self.to_learners.pop_first() {
            driver.send_to_learner(link, packets);
        }
    }

    /// What an event means to the replica; nothing if its role is over. `take` says whether the role goes on
    /// behind an input.
    pub fn inputs(&mut self, role: RoleId, event: PortEvent, mut take: impl FnMut(Input) -> bool) {
        if role != self.role {
            return;
        }
        let Port { ended, snap_zxid, .. } = self;
        let mut take = |input| {
            if !*ended {
                *ended = !take(input);
            }
        };
        match event {
            PortEvent::LeaderConnected => take(Input::Zab(Z::LeaderConnected)),
            PortEvent::FromLeader(packets) => {
                for packet in packets {
                    if packet.known_kind() == Some(PacketKind::Snap) {
                        *snap_zxid = packet.zxid;
                    }
                    take(Input::Zab(Z::FromLeader(packet)));
                }
            }
            PortEvent::SnapshotProgress => take(Input::Zab(Z::SnapshotProgress)),
            PortEvent::SnapshotReceived(loader) => match loader.finish(*snap_zxid) {
                Ok(state) => take(Input::SnapshotReceived(Box::new(state))),
                Err(reason) => {
                    tracing::error!(reason, "the leader's snapshot makes no tree");
                    take(Input::Zab(Z::LeaderClosed));
                }
            },
            PortEvent::LeaderClosed => take(Input::Zab(Z::LeaderClosed)),
            // Without the port this server cannot lead; another one will.
            PortEvent::ListenFailed => take(Input::Zab(Z::StepDown)),
            PortEvent::LearnerConnected(link) => take(Input::Zab(Z::LearnerConnected(link))),
            PortEvent::FromLearner(link, packets) => {
                for packet in packets {
                    take(Input::Zab(Z::FromLearner(link, packet)));
                }
            }
            PortEvent::SnapshotStreamed { link, bytes, ended } => {
                take(Input::Zab(Z::SnapshotStreamed { link, bytes, ended }));
            }
            PortEvent::LearnerClosed(link) => take(Input::Zab(Z::LearnerClosed(link))),
        }
    }
}
