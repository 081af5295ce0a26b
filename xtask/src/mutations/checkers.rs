//! The named test, the simulator and the explorer, and what their output says.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::Test;
use super::build::{DoesNotBuild, Ended, Workshop};

/// How far programs go.
pub struct Limits {
    pub seeds: u64,
    pub jobs: usize,
    /// Further arguments of the explorer.
    pub explorer: Vec<String>,
    pub time: Duration,
}

/// What one of them has said of a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Was not asked.
    NotAsked,
    /// The rule has no assertion of its own: as with it.
    Same(Box<Cell>),
    /// Notices.
    Caught { rule: String, after: String },
    /// Does not notice; how far it went.
    NotFound(String),
    /// The mutation is not valid code, or there is no such test or program.
    Unusable(String),
}

impl Cell {
    /// Does it count as noticed?
    pub fn caught(&self) -> bool {
        match self {
            Cell::Caught { .. } => true,
            Cell::Same(cell) => cell.caught(),
            _ => false,
        }
    }

    /// Was it asked, and answered?
    pub fn asked(&self) -> bool {
        matches!(self, Cell::Caught { .. } | Cell::NotFound(_))
    }

    /// For a column that would only repeat this one.
    pub fn same(&self) -> Cell {
        if self.asked() { Cell::Same(Box::new(self.clone())) } else { self.clone() }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Cell::NotAsked => "-".to_owned(),
            Cell::Same(_) => "same".to_owned(),
            Cell::Caught { rule, after } if after.is_empty() => rule.clone(),
            Cell::Caught { rule, after } => format!("{rule}, {after}"),
            Cell::NotFound(how_far) => format!("not found ({how_far})"),
            Cell::Unusable(why) => format!("UNUSABLE: {why}"),
        };
        f.pad(&text)
    }
}

/// Runs the named test.
pub fn named_test(workshop: &Workshop, limits: &Limits, test: &Test) -> Cell {
    let words = ["--exact", test.2].map(str::to_owned);
    run(workshop, workshop.test(test), &words, limits, |text, code| {
        if !text.contains("running 1 test\n") {
            return Cell::Unusable(format!("no test {} in {} {}", test.2, test.0, test.1));
        }
        match code {
            Some(0) => Cell::NotFound("passes".to_owned()),
            _ => Cell::Caught { rule: "fails".to_owned(), after: String::new() },
        }
    })
}

/// Runs the simulator.
pub fn simulator(workshop: &Workshop, limits: &Limits) -> Cell {
    let words = [
        "--seeds".to_owned(),
        format!("0..{}", limits.seeds),
        "--jobs".to_owned(),
        limits.jobs.to_string(),
    ];
    let program = workshop.program("oxkeeper-sim");
    run(workshop, program, &words, limits, |text, code| match code {
        Some(0) => Cell::NotFound(format!("{} seeds", limits.seeds)),
        _ => {
            let seeds = number_behind(text, "seed ").map(|seed| format!("{} seeds", seed + 1));
            Cell::Caught { rule: broken(text), after: seeds.unwrap_or_default() }
        }
    })
}

/// Runs the explorer, in one scope or in all.
pub fn explorer(workshop: &Workshop, limits: &Limits, scope: Option<&str>) -> Cell {
    let mut words = vec!["--jobs".to_owned(), limits.jobs.to_string()];
    words.extend(limits.explorer.iter().cloned());
    if let Some(scope) = scope {
        words.extend(["--scope", scope].map(str::to_owned));
    }
    let program = workshop.program("oxkeeper-explore");
    run(workshop, program, &words, limits, |text, code| {
        let states = number_behind(text, "states ").map(|states| format!("{states} states"));
        match code {
            Some(0) => Cell::NotFound(format!("{} states", all_states(text))),
            _ => Cell::Caught { rule: broken(text), after: states.unwrap_or_default() },
        }
    })
}

/// A run that does not end in time has found nothing; nor has one that takes its arguments amiss.
fn run(
    workshop: &Workshop,
    program: Result<PathBuf, DoesNotBuild>,
    words: &[String],
    limits: &Limits,
    judge: impl Fn(&str, Option<i32>) -> Cell,
) -> Cell {
    let Ok(program) = program else { return Cell::Unusable("does not build".to_owned()) };
    match workshop.run(&program, words, limits.time) {
        Err(error) => Cell::Unusable(error.to_string()),
        Ok((_, Ended::TimedOut)) => Cell::NotFound(format!("within {} s", limits.time.as_secs())),
        Ok((text, Ended::With(Some(2)))) => {
            Cell::Unusable(text.lines().next().unwrap_or_default().to_owned())
        }
        Ok((text, Ended::With(code))) => judge(&text, code),
    }
}

/// The rule on the last line `broken: <Rule>: <what>`.
fn broken(text: &str) -> String {
    let line = text.lines().rev().find_map(|line| line.strip_prefix("broken: "));
    let rule = line.and_then(|line| line.split(':').next());
    rule.or_else(|| unnamed(text)).unwrap_or("no rule named").trim().to_owned()
}

/// From a simulator that names no rules: the first words of `seed N (..): what`.
fn unnamed(text: &str) -> Option<&str> {
    let line = text.lines().rev().find(|line| line.starts_with("seed "))?;
    let (_, what) = line.split_once("): ")?;
    Some(what.get(..what.floor_char_boundary(60)).unwrap_or(what))
}

/// The number behind the last line that begins with `word`.
fn number_behind(text: &str, word: &str) -> Option<u64> {
    let rest = text.lines().rev().find_map(|line| line.strip_prefix(word))?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The states of all scopes: the numbers before `states,`.
fn all_states(text: &str) -> u64 {
    let words: Vec<&str> = text.split_whitespace().collect();
    let before = words.windows(2).filter(|pair| pair[1] == "states,");
    before.filter_map(|pair| pair[0].parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_the_simulator_is_read_with_and_without_a_rule() {
        let text = "seed 3 (3 servers)\nbroken: Agreement: 1 and 2 differ\n12 seeds\n";
        assert_eq!((broken(text), number_behind(text, "seed ")), ("Agreement".to_owned(), Some(3)));
        let text = "seed 41 (5 servers): server 2 applied 0x5 twice\nreplay: x\n";
        assert_eq!(broken(text), "server 2 applied 0x5 twice");
        assert_eq!(number_behind(text, "seed "), Some(41));
    }

    #[test]
    fn output_of_the_explorer_is_read() {
        let text = "tail complete: 9 steps, 20 states, 1.0 s, 20 states/s\nsnap stopped: 7 steps, 3 states, 4 MiB\n";
        assert_eq!(all_states(text), 23);
        let text = "broken: Leadership: x\nstates 149, depth 12\n";
        assert_eq!(
            (broken(text), number_behind(text, "states ")),
            ("Leadership".to_owned(), Some(149))
        );
    }
}
