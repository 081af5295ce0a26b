//! What Apache 3.9.5 servers said to each other, replayed: the learner's half of a recorded connection
//! against our leader with the same history, the leader's half against our learner. The other half
//! must come out packet for packet: same kinds, same zxids. Pings depend on time and are left out.

#![allow(clippy::disallowed_methods, reason = "it reads recorded files, or how much to run")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use bytes::Bytes;
use common::ensemble;
use oxkeeper_proto::quorum::{
    NOTIFICATION_VERSION, Notification, Packet, PacketKind, ServerState, ack_epoch_data,
};
use oxkeeper_proto::{Encode, Epoch, Epochs, Reader, ServerId, Zxid};
use oxkeeper_zab::{
    Config, DiskRequest, Effect, History, Input, LinkId, LogRead, Output, PortRequest, Proposal,
    Zab,
};

type Said = Vec<(PacketKind, Zxid)>;

/// The packets of one direction of a recorded connection; snapshot streams are left out.
fn recorded(name: &str) -> Vec<Packet> {
    let folder =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../oxkeeper-proto/tests/vectors/quorum");
    let name = format!("ensemble-3.9.5/{name}.bin");
    let index = std::fs::read_to_string(folder.join("index.txt")).expect("the index");
    let bytes = std::fs::read(folder.join(&name)).expect("the stream");
    let mut lines = index.lines().skip_while(|line| !line.starts_with(&format!("stream {name} ")));
    assert!(lines.next().is_some(), "{name} is in the index");
    let mut packets = Vec::new();
    for line in lines.take_while(|line| !line.starts_with("stream")) {
        let fields: Vec<&str> = line.split(' ').collect();
        let number = |text: &str| text.parse::<usize>().expect("a number");
        if fields[2] != "SNAPSHOT-STREAM" {
            let bytes = &bytes[number(fields[0])..][..number(fields[1])];
            let (packet, _) = Packet::decode(bytes, 1 << 20).expect("valid").expect("whole");
            packets.push(packet);
        }
    }
    packets
}

/// All proposals that the recorded ensemble made in epoch 1.
fn history() -> BTreeMap<Zxid, Bytes> {
    recorded("004-quorum-s3-to-s2.s2c")
        .into_iter()
        .filter(|packet| packet.known_kind() == Some(PacketKind::Proposal))
        .map(|packet| (packet.zxid, packet.data.expect("a payload")))
        .collect()
}

fn proposals(up_to: u32) -> Vec<Proposal> {
    let last = Zxid::new(1, up_to);
    let all = history().into_iter().map(|(zxid, payload)| Proposal { zxid, payload });
    all.take_while(|proposal| proposal.zxid <= last).collect()
}

fn config(me: ServerId, voters: i64, observers: i64) -> Config {
    Config {
        me,
        ensemble: ensemble(voters, observers),
        tick_ms: 500,
        init_limit: 20,
        sync_limit: 10,
        commit_log_count: 500,
        force_snapshot_sync: false,
        fast_election: false,
        limits: oxkeeper_zab::Limits::default(),
    }
}

fn vote(state: ServerState, leader: ServerId) -> Notification {
    Notification {
        state: state as i32,
        leader,
        zxid: Zxid::ZERO,
        election_epoch: 1,
        peer_epoch: 0,
        version: NOTIFICATION_VERSION,
        config: None,
    }
}

/// A server whose disk answers at once.
struct Server {
    zab: Zab,
    /// What it says on the link of interest.
    said: Said,
    link: LinkId,
    log: Vec<Proposal>,
    forwarded: usize,
    served: bool,
}

impl Server {
    fn new(config: Config, accepted: Epoch, current: Epoch, history: History) -> Server {
        let log = history.recent.clone();
        let zab = Zab::new(config, Epochs { accepted, current }, history, 0, &mut Vec::new());
        Server { zab, said: Vec::new(), link: 0, log, forwarded: 0, served: false }
    }

    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.zab.handle(0, input, &mut out);
        for output in out {
            self.perform(output);
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Port(PortRequest::ToLeader(packet)) => {
                self.say(packet.known_kind(), packet.zxid)
            }
            Output::Port(PortRequest::ToLearner(link, packet)) if link == self.link => {
                self.say(packet.known_kind(), packet.zxid);
            }
            Output::Port(PortRequest::ProposalToLearner { link, proposal, inform })
                if link == self.link =>
            {
                let kind = if inform { PacketKind::Inform } else { PacketKind::Proposal };
                self.say(Some(kind), proposal.zxid);
            }
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
                self.input(Input::Reloaded(History {
                    last_zxid: zxid,
                    recent: self.log.clone(),
                    lost_tail: None,
                }));
            }
            // Apache, too, had no log that was worth reading.
            Output::ReadLog(LogRead { link, .. }) => {
                self.input(Input::LogRead { link, proposals: None })
            }
            Output::Replica(Effect::Forwarded { .. }) => self.forwarded += 1,
            Output::Replica(Effect::StartServing { .. }) => self.served = true,
            Output::Replica(Effect::Pinged(zxid)) => {
                self.input(Input::PingReply { zxid, touches: Bytes::new() })
            }
            Output::Port(PortRequest::CloseLeader) => panic!("the learner left its leader"),
            Output::Port(PortRequest::CloseLearner { reason, .. }) => {
                panic!("the leader closed a link: {reason}")
            }
            _ => {}
        }
    }

    fn say(&mut self, kind: Option<PacketKind>, zxid: Zxid) {
        self.said.push((kind.expect("known kinds are sent"), zxid));
    }

    /// Server 2 of three leads epoch 1, and has committed this far with the help of server 3.
    fn leader(committed: u32) -> Server {
        let mut config = config(2, 3, 0);
        // The recorded ensemble had made its configuration its own.
        config.ensemble.version = Zxid::new(1, 0).0;
        let mut server = Server::new(config, 0, 0, History::default());
        let helper = if committed == 0 { 1 } else { 3 };
        let notification = vote(ServerState::Looking, 2);
        server.input(Input::Notified { from: helper, notification });
        let mut out = Vec::new();
        server.zab.on_timeout(200, &mut out);
        assert_eq!(server.zab.state(), ServerState::Leading);
        if committed == 0 {
            return server;
        }
        let info = recorded("004-quorum-s3-to-s2.c2s").swap_remove(0);
        let ack = |zxid| Packet::bare(PacketKind::Ack, zxid);
        server.input(Input::LearnerConnected(99));
        server.input(Input::FromLearner(99, info));
        let data = ack_epoch_data(Some(0));
        let packet = Packet::with(PacketKind::AckEpoch, Zxid::ZERO, data);
        server.input(Input::FromLearner(99, packet));
        server.input(Input::FromLearner(99, ack(Zxid::new(1, 0))));
        for proposal in proposals(committed) {
            let zxid = proposal.zxid;
            server.input(Input::Propose(proposal));
            server.input(Input::FromLearner(99, ack(zxid)));
        }
        server
    }

    /// Feeds a learner's packets, and proposes what the recorded leader proposed in between.
    fn serve(&mut self, packets: Vec<Packet>) -> Said {
        let history = history();
        self.link = 1;
        self.input(Input::LearnerConnected(1));
        for packet in packets {
            let next = self.zab.next_zxid();
            if packet.known_kind() == Some(PacketKind::Ack) && next == Some(packet.zxid) {
                // Someone else's request.
                self.propose(&history);
            }
            let before = self.forwarded;
            self.input(Input::FromLearner(1, packet));
            if before < self.forwarded {
                self.propose(&history);
            }
        }
        self.said.retain(|(kind, _)| *kind != PacketKind::Ping);
        std::mem::take(&mut self.said)
    }

    fn propose(&mut self, history: &BTreeMap<Zxid, Bytes>) {
        let zxid = self.zab.next_zxid().expect("the leader serves");
        let payload = history[&zxid].clone();
        self.input(Input::Propose(Proposal { zxid, payload }));
        if self.zab.learners().iter().any(|learner| learner.link == 99) {
            self.input(Input::FromLearner(99, Packet::bare(PacketKind::Ack, zxid)));
        }
    }
}

fn kinds(packets: &[Packet], without: &[PacketKind]) -> Said {
    packets
        .iter()
        .filter_map(|packet| Some((packet.known_kind()?, packet.zxid)))
        .filter(|(kind, _)| !without.contains(kind))
        .collect()
}

fn until(said: &mut Said, zxid: Zxid) {
    let end = said.iter().position(|(_, at)| *at == zxid).unwrap_or(said.len());
    said.truncate(end);
}

fn leader_says_the_same(connection: &str, committed: u32, end: u32) {
    let end = Zxid::new(1, end);
    let mut c2s = recorded(&format!("{connection}.c2s"));
    if let Some(cut) = c2s.iter().position(|packet| packet.zxid == end) {
        c2s.truncate(cut);
    }
    let mut expected =
        kinds(&recorded(&format!("{connection}.s2c")), &[PacketKind::Ping, PacketKind::Revalidate]);
    until(&mut expected, end);
    let said = Server::leader(committed).serve(c2s);
    // What is committed between two packets of this learner may come one packet sooner or later.
    let order = |said: &Said, kinds: &[PacketKind]| -> Said {
        said.iter().filter(|(kind, _)| kinds.contains(kind)).copied().collect()
    };
    for one in
        [&[PacketKind::Proposal][..], &[PacketKind::Commit, PacketKind::Sync, PacketKind::Inform]]
    {
        assert_eq!(order(&said, one), order(&expected, one), "{connection}");
    }
    let synced = |said: &Said| {
        let end = said.iter().position(|(kind, _)| *kind == PacketKind::UpToDate);
        said[..=end.expect("UPTODATE")].to_vec()
    };
    assert_eq!(synced(&said), synced(&expected), "{connection}");
    assert!(10 < said.len() || said == expected, "{connection}: {said:?}");
}

#[test]
fn our_leader_answers_a_recorded_first_follower_like_apache() {
    let c2s = recorded("001-quorum-s1-to-s2.c2s");
    let expected = kinds(&recorded("001-quorum-s1-to-s2.s2c"), &[PacketKind::Ping]);
    let said = Server::leader(0).serve(c2s);
    assert_eq!(said, expected);
}

#[test]
fn our_leader_brings_recorded_learners_up_to_date_like_apache() {
    leader_says_the_same("009-quorum-s1-to-s2", 0x13, 0xff);
    leader_says_the_same("014-quorum-s1-to-s2", 0x16, 0xff);
    // From 0x1b on the recorded ensemble changes its members.
    leader_says_the_same("019-quorum-s1-to-s2", 0x17, 0x1b);
    leader_says_the_same("026-quorum-s4-to-s2", 0x1a, 0x1b);
}

/// Feeds a leader's packets to a learner with the recorded state; what it sends must be what was sent.
fn learner_says_the_same(connection: &str, me: ServerId, leader: ServerId, observers: i64) {
    let c2s = recorded(&format!("{connection}.c2s"));
    let s2c = recorded(&format!("{connection}.s2c"));
    let accepted = c2s[0].zxid.epoch();
    let last_zxid = c2s[1].zxid;
    let data = c2s[1].data.as_deref().unwrap_or_default();
    let told = Reader::new(data).int().expect("currentEpoch");
    let current = if told == -1 { accepted } else { told as u32 };
    let recent = proposals(last_zxid.counter());
    let mut server = Server::new(
        config(me, 3, observers),
        accepted,
        current,
        History { last_zxid, recent, lost_tail: None },
    );
    for from in (1..=3).filter(|from| *from != me) {
        let state = if from == leader { ServerState::Leading } else { ServerState::Following };
        server.input(Input::Notified { from, notification: vote(state, leader) });
    }
    assert_eq!(server.zab.leader(), Some(leader));
    server.input(Input::LeaderConnected);
    let mut packets: VecDeque<_> = s2c.into();
    while let Some(packet) = packets.pop_front() {
        let snap = packet.known_kind() == Some(PacketKind::Snap);
        server.input(Input::FromLeader(packet));
        if snap {
            server.input(Input::SnapshotReceived);
        }
    }
    assert!(server.served, "{connection} reaches broadcast");
    let local = [PacketKind::Ping, PacketKind::Request, PacketKind::Revalidate];
    server.said.retain(|(kind, _)| !local.contains(kind));
    let mut expected = kinds(&c2s, &local);
    // The recording ends at some point between a proposal and its ACK.
    let common = expected.len().min(server.said.len());
    assert!(expected.len().abs_diff(server.said.len()) <= 1, "{connection}");
    expected.truncate(common);
    server.said.truncate(common);
    assert_eq!(server.said, expected, "{connection}");
}

#[test]
fn our_learner_answers_a_recorded_leader_like_apache() {
    learner_says_the_same("001-quorum-s1-to-s2", 1, 2, 0);
    learner_says_the_same("004-quorum-s3-to-s2", 3, 2, 0);
    learner_says_the_same("009-quorum-s1-to-s2", 1, 2, 0);
    learner_says_the_same("014-quorum-s1-to-s2", 1, 2, 0);
    learner_says_the_same("019-quorum-s1-to-s2", 1, 2, 0);
    learner_says_the_same("026-quorum-s4-to-s2", 4, 2, 0);
    learner_says_the_same("027-quorum-s4-to-s2", 4, 2, 1);
    learner_says_the_same("030-quorum-s3-to-s1", 3, 1, 0);
    learner_says_the_same("031-quorum-s4-to-s1", 4, 1, 1);
    learner_says_the_same("032-quorum-s2-to-s1", 2, 1, 0);
}

/// The first packets are the same to the byte, configuration apart.
#[test]
fn a_learner_introduces_itself_with_the_recorded_bytes() {
    let c2s = recorded("001-quorum-s1-to-s2.c2s");
    let mut zab =
        Zab::new(config(1, 3, 0), Epochs::default(), History::default(), 0, &mut Vec::new());
    for from in [2, 3] {
        let state = if from == 2 { ServerState::Leading } else { ServerState::Following };
        let input = Input::Notified { from, notification: vote(state, 2) };
        zab.handle(0, input, &mut Vec::new());
    }
    let mut out = Vec::new();
    zab.handle(0, Input::LeaderConnected, &mut out);
    let packet = Packet::with(PacketKind::LeaderInfo, Zxid::new(1, 0), vec![0, 1, 0, 0]);
    zab.handle(0, Input::FromLeader(packet), &mut out);
    zab.handle(0, Input::AcceptedEpochSaved(1), &mut out);
    let sent: Vec<_> = out
        .iter()
        .filter_map(|output| match output {
            Output::Port(PortRequest::ToLeader(packet)) => Some(packet.to_bytes()),
            _ => None,
        })
        .collect();
    assert_eq!(sent, [c2s[0].to_bytes(), c2s[1].to_bytes()]);
}
