//! Connections between nodes: bytes in order, delays, cuts, breaks.
//!
//! What a cut holds back is on its way; it arrives after the healing, or the connection breaks. A connection
//! between servers holds only so many bytes; see [`outbox`] for what happens to the rest.

mod cuts;
mod outbox;

use std::collections::VecDeque;

use oxkeeper_node::RoleId;
use oxkeeper_proto::quorum::Notification;

pub use cuts::{Cut, Lines};
pub use outbox::{Outbox, TELL};

use crate::quorum_port::Reader;
use crate::violation::Violation;
use crate::world::{Event, World};

/// Names a connection; never reused in a run. Also the link id of a learner at its leader, and the id
/// of a client's connection.
pub type ConnId = u64;

/// What a connection is for. End 0 has dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Bytes of packets or frames, cut anywhere.
    Bytes(Vec<u8>),
    /// A vote.
    Vote(Box<Notification>),
    /// The other end has closed.
    End,
}

impl Message {
    /// Bytes that it takes of what a connection holds.
    pub fn size(&self) -> usize {
        match self {
            Message::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
pub struct Pipe {
    /// On its way, with the time of its arrival.
    queue: VecDeque<(u64, Message)>,
    /// Bytes of that.
    bytes: usize,
    scheduled: bool,
    last_at: u64,
    /// The receiver's own machine has given the connection up: it needs no network to say so.
    given_up: bool,
    /// What does not fit in.
    pub outbox: Outbox,
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
    /// Nothing that is sent from now on arrives.
    broken: bool,
    /// Towards each end.
    pub pipes: [Pipe; 2],
    /// What each end has read and not yet understood, on the quorum port.
    pub readers: [Reader; 2],
}

/// Who reaches whom, how fast.
#[derive(Debug, Default)]
pub struct Network {
    next_conn: ConnId,
    /// Single lines.
    pub lines: Lines,
    /// Longest usual delay in µs; 0: the default.
    pub slow: u64,
}

/// Both orders of two nodes are the same pair.
pub fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl World<'_> {
    /// Can no connection for this be made between `a` and `b`? One direction is enough.
    pub fn is_blocked(&self, a: usize, b: usize, kind: Kind) -> bool {
        self.net.lines.is_cut(a, b, kind) || self.net.lines.is_cut(b, a, kind)
    }

    /// One way's delay in µs, on lines that nothing is wrong with.
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
            broken: false,
            pipes: Default::default(),
            readers: Default::default(),
        };
        self.conns.insert(id, conn);
        self.send(id, 1, Message::Opened);
        self.send(id, 0, Message::Opened);
        id
    }

    /// Sends towards `end`.
    pub fn send(&mut self, id: ConnId, end: usize, message: Message) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if conn.broken {
            return;
        }
        if conn.kind == Kind::Quorum && matches!(message, Message::Bytes(_)) {
            return self.send_bounded(id, end, message);
        }
        self.put_on_way(id, end, message);
    }

    /// Puts a message into the sockets, whatever they hold already.
    fn put_on_way(&mut self, id: ConnId, end: usize, message: Message) {
        let delay = self.delay();
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (from, to) = (conn.nodes[1 - end], conn.nodes[end]);
        let pipe = &mut conn.pipes[end];
        let (extra, us) = self.net.lines.cost(from, to, message.size());
        let at = pipe.last_at.max(now + delay + extra) + us;
        pipe.last_at = at;
        pipe.bytes += message.size();
        pipe.queue.push_back((at, message));
        if !pipe.scheduled {
            pipe.scheduled = true;
            self.after(at - now, Event::Deliver { conn: id, end });
        }
    }

    /// The process at `end` closes: it hears nothing more. What the sockets hold still arrives, what waits
    /// behind that does not.
    pub fn close_end(&mut self, id: ConnId, end: usize) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !conn.open[end] {
            return;
        }
        conn.open[end] = false;
        conn.pipes[1 - end].outbox.clear();
        self.send(id, 1 - end, Message::End);
    }

    /// The connection breaks: both ends are told, what was on its way is lost.
    pub fn reset(&mut self, id: ConnId) {
        self.tear(id, false);
    }

    /// The same, but some of what was on its way arrives, the last of it perhaps in part.
    pub fn break_midway(&mut self, id: ConnId) {
        self.tear(id, true);
    }

    fn tear(&mut self, id: ConnId, midway: bool) {
        for end in 0..2 {
            let (messages, bytes) = (self.dice.any(), self.dice.any());
            let Some(conn) = self.conns.get_mut(&id) else { return };
            let pipe = &mut conn.pipes[end];
            pipe.outbox.clear();
            let kept = if midway { messages as usize % (pipe.queue.len() + 1) } else { 0 };
            let cut = pipe.queue.drain(kept..).next();
            if let Some((at, Message::Bytes(mut part))) = cut
                && midway
            {
                part.truncate(bytes as usize % part.len().max(1));
                pipe.queue.push_back((at, Message::Bytes(part)));
            }
            pipe.bytes = pipe.queue.iter().map(|(_, message)| message.size()).sum();
            if conn.open[end] {
                self.put_on_way(id, end, Message::End);
            }
        }
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.broken = true;
        }
    }

    /// The machine at `end` gives the connection up on its own, at once.
    pub fn give_up(&mut self, id: ConnId, end: usize) {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.open[end]) else { return };
        let pipe = &mut conn.pipes[end];
        pipe.queue.clear();
        pipe.outbox.clear();
        (pipe.bytes, pipe.last_at, pipe.given_up) = (0, 0, true);
        conn.pipes[1 - end].outbox.clear();
        let pipe = &mut conn.pipes[end];
        pipe.queue.push_back((self.now, Message::End));
        if !pipe.scheduled {
            pipe.scheduled = true;
            self.after(1, Event::Deliver { conn: id, end });
        }
    }

    /// Ids of the connections between two nodes.
    pub fn conns_between(&self, a: usize, b: usize) -> Vec<ConnId> {
        let between = |nodes: [usize; 2]| pair(nodes[0], nodes[1]) == pair(a, b);
        self.conns.iter().filter(|(_, conn)| between(conn.nodes)).map(|(id, _)| *id).collect()
    }

    /// Ids of a node's connections.
    pub fn conns_of(&self, node: usize) -> Vec<ConnId> {
        let theirs = self.conns.iter().filter(|(_, conn)| conn.nodes.contains(&node));
        theirs.map(|(id, _)| *id).collect()
    }

    /// Something is due at `end`.
    pub fn deliver(&mut self, id: ConnId, end: usize) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else { return Ok(()) };
        let (from, to) = (conn.nodes[1 - end], conn.nodes[end]);
        let pipe = &mut conn.pipes[end];
        pipe.scheduled = false;
        let cut = self.net.lines.is_cut(from, to, conn.kind) && !pipe.given_up;
        match pipe.queue.front() {
            None => return Ok(()),
            Some(_) if cut => {
                if conn.kind == Kind::Election {
                    self.await_healing(id, end);
                }
                return Ok(());
            }
            Some((at, _)) if *at > self.now => {
                let delay = at - self.now;
                pipe.scheduled = true;
                self.after(delay, Event::Deliver { conn: id, end });
                return Ok(());
            }
            Some(_) => {}
        }
        let Some((_, message)) = pipe.queue.pop_front() else { return Ok(()) };
        pipe.bytes -= message.size();
        let waiting = !pipe.outbox.is_empty();
        if let Some((at, _)) = pipe.queue.front() {
            let delay = at.saturating_sub(self.now);
            pipe.scheduled = true;
            self.after(delay, Event::Deliver { conn: id, end });
        }
        if waiting {
            self.pump(id, end);
        }
        self.arrived(id, end, message)
    }

    fn arrived(&mut self, id: ConnId, end: usize, message: Message) -> Result<(), Violation> {
        let Some(conn) = self.conns.get_mut(&id) else { return Ok(()) };
        let (kind, node, incarnation) = (conn.kind, conn.nodes[end], conn.incarnations[end]);
        if !conn.open[end] {
            self.forget_if_closed(id);
            return Ok(());
        }
        let ended = matches!(message, Message::End);
        if ended {
            conn.open[end] = false;
            conn.pipes[1 - end].outbox.clear();
        }
        self.trace.mix(&[self.now, id, end as u64, message.size() as u64]);
        let alive = node >= self.servers.len() || self.servers[node].is_running(incarnation);
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
