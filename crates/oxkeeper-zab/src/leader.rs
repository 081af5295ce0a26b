//! The leader: wins an epoch, brings learners up to date, orders and commits proposals.
//!
//! Source: `docs/spec/quorum-protocol.md` 9.3, 10, 11, 12.

mod link;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use oxkeeper_proto::quorum::{LearnerInfo, PROTOCOL_VERSION, Packet, PacketKind, Request};
use oxkeeper_proto::{Decode, Epoch, OpCode, Reader, ServerId, Zxid};

use crate::core::{Core, DiskAnswer};
use crate::error::{CloseReason, Fault, Lost, Misbehaved};
use crate::history::Choice;
use crate::queue::ProposalQueue;
use crate::{LinkId, Output, Proposal};
use link::{Link, Stage};

/// Highest epoch believed of a peer. zxids are signed on the wire, and no ensemble ever gets there.
pub(crate) const MAX_EPOCH: Epoch = i32::MAX as Epoch - 1;

/// Learners, and connections that may become some, at most.
const MAX_LINKS: usize = 4_096;
/// Syncs without an answer at most; a learner that asks for one more is closed. (Local clients are
/// bounded by what their connections may have under way.)
const MAX_SYNCS: usize = 1 << 20;

/// What the leader is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug)]
enum SyncFor {
    Local,
    Link(LinkId),
}

/// A sync that waits.
#[derive(Clone, Copy, Debug)]
struct Sync {
    /// For the commit of this zxid,
    after: Zxid,
    /// and for a quorum's words at or after this time.
    heard_ms: u64,
    who: SyncFor,
}

/// Counts of synchronizations by kind, for operators.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct SyncCounts {
    pub diff: u64,
    pub trunc: u64,
    pub snap: u64,
}

/// The leading role.
#[derive(Debug)]
pub struct Leader {
    stage: Wait,
    /// The new epoch; final once a quorum has reported.
    epoch: Epoch,
    /// Participants that reported an epoch, this server included.
    reported: BTreeSet<ServerId>,
    /// This server's history when it started to lead: no learner may have a newer one.
    summary: (Epoch, Zxid),
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
    stage_deadline_ms: u64,
    next_ping_ms: u64,
    /// How learners were synchronized.
    pub sync_counts: SyncCounts,
}

impl Leader {
    /// Starts to lead: opens the quorum port and reports its own epoch.
    pub fn new(core: &mut Core, now_ms: u64, out: &mut Vec<Output>) -> Leader {
        out.push(Output::Listen);
        let mut leader = Leader {
            stage: Wait::Epoch,
            epoch: core.accepted.max(core.seen_epoch).saturating_add(1),
            reported: BTreeSet::from([core.config.me]),
            summary: (core.current, core.applied),
            epoch_acks: BTreeSet::new(),
            new_leader_acks: BTreeSet::new(),
            links: BTreeMap::new(),
            proposed: core.applied,
            committed: core.applied,
            outstanding: ProposalQueue::default(),
            acked: BTreeMap::new(),
            syncs: VecDeque::new(),
            asked_ms: None,
            stage_deadline_ms: now_ms + core.ticks_ms(core.config.init_limit),
            next_ping_ms: now_ms + core.config.tick_ms / 2,
            sync_counts: SyncCounts::default(),
        };
        leader.check_epoch(core, out);
        leader
    }

    /// Serving clients?
    pub fn serving(&self) -> bool {
        self.stage == Wait::Broadcast
    }

    /// For operators.
    pub fn phase(&self) -> crate::Phase {
        match self.stage {
            Wait::Broadcast => crate::Phase::Broadcast,
            Wait::NewLeaderAcks => crate::Phase::Synchronization,
            _ => crate::Phase::Discovery,
        }
    }

    /// zxid of the next proposal; `None` before serving and at the counter's end.
    pub fn next_zxid(&self) -> Option<Zxid> {
        if self.serving() { self.proposed.next() } else { None }
    }

    /// Proposals without a quorum yet.
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Proposals appended but not committed, for the end of the role.
    pub fn into_outstanding(self) -> ProposalQueue {
        self.outstanding
    }

    /// Learners: link, server, observer?, up to date?
    pub fn learners(&self) -> impl Iterator<Item = (LinkId, ServerId, bool, bool)> + '_ {
        self.links.iter().filter_map(|(id, link)| {
            let synced = link.stage == Stage::UpToDate;
            link.server.map(|server| (*id, server, link.observer, synced))
        })
    }

    // ---- time

    /// The next deadline of any kind.
    pub fn next_timeout(&self, core: &Core) -> u64 {
        let mut next = self.next_ping_ms.min(core.disk_deadline_ms().unwrap_or(u64::MAX));
        if !self.serving() {
            next = next.min(self.stage_deadline_ms(core));
        }
        let waiting = self.links.values().filter(|link| self.must_speak(link));
        waiting.map(Link::deadline_ms).fold(next, u64::min)
    }

    /// A deadline has passed.
    pub fn on_timeout(
        &mut self,
        core: &mut Core,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), Lost> {
        // Its followers make a quorum without it, and all it has not written would have to be made up
        // for by whoever leads next. The role's end waits for the disk, so it does not win again before.
        core.check_disk_time()?;
        if !self.serving() && self.stage_deadline_ms(core) <= now_ms {
            return Err(Lost::NoQuorumInTime { waiting: self.stage.name() });
        }
        let late: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| self.must_speak(link))
            .filter_map(|(id, link)| Some((*id, link.check_deadline(now_ms).err()?)))
            .collect();
        for (id, error) in late {
            self.misbehaved(id, error, out);
        }
        if self.next_ping_ms <= now_ms {
            self.next_ping_ms = now_ms + (core.config.tick_ms / 2).max(1);
            self.ping(out);
        }
        self.check_quorum(core)
    }

    /// Who has acknowledged NEWLEADER has nothing to say before UPTODATE.
    fn must_speak(&self, link: &Link) -> bool {
        self.serving() || link.stage != Stage::Acknowledged
    }

    /// When the wait for a quorum ends. A voter that is getting its snapshot is worth waiting for: the
    /// next attempt would only begin the same stream anew.
    fn stage_deadline_ms(&self, core: &Core) -> u64 {
        let voter = |id| core.config.ensemble.is_voter(id);
        let waited_for = |link: &&Link| link.gets_snapshot() && link.server.is_some_and(voter);
        let latest = self.links.values().filter(waited_for).map(Link::deadline_ms).max();
        self.stage_deadline_ms.max(latest.unwrap_or(0))
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
    pub fn on_connected(&mut self, core: &Core, link: LinkId, now_ms: u64, out: &mut Vec<Output>) {
        if MAX_LINKS <= self.links.len() {
            out.push(Output::CloseLearner { link, reason: CloseReason::TooMany(MAX_LINKS) });
            return;
        }
        let limit_ms = core.ticks_ms(core.config.init_limit);
        self.links.insert(link, Link::new(now_ms, limit_ms));
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
            out.push(Output::CloseLearner { link, reason });
            self.forget_syncs(link);
        }
    }

    /// The driver tells how far the snapshot for a learner is.
    pub fn on_streamed(&mut self, now_ms: u64, id: LinkId, bytes: u64, ended: bool) {
        if let Some(link) = self.links.get_mut(&id) {
            link.streamed(now_ms, bytes, ended);
        }
    }

    /// A packet of a learner. Misbehaviour closes its link.
    pub fn on_packet(
        &mut self,
        core: &mut Core,
        now_ms: u64,
        id: LinkId,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Lost> {
        match self.packet(core, now_ms, id, packet, out) {
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
        now_ms: u64,
        id: LinkId,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        link.heard(now_ms);
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
                self.on_ack(core, now_ms, id, packet.zxid, out)
            }
            (Stage::UpToDate, Some(PacketKind::Ping)) => {
                let touches = packet.data.unwrap_or_default();
                if !touches.is_empty() {
                    out.push(Output::Touched { link: id, touches });
                }
                Ok(())
            }
            (Stage::UpToDate, Some(PacketKind::Request)) => self.on_request(core, id, packet, out),
            (Stage::UpToDate, Some(PacketKind::Revalidate)) => {
                let data = packet.data.unwrap_or_default();
                out.push(Output::Revalidate { link: id, data });
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

    // ---- discovery

    fn on_info(
        &mut self,
        core: &mut Core,
        id: LinkId,
        packet: &Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Fault> {
        let info = Self::learner_info(core, packet)?;
        let (server, promised) = (info.server, packet.zxid.epoch());
        // A server that connects again has lost its old link, noticed here or not.
        let same = |(_, link): &(&LinkId, &Link)| link.server == Some(server);
        let stale: Vec<_> = self.links.iter().filter(same).map(|(other, _)| *other).collect();
        for other in stale {
            self.close(other, CloseReason::ConnectedAgain(server), out);
        }
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        link.server = Some(server);
        link.observer = packet.known_kind() == Some(PacketKind::ObserverInfo);
        link.promised = promised;
        link.stage = Stage::WaitingForEpoch;
        if self.stage == Wait::Epoch {
            self.epoch = self.epoch.max(promised + 1);
            if core.config.ensemble.is_voter(server) {
                self.reported.insert(server);
            }
            self.check_epoch(core, out);
            return Ok(());
        }
        if self.epoch < promised {
            self.on_newer_promise(core, server, promised)?;
        }
        self.send_leader_info(out);
        Ok(())
    }

    fn learner_info(core: &Core, packet: &Packet) -> Result<LearnerInfo, Misbehaved> {
        let data = packet.data.as_deref().unwrap_or_default();
        let info = LearnerInfo::from_bytes(data)
            .map_err(|error| Misbehaved::Malformed { packet: "FOLLOWERINFO", error })?;
        let (server, promised) = (info.server, packet.zxid.epoch());
        if server == core.config.me || MAX_EPOCH < promised {
            let got = format!("server {server} with accepted epoch {promised:#x}");
            return Err(Misbehaved::Unexpected { phase: Stage::New.name(), got });
        }
        let (theirs, ours) = (info.config_version, core.config.ensemble.version);
        if ours < theirs {
            return Err(Misbehaved::NewerConfig { server, theirs, ours });
        }
        Ok(info)
    }

    /// A learner has promised to follow nobody as old as this leader, and would be turned away until
    /// the next election. An election at once helps, if its outcome is a newer epoch; but only if the
    /// learner's history is not newer, too: it would win, and what this leader's quorum has committed
    /// would be lost. That happens where a quorum has lost its disks. Without a sign of its history
    /// nothing is risked: the learner returns, and has voted again.
    fn on_newer_promise(
        &mut self,
        core: &mut Core,
        server: ServerId,
        promised: Epoch,
    ) -> Result<(), Lost> {
        let established = matches!(self.stage, Wait::NewLeaderAcks | Wait::Broadcast);
        let (epoch, last) = if established { (self.epoch, self.proposed) } else { self.summary };
        match core.take_history(server) {
            Some(theirs) if theirs <= (i64::from(epoch), last) => {
                core.seen_epoch = core.seen_epoch.max(promised);
                Err(Lost::PromisedNewer { server, theirs: promised, ours: self.epoch })
            }
            Some((current, zxid)) => {
                if core.refuse_newer(server, self.epoch) {
                    tracing::error!(
                        "server {server} is refused: its history (epoch {current:#x}, last zxid \
                         {zxid}) is newer than that of this leader (epoch {epoch:#x}, last zxid \
                         {last}). Have other members lost their data? The ensemble goes on without \
                         server {server}; keep its data directory until you know"
                    );
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn check_epoch(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        if core.config.ensemble.is_quorum(|id| self.reported.contains(&id)) {
            self.stage = Wait::SavingAccepted;
            core.disk(Output::SaveAcceptedEpoch(self.epoch), out);
        }
    }

    /// The disk has carried out something.
    pub fn on_disk(
        &mut self,
        core: &mut Core,
        now_ms: u64,
        answer: DiskAnswer,
        out: &mut Vec<Output>,
    ) {
        match answer {
            DiskAnswer::Flushed => self.on_flushed(core, out),
            DiskAnswer::AcceptedEpoch(_) => self.on_accepted_saved(core, now_ms, out),
            DiskAnswer::CurrentEpoch(_) => self.on_current_saved(core, now_ms, out),
            DiskAnswer::LogRead { link, proposals } => {
                self.on_log_read(core, link, proposals, out);
            }
            // Asked for in an earlier role.
            DiskAnswer::Snapshot | DiskAnswer::Reloaded | DiskAnswer::CannotCut => {}
        }
    }

    /// acceptedEpoch is durable: announce the epoch.
    fn on_accepted_saved(&mut self, core: &mut Core, now_ms: u64, out: &mut Vec<Output>) {
        if self.stage != Wait::SavingAccepted {
            return;
        }
        self.enter(core, Wait::EpochAcks, now_ms);
        self.epoch_acks.insert(core.config.me);
        self.send_leader_info(out);
        self.check_epoch_acks(core, out);
    }

    fn enter(&mut self, core: &Core, stage: Wait, now_ms: u64) {
        self.stage = stage;
        self.stage_deadline_ms = now_ms + core.ticks_ms(core.config.init_limit);
    }

    fn send_leader_info(&mut self, out: &mut Vec<Output>) {
        if matches!(self.stage, Wait::Epoch | Wait::SavingAccepted) {
            return;
        }
        let data = Bytes::copy_from_slice(&PROTOCOL_VERSION.to_be_bytes());
        let packet = Packet::with(PacketKind::LeaderInfo, Zxid::new(self.epoch, 0), data);
        for (id, link) in &mut self.links {
            if link.stage == Stage::WaitingForEpoch {
                link.stage = Stage::LeaderInfoSent;
                out.push(Output::ToLearner(*id, packet.clone()));
            }
        }
    }

    fn on_ack_epoch(
        &mut self,
        core: &mut Core,
        id: LinkId,
        packet: &Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        let data = packet.data.as_deref().unwrap_or_default();
        let current = Reader::new(data)
            .int()
            .map_err(|error| Misbehaved::Malformed { packet: "ACKEPOCH", error })?;
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        let server = link.server.unwrap_or_default();
        if self.epoch < link.promised {
            return Err(Misbehaved::BrokenPromise { promised: link.promised, got: self.epoch });
        }
        link.last_zxid = packet.zxid;
        link.stage = Stage::WaitingForSync;
        // Once a quorum has acknowledged the epoch, a newer history is one that was never committed.
        let open = !matches!(self.stage, Wait::NewLeaderAcks | Wait::Broadcast);
        if open && current != -1 {
            let theirs = (current as u32, packet.zxid);
            if self.summary < theirs {
                return Err(Misbehaved::NewerThanLeader { server, theirs, ours: self.summary });
            }
            if packet.zxid != Zxid(-1) && core.config.ensemble.is_voter(server) {
                self.epoch_acks.insert(server);
            }
        }
        match self.stage {
            Wait::EpochAcks => self.check_epoch_acks(core, out),
            Wait::NewLeaderAcks | Wait::Broadcast => self.synchronize(core, id, None, out),
            _ => {}
        }
        Ok(())
    }

    fn check_epoch_acks(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        if core.config.ensemble.is_quorum(|id| self.epoch_acks.contains(&id)) {
            self.stage = Wait::SavingCurrent;
            core.disk(Output::SaveCurrentEpoch(self.epoch), out);
        }
    }

    /// currentEpoch is durable: synchronize the learners that wait for it.
    fn on_current_saved(&mut self, core: &mut Core, now_ms: u64, out: &mut Vec<Output>) {
        if self.stage != Wait::SavingCurrent {
            return;
        }
        self.enter(core, Wait::NewLeaderAcks, now_ms);
        self.proposed = Zxid::new(self.epoch, 0);
        let waiting: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.stage == Stage::WaitingForSync)
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.synchronize(core, id, None, out);
        }
        self.new_leader_acks.insert(core.config.me);
        self.check_new_leader_acks(core, out);
    }

    // ---- synchronization

    /// The log answered.
    fn on_log_read(
        &mut self,
        core: &mut Core,
        id: LinkId,
        proposals: Option<Vec<Proposal>>,
        out: &mut Vec<Output>,
    ) {
        if self.links.get(&id).is_some_and(|link| link.stage == Stage::ReadingLog) {
            self.synchronize(core, id, Some(proposals.as_deref()), out);
        }
    }

    /// Brings a learner up to date and registers it for everything that follows; atomic, since nothing
    /// is committed in between.
    fn synchronize(
        &mut self,
        core: &mut Core,
        id: LinkId,
        logged: Option<Option<&[Proposal]>>,
        out: &mut Vec<Output>,
    ) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let learner = link.last_zxid;
        let force = core.config.force_snapshot_sync;
        let (kind, zxid, missing) = match core.log.choose(learner, core.applied, force, logged) {
            Choice::ReadLog { to } => {
                link.stage = Stage::ReadingLog;
                out.push(Output::ReadLog { link: id, from: learner, to });
                return;
            }
            Choice::Diff(zxid, missing) => {
                self.sync_counts.diff += 1;
                (PacketKind::Diff, zxid, missing)
            }
            Choice::Trunc(zxid, missing) => {
                self.sync_counts.trunc += 1;
                (PacketKind::Trunc, zxid, missing)
            }
            Choice::Snap => {
                self.sync_counts.snap += 1;
                (PacketKind::Snap, core.applied, Vec::new())
            }
        };
        if let Some(server) = link.server {
            // What it has logged and acknowledged beyond is about to go, or its disk has lost it: it
            // gets that again, and must acknowledge again.
            self.acked.remove(&server);
        }
        out.push(Output::ToLearner(id, Packet::bare(kind, zxid)));
        if kind == PacketKind::Snap {
            out.push(Output::SnapshotToLearner(id));
        }
        for proposal in missing {
            let commit = Packet::bare(PacketKind::Commit, proposal.zxid);
            out.push(Output::ProposalToLearner { link: id, proposal, inform: false });
            out.push(Output::ToLearner(id, commit));
        }
        link.sync = Some(kind);
        link.stage = Stage::NewLeaderSent;
        if !link.observer {
            for proposal in self.outstanding.iter() {
                let proposal = proposal.clone();
                out.push(Output::ProposalToLearner { link: id, proposal, inform: false });
            }
        }
        let config = core.config.ensemble.to_string();
        let packet = Packet::with(PacketKind::NewLeader, Zxid::new(self.epoch, 0), config);
        out.push(Output::ToLearner(id, packet));
    }

    fn on_new_leader_ack(
        &mut self,
        core: &mut Core,
        id: LinkId,
        zxid: Zxid,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        let server = link.server.unwrap_or_default();
        if zxid != Zxid::new(self.epoch, 0) {
            // Old followers acknowledge proposals before NEWLEADER: count them, go on waiting.
            if !link.observer {
                self.vouch(core, server, zxid)?;
                self.commit_acknowledged(core, out);
            }
            return Ok(());
        }
        link.acknowledged();
        if core.config.ensemble.is_voter(server) && !link.observer {
            self.new_leader_acks.insert(server);
        }
        if self.serving() {
            self.up_to_date(core, id, out);
        } else {
            self.check_new_leader_acks(core, out);
        }
        Ok(())
    }

    fn check_new_leader_acks(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        let quorum = core.config.ensemble.is_quorum(|id| self.new_leader_acks.contains(&id));
        if self.stage != Wait::NewLeaderAcks || !quorum {
            return;
        }
        self.stage = Wait::Broadcast;
        self.committed = Zxid::new(self.epoch, 0);
        core.applied = self.committed;
        core.appended = core.appended.max(self.committed);
        core.flushed = core.flushed.max(self.committed);
        out.push(Output::StartServing { epoch: self.epoch, leading: true });
        let acknowledged: Vec<_> = self
            .links
            .iter()
            .filter(|(_, link)| link.stage == Stage::Acknowledged)
            .map(|(id, _)| *id)
            .collect();
        for id in acknowledged {
            self.up_to_date(core, id, out);
        }
    }

    fn up_to_date(&mut self, core: &Core, id: LinkId, out: &mut Vec<Output>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up_to_date(core.now_ms, core.ticks_ms(core.config.sync_limit));
        out.push(Output::ToLearner(id, Packet::bare(PacketKind::UpToDate, Zxid(-1))));
        // Old followers cannot take a commit between NEWLEADER and UPTODATE.
        for zxid in link.held_commits.take() {
            out.push(Output::ToLearner(id, Packet::bare(PacketKind::Commit, zxid)));
        }
    }

    // ---- broadcast

    /// A prepared transaction.
    pub fn propose(
        &mut self,
        core: &mut Core,
        now_ms: u64,
        proposal: Proposal,
        out: &mut Vec<Output>,
    ) -> Result<(), Lost> {
        assert_eq!(Some(proposal.zxid), self.next_zxid(), "every allocated zxid is proposed");
        self.proposed = proposal.zxid;
        for (id, link) in &mut self.links {
            if link.forwards() && !link.observer {
                link.sent(proposal.zxid, now_ms);
                let proposal = proposal.clone();
                out.push(Output::ProposalToLearner { link: *id, proposal, inform: false });
            }
        }
        self.outstanding.push_back(proposal.clone());
        core.append(proposal, out);
        let bytes = self.outstanding.bytes();
        if core.queue_limit < bytes {
            return Err(Lost::QuorumTooSlow { bytes });
        }
        core.check_disk_bytes()
    }

    /// The own log has grown.
    fn on_flushed(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        let me = core.config.me;
        if self.serving() && core.config.ensemble.is_voter(me) {
            let flushed = core.flushed.min(self.proposed);
            self.acked.insert(me, flushed);
            self.commit_acknowledged(core, out);
        }
    }

    fn on_ack(
        &mut self,
        core: &mut Core,
        now_ms: u64,
        id: LinkId,
        zxid: Zxid,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        // The second ACK of a synchronization, after UPTODATE.
        if zxid.counter() == 0 {
            return Ok(());
        }
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        link.acked(zxid, now_ms);
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
        assert!(self.committed < zxid, "commits leave in zxid order");
        self.committed = zxid;
        let commit = Packet::bare(PacketKind::Commit, zxid);
        for (id, link) in &mut self.links {
            if !link.forwards() {
                continue;
            }
            if link.observer {
                let proposal = proposal.clone();
                out.push(Output::ProposalToLearner { link: *id, proposal, inform: true });
            } else if link.stage == Stage::UpToDate {
                out.push(Output::ToLearner(*id, commit.clone()));
            } else {
                link.held_commits.push(zxid);
            }
        }
        core.apply(proposal, out);
        self.answer_syncs(core, out);
    }

    // ---- requests

    fn on_request(
        &mut self,
        core: &Core,
        id: LinkId,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        let data = packet.data.unwrap_or_default();
        let request = Request::decode(&data)
            .map_err(|error| Misbehaved::Malformed { packet: "REQUEST", error })?;
        if request.op == OpCode::Sync.code() {
            if MAX_SYNCS <= self.syncs.len() {
                return Err(Misbehaved::TooManySyncs(MAX_SYNCS));
            }
            self.sync(core, SyncFor::Link(id), out);
        } else {
            let auth = packet.auth.unwrap_or_default();
            out.push(Output::Forwarded { link: id, data, auth });
        }
        Ok(())
    }

    /// A sync of a local client.
    pub fn local_sync(&mut self, core: &Core, out: &mut Vec<Output>) {
        self.sync(core, SyncFor::Local, out);
    }

    /// Done once everything proposed so far is committed and on its way to whoever asks, and a quorum
    /// has been heard, not longer than a tick ago or anew: until then nobody else can have committed
    /// anything that this leader does not know. If no quorum is heard any more, the role ends.
    fn sync(&mut self, core: &Core, who: SyncFor, out: &mut Vec<Output>) {
        let fresh_ms = core.now_ms.saturating_sub(core.config.tick_ms);
        let fresh = self.heard_quorum(core, fresh_ms);
        let heard_ms = if fresh { fresh_ms } else { core.now_ms };
        let after = self.outstanding.back().map_or(self.committed, |last| last.zxid);
        self.syncs.push_back(Sync { after, heard_ms, who });
        let pause_ms = core.config.tick_ms / 4;
        if !fresh && self.asked_ms.is_none_or(|asked_ms| asked_ms + pause_ms < core.now_ms) {
            self.asked_ms = Some(core.now_ms);
            self.ping(out);
        }
        self.answer_syncs(core, out);
    }

    fn answer_syncs(&mut self, core: &Core, out: &mut Vec<Output>) {
        while let Some(Sync { after, heard_ms, .. }) = self.syncs.front() {
            if self.committed < *after || !self.heard_quorum(core, *heard_ms) {
                return;
            }
            if let Some(sync) = self.syncs.pop_front() {
                Self::sync_done(sync.who, out);
            }
        }
    }

    /// Has a quorum, this server included, been heard at or after that time?
    fn heard_quorum(&self, core: &Core, ms: u64) -> bool {
        let me = core.config.me;
        core.config.ensemble.is_quorum(|id| {
            let spoke = |link: &Link| link.server == Some(id) && link.spoke_since(ms);
            id == me || self.links.values().any(spoke)
        })
    }

    fn ping(&self, out: &mut Vec<Output>) {
        let ping = Packet::bare(PacketKind::Ping, self.proposed);
        for (id, link) in self.links.iter().filter(|(_, link)| link.forwards()) {
            assert!(link.server.is_some(), "who is synchronized has introduced itself");
            out.push(Output::ToLearner(*id, ping.clone()));
        }
    }

    fn sync_done(sync: SyncFor, out: &mut Vec<Output>) {
        match sync {
            SyncFor::Local => out.push(Output::SyncDone),
            SyncFor::Link(id) => {
                out.push(Output::ToLearner(id, Packet::bare(PacketKind::Sync, Zxid::ZERO)));
            }
        }
    }

    /// A packet that the replica made for a learner.
    pub fn to_learner(&self, id: LinkId, packet: Packet, out: &mut Vec<Output>) {
        if self.links.get(&id).is_some_and(|link| link.stage == Stage::UpToDate) {
            out.push(Output::ToLearner(id, packet));
        }
    }
}
