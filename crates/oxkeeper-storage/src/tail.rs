//! What stands in a log behind the place where its records end.
//!
//! An end inside a log is easily made: four zero bytes where a length was. So a reader of the whole
//! history looks on, for records that are whole.

use oxkeeper_proto::Zxid;
use oxkeeper_proto::txn::payload_zxid;

use crate::disk::{Disk, DiskError, DiskFile, Place};
use crate::error::StorageError;
use crate::log_file::{LogFile, RECORD_END, RECORD_HEAD, RECORD_OVERHEAD, be_u32, be_u64};
use crate::names::{self, TEMPORARY};

/// Bytes of a transaction's header.
const TXN_HEADER: usize = 32;
/// A record's first bytes that can be zero: the upper half of the checksum, and three more.
const ZEROS: usize = 7;
/// How many bytes of what turns out to be no record are looked at closely. Only data made to look
/// like records comes near this.
const PATIENCE: usize = 256 << 20;
/// How many epochs further a record behind a hole may be.
const NEAR_EPOCHS: u32 = 1 << 16;
/// How much is read or written at once.
const CHUNK: usize = 1 << 20;

/// Whole records behind the end of a log's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The first one.
    pub first: Zxid,
    /// Where it starts.
    pub offset: u64,
    /// The last one.
    pub last: Zxid,
    /// Where that one ends.
    pub end: u64,
}

/// Looks through the log `name` from `end`, where its records end with `last` at the latest, for
/// whole records of later transactions. One pass; zeros cost next to nothing.
pub fn look_behind<D: Disk>(
    disk: &D,
    name: &str,
    end: u64,
    last: Zxid,
    limit: usize,
) -> Result<Option<Behind>, StorageError> {
    let mut log = LogFile::new(disk.open(Place::Logs, name)?, false, limit)?;
    log.skip_to(end);
    let (mut behind, mut after) = (None::<Behind>, last);
    let mut patience = PATIENCE;
    while let Some((zxid, len)) = next_whole(&mut log, end, last, after, &mut patience)? {
        let offset = log.position;
        log.position += (len + RECORD_OVERHEAD) as u64;
        after = zxid;
        let behind = behind.get_or_insert(Behind { first: zxid, offset, last: zxid, end: 0 });
        (behind.last, behind.end) = (zxid, log.position);
    }
    Ok(behind)
}

/// Moves to the next whole record whose zxid is greater than `after`. Returns zxid and length.
fn next_whole<F: DiskFile>(
    log: &mut LogFile<F>,
    end: u64,
    last: Zxid,
    after: Zxid,
    patience: &mut usize,
) -> Result<Option<(Zxid, usize)>, StorageError> {
    loop {
        if log.have(RECORD_OVERHEAD + TXN_HEADER)? < RECORD_OVERHEAD + TXN_HEADER {
            return Ok(None);
        }
        let (skipped, candidate) = next_candidate(log.ahead(), log.limit);
        log.position += skipped as u64;
        let Some(len) = candidate else { continue };
        let size = len + RECORD_OVERHEAD;
        if log.have(size)? >= size {
            let record = &log.ahead()[..size];
            if let Some(zxid) = whole(record, patience)
                && after < zxid
                && is_near(last, zxid, log.position - end)
            {
                return Ok(Some((zxid, len)));
            }
        }
        if *patience == 0 {
            return Ok(None);
        }
        log.position += 1;
    }
}

/// How many bytes begin no record, and the payload's length of what may begin behind them.
fn next_candidate(bytes: &[u8], limit: usize) -> (usize, Option<usize>) {
    let mut at = 0;
    while at + RECORD_OVERHEAD + TXN_HEADER <= bytes.len() {
        let ahead = &bytes[at..];
        if ahead[0] != 0 {
            at += 1;
            continue;
        }
        let zeros = leading_zeros(ahead);
        if ZEROS < zeros {
            at += zeros - ZEROS;
            continue;
        }
        let len = be_u32(&ahead[8..]) as usize;
        if 4 <= zeros && (TXN_HEADER..=limit).contains(&len) {
            return (at, Some(len));
        }
        at += 1;
    }
    (at.min(bytes.len()), None)
}

fn leading_zeros(bytes: &[u8]) -> usize {
    // Compared by blocks: memory speed where there are only zeros, one byte where there are none.
    const BLOCK: [u8; 4096] = [0; 4096];
    let blocks = bytes.chunks_exact(BLOCK.len()).take_while(|block| **block == BLOCK).count();
    let rest = &bytes[blocks * BLOCK.len()..];
    blocks * BLOCK.len() + rest.iter().take_while(|byte| **byte == 0).count()
}

/// The zxid of a record with an end byte and a right checksum.
fn whole(record: &[u8], patience: &mut usize) -> Option<Zxid> {
    let payload = &record[RECORD_HEAD..record.len() - 1];
    if record.last() != Some(&RECORD_END) {
        return None;
    }
    if be_u64(record) != u64::from(simd_adler32::adler32(&payload)) {
        *patience = patience.saturating_sub(payload.len());
        return None;
    }
    payload_zxid(payload).ok()
}

/// Whether so few bytes can hold all transactions from `last` to `zxid`.
fn is_near(last: Zxid, zxid: Zxid, distance: u64) -> bool {
    let most = distance / (RECORD_OVERHEAD + TXN_HEADER) as u64 + 1;
    let counted = if last.epoch() == zxid.epoch() { last.counter() } else { 0 };
    zxid.epoch() - last.max(Zxid::ZERO).epoch() <= NEAR_EPOCHS
        && u64::from(zxid.counter().saturating_sub(counted)) <= most
}

/// Where the last byte that is not zero ends, if there is one behind `from`.
pub fn last_byte<F: DiskFile>(file: &F, from: u64) -> Result<Option<u64>, DiskError> {
    let (mut offset, mut last) = (from, None);
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read_at(&mut chunk, offset)?;
        if leading_zeros(&chunk[..read]) < read
            && let Some(at) = chunk[..read].iter().rposition(|byte| *byte != 0)
        {
            last = Some(offset + at as u64 + 1);
        }
        offset += read as u64;
        if read < chunk.len() {
            return Ok(last);
        }
    }
}

/// Copies what stands in the log `name` from `offset` on, but for zeros at the end, under a name that
/// no reader takes for a log; durable when it returns. Returns the name, or `None` if there is
/// nothing.
pub fn set_aside<D: Disk>(disk: &D, name: &str, offset: u64) -> Result<Option<String>, DiskError> {
    let log = disk.open(Place::Logs, name)?;
    let Some(end) = last_byte(&log, offset)? else { return Ok(None) };
    let aside = names::damaged(name, offset);
    let temporary = format!("{TEMPORARY}{aside}");
    let copy = disk.create(Place::Logs, &temporary)?;
    let mut at = offset;
    let mut chunk = vec![0; CHUNK];
    while at < end {
        let wanted = (end - at).min(CHUNK as u64) as usize;
        let read = log.read_at(&mut chunk[..wanted], at)?;
        assert!(read > 0, "a log shrank while its end was copied");
        copy.write_at(&chunk[..read], at - offset)?;
        at += read as u64;
    }
    copy.sync()?;
    disk.rename(Place::Logs, &temporary, &aside)?;
    disk.sync_dir(Place::Logs)?;
    Ok(Some(aside))
}
