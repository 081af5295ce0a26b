//! Disks that do nothing. A leader whose log stands still gives up after `syncLimit`; the others go on
//! without it.

use crate::faults::{Ailment, leader_of};
use crate::plan::SYNC_LIMIT;
use crate::server::Death;
use crate::violation::{Rule, Violation};
use crate::world::{Due, Event, World};

/// How long the others may take to go on without a leader whose disk hangs, in µs.
const BOUND: u64 = 20_000_000;

impl World<'_> {
    /// The disk does nothing for so long. `killed`: and nothing after that, until the process is ended.
    pub fn hang_disk(&mut self, server: usize, us: u64, killed: bool) {
        if !self.servers[server].is_up() {
            return;
        }
        self.summary.count_disk("hangs");
        self.servers[server].hangs_until = if killed { u64::MAX } else { self.now + us };
        let incarnation = self.servers[server].incarnation;
        self.after(us, Event::DiskHeals { server, from: Ailment::Hang { incarnation, killed } });
    }

    /// Is the disk hanging? Then what is due waits until it does not, or for ever.
    pub fn hangs(&mut self, server: usize, due: Due) -> bool {
        let until = self.servers[server].hangs_until;
        if until <= self.now {
            return false;
        }
        if until != u64::MAX {
            self.after_for(server, until - self.now + 1, due);
        }
        true
    }

    /// So long may an append of the leader take by its clock, with room for what else the simulator does,
    /// in ms.
    fn longest_append(&self) -> u64 {
        2 * (SYNC_LIMIT + 3) * self.plan.tick_ms
    }

    /// A leader that has run, and whose log has stood still too long, leads no more.
    pub fn check_hang(&self, server: usize) -> Result<(), Violation> {
        let me = &self.servers[server];
        let Some(process) = &me.process else { return Ok(()) };
        let hangs = me.hangs_until > self.now && !self.plan.shape.is_standalone();
        let stuck = process.queue.append_since().filter(|_| hangs);
        let now = self.clocks(server).mono_ms;
        match stuck {
            Some(since) if process.seen.leads() && since + self.longest_append() < now => {
                Err(Rule::Liveness.broken(format!(
                    "s{} still leads although its log has stood still for {} ms",
                    server + 1,
                    now - since
                )))
            }
            _ => Ok(()),
        }
    }

    /// When all other faults are over: on some runs the leader's disk hangs, and nobody ends that.
    pub fn begin_last_hang(&mut self) {
        let chosen = self.dice.one_in(8);
        let Some(leader) = leader_of(&self.servers).filter(|_| chosen) else { return };
        // Those who have lost something do not vote: a quorum must be left without them and this one.
        if !self.others_suffice(leader) {
            return;
        }
        self.note(|| format!("the disk of s{}, which leads, hangs for good", leader + 1));
        self.summary.count_disk("last hang");
        self.servers[leader].hangs_until = u64::MAX;
        self.faults.last_hang = Some(leader);
        self.plan.give_up += BOUND;
        self.after(BOUND / 2, Event::LastHang);
    }

    /// The others have had the time to go on; then the process is ended.
    pub fn check_last_hang(&mut self) -> Result<(), Violation> {
        let Some(hung) = self.faults.last_hang else { return Ok(()) };
        if self.servers[hung].hangs_until != u64::MAX {
            // It ended by itself.
            return Ok(());
        }
        let has_work =
            self.servers[hung].process.as_ref().is_some_and(|process| !process.queue.is_idle());
        let serves = |id: i64| {
            let at = (id - 1) as usize;
            let process = self.servers[at].process.as_ref();
            at != hung && process.is_some_and(|process| process.seen.serving)
        };
        let served = self.plan.ensemble.is_quorum(serves);
        let leader = leader_of(&self.servers);
        let go_on = served && leader.is_some_and(|leader| leader != hung);
        if has_work && !go_on && self.now < self.plan.faults_end + BOUND {
            // Between two leaders, perhaps.
            self.after(200_000, Event::LastHang);
            return Ok(());
        }
        if has_work && !go_on {
            return Err(Rule::Liveness.broken(format!(
                "the disk of s{} hangs, and the others do not go on; {leader:?} leads: {}",
                hung + 1,
                self.describe()
            )));
        }
        self.crash(hung, Death::Kill);
        Ok(())
    }
}
