//! What clients do: chosen so that the rules have something to say.

use crate::check::attempt::Rules;
use crate::clients::SimClient;
use crate::clients::ops::{AclChoice, Create, Mode, Op};
use crate::dice::Dice;

/// Makes the numbers of this file another stream than the plan's.
const STREAM: u64 = 0xc11e_0475_0000_0001;

/// Settings of a run that its clients notice.
#[derive(Clone, Debug)]
pub struct WorkPlan {
    /// What decides whether writes succeed.
    pub rules: Rules,
    /// `znode.container.checkIntervalMs`.
    pub reap_interval_ms: u64,
    /// Seed of the clients' choices.
    pub seed: u64,
}

impl WorkPlan {
    /// The settings of a seed.
    pub fn of(seed: u64) -> WorkPlan {
        let mut dice = Dice::new(seed ^ STREAM);
        let rules = Rules { extended_types: !dice.one_in(4), enforce_quota: !dice.one_in(3) };
        let reap_interval_ms = dice.pick(&[200, 200, 700, 60_000]);
        WorkPlan { rules, reap_interval_ms, seed: seed ^ STREAM }
    }
}

/// How a client behaves for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Requests, some at a time.
    Busy,
    /// Only reads and syncs: no write that cannot be committed holds them back.
    Reading,
    /// Nothing but pings: its session must live.
    Idle,
    /// Nothing at all: its session should expire.
    Silent,
    /// Many requests at once.
    Flood,
}

impl Mood {
    /// The next one, and for how long in µs.
    pub fn draw(dice: &mut Dice, timeout_ms: i32) -> (Mood, u64) {
        match dice.below(24) {
            0..3 => (Mood::Idle, dice.between(500_000, 4_000_000)),
            3 => (Mood::Silent, timeout_ms as u64 * 1000 + dice.between(0, 1_500_000)),
            4 => (Mood::Flood, 0),
            5..10 => (Mood::Reading, dice.between(500_000, 3_000_000)),
            _ => (Mood::Busy, dice.between(200_000, 2_000_000)),
        }
    }
}

/// Requests for the nodes that everyone uses.
pub fn setup() -> Vec<Op> {
    let mut nodes: Vec<_> = ["/r0", "/r1", "/r2", "/r3", "/log", "/seq", "/t", "/m", "/p", "/q"]
        .into_iter()
        .map(|path| Create::plain(path, ""))
        .collect();
    nodes.push(Create::plain("/zookeeper/quota/q", ""));
    let limits = "count=4,bytes=-1=;byteHardLimit=60;countHardLimit=5";
    nodes.push(Create::plain("/zookeeper/quota/q/zookeeper_limits", limits));
    nodes.push(Create::plain("/zookeeper/quota/q/zookeeper_stats", "count=0,bytes=0"));
    nodes.into_iter().map(Op::Create).collect()
}

/// The last of them.
pub const LAST_OF_SETUP: &str = "/zookeeper/quota/q/zookeeper_stats";

/// A node of the tree that everyone changes.
fn tree(dice: &mut Dice) -> String {
    let above = dice.pick(&["a", "b", "c", "d"]);
    match dice.below(3) {
        0 => format!("/t/{above}"),
        _ => format!("/t/{above}/{}", dice.pick(&["x", "y", "z"])),
    }
}

/// Nodes that may be watched.
fn watched(dice: &mut Dice) -> String {
    match dice.below(8) {
        0..4 => tree(dice),
        4 => "/t".to_owned(),
        5 => format!("/p/{}", dice.below(3)),
        _ => register(dice),
    }
}

fn register(dice: &mut Dice) -> String {
    format!("/r{}", dice.below(4))
}

fn mode(dice: &mut Dice) -> Mode {
    match dice.below(10) {
        0..4 => Mode::Plain,
        4..7 => Mode::Ephemeral,
        7..9 => Mode::Container,
        _ => Mode::Ttl { ms: dice.pick(&[50, 300, 2_000]) },
    }
}

impl SimClient {
    /// The version that a conditional write expects: the one last seen, mostly.
    fn version(&mut self, path: &str) -> i32 {
        let known = self.session.versions.get(path).copied();
        match self.dice.below(8) {
            0..4 => known.unwrap_or(0),
            4 => known.unwrap_or(0) + 1,
            _ => -1,
        }
    }

    fn value(&mut self) -> Vec<u8> {
        self.counter += 1;
        format!("c{}-{}", self.index, self.counter).into_bytes()
    }

    /// Where the plan says so, what one client writes is large now and then.
    fn large_value(&mut self, most: u64) -> Vec<u8> {
        let mut value = self.value();
        if self.large && self.dice.one_in(5) {
            value.resize(self.dice.between(20_000, most) as usize, b'x');
        }
        value
    }

    /// What it asks next.
    pub fn next_op(&mut self) -> Op {
        match self.dice.below(100) {
            0..16 => self.set_data_of(Where::Register),
            16..28 => self.get_data(Where::Register),
            28..33 => self.exists(),
            33..37 => self.get_data(Where::Anywhere),
            37..42 => self.get_children(),
            42..50 => self.create_in_tree(),
            50..56 => self.delete_in_tree(),
            56..59 => self.set_data_of(Where::Tree),
            59..63 => self.create_numbered(),
            63..66 => self.delete_own(),
            66..72 => self.multi(),
            72..75 => self.multi_read(),
            75..80 => self.under_quota(),
            80..85 => self.with_acl(),
            85..90 => self.about_watches(),
            90..94 => Op::Sync,
            94..96 => {
                Op::GetEphemerals { prefix: self.dice.pick(&["/", "/t", "/seq/"]).to_owned() }
            }
            96 => Op::CountDescendants { path: "/t".to_owned() },
            _ => Op::Ping,
        }
    }

    fn path(&mut self, place: Where) -> String {
        match place {
            Where::Register => register(&mut self.dice),
            Where::Tree => tree(&mut self.dice),
            Where::Anywhere => watched(&mut self.dice),
        }
    }

    fn set_data_of(&mut self, place: Where) -> Op {
        let path = self.path(place);
        let version = self.version(&path);
        let data = match place {
            Where::Register => self.large_value(200_000),
            _ => self.value(),
        };
        Op::SetData { path, data, version }
    }

    fn get_data(&mut self, place: Where) -> Op {
        Op::GetData { path: self.path(place), watch: self.dice.one_in(3) }
    }

    fn exists(&mut self) -> Op {
        Op::Exists { path: watched(&mut self.dice), watch: !self.dice.one_in(3) }
    }

    fn get_children(&mut self) -> Op {
        let path = match self.dice.below(16) {
            0 => "/log".to_owned(),
            1..4 => "/seq".to_owned(),
            4..9 => "/t".to_owned(),
            _ => tree(&mut self.dice),
        };
        Op::GetChildren { path, watch: self.dice.one_in(2), stat: self.dice.one_in(2) }
    }

    fn create_in_tree(&mut self) -> Op {
        let path = tree(&mut self.dice);
        let data = self.value();
        let (mode, stat) = (mode(&mut self.dice), self.dice.one_in(2));
        Op::Create(Create { mode, stat, ..Create::plain(path, data) })
    }

    fn delete_in_tree(&mut self) -> Op {
        let path = tree(&mut self.dice);
        let version = self.version(&path);
        Op::Delete { path, version }
    }

    /// Under names that are never given out twice.
    fn create_numbered(&mut self) -> Op {
        let (path, mode, data) = match self.dice.below(3) {
            _ if self.fills => {
                let mut data = self.value();
                data.resize(self.dice.between(50_000, 150_000) as usize, b'x');
                ("/log/s-", Mode::Plain, data)
            }
            0 => ("/log/s-", Mode::Plain, self.large_value(80_000)),
            1 => ("/seq/e-", Mode::Ephemeral, self.value()),
            _ => ("/seq/", Mode::Ephemeral, self.value()),
        };
        Op::Create(Create { mode, sequential: true, ..Create::plain(path, data) })
    }

    fn delete_own(&mut self) -> Op {
        match self.session.made.pop_front() {
            Some(path) if !self.fills => {
                Op::Delete { path, version: self.dice.pick(&[-1, -1, 0, 1]) }
            }
            _ => Op::Sync,
        }
    }

    fn multi(&mut self) -> Op {
        let parts = self.dice.between(1, 4);
        let part = |client: &mut SimClient| match client.dice.below(6) {
            0 => client.set_data_of(Where::Register),
            1 => client.create_in_tree(),
            2 => client.delete_in_tree(),
            3 => client.create_numbered(),
            4 => {
                let path = register(&mut client.dice);
                let version = client.version(&path);
                Op::Check { path, version }
            }
            _ => {
                let path = format!("/m/{}", client.dice.below(4));
                match client.dice.below(3) {
                    0 => Op::Delete { path, version: -1 },
                    1 => Op::SetData { path, data: client.value(), version: -1 },
                    _ => Op::Create(Create::plain(path, client.value())),
                }
            }
        };
        Op::Multi((0..parts).map(|_| part(self)).collect())
    }

    fn multi_read(&mut self) -> Op {
        let parts = self.dice.between(1, 4);
        let part = |client: &mut SimClient| match client.dice.one_in(3) {
            true => Op::GetChildren { path: tree(&mut client.dice), watch: false, stat: false },
            false => Op::GetData { path: watched(&mut client.dice), watch: false },
        };
        Op::MultiRead((0..parts).map(|_| part(self)).collect())
    }

    fn under_quota(&mut self) -> Op {
        let path = format!("/q/{}", self.dice.below(8));
        let data = vec![b'q'; self.dice.below(30) as usize];
        match self.dice.below(16) {
            0 => {
                let (bytes, count) = (self.dice.between(20, 90), self.dice.between(3, 7));
                let text =
                    format!("count=4,bytes=-1=;byteHardLimit={bytes};countHardLimit={count}");
                let path = "/zookeeper/quota/q/zookeeper_limits".to_owned();
                Op::SetData { path, data: text.into_bytes(), version: -1 }
            }
            1 => Op::GetData { path: LAST_OF_SETUP.to_owned(), watch: false },
            2..5 => Op::Delete { path, version: -1 },
            5..9 => Op::SetData { path, data, version: self.dice.pick(&[-1, -1, 0]) },
            _ => Op::Create(Create::plain(path, data)),
        }
    }

    fn with_acl(&mut self) -> Op {
        let path = format!("/p/{}", self.dice.below(3));
        let choices = [AclChoice::Open, AclChoice::Ben, AclChoice::BenWrites, AclChoice::Creator];
        let acl = self.dice.pick(&choices);
        match self.dice.below(8) {
            0 | 1 => Op::Create(Create { acl, ..Create::plain(path, self.value()) }),
            2 => Op::Delete { path, version: -1 },
            3 => Op::SetAcl { path, acl, version: self.dice.pick(&[-1, -1, 0, 1]) },
            4 | 5 => Op::SetData { path, data: self.value(), version: -1 },
            _ => Op::GetData { path, watch: self.dice.one_in(2) },
        }
    }

    fn about_watches(&mut self) -> Op {
        let nth = self.dice.any();
        let held = self.session.held.nth(nth).map(|(path, _)| path.clone());
        let path = match held.filter(|_| !self.dice.one_in(4)) {
            Some(path) => path,
            None => watched(&mut self.dice),
        };
        match self.dice.below(6) {
            0..3 => {
                let path = watched(&mut self.dice);
                Op::AddWatch { path, recursive: self.dice.one_in(2) }
            }
            3 => Op::CheckWatches { path, kind: self.dice.between(1, 5) as i32 },
            _ => Op::RemoveWatches { path, kind: self.dice.between(1, 5) as i32 },
        }
    }
}

#[derive(Clone, Copy)]
enum Where {
    Register,
    Tree,
    Anywhere,
}
