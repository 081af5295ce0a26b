//! Host names: resolved anew at every use, never cached, off the runtime's threads.
//!
//! Members of an ensemble move (containers get new addresses under the same name), so nothing here
//! remembers an address. Source: `docs/spec/quorum-protocol.md` 5.2, 9.2.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use oxkeeper_proto::ensemble::HostPort;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A second address of one name is tried this long after the first, unless that one has failed.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// The socket addresses of `address` right now, in the resolver's order, without repetitions.
pub async fn resolve(address: &HostPort) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let found = tokio::net::lookup_host((address.host.as_str(), address.port))
        .await
        .map_err(|error| unresolved(address, &error))?;
    non_empty(address, found)
}

/// As [`resolve`], on the caller's thread.
pub fn resolve_blocking(address: &HostPort) -> io::Result<Vec<SocketAddr>> {
    let found = (address.host.as_str(), address.port)
        .to_socket_addrs()
        .map_err(|error| unresolved(address, &error))?;
    non_empty(address, found)
}

fn unresolved(address: &HostPort, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the name {} does not resolve: {error}", address.host))
}

fn non_empty(
    address: &HostPort,
    found: impl Iterator<Item = SocketAddr>,
) -> io::Result<Vec<SocketAddr>> {
    let mut unique = Vec::new();
    for socket in found {
        if !unique.contains(&socket) {
            unique.push(socket);
        }
    }
    if unique.is_empty() {
        let text = format!("the name {} has no address", address.host);
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok(unique)
}

/// Reads `host:port`; an IPv6 host stands in brackets.
pub fn parse_host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| HostPort { host: host.to_owned(), port })
}

/// Is this host a wildcard, which nobody can connect to?
pub fn is_wildcard(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

/// Connects to whichever of `addresses` answers first; names are resolved here. All of them are
/// tried at once; the error is that of the last one to fail.
pub async fn connect_any(addresses: &[HostPort], limit: Duration) -> io::Result<TcpStream> {
    let attempt = async {
        let mut attempts = JoinSet::new();
        for address in addresses {
            let address = address.clone();
            attempts.spawn(async move { connect_one(&address).await });
        }
        first_success(&mut attempts).await
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {limit:?}"));
    timeout(limit, attempt).await.unwrap_or_else(|_| Err(late()))
}

async fn first_success(attempts: &mut JoinSet<io::Result<TcpStream>>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no address to connect to");
    while let Some(done) = attempts.join_next().await {
        match done {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(error) => last = io::Error::other(error),
        }
    }
    Err(last)
}

/// One name: its addresses in order, the next one as soon as the one before has failed or has been
/// silent for a while.
async fn connect_one(address: &HostPort) -> io::Result<TcpStream> {
    let mut left = resolve(address).await?.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address");
    loop {
        let next = left.next();
        let more = next.is_some();
        if let Some(socket) = next {
            attempts.spawn(connect_socket(socket));
        }
        tokio::select! {
            done = attempts.join_next() => match done {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = error,
                Some(Err(error)) => last = io::Error::other(error),
                None if !more => return Err(last),
                None => {}
            },
            () = sleep(NEXT_ADDRESS_AFTER), if more => {}
        }
    }
}

async fn connect_socket(socket: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(socket).await?;
    // Where nobody listens on a port of the ephemeral range, TCP can connect a socket to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> HostPort {
        HostPort { host: host.to_owned(), port }
    }

    #[tokio::test]
    async fn the_first_address_that_answers_wins() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dead = at("127.0.0.1", 1);
        let found = connect_any(&[dead, at("localhost", port)], Duration::from_secs(2)).await;
        assert_eq!(found.unwrap().peer_addr().unwrap().port(), port);
    }

    #[tokio::test]
    async fn a_refusal_is_told_at_once() {
        let start = std::time::Instant::now();
        let error = connect_any(&[at("127.0.0.1", 1)], Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(start.elapsed() < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_is_named() {
        let error = resolve(&at("no-such-host.invalid", 1)).await.unwrap_err();
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    }

    #[test]
    fn addresses_parse_with_and_without_brackets() {
        assert_eq!(parse_host_port("h1:3888"), Some(at("h1", 3888)));
        assert_eq!(parse_host_port("[::1]:3888"), Some(at("::1", 3888)));
        assert_eq!(parse_host_port("h1:x"), None);
        assert_eq!(parse_host_port(":1"), None);
    }

    #[test]
    fn wildcards_are_recognized_in_both_families() {
        assert!(is_wildcard("0.0.0.0") && is_wildcard("::"));
        assert!(!is_wildcard("127.0.0.1") && !is_wildcard("zk1"));
    }
}
