//! A learner's connection to its leader.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use oxkeeper_proto::ensemble::HostPort;
use oxkeeper_proto::quorum::{Packet, PacketKind};
use oxkeeper_proto::snapshot::SnapshotSink;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::packets::PacketReader;
use super::{LinkLimits, REFUSED_FOR};
use crate::logging::election;
use crate::names;
use crate::outbox::Outbox;

/// A name that has led to no connection for this long may be stale.
const NAMES_FIRST: Duration = Duration::from_secs(1);
/// Pauses between attempts, in ms; the last one repeats.
const PAUSES_MS: [u64; 6] = [5, 10, 20, 40, 80, 100];

/// Where the leader is, and how long to try.
#[derive(Clone, Debug)]
pub struct LeaderLinkConfig {
    /// Quorum addresses of the leader; resolved anew at each attempt, tried at once.
    pub addresses: Vec<HostPort>,
    /// Where the leader was met while it was elected: for names that the DNS does not know yet, or not
    /// any more. It may answer for some time from what it knew before the leader started. No proof of
    /// who is there, no more than a name is.
    pub met_at: Option<IpAddr>,
    /// Limit of connecting as a whole (`initLimit` or `connectToLearnerMasterLimit` ticks).
    pub connect_timeout: Duration,
    /// Bounds of the connection.
    pub limits: LinkLimits,
}

/// What happened on the connection to the leader.
#[derive(Debug)]
pub enum LeaderEvent<S> {
    /// Connected.
    Connected {
        /// The address that answered.
        #[cfg_attr(not(test), expect(dead_code, reason = "logged where it is known"))]
        address: SocketAddr,
    },
    /// Packets, in order. SNAP is the last of its batch; its stream follows.
    Packets(Vec<Packet>),
    /// The stream behind a SNAP packet is arriving.
    SnapshotProgress,
    /// The stream was read completely, its signature is right.
    SnapshotReceived(S),
    /// The connection could not be made, or ended. The last event; none follows
    /// [`LeaderLink::close`].
    Closed {
        /// In plain words.
        #[cfg_attr(not(test), expect(dead_code, reason = "logged where it is known"))]
        reason: String,
    },
}

/// The connection to the leader, or the attempt at it. Closed by [`LeaderLink::close`] or when
/// dropped.
pub struct LeaderLink {
    outbox: Arc<OnceLock<Arc<Outbox>>>,
    task: AbortHandle,
}

impl LeaderLink {
    /// Starts connecting. `new_sink` makes the receiver of a snapshot when a SNAP packet has come.
    /// `events` is called from runtime threads and must not block.
    pub fn connect<S: SnapshotSink + Send + 'static>(
        runtime: &Handle,
        config: LeaderLinkConfig,
        new_sink: impl Fn() -> S + Send + Sync + 'static,
        events: impl Fn(LeaderEvent<S>) + Send + Sync + 'static,
    ) -> LeaderLink {
        election::took("FOLLOWING");
        let outbox = Arc::new(OnceLock::new());
        let slot = outbox.clone();
        let task = runtime.spawn(async move {
            let reason = match connect(&config).await {
                Err(error) => format!("cannot connect to the leader: {error}"),
                Ok(stream) => serve(stream, &config, &slot, &new_sink, &events).await,
            };
            // `close` has aborted this task, unless the end and the close met.
            if !slot.get().is_some_and(|outbox: &Arc<Outbox>| closed_by_owner(outbox)) {
                warn!("Exception when following the leader: {reason}");
                events(LeaderEvent::Closed { reason });
            }
        });
        LeaderLink { outbox, task: task.abort_handle() }
    }

    /// Sends encoded packets. Without connection they are dropped.
    pub fn send(&self, packets: impl Into<Bytes>) {
        if let Some(outbox) = self.outbox.get() {
            outbox.send(packets.into());
        }
    }

    /// Closes the connection, or gives up connecting. No event follows, except one that is being
    /// delivered right now.
    pub fn close(&self) {
        self.task.abort();
        if let Some(outbox) = self.outbox.get() {
            outbox.close(None);
        }
    }
}

impl Drop for LeaderLink {
    fn drop(&mut self) {
        self.close();
    }
}

fn closed_by_owner(outbox: &Outbox) -> bool {
    outbox.is_closed() && outbox.failure().is_none()
}

/// One attempt: by name, and if that fails or takes long, where the leader was met.
async fn attempt(config: &LeaderLinkConfig, limit: Duration) -> io::Result<TcpStream> {
    let named = names::connect_any(&config.addresses, limit);
    let Some(met_at) = config.met_at else { return named.await };
    let at_ip = |address: &HostPort| HostPort { host: met_at.to_string(), port: address.port };
    let met: Vec<HostPort> = config.addresses.iter().map(at_ip).collect();
    tokio::pin!(named);
    tokio::select! {
        done = &mut named => match done {
            Ok(stream) => Ok(stream),
            Err(error) => names::connect_any(&met, limit).await.map_err(|_| error),
        },
        Ok(stream) = async {
            sleep(NAMES_FIRST).await;
            names::connect_any(&met, limit).await
        } => Ok(stream),
    }
}

/// Connects; a refusal is tried again for [`REFUSED_FOR`].
async fn connect(config: &LeaderLinkConfig) -> io::Result<TcpStream> {
    let start = Instant::now();
    let mut tries = 0;
    loop {
        let left = config.connect_timeout.saturating_sub(start.elapsed());
        let error = match attempt(config, left).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let pause = Duration::from_millis(PAUSES_MS[tries.min(PAUSES_MS.len() - 1)]);
        tries += 1;
        let patience = REFUSED_FOR.min(config.connect_timeout);
        if start.elapsed() + pause > patience {
            return Err(error);
        }
        sleep(pause).await;
    }
}

/// Reads until the connection ends; returns why.
async fn serve<S: SnapshotSink + Send + 'static>(
    stream: TcpStream,
    config: &LeaderLinkConfig,
    slot: &OnceLock<Arc<Outbox>>,
    new_sink: &(impl Fn() -> S + Send + Sync),
    events: &(impl Fn(LeaderEvent<S>) + Send + Sync),
) -> String {
    let address = match stream.peer_addr() {
        Ok(address) => address,
        Err(error) => return error.to_string(),
    };
    // A socket that refuses the option is about to fail anyway.
    let _ = stream.set_nodelay(true);
    let (read_half, write_half) = stream.into_split();
    let outbox = slot.get_or_init(|| Outbox::start(write_half, config.limits.queue)).clone();
    let _end = CloseOnDrop(outbox.clone());
    info!("connected to the leader at {address}");
    election::stage("following", "discovery");
    let since = Instant::now();
    events(LeaderEvent::Connected { address });
    let mut reader = PacketReader::new(read_half, config.limits.max_len);
    let mut synced = false;
    let reason = read(&mut reader, &outbox, &mut synced, new_sink, events).await;
    warn!(
        "Disconnected from leader (with address: {address}). Was connected for {}ms. Sync state: \
         {synced}",
        since.elapsed().as_millis()
    );
    outbox.failure().unwrap_or(reason)
}

/// An aborted or ended reader takes the connection with it.
struct CloseOnDrop(Arc<Outbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(Some("the reader ended".to_owned()));
    }
}

/// Tells how this server gets the leader's history. True: it has it.
fn tell_of_sync(packets: &[Packet]) -> bool {
    for packet in packets {
        let zxid = packet.zxid.0;
        match packet.known_kind() {
            Some(PacketKind::Diff) => info!("Getting a diff from the leader {zxid:#x}"),
            Some(PacketKind::Snap) => info!("Getting a snapshot from leader {zxid:#x}"),
            Some(PacketKind::Trunc) => {
                warn!("Truncating log to get in sync with the leader {zxid:#x}");
            }
            Some(PacketKind::NewLeader) => {
                info!("Learner received NEWLEADER message {zxid:#x}");
                election::stage("following", "synchronization");
            }
            Some(PacketKind::UpToDate) => {
                info!("Learner received UPTODATE message");
                election::stage("following", "broadcast");
                return true;
            }
            _ => {}
        }
    }
    false
}

async fn read<S: SnapshotSink + Send + 'static>(
    reader: &mut PacketReader,
    outbox: &Outbox,
    synced: &mut bool,
    new_sink: &(impl Fn() -> S + Send + Sync),
    events: &(impl Fn(LeaderEvent<S>) + Send + Sync),
) -> String {
    loop {
        let packets = match reader.batch(Some(PacketKind::Snap)) {
            Ok(packets) => packets,
            Err(reason) => return reason,
        };
        if outbox.is_closed() {
            return "closed".to_owned();
        }
        if !*synced {
            *synced = tell_of_sync(&packets);
        }
        let snapshot = packets.last().is_some_and(|last| last.kind == PacketKind::Snap as i32);
        if !packets.is_empty() {
            events(LeaderEvent::Packets(packets));
        }
        let next = if snapshot {
            let progress = || events(LeaderEvent::SnapshotProgress);
            match reader.snapshot(new_sink(), progress).await {
                Ok(sink) => {
                    events(LeaderEvent::SnapshotReceived(sink));
                    Ok(())
                }
                Err(reason) => Err(reason),
            }
        } else {
            reader.fill().await
        };
        if let Err(reason) = next {
            return reason;
        }
    }
}
