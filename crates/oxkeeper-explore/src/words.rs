//! What is sent, in words.

use oxkeeper_proto::quorum::{Packet, PacketKind, ServerState};
use oxkeeper_proto::{Reader, ServerId};
use oxkeeper_zab::{Effect, ElectionRequest, Output, PortRequest};

use crate::disk::{Request, Txn, short};
use crate::server::Message;

/// A packet, as the protocol names it.
pub fn packet(packet: &Packet) -> String {
    let Some(kind) = packet.known_kind() else { return format!("packet {}", packet.kind) };
    let name = format!("{kind:?}").to_uppercase();
    match kind {
        PacketKind::AckEpoch => {
            let data = packet.data.as_deref().unwrap_or_default();
            let current = Reader::new(data).int().unwrap_or_default();
            format!("{name} {} of epoch {current}", short(packet.zxid))
        }
        PacketKind::UpToDate => name,
        _ => format!("{name} {}", short(packet.zxid)),
    }
}

/// What a link carries.
pub fn message(message: &Message) -> String {
    match message {
        Message::Packet(it) => packet(it),
        Message::Tree(tree) => format!("the tree {tree:?}"),
        Message::Closed => "the end of the connection".to_owned(),
    }
}

/// An output, if it is worth a line.
pub fn output(id: ServerId, output: &Output) -> Option<String> {
    let line = match output {
        Output::Election(ElectionRequest::Notify { to, notification: n }) => {
            let state = ServerState::from_code(n.state)?;
            let (zxid, round) = (short(n.zxid), n.election_epoch);
            format!("tells {to}: {state:?}, for {} at {zxid}, round {round}", n.leader)
        }
        Output::Election(ElectionRequest::Connect) => return None,
        Output::Port(PortRequest::ConnectLeader(leader)) => format!("follows {leader}"),
        Output::Port(PortRequest::CloseLeader) => "leaves its leader".to_owned(),
        Output::Port(PortRequest::ToLeader(it)) => format!("-> leader: {}", packet(it)),
        Output::Port(PortRequest::Listen) => "leads".to_owned(),
        Output::Port(PortRequest::StopListening) => "stops leading".to_owned(),
        Output::Port(PortRequest::ToLearner(link, it)) => {
            format!("-> {}: {}", learner_of(*link), packet(it))
        }
        Output::Port(PortRequest::ProposalToLearner { link, proposal, .. }) => {
            format!("-> {}: PROPOSAL {:?}", learner_of(*link), Txn::of(proposal))
        }
        Output::Port(PortRequest::SnapshotToLearner(link)) => {
            format!("-> {}: the tree", learner_of(*link))
        }
        Output::Port(PortRequest::CloseLearner { link, reason }) => {
            format!("closes the link of {}: {reason}", learner_of(*link))
        }
        Output::Disk(request) => format!("asks its disk: {}", Request::from(request)),
        Output::ReadLog(read) => format!("reads its log from {}", short(read.from)),
        Output::Replica(Effect::Apply(proposal)) => format!("applies {:?}", Txn::of(proposal)),
        Output::Replica(Effect::AdoptSnapshot(zxid)) => {
            format!("adopts the tree at {}", short(*zxid))
        }
        Output::Replica(Effect::StartServing { epoch, leading }) => {
            format!("serves epoch {epoch}{}", if *leading { " as leader" } else { "" })
        }
        Output::Replica(Effect::StopServing) => "stops serving".to_owned(),
        Output::Replica(_) => return None,
    };
    Some(format!("{id} {line}"))
}

/// Links are numbered by who connects ([`crate::world`]).
fn learner_of(link: u64) -> u64 {
    link % 10
}
