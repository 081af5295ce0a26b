//! Builds in the copy, and programs of it with a time limit.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::copy::{Copy, Edited};
use super::{Edit, Test};
use crate::tools::{Failure, Outcome, cargo, target_dir};

/// The copy and what is built from it.
pub struct Workshop {
    copy: Copy,
    target: PathBuf,
    /// Held: two runs would break each other's sources.
    _lock: std::fs::File,
}

/// Why there is no program to run.
pub struct DoesNotBuild;

/// How a program ended.
pub enum Ended {
    /// With this exit code (none: by a signal).
    With(Option<i32>),
    /// Not in time.
    TimedOut,
}

impl Workshop {
    /// The present working tree, copied.
    pub fn open() -> Outcome<Workshop> {
        let place = target_dir().join("mutations");
        std::fs::create_dir_all(&place)?;
        let lock = std::fs::File::create(place.join("lock"))?;
        if lock.try_lock().is_err() {
            return Err(Failure(format!("another run is at work in {}", place.display())));
        }
        let copy = Copy::refresh(place.join("tree"))?;
        Ok(Workshop { copy, target: place.join("target"), _lock: lock })
    }

    /// Whether the workspace has an explorer.
    pub fn has_explorer(&self) -> bool {
        self.copy.path().join("crates/oxkeeper-explore").is_dir()
    }

    /// Breaks a rule until what is returned is dropped.
    pub fn edit(&self, edits: &[&[Edit]]) -> Outcome<Edited<'_>> {
        self.copy.edit(edits)
    }

    /// The executable of a test target.
    pub fn test(&self, test: &Test) -> Result<PathBuf, DoesNotBuild> {
        let package = format!("oxkeeper-{}", test.0);
        let mut words = vec!["test", "--no-run", "-p", &package];
        match test.1 {
            "lib" => words.push("--lib"),
            target => words.extend(["--test", target]),
        }
        self.build(&words)
    }

    /// The executable of a program that has its crate's name.
    pub fn program(&self, name: &str) -> Result<PathBuf, DoesNotBuild> {
        self.build(&["build", "-p", name, "--bin", name])
    }

    /// Runs cargo in the copy; the executable that it names last.
    fn build(&self, words: &[&str]) -> Result<PathBuf, DoesNotBuild> {
        let mut command = cargo(words);
        command
            .args(["--profile", "quick", "--quiet", "--message-format", "json"])
            .current_dir(self.copy.path())
            .env("CARGO_TARGET_DIR", &self.target)
            .stderr(Stdio::null());
        let output = command.output().map_err(|_| DoesNotBuild)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let executable = |line: &str| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            message["executable"].as_str().map(PathBuf::from)
        };
        let found = text.lines().filter_map(executable).next_back();
        found.filter(|_| output.status.success()).ok_or(DoesNotBuild)
    }

    /// Runs a program that starts no others; what it printed, and how it ended.
    pub fn run(
        &self,
        program: &PathBuf,
        words: &[String],
        limit: Duration,
    ) -> Outcome<(String, Ended)> {
        let log = self.target.join("output.txt");
        let file = std::fs::File::create(&log)?;
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut child = command.spawn()?;
        let start = Instant::now();
        let ended = loop {
            if let Some(status) = child.try_wait()? {
                break Ended::With(status.code());
            }
            if limit < start.elapsed() {
                child.kill()?;
                child.wait()?;
                break Ended::TimedOut;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Ok((String::from_utf8_lossy(&std::fs::read(&log)?).into_owned(), ended))
    }
}
