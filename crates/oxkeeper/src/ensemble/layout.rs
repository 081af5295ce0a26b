//! What lies on disk: one directory per server, with its zoo.cfg, myid, data and log.
//!
//! ```text
//! oxkeeper-data/
//!   lock                 held while an ensemble runs here
//!   server1/zoo.cfg      written once, then only read
//!   server1/myid
//!   server1/version-2/   the server's data
//!   server1/oxkeeper.log its output
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use oxkeeper_proto::ensemble::EnsembleConfig;

use crate::failure::Failure;

/// Servers if nothing else is asked for.
pub const DEFAULT_SERVERS: usize = 3;
/// First client port if nothing else is asked for.
pub const DEFAULT_BASE_PORT: u16 = 2181;
/// From a server's client port to its quorum port: 2181 to 2888.
const QUORUM_OFFSET: u16 = 707;
/// From a server's client port to its election port: 2181 to 3888.
const ELECTION_OFFSET: u16 = 1707;
/// More have no use on one machine, and their ports would run into each other.
pub const MAX_SERVERS: usize = 99;

/// One server of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id, from 1.
    pub id: usize,
    /// Its directory.
    pub dir: PathBuf,
    /// Port for clients.
    pub client_port: u16,
    /// Quorum and election port; a server that is alone has none.
    pub peer_ports: Option<(u16, u16)>,
}

impl Member {
    fn planned(dir: &Path, id: usize, servers: usize, base_port: u16) -> Member {
        let client_port = base_port + (id as u16 - 1);
        let peer_ports =
            (servers > 1).then_some((client_port + QUORUM_OFFSET, client_port + ELECTION_OFFSET));
        Member { id, dir: dir.join(format!("server{id}")), client_port, peer_ports }
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("zoo.cfg")
    }

    /// Its output.
    pub fn log(&self) -> PathBuf {
        self.dir.join("oxkeeper.log")
    }

    /// Its address for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Every port it listens on, with what it is for.
    pub fn ports(&self) -> Vec<(u16, &'static str)> {
        let mut ports = vec![(self.client_port, "client port")];
        if let Some((quorum, election)) = self.peer_ports {
            ports.push((quorum, "quorum port"));
            ports.push((election, "election port"));
        }
        ports
    }
}

/// The members in `dir`: those that are there, or new ones as asked for.
///
/// What is there wins; if the command line says otherwise, that is an error that explains.
pub fn members(
    dir: &Path,
    servers: Option<usize>,
    base_port: Option<u16>,
) -> Result<Vec<Member>, Failure> {
    let existing = existing(dir)?;
    if existing.is_empty() {
        let servers = servers.unwrap_or(DEFAULT_SERVERS);
        let base_port = base_port.unwrap_or(DEFAULT_BASE_PORT);
        let top = u32::from(base_port) + u32::from(ELECTION_OFFSET) + servers as u32;
        if top > 65536 {
            let most = 65536 - u32::from(ELECTION_OFFSET) - servers as u32;
            return Err(Failure::usage(format!(
                "--base-port {base_port} is too high: election ports begin {ELECTION_OFFSET} above it"
            ))
            .hint(format!("use at most {most} for {servers} servers")));
        }
        return Ok((1..=servers).map(|id| Member::planned(dir, id, servers, base_port)).collect());
    }
    let first = existing[0].client_port;
    let different = servers.is_some_and(|servers| servers != existing.len())
        || base_port.is_some_and(|base_port| base_port != first);
    if different {
        return Err(Failure::usage(format!(
            "{} holds an ensemble of {} servers with client ports from {first}, not what \
             --servers or --base-port say",
            dir.display(),
            existing.len()
        ))
        .hint(format!(
            "start it as it is: oxkeeper ensemble --dir {0}\n\
             make another one:  choose a new --dir\n\
             give up its data:  remove {0}, then start again",
            dir.display()
        )));
    }
    Ok(existing)
}

/// The members that earlier starts have left in `dir`.
fn existing(dir: &Path) -> Result<Vec<Member>, Failure> {
    let mut members = Vec::new();
    for id in 1..=MAX_SERVERS {
        let server_dir = dir.join(format!("server{id}"));
        if !server_dir.join("zoo.cfg").exists() {
            break;
        }
        members.push(read_member(id, server_dir)?);
    }
    let wanted = members.first().map_or(0, |(_, listed)| (*listed).max(1));
    if members.len() < wanted {
        // An earlier start was interrupted while it wrote the files, or somebody removed some.
        return Err(Failure::new(format!(
            "{} is incomplete: its configuration names {wanted} servers, {} are there",
            dir.display(),
            members.len()
        ))
        .hint(format!("bring back the missing server directory, or remove {}", dir.display())));
    }
    Ok(members.into_iter().map(|(member, _)| member).collect())
}

/// Reads what matters here of a server's zoo.cfg: the member, and how many servers the file names.
fn read_member(id: usize, dir: PathBuf) -> Result<(Member, usize), Failure> {
    let path = dir.join("zoo.cfg");
    let bad = |what: String| {
        Failure::new(format!("{}: {what}", path.display()))
            .hint("correct the file, or remove the whole directory to begin anew")
    };
    let mut text = String::new();
    File::open(&path)
        .and_then(|mut file| file.read_to_string(&mut text))
        .map_err(|error| bad(format!("cannot be read: {error}")))?;
    let mut config = EnsembleConfig::default();
    let mut client_port = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        let at = |what: String| bad(format!("line {}: {what}", number + 1));
        if key.starts_with("server.") {
            config.set(key, value, true).map_err(|error| at(error.to_string()))?;
        } else if key == "clientPort" {
            let port = value.parse().map_err(|_| at(format!("clientPort '{value}' is no port")))?;
            client_port = Some(port);
        }
    }
    let client_port = client_port.ok_or_else(|| bad("has no clientPort".to_owned()))?;
    let spec = config.servers.get(&(id as i64)).and_then(|spec| spec.addresses.first());
    let peer_ports = spec.map(|address| (address.quorum_port, address.election_port));
    Ok((Member { id, dir, client_port, peer_ports }, config.servers.len()))
}

/// Writes the files of members that have none yet. The configuration comes last: where it is, the
/// rest is too.
pub fn write(members: &[Member]) -> Result<(), Failure> {
    for member in members {
        if member.config().exists() {
            continue;
        }
        let put = |path: PathBuf, text: String| {
            fs::write(&path, text)
                .map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
        };
        fs::create_dir_all(&member.dir).map_err(|error| {
            Failure::new(format!("cannot create {}: {error}", member.dir.display()))
        })?;
        let dir = fs::canonicalize(&member.dir).map_err(|error| {
            Failure::new(format!("cannot resolve {}: {error}", member.dir.display()))
        })?;
        put(member.dir.join("myid"), format!("{}\n", member.id))?;
        put(member.config(), config_text(member, &dir, members))?;
    }
    Ok(())
}

fn config_text(member: &Member, data_dir: &Path, members: &[Member]) -> String {
    let mut text = format!(
        "# Written by `oxkeeper ensemble`. Change it as you like: later starts keep it.\n\
         tickTime=2000\n\
         initLimit=10\n\
         syncLimit=5\n\
         dataDir={}\n\
         clientPort={}\n\
         clientPortAddress=127.0.0.1\n\
         maxClientCnxns=0\n\
         admin.enableServer=false\n\
         4lw.commands.whitelist=*\n\
         extendedTypesEnabled=true\n",
        // The file is in the Java properties form, in which a backslash escapes.
        data_dir.display().to_string().replace('\\', "\\\\"),
        member.client_port
    );
    for other in members {
        if let Some((quorum, election)) = other.peer_ports {
            text.push_str(&format!("server.{}=127.0.0.1:{quorum}:{election}\n", other.id));
        }
    }
    text
}

/// Holds the directory for one running ensemble; let go with the process.
pub struct DirLock {
    _file: File,
}

/// Creates `dir` if need be and takes its lock.
pub fn lock(dir: &Path) -> Result<DirLock, Failure> {
    fs::create_dir_all(dir)
        .map_err(|error| Failure::new(format!("cannot create {}: {error}", dir.display())))?;
    let path = dir.join("lock");
    let open = File::options().create(true).truncate(false).read(true).write(true).open(&path);
    let cannot = |error| Failure::new(format!("cannot lock {}: {error}", path.display()));
    let mut file = open.map_err(cannot)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Only for the message.
            let _ = file.read_to_string(&mut pid);
            let pid = pid.trim();
            return Err(Failure::new(format!(
                "{} is in use: another `oxkeeper ensemble` (pid {pid}) runs there",
                dir.display()
            ))
            .hint(format!(
                "stop it (kill {pid}), or start this one elsewhere: --dir other --base-port 12181"
            )));
        }
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(cannot)?;
    Ok(DirLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_ensemble_has_the_usual_ports() {
        let dir = tempfile::tempdir().unwrap();
        let members = members(dir.path(), None, None).unwrap();
        let ports: Vec<_> = members.iter().map(Member::ports).collect();
        let port = |client| {
            vec![
                (client, "client port"),
                (client + 707, "quorum port"),
                (client + 1707, "election port"),
            ]
        };
        assert_eq!(ports, [port(2181), port(2182), port(2183)]);
    }

    #[test]
    fn the_written_configuration_is_what_the_next_start_finds() {
        let dir = tempfile::tempdir().unwrap();
        let new = members(dir.path(), Some(2), Some(7000)).unwrap();
        write(&new).unwrap();
        let text = fs::read_to_string(dir.path().join("server2/zoo.cfg")).unwrap();
        let data_dir = fs::canonicalize(dir.path().join("server2")).unwrap();
        assert_eq!(
            text,
            format!(
                "\
# Written by `oxkeeper ensemble`. Change it as you like: later starts keep it.
tickTime=2000
initLimit=10
syncLimit=5
dataDir={}
clientPort=7001
clientPortAddress=127.0.0.1
maxClientCnxns=0
admin.enableServer=false
4lw.commands.whitelist=*
extendedTypesEnabled=true
server.1=127.0.0.1:7707:8707
server.2=127.0.0.1:7708:8708
",
                data_dir.display()
            )
        );
        assert_eq!(fs::read_to_string(dir.path().join("server2/myid")).unwrap(), "2\n");
        assert_eq!(members(dir.path(), None, None).unwrap(), new);
        assert_eq!(members(dir.path(), Some(2), Some(7000)).unwrap(), new);
    }

    #[test]
    fn an_existing_ensemble_of_another_shape_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        write(&members(dir.path(), Some(3), Some(7000)).unwrap()).unwrap();
        let failure = members(dir.path(), Some(5), None).unwrap_err();
        let shown = dir.path().display();
        assert_eq!(
            failure.to_string(),
            format!(
                "error: {shown} holds an ensemble of 3 servers with client ports from 7000, not \
                 what --servers or --base-port say\n  \
                 start it as it is: oxkeeper ensemble --dir {shown}\n  \
                 make another one:  choose a new --dir\n  \
                 give up its data:  remove {shown}, then start again"
            )
        );
        assert!(members(dir.path(), None, Some(7001)).is_err());
    }

    #[test]
    fn a_damaged_configuration_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        write(&members(dir.path(), Some(1), Some(7000)).unwrap()).unwrap();
        let path = dir.path().join("server1/zoo.cfg");
        fs::write(&path, "dataDir=x\nclientPort=abc\n").unwrap();
        let text = members(dir.path(), None, None).unwrap_err().to_string();
        let expected = format!("error: {}: line 2: clientPort 'abc' is no port\n", path.display());
        assert!(text.starts_with(&expected), "{text}");
    }

    #[test]
    fn a_missing_server_directory_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        write(&members(dir.path(), Some(3), None).unwrap()).unwrap();
        fs::remove_dir_all(dir.path().join("server3")).unwrap();
        let text = members(dir.path(), None, None).unwrap_err().to_string();
        assert!(text.contains("is incomplete: its configuration names 3 servers, 2 are"), "{text}");
    }

    #[test]
    fn a_directory_is_used_by_one_ensemble_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let text = lock(dir.path()).err().unwrap().to_string();
        let pid = std::process::id();
        assert!(text.contains(&format!("another `oxkeeper ensemble` (pid {pid}) runs")), "{text}");
        drop(held);
        assert!(lock(dir.path()).is_ok());
    }

    #[test]
    fn a_port_that_leaves_no_room_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let text = members(dir.path(), Some(3), Some(64000)).unwrap_err().to_string();
        assert!(text.ends_with("use at most 63826 for 3 servers"), "{text}");
        assert!(members(dir.path(), Some(3), Some(63826)).is_ok());
    }
}
