//! Breadth first, so that the first run found to break a rule is a shortest one.
//!
//! A state that was met before is not looked at again. States are known by 64 bits: with 100 million of
//! them, two different ones are taken for the same with a probability of 1 in 3,700.

use std::time::{Duration, Instant};

use hashbrown::HashSet;

use crate::driver::Driver;
use crate::rules::{Broken, Rule};
use crate::scopes::Scope;
use crate::step::Bounds;
use crate::stuck;
use crate::world::World;

/// One of so many states is looked at as the beginning of a recovery.
const RECOVERIES: u64 = 4096;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bounds, instead of those of the scope.
    pub bounds: Bounds,
    /// When to stop, unless everything was seen before.
    pub limit: Duration,
    /// How many states to hold at most.
    pub most_states: usize,
    /// Rules that are not checked: to see what follows where they do not hold.
    pub without: Vec<Rule>,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Steps taken.
    pub visited: u64,
    /// Different states.
    pub distinct: usize,
    /// Steps from the first world to the last ones that were looked at.
    pub depth: u32,
    /// Was everything within the bounds seen?
    pub complete: bool,
    /// States that a recovery was tried from.
    pub recoveries: u64,
    /// How long it took.
    pub took: Duration,
    /// A broken rule, and the way there.
    pub broken: Option<(Broken, Vec<u16>)>,
}

/// Where a state came from.
struct Origin {
    parent: u32,
    choice: u16,
}

struct Search<'a> {
    options: &'a Options,
    driver: Driver,
    known: HashSet<u64, foldhash::fast::FixedState>,
    origins: Vec<Origin>,
    samples: Vec<(World, u32)>,
    report: Report,
    begin: Instant,
}

/// Looks at every state of a scope.
pub fn search(scope: &Scope, options: &Options) -> Report {
    let mut search = Search {
        options,
        driver: Driver::heedless_of(&options.without),
        known: HashSet::default(),
        origins: vec![Origin { parent: 0, choice: 0 }],
        samples: Vec::new(),
        report: Report::default(),
        begin: Instant::now(),
    };
    match scope.world(&mut search.driver) {
        Ok(world) => {
            search.run(world);
            search.recover();
        }
        Err(broken) => search.report.broken = Some((broken, Vec::new())),
    }
    search.report.distinct = search.known.len();
    search.report.took = search.begin.elapsed();
    search.report
}

impl Search<'_> {
    fn run(&mut self, world: World) {
        self.known.insert(world.hash());
        let mut layer = vec![(world, 0)];
        while !layer.is_empty() && self.report.depth < self.options.bounds.depth {
            let mut next = Vec::new();
            for (world, at) in layer {
                if let Err((broken, path)) = self.expand(&world, at, &mut next) {
                    self.report.broken = Some((broken, path));
                    return;
                }
                if self.known.len() > self.options.most_states
                    || self.report.visited.is_multiple_of(1024)
                        && self.begin.elapsed() > self.options.limit
                {
                    return;
                }
            }
            self.report.depth += 1;
            layer = next;
        }
        self.report.complete = true;
    }

    /// Lets samples recover. Only now: what breaks then is real, but the way there is no shortest one.
    fn recover(&mut self) {
        if self.options.without.contains(&Rule::Stuck) || self.report.broken.is_some() {
            return;
        }
        for (world, at) in std::mem::take(&mut self.samples) {
            self.report.recoveries += 1;
            if let Err(broken) = stuck::check(&world, &self.options.bounds, &mut self.driver) {
                self.report.broken = Some((broken, self.path(at, None)));
                return;
            }
        }
    }

    fn expand(
        &mut self,
        world: &World,
        at: u32,
        next: &mut Vec<(World, u32)>,
    ) -> Result<(), (Broken, Vec<u16>)> {
        let bounds = &self.options.bounds;
        for (choice, step) in world.steps(bounds, &mut self.driver).into_iter().enumerate() {
            let choice = choice as u16;
            let Some(after) = world.take(step, bounds, &mut self.driver) else { continue };
            self.report.visited += 1;
            let mut after = match after {
                Ok(after) => after,
                Err(broken) => return Err((broken, self.path(at, Some(choice)))),
            };
            let hash = after.hash();
            if !self.known.insert(hash) {
                continue;
            }
            after.share(&mut self.driver);
            let id = self.origins.len() as u32;
            self.origins.push(Origin { parent: at, choice });
            if hash.is_multiple_of(RECOVERIES) {
                self.samples.push((after.clone(), id));
            }
            next.push((after, id));
        }
        Ok(())
    }

    fn path(&self, mut at: u32, last: Option<u16>) -> Vec<u16> {
        let mut path: Vec<_> = last.into_iter().collect();
        while at != 0 {
            let origin = &self.origins[at as usize];
            path.push(origin.choice);
            at = origin.parent;
        }
        path.reverse();
        path
    }
}

/// Walks one path again and tells it, line by line.
pub fn replay(scope: &Scope, options: &Options, path: &[u16]) -> (Vec<String>, Option<Broken>) {
    let bounds = &options.bounds;
    let mut driver = Driver::heedless_of(&options.without);
    let mut lines = Vec::new();
    let mut world = match scope.world(&mut driver) {
        Ok(world) => world,
        Err(broken) => return (lines, Some(broken)),
    };
    for (number, choice) in path.iter().enumerate() {
        let steps = world.steps(bounds, &mut driver);
        let Some(step) = steps.get(*choice as usize).copied() else {
            lines.push(format!("there is no choice {choice} among {}", steps.len()));
            return (lines, None);
        };
        driver.said = Some(Vec::new());
        let taken = world.take(step, bounds, &mut driver);
        lines.push(format!("{:>4}  {step}", number + 1));
        lines.extend(driver.said.take().unwrap_or_default());
        match taken {
            Some(Ok(next)) => world = next,
            Some(Err(broken)) => return (lines, Some(broken)),
            None => lines.push("      cannot happen".to_owned()),
        }
    }
    driver.said = Some(vec!["      from here on there are no more faults".to_owned()]);
    let broken = stuck::check(&world, bounds, &mut driver).err();
    if broken.is_some() {
        lines.extend(driver.said.take().unwrap_or_default());
    }
    (lines, broken)
}
