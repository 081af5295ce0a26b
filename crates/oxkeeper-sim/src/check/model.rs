//! The tree as clients must see it, at every zxid of the committed history: written from
//! `docs/spec/client-protocol.md` 7 and sharing nothing with the servers' tree, so that it is not blind to
//! what that gets wrong.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use oxkeeper_proto::client::EventKind;
use oxkeeper_proto::{Acl, Stat};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// An ordinary one.
    Nobody,
    /// It dies with this session.
    Session(i64),
    /// It goes once its last child is gone.
    Container,
    /// It goes when it was left alone, without children, for so many ms.
    Ttl(i64),
}

/// A node at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Node {
    pub data: Option<Rc<[u8]>>,
    pub acl: Rc<[Acl]>,
    pub owner: Owner,
    pub czxid: i64,
    pub mzxid: i64,
    pub pzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub aversion: i32,
    /// Children ever created.
    pub created: i32,
    /// Children now.
    pub children: i32,
    /// Sum of [`name_hash`] over their names.
    pub names: u64,
}

/// A number that stands for a name in [`Node::names`] (FNV-1a, stirred so that sums differ).
pub fn name_hash(name: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

impl Node {
    /// A node made by transaction `zxid`.
    pub fn new(data: Option<&[u8]>, acl: Rc<[Acl]>, owner: Owner, zxid: i64, time: i64) -> Node {
        Node {
            data: data.map(Rc::from),
            acl,
            owner,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            version: 0,
            aversion: 0,
            created: 0,
            children: 0,
            names: 0,
        }
    }

    /// Bytes of data.
    pub fn bytes(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }

    /// May it be deleted once it has no children (7.4)?
    pub fn is_left_alone(&self, now_ms: i64) -> bool {
        match self.owner {
            Owner::Container => self.created > 0,
            Owner::Ttl(ms) => now_ms - self.mtime > ms,
            _ => false,
        }
    }

    /// What a client sees.
    pub fn stat(&self) -> Stat {
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.created * 2 - self.children,
            aversion: self.aversion,
            ephemeral_owner: if let Owner::Session(session) = self.owner { session } else { 0 },
            data_length: self.bytes() as i32,
            num_children: self.children,
            pzxid: self.pzxid,
        }
    }
}

/// A change of a node, as watches are told of it.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Change {
    /// Created, deleted or data changed.
    pub kind: EventKind,
    pub path: Rc<str>,
    /// Its own; when deleted, the last.
    pub acl: Rc<[Acl]>,
    pub parent_acl: Rc<[Acl]>,
}

/// A session of the ensemble.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct SessionRecord {
    pub timeout_ms: i32,
    pub created: i64,
    /// By its first closeSession.
    pub closed: Option<i64>,
    /// Every ephemeral that it ever made.
    pub ephemerals: Vec<Rc<str>>,
}

impl SessionRecord {
    /// Is it there after `zxid`, and not closed?
    pub fn lives_at(&self, zxid: i64) -> bool {
        self.created <= zxid && self.closed.is_none_or(|closed| zxid < closed)
    }
}

/// From `zxid` on, until the next version; `None`: not there.
#[derive(Debug)]
struct Version {
    zxid: i64,
    node: Option<Node>,
}

/// The tree at every zxid.
#[derive(Debug)]
pub struct Model {
    nodes: BTreeMap<Rc<str>, Vec<Version>>,
    /// Nodes there are now.
    live: usize,
    /// Paths put since the last [`Model::keep`], in order.
    journal: Vec<Rc<str>>,
    /// Sessions by id.
    pub sessions: BTreeMap<i64, SessionRecord>,
}

/// Path of the parent, and the name behind it.
pub fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some((parent, name)) => (parent, name),
        None => ("", path),
    }
}

/// Everybody may do everything.
pub fn open_acl() -> Rc<[Acl]> {
    Rc::from([Acl::new(31, "world", "anyone")])
}

impl Default for Model {
    /// A fresh tree: the built-in nodes.
    fn default() -> Model {
        let mut model = Model {
            nodes: BTreeMap::new(),
            live: 0,
            journal: Vec::new(),
            sessions: BTreeMap::new(),
        };
        let built_in = |children: &[&str]| Node {
            children: children.len() as i32,
            names: children.iter().fold(0, |sum, name| name_hash(name).wrapping_add(sum)),
            ..Node::new(Some(b""), open_acl(), Owner::Nobody, 0, 0)
        };
        model.put(0, "/", Some(built_in(&["zookeeper"])));
        model.put(0, "/zookeeper", Some(built_in(&["quota", "config"])));
        model.put(0, "/zookeeper/quota", Some(built_in(&[])));
        model.keep();
        model
    }
}

impl Model {
    /// The node as it is now.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)?.last()?.node.as_ref()
    }

    /// The node as it was after `zxid`.
    pub fn at(&self, path: &str, zxid: i64) -> Option<&Node> {
        let versions = self.nodes.get(path)?;
        let after = versions.partition_point(|version| version.zxid <= zxid);
        versions[..after].last()?.node.as_ref()
    }

    /// Zxids in `from..=to` at which the node changed.
    pub fn changes_of(&self, path: &str, from: i64, to: i64) -> impl Iterator<Item = i64> {
        let versions = self.nodes.get(path).map(Vec::as_slice).unwrap_or_default();
        versions.iter().map(|version| version.zxid).filter(move |zxid| (from..=to).contains(zxid))
    }

    /// How many nodes there are.
    pub fn live(&self) -> usize {
        self.live
    }

    /// All nodes there are now.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes
            .iter()
            .filter_map(|(path, versions)| Some((&**path, versions.last()?.node.as_ref()?)))
    }

    /// Paths that ever began with `prefix`.
    pub fn paths_below(&self, prefix: &str) -> impl Iterator<Item = &str> {
        let range = (Bound::Included(prefix), Bound::Unbounded);
        let from = self.nodes.range::<str, _>(range).map(|(path, _)| &**path);
        let prefix = prefix.to_owned();
        from.take_while(move |path| path.starts_with(&prefix))
    }

    pub(super) fn put(&mut self, zxid: i64, path: &str, node: Option<Node>) {
        let was = self.get(path).is_some();
        self.live = self.live + usize::from(node.is_some()) - usize::from(was);
        let key = match self.nodes.get_key_value(path) {
            Some((key, _)) => key.clone(),
            None => Rc::from(path),
        };
        self.journal.push(key.clone());
        self.nodes.entry(key).or_default().push(Version { zxid, node });
    }

    /// What was put stays.
    pub fn keep(&mut self) {
        self.journal.clear();
    }

    /// Takes back what was put since the last [`Model::keep`].
    pub fn take_back(&mut self) {
        while let Some(path) = self.journal.pop() {
            let was = self.get(&path).is_some();
            if let Some(versions) = self.nodes.get_mut(&path) {
                versions.pop();
            }
            self.live = self.live + usize::from(self.get(&path).is_some()) - usize::from(was);
        }
    }

    /// A node that a leader whose wall clock shows `now_ms` should have deleted on its own account.
    pub fn overdue(&self, now_ms: i64) -> Option<&str> {
        let due = |node: &Node| node.children == 0 && node.is_left_alone(now_ms);
        self.all().find(|(_, node)| due(node)).map(|(path, _)| path)
    }

    /// Ephemerals of a session after `zxid`.
    pub fn ephemerals(&self, session: i64, zxid: i64) -> Vec<&str> {
        let Some(record) = self.sessions.get(&session) else { return Vec::new() };
        let owned = |path: &&Rc<str>| {
            self.at(path, zxid).is_some_and(|node| node.owner == Owner::Session(session))
        };
        let mut paths: Vec<_> =
            record.ephemerals.iter().filter(owned).map(|path| &**path).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Is the session there, and not closed?
    pub fn lives(&self, session: i64) -> bool {
        self.sessions.get(&session).is_some_and(|record| record.closed.is_none())
    }

    /// Puts a new node below a parent that is there.
    pub fn create(&mut self, zxid: i64, path: &str, node: Node, changes: &mut Vec<Change>) {
        let (above, name) = split(path);
        let Some(mut parent) = self.get(above).cloned() else { return };
        let (acl, parent_acl) = (node.acl.clone(), parent.acl.clone());
        let len = node.bytes() as i64;
        parent.created += 1;
        parent.children += 1;
        parent.names = parent.names.wrapping_add(name_hash(name));
        parent.pzxid = zxid;
        self.put(zxid, above, Some(parent));
        self.put(zxid, path, Some(node));
        if name == "zookeeper_stats" {
            self.recount(zxid, path);
        }
        self.add_usage(zxid, path, 1, len);
        let path = Rc::from(path);
        changes.push(Change { kind: EventKind::NodeCreated, path, acl, parent_acl });
    }

    /// Takes a node away that is there.
    pub fn delete(&mut self, zxid: i64, path: &str, changes: &mut Vec<Change>) {
        let (above, name) = split(path);
        let (Some(mut parent), Some(node)) = (self.get(above).cloned(), self.get(path)) else {
            return;
        };
        let (acl, len) = (node.acl.clone(), node.bytes() as i64);
        let parent_acl = parent.acl.clone();
        parent.children -= 1;
        parent.names = parent.names.wrapping_sub(name_hash(name));
        parent.pzxid = zxid;
        self.add_usage(zxid, path, -1, -len);
        self.put(zxid, path, None);
        self.put(zxid, above, Some(parent));
        let path = Rc::from(path);
        changes.push(Change { kind: EventKind::NodeDeleted, path, acl, parent_acl });
    }

    /// Gives a node that is there other data.
    pub fn set_data(
        &mut self,
        zxid: i64,
        time: i64,
        path: &str,
        data: Option<&[u8]>,
        changes: &mut Vec<Change>,
    ) {
        let Some(mut node) = self.get(path).cloned() else { return };
        let grown = data.map_or(0, <[u8]>::len) as i64 - node.bytes() as i64;
        node.data = data.map(Rc::from);
        node.version += 1;
        (node.mzxid, node.mtime) = (zxid, time);
        let acl = node.acl.clone();
        let parent_acl = acl.clone();
        self.put(zxid, path, Some(node));
        self.add_usage(zxid, path, 0, grown);
        let path = Rc::from(path);
        changes.push(Change { kind: EventKind::NodeDataChanged, path, acl, parent_acl });
    }

    /// Gives a node that is there another ACL.
    pub fn set_acl(&mut self, zxid: i64, path: &str, acl: Rc<[Acl]>) {
        let Some(mut node) = self.get(path).cloned() else { return };
        node.acl = acl;
        node.aversion += 1;
        self.put(zxid, path, Some(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(zxid: i64) -> Node {
        Node::new(Some(b"x"), open_acl(), Owner::Nobody, zxid, 0)
    }

    #[test]
    fn every_zxid_has_its_own_tree() {
        let mut model = Model::default();
        let mut changes = Vec::new();
        model.create(1, "/a", node(1), &mut changes);
        model.create(2, "/a/b", node(2), &mut changes);
        model.delete(3, "/a/b", &mut changes);
        assert_eq!(model.at("/a", 0), None);
        assert_eq!(model.at("/a", 1).map(|a| a.stat().num_children), Some(0));
        assert_eq!(model.at("/a", 2).map(|a| (a.stat().cversion, a.pzxid)), Some((1, 2)));
        assert_eq!(model.at("/a", 9).map(|a| (a.stat().cversion, a.pzxid)), Some((2, 3)));
        assert_eq!(changes.len(), 3);
    }

    #[test]
    fn what_is_taken_back_was_never_there() {
        let mut model = Model::default();
        model.create(1, "/a", node(1), &mut Vec::new());
        model.keep();
        model.set_data(2, 0, "/a", None, &mut Vec::new());
        model.delete(2, "/a", &mut Vec::new());
        model.take_back();
        assert_eq!(model.get("/a"), Some(&node(1)));
        assert_eq!(model.live(), 4);
    }
}
