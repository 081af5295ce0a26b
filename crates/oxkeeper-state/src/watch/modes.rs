//! Modes of a watch, and the kinds by which clients ask for them.

use std::ops::BitOr;

/// A set of watch modes, of both tables (10.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Modes(u8);

impl Modes {
    /// No watch.
    pub const NONE: Modes = Modes(0);
    /// Data table, one-shot: set by getData and exists.
    pub const DATA: Modes = Modes(1);
    /// Child table, one-shot: set by getChildren.
    pub const CHILD: Modes = Modes(2);
    /// Both tables, until removed: addWatch mode 0. Consists of [`Modes::DATA_PERSISTENT`] and
    /// [`Modes::CHILD_PERSISTENT`].
    pub const PERSISTENT: Modes = Modes(4 | 8);
    /// The part of a persistent watch that is in the data table.
    pub const DATA_PERSISTENT: Modes = Modes(4);
    /// The part of a persistent watch that is in the child table.
    pub const CHILD_PERSISTENT: Modes = Modes(8);
    /// Data table, the node and all below it, until removed: addWatch mode 1.
    pub const RECURSIVE: Modes = Modes(16);

    /// All modes of the data table.
    pub const DATA_TABLE: Modes = Modes(1 | 4 | 16);
    /// All modes of the child table.
    pub const CHILD_TABLE: Modes = Modes(2 | 8);
    /// Every mode.
    pub const ALL: Modes = Modes(31);

    /// Is any of `others` among these?
    pub fn intersects(self, others: Modes) -> bool {
        self.0 & others.0 != 0
    }

    /// These, except `others`.
    pub fn without(self, others: Modes) -> Modes {
        Modes(self.0 & !others.0)
    }
}

impl BitOr for Modes {
    type Output = Modes;
    fn bitor(self, others: Modes) -> Modes {
        Modes(self.0 | others.0)
    }
}

/// What checkWatches and removeWatches look at (10.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// Type 1: one-shot child watches.
    Children,
    /// Type 2: one-shot data watches.
    Data,
    /// Type 3: all.
    Any,
    /// Type 4: persistent watches.
    Persistent,
    /// Type 5: persistent recursive watches.
    Recursive,
}

impl WatchKind {
    /// The kind with this number on the wire.
    pub fn from_code(code: i32) -> Option<WatchKind> {
        Some(match code {
            1 => WatchKind::Children,
            2 => WatchKind::Data,
            3 => WatchKind::Any,
            4 => WatchKind::Persistent,
            5 => WatchKind::Recursive,
            _ => return None,
        })
    }

    pub(super) fn checked(self) -> Modes {
        match self {
            WatchKind::Persistent => Modes::DATA_PERSISTENT,
            other => other.removed(),
        }
    }

    pub(super) fn removed(self) -> Modes {
        match self {
            WatchKind::Children => Modes::CHILD,
            WatchKind::Data => Modes::DATA,
            WatchKind::Any => Modes::ALL,
            WatchKind::Persistent => Modes::PERSISTENT,
            WatchKind::Recursive => Modes::RECURSIVE,
        }
    }
}
