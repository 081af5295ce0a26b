//! The few file operations that log, snapshots and epoch files need.
//!
//! Nothing is durable by itself: a file's bytes are after [`DiskFile::sync`], a created, renamed or
//! removed name after [`Disk::sync_dir`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Which of the two directories a file is in. They may be the same directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `dataDir/version-2`: snapshots and epoch files.
    Snapshots,
    /// `dataLogDir/version-2`: transaction logs.
    Logs,
}

/// A file operation that failed. Always names the path.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {op} {path}: {source}")]
pub struct DiskError {
    /// What was tried, as a verb.
    pub op: &'static str,
    /// The file or directory.
    pub path: String,
    /// Why it failed.
    pub source: Arc<io::Error>,
}

impl DiskError {
    /// An error of `op` on `path`.
    pub fn new(op: &'static str, path: impl Into<String>, source: io::Error) -> Self {
        DiskError { op, path: path.into(), source: Arc::new(source) }
    }

    /// Whether the file does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// An open file. Reading and writing are by offset, so one handle serves both.
pub trait DiskFile: Send {
    /// Where the file is, for messages.
    fn path(&self) -> &str;
    /// Length in bytes.
    fn len(&self) -> Result<u64, DiskError>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> Result<bool, DiskError> {
        self.len().map(|len| len == 0)
    }
    /// Fills `buf` from `offset`, less at the end of the file. Returns how many bytes were read.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, DiskError>;
    /// Writes all of `bytes` at `offset`, growing the file if needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError>;
    /// Cuts or extends (with zeros) to `len`.
    fn set_len(&self, len: u64) -> Result<(), DiskError>;
    /// Makes the bytes and the length durable (fdatasync). Returns how long that took.
    fn sync(&self) -> Result<Duration, DiskError>;
    /// Writes all of `bytes` at `offset`, at once to the disk if the file was made for that (snapshots).
    /// Not durable before [`DiskFile::sync`]. Nothing of value may lie behind them: zeros may be written
    /// there, for at most 4 KiB, also beyond the end of the file.
    fn write_past_cache(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.write_at(bytes, offset)
    }
    /// Writes all of `bytes` at `offset` and makes them durable. Nothing of value may lie behind them:
    /// zeros may be written there, for at most 4 KiB. Returns how long the disk took.
    fn append_durably(&self, bytes: &[u8], offset: u64) -> Result<Duration, DiskError> {
        self.write_at(bytes, offset)?;
        self.sync()
    }
}

/// A directory pair. Cheap to clone; clones are the same disk.
pub trait Disk: Clone {
    /// An open file of this disk.
    type File: DiskFile;

    /// Whether both places are one directory.
    fn one_directory(&self) -> bool;
    /// The path of a file, for messages.
    fn path(&self, place: Place, name: &str) -> String;
    /// All file names of a directory, in byte order.
    fn list(&self, place: Place) -> Result<Vec<String>, DiskError>;
    /// Opens an existing file for reading.
    fn open(&self, place: Place, name: &str) -> Result<Self::File, DiskError>;
    /// Opens an existing file for reading and writing.
    fn open_for_write(&self, place: Place, name: &str) -> Result<Self::File, DiskError>;
    /// Creates a file, or empties an existing one.
    fn create(&self, place: Place, name: &str) -> Result<Self::File, DiskError>;
    /// Renames within a directory, replacing `to`.
    fn rename(&self, place: Place, from: &str, to: &str) -> Result<(), DiskError>;
    /// Removes a file.
    fn remove(&self, place: Place, name: &str) -> Result<(), DiskError>;
    /// Makes all earlier changes of a directory's names durable.
    fn sync_dir(&self, place: Place) -> Result<(), DiskError>;
    /// Removes the `initialize` marker beside the log directory; says whether it was there.
    fn take_initialize(&self) -> Result<bool, DiskError>;
}

/// Writes a small file so that after a crash it is either the old or the new one: temporary name,
/// sync, rename, directory sync.
pub fn write_atomically<D: Disk>(
    disk: &D,
    place: Place,
    name: &str,
    bytes: &[u8],
) -> Result<(), DiskError> {
    let temporary = format!("{name}.tmp");
    let file = disk.create(place, &temporary)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    disk.rename(place, &temporary, name)?;
    disk.sync_dir(place)
}

/// The whole of a small file; at most `limit` bytes of it.
pub fn read_small<D: Disk>(
    disk: &D,
    place: Place,
    name: &str,
    limit: usize,
) -> Result<Vec<u8>, DiskError> {
    let file = disk.open(place, name)?;
    let mut bytes = vec![0; limit];
    let len = file.read_at(&mut bytes, 0)?;
    bytes.truncate(len);
    Ok(bytes)
}
