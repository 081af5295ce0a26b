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
use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::rr::{Label, Name, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use oxkeeper_proto::ensemble::HostPort;
use tokio::time::timeout;

mod dial;
mod literal;
#[cfg(test)]
mod tests;

pub use dial::connect_any;

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
    if let Some(found) = without_dns(address, system().hosts) {
        return found;
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
    if let Some(found) = without_dns(address, files.hosts) {
        return found;
    }
    let found = timeout(limit, ask(&address.host, files.resolv_conf))
        .await
        .unwrap_or_else(|_| {
            let servers = servers(files.resolv_conf);
            let text = format!("no answer from the DNS servers {servers} in {limit:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        })
        .map_err(|error| because(&error, format!("the name {} does not resolve", address.host)))?;
    Ok(unique(found.into_iter().map(|ip| SocketAddr::new(ip, address.port))))
}

fn because(error: &io::Error, what: String) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn unique(all: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut unique = Vec::new();
    for socket in all {
        if !unique.contains(&socket) {
            unique.push(socket);
        }
    }
    unique
}

/// Addresses that need no question: an address itself, a name in the hosts file, `localhost`.
fn without_dns(address: &HostPort, hosts: &Path) -> Option<io::Result<Vec<SocketAddr>>> {
    let HostPort { host, port } = address;
    if let Some(found) = literal::parse(host, *port) {
        let unusable = |error| because(&error, format!("the address {host} cannot be used"));
        return Some(found.map(|socket| vec![socket]).map_err(unusable));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    // Without the file there are no names in it.
    let listed = in_hosts(name, *port, &std::fs::read(hosts).unwrap_or_default());
    if !listed.is_empty() {
        return Some(Ok(unique(listed)));
    }
    let name = name.to_ascii_lowercase();
    (name == "localhost" || name.ends_with(".localhost")).then(|| {
        let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        Ok(both.map(|ip| SocketAddr::new(ip, *port)).to_vec())
    })
}

/// The addresses in front of `name` in the text of a hosts file.
fn in_hosts(name: &str, port: u16, text: &[u8]) -> Vec<SocketAddr> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let Some(ip) = words.next() else { continue };
        if words.any(|word| word.eq_ignore_ascii_case(name))
            && let Some(Ok(socket)) = literal::parse(ip, port)
        {
            found.push(socket);
        }
    }
    found
}

/// `host` as the DNS knows it. Letters beyond ASCII are written in punycode; underscores, which
/// container engines put into names, stay as they are.
fn dns_name(host: &str) -> io::Result<Name> {
    let relative = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| match label.is_ascii() {
        true => Label::from_ascii(label),
        false => Label::from_utf8(label),
    };
    let labels: Result<Vec<_>, _> = relative.split('.').map(label).collect();
    let wrong = |_: ProtoError| {
        let text =
            "it is no valid host name: between dots stand 1 to 63 letters, digits, '-' or '_'";
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    let mut name = labels.and_then(Name::from_labels).map_err(wrong)?;
    name.set_fqdn(relative.len() < host.len());
    Ok(name)
}

/// Asks the DNS servers for addresses of both families at once.
async fn ask(host: &str, resolv_conf: &Path) -> io::Result<Vec<IpAddr>> {
    let name = dns_name(host)?;
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
        (query(&resolver, &name, RecordType::A), query(&resolver, &name, RecordType::AAAA));
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
    name: &Name,
    kind: RecordType,
) -> Result<Vec<IpAddr>, NetError> {
    let lookup = resolver.lookup(name.clone(), kind).await?;
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

/// Reads `host:port`; an IPv6 host, perhaps with a zone, stands in brackets.
pub fn parse_host_port(text: &str) -> Option<HostPort> {
    let (host, port) = text.trim().rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| HostPort { host: host.to_owned(), port })
}

/// Is this host a wildcard, which nobody can connect to?
pub fn is_wildcard(host: &str) -> bool {
    literal::is_unspecified(host)
}
