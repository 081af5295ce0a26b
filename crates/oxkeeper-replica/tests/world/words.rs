//! What happens, in words.

use oxkeeper_proto::quorum::{PacketKind, Request};
use oxkeeper_proto::{OpCode, Zxid};
use oxkeeper_replica::Output;
use oxkeeper_zab::{DiskRequest, PortRequest};

pub fn show(zxid: Zxid) -> String {
    if zxid.0 < 0 { "-".to_owned() } else { format!("{}.{}", zxid.epoch(), zxid.counter()) }
}

/// What is worth telling: the disk, and what is asked of a leader.
pub fn line(output: &Output) -> Option<String> {
    Some(match output {
        Output::Disk(DiskRequest::Append(proposal)) => format!("logs {}", show(proposal.zxid)),
        Output::Disk(DiskRequest::SaveSnapshot) => "saves a snapshot".to_owned(),
        Output::Disk(DiskRequest::Truncate(zxid)) => format!("cuts its log behind {}", show(*zxid)),
        Output::Disk(DiskRequest::Reload) => "loads its tree anew".to_owned(),
        Output::Port(PortRequest::ToLeader(packet)) => match packet.known_kind()? {
            PacketKind::Request => {
                let data = packet.data.as_deref().unwrap_or_default();
                let op = Request::decode(data).ok().and_then(|it| OpCode::from_code(it.op))?;
                format!("asks its leader: {op:?}")
            }
            PacketKind::Revalidate => "asks its leader whether a session lives".to_owned(),
            _ => return None,
        },
        _ => return None,
    })
}
