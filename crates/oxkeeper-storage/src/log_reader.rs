//! All log files as one sequence of records. Source: `docs/spec/storage-formats.md` 4.

use oxkeeper_proto::Zxid;
use oxkeeper_proto::txn::payload_zxid;

use crate::disk::{Disk, DiskFile, Place};
use crate::error::{LogProblem, StorageError};
use crate::log_file::{BATCH_LIMIT, DEFAULT_RECORD_LIMIT, EndOfLog, LogFile, Step};
use crate::names;

/// The logs of a directory: zxid of the first record and name, in order.
pub fn log_files<D: Disk>(disk: &D) -> Result<Vec<(Zxid, String)>, StorageError> {
    let mut files: Vec<(Zxid, String)> = disk
        .list(Place::Logs)?
        .into_iter()
        .filter_map(|name| names::log_zxid(&name).map(|zxid| (zxid, name)))
        .collect();
    files.sort();
    Ok(files)
}

/// The files to read from zxid `from`: the last one that begins before it, and all later ones
/// (4.2).
pub fn files_from(files: Vec<(Zxid, String)>, from: Zxid) -> Vec<(Zxid, String)> {
    let before = files.iter().take_while(|(zxid, _)| *zxid < from).count();
    files.into_iter().skip(before.saturating_sub(1)).collect()
}

/// A record of the log.
#[derive(Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    /// From the payload's header.
    pub zxid: Zxid,
    /// Path of the file.
    pub file: &'a str,
    /// Where the record starts in it.
    pub offset: u64,
    /// The payload, checksum verified.
    pub payload: &'a [u8],
    /// The zxid in the name of the file.
    pub begins: Zxid,
    /// The record before it in the same file, also if that one was skipped.
    pub before: Option<Zxid>,
    /// Name of the file read before this one, and where its records ended.
    pub earlier: Option<&'a (String, u64)>,
}

/// Where and how a file ended, if not cleanly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Name of the file.
    pub name: String,
    /// Where its records end.
    pub offset: u64,
    /// Why.
    pub end: EndOfLog,
    /// Whether it is the newest file.
    pub newest: bool,
}

/// Reads records across files.
///
/// Safe on the log of a running server, also on its newest file, as long as the reader stops at a
/// zxid that was synced before it started.
pub struct LogReader<D: Disk> {
    disk: D,
    from: Zxid,
    limit: usize,
    /// Files not yet opened, last first.
    left: Vec<(Zxid, String)>,
    current: Option<Current<D::File>>,
    /// Name of the last file that was read to its end, and where its records end.
    ended: Option<(String, u64)>,
    unfinished: Vec<Unfinished>,
    empty_newest: Option<String>,
}

struct Current<F> {
    begins: Zxid,
    name: String,
    file: LogFile<F>,
    /// The last record read.
    last: Option<Zxid>,
}

impl<D: Disk> LogReader<D> {
    /// Stands before the first record with zxid >= `from`. `limit`: longest payload accepted.
    ///
    /// A newest file without a byte counts as not there: a crash left it (4.1), or a fault has emptied
    /// it.
    pub fn new(disk: D, from: Zxid, limit: usize) -> Result<Self, StorageError> {
        let mut files = log_files(&disk)?;
        let mut empty_newest = None;
        if let Some((_, name)) = files.last()
            && disk.open(Place::Logs, name)?.is_empty()?
        {
            empty_newest = files.pop().map(|(_, name)| name);
        }
        let mut left = files_from(files, from);
        left.reverse();
        Ok(LogReader {
            disk,
            from,
            limit,
            left,
            current: None,
            ended: None,
            unfinished: Vec::new(),
            empty_newest,
        })
    }

    /// Also gives the earlier records of the first file.
    pub fn include_earlier(&mut self) {
        self.from = Zxid(i64::MIN);
    }

    /// The next record, or `None` after the last one.
    pub fn next_record(&mut self) -> Result<Option<LogRecord<'_>>, StorageError> {
        loop {
            let Some((offset, len)) = self.advance()? else { return Ok(None) };
            // A second look at what `advance` found: the borrow checker cannot see that a record
            // that is skipped is no longer borrowed.
            let Some(current) = &mut self.current else { return Ok(None) };
            let zxid = payload_zxid(current.file.payload_at(offset, len))
                .map_err(|error| current.file.problem_at(offset, LogProblem::Record(error)))?;
            let before = current.last.replace(zxid);
            if self.from <= zxid {
                let Some(Current { begins, file, .. }) = &self.current else { return Ok(None) };
                return Ok(Some(LogRecord {
                    zxid,
                    file: file.path(),
                    offset,
                    payload: file.payload_at(offset, len),
                    begins: *begins,
                    before,
                    earlier: self.ended.as_ref(),
                }));
            }
        }
    }

    /// Offset and payload length of the next record of any zxid.
    fn advance(&mut self) -> Result<Option<(u64, usize)>, StorageError> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some(current) = &mut self.current else { return Ok(None) };
            match current.file.step()? {
                Step::Record { offset, payload } => return Ok(Some((offset, payload.len()))),
                Step::End(end) => {
                    let (offset, newest) = (current.file.position(), self.left.is_empty());
                    let name = current.name.clone();
                    if end.is_unfinished() {
                        let name = name.clone();
                        self.unfinished.push(Unfinished { name, offset, end, newest });
                    }
                    self.ended = Some((name, offset));
                    self.current = None;
                }
            }
        }
    }

    /// Opens the next file; false if there is none.
    fn open_next(&mut self) -> Result<bool, StorageError> {
        let Some((begins, name)) = self.left.pop() else { return Ok(false) };
        let file = self.disk.open(Place::Logs, &name)?;
        let newest = self.left.is_empty();
        let file = LogFile::new(file, newest, self.limit)?;
        self.current = Some(Current { begins, name, file, last: None });
        Ok(true)
    }

    /// Name of the newest file and the offset where its records end. Known after the last record.
    pub fn newest_end(&self) -> Option<&(String, u64)> {
        self.ended.as_ref().filter(|_| self.left.is_empty() && self.current.is_none())
    }

    /// The newest log, if it has no byte.
    pub fn empty_newest(&self) -> Option<&str> {
        self.empty_newest.as_deref()
    }

    /// The files that ended with an unfinished record so far.
    pub fn unfinished(&self) -> &[Unfinished] {
        &self.unfinished
    }
}

/// Writes the end of the newest log again and syncs it; cuts off what follows the last record if
/// that would stop a later reader.
///
/// The end may be bytes that a dead process wrote and never synced, or, after a failed sync, bytes
/// that the kernel shows although the disk does not have them. A server that votes or leads with
/// them must own them first. `end`: where the records end.
pub fn settle<D: Disk>(disk: &D, name: &str, end: u64, cut: bool) -> Result<(), StorageError> {
    let file = disk.open_for_write(Place::Logs, name)?;
    if cut {
        file.set_len(end)?;
    }
    let unsure = (BATCH_LIMIT + DEFAULT_RECORD_LIMIT) as u64;
    let start = end.saturating_sub(unsure);
    let mut bytes = vec![0; (end - start) as usize];
    let len = file.read_at(&mut bytes, start)?;
    file.write_at(&bytes[..len], start)?;
    file.sync()?;
    disk.sync_dir(Place::Logs)?;
    Ok(())
}
