//! Clients: they connect, pipeline requests, check replies, move, come back, fall silent, or go for good.

pub mod ops;
pub mod port;
mod replies;
pub mod session;
pub mod workload;

use std::rc::Rc;

use oxkeeper_node::RoleId;
use oxkeeper_proto::Encode;
use oxkeeper_proto::client::{ConnectRequest, put_frame};

use crate::check::clients::Asked;
use crate::clients::ops::Op;
use crate::clients::session::{Link, Purpose, Sent, Session};
use crate::clients::workload::{Mood, setup};
use crate::dice::Dice;
use crate::net::{ConnId, Kind, Message};
use crate::plan::Plan;
use crate::violation::Violation;
use crate::world::{Event, World};

/// A client gives a server up after this, in µs.
const PATIENCE: u64 = 1_200_000;
/// Requests that may wait for an answer before a client sends more.
const PIPELINED: usize = 30;

/// A client.
#[derive(Debug)]
pub struct SimClient {
    index: usize,
    node: usize,
    dice: Dice,
    /// Its session.
    pub session: Session,
    /// The connection that it works with, and perhaps another one.
    links: Vec<Link>,
    mood: Mood,
    /// In µs.
    mood_ends: u64,
    counter: u64,
    timeout_ms: i32,
    /// Does it prove to be the one whom lists name?
    ben: bool,
    /// Is some of what it writes large?
    large: bool,
    /// Does it make the tree large? Then a SNAP may take several times initLimit.
    fills: bool,
}

impl SimClient {
    /// A client that has not connected yet.
    pub fn new(index: usize, node: usize, plan: &Plan) -> SimClient {
        let mut dice = Dice::new(plan.work.seed.wrapping_add(index as u64 + 1));
        let ben = dice.one_in(2);
        SimClient {
            index,
            node,
            dice,
            session: Session::default(),
            links: Vec::new(),
            mood: Mood::Busy,
            mood_ends: 0,
            counter: 0,
            timeout_ms: 400 + 700 * index as i32,
            ben,
            large: index == 0 && plan.shape.large_values,
            fills: index == 0 && plan.shape.large_values && plan.shape.force_snapshot_sync,
        }
    }

    fn link(&self, purpose: Purpose) -> Option<&Link> {
        self.links.iter().find(|link| link.purpose == purpose)
    }

    fn link_of(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.conn == conn)
    }

    /// The connection that it works with, if it stands.
    fn working(&self) -> Option<ConnId> {
        let link = self.link(Purpose::Work).filter(|link| link.established);
        link.map(|link| link.conn)
    }
}

impl World<'_> {
    /// A client's next move.
    pub fn client_step(&mut self, client: usize) -> Result<(), Violation> {
        if self.now > self.plan.work_end {
            // Half of the clients say good-bye, the others' sessions expire.
            match self.clients[client].working().filter(|_| client.is_multiple_of(2)) {
                Some(conn) => self.request(client, conn, vec![Op::Close]),
                None => self.hang_up_all(client),
            }
            return Ok(());
        }
        let since = self.now.saturating_sub(PATIENCE);
        let dead: Vec<_> = self.clients[client]
            .links
            .iter()
            .filter(|link| link.is_dead(since))
            .map(|link| link.conn)
            .collect();
        dead.into_iter().for_each(|conn| self.hang_up_client(client, conn));
        let delay = self.act(client);
        self.after(delay, Event::Client { client });
        Ok(())
    }

    /// Acts, and tells when to act again, in µs.
    fn act(&mut self, client: usize) -> u64 {
        let now = self.now;
        let me = &mut self.clients[client];
        if me.mood_ends <= now {
            let (mood, us) = Mood::draw(&mut me.dice, me.timeout_ms);
            (me.mood, me.mood_ends) = (mood, now + us);
        }
        let usual = me.dice.between(3_000, 60_000);
        let Some(conn) = me.working() else {
            if me.link(Purpose::Work).is_none() {
                self.dial_server(client, Purpose::Work);
            }
            return usual;
        };
        match me.mood {
            Mood::Busy => {
                self.act_busily(client, conn);
                usual
            }
            Mood::Reading => {
                self.burst(client, conn, 1, 3);
                self.request(client, conn, vec![Op::Sync]);
                usual
            }
            Mood::Idle => {
                self.request(client, conn, vec![Op::Ping]);
                self.clients[client].timeout_ms as u64 * 1000 / 4
            }
            Mood::Silent => me.mood_ends - now,
            Mood::Flood => {
                self.burst(client, conn, 60, 120);
                usual
            }
        }
    }

    fn act_busily(&mut self, client: usize, conn: ConnId) {
        let me = &mut self.clients[client];
        match me.dice.below(900) {
            0..6 => self.hang_up_client(client, conn),
            6..9 => self.request(client, conn, vec![Op::Close]),
            9..14 if me.links.len() == 1 => self.dial_server(client, Purpose::Move),
            14..16 if me.links.len() == 1 => self.dial_server(client, Purpose::Intrude),
            _ => self.burst(client, conn, 1, 6),
        }
        // What was left behind must have no effect any more, soon.
        let Some(left) = self.clients[client].link(Purpose::Left).map(|link| link.conn) else {
            return;
        };
        match self.clients[client].dice.below(12) {
            0 => self.hang_up_client(client, left),
            _ => self.burst(client, left, 1, 3),
        }
    }

    fn dial_server(&mut self, client: usize, purpose: Purpose) {
        let server = self.clients[client].dice.below(self.servers.len() as u64) as usize;
        let node = self.clients[client].node;
        if self.is_blocked(node, server, Kind::Client) || !self.servers[server].is_up() {
            return;
        }
        let incarnation = self.servers[server].incarnation;
        let conn =
            self.connect(Kind::Client, [node, server], [0, incarnation], [RoleId::default(); 2]);
        let session = self.clients[client].session.id;
        self.note(|| format!("client {client} dials s{}: {purpose:?}, {session:#x}", server + 1));
        let me = &mut self.clients[client];
        me.links.push(Link::new(conn, purpose, self.now, me.session.seen, me.ben));
        let mut password = me.session.password;
        if purpose == Purpose::Intrude {
            password[0] ^= 1;
        } else if me.session.id != 0 {
            *self.checks.clients.presented.entry(me.session.id).or_default() += 1;
        }
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: me.session.seen,
            timeout_ms: me.timeout_ms,
            session: me.session.id,
            password: Some(&password),
            read_only: (!me.dice.one_in(4)).then_some(false),
        };
        let mut bytes = Vec::new();
        put_frame(&mut bytes, |out| request.encode(out));
        self.send(conn, 1, Message::Bytes(bytes));
        // Who resumes a session may go on without waiting for the answer.
        let resumes = session != 0 && purpose == Purpose::Work;
        if resumes && self.clients[client].dice.one_in(3) {
            self.begin(client, conn);
        }
    }

    fn hang_up_client(&mut self, client: usize, conn: ConnId) {
        let links = &mut self.clients[client].links;
        if let Some(at) = links.iter().position(|link| link.conn == conn) {
            links.remove(at);
            self.close_end(conn, 0);
        }
    }

    fn hang_up_all(&mut self, client: usize) {
        for link in std::mem::take(&mut self.clients[client].links) {
            self.close_end(link.conn, 0);
        }
    }

    /// Sends some requests, unless many wait for an answer already.
    fn burst(&mut self, client: usize, conn: ConnId, least: u64, most: u64) {
        let me = &mut self.clients[client];
        let Some(link) = me.link_of(conn) else { return };
        if !link.established || link.sent.len() > PIPELINED {
            return;
        }
        let works = link.purpose == Purpose::Work;
        let writes = me.mood != Mood::Reading;
        let mut ops = Vec::new();
        for _ in 0..me.dice.between(least, most) {
            let op = me.next_op();
            // The watches of a session are on the connection that it works with.
            let here = works || op.is_write() || matches!(op, Op::Sync);
            if here && (writes || !op.is_write()) {
                ops.push(op);
            }
        }
        self.request(client, conn, ops);
    }

    fn request(&mut self, client: usize, conn: ConnId, ops: Vec<Op>) {
        let (now, acked_before) = (self.now, self.checks.clients.max_acked());
        let me = &mut self.clients[client];
        let (ben, session) = (me.ben, &mut me.session);
        let Some(link) = me.links.iter_mut().find(|link| link.conn == conn) else { return };
        let mut bytes = Vec::new();
        for op in ops {
            session.xid += 1;
            let xid = op.xid(session.xid);
            op.put(&mut bytes, xid);
            *self.summary.requests.entry(op.name()).or_default() += 1;
            let op = Rc::new(op);
            if op.is_write() {
                let asked = Asked { op: op.clone(), conn, nth: link.writes, ben, acked_before };
                self.checks.clients.ask(session.id, xid, asked);
                link.writes += 1;
            }
            link.sent.push_back(Sent { xid, op, at: now });
        }
        if !bytes.is_empty() {
            self.send(conn, 1, Message::Bytes(bytes));
        }
    }

    /// What a client sends first on a connection that stands.
    fn begin(&mut self, client: usize, conn: ConnId) {
        let me = &mut self.clients[client];
        let Some(link) = me.link_of(conn).filter(|link| !link.begun) else { return };
        link.begun = true;
        let mut ops = Vec::new();
        if me.ben {
            ops.push(Op::Auth);
        }
        if !me.session.held.is_empty() {
            ops.push(Op::SetWatches { seen: me.session.told, watches: me.session.held.list() });
        }
        if !self.checks.clients.setup_done {
            ops.extend(setup());
        }
        self.request(client, conn, ops);
    }

    /// Something arrived at a client.
    pub fn reply_arrived(&mut self, id: ConnId, message: Message) -> Result<(), Violation> {
        let Some(conn) = self.conns.get(&id) else { return Ok(()) };
        let client = conn.nodes[0] - self.servers.len();
        let now = self.now;
        match message {
            Message::Bytes(bytes) => {
                let Some(link) = self.clients[client].link_of(id) else { return Ok(()) };
                link.heard = now;
                link.input.extend(bytes);
                let input = std::mem::take(&mut link.input);
                let mut rest = &input[..];
                while let Some((prefix, tail)) = rest.split_first_chunk::<4>() {
                    let len = i32::from_be_bytes(*prefix) as usize;
                    let Some(frame) = tail.get(..len) else { break };
                    rest = &tail[len..];
                    self.frame(client, id, frame)
                        .map_err(|broken| broken.by(format_args!("client {client}")))?;
                }
                if let Some(link) = self.clients[client].link_of(id) {
                    link.input = rest.to_vec();
                }
            }
            Message::End => self.clients[client].links.retain(|link| link.conn != id),
            _ => {}
        }
        Ok(())
    }
}
