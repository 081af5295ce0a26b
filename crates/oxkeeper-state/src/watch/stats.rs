//! What operators see of the watches (`wchs`, `wchc`, `wchp`): data and exists watches, persistent
//! ones included; child watches are not counted, as in the reference.

use std::collections::BTreeMap;

use super::links::OfPath;
use super::{Modes, NULL_PATH, WatchTable, WatcherId};

/// The figures of `wchs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchSummary {
    /// Connections with a watch.
    pub connections: usize,
    /// Paths with a watch.
    pub paths: usize,
    /// Watches.
    pub total: usize,
}

impl WatchTable {
    /// The figures of `wchs`. Looks at every watch.
    pub fn summary(&self) -> WatchSummary {
        let by_watcher = self.by_watcher();
        WatchSummary {
            connections: by_watcher.len(),
            paths: self.paths.iter().filter(|path| path.data > 0).count(),
            total: by_watcher.values().map(Vec::len).sum(),
        }
    }

    /// Watched paths and their watchers (`wchp`). The null path is printed as the reference prints it.
    pub fn by_path(&self) -> BTreeMap<&str, Vec<WatcherId>> {
        let mut paths = BTreeMap::new();
        for path in self.paths.iter().filter(|path| path.data > 0) {
            let mut watchers: Vec<_> = self
                .chain::<OfPath>(path.first)
                .map(|watch| self.watches.get(watch))
                .filter(|watch| watch.modes.intersects(Modes::DATA_TABLE))
                .map(|watch| self.watchers.get(watch.watcher).id)
                .collect();
            watchers.sort_unstable();
            let path = if *path.path == *NULL_PATH { "null" } else { &*path.path };
            paths.insert(path, watchers);
        }
        paths
    }

    /// Watchers and their watched paths (`wchc`).
    pub fn by_watcher(&self) -> BTreeMap<WatcherId, Vec<&str>> {
        let mut watchers = BTreeMap::<_, Vec<_>>::new();
        for (path, ids) in self.by_path() {
            for id in ids {
                watchers.entry(id).or_default().push(path);
            }
        }
        watchers
    }

    /// Watches of both tables, for the `watch_count` metric: a persistent watch counts in each.
    pub fn watch_count(&self) -> usize {
        self.paths.iter().map(|path| path.data as usize + path.child as usize).sum()
    }
}
