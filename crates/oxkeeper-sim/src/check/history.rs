//! The one committed history: every transaction by its zxid, what it changed, and for whom.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use oxkeeper_proto::{Epoch, Zxid};

use crate::check::model::Change;
use crate::violation::{Rule, Violation};

/// A committed transaction.
#[derive(Debug)]
pub struct Committed {
    /// Its zxid.
    pub zxid: i64,
    /// What it changed, in order.
    pub changes: Vec<Change>,
}

/// Proposals, and those of them that are committed.
#[derive(Debug, Default)]
pub struct History {
    logged: BTreeMap<i64, Bytes>,
    committed: Vec<Committed>,
    /// The state that all disks begin with.
    first: i64,
}

impl History {
    /// A proposal goes into some log.
    pub fn log(&mut self, zxid: Zxid, payload: &Bytes) {
        self.logged.entry(zxid.0).or_insert_with(|| payload.clone());
    }

    /// Payloads of an epoch that are in some log.
    pub fn logged_in(&self, epoch: Epoch) -> Vec<Bytes> {
        let range = Zxid::new(epoch, 0).0..Zxid::new(epoch + 1, 0).0;
        self.logged.range(range).map(|(_, payload)| payload.clone()).collect()
    }

    /// Committed transactions in `after..=to`.
    pub fn between(&self, after: i64, to: i64) -> &[Committed] {
        let begin = self.committed.partition_point(|txn| txn.zxid <= after);
        let end = self.committed.partition_point(|txn| txn.zxid <= to);
        &self.committed[begin..end.max(begin)]
    }

    /// Is this the state behind a committed transaction, or the one that all disks begin with?
    pub fn is_state(&self, zxid: i64) -> bool {
        zxid == self.first || self.committed.binary_search_by_key(&zxid, |txn| txn.zxid).is_ok()
    }

    /// All disks begin with this state.
    pub fn begins_with(&mut self, zxid: Zxid) {
        self.first = zxid.0;
    }

    /// What a server without others has logged behind `last` is gone.
    pub fn forget_behind(&mut self, last: Zxid) {
        self.logged.retain(|zxid, _| *zxid <= last.0);
    }

    /// What is logged up to `to`, and not known to be committed.
    pub fn logged_until(&self, to: Zxid) -> Vec<Zxid> {
        let last = self.committed.last().map_or(self.first, |txn| txn.zxid);
        let range = (Bound::Excluded(last), Bound::Included(to.0.max(last)));
        match last < to.0 {
            true => self.logged.range(range).map(|(zxid, _)| Zxid(*zxid)).collect(),
            false => Vec::new(),
        }
    }

    /// How many transactions are known to be committed.
    pub fn count(&self) -> usize {
        self.committed.len()
    }

    /// The payload of a transaction that is committed now.
    pub fn payload(&self, zxid: Zxid) -> Result<Bytes, Violation> {
        let logged = self.logged.get(&zxid.0).cloned();
        logged.ok_or_else(|| {
            Rule::Integrity.broken(format!("{zxid} is applied, but nobody has logged it"))
        })
    }

    /// It is committed.
    pub fn push(&mut self, zxid: Zxid, changes: Vec<Change>) {
        self.committed.push(Committed { zxid: zxid.0, changes });
    }
}
