//! What is wrong with a configuration, or worth a word.

use oxkeeper_proto::ServerId;

use super::Place;

/// How loud a [`Warning`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Info,
    Warn,
    Error,
}

/// Something in the configuration that an operator should know; the server starts all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// How loud.
    pub level: Level,
    /// One line.
    pub text: String,
}

impl Warning {
    pub(super) fn info(text: impl Into<String>) -> Warning {
        Warning { level: Level::Info, text: text.into() }
    }

    pub(super) fn warn(text: impl Into<String>) -> Warning {
        Warning { level: Level::Warn, text: text.into() }
    }

    pub(super) fn error(text: impl Into<String>) -> Warning {
        Warning { level: Level::Error, text: text.into() }
    }
}

/// Why a server cannot start with what it was told.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The command line is neither form.
    #[error(
        "{0}.\nUsage: oxkeeper server [-Dname=value ...] <zoo.cfg>\n       \
         oxkeeper server [-Dname=value ...] <port> <dataDir> [tickTime] [maxClientCnxns]"
    )]
    Usage(&'static str),
    /// The configuration file cannot be read.
    #[error(
        "cannot read the configuration file {path}: {source}. Check the path and its permissions"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A setting is wrong or missing.
    #[error("{place}: {message}. {hint}")]
    Setting {
        /// Where.
        place: Place,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// A setting demands protection that this server cannot give.
    #[error(
        "{place}: {key} is not supported yet, and without it this server would be open where you want \
         it protected. Remove the setting if that is acceptable, otherwise keep the server you have"
    )]
    NotSupported {
        /// Where.
        place: Place,
        /// The setting.
        key: String,
    },
    /// The id in `myid` is not one of the members.
    #[error(
        "My id {me} not in the peer list: {file} has servers {members}. Write this server's number \
         into {myid}, or add a server.{me} line on every server"
    )]
    NotAMember {
        /// The id.
        me: ServerId,
        /// The configuration file.
        file: String,
        /// Ids of all members.
        members: String,
        /// Path of the `myid` file.
        myid: String,
    },
    /// A data directory cannot be used.
    #[error("Unable to access datadir, exiting abnormally: {path}: {reason}. {hint}")]
    DataDir {
        /// The directory.
        path: String,
        /// What is wrong with it.
        reason: String,
        /// What to do.
        hint: &'static str,
    },
}

impl LoadError {
    /// The process's exit code (`docs/spec/operations.md` 9.1).
    pub fn exit_code(&self) -> i32 {
        match self {
            LoadError::NotAMember { .. } => 1,
            LoadError::DataDir { .. } => 3,
            _ => 2,
        }
    }

    pub(super) fn at(
        file: &str,
        line: u32,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> LoadError {
        LoadError::Setting {
            place: Place::Line(file.to_owned(), line),
            message: message.into(),
            hint: hint.into(),
        }
    }

    pub(super) fn of_file(
        file: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> LoadError {
        LoadError::Setting {
            place: Place::File(file.to_owned()),
            message: message.into(),
            hint: hint.into(),
        }
    }
}
