//! Processes that die, are stopped, or stand still; machines that do.

use crate::dice::Dice;
use crate::faults::{Fault, leader_of};
use crate::plan::Plan;
use crate::server::Death;
use crate::world::{Event, World};

/// What happens to processes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum ProcessFault {
    /// It dies; with `power`, its disk loses what was not synced.
    Crash { server: usize, power: bool },
    /// It is asked to end, and does.
    Stop { server: usize },
    /// It does not get to run for a while; the machine does.
    Pause { server: usize, us: u64 },
    /// The machine does not run for a while, as a virtual one that is moved. Its monotonic clock stands, or
    /// has jumped when it goes on.
    Freeze { server: usize, us: u64, stands: bool },
    /// All servers lose power at once.
    AllLosePower,
    /// All processes are killed at once.
    AllKilled,
    /// It is killed again and again, whether it has come up or not.
    RestartLoop { server: usize, times: u64, every: u64 },
    /// Whoever leads is killed, again and again.
    KillLeaders { times: u64, every: u64 },
    /// One after the other is stopped and starts; the next when all serve, or after long.
    RollingRestart { next: usize, patience: u64 },
}

/// How often a rolling restart looks whether it may go on, in µs, and how often at most.
const LOOK: u64 = 100_000;
const PATIENCE: u64 = 150;

impl ProcessFault {
    /// All servers in turn.
    pub const ROLLING_RESTART: ProcessFault =
        ProcessFault::RollingRestart { next: 0, patience: PATIENCE };

    /// Draws one.
    pub fn draw(dice: &mut Dice, plan: &Plan) -> ProcessFault {
        let server = dice.below(plan.ensemble.servers.len() as u64) as usize;
        match dice.below(24) {
            0..10 => ProcessFault::Crash { server, power: !dice.one_in(4) },
            10 => ProcessFault::Stop { server },
            11..14 => ProcessFault::Pause { server, us: dice.between(50_000, 3_000_000) },
            14..18 => {
                let us = dice.between(50_000, 5_000_000);
                ProcessFault::Freeze { server, us, stands: dice.one_in(2) }
            }
            18 => ProcessFault::AllLosePower,
            19 => ProcessFault::AllKilled,
            20 => {
                let (times, every) = (dice.between(3, 10), dice.between(1_000, 400_000));
                ProcessFault::RestartLoop { server, times, every }
            }
            21..23 => {
                let (times, every) = (dice.between(2, 6), dice.between(100_000, 1_500_000));
                ProcessFault::KillLeaders { times, every }
            }
            _ => ProcessFault::ROLLING_RESTART,
        }
    }

    /// What it is counted as.
    pub fn kind(self) -> &'static str {
        match self {
            ProcessFault::Crash { power: true, .. } => "loss of power",
            ProcessFault::Crash { power: false, .. } => "killed process",
            ProcessFault::Stop { .. } => "stopped process",
            ProcessFault::Pause { .. } => "pause",
            ProcessFault::Freeze { stands: true, .. } => "frozen machine, clock stands",
            ProcessFault::Freeze { .. } => "frozen machine",
            ProcessFault::AllLosePower => "loss of power everywhere",
            ProcessFault::AllKilled => "all killed",
            ProcessFault::RestartLoop { .. } => "restart loop",
            ProcessFault::KillLeaders { .. } => "killed leaders",
            ProcessFault::RollingRestart { .. } => "rolling restart",
        }
    }
}

impl World<'_> {
    /// Performs it.
    pub fn strike_process(&mut self, fault: ProcessFault) {
        let all = 0..self.servers.len();
        let left = self.plan.faults_end.saturating_sub(self.now);
        match fault {
            ProcessFault::Crash { server, power } => {
                self.end(server, if power { Death::Power } else { Death::Kill });
            }
            ProcessFault::Stop { server } => self.end(server, Death::Stop),
            ProcessFault::Pause { server, us } => {
                self.servers[server].paused_until = self.now + us.min(left);
            }
            ProcessFault::Freeze { server, us, stands } => {
                self.servers[server].frozen_until = self.now + us.min(left);
                if stands {
                    self.servers[server].clock.stand(self.now, us.min(left));
                }
            }
            ProcessFault::AllLosePower => all.for_each(|server| self.end(server, Death::Power)),
            ProcessFault::AllKilled => all.for_each(|server| self.end(server, Death::Kill)),
            ProcessFault::RestartLoop { server, times, every } => {
                self.end(server, Death::Kill);
                self.after(every / 2, Event::Restart { server });
                if times > 1 {
                    let next = ProcessFault::RestartLoop { server, times: times - 1, every };
                    self.again(every, next);
                }
            }
            ProcessFault::KillLeaders { times, every } => {
                if let Some(leader) = leader_of(&self.servers) {
                    self.end(leader, Death::Kill);
                }
                if times > 1 {
                    self.again(every, ProcessFault::KillLeaders { times: times - 1, every });
                }
            }
            ProcessFault::RollingRestart { next, patience } => self.roll(next, patience),
        }
    }

    fn end(&mut self, server: usize, death: Death) {
        if self.servers[server].is_up() {
            self.crash(server, death);
        }
    }

    fn again(&mut self, us: u64, fault: ProcessFault) {
        self.after(us, Event::Again { fault: Fault::Process(fault) });
    }

    fn roll(&mut self, next: usize, patience: u64) {
        if next == self.servers.len() || patience == 0 {
            return;
        }
        let serves = |server: &crate::server::Server| {
            server.process.as_ref().is_some_and(|process| process.replica().is_serving())
        };
        if self.servers.iter().all(serves) {
            self.note(|| format!("rolling restart: s{}", next + 1));
            self.end(next, Death::Stop);
            let next = ProcessFault::RollingRestart { next: next + 1, patience: PATIENCE };
            return self.again(LOOK, next);
        }
        self.again(LOOK, ProcessFault::RollingRestart { next, patience: patience - 1 });
    }
}
