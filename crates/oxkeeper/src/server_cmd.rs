//! `oxkeeper server`: hands its arguments to the server.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use oxkeeper_server::LogFormat;
use rustix::process::{Signal, getpid, kill_process};

const AFTER_HELP: &str = "\
The configuration file is an Apache ZooKeeper zoo.cfg; a data directory of Apache ZooKeeper can be
used as it is. -Dname=value sets a property before the file is read; flags of a JVM are ignored.

Examples:
  oxkeeper server conf/zoo.cfg
  oxkeeper server -Djute.maxbuffer=4194304 -Dzookeeper.snapCount=50000 conf/zoo.cfg

A file to begin with:
  tickTime=2000
  dataDir=/var/lib/oxkeeper
  clientPort=2181

How much is logged: RUST_LOG, else -Dzookeeper.console.threshold=WARN or the like, else the level
in log4j.properties or logback.xml beside zoo.cfg, else INFO.

Exit codes: 2 configuration or arguments, 3 data directory, 10 snapshot not written, 14 election
port, 143 after TERM, 130 after Ctrl-C, 129 after HUP, 1 anything else.";

/// Run one server, standalone or as a member of an ensemble
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ServerArgs {
    /// End when stdin is closed, which is when the process that holds its other end is gone
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    /// Shape of the log's lines on stdout
    #[arg(long, env = "OXKEEPER_LOG_FORMAT", value_enum, default_value = "pattern")]
    log_format: Format,
    /// Properties, then the configuration file
    #[arg(
        value_name = "-Dkey=value … zoo.cfg",
        allow_hyphen_values = true,
        trailing_var_arg = true,
        required = true
    )]
    args: Vec<String>,
}

/// Log lines as ZooKeeper writes them, or one JSON object a line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Pattern,
    Json,
}

/// How long a server may take to end by itself once its parent is gone.
const LIMIT: Duration = Duration::from_secs(6);

/// Runs the server to its end.
pub fn run(args: ServerArgs) -> ExitCode {
    if args.exit_with_parent {
        // Ends with the process.
        std::thread::spawn(end_with_parent);
    }
    let format = match args.log_format {
        Format::Pattern => LogFormat::Pattern,
        Format::Json => LogFormat::Json,
    };
    match u8::try_from(oxkeeper_server::main(args.args, format)) {
        Ok(code) => code.into(),
        Err(_) => ExitCode::FAILURE,
    }
}

fn end_with_parent() {
    let mut buf = [0; 64];
    // Bytes have no meaning; the end of input or an error says that the parent is gone.
    while matches!(std::io::stdin().read(&mut buf), Ok(n) if n > 0) {}
    let asked = kill_process(getpid(), Signal::TERM);
    if asked.is_ok() {
        std::thread::sleep(LIMIT);
    }
    std::process::exit(143);
}
