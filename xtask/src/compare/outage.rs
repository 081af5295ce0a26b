//! Times without service: after the leader is killed, and at a cold start.

use std::thread;
use std::time::{Duration, Instant};

use super::bench::Bench;
use super::servers::{Ensemble, Kind};
use super::table::{Measure, Samples};
use super::{Effort, load, probe};
use crate::tools::Outcome;

/// How long a load runs before its leader is killed.
const BEFORE_KILL: Duration = Duration::from_secs(2);
const COLD_START_LIMIT: Duration = Duration::from_secs(60);

/// Kills the leader -9 under a steady load; the gap is the load's longest time without an acknowledged write.
pub fn failover(kind: Kind, effort: Effort, samples: &mut Samples) -> Outcome {
    let mut ensemble = Ensemble::new(kind, 3)?;
    ensemble.start()?;
    let steady = Bench::new(&ensemble.connect(), "write").with("--connections", 16);
    load::warm(&steady, effort)?;
    for _ in 0..effort.kills {
        let running = steady.clone().with("--duration", "8s").spawn()?;
        thread::sleep(BEFORE_KILL);
        let leader = ensemble.leader()?;
        ensemble.servers[leader].kill();
        let report = running.finish()?;
        println!("  longest gap {:.0} ms, {} errors", report.longest_gap_ms, report.errors());
        samples.add(kind, Measure::Failover, report.longest_gap_ms);
        ensemble.servers[leader].start()?;
        ensemble.wait_serving()?;
    }
    Ok(())
}

/// Three servers with empty directories, started at once.
pub fn cold_start(kind: Kind, samples: &mut Samples) -> Outcome {
    let mut ensemble = Ensemble::new(kind, 3)?;
    let ports: Vec<u16> = ensemble.servers.iter().map(|server| server.port).collect();
    let start = Instant::now();
    for server in &mut ensemble.servers {
        server.start()?;
    }
    let written = probe::first_write(&ports, COLD_START_LIMIT)?;
    let took_ms = (written - start).as_secs_f64() * 1000.0;
    println!("  first write after {took_ms:.0} ms");
    samples.add(kind, Measure::ColdStart, took_ms);
    Ok(())
}
