//! The packets of the quorum port, and what they carry.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::stream;
use oxkeeper_proto::quorum::{
    LearnerInfo, Packet, PacketKind, Request, RevalidateReply, RevalidateRequest, decode_touches,
};
use oxkeeper_proto::txn::{Payload, payload_zxid};
use oxkeeper_proto::{Decode, Encode, Zxid};
use oxkeeper_state::prepare::parses;

const MAX_LEN: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    stream(
        data,
        |buf| Packet::decode(buf, MAX_LEN),
        |packet| {
            let bytes = packet.to_bytes();
            assert_eq!(Packet::decode(&bytes, MAX_LEN).unwrap().unwrap().0, *packet);
            look_into(packet);
        },
    );
});

fn look_into(packet: &Packet) {
    let data = packet.data.as_deref().unwrap_or_default();
    match packet.known_kind() {
        Some(PacketKind::Request) => {
            let Ok(request) = Request::decode(data) else { return };
            let mut again = Vec::new();
            request.encode(&mut again);
            assert_eq!(again, data);
            parses(request.op, request.body);
        }
        Some(PacketKind::Proposal | PacketKind::Inform) => {
            if let Ok(payload) = Payload::decode(data) {
                assert_eq!(payload_zxid(data), Ok(Zxid(payload.header.zxid)));
            }
        }
        Some(PacketKind::FollowerInfo | PacketKind::ObserverInfo) => {
            let _ = LearnerInfo::from_bytes(data);
        }
        Some(PacketKind::Revalidate) => {
            let _ = (RevalidateRequest::from_bytes(data), RevalidateReply::from_bytes(data));
        }
        Some(PacketKind::Ping) => assert_eq!(decode_touches(data).count(), data.len() / 12),
        _ => {}
    }
}
