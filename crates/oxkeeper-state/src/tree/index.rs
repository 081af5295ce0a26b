//! (parent, name) to slab index: one open-addressing table, in segments.
//!
//! A segment doubles alone, so no insert rehashes more than a thousandth of the tree. The segments'
//! shares of the hash range grow geometrically from one to two: their doublings are spread evenly
//! over the growth of the tree, and the memory per node hardly depends on the number of nodes.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

const SEGMENTS: usize = 1024;
/// Hash bits that choose a segment. The table takes the lowest bits and the topmost seven.
const CELL_BITS: u32 = 14;
const CELL_SHIFT: u32 = 32;

/// The table. It stores slab indices only; the caller compares and hashes.
#[derive(Debug)]
pub(super) struct Index {
    hasher: FixedState,
    segments: Vec<HashTable<u32>>,
    /// Value of the segment bits to segment.
    cells: Vec<u16>,
}

impl Index {
    /// `seed` decides where entries lie, and never what is found: an attacker who does not know it
    /// cannot make names collide.
    pub(super) fn new(seed: u64) -> Self {
        let cell_count = 1u32 << CELL_BITS;
        let segment = |cell: u32| {
            let part = f64::from(cell) / f64::from(cell_count);
            (((1.0 + part).log2() * SEGMENTS as f64) as u16).min(SEGMENTS as u16 - 1)
        };
        Index {
            hasher: FixedState::with_seed(seed),
            segments: (0..SEGMENTS).map(|_| HashTable::new()).collect(),
            cells: (0..cell_count).map(segment).collect(),
        }
    }

    pub(super) fn hash(&self, parent: u32, name: &[u8]) -> u64 {
        hash(&self.hasher, parent, name)
    }

    fn segment(&self, hash: u64) -> usize {
        let cell = (hash >> CELL_SHIFT) as usize & ((1 << CELL_BITS) - 1);
        self.cells[cell].into()
    }

    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.segments[self.segment(hash)].find(hash, |index| is(*index)).copied()
    }

    /// Adds an index that is not in the table; `key` gives (parent, name) of any index in it.
    pub(super) fn insert<'a>(
        &mut self,
        hash: u64,
        index: u32,
        key: impl Fn(u32) -> (u32, &'a [u8]),
    ) {
        let segment = self.segment(hash);
        let hasher = &self.hasher;
        self.segments[segment].insert_unique(hash, index, |index| {
            let (parent, name) = key(*index);
            self::hash(hasher, parent, name)
        });
    }

    pub(super) fn remove(&mut self, hash: u64, index: u32) {
        let segment = self.segment(hash);
        let entry = self.segments[segment].find_entry(hash, |other| *other == index);
        entry.expect("every node is in the index").remove();
    }
}

fn hash(hasher: &FixedState, parent: u32, name: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write_u32(parent);
    hasher.write(name);
    hasher.finish()
}
