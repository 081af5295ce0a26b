//! What the seed decides before a run begins: the ensemble, its settings, and what will go wrong when.

use std::collections::BTreeSet;

use oxkeeper_proto::ensemble::EnsembleConfig;

use crate::clients::workload::WorkPlan;
use crate::dice::Dice;
use crate::disk::DiskPlan;
use crate::faults::{Strike, schedule};
use crate::server::MAX_TIMEOUT_MS;
use crate::shape::Shape;

/// What an election takes, in µs.
const ELECTION: u64 = 1_000_000;
/// Ticks.
pub const INIT_LIMIT: u64 = 10;
/// Ticks.
pub const SYNC_LIMIT: u64 = 5;

/// What the caller asks of a run, beside its seed.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// This many voters, instead of what the seed says.
    pub servers: Option<usize>,
    /// Strikes that do not take place, by their number in the plan: how a run is made smaller.
    pub without: BTreeSet<usize>,
}

/// Settings of a run that the seed chose.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Members and their quorum rule. Standalone: a single one.
    pub ensemble: EnsembleConfig,
    /// What the servers are like.
    pub shape: Shape,
    /// Unit of the limits in ms.
    pub tick_ms: u64,
    /// Proposals in memory.
    pub commit_log_count: usize,
    /// `snapCount`.
    pub snap_count: i64,
    /// `snapshotSizeFactor`.
    pub snapshot_size_factor: f64,
    /// The storage, and what its disks are like.
    pub disk: DiskPlan,
    /// Number of clients.
    pub clients: usize,
    /// What they do, and the settings that matter for it.
    pub work: WorkPlan,
    /// What goes wrong, by time.
    pub strikes: Vec<Strike>,
    /// End of the faults, in µs.
    pub faults_end: u64,
    /// End of the clients' work, in µs.
    pub work_end: u64,
    /// The run must be quiet before this, in µs.
    pub give_up: u64,
}

impl Plan {
    /// initLimit in µs.
    pub fn init_limit_us(&self) -> u64 {
        INIT_LIMIT * self.tick_ms * 1000
    }

    /// syncLimit in µs.
    pub fn sync_limit_us(&self) -> u64 {
        SYNC_LIMIT * self.tick_ms * 1000
    }

    /// When nothing is wrong, somebody leads after this many µs. What it takes at worst: a server follows one
    /// that does not lead, and notices after syncLimit, or waits for learners that follow another one, for
    /// initLimit; then an election. Votes are sent again after 200 ms, then 400, connections made after 200.
    /// A slow clock makes a limit longer by a tenth.
    pub fn leader_within_us(&self) -> u64 {
        (self.init_limit_us() + self.sync_limit_us()) * 11 / 10 + ELECTION
    }

    /// When nothing is wrong, every server serves after this many µs. It may have to wait as a leader does,
    /// and then to be brought up to date.
    pub fn service_within_us(&self) -> u64 {
        self.leader_within_us() + self.init_limit_us() * 11 / 10
    }

    /// Behind the end of all work and faults all sessions end, and all servers agree: a client that is gone
    /// is missed after its timeout.
    fn quiet_within_us(&self) -> u64 {
        MAX_TIMEOUT_MS as u64 * 1100 + self.service_within_us()
    }

    /// The ensemble in words, for the counters.
    pub fn kind(&self) -> String {
        self.shape.cast.name.to_owned()
    }

    /// The plan of a seed.
    pub fn of(seed: u64, wishes: &Wishes) -> Plan {
        let mut dice = Dice::new(seed);
        let (shape, ensemble) = Shape::of(seed, wishes.servers);
        let faults_end = dice.between(8_000_000, 20_000_000);
        let mut plan = Plan {
            ensemble,
            shape,
            tick_ms: dice.pick(&[50, 100, 100, 200]),
            commit_log_count: dice.pick(&[5, 20, 20, 60]),
            snap_count: dice.pick(&[20, 60, 60, 300, 100_000]),
            snapshot_size_factor: dice.pick(&[0.33, 1.0, 100.0]),
            disk: DiskPlan::of(seed),
            clients: dice.between(2, 5) as usize,
            work: WorkPlan::of(seed),
            strikes: Vec::new(),
            faults_end,
            work_end: faults_end + 4_000_000,
            give_up: 0,
        };
        plan.give_up = plan.work_end + plan.quiet_within_us();
        plan.strikes = schedule::draw(seed, &mut dice, &plan);
        plan
    }
}
