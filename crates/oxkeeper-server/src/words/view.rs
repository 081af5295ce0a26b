//! What the four-letter words need to see of a server.

use std::net::SocketAddr;

use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_proto::{SessionId, Zxid};
use oxkeeper_replica::client::statistics::{Latency, Lengths};
use oxkeeper_replica::summary::Distribution;

use crate::config::ServerConfig;

/// A running server, as operators see it. Methods are called on a connection's task and may take
/// locks for a short time.
pub trait ServerView {
    /// Are clients served (a leader is known, the tree is loaded)?
    fn serving(&self) -> bool;
    /// For `srvr`, `stat`, `mntr`, `isro`.
    fn summary(&self) -> Summary;
    /// Client connections, this one included; for `stat` and `cons`.
    fn connections(&self) -> Vec<Connection>;
    /// For `conf`.
    fn conf(&self) -> Conf<'_>;
    /// Metrics in the order to print, without the `zk_` of their names; for `mntr`.
    fn metrics(&self) -> Vec<Metric>;
    /// Is the Prometheus provider configured? It changes the forms that `mntr` shows.
    fn prometheus(&self) -> bool {
        false
    }
    /// For `dump`.
    fn dump(&self) -> Dump;
    /// Data and exist watches; for `wchc` and `wchp`.
    fn watches(&self) -> Watches;
    /// For `wchs`.
    fn watch_summary(&self) -> WatchSummary;
    /// For `dirs`.
    fn directory_sizes(&self) -> DirectorySizes;
    /// Tree digests of the past; for `hash`.
    fn digests(&self) -> Vec<(Zxid, u64)>;
    /// For `envi`.
    fn environment(&self) -> Environment {
        Environment::gather()
    }
    /// For `gtmk`.
    fn trace_mask(&self) -> i64;
    /// For `stmk`.
    fn set_trace_mask(&self, mask: i64);
    /// For `srst`.
    fn reset_server_statistics(&self);
    /// For `crst`.
    fn reset_connection_statistics(&self);
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mode {
    Standalone,
    Leader,
    Follower,
    Observer,
    ReadOnly,
}

impl Mode {
    /// Its name in `Mode:` and `zk_server_state`.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Standalone => "standalone",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Observer => "observer",
            Mode::ReadOnly => "read-only",
        }
    }
}

/// The server in a few lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Smallest latency since the last reset, in ms; 0 before the first request.
    pub latency_min_ms: u64,
    /// Mean latency in ms.
    pub latency_avg_ms: f64,
    /// Largest latency in ms.
    pub latency_max_ms: u64,
    /// Packets from clients.
    pub received: u64,
    /// Packets to clients.
    pub sent: u64,
    /// Connections, the one that asks included.
    pub connections: usize,
    /// Requests not yet answered.
    pub outstanding: u64,
    /// Last zxid applied.
    pub zxid: Zxid,
    /// Role.
    pub mode: Mode,
    /// Znodes.
    pub node_count: u64,
    /// Leader only: sizes of proposals.
    pub proposal_sizes: Option<Lengths>,
    /// Members only: `<state> - <phase>[ - <diff|snap|trunc>]`, for `zk_peer_state`.
    pub peer_state: Option<String>,
}

/// A client connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// The client.
    pub remote: SocketAddr,
    /// What is awaited: 1 input, 4 room for output, 5 both; 0 for one that serves a word.
    pub interest: u8,
    /// Requests not yet answered.
    pub queued: u64,
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// What is known once a session is there.
    pub session: Option<ConnectionSession>,
}

/// A connection's session and its last request.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionSession {
    /// The session.
    pub id: SessionId,
    /// Short name of the last operation, such as `GETD`; `NA` before the first.
    pub last_operation: &'static str,
    /// When the connection was made, in ms since 1970.
    pub established_ms: i64,
    /// Session timeout in ms.
    pub timeout_ms: i32,
    /// Number of the last request; negative: none to show.
    pub last_cxid: i64,
    /// zxid in the last reply.
    pub last_zxid: Zxid,
    /// When the last reply was made, in ms of a monotonic clock.
    pub last_response_ms: u64,
    /// From requests to their replies.
    pub latency: Latency,
}

/// Bytes in the files below a directory.
#[derive(Clone, Copy, Debug)]
pub struct DirectorySizes {
    /// Of snapshots.
    pub data: u64,
    /// Of logs.
    pub log: u64,
}

/// The configuration in effect.
#[derive(Clone, Debug)]
pub struct Conf<'a> {
    /// What was loaded at the start.
    pub config: &'a ServerConfig,
    /// Of its directories.
    pub sizes: DirectorySizes,
    /// Members only.
    pub member: Option<Member>,
}

/// What `conf` tells of a member of an ensemble.
#[derive(Clone, Debug)]
pub struct Member {
    /// Members and version.
    pub ensemble: EnsembleConfig,
}

/// One metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Name without `zk_`.
    pub name: String,
    /// Value.
    pub value: MetricValue,
}

/// A metric's value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum MetricValue {
    /// A gauge.
    Integer(i64),
    /// A gauge; printed with one to four decimals.
    Real(f64),
    /// Never falls.
    Counter(u64),
    /// A summary of which the median is shown.
    Basic(Distribution),
    /// A summary with further quantiles.
    Advanced(Distribution),
}

impl MetricValue {
    /// The quantiles that the Prometheus provider shows, and their places in the distribution.
    pub fn quantiles(&self) -> &'static [(&'static str, usize)] {
        match self {
            MetricValue::Basic(_) => &[("0.5", 0)],
            MetricValue::Advanced(_) => &[("0.5", 0), ("0.9", 1), ("0.99", 3)],
            MetricValue::Integer(_) | MetricValue::Real(_) | MetricValue::Counter(_) => &[],
        }
    }
}

/// Sessions, ephemeral nodes, connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Dump {
    /// Sessions.
    pub sessions: Sessions,
    /// Ephemeral nodes by session, sorted.
    pub ephemerals: Vec<(SessionId, Vec<String>)>,
    /// Connections by the time at which they are closed unless they begin a session.
    pub connections: Vec<Bucket<(SocketAddr, SessionId)>>,
}

/// Sessions as the role sees them.
#[derive(Clone, Debug, PartialEq)]
pub enum Sessions {
    /// A leader or standalone server: by time of expiry.
    Expiring(Vec<Bucket<SessionId>>),
    /// A learner: sessions and timeouts in ms.
    Known(Vec<(SessionId, i32)>),
}

/// What expires at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket<T> {
    /// In ms since 1970.
    pub expires_ms: i64,
    /// What expires.
    pub entries: Vec<T>,
}

/// Data and exist watches, both ways round, sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watches {
    /// Paths by session.
    pub by_session: Vec<(SessionId, Vec<String>)>,
    /// Sessions by path.
    pub by_path: Vec<(String, Vec<SessionId>)>,
}

/// Data and exist watches, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WatchSummary {
    /// Connections that watch.
    pub connections: usize,
    /// Paths watched.
    pub paths: usize,
    /// Watches.
    pub total: usize,
}

/// The process's surroundings, key and value.
#[derive(Clone, Debug, PartialEq)]
pub struct Environment(pub Vec<(&'static str, String)>);

impl Environment {
    /// Looks at this process. Keys are the reference's; what belongs to a Java machine is `<NA>`.
    pub fn gather() -> Environment {
        let system = rustix::system::uname();
        let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
        let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| "<NA>".to_owned());
        let memory = Memory::look();
        let none = || "<NA>".to_owned();
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            other => other,
        };
        let directory =
            std::env::current_dir().map_or_else(|_| none(), |d| d.display().to_string());
        Environment(vec![
            ("zookeeper.version", super::VERSION.to_owned()),
            ("host.name", text(system.nodename())),
            ("java.version", none()),
            ("java.vendor", none()),
            ("java.home", none()),
            ("java.class.path", none()),
            ("java.library.path", none()),
            ("java.io.tmpdir", std::env::temp_dir().display().to_string()),
            ("java.compiler", none()),
            ("os.name", text(system.sysname())),
            ("os.arch", architecture.to_owned()),
            ("os.version", text(system.release())),
            ("user.name", variable("USER")),
            ("user.home", variable("HOME")),
            ("user.dir", directory),
            ("os.memory.free", megabytes(memory.free)),
            ("os.memory.max", megabytes(memory.max)),
            ("os.memory.total", megabytes(memory.total)),
        ])
    }
}

/// Memory in bytes, as far as known. The reference tells of its heap, which is all it may use.
struct Memory {
    /// Not used by anybody yet.
    free: Option<u64>,
    /// What this process can have at most.
    max: Option<u64>,
    /// What the machine has.
    total: Option<u64>,
}

impl Memory {
    /// Looks at the machine and, for a process in a container, at the limit of its control group.
    fn look() -> Memory {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
        let machine = read("/proc/meminfo").unwrap_or_default();
        let of_machine = |key: &str| {
            let line = machine.lines().find_map(|line| line.strip_prefix(key))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        let (free, total) = (of_machine("MemAvailable:"), of_machine("MemTotal:"));
        // Version 2 of control groups, then version 1. No limit is `max` or a number beyond all memory.
        let group = [
            ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.usage_in_bytes",
            ),
        ];
        let limit = group.iter().find_map(|(limit, used)| Some((number(limit)?, number(used)?)));
        match limit.filter(|(limit, _)| total.is_none_or(|total| *limit < total)) {
            Some((limit, used)) => {
                let left = limit.saturating_sub(used);
                let free = Some(free.map_or(left, |free| free.min(left)));
                Memory { free, max: Some(limit), total }
            }
            None => Memory { free, max: total, total },
        }
    }
}

/// How much memory this process may use at most.
pub(crate) struct MemoryLimit {
    /// `None`: not known.
    pub bytes: Option<u64>,
    /// Is it the control group's limit, and not all that the machine has?
    pub of_group: bool,
}

impl MemoryLimit {
    /// As it is now.
    pub fn look() -> MemoryLimit {
        let Memory { max, total, .. } = Memory::look();
        MemoryLimit { bytes: max, of_group: max != total }
    }
}

fn megabytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "<NA>".to_owned(), |bytes| format!("{}MB", bytes >> 20))
}
