//! One seed: a run, its counters, or its failure with the events before it.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::panic::{AssertUnwindSafe, catch_unwind};

use oxkeeper_zab::SyncCounts;

use crate::overheard::Listener;
use crate::plan::Wishes;
use crate::trace::Trace;
use crate::violation::{Rule, Violation};
use crate::world::World;

/// What happened in one or many runs.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Summary {
    pub seeds: u64,
    pub simulated_us: u64,
    pub crashes: u64,
    /// Faults that struck, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Roles that ended, by why.
    pub losses: BTreeMap<&'static str, u64>,
    /// Runs by the kind of their ensemble.
    pub ensembles: BTreeMap<String, u64>,
    pub longest_without_leader: u64,
    pub longest_without_service: u64,
    /// What disks did, and what came of it.
    pub disks: BTreeMap<&'static str, u64>,
    /// Losses of power, by what the storage was doing.
    pub power_lost: BTreeMap<&'static str, u64>,
    pub elections: u64,
    pub leaders: u64,
    pub diffs: u64,
    pub truncs: u64,
    pub refused_cuts: u64,
    pub snaps: u64,
    pub streams: u64,
    pub log_reads: u64,
    pub snapshots: u64,
    pub purged: u64,
    pub sessions: u64,
    pub resumed: u64,
    pub expired: u64,
    pub moved: u64,
    pub intrusions: u64,
    /// Requests sent, by operation.
    pub requests: BTreeMap<&'static str, u64>,
    /// Committed transactions, by what they are.
    pub transactions: BTreeMap<String, u64>,
    pub writes: u64,
    pub failed_writes: u64,
    pub reads: u64,
    pub notifications: u64,
    /// Sum of the runs' trace hashes: equal when nothing about the runs has changed.
    pub traces: u64,
}

impl Summary {
    /// Counts a fault.
    pub fn count_fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }

    /// Counts the end of a role.
    pub fn count_loss(&mut self, why: &'static str) {
        *self.losses.entry(why).or_default() += 1;
    }

    /// Counts what a disk did, or what came of it.
    pub fn count_disk(&mut self, what: &'static str) {
        *self.disks.entry(what).or_default() += 1;
    }

    /// Counts a leader's synchronizations.
    pub fn add_syncs(&mut self, counts: SyncCounts) {
        self.diffs += counts.diff;
        self.truncs += counts.trunc;
        self.snaps += counts.snap;
    }
}

impl AddAssign<&Summary> for Summary {
    fn add_assign(&mut self, other: &Summary) {
        self.seeds += other.seeds;
        self.simulated_us += other.simulated_us;
        self.crashes += other.crashes;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        for (why, count) in &other.losses {
            *self.losses.entry(why).or_default() += count;
        }
        for (kind, count) in &other.ensembles {
            *self.ensembles.entry(kind.clone()).or_default() += count;
        }
        for (what, count) in &other.disks {
            *self.disks.entry(what).or_default() += count;
        }
        for (phase, count) in &other.power_lost {
            *self.power_lost.entry(phase).or_default() += count;
        }
        self.purged += other.purged;
        self.elections += other.elections;
        self.longest_without_leader = self.longest_without_leader.max(other.longest_without_leader);
        self.longest_without_service =
            self.longest_without_service.max(other.longest_without_service);
        self.leaders += other.leaders;
        self.diffs += other.diffs;
        self.truncs += other.truncs;
        self.refused_cuts += other.refused_cuts;
        self.snaps += other.snaps;
        self.streams += other.streams;
        self.log_reads += other.log_reads;
        self.snapshots += other.snapshots;
        self.sessions += other.sessions;
        self.resumed += other.resumed;
        self.expired += other.expired;
        self.moved += other.moved;
        self.intrusions += other.intrusions;
        for (name, count) in &other.requests {
            *self.requests.entry(name).or_default() += count;
        }
        self.failed_writes += other.failed_writes;
        for (name, count) in &other.transactions {
            *self.transactions.entry(name.clone()).or_default() += count;
        }
        self.writes += other.writes;
        self.reads += other.reads;
        self.notifications += other.notifications;
        self.traces = self.traces.wrapping_add(other.traces);
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hours = self.simulated_us as f64 / 3.6e9;
        writeln!(f, "{} seeds, {hours:.2} simulated hours", self.seeds)?;
        writeln!(f, "ensembles: {}", Counts(&self.ensembles))?;
        writeln!(f, "faults: {}", Counts(&self.faults))?;
        writeln!(f, "ends of roles: {}", Counts(&self.losses))?;
        writeln!(f, "disks: {}", Counts(&self.disks))?;
        writeln!(f, "power lost in: {}", Counts(&self.power_lost))?;
        writeln!(
            f,
            "crashes {}, elections {}, leaders {}",
            self.crashes, self.elections, self.leaders
        )?;
        writeln!(
            f,
            "syncs: DIFF {}, TRUNC {} (refused {}), SNAP {} (streams {}), log reads {}; periodic snapshots {}, \
             purged {}",
            self.diffs,
            self.truncs,
            self.refused_cuts,
            self.snaps,
            self.streams,
            self.log_reads,
            self.snapshots,
            self.purged
        )?;
        writeln!(
            f,
            "sessions {} (resumed {}, moved {}, expired {}, wrong passwords {}), writes answered {} (failed {}), \
             reads {}, notifications {}",
            self.sessions,
            self.resumed,
            self.moved,
            self.expired,
            self.intrusions,
            self.writes,
            self.failed_writes,
            self.reads,
            self.notifications
        )?;
        writeln!(
            f,
            "longest in a calm, in ticks: without leader {}, without service of a server {}",
            self.longest_without_leader, self.longest_without_service
        )?;
        writeln!(f, "requests: {}", Counts(&self.requests))?;
        writeln!(f, "transactions: {}", Counts(&self.transactions))?;
        write!(f, "traces {:016x}", self.traces)
    }
}

/// Counters by name, the most frequent first.
struct Counts<'a, K>(&'a BTreeMap<K, u64>);

impl<K: std::fmt::Display> std::fmt::Display for Counts<'_, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut counts: Vec<_> = self.0.iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (nth, (kind, count)) in counts.into_iter().enumerate() {
            write!(f, "{}{kind} {count}", if nth == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// A run that broke a rule.
#[derive(Debug)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What was asked of the run.
    pub wishes: Wishes,
    /// The broken rule.
    pub violation: Violation,
    /// The last events.
    pub lines: Vec<String>,
}

/// Runs one seed. A failing seed is run again to collect its events. `echo`: every event is printed.
pub fn run_seed(seed: u64, wishes: &Wishes, echo: bool) -> Result<Summary, Box<Failure>> {
    let mut trace = Trace::new(echo, echo);
    let mut violation = match attempt(seed, wishes, &mut trace) {
        Ok(mut summary) => {
            summary.traces = trace.hash();
            if echo {
                trace.lines().for_each(|line| println!("{line}"));
            }
            return Ok(summary);
        }
        Err(violation) => violation,
    };
    if !echo {
        trace = Trace::new(true, false);
        let again = attempt(seed, wishes, &mut trace);
        if again.as_ref().err() != Some(&violation) {
            violation.what += &format!(" (the second run ended otherwise: {again:?})");
        }
    }
    let lines = trace.lines().collect();
    Err(Box::new(Failure { seed, wishes: wishes.clone(), violation, lines }))
}

fn attempt(seed: u64, wishes: &Wishes, trace: &mut Trace) -> Result<Summary, Violation> {
    let run = || {
        let mut world = World::new(seed, wishes, trace);
        // Left over if the last run of this thread panicked.
        crate::overheard::take();
        let result = world.run();
        for server in &world.servers {
            if let Some(zab) = server.process.as_ref().and_then(|process| process.replica().zab()) {
                world.summary.add_syncs(zab.sync_counts());
                world.summary.elections += zab.elections();
            }
        }
        world.summary.seeds = 1;
        world.summary.transactions = std::mem::take(&mut world.checks.clients.counts);
        world.summary.ensembles.insert(world.plan.kind(), 1);
        world.summary.simulated_us = world.now;
        result.map(|()| world.summary)
    };
    let run = || tracing::subscriber::with_default(Listener, run);
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Rule::Assertion.broken(text.unwrap_or_default()))
    })
}
