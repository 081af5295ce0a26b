//! What arrives at a client, and whether it may.

use std::rc::Rc;

use oxkeeper_proto::client::{
    ConnectResponse, EventKind, ReplyHeader, WatcherEvent, XID_NOTIFICATION,
};
use oxkeeper_proto::{Decode, DecodeError, ErrorCode, Reader, Zxid};

use crate::check::reads::Reading;
use crate::check::watches::{CHILD, DATA, EXIST, PERSISTENT, RECURSIVE, bits_of_kind};
use crate::clients::ops::{Mode, Op};
use crate::clients::session::{Purpose, Sent, Session};
use crate::clients::workload::LAST_OF_SETUP;
use crate::net::ConnId;
use crate::server::{MAX_TIMEOUT_MS, MIN_TIMEOUT_MS};
use crate::violation::{Rule, Violation};
use crate::world::World;

/// Nodes under chosen names that a client remembers.
const MADE: usize = 8;
/// Clocks count in whole ms.
const ROUNDING_MS: u64 = 3;

fn unreadable(error: DecodeError) -> Violation {
    Rule::Semantics.broken(format!("a reply cannot be read: {error}"))
}

impl World<'_> {
    /// A frame has arrived on a connection that the client may have given up since.
    pub fn frame(&mut self, client: usize, conn: ConnId, frame: &[u8]) -> Result<(), Violation> {
        let Some(link) = self.clients[client].link_of(conn) else { return Ok(()) };
        if !link.established {
            return self.connected(client, conn, frame);
        }
        let mut reader = Reader::new(frame);
        let header = ReplyHeader::decode(&mut reader).map_err(unreadable)?;
        let body = reader.rest();
        if header.xid == XID_NOTIFICATION {
            return self.notified(client, conn, header, body);
        }
        let Some(sent) = link.sent.pop_front() else {
            return Err(Rule::Fifo.broken(format!("a reply {header:?} to nothing")));
        };
        if sent.xid != header.xid {
            return Err(
                Rule::Fifo.broken(format!("reply {header:?} is out of order; {sent:?} was first"))
            );
        }
        self.reply(client, conn, &sent, header, body)
            .map_err(|broken| broken.by(format_args!("{:?} answered {header:x?}", sent.op)))
    }

    fn notified(
        &mut self,
        client: usize,
        conn: ConnId,
        header: ReplyHeader,
        body: &[u8],
    ) -> Result<(), Violation> {
        let event = WatcherEvent::from_bytes(body).map_err(unreadable)?;
        let kinds = [
            EventKind::NodeCreated,
            EventKind::NodeDeleted,
            EventKind::NodeDataChanged,
            EventKind::NodeChildrenChanged,
        ];
        let kind = kinds.into_iter().find(|kind| *kind as i32 == event.kind);
        let Some(kind) = kind.filter(|_| event.state == 3 && header.err == 0) else {
            return Err(Rule::Watches.broken(format!("no notification is like {event:?}")));
        };
        self.summary.notifications += 1;
        let me = &mut self.clients[client];
        let Some(link) = me.links.iter_mut().find(|link| link.conn == conn) else { return Ok(()) };
        let told = (kind, Rc::from(&*event.path));
        link.watching.notified(&self.checks.clients.history, header.zxid, told)?;
        if link.purpose == Purpose::Work {
            me.session.held.used_up(kind, &event.path);
        }
        Ok(())
    }

    fn connected(&mut self, client: usize, conn: ConnId, frame: &[u8]) -> Result<(), Violation> {
        let response = ConnectResponse::from_bytes(frame).map_err(unreadable)?;
        let me = &mut self.clients[client];
        let (old, wanted) = (me.session.id, me.timeout_ms.clamp(MIN_TIMEOUT_MS, MAX_TIMEOUT_MS));
        let Some(link) = me.link_of(conn) else { return Ok(()) };
        let (purpose, shown) = (link.purpose, link.last_zxid);
        if response.timeout_ms <= 0 {
            return self.refused(client, conn, purpose, shown);
        }
        if purpose == Purpose::Intrude {
            return Err(Rule::Sessions.broken(format!("{old:#x} was given for a wrong password")));
        }
        if response.timeout_ms != wanted {
            return Err(Rule::Sessions
                .broken(format!("a timeout of {} ms, not of {wanted} ms", response.timeout_ms)));
        }
        link.established = true;
        if old == 0 {
            self.summary.sessions += 1;
            let (id, password, seen) = (response.session, response.password, me.session.seen);
            me.session = Session { id, password, seen, ..Session::default() };
            if self.checks.clients.presented.insert(id, 1).is_some() {
                return Err(
                    Rule::Sessions.broken(format!("session id {id:#x} was given out twice"))
                );
            }
        } else if old != response.session {
            return Err(
                Rule::Sessions.broken(format!("resumed {old:#x}, got {:#x}", response.session))
            );
        } else {
            self.summary.resumed += 1;
        }
        if purpose == Purpose::Move {
            self.summary.moved += 1;
            for link in &mut self.clients[client].links {
                link.purpose = if link.conn == conn { Purpose::Work } else { Purpose::Left };
            }
        }
        self.begin(client, conn);
        Ok(())
    }

    /// The session was refused: its password is wrong, or its end was proposed. `shown`: what the client had
    /// seen when it asked.
    fn refused(
        &mut self,
        client: usize,
        conn: ConnId,
        purpose: Purpose,
        shown: i64,
    ) -> Result<(), Violation> {
        self.hang_up_client(client, conn);
        if purpose == Purpose::Intrude {
            self.summary.intrusions += 1;
            return Ok(());
        }
        let id = self.clients[client].session.id;
        // A leader that was replaced without noticing may not know of a session; it turns away those who
        // show that they have seen more than itself, but a client that had seen nothing yet cannot.
        let ends = self.checks.clients.lives.ending.contains(&id);
        let created = self.checks.clients.model.sessions.get(&id).map(|record| record.created);
        if !ends && created.is_some_and(|created| created <= shown) {
            return Err(
                Rule::Sessions.broken(format!("{id:#x} is refused, but nobody has ended it"))
            );
        }
        self.summary.expired += 1;
        self.note(|| format!("client {client}: session {id:#x} has expired"));
        self.lose_session(client);
        Ok(())
    }

    /// The client begins anew. What it has seen it has seen: no server may show it less.
    fn lose_session(&mut self, client: usize) {
        self.hang_up_all(client);
        let seen = self.clients[client].session.seen;
        self.clients[client].session = Session { seen, ..Session::default() };
    }

    fn reply(
        &mut self,
        client: usize,
        conn: ConnId,
        sent: &Sent,
        header: ReplyHeader,
        body: &[u8],
    ) -> Result<(), Violation> {
        let ReplyHeader { zxid, err, .. } = header;
        if matches!(*sent.op, Op::Auth) {
            return match (zxid, err) {
                (0, 0) => Ok(()),
                _ => Err(Rule::Semantics.broken("an authentication that cannot fail")),
            };
        }
        let checks = &self.checks.clients;
        let me = &mut self.clients[client];
        let (ben, session) = (me.ben, &mut me.session);
        let Some(link) = me.links.iter_mut().find(|link| link.conn == conn) else { return Ok(()) };
        if zxid < link.last_zxid || (sent.op.is_write() && zxid == link.last_zxid) {
            let rule = if sent.op.is_write() { Rule::Fifo } else { Rule::MonotonicRead };
            return Err(rule.broken(format!("the session has seen {:#x}", link.last_zxid)));
        }
        if !checks.history.is_state(zxid) && !self.checks.deliveries.is_begin(Zxid(zxid)) {
            return Err(Rule::Agreement.broken("no such state was ever committed"));
        }
        let closed = checks.model.sessions.get(&session.id).and_then(|record| record.closed);
        let own_end = matches!(*sent.op, Op::Close) && closed == Some(zxid);
        if closed.is_some_and(|closed| closed <= zxid) && !own_end {
            return Err(Rule::Sessions.broken(format!("its session has ended at {closed:x?}")));
        }
        link.last_zxid = zxid;
        session.seen = session.seen.max(zxid);
        link.watching.replied(&checks.history, zxid)?;
        let told = match &*sent.op {
            Op::SetWatches { seen, watches } => {
                link.watching.set_again(&checks.model, zxid, *seen, watches)
            }
            _ => Vec::new(),
        };
        link.watching.caught_up(&told)?;
        if link.purpose == Purpose::Work {
            session.told = zxid;
        }
        if sent.op.is_write() {
            self.summary.writes += 1;
            self.summary.failed_writes += u64::from(err != 0);
            checks.answered(session.id, sent.xid, zxid, err, body)?;
            self.checks.clients.acknowledged(self.now, zxid);
        } else if let Op::CheckWatches { path, kind } | Op::RemoveWatches { path, kind } = &*sent.op
        {
            let bits = bits_of_kind(*kind);
            let there = link.watching.table.has(path, bits);
            if (err == 0) != there || !(err == 0 || err == ErrorCode::NoWatcher.code()) {
                let but = if there { "a watch is there" } else { "no watch is there" };
                return Err(Rule::Watches.broken(but));
            }
            if let Op::RemoveWatches { .. } = &*sent.op {
                link.watching.table.remove(path, bits);
                session.held.remove(path, bits);
            }
        } else {
            self.summary.reads += 1;
            let reading = Reading { model: &checks.model, zxid, session: session.id, ben };
            reading.check(&sent.op, err, body).map_err(|wrong| Rule::Semantics.broken(wrong))?;
        }
        self.remember(client, conn, sent, header, body)
    }

    /// What the client keeps of a reply that is right.
    fn remember(
        &mut self,
        client: usize,
        conn: ConnId,
        sent: &Sent,
        header: ReplyHeader,
        body: &[u8],
    ) -> Result<(), Violation> {
        let ReplyHeader { zxid, err, .. } = header;
        let checks = &mut self.checks.clients;
        let me = &mut self.clients[client];
        let session = &mut me.session;
        let Some(link) = me.links.iter_mut().find(|link| link.conn == conn) else { return Ok(()) };
        let ok = err == 0;
        let mut watch = |path: &str, bits: u8| {
            link.watching.table.add(path, bits);
            session.held.add(path, bits);
        };
        match &*sent.op {
            Op::Exists { path, watch: true } if ok => watch(path, DATA),
            Op::Exists { path, watch: true } if err == ErrorCode::NoNode.code() => {
                watch(path, EXIST);
            }
            Op::GetData { path, watch: true } if ok => watch(path, DATA),
            Op::GetChildren { path, watch: true, .. } if ok => watch(path, CHILD),
            Op::AddWatch { path, recursive } if ok => {
                watch(path, if *recursive { RECURSIVE } else { PERSISTENT });
            }
            Op::Create(create) if create.path == LAST_OF_SETUP => {
                checks.setup_done |= ok || err == ErrorCode::NodeExists.code();
            }
            Op::Create(create) if ok && create.sequential && create.mode == Mode::Ephemeral => {
                let path = Reader::new(body).string().map_err(unreadable)?;
                session.made.push_back(path.into_owned());
                session.made.truncate(MADE);
            }
            Op::Sync => return self.sync_is_fresh(zxid, sent.at),
            Op::Close => self.lose_session(client),
            _ => {}
        }
        if let Op::GetData { path, .. } | Op::Exists { path, .. } | Op::SetData { path, .. } =
            &*sent.op
            && let Some(node) = self.checks.clients.model.at(path, zxid)
        {
            let session = &mut self.clients[client].session;
            session.versions.insert(path.clone(), node.version);
        }
        Ok(())
    }

    /// A sync shows all that was acknowledged before it was sent. A leader that was replaced without noticing
    /// may miss what others have acknowledged in the last tick of its clock (`CHANGELOG.md`): that is, of
    /// later epochs.
    fn sync_is_fresh(&self, zxid: i64, sent_at: u64) -> Result<(), Violation> {
        let acked = self.checks.clients.acked_before(sent_at, zxid);
        let Some((at, acked)) = acked else { return Ok(()) };
        let missed =
            (0..self.servers.len()).map(|server| self.passed_for(server, at, sent_at)).min();
        let excused = acked >> 32 != zxid >> 32
            && missed.is_some_and(|missed_ms| missed_ms <= self.plan.tick_ms + ROUNDING_MS);
        match excused {
            true => Ok(()),
            false => Err(Rule::Linearizability
                .broken(format!("{acked:#x} was acknowledged {missed:?} ms before it was sent"))),
        }
    }
}
