//! What a disk keeps of a file and of a directory: what reads show, and what a loss of power leaves.

use std::collections::BTreeMap;

use super::SECTOR;

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub visible: Vec<u8>,
    pub durable: Vec<u8>,
    pub pending: Vec<Change>,
    /// So many of `pending` were told durable by a disk that lies.
    pub told: usize,
    /// Bytes in this range cannot be read.
    pub unreadable: Option<(u64, u64)>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    pub visible: BTreeMap<String, usize>,
    pub durable: BTreeMap<String, usize>,
    pub pending: Vec<Rename>,
    /// So many of `pending` were told durable by a disk that lies.
    pub told: usize,
}

/// One change of names: `inode` is put at `to` and taken from `from`.
#[derive(Clone, Debug)]
pub(super) struct Rename {
    pub from: Option<String>,
    pub to: Option<String>,
    pub inode: usize,
}

pub(super) fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

impl Change {
    pub fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => write_into(content, *offset, bytes),
            Change::SetLen(len) => content.resize(*len, 0),
        }
    }
}

impl Rename {
    pub fn apply(&self, names: &mut BTreeMap<String, usize>) {
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
    pub fn change(&mut self, change: Rename) {
        change.apply(&mut self.visible);
        self.pending.push(change);
    }

    /// What reads show, for sure.
    pub fn seen(&self) -> Directory {
        let (visible, durable) = (self.visible.clone(), self.visible.clone());
        Directory { visible, durable, ..Directory::default() }
    }

    /// All that was changed is durable.
    pub fn sync(&mut self) {
        self.pending.clear();
        self.told = 0;
        self.durable.clone_from(&self.visible);
    }

    /// Says the same, but what concerns a name that `lies` stays unsure.
    pub fn sync_but(&mut self, lies: impl Fn(&str) -> bool) {
        let lied = |name: &Option<String>| name.as_deref().is_some_and(&lies);
        for change in std::mem::take(&mut self.pending) {
            if lied(&change.from) || lied(&change.to) {
                self.pending.push(change);
            } else {
                change.apply(&mut self.durable);
            }
        }
        self.told = self.pending.len();
    }

    /// What was told durable is.
    pub fn keep_word(&mut self) {
        let told = std::mem::take(&mut self.told);
        self.pending.drain(..told).for_each(|change| change.apply(&mut self.durable));
    }

    /// What is left after a loss of power; `choose(n)` is below n.
    pub fn crash(&mut self, choose: &mut dyn FnMut(u64) -> u64) {
        for change in std::mem::take(&mut self.pending) {
            if choose(2) == 0 {
                change.apply(&mut self.durable);
            }
        }
        self.told = 0;
        self.visible.clone_from(&self.durable);
    }
}

/// How much of an inode's unsynced changes a crash keeps.
enum Fate {
    Nothing,
    /// A prefix of their bytes: the last write is torn anywhere.
    Prefix,
    /// Any sectors of any of them.
    Sectors,
    /// Of each sector any beginning: a disk that does not keep its promise about sectors.
    Bytes,
    Everything,
}

impl Inode {
    /// A file that is there for sure.
    pub fn durable(bytes: &[u8]) -> Inode {
        Inode { visible: bytes.to_vec(), durable: bytes.to_vec(), ..Inode::default() }
    }

    /// What reads show, for sure.
    pub fn seen(&self) -> Inode {
        Inode { unreadable: self.unreadable, ..Inode::durable(&self.visible) }
    }

    /// What is left after a loss of power; `choose(n)` is below n. `within`: also parts of sectors.
    pub fn crash(&mut self, within: bool, choose: &mut dyn FnMut(u64) -> u64) {
        let pending = std::mem::take(&mut self.pending);
        self.told = 0;
        if within && !pending.is_empty() {
            self.keep(Fate::Bytes, &pending, choose);
        } else {
            self.lose(&pending, choose);
        }
        self.visible.clone_from(&self.durable);
    }

    /// All that was changed is durable.
    pub fn keep_all(&mut self) {
        self.told = self.pending.len();
        self.keep_word();
    }

    /// Says that all is durable. What it keeps unsure is what was written; lengths are durable at once.
    pub fn sync_falsely(&mut self) {
        if self.pending.iter().any(|change| matches!(change, Change::SetLen(_))) {
            return self.keep_all();
        }
        self.told = self.pending.len();
    }

    /// What was told durable is.
    pub fn keep_word(&mut self) {
        let told = std::mem::take(&mut self.told);
        self.pending.drain(..told).for_each(|change| change.apply(&mut self.durable));
    }

    /// Changes bytes behind everybody's back: what is read and what is durable.
    pub fn damage(&mut self, change: &dyn Fn(&mut Vec<u8>)) {
        change(&mut self.visible);
        change(&mut self.durable);
    }

    /// Makes an arbitrary part of `pending` durable.
    pub fn lose(&mut self, pending: &[Change], choose: &mut dyn FnMut(u64) -> u64) {
        if pending.is_empty() {
            return;
        }
        let fate = match choose(4) {
            0 => Fate::Nothing,
            1 => Fate::Prefix,
            2 => Fate::Sectors,
            _ => Fate::Everything,
        };
        self.keep(fate, pending, choose);
    }

    fn keep(&mut self, fate: Fate, pending: &[Change], choose: &mut dyn FnMut(u64) -> u64) {
        match fate {
            Fate::Nothing => {}
            Fate::Prefix => self.keep_prefix(pending, choose),
            Fate::Sectors => self.keep_sectors(pending, false, choose),
            Fate::Bytes => self.keep_sectors(pending, true, choose),
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

    fn keep_sectors(&mut self, pending: &[Change], torn: bool, choose: &mut dyn FnMut(u64) -> u64) {
        for change in pending {
            match change {
                Change::SetLen(_) if choose(2) == 0 => change.apply(&mut self.durable),
                Change::SetLen(_) => {}
                Change::Write { offset, bytes } => {
                    let mut start = 0;
                    while start < bytes.len() {
                        let left_in_sector = SECTOR - (offset + start) % SECTOR;
                        let end = bytes.len().min(start + left_in_sector);
                        let len = end - start;
                        let kept = if torn { choose(len as u64 + 1) as usize } else { len };
                        if choose(2) == 0 {
                            let kept = &bytes[start..start + kept];
                            write_into(&mut self.durable, offset + start, kept);
                        }
                        start = end;
                    }
                }
            }
        }
    }
}
