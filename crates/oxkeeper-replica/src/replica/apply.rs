//! Application of committed transactions: one writer, in batches, and the replies that follow.

use std::sync::Arc;

use oxkeeper_proto::OpCode;
use oxkeeper_proto::txn::{Payload, TxnHeader};
use oxkeeper_state::State;
use oxkeeper_state::watch::Notifier;
use oxkeeper_zab::Proposal;

use super::{InFlightKind, Mode, Now, Replica};
use crate::client::Client;

/// Transactions applied before readers get a turn: bounds how long a read can wait.
const SLICE: usize = 64;

impl Replica {
    /// Applies everything committed so far, answers the clients concerned and notifies watchers.
    pub(super) fn apply_committed(&mut self, now: Now) {
        if self.to_apply.is_empty() {
            return;
        }
        let mut proposals = std::mem::take(&mut self.to_apply);
        let shared = self.shared.clone();
        for slice in proposals.chunks(SLICE) {
            let mut state = shared.state.write();
            if !self.serving {
                // No quorum vouches for these: a later leader may cut them off the log again. A
                // periodic snapshot under way is named after an earlier zxid and would keep them.
                shared.next_generation();
            }
            for proposal in slice {
                self.apply(now, &mut state, proposal);
            }
        }
        if let Some(last) = proposals.last() {
            self.prepare.applied(last.zxid);
        }
        proposals.clear();
        self.to_apply = proposals;
    }

    fn apply(&mut self, now: Now, state: &mut State, proposal: &Proposal) {
        let payload = Payload::decode(&proposal.payload)
            .expect("payloads are read before they are logged or proposed");
        let header = payload.header;
        let client = self.take_in_flight(&header);
        let outcome = {
            let shared = &self.shared;
            let (clients, woken) = (&self.clients, &mut self.woken);
            let mut watches = shared.watches.lock();
            let mut notifier =
                Notifier::new(&mut watches, &shared.settings.auth, |watcher, zxid, kind, path| {
                    if let Some(client) = clients.get(&watcher) {
                        client.notify(shared, zxid, kind, path);
                        Self::queue_wake(woken, client);
                    }
                });
            state.apply(&payload, &mut notifier, client.is_some())
        };
        if header.kind == OpCode::CreateSession.code() {
            if let Some((client, InFlightKind::Connect { timeout_ms })) = client {
                self.establish(now, &client, header.client_id, timeout_ms);
            }
            self.finish_solo_syncs(now, state);
            return;
        }
        if let Some((client, _)) = &client {
            client.complete(&self.shared, state, header.cxid, &outcome, now.mono_ms);
            Self::queue_wake(&mut self.woken, client);
        }
        if header.kind == OpCode::CloseSession.code() {
            self.session_closed(&header);
        }
        self.finish_solo_syncs(now, state);
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
