//! What clients ask of the replica: sessions, writes, syncs.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use oxkeeper_proto::client::Id;
use oxkeeper_proto::ids::session_password;
use oxkeeper_proto::quorum::{Packet, PacketKind, Request, RevalidateRequest};
use oxkeeper_proto::{Encode, ErrorCode, OpCode, SessionId, Zxid};
use oxkeeper_state::prepare::{Prepared, SessionCheck, WriteRequest, parses};
use oxkeeper_zab::{DiskRequest, Proposal};

use super::{InFlight, InFlightKind, Mode, Now, Output, PendingSync, Replica, Revalidating};
use crate::client::Client;
use crate::session::Owner;

/// Session ids that mean something else.
const RESERVED_SESSIONS: [SessionId; 2] = [0, i64::MIN];

/// On whose behalf a request is prepared.
#[derive(Clone, Copy)]
pub(super) struct Requester<'a> {
    pub session: SessionId,
    pub cxid: i32,
    pub ids: &'a [Id],
    pub check: SessionCheck,
}

impl Requester<'_> {
    /// The server itself.
    const SERVER: Requester<'static> =
        Requester { session: 0, cxid: 0, ids: &[], check: SessionCheck::LIVE };
}

impl Replica {
    pub(super) fn on_connect(
        &mut self,
        now: Now,
        client: Arc<Client>,
        session: SessionId,
        password: Option<[u8; 16]>,
        timeout_ms: i32,
        out: &mut Vec<Output>,
    ) {
        if !self.serving {
            client.close();
            Self::queue_wake(&mut self.woken, &client);
            return;
        }
        self.clients.insert(client.id, client.clone());
        if session == 0 {
            self.create_session(now, client, timeout_ms, out);
            return;
        }
        // The reference closes the old connection before it looks at the password.
        self.let_go(session);
        if password != Some(session_password(session)) {
            self.refuse(&client);
        } else if self.leading() {
            if self.tracker.touch(session, Some(timeout_ms), now.mono_ms) {
                self.tracker.set_owner(session, Owner::Local);
                self.establish(now, &client, session, timeout_ms);
            } else {
                self.refuse(&client);
            }
        } else {
            self.revalidating.entry(session).or_default().push(Revalidating { client, timeout_ms });
            let data = RevalidateRequest { session, timeout_ms }.to_bytes();
            let packet = Packet::with(PacketKind::Revalidate, Zxid(-1), data);
            self.zab_input(now, oxkeeper_zab::Input::Forward(packet), out);
        }
    }

    fn create_session(
        &mut self,
        now: Now,
        client: Arc<Client>,
        timeout_ms: i32,
        out: &mut Vec<Output>,
    ) {
        let session = self.new_session_id();
        let kind = InFlightKind::Connect { timeout_ms };
        self.in_flight.entry(session).or_default().push_back(InFlight { cxid: 0, client, kind });
        let op = OpCode::CreateSession.code();
        let body = timeout_ms.to_bytes();
        if self.leading() {
            self.tracker.insert(session, timeout_ms, Some(Owner::Local), now.mono_ms);
            let from = Requester { session, ..Requester::SERVER };
            let created = self.propose(now, from, op, &body, out);
            assert!(created.is_ok(), "a createSession of our own making always prepares");
        } else {
            self.forward(now, Request { session, cxid: 0, op, body: &body }, None, out);
        }
    }

    fn new_session_id(&mut self) -> SessionId {
        loop {
            let id = self.next_session;
            self.next_session = self.next_session.wrapping_add(1);
            if !RESERVED_SESSIONS.contains(&id) {
                return id;
            }
        }
    }

    pub(super) fn establish(
        &mut self,
        now: Now,
        client: &Arc<Client>,
        session: SessionId,
        timeout_ms: i32,
    ) {
        // The client may have gone while its session was being made; the session then expires.
        if !self.clients.contains_key(&client.id) {
            return;
        }
        client.establish(&self.shared, session, timeout_ms, now.mono_ms);
        self.sessions.insert(session, client.clone());
        Self::queue_wake(&mut self.woken, client);
    }

    pub(super) fn refuse(&mut self, client: &Arc<Client>) {
        client.refuse();
        Self::queue_wake(&mut self.woken, client);
    }

    pub(super) fn on_disconnected(&mut self, client: &Arc<Client>) {
        self.clients.remove(&client.id);
        let session = client.session();
        if self.sessions.get(&session).is_some_and(|current| current.id == client.id) {
            self.sessions.remove(&session);
            self.keep_sign_of_life(client);
        }
        for waiting in self.revalidating.values_mut() {
            waiting.retain(|other| other.client.id != client.id);
        }
    }

    /// Closes the connection that serves a session here, if there is one: the session has turned, or seems
    /// to have turned, to another.
    pub(super) fn let_go(&mut self, session: SessionId) {
        if let Some(old) = self.sessions.remove(&session) {
            self.keep_sign_of_life(&old);
            old.close();
            Self::queue_wake(&mut self.woken, &old);
        }
    }

    /// While a connection serves its session, its last sign of life is read from itself.
    fn keep_sign_of_life(&mut self, client: &Client) {
        if self.leading() {
            self.tracker.touch(client.session(), None, client.heard_ms());
        } else if self.touched_ms <= client.heard_ms() + 1 {
            self.departed.push((client.session(), client.timeout_ms()));
        }
    }

    /// Is the session of this connection served on it? Not if the role that took a request has ended, and not
    /// if the session has another connection by now: what is late then must not follow what was lost.
    fn serves(&self, client: &Client) -> bool {
        let serving = self.sessions.get(&client.session());
        self.serving && serving.is_some_and(|current| current.id == client.id)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn on_request(
        &mut self,
        now: Now,
        client: Arc<Client>,
        xid: i32,
        op: i32,
        body: Bytes,
        ids: &[Id],
        out: &mut Vec<Output>,
    ) {
        let session = client.session();
        if !self.serves(&client) {
            return;
        }
        if !self.leading() {
            if !parses(op, &body) {
                self.fail(now, &client, xid, ErrorCode::MarshallingError);
                return;
            }
            self.remember(session, xid, client);
            self.forward(now, Request { session, cxid: xid, op, body: &body }, Some(ids), out);
            return;
        }
        match self.tracker.check(session, Owner::Local) {
            Ok(()) => {}
            // Dropped without reply: the connection is closed when the session's end is applied.
            Err(ErrorCode::SessionExpired) => return,
            Err(_) => {
                client.close();
                Self::queue_wake(&mut self.woken, &client);
                return;
            }
        }
        if op == OpCode::CloseSession.code() {
            self.tracker.set_closing(session);
        }
        self.remember(session, xid, client.clone());
        let from = Requester { session, cxid: xid, ids, check: SessionCheck::LIVE };
        if let Err(code) = self.propose(now, from, op, &body, out) {
            if let Some(queue) = self.in_flight.get_mut(&session) {
                queue.pop_back();
            }
            self.fail(now, &client, xid, code);
        }
    }

    fn remember(&mut self, session: SessionId, cxid: i32, client: Arc<Client>) {
        let kind = InFlightKind::Write;
        self.in_flight.entry(session).or_default().push_back(InFlight { cxid, client, kind });
    }

    fn fail(&mut self, now: Now, client: &Arc<Client>, xid: i32, code: ErrorCode) {
        let state = self.shared.state.read();
        client.fail(&self.shared, &state, xid, code, now.mono_ms);
        Self::queue_wake(&mut self.woken, client);
    }

    /// Sends a client's request to the leader.
    fn forward(
        &mut self,
        now: Now,
        request: Request<'_>,
        ids: Option<&[Id]>,
        out: &mut Vec<Output>,
    ) {
        let packet = request_packet(request, ids);
        self.zab_input(now, oxkeeper_zab::Input::Forward(packet), out);
    }

    pub(super) fn on_sync(
        &mut self,
        now: Now,
        client: Arc<Client>,
        xid: i32,
        body: Bytes,
        out: &mut Vec<Output>,
    ) {
        if !self.serves(&client) {
            return;
        }
        let session = client.session();
        let ids = client.identities();
        let after = match &self.mode {
            Mode::Solo(solo) => solo.proposed(),
            Mode::Ensemble(_) => Zxid::ZERO,
        };
        self.syncs.push_back(PendingSync { client, after });
        match &self.mode {
            Mode::Solo(_) => {
                let shared = self.shared.clone();
                self.finish_solo_syncs(now, &shared.state.read());
            }
            Mode::Ensemble(_) => {
                let op = OpCode::Sync.code();
                let request = Request { session, cxid: xid, op, body: &body };
                let packet = request_packet(request, Some(&ids));
                self.zab_input(now, oxkeeper_zab::Input::Sync(packet), out);
            }
        }
    }

    /// Prepares a request and proposes the transaction. Leader and standalone only. An error means
    /// that no transaction was made (and no zxid used).
    pub(super) fn propose(
        &mut self,
        now: Now,
        from: Requester<'_>,
        op: i32,
        body: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), ErrorCode> {
        self.shared.meters.prep_processor_request_queued.fetch_add(1, Ordering::Relaxed);
        let Some(zxid) = self.next_zxid(now, out) else { return Ok(()) };
        let prepared = {
            let state = self.shared.state.read();
            let Requester { session, cxid, ids, check } = from;
            let time_ms = now.wall_ms;
            let request = WriteRequest { session, cxid, op, body, ids, zxid, time_ms };
            self.prepare.prepare_checked(&state, &request, check)
        };
        match prepared {
            Prepared::Txn(payload) => {
                self.submit(now, Proposal { zxid, payload: payload.into() }, out);
                Ok(())
            }
            Prepared::Refused(code) => Err(code),
        }
    }

    /// Proposes a failed request: it takes a zxid and its learner waits for it.
    pub(super) fn propose_error(
        &mut self,
        now: Now,
        session: SessionId,
        cxid: i32,
        code: ErrorCode,
        out: &mut Vec<Output>,
    ) {
        let Some(zxid) = self.next_zxid(now, out) else { return };
        let payload = self.prepare.error(session, cxid, zxid, now.wall_ms, code);
        self.submit(now, Proposal { zxid, payload: payload.into() }, out);
    }

    /// The next zxid, or `None` when this epoch's are used up: the leader then steps down, and the
    /// request is lost with its connection.
    fn next_zxid(&mut self, now: Now, out: &mut Vec<Output>) -> Option<Zxid> {
        let next = match &self.mode {
            Mode::Solo(solo) => Some(solo.next_zxid()),
            Mode::Ensemble(zab) => zab.next_zxid(),
        };
        if next.is_none() {
            self.zab_input(now, oxkeeper_zab::Input::StepDown, out);
        }
        next
    }

    fn submit(&mut self, now: Now, proposal: Proposal, out: &mut Vec<Output>) {
        self.proposal_sizes.record(proposal.payload.len());
        match &mut self.mode {
            Mode::Solo(solo) => {
                solo.propose(proposal.clone());
                out.push(Output::Disk(DiskRequest::Append(proposal)));
            }
            Mode::Ensemble(_) => {
                self.shared.meters.proposal_count.fetch_add(1, Ordering::Relaxed);
                self.zab_input(now, oxkeeper_zab::Input::Propose(proposal), out);
            }
        }
    }

    pub(super) fn expire_sessions(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.tracker.next_deadline().is_none_or(|deadline| now.mono_ms < deadline) {
            return;
        }
        let sessions = &self.sessions;
        let heard = |session| sessions.get(&session).map(|client| client.heard_ms());
        for session in self.tracker.expired(now.mono_ms, heard) {
            tracing::info!(session = format_args!("{session:#x}"), "session expired");
            self.shared.meters.stale_sessions_expired.fetch_add(1, Ordering::Relaxed);
            self.close_session(now, session, out);
        }
    }

    /// Proposes the end of a session on the server's own account.
    pub(super) fn close_session(&mut self, now: Now, session: SessionId, out: &mut Vec<Output>) {
        let op = OpCode::CloseSession.code();
        let from = Requester { session, ..Requester::SERVER };
        let closed = self.propose(now, from, op, &[], out);
        assert!(closed.is_ok(), "a closeSession without a body always prepares");
    }

    pub(super) fn reap_containers(&mut self, now: Now, out: &mut Vec<Output>) {
        if now.mono_ms < self.next_reap_ms {
            return;
        }
        if self.reaping.is_empty() {
            let state = self.shared.state.read();
            self.reaping = oxkeeper_state::prepare::containers_to_reap(
                &state,
                now.wall_ms,
                self.config.prepare.reap_never_used_ms,
                self.config.prepare.extended_types,
            )
            .into();
        }
        // Spread evenly: at most so many a minute.
        if let Some(path) = self.reaping.pop_front() {
            let op = OpCode::DeleteContainer.code();
            // Refused if it got children meanwhile; then it stays, and no transaction is made.
            let _ = self.propose(now, Requester::SERVER, op, &path.to_bytes(), out);
        }
        let spacing_ms = 60_000 / u64::from(self.config.reap_per_minute.max(1));
        let wait_ms =
            if self.reaping.is_empty() { self.config.reap_interval_ms } else { spacing_ms };
        self.next_reap_ms = now.mono_ms + wait_ms.max(1);
    }
}

fn request_packet(request: Request<'_>, ids: Option<&[Id]>) -> Packet {
    let mut data = Vec::with_capacity(16 + request.body.len());
    request.encode(&mut data);
    Packet {
        kind: PacketKind::Request as i32,
        zxid: Zxid(-1),
        data: Some(data.into()),
        auth: ids.map(<[Id]>::to_vec),
    }
}
