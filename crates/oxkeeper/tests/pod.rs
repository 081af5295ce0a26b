//! The commands of a pod as processes: links, supervisor, probe, scripts. Loopback and temporary
//! directories only.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

/// An installation of its own: `bin` with the program and a link per name.
struct Image {
    dir: TempDir,
}

impl Image {
    fn new() -> Image {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let (program, copy) = (env!("CARGO_BIN_EXE_oxkeeper"), bin.join("oxkeeper"));
        fs::hard_link(program, &copy).or_else(|_| fs::copy(program, &copy).map(drop)).unwrap();
        for name in [
            "start-zookeeper",
            "zookeeper-ready",
            "zookeeper-metrics",
            "zkServer.sh",
            "zkCleanup.sh",
            "zkGenConfig.sh",
            "zkOk.sh",
        ] {
            symlink("oxkeeper", bin.join(name)).unwrap();
        }
        Image { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Makes the process of the server have its name.
    fn name_server(&self) {
        symlink("oxkeeper", self.path("bin/oxkeeper-java")).unwrap();
    }

    /// Puts a shell script where the server would be; its arguments are the server's.
    fn replace_server(&self, script: &str) {
        // The word `server` is the file that the shell reads.
        symlink("/bin/sh", self.path("bin/oxkeeper-java")).unwrap();
        fs::write(self.path("server"), script).unwrap();
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path("bin").join(name));
        command
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()))
            .env("OXKEEPER_TERMINATION_LOG", self.path("termination-log"))
            .stdin(Stdio::null());
        command
    }

    fn output(&self, name: &str, words: &[&str]) -> Output {
        self.command(name).args(words).output().unwrap()
    }

    fn start_words(&self, port: u16) -> Vec<String> {
        let dir = self.dir.path().display();
        vec![
            format!("--client_port={port}"),
            format!("--data_dir={dir}/data"),
            format!("--data_log_dir={dir}/log"),
            format!("--log_dir={dir}/logs"),
            format!("--conf_dir={dir}/conf"),
        ]
    }

    /// `start-zookeeper` as if it were process 1.
    fn supervisor(&self, port: u16) -> Process {
        let mut command = self.command("start-zookeeper");
        command.args(self.start_words(port)).env("OXKEEPER_SUPERVISE", "1");
        Process::spawn(command, &self.path("out"))
    }
}

/// A process with its descendants in a group, all of which end with this value.
struct Process {
    child: Child,
    out: PathBuf,
}

impl Process {
    fn spawn(mut command: Command, out: &Path) -> Process {
        let file = File::create(out).unwrap();
        let errors = file.try_clone().unwrap();
        let child = command.process_group(0).stdout(file).stderr(errors).spawn().unwrap();
        Process { child, out: out.to_owned() }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    fn end(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < LIMIT, "it does not end: {}", self.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn children(pid: Pid) -> Vec<Pid> {
    let pid = pid.as_raw_nonzero();
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}

fn comm(pid: Pid) -> String {
    let path = format!("/proc/{}/comm", pid.as_raw_nonzero());
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A standalone server under a supervisor, which answers its probe.
fn serving(image: &Image) -> (Process, Pid, String) {
    image.name_server();
    let port = free_port();
    let process = image.supervisor(port);
    let port = port.to_string();
    until("the server is ready", || image.output("zookeeper-ready", &[&port]).status.success());
    let found = children(process.pid());
    assert_eq!(found.len(), 1, "{}", process.output());
    (process, found[0], port)
}

#[test]
fn a_pod_starts_serves_and_ends_with_143_when_told_to() {
    let image = Image::new();
    let (mut process, server, port) = serving(&image);
    assert_eq!(comm(process.pid()), "start-zookeeper");
    assert_eq!(comm(server), "oxkeeper-java");
    let ready = image.output("zookeeper-ready", &["--quorum", &port]);
    assert!(ready.status.success() && ready.stdout.is_empty() && ready.stderr.is_empty());
    let metrics = image.output("zookeeper-metrics", &[&port]);
    assert!(text(&metrics.stdout).contains("zk_server_state\tstandalone"), "{metrics:?}");
    assert_eq!(image.text("conf/log4j.properties").lines().count(), 7);
    let cfg = image.text("conf/zoo.cfg");
    assert!(process.output().contains(&cfg), "zoo.cfg is shown: {}", process.output());
    assert!(!image.path("data/myid").exists());
    process.signal(Signal::TERM);
    assert_eq!(process.end().code(), Some(143), "{}", process.output());
    assert!(!image.output("zookeeper-ready", &[&port]).status.success());
}

#[test]
fn a_lingering_pod_stays_after_term_though_its_server_has_ended() {
    let image = Image::new();
    image.name_server();
    let port = free_port();
    let mut command = image.command("start-zookeeper");
    command.args(image.start_words(port)).env("OXKEEPER_SUPERVISE", "1");
    command.env("OXKEEPER_LINGER_MS", "1000");
    let mut process = Process::spawn(command, &image.path("out"));
    let port = port.to_string();
    until("the server is ready", || image.output("zookeeper-ready", &[&port]).status.success());
    let told = Instant::now();
    process.signal(Signal::TERM);
    until("the server has ended", || children(process.pid()).is_empty());
    assert!(told.elapsed() < Duration::from_secs(1), "the server does not linger");
    assert_eq!(process.end().code(), Some(143), "{}", process.output());
    assert!(told.elapsed() >= Duration::from_secs(1));
}

#[test]
fn the_pod_ends_when_its_server_is_ended() {
    let image = Image::new();
    let (mut process, server, _) = serving(&image);
    kill_process(server, Signal::TERM).unwrap();
    assert_eq!(process.end().code(), Some(143), "{}", process.output());
    let image = Image::new();
    fs::write(image.path("termination-log"), "").unwrap();
    let (mut process, server, _) = serving(&image);
    kill_process(server, Signal::KILL).unwrap();
    assert_eq!(process.end().code(), Some(137), "{}", process.output());
    assert!(image.text("termination-log").contains("killed"));
}

#[test]
fn a_process_other_than_1_becomes_the_server() {
    let image = Image::new();
    image.replace_server("echo \"$$ $*\"\nexit 7\n");
    let mut command = image.command("start-zookeeper");
    command.args(image.start_words(1)).env("SERVER_JVMFLAGS", "-Xmx1g -Da.b=c");
    let mut process = Process::spawn(command, &image.path("out"));
    assert_eq!(process.end().code(), Some(7), "{}", process.output());
    let line = format!("{} -Da.b=c {}\n", process.child.id(), image.path("conf/zoo.cfg").display());
    assert!(process.output().ends_with(&line), "{}", process.output());
}

#[test]
fn the_supervisor_passes_signals_on_and_ends_as_its_child_does() {
    for (signal, name, code) in [
        (Signal::TERM, "TERM", 41),
        (Signal::INT, "INT", 42),
        (Signal::HUP, "HUP", 43),
        (Signal::QUIT, "QUIT", 44),
    ] {
        let image = Image::new();
        image.replace_server(&format!(
            "trap 'exit {code}' {name}\n: > up\nwhile :; do sleep 0.05; done\n"
        ));
        let mut process = image.supervisor(1);
        until("the server is up", || image.path("up").exists());
        process.signal(signal);
        assert_eq!(process.end().code(), Some(code), "{name}");
    }
}

#[test]
fn orphans_are_reaped_while_the_server_runs() {
    let image = Image::new();
    image.replace_server("( sleep 0.2 & echo $! > orphan )\nwhile :; do sleep 1; done\n");
    let mut process = image.supervisor(1);
    let mut orphan = None;
    until("there is an orphan", || {
        let text = fs::read_to_string(image.path("orphan")).unwrap_or_default();
        orphan = text.strip_suffix('\n').and_then(|pid| Pid::from_raw(pid.parse().ok()?));
        orphan.is_some()
    });
    // A process that has ended and is not waited for would still be there.
    until("it is gone", || test_kill_process(orphan.unwrap()).is_err());
    assert!(process.child.try_wait().unwrap().is_none());
    process.signal(Signal::TERM);
    assert_eq!(process.end().code(), Some(143));
}

#[test]
fn a_signal_that_comes_at_once_is_not_lost() {
    for wait in [0, 1, 2, 4, 8, 16, 32] {
        let image = Image::new();
        image.replace_server("while :; do sleep 1; done\n");
        let mut process = image.supervisor(1);
        // From here on a real process 1 would hear signals.
        let status = format!("/proc/{}/status", process.child.id());
        until("signals are caught", || {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
            u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << 14) != 0
        });
        std::thread::sleep(Duration::from_millis(wait));
        process.signal(Signal::TERM);
        assert_eq!(process.end().code(), Some(143), "after {wait} ms: {}", process.output());
    }
}

#[test]
fn the_exit_code_of_the_server_is_that_of_the_pod() {
    let image = Image::new();
    image.replace_server("exit 3\n");
    assert_eq!(image.supervisor(1).end().code(), Some(3));
}

#[test]
fn wrong_flags_end_with_1_and_a_line_for_kubernetes() {
    let image = Image::new();
    fs::write(image.path("termination-log"), "").unwrap();
    let found = image.output("start-zookeeper", &["--help"]);
    assert_eq!(found.status.code(), Some(1));
    assert_eq!(text(&found.stderr), "Unknown option --help\n");
    let found = image.output("start-zookeeper", &["--client_port=x"]);
    assert_eq!(found.status.code(), Some(1));
    assert!(image.text("termination-log").starts_with("--client_port: \"x\" is not a number"));
    let found = image.output("start-zookeeper", &["-h"]);
    assert!(found.status.success() && text(&found.stdout).contains("--max_client_cnxns"));
    assert!(image.output("oxkeeper", &["start", "--help"]).status.success());
    let found = image.output("start-zookeeper", &["--print-config", "--client_port=5"]);
    assert!(found.status.success());
    assert!(text(&found.stdout).contains("\nclientPort=5\n"));
}

#[test]
fn a_probe_says_nothing_unless_it_is_used_wrongly() {
    let image = Image::new();
    let found = image.output("zookeeper-ready", &[&free_port().to_string()]);
    assert_eq!(found.status.code(), Some(1));
    assert!(found.stdout.is_empty() && found.stderr.is_empty());
    let found = image.output("zookeeper-ready", &[]);
    assert_eq!(found.status.code(), Some(1));
    assert!(text(&found.stderr).contains("usage: zookeeper-ready"));
}

#[test]
fn an_older_manifest_generates_and_then_becomes_the_server() {
    let image = Image::new();
    image.replace_server("echo \"server $*\"\n");
    let dir = image.dir.path().display();
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "zkGenConfig.sh && zkServer.sh start-foreground"])
        .current_dir(image.dir.path())
        .env_clear()
        .env("PATH", format!("{dir}/bin:/usr/bin:/bin"))
        .env("ZK_CONF_DIR", format!("{dir}/conf"))
        .env("ZK_DATA_DIR", format!("{dir}/data"))
        .env("ZK_DATA_LOG_DIR", format!("{dir}/log"))
        .env("ZK_LOG_DIR", format!("{dir}/logs"));
    let found = command.output().unwrap();
    assert_eq!(found.status.code(), Some(1), "{found:?}");
    assert!(text(&found.stderr).contains("neither ZK_REPLICAS nor ZK_ENSEMBLE is set"));
    let found = command.env("ZK_REPLICAS", "1").output().unwrap();
    assert!(found.status.success(), "{found:?}");
    let out = text(&found.stdout);
    assert!(out.contains("ZK_CLIENT_PORT=2181\n"), "{out}");
    assert!(out.ends_with(&format!("server {dir}/conf/zoo.cfg\n")), "{out}");
    assert!(text(&found.stderr).ends_with(&format!("Using config: {dir}/conf/zoo.cfg\n")));
}

#[test]
fn zk_server_starts_asks_and_stops_a_server() {
    let image = Image::new();
    image.name_server();
    let (dir, port) = (image.dir.path().display().to_string(), free_port());
    fs::create_dir(image.path("conf")).unwrap();
    let cfg = format!("tickTime=2000\ndataDir={dir}/data\nclientPort={port}\n");
    fs::write(image.path("conf/zoo.cfg"), cfg).unwrap();
    let script = |verb: &str| {
        let found = image.output("zkServer.sh", &[verb]);
        assert_eq!(text(&found.stderr), format!("Using config: {dir}/conf/zoo.cfg\n"));
        (found.status.code().unwrap(), text(&found.stdout))
    };
    let asked =
        format!("Client port found: {port}. Client address: localhost. Client SSL: false.\n");
    let down = format!("{asked}Error contacting service. It is probably not running.\n");
    assert_eq!(script("status"), (1, down));
    let pid_file = image.path("data/zookeeper_server.pid");
    let none = format!(
        "Stopping zookeeper ... no zookeeper to stop (could not find file {})\n",
        pid_file.display()
    );
    assert_eq!(script("stop"), (0, none));
    assert_eq!(script("start"), (0, "Starting zookeeper ... STARTED\n".to_owned()));
    let pid = Pid::from_raw(image.text("data/zookeeper_server.pid").parse().unwrap()).unwrap();
    let _guard = KillOnDrop(pid);
    assert_eq!(comm(pid), "oxkeeper-java");
    assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), pid);
    let running =
        format!("Starting zookeeper ... already running as process {}.\n", pid.as_raw_nonzero());
    assert_eq!(script("start"), (1, running));
    until("it serves", || script("status").0 == 0);
    assert_eq!(script("status").1, format!("{asked}Mode: standalone\n"));
    assert_eq!(script("stop"), (0, "Stopping zookeeper ... STOPPED\n".to_owned()));
    assert!(!pid_file.exists());
    let (code, line) = script("print-cmd");
    assert!(code == 0 && line.contains("bin/oxkeeper-java server "), "{line}");
    assert!(script("version").1.starts_with("Apache ZooKeeper, version 3.9.5"));
}

struct KillOnDrop(Pid);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Only while the number is still that of the server.
        if comm(self.0) == "oxkeeper-java" {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }
}

#[test]
fn a_server_that_cannot_start_is_told() {
    let image = Image::new();
    image.replace_server("exit 2\n");
    fs::create_dir(image.path("conf")).unwrap();
    let dir = image.dir.path().display();
    fs::write(image.path("conf/zoo.cfg"), format!("dataDir={dir}/data\n")).unwrap();
    let found = image.output("zkServer.sh", &["start"]);
    assert_eq!(found.status.code(), Some(1));
    assert_eq!(text(&found.stdout), "Starting zookeeper ... FAILED TO START\n");
    let found = image
        .command("zkServer.sh")
        .arg("start-foreground")
        .env("ZOO_DATADIR_AUTOCREATE_DISABLE", "1")
        .output()
        .unwrap();
    assert_eq!(found.status.code(), Some(1));
    assert_eq!(
        text(&found.stdout),
        format!(
            "ZooKeeper data directory is missing at {dir}/data fix the path or run initialize\n"
        )
    );
    let found = image.output("zkServer.sh", &[]);
    assert!(found.status.success() && text(&found.stderr).contains("Usage: zkServer.sh"));
}

#[test]
fn variables_beside_the_configuration_reach_the_server() {
    let image = Image::new();
    image.replace_server("echo \"$*\"\nkill -TERM $$\n");
    fs::create_dir(image.path("other")).unwrap();
    let env = "export SERVER_JVMFLAGS=\"-Xmx1g\n  -Da=1\"\nSERVER_JVMFLAGS+=\" -Dc=3\"\n\
               ZOOCFG=my.cfg\nif false; then\n  JVMFLAGS=-Dzookeeper.skipACL=yes\nfi\n";
    fs::write(image.path("other/zookeeper-env.sh"), env).unwrap();
    fs::write(image.path("other/java.env"), "JVMFLAGS='-Db=2'\n").unwrap();
    let mut found = image.command("zkServer.sh");
    let found = found.args(["--config", "other", "start-foreground"]).output().unwrap();
    assert_eq!(found.status.signal(), Some(15));
    assert_eq!(text(&found.stdout), "-Da=1 -Dc=3 -Db=2 other/my.cfg\n");
    let said = text(&found.stderr);
    assert!(said.contains("error: other/zookeeper-env.sh line 5: not applied: "), "{said}");
}

#[test]
fn cleanup_keeps_three_snapshots_and_says_what_it_removes() {
    let image = Image::new();
    let found = image.output("zkCleanup.sh", &["-n", "2"]);
    assert_eq!(found.status.code(), Some(1));
    assert!(text(&found.stdout).starts_with("Usage: "));
    assert!(text(&found.stderr).contains("count should be greater than or equal to 3"));
    let version = image.path("data/version-2");
    fs::create_dir_all(&version).unwrap();
    for n in 1..=5 {
        // A header, and the seal at the end by which a whole snapshot is known.
        let mut snapshot = b"ZKSN\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
        snapshot.extend_from_slice(&[0; 16]);
        snapshot.extend_from_slice(b"\0\0\0\x01/");
        fs::write(version.join(format!("snapshot.{n}")), snapshot).unwrap();
    }
    let data = image.path("data").display().to_string();
    let found = image.output("zkCleanup.sh", &[&data, "-n", "3"]);
    assert!(found.status.success(), "{found:?}");
    let out = text(&found.stdout);
    let removed: Vec<_> =
        out.lines().map(|line| line.rsplit('/').next().unwrap_or_default()).collect();
    assert_eq!(removed, ["snapshot.1", "snapshot.2"], "{out}");
    assert!(out.lines().all(|line| line.starts_with("Removing file: ") && line.contains("\t/")));
    let left = fs::read_dir(&version).unwrap().count();
    assert_eq!(left, 3);
    let found = image.output("zkCleanup.sh", &[&data, "-n", "3"]);
    assert!(found.status.success() && found.stdout.is_empty());
}

#[test]
fn a_probe_gives_up_on_a_server_that_says_nothing() {
    // A server that accepts and says nothing: the probe gives up by itself.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port().to_string();
    let image = Image::new();
    let begin = Instant::now();
    let found = image.output("zookeeper-ready", &[&port]);
    assert_eq!(found.status.code(), Some(1));
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let (mut stream, _) = silent.accept().unwrap();
    let mut asked = [0; 4];
    stream.read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"ruok", "and it opens no session");
}
