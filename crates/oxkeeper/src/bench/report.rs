//! The result of a run, for eyes and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Plan;
use super::measure::{Kind, Results};

/// Everything a run found out; this is also the JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the workload.
    pub workload: String,
    /// Servers the connections were spread over.
    pub servers: Vec<String>,
    /// Connections.
    pub connections: usize,
    /// Requests kept outstanding by each of them.
    pub outstanding: usize,
    /// Bytes of data in each znode.
    pub size: usize,
    /// Measured time in seconds.
    pub duration_s: f64,
    /// Did Ctrl-C end the run before its time?
    pub interrupted: bool,
    /// Operations that succeeded in that time: requests, notifications, or whole sessions.
    pub operations: u64,
    /// The same per second.
    pub throughput: f64,
    /// By kind of operation.
    pub latency: BTreeMap<String, Latency>,
    /// By name.
    pub errors: BTreeMap<String, u64>,
    /// Connections lost and opened again.
    pub reconnects: u64,
    /// Longest time without an acknowledged write (any operation, if the load writes nothing).
    pub longest_gap_ms: u64,
    /// When it began, counted from the start of the measured time.
    pub longest_gap_at_ms: u64,
    /// CPU time of this program per operation, in microseconds.
    pub client_cpu_us_per_op: f64,
}

/// Latencies of one kind of operation, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// How many succeeded.
    pub count: u64,
    /// How many per second.
    pub per_second: f64,
    /// Average.
    pub mean_us: f64,
    /// Half are faster.
    pub p50_us: f64,
    /// 99 % are faster.
    pub p99_us: f64,
    /// 99.9 % are faster.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
}

impl Latency {
    fn new(histogram: &Histogram<u64>, seconds: f64) -> Latency {
        let us = |ns: u64| ns as f64 / 1000.0;
        Latency {
            count: histogram.len(),
            per_second: histogram.len() as f64 / seconds,
            mean_us: histogram.mean() / 1000.0,
            p50_us: us(histogram.value_at_quantile(0.5)),
            p99_us: us(histogram.value_at_quantile(0.99)),
            p999_us: us(histogram.value_at_quantile(0.999)),
            max_us: us(histogram.max()),
        }
    }
}

/// The measured window of a run.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Start in ns of the run's clock.
    pub from_ns: u64,
    /// End in ns of the run's clock.
    pub end_ns: u64,
    /// CPU time this program used in it, in ns.
    pub cpu_ns: u64,
    /// Was the run cut short?
    pub interrupted: bool,
}

impl Report {
    /// Sums a run up.
    pub fn new(plan: &Plan, results: &Results, window: Window) -> Report {
        let seconds = (window.end_ns.saturating_sub(window.from_ns)) as f64 / 1e9;
        let seconds = seconds.max(1e-9);
        let latency: BTreeMap<String, Latency> = results
            .latencies()
            .map(|(kind, histogram)| (kind.name().to_owned(), Latency::new(histogram, seconds)))
            .collect();
        // Some kinds measure the same thing twice: only what the load is about is counted.
        let counted = |kind: Kind| match plan.workload.main_kind() {
            Some(main) => kind == main,
            None => true,
        };
        let operations = results
            .latencies()
            .filter(|(kind, _)| counted(*kind))
            .map(|(_, histogram)| histogram.len())
            .sum();
        let from_ms = window.from_ns / 1_000_000;
        let (gap, gap_at) = results.longest_gap(from_ms, window.end_ns / 1_000_000);
        Report {
            workload: plan.workload.name().to_owned(),
            servers: plan.servers.iter().map(ToString::to_string).collect(),
            connections: plan.connections,
            outstanding: plan.outstanding,
            size: plan.size,
            duration_s: seconds,
            interrupted: window.interrupted,
            operations,
            throughput: operations as f64 / seconds,
            latency,
            errors: results.errors.clone(),
            reconnects: results.reconnects,
            longest_gap_ms: gap,
            longest_gap_at_ms: gap_at - from_ms,
            client_cpu_us_per_op: window.cpu_ns as f64 / 1000.0 / (operations.max(1)) as f64,
        }
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let load = if matches!(self.workload.as_str(), "session" | "watch") {
            format!("{} connections", self.connections)
        } else {
            format!("{} connections x {} outstanding", self.connections, self.outstanding)
        };
        line(
            &mut text,
            &format!(
                "{}: {load}, {} bytes, {:.1} s{}, {}",
                self.workload,
                self.size,
                self.duration_s,
                if self.interrupted { " (interrupted)" } else { "" },
                self.servers.join(",")
            ),
        );
        line(&mut text, "");
        line(
            &mut text,
            &format!(
                "{:<16}{:>12}{:>12}{:>11}{:>11}{:>11}{:>11}",
                "", "count", "per second", "p50 ms", "p99 ms", "p99.9 ms", "max ms"
            ),
        );
        for kind in Kind::ALL {
            let Some(l) = self.latency.get(kind.name()) else { continue };
            let ms = |us: f64| format!("{:.3}", us / 1000.0);
            line(
                &mut text,
                &format!(
                    "{:<16}{:>12}{:>12.0}{:>11}{:>11}{:>11}{:>11}",
                    kind.name(),
                    l.count,
                    l.per_second,
                    ms(l.p50_us),
                    ms(l.p99_us),
                    ms(l.p999_us),
                    ms(l.max_us)
                ),
            );
        }
        line(&mut text, "");
        self.put_footer(&mut text);
        text
    }

    fn put_footer(&self, text: &mut String) {
        line(text, &format!("throughput      {:.0} operations per second", self.throughput));
        line(text, &format!("errors          {}", self.errors_text()));
        line(text, &format!("reconnects      {}", self.reconnects));
        line(
            text,
            &format!(
                "longest gap     {} ms without an acknowledgement, {:.3} s after the start",
                self.longest_gap_ms,
                self.longest_gap_at_ms as f64 / 1000.0
            ),
        );
        line(
            text,
            &format!(
                "this program    {:.2} us of CPU time per operation",
                self.client_cpu_us_per_op
            ),
        );
    }

    fn errors_text(&self) -> String {
        if self.errors.is_empty() {
            return "none".to_owned();
        }
        let each: Vec<_> =
            self.errors.iter().map(|(name, count)| format!("{name} {count}")).collect();
        each.join(", ")
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        match serde_json::to_string(self) {
            Ok(text) => text,
            Err(error) => unreachable!("a report has only string keys: {error}"),
        }
    }
}

fn line(text: &mut String, content: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}", content.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Workload;

    fn example() -> Report {
        let plan = Plan {
            workload: Workload::Mixed,
            servers: vec!["127.0.0.1:2181".parse().unwrap(), "127.0.0.1:2182".parse().unwrap()],
            connections: 4,
            outstanding: 8,
            ..Plan::example()
        };
        let mut results = Results::default();
        for i in 1..=1000 {
            results.record(Kind::Read, i * 1000, 1_000_000_000 + i * 1_000_000);
        }
        results.record(Kind::Write, 2_000_000, 1_500_000_000);
        results.error("ConnectionLoss", 8);
        results.reconnects = 1;
        let window = Window {
            from_ns: 1_000_000_000,
            end_ns: 3_000_000_000,
            cpu_ns: 2_002_000,
            interrupted: false,
        };
        Report::new(&plan, &results, window)
    }

    #[test]
    fn the_table_shows_the_whole_result() {
        let expected = "\
mixed: 4 connections x 8 outstanding, 100 bytes, 2.0 s, 127.0.0.1:2181,127.0.0.1:2182

                       count  per second     p50 ms     p99 ms   p99.9 ms     max ms
read                    1000         500      0.500      0.990      0.999      1.000
write                      1           0      2.001      2.001      2.001      2.001

throughput      500 operations per second
errors          ConnectionLoss 8
reconnects      1
longest gap     1500 ms without an acknowledgement, 0.500 s after the start
this program    2.00 us of CPU time per operation
";
        assert_eq!(example().table(), expected);
    }

    #[test]
    fn the_json_form_names_every_figure() {
        let value: serde_json::Value = serde_json::from_str(&example().json()).unwrap();
        assert_eq!(value["operations"], 1001);
        assert_eq!(value["longest_gap_ms"], 1500);
        assert_eq!(value["longest_gap_at_ms"], 500);
        assert_eq!(value["errors"]["ConnectionLoss"], 8);
        assert_eq!(value["latency"]["read"]["count"], 1000);
        assert_eq!(value["interrupted"], false);
    }
}
