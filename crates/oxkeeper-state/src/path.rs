//! Which paths are legal, and how they split.
//!
//! Source: `docs/spec/client-protocol.md` 7.5. Legality is defined on UTF-16 units, so every character
//! beyond U+FFFF (two surrogates) is illegal.

/// The four nodes that no client may delete.
const PROTECTED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"];

/// The full check, for paths that a write names: absolute, no empty, `.` or `..` component, no
/// trailing slash, no forbidden character.
pub fn is_valid(path: &str) -> bool {
    match path.strip_prefix('/') {
        None => false,
        Some("") => true,
        Some(rest) => rest.split('/').all(is_valid_name),
    }
}

fn is_valid_name(name: &str) -> bool {
    if name.is_empty() || name == "." || name == ".." {
        return false;
    }
    // Nearly all names are printable ASCII.
    name.bytes().all(|byte| (0x20..0x7f).contains(&byte)) || name.chars().all(is_valid_char)
}

fn is_valid_char(c: char) -> bool {
    !matches!(
        c,
        '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{fff0}'..='\u{ffff}'
            | '\u{10000}'..
    )
}

/// Does the path hold a NUL? It is all that `exists` refuses.
pub fn has_nul(path: &str) -> bool {
    path.as_bytes().contains(&0)
}

/// Is this one of the built-in nodes that cannot be deleted (7.6)?
pub fn is_protected(path: &str) -> bool {
    PROTECTED.contains(&path)
}

/// The part before the last slash, "/" for a top-level node, and the name behind it. `None` fails the
/// weak check: no slash at all, or a NUL.
pub fn split(path: &str) -> Option<(&str, &str)> {
    if has_nul(path) {
        return None;
    }
    let (parent, name) = path.rsplit_once('/')?;
    Some((if parent.is_empty() { "/" } else { parent }, name))
}

/// The parent of a legal path; `None` for the root.
pub fn parent(path: &str) -> Option<&str> {
    match path.rfind('/') {
        Some(0) if path.len() > 1 => Some("/"),
        Some(0) | None => None,
        Some(slash) => Some(&path[..slash]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_paths_pass() {
        for path in ["/", "/a", "/a/b", "/é", "/a/...", "/.a", "/a b", "/\u{d7ff}", "/\u{ffef}"] {
            assert!(is_valid(path), "{path:?}");
        }
    }

    #[test]
    fn illegal_paths_fail() {
        for path in [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/..",
            "/a\0",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{fffd}",
        ] {
            assert!(!is_valid(path), "{path:?}");
        }
    }

    #[test]
    fn trap_29_paths_are_judged_in_utf16_units() {
        assert!(!is_valid("/\u{1f600}"), "an emoji is two surrogates");
        assert!(!is_valid("/\u{e123}"), "private use");
        assert!(is_valid("/é"));
    }

    #[test]
    fn a_path_splits_at_its_last_slash() {
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/"), Some(("/a", "")));
        assert_eq!(split("abc/d"), Some(("abc", "d")));
        assert_eq!(split("abc"), None);
        assert_eq!(split("/a\0"), None);
        assert_eq!(parent("/"), None);
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/a/b"), Some("/a"));
    }

    #[test]
    fn only_the_four_built_in_nodes_are_protected() {
        assert!(is_protected("/zookeeper/config"));
        assert!(!is_protected("/zookeeper/quota/a"));
    }
}
