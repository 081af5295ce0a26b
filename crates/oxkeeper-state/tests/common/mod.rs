//! Shared by the tests: a state as a plain map, and payloads in short form.
#![allow(dead_code)]

use std::collections::BTreeMap;

use oxkeeper_proto::OpCode;
use oxkeeper_proto::Zxid;
use oxkeeper_proto::client::Acl;
use oxkeeper_proto::snapshot::{BodyDecoder, StatPersisted};
use oxkeeper_proto::txn::{CreateMode, CreateTxn, Payload, Txn, TxnHeader};
use oxkeeper_state::{Options, State, StateLoader, Tree};

/// A znode as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainNode {
    pub data: Option<Vec<u8>>,
    pub acl: Vec<Acl>,
    pub stat: StatPersisted,
}

/// All nodes by path ("/" for the root).
pub type PlainTree = BTreeMap<String, PlainNode>;

/// The nodes of a state, found through the children lists; checks all ways to a node on the way.
pub fn plain_tree(state: &State) -> PlainTree {
    let tree = &state.tree;
    let (mut nodes, mut pending) = (PlainTree::new(), vec![Tree::ROOT]);
    while let Some(node) = pending.pop() {
        let path = tree.path(node);
        assert_eq!(tree.lookup(&path), Some(node), "lookup of {path}");
        let children: Vec<_> = tree.children(node).collect();
        assert_eq!(children.len(), tree.child_count(node) as usize);
        for (child, name) in children {
            assert_eq!((tree.parent(child), tree.child(node, name)), (Some(node), Some(child)));
            pending.push(child);
        }
        let acl = state.acls.get(tree.acl(node)).expect("the ACL is known").to_vec();
        let plain = PlainNode {
            data: tree.data(node).map(<[u8]>::to_vec),
            acl,
            stat: tree.persisted(node),
        };
        assert!(nodes.insert(path, plain).is_none());
    }
    assert_eq!(nodes.len(), tree.len());
    nodes
}

/// The list with one entry, distinct for each number.
pub fn acl(number: u8) -> Vec<Acl> {
    if number == 0 {
        return Acl::open_unsafe();
    }
    vec![Acl::new(31, "digest", &format!("u{number}:h"))]
}

/// A payload without digest.
pub fn payload(session: i64, zxid: i64, txn: Txn<'_>) -> Payload<'_> {
    let header = TxnHeader {
        client_id: session,
        cxid: 0,
        zxid,
        time_ms: 1_700_000_000_000 + zxid,
        kind: txn.kind(),
    };
    Payload { header, txn, digest: None }
}

/// A create of type `op`, open ACL.
pub fn create<'a>(op: OpCode, path: &'a str, parent_cversion: i32) -> Txn<'a> {
    Txn::Create(CreateTxn {
        op,
        path: path.into(),
        data: Some(b"d"),
        acl: Acl::open_unsafe(),
        mode: CreateMode::Persistent,
        parent_cversion,
    })
}

/// A delete.
pub fn delete(path: &str) -> Txn<'_> {
    Txn::Delete { op: OpCode::Delete, path: path.into() }
}

/// Reads a snapshot body.
pub fn load(body: &[u8], zxid: Zxid) -> Result<State, String> {
    let mut loader = StateLoader::new(99, Options::default());
    let (mut at, mut decoder) = (0, BodyDecoder::new(1 << 20));
    loop {
        let (item, len) = decoder.next(&body[at..]).expect("it decodes").expect("it is whole");
        at += len;
        if item.give(&mut loader)? {
            break;
        }
    }
    assert_eq!(at, body.len());
    loader.finish(zxid)
}
