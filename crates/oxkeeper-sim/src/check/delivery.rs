//! What servers deliver, in which order: the properties of atomic broadcast.
//!
//! Each server's log is followed from outside, by what it asks of its disk. A transaction is delivered when
//! a server that serves has applied it. The rules have the names of ZooKeeper's published TLA+
//! specifications; see [`Rule`].

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use oxkeeper_proto::{Epoch, Zxid};
use oxkeeper_zab::Proposal;

use crate::violation::{Rule, Violation};

/// A transaction, as far as these rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub zxid: Zxid,
    /// Hash of its payload.
    pub hash: u64,
}

impl Entry {
    /// Of a proposal.
    pub fn of(proposal: &Proposal) -> Entry {
        let mut hasher = DefaultHasher::new();
        proposal.payload.hash(&mut hasher);
        Entry { zxid: proposal.zxid, hash: hasher.finish() }
    }
}

/// One server's log, as its requests to the disk tell it.
#[derive(Debug, Default)]
struct FollowedLog {
    /// What a snapshot holds instead of `entries`; `None`: whatever is before them.
    base: Option<Zxid>,
    entries: Vec<Entry>,
    /// So many of them were delivered, and found right.
    delivered: usize,
    /// Last zxid delivered.
    last: Zxid,
    /// The epoch that it leads.
    leads: Option<Epoch>,
    /// The epoch that it has announced by NEWLEADER.
    announced: Option<Epoch>,
    /// The log that an adopted tree replaces once it is saved.
    replaced: Option<Vec<Entry>>,
}

impl FollowedLog {
    /// Ends at `last`, as a start or a cut has found it.
    fn end_at(&mut self, last: Zxid) {
        self.entries.retain(|entry| entry.zxid <= last);
        if self.entries.last().is_none_or(|entry| entry.zxid != last) {
            self.entries.clear();
            self.base = Some(last);
        }
        self.begin_role();
    }

    fn begin_role(&mut self) {
        (self.delivered, self.last) = (0, self.base.unwrap_or_default());
    }
}

/// The first who logged a proposal, and what it was.
#[derive(Clone, Copy, Debug)]
struct Broadcast {
    hash: u64,
    server: usize,
    /// What its log held before; `None`: not known.
    previous: Option<Zxid>,
}

/// All deliveries of a run.
#[derive(Debug, Default)]
pub struct Deliveries {
    broadcast: BTreeMap<Zxid, Broadcast>,
    /// Delivered anywhere, in order.
    committed: Vec<Entry>,
    logs: BTreeMap<usize, FollowedLog>,
    /// Who served as leader of an epoch.
    leaders: BTreeMap<Epoch, usize>,
}

impl Deliveries {
    /// Hash of the payload that was proposed with this zxid.
    pub fn hash_of(&self, zxid: Zxid) -> Option<u64> {
        self.broadcast.get(&zxid).map(|first| first.hash)
    }

    fn log(&mut self, server: usize) -> &mut FollowedLog {
        self.logs.entry(server).or_default()
    }

    /// What a server without others had behind `last`, and never showed, was not.
    pub fn forget_behind(&mut self, last: Zxid) {
        self.broadcast.retain(|zxid, _| *zxid <= last);
    }

    /// Is this the state in which an epoch begins whose leader has served?
    pub fn is_begin(&self, zxid: Zxid) -> bool {
        zxid.counter() == 0 && self.leaders.contains_key(&zxid.epoch())
    }

    /// Delivered anywhere, in order, behind the first `known`.
    pub fn committed_since(&self, known: usize) -> &[Entry] {
        &self.committed[known..]
    }

    /// A role asks for an append.
    pub fn appended(&mut self, server: usize, proposal: &Proposal) -> Result<(), Violation> {
        let entry = Entry::of(proposal);
        let zxid = entry.zxid;
        let log = self.log(server);
        let previous = log.entries.last().map(|last| last.zxid).or(log.base);
        let first = Broadcast { hash: entry.hash, server, previous };
        let known = *self.broadcast.entry(zxid).or_insert(first);
        if known.hash != entry.hash {
            return Err(Rule::Agreement.broken(format!(
                "two different proposals have zxid {zxid}: s{} and s{} log them",
                known.server + 1,
                server + 1
            )));
        }
        let earlier = self.committed.last().filter(|last| last.zxid.epoch() < zxid.epoch());
        let earlier = earlier.map(|entry| entry.zxid);
        let log = self.log(server);
        if log.leads == Some(zxid.epoch()) && earlier.is_some_and(|earlier| log.last < earlier) {
            return Err(Rule::PrimaryIntegrity.broken(format!(
                "s{} broadcasts {zxid}, but has delivered only up to {}, others up to {earlier:?}",
                server + 1,
                log.last
            )));
        }
        log.entries.push(entry);
        Ok(())
    }

    /// A role asks to save an adopted tree in the place of log and snapshots.
    pub fn adopts(&mut self, server: usize) {
        let log = self.log(server);
        let old = std::mem::take(&mut log.entries);
        log.replaced.get_or_insert(old);
        log.base = None;
        log.begin_role();
    }

    /// An adopted tree is on disk; it ends at `last`.
    pub fn adopted(&mut self, server: usize, last: Zxid) {
        let log = self.log(server);
        log.replaced = None;
        if log.entries.is_empty() {
            log.base = Some(last);
            log.begin_role();
        }
    }

    /// A start or a cut has found the history to end at `last`.
    pub fn loaded(&mut self, server: usize, last: Zxid) {
        let log = self.log(server);
        if let Some(old) = log.replaced.take()
            && old.iter().any(|entry| entry.zxid == last)
        {
            log.entries = old;
        }
        log.end_at(last);
    }

    /// `server` does not serve.
    pub fn idle(&mut self, server: usize) {
        self.log(server).leads = None;
    }

    /// `server` has begun to serve as a learner.
    pub fn follows(&mut self, server: usize, applied: Zxid) -> Result<(), Violation> {
        self.log(server).begin_role();
        self.delivers(server, applied, false)
    }

    /// `server` has begun to serve as the leader of `epoch`: its history is committed.
    pub fn leads(&mut self, server: usize, epoch: Epoch, applied: Zxid) -> Result<(), Violation> {
        self.leaders.insert(epoch, server);
        let log = self.log(server);
        log.begin_role();
        log.leads = Some(epoch);
        let base = log.base.unwrap_or_default();
        // Of earlier epochs: one that has stood still may find its quorum when there is a later leader.
        let mut newest_first = self.committed.iter().rev();
        let earlier = newest_first.find(|last| last.zxid.epoch() < epoch);
        if let Some(last) = earlier.filter(|last| applied < last.zxid) {
            return Err(Rule::CommittedHistory.broken(format!(
                "s{} leads epoch {epoch} with a history up to {applied}, but {} was committed",
                server + 1,
                last.zxid
            )));
        }
        self.commit_base(server, base)?;
        self.delivers(server, applied, true)
    }

    /// A leader sends NEWLEADER of this epoch.
    pub fn announces(&mut self, server: usize, epoch: Epoch) {
        self.log(server).announced = Some(epoch);
    }

    /// A leader tells a learner to serve: from now on its history is committed. It may leave its role in the
    /// same step, so that nobody else sees that it has led.
    pub fn lets_serve(&mut self, server: usize) -> Result<(), Violation> {
        let log = self.log(server);
        match log.announced {
            Some(epoch) if log.leads != Some(epoch) => {
                let last = log.entries.last().map(|last| last.zxid).or(log.base);
                self.leads(server, epoch, last.unwrap_or_default())
            }
            _ => Ok(()),
        }
    }

    /// `server` tells its learners to commit up to `zxid`.
    pub fn commits(&mut self, server: usize, zxid: Zxid) -> Result<(), Violation> {
        // Others belong to a synchronization: history of before.
        if self.log(server).leads != Some(zxid.epoch()) {
            return Ok(());
        }
        self.delivers(server, zxid, true)
    }

    /// The leader has a snapshot that ends at `base`: what led there is committed with it.
    fn commit_base(&mut self, server: usize, base: Zxid) -> Result<(), Violation> {
        let last = self.committed.last().map_or(Zxid::ZERO, |last| last.zxid);
        if base <= last {
            return Ok(());
        }
        let (mut chain, mut at) = (Vec::new(), Some(base));
        while let Some(zxid) = at.filter(|zxid| last < *zxid) {
            let Some(known) = self.broadcast.get(&zxid) else { break };
            chain.push(Entry { zxid, hash: known.hash });
            at = known.previous;
        }
        if at.is_some_and(|at| at < last) {
            return Err(Rule::CommittedHistory.broken(format!(
                "s{} leads with a snapshot at {base}, whose history lacks {last}, which was committed",
                server + 1
            )));
        }
        self.committed.extend(chain.into_iter().rev());
        Ok(())
    }

    /// `server`, which serves, has applied everything up to `applied`.
    pub fn delivers(&mut self, server: usize, applied: Zxid, leads: bool) -> Result<(), Violation> {
        let Deliveries { broadcast, committed, logs, leaders } = self;
        let log = logs.entry(server).or_default();
        while let Some(entry) = log.entries.get(log.delivered).filter(|e| e.zxid <= applied) {
            let previous = match log.delivered {
                0 => log.base,
                nth => Some(log.entries[nth - 1].zxid),
            };
            let broken = |rule: Rule, what: String| {
                Err(rule.broken(format!("s{} delivers {}{what}", server + 1, entry.zxid)))
            };
            let at = committed.partition_point(|known| known.zxid < entry.zxid);
            let before = at.checked_sub(1).map(|at| committed[at].zxid);
            if before.is_some_and(|before| previous.is_some_and(|previous| previous < before)) {
                return broken(
                    Rule::PrefixConsistency,
                    format!(" behind {previous:?}, others behind {before:?}"),
                );
            }
            match committed.get(at) {
                Some(known) if known == entry => {}
                Some(known) if known.zxid == entry.zxid => {
                    return broken(
                        Rule::Agreement,
                        ", which is another transaction elsewhere".into(),
                    );
                }
                Some(known) => {
                    let next = known.zxid;
                    return broken(Rule::TotalOrder, format!("; others went on to {next} without"));
                }
                None if !leads => {
                    return broken(Rule::Agreement, ", which no leader has committed".into());
                }
                None => {
                    if let Some(before) = before {
                        check_order(before, entry.zxid, server)?;
                    }
                    let by = broadcast.get(&entry.zxid);
                    let leader = leaders.get(&entry.zxid.epoch());
                    let foreign = by.is_none_or(|by| leader.is_some_and(|who| *who != by.server));
                    if foreign {
                        return broken(Rule::Integrity, format!(": broadcast by {by:?}"));
                    }
                    committed.push(*entry);
                }
            }
            log.last = entry.zxid;
            log.delivered += 1;
        }
        log.last = log.last.max(applied);
        Ok(())
    }
}

/// `next` is the first to be committed behind `before`.
fn check_order(before: Zxid, next: Zxid, server: usize) -> Result<(), Violation> {
    let (rule, right) = match before.epoch() == next.epoch() {
        true => (Rule::LocalPrimaryOrder, next.0 == before.0 + 1),
        false => (Rule::GlobalPrimaryOrder, before.epoch() < next.epoch() && next.counter() == 1),
    };
    if right {
        return Ok(());
    }
    Err(rule.broken(format!("s{} commits {next} right behind {before}", server + 1)))
}
