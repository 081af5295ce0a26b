//! What goes wrong with a [`MemDisk`], as its caller says.

use super::inode::{Directory, Inode};
use super::{Inner, LCG, MemDisk};
use crate::disk::Place;

/// What a disk lies about: a sync says that all is durable, and a loss of power shows that it was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Logs: what they hold, and their names.
    Logs,
    /// All files and names.
    Everything,
}

impl Lie {
    pub(super) fn is_about(self, name: &str) -> bool {
        self == Lie::Everything || name.starts_with("log.") || name == "tmp-next-log"
    }
}

/// A write of a log or snapshot that will land elsewhere.
#[derive(Clone, Copy, Debug)]
struct Misdirection {
    /// Such writes left until then.
    nth: u64,
    /// Where: sectors behind the place that was meant, or before it.
    sectors: i64,
    /// Chooses another file, if any: 0 is the same one.
    file: usize,
}

/// Faults of a disk. None of them is there at first.
#[derive(Debug, Default)]
pub(super) struct Faults {
    write: Option<u64>,
    sync: Option<u64>,
    read: Option<u64>,
    /// Changes left until the power goes; 0: it has gone.
    fuse: Option<u64>,
    full: bool,
    pub lie: Option<Lie>,
    misdirection: Option<Misdirection>,
    tears_sectors: bool,
    /// Inodes of files that a misdirected write has damaged.
    damaged: Vec<usize>,
}

impl Faults {
    /// What does not outlive the process that it was meant for.
    fn forget(&mut self) {
        (self.write, self.sync, self.read, self.fuse) = (None, None, None, None);
        self.misdirection = None;
    }

    /// A change of the disk is about to be made.
    pub fn has_power(&mut self) -> bool {
        if let Some(left) = &mut self.fuse {
            *left = left.saturating_sub(1);
        }
        self.fuse != Some(0)
    }

    pub fn is_full(&self) -> bool {
        self.full
    }

    pub fn write_fails(&mut self) -> bool {
        strikes(&mut self.write) || self.full
    }

    pub fn sync_fails(&mut self) -> bool {
        strikes(&mut self.sync)
    }

    pub fn read_fails(&mut self) -> bool {
        strikes(&mut self.read)
    }
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

impl Inner {
    /// Whether a read touches what cannot be read.
    pub(super) fn cannot_read(&self, inode: usize, offset: u64, len: usize) -> bool {
        let end = offset + len as u64;
        let touched = |(from, to): (u64, u64)| offset < to && from < end;
        self.inodes[inode].unreadable.is_some_and(touched)
    }

    /// Deterministic numbers from the work done so far.
    pub(super) fn choose(&self) -> impl FnMut(u64) -> u64 + use<> {
        let mut seed = self.counters.bytes ^ self.counters.syncs;
        move |n: u64| {
            seed = seed.wrapping_mul(LCG.0).wrapping_add(LCG.1);
            (seed >> 33) % n
        }
    }

    /// Whether the write was one that goes elsewhere; then it has.
    pub(super) fn misdirected(
        &mut self,
        path: &str,
        inode: usize,
        offset: usize,
        bytes: &[u8],
    ) -> bool {
        let name = path.rsplit('/').next().unwrap_or_default();
        if !name.starts_with("log.") && !name.starts_with("tmp-") || name.ends_with("seams") {
            return false;
        }
        let Some(misdirection) = &mut self.faults.misdirection else { return false };
        if misdirection.nth > 1 {
            misdirection.nth -= 1;
            return false;
        }
        let Misdirection { sectors, file, .. } = *misdirection;
        self.faults.misdirection = None;
        let others = self.snapshots.visible.iter().chain(&self.logs.visible);
        let others = others.filter(|(name, at)| is_log_or_snapshot(name) && **at != inode);
        let others: Vec<usize> = others.map(|(_, at)| *at).collect();
        let target = match file {
            0 => inode,
            _ if others.is_empty() => inode,
            _ => others[file % others.len()],
        };
        self.faults.damaged.extend([inode, target]);
        let at = (offset as i64 + sectors * super::SECTOR as i64).max(0) as usize;
        self.inodes[target].damage(&|content| {
            let end = content.len().min(at + bytes.len());
            if at < end {
                content[at..end].copy_from_slice(&bytes[..end - at]);
            }
        });
        true
    }
}

fn is_log_or_snapshot(name: &str) -> bool {
    name.starts_with("log.") || name.starts_with("snapshot.")
}

impl MemDisk {
    /// A loss of power. `choose(n)` must return a number below n and decides what of the unsynced
    /// changes survives. Open files of before are dead: each use of them fails. Injected faults
    /// that have not struck are forgotten.
    pub fn crash(&mut self, mut choose: impl FnMut(u64) -> u64) {
        let mut inner = self.lock();
        inner.incarnation += 1;
        inner.faults.forget();
        let within = std::mem::take(&mut inner.faults.tears_sectors);
        let Inner { inodes, snapshots, logs, .. } = &mut *inner;
        snapshots.crash(&mut choose);
        logs.crash(&mut choose);
        inodes.iter_mut().for_each(|inode| inode.crash(within, &mut choose));
    }

    /// The death of the process alone (kill -9): open files are dead, nothing written is lost.
    pub fn kill(&mut self) {
        let mut inner = self.lock();
        inner.incarnation += 1;
        inner.faults.forget();
    }

    /// Lets the `nth` write from now (1: the next one) fail with "no space left". The first half of
    /// its bytes is written.
    pub fn fail_write(&self, nth: u64) {
        self.lock().faults.write = Some(nth);
    }

    /// Lets the `nth` sync of a file or directory from now (1: the next one) fail. As on Linux, what
    /// it should have made durable counts as clean afterwards: any part of it is, the rest never will
    /// be, although reads still show it.
    pub fn fail_sync(&self, nth: u64) {
        self.lock().faults.sync = Some(nth);
    }

    /// Lets the `nth` read of a file from now (1: the next one) fail with an I/O error, as a bad
    /// sector does.
    pub fn fail_read(&self, nth: u64) {
        self.lock().faults.read = Some(nth);
    }

    /// Lets the power go before the `nth` change from now (1: the next one): it and all later ones
    /// fail. [`MemDisk::crash`] decides what is left of those before.
    pub fn lose_power_at(&self, nth: u64) {
        self.lock().faults.fuse = Some(nth);
    }

    /// Whether the power has gone.
    pub fn has_lost_power(&self) -> bool {
        self.lock().faults.fuse == Some(0)
    }

    /// Whether an injected read error is still to come.
    pub fn read_fault_pending(&self) -> bool {
        self.lock().faults.read.is_some()
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

    /// While it is, each write and each creation of a file finds no space; of a write half is done.
    pub fn set_full(&self, full: bool) {
        self.lock().faults.full = full;
    }

    /// From now on syncs lie. `None`: no more, and all that was told durable is.
    pub fn set_lie(&self, lie: Option<Lie>) {
        let mut inner = self.lock();
        inner.faults.lie = lie;
        if lie.is_none() {
            inner.inodes.iter_mut().for_each(Inode::keep_word);
            inner.snapshots.keep_word();
            inner.logs.keep_word();
        }
    }

    /// The `nth` write from now to a log or to what becomes one or a snapshot lands elsewhere, and
    /// nothing is written where it was meant: `sectors` of 512 bytes further, in the same file (`file`
    /// is 0) or in another log or snapshot. No file grows by it.
    pub fn misdirect_write(&self, nth: u64, sectors: i64, file: usize) {
        self.lock().faults.misdirection = Some(Misdirection { nth, sectors, file });
    }

    /// The next loss of power tears within sectors, which no disk should do.
    pub fn tear_sectors(&self) {
        self.lock().faults.tears_sectors = true;
    }

    /// All that was written to this file is durable, as if the system had written it back by now.
    pub fn write_back(&self, place: Place, name: &str) {
        let mut inner = self.lock();
        if let Some(inode) = inner.directory(place).visible.get(name).copied() {
            inner.inodes[inode].keep_all();
        }
    }

    /// What it lies about.
    pub fn lie(&self) -> Option<Lie> {
        self.lock().faults.lie
    }

    /// Whether a write will be misdirected or the next loss of power tear sectors.
    pub fn harm_pending(&self) -> bool {
        let inner = self.lock();
        inner.faults.misdirection.is_some() || inner.faults.tears_sectors
    }

    /// The present names of the files that a misdirected write has damaged: the one it was meant for, and
    /// the one it went to.
    pub fn misdirected(&self) -> Vec<(Place, String)> {
        let inner = self.lock();
        let logs = inner.logs.visible.iter().map(|(name, inode)| (Place::Logs, name, inode));
        let snapshots = inner.snapshots.visible.iter();
        let all = snapshots.map(|(name, inode)| (Place::Snapshots, name, inode)).chain(logs);
        let damaged = all.filter(|(_, _, inode)| inner.faults.damaged.contains(inode));
        damaged.map(|(place, name, _)| (place, name.clone())).collect()
    }

    /// Changes a file behind everybody's back, durably. False: there is no such file.
    pub fn damage(&self, place: Place, name: &str, change: &dyn Fn(&mut Vec<u8>)) -> bool {
        let mut inner = self.lock();
        let Some(inode) = inner.directory(place).visible.get(name).copied() else { return false };
        inner.inodes[inode].damage(change);
        true
    }

    /// From now on these bytes of a file cannot be read. False: there is no such file.
    pub fn make_unreadable(&self, place: Place, name: &str, from: u64, to: u64) -> bool {
        let mut inner = self.lock();
        let Some(inode) = inner.directory(place).visible.get(name).copied() else { return false };
        inner.inodes[inode].unreadable = Some((from, to));
        true
    }

    /// A file is gone, durably, without anybody having removed it. False: there is no such file.
    pub fn vanish(&self, place: Place, name: &str) -> bool {
        let mut inner = self.lock();
        let directory = inner.directory(place);
        directory.durable.remove(name);
        directory.visible.remove(name).is_some()
    }

    /// Another, empty disk is in the place of this one. Open files are dead.
    pub fn replace_by_empty(&self) {
        let mut inner = self.lock();
        inner.incarnation += 1;
        inner.inodes.clear();
        (inner.snapshots, inner.logs) = (Directory::default(), Directory::default());
        inner.initialize = false;
        inner.faults = Faults::default();
    }

    /// Whether the `initialize` marker is there.
    pub fn has_initialize(&self) -> bool {
        self.lock().initialize
    }

    /// Another disk with what reads of this one show.
    pub fn copy(&self) -> MemDisk {
        let inner = self.lock();
        let copy = MemDisk::new(&inner.name);
        {
            let mut to = copy.lock();
            to.two_directories = inner.two_directories;
            to.inodes = inner.inodes.iter().map(Inode::seen).collect();
            to.snapshots = inner.snapshots.seen();
            to.logs = inner.logs.seen();
            to.initialize = inner.initialize;
        }
        copy
    }

    /// As a real disk with direct writes: what is appended to a file that was created, not opened, takes
    /// whole blocks of 4 KiB, filled up with zeros.
    pub fn write_in_blocks(&self) {
        self.lock().blocks = true;
    }
}
