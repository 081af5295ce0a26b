//! What this server has acknowledged and no longer has is never passed over in silence, and what it
//! has is never taken for lost.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Dice, append, data_files, load_state, load_with, open_log, payload, put_log};
use common::{put_snapshot, snapshot, try_snapshot};
use oxkeeper_proto::Zxid;
use oxkeeper_state::State;
use oxkeeper_storage::log_file::put_record;
use oxkeeper_storage::{
    Disk, DiskFile, EpochFiles, LoadOptions, Loaded, LogOptions, LostTail, MarkSync, MemDisk,
    OnLostTail, Place, StorageError, TxnLog,
};

/// Bytes of a header, and of a record as [`append`] writes them.
const HEADER: usize = 16;
const RECORD: usize = 73;

fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

fn load_as(disk: &MemDisk, on_lost_tail: OnLostTail) -> Result<(State, Loaded<()>), StorageError> {
    load_with(disk, &LoadOptions { on_lost_tail, ..LoadOptions::default() })
}

/// A member in epoch 0 with snapshot.0 and 200 acknowledged records in log.1.
fn member() -> MemDisk {
    history(MemDisk::new("server"))
}

fn history(disk: MemDisk) -> MemDisk {
    put_snapshot(&disk, Zxid::ZERO);
    append(&disk, Zxid::ZERO, (1..=200).map(Zxid));
    MarkSync::open(&disk).unwrap().sync().unwrap();
    disk
}

fn zero(disk: &MemDisk, at: usize, len: usize) {
    let file = disk.open_for_write(Place::Logs, "log.1").unwrap();
    file.write_at(&vec![0; len], at as u64).unwrap();
    file.sync().unwrap();
}

/// The length field of the record after `last`.
fn length_after(last: usize) -> usize {
    HEADER + last * RECORD + 8
}

fn refusal(disk: &MemDisk) -> LostTail {
    let before = disk.list(Place::Logs).unwrap();
    let error = load_state(disk).map(|(_, loaded)| loaded.last_zxid);
    assert_eq!(disk.list(Place::Logs).unwrap(), before, "a refusal touches nothing");
    match error {
        Err(StorageError::LostTail(lost)) => lost,
        other => panic!("{other:?}"),
    }
}

#[test]
fn four_zero_bytes_do_not_hide_what_was_acknowledged() {
    let disk = member();
    zero(&disk, length_after(20), 4);
    let lost = refusal(&disk);
    assert_eq!((lost.last, lost.to, lost.offset), (Zxid(20), Zxid(200), 16 + 20 * 73));
    let text = load_state(&disk).err().unwrap().to_string();
    for word in [
        "log.1, byte 1476",
        "at byte 1549, there are records again, from 0x16",
        "180 transactions",
        "0x15 to 0xc8",
        "oxkeeper.acceptLostTail=true",
        "put it back",
    ] {
        assert!(text.contains(word), "{text:?} lacks {word:?}");
    }
}

#[test]
fn a_member_goes_on_without_a_vote_and_says_so_again_until_it_is_synchronized() {
    let mut disk = member();
    zero(&disk, length_after(20), 4);
    let (_, loaded) = load_as(&disk, OnLostTail::Report).unwrap();
    assert_eq!((loaded.last_zxid, loaded.lost_tail), (Zxid(20), Some(Zxid(200))));
    let (text, kept) = (&loaded.warnings[0], "damaged.log.1.1476");
    assert!(text.contains("180 transactions") && text.contains(kept), "{text}");
    let bytes = disk.bytes(Place::Logs, kept).unwrap();
    assert_eq!(bytes.len(), 180 * RECORD, "what was behind the hole is kept");
    assert_eq!(disk.bytes(Place::Logs, "log.1").unwrap().len(), HEADER + 20 * RECORD);

    // Part of what is missing comes back, and the member dies.
    append(&disk, Zxid(20), (21..=60).map(Zxid));
    disk.kill();
    let (_, loaded) = load_as(&disk, OnLostTail::Report).unwrap();
    assert_eq!((loaded.last_zxid, loaded.lost_tail), (Zxid(60), Some(Zxid(200))));
    assert_eq!(refusal(&disk).last, Zxid(60));

    // The leader has no more than this: NEWLEADER ends it.
    let mut log = open_log(&disk, Zxid(60));
    EpochFiles::new(disk.clone()).save_current(1, &mut log).unwrap();
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.lost_tail), (Zxid(60), None));
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert_eq!(disk.bytes(Place::Logs, kept).unwrap(), bytes);
}

#[test]
fn a_lost_tail_that_comes_back_is_not_lost() {
    let disk = member();
    zero(&disk, length_after(20), 4);
    load_as(&disk, OnLostTail::Report).unwrap();
    append(&disk, Zxid(20), (21..=200).map(Zxid));
    assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid(200));
}

#[test]
fn an_operator_can_go_on_without_the_tail() {
    let disk = member();
    zero(&disk, length_after(20), 4);
    let (_, loaded) = load_as(&disk, OnLostTail::Accept).unwrap();
    assert_eq!((loaded.last_zxid, loaded.lost_tail), (Zxid(20), None));
    let text = &loaded.warnings[0];
    assert!(text.contains("acceptLostTail") && text.contains("damaged.log.1.1476"), "{text}");
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.warnings), (Zxid(20), vec![]));
}

#[test]
fn every_way_to_lose_the_tail_is_noticed() {
    type Loss = fn(&MemDisk);
    let losses: [(&str, Loss, i64, &str); 8] = [
        ("a zeroed block", |disk| zero(disk, 4096, 4096), 55, "records again"),
        ("a zeroed end", |disk| zero(disk, 4096, 200 * RECORD), 55, "no end byte"),
        ("an end byte", |disk| zero(disk, HEADER + 100 * RECORD - 1, 1), 99, "records again"),
        ("the last end byte", |disk| zero(disk, HEADER + 200 * RECORD - 1, 1), 199, "no end byte"),
        ("the last length", |disk| zero(disk, length_after(199), 4), 199, "is gone, or its end"),
        ("a shorter file", |disk| cut(disk, HEADER + 150 * RECORD), 150, "is gone, or its end"),
        ("an emptied file", |disk| cut(disk, 0), 0, "log.1 is empty"),
        ("no file", |disk| disk.remove(Place::Logs, "log.1").unwrap(), 0, "there is no log"),
    ];
    for two in [false, true] {
        for (what, lose, last, found) in losses {
            let disk = match two {
                true => history(MemDisk::with_two_directories("server")),
                false => member(),
            };
            lose(&disk);
            let lost = refusal(&disk);
            assert_eq!((lost.last, lost.to), (Zxid(last), Zxid(200)), "{what}");
            assert!(lost.found.contains(found), "{what}: {lost}");
            for _ in 0..2 {
                let (_, loaded) = load_as(&disk, OnLostTail::Report).unwrap();
                let got = (loaded.last_zxid, loaded.lost_tail);
                assert_eq!(got, (Zxid(last), Some(Zxid(200))), "{what}");
            }
            let (_, loaded) = load_as(&disk, OnLostTail::Accept).unwrap();
            assert_eq!((loaded.last_zxid, loaded.lost_tail), (Zxid(last), None), "{what}");
            append(&disk, Zxid(last), (last + 1..=last + 5).map(Zxid));
            let (_, loaded) = load_state(&disk).unwrap();
            assert_eq!((loaded.last_zxid, loaded.warnings), (Zxid(last + 5), vec![]), "{what}");
        }
    }
}

fn cut(disk: &MemDisk, len: usize) {
    disk.open_for_write(Place::Logs, "log.1").unwrap().set_len(len as u64).unwrap();
}

#[test]
fn a_removed_newest_log_behind_another_is_noticed() {
    let disk = member();
    append(&disk, Zxid(200), (201..=210).map(Zxid));
    disk.remove(Place::Logs, "log.c9").unwrap();
    let lost = refusal(&disk);
    assert_eq!((lost.last, lost.to), (Zxid(200), Zxid(210)));
    assert!(lost.file.ends_with("log.1"), "{lost}");
}

#[test]
fn a_removed_snapshot_is_made_up_for_by_the_log_or_noticed() {
    let disk = member();
    put_snapshot(&disk, Zxid(150));
    disk.remove(Place::Snapshots, "snapshot.96").unwrap();
    assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid(200));
    // An adopted one is all there is.
    let disk = member();
    open_log(&disk, Zxid(200)).adopt(snapshot(&disk, z(4, 100))).unwrap();
    disk.remove(Place::Snapshots, "snapshot.400000064").unwrap();
    assert_eq!(refusal(&disk).to, z(4, 100));
    append(&disk, z(4, 100), [z(5, 1)]);
    assert!(matches!(load_state(&disk), Err(StorageError::NoSnapshot { .. })));
    let trust = LoadOptions { trust_empty: true, ..LoadOptions::default() };
    let error = load_with(&disk, &trust).err().unwrap();
    assert!(matches!(error, StorageError::Hole { known: Some(known), .. } if known == z(4, 100)));
}

#[test]
fn a_directory_of_apache_has_no_mark_and_no_error() {
    let disk = MemDisk::new("server");
    put_snapshot(&disk, Zxid::ZERO);
    let records: Vec<Vec<u8>> = (1..=9).map(|n| payload(Zxid(n), 60, 9)).collect();
    put_log(&disk, Zxid(1), &records);
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.warnings), (Zxid(9), vec![]));
    // It does not sync what it has not acknowledged either, so a hole may be anybody's. Once reported,
    // it stays reported.
    zero(&disk, length_after(4), 4);
    assert_eq!(refusal(&disk).to, Zxid(9));
    for _ in 0..2 {
        let (_, loaded) = load_as(&disk, OnLostTail::Report).unwrap();
        assert_eq!((loaded.last_zxid, loaded.lost_tail), (Zxid(4), Some(Zxid(9))));
    }
}

#[test]
fn a_mark_from_before_another_program_used_the_directory_says_nothing() {
    let disk = member();
    // It has entered an epoch and cut the log.
    disk.put(Place::Snapshots, "currentEpoch", b"1");
    cut(&disk, HEADER + 150 * RECORD);
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.warnings), (Zxid(150), vec![]));
    // From here on it counts again.
    append(&disk, Zxid(150), (151..=160).map(Zxid));
    disk.remove(Place::Logs, "log.97").unwrap();
    assert_eq!(refusal(&disk).to, Zxid(160));
}

#[test]
fn a_damaged_mark_is_a_warning() {
    let disk = member();
    for slot in [0, 512] {
        disk.flip(Place::Logs, "acknowledged", slot + 17, 1);
    }
    let (_, loaded) = load_state(&disk).unwrap();
    assert!(loaded.warnings[0].contains("acknowledged is damaged"), "{:?}", loaded.warnings);
    assert_eq!(load_state(&disk).unwrap().1.warnings, Vec::<String>::new());
    // One of the two records is enough.
    let disk = member();
    disk.flip(Place::Logs, "acknowledged", 17, 1);
    cut(&disk, HEADER + 150 * RECORD);
    assert!(refusal(&disk).to >= Zxid(199));
}

#[test]
fn the_mark_is_exact_after_a_kill_and_not_behind_its_last_sync_after_a_loss_of_power() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut disk = MemDisk::new("server");
        put_snapshot(&disk, Zxid::ZERO);
        let mut log = open_log(&disk, Zxid::ZERO);
        let mark = MarkSync::open(&disk).unwrap();
        assert!(mark.sync().unwrap() && !mark.clone().sync().unwrap());
        let mut durable = Zxid::ZERO;
        for zxid in (1..=40).map(Zxid) {
            log.append(zxid, &payload(zxid, 60, 9)).unwrap();
            if dice.below(3) == 0 {
                log.sync().unwrap();
                let changed = dice.below(3) == 0;
                if changed {
                    assert!(mark.sync().unwrap());
                    durable = zxid;
                }
            }
        }
        log.sync().unwrap();
        let killed = dice.below(2) == 0;
        if killed {
            disk.kill();
        } else {
            disk.crash(|n| dice.below(n));
        }
        for name in data_files(&disk).iter().filter(|name| name.starts_with("log.")) {
            disk.remove(Place::Logs, name).unwrap();
        }
        match load_state(&disk).map(|(_, loaded)| loaded.warnings) {
            Err(StorageError::LostTail(lost)) => {
                assert!(durable <= lost.to && (!killed || lost.to == Zxid(40)), "seed {seed}");
            }
            other => assert_eq!((other.unwrap(), killed, durable), (vec![], false, Zxid::ZERO)),
        }
    }
}

/// What may be lost then is the operator's choice. It must not keep all members of an ensemble from voting
/// once their building has lost its power.
#[test]
fn without_force_sync_a_loss_of_power_is_no_loss_of_what_was_acknowledged() {
    for seed in 0..100 {
        let mut dice = Dice(seed);
        let mut disk = MemDisk::new("server");
        put_snapshot(&disk, Zxid::ZERO);
        let options = LogOptions { force_sync: false, ..LogOptions::default() };
        let files = EpochFiles::new(disk.clone());
        let mut log = TxnLog::open(disk.clone(), options, Zxid::ZERO).unwrap();
        let mark = MarkSync::open(&disk).unwrap();
        for _ in 0..40 {
            let mut next = Zxid(log.appended().0 + 1);
            match dice.below(8) {
                0 => {
                    next = z(next.epoch() + 1, 1);
                    files.save_current(next.epoch(), &mut log).unwrap();
                }
                1 => drop(log.roll().unwrap()),
                2 => drop(mark.sync().unwrap()),
                _ => {}
            }
            log.append(next, &payload(next, 60, 9)).unwrap();
            log.sync().unwrap();
        }
        disk.crash(|n| dice.below(n));
        load_state(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

/// Sectors of the last batch may persist in any order: records can stand behind a hole that nobody was
/// told of.
#[test]
fn records_behind_a_hole_in_the_last_batch_are_torn_and_those_further_away_are_damage() {
    let torn = |far: u64| {
        let disk = member();
        let end = (HEADER + 200 * RECORD) as u64;
        let mut record = Vec::new();
        put_record(&mut record, &payload(Zxid(202), 60, 9));
        let file = disk.open_for_write(Place::Logs, "log.1").unwrap();
        file.write_at(&record, end + far).unwrap();
        disk
    };
    let disk = torn(RECORD as u64);
    let (_, loaded) = load_state(&disk).unwrap();
    assert_eq!((loaded.last_zxid, loaded.lost_tail), (Zxid(200), None));
    assert_eq!(disk.bytes(Place::Logs, "log.1").unwrap().len(), HEADER + 200 * RECORD);
    append(&disk, Zxid(200), [Zxid(201), Zxid(202)]);
    assert_eq!(load_state(&disk).unwrap().1.last_zxid, Zxid(202));
    let disk = torn(20 << 20);
    assert_eq!(refusal(&disk).to, Zxid(202));
    let (_, loaded) = load_as(&disk, OnLostTail::Report).unwrap();
    assert_eq!(loaded.lost_tail, Some(Zxid(202)));
}

#[test]
fn bytes_that_only_look_like_records_are_none() {
    // Of an earlier transaction, and of one that so few bytes cannot lead to.
    for zxid in [Zxid(150), Zxid(10_000_000), z(70_000, 1)] {
        let disk = member();
        let mut record = Vec::new();
        put_record(&mut record, &payload(zxid, 60, 9));
        let file = disk.open_for_write(Place::Logs, "log.1").unwrap();
        file.write_at(&record, 20 << 20).unwrap();
        let (_, loaded) = load_state(&disk).unwrap();
        assert_eq!((loaded.last_zxid, loaded.lost_tail), (Zxid(200), None));
    }
}

#[test]
fn a_cut_lowers_the_mark_before_the_log() {
    for nth in 1.. {
        let mut dice = Dice(nth);
        let mut disk = member();
        let mut log = open_log(&disk, Zxid(200));
        disk.lose_power_at(nth);
        let done = log.truncate(Zxid(150)).is_ok();
        disk.crash(|n| dice.below(n));
        let (_, loaded) = load_state(&disk).unwrap_or_else(|error| panic!("{nth}: {error}"));
        let whole = if done { Zxid(150) } else { Zxid(200) };
        assert!([Zxid(150), whole].contains(&loaded.last_zxid), "{nth}: {}", loaded.last_zxid);
        if done {
            break;
        }
    }
    // And from then on it counts again.
    let disk = member();
    open_log(&disk, Zxid(200)).truncate(Zxid(150)).unwrap();
    append(&disk, Zxid(150), [Zxid(151)]);
    disk.remove(Place::Logs, "log.97").unwrap();
    assert_eq!(refusal(&disk).to, Zxid(151));
}

/// A start that goes on after damage is interrupted anywhere: the loss is told by the next one, and
/// what stood behind the hole is in the log or beside it.
#[test]
fn a_crash_anywhere_in_setting_a_damaged_end_aside_loses_nothing() {
    for nth in 1.. {
        let mut finished = false;
        for seed in 0..12 {
            let mut dice = Dice(nth * 100 + seed);
            let mut disk = member();
            zero(&disk, length_after(20), 4);
            disk.lose_power_at(nth);
            finished = load_as(&disk, OnLostTail::Report).is_ok();
            disk.crash(|n| dice.below(n));
            let (_, loaded) = load_as(&disk, OnLostTail::Report).unwrap();
            assert_eq!((loaded.last_zxid, loaded.lost_tail), (Zxid(20), Some(Zxid(200))));
            let kept = disk.bytes(Place::Logs, "damaged.log.1.1476").unwrap();
            assert_eq!(kept.len(), 180 * RECORD, "change {nth}, seed {seed}");
        }
        if finished {
            break;
        }
    }
}

/// Opening, appending, rolling, entering epochs, cutting, adopting; kill or loss of power anywhere;
/// sectors of what was not synced lost in any pattern: no start says that something is lost, and
/// nothing acknowledged is.
#[test]
fn no_plain_crash_looks_like_a_loss() {
    for seed in 0..600 {
        let mut dice = Dice(seed);
        let mut disk = MemDisk::new("server");
        put_snapshot(&disk, Zxid::ZERO);
        disk.put(Place::Snapshots, "acceptedEpoch", b"1000");
        let (mut last, mut acknowledged) = (Zxid::ZERO, Zxid::ZERO);
        for life in 0..5 {
            let files = EpochFiles::new(disk.clone());
            let at = format!("seed {seed}, life {life}");
            let (_, loaded) = load_state(&disk).unwrap_or_else(|error| panic!("{at}: {error}"));
            assert!(acknowledged <= loaded.last_zxid && loaded.last_zxid <= last, "{at}");
            last = loaded.last_zxid;
            files.load(last).unwrap_or_else(|error| panic!("{at}: {error}"));
            let mut server = Life { disk: disk.clone(), files, last, acknowledged: last };
            disk.lose_power_at(1 + dice.below(80));
            let _ = server.work(&mut dice);
            (last, acknowledged) = (server.last.max(server.acknowledged), server.acknowledged);
            if dice.below(3) == 0 {
                disk.kill();
            } else {
                disk.crash(|n| dice.below(n));
            }
        }
    }
}

struct Life {
    disk: MemDisk,
    files: EpochFiles<MemDisk>,
    /// The newest transaction that the disk may have.
    last: Zxid,
    /// What it must have.
    acknowledged: Zxid,
}

impl Life {
    fn work(&mut self, dice: &mut Dice) -> Result<(), StorageError> {
        let options = LogOptions { preallocate_kib: 4, ..LogOptions::default() };
        let mut log = TxnLog::open(self.disk.clone(), options.clone(), self.last)?;
        let mark = MarkSync::open(&self.disk)?;
        for _ in 0..30 {
            let at = log.appended();
            match dice.below(12) {
                0 => {
                    log.roll()?;
                    self.acknowledged = log.synced();
                }
                1 => {
                    mark.sync()?;
                }
                2 => {
                    log.prepare()?;
                }
                3 if dice.below(2) == 0 => {
                    log.sync()?;
                    self.acknowledged = log.synced();
                    let next = z(at.epoch() + 1, 1);
                    self.files.announce_current(next.epoch())?;
                    self.files.save_current(next.epoch(), &mut log)?;
                    log.append(next, &payload(next, 60, 9))?;
                    self.last = next;
                }
                4 if dice.below(3) == 0 => {
                    let adopted = z(at.epoch() + 1, 7);
                    self.last = adopted;
                    self.files.announce_current(adopted.epoch())?;
                    // What was acknowledged goes with a history that is not the leader's.
                    self.acknowledged = log.synced().min(adopted);
                    log.adopt(try_snapshot(&self.disk, adopted)?)?;
                    self.acknowledged = adopted;
                    self.files.save_current(adopted.epoch(), &mut log)?;
                }
                5 if dice.below(2) == 0 && 2 < at.counter() => {
                    log.sync()?;
                    let cut = Zxid(at.0 - dice.below(2) as i64);
                    self.acknowledged = cut.min(log.synced());
                    match log.truncate(cut) {
                        Err(StorageError::CannotTruncate { .. }) => {}
                        result => drop(result?),
                    }
                    let (_, loaded) = load_state(&self.disk)?;
                    self.last = loaded.last_zxid;
                    self.acknowledged = loaded.last_zxid;
                    log = TxnLog::open(self.disk.clone(), options.clone(), loaded.last_zxid)?;
                }
                _ => {
                    for _ in 0..dice.below(4) {
                        let next = Zxid(log.appended().0 + 1);
                        log.append(next, &payload(next, 40 + dice.below(900) as usize, 9))?;
                        self.last = next;
                    }
                    if dice.below(2) == 0 {
                        log.sync()?;
                        self.acknowledged = log.synced();
                    }
                }
            }
        }
        Ok(())
    }
}

/// Three logs, three epochs, two snapshots, all of it acknowledged up to 3.40.
fn three_logs() -> MemDisk {
    let disk = MemDisk::new("server");
    put_snapshot(&disk, Zxid::ZERO);
    disk.put(Place::Snapshots, "acceptedEpoch", b"3");
    disk.put(Place::Snapshots, "currentEpoch", b"3");
    append(&disk, Zxid::ZERO, (1..=40).map(|n| z(1, n)).chain((1..=10).map(|n| z(2, n))));
    put_snapshot(&disk, z(1, 20));
    append(&disk, z(2, 10), (11..=60).map(|n| z(2, n)));
    append(&disk, z(2, 60), (1..=40).map(|n| z(3, n)));
    MarkSync::open(&disk).unwrap().sync().unwrap();
    disk
}

/// Any zeros, cuts, wrong bits, missing files: either the whole history, or a refusal, or a loss that is
/// told, now and at the next start.
#[test]
fn no_damage_shrinks_the_history_in_silence() {
    let mut counts = [0; 3];
    for seed in 0..500 {
        let mut dice = Dice(seed);
        let disk = three_logs();
        let files = data_files(&disk);
        for _ in 0..1 + dice.below(2) {
            let name = &files[dice.below(files.len() as u64) as usize];
            let Ok(file) = disk.open_for_write(Place::Logs, name) else { continue };
            let len = file.len().unwrap().clamp(1, 7000);
            let (at, size) = (dice.below(len), 1 + dice.below([1, 4, 600][seed as usize % 3]));
            match dice.below(6) {
                0 => disk.remove(Place::Logs, name).unwrap(),
                1 => file.set_len(at).unwrap(),
                2 if at < file.len().unwrap() => {
                    disk.flip(Place::Logs, name, at as usize, 1 << dice.below(8));
                }
                _ => file.write_at(&vec![0; size as usize], at).unwrap(),
            }
        }
        let mut outcome = None;
        for _ in 0..2 {
            let result = load_as(&disk, OnLostTail::Report);
            let now = result.map(|(_, loaded)| (loaded.last_zxid, loaded.lost_tail)).ok();
            match now {
                None => counts[0] += 1,
                Some((last, None)) => {
                    assert_eq!(last, z(3, 40), "seed {seed}");
                    counts[1] += 1;
                }
                Some((last, lost)) => {
                    assert!(last < z(3, 40) && lost == Some(z(3, 40)), "seed {seed}");
                    counts[2] += 1;
                }
            }
            assert!(outcome.is_none_or(|before| before == now), "seed {seed}");
            outcome = Some(now);
        }
    }
    assert!(counts.iter().all(|count| *count > 30), "{counts:?}");
}
