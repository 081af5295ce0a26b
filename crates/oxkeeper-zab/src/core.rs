//! What all roles of a server share: durable facts, watermarks, the newest proposals.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use oxkeeper_proto::quorum::{NO_VOTE, Notification, ServerState};
use oxkeeper_proto::{Epoch, Epochs, ServerId, Zxid};

use crate::error::Lost;
use crate::history::{CommittedLog, HistorySummary};
use crate::queue::Unflushed;
use crate::watermarks::Watermarks;
use crate::{Config, DiskRequest, Effect, History, Input, LinkId, Output, Proposal};

/// What the disk has answered, once the core has noted it.
#[derive(Debug)]
pub enum DiskAnswer {
    /// The log is durable up to the mark.
    Flushed,
    /// acceptedEpoch is durable.
    AcceptedEpoch(Epoch),
    /// currentEpoch is durable.
    CurrentEpoch(Epoch),
    /// The snapshot of the adopted tree is durable.
    Snapshot,
    /// The tree was loaded anew.
    Reloaded,
    /// The log could not be cut.
    CannotCut,
    /// What the log has for a learner.
    LogRead { link: LinkId, proposals: Option<Vec<Proposal>> },
}

/// Facts that outlive a role.
#[derive(Clone, Debug)]
pub struct Core {
    /// Settings.
    pub config: Arc<Config>,
    /// Highest epoch promised, durable.
    pub accepted: Epoch,
    /// Epoch of the last leader whose history was adopted, durable.
    pub current: Epoch,
    /// Highest epoch that a learner has reported to this server as a leader that was too old for it.
    pub seen_epoch: Epoch,
    /// The history of each member as it last told it.
    histories: BTreeMap<ServerId, HistorySummary>,
    /// How often this server was the one, or met one, whose history is newer than a leader's epoch.
    pub refused_newer: u64,
    /// What has been said of it already, so that it is said once: (server, epoch of the leader).
    said_newer: Option<(ServerId, Epoch)>,
    /// How far log and tree are.
    pub marks: Watermarks,
    /// Appended, and not durable yet.
    pub unflushed: Unflushed,
    /// The time of the input that is being treated: roles read it here alone.
    pub now_ms: u64,
    /// The newest committed proposals.
    pub log: CommittedLog,
    /// The zxid up to which this server had acknowledged, if its history ends before: it has no say
    /// until a leader's history is its own.
    pub lost_tail: Option<Zxid>,
    /// A snapshot was adopted and is not saved yet: tree and disk disagree.
    pub adopted_unsaved: bool,
    /// The log could not be cut where a leader said: only a snapshot can bring this server in line, so
    /// it tells leaders that it has nothing. (It still votes with what it has.)
    pub needs_snapshot: bool,
    /// The last load of the tree that was asked for is the end of a cut.
    cutting: bool,
    /// Disk requests (other than appends) without an answer.
    disk_pending: u32,
}

/// Without settings, counts for operators, and the time, which every input brings anew.
impl Hash for Core {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Core { accepted, current, seen_epoch, histories, marks, unflushed, log, .. } = self;
        let Core { lost_tail, adopted_unsaved, needs_snapshot, cutting, disk_pending, .. } = self;
        let Core { config: _, refused_newer: _, said_newer: _, now_ms: _, .. } = self;
        (accepted, current, seen_epoch, histories, marks, unflushed, log).hash(hasher);
        (lost_tail, adopted_unsaved, needs_snapshot, cutting, disk_pending).hash(hasher);
    }
}

impl Core {
    /// The state as the disk has it.
    pub fn new(config: Config, epochs: Epochs, history: History, now_ms: u64) -> Core {
        assert!(
            epochs.current <= epochs.accepted,
            "the driver refuses such epoch files: {epochs:?}"
        );
        let limit = config.commit_log_count;
        let mut core = Core {
            config: Arc::new(config),
            accepted: epochs.accepted,
            current: epochs.current,
            seen_epoch: 0,
            histories: BTreeMap::new(),
            refused_newer: 0,
            said_newer: None,
            marks: Watermarks::at(history.last_zxid),
            unflushed: Unflushed::default(),
            now_ms,
            log: CommittedLog::new(limit, Vec::new()),
            lost_tail: None,
            adopted_unsaved: false,
            needs_snapshot: false,
            cutting: false,
            disk_pending: 0,
        };
        core.reloaded(history);
        core
    }

    /// The tree was loaded anew from disk.
    pub fn reloaded(&mut self, history: History) {
        self.marks = Watermarks::at(history.last_zxid);
        self.log = CommittedLog::new(self.config.commit_log_count, history.recent);
        self.adopted_unsaved = false;
        self.lost_tail = history.lost_tail;
    }

    /// Remembers what a member tells of its own history: a LOOKING server's vote for itself, or for
    /// nobody if it has no vote. (Apache's observers do not tell.)
    pub fn note_history(&mut self, from: ServerId, n: &Notification) {
        let tells = n.state == ServerState::Looking as i32
            && (n.leader == from || n.leader == NO_VOTE && n.zxid.0 != NO_VOTE);
        if tells && self.config.ensemble.servers.contains_key(&from) {
            self.histories.insert(from, HistorySummary { epoch: n.peer_epoch, last: n.zxid });
        }
    }

    /// What `server` last told of its history. Serves once: by the next time it must have told anew.
    pub fn take_history(&mut self, server: ServerId) -> Option<HistorySummary> {
        self.histories.remove(&server)
    }

    /// Counts a history that is newer than the epoch of a leader; true if the operator must hear of it.
    pub fn refuse_newer(&mut self, server: ServerId, epoch: Epoch) -> bool {
        self.refused_newer += 1;
        self.said_newer.replace((server, epoch)) != Some((server, epoch))
    }

    /// Appends to the own log.
    pub fn append(&mut self, proposal: Proposal, out: &mut Vec<Output>) {
        self.marks.append(proposal.zxid);
        self.unflushed.appended(&proposal, self.now_ms);
        out.push(Output::Disk(DiskRequest::Append(proposal)));
    }

    /// Applies to the tree and remembers for learners.
    pub fn apply(&mut self, proposal: Proposal, out: &mut Vec<Output>) {
        self.marks.apply(proposal.zxid);
        self.give(proposal, out);
    }

    /// Applies a proposal that a snapshot will make durable instead of the log.
    pub fn apply_unlogged(&mut self, proposal: Proposal, out: &mut Vec<Output>) {
        self.marks.apply_unlogged(proposal.zxid);
        self.adopted_unsaved = true;
        self.give(proposal, out);
    }

    fn give(&mut self, proposal: Proposal, out: &mut Vec<Output>) {
        self.log.push(proposal.clone());
        out.push(Output::Replica(Effect::Apply(proposal)));
    }

    /// Announces an epoch whose history is about to be written, behind all that is before it. A crash
    /// before [`DiskRequest::SaveCurrentEpoch`] is then recognized at the next start.
    pub fn prepare_current(&mut self, epoch: Epoch, out: &mut Vec<Output>) {
        if self.current < epoch {
            out.push(Output::Disk(DiskRequest::PrepareCurrentEpoch(epoch)));
        }
    }

    /// Takes over a snapshot received from the leader.
    pub fn adopt_snapshot(&mut self, zxid: Zxid, out: &mut Vec<Output>) {
        self.marks = Watermarks::at(zxid);
        self.log.clear();
        self.adopted_unsaved = true;
        out.push(Output::Replica(Effect::AdoptSnapshot(zxid)));
    }

    /// When an append that is not durable yet has waited too long.
    pub fn disk_deadline_ms(&self) -> Option<u64> {
        self.unflushed.oldest().map(|append| append.at_ms + self.ticks_ms(self.config.sync_limit))
    }

    /// Has the oldest append waited for syncLimit?
    pub fn check_disk_time(&self) -> Result<(), Lost> {
        match self.unflushed.oldest() {
            Some(append) if self.disk_deadline_ms() <= Some(self.now_ms) => {
                Err(Lost::DiskHangs { oldest: append.zxid, ms: self.now_ms - append.at_ms })
            }
            _ => Ok(()),
        }
    }

    /// Do more bytes wait for the disk than may?
    pub fn check_disk_bytes(&self) -> Result<(), Lost> {
        let bytes = self.unflushed.bytes();
        if self.config.limits.queued_bytes < bytes {
            Err(Lost::DiskTooSlow { bytes })
        } else {
            Ok(())
        }
    }

    /// Asks the disk for something that is answered.
    pub fn disk(&mut self, request: DiskRequest, out: &mut Vec<Output>) {
        self.disk_pending += 1;
        match request {
            DiskRequest::Truncate(_) => self.cutting = true,
            DiskRequest::Reload => self.cutting = false,
            _ => {}
        }
        out.push(Output::Disk(request));
    }

    /// The disk has carried out something: notes what is durable now.
    pub fn on_disk(&mut self, input: Input) -> DiskAnswer {
        if !matches!(input, Input::Flushed(_) | Input::LogRead { .. }) {
            assert!(self.disk_pending > 0, "the disk answers only what it was asked");
            self.disk_pending -= 1;
        }
        match input {
            Input::Flushed(zxid) => {
                self.marks.flush(zxid);
                self.unflushed.flushed(zxid);
                // All of it is back. Storage says so, too, from now on.
                self.lost_tail = self.lost_tail.filter(|to| self.marks.flushed() < *to);
                DiskAnswer::Flushed
            }
            Input::AcceptedEpochSaved(epoch) => {
                self.accepted = self.accepted.max(epoch);
                DiskAnswer::AcceptedEpoch(epoch)
            }
            Input::CurrentEpochSaved(epoch) => {
                self.current = self.current.max(epoch);
                DiskAnswer::CurrentEpoch(epoch)
            }
            Input::SnapshotSaved => {
                self.adopted_unsaved = false;
                self.needs_snapshot = false;
                // A leader's history, as a whole and durable, is its own.
                self.lost_tail = None;
                DiskAnswer::Snapshot
            }
            Input::Reloaded(history) => {
                let before = self.lost_tail;
                self.reloaded(history);
                if self.cutting {
                    // Half a synchronization: the rest is still to come.
                    self.lost_tail = self.lost_tail.or(before);
                }
                DiskAnswer::Reloaded
            }
            Input::TruncateFailed => {
                self.needs_snapshot = true;
                DiskAnswer::CannotCut
            }
            Input::LogRead { link, proposals } => DiskAnswer::LogRead { link, proposals },
            _ => unreachable!("only the disk's answers come here"),
        }
    }

    /// Is every disk request answered and every append durable?
    pub fn disk_idle(&self) -> bool {
        self.disk_pending == 0 && self.marks.all_flushed()
    }

    /// This server's own history.
    pub fn summary(&self) -> HistorySummary {
        HistorySummary { epoch: i64::from(self.current), last: self.marks.applied() }
    }

    /// Ticks as ms.
    pub fn ticks_ms(&self, ticks: u64) -> u64 {
        ticks * self.config.tick_ms
    }
}
