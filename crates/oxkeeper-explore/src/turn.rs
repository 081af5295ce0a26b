//! An event under way at one server: the driver between its core, its disk and its ports.

use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::quorum::{Packet, PacketKind, ServerState};
use oxkeeper_proto::{Epochs, ServerId};
use oxkeeper_zab::{Config, DiskRequest, Effect, ElectionRequest, Input, Output, PortRequest, Zab};

use crate::disk::{COMMIT_LOG_COUNT, Done, Request, Txn, short};
use crate::driver::Hashed;
use crate::rules::{Broken, Rule};
use crate::server::{Event, Message, SERVERS, Seen, Sent, Server};
use crate::words;

const TICK_MS: u64 = 200;
const INIT_LIMIT: u64 = 10;
const SYNC_LIMIT: u64 = 5;
/// The time at which everything happens. Where a timeout fires the clock jumps, and is set back behind it:
/// how long ago a role has ended decides nothing, so states that differ in it alone are the same.
const NOW_MS: u64 = 1_000;

/// An event under way.
#[allow(missing_docs)]
pub struct Turn {
    pub server: Server,
    pub sent: Vec<Sent>,
    pub seen: Vec<Seen>,
    pub broken: Option<Broken>,
    pub said: Option<Vec<String>>,
}

impl Turn {
    /// Nothing has happened yet.
    pub fn at(server: Server, speak: bool) -> Turn {
        let said = speak.then(Vec::new);
        Turn { server, sent: Vec::new(), seen: Vec::new(), broken: None, said }
    }

    /// Notes that this server has broken a rule; the first counts.
    pub fn breaks(&mut self, rule: Rule, what: String) {
        self.broken.get_or_insert(Broken { rule, what });
    }

    /// The event, and all that the driver does at once.
    pub fn run(&mut self, event: &Event) {
        match event {
            Event::Start { fine } => self.start(*fine),
            Event::Crash => {
                let disk = std::mem::take(&mut self.server.disk);
                self.server = Server::new(self.server.id, disk);
                self.server.disk.queue.clear();
            }
            Event::Input(input) => {
                if let Input::FromLeader(packet) = input
                    && packet.known_kind() == Some(PacketKind::LeaderInfo)
                {
                    self.server.announced = packet.zxid.epoch();
                }
                if matches!(input, Input::LeaderConnected | Input::LeaderClosed) {
                    self.server.connecting = None;
                }
                self.input(input.clone());
            }
            Event::Tree(tree) => {
                self.server.received = Some(tree.clone());
                self.input(Input::SnapshotProgress);
                self.input(Input::SnapshotReceived);
            }
            Event::Disk => self.disk(),
            Event::GiveUp => {
                // A leader hears of its links again only where all their limits have passed.
                let leads =
                    self.server.zab.as_ref().is_some_and(|zab| zab.state() == ServerState::Leading);
                let all_ms = TICK_MS * (INIT_LIMIT + SYNC_LIMIT);
                self.timeout(if leads { all_ms } else { 0 });
            }
            Event::Wait => self.timeout(0),
        }
    }

    fn start(&mut self, fine: bool) {
        let server = &mut self.server;
        let (tree, history) = match server.disk.start() {
            Ok(loaded) => loaded,
            Err(what) => {
                let what = format!("server {} cannot start: {what}", server.id);
                return self.breaks(Rule::DiskContract, what);
            }
        };
        server.tree = tree;
        let epochs = Epochs { accepted: server.disk.accepted, current: server.disk.current };
        let mut out = Vec::new();
        server.zab = Some(Zab::new(config(server.id, fine), epochs, history, NOW_MS, &mut out));
        self.perform(out);
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        let server = &mut self.server;
        let Some(zab) = &mut server.zab else { return };
        zab.handle(NOW_MS, input, &mut out);
        self.perform(out);
    }

    fn disk(&mut self) {
        let server = &mut self.server;
        let Some(zab) = &server.zab else { return };
        match server.disk.carry_out(&server.tree, zab.applied()) {
            Ok(Done::Answer(input)) => self.input(input),
            Ok(Done::Loaded(tree, history)) => {
                server.tree = tree;
                self.input(Input::Reloaded(history));
            }
            Ok(Done::Nothing) => {}
            Err(what) => {
                self.breaks(Rule::DiskContract, format!("server {}: {what}", self.server.id))
            }
        }
    }

    /// The clock jumps to the next deadline, at least by `jump_ms`.
    fn timeout(&mut self, jump_ms: u64) {
        let server = &mut self.server;
        let Some(zab) = &mut server.zab else { return };
        let Some(due_ms) = zab.next_timeout() else { return };
        let mut out = Vec::new();
        zab.on_timeout(due_ms.max(NOW_MS + jump_ms), &mut out);
        self.perform(out);
    }

    /// The pause behind a role that has ended passes by itself as soon as the disk is idle: it changes
    /// nothing for anyone else, and until it has passed this server takes part in nothing.
    pub fn end_stop(&mut self, before: &Server) {
        let server = &self.server;
        let looking = server.zab.as_ref().is_some_and(|zab| zab.state() == ServerState::Looking);
        if looking && server.vote.is_none() {
            self.timeout(0);
        }
        if self.server.vote.is_some() && before.vote.is_none() {
            // Whoever begins to look begins the same way, whatever its clock was then.
            for peer in (1..=SERVERS).filter(|peer| *peer != before.id) {
                self.input(Input::ElectionLink { peer, up: true });
            }
        }
    }

    fn perform(&mut self, out: Vec<Output>) {
        let mut reads = Vec::new();
        for output in out {
            if let Some(said) = &mut self.said
                && let Some(line) = words::output(self.server.id, &output)
            {
                said.push(line);
            }
            match output {
                Output::Election(ElectionRequest::Notify { to, notification }) => {
                    let looking = notification.state == ServerState::Looking as i32;
                    let notification = Hashed::new(notification);
                    if looking {
                        self.server.vote = Some(notification.clone());
                    }
                    self.sent.push(Sent::Vote(to, notification));
                }
                Output::Election(ElectionRequest::Connect) => {}
                Output::Port(request) => self.port(request),
                Output::Disk(request) => self.ask_disk(&request),
                // Answered at once: a reader works beside the queue, and nothing that could change its
                // answer is in the model (proposals are kept in memory, no log is purged).
                Output::ReadLog(read) => reads.push(read),
                Output::Replica(effect) => self.replica(effect),
            }
        }
        for read in reads {
            let proposals = self.server.disk.read(read.from, read.to);
            self.input(Input::LogRead { link: read.link, proposals });
        }
    }

    fn ask_disk(&mut self, request: &DiskRequest) {
        self.server.disk.queue.push_back(Request::from(request));
    }

    fn port(&mut self, request: PortRequest) {
        let server = &mut self.server;
        let sent = match request {
            PortRequest::ConnectLeader(leader) => {
                server.vote = None;
                server.announced = 0;
                server.connecting = Some(leader);
                Sent::Connect(leader)
            }
            PortRequest::CloseLeader => {
                server.connecting = None;
                server.received = None;
                Sent::CloseLeader
            }
            PortRequest::ToLeader(packet) => {
                if let Some(what) = self.not_durable(&packet) {
                    self.breaks(Rule::AckedIsDurable, what);
                }
                Sent::ToLeader(Message::Packet(packet))
            }
            PortRequest::Listen => {
                server.vote = None;
                server.listening = true;
                Sent::Listen
            }
            PortRequest::StopListening => {
                server.listening = false;
                Sent::StopListening
            }
            PortRequest::ToLearner(link, packet) => Sent::ToLearner(link, Message::Packet(packet)),
            PortRequest::ProposalToLearner { link, proposal, .. } => {
                let packet = Packet::with(PacketKind::Proposal, proposal.zxid, proposal.payload);
                Sent::ToLearner(link, Message::Packet(packet))
            }
            PortRequest::SnapshotToLearner(link) => {
                Sent::ToLearner(link, Message::Tree(server.tree.clone()))
            }
            PortRequest::CloseLearner { link, reason } => {
                if reason.breaks_protocol() {
                    let what = format!("leader {} closes a link: {reason}", self.server.id);
                    self.breaks(Rule::Peers, what);
                }
                Sent::CloseLearner(link)
            }
        };
        self.sent.push(sent);
    }

    /// What is wrong with acknowledging this now, if anything.
    fn not_durable(&self, packet: &Packet) -> Option<String> {
        let Server { id, disk, tree, announced, .. } = &self.server;
        let (kind, zxid) = (packet.known_kind()?, packet.zxid);
        let (name, what) = match kind {
            PacketKind::AckEpoch if disk.accepted < *announced => {
                ("ACKEPOCH".to_owned(), format!("acceptedEpoch is {}", disk.accepted))
            }
            PacketKind::Ack if zxid.counter() == 0 => {
                let name = "ACK of NEWLEADER".to_owned();
                let missing = tree.iter().find(|txn| !disk.has(txn));
                match missing {
                    Some(txn) => (name, format!("{txn:?} is not on disk")),
                    None if disk.current != zxid.epoch() => {
                        (name, format!("currentEpoch is {}", disk.current))
                    }
                    None => return None,
                }
            }
            PacketKind::Ack if !disk.log.iter().any(|txn| txn.zxid == zxid) => {
                (format!("ACK of {}", short(zxid)), "it is not on disk".to_owned())
            }
            _ => return None,
        };
        Some(format!("server {id} sends {name}, but {what}"))
    }

    fn replica(&mut self, effect: Effect) {
        let server = &mut self.server;
        match effect {
            Effect::AdoptSnapshot(_) => server.tree = server.received.take().unwrap_or_default(),
            Effect::Apply(proposal) => {
                // Applying again what a snapshot had already changes nothing.
                if server.tree.last().is_none_or(|last| last.zxid < proposal.zxid) {
                    server.tree.push(Txn::of(&proposal));
                }
                if server.serving == Some(true) {
                    self.seen.push(Seen::Commits { tree: server.tree.clone() });
                }
            }
            Effect::StartServing { epoch, leading } => {
                server.serving = Some(leading);
                if leading {
                    self.seen.push(Seen::Leads { epoch, tree: server.tree.clone() });
                }
            }
            Effect::StopServing => server.serving = None,
            // Clients, their syncs and sessions, and pings are not in the model.
            _ => {}
        }
    }
}

/// Server `id`'s settings.
fn config(id: ServerId, fine: bool) -> Config {
    let member = |id| format!("server.{id}=127.0.0.1:{}:{}:participant\n", 2000 + id, 3000 + id);
    let text: String = (1..=SERVERS).map(member).collect();
    Config {
        me: id,
        ensemble: EnsembleConfig::parse(&(text + "version=0")).expect("a valid ensemble"),
        tick_ms: TICK_MS,
        init_limit: INIT_LIMIT,
        sync_limit: SYNC_LIMIT,
        commit_log_count: COMMIT_LOG_COUNT,
        force_snapshot_sync: false,
        limits: oxkeeper_zab::Limits::default(),
        fast_election: !fine,
    }
}
