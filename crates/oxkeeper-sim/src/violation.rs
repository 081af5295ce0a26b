//! The rules by name, and how a broken one is told.

use std::fmt;

/// What must hold. The first group has the names of ZooKeeper's published TLA+ specifications
/// (`zookeeper-specifications/protocol-spec/Zab.tla`, `system-spec/ZkV3_7_0.tla` in Apache's repository).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    // ---- Zab
    /// At most one server leads in an epoch (`Leadership1`, `Leadership2`).
    Leadership,
    /// Of two servers' committed histories one is a prefix of the other.
    PrefixConsistency,
    /// What is delivered was broadcast by a leader.
    Integrity,
    /// What one server delivers the others deliver, too, and nothing else in its place.
    Agreement,
    /// All servers deliver in the same order.
    TotalOrder,
    /// The transactions of one epoch are delivered in the order in which its leader broadcast them.
    LocalPrimaryOrder,
    /// The transactions of an epoch are delivered before those of later ones.
    GlobalPrimaryOrder,
    /// A leader broadcasts only after it has delivered all that was delivered of earlier epochs.
    PrimaryIntegrity,
    /// What was committed once is in the history of every later leader (`CommittedLogDurability`).
    CommittedHistory,
    // ---- durability
    /// What a server acknowledges to its leader, or a leader counts, is durable at a quorum.
    AckedIsDurable,
    /// Epoch files only grow, and say no more than the history behind them.
    Epochs,
    // ---- clients
    /// An acknowledged write survives.
    Durability,
    /// Replies of a session in the order of its requests, with zxids that do not fall.
    Fifo,
    /// What a session reads never goes back behind what it has seen (`MonotonicRead`).
    MonotonicRead,
    /// Writes, and reads behind a sync, have one order that agrees with real time.
    Linearizability,
    /// A watch fires once, in order, before the data it announces.
    Watches,
    /// An ephemeral lives exactly as long as its session.
    Ephemerals,
    /// A session expires when its client was silent for its timeout, and not before; its id is its own.
    Sessions,
    /// A request has the effect, and only the effect, that its answer tells.
    Semantics,
    // ---- servers
    /// Equal digests and trees at equal zxids.
    Digest,
    /// A correct server is never accused of breaking the protocol, and warns of nothing.
    Accusation,
    /// Queues stay within their bounds.
    Bounds,
    /// A disk that keeps its promises loads without an error, and all of it. After damage a start gives the
    /// history as it was, says what is missing, or refuses with the name of the file: see `disk::loaded`.
    Storage,
    /// Once the faults are over, everyone serves and agrees in bounded time.
    Liveness,
    /// A production `assert!` has failed, or something has panicked.
    Assertion,
}

impl Rule {
    /// Says how it was broken.
    pub fn broken(self, what: impl Into<String>) -> Violation {
        Violation { rule: self, what: what.into() }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A broken rule. Ends the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// By whom and how, in words.
    pub what: String,
}

impl Violation {
    /// The same, with the one whom it befell.
    pub fn by(mut self, whom: impl fmt::Display) -> Violation {
        self.what = format!("{whom}: {}", self.what);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

impl std::error::Error for Violation {}
