//! A peer may send anything: no packet and no notification, in whatever order, brings a server down.

mod common;

use bytes::Bytes;
use common::{ensemble, proposal};
use oxkeeper_proto::quorum::{
    LearnerInfo, NOTIFICATION_VERSION, Notification, PROTOCOL_VERSION, Packet, PacketKind,
    ServerState, ack_epoch_data,
};
use oxkeeper_proto::{Encode, Epochs, Zxid};
use oxkeeper_zab::{
    Config, DiskRequest, Effect, History, Input, LinkId, LogRead, Output, PortRequest, Proposal,
    Zab,
};

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % n
    }

    fn zxid(&mut self) -> Zxid {
        match self.below(12) {
            0 => Zxid(-1),
            1 => Zxid(i64::MAX),
            2 => Zxid(i64::MIN),
            3 => Zxid::new(2, u32::MAX),
            _ => Zxid::new(self.below(4) as u32, self.below(5) as u32),
        }
    }

    fn data(&mut self, zxid: Zxid) -> Option<Bytes> {
        Some(match self.below(8) {
            0 => return None,
            1 => Bytes::from_static(b"\x00\x01"),
            2 => {
                let server = [0, 1, 2, 3, -1, i64::MAX][self.below(6) as usize];
                let config_version = self.below(20) as i64 - 10;
                LearnerInfo { server, protocol: PROTOCOL_VERSION, config_version }.to_bytes().into()
            }
            3 => ack_epoch_data((self.below(2) == 0).then(|| self.below(4) as u32)),
            5 => [&[0; 8][..], &common::payload(zxid, "x")].concat().into(),
            6 => common::payload(zxid, "x").slice(..32 + self.below(12) as usize),
            4 => common::request(self.below(20) as i32).data.unwrap_or_default(),
            _ => common::payload(zxid, "x"),
        })
    }

    fn packet(&mut self) -> Packet {
        let zxid = self.zxid();
        let data = self.data(zxid);
        Packet { kind: self.below(22) as i32 - 1, zxid, data, auth: None }
    }

    fn notification(&mut self) -> Notification {
        let number =
            |random: &mut Random| [0, 1, 2, 3, -1, i64::MIN, i64::MAX][random.below(7) as usize];
        Notification {
            state: self.below(6) as i32 - 1,
            leader: number(self),
            zxid: self.zxid(),
            election_epoch: number(self),
            peer_epoch: number(self),
            version: NOTIFICATION_VERSION,
            config: None,
        }
    }
}

struct Victim {
    zab: Zab,
    now: u64,
    log: Vec<Proposal>,
    next_link: LinkId,
    listening: bool,
    connecting: bool,
}

impl Victim {
    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.zab.handle(self.now, input, &mut out);
        self.perform(out);
    }

    fn perform(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Disk(DiskRequest::Append(proposal)) => {
                    let zxid = proposal.zxid;
                    self.log.push(proposal);
                    self.input(Input::Flushed(zxid));
                }
                Output::Disk(DiskRequest::SaveAcceptedEpoch(epoch)) => {
                    self.input(Input::AcceptedEpochSaved(epoch))
                }
                Output::Disk(DiskRequest::SaveCurrentEpoch(epoch)) => {
                    self.input(Input::CurrentEpochSaved(epoch))
                }
                Output::Disk(DiskRequest::SaveSnapshot) => self.input(Input::SnapshotSaved),
                Output::Disk(DiskRequest::Truncate(zxid)) => {
                    self.log.retain(|proposal| proposal.zxid <= zxid);
                    self.reload();
                }
                Output::Disk(DiskRequest::Reload) => self.reload(),
                Output::ReadLog(LogRead { link, .. }) => {
                    let proposals = Some(self.log.clone());
                    self.input(Input::LogRead { link, proposals });
                }
                Output::Port(PortRequest::Listen) => self.listening = true,
                Output::Port(PortRequest::StopListening) => self.listening = false,
                Output::Port(PortRequest::ConnectLeader(_)) => self.connecting = true,
                Output::Port(PortRequest::CloseLeader) => self.connecting = false,
                Output::Replica(Effect::Pinged(zxid)) => {
                    self.input(Input::PingReply { zxid, touches: Bytes::new() });
                }
                _ => {}
            }
        }
    }

    fn reload(&mut self) {
        let last_zxid = self.log.last().map_or(Zxid::ZERO, |last| last.zxid);
        self.input(Input::Reloaded(History {
            last_zxid,
            recent: self.log.clone(),
            lost_tail: None,
        }));
    }

    /// A conversation as it should be, up to some point.
    fn proper(&mut self, random: &mut Random, me: i64, depth: u64) {
        let (leads, last) = (random.below(2) == 0 && me == 3, self.zab.applied());
        let epoch = self.zab.epoch();
        let settled = |state: ServerState, leader| Notification {
            state: state as i32,
            leader,
            zxid: last,
            election_epoch: 1,
            peer_epoch: i64::from(epoch),
            version: NOTIFICATION_VERSION,
            config: None,
        };
        let (zxid, next) = (Zxid::new(epoch + 1, 0), Zxid::new(epoch + 1, 1));
        let bare = Packet::bare;
        if leads {
            let notification = settled(ServerState::Looking, me);
            self.input(Input::Notified { from: 2, notification });
            self.now += 200;
            let mut out = Vec::new();
            self.zab.on_timeout(self.now, &mut out);
            self.perform(out);
            self.next_link = 1;
            self.input(Input::LearnerConnected(1));
            let info = LearnerInfo { server: 2, protocol: PROTOCOL_VERSION, config_version: 0 };
            let data = ack_epoch_data(Some(epoch));
            let packets = [
                Packet::with(PacketKind::FollowerInfo, Zxid::new(epoch, 0), info.to_bytes()),
                Packet::with(PacketKind::AckEpoch, last, data),
                bare(PacketKind::Ack, zxid),
                bare(PacketKind::Ack, zxid),
            ];
            for packet in packets.into_iter().take(depth as usize) {
                self.input(Input::FromLearner(1, packet));
            }
            return;
        }
        let (leader, other) = if me == 3 { (2, 1) } else { (3, if me == 2 { 1 } else { 2 }) };
        for (from, state) in [(other, ServerState::Following), (leader, ServerState::Leading)] {
            self.input(Input::Notified { from, notification: settled(state, leader) });
        }
        self.input(Input::LeaderConnected);
        let first =
            [PacketKind::Diff, PacketKind::Snap, PacketKind::Trunc][random.below(3) as usize];
        let packets = [
            bare(PacketKind::LeaderInfo, zxid),
            bare(first, last),
            bare(PacketKind::NewLeader, zxid),
            bare(PacketKind::UpToDate, Zxid(-1)),
            Packet::with(PacketKind::Proposal, next, common::payload(next, "x")),
            bare(PacketKind::Commit, next),
        ];
        for packet in packets.into_iter().take(depth as usize) {
            let snap = packet.known_kind() == Some(PacketKind::Snap);
            self.input(Input::FromLeader(packet));
            if snap {
                self.input(Input::SnapshotReceived);
            }
        }
    }

    fn step(&mut self, random: &mut Random) {
        match random.below(20) {
            0..=5 => {
                let (from, notification) = (random.below(4) as i64, random.notification());
                self.input(Input::Notified { from, notification });
            }
            6 => {
                self.now += random.below(400);
                if self.zab.next_timeout().is_some_and(|at| at <= self.now) {
                    let mut out = Vec::new();
                    self.zab.on_timeout(self.now, &mut out);
                    self.perform(out);
                }
            }
            7 => {
                let peer = random.below(4) as i64;
                self.input(Input::ElectionLink { peer, up: random.below(2) == 0 });
            }
            8 if self.listening => {
                self.next_link += 1;
                self.input(Input::LearnerConnected(self.next_link));
            }
            9 if self.connecting => self.input(Input::LeaderConnected),
            10 if random.below(3) == 0 => {
                let (link, bytes) = (1 + random.below(self.next_link + 2), random.below(1 << 40));
                let ended = random.below(2) == 0;
                self.input(Input::SnapshotStreamed { link, bytes, ended });
            }
            10 => self.input(Input::SnapshotReceived),
            11 => {
                if let Some(zxid) = self.zab.next_zxid() {
                    let payload = common::payload(zxid, "ours");
                    self.input(Input::Propose(Proposal { zxid, payload }));
                }
            }
            _ => {
                let packet = random.packet();
                if self.listening {
                    let link = 1 + random.below(self.next_link + 2);
                    self.input(Input::FromLearner(link, packet));
                } else {
                    self.input(Input::FromLeader(packet));
                }
            }
        }
    }
}

#[test]
fn no_packet_brings_a_server_down() {
    let (mut led, mut followed) = (0, 0);
    for seed in 1..=20_000u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let me = [1, 2, 3, 3, 4][random.below(5) as usize];
        let config = Config {
            me,
            ensemble: ensemble(3, 1),
            tick_ms: 200,
            init_limit: 10,
            sync_limit: 5,
            commit_log_count: 3,
            force_snapshot_sync: random.below(10) == 0,
            fast_election: random.below(2) == 0,
            limits: oxkeeper_zab::Limits::default(),
        };
        let log: Vec<_> = (1..=random.below(4) as u32).map(|n| proposal(1, n)).collect();
        let last_zxid = log.last().map_or(Zxid::ZERO, |last| last.zxid);
        let lost_tail = (random.below(8) == 0).then_some(Zxid::new(1, 9));
        let history = History { last_zxid, recent: log.clone(), lost_tail };
        let epoch = u32::from(!log.is_empty());
        let zab = Zab::new(
            config,
            Epochs { accepted: epoch, current: epoch },
            history,
            0,
            &mut Vec::new(),
        );
        let mut victim =
            Victim { zab, now: 0, log, next_link: 0, listening: false, connecting: false };
        let depth = random.below(8);
        victim.proper(&mut random, me, depth);
        for _ in 0..40 {
            victim.step(&mut random);
            led += u32::from(victim.zab.serving() && victim.listening);
            followed += u32::from(victim.zab.serving() && victim.connecting);
        }
    }
    println!("{led} steps as a serving leader, {followed} as a serving learner");
    assert!(0 < led && 0 < followed);
}
