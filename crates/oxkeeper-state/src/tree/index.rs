//! (parent, name) to slab index: one open-addressing table, in segments.
//!
//! A segment doubles alone, so no insert rehashes more than a thousandth of the tree. The segments'
//! shares of the hash range grow geometrically from one to two: their doublings are spread evenly
//! over the growth of the tree, and the memory per node hardly depends on the number of nodes.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::FixedState;
use hashbrown::HashTable;

const SEGMENTS: usize = 1024;
/// Bits of a key's hash that choose a segment; the lowest 32 are the hash within it.
const CELL_BITS: u32 = 14;
const CELL_SHIFT: u32 = 32;

/// The table. It stores slab indices only; the caller compares.
#[derive(Debug)]
pub(super) struct Index {
    hasher: FixedState,
    segments: Vec<HashTable<u32>>,
    /// Value of the segment bits to segment.
    cells: Vec<u16>,
    /// Only during a load.
    loading: Option<Loading>,
}

/// What makes inserts fast while a snapshot is read.
#[derive(Debug)]
struct Loading {
    /// The hash within the segment of each slab index: a segment then doubles, and other nodes are
    /// ruled out, without a look at the nodes.
    hashes: Vec<u32>,
    /// Not yet in the table. Many inserts in a row wait for memory together, not one by one.
    pending: Vec<(KeyHash, u32)>,
}

/// Inserts that wait at most.
const PENDING: usize = 256;

/// Hash of a (parent, name).
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyHash(u64);

impl KeyHash {
    fn within_segment(self) -> u32 {
        self.0 as u32
    }
}

/// Both the lowest and the topmost bits of what the table gets must be good.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
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
            loading: None,
        }
    }

    /// From here on, 4 more bytes per node buy faster inserts, by [`Index::insert_loading`] only.
    pub(super) fn begin_load(&mut self, slots: u32) {
        // The root is not in the table.
        assert_eq!(slots, 1, "a load starts with the root alone");
        self.loading = Some(Loading { hashes: vec![0], pending: Vec::new() });
    }

    /// Adds the index of a new node. An error is an index whose key another one has.
    pub(super) fn insert_loading(
        &mut self,
        hash: KeyHash,
        index: u32,
        same: impl Fn(u32, u32) -> bool,
    ) -> Result<(), u32> {
        let loading = self.loading.as_mut().expect("a load has begun");
        assert_eq!(loading.hashes.len(), index as usize, "a load fills slots in order");
        loading.hashes.push(hash.within_segment());
        loading.pending.push((hash, index));
        if loading.pending.len() < PENDING { Ok(()) } else { self.flush(same) }
    }

    /// Puts what waits into the table. An error is an index whose key another one has.
    pub(super) fn flush(&mut self, same: impl Fn(u32, u32) -> bool) -> Result<(), u32> {
        let Some(mut loading) = self.loading.take() else { return Ok(()) };
        let mut twice = None;
        // The first round only brings the segments' memory near.
        for (hash, index) in &loading.pending {
            twice = twice.or(self.find_loaded(&loading, *hash, *index, &same));
        }
        for (hash, index) in &loading.pending {
            twice = twice.or(self.find_loaded(&loading, *hash, *index, &same));
            let segment = self.segment(*hash);
            let spread_hash = spread(hash.within_segment());
            let hashes = &loading.hashes;
            self.segments[segment]
                .insert_unique(spread_hash, *index, |index| spread(hashes[*index as usize]));
        }
        loading.pending.clear();
        self.loading = Some(loading);
        twice.map_or(Ok(()), Err)
    }

    fn find_loaded(
        &self,
        loading: &Loading,
        hash: KeyHash,
        new: u32,
        same: impl Fn(u32, u32) -> bool,
    ) -> Option<u32> {
        let within = hash.within_segment();
        self.find(hash, |index| loading.hashes[index as usize] == within && same(index, new))
    }

    pub(super) fn end_load(&mut self) {
        let pending = self.loading.take().map_or(0, |loading| loading.pending.len());
        assert_eq!(pending, 0, "a load is flushed before it ends");
    }

    pub(super) fn hash(&self, parent: u32, name: &[u8]) -> KeyHash {
        hash(&self.hasher, parent, name)
    }

    fn segment(&self, hash: KeyHash) -> usize {
        let cell = (hash.0 >> CELL_SHIFT) as usize & ((1 << CELL_BITS) - 1);
        self.cells[cell].into()
    }

    pub(super) fn find(&self, hash: KeyHash, is: impl Fn(u32) -> bool) -> Option<u32> {
        let segment = &self.segments[self.segment(hash)];
        segment.find(spread(hash.within_segment()), |index| is(*index)).copied()
    }

    /// Adds an index that is not in the table; `key` gives (parent, name) of any index in it.
    pub(super) fn insert<'a>(
        &mut self,
        hash: KeyHash,
        index: u32,
        key: impl Fn(u32) -> (u32, &'a [u8]),
    ) {
        assert!(self.loading.is_none(), "during a load, other inserts are used");
        let segment = self.segment(hash);
        let segment = &mut self.segments[segment];
        let spread_hash = spread(hash.within_segment());
        let hasher = &self.hasher;
        segment.insert_unique(spread_hash, index, |index| {
            let (parent, name) = key(*index);
            spread(self::hash(hasher, parent, name).within_segment())
        });
    }

    pub(super) fn remove(&mut self, hash: KeyHash, index: u32) {
        let segment = self.segment(hash);
        let hash = spread(hash.within_segment());
        let entry = self.segments[segment].find_entry(hash, |other| *other == index);
        entry.expect("every node is in the index").remove();
    }
}

fn hash(hasher: &FixedState, parent: u32, name: &[u8]) -> KeyHash {
    let mut hasher = hasher.build_hasher();
    hasher.write_u32(parent);
    hasher.write(name);
    KeyHash(hasher.finish())
}
