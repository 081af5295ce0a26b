//! Recorded directories on a disk in memory, and small helpers.
#![allow(clippy::unwrap_used, dead_code)] // helpers of tests are tests; not each test uses each

use std::path::{Path, PathBuf};

use oxkeeper_proto::Zxid;
use oxkeeper_proto::txn::{
    CreateMode, CreateTxn, DIGEST_VERSION, Payload, Txn, TxnDigest, TxnHeader,
};
use oxkeeper_proto::{Acl, OpCode};
use oxkeeper_state::{Options, State, StateDatabase};
use oxkeeper_storage::log_file::{HEADER, put_record};
use oxkeeper_storage::{
    CompleteSnapshot, Disk, LoadOptions, Loaded, LogOptions, MemDisk, Place, StorageError, TxnLog,
    load, names,
};
use serde_json::Value;

pub fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/storage")
}

pub fn json(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

pub fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The folders with recorded directories.
pub fn recorded() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(vectors())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| vectors().join(name).join("data").is_dir())
        .collect();
    names.sort();
    assert_eq!(names.len(), 16);
    names
}

/// A disk with the files of `directory/version-2`.
pub fn disk_of(directory: &Path) -> MemDisk {
    let disk = MemDisk::new("recorded");
    for entry in std::fs::read_dir(directory.join("version-2")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        disk.put(Place::Logs, name, &std::fs::read(&path).unwrap());
    }
    disk
}

pub fn load_with(
    disk: &MemDisk,
    options: &LoadOptions,
) -> Result<(State, Loaded<()>), StorageError> {
    let state_options = Options {
        owners: oxkeeper_state::OwnerRules { extended_types: true, ..Default::default() },
        ..Options::default()
    };
    let loaded = load(disk, options, || StateDatabase::new(1, state_options))?;
    let rest = Loaded {
        database: (),
        snapshot: loaded.snapshot,
        last_zxid: loaded.last_zxid,
        needs_snapshot: loaded.needs_snapshot,
        recent: loaded.recent,
        replayed: loaded.replayed,
        contiguous_from: loaded.contiguous_from,
        lost_tail: loaded.lost_tail,
        warnings: loaded.warnings,
    };
    Ok((loaded.database.into_state(), rest))
}

pub fn load_state(disk: &MemDisk) -> Result<(State, Loaded<()>), StorageError> {
    load_with(disk, &LoadOptions::default())
}

/// A payload of `zxid` that is at least `len` bytes long: an error transaction and, behind its
/// record, filler that readers ignore. The filler is `fill` throughout.
pub fn payload(zxid: Zxid, len: usize, fill: u8) -> Vec<u8> {
    let header = TxnHeader { client_id: 7, cxid: 1, zxid: zxid.0, time_ms: zxid.0, kind: -1 };
    let mut bytes = Vec::new();
    Payload { header, txn: Txn::Error(-101), digest: None }.encode(&mut bytes);
    bytes.resize(bytes.len().max(len), fill);
    bytes
}

/// A snapshot of nothing but the nodes that every tree has.
pub fn put_snapshot(disk: &MemDisk, zxid: Zxid) {
    snapshot(disk, zxid).publish().unwrap();
}

/// The same, not yet named.
pub fn snapshot(disk: &MemDisk, zxid: Zxid) -> CompleteSnapshot<MemDisk> {
    try_snapshot(disk, zxid).unwrap()
}

/// The same, on a disk that may fail.
pub fn try_snapshot(disk: &MemDisk, zxid: Zxid) -> Result<CompleteSnapshot<MemDisk>, StorageError> {
    use oxkeeper_proto::snapshot::{StatPersisted, put_node, put_nodes_end, put_tables};
    let mut body = Vec::new();
    put_tables(&mut body, [].into_iter(), [].into_iter());
    for path in ["", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
        put_node(&mut body, path, Some(b""), -1, &StatPersisted::default());
    }
    put_nodes_end(&mut body);
    let mut writer = oxkeeper_storage::SnapshotWriter::create_adopted(
        disk.clone(),
        zxid,
        oxkeeper_storage::Compression::None,
    )?;
    writer.write(&body)?;
    writer.complete(&Default::default())
}

/// A log that goes on behind `last`.
pub fn open_log(disk: &MemDisk, last: Zxid) -> TxnLog<MemDisk> {
    TxnLog::open(disk.clone(), LogOptions::default(), last).unwrap()
}

/// Logs these records of sixty bytes behind `last`.
pub fn append(disk: &MemDisk, last: Zxid, zxids: impl IntoIterator<Item = Zxid>) -> Zxid {
    let mut log = open_log(disk, last);
    for zxid in zxids {
        log.append(zxid, &payload(zxid, 60, 9)).unwrap();
    }
    log.sync().unwrap().zxid
}

/// Deterministic numbers for [`MemDisk::crash`].
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A transaction that changes the tree of `state`, with the digest that its leader would put into it.
pub fn digested(state: &mut State, zxid: Zxid, path: &str) -> Vec<u8> {
    let header = TxnHeader { client_id: 7, cxid: 1, zxid: zxid.0, time_ms: 1, kind: 1 };
    let create = CreateTxn {
        op: OpCode::Create,
        path: path.into(),
        data: Some(b"x"),
        acl: Acl::open_unsafe(),
        mode: CreateMode::Persistent,
        parent_cversion: -1,
    };
    let mut payload = Payload { header, txn: Txn::Create(create), digest: None };
    state.apply(&payload, &mut (), false);
    payload.digest = Some(TxnDigest { version: DIGEST_VERSION, tree: state.digest() as i64 });
    let mut bytes = Vec::new();
    payload.encode(&mut bytes);
    bytes
}

/// A log as Apache writes it: nothing is noted of it anywhere.
pub fn put_log(disk: &MemDisk, first: Zxid, payloads: &[Vec<u8>]) {
    let mut bytes = HEADER.to_vec();
    for payload in payloads {
        put_record(&mut bytes, payload);
    }
    disk.put(Place::Logs, &names::log(first), &bytes);
}

/// The logs and snapshots there.
pub fn data_files(disk: &MemDisk) -> Vec<String> {
    let mut names = disk.list(Place::Snapshots).unwrap();
    names.extend(disk.list(Place::Logs).unwrap());
    names.retain(|name| name.starts_with("log.") || name.starts_with("snapshot."));
    names.sort();
    names.dedup();
    names
}
