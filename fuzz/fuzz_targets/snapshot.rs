//! Snapshot files, plain, gz and snappy.
//!
//! Input: one byte. Bits 0 and 1: the compression. Bit 2: the rest is a body, which is sealed and
//! packed; else it is the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::Pieces;
use oxkeeper_proto::Zxid;
use oxkeeper_state::{Options, StateDatabase, StateLoader};
use oxkeeper_storage::snapshot_reader::looks_valid;
use oxkeeper_storage::snapshot_writer::Sections;
use oxkeeper_storage::{
    Compression, LoadOptions, MemDisk, Place, SnapshotDigest, SnapshotWriter, load, names,
    read_snapshot,
};

const LIMIT: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut pieces = Pieces(data);
    let mode = pieces.byte();
    let compression = match mode & 3 {
        1 => Compression::Gzip,
        2 => Compression::Snappy,
        _ => Compression::None,
    };
    let disk = MemDisk::new("fuzz");
    let name = names::snapshot(Zxid(1), compression);
    if mode & 4 == 0 {
        disk.put(Place::Snapshots, &name, pieces.0);
    } else {
        seal(disk.clone(), compression, mode, pieces.0);
    }
    let _ = looks_valid(&disk, &name);
    let mut loader = StateLoader::new(1, Options::default());
    let read = read_snapshot(&disk, &name, &mut loader, LIMIT);
    if read.is_ok() {
        let _ = loader.finish(Zxid(1));
    }
    let options = LoadOptions { record_limit: LIMIT, ..LoadOptions::default() };
    let _ = load(&disk, &options, || StateDatabase::new(1, Options::default()));
});

fn seal(disk: MemDisk, compression: Compression, mode: u8, body: &[u8]) {
    let digest = SnapshotDigest { zxid: Zxid(1), version: 2, tree: 3 };
    let sections = Sections {
        digest: (mode & 8 != 0).then_some(digest),
        last_zxid: (mode & 16 != 0).then_some(Zxid(1)),
    };
    let mut writer = SnapshotWriter::create(disk, Zxid(1), compression).unwrap();
    writer.write(body).unwrap();
    writer.finish(&sections).unwrap();
}
