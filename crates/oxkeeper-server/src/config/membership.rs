//! Who belongs to the ensemble, which member this server is, and whether there is an ensemble.
//!
//! Source: `docs/spec/operations.md` 1.2, 1.3, 1.6, 1.7.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use oxkeeper_proto::ServerId;
use oxkeeper_proto::ensemble::{ConfigError, EnsembleConfig, HostPort, Role};

use super::properties;
use super::settings::{Place, Setting, Settings};
use super::{LoadError, Warning};

/// The members, and where each one stands.
pub(super) struct Membership {
    pub(super) ensemble: EnsembleConfig,
    places: BTreeMap<ServerId, Place>,
}

fn is_member_key(key: &str) -> bool {
    key.starts_with("server.") || key.starts_with("group") || key.starts_with("weight")
}

/// Reads the members from zoo.cfg, or from the dynamic file that it names.
pub(super) fn read(
    settings: &Settings,
    text: &[properties::Property],
) -> Result<Membership, LoadError> {
    let multi = settings.property("multiAddress.enabled").is_some_and(Setting::is_true);
    let Some(dynamic) = settings.get("dynamicConfigFile") else {
        let members = text.iter().filter(|p| is_member_key(&p.key) || p.key == "version");
        return parse(&settings.file, members, multi);
    };
    if let Some((key, setting)) = settings.entries.iter().find(|(key, _)| is_member_key(key)) {
        return Err(setting.wrong(
            format!("parameter: {key} must be in a separate dynamic config file"),
            format!("Move it to {}, or remove dynamicConfigFile", dynamic.text),
        ));
    }
    read_dynamic(dynamic, multi)
}

fn read_dynamic(setting: &Setting, multi: bool) -> Result<Membership, LoadError> {
    let file = &setting.text;
    let bytes = fs::read(file).map_err(|error| {
        setting.wrong(
            format!("cannot read the dynamic configuration file {file}: {error}"),
            "Correct the path or the file's permissions",
        )
    })?;
    let entries = super::parse_properties(file, &bytes)?;
    for entry in &entries {
        let (message, hint) = match entry.key.as_str() {
            "version" => (
                "dynamic file shouldn't have version inside".to_owned(),
                "Remove the line; the version is the end of the file's name",
            ),
            key if !is_member_key(key) => (
                format!("Unrecognised parameter: {key}"),
                "Only server.N, group.N and weight.N may stand here",
            ),
            _ => continue,
        };
        return Err(LoadError::at(file, entry.line, message, hint));
    }
    let mut membership = parse(file, entries.iter(), multi)?;
    let name = Path::new(file).file_name().and_then(|name| name.to_str()).unwrap_or("");
    let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
    membership.ensemble.version = i64::from_str_radix(suffix, 16).unwrap_or(0);
    Ok(membership)
}

fn parse<'a>(
    file: &str,
    entries: impl Iterator<Item = &'a properties::Property>,
    multi: bool,
) -> Result<Membership, LoadError> {
    let mut ensemble = EnsembleConfig::default();
    let mut places = BTreeMap::new();
    let mut lines: BTreeMap<String, u32> = BTreeMap::new();
    for entry in entries {
        // `server.1` and `server.01` are the same server.
        let id = entry.key.strip_prefix("server.").and_then(|id| id.trim().parse::<i64>().ok());
        let name = id.map_or(entry.key.clone(), |id| format!("server.{id}"));
        if let Some(first) = lines.insert(name.clone(), entry.line) {
            let message = format!("{name} is there twice, on lines {first} and {}", entry.line);
            let hint = "Give every server its own number and keep one line for each";
            return Err(LoadError::at(file, entry.line, message, hint));
        }
        let wrong = |error: ConfigError| {
            LoadError::at(file, entry.line, format!("{}: {error}", entry.key), hint_for(&error))
        };
        ensemble.set(&entry.key, &entry.value, multi).map_err(wrong)?;
        if let Some(id) = id {
            places.insert(id, Place::Line(file.to_owned(), entry.line));
        }
    }
    let membership = Membership { ensemble, places };
    membership.check_addresses()?;
    membership.check_groups(file)?;
    Ok(membership)
}

fn hint_for(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::Form(_) => {
            "Write server.N=host:quorumPort:electionPort, for example server.1=zk1:2888:3888"
        }
        ConfigError::PeerType(_) => "Write participant or observer",
        ConfigError::BadPort(_) => "Ports are numbers from 0 to 65535",
        ConfigError::EqualPorts(_) => "Choose two different ports",
        ConfigError::MultiAddress(_) => {
            "Keep one address, or set multiAddress.enabled=true on all servers"
        }
        ConfigError::Parameter(_) => "Check the spelling",
        ConfigError::Number { .. } => {
            "Ids, groups and weights are whole numbers, for example server.1"
        }
    }
}

impl Membership {
    fn place(&self, id: ServerId) -> Place {
        self.places.get(&id).cloned().unwrap_or(Place::File("the configuration".to_owned()))
    }

    /// No two servers may have the same host and port.
    fn check_addresses(&self) -> Result<(), LoadError> {
        let mut owners: BTreeMap<(String, u16), ServerId> = BTreeMap::new();
        for (&id, spec) in &self.ensemble.servers {
            for address in spec.quorum_addresses().chain(spec.election_addresses()) {
                let key = (address.canonical().host.to_lowercase(), address.port);
                match owners.insert(key, id) {
                    Some(other) if other != id => {
                        return Err(LoadError::Setting {
                            place: self.place(id),
                            message: format!(
                                "server.{id} has the address {address}, which server.{other} ({}) \
                                 has as well",
                                self.place(other)
                            ),
                            hint: "Give every server its own host, or its own ports".to_owned(),
                        });
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// With groups, every participant is in exactly one.
    fn check_groups(&self, file: &str) -> Result<(), LoadError> {
        if self.ensemble.groups.is_empty() {
            return Ok(());
        }
        for voter in self.ensemble.voters() {
            let groups = self.ensemble.groups.values();
            let count: usize =
                groups.map(|members| members.iter().filter(|id| **id == voter).count()).sum();
            let message = match count {
                1 => continue,
                0 => format!("Server {voter} is not in a group"),
                _ => format!("Server {voter} is in multiple groups"),
            };
            return Err(LoadError::Setting {
                place: Place::File(file.to_owned()),
                message,
                hint: "Name every participant in exactly one group.N line".to_owned(),
            });
        }
        Ok(())
    }

    /// Checks the numbers of participants and observers; true: this server is part of an ensemble.
    pub(super) fn is_distributed(&self, settings: &Settings) -> Result<bool, LoadError> {
        let standalone = settings.boolean("standaloneEnabled", true)?;
        let voters = self.ensemble.voters().count();
        let observers = self.ensemble.servers.len() - voters;
        let wrong =
            |message: &str, hint: &str| Err(LoadError::of_file(&settings.file, message, hint));
        match voters {
            0 if !standalone => {
                return wrong(
                    "standaloneEnabled = false then number of participants should be >0",
                    "Add server.N lines, or remove standaloneEnabled=false",
                );
            }
            0 if observers > 0 => {
                return wrong(
                    "Observers w/o participants is an invalid configuration",
                    "Make at least one server a participant",
                );
            }
            0 => {}
            1 if standalone => {
                settings.warn(Warning::error(
                    "Invalid configuration, only one server specified (ignoring)",
                ));
                if observers > 0 {
                    return wrong(
                        "Observers w/o quorum is an invalid configuration",
                        "Add participants, or set standaloneEnabled=false",
                    );
                }
            }
            1 | 2 => settings.warn(Warning::warn(
                "No server failure will be tolerated. You need at least 3 servers.",
            )),
            even if even % 2 == 0 => settings.warn(Warning::warn(
                "Non-optimal configuration, consider an odd number of servers.",
            )),
            _ => {}
        }
        for (&id, setting) in &self.places {
            if !(1..=255).contains(&id) {
                settings.warn(Warning::warn(format!(
                    "{setting}: server ids should be from 1 to 255; {id} makes session ids collide"
                )));
            }
        }
        Ok(voters > 1 || (voters > 0 && !standalone))
    }

    /// The client address: zoo.cfg's, or the one of this server's line, which must not disagree.
    pub(super) fn client_address(
        &self,
        me: Option<ServerId>,
        fixed: Option<HostPort>,
    ) -> Result<Option<HostPort>, LoadError> {
        let Some((me, spec)) = me.and_then(|me| Some((me, self.ensemble.servers.get(&me)?))) else {
            return Ok(fixed);
        };
        let (Some(dynamic), Some(fixed)) = (&spec.client, &fixed) else {
            return Ok(spec.client.clone().or(fixed));
        };
        let same = match crate::names::is_wildcard(&fixed.host) {
            true => fixed.port == dynamic.port,
            false => fixed.canonical() == dynamic.canonical(),
        };
        if same {
            return Ok(Some(dynamic.clone()));
        }
        Err(LoadError::Setting {
            place: self.place(me),
            message: format!(
                "client address for this server (id = {me}) in static config file is {fixed} is \
                 different from client address found in dynamic file: {dynamic}"
            ),
            hint: "Remove clientPort and clientPortAddress, or the part behind the semicolon"
                .to_owned(),
        })
    }

    /// This server's role; the members' list wins over `peerType`.
    pub(super) fn role(&self, me: ServerId, settings: &Settings) -> Result<Role, LoadError> {
        let listed = self.ensemble.servers.get(&me).map_or(Role::Observer, |spec| spec.role);
        let Some(hint) = peer_type(settings)? else { return Ok(listed) };
        if hint != listed {
            let name = |role| match role {
                Role::Participant => "PARTICIPANT",
                Role::Observer => "OBSERVER",
            };
            settings.warn(Warning::warn(format!(
                "Peer type from servers list ({}) doesn't match peerType ({}). Defaulting to servers \
                 list.",
                name(listed),
                name(hint)
            )));
        }
        Ok(listed)
    }
}

/// The value of `peerType`.
pub(super) fn peer_type(settings: &Settings) -> Result<Option<Role>, LoadError> {
    let Some(setting) = settings.get("peerType") else { return Ok(None) };
    match setting.text.to_ascii_lowercase().as_str() {
        "participant" => Ok(Some(Role::Participant)),
        "observer" => Ok(Some(Role::Observer)),
        other => Err(setting.wrong(
            format!("Unrecognised peertype: {other}"),
            "Write peerType=participant or peerType=observer",
        )),
    }
}

/// The id in `<dataDir>/myid`; `None` if there is no such file.
pub(super) fn read_my_id(data_dir: &Path) -> Result<Option<ServerId>, LoadError> {
    let path = data_dir.join("myid");
    let file = path.display().to_string();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // `dataDir` itself is judged later.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => {
            let hint = "Make the file readable for this process";
            return Err(LoadError::of_file(&file, format!("cannot read it: {error}"), hint));
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or("");
    line.trim().parse().map(Some).map_err(|_| {
        let hint = "The file must hold this server's number, the N of its server.N line";
        LoadError::of_file(&file, format!("serverid {line} is not a number"), hint)
    })
}
