//! `cargo xtask compare`: Apache ZooKeeper 3.9.5 and Oxkeeper by turns on one machine, with one zoo.cfg and one load.
//!
//! Each row runs its rounds as Apache, Oxkeeper, Apache, Oxkeeper, ..., so that a machine that changes its mood changes
//! it for both. A JVM is warmed until two runs in a row bring no gain. Medians over the rounds go into the table.

mod bench;
mod load;
mod memory;
mod outage;
mod probe;
mod servers;
mod snapshot;
mod table;

use std::fs;

use clap::{Args, ValueEnum};

use self::servers::Kind;
use self::table::Samples;
use crate::install;
use crate::tools::{self, Failure, Outcome, cargo, root};

/// A group of measures that share their set-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Row {
    /// An ensemble of three under 64 connections x 8 outstanding: throughput, p99.9, CPU per operation
    Load,
    /// One connection, one outstanding request: p50
    Single,
    /// A million znodes: resident memory, time to restart
    Memory,
    /// Longest gap in acknowledged writes when the leader is killed
    Failover,
    /// Cold start of three servers until the first write is acknowledged
    ColdStart,
    /// Writes during a snapshot of a million znodes
    Snapshot,
}

/// Measure Apache ZooKeeper 3.9.5 and Oxkeeper side by side
#[derive(Args)]
pub struct CompareArgs {
    /// Rows to measure; all if none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    rows: Vec<Row>,
    /// Kinds to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["apache", "oxkeeper"])]
    kinds: Vec<Kind>,
    /// Rounds per row and kind
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// One round, short runs, 300 000 znodes: to see that it works, not for figures to keep
    #[arg(long)]
    quick: bool,
    /// Print only, leave docs/performance.md as it is
    #[arg(long)]
    no_write: bool,
}

/// How long and how often, after `--quick`.
#[derive(Clone, Copy, Debug)]
struct Effort {
    rounds: usize,
    /// Seconds of a measured run.
    seconds: u64,
    /// Most warming runs of each kind of load.
    warming_runs: usize,
    /// Znodes of the rows about memory and snapshots.
    znodes: u64,
    /// Kills of a leader per round.
    kills: usize,
}

impl CompareArgs {
    fn effort(&self) -> Effort {
        if self.quick {
            return Effort { rounds: 1, seconds: 3, warming_runs: 3, znodes: 300_000, kills: 1 };
        }
        Effort { rounds: self.rounds, seconds: 10, warming_runs: 10, znodes: 1_000_000, kills: 3 }
    }

    fn rows(&self) -> Vec<Row> {
        if self.rows.is_empty() { Row::value_variants().to_vec() } else { self.rows.clone() }
    }
}

/// The chore.
pub fn run(args: &CompareArgs) -> Outcome {
    if std::env::var_os("OXKEEPER_BIN").is_none() {
        tools::run(&mut cargo(&["build", "-q", "--release", "-p", "oxkeeper"]))?;
    }
    if args.kinds.contains(&Kind::Apache) {
        install::run()?;
    }
    let effort = args.effort();
    let mut samples = Samples::default();
    let mut failed = Vec::new();
    for row in args.rows() {
        for round in 1..=effort.rounds {
            for kind in &args.kinds {
                println!("{row:?}, round {round} of {}, {}", effort.rounds, kind.title());
                if let Err(failure) = measure(row, *kind, effort, &mut samples) {
                    println!("  FAILED: {failure}");
                    failed.push(format!("{row:?} of {}: {failure}", kind.title()));
                }
            }
        }
    }
    let table = samples.markdown(&args.kinds);
    println!("\n{table}");
    if !failed.is_empty() {
        return Err(Failure(format!("not measured: {}", failed.join("; "))));
    }
    if args.no_write || args.quick || !args.rows.is_empty() {
        println!("docs/performance.md is left as it is: only a full run writes it.");
        return Ok(());
    }
    fs::write(root().join("docs/performance.md"), page(&table, effort))?;
    Ok(())
}

fn measure(row: Row, kind: Kind, effort: Effort, samples: &mut Samples) -> Outcome {
    match row {
        Row::Load => load::full(kind, effort, samples),
        Row::Single => load::single(kind, effort, samples),
        Row::Memory => memory::measure(kind, effort, samples),
        Row::Failover => outage::failover(kind, effort, samples),
        Row::ColdStart => outage::cold_start(kind, samples),
        Row::Snapshot => snapshot::measure(kind, effort, samples),
    }
}

/// The whole page: a file that only this chore writes.
fn page(table: &str, effort: Effort) -> String {
    let machine = table::machine();
    let rounds = effort.rounds;
    format!(
        "# Performance\n\n\
         Apache ZooKeeper 3.9.5 and Oxkeeper on the same machine, by turns, with the same `zoo.cfg` and the same load. \
         This page is written by\n\n\
         ```sh\ncargo xtask compare\n```\n\n\
         Machine: {machine}, which also carries the load. Medians of {rounds} rounds, in brackets the least and the \
         most. A JVM (`-Xmx1000m`, as its own scripts set it) is warmed by runs of the same load until two in a row \
         bring no gain. CPU time is user and system time of all servers divided by operations.\n\n{table}"
    )
}
