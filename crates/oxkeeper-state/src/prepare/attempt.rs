//! One request, checked step by step in the reference's order.
//!
//! Every operation makes all its checks before its first change; only a multi has changes to take back.
//! Source of the orders: `docs/spec/client-protocol.md` 8, 9.

use std::borrow::Cow;

use oxkeeper_proto::client::{AclEntry, perms};
use oxkeeper_proto::txn::Txn;
use oxkeeper_proto::{Acl, ErrorCode, OpCode, Zxid};

use super::overlay::{AclRef, Overlay, Record};
use super::parse::Operation;
use super::{PrepareSettings, SessionCheck, WriteRequest, reap};
use crate::quota::{self, Track};
use crate::{State, acl, path};

/// A request on its way to a transaction.
pub(super) struct Attempt<'a> {
    pub(super) overlay: &'a mut Overlay,
    pub(super) state: &'a State,
    pub(super) request: &'a WriteRequest<'a>,
    pub(super) settings: &'a PrepareSettings,
    pub(super) session: SessionCheck,
    /// Bytes of the ACLs expanded so far.
    pub(super) acl_bytes: usize,
}

impl Attempt<'_> {
    /// Checks and makes the changes in the overlay. On an error there are none.
    pub(super) fn operation<'b>(&mut self, operation: Operation<'b>) -> Result<Txn<'b>, ErrorCode> {
        match operation {
            Operation::Create(create) => self.create(create),
            Operation::Delete { path, version } => self.delete(path, version),
            Operation::DeleteContainer { path } => self.delete_container(path),
            Operation::SetData { path, data, version } => {
                self.set_data(path.unwrap_or_default(), data, version)
            }
            Operation::SetAcl { path, acl, version } => self.set_acl(path, acl, version),
            Operation::Check { path, version } => {
                self.check(path.ok_or(ErrorCode::MarshallingError)?, version)
            }
            Operation::Multi(parts) => self.multi(parts),
            Operation::BadMulti => Err(ErrorCode::MarshallingError),
            // Not offered: membership is fixed by the configuration.
            Operation::Reconfig if self.settings.nothing_to_reconfigure => {
                self.check_session(false)?;
                Err(ErrorCode::Unimplemented)
            }
            Operation::Reconfig => Err(ErrorCode::ReconfigDisabled),
            Operation::CreateSession { timeout_ms } => Ok(Txn::CreateSession { timeout_ms }),
            Operation::CloseSession => Ok(self.close_session()),
        }
    }

    pub(super) fn zxid(&self) -> Zxid {
        self.request.zxid
    }

    /// Is the session alive, here, and (for ephemerals) global?
    pub(super) fn check_session(&self, ephemeral: bool) -> Result<(), ErrorCode> {
        if self.overlay.is_closing(self.request.session) {
            return Err(ErrorCode::SessionExpired);
        }
        if ephemeral { self.session.ephemeral } else { self.session.any }
    }

    pub(super) fn get(&self, path: &str) -> Result<Record, ErrorCode> {
        self.overlay.get(self.state, path).ok_or(ErrorCode::NoNode)
    }

    pub(super) fn permit(&self, record: &Record, wanted: i32) -> Result<(), ErrorCode> {
        let acl = match &record.acl {
            AclRef::New(list) => Some(&**list),
            AclRef::Stored(id) => self.state.acls.get(*id),
        };
        let (auth, ids) = (&self.settings.auth, self.request.ids);
        if acl::permits_node(auth, acl, wanted, ids) { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    /// The list to store. All lists of one request together are bounded: a transaction must not be much
    /// longer than the request it came from.
    pub(super) fn expand(
        &mut self,
        entries: Option<&[AclEntry<'_>]>,
    ) -> Result<Vec<Acl>, ErrorCode> {
        let acl = acl::expand(&self.settings.auth, entries, self.request.ids)?;
        self.acl_bytes += acl::encoded_len(&acl);
        if self.acl_bytes > acl::MAX_ACL_BYTES { Err(ErrorCode::InvalidAcl) } else { Ok(acl) }
    }

    fn delete<'b>(
        &mut self,
        path: Option<Cow<'b, str>>,
        version: i32,
    ) -> Result<Txn<'b>, ErrorCode> {
        self.check_session(false)?;
        let path = path.ok_or(ErrorCode::MarshallingError)?;
        if path::is_protected(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let (parent_path, _) = path::split(&path).ok_or(ErrorCode::BadArguments)?;
        let parent = self.get(parent_path)?;
        self.permit(&parent, perms::DELETE)?;
        let node = self.get(&path)?;
        check_version(node.stat.version, version)?;
        if node.children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.remove(parent_path, parent, &path, &node);
        Ok(Txn::Delete { op: OpCode::Delete, path })
    }

    /// A deletion by the server: containers and nodes whose time is up, checked once more.
    fn delete_container<'b>(&mut self, path: Cow<'b, str>) -> Result<Txn<'b>, ErrorCode> {
        if path::is_protected(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let (parent_path, _) = path::split(&path).ok_or(ErrorCode::BadArguments)?;
        let node = self.get(&path)?;
        if node.children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        let kind = self.state.tree.owner_rules().kind(node.stat.ephemeral_owner);
        let (now_ms, never_used_ms) = (self.request.time_ms, self.settings.reap_never_used_ms);
        if !reap::is_due(kind, &node.stat, now_ms, never_used_ms) {
            return Err(ErrorCode::BadVersion);
        }
        let parent = self.get(parent_path)?;
        self.remove(parent_path, parent, &path, &node);
        Ok(Txn::Delete { op: OpCode::DeleteContainer, path })
    }

    /// Deletes a node; the parent's create counter stays.
    fn remove(&mut self, parent_path: &str, parent: Record, path: &str, node: &Record) {
        let zxid = self.zxid();
        let mut changed = parent.clone();
        changed.children -= 1;
        changed.stat.pzxid = changed.stat.pzxid.max(zxid.0);
        self.overlay.put(zxid, path, Some(node), None);
        self.overlay.put(zxid, parent_path, Some(&parent), Some(changed));
    }

    fn set_data<'b>(
        &mut self,
        path: Cow<'b, str>,
        data: Option<&'b [u8]>,
        version: i32,
    ) -> Result<Txn<'b>, ErrorCode> {
        self.check_session(false)?;
        if !path::is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let node = self.get(&path)?;
        self.permit(&node, perms::WRITE)?;
        let len = data.map_or(0, <[u8]>::len);
        self.check_quota(&path, 0, len as i64 - node.data_len as i64)?;
        check_version(node.stat.version, version)?;
        let mut changed = node.clone();
        changed.data_len = len;
        changed.prefix = self.overlay.prefix(&path, data);
        changed.stat.version = node.stat.version.wrapping_add(1);
        changed.stat.mzxid = self.zxid().0;
        changed.stat.mtime = self.request.time_ms;
        let version = changed.stat.version;
        self.overlay.put(self.zxid(), &path, Some(&node), Some(changed));
        Ok(Txn::SetData { op: OpCode::SetData, path, data, version })
    }

    fn set_acl<'b>(
        &mut self,
        path: Cow<'b, str>,
        entries: Option<Vec<AclEntry<'b>>>,
        version: i32,
    ) -> Result<Txn<'b>, ErrorCode> {
        self.check_session(false)?;
        if !path::is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let acl = self.expand(entries.as_deref())?;
        let node = self.get(&path)?;
        self.permit(&node, perms::ADMIN)?;
        check_version(node.stat.aversion, version)?;
        let mut changed = node.clone();
        changed.acl = AclRef::New(acl.clone().into());
        changed.stat.aversion = node.stat.aversion.wrapping_add(1);
        let version = changed.stat.aversion;
        self.overlay.put(self.zxid(), &path, Some(&node), Some(changed));
        Ok(Txn::SetAcl { path, acl, version })
    }

    fn check<'b>(&self, path: Cow<'b, str>, version: i32) -> Result<Txn<'b>, ErrorCode> {
        self.check_session(false)?;
        if !path::is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let node = self.get(&path)?;
        self.permit(&node, perms::READ)?;
        check_version(node.stat.version, version)?;
        Ok(Txn::Check { path, version: node.stat.version.wrapping_add(1) })
    }

    /// All operations, each on top of those before it; or none, with an error entry for the one that
    /// failed and for each after it. What the reference stumbles over (a null id, a quota's text) fails
    /// the multi as a whole.
    fn multi<'b>(&mut self, parts: Vec<Operation<'b>>) -> Result<Txn<'b>, ErrorCode> {
        let mut txns = Vec::with_capacity(parts.len());
        let mut failed = None;
        self.overlay.begin();
        for part in parts {
            if failed.is_some() {
                txns.push(Txn::Error(ErrorCode::RuntimeInconsistency.code()));
                continue;
            }
            match self.operation(part) {
                Ok(txn) => txns.push(self.for_old_members(txn)),
                Err(code) => {
                    failed = Some(code);
                    txns.push(Txn::Error(code.code()));
                }
            }
        }
        match failed {
            None => self.overlay.commit(),
            Some(_) => self.overlay.roll_back(),
        }
        match failed {
            Some(ErrorCode::MarshallingError) => Err(ErrorCode::MarshallingError),
            _ => Ok(Txn::Multi(txns)),
        }
    }

    fn for_old_members<'b>(&self, mut txn: Txn<'b>) -> Txn<'b> {
        if let Txn::Create(create) = &mut txn
            && create.op == OpCode::Create2
            && self.settings.multi_create2_as_create
        {
            create.op = OpCode::Create;
        }
        txn
    }

    /// Ends the requester's session, and its ephemerals with it.
    fn close_session<'b>(&mut self) -> Txn<'b> {
        let session = self.request.session;
        let owners = self.state.tree.owner_rules();
        let mut paths = Vec::new();
        for path in self.overlay.ephemeral_candidates(self.state, session) {
            let Some(node) = self.overlay.get(self.state, &path) else { continue };
            if owners.kind(node.stat.ephemeral_owner) != crate::OwnerKind::Ephemeral(session) {
                continue;
            }
            let parent_path = path::parent(&path).expect("the root is no ephemeral");
            match self.get(parent_path) {
                Ok(parent) => self.remove(parent_path, parent, &path, &node),
                // An ephemeral of this session, and gone already: no server makes children of those,
                // but a log or a snapshot of another's making may have some.
                Err(_) => self.overlay.put(self.zxid(), &path, Some(&node), None),
            }
            paths.push(Cow::Owned(path));
        }
        self.overlay.close(self.zxid(), session);
        Txn::CloseSession { paths: Some(paths) }
    }

    /// Hard limits. Usage is that of the state: writes in flight are not counted.
    pub(super) fn check_quota(&self, path: &str, count: i64, bytes: i64) -> Result<(), ErrorCode> {
        if !self.settings.enforce_quota {
            return Ok(());
        }
        let Some(quota) = self.state.quota_of(path) else { return Ok(()) };
        // A node whose text cannot be read fails the request.
        let track = |path: &str| {
            let node = self.state.tree.lookup(path)?;
            let track = self.state.tree.data(node).and_then(Track::parse_strictly);
            Some(track.ok_or(ErrorCode::MarshallingError))
        };
        let Some(limits) = track(&quota::limits_path(quota)).transpose()? else { return Ok(()) };
        let counts = count != 0 && (limits.count > -1 || limits.count_hard() > -1);
        let weighs = bytes != 0 && (limits.bytes > -1 || limits.bytes_hard() > -1);
        // The usage is looked at, and stumbled over, only if a limit of the right kind is set.
        if !counts && !weighs {
            return Ok(());
        }
        let Some(used) = track(&quota::stats_path(quota)).transpose()? else { return Ok(()) };
        // Sums wrap around, as in the reference.
        let exceeds =
            |limit: i64, used: i64, delta: i64| limit > -1 && used.wrapping_add(delta) > limit;
        if (counts && exceeds(limits.count_hard(), used.count, count))
            || (weighs && exceeds(limits.bytes_hard(), used.bytes, bytes))
        {
            return Err(ErrorCode::QuotaExceeded);
        }
        Ok(())
    }
}

/// -1 matches every version; other negative numbers are compared as they are.
fn check_version(stored: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == stored { Ok(()) } else { Err(ErrorCode::BadVersion) }
}
