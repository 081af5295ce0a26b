//! Application of committed transactions: one writer, in batches, and the replies that follow.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use oxkeeper_proto::OpCode;
use oxkeeper_proto::client::EventKind;
use oxkeeper_proto::txn::{Payload, TxnHeader};
use oxkeeper_state::watch::Notifier;
use oxkeeper_state::{Outcome, State};
use oxkeeper_zab::Proposal;

use super::{InFlightKind, Mode, Now, Replica};
use crate::client::Client;
use crate::meters::Meters;

/// Transactions applied before readers get a turn: bounds how long a read can wait.
const SLICE: usize = 64;

/// How long transactions took from their proposal to here. Neighbours most often took as long: they are
/// recorded together.
struct Latencies<'a> {
    meters: &'a Meters,
    leading: bool,
    took_ms: u64,
    /// So many took as long, and are not recorded yet.
    times: u64,
}

impl Latencies<'_> {
    fn add(&mut self, took_ms: u64) {
        if took_ms != self.took_ms {
            self.record();
            (self.took_ms, self.times) = (took_ms, 0);
        }
        self.times += 1;
    }

    /// Records those that are not yet; to be called at the end.
    fn record(&self) {
        self.meters.propagation_latency.record_many(self.took_ms, self.times);
        if self.leading {
            self.meters.proposal_latency.record_many(self.took_ms, self.times);
        }
    }
}

impl Replica {
    /// Applies everything committed so far, answers the clients concerned and notifies watchers.
    pub(super) fn apply_committed(&mut self, now: Now) {
        if self.to_apply.is_empty() {
            return;
        }
        let mut proposals = std::mem::take(&mut self.to_apply);
        let shared = self.shared.clone();
        let leading = self.serving && self.leading() && matches!(self.mode, Mode::Ensemble(_));
        if leading {
            let commits = proposals.len() as u64;
            shared.meters.commit_count.fetch_add(commits, Ordering::Relaxed);
        }
        let mut latencies = Latencies { meters: &shared.meters, leading, took_ms: 0, times: 0 };
        for slice in proposals.chunks(SLICE) {
            let mut state = shared.state.write();
            if !self.serving {
                // No quorum vouches for these: a later leader may cut them off the log again. A
                // periodic snapshot under way is named after an earlier zxid and would keep them.
                shared.next_state_id();
            }
            for proposal in slice {
                let time_ms = self.apply(now, &mut state, proposal);
                // What is older than the role was not waited for.
                if self.serving {
                    latencies.add(now.wall_ms.saturating_sub(time_ms).max(0).unsigned_abs());
                }
            }
        }
        latencies.record();
        if let Some(last) = proposals.last() {
            self.prepare.applied(last.zxid);
        }
        proposals.clear();
        self.to_apply = proposals;
    }

    /// Returns when the transaction was made, in ms since 1970.
    fn apply(&mut self, now: Now, state: &mut State, proposal: &Proposal) -> i64 {
        let payload = Payload::decode(&proposal.payload)
            .expect("payloads are read before they are logged or proposed");
        let header = payload.header;
        let client = self.take_in_flight(&header);
        let outcome = self.apply_to(state, &payload, client.is_some());
        if header.kind == OpCode::CreateSession.code() {
            if let Some((client, InFlightKind::Connect { timeout_ms })) = client {
                self.establish(now, &client, header.client_id, timeout_ms);
            }
            self.finish_solo_syncs(now, state);
            return header.time_ms;
        }
        if let Some((client, _)) = &client {
            client.complete(&self.shared, state, header.cxid, &outcome, now.mono_ms);
            Self::queue_wake(&mut self.woken, client);
        }
        if header.kind == OpCode::CloseSession.code() {
            self.session_closed(&header);
        }
        self.finish_solo_syncs(now, state);
        header.time_ms
    }

    /// The state's part: its watches fire while it is locked, so that nobody sees a change untold.
    fn apply_to(&mut self, state: &mut State, payload: &Payload<'_>, answers: bool) -> Outcome {
        let shared = &self.shared;
        let (clients, woken) = (&self.clients, &mut self.woken);
        let mut fired = [0; 4];
        let mut watches = shared.watches.lock();
        let mut notifier =
            Notifier::new(&mut watches, &shared.settings.auth, |watcher, zxid, kind, path| {
                match kind {
                    EventKind::NodeCreated => fired[0] += 1,
                    EventKind::NodeDeleted => fired[1] += 1,
                    EventKind::NodeDataChanged => fired[2] += 1,
                    EventKind::NodeChildrenChanged => fired[3] += 1,
                }
                if let Some(client) = clients.get(&watcher) {
                    client.notify(shared, zxid, kind, path);
                    Self::queue_wake(woken, client);
                }
            });
        let outcome = state.apply(payload, &mut notifier, answers);
        drop(watches);
        let meters = &shared.meters;
        let summaries = [
            &meters.node_created_watch_count,
            &meters.node_deleted_watch_count,
            &meters.node_changed_watch_count,
            &meters.node_children_watch_count,
        ];
        for (summary, fired) in summaries.into_iter().zip(fired).filter(|(_, fired)| *fired > 0) {
            summary.record(fired);
        }
        outcome
    }

    /// Completes the syncs of a standalone server whose writes before them are applied, before anything
    /// later is. (In an ensemble the protocol says when.)
    pub(super) fn finish_solo_syncs(&mut self, now: Now, state: &State) {
        if !matches!(self.mode, Mode::Solo(_)) {
            return;
        }
        while let Some(sync) = self.syncs.pop_front_if(|sync| sync.after <= state.last_zxid()) {
            sync.client.complete_sync(&self.shared, state, now.mono_ms);
            Self::queue_wake(&mut self.woken, &sync.client);
        }
    }

    /// The request that this transaction answers, if it came in here.
    fn take_in_flight(&mut self, header: &TxnHeader) -> Option<(Arc<Client>, InFlightKind)> {
        let queue = self.in_flight.get_mut(&header.client_id)?;
        // Requests of a session are answered in order. One that the leader never turned into a
        // transaction cannot be answered any more: its connection is closed.
        let position = queue.iter().position(|request| request.cxid == header.cxid)?;
        for lost in queue.drain(..position) {
            lost.client.close();
            Self::queue_wake(&mut self.woken, &lost.client);
        }
        let found = queue.pop_front();
        if queue.is_empty() {
            self.in_flight.remove(&header.client_id);
        }
        found.map(|request| (request.client, request.kind))
    }

    fn session_closed(&mut self, header: &TxnHeader) {
        self.tracker.remove(header.client_id);
        if let Some(client) = self.sessions.remove(&header.client_id) {
            client.close();
            Self::queue_wake(&mut self.woken, &client);
        }
    }
}
