//! An ensemble of three under full load, and under the least load.

use super::Effort;
use super::bench::{Bench, Report};
use super::servers::{Ensemble, Kind};
use super::table::{Measure, Samples};
use crate::tools::Outcome;

/// A warming run that brings less than this is no gain.
const GAIN: f64 = 1.03;
const WARMING_SECONDS: u64 = 3;

/// Write and read under 64 connections x 8 outstanding.
pub fn full(kind: Kind, effort: Effort, samples: &mut Samples) -> Outcome {
    let mut ensemble = Ensemble::new(kind, 3)?;
    ensemble.start()?;
    let connect = ensemble.connect();
    let of = |workload: &str| Bench::new(&connect, workload).full_load();
    warm(&of("write"), effort)?;
    let (write, cpu_us) = with_cpu(&ensemble, &of("write").with("--duration", seconds(effort)))?;
    samples.add(kind, Measure::WriteThroughput, write.throughput);
    samples.add(kind, Measure::WriteP999, write.latency()?.p999_us / 1000.0);
    samples.add(kind, Measure::WriteCpu, cpu_us);
    warm(&of("read"), effort)?;
    let (read, cpu_us) = with_cpu(&ensemble, &of("read").with("--duration", seconds(effort)))?;
    samples.add(kind, Measure::ReadThroughput, read.throughput);
    samples.add(kind, Measure::ReadP999, read.latency()?.p999_us / 1000.0);
    samples.add(kind, Measure::ReadCpu, cpu_us);
    Ok(())
}

/// One connection to the leader with one request at a time.
pub fn single(kind: Kind, effort: Effort, samples: &mut Samples) -> Outcome {
    let mut ensemble = Ensemble::new(kind, 3)?;
    ensemble.start()?;
    let leader = ensemble.servers[ensemble.leader()?].address();
    for (workload, measure) in [("write", Measure::SingleWrite), ("read", Measure::SingleRead)] {
        // Many requests are needed to warm a JVM, so it is warmed with the full load on all servers.
        warm(&Bench::new(&ensemble.connect(), workload).full_load(), effort)?;
        let bench = Bench::new(&leader, workload).with("--connections", 1).with("--outstanding", 1);
        let report = bench.with("--duration", seconds(effort)).run()?;
        print(&report);
        samples.add(kind, measure, report.latency()?.p50_us);
    }
    Ok(())
}

fn seconds(effort: Effort) -> String {
    format!("{}s", effort.seconds)
}

/// Runs a load until two runs in a row bring no gain in throughput, within bounds.
pub fn warm(bench: &Bench, effort: Effort) -> Outcome {
    let bench = bench.clone().with("--duration", format!("{WARMING_SECONDS}s"));
    let mut best = 0.0;
    let mut without_gain = 0;
    for _ in 0..effort.warming_runs {
        let throughput = bench.run()?.throughput;
        without_gain = if throughput > best * GAIN { 0 } else { without_gain + 1 };
        best = throughput.max(best);
        println!("  warming: {throughput:.0} operations/s");
        if without_gain == 2 {
            break;
        }
    }
    Ok(())
}

/// Runs a load; returns its report and the servers' CPU time per operation in microseconds.
fn with_cpu(ensemble: &Ensemble, bench: &Bench) -> Outcome<(Report, f64)> {
    let before = ensemble.cpu_time()?;
    let report = bench.run()?;
    let used = ensemble.cpu_time()? - before;
    print(&report);
    let cpu_us = used.as_secs_f64() * 1e6 / (report.operations.max(1)) as f64;
    Ok((report, cpu_us))
}

/// One line of progress.
pub fn print(report: &Report) {
    if let Ok(latency) = report.latency() {
        println!(
            "  {:.0} operations/s, p50 {:.0} us, p99.9 {:.0} us, {} errors",
            report.throughput,
            latency.p50_us,
            latency.p999_us,
            report.errors()
        );
    }
}
