//! When what goes wrong: storms and calm.

use crate::dice::Dice;
use crate::disk::Phase;
use crate::faults::{ClockFault, DiskFault, Fault, NetworkFault, ProcessFault, Strike};
use crate::plan::Plan;

/// The first fault, in µs: an ensemble has had the time to elect.
const FIRST: u64 = 1_000_000;
/// Own stream for what the weather is.
const STREAM: u64 = 0x5ba9_e0f3_0000_0002;

/// Draws the faults of a run. In a storm they follow each other closely, so that one meets what another
/// has left; otherwise there is time to come back. Behind some weather nothing goes wrong for so long that
/// all must be well again, which is looked at ([`World::check_calm`](crate::world::World::check_calm)).
pub fn draw(seed: u64, dice: &mut Dice, plan: &Plan) -> Vec<Strike> {
    let mut weather = Dice::new(seed ^ STREAM);
    if weather.one_in(16) {
        return maintenance(&mut weather, plan);
    }
    let mut strikes = Vec::new();
    let (mut at, mut weather_ends, mut longest) = (FIRST, 0, 0);
    while at < plan.faults_end {
        if weather_ends <= at {
            if weather_ends > 0 && weather.one_in(4) {
                at += weather.between(2, 6) * plan.init_limit_us();
            }
            weather_ends = at + dice.between(1_000_000, 6_000_000);
            longest = weather.pick(&[200_000, 600_000, 2_000_000, 2_000_000, 5_000_000]);
        }
        strikes.push(Strike { at, fault: fault(dice, plan) });
        at += dice.between(longest / 10, longest);
    }
    strikes.extend(draw_disks(seed, plan));
    strikes.extend(draw_absences(seed, plan));
    strikes.extend(draw_streams(seed, plan));
    strikes.sort_by_key(|strike| strike.at);
    strikes
}

/// Only what operators do: nothing may be lost, and the service is away only shortly.
fn maintenance(dice: &mut Dice, plan: &Plan) -> Vec<Strike> {
    let at = dice.between(FIRST, plan.faults_end / 3);
    let fault = Fault::Process(ProcessFault::ROLLING_RESTART);
    vec![Strike { at, fault }]
}

/// Draws what is special to disks, from a stream of its own.
fn draw_disks(seed: u64, plan: &Plan) -> Vec<Strike> {
    const STREAM: u64 = 0x6469_736b_5f66_6175;
    let mut dice = Dice::new(seed ^ STREAM);
    let (mut strikes, mut at) = (Vec::new(), FIRST);
    if dice.one_in(5) {
        return strikes;
    }
    // What happens seldom is waited for from the beginning.
    for phase in [Phase::Cut, Phase::Cut, Phase::Adoption] {
        let nth = dice.between(1, 16);
        if dice.one_in(2) {
            let fault = Fault::Disk(DiskFault::Aim { phase, nth });
            strikes.push(Strike { at: FIRST, fault });
        }
    }
    let longest = dice.pick(&[600_000, 1_500_000, 4_000_000]);
    while at < plan.faults_end {
        strikes.push(Strike { at, fault: Fault::Disk(DiskFault::draw_special(&mut dice, plan)) });
        at += dice.between(100_000, longest);
    }
    strikes
}

/// Draws leaders that are away while another one comes, from a stream of its own.
fn draw_absences(seed: u64, plan: &Plan) -> Vec<Strike> {
    const STREAM: u64 = 0xc11e_0475_0000_0002;
    let mut dice = Dice::new(seed ^ STREAM);
    let (mut strikes, mut at) = (Vec::new(), FIRST);
    if dice.one_in(2) {
        return strikes;
    }
    while at < plan.faults_end {
        at += dice.between(1_000_000, 8_000_000);
        let fault = NetworkFault::draw_absence(&mut dice, plan);
        strikes.push(Strike { at, fault: Fault::Network(fault) });
    }
    strikes.pop();
    strikes
}

/// Draws leaders that are lost while they send their tree, from a stream of its own.
fn draw_streams(seed: u64, plan: &Plan) -> Vec<Strike> {
    const STREAM: u64 = 0x5ba9_e0f3_0000_0003;
    let mut dice = Dice::new(seed ^ STREAM);
    let times = dice.pick(&[0, 0, 1, 3]);
    (0..times)
        .map(|_| Strike {
            at: dice.between(FIRST, plan.faults_end),
            fault: Fault::Network(NetworkFault::draw_stream(&mut dice, plan)),
        })
        .collect()
}

fn fault(dice: &mut Dice, plan: &Plan) -> Fault {
    match dice.below(16) {
        0..3 => Fault::Process(ProcessFault::draw(dice, plan)),
        3..9 => Fault::Network(NetworkFault::draw(dice, plan)),
        9 => Fault::Clock(ClockFault::draw(dice, plan)),
        _ => Fault::Disk(DiskFault::draw(dice, plan)),
    }
}
