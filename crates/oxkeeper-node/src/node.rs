//! The replica and who gets its outputs, in which order.
//!
//! [`Node::handle`] everything that has arrived, then [`Node::finish`] once. One such step makes at most
//! one write to each peer, one batch for the disk, and one wake-up of each client concerned.

use std::sync::Arc;

use oxkeeper_proto::ServerId;
use oxkeeper_proto::quorum::Notification;
use oxkeeper_replica::{Client, Input, Now, Output, Replica};
use oxkeeper_zab::{CloseReason, DiskRequest, ElectionRequest, LinkId, LogRead, PortRequest};

use crate::port::{Port, PortEvent, RoleId};
use crate::stream::TreeStream;

/// Few proposals under way, few replies: handled at once, without waiting for more.
pub const FEW: usize = 8;

/// What reaches a node.
#[derive(Debug)]
pub enum Event {
    /// For the replica: from the disk, the election port, or clients.
    Input(Input),
    /// From the quorum port.
    Port {
        /// In which it happened; see [`Driver::dial`] and [`Driver::listen`].
        role: RoleId,
        /// What happened.
        event: PortEvent,
    },
}

/// What a node asks of its surroundings. Nothing here may block.
pub trait Driver {
    /// This output is about to be performed: for those who watch.
    fn performing(&mut self, _output: &Output) {}

    /// Send a notification on the election port.
    fn notify(&mut self, to: ServerId, notification: Notification);
    /// Connect to every member that has no election connection.
    fn connect_election(&mut self);

    /// Connect to this leader's quorum port; replaces what was dialled or listened to before.
    fn dial(&mut self, role: RoleId, leader: ServerId);
    /// Close the connection to the leader, or give up connecting.
    fn hang_up(&mut self);
    /// Send encoded packets to the leader.
    fn send_to_leader(&mut self, packets: Vec<u8>);

    /// Open the quorum port for learners; replaces what was dialled or listened to before.
    fn listen(&mut self, role: RoleId);
    /// Close the quorum port and all links to learners.
    fn stop_listening(&mut self);
    /// Send encoded packets to a learner.
    fn send_to_learner(&mut self, link: LinkId, packets: Vec<u8>);
    /// Send a tree, with the signature behind it, to a learner; what is sent later waits.
    fn stream(&mut self, link: LinkId, tree: TreeStream);
    /// Close a learner's link.
    fn close_learner(&mut self, link: LinkId, reason: &CloseReason);

    /// Queue work for the disk, in order, leaving `requests` empty.
    fn disk(&mut self, requests: &mut Vec<DiskRequest>);
    /// Read old proposals ([`OldProposals`](crate::OldProposals)); the answer is a `LogRead`.
    fn read_log(&mut self, read: LogRead);

    /// Put a client's reply into its socket, now.
    fn reply(&mut self, client: &Arc<Client>);
    /// Let a client's task look after its output and input.
    fn wake(&mut self, client: &Arc<Client>);
}

/// One server.
#[derive(Debug)]
pub struct Node {
    replica: Replica,
    port: Port,
    /// Of the replica, not performed yet.
    outputs: Vec<Output>,
    requests: Vec<DiskRequest>,
    clients: Vec<Arc<Client>>,
    calm: bool,
}

impl Node {
    /// A server whose start has left these outputs; the first [`Node::finish`] performs them.
    pub fn new(replica: Replica, outputs: Vec<Output>) -> Node {
        Node {
            replica,
            port: Port::default(),
            outputs,
            requests: Vec::new(),
            clients: Vec::new(),
            calm: false,
        }
    }

    /// The server as a value.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Few proposals are under way: batches would be small anyway.
    pub fn is_calm(&self) -> bool {
        self.calm
    }

    /// When [`Node::finish`] must be called at the latest, in monotonic ms.
    pub fn next_timeout(&self) -> Option<u64> {
        self.replica.next_timeout()
    }

    /// Takes one event.
    pub fn handle(&mut self, now: Now, event: Event) {
        let Node { replica, port, outputs, .. } = self;
        // Whether the role goes on.
        let mut take = |input| {
            let before = outputs.len();
            replica.handle(now, input, outputs);
            !outputs[before..].iter().any(ends_role)
        };
        match event {
            Event::Input(input) => {
                if !take(input) {
                    port.end_role();
                }
            }
            Event::Port { role, event } => port.inputs(role, event, take),
        }
    }

    /// Handles what is due, applies what was committed, and performs everything that follows.
    pub fn finish(&mut self, now: Now, driver: &mut impl Driver) {
        if self.next_timeout().is_some_and(|at| at <= now.mono_ms) {
            self.replica.on_timeout(now, &mut self.outputs);
        }
        self.replica.finish(now, &mut self.outputs);
        self.calm = self.replica.outstanding_proposals() <= FEW;
        self.perform(driver);
    }

    fn perform(&mut self, driver: &mut impl Driver) {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            driver.performing(&output);
            match output {
                Output::Disk(request) => self.requests.push(request),
                Output::Port(request) => self.at_port(request, driver),
                Output::Wake(client) => self.clients.push(client),
                Output::Election(request) => at_election(request, driver),
                Output::ReadLog(read) => driver.read_log(read),
            }
        }
        self.outputs = outputs;
        // Somebody waits for a reply; nobody for the COMMITs, as a rule.
        if self.calm && self.clients.len() <= FEW {
            self.clients.drain(..).for_each(|client| driver.reply(&client));
        }
        // Proposals leave before the own disk begins, so that all disks work at the same time.
        self.port.flush(driver);
        if !self.requests.is_empty() {
            driver.disk(&mut self.requests);
        }
        self.clients.drain(..).for_each(|client| driver.wake(&client));
    }

    fn at_port(&mut self, request: PortRequest, driver: &mut impl Driver) {
        let Node { replica, port, .. } = self;
        match request {
            PortRequest::ConnectLeader(server) => driver.dial(port.next_role(), server),
            PortRequest::CloseLeader => {
                port.flush(driver);
                driver.hang_up();
            }
            PortRequest::ToLeader(packet) => port.send_to_leader(&packet),
            PortRequest::Listen => driver.listen(port.next_role()),
            PortRequest::StopListening => {
                port.flush(driver);
                driver.stop_listening();
            }
            PortRequest::ToLearner(link, packet) => port.send_to_learner(link, &packet),
            PortRequest::ProposalToLearner { link, proposal, inform } => {
                port.propose(link, &proposal, inform);
            }
            PortRequest::SnapshotToLearner(link) => {
                port.flush(driver);
                driver.stream(
                    link,
                    TreeStream::new(replica.shared().clone(), replica.stream_state()),
                );
            }
            PortRequest::CloseLearner { link, reason } => {
                port.flush(driver);
                driver.close_learner(link, &reason);
            }
        }
    }
}

/// A role has ended. The next one may have begun in the same step, so what else the ended one's link or
/// listener tells in that step must not reach it.
fn ends_role(output: &Output) -> bool {
    matches!(output, Output::Port(PortRequest::CloseLeader | PortRequest::StopListening))
}

fn at_election(request: ElectionRequest, driver: &mut impl Driver) {
    match request {
        ElectionRequest::Notify { to, notification } => driver.notify(to, notification),
        ElectionRequest::Connect => driver.connect_election(),
    }
}
