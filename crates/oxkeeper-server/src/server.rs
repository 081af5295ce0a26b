//! A server from its command line to its exit code.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use oxkeeper_node::{
    LoadSettings, LoadedState, NodeSettings, Op, SnapshotSettings, Started, StoreSettings,
    load_state,
};
use oxkeeper_proto::ServerId;
use oxkeeper_proto::ensemble::EnsembleConfig;
use oxkeeper_replica::limits::LimitSettings;
use oxkeeper_replica::{ClientPortSettings, ReplicaConfig};
use oxkeeper_state::auth::AuthSettings;
use oxkeeper_state::prepare::PrepareSettings;
use oxkeeper_state::{Options, OwnerRules};
use oxkeeper_storage::{LoadOptions, LogOptions, OnLostTail, RealDisk, StorageError};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::client_port::{ClientPort, Limits};
use crate::clock::Clock;
use crate::config::{Invocation, Level, LoadError, QuorumConfig, ServerConfig, Warning};
use crate::disk::{DiskSettings, DiskStats, DiskThread, Job, LoadTimer};
use crate::driver::{self, Driver, Event, ExitOnPanic, Surroundings};
use crate::election_links::{ElectionConfig, ElectionError, ElectionEvent, ElectionLinks};
use crate::http::{Http, HttpError};
use crate::listen::{self, BindError};
use crate::logging::{self, LogFormat};
use crate::mailbox::Mailbox;
use crate::peers::{PeerConfig, Peers};
use crate::signals::{Dump, Signals};
use crate::termination;
use crate::view::Inspector;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Config(#[from] LoadError),
    #[error("{0}")]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Election(#[from] ElectionError),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("cannot start a thread or the runtime: {0}")]
    System(#[from] std::io::Error),
}

impl StartError {
    fn exit_code(&self) -> i32 {
        match self {
            StartError::Config(error) => error.exit_code(),
            StartError::Storage(error) => error.exit_code(),
            StartError::Election(error) => error.exit_code(),
            StartError::Http(error) => error.exit_code(),
            StartError::Bind(_) | StartError::System(_) => 1,
        }
    }
}

/// Pause after each 256 KiB of a periodic snapshot.
const SNAPSHOT_PACE: Duration = Duration::from_millis(2);

/// Runs `oxkeeper server` with these arguments until a signal ends it. Returns the exit code
/// (`docs/spec/operations.md` 9.1).
pub fn main(args: Vec<String>, format: LogFormat) -> i32 {
    // First of all: what is read from here on may hang.
    let signals = Signals::take_over().map_err(StartError::from);
    let invocation = Invocation::parse(&args);
    logging::start(format, invocation.as_ref().ok());
    termination::watch_panics();
    let _guard = ExitOnPanic;
    let run = || run(&invocation?, &signals?);
    let code = run().unwrap_or_else(|error| failed(&error));
    match code {
        0 => tracing::info!("Exiting JVM with code 0"),
        code => tracing::error!("Exiting JVM with code {code}"),
    }
    logging::flush();
    code
}

/// Says why the server did not start, to everybody who may be listening.
fn failed(error: &StartError) -> i32 {
    let code = error.exit_code();
    termination::report(&error.to_string());
    let text = match code {
        2 => Some("Invalid config, exiting abnormally"),
        3 => Some("Unable to access datadir, exiting abnormally"),
        _ => None,
    };
    match text {
        Some(text) => tracing::error!("{text}: {error}"),
        None => tracing::error!("{error}"),
    }
    // Beside the log, for whoever typed the command.
    let said = text.map_or(String::new(), |text| format!("{text}\n"));
    let _ = writeln!(std::io::stderr(), "{said}{error}");
    code
}

fn run(invocation: &Invocation, signals: &Signals) -> Result<i32, StartError> {
    let (config, warnings) = ServerConfig::load(invocation)?;
    report(&config, &warnings);
    raise_descriptor_limit();
    let runtime = Builder::new_multi_thread().enable_all().thread_name("net").build()?;
    let result = run_on(&runtime, config, signals);
    // Nothing that hangs on the runtime may keep the process.
    runtime.shutdown_background();
    result
}

fn run_on(runtime: &Runtime, config: ServerConfig, signals: &Signals) -> Result<i32, StartError> {
    config.data.prepare()?;
    let disk = RealDisk::open(&config.data.data_dir, &config.data.log_dir, config.data.create)?;
    let http = Http::start(&config)?;
    let _inside = runtime.enter();
    // Known before the data is read: a busy port needs no patience.
    let listeners = match &config.client {
        Some(address) => listen::bind(address, config.client_backlog, "client")?,
        None => Vec::new(),
    };
    let clock = Clock::start();
    let stats = Arc::new(DiskStats::default());
    let settings = store_settings(&config);
    let timer = LoadTimer::new(stats.clone());
    let loaded = load_state(&disk, &settings.load, &|milestone| timer.reached(milestone))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(
        zxid = %loaded.history.last_zxid,
        znodes = loaded.state.tree.len(),
        replayed = loaded.replayed,
        "database loaded in {} ms",
        clock.mono_ms()
    );
    let made = Made { disk, stats, loaded, clock };
    let server = Server::start(runtime, config, settings, made, &http)?;
    let accepting = server.accept(runtime, listeners);
    let code = signals.wait(server.dump());
    http.stopping();
    server.stop(accepting);
    Ok(code)
}

fn report(config: &ServerConfig, warnings: &[Warning]) {
    if let Some(quorum) = &config.quorum {
        logging::set_my_id(quorum.me);
    }
    if let Some(file) = &config.file {
        tracing::info!("Reading configuration from: {}", file.display());
    }
    for warning in warnings {
        match warning.level {
            Level::Info => tracing::info!("{}", warning.text),
            Level::Warn => tracing::warn!("{}", warning.text),
            Level::Error => tracing::error!("{}", warning.text),
        }
    }
    tracing::info!("tickTime set to {} ms", config.tick_ms);
    tracing::info!("minSessionTimeout set to {} ms", config.min_session_timeout_ms);
    tracing::info!("maxSessionTimeout set to {} ms", config.max_session_timeout_ms);
    if let Some(client) = &config.client {
        tracing::info!("clientPortAddress is {client}");
    }
    tracing::info!("autopurge.snapRetainCount set to {}", config.storage.purge_retain);
    match &config.quorum {
        Some(quorum) => tracing::info!("Starting quorum peer, myid={}", quorum.me),
        None => tracing::info!("Starting server"),
    }
}

/// Ten thousand clients need ten thousand descriptors; the soft limit is often 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// A running server.
struct Server {
    port: Arc<ClientPort>,
    mailbox: Arc<Mailbox<Event>>,
    driver: std::thread::JoinHandle<()>,
}

/// What a start has made so far.
struct Made {
    disk: RealDisk,
    stats: Arc<DiskStats>,
    loaded: LoadedState,
    clock: Clock,
}

impl Server {
    fn start(
        runtime: &Runtime,
        config: ServerConfig,
        settings: StoreSettings,
        made: Made,
        http: &Http,
    ) -> Result<Server, StartError> {
        let Made { disk, stats, loaded, clock } = made;
        let state_settings = settings.load;
        let settings = node_settings(&config, settings);
        let Started { shared, node, store, .. } =
            oxkeeper_node::start(disk, loaded, settings, clock.now())?;
        let mailbox = Arc::new(Mailbox::default());
        let election = match &config.quorum {
            Some(quorum) => Some(start_election(quorum, runtime, &mailbox)?),
            None => None,
        };
        let peers = config.quorum.as_ref().map(|quorum| {
            let config = peer_config(&config, quorum, &state_settings);
            Peers::new(config, runtime.handle().clone(), mailbox.clone())
        });
        let disk =
            DiskThread::start(store, disk_settings(&config), mailbox.clone(), stats.clone())?;
        start_purge(disk.queue(), &config)?;
        let limits = Limits {
            per_address: config.clients.max_per_address,
            total: config.clients.max_total,
            sessionless_ms: config.clients.sessionless_timeout_ms,
            keepalive: config.clients.keepalive,
        };
        let inspector = Arc::new(Inspector::new(config, mailbox.clone(), stats, clock));
        let port = ClientPort::new(shared, mailbox.clone(), clock, limits, inspector.clone());
        let surroundings = Surroundings { disk, election, peers };
        let driver = Driver { node, clock, surroundings, calm: Arc::default() };
        let events = mailbox.clone();
        let driver = std::thread::Builder::new()
            .name("replica".to_owned())
            .spawn(move || driver::run(driver, &events))?;
        http.show(inspector, port.clone());
        Ok(Server { port, mailbox, driver })
    }

    /// Opens the client port; the tasks that end with it are returned.
    fn accept(
        &self,
        runtime: &Runtime,
        listeners: Vec<tokio::net::TcpListener>,
    ) -> Vec<JoinHandle<()>> {
        runtime.spawn(self.port.clone().reap_idle());
        let accept = |listener: tokio::net::TcpListener| {
            if let Ok(address) = listener.local_addr() {
                tracing::info!("binding to port {address}");
            }
            runtime.spawn(self.port.clone().accept(listener))
        };
        listeners.into_iter().map(accept).collect()
    }

    /// What QUIT prints.
    fn dump(&self) -> Dump {
        let port = self.port.clone();
        Arc::new(move || {
            let state = port.shared.state.read();
            format!(
                "state: znodes {} zxid {} clients {} serving {}\n",
                state.tree.len(),
                state.last_zxid(),
                port.len(),
                port.shared.serving()
            )
        })
    }

    /// Ends in this order: new clients are refused and readiness is gone; the peers' connections are
    /// closed, so that they elect at once; queued log writes are finished; clients are closed, their
    /// sessions stay. [`Signals`] bounds the time.
    fn stop(self, accepting: Vec<JoinHandle<()>>) {
        self.port.shared.shut_down();
        accepting.iter().for_each(JoinHandle::abort);
        self.mailbox.push(Event::Stop);
        if self.driver.join().is_err() {
            tracing::error!("the replica thread has panicked");
        }
        self.port.close_all();
    }
}

fn start_election(
    quorum: &QuorumConfig,
    runtime: &Runtime,
    mailbox: &Arc<Mailbox<Event>>,
) -> Result<ElectionLinks, StartError> {
    let config = ElectionConfig {
        me: quorum.me,
        ensemble: quorum.ensemble.clone(),
        listen_on_all: quorum.listen_on_all,
        multi_address: quorum.multi_address,
        connect_timeout: Duration::from_millis(quorum.election_connect_ms),
        handshake_timeout: Duration::from_millis(quorum.election_handshake_ms),
        bind_retries: quorum.election_bind_retries,
        keepalive: quorum.election_keepalive,
    };
    let mailbox = mailbox.clone();
    let events = move |event| {
        use oxkeeper_zab::Input as Z;
        let input = match event {
            ElectionEvent::Notified { from, notification } => Z::Notified { from, notification },
            ElectionEvent::Link { peer, up } => Z::ElectionLink { peer, up },
        };
        mailbox.push(Event::input(oxkeeper_replica::Input::Zab(input)));
    };
    Ok(runtime.block_on(ElectionLinks::start(config, events))?)
}

fn node_settings(config: &ServerConfig, store: StoreSettings) -> NodeSettings {
    NodeSettings {
        store,
        clients: client_port_settings(config),
        replica: replica_config(config),
        zab: config.quorum.as_ref().map(|quorum| zab_config(config, quorum)),
        watch_seed: crate::random(),
        random: Box::new(crate::random),
    }
}

fn zab_config(config: &ServerConfig, quorum: &QuorumConfig) -> oxkeeper_zab::Config {
    oxkeeper_zab::Config {
        me: quorum.me,
        ensemble: quorum.ensemble.clone(),
        tick_ms: config.tick_ms,
        init_limit: quorum.init_limit,
        sync_limit: quorum.sync_limit,
        commit_log_count: config.storage.commit_log_count,
        force_snapshot_sync: quorum.force_snapshot_sync,
        fast_election: true,
        limits: oxkeeper_zab::Limits::default(),
    }
}

fn replica_config(config: &ServerConfig) -> ReplicaConfig {
    let rules = &config.rules;
    ReplicaConfig {
        prepare: PrepareSettings {
            auth: auth_settings(config),
            extended_types: rules.extended_types,
            enforce_quota: rules.enforce_quota,
            digests: config.storage.digests,
            multi_create2_as_create: false,
            nothing_to_reconfigure: rules.reconfig && config.quorum.is_none(),
            reap_never_used_ms: rules.container_never_used_ms,
        },
        reap_interval_ms: rules.container_check_ms,
        reap_per_minute: rules.container_max_per_minute,
        leader_serves: config.quorum.as_ref().is_none_or(|quorum| quorum.leader_serves),
        config_node: config
            .quorum
            .as_ref()
            .map(|quorum| (quorum.ensemble.to_string(), quorum.ensemble.version)),
    }
}

fn auth_settings(config: &ServerConfig) -> AuthSettings {
    AuthSettings {
        skip_acl: config.rules.skip_acl,
        digest_enabled: config.rules.digest_scheme,
        super_digest: config.rules.super_digest.clone(),
        ..AuthSettings::default()
    }
}

fn client_port_settings(config: &ServerConfig) -> ClientPortSettings {
    let clients = &config.clients;
    ClientPortSettings {
        // A standalone server is 0 to operators, but its session ids carry a 1.
        server: config.quorum.as_ref().map_or(1, |quorum| quorum.me),
        tick_ms: config.tick_ms,
        min_session_timeout_ms: config.min_session_timeout_ms,
        max_session_timeout_ms: config.max_session_timeout_ms,
        auth: auth_settings(config),
        limits: LimitSettings {
            max_buffer: clients.max_buffer,
            global_outstanding: clients.global_outstanding,
            throttle_max_requests: clients.throttle_max_requests,
            throttled_op_wait_ms: clients.throttled_op_wait_ms,
            large_threshold: clients.large_threshold,
            large_max_bytes: clients.large_max_bytes,
            connection_tokens: clients.connection_tokens,
            connection_fill_ms: clients.connection_fill_ms,
            connection_fill_count: clients.connection_fill_count,
            connection_weights: clients.connection_weights,
            connection_weight_new: clients.connection_weight_global,
            connection_weight_renewed: clients.connection_weight_renew,
        },
    }
}

fn disk_settings(config: &ServerConfig) -> DiskSettings {
    DiskSettings {
        slow_sync: Duration::from_millis(config.storage.fsync_warning_ms),
        snapshot_pace: SNAPSHOT_PACE,
    }
}

fn store_settings(config: &ServerConfig) -> StoreSettings {
    let storage = &config.storage;
    let record_limit = config.max_record();
    let owners = OwnerRules {
        extended_types: config.rules.extended_types,
        emulate_353_ttl: config.rules.emulate_353_ttl,
    };
    let kib = |limit: Option<u64>| limit.and_then(|kib| i64::try_from(kib).ok()).unwrap_or(-1);
    StoreSettings {
        log: LogOptions {
            preallocate_kib: storage.preallocate_kib,
            force_sync: storage.force_sync,
            record_limit,
        },
        snap_count: i64::try_from(storage.snap_count).unwrap_or(i64::MAX),
        snap_size_kib: kib(storage.snap_size_limit_kib),
        log_size_kib: kib(storage.log_size_limit_kib),
        snapshot_size_factor: storage.snapshot_size_factor,
        snapshot: SnapshotSettings { compression: storage.compression, last_zxid_section: true },
        load: LoadSettings {
            options: LoadOptions {
                trust_empty: storage.trust_empty_snapshot,
                autocreate: config.data.create_database,
                record_limit,
                recent: storage.commit_log_count,
                on_lost_tail: on_lost_tail(config),
                skip_lone_checks: storage.skip_lone_checks,
            },
            seed: crate::random(),
            state: Options { digests: storage.digests, owners },
        },
    }
}

/// A member of an ensemble copies what it has lost from the others, be it an observer of one voter; who
/// is alone cannot.
fn on_lost_tail(config: &ServerConfig) -> OnLostTail {
    let alone = |quorum: &QuorumConfig| is_alone(quorum.me, &quorum.ensemble);
    if config.storage.accept_lost_tail {
        OnLostTail::Accept
    } else if config.quorum.as_ref().is_none_or(alone) {
        OnLostTail::Refuse
    } else {
        OnLostTail::Report
    }
}

fn is_alone(me: ServerId, ensemble: &EnsembleConfig) -> bool {
    ensemble.voters().all(|id| id == me)
}

fn peer_config(config: &ServerConfig, quorum: &QuorumConfig, load: &LoadSettings) -> PeerConfig {
    let ticks = |ticks: u64| Duration::from_millis(ticks.saturating_mul(config.tick_ms));
    PeerConfig {
        me: quorum.me,
        ensemble: quorum.ensemble.clone(),
        listen_on_all: quorum.listen_on_all,
        max_len: config.max_record(),
        init_limit: ticks(quorum.init_limit),
        connect_limit: ticks(quorum.connect_limit),
        state_seed: load.seed,
        state_options: load.state,
    }
}

/// Removes old files now and then, if asked to: at a moment of the log thread's choice, since nothing else
/// may change the directory meanwhile.
fn start_purge(queue: Arc<Mailbox<Job>>, config: &ServerConfig) -> Result<(), StartError> {
    let (retain, hours) = (config.storage.purge_retain, config.storage.purge_interval_hours);
    if hours == 0 {
        tracing::info!("Purge task is not scheduled.");
        return Ok(());
    }
    std::thread::Builder::new().name("purge".to_owned()).spawn(move || {
        loop {
            queue.push(Job::Op(Op::Purge { retain }));
            std::thread::sleep(Duration::from_secs(hours * 3600));
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_single_voter_has_nobody_to_copy_from() {
        let parse = |text| EnsembleConfig::parse(text).unwrap();
        let observed = parse("server.1=a:1:2:participant\nserver.2=b:1:2:observer");
        assert!(is_alone(1, &observed) && !is_alone(2, &observed));
        let two = parse("server.1=a:1:2:participant\nserver.2=b:1:2:participant");
        assert!(!is_alone(1, &two) && !is_alone(2, &two));
    }
}
