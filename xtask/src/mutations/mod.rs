//! `cargo xtask mutations`: rules of the cores, broken one at a time, and who notices.
//!
//! Each row of the tables is a rule, the edits that break it, and the test that must fail then. The
//! simulator and the explorer are run on the same edits, once as they are and once without the
//! production assertions of that rule, so that it shows what the outward checkers find by themselves.
//! All of it happens in a copy under `target/mutations`; the sources are only read.

mod build;
mod checkers;
mod copy;
mod node;
mod replica;
mod report;
mod state;
mod storage;
mod zab;

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::tools::{Failure, Outcome};
use build::Workshop;
use checkers::{Cell, Limits};
use report::{Report, Row};

/// One rule, and how it is broken.
pub struct Mutation {
    /// Short, in words with dashes.
    pub name: &'static str,
    /// Numbers of ZooKeeper's bugs that broke this rule.
    pub bugs: &'static [u32],
    /// One sentence: what holds.
    pub rule: &'static str,
    /// These break it.
    pub edits: &'static [Edit],
    /// These take away, on top, the production assertions of this very rule.
    pub blind: &'static [Edit],
    /// Fails when the rule is broken.
    pub test: Test,
    /// Rules of the simulator (and, by the same names, of the explorer) that should notice; empty if only
    /// the test can.
    pub expected: &'static str,
}

impl Mutation {
    /// Is it in what the explorer runs?
    fn is_of_zab(&self) -> bool {
        let of_zab = |file: &str| file.contains("oxkeeper-zab") || file.contains("oxkeeper-proto");
        self.edits.iter().all(|edit| of_zab(edit.file))
    }

    /// The only scope that the explorer needs to look at, if there is one.
    fn scope(&self) -> Option<&'static str> {
        zab::SCOPES.iter().find(|(name, _)| *name == self.name).map(|(_, scope)| *scope)
    }
}

/// Replaces text that occurs exactly once.
pub struct Edit {
    /// Path in the workspace.
    pub file: &'static str,
    pub find: &'static str,
    pub replace: &'static str,
}

/// [`Edit`] in one line.
const fn edit(file: &'static str, find: &'static str, replace: &'static str) -> Edit {
    Edit { file, find, replace }
}

/// A test: the crate's name without `oxkeeper-`, the test target (`lib` for unit tests), and the path of
/// the test in it.
pub struct Test(pub &'static str, pub &'static str, pub &'static str);

/// All rows, by layer.
fn all() -> impl Iterator<Item = &'static Mutation> {
    let others = [storage::MUTATIONS, state::MUTATIONS, replica::MUTATIONS, node::MUTATIONS];
    zab::TABLES.into_iter().chain(others).flatten()
}

/// Who tries to notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Column {
    /// The named test
    Test,
    /// The simulator
    Sim,
    /// The explorer
    Explore,
}

#[derive(Args)]
pub struct MutationsArgs {
    /// Only these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Threads of the simulator and of the explorer
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Seeds of the simulator for each
    #[arg(long, default_value_t = 300)]
    seeds: u64,
    /// Who tries to notice
    #[arg(long, value_delimiter = ',', default_values = ["test", "sim", "explore"])]
    columns: Vec<Column>,
    /// Also without the production assertions of the rule
    #[arg(long)]
    blind: bool,
    /// Longest run of one program on one mutation, in seconds
    #[arg(long, default_value_t = 120)]
    limit_s: u64,
    /// Further arguments of the explorer, such as `--explorer "--short --minutes 1"`
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    explorer: String,
    /// The table as markdown
    #[arg(long)]
    markdown: bool,
    /// Only tell the rules
    #[arg(long)]
    list: bool,
}

/// The chore.
pub fn run(args: &MutationsArgs) -> Outcome {
    let chosen = choose(&args.only)?;
    if args.list {
        report::list(&chosen);
        return Ok(());
    }
    let workshop = Workshop::open()?;
    let trials = Trials {
        limits: Limits {
            seeds: args.seeds,
            jobs: args.jobs,
            explorer: args.explorer.split_whitespace().map(str::to_owned).collect(),
            time: Duration::from_secs(args.limit_s),
        },
        explorer: workshop.has_explorer(),
        args,
        workshop,
    };
    trials.pass_unbroken(&chosen)?;
    let mut report = Report::begin(args.markdown);
    for mutation in chosen {
        report.row(trials.row(mutation)?);
    }
    report.end()
}

fn choose(only: &[String]) -> Outcome<Vec<&'static Mutation>> {
    if let Some(name) = only.iter().find(|name| !all().any(|known| known.name == name.as_str())) {
        return Err(Failure(format!("there is no mutation {name}; --list tells them")));
    }
    Ok(all().filter(|m| only.is_empty() || only.iter().any(|name| name == m.name)).collect())
}

struct Trials<'a> {
    args: &'a MutationsArgs,
    limits: Limits,
    workshop: Workshop,
    explorer: bool,
}

impl Trials<'_> {
    fn wants(&self, column: Column) -> bool {
        self.args.columns.contains(&column) && (column != Column::Explore || self.explorer)
    }

    /// Who complains anyway notices nothing.
    fn pass_unbroken(&self, chosen: &[&Mutation]) -> Outcome {
        let _whole = self.workshop.edit(&[])?;
        let mut complaints = Vec::new();
        let mut expect_nothing = |who: &str, cell: Cell| {
            if !matches!(cell, Cell::NotFound(_)) {
                complaints.push(format!("{who}: {cell}"));
            }
        };
        for mutation in chosen.iter().filter(|_| self.wants(Column::Test)) {
            let cell = checkers::named_test(&self.workshop, &self.limits, &mutation.test);
            expect_nothing(mutation.test.2, cell);
        }
        if self.wants(Column::Sim) {
            expect_nothing("the simulator", checkers::simulator(&self.workshop, &self.limits));
        }
        if self.wants(Column::Explore) && chosen.iter().any(|mutation| mutation.is_of_zab()) {
            expect_nothing("the explorer", checkers::explorer(&self.workshop, &self.limits, None));
        }
        if complaints.is_empty() {
            return Ok(());
        }
        Err(Failure(format!("without any mutation already:\n{}", complaints.join("\n"))))
    }

    fn row(&self, mutation: &'static Mutation) -> Outcome<Row> {
        let mut row = Row::new(mutation);
        let explores = self.wants(Column::Explore) && mutation.is_of_zab();
        {
            let _edited = self.workshop.edit(&[mutation.edits])?;
            if self.wants(Column::Test) {
                row.test = checkers::named_test(&self.workshop, &self.limits, &mutation.test);
            }
            if self.wants(Column::Sim) {
                row.sim = checkers::simulator(&self.workshop, &self.limits);
            }
            if explores {
                row.explore = checkers::explorer(&self.workshop, &self.limits, mutation.scope());
            }
        }
        if self.args.blind && mutation.blind.is_empty() {
            (row.sim_blind, row.explore_blind) = (row.sim.same(), row.explore.same());
        } else if self.args.blind {
            let _edited = self.workshop.edit(&[mutation.edits, mutation.blind])?;
            if self.wants(Column::Sim) {
                row.sim_blind = checkers::simulator(&self.workshop, &self.limits);
            }
            if explores {
                row.explore_blind =
                    checkers::explorer(&self.workshop, &self.limits, mutation.scope());
            }
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests;
