//! A conversation in words, for the scenarios and for failing seeds.

use oxkeeper_proto::quorum::{Packet, PacketKind, ServerState};
use oxkeeper_proto::{Reader, ServerId, Zxid};
use oxkeeper_zab::{DiskRequest, Effect, ElectionRequest, LogRead, Output, PortRequest};

/// Lines, if anyone wants them.
#[derive(Default)]
pub struct Trace {
    pub on: bool,
    /// Also notifications.
    pub votes: bool,
    /// Also pings and the disk's answers.
    pub verbose: bool,
    pub lines: Vec<String>,
}

pub fn show(zxid: Zxid) -> String {
    if zxid.0 < 0 {
        return "-".to_owned();
    }
    format!("{}.{}", zxid.epoch(), zxid.counter())
}

impl Trace {
    pub fn note(&mut self, line: String) {
        if self.on {
            self.lines.push(line);
        }
    }

    pub fn output(&mut self, id: ServerId, output: &Output) {
        if self.on
            && let Some(line) = self.line(output)
        {
            self.lines.push(format!("{id} {line}"));
        }
    }

    fn line(&self, output: &Output) -> Option<String> {
        Some(match output {
            Output::Election(ElectionRequest::Notify { to, notification: n }) => {
                if !self.votes {
                    return None;
                }
                let state = ServerState::from_code(n.state);
                let (zxid, round) = (show(n.zxid), n.election_epoch);
                format!("-> {to}: {state:?}, for {} {zxid}, round {round}", n.leader)
            }
            Output::Election(ElectionRequest::Connect) | Output::Replica(Effect::Pinged(_)) => {
                return None;
            }
            Output::Port(PortRequest::ConnectLeader(leader)) => format!("follows {leader}"),
            Output::Port(PortRequest::CloseLeader) => "leaves its leader".to_owned(),
            Output::Port(PortRequest::ToLeader(packet)) => {
                format!("-> leader: {}", self.packet(packet)?)
            }
            Output::Replica(Effect::AdoptSnapshot(zxid)) => {
                format!("adopts the snapshot {}", show(*zxid))
            }
            Output::Port(PortRequest::Listen) => "leads".to_owned(),
            Output::Port(PortRequest::StopListening) => "stops leading".to_owned(),
            Output::Port(PortRequest::ToLearner(link, packet)) => {
                format!("-> link {link}: {}", self.packet(packet)?)
            }
            Output::Port(PortRequest::ProposalToLearner { link, proposal, inform }) => {
                let kind = if *inform { "INFORM" } else { "PROPOSAL" };
                format!("-> link {link}: {kind} {}", show(proposal.zxid))
            }
            Output::Port(PortRequest::SnapshotToLearner(link)) => {
                format!("-> link {link}: the tree")
            }
            Output::ReadLog(LogRead { link, from, .. }) => {
                format!("reads its log from {} for link {link}", show(*from))
            }
            Output::Port(PortRequest::CloseLearner { link, reason }) => {
                format!("closes link {link}: {reason}")
            }
            Output::Disk(DiskRequest::Append(proposal)) => {
                format!("disk: append {}", show(proposal.zxid))
            }
            Output::Disk(DiskRequest::SaveAcceptedEpoch(epoch)) => {
                format!("disk: acceptedEpoch {epoch}")
            }
            Output::Disk(DiskRequest::PrepareCurrentEpoch(epoch)) => {
                format!("disk: announce currentEpoch {epoch}")
            }
            Output::Disk(DiskRequest::SaveCurrentEpoch(epoch)) => {
                format!("disk: currentEpoch {epoch}")
            }
            Output::Disk(DiskRequest::SaveSnapshot) => "disk: snapshot".to_owned(),
            Output::Disk(DiskRequest::Truncate(zxid)) => {
                format!("disk: cut behind {}", show(*zxid))
            }
            Output::Disk(DiskRequest::Reload) => "disk: load anew".to_owned(),
            Output::Replica(Effect::Apply(proposal)) => format!("applies {}", show(proposal.zxid)),
            Output::Replica(Effect::StartServing { epoch, leading }) => {
                format!("serves epoch {epoch}{}", if *leading { " as leader" } else { "" })
            }
            Output::Replica(Effect::StopServing) => "stops serving".to_owned(),
            Output::Replica(Effect::SyncDone) => "sync done".to_owned(),
            Output::Replica(Effect::Forwarded { link, .. }) => {
                format!("gets a request from link {link}")
            }
            Output::Replica(Effect::Revalidate { link, .. }) => {
                format!("revalidates for link {link}")
            }
            Output::Replica(Effect::Touched { link, .. }) => format!("touches for link {link}"),
            Output::Replica(Effect::Revalidated(_)) => "revalidated".to_owned(),
        })
    }

    fn packet(&self, packet: &Packet) -> Option<String> {
        let kind = packet.known_kind()?;
        if kind == PacketKind::Ping && !self.verbose {
            return None;
        }
        let name = format!("{kind:?}").to_uppercase();
        Some(match kind {
            PacketKind::AckEpoch => {
                let data = packet.data.as_deref().unwrap_or_default();
                let current = Reader::new(data).int().unwrap_or_default();
                format!("{name} {} current {current}", show(packet.zxid))
            }
            PacketKind::UpToDate | PacketKind::Request | PacketKind::Sync => name,
            _ => format!("{name} {}", show(packet.zxid)),
        })
    }
}
