//! What the tasks of one load thread share, and the loop that watches over them.
//!
//! A thread runs all its connections on a single-threaded runtime. Connections that hang, idle or
//! must end are woken by one loop per thread instead of a timer per connection and request.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use oxkeeper_proto::ErrorCode;

use super::Plan;
use super::measure::{Clock, Kind, Results};
use super::requests::Random;
use crate::wire::{Login, OpenError, Wire};

/// How often hanging and idle connections are looked for.
const WATCH_INTERVAL: Duration = Duration::from_millis(20);
/// How long outstanding replies and the closing of sessions may take at the end.
const DRAIN: Duration = Duration::from_secs(2);
/// A handshake that takes longer is tried elsewhere.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);
/// Pause after a failed attempt to connect; doubled up to the second figure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// What the coordinator and all threads share.
pub struct Control {
    /// Times are counted from here.
    pub clock: Clock,
    /// Start of the measured part, in ns; `u64::MAX` before it is known.
    pub from_ns: AtomicU64,
    /// End of the run, in ns; `u64::MAX` before it is known.
    pub end_ns: AtomicU64,
    /// Connections with a session.
    pub connected: AtomicUsize,
    /// Operations that succeeded, warm-up included: for the progress line.
    pub done: AtomicU64,
    /// Operations that failed, warm-up included.
    pub failed: AtomicU64,
    /// Why the last attempt to connect failed.
    pub last_error: Mutex<Option<String>>,
}

impl Control {
    /// Nothing has begun.
    pub fn new() -> Control {
        Control {
            clock: Clock::start(),
            from_ns: AtomicU64::new(u64::MAX),
            end_ns: AtomicU64::new(u64::MAX),
            connected: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    fn note_error(&self, text: String) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

/// Shared by the tasks of one thread.
pub struct Thread {
    /// What to do.
    pub plan: Arc<Plan>,
    /// When to do it.
    pub control: Arc<Control>,
    /// What came of it.
    pub results: RefCell<Results>,
    slots: RefCell<Vec<Rc<Slot>>>,
}

/// Why a wait on a connection ended.
pub enum Wake {
    /// Bytes have come in.
    Bytes,
    /// Nothing was sent for a third of the session timeout.
    Ping,
    /// The run is over.
    Stop,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    None,
    Ping,
    Stalled,
    Stop,
}

/// A connection as the watching loop sees it.
pub struct Slot {
    order: Cell<Order>,
    stop_told: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    /// Since when the oldest outstanding request waits; `u64::MAX` if there is none.
    pub waiting_since: Cell<u64>,
    /// When something was last sent; `u64::MAX` while there is no connection.
    pub last_sent: Cell<u64>,
}

impl Slot {
    fn order(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Sends and receives until bytes come in or the watching loop has something to say.
    pub async fn exchange(&self, wire: &mut Wire) -> io::Result<Wake> {
        std::future::poll_fn(|cx| {
            match self.order.replace(Order::None) {
                Order::None => {}
                Order::Ping => return Poll::Ready(Ok(Wake::Ping)),
                Order::Stop => return Poll::Ready(Ok(Wake::Stop)),
                Order::Stalled => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            }
            let polled = wire.poll_exchange(cx);
            if polled.is_pending() {
                let mut waker = self.waker.borrow_mut();
                match &mut *waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
            }
            polled.map_ok(|()| Wake::Bytes)
        })
        .await
    }

    /// No connection, so nothing to watch.
    pub fn idle(&self) {
        self.waiting_since.set(u64::MAX);
        self.last_sent.set(u64::MAX);
    }
}

impl Thread {
    /// Nanoseconds since the start.
    pub fn now(&self) -> u64 {
        self.control.clock.now()
    }

    /// Is the run over?
    pub fn stopping(&self, now: u64) -> bool {
        now >= self.control.end_ns.load(Relaxed)
    }

    /// Does what ends now count?
    pub fn measured(&self, now: u64) -> bool {
        now >= self.control.from_ns.load(Relaxed) && !self.stopping(now)
    }

    /// A place for one more connection under the watching loop.
    pub fn new_slot(&self) -> Rc<Slot> {
        let slot = Rc::new(Slot {
            order: Cell::new(Order::None),
            stop_told: Cell::new(false),
            waker: RefCell::new(None),
            waiting_since: Cell::new(u64::MAX),
            last_sent: Cell::new(u64::MAX),
        });
        self.slots.borrow_mut().push(slot.clone());
        slot
    }

    /// Records one success.
    pub fn success(&self, kind: Kind, latency_ns: u64, now: u64) {
        self.control.done.fetch_add(1, Relaxed);
        if self.measured(now) {
            self.results.borrow_mut().record(kind, latency_ns, now);
        }
    }

    /// Records an error reply.
    pub fn refused(&self, code: i32, now: u64) {
        match ErrorCode::from_code(code) {
            Some(code) => self.failure(&format!("{code:?}"), 1, now),
            None => self.failure(&format!("error {code}"), 1, now),
        }
    }

    /// Records failures that have a name.
    pub fn failure(&self, name: &str, count: u64, now: u64) {
        self.control.failed.fetch_add(count, Relaxed);
        if self.measured(now) {
            self.results.borrow_mut().error(name, count);
        }
    }

    /// Records a lost connection and the requests whose outcome nobody will learn.
    pub fn lost(&self, outstanding: u64, error: &io::Error) {
        let now = self.now();
        let name = match error.kind() {
            io::ErrorKind::TimedOut => "Timeout",
            io::ErrorKind::InvalidData => "ProtocolError",
            _ => "ConnectionLoss",
        };
        self.failure(name, outstanding, now);
        if self.measured(now) {
            self.results.borrow_mut().reconnects += 1;
        }
        self.control.note_error(error.to_string());
    }

    /// Wakes connections that hang, idle or must end. Returns when the run is over and the
    /// connections had time to end.
    async fn watch_over(&self) {
        let stall_ns = self.plan.timeout.as_nanos() as u64;
        let ping_ns = self.plan.session_timeout_ms as u64 * 1_000_000 / 3;
        let mut deadline = u64::MAX;
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let now = self.now();
            let stopping = self.stopping(now);
            if stopping && deadline == u64::MAX {
                deadline = now + DRAIN.as_nanos() as u64;
            }
            if now >= deadline {
                return;
            }
            for slot in self.slots.borrow().iter() {
                if stopping && !slot.stop_told.replace(true) {
                    slot.order(Order::Stop);
                } else if now.saturating_sub(slot.waiting_since.get()) > stall_ns {
                    slot.waiting_since.set(u64::MAX);
                    slot.order(Order::Stalled);
                } else if now.saturating_sub(slot.last_sent.get()) > ping_ns {
                    slot.last_sent.set(now);
                    slot.order(Order::Ping);
                }
            }
        }
    }
}

/// Runs `start`, which spawns the tasks of this thread, to the end of the run.
pub fn run(
    plan: Arc<Plan>,
    control: Arc<Control>,
    start: impl FnOnce(&Rc<Thread>) -> Vec<tokio::task::JoinHandle<()>>,
) -> io::Result<Results> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let thread = Rc::new(Thread {
        plan,
        control,
        results: RefCell::new(Results::default()),
        slots: RefCell::new(Vec::new()),
    });
    local.block_on(&runtime, async {
        let tasks = start(&thread);
        let all_ended = async {
            for task in tasks {
                // A task ends by itself or with the thread; there is nothing else to learn.
                let _ = task.await;
            }
        };
        tokio::select! {
            () = all_ended => {}
            () = thread.watch_over() => {}
        }
    });
    drop(local);
    Ok(thread.results.take())
}

/// Keeps one session alive across servers, as a client library would.
pub struct Connector {
    next: usize,
    login: Option<Login>,
    random: Random,
    /// Largest zxid seen; a server behind it refuses the session.
    pub last_zxid: i64,
}

impl Connector {
    /// The `index`-th connection starts at the server of the same number, modulo their count.
    pub fn new(index: usize) -> Connector {
        Connector { next: index, login: None, random: Random::new(index as u64), last_zxid: 0 }
    }

    /// The next server to try.
    pub fn next_server(&mut self, servers: &[SocketAddr]) -> SocketAddr {
        let server = servers[self.next % servers.len()];
        self.next += 1;
        server
    }

    /// Connects to one server after another until a session is there; `None` at the end of the run.
    pub async fn connect(&mut self, thread: &Thread) -> Option<Wire> {
        let mut pause = BACKOFF.0;
        while !thread.stopping(thread.now()) {
            let server = self.next_server(&thread.plan.servers);
            let resume = self.login.map(|login| (login, self.last_zxid));
            let opening = Wire::open(server, thread.plan.session_timeout_ms, resume);
            let limit = HANDSHAKE_LIMIT.min(thread.plan.timeout);
            let error = match tokio::time::timeout(limit, opening).await {
                Ok(Ok((wire, login))) => {
                    self.login = Some(login);
                    return Some(wire);
                }
                Ok(Err(OpenError::Expired)) => {
                    self.login = None;
                    "the session has expired".to_owned()
                }
                Ok(Err(OpenError::Io(error))) => error.to_string(),
                Err(_) => format!("no answer to the handshake within {limit:?}"),
            };
            thread.control.note_error(format!("{server}: {error}"));
            self.pause(&mut pause).await;
        }
        None
    }

    /// Waits a little longer each time, not in step with the other connections.
    async fn pause(&mut self, pause: &mut Duration) {
        let half = pause.as_micros() as u64 / 2;
        tokio::time::sleep(Duration::from_micros(half + self.random.below(half + 1))).await;
        *pause = (*pause * 2).min(BACKOFF.1);
    }
}
