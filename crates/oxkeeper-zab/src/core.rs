//! What all roles of a server share: durable facts, watermarks, the newest proposals.

use oxkeeper_proto::{Epoch, Zxid};

use crate::history::CommittedLog;
use crate::{Config, History, Output, Proposal};

/// Facts that outlive a role. `flushed <= appended`; `applied` is the tree's last zxid.
#[derive(Debug)]
pub struct Core {
    /// Settings.
    pub config: Config,
    /// Highest epoch promised, durable.
    pub accepted: Epoch,
    /// Epoch of the last leader whose history was adopted, durable.
    pub current: Epoch,
    /// Highest epoch that a learner has reported to this server as a leader that was too old for it.
    pub seen_epoch: Epoch,
    /// zxid of the last transaction given to `Apply` (or `epoch << 32` of a leader that serves, or the
    /// zxid of an adopted snapshot).
    pub applied: Zxid,
    /// Last zxid given to `Append`.
    pub appended: Zxid,
    /// Last zxid known durable.
    pub flushed: Zxid,
    /// The newest committed proposals.
    pub log: CommittedLog,
    /// A snapshot was adopted and is not saved yet: tree and disk disagree.
    pub adopted_unsaved: bool,
    /// The log could not be cut where a leader said: only a snapshot can bring this server in line, so
    /// it tells leaders that it has nothing. (It still votes with what it has.)
    pub needs_snapshot: bool,
    /// Disk requests (other than appends) without an answer.
    disk_pending: u32,
}

impl Core {
    /// The state as the disk has it.
    pub fn new(config: Config, accepted: Epoch, current: Epoch, history: History) -> Core {
        let limit = config.commit_log_count;
        let mut core = Core {
            config,
            accepted,
            current,
            seen_epoch: 0,
            applied: Zxid::ZERO,
            appended: Zxid::ZERO,
            flushed: Zxid::ZERO,
            log: CommittedLog::new(limit, Vec::new()),
            adopted_unsaved: false,
            needs_snapshot: false,
            disk_pending: 0,
        };
        core.reloaded(history);
        core
    }

    /// The tree was loaded anew from disk.
    pub fn reloaded(&mut self, history: History) {
        self.applied = history.last_zxid;
        self.appended = history.last_zxid;
        self.flushed = history.last_zxid;
        self.log = CommittedLog::new(self.config.commit_log_count, history.recent);
        self.adopted_unsaved = false;
    }

    /// Appends to the own log.
    pub fn append(&mut self, proposal: Proposal, out: &mut Vec<Output>) {
        assert!(self.appended < proposal.zxid, "the log grows in zxid order");
        self.appended = proposal.zxid;
        out.push(Output::Append(proposal));
    }

    /// Applies to the tree and remembers for learners.
    pub fn apply(&mut self, proposal: Proposal, out: &mut Vec<Output>) {
        self.applied = self.applied.max(proposal.zxid);
        self.log.push(proposal.clone());
        out.push(Output::Apply(proposal));
    }

    /// Applies a proposal that a snapshot will make durable instead of the log.
    pub fn apply_unlogged(&mut self, proposal: Proposal, out: &mut Vec<Output>) {
        self.appended = proposal.zxid;
        self.flushed = proposal.zxid;
        self.adopted_unsaved = true;
        self.apply(proposal, out);
    }

    /// Announces the epoch whose history is about to be written. A crash before
    /// [`Output::SaveCurrentEpoch`] is then recognized at the next start.
    pub fn prepare_current(&mut self, epoch: Epoch, out: &mut Vec<Output>) {
        if self.current < epoch {
            out.push(Output::PrepareCurrentEpoch(epoch));
        }
    }

    /// Takes over a snapshot received from the leader.
    pub fn adopt_snapshot(&mut self, zxid: Zxid, out: &mut Vec<Output>) {
        self.applied = zxid;
        self.appended = zxid;
        self.flushed = zxid;
        self.log.clear();
        self.adopted_unsaved = true;
        out.push(Output::AdoptSnapshot(zxid));
    }

    /// Asks the disk for something that is answered.
    pub fn disk(&mut self, request: Output, out: &mut Vec<Output>) {
        self.disk_pending += 1;
        out.push(request);
    }

    /// An answer of the disk arrived.
    pub fn disk_answered(&mut self) {
        assert!(self.disk_pending > 0, "the disk answers only what it was asked");
        self.disk_pending -= 1;
    }

    /// Is every disk request answered and every append durable?
    pub fn disk_idle(&self) -> bool {
        self.disk_pending == 0 && self.appended <= self.flushed
    }

    /// Ticks as ms.
    pub fn ticks_ms(&self, ticks: u64) -> u64 {
        ticks * self.config.tick_ms
    }
}
