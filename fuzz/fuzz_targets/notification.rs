//! The payload of one frame of the election port.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_proto::Encode;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::quorum::{Notification, ServerState};

fuzz_target!(|data: &[u8]| {
    let Ok(notification) = Notification::decode(data) else { return };
    let _ = ServerState::from_code(notification.state);
    if let Some(text) = &notification.config {
        let _ = EnsembleConfig::parse(&String::from_utf8_lossy(text));
    }
    if notification.version >= 2 {
        let again = Notification::decode(&notification.to_bytes()).unwrap();
        let config = Some(notification.config.clone().unwrap_or_default());
        assert_eq!(again, Notification { config, ..notification });
    }
});
