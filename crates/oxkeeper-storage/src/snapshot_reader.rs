//! Reading snapshot files. Source: `docs/spec/storage-formats.md` 6.

use std::io::{self, Read};

use oxkeeper_proto::snapshot::{BodyDecoder, NodeRecord, SnapshotSink};
use oxkeeper_proto::{Acl, Decode, DecodeError, Reader, Zxid};
use simd_adler32::Adler32;

use crate::container::{Compression, GZIP_MAGIC, SNAPPY_MAGIC, Unpacker};
use crate::disk::{Disk, DiskError, DiskFile, Place, read_small};
use crate::error::{SnapshotProblem, StorageError};
use crate::names;
use crate::snapshot_writer::HEADER;

/// How much is read and decoded at once, in bytes.
const CHUNK: usize = 1 << 20;
/// Every valid uncompressed snapshot ends with these bytes.
const END: [u8; 5] = [0, 0, 0, 1, b'/'];
/// Length of a seal: checksum and the string "/".
const SEAL: usize = 13;
const LONG: usize = 8;
const DIGEST: usize = 20;
/// Longest tail after the first seal that is looked at: sections of old digest versions vary.
const TAIL_LIMIT: usize = 256;

/// Longest string or buffer that is believed when a snapshot is only checked: a window as long is
/// held in memory.
const WHOLE_LIMIT: usize = 256 << 20;

pub use oxkeeper_proto::snapshot::SnapshotDigest;

/// What a snapshot says besides its nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Name of the file; empty for a stream.
    pub name: String,
    /// From the name: every transaction up to here is contained.
    pub zxid: Zxid,
    /// Digest section, if there is one of a known version.
    pub digest: Option<SnapshotDigest>,
    /// Last zxid section, if there is one.
    pub last_zxid: Option<Zxid>,
    /// Length of the uncompressed stream.
    pub len: u64,
}

/// The snapshots of a directory, newest first.
pub fn snapshot_files<D: Disk>(disk: &D) -> Result<Vec<(Zxid, String)>, StorageError> {
    let mut files: Vec<(Zxid, String)> = disk
        .list(Place::Snapshots)?
        .into_iter()
        .filter_map(|name| names::snapshot_zxid(&name).map(|zxid| (zxid, name)))
        .collect();
    files.sort();
    files.reverse();
    Ok(files)
}

/// The quick check: whether a file may be a complete snapshot (6.3).
pub fn looks_valid<D: Disk>(disk: &D, name: &str) -> Result<bool, StorageError> {
    Ok(match Compression::of_name(name) {
        Compression::Gzip => read_small(disk, Place::Snapshots, name, 2)? == GZIP_MAGIC,
        Compression::Snappy => read_small(disk, Place::Snapshots, name, 8)? == SNAPPY_MAGIC,
        Compression::None => {
            let file = disk.open(Place::Snapshots, name)?;
            let (len, mut end) = (file.len()?, [0; END.len()]);
            len >= 10 && file.read_at(&mut end, len - END.len() as u64)? == END.len() && end == END
        }
    })
}

/// Reads the snapshot `name` into `sink` and checks all its seals. On an error `sink` may have
/// received any part of it and must be thrown away. `max_len`: longest string or buffer accepted.
pub fn read_snapshot<D: Disk>(
    disk: &D,
    name: &str,
    sink: &mut impl SnapshotSink,
    max_len: usize,
) -> Result<SnapshotInfo, StorageError> {
    let mut info = match read_file(disk, name, sink, max_len) {
        Err(error) => return Err(too_long_or(error, disk, name, max_len)?),
        Ok(info) => info,
    };
    info.name = name.to_owned();
    info.zxid = names::snapshot_zxid(name).unwrap_or_default();
    Ok(info)
}

fn read_file<D: Disk>(
    disk: &D,
    name: &str,
    sink: &mut impl SnapshotSink,
    max_len: usize,
) -> Result<SnapshotInfo, StorageError> {
    let source = FileSource { file: disk.open(Place::Snapshots, name)?, offset: 0 };
    let path = disk.path(Place::Snapshots, name);
    read_stream(Unpacker::new(Compression::of_name(name), source), &path, sink, max_len)
}

/// A length above the limit in a file that is otherwise whole is no damage: the file was written
/// under a greater limit.
fn too_long_or<D: Disk>(
    error: StorageError,
    disk: &D,
    name: &str,
    limit: usize,
) -> Result<StorageError, StorageError> {
    let StorageError::Snapshot {
        file,
        offset,
        problem: SnapshotProblem::Body(DecodeError::BadLength { len, .. }),
    } = &error
    else {
        return Ok(error);
    };
    let Some(len) = usize::try_from(*len).ok().filter(|len| limit < *len && *len <= WHOLE_LIMIT)
    else {
        return Ok(error);
    };
    match read_file(disk, name, &mut Nowhere, WHOLE_LIMIT) {
        Ok(_) => {
            let (file, offset) = (file.clone(), *offset);
            let problem = SnapshotProblem::TooLong { len, limit };
            Ok(StorageError::Snapshot { file, offset, problem })
        }
        Err(error @ StorageError::Disk(_)) => Err(error),
        Err(_) => Ok(error),
    }
}

/// Takes a snapshot that is only checked.
struct Nowhere;

impl SnapshotSink for Nowhere {
    fn session(&mut self, _: i64, _: i32) {}
    fn acl(&mut self, _: i64, _: Vec<Acl>) {}
    fn node(&mut self, _: NodeRecord<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// Reads an uncompressed snapshot stream with all its seals, as [`read_snapshot`] does; `label`
/// stands for the file in errors. Name and zxid of the result are empty.
pub fn read_stream(
    source: impl Read,
    label: &str,
    sink: &mut impl SnapshotSink,
    max_len: usize,
) -> Result<SnapshotInfo, StorageError> {
    let mut stream = Stream {
        source,
        label,
        buf: vec![0; CHUNK],
        start: 0,
        end: 0,
        offset: 0,
        ended: false,
        adler: Adler32::new(),
    };
    stream.header()?;
    stream.body(sink, max_len)?;
    stream.sections()
}

/// Reads a file front to back.
struct FileSource<F> {
    file: F,
    offset: u64,
}

impl<F: DiskFile> Read for FileSource<F> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.file.read_at(buf, self.offset).map_err(io::Error::other)?;
        self.offset += len as u64;
        Ok(len)
    }
}

/// The uncompressed bytes, a window of them in memory.
struct Stream<'a, R> {
    source: R,
    label: &'a str,
    /// `buf[start..end]` is read and not yet used.
    buf: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of `buf[start]` in the stream.
    offset: u64,
    ended: bool,
    /// Of all bytes used.
    adler: Adler32,
}

impl<R: Read> Stream<'_, R> {
    fn problem(&self, problem: SnapshotProblem) -> StorageError {
        StorageError::Snapshot { file: self.label.to_owned(), offset: self.offset, problem }
    }

    /// Reads more; the window grows if it is full. False at the end of the stream.
    fn more(&mut self) -> Result<bool, StorageError> {
        if self.ended {
            return Ok(false);
        }
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end > self.buf.len() / 2 {
            let size = self.buf.len() * 2;
            self.buf.resize(size, 0);
        }
        match self.source.read(&mut self.buf[self.end..]) {
            Ok(0) => self.ended = true,
            Ok(len) => self.end += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(self.read_error(error)),
        }
        Ok(!self.ended)
    }

    /// The disk's own error comes through the unpackers as it is; what else they say is about the
    /// bytes.
    fn read_error(&self, error: io::Error) -> StorageError {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<DiskError>()) {
            Some(error) => StorageError::Disk(error.clone()),
            None => self.problem(SnapshotProblem::Compressed(error.to_string())),
        }
    }

    /// Makes `len` bytes available, fewer only at the end of the stream.
    fn window(&mut self, len: usize) -> Result<&[u8], StorageError> {
        while self.end - self.start < len && self.more()? {}
        Ok(&self.buf[self.start..self.end.min(self.start + len)])
    }

    /// Counts `len` bytes of the window as used.
    fn advance(&mut self, len: usize) {
        self.adler.write(&self.buf[self.start..self.start + len]);
        self.start += len;
        self.offset += len as u64;
    }

    fn header(&mut self) -> Result<(), StorageError> {
        let window = self.window(HEADER.len())?;
        if window.len() < HEADER.len() {
            return Err(self.problem(SnapshotProblem::Cut));
        }
        // The dbid behind magic and version is not checked by any reader.
        if window[..8] != HEADER[..8] {
            let mut fields = Reader::new(window);
            let (magic, version) = (fields.int().unwrap_or(0) as u32, fields.int().unwrap_or(0));
            return Err(self.problem(SnapshotProblem::Header { magic, version }));
        }
        self.advance(HEADER.len());
        Ok(())
    }

    /// Decodes item by item; the checksum is taken over what a whole window held at once.
    fn body(&mut self, sink: &mut impl SnapshotSink, max_len: usize) -> Result<(), StorageError> {
        let mut decoder = BodyDecoder::new(max_len);
        loop {
            let mut used = 0;
            let result = feed(&mut decoder, &self.buf[self.start..self.end], &mut used, sink);
            self.advance(used);
            if result.map_err(|problem| self.problem(problem))? {
                return Ok(());
            }
            if !self.more()? {
                return Err(self.problem(SnapshotProblem::Cut));
            }
        }
    }

    /// Reads a seal and compares it with the bytes before.
    fn seal(&mut self) -> Result<(), StorageError> {
        let computed = self.adler.finish();
        let window = self.window(SEAL)?;
        if window.len() < SEAL {
            return Err(self.problem(SnapshotProblem::Cut));
        }
        let stored = Reader::new(window).long().unwrap_or(0) as u64;
        if stored != u64::from(computed) || window[8..] != END {
            return Err(self.problem(SnapshotProblem::Checksum { stored, computed }));
        }
        self.advance(SEAL);
        Ok(())
    }

    /// The first seal and what follows it, told apart by length (6.1).
    fn sections(mut self) -> Result<SnapshotInfo, StorageError> {
        self.seal()?;
        let len = self.window(TAIL_LIMIT)?.len();
        let (mut digest, mut last_zxid) = (None, None);
        const BOTH: usize = DIGEST + SEAL + LONG + SEAL;
        match len {
            0 => {}
            33 | BOTH => digest = self.digest_section()?,
            21 => {}
            // Digests of versions before 2 are strings: nothing there to compare with.
            34..TAIL_LIMIT if self.has_old_digest() => return self.into_info(None, None),
            _ => return Err(self.problem(SnapshotProblem::Sections { len })),
        }
        if len == 21 || len == BOTH {
            last_zxid = Some(self.last_zxid_section()?);
        }
        self.into_info(digest, last_zxid)
    }

    fn into_info(
        self,
        digest: Option<SnapshotDigest>,
        last_zxid: Option<Zxid>,
    ) -> Result<SnapshotInfo, StorageError> {
        let (name, zxid, len) = (String::new(), Zxid::ZERO, self.offset);
        Ok(SnapshotInfo { name, zxid, digest, last_zxid, len })
    }

    fn has_old_digest(&self) -> bool {
        let mut fields = Reader::new(&self.buf[self.start..self.end]);
        fields.long().is_ok() && fields.int().is_ok_and(|version| version < 2)
    }

    fn digest_section(&mut self) -> Result<Option<SnapshotDigest>, StorageError> {
        let mut fields = Reader::new(self.window(DIGEST)?);
        let fields = (i64::decode(&mut fields), fields.int(), fields.long());
        let (Ok(zxid), Ok(version), Ok(tree)) = fields else {
            return Err(self.problem(SnapshotProblem::Cut));
        };
        self.advance(DIGEST);
        self.seal()?;
        Ok((version == 2).then_some(SnapshotDigest { zxid: Zxid(zxid), version, tree }))
    }

    fn last_zxid_section(&mut self) -> Result<Zxid, StorageError> {
        let Ok(zxid) = Reader::new(self.window(LONG)?).long() else {
            return Err(self.problem(SnapshotProblem::Cut));
        };
        self.advance(LONG);
        self.seal()?;
        Ok(Zxid(zxid))
    }
}

/// Gives all complete items of `window` to `sink`; true at the end of the body. `used` counts their
/// bytes also if this fails.
fn feed(
    decoder: &mut BodyDecoder,
    window: &[u8],
    used: &mut usize,
    sink: &mut impl SnapshotSink,
) -> Result<bool, SnapshotProblem> {
    while let Some((item, len)) = decoder.next(&window[*used..]).map_err(SnapshotProblem::Body)? {
        // A node that the sink refuses is where the bytes used end.
        let ended = item.give(sink).map_err(SnapshotProblem::Node)?;
        *used += len;
        if ended {
            return Ok(true);
        }
    }
    Ok(false)
}
