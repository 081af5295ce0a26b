//! Traps of `docs/spec/client-protocol.md` 21, by number, and the orders of checks of section 8.

use oxkeeper_proto::client::{Id, perms};
use oxkeeper_proto::txn::{CreateMode, CreateTxn, Payload, Txn, TxnHeader};
use oxkeeper_proto::{Acl, Encode, ErrorCode, OpCode};

use super::world::*;
use crate::Outcome;
use crate::auth::digest_identity;
use crate::prepare::{PrepareSettings, Prepared, SessionCheck, containers_to_reap, parses};

fn failed(code: ErrorCode) -> Outcome {
    Outcome::Failed(code.code())
}

fn created_path(outcome: Outcome) -> String {
    match outcome {
        Outcome::Created { path, .. } => path,
        other => panic!("{other:?}"),
    }
}

#[test]
fn trap_01_failed_writes_use_a_zxid_and_unparsable_ones_do_not() {
    let mut world = World::new();
    assert_eq!(world.run(OpCode::Delete, &delete("/no", -1)), failed(ErrorCode::NoNode));
    assert_eq!((world.zxid, world.state.last_zxid().0), (1, 1));
    for op in [OpCode::Create, OpCode::CreateTtl, OpCode::SetData, OpCode::SetAcl, OpCode::Delete] {
        let cut = &create("/a", None, 0)[..5];
        assert_eq!(
            world.prepare(SESSION, op.code(), cut),
            Prepared::Refused(ErrorCode::MarshallingError)
        );
        assert!(!parses(op.code(), cut));
    }
    assert_eq!(world.zxid, 1);
    world.make("/a");
    assert_eq!(world.stat("/a").czxid, 2);
    // One each for a session's creation and end.
    assert!(matches!(
        world.run(OpCode::CreateSession, &30_000i32.to_be_bytes()),
        Outcome::SessionCreated { timeout_ms: 30_000 }
    ));
    assert_eq!(world.run(OpCode::CloseSession, b""), Outcome::SessionClosed);
    assert_eq!(world.state.last_zxid().0, 4);
}

#[test]
fn trap_02_a_failed_multi_keeps_its_type_and_leaves_nothing() {
    let mut world = World::new();
    world.make("/a");
    let before = (world.state.digest(), world.stat("/a"));
    let body = multi(&[
        (OpCode::Create, create("/a/b", None, 0)),
        (OpCode::SetData, set_data("/a", Some(b"x"), 0)),
        (OpCode::Delete, delete("/no", -1)),
        (OpCode::Create, create("/c", None, 0)),
    ]);
    let Prepared::Txn(payload) = world.prepare(SESSION, 14, &body) else { panic!() };
    let decoded = Payload::decode(&payload).unwrap();
    assert_eq!(decoded.header.kind, OpCode::Multi.code());
    let Txn::Multi(txns) = &decoded.txn else { panic!() };
    assert!(matches!(txns[0], Txn::Create(_)));
    assert!(matches!(txns[1], Txn::SetData { .. }));
    assert_eq!(txns[2..], [Txn::Error(-101), Txn::Error(-2)]);
    assert_eq!(decoded.digest.unwrap().tree as u64, before.0, "a failed multi changes no digest");
    // The next request sees none of it.
    let next = world.prepare(SESSION, 1, &create("/a/b", None, 0));
    assert_eq!(world.apply(&payload), Outcome::MultiFailed(vec![0, 0, -101, -2]));
    assert_eq!((world.state.digest(), world.stat("/a")), before);
    let Prepared::Txn(payload) = next else { panic!() };
    assert!(matches!(world.apply(&payload), Outcome::Created { .. }));
}

#[test]
fn trap_03_the_outcome_of_a_multi_tells_the_creates_apart() {
    let mut world = World::new();
    let body = multi(&[
        (OpCode::Create, create("/a", None, 0)),
        (OpCode::Create2, create("/b", None, 0)),
        (OpCode::CreateContainer, create("/c", None, 4)),
        (OpCode::CreateTtl, create_ttl("/d", 5, 10)),
    ]);
    let ops = |outcome| match outcome {
        Outcome::Multi(parts) => parts
            .into_iter()
            .map(|part| match part {
                Outcome::Created { op, .. } => op,
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    use OpCode::{Create, Create2, CreateContainer, CreateTtl};
    assert_eq!(ops(world.run(OpCode::Multi, &body)), [Create, Create2, CreateContainer, CreateTtl]);

    let settings = PrepareSettings { multi_create2_as_create: true, ..Default::default() };
    let mut world = World::with_settings(settings);
    let body = multi(&[(OpCode::Create2, create("/b", None, 0))]);
    assert_eq!(ops(world.run(OpCode::Multi, &body)), [Create], "old members do not know type 15");
}

#[test]
fn trap_04_null_data_and_empty_data_both_round_trip() {
    let mut world = World::new();
    world.run(OpCode::Create, &create("/null", None, 0));
    world.run(OpCode::Create, &create("/empty", Some(b""), 0));
    let data = |world: &World, path| world.state.tree.data(world.node(path)).map(<[u8]>::to_vec);
    assert_eq!((data(&world, "/null"), data(&world, "/empty")), (None, Some(vec![])));
    world.run(OpCode::SetData, &set_data("/null", Some(b""), -1));
    world.run(OpCode::SetData, &set_data("/empty", None, -1));
    assert_eq!((data(&world, "/null"), data(&world, "/empty")), (Some(vec![]), None));
    assert_eq!((world.stat("/null").data_length, world.stat("/empty").data_length), (0, 0));
}

#[test]
fn trap_05_deleting_a_child_raises_the_visible_cversion() {
    let mut world = World::new();
    assert_eq!((world.stat("/").cversion, world.stat("/zookeeper").cversion), (-1, -2));
    world.make("/a");
    world.make("/a/b");
    assert_eq!(world.stat("/a").cversion, 1);
    world.run(OpCode::Delete, &delete("/a/b", -1));
    assert_eq!(world.stat("/a").cversion, 2);
}

#[test]
fn trap_06_sequence_numbers_count_every_create_and_never_go_back() {
    let mut world = World::new();
    world.make("/q");
    world.make("/q/plain");
    let next =
        |world: &mut World, path| created_path(world.run(OpCode::Create, &create(path, None, 2)));
    assert_eq!(next(&mut world, "/q/n-"), "/q/n-0000000001");
    world.run(OpCode::Delete, &delete("/q/n-0000000001", -1));
    assert_eq!(next(&mut world, "/q/n-"), "/q/n-0000000002");
    assert_eq!(next(&mut world, "/q/"), "/q/0000000003");
    assert_eq!(next(&mut world, "/q/.."), "/q/..0000000004");
    // Also on top of what is not applied yet, and within a multi.
    let body = multi(&[
        (OpCode::Create, create("/q/m-", None, 2)),
        (OpCode::Create, create("/q/m-", None, 3)),
    ]);
    let Outcome::Multi(parts) = world.run(OpCode::Multi, &body) else { panic!() };
    let paths: Vec<_> = parts.into_iter().map(created_path).collect();
    assert_eq!(paths, ["/q/m-0000000005", "/q/m-0000000006"]);
}

#[test]
fn trap_07_containers_and_ttl_nodes_show_no_ephemeral_owner() {
    let mut world = World::new();
    world.run(OpCode::CreateContainer, &create("/c", None, 4));
    world.run(OpCode::CreateTtl, &create_ttl("/t", 5, 1000));
    world.run(OpCode::Create, &create("/e", None, 1));
    assert_eq!(world.stat("/c").ephemeral_owner, 0);
    assert_eq!(world.stat("/t").ephemeral_owner, 0);
    assert_eq!(world.stat("/e").ephemeral_owner, SESSION);
    assert_eq!((world.state.containers().len(), world.state.ttl_nodes().len()), (1, 1));
}

#[test]
fn the_operation_makes_a_container_not_the_flag() {
    let mut world = World::new();
    world.run(OpCode::Create, &create("/flag", None, 4));
    world.run(OpCode::CreateContainer, &create("/op", None, 1));
    assert_eq!(world.state.containers().collect::<Vec<_>>(), [world.node("/op")]);
    assert_eq!(world.state.ephemerals_count(), 0);
}

#[test]
fn trap_08_set_acl_changes_only_aversion_and_children_only_pzxid_and_cversion() {
    let mut world = World::new();
    world.make("/a");
    let before = world.stat("/a");
    let acl = set_acl("/a", anyone(perms::ALL & !perms::WRITE), 0);
    let Outcome::AclSet(stat) = world.run(OpCode::SetAcl, &acl) else { panic!() };
    assert_eq!(stat, oxkeeper_proto::Stat { aversion: 1, ..before });
    assert_eq!(world.run(OpCode::SetAcl, &acl), failed(ErrorCode::BadVersion));
    world.make("/a/b");
    let after = world.stat("/a");
    assert_eq!((after.mzxid, after.mtime, after.version), (before.mzxid, before.mtime, 0));
    assert_eq!((after.pzxid, after.cversion), (world.zxid, 1));
}

#[test]
fn trap_09_delete_checks_the_parents_permission_before_existence() {
    let mut world = World::new();
    world.run(OpCode::Create, &create_with("/p", None, anyone(perms::READ), 0));
    assert_eq!(world.run(OpCode::Delete, &delete("/p/missing", -1)), failed(ErrorCode::NoAuth));
    assert_eq!(world.run(OpCode::Delete, &delete("/no/missing", -1)), failed(ErrorCode::NoNode));
    // The node's own permissions do not matter.
    world.make("/q");
    world.run(OpCode::Create, &create_with("/q/x", None, anyone(perms::READ), 0));
    assert_eq!(world.run(OpCode::Delete, &delete("/q/x", 0)), Outcome::Deleted);
}

#[test]
fn trap_10_bad_version_beats_not_empty_quota_beats_version_and_no_auth_beats_bad_path() {
    let settings = PrepareSettings { enforce_quota: true, ..Default::default() };
    let mut world = World::with_settings(settings);
    world.make("/a");
    world.make("/a/b");
    assert_eq!(world.run(OpCode::Delete, &delete("/a", 7)), failed(ErrorCode::BadVersion));
    assert_eq!(world.run(OpCode::Delete, &delete("/a", 0)), failed(ErrorCode::NotEmpty));

    set_quota(&mut world, "/a", b"count=-1,bytes=-1=;byteHardLimit=3");
    let too_much = set_data("/a/b", Some(b"1234"), 9);
    assert_eq!(world.run(OpCode::SetData, &too_much), failed(ErrorCode::QuotaExceeded));
    let enough = set_data("/a/b", Some(b"123"), 9);
    assert_eq!(world.run(OpCode::SetData, &enough), failed(ErrorCode::BadVersion));

    world.run(OpCode::Create, &create_with("/r", None, anyone(perms::READ), 0));
    assert_eq!(world.run(OpCode::Create, &create("/r/", None, 0)), failed(ErrorCode::NoAuth));
    assert_eq!(world.run(OpCode::Create, &create("/a/", None, 0)), failed(ErrorCode::BadArguments));
}

/// The chain of nodes that a client makes for a quota.
fn set_quota(world: &mut World, path: &str, limits: &[u8]) {
    let top = format!("/zookeeper/quota{path}");
    world.make(&top);
    let limits_path = format!("{top}/zookeeper_limits");
    world.run(OpCode::Create, &create(&limits_path, Some(limits), 0));
    let stats_path = format!("{top}/zookeeper_stats");
    world.run(OpCode::Create, &create(&stats_path, Some(b"count=0,bytes=0"), 0));
}

#[test]
fn trap_36_quota_usage_counts_the_quota_node_itself_and_hard_limits_refuse() {
    let settings = PrepareSettings { enforce_quota: true, ..Default::default() };
    let mut world = World::with_settings(settings);
    world.make("/a");
    set_quota(&mut world, "/a", b"count=-1,bytes=-1=;byteHardLimit=4;countHardLimit=3");
    let usage = "/zookeeper/quota/a/zookeeper_stats";
    let text = |world: &World| world.state.tree.data(world.node(usage)).unwrap().to_vec();
    assert_eq!(text(&world), b"count=1,bytes=0");
    let stat = world.stat(usage);
    world.run(OpCode::Create, &create("/a/b", Some(b"12"), 0));
    assert_eq!(text(&world), b"count=2,bytes=2");
    assert_eq!(
        world.run(OpCode::Create, &create("/a/c", Some(b"123"), 0)),
        failed(ErrorCode::QuotaExceeded)
    );
    world.make("/a/c");
    assert_eq!(
        world.run(OpCode::Create, &create("/a/d", None, 0)),
        failed(ErrorCode::QuotaExceeded)
    );
    let after = oxkeeper_proto::Stat { data_length: 15, ..stat };
    assert_eq!(world.stat(usage), after, "no field but the length changes");
    // Without enforcement limits are words.
    world.prepare.settings_mut().enforce_quota = false;
    world.make("/a/d");
}

#[test]
fn a_quota_without_a_usage_node_limits_nothing_and_a_sum_wraps_around() {
    let settings = PrepareSettings { enforce_quota: true, ..Default::default() };
    let mut world = World::with_settings(settings);
    world.make("/a");
    set_quota(&mut world, "/a", b"byteHardLimit=1,countHardLimit=3");
    let usage = "/zookeeper/quota/a/zookeeper_stats";
    let most = format!("count={},bytes=0", i64::MAX);
    world.run(OpCode::SetData, &set_data(usage, Some(most.as_bytes()), -1));
    world.make("/a/b");
    let text = format!("count={},bytes=0", i64::MIN);
    assert_eq!(world.state.tree.data(world.node(usage)), Some(text.as_bytes()));
    // A text that nobody understands is not read unless a limit of its kind is there.
    world.run(OpCode::SetData, &set_data(usage, Some(b"x"), -1));
    let limits = "/zookeeper/quota/a/zookeeper_limits";
    let both = set_data("/a/b", Some(b"12"), -1);
    assert_eq!(world.run(OpCode::SetData, &both), failed(ErrorCode::MarshallingError));
    world.run(OpCode::SetData, &set_data(limits, Some(b"countHardLimit=3"), -1));
    assert!(matches!(world.run(OpCode::SetData, &both), Outcome::DataSet(_)));
    world.run(OpCode::SetData, &set_data(limits, Some(b"byteHardLimit=1,countHardLimit=0"), -1));
    world.run(OpCode::Delete, &delete(usage, -1));
    world.run(OpCode::Create, &create("/a/c", Some(b"123"), 0));
    world.node("/a/c");
}

#[test]
fn a_null_acl_in_a_multi_is_met_behind_reads_but_not_behind_a_mixture() {
    let mut world = World::new();
    let null_acl = || (OpCode::Create, create_with("/a", None, None, 0));
    let read = || (OpCode::GetData, path_and_watch("/"));
    let write = || (OpCode::Check, check("/", -1));
    let unparsable = Prepared::Refused(ErrorCode::MarshallingError);
    for parts in [vec![null_acl()], vec![read(), read(), null_acl()], vec![write(), null_acl()]] {
        assert_eq!(world.prepare(SESSION, OpCode::Multi.code(), &multi(&parts)), unparsable);
    }
    for parts in
        [vec![read()], vec![read(), write(), null_acl()], vec![write(), read(), null_acl()]]
    {
        let outcome = world.run(OpCode::Multi, &multi(&parts));
        assert_eq!(outcome, failed(ErrorCode::MarshallingError));
    }
    assert_eq!(world.zxid, 3);
}

fn path_and_watch(path: &str) -> Vec<u8> {
    let mut body = path.to_owned().to_bytes();
    body.push(0);
    body
}

#[test]
fn a_null_path_in_a_multi_spoils_the_whole_behind_a_part_that_fails_too() {
    let mut world = World::new();
    // Made with an empty path, which is then overwritten by null.
    let null = |mut part: Vec<u8>| {
        part[..4].fill(0xff);
        part
    };
    let parts = [
        (OpCode::Create, null(create("", None, 0))),
        (OpCode::Create2, null(create("", None, 2))),
        (OpCode::CreateContainer, null(create("", None, 4))),
        (OpCode::CreateTtl, null(create_ttl("", 5, i64::MAX))),
        (OpCode::Delete, null(delete("", -1))),
        (OpCode::SetData, null(set_data("", None, -1))),
        (OpCode::Check, null(check("", -1))),
    ];
    for (index, part) in parts.into_iter().enumerate() {
        let good = (OpCode::Create, create("/a", None, 0));
        let bad = (OpCode::Check, check("/none", -1));
        let body = match index % 3 {
            0 => multi(&[bad, part]),
            1 => multi(&[part, good]),
            _ => multi(&[good, part]),
        };
        assert_eq!(world.run(OpCode::Multi, &body), failed(ErrorCode::MarshallingError));
        assert_eq!(world.zxid, index as i64 + 1);
    }
    let null_path = null(set_data("", None, -1));
    assert_eq!(world.run(OpCode::SetData, &null_path), failed(ErrorCode::BadArguments));
}

#[test]
fn trap_24_unknown_operations_and_a_lone_check_are_refused_and_ttl_off_is_a_plain_error() {
    let mut world = World::with_settings(PrepareSettings::default());
    for op in [0, -1, 10, 13, 999, 4, 9] {
        assert_eq!(
            world.prepare(SESSION, op, &check("/", -1)),
            Prepared::Refused(ErrorCode::Unimplemented),
            "{op}"
        );
    }
    let ttl = create_ttl("/t", 5, 10);
    assert_eq!(world.run(OpCode::CreateTtl, &ttl), failed(ErrorCode::Unimplemented));
    let flag = create("/t", None, 6);
    assert_eq!(world.run(OpCode::Create, &flag), failed(ErrorCode::Unimplemented));
}

#[test]
fn create_checks_flags_before_session_before_path_before_acl_before_parent() {
    let mut world = World::new();
    let mut run = |op: OpCode, body: &[u8], check| {
        let Prepared::Txn(payload) = world.prepare_checked(SESSION, op.code(), body, check) else {
            panic!("{op:?}")
        };
        match Payload::decode(&payload).unwrap().txn {
            Txn::Error(code) => ErrorCode::from_code(code),
            _ => None,
        }
    };
    let expired = SessionCheck::failed(ErrorCode::SessionExpired);
    let live = SessionCheck::LIVE;
    let bad = Some(ErrorCode::BadArguments);
    assert_eq!(run(OpCode::Create, &create("x", None, 7), expired), bad);
    assert_eq!(run(OpCode::Create, &create("x", None, -1), expired), bad);
    assert_eq!(run(OpCode::Create, &create("/x", None, 5), expired), bad, "ttl by the wrong op");
    for ttl in [0, -1, 1 << 40] {
        assert_eq!(run(OpCode::CreateTtl, &create_ttl("/x", 5, ttl), expired), bad);
    }
    assert_eq!(run(OpCode::CreateTtl, &create_ttl("/x", 0, 5), expired), bad);
    let no_acl = |path| create_with(path, None, None, 0);
    assert_eq!(run(OpCode::Create, &no_acl("x"), expired), Some(ErrorCode::SessionExpired));
    assert_eq!(run(OpCode::Create, &no_acl("x"), live), bad);
    assert_eq!(run(OpCode::Create, &no_acl("/x\0"), live), bad);
    assert_eq!(run(OpCode::Create, &no_acl("/no/x"), live), Some(ErrorCode::InvalidAcl));
    let no_parent = Some(ErrorCode::NoNode);
    assert_eq!(run(OpCode::Create, &create("/no/\u{1}", None, 0), live), no_parent);
    assert_eq!(run(OpCode::Create, &create("abc/d", None, 0), live), no_parent);
    assert_eq!(run(OpCode::Create, &create("/\u{1}", None, 0), live), bad);
    assert_eq!(run(OpCode::Create, &create("/", None, 0), live), Some(ErrorCode::NodeExists));
    let local = SessionCheck { any: Ok(()), ephemeral: Err(ErrorCode::EphemeralOnLocalSession) };
    assert_eq!(
        run(OpCode::Create, &create("/e", None, 1), local),
        Some(ErrorCode::EphemeralOnLocalSession)
    );
    assert_eq!(run(OpCode::Create, &create("/e", None, 0), local), None);
}

#[test]
fn a_child_of_an_ephemeral_node_always_fails() {
    let mut world = World::new();
    world.run(OpCode::Create, &create("/e", None, 1));
    for flags in 0..4 {
        let outcome = world.run(OpCode::Create, &create("/e/x", None, flags));
        assert_eq!(outcome, failed(ErrorCode::NoChildrenForEphemerals));
    }
    world.run(OpCode::CreateContainer, &create("/c", None, 4));
    world.make("/c/x");
}

#[test]
fn built_in_nodes_cannot_be_deleted_whatever_the_permissions() {
    let mut world = World::new();
    for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "no-slash", "/a\0"] {
        let outcome = world.run(OpCode::Delete, &delete(path, -1));
        assert_eq!(outcome, failed(ErrorCode::BadArguments), "{path:?}");
    }
    world.make("/zookeeper/mine");
    assert_eq!(world.run(OpCode::Delete, &delete("/zookeeper/mine", -1)), Outcome::Deleted);
}

#[test]
fn versions_wrap_around_and_only_minus_one_matches_all() {
    let mut world = World::new();
    world.make("/a");
    world.state.tree.update_stat(world.state.tree.lookup("/a").unwrap(), |stat| {
        stat.version = i32::MAX;
    });
    world.state.digest = 0;
    world.prepare.settings_mut().digests = false;
    let Outcome::DataSet(stat) = world.run(OpCode::SetData, &set_data("/a", None, i32::MAX)) else {
        panic!()
    };
    assert_eq!(stat.version, i32::MIN);
    let outcome = world.run(OpCode::SetData, &set_data("/a", None, -2));
    assert_eq!(outcome, failed(ErrorCode::BadVersion));
    let Outcome::DataSet(stat) = world.run(OpCode::SetData, &set_data("/a", None, i32::MIN)) else {
        panic!()
    };
    assert_eq!(stat.version, i32::MIN + 1);
}

/// Somebody else has written meanwhile; also where that is proposed and not applied yet.
#[test]
fn a_write_that_names_an_older_version_fails() {
    let mut world = World::new();
    world.make("/a");
    let first = world.prepare(SESSION, OpCode::SetData.code(), &set_data("/a", Some(b"1"), 0));
    let second = world.prepare(SESSION, OpCode::SetData.code(), &set_data("/a", Some(b"2"), 0));
    let third = world.prepare(SESSION, OpCode::Delete.code(), &delete("/a", 0));
    let outcomes = [first, second, third].map(|prepared| match prepared {
        Prepared::Txn(payload) => world.apply(&payload),
        Prepared::Refused(code) => panic!("{code}"),
    });
    assert!(matches!(outcomes[0], Outcome::DataSet(_)));
    assert_eq!(outcomes[1..], [failed(ErrorCode::BadVersion), failed(ErrorCode::BadVersion)]);
    let outcome = world.run(OpCode::SetAcl, &set_acl("/a", anyone(31), 1));
    assert_eq!(outcome, failed(ErrorCode::BadVersion));
}

#[test]
fn trap_26_an_auth_acl_is_stored_expanded() {
    let mut world = World::new();
    let auth = || create_with("/a", None, Some(vec![entry(31, "auth", "")]), 0);
    assert_eq!(world.run(OpCode::Create, &auth()), failed(ErrorCode::InvalidAcl));
    let ben = digest_identity(b"ben:1");
    world.ids.push(ben.clone());
    world.run(OpCode::Create, &auth());
    assert_eq!(world.acl("/a"), [Acl { perms: 31, id: ben }]);
    // Children are made by permission of the proposed parent, also before it is applied.
    world.ids.pop();
    assert_eq!(world.run(OpCode::Create, &create("/a/b", None, 0)), failed(ErrorCode::NoAuth));
    world.ids.push(Id::new("super", ""));
    world.make("/a/b");
}

#[test]
fn trap_27_duplicate_acl_entries_are_stored_once() {
    let mut world = World::new();
    let list = vec![entry(1, "world", "anyone"), entry(1, "world", "anyone")];
    world.run(OpCode::Create, &create_with("/a", None, Some(list), 0));
    assert_eq!(world.acl("/a"), [Acl::new(1, "world", "anyone")]);
}

#[test]
fn a_null_acl_id_fails_with_a_zxid() {
    let mut world = World::new();
    let null =
        oxkeeper_proto::client::AclEntry { perms: 31, scheme: Some("digest".into()), id: None };
    let body = create_with("/a", None, Some(vec![null]), 0);
    assert_eq!(world.run(OpCode::Create, &body), failed(ErrorCode::MarshallingError));
    assert_eq!(world.zxid, 1);
}

#[test]
fn trap_29_emoji_are_illegal_and_letters_with_accents_are_fine() {
    let mut world = World::new();
    let outcome = world.run(OpCode::Create, &create("/\u{1f600}", None, 0));
    assert_eq!(outcome, failed(ErrorCode::BadArguments));
    world.make("/é");
    // Malformed UTF-8 is read as U+FFFD, which is illegal.
    let mut body = create("/xx", None, 0);
    body[5..7].copy_from_slice(&[0xff, 0xfe]);
    assert_eq!(world.run(OpCode::Create, &body), failed(ErrorCode::BadArguments));
}

#[test]
fn trap_34_trailing_bytes_of_a_request_are_ignored() {
    let mut world = World::new();
    let mut body = create("/a", None, 0);
    body.extend([1, 2, 3]);
    assert!(matches!(world.run(OpCode::Create, &body), Outcome::Created { .. }));
}

#[test]
fn trap_35_the_config_node_is_read_only_for_the_world() {
    let mut world = World::new();
    assert_eq!(world.acl("/zookeeper/config"), [Acl::new(perms::READ, "world", "anyone")]);
    assert_eq!(world.stat("/zookeeper/config").aversion, -1);
    let body = set_data("/zookeeper/config", Some(b"x"), -1);
    assert_eq!(world.run(OpCode::SetData, &body), failed(ErrorCode::NoAuth));
}

#[test]
fn trap_38_a_length_inside_the_body_that_is_too_large_is_refused_with_minus_5() {
    let mut world = World::new();
    let mut body = create("/a", Some(b"data"), 0);
    body[..4].copy_from_slice(&0x7fff_0000i32.to_be_bytes());
    assert_eq!(world.prepare(SESSION, 1, &body), Prepared::Refused(ErrorCode::MarshallingError));
}

#[test]
fn trap_39_all_ephemerals_of_a_session_die_under_one_zxid() {
    let mut world = World::new();
    world.make("/p");
    for path in ["/p/applied", "/p/deleted", "/z"] {
        world.run(OpCode::Create, &create(path, None, 1));
    }
    // Proposed, not applied: one more, one less, and one that comes back as a plain node.
    let proposals = [
        (OpCode::Create, create("/p/proposed", None, 1)),
        (OpCode::Delete, delete("/p/deleted", -1)),
        (OpCode::Delete, delete("/z", -1)),
        (OpCode::Create, create("/z", None, 0)),
        (OpCode::CloseSession, vec![]),
        (OpCode::Create, create("/p/late", None, 1)),
    ];
    let mut payloads = Vec::new();
    for (op, body) in proposals {
        let Prepared::Txn(payload) = world.prepare(SESSION, op.code(), &body) else { panic!() };
        payloads.push(payload);
    }
    let close = Payload::decode(&payloads[4]).unwrap();
    let Txn::CloseSession { paths: Some(paths) } = &close.txn else { panic!() };
    assert_eq!(paths[..], ["/p/applied", "/p/proposed"]);
    let outcomes: Vec<_> = payloads.iter().map(|payload| world.apply(payload)).collect();
    assert_eq!(outcomes[4], Outcome::SessionClosed);
    assert_eq!(outcomes[5], failed(ErrorCode::SessionExpired), "a closing session owns nothing");
    assert_eq!(world.stat("/p").pzxid, close.header.zxid);
    assert_eq!((world.stat("/p").num_children, world.state.ephemerals_count()), (0, 0));
    world.node("/z");
}

/// No leader of ours makes an ephemeral below an ephemeral, but another's log or snapshot may hold one;
/// the first close of that session as leader ended the process.
#[test]
fn a_session_with_an_ephemeral_below_an_ephemeral_can_be_closed() {
    let mut world = World::new();
    for path in ["/a", "/a/b"] {
        world.zxid += 1;
        let txn = Txn::Create(CreateTxn {
            op: OpCode::Create,
            path: path.into(),
            data: None,
            acl: vec![],
            mode: CreateMode::Ephemeral,
            parent_cversion: 1,
        });
        let header = TxnHeader {
            client_id: SESSION,
            cxid: 0,
            zxid: world.zxid,
            time_ms: 1,
            kind: OpCode::Create.code(),
        };
        let mut payload = Vec::new();
        Payload { header, txn, digest: None }.encode(&mut payload);
        world.apply(&payload);
    }
    assert_eq!(world.state.ephemerals_count(), 2);
    assert_eq!(world.run(OpCode::CloseSession, b""), Outcome::SessionClosed);
    assert_eq!(world.state.ephemerals_count(), 0);
}

#[test]
fn trap_41_all_operations_of_a_multi_share_zxid_and_time() {
    let mut world = World::new();
    let body = multi(&[
        (OpCode::Create, create("/a", None, 0)),
        (OpCode::Create2, create("/a/b", None, 0)),
        (OpCode::Check, check("/a", 0)),
        (OpCode::SetData, set_data("/a", Some(b"x"), 0)),
        (OpCode::Create, create("/gone", None, 0)),
        (OpCode::Delete, delete("/gone", 0)),
    ]);
    assert!(matches!(world.run(OpCode::Multi, &body), Outcome::Multi(_)));
    let (a, b) = (world.stat("/a"), world.stat("/a/b"));
    assert_eq!((a.czxid, a.mzxid, a.pzxid, b.czxid), (1, 1, 1, 1));
    assert_eq!((a.ctime, a.mtime, b.ctime), (world.time_ms, world.time_ms, world.time_ms));
    assert_eq!((a.version, a.cversion), (1, 1));
}

#[test]
fn an_empty_multi_succeeds_and_uses_a_zxid() {
    let mut world = World::new();
    assert_eq!(world.run(OpCode::Multi, &multi(&[])), Outcome::Multi(vec![]));
    assert_eq!(world.zxid, 1);
}

#[test]
fn a_multi_that_holds_what_it_must_not_fails_as_a_whole_and_uses_a_zxid() {
    let mut world = World::new();
    let good = || (OpCode::Create, create("/a", None, 0));
    let bad = [
        (OpCode::SetAcl, set_acl("/a", anyone(31), -1)),
        (OpCode::GetData, vec![0, 0, 0, 2, b'/', b'a', 0]),
        (OpCode::Multi, multi(&[])),
        (OpCode::Create, create("/b", None, 7)),
        (OpCode::Create2, create("/b", None, 5)),
        (OpCode::CreateContainer, create("/b", None, -1)),
        (OpCode::Delete, vec![0, 0]),
    ];
    for (index, part) in bad.into_iter().enumerate() {
        let body = multi(&[good(), part]);
        assert_eq!(world.run(OpCode::Multi, &body), failed(ErrorCode::MarshallingError), "{index}");
        assert!(parses(OpCode::Multi.code(), &body), "the leader makes a transaction of it");
        assert_eq!(world.zxid, index as i64 + 1);
    }
    let truncated = &multi(&[good()])[..20];
    assert_eq!(world.run(OpCode::Multi, truncated), failed(ErrorCode::MarshallingError));
    // With createTTL the flag is looked at like anything else.
    let ttl = multi(&[good(), (OpCode::CreateTtl, create_ttl("/b", 9, 5))]);
    assert_eq!(world.run(OpCode::Multi, &ttl), Outcome::MultiFailed(vec![0, -8]));
    assert!(world.state.tree.lookup("/a").is_none());
}

#[test]
fn inside_a_multi_it_is_the_flag_that_makes_a_container_and_no_ttl_flag_no_ttl() {
    let mut world = World::new();
    let body = multi(&[
        (OpCode::Create, create("/a", None, 4)),
        (OpCode::Create2, create("/b", None, 4)),
        (OpCode::CreateContainer, create("/c", None, 0)),
        (OpCode::CreateTtl, create_ttl("/d", 0, 10)),
        (OpCode::CreateTtl, create_ttl("/e", 4, 10)),
    ]);
    assert!(matches!(world.run(OpCode::Multi, &body), Outcome::Multi(_)));
    let mut containers: Vec<_> =
        world.state.containers().map(|node| world.state.tree.path(node)).collect();
    containers.sort();
    assert_eq!(containers, ["/a", "/b", "/c", "/e"]);
    assert_eq!(world.state.ttl_nodes().len(), 0);
}

#[test]
fn reconfig_is_disabled_with_a_zxid() {
    let mut world = World::new();
    let mut body = vec![0xff; 12];
    body.extend([0xff; 8]);
    let outcome = world.run(OpCode::Reconfig, &body);
    assert_eq!(outcome, failed(ErrorCode::ReconfigDisabled));
    assert_eq!(
        world.prepare(SESSION, 16, &body[..5]),
        Prepared::Refused(ErrorCode::MarshallingError)
    );
    world.prepare.settings_mut().nothing_to_reconfigure = true;
    assert_eq!(world.run(OpCode::Reconfig, &body), failed(ErrorCode::Unimplemented));
}

#[test]
fn trap_43_a_container_is_reaped_once_used_and_a_ttl_counts_from_mtime() {
    let mut world = World::new();
    world.run(OpCode::CreateContainer, &create("/c", None, 4));
    world.run(OpCode::CreateTtl, &create_ttl("/t", 5, 1000));
    let due = |world: &World, after_ms| {
        containers_to_reap(&world.state, world.time_ms + after_ms, 0, true)
    };
    assert!(due(&world, 0).is_empty(), "never used");
    world.make("/c/x");
    assert!(due(&world, 0).is_empty(), "in use");
    world.run(OpCode::Delete, &delete("/c/x", -1));
    assert_eq!(due(&world, 0), ["/c"]);
    assert_eq!(due(&world, 2000), ["/c", "/t"]);
    world.time_ms += 2000;
    world.run(OpCode::SetData, &set_data("/t", None, -1));
    assert_eq!(due(&world, 900), ["/c"], "setData refreshes mtime");
    assert_eq!(containers_to_reap(&world.state, i64::MAX, 0, false), ["/c"]);

    // What changed since is found out when the deletion is prepared.
    let reap = |world: &mut World, path: &str| {
        let body = oxkeeper_proto::Encode::to_bytes(&path.to_owned());
        world.prepare(0, OpCode::DeleteContainer.code(), &body)
    };
    assert_eq!(reap(&mut world, "/t"), Prepared::Refused(ErrorCode::BadVersion));
    assert_eq!(reap(&mut world, "/no"), Prepared::Refused(ErrorCode::NoNode));
    let child = world.prepare(SESSION, 1, &create("/c/y", None, 0));
    assert_eq!(reap(&mut world, "/c"), Prepared::Refused(ErrorCode::NotEmpty));
    let Prepared::Txn(child) = child else { panic!() };
    world.apply(&child);
    world.run(OpCode::Delete, &delete("/c/y", -1));
    let Prepared::Txn(payload) = reap(&mut world, "/c") else { panic!() };
    assert_eq!(world.apply(&payload), Outcome::Deleted);
}

#[test]
fn never_used_containers_are_reaped_when_that_is_configured() {
    let settings = PrepareSettings { reap_never_used_ms: 500, ..Default::default() };
    let mut world = World::with_settings(settings);
    world.run(OpCode::CreateContainer, &create("/c", None, 4));
    assert!(containers_to_reap(&world.state, world.time_ms + 400, 500, false).is_empty());
    assert_eq!(containers_to_reap(&world.state, world.time_ms + 501, 500, false), ["/c"]);
    world.time_ms += 600;
    let body = oxkeeper_proto::Encode::to_bytes(&"/c".to_owned());
    assert!(matches!(world.prepare(0, 20, &body), Prepared::Txn(_)));
}
