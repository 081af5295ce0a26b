//! One server's protocol state: which role it plays, and how roles follow each other.
//!
//! LOOKING, then FOLLOWING, OBSERVING or LEADING, then, when that ends for whatever reason, a stop in
//! which the disk catches up, and LOOKING again. Source: `docs/spec/quorum-protocol.md` 4.

use std::hash::{Hash, Hasher};

use oxkeeper_proto::quorum::ServerState;
use oxkeeper_proto::{Epoch, Epochs, ServerId, Zxid};

use crate::core::Core;
use crate::election::{Elected, Election, Vote};
use crate::error::Lost;
use crate::leader::{Leader, LearnerStatus, SyncCounts};
use crate::learner::{Learner, SyncKind};
use crate::queue::ProposalQueue;
use crate::{Config, DiskRequest, Effect, History, Input, Output, Phase, PortRequest};

/// A leader that turns this server away at once is not asked again at once: the pause before the next
/// election grows by this with each failure, in ms.
const PAUSE_MS: u64 = 50;
/// Longest pause, in ms.
const LONGEST_PAUSE_MS: u64 = 200;

#[derive(Clone, Debug, Hash)]
enum Role {
    Looking,
    Learning(Box<Learner>),
    Leading(Box<Leader>),
    /// The role has ended; the disk must answer everything it was asked before the next vote, and
    /// after failures in a row some time must pass.
    Stopping,
}

/// One server's Zab state machine; see the crate's documentation for the driver's duties.
#[derive(Clone, Debug)]
pub struct Zab {
    core: Core,
    election: Election,
    role: Role,
    vote: Vote,
    last_sync: Option<SyncKind>,
    /// Why the last role ended.
    last_loss: Option<Lost>,
    sync_counts: SyncCounts,
    elections: u64,
    /// Roles in a row that ended before they served.
    failures: u64,
    /// When the next election may begin.
    look_at_ms: u64,
}

/// What decides how the server goes on, and nothing else: two that hash alike do the same from now on, but
/// for the pause before an election. Counts and reasons for operators are left out, as is what the next
/// election clears.
impl Hash for Zab {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Zab { core, election, role, vote, .. } = self;
        let Zab { last_sync: _, last_loss: _, sync_counts: _, elections: _, .. } = self;
        let Zab { failures: _, look_at_ms: _, .. } = self;
        (core, role, vote).hash(hasher);
        match role {
            Role::Looking => election.hash(hasher),
            _ => election.hash_between(hasher),
        }
    }
}

impl Zab {
    /// A server with this on its disk. It starts LOOKING.
    pub fn new(
        config: Config,
        epochs: Epochs,
        history: History,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Zab {
        let election = Election::new(config.me, config.ensemble.clone(), config.fast_election);
        let vote = Vote {
            leader: config.me,
            zxid: history.last_zxid,
            round: 0,
            peer_epoch: i64::from(epochs.current),
        };
        let mut zab = Zab {
            core: Core::new(config, epochs, history, now_ms),
            election,
            role: Role::Looking,
            vote,
            last_sync: None,
            last_loss: None,
            sync_counts: SyncCounts::default(),
            elections: 0,
            failures: 0,
            look_at_ms: now_ms,
        };
        zab.look(out);
        zab
    }

    // ---- for operators and the replica

    /// What the server is doing, as peers are told.
    pub fn state(&self) -> ServerState {
        match &self.role {
            Role::Looking | Role::Stopping => ServerState::Looking,
            Role::Learning(learner) if learner.observer => ServerState::Observing,
            Role::Learning(_) => ServerState::Following,
            Role::Leading(_) => ServerState::Leading,
        }
    }

    /// Where the role stands.
    pub fn phase(&self) -> Phase {
        match &self.role {
            Role::Looking | Role::Stopping => Phase::Election,
            Role::Learning(learner) => learner.phase(),
            Role::Leading(leader) => leader.phase(),
        }
    }

    /// The leader followed, or this server.
    pub fn leader(&self) -> Option<ServerId> {
        match &self.role {
            Role::Looking | Role::Stopping => None,
            Role::Learning(learner) => Some(learner.leader),
            Role::Leading(_) => Some(self.core.config.me),
        }
    }

    /// currentEpoch.
    pub fn epoch(&self) -> Epoch {
        self.core.current
    }

    /// acceptedEpoch.
    pub fn accepted_epoch(&self) -> Epoch {
        self.core.accepted
    }

    /// zxid of the last transaction given to `Apply`.
    pub fn applied(&self) -> Zxid {
        self.core.marks.applied()
    }

    /// Are clients served?
    pub fn serving(&self) -> bool {
        match &self.role {
            Role::Looking | Role::Stopping => false,
            Role::Learning(learner) => learner.serving(),
            Role::Leading(leader) => leader.serving(),
        }
    }

    /// Leader that serves: zxid of the next proposal; `None` at the counter's end.
    pub fn next_zxid(&self) -> Option<Zxid> {
        match &self.role {
            Role::Leading(leader) => leader.next_zxid(&self.core),
            _ => None,
        }
    }

    /// Proposed (or, at a follower, logged), not committed.
    pub fn outstanding(&self) -> usize {
        match &self.role {
            Role::Leading(leader) => leader.outstanding(),
            Role::Learning(learner) => learner.outstanding(),
            _ => 0,
        }
    }

    /// Leader: its learners.
    pub fn learners(&self) -> Vec<LearnerStatus> {
        match &self.role {
            Role::Leading(leader) => leader.learners().collect(),
            _ => Vec::new(),
        }
    }

    /// May `server` vote?
    pub fn is_voter(&self, server: ServerId) -> bool {
        self.core.config.ensemble.is_voter(server)
    }

    /// How this server was brought up to date last, if it is or was a learner.
    pub fn last_sync_kind(&self) -> Option<SyncKind> {
        match &self.role {
            Role::Learning(learner) => learner.sync.or(self.last_sync),
            _ => self.last_sync,
        }
    }

    /// Learners brought up to date by this server, by kind.
    pub fn sync_counts(&self) -> SyncCounts {
        let mut counts = self.sync_counts;
        if let Role::Leading(leader) = &self.role {
            counts.diff += leader.sync_counts.diff;
            counts.trunc += leader.sync_counts.trunc;
            counts.snap += leader.sync_counts.snap;
        }
        counts
    }

    /// Elections this server has finished.
    pub fn elections(&self) -> u64 {
        self.elections
    }

    /// How often a history newer than a leader's epoch was refused: of a learner by this server as
    /// leader, or this server's own by a leader. Anything but 0 means that members have lost data.
    pub fn refused_newer_histories(&self) -> u64 {
        self.core.refused_newer
    }

    /// The zxid up to which this server had acknowledged, if its disk has lost the end of that: it
    /// has no vote, and must be brought up to date by a leader that others have elected. `None`: it is
    /// a full member.
    pub fn lost_tail(&self) -> Option<Zxid> {
        self.core.lost_tail
    }

    /// Why the last role ended; `None` if none has yet.
    pub fn last_loss(&self) -> Option<&Lost> {
        self.last_loss.as_ref()
    }

    /// Did a leader ask for a cut of the log that could not be made, so that only a snapshot can bring
    /// this server in line?
    pub fn needs_snapshot(&self) -> bool {
        self.core.needs_snapshot
    }

    /// Bytes in the fullest of its queues: not on disk, not committed, or not synchronized yet.
    pub fn queued_bytes(&self) -> usize {
        let of_role = match &self.role {
            Role::Learning(learner) => learner.queued_bytes(),
            Role::Leading(leader) => leader.queued_bytes(),
            Role::Looking | Role::Stopping => 0,
        };
        of_role.max(self.core.unflushed.bytes())
    }

    /// Replaces [`Limits::queued_bytes`](crate::Limits::queued_bytes).
    pub fn limit_queues(&mut self, bytes: usize) {
        std::sync::Arc::make_mut(&mut self.core.config).limits.queued_bytes = bytes;
    }

    // ---- time

    /// When [`Self::on_timeout`] must be called, in ms.
    pub fn next_timeout(&self) -> Option<u64> {
        match &self.role {
            Role::Looking => Some(self.election.next_timeout()),
            Role::Learning(learner) => Some(learner.deadline_ms()),
            Role::Leading(leader) => Some(leader.next_timeout(&self.core)),
            Role::Stopping => self.core.disk_idle().then_some(self.look_at_ms),
        }
    }

    /// A deadline has passed.
    pub fn on_timeout(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.core.now_ms = now_ms;
        match &mut self.role {
            Role::Looking => {
                let elected = self.election.on_timeout(now_ms, out);
                self.elected(elected, out);
            }
            Role::Learning(learner) => {
                let result = learner.check_deadline(&self.core);
                self.end_if_lost(result, out);
            }
            Role::Leading(leader) => {
                let result = leader.on_timeout(&mut self.core, out);
                self.end_if_lost(result, out);
            }
            Role::Stopping => self.finish_stop(out),
        }
    }

    // ---- inputs

    /// Takes one input; appends what must be done.
    pub fn handle(&mut self, now_ms: u64, input: Input, out: &mut Vec<Output>) {
        self.core.now_ms = now_ms;
        match input {
            Input::Notified { from, notification } => {
                self.core.note_history(from, &notification);
                if matches!(self.role, Role::Stopping) {
                    self.election.keep_early(now_ms, from, notification);
                    return;
                }
                let state = self.state();
                let elected = self.election.on_notification(
                    now_ms,
                    from,
                    &notification,
                    state,
                    self.vote,
                    out,
                );
                self.elected(elected, out);
            }
            Input::ElectionLink { peer, up } => self.election.set_link(now_ms, peer, up),
            Input::Propose(_)
            | Input::Forward(_)
            | Input::Sync(_)
            | Input::PingReply { .. }
            | Input::ToLearner(..)
            | Input::StepDown => self.on_replica(input, out),
            Input::Flushed(_)
            | Input::AcceptedEpochSaved(_)
            | Input::CurrentEpochSaved(_)
            | Input::SnapshotSaved
            | Input::Reloaded(_)
            | Input::TruncateFailed
            | Input::LogRead { .. } => self.on_disk(input, out),
            _ => self.on_peer(input, out),
        }
        self.note_serving();
    }

    /// What others may count on.
    ///
    /// After synchronization the vote names the new epoch, so that all members answer joiners alike.
    fn note_serving(&mut self) {
        self.election.set_abstains(self.core.lost_tail.is_some());
        if self.serving() {
            self.vote.peer_epoch = i64::from(self.core.current);
            self.failures = 0;
        }
    }

    fn on_peer(&mut self, input: Input, out: &mut Vec<Output>) {
        let core = &mut self.core;
        let result = match (&mut self.role, input) {
            (Role::Learning(learner), input) => learner.on_leader(core, input, out),
            (Role::Leading(leader), Input::LearnerConnected(link)) => {
                leader.on_connected(core, link, out);
                Ok(())
            }
            (Role::Leading(leader), Input::LearnerClosed(link)) => leader.on_closed(core, link),
            (Role::Leading(leader), Input::FromLearner(link, packet)) => {
                leader.on_packet(core, link, packet, out)
            }
            (Role::Leading(leader), Input::SnapshotStreamed { link, bytes, ended }) => {
                leader.on_streamed(core, link, bytes, ended);
                Ok(())
            }
            // Left over from a role that has ended.
            _ => Ok(()),
        };
        self.end_if_lost(result, out);
    }

    fn on_disk(&mut self, input: Input, out: &mut Vec<Output>) {
        let core = &mut self.core;
        let answer = core.on_disk(input);
        let result = match &mut self.role {
            Role::Learning(learner) => learner.on_disk(core, answer, out),
            Role::Leading(leader) => {
                leader.on_disk(core, answer, out);
                Ok(())
            }
            Role::Looking | Role::Stopping => Ok(()),
        };
        self.end_if_lost(result, out);
        self.finish_stop(out);
    }

    fn on_replica(&mut self, input: Input, out: &mut Vec<Output>) {
        let serving = self.serving();
        match (&mut self.role, input) {
            (Role::Leading(leader), Input::Propose(proposal)) => {
                let result = leader.propose(&mut self.core, proposal, out);
                self.end_if_lost(result, out);
            }
            (Role::Leading(leader), Input::Sync(_)) if serving => {
                leader.local_sync(&self.core, out)
            }
            (Role::Leading(leader), Input::ToLearner(link, packet)) => {
                leader.to_learner(link, packet, out);
            }
            (Role::Leading(_), Input::StepDown) => {
                self.end_role(Lost::ZxidsUsedUp, out);
            }
            (Role::Learning(_), Input::Forward(packet) | Input::Sync(packet)) if serving => {
                out.push(Output::to_leader(packet));
            }
            (Role::Learning(_), Input::PingReply { zxid, touches }) if serving => {
                use oxkeeper_proto::quorum::{Packet, PacketKind};
                out.push(Output::to_leader(Packet::with(PacketKind::Ping, zxid, touches)));
            }
            // The role has ended; whoever asked is told by `StopServing`.
            _ => {}
        }
    }

    // ---- roles

    fn look(&mut self, out: &mut Vec<Output>) {
        self.role = Role::Looking;
        self.election.set_abstains(self.core.lost_tail.is_some());
        if let Some(acknowledged) = self.core.lost_tail {
            tracing::warn!(
                "this server has acknowledged transactions up to {acknowledged}, and its log ends at \
                 {}: it has no vote until a leader has brought it up to date. That takes a majority of \
                 the others; as long as there is none, keep their data directories and this one",
                self.core.marks.applied()
            );
        }
        let elected = self.election.start(
            self.core.marks.applied(),
            self.core.current,
            self.core.now_ms,
            out,
        );
        self.elected(elected, out);
    }

    fn elected(&mut self, elected: Option<Elected>, out: &mut Vec<Output>) {
        let Some(Elected(vote)) = elected else { return };
        self.elections += 1;
        self.vote = vote;
        let config = &self.core.config;
        tracing::info!(
            server = config.me,
            leader = vote.leader,
            zxid = %vote.zxid,
            round = vote.round,
            "elected"
        );
        if vote.leader == config.me {
            assert!(self.core.lost_tail.is_none(), "who lacks what it acknowledged does not lead");
            self.role = Role::Leading(Box::new(Leader::new(&mut self.core, out)));
        } else {
            let observer = config.ensemble.servers.contains_key(&config.me)
                && !config.ensemble.is_voter(config.me);
            let learner = Learner::new(&self.core, vote, observer, out);
            self.role = Role::Learning(Box::new(learner));
        }
        self.election.tell_askers(self.state(), vote, out);
    }

    fn end_if_lost(&mut self, result: Result<(), Lost>, out: &mut Vec<Output>) {
        if let Err(lost) = result {
            self.end_role(lost, out);
        }
    }

    /// Ends the role. What it has logged but not committed goes to the tree, for tree and log must
    /// agree when the server votes next; whether it survives is decided by the next leader.
    fn end_role(&mut self, lost: Lost, out: &mut Vec<Output>) {
        let serving = self.serving();
        let pending = match std::mem::replace(&mut self.role, Role::Stopping) {
            Role::Learning(learner) => {
                out.push(Output::Port(PortRequest::CloseLeader));
                self.last_sync = learner.sync.or(self.last_sync);
                learner.into_pending()
            }
            Role::Leading(leader) => {
                out.push(Output::Port(PortRequest::StopListening));
                self.sync_counts.diff += leader.sync_counts.diff;
                self.sync_counts.trunc += leader.sync_counts.trunc;
                self.sync_counts.snap += leader.sync_counts.snap;
                leader.into_outstanding()
            }
            Role::Looking | Role::Stopping => ProposalQueue::default(),
        };
        let pause_ms = (PAUSE_MS * self.failures).min(LONGEST_PAUSE_MS);
        self.look_at_ms = self.core.now_ms + pause_ms;
        if !serving {
            self.failures += 1;
        }
        tracing::info!(server = self.core.config.me, reason = %lost, "leaving the role");
        self.last_loss = Some(lost);
        if serving {
            out.push(Output::Replica(Effect::StopServing));
        }
        for proposal in pending {
            self.core.apply(proposal, out);
        }
        self.finish_stop(out);
    }

    /// Goes on to the election once the disk has caught up.
    fn finish_stop(&mut self, out: &mut Vec<Output>) {
        if !matches!(self.role, Role::Stopping) || !self.core.disk_idle() {
            return;
        }
        if self.core.adopted_unsaved {
            // The tree came from a leader, the disk has not seen it.
            self.core.disk(DiskRequest::Reload, out);
        } else if self.look_at_ms <= self.core.now_ms {
            self.look(out);
        }
    }
}
