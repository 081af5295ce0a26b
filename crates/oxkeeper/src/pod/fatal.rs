//! A fatal end, told to whoever looks at the pod. Source: `docs/spec/kubernetes.md` 11.

use std::process::ExitCode;

pub use oxkeeper_server::termination::report;

/// Prints `text` to stderr, leaves it to the termination log, and gives the exit code.
pub fn fatal(text: &str, code: u8) -> ExitCode {
    eprintln!("{text}");
    report(text);
    code.into()
}
