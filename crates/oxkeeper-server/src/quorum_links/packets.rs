//! Reading: bytes from a connection, packets and snapshot streams out of them.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use oxkeeper_proto::quorum::{Packet, PacketKind};
use oxkeeper_proto::snapshot::{BodyDecoder, SNAP_SIGNATURE, SnapshotSink};
use oxkeeper_proto::{DecodeError, Reader};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Room made for one read of packets, in bytes.
const PACKET_READ: usize = 64 << 10;
/// Room made for one read of a snapshot stream.
const SNAPSHOT_READ: usize = 1 << 20;
/// Least time between two reports of progress of a snapshot.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// What a packet or snapshot item may hold besides one string or buffer of full length.
const SLACK: usize = 1 << 20;

/// The incoming side of one connection.
pub(super) struct PacketReader {
    half: OwnedReadHalf,
    buf: BytesMut,
    max_len: usize,
    /// Nothing has been decoded yet.
    fresh: bool,
}

impl PacketReader {
    pub(super) fn new(half: OwnedReadHalf, max_len: usize) -> PacketReader {
        PacketReader { half, buf: BytesMut::new(), max_len, fresh: true }
    }

    /// Waits for more bytes; the error says why there are none.
    pub(super) async fn fill(&mut self) -> Result<(), String> {
        self.fill_by(PACKET_READ).await
    }

    async fn fill_by(&mut self, room: usize) -> Result<(), String> {
        // Several items of full length cannot be incomplete at once.
        if self.buf.len() > self.max_len.saturating_mul(2).saturating_add(SLACK) {
            return Err("a packet has no end".to_owned());
        }
        self.buf.reserve(room);
        match self.half.read_buf(&mut self.buf).await {
            Ok(0) => Err("closed by the other side".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// All packets that have arrived completely; ends behind a packet of the kind `last`.
    pub(super) fn batch(&mut self, last: Option<PacketKind>) -> Result<Vec<Packet>, String> {
        self.check_protocol()?;
        let mut packets = Vec::new();
        let mut used = 0;
        let wrong = |error: DecodeError| format!("not a packet: {error}");
        while let Some((packet, len)) =
            Packet::decode(&self.buf[used..], self.max_len).map_err(wrong)?
        {
            used += len;
            let is_last = last.is_some_and(|kind| packet.kind == kind as i32);
            packets.push(packet);
            if is_last {
                break;
            }
        }
        self.buf.advance(used);
        self.fresh &= packets.is_empty();
        Ok(packets)
    }

    /// Names the two protocols that a peer with other settings would begin with.
    fn check_protocol(&self) -> Result<(), String> {
        let other = match &self.buf[..] {
            [0x16, 3, ..] => "TLS (sslQuorum)",
            [0x5F, 0x24, 0x35, 0x01, ..] => "quorum SASL",
            _ => return Ok(()),
        };
        match self.fresh {
            true => Err(format!("it speaks {other}, which this server does not")),
            false => Ok(()),
        }
    }

    /// Reads the stream behind a SNAP packet into `sink`. `progress` is called now and then.
    pub(super) async fn snapshot<S: SnapshotSink + Send + 'static>(
        &mut self,
        sink: S,
        mut progress: impl FnMut(),
    ) -> Result<S, String> {
        let mut body = BodyDecoder::new(self.max_len);
        let mut sink = Discarded(Some(sink));
        let mut told = Instant::now();
        loop {
            let Some(into) = &mut sink.0 else { unreachable!("taken only at the end") };
            if self.decode_body(&mut body, into)? {
                break;
            }
            if told.elapsed() >= PROGRESS_EVERY {
                told = Instant::now();
                progress();
            }
            self.fill_by(SNAPSHOT_READ).await?;
        }
        self.signature().await?;
        match sink.0.take() {
            Some(sink) => Ok(sink),
            None => unreachable!("taken only here"),
        }
    }

    /// Decodes what has arrived; true at the end of the body.
    fn decode_body(
        &mut self,
        body: &mut BodyDecoder,
        sink: &mut impl SnapshotSink,
    ) -> Result<bool, String> {
        let wrong = |error: String| format!("the snapshot stream is wrong: {error}");
        let mut used = 0;
        let mut ended = false;
        while !ended
            && let Some((item, len)) =
                body.next(&self.buf[used..]).map_err(|error| wrong(error.to_string()))?
        {
            used += len;
            ended = item.give(sink).map_err(wrong)?;
        }
        self.buf.advance(used);
        Ok(ended)
    }

    async fn signature(&mut self) -> Result<(), String> {
        const LEN: usize = 4 + SNAP_SIGNATURE.len();
        while self.buf.len() < LEN {
            self.fill().await?;
        }
        match Reader::new(&self.buf[..LEN]).string() {
            Ok(text) if text == SNAP_SIGNATURE => {}
            _ => return Err("the snapshot stream does not end with its signature".to_owned()),
        }
        self.buf.advance(LEN);
        Ok(())
    }
}

/// A half-read snapshot can hold millions of nodes: if it is given up, a blocking thread frees it.
struct Discarded<S: Send + 'static>(Option<S>);

impl<S: Send + 'static> Drop for Discarded<S> {
    fn drop(&mut self) {
        if let (Some(sink), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn_blocking(move || drop(sink));
        }
    }
}
