//! `cargo xtask explore`: every short run of three servers, in release.

use clap::Args;

use crate::tools::{Outcome, cargo};

#[derive(Args)]
pub struct ExploreArgs {
    /// Arguments of the explorer, such as `--short`, `--scope join` or `--minutes 10`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// The command that builds and runs the explorer with these arguments.
pub fn command(args: &[String]) -> std::process::Command {
    let words = [
        "run",
        "--quiet",
        "--release",
        "-p",
        "oxkeeper-explore",
        "--bin",
        "oxkeeper-explore",
        "--",
    ];
    let mut command = cargo(&words);
    command.args(args);
    command
}

/// The chore.
pub fn run(args: &ExploreArgs) -> Outcome {
    crate::tools::run(&mut command(&args.args))
}
