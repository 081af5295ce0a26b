//! `oxkeeper-explore [--scope NAME]... [--short] [--minutes M] [--jobs N]`

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use oxkeeper_explore::rules::Rule;
use oxkeeper_explore::scopes::{self, Scope};
use oxkeeper_explore::search::{Options, Report, replay, search};

const USAGE: &str = "oxkeeper-explore [--scope NAME]... [--short] [--minutes M] [--depth N] [--jobs N]
                 [--states MILLIONS] [--without RULE]... [--path CHOICES]

Tries every short run of an ensemble of the production cores and checks it. Without --scope: all scopes.
--minutes and --states bound each scope. --path tells one run (with --scope). Exit code 1: a rule was broken.";

struct Args {
    scopes: Vec<Scope>,
    short: bool,
    limit: Duration,
    depth: Option<u32>,
    jobs: usize,
    states: usize,
    without: Vec<Rule>,
    path: Option<Vec<u16>>,
}

fn rule(name: &str) -> Result<Rule, String> {
    let found = Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == name);
    found.ok_or(format!("no rule is called {name}"))
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args {
        scopes: Vec::new(),
        short: false,
        limit: Duration::from_secs(3600),
        depth: None,
        jobs: 2,
        states: 40_000_000,
        without: Vec::new(),
        path: None,
    };
    fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
        text.parse().map_err(|_| format!("{text} is no such number"))
    }
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--scope" => {
                let name = value()?;
                let names =
                    || scopes::all().iter().map(|scope| scope.name).collect::<Vec<_>>().join(", ");
                args.scopes.push(
                    Scope::named(&name).ok_or_else(|| format!("no scope {name}: {}", names()))?,
                );
            }
            "--short" => args.short = true,
            "--minutes" => args.limit = Duration::from_secs_f64(60.0 * number::<f64>(&value()?)?),
            "--depth" => args.depth = Some(number(&value()?)?),
            "--jobs" => args.jobs = number(&value()?)?,
            "--states" => args.states = 1_000_000 * number::<usize>(&value()?)?,
            "--without" => args.without.push(rule(&value()?)?),
            "--path" => {
                let path = value()?;
                let path = path.split('.').filter(|word| !word.is_empty()).map(number);
                args.path = Some(path.collect::<Result<_, _>>()?);
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    if args.path.is_some() && args.scopes.len() != 1 {
        return Err("--path needs one --scope".to_owned());
    }
    if args.scopes.is_empty() {
        args.scopes = scopes::all();
    }
    Ok(args)
}

fn options(args: &Args, scope: &Scope) -> Options {
    let mut bounds = scope.bounds;
    if args.short {
        bounds.depth = scope.short_depth;
    }
    bounds.depth = args.depth.unwrap_or(bounds.depth);
    Options { bounds, limit: args.limit, most_states: args.states, without: args.without.clone() }
}

/// Peak resident memory of this process, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn tell(scope: &Scope, options: &Options, report: &Report) {
    let Report { visited, distinct, depth, recoveries, took, .. } = report;
    let end = match (&report.broken, report.complete) {
        (Some(_), _) => "BROKEN",
        (None, true) => "complete",
        (None, false) => "stopped",
    };
    let most = options.bounds.most;
    println!(
        "{:<10} {end}: depth {depth} of {}, {} crashes, {} timeouts, {} proposals, {} elections: {visited} \
         steps, {distinct} states, {recoveries} recoveries, {:.1} s, {:.0} states/s, peak {} MiB",
        scope.name,
        options.bounds.depth,
        most.crashes,
        most.timeouts,
        most.proposals,
        most.elections,
        took.as_secs_f64(),
        *distinct as f64 / took.as_secs_f64().max(0.001),
        peak_mib()
    );
}

fn tell_path(scope: &Scope, options: &Options, path: &[u16]) -> bool {
    println!("scope {}: {}", scope.name, scope.about);
    let (lines, broken) = replay(scope, options, path);
    lines.iter().for_each(|line| println!("{line}"));
    if let Some(broken) = &broken {
        println!("{broken}");
    }
    broken.is_some()
}

fn run(args: Args) -> bool {
    if let (Some(path), [scope]) = (&args.path, &args.scopes[..]) {
        return tell_path(scope, &options(&args, scope), path);
    }
    let waiting = Mutex::new(args.scopes.iter().rev().collect::<Vec<_>>());
    let broken = Mutex::new(false);
    let work = || {
        while let Some(scope) = waiting.lock().ok().and_then(|mut waiting| waiting.pop()) {
            let options = options(&args, scope);
            let report = search(scope, &options);
            let Ok(mut any) = broken.lock() else { return };
            tell(scope, &options, &report);
            if let Some((what, path)) = &report.broken {
                *any = true;
                let words: Vec<_> = path.iter().map(ToString::to_string).collect();
                tell_path(scope, &options, path);
                println!("states {}, depth {}", report.distinct, path.len());
                println!(
                    "replay: cargo xtask explore --scope {} --path {}",
                    scope.name,
                    words.join(".")
                );
                let _ = what;
                if let Ok(mut waiting) = waiting.lock() {
                    waiting.clear();
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(work);
        }
    });
    broken.into_inner().unwrap_or(true)
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(problem) => {
            eprintln!("{problem}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A failed assertion is a finding with a path of its own; the default text would only repeat it.
    std::panic::set_hook(Box::new(|_| {}));
    if run(args) { ExitCode::from(1) } else { ExitCode::SUCCESS }
}
