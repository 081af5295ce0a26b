//! Partitions of every kind, broken connections, far and narrow lines.

use crate::dice::Dice;
use crate::faults::{Fault, ProcessFault, leader_of};
use crate::net::{ConnId, Cut, Kind};
use crate::plan::Plan;
use crate::server::Death;
use crate::world::{Event, World};

/// What happens to the network.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum NetworkFault {
    /// Two servers do not reach each other.
    Partition { a: usize, b: usize, us: u64 },
    /// Nothing gets from one server to another; the way back is open.
    OneWay { from: usize, to: usize, us: u64 },
    /// No other server hears this one, but it hears them.
    Mute { server: usize, us: u64 },
    /// This server hears no other, but they hear it.
    Deaf { server: usize, us: u64 },
    /// One port of a server is not reached by anyone, nor does it reach others' ports of that kind.
    Port { server: usize, kind: Kind, us: u64 },
    /// A line that is there and gone, again and again.
    Flap { a: usize, b: usize, times: u64, down: u64, up: u64 },
    /// A server is cut off from all others, and perhaps from the clients.
    Isolate { server: usize, us: u64, clients: bool },
    /// The leader is cut off from the other servers, and does not run for `us`. Clients reach everybody: the
    /// others elect another leader, and when the old one comes to itself, it does not know. If its clock
    /// `stands`, it does not find out soon, either.
    AbsentLeader { us: u64, cut_off: u64, stands: bool },
    /// The leader loses the other servers, but not its clients: it goes on to log proposals that nobody
    /// else gets. The others elect a leader that no client reaches before `unseen`, so nothing happens in
    /// the new epoch until the old leader is back, with a history that must be cut.
    StrandLeader { alone: u64, unseen: u64, fuse: Option<u64> },
    /// The next leader that serves and sends a tree loses all but its receiver while it does, for `us`: its role ends
    /// amid the stream, with proposals that nobody else has.
    StrandStream { us: u64 },
    /// Half of a server's connections break.
    ResetSome { server: usize },
    /// Half of a server's connections break in the middle of what they carry.
    BreakSome { server: usize },
    /// The next proposal that a leader sends to this server has lost its end.
    Damage { server: usize },
    /// All is slower, up to this many µs.
    Slow { us: u64 },
    /// What one server sends to another takes longer than what comes back.
    Far { from: usize, to: usize, extra: u64, us: u64 },
    /// A server gets only so many bytes a second from each other one: it reads slowly, or its line is bad.
    Narrow { server: usize, rate: u64, us: u64 },
}

impl NetworkFault {
    /// Draws one.
    pub fn draw(dice: &mut Dice, plan: &Plan) -> NetworkFault {
        let servers = plan.ensemble.servers.len() as u64;
        let server = dice.below(servers) as usize;
        let other = (server + dice.between(1, servers.max(2) - 1) as usize) % servers as usize;
        let us = dice.between(100_000, 3_000_000);
        match dice.below(25) {
            24 => NetworkFault::Damage { server },
            0..2 => NetworkFault::Isolate { server, us, clients: dice.one_in(2) },
            2 => NetworkFault::Partition { a: server, b: other, us },
            3 => NetworkFault::OneWay { from: server, to: other, us },
            4 => NetworkFault::Mute { server, us },
            5 => NetworkFault::Deaf { server, us },
            6..8 => {
                let kind = dice.pick(&[Kind::Quorum, Kind::Election, Kind::Client]);
                NetworkFault::Port { server, kind, us }
            }
            8 => {
                let (times, down) = (dice.between(3, 12), dice.between(5_000, 250_000));
                let up = dice.between(5_000, 250_000);
                NetworkFault::Flap { a: server, b: other, times, down, up }
            }
            9..11 => NetworkFault::ResetSome { server },
            11..13 => NetworkFault::BreakSome { server },
            13 => NetworkFault::Slow { us: dice.between(0, 30_000) },
            14 => {
                let extra = dice.between(5_000, 120_000);
                NetworkFault::Far { from: server, to: other, extra, us }
            }
            15..17 => NetworkFault::narrow(dice, plan, server),
            _ => {
                let alone = dice.between(200_000, 2_500_000);
                let unseen = alone + dice.between(0, 1_500_000);
                let fuse = dice.one_in(3).then(|| dice.between(5, 200));
                NetworkFault::StrandLeader { alone, unseen, fuse }
            }
        }
    }

    fn narrow(dice: &mut Dice, plan: &Plan, server: usize) -> NetworkFault {
        let us = dice.between(500_000, 8_000_000);
        // As much as a large value or two, or as the usual small ones, in the time that a learner has.
        let bytes = match plan.shape.large_values {
            true => dice.between(450_000, 1_500_000),
            false => dice.between(3_000, 100_000),
        };
        NetworkFault::Narrow { server, rate: bytes * 1_000_000 / plan.init_limit_us(), us }
    }

    /// Draws what makes a leader old without its knowing it.
    pub fn draw_absence(dice: &mut Dice, plan: &Plan) -> NetworkFault {
        let us = plan.sync_limit_us() + dice.between(50_000, 700_000);
        let cut_off = us + dice.between(20_000, 2 * plan.sync_limit_us());
        NetworkFault::AbsentLeader { us, cut_off, stands: !dice.one_in(3) }
    }

    /// Draws what makes a leader end its role amid a stream.
    pub fn draw_stream(dice: &mut Dice, plan: &Plan) -> NetworkFault {
        NetworkFault::StrandStream { us: plan.sync_limit_us() * 2 + dice.between(0, 1_000_000) }
    }

    /// What it is counted as.
    pub fn kind(self) -> &'static str {
        match self {
            NetworkFault::Partition { .. } => "partition",
            NetworkFault::OneWay { .. } => "one-way partition",
            NetworkFault::Mute { .. } => "server that is not heard",
            NetworkFault::Deaf { .. } => "server that does not hear",
            NetworkFault::Port { kind: Kind::Quorum, .. } => "dead quorum port",
            NetworkFault::Port { kind: Kind::Election, .. } => "dead election port",
            NetworkFault::Port { kind: Kind::Client, .. } => "dead client port",
            NetworkFault::Flap { .. } => "flapping line",
            NetworkFault::Isolate { .. } => "isolated server",
            NetworkFault::AbsentLeader { .. } => "absent leader",
            NetworkFault::StrandLeader { .. } => "stranded leader",
            NetworkFault::StrandStream { .. } => "leader stranded amid a stream",
            NetworkFault::ResetSome { .. } => "reset connections",
            NetworkFault::BreakSome { .. } => "connections broken midway",
            NetworkFault::Damage { .. } => "damaged proposal",
            NetworkFault::Slow { .. } => "slow network",
            NetworkFault::Far { .. } => "far server",
            NetworkFault::Narrow { .. } => "narrow line",
        }
    }
}

impl World<'_> {
    /// Performs it.
    pub fn strike_network(&mut self, fault: NetworkFault) {
        let others = |server: usize, all: usize| (0..all).filter(move |other| *other != server);
        let (servers, nodes) = (self.servers.len(), self.servers.len() + self.clients.len());
        match fault {
            NetworkFault::Partition { a, b, us } => self.partition(a, b, us),
            NetworkFault::OneWay { from, to, us } => self.cut_for(from, to, None, us),
            NetworkFault::Mute { server, us } => {
                others(server, servers).for_each(|other| self.cut_for(server, other, None, us));
            }
            NetworkFault::Deaf { server, us } => {
                others(server, servers).for_each(|other| self.cut_for(other, server, None, us));
            }
            NetworkFault::Port { server, kind, us } => {
                for other in others(server, nodes) {
                    self.cut_for(server, other, Some(kind), us);
                    self.cut_for(other, server, Some(kind), us);
                }
            }
            NetworkFault::Flap { a, b, times, down, up } => {
                self.partition(a, b, down);
                if times > 1 {
                    let next = NetworkFault::Flap { a, b, times: times - 1, down, up };
                    self.after(down + up, Event::Again { fault: Fault::Network(next) });
                }
            }
            NetworkFault::Isolate { server, us, clients } => {
                let all = if clients { nodes } else { servers };
                others(server, all).for_each(|other| self.partition(server, other, us));
            }
            NetworkFault::AbsentLeader { us, cut_off, stands } => {
                if let Some(server) = leader_of(&self.servers) {
                    self.strike_process(match stands {
                        true => ProcessFault::Freeze { server, us, stands },
                        false => ProcessFault::Pause { server, us },
                    });
                    for other in (0..self.servers.len()).filter(|other| *other != server) {
                        self.partition(server, other, cut_off);
                    }
                }
            }
            NetworkFault::StrandLeader { alone, unseen, fuse } => {
                self.strand_leader(alone, unseen, fuse);
            }
            NetworkFault::StrandStream { us } => self.faults.strand_stream = Some(us),
            NetworkFault::ResetSome { server } => self.reset_some(server, false),
            NetworkFault::BreakSome { server } => self.reset_some(server, true),
            NetworkFault::Damage { server } => _ = self.faults.to_damage.insert(server),
            NetworkFault::Slow { us } => self.net.slow = us,
            NetworkFault::Far { from, to, extra, us } => {
                self.net.lines.set_far(from, to, extra);
                self.after(us, Event::Widened { from, to });
            }
            NetworkFault::Narrow { server, rate, us } => {
                for from in others(server, servers) {
                    self.net.lines.set_rate(from, server, rate);
                    self.after(us, Event::Widened { from, to: server });
                }
            }
        }
    }

    /// Where trees are large, one server's line stays narrow to the end, and it needs all of the tree: that
    /// takes several times initLimit, and must come to an end all the same.
    pub fn narrow_at_the_end(&mut self) {
        let shape = &self.plan.shape;
        if !shape.large_values || !shape.force_snapshot_sync || self.servers.len() < 3 {
            return;
        }
        let leader = leader_of(&self.servers);
        let Some(leader) = leader.filter(|_| self.servers.iter().all(|server| server.is_up()))
        else {
            return;
        };
        let Some(process) = &self.servers[leader].process else { return };
        let tree = process.shared.state.read().approximate_data_size();
        let server = (leader + 1) % self.servers.len();
        let limit_us = self.plan.init_limit_us();
        let times = self.dice.between(2, 5);
        // A large value is to arrive within half of initLimit.
        let rate = (tree / times).max(450_000) * 1_000_000 / limit_us;
        self.summary.count_fault("narrow line to the end");
        self.note(|| format!("{tree} bytes will go to s{} at {rate} bytes a second", server + 1));
        for from in (0..self.servers.len()).filter(|from| *from != server) {
            self.net.lines.set_rate(from, server, rate);
        }
        self.plan.give_up += 4 * times * limit_us + 20 * limit_us;
        self.crash(server, Death::Stop);
    }

    fn cut_for(&mut self, from: usize, to: usize, kind: Option<Kind>, us: u64) {
        let cut = Cut { from, to, kind };
        self.cut(cut);
        self.after(us, Event::Heal { cut });
    }

    fn partition(&mut self, a: usize, b: usize, us: u64) {
        self.cut_for(a, b, None, us);
        self.cut_for(b, a, None, us);
    }

    fn strand_leader(&mut self, alone: u64, unseen: u64, fuse: Option<u64>) {
        let Some(leader) = leader_of(&self.servers) else { return };
        self.note(|| format!("s{} is a leader on its own", leader + 1));
        for other in (0..self.servers.len()).filter(|other| *other != leader) {
            self.partition(leader, other, alone);
            self.drive_clients_away(other, unseen);
        }
        if let Some(nth) = fuse {
            self.servers[leader].disk.set_fuse(nth);
        }
    }

    /// Clients do not reach this server: those who were there come to others.
    fn drive_clients_away(&mut self, server: usize, us: u64) {
        for client in 0..self.clients.len() {
            let node = self.servers.len() + client;
            for conn in self.conns_between(node, server) {
                self.reset(conn);
            }
            self.partition(node, server, us);
        }
    }

    /// A tree begins to go from a leader to a learner.
    pub fn stream_begins(&mut self, link: ConnId, leader: usize, learner: usize) {
        if leader_of(&self.servers) != Some(leader) {
            return;
        }
        let Some(us) = self.faults.strand_stream.take() else { return };
        self.note(|| {
            format!("s{} is on its own with s{}, which gets its tree", leader + 1, learner + 1)
        });
        for other in (0..self.servers.len()).filter(|other| *other != leader) {
            if other != learner {
                self.partition(leader, other, us);
            }
            self.drive_clients_away(other, us);
        }
        // Its thread gets little of the machine: the stream lasts longer than the leader stays.
        self.faults.slow_stream = Some(link);
    }

    fn reset_some(&mut self, server: usize, midway: bool) {
        for id in self.conns_of(server) {
            match self.dice.one_in(2) {
                true if midway => self.break_midway(id),
                true => self.reset(id),
                false => {}
            }
        }
    }
}
