//! Which ensemble a run has: members and their quorum rule, settings of all servers, clocks, sockets.

use std::collections::BTreeSet;

use oxkeeper_proto::Zxid;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_zab::Limits;

use crate::dice::Dice;

/// Own stream of numbers: what is drawn elsewhere does not change a run's ensemble.
const STREAM: u64 = 0x5ba9_e0f3_0000_0001;

/// Members of an ensemble and their quorum rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// What runs of it are counted as.
    pub name: &'static str,
    voters: usize,
    observers: usize,
    /// `group.N`, then `weight.N` entries.
    rules: &'static [(&'static str, &'static str)],
}

const fn majority(name: &'static str, voters: usize, observers: usize) -> Cast {
    Cast { name, voters, observers, rules: &[] }
}

const THREE: Cast = majority("3 voters", 3, 0);
const FIVE: Cast = majority("5 voters", 5, 0);
const STANDALONE: Cast = majority("standalone", 1, 0);
const TWO: Cast = majority("2 voters", 2, 0);
const FOUR: Cast = majority("4 voters", 4, 0);
const OBSERVED: Cast = majority("3 voters, 1 observer", 3, 1);
const OBSERVED_TWICE: Cast = majority("3 voters, 2 observers", 3, 2);
const FIVE_OBSERVED: Cast = majority("5 voters, 1 observer", 5, 1);
/// Two of three groups make a quorum: 1 and 2 alone do, 3, 4 and 5 do not always.
const GROUPS: Cast = Cast {
    name: "3 groups",
    voters: 5,
    observers: 0,
    rules: &[("group.1", "1"), ("group.2", "2"), ("group.3", "3:4:5")],
};
/// One group; 1 weighs as much as the others together, so no quorum is without it.
const WEIGHTS: Cast = Cast {
    name: "weights 3, 1, 1, 1",
    voters: 4,
    observers: 0,
    rules: &[("group.1", "1:2:3:4"), ("weight.1", "3")],
};
/// 4 votes without weight: it never leads, and no quorum needs it.
const WEIGHTLESS: Cast = Cast {
    name: "weights 1, 1, 1, 0, 1 observer",
    voters: 4,
    observers: 1,
    rules: &[("group.1", "1:2:3:4"), ("weight.4", "0")],
};

/// The frequent ones stand there more than once.
const CASTS: [Cast; 24] = [
    THREE,
    THREE,
    THREE,
    THREE,
    THREE,
    THREE,
    THREE,
    THREE,
    FIVE,
    FIVE,
    FIVE,
    FIVE,
    OBSERVED,
    OBSERVED,
    OBSERVED_TWICE,
    FIVE_OBSERVED,
    FOUR,
    FOUR,
    TWO,
    STANDALONE,
    GROUPS,
    WEIGHTS,
    WEIGHTS,
    WEIGHTLESS,
];

impl Cast {
    fn servers(self) -> usize {
        self.voters + self.observers
    }

    fn ensemble(self) -> EnsembleConfig {
        let mut ensemble = EnsembleConfig::default();
        let servers = (1..=self.servers()).map(|id| {
            let role = if id <= self.voters { "participant" } else { "observer" };
            (format!("server.{id}"), format!("host{id}:2888:3888:{role}"))
        });
        let rules = self.rules.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        for (key, value) in servers.chain(rules) {
            if let Err(error) = ensemble.set(&key, &value, false) {
                panic!("the ensemble of the simulator is wrong: {error}");
            }
        }
        ensemble
    }
}

/// What a run's servers are like.
#[derive(Clone, Debug)]
pub struct Shape {
    /// What the run is counted as.
    pub cast: Cast,
    /// `leaderServes`.
    pub leader_serves: bool,
    /// Always SNAP.
    pub force_snapshot_sync: bool,
    /// As [`oxkeeper_zab::Config::fast_election`].
    pub fast_election: bool,
    /// What one role may come to.
    pub limits: Limits,
    /// The history that all disks begin with ends here, if it is not empty.
    pub last_zxid: Option<Zxid>,
    /// Bytes on their way that a connection between servers holds: both sockets and what is between.
    pub window: usize,
    /// Bytes that may wait behind that, for one peer.
    pub outbox: usize,
    /// One client writes large values.
    pub large_values: bool,
    /// These follow as 3.8.0 does.
    pub old_voices: BTreeSet<usize>,
    /// How fast each server's clocks run, in millionths too fast.
    pub drifts: Vec<i64>,
}

impl Shape {
    /// No protocol between servers?
    pub fn is_standalone(&self) -> bool {
        self.cast == STANDALONE
    }

    /// That of a seed. `voters`: so many, and nothing special.
    pub fn of(seed: u64, voters: Option<usize>) -> (Shape, EnsembleConfig) {
        let mut dice = Dice::new(seed ^ STREAM);
        let cast = match voters {
            Some(1) => STANDALONE,
            Some(voters) => Cast { voters, ..THREE },
            None => dice.pick(&CASTS),
        };
        let large_values = dice.one_in(10);
        let mut limits = Limits::default();
        let mut outbox = 512 << 20;
        if !large_values && dice.one_in(6) {
            limits.queued_bytes = dice.between(6_000, 60_000) as usize;
        }
        // A queue that a DIFF does not fit in would keep its learner out for ever. (The server's holds more
        // than the log is read for a learner, and more than memory keeps.) Streams make room for themselves.
        let narrow = dice.one_in(6);
        if narrow {
            outbox = dice.between(40_000, 80_000) as usize * if large_values { 20 } else { 1 };
        }
        if dice.one_in(12) {
            limits.last_counter = dice.between(20, 400) as u32;
        }
        let shape = Shape {
            cast,
            leader_serves: !dice.one_in(8),
            force_snapshot_sync: dice.one_in(12) || narrow || large_values && dice.one_in(2),
            fast_election: !dice.one_in(5),
            limits,
            last_zxid: dice
                .one_in(if cast == STANDALONE { 2 } else { 12 })
                .then(|| last_zxid(&mut dice)),
            window: dice.pick(&[16 << 10, 64 << 10, 256 << 10, 4 << 20]),
            outbox,
            large_values,
            old_voices: old_voices(seed, cast.servers()),
            drifts: (0..cast.servers()).map(|_| drift(&mut dice)).collect(),
        };
        (shape, cast.ensemble())
    }
}

/// In some runs some servers, in others all; drawn apart, so that the rest of the run is what it is without.
fn old_voices(seed: u64, servers: usize) -> BTreeSet<usize> {
    const STREAM: u64 = 0x6f6c_645f_766f_6963;
    let mut dice = Dice::new(seed ^ STREAM);
    let one_in = dice.pick(&[u64::MAX, u64::MAX, u64::MAX, 2, 1]);
    (0..servers).filter(|_| dice.one_in(one_in)).collect()
}

/// Close to where the counter of an epoch ends.
fn last_zxid(dice: &mut Dice) -> Zxid {
    let epoch = dice.pick(&[0, 1, 5, 0x7fff]);
    Zxid::new(epoch, Zxid::COUNTER_END - dice.between(1, 500) as u32)
}

fn drift(dice: &mut Dice) -> i64 {
    let most = if dice.one_in(20) { 100_000 } else { 20_000 };
    dice.between(0, 2 * most) as i64 - most as i64
}
