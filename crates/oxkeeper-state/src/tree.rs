//! Znodes, compactly: about 40 bytes each beside name and data.
//!
//! ```text
//! nodes    slab of 28-byte nodes, addressed by NodeId; siblings are linked
//! blobs    name and data of each node, one block
//! index    (parent, name) -> NodeId
//! records  full stat, ACL id and first child, only of nodes that changed since their creation
//! ```
//!
//! No full path is stored. Children are listed in the order of their creation (after a load: in the
//! order of the snapshot), which changes only with the children.

mod blobs;
mod index;
mod node;
mod slab;

use oxkeeper_proto::Stat;
use oxkeeper_proto::Zxid;
use oxkeeper_proto::snapshot::StatPersisted;

use crate::owner::{OwnerKind, OwnerRules};
use crate::{AclId, digest};
use blobs::{Blob, Blobs};
use index::{Index, KeyHash};
use node::{CHANGED, NONE, Node, Origin, Origins, Record, fresh_stat};
use slab::Slab;

/// A znode of a [`Tree`]. Valid until the next mutation of the tree; afterwards it may name another
/// node, and must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The slot number.
    pub(crate) fn slot(self) -> u32 {
        self.0
    }

    pub(crate) fn from_slot(slot: u32) -> NodeId {
        NodeId(slot)
    }
}

/// A znode to insert.
#[derive(Clone, Copy, Debug)]
pub struct NewNode<'a> {
    /// Last component of the path, not empty, without `/`.
    pub name: &'a str,
    /// Null and empty differ.
    pub data: Option<&'a [u8]>,
    /// An id of the ACL table.
    pub acl: AclId,
    /// As stored (cversion counts creations).
    pub stat: StatPersisted,
}

/// A node of a load has the parent and the name of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddedTwice(pub NodeId);

/// All znodes. Reading takes `&self`; only [`crate::State`] changes a tree.
#[derive(Debug)]
pub struct Tree {
    nodes: Slab<Node>,
    records: Slab<Record>,
    origins: Origins,
    blobs: Blobs,
    index: Index,
    owners: OwnerRules,
    len: usize,
    data_bytes: u64,
}

impl Tree {
    /// The root node; it is always there.
    pub const ROOT: NodeId = NodeId(0);

    /// A tree that holds the root alone: no data, open ACL, all stats 0.
    ///
    /// `seed` only decides where entries lie in memory; it should be unknown to clients.
    pub fn new(seed: u64) -> Tree {
        Tree::with_owners(seed, OwnerRules::default())
    }

    pub(crate) fn with_owners(seed: u64, owners: OwnerRules) -> Tree {
        let mut tree = Tree {
            nodes: Slab::new(),
            records: Slab::new(),
            origins: Origins::new(),
            blobs: Blobs::new(),
            index: Index::new(seed),
            owners,
            len: 1,
            data_bytes: 0,
        };
        let root = NewNode {
            name: "",
            data: Some(b""),
            acl: crate::OPEN_ACL,
            stat: StatPersisted::default(),
        };
        let blob = tree.blobs.insert(b"", root.data);
        let node = tree.new_node(blob, Tree::ROOT.0, &root);
        let index = tree.nodes.insert(node);
        assert_eq!(index, Tree::ROOT.0, "the root is the first node");
        tree
    }

    /// The node at `path`; "/" and "" are the root. Odd paths (`a`, `/a/`, `//`) name no node.
    pub fn lookup(&self, path: &str) -> Option<NodeId> {
        if path.is_empty() || path == "/" {
            return Some(Tree::ROOT);
        }
        let names = path.strip_prefix('/')?;
        names.split('/').try_fold(Tree::ROOT, |node, name| self.child(node, name))
    }

    /// The child of that name.
    pub fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        self.find(self.index.hash(parent.0, name.as_bytes()), parent.0, name.as_bytes())
    }

    fn find(&self, hash: KeyHash, parent: u32, name: &[u8]) -> Option<NodeId> {
        let is = |index| {
            let node = self.nodes.get(index);
            node.parent == parent && self.blobs.name(node.blob) == name
        };
        self.index.find(hash, is).map(NodeId)
    }

    /// The parent; `None` for the root.
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        (node != Tree::ROOT).then(|| NodeId(self.node(node).parent))
    }

    /// The last component of the path; "" for the root.
    pub fn name(&self, node: NodeId) -> &str {
        std::str::from_utf8(self.blobs.name(self.node(node).blob))
            .expect("names are stored from str")
    }

    /// The full path; "/" for the root.
    pub fn path(&self, node: NodeId) -> String {
        let mut path = String::new();
        self.push_path(node, &mut path);
        if path.is_empty() {
            path.push('/');
        }
        path
    }

    /// Appends the full path; nothing for the root.
    pub fn push_path(&self, node: NodeId, out: &mut String) {
        // Not by recursion: a client chooses the depth.
        let mut names = smallvec::SmallVec::<[NodeId; 16]>::new();
        let mut next = node;
        while let Some(parent) = self.parent(next) {
            names.push(next);
            next = parent;
        }
        for node in names.into_iter().rev() {
            out.push('/');
            out.push_str(self.name(node));
        }
    }

    /// The data; null and empty differ.
    pub fn data(&self, node: NodeId) -> Option<&[u8]> {
        self.blobs.get(self.node(node).blob).1
    }

    /// The id of the ACL; the table may lack it (`docs/spec/storage-formats.md` 8.3).
    pub fn acl(&self, node: NodeId) -> AclId {
        let node = self.node(node);
        match self.record(node) {
            Some(record) => record.acl,
            None => self.origins.get(node.origin).acl,
        }
    }

    /// The stat as stored.
    pub fn persisted(&self, node: NodeId) -> StatPersisted {
        let node = self.node(node);
        match self.record(node) {
            Some(record) => record.stat,
            None => node.stat(self.origins.get(node.origin)),
        }
    }

    /// The stat as clients see it (`docs/spec/client-protocol.md` 7.2).
    pub fn stat(&self, node: NodeId) -> Stat {
        let data_length = self.data(node).map_or(0, <[u8]>::len);
        self.owners.client_stat(&self.persisted(node), data_length, self.child_count(node))
    }

    /// The owner field as stored.
    pub fn owner(&self, node: NodeId) -> i64 {
        self.record(self.node(node)).map_or(0, |record| record.stat.ephemeral_owner)
    }

    /// What the owner field means.
    pub fn owner_kind(&self, node: NodeId) -> OwnerKind {
        self.owners.kind(self.owner(node))
    }

    /// How owner fields are read.
    pub fn owner_rules(&self) -> OwnerRules {
        self.owners
    }

    /// Number of children.
    pub fn child_count(&self, node: NodeId) -> u32 {
        self.record(self.node(node)).map_or(0, |record| record.children)
    }

    /// The children and their names, in an order that only changes with the children.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = (NodeId, &str)> {
        let first = self.record(self.node(node)).map_or(NONE, |record| record.first_child);
        let mut next = first;
        std::iter::from_fn(move || {
            let child = (next != NONE).then_some(NodeId(next))?;
            next = self.node(child).next;
            Some((child, self.name(child)))
        })
    }

    /// Number of nodes below `node`, at any depth.
    pub fn descendants_count(&self, node: NodeId) -> u32 {
        if node == Tree::ROOT {
            return self.len as u32 - 1;
        }
        let mut count = 0;
        self.visit_below(node, |_| count += 1);
        count
    }

    /// Calls `visit` for each node below `top`, parents first.
    pub(crate) fn visit_below(&self, top: NodeId, mut visit: impl FnMut(NodeId)) {
        let mut pending: Vec<NodeId> = vec![top];
        while let Some(node) = pending.pop() {
            let mut next = self.record(self.node(node)).map_or(NONE, |record| record.first_child);
            while next != NONE {
                visit(NodeId(next));
                if self.child_count(NodeId(next)) > 0 {
                    pending.push(NodeId(next));
                }
                next = self.nodes.get(next).next;
            }
        }
    }

    /// Number of nodes, the root included.
    #[allow(clippy::len_without_is_empty)] // there is always a root
    pub fn len(&self) -> usize {
        self.len
    }

    /// Sum of the lengths of all data, in bytes.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Slots ever used; the slot of every node is below it.
    pub(crate) fn slots(&self) -> u32 {
        self.nodes.slots()
    }

    /// The node in a slot, if there is one.
    pub(crate) fn at_slot(&self, slot: u32) -> Option<NodeId> {
        (slot < self.slots() && self.nodes.get(slot).blob != Blob::NONE).then_some(NodeId(slot))
    }

    /// The node's part of the tree digest. `path` is the node's.
    pub fn digest(&self, node: NodeId, path: &str) -> u64 {
        if !digest::counts(path) {
            return 0;
        }
        match self.record(self.node(node)) {
            Some(Record { stat, digest_prefix: Some(prefix), .. }) => digest::finish(*prefix, stat),
            _ => digest::node_digest(path, self.data(node), &self.persisted(node)),
        }
    }

    /// As [`Tree::digest`], and keeps what makes the next one cheap.
    pub(crate) fn digest_kept(&mut self, node: NodeId, path: &str) -> u64 {
        let kept = self.record(self.node(node)).map(|record| record.digest_prefix);
        if kept == Some(None) && digest::counts(path) {
            let prefix = digest::prefix(path, self.data(node));
            self.record_mut(node).digest_prefix = Some(prefix);
        }
        self.digest(node, path)
    }

    fn node(&self, node: NodeId) -> &Node {
        self.nodes.get(node.0)
    }

    fn record(&self, node: &Node) -> Option<&Record> {
        (node.origin == CHANGED).then(|| self.records.get(node.counter))
    }
}

/// Changes.
impl Tree {
    /// Until [`Tree::end_load`], nodes are added by [`Tree::insert_loading`] only.
    pub(crate) fn begin_load(&mut self) {
        self.index.begin_load(self.slots());
    }

    /// Adds a child like [`Tree::insert`]. It is found only after [`Tree::flush_load`], and that
    /// or this tells (by an error) that some node was added twice.
    pub(crate) fn insert_loading(
        &mut self,
        parent: NodeId,
        new: &NewNode<'_>,
    ) -> Result<NodeId, AddedTwice> {
        let hash = self.index.hash(parent.0, new.name.as_bytes());
        let node = self.add(parent, new);
        let (nodes, blobs) = (&self.nodes, &self.blobs);
        let added = self.index.insert_loading(hash, node.0, same_key(nodes, blobs));
        self.link(parent, node.0);
        added.map(|()| node).map_err(|twice| AddedTwice(NodeId(twice)))
    }

    /// Makes all nodes added so far findable.
    pub(crate) fn flush_load(&mut self) -> Result<(), AddedTwice> {
        let (nodes, blobs) = (&self.nodes, &self.blobs);
        self.index.flush(same_key(nodes, blobs)).map_err(|twice| AddedTwice(NodeId(twice)))
    }

    /// Back to normal; what was added is flushed.
    pub(crate) fn end_load(&mut self) {
        self.index.end_load();
    }

    /// A new node, neither in the index nor linked.
    fn add(&mut self, parent: NodeId, new: &NewNode<'_>) -> NodeId {
        self.data_bytes += new.data.map_or(0, <[u8]>::len) as u64;
        self.len += 1;
        let blob = self.blobs.insert(new.name.as_bytes(), new.data);
        let node = self.new_node(blob, parent.0, new);
        NodeId(self.nodes.insert(node))
    }

    /// Adds a child at the end of `parent`'s children, or returns `None` if the name is taken. The
    /// parent's stat is not touched.
    pub(crate) fn insert(&mut self, parent: NodeId, new: &NewNode<'_>) -> Option<NodeId> {
        let name = new.name.as_bytes();
        let hash = self.index.hash(parent.0, name);
        if self.find(hash, parent.0, name).is_some() {
            return None;
        }
        let node = self.add(parent, new);
        let (nodes, blobs) = (&self.nodes, &self.blobs);
        self.index.insert(hash, node.0, |index| {
            let node = nodes.get(index);
            (node.parent, blobs.name(node.blob))
        });
        self.link(parent, node.0);
        Some(node)
    }

    /// An unlinked node.
    fn new_node(&mut self, blob: Blob, parent: u32, new: &NewNode<'_>) -> Node {
        let stat = new.stat;
        let (czxid, ctime) = (Zxid(stat.czxid), stat.ctime as u64);
        let (origin, counter) = if stat == fresh_stat(stat.czxid, stat.ctime) {
            let ctime_high = (ctime >> 32) as u32;
            let origin = Origin { acl: new.acl, epoch: czxid.epoch(), ctime_high };
            (self.origins.retain(origin), czxid.counter())
        } else {
            let record =
                Record { stat, acl: new.acl, first_child: NONE, children: 0, digest_prefix: None };
            (CHANGED, self.records.insert(record))
        };
        Node { blob, parent, next: NONE, prev: NONE, origin, counter, ctime_low: ctime as u32 }
    }

    /// Removes a node and all below it. The parent's stat is not touched.
    pub(crate) fn remove(&mut self, node: NodeId) {
        assert!(node != Tree::ROOT, "the root is never removed");
        let mut below = Vec::new();
        if self.child_count(node) > 0 {
            self.visit_below(node, |child| below.push(child));
        }
        self.unlink(node);
        for node in below.into_iter().rev().chain([node]) {
            self.free(node);
        }
    }

    /// Takes a node out of the index and frees its parts.
    fn free(&mut self, node: NodeId) {
        let Node { blob, parent, origin, counter, .. } = *self.node(node);
        let hash = self.index.hash(parent, self.blobs.name(blob));
        self.index.remove(hash, node.0);
        self.data_bytes -= self.data(node).map_or(0, <[u8]>::len) as u64;
        self.len -= 1;
        self.blobs.release(blob);
        if origin == CHANGED {
            self.records.release(counter);
        } else {
            self.origins.release(origin);
        }
        self.nodes.get_mut(node.0).blob = Blob::NONE;
        self.nodes.release(node.0);
    }

    /// Replaces the data; the stat is not touched.
    pub(crate) fn set_data(&mut self, node: NodeId, data: Option<&[u8]>) {
        self.data_bytes -= self.data(node).map_or(0, <[u8]>::len) as u64;
        self.data_bytes += data.map_or(0, <[u8]>::len) as u64;
        let blob = self.blobs.replace(self.node(node).blob, data);
        let slot = self.nodes.get_mut(node.0);
        slot.blob = blob;
        if slot.origin == CHANGED {
            let record = slot.counter;
            self.records.get_mut(record).digest_prefix = None;
        }
    }

    /// Replaces the ACL id; the stat is not touched.
    pub(crate) fn set_acl(&mut self, node: NodeId, acl: AclId) {
        if self.acl(node) != acl {
            self.record_mut(node).acl = acl;
        }
    }

    /// Changes the stored stat.
    pub(crate) fn update_stat(&mut self, node: NodeId, change: impl FnOnce(&mut StatPersisted)) {
        change(&mut self.record_mut(node).stat);
    }

    /// The record of a node, made if it has none.
    fn record_mut(&mut self, node: NodeId) -> &mut Record {
        let slot = self.nodes.get_mut(node.0);
        if slot.origin != CHANGED {
            let origin = *self.origins.get(slot.origin);
            let record = Record {
                stat: slot.stat(&origin),
                acl: origin.acl,
                first_child: NONE,
                children: 0,
                digest_prefix: None,
            };
            self.origins.release(slot.origin);
            slot.origin = CHANGED;
            slot.counter = self.records.insert(record);
        }
        let record = slot.counter;
        self.records.get_mut(record)
    }

    /// Appends `child` to the children of `parent`.
    fn link(&mut self, parent: NodeId, child: u32) {
        let record = self.record_mut(parent);
        record.children += 1;
        let first = record.first_child;
        if first == NONE {
            record.first_child = child;
            self.nodes.get_mut(child).prev = child;
            return;
        }
        let last = std::mem::replace(&mut self.nodes.get_mut(first).prev, child);
        self.nodes.get_mut(last).next = child;
        self.nodes.get_mut(child).prev = last;
    }

    /// Takes `node` out of its parent's children.
    fn unlink(&mut self, node: NodeId) {
        let Node { parent, next, prev, .. } = *self.node(node);
        let record = self.record_mut(NodeId(parent));
        record.children -= 1;
        let first = record.first_child;
        if first == node.0 {
            record.first_child = next;
        } else {
            self.nodes.get_mut(prev).next = next;
        }
        // The successor's, or else the first child's, link to what was before `node`.
        let follower = if next != NONE { next } else { first };
        if follower != node.0 {
            self.nodes.get_mut(follower).prev = prev;
        }
    }
}

/// Whether two nodes have the same parent and name.
fn same_key<'a>(nodes: &'a Slab<Node>, blobs: &'a Blobs) -> impl Fn(u32, u32) -> bool + 'a {
    |one, other| {
        let (one, other) = (nodes.get(one), nodes.get(other));
        one.parent == other.parent && blobs.name(one.blob) == blobs.name(other.blob)
    }
}

#[cfg(test)]
mod tests;
