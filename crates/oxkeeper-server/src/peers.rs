//! The quorum port as the replica thread uses it: at most one leader link or one listener at a time,
//! one buffer per link and wake-up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use oxkeeper_proto::quorum::{PacketKind, put_payload_packet};
use oxkeeper_proto::{Encode, ServerId, Zxid};
use oxkeeper_replica::{Input, Shared};
use oxkeeper_state::{StateLoader, Walk};
use oxkeeper_zab::{LinkId, Output};

use crate::driver::{Context, Event, PeerConfig, new_loader};
use crate::outbox::SnapshotSource;
use crate::quorum_links::{
    DEFAULT_QUEUE_LIMIT, LeaderEvent, LeaderLink, LeaderLinkConfig, LearnerEvent, LearnerListener,
    LinkLimits, ListenerConfig,
};

/// An event of the quorum port, with the term (of a link or listener) it belongs to.
pub struct PeerEvent {
    term: u64,
    kind: PeerEventKind,
}

impl PeerEvent {
    /// Is it handled in a few microseconds, as a rule?
    pub fn is_little(&self) -> bool {
        match &self.kind {
            PeerEventKind::Leader(LeaderEvent::Packets(packets)) => packets.len() <= LITTLE,
            PeerEventKind::Learner(LearnerEvent::Packets { packets, .. }) => {
                packets.len() <= LITTLE
            }
            // Links come and go seldom, and an event of theirs may end the task that brings it.
            _ => false,
        }
    }
}

/// Most packets that count as little work.
const LITTLE: usize = 8;

enum PeerEventKind {
    Leader(LeaderEvent<Box<StateLoader>>),
    Learner(LearnerEvent),
}

/// Connections to the leader or from learners.
pub struct Peers {
    config: PeerConfig,
    context: Context,
    shared: Arc<Shared>,
    /// Counts links to leaders and listeners: events of an earlier one are stale.
    term: u64,
    leader: Option<LeaderLink>,
    listener: Option<LearnerListener>,
    to_leader: Vec<u8>,
    to_learners: BTreeMap<LinkId, Vec<u8>>,
    /// zxid of the SNAP packet whose stream is arriving.
    snap_zxid: Zxid,
}

impl Peers {
    /// No connections.
    pub fn new(config: PeerConfig, context: Context, shared: Arc<Shared>) -> Peers {
        Peers {
            config,
            context,
            shared,
            term: 0,
            leader: None,
            listener: None,
            to_leader: Vec::new(),
            to_learners: BTreeMap::new(),
            snap_zxid: Zxid::ZERO,
        }
    }

    fn limits(&self) -> LinkLimits {
        LinkLimits { max_len: self.config.max_len, queue: DEFAULT_QUEUE_LIMIT }
    }

    /// Performs one output that concerns the quorum port. `met_at` tells where a server was met.
    pub fn perform(&mut self, output: Output, met_at: impl Fn(ServerId) -> Option<IpAddr>) {
        match output {
            Output::ConnectLeader(server) => self.connect(server, met_at(server)),
            Output::CloseLeader => {
                self.flush();
                self.leader = None;
            }
            Output::ToLeader(packet) => packet.encode(&mut self.to_leader),
            Output::Listen => self.listen(),
            Output::StopListening => {
                self.flush();
                self.listener = None;
            }
            Output::ToLearner(link, packet) => {
                packet.encode(self.to_learners.entry(link).or_default());
            }
            Output::ProposalToLearner { link, proposal, inform } => {
                let kind = if inform { PacketKind::Inform } else { PacketKind::Proposal };
                let out = self.to_learners.entry(link).or_default();
                put_payload_packet(out, kind, proposal.zxid, &proposal.payload);
            }
            Output::SnapshotToLearner(link) => {
                self.flush();
                if let Some(listener) = &self.listener {
                    let source = TreeStream::new(self.shared.clone());
                    listener.send_snapshot(link, Box::new(source));
                }
            }
            Output::CloseLearner { link, reason } => {
                self.flush();
                if let Some(listener) = &self.listener {
                    listener.close(link, &reason.to_string());
                }
            }
            output => unreachable!("{output:?} is not for the quorum port"),
        }
    }

    /// Sends what has been collected: one buffer per link.
    pub fn flush(&mut self) {
        if !self.to_leader.is_empty() {
            let packets = std::mem::take(&mut self.to_leader);
            if let Some(leader) = &self.leader {
                leader.send(packets);
            }
        }
        for (link, packets) in std::mem::take(&mut self.to_learners) {
            if let Some(listener) = &self.listener {
                listener.send(link, packets);
            }
        }
    }

    /// Closes everything.
    pub fn close(&mut self) {
        self.flush();
        self.leader = None;
        self.listener = None;
    }

    fn events<E>(&self, kind: fn(E) -> PeerEventKind) -> impl Fn(E) + Send + Sync + 'static
    where
        E: 'static,
    {
        let (term, mailbox) = (self.term, self.context.mailbox.clone());
        move |event| mailbox.push(Event::Peer(PeerEvent { term, kind: kind(event) }))
    }

    fn connect(&mut self, server: ServerId, met_at: Option<IpAddr>) {
        self.term += 1;
        let Some(spec) = self.config.ensemble.servers.get(&server) else {
            let reason = format!("server {server} is not in the configuration");
            self.events(PeerEventKind::Leader)(LeaderEvent::Closed { reason });
            return;
        };
        let config = LeaderLinkConfig {
            addresses: spec.quorum_addresses().collect(),
            met_at,
            connect_timeout: self.config.connect_limit,
            limits: self.limits(),
        };
        let sink = new_loader(&self.config);
        let events = self.events(PeerEventKind::Leader);
        self.leader = Some(LeaderLink::connect(&self.context.runtime, config, sink, events));
    }

    fn listen(&mut self) {
        self.term += 1;
        let Some(spec) = self.config.ensemble.servers.get(&self.config.me) else { return };
        let config = ListenerConfig {
            addresses: spec.quorum_addresses().collect(),
            listen_on_all: self.config.listen_on_all,
            first_packet_timeout: self.config.init_limit,
            limits: self.limits(),
        };
        let events = self.events(PeerEventKind::Learner);
        self.listener = Some(LearnerListener::start(&self.context.runtime, config, events));
    }

    /// What an event means to the replica; nothing if its term is over.
    pub fn inputs(&mut self, event: PeerEvent) -> Vec<Input> {
        use oxkeeper_zab::Input as Z;
        if event.term != self.term {
            return Vec::new();
        }
        match event.kind {
            PeerEventKind::Leader(event) => match event {
                LeaderEvent::Connected { .. } => vec![Input::Zab(Z::LeaderConnected)],
                LeaderEvent::Packets(packets) => packets
                    .into_iter()
                    .map(|packet| {
                        if packet.known_kind() == Some(PacketKind::Snap) {
                            self.snap_zxid = packet.zxid;
                        }
                        Input::Zab(Z::FromLeader(packet))
                    })
                    .collect(),
                LeaderEvent::SnapshotProgress => vec![Input::Zab(Z::SnapshotProgress)],
                LeaderEvent::SnapshotReceived(loader) => match loader.finish(self.snap_zxid) {
                    Ok(state) => vec![Input::SnapshotReceived(Box::new(state))],
                    Err(reason) => {
                        tracing::error!(reason, "the leader's snapshot makes no tree");
                        vec![Input::Zab(Z::LeaderClosed)]
                    }
                },
                LeaderEvent::Closed { .. } => vec![Input::Zab(Z::LeaderClosed)],
            },
            PeerEventKind::Learner(event) => match event {
                LearnerEvent::Listening => Vec::new(),
                LearnerEvent::ListenFailed(error) => {
                    // Without the port this server cannot lead; another one will.
                    tracing::error!(%error, "cannot open the quorum port");
                    vec![Input::Zab(Z::StepDown)]
                }
                LearnerEvent::Connected { link, .. } => {
                    vec![Input::Zab(Z::LearnerConnected(link))]
                }
                LearnerEvent::Packets { link, packets } => packets
                    .into_iter()
                    .map(|packet| Input::Zab(Z::FromLearner(link, packet)))
                    .collect(),
                LearnerEvent::Closed { link, .. } => vec![Input::Zab(Z::LearnerClosed(link))],
            },
        }
    }
}

/// The tree as a stream of snapshot body bytes, read in small steps under the state's read lock.
pub struct TreeStream {
    shared: Arc<Shared>,
    walk: Option<Walk>,
}

/// Nodes looked at, and bytes made, under one hold of the read lock.
const STEP: (u32, usize) = (512, 64 * 1024);
/// Bytes of one chunk.
const CHUNK: usize = 256 * 1024;

impl TreeStream {
    /// Begins when the first chunk is asked for, so the tree is at least as new as the SNAP packet.
    pub fn new(shared: Arc<Shared>) -> TreeStream {
        TreeStream { shared, walk: None }
    }
}

impl SnapshotSource for TreeStream {
    fn next_chunk(&mut self, out: &mut Vec<u8>) -> bool {
        let walk = self.walk.get_or_insert_with(|| {
            let walk = Walk::begin(&self.shared.state.read());
            walk.put_tables(out);
            walk
        });
        let start = out.len();
        while out.len() - start < CHUNK {
            if walk.step(&self.shared.state.read(), STEP.0, STEP.1, out) {
                return true;
            }
        }
        false
    }
}
