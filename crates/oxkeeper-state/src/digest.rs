//! Node digests; the tree digest is their sum modulo 2^64.
//!
//! A node's digest is the CRC-32 (zip polynomial) of path, data and stat, in this order; so the
//! value after path and data can be kept, and only the stat's 60 bytes are hashed when a child
//! changes its parent. Source: `docs/spec/storage-formats.md` 9.

use oxkeeper_proto::snapshot::StatPersisted;

/// Nodes whose path starts so count 0 (`/zookeeper` itself and the root count).
const EXCLUDED: &str = "/zookeeper/";

/// Whether the node at `path` is part of the tree digest.
pub fn counts(path: &str) -> bool {
    !path.starts_with(EXCLUDED)
}

/// The digest of a node of the tree, 0 if it does not count. `path` of the root is "" or "/".
pub fn node_digest(path: &str, data: Option<&[u8]>, stat: &StatPersisted) -> u64 {
    if !counts(path) {
        return 0;
    }
    // One pass over contiguous bytes is faster than three short ones.
    let data = data.unwrap_or_default();
    let name = hashed_path(path);
    let len = name.len() + data.len() + 60;
    let mut buf = [0; 320];
    if len > buf.len() {
        return finish(prefix(path, Some(data)), stat);
    }
    buf[..name.len()].copy_from_slice(name);
    buf[name.len()..len - 60].copy_from_slice(data);
    buf[len - 60..len].copy_from_slice(&stat_bytes(stat));
    crc32fast::hash(&buf[..len]).into()
}

/// The CRC-32 of path and data, for [`finish`].
pub fn prefix(path: &str, data: Option<&[u8]>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(hashed_path(path));
    crc.update(data.unwrap_or_default());
    crc.finalize()
}

/// The digest of a node that counts, from the [`prefix`] of its path and data.
pub fn finish(prefix: u32, stat: &StatPersisted) -> u64 {
    let mut crc = crc32fast::Hasher::new_with_initial(prefix);
    crc.update(&stat_bytes(stat));
    crc.finalize().into()
}

fn hashed_path(path: &str) -> &[u8] {
    if path == "/" { b"" } else { path.as_bytes() }
}

/// The stat as it is hashed: unlike in a snapshot, pzxid comes third.
fn stat_bytes(stat: &StatPersisted) -> [u8; 60] {
    let mut bytes = [0; 60];
    let longs = [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime];
    for (slot, value) in bytes.chunks_exact_mut(8).zip(longs) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
    let ints = [stat.version, stat.cversion, stat.aversion];
    for (slot, value) in bytes[40..52].chunks_exact_mut(4).zip(ints) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
    bytes[52..].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_and_two_steps_give_the_same_digest() {
        let stat = StatPersisted { czxid: 5, pzxid: 9, aversion: -1, ..Default::default() };
        for len in [0, 1, 100, 255, 256, 257, 4000] {
            let data = vec![7; len];
            let whole = node_digest("/a/b", Some(&data), &stat);
            assert_eq!(whole, finish(prefix("/a/b", Some(&data)), &stat));
        }
    }

    #[test]
    fn the_root_has_the_empty_path_and_null_data_hash_like_empty() {
        let stat = StatPersisted::default();
        assert_eq!(node_digest("/", None, &stat), node_digest("", Some(b""), &stat));
    }

    #[test]
    fn only_nodes_below_zookeeper_are_left_out() {
        let stat = StatPersisted::default();
        assert_eq!(node_digest("/zookeeper/quota", None, &stat), 0);
        assert_ne!(node_digest("/zookeeper", None, &stat), 0);
        assert_ne!(node_digest("/zookeepers", None, &stat), 0);
    }
}
