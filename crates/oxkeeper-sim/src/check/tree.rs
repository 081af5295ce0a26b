//! A server's tree beside the model of it.

use oxkeeper_state::{OwnerKind, State, Tree};

use crate::check::model::{Model, Owner};

/// How the state differs from what the model is now; `None`: in nothing.
pub fn difference(state: &State, model: &Model) -> Option<String> {
    let tree = &state.tree;
    let mut open = vec![Tree::ROOT];
    let mut count = 0;
    while let Some(node) = open.pop() {
        open.extend(tree.children(node).map(|(child, _)| child));
        let path = tree.path(node);
        let path = if path.is_empty() { "/" } else { &path };
        // Each server writes the configuration itself.
        if path == "/zookeeper/config" {
            continue;
        }
        count += 1;
        let Some(right) = model.get(path) else {
            return Some(format!("{path} is there, where nothing is right"));
        };
        let owner = match tree.owner_kind(node) {
            OwnerKind::None => Owner::Nobody,
            OwnerKind::Container => Owner::Container,
            OwnerKind::Ttl { ttl_ms } => Owner::Ttl(ttl_ms),
            OwnerKind::Ephemeral(session) => Owner::Session(session),
        };
        let (data, stat) = (tree.data(node), tree.stat(node));
        if (data, owner) != (right.data.as_deref(), right.owner) || stat != right.stat() {
            return Some(format!(
                "{path} is {data:?} {owner:?} {stat:?}, where {right:?} is right"
            ));
        }
        if state.acls.get(tree.acl(node)) != Some(&*right.acl) {
            return Some(format!("{path} has another ACL than {:?}", right.acl));
        }
    }
    if count != model.live() {
        let missing = model.all().find(|(path, _)| tree.lookup(path).is_none());
        return Some(format!("{} is missing", missing.map_or("nothing", |(path, _)| path)));
    }
    let live = model.sessions.iter().filter(|(_, record)| record.closed.is_none());
    let live = live.map(|(session, record)| (*session, record.timeout_ms));
    (!state.sessions().eq(live)).then(|| "the sessions differ".to_owned())
}
