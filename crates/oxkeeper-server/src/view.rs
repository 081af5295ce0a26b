//! Shows the running server to the four-letter words.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use oxkeeper_proto::{OpCode, SessionId, Zxid};
use oxkeeper_replica::client::statistics::Lengths;
use oxkeeper_replica::replica::LearnerCounts;
use oxkeeper_replica::{Client, Replica};
use oxkeeper_zab::{Phase, SyncKind};

use crate::client_port::{ClientPort, Words};
use crate::clock::Clock;
use crate::config::ServerConfig;
use crate::disk::DiskStats;
use crate::driver::Event;
use crate::logging::connection_line;
use crate::mailbox::Mailbox;
use crate::words::{
    self, Bucket, Conf, Connection, ConnectionSession, DirectorySizes, Dump, Member, Metric,
    MetricValue, Mode, ServerView, Sessions, Summary, WatchSummary, Watches, Word,
};

/// How long a busy replica may take to answer before the server counts as not serving.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of an answer that count as one packet sent.
const PIECE: usize = 8192;

/// Answers four-letter words of one server.
pub struct Inspector {
    config: ServerConfig,
    mailbox: Arc<Mailbox<Event>>,
    disk: Arc<DiskStats>,
    clock: Clock,
    /// Told and set by operators; there is nothing here that it would trace.
    trace_mask: AtomicI64,
}

/// What only the replica knows.
#[derive(Default)]
struct Role {
    /// The replica has answered.
    known: bool,
    serving: bool,
    mode: Option<&'static str>,
    peer_state: Option<String>,
    proposal_sizes: Lengths,
    /// Monotonic deadlines and sessions.
    buckets: Vec<(u64, Vec<SessionId>)>,
    learners: LearnerCounts,
    pending_syncs: usize,
    diffs: u64,
    snaps: u64,
    elections: u64,
    refused_newer_histories: u64,
    /// Acknowledged transactions are gone: no vote until a leader has brought this member up to date.
    lost_tail: bool,
}

impl Inspector {
    /// For a server with this configuration.
    pub fn new(
        config: ServerConfig,
        mailbox: Arc<Mailbox<Event>>,
        disk: Arc<DiskStats>,
        clock: Clock,
    ) -> Inspector {
        let trace_mask = AtomicI64::new(words::DEFAULT_TRACE_MASK);
        Inspector { config, mailbox, disk, clock, trace_mask }
    }

    /// Asks the replica thread. It is busy at worst; without an answer the server is not serving.
    fn role(&self) -> Role {
        tokio::task::block_in_place(|| self.ask(PATIENCE, look).unwrap_or_default())
    }

    /// Blocks for at most `patience`, unless another thread is stuck while it owns the replica.
    fn ask<T: Send + 'static>(
        &self,
        patience: Duration,
        look: impl FnOnce(&Replica) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, asked) = mpsc::channel();
        self.mailbox.push(Event::Query(Box::new(move |replica| {
            // The asker may have given up.
            let _ = answer.send(look(replica));
        })));
        asked.recv_timeout(patience).ok()
    }

    /// The role in which clients are served, or why they are not; `None`: the replica is busy. Blocks.
    pub fn readiness(
        &self,
        port: &ClientPort,
        patience: Duration,
    ) -> Option<Result<&'static str, String>> {
        let look =
            |replica: &Replica| (replica.is_serving(), replica.mode_name(), peer_state(replica));
        let (serving, mode, peer_state) = self.ask(patience, look)?;
        let state = peer_state.unwrap_or_default();
        Some(match (serving, mode) {
            (true, Some(mode)) if port.shared.serving() => Ok(mode),
            (true, _) => Err("this leader does not serve clients (leaderServes=no)".to_owned()),
            (false, None) => Err(format!("no quorum yet, looking for a leader ({state})")),
            (false, Some(_)) => Err(format!("not synchronized with a quorum yet ({state})")),
        })
    }

    /// Every metric of the registry; without those of the role if the replica is busy. Blocks.
    pub fn gather(&self, port: &ClientPort, patience: Duration) -> Vec<Metric> {
        let role = self.ask(patience, look_without_sessions);
        View { inspector: self, port, role: role.unwrap_or_default() }.metrics()
    }

    /// Moves the windows of all summaries on.
    pub fn rotate(&self, port: &ClientPort) {
        port.shared.meters.rotate();
        self.disk.summaries().iter().for_each(|(_, summary)| summary.rotate());
    }

    /// How long the current role has been serving, in ms.
    fn uptime_ms(&self, port: &ClientPort) -> u64 {
        self.clock.mono_ms().saturating_sub(port.shared.serving_since_ms())
    }
}

impl Words for Inspector {
    fn extra(&self, word: [u8; 4]) -> Option<usize> {
        match Word::from_bytes(word)? {
            // A refusal waits for nothing.
            Word::Stmk if self.config.words.allows(Word::Stmk) => Some(8),
            _ => Some(0),
        }
    }

    fn answer(&self, word: [u8; 4], extra: &[u8], peer: SocketAddr, port: &ClientPort) -> Vec<u8> {
        let Some(word) = Word::from_bytes(word) else { return Vec::new() };
        port.shared.stats.received.fetch_add(1, Ordering::Relaxed);
        let mask = extra.first_chunk::<8>().map(|mask| i64::from_be_bytes(*mask));
        let allowed = self.config.words.allows(word);
        if allowed {
            connection_line!("Processing {} command from /{peer}", word.name());
        }
        // What has nothing to do with the role is answered even if the replica is stuck.
        let asks = allowed && !matches!(word, Word::Ruok | Word::Envi | Word::Gtmk | Word::Stmk);
        let role = if asks { self.role() } else { Role::default() };
        let view = View { inspector: self, port, role };
        let text = words::answer(word, mask, &self.config.words, &view).unwrap_or_default();
        // The reference sends, and counts, a text in pieces.
        let pieces = text.len().div_ceil(PIECE) as u64;
        port.shared.stats.sent.fetch_add(pieces, Ordering::Relaxed);
        text.into_bytes()
    }
}

/// `<state> - <phase>[ - <diff|snap|trunc>]` of a member of an ensemble.
fn peer_state(replica: &Replica) -> Option<String> {
    let zab = replica.zab()?;
    let state = match replica.mode_name() {
        Some("leader") => "leading",
        Some("follower") => "following",
        Some("observer") => "observing",
        _ => "looking",
    };
    let phase = match zab.phase() {
        Phase::Election => "election",
        Phase::Discovery => "discovery",
        Phase::Synchronization => "synchronization",
        Phase::Broadcast => "broadcast",
    };
    let sync = match zab.last_sync_kind().filter(|_| zab.phase() == Phase::Synchronization) {
        Some(SyncKind::Diff) => " - diff",
        Some(SyncKind::Snap) => " - snap",
        Some(SyncKind::Trunc) => " - trunc",
        None => "",
    };
    Some(format!("{state} - {phase}{sync}"))
}

fn look(replica: &Replica) -> Role {
    let buckets = replica
        .tracker()
        .buckets()
        .map(|(at_ms, sessions)| (at_ms, sessions.iter().copied().collect()))
        .collect();
    Role { buckets, ..look_without_sessions(replica) }
}

fn look_without_sessions(replica: &Replica) -> Role {
    let zab = replica.zab();
    Role {
        known: true,
        serving: replica.is_serving(),
        mode: replica.mode_name(),
        peer_state: peer_state(replica),
        proposal_sizes: replica.proposal_sizes(),
        buckets: Vec::new(),
        learners: replica.learner_counts(),
        pending_syncs: replica.pending_syncs(),
        diffs: zab.map_or(0, |zab| zab.sync_counts().diff),
        snaps: zab.map_or(0, |zab| zab.sync_counts().snap),
        elections: zab.map_or(0, |zab| zab.elections()),
        refused_newer_histories: zab.map_or(0, |zab| zab.refused_newer_histories()),
        lost_tail: zab.is_some_and(|zab| zab.lost_tail().is_some()),
    }
}

/// The server at the moment a word is answered.
struct View<'a> {
    inspector: &'a Inspector,
    port: &'a ClientPort,
    role: Role,
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl View<'_> {
    fn mode(&self) -> Mode {
        match self.role.mode {
            Some("leader") => Mode::Leader,
            Some("follower") => Mode::Follower,
            Some("observer") => Mode::Observer,
            _ => Mode::Standalone,
        }
    }

    fn connection(&self, client: &Arc<Client>, wall_offset_ms: i64) -> Connection {
        let stats = client.stats();
        let session = client.session();
        Connection {
            remote: client.peer,
            interest: u8::from(session != 0),
            queued: client.queued() as u64,
            received: stats.received,
            sent: stats.sent,
            session: (session != 0).then(|| ConnectionSession {
                id: session,
                last_operation: op_name(stats.last_op),
                established_ms: wall_offset_ms + stats.established_ms as i64,
                timeout_ms: client.timeout_ms(),
                last_cxid: stats.last_cxid.into(),
                last_zxid: Zxid(stats.last_zxid),
                last_response_ms: stats.last_response_ms,
                latency: stats.latency,
            }),
        }
    }

    /// Metrics that every server has.
    fn common_metrics(&self, summary: &Summary, metrics: &mut Vec<Metric>) {
        let state = self.port.shared.state.read();
        let stats = &self.port.shared.stats;
        let size = |size: &AtomicI64| size.load(Ordering::Relaxed);
        let watches = self.port.shared.watches.lock().watch_count();
        let Descriptors { open, limit } = Descriptors::look();
        metrics.push(Metric {
            name: "avg_latency".to_owned(),
            value: MetricValue::Real(summary.latency_avg_ms),
        });
        for (name, value) in [
            ("max_latency", summary.latency_max_ms),
            ("min_latency", summary.latency_min_ms),
            ("packets_received", summary.received),
            ("packets_sent", summary.sent),
            ("num_alive_connections", summary.connections as u64),
            ("outstanding_requests", summary.outstanding),
            ("znode_count", summary.node_count),
            ("watch_count", watches as u64),
            ("ephemerals_count", state.ephemerals_count() as u64),
            ("approximate_data_size", state.approximate_data_size()),
            ("global_sessions", state.sessions().len() as u64),
            ("local_sessions", 0),
            ("open_file_descriptor_count", open),
            ("max_file_descriptor_count", limit),
        ] {
            metrics.push(integer(name, value as i64));
        }
        if self.serving() {
            metrics.push(integer("uptime", self.inspector.uptime_ms(self.port) as i64));
        }
        for (name, value) in [
            ("last_client_response_size", size(&stats.response_last)),
            ("min_client_response_size", size(&stats.response_min)),
            ("max_client_response_size", size(&stats.response_max)),
            // In the reference only TLS handshakes fail in this sense, and there is no TLS here.
            ("auth_failed_count", 0),
            ("outstanding_tls_handshake", 0),
            ("non_mtls_local_conn_count", 0),
            ("non_mtls_remote_conn_count", 0),
        ] {
            metrics.push(integer(name, value));
        }
        // Tokens of the connection throttle run out all at once, not by chance.
        let value = MetricValue::Real(0.0);
        metrics.push(Metric { name: "connection_drop_probability".to_owned(), value });
    }

    /// What is only ever counted.
    fn counters(&self, metrics: &mut Vec<Metric>) {
        let shared = &self.port.shared;
        let disk = &self.inspector.disk;
        let mut push = |name: &str, value| {
            metrics.push(Metric { name: name.to_owned(), value: MetricValue::Counter(value) });
        };
        shared.meters.counters().for_each(|(name, value)| push(name, value));
        push("digest_mismatches_count", shared.state.read().digest_mismatches());
        push("fsync_threshold_exceed_count", load(&disk.slow_syncs));
        push("sync_processor_request_queued", load(&disk.sync_processor_request_queued));
        push("watch_bytes", load(&shared.stats.notification_bytes));
        // Without an answer it is better not to say than to let a counter fall.
        if self.role.known {
            push("diff_count", self.role.diffs);
            push("looking_count", self.role.elections);
            push("refused_newer_histories", self.role.refused_newer_histories);
            push("snap_count", self.role.snaps);
        }
    }

    fn summaries(&self, metrics: &mut Vec<Metric>) {
        let meters = &self.port.shared.meters;
        let disk = self.inspector.disk.summaries();
        // A proposal is committed by the acknowledgement that completes its quorum.
        let acks = [("quorum_ack_latency", &meters.proposal_latency)];
        let (mut basic, mut advanced) = (Vec::new(), Vec::new());
        for (name, summary) in meters.summaries().chain(disk).chain(acks) {
            let read = summary.read();
            let (list, value) = match name.ends_with("latency") {
                true => (&mut advanced, MetricValue::Advanced(read)),
                false => (&mut basic, MetricValue::Basic(read)),
            };
            list.push(Metric { name: name.to_owned(), value });
        }
        metrics.append(&mut basic);
        metrics.append(&mut advanced);
    }

    fn sessions_of_connections(&self) -> std::collections::BTreeMap<u64, SessionId> {
        self.port.clients().iter().map(|client| (client.id, client.session())).collect()
    }
}

fn integer(name: &str, value: i64) -> Metric {
    Metric { name: name.to_owned(), value: MetricValue::Integer(value) }
}

impl ServerView for View<'_> {
    fn serving(&self) -> bool {
        self.role.serving && self.port.shared.serving()
    }

    fn summary(&self) -> Summary {
        let shared = &self.port.shared;
        let stats = &shared.stats;
        let (answered, sum) = (load(&stats.answered), load(&stats.latency_sum_ms));
        let min = load(&stats.latency_min_ms);
        let mode = self.mode();
        let state = shared.state.read();
        Summary {
            latency_min_ms: if min == u64::MAX { 0 } else { min },
            latency_avg_ms: if answered == 0 { 0.0 } else { sum as f64 / answered as f64 },
            latency_max_ms: load(&stats.latency_max_ms),
            received: load(&stats.received),
            sent: load(&stats.sent),
            connections: self.port.len(),
            outstanding: shared.outstanding() as u64,
            zxid: state.last_zxid(),
            mode,
            // The reference keeps the root under two names.
            node_count: state.tree.len() as u64 + 1,
            proposal_sizes: (mode == Mode::Leader).then_some(self.role.proposal_sizes),
            peer_state: self.role.peer_state.clone(),
        }
    }

    fn connections(&self) -> Vec<Connection> {
        let now = self.inspector.clock.now();
        let offset_ms = now.wall_ms - now.mono_ms as i64;
        self.port.clients().iter().map(|client| self.connection(client, offset_ms)).collect()
    }

    fn conf(&self) -> Conf<'_> {
        let config = &self.inspector.config;
        let member = config.quorum.as_ref();
        let member = member.map(|quorum| Member { ensemble: quorum.ensemble.clone() });
        Conf { config, sizes: self.directory_sizes(), member }
    }

    fn metrics(&self) -> Vec<Metric> {
        let summary = self.summary();
        let mut metrics = Vec::new();
        self.common_metrics(&summary, &mut metrics);
        if let Some(quorum) = &self.inspector.config.quorum {
            metrics.push(integer("quorum_size", quorum.ensemble.voters().count() as i64));
            metrics.push(integer("lost_tail", i64::from(self.role.lost_tail)));
        }
        // A role shows itself from its start to its end.
        let sizes = summary.proposal_sizes.filter(|_| self.role.serving);
        if let Some(Lengths { last, min, max }) = sizes {
            let LearnerCounts { learners, followers, observers, strangers } = self.role.learners;
            metrics.push(integer("learners", learners as i64));
            metrics.push(integer("synced_followers", followers as i64));
            metrics.push(integer("synced_observers", observers as i64));
            metrics.push(integer("synced_non_voting_followers", strangers as i64));
            metrics.push(integer("pending_syncs", self.role.pending_syncs as i64));
            metrics.push(integer("leader_uptime", self.inspector.uptime_ms(self.port) as i64));
            metrics.push(integer("last_proposal_size", last));
            metrics.push(integer("min_proposal_size", min));
            metrics.push(integer("max_proposal_size", max));
        }
        self.counters(&mut metrics);
        self.summaries(&mut metrics);
        metrics
    }

    fn digests(&self) -> Vec<(Zxid, u64)> {
        self.port.shared.state.read().past_digests().collect()
    }

    fn prometheus(&self) -> bool {
        self.inspector.config.prometheus.is_some()
    }

    fn dump(&self) -> Dump {
        let state = self.port.shared.state.read();
        let now = self.inspector.clock.now();
        let wall_ms = |at_ms: u64| now.wall_ms + at_ms as i64 - now.mono_ms as i64;
        let sessions = match self.mode() {
            Mode::Leader | Mode::Standalone => Sessions::Expiring(
                self.role
                    .buckets
                    .iter()
                    .map(|(at_ms, entries)| Bucket {
                        expires_ms: wall_ms(*at_ms),
                        entries: entries.clone(),
                    })
                    .collect(),
            ),
            _ => Sessions::Known(state.sessions().collect()),
        };
        let owners: Vec<_> = state.sessions_with_ephemerals().map(|(session, _)| session).collect();
        let ephemerals = owners
            .into_iter()
            .map(|session| (session, state.ephemerals(session).collect()))
            .collect();
        let connections = self
            .port
            .clients()
            .iter()
            .map(|client| Bucket {
                expires_ms: wall_ms(client.heard_ms() + client.timeout_ms().max(0) as u64),
                entries: vec![(client.peer, client.session())],
            })
            .collect();
        Dump { sessions, ephemerals, connections }
    }

    fn watches(&self) -> Watches {
        let sessions = self.sessions_of_connections();
        let session = |watcher: &u64| sessions.get(watcher).copied().unwrap_or_default();
        let watches = self.port.shared.watches.lock();
        let owned = |paths: Vec<&str>| paths.into_iter().map(str::to_owned).collect();
        Watches {
            by_session: watches
                .by_watcher()
                .into_iter()
                .map(|(watcher, paths)| (session(&watcher), owned(paths)))
                .collect(),
            by_path: watches
                .by_path()
                .into_iter()
                .map(|(path, watchers)| (path.to_owned(), watchers.iter().map(session).collect()))
                .collect(),
        }
    }

    fn watch_summary(&self) -> WatchSummary {
        let summary = self.port.shared.watches.lock().summary();
        WatchSummary {
            connections: summary.connections,
            paths: summary.paths,
            total: summary.total,
        }
    }

    fn directory_sizes(&self) -> DirectorySizes {
        let config = &self.inspector.config.data;
        DirectorySizes {
            data: files_size(&config.snapshot_dir(), 0),
            log: files_size(&config.txn_log_dir(), 0),
        }
    }

    fn trace_mask(&self) -> i64 {
        self.inspector.trace_mask.load(Ordering::Relaxed)
    }

    fn set_trace_mask(&self, mask: i64) {
        self.inspector.trace_mask.store(mask, Ordering::Relaxed);
    }

    fn reset_server_statistics(&self) {
        self.port.shared.stats.reset();
        // Whoever scrapes counters relies on their going on.
        if !self.prometheus() {
            self.port.shared.meters.reset();
            self.inspector.disk.reset();
        }
    }

    fn reset_connection_statistics(&self) {
        self.port.clients().iter().for_each(|client| client.reset_stats());
    }
}

/// Name of an operation in `cons`.
fn op_name(op: i32) -> &'static str {
    match OpCode::from_code(op) {
        Some(OpCode::CreateSession) => "SESS",
        Some(OpCode::CloseSession) => "CLOS",
        Some(OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl) => {
            "CREA"
        }
        Some(OpCode::Delete | OpCode::DeleteContainer) => "DELE",
        Some(OpCode::Exists) => "EXIS",
        Some(OpCode::GetData) => "GETD",
        Some(OpCode::SetData) => "SETD",
        Some(OpCode::GetAcl) => "GETA",
        Some(OpCode::SetAcl) => "SETA",
        Some(OpCode::GetChildren | OpCode::GetChildren2) => "GETC",
        Some(OpCode::Sync) => "SYNC",
        Some(OpCode::Ping) => "PING",
        Some(OpCode::Check) => "CHEC",
        Some(OpCode::Multi) => "MULT",
        Some(OpCode::Reconfig) => "RECO",
        Some(OpCode::CheckWatches) => "CHKW",
        Some(OpCode::RemoveWatches) => "REMW",
        Some(OpCode::MultiRead) => "MLTR",
        Some(OpCode::SetWatches) => "SETW",
        Some(OpCode::GetEphemerals) => "GETE",
        Some(OpCode::GetAllChildrenNumber) => "GETACN",
        Some(OpCode::SetWatches2) => "STW2",
        Some(OpCode::AddWatch) => "ADDW",
        Some(OpCode::WhoAmI) => "HOMI",
        Some(OpCode::Auth | OpCode::Sasl | OpCode::Error) | None => "NA",
    }
}

/// Deepest directory below a data directory that is counted.
const MAX_DEPTH: u32 = 8;

/// Bytes of all files in a directory and below that the reference would have, too: it has no log before
/// there is a transaction for it.
fn files_size(directory: &Path, depth: u32) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let size = |entry: std::fs::DirEntry| {
        let Ok(metadata) = entry.path().metadata() else { return 0 };
        match metadata.is_dir() {
            true if depth < MAX_DEPTH => files_size(&entry.path(), depth + 1),
            true => 0,
            false => metadata.len(),
        }
    };
    let common = |entry: &std::fs::DirEntry| {
        oxkeeper_storage::names::is_common(&entry.file_name().to_string_lossy())
    };
    entries.flatten().filter(common).map(size).sum()
}

/// File descriptors of this process.
pub(crate) struct Descriptors {
    /// Open ones.
    pub open: u64,
    /// So many it may have.
    pub limit: u64,
}

impl Descriptors {
    /// As they are now.
    pub fn look() -> Descriptors {
        use rustix::process::{Resource, getrlimit};
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(i64::MAX as u64);
        Descriptors { open, limit }
    }
}
