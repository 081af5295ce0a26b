//! The disk of a running server: two directories of the file system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::direct_file::DirectFile;
use crate::disk::{Disk, DiskError, DiskFile, Place};
use crate::error::StorageError;

/// Name of the lock file. Apache looks at no such name.
const LOCK: &str = ".oxkeeper.lock";
/// The directory of all data below dataDir and dataLogDir.
const VERSION: &str = "version-2";

/// A pair of directories, locked for this process as long as a clone exists.
#[derive(Clone, Debug)]
pub struct RealDisk(Arc<Directories>);

#[derive(Debug)]
struct Directories {
    snapshots: PathBuf,
    logs: PathBuf,
    log_parent: PathBuf,
    one_directory: bool,
    /// Held, never read: closing releases the locks.
    _locks: Vec<File>,
}

impl RealDisk {
    /// Opens `data_dir` and `log_dir` (the configured ones, without `version-2`) and locks them.
    ///
    /// Missing directories are created if `autocreate`. Not a directory, not writable, or in use by
    /// another server: [`StorageError::Directory`], exit code 3.
    pub fn open(data_dir: &Path, log_dir: &Path, autocreate: bool) -> Result<Self, StorageError> {
        for parent in [log_dir, data_dir] {
            prepare(&parent.join(VERSION), autocreate)?;
        }
        Self::with_locks(data_dir, log_dir, true)
    }

    /// Opens existing directories for looking only: creates nothing and takes no lock.
    pub fn open_unlocked(data_dir: &Path, log_dir: &Path) -> Result<Self, StorageError> {
        for parent in [log_dir, data_dir] {
            check_directory(&parent.join(VERSION))?;
        }
        Self::with_locks(data_dir, log_dir, false)
    }

    fn with_locks(data_dir: &Path, log_dir: &Path, lock: bool) -> Result<Self, StorageError> {
        let (snapshots, logs) = (data_dir.join(VERSION), log_dir.join(VERSION));
        let one_directory = match (snapshots.canonicalize(), logs.canonicalize()) {
            (Ok(snapshots), Ok(logs)) => snapshots == logs,
            _ => snapshots == logs,
        };
        let mut locks = Vec::new();
        if lock {
            locks.push(take_lock(&snapshots)?);
            if !one_directory {
                locks.push(take_lock(&logs)?);
            }
        }
        Ok(RealDisk(Arc::new(Directories {
            snapshots,
            logs,
            log_parent: log_dir.to_owned(),
            one_directory,
            _locks: locks,
        })))
    }

    fn directory(&self, place: Place) -> &Path {
        match place {
            Place::Snapshots => &self.0.snapshots,
            Place::Logs => &self.0.logs,
        }
    }

    fn open_with(
        &self,
        op: &'static str,
        place: Place,
        name: &str,
        options: &OpenOptions,
    ) -> Result<RealFile, DiskError> {
        let path = self.directory(place).join(name);
        let label = path.display().to_string();
        match options.open(&path) {
            Ok(file) => Ok(RealFile { file, direct: None, path: label }),
            Err(error) => Err(DiskError::new(op, label, error)),
        }
    }
}

fn unusable(path: &Path, reason: impl Into<String>) -> StorageError {
    StorageError::Directory { path: path.display().to_string(), reason: reason.into() }
}

fn check_directory(directory: &Path) -> Result<(), StorageError> {
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(unusable(directory, "is not a directory; dataDir and dataLogDir must be")),
        Err(error) => Err(unusable(directory, format!("cannot be opened: {error}"))),
    }
}

/// Makes sure that `directory` exists and can be written.
fn prepare(directory: &Path, autocreate: bool) -> Result<(), StorageError> {
    if let Err(error) = fs::metadata(directory)
        && error.kind() == io::ErrorKind::NotFound
    {
        if !autocreate {
            return Err(unusable(
                directory,
                "does not exist and zookeeper.datadir.autocreate=false; create it",
            ));
        }
        create_durably(directory)?;
    }
    check_directory(directory)
}

/// Creates `directory` and its missing parents, each one's name synced into its parent.
fn create_durably(directory: &Path) -> Result<(), StorageError> {
    if directory.as_os_str().is_empty() || directory.is_dir() {
        return Ok(());
    }
    let parent = directory.parent().unwrap_or(Path::new("/"));
    create_durably(parent)?;
    let failed = |error| unusable(directory, format!("cannot be created: {error}"));
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        result => result.map_err(failed)?,
    }
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
}

fn take_lock(directory: &Path) -> Result<File, StorageError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| unusable(directory, format!("is not writable: {error}")))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(unusable(
            directory,
            "is in use by another Oxkeeper process; stop it first, or give this server a dataDir of its own",
        )),
        Err(error) => Err(unusable(&path, format!("cannot be locked: {error}"))),
    }
}

/// More than this takes longer to give back than a write should wait, in bytes.
const LARGE: u64 = 16 << 20;

fn is_large(file: &fs::File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() > LARGE)
}

impl Disk for RealDisk {
    type File = RealFile;

    fn one_directory(&self) -> bool {
        self.0.one_directory
    }

    fn path(&self, place: Place, name: &str) -> String {
        self.directory(place).join(name).display().to_string()
    }

    fn list(&self, place: Place) -> Result<Vec<String>, DiskError> {
        let directory = self.directory(place);
        let failed = |error| DiskError::new("list", directory.display().to_string(), error);
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, place: Place, name: &str) -> Result<RealFile, DiskError> {
        self.open_with("open", place, name, OpenOptions::new().read(true))
    }

    fn open_for_write(&self, place: Place, name: &str) -> Result<RealFile, DiskError> {
        self.open_with("open for writing", place, name, OpenOptions::new().read(true).write(true))
    }

    fn create(&self, place: Place, name: &str) -> Result<RealFile, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let mut file = self.open_with("create", place, name, &options)?;
        let durable = place == Place::Logs;
        file.direct = DirectFile::open(&self.directory(place).join(name), durable).map(Mutex::new);
        Ok(file)
    }

    fn rename(&self, place: Place, from: &str, to: &str) -> Result<(), DiskError> {
        let directory = self.directory(place);
        fs::rename(directory.join(from), directory.join(to))
            .map_err(|error| DiskError::new("rename", self.path(place, from), error))
    }

    fn remove(&self, place: Place, name: &str) -> Result<(), DiskError> {
        let path = self.directory(place).join(name);
        // The file system gives the blocks of a large file back when its last handle is closed, which takes
        // a while: elsewhere. Without a thread for it, here.
        let large = fs::File::open(&path).ok().filter(is_large);
        fs::remove_file(&path)
            .map_err(|error| DiskError::new("remove", self.path(place, name), error))?;
        if let Some(file) = large {
            let _ = std::thread::Builder::new().name("unlink".to_owned()).spawn(|| drop(file));
        }
        Ok(())
    }

    fn sync_dir(&self, place: Place) -> Result<(), DiskError> {
        sync_directory(self.directory(place))
    }

    fn take_initialize(&self) -> Result<bool, DiskError> {
        let path = self.0.log_parent.join("initialize");
        match fs::remove_file(&path) {
            Ok(()) => sync_directory(&self.0.log_parent).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(DiskError::new("remove", path.display().to_string(), error)),
        }
    }
}

fn sync_directory(directory: &Path) -> Result<(), DiskError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| DiskError::new("sync directory", directory.display().to_string(), error))
}

/// An open file of a [`RealDisk`].
#[derive(Debug)]
pub struct RealFile {
    file: File,
    /// Of a created file; in the log's place with durable writes. One thread writes, the lock is free.
    direct: Option<Mutex<DirectFile>>,
    path: String,
}

impl RealFile {
    fn failed(&self, op: &'static str) -> impl FnOnce(io::Error) -> DiskError {
        let path = self.path.clone();
        move |error| DiskError::new(op, path, error)
    }

    /// False: not possible here, and nothing was done.
    fn write_directly(&self, bytes: &[u8], offset: u64) -> Result<bool, DiskError> {
        let Some(direct) = &self.direct else { return Ok(false) };
        let mut direct = direct.lock().unwrap_or_else(PoisonError::into_inner);
        direct.write(&self.file, bytes, offset).map_err(self.failed("write"))
    }
}

impl DiskFile for RealFile {
    fn path(&self) -> &str {
        &self.path
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.file.metadata().map(|found| found.len()).map_err(self.failed("read the length of"))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let mut read = 0;
        while read < buf.len() {
            match self.file.read_at(&mut buf[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(len) => read += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed("read")(error)),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.file.write_all_at(bytes, offset).map_err(self.failed("write"))
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.file.set_len(len).map_err(self.failed("set the length of"))
    }

    fn sync(&self) -> Result<Duration, DiskError> {
        let start = Instant::now();
        self.file.sync_data().map_err(self.failed("sync"))?;
        Ok(start.elapsed())
    }

    fn write_past_cache(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        if self.write_directly(bytes, offset)? {
            return Ok(());
        }
        self.write_at(bytes, offset)
    }

    fn append_durably(&self, bytes: &[u8], offset: u64) -> Result<Duration, DiskError> {
        let start = Instant::now();
        if self.write_directly(bytes, offset)? {
            return Ok(start.elapsed());
        }
        self.write_at(bytes, offset)?;
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_on_the_same_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = RealDisk::open(dir.path(), dir.path(), true).unwrap();
        let error = RealDisk::open(dir.path(), dir.path(), true).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("in use by another"), "{error}");
        drop(first);
        RealDisk::open(dir.path(), dir.path(), true).unwrap();
    }

    #[test]
    fn a_missing_directory_is_created_only_if_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let error = RealDisk::open(&data, &data, false).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        RealDisk::open(&data, &data, true).unwrap();
        assert!(data.join("version-2").is_dir());
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::write(&data, "").unwrap();
        let error = RealDisk::open(&data, &data, true).unwrap_err();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("data"), "{error}");
    }

    #[test]
    fn the_initialize_marker_is_looked_for_beside_the_logs() {
        let dir = tempfile::tempdir().unwrap();
        let (data, logs) = (dir.path().join("data"), dir.path().join("logs"));
        let disk = RealDisk::open(&data, &logs, true).unwrap();
        assert!(!disk.one_directory());
        fs::write(data.join("initialize"), "").unwrap();
        assert!(!disk.take_initialize().unwrap());
        fs::write(logs.join("initialize"), "").unwrap();
        assert!(disk.take_initialize().unwrap());
        assert!(!disk.take_initialize().unwrap());
    }
}
