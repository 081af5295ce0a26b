//! The compressed containers of snapshot files. Source: `docs/spec/storage-formats.md` 6.3.

use std::io::{self, Read, Write};

use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// How a snapshot file is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One gzip member.
    Gzip,
    /// A snappy-java stream.
    Snappy,
}

impl Compression {
    /// What a name with this compression ends in.
    pub fn extension(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Snappy => ".snappy",
        }
    }

    /// By a file's name, as Apache decides.
    pub fn of_name(name: &str) -> Compression {
        if name.ends_with(".gz") {
            Compression::Gzip
        } else if name.ends_with(".snappy") {
            Compression::Snappy
        } else {
            Compression::None
        }
    }

    /// By the value of `snapshot.compression.method`.
    pub fn of_setting(value: &str) -> Option<Compression> {
        match value {
            "" => Some(Compression::None),
            "gz" => Some(Compression::Gzip),
            "snappy" => Some(Compression::Snappy),
            _ => None,
        }
    }
}

/// First bytes of a gzip file.
pub const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// First bytes of a snappy-java stream; then two ints, both 1.
pub const SNAPPY_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Uncompressed size of a snappy-java block.
const SNAPPY_BLOCK: usize = 32 * 1024;
/// Largest compressed or uncompressed block that is accepted.
const SNAPPY_BLOCK_LIMIT: usize = 16 * 1024 * 1024;

/// Reads the uncompressed stream of a snapshot.
pub enum Unpacker<R> {
    /// As it is.
    Plain(R),
    /// gzip.
    Gzip(Box<GzDecoder<R>>),
    /// snappy-java.
    Snappy(SnappyReader<R>),
}

impl<R: Read> Unpacker<R> {
    /// Unpacks `source`.
    pub fn new(compression: Compression, source: R) -> Self {
        match compression {
            Compression::None => Unpacker::Plain(source),
            Compression::Gzip => Unpacker::Gzip(Box::new(GzDecoder::new(source))),
            Compression::Snappy => Unpacker::Snappy(SnappyReader::new(source)),
        }
    }
}

impl<R: Read> Read for Unpacker<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Unpacker::Plain(source) => source.read(buf),
            Unpacker::Gzip(source) => source.read(buf),
            Unpacker::Snappy(source) => source.read(buf),
        }
    }
}

/// Reads a snappy-java stream.
pub struct SnappyReader<R> {
    source: R,
    started: bool,
    packed: Vec<u8>,
    block: Vec<u8>,
    /// How much of `block` was given out.
    used: usize,
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl<R: Read> SnappyReader<R> {
    fn new(source: R) -> Self {
        SnappyReader { source, started: false, packed: Vec::new(), block: Vec::new(), used: 0 }
    }

    /// Loads the next block; false at the end of the stream.
    fn next_block(&mut self) -> io::Result<bool> {
        if !self.started {
            let mut header = [0; 16];
            self.source.read_exact(&mut header)?;
            if header[..8] != SNAPPY_MAGIC {
                return Err(damaged("not a snappy-java stream"));
            }
            self.started = true;
        }
        let mut len = [0; 4];
        if self.source.read(&mut len[..1])? == 0 {
            return Ok(false);
        }
        self.source.read_exact(&mut len[1..])?;
        let len = i32::from_be_bytes(len);
        if len <= 0 || len as usize > SNAPPY_BLOCK_LIMIT {
            return Err(damaged(format!("a snappy block claims {len} bytes")));
        }
        self.packed.resize(len as usize, 0);
        self.source.read_exact(&mut self.packed)?;
        let size = snap::raw::decompress_len(&self.packed).map_err(|e| damaged(e.to_string()))?;
        if size > SNAPPY_BLOCK_LIMIT {
            return Err(damaged(format!("a snappy block unpacks to {size} bytes")));
        }
        self.block.resize(size, 0);
        self.used = 0;
        snap::raw::Decoder::new()
            .decompress(&self.packed, &mut self.block)
            .map_err(|e| damaged(e.to_string()))?;
        Ok(true)
    }
}

impl<R: Read> Read for SnappyReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.used == self.block.len() {
            if !self.next_block()? {
                return Ok(0);
            }
        }
        let len = buf.len().min(self.block.len() - self.used);
        buf[..len].copy_from_slice(&self.block[self.used..self.used + len]);
        self.used += len;
        Ok(len)
    }
}

/// Packs an uncompressed stream into a vector that the caller drains.
pub enum Packer {
    /// As it is.
    Plain(Vec<u8>),
    /// gzip.
    Gzip(Box<GzEncoder<Vec<u8>>>),
    /// snappy-java.
    Snappy {
        /// Packed bytes.
        out: Vec<u8>,
        /// Unpacked bytes of the block being filled.
        block: Vec<u8>,
    },
}

impl Packer {
    /// An empty stream.
    pub fn new(compression: Compression) -> Self {
        match compression {
            Compression::None => Packer::Plain(Vec::new()),
            Compression::Gzip => {
                let level = flate2::Compression::fast();
                Packer::Gzip(Box::new(GzEncoder::new(Vec::new(), level)))
            }
            Compression::Snappy => {
                let mut out = SNAPPY_MAGIC.to_vec();
                out.extend([0, 0, 0, 1, 0, 0, 0, 1]);
                Packer::Snappy { out, block: Vec::with_capacity(SNAPPY_BLOCK) }
            }
        }
    }

    /// Adds bytes of the uncompressed stream.
    pub fn push(&mut self, mut bytes: &[u8]) {
        match self {
            Packer::Plain(out) => out.extend_from_slice(bytes),
            Packer::Gzip(encoder) => {
                encoder.write_all(bytes).expect("packing into memory does not fail");
            }
            Packer::Snappy { out, block } => {
                while !bytes.is_empty() {
                    let len = bytes.len().min(SNAPPY_BLOCK - block.len());
                    block.extend_from_slice(&bytes[..len]);
                    bytes = &bytes[len..];
                    if block.len() == SNAPPY_BLOCK {
                        put_snappy_block(out, block);
                    }
                }
            }
        }
    }

    /// Ends the stream: everything pushed is in [`Packer::packed`] afterwards.
    pub fn finish(&mut self) {
        match self {
            Packer::Plain(_) => {}
            Packer::Gzip(encoder) => {
                encoder.try_finish().expect("packing into memory does not fail");
            }
            Packer::Snappy { out, block } => {
                if !block.is_empty() {
                    put_snappy_block(out, block);
                }
            }
        }
    }

    /// Packed bytes not yet taken. The caller writes and clears them.
    pub fn packed(&mut self) -> &mut Vec<u8> {
        match self {
            Packer::Plain(out) | Packer::Snappy { out, .. } => out,
            Packer::Gzip(encoder) => encoder.get_mut(),
        }
    }
}

fn put_snappy_block(out: &mut Vec<u8>, block: &mut Vec<u8>) {
    let packed = snap::raw::Encoder::new().compress_vec(block).expect("a block of 32 KiB packs");
    out.extend_from_slice(&(packed.len() as i32).to_be_bytes());
    out.extend_from_slice(&packed);
    block.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_gives_back_what_was_packed() {
        let stream: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7).to_be_bytes()).collect();
        for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
            let mut packer = Packer::new(compression);
            for part in stream.chunks(10_007) {
                packer.push(part);
            }
            packer.finish();
            let packed = std::mem::take(packer.packed());
            let mut unpacked = Vec::new();
            Unpacker::new(compression, &packed[..]).read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, stream, "{compression:?}");
            let mut ignored = Vec::new();
            let cut = &packed[..packed.len() - 3];
            let result = Unpacker::new(compression, cut).read_to_end(&mut ignored);
            assert_eq!(result.is_err(), compression != Compression::None);
        }
    }
}
