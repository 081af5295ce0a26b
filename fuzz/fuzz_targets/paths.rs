//! Legality and splitting of znode paths.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oxkeeper_state::path;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    path::is_protected(&text);
    let (valid, parent) = (path::is_valid(&text), path::parent(&text));
    let split = path::split(&text);
    if valid && text != "/" {
        let (above, name) = split.expect("a legal path below the root has a parent and a name");
        assert!(path::is_valid(above) && !name.is_empty());
        assert_eq!(parent, Some(above));
        assert!(!path::has_nul(&text));
    }
});
