//! The leader brings learners up to date, and waits for a quorum of them.
//!
//! Source: `docs/spec/quorum-protocol.md` 10.

use oxkeeper_proto::Zxid;
use oxkeeper_proto::quorum::{Packet, PacketKind};

use super::link::Stage;
use super::{Leader, Wait};
use crate::core::Core;
use crate::error::Misbehaved;
use crate::history::Choice;
use crate::{Effect, LinkId, LogRead, Output, PortRequest, Proposal};

impl Leader {
    /// The log answered.
    pub(super) fn on_log_read(
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
    /// is committed in between. Only once a quorum has acknowledged the epoch: what this server has is
    /// the history then.
    pub(super) fn synchronize(
        &mut self,
        core: &mut Core,
        id: LinkId,
        logged: Option<Option<&[Proposal]>>,
        out: &mut Vec<Output>,
    ) {
        assert!(
            Wait::NewLeaderAcks <= self.wait,
            "the history is settled by a quorum of ACKEPOCHs"
        );
        let Some(link) = self.links.get_mut(&id) else { return };
        let learner = link.last_zxid;
        let force = core.config.force_snapshot_sync;
        let (kind, zxid, missing) =
            match core.log.choose(learner, core.marks.applied(), force, logged) {
                Choice::ReadLog { to } => {
                    link.stage = Stage::ReadingLog;
                    out.push(Output::ReadLog(LogRead { link: id, from: learner, to }));
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
                    (PacketKind::Snap, core.marks.applied(), Vec::new())
                }
            };
        if let Some(server) = link.server {
            // What it has logged and acknowledged beyond is about to go, or its disk has lost it: it
            // gets that again, and must acknowledge again.
            self.acked.remove(&server);
        }
        out.push(Output::to_learner(id, Packet::bare(kind, zxid)));
        if kind == PacketKind::Snap {
            out.push(Output::Port(PortRequest::SnapshotToLearner(id)));
        }
        for proposal in missing {
            let commit = Packet::bare(PacketKind::Commit, proposal.zxid);
            out.push(Output::proposal(id, proposal, false));
            out.push(Output::to_learner(id, commit));
        }
        link.sync = Some(kind);
        link.stage = Stage::NewLeaderSent;
        if !link.observer {
            for proposal in self.outstanding.iter() {
                out.push(Output::proposal(id, proposal.clone(), false));
            }
        }
        let config = core.config.ensemble.to_string();
        let packet = Packet::with(PacketKind::NewLeader, Zxid::new(self.epoch, 0), config);
        out.push(Output::to_learner(id, packet));
    }

    pub(super) fn on_new_leader_ack(
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

    pub(super) fn check_new_leader_acks(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        let quorum = core.config.ensemble.is_quorum(|id| self.new_leader_acks.contains(&id));
        if self.wait != Wait::NewLeaderAcks || !quorum {
            return;
        }
        self.enter(Wait::Broadcast);
        assert_eq!(core.current, self.epoch, "currentEpoch is durable before the epoch is served");
        self.committed = Zxid::new(self.epoch, 0);
        core.marks.begin_epoch(self.committed);
        out.push(Output::Replica(Effect::StartServing { epoch: self.epoch, leading: true }));
        for id in self.links_at(Stage::Acknowledged) {
            self.up_to_date(core, id, out);
        }
    }

    /// The learner may serve: a quorum, it among others or not, has made the epoch's history durable.
    pub(super) fn up_to_date(&mut self, core: &Core, id: LinkId, out: &mut Vec<Output>) {
        assert!(self.serving(), "nobody serves an epoch before its leader");
        let Some(link) = self.links.get_mut(&id) else { return };
        link.up_to_date(core.now_ms, core.ticks_ms(core.config.sync_limit));
        out.push(Output::to_learner(id, Packet::bare(PacketKind::UpToDate, Zxid(-1))));
        // Old followers cannot take a commit between NEWLEADER and UPTODATE.
        for zxid in link.held_commits.take() {
            out.push(Output::to_learner(id, Packet::bare(PacketKind::Commit, zxid)));
        }
    }
}
