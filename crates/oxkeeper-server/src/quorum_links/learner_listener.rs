//! A leader's quorum port and its links to learners.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use oxkeeper_proto::ServerId;
use oxkeeper_proto::ensemble::HostPort;
use oxkeeper_proto::quorum::{Packet, PacketKind};
use parking_lot::Mutex;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::packets::PacketReader;
use super::{LinkId, LinkLimits, SnapshotSource};
use crate::listen::{BindError, Opening, Patience};
use crate::logging::election;
use crate::outbox::Outbox;

/// Connections that have not said who they are; beyond this the oldest is closed. A learner speaks
/// as soon as it has connected, so silent connections cannot keep it out.
const MAX_UNKNOWN: usize = 64;
/// Learners that may be connected at once.
const MAX_LINKS: usize = 1024;
/// Attempts to open the port at each of its addresses. The first pauses between them are short, since the
/// listener of the role before may still be closing; they grow up to [`BIND_PAUSE`].
const BIND_ATTEMPTS: u32 = 14;
const BIND_PAUSE: Duration = Duration::from_millis(100);

/// What the quorum port needs to know.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// This server's quorum addresses.
    pub addresses: Vec<HostPort>,
    /// Listen on all addresses of this machine instead (`quorumListenOnAllIPs`).
    pub listen_on_all: bool,
    /// How long a connection may take to send its first packet (`initLimit` ticks).
    pub first_packet_timeout: Duration,
    /// Bounds of each connection.
    pub limits: LinkLimits,
}

/// What happened on the quorum port.
#[derive(Debug)]
pub enum LearnerEvent {
    /// The port is open, at one of its addresses at least.
    Listening,
    /// The port cannot be opened; the listener is of no use.
    ListenFailed(BindError),
    /// A learner connected and said who it is: its first packets follow.
    Connected {
        /// The new link.
        link: LinkId,
    },
    /// Packets, in order.
    Packets {
        /// From which learner.
        link: LinkId,
        /// All that one read brought.
        packets: Vec<Packet>,
    },
    /// The socket has taken more of a snapshot.
    Streamed {
        /// To which learner.
        link: LinkId,
        /// Bytes so far.
        bytes: u64,
        /// That was all.
        ended: bool,
    },
    /// The link ended. The last event of a link; none follows [`LearnerListener::close`].
    Closed {
        /// Which.
        link: LinkId,
        /// In plain words.
        #[cfg_attr(not(test), expect(dead_code, reason = "logged where it is known"))]
        reason: String,
    },
}

struct Acceptor {
    config: ListenerConfig,
    events: Box<dyn Fn(LearnerEvent) + Send + Sync>,
    links: Mutex<Links>,
}

#[derive(Default)]
struct Links {
    known: HashMap<LinkId, Arc<Outbox>>,
    /// Who is behind a link that has not been told yet how its history is brought up to date.
    unsynced: HashMap<LinkId, ServerId>,
    /// Connections without a first packet, oldest first.
    unknown: VecDeque<(LinkId, AbortHandle)>,
    /// The listener was shut down: nothing may be added.
    closed: bool,
}

/// The quorum port of a leader. Closed by [`LearnerListener::shutdown`] or when dropped.
pub struct LearnerListener {
    acceptor: Arc<Acceptor>,
    task: AbortHandle,
}

impl LearnerListener {
    /// Starts opening the port. `events` is called from runtime threads and must not block.
    pub fn start(
        runtime: &Handle,
        config: ListenerConfig,
        events: impl Fn(LearnerEvent) + Send + Sync + 'static,
    ) -> LearnerListener {
        election::took("LEADING");
        let links = Mutex::default();
        let acceptor = Arc::new(Acceptor { config, events: Box::new(events), links });
        let task = runtime.spawn(listen(acceptor.clone())).abort_handle();
        LearnerListener { acceptor, task }
    }

    /// Sends encoded packets to a learner; dropped if its link has ended.
    pub fn send(&self, link: LinkId, packets: impl Into<Bytes>) {
        let packets = packets.into();
        let outbox = {
            let mut links = self.acceptor.links.lock();
            let told = |sid: &mut ServerId| {
                tell_of_sync(*sid, &packets, self.acceptor.config.limits.max_len)
            };
            if links.unsynced.get_mut(&link).is_some_and(told) {
                links.unsynced.remove(&link);
            }
            links.known.get(&link).cloned()
        };
        if let Some(outbox) = outbox {
            outbox.send(packets);
        }
    }

    /// Streams a snapshot to a learner, with the signature behind it. What is sent later waits.
    pub fn send_snapshot(&self, link: LinkId, source: Box<dyn SnapshotSource>) {
        let Some(outbox) = self.outbox(link) else { return };
        let acceptor = self.acceptor.clone();
        let progress = move |bytes, ended| {
            (acceptor.events)(LearnerEvent::Streamed { link, bytes, ended });
        };
        outbox.send_snapshot(source, Box::new(progress));
    }

    /// Closes a link. No event of it follows, except one that is being delivered right now.
    pub fn close(&self, link: LinkId, reason: &str) {
        let outbox = self.acceptor.links.lock().remove(link);
        if let Some(outbox) = outbox {
            info!("closing the link of learner {link}: {reason}");
            outbox.close(None);
        }
    }

    /// Closes the port and all links; no events follow, except those being delivered right now.
    pub fn shutdown(&self) {
        self.task.abort();
        let mut links = self.acceptor.links.lock();
        links.closed = true;
        for (_, outbox) in links.known.drain() {
            outbox.close(None);
        }
        for (_, task) in links.unknown.drain(..) {
            task.abort();
        }
    }

    fn outbox(&self, link: LinkId) -> Option<Arc<Outbox>> {
        self.acceptor.links.lock().known.get(&link).cloned()
    }
}

impl Drop for LearnerListener {
    fn drop(&mut self) {
        self.shutdown();
    }
}

async fn listen(acceptor: Arc<Acceptor>) {
    let config = &acceptor.config;
    let patience = Patience {
        attempts: BIND_ATTEMPTS,
        pause: |attempt| Duration::from_millis(10 << attempt.min(8)).min(BIND_PAUSE),
        told: false,
    };
    let mut opening = Opening::start(&config.addresses, config.listen_on_all, "quorum", patience);
    let listeners = match opening.first().await {
        Ok(listeners) => listeners,
        Err(error) => return (acceptor.events)(LearnerEvent::ListenFailed(error)),
    };
    (acceptor.events)(LearnerEvent::Listening);
    let accepting = acceptor.clone();
    // Aborting this task closes the listeners.
    opening.serve(listeners, move |listener| accept(listener, accepting.clone())).await;
}

async fn accept(listener: TcpListener, acceptor: Arc<Acceptor>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                let link = NEXT.fetch_add(1, Ordering::Relaxed);
                admit(&acceptor, link, stream, from);
            }
            Err(error) => {
                warn!("cannot accept a connection on the quorum port: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(acceptor: &Arc<Acceptor>, link: LinkId, stream: TcpStream, from: SocketAddr) {
    let mut links = acceptor.links.lock();
    if links.closed {
        return;
    }
    if links.unknown.len() >= MAX_UNKNOWN
        && let Some((_, oldest)) = links.unknown.pop_front()
    {
        oldest.abort();
    }
    let task = tokio::spawn(serve(acceptor.clone(), link, stream, from));
    links.unknown.push_back((link, task.abort_handle()));
}

async fn serve(acceptor: Arc<Acceptor>, link: LinkId, stream: TcpStream, from: SocketAddr) {
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    // A socket that refuses the option is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let (read_half, write_half) = stream.into_split();
    let mut reader = PacketReader::new(read_half, acceptor.config.limits.max_len);
    let limit = acceptor.config.first_packet_timeout;
    let first = match timeout(limit, introduction(&mut reader)).await {
        Ok(result) => result,
        Err(_) => Err(format!("silent for {limit:?}")),
    };
    let Some(outbox) = acceptor.introduced(link, &first, write_half, from) else {
        if let Err(reason) = first {
            warn!("connection from {from} to the quorum port closed: {reason}");
        }
        return;
    };
    (acceptor.events)(LearnerEvent::Connected { link });
    let reason = match first {
        Ok(packets) => read(&acceptor, link, &mut reader, &outbox, packets).await,
        Err(reason) => reason,
    };
    let reason = outbox.failure().unwrap_or(reason);
    outbox.close(Some(reason.clone()));
    // Whoever takes it out of the table, here or in `close`, says that the link has ended.
    if acceptor.links.lock().remove(link).is_some() {
        warn!(link, "******* GOODBYE /{from} ********: {reason}");
        (acceptor.events)(LearnerEvent::Closed { link, reason });
    }
}

impl Links {
    fn remove(&mut self, link: LinkId) -> Option<Arc<Outbox>> {
        self.unsynced.remove(&link);
        self.known.remove(&link)
    }
}

/// The id in a learner's first packet.
fn learner_id(first: &Packet) -> Option<ServerId> {
    let data = first.data.as_ref()?.first_chunk::<8>()?;
    Some(ServerId::from_be_bytes(*data))
}

/// Tells how a learner's history is brought up to date, if `packets` begin with that. True: told.
fn tell_of_sync(sid: ServerId, packets: &[u8], max_len: usize) -> bool {
    let Ok(Some((packet, _))) = Packet::decode(packets, max_len) else { return false };
    let zxid = packet.zxid.0;
    match packet.known_kind() {
        Some(PacketKind::Diff) => info!("Sending DIFF zxid={zxid:#x} for peer sid: {sid}"),
        Some(PacketKind::Trunc) => info!("Sending TRUNC zxid={zxid:#x} for peer sid: {sid}"),
        Some(PacketKind::Snap) => info!("Sending snapshot zxid={zxid:#x} to peer sid: {sid}"),
        _ => return false,
    }
    true
}

impl Acceptor {
    /// Registers a connection that has said who it is; `None`: it must be closed.
    fn introduced(
        &self,
        link: LinkId,
        first: &Result<Vec<Packet>, String>,
        write_half: OwnedWriteHalf,
        from: SocketAddr,
    ) -> Option<Arc<Outbox>> {
        let mut links = self.links.lock();
        links.unknown.retain(|(id, _)| *id != link);
        if first.is_err() || links.closed || links.known.len() >= MAX_LINKS {
            return None;
        }
        let outbox = Outbox::start(write_half, self.config.limits.queue);
        links.known.insert(link, outbox.clone());
        if let Some(sid) = first.as_ref().ok().and_then(|packets| learner_id(packets.first()?)) {
            info!(link, "Follower sid: {sid} : info : {from}");
            links.unsynced.insert(link, sid);
        }
        Some(outbox)
    }
}

/// The first packets of a connection; the very first one must say who the learner is.
async fn introduction(reader: &mut PacketReader) -> Result<Vec<Packet>, String> {
    loop {
        reader.fill().await?;
        let packets = reader.batch(None)?;
        match packets.first().map(|first| (first.kind, first.known_kind())) {
            None => {}
            Some((_, Some(PacketKind::FollowerInfo | PacketKind::ObserverInfo))) => {
                return Ok(packets);
            }
            Some((kind, _)) => {
                return Err(format!("its first packet has type {kind}, not FOLLOWERINFO"));
            }
        }
    }
}

/// Reads until the link ends; returns why.
async fn read(
    acceptor: &Acceptor,
    link: LinkId,
    reader: &mut PacketReader,
    outbox: &Outbox,
    mut packets: Vec<Packet>,
) -> String {
    loop {
        if outbox.is_closed() {
            return "closed".to_owned();
        }
        if !packets.is_empty() {
            (acceptor.events)(LearnerEvent::Packets { link, packets });
        }
        packets = match reader.fill().await.and_then(|()| reader.batch(None)) {
            Ok(packets) => packets,
            Err(reason) => return reason,
        };
    }
}
