//! A fatal end, told to whoever looks at the pod. Source: `docs/spec/kubernetes.md` 11.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::ExitCode;

/// Where Kubernetes reads why a container has ended.
const LOG: &str = "/dev/termination-log";

/// Prints `text` to stderr, leaves its first line to the termination log, and gives the exit code.
pub fn fatal(text: &str, code: u8) -> ExitCode {
    eprintln!("{text}");
    report(text);
    code.into()
}

/// Leaves the first line of `text` to the termination log, if there is one; never creates it.
pub fn report(text: &str) {
    let path = std::env::var_os("OXKEEPER_TERMINATION_LOG").unwrap_or_else(|| LOG.into());
    // Without it the reason is still in the log of the container.
    if let Ok(mut log) = OpenOptions::new().write(true).truncate(true).open(path) {
        let _ = writeln!(log, "{}", text.lines().next().unwrap_or_default());
    }
}
