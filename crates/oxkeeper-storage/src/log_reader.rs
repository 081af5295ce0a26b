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
    current: Option<(String, LogFile<D::File>)>,
    /// Where the newest file's records end, once known.
    newest_end: Option<(String, u64)>,
    unfinished: Vec<Unfinished>,
}

impl<D: Disk> LogReader<D> {
    /// Stands before the first record with zxid >= `from`. `limit`: longest payload accepted.
    pub fn new(disk: D, from: Zxid, limit: usize) -> Result<Self, StorageError> {
        let mut left = files_from(log_files(&disk)?, from);
        left.reverse();
        Ok(LogReader {
            disk,
            from,
            limit,
            left,
            current: None,
            newest_end: None,
            unfinished: Vec::new(),
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
            let Some((_, file)) = &self.current else { return Ok(None) };
            let payload = file.payload_at(offset, len);
            let zxid = payload_zxid(payload)
                .map_err(|error| file.problem_at(offset, LogProblem::Record(error)))?;
            if self.from <= zxid {
                let Some((_, file)) = &self.current else { return Ok(None) };
                let payload = file.payload_at(offset, len);
                return Ok(Some(LogRecord { zxid, file: file.path(), offset, payload }));
            }
        }
    }

    /// Offset and payload length of the next record of any zxid.
    fn advance(&mut self) -> Result<Option<(u64, usize)>, StorageError> {
        loop {
            if self.current.is_none() && !self.open_next()? {
                return Ok(None);
            }
            let Some((name, file)) = &mut self.current else { return Ok(None) };
            match file.step()? {
                Step::Record { offset, payload } => return Ok(Some((offset, payload.len()))),
                Step::End(end) => {
                    let (offset, newest) = (file.position(), self.left.is_empty());
                    if end.is_unfinished() {
                        let name = name.clone();
                        self.unfinished.push(Unfinished { name, offset, end, newest });
                    }
                    if newest {
                        self.newest_end = Some((name.clone(), offset));
                    }
                    self.current = None;
                }
            }
        }
    }

    /// Opens the next file; false if there is none.
    fn open_next(&mut self) -> Result<bool, StorageError> {
        let Some((_, name)) = self.left.pop() else { return Ok(false) };
        let file = self.disk.open(Place::Logs, &name)?;
        let newest = self.left.is_empty();
        self.current = Some((name, LogFile::new(file, newest, self.limit)?));
        Ok(true)
    }

    /// Name of the newest file and the offset where its records end. Known after the last record.
    pub fn newest_end(&self) -> Option<&(String, u64)> {
        self.newest_end.as_ref()
    }

    /// The files that ended with an unfinished record so far.
    pub fn unfinished(&self) -> &[Unfinished] {
        &self.unfinished
    }
}

/// Removes the newest log if it has no bytes, as 3.9.3 and later do: a crash left it, and it would
/// hinder every reader (4.1). Returns its name.
pub fn remove_empty_newest<D: Disk>(disk: &D) -> Result<Option<String>, StorageError> {
    let Some((_, name)) = log_files(disk)?.pop() else { return Ok(None) };
    if disk.open(Place::Logs, &name)?.len()? > 0 {
        return Ok(None);
    }
    disk.remove(Place::Logs, &name)?;
    disk.sync_dir(Place::Logs)?;
    Ok(Some(name))
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
