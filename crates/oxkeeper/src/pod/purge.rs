//! `oxkeeper purge`, `zkCleanup.sh`: removes old snapshots and logs. Source:
//! `docs/spec/operations.md` 6.2.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::UNIX_EPOCH;

use clap::Args;
use oxkeeper_server::properties;
use oxkeeper_storage::RealDisk;
use oxkeeper_storage::purge::MIN_RETAIN;

use super::script_env::Script;
use crate::time;

const AFTER_HELP: &str = "\
Keeps the newest COUNT snapshots, at least 3, and the logs that they need; prints what it removes. A
server on the same data may run. Where the data are stands in zoo.cfg, which is found as
`oxkeeper control` does, or is given before -n. A server does the same by itself with the keys
autopurge.purgeInterval and autopurge.snapRetainCount.

Examples:
  oxkeeper purge -n 3
  oxkeeper purge --config /etc/zookeeper -n 5
  oxkeeper purge /var/lib/zookeeper/log /var/lib/zookeeper/data -n 3";

const USAGE: &str = "\
Usage: zkCleanup.sh [--config <conf-dir>] [dataLogDir [snapDir]] -n count
  dataLogDir  directory of the transaction logs, as in zoo.cfg
  snapDir     directory of the snapshots, as in zoo.cfg
  count       how many snapshots to keep, at least 3";

/// Remove old snapshots and logs as zkCleanup.sh does
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct PurgeArgs {
    /// How many to keep, and where
    #[arg(
        value_name = "[--config <dir>] [dataLogDir [snapDir]] -n count",
        allow_hyphen_values = true,
        trailing_var_arg = true
    )]
    args: Vec<String>,
}

/// `oxkeeper purge …`
pub fn run(args: PurgeArgs) -> ExitCode {
    main(args.args)
}

/// Does what `words` say.
pub fn main(mut words: Vec<String>) -> ExitCode {
    let request = Script::begin(&mut words)
        .and_then(|script| parse(&words, || configured(&script.config(None))));
    let request = match request {
        Ok(request) => request,
        Err(text) => {
            println!("{USAGE}");
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    match purge(&request) {
        Ok(lines) => {
            print!("{lines}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

/// What to remove from.
#[derive(Debug, PartialEq)]
struct Request {
    log_dir: PathBuf,
    data_dir: PathBuf,
    keep: usize,
}

fn parse(
    words: &[String],
    configured: impl FnOnce() -> Result<(PathBuf, PathBuf), String>,
) -> Result<Request, String> {
    let Some((dirs, [flag, count])) = words.split_last_chunk::<2>() else {
        return Err("-n count is missing".to_owned());
    };
    if flag != "-n" {
        return Err("-n count is missing".to_owned());
    }
    let number: i32 =
        count.trim().parse().map_err(|_| format!("'{count}' can not be parsed to integer."))?;
    let keep = usize::try_from(number).ok().filter(|keep| *keep >= MIN_RETAIN);
    let keep = keep.ok_or("count should be greater than or equal to 3")?;
    let (log_dir, data_dir) = match dirs {
        [] => configured()?,
        [both] => (both.into(), both.into()),
        [log_dir, data_dir] => (log_dir.into(), data_dir.into()),
        _ => return Err("too many directories".to_owned()),
    };
    Ok(Request { log_dir, data_dir, keep })
}

/// The directories that a configuration file names: of logs, of snapshots.
fn configured(file: &Path) -> Result<(PathBuf, PathBuf), String> {
    let shown = file.display();
    let text = fs::read(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    let entries = properties::parse(&text).map_err(|error| format!("{shown}: {error}"))?;
    let value = |key: &str| {
        let found = entries.iter().rev().find(|entry| entry.key == key && !entry.value.is_empty());
        found.map(|entry| PathBuf::from(&entry.value))
    };
    let data_dir = value("dataDir").ok_or_else(|| format!("{shown} does not set dataDir"))?;
    Ok((value("dataLogDir").unwrap_or_else(|| data_dir.clone()), data_dir))
}

/// Removes, and gives a line per file.
fn purge(request: &Request) -> Result<String, String> {
    let (data, log) = (request.data_dir.join("version-2"), request.log_dir.join("version-2"));
    let times = [dates(&data), dates(&log)];
    // Without a lock: a server may hold it, and never needs what is removed.
    let disk = RealDisk::open_unlocked(&request.data_dir, &request.log_dir)
        .map_err(|error| error.to_string())?;
    let purged = oxkeeper_storage::purge(&disk, request.keep).map_err(|error| error.to_string())?;
    let lines = |dir: &Path, times: &BTreeMap<String, String>, names: &[String]| -> String {
        let line = |name: &String| {
            let date = times.get(name).map_or("", String::as_str);
            format!("Removing file: {date}\t{}\n", dir.join(name).display())
        };
        names.iter().map(line).collect()
    };
    Ok(lines(&data, &times[0], &purged.snapshots) + &lines(&log, &times[1], &purged.logs))
}

/// When the files of a directory were last changed.
fn dates(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dated = entries.filter_map(|entry| {
        let changed = entry.metadata().ok()?.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let ms = i64::try_from(changed.as_millis()).ok()?;
        Some((entry.file_name().into_string().ok()?, medium_date(ms)))
    });
    dated.collect()
}

/// A date as `Nov 23, 2026, 4:45:50 PM`, in UTC. `ms` counts from 1970.
fn medium_date(ms: i64) -> String {
    let long = time::date(ms);
    let words: Vec<_> = long.split_whitespace().collect();
    let [_, month, day, clock, _, year] = words[..] else { return long };
    let (hour, rest) = clock.split_once(':').unwrap_or((clock, ""));
    let hour: u8 = hour.parse().unwrap_or(0);
    let half = if hour < 12 { "AM" } else { "PM" };
    let hour = match hour % 12 {
        0 => 12,
        hour => hour,
    };
    format!("{month} {}, {year}, {hour}:{rest} {half}", day.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: &[&str]) -> Result<Request, String> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&words, || Ok(("/log".into(), "/data".into())))
    }

    #[test]
    fn directories_come_from_the_command_line_or_the_configuration() {
        let dirs = |words: &[&str]| {
            let found = request(words).unwrap();
            (found.log_dir.display().to_string(), found.data_dir.display().to_string(), found.keep)
        };
        let expected = |log: &str, data: &str, keep| (log.to_owned(), data.to_owned(), keep);
        assert_eq!(dirs(&["-n", "4"]), expected("/log", "/data", 4));
        assert_eq!(dirs(&["/a", "-n", "3"]), expected("/a", "/a", 3));
        assert_eq!(dirs(&["/a", "/b", "-n", "3"]), expected("/a", "/b", 3));
    }

    #[test]
    fn wrong_counts_are_told_as_the_reference_does() {
        let low = "count should be greater than or equal to 3";
        assert_eq!(request(&["-n", "2"]).unwrap_err(), low);
        assert_eq!(request(&["-n", "-5"]).unwrap_err(), low);
        assert_eq!(request(&["-n", "x"]).unwrap_err(), "'x' can not be parsed to integer.");
        assert!(request(&[]).is_err() && request(&["-n"]).is_err() && request(&["3"]).is_err());
    }

    #[test]
    fn dates_are_short_ones_of_the_united_states() {
        assert_eq!(medium_date(1_795_452_350_000), "Nov 23, 2026, 4:45:50 PM");
        assert_eq!(medium_date(0), "Jan 1, 1970, 12:00:00 AM");
    }
}
