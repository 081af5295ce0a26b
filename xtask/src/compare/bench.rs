//! Runs `oxkeeper bench` and reads its result.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use crate::tools::{Failure, Outcome, oxkeeper, shown};

/// What a run reports; the other fields are not used here.
#[derive(Debug, Deserialize)]
pub struct Report {
    /// Operations that succeeded.
    pub operations: u64,
    /// The same per second.
    pub throughput: f64,
    latency: BTreeMap<String, Latency>,
    errors: BTreeMap<String, u64>,
    /// Longest time without an acknowledgement.
    pub longest_gap_ms: f64,
}

/// Latencies of one kind of operation.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Latency {
    count: u64,
    /// Half are faster.
    pub p50_us: f64,
    /// 99.9 % are faster.
    pub p999_us: f64,
}

impl Report {
    /// Latencies of the operation that the load consists of.
    pub fn latency(&self) -> Outcome<Latency> {
        let most = self.latency.values().max_by_key(|latency| latency.count);
        most.copied().ok_or_else(|| Failure::from("the bench reports no operation"))
    }

    /// Requests that failed.
    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// A load to run.
#[derive(Clone, Debug)]
pub struct Bench {
    words: Vec<String>,
}

impl Bench {
    /// A load on these servers, `write` or `read` of znodes of 100 bytes.
    pub fn new(connect: &str, workload: &str) -> Bench {
        let words = ["bench", "--json", "--size", "100", "--warmup", "0s", "--connect", connect];
        let mut bench = Bench { words: words.map(str::to_owned).to_vec() };
        bench.words.extend(["--workload".to_owned(), workload.to_owned()]);
        bench
    }

    /// Adds an option with its value.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl ToString) -> Bench {
        self.words.extend([option.to_owned(), value.to_string()]);
        self
    }

    /// Adds an option without value.
    #[must_use]
    pub fn flag(mut self, option: &str) -> Bench {
        self.words.push(option.to_owned());
        self
    }

    /// Sixty-four connections with eight requests each.
    #[must_use]
    pub fn full_load(self) -> Bench {
        self.with("--connections", 64).with("--outstanding", 8)
    }

    /// Starts it in the background.
    pub fn spawn(&self) -> Outcome<Running> {
        let mut command = Command::new(oxkeeper());
        command.args(&self.words).stdin(Stdio::null()).stdout(Stdio::piped());
        let shown = shown(&command);
        let child = command.spawn().map_err(|error| format!("cannot run `{shown}`: {error}"))?;
        Ok(Running { child, shown })
    }

    /// Runs one that only makes its znodes and reports nothing.
    pub fn prepare(self) -> Outcome {
        let bench = self.with("--duration", "0s").flag("--keep");
        let mut running = bench.spawn()?;
        let status = running.child.wait()?;
        if status.success() {
            Ok(())
        } else {
            Err(Failure(format!("`{}`: {status}", running.shown)))
        }
    }

    /// Runs it to its end.
    pub fn run(&self) -> Outcome<Report> {
        self.spawn()?.finish()
    }
}

/// A load under way.
pub struct Running {
    child: Child,
    shown: String,
}

impl Running {
    /// Waits for its end and reads its report.
    pub fn finish(self) -> Outcome<Report> {
        let output = self.child.wait_with_output()?;
        if !output.status.success() {
            return Err(Failure(format!("`{}`: {}", self.shown, output.status)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().rev().find(|line| line.starts_with('{')).unwrap_or_default();
        serde_json::from_str(line)
            .map_err(|error| Failure(format!("`{}` printed {line:?}: {error}", self.shown)))
    }
}
