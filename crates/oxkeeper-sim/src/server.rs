//! One server: a disk that lives on, and a process that comes and goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use oxkeeper_node::snapshot::Purpose;
use oxkeeper_node::{
    HistoryId, LoadedState, Node, NodeSettings, Op, RoleId, SnapshotJob, SnapshotStep, Started,
    TreeStream,
};
use oxkeeper_proto::quorum::{Notification, ServerState};
use oxkeeper_proto::{ServerId, Zxid};
use oxkeeper_replica::limits::LimitSettings;
use oxkeeper_replica::{Client, ClientPortSettings, Input, Output, Replica, ReplicaConfig, Shared};
use oxkeeper_state::State;
use oxkeeper_state::auth::AuthSettings;
use oxkeeper_state::prepare::PrepareSettings;
use oxkeeper_storage::StorageError;
use oxkeeper_zab::{CloseReason, DiskRequest, LinkId, LogRead, PortRequest};

use crate::clients::port::Accepted;
use crate::clock::Clock;
use crate::dice::Dice;
use crate::disk::apache::Attic;
use crate::disk::{Aims, DiskPlan, FuseDisk, Phase, Trust};
use crate::net::ConnId;
use crate::overheard;
use crate::plan::{INIT_LIMIT, SYNC_LIMIT};
use crate::quorum_port::QuorumPort;
use crate::store::Queue;
use crate::violation::{Rule, Violation};
use crate::world::{Due, Event, World};

/// What waits for the node.
pub use oxkeeper_node::Event as Mail;

/// A running process.
#[derive(Debug)]
pub struct Process {
    /// The server as a value; away only while it takes a step.
    node: Option<Node>,
    /// What its clients' connections see.
    pub shared: Arc<Shared>,
    mailbox: Vec<Mail>,
    wake_at: Option<u64>,
    /// Its disk queue.
    pub queue: Queue,
    /// Its quorum port.
    pub port: QuorumPort,
    /// Its clients.
    pub clients: BTreeMap<ConnId, Accepted>,
    /// For the checks.
    pub seen: Seen,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// The disk loses what was not synced.
    Power,
    /// At once; perhaps the whole machine is away.
    Kill,
    /// Asked to, by somebody who waits; its peers learn it at once.
    Stop,
}

/// What a server was seen doing last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its state.
    pub state: ServerState,
    /// Does it serve clients?
    pub serving: bool,
}

impl Seen {
    /// Does it lead, with a quorum behind it?
    pub fn leads(self) -> bool {
        self.state == ServerState::Leading && self.serving
    }
}

impl Process {
    /// The replica, between steps.
    pub fn replica(&self) -> &Replica {
        self.node.as_ref().expect("no step is under way").replica()
    }
}

/// A server.
#[derive(Debug)]
pub struct Server {
    /// Its disk.
    pub disk: FuseDisk,
    /// Counts processes.
    pub incarnation: u64,
    /// `None`: down.
    pub process: Option<Process>,
    /// zxid up to which the disk has told that everything is durable.
    pub durable: Zxid,
    /// Factor of disk latency.
    pub disk_slow: u64,
    /// What it relies on of its disk.
    pub trust: Trust,
    /// What Apache would have kept.
    pub attic: Attic,
    /// Its disk does nothing before this, in µs.
    pub hangs_until: u64,
    /// The process does not run before this, in µs.
    pub paused_until: u64,
    /// A leader has sent it a tree in which some of the transactions up to here were done already.
    pub fuzzy_until: Zxid,
    /// The machine does not run before this, in µs.
    pub frozen_until: u64,
    /// The machine's.
    pub clock: Clock,
}

impl Server {
    /// A server that never ran.
    pub fn new(index: usize, drift: i64, plan: &DiskPlan, aims: Aims) -> Server {
        Server {
            disk: FuseDisk::new(plan.disk(&format!("s{}", index + 1)), aims),
            incarnation: 0,
            process: None,
            durable: Zxid::ZERO,
            disk_slow: 1,
            trust: Trust::default(),
            attic: Attic::default(),
            hangs_until: 0,
            paused_until: 0,
            fuzzy_until: Zxid::ZERO,
            frozen_until: 0,
            clock: Clock::new(index, drift),
        }
    }

    /// Does a process run?
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// All that its disk has told durable, also if that was not true.
    pub fn told(&self) -> Zxid {
        self.trust.harm.as_ref().map_or(self.durable, |harm| harm.told.max(self.durable))
    }

    /// Does this very process run?
    pub fn is_running(&self, incarnation: u64) -> bool {
        self.process.is_some() && self.incarnation == incarnation
    }
}

/// Bounds of session timeouts, in ms.
pub const MIN_TIMEOUT_MS: i32 = 200;
/// The upper one.
pub const MAX_TIMEOUT_MS: i32 = 4_000;

impl World<'_> {
    /// Starts a process on what the disk holds.
    pub fn restart(&mut self, server: usize) -> Result<(), Violation> {
        if self.servers[server].is_up() {
            return Ok(());
        }
        if !self.care_for_disk(server) {
            self.after(300_000, Event::Restart { server });
            return Ok(());
        }
        let me = &mut self.servers[server];
        me.disk.repair();
        if me.incarnation == 0 && !self.plan.disk.autocreate {
            // Who starts an ensemble says so until it has started.
            me.disk.mem.put_initialize();
        }
        me.disk.enter(Phase::Start);
        if self.now < self.plan.faults_end && self.dice.one_in(8) {
            let nth = self.dice.between(1, 12);
            self.servers[server].disk.set_fuse(nth);
        }
        let loaded = self.load_for_start(server);
        if let Ok(loaded) = &loaded
            && !self.servers[server].disk.is_blown()
        {
            if self.is_mixture(server, loaded) {
                overheard::take();
                self.after(300_000, Event::Restart { server });
                return Ok(());
            }
            self.check_loaded(server, loaded)?;
        }
        let started = loaded.and_then(|loaded| self.start(server, loaded));
        self.check_overheard(server)?;
        if self.survives(server, started, "start")? && self.plan.shape.is_standalone() {
            let last = self.servers[server].durable;
            return self.check_standalone_start(last);
        }
        Ok(())
    }

    fn load_for_start(&mut self, server: usize) -> Result<LoadedState, StorageError> {
        if self.servers[server].incarnation == 0 {
            self.seed_history(server)?;
        }
        self.load(server)
    }

    /// It has warned of nothing that it need not.
    fn check_overheard(&self, server: usize) -> Result<(), Violation> {
        match overheard::take() {
            Some(warning) if !self.may_warn_of_loss(server, &warning) => {
                Err(Rule::Accusation.broken(format!("s{} says: {warning}", server + 1)))
            }
            _ => Ok(()),
        }
    }

    fn start(&mut self, server: usize, loaded: LoadedState) -> Result<(), StorageError> {
        // Two processes of one machine never begin at the same time.
        self.servers[server].clock.go_on(self.now);
        let disk = self.servers[server].disk.clone();
        let last = loaded.history.last_zxid;
        let mut dice = Dice::new(self.dice.any());
        let shape = &self.plan.shape;
        let settings = NodeSettings {
            store: self.store_settings(),
            clients: self.client_port_settings(server),
            replica: ReplicaConfig {
                prepare: PrepareSettings {
                    extended_types: self.plan.work.rules.extended_types,
                    enforce_quota: self.plan.work.rules.enforce_quota,
                    ..PrepareSettings::default()
                },
                reap_interval_ms: self.plan.work.reap_interval_ms,
                reap_per_minute: 10_000,
                leader_serves: shape.leader_serves,
                config_node: (!shape.is_standalone()).then(|| (self.plan.ensemble.to_string(), 0)),
            },
            zab: (!shape.is_standalone()).then(|| self.zab_config(server)),
            watch_seed: 11,
            random: Box::new(move || dice.any()),
        };
        let Started { shared, node, store, epochs } =
            oxkeeper_node::start(disk, loaded, settings, self.clocks_of_next(server))?;
        let queue = Queue::new(store)?;
        self.servers[server].incarnation += 1;
        self.servers[server].durable = last.max(Zxid::ZERO);
        self.checks.deliveries.loaded(server, last.max(Zxid::ZERO));
        let trust = &mut self.servers[server].trust;
        let epochs = epochs.unwrap_or_default();
        (trust.accepted, trust.current) = (epochs.accepted, epochs.current);
        self.note(|| format!("s{} starts: last {last}, {epochs:?}", server + 1));
        self.servers[server].process = Some(Process {
            node: Some(node),
            shared,
            mailbox: Vec::new(),
            wake_at: None,
            queue,
            port: QuorumPort::default(),
            clients: BTreeMap::new(),
            seen: Seen { state: ServerState::Looking, serving: false },
        });
        self.after_for(server, 1_000_000, Due::ReapIdle);
        let delay = self.dice.between(10_000, 3_000_000);
        self.after_for(server, delay, Due::Purge);
        self.after_for(server, delay % 1_000_000, Due::SyncMark);
        self.after_verification(server);
        // Performs what the start has left to do.
        self.wake_within(server, 0);
        Ok(())
    }

    /// Before its first start: the history that the plan says it begins with, as a snapshot.
    fn seed_history(&self, server: usize) -> Result<(), StorageError> {
        let Some(last_zxid) = self.plan.shape.last_zxid else { return Ok(()) };
        let mut state = State::new(7);
        state.set_last_zxid(last_zxid);
        let settings = self.client_port_settings(server);
        let job = SnapshotJob::new(
            self.servers[server].disk.clone(),
            Arc::new(Shared::new(state, settings, 11)),
            self.store_settings().snapshot,
            HistoryId::default(),
            Purpose::Adoption,
        );
        match job.run()? {
            SnapshotStep::Complete(complete) => (*complete).publish().map(|_| ()),
            _ => panic!("nobody else has the state"),
        }
    }

    fn zab_config(&self, server: usize) -> oxkeeper_zab::Config {
        oxkeeper_zab::Config {
            me: server as i64 + 1,
            ensemble: self.plan.ensemble.clone(),
            tick_ms: self.plan.tick_ms,
            init_limit: INIT_LIMIT,
            sync_limit: SYNC_LIMIT,
            commit_log_count: self.plan.commit_log_count,
            force_snapshot_sync: self.plan.shape.force_snapshot_sync,
            fast_election: self.plan.shape.fast_election,
            limits: self.plan.shape.limits,
        }
    }

    fn client_port_settings(&self, server: usize) -> ClientPortSettings {
        ClientPortSettings {
            server: server as i64 + 1,
            tick_ms: self.plan.tick_ms,
            min_session_timeout_ms: MIN_TIMEOUT_MS,
            max_session_timeout_ms: MAX_TIMEOUT_MS,
            auth: AuthSettings::default(),
            limits: LimitSettings::default(),
        }
    }

    /// Ends a process.
    pub fn crash(&mut self, server: usize, death: Death) {
        self.summary.crashes += 1;
        self.faults.disturbed = self.now;
        self.note(|| format!("s{} ends: {death:?}", server + 1));
        let Some(conns) = self.end_process(server) else {
            // It was starting.
            self.power_off(server, death == Death::Power);
            return;
        };
        self.power_off(server, death == Death::Power);
        let silent = death != Death::Stop && self.dice.one_in(3);
        for id in conns {
            let Some(conn) = self.conns.get_mut(&id) else { continue };
            let end = usize::from(conn.nodes[1] == server);
            if silent {
                // The peers find out by silence, or when the machine is back.
                conn.open[end] = false;
                conn.pipes[1 - end].outbox.clear();
                self.faults.silent.push(id);
            } else {
                self.close_end(id, end);
            }
        }
    }

    fn power_off(&mut self, server: usize, power: bool) {
        let power = self.loses_power(server, power);
        let mut random = Vec::new();
        for _ in 0..4096 {
            random.push(self.dice.any());
        }
        let mut next = 0;
        let disk = &mut self.servers[server].disk;
        if power {
            disk.mem.crash(|n| {
                next += 1;
                random[next % random.len()] % n.max(1)
            });
        } else {
            disk.mem.kill();
        }
        disk.repair();
        self.servers[server].hangs_until = 0;
        self.servers[server].paused_until = 0;
        if power {
            self.after_power_loss(server);
        }
        let delay = self.dice.between(20_000, 1_500_000);
        self.after(delay, Event::Restart { server });
    }

    /// The connections that the process had.
    fn end_process(&mut self, server: usize) -> Option<Vec<ConnId>> {
        let process = self.servers[server].process.take()?;
        let counts = process.replica().zab().map(|zab| (zab.sync_counts(), zab.elections()));
        if let Some((counts, elections)) = counts {
            self.summary.add_syncs(counts);
            self.summary.elections += elections;
        }
        self.forget_votes(server);
        self.forget_election_conns(server);
        let ids = self.conns.iter().filter(|(_, conn)| conn.nodes.contains(&server));
        Some(ids.map(|(id, _)| *id).collect())
    }

    /// Gives a server something for its mailbox.
    pub fn mail(&mut self, server: usize, mail: Mail) {
        let delay = self.dice.below(200);
        if let Some(process) = &mut self.servers[server].process {
            process.mailbox.push(mail);
            self.wake_within(server, delay);
        }
    }

    /// Gives a server an input of the protocol.
    pub fn zab_input(&mut self, server: usize, input: oxkeeper_zab::Input) {
        self.mail(server, Mail::Input(Input::Zab(input)));
    }

    fn wake_within(&mut self, server: usize, delay: u64) {
        let at = self.now + delay;
        let Some(process) = &mut self.servers[server].process else { return };
        if process.wake_at.is_none_or(|earlier| at < earlier) {
            process.wake_at = Some(at);
            self.after_for(server, delay, Due::Wake);
        }
    }

    fn schedule_wake(&mut self, server: usize) {
        let Some(process) = &self.servers[server].process else { return };
        if let Some(deadline) = process.replica().next_timeout() {
            let at = self.when(server, deadline);
            self.wake_within(server, at.saturating_sub(self.now).max(1));
        }
    }

    /// The replica thread runs once.
    pub fn wake(&mut self, server: usize) -> Result<(), Violation> {
        let paused_until = self.servers[server].paused_until;
        let clocks = self.clocks(server);
        let (now, step) = (self.now, self.dice.between(100, 2000));
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        if process.wake_at.is_none_or(|at| now < at) {
            // An earlier one was scheduled meanwhile and has run.
            return Ok(());
        }
        process.wake_at = None;
        if paused_until > now {
            self.wake_within(server, paused_until - now + step);
            return Ok(());
        }
        let mut node = process.node.take().expect("no step is under way");
        let mailbox = std::mem::take(&mut process.mailbox);
        self.follow_mail(server, &mailbox);
        for mail in mailbox {
            self.tell(|world| world.tell_mail(server, &mail));
            node.handle(clocks, mail);
        }
        let mut surroundings = Surroundings { world: self, server, violation: None };
        node.finish(clocks, &mut surroundings);
        let violation = surroundings.violation;
        if let Some(process) = &mut self.servers[server].process {
            process.node = Some(node);
        }
        self.check_overheard(server)?;
        violation.map_or(Ok(()), Err)?;
        self.check_server(server)?;
        self.check_hang(server)?;
        self.schedule_wake(server);
        Ok(())
    }
}

/// What a node reaches: the world, under watch.
struct Surroundings<'w, 't> {
    world: &'w mut World<'t>,
    server: usize,
    /// The first.
    violation: Option<Violation>,
}

impl oxkeeper_node::Driver for Surroundings<'_, '_> {
    fn performing(&mut self, output: &Output) {
        let (world, server) = (&mut *self.world, self.server);
        world.tell(|world| world.tell_output(server, output));
        if matches!(output, Output::Port(PortRequest::StopListening)) {
            world.streams_go_on(server);
        }
        let result = match output {
            Output::Disk(request) => world.check_request(server, request),
            Output::Port(PortRequest::ToLeader(packet)) => {
                world.follow_packet(server, packet);
                world.check_ack(server, packet)
            }
            Output::Port(PortRequest::ToLearner(link, packet)) => {
                world.check_to_learner(server, *link, packet)
            }
            Output::Port(PortRequest::ProposalToLearner { link, proposal, .. }) => {
                world.check_proposal(server, *link, proposal.zxid)
            }
            Output::Port(PortRequest::CloseLearner { reason, .. }) if reason.breaks_protocol() => {
                Err(Rule::Accusation.broken(format!("s{} closes a link: {reason}", server + 1)))
            }
            _ => Ok(()),
        };
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }

    fn notify(&mut self, to: ServerId, notification: Notification) {
        self.world.notify(self.server, (to - 1) as usize, notification);
    }

    fn connect_election(&mut self) {
        self.world.connect_elections(self.server);
    }

    fn dial(&mut self, role: RoleId, leader: ServerId) {
        self.world.start_dial(self.server, role, (leader - 1) as usize);
    }

    fn hang_up(&mut self) {
        self.world.hang_up(self.server);
    }

    fn send_to_leader(&mut self, packets: Vec<u8>) {
        self.world.send_to_leader(self.server, packets);
    }

    fn listen(&mut self, role: RoleId) {
        self.world.listen(self.server, role);
    }

    fn stop_listening(&mut self) {
        self.world.stop_listening(self.server);
    }

    fn send_to_learner(&mut self, link: LinkId, packets: Vec<u8>) {
        self.world.send_to_learner(link, packets);
    }

    fn stream(&mut self, link: LinkId, tree: TreeStream) {
        self.world.send_tree(link, tree);
    }

    fn close_learner(&mut self, link: LinkId, _: &CloseReason) {
        self.world.close_end(link, 1);
    }

    fn disk(&mut self, requests: &mut Vec<DiskRequest>) {
        self.world.queue_disk(self.server, requests.drain(..).map(Op::Request));
    }

    fn read_log(&mut self, read: LogRead) {
        let server = self.server;
        let delay = self.world.dice.between(200, 20_000);
        self.world.after_for(server, delay, Due::LogRead { read });
    }

    fn reply(&mut self, client: &Arc<Client>) {
        self.wake(client);
    }

    fn wake(&mut self, client: &Arc<Client>) {
        client.wake();
        let delay = self.world.dice.below(300);
        self.world.after(delay, Event::ClientTask { conn: client.id });
    }
}
