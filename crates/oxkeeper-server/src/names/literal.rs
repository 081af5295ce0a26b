//! Addresses written in numbers; an IPv6 one may carry a zone, the interface on which it holds
//! (RFC 4007 11): `fe80::1%eth0`, `fe80::1%2`.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::net::netdevice::{index_to_name, name_to_index};
use socket2::{Domain, Socket, Type};

/// `host` as an address, if it is one. The error names a zone that is no interface of this machine.
pub(super) fn parse(host: &str, port: u16) -> Option<io::Result<SocketAddr>> {
    let Some((ip, zone)) = with_zone(host) else {
        return host.parse().ok().map(|ip: IpAddr| Ok(SocketAddr::new(ip, port)));
    };
    Some(scope_id(zone).map(|scope| SocketAddrV6::new(ip, port, 0, scope).into()))
}

/// Is it the address that stands for all of a machine's?
pub(super) fn is_unspecified(host: &str) -> bool {
    match with_zone(host) {
        Some((ip, _)) => ip.is_unspecified(),
        None => host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()),
    }
}

fn with_zone(host: &str) -> Option<(Ipv6Addr, &str)> {
    let (ip, zone) = host.split_once('%')?;
    Some((ip.parse().ok()?, zone))
}

/// The index of an interface that is named, or given by its index.
fn scope_id(zone: &str) -> io::Result<u32> {
    let missing = |_| {
        let text = format!("this machine has no network interface \"{zone}\"");
        io::Error::new(io::ErrorKind::NotFound, text)
    };
    let any = Socket::new(Domain::IPV4, Type::DGRAM, None)
        .or_else(|_| Socket::new(Domain::IPV6, Type::DGRAM, None))?;
    match zone.parse::<u32>() {
        Ok(0) => Ok(0),
        Ok(index) => index_to_name(&any, index).map(|_| index).map_err(missing),
        Err(_) => name_to_index(&any, zone).map_err(missing),
    }
}
