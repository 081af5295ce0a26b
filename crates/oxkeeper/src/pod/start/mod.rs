//! `oxkeeper start`, `start-zookeeper`: makes the configuration of a pod and runs its server.
//!
//! Source: `docs/spec/kubernetes.md` 3.2, 4.1.

pub mod files;
pub mod identity;
pub mod options;

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use self::files::{Kept, Member};
use self::identity::Host;
use self::options::{Options, Request};
use super::fatal::fatal;
use super::script_env::{self, ScriptEnv};
use super::server_process;
use super::supervise::Supervisor;

/// Exit code for a data directory that cannot be used (`docs/spec/operations.md` 9.1).
const DATA_DIR: u8 = 3;

/// Runs `start-zookeeper` with these words; does not return if it becomes the server.
pub fn main(words: &[String]) -> ExitCode {
    let options = match options::parse(words, super::variable) {
        Ok(Request::Help) => {
            // A reader that has gone away is not our concern.
            let _ = std::io::stdout().write_all(options::usage().as_bytes());
            return ExitCode::SUCCESS;
        }
        Ok(Request::PrintConfig(options)) => return print_config(&options),
        Ok(Request::Start(options)) => options,
        Err(text) => return fatal(&text, 1),
    };
    // First of all, so that no signal is lost while files are made.
    let supervisor = match Supervisor::if_needed() {
        Ok(supervisor) => supervisor,
        Err(error) => return fatal(&format!("cannot catch signals: {error}"), 1),
    };
    match prepare(&options) {
        Ok(command) => run(supervisor, command),
        Err((text, code)) => fatal(&text, code),
    }
}

fn print_config(options: &Options) -> ExitCode {
    match files::membership(options, &Host::this()) {
        Ok(member) => {
            let text = files::zoo_cfg(options, member.as_ref());
            // A reader that has gone away is not our concern.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(text) => fatal(&text, 1),
    }
}

/// Makes everything that the server needs, and the command that runs it; an error with its exit code.
fn prepare(options: &Options) -> Result<Command, (String, u8)> {
    let member = files::membership(options, &Host::this()).map_err(|text| (text, 1))?;
    let zoo_cfg = files::zoo_cfg(options, member.as_ref());
    eprint!("{zoo_cfg}");
    println!("Creating ZooKeeper log4j configuration");
    let generated = [
        ("zoo.cfg", zoo_cfg),
        ("java.env", files::java_env(options)),
        ("log4j.properties", files::log4j_properties(&options.log_level)),
    ];
    let user = rustix::process::geteuid().as_raw();
    let private = format!("oxkeeper-{user}-{}", options.client_port);
    let kept = files::keep(Path::new(&options.conf_dir), &fallbacks(), &private, &generated)
        .map_err(|error| (format!("cannot keep the configuration anywhere: {error}"), 1))?;
    if let Some(warning) = &kept.warning {
        eprintln!("warning: {warning}");
    }
    make_directories(options, member.as_ref())?;
    server(options, kept).map_err(|error| (format!("cannot run the server: {error}"), 1))
}

/// Where the configuration goes if its own directory cannot be written.
fn fallbacks() -> Vec<PathBuf> {
    let temporary = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    temporary.into_iter().chain(["/tmp".into(), "/dev/shm".into()]).collect()
}

/// Makes the directories and `myid`.
pub fn make_directories(options: &Options, member: Option<&Member>) -> Result<(), (String, u8)> {
    let cannot = |dir: &str, error: std::io::Error| {
        let text = format!(
            "cannot make {dir}: {error}. Give its parent to the user that runs this server (in a pod: \
             fsGroup), or mount a volume there"
        );
        (text, DATA_DIR)
    };
    let data_dir = Path::new(&options.data_dir);
    files::make_data_dir(data_dir).map_err(|error| cannot(&options.data_dir, error))?;
    fs::create_dir_all(&options.data_log_dir)
        .map_err(|error| cannot(&options.data_log_dir, error))?;
    // The log goes to stdout: without this directory nothing is missing.
    let _ = fs::create_dir_all(&options.log_dir);
    match member {
        Some(member) => files::keep_myid(data_dir, member.myid).map_err(|text| (text, 1)),
        None => Ok(()),
    }
}

/// The command that runs the server.
fn server(options: &Options, kept: Kept) -> std::io::Result<Command> {
    let conf_dir = kept.zoo_cfg.parent().unwrap_or(Path::new("/"));
    let mut env = ScriptEnv::of_process();
    // What the pod was given, and then what stands beside zoo.cfg.
    let given = [env.get("SERVER_JVMFLAGS"), env.get("JVMFLAGS")].map(Option::unwrap_or_default);
    let mut properties = server_process::properties(given.iter().map(String::as_str));
    if !kept.in_memory {
        for finding in script_env::read_files(conf_dir, &mut env) {
            eprintln!("{finding}");
        }
        for word in env.properties() {
            if !properties.contains(&word) {
                properties.push(word);
            }
        }
    }
    let mut command = server_process::command(&kept.zoo_cfg, &properties)?;
    if let Some(format) = &options.log_format {
        command.env("OXKEEPER_LOG_FORMAT", format);
    }
    if kept.in_memory && std::env::var_os("RUST_LOG").is_none() {
        // log4j.properties, which would say it, is nowhere.
        let level = if options.log_level == "FATAL" { "ERROR" } else { &options.log_level };
        command.env("RUST_LOG", level.to_ascii_lowercase());
    }
    if let Some(memory) = kept.memory {
        // Stays open for the server, which reads it by its number.
        std::mem::forget(memory);
    }
    Ok(command)
}

/// Runs the server as a child, or becomes it.
fn run(supervisor: Option<Supervisor>, mut command: Command) -> ExitCode {
    let error = match supervisor {
        Some(supervisor) => match supervisor.run(command) {
            Ok(code) => return code.into(),
            Err(error) => error,
        },
        None => command.exec(),
    };
    fatal(&format!("cannot run the server: {error}"), 1)
}
