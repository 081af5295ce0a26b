//! A learner as its leader sees it.

use oxkeeper_proto::{Epoch, ServerId, Zxid};

use crate::error::Misbehaved;

/// How far a learner has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Connected; FOLLOWERINFO or OBSERVERINFO must come.
    New,
    /// Has reported; the epoch is not final yet.
    WaitingForEpoch,
    /// ACKEPOCH must come.
    LeaderInfoSent,
    /// A quorum must acknowledge the epoch first.
    WaitingForSync,
    /// The log is being read for it.
    ReadingLog,
    /// Gets everything; the ACK of NEWLEADER must come.
    NewLeaderSent,
    /// Has acknowledged; a quorum must, too.
    Acknowledged,
    /// Serves.
    UpToDate,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::New => "waiting for FOLLOWERINFO or OBSERVERINFO",
            Stage::WaitingForEpoch => "waiting for an epoch",
            Stage::LeaderInfoSent => "waiting for ACKEPOCH",
            Stage::WaitingForSync => "waiting for a quorum of ACKEPOCH",
            Stage::ReadingLog => "reading the log",
            Stage::NewLeaderSent => "waiting for the ACK of NEWLEADER",
            Stage::Acknowledged => "waiting for a quorum of NEWLEADER acks",
            Stage::UpToDate => "serving",
        }
    }
}

/// Commits that wait. An epoch's commits have no gaps, so the first and the last say all.
#[derive(Debug, Default)]
pub struct HeldCommits(Option<(Zxid, Zxid)>);

impl HeldCommits {
    pub fn push(&mut self, zxid: Zxid) {
        let first = self.0.map_or(zxid, |(first, last)| {
            assert_eq!(last.next(), Some(zxid), "every zxid is committed, in order");
            first
        });
        self.0 = Some((first, zxid));
    }

    pub fn take(&mut self) -> impl Iterator<Item = Zxid> + use<> {
        let (first, last) = self.0.take().unwrap_or((Zxid(1), Zxid(0)));
        (first.0..=last.0).map(Zxid)
    }
}

/// A connection from a learner.
#[derive(Debug)]
pub struct Link {
    pub stage: Stage,
    /// Known from its first packet on.
    pub server: Option<ServerId>,
    pub observer: bool,
    /// Its acceptedEpoch: it follows no older leader.
    pub promised: Epoch,
    /// Its last logged zxid, from ACKEPOCH.
    pub last_zxid: Zxid,
    heard_ms: u64,
    /// Longest silence allowed.
    limit_ms: u64,
    /// The limit from its next sign of life on.
    next_limit_ms: u64,
    /// Commits made between NEWLEADER and UPTODATE.
    pub held_commits: HeldCommits,
    /// Last proposal sent, and since when one has been waiting for its ACK.
    sent: Zxid,
    unacked_since_ms: Option<u64>,
}

impl Link {
    pub fn new(now_ms: u64, limit_ms: u64) -> Link {
        Link {
            stage: Stage::New,
            server: None,
            observer: false,
            promised: 0,
            last_zxid: Zxid::ZERO,
            heard_ms: now_ms,
            limit_ms,
            next_limit_ms: limit_ms,
            held_commits: HeldCommits::default(),
            sent: Zxid::ZERO,
            unacked_since_ms: None,
        }
    }

    /// A sign of life.
    pub fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.limit_ms = self.next_limit_ms;
    }

    /// The limit of a learner that serves, from its next sign of life on.
    pub fn serving_limit(&mut self, limit_ms: u64) {
        self.next_limit_ms = limit_ms;
    }

    /// Registered for live traffic?
    pub fn forwards(&self) -> bool {
        matches!(self.stage, Stage::NewLeaderSent | Stage::Acknowledged | Stage::UpToDate)
    }

    /// Is it pinged, and does it count as alive?
    pub fn has_sender(&self) -> bool {
        self.forwards()
    }

    pub fn sent(&mut self, zxid: Zxid, now_ms: u64) {
        self.sent = zxid;
        if self.stage == Stage::UpToDate {
            self.unacked_since_ms.get_or_insert(now_ms);
        }
    }

    pub fn acked(&mut self, zxid: Zxid, now_ms: u64) {
        self.unacked_since_ms = (zxid < self.sent).then_some(now_ms);
    }

    pub fn deadline_ms(&self) -> u64 {
        let silent = self.heard_ms + self.limit_ms;
        self.unacked_since_ms.map_or(silent, |since| silent.min(since + self.limit_ms))
    }

    pub fn check_deadline(&self, now_ms: u64) -> Result<(), Misbehaved> {
        if self.heard_ms + self.limit_ms <= now_ms {
            Err(Misbehaved::Silent(self.limit_ms))
        } else if self.deadline_ms() <= now_ms {
            Err(Misbehaved::Slow(self.limit_ms))
        } else {
            Ok(())
        }
    }
}
