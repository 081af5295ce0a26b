//! Where runs begin, and how far they go.

use oxkeeper_proto::{Epoch, ServerId, Zxid};

use crate::disk::{Disk, Txn};
use crate::driver::Driver;
use crate::rules::Ghost;
use crate::server::{SERVERS, Server};
use crate::step::{Bounds, Members, Step};
use crate::stuck;
use crate::world::{Held, Spent, World};

/// Where the exploration begins.
#[derive(Clone, Copy, Debug)]
enum Begin {
    /// All are LOOKING.
    Looking,
    /// These have had an election, and their leader has just begun to synchronize its followers.
    Synchronizing(Members),
    /// These serve.
    Serving(Members),
}

/// Epoch, and log as (epoch, counter). In one scope the same zxid is the same transaction.
type Written = (Epoch, &'static [(u32, u32)]);

/// A first world and bounds.
pub struct Scope {
    /// For the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Disks of servers 1 to 3. Committed is what a majority has.
    disks: [Written; SERVERS as usize],
    begin: Begin,
    /// Full bounds.
    pub bounds: Bounds,
    /// Depth of a short run.
    pub short_depth: u32,
}

fn bounds(depth: u32, crashes: u8, timeouts: u8, proposals: u8, elections: u8) -> Bounds {
    let most = Spent { crashes, timeouts, proposals, elections };
    Bounds { depth, most, fine: false, recovers: true }
}

const SAME: [Written; 3] = [(1, &[(1, 1)]); 3];
const BEHIND: [Written; 3] = [(1, &[(1, 1)]), (1, &[(1, 1), (1, 2)]), (1, &[(1, 1), (1, 2)])];
const TAIL: [Written; 3] = [(1, &[(1, 1)]), (1, &[(1, 1)]), (1, &[(1, 1), (1, 2)])];
const OLD_TAIL: [Written; 3] =
    [(1, &[(1, 1), (1, 2)]), (2, &[(1, 1), (2, 1)]), (2, &[(1, 1), (2, 1)])];
const LOST: [Written; 3] = [(1, &[(1, 1)]), (1, &[(1, 1)]), (5, &[(5, 1)])];
const ONE_AND_TWO: Members = Members(0b0110);
const TWO_AND_THREE: Members = Members(0b1100);

/// All of them.
pub fn all() -> Vec<Scope> {
    vec![
        Scope {
            name: "fresh",
            about: "three empty servers",
            disks: [(0, &[]); 3],
            begin: Begin::Looking,
            bounds: bounds(21, 2, 1, 2, 3),
            short_depth: 12,
        },
        Scope {
            name: "behind",
            about: "server 1 lacks the last of two transactions of the same epoch",
            disks: BEHIND,
            begin: Begin::Looking,
            bounds: bounds(21, 2, 1, 2, 3),
            short_depth: 12,
        },
        Scope {
            name: "sync",
            about: "server 1 is about to get by DIFF what it lacks, and server 3 looks on",
            disks: BEHIND,
            begin: Begin::Synchronizing(ONE_AND_TWO),
            bounds: bounds(28, 2, 1, 2, 2),
            short_depth: 16,
        },
        Scope {
            name: "tail",
            about: "server 3 has a transaction that only it has, and looks on while 1 and 2 synchronize",
            disks: TAIL,
            begin: Begin::Synchronizing(ONE_AND_TWO),
            bounds: bounds(24, 2, 1, 2, 2),
            short_depth: 14,
        },
        Scope {
            name: "snap",
            about: "server 1 has a tail of an older epoch, and is about to get SNAP",
            disks: OLD_TAIL,
            begin: Begin::Synchronizing(Members::ALL),
            bounds: bounds(22, 2, 1, 2, 2),
            short_depth: 14,
        },
        Scope {
            name: "join",
            about: "2 and 3 serve, and 1 joins while they commit",
            disks: SAME,
            begin: Begin::Serving(TWO_AND_THREE),
            bounds: bounds(25, 2, 1, 2, 2),
            short_depth: 13,
        },
        Scope {
            name: "broadcast",
            about: "all three serve",
            disks: SAME,
            begin: Begin::Serving(Members::ALL),
            bounds: bounds(17, 2, 2, 2, 2),
            short_depth: 10,
        },
        Scope {
            name: "lost",
            about: "1 and 2 have lost their disks, and serve anew; 3 comes with a newer history, and stays out",
            disks: LOST,
            begin: Begin::Serving(ONE_AND_TWO),
            // Without them no election is due, and only an election may bring 3's history back.
            bounds: Bounds { recovers: false, ..bounds(20, 0, 0, 2, 3) },
            short_depth: 20,
        },
        Scope {
            name: "votes",
            about: "every notification of an election is a step; server 3 is behind",
            disks: [(1, &[(1, 1)]), (1, &[(1, 1)]), (0, &[])],
            begin: Begin::Looking,
            bounds: Bounds { fine: true, ..bounds(14, 1, 1, 1, 0) },
            short_depth: 10,
        },
    ]
}

impl Scope {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Scope> {
        all().into_iter().find(|scope| scope.name == name)
    }

    /// The first world.
    pub fn world(&self, driver: &mut Driver) -> Held<World> {
        let mut zxids: Vec<_> =
            self.disks.iter().flat_map(|(_, log)| log.iter().copied()).collect();
        zxids.sort_unstable();
        zxids.dedup();
        let txn = |value: usize| {
            let (epoch, counter) = zxids[value];
            Txn { zxid: Zxid::new(epoch, counter), value: value as u8 }
        };
        let known: Vec<_> = (0..zxids.len()).map(txn).collect();
        let majority = |txn: &&Txn| {
            let zxid = (txn.zxid.epoch(), txn.zxid.counter());
            let holders = self.disks.iter().filter(|(_, log)| log.contains(&zxid));
            2 * holders.count() > SERVERS as usize
        };
        let committed: Vec<_> = known.iter().filter(majority).copied().collect();
        let servers = [1, 2, 3].map(|id: ServerId| {
            let (epoch, log) = self.disks[id as usize - 1];
            let has = |txn: &&Txn| log.contains(&(txn.zxid.epoch(), txn.zxid.counter()));
            let log = known.iter().filter(has).copied().collect();
            Server::new(id, Disk { accepted: epoch, current: epoch, log, ..Disk::default() })
        });
        let ghost = Ghost { committed, proposed: known, ..Ghost::default() };
        self.prologue(World::new(servers, ghost), driver)
    }

    fn prologue(&self, mut world: World, driver: &mut Driver) -> Held<World> {
        let mut go = |world: &mut World, step| -> Held<()> {
            if let Some(next) = world.take(step, &self.bounds, driver) {
                *world = next?;
            }
            Ok(())
        };
        for id in 1..=SERVERS {
            go(&mut world, Step::Start(id))?;
        }
        if let Begin::Synchronizing(members) | Begin::Serving(members) = self.begin {
            go(&mut world, Step::Elect(members))?;
            while let Some(step) =
                stuck::next_delivery(&world, &self.bounds, &mut Driver::default())
            {
                if matches!(self.begin, Begin::Synchronizing(_)) && world.begins_to_synchronize() {
                    break;
                }
                go(&mut world, step)?;
            }
        }
        world.spent = Spent::default();
        Ok(world)
    }
}
