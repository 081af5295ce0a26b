//! Election ports: one connection per pair, one slot per peer, newest vote wins, sent again on each new
//! connection.

use std::collections::BTreeMap;

use oxkeeper_node::RoleId;
use oxkeeper_proto::quorum::Notification;
use oxkeeper_zab::Input as Z;

use crate::net::{ConnId, Kind, Message, pair};
use crate::world::{Event, World};

/// All election connections and slots.
#[derive(Debug, Default)]
pub struct ElectionPort {
    /// By pair, smaller node first.
    conns: BTreeMap<(usize, usize), ConnId>,
    /// Last vote of one server for another.
    slots: BTreeMap<(usize, usize), Notification>,
    /// Attempts under way.
    dialing: BTreeMap<(usize, usize), bool>,
}

impl World<'_> {
    /// Performs `Notify`.
    pub fn notify(&mut self, from: usize, to: usize, notification: Notification) {
        self.elections.slots.insert((from, to), notification.clone());
        match self.elections.conns.get(&pair(from, to)).copied() {
            Some(conn) => {
                let end = self.end_of(conn, to);
                self.send(conn, end, Message::Vote(Box::new(notification)));
            }
            None => self.dial_election(from, to),
        }
    }

    /// Performs `ConnectElection`.
    pub fn connect_elections(&mut self, from: usize) {
        for to in 0..self.servers.len() {
            if to != from && !self.elections.conns.contains_key(&pair(from, to)) {
                self.dial_election(from, to);
            }
        }
    }

    fn end_of(&self, conn: ConnId, node: usize) -> usize {
        self.conns.get(&conn).map_or(0, |conn| usize::from(conn.nodes[1] == node))
    }

    fn dial_election(&mut self, from: usize, to: usize) {
        let already = self.elections.dialing.insert(pair(from, to), true);
        if already != Some(true) {
            let delay = self.delay();
            self.after(delay, Event::ElectionDial { from, to });
        }
    }

    /// An attempt to connect two election ports.
    pub fn election_dial(&mut self, from: usize, to: usize) {
        self.elections.dialing.insert(pair(from, to), false);
        if self.elections.conns.contains_key(&pair(from, to)) || !self.servers[from].is_up() {
            return;
        }
        let reachable = !self.is_blocked(from, to, Kind::Election) && self.servers[to].is_up();
        if !reachable {
            self.zab_input(from, Z::ElectionLink { peer: to as i64 + 1, up: false });
            let delay = self.dice.between(50_000, 200_000);
            self.elections.dialing.insert(pair(from, to), true);
            self.after(delay, Event::ElectionDial { from, to });
            return;
        }
        let incarnations = [self.servers[from].incarnation, self.servers[to].incarnation];
        let conn = self.connect(Kind::Election, [from, to], incarnations, [RoleId::default(); 2]);
        self.elections.conns.insert(pair(from, to), conn);
        for (sender, receiver, end) in [(from, to, 1), (to, from, 0)] {
            if let Some(vote) = self.elections.slots.get(&(sender, receiver)).cloned() {
                self.send(conn, end, Message::Vote(Box::new(vote)));
            }
        }
    }

    /// Something arrived on an election connection.
    pub fn election_arrived(&mut self, id: ConnId, end: usize, message: Message) {
        let Some(conn) = self.conns.get(&id) else { return };
        let (node, other) = (conn.nodes[end], conn.nodes[1 - end]);
        let peer = other as i64 + 1;
        match message {
            Message::Opened => self.zab_input(node, Z::ElectionLink { peer, up: true }),
            Message::Vote(vote) => {
                self.zab_input(node, Z::Notified { from: peer, notification: *vote });
            }
            Message::End => {
                if self.elections.conns.get(&pair(node, other)) == Some(&id) {
                    self.elections.conns.remove(&pair(node, other));
                }
                self.zab_input(node, Z::ElectionLink { peer, up: false });
                self.dial_election(node, other);
            }
            Message::Bytes(_) => {}
        }
    }

    /// A server's process is gone: its votes too.
    pub fn forget_votes(&mut self, server: usize) {
        self.elections.slots.retain(|(from, _), _| *from != server);
    }

    /// Its connection is gone, although the other end may not know yet.
    pub fn forget_election_conns(&mut self, server: usize) {
        self.elections.conns.retain(|(a, b), _| *a != server && *b != server);
    }
}
