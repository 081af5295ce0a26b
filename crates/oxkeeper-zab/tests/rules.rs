//! Rules of the protocol, one server at a time.

mod common;

use common::alone::{Alone, appended, config, to_leader, to_learner, vote};
use common::proposal;
use oxkeeper_proto::quorum::{LearnerInfo, PROTOCOL_VERSION, Packet, PacketKind, ServerState};
use oxkeeper_proto::{Encode, Zxid};
use oxkeeper_zab::{Config, DiskRequest, Effect, Input, Output, PortRequest};

fn applied(out: &[Output]) -> Vec<Zxid> {
    out.iter()
        .filter_map(|output| match output {
            Output::Replica(Effect::Apply(proposal)) => Some(proposal.zxid),
            _ => None,
        })
        .collect()
}

/// Forgetting a promise in a crash would let two leaders have one epoch.
#[test]
fn an_epoch_is_promised_only_when_it_is_saved() {
    let mut follower = Alone::follower(1, 1, &[(1, 1)]);
    let out = follower.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    assert!(matches!(out[..], [Output::Disk(DiskRequest::SaveAcceptedEpoch(2))]), "{out:?}");
    let out = follower.input(Input::AcceptedEpochSaved(2));
    assert_eq!(to_leader(&out), [(PacketKind::AckEpoch, Zxid::new(1, 1))]);

    let mut leader = Alone::leader(1, 1, &[(1, 1)]);
    let out = leader.info(1, 2, 1);
    assert!(matches!(out[..], [Output::Disk(DiskRequest::SaveAcceptedEpoch(2))]), "{out:?}");
    let out = leader.input(Input::AcceptedEpochSaved(2));
    assert_eq!(to_learner(&out, 1), [(PacketKind::LeaderInfo, Zxid::new(2, 0))]);
}

/// Leader 3 of five voters and an observer, whose followers 1 and 2 and observer 6 have NEWLEADER.
fn five_and_an_observer() -> Alone {
    with_new_leader_sent(config(3, 5, 1))
}

fn with_new_leader_sent(config: Config) -> Alone {
    let mut server = Alone::new(config, 1, 1, &[(1, 1)]);
    for from in [1, 2] {
        let notification = vote(ServerState::Looking, 3, Zxid::new(1, 1), 1, 1);
        server.input(Input::Notified { from, notification });
    }
    server.timeout();
    server.info(1, 1, 1);
    server.info(2, 2, 1);
    server.input(Input::AcceptedEpochSaved(2));
    server.ack_epoch(1, Zxid::new(1, 1), Some(1));
    server.ack_epoch(2, Zxid::new(1, 1), Some(1));
    server.input(Input::CurrentEpochSaved(2));
    server.input(Input::LearnerConnected(6));
    let info = LearnerInfo { server: 6, protocol: PROTOCOL_VERSION, config_version: 0 };
    let info = Packet::with(PacketKind::ObserverInfo, Zxid::new(1, 0), info.to_bytes());
    server.learner_says(6, info);
    server.ack_epoch(6, Zxid::new(1, 1), Some(1));
    server
}

#[test]
fn a_leader_serves_only_when_a_quorum_has_acknowledged_new_leader() {
    let mut server = five_and_an_observer();
    server.ack(1, Zxid::new(2, 0));
    assert!(!server.zab.serving(), "two of five");
    let out = server.ack(2, Zxid::new(2, 0));
    assert!(server.zab.serving());
    assert_eq!(to_learner(&out, 1)[0], (PacketKind::UpToDate, Zxid(-1)));
}

#[test]
fn the_ack_of_an_observer_counts_in_no_quorum() {
    let mut server = five_and_an_observer();
    server.ack(6, Zxid::new(2, 0));
    server.ack(1, Zxid::new(2, 0));
    assert!(!server.zab.serving(), "two voters of five");
    server.ack(2, Zxid::new(2, 0));
    assert!(server.zab.serving());
    server.input(Input::Propose(proposal(2, 1)));
    server.input(Input::Flushed(Zxid::new(2, 1)));
    server.ack(1, Zxid::new(2, 1));
    assert_eq!(applied(&server.ack(6, Zxid::new(2, 1))), []);
    assert_eq!(applied(&server.ack(2, Zxid::new(2, 1))), [Zxid::new(2, 1)]);
}

/// One ACK vouches for all before it.
#[test]
fn commits_leave_in_the_order_of_the_zxids() {
    let mut server = Alone::serving();
    for counter in 1..=3 {
        server.input(Input::Propose(proposal(2, counter)));
    }
    server.input(Input::Flushed(Zxid::new(2, 3)));
    let out = server.ack(1, Zxid::new(2, 2));
    let commits = [Zxid::new(2, 1), Zxid::new(2, 2)];
    assert_eq!(to_learner(&out, 1), commits.map(|zxid| (PacketKind::Commit, zxid)));
    assert_eq!(applied(&out), commits);
}

#[test]
fn a_commit_that_skips_a_proposal_ends_the_role() {
    let mut server = Alone::synchronizing(2, &[]);
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    server.input(Input::CurrentEpochSaved(2));
    server.leader_says(PacketKind::UpToDate, Zxid(-1));
    assert_eq!(appended(&server.proposes(2, 1)), [Zxid::new(2, 1)]);
    server.proposes(2, 2);
    let out = server.leader_says(PacketKind::Commit, Zxid::new(2, 2));
    assert!(matches!(out[0], Output::Port(PortRequest::CloseLeader)), "{out:?}");
}

/// The log of an older epoch may be long: nobody has committed its end.
#[test]
fn a_newer_epoch_beats_a_longer_log() {
    let mut server = Alone::new(config(3, 3, 0), 2, 1, &[(1, 1), (1, 2), (1, 3)]);
    let notification = vote(ServerState::Looking, 1, Zxid::new(1, 2), 1, 2);
    server.input(Input::Notified { from: 1, notification });
    server.timeout();
    assert_eq!(server.zab.leader(), Some(1));
}

/// The leader was gone before the disk said that it could not cut: the next one must be asked for a snapshot
/// all the same, or it would ask for the same cut again.
#[test]
fn a_cut_that_fails_after_the_end_of_its_role_is_remembered() {
    let mut server = Alone::follower(1, 1, &[(1, 1), (1, 2)]);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    server.leader_says(PacketKind::Trunc, Zxid::new(1, 1));
    server.input(Input::LeaderClosed);
    assert!(!server.zab.needs_snapshot());
    server.input(Input::TruncateFailed);
    assert!(server.zab.needs_snapshot());
}

/// A zxid behind the counter's end would be one of the next epoch.
#[test]
fn an_epoch_has_no_zxid_behind_the_counters_end() {
    let mut config = config(3, 5, 1);
    config.limits.last_counter = 2;
    let mut server = with_new_leader_sent(config);
    assert_eq!(server.zab.next_zxid(), None, "it does not serve yet");
    server.ack(1, Zxid::new(2, 0));
    server.ack(2, Zxid::new(2, 0));
    for counter in [1, 2] {
        assert_eq!(server.zab.next_zxid(), Some(Zxid::new(2, counter)));
        server.input(Input::Propose(proposal(2, counter)));
    }
    assert_eq!(server.zab.next_zxid(), None);
}
