//! What happened in a run: a hash always, the last lines on request.

use std::collections::VecDeque;

/// Lines kept.
const LINES: usize = 120;

/// The record of one run.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    /// Keep lines?
    pub recording: bool,
    /// Print each line at once?
    pub echo: bool,
    lines: VecDeque<String>,
}

impl Trace {
    /// Nothing happened yet.
    pub fn new(recording: bool, echo: bool) -> Trace {
        Trace { recording, echo, ..Trace::default() }
    }

    /// Adds an event to the hash.
    pub fn mix(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// Adds a line, if lines are wanted.
    pub fn line(&mut self, at_us: u64, text: impl FnOnce() -> String) {
        if !self.recording {
            return;
        }
        let line = format!("{:>10.3} ms  {}", at_us as f64 / 1000.0, text());
        if self.echo {
            println!("{line}");
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Hash of all events: equal runs have equal hashes.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
