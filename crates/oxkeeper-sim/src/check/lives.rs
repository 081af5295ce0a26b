//! When sessions may end on the servers' own account.
//!
//! A leader may close a session only when it has not been told, for longer than the session's timeout by
//! its own clock, that its client was heard; and must within a tick then. It is told by its own
//! connections, by a client that turns to it or (revalidation) to a learner of it, by the creation of the
//! session, and by each answer of a learner to a ping, which speaks of all that the learner has heard
//! since its last one. To a new leader all sessions are as if just heard.
//! Source: `docs/spec/client-protocol.md` 2.9.

use std::collections::{BTreeMap, VecDeque};

use crate::net::ConnId;
use crate::violation::{Rule, Violation};

/// Slack of the upper bound, in ms: clocks count in whole ones.
const SLACK_MS: u64 = 3;
/// What a learner heard so shortly before its last report it may report once more, in ms.
const REPORTED_TWICE_MS: u64 = 2;
/// The answer of a leader about a session, or the session itself, may come behind so many reports.
const ANSWERED_AFTER: u32 = 6;

#[derive(Clone, Copy, Debug)]
struct Life {
    /// The leader knows since then, for sure.
    known_ms: u64,
    /// It may have been told as late as this.
    perhaps_ms: u64,
    timeout_ms: u64,
    closing: bool,
}

/// A client's connection to a learner.
#[derive(Clone, Copy, Debug)]
struct Heard {
    server: usize,
    incarnation: u64,
    session: i64,
    at_ms: u64,
    /// Not told the leader yet.
    news: bool,
    ended: bool,
}

/// A session that a learner has asked its leader about.
#[derive(Clone, Copy, Debug)]
struct Asked {
    session: i64,
    /// So many since.
    reports: u32,
    /// It may be reported once more until then.
    until_ms: u64,
}

/// An answer to a ping, on its way.
#[derive(Debug)]
struct Report {
    news: Vec<i64>,
    repeated: Vec<i64>,
}

/// Signs of life and where they are known.
#[derive(Debug, Default)]
pub struct Lives {
    /// By server that leads: sessions.
    leaders: BTreeMap<usize, BTreeMap<i64, Life>>,
    heard: BTreeMap<ConnId, Heard>,
    /// Sessions that a learner has asked its leader about, or for: once the answer is there, their clients count as heard, also of a connection that is let go before the next report.
    asked: BTreeMap<(usize, u64), Vec<Asked>>,
    /// When each server reported last.
    reported: BTreeMap<(usize, u64), u64>,
    /// By link from a learner to its leader.
    reports: BTreeMap<ConnId, VecDeque<Report>>,
    /// Sessions whose end was proposed.
    pub ending: std::collections::BTreeSet<i64>,
}

impl Lives {
    /// A leader begins to serve with these sessions and timeouts.
    pub fn leads(
        &mut self,
        server: usize,
        now_ms: u64,
        sessions: impl Iterator<Item = (i64, i32)>,
    ) {
        let mut lives = BTreeMap::new();
        for (session, timeout_ms) in sessions {
            lives.insert(session, Life::new(now_ms, timeout_ms));
        }
        self.leaders.insert(server, lives);
    }

    /// It does not lead any more.
    pub fn leads_no_more(&mut self, server: usize) {
        self.leaders.remove(&server);
    }

    /// A server's clients are gone, and what it has heard of them with them.
    pub fn serves_no_more(&mut self, server: usize) {
        self.heard.retain(|_, heard| heard.server != server);
    }

    /// A leader proposes a new session.
    pub fn created(&mut self, server: usize, now_ms: u64, session: i64, timeout_ms: i32) {
        if let Some(lives) = self.leaders.get_mut(&server) {
            lives.insert(session, Life::new(now_ms, timeout_ms));
        }
    }

    /// A leader learns that a session's client was heard.
    pub fn touched(&mut self, server: usize, now_ms: u64, session: i64) {
        self.touch(server, now_ms, session, true);
    }

    fn touch(&mut self, server: usize, now_ms: u64, session: i64, for_sure: bool) {
        let lives = self.leaders.get_mut(&server);
        if let Some(life) = lives.and_then(|lives| lives.get_mut(&session)) {
            life.perhaps_ms = life.perhaps_ms.max(now_ms);
            if for_sure {
                life.known_ms = life.known_ms.max(now_ms);
            }
        }
    }

    /// A server has taken a request of this session from that connection.
    pub fn heard(
        &mut self,
        conn: ConnId,
        server: usize,
        incarnation: u64,
        session: i64,
        now_ms: u64,
    ) {
        if self.leaders.contains_key(&server) {
            return self.touched(server, now_ms, session);
        }
        let heard = Heard { server, incarnation, session, at_ms: now_ms, news: true, ended: false };
        self.heard.insert(conn, heard);
    }

    /// A learner asks its leader about a session, or for a new one.
    pub fn asks(&mut self, server: usize, incarnation: u64, session: i64) {
        self.asked.entry((server, incarnation)).or_default().push(Asked {
            session,
            reports: 0,
            until_ms: 0,
        });
    }

    /// A client's connection has ended.
    pub fn ended(&mut self, conn: ConnId) {
        if let Some(heard) = self.heard.get_mut(&conn) {
            heard.ended = true;
        }
    }

    /// A learner answers a ping on its link. `connected`: the sessions that it serves, and when it heard of
    /// each; that a session was opened or resumed there it may report as well.
    pub fn reports(
        &mut self,
        link: ConnId,
        server: usize,
        incarnation: u64,
        now_ms: u64,
        connected: impl Iterator<Item = (i64, u64)>,
    ) {
        let last = self.reported.insert((server, incarnation), now_ms).unwrap_or(0);
        let recent = connected.filter(|(_, heard_ms)| last <= heard_ms + REPORTED_TWICE_MS);
        let repeated = recent.map(|(session, _)| session).collect();
        let mut report = Report { news: Vec::new(), repeated };
        if let Some(asked) = self.asked.get_mut(&(server, incarnation)) {
            report.repeated.extend(asked.iter().map(|asked| asked.session));
            asked.retain_mut(|asked| {
                asked.reports += 1;
                if asked.reports <= ANSWERED_AFTER {
                    asked.until_ms = now_ms + REPORTED_TWICE_MS;
                }
                now_ms <= asked.until_ms
            });
        }
        for heard in self.heard.values_mut() {
            if (heard.server, heard.incarnation) != (server, incarnation) {
                continue;
            }
            if std::mem::take(&mut heard.news) {
                report.news.push(heard.session);
            } else if last <= heard.at_ms + REPORTED_TWICE_MS {
                report.repeated.push(heard.session);
            }
        }
        let recent = |heard: &Heard| now_ms <= heard.at_ms + REPORTED_TWICE_MS;
        self.heard.retain(|_, heard| !heard.ended || heard.server != server || recent(heard));
        self.reports.entry(link).or_default().push_back(report);
    }

    /// A leader takes the next answer to a ping from a link.
    pub fn report_arrives(&mut self, link: ConnId, server: usize, now_ms: u64) {
        let Some(report) = self.reports.get_mut(&link).and_then(VecDeque::pop_front) else {
            return;
        };
        for session in report.news {
            self.touch(server, now_ms, session, true);
        }
        for session in report.repeated {
            self.touch(server, now_ms, session, false);
        }
    }

    /// A leader proposes the end of a session; `own_account`: nobody has asked for it.
    pub fn ends(
        &mut self,
        server: usize,
        now_ms: u64,
        session: i64,
        own_account: bool,
    ) -> Result<(), Violation> {
        self.ending.insert(session);
        let Some(lives) = self.leaders.get_mut(&server) else { return Ok(()) };
        let Some(life) = lives.get_mut(&session) else {
            // A client may ask for an end that came already.
            return match own_account {
                false => Ok(()),
                true => Err(Rule::Sessions.broken(format!(
                    "s{} lets {session:#x} expire, which is no session",
                    server + 1
                ))),
            };
        };
        if own_account && now_ms <= life.known_ms + life.timeout_ms {
            return Err(Rule::Sessions.broken(format!(
                "s{} lets {session:#x} expire {} ms after it was heard; its timeout is {} ms",
                server + 1,
                now_ms - life.known_ms,
                life.timeout_ms
            )));
        }
        if own_account && life.closing {
            return Err(Rule::Sessions
                .broken(format!("s{} lets {session:#x} expire a second time", server + 1)));
        }
        life.closing = true;
        Ok(())
    }

    /// A leader has looked at its clock: no session is overdue. Beside the tick that it may take to see it, a
    /// learner that lets a connection go may tell once more, at its next answer, what it has told of it.
    pub fn none_is_late(&self, server: usize, now_ms: u64, tick_ms: u64) -> Result<(), Violation> {
        let Some(lives) = self.leaders.get(&server) else { return Ok(()) };
        for (session, life) in lives {
            let end_ms = life.perhaps_ms + life.timeout_ms + 2 * tick_ms + SLACK_MS;
            if !life.closing && end_ms < now_ms {
                return Err(Rule::Sessions.broken(format!(
                    "s{} keeps {session:#x} for {} ms without a sign of life; its timeout is {} ms",
                    server + 1,
                    now_ms - life.perhaps_ms,
                    life.timeout_ms
                )));
            }
        }
        Ok(())
    }
}

impl Life {
    fn new(now_ms: u64, timeout_ms: i32) -> Life {
        let timeout_ms = timeout_ms.max(0) as u64;
        Life { known_ms: now_ms, perhaps_ms: now_ms, timeout_ms, closing: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: usize = 0;
    const FOLLOWER: usize = 1;

    fn led() -> Lives {
        let mut lives = Lives::default();
        lives.leads(LEADER, 1_000, [(7, 400)].into_iter());
        lives
    }

    #[test]
    fn a_session_may_expire_when_its_timeout_is_over_and_not_before() {
        assert!(led().ends(LEADER, 1_400, 7, true).is_err());
        assert!(led().ends(LEADER, 1_401, 7, true).is_ok());
        assert!(led().ends(LEADER, 1_100, 7, false).is_ok(), "its client has asked for it");
    }

    #[test]
    fn what_a_learner_has_heard_counts_from_when_its_report_arrives() {
        let heard = |reported: bool| {
            let mut lives = led();
            lives.heard(3, FOLLOWER, 1, 7, 50);
            lives.reports(9, FOLLOWER, 1, 60, std::iter::empty());
            if reported {
                lives.report_arrives(9, LEADER, 1_300);
            }
            lives.ends(LEADER, 1_500, 7, true)
        };
        assert!(heard(true).is_err());
        assert!(heard(false).is_ok());
    }

    #[test]
    fn a_client_that_a_learner_took_and_let_go_may_have_been_reported() {
        let mut lives = led();
        lives.asks(FOLLOWER, 1, 7);
        lives.reports(9, FOLLOWER, 1, 60, std::iter::empty());
        lives.report_arrives(9, LEADER, 1_300);
        assert!(lives.none_is_late(LEADER, 1_850, 100).is_ok());
        assert!(lives.none_is_late(LEADER, 2_000, 100).is_err());
        assert!(lives.ends(LEADER, 1_500, 7, true).is_ok(), "it is not known for sure");
    }

    #[test]
    fn a_session_that_nobody_hears_of_is_late_after_two_ticks() {
        assert!(led().none_is_late(LEADER, 1_550, 100).is_ok());
        assert!(led().none_is_late(LEADER, 1_700, 100).is_err());
    }
}
