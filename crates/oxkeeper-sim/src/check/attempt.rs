//! What a write must do, by `docs/spec/client-protocol.md` 8, 9 and 14: the transaction that it becomes
//! on top of the history before it, its effects on the model, and its reply.

use std::rc::Rc;

use oxkeeper_proto::client::MultiHeader;
use oxkeeper_proto::txn::{CreateMode, CreateTxn, Txn};
use oxkeeper_proto::{Acl, Encode, ErrorCode, OpCode};

use crate::check::model::{Change, Model, Node, Owner, split};
use crate::check::quota::{limits_path, number, stats_path};
use crate::clients::ops::{AclChoice, BEN, Create, Mode, Op};

const READ: i32 = 1;
const WRITE: i32 = 2;
const CREATE: i32 = 4;
const DELETE: i32 = 8;
const ADMIN: i32 = 16;

/// Settings of the ensemble that decide whether a write succeeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// `extendedTypesEnabled`.
    pub extended_types: bool,
    /// `enforceQuota`.
    pub enforce_quota: bool,
}

/// Error and body of a reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Reply {
    pub err: i32,
    pub body: Vec<u8>,
}

/// Does the list grant any of `wanted` to everybody, or to [`BEN`] if it is him?
pub fn permits(acl: &[Acl], wanted: i32, ben: bool) -> bool {
    let means = |entry: &Acl| match entry.id.scheme.as_str() {
        "world" => true,
        _ => ben && entry.id.id == BEN.1,
    };
    acl.iter().any(|entry| entry.perms & wanted != 0 && means(entry))
}

/// A write that is being tried on the model.
#[derive(Debug)]
pub struct Attempt<'m> {
    /// What it is tried on; what fails is left for the caller to take back.
    pub model: &'m mut Model,
    /// Settings.
    pub rules: Rules,
    /// Of its transaction.
    pub zxid: i64,
    /// Of its transaction, in ms.
    pub time: i64,
    /// Whose.
    pub session: i64,
    /// Is it [`BEN`]?
    pub ben: bool,
    /// May the session write, or why not?
    pub standing: Result<(), ErrorCode>,
    /// The state whose usage counts for quotas.
    pub quota_at: i64,
    /// What changes.
    pub changes: Vec<Change>,
}

/// Of one operation: its transaction, and the body of its reply.
type Done<'a> = (Txn<'a>, Vec<u8>);

fn ensure(holds: bool, code: ErrorCode) -> Result<(), ErrorCode> {
    if holds { Ok(()) } else { Err(code) }
}

fn version_fits(stored: i32, expected: i32) -> Result<(), ErrorCode> {
    ensure(expected == -1 || expected == stored, ErrorCode::BadVersion)
}

impl Attempt<'_> {
    /// The transaction that the request must become, and the reply that it must get.
    pub fn make<'a>(&mut self, op: &'a Op) -> (Txn<'a>, Reply) {
        let result = match op {
            Op::Multi(ops) => return self.multi(ops),
            Op::Close => Ok(self.close()),
            op => self.one(op),
        };
        match result {
            Ok((txn, body)) => (txn, Reply { err: 0, body }),
            Err(code) => (Txn::Error(code.code()), Reply { err: code.code(), body: Vec::new() }),
        }
    }

    fn one<'a>(&mut self, op: &'a Op) -> Result<Done<'a>, ErrorCode> {
        match op {
            Op::Create(create) => self.create(create),
            Op::Delete { path, version } => self.delete(path, *version),
            Op::SetData { path, data, version } => self.set_data(path, data, *version),
            Op::SetAcl { path, acl, version } => self.set_acl(path, *acl, *version),
            Op::Check { path, version } => self.check(path, *version),
            _ => Err(ErrorCode::Unimplemented),
        }
    }

    fn node(&self, path: &str) -> Result<Node, ErrorCode> {
        self.model.get(path).cloned().ok_or(ErrorCode::NoNode)
    }

    fn permit(&self, node: &Node, wanted: i32) -> Result<(), ErrorCode> {
        ensure(permits(&node.acl, wanted, self.ben), ErrorCode::NoAuth)
    }

    fn expand(&self, choice: AclChoice) -> Result<Vec<Acl>, ErrorCode> {
        if choice == AclChoice::Creator {
            ensure(self.ben, ErrorCode::InvalidAcl)?;
            return Ok(vec![Acl::new(31, "digest", BEN.1)]);
        }
        let entries = choice.entries().into_iter();
        Ok(entries.map(|(perms, scheme, id)| Acl::new(perms, scheme, id)).collect())
    }

    fn create<'a>(&mut self, create: &'a Create) -> Result<Done<'a>, ErrorCode> {
        let ttl = matches!(create.mode, Mode::Ttl { .. });
        ensure(!ttl || self.rules.extended_types, ErrorCode::Unimplemented)?;
        self.standing?;
        let acl = self.expand(create.acl)?;
        let (above, _) = split(&create.path);
        let parent = self.node(above)?;
        self.permit(&parent, CREATE)?;
        let path = match create.sequential {
            true => format!("{}{:010}", create.path, parent.created),
            false => create.path.clone(),
        };
        ensure(self.model.get(&path).is_none(), ErrorCode::NodeExists)?;
        let barren = matches!(parent.owner, Owner::Session(_));
        ensure(!barren, ErrorCode::NoChildrenForEphemerals)?;
        self.quota(&path, 1, create.data.len() as i64)?;
        let (mode, owner) = match create.mode {
            Mode::Plain => (CreateMode::Persistent, Owner::Nobody),
            Mode::Ephemeral => (CreateMode::Ephemeral, Owner::Session(self.session)),
            Mode::Container => (CreateMode::Container, Owner::Container),
            Mode::Ttl { ms } => (CreateMode::Ttl { ttl_ms: ms }, Owner::Ttl(ms)),
        };
        let data = Some(&create.data[..]);
        let node = Node::new(data, Rc::from(&acl[..]), owner, self.zxid, self.time);
        let mut body = Vec::new();
        path.encode(&mut body);
        if create.op() != OpCode::Create {
            node.stat().encode(&mut body);
        }
        self.model.create(self.zxid, &path, node, &mut self.changes);
        let op = create.op();
        let parent_cversion = parent.created + 1;
        let txn = CreateTxn { op, path: path.into(), data, acl, mode, parent_cversion };
        Ok((Txn::Create(txn), body))
    }

    fn delete<'a>(&mut self, path: &'a str, version: i32) -> Result<Done<'a>, ErrorCode> {
        self.standing?;
        let parent = self.node(split(path).0)?;
        self.permit(&parent, DELETE)?;
        let node = self.node(path)?;
        version_fits(node.version, version)?;
        ensure(node.children == 0, ErrorCode::NotEmpty)?;
        self.model.delete(self.zxid, path, &mut self.changes);
        Ok((Txn::Delete { op: OpCode::Delete, path: path.into() }, Vec::new()))
    }

    fn set_data<'a>(
        &mut self,
        path: &'a str,
        data: &'a [u8],
        version: i32,
    ) -> Result<Done<'a>, ErrorCode> {
        self.standing?;
        let node = self.node(path)?;
        self.permit(&node, WRITE)?;
        self.quota(path, 0, data.len() as i64 - node.bytes() as i64)?;
        version_fits(node.version, version)?;
        let (zxid, time) = (self.zxid, self.time);
        self.model.set_data(zxid, time, path, Some(data), &mut self.changes);
        let after = self.node(path)?;
        let version = after.version;
        let txn =
            Txn::SetData { op: OpCode::SetData, path: path.into(), data: Some(data), version };
        Ok((txn, after.stat().to_bytes()))
    }

    fn set_acl<'a>(
        &mut self,
        path: &'a str,
        acl: AclChoice,
        version: i32,
    ) -> Result<Done<'a>, ErrorCode> {
        self.standing?;
        let acl = self.expand(acl)?;
        let node = self.node(path)?;
        self.permit(&node, ADMIN)?;
        version_fits(node.aversion, version)?;
        self.model.set_acl(self.zxid, path, Rc::from(&acl[..]));
        let after = self.node(path)?;
        let version = after.aversion;
        Ok((Txn::SetAcl { path: path.into(), acl, version }, after.stat().to_bytes()))
    }

    fn check<'a>(&mut self, path: &'a str, version: i32) -> Result<Done<'a>, ErrorCode> {
        self.standing?;
        let node = self.node(path)?;
        self.permit(&node, READ)?;
        version_fits(node.version, version)?;
        Ok((Txn::Check { path: path.into(), version: node.version + 1 }, Vec::new()))
    }

    /// All or nothing; the caller takes back what a failed one has done so far.
    fn multi<'a>(&mut self, ops: &'a [Op]) -> (Txn<'a>, Reply) {
        let mut parts = Vec::new();
        let mut body = Vec::new();
        for (nth, op) in ops.iter().enumerate() {
            match self.one(op) {
                Ok((txn, reply)) => {
                    let kind = match op.code() {
                        OpCode::CreateContainer | OpCode::CreateTtl => OpCode::Create2,
                        code => code,
                    };
                    MultiHeader { kind: kind.code(), done: false, err: 0 }.encode(&mut body);
                    body.extend(reply);
                    parts.push(txn);
                }
                Err(code) => return failed_multi(ops.len(), nth, code),
            }
        }
        MultiHeader::END.encode(&mut body);
        (Txn::Multi(parts), Reply { err: 0, body })
    }

    fn close<'a>(&mut self) -> Done<'a> {
        let paths = self.model.ephemerals(self.session, i64::MAX);
        let paths: Vec<_> = paths.into_iter().map(|path| path.to_owned().into()).collect();
        (Txn::CloseSession { paths: Some(paths) }, Vec::new())
    }

    /// Hard limits, by the usage at [`Attempt::quota_at`].
    fn quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), ErrorCode> {
        if !self.rules.enforce_quota {
            return Ok(());
        }
        let text =
            |path: &str| self.model.at(path, self.quota_at).and_then(|node| node.data.clone());
        let Some(quota) = self.model.quota_of(path, self.quota_at) else { return Ok(()) };
        let (Some(limits), Some(used)) = (text(&limits_path(quota)), text(&stats_path(quota)))
        else {
            return Ok(());
        };
        let exceeds = |limit: &str, used: i64, more: i64| {
            let limit = number(&limits, limit);
            more != 0 && limit > -1 && used + more > limit
        };
        let refused = exceeds("countHardLimit", number(&used, "count"), count)
            || exceeds("byteHardLimit", number(&used, "bytes"), bytes);
        ensure(!refused, ErrorCode::QuotaExceeded)
    }
}

/// The operation `nth` has failed: those before it count for nothing, those behind it are not tried.
fn failed_multi<'a>(len: usize, nth: usize, code: ErrorCode) -> (Txn<'a>, Reply) {
    let inconsistent = ErrorCode::RuntimeInconsistency.code();
    let mut body = Vec::new();
    let mut parts = Vec::new();
    for part in 0..len {
        let err = match part.cmp(&nth) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => code.code(),
            std::cmp::Ordering::Greater => inconsistent,
        };
        parts.push(Txn::Error(err));
        MultiHeader { kind: OpCode::Error.code(), done: false, err }.encode(&mut body);
        err.encode(&mut body);
    }
    MultiHeader::END.encode(&mut body);
    (Txn::Multi(parts), Reply { err: 0, body })
}

/// Does the committed transaction say what the expected one does?
pub fn agree(expected: &Txn<'_>, committed: &Txn<'_>) -> bool {
    match (expected, committed) {
        (Txn::Multi(parts), Txn::Multi(others)) if has_failed(expected) => {
            // What stands before the failed operation is of no account.
            let code = |txn: &Txn<'_>| if let Txn::Error(code) = txn { *code } else { 0 };
            parts.iter().map(code).eq(others.iter().map(code))
        }
        (Txn::CloseSession { paths: Some(paths) }, Txn::CloseSession { paths: Some(others) }) => {
            let mut others = others.clone();
            others.sort_unstable();
            *paths == others
        }
        _ => expected == committed,
    }
}

/// Does the transaction change nothing?
pub fn has_failed(txn: &Txn<'_>) -> bool {
    match txn {
        Txn::Error(_) => true,
        Txn::Multi(parts) => parts.iter().any(|part| matches!(part, Txn::Error(_))),
        _ => false,
    }
}
