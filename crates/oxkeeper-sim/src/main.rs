//! `oxkeeper-sim --seeds A..B [--servers 3|5] [--jobs N] [--verbose]`

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use oxkeeper_sim::{Failure, Summary, run_seed};

const USAGE: &str = "oxkeeper-sim --seeds A..B [--servers 3|5] [--jobs N] [--verbose]

Runs an ensemble of the production cores from each seed and checks it. The same seed gives the same run.
Without --servers, every third seed has five servers. Exit code 1: a rule was broken.";

struct Args {
    seeds: std::ops::Range<u64>,
    servers: Option<usize>,
    jobs: usize,
    verbose: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args { seeds: 0..100, servers: None, jobs: 2, verbose: false };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let text = value()?;
                let range = text
                    .split_once("..")
                    .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
                args.seeds = range.ok_or(format!("{text} is no range such as 0..100"))?;
            }
            "--servers" => match value()?.as_str() {
                "3" => args.servers = Some(3),
                "5" => args.servers = Some(5),
                other => return Err(format!("{other} servers: only 3 and 5 are simulated")),
            },
            "--jobs" => {
                let text = value()?;
                args.jobs = text.parse().map_err(|_| format!("{text} is no number of jobs"))?;
            }
            "--verbose" => args.verbose = true,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(args)
}

fn servers_of(args: &Args, seed: u64) -> usize {
    args.servers.unwrap_or(if seed % 3 == 2 { 5 } else { 3 })
}

fn report(args: &Args, failure: &Failure) {
    let (seed, servers) = (failure.seed, servers_of(args, failure.seed));
    for line in &failure.lines {
        println!("{line}");
    }
    println!("seed {seed} ({servers} servers): {}", failure.what);
    let chosen = args.servers.map_or(String::new(), |servers| format!(" --servers {servers}"));
    println!("replay: cargo xtask sim --seeds {seed}..{} --verbose{chosen}", seed + 1);
}

fn run_all(args: &Args) -> (Summary, Option<Box<Failure>>) {
    let next = AtomicU64::new(args.seeds.start);
    let stop = AtomicBool::new(false);
    let outcome = Mutex::new((Summary::default(), None::<Box<Failure>>));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= args.seeds.end {
                return;
            }
            let result = run_seed(seed, servers_of(args, seed), args.verbose);
            let Ok(mut outcome) = outcome.lock() else { return };
            match result {
                Ok((summary, _)) => outcome.0 += &summary,
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    if outcome.1.as_ref().is_none_or(|other| failure.seed < other.seed) {
                        outcome.1 = Some(failure);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(work);
        }
    });
    outcome.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A broken invariant is reported with its seed; the default text would only interleave.
    std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
    let begin = Instant::now();
    let (summary, failure) = run_all(&args);
    if let Some(failure) = &failure {
        report(&args, failure);
    }
    println!("{summary}");
    println!("took {:.1} s", begin.elapsed().as_secs_f64());
    if failure.is_some() { ExitCode::from(1) } else { ExitCode::SUCCESS }
}
