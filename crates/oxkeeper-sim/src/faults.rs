//! What goes wrong: crashes, loss of power in the middle of a disk operation, partitions, resets,
//! pauses, slow disks and networks.

use crate::net::ConnId;
use crate::server::Server;
use crate::world::{Event, World};

/// Faults under way.
#[derive(Debug, Default)]
pub struct FaultPlan {
    /// Connections whose one end died without a word.
    pub silent: Vec<ConnId>,
    ended: bool,
}

impl World<'_> {
    /// The next fault.
    pub fn fault(&mut self) {
        let silent: Vec<_> = std::mem::take(&mut self.faults.silent);
        for conn in silent {
            // The machine is back, or its address is taken back: the peers learn that it is gone.
            self.reset(conn);
        }
        if self.now > self.plan.faults_end {
            self.end_faults();
            return;
        }
        let delay = self.dice.between(100_000, 2_000_000);
        self.after(delay, Event::Fault);
        let servers = self.servers.len() as u64;
        let victim = self.dice.below(servers) as usize;
        match self.dice.below(16) {
            0 | 1 => {
                if self.servers[victim].is_up() {
                    let power = !self.dice.one_in(4);
                    self.crash(victim, power);
                }
            }
            2..=4 => {
                let nth = self.dice.between(1, 60);
                self.note(|| format!("s{} will lose power at disk operation {nth}", victim + 1));
                self.servers[victim].disk.set_fuse(nth);
            }
            5 => self.isolate(victim),
            6 => {
                let other = self.dice.below(servers) as usize;
                if other != victim {
                    self.partition(victim, other);
                }
            }
            7 => self.reset_some(victim),
            8 => {
                let pause = self.dice.between(50_000, 3_000_000);
                self.note(|| format!("s{} pauses {pause} us", victim + 1));
                self.servers[victim].paused_until = self.now + pause;
            }
            9 => {
                self.servers[victim].disk_slow = self.dice.between(2, 60);
                let delay = self.dice.between(100_000, 2_000_000);
                self.after(delay, Event::SlowDiskEnds { server: victim });
            }
            15 => self.break_disk(victim),
            12..=14 => self.strand_leader(),
            10 => self.net.slow = self.dice.between(0, 30_000),
            _ => {
                // The whole ensemble loses power at once.
                if self.dice.one_in(3) {
                    for server in 0..self.servers.len() {
                        if self.servers[server].is_up() {
                            self.crash(server, true);
                        }
                    }
                }
            }
        }
    }

    /// A write or sync will fail although the power is there. The process must not go on.
    fn break_disk(&mut self, victim: usize) {
        let nth = self.dice.between(1, 40);
        let sync = !self.dice.one_in(4);
        let what = if sync { "sync" } else { "write" };
        self.note(|| format!("s{}: {what} {nth} from now will fail", victim + 1));
        let disk = &self.servers[victim].disk;
        if sync {
            disk.mem.fail_sync(nth);
        } else {
            disk.mem.fail_write(nth);
        }
        self.servers[victim].disk_fault = true;
    }

    fn partition(&mut self, a: usize, b: usize) {
        let delay = self.dice.between(100_000, 3_000_000);
        self.partition_for(a, b, delay);
    }

    fn partition_for(&mut self, a: usize, b: usize, delay: u64) {
        self.note(|| format!("network: {a} and {b} do not reach each other"));
        self.summary.partitions += 1;
        self.block(a, b);
        self.after(delay, Event::HealLink { a, b });
    }

    /// The leader loses the other servers, but not its clients: it goes on to log proposals that nobody
    /// else gets. The others elect a leader that no client reaches, so nothing happens in the new
    /// epoch until the old leader is back, with a history that must be cut.
    fn strand_leader(&mut self) {
        let leads =
            |server: &Server| server.process.as_ref().is_some_and(|process| process.seen.leads());
        let Some(leader) = self.servers.iter().position(leads) else { return };
        self.note(|| format!("s{} is a leader on its own", leader + 1));
        self.summary.stranded += 1;
        let alone = self.dice.between(200_000, 2_500_000);
        let unseen = alone + self.dice.between(0, 1_500_000);
        for other in (0..self.servers.len()).filter(|other| *other != leader) {
            self.partition_for(leader, other, alone);
            for client in 0..self.clients.len() {
                let node = self.servers.len() + client;
                // Those who were at another server come to this one.
                for conn in self.conns_between(node, other) {
                    self.reset(conn);
                }
                self.partition_for(node, other, unseen);
            }
        }
        if self.dice.one_in(3) {
            let nth = self.dice.between(5, 200);
            self.servers[leader].disk.set_fuse(nth);
        }
    }

    fn isolate(&mut self, victim: usize) {
        for other in 0..self.servers.len() {
            if other != victim {
                self.partition(victim, other);
            }
        }
        if self.dice.one_in(2) {
            for client in 0..self.clients.len() {
                let node = self.servers.len() + client;
                self.partition(victim, node);
            }
        }
    }

    fn reset_some(&mut self, victim: usize) {
        let theirs = self.conns.iter().filter(|(_, conn)| conn.nodes.contains(&victim));
        let ids: Vec<_> = theirs.map(|(id, _)| *id).collect();
        for id in ids {
            if self.dice.one_in(2) {
                self.reset(id);
            }
        }
    }

    fn end_faults(&mut self) {
        if std::mem::replace(&mut self.faults.ended, true) {
            return;
        }
        self.note(|| "the faults end".to_owned());
        self.net.slow = 0;
        let nodes = self.servers.len() + self.clients.len();
        for a in 0..nodes {
            for b in 0..a {
                self.heal(a, b);
            }
        }
        for server in &mut self.servers {
            server.disk.set_fuse(0);
            server.disk_slow = 1;
            server.paused_until = 0;
        }
        for server in 0..self.servers.len() {
            self.after(10_000, Event::Restart { server });
        }
    }
}
