//! The text of an ensemble's configuration, as notifications, NEWLEADER and reconfigs carry it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_proto::ensemble::EnsembleConfig;

fuzz_target!(|data: &[u8]| {
    let Ok(config) = EnsembleConfig::parse(&String::from_utf8_lossy(data)) else { return };
    for server in config.voters().collect::<Vec<_>>() {
        assert!(config.is_voter(server));
        config.weight(server);
    }
    config.is_quorum(|server| server % 2 == 0);
    config.is_quorum(|_| true);
    let text = config.to_string();
    let again = EnsembleConfig::parse(&text).expect("the canonical text is legal");
    assert!(again.same_members(&config));
    assert_eq!(again.to_string(), text);
});
