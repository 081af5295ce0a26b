//! Requests as clients send them, or learners forward them, to a leader: what is prepared can be
//! read, applied and answered, and has the digest that was predicted.
//!
//! Input: one byte, how many transactions are proposed before one is applied; then pieces: operation
//! (4 bytes), session (1 byte), time (1 byte), and the request record behind its length of two bytes.
#![no_main]

use std::collections::VecDeque;

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::Pieces;
use oxkeeper_proto::client::Id;
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{OpCode, Zxid};
use oxkeeper_state::prepare::{
    Prepare, PrepareSettings, Prepared, WriteRequest, containers_to_reap, parses,
};
use oxkeeper_state::reply::put_reply;
use oxkeeper_state::{State, StateLoader, Walk};

fuzz_target!(|data: &[u8]| {
    let mut pieces = Pieces(data);
    let mode = pieces.byte();
    let settings = PrepareSettings {
        extended_types: mode & 0x10 == 0,
        enforce_quota: mode & 0x20 == 0,
        multi_create2_as_create: mode & 0x40 != 0,
        ..PrepareSettings::default()
    };
    let mut state = State::new(1);
    let mut prepare = Prepare::new(&state, settings);
    let ids = [Id::new("ip", "127.0.0.1"), Id::new("digest", "a:b")];
    let (mut proposed, mut zxid) = (VecDeque::new(), 0);
    while !pieces.0.is_empty() {
        let op = pieces.int();
        let (session, time) = (pieces.byte(), pieces.byte());
        let Some(body) = pieces.piece() else { break };
        let request = WriteRequest {
            session: session.into(),
            cxid: zxid as i32,
            op,
            body,
            ids: &ids,
            zxid: Zxid(zxid + 1),
            time_ms: i64::from(time) << 8,
        };
        match prepare.prepare(&state, &request) {
            Prepared::Txn(payload) => {
                assert!(op != OpCode::Sync.code() && parses(op, body));
                zxid += 1;
                proposed.push_back((op, payload));
            }
            Prepared::Refused(_) => {}
        }
        while proposed.len() > usize::from(mode & 7) {
            apply_oldest(&mut state, &mut prepare, &mut proposed);
        }
    }
    while !proposed.is_empty() {
        apply_oldest(&mut state, &mut prepare, &mut proposed);
    }
    let _ = containers_to_reap(&state, 1 << 40, 1, true);
    reload(&state);
});

fn apply_oldest(state: &mut State, prepare: &mut Prepare, proposed: &mut VecDeque<(i32, Vec<u8>)>) {
    let Some((op, bytes)) = proposed.pop_front() else { return };
    let payload = Payload::decode(&bytes).expect("what was prepared can be read");
    let mut again = Vec::new();
    payload.encode(&mut again);
    assert_eq!(again, bytes);
    let outcome = state.apply(&payload, &mut (), true);
    assert_eq!(state.last_digest_mismatch(), None, "{payload:?}");
    prepare.applied(Zxid(payload.header.zxid));
    put_reply(&mut Vec::new(), 1, state.last_zxid(), op, &outcome);
}

/// A snapshot of the state loads, and is the same state.
fn reload(state: &State) {
    use oxkeeper_proto::snapshot::BodyDecoder;
    let mut walk = Walk::begin(state);
    let mut body = Vec::new();
    walk.put_tables(&mut body);
    while !walk.step(state, 7, 1000, &mut body) {}
    let mut loader = StateLoader::new(2, oxkeeper_state::Options::default());
    let (mut decoder, mut used) = (BodyDecoder::new(body.len()), 0);
    loop {
        let (item, len) = decoder.next(&body[used..]).unwrap().expect("the body is complete");
        used += len;
        if item.give(&mut loader).expect("nodes have parents") {
            break;
        }
    }
    assert_eq!(used, body.len());
    let loaded = loader.finish(walk.zxid()).expect("the snapshot is complete");
    assert_eq!(loaded.digest(), state.digest());
    assert!(loaded.sessions().eq(state.sessions()));
    assert_eq!(loaded.ephemerals_count(), state.ephemerals_count());
}
