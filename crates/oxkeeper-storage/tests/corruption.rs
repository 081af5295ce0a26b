//! Damaged directories, and what Apache ZooKeeper 3.9.5 was seen to do with them: we start exactly
//! where it starts, with the same history, except where the specification says better.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::path::Path;

use common::{
    disk_of, from_hex, json, load_state, load_with, payload, put_log, put_snapshot, vectors,
};
use oxkeeper_proto::Zxid;
use oxkeeper_proto::snapshot::{StatPersisted, put_node, put_nodes_end, put_tables};
use oxkeeper_storage::error::LogProblem;
use oxkeeper_storage::{
    Compression, Disk, DiskFile, LoadOptions, MemDisk, OnLostTail, Place, SnapshotWriter,
    StorageError,
};
use serde_json::Value;

fn damaged(case: &Value) -> MemDisk {
    let base = vectors().join(case["base"].as_str().unwrap());
    let disk = disk_of(&base.join("data"));
    for op in case["ops"].as_array().unwrap() {
        let name = Path::new(op[1].as_str().unwrap()).file_name().unwrap().to_str().unwrap();
        let open = || disk.open_for_write(Place::Logs, name).unwrap();
        match op[0].as_str().unwrap() {
            "write" => {
                let bytes = from_hex(op[3].as_str().unwrap());
                open().write_at(&bytes, op[2].as_u64().unwrap()).unwrap();
            }
            "truncate" => open().set_len(op[2].as_u64().unwrap()).unwrap(),
            "create" => disk.put(Place::Logs, name, &from_hex(op[2].as_str().unwrap())),
            "unlink" => disk.remove(Place::Logs, name).unwrap(),
            other => panic!("unknown operation {other}"),
        }
    }
    disk
}

fn case(name: &str) -> MemDisk {
    damaged(&json(&vectors().join("corruption/operations.json"))[name])
}

#[test]
fn damaged_directories_start_or_are_refused_as_by_3_9_5() {
    let operations = json(&vectors().join("corruption/operations.json"));
    let outcomes = json(&vectors().join("corruption/outcomes.json"));
    let mut checked = 0;
    for (name, case) in operations.as_object().unwrap() {
        let want = &outcomes[name]["3.9.5"];
        let disk = damaged(case);
        let mut result = load_state(&disk);
        checked += 1;
        match name.as_str() {
            // Apache starts and has lost the rest of the file without a word (4.1).
            "mid_eor_zero" | "mid_len_zero" => {
                assert!(matches!(result, Err(StorageError::LostTail(_))), "{name}");
                let accept =
                    LoadOptions { on_lost_tail: OnLostTail::Accept, ..LoadOptions::default() };
                result = load_with(&disk, &accept);
                assert_eq!(want["starts"], result.is_ok(), "{name}: {:?}", result.err());
            }
            // Apache reads by its own settings, we by what is in the file (6.1, 3.4).
            "closetxn_off" | "digest_off" => {
                assert!(want["starts"] == false && result.is_ok(), "{name}");
                continue;
            }
            _ => assert_eq!(want["starts"], result.is_ok(), "{name}: {:?}", result.err()),
        }
        let Ok((mut state, loaded)) = result else { continue };
        // What starting does to a standalone server.
        state.remove_orphan_ephemerals();
        // Apache's node count has the root twice, as "" and as "/".
        let (zxid, nodes) = (format!("{}", loaded.last_zxid), (state.tree.len() + 1).to_string());
        if name == "mid_len_zero" {
            // The recorded server had already ended a session when it was asked: one transaction
            // more (its log.15), one ephemeral node less.
            assert_eq!((zxid.as_str(), nodes.as_str()), ("0x14", "21"));
            continue;
        }
        assert_eq!(want["zxid"], zxid, "{name}");
        assert_eq!(want["nodes"], nodes, "{name}");
    }
    assert_eq!(checked, 26);
}

#[test]
fn a_refusal_says_where_and_what_and_what_to_do() {
    let refusal = |name| load_state(&case(name)).err().unwrap();
    let check = |name, words: &[&str]| {
        let text = refusal(name).to_string();
        for word in words {
            assert!(text.contains(word), "{name}: {text:?} lacks {word:?}");
        }
        assert_eq!(refusal(name).exit_code(), 1);
    };
    check("mid_crc", &["log.1", "byte 5132", "checksum", "move this member's"]);
    check("mid_len_huge", &["log.1", "byte 5132", "2147483647", "limit 2097150"]);
    check("mid_len_minus1", &["log.1", "-1 bytes"]);
    check("tail_log_half_header", &["log.100", "8 bytes", "move it away"]);
    check("tail_log_zeros", &["log.100", "0x00000000", "ZKLG"]);
    check("log_hole", &["log.68", "byte 16", "from 0x46 to 0x68"]);
    check("snap_none", &["no valid snapshot", "log.1", "snapshot.trust.empty"]);
    check("snap_all_cut", &["no valid snapshot", "log.1"]);
}

#[test]
fn damage_that_looks_like_an_end_is_told() {
    for name in ["tail_eor_zero", "tail_torn_cut", "tail_torn_zeros"] {
        let (_, loaded) = load_state(&case(name)).unwrap();
        assert_eq!(loaded.warnings.len(), 1, "{name}: {:?}", loaded.warnings);
        assert!(loaded.warnings[0].contains("log.1"), "{:?}", loaded.warnings);
    }
    let (_, loaded) = load_state(&case("snap_newest_crc")).unwrap();
    assert!(loaded.warnings[0].contains("snapshot.85"), "{:?}", loaded.warnings);
}

/// As ZOOKEEPER-1621: a crash must not leave a directory that cannot start.
#[test]
fn an_empty_newest_log_is_removed() {
    let disk = case("tail_log_empty");
    load_state(&disk).unwrap();
    assert!(!disk.list(Place::Logs).unwrap().contains(&"log.100".to_owned()));
}

#[test]
fn a_lone_check_is_refused_and_can_be_skipped() {
    let disk = disk_of(&vectors().join("standalone-3.8.0-check-poison/data"));
    let error = load_state(&disk).err().unwrap();
    assert!(matches!(error, StorageError::Log { problem: LogProblem::LoneCheck, .. }), "{error}");
    assert!(error.to_string().contains("oxkeeper.skipLoneChecks=true"), "{error}");
    let options = LoadOptions { skip_lone_checks: true, ..LoadOptions::default() };
    let (_, loaded) = load_with(&disk, &options).unwrap();
    assert!(loaded.warnings[0].contains("check outside of a multi"), "{:?}", loaded.warnings);
}

#[test]
fn random_damage_never_panics() {
    let base = vectors().join("standalone-3.9.5-restarted-rolled/data");
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |n: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % n
    };
    for _ in 0..300 {
        let disk = disk_of(&base);
        let names = disk.list(Place::Logs).unwrap();
        let name = &names[random(names.len() as u64) as usize];
        let file = disk.open_for_write(Place::Logs, name).unwrap();
        let len = file.len().unwrap().clamp(1, 10_000);
        if random(4) == 0 {
            file.set_len(random(len)).unwrap();
        } else {
            file.write_at(&[random(256) as u8, random(256) as u8], random(len)).unwrap();
        }
        let _ = load_state(&disk);
    }
}

/// A directory of a server with a greater limit is whole, and nothing of it may be given up.
#[test]
fn what_is_only_too_long_names_the_limit_that_would_do() {
    let options = |record_limit| LoadOptions { record_limit, ..LoadOptions::default() };
    let refusal = |disk: &MemDisk| load_with(disk, &options(4096)).err().unwrap().to_string();
    let check = |text: &str, words: &[&str]| {
        for word in words {
            assert!(text.contains(word), "{text:?} lacks {word:?}");
        }
        assert!(!text.contains("move") && !text.contains("delete"), "{text}");
    };
    let disk = MemDisk::new("server");
    put_snapshot(&disk, Zxid::ZERO);
    let long = vec![payload(Zxid(1), 60, 9), payload(Zxid(2), 3_000_001, 9)];
    put_log(&disk, Zxid(1), &long);
    check(&refusal(&disk), &["log.1, byte 89", "3000001 bytes", "4096", "jute.maxbuffer=1500001"]);
    assert_eq!(load_with(&disk, &options(3_000_002)).unwrap().1.last_zxid, Zxid(2));

    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let disk = MemDisk::new("server");
        put_snapshot(&disk, Zxid::ZERO);
        let mut body = Vec::new();
        put_tables(&mut body, [].into_iter(), [].into_iter());
        for path in ["", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            put_node(&mut body, path, Some(b""), -1, &StatPersisted::default());
        }
        put_node(&mut body, "/long", Some(&[7; 3_000_001]), -1, &StatPersisted::default());
        put_nodes_end(&mut body);
        let mut writer = SnapshotWriter::create(disk.clone(), Zxid(5), compression).unwrap();
        writer.write(&body).unwrap();
        let name = writer.finish(&Default::default()).unwrap();
        // Not passed over, and the older one not taken.
        check(&refusal(&disk), &[&name, "3000001 bytes", "4096", "jute.maxbuffer=1500001"]);
        assert_eq!(load_with(&disk, &options(3_000_002)).unwrap().1.last_zxid, Zxid(5));
    }
}

#[test]
fn a_length_that_is_garbage_is_damage() {
    let disk = MemDisk::new("server");
    put_snapshot(&disk, Zxid::ZERO);
    put_log(&disk, Zxid(1), &[payload(Zxid(1), 60, 9), payload(Zxid(2), 60, 9)]);
    disk.flip(Place::Logs, "log.1", 16 + 73 + 9, 0x40);
    let error = load_state(&disk).err().unwrap();
    let StorageError::Log { problem, .. } = &error else { panic!("{error}") };
    assert!(matches!(problem, LogProblem::Length { .. }), "{error}");
    assert!(!error.to_string().contains("jute.maxbuffer"), "{error}");
}
