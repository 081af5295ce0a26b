//! What the Zab state machine tells the replica: roles begin and end, learners forward requests.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use oxkeeper_proto::client::Id;
use oxkeeper_proto::quorum::{
    Packet, PacketKind, Request, RevalidateReply, RevalidateRequest, decode_touches, put_touch,
};
use oxkeeper_proto::{Decode, Encode, OpCode, Zxid};
use oxkeeper_state::State;
use oxkeeper_state::prepare::{Prepare, SessionCheck};
use oxkeeper_zab::{DiskRequest, Effect, LinkId, PortRequest};

use super::clients::Requester;
use super::{Mode, Now, Output, Replica, Revalidating};
use crate::session::Owner;

impl Replica {
    pub(super) fn on_zab(&mut self, now: Now, input: oxkeeper_zab::Input, out: &mut Vec<Output>) {
        if let Mode::Solo(solo) = &mut self.mode {
            if let oxkeeper_zab::Input::Flushed(zxid) = input {
                self.to_apply.extend(solo.flushed(zxid));
            }
            return;
        }
        if let oxkeeper_zab::Input::FromLeader(packet) = &input {
            let meters = &self.shared.meters;
            let (proposals, commits) = match packet.known_kind() {
                Some(PacketKind::Proposal) => (1, 0),
                Some(PacketKind::Commit) => (0, 1),
                Some(PacketKind::Inform) => (1, 1),
                _ => (0, 0),
            };
            if proposals > 0 {
                meters.learner_proposal_received_count.fetch_add(proposals, Ordering::Relaxed);
            }
            if commits > 0 {
                meters.learner_commit_received_count.fetch_add(commits, Ordering::Relaxed);
            }
        }
        self.zab_input(now, input, out);
    }

    pub(super) fn zab_input(
        &mut self,
        now: Now,
        input: oxkeeper_zab::Input,
        out: &mut Vec<Output>,
    ) {
        let Mode::Ensemble(zab) = &mut self.mode else { return };
        let mut zab_out = std::mem::take(&mut self.zab_out);
        zab.handle(now.mono_ms, input, &mut zab_out);
        self.note_election(now);
        self.perform(zab_out, now, out);
    }

    /// Carries out what concerns the tree and the clients; passes the rest on, in order.
    pub(super) fn perform(
        &mut self,
        mut zab_out: Vec<oxkeeper_zab::Output>,
        now: Now,
        out: &mut Vec<Output>,
    ) {
        use oxkeeper_zab::Output as Z;
        for output in zab_out.drain(..) {
            match output {
                Z::Replica(effect) => self.effect(effect, now, out),
                Z::Election(request) => out.push(Output::Election(request)),
                Z::ReadLog(read) => out.push(Output::ReadLog(read)),
                Z::Port(request) => {
                    if let PortRequest::SnapshotToLearner(_) = request {
                        // It reads the tree: what was committed before must be in it.
                        self.apply_committed(now);
                        self.stream_state = self.shared.state_id();
                    }
                    out.push(Output::Port(request));
                }
                Z::Disk(request) => {
                    if let DiskRequest::SaveSnapshot = request {
                        // It reads the tree: what was committed before must be in it.
                        self.apply_committed(now);
                    }
                    out.push(Output::Disk(request));
                }
            }
        }
        // Keep the capacity for the next call, unless a nested one has put its own back.
        if self.zab_out.capacity() < zab_out.capacity() {
            self.zab_out = zab_out;
        }
    }

    fn effect(&mut self, effect: Effect, now: Now, out: &mut Vec<Output>) {
        match effect {
            Effect::Apply(proposal) => self.to_apply.push(proposal),
            Effect::AdoptSnapshot(zxid) => {
                self.apply_committed(now);
                let mut state =
                    self.received.take().expect("a snapshot is adopted once it was received");
                state.set_last_zxid(zxid);
                self.replace_state(*state);
            }
            Effect::StartServing { epoch, leading } => {
                self.apply_committed(now);
                self.start_serving(now, Some(epoch), leading);
            }
            Effect::StopServing => {
                self.apply_committed(now);
                self.stop_serving(now);
            }
            Effect::SyncDone => {
                self.apply_committed(now);
                if let Some(sync) = self.syncs.pop_front() {
                    let state = self.shared.state.read();
                    sync.client.complete_sync(&self.shared, &state, now.mono_ms);
                    Self::queue_wake(&mut self.woken, &sync.client);
                }
            }
            Effect::Forwarded { link, data, auth } => {
                self.on_forwarded(now, link, &data, &auth, out);
            }
            Effect::Revalidate { link, data } => self.on_revalidate(now, link, &data, out),
            Effect::Touched { touches, .. } => {
                for (session, timeout_ms) in decode_touches(&touches) {
                    self.tracker.touch(session, Some(timeout_ms), now.mono_ms);
                }
            }
            Effect::Pinged(zxid) => {
                let touches = self.touches(now);
                self.zab_input(now, oxkeeper_zab::Input::PingReply { zxid, touches }, out);
            }
            Effect::Revalidated(data) => self.on_revalidated(now, &data),
        }
    }

    pub(super) fn replace_state(&mut self, state: State) {
        let old = {
            let mut current = self.shared.state.write();
            self.shared.next_state_id();
            std::mem::replace(&mut *current, state)
        };
        // Freeing a large tree takes a while: not under the lock.
        drop(old);
        self.to_apply.clear();
    }

    /// A role is established. A standalone server has no epoch, and leads.
    pub(super) fn start_serving(&mut self, now: Now, epoch: Option<u32>, leading: bool) {
        {
            let mut state = self.shared.state.write();
            // Everything of earlier epochs is here. A client that was at the leader before may have
            // seen this zxid already.
            if let Some(epoch) = epoch {
                let start = Zxid::new(epoch, 0).max(state.last_zxid());
                state.set_last_zxid(start);
            }
            if let Some((text, version)) = &self.config.config_node {
                state.set_config_node(text.as_bytes(), *version, now.wall_ms, &mut ());
            }
            if leading {
                state.remove_orphan_ephemerals();
                self.tracker.reset(state.sessions(), now.mono_ms);
                self.next_reap_ms = now.mono_ms + self.config.reap_interval_ms;
            } else {
                self.tracker.reset(std::iter::empty(), now.mono_ms);
            }
            self.prepare = Prepare::new(&state, self.config.prepare.clone());
        }
        self.touched_ms = now.mono_ms;
        self.serving = true;
        self.shared.set_serving_since(now.mono_ms);
        if epoch.is_some() {
            self.measure_start(now, leading);
        }
        let for_peers_only = leading && epoch.is_some() && !self.config.leader_serves;
        self.shared.set_serving(!for_peers_only);
    }

    /// How long clients of this member had to wait for it.
    fn measure_start(&self, now: Now, leading: bool) {
        let meters = &self.shared.meters;
        let unavailable_ms = now.mono_ms.saturating_sub(self.unavailable_since_ms);
        meters.unavailable_time.record(unavailable_ms);
        let sync_ms = now.mono_ms.saturating_sub(self.elected_ms);
        match self.mode_name() {
            _ if leading => meters.leader_unavailable_time.record(unavailable_ms),
            Some("observer") => meters.observer_sync_time.record(sync_ms),
            _ => meters.follower_sync_time.record(sync_ms),
        }
    }

    fn stop_serving(&mut self, now: Now) {
        if self.serving {
            self.unavailable_since_ms = now.mono_ms;
        }
        self.serving = false;
        self.shared.set_serving(false);
        for (_, client) in std::mem::take(&mut self.clients) {
            client.close();
            Self::queue_wake(&mut self.woken, &client);
        }
        self.sessions.clear();
        self.in_flight.clear();
        self.syncs.clear();
        self.revalidating.clear();
        self.departed.clear();
        self.reaping.clear();
        self.next_reap_ms = u64::MAX;
        self.tracker.reset(std::iter::empty(), 0);
    }

    /// A learner sent a client's request.
    fn on_forwarded(
        &mut self,
        now: Now,
        link: LinkId,
        data: &Bytes,
        auth: &[Id],
        out: &mut Vec<Output>,
    ) {
        let Ok(request) = Request::decode(data) else {
            tracing::warn!(link, "a learner sent a REQUEST that is too short; dropped");
            return;
        };
        let (session, cxid) = (request.session, request.cxid);
        let owner = Owner::Learner(link);
        let mut check = SessionCheck::LIVE;
        if request.op == OpCode::CreateSession.code() {
            let timeout_ms = i32::from_bytes(request.body).unwrap_or(0);
            self.tracker.insert(session, timeout_ms, Some(owner), now.mono_ms);
        } else if let Err(code) = self.tracker.check(session, owner) {
            check = SessionCheck::failed(code);
        } else if request.op == OpCode::CloseSession.code() {
            self.tracker.set_closing(session);
        }
        let from = Requester { session, cxid, ids: auth, check };
        if let Err(code) = self.propose(now, from, request.op, request.body, out) {
            // The learner waits for a transaction with this session and cxid.
            self.propose_error(now, session, cxid, code, out);
        }
    }

    /// A learner asks whether a session that turned to it still lives.
    fn on_revalidate(&mut self, now: Now, link: LinkId, data: &Bytes, out: &mut Vec<Output>) {
        let Ok(request) = RevalidateRequest::from_bytes(data) else {
            tracing::warn!(link, "a learner sent a REVALIDATE that is too short; dropped");
            return;
        };
        self.shared.meters.revalidate_count.fetch_add(1, Ordering::Relaxed);
        let session = request.session;
        let valid = self.tracker.touch(session, Some(request.timeout_ms), now.mono_ms);
        if valid {
            self.tracker.set_owner(session, Owner::Learner(link));
            // The client has left this server, if it was here.
            self.let_go(session);
        }
        let reply = RevalidateReply { session, valid }.to_bytes();
        let packet = Packet::with(PacketKind::Revalidate, Zxid(-1), reply);
        self.zab_input(now, oxkeeper_zab::Input::ToLearner(link, packet), out);
    }

    /// The leader's answer for a client that wants to resume its session here.
    fn on_revalidated(&mut self, now: Now, data: &Bytes) {
        let Ok(reply) = RevalidateReply::from_bytes(data) else { return };
        let Some(waiting) = self.revalidating.remove(&reply.session) else { return };
        let mut waiting = waiting.into_iter();
        let Some(Revalidating { client, timeout_ms }) = waiting.next() else { return };
        let rest: Vec<_> = waiting.collect();
        if !rest.is_empty() {
            // Each asked; each gets an answer of its own.
            self.revalidating.insert(reply.session, rest);
        }
        if reply.valid {
            self.let_go(reply.session);
            self.establish(now, &client, reply.session, timeout_ms);
        } else {
            self.refuse(&client);
        }
    }

    /// Sessions heard since the last report, as a PING reply carries them.
    fn touches(&mut self, now: Now) -> Bytes {
        let mut data = Vec::new();
        for (session, timeout_ms) in self.departed.drain(..) {
            put_touch(&mut data, session, timeout_ms);
        }
        for (session, client) in &self.sessions {
            // One ms of overlap: a request in the very ms of the last report is not lost.
            if self.touched_ms <= client.heard_ms() + 1 {
                put_touch(&mut data, *session, client.timeout_ms());
            }
        }
        self.touched_ms = now.mono_ms;
        data.into()
    }
}
