//! A member whose log ends before what it has acknowledged: it has no say until a leader has brought it
//! up to date.

mod common;

use common::alone::{Alone, config, to_leader, to_learner, vote};
use common::{Settings, World, proposal};
use oxkeeper_proto::quorum::{NO_VOTE, Notification, PacketKind, ServerState};
use oxkeeper_proto::{Epochs, ServerId, Zxid};
use oxkeeper_zab::{ElectionRequest, History, Input, LinkId, Output, PortRequest, Zab};

/// The one that has all, the one that lags, and the one that has lost 1.21 to 1.38.
#[derive(Clone, Copy)]
struct Cast {
    whole: ServerId,
    lags: ServerId,
    lost: ServerId,
}

/// Whatever their ids are.
const CASTS: [Cast; 6] = [
    Cast { whole: 1, lags: 2, lost: 3 },
    Cast { whole: 1, lags: 3, lost: 2 },
    Cast { whole: 2, lags: 1, lost: 3 },
    Cast { whole: 2, lags: 3, lost: 1 },
    Cast { whole: 3, lags: 1, lost: 2 },
    Cast { whole: 3, lags: 2, lost: 1 },
];

fn world(cast: Cast, fast_election: bool) -> World {
    let mut world = World::new(&Settings { fast_election, ..Settings::default() });
    for (id, last) in [(cast.whole, 38), (cast.lags, 20), (cast.lost, 38)] {
        let disk = &mut world.servers.get_mut(&id).expect("a server").disk;
        (disk.accepted, disk.current) = (1, 1);
        disk.log.extend((1..=last).map(|counter| proposal(1, counter)));
    }
    world.lose_tail(cast.lost, Zxid::new(1, 20));
    world
}

fn all_have_everything(world: &World) -> bool {
    world.all_serve() && world.all_equal() && world.ids().iter().all(|id| world.is_up(*id))
}

/// Two of three had acknowledged 1..38; one of them came back with 1..20, won with the third, and
/// 21..38 were gone.
#[test]
fn nothing_acknowledged_is_lost_in_whatever_order_they_start() {
    let orders = CASTS.map(|cast| [cast.whole, cast.lags, cast.lost]);
    for fast in [false, true] {
        for pause_ms in [0, 150, 1_000, 10_000] {
            for order in orders {
                let cast = CASTS[0];
                let mut world = world(cast, fast);
                for id in order {
                    world.start(id);
                    world.pass(pause_ms);
                }
                assert!(world.settle(20_000, all_have_everything), "{order:?} {pause_ms}");
                for id in world.ids() {
                    assert_eq!(world.server(id).tree.len(), 38, "{order:?} {pause_ms}");
                    assert_eq!(world.zab(id).lost_tail(), None);
                }
            }
        }
    }
}

#[test]
fn all_at_once_in_every_cast_and_then_it_is_a_full_member_again() {
    for cast in CASTS {
        let mut world = world(cast, false);
        world.ids().into_iter().for_each(|id| world.start(id));
        assert_eq!(world.zab(cast.lost).lost_tail(), Some(Zxid::new(1, 38)));
        assert!(world.settle(20_000, all_have_everything));
        assert_eq!(world.leader(), Some(cast.whole));
        // It commits with the one that lagged.
        world.crash(cast.whole);
        assert!(world.settle(20_000, World::all_serve));
        let leader = world.leader().expect("a leader");
        world.propose(leader);
        assert!(world.settle(5_000, World::all_equal));
        assert_eq!(world.server(cast.lost).tree.len(), 39);
    }
}

#[test]
fn without_the_one_that_has_all_there_is_no_quorum() {
    for cast in CASTS {
        let mut world = world(cast, false);
        world.start(cast.lags);
        world.start(cast.lost);
        assert!(!world.settle(60_000, |world| world.leader().is_some()));
        for id in [cast.lags, cast.lost] {
            assert_eq!(world.zab(id).leader(), None);
            assert_eq!(world.server(id).disk.log.len(), 20);
        }
        world.start(cast.whole);
        assert!(world.settle(70_000, all_have_everything));
        assert_eq!(world.server(cast.lost).tree.len(), 38);
    }
}

/// The leader of an epoch had counted the ACK of a follower that then lost the proposal.
#[test]
fn what_a_learner_has_lost_it_must_acknowledge_again() {
    let mut leader = Alone::new(config(5, 5, 0), 1, 1, &[(1, 1)]);
    for from in [1, 2] {
        let notification = vote(ServerState::Looking, 5, Zxid::new(1, 1), 1, 1);
        leader.input(Input::Notified { from, notification });
    }
    leader.timeout();
    for id in [1, 2, 4] {
        leader.info(id as LinkId, id, 1);
    }
    leader.input(Input::AcceptedEpochSaved(2));
    for link in [1, 2, 4] {
        leader.ack_epoch(link, Zxid::new(1, 1), Some(1));
    }
    leader.input(Input::CurrentEpochSaved(2));
    for link in [1, 2, 4] {
        leader.ack(link, Zxid::new(2, 0));
    }
    for counter in [1, 2] {
        leader.input(Input::Propose(proposal(2, counter)));
    }
    leader.input(Input::Flushed(Zxid::new(2, 2)));
    leader.ack(1, Zxid::new(2, 2));
    leader.ack(2, Zxid::new(2, 1));
    assert_eq!(leader.zab.applied(), Zxid::new(2, 1));
    // Server 1 comes back without the second.
    leader.input(Input::LearnerClosed(1));
    leader.info(5, 1, 2);
    let out = leader.ack_epoch(5, Zxid::new(2, 1), None);
    assert_eq!(to_learner(&out, 5)[0], (PacketKind::Diff, Zxid::new(2, 1)));
    let out = leader.ack(2, Zxid::new(2, 2));
    assert_eq!(to_learner(&out, 2), [], "only two of five have it");
    leader.ack(5, Zxid::new(2, 0));
    let out = leader.ack(5, Zxid::new(2, 2));
    assert_eq!(to_learner(&out, 2), [(PacketKind::Commit, Zxid::new(2, 2))]);
}

impl Alone {
    fn lost(me: ServerId, voters: i64) -> Alone {
        let recent = vec![proposal(1, 1)];
        let lost_tail = Some(Zxid::new(1, 3));
        let history = History { last_zxid: Zxid::new(1, 1), recent, lost_tail };
        let zab = Zab::new(
            config(me, voters, 0),
            Epochs { accepted: 1, current: 1 },
            history,
            1_000,
            &mut Vec::new(),
        );
        Alone { zab, now: 1_000 }
    }
}

fn notified(out: &[Output]) -> Vec<Notification> {
    let notified = out.iter().filter_map(|output| match output {
        Output::Election(ElectionRequest::Notify { notification, .. }) => {
            Some(notification.clone())
        }
        _ => None,
    });
    notified.collect()
}

#[test]
fn it_asks_for_a_leader_and_proposes_none() {
    let mut server = Alone::lost(1, 3);
    let (mut asked, end) = (0, server.now + 30_000);
    while server.now < end {
        let others = vote(ServerState::Looking, 2, Zxid::new(1, 9), 5, 1);
        let out = server.input(Input::Notified { from: 2, notification: others });
        assert!(notified(&out).is_empty(), "it takes no side");
        for notification in notified(&server.timeout()) {
            assert_eq!(notification.state, ServerState::Looking as i32);
            assert_eq!(notification.leader, NO_VOTE);
            assert_eq!((notification.zxid, notification.peer_epoch), (Zxid::new(1, 1), 1));
            asked += 1;
        }
        assert_eq!(server.zab.leader(), None);
    }
    assert!(asked >= 2 * 8, "it asks {asked} times");
    // Even if all others believe that it leads.
    for from in [2, 3] {
        let notification = vote(ServerState::Following, 1, Zxid::new(1, 1), 1, 1);
        server.input(Input::Notified { from, notification });
    }
    assert_eq!(server.zab.leader(), None);
}

#[test]
fn a_single_voter_does_not_elect_itself() {
    let mut server = Alone::lost(1, 1);
    while server.now < 60_000 {
        server.timeout();
        assert_eq!(server.zab.leader(), None);
    }
}

/// Its ACKEPOCH does not count, it answers nobody, and the ACK of NEWLEADER makes it a member.
#[test]
fn it_has_a_say_from_the_ack_of_new_leader_on() {
    let mut server = Alone::lost(1, 3);
    for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
        let notification = vote(state, 3, Zxid::new(1, 3), 7, 1);
        server.input(Input::Notified { from, notification });
    }
    let ask = || Input::Notified {
        from: 2,
        notification: vote(ServerState::Looking, 2, Zxid::new(1, 1), 9, 1),
    };
    assert_eq!(server.zab.leader(), Some(3));
    assert!(server.input(ask()).is_empty());
    server.input(Input::LeaderConnected);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    let out = server.input(Input::AcceptedEpochSaved(2));
    let [Output::Port(PortRequest::ToLeader(ack))] = &out[..] else { panic!("{out:?}") };
    assert_eq!(ack.zxid, Zxid::new(1, 1));
    assert_eq!(ack.data.as_deref(), Some(&(-1i32).to_be_bytes()[..]));
    server.leader_says(PacketKind::Diff, Zxid::new(1, 2));
    server.proposes(1, 2);
    server.leader_says(PacketKind::Commit, Zxid::new(1, 2));
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    server.input(Input::Flushed(Zxid::new(1, 2)));
    assert!(server.input(ask()).is_empty());
    assert_eq!(server.zab.lost_tail(), Some(Zxid::new(1, 3)));
    let out = server.input(Input::CurrentEpochSaved(2));
    assert_eq!(to_leader(&out), [(PacketKind::Ack, Zxid::new(2, 0))]);
    assert_eq!(server.zab.lost_tail(), None);
    assert_eq!(notified(&server.input(ask())).len(), 1);
}

/// The epoch is the one it had adopted before: there is no currentEpoch to write, yet the history is.
#[test]
fn in_the_same_epoch_it_waits_for_its_log_too() {
    let mut server = Alone::lost(1, 3);
    for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
        let notification = vote(state, 3, Zxid::new(1, 3), 7, 1);
        server.input(Input::Notified { from, notification });
    }
    server.input(Input::LeaderConnected);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(1, 0));
    server.leader_says(PacketKind::Diff, Zxid::new(1, 2));
    server.proposes(1, 2);
    server.leader_says(PacketKind::Commit, Zxid::new(1, 2));
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(1, 0));
    assert_eq!(to_leader(&out), []);
    assert!(server.zab.lost_tail().is_some());
    let out = server.input(Input::Flushed(Zxid::new(1, 2)));
    assert_eq!(to_leader(&out), [(PacketKind::Ack, Zxid::new(1, 0))]);
    assert_eq!(server.zab.lost_tail(), None);
}

/// Storage would take it for whole from here on, so a restart would help; it must not need one.
#[test]
fn once_its_log_is_back_it_votes_even_if_the_leader_dies_before_the_end_of_the_synchronization() {
    let mut server = Alone::lost(1, 3);
    for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
        let notification = vote(state, 3, Zxid::new(1, 4), 7, 1);
        server.input(Input::Notified { from, notification });
    }
    server.input(Input::LeaderConnected);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    server.leader_says(PacketKind::Diff, Zxid::new(1, 4));
    for counter in [2, 3, 4] {
        server.proposes(1, counter);
        server.leader_says(PacketKind::Commit, Zxid::new(1, counter));
    }
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    server.input(Input::Flushed(Zxid::new(1, 2)));
    assert!(server.zab.lost_tail().is_some());
    server.input(Input::LeaderClosed);
    let out = server.input(Input::Flushed(Zxid::new(1, 4)));
    assert_eq!(server.zab.lost_tail(), None);
    let votes = notified(&out);
    assert!(!votes.is_empty() && votes.iter().all(|vote| vote.leader == 1), "{votes:?}");
    assert_eq!(votes[0].zxid, Zxid::new(1, 4));
}

/// A snapshot is a leader's whole history.
#[test]
fn once_a_snapshot_is_durable_it_votes_whatever_becomes_of_the_leader() {
    let mut server = Alone::lost(1, 3);
    for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
        let notification = vote(state, 3, Zxid::new(1, 2), 7, 1);
        server.input(Input::Notified { from, notification });
    }
    server.input(Input::LeaderConnected);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    server.leader_says(PacketKind::Snap, Zxid::new(1, 2));
    server.input(Input::SnapshotReceived);
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    assert!(server.zab.lost_tail().is_some());
    server.input(Input::LeaderClosed);
    let votes = notified(&server.input(Input::SnapshotSaved));
    assert_eq!(server.zab.lost_tail(), None);
    assert!(!votes.is_empty() && votes.iter().all(|vote| vote.leader == 1), "{votes:?}");
}

/// A cut log is shorter than any acknowledgement; the driver may take that for the whole truth.
#[test]
fn a_cut_in_the_synchronization_does_not_make_it_whole() {
    let mut server = Alone::lost(1, 3);
    for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
        let notification = vote(state, 3, Zxid::new(1, 0), 7, 1);
        server.input(Input::Notified { from, notification });
    }
    server.input(Input::LeaderConnected);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    server.leader_says(PacketKind::Trunc, Zxid::ZERO);
    server.input(Input::Reloaded(History::default()));
    assert_eq!(server.zab.lost_tail(), Some(Zxid::new(1, 3)));
    let out = server.input(Input::LeaderClosed);
    assert!(notified(&out).iter().all(|notification| notification.leader == NO_VOTE));
}

/// The leader's half.
#[test]
fn a_leader_does_not_count_it_before_the_ack_of_new_leader() {
    let mut leader = Alone::leader(1, 1, &[(1, 1)]);
    leader.info(1, 2, 1);
    leader.input(Input::AcceptedEpochSaved(2));
    // Even one that seems to be ahead: it is brought in line once a quorum of others is there.
    let out = leader.ack_epoch(1, Zxid::new(1, 2), None);
    assert!(out.is_empty());
    leader.info(2, 1, 1);
    leader.ack_epoch(2, Zxid::new(1, 1), Some(1));
    let out = leader.input(Input::CurrentEpochSaved(2));
    assert_eq!(to_learner(&out, 1)[0], (PacketKind::Trunc, Zxid::new(1, 1)));
    leader.ack(1, Zxid::new(2, 0));
    assert!(leader.zab.serving(), "now it holds the leader's history");
}

/// An election among the others is not held up by one that takes no side.
#[test]
fn its_silence_delays_an_election_by_no_more_than_the_usual_quiet() {
    let mut config = config(3, 3, 0);
    config.fast_election = true;
    let mut server = Alone::new(config, 1, 1, &[(1, 1)]);
    for peer in [1, 2] {
        server.input(Input::ElectionLink { peer, up: true });
    }
    let start = server.now;
    let ask = |zxid| vote(ServerState::Looking, NO_VOTE, zxid, 9, 1);
    server.input(Input::Notified { from: 1, notification: ask(Zxid::new(1, 1)) });
    let notification = vote(ServerState::Looking, 3, Zxid::new(1, 1), 1, 1);
    server.input(Input::Notified { from: 2, notification });
    while server.zab.leader().is_none() {
        server.input(Input::Notified { from: 1, notification: ask(Zxid::new(1, 1)) });
        server.timeout();
        assert!(server.now <= start + 200);
    }
    assert_eq!(server.zab.leader(), Some(3));
}

/// And its questions do not keep a voter from asking.
#[test]
fn its_questions_do_not_put_off_those_of_others() {
    let mut server = Alone::new(config(3, 3, 0), 1, 1, &[(1, 1)]);
    let due = server.zab.next_timeout().expect("a deadline");
    server.now += 100;
    let notification = vote(ServerState::Looking, NO_VOTE, Zxid::new(1, 1), 9, 1);
    server.input(Input::Notified { from: 1, notification });
    assert_eq!(server.zab.next_timeout(), Some(due));
}
