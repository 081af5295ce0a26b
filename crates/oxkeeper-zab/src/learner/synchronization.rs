//! The learner makes the leader's history its own: from DIFF, TRUNC or SNAP to the ACK of NEWLEADER.
//!
//! Source: `docs/spec/quorum-protocol.md` 10.7, 10.8.

use bytes::Bytes;
use oxkeeper_proto::quorum::{Packet, PacketKind};
use oxkeeper_proto::{Epoch, Zxid};

use super::{Learner, Step, SyncKind, unexpected};
use crate::core::Core;
use crate::error::Misbehaved;
use crate::{DiskRequest, Output, Proposal};

impl Learner {
    pub(super) fn on_first(
        &mut self,
        core: &mut Core,
        epoch: Epoch,
        packet: &Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        match packet.known_kind() {
            Some(PacketKind::Diff | PacketKind::Trunc) if core.needs_snapshot => {
                return Err(unexpected("waiting for SNAP", packet));
            }
            Some(PacketKind::Diff) => {
                self.sync = Some(SyncKind::Diff);
                self.last_seen = core.marks.applied();
                self.step = Step::Synchronizing { epoch, memory: false };
            }
            Some(PacketKind::Snap) => {
                self.within_epoch(packet.zxid)?;
                self.sync = Some(SyncKind::Snap);
                self.step = Step::Receiving { epoch, zxid: packet.zxid };
            }
            Some(PacketKind::Trunc) => {
                self.within_epoch(packet.zxid)?;
                self.sync = Some(SyncKind::Trunc);
                self.step = Step::Truncating { epoch, zxid: packet.zxid };
                core.disk(DiskRequest::Truncate(packet.zxid), out);
            }
            // The leader pings as soon as it has a sender for this learner.
            Some(PacketKind::Ping) => {}
            _ => return Err(unexpected("waiting for DIFF, TRUNC or SNAP", packet)),
        }
        Ok(())
    }

    /// The snapshot stream is complete.
    pub(super) fn on_snapshot_received(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        self.heard(core);
        if let Step::Receiving { epoch, zxid } = self.step {
            core.adopt_snapshot(zxid, out);
            self.last_seen = zxid;
            self.step = Step::Synchronizing { epoch, memory: true };
        }
    }

    /// The log was cut and the tree loaded anew.
    pub(super) fn on_truncated(
        &mut self,
        core: &mut Core,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        if let Step::Truncating { epoch, zxid } = self.step {
            if core.marks.applied() != zxid {
                // What lies between is missing here. The leader finds a better way next time.
                return Err(Misbehaved::Gap { previous: core.marks.applied(), got: zxid });
            }
            self.last_seen = core.marks.applied();
            self.step = Step::Synchronizing { epoch, memory: true };
            self.held_bytes = 0;
            for packet in std::mem::take(&mut self.held) {
                self.on_packet(core, packet, out)?;
            }
        }
        Ok(())
    }

    /// Reads a proposal that must continue the history.
    pub(super) fn proposal(
        &mut self,
        zxid: Zxid,
        data: Option<Bytes>,
    ) -> Result<Proposal, Misbehaved> {
        let proposal = Proposal::from_wire(zxid, data.unwrap_or_default())?;
        self.within_epoch(zxid)?;
        let (previous, got) = (self.last_seen, zxid);
        if !got.may_follow(previous) {
            return Err(Misbehaved::Gap { previous, got });
        }
        self.last_seen = zxid;
        Ok(proposal)
    }

    /// No history reaches beyond the epoch that its leader has announced.
    pub(super) fn within_epoch(&self, got: Zxid) -> Result<(), Misbehaved> {
        if got.0 < 0 || self.epoch < got.epoch() {
            return Err(Misbehaved::BeyondEpoch { epoch: self.epoch, got });
        }
        Ok(())
    }

    /// The bytes of INFORM, or of INFORMANDACTIVATE behind its designated leader.
    pub(super) fn informed(packet: &Packet) -> Result<Option<Bytes>, Misbehaved> {
        let data = packet.data.clone();
        if packet.known_kind() != Some(PacketKind::InformAndActivate) {
            return Ok(data);
        }
        let data = data.unwrap_or_default();
        if data.len() < 8 {
            return Err(unexpected("reading INFORMANDACTIVATE", packet));
        }
        Ok(Some(data.slice(8..)))
    }

    /// Before NEWLEADER, after SNAP or TRUNC: the tree runs ahead of the log, a snapshot follows.
    pub(super) fn on_memory(
        &mut self,
        core: &mut Core,
        epoch: Epoch,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        match packet.known_kind() {
            // The stream is fuzzy: what was queued while it was being made may be in it already.
            Some(PacketKind::Proposal | PacketKind::Inform | PacketKind::InformAndActivate)
                if packet.zxid <= core.marks.applied() && self.remembered.is_empty() => {}
            Some(PacketKind::Proposal) => {
                let proposal = self.proposal(packet.zxid, packet.data)?;
                self.remembered.push_back(proposal);
            }
            Some(PacketKind::Commit | PacketKind::CommitAndActivate) => {
                match self.remembered.front() {
                    Some(head) if head.zxid == packet.zxid => {
                        if let Some(proposal) = self.remembered.pop_front() {
                            core.apply_unlogged(proposal, out);
                        }
                    }
                    _ if packet.zxid <= core.marks.applied() => {}
                    oldest => {
                        let oldest = oldest.map(|proposal| proposal.zxid);
                        return Err(Misbehaved::CommitOutOfOrder { oldest, got: packet.zxid });
                    }
                }
            }
            Some(PacketKind::Inform | PacketKind::InformAndActivate) => {
                if let Some(oldest) = self.remembered.front() {
                    let oldest = Some(oldest.zxid);
                    return Err(Misbehaved::CommitOutOfOrder { oldest, got: packet.zxid });
                }
                let proposal = self.proposal(packet.zxid, Self::informed(&packet)?)?;
                core.apply_unlogged(proposal, out);
            }
            Some(PacketKind::NewLeader) => {
                self.step = Step::SavingHistory { epoch, snapshot: true };
                core.prepare_current(epoch, out);
                core.disk(DiskRequest::SaveSnapshot, out);
            }
            Some(PacketKind::Ping) | None => {}
            _ => return Err(unexpected("synchronizing", &packet)),
        }
        Ok(())
    }

    /// Proposals and commits are remembered. `new_leader` is the epoch while NEWLEADER is awaited.
    pub(super) fn on_log_mode(
        &mut self,
        core: &mut Core,
        new_leader: Option<Epoch>,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        match (packet.known_kind(), new_leader) {
            (Some(PacketKind::Proposal), _) => {
                let proposal = self.proposal(packet.zxid, packet.data)?;
                self.remembered.push_back(proposal);
            }
            (Some(PacketKind::Commit | PacketKind::CommitAndActivate), _) => {
                let next = self.remembered.get(self.commits.len()).map(|proposal| proposal.zxid);
                if next == Some(packet.zxid) {
                    self.commits.push_back(packet.zxid);
                } else if core.marks.applied() < packet.zxid {
                    return Err(Misbehaved::CommitOutOfOrder { oldest: next, got: packet.zxid });
                }
            }
            (Some(PacketKind::Inform | PacketKind::InformAndActivate), _) => {
                if self.commits.len() != self.remembered.len() {
                    let oldest = self.remembered.get(self.commits.len()).map(|first| first.zxid);
                    return Err(Misbehaved::CommitOutOfOrder { oldest, got: packet.zxid });
                }
                let proposal = self.proposal(packet.zxid, Self::informed(&packet)?)?;
                self.commits.push_back(proposal.zxid);
                self.remembered.push_back(proposal);
            }
            (Some(PacketKind::NewLeader), Some(epoch)) => {
                self.step = Step::SavingHistory { epoch, snapshot: false };
                self.log_committed(core, out);
                self.on_flushed(core, out);
            }
            (Some(PacketKind::Ping) | None, _) => {}
            _ => return Err(unexpected("synchronizing", &packet)),
        }
        Ok(())
    }

    /// Logs what the leader has committed. An epoch is announced right before its first proposal, when all
    /// history before it is on its way to the disk: Apache's servers take what is announced as it stands.
    fn log_committed(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        let mut announced = core.current;
        while self.commits.pop_front().is_some() {
            let Some(proposal) = self.remembered.pop_front() else { break };
            if announced < proposal.zxid.epoch() {
                announced = proposal.zxid.epoch();
                core.prepare_current(announced, out);
            }
            core.append(proposal.clone(), out);
            core.apply(proposal, out);
        }
    }

    /// The log has grown: go on with what waited for it.
    pub(super) fn on_flushed(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        match self.step {
            Step::SavingHistory { epoch, snapshot: false } if core.marks.all_flushed() => {
                self.save_current(core, epoch, out);
            }
            Step::Broadcast => {
                while let Some(zxid) =
                    self.unacked.pop_front_if(|zxid| *zxid <= core.marks.flushed())
                {
                    out.push(Output::to_leader(Packet::bare(PacketKind::Ack, zxid)));
                }
            }
            _ => {}
        }
    }

    /// The snapshot of the adopted tree is durable.
    pub(super) fn on_snapshot_saved(&mut self, core: &mut Core, out: &mut Vec<Output>) {
        if let Step::SavingHistory { epoch, snapshot: true } = self.step {
            self.save_current(core, epoch, out);
        }
    }

    /// The history is durable: now the epoch may say so.
    pub(super) fn save_current(&mut self, core: &mut Core, epoch: Epoch, out: &mut Vec<Output>) {
        assert!(core.current <= epoch, "no leader of an older epoch is followed");
        if core.current == epoch {
            self.step = Step::SavingCurrent { epoch };
            self.on_current_saved(core, epoch, out);
            return;
        }
        self.step = Step::SavingCurrent { epoch };
        core.disk(DiskRequest::SaveCurrentEpoch(epoch), out);
    }

    /// currentEpoch is durable: the leader's history is ours.
    pub(super) fn on_current_saved(
        &mut self,
        core: &mut Core,
        saved: Epoch,
        out: &mut Vec<Output>,
    ) {
        if let Step::SavingCurrent { epoch } = self.step
            && epoch == saved
        {
            core.lost_tail = None;
            self.limit_ms = core.ticks_ms(core.config.sync_limit);
            out.push(Output::to_leader(Packet::bare(PacketKind::Ack, Zxid::new(epoch, 0))));
            self.step = Step::Acknowledged { epoch };
        }
    }
}
