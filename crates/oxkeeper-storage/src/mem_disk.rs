//! A disk in memory that can crash, for the simulator and for tests.
//!
//! Like a real one it keeps two versions of everything: what reads show, and what would survive a
//! loss of power. [`MemDisk::crash`] makes the second one the first, with any part of the unsynced
//! changes added, as its caller's random numbers decide. Deterministic: no clock, no randomness of
//! its own, ordered maps only.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::disk::{Disk, DiskError, DiskFile, Place};

mod faults;
mod inode;

use faults::Faults;
pub use faults::Lie;
use inode::{Change, Directory, Inode, Rename, write_into};

/// What a disk writes in one piece or not at all, in bytes.
pub const SECTOR: usize = 512;

/// What a direct write begins and ends on, in bytes.
const BLOCK: usize = 4096;

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
    /// As the file systems of real disks with direct writes: see [`MemDisk::write_in_blocks`].
    blocks: bool,
    faults: Faults,
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

    /// How much work was done so far.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Puts a durable file there.
    pub fn put(&self, place: Place, name: &str, bytes: &[u8]) {
        let mut inner = self.lock();
        inner.inodes.push(Inode::durable(bytes));
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
        let powered = self.lock().faults.has_power();
        if powered { Ok(()) } else { Err(no_power(op, self.path(place, name))) }
    }

    fn file(&self, place: Place, name: &str, inode: usize, created: bool) -> MemFile {
        let path = self.path(place, name);
        let incarnation = self.lock().incarnation;
        MemFile { disk: self.clone(), path, inode, incarnation, created }
    }
}

impl Inner {
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
            Some(inode) => Ok(self.file(place, name, inode, false)),
            None => Err(self.error("open", place, name, io::ErrorKind::NotFound)),
        }
    }

    fn open_for_write(&self, place: Place, name: &str) -> Result<MemFile, DiskError> {
        self.open(place, name)
    }

    fn create(&self, place: Place, name: &str) -> Result<MemFile, DiskError> {
        self.change("create", place, name)?;
        if self.lock().faults.is_full() {
            return Err(self.error("create", place, name, io::ErrorKind::StorageFull));
        }
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
        Ok(self.file(place, name, inode, true))
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
        if inner.faults.sync_fails() {
            drop(inner);
            let error = io::Error::other("injected failure of fsync");
            return Err(DiskError::new("sync directory", self.path(place, ""), error));
        }
        let lie = inner.faults.lie;
        let directory = inner.directory(place);
        match lie {
            None => directory.sync(),
            Some(lie) => directory.sync_but(|name| lie.is_about(name)),
        }
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
    created: bool,
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

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The whole blocks that a direct write of `bytes` writes, and where they start.
    fn in_blocks(&self, bytes: &[u8], offset: u64) -> Result<Option<(u64, Vec<u8>)>, DiskError> {
        let inner = self.lock("write")?;
        if !inner.blocks || !self.created {
            return Ok(None);
        }
        let before = offset as usize % BLOCK;
        let start = offset as usize - before;
        let content = &inner.inodes[self.inode].visible;
        let mut blocks = content.get(start..offset as usize).unwrap_or_default().to_vec();
        blocks.resize(before, 0);
        blocks.extend_from_slice(bytes);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        Ok(Some((start as u64, blocks)))
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
        if inner.faults.read_fails() || inner.cannot_read(self.inode, offset, buf.len()) {
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
        if !inner.faults.has_power() {
            return Err(no_power("write", self.path.clone()));
        }
        inner.counters.writes += 1;
        inner.counters.bytes += bytes.len() as u64;
        let full = inner.faults.write_fails();
        let written = if full { &bytes[..bytes.len() / 2] } else { bytes };
        if !inner.misdirected(&self.path, self.inode, offset as usize, written) {
            let inode = &mut inner.inodes[self.inode];
            write_into(&mut inode.visible, offset as usize, written);
            inode.pending.push(Change::Write { offset: offset as usize, bytes: written.to_vec() });
        }
        if full {
            let error = io::ErrorKind::StorageFull.into();
            return Err(DiskError::new("write", self.path.clone(), error));
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        let mut inner = self.lock("set the length of")?;
        if !inner.faults.has_power() {
            return Err(no_power("set the length of", self.path.clone()));
        }
        let inode = &mut inner.inodes[self.inode];
        inode.visible.resize(len as usize, 0);
        inode.pending.push(Change::SetLen(len as usize));
        Ok(())
    }

    fn sync(&self) -> Result<Duration, DiskError> {
        let mut inner = self.lock("sync")?;
        if !inner.faults.has_power() {
            return Err(no_power("sync", self.path.clone()));
        }
        inner.counters.syncs += 1;
        let failed = inner.faults.sync_fails();
        let mut choose = inner.choose();
        let lies = inner.faults.lie.is_some_and(|lie| lie.is_about(self.name()));
        let inode = &mut inner.inodes[self.inode];
        if failed {
            // What it takes is what was to become durable, not what was told to be.
            inode.keep_word();
            let pending = std::mem::take(&mut inode.pending);
            inode.lose(&pending, &mut choose);
            let error = io::Error::other("injected failure of fdatasync");
            return Err(DiskError::new("sync", self.path.clone(), error));
        }
        if lies {
            inode.sync_falsely();
        } else {
            inode.keep_all();
        }
        Ok(Duration::ZERO)
    }

    fn write_past_cache(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        let blocks = self.in_blocks(bytes, offset)?;
        match blocks {
            Some((start, blocks)) => self.write_at(&blocks, start),
            None => self.write_at(bytes, offset),
        }
    }

    fn append_durably(&self, bytes: &[u8], offset: u64) -> Result<Duration, DiskError> {
        self.write_past_cache(bytes, offset)?;
        self.sync()
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
