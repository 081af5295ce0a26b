//! A disk or a peer that does not keep up: what waits for it is bounded, in time and in bytes.

mod common;

use bytes::Bytes;
use common::alone::{Alone, appended, closes, to_learner};
use common::{Settings, World, proposal};
use oxkeeper_proto::Zxid;
use oxkeeper_proto::quorum::{Packet, PacketKind};
use oxkeeper_zab::{Effect, Input, LinkId, Lost, Output, Proposal};

/// A leader whose disk hung led for ever: its followers made a quorum without it, while what it had
/// not written grew.
#[test]
fn a_leader_whose_disk_hangs_steps_down_after_sync_limit() {
    let mut server = Alone::serving();
    server.ack(1, Zxid::new(2, 0));
    server.input(Input::Propose(proposal(2, 1)));
    server.input(Input::Flushed(Zxid::new(2, 1)));
    server.ack(1, Zxid::new(2, 1));
    server.now += 300;
    let start = server.now;
    for counter in 2..100 {
        server.input(Input::Propose(proposal(2, counter)));
        server.ack(1, Zxid::new(2, counter));
        if server.zab.next_timeout().expect("a deadline") <= server.now + 50 {
            server.timeout();
            server.learner_says(1, Packet::with(PacketKind::Ping, Zxid::ZERO, Bytes::new()));
        } else {
            server.now += 50;
        }
        if !server.zab.serving() {
            break;
        }
    }
    assert_eq!(server.now, start + 5 * 200, "the oldest append counts, not the newest");
    let Some(Lost::DiskHangs { oldest, ms }) = server.zab.last_loss() else { panic!("leads on") };
    assert_eq!((*oldest, *ms), (Zxid::new(2, 2), 1_000));
    // No vote before the disk has answered: it would win again.
    assert_eq!(server.zab.next_timeout(), None);
}

/// Slow is not hung: what is flushed step by step goes on.
#[test]
fn a_leader_whose_disk_is_slow_leads_on() {
    let mut server = Alone::serving();
    server.ack(1, Zxid::new(2, 0));
    for counter in 1..50 {
        server.input(Input::Propose(proposal(2, counter)));
        server.ack(1, Zxid::new(2, counter));
        if let Some(flushed) = counter.checked_sub(4).filter(|flushed| *flushed > 0) {
            server.input(Input::Flushed(Zxid::new(2, flushed)));
        }
        let next = server.now + 200;
        while server.zab.next_timeout().expect("a deadline") <= next {
            server.timeout();
        }
        server.now = next;
        assert!(server.zab.serving(), "{:?}", server.zab.last_loss());
    }
}

fn big(counter: u32, payload: &Bytes) -> Proposal {
    Proposal { zxid: Zxid::new(2, counter), payload: payload.clone() }
}

#[test]
fn a_leader_steps_down_when_512_mib_wait_for_its_disk() {
    let mut server = Alone::serving();
    server.info(2, 1, 1);
    server.ack_epoch(2, Zxid::new(1, 1), Some(1));
    server.ack(2, Zxid::new(2, 0));
    let payload = Bytes::from(vec![0; 1 << 20]);
    for counter in 1..=512 {
        assert!(server.zab.serving(), "after {counter} MiB");
        server.input(Input::Propose(big(counter, &payload)));
        // The others make a quorum without it.
        server.ack(1, Zxid::new(2, counter));
        server.ack(2, Zxid::new(2, counter));
    }
    assert!(matches!(server.zab.last_loss(), Some(Lost::DiskTooSlow { .. })));
}

#[test]
fn a_leader_steps_down_when_512_mib_wait_for_its_quorum() {
    let mut server = Alone::serving();
    let payload = Bytes::from(vec![0; 1 << 20]);
    for counter in 1..=512 {
        assert!(server.zab.serving(), "after {counter} MiB");
        server.input(Input::Propose(big(counter, &payload)));
        server.input(Input::Flushed(Zxid::new(2, counter)));
    }
    assert!(matches!(server.zab.last_loss(), Some(Lost::QuorumTooSlow { .. })));
}

fn serving_follower() -> Alone {
    let mut server = Alone::synchronizing(2, &[]);
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    server.input(Input::CurrentEpochSaved(2));
    server.leader_says(PacketKind::UpToDate, Zxid(-1));
    server.zab.limit_queues(10_000);
    server
}

#[test]
fn a_learner_ends_its_role_when_its_disk_does_not_keep_up() {
    let mut server = serving_follower();
    for counter in 1..100 {
        server.proposes(2, counter);
        server.leader_says(PacketKind::Commit, Zxid::new(2, counter));
    }
    assert!(matches!(server.zab.last_loss(), Some(Lost::DiskTooSlow { .. })));
}

#[test]
fn a_learner_leaves_a_leader_that_proposes_and_never_commits() {
    let mut server = serving_follower();
    for counter in 1..100 {
        for zxid in appended(&server.proposes(2, counter)) {
            server.input(Input::Flushed(zxid));
        }
    }
    assert!(matches!(server.zab.last_loss(), Some(Lost::TooMuchQueued { .. })));
}

/// What is too much to be remembered until NEWLEADER comes as a snapshot the next time.
#[test]
fn a_synchronization_beyond_the_limit_is_followed_by_a_snapshot() {
    let mut server = Alone::synchronizing(2, &[]);
    server.zab.limit_queues(10_000);
    for counter in 1..100 {
        server.proposes(1, counter);
        server.leader_says(PacketKind::Commit, Zxid::new(1, counter));
    }
    assert!(matches!(server.zab.last_loss(), Some(Lost::TooMuchQueued { .. })));
    assert!(server.zab.needs_snapshot());
}

/// Packets wait while the log is being cut; pings need not.
#[test]
fn what_waits_for_a_cut_is_bounded() {
    let mut server = Alone::follower(1, 1, &[(1, 1), (1, 2)]);
    server.zab.limit_queues(10_000);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    server.leader_says(PacketKind::Trunc, Zxid::new(1, 1));
    for _ in 0..1_000 {
        server.leader_says(PacketKind::Ping, Zxid::new(2, 0));
    }
    assert_eq!(server.zab.leader(), Some(3));
    for counter in 1..100 {
        server.proposes(2, counter);
    }
    assert!(matches!(server.zab.last_loss(), Some(Lost::TooMuchQueued { .. })));
}

#[test]
fn a_learner_that_asks_for_syncs_without_end_is_closed() {
    let mut server = Alone::serving();
    server.info(2, 1, 1);
    server.ack_epoch(2, Zxid::new(1, 1), Some(1));
    server.ack(2, Zxid::new(2, 0));
    server.input(Input::Propose(proposal(2, 1)));
    let sync = common::request(oxkeeper_proto::OpCode::Sync.code());
    let mut closed = false;
    for _ in 0..(1 << 20) + 1 {
        closed = closed || closes(&server.learner_says(2, sync.clone()), 2);
    }
    assert!(closed && server.zab.serving());
}

#[test]
fn links_without_end_are_refused() {
    let mut server = Alone::serving();
    let mut refused = 0;
    for link in 10..10_010 {
        refused += usize::from(closes(&server.input(Input::LearnerConnected(link)), link));
    }
    assert!(refused >= 5_000 && server.zab.serving());
    let late: LinkId = 20_000;
    assert!(to_learner(&server.ack(1, Zxid::new(2, 0)), late).is_empty());
}

/// The world's view: another server leads, and the one with the hanging disk comes back when it works.
#[test]
fn an_ensemble_goes_on_without_a_leader_whose_disk_hangs() {
    let mut world = World::new(&Settings::default());
    world.ids().into_iter().for_each(|id| world.start(id));
    assert!(world.settle(10_000, World::all_serve));
    let first = world.leader().expect("a leader");
    world.stalled.insert(first);
    world.propose(first);
    let moved = |world: &World| world.leader().is_some_and(|leader| leader != first);
    assert!(world.settle(10_000, moved));
    let leader = world.leader().expect("a leader");
    world.propose(leader);
    world.pass(20_000);
    assert_eq!(world.leader(), Some(leader), "no flapping");
    world.stalled.clear();
    assert!(world.settle(10_000, |world| world.all_serve() && world.all_equal()));
    assert_eq!(world.check.committed.len(), 2);
}

#[test]
fn outputs_of_a_role_that_ended_are_not_made() {
    let mut server = Alone::serving();
    let payload = Bytes::from(vec![0; 20_000]);
    server.zab.limit_queues(10_000);
    let out = server.input(Input::Propose(big(1, &payload)));
    assert!(
        matches!(out.last(), Some(Output::Replica(Effect::Apply(_)))),
        "logged, so it counts in the next vote"
    );
}
