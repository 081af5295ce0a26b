//! Bugs that ZooKeeper had, each as the rule that it broke.

mod common;

use bytes::Bytes;
use common::alone::{Alone, appended, closes, config, to_leader, to_learner, vote};
use common::{Settings, World, proposal};
use oxkeeper_proto::Zxid;
use oxkeeper_proto::quorum::{NO_VOTE, Packet, PacketKind, ServerState};
use oxkeeper_zab::{
    DiskRequest, Effect, ElectionRequest, History, Input, LinkId, Output, Phase, PortRequest,
};

/// A leader that lost its quorum forgot a proposal that its own log had: its vote was too low, another
/// server won, and trees differed for ever (ZOOKEEPER-2845). Log and tree must agree before a vote.
#[test]
fn a_vote_counts_the_uncommitted_tail_of_the_log() {
    let mut world = World::new(&Settings::default());
    world.ids().into_iter().for_each(|id| world.start(id));
    assert!(world.settle(10_000, World::all_serve));
    let leader = world.leader().expect("a leader");
    world.isolate(leader);
    world.propose(leader);
    let epoch = world.zab(leader).epoch();
    world.pass(2_000);
    assert!(!world.server(leader).serving);
    assert_eq!(world.zab(leader).applied(), Zxid::new(epoch, 1));
    world.heal();
    assert!(world.settle(20_000, |world| world.all_serve() && world.all_equal()));
}

/// A follower wrote currentEpoch, crashed before the history of that epoch was on disk, and won the
/// next election by its epoch, without committed transactions (ZOOKEEPER-4643, 4646, 3911).
#[test]
fn current_epoch_is_written_only_after_the_history() {
    let mut server = Alone::synchronizing(2, &[]);
    server.proposes(1, 1);
    server.leader_says(PacketKind::Commit, Zxid::new(1, 1));
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    assert_eq!(appended(&out), [Zxid::new(1, 1)]);
    assert!(
        !out.iter().any(|output| matches!(output, Output::Disk(DiskRequest::SaveCurrentEpoch(_))))
    );
    let out = server.input(Input::Flushed(Zxid::new(1, 1)));
    assert!(matches!(out[..], [Output::Disk(DiskRequest::SaveCurrentEpoch(2))]));
}

/// A follower handed what it had received to its log thread and acknowledged NEWLEADER without waiting
/// for the disk. It crashed, and came back without it (ZOOKEEPER-4646, 4785, 3911, 3023).
#[test]
fn new_leader_is_acknowledged_only_after_history_and_epoch_are_durable() {
    let mut server = Alone::synchronizing(2, &[]);
    server.proposes(1, 1);
    server.leader_says(PacketKind::Commit, Zxid::new(1, 1));
    let mut sent = to_leader(&server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0)));
    sent.extend(to_leader(&server.input(Input::Flushed(Zxid::new(1, 1)))));
    assert_eq!(sent, []);
    let out = server.input(Input::CurrentEpochSaved(2));
    assert_eq!(to_leader(&out), [(PacketKind::Ack, Zxid::new(2, 0))]);
}

/// The same where the follower had entered the epoch before and came again: there was no epoch to write, and
/// nothing that the ACK waited for (ZOOKEEPER-4785).
#[test]
fn new_leader_of_an_epoch_entered_before_waits_for_the_log_too() {
    let mut server = Alone::follower(2, 2, &[(2, 1)]);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.leader_says(PacketKind::Diff, Zxid::new(2, 2));
    server.proposes(2, 2);
    server.leader_says(PacketKind::Commit, Zxid::new(2, 2));
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    assert_eq!((appended(&out), to_leader(&out)), (vec![Zxid::new(2, 2)], vec![]));
    let out = server.input(Input::Flushed(Zxid::new(2, 2)));
    assert_eq!(to_leader(&out), [(PacketKind::Ack, Zxid::new(2, 0))]);
}

/// A follower served before its tree had what the synchronization had brought (ZOOKEEPER-3023).
#[test]
fn what_a_diff_has_committed_is_in_the_tree_before_the_epoch_is_served() {
    let mut server = Alone::synchronizing(2, &[]);
    for counter in [1, 2] {
        server.proposes(1, counter);
    }
    for counter in [1, 2] {
        server.leader_says(PacketKind::Commit, Zxid::new(1, counter));
    }
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    let applied = |output: &Output| match output {
        Output::Replica(Effect::Apply(proposal)) => Some(proposal.zxid),
        _ => None,
    };
    let applied: Vec<_> = out.iter().filter_map(applied).collect();
    assert_eq!(applied, [Zxid::new(1, 1), Zxid::new(1, 2)]);
}

/// A follower acknowledged a proposal of the synchronization before NEWLEADER; the leader took that for
/// something else and gave up (ZOOKEEPER-4685). Followers keep quiet until the ACK of NEWLEADER.
#[test]
fn proposals_of_a_synchronization_are_acknowledged_after_up_to_date() {
    let mut server = Alone::synchronizing(2, &[]);
    server.proposes(2, 1);
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    assert_eq!(appended(&out), [], "an uncommitted proposal is not logged yet");
    let out = server.input(Input::CurrentEpochSaved(2));
    assert_eq!(to_leader(&out), [(PacketKind::Ack, Zxid::new(2, 0))]);
    let out = server.leader_says(PacketKind::UpToDate, Zxid(-1));
    assert_eq!(to_leader(&out), [(PacketKind::Ack, Zxid::new(2, 0))]);
    assert_eq!(appended(&out), [Zxid::new(2, 1)]);
    let out = server.input(Input::Flushed(Zxid::new(2, 1)));
    assert_eq!(to_leader(&out), [(PacketKind::Ack, Zxid::new(2, 1))]);

    // Nor is one that is committed, and so logged before NEWLEADER is acknowledged.
    let mut server = Alone::synchronizing(2, &[]);
    server.proposes(1, 1);
    server.leader_says(PacketKind::Commit, Zxid::new(1, 1));
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    assert_eq!(to_leader(&server.input(Input::Flushed(Zxid::new(1, 1)))), []);
}

/// The leader's half of the same (ZOOKEEPER-4685): ACKs of proposals from old followers are counted,
/// and the ACK of NEWLEADER is still awaited.
#[test]
fn a_leader_bears_proposal_acks_around_the_ack_of_new_leader() {
    let mut server = Alone::new_leader_sent();
    let out = server.ack(1, Zxid::new(1, 1));
    assert!(!closes(&out, 1) && !server.zab.serving());
    server.ack(1, Zxid::new(2, 0));
    assert!(server.zab.serving());
    let out = server.ack(1, Zxid::new(1, 1));
    assert!(!closes(&out, 1));

    // With a second follower missing to the quorum of five, the first one waits, acknowledged.
    let mut server = Alone::new(config(5, 5, 0), 1, 1, &[(1, 1)]);
    for from in [1, 2] {
        let notification = vote(ServerState::Looking, 5, Zxid::new(1, 1), 1, 1);
        server.input(Input::Notified { from, notification });
    }
    server.timeout();
    server.info(1, 1, 1);
    server.info(2, 2, 1);
    server.input(Input::AcceptedEpochSaved(2));
    server.ack_epoch(1, Zxid::new(1, 1), Some(1));
    server.ack_epoch(2, Zxid::new(1, 1), Some(1));
    server.input(Input::CurrentEpochSaved(2));
    server.ack(1, Zxid::new(2, 0));
    assert!(!server.zab.serving());
    assert!(!closes(&server.ack(1, Zxid::new(1, 1)), 1));
    server.ack(2, Zxid::new(2, 0));
    assert!(server.zab.serving());
}

/// A COMMIT between the ACK of NEWLEADER and UPTODATE met an emptied list and killed the follower
/// (ZOOKEEPER-4394).
#[test]
fn a_commit_between_the_ack_of_new_leader_and_up_to_date_is_kept() {
    let mut server = Alone::synchronizing(2, &[]);
    server.proposes(2, 1);
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    server.input(Input::CurrentEpochSaved(2));
    server.leader_says(PacketKind::Commit, Zxid::new(2, 1));
    assert_eq!(server.zab.leader(), Some(3), "still follows");
    let out = server.leader_says(PacketKind::UpToDate, Zxid(-1));
    assert_eq!(appended(&out), [Zxid::new(2, 1)]);
    assert!(
        matches!(out.last(), Some(Output::Replica(Effect::Apply(proposal))) if proposal.zxid == Zxid::new(2, 1))
    );
}

/// And a leader does not send such a COMMIT to begin with, for old followers cannot take it
/// (ZOOKEEPER-4394).
#[test]
fn commits_wait_for_up_to_date() {
    let mut server = Alone::serving();
    server.info(2, 1, 1);
    server.ack_epoch(2, Zxid::new(1, 1), Some(1));
    server.input(Input::Propose(proposal(2, 1)));
    server.input(Input::Flushed(Zxid::new(2, 1)));
    let out = server.ack(1, Zxid::new(2, 1));
    assert_eq!(to_learner(&out, 1), [(PacketKind::Commit, Zxid::new(2, 1))]);
    assert_eq!(to_learner(&out, 2), []);
    let out = server.ack(2, Zxid::new(2, 0));
    let late = [(PacketKind::UpToDate, Zxid(-1)), (PacketKind::Commit, Zxid::new(2, 1))];
    assert_eq!(to_learner(&out, 2), late);
}

/// While a follower shut down, its log thread still appended what the fast-forward had missed: the tree
/// lacked it, the log did not (ZOOKEEPER-4712). No election before the disk is idle.
#[test]
fn no_vote_before_everything_appended_is_durable_and_applied() {
    let mut server = Alone::synchronizing(2, &[]);
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    server.input(Input::CurrentEpochSaved(2));
    server.leader_says(PacketKind::UpToDate, Zxid(-1));
    server.proposes(2, 1);
    let out = server.input(Input::LeaderClosed);
    assert!(out.iter().any(|output| matches!(output, Output::Replica(Effect::Apply(_)))));
    assert!(
        !out.iter()
            .any(|output| matches!(output, Output::Election(ElectionRequest::Notify { .. })))
    );
    assert_eq!(server.zab.phase(), Phase::Election);
    let out = server.input(Input::Flushed(Zxid::new(2, 1)));
    let votes: Vec<_> = out
        .iter()
        .filter_map(|output| match output {
            Output::Election(ElectionRequest::Notify { notification, .. }) => {
                Some(notification.zxid)
            }
            _ => None,
        })
        .collect();
    assert_eq!(votes, [Zxid::new(2, 1); 2]);
}

/// A quorum counts only logs that a power cut leaves as they are.
#[test]
fn a_proposal_is_acknowledged_only_after_its_flush() {
    let mut server = Alone::synchronizing(2, &[]);
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    server.input(Input::CurrentEpochSaved(2));
    server.leader_says(PacketKind::UpToDate, Zxid(-1));
    server.proposes(2, 1);
    let out = server.proposes(2, 2);
    assert_eq!(to_leader(&out), []);
    let out = server.input(Input::Flushed(Zxid::new(2, 1)));
    assert_eq!(to_leader(&out), [(PacketKind::Ack, Zxid::new(2, 1))]);
}

/// The leader counts itself no sooner (`docs/spec/quorum-protocol.md` 18, 38).
#[test]
fn a_leader_counts_its_own_log_only_after_its_flush() {
    let mut server = Alone::serving();
    server.input(Input::Propose(proposal(2, 1)));
    let out = server.ack(1, Zxid::new(2, 1));
    assert_eq!(to_learner(&out, 1), []);
    let out = server.input(Input::Flushed(Zxid::new(2, 1)));
    assert_eq!(to_learner(&out, 1), [(PacketKind::Commit, Zxid::new(2, 1))]);
}

/// A follower was cut back by TRUNC, and the acknowledgements it had given before still counted: a
/// proposal was committed that a majority no longer had on disk.
#[test]
fn acknowledgements_end_where_the_log_is_cut() {
    let mut server = Alone::new(config(5, 5, 0), 1, 1, &[(1, 1)]);
    for from in [1, 2] {
        let notification = vote(ServerState::Looking, 5, Zxid::new(1, 1), 1, 1);
        server.input(Input::Notified { from, notification });
    }
    server.timeout();
    for id in [1, 2, 3] {
        server.info(id as LinkId, id, 1);
    }
    server.input(Input::AcceptedEpochSaved(2));
    for link in [1, 2, 3] {
        server.ack_epoch(link, Zxid::new(1, 1), Some(1));
    }
    server.input(Input::CurrentEpochSaved(2));
    for link in [1, 2, 3] {
        server.ack(link, Zxid::new(2, 0));
    }
    server.input(Input::Propose(proposal(2, 1)));
    server.input(Input::Flushed(Zxid::new(2, 1)));
    server.ack(1, Zxid::new(2, 1));
    // Server 1 comes back with the proposal in its log, and is told to cut it.
    server.input(Input::LearnerClosed(1));
    server.info(4, 1, 2);
    let out = server.ack_epoch(4, Zxid::new(2, 1), None);
    assert_eq!(to_learner(&out, 4)[0], (PacketKind::Trunc, Zxid::new(1, 1)));
    let out = server.ack(2, Zxid::new(2, 1));
    assert_eq!(to_learner(&out, 2), [], "only two of five have it");
    server.ack(4, Zxid::new(2, 0));
    let out = server.ack(4, Zxid::new(2, 1));
    assert_eq!(to_learner(&out, 4), [(PacketKind::Commit, Zxid::new(2, 1))]);
}

/// An interrupted SNAP left a half new tree in memory, and the server voted with the zxid of the old
/// one; later it was served as if complete (ZOOKEEPER-3642).
#[test]
fn an_adopted_snapshot_that_was_not_saved_is_dropped_before_the_vote() {
    let mut server = Alone::follower(1, 1, &[(1, 1)]);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    server.leader_says(PacketKind::Snap, Zxid::new(1, 7));
    let out = server.input(Input::SnapshotReceived);
    assert!(
        matches!(out[..], [Output::Replica(Effect::AdoptSnapshot(zxid))] if zxid == Zxid::new(1, 7))
    );
    let out = server.input(Input::LeaderClosed);
    assert!(matches!(
        out[..],
        [Output::Port(PortRequest::CloseLeader), Output::Disk(DiskRequest::Reload)]
    ));
    let history =
        History { last_zxid: Zxid::new(1, 1), recent: vec![proposal(1, 1)], lost_tail: None };
    let out = server.input(Input::Reloaded(history));
    assert!(out.iter().any(|output| matches!(
        output,
        Output::Election(ElectionRequest::Notify { notification, .. }) if notification.zxid == Zxid::new(1, 1)
    )));
}

/// A snapshot was made of what lay between SNAP and NEWLEADER only after the ACK: a crash lost the
/// transactions in between (ZOOKEEPER-3104).
#[test]
fn after_snap_new_leader_is_acknowledged_only_when_the_snapshot_is_saved() {
    let mut server = Alone::follower(1, 1, &[(1, 1)]);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    server.leader_says(PacketKind::Snap, Zxid::new(1, 7));
    server.input(Input::SnapshotReceived);
    server.proposes(1, 8);
    server.leader_says(PacketKind::Commit, Zxid::new(1, 8));
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    assert!(matches!(out.last(), Some(Output::Disk(DiskRequest::SaveSnapshot))));
    assert_eq!(appended(&out), [], "the snapshot has it");
    let out = server.input(Input::SnapshotSaved);
    assert!(matches!(out[..], [Output::Disk(DiskRequest::SaveCurrentEpoch(2))]));
    let out = server.input(Input::CurrentEpochSaved(2));
    assert_eq!(to_leader(&out), [(PacketKind::Ack, Zxid::new(2, 0))]);
}

/// Servers that had a leader named different epochs or rounds, and a joiner that compared all of it
/// never found a quorum (ZOOKEEPER-1818).
#[test]
fn a_joiner_compares_only_leader_and_epoch_of_servers_that_have_a_leader() {
    let mut server = Alone::new(config(1, 3, 0), 0, 0, &[]);
    let notification = vote(ServerState::Following, 3, Zxid::new(1, 4), 5, 2);
    server.input(Input::Notified { from: 2, notification });
    let notification = vote(ServerState::Leading, 3, Zxid::new(1, 3), 9, 2);
    server.input(Input::Notified { from: 3, notification });
    assert_eq!(server.zab.leader(), Some(3));
}

/// A majority of followers is not enough: the joiner must have heard the leader itself say so.
#[test]
fn a_joiner_follows_only_a_leader_it_has_heard() {
    let mut server = Alone::new(config(1, 5, 0), 0, 0, &[]);
    for from in [2, 3, 4] {
        let notification = vote(ServerState::Following, 5, Zxid::ZERO, 1, 1);
        server.input(Input::Notified { from, notification });
    }
    assert_eq!(server.zab.leader(), None);
    let notification = vote(ServerState::Leading, 5, Zxid::ZERO, 1, 1);
    server.input(Input::Notified { from: 5, notification });
    assert_eq!(server.zab.leader(), Some(5));
}

/// Who begins to look late has missed the votes of those who look already, and they have become patient: they
/// repeat them after up to a minute, which each word of the late one puts off. They tell it at once.
#[test]
fn a_late_and_worse_vote_is_answered_with_the_better_one() {
    let mut server = Alone::new(config(1, 3, 0), 1, 1, &[(1, 1), (1, 2)]);
    (0..4).for_each(|_| _ = server.timeout());
    server.now += 200;
    let notification = vote(ServerState::Looking, 2, Zxid::new(1, 1), 1, 1);
    let out = server.input(Input::Notified { from: 2, notification });
    let told = out.iter().find_map(|output| match output {
        Output::Election(ElectionRequest::Notify { to: 2, notification }) => Some(notification),
        _ => None,
    });
    assert_eq!(told.map(|told| (told.leader, told.zxid)), Some((1, Zxid::new(1, 2))));
}

/// A server that has heard the winner first as LOOKING, then as LEADING, still counts its own vote.
#[test]
fn the_own_vote_counts_beside_that_of_a_leader() {
    let mut server = Alone::new(config(1, 3, 0), 0, 0, &[]);
    let notification = vote(ServerState::Looking, 3, Zxid::ZERO, 1, 0);
    server.input(Input::Notified { from: 3, notification });
    let notification = vote(ServerState::Leading, 3, Zxid::ZERO, 1, 0);
    server.input(Input::Notified { from: 3, notification });
    assert_eq!(server.zab.leader(), Some(3));
}

/// A leader's socket to a dead follower blocked its sender, and with it everything (ZOOKEEPER-2201).
/// Here a learner that takes proposals and acknowledges none is given up after syncLimit.
#[test]
fn a_learner_that_acknowledges_nothing_is_given_up() {
    let mut server = Alone::serving();
    server.ack(1, Zxid::new(2, 0));
    server.input(Input::Propose(proposal(2, 1)));
    server.input(Input::Flushed(Zxid::new(2, 1)));
    let start = server.now;
    let mut closed = false;
    while !closed && server.now < start + 10_000 {
        let out = server.timeout();
        closed = closes(&out, 1);
        if !closed {
            server.learner_says(1, Packet::with(PacketKind::Ping, Zxid::new(2, 1), Bytes::new()));
        }
    }
    assert!(closed);
    assert_eq!(server.now, start + 5 * 200);
}

/// A learner that says nothing at all, likewise.
#[test]
fn a_silent_learner_is_given_up_and_the_leader_without_quorum_stops() {
    let mut server = Alone::serving();
    server.ack(1, Zxid::new(2, 0));
    let start = server.now;
    while server.zab.serving() {
        server.timeout();
        assert!(server.now <= start + 5 * 200 + 200);
    }
}

/// A phantom proposal is not only forgotten in memory: TRUNC goes to the disk, a snapshot follows, and
/// only then the learner acknowledges.
#[test]
fn a_cut_is_on_disk_before_new_leader_is_acknowledged() {
    let mut server = Alone::follower(1, 1, &[(1, 1), (1, 2)]);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    let out = server.leader_says(PacketKind::Trunc, Zxid::new(1, 1));
    assert!(
        matches!(out[..], [Output::Disk(DiskRequest::Truncate(zxid))] if zxid == Zxid::new(1, 1))
    );
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    assert!(out.is_empty(), "packets wait for the cut");
    let history =
        History { last_zxid: Zxid::new(1, 1), recent: vec![proposal(1, 1)], lost_tail: None };
    let out = server.input(Input::Reloaded(history));
    assert!(matches!(
        out[..],
        [
            Output::Disk(DiskRequest::PrepareCurrentEpoch(2)),
            Output::Disk(DiskRequest::SaveSnapshot)
        ]
    ));
}

/// On a full disk the log was not cut as told; nobody noticed, and the server went on with a history of
/// its own (ZOOKEEPER-3701). Also a cut that ends before its zxid leaves a hole.
#[test]
fn a_cut_that_misses_its_zxid_ends_the_role() {
    let mut server = Alone::follower(1, 1, &[(1, 1), (1, 4)]);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    server.leader_says(PacketKind::Trunc, Zxid::new(1, 3));
    let history =
        History { last_zxid: Zxid::new(1, 1), recent: vec![proposal(1, 1)], lost_tail: None };
    server.input(Input::Reloaded(history));
    assert_eq!(server.zab.leader(), None);
}

/// A hole in the zxids of an epoch is a lost transaction (refused since ZOOKEEPER-4925).
#[test]
fn a_learner_leaves_a_leader_that_skips_a_zxid() {
    let mut server = Alone::synchronizing(2, &[]);
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    server.input(Input::CurrentEpochSaved(2));
    server.leader_says(PacketKind::UpToDate, Zxid(-1));
    server.proposes(2, 1);
    let out = server.proposes(2, 3);
    assert!(matches!(out[0], Output::Port(PortRequest::CloseLeader)));
}

/// An epoch that was promised before is acknowledged with -1, which does not count: two leaders of one
/// epoch would be possible otherwise.
#[test]
fn an_epoch_promised_before_does_not_count_toward_the_quorum() {
    let mut follower = Alone::follower(2, 1, &[(1, 1)]);
    let out = follower.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    let [Output::Port(PortRequest::ToLeader(ack))] = &out[..] else { panic!("{out:?}") };
    assert_eq!(ack.data.as_deref(), Some(&(-1i32).to_be_bytes()[..]));

    let mut leader = Alone::leader(1, 1, &[(1, 1)]);
    leader.info(1, 2, 1);
    leader.input(Input::AcceptedEpochSaved(2));
    let out = leader.ack_epoch(1, Zxid::new(1, 1), None);
    assert!(out.is_empty(), "still waits for a quorum of acks");
    leader.info(2, 1, 1);
    let out = leader.ack_epoch(2, Zxid::new(1, 1), Some(1));
    assert!(matches!(out[..], [Output::Disk(DiskRequest::SaveCurrentEpoch(2))]));
}

/// An older epoch than the promised one is never followed.
#[test]
fn a_leader_of_an_older_epoch_is_left() {
    let mut follower = Alone::follower(3, 1, &[(1, 1)]);
    let out = follower.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    assert!(matches!(out[0], Output::Port(PortRequest::CloseLeader)));
    assert_eq!(follower.zab.accepted_epoch(), 3);
}

/// A learner with a newer history is refused while the epoch is open, for the leader may lack what was
/// committed; once a quorum has acknowledged the epoch, that history is a phantom, and is cut.
#[test]
fn a_newer_learner_is_refused_until_a_quorum_has_acknowledged_the_epoch() {
    let mut leader = Alone::leader(1, 1, &[(1, 1)]);
    leader.info(1, 2, 1);
    leader.input(Input::AcceptedEpochSaved(2));
    let out = leader.ack_epoch(1, Zxid::new(1, 2), Some(1));
    assert!(closes(&out, 1));
    leader.info(2, 1, 1);
    leader.ack_epoch(2, Zxid::new(1, 1), Some(1));
    leader.input(Input::CurrentEpochSaved(2));
    leader.info(3, 2, 1);
    let out = leader.ack_epoch(3, Zxid::new(1, 2), Some(1));
    assert_eq!(to_learner(&out, 3)[0], (PacketKind::Trunc, Zxid::new(1, 1)));
}

/// Observers answered LOOKING voters, who answered observers: two servers kept each other busy for
/// nothing.
#[test]
fn a_looking_voter_and_an_observer_do_not_answer_each_other_without_end() {
    let mut voter = Alone::new(config(1, 3, 1), 0, 0, &[]);
    let notification = vote(ServerState::Observing, 3, Zxid::ZERO, 2, 1);
    assert!(voter.input(Input::Notified { from: 4, notification }).is_empty());
    let mut observer = Alone::new(config(4, 3, 1), 0, 0, &[]);
    let notification = vote(ServerState::Looking, 1, Zxid::ZERO, 0, 0);
    assert!(observer.input(Input::Notified { from: 1, notification }).is_empty());
}

/// An observer that had asked just before a leader was found learned of it seconds later, when it asked
/// again.
#[test]
fn who_asked_without_a_vote_during_an_election_is_told_its_result() {
    let mut voter = Alone::new(config(1, 3, 1), 1, 1, &[(1, 1)]);
    let mine = voter.zab.applied();
    let asks = vote(ServerState::Looking, NO_VOTE, mine, 1, 1);
    for from in [4, 3, 77] {
        voter.input(Input::Notified { from, notification: asks.clone() });
    }
    let agrees = vote(ServerState::Looking, 2, mine, 1, 1);
    voter.input(Input::Notified { from: 2, notification: agrees });
    let told = |out: &[Output], state: ServerState| -> Vec<i64> {
        let told = |output: &Output| match output {
            Output::Election(ElectionRequest::Notify { to, notification })
                if notification.state == state as i32 =>
            {
                assert_eq!(notification.leader, 2);
                Some(*to)
            }
            _ => None,
        };
        out.iter().filter_map(told).collect()
    };
    assert_eq!(told(&voter.timeout(), ServerState::Following), [3, 4]);
}

/// No epoch from the network is so high that the next one does not exist.
#[test]
fn impossible_epochs_are_refused() {
    let mut leader = Alone::leader(1, 1, &[(1, 1)]);
    let out = leader.info(1, 2, u32::MAX);
    assert!(closes(&out, 1));
    let mut follower = Alone::follower(1, 1, &[(1, 1)]);
    let out = follower.leader_says(PacketKind::LeaderInfo, Zxid::new(u32::MAX, 0));
    assert!(matches!(out[0], Output::Port(PortRequest::CloseLeader)));
}

/// A follower went back to the election and left its socket open: the leader counted on it until the
/// next timeout, and refused it when it came again (ZOOKEEPER-3240).
#[test]
fn a_learner_whose_role_ends_closes_its_link_whatever_the_reason() {
    type Reason = fn(&mut Alone) -> Vec<Output>;
    let reasons: [Reason; 4] = [
        |server| server.timeout(),
        |server| server.input(Input::LeaderClosed),
        |server| server.leader_says(PacketKind::Commit, Zxid::new(9, 9)),
        |server| {
            server.zab.limit_queues(10);
            server.proposes(2, 1)
        },
    ];
    for (number, end) in reasons.into_iter().enumerate() {
        let mut server = Alone::synchronizing(2, &[]);
        server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
        server.input(Input::CurrentEpochSaved(2));
        server.leader_says(PacketKind::UpToDate, Zxid(-1));
        let out = end(&mut server);
        let closes = |output: &Output| matches!(output, Output::Port(PortRequest::CloseLeader));
        assert_eq!(out.iter().filter(|output| closes(output)).count(), 1, "reason {number}");
        assert_eq!(server.zab.leader(), None);
    }
}

/// A second server with the leader's own id would vouch for the leader's log.
#[test]
fn a_learner_with_the_leaders_own_id_is_refused() {
    let mut leader = Alone::leader(1, 1, &[(1, 1)]);
    assert!(closes(&leader.info(1, 3, 1), 1));
}

/// A sync was answered before the commits that it must see had been sent (the guarantee of
/// `docs/spec/quorum-protocol.md` 13.2).
#[test]
fn a_sync_is_answered_behind_the_commit_of_what_was_outstanding() {
    let mut server = Alone::serving();
    server.input(Input::Propose(proposal(2, 1)));
    server.input(Input::Flushed(Zxid::new(2, 1)));
    let sync = common::request(oxkeeper_proto::OpCode::Sync.code());
    assert!(server.learner_says(1, sync.clone()).is_empty());
    let out = server.ack(1, Zxid::new(2, 1));
    let sent = [(PacketKind::Commit, Zxid::new(2, 1)), (PacketKind::Sync, Zxid::ZERO)];
    assert_eq!(to_learner(&out, 1), sent);
    let out = server.learner_says(1, sync);
    assert_eq!(to_learner(&out, 1), [(PacketKind::Sync, Zxid::ZERO)]);
}

/// What a follower had received while it synchronized was missing in its memory of committed proposals;
/// as leader it passed the hole on (ZOOKEEPER-4925).
#[test]
fn what_came_in_a_synchronization_is_passed_on_to_others() {
    let mut world = World::new(&Settings { voters: 5, ..Settings::default() });
    world.ids().into_iter().for_each(|id| world.start(id));
    assert!(world.settle(10_000, World::all_serve));
    let propose = |world: &mut World| {
        let leader = world.leader().expect("a leader");
        world.propose(leader);
        assert!(world.settle(2_000, World::all_equal));
    };
    propose(&mut world);
    world.crash(1);
    world.crash(2);
    propose(&mut world);
    propose(&mut world);
    world.start(1);
    assert!(world.settle(10_000, World::all_serve));
    propose(&mut world);
    world.crash(5);
    // Server 1 is elected, although 4 has the higher id.
    let all_look = |world: &World| [1, 3, 4].iter().all(|id| world.zab(*id).leader().is_none());
    assert!(world.settle(2_000, all_look));
    world.acclaim(1, 1_000);
    assert!(world.settle(10_000, World::all_serve));
    assert_eq!(world.leader(), Some(1));
    world.start(2);
    assert!(world.settle(10_000, |world| world.all_serve() && world.all_equal()));
    assert_eq!(world.zab(2).last_sync_kind(), Some(oxkeeper_zab::SyncKind::Diff));
    assert_eq!(world.server(2).tree.len(), 4);
}
