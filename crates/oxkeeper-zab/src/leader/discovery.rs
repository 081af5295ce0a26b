//! The leader finds an epoch that is newer than any a quorum has promised.
//!
//! Source: `docs/spec/quorum-protocol.md` 9.3, 9.4.

use bytes::Bytes;
use oxkeeper_proto::quorum::{LearnerInfo, PROTOCOL_VERSION, Packet, PacketKind};
use oxkeeper_proto::{Decode, Epoch, Reader, ServerId, Zxid};

use super::link::{Link, Stage};
use super::{Leader, MAX_EPOCH, Wait};
use crate::core::Core;
use crate::error::{CloseReason, Fault, Lost, Misbehaved};
use crate::history::HistorySummary;
use crate::{DiskRequest, LinkId, Output};

impl Leader {
    pub(super) fn on_info(
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
        if self.wait == Wait::Epoch {
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

    pub(super) fn learner_info(core: &Core, packet: &Packet) -> Result<LearnerInfo, Misbehaved> {
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
    pub(super) fn on_newer_promise(
        &mut self,
        core: &mut Core,
        server: ServerId,
        promised: Epoch,
    ) -> Result<(), Lost> {
        let established = Wait::NewLeaderAcks <= self.wait;
        let ours = if established {
            HistorySummary { epoch: i64::from(self.epoch), last: self.proposed }
        } else {
            self.summary
        };
        match core.take_history(server) {
            Some(theirs) if theirs <= ours => {
                core.seen_epoch = core.seen_epoch.max(promised);
                Err(Lost::PromisedNewer { server, theirs: promised, ours: self.epoch })
            }
            // A tail that was never committed: nobody has lost anything.
            Some(_) if !established => Ok(()),
            Some(theirs) => {
                if core.refuse_newer(server, self.epoch) {
                    tracing::error!(
                        "server {server} is refused: its history ({theirs}) is newer than that of this \
                         leader ({ours}). Have other members lost their data? The ensemble goes on \
                         without server {server}; keep its data directory until you know"
                    );
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn check_epoch(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        if core.config.ensemble.is_quorum(|id| self.reported.contains(&id)) {
            self.enter(Wait::SavingAccepted);
            core.disk(DiskRequest::SaveAcceptedEpoch(self.epoch), out);
        }
    }

    /// acceptedEpoch is durable: announce the epoch.
    pub(super) fn on_accepted_saved(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        if self.wait != Wait::SavingAccepted {
            return;
        }
        self.enter_for_init_limit(core, Wait::EpochAcks);
        self.epoch_acks.insert(core.config.me);
        self.send_leader_info(out);
        self.check_epoch_acks(core, out);
    }

    pub(super) fn send_leader_info(&mut self, out: &mut Vec<Output>) {
        if self.wait < Wait::EpochAcks {
            return;
        }
        let data = Bytes::copy_from_slice(&PROTOCOL_VERSION.to_be_bytes());
        let packet = Packet::with(PacketKind::LeaderInfo, Zxid::new(self.epoch, 0), data);
        for (id, link) in &mut self.links {
            if link.stage == Stage::WaitingForEpoch {
                link.stage = Stage::LeaderInfoSent;
                out.push(Output::to_learner(*id, packet.clone()));
            }
        }
    }

    pub(super) fn on_ack_epoch(
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
        let open = self.wait < Wait::NewLeaderAcks;
        if open && current != -1 {
            let theirs = HistorySummary { epoch: i64::from(current as u32), last: packet.zxid };
            if self.summary < theirs {
                return Err(Misbehaved::NewerThanLeader { server, theirs, ours: self.summary });
            }
            if packet.zxid != Zxid(-1) && core.config.ensemble.is_voter(server) {
                self.epoch_acks.insert(server);
            }
        }
        match self.wait {
            Wait::EpochAcks => self.check_epoch_acks(core, out),
            Wait::NewLeaderAcks | Wait::Broadcast => self.synchronize(core, id, None, out),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn check_epoch_acks(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        if core.config.ensemble.is_quorum(|id| self.epoch_acks.contains(&id)) {
            self.enter(Wait::SavingCurrent);
            core.disk(DiskRequest::SaveCurrentEpoch(self.epoch), out);
        }
    }

    /// currentEpoch is durable: synchronize the learners that wait for it.
    pub(super) fn on_current_saved(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        if self.wait != Wait::SavingCurrent {
            return;
        }
        self.enter_for_init_limit(core, Wait::NewLeaderAcks);
        self.proposed = Zxid::new(self.epoch, 0);
        for id in self.links_at(Stage::WaitingForSync) {
            self.synchronize(core, id, None, out);
        }
        self.new_leader_acks.insert(core.config.me);
        self.check_new_leader_acks(core, out);
    }
}
