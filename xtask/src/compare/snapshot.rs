//! Writes while a snapshot of a million znodes is taken, beside writes while none is.
//!
//! A load runs in short windows, one after the other. Meanwhile a thread watches the directory: a snapshot is being
//! taken from when its file appears until it stops growing. A window counts as "during" if a snapshot was under way for
//! half of it, and as "without" if for none of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Effort;
use super::bench::Bench;
use super::memory::{self, ROOT};
use super::servers::Kind;
use super::table::{Measure, Samples, median};
use crate::tools::{Failure, Outcome};

/// A snapshot comes after 100 000 to 200 000 transactions: some windows lie between two of them.
const SNAP_COUNT: &str = "200000";
const WINDOW: Duration = Duration::from_millis(500);
const MOST_WINDOWS: usize = 120;
/// Windows of each sort that are enough.
const ENOUGH: usize = 4;
/// A file that has not grown for this long is complete.
const QUIET: Duration = Duration::from_millis(200);

/// Measures one server over its own kept data.
pub fn measure(kind: Kind, effort: Effort, samples: &mut Samples) -> Outcome {
    let mut ensemble = memory::filled(kind, effort)?;
    let server = &mut ensemble.servers[0];
    server.set("snapCount", SNAP_COUNT);
    server.start()?;
    server.wait_serving()?;
    let watcher = Watcher::start(server.version_2());
    let bench = Bench::new(&server.address(), "write").with("--root", ROOT).flag("--keep");
    // The znodes are there: it makes none and writes to the first thousand.
    let bench = bench.with("--znodes", 1000).with("--connections", 64).with("--outstanding", 1);
    super::load::warm(&bench, effort)?;
    let bench = bench.with("--duration", format!("{}ms", WINDOW.as_millis()));
    let mut windows = Vec::new();
    for count in 1..=MOST_WINDOWS {
        let report = bench.run()?;
        let end = Instant::now();
        windows.push((
            end.checked_sub(WINDOW).unwrap_or(end),
            end,
            report.latency()?.p999_us / 1000.0,
        ));
        if count % 5 == 0 {
            let (during, without) = sort(&windows, &watcher.intervals());
            if during.len() >= ENOUGH && without.len() >= ENOUGH {
                break;
            }
        }
    }
    let (during, without) = sort(&windows, &watcher.stop());
    println!("  {} windows during a snapshot, {} without one", during.len(), without.len());
    let (Some(during), Some(without)) = (median(&during), median(&without)) else {
        return Err(Failure::from("no snapshot was taken, or one was taken all the time"));
    };
    samples.add(kind, Measure::SnapshotDuring, during);
    samples.add(kind, Measure::SnapshotWithout, without);
    samples.add(kind, Measure::SnapshotRatio, during / without);
    Ok(())
}

/// From when until when.
type Interval = (Instant, Instant);

/// The p99.9 of the windows during a snapshot, and of those without one.
fn sort(windows: &[(Instant, Instant, f64)], snapshots: &[Interval]) -> (Vec<f64>, Vec<f64>) {
    let (mut during, mut without) = (Vec::new(), Vec::new());
    for (from, until, p999_ms) in windows {
        let shared: Duration = snapshots
            .iter()
            .map(|(begin, end)| (*until).min(*end).saturating_duration_since((*from).max(*begin)))
            .sum();
        if shared * 2 >= WINDOW {
            during.push(*p999_ms);
        } else if shared.is_zero() {
            without.push(*p999_ms);
        }
    }
    (during, without)
}

/// Watches a directory for snapshots that grow.
struct Watcher {
    stop: Arc<AtomicBool>,
    seen: Arc<std::sync::Mutex<BTreeMap<PathBuf, Growth>>>,
    thread: thread::JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct Growth {
    appeared: Instant,
    grew: Instant,
    size: u64,
    /// There before the watch began: not one of ours.
    old: bool,
}

impl Watcher {
    fn start(directory: PathBuf) -> Watcher {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
        look(&directory, &seen, true);
        let thread = thread::spawn({
            let (stop, seen) = (stop.clone(), seen.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    look(&directory, &seen, false);
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
        Watcher { stop, seen, thread }
    }

    /// Snapshots so far; one that still grows lasts until now.
    fn intervals(&self) -> Vec<Interval> {
        let Ok(seen) = self.seen.lock() else { return Vec::new() };
        let fresh = seen.values().filter(|growth| !growth.old);
        fresh
            .map(|growth| {
                let growing = growth.grew.elapsed() < QUIET;
                (growth.appeared, if growing { Instant::now() } else { growth.grew })
            })
            .collect()
    }

    fn stop(self) -> Vec<Interval> {
        self.stop.store(true, Ordering::Relaxed);
        let intervals = self.intervals();
        // It only fails if the thread panicked; then the intervals until then are all there is.
        let _ = self.thread.join();
        intervals
    }
}

fn look(directory: &Path, seen: &std::sync::Mutex<BTreeMap<PathBuf, Growth>>, old: bool) {
    let now = Instant::now();
    let Ok(mut seen) = seen.lock() else { return };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Ours has a temporary name until it is complete; it is one snapshot all the same.
        let name = name.strip_prefix("tmp-").unwrap_or(&name);
        if !name.starts_with("snapshot.") {
            continue;
        }
        let size = entry.metadata().map_or(0, |metadata| metadata.len());
        let growth = seen.entry(directory.join(name)).or_insert(Growth {
            appeared: now,
            grew: now,
            size: 0,
            old,
        });
        if size > growth.size {
            growth.size = size;
            growth.grew = now;
        }
    }
}
