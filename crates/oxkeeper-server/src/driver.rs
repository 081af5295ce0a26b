//! The replica thread: takes all that has arrived, lets the replica handle it, performs the outputs.
//!
//! One wake-up makes at most one write to each peer, one batch for the disk, and one wake-up of each
//! client concerned.

use std::sync::Arc;
use std::time::Duration;

use oxkeeper_proto::ServerId;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_replica::{Input, Output, Replica};
use oxkeeper_state::StateLoader;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::disk::{DiskOp, DiskThread};
use crate::election_links::ElectionLinks;
use crate::mailbox::Mailbox;
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
    /// Where its inputs come from.
    pub mailbox: Arc<Mailbox<Event>>,
    /// Time.
    pub clock: Clock,
    /// The disk's queue.
    pub disk: DiskThread,
    /// Election port; ensemble only.
    pub election: Option<ElectionLinks>,
    /// Quorum port; ensemble only.
    pub peers: Option<Peers>,
}

impl Driver {
    /// Runs until [`Event::Stop`]. `first`: outputs of the replica's making.
    pub fn run(mut self, first: Vec<Output>) {
        let mut outputs = first;
        let mut disk_ops = Vec::new();
        let mut events = Vec::new();
        loop {
            self.perform(&mut outputs, &mut disk_ops);
            let deadline = self.replica.next_timeout().map(|at| self.clock.instant(at));
            self.mailbox.take(&mut events, deadline);
            let now = self.clock.now();
            for event in events.drain(..) {
                match event {
                    Event::Input(input) => self.replica.handle(now, input, &mut outputs),
                    Event::Peer(event) => {
                        if let Some(peers) = &mut self.peers {
                            for input in peers.inputs(event) {
                                self.replica.handle(now, input, &mut outputs);
                            }
                        }
                    }
                    Event::Query(look) => look(&self.replica),
                    Event::Stop => {
                        return self.stop(outputs, disk_ops);
                    }
                }
            }
            if self.replica.next_timeout().is_some_and(|at| at <= now.mono_ms) {
                self.replica.on_timeout(now, &mut outputs);
            }
            self.replica.finish(now, &mut outputs);
        }
    }

    fn perform(&mut self, outputs: &mut Vec<Output>, disk_ops: &mut Vec<DiskOp>) {
        use oxkeeper_zab::Output as Z;
        let mut wakes = Vec::new();
        for output in outputs.drain(..) {
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
                        peers.perform(output);
                    }
                }
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
    fn stop(mut self, mut outputs: Vec<Output>, mut disk_ops: Vec<DiskOp>) {
        self.perform(&mut outputs, &mut disk_ops);
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
