//! A server's disk: what is durable, and what is queued for it.

use std::collections::VecDeque;

use oxkeeper_proto::{Epoch, Zxid};
use oxkeeper_zab::{History, Input, Proposal};

#[derive(Clone, Debug)]
pub enum DiskOp {
    Append(Proposal),
    SaveAccepted(Epoch),
    PrepareCurrent(Epoch),
    SaveCurrent(Epoch),
    SaveSnapshot(Zxid, Vec<Proposal>),
    Truncate(Zxid),
    Reload,
}

pub enum Answer {
    Nothing,
    Input(Input),
    Loaded(Vec<Proposal>, History),
}

#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub accepted: Epoch,
    pub current: Epoch,
    /// `currentEpoch.tmp`.
    pub prepared: Option<Epoch>,
    pub log: Vec<Proposal>,
    /// Up to here it may have been acknowledged, as storage notes it (`docs/spec/storage-formats.md` 10.4).
    pub acknowledged: Zxid,
    /// Snapshots, oldest first: last zxid and what was applied.
    pub snapshots: Vec<(Zxid, Vec<Proposal>)>,
    /// Not yet carried out.
    pub queue: VecDeque<DiskOp>,
}

impl Disk {
    /// Loads at the start of the process; an announced epoch whose history has begun to arrive counts.
    pub fn start(&mut self, limit: usize) -> (Vec<Proposal>, History) {
        let (tree, history) = self.load(limit);
        self.acknowledged = self.acknowledged.max(history.last_zxid);
        let epoch = history.last_zxid.epoch();
        if self.current < epoch {
            assert!(
                self.prepared.is_some_and(|prepared| epoch <= prepared),
                "currentEpoch {} is older than the history {}, and {:?} was announced",
                self.current,
                history.last_zxid,
                self.prepared
            );
            self.current = epoch;
        }
        (tree, history)
    }

    /// The tree and history as they would be loaded.
    pub fn load(&self, limit: usize) -> (Vec<Proposal>, History) {
        let (base, mut tree) = self.snapshots.last().cloned().unwrap_or_default();
        let later = self.log.iter().filter(|proposal| base < proposal.zxid);
        tree.extend(later.cloned());
        let last_zxid = self.log.last().map_or(base, |last| last.zxid.max(base));
        let recent = self.log[self.log.len().saturating_sub(limit)..].to_vec();
        let lost_tail = Some(self.acknowledged).filter(|acknowledged| last_zxid < *acknowledged);
        (tree, History { last_zxid, recent, lost_tail })
    }

    fn last(&self) -> Zxid {
        self.load(1).1.last_zxid
    }

    /// Is it noted that the log once reached further?
    pub fn lacks(&self) -> bool {
        self.last() < self.acknowledged
    }

    /// The file system forgets what the log ended with, up to `keep` at most.
    pub fn lose_tail(&mut self, keep: Zxid) {
        self.acknowledged = self.acknowledged.max(self.last());
        let base = self.snapshots.last().map_or(Zxid::ZERO, |(base, _)| *base);
        self.log.retain(|proposal| proposal.zxid <= keep.max(base));
    }

    /// Is this zxid durable?
    pub fn has(&self, zxid: Zxid) -> bool {
        self.log.iter().any(|proposal| proposal.zxid == zxid)
            || self
                .snapshots
                .last()
                .is_some_and(|(_, tree)| tree.iter().any(|proposal| proposal.zxid == zxid))
    }

    /// Is it durable, or has this server lost it and knows that? Then it has no say before it has it again.
    pub fn vouches_for(&self, zxid: Zxid) -> bool {
        self.has(zxid) || self.lacks() && zxid <= self.acknowledged
    }

    /// Everything after `from` and up to `to`, behind the last record at or before `from`.
    pub fn read(&self, from: Zxid, to: Zxid) -> Option<Vec<Proposal>> {
        let first = self.log.iter().rposition(|proposal| proposal.zxid <= from)?;
        let read = self.log[first..].iter().take_while(|proposal| proposal.zxid <= to);
        Some(read.cloned().collect())
    }

    /// Does it, and answers.
    pub fn carry_out(&mut self, op: DiskOp, limit: usize, group: usize) -> Answer {
        match op {
            DiskOp::Append(proposal) => {
                if let Some(last) = self.log.last() {
                    let same = last.zxid.epoch() == proposal.zxid.epoch();
                    assert!(last.zxid < proposal.zxid, "the log grows");
                    assert!(!same || last.zxid.0 + 1 == proposal.zxid.0, "no gap in an epoch");
                }
                let mut zxid = proposal.zxid;
                self.log.push(proposal);
                // A group of appends is synced once.
                for _ in 1..group {
                    if !matches!(self.queue.front(), Some(DiskOp::Append(_))) {
                        break;
                    }
                    if let Some(DiskOp::Append(proposal)) = self.queue.pop_front() {
                        zxid = proposal.zxid;
                        self.log.push(proposal);
                    }
                }
                self.acknowledged = self.acknowledged.max(zxid);
                Answer::Input(Input::Flushed(zxid))
            }
            DiskOp::SaveAccepted(epoch) => {
                assert!(self.accepted < epoch, "acceptedEpoch grows");
                self.accepted = epoch;
                Answer::Input(Input::AcceptedEpochSaved(epoch))
            }
            DiskOp::PrepareCurrent(epoch) => {
                self.prepared = Some(epoch);
                Answer::Nothing
            }
            DiskOp::SaveCurrent(epoch) => {
                assert!(self.current < epoch, "currentEpoch grows");
                self.acknowledged = self.last();
                self.current = epoch;
                self.prepared = None;
                Answer::Input(Input::CurrentEpochSaved(epoch))
            }
            DiskOp::SaveSnapshot(zxid, tree) => {
                // The log belongs to another history now, unless it ends where the snapshot does.
                if self.log.last().is_some_and(|last| last.zxid != zxid) {
                    self.log.clear();
                }
                self.snapshots.push((zxid, tree));
                self.acknowledged = zxid;
                Answer::Input(Input::SnapshotSaved)
            }
            DiskOp::Truncate(zxid) => {
                if !self.truncate(zxid) {
                    return Answer::Input(Input::TruncateFailed);
                }
                self.acknowledged = self.acknowledged.min(self.last());
                let (tree, history) = self.load(limit);
                Answer::Loaded(tree, history)
            }
            DiskOp::Reload => {
                let (tree, history) = self.load(limit);
                Answer::Loaded(tree, history)
            }
        }
    }

    /// False: it cannot be cut there, and nothing was changed.
    fn truncate(&mut self, zxid: Zxid) -> bool {
        let newest = self.snapshots.last().map_or(Zxid::ZERO, |(base, _)| *base);
        if zxid < newest {
            // Only a log that reaches back to an older snapshot can be cut that far.
            let older = self.snapshots.iter().rev().find(|(base, _)| *base <= zxid);
            let base = older.map_or(Zxid::ZERO, |(base, _)| *base);
            let reaches = self.log.first().is_some_and(|first| {
                first.zxid <= base
                    || first.zxid.0 == base.0 + 1
                    || base == Zxid::ZERO && first.zxid == Zxid::new(1, 1)
            });
            if !reaches {
                return false;
            }
            self.snapshots.retain(|(base, _)| *base <= zxid);
        }
        self.log.retain(|proposal| proposal.zxid <= zxid);
        true
    }
}
