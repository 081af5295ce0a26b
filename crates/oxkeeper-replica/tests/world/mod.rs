//! Replicas with links, disks and clients, all in memory. Nothing happens by itself: a script says what
//! clients ask for and what breaks; then everything happens that can, in one fair order.

pub mod client;
pub mod disk;
pub mod words;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::quorum::{Notification, Packet, PacketKind};
use oxkeeper_proto::{Epochs, ServerId, Zxid};
use oxkeeper_replica::{
    Client, ClientPortSettings, Input, Now, Output, Replica, ReplicaConfig, Shared,
};
use oxkeeper_zab::{
    DiskRequest, ElectionRequest, Input as Z, LinkId, LogRead, PortRequest, Proposal,
};

use client::{Open, Scheduled, Someone};
use disk::{Disk, DiskOp};
use words::{line, show};

const TICK_MS: u64 = 200;

/// Of a whole world.
pub struct Rules {
    /// Members; 0 is one standalone server.
    pub voters: i64,
    pub leader_serves: bool,
    /// Learners always get the tree.
    pub snapshots: bool,
}

/// What travels on a quorum link.
enum Message {
    Packet(Packet),
    /// The tree behind a SNAP packet, as the transactions that made it.
    Tree(Vec<Proposal>),
    Closed,
}

struct Link {
    learner: ServerId,
    leader: ServerId,
    learner_open: bool,
    leader_open: bool,
    to_leader: VecDeque<Message>,
    to_learner: VecDeque<Message>,
}

#[derive(Default)]
struct Server {
    replica: Option<Replica>,
    disk: Disk,
    listening: bool,
    my_link: Option<LinkId>,
    /// A leader it tries to connect to, and the tries left.
    connecting: Option<(ServerId, u32)>,
    reads: VecDeque<(LinkId, Zxid, Zxid)>,
    /// The transactions of a tree that was received.
    received: Vec<Proposal>,
    /// The role that was last told of.
    role: String,
}

pub struct World {
    rules: Rules,
    now_ms: u64,
    servers: BTreeMap<ServerId, Server>,
    links: BTreeMap<LinkId, Link>,
    next_link: LinkId,
    votes: BTreeMap<(ServerId, ServerId), Notification>,
    last_vote: BTreeMap<(ServerId, ServerId), Notification>,
    met: BTreeSet<(ServerId, ServerId)>,
    cut: BTreeSet<(ServerId, ServerId)>,
    /// What their leader sends is under way for now.
    stalled: BTreeSet<ServerId>,
    clients: BTreeMap<String, Someone>,
    /// Whose task is slow to hand on what it has taken from its connection, and what that is.
    dawdling: Option<String>,
    late: Vec<(ServerId, Input)>,
    next_client: u64,
    woken: VecDeque<Arc<Client>>,
    pub lines: Vec<String>,
}

fn ensemble(voters: i64) -> EnsembleConfig {
    let member = |id| format!("server.{id}=127.0.0.1:{}:{}:participant\n", 2000 + id, 3000 + id);
    let text: String = (1..=voters).map(member).collect();
    EnsembleConfig::parse(&(text + "version=0")).expect("a valid ensemble")
}

impl World {
    pub fn new(rules: Rules) -> World {
        let ids = 1..=rules.voters.max(1);
        World {
            rules,
            now_ms: 1_000,
            servers: ids.map(|id| (id, Server::default())).collect(),
            links: BTreeMap::new(),
            next_link: 1,
            votes: BTreeMap::new(),
            last_vote: BTreeMap::new(),
            met: BTreeSet::new(),
            cut: BTreeSet::new(),
            stalled: BTreeSet::new(),
            clients: BTreeMap::new(),
            dawdling: None,
            late: Vec::new(),
            next_client: 1,
            woken: VecDeque::new(),
            lines: Vec::new(),
        }
    }

    fn note(&mut self, line: String) {
        self.lines.push(line);
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: 1_700_000_000_000 + self.now_ms as i64 }
    }

    pub fn ids(&self) -> Vec<ServerId> {
        self.servers.keys().copied().collect()
    }

    fn server(&mut self, id: ServerId) -> &mut Server {
        self.servers.get_mut(&id).expect("a known server")
    }

    fn is_up(&self, id: ServerId) -> bool {
        self.servers[&id].replica.is_some()
    }

    fn can_talk(&self, a: ServerId, b: ServerId) -> bool {
        self.is_up(a) && self.is_up(b) && !self.cut.contains(&(a.min(b), a.max(b)))
    }

    // ---- servers

    pub fn start(&mut self, id: ServerId) {
        let settings = ClientPortSettings {
            server: id,
            tick_ms: TICK_MS,
            min_session_timeout_ms: 400,
            max_session_timeout_ms: 100_000,
            auth: Default::default(),
            limits: Default::default(),
        };
        let config = ReplicaConfig {
            prepare: Default::default(),
            reap_interval_ms: 60_000,
            reap_per_minute: 60,
            leader_serves: self.rules.leader_serves,
            config_node: None,
        };
        let (voters, snapshots, now) = (self.rules.voters, self.rules.snapshots, self.now());
        let server = self.server(id);
        let history = server.disk.history();
        let mut state = disk::tree(&server.disk.log);
        state.set_last_zxid(history.last_zxid);
        let shared = Arc::new(Shared::new(*state, settings, 1));
        let mut out = Vec::new();
        server.replica = Some(if voters == 0 {
            Replica::solo(shared, config, now, &mut out)
        } else {
            let zab = oxkeeper_zab::Config {
                me: id,
                ensemble: ensemble(voters),
                tick_ms: TICK_MS,
                init_limit: 10,
                sync_limit: 5,
                commit_log_count: 500,
                force_snapshot_sync: snapshots,
                fast_election: false,
                limits: oxkeeper_zab::Limits::default(),
            };
            let epochs = Epochs { accepted: server.disk.accepted, current: server.disk.current };
            Replica::member(shared, config, zab, epochs, history, now, &mut out)
        });
        self.perform(id, out);
        self.meet();
    }

    /// Ends the process; what was not flushed is lost, and the clients notice.
    pub fn crash(&mut self, id: ServerId) {
        let server = self.server(id);
        let disk = std::mem::take(&mut server.disk);
        *server = Server { disk, ..Server::default() };
        self.server(id).disk.queue.clear();
        self.votes.retain(|(from, to), _| *from != id && *to != id);
        self.break_links(|link| link.learner == id || link.leader == id);
        for someone in self.clients.values_mut() {
            someone.open.take_if(|open| open.server == id);
        }
        self.note(format!("{id} crashes"));
        self.meet();
    }

    pub fn isolate(&mut self, id: ServerId) {
        let others: Vec<_> = self.ids().into_iter().filter(|other| *other != id).collect();
        self.cut.extend(others.iter().map(|other| (id.min(*other), id.max(*other))));
        self.votes.retain(|(from, to), _| *from != id && *to != id);
        self.break_links(|link| link.learner == id || link.leader == id);
        self.meet();
    }

    pub fn heal(&mut self) {
        self.cut.clear();
        self.meet();
    }

    pub fn hold(&mut self, id: ServerId, held: bool) {
        self.server(id).disk.held = held;
    }

    pub fn stall(&mut self, id: ServerId, stalled: bool) {
        if stalled {
            self.stalled.insert(id)
        } else {
            self.stalled.remove(&id)
        };
    }

    fn break_links(&mut self, broken: impl Fn(&Link) -> bool) {
        let up: BTreeSet<_> = self.ids().into_iter().filter(|id| self.is_up(*id)).collect();
        for link in self.links.values_mut().filter(|link| broken(link)) {
            link.to_leader = [Message::Closed].into();
            link.to_learner = [Message::Closed].into();
            link.learner_open &= up.contains(&link.learner);
            link.leader_open &= up.contains(&link.leader);
        }
    }

    /// Election connections follow the network.
    fn meet(&mut self) {
        let ids = self.ids();
        for (&a, &b) in ids.iter().flat_map(|a| ids.iter().map(move |b| (a, b))) {
            let up = self.can_talk(a, b);
            if a == b || up == self.met.contains(&(a, b)) {
                continue;
            }
            if up {
                self.met.insert((a, b));
                if let Some(last) = self.last_vote.get(&(a, b)) {
                    self.votes.insert((a, b), last.clone());
                }
            } else {
                self.met.remove(&(a, b));
            }
            self.zab(a, Z::ElectionLink { peer: b, up });
        }
    }

    fn zab(&mut self, id: ServerId, input: Z) {
        self.input(id, Input::Zab(input));
    }

    fn input(&mut self, id: ServerId, input: Input) {
        let now = self.now();
        let Some(replica) = &mut self.server(id).replica else { return };
        let mut out = Vec::new();
        replica.handle(now, input, &mut out);
        replica.finish(now, &mut out);
        self.perform(id, out);
    }

    fn timeout(&mut self, id: ServerId) {
        let now = self.now();
        let Some(replica) = &mut self.server(id).replica else { return };
        let mut out = Vec::new();
        replica.on_timeout(now, &mut out);
        replica.finish(now, &mut out);
        self.perform(id, out);
    }

    fn perform(&mut self, id: ServerId, out: Vec<Output>) {
        self.note_role(id);
        for output in out {
            match output {
                Output::Wake(client) => {
                    client.wake();
                    self.woken.push_back(client);
                }
                output => {
                    if let Some(line) = line(&output) {
                        self.note(format!("{id} {line}"));
                    }
                    self.perform_protocol(id, output);
                }
            }
        }
    }

    fn note_role(&mut self, id: ServerId) {
        let server = self.server(id);
        let Some(replica) = &server.replica else { return };
        let serves = if replica.shared().serving() { "serves" } else { "does not serve" };
        let role = format!("{id} is {} and {serves}", replica.mode_name().unwrap_or("looking"));
        if std::mem::replace(&mut server.role, role.clone()) != role {
            self.note(role);
        }
    }

    fn perform_protocol(&mut self, id: ServerId, output: Output) {
        let server = self.servers.get_mut(&id).expect("a known server");
        let queue = &mut server.disk.queue;
        match output {
            Output::Election(ElectionRequest::Notify { to, notification }) => {
                self.last_vote.insert((id, to), notification.clone());
                if self.can_talk(id, to) {
                    self.votes.insert((id, to), notification);
                }
            }
            Output::Port(PortRequest::ConnectLeader(leader)) => {
                server.connecting = Some((leader, 5))
            }
            Output::Port(PortRequest::CloseLeader) => {
                server.connecting = None;
                let link = server.my_link.take().and_then(|link| self.links.get_mut(&link));
                if let Some(link) = link {
                    link.learner_open = false;
                    link.to_leader.push_back(Message::Closed);
                }
            }
            Output::Port(PortRequest::ToLeader(packet)) => {
                let link = server.my_link.and_then(|link| self.links.get_mut(&link));
                link.expect("an open link").to_leader.push_back(Message::Packet(packet));
            }
            Output::Port(PortRequest::Listen) => server.listening = true,
            Output::Port(PortRequest::StopListening) => {
                server.listening = false;
                server.reads.clear();
                for link in self.links.values_mut().filter(|link| link.leader == id) {
                    link.leader_open = false;
                    link.to_learner.push_back(Message::Closed);
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
                let replica = server.replica.as_ref().expect("it is up");
                let tree = server.disk.known(replica.shared().state.read().last_zxid());
                self.send_to_learner(link, Message::Tree(tree));
            }
            Output::ReadLog(LogRead { link, from, to }) => server.reads.push_back((link, from, to)),
            Output::Port(PortRequest::CloseLearner { link, .. }) => {
                self.links.get_mut(&link).expect("an open link").leader_open = false;
                self.send_to_learner(link, Message::Closed);
            }
            Output::Disk(DiskRequest::Append(proposal)) => {
                queue.push_back(DiskOp::Append(proposal))
            }
            Output::Disk(DiskRequest::SaveAcceptedEpoch(epoch)) => {
                queue.push_back(DiskOp::SaveAccepted(epoch))
            }
            Output::Disk(DiskRequest::SaveCurrentEpoch(epoch)) => {
                queue.push_back(DiskOp::SaveCurrent(epoch))
            }
            Output::Disk(DiskRequest::SaveSnapshot) => {
                let tree = std::mem::take(&mut server.received);
                queue.push_back(DiskOp::SaveSnapshot(tree));
            }
            Output::Disk(DiskRequest::Truncate(zxid)) => queue.push_back(DiskOp::Truncate(zxid)),
            Output::Disk(DiskRequest::Reload) => queue.push_back(DiskOp::Reload),
            _ => {}
        }
    }

    fn send_to_learner(&mut self, link: LinkId, message: Message) {
        self.links.get_mut(&link).expect("a known link").to_learner.push_back(message);
    }

    // ---- clients

    pub fn connect(&mut self, name: &str, server: ServerId, resume: bool, timeout_ms: i32) {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let (id, now_ms) = (self.next_client, self.now_ms);
        self.next_client += 1;
        let client = Arc::new(Client::new(id, peer, now_ms, Arc::new(Scheduled)));
        let someone = self.clients.entry(name.to_owned()).or_default();
        let old = someone.open.take();
        someone.connect(Open::new(client, server), resume, timeout_ms);
        // The client has a new connection; the server still has the old one.
        drop(old);
        self.task(name);
        self.go_on();
    }

    pub fn send(&mut self, name: &str, requests: &str) {
        let someone = self.clients.get_mut(name).expect("a known client");
        if someone.open.is_none() {
            return self.note(format!("{name} is not connected"));
        }
        someone.send(requests);
        self.task(name);
    }

    /// `name` knows what `other` knows of its session, or `guesses` its password.
    pub fn pose(&mut self, name: &str, other: &str, guesses: bool) {
        let session = self.clients[other].session;
        let someone = self.clients.entry(name.to_owned()).or_default();
        (someone.session, someone.guesses) = (session, guesses);
    }

    /// The task of its connection keeps what it takes from it, until somebody else has connected.
    pub fn dawdle(&mut self, name: &str) {
        self.dawdling = Some(name.to_owned());
    }

    fn go_on(&mut self) {
        self.dawdling = None;
        let late = std::mem::take(&mut self.late);
        late.into_iter().for_each(|(server, input)| self.input(server, input));
    }

    /// The connection breaks.
    pub fn vanish(&mut self, name: &str) {
        let someone = self.clients.get_mut(name).expect("a known client");
        let open = someone.open.take().expect("the client is connected");
        self.disconnected(open);
    }

    fn disconnected(&mut self, open: Open) {
        let Some(replica) = &self.servers[&open.server].replica else { return };
        open.client.disconnected(replica.shared());
        self.input(open.server, Input::Disconnected(open.client));
    }

    /// The task of a connection runs once.
    fn task(&mut self, name: &str) {
        let now_ms = self.now_ms;
        let someone = self.clients.get_mut(name).expect("a known client");
        let Some(open) = &mut someone.open else { return };
        let (client, server) = (open.client.clone(), open.server);
        let Some(replica) = &self.servers[&server].replica else { return };
        let (mut inputs, mut output) = (Vec::new(), Vec::new());
        let progress = client.on_input(replica.shared(), &open.input, now_ms, &mut inputs);
        open.input.drain(..progress.consumed);
        let closing = client.take_output(&mut output);
        let mut lines = someone.receive(&output);
        if let Some(reason) = &progress.close {
            lines.push(format!("is cut off: {reason}"));
        } else if closing {
            lines.push("is closed".to_owned());
        }
        let ended = closing || progress.close.is_some();
        let open = if ended { someone.open.take() } else { None };
        lines.into_iter().for_each(|line| self.note(format!("{name} {line}")));
        if self.dawdling.as_deref() == Some(name) {
            self.late.extend(inputs.into_iter().map(|input| (server, input)));
        } else {
            inputs.into_iter().for_each(|input| self.input(server, input));
        }
        if let Some(open) = open {
            self.disconnected(open);
        }
    }

    /// Whose connection this is; that of a client that has left it is nobody's.
    fn name_of(&self, client: &Client) -> Option<String> {
        let is_it = |someone: &Someone| {
            someone.open.as_ref().is_some_and(|open| open.client.id == client.id)
        };
        self.clients.iter().find(|(_, someone)| is_it(someone)).map(|(name, _)| name.clone())
    }

    // ---- what happens

    /// Everything that can happen now.
    pub fn run(&mut self) {
        for _ in 0..100_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    fn step(&mut self) -> bool {
        if let Some(client) = self.woken.pop_front() {
            if let Some(name) = self.name_of(&client) {
                self.task(&name);
            }
            return true;
        }
        if let Some(((from, to), notification)) = self.votes.pop_first() {
            self.zab(to, Z::Notified { from, notification });
            return true;
        }
        self.deliver_to_leader()
            || self.deliver_to_learner()
            || self.work_of_disks()
            || self.timeouts()
            || self.connect_learners()
    }

    fn deliver_to_leader(&mut self) -> bool {
        for (&id, link) in &mut self.links {
            if !link.leader_open {
                continue;
            }
            let Some(message) = link.to_leader.pop_front() else { continue };
            let leader = link.leader;
            if let Message::Packet(packet) = message {
                self.zab(leader, Z::FromLearner(id, packet));
            } else {
                link.leader_open = false;
                self.zab(leader, Z::LearnerClosed(id));
            }
            return true;
        }
        false
    }

    fn deliver_to_learner(&mut self) -> bool {
        for link in self.links.values_mut() {
            if !link.learner_open || self.stalled.contains(&link.learner) {
                continue;
            }
            let Some(message) = link.to_learner.pop_front() else { continue };
            let learner = link.learner;
            match message {
                Message::Packet(packet) => self.zab(learner, Z::FromLeader(packet)),
                Message::Tree(proposals) => {
                    let tree = disk::tree(&proposals);
                    self.note(format!("{learner} has received a tree of {}", proposals.len()));
                    self.server(learner).received = proposals;
                    self.input(learner, Input::SnapshotReceived(tree));
                }
                Message::Closed => {
                    link.learner_open = false;
                    self.server(learner).my_link = None;
                    self.zab(learner, Z::LeaderClosed);
                }
            }
            return true;
        }
        false
    }

    fn work_of_disks(&mut self) -> bool {
        for id in self.ids() {
            let disk = &mut self.server(id).disk;
            if !disk.held
                && let Some(op) = disk.queue.pop_front()
            {
                let answer = disk.carry_out(op);
                if let Input::Zab(Z::Flushed(zxid)) = &answer {
                    self.note(format!("{id} has {} on disk", show(*zxid)));
                }
                self.input(id, answer);
                return true;
            }
            if let Some((link, from, to)) = self.server(id).reads.pop_front() {
                let proposals = self.server(id).disk.read(from, to);
                self.zab(id, Z::LogRead { link, proposals });
                return true;
            }
        }
        false
    }

    fn due_ms(&self, id: ServerId) -> Option<u64> {
        self.servers[&id].replica.as_ref().and_then(Replica::next_timeout)
    }

    fn timeouts(&mut self) -> bool {
        let due =
            self.ids().into_iter().find(|id| self.due_ms(*id).is_some_and(|at| at <= self.now_ms));
        due.inspect(|id| self.timeout(*id)).is_some()
    }

    /// Attempts wait for everything else, so that a leader can open its port.
    fn connect_learners(&mut self) -> bool {
        let trying = self.servers.iter().find_map(|(id, server)| Some((*id, server.connecting?)));
        let Some((learner, (leader, tries))) = trying else { return false };
        if self.can_talk(learner, leader) && self.servers[&leader].listening {
            let id = self.next_link;
            self.next_link += 1;
            let (to_leader, to_learner) = (VecDeque::new(), VecDeque::new());
            let (learner_open, leader_open) = (true, true);
            let link = Link { learner, leader, learner_open, leader_open, to_leader, to_learner };
            self.links.insert(id, link);
            self.server(learner).connecting = None;
            self.server(learner).my_link = Some(id);
            self.zab(leader, Z::LearnerConnected(id));
            self.zab(learner, Z::LeaderConnected);
        } else if tries == 0 {
            self.server(learner).connecting = None;
            self.zab(learner, Z::LeaderClosed);
        } else {
            self.server(learner).connecting = Some((leader, tries - 1));
        }
        true
    }

    /// Lets `ms` pass, or less if `done`. False: it was never done.
    pub fn pass(&mut self, ms: u64, done: impl Fn(&World) -> bool) -> bool {
        let end_ms = self.now_ms + ms;
        loop {
            self.run();
            if done(self) {
                return true;
            }
            match self.ids().into_iter().filter_map(|id| self.due_ms(id)).min() {
                Some(at) if at <= end_ms => self.now_ms = self.now_ms.max(at),
                _ => break,
            }
        }
        self.now_ms = end_ms;
        false
    }

    /// Has everyone who is up a role?
    pub fn all_have_roles(&self) -> bool {
        let mut up = self.servers.values().filter_map(|server| server.replica.as_ref());
        up.all(Replica::is_serving)
    }
}
