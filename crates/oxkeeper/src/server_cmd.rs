//! `oxkeeper server`: hands its arguments to the server.

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
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

Exit codes: 2 configuration or arguments, 3 data directory, 14 election port, 143 after TERM,
130 after Ctrl-C, 1 anything else.";

/// Run one server, standalone or as a member of an ensemble
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct ServerArgs {
    /// End when stdin is closed, which is when the process that holds its other end is gone
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    /// Properties, then the configuration file
    #[arg(
        value_name = "-Dkey=value … zoo.cfg",
        allow_hyphen_values = true,
        trailing_var_arg = true,
        required = true
    )]
    args: Vec<String>,
}

/// How long a server may take to end by itself once its parent is gone.
const LIMIT: Duration = Duration::from_secs(6);

/// Runs the server to its end.
pub fn run(args: ServerArgs) -> ExitCode {
    if args.exit_with_parent {
        // Ends with the process.
        std::thread::spawn(end_with_parent);
    }
    match u8::try_from(oxkeeper_server::main(args.args)) {
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
