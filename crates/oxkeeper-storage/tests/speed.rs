//! Figures, not checks: `cargo test --release -p oxkeeper-storage --test speed -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod common;

use std::time::{Duration, Instant};

use common::payload;
use oxkeeper_proto::snapshot::{
    NodeRecord, SnapshotSink, StatPersisted, put_node, put_nodes_end, put_tables,
};
use oxkeeper_proto::{Acl, Zxid};
use oxkeeper_state::{Options, StateDatabase};
use oxkeeper_storage::{
    Compression, Disk, DiskFile, LoadOptions, LogOptions, LogReader, Place, RealDisk,
    SnapshotWriter, TxnLog, load, read_snapshot,
};

fn percentiles(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros();
    let sum: Duration = times.iter().sum();
    println!(
        "{what:<40} {:>7.0}/s  p50 {} p99 {} p99.9 {} max {} µs",
        times.len() as f64 / sum.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// A directory on a real disk: the default temporary directory may be in memory.
fn disk() -> (tempfile::TempDir, RealDisk) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = RealDisk::open(dir.path(), dir.path(), true).unwrap();
    (dir, disk)
}

fn appends(name: &str, batch: usize, prepared: bool) {
    let (_dir, disk) = disk();
    let mut log = TxnLog::open(disk, LogOptions::default(), Zxid::ZERO).unwrap();
    let (mut zxid, mut times) = (Zxid::ZERO, Vec::new());
    let rounds = if batch == 1 { 8000 } else { 1500 };
    for _ in 0..rounds {
        if prepared {
            while log.prepare().unwrap() {}
        }
        let start = Instant::now();
        for _ in 0..batch {
            zxid = zxid.next().unwrap();
            log.append(zxid, &payload(zxid, 180, 7)).unwrap();
        }
        log.sync().unwrap();
        times.push(start.elapsed());
    }
    println!("{name:<40} first {} µs", times[0].as_micros());
    percentiles(name, times);
}

#[test]
#[ignore = "measures"]
fn log() {
    for _ in 0..2 {
        appends("append 1 + sync, never idle", 1, false);
        appends("append 1 + sync, idle between", 1, true);
        appends("append 500 + sync, never idle", 500, false);
        appends("append 500 + sync, idle between", 500, true);
    }
}

/// The same writes by turns to files with different kinds of space: what pre-written zeros are
/// worth. By turns, so that other load on the disk meets all of them alike.
#[test]
#[ignore = "measures"]
fn space() {
    const ZEROS: u64 = 4 << 20;
    let kinds = ["growing", "sparse 64 MiB", "pre-written zeros"];
    let (_dir, disk) = disk();
    let files = kinds.map(|name| disk.create(Place::Logs, name).unwrap());
    files[1].write_at(&[0], 64 << 20).unwrap();
    files[2].write_at(&vec![0; ZEROS as usize], 0).unwrap();
    for file in &files {
        file.sync().unwrap();
    }
    let mut times = [const { Vec::new() }; 3];
    for n in 0..4000 {
        for (file, times) in files.iter().zip(&mut times) {
            file.write_at(&[7; 190], n * 190).unwrap();
            times.push(file.sync().unwrap());
        }
    }
    for (kind, times) in kinds.iter().zip(times) {
        percentiles(kind, times);
    }
}

#[derive(Default)]
struct Count(u64);

impl SnapshotSink for Count {
    fn session(&mut self, _: i64, _: i32) {}
    fn acl(&mut self, _: i64, _: Vec<Acl>) {}
    fn node(&mut self, _: NodeRecord<'_>) -> Result<(), String> {
        self.0 += 1;
        Ok(())
    }
}

#[test]
#[ignore = "measures"]
fn snapshot() {
    let mut body = Vec::new();
    put_tables(&mut body, [].into_iter(), [].into_iter());
    let stat = StatPersisted { czxid: 9, mzxid: 9, ..StatPersisted::default() };
    put_node(&mut body, "", Some(b""), -1, &stat);
    for n in 0..1_000_000 {
        put_node(&mut body, &format!("/bench/node-{n:010}"), Some(&[b'x'; 100]), 1, &stat);
    }
    put_nodes_end(&mut body);
    for compression in
        [Compression::None, Compression::None, Compression::Snappy, Compression::Gzip]
    {
        let (_dir, disk) = disk();
        let start = Instant::now();
        let mut writer = SnapshotWriter::create(disk.clone(), Zxid(9), compression).unwrap();
        for chunk in body.chunks(256 << 10) {
            writer.write(chunk).unwrap();
        }
        let name = writer.finish(&Default::default()).unwrap();
        let wrote = start.elapsed();
        let start = Instant::now();
        let mut count = Count::default();
        let info = read_snapshot(&disk, &name, &mut count, 1 << 20).unwrap();
        let read = start.elapsed();
        assert_eq!(count.0, 1_000_001);
        let rate = |time: Duration| info.len as f64 / 1e6 / time.as_secs_f64();
        println!(
            "{name}: {} MB, write {wrote:.2?} ({:.0} MB/s), read {read:.2?} ({:.0} MB/s)",
            info.len / 1_000_000,
            rate(wrote),
            rate(read)
        );
    }
}

#[test]
#[ignore = "measures"]
fn replay() {
    let (_dir, disk) = disk();
    let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid::ZERO).unwrap();
    for zxid in (1..=500_000).map(Zxid) {
        log.append(zxid, &payload(zxid, 180, 7)).unwrap();
    }
    log.sync().unwrap();
    let start = Instant::now();
    let mut reader = LogReader::new(disk, Zxid(1), 1 << 20).unwrap();
    let (mut count, mut bytes) = (0, 0);
    while let Some(record) = reader.next_record().unwrap() {
        (count, bytes) = (count + 1, bytes + record.payload.len());
    }
    let took = start.elapsed();
    println!("{count} records, {} MB read in {took:.2?}", bytes / 1_000_000);
}

/// A start on a snapshot of a million znodes and a log of which most is preallocated.
#[test]
#[ignore = "measures"]
fn start() {
    let (_dir, disk) = disk();
    let mut body = Vec::new();
    put_tables(&mut body, [].into_iter(), [].into_iter());
    let stat = StatPersisted { czxid: 9, mzxid: 9, ..StatPersisted::default() };
    for path in ["", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "/bench"] {
        put_node(&mut body, path, Some(b""), -1, &stat);
    }
    for n in 0..1_000_000 {
        put_node(&mut body, &format!("/bench/node-{n:010}"), Some(&[b'x'; 100]), -1, &stat);
    }
    put_nodes_end(&mut body);
    let mut writer = SnapshotWriter::create(disk.clone(), Zxid(0), Compression::None).unwrap();
    writer.write(&body).unwrap();
    writer.finish(&Default::default()).unwrap();
    let mut log = TxnLog::open(disk.clone(), LogOptions::default(), Zxid::ZERO).unwrap();
    for zxid in (1..=200_000).map(Zxid) {
        log.append(zxid, &payload(zxid, 180, 7)).unwrap();
    }
    log.sync().unwrap();
    for len in [log.file_len(), 256 << 20] {
        // As Apache preallocates.
        disk.open_for_write(Place::Logs, "log.1").unwrap().set_len(len).unwrap();
        for _ in 0..2 {
            let begun = Instant::now();
            let make = || StateDatabase::new(1, Options::default());
            let loaded = load(&disk, &LoadOptions::default(), make).unwrap();
            println!(
                "log of {} MiB: {} replayed, {:.2?}",
                len >> 20,
                loaded.replayed,
                begun.elapsed()
            );
        }
    }
}
