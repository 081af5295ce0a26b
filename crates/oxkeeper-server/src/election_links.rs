//! The election port: one connection per pair of servers, always opened by the larger id.
//!
//! One task owns all peers ([`Actor`]); small tasks read, write, connect and shake hands, and report
//! to it. A peer has one slot for the message to send: the newest wins, and it is sent again on each
//! new connection. Nothing here blocks the caller.
//!
//! A peer without connection is tried again quickly while a message waits for it, so that an
//! ensemble that starts at once finds together at once. A peer whose id is larger is only knocked at:
//! it calls back.
//!
//! A peer may vanish without a word (its machine is gone): connecting is limited by `cnxTimeout`, names
//! included, an inbound introduction by `syncLimit` ticks, and so is the time that bytes may stay
//! unacknowledged on a connection (TCP_USER_TIMEOUT); then it is down, and opened anew on the next
//! message. Whether a peer that says nothing is alive is of no matter here: the election's own
//! timeouts decide.
//!
//! Source: `docs/spec/quorum-protocol.md` 5.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oxkeeper_proto::ensemble::{EnsembleConfig, HostPort};
use oxkeeper_proto::quorum::{InitialMessage, Notification};
use oxkeeper_proto::{Encode, ServerId};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use crate::listen::{BindError, Opening, Patience};
use crate::logging::election;
use crate::names;

mod handshake;
mod link;
#[cfg(test)]
mod tests;

use link::Link;

/// Pause between two attempts to open the election port.
const BIND_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts to reach a peer that a message waits for.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A peer that cannot be reached is told of this often.
const UNREACHABLE_TOLD_EVERY: Duration = Duration::from_secs(10);
/// Inbound connections that have not said who they are; beyond this the oldest is closed. A peer
/// speaks as soon as it has connected, so silent connections cannot keep it out.
const MAX_HANDSHAKES: usize = 64;
/// Servers outside the configuration that may hold a connection at once.
const MAX_STRANGERS: usize = 64;
/// A legacy observer that has no id of its own announces this one.
const NO_ID: ServerId = ServerId::MAX;

/// What the election port needs to know.
#[derive(Clone, Debug)]
pub struct ElectionConfig {
    /// This server.
    pub me: ServerId,
    /// All members, with their election addresses; `me` must be one of them.
    pub ensemble: EnsembleConfig,
    /// Listen on all addresses of this machine instead of the configured one.
    pub listen_on_all: bool,
    /// Announce all election addresses (`multiAddress.enabled`) instead of one.
    pub multi_address: bool,
    /// Limit of one attempt to connect (`cnxTimeout`), name resolution included.
    pub connect_timeout: Duration,
    /// How long an inbound connection may take to say who it is (`syncLimit * tickTime`).
    pub handshake_timeout: Duration,
    /// Attempts to open the port at each of its addresses, one second apart; 0 = forever.
    pub bind_retries: u32,
    /// TCP keepalive (`tcpKeepAlive`).
    pub keepalive: bool,
}

/// What happened on the election port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ElectionEvent {
    /// A server, perhaps a stranger, sent a notification.
    Notified {
        /// The sender.
        from: ServerId,
        /// Its vote.
        notification: Notification,
    },
    /// The connection to a server is up, or down. One that is replaced goes down first.
    Link {
        /// The other end.
        peer: ServerId,
        /// Connected?
        up: bool,
    },
}

/// Why the election port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    /// This server is not in the list of members.
    #[error("My id {0} not in the peer list")]
    NotAMember(ServerId),
    /// The port cannot be opened.
    #[error("{0}")]
    Bind(#[from] BindError),
}

impl ElectionError {
    /// The process's exit code (`docs/spec/operations.md` 9.1).
    pub fn exit_code(&self) -> i32 {
        match self {
            ElectionError::NotAMember(_) => 1,
            ElectionError::Bind(_) => 14,
        }
    }
}

type Events = Arc<dyn Fn(ElectionEvent) + Send + Sync>;

/// Where the members were met: the far ends of their election connections.
type Met = Arc<Mutex<BTreeMap<ServerId, IpAddr>>>;

/// The open election port. Closed by [`ElectionLinks::shutdown`] or when dropped.
pub struct ElectionLinks {
    me: ServerId,
    met: Met,
    mailbox: mpsc::UnboundedSender<Command>,
    events: Events,
}

impl ElectionLinks {
    /// Opens the port. `events` is called from runtime threads and must not block.
    ///
    /// Fails if the port cannot be opened at any of its addresses within the configured number of
    /// attempts.
    pub async fn start(
        config: ElectionConfig,
        events: impl Fn(ElectionEvent) + Send + Sync + 'static,
    ) -> Result<ElectionLinks, ElectionError> {
        let me = config.me;
        let own = config.ensemble.servers.get(&me).ok_or(ElectionError::NotAMember(me))?;
        let addresses: Vec<HostPort> = own.election_addresses().collect();
        let patience =
            Patience { attempts: config.bind_retries, pause: |_| BIND_PAUSE, told: true };
        let mut opening = Opening::start(&addresses, config.listen_on_all, "election", patience);
        let listeners = opening.first().await?;
        let events: Events = Arc::new(events);
        let (mailbox, commands) = mpsc::unbounded_channel();
        let met = Met::default();
        let actor = Actor::new(config, &addresses, events.clone(), mailbox.clone(), met.clone());
        tokio::spawn(actor.run(commands, opening, listeners));
        Ok(ElectionLinks { me, met, mailbox, events })
    }

    /// Puts a notification into the slot of `to`, in place of one not yet sent. Connects if there
    /// is no connection. A message to oneself comes back as an event.
    pub fn send(&self, to: ServerId, notification: Notification) {
        election::sent(self.me, &notification);
        if to == self.me {
            (self.events)(ElectionEvent::Notified { from: to, notification });
            return;
        }
        let payload = notification.to_bytes();
        let mut frame = Vec::with_capacity(4 + payload.len());
        oxkeeper_proto::jute::put_int(&mut frame, payload.len() as i32);
        frame.extend_from_slice(&payload);
        self.tell(Command::Send { to, frame: frame.into() });
    }

    /// The address at the other end of the last election connection with `peer`.
    pub fn met_at(&self, peer: ServerId) -> Option<IpAddr> {
        self.met.lock().get(&peer).copied()
    }

    /// Tries to connect to every member that has no connection.
    pub fn connect_all(&self) {
        self.tell(Command::ConnectAll);
    }

    /// Closes the port and all connections; no events follow, except those already on their way.
    pub fn shutdown(&self) {
        self.tell(Command::Shutdown);
    }

    fn tell(&self, command: Command) {
        // The actor is gone only after a shutdown; then there is nobody left to tell.
        let _ = self.mailbox.send(command);
    }
}

impl Drop for ElectionLinks {
    fn drop(&mut self) {
        self.shutdown();
    }
}

enum Command {
    Send {
        to: ServerId,
        frame: Bytes,
    },
    ConnectAll,
    Accepted {
        stream: TcpStream,
        from: SocketAddr,
    },
    /// An inbound connection has said who it is, or was given up.
    Introduced {
        handshake: u64,
        greeting: Option<handshake::Greeting>,
    },
    /// An outbound attempt ended.
    Attempted {
        peer: ServerId,
        result: io::Result<Outcome>,
    },
    /// A link's reader or writer ended.
    Lost {
        peer: ServerId,
        link_id: u64,
        reason: String,
    },
    Shutdown,
}

/// How an attempt that succeeded ended.
enum Outcome {
    /// The peer's id is smaller: this connection stays.
    Linked(TcpStream),
    /// The peer's id is larger: it was told who we are, and calls back.
    Knocked,
}

/// An attempt to connect, which may still be waiting for its time.
struct Attempt {
    task: AbortHandle,
    begins: Instant,
}

/// Another server, as the actor sees it.
struct Peer {
    /// The last frame for it. Each link's writer watches this.
    slot: watch::Sender<Option<Bytes>>,
    /// Since when a frame has been waiting for a connection.
    waiting: Option<Instant>,
    /// Attempts that failed or only knocked since the last connection or new message.
    failures: u32,
    /// When it was last told that it cannot be reached, since it could be.
    told: Option<Instant>,
    /// Addresses it announced on its last knock.
    announced: Vec<HostPort>,
    link: Option<Link>,
    attempt: Option<Attempt>,
}

impl Peer {
    fn new() -> Peer {
        Peer {
            slot: watch::Sender::new(None),
            waiting: None,
            failures: 0,
            told: None,
            announced: Vec::new(),
            link: None,
            attempt: None,
        }
    }
}

impl Peer {
    /// Tells that an attempt has failed, now and then: while a member is away there are many.
    fn tell_unreachable(&mut self, id: ServerId, ensemble: &EnsembleConfig, error: &io::Error) {
        let configured = ensemble.servers.get(&id).into_iter();
        let addresses = configured.flat_map(|spec| spec.election_addresses());
        let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
        let at = if addresses.is_empty() { "unknown".to_owned() } else { addresses.join("|") };
        let text = format!("Cannot open channel to {id} at election address {at}: {error}");
        if self.told.is_some_and(|told| told.elapsed() < UNREACHABLE_TOLD_EVERY) {
            return debug!("{text}");
        }
        self.told = Some(Instant::now());
        warn!("{text}");
    }
}

/// Pause before the next attempt to a peer for which a message has waited `waited`.
fn retry_pause(waited: Duration, failures: u32, knocked: bool) -> Duration {
    let quick = Duration::from_millis(20 << failures.min(8)).min(Duration::from_millis(100));
    let pause = match waited.as_secs() {
        0..3 => quick,
        3..60 => Duration::from_millis(500),
        _ => LONGEST_PAUSE,
    };
    // Knocking again makes the peer drop the call it is making: give it time.
    if knocked { pause.max(Duration::from_secs(1)) } else { pause }
}

struct Actor {
    config: Arc<ElectionConfig>,
    /// Our initial message, encoded.
    introduction: Bytes,
    events: Events,
    mailbox: mpsc::UnboundedSender<Command>,
    peers: BTreeMap<ServerId, Peer>,
    met: Met,
    handshakes: VecDeque<(u64, AbortHandle)>,
    next_id: u64,
    next_nameless: ServerId,
    tasks: JoinSet<()>,
}

impl Actor {
    fn new(
        config: ElectionConfig,
        own: &[HostPort],
        events: Events,
        mailbox: mpsc::UnboundedSender<Command>,
        met: Met,
    ) -> Actor {
        let (protocol, told) = match config.multi_address {
            true => (InitialMessage::V2, own.len()),
            false => (InitialMessage::V1, 1),
        };
        let told: Vec<_> = own.iter().take(told).map(HostPort::to_string).collect();
        let introduction =
            InitialMessage { protocol, server: config.me, addresses: told.join("|") }.to_bytes();
        Actor {
            config: Arc::new(config),
            introduction: introduction.into(),
            events,
            mailbox,
            peers: BTreeMap::new(),
            met,
            handshakes: VecDeque::new(),
            next_id: 0,
            next_nameless: -1,
            tasks: JoinSet::new(),
        }
    }

    /// Runs until told to shut down; dropping the task set closes everything.
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        opening: Opening,
        listeners: Vec<TcpListener>,
    ) {
        let mailbox = self.mailbox.clone();
        let accept = move |listener| accept(listener, mailbox.clone());
        self.tasks.spawn(opening.serve(listeners, accept));
        loop {
            tokio::select! {
                Some(_ended) = self.tasks.join_next() => {}
                command = commands.recv() => match command {
                    None | Some(Command::Shutdown) => return,
                    Some(command) => self.handle(command),
                },
            }
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Send { to, frame } => self.send(to, frame),
            Command::ConnectAll => {
                let config = self.config.clone();
                let members = config.ensemble.servers.keys().copied();
                for peer in members.filter(|peer| *peer != config.me) {
                    self.attempt_now(peer);
                }
            }
            Command::Accepted { stream, from } => self.greet(stream, from),
            Command::Introduced { handshake, greeting } => {
                self.handshakes.retain(|(id, _)| *id != handshake);
                if let Some(greeting) = greeting {
                    self.introduced(greeting);
                }
            }
            Command::Attempted { peer, result } => self.attempted(peer, result),
            Command::Lost { peer, link_id, reason } => self.lost(peer, link_id, &reason),
            Command::Shutdown => unreachable!("handled by the loop"),
        }
    }

    fn peer(&mut self, id: ServerId) -> &mut Peer {
        self.peers.entry(id).or_insert_with(Peer::new)
    }

    fn send(&mut self, to: ServerId, frame: Bytes) {
        let peer = self.peer(to);
        let news = peer.slot.borrow().as_ref() != Some(&frame);
        peer.slot.send_replace(Some(frame));
        if peer.link.is_some() {
            return;
        }
        if news || peer.waiting.is_none() {
            peer.waiting = Some(Instant::now());
            peer.failures = 0;
        }
        if news || peer.attempt.is_none() {
            self.attempt_now(to);
        }
    }

    /// Starts an attempt unless there is a connection or an attempt is already under way.
    fn attempt_now(&mut self, id: ServerId) {
        let peer = self.peer(id);
        let under_way = |attempt: &Attempt| attempt.begins <= Instant::now();
        if peer.link.is_some() || peer.attempt.as_ref().is_some_and(under_way) {
            return;
        }
        self.attempt_after(id, Duration::ZERO);
    }

    fn attempt_after(&mut self, id: ServerId, pause: Duration) {
        let config = self.config.clone();
        let peer = self.peer(id);
        if let Some(old) = peer.attempt.take() {
            old.task.abort();
        }
        let mut addresses = peer.announced.clone();
        let configured = config.ensemble.servers.get(&id).into_iter();
        for address in configured.flat_map(|spec| spec.election_addresses()) {
            if !names::is_wildcard(&address.host) && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            debug!("server {id} is not in the configuration and has told no address");
            self.forget_stranger(id);
            return;
        }
        let (mailbox, introduction) = (self.mailbox.clone(), self.introduction.clone());
        let begins = Instant::now() + pause;
        let task = self.tasks.spawn(async move {
            sleep(pause).await;
            let result = handshake::call(&config, id, &addresses, &introduction).await;
            let _ = mailbox.send(Command::Attempted { peer: id, result });
        });
        self.peer(id).attempt = Some(Attempt { task, begins });
    }

    fn attempted(&mut self, id: ServerId, result: io::Result<Outcome>) {
        let config = self.config.clone();
        let peer = self.peer(id);
        peer.attempt = None;
        if peer.link.is_some() {
            // It called us in the meantime.
            return;
        }
        let knocked = match result {
            Ok(Outcome::Linked(stream)) => return self.install(id, stream, Vec::new()),
            Ok(Outcome::Knocked) => true,
            Err(error) => {
                peer.tell_unreachable(id, &config.ensemble, &error);
                false
            }
        };
        peer.failures += 1;
        match peer.waiting {
            Some(since) => {
                let pause = retry_pause(since.elapsed(), peer.failures, knocked);
                self.attempt_after(id, pause);
            }
            None => self.forget_stranger(id),
        }
    }

    /// Lets an inbound connection say who it is.
    fn greet(&mut self, stream: TcpStream, from: SocketAddr) {
        if self.handshakes.len() >= MAX_HANDSHAKES
            && let Some((_, oldest)) = self.handshakes.pop_front()
        {
            oldest.abort();
        }
        self.next_id += 1;
        let (id, mailbox, config) = (self.next_id, self.mailbox.clone(), self.config.clone());
        let task = self.tasks.spawn(async move {
            let greeting = handshake::receive(stream, from, &config).await;
            let _ = mailbox.send(Command::Introduced { handshake: id, greeting });
        });
        self.handshakes.push_back((id, task));
    }

    fn introduced(&mut self, greeting: handshake::Greeting) {
        let handshake::Greeting { stream, from, mut peer, announced, rest } = greeting;
        if peer == NO_ID {
            peer = self.next_nameless;
            self.next_nameless -= 1;
        }
        if peer == self.config.me {
            error!(
                "a server at {from} says it is server {peer}, which is this server. Give every \
                 server its own number in its myid file"
            );
            return;
        }
        if !self.admits(peer) {
            warn!("connection of unknown server {peer} at {from} refused: too many strangers");
            return;
        }
        self.peer(peer).announced = announced;
        if peer > self.config.me {
            return self.install(peer, stream, rest);
        }
        // A smaller id asks to be called; the old connection is stale.
        drop(stream);
        self.take_down(peer, "the server asks to be called anew");
        self.attempt_now(peer);
    }

    fn admits(&self, peer: ServerId) -> bool {
        let members = &self.config.ensemble.servers;
        let strangers = self.peers.keys().filter(|id| !members.contains_key(id)).count();
        members.contains_key(&peer) || self.peers.contains_key(&peer) || strangers < MAX_STRANGERS
    }

    fn install(&mut self, id: ServerId, stream: TcpStream, rest: Vec<u8>) {
        self.take_down(id, "replaced by a newer connection");
        self.next_id += 1;
        let link_id = self.next_id;
        if self.config.ensemble.servers.contains_key(&id)
            && let Ok(address) = stream.peer_addr()
        {
            self.met.lock().insert(id, address.ip().to_canonical());
        }
        info!("election connection to server {id} is up");
        (self.events)(ElectionEvent::Link { peer: id, up: true });
        let (events, mailbox) = (self.events.clone(), self.mailbox.clone());
        let peer = self.peers.entry(id).or_insert_with(Peer::new);
        if let Some(attempt) = peer.attempt.take() {
            attempt.task.abort();
        }
        peer.waiting = None;
        peer.failures = 0;
        peer.told = None;
        let lost = move |reason| {
            let _ = mailbox.send(Command::Lost { peer: id, link_id, reason });
        };
        let slot = peer.slot.subscribe();
        let link = Link::start(&mut self.tasks, id, link_id, (stream, rest), slot, events, lost);
        peer.link = Some(link);
    }

    /// Ends the connection to a peer, if there is one.
    fn take_down(&mut self, id: ServerId, reason: &str) {
        if let Some(link) = self.peer(id).link.take() {
            info!("election connection to server {id} is down: {reason}");
            link.close();
            (self.events)(ElectionEvent::Link { peer: id, up: false });
        }
    }

    fn lost(&mut self, id: ServerId, link_id: u64, reason: &str) {
        let current = self.peers.get(&id).and_then(|peer| peer.link.as_ref());
        if current.is_some_and(|link| link.id == link_id) {
            self.take_down(id, reason);
            self.forget_stranger(id);
        }
    }

    /// Drops what is known of a server outside the configuration that has no connection.
    fn forget_stranger(&mut self, id: ServerId) {
        let idle = |peer: &Peer| peer.link.is_none() && peer.attempt.is_none();
        if !self.config.ensemble.servers.contains_key(&id) && self.peers.get(&id).is_some_and(idle)
        {
            self.peers.remove(&id);
        }
    }
}

async fn accept(listener: TcpListener, mailbox: mpsc::UnboundedSender<Command>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                if mailbox.send(Command::Accepted { stream, from }).is_err() {
                    return;
                }
            }
            Err(error) => {
                warn!("cannot accept a connection on the election port: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
