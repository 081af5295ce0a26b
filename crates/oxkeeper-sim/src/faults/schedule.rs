//! When what goes wrong: storms and calm.

use crate::dice::Dice;
use crate::faults::{DiskFault, Fault, NetworkFault, ProcessFault, Strike};
use crate::plan::Plan;

/// The first fault, in µs: an ensemble has had the time to elect.
const FIRST: u64 = 1_000_000;

/// Draws the faults of a run. In a storm they follow each other closely, so that one meets what another
/// has left; in a calm there is time to come back.
pub fn draw(dice: &mut Dice, plan: &Plan) -> Vec<Strike> {
    let mut strikes = Vec::new();
    let (mut at, mut weather_ends, mut longest) = (FIRST, 0, 0);
    while at < plan.faults_end {
        if weather_ends <= at {
            weather_ends = at + dice.between(1_000_000, 6_000_000);
            longest = dice.pick(&[600_000, 2_000_000, 2_000_000, 5_000_000]);
        }
        strikes.push(Strike { at, fault: fault(dice, plan) });
        at += dice.between(100_000, longest);
    }
    strikes
}

fn fault(dice: &mut Dice, plan: &Plan) -> Fault {
    match dice.below(16) {
        0..3 => Fault::Process(ProcessFault::draw(dice, plan)),
        3..10 => Fault::Network(NetworkFault::draw(dice, plan)),
        _ => Fault::Disk(DiskFault::draw(dice, plan)),
    }
}
