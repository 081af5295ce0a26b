//! Writing snapshot files. Source: `docs/spec/storage-formats.md` 6.

use oxkeeper_proto::Zxid;
use oxkeeper_proto::jute::{put_int, put_long, put_string};
use simd_adler32::Adler32;

use crate::container::{Compression, Packer};
use crate::disk::{Disk, DiskError, DiskFile, Place};
use crate::error::StorageError;
use crate::names;
use crate::snapshot_reader::SnapshotDigest;

/// First 16 bytes of the stream: "ZKSN", version 2, dbid -1.
pub const HEADER: [u8; 16] = *b"ZKSN\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff";
/// Packed bytes are written in pieces of about this size.
const WRITE_SIZE: usize = 256 << 10;
/// So many bytes are written between two syncs. Where they go through the page cache, the kernel would
/// otherwise write the whole snapshot at once at the end, and the log's own syncs would wait behind it.
const SYNC_EVERY: u64 = 8 << 20;

/// What follows the nodes, by setting (6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sections {
    /// With `digest.enabled`: the digest, and the zxid after which the tree had it.
    pub digest: Option<SnapshotDigest>,
    /// With `serializeLastProcessedZxid.enabled`: last zxid applied when writing ended. Never
    /// without a digest in a file that Apache may read.
    pub last_zxid: Option<Zxid>,
}

/// Writes one snapshot under a temporary name and gives it its name when it is complete and durable.
/// Dropped before [`SnapshotWriter::finish`], it leaves nothing.
pub struct SnapshotWriter<D: Disk> {
    disk: D,
    zxid: Zxid,
    compression: Compression,
    file: Option<D::File>,
    temporary: String,
    adler: Adler32,
    packer: Packer,
    written: u64,
    synced: u64,
}

impl<D: Disk> SnapshotWriter<D> {
    /// Starts a snapshot of the state after `zxid`: the last zxid applied when the caller *begins*
    /// to serialize.
    pub fn create(disk: D, zxid: Zxid, compression: Compression) -> Result<Self, StorageError> {
        Self::create_as(names::TEMPORARY, disk, zxid, compression)
    }

    /// As [`SnapshotWriter::create`], for a state that came from the leader and will be
    /// [adopted](crate::TxnLog::adopt). May run beside a periodic snapshot of the same zxid.
    pub fn create_adopted(
        disk: D,
        zxid: Zxid,
        compression: Compression,
    ) -> Result<Self, StorageError> {
        Self::create_as(names::TEMPORARY_ADOPTED, disk, zxid, compression)
    }

    fn create_as(
        prefix: &str,
        disk: D,
        zxid: Zxid,
        compression: Compression,
    ) -> Result<Self, StorageError> {
        assert!(Zxid::ZERO <= zxid, "a state that never was synced has no snapshot");
        let temporary = format!("{prefix}{}", names::snapshot(zxid, compression));
        let file =
            disk.create(Place::Snapshots, &temporary).map_err(StorageError::SnapshotWrite)?;
        let mut writer = SnapshotWriter {
            disk,
            zxid,
            compression,
            file: Some(file),
            temporary,
            adler: Adler32::new(),
            packer: Packer::new(compression),
            written: 0,
            synced: 0,
        };
        writer.write(&HEADER)?;
        Ok(writer)
    }

    /// Adds bytes of the body (`oxkeeper_proto::snapshot`), in any pieces.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.adler.write(bytes);
        self.packer.push(bytes);
        if self.packer.packed().len() >= WRITE_SIZE {
            self.flush().map_err(StorageError::SnapshotWrite)?;
        }
        Ok(())
    }

    /// Seals the body, adds the sections, makes the file durable and visible. Returns its name.
    pub fn finish(self, sections: &Sections) -> Result<String, StorageError> {
        self.complete(sections)?.publish()
    }

    /// Seals the body, adds the sections and makes the file durable, but does not name it yet.
    pub fn complete(mut self, sections: &Sections) -> Result<CompleteSnapshot<D>, StorageError> {
        self.seal()?;
        if let Some(digest) = sections.digest {
            let mut section = Vec::with_capacity(20);
            put_long(&mut section, digest.zxid.0);
            put_int(&mut section, digest.version);
            put_long(&mut section, digest.tree);
            self.write(&section)?;
            self.seal()?;
        }
        if let Some(last) = sections.last_zxid {
            self.write(&last.0.to_be_bytes())?;
            self.seal()?;
        }
        self.packer.finish();
        self.flush().map_err(StorageError::SnapshotWrite)?;
        if let Some(file) = &self.file {
            // The last write may have made it a little longer.
            file.set_len(self.written).map_err(StorageError::SnapshotWrite)?;
            file.sync().map_err(StorageError::SnapshotWrite)?;
        }
        Ok(CompleteSnapshot(self))
    }

    fn seal(&mut self) -> Result<(), StorageError> {
        let mut seal = Vec::with_capacity(13);
        put_long(&mut seal, self.adler.finish().into());
        put_string(&mut seal, "/");
        self.write(&seal)
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let Some(file) = &self.file else { return Ok(()) };
        let packed = self.packer.packed();
        file.write_past_cache(packed, self.written)?;
        self.written += packed.len() as u64;
        packed.clear();
        if self.written - self.synced >= SYNC_EVERY {
            file.sync()?;
            self.synced = self.written;
        }
        Ok(())
    }

    fn publish(&mut self) -> Result<String, DiskError> {
        let name = names::snapshot(self.zxid, self.compression);
        self.disk.rename(Place::Snapshots, &self.temporary, &name)?;
        self.file = None;
        self.disk.sync_dir(Place::Snapshots)?;
        Ok(name)
    }
}

/// Length and last bytes of a snapshot file. The last bytes hold a checksum of all others, in every
/// container: what differs in them is another snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(String);

impl Stamp {
    pub fn of<F: DiskFile>(file: &F) -> Result<Stamp, DiskError> {
        let (len, mut end) = (file.len()?, [0; 24]);
        let read = file.read_at(&mut end, len.saturating_sub(24))?;
        Ok(Stamp(format!("{len} {:08x}", crc32fast::hash(&end[..read]))))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A durable snapshot without its name: no start would look at it yet. Dropped, it leaves nothing.
pub struct CompleteSnapshot<D: Disk>(SnapshotWriter<D>);

impl<D: Disk> std::fmt::Debug for CompleteSnapshot<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "snapshot of {}", self.0.zxid)
    }
}

impl<D: Disk> CompleteSnapshot<D> {
    /// Names it. Everything that it may contain must be in the log by now. Returns the name.
    pub fn publish(mut self) -> Result<String, StorageError> {
        self.0.publish().map_err(StorageError::SnapshotWrite)
    }

    /// The zxid in its name.
    pub fn zxid(&self) -> Zxid {
        self.0.zxid
    }

    /// The name it will have.
    pub(crate) fn name(&self) -> String {
        names::snapshot(self.0.zxid, self.0.compression)
    }

    /// What tells this file from another one of its name.
    pub(crate) fn stamp(&self) -> Result<Stamp, DiskError> {
        self.0.file.as_ref().map_or_else(|| Ok(Stamp::default()), Stamp::of)
    }
}

impl<D: Disk> Drop for SnapshotWriter<D> {
    fn drop(&mut self) {
        // Best effort: a leftover is removed at the next start, and nobody reads it.
        if self.file.take().is_some() {
            let _ = self.disk.remove(Place::Snapshots, &self.temporary);
        }
    }
}
