//! What waits to be written to a quorum connection, as the server's outbox has it
//! (`oxkeeper-server/src/outbox.rs`): buffers and trees in order, bounded in bytes, and a link that is cut
//! off when there are too many.

use std::collections::VecDeque;

use oxkeeper_node::{PortEvent, StreamStep, TreeStream};
use oxkeeper_proto::jute::put_string;
use oxkeeper_proto::snapshot::SNAP_SIGNATURE;

use crate::net::{ConnId, Message};
use crate::server::Mail;
use crate::world::{Event, World};

/// How often the progress of a snapshot is told at most, in µs.
pub const TELL: u64 = 100_000;

#[derive(Debug)]
struct Tree {
    source: TreeStream,
    /// Made, and not taken by the socket yet.
    piece: Vec<u8>,
    /// The signature is in it.
    last: bool,
    /// Bytes that the socket has taken.
    sent: u64,
    told_at: u64,
    /// The next piece is being made.
    making: bool,
}

#[derive(Debug)]
enum Waiting {
    Buffer(Vec<u8>),
    Tree(Box<Tree>),
}

/// The queue of one direction.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Waiting>,
    /// Bytes of the buffers.
    bytes: usize,
    /// Bytes of trees that were handed to the socket.
    streamed: usize,
}

impl Outbox {
    /// Does nothing wait?
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Drops what waits.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.bytes = 0;
    }
}

impl World<'_> {
    /// Sends a buffer: as much as the sockets take at once, the rest as they do.
    pub(super) fn send_bounded(&mut self, id: ConnId, end: usize, message: Message) {
        let Message::Bytes(buffer) = message else { return };
        let limit = self.plan.shape.outbox;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let outbox = &mut conn.pipes[end].outbox;
        outbox.bytes += buffer.len();
        outbox.queue.push_back(Waiting::Buffer(buffer));
        self.pump(id, end);
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let outbox = &conn.pipes[end].outbox;
        if outbox.bytes > limit.saturating_add(outbox.streamed) {
            let bytes = outbox.bytes;
            self.note(|| format!("link {id} is cut off: {bytes} bytes are waiting"));
            self.summary.count_fault("link cut off: its peer does not read");
            self.cut_off(id, end);
        }
    }

    /// The sender's side closes a connection on its own: as `Outbox::fail`.
    fn cut_off(&mut self, id: ConnId, end: usize) {
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.pipes[end].outbox.clear();
        }
        self.send(id, end, Message::End);
        self.give_up(id, 1 - end);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.broken = true;
        }
    }

    /// Sends a tree; what is sent later waits.
    pub fn send_tree(&mut self, id: ConnId, source: TreeStream) {
        let told_at = self.now;
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.open[1]) else { return };
        let tree = Tree { source, piece: Vec::new(), last: false, sent: 0, told_at, making: false };
        conn.pipes[0].outbox.queue.push_back(Waiting::Tree(Box::new(tree)));
        self.summary.streams += 1;
        let [learner, leader] = conn.nodes;
        self.stream_begins(id, leader, learner);
        self.pump(id, 0);
    }

    /// Fills the sockets from what waits.
    pub fn pump(&mut self, id: ConnId, end: usize) {
        while let Some(bytes) = self.next_to_socket(id, end) {
            self.put_on_way(id, end, Message::Bytes(bytes));
        }
    }

    /// The next bytes that there is room for.
    fn next_to_socket(&mut self, id: ConnId, end: usize) -> Option<Vec<u8>> {
        let window = self.plan.shape.window;
        let conn = self.conns.get_mut(&id)?;
        let rate = self.net.lines.rate(conn.nodes[1 - end], conn.nodes[end]);
        let pipe = &mut conn.pipes[end];
        let mut room = window.saturating_sub(pipe.bytes);
        if let Some(rate) = rate {
            // A narrow line does not hold much either, and brings it bit by bit.
            room =
                room.min((rate as usize / 20).saturating_sub(pipe.bytes)).min(rate as usize / 100);
        }
        if room == 0 && pipe.bytes > 0 {
            return None;
        }
        let outbox = &mut pipe.outbox;
        match outbox.queue.front_mut()? {
            Waiting::Buffer(buffer) => {
                let part = take(buffer, room.max(1));
                let empty = buffer.is_empty();
                outbox.bytes -= part.len();
                if empty {
                    outbox.queue.pop_front();
                }
                Some(part)
            }
            Waiting::Tree(tree) if !tree.piece.is_empty() => {
                let part = take(&mut tree.piece, room.max(1));
                tree.sent += part.len() as u64;
                if tree.piece.is_empty() {
                    self.piece_sent(id, end);
                }
                Some(part)
            }
            Waiting::Tree(tree) => {
                if !tree.making {
                    tree.making = true;
                    let delay = match self.faults.slow_stream == Some(id) {
                        true => self.dice.between(50, self.plan.sync_limit_us() / 2),
                        false => self.dice.between(50, 3_000),
                    };
                    self.after(delay, Event::Stream { conn: id });
                }
                None
            }
        }
    }

    /// The socket has taken a piece: tells of it, as often as the server does.
    fn piece_sent(&mut self, id: ConnId, end: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (server, role) = (conn.nodes[1 - end], conn.roles[1 - end]);
        let outbox = &mut conn.pipes[end].outbox;
        let Some(Waiting::Tree(tree)) = outbox.queue.front_mut() else { return };
        let (bytes, ended) = (tree.sent, tree.last);
        if !ended && now < tree.told_at + TELL {
            return;
        }
        tree.told_at = now;
        if ended {
            outbox.queue.pop_front();
        }
        let event = PortEvent::SnapshotStreamed { link: id, bytes, ended };
        self.mail(server, Mail::Port { role, event });
    }

    /// Streams are made by other threads than the one that ends a role: they may go on while it does.
    pub fn streams_go_on(&mut self, server: usize) {
        let incarnation = self.servers[server].incarnation;
        let streams: Vec<_> = (self.conns.iter())
            .filter(|(_, conn)| {
                (conn.nodes[1], conn.incarnations[1]) == (server, incarnation)
                    && matches!(conn.pipes[0].outbox.queue.front(), Some(Waiting::Tree(_)))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in streams {
            let steps = self.dice.pick(&[0, 1, 1_000]);
            for _ in 0..steps {
                self.stream_step(id);
            }
        }
    }

    /// The next piece of a snapshot stream is made.
    pub fn stream_step(&mut self, id: ConnId) {
        let nodes = self.dice.between(1, 24) as u32;
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let outbox = &mut conn.pipes[0].outbox;
        let Some(Waiting::Tree(tree)) = outbox.queue.front_mut() else { return };
        if !std::mem::replace(&mut tree.making, false) {
            return;
        }
        match tree.source.step(nodes, 4096, &mut tree.piece) {
            StreamStep::More => {}
            StreamStep::End => {
                put_string(&mut tree.piece, SNAP_SIGNATURE);
                tree.last = true;
                let [learner, leader] = conn.nodes;
                let process = self.servers[leader].process.as_ref();
                let last = process.map(|process| process.shared.state.read().last_zxid());
                self.servers[learner].fuzzy_until = last.unwrap_or_default();
            }
            // A stream that is not completed takes the connection with it.
            StreamStep::Outdated => {
                self.summary.count_fault("outdated stream");
                return self.cut_off(id, 0);
            }
        }
        outbox.streamed += tree.piece.len();
        self.pump(id, 0);
    }
}

fn take(buffer: &mut Vec<u8>, most: usize) -> Vec<u8> {
    if buffer.len() <= most {
        return std::mem::take(buffer);
    }
    let rest = buffer.split_off(most);
    std::mem::replace(buffer, rest)
}
