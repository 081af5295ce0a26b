//! Old proposals from the log, for a learner that is further behind than memory reaches.
//! Source: `docs/spec/quorum-protocol.md` 10.4.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use oxkeeper_proto::Zxid;
use oxkeeper_storage::{Disk, StorageError, log_diff_allowed, read_range};
use oxkeeper_zab::Proposal;

use crate::loading::proposal;

/// Old proposals for one learner are not worth more memory than this, in bytes.
const MAX_BYTES: usize = 256 << 20;

/// Reads a log that goes on growing, beside the queue that writes it. Clones are the same.
#[derive(Clone, Debug)]
pub struct OldProposals<D> {
    disk: D,
    /// From this zxid on the log on disk has every transaction, for sure.
    proven_from: Arc<AtomicI64>,
    /// `snapshotSizeFactor`.
    factor: f64,
    /// Longest payload, in bytes.
    record_limit: usize,
}

impl<D: Disk> OldProposals<D> {
    /// The log of `disk`. `factor`: `snapshotSizeFactor`. `record_limit`: longest payload, in bytes.
    pub(crate) fn new(disk: D, proven_from: Zxid, factor: f64, record_limit: usize) -> Self {
        let proven_from = Arc::new(AtomicI64::new(proven_from.0));
        OldProposals { disk, proven_from, factor, record_limit }
    }

    /// The history was replaced or read anew: from here on the log is proven.
    pub(crate) fn prove_from(&self, zxid: Zxid) {
        self.proven_from.store(zxid.0, Ordering::Release);
    }

    /// What a learner that has everything up to `from` lacks, up to `to` at least; `None` if a snapshot
    /// serves it better. Starts with the last proposal at or below `from`, as the choice between DIFF
    /// and TRUNC needs it.
    pub fn read(&self, from: Zxid, to: Zxid) -> Option<Vec<Proposal>> {
        let span = match self.span(from, to) {
            Ok(span) => span?,
            Err(error) => {
                tracing::warn!(%error, "cannot read the log for a learner; it gets a snapshot");
                return None;
            }
        };
        let base = Proposal { zxid: span.base, payload: Bytes::new() };
        Some(std::iter::once(base).chain(span.proposals.into_iter().map(proposal)).collect())
    }

    fn span(
        &self,
        from: Zxid,
        to: Zxid,
    ) -> Result<Option<oxkeeper_storage::LogSpan>, StorageError> {
        if !log_diff_allowed(&self.disk, from, self.factor)? {
            return Ok(None);
        }
        let proven_from = Zxid(self.proven_from.load(Ordering::Acquire));
        read_range(&self.disk, from, to, proven_from, self.record_limit, MAX_BYTES)
    }
}
