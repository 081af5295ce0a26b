//! A snapshot that takes longer than initLimit to send, to read and to write is delivered all the same.

mod common;

use bytes::Bytes;
use common::alone::{Alone, closes, config, to_leader, to_learner, vote};
use oxkeeper_proto::Zxid;
use oxkeeper_proto::quorum::{Packet, PacketKind, ServerState};
use oxkeeper_zab::{Input, LinkId, Lost, Output, PortRequest};

/// Ticks of 200 ms; initLimit 10, syncLimit 5.
const INIT_MS: u64 = 2_000;
const GIB: u64 = 1 << 30;

/// Time passes; the follower behind `alive` answers pings. Is `watched` closed meanwhile?
fn pass(server: &mut Alone, ms: u64, alive: LinkId, watched: LinkId) -> bool {
    let end = server.now + ms;
    let mut closed = false;
    while let Some(next) = server.zab.next_timeout().filter(|next| *next <= end) {
        server.now = server.now.max(next);
        let mut out = Vec::new();
        server.zab.on_timeout(server.now, &mut out);
        closed |= closes(&out, watched);
        let ping = Packet::with(PacketKind::Ping, Zxid::ZERO, Bytes::new());
        server.learner_says(alive, ping);
    }
    server.now = end;
    closed
}

fn streamed(server: &mut Alone, link: LinkId, bytes: u64, ended: bool) {
    server.input(Input::SnapshotStreamed { link, bytes, ended });
}

/// Server 3 serves with 2; server 1, behind link 2, gets a snapshot.
fn serving() -> Alone {
    let mut server = Alone::serving();
    server.ack(1, Zxid::new(2, 0));
    server.info(2, 1, 1);
    server.ack_epoch(2, Zxid::new(0, 7), Some(0));
    let out = server.input(Input::LogRead { link: 2, proposals: None });
    assert_eq!(to_learner(&out, 2)[0].0, PacketKind::Snap);
    assert!(
        out.iter().any(|output| matches!(output, Output::Port(PortRequest::SnapshotToLearner(2))))
    );
    server
}

#[test]
fn progress_of_the_stream_is_a_sign_of_life() {
    let mut server = serving();
    for step in 1..100 {
        assert!(!pass(&mut server, INIT_MS - 100, 1, 2), "step {step}");
        streamed(&mut server, 2, step * 1000, false);
    }
    // Reports without progress are none.
    let mut closed = false;
    for _ in 0..4 {
        streamed(&mut server, 2, 99_000, false);
        closed |= pass(&mut server, INIT_MS / 2, 1, 2);
    }
    assert!(closed);
    assert!(server.zab.serving());
}

#[test]
fn after_its_end_the_learner_has_time_to_read_and_write_it() {
    let mut server = serving();
    streamed(&mut server, 2, GIB, true);
    let allowance_ms = GIB / 16_000;
    assert!(!pass(&mut server, INIT_MS + allowance_ms - 100, 1, 2));
    assert!(pass(&mut server, 200, 1, 2), "but not for ever");

    // And then it is a follower like others.
    let mut server = serving();
    streamed(&mut server, 2, GIB, true);
    pass(&mut server, 30_000, 1, 2);
    let out = server.ack(2, Zxid::new(2, 0));
    assert_eq!(to_learner(&out, 2), [(PacketKind::UpToDate, Zxid(-1))]);
    server.ack(2, Zxid::new(2, 0));
    assert!(pass(&mut server, 5 * 200 + 100, 1, 2), "syncLimit holds again");
}

#[test]
fn a_driver_that_reports_nothing_gets_init_limit() {
    let mut server = serving();
    assert!(!pass(&mut server, INIT_MS - 100, 1, 2));
    assert!(pass(&mut server, 200, 1, 2));
}

/// Nor do reports help who gets no snapshot.
#[test]
fn only_a_snapshot_under_way_makes_progress() {
    let mut server = Alone::serving();
    server.ack(1, Zxid::new(2, 0));
    server.info(2, 1, 1);
    server.ack_epoch(2, Zxid::new(1, 1), Some(1));
    pass(&mut server, INIT_MS - 100, 1, 2);
    streamed(&mut server, 2, GIB, false);
    streamed(&mut server, 77, GIB, false);
    assert!(pass(&mut server, 200, 1, 2));
}

/// What was handed to the socket of a dead learner proves nothing: a leader that has nobody else stops
/// as soon as it did before there were reports.
#[test]
fn a_stream_alone_does_not_keep_a_leader() {
    let mut server = serving();
    server.input(Input::LearnerClosed(1));
    assert!(server.zab.serving(), "server 1 has just spoken");
    let start = server.now;
    while server.zab.serving() {
        let bytes = server.now;
        streamed(&mut server, 2, bytes, false);
        server.timeout();
        assert!(server.now <= start + INIT_MS + 200);
    }
    assert_eq!(server.zab.last_loss(), Some(&Lost::NoQuorum));
}

/// A learner may ping while it reads or writes: then it lives, and counts.
#[test]
fn pings_of_a_learner_that_is_being_synchronized_are_signs_of_life() {
    let mut server = serving();
    server.input(Input::LearnerClosed(1));
    for _ in 0..50 {
        pass(&mut server, INIT_MS / 2, 2, 2);
        assert!(server.zab.serving());
    }
}

/// Two of three, one of them empty: the leader waits for the snapshot before it gives up, or it would
/// begin the same stream anew for ever.
#[test]
fn a_new_leader_waits_for_the_snapshot_that_its_quorum_needs() {
    let begin = || {
        let mut server = Alone::leader(1, 1, &[(1, 1)]);
        server.info(1, 2, 1);
        server.input(Input::AcceptedEpochSaved(2));
        server.ack_epoch(1, Zxid::new(0, 7), Some(0));
        server.input(Input::CurrentEpochSaved(2));
        let out = server.input(Input::LogRead { link: 1, proposals: None });
        assert!(
            out.iter()
                .any(|output| matches!(output, Output::Port(PortRequest::SnapshotToLearner(1)))),
            "{out:?}"
        );
        server
    };
    let mut server = begin();
    for step in 1..20 {
        pass(&mut server, INIT_MS - 100, 99, 1);
        streamed(&mut server, 1, step * 1000, false);
    }
    streamed(&mut server, 1, GIB, true);
    pass(&mut server, 60_000, 99, 1);
    server.ack(1, Zxid::new(2, 0));
    assert!(server.zab.serving(), "{:?}", server.zab.last_loss());

    let mut server = begin();
    streamed(&mut server, 1, 1000, false);
    pass(&mut server, INIT_MS + 200, 99, 1);
    assert_eq!(server.zab.state(), ServerState::Looking, "no progress");
}

/// The others have nothing to say while the new leader waits.
#[test]
fn who_has_acknowledged_is_not_closed_while_another_gets_its_snapshot() {
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
    server.ack_epoch(2, Zxid::new(0, 7), Some(0));
    server.input(Input::CurrentEpochSaved(2));
    server.input(Input::LogRead { link: 2, proposals: None });
    server.ack(1, Zxid::new(2, 0));
    for step in 1..20 {
        assert!(!pass(&mut server, INIT_MS - 100, 99, 1), "step {step}");
        streamed(&mut server, 2, step * 1000, false);
    }
    let out = server.ack(2, Zxid::new(2, 0));
    assert_eq!(to_learner(&out, 1), [(PacketKind::UpToDate, Zxid(-1))]);
    server.ack(2, Zxid::new(2, 0));
    assert!(!pass(&mut server, 300, 2, 1), "it has its time to answer");
    assert!(server.zab.serving());
}

/// The learner's half: the stream's progress, then the leader's pings, keep it.
#[test]
fn a_learner_bears_a_slow_stream_and_a_slow_disk() {
    let mut server = Alone::follower(1, 1, &[(1, 1)]);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    server.leader_says(PacketKind::Snap, Zxid::new(1, 7));
    let check = |server: &mut Alone| {
        let due = server.zab.next_timeout().expect("a deadline");
        assert!(server.now < due);
    };
    for _ in 0..50 {
        server.now += INIT_MS - 1;
        check(&mut server);
        server.input(Input::SnapshotProgress);
    }
    server.input(Input::SnapshotReceived);
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    for _ in 0..50 {
        server.now += INIT_MS - 1;
        check(&mut server);
        server.leader_says(PacketKind::Ping, Zxid::new(2, 0));
    }
    server.input(Input::SnapshotSaved);
    let out = server.input(Input::CurrentEpochSaved(2));
    assert_eq!(to_leader(&out), [(PacketKind::Ack, Zxid::new(2, 0))]);
}
