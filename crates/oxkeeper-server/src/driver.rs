//! The replica thread: takes all that has arrived, lets the replica handle it, performs the outputs.
//!
//! While it sleeps, whoever brings a little work does it in its stead ([`StandIn`]): a lone request then
//! passes through the server with one hand-over, to the log thread.
//!
//! One wake-up makes at most one write to each peer, one batch for the disk, and one wake-up of each
//! client concerned. Few clients get their replies directly, before anything else is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use oxkeeper_proto::ServerId;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_replica::{Input, Output, Replica};
use oxkeeper_state::StateLoader;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::disk::{DiskOp, DiskThread};
use crate::election_links::ElectionLinks;
use crate::mailbox::{Mailbox, StandIn};
use crate::peers::{PeerEvent, Peers};

/// What reaches the replica thread.
pub enum Event {
    /// For the replica.
    Input(Input),
    /// From a connection on the quorum port; may belong to a role that has ended.
    Peer(PeerEvent),
    /// A look at the replica, for operators.
    Query(Box<dyn FnOnce(&Replica) + Send>),
    /// End the thread.
    Stop,
}

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

/// Everything the thread works with.
pub struct Driver {
    /// The server as a value.
    pub replica: Replica,
    /// Time.
    pub clock: Clock,
    /// The disk's queue.
    pub disk: DiskThread,
    /// Election port; ensemble only.
    pub election: Option<ElectionLinks>,
    /// Quorum port; ensemble only.
    pub peers: Option<Peers>,
    /// Scratch.
    pub outputs: Vec<Output>,
    /// Scratch.
    pub disk_ops: Vec<DiskOp>,
    /// Few proposals are under way: batches would be small anyway.
    pub calm: Arc<AtomicBool>,
}

/// Runs a driver until [`Event::Stop`], starting with the outputs of the replica's making that are in
/// [`Driver::outputs`].
pub fn run(mut driver: Driver, mailbox: &Mailbox<Event>) {
    let _guard = ExitOnPanic;
    driver.perform();
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

/// Most events handled by somebody else than the replica thread (no longer than a hand-over takes), and
/// most proposals under way meanwhile: with more of them, larger batches save more than hand-overs cost.
const LITTLE: usize = 8;

/// Does the replica thread's work while that sleeps.
struct Representative {
    driver: Arc<Mutex<Option<Driver>>>,
    /// [`Driver::calm`].
    calm: Arc<AtomicBool>,
}

impl StandIn<Event> for Representative {
    fn may(&self, items: &[Event]) -> bool {
        let calm = self.calm.load(Ordering::Relaxed);
        calm && items.len() <= LITTLE && items.iter().all(Event::is_little)
    }

    fn run(&self, items: &mut Vec<Event>) -> Option<Instant> {
        let _guard = ExitOnPanic;
        let mut slot = self.driver.lock();
        let driver = slot.as_mut().expect("the thread is awake once it ends");
        assert!(driver.step(items), "a stop is never little work");
        driver.deadline()
    }
}

impl Event {
    /// Is it handled in a few microseconds, as a rule?
    fn is_little(&self) -> bool {
        match self {
            Event::Input(Input::Reloaded(..) | Input::SnapshotReceived(_)) | Event::Stop => false,
            Event::Peer(event) => event.is_little(),
            Event::Input(_) | Event::Query(_) => true,
        }
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
    /// When the replica wants to be called next.
    fn deadline(&self) -> Option<Instant> {
        self.replica.next_timeout().map(|at| self.clock.instant(at))
    }

    /// Handles events and performs what follows from them. False: a stop was among them.
    fn step(&mut self, events: &mut Vec<Event>) -> bool {
        let now = self.clock.now();
        for event in events.drain(..) {
            match event {
                Event::Input(input) => self.replica.handle(now, input, &mut self.outputs),
                Event::Peer(event) => {
                    if let Some(peers) = &mut self.peers {
                        for input in peers.inputs(event) {
                            self.replica.handle(now, input, &mut self.outputs);
                        }
                    }
                }
                Event::Query(look) => look(&self.replica),
                Event::Stop => return false,
            }
        }
        if self.replica.next_timeout().is_some_and(|at| at <= now.mono_ms) {
            self.replica.on_timeout(now, &mut self.outputs);
        }
        self.replica.finish(now, &mut self.outputs);
        self.calm.store(self.replica.outstanding_proposals() <= LITTLE, Ordering::Relaxed);
        self.perform();
        true
    }

    fn perform(&mut self) {
        use oxkeeper_zab::Output as Z;
        let mut wakes = Vec::new();
        let disk_ops = &mut self.disk_ops;
        for output in self.outputs.drain(..) {
            let output = match output {
                Output::Wake(client) => {
                    wakes.push(client);
                    continue;
                }
                Output::Zab(output) => output,
            };
            match output {
                Z::Append(proposal) => disk_ops.push(DiskOp::Append(proposal)),
                Z::SaveAcceptedEpoch(epoch) => disk_ops.push(DiskOp::SaveAcceptedEpoch(epoch)),
                Z::PrepareCurrentEpoch(epoch) => disk_ops.push(DiskOp::PrepareCurrentEpoch(epoch)),
                Z::SaveCurrentEpoch(epoch) => disk_ops.push(DiskOp::SaveCurrentEpoch(epoch)),
                Z::SaveSnapshot => disk_ops.push(DiskOp::SaveSnapshot),
                Z::Truncate(zxid) => disk_ops.push(DiskOp::Truncate(zxid)),
                Z::Reload => disk_ops.push(DiskOp::Reload),
                Z::ReadLog { link, from, to } => self.disk.read_log(link, from, to),
                Z::Notify { to, notification } => {
                    if let Some(election) = &self.election {
                        election.send(to, notification);
                    }
                }
                Z::ConnectElection => {
                    if let Some(election) = &self.election {
                        election.connect_all();
                    }
                }
                output => {
                    if let Some(peers) = &mut self.peers {
                        let election = &self.election;
                        let met_at = |server| election.as_ref()?.met_at(server);
                        peers.perform(output, met_at);
                    }
                }
            }
        }
        // Somebody waits for a reply; nobody for the COMMITs, as a rule.
        if self.calm.load(Ordering::Relaxed) && wakes.len() <= LITTLE {
            for client in wakes.drain(..) {
                client.write();
            }
        }
        // Proposals leave before the own disk begins, so that all disks work at the same time.
        if let Some(peers) = &mut self.peers {
            peers.flush();
        }
        self.disk.append(disk_ops);
        for client in wakes {
            client.wake();
        }
    }

    /// Lets queued log writes finish, and closes the peers' connections.
    fn stop(mut self) {
        self.perform();
        if let Some(peers) = &mut self.peers {
            peers.close();
        }
        if let Some(election) = &self.election {
            election.shutdown();
        }
        self.disk.finish();
    }
}

/// Makes states for snapshot streams.
pub fn new_loader(config: &PeerConfig) -> impl Fn() -> Box<StateLoader> + Send + Sync + 'static {
    let (seed, options) = (config.state_seed, config.state_options);
    move || Box::new(StateLoader::new(seed, options))
}

/// The runtime handle and mailbox that callbacks of connections use.
#[derive(Clone)]
pub struct Context {
    /// Runs connection tasks.
    pub runtime: Handle,
    /// Takes what they bring.
    pub mailbox: Arc<Mailbox<Event>>,
}
