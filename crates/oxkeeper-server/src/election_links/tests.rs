use super::*;
use oxkeeper_proto::Zxid;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

type Inbox = UnboundedReceiver<ElectionEvent>;

/// Members 1..=n at election ports `base + id`.
fn ensemble(base: u16, n: u16) -> EnsembleConfig {
    let lines =
        (1..=n).map(|id| format!("server.{id}=127.0.0.1:{}:{}", base + 100 + id, base + id));
    EnsembleConfig::parse(&lines.collect::<Vec<_>>().join("\n")).unwrap()
}

fn config(me: ServerId, ensemble: EnsembleConfig) -> ElectionConfig {
    ElectionConfig {
        me,
        ensemble,
        listen_on_all: false,
        multi_address: false,
        connect_timeout: Duration::from_secs(5),
        handshake_timeout: Duration::from_millis(500),
        bind_retries: 1,
        keepalive: false,
    }
}

async fn start(config: ElectionConfig) -> (ElectionLinks, Inbox) {
    let (sender, inbox) = mpsc::unbounded_channel();
    let links = ElectionLinks::start(config, move |event| drop(sender.send(event))).await.unwrap();
    (links, inbox)
}

fn vote(round: i64) -> Notification {
    Notification {
        state: 0,
        leader: 1,
        zxid: Zxid(0),
        election_epoch: round,
        peer_epoch: 0,
        version: 2,
        config: Some(Bytes::from_static(b"version=0")),
    }
}

/// The next event, which must come soon.
async fn next(inbox: &mut Inbox) -> ElectionEvent {
    timeout(Duration::from_secs(5), inbox.recv()).await.expect("an event").expect("running")
}

/// Waits for a notification and returns (sender, round).
async fn notified(inbox: &mut Inbox) -> (ServerId, i64) {
    loop {
        if let ElectionEvent::Notified { from, notification } = next(inbox).await {
            return (from, notification.election_epoch);
        }
    }
}

async fn link_event(inbox: &mut Inbox) -> (ServerId, bool) {
    loop {
        if let ElectionEvent::Link { peer, up } = next(inbox).await {
            return (peer, up);
        }
    }
}

async fn read_introduction(stream: &mut TcpStream) -> InitialMessage {
    let mut buf = [0; 512];
    let n = timeout(Duration::from_secs(5), stream.read(&mut buf)).await.unwrap().unwrap();
    InitialMessage::decode(&buf[..n]).unwrap().unwrap().0
}

async fn ends(stream: &mut TcpStream) -> bool {
    let mut buf = [0; 64];
    matches!(timeout(Duration::from_secs(5), stream.read(&mut buf)).await, Ok(Ok(0)) | Ok(Err(_)))
}

fn introduction(server: ServerId, addresses: &str) -> Vec<u8> {
    InitialMessage { protocol: InitialMessage::V1, server, addresses: addresses.into() }.to_bytes()
}

#[tokio::test]
async fn both_ends_talk_whoever_sends_first() {
    let members = ensemble(21100, 2);
    let (one, mut inbox1) = start(config(1, members.clone())).await;
    let (two, mut inbox2) = start(config(2, members)).await;
    one.send(2, vote(7));
    assert_eq!(notified(&mut inbox2).await, (1, 7));
    two.send(1, vote(8));
    assert_eq!(notified(&mut inbox1).await, (2, 8));
}

#[tokio::test]
async fn a_waiting_message_arrives_soon_after_the_port_opens() {
    for (base, first, second) in [(21110, 1, 2), (21120, 2, 1)] {
        let members = ensemble(base, 2);
        let (early, _inbox) = start(config(first, members.clone())).await;
        early.send(second, vote(1));
        sleep(Duration::from_millis(700)).await;
        let (_late, mut inbox) = start(config(second, members)).await;
        let opened = Instant::now();
        assert_eq!(notified(&mut inbox).await, (first, 1));
        let took = opened.elapsed();
        assert!(took < Duration::from_millis(250), "{first} reached {second} after {took:?}");
    }
}

#[tokio::test]
async fn a_message_to_oneself_comes_back() {
    let (links, mut inbox) = start(config(1, ensemble(21130, 2))).await;
    links.send(1, vote(3));
    assert_eq!(notified(&mut inbox).await, (1, 3));
}

#[tokio::test]
async fn the_smaller_id_knocks_and_closes() {
    let members = ensemble(21140, 2);
    let peer = TcpListener::bind("127.0.0.1:21142").await.unwrap();
    let (links, _inbox) = start(config(1, members)).await;
    links.connect_all();
    let (mut stream, _) = timeout(Duration::from_secs(5), peer.accept()).await.unwrap().unwrap();
    let message = read_introduction(&mut stream).await;
    assert_eq!((message.protocol, message.server), (InitialMessage::V1, 1));
    assert_eq!(message.addresses, "127.0.0.1:21141");
    assert!(ends(&mut stream).await, "the connection of the smaller id is not kept");
}

#[tokio::test]
async fn a_knock_drops_the_old_connection_and_is_answered_by_a_call() {
    let members = ensemble(21150, 2);
    let peer = TcpListener::bind("127.0.0.1:21151").await.unwrap();
    let (links, mut inbox) = start(config(2, members)).await;
    links.connect_all();
    let (mut old, _) = timeout(Duration::from_secs(5), peer.accept()).await.unwrap().unwrap();
    read_introduction(&mut old).await;
    assert_eq!(link_event(&mut inbox).await, (1, true));
    let mut knock = TcpStream::connect("127.0.0.1:21152").await.unwrap();
    knock.write_all(&introduction(1, "127.0.0.1:21151")).await.unwrap();
    let (mut new, _) = timeout(Duration::from_secs(5), peer.accept()).await.unwrap().unwrap();
    assert_eq!(read_introduction(&mut new).await.server, 2);
    assert!(ends(&mut old).await && ends(&mut knock).await);
    assert_eq!(link_event(&mut inbox).await, (1, false));
    assert_eq!(link_event(&mut inbox).await, (1, true));
}

#[tokio::test]
async fn the_last_message_is_sent_again_on_a_new_connection_and_older_ones_are_not() {
    let (links, mut inbox) = start(config(1, ensemble(21160, 2))).await;
    for round in 1..=50 {
        links.send(2, vote(round));
    }
    for _ in 0..2 {
        let mut peer = TcpStream::connect("127.0.0.1:21161").await.unwrap();
        peer.write_all(&introduction(2, "127.0.0.1:21162")).await.unwrap();
        assert_eq!(link_event(&mut inbox).await, (2, true));
        let len = timeout(Duration::from_secs(5), peer.read_u32()).await.unwrap().unwrap();
        let mut frame = vec![0; len as usize];
        peer.read_exact(&mut frame).await.unwrap();
        assert_eq!(Notification::decode(&frame).unwrap(), vote(50));
        drop(peer);
        assert_eq!(link_event(&mut inbox).await, (2, false));
    }
}

#[tokio::test]
async fn a_connection_with_an_oversized_frame_is_closed_and_others_live() {
    let (links, mut inbox) = start(config(1, ensemble(21170, 3))).await;
    let mut good = TcpStream::connect("127.0.0.1:21171").await.unwrap();
    good.write_all(&introduction(3, "127.0.0.1:21173")).await.unwrap();
    assert_eq!(link_event(&mut inbox).await, (3, true));
    for length in [0u32, 524_289, u32::MAX] {
        let mut bad = TcpStream::connect("127.0.0.1:21171").await.unwrap();
        bad.write_all(&introduction(2, "127.0.0.1:21172")).await.unwrap();
        bad.write_all(&length.to_be_bytes()).await.unwrap();
        assert_eq!(link_event(&mut inbox).await, (2, true));
        assert_eq!(link_event(&mut inbox).await, (2, false));
        assert!(ends(&mut bad).await);
    }
    links.send(3, vote(9));
    assert_eq!(good.read_u32().await.unwrap() as usize, vote(9).to_bytes().len());
}

#[tokio::test]
async fn garbage_and_silence_are_closed() {
    let (_links, mut inbox) = start(config(1, ensemble(21180, 2))).await;
    let mut garbage = TcpStream::connect("127.0.0.1:21181").await.unwrap();
    garbage.write_all(&[0xff; 64]).await.unwrap();
    assert!(ends(&mut garbage).await);
    let mut silent = TcpStream::connect("127.0.0.1:21181").await.unwrap();
    assert!(ends(&mut silent).await, "the handshake has a time limit");
    let mut own_id = TcpStream::connect("127.0.0.1:21181").await.unwrap();
    own_id.write_all(&introduction(1, "127.0.0.1:21181")).await.unwrap();
    assert!(ends(&mut own_id).await);
    assert!(inbox.try_recv().is_err());
}

#[tokio::test]
async fn silent_connections_cannot_keep_a_peer_out() {
    let mut config = config(1, ensemble(21190, 2));
    config.handshake_timeout = Duration::from_secs(60);
    let (_links, mut inbox) = start(config).await;
    let mut silent = Vec::new();
    for _ in 0..3 * MAX_HANDSHAKES {
        silent.push(TcpStream::connect("127.0.0.1:21191").await.unwrap());
    }
    let mut peer = TcpStream::connect("127.0.0.1:21191").await.unwrap();
    peer.write_all(&introduction(2, "127.0.0.1:21192")).await.unwrap();
    assert_eq!(link_event(&mut inbox).await, (2, true));
    assert!(ends(&mut silent[0]).await, "the oldest silent connection was given up");
}

#[tokio::test]
async fn a_busy_port_ends_the_start_with_exit_code_14() {
    let _held = std::net::TcpListener::bind("127.0.0.1:21201").unwrap();
    let error = ElectionLinks::start(config(1, ensemble(21200, 2)), |_| ()).await.err().unwrap();
    assert_eq!(error.exit_code(), 14);
    assert!(error.to_string().contains("127.0.0.1:21201"), "{error}");
}

#[tokio::test]
async fn a_stranger_is_heard_and_answered_and_forgotten() {
    let (links, mut inbox) = start(config(1, ensemble(21210, 2))).await;
    let mut stranger = TcpStream::connect("127.0.0.1:21211").await.unwrap();
    stranger.write_all(&introduction(9, "127.0.0.1:21219")).await.unwrap();
    assert_eq!(link_event(&mut inbox).await, (9, true));
    links.send(9, vote(4));
    assert_eq!(stranger.read_u32().await.unwrap() as usize, vote(4).to_bytes().len());
    // Only members are followed, and strangers may be many.
    assert_eq!(links.met_at(9), None);
    drop(stranger);
    assert_eq!(link_event(&mut inbox).await, (9, false));
}

#[tokio::test]
async fn after_shutdown_the_port_is_free_and_links_are_closed() {
    let members = ensemble(21220, 2);
    let (one, _inbox1) = start(config(1, members.clone())).await;
    let (two, mut inbox2) = start(config(2, members.clone())).await;
    two.send(1, vote(1));
    assert_eq!(link_event(&mut inbox2).await, (1, true));
    one.shutdown();
    assert_eq!(link_event(&mut inbox2).await, (1, false));
    let mut again = config(1, members);
    again.bind_retries = 5;
    let seen = Arc::new(Mutex::new(0));
    let counter = seen.clone();
    let count = move |_| *counter.lock().unwrap() += 1;
    let _again = ElectionLinks::start(again, count).await.unwrap();
    two.send(1, vote(2));
    assert_eq!(link_event(&mut inbox2).await, (1, true));
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Keeps a port from being opened, and refuses connections to it.
fn taken(ip: &str) -> (socket2::Socket, u16) {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ip.parse().unwrap(), 0).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

#[tokio::test]
async fn of_several_addresses_those_that_are_no_good_keep_nobody_away() {
    let (one, two) = (free_port(), free_port());
    let (taken, busy) = taken("127.0.0.2");
    let members = EnsembleConfig::parse(&format!(
        "server.1=127.0.0.2:1:{busy}|127.0.0.1:1:{one}|no-such-host.invalid:1:{one}\n\
         server.2=no-such-host.invalid:1:{two}|127.0.0.1:1:{two}|[::1%nosuch]:1:{two}"
    ))
    .unwrap();
    let (one, mut inbox1) = start(config(1, members.clone())).await;
    let (two, mut inbox2) = start(config(2, members)).await;
    one.send(2, vote(7));
    assert_eq!(notified(&mut inbox2).await, (1, 7));
    two.send(1, vote(8));
    assert_eq!(notified(&mut inbox1).await, (2, 8));
    // The one that was taken is opened when it is free.
    drop(taken);
    let limit = Instant::now() + Duration::from_secs(8);
    while TcpStream::connect(("127.0.0.2", busy)).await.is_err() {
        assert!(Instant::now() < limit, "the address stays closed");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_server_none_of_whose_addresses_can_be_opened_does_not_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap().port();
    let line = format!("server.1=127.0.0.1:1:{busy}|no-such-host.invalid:1:2");
    let config = config(1, EnsembleConfig::parse(&line).unwrap());
    let Err(error) = ElectionLinks::start(config, |_| {}).await else { panic!("started") };
    assert_eq!(error.exit_code(), 14);
    let text = error.to_string();
    assert!(text.contains(&format!("cannot open the election port 127.0.0.1:{busy}")), "{text}");
}
