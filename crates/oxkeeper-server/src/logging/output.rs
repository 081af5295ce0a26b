//! Stdout behind a bounded queue.
//!
//! Whoever logs only puts the line into memory; one thread writes. If the reader of stdout stalls, up
//! to [`LIMIT`] bytes wait for it, later lines are dropped, and their number is told in a line of its
//! own once it reads again: no thread of the server ever waits for it.
//!
//! An ERROR waits until it is written, [`PATIENCE`] at most: what follows it is, often, the end of the
//! process, whichever way that ends. While the reader is known to stall nobody waits at all.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait to be written.
const LIMIT: usize = 4 << 20;
/// How long an ERROR may wait to be written.
const PATIENCE: Duration = Duration::from_millis(250);
/// Pause before a write that would block is tried again (a stdout that somebody made non-blocking).
const RETRY: Duration = Duration::from_millis(10);

/// The queue before stdout.
pub(super) fn stdout() -> &'static Output {
    static STDOUT: OnceLock<Output> = OnceLock::new();
    STDOUT.get_or_init(|| {
        // Not the standard library's handle: its lock and buffer could be held at exit.
        let file = io::stdout().as_fd().try_clone_to_owned().map(File::from);
        match file {
            Ok(file) => Output::start(file, LIMIT),
            Err(_) => Output::start(io::sink(), LIMIT),
        }
    })
}

/// A queue of bytes and the thread that writes them.
pub(super) struct Output(Arc<Inner>);

struct Inner {
    limit: usize,
    queue: Mutex<Queue>,
    /// There is something to write.
    filled: Condvar,
    /// Something has been written.
    written: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    /// Bytes in `lines` and in the thread's hands.
    bytes: usize,
    /// Lines dropped since the last one that was written.
    dropped: u64,
    /// Lines ever queued, and those of them that are out of our hands.
    queued: u64,
    done: u64,
    /// Somebody has waited in vain, and nothing was written since.
    stalled: bool,
}

impl Output {
    fn start(sink: impl Write + Send + 'static, limit: usize) -> Output {
        let inner = Arc::new(Inner {
            limit,
            queue: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
        });
        let worker = inner.clone();
        // Without a thread there is no log, which is no reason not to serve.
        let _ = std::thread::Builder::new().name("log-lines".to_owned()).spawn(move || {
            worker.write(sink);
        });
        Output(inner)
    }

    /// Queues text of one or more lines.
    pub(super) fn push(&self, text: &[u8]) {
        let mut queue = self.0.queue.lock();
        if queue.bytes + text.len() > self.0.limit {
            queue.dropped += 1;
            return;
        }
        queue.bytes += text.len();
        queue.queued += 1;
        queue.lines.push_back(text.to_vec());
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Waits until everything queued so far is written, `limit` at most.
    pub(super) fn flush_within(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut queue = self.0.queue.lock();
        let goal = queue.queued;
        while queue.done < goal && !queue.stalled {
            if self.0.written.wait_until(&mut queue, deadline).timed_out() {
                queue.stalled = queue.done < goal;
                return;
            }
        }
    }
}

impl Inner {
    fn write(&self, mut sink: impl Write) {
        loop {
            let (text, lines, dropped) = self.take();
            // Nobody reads any more: the lines are lost, the server goes on.
            let _ = write_all(&mut sink, &text);
            if dropped > 0 {
                let text =
                    format!("{dropped} log lines dropped: the reader of stdout was stalled\n");
                let _ = write_all(&mut sink, text.as_bytes());
            }
            let mut queue = self.queue.lock();
            queue.bytes -= text.len();
            queue.done += lines;
            queue.stalled = false;
            drop(queue);
            self.written.notify_all();
        }
    }

    /// Waits for lines; takes all of them.
    fn take(&self) -> (Vec<u8>, u64, u64) {
        let mut queue = self.queue.lock();
        while queue.lines.is_empty() {
            self.filled.wait(&mut queue);
        }
        let lines = std::mem::take(&mut queue.lines);
        let dropped = std::mem::take(&mut queue.dropped);
        drop(queue);
        let count = lines.len() as u64;
        (lines.into_iter().flatten().collect(), count, dropped)
    }
}

fn write_all(sink: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match sink.write(text) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => text = &text[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes one event's line.
pub(super) struct Handle<'a> {
    output: &'a Output,
    wait: bool,
}

impl Write for Handle<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.output.push(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        if self.wait {
            self.output.flush_within(PATIENCE);
        }
    }
}

impl<'a> MakeWriter<'a> for &'static Output {
    type Writer = Handle<'a>;

    fn make_writer(&'a self) -> Handle<'a> {
        Handle { output: self, wait: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Handle<'a> {
        Handle { output: self, wait: *metadata.level() == Level::ERROR }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Passes on what it gets, once it is allowed to.
    struct Gate {
        open: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            // An error means that the gate stays open.
            let _ = self.open.recv();
            let _ = self.written.send(text.to_vec());
            Ok(text.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated(limit: usize) -> (Output, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>) {
        let (opener, open) = mpsc::channel();
        let (written, reader) = mpsc::channel();
        (Output::start(Gate { open, written }, limit), opener, reader)
    }

    fn read_all(reader: &mpsc::Receiver<Vec<u8>>, until: &str) -> String {
        let mut text = String::new();
        while !text.contains(until) {
            let piece = reader.recv_timeout(Duration::from_secs(10)).unwrap();
            text.push_str(std::str::from_utf8(&piece).unwrap());
        }
        text
    }

    #[test]
    fn a_stalled_reader_holds_up_nobody_and_is_told_what_it_missed() {
        let (output, opener, reader) = gated(64);
        let start = Instant::now();
        for i in 0..100_000 {
            output.push(format!("line {i}\n").as_bytes());
        }
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        drop(opener);
        let text = read_all(&reader, "dropped");
        assert!(text.starts_with("line 0\nline 1\n"), "{text}");
        assert!(text.contains(" log lines dropped"), "{text}");
    }

    #[test]
    fn an_error_waits_for_its_line_but_only_once_if_the_reader_stalls() {
        let (output, opener, reader) = gated(LIMIT);
        let start = Instant::now();
        for _ in 0..50 {
            output.push(b"error\n");
            output.flush_within(PATIENCE);
        }
        assert!(start.elapsed() >= PATIENCE);
        assert!(start.elapsed() < PATIENCE * 10, "{:?}", start.elapsed());
        drop(opener);
        read_all(&reader, "error");
    }

    #[test]
    fn everything_is_written_in_order_when_a_flush_returns() {
        let (output, opener, reader) = gated(LIMIT);
        drop(opener);
        for i in 0..1000 {
            output.push(format!("{i}\n").as_bytes());
        }
        output.flush_within(Duration::from_secs(10));
        let text: Vec<u8> = reader.try_iter().flatten().collect();
        let expected: String = (0..1000).map(|i| format!("{i}\n")).collect();
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
