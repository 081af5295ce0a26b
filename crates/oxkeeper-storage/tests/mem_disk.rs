//! The disk of tests and of the simulator breaks its promises as it is told to, and no others.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use oxkeeper_storage::mem_disk::Lie;
use oxkeeper_storage::{Disk, DiskFile, MemDisk, Place};

const LOGS: Place = Place::Logs;

/// A disk with the durable file `name`.
fn with_file(name: &str, bytes: &[u8]) -> (MemDisk, <MemDisk as Disk>::File) {
    let disk = MemDisk::new("a");
    let file = disk.create(LOGS, name).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(LOGS).unwrap();
    (disk, file)
}

/// Loses all that may be lost: fate 0 of 4, none of two.
fn lose_all(n: u64) -> u64 {
    if n == 4 { 0 } else { n - 1 }
}

#[test]
fn a_lie_about_logs_loses_what_was_synced_and_nothing_else() {
    let (mut disk, log) = with_file("log.1", b"one");
    disk.set_lie(Some(Lie::Logs));
    log.write_at(b"two", 3).unwrap();
    log.sync().unwrap();
    for name in ["log.2", "currentEpoch"] {
        disk.create(LOGS, name).unwrap().sync().unwrap();
    }
    disk.sync_dir(LOGS).unwrap();
    disk.crash(lose_all);
    assert_eq!(disk.bytes(LOGS, "log.1").unwrap(), b"one");
    assert_eq!(disk.list(LOGS).unwrap(), ["currentEpoch", "log.1"]);
}

#[test]
fn a_lie_that_ends_before_the_power_does_has_done_no_harm() {
    let (mut disk, log) = with_file("log.1", b"one");
    disk.set_lie(Some(Lie::Everything));
    log.write_at(b"two", 3).unwrap();
    log.sync().unwrap();
    log.write_at(b"not synced", 6).unwrap();
    disk.create(LOGS, "log.2").unwrap().sync().unwrap();
    disk.sync_dir(LOGS).unwrap();
    disk.set_lie(None);
    disk.crash(lose_all);
    assert_eq!(disk.bytes(LOGS, "log.1").unwrap(), b"onetwo");
    assert_eq!(disk.list(LOGS).unwrap(), ["log.1", "log.2"]);
}

#[test]
fn a_failed_sync_does_not_take_what_a_lie_has_told_durable() {
    for len in 1..40 {
        let (mut disk, log) = with_file("log.1", b"one");
        disk.set_lie(Some(Lie::Everything));
        log.write_at(b"two", 3).unwrap();
        log.sync().unwrap();
        log.write_at(&vec![3; len * 100], 6).unwrap();
        disk.fail_sync(1);
        assert!(log.sync().is_err());
        disk.set_lie(None);
        disk.crash(lose_all);
        assert_eq!(disk.bytes(LOGS, "log.1").unwrap()[..6], *b"onetwo");
    }
}

#[test]
fn a_misdirected_write_is_missing_where_it_was_meant() {
    let (disk, log) = with_file("log.1", &[7; 2048]);
    disk.misdirect_write(2, 2, 0);
    log.write_at(&[1; 512], 0).unwrap();
    log.write_at(&[2; 512], 512).unwrap();
    log.write_at(&[3; 512], 1024).unwrap();
    let bytes = disk.bytes(LOGS, "log.1").unwrap();
    let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
    assert_eq!(sectors, [1, 7, 3, 2]);
    assert_eq!(disk.misdirected(), [(Place::Snapshots, "log.1".to_owned())]);
}

#[test]
fn a_full_disk_takes_nothing_until_it_is_not_full() {
    let (disk, log) = with_file("log.1", b"one");
    disk.set_full(true);
    assert!(log.write_at(b"two", 3).is_err());
    assert!(disk.create(LOGS, "log.2").is_err());
    disk.set_full(false);
    log.write_at(b"two", 3).unwrap();
    disk.create(LOGS, "log.2").unwrap();
}

#[test]
fn only_a_disk_that_tears_sectors_tears_sectors() {
    let torn = |tears: bool| {
        (1..200).any(|turn: u64| {
            let (mut disk, log) = with_file("log.1", &[0; 1024]);
            log.write_at(&[1; 1024], 0).unwrap();
            if tears {
                disk.tear_sectors();
            }
            let mut next = turn;
            // Never the fate that keeps a prefix: a lone write may stop anywhere.
            disk.crash(|n| {
                next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(turn);
                if n == 4 { 2 } else { (next >> 33) % n }
            });
            let bytes = disk.bytes(LOGS, "log.1").unwrap();
            bytes.chunks(512).any(|sector| sector.iter().any(|byte| *byte != sector[0]))
        })
    };
    assert!(torn(true));
    assert!(!torn(false));
}

#[test]
fn a_disk_of_blocks_fills_up_with_zeros_what_is_appended_to_a_new_file() {
    let disk = MemDisk::new("a");
    disk.write_in_blocks();
    let created = disk.create(LOGS, "log.1").unwrap();
    created.append_durably(&[1; 100], 0).unwrap();
    created.append_durably(&[2; 100], 100).unwrap();
    let mut meant = vec![1; 100];
    meant.extend([2; 100]);
    meant.resize(4096, 0);
    assert_eq!(disk.bytes(LOGS, "log.1").unwrap(), meant);
    disk.open_for_write(LOGS, "log.1").unwrap().append_durably(&[3], 4096).unwrap();
    assert_eq!(disk.bytes(LOGS, "log.1").unwrap().len(), 4097);
}
