//! The frames of one connection that are on their way out.

use std::sync::atomic::Ordering;

use oxkeeper_proto::client::{ConnectResponse, EventKind, ReplyHeader};
use oxkeeper_proto::client::{XID_NOTIFICATION, put_frame, put_notification};
use oxkeeper_proto::{Encode, Zxid};

use super::statistics::FrameSizes;
use crate::shared::Shared;

/// Output a client may leave unread before it is not read any more, in bytes.
const PAUSE: usize = 1 << 20;
/// Output after which a client that does not read is closed when another notification comes.
const LIMIT: usize = 64 << 20;

/// Encoded frames that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    /// How much of it the statistics of sizes know of.
    measured: usize,
}

impl Outgoing {
    /// Has the client left so much unread that its requests must wait?
    pub fn holds_back_input(&self) -> bool {
        self.bytes.len() > PAUSE
    }

    /// Has it left more unread than another notification is worth?
    pub fn is_too_long(&self) -> bool {
        self.bytes.len() > LIMIT
    }

    /// Swaps the bytes into `into`, which must be empty.
    pub fn take(&mut self, into: &mut Vec<u8>) {
        debug_assert!(into.is_empty());
        std::mem::swap(&mut self.bytes, into);
        self.measured = 0;
    }

    /// Nobody will read it.
    pub fn discard(&mut self) {
        *self = Outgoing::default();
    }

    /// Answers a handshake. Such answers are not among the sizes, in the reference neither.
    pub fn put_connect_response(&mut self, response: &ConnectResponse) {
        put_frame(&mut self.bytes, |out| response.encode(out));
        self.measured = self.bytes.len();
    }

    /// A reply with nothing behind its header.
    pub fn put_header(&mut self, header: ReplyHeader) {
        self.put_reply(header, |_| {});
    }

    /// A reply, its body written by `body`.
    pub fn put_reply(&mut self, header: ReplyHeader, body: impl FnOnce(&mut Vec<u8>)) {
        put_frame(&mut self.bytes, |out| {
            header.encode(out);
            body(out);
        });
    }

    /// A watch has fired.
    pub fn put_notification(&mut self, zxid: Zxid, kind: EventKind, path: &str) {
        put_notification(&mut self.bytes, zxid, kind, path);
    }

    /// For those who append whole frames themselves.
    pub fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Tells the statistics of the frames that were appended since the last time: once per batch.
    pub fn measure(&mut self, shared: &Shared) {
        let mut new = &self.bytes[self.measured..];
        let mut sizes = FrameSizes::default();
        while let Some((len, behind)) = new.split_first_chunk::<4>() {
            let (frame, behind) = behind.split_at(u32::from_be_bytes(*len) as usize);
            sizes.add(frame.len(), frame.starts_with(&XID_NOTIFICATION.to_be_bytes()));
            new = behind;
        }
        if sizes.replies > 0 {
            shared.meters.response_bytes.fetch_add(sizes.replies, Ordering::Relaxed);
        }
        shared.stats.responses(&sizes);
        self.measured = self.bytes.len();
    }
}
