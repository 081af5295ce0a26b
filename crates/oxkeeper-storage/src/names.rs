//! File names and what they say. Source: `docs/spec/storage-formats.md` 1.

use oxkeeper_proto::Zxid;

use crate::acknowledged::ACKNOWLEDGED;
use crate::adoption::ADOPTING;
use crate::container::Compression;
use crate::seams::SEAMS;

/// Beginning of the names of unfinished files. No reader, ours or Apache's, looks at them.
pub const TEMPORARY: &str = "tmp-";
/// Beginning of the name of an unfinished snapshot of a state that came from the leader.
pub const TEMPORARY_ADOPTED: &str = "tmp-adopted-";
/// Beginning of the names of bytes that were cut from a damaged log. No reader looks at them.
pub const DAMAGED: &str = "damaged.";

/// Whether Apache's servers have such a file: not what is only prepared, nor the small files of our own.
pub fn is_common(name: &str) -> bool {
    !name.starts_with(TEMPORARY) && ![ACKNOWLEDGED, SEAMS, ADOPTING].contains(&name)
}

/// Name of the log whose first record is `first`.
pub fn log(first: Zxid) -> String {
    format!("log.{:x}", first.0)
}

/// Name of the snapshot of the state after `zxid`.
pub fn snapshot(zxid: Zxid, compression: Compression) -> String {
    format!("snapshot.{:x}{}", zxid.0, compression.extension())
}

/// Name of what stood in `log` from `offset` on, behind a hole.
pub fn damaged(log: &str, offset: u64) -> String {
    format!("{DAMAGED}{log}.{offset}")
}

/// The zxid in a log's name, or `None` if the name is not a log's.
pub fn log_zxid(name: &str) -> Option<Zxid> {
    zxid_after(name, "log")
}

/// The zxid in a snapshot's name, or `None` if the name is not a snapshot's.
pub fn snapshot_zxid(name: &str) -> Option<Zxid> {
    zxid_after(name, "snapshot")
}

/// The hexadecimal number between the first and the second dot, if `prefix` stands before the
/// first. So `snapshot.31.gz.tmp` is a snapshot of 0x31, as in Apache.
fn zxid_after(name: &str, prefix: &str) -> Option<Zxid> {
    let digits = name.strip_prefix(prefix)?.strip_prefix('.')?.split('.').next()?;
    // `from_str_radix` also takes a sign, which no writer makes.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    i64::from_str_radix(digits, 16).ok().map(Zxid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_the_zxid_in_lower_hex_without_leading_zeros() {
        assert_eq!(log(Zxid(0x1_0000_001b)), "log.10000001b");
        assert_eq!(snapshot(Zxid(0), Compression::None), "snapshot.0");
        assert_eq!(snapshot(Zxid(0x31), Compression::Gzip), "snapshot.31.gz");
        assert_eq!(log_zxid("log.10000001b"), Some(Zxid(0x1_0000_001b)));
        assert_eq!(snapshot_zxid("snapshot.31.gz.tmp"), Some(Zxid(0x31)));
    }

    #[test]
    fn other_names_are_ignored() {
        for name in ["log", "log.", "log.xyz", "log.-1", "logs.1", "snapshot.1", "log.+1", ""] {
            assert_eq!(log_zxid(name), None, "{name}");
        }
        assert_eq!(log_zxid("log.ffffffffffffffffff"), None);
        assert_eq!(snapshot_zxid("tmp-snapshot.1"), None);
        assert_eq!(log_zxid(&damaged("log.1", 16)), None);
    }
}
