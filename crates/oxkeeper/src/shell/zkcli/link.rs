//! One session over one connection at a time, with everything the protocol tells.
//!
//! The shell must know what client libraries hide: null data apart from empty data, when a connect attempt has
//! failed, the zxid of a notification. Source: `docs/spec/client-protocol.md` 1 to 3, 10, 18.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use oxkeeper_proto::client::{
    AuthRequest, ConnectRequest, ConnectResponse, PersistentWatches, ReplyHeader, RequestHeader,
    SetWatchesRequest, WatcherEvent, XID_AUTH, XID_NOTIFICATION, XID_PING, XID_SET_WATCHES,
    put_frame,
};
use oxkeeper_proto::{Decode, Encode, ErrorCode, OpCode, Reader};
use oxkeeper_server::names;

use super::output::Output;
use crate::servers;

/// Pause between two rounds through all servers.
const RETRY: Duration = Duration::from_millis(500);
/// No reply is larger.
const MAX_FRAME: usize = 256 << 20;
/// Answered in place of a reply when the connection is lost (`docs/spec/client-protocol.md` 6).
pub const CONNECTION_LOSS: i32 = -4;
/// Answered when a reply did not come within `zookeeper.request.timeout`.
pub const REQUEST_TIMEOUT: i32 = -122;

/// How a session is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connect string, perhaps with a chroot.
    pub server: String,
    /// Session timeout that is asked for, and limit of a connect round.
    pub timeout: Duration,
    /// Accept a server without a quorum.
    pub read_only: bool,
    /// How long a reply may take; none: as long as the connection lives.
    pub request_timeout: Option<Duration>,
}

/// State of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection now.
    Connecting,
    /// Connected; does the server have a quorum?
    Connected { read_only: bool },
    /// The server refused an identity.
    AuthFailed,
    /// Closed by us, or expired.
    Closed,
}

/// What a watch looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// Data of a znode that exists, once.
    Data,
    /// Creation of a znode that does not, once.
    Exists,
    /// Children, once.
    Children,
    /// All of one znode, until removed.
    Persistent,
    /// All of a subtree, until removed.
    Recursive,
}

struct Inner {
    state: State,
    /// Rounds through all servers that found none.
    failed_rounds: u64,
    /// Is it between two rounds, of which the first has found none?
    resting: bool,
    stream: Option<TcpStream>,
    next_xid: i32,
    pending: HashMap<i32, Sender<Reply>>,
    session: i64,
    password: [u8; 16],
    last_zxid: i64,
    auths: Vec<(String, Vec<u8>)>,
    watches: Vec<(String, WatchKind)>,
}

type Reply = Result<Vec<u8>, i32>;

struct Shared {
    settings: Settings,
    servers: Vec<String>,
    chroot: String,
    output: Arc<Output>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// A session and the thread that keeps it.
pub struct Link {
    shared: Arc<Shared>,
}

impl Link {
    /// Begins to connect. The connect string must name servers.
    pub fn open(settings: Settings, output: Arc<Output>) -> Result<Link, String> {
        let (mut servers, chroot) =
            servers::split(&settings.server).map_err(|failure| failure.what)?;
        shuffle(&mut servers);
        let inner = Inner {
            state: State::Connecting,
            failed_rounds: 0,
            resting: false,
            stream: None,
            next_xid: 1,
            pending: HashMap::new(),
            session: 0,
            password: [0; 16],
            last_zxid: 0,
            auths: Vec::new(),
            watches: Vec::new(),
        };
        let shared = Arc::new(Shared {
            settings,
            servers,
            chroot,
            output,
            inner: Mutex::new(inner),
            changed: Condvar::new(),
        });
        let keeper = shared.clone();
        thread::Builder::new()
            .name("session".to_owned())
            .spawn(move || keeper.keep())
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Link { shared })
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.shared.lock().state
    }

    /// Waits until the first round through all servers has ended, well or not.
    pub fn wait_round(&self) {
        let inner = self.shared.lock();
        drop(self.shared.usable(inner));
    }

    /// Waits until there is a connection; gives up at `end`, or if the session has ended.
    pub fn wait_connected(&self, end: Instant) -> bool {
        let mut inner = self.shared.lock();
        while inner.state == State::Connecting {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        matches!(inner.state, State::Connected { .. })
    }

    /// Sends a request and waits for its reply, whose body or error code it gives. Without a connection it waits
    /// for the next attempt to connect to end.
    pub fn call(&self, op: OpCode, body: &impl Encode) -> Reply {
        let shared = &self.shared;
        let mut inner = shared.usable(shared.lock())?;
        let xid = inner.next_xid;
        inner.next_xid = inner.next_xid.checked_add(1).unwrap_or(1);
        let receiver = inner.send(xid, op, body)?;
        drop(inner);
        match shared.settings.request_timeout {
            None => receiver.recv().map_err(|_| CONNECTION_LOSS)?,
            Some(limit) => receiver.recv_timeout(limit).map_err(|_| REQUEST_TIMEOUT)?,
        }
    }

    /// Proves an identity, now and after every reconnect. A refusal shows as an event, and in the state.
    pub fn authenticate(&self, scheme: &str, auth: &[u8]) -> Result<(), i32> {
        let shared = &self.shared;
        let mut inner = shared.usable(shared.lock())?;
        inner.auths.push((scheme.to_owned(), auth.to_vec()));
        let receiver = inner.send(XID_AUTH, OpCode::Auth, &auth_request(scheme, auth))?;
        drop(inner);
        // The answer changes the state; what the caller does next must see it.
        let _ = receiver.recv_timeout(shared.settings.timeout);
        Ok(())
    }

    /// The path as the server knows it.
    pub fn server_path(&self, path: &str) -> String {
        self.shared.server_path(path)
    }

    /// The path as the user knows it.
    pub fn client_path(&self, path: &str) -> String {
        self.shared.client_path(path)
    }

    /// Remembers a watch that the server has set.
    pub fn add_watch(&self, path: &str, kind: WatchKind) {
        let mut inner = self.shared.lock();
        let watch = (path.to_owned(), kind);
        if !inner.watches.contains(&watch) {
            inner.watches.push(watch);
        }
    }

    /// Forgets watches of these kinds on a path and tells so. Were there any?
    pub fn forget_watches(&self, path: &str, kinds: &[WatchKind]) -> bool {
        let mut inner = self.shared.lock();
        let hit = |watch: &(String, WatchKind)| watch.0 == path && kinds.contains(&watch.1);
        let gone: Vec<_> = inner.watches.iter().filter(|watch| hit(watch)).cloned().collect();
        inner.watches.retain(|watch| !hit(watch));
        let zxid = -1;
        drop(inner);
        for (path, kind) in &gone {
            let name = match kind {
                WatchKind::Data | WatchKind::Exists => "DataWatchRemoved",
                WatchKind::Children => "ChildWatchRemoved",
                WatchKind::Persistent | WatchKind::Recursive => "PersistentWatchRemoved",
            };
            self.shared.output.event("SyncConnected", name, Some(path), zxid);
        }
        !gone.is_empty()
    }

    /// Is there a watch of these kinds on a path?
    pub fn watches(&self, path: &str, kinds: &[WatchKind]) -> bool {
        let inner = self.shared.lock();
        inner.watches.iter().any(|(at, kind)| at == path && kinds.contains(kind))
    }

    /// Ends the session at the server and the connection.
    pub fn close(&self) {
        struct Nothing;
        impl Encode for Nothing {
            fn encode(&self, _: &mut Vec<u8>) {}
        }
        let mut inner = self.shared.lock();
        let connected = matches!(inner.state, State::Connected { .. });
        // The server closes the connection too, which is no loss now.
        inner.state = State::Closed;
        if connected {
            let xid = inner.next_xid;
            if let Ok(receiver) = inner.send(xid, OpCode::CloseSession, &Nothing) {
                drop(inner);
                let _ = receiver.recv_timeout(Duration::from_secs(2));
                inner = self.shared.lock();
            }
        }
        inner.disconnect();
        drop(inner);
        self.shared.changed.notify_all();
    }
}

impl Inner {
    fn send(
        &mut self,
        xid: i32,
        op: OpCode,
        body: &impl Encode,
    ) -> Result<std::sync::mpsc::Receiver<Reply>, i32> {
        let (sender, receiver) = channel();
        self.pending.insert(xid, sender);
        match self.write(xid, op.code(), body) {
            Ok(()) => Ok(receiver),
            Err(_) => {
                self.pending.remove(&xid);
                Err(CONNECTION_LOSS)
            }
        }
    }

    fn write(&mut self, xid: i32, op: i32, body: &impl Encode) -> io::Result<()> {
        let mut frame = Vec::new();
        put_frame(&mut frame, |out| {
            RequestHeader { xid, op }.encode(out);
            body.encode(out);
        });
        match &mut self.stream {
            Some(stream) => stream.write_all(&frame),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn disconnect(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for (_, waiting) in self.pending.drain() {
            let _ = waiting.send(Err(CONNECTION_LOSS));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server_path(&self, path: &str) -> String {
        match (self.chroot.as_str(), path) {
            ("", path) => path.to_owned(),
            (chroot, "/") => chroot.to_owned(),
            (chroot, path) => format!("{chroot}{path}"),
        }
    }

    fn client_path(&self, path: &str) -> String {
        match path.strip_prefix(self.chroot.as_str()) {
            Some("") => "/".to_owned(),
            Some(rest) if rest.starts_with('/') => rest.to_owned(),
            _ => path.to_owned(),
        }
    }

    /// Waits for a connection; an attempt that fails meanwhile, or has just failed, ends the wait.
    fn usable<'a>(&self, mut inner: MutexGuard<'a, Inner>) -> Result<MutexGuard<'a, Inner>, i32> {
        let resting = inner.resting;
        let rounds = inner.failed_rounds - u64::from(resting);
        loop {
            match inner.state {
                State::Connected { .. } => return Ok(inner),
                State::AuthFailed => return Err(ErrorCode::AuthFailed.code()),
                State::Closed => return Err(ErrorCode::SessionExpired.code()),
                State::Connecting if inner.failed_rounds > rounds => return Err(CONNECTION_LOSS),
                State::Connecting => {}
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Connects, serves the connection, and again, until the session has ended.
    fn keep(&self) {
        loop {
            if let Some(stream) = self.round() {
                self.serve(stream);
            }
            if !matches!(self.lock().state, State::Connecting | State::Connected { .. }) {
                return;
            }
            thread::sleep(RETRY);
            self.lock().resting = false;
        }
    }

    /// Tries every address of every server once.
    fn round(&self) -> Option<TcpStream> {
        let mut addresses = Vec::new();
        for server in &self.servers {
            let Some(name) = names::parse_host_port(server) else { continue };
            let mut found = names::resolve_blocking(&name).unwrap_or_default();
            // Servers listen on IPv4 more often than not, and localhost names both.
            found.sort_by_key(SocketAddr::is_ipv6);
            addresses.extend(found);
        }
        let share = self.settings.timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        for address in addresses {
            if self.lock().state != State::Connecting {
                return None;
            }
            match self.attempt(address, share.max(Duration::from_millis(1))) {
                Ok(Some(stream)) => return Some(stream),
                Ok(None) => return None,
                Err(_) => {}
            }
        }
        let mut inner = self.lock();
        inner.failed_rounds += 1;
        inner.resting = true;
        inner.disconnect();
        drop(inner);
        self.changed.notify_all();
        None
    }

    /// Connects and opens or resumes the session; `None` if the session has expired.
    fn attempt(&self, address: SocketAddr, limit: Duration) -> io::Result<Option<TcpStream>> {
        let end = Instant::now() + limit;
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        let (session, password, last_zxid_seen) = {
            let inner = self.lock();
            (inner.session, inner.password, inner.last_zxid)
        };
        let timeout_ms = i32::try_from(self.settings.timeout.as_millis()).unwrap_or(i32::MAX);
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen,
            timeout_ms,
            session,
            password: Some(&password),
            read_only: Some(self.settings.read_only),
        };
        let mut frame = Vec::new();
        put_frame(&mut frame, |out| request.encode(out));
        stream.write_all(&frame)?;
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut body = vec![0; frame_length(length)?.min(1 << 10)];
        stream.read_exact(&mut body)?;
        let response = ConnectResponse::from_bytes(&body)
            .map_err(|error| crate::wire::bad_reply(error.to_string()))?;
        if response.timeout_ms <= 0 {
            self.end(State::Closed, "Expired");
            return Ok(None);
        }
        let timeout = Duration::from_millis(response.timeout_ms as u64);
        stream.set_read_timeout(Some(timeout / 3))?;
        self.connected(stream.try_clone()?, &response)?;
        Ok(Some(stream))
    }

    fn connected(&self, stream: TcpStream, response: &ConnectResponse) -> io::Result<()> {
        let read_only = response.read_only == Some(true);
        let mut inner = self.lock();
        if inner.state != State::Connecting {
            return Err(io::ErrorKind::NotConnected.into());
        }
        inner.stream = Some(stream);
        inner.session = response.session;
        inner.password = response.password;
        for (scheme, auth) in inner.auths.clone() {
            inner.write(XID_AUTH, OpCode::Auth.code(), &auth_request(&scheme, &auth))?;
        }
        self.renew_watches(&mut inner)?;
        drop(inner);
        // Shown before any request can be sent, so before whatever a command prints.
        let state = if read_only { "ConnectedReadOnly" } else { "SyncConnected" };
        self.output.event(state, "None", None, -1);
        let mut inner = self.lock();
        if inner.state == State::Connecting {
            inner.state = State::Connected { read_only };
        }
        drop(inner);
        self.changed.notify_all();
        Ok(())
    }

    fn renew_watches(&self, inner: &mut Inner) -> io::Result<()> {
        struct Both<'a>(SetWatchesRequest<'a>, PersistentWatches<'a>);
        impl Encode for Both<'_> {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
                self.1.encode(out);
            }
        }
        if inner.watches.is_empty() {
            return Ok(());
        }
        let of = |wanted: WatchKind| {
            let paths = inner.watches.iter().filter(|(_, kind)| *kind == wanted);
            paths.map(|(path, _)| self.server_path(path).into()).collect()
        };
        let once = SetWatchesRequest {
            relative_zxid: inner.last_zxid,
            data: of(WatchKind::Data),
            exist: of(WatchKind::Exists),
            child: of(WatchKind::Children),
        };
        let lasting = PersistentWatches {
            persistent: of(WatchKind::Persistent),
            recursive: of(WatchKind::Recursive),
        };
        let body = Both(once, lasting);
        let mut frame = Vec::new();
        put_frame(&mut frame, |out| {
            RequestHeader { xid: XID_SET_WATCHES, op: OpCode::SetWatches2.code() }.encode(out);
            body.encode(out);
        });
        match &mut inner.stream {
            Some(stream) => stream.write_all(&frame),
            None => Ok(()),
        }
    }

    /// Reads what comes until the connection ends.
    fn serve(&self, mut stream: TcpStream) {
        let _ = self.read(&mut stream);
        let mut inner = self.lock();
        inner.disconnect();
        let lost = matches!(inner.state, State::Connected { .. });
        if lost {
            inner.state = State::Connecting;
        }
        drop(inner);
        if lost {
            self.output.event("Disconnected", "None", None, -1);
        }
        self.changed.notify_all();
    }

    fn read(&self, stream: &mut TcpStream) -> io::Result<()> {
        let third = stream.read_timeout()?.unwrap_or(self.settings.timeout / 3);
        let (mut heard, mut pinged) = (Instant::now(), Instant::now());
        let mut input: Vec<u8> = Vec::new();
        let mut block = vec![0; 64 << 10];
        loop {
            match stream.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(n) => {
                    heard = Instant::now();
                    input.extend_from_slice(&block[..n]);
                }
                Err(error) if is_timeout(&error) => {
                    if heard.elapsed() >= third * 2 {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
            let mut at = 0;
            while let Some(prefix) = input[at..].first_chunk::<4>() {
                let length = frame_length(*prefix)?;
                let Some(frame) = input.get(at + 4..at + 4 + length) else { break };
                self.frame(frame)?;
                at += 4 + length;
            }
            input.drain(..at);
            if pinged.elapsed() >= third {
                pinged = Instant::now();
                let mut ping = Vec::new();
                put_frame(&mut ping, |out| {
                    RequestHeader { xid: XID_PING, op: OpCode::Ping.code() }.encode(out);
                });
                if let Some(stream) = &mut self.lock().stream {
                    stream.write_all(&ping)?;
                }
            }
        }
    }

    fn frame(&self, frame: &[u8]) -> io::Result<()> {
        let (header, body) = crate::wire::reply(frame)?;
        match header.xid {
            XID_NOTIFICATION => self.notification(header.zxid, body),
            XID_PING | XID_SET_WATCHES => Ok(()),
            XID_AUTH => {
                if header.err != 0 {
                    self.end(State::AuthFailed, "AuthFailed");
                }
                self.answer(&header, &[]);
                Ok(())
            }
            _ => {
                self.answer(&header, body);
                Ok(())
            }
        }
    }

    fn answer(&self, header: &ReplyHeader, body: &[u8]) {
        let mut inner = self.lock();
        inner.last_zxid = inner.last_zxid.max(header.zxid);
        if let Some(waiting) = inner.pending.remove(&header.xid) {
            let reply = if header.err == 0 { Ok(body.to_vec()) } else { Err(header.err) };
            let _ = waiting.send(reply);
        }
    }

    fn notification(&self, zxid: i64, body: &[u8]) -> io::Result<()> {
        let event = WatcherEvent::decode(&mut Reader::new(body))
            .map_err(|error| crate::wire::bad_reply(error.to_string()))?;
        let path = self.client_path(&event.path);
        let (name, gone): (_, &[WatchKind]) = match event.kind {
            1 => ("NodeCreated", &[WatchKind::Data, WatchKind::Exists]),
            2 => ("NodeDeleted", &[WatchKind::Data, WatchKind::Exists, WatchKind::Children]),
            3 => ("NodeDataChanged", &[WatchKind::Data, WatchKind::Exists]),
            4 => ("NodeChildrenChanged", &[WatchKind::Children]),
            _ => return Ok(()),
        };
        self.lock().watches.retain(|(at, kind)| *at != path || !gone.contains(kind));
        self.output.event("SyncConnected", name, Some(&path), zxid);
        Ok(())
    }

    fn end(&self, state: State, shown: &str) {
        self.output.event(shown, "None", None, -1);
        let mut inner = self.lock();
        inner.state = state;
        drop(inner);
        self.changed.notify_all();
    }
}

fn auth_request<'a>(scheme: &'a str, auth: &'a [u8]) -> AuthRequest<'a> {
    AuthRequest { kind: 0, scheme: Some(scheme.into()), auth: Some(auth) }
}

fn frame_length(prefix: [u8; 4]) -> io::Result<usize> {
    let length = i32::from_be_bytes(prefix);
    usize::try_from(length)
        .ok()
        .filter(|length| *length <= MAX_FRAME)
        .ok_or_else(|| crate::wire::bad_reply(format!("a frame claims a length of {length} bytes")))
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Clients spread over the servers by chance. The seed of the standard hash tables is random.
fn shuffle(servers: &mut [String]) {
    use std::hash::BuildHasher;
    let state = std::collections::hash_map::RandomState::new();
    for at in (1..servers.len()).rev() {
        servers.swap(at, (state.hash_one(at) % (at as u64 + 1)) as usize);
    }
}
