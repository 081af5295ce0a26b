//! A whole election in one step, among servers that hear each other and nobody else.
//!
//! No vote is made up: the cores exchange their own notifications, one after the other in a fixed order,
//! until each has a role. Who wins follows from what they have; the order decides nothing, for none of
//! them ends before all it can hear agree. Whoever has a leader already answers, so that a server that
//! comes back joins in the same way. Elections that end otherwise are what the fine grain is for.

use oxkeeper_proto::ServerId;
use oxkeeper_zab::Input;

use crate::driver::Driver;
use crate::server::{Event, SERVERS};
use crate::step::Members;
use crate::world::{Held, World};

/// Messages, and silences, after which an election counts as impossible.
const MOST_MESSAGES: usize = 60;
const MOST_SILENCES: usize = 2;

/// Are all of them there, and is at least one looking for a leader?
pub fn may_begin(world: &World, members: Members) -> bool {
    let there = |id| {
        let server = world.server(id);
        server.in_role() || server.vote.is_some()
    };
    members.ids().all(there) && looking(world, members).next().is_some()
}

fn looking(world: &World, members: Members) -> impl Iterator<Item = ServerId> {
    members.ids().filter(|id| world.server(*id).vote.is_some())
}

/// Holds it. `None`: not all of them find a leader.
pub fn hold(world: &mut World, members: Members, driver: &mut Driver) -> Option<Held<()>> {
    // Which election ends depends on the members alone.
    let mut key = (members.0, world.hashes());
    (1..=SERVERS).filter(|id| !members.has(*id)).for_each(|id| key.1[id as usize - 1] = 0);
    if driver.futile.contains(&key) {
        return None;
    }
    world.spent.elections += 1;
    world.votes.clear();
    match exchange(world, members, driver) {
        Ok(true) => Some(Ok(())),
        Ok(false) => {
            driver.futile.insert(key);
            None
        }
        Err(broken) => Some(Err(broken)),
    }
}

fn exchange(world: &mut World, members: Members, driver: &mut Driver) -> Held<bool> {
    connect(world, members, |peer| members.has(peer), driver)?;
    // A new connection begins with the last word of whoever still looks.
    for from in members.ids() {
        let Some(vote) = world.server(from).vote.clone() else { continue };
        for to in members.ids().filter(|to| *to != from) {
            world.vote(from, to, vote.clone());
        }
    }
    let (mut messages, mut silences) = (0, 0);
    loop {
        world.votes.retain(|(from, to, _)| members.has(*from) && members.has(*to));
        if !world.votes.is_empty() {
            messages += 1;
            if messages > MOST_MESSAGES {
                return Ok(false);
            }
            world.deliver_vote(0, driver)?;
            continue;
        }
        let waiting: Vec<_> = looking(world, members).collect();
        if waiting.is_empty() {
            connect(world, members, |_| true, driver)?;
            return Ok(true);
        }
        silences += 1;
        if silences > MOST_SILENCES {
            return Ok(false);
        }
        for id in waiting {
            world.event(id, &Event::Wait, driver)?;
        }
    }
}

/// Tells all members whom they can hear.
fn connect(
    world: &mut World,
    members: Members,
    up: impl Fn(ServerId) -> bool,
    driver: &mut Driver,
) -> Held<()> {
    for id in members.ids() {
        for peer in (1..=SERVERS).filter(|peer| *peer != id) {
            let input = Input::ElectionLink { peer, up: up(peer) };
            world.event(id, &Event::Input(input), driver)?;
        }
    }
    Ok(())
}
