//! The command line as a whole.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::failure::Failure;
use crate::pod::{control, gen_config, metrics, purge, ready, start};
use crate::{bench, ensemble, journal, links, server_cmd, shell};

const AFTER_HELP: &str = "\
Five minutes:
  oxkeeper ensemble                    three servers on this machine, data in ./oxkeeper-data
  oxkeeper shell create /hello world   in another terminal
  oxkeeper shell get /hello
  oxkeeper bench --workload mixed      how fast is it?

In a pod:
  oxkeeper start --servers=3           writes zoo.cfg by the host name, runs the server
  oxkeeper ready 2181                  does it serve?

Under the names start-zookeeper, zookeeper-ready, zookeeper-metrics, zkServer.sh, zkCli.sh,
zkCleanup.sh, zkGenConfig.sh, zkOk.sh and zkMetrics.sh this program does what those do.

`oxkeeper <command> --help` shows more, with examples.";

/// Coordination server that takes the place of Apache ZooKeeper: same clients, same files,
/// same ensemble
#[derive(Parser, Debug)]
#[command(
    name = "oxkeeper",
    version,
    after_help = AFTER_HELP,
    disable_help_subcommand = true,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Server(server_cmd::ServerArgs),
    Ensemble(ensemble::EnsembleArgs),
    Shell(shell::ShellArgs),
    Bench(bench::BenchArgs),
    Ready(ready::ReadyArgs),
    Metrics(metrics::MetricsArgs),
    Start(StartArgs),
    GenConfig(gen_config::GenConfigArgs),
    Control(control::ControlArgs),
    Purge(purge::PurgeArgs),
    Cli(CliArgs),
    Journal(journal::JournalArgs),
    /// Show version and protocols
    Version,
}

/// Make the configuration of a pod and run its server (`start -h` shows the flags)
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
struct StartArgs {
    /// Flags of start-zookeeper
    #[arg(value_name = "--name=value …", allow_hyphen_values = true, trailing_var_arg = true)]
    args: Vec<String>,
}

/// Work with znodes, with the options and the output of zkCli.sh
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
struct CliArgs {
    /// Options and command of zkCli.sh
    #[arg(value_name = "-option … command …", allow_hyphen_values = true, trailing_var_arg = true)]
    args: Vec<String>,
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    if let Some(called) = words.next() {
        let words: Vec<_> = words.collect();
        if let Some(code) = links::run(&called, &words) {
            return code;
        }
    }
    let result = match Cli::parse().command {
        Command::Server(args) => return server_cmd::run(args),
        Command::Shell(args) => return shell::run(args),
        Command::Ensemble(args) => ensemble::run(&args),
        Command::Bench(args) => bench::run(args),
        Command::Start(args) => return start_pod(&args.args),
        Command::Control(args) => return control::run(args),
        Command::Purge(args) => return purge::run(args),
        Command::Cli(args) => return shell::zk_cli(args.args),
        Command::Ready(args) => ready::run(&args),
        Command::Metrics(args) => metrics::run(&args),
        Command::GenConfig(_) => gen_config::run(),
        Command::Journal(args) => journal::run(args),
        Command::Version => {
            print!("{}", version());
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(&failure),
    }
}

/// `oxkeeper start`, where `--help` helps as it does everywhere here; for `start-zookeeper` it is an
/// unknown option.
fn start_pod(words: &[String]) -> ExitCode {
    match words {
        [word] if word == "--help" => start::main(&["-h".to_owned()]),
        words => start::main(words),
    }
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("{failure}");
    failure.code.into()
}

fn version() -> String {
    format!(
        "oxkeeper {}\n\
         clients          ZooKeeper 3.4 to 3.9 (client protocol 0)\n\
         ensemble         Apache ZooKeeper 3.8 and 3.9 (quorum protocol 0x10000, election 2)\n\
         data directory   Apache ZooKeeper 3.4 to 3.9 (log and snapshot version 2)\n",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn version_names_every_border() {
        let expected = format!(
            "\
oxkeeper {}
clients          ZooKeeper 3.4 to 3.9 (client protocol 0)
ensemble         Apache ZooKeeper 3.8 and 3.9 (quorum protocol 0x10000, election 2)
data directory   Apache ZooKeeper 3.4 to 3.9 (log and snapshot version 2)
",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(version(), expected);
    }

    fn error(args: &[&str]) -> String {
        let args = std::iter::once("oxkeeper").chain(args.iter().copied());
        Cli::try_parse_from(args).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_argument_is_named_with_what_would_be_right() {
        assert_eq!(
            error(&["bench", "--connections", "0"]),
            "error: invalid value '0' for '--connections <N>': must be a whole number of at least \
             1\n\nFor more information, try '--help'.\n"
        );
        let text = error(&["bensh"]);
        assert!(text.contains("a similar subcommand exists: 'bench'"), "{text}");
        assert!(error(&["server"]).contains("zoo.cfg"), "{}", error(&["server"]));
    }

    #[test]
    fn server_words_reach_the_server_as_they_are() {
        let args = ["oxkeeper", "server", "-Da=b", "-Xmx1g", "zoo.cfg"];
        let Command::Server(args) = Cli::try_parse_from(args).unwrap().command else {
            panic!("not a server command")
        };
        let text = format!("{args:?}");
        assert!(text.contains(r#"["-Da=b", "-Xmx1g", "zoo.cfg"]"#), "{text}");
        assert!(text.contains("exit_with_parent: false"), "{text}");
        let args = ["oxkeeper", "server", "--exit-with-parent", "zoo.cfg"];
        let text = format!("{:?}", Cli::try_parse_from(args).unwrap().command);
        assert!(text.contains("exit_with_parent: true"), "{text}");
    }
}
