//! Processes that die or stand still.

use crate::dice::Dice;
use crate::plan::Plan;
use crate::world::World;

/// What happens to processes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum ProcessFault {
    /// It dies; with `power`, its disk loses what was not synced.
    Crash { server: usize, power: bool },
    /// It does not run for a while.
    Pause { server: usize, us: u64 },
    /// All servers lose power at once.
    AllLosePower,
}

impl ProcessFault {
    /// Draws one.
    pub fn draw(dice: &mut Dice, plan: &Plan) -> ProcessFault {
        let server = dice.below(plan.ensemble.servers.len() as u64) as usize;
        match dice.below(10) {
            0..6 => ProcessFault::Crash { server, power: !dice.one_in(4) },
            6..9 => ProcessFault::Pause { server, us: dice.between(50_000, 3_000_000) },
            _ => ProcessFault::AllLosePower,
        }
    }

    /// What it is counted as.
    pub fn kind(self) -> &'static str {
        match self {
            ProcessFault::Crash { power: true, .. } => "loss of power",
            ProcessFault::Crash { power: false, .. } => "killed process",
            ProcessFault::Pause { .. } => "pause",
            ProcessFault::AllLosePower => "loss of power everywhere",
        }
    }
}

impl World<'_> {
    /// Performs it.
    pub fn strike_process(&mut self, fault: ProcessFault) {
        match fault {
            ProcessFault::Crash { server, power } => {
                if self.servers[server].is_up() {
                    self.crash(server, power);
                }
            }
            ProcessFault::Pause { server, us } => {
                self.servers[server].paused_until = self.now + us;
            }
            ProcessFault::AllLosePower => {
                for server in 0..self.servers.len() {
                    if self.servers[server].is_up() {
                        self.crash(server, true);
                    }
                }
            }
        }
    }
}
