//! Which notifications a connection must get, and when: computed from the committed history and from the
//! watches that its replies have set (`docs/spec/client-protocol.md` 10).
//!
//! The exact rule: a reply at zxid Z is preceded by every notification of Z and of what is before it, in
//! the order of the changes, and by no other.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use oxkeeper_proto::client::EventKind;

use crate::check::attempt::permits;
use crate::check::history::History;
use crate::check::model::{Change, Model, split};
use crate::clients::ops::WatchList;
use crate::violation::{Rule, Violation};

/// One-shot, set by a read of data.
pub const DATA: u8 = 1;
/// One-shot, set where no node was; the server keeps it as [`DATA`].
pub const EXIST: u8 = 2;
/// One-shot, set by a read of children.
pub const CHILD: u8 = 4;
/// Stays.
pub const PERSISTENT: u8 = 8;
/// Stays, and covers what is below.
pub const RECURSIVE: u8 = 16;

/// The bits that removeWatches and checkWatches mean by a number.
pub fn bits_of_kind(kind: i32) -> u8 {
    match kind {
        1 => CHILD,
        2 => DATA | EXIST,
        3 => 31,
        4 => PERSISTENT,
        _ => RECURSIVE,
    }
}

/// A notification: what changed, and where.
pub type Told = (EventKind, Rc<str>);

/// Watches by path.
#[derive(Clone, Debug, Default)]
pub struct Table(BTreeMap<String, u8>);

impl Table {
    fn bits(&self, path: &str) -> u8 {
        self.0.get(path).copied().unwrap_or(0)
    }

    /// Sets watches.
    pub fn add(&mut self, path: &str, bits: u8) {
        if bits != 0 {
            *self.0.entry(path.to_owned()).or_default() |= bits;
        }
    }

    /// Takes watches away; were there any?
    pub fn remove(&mut self, path: &str, bits: u8) -> bool {
        let Some(present) = self.0.get_mut(path) else { return false };
        let had = *present & bits != 0;
        *present &= !bits;
        if *present == 0 {
            self.0.remove(path);
        }
        had
    }

    /// Is one of these there?
    pub fn has(&self, path: &str, bits: u8) -> bool {
        self.bits(path) & bits != 0
    }

    /// All of them.
    pub fn list(&self) -> WatchList {
        self.0.iter().map(|(path, bits)| (path.clone(), *bits)).collect()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of the watched paths.
    pub fn nth(&self, nth: u64) -> Option<(&String, u8)> {
        let nth = nth as usize % self.0.len().max(1);
        self.0.iter().nth(nth).map(|(path, bits)| (path, *bits))
    }

    /// A client forgets the one-shot watches that a notification has used up.
    pub fn used_up(&mut self, kind: EventKind, path: &str) {
        let bits = match kind {
            EventKind::NodeChildrenChanged => CHILD,
            EventKind::NodeDeleted => DATA | EXIST | CHILD,
            EventKind::NodeCreated | EventKind::NodeDataChanged => DATA | EXIST,
        };
        self.remove(path, bits);
    }
}

/// What a connection watches, and what it must still be told.
#[derive(Debug, Default)]
pub struct Watching {
    /// Its watches at the server, as of `cursor`.
    pub table: Table,
    /// Is the client the one whom lists name?
    pub ben: bool,
    cursor: i64,
    due: VecDeque<(i64, Told)>,
    /// Told by setWatches since the last reply.
    caught_up: Vec<Told>,
}

impl Watching {
    /// A connection without watches.
    pub fn new(ben: bool) -> Watching {
        Watching { ben, ..Watching::default() }
    }

    /// Everything up to `to` has happened.
    fn advance(&mut self, history: &History, to: i64) {
        if !self.table.is_empty() {
            for txn in history.between(self.cursor, to) {
                for change in &txn.changes {
                    self.fire(txn.zxid, change);
                }
            }
        }
        self.cursor = self.cursor.max(to);
    }

    fn fire(&mut self, zxid: i64, change: &Change) {
        let path = &*change.path;
        let mut told = self.table.has(path, DATA | EXIST | PERSISTENT | RECURSIVE);
        let mut above = path;
        while !told && above.len() > 1 {
            above = split(above).0;
            told = self.table.has(above, RECURSIVE);
        }
        self.table.remove(path, DATA | EXIST);
        if change.kind == EventKind::NodeDeleted {
            told |= self.table.has(path, CHILD | PERSISTENT);
            self.table.remove(path, CHILD);
        }
        if told && permits(&change.acl, 1, self.ben) {
            self.due.push_back((zxid, (change.kind, change.path.clone())));
        }
        if change.kind == EventKind::NodeDataChanged {
            return;
        }
        let parent = split(path).0;
        let concerned = self.table.has(parent, CHILD | PERSISTENT);
        self.table.remove(parent, CHILD);
        if concerned && permits(&change.parent_acl, 1, self.ben) {
            let told = (EventKind::NodeChildrenChanged, Rc::from(parent));
            self.due.push_back((zxid, told));
        }
    }

    /// A notification has arrived; zxid -1 is one that setWatches has made.
    pub fn notified(&mut self, history: &History, zxid: i64, told: Told) -> Result<(), Violation> {
        if zxid == -1 {
            self.caught_up.push(told);
            return Ok(());
        }
        self.advance(history, zxid);
        match self.due.pop_front() {
            Some(due) if due == (zxid, told.clone()) => Ok(()),
            Some(due) => Err(Rule::Watches
                .broken(format!("told of {told:?} at {zxid:#x}, where {due:x?} was next"))),
            None => {
                Err(Rule::Watches.broken(format!("told of {told:?} at {zxid:#x}; nothing was due")))
            }
        }
    }

    /// A reply at `zxid` has arrived: all that has happened up to it was told.
    pub fn replied(&mut self, history: &History, zxid: i64) -> Result<(), Violation> {
        self.advance(history, zxid);
        match self.due.front() {
            None => Ok(()),
            Some(due) => Err(Rule::Watches
                .broken(format!("a reply at {zxid:#x} without having been told of {due:x?}"))),
        }
    }

    /// What the last reply's request itself, a setWatches, had to tell.
    pub fn caught_up(&mut self, expected: &[Told]) -> Result<(), Violation> {
        let caught_up = std::mem::take(&mut self.caught_up);
        if caught_up != expected {
            return Err(Rule::Watches.broken(format!(
                "told with zxid -1 of {caught_up:?}, where {expected:?} was right"
            )));
        }
        Ok(())
    }

    /// setWatches is executed in the state `zxid`: what it must tell. The other watches are set.
    pub fn set_again(
        &mut self,
        model: &Model,
        zxid: i64,
        seen: i64,
        list: &WatchList,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        for bit in [DATA, EXIST, CHILD, PERSISTENT, RECURSIVE] {
            for (path, _) in list.iter().filter(|(_, bits)| bits & bit != 0) {
                let missed = match (bit, model.at(path, zxid)) {
                    (DATA | CHILD, None) => Some(EventKind::NodeDeleted),
                    (DATA, Some(node)) if node.mzxid > seen => Some(EventKind::NodeDataChanged),
                    (CHILD, Some(node)) if node.pzxid > seen => {
                        Some(EventKind::NodeChildrenChanged)
                    }
                    (EXIST, Some(_)) => Some(EventKind::NodeCreated),
                    _ => None,
                };
                match missed {
                    Some(kind) => told.push((kind, Rc::from(path.as_str()))),
                    None => self.table.add(path, bit),
                }
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use oxkeeper_proto::Zxid;

    use super::*;
    use crate::check::model::open_acl;

    /// `/a` is written at 2, and deleted at 3.
    fn history() -> History {
        let change =
            |kind| Change { kind, path: Rc::from("/a"), acl: open_acl(), parent_acl: open_acl() };
        let mut history = History::default();
        history.push(Zxid(1), Vec::new());
        history.push(Zxid(2), vec![change(EventKind::NodeDataChanged)]);
        history.push(Zxid(3), vec![change(EventKind::NodeDeleted)]);
        history
    }

    fn watching(bits: u8) -> Watching {
        let mut watching = Watching::new(false);
        watching.table.add("/a", bits);
        watching
    }

    fn told(kind: EventKind) -> Told {
        (kind, Rc::from("/a"))
    }

    #[test]
    fn a_reply_that_shows_a_change_comes_behind_its_notification() {
        let history = history();
        assert!(watching(DATA).replied(&history, 1).is_ok());
        assert!(watching(DATA).replied(&history, 2).is_err());
        let mut watching = watching(DATA);
        assert!(watching.notified(&history, 2, told(EventKind::NodeDataChanged)).is_ok());
        assert!(watching.replied(&history, 3).is_ok(), "the watch is used up");
    }

    #[test]
    fn a_watch_that_stays_tells_of_everything_and_of_nothing_twice() {
        let history = history();
        let mut watching = watching(PERSISTENT);
        assert!(watching.notified(&history, 2, told(EventKind::NodeDataChanged)).is_ok());
        assert!(watching.notified(&history, 3, told(EventKind::NodeDeleted)).is_ok());
        assert!(watching.notified(&history, 3, told(EventKind::NodeDeleted)).is_err());
    }

    #[test]
    fn a_notification_at_another_zxid_or_of_another_kind_is_wrong() {
        let history = history();
        assert!(watching(DATA).notified(&history, 3, told(EventKind::NodeDataChanged)).is_err());
        assert!(watching(DATA).notified(&history, 2, told(EventKind::NodeDeleted)).is_err());
    }
}
