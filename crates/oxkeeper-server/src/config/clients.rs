//! The client port, its connections and their sessions.
//!
//! Source: `docs/spec/operations.md` 1.5.

use oxkeeper_proto::ensemble::HostPort;
use oxkeeper_proto::jute::DEFAULT_MAX_BUFFER;

use super::LoadError;
use super::settings::Settings;

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

/// Settings of connections and requests.
pub(super) fn read(settings: &Settings) -> Result<ClientConfig, LoadError> {
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

pub(super) fn read_address(settings: &Settings) -> Result<Option<HostPort>, LoadError> {
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

pub(super) fn read_session_limits(
    settings: &Settings,
    tick_ms: u64,
) -> Result<(i32, i32), LoadError> {
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
        return Err(settings.about(key, message, &hint));
    }
    Ok((min, max))
}
