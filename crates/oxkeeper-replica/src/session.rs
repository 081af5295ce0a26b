//! Who owns a session and when it expires. Lives on the leader and on a standalone server.
//!
//! Deadlines are buckets of one tick: a silent session expires between its timeout and its timeout
//! plus one tick after its last sign of life, never sooner.
//! Source: `docs/spec/client-protocol.md` 2.8, 2.9.

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_proto::{ErrorCode, SessionId};
use oxkeeper_zab::LinkId;

use crate::Map;

/// The server that a session's client is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This server.
    Local,
    /// The learner behind this link.
    Learner(LinkId),
}

#[derive(Debug)]
struct Session {
    timeout_ms: u64,
    /// Bucket it is filed in; the real deadline may be later if the client was heard since.
    deadline_ms: u64,
    /// `None` after a leader change, until the first request or revalidation.
    owner: Option<Owner>,
    /// A closeSession has been proposed.
    closing: bool,
}

/// All sessions of the ensemble, as the leader sees them.
#[derive(Debug)]
pub struct SessionTracker {
    tick_ms: u64,
    sessions: Map<SessionId, Session>,
    buckets: BTreeMap<u64, BTreeSet<SessionId>>,
}

impl SessionTracker {
    /// No sessions; buckets of `tick_ms`.
    pub fn new(tick_ms: u64) -> Self {
        assert!(tick_ms > 0, "the configuration refuses tickTime 0");
        SessionTracker { tick_ms, sessions: Map::default(), buckets: BTreeMap::new() }
    }

    /// Starts afresh with these sessions, each with a full timeout and no owner.
    pub fn reset(&mut self, sessions: impl Iterator<Item = (SessionId, i32)>, now_ms: u64) {
        self.sessions.clear();
        self.buckets.clear();
        for (session, timeout_ms) in sessions {
            self.insert(session, timeout_ms, None, now_ms);
        }
    }

    /// Number of live sessions.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// No sessions?
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Expiry buckets, soonest first: deadline and sessions.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, &BTreeSet<SessionId>)> {
        self.buckets.iter().map(|(deadline, sessions)| (*deadline, sessions))
    }

    fn deadline(&self, now_ms: u64, timeout_ms: u64) -> u64 {
        ((now_ms + timeout_ms) / self.tick_ms + 1) * self.tick_ms
    }

    /// Starts tracking a new session.
    pub fn insert(&mut self, id: SessionId, timeout_ms: i32, owner: Option<Owner>, now_ms: u64) {
        let timeout_ms = timeout_ms.max(0) as u64;
        let deadline_ms = self.deadline(now_ms, timeout_ms);
        self.remove(id);
        self.sessions.insert(id, Session { timeout_ms, deadline_ms, owner, closing: false });
        self.buckets.entry(deadline_ms).or_default().insert(id);
    }

    /// Forgets a session; its closeSession was applied.
    pub fn remove(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            unfile(&mut self.buckets, session.deadline_ms, id);
        }
    }

    /// A sign of life at `heard_ms`. Unknown and closing sessions are left alone.
    pub fn touch(&mut self, id: SessionId, timeout_ms: Option<i32>, heard_ms: u64) -> bool {
        let tick_ms = self.tick_ms;
        let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.closing) else {
            return false;
        };
        if let Some(timeout_ms) = timeout_ms {
            session.timeout_ms = timeout_ms.max(0) as u64;
        }
        let deadline_ms = ((heard_ms + session.timeout_ms) / tick_ms + 1) * tick_ms;
        if session.deadline_ms < deadline_ms {
            unfile(&mut self.buckets, session.deadline_ms, id);
            session.deadline_ms = deadline_ms;
            self.buckets.entry(deadline_ms).or_default().insert(id);
        }
        true
    }

    /// Records who serves the session now (a resume, or a revalidation through a learner).
    pub fn set_owner(&mut self, id: SessionId, owner: Owner) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.owner = Some(owner);
        }
    }

    /// The owner, if known.
    pub fn owner(&self, id: SessionId) -> Option<Owner> {
        self.sessions.get(&id)?.owner
    }

    /// May a request of this session, arriving through `from`, go on? The first one after a leader
    /// change settles the owner.
    pub fn check(&mut self, id: SessionId, from: Owner) -> Result<(), ErrorCode> {
        match self.sessions.get_mut(&id) {
            None => Err(ErrorCode::SessionExpired),
            Some(session) if session.closing => Err(ErrorCode::SessionExpired),
            Some(session) => match session.owner {
                Some(owner) if owner != from => Err(ErrorCode::SessionMoved),
                _ => {
                    session.owner = Some(from);
                    Ok(())
                }
            },
        }
    }

    /// From now on the session's requests fail. False if it is unknown or closing already.
    pub fn set_closing(&mut self, id: SessionId) -> bool {
        match self.sessions.get_mut(&id) {
            Some(session) if !session.closing => {
                session.closing = true;
                unfile(&mut self.buckets, session.deadline_ms, id);
                true
            }
            _ => false,
        }
    }

    /// When [`Self::expired`] must be asked next.
    pub fn next_deadline(&self) -> Option<u64> {
        self.buckets.first_key_value().map(|(deadline, _)| *deadline)
    }

    /// Sessions whose time is up at `now_ms`; they are closing from here on. `heard_ms` tells when a
    /// locally connected client was last heard: such sessions are filed again instead, which spares
    /// the requests themselves any bookkeeping.
    pub fn expired(
        &mut self,
        now_ms: u64,
        heard_ms: impl Fn(SessionId) -> Option<u64>,
    ) -> Vec<SessionId> {
        let mut expired = Vec::new();
        while let Some(bucket) = self.buckets.first_entry().filter(|b| *b.key() <= now_ms) {
            let deadline_ms = *bucket.key();
            for id in bucket.remove() {
                let session = self.sessions.get(&id).expect("buckets name only live sessions");
                let heard = heard_ms(id).map(|heard| self.deadline(heard, session.timeout_ms));
                let later = heard.filter(|later| *later > deadline_ms);
                let session = self.sessions.get_mut(&id).expect("looked up above");
                match later {
                    Some(later) => {
                        session.deadline_ms = later;
                        self.buckets.entry(later).or_default().insert(id);
                    }
                    None => {
                        session.closing = true;
                        expired.push(id);
                    }
                }
            }
        }
        expired
    }
}

fn unfile(buckets: &mut BTreeMap<u64, BTreeSet<SessionId>>, deadline_ms: u64, id: SessionId) {
    if let Some(bucket) = buckets.get_mut(&deadline_ms) {
        bucket.remove(&id);
        if bucket.is_empty() {
            buckets.remove(&deadline_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_session_expires_within_one_tick_after_its_timeout_not_sooner() {
        let mut tracker = SessionTracker::new(1000);
        tracker.insert(1, 5000, None, 300);
        assert!(tracker.expired(5300, |_| None).is_empty());
        assert_eq!(tracker.next_deadline(), Some(6000));
        assert_eq!(tracker.expired(6000, |_| None), [1]);
        assert!(!tracker.touch(1, None, 6000), "a closing session cannot be revived");
    }

    #[test]
    fn a_client_heard_since_is_filed_again() {
        let mut tracker = SessionTracker::new(1000);
        tracker.insert(1, 5000, None, 0);
        assert!(tracker.expired(6000, |_| Some(2500)).is_empty());
        assert_eq!(tracker.next_deadline(), Some(8000));
        assert_eq!(tracker.expired(8000, |_| Some(2500)), [1]);
    }

    #[test]
    fn a_request_from_another_server_than_the_owner_has_moved() {
        let mut tracker = SessionTracker::new(1000);
        tracker.insert(1, 5000, Some(Owner::Learner(7)), 0);
        assert_eq!(tracker.check(1, Owner::Local), Err(ErrorCode::SessionMoved));
        tracker.set_owner(1, Owner::Local);
        assert_eq!(tracker.check(1, Owner::Local), Ok(()));
        assert_eq!(tracker.check(2, Owner::Local), Err(ErrorCode::SessionExpired));
    }

    #[test]
    fn after_a_leader_change_the_first_request_settles_the_owner() {
        let mut tracker = SessionTracker::new(1000);
        tracker.reset([(1, 5000)].into_iter(), 0);
        assert_eq!(tracker.check(1, Owner::Learner(2)), Ok(()));
        assert_eq!(tracker.check(1, Owner::Local), Err(ErrorCode::SessionMoved));
    }
}
