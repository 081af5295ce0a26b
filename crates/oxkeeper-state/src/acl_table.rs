//! The ACL table: each distinct list once, under a number that nodes carry.
//!
//! Source: `docs/spec/storage-formats.md` 6.2. An id is never given to another list, so a snapshot
//! that is being written may name ids of lists that are gone or new.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use oxkeeper_proto::Acl;
use oxkeeper_proto::snapshot::OPEN_ACL_ID;

/// Id of an ACL: -1 is `world:anyone` with all permissions, others are ids of an [`AclTable`].
pub type AclId = i64;

/// The id that needs no entry. Only the built-in nodes have it.
pub const OPEN_ACL: AclId = OPEN_ACL_ID;

/// Lists by id, with the number of nodes that have them.
#[derive(Debug)]
pub struct AclTable {
    lists: HashMap<AclId, Entry, FixedState>,
    ids: HashMap<Arc<[Acl]>, AclId, FixedState>,
    open: Arc<[Acl]>,
    /// Given out last.
    last_id: AclId,
}

#[derive(Debug)]
struct Entry {
    list: Arc<[Acl]>,
    nodes: u64,
}

impl AclTable {
    /// An empty table. `seed` only decides where entries lie in memory.
    pub fn new(seed: u64) -> AclTable {
        let hasher = FixedState::with_seed(seed);
        AclTable {
            lists: HashMap::with_hasher(hasher.clone()),
            ids: HashMap::with_hasher(hasher),
            open: Acl::open_unsafe().into(),
            last_id: 0,
        }
    }

    /// The list with this id. `None`: the table of a fuzzy snapshot lacked it and the transaction
    /// that brings it has not been replayed; such a node must be treated as closed to all.
    pub fn get(&self, id: AclId) -> Option<&[Acl]> {
        self.shared(id).map(|list| &**list)
    }

    /// As [`AclTable::get`], shared.
    pub fn shared(&self, id: AclId) -> Option<&Arc<[Acl]>> {
        if id == OPEN_ACL {
            return Some(&self.open);
        }
        self.lists.get(&id).map(|entry| &entry.list)
    }

    /// The id of `list` (an entry is made if needed), for one more node.
    pub fn intern(&mut self, list: &[Acl]) -> AclId {
        if let Some(&id) = self.ids.get(list) {
            self.retain(id);
            return id;
        }
        let id = self.fresh_id();
        self.restore(id, list.into());
        self.retain(id);
        id
    }

    /// One more node has this id.
    pub fn retain(&mut self, id: AclId) {
        if let Some(entry) = self.lists.get_mut(&id) {
            entry.nodes += 1;
        }
    }

    /// One node less has this id; the last one takes the entry along.
    pub fn release(&mut self, id: AclId) {
        let Some(entry) = self.lists.get_mut(&id) else { return };
        entry.nodes = entry.nodes.saturating_sub(1);
        if entry.nodes == 0 {
            self.drop_entry(id);
        }
    }

    /// Adds an entry of a snapshot, not used by any node yet.
    pub fn restore(&mut self, id: AclId, list: Arc<[Acl]>) {
        self.reserve(id);
        self.ids.entry(list.clone()).or_insert(id);
        self.lists.insert(id, Entry { list, nodes: 0 });
    }

    /// Makes sure that `id`, which a node of a snapshot has, is given to no other list.
    pub fn reserve(&mut self, id: AclId) {
        self.last_id = self.last_id.max(id);
    }

    /// Drops the entries that no node has.
    pub fn drop_unused(&mut self) {
        let unused: Vec<AclId> =
            self.lists.iter().filter(|(_, entry)| entry.nodes == 0).map(|(id, _)| *id).collect();
        for id in unused {
            self.drop_entry(id);
        }
    }

    /// No id above it has been given out or seen.
    pub(crate) fn last_id(&self) -> AclId {
        self.last_id
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.lists.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// All entries, by id.
    pub fn entries(&self) -> BTreeMap<AclId, Arc<[Acl]>> {
        self.lists.iter().map(|(id, entry)| (*id, entry.list.clone())).collect()
    }

    fn drop_entry(&mut self, id: AclId) {
        let Some(entry) = self.lists.remove(&id) else { return };
        // A damaged snapshot may have the list under two ids.
        if self.ids.get(&entry.list) == Some(&id) {
            self.ids.remove(&entry.list);
        }
    }

    fn fresh_id(&mut self) -> AclId {
        loop {
            // A snapshot may have brought the highest number: then start over at 1.
            self.last_id = self.last_id.checked_add(1).unwrap_or(1).max(1);
            if !self.lists.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_share_an_id_until_the_last_node_is_gone() {
        let mut table = AclTable::new(1);
        let open = Acl::open_unsafe();
        let read = vec![Acl::new(1, "world", "anyone")];
        let first = table.intern(&open);
        assert_eq!((first, table.intern(&open), table.intern(&read)), (1, 1, 2));
        table.release(1);
        assert_eq!(table.get(1), Some(&open[..]));
        table.release(1);
        assert_eq!(table.get(1), None);
        assert_eq!(table.intern(&open), 3, "ids are not used twice");
    }

    #[test]
    fn the_open_id_needs_no_entry_and_is_not_what_created_nodes_get() {
        let mut table = AclTable::new(1);
        assert_eq!(table.get(OPEN_ACL), Some(&Acl::open_unsafe()[..]));
        assert_eq!(table.intern(&Acl::open_unsafe()), 1);
        table.release(OPEN_ACL);
        assert!(table.get(OPEN_ACL).is_some());
    }

    #[test]
    fn absurd_ids_of_a_snapshot_do_no_harm() {
        let mut table = AclTable::new(1);
        for id in [i64::MAX, i64::MIN, 0, 1] {
            table.restore(id, vec![Acl::new(id as i32, "world", "anyone")].into());
            table.retain(id);
        }
        assert_eq!(table.intern(&Acl::open_unsafe()), 2);
    }
}
