//! Stages of a long chore: each is timed, failures are collected, and a summary names them.

use std::time::{Duration, Instant};

use crate::tools::{Failure, Outcome};

/// How a stage ended.
enum End {
    Passed,
    Failed(Failure),
    /// With the reason.
    Skipped(String),
}

/// The stages so far.
#[derive(Default)]
pub struct Stages {
    /// Names to run; empty means all.
    only: Vec<String>,
    ended: Vec<(String, Duration, End)>,
}

impl Stages {
    /// Runs only the stages of these names, or all if there are none.
    pub fn only(names: &[String]) -> Stages {
        Stages { only: names.to_vec(), ended: Vec::new() }
    }

    /// Runs one stage; a failure is kept for the summary and the next stage runs all the same.
    pub fn run(&mut self, name: &str, stage: impl FnOnce() -> Outcome) -> bool {
        if !self.wanted(name) {
            return true;
        }
        eprintln!("\n=== {name}");
        let start = Instant::now();
        let end = match stage() {
            Ok(()) => End::Passed,
            Err(failure) => {
                eprintln!("{name} failed: {failure}");
                End::Failed(failure)
            }
        };
        let took = start.elapsed();
        eprintln!("=== {name}: {:.1} s", took.as_secs_f64());
        let passed = matches!(end, End::Passed);
        self.ended.push((name.to_owned(), took, end));
        passed
    }

    /// Notes a stage that cannot run.
    pub fn skip(&mut self, name: &str, reason: impl Into<String>) {
        if self.wanted(name) {
            self.ended.push((name.to_owned(), Duration::ZERO, End::Skipped(reason.into())));
        }
    }

    /// Whether a stage of this name is to run.
    pub fn wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    /// Prints a line per stage; fails if one failed or none ran.
    pub fn summary(self) -> Outcome {
        println!("\nstage                     seconds  result");
        let mut counts = [0, 0, 0];
        for (name, took, end) in &self.ended {
            let (column, word) = match end {
                End::Passed => (0, "passed".to_owned()),
                End::Failed(failure) => (1, format!("FAILED: {failure}")),
                End::Skipped(reason) => (2, format!("skipped: {reason}")),
            };
            counts[column] += 1;
            println!("{name:<24} {:>8.1}  {word}", took.as_secs_f64());
        }
        let total: Duration = self.ended.iter().map(|(_, took, _)| *took).sum();
        println!("{:<24} {:>8.1}", "total", total.as_secs_f64());
        let [passed, failed, skipped] = counts;
        println!("stages: {passed} passed, {failed} failed, {skipped} skipped");
        if failed > 0 {
            return Err(Failure(format!("{failed} of {} stages failed", self.ended.len())));
        }
        if passed == 0 {
            return Err(Failure::from("no stage of that name"));
        }
        Ok(())
    }
}
