//! Wall clocks that jump. (How fast clocks run is a server's own, see [`crate::shape`]; standing still is
//! [`ProcessFault::Freeze`](crate::faults::ProcessFault::Freeze).)

use crate::dice::Dice;
use crate::plan::Plan;
use crate::world::World;

/// What happens to clocks.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum ClockFault {
    /// Somebody sets a server's wall clock.
    Jump { server: usize, ms: i64 },
    /// Somebody sets it right.
    SetRight { server: usize },
}

impl ClockFault {
    /// Draws one.
    pub fn draw(dice: &mut Dice, plan: &Plan) -> ClockFault {
        let server = dice.below(plan.ensemble.servers.len() as u64) as usize;
        if dice.one_in(4) {
            return ClockFault::SetRight { server };
        }
        let hours_ms = dice.between(1_000, 20 * 3_600_000) as i64;
        let ms = if dice.one_in(2) { hours_ms } else { -hours_ms };
        ClockFault::Jump { server, ms }
    }

    /// What it is counted as.
    pub fn kind(self) -> &'static str {
        match self {
            ClockFault::Jump { ms: ..0, .. } => "wall clock set back",
            ClockFault::Jump { .. } => "wall clock set forward",
            ClockFault::SetRight { .. } => "wall clock set right",
        }
    }
}

impl World<'_> {
    /// Performs it.
    pub fn strike_clock(&mut self, fault: ClockFault) {
        match fault {
            ClockFault::Jump { server, ms } => self.servers[server].clock.jump(ms),
            ClockFault::SetRight { server } => self.servers[server].clock.set_right(),
        }
    }
}
