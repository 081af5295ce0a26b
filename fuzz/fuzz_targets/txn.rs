//! Transactions, as a leader proposes them or a log holds them: decoded, applied, and the state they
//! make written as a snapshot.
//!
//! Input: pieces, each a payload behind its length of two bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::Pieces;
use oxkeeper_proto::txn::Payload;
use oxkeeper_state::{State, Walk};

fuzz_target!(|data: &[u8]| {
    let mut pieces = Pieces(data);
    let mut state = State::new(1);
    while let Some(piece) = pieces.piece() {
        let Ok(payload) = Payload::decode(piece) else { continue };
        let mut again = Vec::new();
        payload.encode(&mut again);
        assert_eq!(Payload::decode(&again).as_ref(), Ok(&payload));
        state.apply(&payload, &mut (), data.len() % 2 == 0);
    }
    let mut walk = Walk::begin(&state);
    let mut body = Vec::new();
    walk.put_tables(&mut body);
    while !walk.step(&state, 3, 100, &mut body) {}
    walk.finish(&state);
});
