//! The first message on an election connection.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_fuzz::stream;
use oxkeeper_proto::Encode;
use oxkeeper_proto::quorum::InitialMessage;

fuzz_target!(|data: &[u8]| {
    stream(data, InitialMessage::decode, |message| {
        assert!(message.addresses.len() <= 3 * InitialMessage::MAX_ADDRESSES);
        // Malformed UTF-8 is replaced by something longer, which may then be too long.
        if message.protocol < 0 && message.addresses.len() <= InitialMessage::MAX_ADDRESSES {
            let bytes = message.to_bytes();
            let (again, len) = InitialMessage::decode(&bytes).unwrap().unwrap();
            assert_eq!((&again, len), (message, bytes.len()));
        }
    });
});
