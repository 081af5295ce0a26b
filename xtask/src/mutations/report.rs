//! The table, a row at a time.

use super::Mutation;
use super::checkers::Cell;
use crate::tools::{Failure, Outcome};

/// What all of them have said of one mutation.
pub struct Row {
    mutation: &'static Mutation,
    pub test: Cell,
    pub sim: Cell,
    pub sim_blind: Cell,
    pub explore: Cell,
    pub explore_blind: Cell,
}

impl Row {
    pub fn new(mutation: &'static Mutation) -> Row {
        let [test, sim, sim_blind, explore, explore_blind] = [const { Cell::NotAsked }; 5];
        Row { mutation, test, sim, sim_blind, explore, explore_blind }
    }

    fn cells(&self) -> [&Cell; 5] {
        [&self.test, &self.sim, &self.sim_blind, &self.explore, &self.explore_blind]
    }

    /// What is wrong with this row, if anything: its own test passes, or nothing notices, or it cannot be
    /// tried.
    fn problem(&self) -> Option<&'static str> {
        let unusable = |cell: &&Cell| matches!(cell, Cell::Unusable(_));
        if self.cells().iter().any(unusable) {
            Some("could not be tried")
        } else if self.cells().iter().all(|cell| !cell.caught()) {
            Some("NOTHING NOTICES")
        } else if self.test.asked() && !self.test.caught() {
            Some("ITS OWN TEST PASSES")
        } else {
            None
        }
    }
}

/// The rows so far.
pub struct Report {
    markdown: bool,
    rows: Vec<Row>,
}

const TITLES: [&str; 7] =
    ["mutation", "bugs", "test", "simulator", "simulator, blind", "explorer", "explorer, blind"];
const WIDTHS: [usize; 7] = [44, 20, 8, 36, 36, 36, 36];

impl Report {
    pub fn begin(markdown: bool) -> Report {
        let report = Report { markdown, rows: Vec::new() };
        report.line(&TITLES.map(str::to_owned));
        if markdown {
            report.line(&TITLES.map(|_| "---".to_owned()));
        }
        report
    }

    fn line(&self, cells: &[String; 7]) {
        if self.markdown {
            println!("| {} |", cells.join(" | "));
        } else {
            let padded = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:<width$}"));
            println!("{}", padded.collect::<Vec<_>>().join(" ").trim_end());
        }
    }

    /// Prints a row, at once.
    pub fn row(&mut self, row: Row) {
        let bugs: Vec<String> = row.mutation.bugs.iter().map(u32::to_string).collect();
        let [test, sim, sim_blind, explore, explore_blind] =
            row.cells().map(|cell| cell.to_string().replace('|', "/"));
        let name = row.mutation.name.to_owned();
        self.line(&[name, bugs.join(" "), test, sim, sim_blind, explore, explore_blind]);
        if let Some(problem) = row.problem().filter(|_| !self.markdown) {
            println!("    ^ {problem}: {}", row.mutation.rule);
        }
        self.rows.push(row);
    }

    /// How many were noticed by whom; fails if one was noticed by nothing.
    pub fn end(self) -> Outcome {
        let caught = |cell: fn(&Row) -> &Cell| {
            let asked = self
                .rows
                .iter()
                .map(cell)
                .filter(|cell| cell.asked() || matches!(cell, Cell::Same(_)));
            let asked: Vec<&Cell> = asked.collect();
            format!("{} of {}", asked.iter().filter(|cell| cell.caught()).count(), asked.len())
        };
        println!(
            "\n{} mutations; noticed by the named test {}, simulator {} (blind {}), explorer {} (blind {})",
            self.rows.len(),
            caught(|row| &row.test),
            caught(|row| &row.sim),
            caught(|row| &row.sim_blind),
            caught(|row| &row.explore),
            caught(|row| &row.explore_blind),
        );
        let problems: Vec<String> = self
            .rows
            .iter()
            .filter_map(|row| Some(format!("{}: {}", row.mutation.name, row.problem()?)))
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(Failure(problems.join("\n"))) }
    }
}

/// The rules, without trying them.
pub fn list(mutations: &[&Mutation]) {
    for mutation in mutations {
        println!("{}\n    {}", mutation.name, mutation.rule);
        let bugs: Vec<String> =
            mutation.bugs.iter().map(|bug| format!("ZOOKEEPER-{bug}")).collect();
        if !bugs.is_empty() {
            println!("    {}", bugs.join(", "));
        }
        let test = &mutation.test;
        println!("    test: oxkeeper-{} {} {}", test.0, test.1, test.2);
        if !mutation.expected.is_empty() {
            println!("    expected to notice: {}", mutation.expected);
        }
    }
}
