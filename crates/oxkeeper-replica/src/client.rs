//! One client connection: handshake, the order of its requests, and its output.
//!
//! The connection task calls [`Client::on_input`] with the bytes it has; the replica answers through
//! `establish`, `complete`, `complete_sync`, `fail` and `notify`. Both sides append to one output, which
//! the task, or whoever replies in its stead ([`wake`]), takes with [`Client::take_output`] and writes
//! with one call.
//!
//! A request that cannot be answered at once (a write, a sync, or a read behind one) waits in a queue,
//! whose front is always a write or sync in flight. When that completes, the reads behind it are
//! answered at that very point of the history, before anything later is applied.
//! Source: `docs/spec/client-protocol.md` 2, 3.

mod output;
mod queue;
mod request;
pub mod statistics;
pub mod wake;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};

use oxkeeper_proto::client::{ConnectResponse, EventKind, Id, ReplyHeader, RequestHeader};
use oxkeeper_proto::ids::session_password;
use oxkeeper_proto::{ErrorCode, OpCode, SessionId, Zxid};
use oxkeeper_state::apply::Outcome;
use oxkeeper_state::reply::put_reply;
use oxkeeper_state::serve::{ReadContext, serve};
use oxkeeper_state::watch::WatcherId;
use oxkeeper_state::{State, auth};
use parking_lot::Mutex;

use crate::replica::Input;
use crate::shared::Shared;
use output::Outgoing;
use queue::{Pending, RequestQueue, Waiting};
use request::Batch;
use statistics::ClientStats;
use wake::{Wake, Written};

/// What [`Client::on_input`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// Do not read more until woken: a handshake, throttle or slow output is in the way.
    pub paused: bool,
    /// Close at once, in plain words why. Output already queued is not sent.
    pub close: Option<String>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionPhase {
    /// The ConnectRequest has not arrived.
    New,
    /// It has; the answer is on its way. Input waits.
    Connecting,
    /// Requests are served.
    Established,
    /// Close once the output is written; input is ignored.
    Closing,
}

struct Inner {
    phase: ConnectionPhase,
    out: Outgoing,
    pending: RequestQueue,
    ids: Arc<Vec<Id>>,
    /// Since when input has been held back by the request throttle.
    throttled_since_ms: Option<u64>,
    wake: Wake,
    read_only_byte: Option<bool>,
    stats: ClientStats,
}

/// One client connection, shared by its task and the replica.
pub struct Client {
    /// Identifies the connection, also as the owner of watches. Never reused within a process.
    pub id: WatcherId,
    /// The other end.
    pub peer: SocketAddr,
    heard_ms: AtomicU64,
    session: AtomicI64,
    timeout_ms: AtomicI32,
    inner: Mutex<Inner>,
    connection: Arc<dyn Connection>,
}

/// How a [`Client`] reaches its socket. Nothing here may block.
pub trait Connection: Send + Sync {
    /// Makes the connection's task call [`Client::take_output`] and go on with its input.
    fn wake(&self);
    /// Takes the client's output and writes what the socket takes at once.
    fn write(&self, client: &Client) -> Written;
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {} of {} session {:#x}", self.id, self.peer, self.session())
    }
}

impl Client {
    /// A connection just accepted.
    pub fn new(
        id: WatcherId,
        peer: SocketAddr,
        now_ms: u64,
        connection: Arc<dyn Connection>,
    ) -> Client {
        Client {
            id,
            peer,
            heard_ms: AtomicU64::new(now_ms),
            session: AtomicI64::new(0),
            timeout_ms: AtomicI32::new(0),
            inner: Mutex::new(Inner {
                phase: ConnectionPhase::New,
                out: Outgoing::default(),
                pending: RequestQueue::default(),
                ids: Arc::new(vec![auth::ip_identity(peer.ip())]),
                throttled_since_ms: None,
                wake: Wake::default(),
                read_only_byte: None,
                stats: ClientStats::default(),
            }),
            connection,
        }
    }

    /// The session, or 0 before one is established.
    pub fn session(&self) -> SessionId {
        self.session.load(Ordering::Relaxed)
    }

    /// The negotiated timeout in ms.
    pub fn timeout_ms(&self) -> i32 {
        self.timeout_ms.load(Ordering::Relaxed)
    }

    /// When the client was last heard, in monotonic ms.
    pub fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    /// Numbers for operators.
    pub fn stats(&self) -> ClientStats {
        self.inner.lock().stats.clone()
    }

    /// Requests not answered yet.
    pub fn queued(&self) -> usize {
        self.inner.lock().pending.len()
    }

    /// Starts counting anew (`crst`).
    pub fn reset_stats(&self) {
        self.inner.lock().stats.reset();
    }

    /// The identities of the connection.
    pub fn identities(&self) -> Arc<Vec<Id>> {
        self.inner.lock().ids.clone()
    }

    // ---- for the connection's task

    /// Takes whole frames from `buf`; answers what can be answered, and appends the rest to `inputs`
    /// for the replica, in order.
    pub fn on_input(
        self: &Arc<Self>,
        shared: &Shared,
        buf: &[u8],
        now_ms: u64,
        inputs: &mut Vec<Input>,
    ) -> Progress {
        // Lock order: state before client. Held for the whole batch of pipelined requests.
        let state = shared.state.read();
        let mut inner = self.inner.lock();
        let limit_ms = shared.settings.limits.throttled_op_wait_ms;
        let held_ms = inner.throttled_since_ms.take().map_or(0, |since_ms| now_ms - since_ms);
        let too_late = limit_ms > 0 && held_ms > limit_ms;
        let batch =
            Batch { client: self, shared, state: &state, now_ms, too_late, inputs, reads: 0 };
        let progress = batch.take(&mut inner, buf);
        inner.out.measure(shared);
        inner.wake.looked(progress.paused);
        progress
    }

    /// Moves the output to `into` (which must be empty; its capacity is reused). True: close the
    /// connection once it is written.
    pub fn take_output(&self, into: &mut Vec<u8>) -> bool {
        let mut inner = self.inner.lock();
        inner.out.take(into);
        inner.is_closing()
    }

    /// The connection task has ended: what was not answered never will be.
    pub fn disconnected(&self, shared: &Shared) {
        let mut inner = self.inner.lock();
        inner.phase = ConnectionPhase::Closing;
        inner.pending.abandon(shared);
        inner.out.discard();
        drop(inner);
        shared.watches.lock().unregister(self.id);
    }

    // ---- for everybody

    /// Closes once the queued output is written.
    pub fn close(&self) {
        self.inner.lock().phase = ConnectionPhase::Closing;
    }

    /// Is the connection to be closed?
    pub fn is_closing(&self) -> bool {
        self.inner.lock().is_closing()
    }

    /// Makes the connection task look at its output.
    pub fn wake(&self) {
        self.inner.lock().wake.woken();
        self.connection.wake();
    }

    /// As [`Self::wake`], but writes the output at once and wakes the task only if more is to do: it
    /// costs the caller a system call, and spares the client the time until the task runs.
    pub fn write(&self) {
        let written = self.connection.write(self);
        let mut inner = self.inner.lock();
        let closing = inner.is_closing();
        let wake = inner.wake.written(written, closing);
        drop(inner);
        if wake {
            self.connection.wake();
        }
    }

    // ---- for the replica

    /// True: the caller must [wake](Self::wake) it, or [write](Self::write), at the end of its batch.
    pub(crate) fn needs_wake(&self) -> bool {
        self.inner.lock().wake.claim()
    }

    /// Answers the handshake: the session is (again) served here.
    pub(crate) fn establish(
        &self,
        shared: &Shared,
        session: SessionId,
        timeout_ms: i32,
        now_ms: u64,
    ) {
        let mut inner = self.inner.lock();
        if inner.phase != ConnectionPhase::Connecting {
            return;
        }
        shared.watches.lock().register(self.id, inner.ids.clone());
        self.session.store(session, Ordering::Relaxed);
        self.timeout_ms.store(timeout_ms, Ordering::Relaxed);
        let read_only = inner.read_only_byte.map(|_| false);
        let password = session_password(session);
        let response = ConnectResponse { timeout_ms, session, password, read_only };
        inner.out.put_connect_response(&response);
        inner.phase = ConnectionPhase::Established;
        inner.stats.established_ms = now_ms;
        inner.stats.sent += 1;
        shared.stats.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers the handshake: the session has expired, or the password is wrong. Closes.
    pub(crate) fn refuse(&self) {
        let mut inner = self.inner.lock();
        if inner.phase == ConnectionPhase::Connecting {
            let response = ConnectResponse::refused(inner.read_only_byte.map(|_| false));
            inner.out.put_connect_response(&response);
        }
        inner.phase = ConnectionPhase::Closing;
    }

    /// The write `xid` was applied: answers it and the reads behind it. `outcome` `SessionMoved`
    /// closes instead.
    pub(crate) fn complete(
        &self,
        shared: &Shared,
        state: &State,
        xid: i32,
        outcome: &Outcome,
        now_ms: u64,
    ) {
        let mut inner = self.inner.lock();
        if inner.is_closing() {
            return;
        }
        let Some(&Waiting { since_ms, request: Pending::Write { xid: waiting, op, large } }) =
            inner.pending.front()
        else {
            return;
        };
        if waiting != xid {
            return;
        }
        if says_moved(outcome) {
            inner.phase = ConnectionPhase::Closing;
            return;
        }
        shared.large_bytes.fetch_sub(large, Ordering::Relaxed);
        shared.meters.updatelatency.record(now_ms.saturating_sub(since_ms));
        inner.pending.pop();
        put_reply(inner.out.frames(), xid, state.last_zxid(), op, outcome);
        inner.answered(shared, state.last_zxid(), since_ms, now_ms);
        if op == OpCode::CloseSession.code() {
            inner.phase = ConnectionPhase::Closing;
        }
        inner.drain(self, shared, state, now_ms);
    }

    /// The oldest sync is done: answers it and the reads behind it.
    pub(crate) fn complete_sync(&self, shared: &Shared, state: &State, now_ms: u64) {
        let mut inner = self.inner.lock();
        if inner.is_closing() {
            return;
        }
        if !matches!(inner.pending.front(), Some(Waiting { request: Pending::Sync { .. }, .. })) {
            return;
        }
        let Some(Waiting { since_ms, request: Pending::Sync { xid, body } }) = inner.pending.pop()
        else {
            return;
        };
        let header = ReplyHeader { xid, zxid: state.last_zxid().0, err: 0 };
        inner.out.put_reply(header, |out| out.extend_from_slice(&body));
        inner.answered(shared, state.last_zxid(), since_ms, now_ms);
        inner.drain(self, shared, state, now_ms);
    }

    /// The replica refused the write `xid` without a transaction. Answered in its turn.
    pub(crate) fn fail(
        &self,
        shared: &Shared,
        state: &State,
        xid: i32,
        code: ErrorCode,
        now_ms: u64,
    ) {
        let mut inner = self.inner.lock();
        inner.pending.fail(shared, xid, code);
        inner.drain(self, shared, state, now_ms);
    }

    /// Queues a notification. A client that has left too much unread is closed instead.
    pub(crate) fn notify(&self, shared: &Shared, zxid: Zxid, kind: EventKind, path: &str) {
        let mut inner = self.inner.lock();
        // Nothing follows the reply that ends a connection, or its being replaced by another one.
        if inner.is_closing() {
            return;
        }
        if inner.out.is_too_long() {
            inner.phase = ConnectionPhase::Closing;
            inner.out.discard();
            return;
        }
        inner.out.put_notification(zxid, kind, path);
        inner.out.measure(shared);
        inner.stats.sent += 1;
        shared.stats.sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Did the request reach the leader from a server that its session has left?
fn says_moved(outcome: &Outcome) -> bool {
    let moved = ErrorCode::SessionMoved.code();
    match outcome {
        Outcome::Failed(code) => *code == moved,
        Outcome::MultiFailed(codes) => codes.contains(&moved),
        _ => false,
    }
}

impl Inner {
    fn is_closing(&self) -> bool {
        self.phase == ConnectionPhase::Closing
    }

    /// Answers everything at the front of the queue that is not in flight. Nothing follows the reply that
    /// ends a connection.
    fn drain(&mut self, client: &Client, shared: &Shared, state: &State, now_ms: u64) {
        while !self.is_closing()
            && let Some(Waiting { since_ms, request }) = self.pending.pop_decided()
        {
            if matches!(request, Pending::Read { .. }) {
                shared.meters.readlatency.record(now_ms.saturating_sub(since_ms));
            }
            self.answer(client, shared, state, request);
            self.answered(shared, state.last_zxid(), since_ms, now_ms);
        }
        self.out.measure(shared);
    }

    /// Appends the reply to a request that needs nothing from the replica.
    fn answer(&mut self, client: &Client, shared: &Shared, state: &State, request: Pending) {
        match request {
            Pending::Read { header, body } => self.read(client, shared, state, header, &body),
            Pending::Failed { xid, code, close } => {
                // Unknown operations are answered with zxid -1, failed authentication with 0.
                let zxid = match (close, code) {
                    (true, ErrorCode::Unimplemented) => -1,
                    (true, _) => 0,
                    (false, _) => state.last_zxid().0,
                };
                self.out.put_header(ReplyHeader { xid, zxid, err: code.code() });
                if close {
                    self.phase = ConnectionPhase::Closing;
                }
            }
            Pending::Authed { xid } => self.out.put_header(ReplyHeader { xid, zxid: 0, err: 0 }),
            Pending::Write { .. } | Pending::Sync { .. } => {
                unreachable!("a request in flight is answered by the replica")
            }
        }
    }

    fn read(
        &mut self,
        client: &Client,
        shared: &Shared,
        state: &State,
        header: RequestHeader,
        body: &[u8],
    ) {
        let context = ReadContext {
            watcher: client.id,
            session: client.session(),
            ids: &self.ids,
            settings: &shared.settings.auth,
        };
        serve(state, &shared.watches, header, body, &context, self.out.frames());
    }

    fn answered(&mut self, shared: &Shared, zxid: Zxid, since_ms: u64, now_ms: u64) {
        let latency_ms = now_ms.saturating_sub(since_ms);
        shared.add_outstanding(-1);
        shared.stats.sent.fetch_add(1, Ordering::Relaxed);
        shared.stats.answered(latency_ms);
        self.stats.answered(zxid, now_ms, latency_ms);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicUsize;

    use oxkeeper_proto::Encode;
    use oxkeeper_proto::client::{ConnectRequest, put_frame};

    use super::*;
    use crate::shared::ClientPortSettings;

    /// A socket that takes everything. While it does, the task looks at its input, and pauses.
    struct Busy {
        shared: Shared,
        client: OnceLock<Arc<Client>>,
        input: Vec<u8>,
        wakes: AtomicUsize,
    }

    impl Connection for Busy {
        fn wake(&self) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
        }

        fn write(&self, client: &Client) -> Written {
            let task = self.client.get().unwrap();
            let progress = task.on_input(&self.shared, &self.input, 0, &mut Vec::new());
            assert_eq!(progress.paused, !self.input.is_empty());
            client.take_output(&mut Vec::new());
            Written::All
        }
    }

    fn wakes_after_a_write(input: Vec<u8>) -> usize {
        let settings = ClientPortSettings {
            server: 1,
            tick_ms: 2000,
            min_session_timeout_ms: 4000,
            max_session_timeout_ms: 40_000,
            auth: Default::default(),
            limits: Default::default(),
        };
        let busy = Arc::new(Busy {
            shared: Shared::new(State::new(1), settings, 1),
            client: OnceLock::new(),
            input,
            wakes: AtomicUsize::new(0),
        });
        busy.shared.set_serving(true);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let client = Arc::new(Client::new(1, peer, 0, busy.clone()));
        assert!(busy.client.set(client.clone()).is_ok());
        client.write();
        busy.wakes.load(Ordering::Relaxed)
    }

    #[test]
    fn a_task_that_pauses_while_its_output_is_written_is_woken() {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: 0,
            timeout_ms: 10_000,
            session: 0,
            password: Some(&[0; 16]),
            read_only: None,
        };
        let mut connect = Vec::new();
        put_frame(&mut connect, |out| request.encode(out));
        assert_eq!(wakes_after_a_write(connect), 1);
        assert_eq!(wakes_after_a_write(Vec::new()), 0, "nothing is left for the task");
    }
}
