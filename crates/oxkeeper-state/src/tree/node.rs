//! What is kept per znode besides name and data.

use hashbrown::HashTable;
use oxkeeper_proto::Zxid;
use oxkeeper_proto::snapshot::StatPersisted;

use super::blobs::Blob;
use super::slab::Slab;
use crate::AclId;

/// No node.
pub(super) const NONE: u32 = u32::MAX;
/// In [`Node::origin`]: the node has changed since its creation; see its [`Record`].
pub(super) const CHANGED: u32 = u32::MAX;

/// A znode, 28 bytes. Name and data are in its blob.
///
/// Siblings are a list: `next` of the last is `NONE`, `prev` of the first is the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    /// `Blob::NONE` marks a free slot.
    pub blob: Blob,
    /// The root is its own parent.
    pub parent: u32,
    pub next: u32,
    pub prev: u32,
    /// Index of an [`Origin`] and, in `counter` and `ctime_low`, what differs per node; or `CHANGED`,
    /// and `counter` is the index of a [`Record`].
    pub origin: u32,
    pub counter: u32,
    pub ctime_low: u32,
}

/// What unchanged nodes have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub acl: AclId,
    /// High half of the czxid.
    pub epoch: u32,
    /// High half of the ctime: about 50 days.
    pub ctime_high: u32,
}

/// Everything about a znode that has changed since its creation, or is not a plain one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub stat: StatPersisted,
    pub acl: AclId,
    /// `NONE` if there is none.
    pub first_child: u32,
    pub children: u32,
    /// [`crate::digest::prefix`] of path and data, once it was needed.
    pub digest_prefix: Option<u32>,
}

/// The stat of a node that was created and never changed.
pub(super) fn fresh_stat(czxid: i64, ctime: i64) -> StatPersisted {
    StatPersisted {
        czxid,
        mzxid: czxid,
        pzxid: czxid,
        ctime,
        mtime: ctime,
        ..StatPersisted::default()
    }
}

impl Node {
    /// The stat of an unchanged node.
    pub(super) fn stat(&self, origin: &Origin) -> StatPersisted {
        let czxid = Zxid::new(origin.epoch, self.counter).0;
        fresh_stat(czxid, (u64::from(origin.ctime_high) << 32 | u64::from(self.ctime_low)) as i64)
    }
}

/// The origins, counted. There are few: one per ACL, epoch and 50 days of creation.
#[derive(Debug)]
pub(super) struct Origins {
    entries: Slab<(Origin, u32)>,
    index: HashTable<u32>,
    /// Used last, and most often next.
    last: u32,
}

impl Origins {
    pub(super) fn new() -> Self {
        Origins { entries: Slab::new(), index: HashTable::new(), last: NONE }
    }

    pub(super) fn get(&self, index: u32) -> &Origin {
        &self.entries.get(index).0
    }

    /// The index of `origin`, for one more node.
    pub(super) fn retain(&mut self, origin: Origin) -> u32 {
        if self.last == NONE || *self.get(self.last) != origin {
            let entries = &self.entries;
            let found = self.index.find(origin.hash(), |at| entries.get(*at).0 == origin).copied();
            self.last = found.unwrap_or_else(|| {
                let at = self.entries.insert((origin, 0));
                let entries = &self.entries;
                self.index.insert_unique(origin.hash(), at, |at| entries.get(*at).0.hash());
                at
            });
        }
        self.entries.get_mut(self.last).1 += 1;
        self.last
    }

    /// One node less.
    pub(super) fn release(&mut self, at: u32) {
        let (origin, nodes) = self.entries.get_mut(at);
        *nodes -= 1;
        if *nodes > 0 {
            return;
        }
        let hash = origin.hash();
        let entry = self.index.find_entry(hash, |other| *other == at);
        entry.expect("every origin is in the index").remove();
        self.entries.release(at);
        if self.last == at {
            self.last = NONE;
        }
    }
}

impl Origin {
    /// ACL ids are given out by servers and epochs count elections: no attacker picks collisions.
    fn hash(&self) -> u64 {
        let mut hash = 0u64;
        for word in [self.acl as u64, u64::from(self.epoch), u64::from(self.ctime_high)] {
            hash = (hash.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        hash ^ hash >> 29
    }
}
