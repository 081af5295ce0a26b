//! A deterministic world of servers, without files and sockets: the driver of N [`Zab`] values, as
//! the crate's documentation asks for it. Nothing happens by itself; a schedule chooses the next
//! [`Event`].
//!
//! The world checks while it runs: see `check.rs`.
#![allow(dead_code, reason = "every test program uses another part")]

pub mod alone;
pub mod check;
pub mod disk;
pub mod trace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::quorum::{
    NOTIFICATION_VERSION, Notification, Packet, PacketKind, Request, ServerState,
};
use oxkeeper_proto::txn::{Txn, TxnHeader};
use oxkeeper_proto::{Encode, Epochs, OpCode, ServerId, Zxid};
use oxkeeper_zab::{
    Config, DiskRequest, Effect, ElectionRequest, Input, LinkId, LogRead, Output, PortRequest,
    Proposal, Zab,
};

use check::Checker;
use disk::{Disk, DiskOp};

/// Settings of all servers of a world.
#[derive(Clone, Debug)]
pub struct Settings {
    pub voters: i64,
    pub observers: i64,
    pub commit_log_count: usize,
    pub force_snapshot_sync: bool,
    pub fast_election: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            voters: 3,
            observers: 0,
            commit_log_count: 500,
            force_snapshot_sync: false,
            fast_election: false,
        }
    }
}

pub const TICK_MS: u64 = 200;

/// What travels on a quorum link.
#[derive(Clone, Debug)]
pub enum Message {
    Packet(Packet),
    /// The tree behind a SNAP packet.
    Stream(Vec<Proposal>),
    Closed,
}

/// One quorum connection. An end that is gone receives nothing.
#[derive(Debug)]
pub struct Link {
    pub learner: ServerId,
    pub leader: ServerId,
    pub learner_open: bool,
    pub leader_open: bool,
    pub to_leader: VecDeque<Message>,
    pub to_learner: VecDeque<Message>,
}

pub struct Server {
    pub id: ServerId,
    pub config: Config,
    pub zab: Option<Zab>,
    pub disk: Disk,
    /// What was applied, from the first transaction on.
    pub tree: Vec<Proposal>,
    received: Option<Vec<Proposal>>,
    pub serving: bool,
    pub leading: bool,
    pub listening: bool,
    /// The link this server has opened to its leader.
    pub my_link: Option<LinkId>,
    /// A leader it tries to connect to, and the tries left.
    pub connecting: Option<(ServerId, u32)>,
    /// Log reads under way.
    pub reads: VecDeque<(LinkId, Zxid, Zxid)>,
    /// Unanswered syncs: what must be applied when they are done.
    pub syncs: VecDeque<usize>,
    /// Requests that learners have forwarded.
    pub forwarded: usize,
}

/// Something that can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Election(ServerId, ServerId),
    ToLeader(LinkId),
    ToLearner(LinkId),
    Connect(ServerId),
    Disk(ServerId),
    Read(ServerId),
    Timeout(ServerId),
}

pub struct World {
    pub now: u64,
    pub servers: BTreeMap<ServerId, Server>,
    pub links: BTreeMap<LinkId, Link>,
    next_link: LinkId,
    /// Election messages under way: one slot per direction.
    pub slots: BTreeMap<(ServerId, ServerId), Notification>,
    last_sent: BTreeMap<(ServerId, ServerId), Notification>,
    election_links: BTreeSet<(ServerId, ServerId)>,
    /// Pairs that cannot talk.
    pub cut: BTreeSet<(ServerId, ServerId)>,
    pub check: Checker,
    pub trace: trace::Trace,
    /// Values proposed so far.
    pub proposed: u64,
    /// Answer log reads with "cannot serve".
    pub no_log_reads: bool,
    /// Appends that one flush covers at most.
    pub flush_group: usize,
    /// Disks that do nothing for now.
    pub stalled: BTreeSet<ServerId>,
    /// How long the end of a random schedule took.
    pub recovered_ms: u64,
}

fn pair(a: ServerId, b: ServerId) -> (ServerId, ServerId) {
    (a.min(b), a.max(b))
}

/// A transaction as it would be logged.
pub fn payload(zxid: Zxid, value: &str) -> Bytes {
    let header = TxnHeader {
        client_id: 0x1234,
        cxid: 1,
        zxid: zxid.0,
        time_ms: 1,
        kind: OpCode::SetData.code(),
    };
    let mut out = header.to_bytes().to_vec();
    let (op, data) = (OpCode::SetData, Some(value.as_bytes()));
    Txn::SetData { op, path: "/a".into(), data, version: 1 }.encode_record(&mut out);
    out.into()
}

pub fn proposal(epoch: u32, counter: u32) -> Proposal {
    let zxid = Zxid::new(epoch, counter);
    Proposal { zxid, payload: payload(zxid, &format!("{zxid}")) }
}

pub fn ensemble(voters: i64, observers: i64) -> EnsembleConfig {
    let mut text = String::new();
    for id in 1..=voters + observers {
        let role = if id <= voters { "participant" } else { "observer" };
        text +=
            &format!("server.{id}=127.0.0.1:{}:{}:{role};{}\n", 2000 + id, 3000 + id, 4000 + id);
    }
    text += "version=0";
    EnsembleConfig::parse(&text).expect("a valid ensemble")
}

impl World {
    pub fn new(settings: &Settings) -> World {
        let ensemble = ensemble(settings.voters, settings.observers);
        let servers = ensemble.servers.keys().map(|&id| {
            let config = Config {
                me: id,
                ensemble: ensemble.clone(),
                tick_ms: TICK_MS,
                init_limit: 10,
                sync_limit: 5,
                commit_log_count: settings.commit_log_count,
                force_snapshot_sync: settings.force_snapshot_sync,
                fast_election: settings.fast_election,
                limits: oxkeeper_zab::Limits::default(),
            };
            (id, Server::new(id, config))
        });
        World {
            now: 1_000,
            servers: servers.collect(),
            links: BTreeMap::new(),
            next_link: 1,
            slots: BTreeMap::new(),
            last_sent: BTreeMap::new(),
            election_links: BTreeSet::new(),
            cut: BTreeSet::new(),
            check: Checker::default(),
            trace: trace::Trace::default(),
            proposed: 0,
            no_log_reads: false,
            flush_group: usize::MAX,
            stalled: BTreeSet::new(),
            recovered_ms: 0,
        }
    }

    pub fn server(&self, id: ServerId) -> &Server {
        &self.servers[&id]
    }

    pub fn zab(&self, id: ServerId) -> &Zab {
        self.servers[&id].zab.as_ref().expect("the server is up")
    }

    fn mut_server(&mut self, id: ServerId) -> &mut Server {
        self.servers.get_mut(&id).expect("a known server")
    }

    pub fn ids(&self) -> Vec<ServerId> {
        self.servers.keys().copied().collect()
    }

    pub fn is_up(&self, id: ServerId) -> bool {
        self.servers[&id].zab.is_some()
    }

    pub fn can_talk(&self, a: ServerId, b: ServerId) -> bool {
        self.is_up(a) && self.is_up(b) && !self.cut.contains(&pair(a, b))
    }

    // ---- faults

    pub fn start(&mut self, id: ServerId) {
        let now = self.now;
        let server = self.mut_server(id);
        if server.zab.is_some() {
            return;
        }
        let (tree, history) = server.disk.start(server.config.commit_log_count);
        server.tree = tree;
        let mut out = Vec::new();
        let epochs = Epochs { accepted: server.disk.accepted, current: server.disk.current };
        server.zab = Some(Zab::new(server.config.clone(), epochs, history, now, &mut out));
        self.trace.note(format!("{id} starts"));
        self.perform(id, out);
        self.election_links();
    }

    /// Ends the process; what was not flushed is lost.
    pub fn crash(&mut self, id: ServerId) {
        if !self.is_up(id) {
            return;
        }
        self.trace.note(format!("{id} crashes"));
        let server = self.mut_server(id);
        server.zab = None;
        server.disk.queue.clear();
        server.forget();
        server.connecting = None;
        server.my_link = None;
        self.check.stopped(id);
        self.slots.retain(|(from, to), _| *from != id && *to != id);
        self.break_links(|link| link.learner == id || link.leader == id);
        self.election_links();
    }

    /// A crash after which the log ends at `keep`, although more was durable.
    pub fn lose_tail(&mut self, id: ServerId, keep: Zxid) {
        self.crash(id);
        self.mut_server(id).disk.lose_tail(keep);
        self.trace.note(format!("{id} has lost what its log had behind {}", trace::show(keep)));
    }

    pub fn partition(&mut self, a: ServerId, b: ServerId) {
        self.cut.insert(pair(a, b));
        self.trace.note(format!("{a} and {b} are parted"));
        self.slots.remove(&(a, b));
        self.slots.remove(&(b, a));
        self.break_links(|link| pair(link.learner, link.leader) == pair(a, b));
        self.election_links();
    }

    pub fn isolate(&mut self, id: ServerId) {
        for other in self.ids() {
            if other != id {
                self.partition(id, other);
            }
        }
    }

    /// Everyone hears from everyone that this server is the best, true or not. The promises of the
    /// protocol must not depend on the election.
    pub fn acclaim(&mut self, leader: ServerId, round: i64) {
        self.trace.note(format!("all are told to elect {leader}"));
        for from in self.ids() {
            for to in self.ids() {
                if from != to && self.can_talk(from, to) {
                    let notification = Notification {
                        state: ServerState::Looking as i32,
                        leader,
                        zxid: Zxid::new(1_000, 0),
                        election_epoch: round,
                        peer_epoch: 1_000,
                        version: NOTIFICATION_VERSION,
                        config: None,
                    };
                    self.input(to, Input::Notified { from, notification });
                }
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        self.trace.note("all can talk".to_owned());
        self.election_links();
    }

    /// What is under way on the broken links is lost; both ends learn of it when they get to it.
    fn break_links(&mut self, broken: impl Fn(&Link) -> bool) {
        for link in self.links.values_mut().filter(|link| broken(link)) {
            link.to_leader.clear();
            link.to_learner.clear();
            link.to_leader.push_back(Message::Closed);
            link.to_learner.push_back(Message::Closed);
        }
        for (id, server) in &self.servers {
            if server.zab.is_none() {
                for link in self.links.values_mut() {
                    link.learner_open &= link.learner != *id;
                    link.leader_open &= link.leader != *id;
                }
            }
        }
    }

    /// Election connections follow the network.
    fn election_links(&mut self) {
        let ids = self.ids();
        for &a in &ids {
            for &b in &ids {
                if a >= b {
                    continue;
                }
                let up = self.can_talk(a, b);
                if up == self.election_links.contains(&(a, b)) {
                    continue;
                }
                if up {
                    self.election_links.insert((a, b));
                } else {
                    self.election_links.remove(&(a, b));
                }
                for (me, peer) in [(a, b), (b, a)] {
                    if self.is_up(me) {
                        self.input(me, Input::ElectionLink { peer, up });
                        if up && let Some(last) = self.last_sent.get(&(me, peer)) {
                            self.slots.entry((me, peer)).or_insert(last.clone());
                        }
                    }
                }
            }
        }
    }

    // ---- events

    /// All that can happen now. Timeouts only when due.
    pub fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for &(from, to) in self.slots.keys() {
            if self.can_talk(from, to) {
                events.push(Event::Election(from, to));
            }
        }
        for (&id, link) in &self.links {
            if link.leader_open && !link.to_leader.is_empty() {
                events.push(Event::ToLeader(id));
            }
            if link.learner_open && !link.to_learner.is_empty() {
                events.push(Event::ToLearner(id));
            }
        }
        for (&id, server) in &self.servers {
            if server.connecting.is_some() {
                events.push(Event::Connect(id));
            }
            if !server.disk.queue.is_empty() && !self.stalled.contains(&id) {
                events.push(Event::Disk(id));
            }
            if !server.reads.is_empty() {
                events.push(Event::Read(id));
            }
            if self.deadline(id).is_some_and(|at| at <= self.now) {
                events.push(Event::Timeout(id));
            }
        }
        events
    }

    fn deadline(&self, id: ServerId) -> Option<u64> {
        self.servers[&id].zab.as_ref().and_then(Zab::next_timeout)
    }

    /// The next time at which a timeout is due.
    pub fn next_deadline(&self) -> Option<u64> {
        self.ids().into_iter().filter_map(|id| self.deadline(id)).min()
    }

    pub fn run(&mut self, event: Event) {
        match event {
            Event::Election(from, to) => {
                if let Some(notification) = self.slots.remove(&(from, to)) {
                    self.input(to, Input::Notified { from, notification });
                }
            }
            Event::ToLeader(id) => self.deliver_to_leader(id),
            Event::ToLearner(id) => self.deliver_to_learner(id),
            Event::Connect(id) => self.connect(id),
            Event::Disk(id) => self.disk_step(id),
            Event::Read(id) => self.read_log(id),
            Event::Timeout(id) => {
                let now = self.now;
                let mut out = Vec::new();
                if let Some(zab) = &mut self.mut_server(id).zab {
                    zab.on_timeout(now, &mut out);
                }
                self.perform(id, out);
            }
        }
    }

    fn deliver_to_leader(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let leader = link.leader;
        match link.to_leader.pop_front() {
            Some(Message::Packet(packet)) => self.input(leader, Input::FromLearner(id, packet)),
            Some(Message::Closed) => {
                link.leader_open = false;
                self.input(leader, Input::LearnerClosed(id));
            }
            Some(Message::Stream(_)) | None => unreachable!("learners send packets"),
        }
    }

    fn deliver_to_learner(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let learner = link.learner;
        match link.to_learner.pop_front() {
            Some(Message::Packet(packet)) => {
                self.check.leader_packet(learner, &packet);
                self.input(learner, Input::FromLeader(packet));
            }
            Some(Message::Stream(tree)) => {
                self.mut_server(learner).received = Some(tree);
                self.input(learner, Input::SnapshotProgress);
                self.input(learner, Input::SnapshotReceived);
            }
            Some(Message::Closed) => {
                link.learner_open = false;
                self.mut_server(learner).my_link = None;
                self.input(learner, Input::LeaderClosed);
            }
            None => unreachable!("only links with messages deliver"),
        }
    }

    fn connect(&mut self, learner: ServerId) {
        let Some((leader, tries)) = self.servers[&learner].connecting else { return };
        if self.can_talk(learner, leader) && self.servers[&leader].listening {
            let id = self.next_link;
            self.next_link += 1;
            let link = Link {
                learner,
                leader,
                learner_open: true,
                leader_open: true,
                to_leader: VecDeque::new(),
                to_learner: VecDeque::new(),
            };
            self.links.insert(id, link);
            let server = self.mut_server(learner);
            server.connecting = None;
            server.my_link = Some(id);
            self.input(leader, Input::LearnerConnected(id));
            self.input(learner, Input::LeaderConnected);
        } else if tries == 0 {
            self.mut_server(learner).connecting = None;
            self.input(learner, Input::LeaderClosed);
        } else {
            self.mut_server(learner).connecting = Some((leader, tries - 1));
        }
    }

    /// Carries out the next disk request; appends that follow each other are one group.
    pub fn disk_step(&mut self, id: ServerId) {
        let server = self.servers.get_mut(&id).expect("a known server");
        let limit = server.config.commit_log_count;
        let Some(op) = server.disk.queue.pop_front() else { return };
        let answer = server.disk.carry_out(op, limit, self.flush_group);
        if self.trace.verbose
            && let disk::Answer::Input(input) = &answer
        {
            self.trace.note(format!("{id} disk: {input:?}"));
        }
        match answer {
            disk::Answer::Input(input) => self.input(id, input),
            disk::Answer::Loaded(tree, history) => {
                self.mut_server(id).tree = tree;
                self.input(id, Input::Reloaded(history));
            }
            disk::Answer::Nothing => {}
        }
        self.check.disk(id, &self.servers[&id].disk);
    }

    fn read_log(&mut self, id: ServerId) {
        let refuse = self.no_log_reads;
        let server = self.mut_server(id);
        let Some((link, from, to)) = server.reads.pop_front() else { return };
        let proposals = if refuse { None } else { server.disk.read(from, to) };
        self.input(id, Input::LogRead { link, proposals });
    }

    // ---- the driver

    pub fn input(&mut self, id: ServerId, input: Input) {
        let now = self.now;
        let mut out = Vec::new();
        let server = self.mut_server(id);
        match &mut server.zab {
            Some(zab) => {
                zab.handle(now, input, &mut out);
            }
            None => return,
        }
        self.perform(id, out);
    }

    fn perform(&mut self, id: ServerId, out: Vec<Output>) {
        for output in out {
            self.trace.output(id, &output);
            self.check.output(id, &output, &self.servers);
            self.perform_one(id, output);
        }
    }

    fn perform_one(&mut self, id: ServerId, output: Output) {
        let server = self.servers.get_mut(&id).expect("a known server");
        match output {
            Output::Election(ElectionRequest::Notify { to, notification }) => {
                self.last_sent.insert((id, to), notification.clone());
                if self.can_talk(id, to) {
                    self.slots.insert((id, to), notification);
                }
            }
            Output::Election(ElectionRequest::Connect) => {}
            Output::Port(PortRequest::ConnectLeader(leader)) => {
                server.connecting = Some((leader, 5))
            }
            Output::Port(PortRequest::CloseLeader) => {
                server.connecting = None;
                server.received = None;
                if let Some(link) = server.my_link.take().and_then(|link| self.links.get_mut(&link))
                {
                    link.learner_open = false;
                    link.to_leader.push_back(Message::Closed);
                }
            }
            Output::Port(PortRequest::ToLeader(packet)) => {
                if let Some(link) = server.my_link.and_then(|link| self.links.get_mut(&link)) {
                    push(&mut link.to_leader, Message::Packet(packet));
                }
            }
            Output::Port(PortRequest::Listen) => server.listening = true,
            Output::Port(PortRequest::StopListening) => {
                server.listening = false;
                server.reads.clear();
                for link in self.links.values_mut().filter(|link| link.leader == id) {
                    link.leader_open = false;
                    push(&mut link.to_learner, Message::Closed);
                }
            }
            Output::Port(PortRequest::ToLearner(link, packet)) => {
                self.send_to_learner(link, Message::Packet(packet))
            }
            Output::Port(PortRequest::ProposalToLearner { link, proposal, inform }) => {
                let kind = if inform { PacketKind::Inform } else { PacketKind::Proposal };
                let packet = Packet::with(kind, proposal.zxid, proposal.payload);
                self.send_to_learner(link, Message::Packet(packet));
            }
            Output::Port(PortRequest::SnapshotToLearner(link)) => {
                let tree = server.tree.clone();
                self.send_to_learner(link, Message::Stream(tree));
            }
            Output::ReadLog(LogRead { link, from, to }) => server.reads.push_back((link, from, to)),
            Output::Port(PortRequest::CloseLearner { link, .. }) => {
                let link = self.links.get_mut(&link).expect("a link of this leader");
                link.leader_open = false;
                push(&mut link.to_learner, Message::Closed);
            }
            Output::Replica(Effect::AdoptSnapshot(_)) => {
                server.tree = server.received.take().expect("a snapshot was received");
            }
            Output::Disk(DiskRequest::Append(proposal)) => {
                server.disk.queue.push_back(DiskOp::Append(proposal))
            }
            Output::Disk(DiskRequest::SaveAcceptedEpoch(epoch)) => {
                server.disk.queue.push_back(DiskOp::SaveAccepted(epoch));
            }
            Output::Disk(DiskRequest::PrepareCurrentEpoch(epoch)) => {
                server.disk.queue.push_back(DiskOp::PrepareCurrent(epoch));
            }
            Output::Disk(DiskRequest::SaveCurrentEpoch(epoch)) => {
                server.disk.queue.push_back(DiskOp::SaveCurrent(epoch));
            }
            Output::Disk(DiskRequest::SaveSnapshot) => {
                let zxid = server.zab.as_ref().map_or(Zxid::ZERO, Zab::applied);
                let tree = server.tree.clone();
                server.disk.queue.push_back(DiskOp::SaveSnapshot(zxid, tree));
            }
            Output::Disk(DiskRequest::Truncate(zxid)) => {
                server.disk.queue.push_back(DiskOp::Truncate(zxid))
            }
            Output::Disk(DiskRequest::Reload) => server.disk.queue.push_back(DiskOp::Reload),
            Output::Replica(Effect::Apply(proposal)) => {
                // Applying again what a snapshot had already changes nothing.
                if server.tree.last().is_none_or(|last| last.zxid < proposal.zxid) {
                    server.tree.push(proposal);
                }
            }
            Output::Replica(Effect::StartServing { leading, .. }) => {
                server.serving = true;
                server.leading = leading;
            }
            Output::Replica(Effect::StopServing) => {
                server.serving = false;
                server.leading = false;
                server.syncs.clear();
            }
            Output::Replica(Effect::SyncDone) => {
                let needed = server.syncs.pop_front().expect("a sync was asked for");
                assert!(needed <= server.tree.len(), "server {id}: sync done before its data came");
            }
            Output::Replica(Effect::Forwarded { .. }) => {
                server.forwarded += 1;
                self.propose(id);
            }
            Output::Replica(Effect::Pinged(zxid)) => {
                self.input(id, Input::PingReply { zxid, touches: Bytes::new() });
            }
            Output::Replica(Effect::Revalidate { .. })
            | Output::Replica(Effect::Touched { .. })
            | Output::Replica(Effect::Revalidated(_)) => {}
        }
    }

    fn send_to_learner(&mut self, link: LinkId, message: Message) {
        let link = self.links.get_mut(&link).expect("a link of this leader");
        assert!(link.leader_open, "nothing is sent on a closed link");
        push(&mut link.to_learner, message);
    }

    // ---- clients

    /// The serving leader, the one of the newest epoch if there are several.
    pub fn leader(&self) -> Option<ServerId> {
        let serving = self.servers.values().filter(|server| server.leading);
        serving.max_by_key(|server| self.zab(server.id).epoch()).map(|server| server.id)
    }

    pub fn propose(&mut self, id: ServerId) {
        let Some(zab) = &self.servers[&id].zab else { return };
        let Some(zxid) = zab.next_zxid() else { return };
        self.proposed += 1;
        let payload = payload(zxid, &format!("{}", self.proposed));
        self.input(id, Input::Propose(Proposal { zxid, payload }));
    }

    /// A client's write at a learner.
    pub fn forward(&mut self, id: ServerId) {
        let packet = request(OpCode::SetData.code());
        self.input(id, Input::Forward(packet));
    }

    /// A client's sync at a server that serves.
    pub fn sync(&mut self, id: ServerId) {
        let Some(leader) = self.server(id).zab.as_ref().and_then(Zab::leader) else { return };
        if !self.server(id).serving {
            return;
        }
        let needed = if self.server(leader).leading && self.is_up(leader) {
            self.server(leader).tree.len()
        } else {
            0
        };
        self.mut_server(id).syncs.push_back(needed);
        self.input(id, Input::Sync(request(OpCode::Sync.code())));
    }

    // ---- fair schedules

    /// Lets everything happen that can, then time pass, until `done` or `limit_ms` have passed.
    pub fn settle(&mut self, limit_ms: u64, done: impl Fn(&World) -> bool) -> bool {
        let end = self.now + limit_ms;
        loop {
            let mut rounds = 0;
            loop {
                if done(self) {
                    return true;
                }
                let events = self.events();
                let Some(&event) = events.iter().min_by_key(|event| rank(event)) else { break };
                rounds += 1;
                assert!(rounds < 100_000, "the world does not come to rest");
                self.run(event);
            }
            match self.next_deadline() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => return false,
            }
        }
    }

    /// Lets `ms` pass.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now + ms;
        self.settle(ms, |_| false);
        self.now = end;
    }

    /// Does a leader serve, and everyone who is up with it?
    pub fn all_serve(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let epoch = self.zab(leader).epoch();
        self.servers
            .values()
            .filter(|server| server.zab.is_some())
            .all(|server| server.serving && self.zab(server.id).epoch() == epoch)
    }

    /// Has everyone who is up applied and logged the same?
    pub fn all_equal(&self) -> bool {
        let mut trees = self.servers.values().filter(|server| server.zab.is_some());
        let Some(first) = trees.next() else { return true };
        self.servers.values().all(|server| {
            server.zab.is_none() || server.disk.queue.is_empty() && server.tree == first.tree
        })
    }
}

/// Connection attempts wait for everything else, so that a leader can open its port.
fn rank(event: &Event) -> u8 {
    match event {
        Event::Connect(_) => 2,
        Event::Disk(_) => 1,
        _ => 0,
    }
}

fn push(queue: &mut VecDeque<Message>, message: Message) {
    if !matches!(queue.back(), Some(Message::Closed)) {
        queue.push_back(message);
    }
}

pub fn request(op: i32) -> Packet {
    let mut data = Vec::new();
    Request { session: 0x1234, cxid: 7, op, body: &[] }.encode(&mut data);
    Packet::with(PacketKind::Request, Zxid(-1), data)
}

impl Server {
    fn new(id: ServerId, config: Config) -> Server {
        Server {
            id,
            config,
            zab: None,
            disk: Disk::default(),
            tree: Vec::new(),
            received: None,
            serving: false,
            leading: false,
            listening: false,
            my_link: None,
            connecting: None,
            reads: VecDeque::new(),
            syncs: VecDeque::new(),
            forwarded: 0,
        }
    }

    fn forget(&mut self) {
        self.tree.clear();
        self.received = None;
        self.serving = false;
        self.leading = false;
        self.listening = false;
        self.reads.clear();
        self.syncs.clear();
    }
}
