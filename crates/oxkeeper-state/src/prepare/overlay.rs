//! What proposals that are not applied yet will have changed, path by path.
//!
//! A record holds what checks and the digest need of a node as it will be: the stat, the number of
//! children, the length of the data and the digest's value after path and data; never the data. It
//! stays until the last transaction that changed the node is applied. A multi that fails takes its
//! changes back by the undo list.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use oxkeeper_proto::snapshot::StatPersisted;
use oxkeeper_proto::{Acl, SessionId, Zxid};

use crate::{AclId, NodeId, State, digest};

/// The ACL of a record.
#[derive(Clone, Debug)]
pub(super) enum AclRef {
    /// In the state's table; stays there, as no proposal changes the node's ACL.
    Stored(AclId),
    /// Proposed.
    New(Arc<[Acl]>),
}

/// A node as it will be.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) stat: StatPersisted,
    pub(super) children: u32,
    pub(super) data_len: usize,
    pub(super) acl: AclRef,
    /// See [`digest::prefix`]; 0 if digests are off or the node does not count.
    pub(super) prefix: u32,
}

#[derive(Clone, Debug)]
struct Entry {
    /// The last transaction that changed the node.
    zxid: Zxid,
    /// `None`: deleted.
    record: Option<Record>,
}

/// What a transaction left in the overlay.
#[derive(Debug)]
enum Trace {
    Node(Arc<str>),
    /// One more of the candidates for the session's end.
    Ephemeral(SessionId),
    Closing(SessionId),
}

/// Where a multi began.
#[derive(Debug)]
struct Undo {
    traces: usize,
    digest: u64,
    entries: Vec<(Arc<str>, Option<Entry>)>,
}

/// Changes proposed and not applied.
#[derive(Debug)]
pub(super) struct Overlay {
    nodes: HashMap<Arc<str>, Entry, FixedState>,
    /// In zxid order; the front is forgotten first.
    traces: VecDeque<(Zxid, Trace)>,
    /// Paths that became ephemerals of a session, in zxid order. Some may be gone again.
    ephemerals: HashMap<SessionId, VecDeque<Arc<str>>, FixedState>,
    closing: HashSet<SessionId, FixedState>,
    digest: u64,
    digests: bool,
    undo: Option<Undo>,
}

impl Overlay {
    pub(super) fn new(state: &State) -> Overlay {
        let hasher = FixedState::default;
        Overlay {
            nodes: HashMap::with_hasher(hasher()),
            traces: VecDeque::new(),
            ephemerals: HashMap::with_hasher(hasher()),
            closing: HashSet::with_hasher(hasher()),
            digest: state.digest(),
            digests: state.digests_enabled(),
            undo: None,
        }
    }

    /// The tree digest after everything proposed.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Drops what is in `state` already.
    pub(super) fn settle(&mut self, state: &State) {
        self.applied(state.last_zxid());
        if self.traces.is_empty() {
            self.digest = state.digest();
        }
    }

    /// Drops what transactions up to `zxid` changed.
    pub(super) fn applied(&mut self, zxid: Zxid) {
        while let Some((_, trace)) = self.traces.pop_front_if(|(at, _)| *at <= zxid) {
            match trace {
                Trace::Node(path) => {
                    if let hashbrown::hash_map::Entry::Occupied(entry) = self.nodes.entry(path)
                        && entry.get().zxid <= zxid
                    {
                        entry.remove();
                    }
                }
                Trace::Ephemeral(session) => {
                    let Some(paths) = self.ephemerals.get_mut(&session) else { continue };
                    paths.pop_front();
                    if paths.is_empty() {
                        self.ephemerals.remove(&session);
                    }
                }
                Trace::Closing(session) => {
                    self.closing.remove(&session);
                }
            }
        }
    }

    /// The node at `path`, if it will exist.
    pub(super) fn get(&self, state: &State, path: &str) -> Option<Record> {
        if !self.nodes.is_empty()
            && let Some(entry) = self.nodes.get(path)
        {
            return entry.record.clone();
        }
        state.tree.lookup(path).map(|node| self.load(state, node, path))
    }

    /// Will there be a node at `path`?
    pub(super) fn exists(&self, state: &State, path: &str) -> bool {
        match self.nodes.get(path) {
            Some(entry) => entry.record.is_some(),
            None => state.tree.lookup(path).is_some(),
        }
    }

    fn load(&self, state: &State, node: NodeId, path: &str) -> Record {
        let data = state.tree.data(node);
        Record {
            stat: state.tree.persisted(node),
            children: state.tree.child_count(node),
            data_len: data.map_or(0, <[u8]>::len),
            acl: AclRef::Stored(state.tree.acl(node)),
            prefix: self.prefix(path, data),
        }
    }

    /// The digest's value after path and data, if it will be needed.
    pub(super) fn prefix(&self, path: &str, data: Option<&[u8]>) -> u32 {
        if self.digests && digest::counts(path) { digest::prefix(path, data) } else { 0 }
    }

    /// Changes a node from `old`, which [`Overlay::get`] returned, to `new` by transaction `zxid`.
    pub(super) fn put(
        &mut self,
        zxid: Zxid,
        path: &str,
        old: Option<&Record>,
        new: Option<Record>,
    ) {
        if self.digests && digest::counts(path) {
            let part = |record: &Record| digest::finish(record.prefix, &record.stat);
            let (old, new) = (old.map_or(0, part), new.as_ref().map_or(0, part));
            self.digest = self.digest.wrapping_sub(old).wrapping_add(new);
        }
        let entry = Entry { zxid, record: new };
        let (path, old) = match self.nodes.get_key_value(path).map(|(path, _)| path.clone()) {
            Some(path) => {
                let old = self.nodes.insert(path.clone(), entry);
                (path, old)
            }
            None => {
                let path = Arc::<str>::from(path);
                self.nodes.insert(path.clone(), entry);
                (path, None)
            }
        };
        if let Some(undo) = &mut self.undo {
            undo.entries.push((path.clone(), old));
        }
        self.traces.push_back((zxid, Trace::Node(path)));
    }

    /// Notes that `path` becomes an ephemeral of `session`.
    pub(super) fn add_ephemeral(&mut self, zxid: Zxid, session: SessionId, path: &str) {
        self.ephemerals.entry(session).or_default().push_back(path.into());
        self.traces.push_back((zxid, Trace::Ephemeral(session)));
    }

    /// Paths that may be ephemerals of `session` when everything proposed is applied, sorted.
    pub(super) fn ephemeral_candidates(&self, state: &State, session: SessionId) -> Vec<String> {
        let mut paths: Vec<String> = state.ephemerals(session).collect();
        if let Some(proposed) = self.ephemerals.get(&session) {
            paths.extend(proposed.iter().map(|path| path.to_string()));
            paths.sort_unstable();
            paths.dedup();
        }
        paths
    }

    /// From here on the session's requests fail.
    pub(super) fn close(&mut self, zxid: Zxid, session: SessionId) {
        self.closing.insert(session);
        self.traces.push_back((zxid, Trace::Closing(session)));
    }

    /// Is the end of the session proposed?
    pub(super) fn is_closing(&self, session: SessionId) -> bool {
        !self.closing.is_empty() && self.closing.contains(&session)
    }

    /// From here on changes can be taken back.
    pub(super) fn begin(&mut self) {
        assert!(self.undo.is_none(), "a multi does not contain another");
        let (traces, digest) = (self.traces.len(), self.digest);
        self.undo = Some(Undo { traces, digest, entries: Vec::new() });
    }

    /// Keeps the changes since [`Overlay::begin`].
    pub(super) fn commit(&mut self) {
        self.undo = None;
    }

    /// Takes back the changes since [`Overlay::begin`].
    pub(super) fn roll_back(&mut self) {
        let Some(undo) = self.undo.take() else { return };
        self.digest = undo.digest;
        for (path, entry) in undo.entries.into_iter().rev() {
            match entry {
                Some(entry) => self.nodes.insert(path, entry),
                None => self.nodes.remove(&path),
            };
        }
        for (_, trace) in self.traces.drain(undo.traces..) {
            if let Trace::Ephemeral(session) = trace
                && let Some(paths) = self.ephemerals.get_mut(&session)
            {
                paths.pop_back();
                if paths.is_empty() {
                    self.ephemerals.remove(&session);
                }
            }
        }
    }

    /// Is nothing kept?
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.traces.is_empty()
            && self.ephemerals.is_empty()
            && self.closing.is_empty()
    }
}
