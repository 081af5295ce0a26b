//! Quotas in the model: limits are ordinary nodes, usage is counted beside (`docs/spec/client-protocol.md`
//! 14).

use std::rc::Rc;

use crate::check::model::Model;

impl Model {
    /// The longest path under quota, after `zxid`, that is `path` or above it.
    pub fn quota_of<'a>(&self, path: &'a str, zxid: i64) -> Option<&'a str> {
        if self.at("/zookeeper/quota", zxid)?.children == 0 {
            return None;
        }
        let mut above = path;
        while !above.is_empty() {
            if self.at(&limits_path(above), zxid).is_some() {
                return Some(above);
            }
            above = &above[..above.rfind('/')?];
        }
        None
    }

    /// Adds to the usage of the quota that `path` counts for.
    pub(super) fn add_usage(&mut self, zxid: i64, path: &str, count: i64, bytes: i64) {
        let Some(quota) = self.quota_of(path, i64::MAX) else { return };
        let stats = stats_path(quota);
        let Some(node) = self.get(&stats) else { return };
        let text = node.data.clone().unwrap_or_default();
        let (used, weight) = (number(&text, "count"), number(&text, "bytes"));
        self.rewrite(zxid, &stats, used + count, weight + bytes);
    }

    /// The usage node `stats` was created: it begins with what is there.
    pub(super) fn recount(&mut self, zxid: i64, stats: &str) {
        let Some(quota) = stats.strip_prefix("/zookeeper/quota") else { return };
        let quota = &quota[..quota.len() - "/zookeeper_stats".len()];
        let below = format!("{quota}/");
        let counted = |path: &str| path == quota || path.starts_with(&below);
        let nodes = self.all().filter(|(path, _)| counted(path));
        let (count, bytes) = nodes
            .fold((0, 0), |(count, bytes), (_, node)| (count + 1, bytes + node.bytes() as i64));
        self.rewrite(zxid, stats, count, bytes);
    }

    /// Changes the text of a usage node, and nothing else of it.
    fn rewrite(&mut self, zxid: i64, stats: &str, count: i64, bytes: i64) {
        let Some(mut node) = self.get(stats).cloned() else { return };
        node.data = Some(Rc::from(format!("count={count},bytes={bytes}").into_bytes()));
        self.put(zxid, stats, Some(node));
    }
}

/// Where the limits of a path stand.
pub fn limits_path(path: &str) -> String {
    format!("/zookeeper/quota{path}/zookeeper_limits")
}

/// Where the usage of a path stands.
pub fn stats_path(path: &str) -> String {
    format!("/zookeeper/quota{path}/zookeeper_stats")
}

/// A number of a limits or usage text; -1 if it has none.
pub fn number(text: &[u8], key: &str) -> i64 {
    let text = String::from_utf8_lossy(text);
    let mut pairs = text.split([',', ';']).filter_map(|pair| pair.split_once('='));
    let found = pairs.find(|(name, _)| *name == key);
    found.and_then(|(_, value)| value.trim_end_matches('=').parse().ok()).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::model::{Node, Owner, open_acl};

    #[test]
    fn usage_counts_the_quota_node_itself() {
        let mut model = Model::default();
        let mut changes = Vec::new();
        let node = Node::new(Some(b"x"), open_acl(), Owner::Nobody, 1, 0);
        let mut create = |path: &str| model.create(1, path, node.clone(), &mut changes);
        ["/q", "/zookeeper/quota/q"].into_iter().for_each(&mut create);
        create(&limits_path("/q"));
        create(&stats_path("/q"));
        create("/q/a");
        let text = model.get(&stats_path("/q")).and_then(|node| node.data.clone());
        assert_eq!(text.as_deref(), Some(&b"count=2,bytes=2"[..]));
    }
}
