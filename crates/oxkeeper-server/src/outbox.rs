//! What waits to be written to one quorum connection.
//!
//! The sender hands over whole buffers. While nothing is queued they go straight into the socket, on
//! the sender's thread, without blocking: one system call, no hand-over. What the socket does not
//! take is queued, and a task writes it as the peer reads. A snapshot stream is produced piece by
//! piece on a blocking thread; what is sent after it waits behind it.
//!
//! The queue is bounded in bytes. A peer that does not read is cut off, it cannot fill our memory. While a
//! snapshot is being sent the bound grows with it: a peer that takes in a large tree, however slowly, does
//! read, and what waits for it meanwhile is never more than the tree and the bound.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use oxkeeper_node::{StreamStep, TreeStream};
use oxkeeper_proto::jute::put_string;
use oxkeeper_proto::snapshot::SNAP_SIGNATURE;
use parking_lot::Mutex;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

/// Buffers written by one system call.
const MAX_SLICES: usize = 64;
/// How often the progress of a snapshot is told: a sign of life, for limits of at least a tick.
const TELL: Duration = Duration::from_millis(100);

/// Produces the body of a snapshot (sessions, ACL table, nodes and their end), piece by piece.
///
/// Called and dropped on a thread that may block. Source: `docs/spec/quorum-protocol.md` 10.6.
pub trait SnapshotSource: Send {
    /// Appends the next piece, some hundred KiB, to `out`.
    fn next_chunk(&mut self, out: &mut Vec<u8>) -> StreamStep;
}

impl SnapshotSource for TreeStream {
    fn next_chunk(&mut self, out: &mut Vec<u8>) -> StreamStep {
        TreeStream::next_chunk(self, out)
    }
}

/// Is told how many bytes of a snapshot the socket has taken so far, and whether that was all.
pub(crate) type Progress = Box<dyn Fn(u64, bool) + Send + Sync>;

struct Tree {
    source: Box<dyn SnapshotSource>,
    progress: Progress,
}

enum Waiting {
    Buffer(Bytes),
    Tree(Tree),
}

#[derive(Default)]
struct Sending {
    queue: VecDeque<Waiting>,
    /// Bytes of buffers queued or being written by the task.
    bytes: usize,
    /// Bytes of snapshots that the socket has taken.
    streamed: usize,
    /// The task has the socket: nobody else may write.
    writing: bool,
    closed: bool,
    /// Why we closed, unless the owner asked for it.
    failure: Option<String>,
}

/// The outgoing side of one connection.
pub(crate) struct Outbox {
    half: OwnedWriteHalf,
    /// Most bytes that may wait.
    limit: usize,
    sending: Mutex<Sending>,
    wake: Notify,
}

impl Outbox {
    /// Starts the writing task; must be called on the runtime.
    pub(crate) fn start(half: OwnedWriteHalf, limit: usize) -> Arc<Outbox> {
        let outbox =
            Arc::new(Outbox { half, limit, sending: Mutex::default(), wake: Notify::new() });
        tokio::spawn(outbox.clone().write_queue());
        outbox
    }

    /// Sends a buffer. After a failure or close it is dropped: the reader reports the end.
    pub(crate) fn send(&self, buffer: Bytes) {
        let mut sending = self.sending.lock();
        if sending.closed || buffer.is_empty() {
            return;
        }
        match self.write_directly(&sending, &buffer) {
            Ok(written) if written == buffer.len() => {}
            Ok(written) => {
                let rest = buffer.slice(written..);
                sending.bytes += rest.len();
                if sending.bytes > self.limit.saturating_add(sending.streamed) {
                    let text = format!("it does not read: {} bytes are waiting", sending.bytes);
                    return self.fail(&mut sending, text);
                }
                sending.queue.push_back(Waiting::Buffer(rest));
                self.wake.notify_one();
            }
            Err(error) => self.fail(&mut sending, error.to_string()),
        }
    }

    /// Sends a snapshot: what the source produces, then the signature.
    pub(crate) fn send_snapshot(&self, source: Box<dyn SnapshotSource>, progress: Progress) {
        let mut sending = self.sending.lock();
        if !sending.closed {
            sending.queue.push_back(Waiting::Tree(Tree { source, progress }));
            self.wake.notify_one();
        }
    }

    fn write_directly(&self, sending: &Sending, buffer: &[u8]) -> io::Result<usize> {
        if sending.writing || !sending.queue.is_empty() {
            return Ok(0);
        }
        match self.half.try_write(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Closes the connection; the reader sees its end at once. `failure`: why, if the owner did not
    /// ask for it.
    pub(crate) fn close(&self, failure: Option<String>) {
        let mut sending = self.sending.lock();
        if !sending.closed {
            self.shut(&mut sending, failure);
        }
    }

    /// True once the connection was closed from this side.
    pub(crate) fn is_closed(&self) -> bool {
        self.sending.lock().closed
    }

    /// Why this side closed the connection, if it was not asked to.
    pub(crate) fn failure(&self) -> Option<String> {
        self.sending.lock().failure.clone()
    }

    fn fail(&self, sending: &mut Sending, reason: String) {
        self.shut(sending, Some(reason));
    }

    fn shut(&self, sending: &mut Sending, failure: Option<String>) {
        sending.closed = true;
        sending.failure = failure;
        // An error means that the connection is gone already.
        let _ = socket2::SockRef::from(self.half.as_ref()).shutdown(Shutdown::Both);
        self.wake.notify_one();
    }

    async fn write_queue(self: Arc<Outbox>) {
        while let Some(work) = self.next_work().await {
            let result = match work {
                Work::Batch(mut batch) => {
                    let len: usize = batch.iter().map(Bytes::len).sum();
                    let result = self.write_all(&mut batch).await;
                    self.sending.lock().bytes -= len;
                    result
                }
                Work::Tree(tree) => self.write_tree(tree).await,
            };
            if let Err(error) = result {
                self.close(Some(error.to_string()));
            }
        }
        let unsent = std::mem::take(&mut self.sending.lock().queue);
        // A snapshot source can hold much.
        spawn_blocking(move || drop(unsent));
    }

    /// Waits for something to write; `None` after the close.
    async fn next_work(&self) -> Option<Work> {
        loop {
            {
                let mut sending = self.sending.lock();
                if sending.closed {
                    return None;
                }
                let work = take_work(&mut sending.queue);
                sending.writing = work.is_some();
                if work.is_some() {
                    return work;
                }
            }
            self.wake.notified().await;
        }
    }

    async fn write_all(&self, batch: &mut VecDeque<Bytes>) -> io::Result<()> {
        while !batch.is_empty() {
            let slices: Vec<_> = batch.iter().map(|buffer| IoSlice::new(buffer)).collect();
            match self.half.try_write_vectored(&slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => advance(batch, written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.half.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes one piece while the next is being produced.
    async fn write_tree(&self, tree: Tree) -> io::Result<()> {
        let Tree { source, progress } = tree;
        let (mut sent, mut told) = (0, Instant::now());
        let mut next = spawn_blocking(move || produce(source));
        loop {
            let (source, mut piece) = next.await.map_err(io::Error::other)??;
            let Some(source) = source else {
                put_string(&mut piece, SNAP_SIGNATURE);
                sent += piece.len();
                self.write_all(&mut VecDeque::from([Bytes::from(piece)])).await?;
                progress(sent as u64, true);
                return Ok(());
            };
            next = spawn_blocking(move || produce(source));
            sent += piece.len();
            self.sending.lock().streamed += piece.len();
            self.write_all(&mut VecDeque::from([Bytes::from(piece)])).await?;
            if told.elapsed() > TELL {
                told = Instant::now();
                progress(sent as u64, false);
            }
        }
    }
}

enum Work {
    Batch(VecDeque<Bytes>),
    Tree(Tree),
}

fn take_work(queue: &mut VecDeque<Waiting>) -> Option<Work> {
    let mut batch = VecDeque::new();
    while batch.len() < MAX_SLICES {
        match queue.pop_front() {
            Some(Waiting::Buffer(buffer)) => batch.push_back(buffer),
            Some(Waiting::Tree(tree)) if batch.is_empty() => {
                return Some(Work::Tree(tree));
            }
            Some(tree) => {
                queue.push_front(tree);
                break;
            }
            None => break,
        }
    }
    (!batch.is_empty()).then_some(Work::Batch(batch))
}

fn advance(batch: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(front) = batch.front_mut() {
        if written < front.len() {
            front.advance(written);
            return;
        }
        written -= front.len();
        batch.pop_front();
    }
}

/// What a source has made, and itself if there is more.
type Piece = (Option<Box<dyn SnapshotSource>>, Vec<u8>);

/// One piece of a snapshot. The source is gone when it was the last one; it is dropped here.
fn produce(mut source: Box<dyn SnapshotSource>) -> io::Result<Piece> {
    let mut piece = Vec::new();
    match source.next_chunk(&mut piece) {
        StreamStep::More => Ok((Some(source), piece)),
        StreamStep::End => Ok((None, piece)),
        StreamStep::Outdated => {
            Err(io::Error::other("the tree was replaced while it was being sent"))
        }
    }
}
