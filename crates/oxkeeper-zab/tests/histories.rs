//! Whose history counts when a leader and a learner disagree about it.

mod common;

use common::alone::{Alone, closes, to_leader, to_learner, vote};
use common::{Settings, World, proposal};
use oxkeeper_proto::Zxid;
use oxkeeper_proto::quorum::{PacketKind, ServerState};
use oxkeeper_zab::{DiskRequest, Input, Lost, Misbehaved, Output};

/// Four of five lost their disks, began anew and committed. The fifth came back with the old history;
/// the leader made way for its newer epoch, and what the four had committed was wiped. Apache leaves the
/// fifth out (`QuorumZxidSyncTest.testBehindLeader`).
#[test]
fn a_newer_history_does_not_unseat_a_leader_that_serves() {
    let mut world = World::new(&Settings { voters: 5, ..Settings::default() });
    let disk = &mut world.servers.get_mut(&5).expect("the fifth").disk;
    (disk.accepted, disk.current) = (5, 5);
    disk.log.extend((1..=3).map(|counter| proposal(5, counter)));
    (1..=4).for_each(|id| world.start(id));
    assert!(world.settle(10_000, World::all_serve));
    let leader = world.leader().expect("a leader");
    (0..3).for_each(|_| world.propose(leader));
    world.pass(1_000);
    world.start(5);
    world.pass(10_000);
    assert_eq!(world.leader(), Some(leader));
    assert_eq!(world.zab(leader).epoch(), 1, "the ensemble goes on");
    for id in 1..=4 {
        assert!(world.server(id).serving);
        assert_eq!(world.server(id).tree, world.check.committed);
    }
    assert!(!world.server(5).serving);
    assert_eq!(world.server(5).disk.log.len(), 3, "the old history is untouched");
    assert!(world.zab(leader).refused_newer_histories() > 0);
    assert!(world.zab(5).refused_newer_histories() > 0);
}

/// Whoever only promised a newer epoch has nothing that this leader lacks. But the leader makes way only
/// if it knows that, from the vote the learner had for itself.
#[test]
fn a_leader_makes_way_for_a_promise_only_on_evidence() {
    let mut leader = Alone::serving();
    let out = leader.info(2, 1, 7);
    assert!(leader.zab.serving(), "nobody knows its history");
    assert_eq!(to_learner(&out, 2), [(PacketKind::LeaderInfo, Zxid::new(2, 0))]);
    leader.input(Input::LearnerClosed(2));

    // It votes for another: that says nothing of its own history.
    let notification = vote(ServerState::Looking, 2, Zxid::new(1, 1), 9, 1);
    leader.input(Input::Notified { from: 1, notification });
    leader.info(3, 1, 7);
    assert!(leader.zab.serving());
    leader.input(Input::LearnerClosed(3));

    // Its own is newer.
    for (zxid, epoch) in [(Zxid::new(7, 1), 7), (Zxid::new(2, 9), 2)] {
        let notification = vote(ServerState::Looking, 1, zxid, 10, epoch);
        leader.input(Input::Notified { from: 1, notification });
        let refused = leader.zab.refused_newer_histories();
        leader.info(4, 1, 7);
        assert!(leader.zab.serving());
        assert_eq!(leader.zab.refused_newer_histories(), refused + 1);
        leader.input(Input::LearnerClosed(4));
    }

    // Evidence serves once: who comes again must have voted again.
    let notification = vote(ServerState::Looking, 1, Zxid::new(1, 1), 11, 1);
    leader.input(Input::Notified { from: 1, notification });
    leader.info(5, 1, 7);
    assert!(!leader.zab.serving());
    let why = leader.zab.last_loss().expect("a reason");
    assert_eq!(*why, Lost::PromisedNewer { server: 1, theirs: 7, ours: 2 });
}

/// An unfinished tail is newer than what an elected server has, and nobody has lost anything. Before its
/// epoch stands there is nothing to tell an operator: the learner returns, and is let in or leads.
#[test]
fn a_leader_to_be_accuses_nobody_of_a_newer_history() {
    let mut leader = Alone::leader(1, 1, &[(1, 1)]);
    leader.info(1, 2, 1);
    let notification = vote(ServerState::Looking, 1, Zxid::new(1, 4), 9, 1);
    leader.input(Input::Notified { from: 1, notification });
    leader.info(2, 1, 7);
    assert_eq!(leader.zab.state(), ServerState::Leading);
    assert_eq!(leader.zab.refused_newer_histories(), 0);
}

/// A learner that takes the epoch of a leader although it has promised a newer one breaks that promise.
#[test]
fn a_leader_takes_no_ack_of_an_epoch_older_than_the_promise() {
    let mut leader = Alone::serving();
    leader.info(2, 1, 7);
    assert!(closes(&leader.ack_epoch(2, Zxid::new(1, 1), Some(1)), 2));
}

/// A server that needs a snapshot says that it has nothing, so its leader could not see that it lacks
/// what this server has. The server looks itself, at the vote that made the leader.
#[test]
fn a_server_that_needs_a_snapshot_refuses_a_leader_that_is_behind_it() {
    let mut server = Alone::needs_snapshot(Zxid::new(1, 1), 1);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(3, 0));
    let out = server.input(Input::AcceptedEpochSaved(3));
    assert_eq!(to_leader(&out), []);
    let (theirs, ours) = (Zxid::new(1, 1), Zxid::new(1, 2));
    let error = Misbehaved::BehindLearner { epoch: 1, theirs, ours };
    assert_eq!(server.zab.last_loss(), Some(&Lost::Leader { leader: 3, error }));

    // A leader as new as this server, one that is established, and an ACK that does not count.
    for (zxid, peer_epoch, epoch) in
        [(Zxid::new(1, 2), 1, 3), (Zxid::new(1, 1), 2, 3), (Zxid::new(1, 1), 1, 2)]
    {
        let mut server = Alone::needs_snapshot(zxid, peer_epoch);
        let mut out = server.leader_says(PacketKind::LeaderInfo, Zxid::new(epoch, 0));
        if epoch == 3 {
            out = server.input(Input::AcceptedEpochSaved(3));
        }
        assert_eq!(to_leader(&out), [(PacketKind::AckEpoch, Zxid::ZERO)]);
    }
}

/// NEWLEADER's epoch was announced before history of older epochs was logged. After a crash in between,
/// Apache's servers take over what is announced as it stands: a member with part of epoch 2 called
/// itself one of epoch 3, and outranked those who had all of it.
#[test]
fn an_epoch_is_announced_only_behind_all_history_before_it() {
    let mut server = Alone::synchronizing(3, &[(1, 1)]);
    for (epoch, counter) in [(1, 2), (2, 1), (2, 2)] {
        server.proposes(epoch, counter);
        server.leader_says(PacketKind::Commit, Zxid::new(epoch, counter));
    }
    // (It begins in epoch 2: nothing is said of that.)
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(3, 0));
    assert_eq!(
        told_to_the_disk(&out),
        ["append 0x100000002", "append 0x200000001", "append 0x200000002"]
    );

    let mut server = Alone::follower(1, 1, &[(1, 1)]);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(3, 0));
    server.input(Input::AcceptedEpochSaved(3));
    server.leader_says(PacketKind::Diff, Zxid::new(2, 2));
    for (epoch, counter) in [(1, 2), (2, 1), (2, 2)] {
        server.proposes(epoch, counter);
        server.leader_says(PacketKind::Commit, Zxid::new(epoch, counter));
    }
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(3, 0));
    assert_eq!(
        told_to_the_disk(&out),
        ["append 0x100000002", "announce 2", "append 0x200000001", "append 0x200000002"]
    );
}

fn told_to_the_disk(out: &[Output]) -> Vec<String> {
    let told = |output: &Output| match output {
        Output::Disk(DiskRequest::Append(proposal)) => Some(format!("append {}", proposal.zxid)),
        Output::Disk(DiskRequest::PrepareCurrentEpoch(epoch)) => Some(format!("announce {epoch}")),
        _ => None,
    };
    out.iter().filter_map(told).collect()
}
