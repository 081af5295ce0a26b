//! Values addressed by `u32`, in chunks: growing never moves, copies or doubles what is there.

/// Values per chunk, as a power of two.
const CHUNK_BITS: u32 = 12;
const CHUNK: usize = 1 << CHUNK_BITS;

/// A slab. Freed slots are used again, the last freed first.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new() }
    }

    /// Slots ever used; every index is below it.
    pub(super) fn slots(&self) -> u32 {
        match self.chunks.split_last() {
            None => 0,
            Some((last, full)) => (full.len() * CHUNK + last.len()) as u32,
        }
    }

    pub(super) fn get(&self, index: u32) -> &T {
        &self.chunks[(index >> CHUNK_BITS) as usize][index as usize & (CHUNK - 1)]
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut T {
        &mut self.chunks[(index >> CHUNK_BITS) as usize][index as usize & (CHUNK - 1)]
    }

    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            *self.get_mut(index) = value;
            return index;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The two top indices are marks (`NONE`, `FULL`).
            assert!(self.slots() < u32::MAX - CHUNK as u32, "a slab holds less than 2^32 values");
            // The first chunk grows as it is filled, so that a small tree stays small.
            let first = self.chunks.is_empty();
            self.chunks.push(Vec::with_capacity(if first { 64 } else { CHUNK }));
        }
        let index = self.slots();
        self.chunks.last_mut().expect("a chunk with room").push(value);
        index
    }

    /// Gives the slot back. Its value stays until the slot is used again.
    pub(super) fn release(&mut self, index: u32) {
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_slots_are_used_again_and_others_stay() {
        let mut slab = Slab::new();
        let indices: Vec<u32> = (0..10_000u32).map(|value| slab.insert(value)).collect();
        assert_eq!(slab.slots(), 10_000);
        slab.release(indices[17]);
        assert_eq!(slab.insert(99), indices[17]);
        assert_eq!((*slab.get(17), *slab.get(9_999)), (99, 9_999));
    }
}
