//! Quorum ports: connections between a learner and its leader, snapshot streams on them.

use oxkeeper_node::{PortEvent, RoleId, StreamStep, TreeStream};
use oxkeeper_proto::jute::put_string;
use oxkeeper_proto::quorum::Packet;
use oxkeeper_proto::snapshot::{BodyDecoder, SNAP_SIGNATURE};
use oxkeeper_state::{Options, StateLoader};
use oxkeeper_zab::LinkId;

use crate::net::{ConnId, Kind, Message};
use crate::server::Mail;
use crate::violation::{Rule, Violation};
use crate::world::{Due, Event, World};

/// Longest packet.
const MAX_LEN: usize = 1 << 20;
/// A learner tries this long to reach its leader, in µs.
const CONNECT_LIMIT: u64 = 800_000;

/// The quorum port of one process.
#[derive(Debug, Default)]
pub struct QuorumPort {
    /// Of the link that is dialled or stands.
    dialed: Option<RoleId>,
    leader: Option<ConnId>,
    /// Of the listener, while it accepts learners.
    listening: Option<RoleId>,
}

impl QuorumPort {
    /// The connection to the leader, while there is one.
    pub fn leader(&self) -> Option<ConnId> {
        self.leader
    }
}

impl World<'_> {
    fn port(&mut self, server: usize) -> Option<&mut QuorumPort> {
        self.servers[server].process.as_mut().map(|process| &mut process.port)
    }

    /// Starts to connect to a leader.
    pub fn start_dial(&mut self, server: usize, role: RoleId, leader: usize) {
        let deadline = self.now + CONNECT_LIMIT;
        let Some(port) = self.port(server) else { return };
        port.dialed = Some(role);
        let delay = self.delay();
        self.after_for(server, delay, Due::Dial { role, target: leader, deadline });
    }

    /// Closes the connection to the leader.
    pub fn hang_up(&mut self, server: usize) {
        let conn = self.port(server).and_then(|port| {
            port.dialed = None;
            port.leader.take()
        });
        if let Some(conn) = conn {
            self.close_end(conn, 0);
        }
    }

    /// Accepts learners.
    pub fn listen(&mut self, server: usize, role: RoleId) {
        if let Some(port) = self.port(server) {
            port.listening = Some(role);
        }
    }

    /// Closes the port and its links.
    pub fn stop_listening(&mut self, server: usize) {
        if let Some(port) = self.port(server) {
            port.listening = None;
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

    /// Sends packets to the leader.
    pub fn send_to_leader(&mut self, server: usize, packets: Vec<u8>) {
        if let Some(conn) = self.port(server).and_then(|port| port.leader)
            && self.conns.get(&conn).is_some_and(|conn| conn.open[0])
        {
            self.send(conn, 1, Message::Bytes(packets));
        }
    }

    /// Sends packets to a learner.
    pub fn send_to_learner(&mut self, link: LinkId, packets: Vec<u8>) {
        if self.conns.get(&link).is_some_and(|conn| conn.open[1]) {
            self.send(link, 0, Message::Bytes(packets));
        }
    }

    /// An attempt to reach the leader.
    pub fn dial(&mut self, server: usize, role: RoleId, target: usize, until: u64) {
        if self.port(server).is_none_or(|port| port.dialed != Some(role)) {
            return;
        }
        let blocked = self.is_blocked(server, target);
        let listening = self.port(target).and_then(|port| port.listening);
        if let Some(leader_role) = listening.filter(|_| !blocked) {
            let incarnations = [self.servers[server].incarnation, self.servers[target].incarnation];
            let roles = [role, leader_role];
            let conn = self.connect(Kind::Quorum, [server, target], incarnations, roles);
            if let Some(port) = self.port(server) {
                port.dialed = None;
                port.leader = Some(conn);
            }
        } else if self.now < until {
            let delay = self.dice.between(20_000, 100_000);
            let deadline = until;
            self.after_for(server, delay, Due::Dial { role, target, deadline });
        } else {
            self.mail(server, Mail::Port { role, event: PortEvent::LeaderClosed });
        }
    }

    /// Begins to send a tree to a learner.
    pub fn start_stream(&mut self, link: LinkId, stream: TreeStream) {
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
        let done = match stream.step(nodes, 4096, &mut piece) {
            StreamStep::More => false,
            StreamStep::End => true,
            // A stream that is not completed takes the connection with it.
            StreamStep::Outdated => return self.reset(id),
        };
        if done {
            put_string(&mut piece, SNAP_SIGNATURE);
            let [learner, leader] = conn.nodes;
            let process = self.servers[leader].process.as_ref();
            let last = process.map(|process| process.shared.state.read().last_zxid());
            self.servers[learner].fuzzy_until = last.unwrap_or_default();
        }
        conn.streamed += piece.len() as u64;
        let (bytes, server, role) = (conn.streamed, conn.nodes[1], conn.roles[1]);
        let event = PortEvent::SnapshotStreamed { link: id, bytes, ended: done };
        let conn_stream = conn.stream.take();
        self.mail(server, Mail::Port { role, event });
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.stream = conn_stream;
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
    pub fn quorum_arrived(
        &mut self,
        id: ConnId,
        end: usize,
        message: Message,
    ) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else { return Ok(()) };
        let (node, role) = (conn.nodes[end], conn.roles[end]);
        let learner = end == 0;
        let mut events = Vec::new();
        match message {
            Message::Opened if learner => events.push(PortEvent::LeaderConnected),
            Message::Opened => events.push(PortEvent::LearnerConnected(id)),
            Message::End if learner => events.push(PortEvent::LeaderClosed),
            Message::End => events.push(PortEvent::LearnerClosed(id)),
            Message::Bytes(bytes) => {
                let packets = packets(&bytes);
                events.push(match learner {
                    true => PortEvent::FromLeader(packets),
                    false => PortEvent::FromLearner(id, packets),
                });
            }
            Message::Snapshot(bytes) => {
                conn.input.extend(bytes);
                events.push(PortEvent::SnapshotProgress);
                let mut end = Vec::new();
                put_string(&mut end, SNAP_SIGNATURE);
                if conn.input.ends_with(&end) {
                    let mut body = std::mem::take(&mut conn.input);
                    body.truncate(body.len() - end.len());
                    let loader = read_stream(&body).map_err(|reason| {
                        Rule::Integrity.broken(format!("s{}: snapshot stream: {reason}", node + 1))
                    })?;
                    events.push(PortEvent::SnapshotReceived(loader));
                }
            }
            Message::Vote(_) => {}
        }
        for event in events {
            self.mail(node, Mail::Port { role, event });
        }
        Ok(())
    }
}

/// The packets of a buffer.
fn packets(bytes: &[u8]) -> Vec<Packet> {
    let mut rest = bytes;
    let mut packets = Vec::new();
    while let Ok(Some((packet, len))) = Packet::decode(rest, MAX_LEN) {
        rest = &rest[len..];
        packets.push(packet);
    }
    assert!(rest.is_empty(), "buffers hold whole packets");
    packets
}

/// Reads a whole stream.
fn read_stream(body: &[u8]) -> Result<Box<StateLoader>, String> {
    let mut loader = StateLoader::new(7, Options::default());
    let mut decoder = BodyDecoder::new(MAX_LEN);
    let mut rest = body;
    loop {
        let next = decoder.next(rest).map_err(|error| error.to_string())?;
        let (item, len) = next.ok_or("the stream ends early")?;
        rest = &rest[len..];
        if item.give(&mut loader)? {
            return Ok(Box::new(loader));
        }
    }
}
