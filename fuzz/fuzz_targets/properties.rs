//! The text of zoo.cfg and of dynamic configuration files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_proto::ensemble::EnsembleConfig;

#[allow(dead_code)]
#[path = "../../crates/oxkeeper-server/src/config/properties.rs"]
mod properties;

fuzz_target!(|data: &[u8]| {
    let lines = 1 + data.iter().filter(|byte| matches!(**byte, b'\n' | b'\r')).count();
    let Ok(entries) = properties::parse(data) else { return };
    let mut config = EnsembleConfig::default();
    for entry in entries {
        assert!((1..=lines).contains(&(entry.line as usize)));
        assert!(entry.key == entry.key.trim() && entry.value == entry.value.trim());
        let _ = config.set(&entry.key, &entry.value, data.len() % 2 == 0);
    }
});
