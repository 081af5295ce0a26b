//! The newest proposals in memory, and which way a learner is brought up to date.
//!
//! Source: `docs/spec/quorum-protocol.md` 10.1 to 10.4.

use std::collections::VecDeque;

use oxkeeper_proto::Zxid;

use crate::Proposal;

/// Payload bytes kept at most; large transactions shorten the log instead of filling the memory.
const MAX_BYTES: usize = 64 << 20;

/// The newest committed proposals, ascending.
#[derive(Clone, Debug, Default, Hash)]
pub struct CommittedLog {
    proposals: VecDeque<Proposal>,
    bytes: usize,
    limit: usize,
}

/// How new a server's history is: the newer one is the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistorySummary {
    /// currentEpoch, as wide as notifications have it.
    pub epoch: i64,
    /// The last logged zxid.
    pub last: Zxid,
}

impl std::fmt::Display for HistorySummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "epoch {:#x}, last zxid {}", self.epoch, self.last)
    }
}

/// How a learner is synchronized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Send these; the learner will then have everything up to the zxid.
    Diff(Zxid, Vec<Proposal>),
    /// The learner cuts its log back to the zxid; then these.
    Trunc(Zxid, Vec<Proposal>),
    /// Send the whole tree.
    Snap,
    /// Ask the log for what lies between the learner's last zxid and the oldest in memory.
    ReadLog {
        /// Oldest zxid in memory.
        to: Zxid,
    },
}

impl CommittedLog {
    /// Keeps at most `limit` proposals.
    pub fn new(limit: usize, recent: Vec<Proposal>) -> CommittedLog {
        let mut log = CommittedLog { limit: limit.max(1), ..CommittedLog::default() };
        recent.into_iter().for_each(|proposal| log.push(proposal));
        log
    }

    /// Appends a committed proposal.
    pub fn push(&mut self, proposal: Proposal) {
        self.bytes += proposal.payload.len();
        self.proposals.push_back(proposal);
        while self.proposals.len() > self.limit
            || (self.bytes > MAX_BYTES && self.proposals.len() > 1)
        {
            if let Some(oldest) = self.proposals.pop_front() {
                self.bytes -= oldest.payload.len();
            }
        }
    }

    /// Forgets everything; the tree was replaced.
    pub fn clear(&mut self) {
        self.proposals.clear();
        self.bytes = 0;
    }

    /// Chooses for a learner whose last zxid is `learner`, while this server's is `last`. `logged` is
    /// what the log answered, if it was asked.
    pub fn choose(
        &self,
        learner: Zxid,
        last: Zxid,
        force_snapshot: bool,
        logged: Option<Option<&[Proposal]>>,
    ) -> Choice {
        let min = self.proposals.front().map_or(last, |proposal| proposal.zxid);
        let max = self.proposals.back().map_or(last, |proposal| proposal.zxid);
        if force_snapshot {
            Choice::Snap
        } else if last == learner {
            Choice::Diff(learner, Vec::new())
        } else if max < learner && learner.counter() != 0 {
            Choice::Trunc(max, Vec::new())
        } else if min <= learner && learner <= max {
            scan(self.proposals.iter(), learner, max)
        } else if learner < min {
            match logged {
                None => Choice::ReadLog { to: min },
                Some(None) => Choice::Snap,
                Some(Some(logged)) => self.with_logged(learner, max, min, logged),
            }
        } else {
            Choice::Snap
        }
    }

    /// The learner is older than the memory: what the log has, then the memory.
    fn with_logged(&self, learner: Zxid, max: Zxid, min: Zxid, logged: &[Proposal]) -> Choice {
        // The log must reach back to the learner and forward to the memory, or there is a gap. The
        // memory may have moved on since the log was asked, and an epoch's first proposal does not
        // tell how the epoch before it ended.
        let reaches_back = logged.first().is_some_and(|first| first.zxid <= learner);
        let reaches_memory =
            logged.last().is_some_and(|last| min <= last.zxid || last.zxid.0 + 1 == min.0);
        if !reaches_back || !reaches_memory {
            return Choice::Snap;
        }
        // After a start from a fresh snapshot the memory is empty: then the log's last one counts too.
        let empty = self.proposals.is_empty();
        let only_logged = |zxid: Zxid| if empty { zxid <= max } else { zxid < min };
        let from_log = logged.iter().filter(|proposal| only_logged(proposal.zxid));
        scan(from_log.chain(self.proposals.iter()), learner, max)
    }
}

/// Walks the proposals from the learner's last zxid on (`docs/spec/quorum-protocol.md` 10.3).
fn scan<'a>(proposals: impl Iterator<Item = &'a Proposal>, learner: Zxid, max: Zxid) -> Choice {
    let mut before = None;
    let mut proposals = proposals.peekable();
    while let Some(proposal) = proposals.next_if(|proposal| proposal.zxid < learner) {
        before = Some(proposal.zxid);
    }
    let Some(first) = proposals.peek() else {
        return if learner.counter() == 0 { Choice::Diff(max, Vec::new()) } else { Choice::Snap };
    };
    if first.zxid == learner {
        proposals.next();
        Choice::Diff(max, proposals.cloned().collect())
    } else if learner.counter() == 0 {
        Choice::Diff(max, proposals.cloned().collect())
    } else if first.zxid.epoch() == learner.epoch()
        && let Some(before) = before
    {
        // The learner has a proposal that was never committed.
        Choice::Trunc(before, proposals.cloned().collect())
    } else {
        Choice::Snap
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn log(zxids: &[(u32, u32)]) -> CommittedLog {
        CommittedLog::new(500, proposals(zxids))
    }

    fn proposals(zxids: &[(u32, u32)]) -> Vec<Proposal> {
        let proposal = |(epoch, counter): &(u32, u32)| Proposal {
            zxid: Zxid::new(*epoch, *counter),
            payload: Bytes::new(),
        };
        zxids.iter().map(proposal).collect()
    }

    fn z(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(epoch, counter)
    }

    #[test]
    fn a_learner_with_the_same_history_gets_an_empty_diff() {
        let log = log(&[(1, 1), (1, 2)]);
        assert_eq!(log.choose(z(1, 2), z(1, 2), false, None), Choice::Diff(z(1, 2), vec![]));
    }

    #[test]
    fn a_learner_behind_gets_what_it_lacks_and_diff_names_the_last() {
        let log = log(&[(1, 1), (1, 2), (1, 3)]);
        assert_eq!(
            log.choose(z(1, 1), z(2, 0), false, None),
            Choice::Diff(z(1, 3), proposals(&[(1, 2), (1, 3)]))
        );
    }

    #[test]
    fn a_learner_ahead_is_cut_back() {
        let log = log(&[(1, 1), (1, 2)]);
        assert_eq!(log.choose(z(1, 5), z(1, 2), false, None), Choice::Trunc(z(1, 2), vec![]));
    }

    #[test]
    fn a_phantom_of_the_same_epoch_is_cut_and_a_phantom_across_epochs_gets_a_snapshot() {
        let log = log(&[(1, 1), (1, 2), (2, 1)]);
        assert_eq!(log.choose(z(1, 5), z(2, 1), false, None), Choice::Snap);
        let log = self::log(&[(1, 1), (1, 2), (1, 4), (1, 5)]);
        assert_eq!(
            log.choose(z(1, 3), z(1, 5), false, None),
            Choice::Trunc(z(1, 2), proposals(&[(1, 4), (1, 5)]))
        );
    }

    #[test]
    fn a_learner_at_an_epochs_start_has_nothing_to_cut() {
        let log = log(&[(1, 1), (1, 2), (3, 1)]);
        assert_eq!(
            log.choose(z(2, 0), z(3, 1), false, None),
            Choice::Diff(z(3, 1), proposals(&[(3, 1)]))
        );
    }

    #[test]
    fn the_log_on_disk_fills_in_only_without_a_gap() {
        let log = log(&[(1, 4), (1, 5)]);
        let choose =
            |logged: Option<&[Proposal]>| log.choose(z(1, 1), z(1, 5), false, Some(logged));
        assert_eq!(log.choose(z(1, 1), z(1, 5), false, None), Choice::ReadLog { to: z(1, 4) });
        assert_eq!(choose(None), Choice::Snap);
        assert_eq!(choose(Some(&proposals(&[(1, 1), (1, 2)]))), Choice::Snap);
        assert_eq!(choose(Some(&proposals(&[(1, 2), (1, 3)]))), Choice::Snap);
        assert_eq!(
            choose(Some(&proposals(&[(1, 1), (1, 2), (1, 3)]))),
            Choice::Diff(z(1, 5), proposals(&[(1, 2), (1, 3), (1, 4), (1, 5)]))
        );
    }

    #[test]
    fn an_empty_memory_leaves_the_last_proposal_to_the_log() {
        let log = log(&[]);
        assert_eq!(log.choose(z(1, 1), z(1, 3), false, None), Choice::ReadLog { to: z(1, 3) });
        let logged = proposals(&[(1, 1), (1, 2), (1, 3)]);
        assert_eq!(
            log.choose(z(1, 1), z(1, 3), false, Some(Some(&logged))),
            Choice::Diff(z(1, 3), proposals(&[(1, 2), (1, 3)]))
        );
    }

    #[test]
    fn the_log_on_disk_must_overlap_a_memory_that_begins_with_an_epoch() {
        // The log was asked up to 1.2; meanwhile the memory has lost 1.2 and 1.3.
        let log = log(&[(2, 1), (2, 2)]);
        let choose =
            |logged: Option<&[Proposal]>| log.choose(z(1, 1), z(2, 2), false, Some(logged));
        assert_eq!(choose(Some(&proposals(&[(1, 1), (1, 2)]))), Choice::Snap);
        assert_eq!(
            choose(Some(&proposals(&[(1, 1), (1, 2), (1, 3), (2, 1)]))),
            Choice::Diff(z(2, 2), proposals(&[(1, 2), (1, 3), (2, 1), (2, 2)]))
        );
    }
}
