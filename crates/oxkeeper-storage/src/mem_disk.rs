//! A disk in memory that can crash, for the simulator and for tests.
//!
//! Like a real one it keeps two versions of everything: what reads show, and what would survive a
//! loss of power. [`MemDisk::crash`] makes the second one the first, with any part of the unsynced
//! changes added, as its caller's random numbers decide. Deterministic: no clock, no randomness of
//! its own, ordered maps only.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::{Disk, DiskError, DiskFile, Place};

/// What a disk writes in one piece or not at all, in bytes.
pub const SECTOR: usize = 512;

/// Multiplier and increment of the generator that decides what a failed sync kept; its seed is the
/// work done so far, so equal histories give equal disks.
const LCG: (u64, u64) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);

/// A disk in memory. Clones are handles of the same disk.
#[derive(Clone, Debug, Default)]
pub struct MemDisk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    name: String,
    two_directories: bool,
    inodes: Vec<Inode>,
    snapshots: Directory,
    logs: Directory,
    initialize: bool,
    /// Counts the processes that have used it: files that an earlier one has opened are dead.
    incarnation: u64,
    fail_write: Option<u64>,
    fail_sync: Option<u64>,
    fail_read: Option<u64>,
    /// Changes left until the power goes; 0: it has gone.
    fuse: Option<u64>,
    counters: Counters,
}

/// How much work a [`MemDisk`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls of `write_at`.
    pub writes: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Calls of `sync` and `sync_dir`.
    pub syncs: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    visible: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone, Debug, Default)]
struct Directory {
    visible: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<Rename>,
}

/// One change of names: `inode` is put at `to` and taken from `from`.
#[derive(Clone, Debug)]
struct Rename {
    from: Option<String>,
    to: Option<String>,
    inode: usize,
}

fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => write_into(content, *offset, bytes),
            Change::SetLen(len) => content.resize(*len, 0),
        }
    }
}

impl Rename {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        if let Some(from) = &self.from
            && names.get(from) == Some(&self.inode)
        {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.inode);
        }
    }
}

impl Directory {
    fn change(&mut self, change: Rename) {
        change.apply(&mut self.visible);
        self.pending.push(change);
    }
}

/// How much of an inode's unsynced changes a crash keeps.
enum Fate {
    Nothing,
    /// A prefix of their bytes: the last write is torn anywhere.
    Prefix,
    /// Any sectors of any of them.
    Sectors,
    Everything,
}

impl Inode {
    /// What is left after a loss of power; `choose(n)` is below n.
    fn crash(&mut self, choose: &mut dyn FnMut(u64) -> u64) {
        let pending = std::mem::take(&mut self.pending);
        self.lose(&pending, choose);
        self.visible.clone_from(&self.durable);
    }

    /// Makes an arbitrary part of `pending` durable.
    fn lose(&mut self, pending: &[Change], choose: &mut dyn FnMut(u64) -> u64) {
        if pending.is_empty() {
            return;
        }
        let fate = match choose(4) {
            0 => Fate::Nothing,
            1 => Fate::Prefix,
            2 => Fate::Sectors,
            _ => Fate::Everything,
        };
        match fate {
            Fate::Nothing => {}
            Fate::Prefix => self.keep_prefix(pending, choose),
            Fate::Sectors => self.keep_sectors(pending, choose),
            Fate::Everything => pending.iter().for_each(|c| c.apply(&mut self.durable)),
        }
    }

    fn keep_prefix(&mut self, pending: &[Change], choose: &mut dyn FnMut(u64) -> u64) {
        let whole = choose(pending.len() as u64) as usize;
        pending[..whole].iter().for_each(|change| change.apply(&mut self.durable));
        if let Change::Write { offset, bytes } = &pending[whole] {
            let kept = choose(bytes.len() as u64 + 1) as usize;
            write_into(&mut self.durable, *offset, &bytes[..kept]);
        }
    }

    fn keep_sectors(&mut self, pending: &[Change], choose: &mut dyn FnMut(u64) -> u64) {
        for change in pending {
            match change {
                Change::SetLen(_) if choose(2) == 0 => change.apply(&mut self.durable),
                Change::SetLen(_) => {}
                Change::Write { offset, bytes } => {
                    let mut start = 0;
                    while start < bytes.len() {
                        let left_in_sector = SECTOR - (offset + start) % SECTOR;
                        let end = bytes.len().min(start + left_in_sector);
                        if choose(2) == 0 {
                            write_into(&mut self.durable, offset + start, &bytes[start..end]);
                        }
                        start = end;
                    }
                }
            }
        }
    }
}

impl MemDisk {
    /// An empty disk; `name` stands in paths. Both places are one directory.
    pub fn new(name: &str) -> Self {
        let disk = MemDisk::default();
        disk.lock().name = name.to_owned();
        disk
    }

    /// An empty disk whose log directory is a second one.
    pub fn with_two_directories(name: &str) -> Self {
        let disk = MemDisk::new(name);
        disk.lock().two_directories = true;
        disk
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic of another holder is that thread's test failure, not damage to this map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A loss of power. `choose(n)` must return a number below n and decides what of the unsynced
    /// changes survives. Open files of before are dead: each use of them fails. Injected faults
    /// that have not struck are forgotten.
    pub fn crash(&mut self, mut choose: impl FnMut(u64) -> u64) {
        let mut inner = self.lock();
        inner.incarnation += 1;
        inner.forget_faults();
        let Inner { inodes, snapshots, logs, .. } = &mut *inner;
        for directory in [snapshots, logs] {
            for change in std::mem::take(&mut directory.pending) {
                if choose(2) == 0 {
                    change.apply(&mut directory.durable);
                }
            }
            directory.visible.clone_from(&directory.durable);
        }
        inodes.iter_mut().for_each(|inode| inode.crash(&mut choose));
    }

    /// The death of the process alone (kill -9): open files are dead, nothing written is lost.
    pub fn kill(&mut self) {
        let mut inner = self.lock();
        inner.incarnation += 1;
        inner.forget_faults();
    }

    /// Lets the `nth` write from now (1: the next one) fail with "no space left". The first half of
    /// its bytes is written.
    pub fn fail_write(&self, nth: u64) {
        self.lock().fail_write = Some(nth);
    }

    /// Lets the `nth` sync of a file or directory from now (1: the next one) fail. As on Linux, what
    /// it should have made durable counts as clean afterwards: any part of it is, the rest never will
    /// be, although reads still show it.
    pub fn fail_sync(&self, nth: u64) {
        self.lock().fail_sync = Some(nth);
    }

    /// Lets the `nth` read of a file from now (1: the next one) fail with an I/O error, as a bad
    /// sector does.
    pub fn fail_read(&self, nth: u64) {
        self.lock().fail_read = Some(nth);
    }

    /// Lets the power go before the `nth` change from now (1: the next one): it and all later ones
    /// fail. [`MemDisk::crash`] decides what is left of those before.
    pub fn lose_power_at(&self, nth: u64) {
        self.lock().fuse = Some(nth);
    }

    /// Whether the power has gone.
    pub fn has_lost_power(&self) -> bool {
        self.lock().fuse == Some(0)
    }

    /// Whether an injected read error is still to come.
    pub fn read_fault_pending(&self) -> bool {
        self.lock().fail_read.is_some()
    }

    /// Turns the bits of `mask` in one byte of a file, durably: what rot does.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn flip(&self, place: Place, name: &str, offset: usize, mask: u8) {
        let mut inner = self.lock();
        let inode = *inner.directory(place).visible.get(name).expect("the file exists");
        let inode = &mut inner.inodes[inode];
        inode.visible[offset] ^= mask;
        inode.durable[offset] ^= mask;
    }

    /// How much work was done so far.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Puts a durable file there.
    pub fn put(&self, place: Place, name: &str, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.inodes.push(Inode {
            visible: bytes.to_vec(),
            durable: bytes.to_vec(),
            pending: Vec::new(),
        });
        let inode = inner.inodes.len() - 1;
        let directory = inner.directory(place);
        directory.visible.insert(name.to_owned(), inode);
        directory.durable.insert(name.to_owned(), inode);
    }

    /// The bytes of a file as reads show them.
    pub fn bytes(&self, place: Place, name: &str) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        let inode = *inner.directory(place).visible.get(name)?;
        Some(inner.inodes[inode].visible.clone())
    }

    /// Puts the `initialize` marker there.
    pub fn put_initialize(&self) {
        self.lock().initialize = true;
    }

    fn error(&self, op: &'static str, place: Place, name: &str, kind: io::ErrorKind) -> DiskError {
        DiskError::new(op, self.path(place, name), kind.into())
    }

    fn change(&self, op: &'static str, place: Place, name: &str) -> Result<(), DiskError> {
        let powered = self.lock().has_power();
        if powered { Ok(()) } else { Err(no_power(op, self.path(place, name))) }
    }

    fn file(&self, place: Place, name: &str, inode: usize) -> MemFile {
        let path = self.path(place, name);
        let incarnation = self.lock().incarnation;
        MemFile { disk: self.clone(), path, inode, incarnation }
    }
}

impl Inner {
    fn forget_faults(&mut self) {
        (self.fail_write, self.fail_sync, self.fail_read) = (None, None, None);
        self.fuse = None;
    }

    /// A change of the disk is about to be made.
    fn has_power(&mut self) -> bool {
        if let Some(left) = &mut self.fuse {
            *left = left.saturating_sub(1);
        }
        self.fuse != Some(0)
    }

    fn directory(&mut self, place: Place) -> &mut Directory {
        match place {
            Place::Logs if self.two_directories => &mut self.logs,
            _ => &mut self.snapshots,
        }
    }
}

fn no_power(op: &'static str, path: String) -> DiskError {
    DiskError::new(op, path, io::Error::other("the power is lost"))
}

/// Counts down to an injected fault; true when it strikes.
fn strikes(fault: &mut Option<u64>) -> bool {
    match fault {
        Some(1) => {
            *fault = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl Disk for MemDisk {
    type File = MemFile;

    fn one_directory(&self) -> bool {
        !self.lock().two_directories
    }

    fn path(&self, place: Place, name: &str) -> String {
        let inner = self.lock();
        let directory = match place {
            Place::Logs if inner.two_directories => "logs",
            _ => "data",
        };
        format!("{}/{directory}/version-2/{name}", inner.name)
    }

    fn list(&self, place: Place) -> Result<Vec<String>, DiskError> {
        Ok(self.lock().directory(place).visible.keys().cloned().collect())
    }

    fn open(&self, place: Place, name: &str) -> Result<MemFile, DiskError> {
        let inode = self.lock().directory(place).visible.get(name).copied();
        match inode {
            Some(inode) => Ok(self.file(place, name, inode)),
            None => Err(self.error("open", place, name, io::ErrorKind::NotFound)),
        }
    }

    fn open_for_write(&self, place: Place, name: &str) -> Result<MemFile, DiskError> {
        self.open(place, name)
    }

    fn create(&self, place: Place, name: &str) -> Result<MemFile, DiskError> {
        self.change("create", place, name)?;
        let existing = self.lock().directory(place).visible.get(name).copied();
        let inode = match existing {
            Some(inode) => {
                let mut inner = self.lock();
                inner.inodes[inode].visible.clear();
                inner.inodes[inode].pending.push(Change::SetLen(0));
                inode
            }
            None => {
                let mut inner = self.lock();
                inner.inodes.push(Inode::default());
                let inode = inner.inodes.len() - 1;
                let change = Rename { from: None, to: Some(name.to_owned()), inode };
                inner.directory(place).change(change);
                inode
            }
        };
        Ok(self.file(place, name, inode))
    }

    fn rename(&self, place: Place, from: &str, to: &str) -> Result<(), DiskError> {
        self.change("rename", place, from)?;
        let mut inner = self.lock();
        let directory = inner.directory(place);
        let Some(&inode) = directory.visible.get(from) else {
            drop(inner);
            return Err(self.error("rename", place, from, io::ErrorKind::NotFound));
        };
        directory.change(Rename { from: Some(from.into()), to: Some(to.into()), inode });
        Ok(())
    }

    fn remove(&self, place: Place, name: &str) -> Result<(), DiskError> {
        self.change("remove", place, name)?;
        let mut inner = self.lock();
        let directory = inner.directory(place);
        let Some(&inode) = directory.visible.get(name) else {
            drop(inner);
            return Err(self.error("remove", place, name, io::ErrorKind::NotFound));
        };
        directory.change(Rename { from: Some(name.into()), to: None, inode });
        Ok(())
    }

    fn sync_dir(&self, place: Place) -> Result<(), DiskError> {
        self.change("sync directory", place, "")?;
        let mut inner = self.lock();
        inner.counters.syncs += 1;
        if strikes(&mut inner.fail_sync) {
            drop(inner);
            return Err(self.error("sync directory", place, "", io::ErrorKind::Other));
        }
        let directory = inner.directory(place);
        directory.pending.clear();
        directory.durable.clone_from(&directory.visible);
        Ok(())
    }

    fn take_initialize(&self) -> Result<bool, DiskError> {
        Ok(std::mem::take(&mut self.lock().initialize))
    }
}

/// An open file of a [`MemDisk`].
#[derive(Debug)]
pub struct MemFile {
    disk: MemDisk,
    path: String,
    inode: usize,
    incarnation: u64,
}

impl MemFile {
    fn lock(&self, op: &'static str) -> Result<MutexGuard<'_, Inner>, DiskError> {
        let inner = self.disk.lock();
        if inner.incarnation != self.incarnation {
            let error = io::Error::other("the process that opened this file is dead");
            return Err(DiskError::new(op, self.path.clone(), error));
        }
        Ok(inner)
    }
}

impl DiskFile for MemFile {
    fn path(&self) -> &str {
        &self.path
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.lock("read the length of")?.inodes[self.inode].visible.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        let mut inner = self.lock("read")?;
        if strikes(&mut inner.fail_read) {
            let error = io::Error::other("injected read error");
            return Err(DiskError::new("read", self.path.clone(), error));
        }
        let content = &inner.inodes[self.inode].visible;
        let start = content.len().min(offset as usize);
        let len = buf.len().min(content.len() - start);
        buf[..len].copy_from_slice(&content[start..start + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        let mut inner = self.lock("write")?;
        if !inner.has_power() {
            return Err(no_power("write", self.path.clone()));
        }
        inner.counters.writes += 1;
        inner.counters.bytes += bytes.len() as u64;
        let full = strikes(&mut inner.fail_write);
        let written = if full { &bytes[..bytes.len() / 2] } else { bytes };
        let inode = &mut inner.inodes[self.inode];
        write_into(&mut inode.visible, offset as usize, written);
        inode.pending.push(Change::Write { offset: offset as usize, bytes: written.to_vec() });
        if full {
            let error = io::ErrorKind::StorageFull.into();
            return Err(DiskError::new("write", self.path.clone(), error));
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        let mut inner = self.lock("set the length of")?;
        if !inner.has_power() {
            return Err(no_power("set the length of", self.path.clone()));
        }
        let inode = &mut inner.inodes[self.inode];
        inode.visible.resize(len as usize, 0);
        inode.pending.push(Change::SetLen(len as usize));
        Ok(())
    }

    fn sync(&self) -> Result<Duration, DiskError> {
        let mut inner = self.lock("sync")?;
        if !inner.has_power() {
            return Err(no_power("sync", self.path.clone()));
        }
        inner.counters.syncs += 1;
        let failed = strikes(&mut inner.fail_sync);
        let mut seed = inner.counters.bytes ^ inner.counters.syncs;
        let mut choose = move |n: u64| {
            seed = seed.wrapping_mul(LCG.0).wrapping_add(LCG.1);
            (seed >> 33) % n
        };
        let inode = &mut inner.inodes[self.inode];
        let pending = std::mem::take(&mut inode.pending);
        if failed {
            inode.lose(&pending, &mut choose);
            let error = io::Error::other("injected failure of fdatasync");
            return Err(DiskError::new("sync", self.path.clone(), error));
        }
        pending.iter().for_each(|change| change.apply(&mut inode.durable));
        Ok(Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGS: Place = Place::Logs;

    #[test]
    fn what_is_synced_survives_and_what_is_not_may_not() {
        let mut disk = MemDisk::new("a");
        let file = disk.create(LOGS, "f").unwrap();
        file.write_at(b"one", 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(LOGS).unwrap();
        file.write_at(b"two", 3).unwrap();
        let other = disk.create(LOGS, "g").unwrap();
        other.sync().unwrap();
        disk.crash(|n| if n == 4 { 0 } else { n - 1 });
        assert_eq!(disk.list(LOGS).unwrap(), ["f"]);
        assert_eq!(disk.bytes(LOGS, "f").unwrap(), b"one");
        assert!(file.write_at(b"x", 0).is_err(), "handles of the dead process are dead");
    }

    #[test]
    fn a_failed_sync_leaves_bytes_that_reads_show_and_a_crash_takes() {
        let mut lost = 0;
        for len in 1..40 {
            let mut disk = MemDisk::new("a");
            let file = disk.create(LOGS, "f").unwrap();
            disk.sync_dir(LOGS).unwrap();
            file.write_at(&vec![1; len * 100], 0).unwrap();
            disk.fail_sync(1);
            assert!(file.sync().is_err());
            file.sync().unwrap();
            assert_eq!(disk.bytes(LOGS, "f").unwrap(), vec![1; len * 100]);
            disk.crash(|n| n - 1);
            lost += usize::from(disk.bytes(LOGS, "f").unwrap() != vec![1; len * 100]);
        }
        assert!((20..40).contains(&lost), "{lost}");
    }
}
