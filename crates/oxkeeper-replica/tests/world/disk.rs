//! A server's disk: what is durable, and what is queued for it.

use std::collections::VecDeque;

use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{Epoch, Zxid};
use oxkeeper_replica::Input;
use oxkeeper_state::State;
use oxkeeper_zab::{History, Input as Z, Proposal};

pub enum DiskOp {
    Append(Proposal),
    SaveAccepted(Epoch),
    SaveCurrent(Epoch),
    /// The transactions whose effects are in the snapshot.
    SaveSnapshot(Vec<Proposal>),
    Truncate(Zxid),
    Reload,
}

#[derive(Default)]
pub struct Disk {
    pub accepted: Epoch,
    pub current: Epoch,
    /// Snapshot and log in one.
    pub log: Vec<Proposal>,
    pub queue: VecDeque<DiskOp>,
    /// It does not work for now.
    pub held: bool,
}

/// The tree that these transactions make.
pub fn tree(proposals: &[Proposal]) -> Box<State> {
    let mut state = State::new(1);
    for proposal in proposals {
        let payload = Payload::decode(&proposal.payload).expect("a payload of our own making");
        state.apply(&payload, &mut (), false);
    }
    Box::new(state)
}

impl Disk {
    pub fn history(&self) -> History {
        let last_zxid = self.log.last().map_or(Zxid::ZERO, |last| last.zxid);
        History { last_zxid, recent: self.log.clone(), lost_tail: None }
    }

    /// Logged or about to be, up to here.
    pub fn known(&self, to: Zxid) -> Vec<Proposal> {
        let queued = self.queue.iter().filter_map(|op| match op {
            DiskOp::Append(proposal) => Some(proposal),
            _ => None,
        });
        self.log.iter().chain(queued).filter(|proposal| proposal.zxid <= to).cloned().collect()
    }

    /// Everything after `from` and up to `to`, behind the last record at or before `from`.
    pub fn read(&self, from: Zxid, to: Zxid) -> Option<Vec<Proposal>> {
        let first = self.log.iter().rposition(|proposal| proposal.zxid <= from)?;
        let read = self.log[first..].iter().take_while(|proposal| proposal.zxid <= to);
        Some(read.cloned().collect())
    }

    pub fn carry_out(&mut self, op: DiskOp) -> Input {
        match op {
            DiskOp::Append(proposal) => {
                let zxid = proposal.zxid;
                self.log.push(proposal);
                Input::Zab(Z::Flushed(zxid))
            }
            DiskOp::SaveAccepted(epoch) => {
                self.accepted = epoch;
                Input::Zab(Z::AcceptedEpochSaved(epoch))
            }
            DiskOp::SaveCurrent(epoch) => {
                self.current = epoch;
                Input::Zab(Z::CurrentEpochSaved(epoch))
            }
            DiskOp::SaveSnapshot(log) => {
                self.log = log;
                Input::Zab(Z::SnapshotSaved)
            }
            DiskOp::Truncate(zxid) => {
                self.log.retain(|proposal| proposal.zxid <= zxid);
                Input::Reloaded(tree(&self.log), self.history())
            }
            DiskOp::Reload => Input::Reloaded(tree(&self.log), self.history()),
        }
    }
}
