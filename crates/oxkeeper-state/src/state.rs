//! The replicated state: znodes, ACL table, sessions, and what is derived from them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use oxkeeper_proto::client::{EventKind, perms};
use oxkeeper_proto::snapshot::StatPersisted;
use oxkeeper_proto::{Acl, SessionId, Zxid};

use crate::acl_table::{AclTable, OPEN_ACL};
use crate::apply::{Change, Changes};
use crate::owner::{OwnerKind, OwnerRules};
use crate::quota::Quotas;
use crate::tree::{NewNode, NodeId, Tree};

/// Path of the node that holds the ensemble's configuration.
pub const CONFIG_NODE: &str = "/zookeeper/config";

/// Digests are remembered after transactions whose zxid is a multiple of this.
const PAST_DIGEST_INTERVAL: i64 = 128;

/// So many of them.
const PAST_DIGESTS: usize = 1024;

/// What is chosen when a state is made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Keep the tree digest (`digest.enabled`).
    pub digests: bool,
    /// How owner fields are read.
    pub owners: OwnerRules,
}

impl Default for Options {
    fn default() -> Self {
        Options { digests: true, owners: OwnerRules::default() }
    }
}

/// A record whose digest is not that of the tree after it: this server and the leader differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestMismatch {
    /// The transaction after which it was seen.
    pub zxid: Zxid,
    /// What the record, or the snapshot's digest section, says.
    pub expected: u64,
    /// The digest of this tree.
    pub actual: u64,
}

/// Whether digests of records can be compared with the tree's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The tree is exactly the state after the last zxid.
    Exact,
    /// A fuzzy snapshot: the tree may hold effects of transactions up to `at`, and has the digest
    /// `expected` after it.
    FuzzyUntil { at: Zxid, expected: u64 },
    /// A fuzzy snapshot without a digest: exact from the first equal digest on.
    Unknown,
}

/// The state of one server after all transactions up to [`State::last_zxid`].
///
/// Changed by [`State::apply`] only; a few local effects that are no transactions are named so.
#[derive(Debug)]
pub struct State {
    /// The znodes.
    pub tree: Tree,
    /// The ACLs that nodes have.
    pub acls: AclTable,
    pub(crate) sessions: BTreeMap<SessionId, i32>,
    /// Slots of the ephemerals of each session, also of sessions not in the table.
    pub(crate) ephemerals: BTreeMap<SessionId, BTreeSet<u32>>,
    pub(crate) containers: BTreeSet<u32>,
    pub(crate) ttls: BTreeSet<u32>,
    pub(crate) quotas: Quotas,
    pub(crate) options: Options,
    pub(crate) digest: u64,
    pub(crate) trust: Trust,
    mismatches: u64,
    last_mismatch: Option<DigestMismatch>,
    past_digests: VecDeque<(Zxid, u64)>,
    pub(crate) last_zxid: Zxid,
    pub(crate) path_bytes: u64,
}

impl State {
    /// The state of an empty database: the root, `/zookeeper`, `/zookeeper/quota` and
    /// `/zookeeper/config` (`docs/spec/client-protocol.md` 7.6).
    ///
    /// `seed` decides where entries lie in memory, never what the state holds or in which order. It
    /// should be unknown to clients.
    pub fn new(seed: u64) -> State {
        State::with_options(seed, Options::default())
    }

    /// As [`State::new`], with options.
    pub fn with_options(seed: u64, options: Options) -> State {
        let mut state = State::bare(seed, options);
        let zookeeper = state.insert_plain(Tree::ROOT, "zookeeper");
        state.insert_plain(zookeeper, "quota");
        state.insert_config_node(zookeeper);
        state.path_bytes = ["/zookeeper", "/zookeeper/quota", CONFIG_NODE]
            .iter()
            .map(|path| path.len() as u64)
            .sum();
        state.recompute_digest();
        state
    }

    /// The root alone, with a digest of 0.
    pub(crate) fn bare(seed: u64, options: Options) -> State {
        State {
            tree: Tree::with_owners(seed, options.owners),
            acls: AclTable::new(seed),
            sessions: BTreeMap::new(),
            ephemerals: BTreeMap::new(),
            containers: BTreeSet::new(),
            ttls: BTreeSet::new(),
            quotas: Quotas::new(seed),
            options,
            digest: 0,
            trust: Trust::Exact,
            mismatches: 0,
            last_mismatch: None,
            past_digests: VecDeque::new(),
            last_zxid: Zxid::ZERO,
            path_bytes: 0,
        }
    }

    fn insert_plain(&mut self, parent: NodeId, name: &str) -> NodeId {
        let stat = StatPersisted::default();
        let new = NewNode { name, data: Some(b""), acl: OPEN_ACL, stat };
        self.tree.insert(parent, &new).expect("built-in nodes are inserted once")
    }

    fn insert_config_node(&mut self, zookeeper: NodeId) -> NodeId {
        let acl = self.acls.intern(&[Acl::new(perms::READ, "world", "anyone")]);
        let stat = StatPersisted { aversion: -1, ..StatPersisted::default() };
        let new = NewNode { name: "config", data: Some(b""), acl, stat };
        self.tree.insert(zookeeper, &new).expect("built-in nodes are inserted once")
    }

    fn recompute_digest(&mut self) {
        self.digest = 0;
        if !self.options.digests {
            return;
        }
        let mut sum = self.tree.digest(Tree::ROOT, "");
        self.tree.visit_below(Tree::ROOT, |node| {
            sum = sum.wrapping_add(self.tree.digest(node, &self.tree.path(node)));
        });
        self.digest = sum;
    }

    /// Zxid of the last applied transaction, or of the snapshot; -1: an empty database that may not
    /// be trusted.
    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// Sets the last zxid without a transaction: a new leader's epoch, a loaded snapshot's name.
    pub fn set_last_zxid(&mut self, zxid: Zxid) {
        self.last_zxid = zxid;
    }

    /// The tree digest (`docs/spec/storage-formats.md` 9); 0 if digests are off.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether the tree digest is kept.
    pub fn digests_enabled(&self) -> bool {
        self.options.digests
    }

    /// Whether the tree is known to be exactly the state after [`State::last_zxid`]. False while
    /// the transactions that a fuzzy snapshot overlaps are replayed.
    pub fn is_exact(&self) -> bool {
        self.trust == Trust::Exact
    }

    /// How many records had another digest than the tree after them.
    pub fn digest_mismatches(&self) -> u64 {
        self.mismatches
    }

    /// The latest of them.
    pub fn last_digest_mismatch(&self) -> Option<DigestMismatch> {
        self.last_mismatch
    }

    /// Tree digests of the past, oldest first: every 128th, while the tree was exact. Nothing of them
    /// is kept on disk (`docs/spec/operations.md` 2.2, `hash`).
    pub fn past_digests(&self) -> impl ExactSizeIterator<Item = (Zxid, u64)> {
        self.past_digests.iter().copied()
    }

    fn remember_digest(&mut self, zxid: Zxid) {
        if zxid.0 % PAST_DIGEST_INTERVAL != 0 {
            return;
        }
        if self.past_digests.len() == PAST_DIGESTS {
            self.past_digests.pop_front();
        }
        self.past_digests.push_back((zxid, self.digest));
    }

    /// Tells the digest section of the snapshot that was just loaded: the state after `at` has
    /// `digest`. Until then digests of records are not compared (`docs/spec/storage-formats.md` 8.3).
    /// A section older than the snapshot's name, or of zxid 0, says nothing.
    pub fn expect_digest(&mut self, at: Zxid, digest: u64) {
        if at > Zxid::ZERO && at >= self.last_zxid {
            self.trust = Trust::FuzzyUntil { at, expected: digest };
            self.settle(self.last_zxid, None);
        }
    }

    /// After transaction `zxid`, whose record said `digest`: compares what can be compared.
    pub(crate) fn settle(&mut self, zxid: Zxid, digest: Option<u64>) {
        if !self.options.digests {
            return;
        }
        let expected = match self.trust {
            Trust::Exact => {
                self.remember_digest(zxid);
                digest
            }
            Trust::FuzzyUntil { at, .. } if zxid < at => return,
            Trust::FuzzyUntil { at, expected } => {
                self.trust = Trust::Exact;
                if zxid == at { Some(expected) } else { digest }
            }
            Trust::Unknown => {
                if digest == Some(self.digest) {
                    self.trust = Trust::Exact;
                }
                return;
            }
        };
        if let Some(expected) = expected.filter(|expected| *expected != self.digest) {
            self.mismatches += 1;
            self.last_mismatch = Some(DigestMismatch { zxid, expected, actual: self.digest });
        }
    }

    /// All sessions and their timeouts in ms, by id.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (SessionId, i32)> {
        self.sessions.iter().map(|(id, timeout_ms)| (*id, *timeout_ms))
    }

    /// The timeout of a session in ms, if it exists.
    pub fn session(&self, id: SessionId) -> Option<i32> {
        self.sessions.get(&id).copied()
    }

    /// The ephemeral nodes of a session, unordered.
    pub fn ephemeral_nodes(&self, session: SessionId) -> impl Iterator<Item = NodeId> {
        let slots = self.ephemerals.get(&session);
        slots.into_iter().flatten().map(|slot| NodeId::from_slot(*slot))
    }

    /// The paths of the ephemerals of a session, in the order of the strings.
    pub fn ephemerals(&self, session: SessionId) -> impl ExactSizeIterator<Item = String> + use<> {
        let mut paths: Vec<String> =
            self.ephemeral_nodes(session).map(|node| self.tree.path(node)).collect();
        paths.sort_unstable();
        paths.into_iter()
    }

    /// Number of all ephemeral nodes.
    pub fn ephemerals_count(&self) -> usize {
        self.ephemerals.values().map(BTreeSet::len).sum()
    }

    /// The sessions that have ephemerals, and how many, by id.
    pub fn sessions_with_ephemerals(&self) -> impl ExactSizeIterator<Item = (SessionId, usize)> {
        self.ephemerals.iter().map(|(id, slots)| (*id, slots.len()))
    }

    /// The container nodes, unordered.
    pub fn containers(&self) -> impl ExactSizeIterator<Item = NodeId> {
        self.containers.iter().map(|slot| NodeId::from_slot(*slot))
    }

    /// The nodes with a time to live, unordered.
    pub fn ttl_nodes(&self) -> impl ExactSizeIterator<Item = NodeId> {
        self.ttls.iter().map(|slot| NodeId::from_slot(*slot))
    }

    /// Bytes of all paths and data, as `mntr` reports them. The path of the root is `/`.
    pub fn approximate_data_size(&self) -> u64 {
        1 + self.path_bytes + self.tree.data_bytes()
    }

    /// The path under quota that `path` counts for, if any: the longest that is it or above it.
    pub fn quota_of<'a>(&self, path: &'a str) -> Option<&'a str> {
        self.quotas.longest(path)
    }

    /// Writes the ensemble's configuration into `/zookeeper/config`, which is made if an old
    /// snapshot lacks it. A local effect: the text is the same everywhere, the times are not, and
    /// the node is not part of the digest (`docs/spec/quorum-protocol.md` 10.7, 15.4).
    pub fn set_config_node(
        &mut self,
        text: &[u8],
        version: i64,
        now_ms: i64,
        changes: &mut dyn Changes,
    ) {
        let Some(zookeeper) = self.tree.lookup("/zookeeper") else { return };
        let node = match self.tree.child(zookeeper, "config") {
            Some(node) => node,
            None => {
                self.path_bytes += CONFIG_NODE.len() as u64;
                self.insert_config_node(zookeeper)
            }
        };
        let stat = self.tree.persisted(node);
        if self.tree.data(node) == Some(text) && stat.mzxid == version && stat.version == -1 {
            return;
        }
        self.tree.set_data(node, Some(text));
        self.tree.update_stat(node, |stat| {
            stat.version = -1;
            stat.mzxid = version;
            stat.mtime = now_ms;
        });
        self.report(changes, Zxid(version), EventKind::NodeDataChanged, CONFIG_NODE, node);
    }

    /// Deletes the ephemerals of sessions that are not in the session table: what a standalone
    /// server or a new leader does after loading. A local effect
    /// (`docs/spec/storage-formats.md` 7.6).
    pub fn remove_orphan_ephemerals(&mut self) {
        let orphans: Vec<SessionId> =
            self.ephemerals.keys().filter(|id| !self.sessions.contains_key(id)).copied().collect();
        for session in orphans {
            for path in self.ephemerals(session) {
                self.delete(self.last_zxid, &path, &mut ());
            }
        }
    }

    /// Puts a node into the indexes by owner.
    pub(crate) fn register_owner(&mut self, node: NodeId, owner: i64) {
        match self.options.owners.kind(owner) {
            OwnerKind::None => {}
            OwnerKind::Container => {
                self.containers.insert(node.slot());
            }
            OwnerKind::Ttl { .. } => {
                self.ttls.insert(node.slot());
            }
            OwnerKind::Ephemeral(session) => {
                self.ephemerals.entry(session).or_default().insert(node.slot());
            }
        }
    }

    /// Takes a node out of the indexes by owner.
    pub(crate) fn unregister_owner(&mut self, node: NodeId) {
        match self.tree.owner_kind(node) {
            OwnerKind::None => {}
            OwnerKind::Container => {
                self.containers.remove(&node.slot());
            }
            OwnerKind::Ttl { .. } => {
                self.ttls.remove(&node.slot());
            }
            OwnerKind::Ephemeral(session) => {
                let Some(slots) = self.ephemerals.get_mut(&session) else { return };
                slots.remove(&node.slot());
                if slots.is_empty() {
                    self.ephemerals.remove(&session);
                }
            }
        }
    }

    /// Tells `changes` of a change of `node`, which still, or already, exists.
    pub(crate) fn report(
        &self,
        changes: &mut dyn Changes,
        zxid: Zxid,
        kind: EventKind,
        path: &str,
        node: NodeId,
    ) {
        if !changes.interested() {
            return;
        }
        let acl_of = |node| self.acls.get(self.tree.acl(node)).unwrap_or_default();
        changes.changed(&Change {
            zxid,
            kind,
            path,
            acl: acl_of(node),
            parent_acl: self.tree.parent(node).map(acl_of),
        });
    }
}
