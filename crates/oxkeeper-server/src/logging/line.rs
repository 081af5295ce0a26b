//! One log line.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Local, SecondsFormat};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;

/// No id: a standalone server, or one that has not read its configuration yet.
const NO_ID: i64 = i64::MIN;
static MY_ID: AtomicI64 = AtomicI64::new(NO_ID);

pub(super) fn set_my_id(id: i64) {
    MY_ID.store(id, Ordering::Relaxed);
}

fn my_id() -> String {
    match MY_ID.load(Ordering::Relaxed) {
        NO_ID => String::new(),
        id => id.to_string(),
    }
}

/// Writes an event as one line. Times are in the local zone (`TZ`, `/etc/localtime`; UTC where
/// neither is there, as in a container).
pub(super) struct Line(pub(super) LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let thread = std::thread::current();
        let source = Source {
            now: Local::now(),
            my_id: my_id(),
            thread: thread.name().unwrap_or("thread"),
            metadata: event.metadata(),
        };
        let text = match self.0 {
            LogFormat::Pattern => source.pattern(event),
            LogFormat::Json => source.json(event),
        };
        writeln!(writer, "{text}")
    }
}

struct Source<'a> {
    now: DateTime<Local>,
    my_id: String,
    thread: &'a str,
    metadata: &'static Metadata<'static>,
}

impl Source<'_> {
    fn pattern(&self, event: &Event<'_>) -> String {
        let Source { now, my_id, thread, metadata } = self;
        let mut text = Text::default();
        event.record(&mut text);
        format!(
            "{} [myid:{my_id}] - {:<5} [{thread}:{}@{}] - {}{}",
            now.format("%Y-%m-%d %H:%M:%S,%3f"),
            level_name(*metadata.level()),
            component(metadata.target()),
            metadata.line().unwrap_or(0),
            one_line(text.message.trim_end()),
            one_line(&text.fields),
        )
    }

    fn json(&self, event: &Event<'_>) -> String {
        let mut fields = Json::default();
        event.record(&mut fields);
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
        put("time", self.now.to_rfc3339_opts(SecondsFormat::Millis, true).into());
        put("level", level_name(*self.metadata.level()).into());
        put("myid", self.my_id.clone().into());
        put("thread", self.thread.into());
        put("target", self.metadata.target().into());
        put("message", fields.message.into());
        put("fields", Value::Object(fields.fields));
        Value::Object(line).to_string()
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

/// Line ends inside a message would make lines that nobody can parse.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// The part of ZooKeeper that operators know for this module; else the module's own name.
fn component(target: &str) -> &str {
    let mut parts = target.strip_prefix("oxkeeper_").unwrap_or(target).split("::");
    let (krate, module) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let last = target.rsplit("::").next().unwrap_or(target);
    match (krate, module, last) {
        ("server", "client_port" | "view", _) => "NIOServerCnxn",
        ("server", "listen", _) => "NIOServerCnxnFactory",
        ("server", "election_links", _) => "QuorumCnxManager",
        ("server", "quorum_links", "learner_listener") => "LearnerHandler",
        ("server", "quorum_links", _) => "Learner",
        ("server", "peers", _) => "QuorumPeer",
        ("server", "server" | "signals" | "termination", _) => "QuorumPeerMain",
        ("server", "config", _) => "QuorumPeerConfig",
        ("server", "disk", _) => "SyncRequestProcessor",
        ("server", "snapshots" | "loading", _) => "FileTxnSnapLog",
        ("server", "driver", _) | ("replica", _, _) => "ZooKeeperServer",
        ("zab", "election", _) => "FastLeaderElection",
        ("zab", "leader", _) => "Leader",
        ("zab", "learner", _) => "Learner",
        ("zab", _, _) => "QuorumPeer",
        _ => last,
    }
}

/// Message and fields as text: the fields follow as ` key=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

/// Message and fields as JSON.
#[derive(Default)]
struct Json {
    message: String,
    fields: Map<String, Value>,
}

impl Json {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => {
                self.fields.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Json {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Sink {
        type Writer = Sink;
        fn make_writer(&self) -> Sink {
            self.clone()
        }
    }

    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let layer =
            tracing_subscriber::fmt::layer().event_format(Line(format)).with_writer(sink.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// The id is the process's, so one test has all of it.
    #[test]
    fn the_pattern_is_the_one_of_zookeeper() {
        let text = logged(LogFormat::Pattern, || {
            tracing::info!(target: "oxkeeper_server::client_port", zxid = 7, "hello\nworld");
        });
        // 2026-11-28 21:50:00,123 [myid:] - INFO  [..:NIOServerCnxn@123] - hello world zxid=7
        let (time, rest) = text.split_at(23);
        assert!(chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S,%3f").is_ok());
        let thread = std::thread::current().name().unwrap().to_owned();
        let start = format!(" [myid:] - INFO  [{thread}:NIOServerCnxn@");
        let rest = rest.strip_prefix(start.as_str()).unwrap_or_else(|| panic!("{text}"));
        let (line, message) = rest.split_once("] - ").unwrap();
        assert!(line.parse::<u32>().is_ok(), "{text}");
        assert_eq!(message, "hello world zxid=7\n");

        set_my_id(1);
        let text = logged(LogFormat::Pattern, || tracing::error!("x"));
        assert!(text.contains(" [myid:1] - ERROR ["), "{text}");
        let text = logged(LogFormat::Json, || {
            tracing::warn!(peer = 3, reason = "a \"b\"", shown = %5, "lost");
        });
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "WARN");
        assert_eq!(value["myid"], "1");
        assert_eq!(value["message"], "lost");
        assert_eq!(value["fields"]["peer"], 3);
        assert_eq!(value["fields"]["reason"], "a \"b\"");
        assert_eq!(value["fields"]["shown"], "5");
        assert!(DateTime::parse_from_rfc3339(value["time"].as_str().unwrap()).is_ok());
        assert_eq!(value["thread"], thread);
        MY_ID.store(NO_ID, Ordering::Relaxed);
    }

    #[test]
    fn components_have_the_names_that_people_know() {
        for (target, expected) in [
            ("oxkeeper_server::client_port", "NIOServerCnxn"),
            ("oxkeeper_server::election_links::link", "QuorumCnxManager"),
            ("oxkeeper_server::quorum_links::learner_listener", "LearnerHandler"),
            ("oxkeeper_server::quorum_links::leader_link", "Learner"),
            ("oxkeeper_server::FastLeaderElection", "FastLeaderElection"),
            ("oxkeeper_zab::zab", "QuorumPeer"),
            ("oxkeeper_zab::election::round", "FastLeaderElection"),
            ("oxkeeper_server::mailbox", "mailbox"),
            ("elsewhere", "elsewhere"),
        ] {
            assert_eq!(component(target), expected);
        }
    }
}
