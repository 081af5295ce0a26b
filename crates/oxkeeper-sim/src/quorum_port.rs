//! Quorum ports: connections between a learner and its leader, snapshot streams on them.

use bytes::Bytes;
use oxkeeper_node::{PortEvent, RoleId};
use oxkeeper_proto::jute::put_string;
use oxkeeper_proto::quorum::{Packet, PacketKind};
use oxkeeper_proto::snapshot::{BodyDecoder, SNAP_SIGNATURE};
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{DecodeError, Encode, Zxid};
use oxkeeper_state::{Options, StateLoader};
use oxkeeper_zab::LinkId;

use crate::net::{ConnId, Kind, Message, TELL};
use crate::server::Mail;
use crate::violation::{Rule, Violation};
use crate::world::{Due, World};

/// Longest packet.
const MAX_LEN: usize = 1 << 20;
/// A leader whose port is closed is tried this long, in µs; one that does not answer for initLimit.
const REFUSED_FOR: u64 = 500_000;

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
        let begun = self.now;
        let Some(port) = self.port(server) else { return };
        port.dialed = Some(role);
        let delay = self.delay();
        self.after_for(server, delay, Due::Dial { role, target: leader, begun });
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
            let packets = match self.plan.shape.old_voices.contains(&server) {
                true => self.as_an_old_follower(conn, packets),
                false => packets,
            };
            self.send(conn, 1, Message::Bytes(packets));
        }
    }

    /// What a follower sends, as one of 3.8.0 would: its ACKs of the synchronization's last proposals overtake
    /// that of NEWLEADER (ZOOKEEPER-4685).
    fn as_an_old_follower(&mut self, conn: ConnId, packets: Vec<u8>) -> Vec<u8> {
        let Some(conn) = self.conns.get_mut(&conn) else { return packets };
        let durable = self.servers[conn.nodes[0]].durable;
        let uncommitted = &mut conn.readers[0].uncommitted;
        let (mut rest, mut out) = (&packets[..], Vec::new());
        while let Ok(Some((packet, len))) = Packet::decode(rest, MAX_LEN) {
            rest = &rest[len..];
            if packet.known_kind() == Some(PacketKind::Ack) {
                for zxid in uncommitted.drain(..).filter(|zxid| *zxid <= durable) {
                    Packet::bare(PacketKind::Ack, zxid).encode(&mut out);
                }
            }
            packet.encode(&mut out);
        }
        out
    }

    /// Sends packets to a learner.
    pub fn send_to_learner(&mut self, link: LinkId, packets: Vec<u8>) {
        if self.conns.get(&link).is_some_and(|conn| conn.open[1]) {
            self.send(link, 0, Message::Bytes(packets));
        }
    }

    /// An attempt to reach the leader.
    pub fn dial(&mut self, server: usize, role: RoleId, target: usize, begun: u64) {
        if self.port(server).is_none_or(|port| port.dialed != Some(role)) {
            return;
        }
        let blocked = self.is_blocked(server, target, Kind::Quorum);
        let listening = self.port(target).and_then(|port| port.listening);
        if let Some(leader_role) = listening.filter(|_| !blocked) {
            let incarnations = [self.servers[server].incarnation, self.servers[target].incarnation];
            let roles = [role, leader_role];
            let conn = self.connect(Kind::Quorum, [server, target], incarnations, roles);
            if let Some(port) = self.port(server) {
                port.dialed = None;
                port.leader = Some(conn);
            }
        } else if self.now < begun + if blocked { self.plan.init_limit_us() } else { REFUSED_FOR } {
            let delay = self.dice.between(5_000, 100_000);
            self.after_for(server, delay, Due::Dial { role, target, begun });
        } else {
            self.mail(server, Mail::Port { role, event: PortEvent::LeaderClosed });
        }
    }

    /// Something arrived on a quorum connection.
    pub fn quorum_arrived(
        &mut self,
        id: ConnId,
        end: usize,
        message: Message,
    ) -> Result<(), Violation> {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return Ok(()) };
        let (node, role) = (conn.nodes[end], conn.roles[end]);
        let learner = end == 0;
        let mut events = Vec::new();
        match message {
            Message::Opened if learner => events.push(PortEvent::LeaderConnected),
            // A leader hears of a learner when that says who it is.
            Message::Opened | Message::Vote(_) => {}
            Message::End if learner => events.push(PortEvent::LeaderClosed),
            Message::End if conn.readers[end].introduced => {
                events.push(PortEvent::LearnerClosed(id));
            }
            Message::End => {}
            Message::Bytes(bytes) => {
                let reader = &mut conn.readers[end];
                reader.buf.extend(bytes);
                let read = match learner {
                    true => reader.hear_leader(now, &mut events),
                    false => reader.hear_learner(id, &mut events),
                };
                read.map_err(|what| Rule::Integrity.broken(format!("s{}: {what}", node + 1)))?;
            }
        }
        for mut event in events {
            if let PortEvent::FromLeader(packets) = &mut event
                && self.faults.to_damage.contains(&node)
                && let Some(data) = packets.iter_mut().find_map(proposed)
            {
                // What is left has its header, so that it looks like a proposal.
                data.truncate(data.len() - 1);
                self.faults.to_damage.remove(&node);
                self.faults.damaged.insert((node, self.servers[node].incarnation));
                self.note(|| format!("s{} gets a proposal without its end", node + 1));
            }
            self.mail(node, Mail::Port { role, event });
        }
        Ok(())
    }
}

/// The transaction that a packet carries, if its last byte belongs to the record.
fn proposed(packet: &mut Packet) -> Option<&mut Bytes> {
    let kind = packet.known_kind()?;
    let carries = matches!(kind, PacketKind::Proposal | PacketKind::Inform);
    packet.data.as_mut().filter(|data| carries && Payload::decode(&data[..data.len() - 1]).is_err())
}

/// What one end of a quorum connection has read, as `oxkeeper-server/src/quorum_links/packets.rs` does.
#[derive(Debug, Default)]
pub struct Reader {
    /// Not understood yet.
    buf: Vec<u8>,
    /// The stream behind a SNAP packet.
    stream: Option<Box<Stream>>,
    /// The leader has heard who the learner is.
    introduced: bool,
    /// The leader has told what its epoch begins with.
    new_leader: bool,
    /// What came before that, and was not to be committed yet.
    uncommitted: Vec<Zxid>,
}

#[derive(Debug)]
struct Stream {
    decoder: BodyDecoder,
    loader: Box<StateLoader>,
    body_ended: bool,
    told_at: u64,
}

impl Stream {
    fn new(told_at: u64) -> Stream {
        let loader = Box::new(StateLoader::new(7, Options::default()));
        Stream { decoder: BodyDecoder::new(MAX_LEN), loader, body_ended: false, told_at }
    }
}

impl Reader {
    fn hear_learner(&mut self, id: LinkId, events: &mut Vec<PortEvent>) -> Result<(), String> {
        let packets = self.packets(None)?;
        if packets.is_empty() {
            return Ok(());
        }
        if !std::mem::replace(&mut self.introduced, true) {
            events.push(PortEvent::LearnerConnected(id));
        }
        events.push(PortEvent::FromLearner(id, packets));
        Ok(())
    }

    fn hear_leader(&mut self, now: u64, events: &mut Vec<PortEvent>) -> Result<(), String> {
        loop {
            if let Some(stream) = &mut self.stream {
                if !read_stream(&mut self.buf, stream)? {
                    if stream.told_at + TELL <= now {
                        stream.told_at = now;
                        events.push(PortEvent::SnapshotProgress);
                    }
                    return Ok(());
                }
                if let Some(stream) = self.stream.take() {
                    events.push(PortEvent::SnapshotReceived(stream.loader));
                }
                continue;
            }
            let packets = self.packets(Some(PacketKind::Snap))?;
            let Some(last) = packets.last() else { return Ok(()) };
            for packet in &packets {
                match packet.known_kind() {
                    Some(PacketKind::NewLeader) => self.new_leader = true,
                    _ if self.new_leader => {}
                    Some(PacketKind::Proposal) => self.uncommitted.push(packet.zxid),
                    Some(PacketKind::Commit) => self.uncommitted.retain(|at| *at != packet.zxid),
                    _ => {}
                }
            }
            if last.known_kind() == Some(PacketKind::Snap) {
                self.stream = Some(Box::new(Stream::new(now)));
            }
            events.push(PortEvent::FromLeader(packets));
        }
    }

    /// All packets that have arrived completely; ends behind one of the kind `last`.
    fn packets(&mut self, last: Option<PacketKind>) -> Result<Vec<Packet>, String> {
        let (mut packets, mut used) = (Vec::new(), 0);
        let wrong = |error: DecodeError| format!("not a packet: {error}");
        while let Some((packet, len)) = Packet::decode(&self.buf[used..], MAX_LEN).map_err(wrong)? {
            used += len;
            packets.push(packet);
            if last.is_some() && packets.last().and_then(Packet::known_kind) == last {
                break;
            }
        }
        self.buf.drain(..used);
        Ok(packets)
    }
}

/// Reads what has arrived of a stream and its signature; true at its end.
fn read_stream(buf: &mut Vec<u8>, stream: &mut Stream) -> Result<bool, String> {
    let wrong = |what: String| format!("snapshot stream: {what}");
    let mut used = 0;
    while !stream.body_ended {
        let next = stream.decoder.next(&buf[used..]).map_err(|error| wrong(error.to_string()))?;
        let Some((item, len)) = next else { break };
        used += len;
        stream.body_ended = item.give(&mut *stream.loader).map_err(wrong)?;
    }
    buf.drain(..used);
    let mut signature = Vec::new();
    put_string(&mut signature, SNAP_SIGNATURE);
    if !stream.body_ended || buf.len() < signature.len() {
        return Ok(false);
    }
    if !buf.starts_with(&signature) {
        return Err(wrong("it does not end with its signature".to_owned()));
    }
    buf.drain(..signature.len());
    Ok(true)
}
