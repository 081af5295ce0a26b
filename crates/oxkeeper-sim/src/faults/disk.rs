//! Disks that lose power in the middle of their work, fail, or are slow.

use crate::dice::Dice;
use crate::plan::Plan;
use crate::world::{Event, World};

/// What happens to a server's disk.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum DiskFault {
    /// The power goes at the `nth` change from now, whatever the storage is doing then.
    Fuse { server: usize, nth: u64 },
    /// The `nth` sync from now fails although the power is there.
    FailSync { server: usize, nth: u64 },
    /// The `nth` write from now finds no space, and leaves half of its bytes.
    FailWrite { server: usize, nth: u64 },
    /// All takes `factor` times as long.
    Slow { server: usize, factor: u64, us: u64 },
}

impl DiskFault {
    /// Draws one.
    pub fn draw(dice: &mut Dice, plan: &Plan) -> DiskFault {
        let server = dice.below(plan.ensemble.servers.len() as u64) as usize;
        match dice.below(8) {
            0..5 => DiskFault::Fuse { server, nth: dice.between(1, 60) },
            5 => DiskFault::FailSync { server, nth: dice.between(1, 40) },
            6 => DiskFault::FailWrite { server, nth: dice.between(1, 40) },
            _ => {
                let (factor, us) = (dice.between(2, 60), dice.between(100_000, 2_000_000));
                DiskFault::Slow { server, factor, us }
            }
        }
    }

    /// What it is counted as.
    pub fn kind(self) -> &'static str {
        match self {
            DiskFault::Fuse { .. } => "loss of power in a disk operation",
            DiskFault::FailSync { .. } => "failed sync",
            DiskFault::FailWrite { .. } => "failed write",
            DiskFault::Slow { .. } => "slow disk",
        }
    }
}

impl World<'_> {
    /// Performs it.
    pub fn strike_disk(&mut self, fault: DiskFault) {
        match fault {
            DiskFault::Fuse { server, nth } => self.servers[server].disk.set_fuse(nth),
            DiskFault::FailSync { server, nth } => {
                self.servers[server].disk.mem.fail_sync(nth);
                self.servers[server].disk_fault = true;
            }
            DiskFault::FailWrite { server, nth } => {
                self.servers[server].disk.mem.fail_write(nth);
                self.servers[server].disk_fault = true;
            }
            DiskFault::Slow { server, factor, us } => {
                self.servers[server].disk_slow = factor;
                self.after(us, Event::SlowDiskEnds { server });
            }
        }
    }
}
