//! A leader's snapshot replaces everything, at every crash point; a newer snapshot that cannot be read
//! is passed over only if the log leads past it.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{
    Dice, append, data_files, digested, load_state, open_log, payload, put_log, put_snapshot,
    snapshot,
};
use oxkeeper_proto::Zxid;
use oxkeeper_state::{Options, State};
use oxkeeper_storage::{
    Compression, Disk, DiskFile, EpochFiles, MemDisk, Place, SnapshotWriter, StorageError,
};

fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

fn adopt(disk: &MemDisk, last: Zxid, zxid: Zxid) {
    open_log(disk, last).adopt(snapshot(disk, zxid)).unwrap();
}

/// snapshot.0 and the log from 1.1 to 1.5, in epoch 1.
fn old_history(disk: &MemDisk) {
    disk.put(Place::Snapshots, "currentEpoch", b"1");
    put_snapshot(disk, Zxid::ZERO);
    append(disk, Zxid::ZERO, (1..=3).map(|n| z(1, n)));
    append(disk, z(1, 3), [z(1, 4), z(1, 5)]);
    put_snapshot(disk, z(1, 2));
}

#[test]
fn an_adopted_snapshot_replaces_all_that_was_there() {
    for disk in [MemDisk::new("server"), MemDisk::with_two_directories("server")] {
        old_history(&disk);
        put_snapshot(&disk, z(1, 5));
        adopt(&disk, z(1, 5), z(4, 100));
        assert_eq!(data_files(&disk), ["snapshot.400000064"]);
        append(&disk, z(4, 100), [z(5, 1)]);
        let (_, loaded) = load_state(&disk).unwrap();
        assert_eq!((loaded.last_zxid, loaded.contiguous_from), (z(5, 1), z(4, 100)));
        assert!(disk.list(Place::Snapshots).unwrap().iter().all(|name| name != "adopting"));
    }
}

/// The process ends where the directory's sync fails, and the power goes in the start after that: the name
/// of the snapshot was visible, and is gone. The mark must not have told of it.
#[test]
fn the_mark_tells_of_an_adopted_snapshot_only_when_its_name_is_durable() {
    for (failing, nth) in (1..12).flat_map(|failing| (1..12).map(move |nth| (failing, nth))) {
        let mut disk = MemDisk::new("server");
        old_history(&disk);
        let complete = snapshot(&disk, z(4, 100));
        let mut log = open_log(&disk, z(1, 5));
        disk.fail_sync(failing);
        if log.adopt(complete).is_ok() {
            continue;
        }
        disk.kill();
        disk.lose_power_at(nth);
        let _ = load_state(&disk);
        // No name that is not durable survives; of what was written all does.
        disk.crash(|n| n - 1);
        let (_, loaded) = load_state(&disk).unwrap();
        assert_eq!(loaded.lost_tail, None, "sync {failing} failed, power lost at {nth}");
    }
}

/// ZOOKEEPER-3642, in its form on disk: the snapshot that came by SNAP is lost, and the history from before
/// it must not pass for the whole.
#[test]
fn a_rotten_adopted_snapshot_does_not_bring_back_the_old_history() {
    let disk = MemDisk::new("server");
    old_history(&disk);
    adopt(&disk, z(1, 5), z(4, 100));
    append(&disk, z(4, 100), [z(5, 1)]);
    disk.flip(Place::Snapshots, "snapshot.400000064", 40, 1);
    let error = load_state(&disk).err().unwrap();
    assert!(matches!(error, StorageError::AllSnapshotsBad { .. }), "{error}");
}

/// What Apache leaves: it removes neither older snapshots nor logs, and takes what it can read
/// (ZOOKEEPER-3642 in its form on disk).
#[test]
fn an_older_snapshot_is_taken_only_if_the_log_leads_past_the_newer_one() {
    let damage: [fn(&MemDisk); 2] = [
        |disk| disk.flip(Place::Snapshots, "snapshot.400000064", 40, 1),
        |disk| {
            let file = disk.open_for_write(Place::Snapshots, "snapshot.400000064").unwrap();
            file.set_len(30).unwrap();
        },
    ];
    for damage in damage {
        let disk = MemDisk::new("server");
        old_history(&disk);
        put_snapshot(&disk, z(4, 100));
        damage(&disk);
        let before = data_files(&disk);
        let error = load_state(&disk).err().unwrap();
        let StorageError::Unbridged { zxid, base, reached, next, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((*zxid, *base, *reached, *next), (z(4, 100), z(1, 2), z(1, 5), None));
        let text = error.to_string();
        for word in ["snapshot.400000064", "0x400000064", "0x100000005", "Restore", "keep"] {
            assert!(text.contains(word), "{text}");
        }
        assert!(!text.contains("delete"), "{text}");
        // A log behind the gap does not make it smaller.
        put_log(&disk, z(5, 1), &[payload(z(5, 1), 60, 9)]);
        let error = load_state(&disk).err().unwrap();
        let StorageError::Unbridged { reached, next, .. } = &error else { panic!("{error}") };
        assert_eq!((*reached, *next), (z(1, 5), Some(z(5, 1))));
        assert_eq!(data_files(&disk).len(), before.len() + 1, "nothing was removed");
        disk.remove(Place::Logs, "log.500000001").unwrap();
    }
}

#[test]
fn a_log_that_leads_past_a_bad_snapshot_replaces_it() {
    let disk = MemDisk::new("server");
    old_history(&disk);
    put_snapshot(&disk, z(1, 4));
    disk.flip(Place::Snapshots, "snapshot.100000004", 40, 1);
    disk.put(Place::Snapshots, "snapshot.100000005", b"cut off");
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.warnings.len()), (z(1, 5), 2), "{:?}", loaded.warnings);
}

#[test]
fn a_digest_proves_that_the_log_leads_past_a_bad_snapshot_of_another_epoch() {
    let (disk, state) = (MemDisk::new("server"), &mut State::with_options(1, Options::default()));
    put_snapshot(&disk, Zxid::ZERO);
    let records = |state: &mut State, zxids: &[Zxid]| -> Vec<Vec<u8>> {
        zxids.iter().map(|zxid| digested(state, *zxid, &format!("/n{zxid}"))).collect()
    };
    // The snapshot of the helper has no digest section and another tree: begin without one.
    disk.remove(Place::Snapshots, "snapshot.0").unwrap();
    let options = oxkeeper_storage::LoadOptions { trust_empty: true, ..Default::default() };
    put_log(&disk, z(0, 1), &records(state, &[z(0, 1), z(0, 2)]));
    put_log(&disk, z(1, 1), &records(state, &[z(1, 1), z(1, 2)]));
    disk.put(Place::Snapshots, "snapshot.100000001", b"cut off");
    let (_, loaded) = common::load_with(&disk, &options).unwrap();
    assert_eq!((loaded.last_zxid, loaded.contiguous_from), (z(1, 2), Zxid::ZERO));
    assert_eq!(loaded.recent.len(), 4);
}

#[test]
fn a_read_error_anywhere_in_a_start_is_an_error_of_the_disk() {
    for compression in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let build = || {
            let disk = MemDisk::new("server");
            old_history(&disk);
            let whole = snapshot(&disk, z(1, 4));
            drop(whole);
            let body = disk.bytes(Place::Snapshots, "snapshot.100000002").unwrap();
            let mut writer = SnapshotWriter::create(disk.clone(), z(1, 4), compression).unwrap();
            // Without header and seal.
            writer.write(&body[16..body.len() - 13]).unwrap();
            writer.finish(&Default::default()).unwrap();
            disk
        };
        assert_eq!(load_state(&build()).unwrap().1.snapshot.unwrap().zxid, z(1, 4));
        for nth in 1.. {
            let disk = build();
            disk.fail_read(nth);
            let result = load_state(&disk).map(|(_, loaded)| loaded.last_zxid);
            if disk.read_fault_pending() {
                assert_eq!(result.unwrap(), z(1, 5));
                assert!(nth > 8, "{nth}");
                break;
            }
            assert!(matches!(result, Err(StorageError::Disk(_))), "{nth}: {result:?}");
            assert_eq!(load_state(&disk).unwrap().1.last_zxid, z(1, 5), "nothing was harmed");
        }
    }
}

#[test]
fn a_read_error_in_a_cut_or_a_purge_or_the_epochs_is_an_error_of_the_disk() {
    for nth in 1.. {
        let disk = MemDisk::new("server");
        old_history(&disk);
        let mut log = open_log(&disk, z(1, 5));
        disk.fail_read(nth);
        let result = log.truncate(z(1, 4)).map(|_| ());
        if disk.read_fault_pending() {
            break;
        }
        assert!(matches!(result, Err(StorageError::Disk(_))), "{nth}: {result:?}");
    }
    for nth in 1.. {
        let disk = MemDisk::new("server");
        old_history(&disk);
        disk.fail_read(nth);
        let result = oxkeeper_storage::purge(&disk, 3).map(|_| ());
        if disk.read_fault_pending() {
            break;
        }
        assert!(matches!(result, Err(StorageError::Disk(_))), "{nth}: {result:?}");
        assert_eq!(data_files(&disk).len(), 4);
    }
    for nth in 1.. {
        let disk = MemDisk::new("server");
        let files = EpochFiles::new(disk.clone());
        disk.put(Place::Snapshots, "currentEpoch", b"1");
        files.announce_current(2).unwrap();
        disk.fail_read(nth);
        let result = files.load(z(2, 1)).map(|_| ());
        if disk.read_fault_pending() {
            break;
        }
        assert!(matches!(result, Err(StorageError::Disk(_))), "{nth}: {result:?}");
    }
}

/// A crash before the `nth` change of an adoption, for every n and many ways to lose what was not
/// durable: the old history or the new one, whole, and the second start finds what the first did.
#[test]
fn a_crash_anywhere_in_an_adoption_leaves_the_old_history_or_the_new_one() {
    for (two, zxid) in [(false, z(4, 100)), (true, z(4, 100)), (false, z(1, 2)), (true, z(1, 3))] {
        let mut outcomes = [0, 0];
        for nth in 1.. {
            let mut finished = false;
            for seed in 0..24 {
                let (disk, done) = adopt_until(two, zxid, nth);
                finished = done;
                outcomes[usize::from(crash_and_check(disk, zxid, done, nth, seed))] += 1;
            }
            if finished {
                break;
            }
        }
        assert!(outcomes.iter().all(|count| *count > 20), "{outcomes:?}");
    }
}

fn adopt_until(two_directories: bool, zxid: Zxid, nth: u64) -> (MemDisk, bool) {
    let disk = match two_directories {
        true => MemDisk::with_two_directories("server"),
        false => MemDisk::new("server"),
    };
    old_history(&disk);
    put_snapshot(&disk, z(1, 5));
    let mut log = open_log(&disk, z(1, 5));
    let snapshot = snapshot(&disk, zxid);
    disk.lose_power_at(nth);
    let done = log.adopt(snapshot).is_ok();
    assert_ne!(done, disk.has_lost_power());
    (disk, done)
}

/// Says whether the new history was found.
fn crash_and_check(mut disk: MemDisk, zxid: Zxid, done: bool, nth: u64, seed: u64) -> bool {
    let mut dice = Dice(seed * 1000 + nth);
    disk.crash(|n| dice.below(n));
    // The start is interrupted too, somewhere, and then made again.
    disk.lose_power_at(1 + dice.below(12));
    let _ = load_state(&disk);
    disk.crash(|n| dice.below(n));
    let (_, loaded) = load_state(&disk).unwrap_or_else(|error| panic!("{nth} {seed}: {error}"));
    let new = loaded.last_zxid == zxid;
    assert!(new || (!done && loaded.last_zxid == z(1, 5)), "{nth} {seed}: {}", loaded.last_zxid);
    let files = data_files(&disk);
    if new {
        assert_eq!(files.len(), 1, "{nth} {seed}: {files:?}");
    } else {
        assert_eq!(files.len(), 5, "{nth} {seed}: {files:?}");
    }
    assert!(!disk.list(Place::Snapshots).unwrap().contains(&"adopting".to_owned()));
    let (_, again) = load_state(&disk).unwrap();
    assert_eq!((again.last_zxid, again.warnings), (loaded.last_zxid, vec![]), "{nth} {seed}");
    new
}

/// An adoption that stopped as soon as its snapshot had its name.
fn half_adopted() -> MemDisk {
    for nth in 1.. {
        let (mut disk, _) = adopt_until(false, z(4, 100), nth);
        disk.kill();
        let list = disk.list(Place::Snapshots).unwrap();
        if list.contains(&"snapshot.400000064".to_owned()) {
            assert_eq!(data_files(&disk).len(), 6);
            return disk;
        }
    }
    unreachable!()
}

#[test]
fn an_adoption_is_not_finished_when_somebody_else_went_on() {
    type Other = fn(&MemDisk);
    let others: [Other; 4] = [
        |disk| put_log(disk, z(5, 1), &[payload(z(5, 1), 60, 9)]),
        |disk| put_snapshot(disk, z(4, 101)),
        // It has overwritten a listed log, in an epoch that it entered.
        |disk| disk.put(Place::Snapshots, "currentEpoch", b"5"),
        |disk| disk.flip(Place::Snapshots, "adopting", 30, 1),
    ];
    for other in others {
        let disk = half_adopted();
        other(&disk);
        let before = data_files(&disk);
        let (_, loaded) = load_state(&disk).unwrap();
        assert!(z(4, 100) <= loaded.last_zxid);
        assert_eq!(data_files(&disk), before);
        assert!(!disk.list(Place::Snapshots).unwrap().contains(&"adopting".to_owned()));
    }
}

#[test]
fn a_rotten_snapshot_of_a_half_done_adoption_removes_nothing() {
    let disk = half_adopted();
    disk.flip(Place::Snapshots, "snapshot.400000064", 40, 1);
    let before = data_files(&disk);
    let error = load_state(&disk).err().unwrap();
    assert!(matches!(error, StorageError::Unbridged { .. }), "{error}");
    assert_eq!(data_files(&disk), before);
}

#[test]
fn an_adopted_and_a_periodic_snapshot_of_one_zxid_do_not_share_a_file() {
    let disk = MemDisk::new("server");
    let make = [SnapshotWriter::create, SnapshotWriter::create_adopted];
    let writers = make.map(|make| make(disk.clone(), Zxid(5), Compression::None).unwrap());
    assert_eq!(disk.list(Place::Snapshots).unwrap().len(), writers.len());
}
