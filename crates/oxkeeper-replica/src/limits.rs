//! Throttles of the client port (`docs/spec/client-protocol.md` 16).

/// Limits, with the reference's names and defaults.
#[derive(Clone, Debug)]
pub struct LimitSettings {
    /// `jute.maxbuffer`: longest frame in bytes.
    pub max_buffer: usize,
    /// `globalOutstandingLimit`: above it, a connection with a request in flight is not read.
    pub global_outstanding: i64,
    /// `request_throttle_max_requests`: above it requests wait; 0 is off.
    pub throttle_max_requests: i64,
    /// `throttled_op_wait_time` in ms: a request that waited longer fails with -127; 0 is off.
    pub throttled_op_wait_ms: u64,
    /// `largeRequestThreshold` in bytes: what counts as large; -1 is off.
    pub large_threshold: i64,
    /// `largeRequestMaxBytes`: large requests in flight, in bytes, before a connection is closed.
    pub large_max_bytes: i64,
    /// `connection_throttle_tokens`; 0 is off.
    pub connection_tokens: i64,
    /// `connection_throttle_fill_time` in ms.
    pub connection_fill_ms: u64,
    /// `connection_throttle_fill_count`.
    pub connection_fill_count: i64,
    /// `connection_throttle_weight_enabled`.
    pub connection_weights: bool,
    /// Weight of a new session.
    pub connection_weight_new: i64,
    /// Weight of a session that goes on.
    pub connection_weight_renewed: i64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        LimitSettings {
            max_buffer: oxkeeper_proto::jute::DEFAULT_MAX_BUFFER,
            global_outstanding: 1000,
            throttle_max_requests: 0,
            throttled_op_wait_ms: 0,
            large_threshold: -1,
            large_max_bytes: 104_857_600,
            connection_tokens: 0,
            connection_fill_ms: 1,
            connection_fill_count: 1,
            connection_weights: false,
            connection_weight_new: 3,
            connection_weight_renewed: 2,
        }
    }
}

/// A token bucket in front of session requests; without a token the connection is closed.
#[derive(Debug)]
pub struct ConnectionThrottle {
    tokens: i64,
    capacity: i64,
    fill_ms: u64,
    fill_count: i64,
    filled_ms: u64,
}

impl ConnectionThrottle {
    /// A full bucket.
    pub fn new(settings: &LimitSettings) -> Self {
        ConnectionThrottle {
            tokens: settings.connection_tokens,
            capacity: settings.connection_tokens,
            fill_ms: settings.connection_fill_ms.max(1),
            fill_count: settings.connection_fill_count,
            filled_ms: 0,
        }
    }

    /// Takes `weight` tokens, if there are that many. Always succeeds when the throttle is off.
    pub fn take(&mut self, now_ms: u64, weight: i64) -> bool {
        if self.capacity <= 0 {
            return true;
        }
        let fills = now_ms.saturating_sub(self.filled_ms) / self.fill_ms;
        if fills > 0 {
            let filled = (fills.min(i64::MAX as u64) as i64).saturating_mul(self.fill_count);
            self.tokens = self.tokens.saturating_add(filled).min(self.capacity);
            self.filled_ms += fills * self.fill_ms;
        }
        if self.tokens < weight {
            return false;
        }
        self.tokens -= weight;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_run_out_and_come_back_with_time() {
        let settings =
            LimitSettings { connection_tokens: 2, connection_fill_ms: 10, ..Default::default() };
        let mut throttle = ConnectionThrottle::new(&settings);
        assert!(throttle.take(0, 1) && throttle.take(0, 1));
        assert!(!throttle.take(9, 1));
        assert!(throttle.take(10, 1));
        assert!(!throttle.take(10, 1));
    }

    #[test]
    fn a_throttle_that_is_off_never_refuses() {
        let mut throttle = ConnectionThrottle::new(&LimitSettings::default());
        assert!((0..1000).all(|_| throttle.take(0, 3)));
    }
}
