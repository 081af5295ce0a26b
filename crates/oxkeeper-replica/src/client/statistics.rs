//! What operators see of a connection, and the sizes of frames and proposals.

use oxkeeper_proto::Zxid;

/// Numbers of one connection (`cons`) since they were last reset.
#[derive(Clone, Debug)]
pub struct ClientStats {
    /// Frames received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Last operation number, or 0.
    pub last_op: i32,
    /// Last xid, -1 before the first request.
    pub last_cxid: i32,
    /// zxid of the last reply.
    pub last_zxid: i64,
    /// When the session was established here, monotonic ms. Survives a reset.
    pub established_ms: u64,
    /// When the last reply was made, monotonic ms.
    pub last_response_ms: u64,
    /// From the arrival of a request to its reply.
    pub latency: Latency,
}

impl Default for ClientStats {
    fn default() -> ClientStats {
        ClientStats {
            received: 0,
            sent: 0,
            last_op: 0,
            last_cxid: -1,
            last_zxid: 0,
            established_ms: 0,
            last_response_ms: 0,
            latency: Latency::default(),
        }
    }
}

impl ClientStats {
    /// Starts counting anew (`crst`).
    pub(super) fn reset(&mut self) {
        *self = ClientStats { established_ms: self.established_ms, ..ClientStats::default() };
    }

    /// A request was answered.
    pub(super) fn answered(&mut self, zxid: Zxid, now_ms: u64, latency_ms: u64) {
        self.sent += 1;
        self.last_zxid = zxid.0;
        self.last_response_ms = now_ms;
        self.latency.record(latency_ms);
    }
}

/// Latencies of the requests of one connection, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Of the last request.
    pub last_ms: u64,
    /// The smallest; 0 before the first request.
    pub min_ms: u64,
    /// The largest.
    pub max_ms: u64,
    sum_ms: u64,
    requests: u64,
}

impl Latency {
    /// One more request.
    pub fn record(&mut self, latency_ms: u64) {
        self.last_ms = latency_ms;
        self.min_ms = if self.requests == 0 { latency_ms } else { self.min_ms.min(latency_ms) };
        self.max_ms = self.max_ms.max(latency_ms);
        self.sum_ms += latency_ms;
        self.requests += 1;
    }

    /// The mean, rounded down; 0 before the first request.
    pub fn mean_ms(&self) -> u64 {
        self.sum_ms / self.requests.max(1)
    }
}

/// Lengths of what was made so far, in bytes; -1 before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lengths {
    /// Of the last.
    pub last: i64,
    /// Of the smallest.
    pub min: i64,
    /// Of the largest.
    pub max: i64,
}

impl Default for Lengths {
    fn default() -> Lengths {
        Lengths { last: -1, min: -1, max: -1 }
    }
}

impl Lengths {
    /// One more.
    pub fn record(&mut self, len: usize) {
        self.last = len as i64;
        self.min = if self.min < 0 { self.last } else { self.min.min(self.last) };
        self.max = self.max.max(self.last);
    }
}

/// Lengths of a batch of frames, without their length prefixes.
#[derive(Debug, Default)]
pub struct FrameSizes {
    /// Of all of them.
    pub lengths: Lengths,
    /// Bytes of notifications.
    pub notifications: u64,
    /// Bytes of replies.
    pub replies: u64,
}

impl FrameSizes {
    /// One more frame.
    pub fn add(&mut self, len: usize, notification: bool) {
        match notification {
            true => self.notifications += len as u64,
            false => self.replies += len as u64,
        }
        self.lengths.record(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_latency_is_the_smallest_and_a_mean_of_none_is_zero() {
        let mut latency = Latency::default();
        assert_eq!(latency.mean_ms(), 0);
        [7, 2, 4].into_iter().for_each(|ms| latency.record(ms));
        assert_eq!((latency.last_ms, latency.min_ms, latency.max_ms), (4, 2, 7));
        assert_eq!(latency.mean_ms(), 4);
    }

    #[test]
    fn the_first_length_is_last_smallest_and_largest() {
        let mut lengths = Lengths::default();
        assert_eq!(lengths, Lengths { last: -1, min: -1, max: -1 });
        [0, 48, 9].into_iter().for_each(|len| lengths.record(len));
        assert_eq!(lengths, Lengths { last: 9, min: 0, max: 48 });
    }
}
