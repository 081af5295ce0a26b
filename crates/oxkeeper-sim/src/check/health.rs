//! What must not be too long away, and what must not grow: a leader, the service, queues.

use oxkeeper_proto::quorum::ServerState;
use oxkeeper_zab::{Lost, Misbehaved, Zab};

use crate::faults::leader_of;
use crate::plan::Plan;
use crate::server::Server;
use crate::violation::{Rule, Violation};
use crate::world::{Event, World};

/// A request, and what is beside it in a proposal.
const LONGEST: usize = 1 << 20;
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
        let Server { disk_slow, hangs_until, trust, paused_until, frozen_until, .. } =
            &self.servers[server];
        *disk_slow == 1
            && *hangs_until <= self.now
            && trust.harm.is_none()
            && (*paused_until).max(*frozen_until) <= self.now
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
        let ticks = |us: u64, plan: &Plan| us / (plan.tick_ms * 1000);
        let longest = &mut self.summary.longest_without_leader;
        *longest = (*longest).max(ticks(away, &self.plan));
        if away > self.plan.leader_within_us() {
            return Err(Rule::Liveness.broken(format!(
                "nothing was wrong for {} ms, and nobody leads: {}",
                away / 1000,
                self.describe()
            )));
        }
        for server in 0..self.servers.len() {
            let away = now - self.faults.served[server].max(self.faults.disturbed);
            let longest = &mut self.summary.longest_without_service;
            *longest = (*longest).max(ticks(away, &self.plan));
            if away > self.plan.service_within_us() {
                return Err(Rule::Liveness.broken(format!(
                    "nothing was wrong for {} ms, and s{} does not serve: {}",
                    away / 1000,
                    server + 1,
                    self.describe()
                )));
            }
        }
        Ok(())
    }
}

/// After a step no role holds more than it may. One that has ended may still wait for the disk, for what a
/// learner had kept until the leader's history was its own, too.
pub(super) fn check_queues(server: usize, zab: &Zab, limit: usize) -> Result<(), Violation> {
    let may = match zab.state() {
        ServerState::Looking => limit.saturating_mul(2).saturating_add(LONGEST),
        _ => limit,
    };
    let bytes = zab.queued_bytes();
    if bytes <= may {
        return Ok(());
    }
    Err(Rule::Bounds.broken(format!("s{}: {bytes} bytes wait in one queue; {may} may", server + 1)))
}

/// Why a leader ends its role that has given out all zxids of its epoch.
pub(super) const ZXIDS_USED_UP: &str = "zxids used up";

/// Why a learner ends its role whose queue is too small for what it lacks; the next time it gets a snapshot.
pub(super) const TOO_MUCH_QUEUED: &str = "too much queued";

/// What the end of a role is counted as.
pub(super) fn name_of(lost: &Lost) -> &'static str {
    match lost {
        Lost::NoQuorumInTime { .. } => "no quorum in time",
        Lost::NoQuorum => "no quorum",
        Lost::PromisedNewer { .. } => "newer epoch promised",
        Lost::ZxidsUsedUp => ZXIDS_USED_UP,
        Lost::DiskHangs { .. } => "disk hangs",
        Lost::DiskTooSlow { .. } => "disk too slow",
        Lost::QuorumTooSlow { .. } => "quorum too slow",
        Lost::TooMuchQueued { .. } => TOO_MUCH_QUEUED,
        Lost::LeaderClosed(_) => "leader closed",
        Lost::Leader { error: Misbehaved::Silent(_), .. } => "leader silent",
        Lost::Leader { .. } => "leader refused",
        Lost::CannotCut(_) => "cannot cut",
    }
}
