//! Fast leader election: agreeing on the member with the newest history.
//!
//! Sans-IO; the value lives as long as its server, since it also answers for the current vote while
//! the server leads or follows. Source: `docs/spec/quorum-protocol.md` 6 and 7.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::quorum::{NO_VOTE, NOTIFICATION_VERSION, Notification, ServerState};
use oxkeeper_proto::{Epoch, ServerId, Zxid};

use crate::{ElectionRequest, Output};

/// Shortest time without news before the proposal is sent again, and how long a quorum must stay
/// undisturbed before the election ends, in ms.
const QUIET_MS: u64 = 200;
/// Longest time between two sendings, in ms.
const MAX_WAIT_MS: u64 = 60_000;
/// The same for a server without a vote: nobody tells it of a new leader unless it asks, or has asked.
const MAX_WAIT_NO_VOTE_MS: u64 = 3_200;
/// How long a LOOKING notification that came while this server was not LOOKING stays of use, in ms.
/// Servers notice a leader's end at slightly different times.
const EARLY_MS: u64 = 500;

/// Highest round believed of a peer: there must always be a next one.
const MAX_ROUND: i64 = i64::MAX / 2;

/// A vote: which leader, and how new its history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Vote {
    /// Proposed leader, or [`NO_VOTE`].
    pub leader: ServerId,
    /// Its last logged zxid.
    pub zxid: Zxid,
    /// Round of the election.
    pub round: i64,
    /// Its currentEpoch.
    pub peer_epoch: i64,
}

impl Vote {
    fn of(n: &Notification) -> Vote {
        Vote { leader: n.leader, zxid: n.zxid, round: n.election_epoch, peer_epoch: n.peer_epoch }
    }

    /// Newer history, then higher id; a server of weight 0 is never preferred.
    fn beats(&self, other: &Vote, ensemble: &EnsembleConfig) -> bool {
        ensemble.weight(self.leader) > 0
            && (self.peer_epoch, self.zxid, self.leader)
                > (other.peer_epoch, other.zxid, other.leader)
    }
}

/// The election's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elected(pub Vote);

#[derive(Clone, Copy, Debug, Hash)]
struct Entry {
    vote: Vote,
    state: ServerState,
}

/// One server's part in all elections of its life.
#[derive(Clone, Debug)]
pub struct Election {
    me: ServerId,
    ensemble: Arc<EnsembleConfig>,
    config_text: Bytes,
    fast: bool,
    /// This server has a vote by the configuration, and may not use it now.
    abstains: bool,
    /// Logical clock: the round.
    clock: i64,
    /// What this server would vote for on its own, at the start of the election.
    initial: Vote,
    proposal: Vote,
    /// Votes of this round.
    received: BTreeMap<ServerId, Entry>,
    /// Votes of servers that have a leader already, whatever their round.
    outside: BTreeMap<ServerId, Entry>,
    wait_ms: u64,
    /// When the proposal is sent again.
    resend_at_ms: u64,
    /// When all were told last.
    told_at_ms: u64,
    /// When the election ends if nothing better comes; set while a quorum agrees.
    settled_at_ms: Option<u64>,
    /// Peers with an election connection.
    links: BTreeSet<ServerId>,
    /// LOOKING notifications that arrived while this server was not, with their time.
    early: BTreeMap<ServerId, (u64, Notification)>,
    /// Members without a vote that look for a leader, as this one does: they are told whom it has found.
    askers: BTreeSet<ServerId>,
}

/// Without settings.
impl Hash for Election {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        let Election { initial, proposal, received, outside, wait_ms, resend_at_ms, .. } = self;
        let Election {
            settled_at_ms, told_at_ms, me: _, ensemble: _, config_text: _, fast: _, ..
        } = self;
        self.hash_between(hasher);
        (initial, proposal, received, outside, wait_ms, resend_at_ms).hash(hasher);
        (settled_at_ms, told_at_ms).hash(hasher);
    }
}

impl Election {
    /// No election has begun.
    pub fn new(me: ServerId, ensemble: EnsembleConfig, fast: bool) -> Election {
        let none = Vote { leader: me, zxid: Zxid::ZERO, round: 0, peer_epoch: 0 };
        Election {
            me,
            config_text: ensemble.to_string().into(),
            ensemble: Arc::new(ensemble),
            fast,
            abstains: false,
            clock: 0,
            initial: none,
            proposal: none,
            received: BTreeMap::new(),
            outside: BTreeMap::new(),
            wait_ms: QUIET_MS,
            resend_at_ms: 0,
            told_at_ms: 0,
            settled_at_ms: None,
            links: BTreeSet::new(),
            early: BTreeMap::new(),
            askers: BTreeSet::new(),
        }
    }

    /// Hashes what matters while this server has a leader: the rest is cleared by [`Self::start`].
    pub fn hash_between<H: Hasher>(&self, hasher: &mut H) {
        let Election { abstains, clock, links, early, askers, .. } = self;
        (abstains, clock, links, early, askers).hash(hasher);
    }

    /// Notes whether `peer` has an election connection. A new one is a reason to ask soon again: it
    /// may end a partition.
    pub fn set_link(&mut self, now_ms: u64, peer: ServerId, up: bool) {
        if up {
            self.links.insert(peer);
            self.wait_ms = QUIET_MS;
            self.resend_at_ms = self.resend_at_ms.min(now_ms + QUIET_MS);
        } else {
            self.links.remove(&peer);
        }
    }

    /// While this server's history lacks what it has acknowledged, its vote must not count, nor what it
    /// tells others of a leader.
    pub fn set_abstains(&mut self, abstains: bool) {
        self.abstains = abstains;
    }

    fn votes(&self) -> bool {
        self.ensemble.is_voter(self.me) && !self.abstains
    }

    /// Begins a round with the own history.
    pub fn start(
        &mut self,
        zxid: Zxid,
        current: Epoch,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Option<Elected> {
        self.clock += 1;
        // Who has no vote still tells its history: a leader asks for it before it makes way.
        self.initial = Vote {
            leader: if self.votes() { self.me } else { NO_VOTE },
            zxid,
            round: self.clock,
            peer_epoch: i64::from(current),
        };
        self.proposal = self.initial;
        self.received.clear();
        self.outside.clear();
        self.settled_at_ms = None;
        self.wait_ms = QUIET_MS;
        self.resend_at_ms = now_ms + self.wait_ms;
        self.send_to_all(now_ms, out);
        let mut elected = self.decide(now_ms);
        for (from, (at_ms, notification)) in std::mem::take(&mut self.early) {
            if elected.is_none() && now_ms <= at_ms + EARLY_MS {
                elected = self.looking(now_ms, from, &notification, out);
            }
        }
        elected
    }

    /// When [`Self::on_timeout`] is due while LOOKING.
    pub fn next_timeout(&self) -> u64 {
        self.settled_at_ms.unwrap_or(u64::MAX).min(self.resend_at_ms)
    }

    /// Nothing (better) came in time.
    pub fn on_timeout(&mut self, now_ms: u64, out: &mut Vec<Output>) -> Option<Elected> {
        if self.settled_at_ms.is_some_and(|at| at <= now_ms) {
            return Some(self.elected());
        }
        if self.resend_at_ms <= now_ms {
            if self.links.is_empty() {
                out.push(Output::Election(ElectionRequest::Connect));
            }
            // A message to a peer without a connection also makes one.
            self.send_to_all(now_ms, out);
            let longest = if self.votes() { MAX_WAIT_MS } else { MAX_WAIT_NO_VOTE_MS };
            self.wait_ms = (2 * self.wait_ms).min(longest);
            self.resend_at_ms = now_ms + self.wait_ms;
        }
        None
    }

    /// Treats a notification in any state. `current` is the vote this server stands by while it is
    /// not LOOKING, or stood by before.
    pub fn on_notification(
        &mut self,
        now_ms: u64,
        from: ServerId,
        n: &Notification,
        state: ServerState,
        current: Vote,
        out: &mut Vec<Output>,
    ) -> Option<Elected> {
        let sender = ServerState::from_code(n.state);
        // Members only: a stranger may come under any number of ids.
        let member = self.ensemble.servers.contains_key(&from);
        let asks = member && (!self.ensemble.is_voter(from) || n.leader == NO_VOTE);
        if state == ServerState::Looking && sender == Some(ServerState::Looking) && asks {
            self.askers.insert(from);
        }
        if !self.ensemble.is_voter(from) {
            // Observers and strangers learn the leader this way. One that answers LOOKING voters, as
            // Apache's observers do, gets nothing that it would answer again: that never ends.
            let ends = state != ServerState::Looking && !self.abstains
                || sender == Some(ServerState::Looking) && n.election_epoch <= self.clock;
            if ends {
                let vote = Vote { round: self.clock, ..current };
                self.send(from, state, vote, out);
            }
            return None;
        }
        let sender = sender?;
        // Voters do not read what others answer.
        let answers = self.votes();
        if state == ServerState::Looking {
            if answers && sender == ServerState::Looking && n.election_epoch < self.clock {
                self.send(from, state, self.proposal, out);
            }
            return self.looking(now_ms, from, n, out);
        }
        if sender == ServerState::Looking {
            if answers {
                self.send(from, state, current, out);
            }
            self.early.insert(from, (now_ms, n.clone()));
        } else {
            // It has found a leader meanwhile.
            self.early.remove(&from);
        }
        None
    }

    /// This server has a leader now: who asked in vain need not ask again, which it would do only after
    /// seconds.
    pub fn tell_askers(&mut self, state: ServerState, vote: Vote, out: &mut Vec<Output>) {
        for asker in std::mem::take(&mut self.askers) {
            if self.votes() {
                self.send(asker, state, vote, out);
            }
        }
    }

    /// Keeps a notification for the election that is about to begin.
    pub fn keep_early(&mut self, now_ms: u64, from: ServerId, n: Notification) {
        if n.state == ServerState::Looking as i32 && self.ensemble.is_voter(from) {
            self.early.insert(from, (now_ms, n));
        }
    }

    fn looking(
        &mut self,
        now_ms: u64,
        from: ServerId,
        n: &Notification,
        out: &mut Vec<Output>,
    ) -> Option<Elected> {
        let known = self.ensemble.is_voter(from) && self.ensemble.is_voter(n.leader);
        if !known || MAX_ROUND < n.election_epoch {
            return None;
        }
        let vote = Vote::of(n);
        if n.state == ServerState::Looking as i32 && !self.votes() {
            // Only those who have found a leader can help.
            return None;
        }
        self.resend_at_ms = now_ms + self.wait_ms;
        match ServerState::from_code(n.state)? {
            ServerState::Looking => self.on_looking(now_ms, from, vote, out),
            ServerState::Observing => None,
            state => self.on_settled(from, Entry { vote, state }),
        }
    }

    fn on_looking(
        &mut self,
        now_ms: u64,
        from: ServerId,
        vote: Vote,
        out: &mut Vec<Output>,
    ) -> Option<Elected> {
        if self.initial.zxid == Zxid(-1) || vote.zxid == Zxid(-1) || vote.round < self.clock {
            return None;
        }
        if self.clock < vote.round {
            self.clock = vote.round;
            self.received.clear();
            self.settled_at_ms = None;
            let mine = Vote { round: self.clock, ..self.initial };
            self.proposal = if vote.beats(&mine, &self.ensemble) { vote } else { mine };
            self.send_to_all(now_ms, out);
        } else if vote.beats(&self.proposal, &self.ensemble) {
            self.settled_at_ms = None;
            self.proposal = vote;
            self.send_to_all(now_ms, out);
        } else if self.proposal.beats(&vote, &self.ensemble) && self.told_at_ms + QUIET_MS <= now_ms
        {
            // It began to look after all were told, and what it says would only put off the next time.
            self.send(from, ServerState::Looking, self.proposal, out);
        }
        self.received.insert(from, Entry { vote, state: ServerState::Looking });
        self.decide(now_ms)
    }

    /// A voter that has a leader already.
    fn on_settled(&mut self, from: ServerId, entry: Entry) -> Option<Elected> {
        let vote = entry.vote;
        if vote.leader == self.me && !self.votes() {
            return None;
        }
        let known = |table: &BTreeMap<ServerId, Entry>| {
            if vote.leader == self.me {
                return self.clock == vote.round;
            }
            let leading = |entry: &Entry| entry.state == ServerState::Leading;
            table.get(&vote.leader).is_some_and(leading)
        };
        if vote.round == self.clock {
            self.received.insert(from, entry);
            let mine = Vote { round: self.clock, ..self.proposal };
            let agrees = |id: ServerId| {
                if id == self.me {
                    return mine == vote;
                }
                self.received.get(&id).is_some_and(|other| match other.state {
                    ServerState::Looking => other.vote == vote,
                    _ => other.vote.leader == vote.leader,
                })
            };
            if self.ensemble.is_quorum(agrees) && known(&self.received) {
                return Some(Elected(vote));
            }
        }
        self.outside.insert(from, entry);
        let agrees = |id: ServerId| {
            self.outside.get(&id).is_some_and(|other| {
                other.vote.leader == vote.leader && other.vote.peer_epoch == vote.peer_epoch
            })
        };
        if self.ensemble.is_quorum(agrees) && known(&self.outside) {
            self.clock = vote.round;
            return Some(Elected(vote));
        }
        None
    }

    /// Does a quorum agree with the proposal, and has it for long enough?
    fn decide(&mut self, now_ms: u64) -> Option<Elected> {
        if !self.votes() || self.initial.zxid == Zxid(-1) {
            return None;
        }
        let mine = Vote { round: self.clock, ..self.proposal };
        let agrees = |id: ServerId| {
            id == self.me || self.received.get(&id).is_some_and(|entry| entry.vote == mine)
        };
        if !self.ensemble.is_quorum(agrees) {
            self.settled_at_ms = None;
            return None;
        }
        let mut others = self.ensemble.voters().filter(|id| *id != self.me);
        if self.fast && others.all(|id| agrees(id) || !self.links.contains(&id)) {
            // Nobody is left who could know better.
            return Some(self.elected());
        }
        self.settled_at_ms.get_or_insert(now_ms + QUIET_MS);
        None
    }

    fn elected(&self) -> Elected {
        Elected(Vote { round: self.clock, ..self.proposal })
    }

    fn send_to_all(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        self.told_at_ms = now_ms;
        for voter in self.ensemble.voters().filter(|id| *id != self.me) {
            self.send(voter, ServerState::Looking, self.proposal, out);
        }
    }

    fn send(&self, to: ServerId, state: ServerState, vote: Vote, out: &mut Vec<Output>) {
        let notification = Notification {
            state: state as i32,
            leader: vote.leader,
            zxid: vote.zxid,
            // A LOOKING server always speaks for its own round.
            election_epoch: if state == ServerState::Looking { self.clock } else { vote.round },
            peer_epoch: vote.peer_epoch,
            version: NOTIFICATION_VERSION,
            config: Some(self.config_text.clone()),
        };
        out.push(Output::Election(ElectionRequest::Notify { to, notification }));
    }
}
