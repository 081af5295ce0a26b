//! A snapshot taken while transactions go on, loaded and replayed, is the state at the end.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{acl, load, payload, plain_tree};
use oxkeeper_proto::txn::{CreateMode, CreateTxn, Payload, Txn, TxnDigest};
use oxkeeper_proto::{OpCode, Zxid};
use oxkeeper_state::{Change, Changes, State, Walk};
use proptest::collection::vec;
use proptest::prelude::*;

const PATHS: [&str; 16] = [
    "/a",
    "/b",
    "/c",
    "/d",
    "/a/a",
    "/a/b",
    "/a/c",
    "/b/a",
    "/b/b",
    "/a/b/a",
    "/a/b/c",
    "/a/b/c/d",
    "/zookeeper/quota/a",
    LIMITS,
    STATS,
    "/zookeeper/x",
];

const LIMITS: &str = "/zookeeper/quota/a/zookeeper_limits";
const STATS: &str = "/zookeeper/quota/a/zookeeper_stats";

#[derive(Clone, Debug)]
struct Step {
    kind: u8,
    path: usize,
    len: usize,
    number: u8,
    session: i64,
    walk: u32,
}

fn steps(range: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..16u8, 0..PATHS.len(), 0..40usize, 0..40u8, 1..3i64, 0..4u32).prop_map(
        |(kind, path, len, number, session, walk)| Step { kind, path, len, number, session, walk },
    );
    vec(step, range)
}

const BYTES: [u8; 40] = *b"0123456789012345678901234567890123456789";

/// What a leader makes of a request: a transaction that succeeds on `state`, or an error.
fn prepare(state: &State, step: &Step) -> Txn<'static> {
    let path = PATHS[step.path];
    let tree = &state.tree;
    let (parent_path, name) = path.rsplit_once('/').unwrap();
    let parent = tree.lookup(parent_path);
    let node = tree.lookup(path);
    // A usage node is only right from its creation on, and while there are limits.
    let usage_kept = name == "zookeeper_limits" && tree.lookup(STATS).is_some();
    let plain = if path.starts_with("/zookeeper/quota") { 0 } else { step.kind };
    match (step.kind, parent, node) {
        (0..=6, Some(parent), None) => {
            let limits = tree.lookup(LIMITS);
            if tree.owner(parent) > 0 || (name == "zookeeper_stats" && limits.is_none()) {
                return Txn::Error(-108);
            }
            let (op, mode) = match plain {
                0..=1 => (OpCode::Create, CreateMode::Persistent),
                2 => (OpCode::Create, CreateMode::Ephemeral),
                3..=4 => (OpCode::Create2, CreateMode::Persistent),
                5 => (OpCode::CreateContainer, CreateMode::Container),
                _ => (OpCode::CreateTtl, CreateMode::Ttl { ttl_ms: 9 }),
            };
            Txn::Create(CreateTxn {
                op,
                path: path.into(),
                data: Some(&BYTES[..step.len]),
                acl: acl(step.number),
                mode,
                parent_cversion: tree.persisted(parent).cversion + 1,
            })
        }
        (7..=9, _, Some(node)) if tree.child_count(node) == 0 && !usage_kept => {
            Txn::Delete { op: OpCode::Delete, path: path.into() }
        }
        (10..=11, _, Some(node)) if name != "zookeeper_stats" => Txn::SetData {
            op: OpCode::SetData,
            path: path.into(),
            data: (step.len > 2).then(|| &BYTES[..step.len]),
            version: tree.persisted(node).version + 1,
        },
        (12..=13, _, Some(node)) => Txn::SetAcl {
            path: path.into(),
            acl: acl(step.number),
            version: tree.persisted(node).aversion + 1,
        },
        (14, ..) => Txn::CreateSession { timeout_ms: 1000 },
        (15, ..) => {
            let paths = state.ephemerals(step.session).map(Into::into).collect();
            Txn::CloseSession { paths: Some(paths) }
        }
        _ => Txn::Error(-101),
    }
}

/// Applies what a leader makes of `step`, and returns it as it is logged.
fn run(state: &mut State, step: &Step) -> Payload<'static> {
    let txn = prepare(state, step);
    let zxid = state.last_zxid().0 + 1;
    let error = matches!(txn, Txn::Error(_));
    // Some as multi: delete and create again in one transaction.
    let txn = match txn {
        Txn::Create(create)
            if step.number.is_multiple_of(5) && create.mode == CreateMode::Persistent =>
        {
            let path = create.path.clone();
            let again = CreateTxn { parent_cversion: create.parent_cversion + 1, ..create.clone() };
            Txn::Multi(vec![
                Txn::Create(create),
                Txn::Delete { op: OpCode::Delete, path },
                Txn::Create(again),
            ])
        }
        txn => txn,
    };
    let mut payload = payload(step.session, zxid, txn);
    state.apply(&payload, &mut (), false);
    if !error {
        payload.digest = Some(TxnDigest { version: 2, tree: state.digest() as i64 });
    }
    payload
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Among others: no node names an ACL that the snapshot's table lacks (ZOOKEEPER-4846).
    #[test]
    fn a_snapshot_taken_amid_transactions_replays_to_the_live_state(
        before in steps(0..60),
        amid in steps(0..60),
        after in steps(0..10),
    ) {
        let mut live = State::new(3);
        for step in &before {
            run(&mut live, step);
        }
        let (mut walk, mut body, mut log) = (Walk::begin(&live), Vec::new(), Vec::new());
        walk.put_tables(&mut body);
        let mut done = false;
        for step in &amid {
            log.push(run(&mut live, step));
            if !done {
                done = walk.step(&live, step.walk, 150, &mut body);
            }
        }
        while !done {
            done = walk.step(&live, 2, 1 << 20, &mut body);
        }
        let end = walk.finish(&live);
        prop_assert_eq!(end.last_zxid, live.last_zxid());
        let (at, digest) = end.digest.unwrap();
        prop_assert_eq!(at, live.last_zxid());
        for step in &after {
            log.push(run(&mut live, step));
        }

        let mut loaded = load(&body, walk.zxid()).unwrap();
        // Also before the replay no node names a list that the table lacks.
        plain_tree(&loaded);
        loaded.expect_digest(at, digest);
        for payload in log.iter().filter(|payload| Zxid(payload.header.zxid) > walk.zxid()) {
            loaded.apply(payload, &mut (), false);
        }
        prop_assert_eq!(loaded.last_digest_mismatch(), None);
        // A walk that ends at zxid 0 has no digest to say.
        prop_assert!(loaded.is_exact() || at == Zxid::ZERO);
        prop_assert_eq!(loaded.digest(), live.digest());
        let (have, want) = (plain_tree(&loaded), plain_tree(&live));
        for (path, node) in &want {
            prop_assert_eq!(have.get(path), Some(node), "{}", path);
        }
        prop_assert_eq!(have.len(), want.len());
        prop_assert!(loaded.sessions().eq(live.sessions()));
        prop_assert!(loaded.sessions_with_ephemerals().eq(live.sessions_with_ephemerals()));
        prop_assert_eq!(loaded.approximate_data_size(), live.approximate_data_size());
        prop_assert_eq!(loaded.containers().len(), live.containers().len());
        prop_assert_eq!(loaded.ttl_nodes().len(), live.ttl_nodes().len());
    }
}

#[test]
fn a_walk_of_a_quiet_state_loads_to_it_without_replay() {
    let mut live = State::new(3);
    for (index, path) in PATHS.iter().enumerate() {
        let step = Step { kind: 0, path: index, len: 5, number: 1, session: 1, walk: 0 };
        run(&mut live, &step);
        assert!(live.tree.lookup(path).is_some());
    }
    let (mut walk, mut body) = (Walk::begin(&live), Vec::new());
    walk.put_tables(&mut body);
    assert!(walk.step(&live, u32::MAX, usize::MAX, &mut body));
    assert_eq!(walk.nodes() as usize, live.tree.len());
    let mut loaded = load(&body, walk.zxid()).unwrap();
    let (at, digest) = walk.finish(&live).digest.unwrap();
    loaded.expect_digest(at, digest);
    assert!(loaded.is_exact() && loaded.digest_mismatches() == 0);
    assert_eq!(plain_tree(&loaded), plain_tree(&live));
}

/// The state that a start makes of a snapshot and a log.
fn reloaded(walk: &mut Walk, live: &State, log: &[Payload<'_>]) -> State {
    let mut body = Vec::new();
    walk.put_tables(&mut body);
    assert!(walk.step(live, u32::MAX, usize::MAX, &mut body));
    let mut loaded = load(&body, walk.zxid()).unwrap();
    for payload in log.iter().filter(|payload| Zxid(payload.header.zxid) > walk.zxid()) {
        loaded.apply(payload, &mut (), false);
    }
    loaded
}

/// The first, second .. create below the root.
fn node(number: i32, path: &'static str, mode: CreateMode) -> Txn<'static> {
    let (op, path, acl) = (OpCode::Create2, path.into(), acl(0));
    Txn::Create(CreateTxn { op, path, data: None, acl, mode, parent_cversion: number })
}

/// A snapshot was named by a createSession whose session was not in its table yet: nothing replayed it, and
/// its ephemerals went, on this server alone (ZOOKEEPER-3144).
#[test]
fn a_session_that_opens_while_a_snapshot_is_taken_is_there_after_the_replay() {
    let opens = payload(7, 1, Txn::CreateSession { timeout_ms: 4000 });
    let creates = payload(7, 2, node(1, "/e", CreateMode::Ephemeral));
    for begin_after in 0..=2 {
        let mut live = State::new(3);
        let mut walk = Walk::begin(&live);
        for (number, payload) in [&opens, &creates].into_iter().enumerate() {
            live.apply(payload, &mut (), false);
            if number + 1 == begin_after {
                walk = Walk::begin(&live);
            }
        }
        assert_eq!(walk.zxid(), Zxid(begin_after as i64));
        let mut loaded = reloaded(&mut walk, &live, &[opens.clone(), creates.clone()]);
        assert_eq!(loaded.session(7), Some(4000), "begun after {begin_after}");
        loaded.remove_orphan_ephemerals();
        assert_eq!(plain_tree(&loaded), plain_tree(&live), "begun after {begin_after}");
    }
}

/// Panics when the second node is changed.
struct Interrupted(u32);

impl Changes for Interrupted {
    fn changed(&mut self, _: &Change<'_>) {
        self.0 += 1;
        assert!(self.0 < 2, "interrupted");
    }
}

/// A multi's first operation set the last zxid; a snapshot begun then was named by the multi and had half of
/// it, and nothing replayed the rest (ZOOKEEPER-3127).
#[test]
fn a_snapshot_begun_amid_a_multi_is_named_by_the_zxid_before_it() {
    let mut live = State::new(3);
    live.apply(&payload(7, 1, Txn::CreateSession { timeout_ms: 4000 }), &mut (), false);
    let create = |(number, path)| node(number, path, CreateMode::Persistent);
    let nodes = [(1, "/a"), (2, "/b"), (3, "/c")].map(create);
    let multi = payload(7, 2, Txn::Multi(nodes.into()));
    let applied = std::panic::AssertUnwindSafe(|| live.apply(&multi, &mut Interrupted(0), false));
    assert!(std::panic::catch_unwind(applied).is_err());
    assert!(live.tree.lookup("/a").is_some() && live.tree.lookup("/c").is_none());
    let mut walk = Walk::begin(&live);
    assert_eq!(walk.zxid(), Zxid(1));
    let loaded = reloaded(&mut walk, &live, &[multi]);
    assert!(["/a", "/b", "/c"].iter().all(|path| loaded.tree.lookup(path).is_some()));
}
