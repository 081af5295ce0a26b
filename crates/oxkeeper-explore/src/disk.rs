//! A server's disk: what is durable, and what is queued for it. Each request of the queue is carried out
//! whole and by itself; a crash loses the queue and nothing else.
//!
//! It does what `oxkeeper_node::Store` does with these requests.

use std::collections::VecDeque;

use bytes::Bytes;
use oxkeeper_proto::txn::{Txn as Record, TxnHeader};
use oxkeeper_proto::{Decode, Encode, Epoch, OpCode, Zxid};
use oxkeeper_zab::{DiskRequest, History, Input, Proposal};

/// Proposals kept in memory for DIFF: more than any run makes.
pub const COMMIT_LOG_COUNT: usize = 500;

/// A transaction: its place, and which of all that were ever proposed it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Txn {
    /// Its place.
    pub zxid: Zxid,
    /// Unique among all proposals of a run, whatever their zxids.
    pub value: u8,
}

impl std::fmt::Debug for Txn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = (b'a' + self.value) as char;
        write!(f, "{name}@{}", short(self.zxid))
    }
}

/// A zxid as `epoch.counter`.
pub fn short(zxid: Zxid) -> String {
    if zxid.0 < 0 { "-".to_owned() } else { format!("{}.{}", zxid.epoch(), zxid.counter()) }
}

impl Txn {
    /// As the cores carry it: a whole log payload.
    pub fn proposal(self) -> Proposal {
        let header = TxnHeader {
            client_id: 1,
            cxid: i32::from(self.value),
            zxid: self.zxid.0,
            time_ms: 1,
            kind: OpCode::SetData.code(),
        };
        let mut payload = header.to_bytes().to_vec();
        let (op, data) = (OpCode::SetData, Some(&b"x"[..]));
        Record::SetData { op, path: "/a".into(), data, version: 1 }.encode_record(&mut payload);
        Proposal { zxid: self.zxid, payload: Bytes::from(payload) }
    }

    /// What a proposal of this crate's making carries.
    pub fn of(proposal: &Proposal) -> Txn {
        let header = TxnHeader::from_bytes(&proposal.payload).expect("a payload made here");
        Txn { zxid: proposal.zxid, value: header.cxid as u8 }
    }
}

/// What a request came to.
pub enum Done {
    /// An input for the core.
    Answer(Input),
    /// The tree was loaded anew.
    Loaded(Vec<Txn>, History),
    /// Requests without an answer.
    Nothing,
}

/// One server's disk.
#[derive(Clone, Default, Hash)]
pub struct Disk {
    /// `acceptedEpoch`.
    pub accepted: Epoch,
    /// `currentEpoch`.
    pub current: Epoch,
    /// `currentEpoch.tmp`.
    pub prepared: Option<Epoch>,
    /// The records of the log, ascending.
    pub log: Vec<Txn>,
    /// Snapshots, oldest first: the last zxid, and all that was applied.
    pub snapshots: Vec<(Zxid, Vec<Txn>)>,
    /// Asked for, not carried out.
    pub queue: VecDeque<Request>,
}

/// A queued request. (Like [`DiskRequest`], and hashable.)
#[derive(Clone, Copy, Debug, Hash)]
#[allow(missing_docs)]
pub enum Request {
    Append(Txn),
    SaveAccepted(Epoch),
    PrepareCurrent(Epoch),
    SaveCurrent(Epoch),
    SaveSnapshot,
    Truncate(Zxid),
    Reload,
}

impl From<&DiskRequest> for Request {
    fn from(request: &DiskRequest) -> Request {
        match request {
            DiskRequest::Append(proposal) => Request::Append(Txn::of(proposal)),
            DiskRequest::SaveAcceptedEpoch(epoch) => Request::SaveAccepted(*epoch),
            DiskRequest::PrepareCurrentEpoch(epoch) => Request::PrepareCurrent(*epoch),
            DiskRequest::SaveCurrentEpoch(epoch) => Request::SaveCurrent(*epoch),
            DiskRequest::SaveSnapshot => Request::SaveSnapshot,
            DiskRequest::Truncate(zxid) => Request::Truncate(*zxid),
            DiskRequest::Reload => Request::Reload,
        }
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Request::Append(txn) => write!(f, "append {txn:?}"),
            Request::SaveAccepted(epoch) => write!(f, "acceptedEpoch {epoch}"),
            Request::PrepareCurrent(epoch) => write!(f, "announce currentEpoch {epoch}"),
            Request::SaveCurrent(epoch) => write!(f, "currentEpoch {epoch}"),
            Request::SaveSnapshot => write!(f, "snapshot of the tree"),
            Request::Truncate(zxid) => write!(f, "cut the log behind {}", short(*zxid)),
            Request::Reload => write!(f, "load the tree anew"),
        }
    }
}

impl Disk {
    /// Loads at the start of the process. An announced epoch whose history has begun to arrive counts.
    /// An error: production refuses to start.
    pub fn start(&mut self) -> Result<(Vec<Txn>, History), String> {
        let (tree, history) = self.load();
        let epoch = history.last_zxid.epoch();
        if self.current < epoch {
            if self.prepared.is_none_or(|prepared| prepared < epoch) {
                let (current, last) = (self.current, short(history.last_zxid));
                return Err(format!("currentEpoch {current} is older than its history {last}"));
            }
            self.current = epoch;
        }
        Ok((tree, history))
    }

    fn load(&self) -> (Vec<Txn>, History) {
        let (base, mut tree) = self.snapshots.last().cloned().unwrap_or_default();
        tree.extend(self.log.iter().filter(|txn| base < txn.zxid));
        let last_zxid = self.log.last().map_or(base, |last| last.zxid.max(base));
        let newest = &self.log[self.log.len().saturating_sub(COMMIT_LOG_COUNT)..];
        let recent = newest.iter().map(|txn| txn.proposal()).collect();
        (tree, History { last_zxid, recent, lost_tail: None })
    }

    /// Is it durable?
    pub fn has(&self, txn: &Txn) -> bool {
        let in_snapshot = |(_, tree): &(Zxid, Vec<Txn>)| tree.contains(txn);
        self.log.contains(txn) || self.snapshots.last().is_some_and(in_snapshot)
    }

    /// Logged proposals after `from` and up to `to`, behind the last one at or before `from`.
    pub fn read(&self, from: Zxid, to: Zxid) -> Option<Vec<Proposal>> {
        let first = self.log.iter().rposition(|txn| txn.zxid <= from)?;
        let read = self.log[first..].iter().take_while(|txn| txn.zxid <= to);
        Some(read.map(|txn| txn.proposal()).collect())
    }

    /// Carries out the oldest request; `tree` is the server's, at `applied`. An error: what was asked for
    /// cannot be done.
    pub fn carry_out(&mut self, tree: &[Txn], applied: Zxid) -> Result<Done, String> {
        let Some(request) = self.queue.pop_front() else { return Ok(Done::Nothing) };
        Ok(Done::Answer(match request {
            Request::Append(txn) => {
                self.append(txn)?;
                Input::Flushed(txn.zxid)
            }
            Request::SaveAccepted(epoch) => {
                grows("acceptedEpoch", self.accepted, epoch)?;
                self.accepted = epoch;
                Input::AcceptedEpochSaved(epoch)
            }
            Request::PrepareCurrent(epoch) => {
                self.prepared = Some(epoch);
                return Ok(Done::Nothing);
            }
            Request::SaveCurrent(epoch) => {
                grows("currentEpoch", self.current, epoch)?;
                if self.accepted < epoch {
                    return Err(format!("currentEpoch {epoch} before it is accepted"));
                }
                self.current = epoch;
                self.prepared = None;
                Input::CurrentEpochSaved(epoch)
            }
            Request::SaveSnapshot => {
                // The log belongs to another history now, unless it ends where the snapshot does.
                if self.log.last().is_some_and(|last| last.zxid != applied) {
                    self.log.clear();
                }
                self.snapshots.push((applied, tree.to_vec()));
                Input::SnapshotSaved
            }
            Request::Truncate(zxid) if !self.truncate(zxid) => Input::TruncateFailed,
            Request::Truncate(_) | Request::Reload => {
                let (tree, history) = self.load();
                return Ok(Done::Loaded(tree, history));
            }
        }))
    }

    fn append(&mut self, txn: Txn) -> Result<(), String> {
        if let Some(last) = self.log.last() {
            let same = last.zxid.epoch() == txn.zxid.epoch();
            if txn.zxid <= last.zxid || same && last.zxid.0 + 1 != txn.zxid.0 {
                return Err(format!("{txn:?} cannot follow {last:?} in the log"));
            }
        }
        self.log.push(txn);
        Ok(())
    }

    /// False: only a log that reaches back to an older snapshot, or to the beginning, can be cut that far.
    fn truncate(&mut self, zxid: Zxid) -> bool {
        let newest = self.snapshots.last().map_or(Zxid::ZERO, |(base, _)| *base);
        if zxid < newest {
            let older = self.snapshots.iter().rev().find(|(base, _)| *base <= zxid);
            let base = older.map_or(Zxid::ZERO, |(base, _)| *base);
            let reaches = self.log.first().is_some_and(|first| {
                first.zxid.0 <= base.0 + 1 || base == Zxid::ZERO && first.zxid == Zxid::new(1, 1)
            });
            if !reaches {
                return false;
            }
            self.snapshots.retain(|(base, _)| *base <= zxid);
        }
        self.log.retain(|txn| txn.zxid <= zxid);
        true
    }
}

fn grows(what: &str, from: Epoch, to: Epoch) -> Result<(), String> {
    if from < to { Ok(()) } else { Err(format!("{what} goes from {from} to {to}")) }
}
