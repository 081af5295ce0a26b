//! How far the log and the tree have come.

use oxkeeper_proto::Zxid;

/// `flushed <= appended` and `applied <= appended`, always. A commit may be applied before this server's
/// own disk has it: others make up the quorum.
#[derive(Clone, Copy, Debug, Hash)]
pub struct Watermarks {
    /// Last zxid given to `Append`.
    appended: Zxid,
    flushed: Zxid,
    applied: Zxid,
}

impl Watermarks {
    /// Log and tree end here, and all is durable, or the whole tree was replaced.
    pub fn at(zxid: Zxid) -> Watermarks {
        Watermarks { appended: zxid, flushed: zxid, applied: zxid }
    }

    /// Last zxid known durable.
    pub fn flushed(&self) -> Zxid {
        self.flushed
    }

    /// zxid of the last transaction given to `Apply` (or `epoch << 32` of a leader that serves, or the
    /// zxid of an adopted snapshot).
    pub fn applied(&self) -> Zxid {
        self.applied
    }

    /// Is everything appended durable?
    pub fn all_flushed(&self) -> bool {
        self.appended == self.flushed
    }

    /// The log grows.
    pub fn append(&mut self, zxid: Zxid) {
        assert!(self.appended < zxid, "the log grows in zxid order: {zxid} after {self:?}");
        self.appended = zxid;
    }

    /// Everything up to here is durable.
    pub fn flush(&mut self, zxid: Zxid) {
        self.flushed = self.flushed.max(zxid);
        self.check();
    }

    /// The tree takes a transaction that the log has.
    pub fn apply(&mut self, zxid: Zxid) {
        assert!(self.applied < zxid, "each transaction is applied once: {zxid} after {self:?}");
        self.applied = zxid;
        self.check();
    }

    /// The tree takes a transaction that a snapshot will make durable instead of the log.
    pub fn apply_unlogged(&mut self, zxid: Zxid) {
        assert!(self.applied < zxid && self.all_flushed(), "the log is not in use: {self:?}");
        *self = Watermarks::at(zxid);
    }

    /// A leader begins to serve: everything of earlier epochs is here.
    pub fn begin_epoch(&mut self, start: Zxid) {
        assert!(self.all_flushed() && self.appended <= start, "nothing was proposed: {self:?}");
        *self = Watermarks::at(start);
    }

    fn check(&self) {
        assert!(self.flushed <= self.appended, "the disk has only what it was given: {self:?}");
        assert!(self.applied <= self.appended, "the tree has only what the log has: {self:?}");
    }
}
