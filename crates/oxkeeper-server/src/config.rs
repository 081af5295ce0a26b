//! What a server is told: command line, process properties, zoo.cfg, dynamic file, `myid`.
//!
//! [`ServerConfig::load`] turns all of it into typed values, or into a [`LoadError`] that says what is
//! wrong, where (file and line) and what to do, with the reference's exit code.
//!
//! Source: `docs/spec/operations.md` 1, `docs/spec/quorum-protocol.md` 3.4.

use std::fs;
use std::path::{Path, PathBuf};

use oxkeeper_proto::ServerId;
use oxkeeper_proto::ensemble::{EnsembleConfig, HostPort, Role};
use oxkeeper_proto::jute::DEFAULT_MAX_BUFFER;

use crate::words::Whitelist;

mod data_dirs;
mod invocation;
mod keys;
mod membership;
mod numbers;
pub mod properties;
mod settings;
#[cfg(test)]
mod tests;

pub use invocation::{Form, Invocation};
use numbers::Reading;
pub use settings::Place;
use settings::{Setting, Settings};

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
    fn info(text: impl Into<String>) -> Warning {
        Warning { level: Level::Info, text: text.into() }
    }

    fn warn(text: impl Into<String>) -> Warning {
        Warning { level: Level::Warn, text: text.into() }
    }

    fn error(text: impl Into<String>) -> Warning {
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

    fn at(file: &str, line: u32, message: impl Into<String>, hint: impl Into<String>) -> LoadError {
        LoadError::Setting {
            place: Place::Line(file.to_owned(), line),
            message: message.into(),
            hint: hint.into(),
        }
    }

    fn of_file(file: &str, message: impl Into<String>, hint: impl Into<String>) -> LoadError {
        LoadError::Setting {
            place: Place::File(file.to_owned()),
            message: message.into(),
            hint: hint.into(),
        }
    }
}

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

/// `metricsProvider.*` of the Prometheus provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusConfig {
    /// Where it listens.
    pub address: HostPort,
    /// Export `process_*` and `jvm_*` as well.
    pub process: bool,
}

/// Where data are kept. Files lie in `version-2` below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataConfig {
    /// Snapshots, epochs, `myid`.
    pub data_dir: PathBuf,
    /// Transaction logs.
    pub log_dir: PathBuf,
    /// Create missing directories (`datadir.autocreate`).
    pub create: bool,
    /// Start with an empty database if there is none (`db.autocreate`).
    pub create_database: bool,
}

/// An ensemble and this server's place in it.
#[derive(Clone, Debug)]
pub struct QuorumConfig {
    /// This server.
    pub me: ServerId,
    /// Its role.
    pub role: Role,
    /// Members.
    pub ensemble: EnsembleConfig,
    /// Ticks a learner may take to connect and synchronize.
    pub init_limit: u64,
    /// Ticks of silence after which a peer is given up.
    pub sync_limit: u64,
    /// Ticks a learner may take to connect; `init_limit` if not set.
    pub connect_limit: u64,
    /// Bind quorum and election ports on all addresses.
    pub listen_on_all: bool,
    /// Announce all addresses of a server to peers.
    pub multi_address: bool,
    /// The leader accepts clients.
    pub leader_serves: bool,
    /// Always synchronize learners by SNAP.
    pub force_snapshot_sync: bool,
    /// Limit of one attempt to connect on the election port, in ms.
    pub election_connect_ms: u64,
    /// Limit of the election handshake, in ms.
    pub election_handshake_ms: u64,
    /// Attempts to open the election port; 0 = forever.
    pub election_bind_retries: u32,
    /// TCP keepalive on the election port.
    pub election_keepalive: bool,
}

/// How data are kept, with the reference's names.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageConfig {
    /// `preAllocSize` in KiB.
    pub preallocate_kib: i64,
    /// `forceSync`.
    pub force_sync: bool,
    /// `fsync.warningthresholdms`.
    pub fsync_warning_ms: u64,
    /// `snapCount`, at least 2.
    pub snap_count: u64,
    /// `snapSizeLimitInKb`; none: off.
    pub snap_size_limit_kib: Option<u64>,
    /// `txnLogSizeLimitInKb`; none: off.
    pub log_size_limit_kib: Option<u64>,
    /// `commitLogCount`, at least 500.
    pub commit_log_count: usize,
    /// `snapshotSizeFactor`; negative: no synchronization from the log.
    pub snapshot_size_factor: f64,
    /// `snapshot.compression.method`.
    pub compression: Compression,
    /// `snapshot.trust.empty`.
    pub trust_empty_snapshot: bool,
    /// `oxkeeper.skipLoneChecks`, a rescue setting: a record of the log that is a check outside of a
    /// multi is skipped.
    pub skip_lone_checks: bool,
    /// `oxkeeper.acceptLostTail`, a rescue setting: the server starts although transactions at the end
    /// of its log are known to be lost.
    pub accept_lost_tail: bool,
    /// `digest.enabled`.
    pub digests: bool,
    /// `autopurge.snapRetainCount`, at least 3.
    pub purge_retain: usize,
    /// `autopurge.purgeInterval` in hours; 0: off.
    pub purge_interval_hours: u64,
}

/// How snapshots are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
}

/// Limits of client connections, with the reference's names.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientConfig {
    /// `maxClientCnxns`: connections of one address; 0: no limit.
    pub max_per_address: usize,
    /// `maxCnxns`: all connections; 0: no limit.
    pub max_total: usize,
    /// `clientTcpKeepAlive`.
    pub keepalive: bool,
    /// `nio.sessionlessCnxnTimeout`: time to begin a session, in ms.
    pub sessionless_timeout_ms: u64,
    /// `jute.maxbuffer`: longest frame, in bytes.
    pub max_buffer: usize,
    /// `jute.maxbuffer.extrasize`: slack for records that servers make, in bytes.
    pub extra_size: usize,
    /// `globalOutstandingLimit`.
    pub global_outstanding: i64,
    /// `request_throttle_max_requests`; 0: off.
    pub throttle_max_requests: i64,
    /// `throttled_op_wait_time` in ms; 0: off.
    pub throttled_op_wait_ms: u64,
    /// `largeRequestThreshold` in bytes; -1: off.
    pub large_threshold: i64,
    /// `largeRequestMaxBytes`.
    pub large_max_bytes: i64,
    /// `connection_throttle_tokens`; 0: off.
    pub connection_tokens: i64,
    /// `connection_throttle_fill_time` in ms.
    pub connection_fill_ms: u64,
    /// `connection_throttle_fill_count`.
    pub connection_fill_count: i64,
    /// `connection_throttle_weight_enabled`.
    pub connection_weights: bool,
    /// `connection_throttle_global_session_weight`.
    pub connection_weight_global: i64,
    /// `connection_throttle_renew_session_weight`.
    pub connection_weight_renew: i64,
}

/// Rules of requests, with the reference's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleConfig {
    /// `skipACL=yes`.
    pub skip_acl: bool,
    /// `DigestAuthenticationProvider.superDigest`.
    pub super_digest: Option<String>,
    /// `DigestAuthenticationProvider.enabled`.
    pub digest_scheme: bool,
    /// `enforceQuota`.
    pub enforce_quota: bool,
    /// `reconfigEnabled`.
    pub reconfig: bool,
    /// `extendedTypesEnabled`.
    pub extended_types: bool,
    /// `emulate353TTLNodes`.
    pub emulate_353_ttl: bool,
    /// `znode.container.checkIntervalMs`.
    pub container_check_ms: u64,
    /// `znode.container.maxPerMinute`.
    pub container_max_per_minute: u32,
    /// `znode.container.maxNeverUsedIntervalMs`; 0: never.
    pub container_never_used_ms: i64,
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
        read_membership(&settings, &entries, &mut config)?;
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
    let (min_session_timeout_ms, max_session_timeout_ms) = read_session_limits(settings, tick_ms)?;
    Ok(ServerConfig {
        file: None,
        text: String::new(),
        data: read_data(settings)?,
        client: read_client_address(settings)?,
        client_backlog: settings.number("clientPortListenBacklog", -1)?,
        tick_ms,
        min_session_timeout_ms,
        max_session_timeout_ms,
        quorum: None,
        storage: read_storage(settings)?,
        clients: read_clients(settings)?,
        rules: read_rules(settings),
        words: Whitelist::parse(
            settings.property("4lw.commands.whitelist").map(|setting| setting.text.as_str()),
        ),
        admin: read_admin(settings)?,
        prometheus: read_prometheus(settings)?,
    })
}

fn read_tick(settings: &Settings) -> Result<u64, LoadError> {
    let hint = "Write tickTime in milliseconds, for example tickTime=2000";
    match settings.number("tickTime", 3000i32)? {
        tick @ 1.. => Ok(u64::from(tick.unsigned_abs())),
        0 => Err(about(settings, "tickTime", "tickTime is not set", hint)),
        _ => Err(about(settings, "tickTime", "tickTime is negative", hint)),
    }
}

/// An error about a key, at its line if it stands in the file.
fn about(settings: &Settings, key: &str, message: &str, hint: &str) -> LoadError {
    match settings.get(key) {
        Some(setting) => setting.wrong(message, hint),
        None => settings.missing(message, hint),
    }
}

fn read_session_limits(settings: &Settings, tick_ms: u64) -> Result<(i32, i32), LoadError> {
    let ticks = |n: u64| i32::try_from(tick_ms * n).unwrap_or(i32::MAX);
    let limit = |key, ticks| match settings.number(key, -1)? {
        -1 => Ok(ticks),
        set => Ok(set),
    };
    let min = limit("minSessionTimeout", ticks(2))?;
    let max = limit("maxSessionTimeout", ticks(20))?;
    if min > max {
        let key = match settings.get("minSessionTimeout") {
            Some(_) => "minSessionTimeout",
            None => "maxSessionTimeout",
        };
        let message = "minSessionTimeout must not be larger than maxSessionTimeout";
        let hint = format!("They are {min} and {max} ms; without setting, 2 and 20 ticks");
        return Err(about(settings, key, message, &hint));
    }
    Ok((min, max))
}

fn read_data(settings: &Settings) -> Result<DataConfig, LoadError> {
    let dir = |key| {
        let text = &settings.get(key).filter(|setting| !setting.text.is_empty())?.text;
        warn_if_relative(settings, text);
        Some(PathBuf::from(text))
    };
    let hint = "Name the directory for the data, for example dataDir=/var/lib/zookeeper";
    let data_dir =
        dir("dataDir").ok_or_else(|| about(settings, "dataDir", "dataDir is not set", hint))?;
    Ok(DataConfig {
        log_dir: dir("dataLogDir").unwrap_or_else(|| data_dir.clone()),
        data_dir,
        create: settings.flag("datadir.autocreate", true),
        create_database: settings.flag("db.autocreate", true),
    })
}

fn read_client_address(settings: &Settings) -> Result<Option<HostPort>, LoadError> {
    for (address, port) in
        [("clientPortAddress", "clientPort"), ("secureClientPortAddress", "secureClientPort")]
    {
        if let Some(setting) = settings.get(address)
            && settings.port(port)?.is_none()
        {
            let message = format!("{address} is set but {port} is not set");
            return Err(setting.wrong(message, format!("Set {port}, or remove {address}")));
        }
    }
    let Some(port) = settings.port("clientPort")? else { return Ok(None) };
    let host = settings.get("clientPortAddress").map_or("0.0.0.0", |setting| &setting.text);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(Some(HostPort { host: host.to_owned(), port }))
}

/// Where health checks are answered. Unlike the reference's, the port is opened only if it, or the
/// server behind it, is asked for: what is open must have been wanted.
fn read_admin(settings: &Settings) -> Result<Option<HostPort>, LoadError> {
    let enable = settings.property("admin.enableServer").map(|setting| setting.text.as_str());
    let port = settings.property("admin.serverPort");
    let asked = enable.is_some_and(|text| text.eq_ignore_ascii_case("true")) || port.is_some();
    if !asked || enable == Some("false") {
        return Ok(None);
    }
    let number = settings.integer("admin.serverPort", 8080i64);
    let number = port.map_or(Ok(8080), |port| port_number(port, number))?;
    Ok(http_address(settings.property("admin.serverAddress"), number))
}

fn read_prometheus(settings: &Settings) -> Result<Option<PrometheusConfig>, LoadError> {
    const DEFAULT: &str = "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider";
    const NONE: &str = "org.apache.zookeeper.metrics.impl.NullMetricsProvider";
    const PROMETHEUS: &str = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
    let Some(class) = settings.get("metricsProvider.className") else { return Ok(None) };
    match class.text.as_str() {
        PROMETHEUS => {}
        DEFAULT | NONE => return Ok(None),
        unknown => {
            let message = format!("metrics provider class was not found: {unknown}");
            return Err(class.wrong(message, format!("Write {PROMETHEUS}, or remove the line")));
        }
    }
    let (host, port) =
        (settings.get("metricsProvider.httpHost"), settings.get("metricsProvider.httpPort"));
    let number = match port {
        Some(port) => port_number(port, Reading::Decimal.read(&port.text).unwrap_or(-1))?,
        None => 7000,
    };
    let process = settings.get("metricsProvider.exportJvmInfo");
    let process = process.is_none_or(Setting::is_true);
    Ok(http_address(host, number).map(|address| PrometheusConfig { address, process }))
}

fn port_number(setting: &Setting, number: i64) -> Result<u16, LoadError> {
    u16::try_from(number).map_err(|_| {
        let message = format!("\"{}\" is no port", setting.text);
        setting.wrong(message, "Ports are numbers from 1 to 65535; 0 is off")
    })
}

/// A host, all addresses unless set, and a port; port 0 is none.
fn http_address(host: Option<&Setting>, port: u16) -> Option<HostPort> {
    let host = host.map_or("0.0.0.0", |host| &host.text);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (port != 0).then(|| HostPort { host: host.to_owned(), port })
}

fn read_storage(settings: &Settings) -> Result<StorageConfig, LoadError> {
    let positive = |key, default: i64| u64::try_from(settings.long(key, default)).ok();
    let mut snap_count = settings.integer("snapCount", 100_000i64);
    if snap_count < 2 {
        settings.warn(Warning::warn("SnapCount should be 2 or more. Now, snapCount is reset to 2"));
        snap_count = 2;
    }
    let mut purge_retain = settings.number("autopurge.snapRetainCount", 3i32)?;
    if purge_retain < 3 {
        settings.warn(Warning::warn(format!(
            "Invalid autopurge.snapRetainCount: {purge_retain}. Defaulting to 3"
        )));
        purge_retain = 3;
    }
    let mut factor = settings.real("snapshotSizeFactor", 0.33);
    if factor > 1.0 || factor.is_nan() {
        settings.warn(Warning::warn(format!("snapshotSizeFactor {factor} is above 1: using 0.33")));
        factor = 0.33;
    }
    Ok(StorageConfig {
        preallocate_kib: settings.decimal("preAllocSize", 65536),
        force_sync: settings.unless_no("forceSync"),
        fsync_warning_ms: read_fsync_warning(settings),
        snap_count: snap_count.unsigned_abs(),
        snap_size_limit_kib: positive("snapSizeLimitInKb", 4_194_304).filter(|kib| *kib > 0),
        log_size_limit_kib: positive("txnLogSizeLimitInKb", -1).filter(|kib| *kib > 0),
        commit_log_count: settings.decimal("commitLogCount", 500usize).max(500),
        snapshot_size_factor: factor,
        compression: read_compression(settings),
        trust_empty_snapshot: settings.flag("snapshot.trust.empty", false),
        skip_lone_checks: settings
            .rescue("oxkeeper.skipLoneChecks", "checks that stand alone in the log are skipped"),
        accept_lost_tail: settings.rescue(
            "oxkeeper.acceptLostTail",
            "a log whose end is lost is accepted, and what was acknowledged there is gone",
        ),
        digests: settings.flag("digest.enabled", true),
        purge_retain: purge_retain.unsigned_abs() as usize,
        purge_interval_hours: settings
            .number("autopurge.purgeInterval", 0i32)?
            .max(0)
            .unsigned_abs()
            .into(),
    })
}

/// The one number that is heard with and without the prefix, which wins.
fn read_fsync_warning(settings: &Settings) -> u64 {
    const KEY: &str = "fsync.warningthresholdms";
    let setting = settings.property(KEY).or_else(|| settings.process(KEY));
    settings.lenient(setting, KEY, 1000, Reading::Long)
}

fn read_compression(settings: &Settings) -> Compression {
    let Some(setting) = settings.property("snapshot.compression.method") else {
        return Compression::None;
    };
    match setting.text.as_str() {
        "" => Compression::None,
        "gz" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        other => {
            settings.warn(Warning::warn(format!(
                "{}: unknown snapshot.compression.method \"{other}\"; snapshots stay uncompressed",
                setting.place
            )));
            Compression::None
        }
    }
}

fn read_clients(settings: &Settings) -> Result<ClientConfig, LoadError> {
    let max_buffer = settings.process_integer("jute.maxbuffer", DEFAULT_MAX_BUFFER);
    Ok(ClientConfig {
        max_per_address: settings.number("maxClientCnxns", 60i32)?.max(0).unsigned_abs() as usize,
        max_total: settings.integer("maxCnxns", 0i32).max(0).unsigned_abs() as usize,
        keepalive: settings.flag("clientTcpKeepAlive", false),
        sessionless_timeout_ms: settings.integer("nio.sessionlessCnxnTimeout", 10_000),
        max_buffer,
        extra_size: settings.integer("jute.maxbuffer.extrasize", max_buffer),
        global_outstanding: settings.integer("globalOutstandingLimit", 1000),
        throttle_max_requests: settings.integer("request_throttle_max_requests", 0),
        throttled_op_wait_ms: settings.integer("throttled_op_wait_time", 0),
        large_threshold: settings.integer("largeRequestThreshold", -1),
        large_max_bytes: settings.integer("largeRequestMaxBytes", 104_857_600),
        connection_tokens: settings.integer("connection_throttle_tokens", 0),
        connection_fill_ms: settings.integer("connection_throttle_fill_time", 1),
        connection_fill_count: settings.integer("connection_throttle_fill_count", 1),
        connection_weights: settings.flag("connection_throttle_weight_enabled", false),
        connection_weight_global: settings.integer("connection_throttle_global_session_weight", 3),
        connection_weight_renew: settings.integer("connection_throttle_renew_session_weight", 2),
    })
}

fn read_rules(settings: &Settings) -> RuleConfig {
    let text = |key| settings.property(key).map(|setting| setting.text.clone());
    RuleConfig {
        skip_acl: text("skipACL").as_deref() == Some("yes"),
        super_digest: text("DigestAuthenticationProvider.superDigest"),
        digest_scheme: settings.flag("DigestAuthenticationProvider.enabled", true),
        enforce_quota: settings.flag("enforceQuota", false),
        reconfig: settings.get("reconfigEnabled").is_some_and(Setting::is_true),
        extended_types: settings.flag("extendedTypesEnabled", false),
        emulate_353_ttl: settings.flag("emulate353TTLNodes", false),
        container_check_ms: settings.process_integer("znode.container.checkIntervalMs", 60_000),
        container_max_per_minute: settings.process_integer("znode.container.maxPerMinute", 10_000),
        container_never_used_ms: settings.process_long("znode.container.maxNeverUsedIntervalMs", 0),
    }
}

/// Fills in the ensemble, if there is one, and what the members' list says of the client port.
fn read_membership(
    settings: &Settings,
    entries: &[properties::Property],
    config: &mut ServerConfig,
) -> Result<(), LoadError> {
    if let Some(setting) = settings.get("electionAlg")
        && settings.number("electionAlg", 3)? != 3
    {
        let message = "Invalid electionAlg value. Only 3 is supported.";
        return Err(setting.wrong(message, "Remove electionAlg"));
    }
    membership::peer_type(settings)?;
    let membership = membership::read(settings, entries)?;
    let distributed = membership.is_distributed(settings)?;
    let me = membership::read_my_id(&config.data.data_dir)?;
    config.client = membership.client_address(me, config.client.take())?;
    if !distributed {
        let text = "Either no config or no quorum defined in config, running in standalone mode";
        settings.warn(Warning::warn(text));
        return Ok(());
    }
    let limit = |key: &str, fallback: Option<u64>| match settings.number(key, 0i32)? {
        ticks @ 1.. => Ok(u64::from(ticks.unsigned_abs())),
        _ => fallback.ok_or_else(|| {
            let hint = format!("Write a number of ticks, for example {key}=10");
            about(settings, key, &format!("{key} is not set"), &hint)
        }),
    };
    let init_limit = limit("initLimit", None)?;
    let sync_limit = limit("syncLimit", None)?;
    let me = own_id(settings, me, config, &membership.ensemble)?;
    let handshake_ms = settings.integer("quorumCnxnTimeoutMs", -1i64);
    config.quorum = Some(QuorumConfig {
        me,
        role: membership.role(me, settings)?,
        ensemble: membership.ensemble,
        init_limit,
        sync_limit,
        connect_limit: limit("connectToLearnerMasterLimit", Some(init_limit))?,
        listen_on_all: settings.boolean("quorumListenOnAllIPs", false)?,
        multi_address: settings.flag("multiAddress.enabled", false),
        leader_serves: settings.unless_no("leaderServes"),
        force_snapshot_sync: settings.flag("forceSnapshotSync", false),
        election_connect_ms: settings.decimal("cnxTimeout", 5000),
        election_handshake_ms: match u64::try_from(handshake_ms) {
            Ok(ms) if ms > 0 => ms,
            _ => config.tick_ms.saturating_mul(sync_limit),
        },
        election_bind_retries: settings.integer("electionPortBindRetry", 3),
        election_keepalive: settings.flag("tcpKeepAlive", false),
    });
    Ok(())
}

/// This server's id, which must be a member's.
fn own_id(
    settings: &Settings,
    me: Option<ServerId>,
    config: &ServerConfig,
    ensemble: &EnsembleConfig,
) -> Result<ServerId, LoadError> {
    let path = config.data.data_dir.join("myid").display().to_string();
    let me = me.ok_or_else(|| {
        let hint = "Create it with this server's number, the N of its server.N line: echo 1 > myid";
        LoadError::of_file(&path, "myid file is missing", hint)
    })?;
    if ensemble.servers.contains_key(&me) {
        return Ok(me);
    }
    let members: Vec<_> = ensemble.servers.keys().map(ServerId::to_string).collect();
    Err(LoadError::NotAMember {
        me,
        file: settings.file.clone(),
        members: members.join(", "),
        myid: path,
    })
}
