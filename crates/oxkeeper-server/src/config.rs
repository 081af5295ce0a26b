//! What a server is told: command line, process properties, zoo.cfg, dynamic file, `myid`.
//!
//! [`ServerConfig::load`] turns all of it into typed values, or into a [`LoadError`] that says what is
//! wrong, where (file and line) and what to do, with the reference's exit code.
//!
//! Source: `docs/spec/operations.md` 1, `docs/spec/quorum-protocol.md` 3.4.

use std::fs;
use std::path::{Path, PathBuf};

use oxkeeper_proto::ServerId;
use oxkeeper_proto::ensemble::HostPort;

use crate::words::Whitelist;

mod clients;
mod data;
mod http;
mod invocation;
mod keys;
mod membership;
mod numbers;
mod problems;
pub mod properties;
mod quorum;
mod rules;
mod settings;
mod storage;
#[cfg(test)]
mod tests;

pub use clients::ClientConfig;
pub use data::DataConfig;
pub use http::PrometheusConfig;
pub use invocation::{Form, Invocation};
pub use problems::{Level, LoadError, Warning};
pub use quorum::QuorumConfig;
pub use rules::RuleConfig;
pub use settings::Place;
use settings::{Setting, Settings};
pub use storage::StorageConfig;

/// Everything a server needs to know to run.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The configuration file; none for the short form.
    pub file: Option<PathBuf>,
    /// Its text as read, for operators.
    pub text: String,
    /// Directories.
    pub data: DataConfig,
    /// The plain client port; without it the server serves nobody.
    pub client: Option<HostPort>,
    /// Accept backlog of the client port; -1: the platform's.
    pub client_backlog: i32,
    /// Unit of time, in ms.
    pub tick_ms: u64,
    /// Shortest session timeout granted, in ms.
    pub min_session_timeout_ms: i32,
    /// Longest session timeout granted, in ms.
    pub max_session_timeout_ms: i32,
    /// The ensemble this server belongs to; none: standalone.
    pub quorum: Option<QuorumConfig>,
    /// The transaction log and snapshots.
    pub storage: StorageConfig,
    /// Client connections and requests.
    pub clients: ClientConfig,
    /// Rules of requests.
    pub rules: RuleConfig,
    /// Which four-letter words are answered.
    pub words: Whitelist,
    /// Where health checks are answered; none: nowhere.
    pub admin: Option<HostPort>,
    /// The Prometheus metrics provider; none: the default one.
    pub prometheus: Option<PrometheusConfig>,
}

impl ServerConfig {
    /// Reads everything that `invocation` names. Opens no port and creates nothing.
    pub fn load(invocation: &Invocation) -> Result<(ServerConfig, Vec<Warning>), LoadError> {
        match &invocation.form {
            Form::File(path) => ServerConfig::load_file(path, &invocation.properties),
            Form::Standalone(words) => ServerConfig::load_words(words, &invocation.properties),
        }
    }

    fn load_file(
        path: &Path,
        properties: &[(String, String)],
    ) -> Result<(ServerConfig, Vec<Warning>), LoadError> {
        let file = path.display().to_string();
        let bytes = fs::read(path)
            .map_err(|source| LoadError::Unreadable { path: file.clone(), source })?;
        let entries = parse_properties(&file, &bytes)?;
        let settings = Settings::new(file.clone(), entries.clone(), properties);
        warn_if_relative(&settings, &file);
        keys::check(&settings)?;
        let mut config = read_single(&settings)?;
        config.file = Some(path.to_owned());
        config.text = bytes.iter().copied().map(char::from).collect();
        quorum::read(&settings, &entries, &mut config)?;
        if config.client.is_none() {
            let text = "clientPort is not set: no client can connect to this server";
            settings.warn(Warning::warn(text));
        }
        Ok((config, settings.take_warnings()))
    }

    fn load_words(
        words: &[String],
        properties: &[(String, String)],
    ) -> Result<(ServerConfig, Vec<Warning>), LoadError> {
        let names = ["clientPort", "dataDir", "tickTime", "maxClientCnxns"];
        let mut settings = Settings::new("command line".to_owned(), Vec::new(), properties);
        for (name, word) in names.into_iter().zip(words) {
            let setting = Setting { text: word.clone(), place: Place::Argument(name) };
            settings.entries.insert(name.to_owned(), setting);
        }
        keys::check(&settings)?;
        let config = read_single(&settings)?;
        Ok((config, settings.take_warnings()))
    }

    /// Id in session ids, `conf` and logs: 0 for a standalone server.
    pub fn server_id(&self) -> ServerId {
        self.quorum.as_ref().map_or(0, |quorum| quorum.me)
    }

    /// Longest string or buffer accepted from a peer or the disk, in bytes.
    pub fn max_record(&self) -> usize {
        self.clients.max_buffer.saturating_add(self.clients.extra_size)
    }
}

fn parse_properties(file: &str, bytes: &[u8]) -> Result<Vec<properties::Property>, LoadError> {
    properties::parse(bytes).map_err(|error| {
        let hint = "Write \\u and four hexadecimal digits, or two backslashes for one";
        LoadError::at(file, error.line, error.to_string(), hint)
    })
}

fn warn_if_relative(settings: &Settings, path: &str) {
    if !path.starts_with('/') && !path.starts_with("./") {
        settings.warn(Warning::warn(format!(
            "{path} is relative. Prepend ./ to indicate that you're sure!"
        )));
    }
}

/// All but the ensemble.
fn read_single(settings: &Settings) -> Result<ServerConfig, LoadError> {
    let tick_ms = read_tick(settings)?;
    let (min_session_timeout_ms, max_session_timeout_ms) =
        clients::read_session_limits(settings, tick_ms)?;
    Ok(ServerConfig {
        file: None,
        text: String::new(),
        data: data::read(settings)?,
        client: clients::read_address(settings)?,
        client_backlog: settings.number("clientPortListenBacklog", -1)?,
        tick_ms,
        min_session_timeout_ms,
        max_session_timeout_ms,
        quorum: None,
        storage: storage::read(settings)?,
        clients: clients::read(settings)?,
        rules: rules::read(settings),
        words: Whitelist::parse(
            settings.property("4lw.commands.whitelist").map(|setting| setting.text.as_str()),
        ),
        admin: http::read_admin(settings)?,
        prometheus: http::read_prometheus(settings)?,
    })
}

fn read_tick(settings: &Settings) -> Result<u64, LoadError> {
    let hint = "Write tickTime in milliseconds, for example tickTime=2000";
    match settings.number("tickTime", 3000i32)? {
        tick @ 1.. => Ok(u64::from(tick.unsigned_abs())),
        0 => Err(settings.about("tickTime", "tickTime is not set", hint)),
        _ => Err(settings.about("tickTime", "tickTime is negative", hint)),
    }
}
