//! Distributions of times and counts for operators, recorded without a lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Buckets of one power of two: a quantile is off by at most 1/16.
const FINE: usize = 8;
/// Values up to 2^36 ms (two years) are told apart; larger ones count as that.
const OCTAVES: usize = 34;
/// Buckets: one for each value below [`FINE`], then [`FINE`] for each power of two.
const BUCKETS: usize = FINE * OCTAVES;
/// Parts of the window; [`Summary::rotate`] drops the oldest.
pub const PARTS: usize = 5;

/// Values, most often milliseconds: number, sum, extremes since the last [`Summary::reset`], quantiles
/// of the window. A record costs a few relaxed atomic operations.
pub struct Summary {
    count: AtomicU64,
    sum: AtomicU64,
    /// `u64::MAX` before the first value.
    min: AtomicU64,
    max: AtomicU64,
    /// The part of the window that is written to.
    part: AtomicUsize,
    window: Box<[[AtomicU64; BUCKETS]; PARTS]>,
}

/// A summary at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Distribution {
    /// Values since the last reset.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The smallest; 0 without any.
    pub min: u64,
    /// The largest; 0 without any.
    pub max: u64,
    /// Quantiles of the window, as asked for; `None` if it is empty.
    pub quantiles: [Option<u64>; 5],
}

/// What [`Distribution::quantiles`] are, in thousandths.
pub const QUANTILES: [u64; 5] = [500, 900, 950, 990, 999];

impl Default for Summary {
    fn default() -> Self {
        Summary {
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
            part: AtomicUsize::new(0),
            window: Box::new([const { [const { AtomicU64::new(0) }; BUCKETS] }; PARTS]),
        }
    }
}

impl std::fmt::Debug for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.read().fmt(f)
    }
}

impl Summary {
    /// One value.
    pub fn record(&self, value: u64) {
        self.record_many(value, 1);
    }

    /// The same value several times.
    pub fn record_many(&self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        self.count.fetch_add(times, Ordering::Relaxed);
        if value > 0 {
            self.sum.fetch_add(value.saturating_mul(times), Ordering::Relaxed);
        }
        // As with other extremes, two threads may lose one of theirs for a moment.
        if value < self.min.load(Ordering::Relaxed) {
            self.min.store(value, Ordering::Relaxed);
        }
        if value > self.max.load(Ordering::Relaxed) {
            self.max.store(value, Ordering::Relaxed);
        }
        let part = self.part.load(Ordering::Relaxed) % PARTS;
        self.window[part][bucket(value)].fetch_add(times, Ordering::Relaxed);
    }

    /// Forgets the oldest part of the window. Without it the window has no end.
    pub fn rotate(&self) {
        let next = (self.part.load(Ordering::Relaxed) + 1) % PARTS;
        clear(&self.window[next]);
        self.part.store(next, Ordering::Relaxed);
    }

    /// Starts anew.
    pub fn reset(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.sum.store(0, Ordering::Relaxed);
        self.min.store(u64::MAX, Ordering::Relaxed);
        self.max.store(0, Ordering::Relaxed);
        self.window.iter().for_each(clear);
    }

    /// Everything at this moment. Values recorded meanwhile may be half in it.
    pub fn read(&self) -> Distribution {
        let mut totals = [0; BUCKETS];
        for part in self.window.iter() {
            for (total, one) in totals.iter_mut().zip(part) {
                *total += one.load(Ordering::Relaxed);
            }
        }
        let count: u64 = totals.iter().sum();
        let (min, max) = (self.min.load(Ordering::Relaxed), self.max.load(Ordering::Relaxed));
        let quantile = |thousandths: u64| {
            let rank = (count * thousandths).div_ceil(1000).max(1);
            let mut seen = 0;
            let found = totals.iter().position(|one| {
                seen += one;
                rank <= seen
            });
            found.map(|index| middle(index).clamp(min.min(max), max))
        };
        Distribution {
            count: self.count.load(Ordering::Relaxed),
            sum: self.sum.load(Ordering::Relaxed),
            min: if min == u64::MAX { 0 } else { min },
            max,
            quantiles: QUANTILES.map(quantile),
        }
    }
}

fn clear(part: &[AtomicU64; BUCKETS]) {
    part.iter().for_each(|bucket| bucket.store(0, Ordering::Relaxed));
}

/// The bucket of a value: values below [`FINE`] have one each, then the leading bits decide.
fn bucket(value: u64) -> usize {
    if value < FINE as u64 {
        return value as usize;
    }
    let octave = (value.ilog2() - FINE.ilog2()) as usize;
    let fine = (value >> octave) as usize % FINE;
    ((octave + 1) * FINE + fine).min(BUCKETS - 1)
}

/// A value in the middle of a bucket.
fn middle(bucket: usize) -> u64 {
    if bucket < FINE {
        return bucket as u64;
    }
    let octave = bucket / FINE - 1;
    let low = ((FINE + bucket % FINE) as u64) << octave;
    low + ((1 << octave) - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_values_bucket_is_within_a_sixteenth_of_it() {
        for value in (0..2000).chain((1..36).map(|bits| (1u64 << bits) - 1)) {
            let middle = middle(bucket(value));
            assert!(middle.abs_diff(value) * 16 <= value, "{value} is {middle}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn count_sum_extremes_and_quantiles_are_those_of_the_values() {
        let summary = Summary::default();
        assert_eq!(summary.read(), Distribution::default());
        for value in 1..=100 {
            summary.record(value);
        }
        let read = summary.read();
        assert_eq!((read.count, read.sum, read.min, read.max), (100, 5050, 1, 100));
        for (found, wanted) in read.quantiles.into_iter().zip([50, 90, 95, 99, 100]) {
            assert!(found.unwrap().abs_diff(wanted) * 16 <= wanted, "{found:?} is not {wanted}");
        }
        summary.reset();
        assert_eq!(summary.read(), Distribution::default());
    }

    #[test]
    fn a_value_leaves_the_quantiles_after_five_rotations_but_never_the_sum() {
        let summary = Summary::default();
        summary.record_many(7, 3);
        for _ in 1..PARTS {
            summary.rotate();
            assert_eq!(summary.read().quantiles, [Some(7); 5]);
        }
        summary.rotate();
        let read = summary.read();
        assert_eq!(read.quantiles, [None; 5]);
        assert_eq!((read.count, read.sum), (3, 21));
    }
}
