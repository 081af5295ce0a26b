//! What waits: for the disk, for a commit, for NEWLEADER. Each of these queues knows its bytes, so that
//! a disk or a peer that does not keep up is noticed before memory ends.
//!
//! What else grows is bounded by something: votes and remembered histories by the number of members, a
//! learner's commits by the proposals that they name, its ACKs to come by what the disk has to write, a
//! link's held commits are a range, links and syncs have limits of their own in `leader`, the memory of
//! committed proposals its own in `history`.

use std::collections::VecDeque;

use oxkeeper_proto::Zxid;

use crate::Proposal;

/// Bytes that may wait in one place, if nothing else is said ([`crate::Zab::limit_queues`]). A disk that
/// writes 100 MB a second is 5 s behind then, and `syncLimit` is about to end the role anyway.
pub const MAX_QUEUED_BYTES: usize = 512 << 20;
/// What a proposal takes beside its payload, about.
const OVERHEAD: usize = 100;

fn cost(proposal: &Proposal) -> usize {
    proposal.payload.len() + OVERHEAD
}

/// Proposals in zxid order.
#[derive(Clone, Debug, Default, Hash)]
pub struct ProposalQueue {
    proposals: VecDeque<Proposal>,
    bytes: usize,
}

impl ProposalQueue {
    pub fn push_back(&mut self, proposal: Proposal) {
        self.bytes += cost(&proposal);
        self.proposals.push_back(proposal);
    }

    pub fn pop_front(&mut self) -> Option<Proposal> {
        let proposal = self.proposals.pop_front()?;
        self.bytes -= cost(&proposal);
        Some(proposal)
    }

    /// Takes the oldest if it is this one.
    pub fn pop_front_if(&mut self, zxid: Zxid) -> Option<Proposal> {
        if self.front()?.zxid == zxid { self.pop_front() } else { None }
    }

    pub fn front(&self) -> Option<&Proposal> {
        self.proposals.front()
    }

    pub fn back(&self) -> Option<&Proposal> {
        self.proposals.back()
    }

    pub fn get(&self, index: usize) -> Option<&Proposal> {
        self.proposals.get(index)
    }

    pub fn len(&self) -> usize {
        self.proposals.len()
    }

    pub fn is_empty(&self) -> bool {
        self.proposals.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Proposal> {
        self.proposals.iter()
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl IntoIterator for ProposalQueue {
    type Item = Proposal;
    type IntoIter = std::collections::vec_deque::IntoIter<Proposal>;

    fn into_iter(self) -> Self::IntoIter {
        self.proposals.into_iter()
    }
}

/// A proposal on its way to the disk.
#[derive(Clone, Debug, Hash)]
pub struct Append {
    pub zxid: Zxid,
    bytes: usize,
    /// When it was given to the disk.
    pub at_ms: u64,
}

/// Appends that are not durable yet.
#[derive(Clone, Debug, Default, Hash)]
pub struct Unflushed {
    appends: VecDeque<Append>,
    bytes: usize,
}

impl Unflushed {
    pub fn appended(&mut self, proposal: &Proposal, at_ms: u64) {
        let bytes = cost(proposal);
        self.bytes += bytes;
        self.appends.push_back(Append { zxid: proposal.zxid, bytes, at_ms });
    }

    /// Everything up to here is durable.
    pub fn flushed(&mut self, zxid: Zxid) {
        while let Some(append) = self.appends.pop_front_if(|append| append.zxid <= zxid) {
            self.bytes -= append.bytes;
        }
    }

    /// The oldest.
    pub fn oldest(&self) -> Option<&Append> {
        self.appends.front()
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
