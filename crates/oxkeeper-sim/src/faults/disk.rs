//! Disks that lose power in the middle of their work, fail, lie, rot, fill up, hang, or are replaced.

use oxkeeper_storage::mem_disk::Lie;

use crate::dice::Dice;
use crate::disk::Phase;
use crate::disk::rot::Rot;
use crate::disk::trust::HarmKind;
use crate::faults::leader_of;
use crate::plan::Plan;
use crate::server::Death;
use crate::world::{Event, World};

/// What happens to a server's disk.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum DiskFault {
    /// The power goes at the `nth` change from now, whatever the storage is doing then.
    Fuse { server: usize, nth: u64 },
    /// The power goes at the `nth` change from where somebody's storage next begins this.
    Aim { phase: Phase, nth: u64 },
    /// The `nth` sync from now fails although the power is there.
    FailSync { server: usize, nth: u64 },
    /// The `nth` write from now finds no space, and leaves half of its bytes.
    FailWrite { server: usize, nth: u64 },
    /// The `nth` read from now fails.
    FailRead { server: usize, nth: u64 },
    /// No write and no creation of a file finds space.
    Full { server: usize, us: u64 },
    /// All takes `factor` times as long.
    Slow { server: usize, factor: u64, us: u64 },
    /// Nothing is done, by the leader's disk or that of a server. `killed`: until somebody ends the process.
    Hang { server: Option<usize>, us: u64, killed: bool },
    /// Syncs say that all is durable, which a loss of power after `us` shows to be wrong. `power`: there is
    /// one; else the disk writes all of it in the end.
    Lie { server: usize, lie: Lie, us: u64, power: bool },
    /// The `nth` write from now goes to another place.
    Misdirect { server: usize, nth: u64, sectors: i64, file: usize },
    /// The power goes at the `nth` change, and tears within sectors.
    TearSectors { server: usize, nth: u64 },
    /// A file is damaged. `killed`: while no process runs.
    Rot { server: usize, rot: Rot, killed: bool },
    /// An empty disk takes the place of the old one.
    Replace { server: usize },
    /// The directory is as another server leaves it.
    Apache { server: usize, pick: u64 },
}

/// A state of a disk that ends.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum Ailment {
    Full,
    Hang { incarnation: u64, killed: bool },
    Lie { power: bool },
}

impl DiskFault {
    /// Draws one of those that every run has.
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

    /// Draws one of the others. Those that a run does not allow find nothing to do when they strike.
    pub fn draw_special(dice: &mut Dice, plan: &Plan) -> DiskFault {
        let server = dice.below(plan.ensemble.servers.len() as u64) as usize;
        match dice.below(17) {
            0..5 => {
                let (phase, most) = dice.pick(&Phase::AIMS);
                DiskFault::Aim { phase, nth: dice.between(1, most) }
            }
            5 => DiskFault::FailRead { server, nth: dice.between(1, 12) },
            6 => DiskFault::Full { server, us: dice.between(10_000, 2_000_000) },
            7 => DiskFault::Hang {
                server: dice.one_in(3).then_some(server),
                us: dice.between(100_000, 6_000_000),
                killed: dice.one_in(2),
            },
            8..10 => DiskFault::Lie {
                server,
                lie: dice.pick(&[Lie::Logs, Lie::Logs, Lie::Everything]),
                us: dice.between(100_000, 3_000_000),
                power: !dice.one_in(5),
            },
            10 => DiskFault::Misdirect {
                server,
                nth: dice.between(1, 20),
                sectors: dice.between(0, 16) as i64 - 8,
                file: dice.below(4) as usize,
            },
            11 => DiskFault::TearSectors { server, nth: dice.between(1, 40) },
            12..15 => DiskFault::Rot { server, rot: Rot::draw(dice), killed: !dice.one_in(3) },
            15 => DiskFault::Replace { server },
            _ => DiskFault::Apache { server, pick: dice.any() },
        }
    }

    /// What it is counted as.
    pub fn kind(self) -> &'static str {
        match self {
            DiskFault::Fuse { .. } => "loss of power in a disk operation",
            DiskFault::Aim { .. } => "loss of power aimed at",
            DiskFault::FailSync { .. } => "failed sync",
            DiskFault::FailWrite { .. } => "failed write",
            DiskFault::FailRead { .. } => "failed read",
            DiskFault::Full { .. } => "full disk",
            DiskFault::Slow { .. } => "slow disk",
            DiskFault::Hang { .. } => "hanging disk",
            DiskFault::Lie { .. } => "lying disk",
            DiskFault::Misdirect { .. } => "misdirected write",
            DiskFault::TearSectors { .. } => "torn sector",
            DiskFault::Rot { .. } => "rot",
            DiskFault::Replace { .. } => "replaced disk",
            DiskFault::Apache { .. } => "other server's directory",
        }
    }
}

impl World<'_> {
    /// Performs it.
    pub fn strike_disk(&mut self, fault: DiskFault) {
        match fault {
            DiskFault::Fuse { server, nth } => self.servers[server].disk.set_fuse(nth),
            DiskFault::Aim { phase, nth } => self.aims.add(phase, nth),
            DiskFault::FailSync { server, nth } => self.servers[server].disk.mem.fail_sync(nth),
            DiskFault::FailWrite { server, nth } => self.servers[server].disk.mem.fail_write(nth),
            DiskFault::FailRead { server, nth } => self.servers[server].disk.mem.fail_read(nth),
            DiskFault::Full { server, us } => {
                self.servers[server].disk.mem.set_full(true);
                self.after(us, Event::DiskHeals { server, from: Ailment::Full });
            }
            DiskFault::Slow { server, factor, us } => {
                self.servers[server].disk_slow = factor;
                self.after(us, Event::SlowDiskEnds { server });
            }
            DiskFault::Hang { server, us, killed } => {
                if let Some(server) = server.or_else(|| leader_of(&self.servers)) {
                    self.hang_disk(server, us, killed);
                }
            }
            DiskFault::Lie { server, lie, us, power } if self.may_harm(server) => {
                self.summary.count_disk("lies");
                self.servers[server].disk.mem.set_lie(Some(lie));
                self.harm(server, HarmKind::Lying, Vec::new());
                self.after(us, Event::DiskHeals { server, from: Ailment::Lie { power } });
            }
            DiskFault::Misdirect { server, nth, sectors, file } if self.may_harm(server) => {
                self.summary.count_disk("misdirected write");
                self.servers[server].disk.mem.misdirect_write(nth, sectors, file);
                self.harm(server, HarmKind::Damaged, Vec::new());
            }
            DiskFault::TearSectors { server, nth } if self.may_harm(server) => {
                self.summary.count_disk("torn sectors");
                self.servers[server].disk.mem.tear_sectors();
                self.servers[server].disk.set_fuse(nth);
                self.harm(server, HarmKind::Damaged, Vec::new());
            }
            DiskFault::Rot { server, rot, killed } => self.rot(server, rot, killed),
            DiskFault::Replace { server } if self.may_harm(server) && self.vouched(server) => {
                if self.servers[server].is_up() {
                    self.crash(server, Death::Kill);
                }
                self.replace_disk(server);
            }
            DiskFault::Apache { server, pick } if self.plan.disk.apache => {
                self.leave_to_apache(server, pick);
            }
            DiskFault::Lie { .. }
            | DiskFault::Apache { .. }
            | DiskFault::Misdirect { .. }
            | DiskFault::TearSectors { .. }
            | DiskFault::Replace { .. } => {}
        }
    }

    /// What was wrong with a disk ends.
    pub fn disk_heals(&mut self, server: usize, from: Ailment) {
        match from {
            Ailment::Full => self.servers[server].disk.mem.set_full(false),
            Ailment::Hang { incarnation, killed } => {
                if killed && self.servers[server].is_running(incarnation) {
                    self.crash(server, Death::Kill);
                }
            }
            Ailment::Lie { power } if self.servers[server].disk.mem.lie().is_some() => {
                if power && self.servers[server].is_up() && self.now < self.plan.faults_end {
                    self.crash(server, Death::Power);
                } else {
                    self.servers[server].disk.mem.set_lie(None);
                    self.servers[server].trust.harm = None;
                }
            }
            Ailment::Lie { .. } => {}
        }
    }

    /// No disk fails, lies or loses power any more; at most one goes on to hang.
    pub fn end_disk_faults(&mut self) {
        self.aims.clear();
        for server in 0..self.servers.len() {
            self.servers[server].disk.set_fuse(0);
            self.disk_heals(server, Ailment::Full);
            self.disk_heals(server, Ailment::Lie { power: false });
            if self.servers[server].hangs_until > self.now {
                self.crash(server, Death::Kill);
            }
        }
        self.begin_last_hang();
    }
}
