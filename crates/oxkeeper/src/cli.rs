//! The command line as a whole.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::{bench, ensemble, journal, ready, server_cmd, shell};

const AFTER_HELP: &str = "\
Five minutes:
  oxkeeper ensemble                    three servers on this machine, data in ./oxkeeper-data
  oxkeeper shell create /hello world   in another terminal
  oxkeeper shell get /hello
  oxkeeper bench --workload mixed      how fast is it?

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
    Journal(journal::JournalArgs),
    /// Show version and protocols
    Version,
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Server(args) => return server_cmd::run(args),
        Command::Shell(args) => return shell::run(args),
        Command::Ensemble(args) => ensemble::run(&args),
        Command::Bench(args) => bench::run(args),
        Command::Ready(args) => ready::run(&args),
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
