//! One client connection as raw frames: a whole batch out in one write, a whole batch in with one
//! read. The bench stands on it.
//!
//! Source: `docs/spec/client-protocol.md` 1.1 (frames), 2.4 and 2.5 (handshake).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use oxkeeper_proto::client::{ConnectRequest, ConnectResponse, ReplyHeader, put_frame};
use oxkeeper_proto::{Decode, Encode, Reader};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Input buffer at the start; grows with the largest frame seen.
const INPUT_SIZE: usize = 16 << 10;
/// No reply is larger: a child list of some million names fits.
const MAX_FRAME: usize = 256 << 20;

/// A connection that queues requests, sends them together, and hands out whole reply frames.
pub struct Wire {
    stream: TcpStream,
    out: Vec<u8>,
    sent: usize,
    input: Vec<u8>,
    start: usize,
    end: usize,
}

/// What a session is resumed with.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// Session id.
    pub session: i64,
    /// Its password.
    pub password: [u8; 16],
}

/// Why no session came to be.
#[derive(Debug)]
pub enum OpenError {
    /// The connection failed or was closed.
    Io(io::Error),
    /// The server no longer knows the session that was to be resumed.
    Expired,
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        OpenError::Io(error)
    }
}

impl Wire {
    /// Connects; small frames are not held back.
    pub async fn connect(server: SocketAddr) -> io::Result<Wire> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Wire {
            stream,
            out: Vec::with_capacity(4 << 10),
            sent: 0,
            input: vec![0; INPUT_SIZE],
            start: 0,
            end: 0,
        })
    }

    /// Connects and opens a session: a new one, or the one of `resume`.
    pub async fn open(
        server: SocketAddr,
        timeout_ms: i32,
        resume: Option<(Login, i64)>,
    ) -> Result<(Wire, Login), OpenError> {
        let mut wire = Wire::connect(server).await?;
        let (session, password, last_zxid_seen) = match &resume {
            Some((login, zxid)) => (login.session, login.password, *zxid),
            None => (0, [0; 16], 0),
        };
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen,
            timeout_ms,
            session,
            password: Some(&password),
            read_only: Some(false),
        };
        put_frame(&mut wire.out, |out| request.encode(out));
        let response = ConnectResponse::from_bytes(wire.wait_frame().await?)
            .map_err(|error| bad_reply(error.to_string()))?;
        if response.timeout_ms <= 0 {
            return Err(OpenError::Expired);
        }
        let login = Login { session: response.session, password: response.password };
        Ok((wire, login))
    }

    /// Where requests are queued; they leave with the next exchange.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Sends what is queued, as far as the socket takes it, and completes when bytes have come in.
    ///
    /// Both directions go on at once, so a peer that stops reading until its own output is taken
    /// cannot block us.
    pub fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => self.sent += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if self.sent > 0 && self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        self.make_room();
        let mut buf = ReadBuf::new(&mut self.input[self.end..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        let n = buf.filled().len();
        if n == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.end += n;
        Poll::Ready(Ok(()))
    }

    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end < self.input.len() {
            return;
        }
        if self.start > 0 {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        } else {
            let doubled = self.input.len() * 2;
            self.input.resize(doubled, 0);
        }
    }

    /// Length of the next frame, if all of it has arrived.
    fn whole_frame(&self) -> io::Result<Option<usize>> {
        let available = &self.input[self.start..self.end];
        let Some((prefix, rest)) = available.split_first_chunk::<4>() else { return Ok(None) };
        let len = i32::from_be_bytes(*prefix);
        let len = usize::try_from(len)
            .ok()
            .filter(|len| *len <= MAX_FRAME)
            .ok_or_else(|| bad_reply(format!("a frame claims a length of {len} bytes")))?;
        Ok((len <= rest.len()).then_some(len))
    }

    /// The next whole frame that has arrived, without its length prefix.
    pub fn frame(&mut self) -> io::Result<Option<&[u8]>> {
        let Some(len) = self.whole_frame()? else { return Ok(None) };
        let at = self.start + 4;
        self.start = at + len;
        Ok(Some(&self.input[at..at + len]))
    }

    /// Sends what is queued and waits for the next frame.
    pub async fn wait_frame(&mut self) -> io::Result<&[u8]> {
        while self.whole_frame()?.is_none() {
            std::future::poll_fn(|cx| self.poll_exchange(cx)).await?;
        }
        Ok(self.frame()?.unwrap_or_default())
    }
}

/// Splits a reply into header and body.
pub fn reply(frame: &[u8]) -> io::Result<(ReplyHeader, &[u8])> {
    let mut reader = Reader::new(frame);
    let header = ReplyHeader::decode(&mut reader).map_err(|error| bad_reply(error.to_string()))?;
    Ok((header, reader.rest()))
}

/// The server broke the protocol.
pub fn bad_reply(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a valid reply: {what}"))
}
