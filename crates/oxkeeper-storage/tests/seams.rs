//! Where an epoch begins, numbers do not show whether a transaction is missing before it.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Dice, append, digested, load_state, load_with, open_log, payload, put_log};
use common::{put_snapshot, snapshot};
use oxkeeper_proto::Zxid;
use oxkeeper_state::{Options, State};
use oxkeeper_storage::log_file::DEFAULT_RECORD_LIMIT;
use oxkeeper_storage::{
    Disk, DiskFile, EpochFiles, LoadOptions, MemDisk, Place, StorageError, TxnLog, purge,
    read_range,
};

fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

fn records(zxids: impl IntoIterator<Item = Zxid>) -> Vec<Vec<u8>> {
    zxids.into_iter().map(|zxid| payload(zxid, 60, 9)).collect()
}

fn span(disk: &MemDisk, from: Zxid, to: Zxid, proven: Zxid) -> Option<(Zxid, Vec<Zxid>)> {
    let range = read_range(disk, from, to, proven, DEFAULT_RECORD_LIMIT, usize::MAX).unwrap()?;
    Some((range.base, range.proposals.into_iter().map(|proposal| proposal.zxid).collect()))
}

fn hole(disk: &MemDisk) -> (Zxid, Zxid, Option<Zxid>) {
    match load_state(disk).map(|(_, loaded)| loaded.last_zxid) {
        Err(StorageError::Hole { previous, found, known, .. }) => (previous, found, known),
        other => panic!("{other:?}"),
    }
}

/// Every directory of Apache's that once received a SNAP: logs to 1.5, the snapshot 2.9, the log from
/// 3.1 on, in a file of its own or in the same. A DIFF over that gap passes a hole on, as in
/// ZOOKEEPER-4925.
#[test]
fn the_log_from_before_a_snap_is_not_joined_to_the_log_behind_it() {
    for same_file in [false, true] {
        let disk = MemDisk::new("server");
        put_snapshot(&disk, Zxid::ZERO);
        put_snapshot(&disk, z(2, 9));
        let (before, behind) = ((1..=5).map(|n| z(1, n)), (1..=4).map(|n| z(3, n)));
        if same_file {
            put_log(&disk, z(1, 1), &records(before.chain(behind)));
        } else {
            put_log(&disk, z(1, 1), &records(before));
            put_log(&disk, z(3, 1), &records(behind));
        }
        let (_, loaded) = load_state(&disk).unwrap();
        // Whether 2.9 is really what 3.1 follows, nothing says.
        assert_eq!((loaded.last_zxid, loaded.contiguous_from), (z(3, 4), z(3, 0)));
        assert_eq!(loaded.recent[0].zxid, z(3, 1));
        let to = |from| span(&disk, from, z(3, 4), loaded.contiguous_from);
        for from in [z(1, 3), z(1, 5), z(2, 9), z(2, 12)] {
            assert_eq!(to(from), None, "{from}");
        }
        assert_eq!(to(z(3, 2)), Some((z(3, 2), vec![z(3, 3), z(3, 4)])));
        assert_eq!(span(&disk, z(1, 2), z(1, 3), z(3, 0)), Some((z(1, 2), vec![z(1, 3)])));
    }
}

#[test]
fn recent_proposals_begin_behind_the_last_seam_that_nothing_proves() {
    let disk = MemDisk::new("server");
    put_snapshot(&disk, Zxid::ZERO);
    for epoch in 1..=3 {
        put_log(&disk, z(epoch, 1), &records((1..=3).map(|n| z(epoch, n))));
    }
    let (_, loaded) = load_state(&disk).unwrap();
    let recent: Vec<Zxid> = loaded.recent.iter().map(|proposal| proposal.zxid).collect();
    assert_eq!(recent, [z(3, 1), z(3, 2), z(3, 3)]);
    assert_eq!((loaded.contiguous_from, loaded.replayed), (z(3, 0), 9));
}

/// Three epochs, the second one begun inside a file.
fn ours() -> MemDisk {
    let disk = MemDisk::new("server");
    put_snapshot(&disk, Zxid::ZERO);
    append(&disk, Zxid::ZERO, [z(1, 1), z(1, 2), z(2, 1), z(2, 2)]);
    append(&disk, z(2, 2), [z(3, 1), z(3, 2)]);
    disk
}

#[test]
fn a_log_of_our_own_is_proven_across_epochs() {
    let disk = ours();
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.contiguous_from), (z(3, 2), Zxid::ZERO));
    assert_eq!(loaded.recent.len(), 6);
    // Below the snapshot too, where no start has looked.
    for proven in [Zxid::ZERO, z(3, 2)] {
        let all = vec![z(1, 2), z(2, 1), z(2, 2), z(3, 1), z(3, 2)];
        assert_eq!(span(&disk, z(1, 1), z(3, 2), proven), Some((z(1, 1), all)), "{proven}");
    }
    // What an adopted snapshot holds counts as common, although no log has it.
    open_log(&disk, z(3, 2)).adopt(snapshot(&disk, z(4, 7))).unwrap();
    append(&disk, z(4, 7), [z(5, 1)]);
    let proven = load_state(&disk).unwrap().1.contiguous_from;
    assert_eq!(proven, z(4, 7));
    assert_eq!(span(&disk, z(4, 7), z(5, 1), proven), Some((z(4, 7), vec![z(5, 1)])));
    assert_eq!(span(&disk, z(4, 9), z(5, 1), proven), Some((z(4, 7), vec![z(5, 1)])));
    assert_eq!(span(&disk, z(3, 2), z(5, 1), proven), None);
    // A learner that says 0 wants a snapshot.
    assert_eq!(span(&ours(), Zxid::ZERO, z(3, 2), Zxid::ZERO), None);
}

/// ZOOKEEPER-4925 once more: a start had proven the log from 1.3 on; purges took the files up to the end of the epoch. A learner at 1.3
/// was given the first of the next epoch, and what had been between was missing for ever.
#[test]
fn what_was_purged_since_the_proof_is_not_bridged() {
    for noted in [true, false] {
        let disk = MemDisk::new("server");
        put_snapshot(&disk, Zxid::ZERO);
        let mut last = append(&disk, Zxid::ZERO, (1..=3).map(|n| z(1, n)));
        last = append(&disk, last, (4..=6).map(|n| z(1, n)));
        append(&disk, last, (1..=3).map(|n| z(3, n)));
        if !noted {
            disk.remove(Place::Logs, "seams").unwrap();
        }
        let proven = z(1, 3);
        assert!(span(&disk, z(1, 3), z(3, 3), proven).is_some());
        disk.remove(Place::Logs, "log.100000001").unwrap();
        assert!(span(&disk, z(1, 3), z(3, 3), proven).is_some(), "1.4 is the next one");
        disk.remove(Place::Logs, "log.100000004").unwrap();
        for from in [z(1, 3), z(1, 4), z(1, 6)] {
            let found = span(&disk, from, z(3, 3), proven);
            assert_eq!(found, None, "{from}");
        }
        // Where the log's own note says what precedes it, that is proof.
        let found = span(&disk, z(1, 6), z(3, 3), z(1, 6));
        assert_eq!(found.is_some(), noted);
    }
}

#[test]
fn without_its_notes_our_log_is_taken_by_number_and_not_proven() {
    type Loss = fn(&MemDisk);
    let losses: [(Loss, usize); 3] = [
        (|disk| disk.remove(Place::Logs, "seams").unwrap(), 0),
        (|disk| disk.flip(Place::Logs, "seams", 20, 1), 1),
        // Apache has entered an epoch since: it may have begun a log of a name that is noted.
        (|disk| disk.put(Place::Snapshots, "currentEpoch", b"7"), 0),
    ];
    for (lose, warnings) in losses {
        let disk = ours();
        lose(&disk);
        let (_, loaded) = load_state(&disk).unwrap();
        assert_eq!((loaded.last_zxid, loaded.contiguous_from), (z(3, 2), z(3, 0)));
        assert_eq!(loaded.warnings.len(), warnings, "{:?}", loaded.warnings);
        assert_eq!(load_state(&disk).unwrap().1.warnings, Vec::<String>::new());
        assert_eq!(span(&disk, z(1, 1), z(3, 2), z(3, 0)), None);
    }
}

#[test]
fn a_shortened_or_missing_older_log_is_noticed_across_epochs() {
    let cut = |name, len| {
        let disk = ours();
        disk.open_for_write(Place::Logs, name).unwrap().set_len(len).unwrap();
        hole(&disk)
    };
    // A record has 73 bytes, a header 16.
    assert_eq!(cut("log.100000001", 16 + 3 * 73), (z(2, 1), z(3, 1), Some(z(2, 2))));
    assert_eq!(cut("log.100000001", 16), (Zxid::ZERO, z(3, 1), Some(z(2, 2))));
    let disk = ours();
    disk.remove(Place::Logs, "log.100000001").unwrap();
    assert_eq!(hole(&disk), (Zxid::ZERO, z(3, 1), Some(z(2, 2))));
    let text = load_state(&disk).err().unwrap().to_string();
    assert!(text.contains("0x200000002") && text.contains("0x300000001"), "{text}");
    // An emptied one has no header.
    let disk = ours();
    disk.open_for_write(Place::Logs, "log.100000001").unwrap().set_len(0).unwrap();
    assert!(matches!(load_state(&disk), Err(StorageError::Log { .. })));
}

#[test]
fn records_behind_a_hole_of_an_older_log_are_noticed_without_notes() {
    let disk = MemDisk::new("server");
    put_snapshot(&disk, Zxid::ZERO);
    put_log(&disk, z(1, 1), &records((1..=9).map(|n| z(1, n))));
    put_log(&disk, z(2, 1), &records([z(2, 1)]));
    load_state(&disk).unwrap();
    let file = disk.open_for_write(Place::Logs, "log.100000001").unwrap();
    file.write_at(&[0; 4], 16 + 4 * 73 + 8).unwrap();
    assert_eq!(hole(&disk), (z(1, 4), z(2, 1), Some(z(1, 9))));
}

/// The transactions of `epochs`, each with its digest, as Apache logs them: a file per epoch. Those of
/// `lost` are not in the log.
fn with_digests(epochs: &[u32], lost: &[Zxid]) -> MemDisk {
    let disk = MemDisk::new("server");
    let mut state = State::with_options(1, Options::default());
    for epoch in epochs {
        let zxids: Vec<Zxid> = (1..=3).map(|n| z(*epoch, n)).collect();
        let logged = zxids.iter().map(|zxid| {
            let bytes = digested(&mut state, *zxid, &format!("/n{zxid}"));
            (!lost.contains(zxid)).then_some(bytes)
        });
        let logged: Vec<Vec<u8>> = logged.collect::<Vec<_>>().into_iter().flatten().collect();
        put_log(&disk, zxids[0], &logged);
    }
    disk
}

fn trusting() -> LoadOptions {
    LoadOptions { trust_empty: true, ..LoadOptions::default() }
}

#[test]
fn a_digest_proves_a_seam_or_refutes_it() {
    let disk = with_digests(&[1, 2, 3], &[]);
    let (_, loaded) = load_with(&disk, &trusting()).unwrap();
    assert_eq!((loaded.last_zxid, loaded.contiguous_from), (z(3, 3), Zxid::ZERO));
    assert_eq!(loaded.recent.len(), 9);
    assert_eq!(span(&disk, z(1, 2), z(2, 1), z(1, 2)), Some((z(1, 2), vec![z(1, 3), z(2, 1)])));

    let disk = with_digests(&[1, 2, 3], &[z(2, 3)]);
    let error = load_with(&disk, &trusting()).err().unwrap();
    let StorageError::Hole { previous, found, .. } = error else { panic!("{error}") };
    assert_eq!((previous, found), (z(2, 2), z(3, 1)));
}

#[test]
fn a_digest_that_never_agreed_refutes_nothing() {
    let disk = MemDisk::new("server");
    put_snapshot(&disk, Zxid::ZERO);
    let mut state = State::with_options(1, Options::default());
    digested(&mut state, z(0, 1), "/elsewhere");
    for epoch in [1, 2] {
        put_log(&disk, z(epoch, 1), &[digested(&mut state, z(epoch, 1), &format!("/n{epoch}"))]);
    }
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.contiguous_from), (z(2, 1), z(2, 0)));
}

/// A leader's snapshot at the start of its epoch is named by counter 0, which is no transaction.
#[test]
fn a_snapshot_of_an_epoch_without_transactions_is_no_contradiction() {
    let disk = ours();
    put_snapshot(&disk, z(4, 0));
    append(&disk, z(3, 2), [z(5, 1)]);
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.contiguous_from), (z(5, 1), z(4, 0)));
    // And a log that was begun on such a snapshot does not know what was before.
    let disk = ours();
    put_snapshot(&disk, z(4, 0));
    append(&disk, z(4, 0), [z(4, 1)]);
    assert_eq!(load_state(&disk).unwrap().1.contiguous_from, z(4, 0));
    disk.remove(Place::Snapshots, "snapshot.400000000").unwrap();
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.contiguous_from), (z(4, 1), z(4, 0)));
}

#[test]
fn notes_of_logs_that_are_gone_are_dropped() {
    let disk = ours();
    let lines = || {
        let bytes = disk.bytes(Place::Logs, "seams").unwrap();
        String::from_utf8(bytes).unwrap().lines().count() - 2
    };
    assert_eq!(lines(), 2);
    for counter in [1, 2, 3] {
        put_snapshot(&disk, z(4, counter));
    }
    purge(&disk, 3).unwrap();
    append(&disk, z(4, 3), [z(5, 1)]);
    assert_eq!(lines(), 2);
}

#[test]
fn a_log_begins_with_one_write_of_its_seam_and_one_sync_of_names() {
    let disk = MemDisk::new("server");
    let mut log = open_log(&disk, Zxid::ZERO);
    while log.prepare().unwrap() {}
    let before = disk.counters();
    log.append(Zxid(1), &payload(Zxid(1), 60, 9)).unwrap();
    log.sync().unwrap();
    let after = disk.counters();
    // Writes: the seam, the record, the mark. Syncs: the seam, the names, the record.
    assert_eq!((after.writes - before.writes, after.syncs - before.syncs), (3, 3));
}

fn enter(
    files: &EpochFiles<MemDisk>,
    epoch: u32,
    log: &mut TxnLog<MemDisk>,
) -> Result<(), StorageError> {
    files.announce_current(epoch)?;
    files.save_current(epoch, log)
}

/// Whatever is lost when the power goes anywhere in writing, rolling and entering epochs: what is
/// noted is true, and what a start loads is proven as far as it is noted.
#[test]
fn what_is_noted_of_seams_is_true_after_any_crash() {
    for seed in 0..400 {
        let mut dice = Dice(seed);
        let mut disk = MemDisk::new("server");
        put_snapshot(&disk, Zxid::ZERO);
        let (mut last, mut history) = (Zxid::ZERO, vec![Zxid::ZERO]);
        let mut epoch = 0;
        for _ in 0..6 {
            let files = EpochFiles::new(disk.clone());
            disk.put(Place::Snapshots, "acceptedEpoch", b"1000");
            files.load(last).unwrap();
            let mut log = open_log(&disk, last);
            disk.lose_power_at(1 + dice.below(60));
            for _ in 0..dice.below(30) {
                let next = match dice.below(5) {
                    0 => z(epoch + 1 + dice.below(2) as u32, 1),
                    _ => Zxid(last.0 + 1),
                };
                epoch = epoch.max(next.epoch());
                if next.counter() == 1 && enter(&files, next.epoch(), &mut log).is_err() {
                    break;
                }
                if log.append(next, &payload(next, 60, 9)).is_err() {
                    break;
                }
                (last, _) = (next, history.push(next));
                let done = match dice.below(3) {
                    0 => log.roll().map(|_| ()),
                    1 => log.sync().map(|_| ()),
                    _ => Ok(()),
                };
                if done.is_err() {
                    break;
                }
            }
            disk.crash(|n| dice.below(n));
            let (_, loaded) = load_state(&disk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            last = loaded.last_zxid;
            history.truncate(history.iter().position(|zxid| *zxid == last).unwrap() + 1);
            assert_eq!(loaded.contiguous_from, Zxid::ZERO, "seed {seed}");
            let recent = loaded.recent.iter().map(|proposal| proposal.zxid);
            assert!(recent.eq(history[1..].iter().copied()), "seed {seed}");
        }
    }
}
