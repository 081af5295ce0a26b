//! One client connection: handshake, the order of its requests, and its output.
//!
//! The connection task calls [`Client::on_input`] with the bytes it has; the replica answers through
//! [`Client::establish`], [`Client::complete`] and [`Client::notify`]. Both sides append to one output
//! buffer, which the task takes with [`Client::take_output`] and writes with one call.
//!
//! A request that cannot be answered at once (a write, a sync, or a read behind one) waits in
//! `pending`; the front of that queue is always a write or sync in flight. When it completes, the
//! reads behind it are answered at that very point of the history, before anything later is applied.
//! Source: `docs/spec/client-protocol.md` 2, 3.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use oxkeeper_proto::client::{
    AuthRequest, ConnectRequest, ConnectResponse, EventKind, Id, ReplyHeader, RequestHeader,
    XID_NOTIFICATION, XID_PING, put_frame, put_notification,
};
use oxkeeper_proto::ids::session_password;
use oxkeeper_proto::jute::put_java_string;
use oxkeeper_proto::{Decode, Encode, ErrorCode, OpCode, Reader, SessionId, Zxid};
use oxkeeper_state::apply::Outcome;
use oxkeeper_state::auth::{AuthFailed, authenticate};
use oxkeeper_state::reply::put_reply;
use oxkeeper_state::serve::{ReadContext, serve};
use oxkeeper_state::watch::WatcherId;
use oxkeeper_state::{State, auth};
use parking_lot::Mutex;

use crate::replica::Input;
use crate::shared::{FrameSizes, Shared};

/// Requests of one connection that may wait for an answer before it is not read any more.
const MAX_PENDING: usize = 4096;
/// Output a client may leave unread before it is not read any more, in bytes.
const OUTPUT_PAUSE: usize = 1 << 20;
/// Output after which a client that does not read is closed when another notification comes.
const OUTPUT_LIMIT: usize = 64 << 20;

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
enum Phase {
    /// The ConnectRequest has not arrived.
    New,
    /// It has; the answer is on its way. Input waits.
    Connecting,
    /// Requests are served.
    Established,
    /// Close once the output is written; input is ignored.
    Closing,
}

#[derive(Debug)]
enum Pending {
    /// In flight through the replica.
    Write { xid: i32, op: i32, large: i64 },
    /// In flight through the replica; its reply echoes the path.
    Sync { xid: i32, body: Box<[u8]> },
    /// Waits for what is before it.
    Read { header: RequestHeader, body: Box<[u8]> },
    /// Decided already; waits for what is before it.
    Failed { xid: i32, code: ErrorCode, close: bool },
    /// An auth reply; waits for what is before it.
    Authed { xid: i32 },
}

impl Pending {
    /// It will not be completed by the replica.
    fn forget(&self, shared: &Shared) {
        if let Pending::Write { large, .. } = self {
            shared.large_bytes.fetch_sub(*large, Ordering::Relaxed);
        }
    }
}

/// What operators see of a connection (`cons`).
#[derive(Clone, Debug, Default)]
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
    /// When the session was established here, monotonic ms.
    pub established_ms: u64,
    /// When the last reply was made, monotonic ms.
    pub last_response_ms: u64,
    /// Latency of the last request in ms.
    pub last_latency_ms: u64,
    /// Smallest, sum and largest latency in ms, and the number of requests.
    pub latency_ms: (u64, u64, u64, u64),
    /// Requests not answered yet.
    pub queued: usize,
}

struct Inner {
    phase: Phase,
    /// Encoded frames on their way out.
    out: Vec<u8>,
    /// How much of `out` the statistics of sizes know of.
    measured: usize,
    pending: VecDeque<(u64, Pending)>,
    ids: Arc<Vec<Id>>,
    /// Since when input has been held back by the request throttle.
    throttled_since_ms: Option<u64>,
    /// A wake-up is due once the current batch is applied.
    woken: bool,
    /// Input is held back until the task runs again.
    paused: bool,
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
    /// Takes the client's output and writes what the socket takes at once. False: the task is needed.
    fn write(&self, client: &Client) -> bool;
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
                phase: Phase::New,
                out: Vec::new(),
                measured: 0,
                pending: VecDeque::new(),
                ids: Arc::new(vec![auth::ip_identity(peer.ip())]),
                throttled_since_ms: None,
                woken: false,
                paused: false,
                read_only_byte: None,
                stats: ClientStats { last_cxid: -1, ..ClientStats::default() },
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
        let inner = self.inner.lock();
        ClientStats { queued: inner.pending.len(), ..inner.stats.clone() }
    }

    /// Starts counting anew (`crst`).
    pub fn reset_stats(&self) {
        let mut inner = self.inner.lock();
        let established_ms = inner.stats.established_ms;
        inner.stats = ClientStats { last_cxid: -1, established_ms, ..ClientStats::default() };
    }

    /// The identities of the connection.
    pub fn identities(&self) -> Arc<Vec<Id>> {
        self.inner.lock().ids.clone()
    }

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
        let mut task =
            Task { client: self, shared, state: &state, now_ms, too_late, inputs, reads: 0 };
        let mut progress = Progress::default();
        while progress.close.is_none() {
            if let Some(paused) = task.must_pause(&mut inner) {
                progress.paused = paused;
                break;
            }
            match next_frame(&buf[progress.consumed..], shared.settings.limits.max_buffer) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    progress.consumed += 4 + frame.len();
                    progress.close = task.frame(&mut inner, frame).err();
                }
                Err(len) => {
                    progress.close = Some(format!(
                        "a message with advertised length of {len} is either malformed or larger \
                         than jute.maxbuffer={}",
                        shared.settings.limits.max_buffer
                    ));
                }
            }
        }
        let meters = &shared.meters;
        meters.readlatency.record_many(0, task.reads);
        if progress.consumed > 0 {
            meters.bytes_received_count.fetch_add(progress.consumed as u64, Ordering::Relaxed);
        }
        inner.measure(shared);
        inner.paused = progress.paused;
        if inner.phase == Phase::Closing {
            progress.consumed = buf.len();
        }
        progress
    }

    /// Moves the output to `into` (which must be empty; its capacity is reused). True: close the
    /// connection once it is written.
    pub fn take_output(&self, into: &mut Vec<u8>) -> bool {
        debug_assert!(into.is_empty());
        let mut inner = self.inner.lock();
        std::mem::swap(&mut inner.out, into);
        inner.measured = 0;
        inner.phase == Phase::Closing
    }

    /// The connection task has ended: what was not answered never will be.
    pub fn disconnected(&self, shared: &Shared) {
        let mut inner = self.inner.lock();
        inner.phase = Phase::Closing;
        shared.add_outstanding(-(inner.pending.len() as i64));
        for (_, request) in inner.pending.drain(..) {
            request.forget(shared);
        }
        inner.discard_output();
        drop(inner);
        shared.watches.lock().unregister(self.id);
    }

    // ---- for the replica

    /// Answers the handshake: the session is (again) served here.
    pub(crate) fn establish(
        &self,
        shared: &Shared,
        session: SessionId,
        timeout_ms: i32,
        now_ms: u64,
    ) {
        let mut inner = self.inner.lock();
        if inner.phase != Phase::Connecting {
            return;
        }
        shared.watches.lock().register(self.id, inner.ids.clone());
        self.session.store(session, Ordering::Relaxed);
        self.timeout_ms.store(timeout_ms, Ordering::Relaxed);
        let response = ConnectResponse {
            timeout_ms,
            session,
            password: session_password(session),
            read_only: inner.read_only_byte.map(|_| false),
        };
        put_frame(&mut inner.out, |out| response.encode(out));
        // Answers to a handshake are not among the sizes, in the reference neither.
        inner.measured = inner.out.len();
        inner.phase = Phase::Established;
        inner.stats.established_ms = now_ms;
        inner.stats.sent += 1;
        shared.stats.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers the handshake: the session has expired, or the password is wrong. Closes.
    pub(crate) fn refuse(&self) {
        let mut inner = self.inner.lock();
        if inner.phase == Phase::Connecting {
            let response = ConnectResponse::refused(inner.read_only_byte.map(|_| false));
            put_frame(&mut inner.out, |out| response.encode(out));
        }
        inner.phase = Phase::Closing;
    }

    /// Closes once the queued output is written.
    pub fn close(&self) {
        self.inner.lock().phase = Phase::Closing;
    }

    /// Is the connection to be closed?
    pub fn is_closing(&self) -> bool {
        self.inner.lock().phase == Phase::Closing
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
        let Some((since_ms, Pending::Write { xid: waiting, op, large })) = inner.pending.front()
        else {
            return;
        };
        if *waiting != xid {
            return;
        }
        let moved = match outcome {
            Outcome::Failed(code) => *code == ErrorCode::SessionMoved.code(),
            Outcome::MultiFailed(codes) => codes.contains(&ErrorCode::SessionMoved.code()),
            _ => false,
        };
        if moved {
            inner.phase = Phase::Closing;
            return;
        }
        let (since_ms, op) = (*since_ms, *op);
        shared.large_bytes.fetch_sub(*large, Ordering::Relaxed);
        shared.meters.updatelatency.record(now_ms.saturating_sub(since_ms));
        inner.pending.pop_front();
        put_reply(&mut inner.out, xid, state.last_zxid(), op, outcome);
        inner.answered(shared, state.last_zxid(), since_ms, now_ms);
        if op == OpCode::CloseSession.code() {
            inner.phase = Phase::Closing;
        }
        self.drain(&mut inner, shared, state, now_ms);
    }

    /// The oldest sync is done: answers it and the reads behind it.
    pub(crate) fn complete_sync(&self, shared: &Shared, state: &State, now_ms: u64) {
        let mut inner = self.inner.lock();
        if !matches!(inner.pending.front(), Some((_, Pending::Sync { .. }))) {
            return;
        }
        let Some((since_ms, Pending::Sync { xid, body })) = inner.pending.pop_front() else {
            return;
        };
        put_frame(&mut inner.out, |out| {
            ReplyHeader { xid, zxid: state.last_zxid().0, err: 0 }.encode(out);
            out.extend_from_slice(&body);
        });
        inner.answered(shared, state.last_zxid(), since_ms, now_ms);
        self.drain(&mut inner, shared, state, now_ms);
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
        let waiting = inner.pending.iter_mut().find(
            |(_, pending)| matches!(pending, Pending::Write { xid: waiting, .. } if *waiting == xid),
        );
        if let Some((_, pending)) = waiting {
            pending.forget(shared);
            *pending = Pending::Failed { xid, code, close: false };
        }
        self.drain(&mut inner, shared, state, now_ms);
    }

    /// Queues a notification. False if the client has left too much unread: it is closed.
    pub(crate) fn notify(&self, shared: &Shared, zxid: Zxid, kind: EventKind, path: &str) {
        let mut inner = self.inner.lock();
        // Nothing follows the reply that ends a connection, or its being replaced by another one.
        if inner.phase == Phase::Closing {
            return;
        }
        if inner.out.len() > OUTPUT_LIMIT {
            inner.phase = Phase::Closing;
            inner.discard_output();
            return;
        }
        put_notification(&mut inner.out, zxid, kind, path);
        inner.measure(shared);
        inner.stats.sent += 1;
        shared.stats.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// True if this call is the first since the last [`Self::wake`]: the caller must wake it.
    pub(crate) fn needs_wake(&self) -> bool {
        !std::mem::replace(&mut self.inner.lock().woken, true)
    }

    /// Makes the connection task look at its output.
    pub fn wake(&self) {
        self.inner.lock().woken = false;
        self.connection.wake();
    }

    /// As [`Self::wake`], but writes the output at once and wakes the task only if more is to do: it
    /// costs the caller a system call, and spares the client the time until the task runs.
    pub fn write(&self) {
        let done = self.connection.write(self);
        let mut inner = self.inner.lock();
        inner.woken = false;
        // Looked at after the output was taken: the task may have paused for the very output that is
        // written now, and then nobody else would wake it.
        let held_back = inner.paused || inner.phase == Phase::Closing;
        drop(inner);
        if held_back || !done {
            self.connection.wake();
        }
    }

    /// Answers everything at the front of the queue that is not in flight.
    fn drain(&self, inner: &mut Inner, shared: &Shared, state: &State, now_ms: u64) {
        while let Some((_, front)) = inner.pending.front() {
            if matches!(front, Pending::Write { .. } | Pending::Sync { .. }) {
                break;
            }
            let Some((since_ms, front)) = inner.pending.pop_front() else { break };
            if matches!(front, Pending::Read { .. }) {
                shared.meters.readlatency.record(now_ms.saturating_sub(since_ms));
            }
            inner.answer(self, shared, state, front);
            inner.answered(shared, state.last_zxid(), since_ms, now_ms);
        }
        inner.measure(shared);
    }
}

impl Inner {
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
                self.put_header(ReplyHeader { xid, zxid, err: code.code() });
                if close {
                    self.phase = Phase::Closing;
                }
            }
            Pending::Authed { xid } => self.put_header(ReplyHeader { xid, zxid: 0, err: 0 }),
            Pending::Write { .. } | Pending::Sync { .. } => {
                unreachable!("a request in flight is answered by the replica")
            }
        }
    }

    fn put_header(&mut self, header: ReplyHeader) {
        put_frame(&mut self.out, |out| header.encode(out));
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
        serve(state, &shared.watches, header, body, &context, &mut self.out);
    }

    fn discard_output(&mut self) {
        self.out = Vec::new();
        self.measured = 0;
    }

    /// Tells the statistics of the frames that were appended since the last time: once per batch.
    fn measure(&mut self, shared: &Shared) {
        let mut new = &self.out[self.measured..];
        let mut sizes = FrameSizes::default();
        while let Some((len, behind)) = new.split_first_chunk::<4>() {
            let (frame, behind) = behind.split_at(u32::from_be_bytes(*len) as usize);
            sizes.add(frame.len(), frame.starts_with(&XID_NOTIFICATION.to_be_bytes()));
            new = behind;
        }
        if sizes.replies() > 0 {
            shared.meters.response_bytes.fetch_add(sizes.replies(), Ordering::Relaxed);
        }
        shared.stats.responses(&sizes);
        self.measured = self.out.len();
    }

    fn answered(&mut self, shared: &Shared, zxid: Zxid, since_ms: u64, now_ms: u64) {
        let latency_ms = now_ms.saturating_sub(since_ms);
        shared.add_outstanding(-1);
        shared.stats.sent.fetch_add(1, Ordering::Relaxed);
        shared.stats.answered(latency_ms);
        let stats = &mut self.stats;
        stats.sent += 1;
        stats.last_zxid = zxid.0;
        stats.last_response_ms = now_ms;
        stats.last_latency_ms = latency_ms;
        let (min, sum, max, count) = stats.latency_ms;
        let min = if count == 0 { latency_ms } else { min.min(latency_ms) };
        stats.latency_ms = (min, sum + latency_ms, max.max(latency_ms), count + 1);
    }
}

/// One call of [`Client::on_input`].
struct Task<'a> {
    client: &'a Arc<Client>,
    shared: &'a Shared,
    state: &'a State,
    now_ms: u64,
    /// What is in the buffer has waited longer than `throttled_op_wait_time`.
    too_late: bool,
    inputs: &'a mut Vec<Input>,
    /// Reads answered on the spot.
    reads: u64,
}

impl Task<'_> {
    /// `Some(true)`: wait for a wake-up before taking another frame. `Some(false)`: never take one.
    fn must_pause(&self, inner: &mut Inner) -> Option<bool> {
        let limits = &self.shared.settings.limits;
        let outstanding = self.shared.outstanding();
        match inner.phase {
            Phase::Connecting => Some(true),
            Phase::Closing => Some(false),
            _ if inner.pending.is_empty() => (inner.out.len() > OUTPUT_PAUSE).then_some(true),
            // Each connection can always have one request in flight.
            _ => {
                let throttled =
                    limits.throttle_max_requests > 0 && outstanding >= limits.throttle_max_requests;
                if throttled {
                    count(&self.shared.meters.request_throttle_wait_count);
                    inner.throttled_since_ms.get_or_insert(self.now_ms);
                }
                let full = inner.pending.len() >= MAX_PENDING
                    || outstanding > limits.global_outstanding
                    || inner.out.len() > OUTPUT_PAUSE;
                (throttled || full).then_some(true)
            }
        }
    }

    /// Handles one frame. `Err`: close at once, why.
    fn frame(&mut self, inner: &mut Inner, frame: &[u8]) -> Result<(), String> {
        self.shared.stats.received.fetch_add(1, Ordering::Relaxed);
        inner.stats.received += 1;
        if inner.phase == Phase::New {
            return self.connect(inner, frame);
        }
        let mut reader = Reader::new(frame);
        let header = RequestHeader::decode(&mut reader)
            .map_err(|error| format!("request header: {error}"))?;
        self.request(inner, header, reader.rest())
    }

    fn connect(&mut self, inner: &mut Inner, frame: &[u8]) -> Result<(), String> {
        let meters = &self.shared.meters;
        if !self.shared.serving() {
            count(&meters.cnxn_closed_without_zk_server_running);
            return Err("not serving (no quorum, or starting)".to_owned());
        }
        let request = ConnectRequest::from_bytes(frame)
            .map_err(|error| format!("connect request: {error}"))?;
        count(&meters.connection_request_count);
        if request.session != 0 {
            count(&meters.connection_revalidate_count);
        }
        let settings = &self.shared.settings;
        let (fresh, renewed) = settings.limits.connection_weight;
        let weight = match (settings.limits.connection_weights, request.session) {
            (false, _) => 1,
            (true, 0) => fresh,
            (true, _) => renewed,
        };
        if !self.shared.connection_throttle.lock().take(self.now_ms, weight) {
            count(&meters.connection_drop_count);
            return Err("connection throttle: no token left".to_owned());
        }
        let last_zxid = self.state.last_zxid();
        if request.last_zxid_seen > last_zxid.0 {
            return Err(format!(
                "client has seen zxid {:#x}, this server only {last_zxid}; it must try another one",
                request.last_zxid_seen
            ));
        }
        let timeout_ms = request
            .timeout_ms
            .clamp(settings.min_session_timeout_ms, settings.max_session_timeout_ms);
        inner.read_only_byte = request.read_only;
        inner.phase = Phase::Connecting;
        self.client.heard_ms.store(self.now_ms, Ordering::Relaxed);
        self.inputs.push(Input::Connect {
            client: self.client.clone(),
            session: request.session,
            password: request.password.and_then(|bytes| bytes.try_into().ok()),
            timeout_ms,
        });
        Ok(())
    }

    fn request(
        &mut self,
        inner: &mut Inner,
        header: RequestHeader,
        body: &[u8],
    ) -> Result<(), String> {
        let Some(op) = OpCode::from_code(header.op) else {
            self.unknown(inner, header);
            return Ok(());
        };
        if !matches!(op, OpCode::Auth | OpCode::Sasl) {
            self.client.heard_ms.store(self.now_ms, Ordering::Relaxed);
            inner.stats.last_op = header.op;
            inner.stats.last_cxid = header.xid;
        }
        if !matches!(op, OpCode::Auth | OpCode::Sasl)
            && !self.shared.settings.auth.enforcement_met(&inner.ids)
        {
            let code = ErrorCode::SessionClosedRequireAuth;
            self.decided(inner, Pending::Failed { xid: header.xid, code, close: true });
            return Ok(());
        }
        let always = [OpCode::Ping, OpCode::CloseSession, OpCode::Auth, OpCode::Sasl];
        if self.too_late && !always.contains(&op) {
            count(&self.shared.meters.throttled_ops);
            let code = ErrorCode::ThrottledOp;
            self.decided(inner, Pending::Failed { xid: header.xid, code, close: false });
            return Ok(());
        }
        match op {
            OpCode::Auth => return self.auth(inner, header, body),
            OpCode::Sasl => {
                let token = Reader::new(body).buffer().map_err(|error| format!("sasl: {error}"))?;
                token.ok_or("sasl: the token is null")?;
                // No SASL configured: the exchange ends with a null token, and nothing is gained.
                put_frame(&mut inner.out, |out| {
                    ReplyHeader { xid: header.xid, zxid: 0, err: 0 }.encode(out);
                    None::<&[u8]>.encode(out);
                });
            }
            OpCode::Ping
            | OpCode::Exists
            | OpCode::GetData
            | OpCode::GetAcl
            | OpCode::GetChildren
            | OpCode::GetChildren2
            | OpCode::MultiRead
            | OpCode::SetWatches
            | OpCode::SetWatches2
            | OpCode::AddWatch
            | OpCode::CheckWatches
            | OpCode::RemoveWatches
            | OpCode::GetEphemerals
            | OpCode::GetAllChildrenNumber
            | OpCode::WhoAmI => {
                let xid = if op == OpCode::Ping { XID_PING } else { header.xid };
                self.read(inner, RequestHeader { xid, ..header }, body);
            }
            OpCode::Sync => self.sync(inner, header, body),
            OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Multi
            | OpCode::Reconfig
            | OpCode::CloseSession => return self.write(inner, header, body),
            // Internal operations, and a check outside a multi.
            OpCode::Check | OpCode::DeleteContainer | OpCode::CreateSession | OpCode::Error => {
                self.unknown(inner, header);
            }
        }
        Ok(())
    }

    fn read(&mut self, inner: &mut Inner, header: RequestHeader, body: &[u8]) {
        self.shared.add_outstanding(1);
        if inner.pending.is_empty() {
            self.reads += 1;
            inner.read(self.client, self.shared, self.state, header, body);
            inner.answered(self.shared, self.state.last_zxid(), self.now_ms, self.now_ms);
        } else {
            inner.pending.push_back((self.now_ms, Pending::Read { header, body: body.into() }));
        }
    }

    /// Queues a reply that is decided already, behind whatever is in flight.
    fn decided(&mut self, inner: &mut Inner, reply: Pending) {
        self.shared.add_outstanding(1);
        inner.pending.push_back((self.now_ms, reply));
        self.client.drain(inner, self.shared, self.state, self.now_ms);
    }

    fn unknown(&mut self, inner: &mut Inner, header: RequestHeader) {
        let code = ErrorCode::Unimplemented;
        self.decided(inner, Pending::Failed { xid: header.xid, code, close: true });
    }

    fn auth(
        &mut self,
        inner: &mut Inner,
        header: RequestHeader,
        body: &[u8],
    ) -> Result<(), String> {
        let xid = header.xid;
        let settings = &self.shared.settings.auth;
        let AuthRequest { scheme, auth, .. } =
            AuthRequest::from_bytes(body).map_err(|error| format!("auth: {error}"))?;
        match authenticate(settings, scheme.as_deref(), auth, &inner.ids[0]) {
            Ok(granted) => {
                let ids = Arc::make_mut(&mut inner.ids);
                for id in granted {
                    if !ids.contains(&id) {
                        ids.push(id);
                    }
                }
                self.shared.watches.lock().register(self.client.id, inner.ids.clone());
                self.decided(inner, Pending::Authed { xid });
            }
            Err(AuthFailed::Refused) => {
                let code = ErrorCode::AuthFailed;
                self.decided(inner, Pending::Failed { xid, code, close: true });
            }
            Err(failed @ AuthFailed::OtherEnsemble) => return Err(format!("auth: {failed}")),
        }
        Ok(())
    }

    fn sync(&mut self, inner: &mut Inner, header: RequestHeader, body: &[u8]) {
        let Ok(path) = Reader::new(body).opt_string() else {
            let code = ErrorCode::MarshallingError;
            self.decided(inner, Pending::Failed { xid: header.xid, code, close: false });
            return;
        };
        self.shared.add_outstanding(1);
        // The reply echoes the path, as it was understood.
        let mut echo = Vec::new();
        match path {
            Some(path) => put_java_string(&mut echo, &path),
            None => None::<&[u8]>.encode(&mut echo),
        }
        let sync = Pending::Sync { xid: header.xid, body: echo.into() };
        inner.pending.push_back((self.now_ms, sync));
        self.inputs.push(Input::Sync {
            client: self.client.clone(),
            xid: header.xid,
            body: Bytes::copy_from_slice(body),
        });
    }

    fn write(
        &mut self,
        inner: &mut Inner,
        header: RequestHeader,
        body: &[u8],
    ) -> Result<(), String> {
        let limits = &self.shared.settings.limits;
        let len = body.len() as i64;
        let large =
            if 0 < limits.large_threshold && limits.large_threshold < len { len } else { 0 };
        let in_flight = self.shared.large_bytes.fetch_add(large, Ordering::Relaxed);
        if large > 0 && in_flight + large > limits.large_max_bytes {
            self.shared.large_bytes.fetch_sub(large, Ordering::Relaxed);
            count(&self.shared.meters.large_requests_rejected);
            return Err(format!(
                "a request of {len} bytes would bring the large requests in flight above \
                 largeRequestMaxBytes={}",
                limits.large_max_bytes
            ));
        }
        self.shared.add_outstanding(1);
        let write = Pending::Write { xid: header.xid, op: header.op, large };
        inner.pending.push_back((self.now_ms, write));
        self.inputs.push(Input::Request {
            client: self.client.clone(),
            xid: header.xid,
            op: header.op,
            body: Bytes::copy_from_slice(body),
            ids: inner.ids.clone(),
        });
        Ok(())
    }
}

/// One more.
fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The first whole frame of `buf`, without its length prefix. `Err`: a length that closes the
/// connection.
fn next_frame(buf: &[u8], max_buffer: usize) -> Result<Option<&[u8]>, i32> {
    let Some((prefix, rest)) = buf.split_first_chunk::<4>() else { return Ok(None) };
    let len = i32::from_be_bytes(*prefix);
    match usize::try_from(len) {
        Ok(len) if len <= max_buffer => Ok(rest.get(..len)),
        _ => Err(len),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::shared::Settings;

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

        fn write(&self, client: &Client) -> bool {
            let task = self.client.get().unwrap();
            let progress = task.on_input(&self.shared, &self.input, 0, &mut Vec::new());
            assert_eq!(progress.paused, !self.input.is_empty());
            client.take_output(&mut Vec::new());
            true
        }
    }

    fn wakes_after_a_write(input: Vec<u8>) -> usize {
        let settings = Settings {
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
