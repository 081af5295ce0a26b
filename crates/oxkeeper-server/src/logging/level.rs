//! How much is logged. Source: `docs/spec/operations.md` 7.1, `docs/spec/kubernetes.md` T17.

use std::collections::HashMap;
use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Crates whose own events say nothing to an operator.
const QUIET: [&str; 4] = ["hickory_resolver", "hickory_net", "hickory_proto", "mio"];
/// The threshold of the stock appender, as a property.
const THRESHOLD: &str = "zookeeper.console.threshold";
/// The root logger of the stock log4j file, as a property.
const ROOT: &str = "zookeeper.root.logger";
/// Substitutions followed in one value: enough for any file, too few for a cycle to matter.
const MAX_SUBSTITUTIONS: usize = 16;

/// What passes: `RUST_LOG` if it is set and readable, else the level that properties and the log
/// files in `directory` ask for.
pub(super) fn filter(
    rust_log: Option<&str>,
    directory: Option<&Path>,
    properties: &[(String, String)],
) -> EnvFilter {
    let asked = rust_log.filter(|text| !text.trim().is_empty());
    if let Some(Ok(filter)) = asked.map(EnvFilter::try_new) {
        return filter;
    }
    let mut directives = configured(directory, properties).to_string();
    for name in QUIET {
        directives.push_str(&format!(",{name}=error"));
    }
    EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// The level that properties and files ask for. A property wins over the file's value of the same
/// name; a file that is missing or odd asks for nothing; INFO if nobody asks.
fn configured(directory: Option<&Path>, properties: &[(String, String)]) -> LevelFilter {
    let mut values = Values::default();
    let read = |name: &str| directory.and_then(|dir| std::fs::read(dir.join(name)).ok());
    if let Some(bytes) = read("log4j.properties") {
        values.add_log4j(&String::from_utf8_lossy(&bytes));
    } else if let Some(bytes) = read("logback.xml") {
        values.add_logback(&String::from_utf8_lossy(&bytes));
    }
    for (name, value) in properties {
        values.set(name, value);
    }
    values.level()
}

#[derive(Default)]
struct Values(HashMap<String, String>);

/// The root logger's level in a logback file, under a name of our own.
const LOGBACK_ROOT: &str = "logback root level";

impl Values {
    fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.trim().to_owned(), value.trim().to_owned());
    }

    fn add_log4j(&mut self, text: &str) {
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', '!']) {
                continue;
            }
            if let Some((name, value)) = line.split_once(['=', ':']) {
                self.set(name, value);
            }
        }
    }

    /// Takes `<property name= value=/>` and the level of `<root>`; everything else in the file is
    /// about things this server does not have.
    fn add_logback(&mut self, text: &str) {
        let mut rest = text;
        while let Some(start) = rest.find('<') {
            rest = &rest[start..];
            let (end, comment) = match rest.starts_with("<!--") {
                true => (rest.find("-->"), true),
                false => (rest.find('>'), false),
            };
            let Some(end) = end else { return };
            let tag = &rest[1..end];
            rest = &rest[end..];
            if comment {
                continue;
            }
            match tag.split_whitespace().next() {
                Some("property" | "variable") => {
                    if let (Some(name), Some(value)) =
                        (attribute(tag, "name"), attribute(tag, "value"))
                    {
                        self.set(name, value);
                    }
                }
                Some("root") => {
                    if let Some(level) = attribute(tag, "level") {
                        self.set(LOGBACK_ROOT, level);
                    }
                }
                _ => {}
            }
        }
    }

    /// The less talkative one of root level and threshold.
    fn level(&self) -> LevelFilter {
        let root = [LOGBACK_ROOT, "log4j.rootLogger", "log4j.rootCategory", ROOT];
        let root = root.iter().find_map(|name| self.level_of(name));
        let threshold = ["log4j.appender.CONSOLE.Threshold", THRESHOLD];
        let threshold = match self.0.contains_key(THRESHOLD) {
            true => self.level_of(THRESHOLD),
            false => threshold.iter().find_map(|name| self.level_of(name)),
        };
        match (root, threshold) {
            (Some(root), Some(threshold)) => root.min(threshold),
            (root, threshold) => root.or(threshold).unwrap_or(LevelFilter::INFO),
        }
    }

    /// The level that stands first in a value; a root logger may name its appenders behind it, or
    /// only them.
    fn level_of(&self, name: &str) -> Option<LevelFilter> {
        let value = self.substituted(self.0.get(name)?);
        let word = value.split(',').next().unwrap_or_default().trim().to_ascii_uppercase();
        Some(match word.as_str() {
            "OFF" => LevelFilter::OFF,
            "FATAL" | "ERROR" => LevelFilter::ERROR,
            "WARN" => LevelFilter::WARN,
            "INFO" => LevelFilter::INFO,
            "DEBUG" => LevelFilter::DEBUG,
            "TRACE" | "ALL" => LevelFilter::TRACE,
            _ => return None,
        })
    }

    /// Replaces `${name}` and `${name:-otherwise}`.
    fn substituted(&self, value: &str) -> String {
        let mut value = value.to_owned();
        for _ in 0..MAX_SUBSTITUTIONS {
            let Some(start) = value.find("${") else { break };
            let Some(len) = value[start..].find('}') else { break };
            let inner = &value[start + 2..start + len];
            let (name, otherwise) = inner.split_once(":-").unwrap_or((inner, ""));
            let found = self.0.get(name).map_or(otherwise, String::as_str).to_owned();
            value.replace_range(start..=start + len, &found);
        }
        value
    }
}

/// The value of an attribute in the text of a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = tag;
    loop {
        let at = rest.find(name)?;
        let before = rest[..at].chars().next_back();
        rest = &rest[at + name.len()..];
        let value = rest.trim_start().strip_prefix('=').map(str::trim_start);
        if let Some(value) = value.filter(|_| before.is_some_and(char::is_whitespace)) {
            let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            return value[1..].split_once(quote).map(|(value, _)| value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(file: &str, text: &str, properties: &[(&str, &str)]) -> LevelFilter {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(file), text).unwrap();
        let properties: Vec<_> =
            properties.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        configured(Some(dir.path()), &properties)
    }

    /// The file that the tutorial's image generates, whose root logger has no level.
    fn tutorial(threshold: &str) -> String {
        format!(
            "zookeeper.root.logger=CONSOLE\nzookeeper.console.threshold={threshold}\n\
             log4j.rootLogger=${{zookeeper.root.logger}}\n\
             log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender\n\
             log4j.appender.CONSOLE.Threshold=${{zookeeper.console.threshold}}\n"
        )
    }

    #[test]
    fn the_threshold_of_the_tutorials_file_decides() {
        for (text, expected) in [
            ("INFO", LevelFilter::INFO),
            ("DEBUG", LevelFilter::DEBUG),
            ("WARN", LevelFilter::WARN),
            ("FATAL", LevelFilter::ERROR),
            ("OFF", LevelFilter::OFF),
        ] {
            assert_eq!(level("log4j.properties", &tutorial(text), &[]), expected, "{text}");
        }
    }

    #[test]
    fn a_property_wins_over_the_file() {
        let found = level("log4j.properties", &tutorial("INFO"), &[(THRESHOLD, "ERROR")]);
        assert_eq!(found, LevelFilter::ERROR);
        let found = level("log4j.properties", &tutorial("DEBUG"), &[(ROOT, "WARN,CONSOLE")]);
        assert_eq!(found, LevelFilter::WARN);
    }

    #[test]
    fn the_root_level_limits_what_the_threshold_lets_through() {
        let text = "log4j.rootLogger=WARN, CONSOLE\nlog4j.appender.CONSOLE.Threshold=DEBUG\n";
        assert_eq!(level("log4j.properties", text, &[]), LevelFilter::WARN);
    }

    #[test]
    fn logback_is_read_for_root_and_threshold() {
        let text = "<configuration>\n  <!-- <property name=\"zookeeper.console.threshold\" \
                    value=\"ERROR\" /> -->\n  <property name=\"zookeeper.console.threshold\" \
                    value=\"DEBUG\" />\n  <root level='${x:-WARN}'><appender-ref ref=\"C\"/></root>\n\
                    </configuration>";
        assert_eq!(level("logback.xml", text, &[]), LevelFilter::WARN);
        assert_eq!(level("logback.xml", text, &[("x", "TRACE")]), LevelFilter::DEBUG);
        let properties = [("x", "TRACE"), (THRESHOLD, "ERROR")];
        assert_eq!(level("logback.xml", text, &properties), LevelFilter::ERROR);
    }

    #[test]
    fn odd_files_and_missing_ones_mean_info() {
        for text in ["", "\u{0}\u{fffd}", "log4j.rootLogger=${a}\na=${a}", "log4j.rootLogger=${"] {
            assert_eq!(level("log4j.properties", text, &[]), LevelFilter::INFO, "{text:?}");
        }
        for text in ["<", "<root level>", "<root level=", "<property name=\"x\"", "<!-- "] {
            assert_eq!(level("logback.xml", text, &[]), LevelFilter::INFO, "{text:?}");
        }
        assert_eq!(configured(None, &[]), LevelFilter::INFO);
    }

    #[test]
    fn rust_log_wins_unless_it_is_empty() {
        let properties = [(THRESHOLD.to_owned(), "ERROR".to_owned())];
        assert_eq!(filter(Some("debug"), None, &properties).to_string(), "debug");
        assert!(filter(Some(""), None, &properties).to_string().contains("error"));
        assert_eq!(filter(None, None, &properties).max_level_hint(), Some(LevelFilter::ERROR));
    }
}
