//! Connections between nodes: bytes in order, delays, partitions, resets.
//!
//! A partition holds back what is on its way; it arrives after the healing, or the connection breaks.

use std::collections::{BTreeSet, VecDeque};

use oxkeeper_node::{RoleId, TreeStream};
use oxkeeper_proto::quorum::Notification;

use crate::violation::Violation;
use crate::world::{Event, World};

/// Names a connection; never reused in a run. Also the link id of a learner at its leader, and the id
/// of a client's connection.
pub type ConnId = u64;

/// What a connection is for. End 0 has dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Learner (end 0) to leader (end 1).
    Quorum,
    /// Between two election ports.
    Election,
    /// Client (end 0) to server (end 1).
    Client,
}

/// What travels.
#[derive(Debug)]
pub enum Message {
    /// The connection stands.
    Opened,
    /// A buffer of packets or frames.
    Bytes(Vec<u8>),
    /// A piece of a snapshot stream.
    Snapshot(Vec<u8>),
    /// A vote.
    Vote(Box<Notification>),
    /// The other end has closed.
    End,
}

/// One direction.
#[derive(Debug, Default)]
pub struct Pipe {
    queue: VecDeque<(u64, Message)>,
    scheduled: bool,
    last_at: u64,
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    /// What for.
    pub kind: Kind,
    /// Nodes of both ends.
    pub nodes: [usize; 2],
    /// Process of each end that is a server.
    pub incarnations: [u64; 2],
    /// Role of each end that is a server, for the quorum port.
    pub roles: [RoleId; 2],
    /// Does this end still listen?
    pub open: [bool; 2],
    /// Towards each end.
    pipes: [Pipe; 2],
    /// Received by the learner or acceptor, not yet decoded.
    pub input: Vec<u8>,
    /// A snapshot that the leader is sending.
    pub stream: Option<TreeStream>,
    /// Bytes of it so far.
    pub streamed: u64,
    /// Waits behind the stream.
    pub held: VecDeque<Message>,
}

/// Who reaches whom, how fast.
#[derive(Debug, Default)]
pub struct Network {
    next_conn: ConnId,
    blocked: BTreeSet<(usize, usize)>,
    /// Longest usual delay in µs; 0: the default.
    pub slow: u64,
}

/// Both orders of two nodes are the same pair.
pub fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World<'_> {
    /// Can `a` and `b` not reach each other?
    pub fn is_blocked(&self, a: usize, b: usize) -> bool {
        self.net.blocked.contains(&pair(a, b))
    }

    /// One way's delay in µs.
    pub fn delay(&mut self) -> u64 {
        if self.dice.one_in(200) {
            return self.dice.between(5_000, 60_000);
        }
        let most = 1_500 + self.net.slow;
        self.dice.between(100, most)
    }

    /// Makes a connection; both ends are told by [`Message::Opened`].
    pub fn connect(
        &mut self,
        kind: Kind,
        nodes: [usize; 2],
        incarnations: [u64; 2],
        roles: [RoleId; 2],
    ) -> ConnId {
        self.net.next_conn += 1;
        let id = self.net.next_conn;
        let conn = Conn {
            kind,
            nodes,
            incarnations,
            roles,
            open: [true; 2],
            pipes: Default::default(),
            input: Vec::new(),
            stream: None,
            streamed: 0,
            held: VecDeque::new(),
        };
        self.conns.insert(id, conn);
        self.send(id, 1, Message::Opened);
        self.send(id, 0, Message::Opened);
        id
    }

    /// Sends towards `end`.
    pub fn send(&mut self, id: ConnId, end: usize, message: Message) {
        let delay = self.delay();
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if end == 0 && conn.stream.is_some() {
            conn.held.push_back(message);
            return;
        }
        let pipe = &mut conn.pipes[end];
        let at = pipe.last_at.max(now + delay);
        pipe.last_at = at;
        pipe.queue.push_back((at, message));
        if !pipe.scheduled {
            pipe.scheduled = true;
            self.after(at - now, Event::Deliver { conn: id, end });
        }
    }

    /// The process at `end` closes: it hears nothing more; what it has sent still arrives.
    pub fn close_end(&mut self, id: ConnId, end: usize) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !conn.open[end] {
            return;
        }
        conn.open[end] = false;
        if end == 1 {
            conn.stream = None;
            conn.held.clear();
        }
        self.send(id, 1 - end, Message::End);
    }

    /// The connection breaks: both ends are told, what was on its way is lost.
    pub fn reset(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.stream = None;
        conn.held.clear();
        for pipe in &mut conn.pipes {
            pipe.queue.clear();
        }
        self.send(id, 0, Message::End);
        self.send(id, 1, Message::End);
    }

    /// Ids of the connections between two nodes.
    pub fn conns_between(&self, a: usize, b: usize) -> Vec<ConnId> {
        let between = |nodes: [usize; 2]| pair(nodes[0], nodes[1]) == pair(a, b);
        self.conns.iter().filter(|(_, conn)| between(conn.nodes)).map(|(id, _)| *id).collect()
    }

    /// Cuts two nodes off from each other.
    pub fn block(&mut self, a: usize, b: usize) {
        self.net.blocked.insert(pair(a, b));
    }

    /// They reach each other again; held back messages go on.
    pub fn heal(&mut self, a: usize, b: usize) {
        if !self.net.blocked.remove(&pair(a, b)) {
            return;
        }
        self.note(|| format!("network: {a} and {b} reach each other again"));
        for id in self.conns_between(a, b) {
            for end in 0..2 {
                let Some(conn) = self.conns.get_mut(&id) else { continue };
                let pipe = &mut conn.pipes[end];
                if !pipe.scheduled && !pipe.queue.is_empty() {
                    pipe.scheduled = true;
                    let delay = self.delay();
                    self.after(delay, Event::Deliver { conn: id, end });
                }
            }
        }
    }

    /// A message is due at `end`.
    pub fn deliver(&mut self, id: ConnId, end: usize) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else { return Ok(()) };
        let nodes = conn.nodes;
        conn.pipes[end].scheduled = false;
        if self.net.blocked.contains(&pair(nodes[0], nodes[1])) {
            return Ok(());
        }
        let Some(conn) = self.conns.get_mut(&id) else { return Ok(()) };
        let pipe = &mut conn.pipes[end];
        match pipe.queue.front() {
            None => return Ok(()),
            Some((at, _)) if *at > self.now => {
                let delay = at - self.now;
                pipe.scheduled = true;
                self.after(delay, Event::Deliver { conn: id, end });
                return Ok(());
            }
            Some(_) => {}
        }
        let Some((_, message)) = pipe.queue.pop_front() else { return Ok(()) };
        if let Some((at, _)) = pipe.queue.front() {
            let delay = at.saturating_sub(self.now);
            pipe.scheduled = true;
            self.seq_deliver(delay, id, end);
        }
        self.arrived(id, end, message)
    }

    fn seq_deliver(&mut self, delay: u64, conn: ConnId, end: usize) {
        self.after(delay, Event::Deliver { conn, end });
    }

    fn arrived(&mut self, id: ConnId, end: usize, message: Message) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else { return Ok(()) };
        let (kind, node, incarnation) = (conn.kind, conn.nodes[end], conn.incarnations[end]);
        if !conn.open[end] {
            self.forget_if_closed(id);
            return Ok(());
        }
        if matches!(message, Message::End) {
            conn.open[end] = false;
            if end == 1 {
                conn.stream = None;
                conn.held.clear();
            }
        }
        let size = match &message {
            Message::Bytes(bytes) | Message::Snapshot(bytes) => bytes.len() as u64,
            _ => 0,
        };
        self.trace.mix(&[self.now, id, end as u64, size]);
        let alive = node >= self.servers.len() || self.servers[node].is_running(incarnation);
        let ended = matches!(message, Message::End);
        if alive {
            match kind {
                Kind::Quorum => self.quorum_arrived(id, end, message)?,
                Kind::Election => self.election_arrived(id, end, message),
                Kind::Client if end == 1 => self.client_bytes_arrived(id, message),
                Kind::Client => self.reply_arrived(id, message)?,
            }
        }
        if ended {
            // The other end is told too, if it does not know yet.
            if self.conns.get(&id).is_some_and(|conn| conn.open[1 - end]) {
                self.send(id, 1 - end, Message::End);
            }
            self.forget_if_closed(id);
        }
        Ok(())
    }

    fn forget_if_closed(&mut self, id: ConnId) {
        let closed = |conn: &Conn| {
            !conn.open[0] && !conn.open[1] && conn.pipes.iter().all(|pipe| pipe.queue.is_empty())
        };
        if self.conns.get(&id).is_some_and(closed) {
            self.conns.remove(&id);
        }
    }
}
