//! Snapshot to state: takes the nodes as they are read.
//!
//! Source: `docs/spec/storage-formats.md` 6.2, 7.5.

use oxkeeper_proto::snapshot::{NodeRecord, SnapshotSink};
use oxkeeper_proto::{Acl, SessionId, Zxid};

use crate::apply::split_path;
use crate::digest::node_digest;
use crate::state::{Options, State, Trust};
use crate::tree::{AddedTwice, NewNode, NodeId, Tree};

fn added_twice(tree: &Tree, twice: AddedTwice) -> String {
    format!("node {:?} of the snapshot is there twice", tree.path(twice.0))
}

/// Receives the body of a snapshot; [`StateLoader::finish`] gives the state.
#[derive(Debug)]
pub struct StateLoader {
    state: State,
    root_seen: bool,
    /// Parent of the last node, whose siblings usually follow.
    parent: NodeId,
    parent_path: String,
}

impl StateLoader {
    /// Starts with nothing. `seed` as in [`State::new`].
    pub fn new(seed: u64, options: Options) -> StateLoader {
        let mut state = State::bare(seed, options);
        state.tree.begin_load();
        StateLoader { state, root_seen: false, parent: Tree::ROOT, parent_path: String::new() }
    }

    /// The state after `zxid`, the snapshot's name or the zxid of a SNAP packet; or what is missing.
    ///
    /// The snapshot is taken for fuzzy without a known end: digests are compared from the first
    /// equal one on, unless [`State::expect_digest`] tells more.
    pub fn finish(self, zxid: Zxid) -> Result<State, String> {
        if !self.root_seen {
            return Err("the snapshot has no root node".to_owned());
        }
        let mut state = self.state;
        state.tree.flush_load().map_err(|twice| added_twice(&state.tree, twice))?;
        state.tree.end_load();
        state.recount_quotas();
        state.acls.drop_unused();
        state.last_zxid = zxid;
        state.trust = Trust::Unknown;
        Ok(state)
    }

    fn root(&mut self, node: &NodeRecord<'_>) -> Result<(), String> {
        if std::mem::replace(&mut self.root_seen, true) {
            return Err("the snapshot has two root nodes".to_owned());
        }
        let tree = &mut self.state.tree;
        tree.set_data(Tree::ROOT, node.data);
        tree.set_acl(Tree::ROOT, node.acl);
        tree.update_stat(Tree::ROOT, |stat| *stat = node.stat);
        Ok(())
    }

    fn child(&mut self, node: &NodeRecord<'_>) -> Result<(), String> {
        let path = &*node.path;
        let wrong = |what: &str| Err(format!("node {path:?} of the snapshot {what}"));
        let Some((parent_path, name)) = split_path(path) else {
            return wrong("has an impossible path");
        };
        if !self.root_seen {
            return wrong("comes before the root");
        }
        if self.parent_path != parent_path {
            let tree = &mut self.state.tree;
            tree.flush_load().map_err(|twice| added_twice(tree, twice))?;
            let Some(parent) = self.state.tree.lookup(parent_path) else {
                return wrong("has no parent");
            };
            self.parent = parent;
            self.parent_path.clear();
            self.parent_path.push_str(parent_path);
        }
        let new = NewNode { name, data: node.data, acl: node.acl, stat: node.stat };
        let tree = &mut self.state.tree;
        let id =
            tree.insert_loading(self.parent, &new).map_err(|twice| added_twice(tree, twice))?;
        self.state.register_owner(id, node.stat.ephemeral_owner);
        self.state.path_bytes += path.len() as u64;
        Ok(())
    }
}

impl SnapshotSink for StateLoader {
    fn session(&mut self, id: SessionId, timeout_ms: i32) {
        self.state.sessions.insert(id, timeout_ms);
    }

    fn acl(&mut self, id: i64, acl: Vec<Acl>) {
        self.state.acls.restore(id, acl.into());
    }

    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), String> {
        if node.path.is_empty() {
            self.root(&node)?
        } else {
            self.child(&node)?
        }
        self.state.acls.reserve(node.acl);
        self.state.acls.retain(node.acl);
        if self.state.options.digests {
            let digest = node_digest(&node.path, node.data, &node.stat);
            self.state.digest = self.state.digest.wrapping_add(digest);
        }
        Ok(())
    }
}
