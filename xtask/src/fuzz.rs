//! `cargo xtask fuzz`: every target of `fuzz/` for a while, as many at once as there are cores. The
//! first inputs come from the recorded bytes (`fuzz/seeds.py`).

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use crate::tools::{self, Failure, Outcome, cargo, command, on_path, output, root, target_dir};

#[derive(Args)]
pub struct FuzzArgs {
    /// Minutes per target
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Targets; all if none is named
    targets: Vec<String>,
    /// Targets that run at once [default: one per core]
    #[arg(long)]
    jobs: Option<usize>,
}

/// A target that is being fuzzed.
struct Running {
    name: String,
    log: PathBuf,
    child: Child,
    started: Instant,
}

/// The chore.
pub fn run(args: &FuzzArgs) -> Outcome {
    if !on_path("cargo-fuzz") {
        tools::run(&mut cargo(&["install", "cargo-fuzz", "--locked"]))?;
    }
    let all = output(&mut fuzz(&["list"]))?;
    let targets: Vec<String> = match args.targets.as_slice() {
        [] => all.lines().map(str::to_owned).collect(),
        named => named.to_vec(),
    };
    tools::run(command("python3", &["seeds.py"]).current_dir(root().join("fuzz")))?;
    let logs = target_dir().join("fuzz-logs");
    fs::create_dir_all(&logs)?;
    for target in &targets {
        tools::run(&mut fuzz(&["build", target]))?;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let failed = run_all(targets, args.minutes * 60, args.jobs.unwrap_or(cores), &logs)?;
    if failed.is_empty() {
        println!("no crash in any target");
        return Ok(());
    }
    Err(Failure(format!("crashes in: {}", failed.join(", "))))
}

/// Keeps `jobs` targets running until all had their time; returns those that failed.
fn run_all(targets: Vec<String>, seconds: u64, jobs: usize, logs: &Path) -> Outcome<Vec<String>> {
    let mut waiting = VecDeque::from(targets);
    let mut running: Vec<Running> = Vec::new();
    let mut failed = Vec::new();
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < jobs.max(1) {
            let Some(name) = waiting.pop_front() else { break };
            running.push(start(name, seconds, logs)?);
        }
        let mut still = Vec::new();
        for mut one in running {
            match one.child.try_wait()? {
                None => still.push(one),
                Some(status) => {
                    report(&one, status.success());
                    if !status.success() {
                        failed.push(one.name);
                    }
                }
            }
        }
        running = still;
        thread::sleep(Duration::from_millis(200));
    }
    Ok(failed)
}

fn start(name: String, seconds: u64, logs: &Path) -> Outcome<Running> {
    let log = logs.join(format!("{name}.log"));
    let limit = format!("-max_total_time={seconds}");
    let mut command = fuzz(&["run", &name, "--", &limit, "-timeout=10", "-rss_limit_mb=2048"]);
    command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
    println!("{name}: {seconds} s, log in {}", log.display());
    Ok(Running { child: command.spawn()?, name, log, started: Instant::now() })
}

/// One line: how long, how many runs, and if it crashed the end of the log.
fn report(one: &Running, passed: bool) {
    let text = String::from_utf8_lossy(&fs::read(&one.log).unwrap_or_default()).into_owned();
    let runs = text
        .lines()
        .rev()
        .find(|line| line.starts_with("Done ") || line.starts_with('#'))
        .unwrap_or("");
    let word = if passed { "no crash" } else { "CRASHED" };
    println!("{}: {word} in {:.0} s: {runs}", one.name, one.started.elapsed().as_secs_f64());
    if !passed {
        let lines: Vec<&str> = text.lines().collect();
        println!("{}", lines[lines.len().saturating_sub(30)..].join("\n"));
    }
}

/// `cargo fuzz` on the nightly toolchain. Rustup's cargo is asked for it by name, so our own must not be in the way.
fn fuzz(args: &[&str]) -> std::process::Command {
    let mut command = command("rustup", &["run", "nightly", "cargo", "fuzz"]);
    command
        .args(args)
        .current_dir(root().join("fuzz"))
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN");
    command
}
