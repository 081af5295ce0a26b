//! Where the checks of the client side look on: at steps of servers, at their proposals, at their
//! connections.

use oxkeeper_node::PortEvent;
use oxkeeper_proto::ids::session_password;
use oxkeeper_proto::quorum::{Packet, PacketKind, RevalidateRequest};
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{Decode, Epoch, OpCode, Reader, Zxid};
use oxkeeper_replica::Input;
use oxkeeper_zab::Proposal;

use crate::check::tree;
use crate::net::ConnId;
use crate::server::{Mail, Seen};
use crate::violation::{Rule, Violation};
use crate::world::World;

impl World<'_> {
    /// After each step of a server: what is committed becomes history.
    pub fn follow(
        &mut self,
        server: usize,
        before: Seen,
        seen: Seen,
        epoch: Epoch,
    ) -> Result<(), Violation> {
        let now_ms = self.clocks(server).mono_ms;
        let checks = &mut self.checks.clients;
        for entry in self.checks.deliveries.committed_since(checks.history.count()) {
            checks.commit(entry.zxid)?;
        }
        if before.serving && !seen.serving {
            checks.lives.serves_no_more(server);
        }
        if !seen.leads() {
            checks.epochs.remove(&server);
            checks.lives.leads_no_more(server);
            return Ok(());
        }
        if !before.leads() {
            let begin = Zxid::new(epoch, 0).0;
            checks.begin_to_lead(server, now_ms, begin);
            checks.epochs.insert(server, epoch);
            // What it has proposed in this very step.
            for payload in checks.history.logged_in(epoch) {
                checks.session_proposed(server, now_ms, &payload)?;
            }
            // Another may have led since without its knowing.
            if checks.history.between(begin, i64::MAX).is_empty() {
                self.compare_tree(server)?;
            }
        }
        self.follow_clock(server)
    }

    /// The same, of a server without others: what it has applied is committed.
    pub fn follow_alone(&mut self, server: usize, applied: Zxid) -> Result<(), Violation> {
        let checks = &mut self.checks.clients;
        for zxid in checks.history.logged_until(applied) {
            checks.commit(zxid)?;
        }
        self.follow_clock(server)
    }

    /// A server without others begins with a history that ends at `last`.
    pub fn follow_start_alone(&mut self, last: Zxid) -> Result<(), Violation> {
        let now_ms = self.clocks(0).mono_ms;
        let checks = &mut self.checks.clients;
        checks.history.forget_behind(last);
        for zxid in checks.history.logged_until(last) {
            checks.commit(zxid)?;
        }
        checks.begin_to_lead(0, now_ms, last.0);
        self.compare_tree(0)
    }

    /// A leader has looked at its clock.
    fn follow_clock(&mut self, server: usize) -> Result<(), Violation> {
        let now_ms = self.clocks(server).mono_ms;
        let Some(process) = &self.servers[server].process else { return Ok(()) };
        let applied = process.shared.state.read().last_zxid();
        let checks = &mut self.checks.clients;
        checks.stood.insert(server, applied.0);
        checks.lives.none_is_late(server, now_ms, self.plan.tick_ms)
    }

    /// A server that begins to lead has the tree that the history makes.
    fn compare_tree(&self, server: usize) -> Result<(), Violation> {
        let Some(process) = &self.servers[server].process else { return Ok(()) };
        let state = process.shared.state.read();
        match tree::difference(&state, &self.checks.clients.model) {
            None => Ok(()),
            Some(difference) => Err(Rule::CommittedHistory
                .broken(format!("s{} begins to lead, but {difference}", server + 1))),
        }
    }

    /// Is there still something that the leader should delete on its own account, and soon?
    pub fn is_reaping(&self) -> bool {
        let soon = self.plan.work.reap_interval_ms < 10_000;
        let leads = |server: &usize| {
            self.servers[*server].process.as_ref().is_some_and(|process| process.seen.leads())
        };
        soon && (0..self.servers.len()).filter(leads).any(|server| {
            let now_ms = self.clocks(server).wall_ms;
            self.checks.clients.model.overdue(now_ms).is_some()
        })
    }

    /// At the end every server has the tree that the history makes.
    pub fn check_trees(&self) -> Result<(), Violation> {
        for (index, server) in self.servers.iter().enumerate() {
            let Some(process) = &server.process else { continue };
            let state = process.shared.state.read();
            if let Some(difference) = tree::difference(&state, &self.checks.clients.model) {
                return Err(
                    Rule::Durability.broken(format!("at the end, at s{}: {difference}", index + 1))
                );
            }
        }
        Ok(())
    }

    /// A server hands a proposal to its disk.
    pub fn follow_proposal(&mut self, server: usize, proposal: &Proposal) -> Result<(), Violation> {
        let now = self.clocks(server);
        let checks = &mut self.checks.clients;
        checks.history.log(proposal.zxid, &proposal.payload);
        let leads = checks.epochs.get(&server) == Some(&proposal.zxid.epoch());
        if !leads && !self.plan.shape.is_standalone() {
            return Ok(());
        }
        let Some(process) = &self.servers[server].process else { return Ok(()) };
        let after = process.shared.state.read().last_zxid().0;
        let before = checks.stood.get(&server).copied().unwrap_or(after);
        checks.prepared_at.insert(proposal.zxid.0, (before, after));
        let Ok(Payload { header, .. }) = Payload::decode(&proposal.payload) else {
            return Ok(());
        };
        if header.time_ms != now.wall_ms {
            return Err(Rule::Semantics.broken(format!(
                "s{} proposes {} at {}, and says {}",
                server + 1,
                proposal.zxid,
                now.wall_ms,
                header.time_ms
            )));
        }
        checks.session_proposed(server, now.mono_ms, &proposal.payload)
    }

    /// A learner sends a packet to its leader.
    pub fn follow_packet(&mut self, server: usize, packet: &Packet) {
        let (incarnation, now) = (self.servers[server].incarnation, self.clocks(server));
        match packet.known_kind() {
            Some(PacketKind::Ping) => {}
            Some(PacketKind::Revalidate | PacketKind::Request) => {
                let lives = &mut self.checks.clients.lives;
                if let Some(session) = session_of(packet).or_else(|| new_session_of(packet)) {
                    lives.asks(server, incarnation, session);
                }
                return;
            }
            _ => return,
        }
        let Some(process) = &self.servers[server].process else { return };
        let Some(link) = process.port.leader() else { return };
        if self.conns.get(&link).is_some_and(|conn| conn.open[0]) {
            let clients = process.clients.values().map(|accepted| &accepted.client);
            let connected = clients.map(|client| (client.session(), client.heard_ms()));
            let lives = &mut self.checks.clients.lives;
            lives.reports(link, server, incarnation, now.mono_ms, connected);
        }
    }

    /// A server is about to handle this: what a leader learns of its sessions from it.
    pub fn follow_mail(&mut self, server: usize, mails: &[Mail]) {
        let now_ms = self.clocks(server).mono_ms;
        let lives = &mut self.checks.clients.lives;
        for mail in mails {
            match mail {
                Mail::Port { event: PortEvent::FromLearner(link, packets), .. } => {
                    for packet in packets {
                        match packet.known_kind() {
                            Some(PacketKind::Ping) => lives.report_arrives(*link, server, now_ms),
                            Some(PacketKind::Revalidate) => {
                                if let Some(session) = session_of(packet) {
                                    lives.touched(server, now_ms, session);
                                }
                            }
                            _ => {}
                        }
                    }
                }
                Mail::Input(Input::Connect { session, password, .. })
                    if *password == Some(session_password(*session)) =>
                {
                    lives.touched(server, now_ms, *session);
                }
                _ => {}
            }
        }
    }

    /// A server has taken these frames from a client's connection.
    pub fn follow_frames(&mut self, server: usize, conn: ConnId, session: i64, mut frames: &[u8]) {
        let mut sign_of_life = false;
        while let Some((len, rest)) = frames.split_first_chunk::<4>() {
            let (frame, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
            let mut reader = Reader::new(frame);
            let op = reader.int().and_then(|_| reader.int()).unwrap_or_default();
            sign_of_life |= ![OpCode::Auth.code(), OpCode::Sasl.code()].contains(&op);
            frames = rest;
        }
        if sign_of_life {
            let (incarnation, now) = (self.servers[server].incarnation, self.clocks(server));
            let lives = &mut self.checks.clients.lives;
            lives.heard(conn, server, incarnation, session, now.mono_ms);
        }
    }
}

/// Which session a learner asks about.
fn session_of(revalidate: &Packet) -> Option<i64> {
    if revalidate.known_kind() != Some(PacketKind::Revalidate) {
        return None;
    }
    let data = revalidate.data.as_deref().unwrap_or_default();
    RevalidateRequest::from_bytes(data).ok().map(|request| request.session)
}

/// Which session a learner asks its leader to create.
fn new_session_of(request: &Packet) -> Option<i64> {
    let mut reader = Reader::new(request.data.as_deref().unwrap_or_default());
    let session = reader.long().ok()?;
    let _cxid = reader.int().ok()?;
    (reader.int().ok()? == OpCode::CreateSession.code()).then_some(session)
}
