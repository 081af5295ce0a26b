//! Connecting to whichever address answers, however badly the others behave.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use oxkeeper_proto::ensemble::HostPort;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::resolve;

/// A second address of one name is tried this long after the first, unless that one has failed.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// While some addresses say nothing, those that have failed are tried again: after the first of these,
/// then after twice that, up to the second.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Connects to whichever of `addresses` answers first, within `limit`; names are resolved here. All of
/// them are tried at once, and again as long as there is one of which nothing is known yet. The error
/// says what is wrong with each.
pub async fn connect_any(addresses: &[HostPort], limit: Duration) -> io::Result<TcpStream> {
    let connect = |address: HostPort| async move { connect_one(&address).await };
    Race::new(addresses, Duration::ZERO, limit).run(connect).await
}

async fn connect_one(address: &HostPort) -> io::Result<TcpStream> {
    connect_first(&resolve(address).await?).await
}

/// The addresses of one name, in order: the next one as soon as the one before has failed or has been
/// silent for a while. No limit.
pub(super) async fn connect_first(sockets: &[SocketAddr]) -> io::Result<TcpStream> {
    Race::new(sockets, NEXT_ADDRESS_AFTER, Duration::MAX).run(connect_socket).await
}

async fn connect_socket(socket: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(socket).await?;
    // Where nobody listens on a port of the ephemeral range, TCP can connect a socket to itself.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Attempts to reach one of several targets.
struct Race<'a, T> {
    targets: &'a [T],
    /// How many have begun.
    begun: usize,
    /// The next one begins this long after the one before, or when one fails.
    apart: Duration,
    limit: Duration,
    /// Targets that have failed, with the last reason.
    failures: BTreeMap<usize, io::Error>,
    attempts: JoinSet<(usize, io::Result<TcpStream>, Duration)>,
}

impl<'a, T> Race<'a, T>
where
    T: Clone + fmt::Display + Send + 'static,
{
    fn new(targets: &'a [T], apart: Duration, limit: Duration) -> Race<'a, T> {
        let (failures, attempts) = (BTreeMap::new(), JoinSet::new());
        Race { targets, begun: 0, apart, limit, failures, attempts }
    }

    async fn run<F>(mut self, connect: impl Fn(T) -> F + Copy) -> io::Result<TcpStream>
    where
        F: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        let late = sleep(self.limit);
        tokio::pin!(late);
        self.begin_next(connect);
        while self.failures.len() < self.targets.len() {
            tokio::select! {
                Some(done) = self.attempts.join_next() => {
                    let (target, result, pause) = done.map_err(io::Error::other)?;
                    match result {
                        Ok(stream) => return Ok(stream),
                        Err(error) => self.failures.insert(target, error),
                    };
                    self.spawn(target, pause, connect);
                    self.begin_next(connect);
                }
                () = sleep(self.apart), if self.begun < self.targets.len() => {
                    self.begin_next(connect);
                }
                () = &mut late => return Err(self.lost(Some(io::ErrorKind::TimedOut))),
            }
        }
        Err(self.lost(None))
    }

    fn begin_next<F>(&mut self, connect: impl Fn(T) -> F)
    where
        F: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        if self.begun < self.targets.len() {
            self.spawn(self.begun, Duration::ZERO, connect);
            self.begun += 1;
        }
    }

    fn spawn<F>(&mut self, target: usize, pause: Duration, connect: impl Fn(T) -> F)
    where
        F: Future<Output = io::Result<TcpStream>> + Send + 'static,
    {
        let attempt = connect(self.targets[target].clone());
        let next_pause = (pause * 2).clamp(AGAIN_AFTER.0, AGAIN_AFTER.1);
        self.attempts.spawn(async move {
            sleep(pause).await;
            (target, attempt.await, next_pause)
        });
    }

    /// Why there is no connection; of one target alone, its own error.
    fn lost(mut self, kind: Option<io::ErrorKind>) -> io::Error {
        if self.targets.is_empty() {
            return io::Error::new(io::ErrorKind::NotFound, "there is no address to connect to");
        }
        let silent = || {
            let text = format!("no answer in {:?}", self.limit);
            io::Error::new(io::ErrorKind::TimedOut, text)
        };
        let reasons = (0..self.targets.len())
            .map(|target| self.failures.remove(&target).unwrap_or_else(silent));
        let mut reasons: Vec<_> = reasons.collect();
        if reasons.len() == 1 {
            return reasons.remove(0);
        }
        let kind = kind.unwrap_or(reasons[0].kind());
        let text = self.targets.iter().zip(reasons);
        let text: Vec<_> = text.map(|(target, reason)| format!("{target}: {reason}")).collect();
        io::Error::new(kind, text.join("; "))
    }
}
