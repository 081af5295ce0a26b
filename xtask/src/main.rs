//! Chores of the workspace: `cargo xtask test` is what CI runs, the others are its parts and the measurements.

mod compare;
mod deploy;
mod explore;
mod fuzz;
mod image;
mod install;
mod loc;
mod mutations;
mod sim;
mod stages;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::tools::Outcome;

/// Chores of the workspace
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install what the tests need, then run all of them: what CI runs
    Test(test::TestArgs),
    /// Only install what the black-box tests and `compare` need
    Install,
    /// Simulate whole ensembles from seeds: `cargo xtask sim --seeds 0..1000 --servers 5`
    Sim(sim::SimArgs),
    /// Try every short run of three servers: `cargo xtask explore --short`
    Explore(explore::ExploreArgs),
    /// Run every fuzz target for a while; needs a nightly toolchain
    Fuzz(fuzz::FuzzArgs),
    /// Measure Apache ZooKeeper 3.9.5 and Oxkeeper side by side and write docs/performance.md
    Compare(compare::CompareArgs),
    /// Break rules of the cores one at a time, in a copy, and tell who notices
    Mutations(mutations::MutationsArgs),
    /// Build a container image, without an engine: `cargo xtask image tutorial`
    Image(image::ImageArgs),
    /// Lines of code by crate, tests by level
    Loc,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Test(args) => test::run(&args),
        Chore::Install => install::run(),
        Chore::Sim(args) => sim::run(&args),
        Chore::Explore(args) => explore::run(&args),
        Chore::Fuzz(args) => fuzz::run(&args),
        Chore::Compare(args) => compare::run(&args),
        Chore::Mutations(args) => mutations::run(&args),
        Chore::Image(args) => image::run(&args),
        Chore::Loc => loc::run(),
    };
    report(outcome)
}

fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
