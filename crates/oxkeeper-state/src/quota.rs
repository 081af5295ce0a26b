//! Quotas: limits are ordinary nodes, usage is counted locally and never logged.
//!
//! The quota of path P lies at `/zookeeper/quota` P `/zookeeper_limits` and `/zookeeper_stats`.
//! Source: `docs/spec/client-protocol.md` 14, `docs/spec/storage-formats.md` 8.4.

use std::collections::BTreeMap;
use std::fmt;

use foldhash::quality::FixedState;
use hashbrown::HashSet;
use oxkeeper_proto::jute::decode_utf8;

use crate::state::State;

/// Above all quota nodes.
pub const QUOTA_ROOT: &str = "/zookeeper/quota";
/// Name of a limits node.
pub const LIMITS_NODE: &str = "zookeeper_limits";
/// Name of a usage node.
pub const STATS_NODE: &str = "zookeeper_stats";
/// Between the parts of a text.
const SEPARATORS: [char; 2] = [',', ';'];

/// Path of the limits node of the quota on `path`.
pub fn limits_path(path: &str) -> String {
    format!("{QUOTA_ROOT}{path}/{LIMITS_NODE}")
}

/// Path of the usage node of the quota on `path`.
pub fn stats_path(path: &str) -> String {
    format!("{QUOTA_ROOT}{path}/{STATS_NODE}")
}

/// The path under quota whose limits or usage node has this parent.
pub(crate) fn quota_path(parent: &str) -> Option<&str> {
    let path = parent.strip_prefix(QUOTA_ROOT)?;
    (path.is_empty() || path.starts_with('/')).then_some(path)
}

const COUNT_HARD: &str = "countHardLimit";
const BYTES_HARD: &str = "byteHardLimit";

/// Text of a limits or usage node. -1: no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Nodes: used, or the soft limit.
    pub count: i64,
    /// Bytes of data: used, or the soft limit.
    pub bytes: i64,
    /// All other keys of the text, hard limits among them. They are kept when usage changes.
    others: BTreeMap<Box<str>, i64>,
}

impl Track {
    /// Usage, without limits.
    pub fn usage(count: i64, bytes: i64) -> Track {
        Track { count, bytes, others: BTreeMap::new() }
    }

    /// Hard limit of nodes.
    pub fn count_hard(&self) -> i64 {
        self.others.get(COUNT_HARD).copied().unwrap_or(-1)
    }

    /// Hard limit of bytes.
    pub fn bytes_hard(&self) -> i64 {
        self.others.get(BYTES_HARD).copied().unwrap_or(-1)
    }

    /// Reads the text; `None` if it has a part without `=`, or a value that is no number. Nobody can be
    /// held to such limits: the reference fails the request.
    pub fn parse_strictly(text: &[u8]) -> Option<Track> {
        let text = decode_utf8(text);
        // Separators come in runs; only one in front leaves an empty part.
        let text = text.trim_end_matches(SEPARATORS);
        if text.starts_with(SEPARATORS) {
            return None;
        }
        let mut track = Track::usage(-1, -1);
        for pair in text.split(SEPARATORS).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=')?;
            // What follows a second `=` does not matter, but for an empty number, which is -1 then.
            let number = value.split('=').next().unwrap_or_default();
            let number = match number {
                "" if !value.trim_end_matches('=').is_empty() => -1,
                _ => number.parse().ok()?,
            };
            track.set(key, number);
        }
        Some(track)
    }

    /// Reads the text of a usage node that may hold anything. What is missing or no number is -1.
    pub fn parse(text: &[u8]) -> Track {
        let mut track = Track::usage(-1, -1);
        for pair in decode_utf8(text).split(SEPARATORS) {
            let mut parts = pair.split('=');
            if let (Some(key), Some(value)) = (parts.next(), parts.next())
                && let Ok(value) = value.parse()
            {
                track.set(key, value);
            }
        }
        track
    }

    fn set(&mut self, key: &str, value: i64) {
        match key {
            "count" => self.count = value,
            "bytes" => self.bytes = value,
            _ => {
                self.others.insert(key.into(), value);
            }
        }
    }
}

impl fmt::Display for Track {
    /// `count=1,bytes=2`, and `=;byteHardLimit=3;countHardLimit=4` if there are other keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.count, self.bytes)?;
        for (index, (key, value)) in self.others.iter().enumerate() {
            write!(f, "{};{key}={value}", if index == 0 { "=" } else { "" })?;
        }
        Ok(())
    }
}

/// The paths under quota.
#[derive(Debug)]
pub(crate) struct Quotas {
    paths: HashSet<Box<str>, FixedState>,
}

impl Quotas {
    pub(crate) fn new(seed: u64) -> Quotas {
        Quotas { paths: HashSet::with_hasher(FixedState::with_seed(seed)) }
    }

    pub(crate) fn insert(&mut self, path: &str) {
        self.paths.insert(path.into());
    }

    pub(crate) fn remove(&mut self, path: &str) {
        self.paths.remove(path);
    }

    /// The longest path under quota that is `path` or above it; never the root.
    pub(crate) fn longest<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.paths.is_empty() {
            return None;
        }
        let mut prefix = path;
        while !prefix.is_empty() {
            if self.paths.contains(prefix) {
                return Some(prefix);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
        None
    }
}

/// Counting.
impl State {
    pub(crate) fn quota_created(&mut self, path: &str, parent_path: &str, name: &str, len: usize) {
        if let Some(quota) = quota_path(parent_path) {
            match name {
                LIMITS_NODE => self.quotas.insert(quota),
                STATS_NODE => self.recount_quota(quota),
                _ => {}
            }
        }
        self.add_usage(path, 1, len as i64);
    }

    pub(crate) fn quota_deleted(&mut self, path: &str, parent_path: &str, name: &str, len: usize) {
        self.add_usage(path, -1, -(len as i64));
        if name == LIMITS_NODE
            && let Some(quota) = quota_path(parent_path)
        {
            self.quotas.remove(quota);
        }
    }

    pub(crate) fn quota_changed(&mut self, path: &str, delta: i64) {
        self.add_usage(path, 0, delta);
    }

    /// Adds to the usage of the quota that `path` counts for.
    fn add_usage(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(quota) = self.quotas.longest(path) else { return };
        let Some(node) = self.tree.lookup(&stats_path(quota)) else { return };
        let mut usage = Track::parse(self.tree.data(node).unwrap_or_default());
        usage.count = usage.count.wrapping_add(count);
        usage.bytes = usage.bytes.wrapping_add(bytes);
        // Neither stat nor digest change, and no watch fires.
        self.tree.set_data(node, Some(usage.to_string().as_bytes()));
    }

    /// Counts the subtree of a path under quota.
    fn recount_quota(&mut self, quota: &str) {
        let Some(stats) = self.tree.lookup(&stats_path(quota)) else { return };
        let (mut count, mut bytes) = (0, 0);
        if let Some(top) = self.tree.lookup(quota) {
            let mut add = |node| {
                count += 1;
                bytes += self.tree.data(node).map_or(0, <[u8]>::len) as i64;
            };
            add(top);
            self.tree.visit_below(top, add);
        }
        let usage = Track::usage(count, bytes);
        self.tree.set_data(stats, Some(usage.to_string().as_bytes()));
    }

    /// Finds all quotas and counts their usage: after a load.
    pub(crate) fn recount_quotas(&mut self) {
        let Some(top) = self.tree.lookup(QUOTA_ROOT) else { return };
        let mut found = Vec::new();
        self.tree.visit_below(top, |node| {
            if self.tree.name(node) == LIMITS_NODE {
                let parent = self.tree.parent(node).expect("the quota root is above");
                found.push(self.tree.path(parent));
            }
        });
        for parent in found {
            let quota = quota_path(&parent).expect("below the quota root");
            self.quotas.insert(quota);
            self.recount_quota(quota);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_and_written_as_the_reference_does() {
        let text = "count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3";
        let track = Track::parse_strictly(text.as_bytes()).unwrap();
        assert_eq!((track.count, track.bytes), (-1, -1));
        assert_eq!((track.count_hard(), track.bytes_hard()), (3, 10));
        assert_eq!(Track::parse(text.as_bytes()), track);
        assert_eq!(track.to_string(), text);
        assert_eq!(Track::usage(3, 5).to_string(), "count=3,bytes=5");
        assert_eq!(Track::parse(b""), Track::usage(-1, -1));
        assert_eq!(Track::parse(b"\xff,=;count=,bytes=x"), Track::usage(-1, -1));
    }

    #[test]
    fn separators_come_in_runs_and_other_keys_are_kept_in_order() {
        let strictly = |text: &str| Track::parse_strictly(text.as_bytes());
        let track = strictly("countHardLimit=9,,byteHardLimit=+40;,").unwrap();
        assert_eq!((track.count_hard(), track.bytes_hard()), (9, 40));
        let track = strictly("zoo=7,count=2=3,abc=5").unwrap();
        assert_eq!(track.to_string(), "count=2,bytes=-1=;abc=5;zoo=7");
        assert_eq!(strictly(";,"), Some(Track::usage(-1, -1)));
        assert_eq!(strictly("count==5"), Some(Track::usage(-1, -1)));
        for text in [",count=1", "count", "count=", "count==", "count=x", "count=1,bytes"] {
            assert_eq!(strictly(text), None, "{text}");
        }
    }

    #[test]
    fn the_longest_prefix_is_found_by_components() {
        let mut quotas = Quotas::new(1);
        for path in ["", "/a", "/a/b"] {
            quotas.insert(path);
        }
        assert_eq!(quotas.longest("/a/b/c"), Some("/a/b"));
        assert_eq!(quotas.longest("/a/bc"), Some("/a"));
        assert_eq!(quotas.longest("/ab"), None);
        quotas.remove("/a");
        assert_eq!(quotas.longest("/a/bc"), None);
    }
}
