//! A disk with a fuse: after a number of operations the power is lost, in the middle of whatever the
//! storage was doing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oxkeeper_storage::{Disk, DiskError, DiskFile, MemDisk, Place};

/// What the storage is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Phase {
    Start,
    Append,
    Roll,
    Preparation,
    Epoch,
    Adoption,
    Cut,
    Reload,
    Snapshot,
    Publication,
    Purge,
    Mark,
}

impl Phase {
    /// Those that are worth aiming at, and about how many changes they make.
    pub const AIMS: [(Phase, u64); 8] = [
        (Phase::Start, 24),
        (Phase::Roll, 9),
        (Phase::Epoch, 8),
        (Phase::Adoption, 30),
        (Phase::Cut, 14),
        (Phase::Snapshot, 6),
        (Phase::Publication, 4),
        (Phase::Purge, 8),
    ];

    /// For the counters.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Start => "start",
            Phase::Append => "append",
            Phase::Roll => "roll",
            Phase::Preparation => "preparation",
            Phase::Epoch => "epoch",
            Phase::Adoption => "adoption",
            Phase::Cut => "cut",
            Phase::Reload => "reload",
            Phase::Snapshot => "snapshot",
            Phase::Publication => "publication",
            Phase::Purge => "purge",
            Phase::Mark => "mark",
        }
    }
}

/// Fuses for whichever disk begins a phase next: the power goes at the nth change from there.
#[derive(Clone, Debug, Default)]
pub struct Aims(Arc<Mutex<Vec<(Phase, u64)>>>);

impl Aims {
    /// One more.
    pub fn add(&self, phase: Phase, nth: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((phase, nth));
    }

    /// None any more.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn take(&self, phase: Phase) -> Option<u64> {
        let mut aims = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = aims.iter().position(|(aim, _)| *aim == phase)?;
        Some(aims.swap_remove(at).1)
    }
}

/// A [`MemDisk`] whose changes can be cut off after any operation. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct FuseDisk {
    /// The disk itself.
    pub mem: MemDisk,
    fuse: Arc<Fuse>,
    aims: Aims,
}

#[derive(Debug)]
struct Fuse {
    phase: Mutex<Phase>,
    /// Operations left; 0: no fuse set.
    left: AtomicU64,
    blown: AtomicBool,
}

impl Default for Fuse {
    fn default() -> Fuse {
        Fuse {
            phase: Mutex::new(Phase::Start),
            left: AtomicU64::new(0),
            blown: AtomicBool::new(false),
        }
    }
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
    /// `mem` without a fuse, under the same aims as others.
    pub fn new(mem: MemDisk, aims: Aims) -> FuseDisk {
        FuseDisk { mem, fuse: Arc::default(), aims }
    }

    /// Another disk with what reads of this one show, and without faults.
    pub fn copy(&self) -> FuseDisk {
        FuseDisk::new(self.mem.copy(), Aims::default())
    }

    /// The storage begins this.
    pub fn enter(&self, phase: Phase) {
        *self.fuse.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        if let Some(nth) = self.aims.take(phase) {
            self.set_fuse(nth);
        }
    }

    /// What the storage began last.
    pub fn phase(&self) -> Phase {
        *self.fuse.phase.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn write_past_cache(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        if !self.fuse.blown.load(Ordering::Relaxed) {
            self.file.write_past_cache(bytes, offset)?;
        }
        self.fuse.spend("write", self.file.path())
    }
    fn append_durably(&self, bytes: &[u8], offset: u64) -> Result<Duration, DiskError> {
        self.write_past_cache(bytes, offset)?;
        self.sync()
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
        // What a log begins with is noted first.
        if name == "tmp-seams" {
            self.enter(Phase::Roll);
        }
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
