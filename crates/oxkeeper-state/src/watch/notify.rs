//! From a change to notifications: steps, order and filter (10.2, 10.4).

use oxkeeper_proto::Zxid;
use oxkeeper_proto::client::{Acl, EventKind, perms};

use super::links::OfPath;
use super::{Modes, WatchTable, WatcherId, links};
use crate::acl::permits;
use crate::apply::{Change, Changes};
use crate::auth::AuthSettings;
use crate::path;

/// One step of a notification.
struct Step<'a> {
    kind: EventKind,
    /// What the notification names.
    path: &'a str,
    /// Of the node named.
    acl: &'a [Acl],
    table: Modes,
    one_shot: Modes,
}

impl WatchTable {
    /// Hands `emit` a notification per watcher concerned, in the order they must be sent, and uses up
    /// the one-shot watches.
    pub fn fire(
        &mut self,
        change: &Change<'_>,
        settings: &AuthSettings,
        emit: &mut impl FnMut(WatcherId, EventKind, &str),
    ) {
        if self.is_empty() {
            return;
        }
        let Change { kind, path, acl, parent_acl, .. } = *change;
        let data = Step { kind, path, acl, table: Modes::DATA_TABLE, one_shot: Modes::DATA };
        self.next_step();
        self.notify(path, &data, settings, emit);
        if self.recursive > 0 {
            let recursive = Step { table: Modes::RECURSIVE, one_shot: Modes::NONE, ..data };
            let mut ancestor = path;
            while let Some(parent) = path::parent(ancestor) {
                self.notify(parent, &recursive, settings, emit);
                ancestor = parent;
            }
        }
        if kind == EventKind::NodeDeleted {
            // Same step as above: who was told of the deletion is not told twice.
            let child = Step { table: Modes::CHILD_TABLE, one_shot: Modes::CHILD, ..data };
            self.notify(path, &child, settings, emit);
        }
        if kind == EventKind::NodeDataChanged {
            return;
        }
        if let (Some(acl), Some(parent)) = (parent_acl, path::parent(path)) {
            let kind = EventKind::NodeChildrenChanged;
            let table = Modes::CHILD_TABLE;
            let step = Step { kind, path: parent, acl, table, one_shot: Modes::CHILD };
            self.next_step();
            self.notify(parent, &step, settings, emit);
        }
    }

    /// From here on every watcher may be notified again.
    fn next_step(&mut self) {
        self.step += 1;
    }

    /// Notifies whoever has a watch of `step.table` at `at`, unless they were in this step.
    fn notify(
        &mut self,
        at: &str,
        step: &Step<'_>,
        settings: &AuthSettings,
        emit: &mut impl FnMut(WatcherId, EventKind, &str),
    ) {
        let Some(slot) = self.path_slot(at) else { return };
        let entry = self.paths.get(slot);
        let concerned = match step.table {
            Modes::RECURSIVE => entry.recursive,
            Modes::CHILD_TABLE => entry.child,
            _ => entry.data,
        };
        if concerned == 0 {
            return;
        }
        let mut next = entry.first;
        while next != links::NONE {
            let watch = next;
            let current = self.watches.get(watch);
            let (modes, watcher) = (current.modes, current.watcher);
            next = <OfPath as links::Chain>::links(current).next;
            if !modes.intersects(step.table) {
                continue;
            }
            let who = self.watchers.get_mut(watcher);
            let told = std::mem::replace(&mut who.notified, self.step) == self.step;
            if !told && permits(settings, step.acl, perms::READ, &who.ids) {
                emit(who.id, step.kind, step.path);
            }
            // Used up, also if the notification was suppressed or filtered.
            if modes.intersects(step.one_shot) {
                self.set_modes(watch, modes.without(step.one_shot));
            }
        }
    }
}

/// Turns the changes of a transaction that is being applied into notifications.
///
/// `sink` gets the zxid of the change, which is what the notification's header carries.
pub struct Notifier<'a, S> {
    watches: &'a mut WatchTable,
    settings: &'a AuthSettings,
    sink: S,
}

impl<'a, S: FnMut(WatcherId, Zxid, EventKind, &str)> Notifier<'a, S> {
    /// Fires `watches`; whoever may not read the node under `settings` is left out.
    pub fn new(watches: &'a mut WatchTable, settings: &'a AuthSettings, sink: S) -> Self {
        Notifier { watches, settings, sink }
    }
}

impl<S: FnMut(WatcherId, Zxid, EventKind, &str)> Changes for Notifier<'_, S> {
    fn interested(&self) -> bool {
        !self.watches.is_empty()
    }

    fn changed(&mut self, change: &Change<'_>) {
        let zxid = change.zxid;
        let sink = &mut self.sink;
        let mut emit = |watcher, kind, path: &str| sink(watcher, zxid, kind, path);
        self.watches.fire(change, self.settings, &mut emit);
    }
}
