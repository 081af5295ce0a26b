use std::sync::Arc;

use oxkeeper_proto::client::{
    Acl, EventKind, MultiHeader, PersistentWatches, ReplyHeader, SetWatchesRequest, put_frame,
    put_notification,
};
use oxkeeper_proto::jute::put_string;
use oxkeeper_proto::txn::{CreateMode, CreateTxn, Payload, Txn, TxnHeader};

use super::*;
use crate::auth::digest_identity;

const SESSION: i64 = 0x77;
const WATCHER: WatcherId = 5;

/// A state, its watches, and one connection that reads.
struct World {
    state: State,
    watches: Mutex<WatchTable>,
    ids: Vec<Id>,
    settings: AuthSettings,
    zxid: i64,
}

impl World {
    fn new() -> World {
        World {
            state: State::new(1),
            watches: Mutex::new(WatchTable::default()),
            ids: vec![Id::new("ip", "127.0.0.1")],
            settings: AuthSettings::default(),
            zxid: 0,
        }
    }

    fn apply(&mut self, txn: Txn<'_>) {
        self.zxid += 1;
        let header = TxnHeader {
            client_id: SESSION,
            cxid: 0,
            zxid: self.zxid,
            time_ms: 1000,
            kind: txn.kind(),
        };
        self.state.apply(&Payload { header, txn, digest: None }, &mut (), false);
    }

    fn create(&mut self, path: &str, data: Option<&[u8]>, acl: Vec<Acl>, mode: CreateMode) {
        let (op, path, parent_cversion) = (OpCode::Create, path.into(), -1);
        self.apply(Txn::Create(CreateTxn { op, path, data, acl, mode, parent_cversion }));
    }

    fn make(&mut self, path: &str) {
        self.create(path, Some(b"data"), Acl::open_unsafe(), CreateMode::Persistent);
    }

    fn serve(&self, xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
        let context = ReadContext {
            watcher: WATCHER,
            session: SESSION,
            ids: &self.ids,
            settings: &self.settings,
        };
        let mut out = b"before".to_vec();
        serve(&self.state, &self.watches, RequestHeader { xid, op }, body, &context, &mut out);
        assert_eq!(&out[..6], b"before", "output is only appended");
        out.split_off(6)
    }

    /// The body of the only frame, or its error.
    fn read(&self, op: OpCode, body: &[u8]) -> Result<Vec<u8>, ErrorCode> {
        let out = self.serve(9, op.code(), body);
        let len = i32::from_be_bytes(out[..4].try_into().unwrap()) as usize;
        assert_eq!(out.len(), 4 + len, "exactly one frame");
        let header = ReplyHeader::from_bytes(&out[4..]).unwrap();
        assert_eq!((header.xid, header.zxid), (9, self.zxid));
        match ErrorCode::from_code(header.err).unwrap() {
            ErrorCode::Ok => Ok(out[20..].to_vec()),
            code => {
                assert_eq!(out.len(), 20, "an error has no body");
                Err(code)
            }
        }
    }

    fn modes(&self, path: &str) -> Modes {
        self.watches.lock().modes(WATCHER, path)
    }
}

fn path_and_watch(path: &str, watch: u8) -> Vec<u8> {
    let mut body = path.to_owned().to_bytes();
    body.push(watch);
    body
}

fn names(mut body: &[u8]) -> Vec<String> {
    let mut r = Reader::new(std::mem::take(&mut body));
    r.vec().unwrap()
}

#[test]
fn get_data_answers_data_and_stat_and_any_true_byte_sets_the_watch() {
    let mut world = World::new();
    world.make("/a");
    let body = world.read(OpCode::GetData, &path_and_watch("/a", 0)).unwrap();
    let mut r = Reader::new(&body);
    assert_eq!(r.buffer().unwrap(), Some(&b"data"[..]));
    assert_eq!(
        Stat::decode(&mut r).unwrap(),
        world.state.tree.stat(world.state.tree.lookup("/a").unwrap())
    );
    assert_eq!(r.remaining(), 0);
    assert_eq!(world.modes("/a"), Modes::NONE);
    world.read(OpCode::GetData, &path_and_watch("/a", 7)).unwrap();
    assert_eq!(world.modes("/a"), Modes::DATA);
}

#[test]
fn trap_04_null_and_empty_data_are_told_apart() {
    let mut world = World::new();
    world.create("/null", None, Acl::open_unsafe(), CreateMode::Persistent);
    world.create("/empty", Some(b""), Acl::open_unsafe(), CreateMode::Persistent);
    let len = |path| {
        let body = world.read(OpCode::GetData, &path_and_watch(path, 0)).unwrap();
        (i32::from_be_bytes(body[..4].try_into().unwrap()), body.len())
    };
    assert_eq!((len("/null"), len("/empty")), ((-1, 72), (0, 72)));
}

#[test]
fn trap_11_only_exists_leaves_a_watch_on_an_absent_node() {
    let mut world = World::new();
    world.make("/z");
    for op in [OpCode::GetData, OpCode::GetChildren, OpCode::GetChildren2] {
        assert_eq!(world.read(op, &path_and_watch("/no", 1)), Err(ErrorCode::NoNode));
        assert_eq!(world.modes("/no"), Modes::NONE);
    }
    assert_eq!(world.read(OpCode::Exists, &path_and_watch("/no", 1)), Err(ErrorCode::NoNode));
    assert_eq!(world.modes("/no"), Modes::DATA);
    let nul = path_and_watch("/n\0", 1);
    assert_eq!(world.read(OpCode::Exists, &nul), Err(ErrorCode::BadArguments));
    assert_eq!(world.read(OpCode::GetData, &nul), Err(ErrorCode::NoNode));
    assert_eq!(world.modes("/n\0"), Modes::NONE);
}

#[test]
fn a_read_without_permission_leaves_no_watch() {
    let mut world = World::new();
    let write_only = vec![Acl::new(perms::WRITE, "world", "anyone")];
    world.create("/w", None, write_only, CreateMode::Persistent);
    for op in [OpCode::Exists, OpCode::GetData, OpCode::GetChildren, OpCode::GetChildren2] {
        assert_eq!(world.read(op, &path_and_watch("/w", 1)), Err(ErrorCode::NoAuth), "{op:?}");
    }
    for op in [OpCode::GetAcl, OpCode::GetAllChildrenNumber] {
        assert_eq!(world.read(op, &"/w".to_owned().to_bytes()), Err(ErrorCode::NoAuth), "{op:?}");
    }
    assert!(world.watches.lock().is_empty());
    world.ids.push(Id::new("super", ""));
    assert!(world.read(OpCode::Exists, &path_and_watch("/w", 0)).is_ok());
}

#[test]
fn trap_27_get_acl_hides_digests_from_callers_without_admin() {
    let mut world = World::new();
    let ben = digest_identity(b"ben:1");
    let acl =
        vec![Acl::new(perms::READ, "world", "anyone"), Acl { perms: perms::ALL, id: ben.clone() }];
    world.create("/a", None, acl.clone(), CreateMode::Persistent);
    let get = |world: &World| {
        let body = world.read(OpCode::GetAcl, &"/a".to_owned().to_bytes()).unwrap();
        let mut r = Reader::new(&body);
        let list = r.vec::<Acl>().unwrap();
        Stat::decode(&mut r).unwrap();
        assert_eq!(r.remaining(), 0);
        list
    };
    assert_eq!(get(&world)[1], Acl::new(perms::ALL, "digest", "ben:x"));
    world.ids.push(ben);
    assert_eq!(get(&world), acl);
}

#[test]
fn trap_30_children_keep_their_order_while_the_node_does_not_change() {
    let mut world = World::new();
    for path in ["/a", "/b", "/c"] {
        world.make(path);
    }
    let first = names(&world.read(OpCode::GetChildren, &path_and_watch("/", 0)).unwrap());
    let second = world.read(OpCode::GetChildren2, &path_and_watch("/", 1)).unwrap();
    assert_eq!(names(&second), first);
    assert_eq!(second.len() - 68, {
        let mut list = Vec::new();
        first.encode(&mut list);
        list.len()
    });
    let mut sorted = first;
    sorted.sort();
    assert_eq!(sorted, ["a", "b", "c", "zookeeper"]);
    assert_eq!(world.modes("/"), Modes::CHILD);
}

#[test]
fn trap_31_ephemerals_are_found_by_string_prefix_and_only_the_own() {
    let mut world = World::new();
    world.make("/ab");
    for path in ["/ab/x", "/abc", "/other"] {
        world.create(path, None, Acl::open_unsafe(), CreateMode::Ephemeral);
    }
    let get = |prefix: &str| {
        names(&world.read(OpCode::GetEphemerals, &prefix.to_owned().to_bytes()).unwrap())
    };
    assert_eq!(get("/ab"), ["/ab/x", "/abc"]);
    for all in ["", "  ", "/"] {
        assert_eq!(get(all), ["/ab/x", "/abc", "/other"]);
    }
    let null = world.read(OpCode::GetEphemerals, &[0xff; 4]).unwrap();
    assert_eq!(names(&null).len(), 3);
    assert!(get("/nothing").is_empty());
}

#[test]
fn all_descendants_are_counted() {
    let mut world = World::new();
    let count = |world: &World, path: &str| {
        let body = world.read(OpCode::GetAllChildrenNumber, &path.to_owned().to_bytes()).unwrap();
        i32::from_be_bytes(body.try_into().unwrap())
    };
    assert_eq!(count(&world, "/"), 3);
    for path in ["/a", "/a/b", "/a/b/c"] {
        world.make(path);
    }
    assert_eq!((count(&world, "/a"), count(&world, "/a/b/c"), count(&world, "/")), (2, 0, 6));
}

#[test]
fn who_am_i_lists_every_identity() {
    let mut world = World::new();
    world.ids.push(digest_identity(b"ben:1"));
    world.ids.push(Id::new("super", ""));
    let body = world.read(OpCode::WhoAmI, b"").unwrap();
    let list: Vec<Id> = Reader::new(&body).vec().unwrap();
    let expected = [Id::new("ip", "127.0.0.1"), Id::new("digest", "ben"), Id::new("super", "")];
    assert_eq!(list, expected);
}

#[test]
fn trap_44_a_ping_is_answered_with_xid_minus_2_and_the_last_zxid() {
    let mut world = World::new();
    world.make("/a");
    let mut expected = Vec::new();
    put_frame(&mut expected, |out| ReplyHeader { xid: -2, zxid: 1, err: 0 }.encode(out));
    assert_eq!(world.serve(-2, OpCode::Ping.code(), b""), expected);
    assert_eq!(world.serve(12, OpCode::Ping.code(), b""), expected);
}

#[test]
fn trap_18_only_add_watch_has_a_body_among_the_watch_operations() {
    let world = World::new();
    let request = |path: &str, number: i32| {
        let mut body = path.to_owned().to_bytes();
        number.encode(&mut body);
        body
    };
    assert_eq!(world.read(OpCode::AddWatch, &request("/no", 0)), Ok(vec![0; 4]));
    assert_eq!(world.read(OpCode::AddWatch, &request("/no", 1)), Ok(vec![0; 4]));
    let odd_mode = world.read(OpCode::AddWatch, &request("/no", 2));
    assert_eq!(odd_mode, Err(ErrorCode::MarshallingError));
    assert_eq!(world.modes("/no"), Modes::PERSISTENT | Modes::RECURSIVE);
    assert_eq!(world.read(OpCode::CheckWatches, &request("/no", 4)), Ok(vec![]));
    let other = world.read(OpCode::CheckWatches, &request("/no", 1));
    assert_eq!(other, Err(ErrorCode::NoWatcher));
    let odd_kind = world.read(OpCode::CheckWatches, &request("/no", 9));
    assert_eq!(odd_kind, Err(ErrorCode::MarshallingError));
    assert_eq!(world.read(OpCode::RemoveWatches, &request("/no", 5)), Ok(vec![]));
    assert_eq!(world.modes("/no"), Modes::PERSISTENT);
    let again = world.read(OpCode::RemoveWatches, &request("/no", 5));
    assert_eq!(again, Err(ErrorCode::NoWatcher));
}

fn set_watches(seen: i64, data: &[&str], exist: &[&str], child: &[&str]) -> Vec<u8> {
    let list = |paths: &[&str]| paths.iter().map(|path| Cow::Owned(path.to_string())).collect();
    let (data, exist, child) = (list(data), list(exist), list(child));
    SetWatchesRequest { relative_zxid: seen, data, exist, child }.to_bytes()
}

#[test]
fn trap_12_set_watches_tells_a_deletion_once_per_list() {
    let mut world = World::new();
    for path in ["/old", "/new", "/parent", "/parent/child"] {
        world.make(path);
    }
    // Everything up to zxid 2 was seen.
    let body = set_watches(
        2,
        &["/gone", "/old", "/parent"],
        &["/absent", "/new"],
        &["/gone", "/old", "/parent"],
    );
    let mut expected = Vec::new();
    for (kind, path) in [
        (EventKind::NodeDeleted, "/gone"),
        (EventKind::NodeDataChanged, "/parent"),
        (EventKind::NodeCreated, "/new"),
        (EventKind::NodeDeleted, "/gone"),
        (EventKind::NodeChildrenChanged, "/parent"),
    ] {
        put_notification(&mut expected, Zxid(-1), kind, path);
    }
    put_frame(&mut expected, |out| ReplyHeader { xid: -8, zxid: 4, err: 0 }.encode(out));
    assert_eq!(world.serve(-8, OpCode::SetWatches.code(), &body), expected);
    assert_eq!(world.modes("/old"), Modes::DATA | Modes::CHILD);
    assert_eq!(world.modes("/absent"), Modes::DATA);
    for path in ["/gone", "/parent", "/new"] {
        assert_eq!(world.modes(path), Modes::NONE);
    }
}

#[test]
fn set_watches_2_sets_persistent_watches_without_catching_up() {
    let mut world = World::new();
    world.make("/a");
    let mut body = set_watches(0, &[], &[], &[]);
    let lists = PersistentWatches { persistent: vec!["/a".into()], recursive: vec!["/no".into()] };
    lists.encode(&mut body);
    assert_eq!(world.read(OpCode::SetWatches2, &body), Ok(vec![]));
    assert_eq!((world.modes("/a"), world.modes("/no")), (Modes::PERSISTENT, Modes::RECURSIVE));
}

#[test]
fn a_set_watches_that_does_not_parse_has_no_effect() {
    let world = World::new();
    let mut body = set_watches(0, &["/gone"], &["/absent"], &["/gone"]);
    body.pop();
    let unparsable = Err(ErrorCode::MarshallingError);
    assert_eq!(world.read(OpCode::SetWatches, &body), unparsable);
    assert_eq!(world.read(OpCode::SetWatches2, &set_watches(0, &["/x"], &[], &[])), unparsable);
    assert!(world.watches.lock().is_empty());
    let mut nulls = 0i64.to_bytes();
    nulls.extend([0xff; 12]);
    assert_eq!(world.read(OpCode::SetWatches, &nulls), unparsable);
}

#[test]
fn a_null_path_ends_a_set_watches_but_stays_itself_as_a_persistent_watch() {
    let mut world = World::new();
    world.make("/a");
    let strings = |paths: &[Option<&str>]| {
        let mut out = Vec::new();
        put_int(&mut out, paths.len() as i32);
        for path in paths {
            put_buffer(&mut out, path.map(str::as_bytes));
        }
        out
    };
    let seen = 1_i64.to_bytes();
    let gone = strings(&[Some("/gone"), None, Some("/later")]);
    let body = [seen.clone(), strings(&[Some("/a")]), strings(&[]), gone].concat();
    let mut expected = Vec::new();
    put_notification(&mut expected, Zxid(-1), EventKind::NodeDeleted, "/gone");
    put_frame(&mut expected, |out| ReplyHeader { xid: -8, zxid: 1, err: -5 }.encode(out));
    assert_eq!(world.serve(-8, OpCode::SetWatches.code(), &body), expected);
    assert_eq!(world.modes("/a"), Modes::DATA);

    let none = strings(&[]);
    let persistent = strings(&[Some("/p"), None]);
    let recursive = strings(&[None, Some("/r")]);
    let body = [&seen, &none, &none, &none, &persistent, &recursive].map(Vec::as_slice).concat();
    assert_eq!(world.read(OpCode::SetWatches2, &body), Ok(vec![]));
    assert_eq!((world.modes("/p"), world.modes("/r")), (Modes::PERSISTENT, Modes::RECURSIVE));
    let null_of_kind_5 = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 5];
    assert_eq!(world.read(OpCode::CheckWatches, &null_of_kind_5), Ok(vec![]));
    assert_eq!(world.read(OpCode::RemoveWatches, &null_of_kind_5), Ok(vec![]));
}

fn multi_read(parts: &[(i32, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, path) in parts {
        MultiHeader { kind: *kind, done: false, err: -1 }.encode(&mut body);
        body.extend(path_and_watch(path, 1));
    }
    MultiHeader::END.encode(&mut body);
    body
}

#[test]
fn trap_42_multi_read_sets_no_watch_and_each_part_fails_for_itself() {
    let mut world = World::new();
    world.make("/a");
    let body = world.read(OpCode::MultiRead, &multi_read(&[(4, "/no"), (8, "/"), (4, "/a")]));
    let mut expected = Vec::new();
    MultiHeader { kind: -1, done: false, err: -101 }.encode(&mut expected);
    put_int(&mut expected, -101);
    MultiHeader { kind: 8, done: false, err: 0 }.encode(&mut expected);
    put_int(&mut expected, 2);
    put_string(&mut expected, "zookeeper");
    put_string(&mut expected, "a");
    MultiHeader { kind: 4, done: false, err: 0 }.encode(&mut expected);
    put_buffer(&mut expected, Some(b"data"));
    world.state.tree.stat(world.state.tree.lookup("/a").unwrap()).encode(&mut expected);
    MultiHeader::END.encode(&mut expected);
    assert_eq!(body, Ok(expected));
    assert!(world.watches.lock().is_empty());
    let unparsable = Err(ErrorCode::MarshallingError);
    assert_eq!(world.read(OpCode::MultiRead, &multi_read(&[(4, "/a"), (3, "/a")])), unparsable);
    assert_eq!(world.read(OpCode::MultiRead, &multi_read(&[(4, "/a")])[..12]), unparsable);
}

#[test]
fn trap_24_what_is_no_read_gets_minus_6_with_zxid_minus_1() {
    let world = World::new();
    for op in [0, -1, 10, 13, 1, 999] {
        let mut expected = Vec::new();
        put_frame(&mut expected, |out| ReplyHeader { xid: 3, zxid: -1, err: -6 }.encode(out));
        assert_eq!(world.serve(3, op, b""), expected);
    }
}

#[test]
fn trap_38_a_body_that_does_not_parse_gets_minus_5() {
    let world = World::new();
    let null_path = [0xff; 5];
    let too_long = [0x7f, 0xff, 0xff, 0xff, b'/', 0];
    for op in [OpCode::Exists, OpCode::GetData, OpCode::GetChildren, OpCode::GetAcl] {
        for body in [&null_path[..], &too_long, b""] {
            assert_eq!(world.read(op, body), Err(ErrorCode::MarshallingError), "{op:?} {body:?}");
        }
    }
    let mut trailing = path_and_watch("/", 0);
    trailing.extend([1, 2, 3]);
    assert!(world.read(OpCode::GetData, &trailing).is_ok(), "trailing bytes are ignored");
}

#[test]
fn trap_13_the_notification_follows_the_reply_of_the_read_that_set_the_watch() {
    let mut world = World::new();
    world.make("/a");
    let mut out = world.serve(1, OpCode::GetData.code(), &path_and_watch("/a", 1));
    let reply_len = out.len();
    let (settings, World { state, watches, .. }) = (world.settings.clone(), &mut world);
    let mut notifier =
        crate::watch::Notifier::new(watches.get_mut(), &settings, |_, zxid, kind, path: &str| {
            put_notification(&mut out, zxid, kind, path);
        });
    let header = TxnHeader { client_id: 1, cxid: 1, zxid: 2, time_ms: 5, kind: 5 };
    let txn = Txn::SetData { op: OpCode::SetData, path: "/a".into(), data: None, version: 1 };
    state.apply(&Payload { header, txn, digest: None }, &mut notifier, false);
    let mut expected = Vec::new();
    put_notification(&mut expected, Zxid(2), EventKind::NodeDataChanged, "/a");
    assert_eq!(out[reply_len..], expected);
}

#[test]
fn identities_given_with_the_first_watch_filter_its_notification() {
    let mut world = World::new();
    let ben = digest_identity(b"ben:1");
    let acl = vec![Acl { perms: perms::ALL, id: ben.clone() }];
    world.create("/a", None, acl.clone(), CreateMode::Persistent);
    world.ids.push(ben);
    world.read(OpCode::GetData, &path_and_watch("/a", 1)).unwrap();
    let change = crate::Change {
        zxid: Zxid(2),
        kind: EventKind::NodeDataChanged,
        path: "/a",
        acl: &acl,
        parent_acl: None,
    };
    let mut told = 0;
    let watches = world.watches.get_mut();
    watches.fire(&change, &world.settings, &mut |_, _, _| told += 1);
    watches.add(WATCHER, &[], "/a", Modes::DATA);
    watches.register(WATCHER, Arc::new(vec![]));
    watches.fire(&change, &world.settings, &mut |_, _, _| told += 10);
    assert_eq!(told, 1);
}
