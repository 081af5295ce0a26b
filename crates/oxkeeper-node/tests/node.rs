//! The disk queue, and streams of a tree, on a disk in memory.
#![allow(clippy::unwrap_used)]

use oxkeeper_node::{
    Done, LoadSettings, NodeSettings, Op, SnapshotSettings, SnapshotStep, Started, StepSize,
    StoreSettings, StreamStep, load_state, start,
};
use oxkeeper_proto::Zxid;
use oxkeeper_proto::txn::{Payload, Txn, TxnHeader};
use oxkeeper_replica::limits::LimitSettings;
use oxkeeper_replica::{Input, Now};
use oxkeeper_state::auth::AuthSettings;
use oxkeeper_state::prepare::PrepareSettings;
use oxkeeper_state::{Options, State};
use oxkeeper_storage::{Compression, Disk, LoadOptions, LogOptions, MemDisk, Place, StorageError};
use oxkeeper_zab::{DiskRequest, History, Input as Z, Proposal};

fn store_settings() -> StoreSettings {
    StoreSettings {
        log: LogOptions { preallocate_kib: 4, ..LogOptions::default() },
        snap_count: 4,
        snap_size_kib: -1,
        log_size_kib: -1,
        snapshot_size_factor: 0.33,
        snapshot: SnapshotSettings { compression: Compression::None, last_zxid_section: true },
        load: LoadSettings { options: LoadOptions::default(), seed: 1, state: Options::default() },
    }
}

const NOW: Now = Now { mono_ms: 1, wall_ms: 1_700_000_000_000 };

/// A standalone server on `disk`.
fn solo(disk: &MemDisk) -> Started<MemDisk> {
    let loaded = load_state(disk, &store_settings().load, &|_| {}).unwrap();
    let settings = NodeSettings {
        store: store_settings(),
        clients: oxkeeper_replica::ClientPortSettings {
            server: 1,
            tick_ms: 2000,
            min_session_timeout_ms: 4000,
            max_session_timeout_ms: 40_000,
            auth: AuthSettings::default(),
            limits: LimitSettings::default(),
        },
        replica: oxkeeper_replica::ReplicaConfig {
            prepare: PrepareSettings::default(),
            reap_interval_ms: 60_000,
            reap_per_minute: 10_000,
            leader_serves: true,
            config_node: None,
        },
        zab: None,
        watch_seed: 1,
        random: Box::new(|| 0),
    };
    start(disk.clone(), loaded, settings, NOW).unwrap()
}

/// A transaction that changes nothing.
fn proposal(counter: u32) -> Proposal {
    let zxid = Zxid::new(0, counter);
    let header = TxnHeader { client_id: 7, cxid: 1, zxid: zxid.0, time_ms: 1, kind: -1 };
    let payload = Payload { header, txn: Txn::Error(-101), digest: None };
    let mut bytes = Vec::new();
    payload.encode(&mut bytes);
    Proposal { zxid, payload: bytes.into() }
}

fn append(counter: u32) -> Op<MemDisk> {
    Op::Request(DiskRequest::Append(proposal(counter)))
}

/// Carries out `ops`; what came back, as text, and the snapshots that were asked for.
fn run(
    started: &mut Started<MemDisk>,
    ops: Vec<Op<MemDisk>>,
) -> Result<(Vec<String>, Vec<oxkeeper_node::SnapshotJob<MemDisk>>), StorageError> {
    let (mut texts, mut jobs) = (Vec::new(), Vec::new());
    started.store.carry_out(ops, &mut |done| match done {
        Done::Input(Input::Zab(Z::Flushed(zxid))) => texts.push(format!("flushed {zxid}")),
        Done::Input(Input::Zab(Z::AcceptedEpochSaved(epoch))) => {
            texts.push(format!("accepted {epoch}"));
        }
        Done::Input(Input::Reloaded(_, history)) => {
            texts.push(format!("reloaded {}", history.last_zxid));
        }
        Done::Published { zxid, .. } => texts.push(format!("published {zxid}")),
        Done::TakeSnapshot(job) => jobs.push(job),
        _ => {}
    })?;
    Ok((texts, jobs))
}

#[test]
fn what_was_appended_is_durable_before_anything_behind_it_begins() {
    let mut server = solo(&MemDisk::new("d"));
    let save = Op::Request(DiskRequest::SaveAcceptedEpoch(3));
    let (texts, _) = run(&mut server, vec![append(1), append(2), save, append(3)]).unwrap();
    assert_eq!(texts, ["flushed 0x2", "accepted 3", "flushed 0x3"]);
}

#[test]
fn a_snapshot_of_a_history_that_was_replaced_gets_no_name() {
    let disk = MemDisk::new("d");
    let mut server = solo(&disk);
    let (_, mut jobs) = run(&mut server, (1..=4).map(append).collect()).unwrap();
    server.shared.state.write().set_last_zxid(Zxid::new(0, 4));
    let job = jobs.pop().expect("snapCount is reached");
    let history = job.history();
    let SnapshotStep::Complete(complete) = job.run().unwrap() else { panic!("not complete") };
    let cut = Op::Request(DiskRequest::Truncate(Zxid::new(0, 2)));
    let publish = Op::Publish { history, complete: Some(complete) };
    let (texts, _) = run(&mut server, vec![cut, publish]).unwrap();
    assert_eq!(texts, ["reloaded 0x2"]);
    assert_eq!(names(&disk, "snapshot."), ["snapshot.0"]);
}

#[test]
fn a_snapshot_whose_tree_is_replaced_under_it_is_given_up() {
    let disk = MemDisk::new("d");
    let mut server = solo(&disk);
    let (_, mut jobs) = run(&mut server, (1..=4).map(append).collect()).unwrap();
    let mut job = jobs.pop().expect("snapCount is reached");
    let small = StepSize { nodes: 1, bytes: 1, chunk: 1 };
    assert!(matches!(job.step(small).unwrap(), SnapshotStep::More));
    replace_tree(&mut server);
    assert!(matches!(job.step(small).unwrap(), SnapshotStep::Outdated));
}

#[test]
fn a_stream_whose_tree_is_replaced_under_it_never_comes_to_its_end() {
    let mut server = solo(&MemDisk::new("d"));
    // Simulator seed 7007767: a stream whose first piece was not asked for yet began with the new tree.
    for steps in [0, 1] {
        let of = server.shared.state_id();
        let mut stream = oxkeeper_node::TreeStream::new(server.shared.clone(), of);
        let mut bytes = Vec::new();
        for _ in 0..steps {
            assert_eq!(stream.step(1, 1, &mut bytes), StreamStep::More);
        }
        replace_tree(&mut server);
        let sent = bytes.len();
        assert_eq!(stream.step(100, 100_000, &mut bytes), StreamStep::Outdated);
        assert_eq!(bytes.len(), sent, "nothing of the new tree went out");
    }
}

/// A server with 24 transactions, and a snapshot every few of them.
fn with_snapshots(disk: &MemDisk) -> Started<MemDisk> {
    let mut server = solo(disk);
    for round in 0..6 {
        let appends = (1..=4).map(|n| append(round * 4 + n)).collect();
        let (_, jobs) = run(&mut server, appends).unwrap();
        server.shared.state.write().set_last_zxid(Zxid::new(0, round * 4 + 4));
        for job in jobs {
            let history = job.history();
            let SnapshotStep::Complete(complete) = job.run().unwrap() else { panic!() };
            run(&mut server, vec![Op::Publish { history, complete: Some(complete) }]).unwrap();
        }
    }
    server
}

#[test]
fn a_purge_waits_for_its_turn_and_keeps_what_a_start_needs() {
    let disk = MemDisk::new("d");
    let mut server = with_snapshots(&disk);
    let before = names(&disk, "snapshot.").len();
    run(&mut server, vec![Op::Purge { retain: 3 }]).unwrap();
    assert!(before > 3, "{before}");
    assert_eq!(names(&disk, "snapshot.").len(), 3);
    drop(server);
    let loaded = load_state(&disk, &store_settings().load, &|_| {}).unwrap();
    assert_eq!(loaded.history.last_zxid, Zxid::new(0, 24));
}

/// Between a purge and the next a cut may take the snapshots that the first one counted on.
#[test]
fn a_purge_decides_by_what_is_there_when_its_turn_comes() {
    let disk = MemDisk::new("d");
    let mut server = with_snapshots(&disk);
    let cut = Op::Request(DiskRequest::Truncate(Zxid::new(0, 13)));
    let ops = vec![Op::Purge { retain: 3 }, cut, Op::Purge { retain: 3 }];
    run(&mut server, ops).unwrap();
    drop(server);
    // The cut would have needed an older snapshot, which is gone: it was refused.
    let loaded = load_state(&disk, &store_settings().load, &|_| {}).unwrap();
    assert_eq!(loaded.history.last_zxid, Zxid::new(0, 24));
}

fn names(disk: &MemDisk, prefix: &str) -> Vec<String> {
    let names = disk.list(Place::Snapshots).unwrap().into_iter();
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn replace_tree(server: &mut Started<MemDisk>) {
    let state = Box::new(State::new(1));
    let input = Input::Reloaded(state, History::default());
    server.node.handle(NOW, oxkeeper_node::Event::Input(input));
}
