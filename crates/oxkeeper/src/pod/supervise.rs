//! Process 1 of a container: it runs the server as its child, passes signals on, buries orphans and
//! ends as the server ends. It never starts the server again: Kubernetes is the watchdog.
//!
//! Source: `docs/spec/kubernetes.md` 3.2.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper, wait,
};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::fatal;

/// Environment variable that asks for a supervisor in a process other than 1, for tests.
const FORCE: &str = "OXKEEPER_SUPERVISE";

/// Environment variable: for how many ms after TERM this process stays at least, though the server has
/// ended. Kubernetes ends a container whose liveness probe fails, and tells that it is not ready only
/// while it runs: the tutorial's image stays long enough for that to be seen (T28).
const LINGER: &str = "OXKEEPER_LINGER_MS";
/// The longest that is granted: TERM must have its effect within 5 s.
const LONGEST_LINGER: Duration = Duration::from_secs(4);

/// Signals of a supervisor, caught from the moment this exists.
pub struct Supervisor {
    signals: Signals,
}

impl Supervisor {
    /// Begins to catch signals, if this process has to be a supervisor: it is process 1, to which
    /// nobody else will ever attend.
    pub fn if_needed() -> io::Result<Option<Supervisor>> {
        let forced = std::env::var_os(FORCE).is_some();
        if !getpid().is_init() && !forced {
            return Ok(None);
        }
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGCHLD])?;
        if forced {
            set_child_subreaper(Some(getpid()))?;
        }
        Ok(Some(Supervisor { signals }))
    }

    /// Runs `command` to its end and gives the exit code of this process: the child's, or 128 and the
    /// number of the signal that ended it.
    pub fn run(mut self, mut command: Command) -> io::Result<u8> {
        // Told to end before there is anything to end.
        let early: Vec<i32> = self.signals.pending().collect();
        if let Some(signal) =
            early.iter().find(|signal| matches!(**signal, SIGTERM | SIGINT | SIGHUP))
        {
            return Ok(128u8.saturating_add(*signal as u8));
        }
        // What comes from here on waits in `signals` until the child is there.
        let child = command.env_remove(FORCE).spawn()?.id();
        let child = i32::try_from(child).ok().and_then(Pid::from_raw);
        let child = child.ok_or_else(|| io::Error::other("the child has no process id"))?;
        let mut told = None;
        loop {
            for signal in self.signals.wait() {
                if signal == SIGTERM {
                    told.get_or_insert_with(Instant::now);
                }
                if let Some(signal) = passed_on(signal) {
                    // It may have ended this moment; then its end is what counts.
                    let _ = kill_process(child, signal);
                }
            }
            while let Some((pid, status)) = ended()? {
                if pid == child {
                    if let Some(told) = told {
                        std::thread::sleep(linger().saturating_sub(told.elapsed()));
                    }
                    return Ok(exit_code(status));
                }
            }
        }
    }
}

fn linger() -> Duration {
    let asked = std::env::var(LINGER).ok().and_then(|ms| ms.parse().ok());
    Duration::from_millis(asked.unwrap_or(0)).min(LONGEST_LINGER)
}

fn passed_on(signal: i32) -> Option<Signal> {
    match signal {
        SIGTERM => Some(Signal::TERM),
        SIGINT => Some(Signal::INT),
        SIGHUP => Some(Signal::HUP),
        SIGQUIT => Some(Signal::QUIT),
        _ => None,
    }
}

/// A process that has ended: the child, or an orphan that has become ours.
fn ended() -> io::Result<Option<(Pid, WaitStatus)>> {
    match wait(WaitOptions::NOHANG) {
        Ok(ended) => Ok(ended),
        Err(rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn exit_code(status: WaitStatus) -> u8 {
    if let Some(signal) = status.terminating_signal() {
        if signal == Signal::KILL.as_raw() {
            fatal::report("the server was killed (signal 9): out of memory, or by hand");
        } else if ![SIGTERM, SIGINT, SIGHUP].contains(&signal) {
            fatal::report(&format!("the server was ended by signal {signal}"));
        }
        return u8::try_from(128 + signal).unwrap_or(u8::MAX);
    }
    status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
