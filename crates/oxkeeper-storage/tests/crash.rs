//! Whatever is lost in a crash: a start finds everything that was synced, nothing that was not
//! written, and no hole.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use common::{Dice, load_state, open_log, payload, put_snapshot};
use oxkeeper_proto::{Epochs, Zxid};
use oxkeeper_storage::{Disk, EpochFiles, LogOptions, MemDisk, Place, TxnLog, names};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append {
        len: usize,
        fill: u8,
    },
    Sync,
    Prepare,
    Roll,
    /// The process dies, or the machine.
    Kill,
    Crash,
    FailWrite,
    FailSync,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append =
        (prop_oneof![8 => 0..400_usize, 1 => 400..6000_usize], prop_oneof![0..3_u8, Just(0x42)])
            .prop_map(|(len, fill)| Step::Append { len, fill });
    let step = prop_oneof![
        12 => append,
        5 => Just(Step::Sync),
        2 => Just(Step::Prepare),
        1 => Just(Step::Roll),
        1 => Just(Step::Kill),
        2 => Just(Step::Crash),
        1 => Just(Step::FailWrite),
        1 => Just(Step::FailSync),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What a server and its disk should have.
struct Server {
    disk: MemDisk,
    options: LogOptions,
    log: TxnLog<MemDisk>,
    /// Appended since the beginning of time, some of it lost and appended anew.
    history: Vec<Vec<u8>>,
    /// How many of them are acknowledged.
    synced: usize,
    dead: bool,
}

impl Server {
    fn new(preallocate_kib: i64) -> Self {
        let disk = MemDisk::new("server");
        put_snapshot(&disk, Zxid::ZERO);
        let options = LogOptions { preallocate_kib, ..LogOptions::default() };
        let log = TxnLog::open(disk.clone(), options.clone(), Zxid::ZERO).unwrap();
        Server { disk, options, log, history: Vec::new(), synced: 0, dead: false }
    }

    fn append(&mut self, len: usize, fill: u8) {
        let zxid = Zxid(self.history.len() as i64 + 1);
        let payload = payload(zxid, len, fill);
        match self.log.append(zxid, &payload) {
            Ok(()) => self.history.push(payload),
            Err(_) => assert!(self.dead),
        }
    }

    fn synced(&mut self, result: Result<oxkeeper_storage::Synced, oxkeeper_storage::StorageError>) {
        match result {
            Ok(synced) => {
                assert!(!self.dead, "a failed log never says that something is durable");
                assert_eq!(synced.zxid.0 as usize, self.history.len());
                self.synced = self.history.len();
            }
            Err(_) => self.dead = true,
        }
    }

    fn restart(&mut self) {
        let (_, loaded) = load_state(&self.disk).unwrap();
        let last = loaded.last_zxid.0 as usize;
        assert!(self.synced <= last, "lost {} of {}", self.synced - last, self.synced);
        assert!(last <= self.history.len(), "{last} was never written");
        let skip = last - loaded.recent.len();
        for (found, written) in loaded.recent.iter().zip(&self.history[skip..]) {
            assert_eq!(found.payload, written[..]);
        }
        self.history.truncate(last);
        // The start owns all that it found: it will vote with it.
        self.synced = last;
        self.log = TxnLog::open(self.disk.clone(), self.options.clone(), loaded.last_zxid).unwrap();
        self.dead = false;
    }

    fn step(&mut self, step: &Step, dice: &mut Dice) {
        match step {
            Step::Append { len, fill } => self.append(*len, *fill),
            Step::Sync => {
                let result = self.log.sync();
                self.synced(result);
            }
            Step::Prepare => match self.log.prepare() {
                Ok(_) => assert!(!self.dead),
                Err(_) => self.dead = true,
            },
            Step::Roll => {
                let result = self.log.roll();
                self.synced(result);
            }
            Step::Kill => {
                self.disk.kill();
                self.restart();
            }
            Step::Crash => {
                self.disk.crash(|n| dice.below(n));
                self.restart();
            }
            Step::FailWrite => self.disk.fail_write(1 + dice.below(3)),
            Step::FailSync => self.disk.fail_sync(1 + dice.below(4)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_start_finds_all_that_was_synced_and_no_hole(
        steps in steps(),
        seed in any::<u64>(),
        preallocate_kib in prop_oneof![Just(0), Just(1), Just(4), Just(64)],
    ) {
        let mut server = Server::new(preallocate_kib);
        let mut dice = Dice(seed);
        for step in steps.iter().chain([&Step::Sync, &Step::Crash, &Step::Crash]) {
            server.step(step, &mut dice);
        }
    }

    #[test]
    fn a_crash_while_cutting_leaves_a_history_that_can_be_cut_again(
        seed in any::<u64>(),
        count in 4..40_i64,
        cut in 2..40_i64,
    ) {
        let mut dice = Dice(seed);
        let mut disk = MemDisk::new("server");
        put_snapshot(&disk, Zxid::ZERO);
        let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid::ZERO).unwrap();
        for zxid in (1..=count).map(Zxid) {
            log.append(zxid, &payload(zxid, 100, 1)).unwrap();
            if dice.below(4) == 0 {
                log.roll().unwrap();
            }
            if dice.below(10) == 0 {
                log.sync().unwrap();
                put_snapshot(&disk, zxid);
            }
        }
        log.sync().unwrap();
        let cut = Zxid(cut.min(count));
        // Somewhere on the way a sync fails, and the machine with it.
        disk.fail_sync(1 + dice.below(6));
        let finished = log.truncate(cut).is_ok();
        disk.crash(|n| dice.below(n));
        let (_, loaded) = load_state(&disk).unwrap();
        prop_assert!(cut <= loaded.last_zxid && loaded.last_zxid.0 <= count);
        if finished {
            prop_assert_eq!(loaded.last_zxid, cut);
        }
        let again = open_log(&disk, loaded.last_zxid).truncate(cut).unwrap();
        prop_assert_eq!(again.last, cut);
        disk.crash(|n| dice.below(n));
        prop_assert_eq!(load_state(&disk).unwrap().1.last_zxid, cut);
        prop_assert!(disk.list(Place::Snapshots).unwrap().iter().all(
            |name| names::snapshot_zxid(name).is_none_or(|zxid| zxid <= cut)
        ));
    }

    #[test]
    fn a_snapshot_is_there_whole_or_not_at_all(seed in any::<u64>(), fault in 1..6_u64) {
        let mut dice = Dice(seed);
        let mut disk = MemDisk::new("server");
        put_snapshot(&disk, Zxid::ZERO);
        disk.fail_sync(fault);
        let done = std::panic::catch_unwind(|| put_snapshot(&disk, Zxid(9))).is_ok();
        disk.crash(|n| dice.below(n));
        let (_, loaded) = load_state(&disk).unwrap();
        prop_assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        prop_assert!(loaded.last_zxid == Zxid(9) || (!done && loaded.last_zxid == Zxid::ZERO));
        let left = disk.list(Place::Snapshots).unwrap();
        prop_assert!(left.iter().all(|name| name.starts_with("snapshot.")), "{left:?}");
    }

    /// ZOOKEEPER-2307: a crash left acceptedEpoch behind currentEpoch, and the server did not start again.
    #[test]
    fn a_saved_epoch_survives_and_never_mixes(seed in any::<u64>(), fault in 1..15_u64) {
        let mut dice = Dice(seed);
        let mut disk = MemDisk::new("server");
        let files = EpochFiles::new(disk.clone());
        files.load(Zxid::ZERO).unwrap();
        let mut log = open_log(&disk, Zxid::ZERO);
        disk.fail_sync(fault);
        let (mut accepted, mut current) = (0, 0);
        for epoch in 1..5 {
            if files.save_accepted(epoch).is_err() {
                break;
            }
            accepted = epoch;
            if files.save_current(epoch, &mut log).is_err() {
                break;
            }
            current = epoch;
        }
        disk.crash(|n| dice.below(n));
        let found = EpochFiles::new(disk).load(Zxid::ZERO).unwrap();
        prop_assert!(accepted <= found.accepted && found.accepted <= accepted + 1);
        prop_assert!(current <= found.current && found.current <= current + 1);
    }
}

/// Simulator seed 288: the power went a second time while a start took over the announced epoch, and
/// the announcement was gone.
#[test]
fn an_announced_epoch_survives_a_crash_in_whatever_happens_to_the_epoch_files_next() {
    type Next = fn(&EpochFiles<MemDisk>, &mut TxnLog<MemDisk>);
    let start: Next = |files, _| drop(files.load(Zxid::new(2, 5)));
    let enter: Next = |files, log| drop(files.save_current(3, log));
    let announce: Next = |files, _| drop(files.announce_current(4));
    for (case, next) in [start, enter, announce].into_iter().enumerate() {
        for seed in 0..600 {
            let mut dice = Dice(seed);
            let mut disk = MemDisk::new("server");
            let files = EpochFiles::new(disk.clone());
            let mut log = open_log(&disk, Zxid::new(2, 5));
            files.save_current(1, &mut log).unwrap();
            files.save_accepted(4).unwrap();
            files.announce_current(3).unwrap();
            match dice.below(4) {
                0 => disk.fail_write(1 + dice.below(2)),
                _ => disk.fail_sync(1 + dice.below(4)),
            }
            next(&files, &mut log);
            disk.crash(|n| dice.below(n));
            let epochs = EpochFiles::new(disk).load(Zxid::new(2, 5));
            let current = epochs.map(|epochs| epochs.current);
            assert!(current.is_ok(), "case {case}, seed {seed}: {current:?}");
        }
    }
}

/// Simulator seed 6010428: the directory of a new currentEpoch could not be synced, and the process ended.
/// The next start read the new epoch and logged in it, and then a loss of power brought the old file back.
#[test]
fn what_a_start_has_read_is_still_there_after_a_loss_of_power() {
    let load_both = |disk: &MemDisk| -> (Zxid, Epochs) {
        let last = load_state(disk).unwrap().1.last_zxid;
        (last, EpochFiles::new(disk.clone()).load(last).unwrap())
    };
    for fault in 1..20 {
        for seed in 0..50 {
            let mut dice = Dice(seed);
            let mut disk = MemDisk::new("server");
            put_snapshot(&disk, Zxid::ZERO);
            load_both(&disk);
            let files = EpochFiles::new(disk.clone());
            let mut log = open_log(&disk, Zxid::ZERO);
            disk.fail_sync(fault);
            let mut work = || -> Result<(), oxkeeper_storage::StorageError> {
                for epoch in [1, 2] {
                    files.save_accepted(epoch)?;
                    files.announce_current(epoch)?;
                    files.save_current(epoch, &mut log)?;
                    let zxid = Zxid::new(epoch, 1);
                    log.append(zxid, &payload(zxid, 60, 1))?;
                    log.roll()?;
                }
                Ok(())
            };
            drop(work());
            disk.kill();
            let read = load_both(&disk);
            disk.crash(|n| dice.below(n));
            assert_eq!(load_both(&disk), read, "sync {fault} fails, seed {seed}");
        }
    }
}
