//! What can happen next.

use oxkeeper_proto::ServerId;
use oxkeeper_proto::quorum::{PacketKind, ServerState};
use oxkeeper_zab::{Input, LinkId};

use crate::driver::Driver;
use crate::election;
use crate::server::{Event, Message, SERVERS};
use crate::world::{Held, Spent, World};

/// One step of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A whole election among these servers; see [`crate::election`].
    Elect(Members),
    /// A notification arrives: from, to.
    Vote(ServerId, ServerId),
    /// A server that agrees with a quorum has heard nothing better for long enough.
    Quiet(ServerId),
    /// The learner gets the next message of its leader.
    ToLearner(ServerId),
    /// The leader gets the next message of this link.
    ToLeader(ServerId, LinkId),
    /// The disk carries out its oldest request.
    Disk(ServerId),
    /// A client writes.
    Propose(ServerId),
    /// The leader cannot be reached.
    Unreachable(ServerId),
    /// The process ends; what its disk has not carried out is lost.
    Crash(ServerId),
    /// And begins again.
    Start(ServerId),
    /// A learner hears nothing of its leader for too long; a leader nothing of all its learners.
    GiveUp(ServerId),
    /// A leader's end of a link breaks.
    Break(ServerId, LinkId),
}

/// A set of servers: bit `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Members(pub u8);

impl Members {
    /// Everyone.
    pub const ALL: Members = Members(0b1110);

    /// Who is in it.
    pub fn ids(self) -> impl Iterator<Item = ServerId> + Clone {
        (1..=SERVERS).filter(move |id| self.has(*id))
    }

    /// Is this one?
    pub fn has(self, id: ServerId) -> bool {
        self.0 & 1 << id != 0
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Elect(members) => {
                let ids: Vec<_> = members.ids().map(|id| id.to_string()).collect();
                write!(f, "{} hold an election", ids.join(" and "))
            }
            Step::Vote(from, to) => write!(f, "{to} gets a notification of {from}"),
            Step::Quiet(id) => write!(f, "{id} has heard nothing better for long enough"),
            Step::ToLearner(id) => write!(f, "{id} gets the next message of its leader"),
            Step::ToLeader(id, link) => write!(f, "{id} gets the next message of {}", link % 10),
            Step::Disk(id) => write!(f, "the disk of {id} works"),
            Step::Propose(id) => write!(f, "a client writes at {id}"),
            Step::Unreachable(id) => write!(f, "{id} cannot reach its leader"),
            Step::Crash(id) => write!(f, "{id} CRASHES"),
            Step::Start(id) => write!(f, "{id} starts again"),
            Step::GiveUp(id) => write!(f, "{id} hears nothing for too long"),
            Step::Break(id, link) => write!(f, "{id} loses its link to {}", link % 10),
        }
    }
}

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Steps.
    pub depth: u32,
    /// Faults and work.
    pub most: Spent,
    /// Is every notification a step?
    pub fine: bool,
    /// Must everyone come to serve in the end?
    pub recovers: bool,
}

impl World {
    /// All that may happen next; some of it turns out to be impossible ([`World::take`]).
    pub fn steps(&self, bounds: &Bounds, driver: &mut Driver) -> Vec<Step> {
        if let Some(step) = self.only_step(driver) {
            return vec![step];
        }
        let mut steps = Vec::new();
        for id in 1..=SERVERS {
            self.steps_of(id, bounds, &mut steps);
        }
        if bounds.fine {
            steps.extend(self.votes.iter().map(|(from, to, _)| Step::Vote(*from, *to)));
            let agrees = |id: &ServerId| self.server(*id).vote.is_some();
            steps.extend((1..=SERVERS).filter(agrees).map(Step::Quiet));
        } else if self.spent.elections < bounds.most.elections {
            let sets = [Members::ALL, Members(0b0110), Members(0b1010), Members(0b1100)];
            steps.extend(sets.map(Step::Elect).into_iter().filter(|step| match step {
                Step::Elect(members) => election::may_begin(self, *members),
                _ => false,
            }));
        }
        steps
    }

    fn steps_of(&self, id: ServerId, bounds: &Bounds, steps: &mut Vec<Step>) {
        let (server, spent, most) = (self.server(id), &self.spent, &bounds.most);
        let Some(zab) = &server.zab else {
            steps.push(Step::Start(id));
            return;
        };
        if self.next_to_learner(id).is_some() {
            steps.push(Step::ToLearner(id));
        }
        let led: Vec<_> = self.links().filter(|link| link.is_led_by(id)).collect();
        for link in &led {
            if self.next_to_leader(id, link.id).is_some() {
                steps.push(Step::ToLeader(id, link.id));
            }
        }
        if !server.disk.queue.is_empty() {
            steps.push(Step::Disk(id));
        }
        if server.serving == Some(true) && spent.proposals < most.proposals {
            steps.push(Step::Propose(id));
        }
        if server.connecting.is_some() {
            steps.push(Step::Unreachable(id));
        }
        // A server that looks, with nothing on its way to the disk, is as good as down already.
        let idle = server.vote.is_some() && server.disk.queue.is_empty() && !bounds.fine;
        if spent.crashes < most.crashes && !idle {
            steps.push(Step::Crash(id));
        }
        // A leader that nobody is connected to has nothing else to wait for: its time is free.
        let deserted = zab.state() == ServerState::Leading && led.is_empty();
        if server.in_role() && (deserted || spent.timeouts < most.timeouts) {
            steps.push(Step::GiveUp(id));
        }
        if spent.timeouts < most.timeouts {
            steps.extend(led.iter().map(|link| Step::Break(id, link.id)));
        }
    }

    /// A step that may as well happen before everything else, so that nothing else need be tried here.
    ///
    /// First, a packet of a leader that its learner only remembers: no output, an idle disk before and
    /// after. Nothing else takes this packet or changes what it will do: it is the first on its link, no
    /// end of the leader drops it, the learner's disk has no answer to give. What ends the role or the
    /// process drops what it has remembered, with or without it; no other server sees the difference.
    ///
    /// Second, an ACK of an epoch's start that changes nothing at its leader: only a link that has not
    /// acknowledged NEWLEADER yet takes notice of one, and none goes back to that.
    fn only_step(&self, driver: &mut Driver) -> Option<Step> {
        for id in 1..=SERVERS {
            let server = self.server(id);
            if let Some(message @ Message::Packet(packet)) = self.next_to_learner(id)
                && matches!(
                    packet.known_kind(),
                    Some(
                        PacketKind::Diff
                            | PacketKind::Snap
                            | PacketKind::Proposal
                            | PacketKind::Commit
                    )
                )
                && server.disk.queue.is_empty()
            {
                let kept = driver.outcome(server, &World::event_for_learner(message));
                if kept.is_quiet(server) && kept.server.in_role() {
                    return Some(Step::ToLearner(id));
                }
            }
            for link in self.links().filter(|link| link.is_led_by(id)) {
                if let Some(message @ Message::Packet(packet)) = self.next_to_leader(id, link.id)
                    && (packet.known_kind(), packet.zxid.counter()) == (Some(PacketKind::Ack), 0)
                {
                    let event = World::event_for_leader(link.id, message);
                    if driver.outcome(server, &event).server.hash == server.hash {
                        return Some(Step::ToLeader(id, link.id));
                    }
                }
            }
        }
        None
    }

    /// The world after a step; `None` if it cannot happen after all.
    pub fn take(&self, step: Step, bounds: &Bounds, driver: &mut Driver) -> Option<Held<World>> {
        let mut world = self.clone();
        let done = match step {
            Step::Elect(members) => election::hold(&mut world, members, driver)?,
            Step::Vote(from, to) => {
                let at = world.votes.iter().position(|vote| (vote.0, vote.1) == (from, to))?;
                world.deliver_vote(at, driver)
            }
            Step::Quiet(id) => {
                let done = world.event(id, &Event::Wait, driver);
                if done.is_ok() && !world.server(id).in_role() {
                    return None;
                }
                done
            }
            Step::ToLearner(id) => world.deliver_to_learner(id, driver)?,
            Step::ToLeader(id, link) => world.deliver_to_leader(id, link, driver)?,
            Step::Disk(id) => {
                if let Some(said) = &mut driver.said {
                    let request = world.server(id).disk.queue.front()?;
                    said.push(format!("      {id} disk: {request}"));
                }
                world.event(id, &Event::Disk, driver)
            }
            Step::Propose(id) => {
                world.spent.proposals += 1;
                world.propose(id, driver)?
            }
            Step::Unreachable(id) => world.event(id, &Event::Input(Input::LeaderClosed), driver),
            Step::Crash(id) => {
                world.spent.crashes += 1;
                world.crash(id, bounds, driver)
            }
            Step::Start(id) => world.start(id, bounds, driver),
            Step::GiveUp(id) => {
                let led = world.links().any(|link| link.is_led_by(id));
                let leads = world.server(id).zab.as_ref()?.state() == ServerState::Leading;
                world.spent.timeouts += u8::from(led || !leads);
                world.event(id, &Event::GiveUp, driver)
            }
            Step::Break(id, link) => {
                world.spent.timeouts += 1;
                world.close_leader_ends(|other| other.is_led_by(id) && other.id == link);
                world.event(id, &Event::Input(Input::LearnerClosed(link)), driver)
            }
        };
        if !bounds.fine {
            // Who is not in an election hears nothing of it: its messages may come too late.
            world.votes.clear();
        }
        Some(done.map(|()| world))
    }

    fn start(&mut self, id: ServerId, bounds: &Bounds, driver: &mut Driver) -> Held<()> {
        // On a new connection those that look repeat their last word.
        for from in (1..=SERVERS).filter(|from| *from != id) {
            if let Some(vote) = self.server(from).vote.clone() {
                self.vote(from, id, vote);
            }
        }
        self.event(id, &Event::Start { fine: bounds.fine }, driver)
    }

    /// In the coarse grain a server starts again at once. One that is down differs from one that looks for
    /// a leader, and that elections leave out, in nothing that another server could notice.
    fn crash(&mut self, id: ServerId, bounds: &Bounds, driver: &mut Driver) -> Held<()> {
        self.close_learner_ends(|link| link.is_of(id));
        self.close_leader_ends(|link| link.is_led_by(id));
        self.votes.retain(|(from, to, _)| *from != id && *to != id);
        self.event(id, &Event::Crash, driver)?;
        if bounds.fine { Ok(()) } else { self.start(id, bounds, driver) }
    }
}
