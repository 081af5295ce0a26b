//! The leader: wins an epoch, brings learners up to date, orders and commits proposals.
//!
//! Source: `docs/spec/quorum-protocol.md` 9.3, 10, 11, 12.

mod discovery;
mod link;
mod requests;
mod synchronization;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use oxkeeper_proto::quorum::{Packet, PacketKind};
use oxkeeper_proto::{Epoch, ServerId, Zxid};

use crate::core::{Core, DiskAnswer};
use crate::error::{CloseReason, Fault, Lost, Misbehaved};
use crate::history::HistorySummary;
use crate::queue::ProposalQueue;
use crate::{Effect, LinkId, Output, PortRequest, Proposal};
use link::{Link, Stage};

/// Highest epoch believed of a peer. zxids are signed on the wire, and no ensemble ever gets there.
pub(crate) const MAX_EPOCH: Epoch = i32::MAX as Epoch - 1;

/// Learners, and connections that may become some, at most.
const MAX_LINKS: usize = 4_096;
/// Syncs without an answer at most; a learner that asks for one more is closed. (Local clients are
/// bounded by what their connections may have under way.)
const MAX_SYNCS: usize = 1 << 20;

/// What the leader is waiting for; it comes to each of these once, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Wait {
    /// A quorum must report its accepted epochs.
    Epoch,
    /// The new epoch is being written to acceptedEpoch.
    SavingAccepted,
    /// A quorum must acknowledge the epoch.
    EpochAcks,
    /// The new epoch is being written to currentEpoch.
    SavingCurrent,
    /// A quorum must acknowledge NEWLEADER.
    NewLeaderAcks,
    /// Serving.
    Broadcast,
}

impl Wait {
    fn name(self) -> &'static str {
        match self {
            Wait::Epoch => "waiting for accepted epochs",
            Wait::SavingAccepted => "writing acceptedEpoch",
            Wait::EpochAcks => "waiting for a quorum of ACKEPOCH",
            Wait::SavingCurrent => "writing currentEpoch",
            Wait::NewLeaderAcks => "waiting for a quorum of NEWLEADER acks",
            Wait::Broadcast => "serving",
        }
    }
}

/// Who waits for a sync.
#[derive(Clone, Copy, Debug, Hash)]
enum SyncFor {
    Local,
    Link(LinkId),
}

/// A sync that waits.
#[derive(Clone, Copy, Debug, Hash)]
struct Sync {
    /// For the commit of this zxid,
    after: Zxid,
    /// and for a quorum that followed this leader at or after this time.
    since_ms: u64,
    who: SyncFor,
}

/// Counts of synchronizations by kind, for operators.
#[derive(Clone, Copy, Debug, Default, Hash)]
#[allow(missing_docs)]
pub struct SyncCounts {
    pub diff: u64,
    pub trunc: u64,
    pub snap: u64,
}

/// A learner, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnerStatus {
    /// Its connection.
    pub link: LinkId,
    /// The server at the other end.
    pub server: ServerId,
    /// Has it introduced itself as an observer?
    pub observer: bool,
    /// Does it serve?
    pub up_to_date: bool,
}

/// The leading role.
#[derive(Clone, Debug, Hash)]
pub struct Leader {
    wait: Wait,
    /// The new epoch; final once a quorum has reported.
    epoch: Epoch,
    /// Participants that reported an epoch, this server included.
    reported: BTreeSet<ServerId>,
    /// This server's history when it started to lead: no learner may have a newer one.
    summary: HistorySummary,
    epoch_acks: BTreeSet<ServerId>,
    new_leader_acks: BTreeSet<ServerId>,
    links: BTreeMap<LinkId, Link>,
    proposed: Zxid,
    committed: Zxid,
    outstanding: ProposalQueue,
    /// Last zxid each voter has logged in this epoch.
    acked: BTreeMap<ServerId, Zxid>,
    /// Syncs that wait, in the order in which they were asked for.
    syncs: VecDeque<Sync>,
    /// When a quorum was last asked for the sake of one.
    asked_ms: Option<u64>,
    /// When the current wait has lasted too long.
    wait_deadline_ms: u64,
    next_ping_ms: u64,
    /// How learners were synchronized.
    pub sync_counts: SyncCounts,
}

impl Leader {
    /// Starts to lead: opens the quorum port and reports its own epoch.
    pub fn new(core: &mut Core, out: &mut Vec<Output>) -> Leader {
        out.push(Output::Port(PortRequest::Listen));
        let mut leader = Leader {
            wait: Wait::Epoch,
            epoch: core.accepted.max(core.seen_epoch).saturating_add(1),
            reported: BTreeSet::from([core.config.me]),
            summary: core.summary(),
            epoch_acks: BTreeSet::new(),
            new_leader_acks: BTreeSet::new(),
            links: BTreeMap::new(),
            proposed: core.marks.applied(),
            committed: core.marks.applied(),
            outstanding: ProposalQueue::default(),
            acked: BTreeMap::new(),
            syncs: VecDeque::new(),
            asked_ms: None,
            wait_deadline_ms: core.now_ms + core.ticks_ms(core.config.init_limit),
            next_ping_ms: core.now_ms + core.config.tick_ms / 2,
            sync_counts: SyncCounts::default(),
        };
        leader.check_epoch(core, out);
        leader
    }

    /// Serving clients?
    pub fn serving(&self) -> bool {
        self.wait == Wait::Broadcast
    }

    /// For operators.
    pub fn phase(&self) -> crate::Phase {
        match self.wait {
            Wait::Broadcast => crate::Phase::Broadcast,
            Wait::NewLeaderAcks => crate::Phase::Synchronization,
            _ => crate::Phase::Discovery,
        }
    }

    /// zxid of the next proposal; `None` before serving and at the counter's end.
    pub fn next_zxid(&self, core: &Core) -> Option<Zxid> {
        let last = core.config.limits.last_counter;
        let next = self.proposed.next().filter(|next| next.counter() <= last);
        next.filter(|_| self.serving())
    }

    /// Bytes of the proposals without a quorum yet.
    pub fn queued_bytes(&self) -> usize {
        self.outstanding.bytes()
    }

    /// Proposals without a quorum yet.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Proposals appended but not committed, for the end of the role.
    pub fn into_outstanding(self) -> ProposalQueue {
        self.outstanding
    }

    /// Those who have introduced themselves.
    pub fn learners(&self) -> impl Iterator<Item = LearnerStatus> + '_ {
        self.links.iter().filter_map(|(id, link)| {
            Some(LearnerStatus {
                link: *id,
                server: link.server?,
                observer: link.observer,
                up_to_date: link.stage == Stage::UpToDate,
            })
        })
    }

    // ---- time

    /// The next deadline of any kind.
    pub fn next_timeout(&self, core: &Core) -> u64 {
        let mut next = self.next_ping_ms.min(core.disk_deadline_ms().unwrap_or(u64::MAX));
        if !self.serving() {
            next = next.min(self.wait_deadline_ms(core));
        }
        let waiting = self.links.values().filter(|link| self.must_speak(link));
        waiting.map(Link::deadline_ms).fold(next, u64::min)
    }

    /// A deadline has passed.
    pub fn on_timeout(&mut self, core: &mut Core, out: &mut Vec<Output>) -> Result<(), Lost> {
        // Its followers make a quorum without it, and all it has not written would have to be made up
        // for by whoever leads next. The role's end waits for the disk, so it does not win again before.
        core.check_disk_time()?;
        if !self.serving() && self.wait_deadline_ms(core) <= core.now_ms {
            return Err(Lost::NoQuorumInTime { waiting: self.wait.name() });
        }
        let late: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| self.must_speak(link))
            .filter_map(|(id, link)| Some((*id, link.check_deadline(core.now_ms).err()?)))
            .collect();
        for (id, error) in late {
            self.misbehaved(id, error, out);
        }
        if self.next_ping_ms <= core.now_ms {
            self.next_ping_ms = core.now_ms + (core.config.tick_ms / 2).max(1);
            self.ping(core, out);
        }
        self.check_quorum(core)
    }

    /// Who has acknowledged NEWLEADER has nothing to say before UPTODATE.
    fn must_speak(&self, link: &Link) -> bool {
        self.serving() || link.stage != Stage::Acknowledged
    }

    /// When the wait for a quorum ends. A voter that is getting its snapshot is worth waiting for: the
    /// next attempt would only begin the same stream anew.
    fn wait_deadline_ms(&self, core: &Core) -> u64 {
        let voter = |id| core.config.ensemble.is_voter(id);
        let waited_for = |link: &&Link| link.gets_snapshot() && link.server.is_some_and(voter);
        let latest = self.links.values().filter(waited_for).map(Link::deadline_ms).max();
        self.wait_deadline_ms.max(latest.unwrap_or(0))
    }

    /// A leader that serves needs a quorum of live, synchronized voters. Without one nobody could join
    /// it either, since a joiner must hear of the leader from a quorum: waiting would help nobody.
    fn check_quorum(&self, core: &Core) -> Result<(), Lost> {
        if !self.serving() {
            return Ok(());
        }
        let me = core.config.me;
        let alive = |id: ServerId| {
            let alive = |link: &Link| link.server == Some(id) && link.alive(core.now_ms);
            id == me || self.links.values().any(alive)
        };
        if core.config.ensemble.is_quorum(alive) { Ok(()) } else { Err(Lost::NoQuorum) }
    }

    // ---- links

    /// A learner connected.
    pub fn on_connected(&mut self, core: &Core, link: LinkId, out: &mut Vec<Output>) {
        if MAX_LINKS <= self.links.len() {
            out.push(Output::Port(PortRequest::CloseLearner {
                link,
                reason: CloseReason::TooMany(MAX_LINKS),
            }));
            return;
        }
        let limit_ms = core.ticks_ms(core.config.init_limit);
        self.links.insert(link, Link::new(core.now_ms, limit_ms));
    }

    /// A link broke.
    pub fn on_closed(&mut self, core: &Core, link: LinkId) -> Result<(), Lost> {
        self.links.remove(&link);
        self.forget_syncs(link);
        self.check_quorum(core)
    }

    fn forget_syncs(&mut self, link: LinkId) {
        self.syncs.retain(|sync| !matches!(sync.who, SyncFor::Link(id) if id == link));
    }

    fn misbehaved(&mut self, id: LinkId, error: Misbehaved, out: &mut Vec<Output>) {
        let server = self.links.get(&id).and_then(|link| link.server);
        self.close(id, CloseReason::Misbehaved { server, error }, out);
    }

    fn close(&mut self, link: LinkId, reason: CloseReason, out: &mut Vec<Output>) {
        if self.links.remove(&link).is_some() {
            out.push(Output::Port(PortRequest::CloseLearner { link, reason }));
            self.forget_syncs(link);
        }
    }

    /// The driver tells how far the snapshot for a learner is.
    pub fn on_streamed(&mut self, core: &Core, id: LinkId, bytes: u64, ended: bool) {
        if let Some(link) = self.links.get_mut(&id) {
            link.streamed(core.now_ms, bytes, ended);
        }
    }

    /// A packet of a learner. Misbehaviour closes its link.
    pub fn on_packet(
        &mut self,
        core: &mut Core,
        id: LinkId,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Lost> {
        match self.packet(core, id, packet, out) {
            Ok(()) => {}
            Err(Fault::Link(error)) => self.misbehaved(id, error, out),
            Err(Fault::Role(lost)) => return Err(lost),
        }
        self.answer_syncs(core, out);
        self.check_quorum(core)
    }

    fn packet(
        &mut self,
        core: &mut Core,
        id: LinkId,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        link.heard(core.now_ms);
        match (link.stage, packet.known_kind()) {
            (Stage::New, Some(PacketKind::FollowerInfo | PacketKind::ObserverInfo)) => {
                return self.on_info(core, id, &packet, out);
            }
            (Stage::LeaderInfoSent, Some(PacketKind::AckEpoch)) => {
                self.on_ack_epoch(core, id, &packet, out)
            }
            (Stage::NewLeaderSent, Some(PacketKind::Ack)) => {
                self.on_new_leader_ack(core, id, packet.zxid, out)
            }
            // Old followers acknowledge proposals of the synchronization as soon as they can.
            (Stage::Acknowledged | Stage::UpToDate, Some(PacketKind::Ack)) => {
                self.on_ack(core, id, packet.zxid, out)
            }
            (Stage::UpToDate, Some(PacketKind::Ping)) => {
                link.answered_ping();
                self.answer_syncs(core, out);
                self.ask_again(core, out);
                let touches = packet.data.unwrap_or_default();
                if !touches.is_empty() {
                    out.push(Output::Replica(Effect::Touched { link: id, touches }));
                }
                Ok(())
            }
            (Stage::UpToDate, Some(PacketKind::Request)) => self.on_request(core, id, packet, out),
            (Stage::UpToDate, Some(PacketKind::Revalidate)) => {
                let data = packet.data.unwrap_or_default();
                out.push(Output::Replica(Effect::Revalidate { link: id, data }));
                Ok(())
            }
            // Says that it is still reading or writing.
            (Stage::NewLeaderSent | Stage::Acknowledged, Some(PacketKind::Ping)) => Ok(()),
            (Stage::UpToDate, _) => Ok(()),
            (stage, kind) => Err(Misbehaved::Unexpected {
                phase: stage.name(),
                got: kind.map_or(format!("packet type {}", packet.kind), |k| format!("{k:?}")),
            }),
        }
        .map_err(Fault::Link)
    }

    /// The disk has carried out something.
    pub fn on_disk(&mut self, core: &mut Core, answer: DiskAnswer, out: &mut Vec<Output>) {
        match answer {
            DiskAnswer::Flushed => self.on_flushed(core, out),
            DiskAnswer::AcceptedEpoch(_) => self.on_accepted_saved(core, out),
            DiskAnswer::CurrentEpoch(_) => self.on_current_saved(core, out),
            DiskAnswer::LogRead { link, proposals } => {
                self.on_log_read(core, link, proposals, out);
            }
            // Asked for in an earlier role.
            DiskAnswer::Snapshot | DiskAnswer::Reloaded | DiskAnswer::CannotCut => {}
        }
    }

    /// Goes on to the next wait. No wait comes back: an epoch is announced, and served, once.
    fn enter(&mut self, wait: Wait) {
        assert!(self.wait < wait, "{wait:?} comes before {:?}", self.wait);
        self.wait = wait;
    }

    /// The same, for a wait that others end: it may last as long as initLimit says.
    fn enter_for_init_limit(&mut self, core: &Core, wait: Wait) {
        self.enter(wait);
        self.wait_deadline_ms = core.now_ms + core.ticks_ms(core.config.init_limit);
    }

    /// The links that have come this far, and no further.
    fn links_at(&self, stage: Stage) -> Vec<LinkId> {
        let there = self.links.iter().filter(|(_, link)| link.stage == stage);
        there.map(|(id, _)| *id).collect()
    }

    // ---- broadcast

    /// A prepared transaction.
    pub fn propose(
        &mut self,
        core: &mut Core,
        proposal: Proposal,
        out: &mut Vec<Output>,
    ) -> Result<(), Lost> {
        assert_eq!(Some(proposal.zxid), self.next_zxid(core), "every allocated zxid is proposed");
        self.proposed = proposal.zxid;
        for (id, link) in &mut self.links {
            if link.forwards() && !link.observer {
                link.sent(proposal.zxid, core.now_ms);
                out.push(Output::proposal(*id, proposal.clone(), false));
            }
        }
        self.outstanding.push_back(proposal.clone());
        core.append(proposal, out);
        let bytes = self.outstanding.bytes();
        if core.config.limits.queued_bytes < bytes {
            return Err(Lost::QuorumTooSlow { bytes });
        }
        core.check_disk_bytes()
    }

    /// The own log has grown.
    fn on_flushed(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        let me = core.config.me;
        if self.serving() && core.config.ensemble.is_voter(me) {
            let flushed = core.marks.flushed().min(self.proposed);
            self.acked.insert(me, flushed);
            self.commit_acknowledged(core, out);
        }
    }

    fn on_ack(
        &mut self,
        core: &mut Core,
        id: LinkId,
        zxid: Zxid,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        // The second ACK of a synchronization, after UPTODATE.
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        if zxid.counter() == 0 {
            link.acknowledged_up_to_date();
            return Ok(());
        }
        link.acked(zxid, core.now_ms);
        let server = link.server.unwrap_or_default();
        if !link.observer {
            self.vouch(core, server, zxid)?;
            self.commit_acknowledged(core, out);
        }
        Ok(())
    }

    /// `server` has logged everything up to `zxid`. Learners log in order, so an ACK vouches for all
    /// earlier proposals.
    fn vouch(&mut self, core: &Core, server: ServerId, zxid: Zxid) -> Result<(), Misbehaved> {
        if self.proposed < zxid {
            return Err(Misbehaved::AckOfUnproposed { proposed: self.proposed, got: zxid });
        }
        if core.config.ensemble.is_voter(server) {
            let acked = self.acked.entry(server).or_insert(zxid);
            *acked = (*acked).max(zxid);
        }
        Ok(())
    }

    fn commit_acknowledged(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        if !self.serving() {
            return;
        }
        while let Some(head) = self.outstanding.front() {
            let zxid = head.zxid;
            let logged = |id: ServerId| self.acked.get(&id).is_some_and(|acked| zxid <= *acked);
            if !core.config.ensemble.is_quorum(logged) {
                break;
            }
            let Some(proposal) = self.outstanding.pop_front() else { break };
            self.commit(core, proposal, out);
        }
    }

    fn commit(&mut self, core: &mut Core, proposal: Proposal, out: &mut Vec<Output>) {
        let zxid = proposal.zxid;
        assert!(self.committed < zxid && zxid <= self.proposed, "commits leave in zxid order");
        self.committed = zxid;
        let commit = Packet::bare(PacketKind::Commit, zxid);
        for (id, link) in &mut self.links {
            if !link.forwards() {
                continue;
            }
            if link.observer {
                out.push(Output::proposal(*id, proposal.clone(), true));
            } else if link.stage == Stage::UpToDate {
                out.push(Output::to_learner(*id, commit.clone()));
            } else {
                link.held_commits.push(zxid);
            }
        }
        core.apply(proposal, out);
        self.answer_syncs(core, out);
    }
}
