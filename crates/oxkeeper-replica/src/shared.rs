//! What connection tasks and the replica thread both see.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use oxkeeper_state::State;
use oxkeeper_state::auth::AuthSettings;
use oxkeeper_state::watch::WatchTable;
use parking_lot::{Mutex, RwLock};

use crate::client::statistics::{FrameSizes, Lengths};
use crate::limits::{ConnectionThrottle, LimitSettings};
use crate::meters::Meters;

/// Settings of the client port.
#[derive(Clone, Debug)]
pub struct ClientPortSettings {
    /// This server's id; 1 names a standalone server in session ids.
    pub server: i64,
    /// Unit of session expiry, in ms.
    pub tick_ms: u64,
    /// Shortest session timeout granted, in ms.
    pub min_session_timeout_ms: i32,
    /// Longest session timeout granted, in ms.
    pub max_session_timeout_ms: i32,
    /// Schemes, super user, `skipACL`.
    pub auth: AuthSettings,
    /// Throttles.
    pub limits: LimitSettings,
}

/// Counters of the client port since the last reset.
#[derive(Debug, Default)]
pub struct Stats {
    /// Frames received, four-letter words included.
    pub received: AtomicU64,
    /// Frames sent.
    pub sent: AtomicU64,
    /// Requests answered, for the average latency.
    pub answered: AtomicU64,
    /// Sum of latencies, in ms.
    pub latency_sum_ms: AtomicU64,
    /// Smallest latency in ms; `u64::MAX` before the first request.
    pub latency_min_ms: AtomicU64,
    /// Largest latency in ms.
    pub latency_max_ms: AtomicU64,
    /// Bytes of the last frame sent to an established client, without its length prefix; -1: none yet.
    pub response_last: AtomicI64,
    /// Bytes of the smallest; -1: none yet.
    pub response_min: AtomicI64,
    /// Bytes of the largest; -1: none yet.
    pub response_max: AtomicI64,
    /// Bytes of all notifications, without length prefixes.
    pub notification_bytes: AtomicU64,
}

impl Stats {
    /// Records one answered request.
    pub fn answered(&self, latency_ms: u64) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.latency_sum_ms.fetch_add(latency_ms, Ordering::Relaxed);
        // Plain stores race only with each other; losing one extreme for a moment harms nobody.
        if latency_ms < self.latency_min_ms.load(Ordering::Relaxed) {
            self.latency_min_ms.store(latency_ms, Ordering::Relaxed);
        }
        if latency_ms > self.latency_max_ms.load(Ordering::Relaxed) {
            self.latency_max_ms.store(latency_ms, Ordering::Relaxed);
        }
    }

    /// Records frames. As with latencies, an extreme may be lost for a moment.
    pub fn responses(&self, sizes: &FrameSizes) {
        let Lengths { last, min, max } = sizes.lengths;
        if last < 0 {
            return;
        }
        if sizes.notifications > 0 {
            self.notification_bytes.fetch_add(sizes.notifications, Ordering::Relaxed);
        }
        self.response_last.store(last, Ordering::Relaxed);
        let least = self.response_min.load(Ordering::Relaxed);
        if least < 0 || min < least {
            self.response_min.store(min, Ordering::Relaxed);
        }
        if max > self.response_max.load(Ordering::Relaxed) {
            self.response_max.store(max, Ordering::Relaxed);
        }
    }

    /// Starts counting anew.
    pub fn reset(&self) {
        for counter in [
            &self.received,
            &self.sent,
            &self.answered,
            &self.latency_sum_ms,
            &self.latency_max_ms,
            &self.notification_bytes,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
        for size in [&self.response_last, &self.response_min, &self.response_max] {
            size.store(-1, Ordering::Relaxed);
        }
        self.latency_min_ms.store(u64::MAX, Ordering::Relaxed);
    }
}

/// Tells the states of a process apart: another one begins when the whole state is replaced, and when a
/// proposal is applied that no quorum vouches for. A walk over the tree must not go on in another state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateId(u64);

/// The part of a server that many threads see.
#[derive(Debug)]
pub struct Shared {
    /// The replicated state: many readers, one writer (the replica).
    pub state: RwLock<State>,
    /// Watches of local connections.
    pub watches: Mutex<WatchTable>,
    /// Settings that do not change while the server runs.
    pub settings: ClientPortSettings,
    /// Counters of the client port that the four-letter words show.
    pub stats: Stats,
    /// Everything else that is counted.
    pub meters: Meters,
    /// Monotonic ms at which the current service began.
    serving_since_ms: AtomicU64,
    /// Token bucket in front of new sessions.
    pub connection_throttle: Mutex<ConnectionThrottle>,
    /// Changes only under the write lock.
    state_id: AtomicU64,
    /// Are clients served? False without a quorum.
    serving: AtomicBool,
    /// The process ends: nobody is served again.
    ending: AtomicBool,
    /// Requests taken from clients and not answered yet.
    outstanding: AtomicI64,
    /// Bytes of large requests in flight.
    pub(crate) large_bytes: AtomicI64,
}

impl Shared {
    /// A server that is not serving yet. `seed` places watches in memory; clients should not know it.
    pub fn new(state: State, settings: ClientPortSettings, seed: u64) -> Self {
        let stats = Stats::default();
        stats.reset();
        Shared {
            state: RwLock::new(state),
            watches: Mutex::new(WatchTable::new(seed)),
            connection_throttle: Mutex::new(ConnectionThrottle::new(&settings.limits)),
            settings,
            stats,
            meters: Meters::default(),
            serving_since_ms: AtomicU64::new(0),
            state_id: AtomicU64::new(0),
            serving: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            outstanding: AtomicI64::new(0),
            large_bytes: AtomicI64::new(0),
        }
    }

    /// Are clients served?
    pub fn serving(&self) -> bool {
        self.serving.load(Ordering::Acquire) && !self.ending.load(Ordering::Acquire)
    }

    /// From now on no new client is served, whatever the replica is about to say.
    pub fn shut_down(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Which state this is. Stable while the state is locked.
    pub fn state_id(&self) -> StateId {
        StateId(self.state_id.load(Ordering::Acquire))
    }

    /// What was walked before has nothing to do with what follows.
    pub(crate) fn next_state_id(&self) {
        self.state_id.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn set_serving(&self, serving: bool) {
        self.serving.store(serving, Ordering::Release);
    }

    /// Monotonic ms at which the current service began; meaningful while there is one.
    pub fn serving_since_ms(&self) -> u64 {
        self.serving_since_ms.load(Ordering::Relaxed)
    }

    pub(crate) fn set_serving_since(&self, now_ms: u64) {
        self.serving_since_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Requests taken from clients and not answered yet.
    pub fn outstanding(&self) -> i64 {
        self.outstanding.load(Ordering::Relaxed).max(0)
    }

    pub(crate) fn add_outstanding(&self, requests: i64) {
        self.outstanding.fetch_add(requests, Ordering::Relaxed);
    }
}
