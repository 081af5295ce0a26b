//! Partitions, resets and slow networks.

use crate::dice::Dice;
use crate::plan::Plan;
use crate::server::Server;
use crate::world::{Event, World};

/// What happens to the network.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum NetworkFault {
    /// Two servers do not reach each other.
    Partition { a: usize, b: usize, us: u64 },
    /// A server is cut off from all others, and perhaps from the clients.
    Isolate { server: usize, us: u64, clients: bool },
    /// The leader loses the other servers, but not its clients: it goes on to log proposals that nobody
    /// else gets. The others elect a leader that no client reaches before `unseen`, so nothing happens in
    /// the new epoch until the old leader is back, with a history that must be cut.
    StrandLeader { alone: u64, unseen: u64, fuse: Option<u64> },
    /// Half of a server's connections break.
    ResetSome { server: usize },
    /// All is slower, up to this many µs.
    Slow { us: u64 },
}

impl NetworkFault {
    /// Draws one.
    pub fn draw(dice: &mut Dice, plan: &Plan) -> NetworkFault {
        let servers = plan.ensemble.servers.len() as u64;
        let server = dice.below(servers) as usize;
        let other = dice.below(servers) as usize;
        let us = dice.between(100_000, 3_000_000);
        match dice.below(7) {
            0 => NetworkFault::Isolate { server, us, clients: dice.one_in(2) },
            1 if server != other => NetworkFault::Partition { a: server, b: other, us },
            1 | 2 => NetworkFault::ResetSome { server },
            3 => NetworkFault::Slow { us: dice.between(0, 30_000) },
            _ => {
                let alone = dice.between(200_000, 2_500_000);
                let unseen = alone + dice.between(0, 1_500_000);
                let fuse = dice.one_in(3).then(|| dice.between(5, 200));
                NetworkFault::StrandLeader { alone, unseen, fuse }
            }
        }
    }

    /// What it is counted as.
    pub fn kind(self) -> &'static str {
        match self {
            NetworkFault::Partition { .. } => "partition",
            NetworkFault::Isolate { .. } => "isolated server",
            NetworkFault::StrandLeader { .. } => "stranded leader",
            NetworkFault::ResetSome { .. } => "reset connections",
            NetworkFault::Slow { .. } => "slow network",
        }
    }
}

impl World<'_> {
    /// Performs it.
    pub fn strike_network(&mut self, fault: NetworkFault) {
        match fault {
            NetworkFault::Partition { a, b, us } => self.partition(a, b, us),
            NetworkFault::Isolate { server, us, clients } => self.isolate(server, us, clients),
            NetworkFault::StrandLeader { alone, unseen, fuse } => {
                self.strand_leader(alone, unseen, fuse);
            }
            NetworkFault::ResetSome { server } => self.reset_some(server),
            NetworkFault::Slow { us } => self.net.slow = us,
        }
    }

    fn partition(&mut self, a: usize, b: usize, us: u64) {
        self.block(a, b);
        self.after(us, Event::HealLink { a, b });
    }

    fn strand_leader(&mut self, alone: u64, unseen: u64, fuse: Option<u64>) {
        let leads =
            |server: &Server| server.process.as_ref().is_some_and(|process| process.seen.leads());
        let Some(leader) = self.servers.iter().position(leads) else { return };
        self.note(|| format!("s{} is a leader on its own", leader + 1));
        for other in (0..self.servers.len()).filter(|other| *other != leader) {
            self.partition(leader, other, alone);
            for client in 0..self.clients.len() {
                let node = self.servers.len() + client;
                // Those who were at another server come to this one.
                for conn in self.conns_between(node, other) {
                    self.reset(conn);
                }
                self.partition(node, other, unseen);
            }
        }
        if let Some(nth) = fuse {
            self.servers[leader].disk.set_fuse(nth);
        }
    }

    fn isolate(&mut self, server: usize, us: u64, clients: bool) {
        let nodes = self.servers.len() + if clients { self.clients.len() } else { 0 };
        for other in (0..nodes).filter(|other| *other != server) {
            self.partition(server, other, us);
        }
    }

    fn reset_some(&mut self, server: usize) {
        let theirs = self.conns.iter().filter(|(_, conn)| conn.nodes.contains(&server));
        let ids: Vec<_> = theirs.map(|(id, _)| *id).collect();
        for id in ids {
            if self.dice.one_in(2) {
                self.reset(id);
            }
        }
    }
}
