//! Where health and metrics are served.
//!
//! Source: `docs/spec/operations.md` 1.5, 4.3.

use oxkeeper_proto::ensemble::HostPort;

use super::LoadError;
use super::numbers::Reading;
use super::settings::{Setting, Settings};

/// `metricsProvider.*` of the Prometheus provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusConfig {
    /// Where it listens.
    pub address: HostPort,
    /// Export `process_*` and `jvm_*` as well.
    pub process: bool,
}

/// Where health checks are answered. Unlike the reference's, the port is opened only if it, or the
/// server behind it, is asked for: what is open must have been wanted.
pub(super) fn read_admin(settings: &Settings) -> Result<Option<HostPort>, LoadError> {
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

pub(super) fn read_prometheus(settings: &Settings) -> Result<Option<PrometheusConfig>, LoadError> {
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
