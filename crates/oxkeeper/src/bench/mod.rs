//! `oxkeeper bench`: load for any ZooKeeper ensemble, and what it does with it.
//!
//! The load shares the machine with the servers more often than not, so it is built to use little:
//! requests are templates, a batch is one write and one read, and one thread is the default.

mod churn;
mod closed_loop;
mod dataset;
mod fan_out;
mod measure;
mod report;
mod requests;
mod thread;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::dataset::Dataset;
use self::measure::{Kind, Results};
use self::report::{Report, Window};
use self::thread::{Control, Thread};
use crate::failure::Failure;
use crate::{servers, time};

const AFTER_HELP: &str = "\
Examples:
  oxkeeper bench                                        reads from a server on this machine
  oxkeeper bench --workload write --connections 64 --outstanding 8
  oxkeeper bench --connect a:2181,b:2181,c:2181 --workload mixed --read-ratio 0.9
  oxkeeper bench --workload write --duration 1m --json  while a server is killed: see longest_gap_ms
  oxkeeper bench --workload create --keep --root /big --duration 30s

The load works on znodes of its own below --root and removes them at the end.
Ctrl-C ends a run early and still shows its result; a second one ends it at once.";

/// What the load consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// getData of random znodes
    Read,
    /// setData of random znodes
    Write,
    /// create of new znodes
    Create,
    /// reads and writes, see --read-ratio
    Mixed,
    /// one writer, and every connection watches the znode it writes
    Watch,
    /// connect, open a session, close it, again and again
    Session,
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Workload::Read => "read",
            Workload::Write => "write",
            Workload::Create => "create",
            Workload::Mixed => "mixed",
            Workload::Watch => "watch",
            Workload::Session => "session",
        }
    }

    /// What counts as an operation, if not everything does.
    fn main_kind(self) -> Option<Kind> {
        match self {
            Workload::Watch => Some(Kind::Event),
            Workload::Session => Some(Kind::SessionOpen),
            _ => None,
        }
    }
}

/// Put load on any ZooKeeper ensemble and measure it
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct BenchArgs {
    /// Servers, as host:port,host:port; connections are spread over them
    #[arg(long, short, default_value = "127.0.0.1:2181", value_name = "SERVERS")]
    connect: String,
    /// Kind of load
    #[arg(long, short, value_enum, default_value = "read")]
    workload: Workload,
    /// Share of reads in the mixed load, 0 to 1
    #[arg(long, default_value_t = 0.9, value_name = "SHARE", value_parser = share)]
    read_ratio: f64,
    /// Connections, each with a session of its own
    #[arg(long, short = 'n', default_value_t = 16, value_name = "N", value_parser = positive)]
    connections: usize,
    /// Requests that each connection keeps on their way
    #[arg(long, short = 'k', default_value_t = 1, value_name = "K", value_parser = positive)]
    outstanding: usize,
    /// Bytes of data in each znode
    #[arg(long, short, default_value_t = 100, value_name = "BYTES")]
    size: usize,
    /// Znodes that reads and writes choose from
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = znodes)]
    znodes: u64,
    /// How long to measure: 10s, 500ms, 2m; 0s only makes the znodes (with --keep)
    #[arg(long, short, default_value = "10s", value_name = "TIME", value_parser = time::parse)]
    duration: Duration,
    /// How long to run before measuring
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = time::parse)]
    warmup: Duration,
    /// A request or handshake without answer for this long costs the connection
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time::parse)]
    timeout: Duration,
    /// Session timeout to ask for
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = time::parse)]
    session_timeout: Duration,
    /// Threads that carry the connections
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = positive)]
    threads: usize,
    /// Znode below which everything happens [default: a new one for each run]
    #[arg(long, value_name = "PATH")]
    root: Option<String>,
    /// Leave the znodes where they are
    #[arg(long)]
    keep: bool,
    /// Print the result as one line of JSON
    #[arg(long)]
    json: bool,
    /// Show a line each second on stderr, even if stderr is not a terminal
    #[arg(long)]
    progress: bool,
}

/// What a run does, with all names resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    workload: Workload,
    servers: Vec<SocketAddr>,
    connections: usize,
    outstanding: usize,
    size: usize,
    znodes: u64,
    read_ratio: f64,
    root: String,
    session_timeout_ms: i32,
    timeout: Duration,
}

impl Plan {
    fn data(&self) -> Vec<u8> {
        (0..self.size).map(|i| b'a' + (i % 26) as u8).collect()
    }

    fn data_root(&self) -> String {
        format!("{}/bench-data", self.root)
    }

    fn node_prefix(&self) -> String {
        format!("{}/n", self.data_root())
    }

    fn created_root(&self) -> String {
        format!("{}/bench-created", self.root)
    }

    fn created_dir(&self, index: usize) -> String {
        format!("{}/c{index}", self.created_root())
    }

    fn created_prefix(&self, index: usize) -> String {
        format!("{}/n", self.created_dir(index))
    }

    fn watched_node(&self) -> String {
        format!("{}/bench-watched", self.root)
    }

    #[cfg(test)]
    fn example() -> Plan {
        Plan {
            workload: Workload::Read,
            servers: Vec::new(),
            connections: 1,
            outstanding: 1,
            size: 100,
            znodes: 10,
            read_ratio: 0.5,
            root: "/bench".to_owned(),
            session_timeout_ms: 30_000,
            timeout: Duration::from_secs(5),
        }
    }
}

/// Runs the command and prints its result.
pub fn run(args: BenchArgs) -> Result<(), Failure> {
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))?;
    let report = runtime.block_on(bench(&args))?;
    if let Some(report) = report {
        match args.json {
            true => println!("{}", report.json()),
            false => print!("{}", report.table()),
        }
    }
    Ok(())
}

async fn bench(args: &BenchArgs) -> Result<Option<Report>, Failure> {
    let plan = Arc::new(plan(args)?);
    let progress = args.progress || std::io::stderr().is_terminal();
    let mut dataset = Dataset::open(plan.clone(), progress).await?;
    tokio::select! {
        made = dataset.create() => made?,
        () = interrupt() => {
            return Err(Failure::new("interrupted while the znodes were made")
                .hint(format!("remove them with: oxkeeper shell deleteall {}", plan.root)));
        }
    }
    let report = match args.duration.is_zero() {
        true => None,
        false => Some(load(args, &plan, progress).await?),
    };
    if !args.keep {
        tokio::select! {
            removed = clean_up(&mut dataset) => {
                if let Err(failure) = removed {
                    eprintln!("{failure}");
                }
            }
            () = interrupt() => eprintln!("interrupted: znodes are left below {}", plan.root),
        }
    }
    dataset.close().await;
    Ok(report)
}

async fn clean_up(dataset: &mut Dataset) -> Result<(), Failure> {
    dataset.reopen().await?;
    dataset.remove().await
}

fn plan(args: &BenchArgs) -> Result<Plan, Failure> {
    let (names, chroot) = servers::split(&args.connect)?;
    let root = match &args.root {
        Some(root) => root.clone(),
        None => format!("/oxkeeper-bench-{:x}-{:x}", std::process::id(), unix_ms()),
    };
    if !root.starts_with('/') || root.ends_with('/') || root.contains("//") {
        return Err(Failure::usage(format!("--root '{root}' is not the path of a znode"))
            .hint("write it as /name or /parent/name"));
    }
    let session_timeout_ms = i32::try_from(args.session_timeout.as_millis())
        .map_err(|_| Failure::usage("--session-timeout is longer than 24 days"))?;
    Ok(Plan {
        workload: args.workload,
        servers: servers::resolve(&names)?,
        connections: args.connections,
        outstanding: args.outstanding,
        size: args.size,
        znodes: args.znodes,
        read_ratio: args.read_ratio,
        root: format!("{chroot}{root}"),
        session_timeout_ms,
        timeout: args.timeout,
    })
}

/// The run itself: connections, warm-up, measured time, and the sum of all threads.
async fn load(args: &BenchArgs, plan: &Arc<Plan>, progress: bool) -> Result<Report, Failure> {
    let control = Arc::new(Control::new());
    let threads = start_threads(args, plan, &control);
    let connected = all_connected(plan, &control).await;
    if let Err(failure) = connected {
        control.end_ns.store(0, Relaxed);
        join(threads).await?;
        return Err(failure);
    }
    let from_ns = control.clock.now() + args.warmup.as_nanos() as u64;
    let planned_end = from_ns + args.duration.as_nanos() as u64;
    control.end_ns.store(planned_end, Relaxed);
    control.from_ns.store(from_ns, Relaxed);

    let mut cpu_before = 0;
    let run = async {
        tokio::time::sleep(args.warmup).await;
        cpu_before = cpu_ns();
        tokio::time::sleep(args.duration).await;
    };
    let interrupted = tokio::select! {
        () = run => false,
        () = show_progress(&control), if progress => false,
        () = interrupt() => true,
    };
    let cpu_ns = cpu_ns() - cpu_before;
    let end_ns = control.clock.now().min(planned_end);
    control.end_ns.store(end_ns, Relaxed);
    let results = join(threads).await?;
    if end_ns <= from_ns {
        return Err(Failure::new("interrupted before the warm-up was over: nothing was measured"));
    }
    Ok(Report::new(plan, &results, Window { from_ns, end_ns, cpu_ns, interrupted }))
}

type LoadThread = std::thread::JoinHandle<std::io::Result<Results>>;

fn start_threads(args: &BenchArgs, plan: &Arc<Plan>, control: &Arc<Control>) -> Vec<LoadThread> {
    // The rounds of the watch load are kept by one thread.
    let count = if plan.workload == Workload::Watch { 1 } else { args.threads };
    let count = count.min(plan.connections);
    let start = |number: usize| {
        let (plan, control) = (plan.clone(), control.clone());
        std::thread::spawn(move || {
            let connections: Vec<usize> = (number..plan.connections).step_by(count).collect();
            thread::run(plan, control, |thread| start_tasks(thread, connections))
        })
    };
    (0..count).map(start).collect()
}

fn start_tasks(thread: &Rc<Thread>, connections: Vec<usize>) -> Vec<tokio::task::JoinHandle<()>> {
    use tokio::task::spawn_local;
    let mut tasks = Vec::with_capacity(connections.len() + 1);
    match thread.plan.workload {
        Workload::Watch => {
            let round = Rc::new(fan_out::Round::default());
            for index in connections {
                tasks.push(spawn_local(fan_out::watch(thread.clone(), round.clone(), index)));
            }
            tasks.push(spawn_local(fan_out::write(thread.clone(), round)));
        }
        Workload::Session => {
            for index in connections {
                tasks.push(spawn_local(churn::run(thread.clone(), index)));
            }
        }
        _ => {
            for index in connections {
                tasks.push(spawn_local(closed_loop::run(thread.clone(), index)));
            }
        }
    }
    tasks
}

/// Waits until every connection has its session, so that the measured time starts at full load.
async fn all_connected(plan: &Plan, control: &Control) -> Result<(), Failure> {
    let give_up = tokio::time::Instant::now() + plan.timeout;
    loop {
        let connected = control.connected.load(Relaxed);
        if connected == plan.connections {
            return Ok(());
        }
        if tokio::time::Instant::now() > give_up {
            let last = control.last_error.lock().ok().and_then(|last| last.clone());
            return Err(Failure::new(format!(
                "only {connected} of {} connections got a session within {:?}: {}",
                plan.connections,
                plan.timeout,
                last.unwrap_or_else(|| "the servers do not answer in time".to_owned())
            ))
            .hint(
                "a server accepts at most maxClientCnxns connections from one address (60 unless \
                 its zoo.cfg says otherwise); use fewer --connections or more servers",
            ));
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
            () = interrupt() => return Err(Failure::new("interrupted while connecting")),
        }
    }
}

async fn join(threads: Vec<LoadThread>) -> Result<Results, Failure> {
    let mut all = Results::default();
    for thread in threads {
        while !thread.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        match thread.join() {
            Ok(Ok(results)) => all.merge(results),
            Ok(Err(error)) => return Err(Failure::new(format!("cannot start a thread: {error}"))),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    Ok(all)
}

/// One line a second, until dropped.
async fn show_progress(control: &Control) {
    let (mut before, mut at) = (control.done.load(Relaxed), control.clock.now());
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (done, now) = (control.done.load(Relaxed), control.clock.now());
        let from = control.from_ns.load(Relaxed);
        let phase = match now.checked_sub(from) {
            Some(measured) => format!("{:>4.0} s", measured as f64 / 1e9),
            None => "warm-up".to_owned(),
        };
        let rate = (done - before) as f64 / ((now - at) as f64 / 1e9);
        eprintln!(
            "{phase:>7} {rate:>9.0}/s  errors {}  connections {}",
            control.failed.load(Relaxed),
            control.connected.load(Relaxed)
        );
        (before, at) = (done, now);
    }
}

/// Completes at Ctrl-C; never, if the signal cannot be had.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// CPU time of this process so far.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn unix_ms() -> u128 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis())
}

/// A connection needs a file descriptor: take as many as are allowed.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Failing leaves the old limit, and too many connections then say so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number between 0 and 1".to_owned()),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("must be a whole number of at least 1".to_owned()),
        Ok(n) => Ok(n),
    }
}

fn znodes(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(n @ 1..=999_999_999) => Ok(n),
        _ => Err("must be a whole number from 1 to 999999999".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_checked_where_they_are_typed() {
        assert!(positive("0").is_err() && positive("x").is_err() && positive("3") == Ok(3));
        assert!(share("1.1").is_err() && share("NaN").is_err() && share("0.5") == Ok(0.5));
        assert!(znodes("1000000000").is_err());
    }
}
