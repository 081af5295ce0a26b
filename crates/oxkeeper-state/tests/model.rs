//! The state against a naive model: any transactions, sensible or not, have the effects that
//! `docs/spec/storage-formats.md` 8.1 says, and the digest that section 9 says.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::collections::BTreeMap;

use common::{PlainNode, PlainTree, acl, payload, plain_tree};
use oxkeeper_proto::client::Acl;
use oxkeeper_proto::snapshot::StatPersisted;
use oxkeeper_proto::txn::{CreateMode, CreateTxn, Payload, Txn};
use oxkeeper_proto::{OpCode, Zxid};
use oxkeeper_state::{OwnerKind, OwnerRules, State};
use proptest::collection::vec;
use proptest::prelude::*;

/// Everything in maps, nothing kept that can be computed.
struct Model {
    nodes: PlainTree,
    sessions: BTreeMap<i64, i32>,
    last_zxid: i64,
}

fn parent_of(path: &str) -> Option<String> {
    let (parent, name) = path.rsplit_once('/')?;
    match (parent, name) {
        (_, "") | ("/", _) => None,
        ("", _) => Some("/".to_owned()),
        _ => Some(parent.to_owned()),
    }
}

impl Model {
    fn apply(&mut self, payload: &Payload<'_>) {
        self.txn(&payload.txn, payload);
        self.last_zxid = self.last_zxid.max(payload.header.zxid);
    }

    fn txn(&mut self, txn: &Txn<'_>, payload: &Payload<'_>) {
        let header = payload.header;
        match txn {
            Txn::Create(create) => self.create(create, payload),
            Txn::Delete { path, .. } => self.delete(path, header.zxid),
            Txn::SetData { path, data, version, .. } => {
                let Some(node) = self.node(path) else { return };
                node.data = data.map(<[u8]>::to_vec);
                node.stat.version = *version;
                node.stat.mtime = header.time_ms;
                node.stat.mzxid = header.zxid;
            }
            Txn::SetAcl { path, acl, version } => {
                let Some(node) = self.node(path) else { return };
                node.acl = acl.clone();
                node.stat.aversion = *version;
            }
            Txn::Multi(txns) => {
                if !txns.iter().any(|txn| matches!(txn, Txn::Error(_))) {
                    txns.iter().for_each(|txn| self.txn(txn, payload));
                }
            }
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(header.client_id, *timeout_ms);
            }
            Txn::CloseSession { paths } => {
                self.sessions.remove(&header.client_id);
                for path in paths.iter().flatten() {
                    self.delete(path, header.zxid);
                }
                for path in self.ephemerals(header.client_id) {
                    self.delete(&path, header.zxid);
                }
            }
            Txn::Check { .. } | Txn::Error(_) => {}
        }
    }

    fn node(&mut self, path: &str) -> Option<&mut PlainNode> {
        self.nodes.get_mut(if path.is_empty() { "/" } else { path })
    }

    fn create(&mut self, create: &CreateTxn<'_>, payload: &Payload<'_>) {
        let (zxid, time_ms) = (payload.header.zxid, payload.header.time_ms);
        let Some(parent) = parent_of(&create.path) else { return };
        let exists = self.nodes.contains_key(&*create.path);
        let Some(parent) = self.nodes.get_mut(&parent) else { return };
        if !exists || create.op == OpCode::Create {
            let stored = parent.stat.cversion;
            let raised =
                if create.parent_cversion == -1 { stored + 1 } else { create.parent_cversion };
            if raised > stored {
                parent.stat.cversion = raised;
                parent.stat.pzxid = zxid;
            }
        }
        if exists {
            if create.op == OpCode::Create {
                self.node(&create.path).unwrap().acl = create.acl.clone();
            }
            return;
        }
        let ephemeral_owner = match create.mode {
            CreateMode::Persistent => 0,
            CreateMode::Ephemeral => payload.header.client_id,
            CreateMode::Container => i64::MIN,
            CreateMode::Ttl { ttl_ms } => (0xff << 56) | ttl_ms,
        };
        let stat = StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time_ms,
            mtime: time_ms,
            ephemeral_owner,
            ..StatPersisted::default()
        };
        let data = create.data.map(<[u8]>::to_vec);
        self.nodes
            .insert(create.path.to_string(), PlainNode { data, acl: create.acl.clone(), stat });
    }

    fn delete(&mut self, path: &str, zxid: i64) {
        let Some(parent) = parent_of(path) else { return };
        let Some(parent) = self.nodes.get_mut(&parent) else { return };
        parent.stat.pzxid = parent.stat.pzxid.max(zxid);
        let below = format!("{path}/");
        self.nodes.retain(|other, _| other != path && !other.starts_with(&below));
    }

    fn ephemerals(&self, session: i64) -> Vec<String> {
        let its = |node: &PlainNode| session != 0 && node.stat.ephemeral_owner == session;
        self.nodes.iter().filter(|(_, node)| its(node)).map(|(path, _)| path.clone()).collect()
    }

    fn digest(&self) -> u64 {
        let mut sum = 0u64;
        for (path, node) in &self.nodes {
            if path.starts_with("/zookeeper/") {
                continue;
            }
            let mut bytes = if path == "/" { vec![] } else { path.clone().into_bytes() };
            bytes.extend(node.data.iter().flatten());
            let stat = &node.stat;
            for long in [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime] {
                bytes.extend(long.to_be_bytes());
            }
            for int in [stat.version, stat.cversion, stat.aversion] {
                bytes.extend(int.to_be_bytes());
            }
            bytes.extend(stat.ephemeral_owner.to_be_bytes());
            sum = sum.wrapping_add(crc32fast::hash(&bytes).into());
        }
        sum
    }

    fn assert_equals(&self, state: &State) {
        let nodes = plain_tree(state);
        assert_eq!(nodes, self.nodes);
        assert_eq!(state.digest(), self.digest());
        assert_eq!(state.last_zxid(), Zxid(self.last_zxid));
        assert_eq!(state.sessions().collect::<BTreeMap<_, _>>(), self.sessions);
        let mut ephemerals = 0;
        for (session, count) in state.sessions_with_ephemerals() {
            let paths: Vec<String> = state.ephemerals(session).collect();
            assert_eq!((paths.len(), &paths), (count, &self.ephemerals(session)));
            ephemerals += count;
        }
        let rules = OwnerRules::default();
        let of = |is: fn(OwnerKind) -> bool| {
            self.nodes.values().filter(|node| is(rules.kind(node.stat.ephemeral_owner))).count()
        };
        assert_eq!(ephemerals, of(|kind| matches!(kind, OwnerKind::Ephemeral(_))));
        assert_eq!(state.containers().len(), of(|kind| kind == OwnerKind::Container));
        assert_eq!(state.ttl_nodes().len(), of(|kind| matches!(kind, OwnerKind::Ttl { .. })));
        let data_bytes: usize = self.nodes.values().flat_map(|node| &node.data).map(Vec::len).sum();
        let path_bytes: usize = self.nodes.keys().map(String::len).sum();
        assert_eq!(state.approximate_data_size(), (data_bytes + path_bytes) as u64);
        // The built-in nodes have no entry; all other lists that are used have one, and no other.
        let built_in = ["/", "/zookeeper", "/zookeeper/quota"];
        let mut lists: Vec<&Vec<Acl>> = self.nodes.values().map(|node| &node.acl).collect();
        lists.sort();
        lists.dedup();
        assert!(state.acls.len() <= lists.len() && lists.len() <= state.acls.len() + 1);
        for path in self.nodes.keys().filter(|path| !built_in.contains(&path.as_str())) {
            let node = state.tree.lookup(path).unwrap();
            assert_ne!(state.tree.acl(node), -1, "{path}");
            let below = format!("{path}/");
            let count = self.nodes.keys().filter(|other| other.starts_with(&below)).count();
            assert_eq!(state.tree.descendants_count(node) as usize, count);
        }
    }
}

const PATHS: [&str; 22] = [
    "/a",
    "/b",
    "/c",
    "/a/a",
    "/a/b",
    "/a/c",
    "/b/a",
    "/b/b",
    "/a/b/a",
    "/a/b/c",
    "/a/b/c/d",
    "/zookeeper",
    "/zookeeper/x",
    "/zookeeper/x/y",
    "/zookeeper/quota",
    "/",
    "",
    "//",
    "/a/",
    "a",
    "//a",
    "/a//b",
];

/// A transaction in numbers, so that failures shrink well.
#[derive(Clone, Debug)]
struct Step {
    kind: u8,
    path: usize,
    data: Option<usize>,
    number: i32,
    session: i64,
}

fn step() -> impl Strategy<Value = Step> {
    let data = prop_oneof![Just(None), (0..300usize).prop_map(Some), Just(Some(2000))];
    (0..20u8, 0..PATHS.len(), data, -2..6i32, 1..4i64)
        .prop_map(|(kind, path, data, number, session)| Step { kind, path, data, number, session })
}

const BYTES: [u8; 2000] = [7; 2000];

impl Step {
    fn txn(&self, nested: bool) -> Txn<'static> {
        let path = PATHS[self.path].into();
        let data = self.data.map(|len| &BYTES[..len]);
        let version = self.number;
        let (op, mode) = match self.kind {
            0..=3 => (OpCode::Create, CreateMode::Persistent),
            4..=5 => (OpCode::Create, CreateMode::Ephemeral),
            6 => (OpCode::Create2, CreateMode::Persistent),
            7 => (OpCode::Create2, CreateMode::Ephemeral),
            8 => (OpCode::CreateContainer, CreateMode::Container),
            9 => (OpCode::CreateTtl, CreateMode::Ttl { ttl_ms: 5 }),
            10..=11 => return Txn::Delete { op: OpCode::Delete, path },
            12 => return Txn::Delete { op: OpCode::DeleteContainer, path },
            13..=14 => return Txn::SetData { op: OpCode::SetData, path, data, version },
            15 if nested => return Txn::Check { path, version },
            15 => return Txn::SetAcl { path, acl: acl(self.number.rem_euclid(4) as u8), version },
            16 if nested => return Txn::Delete { op: OpCode::Delete, path },
            16 => return Txn::CreateSession { timeout_ms: self.number },
            17 if nested => return Txn::Delete { op: OpCode::Delete, path },
            17 => return Txn::CloseSession { paths: self.data.map(|_| vec![path]) },
            18 => return Txn::Error(-101),
            _ => return Txn::SetData { op: OpCode::Reconfig, path, data, version },
        };
        let acl = acl((self.number + 2) as u8 % 4);
        Txn::Create(CreateTxn { op, path, data, acl, mode, parent_cversion: self.number })
    }
}

fn txns() -> impl Strategy<Value = Vec<Vec<Step>>> {
    // One step is a transaction of its own, more are a multi.
    vec(prop_oneof![9 => vec(step(), 1), 1 => vec(step(), 0..5)], 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_history_has_the_effects_that_the_rules_say(history in txns(), back in 0..3i64) {
        let mut state = State::new(5);
        let mut model = Model {
            nodes: plain_tree(&state), sessions: BTreeMap::new(), last_zxid: 0,
        };
        for (index, steps) in history.iter().enumerate() {
            let txn = match &steps[..] {
                [step] => step.txn(false),
                steps => Txn::Multi(steps.iter().map(|step| step.txn(true)).collect()),
            };
            // A replay may go back.
            let zxid = (index as i64 + 1 - back * i64::from(index % 7 == 0)).max(1);
            let payload = payload(steps.first().map_or(1, |step| step.session), zxid, txn);
            state.apply(&payload, &mut (), index % 2 == 0);
            model.apply(&payload);
            if index % 8 == 0 {
                model.assert_equals(&state);
            }
        }
        model.assert_equals(&state);
    }
}
