//! The replica thread: takes all that has arrived, lets the node handle it, does what it asks.
//!
//! While it sleeps, whoever brings a little work does it in its stead ([`StandIn`]): a lone request then
//! passes through the server with one hand-over, to the log thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use oxkeeper_node::node::FEW;
use oxkeeper_node::{Node, PortEvent, RoleId, TreeStream};
use oxkeeper_proto::ServerId;
use oxkeeper_proto::quorum::Notification;
use oxkeeper_replica::{Client, Input, Replica};
use oxkeeper_zab::{CloseReason, DiskRequest, LinkId, LogRead};
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::disk::DiskThread;
use crate::election_links::ElectionLinks;
use crate::mailbox::{Mailbox, StandIn};
use crate::peers::Peers;

/// What reaches the replica thread.
pub enum Event {
    /// For the node.
    Node(oxkeeper_node::Event),
    /// A look at the replica, for operators.
    Query(Box<dyn FnOnce(&Replica) + Send>),
    /// End the thread.
    Stop,
}

impl Event {
    /// From the disk, the election port or a client.
    pub fn input(input: Input) -> Event {
        Event::Node(oxkeeper_node::Event::Input(input))
    }

    /// From the quorum port.
    pub fn port(role: RoleId, event: PortEvent) -> Event {
        Event::Node(oxkeeper_node::Event::Port { role, event })
    }

    /// Is it handled in a few microseconds, as a rule?
    fn is_little(&self) -> bool {
        use oxkeeper_node::Event as N;
        match self {
            Event::Node(N::Input(Input::Reloaded(..) | Input::SnapshotReceived(_))) => false,
            // Links come and go seldom, and an event of theirs may end the task that brings it.
            Event::Node(N::Port { event, .. }) => event.packets().is_some_and(|few| few <= FEW),
            Event::Node(N::Input(_)) | Event::Query(_) => true,
            Event::Stop => false,
        }
    }
}

/// Everything the thread works with.
pub struct Driver {
    /// The server as a value.
    pub node: Node,
    /// Time.
    pub clock: Clock,
    /// What the node reaches.
    pub surroundings: Surroundings,
    /// [`Node::is_calm`], for those who stand in.
    pub calm: Arc<AtomicBool>,
}

/// Disk and peers.
pub struct Surroundings {
    /// The disk's queue.
    pub disk: DiskThread,
    /// Election port; ensemble only.
    pub election: Option<ElectionLinks>,
    /// Quorum port; ensemble only.
    pub peers: Option<Peers>,
}

/// Runs a driver until [`Event::Stop`].
pub fn run(mut driver: Driver, mailbox: &Mailbox<Event>) {
    let _guard = ExitOnPanic;
    // What the start has left to do.
    driver.step(&mut Vec::new());
    let mut deadline = driver.deadline();
    let calm = driver.calm.clone();
    let driver = Arc::new(Mutex::new(Some(driver)));
    mailbox.represent(Box::new(Representative { driver: driver.clone(), calm }));
    let mut events = Vec::new();
    loop {
        mailbox.take(&mut events, deadline);
        let mut slot = driver.lock();
        let current = slot.as_mut().expect("taken only when the thread ends");
        if !current.step(&mut events) {
            // Awake for ever: nobody stands in for a thread that has ended.
            return slot.take().expect("just used").stop();
        }
        deadline = current.deadline();
    }
}

/// Does the replica thread's work while that sleeps.
struct Representative {
    driver: Arc<Mutex<Option<Driver>>>,
    /// [`Driver::calm`].
    calm: Arc<AtomicBool>,
}

impl StandIn<Event> for Representative {
    /// With more proposals under way, larger batches save more than hand-overs cost.
    fn may(&self, items: &[Event]) -> bool {
        let calm = self.calm.load(Ordering::Relaxed);
        calm && items.len() <= FEW && items.iter().all(Event::is_little)
    }

    fn run(&self, items: &mut Vec<Event>) -> Option<Instant> {
        let _guard = ExitOnPanic;
        let mut slot = self.driver.lock();
        let driver = slot.as_mut().expect("the thread is awake once it ends");
        assert!(driver.step(items), "a stop is never little work");
        driver.deadline()
    }
}

/// A broken invariant must not leave a half-dead server behind, whichever thread finds it.
pub(crate) struct ExitOnPanic;

impl Drop for ExitOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::termination::report_panic();
            tracing::error!("Exiting JVM with code 1");
            std::process::exit(1);
        }
    }
}

impl Driver {
    /// When the node wants to be called next.
    fn deadline(&self) -> Option<Instant> {
        self.node.next_timeout().map(|at| self.clock.instant(at))
    }

    /// Handles events and does what follows from them. False: a stop was among them.
    fn step(&mut self, events: &mut Vec<Event>) -> bool {
        let now = self.clock.now();
        for event in events.drain(..) {
            match event {
                Event::Node(event) => self.node.handle(now, event),
                Event::Query(look) => look(self.node.replica()),
                Event::Stop => return false,
            }
        }
        self.node.finish(now, &mut self.surroundings);
        self.calm.store(self.node.is_calm(), Ordering::Relaxed);
        true
    }

    /// Lets queued log writes finish, and closes the peers' connections.
    fn stop(mut self) {
        self.node.finish(self.clock.now(), &mut self.surroundings);
        let Surroundings { disk, election, peers } = self.surroundings;
        if let Some(mut peers) = peers {
            peers.close();
        }
        if let Some(election) = election {
            election.shutdown();
        }
        disk.finish();
    }
}

impl oxkeeper_node::Driver for Surroundings {
    fn notify(&mut self, to: ServerId, notification: Notification) {
        if let Some(election) = &self.election {
            election.send(to, notification);
        }
    }

    fn connect_election(&mut self) {
        if let Some(election) = &self.election {
            election.connect_all();
        }
    }

    fn dial(&mut self, role: RoleId, leader: ServerId) {
        let met_at = self.election.as_ref().and_then(|election| election.met_at(leader));
        if let Some(peers) = &mut self.peers {
            peers.dial(role, leader, met_at);
        }
    }

    fn hang_up(&mut self) {
        if let Some(peers) = &mut self.peers {
            peers.hang_up();
        }
    }

    fn send_to_leader(&mut self, packets: Vec<u8>) {
        if let Some(leader) = self.peers.as_ref().and_then(Peers::leader) {
            leader.send(packets);
        }
    }

    fn listen(&mut self, role: RoleId) {
        if let Some(peers) = &mut self.peers {
            peers.listen(role);
        }
    }

    fn stop_listening(&mut self) {
        if let Some(peers) = &mut self.peers {
            peers.stop_listening();
        }
    }

    fn send_to_learner(&mut self, link: LinkId, packets: Vec<u8>) {
        if let Some(listener) = self.peers.as_ref().and_then(Peers::listener) {
            listener.send(link, packets);
        }
    }

    fn stream(&mut self, link: LinkId, tree: TreeStream) {
        if let Some(peers) = &self.peers {
            peers.stream(link, tree);
        }
    }

    fn close_learner(&mut self, link: LinkId, reason: &CloseReason) {
        if let Some(listener) = self.peers.as_ref().and_then(Peers::listener) {
            listener.close(link, &reason.to_string());
        }
    }

    fn disk(&mut self, requests: &mut Vec<DiskRequest>) {
        self.disk.request(requests);
    }

    fn read_log(&mut self, read: LogRead) {
        self.disk.read_log(read);
    }

    fn reply(&mut self, client: &Arc<Client>) {
        client.write();
    }

    fn wake(&mut self, client: &Arc<Client>) {
        client.wake();
    }
}
