//! Directories recorded from Apache ZooKeeper: every snapshot loads, every record applies with the
//! digest it carries, and the tree is the recorded one.
#![allow(clippy::disallowed_methods, reason = "it reads recorded files, or how much to run")]
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oxkeeper_proto::snapshot::{BodyDecoder, StatPersisted};
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{Reader, Zxid};
use oxkeeper_state::digest::node_digest;
use oxkeeper_state::{Options, State, StateLoader};
use serde_json::Value;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../oxkeeper-storage/tests/vectors/storage")
}

fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn files(dir: &Path, prefix: &str) -> BTreeMap<i64, PathBuf> {
    let entries = std::fs::read_dir(dir.join("version-2")).unwrap();
    let zxid = |path: &Path| {
        let name = path.file_name()?.to_str()?.strip_prefix(prefix)?;
        i64::from_str_radix(name, 16).ok()
    };
    entries
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| Some((zxid(&path)?, path)))
        .collect()
}

/// Log payloads, in order. Padding or the end of the file ends it.
fn log_payloads(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let mut reader = Reader::new(&bytes[16..]);
    let mut payloads = Vec::new();
    while reader.remaining() >= 12 {
        reader.long().unwrap();
        let len = reader.int().unwrap();
        if len == 0 {
            break;
        }
        payloads.push(reader.take(len as usize).unwrap().to_vec());
        assert_eq!(reader.take(1).unwrap(), [0x42]);
    }
    payloads
}

/// Loads an uncompressed snapshot file, its digest section included.
fn load(path: &Path, name: i64) -> State {
    let bytes = std::fs::read(path).unwrap();
    let (mut at, mut decoder) = (16, BodyDecoder::new(1 << 20));
    let mut loader = StateLoader::new(1, Options::default());
    loop {
        let (item, len) = decoder.next(&bytes[at..]).unwrap().expect("a whole snapshot");
        at += len;
        if item.give(&mut loader).unwrap() {
            break;
        }
    }
    let mut state = loader.finish(Zxid(name)).unwrap();
    let mut rest = Reader::new(&bytes[at + 13..]);
    if matches!(rest.remaining(), 33 | 54) {
        let (zxid, version, digest) =
            (rest.long().unwrap(), rest.int().unwrap(), rest.long().unwrap());
        assert_eq!(version, 2);
        state.expect_digest(Zxid(zxid), digest as u64);
    }
    state
}

/// Applies all records after the state's last zxid; returns how many carried a digest.
fn replay(state: &mut State, dir: &Path) -> usize {
    let mut digests = 0;
    for log in files(dir, "log.").values() {
        for bytes in log_payloads(log) {
            let payload = Payload::decode(&bytes).unwrap();
            if Zxid(payload.header.zxid) <= state.last_zxid() {
                continue;
            }
            state.apply(&payload, &mut (), true);
            digests += usize::from(payload.digest.is_some());
            assert_eq!(state.last_digest_mismatch(), None, "{}: {payload:?}", log.display());
        }
    }
    digests
}

fn long(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The whole tree as the recording client saw it.
fn assert_tree(state: &State, expected: &Value, what: &str) {
    let expected = expected.as_object().unwrap();
    assert_eq!(state.tree.len(), expected.len(), "{what}");
    for (path, want) in expected {
        let node = state.tree.lookup(path).unwrap_or_else(|| panic!("{what}: {path} is missing"));
        assert_eq!(&state.tree.path(node), path);
        let (stat, field) = (state.tree.stat(node), |name: &str| long(&want["stat"][name]));
        let longs = [
            ("czxid", stat.czxid),
            ("mzxid", stat.mzxid),
            ("pzxid", stat.pzxid),
            ("ctime", stat.ctime),
            ("mtime", stat.mtime),
            ("version", stat.version.into()),
            ("cversion", stat.cversion.into()),
            ("aversion", stat.aversion.into()),
            ("ephemeralOwner", stat.ephemeral_owner),
            ("dataLength", stat.data_length.into()),
            ("numChildren", stat.num_children.into()),
        ];
        for (name, value) in longs {
            // An ensemble member writes the config node itself, with the time of its own clock.
            if path == "/zookeeper/config" && name == "mtime" && stat.mzxid != 0 {
                continue;
            }
            assert_eq!(value, field(name), "{what}: {name} of {path}");
        }
        let data = match &want["data"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone().into_bytes()),
            hex => Some(from_hex(hex["hex"].as_str().unwrap())),
        };
        assert_eq!(state.tree.data(node), data.as_deref(), "{what}: data of {path}");
        let acl = state.acls.get(state.tree.acl(node)).unwrap();
        let acl: Vec<Value> = acl
            .iter()
            .map(|acl| serde_json::json!([acl.perms, acl.id.scheme, acl.id.id]))
            .collect();
        let redacted = |acl: &Value| acl.to_string().contains("\"digest\"");
        for (have, want) in acl.iter().zip(want["acl"].as_array().unwrap()) {
            assert!(have == want || redacted(want), "{what}: ACL of {path}: {have} {want}");
        }
        let mut children: Vec<&str> = state.tree.children(node).map(|(_, name)| name).collect();
        children.sort_unstable();
        assert_eq!(serde_json::json!(children), want["children"], "{what}: children of {path}");
    }
}

/// Loads a directory from each of its snapshots; returns the number of digests compared.
fn check_directory(name: &str) -> usize {
    let dir = vectors().join(name);
    let expected = json(&dir.join("expected.json"));
    let mut digests = 0;
    for (zxid, snapshot) in files(&dir.join("data"), "snapshot.") {
        let mut state = load(&snapshot, zxid);
        let mut logs = files(&dir.join("data"), "log.").into_keys();
        let complete = logs.next().is_none_or(|first| first <= zxid + 1);
        if !complete {
            continue;
        }
        digests += replay(&mut state, &dir.join("data"));
        assert_eq!(state.digest_mismatches(), 0);
        assert_tree(&state, &expected["tree"], &format!("{name} from {zxid:#x}"));
    }
    digests
}

#[test]
fn standalone_histories_give_their_trees_and_digests() {
    for name in ["standalone-3.8.0-alltxns", "standalone-3.9.5-alltxns"] {
        assert_eq!(check_directory(name), 45, "{name}");
    }
    assert!(check_directory("standalone-3.9.5-snapshot-gz") > 0);
    assert!(check_directory("standalone-3.9.5-snapshot-snappy") > 0);
}

#[test]
fn fuzzy_snapshots_replay_to_the_same_tree_from_each_of_them() {
    for name in ["standalone-3.8.0-restarted-rolled", "standalone-3.9.5-restarted-rolled"] {
        assert!(check_directory(name) > 100, "{name}");
    }
}

#[test]
fn a_history_without_digests_or_path_lists_gives_its_tree() {
    assert_eq!(check_directory("standalone-3.9.5-digest-off"), 0);
    check_directory("standalone-3.9.5-closesessiontxn-off");
}

#[test]
fn ensemble_histories_give_their_trees_and_digests() {
    for name in [
        "ensemble-3.9.5-server1",
        "ensemble-3.9.5-server2",
        "ensemble-3.9.5-server3",
        "ensemble-3.9.5-server4",
        "ensemble-mixed-server1-3.9.5",
        "ensemble-mixed-server2-3.9.5",
        "ensemble-mixed-server3-3.8.0",
    ] {
        check_directory(name);
    }
}

#[test]
fn every_snapshot_has_the_digest_recorded_for_its_nodes() {
    let mut checked = 0;
    for entry in std::fs::read_dir(vectors()).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.join("records.json").exists() {
            continue;
        }
        let records = json(&dir.join("records.json"));
        let Ok(snapshots) = std::fs::read_dir(dir.join("data/version-2")) else { continue };
        drop(snapshots);
        for (zxid, path) in files(&dir.join("data"), "snapshot.") {
            let state = load(&path, zxid);
            let recorded = &records[path.file_name().unwrap().to_str().unwrap()];
            let digest = recorded["treeDigestOfNodes"].as_u64().unwrap();
            assert_eq!(state.digest(), digest, "{}", path.display());
            assert_eq!(state.tree.len() as i64, long(&recorded["nodeCount"]));
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn node_digests_are_those_of_the_reference() {
    let unit = json(&vectors().join("unit.json"));
    assert_eq!(State::new(7).digest(), unit["emptyTreeDigest"].as_u64().unwrap());
    for node in unit["nodeDigest"].as_array().unwrap() {
        let field = |name: &str| long(&node["stat"][name]);
        let stat = StatPersisted {
            czxid: field("czxid"),
            mzxid: field("mzxid"),
            ctime: field("ctime"),
            mtime: field("mtime"),
            version: field("version") as i32,
            cversion: field("cversion") as i32,
            aversion: field("aversion") as i32,
            ephemeral_owner: field("ephemeralOwner"),
            pzxid: field("pzxid"),
        };
        let data = node["dataHex"].as_str().map(from_hex);
        let path = node["path"].as_str().unwrap();
        let digest = node_digest(path, data.as_deref(), &stat);
        assert_eq!(digest, node["nodeDigest"].as_u64().unwrap(), "{path}");
    }
}
