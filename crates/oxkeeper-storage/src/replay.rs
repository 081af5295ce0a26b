//! The log on top of a snapshot: applied, and checked for transactions that are missing.
//!
//! Inside an epoch the numbers say it. At a seam, where an epoch begins, it must be proven: by what
//! `seams` says of the file, or by the digest that the leader put into the record. Where neither says
//! anything the record is taken, as Apache takes it, and remembered as unproven.

use std::collections::VecDeque;

use oxkeeper_proto::snapshot::{Database, DigestCheck};
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{DecodeError, Zxid};

use crate::disk::Disk;
use crate::error::{LogProblem, StorageError};
use crate::load::{LoadOptions, LoggedTxn};
use crate::log_reader::{LogReader, LogRecord};
use crate::seams::{Seam, Seams};
use crate::tail;

/// A seam at which transactions may be missing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unproven {
    /// The last zxid before it.
    pub before: Zxid,
    /// The first one behind it.
    pub behind: Zxid,
}

/// What a replay has come to.
pub(crate) struct Replay<'a> {
    options: &'a LoadOptions,
    seams: &'a Seams,
    /// Last zxid of the history so far.
    pub last: Zxid,
    /// Transactions applied.
    pub replayed: u64,
    /// From here to `last` every transaction is in the log, for sure.
    pub contiguous_from: Zxid,
    /// The first seam that nothing proves.
    pub unproven: Option<Unproven>,
    /// Whether the last digest that could be compared was equal.
    digests_agree: bool,
    recent: VecDeque<(Zxid, Vec<u8>)>,
    pub warnings: Vec<String>,
}

impl<'a> Replay<'a> {
    /// Stands at `last`, the zxid of the snapshot.
    pub fn new(options: &'a LoadOptions, seams: &'a Seams, last: Zxid) -> Self {
        Replay {
            options,
            seams,
            last,
            replayed: 0,
            contiguous_from: last,
            unproven: None,
            digests_agree: false,
            recent: VecDeque::with_capacity(options.recent.min(1024)),
            warnings: Vec::new(),
        }
    }

    /// Applies all that `reader` gives.
    pub fn run<D: Disk>(
        &mut self,
        disk: &D,
        reader: &mut LogReader<D>,
        database: &mut impl Database,
    ) -> Result<(), StorageError> {
        while let Some(record) = reader.next_record()? {
            if !record.zxid.may_follow(self.last) {
                return Err(hole(&record, self.last, None));
            }
            let enters_epoch =
                self.last.epoch() != record.zxid.epoch() && !record.zxid.is_next(self.last);
            let seam = if enters_epoch { self.noted(&record)? } else { Seam::Proven };
            let digest = self.apply(&record, database)?;
            if enters_epoch {
                self.cross(disk, &record, seam, digest)?;
            }
            if digest != DigestCheck::NotCompared {
                self.digests_agree = digest == DigestCheck::Equal;
            }
            self.last = record.zxid;
            self.replayed += 1;
            self.remember(&record);
        }
        Ok(())
    }

    /// What `seams` says; a contradiction is an error.
    fn noted(&self, record: &LogRecord<'_>) -> Result<Seam, StorageError> {
        match self.seams.seam(self.last, record.zxid, record.begins, record.before) {
            Seam::Torn(said) => Err(hole(record, self.last, Some(said))),
            seam => Ok(seam),
        }
    }

    fn apply(
        &mut self,
        record: &LogRecord<'_>,
        database: &mut impl Database,
    ) -> Result<DigestCheck, StorageError> {
        let problem = |problem| {
            let (file, offset) = (record.file.to_owned(), record.offset);
            StorageError::Log { file, offset, problem }
        };
        match Payload::decode(record.payload) {
            Ok(payload) => database
                .apply(&payload, record.payload)
                .map_err(|reason| problem(LogProblem::Apply(reason))),
            Err(error) if is_lone_check(&error) && self.options.skip_lone_checks => {
                self.warnings.push(format!(
                    "Skipped transaction {} ({}, byte {}): a check outside of a multi.",
                    record.zxid, record.file, record.offset
                ));
                Ok(DigestCheck::NotCompared)
            }
            Err(error) if is_lone_check(&error) => Err(problem(LogProblem::LoneCheck)),
            Err(error) => Err(problem(LogProblem::Record(error))),
        }
    }

    /// `record` is the first of its epoch and applied.
    fn cross<D: Disk>(
        &mut self,
        disk: &D,
        record: &LogRecord<'_>,
        seam: Seam,
        digest: DigestCheck,
    ) -> Result<(), StorageError> {
        if seam == Seam::Proven || digest == DigestCheck::Equal {
            return Ok(());
        }
        if digest == DigestCheck::Unequal && self.digests_agree {
            return Err(hole(record, self.last, None));
        }
        // An older file that was damaged looks as if it ended early. Its rest may still be there.
        if record.before.is_none()
            && let Some((name, end)) = record.earlier
            && let limit = self.options.record_limit
            && let Some(behind) = tail::look_behind(disk, name, *end, self.last, limit)?
            && behind.first < record.zxid
        {
            return Err(hole(record, self.last, Some(behind.last)));
        }
        self.unproven.get_or_insert(Unproven { before: self.last, behind: record.zxid });
        self.contiguous_from = Zxid(record.zxid.0 - 1);
        self.recent.clear();
        Ok(())
    }

    fn remember(&mut self, record: &LogRecord<'_>) {
        if self.options.recent == 0 {
            return;
        }
        // The oldest one's buffer serves for the newest: no allocation per record.
        let full = self.recent.len() == self.options.recent;
        let oldest = if full { self.recent.pop_front() } else { None };
        let mut payload = oldest.map_or_else(Vec::new, |(_, payload)| payload);
        payload.clear();
        payload.extend_from_slice(record.payload);
        self.recent.push_back((record.zxid, payload));
    }

    /// The last transactions, in order and without a hole.
    pub fn take_recent(&mut self) -> Vec<LoggedTxn> {
        // Boxed: a buffer may have served for a much longer payload before.
        let exact = |(zxid, payload): (Zxid, Vec<u8>)| LoggedTxn {
            zxid,
            payload: payload.into_boxed_slice().into(),
        };
        std::mem::take(&mut self.recent).into_iter().map(exact).collect()
    }
}

fn hole(record: &LogRecord<'_>, previous: Zxid, known: Option<Zxid>) -> StorageError {
    let (file, offset) = (record.file.to_owned(), record.offset);
    StorageError::Hole { file, offset, found: record.zxid, previous, known }
}

fn is_lone_check(error: &DecodeError) -> bool {
    matches!(error, DecodeError::BadValue { what: "transaction type", value: 13, at: 32 })
}
