//! A connect string: `host:port,host:port`, as every ZooKeeper client takes it.

use std::net::SocketAddr;

use oxkeeper_server::names;

use crate::failure::Failure;

/// Port of a server that is named without one.
pub const DEFAULT_PORT: u16 = 2181;

/// Splits a connect string into its servers and its chroot (empty if there is none).
pub fn split(connect: &str) -> Result<(Vec<String>, String), Failure> {
    let (servers, chroot) = match connect.find('/') {
        Some(at) => connect.split_at(at),
        None => (connect, ""),
    };
    let mut list = Vec::new();
    for server in servers.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        list.push(with_port(server, connect)?);
    }
    if list.is_empty() {
        return Err(Failure::usage(format!("the connect string '{connect}' names no server"))
            .hint("write it as host:port,host:port, for example 127.0.0.1:2181"));
    }
    Ok((list, chroot.trim_end_matches('/').to_owned()))
}

fn with_port(server: &str, connect: &str) -> Result<String, Failure> {
    // A bare IPv6 address has several colons and no brackets: no port can be told apart in it.
    let host_end = server.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = server[host_end..].rfind(':').map(|at| at + host_end) else {
        return Ok(format!("{server}:{DEFAULT_PORT}"));
    };
    let (host, port) = (&server[..colon], &server[colon + 1..]);
    if port.parse::<u16>().is_err() || host.is_empty() || (host_end == 0 && host.contains(':')) {
        return Err(Failure::usage(format!("'{server}' in '{connect}' is not host:port"))
            .hint("write it as host:port,host:port; an IPv6 address needs brackets: [::1]:2181"));
    }
    Ok(server.to_owned())
}

/// Resolves every server, as the server resolves its peers; a name may stand for several addresses, of
/// which the first is taken.
pub fn resolve(servers: &[String]) -> Result<Vec<SocketAddr>, Failure> {
    let mut addresses = Vec::new();
    for server in servers {
        let named = names::parse_host_port(server)
            .ok_or_else(|| Failure::usage(format!("'{server}' is not host:port")))?;
        let mut all = names::resolve_blocking(&named)
            .map_err(|error| Failure::new(format!("cannot resolve '{server}': {error}")))?;
        // Servers of a lab listen on IPv4 more often than not, and localhost names both.
        all.sort_by_key(SocketAddr::is_ipv6);
        match all.first() {
            Some(address) => addresses.push(*address),
            None => return Err(Failure::new(format!("'{server}' has no address"))),
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_string_gives_servers_and_chroot() {
        let (servers, chroot) = split("a:2181,b:2182, [::1]:5 ,c/app/").unwrap();
        assert_eq!(servers, ["a:2181", "b:2182", "[::1]:5", "c:2181"]);
        assert_eq!(chroot, "/app");
    }

    #[test]
    fn a_connect_string_may_name_hosts_with_underscores() {
        let (servers, _) = split("my_stack_zoo_1,_zoo:1,zoo_:2/app").unwrap();
        assert_eq!(servers, ["my_stack_zoo_1:2181", "_zoo:1", "zoo_:2"]);
    }

    #[test]
    fn a_bad_connect_string_is_named() {
        assert_eq!(
            split("a:b").unwrap_err().to_string(),
            "error: 'a:b' in 'a:b' is not host:port\n  \
             write it as host:port,host:port; an IPv6 address needs brackets: [::1]:2181"
        );
        assert!(split(",").unwrap_err().to_string().contains("names no server"));
        assert!(split("::1:2181").is_err());
        assert_eq!(split("[::1]").unwrap().0, ["[::1]:2181"]);
    }
}
