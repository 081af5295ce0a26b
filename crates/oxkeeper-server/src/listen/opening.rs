//! A port of this server at all the addresses that its `server.N` line names: what can be opened is,
//! the rest as soon as it can be.
//!
//! An address may be of no use for a while: its name does not resolve yet, its interface is not up, or
//! somebody else has the port. As long as one is open that is told, and tried again in the background.
//! Source: `docs/spec/quorum-protocol.md` 3.1, 5.1.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxkeeper_proto::ensemble::HostPort;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

use super::{BindError, DEFAULT_BACKLOG, failed, is_not_ours, open, open_wildcard};
use crate::names;

/// While another address is open, one that is not is tried again after this, then after twice that,
/// up to the second.
const REST_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How to go about it while nothing is open.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Attempts at each address before the port counts as one that cannot be opened; 0: no end.
    pub attempts: u32,
    /// Pause behind the n-th of them.
    pub pause: fn(u32) -> Duration,
    /// Tell of attempts that fail while others follow.
    pub told: bool,
}

/// What one attempt at one address has brought.
struct Outcome {
    target: usize,
    listeners: Vec<TcpListener>,
    /// `None`: there is nothing left to open.
    error: Option<BindError>,
}

/// What is known of one address.
#[derive(Default)]
struct Target {
    failures: u32,
    error: Option<BindError>,
    /// The failure that was told last, until it is over.
    told: Option<String>,
}

/// The attempts to open a port. They, and the sockets that nobody has taken over, end with it.
pub struct Opening {
    patience: Patience,
    targets: Vec<Target>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    _attempts: JoinSet<()>,
}

impl Opening {
    /// Begins to open `addresses`, or their ports on all addresses of this machine. Names are resolved
    /// anew at each attempt.
    pub fn start(
        addresses: &[HostPort],
        on_all: bool,
        purpose: &'static str,
        patience: Patience,
    ) -> Opening {
        let mut places = Vec::new();
        for address in addresses {
            let host = if on_all { "0.0.0.0" } else { &address.host };
            let place = HostPort { host: host.to_owned(), port: address.port };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let (sender, outcomes) = mpsc::unbounded_channel();
        let (mut attempts, any_open) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        let targets = places.iter().map(|_| Target::default()).collect();
        for (target, address) in places.into_iter().enumerate() {
            let place = Place { address, purpose, bound: Vec::new() };
            let pause = patience.pause;
            attempts.spawn(keep_opening(target, place, pause, any_open.clone(), sender.clone()));
        }
        Opening { patience, targets, outcomes, _attempts: attempts }
    }

    /// Waits for the first sockets. The error is that of the first address, once each one has failed
    /// as often as it may.
    pub async fn first(&mut self) -> Result<Vec<TcpListener>, BindError> {
        loop {
            let outcome = self.outcomes.recv().await.expect("an attempt goes on until it is open");
            let target = outcome.target;
            let listeners = self.take(outcome);
            if !listeners.is_empty() {
                return Ok(listeners);
            }
            let attempts = self.patience.attempts;
            if attempts != 0 && self.targets.iter().all(|target| attempts <= target.failures) {
                return Err(self.targets.swap_remove(0).error.expect("it has failed"));
            }
            if self.patience.told {
                self.targets[target].tell();
            }
        }
    }

    /// Accepts on the first sockets and on all that follow, for ever.
    pub async fn serve<F>(mut self, first: Vec<TcpListener>, accept: impl Fn(TcpListener) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut loops = JoinSet::new();
        let mut listeners = first;
        loop {
            for listener in listeners {
                loops.spawn(accept(listener));
            }
            let Some(outcome) = self.outcomes.recv().await else { break };
            let target = outcome.target;
            listeners = self.take(outcome);
            self.targets[target].tell();
        }
        // Nothing is left to open. Dropping the set would close the sockets.
        while loops.join_next().await.is_some() {}
    }

    fn take(&mut self, outcome: Outcome) -> Vec<TcpListener> {
        let target = &mut self.targets[outcome.target];
        target.failures += u32::from(outcome.error.is_some());
        target.error = outcome.error;
        outcome.listeners
    }
}

impl Target {
    /// Tells of a failure that is news, and of its end.
    fn tell(&mut self) {
        let text = self.error.as_ref().map(BindError::to_string);
        match (&text, &self.told) {
            (Some(text), told) if told.as_ref() != Some(text) => warn!("{text}; trying again"),
            (None, Some(told)) => info!("no longer: {told}"),
            _ => {}
        }
        self.told = text;
    }
}

/// One address, and what of it is open.
struct Place {
    address: HostPort,
    purpose: &'static str,
    bound: Vec<SocketAddr>,
}

async fn keep_opening(
    target: usize,
    mut place: Place,
    pause: fn(u32) -> Duration,
    any_open: Arc<AtomicBool>,
    outcomes: mpsc::UnboundedSender<Outcome>,
) {
    let mut rest = REST_AFTER.0;
    for attempt in 1u32.. {
        let (listeners, error) = place.open().await;
        if !listeners.is_empty() {
            any_open.store(true, Ordering::Relaxed);
        }
        let done = error.is_none();
        // Whoever waited may be gone; then this task is about to be ended.
        let _ = outcomes.send(Outcome { target, listeners, error });
        if done {
            return;
        }
        if any_open.load(Ordering::Relaxed) {
            sleep(rest).await;
            rest = (rest * 2).min(REST_AFTER.1);
        } else {
            sleep(pause(attempt)).await;
        }
    }
}

impl Place {
    /// Opens what is not open yet; says what else is in the way. Addresses of other machines, which a
    /// name may stand for as well, are no fault as long as one is ours.
    async fn open(&mut self) -> (Vec<TcpListener>, Option<BindError>) {
        if names::is_wildcard(&self.address.host) {
            return match open_wildcard(self.address.port, DEFAULT_BACKLOG) {
                Ok(listener) => (vec![listener], None),
                Err(error) => (Vec::new(), Some(self.failed(None, error).await)),
            };
        }
        let sockets = match names::resolve(&self.address).await {
            Ok(sockets) => sockets,
            Err(error) => return (Vec::new(), Some(self.failed(None, error).await)),
        };
        let several = sockets.len() > 1;
        let (mut listeners, mut fault, mut foreign) = (Vec::new(), None, None);
        for socket in sockets {
            if self.bound.contains(&socket) {
                continue;
            }
            match open(socket, DEFAULT_BACKLOG) {
                Ok(listener) => {
                    self.bound.push(socket);
                    listeners.push(listener);
                }
                Err(error) if is_not_ours(&error) => foreign = Some((socket.ip(), error)),
                Err(error) => fault = Some((socket.ip(), error)),
            }
        }
        let lacking = if self.bound.is_empty() { fault.or(foreign) } else { fault };
        let error = match lacking {
            Some((at, error)) => Some(self.failed(Some(at).filter(|_| several), error).await),
            None => None,
        };
        (listeners, error)
    }

    async fn failed(&self, at: Option<IpAddr>, source: io::Error) -> BindError {
        let (purpose, address) = (self.purpose, self.address.clone());
        // Looking for the owner of a port can take a while.
        let find = move || failed(purpose, address, at, source);
        match tokio::task::spawn_blocking(find).await {
            Ok(error) => error,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}
