//! The client port: accepts connections, moves their bytes, answers four-letter words.
//!
//! One task per connection. It reads what has arrived, lets its [`Client`] answer the reads on the
//! spot, hands the rest to the replica in one batch, and writes all output with one call. While there
//! is little to do, whoever completes a write puts the reply into the socket itself ([`Socket`]).
//! Source: `docs/spec/client-protocol.md` 2.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oxkeeper_proto::SessionId;
use oxkeeper_replica::{Client, Connection, Input, Shared, Written};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::clock::Clock;
use crate::driver::Event;
use crate::logging::connection_line;
use crate::mailbox::Mailbox;

/// Bytes of input buffered beyond an incomplete frame.
const READ_CHUNK: usize = 16 * 1024;
/// A client that is being closed gets this long to read what is left for it.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
/// Idle connections are looked for on a grid as wide as the time without a session, but not more often
/// than the first of these and not less often than the second (`docs/spec/client-protocol.md` 2.3).
const GRID: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(24));
/// Answered words whose clients are given time to close; one more is closed at once.
const MAX_LINGERING: usize = 1024;

/// A client that cannot get in tries again and again; it is told of this often.
const REFUSALS_TOLD_EVERY_MS: u64 = 10_000;

/// Limits of the listener.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `maxClientCnxns` per source address; 0 is no limit.
    pub per_address: usize,
    /// `maxCnxns` in total; 0 is no limit.
    pub total: usize,
    /// `nio.sessionlessCnxnTimeout` in ms.
    pub sessionless_ms: u64,
    /// `clientTcpKeepAlive`.
    pub keepalive: bool,
}

/// Answers four-letter words; see [`crate::words`].
pub trait Words: Send + Sync + 'static {
    /// How many bytes behind the word belong to it, if `word` is one.
    fn extra(&self, word: [u8; 4]) -> Option<usize>;
    /// The text to send before closing.
    fn answer(&self, word: [u8; 4], extra: &[u8], peer: SocketAddr, port: &ClientPort) -> Vec<u8>;
}

/// The open connections of the client port.
pub struct ClientPort {
    /// State, settings, counters.
    pub shared: Arc<Shared>,
    /// Where requests go.
    pub mailbox: Arc<Mailbox<Event>>,
    clock: Clock,
    limits: Limits,
    words: Arc<dyn Words>,
    next_id: AtomicU64,
    connections: Mutex<Connections>,
    /// Answered words whose connections are still open.
    lingering: Semaphore,
    /// Monotonic ms from which a refusal is told again.
    refusals_told_ms: AtomicU64,
}

#[derive(Default)]
struct Connections {
    clients: HashMap<u64, Arc<Client>>,
    per_address: HashMap<IpAddr, usize>,
}

impl std::fmt::Debug for ClientPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientPort").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl ClientPort {
    /// No connections yet.
    pub fn new(
        shared: Arc<Shared>,
        mailbox: Arc<Mailbox<Event>>,
        clock: Clock,
        limits: Limits,
        words: Arc<dyn Words>,
    ) -> Arc<ClientPort> {
        Arc::new(ClientPort {
            shared,
            mailbox,
            clock,
            limits,
            words,
            next_id: AtomicU64::new(1),
            connections: Mutex::default(),
            lingering: Semaphore::new(MAX_LINGERING),
            refusals_told_ms: AtomicU64::new(0),
        })
    }

    /// All open connections, sessionless ones included.
    pub fn clients(&self) -> Vec<Arc<Client>> {
        let mut clients: Vec<_> = self.connections.lock().clients.values().cloned().collect();
        clients.sort_by_key(|client| client.id);
        clients
    }

    /// Number of open connections.
    pub fn len(&self) -> usize {
        self.connections.lock().clients.len()
    }

    /// Accepts connections for ever. Run one per listener, and [`Self::reap_idle`] once.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.clone().accepted(stream, peer),
                Err(error) => {
                    // Descriptors exhausted, most likely: others may be closed meanwhile.
                    tracing::warn!(%error, "cannot accept a client connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn accepted(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let socket = Arc::new(Socket::default());
        let client = Arc::new(Client::new(id, peer, self.clock.mono_ms(), socket.clone()));
        if let Err(limit) = self.register(&client) {
            self.shared.meters.connection_rejected.fetch_add(1, Ordering::Relaxed);
            self.refused(peer.ip(), limit);
            return;
        }
        connection_line!("Accepted socket connection from /{peer}");
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "no TCP_NODELAY");
        }
        if self.limits.keepalive
            && let Err(error) = socket2::SockRef::from(&stream).set_keepalive(true)
        {
            tracing::debug!(%peer, %error, "no TCP keepalive");
        }
        let (read_half, write_half) = stream.into_split();
        socket.writer.lock().half = Some(write_half);
        tokio::spawn(async move {
            let mut task = Task {
                port: &self,
                client: &client,
                socket: &socket,
                read_half,
                input: Vec::new(),
                inputs: Vec::new(),
            };
            let reason = task.run().await;
            // The replica may hold the client for longer; the descriptor goes now.
            drop(task);
            *socket.writer.lock() = Writer::default();
            closed(peer, client.session(), &reason);
            self.unregister(&client);
        });
    }

    /// Tells of a connection that is one too many; some of them, if there are many.
    fn refused(&self, from: IpAddr, limit: usize) {
        let now_ms = self.clock.mono_ms();
        let due_ms = self.refusals_told_ms.load(Ordering::Relaxed);
        if due_ms <= now_ms {
            self.refusals_told_ms.store(now_ms + REFUSALS_TOLD_EVERY_MS, Ordering::Relaxed);
            tracing::warn!("Too many connections from /{from} - max is {limit}");
        } else {
            tracing::debug!("Too many connections from /{from} - max is {limit}");
        }
    }

    /// The error is the limit that is reached.
    fn register(&self, client: &Arc<Client>) -> Result<(), usize> {
        let mut connections = self.connections.lock();
        if 0 < self.limits.total && self.limits.total <= connections.clients.len() {
            return Err(self.limits.total);
        }
        let here = connections.per_address.entry(client.peer.ip()).or_default();
        if 0 < self.limits.per_address && self.limits.per_address <= *here {
            return Err(self.limits.per_address);
        }
        *here += 1;
        connections.clients.insert(client.id, client.clone());
        Ok(())
    }

    /// Forgets a connection, and gives its place to others; at most once.
    fn unregister(&self, client: &Arc<Client>) {
        let mut connections = self.connections.lock();
        if connections.clients.remove(&client.id).is_none() {
            return;
        }
        if let Some(here) = connections.per_address.get_mut(&client.peer.ip()) {
            *here -= 1;
            if *here == 0 {
                connections.per_address.remove(&client.peer.ip());
            }
        }
        drop(connections);
        client.disconnected(&self.shared);
        self.mailbox.push(Event::input(Input::Disconnected(client.clone())));
    }

    /// Closes connections that never made a session, or were not heard for their session's timeout.
    ///
    /// They are looked for on a grid: as in the reference, whose deadlines are rounded up to a multiple
    /// of the time without a session. So one that says nothing lives once to twice that time.
    pub async fn reap_idle(self: Arc<Self>) {
        let grid = Duration::from_millis(self.limits.sessionless_ms).clamp(GRID.0, GRID.1);
        let mut ticks = interval(grid);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            for client in self.idle() {
                client.close();
                client.wake();
            }
        }
    }

    fn idle(&self) -> Vec<Arc<Client>> {
        let now_ms = self.clock.mono_ms();
        let is_idle = |client: &&Arc<Client>| {
            let limit_ms = match client.session() {
                0 => self.limits.sessionless_ms,
                _ => client.timeout_ms().max(0) as u64,
            };
            client.heard_ms().saturating_add(limit_ms) < now_ms
        };
        self.connections.lock().clients.values().filter(is_idle).cloned().collect()
    }

    /// Closes every connection once its output is written (shutdown; sessions survive).
    pub fn close_all(&self) {
        for client in self.clients() {
            client.close();
            client.wake();
        }
    }
}

/// Why a connection ended: the client went away without a word.
const END_OF_INPUT: &str = "closed by the client";

/// Why a connection ended: this side wanted it.
const CLOSED_HERE: &str = "closed by the server";

/// Tells of the end of a connection.
fn closed(peer: SocketAddr, session: SessionId, reason: &str) {
    match reason {
        // A look at the port, as load balancers and probes do, is no news.
        END_OF_INPUT if session == 0 => {}
        END_OF_INPUT => tracing::info!(
            "Unable to read additional data from client, it probably closed the socket: address = \
             /{peer}, session = {session:#x}"
        ),
        WORD_ANSWERED | CLOSED_HERE => {}
        _ => tracing::warn!(
            "Exception causing close of session {session:#x} from client /{peer}: {reason}"
        ),
    }
    match session {
        0 => connection_line!(
            "Closed socket connection for client /{peer} (no session established for client)"
        ),
        _ => connection_line!(
            "Closed socket connection for client /{peer} which had sessionid {session:#x}"
        ),
    }
}

/// Why a connection ended: that was all there was to do.
const WORD_ANSWERED: &str = "four-letter word answered";

/// What the connection's task and the replica share of a socket.
#[derive(Default)]
struct Socket {
    writer: Mutex<Writer>,
    notify: Notify,
}

/// Whoever holds it writes; so output leaves in the order in which it was taken.
#[derive(Default)]
struct Writer {
    /// Nothing before the start and after the end.
    half: Option<OwnedWriteHalf>,
    /// Taken from the client, on its way.
    output: Vec<u8>,
    /// How much of it the socket has taken.
    written: usize,
    /// Close once it is written.
    closing: bool,
}

impl Connection for Socket {
    fn wake(&self) {
        self.notify.notify_one();
    }

    fn write(&self, client: &Client) -> Written {
        // Locked, the task is writing; it may have taken the output before this was added.
        let Some(mut writer) = self.writer.try_lock() else { return Written::NotAll };
        // A slow client or a lost connection is for the task to deal with.
        match writer.write(client) {
            Ok(_) if writer.output.is_empty() => Written::All,
            _ => Written::NotAll,
        }
    }
}

impl Writer {
    /// Writes as much of the client's output as the socket takes; says how many bytes that was.
    fn write(&mut self, client: &Client) -> io::Result<usize> {
        // What an earlier call has left goes first. Whoever left it was heard only once: what has come
        // since goes in the same call.
        let left = self.write_taken()?;
        if !self.output.is_empty() {
            return Ok(left);
        }
        self.closing |= client.take_output(&mut self.output);
        Ok(left + self.write_taken()?)
    }

    fn write_taken(&mut self) -> io::Result<usize> {
        let before = self.written;
        while self.written < self.output.len() {
            let Some(half) = &self.half else { return Err(io::ErrorKind::NotConnected.into()) };
            match half.try_write(&self.output[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(self.written - before);
                }
                Err(error) => return Err(error),
            }
        }
        let bytes = self.written - before;
        self.written = 0;
        self.output.clear();
        if self.output.capacity() > 16 * READ_CHUNK {
            self.output = Vec::new();
        }
        Ok(bytes)
    }
}

/// One connection's task.
struct Task<'a> {
    port: &'a ClientPort,
    client: &'a Arc<Client>,
    socket: &'a Socket,
    read_half: OwnedReadHalf,
    /// Received, not yet consumed.
    input: Vec<u8>,
    /// Requests to the replica; empty between batches, kept for its memory.
    inputs: Vec<Input>,
}

impl Task<'_> {
    /// Serves until the connection ends; says why it did.
    async fn run(&mut self) -> String {
        match self.four_letter_word().await {
            Ok(false) => {}
            Ok(true) => return WORD_ANSWERED.to_owned(),
            Err(reason) => return reason,
        }
        loop {
            let progress = self.client.on_input(
                &self.port.shared,
                &self.input,
                self.port.clock.mono_ms(),
                &mut self.inputs,
            );
            self.input.drain(..progress.consumed);
            if !self.inputs.is_empty() {
                self.port.mailbox.extend(self.inputs.drain(..).map(Event::input));
            }
            if let Some(reason) = progress.close {
                return reason;
            }
            let wrote = match self.write().await {
                Ok(bytes) => bytes > 0,
                Err(reason) => return reason,
            };
            // What was in the way may have been the output that is written now.
            if progress.paused && wrote {
                continue;
            }
            if let Err(reason) = self.wait(progress.paused).await {
                return reason;
            }
        }
    }

    /// Waits for input (unless paused) or a wake-up.
    async fn wait(&mut self, paused: bool) -> Result<(), String> {
        self.input.reserve(READ_CHUNK);
        tokio::select! {
            biased;
            () = self.socket.notify.notified() => Ok(()),
            read = self.read_half.read_buf(&mut self.input), if !paused => match read {
                Ok(0) => Err(END_OF_INPUT.to_owned()),
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    /// Writes all output; says how many bytes that was, or why it was the last. A client that does not
    /// read holds up only itself; once the server wants to close it, it gets [`CLOSE_GRACE`].
    async fn write(&mut self) -> Result<usize, String> {
        let mut deadline: Option<Instant> = None;
        let (mut written, mut woken) = (0, false);
        loop {
            {
                let mut writer = self.socket.writer.lock();
                written += writer.write(self.client).map_err(|error| error.to_string())?;
                if writer.output.is_empty() {
                    if writer.closing {
                        return Err(CLOSED_HERE.to_owned());
                    }
                    break;
                }
            }
            let late = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                ready = self.read_half.as_ref().writable() => {
                    ready.map_err(|error| error.to_string())?;
                }
                () = self.socket.notify.notified(), if deadline.is_none() => {
                    woken = true;
                    if self.client.is_closing() {
                        deadline = Some(Instant::now() + CLOSE_GRACE);
                    }
                },
                () = late => return Err("client does not read; closed".to_owned()),
            }
        }
        if woken {
            // The wake-up was for what has been queued since.
            self.socket.notify.notify_one();
        }
        Ok(written)
    }

    /// Reads the first four bytes; answers if they are a four-letter word.
    async fn four_letter_word(&mut self) -> Result<bool, String> {
        let mut needed = 4;
        loop {
            while self.input.len() < needed {
                self.wait(false).await?;
                if self.client.is_closing() {
                    return Err("no session request in time".to_owned());
                }
            }
            let word = [self.input[0], self.input[1], self.input[2], self.input[3]];
            match self.port.words.extra(word) {
                None => return Ok(false),
                Some(extra) if self.input.len() < 4 + extra => needed = 4 + extra,
                Some(extra) => {
                    let answer = self.port.words.answer(
                        word,
                        &self.input[4..4 + extra],
                        self.client.peer,
                        self.port,
                    );
                    self.answer_and_close(&answer).await;
                    return Ok(true);
                }
            }
        }
    }

    /// Writes the answer to a word. Then the connection no longer counts; it stays only until the
    /// client has read, since unread input at close would reset it and lose the answer.
    async fn answer_and_close(&mut self, answer: &[u8]) {
        let half = self.socket.writer.lock().half.take();
        let mut half = half.expect("nobody else takes it");
        let write = async {
            half.write_all(answer).await?;
            half.shutdown().await
        };
        let written = timeout(CLOSE_GRACE, write).await;
        self.port.unregister(self.client);
        if matches!(written, Ok(Ok(())))
            && let Ok(_lingering) = self.port.lingering.try_acquire()
        {
            let mut rest = [0; 512];
            let drain =
                async { while self.read_half.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
            let _ = timeout(CLOSE_GRACE, drain).await;
        }
    }
}

#[cfg(test)]
mod writer_tests;
