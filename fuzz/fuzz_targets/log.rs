//! A data directory whose log holds anything: start-up, ranges for learners, TRUNC.
//!
//! Input: one byte. Even: the rest is a log file. Odd: the rest is payloads, each behind its length of
//! two bytes, which are made into records with right checksums.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::Pieces;
use oxkeeper_proto::Zxid;
use oxkeeper_state::{Options, StateDatabase};
use oxkeeper_storage::log_file::{HEADER, put_record};
use oxkeeper_storage::{
    LoadOptions, LogOptions, MemDisk, OnLostTail, Place, TxnLog, load, log_diff_allowed, read_range,
};

const LIMIT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut pieces = Pieces(data);
    let mode = pieces.byte();
    let log = if mode & 1 == 0 {
        pieces.0.to_vec()
    } else {
        let mut log = HEADER.to_vec();
        while let Some(payload) = pieces.piece() {
            put_record(&mut log, payload);
        }
        log
    };
    let disk = MemDisk::new("fuzz");
    if mode & 2 == 0 {
        disk.put(Place::Logs, "log.1", &log);
    } else {
        // Two files, the older one cut.
        disk.put(Place::Logs, "log.1", &log[..log.len() * 2 / 3]);
        disk.put(Place::Logs, "log.2", &log);
    }
    let options = LoadOptions {
        trust_empty: true,
        skip_lone_checks: mode & 4 != 0,
        on_lost_tail: if mode & 8 == 0 { OnLostTail::Report } else { OnLostTail::Accept },
        ..LoadOptions::default()
    };
    let _ = log_diff_allowed(&disk, Zxid(1), 0.5);
    let _ = read_range(&disk, Zxid(1), Zxid(1 << 40), Zxid(1 << 40), LIMIT, LIMIT);
    let loaded = load(&disk, &options, || StateDatabase::new(1, Options::default()));
    let Ok(loaded) = loaded else { return };
    let again = load(&disk, &options, || StateDatabase::new(1, Options::default()))
        .expect("what loaded once loads again");
    assert_eq!((again.last_zxid, again.replayed), (loaded.last_zxid, loaded.replayed));
    let state = loaded.database.into_state();
    assert_eq!(again.database.into_state().digest(), state.digest());
    let mut log = TxnLog::open(disk, LogOptions::default(), loaded.last_zxid)
        .expect("what loads can be gone on with");
    let _ = log.truncate(Zxid(loaded.last_zxid.0 / 2));
});
