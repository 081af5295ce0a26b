//! A learner as its leader sees it.

use std::collections::VecDeque;

use oxkeeper_proto::quorum::PacketKind;
use oxkeeper_proto::{Epoch, ServerId, Zxid};

use crate::error::Misbehaved;

/// Bytes in a millisecond that a learner is believed to read and write of a snapshot at least: 16 MB/s.
const SNAPSHOT_BYTES_PER_MS: u64 = 16_000;

/// Pings in a row without an answer, after which a learner that speaks of other things is given up.
const MAX_PINGS: usize = 1000;

/// How far a learner has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, Default, Hash)]
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

/// A snapshot on its way to a learner, as the driver reports it.
#[derive(Clone, Copy, Debug, Hash)]
struct Streamed {
    bytes: u64,
    ended: bool,
    /// When the last bytes left.
    at_ms: u64,
}

/// Since when a learner must still have followed this leader. That a packet has arrived does not show it: it
/// may have been under way, or have waited in a socket, for any time. That it answers what was sent does.
///
/// Answers come in the order of the pings, one for each that was sent behind UPTODATE; those to earlier
/// ones, which not all learners answer, come before the ACK of UPTODATE.
#[derive(Clone, Debug, Default, Hash)]
struct Proof {
    /// The time in question, once its ACK of UPTODATE has come.
    at_ms: Option<u64>,
    /// When UPTODATE was sent.
    up_to_date_ms: u64,
    /// Pings since, not answered: the last proposal before each, and when it was sent.
    pings: VecDeque<(Zxid, u64)>,
}

impl Proof {
    fn begin(&mut self) {
        self.shows(self.up_to_date_ms);
    }

    fn answered(&mut self) {
        if self.at_ms.is_some()
            && let Some((_, sent_ms)) = self.pings.pop_front()
        {
            self.shows(sent_ms);
        }
    }

    /// It has logged a proposal: it has read the pings before that, too.
    fn acked(&mut self, zxid: Zxid) {
        let before = self.pings.iter().take_while(|(proposed, _)| *proposed < zxid).last();
        if let Some((_, sent_ms)) = before.filter(|_| self.at_ms.is_some()) {
            self.shows(*sent_ms);
        }
    }

    fn shows(&mut self, ms: u64) {
        self.at_ms = self.at_ms.max(Some(ms));
    }
}

/// A connection from a learner.
#[derive(Clone, Debug, Hash)]
pub struct Link {
    pub stage: Stage,
    /// Known from its first packet on.
    pub server: Option<ServerId>,
    pub observer: bool,
    /// Its acceptedEpoch: it follows no older leader.
    pub promised: Epoch,
    /// How it is being synchronized.
    pub sync: Option<PacketKind>,
    /// Its last logged zxid, from ACKEPOCH.
    pub last_zxid: Zxid,
    /// The first reports of its snapshot make this, the ACK of NEWLEADER ends it.
    streamed: Option<Streamed>,
    /// What shows since when it must still have followed this leader.
    proof: Proof,
    /// From when on its silence counts.
    heard_ms: u64,
    /// Longest silence while it does not serve.
    init_limit_ms: u64,
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
            sync: None,
            last_zxid: Zxid::ZERO,
            streamed: None,
            proof: Proof::default(),
            heard_ms: now_ms,
            init_limit_ms: limit_ms,
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

    /// Is it known to have followed this leader at or after that time?
    pub fn followed_since(&self, ms: u64) -> bool {
        self.forwards() && self.proof.at_ms.is_some_and(|at_ms| ms <= at_ms)
    }

    /// A ping is sent, `proposed` being the last proposal before it.
    pub fn pinged(&mut self, proposed: Zxid, now_ms: u64) {
        if self.stage == Stage::UpToDate {
            self.proof.pings.push_back((proposed, now_ms));
        }
    }

    /// It answers a ping.
    pub fn answered_ping(&mut self) {
        self.proof.answered();
    }

    /// It acknowledges UPTODATE: from here on its answers are to pings sent behind that.
    pub fn acknowledged_up_to_date(&mut self) {
        if self.stage == Stage::UpToDate {
            self.proof.begin();
        }
    }

    /// It may serve. It has had no reason to speak since its ACK: it has its time to answer, and the
    /// shorter limit starts with its next words.
    pub fn up_to_date(&mut self, now_ms: u64, limit_ms: u64) {
        assert_eq!(self.stage, Stage::Acknowledged, "who serves has the leader's history durably");
        self.stage = Stage::UpToDate;
        self.proof.up_to_date_ms = now_ms;
        self.heard_ms = now_ms;
        self.next_limit_ms = limit_ms;
    }

    /// It has made the leader's history durable.
    pub fn acknowledged(&mut self) {
        self.stage = Stage::Acknowledged;
        self.streamed = None;
    }

    /// The driver reports how far its snapshot is.
    pub fn streamed(&mut self, now_ms: u64, bytes: u64, ended: bool) {
        if self.stage != Stage::NewLeaderSent || self.sync != Some(PacketKind::Snap) {
            return;
        }
        let before = self.streamed;
        let progress = before.is_none_or(|before| before.bytes < bytes || !before.ended && ended);
        if progress {
            self.streamed = Some(Streamed { bytes, ended, at_ms: now_ms });
        }
    }

    /// Is a snapshot for it under way, or being read and written by it?
    pub fn gets_snapshot(&self) -> bool {
        self.streamed.is_some()
    }

    /// Registered for live traffic?
    pub fn forwards(&self) -> bool {
        matches!(self.stage, Stage::NewLeaderSent | Stage::Acknowledged | Stage::UpToDate)
    }

    /// Does it count for the quorum of a leader that serves? What a socket takes of a snapshot proves
    /// nothing about the other end: only its own words count, for as long as without a snapshot.
    pub fn alive(&self, now_ms: u64) -> bool {
        self.forwards() && (self.streamed.is_none() || now_ms < self.silent_ms())
    }

    pub fn sent(&mut self, zxid: Zxid, now_ms: u64) {
        self.sent = zxid;
        if self.stage == Stage::UpToDate {
            self.unacked_since_ms.get_or_insert(now_ms);
        }
    }

    pub fn acked(&mut self, zxid: Zxid, now_ms: u64) {
        self.unacked_since_ms = (zxid < self.sent).then_some(now_ms);
        self.proof.acked(zxid);
    }

    pub fn deadline_ms(&self) -> u64 {
        let silent = self.silent_ms();
        if let Some(Streamed { bytes, ended, at_ms }) = self.streamed {
            let allowance_ms = if ended { bytes / SNAPSHOT_BYTES_PER_MS } else { 0 };
            return silent.max(at_ms + self.init_limit_ms + allowance_ms);
        }
        self.unacked_since_ms.map_or(silent, |since| silent.min(since + self.limit_ms))
    }

    pub fn check_deadline(&self, now_ms: u64) -> Result<(), Misbehaved> {
        if MAX_PINGS < self.proof.pings.len() {
            Err(Misbehaved::Silent(now_ms - self.proof.pings[0].1))
        } else if now_ms < self.deadline_ms() {
            Ok(())
        } else if self.silent_ms() <= now_ms {
            Err(Misbehaved::Silent(now_ms - self.heard_ms))
        } else {
            Err(Misbehaved::Slow(self.limit_ms))
        }
    }

    fn silent_ms(&self) -> u64 {
        self.heard_ms + self.limit_ms
    }
}
