//! A session as its client sees it, and a connection that serves it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use crate::check::watches::{Table, Watching};
use crate::clients::ops::Op;
use crate::net::ConnId;

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Echoed in the reply.
    pub xid: i32,
    /// What it asks.
    pub op: Rc<Op>,
    /// When, in µs.
    pub at: u64,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The client works with it.
    Work,
    /// It will, once it stands; the session is then served on two of them.
    Move,
    /// It was left for another one, and is still used.
    Left,
    /// It shows a wrong password.
    Intrude,
}

/// A connection to a server.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Link {
    pub conn: ConnId,
    pub purpose: Purpose,
    pub established: bool,
    /// The requests that come first were sent.
    pub begun: bool,
    /// Last sign of life of the server, in µs.
    pub heard: u64,
    pub input: Vec<u8>,
    /// Not answered yet.
    pub sent: VecDeque<Sent>,
    /// Largest zxid seen on it, or shown when it was made.
    pub last_zxid: i64,
    /// Writes sent on it.
    pub writes: u64,
    /// What its server must tell.
    pub watching: Watching,
}

impl Link {
    /// A connection that was just dialled.
    pub fn new(conn: ConnId, purpose: Purpose, now: u64, last_zxid: i64, ben: bool) -> Link {
        Link {
            conn,
            purpose,
            established: false,
            begun: false,
            heard: now,
            input: Vec::new(),
            sent: VecDeque::new(),
            last_zxid,
            writes: 0,
            watching: Watching::new(ben),
        }
    }

    /// Has it kept the client waiting since then?
    pub fn is_dead(&self, since: u64) -> bool {
        let waits = !self.established || self.sent.front().is_some_and(|sent| sent.at < since);
        waits && self.heard < since
    }
}

/// A session as its client sees it.
#[derive(Debug, Default)]
pub struct Session {
    /// 0: none.
    pub id: i64,
    /// Needed to resume it.
    pub password: [u8; 16],
    /// Largest zxid seen on any connection.
    pub seen: i64,
    /// Largest zxid seen where the watches are.
    pub told: i64,
    /// Last request number.
    pub xid: i32,
    /// Watches that the client counts on.
    pub held: Table,
    /// Versions of nodes, as last read.
    pub versions: BTreeMap<String, i32>,
    /// Nodes that it made, under names that the server chose.
    pub made: VecDeque<String>,
}
