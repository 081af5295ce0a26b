//! `cargo xtask sim`: the simulator, in release.

use clap::Args;

use crate::tools::{Outcome, cargo};

#[derive(Args)]
pub struct SimArgs {
    /// Arguments of the simulator, such as `--seeds 0..1000 --servers 5`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// The command that builds and runs the simulator with these arguments.
pub fn command(args: &[String]) -> std::process::Command {
    let words =
        ["run", "--quiet", "--release", "-p", "oxkeeper-sim", "--bin", "oxkeeper-sim", "--"];
    let mut command = cargo(&words);
    command.args(args);
    command
}

/// The chore.
pub fn run(args: &SimArgs) -> Outcome {
    crate::tools::run(&mut command(&args.args))
}
