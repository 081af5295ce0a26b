//! State to snapshot, in small steps, while transactions go on.
//!
//! Each step needs the state for a moment only, so neither readers nor the writer wait. The result is
//! fuzzy: a node is written as it is when the walk comes to it. Replaying the log from the zxid at
//! the beginning on top of it gives the state at the end, by the rules of
//! `docs/spec/storage-formats.md` 8.2, because
//!
//! - nodes are visited by slot, unwritten ancestors first: every parent precedes its children;
//! - nodes created after the beginning are left out, and created again by the replay: so a slot that
//!   is used again, or a node that is deleted and created again, is never written twice;
//! - ids of ACLs are not used again; a node whose ACL is newer than the captured table is written
//!   with the open id, and the setACL that changed it is in the log.

use std::sync::Arc;

use oxkeeper_proto::snapshot::{OPEN_ACL_ID, put_node, put_nodes_end, put_tables};
use oxkeeper_proto::{Acl, SessionId, Zxid};
use smallvec::SmallVec;

use crate::AclId;
use crate::state::State;
use crate::tree::{NodeId, Tree};

/// A snapshot being taken. Its state must live until the end: a state loaded anew needs a new walk.
#[derive(Debug)]
pub struct Walk {
    zxid: Zxid,
    sessions: Vec<(SessionId, i32)>,
    /// By id.
    acls: Vec<(AclId, Arc<[Acl]>)>,
    /// Ids above it are newer than the table.
    last_acl: AclId,
    /// Slots at the beginning; later ones hold later nodes.
    slots: u32,
    next: u32,
    /// One bit per slot whose node is written.
    written: Vec<u64>,
    nodes: u64,
}

/// What goes behind the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkEnd {
    /// Content of the digest section: a zxid at or after the walk's, and the tree digest after it.
    /// Zxid 0: no digest is known (the state is itself an unfinished replay). `None`: digests are
    /// off, and there is no section.
    pub digest: Option<(Zxid, u64)>,
    /// Content of the last zxid section.
    pub last_zxid: Zxid,
}

/// A parent and its path, for the many siblings that follow each other. Not kept between steps: the
/// parent may be gone then.
struct Parent {
    node: NodeId,
    path: String,
}

impl Walk {
    /// Captures what a snapshot starts with.
    pub fn begin(state: &State) -> Walk {
        let slots = state.tree.slots();
        Walk {
            zxid: state.last_zxid(),
            sessions: state.sessions().collect(),
            acls: state.acls.entries().into_iter().collect(),
            last_acl: state.acls.last_id(),
            slots,
            next: 0,
            written: vec![0; (slots as usize).div_ceil(64)],
            nodes: 0,
        }
    }

    /// The zxid that names the snapshot: replay starts behind it.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// Nodes written so far.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// Appends sessions and ACL table, which come before the nodes.
    pub fn put_tables(&self, out: &mut Vec<u8>) {
        let acls = self.acls.iter().map(|(id, list)| (*id, &**list));
        put_tables(out, self.sessions.iter().copied(), acls);
    }

    /// Appends nodes until about `max_nodes` are looked at or `max_bytes` appended (exceeded by the
    /// last node and its ancestors). True: the end of the nodes has been appended too.
    pub fn step(
        &mut self,
        state: &State,
        max_nodes: u32,
        max_bytes: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let end = self.slots.min(self.next.saturating_add(max_nodes));
        let full = out.len().saturating_add(max_bytes);
        let mut parent = Parent { node: Tree::ROOT, path: String::new() };
        while self.next < end && out.len() < full {
            if let Some(node) = state.tree.at_slot(self.next)
                && state.tree.persisted(node).czxid <= self.zxid.0
            {
                self.put_with_ancestors(state, node, &mut parent, out);
            }
            self.next += 1;
        }
        let done = self.next >= self.slots;
        if done {
            put_nodes_end(out);
        }
        done
    }

    /// What the sections behind the nodes say. The state must be the one of the last step or later.
    pub fn finish(&self, state: &State) -> WalkEnd {
        let last_zxid = state.last_zxid();
        let known = if state.is_exact() { (last_zxid, state.digest()) } else { (Zxid::ZERO, 0) };
        WalkEnd { digest: state.digests_enabled().then_some(known), last_zxid }
    }

    fn put_with_ancestors(
        &mut self,
        state: &State,
        node: NodeId,
        parent: &mut Parent,
        out: &mut Vec<u8>,
    ) {
        let mut unwritten = SmallVec::<[NodeId; 16]>::new();
        let mut next = Some(node);
        while let Some(node) = next.filter(|node| !self.is_written(*node)) {
            unwritten.push(node);
            next = state.tree.parent(node);
        }
        for node in unwritten.into_iter().rev() {
            self.put(state, node, parent, out);
        }
    }

    fn put(&mut self, state: &State, node: NodeId, parent: &mut Parent, out: &mut Vec<u8>) {
        let tree = &state.tree;
        self.written[node.slot() as usize / 64] |= 1 << (node.slot() % 64);
        self.nodes += 1;
        let above = tree.parent(node).unwrap_or(Tree::ROOT);
        if above != parent.node {
            parent.node = above;
            parent.path.clear();
            tree.push_path(above, &mut parent.path);
        }
        let parent_len = parent.path.len();
        if node != Tree::ROOT {
            parent.path.push('/');
            parent.path.push_str(tree.name(node));
        }
        put_node(
            out,
            &parent.path,
            tree.data(node),
            self.captured_acl(tree.acl(node)),
            &tree.persisted(node),
        );
        parent.path.truncate(parent_len);
    }

    fn captured_acl(&self, id: AclId) -> AclId {
        let newer = self.last_acl < id && self.acls.binary_search_by_key(&id, |acl| acl.0).is_err();
        if newer { OPEN_ACL_ID } else { id }
    }

    fn is_written(&self, node: NodeId) -> bool {
        // Slots beyond the beginning's hold nodes created later, which are not asked for.
        let word = self.written.get(node.slot() as usize / 64).copied().unwrap_or(u64::MAX);
        word >> (node.slot() % 64) & 1 != 0
    }
}
