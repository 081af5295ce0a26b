//! What a proposal costs a leader, and a follower. Run it with
//! `cargo test --release -p oxkeeper-zab --test pace -- --ignored --nocapture`.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "it measures")]

mod common;

use std::time::Instant;

use bytes::Bytes;
use common::{ensemble, payload};
use oxkeeper_proto::quorum::{
    LearnerInfo, NOTIFICATION_VERSION, Notification, PROTOCOL_VERSION, Packet, PacketKind,
    ServerState, ack_epoch_data,
};
use oxkeeper_proto::{Encode, Epochs, Zxid};
use oxkeeper_zab::{Config, Effect, History, Input, LinkId, Output, Proposal, Zab};

const COUNT: u32 = 400_000;

fn config(me: i64) -> Config {
    Config {
        me,
        ensemble: ensemble(3, 0),
        tick_ms: 2_000,
        init_limit: 10,
        sync_limit: 5,
        commit_log_count: 500,
        force_snapshot_sync: false,
        fast_election: false,
        limits: oxkeeper_zab::Limits::default(),
    }
}

fn vote(state: ServerState) -> Input {
    let notification = Notification {
        state: state as i32,
        leader: 3,
        zxid: Zxid::ZERO,
        election_epoch: 1,
        peer_epoch: 0,
        version: NOTIFICATION_VERSION,
        config: None,
    };
    Input::Notified { from: 2, notification }
}

fn leader() -> Zab {
    let out = &mut Vec::new();
    let mut zab = Zab::new(config(3), Epochs::default(), History::default(), 0, out);
    zab.handle(0, vote(ServerState::Looking), out);
    zab.on_timeout(200, out);
    for link in [1, 2] {
        let info =
            LearnerInfo { server: link, protocol: PROTOCOL_VERSION, config_version: 0 }.to_bytes();
        let link = link as LinkId;
        zab.handle(200, Input::LearnerConnected(link), out);
        let packet = Packet::with(PacketKind::FollowerInfo, Zxid::ZERO, info);
        zab.handle(200, Input::FromLearner(link, packet), out);
    }
    zab.handle(200, Input::AcceptedEpochSaved(1), out);
    for link in [1, 2] {
        let packet = Packet::with(PacketKind::AckEpoch, Zxid::ZERO, ack_epoch_data(Some(0)));
        zab.handle(200, Input::FromLearner(link, packet), out);
    }
    zab.handle(200, Input::CurrentEpochSaved(1), out);
    for link in [1, 2] {
        ack(&mut zab, link, Zxid::new(1, 0), out);
    }
    assert!(zab.serving());
    zab
}

fn ack(zab: &mut Zab, link: LinkId, zxid: Zxid, out: &mut Vec<Output>) {
    zab.handle(300, Input::FromLearner(link, Packet::bare(PacketKind::Ack, zxid)), out);
}

/// Proposes in groups: each group is flushed at once, and acknowledged one by one.
fn measure(group: u32) -> f64 {
    let mut zab = leader();
    let mut out = Vec::with_capacity(4096);
    let payload = Bytes::from(vec![0u8; 150]);
    let mut commits = 0;
    let start = Instant::now();
    for _ in 0..COUNT / group {
        let first = zab.next_zxid().expect("room").counter();
        for _ in 0..group {
            let zxid = zab.next_zxid().expect("room");
            let proposal = Proposal { zxid, payload: payload.clone() };
            zab.handle(300, Input::Propose(proposal), &mut out);
        }
        let last = first + group - 1;
        zab.handle(300, Input::Flushed(Zxid::new(1, last)), &mut out);
        for link in [1, 2] {
            for counter in first..=last {
                ack(&mut zab, link, Zxid::new(1, counter), &mut out);
            }
        }
        commits +=
            out.iter().filter(|output| matches!(output, Output::Replica(Effect::Apply(_)))).count();
        out.clear();
    }
    let took = start.elapsed();
    assert_eq!(commits as u32, COUNT / group * group);
    took.as_nanos() as f64 / commits as f64
}

fn measure_follower() -> f64 {
    let mut out = Vec::with_capacity(64);
    let mut zab = Zab::new(config(2), Epochs::default(), History::default(), 0, &mut out);
    for (from, state) in [(1, ServerState::Following), (3, ServerState::Leading)] {
        let Input::Notified { notification, .. } = vote(state) else { unreachable!() };
        zab.handle(0, Input::Notified { from, notification }, &mut out);
    }
    zab.handle(0, Input::LeaderConnected, &mut out);
    let mut says = |zab: &mut Zab, packet| zab.handle(0, Input::FromLeader(packet), &mut out);
    says(&mut zab, Packet::bare(PacketKind::LeaderInfo, Zxid::new(1, 0)));
    zab.handle(0, Input::AcceptedEpochSaved(1), &mut Vec::new());
    says(&mut zab, Packet::bare(PacketKind::Diff, Zxid::ZERO));
    says(&mut zab, Packet::bare(PacketKind::NewLeader, Zxid::new(1, 0)));
    zab.handle(0, Input::CurrentEpochSaved(1), &mut Vec::new());
    says(&mut zab, Packet::bare(PacketKind::UpToDate, Zxid(-1)));
    assert!(zab.serving());
    let payloads: Vec<_> =
        (1..=COUNT).map(|counter| payload(Zxid::new(1, counter), "some data")).collect();
    let start = Instant::now();
    for (counter, payload) in (1..=COUNT).zip(payloads) {
        let zxid = Zxid::new(1, counter);
        let packet = Packet::with(PacketKind::Proposal, zxid, payload);
        zab.handle(0, Input::FromLeader(packet), &mut out);
        zab.handle(0, Input::Flushed(zxid), &mut out);
        let packet = Packet::bare(PacketKind::Commit, zxid);
        zab.handle(0, Input::FromLeader(packet), &mut out);
        out.clear();
    }
    assert_eq!(zab.applied(), Zxid::new(1, COUNT));
    start.elapsed().as_nanos() as f64 / f64::from(COUNT)
}

#[test]
#[ignore = "a measurement"]
fn a_proposal_costs_less_than_two_microseconds() {
    for group in [1, 32, 1000] {
        let cost = measure(group);
        println!("leader, groups of {group}: {cost:.0} ns for a proposal");
        assert!(cost < 2_000.0);
    }
    let cost = measure_follower();
    println!("follower: {cost:.0} ns for a proposal");
    assert!(cost < 2_000.0);
}
