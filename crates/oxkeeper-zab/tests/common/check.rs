//! What must hold after every step, whatever the schedule.

use std::collections::BTreeMap;

use oxkeeper_proto::quorum::{Packet, PacketKind};
use oxkeeper_proto::{Epoch, ServerId, Zxid};
use oxkeeper_zab::{Effect, Output, PortRequest, Proposal};

use super::Server;
use super::disk::Disk;

#[derive(Default)]
pub struct Checker {
    /// All that was ever committed, in order.
    pub committed: Vec<Proposal>,
    /// Who served as leader in which epoch.
    pub leaders: BTreeMap<Epoch, ServerId>,
    /// The last epoch announced to each learner.
    announced: BTreeMap<ServerId, Epoch>,
    /// Servers that serve, and whether they lead.
    serving: BTreeMap<ServerId, bool>,
    epochs: BTreeMap<ServerId, (Epoch, Epoch)>,
}

impl Checker {
    pub fn stopped(&mut self, id: ServerId) {
        self.serving.remove(&id);
    }

    /// A packet is about to be delivered to a learner.
    pub fn leader_packet(&mut self, learner: ServerId, packet: &Packet) {
        if packet.known_kind() == Some(PacketKind::LeaderInfo) {
            self.announced.insert(learner, packet.zxid.epoch());
        }
    }

    /// The disk has changed.
    pub fn disk(&mut self, id: ServerId, disk: &Disk) {
        assert!(disk.current <= disk.accepted, "server {id}: acceptedEpoch >= currentEpoch");
        let before = self.epochs.insert(id, (disk.accepted, disk.current)).unwrap_or_default();
        assert!(before.0 <= disk.accepted && before.1 <= disk.current, "server {id}: epochs grow");
        if let Some(last) = disk.log.last() {
            let epoch = last.zxid.epoch();
            let known = disk.current.max(disk.prepared.unwrap_or_default());
            assert!(
                epoch <= known,
                "server {id}: history of epoch {epoch} before it was announced"
            );
        }
    }

    /// An output is about to be performed.
    pub fn output(&mut self, id: ServerId, output: &Output, servers: &BTreeMap<ServerId, Server>) {
        let server = &servers[&id];
        match output {
            Output::Port(PortRequest::ToLeader(packet)) => self.to_leader(id, packet, &server.disk),
            Output::Replica(Effect::StartServing { epoch, leading: true }) => {
                let other = self.leaders.insert(*epoch, id);
                assert_eq!(other, None, "epoch {epoch} has two leaders");
                self.has_committed(id, &server.tree);
                self.committed = server.tree.clone();
                self.quorum(servers, "currentEpoch", |server| *epoch <= server.disk.current);
                for proposal in &server.tree {
                    let has = |server: &Server| server.disk.vouches_for(proposal.zxid);
                    self.quorum(servers, "the new leader's history", has);
                }
                self.serving.insert(id, true);
            }
            Output::Replica(Effect::StartServing { leading: false, .. }) => {
                let common = server.tree.len().min(self.committed.len());
                assert!(
                    server.tree == self.committed[..common],
                    "server {id} serves what was not committed: {:?} is not a prefix of {:?}",
                    zxids(&server.tree),
                    zxids(&self.committed)
                );
                self.serving.insert(id, false);
            }
            Output::Replica(Effect::StopServing) => {
                self.serving.remove(&id);
            }
            Output::Replica(Effect::Apply(proposal)) => self.apply(id, proposal, server, servers),
            _ => {}
        }
    }

    fn to_leader(&self, id: ServerId, packet: &Packet, disk: &Disk) {
        match packet.known_kind() {
            Some(PacketKind::AckEpoch) => {
                let announced = self.announced.get(&id).copied().unwrap_or_default();
                assert!(announced <= disk.accepted, "server {id}: ACKEPOCH before acceptedEpoch");
            }
            Some(PacketKind::Ack) if packet.zxid.counter() == 0 => {
                let epoch = packet.zxid.epoch();
                assert_eq!(
                    disk.current, epoch,
                    "server {id}: ACK of NEWLEADER before currentEpoch"
                );
            }
            Some(PacketKind::Ack) => {
                assert!(disk.has(packet.zxid), "server {id}: ACK of {} before fsync", packet.zxid);
            }
            _ => {}
        }
    }

    fn apply(
        &mut self,
        id: ServerId,
        proposal: &Proposal,
        server: &Server,
        servers: &BTreeMap<ServerId, Server>,
    ) {
        match self.serving.get(&id) {
            Some(true) => {
                let newest = self.leaders.last_key_value().map(|(_, leader)| *leader);
                assert_eq!(newest, Some(id), "a deposed leader commits {}", proposal.zxid);
                assert_eq!(zxids(&server.tree), zxids(&self.committed));
                self.committed.push(proposal.clone());
                self.quorum(servers, "a commit", |server| server.disk.vouches_for(proposal.zxid));
            }
            Some(false) => {
                assert_eq!(
                    self.committed.get(server.tree.len()),
                    Some(proposal),
                    "server {id} applies what was not committed there"
                );
            }
            None => {}
        }
    }

    /// A new leader must have everything that was committed.
    fn has_committed(&self, id: ServerId, tree: &[Proposal]) {
        assert!(
            self.committed.len() <= tree.len() && self.committed == tree[..self.committed.len()],
            "leader {id} lacks committed proposals: it has {:?}, committed are {:?}",
            zxids(tree),
            zxids(&self.committed)
        );
    }

    fn quorum(
        &self,
        servers: &BTreeMap<ServerId, Server>,
        what: &str,
        has: impl Fn(&Server) -> bool,
    ) {
        let ensemble = &servers.values().next().expect("a server").config.ensemble;
        assert!(
            ensemble.is_quorum(|id| servers.get(&id).is_some_and(&has)),
            "{what} is not durable at a quorum"
        );
    }
}

pub fn zxids(proposals: &[Proposal]) -> Vec<Zxid> {
    proposals.iter().map(|proposal| proposal.zxid).collect()
}
