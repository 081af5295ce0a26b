//! The quorum port's sockets: at most one leader link or one listener at a time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_node::{PortEvent, RoleId, TreeStream};
use oxkeeper_proto::ServerId;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_state::StateLoader;
use oxkeeper_zab::LinkId;
use tokio::runtime::Handle;

use crate::driver::Event;
use crate::mailbox::Mailbox;
use crate::quorum_links::{
    DEFAULT_QUEUE_LIMIT, LeaderEvent, LeaderLink, LeaderLinkConfig, LearnerEvent, LearnerListener,
    LinkLimits, ListenerConfig,
};

/// How the peers of an ensemble are reached.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// This server.
    pub me: ServerId,
    /// Members and their addresses.
    pub ensemble: EnsembleConfig,
    /// Listen on all addresses (`quorumListenOnAllIPs`).
    pub listen_on_all: bool,
    /// Longest string or buffer in a packet, in bytes.
    pub max_len: usize,
    /// `initLimit` as a duration.
    pub init_limit: Duration,
    /// `connectToLearnerMasterLimit` as a duration.
    pub connect_limit: Duration,
    /// Makes the receiver of a snapshot stream.
    pub state_seed: u64,
    /// Options of a state built from a stream.
    pub state_options: oxkeeper_state::Options,
}

/// Connections to the leader or from learners.
pub struct Peers {
    config: PeerConfig,
    runtime: Handle,
    mailbox: Arc<Mailbox<Event>>,
    leader: Option<LeaderLink>,
    listener: Option<LearnerListener>,
}

impl Peers {
    /// No connections.
    pub fn new(config: PeerConfig, runtime: Handle, mailbox: Arc<Mailbox<Event>>) -> Peers {
        Peers { config, runtime, mailbox, leader: None, listener: None }
    }

    /// The connection to the leader, if there is one.
    pub fn leader(&self) -> Option<&LeaderLink> {
        self.leader.as_ref()
    }

    /// The open port, if this server leads.
    pub fn listener(&self) -> Option<&LearnerListener> {
        self.listener.as_ref()
    }

    /// Closes everything.
    pub fn close(&mut self) {
        self.leader = None;
        self.listener = None;
    }

    /// Connects to a leader. `met_at`: where it was met while it was elected.
    pub fn dial(&mut self, role: RoleId, server: ServerId, met_at: Option<IpAddr>) {
        let Some(spec) = self.config.ensemble.servers.get(&server) else {
            tracing::error!("the elected leader {server} is not in the configuration");
            return self.tell(role, PortEvent::LeaderClosed);
        };
        let config = LeaderLinkConfig {
            addresses: spec.quorum_addresses().collect(),
            met_at,
            connect_timeout: self.config.connect_limit,
            limits: self.limits(),
        };
        let (seed, options) = (self.config.state_seed, self.config.state_options);
        let sink = move || Box::new(StateLoader::new(seed, options));
        let mailbox = self.mailbox.clone();
        let events = move |event| mailbox.push(Event::port(role, leader_event(event)));
        self.leader = Some(LeaderLink::connect(&self.runtime, config, sink, events));
    }

    /// Gives up the connection to the leader.
    pub fn hang_up(&mut self) {
        self.leader = None;
    }

    /// Opens the port.
    pub fn listen(&mut self, role: RoleId) {
        let Some(spec) = self.config.ensemble.servers.get(&self.config.me) else { return };
        let config = ListenerConfig {
            addresses: spec.quorum_addresses().collect(),
            listen_on_all: self.config.listen_on_all,
            first_packet_timeout: self.config.init_limit,
            limits: self.limits(),
        };
        let mailbox = self.mailbox.clone();
        let events = move |event| {
            if let Some(event) = learner_event(event) {
                mailbox.push(Event::port(role, event));
            }
        };
        self.listener = Some(LearnerListener::start(&self.runtime, config, events));
    }

    /// Closes the port and its links.
    pub fn stop_listening(&mut self) {
        self.listener = None;
    }

    /// Streams a tree to a learner.
    pub fn stream(&self, link: LinkId, tree: TreeStream) {
        if let Some(listener) = &self.listener {
            listener.send_snapshot(link, Box::new(tree));
        }
    }

    fn tell(&self, role: RoleId, event: PortEvent) {
        self.mailbox.push(Event::port(role, event));
    }

    fn limits(&self) -> LinkLimits {
        LinkLimits { max_len: self.config.max_len, queue: DEFAULT_QUEUE_LIMIT }
    }
}

fn leader_event(event: LeaderEvent<Box<StateLoader>>) -> PortEvent {
    match event {
        LeaderEvent::Connected { .. } => PortEvent::LeaderConnected,
        LeaderEvent::Packets(packets) => PortEvent::FromLeader(packets),
        LeaderEvent::SnapshotProgress => PortEvent::SnapshotProgress,
        LeaderEvent::SnapshotReceived(loader) => PortEvent::SnapshotReceived(loader),
        LeaderEvent::Closed { .. } => PortEvent::LeaderClosed,
    }
}

fn learner_event(event: LearnerEvent) -> Option<PortEvent> {
    Some(match event {
        LearnerEvent::Listening => return None,
        LearnerEvent::ListenFailed(error) => {
            tracing::error!(%error, "cannot open the quorum port");
            PortEvent::ListenFailed
        }
        LearnerEvent::Connected { link } => PortEvent::LearnerConnected(link),
        LearnerEvent::Packets { link, packets } => PortEvent::FromLearner(link, packets),
        LearnerEvent::Streamed { link, bytes, ended } => {
            PortEvent::SnapshotStreamed { link, bytes, ended }
        }
        LearnerEvent::Closed { link, .. } => PortEvent::LearnerClosed(link),
    })
}
