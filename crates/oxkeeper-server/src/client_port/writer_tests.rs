use std::io::Read;

use oxkeeper_proto::client::{ConnectRequest, put_frame};
use oxkeeper_proto::{Encode, Zxid};
use oxkeeper_replica::{ClientPortSettings, Now, Replica, ReplicaConfig};
use oxkeeper_state::State;

use super::*;

/// A client whose handshake is answered; the answer is its output.
fn client_with_output() -> Arc<Client> {
    let settings = ClientPortSettings {
        server: 1,
        tick_ms: 2000,
        min_session_timeout_ms: 4000,
        max_session_timeout_ms: 40_000,
        auth: Default::default(),
        limits: Default::default(),
    };
    let shared = Arc::new(Shared::new(State::new(1), settings, 1));
    let config = ReplicaConfig {
        prepare: Default::default(),
        reap_interval_ms: 60_000,
        reap_per_minute: 1,
        leader_serves: true,
        config_node: None,
    };
    let now = Now { mono_ms: 0, wall_ms: 0 };
    let mut replica = Replica::solo(shared.clone(), config, now, &mut Vec::new());
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let client = Arc::new(Client::new(1, peer, 0, Arc::new(Socket::default())));
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: 0,
        timeout_ms: 10_000,
        session: 0,
        password: Some(&[0; 16]),
        read_only: None,
    };
    let (mut bytes, mut inputs) = (Vec::new(), Vec::new());
    put_frame(&mut bytes, |out| request.encode(out));
    client.on_input(&shared, &bytes, 0, &mut inputs);
    inputs.push(Input::Zab(oxkeeper_zab::Input::Flushed(Zxid(1))));
    for input in inputs {
        replica.handle(now, input, &mut Vec::new());
    }
    replica.finish(now, &mut Vec::new());
    client
}

/// A connection's two ends.
async fn pair() -> (TcpStream, std::net::TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    far.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (listener.accept().await.unwrap().0, far)
}

#[tokio::test]
async fn what_came_while_the_socket_was_full_follows_what_was_left() {
    let (near, mut far) = pair().await;
    let (_read_half, half) = near.into_split();
    half.writable().await.unwrap();
    let client = client_with_output();
    let mut writer =
        Writer { half: Some(half), output: b"the rest".to_vec(), written: 4, closing: false };
    client.close();
    writer.write(&client).unwrap();
    assert!(writer.output.is_empty());
    assert!(writer.closing, "a connection that ends is closed behind its last byte");
    drop(writer);
    let mut received = Vec::new();
    far.read_to_end(&mut received).unwrap();
    assert_eq!(&received[..4], b"rest");
    assert_eq!(received.len(), 4 + 40, "the answer to the handshake follows");
}
