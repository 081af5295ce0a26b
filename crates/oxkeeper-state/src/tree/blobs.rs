//! Names and data of znodes: one block each, in pages of equal blocks, addressed by `u32`.
//!
//! A general allocator would cost a 16-byte pointer and a rounded size for every znode. Here a block
//! is addressed by 4 bytes and wastes at most 7 (up to 256 bytes) of its size:
//!
//! ```text
//! block:  unused bytes at the end: 7 bits | data is null: 1 bit
//!         length of the name: u8 (255: u32 little-endian follows)
//!         name  data  unused
//! ```
//!
//! Blocks above [`MAX_BLOCK`] are boxes of their own. A page whose last block is freed is given back.

/// Bytes per page; at most `1 << BLOCK_BITS` blocks.
const PAGE: usize = 64 << 10;
/// Largest block kept in pages.
const MAX_BLOCK: usize = 1024;
const CLASSES: usize = 47;
const BLOCK_BITS: u32 = 12;
const MAX_PAGES: usize = 1 << (31 - BLOCK_BITS);
/// Marks a reference to a box.
const LARGE: u32 = 1 << 31;
const NULL_DATA: u8 = 0x80;
const LONG_NAME: usize = 255;
const NO_BLOCK: u16 = u16::MAX;
const NOT_LISTED: u32 = u32::MAX;

/// Where a block is. Valid until the block is freed or its data replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blob(u32);

impl Blob {
    /// No block: the mark of a free node.
    pub(super) const NONE: Blob = Blob(u32::MAX);
}

/// Equal blocks.
#[derive(Debug)]
struct Page {
    /// Empty while the page is given back.
    bytes: Box<[u8]>,
    class: u8,
    /// Blocks in use.
    used: u16,
    /// Blocks ever used; those at and above it are untouched.
    touched: u16,
    /// First freed block; its first two bytes name the next.
    free: u16,
    /// Position among the pages of its class with room, or `NOT_LISTED`.
    listed: u32,
}

/// All blocks.
#[derive(Debug)]
pub(super) struct Blobs {
    pages: Vec<Page>,
    /// Per class, the pages with room.
    open: Vec<Vec<u32>>,
    free_pages: Vec<u32>,
    large: Vec<Box<[u8]>>,
    free_large: Vec<u32>,
}

/// The class of a block of `len` bytes, or `None` if it is kept in a box.
fn class_of(len: usize) -> Option<usize> {
    Some(match len {
        0..=16 => 0,
        17..=256 => len.div_ceil(8) - 2,
        257..=512 => 30 + (len - 256).div_ceil(32),
        513..=MAX_BLOCK => 38 + (len - 512).div_ceil(64),
        _ => return None,
    })
}

/// Bytes per block of a class.
fn block_size(class: usize) -> usize {
    match class {
        0..=30 => (class + 2) * 8,
        31..=38 => 256 + (class - 30) * 32,
        _ => 512 + (class - 38) * 64,
    }
}

fn block_len(name: &[u8], data: Option<&[u8]>) -> usize {
    let prefix = if name.len() < LONG_NAME { 2 } else { 6 };
    prefix + name.len() + data.map_or(0, <[u8]>::len)
}

/// Fills `block` with name and data.
fn write(block: &mut [u8], name: &[u8], data: Option<&[u8]>) {
    let used = block_len(name, data);
    block[0] = (block.len() - used) as u8 | if data.is_none() { NULL_DATA } else { 0 };
    let start = if name.len() < LONG_NAME {
        block[1] = name.len() as u8;
        2
    } else {
        block[1] = LONG_NAME as u8;
        block[2..6].copy_from_slice(&(name.len() as u32).to_le_bytes());
        6
    };
    block[start..start + name.len()].copy_from_slice(name);
    if let Some(data) = data {
        block[start + name.len()..used].copy_from_slice(data);
    }
}

/// Splits a block into name and data.
fn parse(block: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (start, len) = match block[1] as usize {
        LONG_NAME => (6, u32::from_le_bytes([block[2], block[3], block[4], block[5]]) as usize),
        len => (2, len),
    };
    let end = block.len() - (block[0] & !NULL_DATA) as usize;
    let name = &block[start..start + len];
    (name, (block[0] & NULL_DATA == 0).then(|| &block[start + len..end]))
}

impl Blobs {
    pub(super) fn new() -> Self {
        Blobs {
            pages: Vec::new(),
            open: vec![Vec::new(); CLASSES],
            free_pages: Vec::new(),
            large: Vec::new(),
            free_large: Vec::new(),
        }
    }

    pub(super) fn insert(&mut self, name: &[u8], data: Option<&[u8]>) -> Blob {
        let len = block_len(name, data);
        let blob = self.allocate(len);
        write(self.block_mut(blob, len), name, data);
        blob
    }

    /// Name and data.
    pub(super) fn get(&self, blob: Blob) -> (&[u8], Option<&[u8]>) {
        parse(self.block(blob))
    }

    pub(super) fn name(&self, blob: Blob) -> &[u8] {
        self.get(blob).0
    }

    /// Replaces the data, in place if the size allows. The old reference is no longer valid.
    pub(super) fn replace(&mut self, blob: Blob, data: Option<&[u8]>) -> Blob {
        let name = self.name(blob);
        let len = block_len(name, data);
        let class = class_of(len);
        if class.is_some() && class == self.class(blob) {
            let name_end = len - data.map_or(0, <[u8]>::len);
            let block = self.block_mut(blob, len);
            block[0] = (block.len() - len) as u8 | if data.is_none() { NULL_DATA } else { 0 };
            if let Some(data) = data {
                block[name_end..len].copy_from_slice(data);
            }
            return blob;
        }
        let name = name.to_vec();
        self.release(blob);
        self.insert(&name, data)
    }

    /// Frees the block.
    pub(super) fn release(&mut self, blob: Blob) {
        if blob.0 & LARGE != 0 {
            let index = blob.0 & !LARGE;
            self.large[index as usize] = Box::default();
            self.free_large.push(index);
            return;
        }
        let (index, block) = (blob.0 >> BLOCK_BITS, blob.0 & ((1 << BLOCK_BITS) - 1));
        let page = &mut self.pages[index as usize];
        let start = block as usize * block_size(page.class.into());
        page.bytes[start..start + 2].copy_from_slice(&page.free.to_le_bytes());
        page.free = block as u16;
        page.used -= 1;
        let (class, empty) = (page.class as usize, page.used == 0);
        if page.listed == NOT_LISTED {
            page.listed = self.open[class].len() as u32;
            self.open[class].push(index);
        }
        // One page with room stays, so that a lone node does not allocate a page per change.
        if empty && self.open[class].len() > 1 {
            self.unlist(index);
            self.pages[index as usize].bytes = Box::default();
            self.free_pages.push(index);
        }
    }

    fn class(&self, blob: Blob) -> Option<usize> {
        (blob.0 & LARGE == 0).then(|| self.pages[(blob.0 >> BLOCK_BITS) as usize].class as usize)
    }

    fn block(&self, blob: Blob) -> &[u8] {
        if blob.0 & LARGE != 0 {
            return &self.large[(blob.0 & !LARGE) as usize];
        }
        let page = &self.pages[(blob.0 >> BLOCK_BITS) as usize];
        let size = block_size(page.class.into());
        let start = (blob.0 & ((1 << BLOCK_BITS) - 1)) as usize * size;
        &page.bytes[start..start + size]
    }

    /// The block to write `len` bytes into.
    fn block_mut(&mut self, blob: Blob, len: usize) -> &mut [u8] {
        if blob.0 & LARGE != 0 {
            return &mut self.large[(blob.0 & !LARGE) as usize][..len];
        }
        let page = &mut self.pages[(blob.0 >> BLOCK_BITS) as usize];
        let size = block_size(page.class.into());
        let start = (blob.0 & ((1 << BLOCK_BITS) - 1)) as usize * size;
        &mut page.bytes[start..start + size]
    }

    fn allocate(&mut self, len: usize) -> Blob {
        let Some(class) = class_of(len) else { return self.allocate_large(len) };
        let index = match self.open[class].last() {
            Some(index) => *index,
            None => match self.open_page(class) {
                Some(index) => index,
                None => return self.allocate_large(len),
            },
        };
        let page = &mut self.pages[index as usize];
        let size = block_size(class);
        let block = match page.free {
            NO_BLOCK => {
                page.touched += 1;
                page.touched - 1
            }
            block => {
                let start = block as usize * size;
                page.free = u16::from_le_bytes([page.bytes[start], page.bytes[start + 1]]);
                block
            }
        };
        page.used += 1;
        if page.used as usize == PAGE / size {
            self.unlist(index);
        }
        Blob(index << BLOCK_BITS | u32::from(block))
    }

    fn allocate_large(&mut self, len: usize) -> Blob {
        let bytes = vec![0; len].into_boxed_slice();
        let index = match self.free_large.pop() {
            Some(index) => {
                self.large[index as usize] = bytes;
                index
            }
            None => {
                self.large.push(bytes);
                self.large.len() as u32 - 1
            }
        };
        assert!(index < LARGE - 1, "fewer than 2^31 - 1 large blocks");
        Blob(index | LARGE)
    }

    /// A new page for a class, or `None` if all page numbers are taken.
    fn open_page(&mut self, class: usize) -> Option<u32> {
        let size = block_size(class);
        let page = Page {
            bytes: vec![0; PAGE / size * size].into_boxed_slice(),
            class: class as u8,
            used: 0,
            touched: 0,
            free: NO_BLOCK,
            listed: self.open[class].len() as u32,
        };
        let index = match self.free_pages.pop() {
            Some(index) => {
                self.pages[index as usize] = page;
                index
            }
            None if self.pages.len() < MAX_PAGES => {
                self.pages.push(page);
                self.pages.len() as u32 - 1
            }
            None => return None,
        };
        self.open[class].push(index);
        Some(index)
    }

    /// Takes a page off the list of those with room.
    fn unlist(&mut self, index: u32) {
        let page = &mut self.pages[index as usize];
        let (class, at) = (page.class as usize, page.listed as usize);
        page.listed = NOT_LISTED;
        self.open[class].swap_remove(at);
        if let Some(&moved) = self.open[class].get(at) {
            self.pages[moved as usize].listed = at as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_its_sizes_with_little_slack() {
        for len in 0..=MAX_BLOCK {
            let class = class_of(len).unwrap();
            assert!(class < CLASSES && block_size(class) >= len);
            assert!(class == 0 || block_size(class - 1) < len);
            assert!(block_size(class) - len < 128 && PAGE / block_size(class) <= 1 << BLOCK_BITS);
        }
        assert_eq!(class_of(MAX_BLOCK + 1), None);
    }

    #[test]
    fn blocks_of_every_size_keep_name_and_data_through_changes() {
        let mut blobs = Blobs::new();
        let text = |n: usize| -> Vec<u8> { (0..n).map(|i| (i * 7 + n) as u8).collect() };
        let sizes = [0, 1, 5, 100, 253, 254, 255, 256, 700, 1100, 5000];
        let mut kept = Vec::new();
        for name in sizes {
            for data in sizes {
                let (name, data) = (text(name), (data != 1).then(|| text(data)));
                kept.push((blobs.insert(&name, data.as_deref()), name, data));
            }
        }
        for round in 0..3 {
            for (index, (blob, _, data)) in kept.iter_mut().enumerate() {
                *data =
                    ((index + round) % 4 != 0).then(|| text(sizes[(index + round) % sizes.len()]));
                *blob = blobs.replace(*blob, data.as_deref());
            }
            for (blob, name, data) in &kept {
                assert_eq!(blobs.get(*blob), (&name[..], data.as_deref()));
            }
        }
        for (blob, ..) in kept {
            blobs.release(blob);
        }
        let held = blobs.pages.iter().filter(|page| !page.bytes.is_empty()).count();
        assert!(held <= CLASSES, "{held} empty pages held");
        assert!(blobs.pages.iter().all(|page| page.used == 0));
    }

    #[test]
    fn a_freed_page_serves_another_size() {
        let mut blobs = Blobs::new();
        let all: Vec<Blob> = (0..10_000).map(|_| blobs.insert(b"n", Some(&[0; 100]))).collect();
        let pages = blobs.pages.len();
        for blob in all {
            blobs.release(blob);
        }
        for _ in 0..4_000 {
            blobs.insert(b"n", Some(&[0; 200]));
        }
        assert_eq!(blobs.pages.len(), pages);
    }
}
