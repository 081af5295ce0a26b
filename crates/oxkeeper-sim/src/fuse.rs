//! A disk with a fuse: after a number of operations the power is lost, in the middle of whatever the
//! storage was doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use oxkeeper_storage::{Disk, DiskError, DiskFile, MemDisk, Place};

/// A [`MemDisk`] whose changes can be cut off after any operation. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct FuseDisk {
    /// The disk itself.
    pub mem: MemDisk,
    fuse: Arc<Fuse>,
}

#[derive(Debug, Default)]
struct Fuse {
    /// Operations left; 0: no fuse set.
    left: AtomicU64,
    blown: AtomicBool,
}

impl Fuse {
    fn spend(&self, op: &'static str, path: &str) -> Result<(), DiskError> {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            if left == 1 {
                self.blown.store(true, Ordering::Relaxed);
            }
        }
        if self.blown.load(Ordering::Relaxed) {
            return Err(DiskError::new(op, path, std::io::Error::other("the power is lost")));
        }
        Ok(())
    }
}

impl FuseDisk {
    /// An empty disk without a fuse.
    pub fn new(name: &str) -> FuseDisk {
        FuseDisk { mem: MemDisk::new(name), fuse: Arc::default() }
    }

    /// The power goes at the `nth` change from now (1: the next one). 0: never.
    pub fn set_fuse(&self, nth: u64) {
        self.fuse.left.store(nth, Ordering::Relaxed);
    }

    /// Has the power gone?
    pub fn is_blown(&self) -> bool {
        self.fuse.blown.load(Ordering::Relaxed)
    }

    /// Power is back, no fuse.
    pub fn repair(&self) {
        self.fuse.left.store(0, Ordering::Relaxed);
        self.fuse.blown.store(false, Ordering::Relaxed);
    }
}

/// An open file of a [`FuseDisk`].
#[derive(Debug)]
pub struct FuseFile<F> {
    file: F,
    fuse: Arc<Fuse>,
}

impl<F: DiskFile> DiskFile for FuseFile<F> {
    fn path(&self) -> &str {
        self.file.path()
    }
    fn len(&self) -> Result<u64, DiskError> {
        self.file.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        // Written first: the crash tears what was not synced.
        if !self.fuse.blown.load(Ordering::Relaxed) {
            self.file.write_at(bytes, offset)?;
        }
        self.fuse.spend("write", self.file.path())
    }
    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.fuse.spend("cut", self.file.path())?;
        self.file.set_len(len)
    }
    fn sync(&self) -> Result<Duration, DiskError> {
        self.fuse.spend("sync", self.file.path())?;
        self.file.sync()
    }
}

impl Disk for FuseDisk {
    type File = FuseFile<<MemDisk as Disk>::File>;

    fn one_directory(&self) -> bool {
        self.mem.one_directory()
    }
    fn path(&self, place: Place, name: &str) -> String {
        self.mem.path(place, name)
    }
    fn list(&self, place: Place) -> Result<Vec<String>, DiskError> {
        self.mem.list(place)
    }
    fn open(&self, place: Place, name: &str) -> Result<Self::File, DiskError> {
        Ok(FuseFile { file: self.mem.open(place, name)?, fuse: self.fuse.clone() })
    }
    fn open_for_write(&self, place: Place, name: &str) -> Result<Self::File, DiskError> {
        Ok(FuseFile { file: self.mem.open_for_write(place, name)?, fuse: self.fuse.clone() })
    }
    fn create(&self, place: Place, name: &str) -> Result<Self::File, DiskError> {
        self.fuse.spend("create", name)?;
        Ok(FuseFile { file: self.mem.create(place, name)?, fuse: self.fuse.clone() })
    }
    fn rename(&self, place: Place, from: &str, to: &str) -> Result<(), DiskError> {
        self.fuse.spend("rename", from)?;
        self.mem.rename(place, from, to)
    }
    fn remove(&self, place: Place, name: &str) -> Result<(), DiskError> {
        self.fuse.spend("remove", name)?;
        self.mem.remove(place, name)
    }
    fn sync_dir(&self, place: Place) -> Result<(), DiskError> {
        self.fuse.spend("sync directory", "")?;
        self.mem.sync_dir(place)
    }
    fn take_initialize(&self) -> Result<bool, DiskError> {
        self.mem.take_initialize()
    }
}
