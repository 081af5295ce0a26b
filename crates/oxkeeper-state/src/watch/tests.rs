use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_proto::client::{EventKind, perms};
use oxkeeper_proto::{Acl, Zxid};

use super::*;
use crate::apply::{Change, Changes};
use crate::auth::AuthSettings;
use EventKind::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};

type Event = (WatcherId, EventKind, String);

fn fire_with(
    table: &mut WatchTable,
    kind: EventKind,
    path: &str,
    acl: &[Acl],
    parent_acl: &[Acl],
) -> Vec<Event> {
    let mut events = Vec::new();
    let parent_acl = (path != "/").then_some(parent_acl);
    let change = Change { zxid: Zxid(7), kind, path, acl, parent_acl };
    let mut emit = |watcher, kind, path: &str| events.push((watcher, kind, path.to_owned()));
    table.fire(&change, &AuthSettings::default(), &mut emit);
    events
}

fn fire(table: &mut WatchTable, kind: EventKind, path: &str) -> Vec<Event> {
    fire_with(table, kind, path, &Acl::open_unsafe(), &Acl::open_unsafe())
}

fn table(watches: &[(WatcherId, &str, Modes)]) -> WatchTable {
    let mut table = WatchTable::default();
    for (watcher, path, modes) in watches {
        table.add(*watcher, &[], path, *modes);
    }
    table
}

fn event(watcher: WatcherId, kind: EventKind, path: &str) -> Event {
    (watcher, kind, path.to_owned())
}

#[test]
fn trap_12_data_and_child_watch_of_one_connection_give_one_deletion() {
    let mut table =
        table(&[(1, "/a", Modes::DATA), (1, "/a", Modes::CHILD), (2, "/a", Modes::CHILD)]);
    let events = fire(&mut table, NodeDeleted, "/a");
    assert_eq!(events, [event(1, NodeDeleted, "/a"), event(2, NodeDeleted, "/a")]);
    assert!(table.is_empty(), "the suppressed watch is used up too");
}

#[test]
fn trap_15_recursive_watches_reach_all_below_and_never_see_children_changed() {
    let mut table = table(&[(1, "/", Modes::RECURSIVE), (2, "/a", Modes::RECURSIVE)]);
    for kind in [NodeCreated, NodeDataChanged, NodeDeleted] {
        let deep = fire(&mut table, kind, "/a/b/c/d");
        assert_eq!(deep, [event(2, kind, "/a/b/c/d"), event(1, kind, "/a/b/c/d")]);
        assert_eq!(fire(&mut table, kind, "/a").len(), 2, "the watched node itself is included");
        assert_eq!(fire(&mut table, kind, "/ab"), [event(1, kind, "/ab")]);
    }
    assert_eq!(fire(&mut table, NodeDataChanged, "/"), [event(1, NodeDataChanged, "/")]);
}

#[test]
fn a_connection_is_told_once_per_step_however_many_watches_match() {
    let mut table = table(&[
        (1, "/a/b", Modes::DATA),
        (1, "/a/b", Modes::PERSISTENT),
        (1, "/a", Modes::RECURSIVE),
        (1, "/", Modes::RECURSIVE),
        (1, "/a", Modes::CHILD),
    ]);
    let events = fire(&mut table, NodeDeleted, "/a/b");
    assert_eq!(events, [event(1, NodeDeleted, "/a/b"), event(1, NodeChildrenChanged, "/a")]);
    assert_eq!(table.modes(1, "/a/b"), Modes::PERSISTENT, "persistent ones survive the node");
    assert_eq!(table.modes(1, "/a"), Modes::RECURSIVE);
}

#[test]
fn one_shot_watches_fire_once_and_setting_one_twice_changes_nothing() {
    let mut table = table(&[(1, "/a", Modes::DATA), (1, "/a", Modes::DATA)]);
    assert_eq!(fire(&mut table, NodeDataChanged, "/a").len(), 1);
    assert!(fire(&mut table, NodeDataChanged, "/a").is_empty());
}

#[test]
fn a_data_change_does_not_concern_child_watches() {
    let mut table = table(&[(1, "/a", Modes::CHILD), (1, "/", Modes::CHILD)]);
    assert!(fire(&mut table, NodeDataChanged, "/a").is_empty());
    assert_eq!(fire(&mut table, NodeCreated, "/a"), [event(1, NodeChildrenChanged, "/")]);
}

#[test]
fn trap_16_filtered_watches_are_used_up_by_the_acl_of_the_changed_node() {
    let secret = [Acl::new(perms::ALL, "digest", "ben:1")];
    let open = Acl::open_unsafe();
    let watches = [
        (1, "/a/b", Modes::DATA),
        (2, "/a/b", Modes::DATA),
        (3, "/a", Modes::RECURSIVE),
        (1, "/a", Modes::CHILD),
    ];
    let mut table = table(&watches);
    table.register(2, Arc::new(vec![Id::new("digest", "ben:1")]));
    let events = fire_with(&mut table, NodeDeleted, "/a/b", &secret, &open);
    assert_eq!(events, [event(2, NodeDeleted, "/a/b"), event(1, NodeChildrenChanged, "/a")]);
    assert_eq!(table.modes(1, "/a/b"), Modes::NONE);
    assert_eq!(table.modes(3, "/a"), Modes::RECURSIVE);
    // The parent's ACL decides on its children.
    table.add(1, &[], "/a", Modes::CHILD);
    assert!(fire_with(&mut table, NodeCreated, "/a/c", &secret, &secret).is_empty());
}

#[test]
fn trap_17_removing_watches_tells_nobody_and_check_looks_at_modes() {
    let mut table = table(&[(1, "/a", Modes::PERSISTENT), (1, "/a", Modes::DATA)]);
    for (kind, found) in [
        (WatchKind::Children, false),
        (WatchKind::Data, true),
        (WatchKind::Any, true),
        (WatchKind::Persistent, true),
        (WatchKind::Recursive, false),
    ] {
        assert_eq!(table.contains(1, "/a", kind), found, "{kind:?}");
    }
    assert!(!table.contains(2, "/a", WatchKind::Any) && !table.contains(1, "/b", WatchKind::Any));
    assert!(!table.remove(1, "/a", WatchKind::Children));
    assert!(table.remove(1, "/a", WatchKind::Data));
    assert!(!table.remove(1, "/a", WatchKind::Data));
    assert_eq!(table.modes(1, "/a"), Modes::PERSISTENT);
    assert!(table.remove(1, "/a", WatchKind::Persistent));
    assert!(table.is_empty());
    assert_eq!(WatchKind::from_code(0), None);
    assert_eq!(WatchKind::from_code(6), None);
}

#[test]
fn the_end_of_a_connection_takes_its_watches_along() {
    let mut table = WatchTable::default();
    for n in 0..1000 {
        table.add(1, &[], &format!("/{n}"), Modes::DATA);
        table.add(2, &[], &format!("/{n}"), Modes::CHILD | Modes::RECURSIVE);
    }
    table.unregister(1);
    assert_eq!((table.watch_count(), table.recursive), (2000, 1000));
    table.unregister(2);
    assert!(table.is_empty());
    assert_eq!((table.paths.len(), table.watchers.len(), table.pairs.len()), (0, 0, 0));
    assert_eq!((table.by_path.len(), table.recursive), (0, 0));
}

#[test]
fn operators_see_data_watches_only() {
    let table = table(&[
        (1, "/a", Modes::DATA),
        (1, "/b", Modes::CHILD),
        (2, "/a", Modes::PERSISTENT),
        (2, "/c", Modes::RECURSIVE),
    ]);
    assert_eq!(table.summary(), WatchSummary { connections: 2, paths: 2, total: 3 });
    assert_eq!(table.by_path(), BTreeMap::from([("/a", vec![1, 2]), ("/c", vec![2])]));
    assert_eq!(table.by_watcher(), BTreeMap::from([(1, vec!["/a"]), (2, vec!["/a", "/c"])]));
    assert_eq!(table.watch_count(), 5);
}

#[test]
fn trap_14_notifications_carry_the_zxid_of_the_change() {
    let mut table = table(&[(1, "/a", Modes::DATA)]);
    let settings = AuthSettings::default();
    let mut seen = Vec::new();
    let mut notifier = Notifier::new(&mut table, &settings, |watcher, zxid, kind, path: &str| {
        seen.push((watcher, zxid, kind, path.to_owned()));
    });
    assert!(notifier.interested());
    let open = Acl::open_unsafe();
    let change = Change {
        zxid: Zxid(0x2_0000_0003),
        kind: NodeDataChanged,
        path: "/a",
        acl: &open,
        parent_acl: Some(&open),
    };
    notifier.changed(&change);
    assert!(!notifier.interested(), "nobody is left to tell");
    assert_eq!(seen, [(1, Zxid(0x2_0000_0003), NodeDataChanged, "/a".to_owned())]);
}

/// Watches as the specification describes them: two tables of sets.
#[derive(Default)]
struct Naive {
    data: BTreeSet<(String, WatcherId, u8)>,
    child: BTreeSet<(String, WatcherId, u8)>,
}

const ONE_SHOT: u8 = 0;
const PERSISTENT: u8 = 1;
const RECURSIVE: u8 = 2;

impl Naive {
    fn fire(&mut self, kind: EventKind, path: &str) -> BTreeSet<(WatcherId, i32, String)> {
        let below = |top: &str| top == "/" || path.starts_with(&format!("{top}/"));
        let mut told = BTreeSet::new();
        for (at, watcher, mode) in &self.data {
            if at == path || (*mode == RECURSIVE && below(at)) {
                told.insert(*watcher);
            }
        }
        self.data.retain(|(at, _, mode)| at != path || *mode != ONE_SHOT);
        if kind == NodeDeleted {
            told.extend(self.child.iter().filter(|(at, ..)| at == path).map(|(_, w, _)| *w));
            self.child.retain(|(at, _, mode)| at != path || *mode != ONE_SHOT);
        }
        let named = |w: &WatcherId, kind: EventKind, path: &str| (*w, kind as i32, path.to_owned());
        let mut events: BTreeSet<_> = told.iter().map(|w| named(w, kind, path)).collect();
        if let Some(parent) = crate::path::parent(path).filter(|_| kind != NodeDataChanged) {
            let of_parent = self.child.iter().filter(|(at, ..)| at == parent);
            events.extend(of_parent.map(|(_, w, _)| named(w, NodeChildrenChanged, parent)));
            self.child.retain(|(at, _, mode)| at != parent || *mode != ONE_SHOT);
        }
        events
    }

    fn add(&mut self, watcher: WatcherId, path: &str, modes: Modes) {
        let key = |mode| (path.to_owned(), watcher, mode);
        for (mode, data, child) in [
            (ONE_SHOT, Modes::DATA, Modes::CHILD),
            (PERSISTENT, Modes::DATA_PERSISTENT, Modes::CHILD_PERSISTENT),
            (RECURSIVE, Modes::RECURSIVE, Modes::NONE),
        ] {
            if modes.intersects(data) {
                self.data.insert(key(mode));
            }
            if modes.intersects(child) {
                self.child.insert(key(mode));
            }
        }
    }

    fn remove(&mut self, watcher: WatcherId, path: &str, kind: WatchKind) -> bool {
        let before = self.data.len() + self.child.len();
        let gone = |mode: &u8, one_shot| match kind {
            WatchKind::Any => true,
            WatchKind::Persistent => *mode == PERSISTENT,
            WatchKind::Recursive => *mode == RECURSIVE,
            _ => *mode == ONE_SHOT && kind == one_shot,
        };
        let this = |at: &str, w: &WatcherId| at == path && *w == watcher;
        self.data.retain(|(at, w, mode)| !(this(at, w) && gone(mode, WatchKind::Data)));
        self.child.retain(|(at, w, mode)| !(this(at, w) && gone(mode, WatchKind::Children)));
        self.data.len() + self.child.len() < before
    }
}

#[test]
fn random_watches_fire_as_in_a_naive_model() {
    let mut state = 1u64;
    let mut below = move |n: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let paths = ["/", "/a", "/b", "/a/a", "/a/b", "/ab", "/a/a/a"];
    let all_modes = [Modes::DATA, Modes::CHILD, Modes::PERSISTENT, Modes::RECURSIVE];
    let (mut table, mut naive) = (WatchTable::new(3), Naive::default());
    for _ in 0..30_000 {
        let watcher = below(5);
        let path = paths[below(7) as usize];
        match below(12) {
            0..6 => {
                let modes = all_modes[below(4) as usize];
                table.add(watcher, &[], path, modes);
                naive.add(watcher, path, modes);
            }
            6..8 => {
                let kind = WatchKind::from_code(below(5) as i32 + 1).unwrap();
                let removed = table.remove(watcher, path, kind);
                assert_eq!(removed, naive.remove(watcher, path, kind));
            }
            8 if below(10) == 0 => {
                table.unregister(watcher);
                naive.data.retain(|(_, w, _)| *w != watcher);
                naive.child.retain(|(_, w, _)| *w != watcher);
            }
            _ => {
                let kind = [NodeCreated, NodeDeleted, NodeDataChanged][below(3) as usize];
                let events = fire(&mut table, kind, path);
                let named = |(w, kind, path): &Event| (*w, *kind as i32, path.clone());
                let set: BTreeSet<_> = events.iter().map(named).collect();
                assert_eq!(set.len(), events.len(), "nobody is told the same twice");
                assert_eq!(set, naive.fire(kind, path));
            }
        }
        let pairs = |t: &BTreeSet<(String, WatcherId, u8)>| {
            t.iter().map(|(path, w, _)| (path.clone(), *w)).collect::<BTreeSet<_>>().len()
        };
        assert_eq!(table.watch_count(), pairs(&naive.data) + pairs(&naive.child));
    }
}
