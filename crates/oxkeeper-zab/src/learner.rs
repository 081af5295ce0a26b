//! The learner: a follower or an observer of one leader.
//!
//! Discovery, synchronization, broadcast. What must be durable before what is acknowledged:
//! acceptedEpoch before ACKEPOCH; the committed history, then currentEpoch, before the ACK of
//! NEWLEADER; each proposal before its own ACK.
//! Source: `docs/spec/quorum-protocol.md` 9.2, 10.7, 10.8, 11.4, 11.5.

mod synchronization;

use std::collections::VecDeque;

use bytes::Bytes;
use oxkeeper_proto::quorum::{LearnerInfo, PROTOCOL_VERSION, Packet, PacketKind, ack_epoch_data};
use oxkeeper_proto::{Encode, Epoch, ServerId, Zxid};

use crate::core::{Core, DiskAnswer};
use crate::election::Vote;
use crate::error::{Lost, Misbehaved};
use crate::leader::MAX_EPOCH;
use crate::queue::ProposalQueue;
use crate::{DiskRequest, Effect, Input, Output, PortRequest, Proposal};

/// How a learner was brought up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SyncKind {
    Diff,
    Trunc,
    Snap,
}

/// How far the learner has come, or what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// Waiting for the connection.
    Connecting,
    /// FOLLOWERINFO or OBSERVERINFO is sent.
    LeaderInfo,
    /// acceptedEpoch is being written; then ACKEPOCH with this currentEpoch.
    SavingAccepted { epoch: Epoch, current: Option<Epoch> },
    /// DIFF, TRUNC or SNAP must come.
    FirstPacket { epoch: Epoch },
    /// The stream behind SNAP is arriving.
    Receiving { epoch: Epoch, zxid: Zxid },
    /// The log is being cut; packets wait in `held`.
    Truncating { epoch: Epoch, zxid: Zxid },
    /// Until NEWLEADER. In memory mode commits go to the tree at once, and a snapshot follows.
    Synchronizing { epoch: Epoch, memory: bool },
    /// NEWLEADER has come; the history is being made durable.
    SavingHistory { epoch: Epoch, snapshot: bool },
    /// currentEpoch is being written; then the ACK of NEWLEADER.
    SavingCurrent { epoch: Epoch },
    /// Waiting for UPTODATE.
    Acknowledged { epoch: Epoch },
    /// Serving.
    Broadcast,
}

/// A follower or observer.
#[derive(Clone, Debug, Hash)]
pub struct Learner {
    /// The leader.
    pub leader: ServerId,
    /// The vote that made it the leader, with its history then.
    vote: Vote,
    /// Not a voter: gets INFORM instead of PROPOSAL and COMMIT.
    pub observer: bool,
    step: Step,
    /// The epoch that the leader has announced; 0 before.
    epoch: Epoch,
    /// How it was synchronized.
    pub sync: Option<SyncKind>,
    /// Proposals that came during synchronization and are not logged yet.
    remembered: ProposalQueue,
    /// Commits for them, in order.
    commits: VecDeque<Zxid>,
    /// Appended, not yet committed. In broadcast only.
    pending: ProposalQueue,
    /// Appended, not yet acknowledged.
    unacked: VecDeque<Zxid>,
    /// The last zxid of the history so far, for the check against holes.
    last_seen: Zxid,
    /// Packets that arrived while the log was being cut.
    held: VecDeque<Packet>,
    held_bytes: usize,
    heard_ms: u64,
    limit_ms: u64,
}

impl Learner {
    /// Connects to the elected leader.
    pub fn new(core: &Core, vote: Vote, observer: bool, out: &mut Vec<Output>) -> Learner {
        out.push(Output::Port(PortRequest::ConnectLeader(vote.leader)));
        Learner {
            leader: vote.leader,
            vote,
            observer,
            step: Step::Connecting,
            epoch: 0,
            sync: None,
            remembered: ProposalQueue::default(),
            commits: VecDeque::new(),
            pending: ProposalQueue::default(),
            unacked: VecDeque::new(),
            last_seen: core.marks.applied(),
            held: VecDeque::new(),
            held_bytes: 0,
            heard_ms: core.now_ms,
            limit_ms: core.ticks_ms(core.config.init_limit),
        }
    }

    /// Serving clients?
    pub fn serving(&self) -> bool {
        self.step == Step::Broadcast
    }

    /// For operators.
    pub fn phase(&self) -> crate::Phase {
        match self.step {
            Step::Broadcast => crate::Phase::Broadcast,
            Step::Connecting | Step::LeaderInfo | Step::SavingAccepted { .. } => {
                crate::Phase::Discovery
            }
            _ => crate::Phase::Synchronization,
        }
    }

    /// Proposals appended but not committed, for the end of the role.
    pub fn into_pending(self) -> ProposalQueue {
        self.pending
    }

    /// Appended, not committed.
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// When silence becomes too long.
    pub fn deadline_ms(&self) -> u64 {
        self.heard_ms + self.limit_ms
    }

    /// A sign of life.
    fn heard(&mut self, core: &Core) {
        self.heard_ms = core.now_ms;
    }

    /// Is the deadline over?
    pub fn check_deadline(&self, core: &Core) -> Result<(), Lost> {
        if self.deadline_ms() <= core.now_ms {
            return Err(self.lost(Misbehaved::Silent(self.limit_ms)));
        }
        Ok(())
    }

    fn lost(&self, error: Misbehaved) -> Lost {
        Lost::Leader { leader: self.leader, error }
    }

    /// Something happened on the connection to the leader.
    pub fn on_leader(
        &mut self,
        core: &mut Core,
        input: Input,
        out: &mut Vec<Output>,
    ) -> Result<(), Lost> {
        match input {
            Input::LeaderConnected => self.on_connected(core, out),
            Input::LeaderClosed => return Err(Lost::LeaderClosed(self.leader)),
            Input::FromLeader(packet) => {
                self.on_packet(core, packet, out).map_err(|error| self.lost(error))?;
                return self.check_queues(core);
            }
            Input::SnapshotProgress => self.heard(core),
            Input::SnapshotReceived => self.on_snapshot_received(core, out),
            // Left over from a role that has ended.
            _ => {}
        }
        Ok(())
    }

    /// Is what waits within its bounds? `commits` and `unacked` follow `remembered` and what the disk
    /// has to write. (That its disk hangs the leader notices, by ACKs that do not come, and closes the
    /// link; the role's end waits for the disk.)
    fn check_queues(&self, core: &mut Core) -> Result<(), Lost> {
        core.check_disk_bytes()?;
        let bytes = self.queued_bytes();
        if bytes <= core.config.limits.queued_bytes {
            return Ok(());
        }
        if matches!(self.step, Step::Synchronizing { memory: false, .. }) {
            // There is more to catch up with than can be remembered: next time as a snapshot.
            core.needs_snapshot = true;
        }
        Err(Lost::TooMuchQueued { leader: self.leader, bytes })
    }

    /// Bytes of what is not committed, or waits for NEWLEADER or for a cut of the log.
    pub fn queued_bytes(&self) -> usize {
        self.remembered.bytes() + self.pending.bytes() + self.held_bytes
    }

    /// Keeps a packet until the log is cut. A ping was a sign of life, and is done with.
    fn hold(&mut self, packet: Packet) {
        if packet.known_kind() != Some(PacketKind::Ping) {
            self.held_bytes += packet.data.as_ref().map_or(0, Bytes::len) + 100;
            self.held.push_back(packet);
        }
    }

    /// The disk has carried out something.
    pub fn on_disk(
        &mut self,
        core: &mut Core,
        answer: DiskAnswer,
        out: &mut Vec<Output>,
    ) -> Result<(), Lost> {
        match answer {
            DiskAnswer::Flushed => self.on_flushed(core, out),
            DiskAnswer::AcceptedEpoch(epoch) => {
                return self.on_accepted_saved(core, epoch, out).map_err(|error| self.lost(error));
            }
            DiskAnswer::CurrentEpoch(epoch) => self.on_current_saved(core, epoch, out),
            DiskAnswer::Snapshot => self.on_snapshot_saved(core, out),
            DiskAnswer::Reloaded => {
                return self.on_truncated(core, out).map_err(|error| self.lost(error));
            }
            DiskAnswer::CannotCut => return Err(Lost::CannotCut(self.leader)),
            // Asked for in an earlier role.
            DiskAnswer::LogRead { .. } => {}
        }
        Ok(())
    }

    /// The connection stands: introduce ourselves.
    fn on_connected(&mut self, core: &Core, out: &mut Vec<Output>) {
        if self.step != Step::Connecting {
            return;
        }
        self.heard(core);
        let info = LearnerInfo {
            server: core.config.me,
            protocol: PROTOCOL_VERSION,
            config_version: core.config.ensemble.version,
        };
        let kind = if self.observer { PacketKind::ObserverInfo } else { PacketKind::FollowerInfo };
        let packet = Packet::with(kind, Zxid::new(core.accepted, 0), info.to_bytes());
        out.push(Output::to_leader(packet));
        self.step = Step::LeaderInfo;
    }

    /// A packet of the leader.
    fn on_packet(
        &mut self,
        core: &mut Core,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        self.heard(core);
        match self.step {
            Step::Truncating { .. } => {
                self.hold(packet);
                Ok(())
            }
            Step::LeaderInfo => self.on_leader_info(core, &packet, out),
            Step::FirstPacket { epoch } => self.on_first(core, epoch, &packet, out),
            Step::Synchronizing { epoch, memory: true } => self.on_memory(core, epoch, packet, out),
            Step::Synchronizing { epoch, memory: false } => {
                self.on_log_mode(core, Some(epoch), packet, out)
            }
            Step::SavingHistory { .. } | Step::SavingCurrent { .. } => {
                self.on_log_mode(core, None, packet, out)
            }
            Step::Acknowledged { epoch } => {
                if packet.known_kind() == Some(PacketKind::UpToDate) {
                    self.on_up_to_date(core, epoch, out)
                } else {
                    self.on_log_mode(core, None, packet, out)
                }
            }
            Step::Broadcast => self.on_broadcast(core, packet, out),
            Step::Connecting | Step::SavingAccepted { .. } | Step::Receiving { .. } => {
                Err(unexpected("waiting", &packet))
            }
        }
    }

    fn on_leader_info(
        &mut self,
        core: &mut Core,
        packet: &Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        if packet.known_kind() != Some(PacketKind::LeaderInfo) {
            return Err(unexpected("waiting for LEADERINFO", packet));
        }
        let epoch = packet.zxid.epoch();
        if MAX_EPOCH < epoch {
            return Err(unexpected("waiting for LEADERINFO", packet));
        }
        if epoch < core.accepted {
            self.turned_away(core, epoch);
            return Err(Misbehaved::OldEpoch { accepted: core.accepted, got: epoch });
        }
        self.epoch = epoch;
        if epoch == core.accepted {
            // Promised before: this ack does not count, but synchronization goes on.
            self.ack_epoch(core, epoch, None, out)?;
        } else {
            // A quorum of ACKEPOCHs must know all that was acknowledged before.
            let current = core.lost_tail.is_none().then_some(core.current);
            self.step = Step::SavingAccepted { epoch, current };
            core.disk(DiskRequest::SaveAcceptedEpoch(epoch), out);
        }
        Ok(())
    }

    /// Not only a promise, also the history is newer than this leader: the operator must know.
    fn turned_away(&self, core: &mut Core, epoch: Epoch) {
        let (leader, me) = (self.leader, core.config.me);
        if epoch < core.current && core.refuse_newer(leader, epoch) {
            tracing::error!(
                "leader {leader} is refused: its epoch {epoch:#x} is older than the history of this \
                 server {me} (epoch {:#x}, last zxid {}; accepted epoch {:#x}). Have other members \
                 lost their data? This server stays outside; keep its data directory until you know",
                core.current,
                core.marks.applied(),
                core.accepted
            );
        }
    }

    fn ack_epoch(
        &mut self,
        core: &Core,
        epoch: Epoch,
        current: Option<Epoch>,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        self.check_leader(core, current)?;
        let data = ack_epoch_data(current);
        let last = if core.needs_snapshot { Zxid::ZERO } else { core.marks.applied() };
        out.push(Output::to_leader(Packet::with(PacketKind::AckEpoch, last, data)));
        self.step = Step::FirstPacket { epoch };
        Ok(())
    }

    /// A leader refuses learners that are ahead of it. To one that needs a snapshot and says that it
    /// has nothing it cannot do that, so the learner does. An established leader's vote names its own
    /// epoch, and is past this question, as is an ACK that does not count.
    fn check_leader(&self, core: &Core, counts: Option<Epoch>) -> Result<(), Misbehaved> {
        let (theirs, ours) = (self.vote.zxid, core.marks.applied());
        let behind = self.vote.peer_epoch == i64::from(core.current) && theirs < ours;
        if core.needs_snapshot && counts.is_some() && behind {
            return Err(Misbehaved::BehindLearner { epoch: core.current, theirs, ours });
        }
        Ok(())
    }

    /// acceptedEpoch is durable.
    fn on_accepted_saved(
        &mut self,
        core: &Core,
        saved: Epoch,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        match self.step {
            Step::SavingAccepted { epoch, current } if epoch == saved => {
                self.ack_epoch(core, epoch, current, out)
            }
            _ => Ok(()),
        }
    }

    /// A quorum has this history: serve. What came since NEWLEADER is logged and committed now.
    fn on_up_to_date(
        &mut self,
        core: &mut Core,
        epoch: Epoch,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        assert_eq!(core.current, epoch, "currentEpoch is durable before the epoch is served");
        assert!(!core.adopted_unsaved, "so is the history");
        out.push(Output::to_leader(Packet::bare(PacketKind::Ack, Zxid::new(epoch, 0))));
        out.push(Output::Replica(Effect::StartServing { epoch, leading: false }));
        self.step = Step::Broadcast;
        for proposal in std::mem::take(&mut self.remembered) {
            self.log(core, proposal, out);
        }
        for zxid in std::mem::take(&mut self.commits) {
            self.commit(core, zxid, out)?;
        }
        Ok(())
    }

    fn log(&mut self, core: &mut Core, proposal: Proposal, out: &mut Vec<Output>) {
        if !self.observer {
            self.unacked.push_back(proposal.zxid);
        }
        self.pending.push_back(proposal.clone());
        core.append(proposal, out);
    }

    fn commit(
        &mut self,
        core: &mut Core,
        zxid: Zxid,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        match self.pending.pop_front_if(zxid) {
            Some(proposal) => {
                core.apply(proposal, out);
                Ok(())
            }
            None => {
                let oldest = self.pending.front().map(|proposal| proposal.zxid);
                Err(Misbehaved::CommitOutOfOrder { oldest, got: zxid })
            }
        }
    }

    fn on_broadcast(
        &mut self,
        core: &mut Core,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        match packet.known_kind() {
            Some(PacketKind::Proposal) if !self.observer => {
                let proposal = self.proposal(packet.zxid, packet.data)?;
                self.log(core, proposal, out);
            }
            Some(PacketKind::Commit | PacketKind::CommitAndActivate) if !self.observer => {
                self.commit(core, packet.zxid, out)?;
            }
            Some(PacketKind::Inform | PacketKind::InformAndActivate) if self.observer => {
                let proposal = self.proposal(packet.zxid, Self::informed(&packet)?)?;
                let zxid = proposal.zxid;
                self.log(core, proposal, out);
                self.commit(core, zxid, out)?;
            }
            Some(PacketKind::Ping) => out.push(Output::Replica(Effect::Pinged(packet.zxid))),
            Some(PacketKind::Revalidate) => {
                out.push(Output::Replica(Effect::Revalidated(packet.data.unwrap_or_default())));
            }
            Some(PacketKind::Sync) => out.push(Output::Replica(Effect::SyncDone)),
            // Observers get no proposals; what else there is does not concern a learner that serves.
            _ => {}
        }
        Ok(())
    }
}

fn unexpected(phase: &'static str, packet: &Packet) -> Misbehaved {
    let got = match packet.known_kind() {
        Some(kind) => format!("{kind:?} {}", packet.zxid),
        None => format!("packet type {}", packet.kind),
    };
    Misbehaved::Unexpected { phase, got }
}
