//! One log file, read record by record.
//!
//! ```text
//! log.<first zxid, hex>:  "ZKLG"  version: i32 = 2  dbid: i64 = 0  record*  zeros
//! record:                 adler32(payload): i64  length: i32  payload  0x42
//! ```
//!
//! What ends a file and what is damage: `docs/spec/storage-formats.md` 4.1. One case more than
//! there: a record of the newest file whose checksum is wrong *because sectors of it were never
//! written* is the torn end of a batch that was never acknowledged, see [`EndOfLog::Torn`].

use oxkeeper_proto::jute::DEFAULT_MAX_BUFFER;

use crate::disk::DiskFile;
use crate::error::{LogProblem, StorageError};

/// Bytes before the first record.
pub const HEADER_LEN: usize = 16;
/// The first 16 bytes of every log.
pub const HEADER: [u8; HEADER_LEN] = *b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0";
/// Bytes of a record besides its payload.
pub const RECORD_OVERHEAD: usize = 13;
/// Bytes before the payload.
pub(crate) const RECORD_HEAD: usize = 12;
/// The last byte of a record.
pub const RECORD_END: u8 = 0x42;
/// Longest payload accepted by default: `jute.maxbuffer` and its slack.
pub const DEFAULT_RECORD_LIMIT: usize = 2 * DEFAULT_MAX_BUFFER;
/// Most bytes that are written between two syncs (a single longer record excepted). So whatever a
/// crash tore lies within this distance of the end of the file.
pub const BATCH_LIMIT: usize = 4 << 20;
/// What a disk writes in one piece.
const SECTOR: u64 = 512;
/// How much is read at once.
const CHUNK: usize = 1 << 20;

/// Appends a record.
pub fn put_record(out: &mut Vec<u8>, payload: &[u8]) {
    let checksum = u64::from(simd_adler32::adler32(&payload));
    out.extend_from_slice(&checksum.to_be_bytes());
    out.extend_from_slice(&(payload.len() as i32).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(RECORD_END);
}

/// Why a file has no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOfLog {
    /// The file ends after a record.
    EndOfFile,
    /// Zeros follow.
    Padding,
    /// The file ends inside a record.
    Cut,
    /// A record without its end byte.
    NoEndByte,
    /// A record with sectors of zeros, in the newest file, near the end of what was written.
    Torn,
}

impl EndOfLog {
    /// Whether a record was begun and not finished.
    pub fn is_unfinished(self) -> bool {
        matches!(self, EndOfLog::Cut | EndOfLog::NoEndByte | EndOfLog::Torn)
    }
}

/// The next thing in a log file.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A record with a right checksum.
    Record {
        /// Where it starts.
        offset: u64,
        /// Its payload.
        payload: &'a [u8],
    },
    /// No more. Asked again, the same answer.
    End(EndOfLog),
}

/// Reads one log file from its start.
pub struct LogFile<F> {
    file: F,
    /// Whether it is the newest log: only there can a batch be torn.
    newest: bool,
    pub(crate) limit: usize,
    /// Bytes of the file from `buf_offset`.
    buf: Vec<u8>,
    buf_offset: u64,
    /// Where the next record starts.
    pub(crate) position: u64,
    file_end_seen: bool,
}

impl<F: DiskFile> LogFile<F> {
    /// Checks the header and stands before the first record. `limit`: longest payload accepted.
    pub fn new(file: F, newest: bool, limit: usize) -> Result<Self, StorageError> {
        let mut log = LogFile {
            file,
            newest,
            limit,
            buf: Vec::new(),
            buf_offset: 0,
            position: 0,
            file_end_seen: false,
        };
        if log.have(HEADER_LEN)? < HEADER_LEN {
            let len = log.buf.len() as u64;
            return Err(log.problem(LogProblem::ShortHeader { len }));
        }
        if log.buf[..4] != HEADER[..4] {
            let found = be_u32(&log.buf);
            return Err(log.problem(LogProblem::Magic { found }));
        }
        log.position = HEADER_LEN as u64;
        Ok(log)
    }

    /// Path of the file.
    pub fn path(&self) -> &str {
        self.file.path()
    }

    /// Where the next record starts, or where the records end.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// An error at the present position.
    pub fn problem(&self, problem: LogProblem) -> StorageError {
        self.problem_at(self.position, problem)
    }

    /// An error at `offset`.
    pub fn problem_at(&self, offset: u64, problem: LogProblem) -> StorageError {
        StorageError::Log { file: self.file.path().to_owned(), offset, problem }
    }

    /// The next record or the end.
    pub fn step(&mut self) -> Result<Step<'_>, StorageError> {
        match self.find_record()? {
            Err(end) => Ok(Step::End(end)),
            Ok(len) => {
                let offset = self.position;
                let start = (offset - self.buf_offset) as usize + RECORD_HEAD;
                self.position += (len + RECORD_OVERHEAD) as u64;
                Ok(Step::Record { offset, payload: &self.buf[start..start + len] })
            }
        }
    }

    /// Goes on at `offset`, which is not before the present position.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        let buffered = self.buf_offset + self.buf.len() as u64;
        if buffered < offset {
            self.buf.clear();
            self.buf_offset = offset;
        }
        self.position = offset;
    }

    /// The payload of a record that the last [`LogFile::step`] gave.
    pub(crate) fn payload_at(&self, offset: u64, len: usize) -> &[u8] {
        let start = (offset - self.buf_offset) as usize + RECORD_HEAD;
        &self.buf[start..start + len]
    }

    /// Length of the payload at the present position, all of the record being in the buffer.
    fn find_record(&mut self) -> Result<Result<usize, EndOfLog>, StorageError> {
        let have = self.have(RECORD_HEAD)?;
        if have < RECORD_HEAD {
            // Fewer zeros than a record's head are the rest of the padding.
            let zeros = self.ahead().iter().all(|byte| *byte == 0);
            let end = match have {
                0 => EndOfLog::EndOfFile,
                _ if zeros => EndOfLog::Padding,
                _ => EndOfLog::Cut,
            };
            return Ok(Err(end));
        }
        let (stored, found) = (be_u64(self.ahead()), be_u32(&self.ahead()[8..]) as i32);
        if found == 0 {
            return Ok(Err(EndOfLog::Padding));
        }
        let limit = self.limit;
        let Some(len) = usize::try_from(found).ok().filter(|len| *len <= limit) else {
            return Err(self.problem(self.beyond_limit(stored, found)?));
        };
        if self.have(len + RECORD_OVERHEAD)? < len + RECORD_OVERHEAD {
            return Ok(Err(EndOfLog::Cut));
        }
        let record = &self.ahead()[..len + RECORD_OVERHEAD];
        if record[len + RECORD_HEAD] != RECORD_END {
            return Ok(Err(EndOfLog::NoEndByte));
        }
        let computed = simd_adler32::adler32(&&record[RECORD_HEAD..len + RECORD_HEAD]);
        if stored == u64::from(computed) {
            return Ok(Ok(len));
        }
        if self.newest && has_unwritten_sector(record, self.position) && self.near_the_end(len)? {
            return Ok(Err(EndOfLog::Torn));
        }
        Err(self.problem(LogProblem::Checksum { stored, computed }))
    }

    /// What a length above the limit is: that of a whole record, which a server with a greater limit
    /// wrote, or garbage. Reads the record piece by piece.
    fn beyond_limit(&self, stored: u64, found: i32) -> Result<LogProblem, StorageError> {
        let limit = self.limit;
        let garbage = LogProblem::Length { found, limit };
        let Ok(len) = usize::try_from(found) else { return Ok(garbage) };
        let start = self.position + RECORD_HEAD as u64;
        let mut end = [0];
        if self.file.read_at(&mut end, start + len as u64)? < 1 || end != [RECORD_END] {
            return Ok(garbage);
        }
        let (mut adler, mut done) = (simd_adler32::Adler32::new(), 0);
        let mut chunk = vec![0; CHUNK];
        while done < len {
            let wanted = CHUNK.min(len - done);
            let read = self.file.read_at(&mut chunk[..wanted], start + done as u64)?;
            if read < wanted {
                return Ok(garbage);
            }
            adler.write(&chunk[..read]);
            done += read;
        }
        let whole = stored == u64::from(adler.finish());
        Ok(if whole { LogProblem::TooLong { len, limit } } else { garbage })
    }

    /// The buffered bytes from the present position.
    pub(crate) fn ahead(&self) -> &[u8] {
        &self.buf[(self.position - self.buf_offset) as usize..]
    }

    /// Makes `wanted` bytes from the present position available, fewer only at the end of the file.
    /// Returns how many there are.
    pub(crate) fn have(&mut self, wanted: usize) -> Result<usize, StorageError> {
        let mut have = self.ahead().len();
        if have < wanted && !self.file_end_seen {
            let used = (self.position - self.buf_offset) as usize;
            self.buf.drain(..used);
            self.buf_offset = self.position;
            let size = wanted.max(CHUNK);
            self.buf.resize(size, 0);
            let read = self.file.read_at(&mut self.buf[have..], self.position + have as u64)?;
            have += read;
            self.file_end_seen = have < size;
            self.buf.truncate(have);
        }
        Ok(have)
    }

    /// Whether all that follows the record here fits into the batch that a crash can tear: only
    /// zeros beyond that distance.
    fn near_the_end(&self, len: usize) -> Result<bool, StorageError> {
        let mut offset = self.position + (len + RECORD_OVERHEAD + BATCH_LIMIT + self.limit) as u64;
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = self.file.read_at(&mut chunk, offset)?;
            if chunk[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            if read < chunk.len() {
                return Ok(true);
            }
            offset += read as u64;
        }
    }
}

/// Whether the part of a record in some disk sector is all zeros, as it is if that sector was not
/// written. The first four bytes of a record do not count: they are always zero.
fn has_unwritten_sector(record: &[u8], offset: u64) -> bool {
    const ALWAYS_ZERO: usize = 4;
    let mut start = 0;
    while start < record.len() {
        let left_in_sector = SECTOR - (offset + start as u64) % SECTOR;
        let end = record.len().min(start + left_in_sector as usize);
        if end > ALWAYS_ZERO && record[start..end].iter().all(|byte| *byte == 0) {
            return true;
        }
        start = end;
    }
    false
}

/// The first four bytes; the caller has checked that they are there.
pub(crate) fn be_u32(bytes: &[u8]) -> u32 {
    bytes[..4].iter().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// The first eight bytes; the caller has checked that they are there.
pub(crate) fn be_u64(bytes: &[u8]) -> u64 {
    bytes[..8].iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
