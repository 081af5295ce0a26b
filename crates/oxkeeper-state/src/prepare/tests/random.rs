//! Random requests, prepared up to 50 ahead of being applied: every outcome, every predicted digest and
//! the tree at the end are the naive model's.

use std::collections::{BTreeSet, VecDeque};

use oxkeeper_proto::client::Id;
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{Encode, ErrorCode, OpCode};

use super::model::{Acls, Done, Model, Op, Who};
use super::world::*;
use crate::Outcome;
use crate::prepare::{PrepareSettings, Prepared, SessionCheck};

/// A small generator of pseudo-random numbers (SplitMix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize].clone()
    }
}

const SESSIONS: [i64; 3] = [0x10, 0x20, 0x30];
const USERS: [Option<&str>; 3] = [None, Some("ann:hash"), Some("bob:hash")];

fn path(rng: &mut Rng) -> String {
    let odd = ["/", "", "a", "/a/", "//a", "/a/..", "/\u{1}", "/zookeeper/config", "/zookeeper/q"];
    if rng.below(20) == 0 {
        return rng.pick(&odd).to_owned();
    }
    let mut path = String::new();
    for _ in 0..=rng.pick(&[0, 0, 1, 1, 1, 2]) {
        path.push('/');
        path.push_str(rng.pick(&["a", "b", "c", "d"]));
    }
    path
}

/// The path of a node that exists, or any.
fn known_path(rng: &mut Rng, model: &Model) -> String {
    if rng.below(3) == 0 {
        return path(rng);
    }
    let index = rng.below(model.nodes.len() as u64) as usize;
    model.nodes.keys().nth(index).unwrap().clone()
}

fn data(rng: &mut Rng) -> Option<Vec<u8>> {
    match rng.below(8) {
        0 => None,
        1 => Some(vec![7; 400]),
        n => Some(vec![n as u8; n as usize - 2]),
    }
}

fn acls(rng: &mut Rng) -> Acls {
    match rng.below(24) {
        0 => Acls::None,
        1 => Acls::Read,
        2 | 3 => Acls::Mine,
        _ => Acls::Open,
    }
}

fn create_op(rng: &mut Rng) -> Op {
    let op = rng.pick(&[1, 1, 1, 15, 19, 21]);
    let odd = rng.below(12) == 0;
    let flags = match op {
        _ if odd => rng.below(9) as i32 - 1,
        19 => 4,
        21 => rng.pick(&[5, 6]),
        _ => rng.pick(&[0, 0, 1, 2, 3]),
    };
    let ttl = if op == 21 { rng.pick(&[20, 20, 500, 0]) } else { -1 };
    let data = if op == 21 { None } else { data(rng) };
    let acl = if op == 21 { Acls::Open } else { acls(rng) };
    Op::Create { op, path: path(rng), data, acl, flags, ttl }
}

fn part(rng: &mut Rng, model: &Model) -> Op {
    let version = rng.pick(&[-1, -1, -1, -1, -1, -1, 0, 1]);
    match rng.below(10) {
        0..5 => create_op(rng),
        5..7 => Op::Delete { path: known_path(rng, model), version },
        7..9 => Op::SetData { path: known_path(rng, model), data: data(rng), version },
        _ => Op::Check { path: known_path(rng, model), version },
    }
}

fn request(rng: &mut Rng, model: &Model) -> Op {
    match rng.below(20) {
        0..11 => match part(rng, model) {
            // Alone it is no request.
            Op::Check { .. } => Op::OpenSession,
            op => op,
        },
        11..16 => Op::Multi((0..rng.below(5)).map(|_| part(rng, model)).collect()),
        16 => {
            Op::SetAcl { path: known_path(rng, model), acl: acls(rng), version: rng.pick(&[-1, 0]) }
        }
        17..19 => Op::Reap { path: known_path(rng, model) },
        _ => Op::CloseSession,
    }
}

/// Operation number and body.
fn encode(op: &Op) -> (OpCode, Vec<u8>) {
    let list = |acl: &Acls| match acl {
        Acls::Open => anyone(31),
        Acls::Read => anyone(1),
        Acls::Mine => Some(vec![entry(31, "auth", "")]),
        Acls::None => None,
    };
    match op {
        Op::Create { op: 21, path, flags, ttl, .. } => {
            (OpCode::CreateTtl, create_ttl(path, *flags, *ttl))
        }
        Op::Create { op, path, data, acl, flags, .. } => {
            (OpCode::from_code(*op).unwrap(), create_with(path, data.as_deref(), list(acl), *flags))
        }
        Op::Delete { path, version } => (OpCode::Delete, delete(path, *version)),
        Op::SetData { path, data, version } => {
            (OpCode::SetData, set_data(path, data.as_deref(), *version))
        }
        Op::SetAcl { path, acl, version } => (OpCode::SetAcl, set_acl(path, list(acl), *version)),
        Op::Check { path, version } => (OpCode::Check, check(path, *version)),
        Op::Reap { path } => (OpCode::DeleteContainer, path.to_bytes()),
        Op::Multi(ops) => (OpCode::Multi, multi(&ops.iter().map(encode).collect::<Vec<_>>())),
        Op::OpenSession => (OpCode::CreateSession, 30_000i32.to_be_bytes().to_vec()),
        Op::CloseSession => (OpCode::CloseSession, vec![]),
    }
}

fn done(outcome: Outcome) -> Done {
    match outcome {
        Outcome::Created { op, path, stat } => Done::Created(op.code(), path, stat),
        Outcome::Deleted => Done::Deleted,
        Outcome::DataSet(stat) => Done::Data(stat),
        Outcome::AclSet(stat) => Done::Acl(stat),
        Outcome::Checked => Done::Checked,
        Outcome::Multi(parts) => Done::Multi(parts.into_iter().map(done).collect()),
        Outcome::MultiFailed(codes) => Done::MultiFailed(codes),
        Outcome::SessionCreated { .. } => Done::SessionOpened,
        Outcome::SessionClosed => Done::SessionClosed,
        Outcome::Failed(code) => Done::Failed(code),
    }
}

/// One run: sessions that end are replaced by new ones, as ids are not used twice.
struct Run {
    world: World,
    model: Model,
    rng: Rng,
    sessions: Vec<i64>,
    ended: BTreeSet<i64>,
    /// Prepared and not applied, with what the model says.
    ahead: VecDeque<(Vec<u8>, Done, Op)>,
}

impl Run {
    fn new(seed: u64) -> Run {
        let settings = PrepareSettings { extended_types: true, ..Default::default() };
        Run {
            world: World::with_settings(settings),
            model: Model::new(),
            rng: Rng(seed),
            sessions: SESSIONS.to_vec(),
            ended: BTreeSet::new(),
            ahead: VecDeque::new(),
        }
    }

    fn request(&mut self) {
        let slot = self.rng.below(3) as usize;
        let (session, user) = (self.sessions[slot], USERS[slot]);
        let op = request(&mut self.rng, &self.model);
        self.world.ids = vec![Id::new("ip", "127.0.0.1")];
        self.world.ids.extend(user.map(|user| Id::new("digest", user)));
        let (code, body) = encode(&op);
        // The end of a session is known to preparation until it is applied, then to the tracker.
        let check = match self.ended.contains(&session) {
            true => SessionCheck::failed(ErrorCode::SessionExpired),
            false => SessionCheck::LIVE,
        };
        let prepared = self.world.prepare_checked(session, code.code(), &body, check);
        let used = matches!(prepared, Prepared::Txn(_));
        let zxid = if used { self.world.zxid } else { self.world.zxid + 1 };
        let who = Who { session, user, zxid, time: self.world.time_ms };
        let expected = self.model.step(&who, &op);
        match prepared {
            Prepared::Txn(payload) => {
                let digest = Payload::decode(&payload).unwrap().digest;
                match expected {
                    Done::Failed(_) => assert_eq!(digest, None, "{op:?}"),
                    _ => assert_eq!(digest.unwrap().tree as u64, self.model.digest(), "{op:?}"),
                }
                self.ahead.push_back((payload, expected, op.clone()));
            }
            Prepared::Refused(_) => assert_eq!(expected, Done::Dropped, "{op:?}"),
        }
        if matches!(op, Op::CloseSession) && self.rng.below(16) > 0 {
            self.sessions[slot] = self.world.zxid << 8 | slot as i64;
        }
    }

    fn apply_one(&mut self) {
        let Some((payload, expected, op)) = self.ahead.pop_front() else { return };
        if expected == Done::SessionClosed {
            self.ended.insert(Payload::decode(&payload).unwrap().header.client_id);
        }
        assert_eq!(done(self.world.apply(&payload)), expected, "{op:?}");
    }

    fn compare_trees(&mut self) {
        let state = &self.world.state;
        assert_eq!(state.tree.len(), self.model.nodes.len());
        for (path, node) in &self.model.nodes {
            let id = state.tree.lookup(path).unwrap_or_else(|| panic!("{path} exists"));
            assert_eq!(state.tree.data(id), node.data.as_deref(), "{path}");
            assert_eq!(state.tree.stat(id), self.model.stat(path), "{path}");
            assert_eq!(state.acls.get(state.tree.acl(id)), Some(&node.acl[..]), "{path}");
        }
        assert_eq!(state.digest(), self.model.digest());
        self.world.prepare.applied(state.last_zxid());
        assert!(self.world.prepare.overlay.is_empty(), "all is applied, nothing is kept");
    }
}

#[test]
fn random_requests_prepared_ahead_do_what_the_naive_model_does() {
    for seed in 0..60 {
        let mut run = Run::new(seed);
        // Depth 0: each is applied before the next is prepared.
        let depth = [0, 1, 2, 5, 17, 50][seed as usize % 6];
        for _ in 0..400 {
            run.request();
            while run.ahead.len() > depth {
                run.apply_one();
            }
            // Now and then the log catches up by some.
            if run.rng.below(10) == 0 {
                for _ in 0..run.rng.below(depth as u64 + 1) {
                    run.apply_one();
                }
            }
        }
        while !run.ahead.is_empty() {
            run.apply_one();
        }
        run.compare_trees();
    }
}

#[test]
fn no_bytes_of_a_request_make_preparation_panic() {
    let mut world = World::new();
    world.make("/a");
    let mut rng = Rng(7);
    let model = Model::new();
    for _ in 0..20_000 {
        let (op, mut body) = encode(&request(&mut rng, &model));
        for _ in 0..rng.below(4) {
            if body.is_empty() {
                continue;
            }
            let at = rng.below(body.len() as u64) as usize;
            match rng.below(3) {
                0 => body[at] = rng.next() as u8,
                1 => body.truncate(at),
                _ => body.insert(at, rng.next() as u8),
            }
        }
        if let Prepared::Txn(payload) = world.prepare(SESSION + 1, op.code(), &body) {
            world.apply(&payload);
        }
    }
}
