//! Transaction to effects: what a committed transaction changes, also when it is replayed on a tree
//! that already has some of its effects.
//!
//! Replay must converge: creates hit existing nodes, deletes hit missing ones, setData and setACL
//! write absolute values, cversion and pzxid only grow. Source: `docs/spec/storage-formats.md` 8.

use oxkeeper_proto::client::EventKind;
use oxkeeper_proto::snapshot::StatPersisted;
use oxkeeper_proto::txn::{CreateTxn, DIGEST_VERSION, Payload, Txn, TxnHeader};
use oxkeeper_proto::{Acl, ErrorCode, OpCode, Stat, Zxid};

use crate::state::State;
use crate::tree::{NewNode, NodeId};

/// One change of a znode, as watches need it.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The transaction.
    pub zxid: Zxid,
    /// Created, deleted or data changed; never children changed.
    pub kind: EventKind,
    /// Full path; "/" for the root.
    pub path: &'a str,
    /// The node's ACL; of a deleted node, the one it had. Empty if it is unknown (see
    /// [`crate::acl_table::AclTable::get`]).
    pub acl: &'a [Acl],
    /// The parent's ACL; `None` for the root.
    pub parent_acl: Option<&'a [Acl]>,
}

/// Is told every change of a znode, in order, while the transaction is applied.
pub trait Changes {
    /// One change. Readers cannot see it yet.
    fn changed(&mut self, change: &Change<'_>);

    /// Whether changes need to be reported at all.
    fn interested(&self) -> bool {
        true
    }
}

/// Nobody is told.
impl Changes for () {
    fn changed(&mut self, _: &Change<'_>) {}

    fn interested(&self) -> bool {
        false
    }
}

/// What a transaction did: what its reply says.
///
/// If no reply is wanted, paths are empty, stats are zero and lists are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A create of any kind.
    Created {
        /// Which one, by the record's type: a multi's result is typed by it.
        op: OpCode,
        /// Full path, sequence number included.
        path: String,
        /// As of creation.
        stat: Stat,
    },
    /// A delete.
    Deleted,
    /// A setData or reconfig; the new stat.
    DataSet(Stat),
    /// A setACL; the new stat.
    AclSet(Stat),
    /// A check inside a multi.
    Checked,
    /// A multi that was applied, one outcome per operation.
    Multi(Vec<Outcome>),
    /// A multi that failed: one [`ErrorCode`] number per operation, 0 before the failed one.
    MultiFailed(Vec<i32>),
    /// A session.
    SessionCreated {
        /// Negotiated timeout in ms.
        timeout_ms: i32,
    },
    /// A session's end.
    SessionClosed,
    /// A failed request, as an [`ErrorCode`] number; or one whose effect, in a replay, was there
    /// already or no longer possible.
    Failed(i32),
}

const NO_NODE: Outcome = Outcome::Failed(ErrorCode::NoNode as i32);
const NODE_EXISTS: Outcome = Outcome::Failed(ErrorCode::NodeExists as i32);

/// Parent path ("" for the root) and name of the node at `path`, which is not the root.
pub(crate) fn split_path(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    // "//a" is no child of the root.
    (!name.is_empty() && parent != "/").then_some((parent, name))
}

/// Who did it and when; and whether somebody waits for the outcome.
struct Context<'a> {
    header: TxnHeader,
    zxid: Zxid,
    changes: &'a mut dyn Changes,
    want_reply: bool,
}

impl State {
    /// Applies a committed transaction, and tells `changes` of each changed node.
    ///
    /// `want_reply`: whether the outcome is used for a reply. A digest that differs from the
    /// record's is counted ([`State::digest_mismatches`]) and stops nothing.
    pub fn apply(
        &mut self,
        payload: &Payload<'_>,
        changes: &mut dyn Changes,
        want_reply: bool,
    ) -> Outcome {
        let header = payload.header;
        let zxid = Zxid(header.zxid);
        let mut context = Context { header, zxid, changes, want_reply };
        let outcome = self.apply_txn(&payload.txn, &mut context);
        // Not before: a snapshot named by this zxid must have all effects of a multi.
        self.last_zxid = self.last_zxid.max(zxid);
        let digest = payload.digest.filter(|digest| digest.version == DIGEST_VERSION);
        self.settle(zxid, digest.map(|digest| digest.tree as u64));
        outcome
    }

    fn apply_txn(&mut self, txn: &Txn<'_>, context: &mut Context<'_>) -> Outcome {
        match txn {
            Txn::Create(create) => self.create(create, context),
            Txn::Delete { path, .. } => self.delete(context.zxid, path, context.changes),
            Txn::SetData { path, data, version, .. } => {
                self.set_data(path, *data, *version, context)
            }
            Txn::SetAcl { path, acl, version } => self.set_acl(path, acl, *version, context),
            Txn::Check { .. } => Outcome::Checked,
            Txn::Multi(txns) => self.multi(txns, context),
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(context.header.client_id, *timeout_ms);
                Outcome::SessionCreated { timeout_ms: *timeout_ms }
            }
            Txn::CloseSession { paths } => {
                self.close_session(paths.as_deref().unwrap_or_default(), context)
            }
            Txn::Error(code) => Outcome::Failed(*code),
        }
    }

    fn create(&mut self, create: &CreateTxn<'_>, context: &mut Context<'_>) -> Outcome {
        let path = &*create.path;
        let Some((parent_path, name)) = split_path(path) else { return NO_NODE };
        let Some(parent) = self.tree.lookup(parent_path) else { return NO_NODE };
        let (zxid, time_ms) = (context.zxid.0, context.header.time_ms);
        let stat = StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time_ms,
            mtime: time_ms,
            ephemeral_owner: self.options.owners.owner(create.mode, context.header.client_id),
            ..StatPersisted::default()
        };
        let acl = self.acls.intern(&create.acl);
        let new = NewNode { name, data: create.data, acl, stat };
        let Some(node) = self.tree.insert(parent, &new) else {
            self.acls.release(acl);
            return self.create_existing(create, parent, parent_path, name, context.zxid);
        };
        self.raise_cversion(parent, parent_path, create.parent_cversion, context.zxid);
        self.register_owner(node, stat.ephemeral_owner);
        self.path_bytes += path.len() as u64;
        if self.options.digests {
            self.digest = self.digest.wrapping_add(self.tree.digest(node, path));
        }
        self.quota_created(path, parent_path, name, create.data.map_or(0, <[u8]>::len));
        self.report(context.changes, context.zxid, EventKind::NodeCreated, path, node);
        match context.want_reply {
            true => Outcome::Created {
                op: create.op,
                path: path.to_owned(),
                stat: self.tree.stat(node),
            },
            false => Outcome::Created { op: create.op, path: String::new(), stat: Stat::default() },
        }
    }

    /// A replayed create of a node that a fuzzy snapshot already had.
    ///
    /// The parent may have been written before the node: type 1 still raises its cversion (the
    /// other types do not, in the reference). The node's ACL may be one that the snapshot's table
    /// did not have yet: type 1 sets it; the others only if the node's is unknown, which nothing
    /// else would ever repair.
    fn create_existing(
        &mut self,
        create: &CreateTxn<'_>,
        parent: NodeId,
        parent_path: &str,
        name: &str,
        zxid: Zxid,
    ) -> Outcome {
        let node = self.tree.child(parent, name).expect("the name is taken");
        let plain = create.op == OpCode::Create;
        if plain {
            self.raise_cversion(parent, parent_path, create.parent_cversion, zxid);
        }
        if plain || self.acls.get(self.tree.acl(node)).is_none() {
            self.replace_acl(node, &create.acl);
        }
        NODE_EXISTS
    }

    /// The parent's share of a create; `cversion` -1 means one more than it has.
    fn raise_cversion(&mut self, parent: NodeId, path: &str, cversion: i32, zxid: Zxid) {
        let stored = self.tree.persisted(parent).cversion;
        let cversion = if cversion == -1 { stored.wrapping_add(1) } else { cversion };
        if cversion > stored {
            self.change_stat(parent, path, |stat| {
                stat.cversion = cversion;
                stat.pzxid = zxid.0;
            });
        }
    }

    /// Deletes a node as part of transaction `zxid`, with what a replay may find below it.
    pub(crate) fn delete(&mut self, zxid: Zxid, path: &str, changes: &mut dyn Changes) -> Outcome {
        let Some((parent_path, name)) = split_path(path) else { return NO_NODE };
        let Some(parent) = self.tree.lookup(parent_path) else { return NO_NODE };
        // Also if the node is missing: a fuzzy snapshot may have the parent from before.
        if self.tree.persisted(parent).pzxid < zxid.0 {
            self.change_stat(parent, parent_path, |stat| stat.pzxid = zxid.0);
        }
        let Some(node) = self.tree.child(parent, name) else { return NO_NODE };
        self.report(changes, zxid, EventKind::NodeDeleted, path, node);
        self.quota_deleted(path, parent_path, name, self.tree.data(node).map_or(0, <[u8]>::len));
        let mut doomed = vec![];
        if self.tree.child_count(node) > 0 {
            // Only in a replay: these were created later, and will be again.
            self.tree.visit_below(node, |node| doomed.push(node));
        }
        for below in doomed {
            let path = self.tree.path(below);
            self.forget(below, &path);
        }
        self.forget(node, path);
        self.tree.remove(node);
        Outcome::Deleted
    }

    /// Takes a node that is about to go out of all that is derived from the tree.
    fn forget(&mut self, node: NodeId, path: &str) {
        if self.options.digests {
            self.digest = self.digest.wrapping_sub(self.tree.digest(node, path));
        }
        self.path_bytes -= path.len() as u64;
        self.unregister_owner(node);
        self.acls.release(self.tree.acl(node));
    }

    fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        context: &mut Context<'_>,
    ) -> Outcome {
        let Some(node) = self.tree.lookup(path) else { return NO_NODE };
        let (zxid, time_ms) = (context.zxid, context.header.time_ms);
        let old_len = self.tree.data(node).map_or(0, <[u8]>::len) as i64;
        let old_digest = if self.options.digests { self.tree.digest(node, path) } else { 0 };
        self.tree.set_data(node, data);
        self.tree.update_stat(node, |stat| {
            stat.version = version;
            stat.mzxid = zxid.0;
            stat.mtime = time_ms;
        });
        if self.options.digests {
            let new_digest = self.tree.digest_kept(node, path);
            self.digest = self.digest.wrapping_sub(old_digest).wrapping_add(new_digest);
        }
        self.quota_changed(path, data.map_or(0, <[u8]>::len) as i64 - old_len);
        self.report(context.changes, zxid, EventKind::NodeDataChanged, path, node);
        Outcome::DataSet(if context.want_reply { self.tree.stat(node) } else { Stat::default() })
    }

    fn set_acl(
        &mut self,
        path: &str,
        acl: &[Acl],
        version: i32,
        context: &mut Context<'_>,
    ) -> Outcome {
        let Some(node) = self.tree.lookup(path) else { return NO_NODE };
        self.replace_acl(node, acl);
        self.change_stat(node, path, |stat| stat.aversion = version);
        Outcome::AclSet(if context.want_reply { self.tree.stat(node) } else { Stat::default() })
    }

    fn replace_acl(&mut self, node: NodeId, acl: &[Acl]) {
        let id = self.acls.intern(acl);
        self.acls.release(self.tree.acl(node));
        self.tree.set_acl(node, id);
    }

    /// Changes a stat, and the digest with it.
    fn change_stat(&mut self, node: NodeId, path: &str, change: impl FnOnce(&mut StatPersisted)) {
        if !self.options.digests {
            return self.tree.update_stat(node, change);
        }
        let old = self.tree.digest(node, path);
        self.tree.update_stat(node, change);
        let new = self.tree.digest_kept(node, path);
        self.digest = self.digest.wrapping_sub(old).wrapping_add(new);
    }

    /// All operations or none; the leader has found out which.
    fn multi(&mut self, txns: &[Txn<'_>], context: &mut Context<'_>) -> Outcome {
        if txns.iter().any(|txn| matches!(txn, Txn::Error(_))) {
            let code = |txn: &Txn<'_>| if let Txn::Error(code) = txn { *code } else { 0 };
            let codes = if context.want_reply { txns.iter().map(code).collect() } else { vec![] };
            return Outcome::MultiFailed(codes);
        }
        let mut outcomes = Vec::new();
        for txn in txns {
            let outcome = self.apply_txn(txn, context);
            if context.want_reply {
                outcomes.push(outcome);
            }
        }
        Outcome::Multi(outcomes)
    }

    /// Ends a session, with the listed nodes and all other ephemerals that are known to be its.
    fn close_session<P: AsRef<str>>(&mut self, paths: &[P], context: &mut Context<'_>) -> Outcome {
        let session = context.header.client_id;
        self.sessions.remove(&session);
        for path in paths {
            self.delete(context.zxid, path.as_ref(), context.changes);
        }
        if self.ephemerals.contains_key(&session) {
            for path in self.ephemerals(session) {
                self.delete(context.zxid, &path, context.changes);
            }
        }
        Outcome::SessionClosed
    }
}
