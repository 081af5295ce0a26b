//! The texts, line by line as the reference writes them.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use oxkeeper_proto::SessionId;
use oxkeeper_proto::ensemble::Role;
use oxkeeper_replica::client::statistics::Lengths;

use super::VERSION;
use super::view::{
    Bucket, Conf, Connection, Dump, Environment, Metric, MetricValue, Mode, Sessions, Summary,
    WatchSummary, Watches,
};

/// Appends a formatted line; writing to a string cannot fail.
macro_rules! line {
    ($out:expr, $($format:tt)*) => {{
        let _ = writeln!($out, $($format)*);
    }};
}

pub(super) fn summary(summary: &Summary, connections: Option<&[Connection]>) -> String {
    let mut out = format!("Zookeeper version: {VERSION}\n");
    if summary.mode == Mode::ReadOnly {
        out.push_str("READ-ONLY mode; serving only read-only clients\n");
    }
    if let Some(connections) = connections {
        out.push_str("Clients:\n");
        for connection in connections {
            connection_line(&mut out, connection, false);
        }
        out.push('\n');
    }
    let average = real(summary.latency_avg_ms);
    line!(
        out,
        "Latency min/avg/max: {}/{average}/{}",
        summary.latency_min_ms,
        summary.latency_max_ms
    );
    line!(out, "Received: {}", summary.received);
    line!(out, "Sent: {}", summary.sent);
    line!(out, "Connections: {}", summary.connections);
    line!(out, "Outstanding: {}", summary.outstanding);
    line!(out, "Zxid: {:#x}", summary.zxid.0);
    line!(out, "Mode: {}", summary.mode.name());
    line!(out, "Node count: {}", summary.node_count);
    if let Some(Lengths { last, min, max }) = summary.proposal_sizes {
        line!(out, "Proposal sizes last/min/max: {last}/{min}/{max}");
    }
    out
}

/// A number with one to four decimals.
fn real(value: f64) -> String {
    let text = format!("{value:.4}");
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

/// An address as Java prints it; an IPv4 client of a socket for both families is an IPv4 client.
fn address(address: SocketAddr) -> String {
    format!("/{}", SocketAddr::new(address.ip().to_canonical(), address.port()))
}

pub(super) fn connections(connections: &[Connection]) -> String {
    let mut out = String::new();
    for connection in connections {
        connection_line(&mut out, connection, true);
    }
    out.push('\n');
    out
}

fn connection_line(out: &mut String, connection: &Connection, full: bool) {
    let Connection { remote, interest, queued, received, sent, session } = connection;
    let _ = write!(
        out,
        " {}[{interest:x}](queued={queued},recved={received},sent={sent}",
        address(*remote)
    );
    if let (true, Some(session)) = (full, session) {
        let _ = write!(
            out,
            ",sid={:#x},lop={},est={},to={}",
            session.id, session.last_operation, session.established_ms, session.timeout_ms
        );
        if session.last_cxid >= 0 {
            let _ = write!(out, ",lcxid={:#x}", session.last_cxid);
        }
        let latency = &session.latency;
        let _ = write!(
            out,
            ",lzxid={:#x},lresp={},llat={},minlat={},avglat={},maxlat={}",
            session.last_zxid.0,
            session.last_response_ms,
            latency.last_ms,
            latency.min_ms,
            latency.mean_ms(),
            latency.max_ms
        );
    }
    out.push_str(")\n");
}

/// The working directory and `path`, with nothing resolved: what the reference shows.
fn absolute(path: PathBuf) -> PathBuf {
    match std::env::current_dir() {
        Ok(here) => here.join(path),
        // It is gone.
        Err(_) => path,
    }
}

pub(super) fn conf(conf: &Conf<'_>) -> String {
    let config = conf.config;
    let mut out = String::new();
    line!(out, "clientPort={}", config.client.as_ref().map_or(-1, |client| i32::from(client.port)));
    line!(out, "secureClientPort=-1");
    line!(out, "dataDir={}", absolute(config.data.snapshot_dir()).display());
    line!(out, "dataDirSize={}", conf.sizes.data);
    line!(out, "dataLogDir={}", absolute(config.data.txn_log_dir()).display());
    line!(out, "dataLogSize={}", conf.sizes.log);
    line!(out, "tickTime={}", config.tick_ms);
    line!(out, "maxClientCnxns={}", config.clients.max_per_address);
    line!(out, "minSessionTimeout={}", config.min_session_timeout_ms);
    line!(out, "maxSessionTimeout={}", config.max_session_timeout_ms);
    line!(out, "clientPortListenBacklog={}", config.client_backlog);
    line!(out, "serverId={}", config.server_id());
    let (Some(quorum), Some(member)) = (&config.quorum, &conf.member) else { return out };
    let ports = |election: bool| {
        let own = member.ensemble.servers.get(&quorum.me).into_iter();
        let ports = own.flat_map(|spec| &spec.addresses).map(|address| match election {
            true => address.election_port.to_string(),
            false => address.quorum_port.to_string(),
        });
        ports.collect::<Vec<_>>().join("|")
    };
    line!(out, "initLimit={}", quorum.init_limit);
    line!(out, "syncLimit={}", quorum.sync_limit);
    line!(out, "electionAlg=3");
    line!(out, "electionPort={}", ports(true));
    line!(out, "quorumPort={}", ports(false));
    line!(out, "peerType={}", i32::from(quorum.role == Role::Observer));
    line!(out, "membership: ");
    let _ = write!(out, "{}", member.ensemble);
    out
}

pub(super) fn metrics(summary: &Summary, metrics: &[Metric], prometheus: bool) -> String {
    let mut out = String::new();
    line!(out, "zk_version\t{VERSION}");
    line!(out, "zk_server_state\t{}", summary.mode.name());
    if let Some(state) = &summary.peer_state {
        line!(out, "zk_peer_state\t{state}");
    }
    for metric in metrics {
        match prometheus {
            true => prometheus_metric(&mut out, metric),
            false => default_metric(&mut out, metric),
        }
    }
    out
}

/// As the default metrics provider shows it.
fn default_metric(out: &mut String, Metric { name, value }: &Metric) {
    match value {
        MetricValue::Integer(value) => line!(out, "zk_{name}\t{value}"),
        MetricValue::Real(value) => line!(out, "zk_{name}\t{}", real(*value)),
        MetricValue::Counter(value) => line!(out, "zk_{name}\t{value}"),
        MetricValue::Basic(all) | MetricValue::Advanced(all) => {
            let average = if all.count == 0 { 0.0 } else { all.sum as f64 / all.count as f64 };
            line!(out, "zk_avg_{name}\t{}", real(average));
            line!(out, "zk_min_{name}\t{}", all.min);
            line!(out, "zk_max_{name}\t{}", all.max);
            line!(out, "zk_cnt_{name}\t{}", all.count);
            line!(out, "zk_sum_{name}\t{}", all.sum);
        }
    }
    if let MetricValue::Advanced(all) = value {
        for (percentile, at) in [("p50", 0), ("p95", 2), ("p99", 3), ("p999", 4)] {
            line!(out, "zk_{percentile}_{name}\t{}", all.quantiles[at].unwrap_or(0));
        }
    }
}

/// As the Prometheus provider shows it: every number is a double.
fn prometheus_metric(out: &mut String, Metric { name, value }: &Metric) {
    match value {
        MetricValue::Integer(value) => line!(out, "zk_{name}\t{:?}", *value as f64),
        MetricValue::Real(value) => line!(out, "zk_{name}\t{value:?}"),
        MetricValue::Counter(value) => line!(out, "zk_{name}\t{:?}", *value as f64),
        MetricValue::Basic(all) | MetricValue::Advanced(all) => {
            for (quantile, at) in value.quantiles() {
                let value = all.quantiles[*at].map_or(f64::NAN, |value| value as f64);
                line!(out, "zk_{name}{{quantile=\"{quantile}\"}}\t{value:?}");
            }
            line!(out, "zk_{name}_count\t{:?}", all.count as f64);
            line!(out, "zk_{name}_sum\t{:?}", all.sum as f64);
        }
    }
}

pub(super) fn dump(dump: &Dump) -> String {
    let mut out = "SessionTracker dump:\n".to_owned();
    match &dump.sessions {
        Sessions::Expiring(buckets) => {
            sets(&mut out, "Session", buckets, |session| format!("{session:#x}"));
        }
        Sessions::Known(sessions) => {
            line!(out, "Global Sessions({}):", sessions.len());
            for (session, timeout_ms) in sessions {
                line!(out, "{session:#x}\t{timeout_ms}ms");
            }
        }
    }
    line!(out, "ephemeral nodes dump:");
    line!(out, "Sessions with Ephemerals ({}):", dump.ephemerals.len());
    for (session, paths) in &dump.ephemerals {
        line!(out, "{session:#x}:");
        for path in paths {
            line!(out, "\t{path}");
        }
    }
    line!(out, "Connections dump:");
    sets(&mut out, "Connections", &dump.connections, |(remote, session)| {
        format!("ip: {} sessionId: {session:#x}", address(*remote))
    });
    out
}

fn sets<T>(out: &mut String, what: &str, buckets: &[Bucket<T>], entry: impl Fn(&T) -> String) {
    let count: usize = buckets.iter().map(|bucket| bucket.entries.len()).sum();
    line!(out, "{what} Sets ({})/({count}):", buckets.len());
    for bucket in buckets {
        line!(out, "{} expire at {}:", bucket.entries.len(), date(bucket.expires_ms));
        for one in &bucket.entries {
            line!(out, "\t{}", entry(one));
        }
    }
}

/// A time as Java prints dates: `Mon Nov 23 16:48:08 UTC 2026`.
pub(super) fn date(ms: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = ms.div_euclid(1000);
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March have their leap day at the end; eras of 400 years repeat exactly.
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12;
    let year = era * 400 + year_of_era + i64::from(month < 2);
    format!(
        "{} {} {day_of_month:02} {:02}:{:02}:{:02} UTC {year}",
        DAYS[day.rem_euclid(7) as usize],
        MONTHS[month as usize],
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

pub(super) fn watch_summary(summary: &WatchSummary) -> String {
    let WatchSummary { connections, paths, total } = summary;
    format!("{connections} connections watching {paths} paths\nTotal watches:{total}\n")
}

pub(super) fn watches_by_session(watches: &Watches) -> String {
    let mut out = String::new();
    for (session, paths) in &watches.by_session {
        line!(out, "{session:#x}");
        for path in paths {
            line!(out, "\t{path}");
        }
    }
    out.push('\n');
    out
}

pub(super) fn watches_by_path(watches: &Watches) -> String {
    let mut out = String::new();
    for (path, sessions) in &watches.by_path {
        line!(out, "{path}");
        for session in sessions {
            let session: &SessionId = session;
            line!(out, "\t{session:#x}");
        }
    }
    out.push('\n');
    out
}

pub(super) fn environment(environment: &Environment) -> String {
    let mut out = "Environment:\n".to_owned();
    for (key, value) in &environment.0 {
        line!(out, "{key}={value}");
    }
    out
}
