//! A snapshot body, as the leader streams it, into a state; then the state is used.
//!
//! Input: one byte, how many bytes arrive at once; then the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::Pieces;
use oxkeeper_proto::Zxid;
use oxkeeper_proto::snapshot::BodyDecoder;
use oxkeeper_proto::txn::{Payload, Txn, TxnHeader};
use oxkeeper_state::{Options, State, StateLoader, Walk};

const MAX_LEN: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut pieces = Pieces(data);
    let step = 1 + 8 * usize::from(pieces.byte());
    if let Some(state) = load(pieces.0, step) {
        use_it(state);
    }
});

fn load(bytes: &[u8], step: usize) -> Option<State> {
    let mut loader = StateLoader::new(1, Options::default());
    let mut decoder = BodyDecoder::new(MAX_LEN);
    let (mut start, mut end) = (0, 0);
    loop {
        let Some((item, len)) = decoder.next(&bytes[start..end]).ok()? else {
            if end == bytes.len() {
                return None;
            }
            end = bytes.len().min(end + step);
            continue;
        };
        assert!(len <= end - start);
        start += len;
        if item.give(&mut loader).ok()? {
            return loader.finish(Zxid(1)).ok();
        }
    }
}

fn use_it(mut state: State) {
    for session in state.sessions_with_ephemerals().map(|(id, _)| id).collect::<Vec<_>>() {
        let header = TxnHeader { client_id: session, cxid: 0, zxid: 2, time_ms: 3, kind: -11 };
        let txn = Txn::CloseSession { paths: None };
        state.apply(&Payload { header, txn, digest: None }, &mut (), true);
    }
    assert_eq!(state.ephemerals_count(), 0, "sessions took their nodes with them");
    state.set_config_node(b"version=0", 0, 0, &mut ());
    let mut walk = Walk::begin(&state);
    let mut body = Vec::new();
    walk.put_tables(&mut body);
    while !walk.step(&state, 3, 100, &mut body) {}
    walk.finish(&state);
}
