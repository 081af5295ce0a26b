//! A server of the ensemble as a process.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::layout::Member;
use crate::failure::Failure;

/// Lines of a log that are shown when its server has died.
const LAST_LINES: usize = 12;

/// A running server.
pub struct Server {
    /// Who it is.
    pub member: Member,
    child: Child,
    /// Where this run's output begins in the log.
    log_start: u64,
    ended: Option<ExitStatus>,
}

impl Server {
    /// Starts the server of `member` as a process of this very program.
    ///
    /// The child holds the other end of a pipe on its stdin, and ends when that is closed: so it
    /// does not outlive us, however we end.
    pub fn start(member: Member) -> Result<Server, Failure> {
        let cannot = |what: &str, error: std::io::Error| {
            Failure::new(format!("cannot start server {}: {what}: {error}", member.id))
        };
        let log_path = member.log();
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.map_err(|error| cannot(&log_path.display().to_string(), error))?;
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        let errors = log.try_clone().map_err(|error| cannot("its log", error))?;
        let program =
            std::env::current_exe().map_err(|error| cannot("the path of this program", error))?;
        let child = Command::new(&program)
            .arg("server")
            .arg("--exit-with-parent")
            .arg(member.config())
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C in the terminal is for us alone: we pass it on in our own way.
            .process_group(0)
            .spawn()
            .map_err(|error| cannot(&program.display().to_string(), error))?;
        Ok(Server { member, child, log_start, ended: None })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it ended? Told once: `Some` only for the call that notices.
    pub fn just_ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_some() {
            return None;
        }
        self.ended = self.child.try_wait().ok().flatten();
        self.ended
    }

    /// Is it still there, as far as we have noticed?
    pub fn is_running(&self) -> bool {
        self.ended.is_none()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Makes it end.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // The id is ours until the child has been waited for, which sets `ended`.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (None, Some(pid)) = (self.ended, pid) {
            // It may have ended this moment.
            let _ = kill_process(pid, signal);
        }
    }

    /// The last lines this run has written to its log, indented.
    pub fn last_lines(&self) -> String {
        let mut text = Vec::new();
        let read = File::open(self.member.log()).and_then(|mut log| {
            let end = log.seek(SeekFrom::End(0))?;
            log.seek(SeekFrom::Start(self.log_start.max(end.saturating_sub(64 << 10))))?;
            log.read_to_end(&mut text)
        });
        if let Err(error) = read {
            return format!("  (its log cannot be read: {error})\n");
        }
        last_lines(&String::from_utf8_lossy(&text))
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    if lines.is_empty() {
        return "  (it wrote nothing)\n".to_owned();
    }
    let from = lines.len().saturating_sub(LAST_LINES);
    lines[from..].iter().map(|line| format!("  | {line}\n")).collect()
}

/// Why a process has ended, in words. Codes are those of `docs/spec/operations.md` 9.1.
pub fn why(status: ExitStatus) -> String {
    if let Some(signal) = status.signal() {
        let name = match signal {
            6 => " (ABRT)",
            9 => " (KILL)",
            11 => " (SEGV)",
            15 => " (TERM)",
            _ => "",
        };
        return format!("ended by signal {signal}{name}");
    }
    let meaning = match status.code() {
        Some(2) => ": wrong configuration or arguments",
        Some(3) => ": data directory cannot be used",
        Some(4) => ": admin port cannot be used",
        Some(10) => ": snapshot cannot be written",
        Some(14) => ": election port cannot be used",
        Some(101) => ": a bug in the server, please report it",
        Some(143) => ": it was told to (TERM)",
        _ => "",
    };
    format!("ended with exit code {}{meaning}", status.code().unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_put_in_words() {
        assert_eq!(why(ExitStatus::from_raw(9)), "ended by signal 9 (KILL)");
        assert_eq!(
            why(ExitStatus::from_raw(3 << 8)),
            "ended with exit code 3: data directory cannot be used"
        );
        assert_eq!(why(ExitStatus::from_raw(1 << 8)), "ended with exit code 1");
    }

    #[test]
    fn only_the_last_lines_of_a_log_are_shown() {
        let text: String = (1..=20).map(|n| format!("line {n}\n")).collect();
        let shown = last_lines(&text);
        assert!(shown.starts_with("  | line 9\n") && shown.ends_with("  | line 20\n"), "{shown}");
        assert_eq!(last_lines(""), "  (it wrote nothing)\n");
    }
}
