//! The two clocks of a server, read in one place.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use oxkeeper_replica::Now;

/// Monotonic milliseconds since the process started, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting now.
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    /// Monotonic ms.
    pub fn mono_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { mono_ms: self.mono_ms(), wall_ms: wall.as_millis() as i64 }
    }

    /// The instant of a monotonic ms value.
    pub fn instant(&self, mono_ms: u64) -> Instant {
        self.start + Duration::from_millis(mono_ms)
    }
}
