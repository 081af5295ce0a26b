//! Clients: they connect, pipeline requests, check replies, come back, or go for good.

pub mod port;
pub mod session;

use std::borrow::Cow;

use oxkeeper_node::RoleId;
use oxkeeper_proto::client::{
    AclEntry, ConnectRequest, ConnectResponse, CreateRequest, DeleteRequest, MultiHeader,
    PathRequest, ReadRequest, ReplyHeader, RequestHeader, SetDataRequest, Stat, WatcherEvent,
    XID_NOTIFICATION, XID_PING, put_frame,
};
use oxkeeper_proto::{Decode, DecodeError, Encode, ErrorCode, OpCode, Reader};

use crate::clients::session::{Op, Sent, Session};
use crate::net::{ConnId, Kind, Message};
use crate::violation::{Rule, Violation};
use crate::world::{Event, World};

/// Nodes that everyone uses.
const SETUP: [&str; 9] = ["/log", "/own", "/eph", "/t", "/m", "/r0", "/r1", "/r2", "/r3"];
/// A client gives a server up after this, in µs.
const PATIENCE: u64 = 1_200_000;

/// A client.
#[derive(Debug)]
pub struct SimClient {
    index: usize,
    node: usize,
    conn: Option<ConnId>,
    established: bool,
    /// Last sign of life of the server, in µs.
    heard: u64,
    input: Vec<u8>,
    /// Its session.
    pub session: Session,
    counter: u64,
    timeout_ms: i32,
}

impl SimClient {
    /// A client that has not connected yet.
    pub fn new(index: usize, node: usize) -> SimClient {
        SimClient {
            index,
            node,
            conn: None,
            established: false,
            heard: 0,
            input: Vec::new(),
            session: Session::default(),
            counter: 0,
            timeout_ms: 400 + 700 * index as i32,
        }
    }

    fn unique(&mut self) -> String {
        self.counter += 1;
        format!("c{}-{}", self.index, self.counter)
    }
}

fn open_acl() -> Option<Vec<AclEntry<'static>>> {
    let (scheme, id) = (Some(Cow::Borrowed("world")), Some(Cow::Borrowed("anyone")));
    Some(vec![AclEntry { perms: 31, scheme, id }])
}

fn create<'a>(path: &'a str, data: &'a [u8], flags: i32) -> CreateRequest<'a> {
    CreateRequest { path: path.into(), data: Some(data), acl: open_acl(), flags }
}

/// Encodes a request.
fn put_request(out: &mut Vec<u8>, xid: i32, op: &Op, own_path: &str) {
    put_frame(out, |out| {
        let header = |code: OpCode, out: &mut Vec<u8>| {
            RequestHeader { xid, op: code.code() }.encode(out);
        };
        match op {
            Op::Setup { path } => {
                header(OpCode::Create, out);
                create(path, b"", 0).encode(out);
            }
            Op::CreateOwn => {
                header(OpCode::Create, out);
                create(own_path, b"0", 0).encode(out);
            }
            Op::SetOwn { value } => {
                header(OpCode::SetData, out);
                let data = value.to_string();
                let data = Some(data.as_bytes());
                SetDataRequest { path: own_path.into(), data, version: -1 }.encode(out);
            }
            Op::GetOwn => {
                header(OpCode::GetData, out);
                ReadRequest { path: own_path.into(), watch: false }.encode(out);
            }
            Op::SetShared { path, value } => {
                header(OpCode::SetData, out);
                let data = Some(value.as_bytes());
                SetDataRequest { path: path.as_str().into(), data, version: -1 }.encode(out);
            }
            Op::GetShared { path, watch } => {
                header(OpCode::GetData, out);
                ReadRequest { path: path.as_str().into(), watch: *watch }.encode(out);
            }
            Op::CreateSequential { value } => {
                header(OpCode::Create, out);
                create("/log/s-", value.as_bytes(), 2).encode(out);
            }
            Op::CreateEphemeral { path } => {
                header(OpCode::Create2, out);
                create(path, b"e", 1).encode(out);
            }
            Op::CreateTemporary { path } => {
                header(OpCode::Create, out);
                create(path, b"t", 0).encode(out);
            }
            Op::DeleteTemporary { path } => {
                header(OpCode::Delete, out);
                DeleteRequest { path: path.as_str().into(), version: -1 }.encode(out);
            }
            Op::CreatePair { first, second } => {
                header(OpCode::Multi, out);
                for path in [first, second] {
                    let kind = OpCode::Create.code();
                    MultiHeader { kind, done: false, err: -1 }.encode(out);
                    create(path, b"m", 0).encode(out);
                }
                MultiHeader::END.encode(out);
            }
            Op::Children { path } => {
                header(OpCode::GetChildren, out);
                ReadRequest { path: path.as_str().into(), watch: false }.encode(out);
            }
            Op::Sync => {
                header(OpCode::Sync, out);
                PathRequest { path: "/".into() }.encode(out);
            }
            Op::Ping => header(OpCode::Ping, out),
            Op::Close => header(OpCode::CloseSession, out),
        }
    });
}

fn unreadable(error: DecodeError) -> Violation {
    Rule::Semantics.broken(format!("a reply cannot be read: {error}"))
}

impl World<'_> {
    /// A client's next move.
    pub fn client_step(&mut self, client: usize) -> Result<(), Violation> {
        if self.now > self.plan.work_end {
            // Half of the clients say good-bye, the others' sessions expire.
            if self.clients[client].established && client.is_multiple_of(2) {
                self.request(client, vec![Op::Close]);
            } else {
                self.disconnect(client);
            }
            return Ok(());
        }
        let delay = self.dice.between(3_000, 60_000);
        self.after(delay, Event::Client { client });
        match self.clients[client].conn {
            None => self.dial_server(client),
            Some(_) if self.clients[client].heard + PATIENCE < self.now => self.disconnect(client),
            Some(_) if self.clients[client].established => {
                if self.dice.one_in(150) {
                    self.disconnect(client);
                } else if self.dice.one_in(300) {
                    self.request(client, vec![Op::Close]);
                } else {
                    self.burst(client);
                }
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn dial_server(&mut self, client: usize) {
        let server = self.dice.below(self.servers.len() as u64) as usize;
        let node = self.clients[client].node;
        if self.is_blocked(node, server, Kind::Client) || !self.servers[server].is_up() {
            return;
        }
        let incarnation = self.servers[server].incarnation;
        let conn =
            self.connect(Kind::Client, [node, server], [0, incarnation], [RoleId::default(); 2]);
        let me = &mut self.clients[client];
        (me.conn, me.established, me.heard) = (Some(conn), false, self.now);
        me.input.clear();
        let session = &me.session;
        let mut bytes = Vec::new();
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: session.last_zxid,
            timeout_ms: me.timeout_ms,
            session: session.id,
            password: Some(&session.password),
            read_only: Some(false),
        };
        put_frame(&mut bytes, |out| request.encode(out));
        self.send(conn, 1, Message::Bytes(bytes));
    }

    fn disconnect(&mut self, client: usize) {
        if let Some(conn) = self.clients[client].conn.take() {
            self.close_end(conn, 0);
            self.clients[client].session.disconnected();
            self.clients[client].established = false;
        }
    }

    fn burst(&mut self, client: usize) {
        if self.clients[client].session.sent.len() > 30 {
            return;
        }
        let mut ops = Vec::new();
        for _ in 0..self.dice.between(1, 6) {
            ops.push(self.next_op(client));
        }
        self.request(client, ops);
    }

    fn next_op(&mut self, client: usize) -> Op {
        let shared = format!("/r{}", self.dice.below(4));
        let temporary = format!("/t/x{}", self.dice.below(5));
        let kind = self.dice.below(100);
        let padding = self.padding(client, kind);
        let me = &mut self.clients[client];
        match kind {
            0..20 => {
                me.session.next_value += 1;
                Op::SetOwn { value: me.session.next_value }
            }
            20..42 => Op::GetOwn,
            42..52 => Op::SetShared { path: shared, value: me.unique() + &padding },
            52..66 => Op::GetShared { path: shared, watch: kind < 58 },
            66..74 => Op::CreateSequential { value: me.unique() + &padding },
            74..78 => Op::CreateEphemeral { path: format!("/eph/{}", me.unique()) },
            78..83 => Op::CreateTemporary { path: temporary },
            83..87 => Op::DeleteTemporary { path: temporary },
            87..91 => {
                let name = me.unique();
                Op::CreatePair { first: format!("/m/{name}a"), second: format!("/m/{name}b") }
            }
            91..94 => Op::Children { path: "/log".to_owned() },
            94..98 => Op::Sync,
            _ => Op::Ping,
        }
    }

    /// Where the plan says so, what one client writes is large now and then.
    fn padding(&mut self, client: usize, kind: u64) -> String {
        let writes = matches!(kind, 42..52 | 66..74);
        if !writes || client != 0 || !self.plan.shape.large_values || !self.dice.one_in(5) {
            return String::new();
        }
        let most = if kind < 52 { 200_000 } else { 80_000 };
        "x".repeat(self.dice.between(20_000, most) as usize)
    }

    fn request(&mut self, client: usize, ops: Vec<Op>) {
        let acked_before = self.checks.max_acked;
        let me = &mut self.clients[client];
        let Some(conn) = me.conn.filter(|_| !ops.is_empty()) else { return };
        let mut bytes = Vec::new();
        for op in ops {
            me.session.xid += 1;
            let xid = if matches!(op, Op::Ping) { XID_PING } else { me.session.xid };
            put_request(&mut bytes, xid, &op, &me.session.own_path());
            me.session.sent.push_back(Sent { xid, op, acked_before });
        }
        self.send(conn, 1, Message::Bytes(bytes));
    }

    /// Something arrived at a client.
    pub fn reply_arrived(&mut self, id: ConnId, message: Message) -> Result<(), Violation> {
        let Some(conn) = self.conns.get(&id) else { return Ok(()) };
        let client = conn.nodes[0] - self.servers.len();
        if self.clients[client].conn != Some(id) {
            return Ok(());
        }
        match message {
            Message::Bytes(bytes) => {
                self.clients[client].heard = self.now;
                self.clients[client].input.extend(bytes);
                let input = std::mem::take(&mut self.clients[client].input);
                let mut rest = &input[..];
                while let Some((prefix, tail)) = rest.split_first_chunk::<4>() {
                    let len = i32::from_be_bytes(*prefix) as usize;
                    let Some(frame) = tail.get(..len) else { break };
                    rest = &tail[len..];
                    self.frame(client, frame)
                        .map_err(|broken| broken.by(format_args!("client {client}")))?;
                    if self.clients[client].conn != Some(id) {
                        return Ok(());
                    }
                }
                self.clients[client].input = rest.to_vec();
            }
            Message::End => {
                self.clients[client].conn = None;
                self.clients[client].established = false;
                self.clients[client].session.disconnected();
            }
            _ => {}
        }
        Ok(())
    }

    fn frame(&mut self, client: usize, frame: &[u8]) -> Result<(), Violation> {
        if !self.clients[client].established {
            return self.connected(client, frame);
        }
        let mut reader = Reader::new(frame);
        let header = ReplyHeader::decode(&mut reader).map_err(unreadable)?;
        let body = reader.rest();
        if header.xid == XID_NOTIFICATION {
            let event = WatcherEvent::from_bytes(body).map_err(unreadable)?;
            self.summary.notifications += 1;
            self.clients[client].session.watches.remove(&*event.path);
            return Ok(());
        }
        let session = &mut self.clients[client].session;
        let Some(sent) = session.sent.pop_front() else {
            return Err(Rule::Fifo.broken(format!("a reply {header:?} to nothing")));
        };
        if sent.xid != header.xid {
            return Err(
                Rule::Fifo.broken(format!("reply {header:?} is out of order; {sent:?} was first"))
            );
        }
        if header.zxid > 0 {
            if header.zxid < session.last_zxid {
                return Err(Rule::MonotonicRead.broken(format!(
                    "the session saw zxid {:#x}, and then {header:x?} for {sent:?}",
                    session.last_zxid
                )));
            }
            session.last_zxid = header.zxid;
        }
        self.reply(client, sent, header, body)
    }

    fn connected(&mut self, client: usize, frame: &[u8]) -> Result<(), Violation> {
        let response = ConnectResponse::from_bytes(frame).map_err(unreadable)?;
        let old = self.clients[client].session.id;
        if response.timeout_ms <= 0 {
            self.summary.expired += 1;
            self.checks.dead_sessions.insert(old);
            self.note(|| format!("client {client}: session {old:#x} has expired"));
            self.clients[client].session = Session::default();
            self.disconnect(client);
            return Ok(());
        }
        let me = &mut self.clients[client];
        me.established = true;
        if old != 0 {
            if old != response.session {
                return Err(
                    Rule::Sessions.broken(format!("resumed {old:#x}, got {:#x}", response.session))
                );
            }
            if self.checks.dead_sessions.contains(&old) {
                return Err(
                    Rule::Sessions.broken(format!("session {old:#x} was closed, and lives again"))
                );
            }
            self.summary.resumed += 1;
            // The connection before may have ended before these were on their way.
            let ops = self.setup();
            self.request(client, ops);
            return Ok(());
        }
        self.summary.sessions += 1;
        me.session = Session {
            id: response.session,
            password: response.password,
            xid: 0,
            ..Session::default()
        };
        if !self.checks.sessions.insert(response.session) {
            return Err(Rule::Sessions
                .broken(format!("session id {:#x} was given out twice", response.session)));
        }
        let mut ops = self.setup();
        ops.push(Op::CreateOwn);
        self.request(client, ops);
        Ok(())
    }

    /// Requests for the nodes that everyone uses, until they are known to be there.
    fn setup(&self) -> Vec<Op> {
        if self.checks.setup_done {
            return Vec::new();
        }
        SETUP.iter().map(|path| Op::Setup { path: (*path).to_owned() }).collect()
    }

    fn reply(
        &mut self,
        client: usize,
        sent: Sent,
        header: ReplyHeader,
        body: &[u8],
    ) -> Result<(), Violation> {
        let ok = header.err == 0;
        if sent.op.is_write() {
            self.summary.writes += 1;
            if ok {
                self.checks.max_acked = self.checks.max_acked.max(header.zxid);
            }
        } else {
            self.summary.reads += 1;
        }
        let session = &mut self.clients[client].session;
        let expired = header.err == ErrorCode::SessionExpired.code();
        match sent.op {
            _ if expired => {}
            Op::Setup { path }
                if path == SETUP[SETUP.len() - 1]
                    && (ok || header.err == ErrorCode::NodeExists.code()) =>
            {
                self.checks.setup_done = true;
            }
            Op::CreateOwn if ok => session.own = session.own.or(Some(0)),
            Op::CreateOwn => {}
            Op::SetOwn { value } if ok => session.own_written(value),
            Op::SetOwn { value } if session.own.is_some() => {
                return Err(Rule::Semantics
                    .broken(format!("setData {value} of the own register fails: {header:?}")));
            }
            Op::GetOwn if ok => {
                let data = Reader::new(body).buffer().ok().flatten().unwrap_or_default();
                let value = String::from_utf8_lossy(data).parse().unwrap_or(u64::MAX);
                session.own_read(value)?;
            }
            Op::GetOwn if session.own.is_some() => {
                return Err(
                    Rule::Semantics.broken(format!("the own register is not there: {header:?}"))
                );
            }
            Op::SetShared { path, value } if ok => {
                let stat = Stat::from_bytes(body).map_err(unreadable)?;
                self.checks.shared_value(&path, stat.mzxid, &value, true)?;
            }
            Op::GetShared { path, watch } if ok => {
                let mut reader = Reader::new(body);
                let data = reader.buffer().ok().flatten().unwrap_or_default();
                let value = String::from_utf8_lossy(data).into_owned();
                let stat = Stat::decode(&mut reader).map_err(unreadable)?;
                if let Some(mzxid) = session.watches.get(&path)
                    && *mzxid < stat.mzxid
                {
                    return Err(Rule::Watches
                        .broken(format!("{path}: new data seen before the watch's event")));
                }
                if watch {
                    session.watches.entry(path.clone()).or_insert(stat.mzxid);
                }
                self.checks.shared_value(&path, stat.mzxid, &value, false)?;
            }
            Op::CreateSequential { value } if ok => {
                let path = Reader::new(body).string().map_err(unreadable)?;
                let before = self.checks.kept.insert(path.clone().into_owned(), value);
                if before.is_some() {
                    return Err(Rule::Semantics.broken(format!("{path} was given out twice")));
                }
            }
            Op::CreatePair { first, second } if ok && succeeded(body)? => {
                self.checks.kept.insert(first, "m".to_owned());
                self.checks.kept.insert(second, "m".to_owned());
            }
            Op::Sync if ok => {
                // A leader that lost its quorum may still answer; in one epoch the rule is strict.
                let same_epoch = sent.acked_before >> 32 == header.zxid >> 32;
                if same_epoch && header.zxid < sent.acked_before {
                    return Err(Rule::Linearizability.broken(format!(
                        "sync answered at {:#x}, but {:#x} was acknowledged before it",
                        header.zxid, sent.acked_before
                    )));
                }
            }
            Op::Close if ok => {
                let id = session.id;
                self.checks.dead_sessions.insert(id);
                self.clients[client].session = Session::default();
                self.disconnect(client);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Did the multi behind this reply happen? The reply's own header says ok either way; the errors stand
/// in the results (`docs/spec/client-protocol.md` 9). Only the end of its session excuses a failure.
fn succeeded(body: &[u8]) -> Result<bool, Violation> {
    let first = MultiHeader::from_bytes(&body[..body.len().min(9)]);
    let first = first.map_err(unreadable)?;
    let refused = [ErrorCode::SessionExpired.code(), ErrorCode::SessionMoved.code()];
    match first.kind == OpCode::Error.code() {
        true if refused.contains(&first.err) => Ok(false),
        true => {
            Err(Rule::Semantics
                .broken(format!("a multi of two new nodes fails with {}", first.err)))
        }
        false => Ok(true),
    }
}
