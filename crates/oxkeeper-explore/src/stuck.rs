//! From any state, with everyone up and no more faults, all must soon serve, with one history.

use oxkeeper_proto::ServerId;

use crate::driver::Driver;
use crate::rules::{Broken, Rule};
use crate::server::SERVERS;
use crate::step::{Bounds, Members, Step};
use crate::world::{Held, Spent, World};

/// Steps that a recovery may take. Measured ones take up to a third of it.
const MOST_STEPS: usize = 400;

/// The next thing that must happen sooner or later, whoever is slow: no fault, no election, no client.
pub fn next_delivery(world: &World, bounds: &Bounds, driver: &mut Driver) -> Option<Step> {
    let none = Bounds { most: Spent::default(), fine: false, ..*bounds };
    let steps = world.steps(&none, driver);
    let first = |wanted: fn(&Step) -> bool| steps.iter().copied().find(wanted);
    first(|step| matches!(step, Step::ToLearner(_) | Step::ToLeader(..)))
        .or_else(|| first(|step| matches!(step, Step::Disk(_) | Step::Unreachable(_))))
}

/// Lets the world recover.
pub fn check(world: &World, bounds: &Bounds, driver: &mut Driver) -> Result<(), Broken> {
    if !bounds.recovers {
        return Ok(());
    }
    let mut world = world.clone();
    let bounds = Bounds { fine: false, ..*bounds };
    for _ in 0..MOST_STEPS {
        if well(&world) {
            return Ok(());
        }
        match next(&world, &bounds, driver) {
            Some(next) => world = next?,
            None => break,
        }
    }
    let state = |id: ServerId| {
        let server = world.server(id);
        let phase = server.zab.as_ref().map(|zab| (zab.state(), zab.phase()));
        let loss = server.zab.as_ref().and_then(|zab| zab.last_loss().map(ToString::to_string));
        format!("server {id}: {phase:?}, has {:?}, last: {loss:?}", server.tree)
    };
    let states: Vec<_> = (1..=SERVERS).map(state).collect();
    let what = format!("all are up, and do not come to serve the same: {}", states.join("; "));
    Err(Broken { rule: Rule::Stuck, what })
}

fn well(world: &World) -> bool {
    let first = world.server(1);
    let same = |id: ServerId| {
        let server = world.server(id);
        let durable = server.tree.iter().all(|txn| server.disk.has(txn));
        server.serving.is_some() && server.tree == first.tree && durable
    };
    (1..=SERVERS).all(same)
        && (1..=SERVERS).filter(|id| world.server(*id).serving == Some(true)).count() == 1
}

/// Who is down starts; what is under way arrives; who looks finds a leader; who waits in vain gives up.
fn next(world: &World, bounds: &Bounds, driver: &mut Driver) -> Option<Held<World>> {
    let delivery = next_delivery(world, bounds, driver);
    let mut try_step = |step: Step| {
        driver.say(&[step.to_string()]);
        world.take(step, bounds, driver)
    };
    let down = |id: &ServerId| world.server(*id).zab.is_none();
    if let Some(id) = (1..=SERVERS).find(down) {
        return try_step(Step::Start(id));
    }
    if let Some(step) = delivery {
        return try_step(step);
    }
    if crate::election::may_begin(world, Members::ALL)
        && let Some(next) = try_step(Step::Elect(Members::ALL))
    {
        return Some(next);
    }
    // A leader's time for one phase is not made longer by learners that come again and again.
    let leads = |id: &ServerId| world.server(*id).listening;
    let in_role = |id: &ServerId| world.server(*id).in_role();
    let first = |waits: &dyn Fn(&ServerId) -> bool| (1..=SERVERS).filter(in_role).find(waits);
    let serves = |id: &ServerId| world.server(*id).serving.is_some();
    let late = first(&|id| leads(id) && !serves(id)).or_else(|| first(&|id| !serves(id)));
    try_step(Step::GiveUp(late.or_else(|| first(&|_| true))?))
}
