//! The replica: inputs in, outputs out, commits applied in batches.
//!
//! It is a standalone server or an ensemble member (`Mode`); above that difference all is shared:
//! sessions, the order of replies, application. A driver calls [`Replica::handle`] for everything that
//! has arrived, then [`Replica::finish`] once, then performs the outputs in order.

mod apply;
mod clients;
mod roles;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use oxkeeper_proto::client::Id;
use oxkeeper_proto::{Epochs, ServerId, SessionId, Zxid};
use oxkeeper_state::State;
use oxkeeper_state::prepare::{Prepare, PrepareSettings};
use oxkeeper_state::watch::WatcherId;
use oxkeeper_zab::{DiskRequest, ElectionRequest, History, LogRead, PortRequest, Proposal, Zab};

use crate::Map;
use crate::client::Client;
use crate::client::statistics::Lengths;
use crate::session::SessionTracker;
use crate::shared::{Shared, StateId};
use crate::solo::Solo;

/// The two clocks, read by the driver.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic, for deadlines, in ms.
    pub mono_ms: u64,
    /// Wall clock, for stats of znodes, in ms since 1970.
    pub wall_ms: i64,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Something of the protocol between servers, or of the disk.
    Zab(oxkeeper_zab::Input),
    /// Answer to `Truncate` and `Reload`: the tree as loaded, and its history.
    Reloaded(Box<State>, History),
    /// A snapshot stream was read to its end; the tree it makes.
    SnapshotReceived(Box<State>),
    /// A client asks for a session.
    Connect {
        /// The connection.
        client: Arc<Client>,
        /// 0 for a new one.
        session: SessionId,
        /// `None` if it has the wrong length.
        password: Option<[u8; 16]>,
        /// Negotiated.
        timeout_ms: i32,
    },
    /// A client's write.
    Request {
        /// The connection.
        client: Arc<Client>,
        /// Echoed in the reply.
        xid: i32,
        /// Operation number.
        op: i32,
        /// Request record.
        body: Bytes,
        /// The connection's identities when the request arrived.
        ids: Arc<Vec<Id>>,
    },
    /// A client's sync.
    Sync {
        /// The connection.
        client: Arc<Client>,
        /// Echoed in the reply.
        xid: i32,
        /// Request record (the path).
        body: Bytes,
    },
    /// A connection ended.
    Disconnected(Arc<Client>),
}

/// What must be done, in order, by who does it.
#[derive(Debug)]
pub enum Output {
    /// By the election port.
    Election(ElectionRequest),
    /// By the quorum port.
    Port(PortRequest),
    /// By the disk's queue.
    Disk(DiskRequest),
    /// By a reader of the log, beside the queue.
    ReadLog(LogRead),
    /// By a connection: it has output, or may go on with its input.
    Wake(Arc<Client>),
}

/// What a replica needs to know besides [`crate::ClientPortSettings`].
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// Rules of preparation (quotas, TTL nodes, digests).
    pub prepare: PrepareSettings,
    /// Container and TTL reaping interval (`znode.container.checkIntervalMs`), in ms.
    pub reap_interval_ms: u64,
    /// At most so many deletions a minute (`znode.container.maxPerMinute`).
    pub reap_per_minute: u32,
    /// `leaderServes`: does a leader accept clients?
    pub leader_serves: bool,
    /// Text of the ensemble's configuration for `/zookeeper/config`, and its version.
    pub config_node: Option<(String, i64)>,
}

/// How proposals become commits.
#[derive(Debug)]
enum Mode {
    Solo(Solo),
    Ensemble(Box<Zab>),
}

/// A request under way, remembered until a transaction with its session and cxid is applied.
#[derive(Debug)]
struct InFlight {
    cxid: i32,
    client: Arc<Client>,
    kind: InFlightKind,
}

#[derive(Debug)]
enum InFlightKind {
    /// Answers a ConnectRequest.
    Connect { timeout_ms: i32 },
    /// Answers a request.
    Write,
}

/// A sync under way.
#[derive(Debug)]
struct PendingSync {
    client: Arc<Client>,
    /// Standalone: done when this is applied.
    after: Zxid,
}

/// A connection whose session the leader is asked for.
#[derive(Debug)]
struct Revalidating {
    client: Arc<Client>,
    /// Negotiated.
    timeout_ms: i32,
}

/// The learners of a leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LearnerCounts {
    /// All of them.
    pub learners: usize,
    /// Synchronized followers.
    pub followers: usize,
    /// Synchronized observers.
    pub observers: usize,
    /// Synchronized followers without a vote.
    pub strangers: usize,
}

/// One server.
#[derive(Debug)]
pub struct Replica {
    shared: Arc<Shared>,
    config: ReplicaConfig,
    mode: Mode,
    prepare: Prepare,
    tracker: SessionTracker,
    /// Connections with an established session, or about to have one.
    clients: Map<WatcherId, Arc<Client>>,
    /// The connection that serves a session here.
    sessions: Map<SessionId, Arc<Client>>,
    in_flight: Map<SessionId, VecDeque<InFlight>>,
    syncs: VecDeque<PendingSync>,
    /// Connections that ask the leader whether their session lives.
    revalidating: Map<SessionId, Vec<Revalidating>>,
    next_session: SessionId,
    /// Sessions whose connection has ended since touches were last reported to the leader.
    departed: Vec<(SessionId, i32)>,
    /// Committed, not yet applied.
    to_apply: Vec<Proposal>,
    /// Waiting for `AdoptSnapshot`.
    received: Option<Box<State>>,
    /// Connections to wake at the end of the batch.
    woken: Vec<Arc<Client>>,
    /// Empty between inputs; kept for its memory.
    zab_out: Vec<oxkeeper_zab::Output>,
    /// The state that learners are sent of whom Zab spoke last.
    stream_state: StateId,
    /// When to look for containers next; only while leading.
    next_reap_ms: u64,
    /// Containers found, to be deleted one by one.
    reaping: VecDeque<String>,
    /// Since when touches were last reported to the leader, in ms.
    touched_ms: u64,
    /// Of the proposals made here.
    proposal_sizes: Lengths,
    /// Are clients served by the current role?
    serving: bool,
    /// Monotonic ms at which service ended, or the server began without.
    unavailable_since_ms: u64,
    /// Monotonic ms at which the search for a leader began, while it goes on.
    looking_since_ms: Option<u64>,
    /// Monotonic ms at which the current role was found.
    elected_ms: u64,
}

impl Replica {
    /// A standalone server on the state in `shared`. It serves at once.
    pub fn solo(
        shared: Arc<Shared>,
        config: ReplicaConfig,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Replica {
        let last_zxid = shared.state.read().last_zxid();
        let mut replica = Replica::new(shared, config, Mode::Solo(Solo::new(last_zxid)), now);
        replica.start_serving(now, None, true);
        replica.finish(now, out);
        replica
    }

    /// A member of an ensemble on the state in `shared`, all of whose logged transactions are applied.
    /// It starts looking for a leader.
    pub fn member(
        shared: Arc<Shared>,
        config: ReplicaConfig,
        zab: oxkeeper_zab::Config,
        epochs: Epochs,
        history: History,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Replica {
        let mut zab_out = Vec::new();
        let zab = Zab::new(zab, epochs, history, now.mono_ms, &mut zab_out);
        let mode = Mode::Ensemble(Box::new(zab));
        let mut replica = Replica::new(shared, config, mode, now);
        replica.note_election(now);
        replica.perform(zab_out, now, out);
        replica.finish(now, out);
        replica
    }

    fn new(shared: Arc<Shared>, config: ReplicaConfig, mode: Mode, now: Now) -> Replica {
        let settings = &shared.settings;
        let tracker = SessionTracker::new(settings.tick_ms);
        let prepare = Prepare::new(&shared.state.read(), config.prepare.clone());
        let next_session = oxkeeper_proto::ids::first_session_id(settings.server, now.wall_ms);
        Replica {
            shared,
            config,
            mode,
            prepare,
            tracker,
            clients: Map::default(),
            sessions: Map::default(),
            in_flight: Map::default(),
            syncs: VecDeque::new(),
            revalidating: Map::default(),
            next_session,
            departed: Vec::new(),
            to_apply: Vec::new(),
            received: None,
            woken: Vec::new(),
            zab_out: Vec::new(),
            stream_state: StateId::default(),
            next_reap_ms: u64::MAX,
            reaping: VecDeque::new(),
            touched_ms: now.mono_ms,
            proposal_sizes: Lengths::default(),
            serving: false,
            unavailable_since_ms: now.mono_ms,
            looking_since_ms: None,
            elected_ms: now.mono_ms,
        }
    }

    /// Notes when a search for a leader begins and ends.
    fn note_election(&mut self, now: Now) {
        let Mode::Ensemble(zab) = &self.mode else { return };
        let looking = zab.state() == oxkeeper_proto::quorum::ServerState::Looking;
        match (looking, self.looking_since_ms) {
            (true, None) => self.looking_since_ms = Some(now.mono_ms),
            (false, Some(since_ms)) => {
                self.looking_since_ms = None;
                self.elected_ms = now.mono_ms;
                self.shared.meters.election_time.record(now.mono_ms.saturating_sub(since_ms));
            }
            _ => {}
        }
    }

    /// Takes one input. Outputs may follow only from [`Self::finish`].
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Zab(input) => self.on_zab(now, input, out),
            Input::Reloaded(state, history) => {
                self.replace_state(*state);
                self.zab_input(now, oxkeeper_zab::Input::Reloaded(history), out);
            }
            Input::SnapshotReceived(state) => {
                self.received = Some(state);
                self.zab_input(now, oxkeeper_zab::Input::SnapshotReceived, out);
            }
            Input::Connect { client, session, password, timeout_ms } => {
                self.on_connect(now, client, session, password, timeout_ms, out);
            }
            Input::Request { client, xid, op, body, ids } => {
                self.on_request(now, client, xid, op, body, &ids, out);
            }
            Input::Sync { client, xid, body } => self.on_sync(now, client, xid, body, out),
            Input::Disconnected(client) => self.on_disconnected(&client),
        }
    }

    /// Applies what was committed and wakes the connections that have output. Call after a batch of
    /// inputs.
    pub fn finish(&mut self, now: Now, out: &mut Vec<Output>) {
        self.apply_committed(now);
        out.extend(self.woken.drain(..).map(Output::Wake));
    }

    /// When [`Self::on_timeout`] must be called, in monotonic ms.
    pub fn next_timeout(&self) -> Option<u64> {
        let zab = match &self.mode {
            Mode::Ensemble(zab) => zab.next_timeout(),
            Mode::Solo(_) => None,
        };
        let expiry = if self.decides_expiry() { self.tracker.next_deadline() } else { None };
        let reap = (self.next_reap_ms != u64::MAX).then_some(self.next_reap_ms);
        [zab, expiry, reap].into_iter().flatten().min()
    }

    /// A deadline has passed.
    pub fn on_timeout(&mut self, now: Now, out: &mut Vec<Output>) {
        if let Mode::Ensemble(zab) = &mut self.mode
            && zab.next_timeout().is_some_and(|at| at <= now.mono_ms)
        {
            let mut zab_out = std::mem::take(&mut self.zab_out);
            zab.on_timeout(now.mono_ms, &mut zab_out);
            self.note_election(now);
            self.perform(zab_out, now, out);
        }
        if self.decides_expiry() {
            self.expire_sessions(now, out);
            self.reap_containers(now, out);
        }
    }

    /// Is this the server that expires sessions: standalone, or a leader that serves?
    fn decides_expiry(&self) -> bool {
        self.serving && self.leading()
    }

    /// Standalone counts as leading.
    fn leading(&self) -> bool {
        match &self.mode {
            Mode::Solo(_) => true,
            Mode::Ensemble(zab) => zab.state() == oxkeeper_proto::quorum::ServerState::Leading,
        }
    }

    // ---- for operators

    /// The part shared with connections.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The state that a [`PortRequest::SnapshotToLearner`](oxkeeper_zab::PortRequest::SnapshotToLearner) of the
    /// last step speaks of. The role may have ended since, and the state taken in what no quorum vouches for.
    pub fn stream_state(&self) -> StateId {
        self.stream_state
    }

    /// The Zab state machine of an ensemble member.
    pub fn zab(&self) -> Option<&Zab> {
        match &self.mode {
            Mode::Ensemble(zab) => Some(zab),
            Mode::Solo(_) => None,
        }
    }

    /// `standalone`, `leader`, `follower` or `observer`; `None` while there is no role.
    pub fn mode_name(&self) -> Option<&'static str> {
        use oxkeeper_proto::quorum::ServerState;
        match &self.mode {
            Mode::Solo(_) => Some("standalone"),
            Mode::Ensemble(zab) => match zab.state() {
                ServerState::Looking => None,
                ServerState::Following => Some("follower"),
                ServerState::Leading => Some("leader"),
                ServerState::Observing => Some("observer"),
            },
        }
    }

    /// The leader of the current role.
    pub fn leader(&self) -> Option<ServerId> {
        self.zab()?.leader()
    }

    /// Where the role stands.
    pub fn phase(&self) -> Option<oxkeeper_zab::Phase> {
        self.zab().map(Zab::phase)
    }

    /// Live sessions and their expiry buckets; meaningful on a leader or standalone server.
    pub fn tracker(&self) -> &SessionTracker {
        &self.tracker
    }

    /// Lengths of the proposals that were made here.
    pub fn proposal_sizes(&self) -> Lengths {
        self.proposal_sizes
    }

    /// Does the current role serve clients?
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// Syncs of this server's clients that are not done yet.
    pub fn pending_syncs(&self) -> usize {
        self.syncs.len()
    }

    /// Leader: who is connected to it.
    pub fn learner_counts(&self) -> LearnerCounts {
        let mut counts = LearnerCounts::default();
        let Some(zab) = self.zab() else { return counts };
        for learner in zab.learners() {
            counts.learners += 1;
            match (learner.up_to_date, learner.observer) {
                (false, _) => {}
                (true, true) => counts.observers += 1,
                (true, false) if zab.is_voter(learner.server) => counts.followers += 1,
                (true, false) => counts.strangers += 1,
            }
        }
        counts
    }

    /// Proposals not yet committed.
    pub fn outstanding_proposals(&self) -> usize {
        match &self.mode {
            Mode::Solo(solo) => solo.outstanding(),
            Mode::Ensemble(zab) => zab.outstanding(),
        }
    }

    fn queue_wake(woken: &mut Vec<Arc<Client>>, client: &Arc<Client>) {
        if client.needs_wake() {
            woken.push(client.clone());
        }
    }
}
