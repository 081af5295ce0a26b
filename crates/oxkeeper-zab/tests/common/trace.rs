//! A conversation in words, for the scenarios and for failing seeds.

use oxkeeper_proto::quorum::{Packet, PacketKind, ServerState};
use oxkeeper_proto::{Reader, ServerId, Zxid};
use oxkeeper_zab::Output;

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
            Output::Notify { to, notification: n } => {
                if !self.votes {
                    return None;
                }
                let state = ServerState::from_code(n.state);
                let (zxid, round) = (show(n.zxid), n.election_epoch);
                format!("-> {to}: {state:?}, for {} {zxid}, round {round}", n.leader)
            }
            Output::ConnectElection | Output::Pinged(_) => return None,
            Output::ConnectLeader(leader) => format!("follows {leader}"),
            Output::CloseLeader => "leaves its leader".to_owned(),
            Output::ToLeader(packet) => format!("-> leader: {}", self.packet(packet)?),
            Output::AdoptSnapshot(zxid) => format!("adopts the snapshot {}", show(*zxid)),
            Output::Listen => "leads".to_owned(),
            Output::StopListening => "stops leading".to_owned(),
            Output::ToLearner(link, packet) => format!("-> link {link}: {}", self.packet(packet)?),
            Output::ProposalToLearner { link, proposal, inform } => {
                let kind = if *inform { "INFORM" } else { "PROPOSAL" };
                format!("-> link {link}: {kind} {}", show(proposal.zxid))
            }
            Output::SnapshotToLearner(link) => format!("-> link {link}: the tree"),
            Output::ReadLog { link, from, .. } => {
                format!("reads its log from {} for link {link}", show(*from))
            }
            Output::CloseLearner { link, reason } => format!("closes link {link}: {reason}"),
            Output::Append(proposal) => format!("disk: append {}", show(proposal.zxid)),
            Output::SaveAcceptedEpoch(epoch) => format!("disk: acceptedEpoch {epoch}"),
            Output::PrepareCurrentEpoch(epoch) => format!("disk: announce currentEpoch {epoch}"),
            Output::SaveCurrentEpoch(epoch) => format!("disk: currentEpoch {epoch}"),
            Output::SaveSnapshot => "disk: snapshot".to_owned(),
            Output::Truncate(zxid) => format!("disk: cut behind {}", show(*zxid)),
            Output::Reload => "disk: load anew".to_owned(),
            Output::Apply(proposal) => format!("applies {}", show(proposal.zxid)),
            Output::StartServing { epoch, leading } => {
                format!("serves epoch {epoch}{}", if *leading { " as leader" } else { "" })
            }
            Output::StopServing => "stops serving".to_owned(),
            Output::SyncDone => "sync done".to_owned(),
            Output::Forwarded { link, .. } => format!("gets a request from link {link}"),
            Output::Revalidate { link, .. } => format!("revalidates for link {link}"),
            Output::Touched { link, .. } => format!("touches for link {link}"),
            Output::Revalidated(_) => "revalidated".to_owned(),
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
