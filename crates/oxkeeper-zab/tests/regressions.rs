//! Bugs that ZooKeeper had, each as the rule that it broke.

mod common;

use bytes::Bytes;
use common::{Settings, World, ensemble, proposal};
use oxkeeper_proto::quorum::{
    LearnerInfo, NOTIFICATION_VERSION, Notification, PROTOCOL_VERSION, Packet, PacketKind,
    ServerState, ack_epoch_data,
};
use oxkeeper_proto::{Encode, Epoch, ServerId, Zxid};
use oxkeeper_zab::{Config, History, Input, LinkId, Lost, Misbehaved, Output, Phase, Zab};

fn config(me: ServerId, voters: i64, observers: i64) -> Config {
    Config {
        me,
        ensemble: ensemble(voters, observers),
        tick_ms: 200,
        init_limit: 10,
        sync_limit: 5,
        commit_log_count: 500,
        force_snapshot_sync: false,
        fast_election: false,
    }
}

/// One server, alone with the test.
struct Alone {
    zab: Zab,
    now: u64,
}

impl Alone {
    fn new(config: Config, accepted: Epoch, current: Epoch, log: &[(u32, u32)]) -> Alone {
        let recent: Vec<_> =
            log.iter().map(|(epoch, counter)| proposal(*epoch, *counter)).collect();
        let last_zxid = recent.last().map_or(Zxid::ZERO, |last| last.zxid);
        let history = History { last_zxid, recent };
        let mut out = Vec::new();
        let zab = Zab::new(config, accepted, current, history, 1_000, &mut out);
        Alone { zab, now: 1_000 }
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.zab.handle(self.now, input, &mut out);
        out
    }

    fn timeout(&mut self) -> Vec<Output> {
        self.now = self.zab.next_timeout().expect("a deadline");
        let mut out = Vec::new();
        self.zab.on_timeout(self.now, &mut out);
        out
    }

    /// Server 1 follows 3, and has told its epoch.
    fn follower(accepted: Epoch, current: Epoch, log: &[(u32, u32)]) -> Alone {
        let mut server = Alone::new(config(1, 3, 0), accepted, current, log);
        for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
            let zxid = server.zab.applied();
            let notification = vote(state, 3, zxid, 7, i64::from(current));
            server.input(Input::Notified { from, notification });
        }
        assert_eq!(server.zab.leader(), Some(3));
        server.input(Input::LeaderConnected);
        server
    }

    /// The same, synchronized up to NEWLEADER of `epoch` by DIFF; the ACK is not sent yet.
    fn leader_says(&mut self, kind: PacketKind, zxid: Zxid) -> Vec<Output> {
        self.input(Input::FromLeader(Packet::bare(kind, zxid)))
    }

    fn proposes(&mut self, epoch: u32, counter: u32) -> Vec<Output> {
        let proposal = proposal(epoch, counter);
        let packet = Packet::with(PacketKind::Proposal, proposal.zxid, proposal.payload);
        self.input(Input::FromLeader(packet))
    }

    /// A follower behind LEADERINFO and DIFF.
    fn synchronizing(epoch: Epoch, log: &[(u32, u32)]) -> Alone {
        let mut server = Alone::follower(epoch - 1, epoch - 1, log);
        server.leader_says(PacketKind::LeaderInfo, Zxid::new(epoch, 0));
        server.input(Input::AcceptedEpochSaved(epoch));
        server.leader_says(PacketKind::Diff, Zxid::new(epoch - 1, 9));
        server
    }

    /// Server 3 leads, and waits for epochs.
    fn leader(accepted: Epoch, current: Epoch, log: &[(u32, u32)]) -> Alone {
        let mut server = Alone::new(config(3, 3, 0), accepted, current, log);
        let zxid = server.zab.applied();
        let notification = vote(ServerState::Looking, 3, zxid, 1, i64::from(current));
        server.input(Input::Notified { from: 2, notification });
        server.timeout();
        assert_eq!(server.zab.state(), ServerState::Leading);
        server
    }

    fn learner_says(&mut self, link: LinkId, packet: Packet) -> Vec<Output> {
        self.input(Input::FromLearner(link, packet))
    }

    fn info(&mut self, link: LinkId, server: ServerId, accepted: Epoch) -> Vec<Output> {
        self.input(Input::LearnerConnected(link));
        let info = LearnerInfo { server, protocol: PROTOCOL_VERSION, config_version: 0 };
        let zxid = Zxid::new(accepted, 0);
        self.learner_says(link, Packet::with(PacketKind::FollowerInfo, zxid, info.to_bytes()))
    }

    fn ack_epoch(&mut self, link: LinkId, zxid: Zxid, current: Option<Epoch>) -> Vec<Output> {
        let packet = Packet::with(PacketKind::AckEpoch, zxid, ack_epoch_data(current));
        self.learner_says(link, packet)
    }

    fn ack(&mut self, link: LinkId, zxid: Zxid) -> Vec<Output> {
        self.learner_says(link, Packet::bare(PacketKind::Ack, zxid))
    }

    /// A leader of epoch 2 behind the NEWLEADER of its first follower, 2.
    fn new_leader_sent() -> Alone {
        let mut server = Alone::leader(1, 1, &[(1, 1)]);
        server.info(1, 2, 1);
        server.input(Input::AcceptedEpochSaved(2));
        server.ack_epoch(1, Zxid::new(1, 1), Some(1));
        server.input(Input::CurrentEpochSaved(2));
        server
    }

    fn serving() -> Alone {
        let mut server = Alone::new_leader_sent();
        server.ack(1, Zxid::new(2, 0));
        assert!(server.zab.serving());
        server
    }
}

fn vote(state: ServerState, leader: ServerId, zxid: Zxid, round: i64, epoch: i64) -> Notification {
    Notification {
        state: state as i32,
        leader,
        zxid,
        election_epoch: round,
        peer_epoch: epoch,
        version: NOTIFICATION_VERSION,
        config: None,
    }
}

fn to_leader(out: &[Output]) -> Vec<(PacketKind, Zxid)> {
    out.iter()
        .filter_map(|output| match output {
            Output::ToLeader(packet) => Some((packet.known_kind()?, packet.zxid)),
            _ => None,
        })
        .collect()
}

fn to_learner(out: &[Output], to: LinkId) -> Vec<(PacketKind, Zxid)> {
    out.iter()
        .filter_map(|output| match output {
            Output::ToLearner(link, packet) if *link == to => {
                Some((packet.known_kind()?, packet.zxid))
            }
            Output::ProposalToLearner { link, proposal, inform: false } if *link == to => {
                Some((PacketKind::Proposal, proposal.zxid))
            }
            _ => None,
        })
        .collect()
}

fn closes(out: &[Output], id: LinkId) -> bool {
    out.iter().any(|output| matches!(output, Output::CloseLearner { link, .. } if *link == id))
}

fn appended(out: &[Output]) -> Vec<Zxid> {
    out.iter()
        .filter_map(|output| match output {
            Output::Append(proposal) => Some(proposal.zxid),
            _ => None,
        })
        .collect()
}

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
/// next election by its epoch, without committed transactions (ZOOKEEPER-4643, 3911).
#[test]
fn current_epoch_is_written_only_after_the_history() {
    let mut server = Alone::synchronizing(2, &[]);
    server.proposes(1, 1);
    server.leader_says(PacketKind::Commit, Zxid::new(1, 1));
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    assert_eq!(appended(&out), [Zxid::new(1, 1)]);
    assert!(!out.iter().any(|output| matches!(output, Output::SaveCurrentEpoch(_))));
    let out = server.input(Input::Flushed(Zxid::new(1, 1)));
    assert!(matches!(out[..], [Output::SaveCurrentEpoch(2)]));
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
        matches!(out.last(), Some(Output::Apply(proposal)) if proposal.zxid == Zxid::new(2, 1))
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
    assert!(out.iter().any(|output| matches!(output, Output::Apply(_))));
    assert!(!out.iter().any(|output| matches!(output, Output::Notify { .. })));
    assert_eq!(server.zab.phase(), Phase::Election);
    let out = server.input(Input::Flushed(Zxid::new(2, 1)));
    let votes: Vec<_> = out
        .iter()
        .filter_map(|output| match output {
            Output::Notify { notification, .. } => Some(notification.zxid),
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
    assert!(matches!(out[..], [Output::AdoptSnapshot(zxid)] if zxid == Zxid::new(1, 7)));
    let out = server.input(Input::LeaderClosed);
    assert!(matches!(out[..], [Output::CloseLeader, Output::Reload]));
    let history = History { last_zxid: Zxid::new(1, 1), recent: vec![proposal(1, 1)] };
    let out = server.input(Input::Reloaded(history));
    assert!(out.iter().any(|output| matches!(
        output,
        Output::Notify { notification, .. } if notification.zxid == Zxid::new(1, 1)
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
    assert!(matches!(out.last(), Some(Output::SaveSnapshot)));
    assert_eq!(appended(&out), [], "the snapshot has it");
    let out = server.input(Input::SnapshotSaved);
    assert!(matches!(out[..], [Output::SaveCurrentEpoch(2)]));
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
    assert!(matches!(out[..], [Output::Truncate(zxid)] if zxid == Zxid::new(1, 1)));
    let out = server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    assert!(out.is_empty(), "packets wait for the cut");
    let history = History { last_zxid: Zxid::new(1, 1), recent: vec![proposal(1, 1)] };
    let out = server.input(Input::Reloaded(history));
    assert!(matches!(out[..], [Output::PrepareCurrentEpoch(2), Output::SaveSnapshot]));
}

/// On a full disk the log was not cut as told; nobody noticed, and the server went on with a history of
/// its own (ZOOKEEPER-3701). Also a cut that ends before its zxid leaves a hole.
#[test]
fn a_cut_that_misses_its_zxid_ends_the_role() {
    let mut server = Alone::follower(1, 1, &[(1, 1), (1, 4)]);
    server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    server.input(Input::AcceptedEpochSaved(2));
    server.leader_says(PacketKind::Trunc, Zxid::new(1, 3));
    let history = History { last_zxid: Zxid::new(1, 1), recent: vec![proposal(1, 1)] };
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
    assert!(matches!(out[0], Output::CloseLeader));
}

/// An epoch that was promised before is acknowledged with -1, which does not count: two leaders of one
/// epoch would be possible otherwise.
#[test]
fn an_epoch_promised_before_does_not_count_toward_the_quorum() {
    let mut follower = Alone::follower(2, 1, &[(1, 1)]);
    let out = follower.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    let [Output::ToLeader(ack)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(ack.data.as_deref(), Some(&(-1i32).to_be_bytes()[..]));

    let mut leader = Alone::leader(1, 1, &[(1, 1)]);
    leader.info(1, 2, 1);
    leader.input(Input::AcceptedEpochSaved(2));
    let out = leader.ack_epoch(1, Zxid::new(1, 1), None);
    assert!(out.is_empty(), "still waits for a quorum of acks");
    leader.info(2, 1, 1);
    let out = leader.ack_epoch(2, Zxid::new(1, 1), Some(1));
    assert!(matches!(out[..], [Output::SaveCurrentEpoch(2)]));
}

/// An older epoch than the promised one is never followed.
#[test]
fn a_leader_of_an_older_epoch_is_left() {
    let mut follower = Alone::follower(3, 1, &[(1, 1)]);
    let out = follower.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
    assert!(matches!(out[0], Output::CloseLeader));
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

/// No epoch from the network is so high that the next one does not exist.
#[test]
fn impossible_epochs_are_refused() {
    let mut leader = Alone::leader(1, 1, &[(1, 1)]);
    let out = leader.info(1, 2, u32::MAX);
    assert!(closes(&out, 1));
    let mut follower = Alone::follower(1, 1, &[(1, 1)]);
    let out = follower.leader_says(PacketKind::LeaderInfo, Zxid::new(u32::MAX, 0));
    assert!(matches!(out[0], Output::CloseLeader));
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

/// A learner that takes the epoch of a leader although it has promised a newer one breaks that promise.
#[test]
fn a_leader_takes_no_ack_of_an_epoch_older_than_the_promise() {
    let mut leader = Alone::serving();
    leader.info(2, 1, 7);
    assert!(closes(&leader.ack_epoch(2, Zxid::new(1, 1), Some(1)), 2));
}

impl Alone {
    /// Observer 4 of leader 3, which has announced epoch 2.
    fn observer() -> Alone {
        let mut server = Alone::new(config(4, 3, 1), 1, 1, &[(1, 1)]);
        for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
            let notification = vote(state, 3, Zxid::new(1, 1), 7, 1);
            server.input(Input::Notified { from, notification });
        }
        server.input(Input::LeaderConnected);
        server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
        server.input(Input::AcceptedEpochSaved(2));
        server
    }

    fn leader_sends(&mut self, kind: PacketKind, zxid: Zxid, data: Bytes) -> Vec<Output> {
        self.input(Input::FromLeader(Packet::with(kind, zxid, data)))
    }
}

/// The header of a transaction was read, its body was not, and the server fell over when it applied it.
#[test]
fn a_transaction_that_cannot_be_read_is_never_logged_whatever_carries_it() {
    use PacketKind::{Inform, InformAndActivate, Proposal};
    for kind in [Proposal, Inform, InformAndActivate] {
        let mut server = Alone::observer();
        server.leader_says(PacketKind::Diff, Zxid::new(1, 1));
        if kind != Proposal {
            server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
            server.input(Input::CurrentEpochSaved(2));
            server.leader_says(PacketKind::UpToDate, Zxid(-1));
            assert!(server.zab.serving());
        }
        let zxid = Zxid::new(2, 1);
        let whole = common::payload(zxid, "x");
        let leader = if kind == InformAndActivate { &[0; 8][..] } else { &[] };
        let cut = [leader, &whole[..40]].concat();
        let out = server.leader_sends(kind, zxid, cut.into());
        assert_eq!(appended(&out), [], "{kind:?}");
        assert_eq!(server.zab.leader(), None, "{kind:?}");
    }
}

/// Numbers that no zxid can have came from the network into sums and comparisons.
#[test]
fn a_zxid_beyond_the_leaders_epoch_ends_the_role() {
    let far = [Zxid(i64::MAX), Zxid(i64::MIN), Zxid(-1), Zxid::new(3, 1), Zxid::new(u32::MAX, 1)];
    for zxid in far {
        let mut server = Alone::observer();
        server.leader_says(PacketKind::Snap, zxid);
        server.input(Input::SnapshotReceived);
        assert_eq!(server.zab.leader(), None, "a snapshot of {zxid}");

        let mut server = Alone::observer();
        server.leader_says(PacketKind::Trunc, zxid);
        assert_eq!(server.zab.leader(), None, "a cut behind {zxid}");

        let mut server = Alone::observer();
        server.leader_says(PacketKind::Diff, Zxid::new(1, 1));
        server.leader_sends(PacketKind::Proposal, zxid, common::payload(zxid, "x"));
        server.leader_says(PacketKind::Commit, zxid);
        server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
        assert_eq!(server.zab.leader(), None, "a proposal {zxid}");
    }
}

/// INFORM overtook a proposal that waited for its commit; the log was to grow backwards.
#[test]
fn an_inform_does_not_overtake_a_proposal_of_the_synchronization() {
    let mut server = Alone::observer();
    server.leader_says(PacketKind::Snap, Zxid::new(1, 7));
    server.input(Input::SnapshotReceived);
    server.proposes(1, 8);
    let zxid = Zxid::new(1, 9);
    server.leader_sends(PacketKind::Inform, zxid, common::payload(zxid, "x"));
    server.leader_says(PacketKind::NewLeader, Zxid::new(2, 0));
    assert_eq!(server.zab.leader(), None);
}

impl Alone {
    /// Server 1 has 1.1 and 1.2, could not cut its log to 1.1, and follows 3 again, whose vote is this.
    fn needs_snapshot(zxid: Zxid, peer_epoch: i64) -> Alone {
        let mut server = Alone::follower(1, 1, &[(1, 1), (1, 2)]);
        server.leader_says(PacketKind::LeaderInfo, Zxid::new(2, 0));
        server.input(Input::AcceptedEpochSaved(2));
        server.leader_says(PacketKind::Trunc, Zxid::new(1, 1));
        server.input(Input::TruncateFailed);
        server.timeout();
        for (from, state) in [(2, ServerState::Following), (3, ServerState::Leading)] {
            let notification = vote(state, 3, zxid, 9, peer_epoch);
            server.input(Input::Notified { from, notification });
        }
        assert_eq!(server.zab.leader(), Some(3));
        server.input(Input::LeaderConnected);
        server
    }
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
