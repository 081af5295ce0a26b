//! The rules of replay, one by one (`docs/spec/storage-formats.md` 8), and what readers of a change
//! are told.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{acl, create, delete, load, payload, plain_tree};
use oxkeeper_proto::client::{Acl, EventKind};
use oxkeeper_proto::snapshot::{StatPersisted, put_node, put_nodes_end, put_tables};
use oxkeeper_proto::txn::{CreateMode, CreateTxn, Txn, TxnDigest};
use oxkeeper_proto::{ErrorCode, OpCode, Zxid};
use oxkeeper_state::{Change, Changes, Options, Outcome, OwnerRules, State, StateLoader};

const NO_NODE: Outcome = Outcome::Failed(ErrorCode::NoNode as i32);

fn apply(state: &mut State, zxid: i64, txn: Txn<'_>) -> Outcome {
    state.apply(&payload(1, zxid, txn), &mut (), true)
}

fn stat(state: &State, path: &str) -> StatPersisted {
    state.tree.persisted(state.tree.lookup(path).unwrap())
}

fn ephemeral(path: &str) -> Txn<'_> {
    Txn::Create(CreateTxn {
        op: OpCode::Create,
        path: path.into(),
        data: None,
        acl: acl(0),
        mode: CreateMode::Ephemeral,
        parent_cversion: -1,
    })
}

/// A fuzzy snapshot may have the node and not its parent's counter.
#[test]
fn creating_an_existing_node_raises_its_parents_counter_for_type_1_only() {
    let mut state = State::new(1);
    apply(&mut state, 1, create(OpCode::Create, "/a", 1));
    let exists = Outcome::Failed(ErrorCode::NodeExists as i32);
    assert_eq!(apply(&mut state, 2, create(OpCode::Create2, "/a", 7)), exists);
    assert_eq!((stat(&state, "/").cversion, stat(&state, "/").pzxid), (1, 1));
    assert_eq!(apply(&mut state, 3, create(OpCode::Create, "/a", 7)), exists);
    assert_eq!((stat(&state, "/").cversion, stat(&state, "/").pzxid), (7, 3));
    apply(&mut state, 4, create(OpCode::Create, "/a", -1));
    assert_eq!((stat(&state, "/").cversion, stat(&state, "/").pzxid), (8, 4));
    let multi = Txn::Multi(vec![create(OpCode::Create, "/a", 9)]);
    apply(&mut state, 5, multi);
    assert_eq!((stat(&state, "/").cversion, stat(&state, "/").pzxid), (9, 5));
}

/// ZOOKEEPER-3249: the node may be gone from a fuzzy snapshot whose parent counted later ones.
#[test]
fn a_counter_never_goes_back() {
    let mut state = State::new(1);
    apply(&mut state, 1, create(OpCode::Create, "/a", 7));
    apply(&mut state, 2, create(OpCode::Create, "/b", 3));
    assert_eq!((stat(&state, "/").cversion, stat(&state, "/").pzxid), (7, 1));
}

/// ZOOKEEPER-3125: the parent may have been written before the child was deleted.
#[test]
fn deleting_a_missing_node_raises_its_parents_pzxid() {
    let mut state = State::new(1);
    apply(&mut state, 1, create(OpCode::Create, "/a", 1));
    assert_eq!(apply(&mut state, 5, delete("/gone")), NO_NODE);
    assert_eq!((stat(&state, "/").pzxid, stat(&state, "/").cversion), (5, 1));
    apply(&mut state, 3, delete("/gone"));
    assert_eq!(stat(&state, "/").pzxid, 5);
}

/// ZOOKEEPER-3306, ZOOKEEPER-4689, ZOOKEEPER-4846: the ACL may be one that the snapshot's table did not have yet.
#[test]
fn creating_an_existing_node_sets_its_acl_for_type_1_or_if_it_is_unknown() {
    let mut body = Vec::new();
    put_tables(&mut body, [].into_iter(), [].into_iter());
    put_node(&mut body, "", Some(b""), -1, &StatPersisted::default());
    put_node(&mut body, "/a", None, 7, &StatPersisted { czxid: 2, ..StatPersisted::default() });
    put_nodes_end(&mut body);
    let mut state = load(&body, Zxid(1)).unwrap();
    let acl_of = |state: &State| {
        let id = state.tree.acl(state.tree.lookup("/a").unwrap());
        (id, state.acls.get(id).map(<[Acl]>::to_vec))
    };
    assert_eq!(acl_of(&state), (7, None));
    apply(&mut state, 2, create(OpCode::Create2, "/a", 1));
    assert_eq!(acl_of(&state), (9, Some(acl(0))));
    let other = |op| {
        let Txn::Create(create) = create(op, "/a", 1) else { unreachable!() };
        Txn::Create(CreateTxn { acl: acl(3), ..create })
    };
    apply(&mut state, 3, other(OpCode::Create2));
    assert_eq!(acl_of(&state).1, Some(acl(0)));
    apply(&mut state, 4, other(OpCode::Create));
    assert_eq!(acl_of(&state).1, Some(acl(3)));
    assert_eq!(state.acls.len(), 1);
}

/// A fuzzy snapshot may have children of a node that was deleted and created again meanwhile.
#[test]
fn a_replayed_delete_takes_along_what_was_created_below_later() {
    let mut state = State::new(1);
    apply(&mut state, 12, create(OpCode::Create, "/p", 1));
    apply(&mut state, 13, ephemeral("/p/c"));
    let digest = state.digest();
    assert_eq!(apply(&mut state, 11, delete("/p")), Outcome::Deleted);
    assert_eq!((state.tree.lookup("/p"), state.ephemerals_count()), (None, 0));
    apply(&mut state, 12, create(OpCode::Create, "/p", 1));
    apply(&mut state, 13, ephemeral("/p/c"));
    assert_eq!(state.digest(), digest);
}

#[test]
fn a_failed_multi_changes_nothing_but_the_zxid() {
    let mut state = State::new(1);
    let before = plain_tree(&state);
    let txns = vec![
        create(OpCode::Create, "/a", 1),
        Txn::Error(ErrorCode::NoNode.code()),
        Txn::Error(ErrorCode::RuntimeInconsistency.code()),
    ];
    assert_eq!(apply(&mut state, 9, Txn::Multi(txns)), Outcome::MultiFailed(vec![0, -101, -2]));
    assert_eq!((plain_tree(&state), state.last_zxid()), (before, Zxid(9)));
}

#[test]
fn null_and_empty_data_stay_apart() {
    let mut state = State::new(1);
    apply(&mut state, 1, ephemeral("/a"));
    let node = state.tree.lookup("/a").unwrap();
    assert_eq!((state.tree.data(node), state.tree.stat(node).data_length), (None, 0));
    for data in [Some(&b""[..]), None, Some(&b"x"[..]), None] {
        let path = "/a".into();
        apply(&mut state, 2, Txn::SetData { op: OpCode::SetData, path, data, version: 1 });
        assert_eq!(state.tree.data(state.tree.lookup("/a").unwrap()), data);
    }
}

#[test]
fn a_sessions_end_deletes_the_listed_nodes_and_all_others_it_owns() {
    let mut state = State::new(1);
    apply(&mut state, 1, Txn::CreateSession { timeout_ms: 4000 });
    for (zxid, path) in [(2, "/a"), (3, "/b")] {
        apply(&mut state, zxid, ephemeral(path));
    }
    assert!(state.ephemerals(1).eq(["/a", "/b"]));
    let listed = vec!["/b".into(), "/missing".into()];
    apply(&mut state, 4, Txn::CloseSession { paths: Some(listed) });
    assert_eq!((state.session(1), state.ephemerals_count(), state.tree.len()), (None, 0, 4));
    assert_eq!(stat(&state, "/").pzxid, 4);
}

/// ZOOKEEPER-3145: a fuzzy snapshot had the parent from before the session's end and the ephemeral no more;
/// after the replay the parent's pzxid was too old, and setWatches missed the change.
#[test]
fn a_sessions_end_raises_the_pzxid_of_parents_whose_ephemeral_is_gone() {
    let mut state = State::new(1);
    apply(&mut state, 1, Txn::CreateSession { timeout_ms: 4000 });
    apply(&mut state, 2, create(OpCode::Create, "/p", 1));
    apply(&mut state, 9, Txn::CloseSession { paths: Some(vec!["/p/gone".into()]) });
    assert_eq!((stat(&state, "/p").pzxid, state.session(1)), (9, None));
}

#[test]
fn ephemerals_of_unknown_sessions_are_removed_when_asked() {
    let mut state = State::new(1);
    apply(&mut state, 1, ephemeral("/orphan"));
    state.apply(&payload(2, 2, Txn::CreateSession { timeout_ms: 4000 }), &mut (), false);
    state.apply(&payload(2, 3, ephemeral("/kept")), &mut (), false);
    state.remove_orphan_ephemerals();
    assert!(state.tree.lookup("/orphan").is_none() && state.tree.lookup("/kept").is_some());
    assert_eq!(state.sessions_with_ephemerals().collect::<Vec<_>>(), [(2, 1)]);
}

#[test]
fn a_ttl_node_is_an_orphan_without_extended_types() {
    let ttl = |path: &'static str| {
        let Txn::Create(txn) = create(OpCode::CreateTtl, path, 1) else { unreachable!() };
        Txn::Create(CreateTxn { mode: CreateMode::Ttl { ttl_ms: 10 }, ..txn })
    };
    let off = OwnerRules { extended_types: false, emulate_353_ttl: false };
    for (owners, left) in [(off, 0), (OwnerRules::default(), 1)] {
        let mut state = State::with_options(1, Options { digests: true, owners });
        apply(&mut state, 1, ttl("/t"));
        state.remove_orphan_ephemerals();
        assert_eq!(state.ttl_nodes().len(), left);
        assert_eq!(state.tree.len(), 4 + left);
    }
}

/// Zxid, kind, path, ACL, the parent's ACL.
type Seen = (i64, EventKind, String, Vec<Acl>, Option<Vec<Acl>>);

#[derive(Default)]
struct Recorder(Vec<Seen>);

impl Changes for Recorder {
    fn changed(&mut self, change: &Change<'_>) {
        let Change { zxid, kind, path, acl, parent_acl } = *change;
        self.0.push((zxid.0, kind, path.to_owned(), acl.to_vec(), parent_acl.map(<[Acl]>::to_vec)));
    }
}

#[test]
fn changes_are_told_in_order_with_the_acls_of_that_moment() {
    let (mut state, mut seen) = (State::new(1), Recorder::default());
    let set =
        |version| Txn::SetData { op: OpCode::SetData, path: "/a".into(), data: None, version };
    state.apply(&payload(1, 1, create(OpCode::Create, "/a", 1)), &mut seen, false);
    let new_acl = Txn::SetAcl { path: "/a".into(), acl: acl(2), version: 1 };
    state.apply(&payload(1, 2, new_acl), &mut seen, false);
    let multi = Txn::Multi(vec![set(1), create(OpCode::Create, "/a/b", 1), delete("/a/b")]);
    state.apply(&payload(1, 3, multi), &mut seen, false);
    state.apply(&payload(1, 4, delete("/nothing")), &mut seen, false);
    state.apply(&payload(1, 5, delete("/a")), &mut seen, false);
    let open = Some(acl(0));
    use EventKind::{NodeCreated, NodeDataChanged, NodeDeleted};
    assert_eq!(
        seen.0,
        [
            (1, NodeCreated, "/a".to_owned(), acl(0), open.clone()),
            (3, NodeDataChanged, "/a".to_owned(), acl(2), open.clone()),
            (3, NodeCreated, "/a/b".to_owned(), acl(0), Some(acl(2))),
            (3, NodeDeleted, "/a/b".to_owned(), acl(0), Some(acl(2))),
            (5, NodeDeleted, "/a".to_owned(), acl(2), open),
        ]
    );
}

#[test]
fn the_config_node_is_written_locally_and_told_once() {
    let (mut state, mut seen) = (State::new(1), Recorder::default());
    let digest = state.digest();
    for now_ms in [10, 20] {
        state.set_config_node(b"server.1=...", 0x1_0000_0000, now_ms, &mut seen);
    }
    let stat = stat(&state, "/zookeeper/config");
    assert_eq!((stat.version, stat.mzxid, stat.mtime), (-1, 0x1_0000_0000, 10));
    assert_eq!((stat.czxid, stat.aversion, state.digest(), seen.0.len()), (0, -1, digest, 1));
}

#[test]
fn a_wrong_digest_is_counted_and_stops_nothing() {
    let mut state = State::new(1);
    let mut wrong = payload(1, 1, create(OpCode::Create, "/a", 1));
    wrong.digest = Some(TxnDigest { version: 2, tree: 5 });
    state.apply(&wrong, &mut (), false);
    let seen = state.last_digest_mismatch().unwrap();
    assert_eq!((seen.zxid, seen.expected, seen.actual), (Zxid(1), 5, state.digest()));
    assert_eq!((state.digest_mismatches(), state.last_zxid()), (1, Zxid(1)));

    let options = Options { digests: false, ..Options::default() };
    let mut off = State::with_options(1, options);
    off.apply(&wrong, &mut (), false);
    assert_eq!((off.digest(), off.digest_mismatches()), (0, 0));
}

#[test]
fn every_128th_digest_is_remembered_and_a_thousand_of_them() {
    let mut state = State::new(1);
    let mut zxid = 0;
    let mut run = |state: &mut State, last: i64| {
        while zxid < last {
            zxid += 1;
            state.apply(
                &payload(1, zxid, create(OpCode::Create, &format!("/{zxid}"), 1)),
                &mut (),
                false,
            );
        }
    };
    run(&mut state, 128);
    let first = state.digest();
    run(&mut state, 300);
    let remembered: Vec<_> = state.past_digests().collect();
    assert_eq!(remembered.len(), 2);
    assert_eq!(remembered[0], (Zxid(128), first));
    assert_eq!(remembered[1].0, Zxid(256));
    run(&mut state, 128 * 1026);
    assert_eq!(state.past_digests().next().unwrap().0, Zxid(3 * 128));
    assert_eq!(state.past_digests().count(), 1024);

    let options = Options { digests: false, ..Options::default() };
    let mut off = State::with_options(1, options);
    off.apply(&payload(1, 128, create(OpCode::Create, "/a", 1)), &mut (), false);
    assert_eq!(off.past_digests().count(), 0);
}

/// `docs/spec/storage-formats.md` 8.3: compared at the digest section's zxid, and from then on.
#[test]
fn digests_are_not_compared_before_a_fuzzy_snapshot_is_complete() {
    let snapshot = |at: i64, digest: u64| {
        let mut body = Vec::new();
        put_tables(&mut body, [].into_iter(), [].into_iter());
        put_node(&mut body, "", Some(b""), -1, &StatPersisted::default());
        put_nodes_end(&mut body);
        let mut state = load(&body, Zxid(1)).unwrap();
        state.expect_digest(Zxid(at), digest);
        state
    };
    let record = |zxid, tree| {
        let mut payload = payload(1, zxid, create(OpCode::Create2, "/a", 1));
        payload.digest = Some(TxnDigest { version: 2, tree });
        payload
    };
    // Nor remembered.
    let mut fuzzy = snapshot(256, 77);
    fuzzy.apply(&record(128, 5), &mut (), false);
    fuzzy.apply(&record(256, 5), &mut (), false);
    fuzzy.apply(&record(384, 5), &mut (), false);
    assert_eq!(fuzzy.past_digests().map(|(zxid, _)| zxid.0).collect::<Vec<_>>(), [384]);

    let mut state = snapshot(3, 77);
    state.apply(&record(2, 5), &mut (), false);
    assert_eq!((state.digest_mismatches(), state.is_exact()), (0, false));
    state.apply(&record(3, 5), &mut (), false);
    let seen = state.last_digest_mismatch().unwrap();
    assert_eq!((seen.zxid, seen.expected, state.is_exact()), (Zxid(3), 77, true));
    state.apply(&record(4, 5), &mut (), false);
    assert_eq!(state.digest_mismatches(), 2);

    // A section older than the name, or of zxid 0, says nothing: exact from the first equal digest.
    for at in [0, -1] {
        let mut state = snapshot(at, 77);
        state.apply(&record(2, 5), &mut (), false);
        assert_eq!((state.digest_mismatches(), state.is_exact()), (0, false));
        let digest = state.digest() as i64;
        state.apply(&record(3, digest), &mut (), false);
        state.apply(&record(4, 5), &mut (), false);
        assert_eq!((state.digest_mismatches(), state.is_exact()), (1, true));
    }
}

#[test]
fn usage_follows_the_longest_quota_and_survives_a_load() {
    let mut state = State::new(1);
    let mut zxid = 0;
    let mut run = |state: &mut State, txn: Txn<'_>| {
        zxid += 1;
        apply(state, zxid, txn);
    };
    let paths = ["/a", "/a/b", "/zookeeper/quota/a", "/zookeeper/quota/a/zookeeper_limits"];
    for path in paths {
        run(&mut state, create(OpCode::Create, path, -1));
    }
    const STATS: &str = "/zookeeper/quota/a/zookeeper_stats";
    run(&mut state, create(OpCode::Create, STATS, -1));
    let usage = |state: &State| {
        let node = state.tree.lookup(STATS).unwrap();
        assert_eq!(state.tree.persisted(node).version, 0);
        String::from_utf8(state.tree.data(node).unwrap().to_vec()).unwrap()
    };
    assert_eq!(usage(&state), "count=2,bytes=2");
    run(&mut state, create(OpCode::Create, "/a/b/c", -1));
    run(&mut state, create(OpCode::Create, "/ab", -1));
    let path = "/a".into();
    run(&mut state, Txn::SetData { op: OpCode::SetData, path, data: Some(b"12345"), version: 1 });
    assert_eq!(usage(&state), "count=3,bytes=7");
    run(&mut state, delete("/a/b/c"));
    assert_eq!((usage(&state).as_str(), state.quota_of("/a/x/y")), ("count=2,bytes=6", Some("/a")));

    let (mut walk, mut body) = (oxkeeper_state::Walk::begin(&state), Vec::new());
    walk.put_tables(&mut body);
    assert!(walk.step(&state, u32::MAX, usize::MAX, &mut body));
    let loaded = load(&body, walk.zxid()).unwrap();
    assert_eq!((usage(&loaded).as_str(), loaded.quota_of("/a")), ("count=2,bytes=6", Some("/a")));

    run(&mut state, delete("/zookeeper/quota/a/zookeeper_limits"));
    assert_eq!(state.quota_of("/a"), None);
    run(&mut state, create(OpCode::Create, "/a/d", -1));
    assert_eq!(usage(&state), "count=2,bytes=6");
}

#[test]
fn impossible_snapshots_are_refused_with_the_node_named() {
    let body = |nodes: &[&str]| {
        let mut body = Vec::new();
        put_tables(&mut body, [].into_iter(), [].into_iter());
        for path in nodes {
            put_node(&mut body, path, None, -1, &StatPersisted::default());
        }
        put_nodes_end(&mut body);
        load(&body, Zxid(1)).map(|_| ())
    };
    assert_eq!(body(&["", "/a", "/a/b"]), Ok(()));
    let check = |nodes: &[&str], error: &str| assert_eq!(body(nodes), Err(error.to_owned()));
    check(&[], "the snapshot has no root node");
    check(&["", ""], "the snapshot has two root nodes");
    check(&["/a", ""], "node \"/a\" of the snapshot comes before the root");
    check(&["", "/a/b"], "node \"/a/b\" of the snapshot has no parent");
    check(&["", "/a", "/a"], "node \"/a\" of the snapshot is there twice");
    for path in ["a", "/a/", "//a"] {
        let error = format!("node {path:?} of the snapshot has an impossible path");
        check(&["", path], &error);
    }
    assert!(StateLoader::new(1, Options::default()).finish(Zxid(0)).is_err());
}

#[test]
fn a_path_as_deep_as_a_message_allows_is_no_danger() {
    let mut state = State::new(1);
    let mut path = String::new();
    for zxid in 1..5000 {
        path.push_str("/d");
        apply(&mut state, zxid, create(OpCode::Create, &path, 1));
    }
    let node = state.tree.lookup(&path).unwrap();
    assert_eq!(state.tree.path(node), path);
    apply(&mut state, 5000, delete("/d"));
    assert_eq!((state.tree.len(), state.approximate_data_size()), (4, 44));
}
