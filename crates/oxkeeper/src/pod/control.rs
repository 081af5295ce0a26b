//! `oxkeeper control`, `zkServer.sh`: starts, stops and asks a server by its configuration file.
//!
//! Source: `docs/spec/operations.md` 6.1.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use oxkeeper_server::properties::{self, Property};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::fatal::fatal;
use super::script_env::Script;
use super::server_process;
use crate::{four_letter, servers};

const AFTER_HELP: &str = "\
zkServer.sh of the reference: same words, same texts, same exit codes.

  start             run the server in the background; its log is in $ZOO_LOG_DIR
  start-foreground  become the server
  stop              end the server that start has begun
  restart           stop, then start
  status            tell whether it serves, and as what
  version           version
  print-cmd         the command that start would run

The configuration is <dir>/zoo.cfg, where <dir> is that of --config, of $ZOOCFGDIR, ../conf or
../etc/zookeeper beside this program. zookeeper-env.sh and java.env in it are heard; words
-Dname=value in SERVER_JVMFLAGS and JVMFLAGS become properties of the server.

Examples:
  oxkeeper control --config /etc/zookeeper start
  oxkeeper control status ./zoo.cfg";

const USAGE: &str = "Usage: zkServer.sh [--config <conf-dir>] \
                     {start|start-foreground|stop|version|restart|status|print-cmd} [config file]";

/// Time in which a server that cannot start has ended.
const SETTLE: Duration = Duration::from_secs(1);
/// Time between stop and start.
const PAUSE: Duration = Duration::from_secs(3);
/// Limit of a question to the server.
const ASK: Duration = Duration::from_secs(5);

/// The verb by which `start` calls this program again to leave its terminal: not for people.
const DETACHED: &str = "run-detached";

/// Start, stop and ask a server as zkServer.sh does
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ControlArgs {
    /// What to do, and with which configuration
    #[arg(
        value_name = "[--config <dir>] <verb> [config file]",
        allow_hyphen_values = true,
        trailing_var_arg = true
    )]
    args: Vec<String>,
}

/// `oxkeeper control …`
pub fn run(args: ControlArgs) -> ExitCode {
    main(args.args)
}

/// Does what `words` say.
pub fn main(mut words: Vec<String>) -> ExitCode {
    let script = match Script::begin(&mut words) {
        Ok(script) => script,
        Err(text) => {
            eprintln!("{text}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let mut words = words.into_iter();
    let verb = words.next().unwrap_or_default();
    let file = script.config(words.next().as_deref());
    eprintln!("Using config: {}", file.display());
    let control = Control::new(script, file);
    if verb != "version"
        && control.script.env.get("ZOO_DATADIR_AUTOCREATE_DISABLE").is_some()
        && !Path::new(&control.data_dir()).join("version-2").is_dir()
    {
        let dir = control.data_dir();
        println!("ZooKeeper data directory is missing at {dir} fix the path or run initialize");
        return ExitCode::FAILURE;
    }
    if matches!(verb.as_str(), "start" | "start-foreground" | "restart" | "print-cmd" | DETACHED) {
        control.script.findings.iter().for_each(|finding| eprintln!("{finding}"));
    }
    match verb.as_str() {
        "start" => control.start(),
        "start-foreground" => control.foreground(),
        "stop" => control.stop(),
        "restart" => {
            control.stop();
            std::thread::sleep(PAUSE);
            control.start()
        }
        "status" => control.status(),
        "version" => {
            println!("{}", version());
            ExitCode::SUCCESS
        }
        "print-cmd" => control.print_command(),
        DETACHED => control.detached(),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::SUCCESS
        }
    }
}

fn version() -> String {
    let version = oxkeeper_server::VERSION.replace(", built on", "");
    format!("Apache ZooKeeper, version {version}")
}

/// A server as its configuration file describes it.
struct Control {
    script: Script,
    file: PathBuf,
    /// What stands in the file; nothing if it cannot be read, which the server itself tells best.
    entries: Vec<Property>,
}

impl Control {
    fn new(script: Script, file: PathBuf) -> Control {
        let entries = read(&file);
        Control { script, file, entries }
    }

    fn value(&self, key: &str) -> Option<&str> {
        value(&self.entries, key)
    }

    fn data_dir(&self) -> String {
        self.value("dataDir").unwrap_or_default().to_owned()
    }

    fn pid_file(&self) -> PathBuf {
        match self.script.env.get("ZOOPIDFILE") {
            Some(path) => PathBuf::from(path),
            None => Path::new(&self.data_dir()).join("zookeeper_server.pid"),
        }
    }

    /// Where the output of a server in the background goes.
    fn output(&self) -> PathBuf {
        let env = &self.script.env;
        let dir = env.get("ZOO_LOG_DIR").map(PathBuf::from);
        let dir = dir.unwrap_or_else(|| self.script.prefix.join("logs"));
        let user = env.get("USER").unwrap_or_default();
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        dir.join(format!("zookeeper-{user}-server-{host}.out"))
    }

    fn server(&self) -> std::io::Result<Command> {
        let mut words = self.script.env.properties();
        if self.script.env.get("ZOO_DATADIR_AUTOCREATE_DISABLE").is_some() {
            words.insert(0, "-Dzookeeper.datadir.autocreate=false".to_owned());
        }
        server_process::command(&self.file, &words)
    }

    fn start(&self) -> ExitCode {
        print!("Starting zookeeper ... ");
        // A reader that has gone away is not our concern, here and below.
        let _ = std::io::stdout().flush();
        let pid_file = self.pid_file();
        if let Some(pid) = read_pid(&pid_file).filter(|pid| is_alive(*pid)) {
            println!("already running as process {}.", pid.as_raw_nonzero());
            return ExitCode::FAILURE;
        }
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => {
                println!("SERVER DID NOT START");
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        };
        if let Err(error) = write_pid(&pid_file, child.id()) {
            println!("FAILED TO WRITE PID");
            eprintln!("{}: {error}", pid_file.display());
            return ExitCode::FAILURE;
        }
        std::thread::sleep(SETTLE);
        match child.try_wait() {
            Ok(None) => {
                println!("STARTED");
                ExitCode::SUCCESS
            }
            _ => {
                println!("FAILED TO START");
                eprintln!("its output is in {}", self.output().display());
                ExitCode::FAILURE
            }
        }
    }

    /// Starts the server in the background, by way of this program.
    fn spawn(&self) -> std::io::Result<Child> {
        let output = self.output();
        if let Some(dir) = output.parent() {
            fs::create_dir_all(dir)?;
        }
        let log = fs::File::create(&output).map_err(|error| {
            std::io::Error::new(error.kind(), format!("{}: {error}", output.display()))
        })?;
        let errors = log.try_clone()?;
        Command::new(std::env::current_exe()?)
            .arg0("oxkeeper")
            .args(["control", "--config"])
            .arg(&self.script.conf_dir)
            .arg(DETACHED)
            .arg(std::path::absolute(&self.file)?)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
    }

    /// Leaves the terminal, whose end must not be the server's, and becomes the server.
    fn detached(&self) -> ExitCode {
        match rustix::process::setsid() {
            Ok(_) => self.exec(),
            Err(error) => fatal(&format!("cannot leave the terminal: {error}"), 1),
        }
    }

    fn foreground(&self) -> ExitCode {
        if self.script.env.get("ZOO_NOEXEC").is_none() {
            return self.exec();
        }
        match self.server().and_then(|mut command| command.status()) {
            Ok(status) => {
                use std::os::unix::process::ExitStatusExt;
                let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
                code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1).into()
            }
            Err(error) => fatal(&format!("cannot run the server: {error}"), 1),
        }
    }

    fn exec(&self) -> ExitCode {
        let error = match self.server() {
            Ok(mut command) => command.exec(),
            Err(error) => error,
        };
        fatal(&format!("cannot run the server: {error}"), 1)
    }

    fn stop(&self) -> ExitCode {
        print!("Stopping zookeeper ... ");
        let _ = std::io::stdout().flush();
        let pid_file = self.pid_file();
        if !pid_file.is_file() {
            println!("no zookeeper to stop (could not find file {})", pid_file.display());
            return ExitCode::SUCCESS;
        }
        if let Some(pid) = read_pid(&pid_file)
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            eprintln!("process {}: {error}", pid.as_raw_nonzero());
        }
        if let Err(error) = fs::remove_file(&pid_file) {
            eprintln!("{}: {error}", pid_file.display());
        }
        std::thread::sleep(SETTLE);
        println!("STOPPED");
        ExitCode::SUCCESS
    }

    fn print_command(&self) -> ExitCode {
        match self.server() {
            Ok(command) => {
                let line = server_process::line(&command);
                println!("{line} > {} 2>&1 < /dev/null", self.output().display());
                ExitCode::SUCCESS
            }
            Err(error) => fatal(&error.to_string(), 1),
        }
    }

    fn status(&self) -> ExitCode {
        let Some((address, port)) = self.client_port() else {
            if self.value("secureClientPort").is_some() {
                eprintln!("The server has a TLS port only, and this release does not speak TLS");
            } else {
                eprintln!("{} names no client port", self.file.display());
            }
            return ExitCode::FAILURE;
        };
        println!("Client port found: {port}. Client address: {address}. Client SSL: false.");
        let answer = reachable(&address, &port)
            .and_then(|server| four_letter::ask(server, "srvr", ASK).ok())
            .unwrap_or_default();
        match four_letter::mode(&answer) {
            Some(mode) => {
                println!("Mode: {mode}");
                ExitCode::SUCCESS
            }
            None => {
                println!("Error contacting service. It is probably not running.");
                ExitCode::FAILURE
            }
        }
    }

    /// Address and port of the plain client port: from the file, or from this server's line in it, or
    /// in the dynamic file.
    fn client_port(&self) -> Option<(String, String)> {
        if let Some(port) = self.value("clientPort") {
            let address = self.value("clientPortAddress").unwrap_or("localhost");
            return Some((address.to_owned(), port.to_owned()));
        }
        let myid = fs::read_to_string(Path::new(&self.data_dir()).join("myid")).ok()?;
        let key = format!("server.{}", myid.lines().next()?.trim());
        let dynamic = self.value("dynamicConfigFile").map(|path| read(Path::new(path)));
        let dynamic = dynamic.unwrap_or_default();
        let line = self.value(&key).or_else(|| value(&dynamic, &key))?;
        let client = line.split_once(';')?.1;
        Some(match client.rsplit_once(':') {
            Some((address, port)) => (address.to_owned(), port.to_owned()),
            None => ("localhost".to_owned(), client.to_owned()),
        })
    }
}

/// Where to ask a server that listens on `address`.
fn reachable(address: &str, port: &str) -> Option<SocketAddr> {
    let host = match address.trim_matches(['[', ']']) {
        "0.0.0.0" | "::" | "*" => "localhost".to_owned(),
        bare if bare.contains(':') => format!("[{bare}]"),
        bare => bare.to_owned(),
    };
    servers::resolve(&[format!("{host}:{port}")]).ok()?.first().copied()
}

fn read(file: &Path) -> Vec<Property> {
    fs::read(file).ok().and_then(|text| properties::parse(&text).ok()).unwrap_or_default()
}

fn value<'a>(entries: &'a [Property], key: &str) -> Option<&'a str> {
    let found = entries.iter().rev().find(|entry| entry.key == key)?;
    Some(found.value.as_str()).filter(|value| !value.is_empty())
}

fn read_pid(file: &Path) -> Option<Pid> {
    // 0 and negative numbers mean groups of processes.
    Pid::from_raw(fs::read_to_string(file).ok()?.trim().parse().ok().filter(|pid| *pid > 0)?)
}

fn is_alive(pid: Pid) -> bool {
    matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM))
}

fn write_pid(file: &Path, pid: u32) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(file, pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(text: &str) -> (tempfile::TempDir, Control) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zoo.cfg");
        fs::write(&file, format!("dataDir={}\n{text}", dir.path().display())).unwrap();
        let script = Script {
            conf_dir: dir.path().to_owned(),
            prefix: dir.path().to_owned(),
            env: Default::default(),
            findings: Vec::new(),
        };
        let control = Control::new(script, file);
        (dir, control)
    }

    #[test]
    fn the_client_port_is_found_wherever_it_stands() {
        let found = |text: &str| {
            let (dir, control) = control(text);
            fs::write(dir.path().join("myid"), "2\n").unwrap();
            control.client_port()
        };
        let pair = |address: &str, port: &str| Some((address.to_owned(), port.to_owned()));
        assert_eq!(found("clientPort=5\n"), pair("localhost", "5"));
        assert_eq!(found("clientPort=5\nclientPortAddress=::1\n"), pair("::1", "5"));
        let line = "server.2=h:1:2:participant;";
        assert_eq!(found(&format!("{line}7\n")), pair("localhost", "7"));
        assert_eq!(found(&format!("{line}0.0.0.0:7\n")), pair("0.0.0.0", "7"));
        assert_eq!(found(&format!("{line}[::1]:7\n")), pair("[::1]", "7"));
        assert_eq!(found("server.1=h:1:2;7\n"), None);
        let dynamic = tempfile::NamedTempFile::new().unwrap();
        fs::write(dynamic.path(), format!("{line}8\n")).unwrap();
        let text = format!("dynamicConfigFile={}\n", dynamic.path().display());
        assert_eq!(found(&text), pair("localhost", "8"));
    }

    #[test]
    fn a_pid_file_that_names_no_process_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "x", "0", "-1"] {
            fs::write(file.path(), text).unwrap();
            assert_eq!(read_pid(file.path()), None, "{text}");
        }
        fs::write(file.path(), "42\n").unwrap();
        assert_eq!(read_pid(file.path()), Pid::from_raw(42));
    }

    #[test]
    fn the_version_begins_as_tools_expect_it() {
        assert!(version().starts_with("Apache ZooKeeper, version 3.9.5"), "{}", version());
        assert!(!version().contains("built on"));
    }
}
