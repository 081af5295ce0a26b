//! The start of an election connection: the side that connected says who it is.

use std::io;
use std::net::SocketAddr;

use oxkeeper_proto::ServerId;
use oxkeeper_proto::ensemble::HostPort;
use oxkeeper_proto::quorum::InitialMessage;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::{ElectionConfig, Outcome};
use crate::names;

/// Longest initial message, in bytes.
const MAX_MESSAGE: usize = 8 + 8 + 4 + InitialMessage::MAX_ADDRESSES;

/// An inbound connection that has said who it is.
pub(super) struct Greeting {
    pub(super) stream: TcpStream,
    pub(super) from: SocketAddr,
    pub(super) peer: ServerId,
    /// Its election addresses, without wildcards.
    pub(super) announced: Vec<HostPort>,
    /// Bytes behind the initial message that came along.
    pub(super) rest: Vec<u8>,
}

/// Connects to a peer and sends our initial message. Resolves names anew.
pub(super) async fn call(
    config: &ElectionConfig,
    peer: ServerId,
    addresses: &[HostPort],
    introduction: &[u8],
) -> io::Result<Outcome> {
    let mut stream = names::connect_any(addresses, config.connect_timeout).await?;
    set_options(&stream, config);
    // 2 KiB at most: the socket's buffer takes it.
    stream.write_all(introduction).await?;
    if peer < config.me {
        return Ok(Outcome::Linked(stream));
    }
    stream.shutdown().await?;
    Ok(Outcome::Knocked)
}

/// Reads the initial message. `None`: the connection was closed and, unless it is of no interest,
/// reported.
pub(super) async fn receive(
    mut stream: TcpStream,
    from: SocketAddr,
    config: &ElectionConfig,
) -> Option<Greeting> {
    set_options(&stream, config);
    let limit = config.handshake_timeout;
    match timeout(limit, read_message(&mut stream)).await {
        Ok(Ok(Some((message, rest)))) => {
            let announced = message.addresses.split('|').filter_map(names::parse_host_port);
            let announced = announced.filter(|a| !names::is_wildcard(&a.host)).collect();
            Some(Greeting { stream, from, peer: message.server, announced, rest })
        }
        Ok(Ok(None)) => {
            debug!("{from} closed its election connection before saying who it is");
            None
        }
        Ok(Err(reason)) => {
            warn!("election connection from {from} closed: {reason}");
            None
        }
        Err(_) => {
            warn!("election connection from {from} closed: silent for {limit:?}");
            None
        }
    }
}

async fn read_message(stream: &mut TcpStream) -> Result<Option<(InitialMessage, Vec<u8>)>, String> {
    let mut buf = Vec::with_capacity(64);
    loop {
        match InitialMessage::decode(&buf) {
            Ok(Some((message, len))) => return Ok(Some((message, buf.split_off(len)))),
            Ok(None) if buf.len() >= MAX_MESSAGE => return Err("no end of its message".into()),
            Ok(None) => {}
            Err(_) if buf.starts_with(&[0x16, 3]) => {
                return Err("it speaks TLS (sslQuorum), which this server does not".into());
            }
            Err(error) => return Err(format!("this is no ZooKeeper server: {error}")),
        }
        if stream.read_buf(&mut buf).await.map_err(|error| error.to_string())? == 0 {
            return Ok(None);
        }
    }
}

fn set_options(stream: &TcpStream, config: &ElectionConfig) {
    // No option is needed for correctness; a socket that refuses them is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_keepalive(config.keepalive);
    // A peer whose machine is gone acknowledges nothing, and TCP alone would try for a quarter of an
    // hour.
    let _ = socket.set_tcp_user_timeout(Some(config.handshake_timeout));
}
