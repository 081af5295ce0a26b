//! What happens, in words.

use oxkeeper_proto::quorum::{PacketKind, Request};
use oxkeeper_proto::{OpCode, Zxid};
use oxkeeper_zab::Output as O;

pub fn show(zxid: Zxid) -> String {
    if zxid.0 < 0 { "-".to_owned() } else { format!("{}.{}", zxid.epoch(), zxid.counter()) }
}

/// What is worth telling: the disk, and what is asked of a leader.
pub fn line(output: &O) -> Option<String> {
    Some(match output {
        O::Append(proposal) => format!("logs {}", show(proposal.zxid)),
        O::SaveSnapshot => "saves a snapshot".to_owned(),
        O::Truncate(zxid) => format!("cuts its log behind {}", show(*zxid)),
        O::Reload => "loads its tree anew".to_owned(),
        O::ToLeader(packet) => match packet.known_kind()? {
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
