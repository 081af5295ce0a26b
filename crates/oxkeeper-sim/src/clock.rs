//! The clocks of a machine: a monotonic one that runs too fast or too slow and may stand still, and a wall
//! clock that may also jump.

use oxkeeper_replica::Now;

use crate::world::World;

const MILLION: i128 = 1_000_000;
/// What all wall clocks show when a run begins, about.
const WALL_MS: i64 = 1_700_000_000_000;

/// From when on a clock runs how fast.
#[derive(Clone, Copy, Debug)]
struct Pace {
    since_us: u64,
    /// What the monotonic clock shows then.
    shows_us: u64,
    /// Millionths more than true; -1 000 000: it stands.
    drift: i64,
}

impl Pace {
    fn shows(&self, at_us: u64) -> u64 {
        let passed = i128::from(at_us - self.since_us) * (MILLION + i128::from(self.drift));
        self.shows_us + (passed / MILLION) as u64
    }
}

/// The clocks of one machine.
#[derive(Debug)]
pub struct Clock {
    /// Since the run began, oldest first; the last one may still be to come.
    paces: Vec<Pace>,
    /// Distance of the wall clock from the monotonic one, in ms.
    wall_ms: i64,
    /// What `wall_ms` is without jumps.
    usual_wall_ms: i64,
}

impl Clock {
    /// Each machine has other clocks.
    pub fn new(server: usize, drift: i64) -> Clock {
        let shows_us = 10_000_000 * (server as u64 + 1);
        let wall_ms = WALL_MS + 1500 * server as i64 - (shows_us / 1000) as i64;
        let paces = vec![Pace { since_us: 0, shows_us, drift }];
        Clock { paces, wall_ms, usual_wall_ms: wall_ms }
    }

    fn at(&self, at_us: u64) -> &Pace {
        let begun = self.paces.iter().rfind(|pace| pace.since_us <= at_us);
        begun.expect("the first pace is that from the beginning")
    }

    /// What the monotonic clock shows at this true time, in µs.
    pub fn mono_us(&self, at_us: u64) -> u64 {
        self.at(at_us).shows(at_us)
    }

    /// True time at which the monotonic clock will show this, in µs.
    pub fn when_mono(&self, shows_us: u64) -> u64 {
        let last = self.paces.last().expect("there is always a pace");
        let left = i128::from(shows_us.saturating_sub(last.shows_us)) * MILLION;
        let pace = MILLION + i128::from(last.drift);
        last.since_us + ((left + pace - 1) / pace) as u64
    }

    /// The monotonic clock stands still for `us` from now on.
    pub fn stand(&mut self, now_us: u64, us: u64) {
        let pace = *self.at(now_us);
        if self.paces.last().is_some_and(|last| now_us < last.since_us) {
            // It stands already.
            return;
        }
        let shows_us = pace.shows(now_us);
        self.paces.push(Pace { since_us: now_us, shows_us, drift: -1_000_000 });
        self.paces.push(Pace { since_us: now_us + us, shows_us, drift: pace.drift });
    }

    /// The machine was started: its clock does not stand any more.
    pub fn go_on(&mut self, now_us: u64) {
        if let Some(last) = self.paces.last_mut() {
            last.since_us = last.since_us.min(now_us);
        }
    }

    /// The wall clock jumps.
    pub fn jump(&mut self, ms: i64) {
        self.wall_ms += ms;
    }

    /// The wall clock is set right.
    pub fn set_right(&mut self) {
        self.wall_ms = self.usual_wall_ms;
    }
}

/// A process's monotonic clock begins anew.
const INCARNATION_MS: u64 = 777;

impl World<'_> {
    /// What a server's process sees.
    pub fn clocks(&self, server: usize) -> Now {
        self.clocks_of(server, self.servers[server].incarnation)
    }

    /// What the process sees that is about to start.
    pub fn clocks_of_next(&self, server: usize) -> Now {
        self.clocks_of(server, self.servers[server].incarnation + 1)
    }

    fn clocks_of(&self, server: usize, incarnation: u64) -> Now {
        let clock = &self.servers[server].clock;
        let ms = clock.mono_us(self.now) / 1000;
        Now { mono_ms: ms + INCARNATION_MS * incarnation, wall_ms: clock.wall_ms + ms as i64 }
    }

    /// True time at which a server's process sees its monotonic clock at `mono_ms`, in µs.
    pub fn when(&self, server: usize, mono_ms: u64) -> u64 {
        let offset = INCARNATION_MS * self.servers[server].incarnation;
        self.servers[server].clock.when_mono(mono_ms.saturating_sub(offset) * 1000)
    }

    /// How much time has passed for `server` between two true times, in ms of its own clock. A timeout of T
    /// ms that this server measures may end it once this is T, however much true time that is: a checker
    /// of sessions compares with this, and must not forget that an older leader had another clock.
    pub fn passed_for(&self, server: usize, from_us: u64, to_us: u64) -> u64 {
        let clock = &self.servers[server].clock;
        (clock.mono_us(to_us) - clock.mono_us(from_us)) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_what_it_will_show_when_it_said_so() {
        let mut clock = Clock::new(2, 20_000);
        assert_eq!(clock.mono_us(1_000_000), 31_020_000);
        clock.stand(1_000_000, 500_000);
        assert_eq!(clock.mono_us(1_500_000), 31_020_000);
        let mut started = Clock::new(2, 20_000);
        started.stand(1_000_000, 500_000);
        started.go_on(1_100_000);
        assert_eq!(started.mono_us(1_200_000), 31_122_000);
        for shows in [31_020_000, 31_020_001, 40_000_000] {
            let at = clock.when_mono(shows);
            assert!(clock.mono_us(at) >= shows && clock.mono_us(at - 1) <= shows);
        }
    }
}
