//! Watches: which connection is told of which change.
//!
//! A watch is a (connection, path) with a set of modes. Each lies in two lists, of its path and of its
//! connection, so that firing, removing and the end of a connection cost what they touch:
//!
//! ```text
//! paths     path      -> first watch ---.       watch: modes, next and previous in both lists
//! watchers  WatcherId -> first watch ---'       pairs: (path, watcher) -> watch
//! ```
//!
//! Source: `docs/spec/client-protocol.md` 10.

mod links;
mod modes;
mod notify;
mod stats;

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::FixedState;
use hashbrown::{HashMap, HashTable};
use oxkeeper_proto::client::Id;

use links::{Chain, NONE, PathEntry, Slab, Watch, WatcherEntry};
pub use modes::{Modes, WatchKind};
pub use notify::Notifier;
pub use stats::WatchSummary;

/// Stands for null among watched paths; no path has a NUL.
pub(crate) const NULL_PATH: &str = "\0";

/// Names a connection, as the owner of watches. Never reused within a process.
pub type WatcherId = u64;

/// All watches of the connections of one server.
///
/// It lives behind a lock of its own: reads take it to set a watch, applying a transaction takes it to
/// find whom to notify.
#[derive(Debug)]
pub struct WatchTable {
    watches: Slab<Watch>,
    paths: Slab<PathEntry>,
    watchers: Slab<WatcherEntry>,
    /// Slots of `paths`.
    by_path: HashTable<u32>,
    /// Slots of `watchers`.
    by_id: HashMap<WatcherId, u32, FixedState>,
    /// Slots of `watches`.
    pairs: HashTable<u32>,
    hasher: FixedState,
    /// Recursive watches; without any, changes need not look at ancestors.
    recursive: usize,
    /// Current step of a notification; marks watchers that had theirs.
    step: u64,
}

impl Default for WatchTable {
    fn default() -> Self {
        WatchTable::new(0)
    }
}

impl WatchTable {
    /// No watches. `seed` only decides where entries lie in memory; clients should not know it.
    pub fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        WatchTable {
            watches: Slab::default(),
            paths: Slab::default(),
            watchers: Slab::default(),
            by_path: HashTable::new(),
            by_id: HashMap::with_hasher(hasher.clone()),
            pairs: HashTable::new(),
            hasher,
            recursive: 0,
            step: 0,
        }
    }

    /// No watches at all?
    pub fn is_empty(&self) -> bool {
        self.watches.len() == 0
    }

    /// Makes a connection known, or changes its identities. Notifications are filtered by what the
    /// identities may read when the change happens (10.4).
    pub fn register(&mut self, watcher: WatcherId, ids: Arc<Vec<Id>>) {
        match self.by_id.get(&watcher) {
            Some(&slot) => self.watchers.get_mut(slot).ids = ids,
            None => {
                let entry = WatcherEntry { id: watcher, ids, first: NONE, notified: 0 };
                let slot = self.watchers.insert(entry);
                self.by_id.insert(watcher, slot);
            }
        }
    }

    /// Forgets a connection and all its watches.
    pub fn unregister(&mut self, watcher: WatcherId) {
        let Some(slot) = self.by_id.remove(&watcher) else { return };
        loop {
            let first = self.watchers.get(slot).first;
            if first == NONE {
                break;
            }
            self.set_modes(first, Modes::NONE);
        }
        self.watchers.remove(slot);
    }

    /// Adds modes to what `watcher` watches at `path`. Modes already there have no further effect.
    ///
    /// A connection that is not registered becomes so, with the identities `ids`.
    pub fn add(&mut self, watcher: WatcherId, ids: &[Id], path: &str, modes: Modes) {
        let slot = match self.by_id.get(&watcher) {
            Some(&slot) => slot,
            None => {
                self.register(watcher, Arc::new(ids.to_vec()));
                self.by_id[&watcher]
            }
        };
        let path = self.intern(path);
        match self.find(path, slot) {
            Some(watch) => {
                let modes = self.watches.get(watch).modes | modes;
                self.set_modes(watch, modes);
            }
            None => self.link(path, slot, modes),
        }
    }

    /// Does `watcher` have a watch of this kind at exactly this path (checkWatches)?
    pub fn contains(&self, watcher: WatcherId, path: &str, kind: WatchKind) -> bool {
        self.modes(watcher, path).intersects(kind.checked())
    }

    /// Removes the watches of this kind at exactly this path; false if there was none.
    pub fn remove(&mut self, watcher: WatcherId, path: &str, kind: WatchKind) -> bool {
        let Some(watch) = self.lookup(watcher, path) else { return false };
        let modes = self.watches.get(watch).modes;
        self.set_modes(watch, modes.without(kind.removed()));
        modes.intersects(kind.removed())
    }

    /// What `watcher` watches at exactly this path.
    pub fn modes(&self, watcher: WatcherId, path: &str) -> Modes {
        self.lookup(watcher, path).map_or(Modes::NONE, |watch| self.watches.get(watch).modes)
    }

    fn lookup(&self, watcher: WatcherId, path: &str) -> Option<u32> {
        self.find(self.path_slot(path)?, *self.by_id.get(&watcher)?)
    }

    fn find(&self, path: u32, watcher: u32) -> Option<u32> {
        let is = |&watch: &u32| {
            let watch = self.watches.get(watch);
            (watch.path, watch.watcher) == (path, watcher)
        };
        self.pairs.find(self.hash_pair(path, watcher), is).copied()
    }

    fn hash_pair(&self, path: u32, watcher: u32) -> u64 {
        self.hasher.hash_one(u64::from(path) << 32 | u64::from(watcher))
    }

    fn path_slot(&self, path: &str) -> Option<u32> {
        let is = |&slot: &u32| *self.paths.get(slot).path == *path;
        self.by_path.find(self.hasher.hash_one(path), is).copied()
    }

    fn intern(&mut self, path: &str) -> u32 {
        if let Some(slot) = self.path_slot(path) {
            return slot;
        }
        let slot = self.paths.insert(PathEntry::new(path));
        let (paths, hasher) = (&self.paths, &self.hasher);
        let rehash = |&slot: &u32| hasher.hash_one(&*paths.get(slot).path);
        self.by_path.insert_unique(hasher.hash_one(path), slot, rehash);
        slot
    }

    fn link(&mut self, path: u32, watcher: u32, modes: Modes) {
        let watch = self.watches.insert(Watch::new(path, watcher));
        let first = self.paths.get(path).first;
        links::push::<links::OfPath>(&mut self.watches, watch, first);
        self.paths.get_mut(path).first = watch;
        let first = self.watchers.get(watcher).first;
        links::push::<links::OfWatcher>(&mut self.watches, watch, first);
        self.watchers.get_mut(watcher).first = watch;
        let hash = self.hash_pair(path, watcher);
        let (watches, hasher) = (&self.watches, &self.hasher);
        let rehash = |&slot: &u32| {
            let watch = watches.get(slot);
            hasher.hash_one(u64::from(watch.path) << 32 | u64::from(watch.watcher))
        };
        self.pairs.insert_unique(hash, watch, rehash);
        self.set_modes(watch, modes);
    }

    /// Changes the modes of a watch and the counts of its path; without modes the watch goes.
    fn set_modes(&mut self, watch: u32, modes: Modes) {
        let slot = self.watches.get_mut(watch);
        let before = std::mem::replace(&mut slot.modes, modes);
        let path = slot.path;
        self.paths.get_mut(path).count(before, modes);
        self.recursive -= usize::from(before.intersects(Modes::RECURSIVE));
        self.recursive += usize::from(modes.intersects(Modes::RECURSIVE));
        if modes == Modes::NONE {
            self.unlink(watch);
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Watch { path, watcher, .. } = *self.watches.get(slot);
        let hash = self.hash_pair(path, watcher);
        if let Ok(entry) = self.pairs.find_entry(hash, |&watch| watch == slot) {
            entry.remove();
        }
        if let Some(first) = links::pop::<links::OfPath>(&mut self.watches, slot) {
            self.paths.get_mut(path).first = first;
        }
        if let Some(first) = links::pop::<links::OfWatcher>(&mut self.watches, slot) {
            self.watchers.get_mut(watcher).first = first;
        }
        self.watches.remove(slot);
        if self.paths.get(path).first == NONE {
            let hash = self.hasher.hash_one(&*self.paths.get(path).path);
            if let Ok(entry) = self.by_path.find_entry(hash, |&entry| entry == path) {
                entry.remove();
            }
            self.paths.remove(path);
        }
    }

    /// Slots of the watches of a path.
    fn chain<C: Chain>(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        let mut next = first;
        std::iter::from_fn(move || {
            let watch = (next != NONE).then_some(next)?;
            next = C::links(self.watches.get(watch)).next;
            Some(watch)
        })
    }
}

#[cfg(test)]
mod tests;
