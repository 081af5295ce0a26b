//! Who belongs to the ensemble: the text form of a configuration and the quorum rule it implies.
//!
//! The text stands in zoo.cfg, notifications, NEWLEADER and `/zookeeper/config`.
//! Source: `docs/spec/quorum-protocol.md` 3, `docs/spec/operations.md` 1.3.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;

use crate::ServerId;

/// May a server vote?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Role {
    Participant,
    Observer,
}

/// `host:port`; the host is kept as written (name, IPv4, or IPv6 perhaps with a zone) and resolved at
/// each use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl HostPort {
    /// With the host as the text of a configuration has it: equal for one address in numbers, however
    /// it is written.
    pub fn canonical(&self) -> HostPort {
        HostPort { host: canonical(&self.host).into_owned(), port: self.port }
    }
}

/// As Java writes an IPv6 address: all eight groups, the zone behind them; an IPv4 address where that
/// is meant.
fn canonical(host: &str) -> Cow<'_, str> {
    let (ip, zone) = host.find('%').map_or((host, ""), |at| host.split_at(at));
    let Ok(ip) = ip.parse::<Ipv6Addr>() else { return host.into() };
    if let Some(v4) = ip.to_ipv4_mapped() {
        return v4.to_string().into();
    }
    let groups = ip.segments().map(|group| format!("{group:x}"));
    format!("{}{zone}", groups.join(":")).into()
}

/// One pair of peer addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// As written, without brackets.
    pub host: String,
    /// Port on which a leader takes learners.
    pub quorum_port: u16,
    /// Port of the election protocol.
    pub election_port: u16,
}

/// One `server.N=` entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerSpec {
    /// At least one; more only with `multiAddress.enabled`.
    pub addresses: Vec<PeerAddress>,
    /// Voter or not.
    pub role: Role,
    /// Client address, if it stands in the entry.
    pub client: Option<HostPort>,
}

impl ServerSpec {
    /// Equal but for the order of addresses, and how they are written?
    fn same_as(&self, other: &ServerSpec) -> bool {
        self.role == other.role
            && self.canonical_client() == other.canonical_client()
            && self.canonical_addresses() == other.canonical_addresses()
    }

    /// In the order and form of the canonical text.
    fn canonical_addresses(&self) -> Vec<PeerAddress> {
        let canonical = |address: &PeerAddress| PeerAddress {
            host: canonical(&address.host).into_owned(),
            ..address.clone()
        };
        let mut addresses: Vec<_> = self.addresses.iter().map(canonical).collect();
        addresses.sort();
        addresses
    }

    fn canonical_client(&self) -> Option<HostPort> {
        self.client.as_ref().map(HostPort::canonical)
    }

    /// The addresses of the quorum port.
    pub fn quorum_addresses(&self) -> impl Iterator<Item = HostPort> + '_ {
        self.addresses.iter().map(|a| HostPort { host: a.host.clone(), port: a.quorum_port })
    }

    /// The addresses of the election port.
    pub fn election_addresses(&self) -> impl Iterator<Item = HostPort> + '_ {
        self.addresses.iter().map(|a| HostPort { host: a.host.clone(), port: a.election_port })
    }
}

impl fmt::Display for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, address) in self.canonical_addresses().into_iter().enumerate() {
            let bar = if i == 0 { "" } else { "|" };
            let quorum = HostPort { host: address.host, port: address.quorum_port };
            write!(f, "{bar}{quorum}:{}", address.election_port)?;
        }
        f.write_str(match self.role {
            Role::Participant => ":participant",
            Role::Observer => ":observer",
        })?;
        match self.canonical_client() {
            Some(client) => write!(f, ";{client}"),
            None => Ok(()),
        }
    }
}

/// The members and the version of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EnsembleConfig {
    /// All members by id.
    pub servers: BTreeMap<ServerId, ServerSpec>,
    /// Groups of a hierarchical configuration: group id -> members. Empty: majority.
    pub groups: BTreeMap<i64, Vec<ServerId>>,
    /// Weights of a hierarchical configuration; 1 if absent.
    pub weights: BTreeMap<ServerId, i64>,
    /// The zxid that made it; 0 = never established.
    pub version: i64,
}

/// What is wrong with a configuration text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    #[error(
        "{0} does not have the form server_config or server_config;client_config where server_config is the pipe separated list of host:port:port or host:port:port:type and client_config is port or host:port"
    )]
    Form(String),
    #[error("Unrecognised peertype: {0}")]
    PeerType(String),
    #[error("Address unresolved: {0}")]
    BadPort(String),
    #[error(
        "Client and election port must be different! Please update the configuration file on server.{0}"
    )]
    EqualPorts(ServerId),
    #[error(
        "Multiple address feature is disabled, but multiple addresses were specified for sid {0}"
    )]
    MultiAddress(ServerId),
    #[error("Unrecognised parameter: {0}")]
    Parameter(String),
    #[error("{key} is not a number: {value}")]
    Number { key: String, value: String },
}

impl EnsembleConfig {
    /// Reads the canonical text (one `key=value` a line). Several addresses per server are accepted.
    pub fn parse(text: &str) -> Result<EnsembleConfig, ConfigError> {
        let mut config = EnsembleConfig::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (key, value) =
                line.split_once('=').ok_or_else(|| ConfigError::Parameter(line.to_owned()))?;
            config.set(key.trim(), value.trim(), true)?;
        }
        Ok(config)
    }

    /// Takes one `server.N`, `group.N`, `weight.N` or `version` entry.
    pub fn set(&mut self, key: &str, value: &str, multi: bool) -> Result<(), ConfigError> {
        let number = |text: &str| {
            text.trim()
                .parse::<i64>()
                .map_err(|_| ConfigError::Number { key: key.to_owned(), value: text.to_owned() })
        };
        let id = || number(key.split_once('.').map_or("", |(_, id)| id));
        if key.starts_with("server.") {
            let id = id()?;
            self.servers.insert(id, parse_server(id, value, multi)?);
        } else if key.starts_with("group") {
            let members = value.split(':').map(number).collect::<Result<_, _>>()?;
            self.groups.insert(id()?, members);
        } else if key.starts_with("weight") {
            self.weights.insert(id()?, number(value)?);
        } else if key == "version" {
            // A zxid; a negative number would be written as one that cannot be read.
            self.version =
                i64::from_str_radix(value, 16).ok().filter(|version| *version >= 0).ok_or_else(
                    || ConfigError::Number { key: key.to_owned(), value: value.to_owned() },
                )?;
        } else {
            return Err(ConfigError::Parameter(key.to_owned()));
        }
        Ok(())
    }

    /// Ids of the voting members, ascending.
    pub fn voters(&self) -> impl Iterator<Item = ServerId> + '_ {
        let voting = |spec: &ServerSpec| spec.role == Role::Participant;
        self.servers.iter().filter(move |(_, spec)| voting(spec)).map(|(id, _)| *id)
    }

    /// Is `server` a voting member?
    pub fn is_voter(&self, server: ServerId) -> bool {
        self.servers.get(&server).is_some_and(|spec| spec.role == Role::Participant)
    }

    /// The voting weight of a server (0 is never a candidate).
    pub fn weight(&self, server: ServerId) -> i64 {
        self.weights.get(&server).copied().unwrap_or(1)
    }

    /// Do these servers form a quorum? Only voters count; majority, or the hierarchical rule if
    /// there are groups.
    pub fn is_quorum(&self, mut has: impl FnMut(ServerId) -> bool) -> bool {
        if self.groups.is_empty() {
            let (mut all, mut acked) = (0, 0);
            for voter in self.voters() {
                all += 1;
                acked += usize::from(has(voter));
            }
            return acked > all / 2;
        }
        let (mut counted, mut won) = (0, 0);
        for members in self.groups.values() {
            let voters = || members.iter().copied().filter(|id| self.is_voter(*id));
            // Weights come from peers: their sum may exceed 64 bits.
            let weight = |id| i128::from(self.weight(id));
            let total: i128 = voters().map(weight).sum();
            if total == 0 {
                continue;
            }
            let acked: i128 = voters().filter(|id| has(*id)).map(weight).sum();
            counted += 1;
            won += usize::from(acked > total / 2);
        }
        won > counted / 2
    }

    /// Same members, addresses, roles, groups and weights (versions aside)? The order of a server's
    /// addresses means nothing, and a voter's weight of 1 may be written or not.
    pub fn same_members(&self, other: &EnsembleConfig) -> bool {
        let weights_matter = !self.groups.is_empty();
        self.servers.len() == other.servers.len()
            && self
                .servers
                .iter()
                .zip(&other.servers)
                .all(|((id, one), (other_id, another))| id == other_id && one.same_as(another))
            && self.groups == other.groups
            && (!weights_matter || self.voters().all(|id| self.weight(id) == other.weight(id)))
    }
}

/// The canonical text: ascending ids, `version=` last, no newline at the end.
impl fmt::Display for EnsembleConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, spec) in &self.servers {
            writeln!(f, "server.{id}={spec}")?;
        }
        for (id, members) in &self.groups {
            let members: Vec<_> = members.iter().map(ServerId::to_string).collect();
            writeln!(f, "group.{id}={}", members.join(":"))?;
        }
        if !self.groups.is_empty() {
            for id in self.voters() {
                writeln!(f, "weight.{id}={}", self.weight(id))?;
            }
        }
        write!(f, "version={:x}", self.version)
    }
}

fn parse_server(id: ServerId, value: &str, multi: bool) -> Result<ServerSpec, ConfigError> {
    let form = || ConfigError::Form(value.to_owned());
    let (servers, client) = match value.split_once(';') {
        Some((_, rest)) if rest.contains(';') => return Err(form()),
        Some((servers, client)) => (servers, Some(client.trim())),
        None => (value, None),
    };
    let mut addresses = Vec::new();
    let mut role = None;
    for text in servers.split('|') {
        let parts = split_host(text.trim()).ok_or_else(form)?;
        let (host, quorum, election, kind) = match parts[..] {
            [host, quorum, election] => (host, quorum, election, None),
            [host, quorum, election, kind] => (host, quorum, election, Some(kind)),
            _ => return Err(form()),
        };
        let port = |text: &str| {
            text.trim().parse().map_err(|_| ConfigError::BadPort(format!("{host}:{text}")))
        };
        let address = PeerAddress {
            host: host.to_owned(),
            quorum_port: port(quorum)?,
            election_port: port(election)?,
        };
        if address.quorum_port == address.election_port {
            return Err(ConfigError::EqualPorts(id));
        }
        let this = match kind {
            None => None,
            Some(kind) if kind.eq_ignore_ascii_case("participant") => Some(Role::Participant),
            Some(kind) if kind.eq_ignore_ascii_case("observer") => Some(Role::Observer),
            Some(kind) => return Err(ConfigError::PeerType(kind.to_owned())),
        };
        if this.is_some() && role.is_some() && role != this {
            return Err(form());
        }
        // With several addresses the canonical text writes the role once, at the end.
        role = this.or(role);
        addresses.push(address);
    }
    if addresses.len() > 1 && !multi {
        return Err(ConfigError::MultiAddress(id));
    }
    let client = match client {
        None | Some("") => None,
        Some(text) => Some(parse_client(text).ok_or_else(form)?),
    };
    Ok(ServerSpec { addresses, role: role.unwrap_or(Role::Participant), client })
}

/// Splits at colons, keeping a bracketed IPv6 host (without its brackets) whole.
fn split_host(text: &str) -> Option<Vec<&str>> {
    let Some(rest) = text.strip_prefix('[') else { return Some(text.split(':').collect()) };
    let (host, rest) = rest.split_once(']')?;
    // Without its brackets such a host would read as another one, or not at all.
    if host.contains('[') || host.trim() != host {
        return None;
    }
    let mut parts = vec![host];
    if let Some(rest) = rest.strip_prefix(':') {
        parts.extend(rest.split(':'));
    }
    Some(parts)
}

fn parse_client(text: &str) -> Option<HostPort> {
    match split_host(text)?[..] {
        [port] => Some(HostPort { host: "0.0.0.0".to_owned(), port: port.trim().parse().ok()? }),
        [host, port] => Some(HostPort { host: host.to_owned(), port: port.trim().parse().ok()? }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_text_round_trips() {
        let text = "server.1=h1:2888:3888:participant;0.0.0.0:2181\n\
                    server.2=[0:0:0:0:0:0:0:1]:2888:3888:observer\nversion=100000000";
        let config = EnsembleConfig::parse(text).unwrap();
        assert_eq!(config.to_string(), text);
        assert_eq!(config.voters().collect::<Vec<_>>(), [1]);
        assert_eq!(config.version, 0x1_0000_0000);
    }

    #[test]
    fn addresses_in_numbers_are_written_as_apache_writes_them() {
        let written = "server.1=[::1%lo]:1:2;[::1%lo]:3\nserver.2=[::FFFF:10.1.2.3]:1:2;[::]:3\n\
                       server.3=[FE80::a%2]:1:2|[::2]:1:2\nserver.4=a_b:1:2;10.0.0.1:3";
        let text = "server.1=[0:0:0:0:0:0:0:1%lo]:1:2:participant;[0:0:0:0:0:0:0:1%lo]:3\n\
                    server.2=10.1.2.3:1:2:participant;[0:0:0:0:0:0:0:0]:3\n\
                    server.3=[0:0:0:0:0:0:0:2]:1:2|[fe80:0:0:0:0:0:0:a%2]:1:2:participant\n\
                    server.4=a_b:1:2:participant;10.0.0.1:3\nversion=0";
        let config = EnsembleConfig::parse(written).unwrap();
        assert_eq!(config.to_string(), text);
        let again = EnsembleConfig::parse(text).unwrap();
        assert_eq!(again.to_string(), text);
        assert!(again.same_members(&config));
        // Messages show what stands in the file.
        assert_eq!(config.servers[&1].client.as_ref().unwrap().to_string(), "[::1%lo]:3");
    }

    #[test]
    fn an_observer_with_several_addresses_round_trips_in_any_order() {
        let text = "server.1=h1:2:3|h2:2:3:observer\nversion=0";
        let config = EnsembleConfig::parse(text).unwrap();
        assert_eq!(config.to_string(), text);
        let other = EnsembleConfig::parse("server.1=h2:2:3:observer|h1:2:3").unwrap();
        assert!(config.same_members(&other));
    }

    #[test]
    fn a_weight_of_1_may_be_written_or_not_and_huge_weights_add_up() {
        let text = "server.1=a:1:2\nserver.2=b:1:2\ngroup.1=1:2\nweight.2=9223372036854775807";
        let config = EnsembleConfig::parse(text).unwrap();
        assert!(EnsembleConfig::parse(&config.to_string()).unwrap().same_members(&config));
        assert!(config.is_quorum(|id| id == 2) && !config.is_quorum(|id| id == 1));
    }

    #[test]
    fn a_host_that_cannot_stand_without_its_brackets_is_refused() {
        assert!(EnsembleConfig::parse("server.1=[[a]:1:2").is_err());
        assert!(EnsembleConfig::parse("server.1=[ ]:1:2").is_err());
    }

    #[test]
    fn a_negative_version_is_refused() {
        assert!(EnsembleConfig::parse("version=-4").is_err());
    }

    #[test]
    fn several_addresses_share_a_role() {
        let text = "server.1=h1:2:3|h2:2:3:participant\nversion=0";
        assert_eq!(EnsembleConfig::parse(text).unwrap().to_string(), text);
        let mut config = EnsembleConfig::default();
        assert_eq!(
            config.set("server.1", "h1:2:3|h2:2:3", false),
            Err(ConfigError::MultiAddress(1))
        );
    }

    #[test]
    fn wrong_entries_are_named() {
        let parse = |value: &str| EnsembleConfig::default().set("server.7", value, false);
        assert!(matches!(parse("h1:2888"), Err(ConfigError::Form(_))));
        assert!(matches!(parse("h1:1:2;3;4"), Err(ConfigError::Form(_))));
        assert_eq!(parse("h1:1:1"), Err(ConfigError::EqualPorts(7)));
        assert_eq!(parse("h1:1:x"), Err(ConfigError::BadPort("h1:x".into())));
        assert_eq!(parse("h1:1:2:boss"), Err(ConfigError::PeerType("boss".into())));
    }

    #[test]
    fn a_majority_is_more_than_half_of_the_voters() {
        let config = EnsembleConfig::parse(
            "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2:observer",
        )
        .unwrap();
        assert!(!config.is_quorum(|id| id == 1 || id == 4));
        assert!(config.is_quorum(|id| id != 1));
    }

    #[test]
    fn a_hierarchical_quorum_wins_most_groups_by_weight() {
        let config = EnsembleConfig::parse(
            "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2\nserver.5=e:1:2\n\
             group.1=1:2:3\ngroup.2=4:5\nweight.1=3\nweight.2=1\nweight.3=1\nweight.4=1\nweight.5=1",
        )
        .unwrap();
        assert!(config.is_quorum(|id| [1, 4, 5].contains(&id)));
        assert!(!config.is_quorum(|id| [2, 3, 4, 5].contains(&id)));
    }
}
