//! What the seed decides about disks before a run begins.

use oxkeeper_storage::{Compression, MemDisk};

use crate::dice::Dice;

/// A stream of its own: what other parts of the plan draw does not change this one.
const STREAM: u64 = 0x6469_736b_5f70_6c61;

/// Settings of the storage, and what the disks of a run are like.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// `preAllocSize` in KiB.
    pub preallocate_kib: i64,
    /// `forceSync`. Without it nothing but the process dies in this run.
    pub force_sync: bool,
    /// `zookeeper.db.autocreate`. Without it a new member waits for the others, and the first start of the
    /// ensemble takes an `initialize` marker.
    pub autocreate: bool,
    /// `dataLogDir` is another directory.
    pub two_directories: bool,
    /// Appended files take whole blocks: direct writes.
    pub blocks: bool,
    /// Of snapshots.
    pub compression: Compression,
    /// Servers are Apache's at times: it leaves its directories otherwise.
    pub apache: bool,
    /// Disks also break their promises, at a minority of the voters at a time.
    pub harm: bool,
}

impl DiskPlan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> DiskPlan {
        let mut dice = Dice::new(seed ^ STREAM);
        let force_sync = !dice.one_in(12);
        DiskPlan {
            preallocate_kib: dice.pick(&[4, 4, 1, 16, 64, 0]),
            force_sync,
            autocreate: !dice.one_in(4),
            two_directories: dice.one_in(4),
            blocks: dice.one_in(2),
            compression: dice.pick(&[
                Compression::None,
                Compression::None,
                Compression::None,
                Compression::Gzip,
                Compression::Snappy,
            ]),
            apache: dice.one_in(3),
            harm: force_sync && dice.one_in(2),
        }
    }

    /// A new disk of a server, at the first start of the ensemble.
    pub fn disk(&self, name: &str) -> MemDisk {
        let mem = match self.two_directories {
            true => MemDisk::with_two_directories(name),
            false => MemDisk::new(name),
        };
        if self.blocks {
            mem.write_in_blocks();
        }
        if !self.autocreate {
            mem.put_initialize();
        }
        mem
    }
}
