//! When a leader may say that a sync is done: while it knows that no other has taken its place.

mod common;

use bytes::Bytes;
use common::alone::{Alone, config, to_learner};
use common::{proposal, request};
use oxkeeper_proto::quorum::{Packet, PacketKind};
use oxkeeper_proto::{OpCode, Zxid};
use oxkeeper_zab::{Effect, Input, Output};

const TICK_MS: u64 = 200;

fn sync() -> Packet {
    request(OpCode::Sync.code())
}

fn done(out: &[Output]) -> usize {
    out.iter().filter(|output| matches!(output, Output::Replica(Effect::SyncDone))).count()
}

fn pong(server: &mut Alone) -> Vec<Output> {
    server.learner_says(1, Packet::with(PacketKind::Ping, Zxid::ZERO, Bytes::new()))
}

/// Server 3 leads 2, which has spoken just now.
fn serving() -> Alone {
    let mut server = Alone::serving();
    server.ack(1, Zxid::new(2, 0));
    server
}

#[test]
fn with_a_quorum_heard_within_a_tick_it_is_done_at_once() {
    let mut server = serving();
    server.now += TICK_MS;
    let out = server.input(Input::Sync(sync()));
    assert_eq!(done(&out), 1);
    assert_eq!(out.len(), 1, "and nobody is asked");
}

/// A leader that had been replaced answered from its own memory for up to syncLimit.
#[test]
fn otherwise_the_quorum_is_asked_first() {
    let mut server = serving();
    server.now += TICK_MS + 1;
    let out = server.input(Input::Sync(sync()));
    assert_eq!(done(&out), 0);
    assert_eq!(to_learner(&out, 1), [(PacketKind::Ping, Zxid::new(2, 0))]);
    let out = server.input(Input::Sync(sync()));
    assert!(out.is_empty(), "one question is enough");
    server.now += 30;
    assert_eq!(done(&pong(&mut server)), 2);
}

/// Of nobody it hears nothing more, so the role ends, and with it the wait.
#[test]
fn a_deposed_leader_answers_no_sync() {
    let mut server = serving();
    server.now += TICK_MS + 1;
    let (start, mut answered) = (server.now, 0);
    answered += done(&server.input(Input::Sync(sync())));
    let mut stopped = false;
    while server.zab.serving() {
        let out = server.timeout();
        answered += done(&out);
        stopped = out.iter().any(|output| matches!(output, Output::Replica(Effect::StopServing)));
        assert!(server.now <= start + 6 * TICK_MS);
    }
    assert_eq!(answered, 0);
    assert!(stopped);
}

/// A proposal whose ACKs are older than the sync proves nothing about now, when it is committed.
#[test]
fn behind_outstanding_proposals_a_quorum_must_have_been_heard_too() {
    let mut server = serving();
    server.input(Input::Propose(proposal(2, 1)));
    server.ack(1, Zxid::new(2, 1));
    server.now += TICK_MS + 1;
    assert_eq!(done(&server.input(Input::Sync(sync()))), 0);
    let out = server.input(Input::Flushed(Zxid::new(2, 1)));
    assert!(out.iter().any(|output| matches!(output, Output::Replica(Effect::Apply(_)))));
    assert_eq!(done(&out), 0);
    assert_eq!(done(&pong(&mut server)), 1);
}

/// What has just arrived may have been sent long ago: by a learner that follows another leader by now.
#[test]
fn an_answer_that_was_long_under_way_proves_nothing_about_now() {
    let mut server = serving();
    let out = server.timeout();
    assert_eq!(to_learner(&out, 1), [(PacketKind::Ping, Zxid::new(2, 0))]);
    server.now += 2 * TICK_MS;
    pong(&mut server);
    let out = server.input(Input::Sync(sync()));
    assert_eq!(done(&out), 0);
    assert_eq!(to_learner(&out, 1), [(PacketKind::Ping, Zxid::new(2, 0))]);
    assert_eq!(done(&pong(&mut server)), 1);
}

/// An ACK comes behind whatever was read before its proposal.
#[test]
fn an_ack_of_a_proposal_that_follows_a_ping_proves_as_much_as_an_answer() {
    let mut server = serving();
    server.now += 2 * TICK_MS;
    server.timeout();
    server.input(Input::Propose(proposal(2, 1)));
    server.ack(1, Zxid::new(2, 1));
    server.input(Input::Flushed(Zxid::new(2, 1)));
    assert_eq!(done(&server.input(Input::Sync(sync()))), 1);
}

/// Who asks while a question is under way waits for the next one, which is asked when the answer comes.
#[test]
fn one_question_at_a_time_serves_all_who_ask() {
    let mut server = serving();
    server.now += TICK_MS + 1;
    assert_eq!(done(&server.input(Input::Sync(sync()))), 0);
    server.now += 1;
    for _ in 0..3 {
        assert!(server.input(Input::Sync(sync())).is_empty());
    }
    let out = pong(&mut server);
    // The first is answered; the others came behind the question.
    assert_eq!(done(&out), 1);
    assert_eq!(to_learner(&out, 1), [(PacketKind::Ping, Zxid::new(2, 0))]);
    assert_eq!(done(&pong(&mut server)), 3);
}

/// The learner that asks speaks by asking.
#[test]
fn a_followers_own_question_is_a_sign_of_life() {
    let mut server = serving();
    server.now += 3 * TICK_MS;
    let out = server.learner_says(1, sync());
    assert_eq!(to_learner(&out, 1), [(PacketKind::Sync, Zxid::ZERO)]);
}

#[test]
fn a_single_voter_needs_nobody() {
    let mut server = Alone::new(config(1, 1, 0), 1, 1, &[(1, 1)]);
    server.timeout();
    server.input(Input::AcceptedEpochSaved(2));
    server.input(Input::CurrentEpochSaved(2));
    assert!(server.zab.serving());
    server.now += 100 * TICK_MS;
    assert_eq!(done(&server.input(Input::Sync(sync()))), 1);
}
