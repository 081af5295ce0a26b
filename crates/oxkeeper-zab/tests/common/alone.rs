//! One server alone with the test, which plays its disk, its peers and its driver.

use bytes::Bytes;
use oxkeeper_proto::quorum::{
    LearnerInfo, NOTIFICATION_VERSION, Notification, PROTOCOL_VERSION, Packet, PacketKind,
    ServerState, ack_epoch_data,
};
use oxkeeper_proto::{Encode, Epoch, Epochs, ServerId, Zxid};
use oxkeeper_zab::{Config, DiskRequest, History, Input, LinkId, Output, PortRequest, Zab};

use super::{ensemble, proposal};

pub fn config(me: ServerId, voters: i64, observers: i64) -> Config {
    Config {
        me,
        ensemble: ensemble(voters, observers),
        tick_ms: 200,
        init_limit: 10,
        sync_limit: 5,
        commit_log_count: 500,
        force_snapshot_sync: false,
        fast_election: false,
        limits: oxkeeper_zab::Limits::default(),
    }
}

/// One server, alone with the test.
pub struct Alone {
    pub zab: Zab,
    pub now: u64,
}

impl Alone {
    pub fn new(config: Config, accepted: Epoch, current: Epoch, log: &[(u32, u32)]) -> Alone {
        let recent: Vec<_> =
            log.iter().map(|(epoch, counter)| proposal(*epoch, *counter)).collect();
        let last_zxid = recent.last().map_or(Zxid::ZERO, |last| last.zxid);
        let history = History { last_zxid, recent, lost_tail: None };
        let mut out = Vec::new();
        let zab = Zab::new(config, Epochs { accepted, current }, history, 1_000, &mut out);
        Alone { zab, now: 1_000 }
    }

    pub fn input(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.zab.handle(self.now, input, &mut out);
        out
    }

    pub fn timeout(&mut self) -> Vec<Output> {
        self.now = self.zab.next_timeout().expect("a deadline");
        let mut out = Vec::new();
        self.zab.on_timeout(self.now, &mut out);
        out
    }

    /// Server 1 follows 3, and has told its epoch.
    pub fn follower(accepted: Epoch, current: Epoch, log: &[(u32, u32)]) -> Alone {
        let mut server = Alone::new(config(1, 3, 0), accepted, current, log);
        for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
            let zxid = server.zab.applied();
            let notification = vote(state, 3, zxid, 7, i64::from(current));
            server.input(Input::Notified { from, notification });
        }
        assert_eq!(server.zab.leader(), Some(3));
        server.input(Input::LeaderConnected);
        server
    }

    /// The same, synchronized up to NEWLEADER of `epoch` by DIFF; the ACK is not sent yet.
    pub fn leader_says(&mut self, kind: PacketKind, zxid: Zxid) -> Vec<Output> {
        self.input(Input::FromLeader(Packet::bare(kind, zxid)))
    }

    pub fn proposes(&mut self, epoch: u32, counter: u32) -> Vec<Output> {
        let proposal = proposal(epoch, counter);
        let packet = Packet::with(PacketKind::Proposal, proposal.zxid, proposal.payload);
        self.input(Input::FromLeader(packet))
    }

    /// A follower behind LEADERINFO and DIFF.
    pub fn synchronizing(epoch: Epoch, log: &[(u32, u32)]) -> Alone {
        let mut server = Alone::follower(epoch - 1, epoch - 1, log);
        server.leader_says(PacketKind::LeaderInfo, Zxid::new(epoch, 0));
        server.input(Input::AcceptedEpochSaved(epoch));
        server.leader_says(PacketKind::Diff, Zxid::new(epoch - 1, 9));
        server
    }

    /// Server 3 leads, and waits for epochs.
    pub fn leader(accepted: Epoch, current: Epoch, log: &[(u32, u32)]) -> Alone {
        let mut server = Alone::new(config(3, 3, 0), accepted, current, log);
        let zxid = server.zab.applied();
        let notification = vote(ServerState::Looking, 3, zxid, 1, i64::from(current));
        server.input(Input::Notified { from: 2, notification });
        server.timeout();
        assert_eq!(server.zab.state(), ServerState::Leading);
        server
    }

    pub fn learner_says(&mut self, link: LinkId, packet: Packet) -> Vec<Output> {
        self.input(Input::FromLearner(link, packet))
    }

    pub fn info(&mut self, link: LinkId, server: ServerId, accepted: Epoch) -> Vec<Output> {
        self.input(Input::LearnerConnected(link));
        let info = LearnerInfo { server, protocol: PROTOCOL_VERSION, config_version: 0 };
        let zxid = Zxid::new(accepted, 0);
        self.learner_says(link, Packet::with(PacketKind::FollowerInfo, zxid, info.to_bytes()))
    }

    pub fn ack_epoch(&mut self, link: LinkId, zxid: Zxid, current: Option<Epoch>) -> Vec<Output> {
        let packet = Packet::with(PacketKind::AckEpoch, zxid, ack_epoch_data(current));
        self.learner_says(link, packet)
    }

    pub fn ack(&mut self, link: LinkId, zxid: Zxid) -> Vec<Output> {
        self.learner_says(link, Packet::bare(PacketKind::Ack, zxid))
    }

    /// A leader of epoch 2 behind the NEWLEADER of its first follower, 2.
    pub fn new_leader_sent() -> Alone {
        let mut server = Alone::leader(1, 1, &[(1, 1)]);
        server.info(1, 2, 1);
        server.input(Input::AcceptedEpochSaved(2));
        server.ack_epoch(1, Zxid::new(1, 1), Some(1));
        server.input(Input::CurrentEpochSaved(2));
        server
    }

    pub fn serving() -> Alone {
        let mut server = Alone::new_leader_sent();
        server.ack(1, Zxid::new(2, 0));
        assert!(server.zab.serving());
        server
    }
}

pub fn vote(
    state: ServerState,
    leader: ServerId,
    zxid: Zxid,
    round: i64,
    epoch: i64,
) -> Notification {
    Notification {
        state: state as i32,
        leader,
        zxid,
        election_epoch: round,
        peer_epoch: epoch,
        version: NOTIFICATION_VERSION,
        config: None,
    }
}

pub fn to_leader(out: &[Output]) -> Vec<(PacketKind, Zxid)> {
    out.iter()
        .filter_map(|output| match output {
            Output::Port(PortRequest::ToLeader(packet)) => {
                Some((packet.known_kind()?, packet.zxid))
            }
            _ => None,
        })
        .collect()
}

pub fn to_learner(out: &[Output], to: LinkId) -> Vec<(PacketKind, Zxid)> {
    out.iter()
        .filter_map(|output| match output {
            Output::Port(PortRequest::ToLearner(link, packet)) if *link == to => {
                Some((packet.known_kind()?, packet.zxid))
            }
            Output::Port(PortRequest::ProposalToLearner { link, proposal, inform: false })
                if *link == to =>
            {
                Some((PacketKind::Proposal, proposal.zxid))
            }
            _ => None,
        })
        .collect()
}

pub fn closes(out: &[Output], id: LinkId) -> bool {
    out.iter().any(|output| matches!(output, Output::Port(PortRequest::CloseLearner { link, .. }) if *link == id))
}

pub fn appended(out: &[Output]) -> Vec<Zxid> {
    out.iter()
        .filter_map(|output| match output {
            Output::Disk(DiskRequest::Append(proposal)) => Some(proposal.zxid),
            _ => None,
        })
        .collect()
}

impl Alone {
    /// Observer 4 of leader 3, which has announced epoch 2.
    pub fn observer() -> Alone {
        let mut server = Alone::new(config(4, 3, 1), 1, 1, &[(1, 1)]);
        for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
            let notification = vote(state, 3, Zxid::new(1, 1), 7, 1);
            server.input(Input::Notified { from, notification });
        }
        server.input(Input::LeaderConnected);
        server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
        server.input(Input::AcceptedEpochSaved(2));
        server
    }

    pub fn leader_sends(&mut self, kind: PacketKind, zxid: Zxid, data: Bytes) -> Vec<Output> {
        self.input(Input::FromLeader(Packet::with(kind, zxid, data)))
    }
}

impl Alone {
    /// Server 1 has 1.1 and 1.2, could not cut its log to 1.1, and follows 3 again, whose vote is this.
    pub fn needs_snapshot(zxid: Zxid, peer_epoch: i64) -> Alone {
        let mut server = Alone::follower(1, 1, &[(1, 1), (1, 2)]);
        server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
        server.input(Input::AcceptedEpochSaved(2));
        server.leader_says(PacketKind::Trunc, Zxid::new(1, 1));
        server.input(Input::TruncateFailed);
        server.timeout();
        for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
            let notification = vote(state, 3, zxid, 9, peer_epoch);
            server.input(Input::Notified { from, notification });
        }
        assert_eq!(server.zab.leader(), Some(3));
        server.input(Input::LeaderConnected);
        server
    }
}
