use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use oxkeeper_node::StreamStep;
use oxkeeper_proto::client::Acl;
use oxkeeper_proto::ensemble::HostPort;
use oxkeeper_proto::quorum::{LearnerInfo, PROTOCOL_VERSION, Packet, PacketKind};
use oxkeeper_proto::snapshot::{
    NodeRecord, OPEN_ACL_ID, SnapshotSink, StatPersisted, put_node, put_nodes_end, put_tables,
};
use oxkeeper_proto::{Encode, Zxid};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::*;

const LIMITS: LinkLimits = LinkLimits { max_len: 1 << 20, queue: 64 << 20 };

fn at(port: u16) -> HostPort {
    HostPort { host: "127.0.0.1".to_owned(), port }
}

fn listener_config(port: u16) -> ListenerConfig {
    ListenerConfig {
        addresses: vec![at(port)],
        listen_on_all: false,
        first_packet_timeout: Duration::from_millis(500),
        limits: LIMITS,
    }
}

async fn listen(config: ListenerConfig) -> (LearnerListener, UnboundedReceiver<LearnerEvent>) {
    let (sender, mut inbox) = unbounded_channel();
    let listener =
        LearnerListener::start(&Handle::current(), config, move |event| drop(sender.send(event)));
    assert!(matches!(next(&mut inbox).await, LearnerEvent::Listening));
    (listener, inbox)
}

/// A sink that counts.
#[derive(Debug, Default)]
struct Counts {
    sessions: usize,
    acls: usize,
    nodes: usize,
    bytes: usize,
}

impl SnapshotSink for Counts {
    fn session(&mut self, _: i64, _: i32) {
        self.sessions += 1;
    }

    fn acl(&mut self, _: i64, _: Vec<Acl>) {
        self.acls += 1;
    }

    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), String> {
        self.nodes += 1;
        self.bytes += node.data.map_or(0, <[u8]>::len);
        match &*node.path {
            "/orphan" => Err("the node /orphan has no parent".to_owned()),
            _ => Ok(()),
        }
    }
}

fn link(port: u16) -> (LeaderLink, UnboundedReceiver<LeaderEvent<Counts>>) {
    link_to(at(port), None)
}

fn link_to(
    address: HostPort,
    met_at: Option<IpAddr>,
) -> (LeaderLink, UnboundedReceiver<LeaderEvent<Counts>>) {
    link_to_any(vec![address], met_at)
}

fn link_to_any(
    addresses: Vec<HostPort>,
    met_at: Option<IpAddr>,
) -> (LeaderLink, UnboundedReceiver<LeaderEvent<Counts>>) {
    let config = LeaderLinkConfig {
        addresses,
        met_at,
        connect_timeout: Duration::from_secs(5),
        limits: LIMITS,
    };
    let (sender, inbox) = unbounded_channel();
    let events = move |event| drop(sender.send(event));
    (LeaderLink::connect(&Handle::current(), config, Counts::default, events), inbox)
}

async fn next<T>(inbox: &mut UnboundedReceiver<T>) -> T {
    timeout(Duration::from_secs(10), inbox.recv()).await.expect("an event").expect("running")
}

fn introduction() -> Vec<u8> {
    let info = LearnerInfo { server: 2, protocol: PROTOCOL_VERSION, config_version: 0 };
    Packet::with(PacketKind::FollowerInfo, Zxid(0), info.to_bytes()).to_bytes()
}

fn ping(n: i64) -> Vec<u8> {
    Packet::bare(PacketKind::Ping, Zxid(n)).to_bytes()
}

async fn connected(inbox: &mut UnboundedReceiver<LearnerEvent>) -> LinkId {
    match next(inbox).await {
        LearnerEvent::Connected { link, .. } => link,
        other => panic!("{other:?}"),
    }
}

/// zxids of the next `count` packets from the leader.
async fn zxids(inbox: &mut UnboundedReceiver<LeaderEvent<Counts>>, count: usize) -> Vec<i64> {
    let mut found = Vec::new();
    while found.len() < count {
        match next(inbox).await {
            LeaderEvent::Packets(packets) => found.extend(packets.iter().map(|p| p.zxid.0)),
            other => panic!("{other:?}"),
        }
    }
    found
}

async fn ends(stream: &mut TcpStream) -> bool {
    let mut buf = [0; 64];
    let read = timeout(Duration::from_secs(5), stream.read(&mut buf)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

struct Pieces(Vec<Vec<u8>>);

impl SnapshotSource for Pieces {
    fn next_chunk(&mut self, out: &mut Vec<u8>) -> StreamStep {
        if !self.0.is_empty() {
            out.extend(self.0.remove(0));
        }
        if self.0.is_empty() { StreamStep::End } else { StreamStep::More }
    }
}

/// A body of `nodes` nodes of 1000 bytes, cut at odd places.
fn body(nodes: usize) -> Pieces {
    let acl = Acl::open_unsafe();
    let mut bytes = Vec::new();
    put_tables(&mut bytes, [(9, 1000)].into_iter(), [(1, &acl[..])].into_iter());
    put_node(&mut bytes, "", None, OPEN_ACL_ID, &StatPersisted::default());
    for n in 1..nodes {
        let path = format!("/n{n}");
        put_node(&mut bytes, &path, Some(&[7; 1000]), 1, &StatPersisted::default());
    }
    put_nodes_end(&mut bytes);
    Pieces(bytes.chunks(77_777).map(<[u8]>::to_vec).collect())
}

#[tokio::test]
async fn packets_travel_both_ways_in_order() {
    let (listener, mut leader) = listen(listener_config(21301)).await;
    let (learner_link, mut learner) = link(21301);
    assert!(matches!(next(&mut learner).await, LeaderEvent::Connected { .. }));
    learner_link.send(introduction());
    let id = connected(&mut leader).await;
    assert!(matches!(next(&mut leader).await, LearnerEvent::Packets { link, .. } if link == id));
    for n in 0..1000 {
        listener.send(id, [ping(2 * n), ping(2 * n + 1)].concat());
    }
    assert_eq!(zxids(&mut learner, 2000).await, (0..2000).collect::<Vec<_>>());
    learner_link.send(ping(5));
    match next(&mut leader).await {
        LearnerEvent::Packets { packets, .. } => assert_eq!(packets[0].zxid, Zxid(5)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_snapshot_arrives_whole_and_packets_behind_it_wait() {
    let (listener, mut leader) = listen(listener_config(21302)).await;
    let (learner_link, mut learner) = link(21302);
    next(&mut learner).await;
    learner_link.send(introduction());
    let id = connected(&mut leader).await;
    listener.send(id, Packet::bare(PacketKind::Snap, Zxid(70)).to_bytes());
    listener.send_snapshot(id, Box::new(body(5000)));
    listener.send(id, ping(71));
    assert_eq!(zxids(&mut learner, 1).await, [70]);
    let counts = loop {
        match next(&mut learner).await {
            LeaderEvent::SnapshotProgress => {}
            LeaderEvent::SnapshotReceived(counts) => break counts,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((counts.sessions, counts.acls, counts.nodes), (1, 1, 5000));
    assert_eq!(counts.bytes, 4999 * 1000);
    assert_eq!(zxids(&mut learner, 1).await, [71]);
}

#[tokio::test]
async fn a_wrong_snapshot_ends_the_link_with_the_reason() {
    let (mut orphan, mut unsigned) = (Vec::new(), Vec::new());
    put_node(&mut orphan, "/orphan", None, OPEN_ACL_ID, &StatPersisted::default());
    put_nodes_end(&mut unsigned);
    unsigned.extend_from_slice(b"\0\0\0\x0aBenWasGone");
    let leader = TcpListener::bind("127.0.0.1:21303").await.unwrap();
    for (tail, reason) in [(&orphan, "no parent"), (&unsigned, "signature")] {
        let (_link, mut learner) = link(21303);
        let (mut stream, _) = leader.accept().await.unwrap();
        next(&mut learner).await;
        let mut bytes = Packet::bare(PacketKind::Snap, Zxid(1)).to_bytes();
        put_tables(&mut bytes, [].into_iter(), [].into_iter());
        bytes.extend_from_slice(tail);
        stream.write_all(&bytes).await.unwrap();
        assert_eq!(zxids(&mut learner, 1).await, [1]);
        match next(&mut learner).await {
            LeaderEvent::Closed { reason: told } => assert!(told.contains(reason), "{told}"),
            other => panic!("{other:?}"),
        }
        assert!(ends(&mut stream).await);
        assert!(learner.recv().await.is_none(), "the end is reported once");
    }
}

#[tokio::test]
async fn a_refusing_leader_is_tried_again_for_half_a_second() {
    let start = Instant::now();
    let (_link, mut learner) = link(21304);
    assert!(matches!(next(&mut learner).await, LeaderEvent::Closed { .. }));
    let took = start.elapsed();
    assert!(Duration::from_millis(350) < took && took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_leader_that_opens_its_port_late_is_reached() {
    let (_link, mut learner) = link(21305);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _leader = TcpListener::bind("127.0.0.1:21305").await.unwrap();
    assert!(matches!(next(&mut learner).await, LeaderEvent::Connected { .. }));
}

#[tokio::test]
async fn the_end_of_a_link_is_noticed_at_once_on_both_sides() {
    let (listener, mut leader) = listen(listener_config(21306)).await;
    let (first, mut learner) = link(21306);
    next(&mut learner).await;
    first.send(introduction());
    let id = connected(&mut leader).await;
    next(&mut leader).await;
    listener.close(id, "a test");
    assert!(matches!(next(&mut learner).await, LeaderEvent::Closed { .. }));

    let (second, mut learner) = link(21306);
    next(&mut learner).await;
    second.send(introduction());
    let newer = connected(&mut leader).await;
    assert!(newer > id, "and no event of the closed link came");
    next(&mut leader).await;
    second.close();
    assert!(matches!(next(&mut leader).await, LearnerEvent::Closed { link, .. } if link == newer));
    assert!(learner.recv().await.is_none(), "a close asked for is not reported");
}

#[tokio::test]
async fn a_learner_that_never_reads_is_cut_off() {
    let mut config = listener_config(21307);
    config.limits.queue = 1 << 20;
    let (listener, mut leader) = listen(config).await;
    let mut learner = TcpStream::connect("127.0.0.1:21307").await.unwrap();
    learner.write_all(&introduction()).await.unwrap();
    let id = connected(&mut leader).await;
    next(&mut leader).await;
    for _ in 0..200 {
        listener.send(id, vec![0; 100_000]);
    }
    match next(&mut leader).await {
        LearnerEvent::Closed { link, reason } => {
            assert_eq!(link, id);
            assert!(reason.contains("does not read"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn strangers_and_garbage_never_become_links() {
    let (_listener, mut leader) = listen(listener_config(21308)).await;
    let first_packets: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\n\r\n\r\n\r\n\r\n",
        &[0x16, 3, 1, 0, 5],
        &[0x5F, 0x24, 0x35, 0x01, 0x35, 0x01, 0xED, 0xCC, 0, 0, 0, 0, 0, 0, 0, 0],
        &ping(1),
        &[],
    ];
    for bytes in first_packets {
        let mut stream = TcpStream::connect("127.0.0.1:21308").await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert!(ends(&mut stream).await, "{bytes:?}");
    }
    assert!(leader.try_recv().is_err());
}

#[tokio::test]
async fn a_link_that_turns_to_garbage_ends() {
    let (_listener, mut leader) = listen(listener_config(21309)).await;
    let mut learner = TcpStream::connect("127.0.0.1:21309").await.unwrap();
    learner.write_all(&introduction()).await.unwrap();
    connected(&mut leader).await;
    next(&mut leader).await;
    let mut oversized = ping(1);
    oversized[12..16].copy_from_slice(&(2i32 << 20).to_be_bytes());
    learner.write_all(&oversized).await.unwrap();
    assert!(matches!(next(&mut leader).await, LearnerEvent::Closed { .. }));
    assert!(ends(&mut learner).await);
}

#[tokio::test]
async fn silent_connections_cannot_keep_a_learner_out() {
    let mut config = listener_config(21310);
    config.first_packet_timeout = Duration::from_secs(60);
    let (_listener, mut leader) = listen(config).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect("127.0.0.1:21310").await.unwrap());
    }
    let mut learner = TcpStream::connect("127.0.0.1:21310").await.unwrap();
    learner.write_all(&introduction()).await.unwrap();
    connected(&mut leader).await;
    assert!(ends(&mut silent[0]).await);
}

#[tokio::test]
async fn after_shutdown_a_new_listener_can_take_the_port() {
    let (old, mut leader) = listen(listener_config(21311)).await;
    let mut learner = TcpStream::connect("127.0.0.1:21311").await.unwrap();
    learner.write_all(&introduction()).await.unwrap();
    connected(&mut leader).await;
    old.shutdown();
    assert!(ends(&mut learner).await);
    let (_new, _leader) = listen(listener_config(21311)).await;
}

#[tokio::test]
async fn a_port_that_stays_busy_is_told() {
    let _held = std::net::TcpListener::bind("127.0.0.1:21312").unwrap();
    let (sender, mut inbox) = unbounded_channel();
    let events = move |event| drop(sender.send(event));
    let _listener = LearnerListener::start(&Handle::current(), listener_config(21312), events);
    match next(&mut inbox).await {
        LearnerEvent::ListenFailed(error) => assert!(error.to_string().contains("21312")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sending_works_from_threads_outside_the_runtime() {
    let (listener, mut leader) = listen(listener_config(21313)).await;
    let (learner_link, mut learner) = link(21313);
    next(&mut learner).await;
    learner_link.send(introduction());
    let id = connected(&mut leader).await;
    let listener = Arc::new(listener);
    let sender = listener.clone();
    let thread = std::thread::spawn(move || {
        for n in 0..20_000 {
            sender.send(id, ping(n));
        }
    });
    assert_eq!(zxids(&mut learner, 20_000).await, (0..20_000).collect::<Vec<_>>());
    thread.join().unwrap();
}

#[tokio::test]
async fn of_several_addresses_those_that_are_no_good_keep_no_learner_away() {
    let taken = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let busy = taken.local_addr().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let named = |host: &str, port| HostPort { host: host.to_owned(), port };
    let addresses = vec![
        named("127.0.0.2", busy.port()),
        named("no-such-host.invalid", free.port()),
        named("127.0.0.1", free.port()),
    ];
    let config = ListenerConfig { addresses: addresses.clone(), ..listener_config(0) };
    let started = Instant::now();
    let (_listener, mut leader) = listen(config).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let (_link, mut learner) = link_to_any(addresses[1..].to_vec(), None);
    assert!(matches!(next(&mut learner).await, LeaderEvent::Connected { .. }));
    // The one that was taken is opened when it is free.
    drop(taken);
    let limit = Instant::now() + Duration::from_secs(8);
    let mut stream = loop {
        match TcpStream::connect(busy).await {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < limit, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    stream.write_all(&introduction()).await.unwrap();
    connected(&mut leader).await;
}

/// Its name may be unknown to the DNS for some seconds after it was first asked for.
#[tokio::test]
async fn a_leader_whose_name_does_not_resolve_is_reached_where_it_was_met() {
    let _leader = TcpListener::bind("127.0.0.1:21320").await.unwrap();
    let name = HostPort { host: "no-such-host.invalid".to_owned(), port: 21320 };
    let (_link, mut learner) = link_to(name, Some(IpAddr::from([127, 0, 0, 1])));
    let LeaderEvent::Connected { address } = next(&mut learner).await else { panic!() };
    assert_eq!(address.to_string(), "127.0.0.1:21320");
}
