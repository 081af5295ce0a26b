//! Roles that follow each other within one step of a node.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use oxkeeper_node::{
    Driver, Event, LoadSettings, Node, NodeSettings, PortEvent, RoleId, SnapshotSettings,
    StoreSettings, TreeStream, load_state, start,
};
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::quorum::{NOTIFICATION_VERSION, Notification, Packet, PacketKind, ServerState};
use oxkeeper_proto::{ServerId, Zxid};
use oxkeeper_replica::limits::LimitSettings;
use oxkeeper_replica::{Client, ClientPortSettings, Input, Now, ReplicaConfig};
use oxkeeper_state::Options;
use oxkeeper_state::auth::AuthSettings;
use oxkeeper_state::prepare::PrepareSettings;
use oxkeeper_storage::{Compression, LoadOptions, LogOptions, MemDisk};
use oxkeeper_zab::{CloseReason, DiskRequest, Input as Z, LinkId, LogRead};

const NOW: Now = Now { mono_ms: 1, wall_ms: 1_700_000_000_000 };

/// Remembers whom the node has called.
#[derive(Default)]
struct Calls {
    dialed: Vec<(RoleId, ServerId)>,
    hung_up: usize,
}

impl Driver for Calls {
    fn notify(&mut self, _: ServerId, _: Notification) {}
    fn connect_election(&mut self) {}
    fn dial(&mut self, role: RoleId, leader: ServerId) {
        self.dialed.push((role, leader));
    }
    fn hang_up(&mut self) {
        self.hung_up += 1;
    }
    fn send_to_leader(&mut self, _: Vec<u8>) {}
    fn listen(&mut self, _: RoleId) {}
    fn stop_listening(&mut self) {}
    fn send_to_learner(&mut self, _: LinkId, _: Vec<u8>) {}
    fn stream(&mut self, _: LinkId, _: TreeStream) {}
    fn close_learner(&mut self, _: LinkId, _: &CloseReason) {}
    fn disk(&mut self, requests: &mut Vec<DiskRequest>) {
        requests.clear();
    }
    fn read_log(&mut self, _: LogRead) {}
    fn reply(&mut self, _: &Arc<Client>) {}
    fn wake(&mut self, _: &Arc<Client>) {}
}

/// Server 1 of three, with an empty disk.
fn member() -> Node {
    let mut ensemble = EnsembleConfig::default();
    for id in 1..=3 {
        ensemble.set(&format!("server.{id}"), "host:2888:3888:participant", false).unwrap();
    }
    let store = StoreSettings {
        log: LogOptions { preallocate_kib: 4, ..LogOptions::default() },
        snap_count: 1_000,
        snap_size_kib: -1,
        log_size_kib: -1,
        snapshot_size_factor: 0.33,
        snapshot: SnapshotSettings { compression: Compression::None, last_zxid_section: true },
        load: LoadSettings { options: LoadOptions::default(), seed: 1, state: Options::default() },
    };
    let disk = MemDisk::new("d");
    let loaded = load_state(&disk, &store.load, &|_| {}).unwrap();
    let settings = NodeSettings {
        store,
        clients: ClientPortSettings {
            server: 1,
            tick_ms: 2000,
            min_session_timeout_ms: 4000,
            max_session_timeout_ms: 40_000,
            auth: AuthSettings::default(),
            limits: LimitSettings::default(),
        },
        replica: ReplicaConfig {
            prepare: PrepareSettings::default(),
            reap_interval_ms: 60_000,
            reap_per_minute: 10_000,
            leader_serves: true,
            config_node: None,
        },
        zab: Some(oxkeeper_zab::Config {
            me: 1,
            ensemble,
            tick_ms: 2000,
            init_limit: 10,
            sync_limit: 5,
            commit_log_count: 500,
            force_snapshot_sync: false,
            fast_election: true,
            limits: oxkeeper_zab::Limits::default(),
        }),
        watch_seed: 1,
        random: Box::new(|| 0),
    };
    start(disk, loaded, settings, NOW).unwrap().node
}

/// `from` votes for server 3.
fn vote(from: ServerId, state: ServerState, round: i64) -> Event {
    let notification = Notification {
        state: state as i32,
        leader: 3,
        zxid: Zxid::ZERO,
        election_epoch: round,
        peer_epoch: 0,
        version: NOTIFICATION_VERSION,
        config: None,
    };
    Event::Input(Input::Zab(Z::Notified { from, notification }))
}

fn step(node: &mut Node, calls: &mut Calls, events: Vec<Event>) {
    events.into_iter().for_each(|event| node.handle(NOW, event));
    node.finish(NOW, calls);
}

/// The others vote already while this server still follows. Its role ends at a packet, and the election with
/// it: the new role has not dialed, so nothing that is left in the step can be from its leader.
#[test]
fn what_an_ended_roles_link_tells_does_not_reach_the_role_that_began_in_the_same_step() {
    let (mut node, mut calls) = (member(), Calls::default());
    let found = [(2, ServerState::Following), (3, ServerState::Leading)];
    let found = found.map(|(from, state)| vote(from, state, 7)).into();
    step(&mut node, &mut calls, found);
    let [(first, 3)] = calls.dialed[..] else { panic!("{:?}", calls.dialed) };
    let early = [2, 3].map(|from| vote(from, ServerState::Looking, 8)).into();
    step(&mut node, &mut calls, early);

    let wrong = Packet::bare(PacketKind::UpToDate, Zxid(-1));
    let behind = Packet::bare(PacketKind::Commit, Zxid::new(1, 1));
    let told = [
        PortEvent::LeaderConnected,
        PortEvent::FromLeader(vec![wrong, behind.clone()]),
        PortEvent::FromLeader(vec![behind]),
        PortEvent::LeaderClosed,
    ];
    let told = told.map(|event| Event::Port { role: first, event }).into();
    step(&mut node, &mut calls, told);
    assert_eq!(calls.hung_up, 1, "one role has ended");
    let [_, (second, 3)] = calls.dialed[..] else { panic!("{:?}", calls.dialed) };
    assert_ne!(first, second);
    assert_eq!(node.replica().leader(), Some(3));
}
