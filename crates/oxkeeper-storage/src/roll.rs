//! When to begin a new log file and a snapshot. Source: `docs/spec/storage-formats.md` 5.2.

/// What to do after an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roll {
    /// Nothing.
    No,
    /// Begin a new file, no snapshot.
    Log,
    /// Begin a new file and take a snapshot, if none is being taken.
    LogAndSnapshot,
}

/// Counts what was appended since the last roll.
///
/// The thresholds have a random part so that the members of an ensemble do not all take a snapshot
/// at the same moment; its source is the caller's.
#[derive(Clone, Debug)]
pub struct RollPolicy {
    snap_count: u64,
    /// Bytes; 0 is off.
    snap_size: u64,
    /// Bytes; 0 is off.
    log_size: u64,
    records: u64,
    bytes: u64,
    record_limit: u64,
    byte_limit: u64,
}

impl RollPolicy {
    /// `snap_count`: records, raised to 2. `snap_size_kib` and `log_size_kib`: <= 0 is off.
    /// `random`: any two numbers.
    pub fn new(snap_count: i64, snap_size_kib: i64, log_size_kib: i64, random: [u64; 2]) -> Self {
        let bytes = |kib: i64| u64::try_from(kib).unwrap_or(0).saturating_mul(1024);
        let mut policy = RollPolicy {
            snap_count: u64::try_from(snap_count).unwrap_or(0).max(2),
            snap_size: bytes(snap_size_kib),
            log_size: bytes(log_size_kib),
            records: 0,
            bytes: 0,
            record_limit: 0,
            byte_limit: 0,
        };
        policy.rolled(random);
        policy
    }

    /// A record of `len` payload bytes was appended.
    pub fn appended(&mut self, len: usize) {
        self.records += 1;
        self.bytes += len as u64 + crate::log_file::RECORD_OVERHEAD as u64;
    }

    /// What to do now. `file_len`: bytes of records in the present file.
    pub fn decide(&self, file_len: u64) -> Roll {
        let by_size = self.snap_size > 0 && self.bytes > self.byte_limit;
        if self.records > self.record_limit || by_size {
            Roll::LogAndSnapshot
        } else if self.log_size > 0 && file_len > self.log_size {
            Roll::Log
        } else {
            Roll::No
        }
    }

    /// A [`Roll::LogAndSnapshot`] was done: counts from zero, with new random parts.
    pub fn rolled(&mut self, random: [u64; 2]) {
        let limit = |full: u64, random: u64| full / 2 + random % (full / 2).max(1);
        self.records = 0;
        self.bytes = 0;
        self.record_limit = limit(self.snap_count, random[0]);
        self.byte_limit = limit(self.snap_size, random[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appends_until_roll(policy: &mut RollPolicy, len: usize) -> usize {
        for count in 1..1_000_000 {
            policy.appended(len);
            if policy.decide(0) != Roll::No {
                return count;
            }
        }
        panic!("never rolled");
    }

    #[test]
    fn a_roll_comes_between_half_and_all_of_snap_count() {
        assert_eq!(appends_until_roll(&mut RollPolicy::new(100, 0, 0, [0, 0]), 1), 51);
        assert_eq!(appends_until_roll(&mut RollPolicy::new(100, 0, 0, [49, 0]), 1), 100);
        assert_eq!(appends_until_roll(&mut RollPolicy::new(0, 0, 0, [7, 7]), 1), 2);
    }

    #[test]
    fn bytes_roll_too_and_zero_turns_them_off() {
        let mut policy = RollPolicy::new(1_000_000, 10, 0, [0, 0]);
        assert_eq!(appends_until_roll(&mut policy, 1000), 6);
        policy.rolled([0, 5000]);
        assert_eq!(appends_until_roll(&mut policy, 1000), 10);
    }

    #[test]
    fn a_large_file_rolls_without_a_snapshot() {
        let policy = RollPolicy::new(100, 0, 1, [0, 0]);
        assert_eq!(policy.decide(1024), Roll::No);
        assert_eq!(policy.decide(1025), Roll::Log);
    }
}
