//! A million znodes of 100 bytes in a standalone server: resident memory and time after a restart.

use std::time::Instant;

use super::Effort;
use super::bench::Bench;
use super::servers::{Ensemble, Kind};
use super::table::{Measure, Samples};
use crate::tools::Outcome;

/// Below which the znodes are.
pub const ROOT: &str = "/million";

/// Fills a fresh server and restarts it. The measured start finds everything in a snapshot, which the start before it
/// wrote; so both kinds read the same thing.
pub fn measure(kind: Kind, effort: Effort, samples: &mut Samples) -> Outcome {
    let mut ensemble = filled(kind, effort)?;
    let server = &mut ensemble.servers[0];
    let start = Instant::now();
    server.start()?;
    server.wait_serving()?;
    let restart_ms = start.elapsed().as_secs_f64() * 1000.0;
    let resident = server.resident_mib()?;
    println!("  first reply after {restart_ms:.0} ms, resident {resident:.0} MiB");
    samples.add(kind, Measure::Restart, restart_ms);
    samples.add(kind, Measure::Resident, resident);
    Ok(())
}

/// A standalone server with all the znodes in its newest snapshot, not running.
pub fn filled(kind: Kind, effort: Effort) -> Outcome<Ensemble> {
    let mut ensemble = Ensemble::new(kind, 1)?;
    ensemble.start()?;
    let znodes = effort.znodes;
    let connect = ensemble.connect();
    Bench::new(&connect, "write").with("--root", ROOT).with("--znodes", znodes).prepare()?;
    let server = &mut ensemble.servers[0];
    server.kill();
    server.start()?;
    server.wait_serving()?;
    server.kill();
    Ok(ensemble)
}
