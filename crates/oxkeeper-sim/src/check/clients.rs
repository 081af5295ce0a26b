//! What clients may see: every committed transaction is one that was asked for, does what
//! `docs/spec/client-protocol.md` says on top of those before it, and is what its reply tells.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use oxkeeper_proto::txn::{Payload, Txn, TxnHeader};
use oxkeeper_proto::{Epoch, ErrorCode, OpCode, Zxid};

use crate::check::attempt::{Attempt, Reply, Rules, agree, has_failed};
use crate::check::history::History;
use crate::check::lives::Lives;
use crate::check::model::{Change, Model, SessionRecord};
use crate::clients::ops::{Mode, Op};
use crate::net::ConnId;
use crate::violation::{Rule, Violation};

/// A write that was sent.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What.
    pub op: Rc<Op>,
    /// On which connection.
    pub conn: ConnId,
    /// Writes sent there before it.
    pub nth: u64,
    /// By the one whom lists name?
    pub ben: bool,
    /// Largest zxid acknowledged to anyone when it was sent.
    pub acked_before: i64,
}

/// The reply that a committed write must get.
#[derive(Debug)]
#[allow(missing_docs)]
pub struct Answer {
    pub zxid: i64,
    pub reply: Reply,
}

/// Writes of one connection, as they are committed.
#[derive(Debug, Default)]
struct Flow {
    committed: u64,
    /// One was refused since the session had moved away.
    moved: bool,
}

/// The connection whose writes are committed now, and those whose time is over.
#[derive(Debug, Default)]
struct Turns {
    now: ConnId,
    over: BTreeSet<ConnId>,
}

/// What was observed so far.
#[derive(Debug, Default)]
pub struct ClientChecks {
    /// Settings that decide whether a write succeeds.
    pub rules: Rules,
    /// The tree.
    pub model: Model,
    /// Transactions.
    pub history: History,
    /// Sessions and their ends.
    pub lives: Lives,
    asked: BTreeMap<(i64, i32), Asked>,
    answers: BTreeMap<(i64, i32), Answer>,
    flows: BTreeMap<ConnId, Flow>,
    turns: BTreeMap<i64, Turns>,
    /// Epochs of the servers that lead.
    pub epochs: BTreeMap<usize, Epoch>,
    /// State of each of them after its last step.
    pub stood: BTreeMap<usize, i64>,
    /// Committed transactions by what they are.
    pub counts: BTreeMap<String, u64>,
    /// The nodes that everyone uses are there.
    pub setup_done: bool,
    /// Connections on which a session was presented.
    pub presented: BTreeMap<i64, u64>,
    /// Largest zxid acknowledged to anyone, by time in µs.
    acked: Vec<(u64, i64)>,
    /// States that the leader had before and after the step in which it proposed a transaction.
    pub prepared_at: BTreeMap<i64, (i64, i64)>,
}

impl ClientChecks {
    /// The largest zxid acknowledged to anyone.
    pub fn max_acked(&self) -> i64 {
        self.acked.last().map_or(0, |(_, zxid)| *zxid)
    }

    /// The first acknowledgement of more than `zxid`, if there was one before that time: when, and of what.
    pub fn acked_before(&self, time: u64, zxid: i64) -> Option<(u64, i64)> {
        let first = self.acked.partition_point(|(_, acked)| *acked <= zxid);
        self.acked.get(first).copied().filter(|(at, _)| *at < time)
    }

    /// A client has got a zxid as an acknowledgement.
    pub fn acknowledged(&mut self, now: u64, zxid: i64) {
        if zxid > self.max_acked() {
            self.acked.push((now, zxid));
        }
    }

    /// A write is on its way.
    pub fn ask(&mut self, session: i64, xid: i32, asked: Asked) {
        self.asked.insert((session, xid), asked);
    }

    /// A client got this reply to a write.
    pub fn answered(
        &self,
        session: i64,
        xid: i32,
        zxid: i64,
        err: i32,
        body: &[u8],
    ) -> Result<(), Violation> {
        let Some(answer) = self.answers.get(&(session, xid)) else {
            return Err(Rule::Durability
                .broken(format!("answered with {err} at {zxid:#x}, but nothing was committed")));
        };
        if answer.zxid != zxid {
            return Err(Rule::Fifo
                .broken(format!("answered at {zxid:#x}, but committed at {:#x}", answer.zxid)));
        }
        let Reply { err: right, body: expected } = &answer.reply;
        if (*right, &expected[..]) != (err, body) {
            return Err(Rule::Semantics.broken(format!(
                "answered with {err} {body:x?} at {zxid:#x}, where {right} {expected:x?} is right"
            )));
        }
        Ok(())
    }

    /// A server begins to lead with a history that ends at or before `begin`: to it all sessions of that time
    /// are as if just heard.
    pub fn begin_to_lead(&mut self, server: usize, now_ms: u64, begin: i64) {
        let live = self.model.sessions.iter().filter(|(_, record)| record.lives_at(begin));
        let live = live.map(|(session, record)| (*session, record.timeout_ms));
        self.lives.leads(server, now_ms, live);
    }

    /// A leader proposes something: does a session begin or end with it?
    pub fn session_proposed(
        &mut self,
        server: usize,
        now_ms: u64,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let Ok(Payload { header, txn, .. }) = Payload::decode(payload) else { return Ok(()) };
        let session = header.client_id;
        match txn {
            Txn::CreateSession { timeout_ms } => {
                self.lives.created(server, now_ms, session, timeout_ms);
                Ok(())
            }
            Txn::CloseSession { .. } => self.lives.ends(server, now_ms, session, header.cxid == 0),
            _ => Ok(()),
        }
    }

    /// A transaction is committed.
    pub fn commit(&mut self, zxid: Zxid) -> Result<(), Violation> {
        let bytes = self.history.payload(zxid)?;
        let payload = Payload::decode(&bytes)
            .map_err(|error| Rule::Integrity.broken(format!("{zxid}: {error}")))?;
        let header = payload.header;
        if header.zxid != zxid.0 {
            return Err(Rule::Integrity.broken(format!("{zxid} has {:#x} inside", header.zxid)));
        }
        let changes = match (&payload.txn, header) {
            (Txn::CreateSession { timeout_ms }, _) => self.session_created(&header, *timeout_ms)?,
            (Txn::CloseSession { .. }, TxnHeader { cxid: 0, .. }) => {
                let txn = &payload.txn;
                self.try_write(&header, txn, &Op::Close, false, Ok(()))?.0
            }
            (Txn::Delete { op: OpCode::DeleteContainer, path }, TxnHeader { client_id: 0, .. }) => {
                self.reaped(&header, path)?
            }
            (txn, _) => self.asked_for(&header, txn)?,
        };
        if matches!(payload.txn, Txn::CloseSession { .. })
            && let Some(record) = self.model.sessions.get_mut(&header.client_id)
        {
            record.closed.get_or_insert(zxid.0);
        }
        *self.counts.entry(name_of(&payload)).or_default() += 1;
        self.model.keep();
        self.history.push(zxid, changes);
        Ok(())
    }

    fn session_created(
        &mut self,
        header: &TxnHeader,
        timeout_ms: i32,
    ) -> Result<Vec<Change>, Violation> {
        let created = header.zxid;
        let record = SessionRecord { timeout_ms, created, closed: None, ephemerals: Vec::new() };
        match self.model.sessions.insert(header.client_id, record) {
            None => Ok(Vec::new()),
            Some(_) => Err(Rule::Sessions
                .broken(format!("session id {:#x} was given out twice", header.client_id))),
        }
    }

    /// A container or a node with a time to live is deleted by the leader.
    fn reaped(&mut self, header: &TxnHeader, path: &str) -> Result<Vec<Change>, Violation> {
        let (zxid, now_ms) = (header.zxid, header.time_ms);
        let node = self.model.get(path);
        let due = node.is_some_and(|node| node.children == 0 && node.is_left_alone(now_ms));
        if !due {
            let node = self.model.get(path);
            return Err(
                Rule::Semantics.broken(format!("{path} is reaped at {now_ms}, but it is {node:?}"))
            );
        }
        let mut changes = Vec::new();
        self.model.delete(zxid, path, &mut changes);
        Ok(changes)
    }

    fn asked_for(&mut self, header: &TxnHeader, txn: &Txn<'_>) -> Result<Vec<Change>, Violation> {
        let (session, cxid, zxid) = (header.client_id, header.cxid, header.zxid);
        let whose = format!("{session:#x} {cxid} at {zxid:#x}");
        let Some(asked) = self.asked.get(&(session, cxid)).cloned() else {
            return Err(Rule::Integrity.broken(format!("{whose}: nobody has asked for {txn:?}")));
        };
        if self.answers.contains_key(&(session, cxid)) {
            return Err(Rule::Fifo.broken(format!("{whose}: committed twice")));
        }
        if zxid <= asked.acked_before {
            return Err(Rule::Linearizability.broken(format!(
                "{whose}: {:#x} was acknowledged before it was sent",
                asked.acked_before
            )));
        }
        let standing = self.standing(session, &asked, txn).map_err(|broken| broken.by(&whose))?;
        let (changes, reply) = self
            .try_write(header, txn, &asked.op, asked.ben, standing)
            .map_err(|broken| broken.by(&whose))?;
        self.answers.insert((session, cxid), Answer { zxid, reply });
        Ok(changes)
    }

    /// May the session write, on this connection? Writes of a connection are committed in the order in which
    /// they were sent, without a hole; and once another connection of its session had its turn, its own is
    /// over. Only a session's end is not asked where it comes from, as in the reference.
    fn standing(
        &mut self,
        session: i64,
        asked: &Asked,
        txn: &Txn<'_>,
    ) -> Result<Result<(), ErrorCode>, Violation> {
        let flow = self.flows.entry(asked.conn).or_default();
        if flow.committed != asked.nth {
            return Err(Rule::Fifo.broken(format!(
                "write {} of its connection is committed behind {} others",
                asked.nth, flow.committed
            )));
        }
        flow.committed += 1;
        if matches!(*asked.op, Op::Close) {
            return Ok(Ok(()));
        }
        let first = match txn {
            Txn::Multi(parts) => parts.first(),
            txn => Some(txn),
        };
        let moved =
            matches!(first, Some(Txn::Error(code)) if *code == ErrorCode::SessionMoved.code());
        if moved {
            flow.moved = true;
            return match self.presented.get(&session).copied().unwrap_or(0) {
                0 | 1 => Err(Rule::Sessions.broken("refused as moved, but it never did")),
                _ => Ok(Err(ErrorCode::SessionMoved)),
            };
        }
        if !self.model.lives(session) {
            return Ok(Err(ErrorCode::SessionExpired));
        }
        let turns = self.turns.entry(session).or_default();
        if flow.moved || turns.over.contains(&asked.conn) {
            return Ok(Err(ErrorCode::SessionMoved));
        }
        // One that fails may do so before anyone asks for the session.
        if turns.now != asked.conn && !has_failed(txn) {
            turns.over.insert(turns.now);
            turns.now = asked.conn;
        }
        Ok(Ok(()))
    }

    /// Does it on the model, and compares.
    fn try_write(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        op: &Op,
        ben: bool,
        standing: Result<(), ErrorCode>,
    ) -> Result<(Vec<Change>, Reply), Violation> {
        let mut wrong = None;
        for quota_at in self.quota_states(header.zxid) {
            let mut attempt = Attempt {
                model: &mut self.model,
                rules: self.rules,
                zxid: header.zxid,
                time: header.time_ms,
                session: header.client_id,
                ben,
                standing,
                quota_at,
                changes: Vec::new(),
            };
            let (expected, reply) = attempt.make(op);
            let changes = std::mem::take(&mut attempt.changes);
            if agree(&expected, txn) {
                return Ok((self.settle(header, op, txn, changes), reply));
            }
            self.model.take_back();
            wrong.get_or_insert_with(|| {
                let rule = match expected {
                    Txn::CloseSession { .. } => Rule::Ephemerals,
                    _ if standing.is_err() => Rule::Sessions,
                    _ => Rule::Semantics,
                };
                rule.broken(format!("{op:?} becomes {txn:?}, where {expected:?} is right"))
            });
        }
        Err(wrong.unwrap_or_else(|| Rule::Semantics.broken("no state to judge it by")))
    }

    /// The states whose usage the leader may have looked at: writes in flight do not count.
    fn quota_states(&self, zxid: i64) -> Vec<i64> {
        let begin = Zxid::new(Zxid(zxid).epoch(), 0).0;
        let (before, after) = self.prepared_at.get(&zxid).copied().unwrap_or((begin, zxid - 1));
        let mut states = vec![before];
        if self.rules.enforce_quota {
            states.extend(self.history.between(before, after).iter().map(|txn| txn.zxid));
        }
        states
    }

    /// What agrees is done, except what a failed one has tried.
    fn settle(
        &mut self,
        header: &TxnHeader,
        op: &Op,
        txn: &Txn<'_>,
        mut changes: Vec<Change>,
    ) -> Vec<Change> {
        if has_failed(txn) {
            self.model.take_back();
            return Vec::new();
        }
        if let Txn::CloseSession { paths } = txn {
            for path in paths.iter().flatten() {
                self.model.delete(header.zxid, path, &mut changes);
            }
        }
        let ephemeral =
            |op: &Op| matches!(op, Op::Create(create) if create.mode == Mode::Ephemeral);
        let any = match op {
            Op::Multi(ops) => ops.iter().any(ephemeral),
            op => ephemeral(op),
        };
        if any && let Some(record) = self.model.sessions.get_mut(&header.client_id) {
            // More than are its own do no harm: the model asks the nodes.
            record.ephemerals.extend(changes.iter().map(|change| change.path.clone()));
        }
        changes
    }
}

/// What a transaction is counted as.
fn name_of(payload: &Payload<'_>) -> String {
    match (&payload.txn, payload.header.cxid) {
        (Txn::Error(code), _) => match ErrorCode::from_code(*code) {
            Some(code) => format!("{code:?}"),
            None => format!("error {code}"),
        },
        (txn @ Txn::Multi(_), _) if has_failed(txn) => "failed multi".to_owned(),
        (Txn::CloseSession { .. }, 0) => "expiry".to_owned(),
        (txn, _) => match OpCode::from_code(txn.kind()) {
            Some(code) => format!("{code:?}"),
            None => "nothing known".to_owned(),
        },
    }
}
