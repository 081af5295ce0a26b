//! The requests of one connection that wait for their answers, in the order in which they came.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use oxkeeper_proto::ErrorCode;
use oxkeeper_proto::client::RequestHeader;

use crate::shared::Shared;

/// Requests of one connection that may wait for an answer before it is not read any more.
const LIMIT: usize = 4096;

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) enum Pending {
    /// In flight through the replica.
    Write { xid: i32, op: i32, large: i64 },
    /// In flight through the replica; its reply echoes the path.
    Sync { xid: i32, body: Box<[u8]> },
    /// Waits for what is before it.
    Read { header: RequestHeader, body: Box<[u8]> },
    /// Decided already; waits for what is before it.
    Failed { xid: i32, code: ErrorCode, close: bool },
    /// An auth reply; waits for what is before it.
    Authed { xid: i32 },
}

impl Pending {
    /// Only the replica can answer it.
    fn is_in_flight(&self) -> bool {
        matches!(self, Pending::Write { .. } | Pending::Sync { .. })
    }

    /// It will not be completed by the replica.
    fn forget(&self, shared: &Shared) {
        if let Pending::Write { large, .. } = self {
            shared.large_bytes.fetch_sub(*large, Ordering::Relaxed);
        }
    }
}

/// A request and when it came.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Arrival, in monotonic ms.
    pub since_ms: u64,
    pub request: Pending,
}

/// Requests in order of arrival. The front is in flight, unless the queue is being drained.
#[derive(Debug, Default)]
pub(super) struct RequestQueue(VecDeque<Waiting>);

impl RequestQueue {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_full(&self) -> bool {
        LIMIT <= self.0.len()
    }

    pub fn push(&mut self, since_ms: u64, request: Pending) {
        self.0.push_back(Waiting { since_ms, request });
    }

    pub fn front(&self) -> Option<&Waiting> {
        self.0.front()
    }

    pub fn pop(&mut self) -> Option<Waiting> {
        self.0.pop_front()
    }

    /// The front, if nothing is needed to answer it but its turn.
    pub fn pop_decided(&mut self) -> Option<Waiting> {
        self.0.pop_front_if(|waiting| !waiting.request.is_in_flight())
    }

    /// The write `xid` fails with `code`, in its turn.
    pub fn fail(&mut self, shared: &Shared, xid: i32, code: ErrorCode) {
        let wanted = |waiting: &&mut Waiting| matches!(waiting.request, Pending::Write { xid: waiting, .. } if waiting == xid);
        if let Some(waiting) = self.0.iter_mut().find(wanted) {
            waiting.request.forget(shared);
            waiting.request = Pending::Failed { xid, code, close: false };
        }
    }

    /// Nothing of it will be answered.
    pub fn abandon(&mut self, shared: &Shared) {
        shared.add_outstanding(-(self.0.len() as i64));
        self.0.drain(..).for_each(|waiting| waiting.request.forget(shared));
    }
}
