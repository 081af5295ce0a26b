//! Signals, from the first moment of the process to the last.
//!
//! They have a thread of their own, which waits for nothing else (for the log a fraction of a second at
//! most): nothing that hangs can keep a signal from ending the process. Source: `docs/spec/operations.md` 9.2.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::logging;

/// How long a shutdown may take before the process simply ends; operators are promised 5 s.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(4);

/// What QUIT prints.
pub(crate) type Dump = Arc<dyn Fn() -> String + Send + Sync>;

/// What a signal finds.
enum Phase {
    /// Nothing was promised to anybody yet: a signal ends the process at once.
    Starting,
    /// The main thread shuts down with this exit code when told.
    Running(mpsc::Sender<i32>, Dump),
    Stopping,
}

/// The thread that waits for signals.
pub(crate) struct Signals {
    phase: Arc<Mutex<Phase>>,
}

impl Signals {
    /// Takes over TERM, INT, HUP and QUIT.
    pub(crate) fn take_over() -> io::Result<Signals> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let inside = runtime.enter();
        let mut ending = [
            (signal(SignalKind::terminate())?, "TERM", 143),
            (signal(SignalKind::interrupt())?, "INT", 130),
            (signal(SignalKind::hangup())?, "HUP", 129),
        ];
        let mut quit = signal(SignalKind::quit())?;
        drop(inside);
        let phase = Arc::new(Mutex::new(Phase::Starting));
        let signals = Signals { phase: phase.clone() };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        (name, code) = any(&mut ending) => end(&phase, name, code),
                        _ = quit.recv() => dump(&phase),
                    }
                }
            });
        })?;
        Ok(signals)
    }

    /// The server runs: waits for the signal that ends it, and returns the exit code. From then on the
    /// process ends within the limit, whatever the caller does.
    pub(crate) fn wait(&self, dump: Dump) -> i32 {
        let (tell, told) = mpsc::channel();
        *self.phase.lock() = Phase::Running(tell, dump);
        // The sender lives in `phase` until it has sent.
        told.recv().unwrap_or(1)
    }
}

async fn any(signals: &mut [(Signal, &'static str, i32); 3]) -> (&'static str, i32) {
    let [(a, ..), (b, ..), (c, ..)] = signals;
    let at = tokio::select! {
        _ = a.recv() => 0,
        _ = b.recv() => 1,
        _ = c.recv() => 2,
    };
    let (_, name, code) = &signals[at];
    (name, *code)
}

fn end(phase: &Mutex<Phase>, name: &str, code: i32) {
    let mut phase = phase.lock();
    match std::mem::replace(&mut *phase, Phase::Stopping) {
        Phase::Starting => {
            tracing::info!("{name} received while starting");
            tracing::error!("Exiting JVM with code {code}");
            std::process::exit(code);
        }
        Phase::Running(tell, _) => {
            let limit = move || {
                std::thread::sleep(SHUTDOWN_LIMIT);
                tracing::error!("the shutdown takes too long");
                tracing::error!("Exiting JVM with code {code}");
                std::process::exit(code);
            };
            let bounded = std::thread::Builder::new().name("limit".to_owned()).spawn(limit);
            let told = tell.send(code);
            if bounded.is_err() || told.is_err() {
                std::process::exit(code);
            }
            tracing::info!("{name} received, stopping");
        }
        // Once is enough; an impatient second signal does not end the flushing of the log.
        Phase::Stopping => {}
    }
}

fn dump(phase: &Mutex<Phase>) {
    let dump = match &*phase.lock() {
        Phase::Starting => return logging::print("state: starting\n"),
        Phase::Stopping => return logging::print("state: stopping\n"),
        Phase::Running(_, dump) => dump.clone(),
    };
    // The state may be locked for long; the next signal must not wait for it.
    let print = move || logging::print(&dump());
    if let Err(error) = std::thread::Builder::new().name("dump".to_owned()).spawn(print) {
        tracing::warn!(%error, "no thread for a state dump");
    }
}
