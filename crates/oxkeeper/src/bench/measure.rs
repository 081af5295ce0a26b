//! What a run measures: latencies by kind of operation, errors, and the time line of writes.

use std::collections::BTreeMap;
use std::time::Instant;

use hdrhistogram::Histogram;

/// Kinds of operation that have a latency of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// getData.
    Read,
    /// setData.
    Write,
    /// create.
    Create,
    /// From the moment a write was acknowledged to the arrival of its notification; 0 if the
    /// notification came first.
    EventAfterAck,
    /// From the moment a write was sent to the arrival of its notification.
    Event,
    /// From TCP connect to the answer that opens a session.
    SessionOpen,
    /// From closeSession to its reply.
    SessionClose,
}

impl Kind {
    /// Every kind, in the order of a report.
    pub const ALL: [Kind; 7] = [
        Kind::Read,
        Kind::Write,
        Kind::Create,
        Kind::Event,
        Kind::EventAfterAck,
        Kind::SessionOpen,
        Kind::SessionClose,
    ];

    /// Its name in a report.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Create => "create",
            Kind::Event => "event",
            Kind::EventAfterAck => "event_after_ack",
            Kind::SessionOpen => "session_open",
            Kind::SessionClose => "session_close",
        }
    }

    /// Does the server have to commit a transaction for it?
    pub fn is_write(self) -> bool {
        matches!(self, Kind::Write | Kind::Create | Kind::SessionOpen | Kind::SessionClose)
    }
}

/// Nanoseconds since the start of the program's work.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Nanoseconds since the start.
    pub fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// In which milliseconds something was acknowledged: one bit each.
#[derive(Default)]
pub struct TimeLine(Vec<u64>);

impl TimeLine {
    /// Marks the millisecond of `at_ns`.
    pub fn mark(&mut self, at_ns: u64) {
        let ms = (at_ns / 1_000_000) as usize;
        let (word, bit) = (ms / 64, ms % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    /// Takes over the marks of another line.
    pub fn merge(&mut self, other: &TimeLine) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    /// The longest time without a mark between `from_ms` and `to_ms`, and where it starts, in ms.
    ///
    /// Both ends count as marks: a run that ends in silence has a gap.
    pub fn longest_gap(&self, from_ms: u64, to_ms: u64) -> (u64, u64) {
        let marked = |ms: u64| {
            let word = self.0.get((ms / 64) as usize).copied().unwrap_or(0);
            word >> (ms % 64) & 1 == 1
        };
        let (mut last, mut longest, mut at) = (from_ms, 0, from_ms);
        for ms in from_ms..=to_ms {
            if marked(ms) || ms == to_ms {
                if ms - last > longest {
                    (longest, at) = (ms - last, last);
                }
                last = ms;
            }
        }
        (longest, at)
    }
}

/// Results of one thread, merged at the end of the run.
#[derive(Default)]
pub struct Results {
    latencies: BTreeMap<Kind, Histogram<u64>>,
    /// What failed, by name of the error.
    pub errors: BTreeMap<String, u64>,
    /// Acknowledged writes.
    pub writes: TimeLine,
    /// All acknowledged operations.
    pub all: TimeLine,
    /// Connections that were lost and opened again.
    pub reconnects: u64,
}

impl Results {
    /// Records one successful operation that ended at `now_ns`.
    pub fn record(&mut self, kind: Kind, latency_ns: u64, now_ns: u64) {
        let histogram = self.latencies.entry(kind).or_insert_with(new_histogram);
        histogram.saturating_record(latency_ns);
        if kind.is_write() {
            self.writes.mark(now_ns);
        } else {
            self.all.mark(now_ns);
        }
    }

    /// Counts a failure.
    pub fn error(&mut self, name: &str, count: u64) {
        if count == 0 {
            return;
        }
        match self.errors.get_mut(name) {
            Some(total) => *total += count,
            None => {
                self.errors.insert(name.to_owned(), count);
            }
        }
    }

    /// Takes over another thread's results.
    pub fn merge(&mut self, other: Results) {
        for (kind, histogram) in other.latencies {
            // Equal bounds: adding cannot fail.
            let mine = self.latencies.entry(kind).or_insert_with(new_histogram);
            assert!(mine.add(histogram).is_ok(), "all histograms have the same bounds");
        }
        for (name, count) in other.errors {
            self.error(&name, count);
        }
        self.writes.merge(&other.writes);
        self.all.merge(&other.all);
        self.reconnects += other.reconnects;
    }

    /// Latencies in ns of each kind that occurred.
    pub fn latencies(&self) -> impl Iterator<Item = (Kind, &Histogram<u64>)> {
        Kind::ALL.into_iter().filter_map(|kind| Some((kind, self.latencies.get(&kind)?)))
    }

    /// The longest gap between acknowledged writes, or between any acknowledged operations if the
    /// run wrote nothing: (length, start), in ms.
    pub fn longest_gap(&self, from_ms: u64, to_ms: u64) -> (u64, u64) {
        if self.latencies.keys().any(|kind| kind.is_write()) || self.latencies.is_empty() {
            self.writes.longest_gap(from_ms, to_ms)
        } else {
            self.all.longest_gap(from_ms, to_ms)
        }
    }
}

/// Three digits, up to ten minutes.
fn new_histogram() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, 600_000_000_000, 3);
    match made {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("constant bounds are valid: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_lies_between_two_marks_or_at_an_end() {
        let mut line = TimeLine::default();
        for ms in [100, 101, 110, 400, 401] {
            line.mark(ms * 1_000_000);
        }
        assert_eq!(line.longest_gap(100, 402), (290, 110));
        assert_eq!(line.longest_gap(100, 1000), (599, 401));
        assert_eq!(line.longest_gap(90, 111), (10, 90));
        assert_eq!(TimeLine::default().longest_gap(5, 25), (20, 5));
    }

    #[test]
    fn merged_results_keep_every_operation_and_error() {
        let mut a = Results::default();
        a.record(Kind::Write, 1000, 5_000_000);
        a.error("ConnectionLoss", 2);
        let mut b = Results::default();
        b.record(Kind::Write, 2000, 9_000_000);
        b.error("ConnectionLoss", 1);
        a.merge(b);
        let (kind, histogram) = a.latencies().next().unwrap();
        assert_eq!((kind, histogram.len(), histogram.max()), (Kind::Write, 2, 2000));
        assert_eq!(a.errors["ConnectionLoss"], 3);
        assert_eq!(a.longest_gap(5, 9), (4, 5));
    }
}
