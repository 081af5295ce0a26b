//! Where runs begin, and how far they go.

use oxkeeper_proto::{Epoch, ServerId, Zxid};

use crate::disk::{Disk, Txn};
use crate::rules::{Broken, Ghost};
use crate::server::{SERVERS, Server};
use crate::step::{Bounds, Members, Step};
use crate::world::{Driver, Spent, World};

/// A first world and bounds.
pub struct Scope {
    /// For the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Disks of servers 1 to 3: (epoch, log as (epoch, counter)). The same zxid is the same transaction.
    disks: [(Epoch, &'static [(u32, u32)]); SERVERS as usize],
    /// How many of the transactions, in zxid order, are committed.
    committed: usize,
    /// These serve before anything is explored; the others are down or LOOKING.
    serving: Option<Members>,
    down: Members,
    /// Full bounds.
    pub bounds: Bounds,
    /// Depth of a short run.
    pub short_depth: u32,
}

const NOBODY: Members = Members(0);

fn bounds(depth: u32, crashes: u8, timeouts: u8, proposals: u8, elections: u8) -> Bounds {
    Bounds { depth, most: Spent { crashes, timeouts, proposals, elections }, fine: false }
}

/// All of them.
pub fn all() -> Vec<Scope> {
    let fresh: [(Epoch, &[(u32, u32)]); 3] = [(0, &[]); 3];
    vec![
        Scope {
            name: "fresh",
            about: "three empty servers",
            disks: fresh,
            committed: 0,
            serving: None,
            down: NOBODY,
            bounds: bounds(34, 2, 1, 2, 3),
            short_depth: 18,
        },
        Scope {
            name: "behind",
            about: "server 1 lacks the last of two transactions of the same epoch",
            disks: [(1, &[(1, 1)]), (1, &[(1, 1), (1, 2)]), (1, &[(1, 1), (1, 2)])],
            committed: 2,
            serving: None,
            down: NOBODY,
            bounds: bounds(30, 2, 1, 1, 3),
            short_depth: 16,
        },
        Scope {
            name: "tail",
            about: "server 3 has a transaction that only it has",
            disks: [(1, &[(1, 1)]), (1, &[(1, 1)]), (1, &[(1, 1), (1, 2)])],
            committed: 1,
            serving: None,
            down: NOBODY,
            bounds: bounds(30, 2, 1, 1, 3),
            short_depth: 16,
        },
        Scope {
            name: "snap",
            about: "server 1 has a tail of an older epoch, and needs SNAP",
            disks: [(1, &[(1, 1), (1, 2)]), (2, &[(1, 1), (2, 1)]), (2, &[(1, 1), (2, 1)])],
            committed: 2,
            serving: None,
            down: NOBODY,
            bounds: bounds(30, 2, 1, 1, 3),
            short_depth: 16,
        },
        Scope {
            name: "join",
            about: "2 and 3 serve, and 1 joins while they commit",
            disks: [(1, &[(1, 1)]), (1, &[(1, 1)]), (1, &[(1, 1)])],
            committed: 1,
            serving: Some(Members(0b1100)),
            down: NOBODY,
            bounds: bounds(30, 2, 1, 2, 2),
            short_depth: 18,
        },
        Scope {
            name: "broadcast",
            about: "all three serve",
            disks: [(1, &[(1, 1)]), (1, &[(1, 1)]), (1, &[(1, 1)])],
            committed: 1,
            serving: Some(Members::ALL),
            down: NOBODY,
            bounds: bounds(26, 2, 2, 2, 2),
            short_depth: 14,
        },
        Scope {
            name: "votes",
            about: "every notification of an election is a step; server 3 is behind",
            disks: [(1, &[(1, 1)]), (1, &[(1, 1)]), (0, &[])],
            committed: 1,
            serving: None,
            down: NOBODY,
            bounds: Bounds { fine: true, ..bounds(22, 1, 1, 1, 0) },
            short_depth: 12,
        },
    ]
}

impl Scope {
    /// The one of this name.
    pub fn named(name: &str) -> Option<Scope> {
        all().into_iter().find(|scope| scope.name == name)
    }

    /// The first world.
    pub fn world(&self, driver: &mut Driver) -> Result<World, Broken> {
        let mut zxids: Vec<_> =
            self.disks.iter().flat_map(|(_, log)| log.iter().copied()).collect();
        zxids.sort_unstable();
        zxids.dedup();
        let txn = |value: usize| {
            let (epoch, counter) = zxids[value];
            Txn { zxid: Zxid::new(epoch, counter), value: value as u8 }
        };
        let known: Vec<_> = (0..zxids.len()).map(txn).collect();
        // A tail of an older epoch is older than what was committed, and not committed itself.
        let quorum = |txn: &&Txn| {
            let has = |(_, log): &&(Epoch, &[(u32, u32)])| {
                log.contains(&(txn.zxid.epoch(), txn.zxid.counter()))
            };
            2 * self.disks.iter().filter(has).count() > SERVERS as usize
        };
        let committed: Vec<_> = known.iter().filter(quorum).copied().collect();
        assert_eq!(committed.len(), self.committed, "scope {}", self.name);
        let servers = [1, 2, 3].map(|id: ServerId| {
            let (epoch, log) = self.disks[id as usize - 1];
            let has = |txn: &&Txn| log.contains(&(txn.zxid.epoch(), txn.zxid.counter()));
            let log = known.iter().filter(has).copied().collect();
            Server::new(id, Disk { accepted: epoch, current: epoch, log, ..Disk::default() })
        });
        let ghost = Ghost { committed, proposed: known, ..Ghost::default() };
        self.prologue(World::new(servers, ghost), driver)
    }

    fn prologue(&self, mut world: World, driver: &mut Driver) -> Result<World, Broken> {
        let mut go = |world: &mut World, step| -> Result<(), Broken> {
            if let Some(next) = world.take(step, &self.bounds, driver) {
                *world = next?;
            }
            Ok(())
        };
        for id in (1..=SERVERS).filter(|id| !self.down.has(*id)) {
            go(&mut world, Step::Start(id))?;
        }
        if let Some(members) = self.serving {
            let none = Bounds { most: Spent { elections: 0, ..Spent::default() }, ..self.bounds };
            go(&mut world, Step::Elect(members))?;
            while let Some(step) =
                crate::stuck::next_delivery(&world, &none, &mut Driver::default())
            {
                go(&mut world, step)?;
            }
        }
        if !self.bounds.fine {
            world.votes.clear();
        }
        world.spent = Spent::default();
        Ok(world)
    }
}
