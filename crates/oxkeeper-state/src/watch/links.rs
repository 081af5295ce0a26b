//! Storage of watches: slabs addressed by `u32`, and the two doubly linked lists through them.

use std::sync::Arc;

use oxkeeper_proto::client::Id;

use super::{Modes, WatcherId};

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// Neighbours in one list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) next: u32,
    pub(super) prev: u32,
}

/// What one connection watches at one path.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) path: u32,
    pub(super) watcher: u32,
    of_path: Links,
    of_watcher: Links,
    pub(super) modes: Modes,
}

impl Watch {
    pub(super) fn new(path: u32, watcher: u32) -> Watch {
        let alone = Links { next: NONE, prev: NONE };
        Watch { path, watcher, of_path: alone, of_watcher: alone, modes: Modes::NONE }
    }
}

/// A watched path.
#[derive(Debug)]
pub(super) struct PathEntry {
    pub(super) path: Box<str>,
    pub(super) first: u32,
    /// Watches with a mode of the data table, of the child table, and recursive ones.
    pub(super) data: u32,
    pub(super) child: u32,
    pub(super) recursive: u32,
}

impl PathEntry {
    pub(super) fn new(path: &str) -> PathEntry {
        PathEntry { path: path.into(), first: NONE, data: 0, child: 0, recursive: 0 }
    }

    /// One watch changes its modes.
    pub(super) fn count(&mut self, before: Modes, after: Modes) {
        let counts = [
            (&mut self.data, Modes::DATA_TABLE),
            (&mut self.child, Modes::CHILD_TABLE),
            (&mut self.recursive, Modes::RECURSIVE),
        ];
        for (count, modes) in counts {
            *count += u32::from(after.intersects(modes));
            *count -= u32::from(before.intersects(modes));
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct WatcherEntry {
    pub(super) id: WatcherId,
    pub(super) ids: Arc<Vec<Id>>,
    pub(super) first: u32,
    /// The last step in which it was notified.
    pub(super) notified: u64,
}

/// One of the two lists.
pub(super) trait Chain {
    fn links(watch: &Watch) -> Links;
    fn links_mut(watch: &mut Watch) -> &mut Links;
}

/// The watches of a path.
pub(super) struct OfPath;
/// The watches of a connection.
pub(super) struct OfWatcher;

impl Chain for OfPath {
    fn links(watch: &Watch) -> Links {
        watch.of_path
    }
    fn links_mut(watch: &mut Watch) -> &mut Links {
        &mut watch.of_path
    }
}

impl Chain for OfWatcher {
    fn links(watch: &Watch) -> Links {
        watch.of_watcher
    }
    fn links_mut(watch: &mut Watch) -> &mut Links {
        &mut watch.of_watcher
    }
}

/// Puts `slot` in front of `first`.
pub(super) fn push<C: Chain>(watches: &mut Slab<Watch>, slot: u32, first: u32) {
    *C::links_mut(watches.get_mut(slot)) = Links { next: first, prev: NONE };
    if first != NONE {
        C::links_mut(watches.get_mut(first)).prev = slot;
    }
}

/// Takes `slot` out; returns the new first one if it was the first.
pub(super) fn pop<C: Chain>(watches: &mut Slab<Watch>, slot: u32) -> Option<u32> {
    let Links { next, prev } = C::links(watches.get(slot));
    if next != NONE {
        C::links_mut(watches.get_mut(next)).prev = prev;
    }
    if prev == NONE {
        return Some(next);
    }
    C::links_mut(watches.get_mut(prev)).next = next;
    None
}

/// Values in reused slots.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(value);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 watches");
        self.slots.push(Some(value));
        slot
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.slots[slot as usize] = None;
        self.free.push(slot);
    }

    pub(super) fn get(&self, slot: u32) -> &T {
        self.slots[slot as usize].as_ref().expect("a link names a slot in use")
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut T {
        self.slots[slot as usize].as_mut().expect("a link names a slot in use")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }
}
