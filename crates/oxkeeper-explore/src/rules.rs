//! What must hold after every step. Names are those of ZooKeeper's published TLA+ specifications where
//! they have one.

use oxkeeper_proto::{Epoch, ServerId};

use crate::disk::Txn;
use crate::server::{SERVERS, Seen};
use crate::world::World;

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// An epoch has one leader.
    Leadership,
    /// Who begins to lead has everything that was ever committed.
    LeaderLogCompleteness,
    /// What is committed is durable at a quorum, from then on.
    CommitCompleteness,
    /// Only what a primary has broadcast is delivered.
    Integrity,
    /// Of two servers that deliver, one delivers all that the other does.
    Agreement,
    /// All deliver in the same order.
    TotalOrder,
    /// What one primary broadcasts is delivered in its order, without gaps.
    LocalPrimaryOrder,
    /// What an earlier primary broadcast is delivered before what a later one did.
    GlobalPrimaryOrder,
    /// A primary delivers all that is ever delivered of earlier primaries before it broadcasts.
    PrimaryIntegrity,
    /// Followers deliver a prefix of what their leaders have committed.
    PrefixConsistency,
    /// A follower that serves an epoch has delivered what the epoch began with.
    InitialHistory,
    /// What a server acknowledges is on its disk.
    AckedIsDurable,
    /// No invariant of the production code fails.
    Assertion,
    /// No core finds that another one breaks the protocol.
    Peers,
    /// What is sent can be taken by all of ZooKeeper since 3.8.0, whatever its bugs: a follower gets no COMMIT
    /// between NEWLEADER and UPTODATE (ZOOKEEPER-4394), the first ACK a leader gets is that of NEWLEADER (4685).
    OldPeers,
    /// The log grows without gaps, epochs grow, and what a crash leaves can be loaded.
    DiskContract,
    /// With everyone up and no more faults, all serve soon, with the same history.
    Stuck,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 17] = [
        Rule::Leadership,
        Rule::LeaderLogCompleteness,
        Rule::CommitCompleteness,
        Rule::Integrity,
        Rule::Agreement,
        Rule::TotalOrder,
        Rule::LocalPrimaryOrder,
        Rule::GlobalPrimaryOrder,
        Rule::PrimaryIntegrity,
        Rule::PrefixConsistency,
        Rule::InitialHistory,
        Rule::AckedIsDurable,
        Rule::Assertion,
        Rule::Peers,
        Rule::OldPeers,
        Rule::DiskContract,
        Rule::Stuck,
    ];
}

/// A rule that does not hold, and how.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Broken {
    pub rule: Rule,
    pub what: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "broken: {:?}: {}", self.rule, self.what)
    }
}

/// What happened so far, as far as the rules need it. Nobody in the ensemble can see it.
#[derive(Clone, Default, Hash)]
pub struct Ghost {
    /// All that leaders have committed, in order.
    pub committed: Vec<Txn>,
    /// All that was ever proposed, in order.
    pub proposed: Vec<Txn>,
    /// Who has led which epoch, and how much was committed when it began.
    pub leaders: Vec<(Epoch, ServerId, usize)>,
}

fn broken(rule: Rule, what: String) -> Result<(), Broken> {
    Err(Broken { rule, what })
}

impl Ghost {
    /// Takes note of what a server did.
    pub fn note(&mut self, id: ServerId, seen: &Seen) -> Result<(), Broken> {
        match seen {
            Seen::Leads { epoch, tree } => {
                if let Some((_, other, _)) = self.leaders.iter().find(|(of, ..)| of == epoch) {
                    let what = format!("epoch {epoch} is led by {id}, and was by {other}");
                    return broken(Rule::Leadership, what);
                }
                self.leaders.push((*epoch, id, tree.len()));
                if let Some(lost) = self.committed.iter().find(|txn| !tree.contains(txn)) {
                    let what =
                        format!("leader {id} of epoch {epoch} lacks {lost:?}: it has {tree:?}");
                    return broken(Rule::LeaderLogCompleteness, what);
                }
                let before = std::mem::replace(&mut self.committed, tree.clone());
                self.delivers(id, &before)
            }
            Seen::Commits { tree } => {
                if let Some((txn, before)) = tree.split_last()
                    && before == self.committed
                {
                    self.committed.push(*txn);
                }
                self.delivers(id, tree)
            }
        }
    }

    /// A primary is about to broadcast; `tree` is what it has delivered.
    pub fn broadcasts(&mut self, id: ServerId, txn: Txn, tree: &[Txn]) -> Result<(), Broken> {
        self.proposed.push(txn);
        let earlier = |old: &&Txn| old.zxid.epoch() < txn.zxid.epoch() && !tree.contains(old);
        match self.committed.iter().find(earlier) {
            Some(old) => broken(
                Rule::PrimaryIntegrity,
                format!("primary {id} broadcasts {txn:?}, and has not delivered {old:?}"),
            ),
            None => Ok(()),
        }
    }

    /// Server `id` has delivered this.
    pub fn delivers(&self, id: ServerId, tree: &[Txn]) -> Result<(), Broken> {
        let common = tree.iter().zip(&self.committed).take_while(|(a, b)| a == b).count();
        let Some(txn) = tree.get(common) else { return Ok(()) };
        let before = &tree[..common];
        let (zxid, epoch) = (txn.zxid, txn.zxid.epoch());
        let in_epoch = |other: &&Txn| other.zxid.epoch() == epoch;
        let last = before.iter().rev().find(in_epoch).map_or(0, |last| last.zxid.counter());
        let rule = if !self.proposed.contains(txn) {
            Rule::Integrity
        } else if before.iter().any(|other| epoch < other.zxid.epoch()) {
            Rule::GlobalPrimaryOrder
        } else if zxid.counter() != last + 1 {
            Rule::LocalPrimaryOrder
        } else if self.committed.contains(txn) {
            Rule::TotalOrder
        } else if common < self.committed.len() {
            Rule::Agreement
        } else {
            Rule::PrefixConsistency
        };
        let committed = &self.committed;
        broken(rule, format!("server {id} delivers {tree:?}, committed are {committed:?}"))
    }
}

/// What must hold of all servers together, after `id` has changed.
pub fn check(world: &World, id: ServerId) -> Result<(), Broken> {
    let ghost = world.ghost();
    let server = world.server(id);
    if server.serving.is_some() {
        ghost.delivers(id, &server.tree)?;
    }
    if let (Some(false), Some(zab)) = (server.serving, &server.zab)
        && let Some((epoch, _, begin)) = ghost.leaders.iter().find(|(of, ..)| *of == zab.epoch())
        && server.tree.len() < *begin
    {
        let (began, tree) = (&ghost.committed[..*begin], &server.tree);
        let what =
            format!("epoch {epoch} began with {began:?}; server {id} serves it with {tree:?}");
        return broken(Rule::InitialHistory, what);
    }
    for txn in &ghost.committed {
        let holders = (1..=SERVERS).filter(|id| world.server(*id).disk.has(txn)).count();
        if holders * 2 < SERVERS as usize {
            let what = format!("{txn:?} is committed, and on {holders} of {SERVERS} disks");
            return broken(Rule::CommitCompleteness, what);
        }
    }
    Ok(())
}
