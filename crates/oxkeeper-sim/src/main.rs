//! `oxkeeper-sim`: runs seeds, replays one, makes a failing one smaller.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oxkeeper_sim::{Failure, Summary, Wishes, run_seed, shrink};

const USAGE: &str = "\
oxkeeper-sim [--seeds A..B] [--minutes N] [--servers 3|5] [--jobs N] [--without N,N,..] [--verbose] [--shrink] [--all]

Runs an ensemble of the production cores from each seed and checks it. The same seed gives the same run.
  --seeds A..B    these (default 0..100); with --minutes, from A on until the time is over
  --fresh         begins at a seed made from the time, which is printed
  --minutes N     so long
  --servers N     so many voters; without it, what each seed says
  --without N,..  these faults of the plan do not take place
  --verbose       every event
  --shrink        a failing seed is made smaller: faults that it does not need are left out
  --all           goes on behind a broken rule, and tells each in a line
Exit code 1: a rule was broken.";

struct Args {
    seeds: std::ops::Range<u64>,
    fresh: bool,
    limit: Option<Duration>,
    wishes: Wishes,
    jobs: usize,
    verbose: bool,
    shrink: bool,
    all: bool,
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("{text} is no number"))
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or(format!("{text} is no range such as 0..100"))?;
    Ok(number(from)?..number(to)?)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args {
        seeds: 0..100,
        fresh: false,
        limit: None,
        wishes: Wishes::default(),
        jobs: 2,
        verbose: false,
        shrink: false,
        all: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => args.seeds = range(&value()?)?,
            "--fresh" => args.fresh = true,
            "--minutes" => {
                let minutes: f64 = number(&value()?)?;
                args.limit = Some(Duration::from_secs_f64(minutes * 60.0));
            }
            "--servers" => args.wishes.servers = Some(number(&value()?)?),
            "--without" => {
                let numbers: Result<BTreeSet<_>, _> = value()?.split(',').map(number).collect();
                args.wishes.without = numbers?;
            }
            "--jobs" => args.jobs = number(&value()?)?,
            "--verbose" => args.verbose = true,
            "--shrink" => args.shrink = true,
            "--all" => args.all = true,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    if args.fresh {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        args.seeds.start = time.map_or(0, |time| time.as_secs()) << 20;
        args.seeds.end = args.seeds.start + 100;
    }
    if args.limit.is_some() {
        args.seeds.end = u64::MAX;
    }
    Ok(args)
}

/// What reproduces a failure.
fn replay(seed: u64, wishes: &Wishes) -> String {
    let servers = wishes.servers.map_or(String::new(), |servers| format!(" --servers {servers}"));
    let without: Vec<_> = wishes.without.iter().map(usize::to_string).collect();
    let without = match without.is_empty() {
        true => String::new(),
        false => format!(" --without {}", without.join(",")),
    };
    format!("cargo xtask sim --seeds {seed}..{}{servers}{without} --verbose", seed + 1)
}

fn report(failure: &Failure) {
    for line in &failure.lines {
        println!("{line}");
    }
    println!("seed {}", failure.seed);
    println!("broken: {}", failure.violation);
    println!("replay: {}", replay(failure.seed, &failure.wishes));
}

fn run_all(args: &Args) -> (Summary, Option<Box<Failure>>) {
    let begin = Instant::now();
    let next = AtomicU64::new(args.seeds.start);
    let stop = AtomicBool::new(false);
    let outcome = Mutex::new((Summary::default(), None::<Box<Failure>>));
    let over = || args.limit.is_some_and(|limit| limit < begin.elapsed());
    let work = || {
        while !stop.load(Ordering::Relaxed) && !over() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= args.seeds.end {
                return;
            }
            let result = run_seed(seed, &args.wishes, args.verbose);
            let Ok(mut outcome) = outcome.lock() else { return };
            match result {
                Ok(summary) => outcome.0 += &summary,
                Err(failure) => {
                    stop.store(!args.all, Ordering::Relaxed);
                    if args.all {
                        println!("seed {seed} broken: {}", failure.violation);
                    }
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
    std::panic::set_hook(Box::new(|_| {}));
    println!("seeds from {} on", args.seeds.start);
    let begin = Instant::now();
    let (summary, failure) = run_all(&args);
    if let Some(failure) = &failure {
        report(failure);
        if args.shrink {
            let smaller = shrink::shrink(failure, &mut |text| println!("{text}"));
            report(&smaller);
        }
    }
    println!("{summary}");
    println!("took {:.1} s", begin.elapsed().as_secs_f64());
    if failure.is_some() { ExitCode::from(1) } else { ExitCode::SUCCESS }
}
