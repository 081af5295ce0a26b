//! How a command ends badly: what was wrong, what to do about it, and the exit code.

use std::fmt;

/// A failure of a command, ready to be shown to whoever typed it.
#[derive(Debug)]
pub struct Failure {
    /// What was wrong, and where.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Exit code of the process.
    pub code: u8,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(what: impl Into<String>) -> Failure {
        Failure { what: what.into(), hint: None, code: 1 }
    }

    /// Wrong arguments: exit code 2, as for every other usage error.
    pub fn usage(what: impl Into<String>) -> Failure {
        Failure { code: 2, ..Failure::new(what) }
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  {}", hint.replace('\n', "\n  ")),
            None => Ok(()),
        }
    }
}
