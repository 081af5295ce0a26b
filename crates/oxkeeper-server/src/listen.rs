//! Opening listening ports, and saying in plain words why one cannot be opened.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use oxkeeper_proto::ensemble::HostPort;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::names;

mod opening;

pub use opening::{Opening, Patience};

/// Connections that may wait to be accepted, unless the configuration says otherwise.
pub const DEFAULT_BACKLOG: i32 = 1024;

/// A port that could not be opened.
#[derive(Debug, thiserror::Error)]
pub struct BindError {
    /// What it is for: "election", "quorum", "client", "admin", "metrics".
    pub purpose: &'static str,
    /// The address as configured.
    pub address: HostPort,
    /// Which of several addresses that the name stands for.
    pub at: Option<IpAddr>,
    /// The system's reason.
    pub source: io::Error,
    /// The process that holds the port, if that could be found out.
    pub owner: Option<PortOwner>,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindError { purpose, address, at, source, owner } = self;
        write!(f, "cannot open the {purpose} port {address}")?;
        if let Some(at) = at {
            write!(f, " at {at}")?;
        }
        f.write_str(": ")?;
        match (source.kind(), owner) {
            (io::ErrorKind::AddrInUse, Some(owner)) => {
                write!(f, "it is in use by {owner}. Stop that process or choose another port")
            }
            (io::ErrorKind::AddrInUse, None) => write!(
                f,
                "another process uses it. Find it with `ss -ltnp 'sport = :{}'`, or choose another \
                 port",
                address.port
            ),
            (io::ErrorKind::AddrNotAvailable, _) => write!(
                f,
                "{} is no address of this machine. Correct {}",
                address.host,
                setting(purpose)
            ),
            (io::ErrorKind::PermissionDenied, _) => write!(
                f,
                "permission denied (ports below 1024 need a privilege). Choose a higher port"
            ),
            _ => write!(f, "{source}"),
        }
    }
}

/// Where the host of a port is written.
fn setting(purpose: &str) -> &'static str {
    match purpose {
        "client" => "clientPortAddress",
        "admin" => "admin.serverAddress",
        "metrics" => "metricsProvider.httpHost",
        _ => "the host, or set quorumListenOnAllIPs=true",
    }
}

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    /// Process id.
    pub pid: u32,
    /// Its command line, shortened.
    pub command: String,
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.command)
    }
}

/// Listens on all addresses of this machine, IPv6 and IPv4 in one socket where possible.
pub fn bind_wildcard(
    port: u16,
    backlog: i32,
    purpose: &'static str,
) -> Result<TcpListener, BindError> {
    open_wildcard(port, backlog).map_err(|source| {
        failed(purpose, HostPort { host: "0.0.0.0".to_owned(), port }, None, source)
    })
}

fn open_wildcard(port: u16, backlog: i32) -> io::Result<TcpListener> {
    let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
    let v4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    open(v6, backlog).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse => Err(error),
        // No IPv6 here.
        _ => open(v4, backlog),
    })
}

/// Listens on every address that `address` stands for. Addresses of other machines (a name may have
/// several) are skipped as long as one is ours; one of ours that somebody else has is an error, since
/// clients would find him there. Resolves names on the caller's thread.
pub fn bind(
    address: &HostPort,
    backlog: i32,
    purpose: &'static str,
) -> Result<Vec<TcpListener>, BindError> {
    if names::is_wildcard(&address.host) {
        return Ok(vec![bind_wildcard(address.port, backlog, purpose)?]);
    }
    let fail = |at, source| failed(purpose, address.clone(), at, source);
    let sockets = names::resolve_blocking(address).map_err(|error| fail(None, error))?;
    let several = sockets.len() > 1;
    let (mut listeners, mut last) = (Vec::new(), None);
    for socket in sockets {
        let at = Some(socket.ip()).filter(|_| several);
        match open(socket, backlog) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_not_ours(&error) => last = Some((at, error)),
            Err(error) => return Err(fail(at, error)),
        }
    }
    match last {
        Some((at, error)) if listeners.is_empty() => Err(fail(at, error)),
        _ => Ok(listeners),
    }
}

/// Is the address none of this machine, or of a family that it does not have?
fn is_not_ours(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn failed(
    purpose: &'static str,
    address: HostPort,
    at: Option<IpAddr>,
    source: io::Error,
) -> BindError {
    let owner = match source.kind() {
        io::ErrorKind::AddrInUse => owner_of(address.port),
        _ => None,
    };
    BindError { purpose, address, at, source, owner }
}

fn open(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the process before it to be forgotten.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(if backlog > 0 { backlog } else { DEFAULT_BACKLOG })?;
    TcpListener::from_std(socket.into())
}

/// The process that listens on this TCP port, if the system lets us see it.
pub fn owner_of(port: u16) -> Option<PortOwner> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|text| listening_inodes(&text, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let processes = fs::read_dir("/proc").ok()?;
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(process.path().join("fd")) else { continue };
        let holds = files.flatten().any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|target| inodes.iter().any(|inode| target.as_os_str() == inode.as_str()))
        });
        if holds {
            let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            return Some(PortOwner { pid, command: command.trim().chars().take(80).collect() });
        }
    }
    None
}

/// Inodes of the listening sockets on `port` in the text of `/proc/net/tcp`.
fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            match (fields.get(1), fields.get(3), fields.get(9)) {
                (Some(local), Some(&LISTEN), Some(inode)) if local.ends_with(&suffix) => {
                    Some((*inode).to_owned())
                }
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_busy_port_is_named_with_its_owner() {
        let address = HostPort { host: "127.0.0.1".to_owned(), port: 21001 };
        let _held = bind(&address, 8, "election").unwrap();
        let error = bind(&address, 8, "election").unwrap_err();
        assert_eq!(error.owner.as_ref().unwrap().pid, std::process::id());
        let text = error.to_string();
        assert!(text.contains("election port 127.0.0.1:21001"), "{text}");
        assert!(text.contains("in use by process"), "{text}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_named() {
        let address = HostPort { host: "192.0.2.1".to_owned(), port: 21002 };
        let text = bind(&address, 8, "quorum").unwrap_err().to_string();
        assert!(text.contains("no address of this machine"), "{text}");
        let text = bind(&address, 8, "client").unwrap_err().to_string();
        assert_eq!(
            text,
            "cannot open the client port 192.0.2.1:21002: 192.0.2.1 is no address of this machine. \
             Correct clientPortAddress"
        );
    }

    #[tokio::test]
    async fn the_wildcard_takes_both_families() {
        let _listener = bind_wildcard(21003, 8, "client").unwrap();
        tokio::net::TcpStream::connect("127.0.0.1:21003").await.unwrap();
    }
}
