//! One test per rule of files that was broken somewhere before.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{
    disk_of, load_state, load_with, open_log, payload, put_log, put_snapshot, snapshot, vectors,
};
use oxkeeper_proto::{Epochs, Zxid};
use oxkeeper_storage::error::{EpochProblem, LogProblem};
use oxkeeper_storage::log_file::{DEFAULT_RECORD_LIMIT, HEADER, put_record};
use oxkeeper_storage::{
    Compression, Disk, DiskFile, EpochFiles, LoadOptions, LogOptions, LogReader, MemDisk, Place,
    SnapshotWriter, StorageError, TxnLog, log_diff_allowed, purge, read_range,
};

const LIMIT: usize = DEFAULT_RECORD_LIMIT;

/// A disk with snapshot.0 and the records 1 ..= `count`, a new file after each of `rolls`.
fn history(count: i64, rolls: &[i64]) -> MemDisk {
    let disk = MemDisk::new("server");
    put_snapshot(&disk, Zxid::ZERO);
    append(&disk, Zxid::ZERO, count, rolls);
    disk
}

fn append(disk: &MemDisk, last: Zxid, to: i64, rolls: &[i64]) {
    let mut log = TxnLog::open(disk.clone(), LogOptions::default(), last).unwrap();
    for zxid in (last.0 + 1..=to).map(Zxid) {
        log.append(zxid, &payload(zxid, 60, 9)).unwrap();
        if rolls.contains(&zxid.0) {
            log.roll().unwrap();
        }
    }
    log.sync().unwrap();
}

fn logs(disk: &MemDisk) -> Vec<String> {
    names(disk, "log.")
}

fn names(disk: &MemDisk, prefix: &str) -> Vec<String> {
    disk.list(Place::Logs).unwrap().into_iter().filter(|name| name.starts_with(prefix)).collect()
}

fn zxids(disk: &MemDisk, from: i64) -> Vec<i64> {
    let mut reader = LogReader::new(disk.clone(), Zxid(from), LIMIT).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        found.push(record.zxid.0);
    }
    found
}

/// ZOOKEEPER-2574: purge deleted the log that the oldest kept snapshot needs.
#[test]
fn zookeeper_2574_purge_keeps_the_log_that_the_oldest_kept_snapshot_needs() {
    let disk = history(50, &[10, 20, 30, 40]);
    for zxid in [5, 15, 25, 35, 45] {
        put_snapshot(&disk, Zxid(zxid));
    }
    let purged = purge(&disk, 3).unwrap();
    assert_eq!(purged.snapshots, ["snapshot.0", "snapshot.5", "snapshot.f"]);
    assert_eq!(purged.logs, ["log.1", "log.b"]);
    // log.15 (21 ..= 30) has the records after snapshot.19 (25).
    assert_eq!(logs(&disk), ["log.15", "log.1f", "log.29"]);
    assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid(50));
    for newer in ["snapshot.2d", "snapshot.23"] {
        disk.remove(Place::Snapshots, newer).unwrap();
        assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid(50), "without {newer}");
    }
}

/// ZOOKEEPER-3231: purge counted invalid snapshots and so removed the last valid one.
#[test]
fn zookeeper_3231_purge_counts_only_valid_snapshots() {
    let disk = history(50, &[10, 20, 30, 40]);
    put_snapshot(&disk, Zxid(15));
    for name in ["snapshot.30", "snapshot.31", "snapshot.32"] {
        disk.put(Place::Snapshots, name, b"cut off by a crash");
    }
    assert_eq!(purge(&disk, 3).unwrap(), Default::default());
    put_snapshot(&disk, Zxid(25));
    put_snapshot(&disk, Zxid(35));
    assert_eq!(purge(&disk, 1).unwrap().snapshots, ["snapshot.0"], "three are always kept");
    assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid(50));
}

#[test]
fn purge_without_a_valid_snapshot_removes_nothing() {
    let disk = history(20, &[10]);
    disk.remove(Place::Snapshots, "snapshot.0").unwrap();
    disk.put(Place::Snapshots, "snapshot.5", b"nothing");
    assert_eq!(purge(&disk, 3).unwrap(), Default::default());
    assert_eq!(logs(&disk).len(), 2);
}

/// ZOOKEEPER-1621: after a full disk a log with a partial header or record stopped every start.
#[test]
fn zookeeper_1621_a_full_disk_leaves_a_directory_that_starts() {
    for nth in 1..=4 {
        let mut disk = history(5, &[]);
        let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid(5)).unwrap();
        disk.fail_write(nth);
        let mut zxid = Zxid(5);
        let error = loop {
            zxid = zxid.next().unwrap();
            log.append(zxid, &payload(zxid, 900, 9)).unwrap();
            if let Err(error) = log.sync() {
                break error;
            }
        };
        assert!(error.to_string().contains("version-2/"), "{error}");
        disk.kill();
        let last = load_state(&disk).unwrap().1.last_zxid;
        assert!(zxid.0 - 1 <= last.0 && last <= zxid, "write {nth}: {last}");
    }
}

/// ZOOKEEPER-4269: the rename of an epoch file did not happen, the history went on, and no later start
/// believed in it.
#[test]
fn zookeeper_4269_the_epoch_about_to_be_entered_is_taken_over_after_a_crash() {
    let disk = MemDisk::new("server");
    let files = EpochFiles::new(disk.clone());
    assert_eq!(files.load(Zxid::new(2, 7)).unwrap(), Epochs { accepted: 2, current: 2 });
    assert_eq!(disk.bytes(Place::Snapshots, "currentEpoch").unwrap(), b"2");
    files.save_accepted(3).unwrap();
    let error = files.load(Zxid::new(3, 1)).unwrap_err();
    let want = EpochProblem::BehindHistory { current: 2, last: Zxid::new(3, 1) };
    assert!(matches!(&error, StorageError::Epoch { problem, .. } if *problem == want), "{error}");
    files.announce_current(3).unwrap();
    assert_eq!(files.load(Zxid::new(3, 1)).unwrap(), Epochs { accepted: 3, current: 3 });
}

#[test]
fn contradicting_epoch_files_are_refused() {
    let disk = MemDisk::new("server");
    let files = EpochFiles::new(disk.clone());
    disk.put(Place::Snapshots, "acceptedEpoch", b"4\n");
    disk.put(Place::Snapshots, "currentEpoch", b"5");
    let error = files.load(Zxid::ZERO).unwrap_err();
    assert!(error.to_string().contains("acceptedEpoch: it says 4"), "{error}");
    for bad in [&b""[..], b"five", b"-1", b"99999999999"] {
        disk.put(Place::Snapshots, "currentEpoch", bad);
        let error = files.load(Zxid::ZERO).unwrap_err();
        assert!(error.to_string().contains("a decimal number was expected"), "{error}");
    }
}

#[test]
fn a_database_that_was_never_synced_starts_with_epoch_0() {
    let files = EpochFiles::new(MemDisk::new("server"));
    assert_eq!(files.load(Zxid(-1)).unwrap(), Epochs { accepted: 0, current: 0 });
}

/// ZOOKEEPER-4925, ZOOKEEPER-3642: a follower logged a proposal that did not follow its last one; the hole came to light
/// at a later start, or never.
#[test]
fn zookeeper_4925_a_record_that_does_not_follow_is_never_logged() {
    let disk = history(3, &[]);
    let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid(3)).unwrap();
    for wrong in [Zxid(3), Zxid(2), Zxid(5), Zxid::new(1, 0), Zxid::new(1, 2), Zxid(0)] {
        let error = log.append(wrong, &payload(wrong, 0, 0)).unwrap_err();
        assert!(matches!(error, StorageError::OutOfOrder { .. }), "{wrong}: {error}");
    }
    for right in [Zxid(4), Zxid::new(1, 1), Zxid::new(7, 1), Zxid::new(7, 2)] {
        log.append(right, &payload(right, 0, 0)).unwrap();
    }
    assert_eq!(log.sync().unwrap().zxid, Zxid::new(7, 2));
    assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid::new(7, 2));
}

/// ZOOKEEPER-3642 came to light so, at best: what the lost snapshot had is missing before the log.
#[test]
fn zookeeper_3642_a_hole_anywhere_in_what_is_replayed_is_fatal() {
    let disk = history(30, &[10, 20]);
    disk.remove(Place::Logs, "log.b").unwrap();
    let hole = |error| match error {
        StorageError::Hole { previous, found, .. } => (previous.0, found.0),
        other => panic!("{other}"),
    };
    assert_eq!(hole(load_state(&disk).err().unwrap()), (10, 21));
    put_snapshot(&disk, Zxid(15));
    assert_eq!(hole(load_state(&disk).err().unwrap()), (15, 21), "between snapshot and log");
    put_snapshot(&disk, Zxid(20));
    assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid(30));
}

/// A single server of Apache's counts on: zxids are just numbers to it, and no epoch ends.
#[test]
fn the_log_of_a_single_server_goes_on_behind_the_counters_end() {
    let disk = MemDisk::new("server");
    let end = Zxid::new(0, u32::MAX);
    put_snapshot(&disk, Zxid(end.0 - 2));
    let zxids = (end.0 - 1..=end.0 + 2).map(Zxid);
    let payloads: Vec<_> = zxids.map(|zxid| payload(zxid, 60, 9)).collect();
    put_log(&disk, Zxid(end.0 - 1), &payloads);
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.replayed), (Zxid::new(1, 1), 4));
    assert_eq!(loaded.recent.len(), 4);
    // As a leader may send it, too.
    let mut log = open_log(&disk, end);
    log.append(Zxid::new(1, 0), &payload(Zxid::new(1, 0), 60, 9)).unwrap();
}

#[test]
fn a_payload_that_is_not_what_it_is_called_is_refused() {
    let mut log = TxnLog::open(MemDisk::new("server"), LogOptions::default(), Zxid(3)).unwrap();
    for bytes in [payload(Zxid(9), 0, 0), vec![], vec![0; 20], vec![0; LIMIT + 1]] {
        let error = log.append(Zxid(4), &bytes).unwrap_err();
        assert!(matches!(error, StorageError::BadRecord { .. }), "{error}");
    }
    assert_eq!((log.appended(), log.sync().unwrap().records), (Zxid(3), 0));
}

/// ZOOKEEPER-4882: a disk failed for a moment, what it had not taken was committed by others, and the log
/// went on behind the hole.
#[test]
fn zookeeper_4882_a_failed_sync_poisons_the_log_for_ever() {
    let disk = history(3, &[]);
    let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid(3)).unwrap();
    log.append(Zxid(4), &payload(Zxid(4), 0, 0)).unwrap();
    log.sync().unwrap();
    log.append(Zxid(5), &payload(Zxid(5), 0, 0)).unwrap();
    disk.fail_sync(1);
    let first = log.sync().unwrap_err().to_string();
    let before = disk.counters();
    for later in [
        log.sync().map(|_| ()),
        log.append(Zxid(6), &payload(Zxid(6), 0, 0)),
        log.prepare().map(|_| ()),
        log.roll().map(|_| ()),
    ] {
        assert_eq!(later.unwrap_err().to_string(), first);
    }
    assert_eq!(disk.counters(), before, "the disk was not touched again");
    assert_eq!(log.synced(), Zxid(4));
}

#[test]
fn a_batch_is_one_write_and_one_sync() {
    let disk = history(1, &[]);
    let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid(1)).unwrap();
    log.append(Zxid(2), &payload(Zxid(2), 0, 0)).unwrap();
    log.sync().unwrap();
    let before = disk.counters();
    for zxid in (3..1003).map(Zxid) {
        log.append(zxid, &payload(zxid, 100, 1)).unwrap();
    }
    let synced = log.sync().unwrap();
    assert_eq!((synced.zxid, synced.records), (Zxid(1002), 1000));
    let after = disk.counters();
    // The second write is the mark's, which waits for nothing.
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (2, 1));
}

#[test]
fn a_huge_batch_is_written_in_parts_that_a_torn_end_can_span() {
    let disk = history(0, &[]);
    let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid::ZERO).unwrap();
    for zxid in (1..=12).map(Zxid) {
        log.append(zxid, &payload(zxid, 1_000_000, 3)).unwrap();
    }
    let before = disk.counters();
    log.sync().unwrap();
    assert!(disk.counters().syncs - before.syncs >= 3);
    assert_eq!(zxids(&disk, 1), (1..=12).collect::<Vec<_>>());
}

#[test]
fn no_file_exists_before_its_first_record() {
    let disk = MemDisk::new("server");
    let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid::ZERO).unwrap();
    log.sync().unwrap();
    while log.prepare().unwrap() {}
    assert_eq!(logs(&disk), Vec::<String>::new());
    log.append(Zxid(1), &payload(Zxid(1), 0, 0)).unwrap();
    log.sync().unwrap();
    log.roll().unwrap();
    while log.prepare().unwrap() {}
    let there = disk.list(Place::Logs).unwrap();
    assert_eq!(there, ["acknowledged", "log.1", "seams", "tmp-next-log"]);
    let bytes = disk.bytes(Place::Logs, "log.1").unwrap();
    assert_eq!(bytes[..16], HEADER);
}

#[test]
fn preparing_writes_zeros_ahead_and_stops() {
    let disk = MemDisk::new("server");
    let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid::ZERO).unwrap();
    log.append(Zxid(1), &payload(Zxid(1), 0, 0)).unwrap();
    log.sync().unwrap();
    let mut steps = 0;
    while log.prepare().unwrap() {
        steps += 1;
        assert!(steps < 100);
    }
    let len = disk.bytes(Place::Logs, "log.1").unwrap().len();
    assert!((4 << 20..5 << 20).contains(&len), "{len}");
    let options = LogOptions { preallocate_kib: 0, ..LogOptions::default() };
    let disk = MemDisk::new("server");
    let mut log = TxnLog::open(disk.clone(), options, Zxid::ZERO).unwrap();
    log.append(Zxid(1), &payload(Zxid(1), 0, 0)).unwrap();
    log.sync().unwrap();
    log.prepare().unwrap();
    let len = disk.bytes(Place::Logs, "log.1").unwrap().len() as u64;
    assert_eq!(len, log.file_len(), "no padding");
}

#[test]
fn readers_work_on_the_file_that_is_being_written() {
    let disk = history(0, &[]);
    let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid::ZERO).unwrap();
    for zxid in (1..=20).map(Zxid) {
        log.append(zxid, &payload(zxid, 5000, 3)).unwrap();
        log.sync().unwrap();
        assert_eq!(zxids(&disk, 1), (1..=zxid.0).collect::<Vec<_>>());
    }
}

#[test]
fn reading_starts_at_the_record_asked_for() {
    let disk = history(30, &[10, 20]);
    assert_eq!(zxids(&disk, 21), (21..=30).collect::<Vec<_>>());
    assert_eq!(zxids(&disk, 20), (20..=30).collect::<Vec<_>>());
    assert_eq!(zxids(&disk, 11), (11..=30).collect::<Vec<_>>());
    assert_eq!(zxids(&disk, 31), Vec::<i64>::new());
}

#[test]
fn a_record_torn_in_sectors_ends_the_newest_log_and_is_cut_off() {
    let disk = history(3, &[]);
    let end = log_end(&disk, "log.1");
    // A record of five sectors, the third of them never written.
    let mut record = Vec::new();
    put_record(&mut record, &payload(Zxid(4), 2560, 0x42));
    let hole = (end / 512 + 2) * 512 - end;
    record[hole..hole + 512].fill(0);
    let file = disk.open_for_write(Place::Logs, "log.1").unwrap();
    file.write_at(&record, end as u64).unwrap();
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!(loaded.last_zxid, Zxid(3));
    assert!(loaded.warnings[0].contains("never written completely"), "{:?}", loaded.warnings);
    // No later reader, ours or Apache's, meets the wrong checksum.
    assert_eq!(disk.bytes(Place::Logs, "log.1").unwrap().len(), end);
    assert_eq!(load_state(&disk).unwrap().1.warnings, Vec::<String>::new());
}

#[test]
fn a_torn_record_that_cannot_be_the_last_batch_is_damage() {
    for older in [true, false] {
        let disk = history(3, &[]);
        let end = log_end(&disk, "log.1");
        let mut record = Vec::new();
        put_record(&mut record, &payload(Zxid(4), 2560, 0x42));
        let hole = (end / 512 + 2) * 512 - end;
        record[hole..hole + 512].fill(0);
        let file = disk.open_for_write(Place::Logs, "log.1").unwrap();
        file.write_at(&record, end as u64).unwrap();
        if older {
            let mut newer = HEADER.to_vec();
            put_record(&mut newer, &payload(Zxid(5), 0, 0));
            disk.put(Place::Logs, "log.5", &newer);
        } else {
            // Records of later batches, further away than one batch is long.
            file.write_at(b"more", 8 << 20).unwrap();
        }
        let error = load_state(&disk).err().unwrap();
        assert!(
            matches!(error, StorageError::Log { problem: LogProblem::Checksum { .. }, .. }),
            "{error}"
        );
    }
}

fn log_end(disk: &MemDisk, name: &str) -> usize {
    let bytes = disk.bytes(Place::Logs, name).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1
}

#[test]
fn a_cut_gives_the_recorded_directory() {
    let trunc = vectors().join("ensemble-3.9.5-trunc");
    let (before, after) = (disk_of(&trunc.join("before")), disk_of(&trunc.join("after")));
    let cut = open_log(&before, Zxid(0x1_0000_0018)).truncate(Zxid(0x1_0000_0017)).unwrap();
    assert_eq!((cut.last, cut.removed), (Zxid(0x1_0000_0017), vec![]));
    let name = "log.100000017";
    assert_eq!(before.bytes(Place::Logs, name), after.bytes(Place::Logs, name));
}

#[test]
fn a_cut_removes_newer_logs_and_newer_snapshots() {
    let disk = history(30, &[10, 20]);
    put_snapshot(&disk, Zxid(12));
    put_snapshot(&disk, Zxid(25));
    let cut = open_log(&disk, Zxid(30)).truncate(Zxid(15)).unwrap();
    assert_eq!(cut.last, Zxid(15));
    assert_eq!(cut.removed, ["snapshot.19", "log.15"]);
    assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid(15));
    append(&disk, Zxid(15), 18, &[]);
    assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid(18));
}

#[test]
fn a_cut_without_a_base_changes_nothing() {
    let disk = history(30, &[10]);
    disk.remove(Place::Snapshots, "snapshot.0").unwrap();
    put_snapshot(&disk, Zxid(20));
    let before = logs(&disk);
    let error = open_log(&disk, Zxid(30)).truncate(Zxid(15)).unwrap_err();
    assert_eq!(error.exit_code(), 13);
    assert_eq!(logs(&disk), before);
    let error = open_log(&MemDisk::new("empty"), Zxid(30)).truncate(Zxid(15)).unwrap_err();
    assert_eq!(error.exit_code(), 13);
}

#[test]
fn a_snapshot_from_the_leader_replaces_the_history() {
    let disk = history(30, &[10]);
    put_snapshot(&disk, Zxid(28));
    put_snapshot(&disk, Zxid(25));
    open_log(&disk, Zxid(30)).adopt(snapshot(&disk, Zxid(25))).unwrap();
    assert_eq!(logs(&disk), Vec::<String>::new());
    assert_eq!(names(&disk, "snapshot."), ["snapshot.19"]);
    assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid(25));
}

#[test]
fn a_range_starts_behind_the_common_record_and_has_no_hole() {
    let disk = history(30, &[10, 20]);
    let range = |from, to| {
        let span = read_range(&disk, Zxid(from), Zxid(to), Zxid(30), LIMIT, usize::MAX).unwrap()?;
        let zxids: Vec<i64> = span.proposals.iter().map(|proposal| proposal.zxid.0).collect();
        Some((span.base.0, zxids))
    };
    assert_eq!(range(10, 12), Some((10, vec![11, 12])));
    assert_eq!(range(11, 13), Some((11, vec![12, 13])));
    assert_eq!(range(20, 21), Some((20, vec![21])));
    assert_eq!(range(29, 30), Some((29, vec![30])));
    assert_eq!(range(5, 31), None, "the log ends before");
    assert_eq!(range(0, 5), None, "the log does not reach back");
    assert_eq!(
        read_range(&disk, Zxid(5), Zxid(30), Zxid(30), LIMIT, 100).unwrap(),
        None,
        "too much"
    );
    disk.remove(Place::Logs, "log.b").unwrap();
    assert_eq!(range(5, 25), None, "a hole");
}

#[test]
fn the_log_is_sent_only_if_it_is_small_beside_the_snapshot() {
    let disk = history(30, &[10, 20]);
    let allowed = |from, factor| log_diff_allowed(&disk, Zxid(from), factor).unwrap();
    assert!(allowed(5, 0.0), "no limit");
    assert!(!allowed(25, -1.0), "switched off");
    assert!(allowed(25, 0.33), "no file after the one with the start");
    assert!(
        !allowed(5, 0.33),
        "two files of a quarter MiB beside a snapshot of some hundred bytes"
    );
}

#[test]
fn an_empty_directory_starts_by_its_settings() {
    let start = |autocreate, initialize| {
        let disk = MemDisk::new("server");
        if initialize {
            disk.put_initialize();
        }
        let options = LoadOptions { autocreate, ..LoadOptions::default() };
        let (_, loaded) = load_with(&disk, &options).unwrap();
        assert!(!disk.take_initialize().unwrap(), "the marker is used up");
        (loaded.last_zxid.0, loaded.needs_snapshot)
    };
    assert_eq!(start(true, false), (0, true));
    assert_eq!(start(true, true), (0, true));
    assert_eq!(start(false, true), (0, true));
    assert_eq!(start(false, false), (-1, false));
}

#[test]
fn the_marker_is_removed_also_when_there_is_data() {
    let disk = history(3, &[]);
    disk.put_initialize();
    load_state(&disk).unwrap();
    assert!(!disk.take_initialize().unwrap());
}

#[test]
fn logs_without_a_snapshot_start_only_if_trusted() {
    let disk = history(3, &[]);
    disk.remove(Place::Snapshots, "snapshot.0").unwrap();
    let error = load_state(&disk).err().unwrap();
    assert!(matches!(error, StorageError::NoSnapshot { .. }), "{error}");
    let options = LoadOptions { trust_empty: true, ..LoadOptions::default() };
    let (_, loaded) = load_with(&disk, &options).unwrap();
    assert_eq!((loaded.last_zxid, loaded.needs_snapshot), (Zxid(3), true));
}

#[test]
fn files_in_the_wrong_directory_are_fatal() {
    let disk = MemDisk::with_two_directories("server");
    put_snapshot(&disk, Zxid::ZERO);
    append(&disk, Zxid::ZERO, 3, &[]);
    load_state(&disk).unwrap();
    for (place, name) in [(Place::Snapshots, "log.1"), (Place::Logs, "snapshot.0")] {
        disk.put(place, name, b"");
        let error = load_state(&disk).err().unwrap();
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains(name), "{error}");
        disk.remove(place, name).unwrap();
    }
}

#[test]
fn the_newest_proposals_are_kept_for_learners() {
    let disk = history(1200, &[400]);
    let (_, loaded) = load_state(&disk).unwrap();
    let kept: Vec<i64> = loaded.recent.iter().map(|proposal| proposal.zxid.0).collect();
    assert_eq!(kept, (701..=1200).collect::<Vec<_>>());
    assert_eq!(loaded.replayed, 1200);
}

#[test]
fn snapshots_are_tried_newest_first_and_the_reason_is_told() {
    let disk = history(30, &[10]);
    put_snapshot(&disk, Zxid(20));
    let mut damaged = disk.bytes(Place::Snapshots, "snapshot.14").unwrap();
    damaged[40] ^= 1;
    disk.put(Place::Snapshots, "snapshot.19", &damaged);
    disk.put(Place::Snapshots, "snapshot.1e", b"cut");
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!(loaded.snapshot.unwrap().name, "snapshot.14");
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    for name in ["snapshot.0", "snapshot.14"] {
        disk.remove(Place::Snapshots, name).unwrap();
    }
    let error = load_state(&disk).err().unwrap();
    assert!(matches!(error, StorageError::AllSnapshotsBad { .. }), "{error}");
    assert!(error.to_string().contains("snapshot.19"), "{error}");
}

#[test]
fn an_abandoned_snapshot_leaves_nothing() {
    let disk = MemDisk::new("server");
    let mut writer = SnapshotWriter::create(disk.clone(), Zxid(5), Compression::Gzip).unwrap();
    writer.write(&[0; 100_000]).unwrap();
    assert_eq!(disk.list(Place::Snapshots).unwrap(), ["tmp-snapshot.5.gz"]);
    drop(writer);
    assert_eq!(disk.list(Place::Snapshots).unwrap(), Vec::<String>::new());
}

#[test]
fn a_snapshot_that_cannot_be_written_ends_with_exit_code_10() {
    let disk = MemDisk::new("server");
    disk.fail_write(1);
    let mut writer = SnapshotWriter::create(disk.clone(), Zxid(5), Compression::None).unwrap();
    writer.write(&[0; 100]).unwrap();
    assert_eq!(writer.finish(&Default::default()).unwrap_err().exit_code(), 10);
    assert_eq!(disk.list(Place::Snapshots).unwrap(), Vec::<String>::new());
}
