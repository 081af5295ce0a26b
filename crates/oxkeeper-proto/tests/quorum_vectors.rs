//! Every message that Apache ZooKeeper servers sent each other in the recorded streams decodes, says
//! what it should, and encodes again to the same bytes.

#![allow(clippy::disallowed_methods, reason = "it reads recorded files, or how much to run")]
#![allow(clippy::unwrap_used, reason = "a failure to read a vector is a failure of the test")]

use std::fs;
use std::path::PathBuf;

use oxkeeper_proto::client::Acl;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::jute::put_string;
use oxkeeper_proto::quorum::{
    InitialMessage, LearnerInfo, Notification, Packet, PacketKind, Request, RevalidateReply,
    RevalidateRequest, ServerState, ack_epoch_data, decode_touches, put_payload_packet, put_touch,
};
use oxkeeper_proto::snapshot::{
    BodyDecoder, Item, SNAP_SIGNATURE, put_node, put_nodes_end, put_tables,
};
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{Decode, Encode, Epoch, Zxid};

const MAX_LEN: usize = 1 << 20;

/// One line of the index: a message and where it lies.
struct Entry {
    offset: usize,
    len: usize,
    name: String,
    /// Packet type number; none outside the quorum port's packets.
    kind: Option<i32>,
    /// zxid of a packet, state of a notification.
    detail: String,
}

struct Stream {
    name: String,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

fn streams() -> Vec<Stream> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/quorum"));
    let index = fs::read_to_string(dir.join("index.txt")).unwrap();
    let mut streams: Vec<Stream> = Vec::new();
    for line in index.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        match fields[..] {
            ["stream", name, _kind, size] => {
                let bytes = fs::read(dir.join(name)).unwrap();
                assert_eq!(bytes.len(), size.parse::<usize>().unwrap());
                streams.push(Stream { name: name.to_owned(), bytes, entries: Vec::new() });
            }
            [offset, len, name, kind, detail] => {
                let entry = Entry {
                    offset: offset.parse().unwrap(),
                    len: len.parse().unwrap(),
                    name: name.to_owned(),
                    kind: kind.parse().ok(),
                    detail: detail.to_owned(),
                };
                streams.last_mut().unwrap().entries.push(entry);
            }
            _ => panic!("index line {line:?}"),
        }
    }
    streams
}

/// Calls `check` for each message with one of these names; returns how many there were.
fn each(names: &[&str], mut check: impl FnMut(&Entry, &[u8])) -> usize {
    let mut count = 0;
    for stream in streams() {
        for entry in stream.entries.iter().filter(|entry| names.contains(&entry.name.as_str())) {
            let bytes = &stream.bytes[entry.offset..entry.offset + entry.len];
            println!("{} at {} of {}", entry.name, entry.offset, stream.name);
            check(entry, bytes);
            count += 1;
        }
    }
    assert!(count > 0, "{names:?} were recorded");
    count
}

/// Calls `check` with the data of each packet of these kinds.
fn each_data(names: &[&str], mut check: impl FnMut(&Packet, &[u8])) -> usize {
    each(names, |_, bytes| {
        let (packet, _) = Packet::decode(bytes, MAX_LEN).unwrap().unwrap();
        let data = packet.data.clone().unwrap_or_default();
        check(&packet, &data);
    })
}

/// Length and re-encoding of the message at the start of `bytes`.
fn decode_again(entry: &Entry, bytes: &[u8]) -> (usize, Vec<u8>) {
    match entry.name.as_str() {
        "InitialMessage" => {
            let (message, len) = InitialMessage::decode(bytes).unwrap().unwrap();
            (len, message.to_bytes())
        }
        "Notification" => {
            let len = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
            let notification = Notification::decode(&bytes[4..4 + len]).unwrap();
            let state = ServerState::from_code(notification.state).unwrap();
            assert_eq!(format!("{state:?}").to_uppercase(), entry.detail);
            let payload = notification.to_bytes();
            let mut again = (payload.len() as u32).to_be_bytes().to_vec();
            again.extend(payload);
            (4 + len, again)
        }
        "QuorumAuthPacket" => {
            // magic: long, status: int, token: buffer. Not ours to encode yet.
            assert_eq!(bytes[..8], [0x5f, 0x24, 0x35, 0x01, 0x35, 0x01, 0xed, 0xcc]);
            let len = u32::from_be_bytes(bytes[12..16].try_into().unwrap()) as usize;
            (16 + len, bytes[..16 + len].to_vec())
        }
        "SNAPSHOT-STREAM" => copy_snapshot(bytes),
        _ => {
            let (packet, len) = Packet::decode(bytes, MAX_LEN).unwrap().unwrap();
            assert_eq!(Some(packet.kind), entry.kind);
            let kind = packet.known_kind().unwrap();
            assert_eq!(format!("{kind:?}").to_uppercase(), entry.name);
            let zxid = match entry.detail.as_str() {
                "-0x1" | "-1" | "0xffffffffffffffff" => -1,
                hex => i64::from_str_radix(hex.trim_start_matches("0x"), 16).unwrap(),
            };
            assert_eq!(packet.zxid, Zxid(zxid));
            (len, packet.to_bytes())
        }
    }
}

/// Decodes a snapshot stream with its signature and writes it again from its items.
fn copy_snapshot(bytes: &[u8]) -> (usize, Vec<u8>) {
    let mut decoder = BodyDecoder::new(MAX_LEN);
    let mut sessions: Vec<(i64, i32)> = Vec::new();
    let mut acls: Vec<(i64, Vec<Acl>)> = Vec::new();
    let (mut nodes, mut used) = (Vec::new(), 0);
    loop {
        let (item, len) = decoder.next(&bytes[used..]).unwrap().expect("a whole item");
        used += len;
        match item {
            Item::SessionCount(_) | Item::AclCount(_) => {}
            Item::Session(id, timeout_ms) => sessions.push((id, timeout_ms)),
            Item::Acl(id, acl) => acls.push((id, acl)),
            Item::Node(node) => put_node(&mut nodes, &node.path, node.data, node.acl, &node.stat),
            Item::End => break,
        }
    }
    let mut again = Vec::new();
    put_tables(&mut again, sessions.into_iter(), acls.iter().map(|(id, acl)| (*id, &acl[..])));
    again.extend(nodes);
    put_nodes_end(&mut again);
    put_string(&mut again, SNAP_SIGNATURE);
    (used + 4 + SNAP_SIGNATURE.len(), again)
}

#[test]
fn every_stream_decodes_without_remainder_and_encodes_to_the_same_bytes() {
    let mut messages = 0;
    for stream in streams() {
        let mut position = 0;
        for entry in &stream.entries {
            assert_eq!(entry.offset, position, "{}", stream.name);
            let (len, again) = decode_again(entry, &stream.bytes[position..]);
            let place = format!("{} at {position} of {}", entry.name, stream.name);
            assert_eq!(len, entry.len, "{place}");
            assert_eq!(again, &stream.bytes[position..position + len], "{place}");
            position += len;
            messages += 1;
        }
        assert_eq!(position, stream.bytes.len(), "no remainder in {}", stream.name);
    }
    assert!(messages > 1000);
}

#[test]
fn no_message_decodes_from_less_than_all_of_its_bytes() {
    let names = ["FOLLOWERINFO", "PROPOSAL", "REQUEST", "PING", "NEWLEADER", "UPTODATE"];
    each(&names, |entry, bytes| {
        for end in 0..entry.len {
            assert_eq!(Packet::decode(&bytes[..end], MAX_LEN), Ok(None));
        }
    });
    each(&["InitialMessage"], |entry, bytes| {
        for end in 0..entry.len {
            assert_eq!(InitialMessage::decode(&bytes[..end]), Ok(None));
        }
    });
}

#[test]
fn learner_infos_and_epoch_acks_round_trip() {
    each_data(&["FOLLOWERINFO", "OBSERVERINFO"], |_, data| {
        let info = LearnerInfo::from_bytes(data).unwrap();
        assert!((1..=4).contains(&info.server));
        assert_eq!(info.to_bytes(), data);
    });
    each_data(&["ACKEPOCH"], |_, data| {
        let current = i32::from_be_bytes(data.try_into().unwrap());
        let current = (current != -1).then_some(current as Epoch);
        assert_eq!(ack_epoch_data(current), data);
    });
}

#[test]
fn requests_and_revalidations_round_trip() {
    each_data(&["REQUEST"], |_, data| {
        let mut again = Vec::new();
        Request::decode(data).unwrap().encode(&mut again);
        assert_eq!(again, data);
    });
    each_data(&["REVALIDATE"], |_, data| match data.len() {
        12 => assert_eq!(RevalidateRequest::from_bytes(data).unwrap().to_bytes(), data),
        9 => assert_eq!(RevalidateReply::from_bytes(data).unwrap().to_bytes(), data),
        other => panic!("a REVALIDATE of {other} bytes"),
    });
}

#[test]
fn touches_of_pings_round_trip() {
    let mut touched = 0;
    each_data(&["PING"], |_, data| {
        let mut again = Vec::new();
        for (session, timeout_ms) in decode_touches(data) {
            put_touch(&mut again, session, timeout_ms);
            touched += 1;
        }
        assert_eq!(again, data);
    });
    assert!(touched > 0);
}

#[test]
fn payloads_of_proposals_round_trip_and_carry_the_zxid_of_their_packet() {
    let check = |packet: &Packet, payload: &[u8]| {
        let decoded = Payload::decode(payload).unwrap();
        assert_eq!(Zxid(decoded.header.zxid), packet.zxid);
        let mut again = Vec::new();
        decoded.encode(&mut again);
        assert_eq!(again, payload);
    };
    each_data(&["PROPOSAL", "INFORM"], |packet, data| {
        check(packet, data);
        let mut whole = Vec::new();
        put_payload_packet(&mut whole, packet.known_kind().unwrap(), packet.zxid, data);
        assert_eq!(whole, packet.to_bytes());
    });
    // Behind the designated leader.
    each_data(&["INFORMANDACTIVATE"], |packet, data| check(packet, &data[8..]));
}

#[test]
fn configurations_are_in_canonical_form() {
    let check = |text: &[u8]| {
        let text = std::str::from_utf8(text).unwrap();
        assert_eq!(EnsembleConfig::parse(text).unwrap().to_string(), text);
    };
    each_data(&["NEWLEADER"], |_, data| check(data));
    each(&["Notification"], |_, bytes| {
        let notification = Notification::decode(&bytes[4..]).unwrap();
        check(&notification.config.unwrap());
    });
}

#[test]
fn all_packet_types_were_recorded() {
    for kind in (1..=19).map(|code| PacketKind::from_code(code).unwrap()) {
        each(&[&format!("{kind:?}").to_uppercase()], |_, _| {});
    }
}
