//! What must not be too long away, and what must not grow: a leader, the service, queues.

use crate::faults::leader_of;
use crate::server::Server;
use crate::violation::{Rule, Violation};
use crate::world::{Event, World};

/// How often is looked, in µs.
const LOOK: u64 = 50_000;

impl World<'_> {
    /// Nothing is wrong with those who are there: no line between them, no disk, no machine; and they make
    /// a quorum. Who is down or cut off from all others does not disturb.
    fn is_calm(&self) -> bool {
        self.net.slow == 0
            && self.plan.ensemble.is_quorum(|id| self.is_there((id - 1) as usize))
            && (0..self.servers.len()).all(|a| {
                let sound = |b: usize| !self.is_there(b) || self.net.lines.is_sound(a, b);
                !self.is_there(a) || self.is_fit(a) && (0..a).all(sound)
            })
    }

    fn is_there(&self, server: usize) -> bool {
        self.servers[server].is_up()
    }

    fn is_fit(&self, server: usize) -> bool {
        let Server { disk_slow, paused_until, frozen_until, .. } = &self.servers[server];
        *disk_slow == 1 && (*paused_until).max(*frozen_until) <= self.now
    }

    /// Somebody must lead soon in a calm, and all who are there must serve.
    pub fn check_calm(&mut self) -> Result<(), Violation> {
        self.after(LOOK, Event::Calm);
        if self.plan.shape.is_standalone() {
            return Ok(());
        }
        let now = self.now;
        self.faults.served.resize(self.servers.len(), now);
        let calm = self.is_calm();
        if !calm {
            self.faults.disturbed = now;
        }
        if leader_of(&self.servers).is_some() {
            self.faults.led = now;
        }
        for (index, server) in self.servers.iter().enumerate() {
            let serves = |process: &crate::server::Process| process.replica().is_serving();
            if server.process.as_ref().is_none_or(serves) {
                self.faults.served[index] = now;
            }
        }
        let away = now - self.faults.led.max(self.faults.disturbed);
        let ticks = |us: u64| us / (self.plan.tick_ms * 1000);
        self.summary.longest_without_leader = self.summary.longest_without_leader.max(ticks(away));
        let _ = (Rule::Liveness, ticks);
        for server in 0..self.servers.len() {
            let away = now - self.faults.served[server].max(self.faults.disturbed);
            self.summary.longest_without_service =
                self.summary.longest_without_service.max(ticks(away));
        }
        Ok(())
    }
}
