//! Servers of both kinds as child processes on loopback; a dropped one is killed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::probe;
use crate::install;
use crate::tools::{Failure, Outcome, oxkeeper, root, target_dir};

/// Ports that the servers listen on.
const PORTS: std::ops::Range<u16> = 23000..24000;
const START_LIMIT: Duration = Duration::from_secs(90);

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Apache ZooKeeper 3.9.5
    Apache,
    /// The release build of this workspace
    Oxkeeper,
}

impl Kind {
    /// Its name in the table.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Apache => "Apache 3.9.5",
            Kind::Oxkeeper => "Oxkeeper",
        }
    }

    fn command(self, config: &Path) -> Command {
        match self {
            Kind::Apache => {
                let jars = install::apache_jars();
                let logging = root().join("compat/apache");
                let mut command = Command::new("java");
                command.arg("-Xmx1000m").arg("-cp");
                command.arg(format!("{}:{}/*", logging.display(), jars.display()));
                command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(config);
                command
            }
            Kind::Oxkeeper => {
                let mut command = Command::new(oxkeeper());
                command.arg("server").arg(config);
                command
            }
        }
    }
}

/// One server, running or not.
pub struct Server {
    kind: Kind,
    directory: PathBuf,
    config: String,
    /// Port for clients.
    pub port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts the process; does not wait for it to serve.
    pub fn start(&mut self) -> Outcome {
        let config = self.directory.join("zoo.cfg");
        fs::write(&config, &self.config)?;
        let log =
            File::options().create(true).append(true).open(self.directory.join("server.log"))?;
        let mut command = self.kind.command(&config);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir(&self.directory);
        let child =
            command.spawn().map_err(|error| format!("cannot start {:?}: {error}", command))?;
        self.child = Some(child);
        Ok(())
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for a process that is already gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Changes a line of zoo.cfg from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        self.config.push_str(&format!("{key}={value}\n"));
    }

    /// Where snapshots and logs are.
    pub fn version_2(&self) -> PathBuf {
        self.directory.join("data/version-2")
    }

    /// `host:port` for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until it serves; returns how long that took.
    pub fn wait_serving(&mut self) -> Outcome<Duration> {
        let start = Instant::now();
        while probe::mode(self.port).is_none() {
            let ended = match &mut self.child {
                Some(child) => child.try_wait()?,
                None => return Err(Failure::from("the server was not started")),
            };
            if let Some(status) = ended {
                return Err(self.failure(&format!("ended before it served, {status}")));
            }
            if start.elapsed() > START_LIMIT {
                return Err(self.failure("does not serve"));
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(start.elapsed())
    }

    fn failure(&self, what: &str) -> Failure {
        let log = self.directory.join("server.log");
        Failure(format!(
            "{} on port {} {what}; see {}",
            self.kind.title(),
            self.port,
            log.display()
        ))
    }

    /// User and system time that the process has used.
    pub fn cpu_time(&self) -> Outcome<Duration> {
        let stat = fs::read_to_string(self.proc_file("stat")?)?;
        // The name in brackets may contain blanks; utime and stime are fields 14 and 15, in ticks of 10 ms.
        let fields =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Resident memory in MiB.
    pub fn resident_mib(&self) -> Outcome<f64> {
        let status = fs::read_to_string(self.proc_file("status")?)?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        let kib = line.split_whitespace().nth(1).and_then(|word| word.parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0).ok_or_else(|| self.failure("shows no VmRSS"))
    }

    fn proc_file(&self, name: &str) -> Outcome<PathBuf> {
        let child = self.child.as_ref().ok_or_else(|| self.failure("is not running"))?;
        Ok(PathBuf::from(format!("/proc/{}/{name}", child.id())))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One server, or three that know each other, over fresh or kept directories.
pub struct Ensemble {
    /// In the order of their ids, which start at 1.
    pub servers: Vec<Server>,
}

impl Ensemble {
    /// Lays out `count` servers with empty data, not started.
    pub fn new(kind: Kind, count: usize) -> Outcome<Ensemble> {
        let ensemble = Ensemble::over_existing_data(kind, count)?;
        for server in &ensemble.servers {
            let data = server.directory.join("data");
            fs::remove_dir_all(&data)?;
            fs::create_dir_all(&data)?;
            let id = server.directory.file_name().unwrap_or_default();
            fs::write(data.join("myid"), id.as_encoded_bytes())?;
        }
        Ok(ensemble)
    }

    /// The same over the data that the last use of this kind and count left.
    pub fn over_existing_data(kind: Kind, count: usize) -> Outcome<Ensemble> {
        let mut ports = free_ports(3 * count)?.into_iter();
        let mut port = || ports.next().unwrap_or_default();
        let members: Vec<[u16; 3]> = (0..count).map(|_| [port(), port(), port()]).collect();
        let lines: String = (1..)
            .zip(&members)
            .map(|(id, [client, quorum, election])| {
                format!("server.{id}=127.0.0.1:{quorum}:{election};127.0.0.1:{client}\n")
            })
            .collect();
        let base = target_dir().join("compare").join(format!("{kind:?}-{count}").to_lowercase());
        let mut servers = Vec::new();
        for (id, [client, ..]) in (1..).zip(&members) {
            let directory = base.join(format!("{id}"));
            fs::create_dir_all(directory.join("data"))?;
            let mut config = common_config(&directory.join("data"));
            if count == 1 {
                config.push_str(&format!("clientPort={client}\nclientPortAddress=127.0.0.1\n"));
            } else {
                config.push_str(&lines);
            }
            servers.push(Server { kind, directory, config, port: *client, child: None });
        }
        Ok(Ensemble { servers })
    }

    /// Starts all and waits until all serve.
    pub fn start(&mut self) -> Outcome {
        for server in &mut self.servers {
            server.start()?;
        }
        self.wait_serving()
    }

    /// Waits until all serve.
    pub fn wait_serving(&mut self) -> Outcome {
        for server in &mut self.servers {
            server.wait_serving()?;
        }
        Ok(())
    }

    /// The index of the leader.
    pub fn leader(&self) -> Outcome<usize> {
        let leads = |server: &Server| {
            matches!(probe::mode(server.port).as_deref(), Some("leader" | "standalone"))
        };
        self.servers.iter().position(leads).ok_or_else(|| Failure::from("no server leads"))
    }

    /// The connect string for clients.
    pub fn connect(&self) -> String {
        self.servers.iter().map(Server::address).collect::<Vec<_>>().join(",")
    }

    /// User and system time that all of them have used.
    pub fn cpu_time(&self) -> Outcome<Duration> {
        self.servers.iter().map(Server::cpu_time).sum()
    }
}

/// The same for both kinds: a usual production file, with the limit per client address lifted.
fn common_config(data: &Path) -> String {
    format!(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\nmaxClientCnxns=0\nadmin.enableServer=false\n\
         4lw.commands.whitelist=*\ndataDir={}\n",
        data.display()
    )
}

fn free_ports(count: usize) -> Outcome<Vec<u16>> {
    // Held until all are found, so that none is found twice.
    let held: Vec<TcpListener> = PORTS
        .rev()
        .filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .take(count)
        .collect();
    if held.len() < count {
        return Err(Failure(format!("fewer than {count} free ports in {PORTS:?}")));
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
