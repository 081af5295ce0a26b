//! Quorum ports: the learner's link to its leader, the leader's listener, snapshot streams.

use std::collections::BTreeMap;
use std::sync::Arc;

use oxkeeper_proto::Encode;
use oxkeeper_proto::Zxid;
use oxkeeper_proto::jute::put_string;
use oxkeeper_proto::quorum::{Packet, PacketKind, put_payload_packet};
use oxkeeper_proto::snapshot::{BodyDecoder, Item, SNAP_SIGNATURE, SnapshotSink};
use oxkeeper_replica::{Input, Shared};
use oxkeeper_state::{Options, StateLoader, Walk};
use oxkeeper_zab::{Input as Z, LinkId, Output};

use crate::net::{ConnId, Kind, Message};
use crate::server::Mail;
use crate::world::{Event, Violation, World};

/// Longest packet.
const MAX_LEN: usize = 1 << 20;
/// A learner tries this long to reach its leader, in µs.
const CONNECT_LIMIT: u64 = 800_000;

/// A snapshot on its way to a learner, made in small steps.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    walk: Option<Walk>,
}

/// The quorum port of one process.
#[derive(Debug, Default)]
pub struct QuorumPort {
    /// Counts links and listeners: events of an earlier one are stale.
    pub term: u64,
    leader: Option<ConnId>,
    dialing: bool,
    /// Accepts learners?
    pub listening: bool,
    to_leader: Vec<u8>,
    to_learners: BTreeMap<LinkId, Vec<u8>>,
    /// zxid of the SNAP packet whose stream is arriving.
    snap_zxid: Option<Zxid>,
}

/// What the port tells the replica.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum PeerEvent {
    Zab(Z),
    Snapshot(Result<Box<oxkeeper_state::State>, String>),
}

impl World<'_> {
    fn port(&mut self, server: usize) -> Option<&mut QuorumPort> {
        self.servers[server].process.as_mut().map(|process| &mut process.port)
    }

    /// Performs an output that concerns the quorum port.
    pub fn quorum_output(&mut self, server: usize, output: Output) -> Result<(), Violation> {
        match output {
            Output::ConnectLeader(leader) => {
                let now = self.now;
                let incarnation = self.servers[server].incarnation;
                if let Some(port) = self.port(server) {
                    port.term += 1;
                    port.dialing = true;
                    let term = port.term;
                    let target = (leader - 1) as usize;
                    let deadline = now + CONNECT_LIMIT;
                    let dial = Event::Dial { server, incarnation, term, target, deadline };
                    let delay = self.delay();
                    self.after(delay, dial);
                }
            }
            Output::CloseLeader => {
                self.flush(server);
                let conn = self.port(server).and_then(|port| {
                    port.dialing = false;
                    port.leader.take()
                });
                if let Some(conn) = conn {
                    self.close_end(conn, 0);
                }
            }
            Output::ToLeader(packet) => {
                self.check_ack(server, &packet)?;
                if let Some(port) = self.port(server) {
                    packet.encode(&mut port.to_leader);
                }
            }
            Output::Listen => {
                if let Some(port) = self.port(server) {
                    port.term += 1;
                    port.listening = true;
                }
            }
            Output::StopListening => self.stop_listening(server),
            Output::ToLearner(link, packet) => {
                self.check_commit(server, link, &packet)?;
                if let Some(port) = self.port(server) {
                    packet.encode(port.to_learners.entry(link).or_default());
                }
            }
            Output::ProposalToLearner { link, proposal, inform } => {
                self.check_proposal(server, link, proposal.zxid)?;
                let kind = if inform { PacketKind::Inform } else { PacketKind::Proposal };
                if let Some(port) = self.port(server) {
                    let out = port.to_learners.entry(link).or_default();
                    put_payload_packet(out, kind, proposal.zxid, &proposal.payload);
                }
            }
            Output::SnapshotToLearner(link) => {
                self.flush(server);
                self.start_stream(server, link);
            }
            Output::CloseLearner { link, reason } => {
                if reason.breaks_protocol() {
                    return Err(format!("s{} closes a link: {reason}", server + 1));
                }
                self.note(|| format!("s{} closes learner link {link}: {reason}", server + 1));
                self.flush(server);
                self.close_end(link, 1);
            }
            output => return Err(format!("{output:?} is not for the quorum port")),
        }
        Ok(())
    }

    fn stop_listening(&mut self, server: usize) {
        self.flush(server);
        if let Some(port) = self.port(server) {
            port.listening = false;
        }
        let incarnation = self.servers[server].incarnation;
        let links: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| {
                conn.kind == Kind::Quorum
                    && conn.nodes[1] == server
                    && conn.incarnations[1] == incarnation
            })
            .map(|(id, _)| *id)
            .collect();
        for link in links {
            self.close_end(link, 1);
        }
    }

    /// Sends what has been collected: one buffer per link.
    pub fn flush(&mut self, server: usize) {
        let Some(port) = self.port(server) else { return };
        let to_leader = std::mem::take(&mut port.to_leader);
        let to_learners = std::mem::take(&mut port.to_learners);
        let leader = port.leader;
        if let Some(conn) = leader
            && !to_leader.is_empty()
            && self.conns.get(&conn).is_some_and(|conn| conn.open[0])
        {
            self.send(conn, 1, Message::Bytes(to_leader));
        }
        for (link, packets) in to_learners {
            if self.conns.get(&link).is_some_and(|conn| conn.open[1]) {
                self.send(link, 0, Message::Bytes(packets));
            }
        }
    }

    /// An attempt to reach the leader.
    pub fn dial(&mut self, server: usize, incarnation: u64, term: u64, target: usize, until: u64) {
        let wanted = |port: &QuorumPort| port.dialing && port.term == term;
        if !self.servers[server].is_running(incarnation)
            || !self.servers[server].process.as_ref().is_some_and(|p| wanted(&p.port))
        {
            return;
        }
        let theirs = self.servers[target].process.as_ref().filter(|p| p.port.listening);
        let reachable = theirs.map(|p| p.port.term).filter(|_| !self.is_blocked(server, target));
        if let Some(leader_term) = reachable {
            let incarnations = [incarnation, self.servers[target].incarnation];
            let terms = [term, leader_term];
            let conn = self.connect(Kind::Quorum, [server, target], incarnations, terms);
            if let Some(port) = self.port(server) {
                port.dialing = false;
                port.leader = Some(conn);
            }
        } else if self.now < until {
            let delay = self.dice.between(20_000, 100_000);
            let deadline = until;
            self.after(delay, Event::Dial { server, incarnation, term, target, deadline });
        } else {
            self.mail(server, Mail::Peer { term, event: PeerEvent::Zab(Z::LeaderClosed) });
        }
    }

    fn start_stream(&mut self, server: usize, link: LinkId) {
        let Some(process) = &self.servers[server].process else { return };
        let stream = Stream { shared: process.shared.clone(), walk: None };
        let Some(conn) = self.conns.get_mut(&link).filter(|conn| conn.open[1]) else { return };
        // A second stream while one runs would be a protocol error; the first one goes on.
        if conn.stream.is_none() {
            conn.stream = Some(stream);
            self.summary.streams += 1;
            let delay = self.delay();
            self.after(delay, Event::Stream { conn: link });
        }
    }

    /// The next piece of a snapshot stream.
    pub fn stream_step(&mut self, id: ConnId) {
        let nodes = self.dice.between(1, 24) as u32;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let Some(stream) = &mut conn.stream else { return };
        let mut piece = Vec::new();
        let state = stream.shared.state.read();
        let walk = stream.walk.get_or_insert_with(|| {
            let walk = Walk::begin(&state);
            walk.put_tables(&mut piece);
            walk
        });
        let done = walk.step(&state, nodes, 4096, &mut piece);
        drop(state);
        if done {
            put_string(&mut piece, SNAP_SIGNATURE);
        }
        // While `stream` is set, packets wait in `held`; the pieces themselves pass.
        let stream = conn.stream.take();
        self.send(id, 0, Message::Snapshot(piece));
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if done {
            for message in std::mem::take(&mut conn.held) {
                self.send(id, 0, message);
            }
        } else {
            conn.stream = stream;
            let delay = self.dice.between(50, 3_000);
            self.after(delay, Event::Stream { conn: id });
        }
    }

    /// Something arrived on a quorum connection.
    pub fn quorum_arrived(&mut self, id: ConnId, end: usize, message: Message) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (node, term) = (conn.nodes[end], conn.terms[end]);
        let learner = end == 0;
        let mut events = Vec::new();
        match message {
            Message::Opened if learner => events.push(PeerEvent::Zab(Z::LeaderConnected)),
            Message::Opened => events.push(PeerEvent::Zab(Z::LearnerConnected(id))),
            Message::End if learner => events.push(PeerEvent::Zab(Z::LeaderClosed)),
            Message::End => events.push(PeerEvent::Zab(Z::LearnerClosed(id))),
            Message::Bytes(bytes) => {
                let mut rest = &bytes[..];
                while let Ok(Some((packet, len))) = Packet::decode(rest, MAX_LEN) {
                    rest = &rest[len..];
                    let input =
                        if learner { Z::FromLeader(packet) } else { Z::FromLearner(id, packet) };
                    events.push(PeerEvent::Zab(input));
                }
                assert!(rest.is_empty(), "buffers hold whole packets");
            }
            Message::Snapshot(bytes) => {
                conn.input.extend(bytes);
                events.push(PeerEvent::Zab(Z::SnapshotProgress));
                let mut end = Vec::new();
                put_string(&mut end, SNAP_SIGNATURE);
                if conn.input.ends_with(&end) {
                    let mut body = std::mem::take(&mut conn.input);
                    body.truncate(body.len() - end.len());
                    let port = self.port(node);
                    let zxid = port.and_then(|port| port.snap_zxid).unwrap_or_default();
                    events.push(PeerEvent::Snapshot(read_stream(&body, zxid)));
                }
            }
            Message::Vote(_) => {}
        }
        for event in events {
            if let PeerEvent::Zab(Z::FromLeader(packet)) = &event
                && packet.known_kind() == Some(PacketKind::Snap)
                && let Some(port) = self.port(node)
            {
                port.snap_zxid = Some(packet.zxid);
            }
            self.mail(node, Mail::Peer { term, event });
        }
    }
}

/// Makes a state of a whole stream.
fn read_stream(body: &[u8], zxid: Zxid) -> Result<Box<oxkeeper_state::State>, String> {
    let mut loader = StateLoader::new(7, Options::default());
    let mut decoder = BodyDecoder::new(MAX_LEN);
    let mut rest = body;
    loop {
        let next = decoder.next(rest).map_err(|error| error.to_string())?;
        let (item, len) = next.ok_or("the stream ends early")?;
        rest = &rest[len..];
        match item {
            Item::SessionCount(_) | Item::AclCount(_) => {}
            Item::Session(id, timeout_ms) => loader.session(id, timeout_ms),
            Item::Acl(id, acl) => loader.acl(id, acl),
            Item::Node(node) => loader.node(node)?,
            Item::End => break,
        }
    }
    loader.finish(zxid).map(Box::new)
}

/// What an event means to the replica.
pub fn input(event: PeerEvent) -> Input {
    match event {
        PeerEvent::Zab(input) => Input::Zab(input),
        PeerEvent::Snapshot(Ok(state)) => Input::SnapshotReceived(state),
        PeerEvent::Snapshot(Err(_)) => Input::Zab(Z::LeaderClosed),
    }
}
