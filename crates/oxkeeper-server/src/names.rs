//! Host names: resolved anew at every use, never cached, in bounded time.
//!
//! Members of an ensemble move (containers get new addresses under the same name), so nothing here
//! remembers an address. `/etc/hosts` comes first, then the DNS servers of `/etc/resolv.conf` with its
//! search domains and `ndots`; both files are read at each use. The C library is not asked: a static
//! binary has no NSS. Source: `docs/spec/quorum-protocol.md` 5.2, 9.2, `docs/spec/kubernetes.md` 7.3.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use hickory_resolver::system_conf::parse_resolv_conf;
use oxkeeper_proto::ensemble::HostPort;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A second address of one name is tried this long after the first, unless that one has failed.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Limit of resolving one name.
const LIMIT: Duration = Duration::from_secs(5);
/// A DNS server that is silent for this long is asked again, or the next one is, so that one lost
/// packet does not use up [`LIMIT`].
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// Once there are addresses of one family, those of the other get this long.
const OTHER_FAMILY: Duration = Duration::from_millis(250);

/// Where names are looked up.
#[derive(Clone, Copy)]
struct Files<'a> {
    hosts: &'a Path,
    resolv_conf: &'a Path,
}

fn system() -> Files<'static> {
    Files { hosts: Path::new("/etc/hosts"), resolv_conf: Path::new("/etc/resolv.conf") }
}

/// The socket addresses of `address` right now, without repetitions, IPv4 first unless `/etc/hosts`
/// has another order. Takes 5 s at most.
pub async fn resolve(address: &HostPort) -> io::Result<Vec<SocketAddr>> {
    resolve_with(address, system(), LIMIT).await
}

/// As [`resolve`], on the caller's thread, which may belong to a runtime or not.
pub fn resolve_blocking(address: &HostPort) -> io::Result<Vec<SocketAddr>> {
    if let Some(found) = without_dns(&address.host, system().hosts) {
        return Ok(sockets(found, address.port));
    }
    // A thread of a runtime must not run another one.
    let resolve = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = runtime.block_on(resolve(address));
        runtime.shutdown_background();
        result
    };
    std::thread::scope(|scope| match scope.spawn(resolve).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

async fn resolve_with(
    address: &HostPort,
    files: Files<'_>,
    limit: Duration,
) -> io::Result<Vec<SocketAddr>> {
    let found = match without_dns(&address.host, files.hosts) {
        Some(found) => found,
        None => timeout(limit, ask(&address.host, files.resolv_conf))
            .await
            .unwrap_or_else(|_| {
                let servers = servers(files.resolv_conf);
                let text = format!("no answer from the DNS servers {servers} in {limit:?}");
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            })
            .map_err(|error| unresolved(&address.host, &error))?,
    };
    Ok(sockets(found, address.port))
}

fn unresolved(host: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the name {host} does not resolve: {error}"))
}

fn sockets(found: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    let mut unique = Vec::new();
    for ip in found {
        let socket = SocketAddr::new(ip, port);
        if !unique.contains(&socket) {
            unique.push(socket);
        }
    }
    unique
}

/// Addresses that need no question: an address itself, a name in the hosts file, `localhost`.
fn without_dns(host: &str, hosts: &Path) -> Option<Vec<IpAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(vec![ip]);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    // Without the file there are no names in it.
    let listed = in_hosts(name, &std::fs::read(hosts).unwrap_or_default());
    if !listed.is_empty() {
        return Some(listed);
    }
    let name = name.to_ascii_lowercase();
    (name == "localhost" || name.ends_with(".localhost"))
        .then(|| vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()])
}

/// The addresses in front of `name` in the text of a hosts file.
fn in_hosts(name: &str, text: &[u8]) -> Vec<IpAddr> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.push(ip);
        }
    }
    found
}

/// Asks the DNS servers for addresses of both families at once.
async fn ask(host: &str, resolv_conf: &Path) -> io::Result<Vec<IpAddr>> {
    let file = resolv_conf.display();
    let text = std::fs::read(resolv_conf).map_err(|error| {
        io::Error::new(error.kind(), format!("it is in no hosts file, and {file}: {error}"))
    })?;
    let (config, mut options) = parse_resolv_conf(&text).map_err(|error| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("it is in no hosts file, and {file}: {error}"),
        )
    })?;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = options.timeout.min(ASK_AGAIN_AFTER);
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(io::Error::other)?;
    let (v4, v6) =
        (query(&resolver, host, RecordType::A), query(&resolver, host, RecordType::AAAA));
    tokio::pin!(v4, v6);
    let (first, v4_first) = tokio::select! {
        found = &mut v4 => (found, true),
        found = &mut v6 => (found, false),
    };
    let first_ok = first.as_ref().is_ok_and(|found| !found.is_empty());
    let other = async { if v4_first { v6.await } else { v4.await } };
    let second = match first_ok {
        true => timeout(OTHER_FAMILY, other).await.unwrap_or_else(|_| Ok(Vec::new())),
        false => other.await,
    };
    let (v4, v6) = if v4_first { (first, second) } else { (second, first) };
    match (v4, v6) {
        (Err(error), Err(_)) => Err(why(&error)),
        (Ok(found), Err(error)) | (Err(error), Ok(found)) if found.is_empty() => Err(why(&error)),
        (v4, v6) => {
            let found: Vec<_> = [v4, v6].into_iter().flatten().flatten().collect();
            match found.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "it has no address")),
                false => Ok(found),
            }
        }
    }
}

async fn query(
    resolver: &TokioResolver,
    host: &str,
    kind: RecordType,
) -> Result<Vec<IpAddr>, NetError> {
    let lookup = resolver.lookup(host, kind).await?;
    Ok(lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect())
}

fn why(error: &NetError) -> io::Error {
    if error.is_no_records_found() {
        let text = match error.is_nx_domain() {
            true => "there is no such name",
            false => "it has no address",
        };
        return io::Error::new(io::ErrorKind::NotFound, text);
    }
    let kind = match error {
        NetError::Timeout => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("the DNS server does not help: {error}"))
}

/// The DNS servers, for a message.
fn servers(resolv_conf: &Path) -> String {
    let text = std::fs::read(resolv_conf).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.map(str::trim).collect::<Vec<_>>().join(", ")
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

    /// A DNS server on loopback, and files that name it. The search domain is `svc.test`.
    struct Dns {
        dir: tempfile::TempDir,
    }

    impl Dns {
        /// Resolver files always name port 53, so the server's port is put in by the test's own
        /// address: 127.0.0.x, where x is free for each test.
        fn files(&self) -> (std::path::PathBuf, std::path::PathBuf) {
            (self.dir.path().join("hosts"), self.dir.path().join("resolv.conf"))
        }

        fn new(hosts: &str, resolv_conf: &str) -> Dns {
            let dns = Dns { dir: tempfile::tempdir().unwrap() };
            let (hosts_file, resolv_file) = dns.files();
            std::fs::write(hosts_file, hosts).unwrap();
            std::fs::write(resolv_file, resolv_conf).unwrap();
            dns
        }

        async fn resolve(&self, host: &str, limit: Duration) -> io::Result<Vec<SocketAddr>> {
            let (hosts, resolv_conf) = self.files();
            let files = Files { hosts: &hosts, resolv_conf: &resolv_conf };
            resolve_with(&at(host, 9), files, limit).await
        }
    }

    #[tokio::test]
    async fn a_name_in_the_hosts_file_needs_no_dns() {
        let dns = Dns::new("# x\n10.1.2.3 zk-0.zk-hs.test ZK-0 # zk-1\nfd00::3\tzk-0\n", "");
        let found = dns.resolve("zk-0", LIMIT).await.unwrap();
        assert_eq!(found, ["10.1.2.3:9".parse().unwrap(), "[fd00::3]:9".parse().unwrap()]);
        assert_eq!(dns.resolve("zk-0.zk-hs.test.", LIMIT).await.unwrap().len(), 1);
        let error = dns.resolve("zk-1", LIMIT).await.unwrap_err().to_string();
        assert!(error.contains("the name zk-1 does not resolve"), "{error}");
    }

    #[tokio::test]
    async fn localhost_resolves_without_any_file() {
        let files = Files { hosts: Path::new("/nowhere"), resolv_conf: Path::new("/nowhere") };
        let found = resolve_with(&at("localhost", 9), files, LIMIT).await.unwrap();
        assert_eq!(found, ["127.0.0.1:9".parse().unwrap(), "[::1]:9".parse().unwrap()]);
        let error = resolve_with(&at("elsewhere", 9), files, LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }

    /// Answers questions for `svc.test` on 127.0.0.53-like addresses at port 53, if this machine lets
    /// the test open that port.
    fn answer(ip: &str, names: &'static [(&'static str, [u8; 4])]) -> bool {
        let Ok(socket) = std::net::UdpSocket::bind((ip, 53)) else { return false };
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((len, from)) = socket.recv_from(&mut packet) {
                let (mut at, mut name) = (12, String::new());
                while packet[at] != 0 {
                    let label = &packet[at + 1..=at + usize::from(packet[at])];
                    name.push_str(&String::from_utf8_lossy(label).to_ascii_lowercase());
                    name.push('.');
                    at += 1 + label.len();
                }
                let (kind, end) = (packet[at + 2], at + 5);
                assert!(end <= len);
                let known = names.iter().find(|(known, _)| *known == name);
                let hit = known.filter(|_| kind == 1);
                let mut reply = packet[..2].to_vec();
                // A response, recursion available; NXDOMAIN if the name is not known.
                reply.extend([0x81, if known.is_some() { 0x80 } else { 0x83 }, 0, 1, 0]);
                reply.extend([u8::from(hit.is_some()), 0, 0, 0, 0]);
                reply.extend(&packet[12..end]);
                if let Some((_, ip)) = hit {
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4]);
                    reply.extend(ip);
                }
                let _ = socket.send_to(&reply, from);
            }
        });
        true
    }

    #[tokio::test]
    async fn search_domains_are_tried_and_a_name_that_is_nowhere_is_told_at_once() {
        if !answer("127.0.0.77", &[("zk-1.svc.test.", [10, 0, 0, 7])]) {
            eprintln!("port 53 is not ours: not tested here");
            return;
        }
        let dns =
            Dns::new("", "nameserver 127.0.0.77\nsearch other.test svc.test\noptions ndots:5\n");
        let start = std::time::Instant::now();
        let found = dns.resolve("zk-1", LIMIT).await.unwrap();
        assert_eq!(found, ["10.0.0.7:9".parse().unwrap()]);
        assert_eq!(dns.resolve("zk-1.svc.test.", LIMIT).await.unwrap().len(), 1);
        let error = dns.resolve("zk-2", LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        assert!(error.to_string().contains("zk-2"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        // The file is read at each use.
        std::fs::write(dns.files().1, "nameserver 127.0.0.77\n").unwrap();
        assert!(dns.resolve("zk-1", LIMIT).await.is_err());
    }

    #[tokio::test]
    async fn a_silent_dns_server_is_told_within_the_limit() {
        // Holds the port and says nothing; where port 53 is not ours the refusal is told instead.
        let _silent = std::net::UdpSocket::bind("127.0.0.78:53");
        let dns = Dns::new("", "nameserver 127.0.0.78\n");
        let start = std::time::Instant::now();
        let error = dns.resolve("zk-1.svc.test", Duration::from_millis(500)).await.unwrap_err();
        assert!(error.to_string().contains("zk-1.svc.test"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn blocking_resolution_works_on_a_thread_of_a_runtime() {
        assert!(!resolve_blocking(&at("localhost", 1)).unwrap().is_empty());
        let error = resolve_blocking(&at("no-such-host.invalid", 1)).unwrap_err();
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
