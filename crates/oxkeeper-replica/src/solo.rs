//! The sequencer of a standalone server: a write is committed once it is on its own disk.

use std::collections::VecDeque;

use oxkeeper_proto::Zxid;
use oxkeeper_zab::Proposal;

/// Numbers proposals and releases them when they are durable.
#[derive(Debug)]
pub struct Solo {
    proposed: Zxid,
    pending: VecDeque<Proposal>,
}

impl Solo {
    /// Continues after `last_zxid`.
    pub fn new(last_zxid: Zxid) -> Self {
        Solo { proposed: last_zxid, pending: VecDeque::new() }
    }

    /// zxid of the next proposal. A standalone server holds no elections: when the counter ends, the
    /// next epoch simply begins.
    pub fn next_zxid(&self) -> Zxid {
        self.proposed.next().unwrap_or_else(|| Zxid::new(self.proposed.epoch() + 1, 1))
    }

    /// Proposed, not yet durable.
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// The last zxid given out.
    pub fn proposed(&self) -> Zxid {
        self.proposed
    }

    /// Takes a proposal with [`Self::next_zxid`].
    pub fn propose(&mut self, proposal: Proposal) {
        assert_eq!(proposal.zxid, self.next_zxid(), "proposals are numbered without gaps");
        self.proposed = proposal.zxid;
        self.pending.push_back(proposal);
    }

    /// Proposals that became durable, in order.
    pub fn flushed(&mut self, zxid: Zxid) -> impl Iterator<Item = Proposal> + '_ {
        let durable = self.pending.partition_point(|proposal| proposal.zxid <= zxid);
        self.pending.drain(..durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn nothing_is_released_before_it_is_durable() {
        let mut solo = Solo::new(Zxid(4));
        for zxid in 5..8 {
            assert_eq!(solo.next_zxid(), Zxid(zxid));
            solo.propose(Proposal { zxid: Zxid(zxid), payload: Bytes::new() });
        }
        let released: Vec<_> = solo.flushed(Zxid(6)).map(|proposal| proposal.zxid).collect();
        assert_eq!(released, [Zxid(5), Zxid(6)]);
        assert_eq!(solo.outstanding(), 1);
    }
}
