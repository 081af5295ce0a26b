//! The server's log: lines on stdout in the shape that operators of ZooKeeper search and parse.
//!
//! | module | what it does |
//! |---|---|
//! | `line` | one line: `<date> [myid:<n>] - <level> [<thread>:<component>@<line>] - <message>`, or JSON |
//! | [`level`] | how much is logged: `log4j.properties`, `logback.xml`, properties, `RUST_LOG` |
//! | [`output`] | stdout behind a bounded queue: a reader that stalls holds up nobody |
//! | [`election`] | what an election is told as |
//!
//! Source: `docs/spec/operations.md` 7.1, 7.2.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Form, Invocation};

pub(crate) mod election;
mod level;
mod line;
mod output;

/// The shape of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// As ZooKeeper's logs have it.
    #[default]
    Pattern,
    /// One JSON object a line: time (RFC 3339), level, myid, thread, target, message, fields.
    Json,
}

/// Everything logged so far gets this long to reach stdout when the process ends.
const FLUSH_LIMIT: Duration = Duration::from_millis(500);

/// Starts the log. The configuration file's directory and the properties say how much is logged;
/// without an invocation it is INFO.
pub(crate) fn start(format: LogFormat, invocation: Option<&Invocation>) {
    let rust_log = std::env::var("RUST_LOG").ok();
    let directory = invocation.and_then(|invocation| match &invocation.form {
        Form::File(file) => Some(file.parent().unwrap_or(Path::new(""))),
        Form::Standalone(_) => None,
    });
    let properties = invocation.map_or(&[][..], |invocation| &invocation.properties);
    let filter = level::filter(rust_log.as_deref(), directory, properties);
    let layer = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(line::Line(format))
        .with_writer(output::stdout());
    // An error means that a log is there already (a test's).
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
}

/// Lines from now on carry this id.
pub(crate) fn set_my_id(id: i64) {
    line::set_my_id(id);
}

/// Waits, within a bound, until everything logged so far has reached stdout.
pub(crate) fn flush() {
    output::stdout().flush_within(FLUSH_LIMIT);
}

/// Text for operators that is no log line (a state dump), in order with the lines.
pub(crate) fn print(text: &str) {
    output::stdout().push(text.as_bytes());
}

/// Were the lines of ZooKeeper 3.4 asked for (`OXKEEPER_LOG_COMPAT=3.4`)? It tells at INFO of
/// every connection and four-letter word what later versions tell at DEBUG.
pub(crate) fn as_in_3_4() -> bool {
    static ASKED: OnceLock<bool> = OnceLock::new();
    *ASKED.get_or_init(|| std::env::var("OXKEEPER_LOG_COMPAT").is_ok_and(|asked| asked == "3.4"))
}

/// A line about one connection: INFO in the logs of 3.4, DEBUG since.
macro_rules! connection_line {
    ($($arg:tt)+) => {
        if $crate::logging::as_in_3_4() {
            tracing::info!($($arg)+);
        } else {
            tracing::debug!($($arg)+);
        }
    };
}
pub(crate) use connection_line;
