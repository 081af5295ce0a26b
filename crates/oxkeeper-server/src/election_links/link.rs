//! A kept election connection: a task that reads frames, a task that writes the newest message.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use oxkeeper_proto::ServerId;
use oxkeeper_proto::quorum::{ELECTION_FRAME, Notification};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::{ElectionEvent, Events};
use crate::logging::election;

/// A peer may send this much in [`WINDOW`]; then it is read no further until the window ends. Far
/// above what an election needs, and a bound for what a broken peer can put into the mailbox.
const WINDOW: Duration = Duration::from_millis(100);
const WINDOW_MESSAGES: usize = 256;
const WINDOW_BYTES: usize = 1 << 20;
/// Messages that do not decode, after which the connection is closed.
const MAX_MALFORMED: usize = 16;
/// First four bytes of a quorum SASL packet, as a frame length.
const SASL_MAGIC: u32 = 0x5F24_3501;

/// The tasks of one connection.
pub(super) struct Link {
    /// Tells this connection from earlier ones to the same peer.
    pub(super) id: u64,
    reader: AbortHandle,
    writer: AbortHandle,
}

impl Link {
    /// Starts reading and writing; what the slot holds now is sent first. `lost` is called when
    /// either direction ends.
    pub(super) fn start(
        tasks: &mut JoinSet<()>,
        peer: ServerId,
        id: u64,
        (stream, rest): (TcpStream, Vec<u8>),
        slot: watch::Receiver<Option<Bytes>>,
        events: Events,
        lost: impl FnOnce(String) + Clone + Send + 'static,
    ) -> Link {
        let (reading, writing) = stream.into_split();
        let reader_lost = lost.clone();
        let reader = tasks.spawn(async move {
            let mut input = io::Cursor::new(rest).chain(reading);
            reader_lost(read(&mut input, peer, &events).await);
        });
        let writer = tasks.spawn(async move {
            // It ends without error only with the actor, which then needs no word.
            if let Err(error) = write(writing, slot).await {
                lost(error.to_string());
            }
        });
        Link { id, reader, writer }
    }

    /// Closes the connection.
    pub(super) fn close(&self) {
        self.reader.abort();
        self.writer.abort();
    }
}

async fn write(
    mut socket: OwnedWriteHalf,
    mut slot: watch::Receiver<Option<Bytes>>,
) -> io::Result<()> {
    loop {
        let frame = slot.borrow_and_update().clone();
        if let Some(frame) = frame {
            socket.write_all(&frame).await?;
        }
        if slot.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Reads frames until the connection ends; returns why.
async fn read(input: &mut (impl AsyncRead + Unpin), peer: ServerId, events: &Events) -> String {
    let (mut frame, mut malformed) = (Vec::new(), 0);
    let mut window = Window::new();
    loop {
        if let Err(reason) = read_frame(input, &mut frame).await {
            return reason;
        }
        match Notification::decode(&frame) {
            Ok(notification) => {
                election::received(peer, &notification);
                events(ElectionEvent::Notified { from: peer, notification });
            }
            Err(error) => {
                malformed += 1;
                warn!("notification of server {peer} ignored: {error}");
                if malformed >= MAX_MALFORMED {
                    return "too many malformed notifications".to_owned();
                }
            }
        }
        window.count(frame.len()).await;
    }
}

async fn read_frame(
    input: &mut (impl AsyncRead + Unpin),
    frame: &mut Vec<u8>,
) -> Result<(), String> {
    let closed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => "closed by the other side".to_owned(),
        _ => error.to_string(),
    };
    let len = input.read_u32().await.map_err(closed)?;
    if len == SASL_MAGIC {
        return Err("it speaks quorum SASL, which this server does not".to_owned());
    }
    if !ELECTION_FRAME.contains(&(len as usize)) {
        return Err(format!("frame of {} bytes: not an election message", len as i32));
    }
    frame.clear();
    // Grows with what arrives, not with what is announced.
    let read = input.take(len.into()).read_to_end(frame).await.map_err(closed)?;
    if read < len as usize {
        return Err("closed by the other side inside a message".to_owned());
    }
    Ok(())
}

/// Bounds the rate at which one peer is read.
struct Window {
    ends: Instant,
    messages: usize,
    bytes: usize,
}

impl Window {
    fn new() -> Window {
        Window { ends: Instant::now() + WINDOW, messages: 0, bytes: 0 }
    }

    async fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
        if self.messages >= WINDOW_MESSAGES || self.bytes >= WINDOW_BYTES {
            sleep_until(self.ends).await;
        }
        if Instant::now() >= self.ends {
            *self = Window::new();
        }
    }
}
