//! What must hold for all servers, at every step and at the end.
//!
//! [`clients`] is about what clients see: the committed [`history`], the [`model`] of the tree that it makes,
//! and the replies, [`watches`] and sessions ([`lives`]) that follow from it.

pub mod attempt;
pub mod clients;
mod delivery;
mod follow;
mod health;
pub mod history;
pub mod lives;
pub mod model;
pub mod quota;
pub mod reads;
mod tree;
pub mod watches;

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_proto::quorum::{Packet, PacketKind, ServerState};
use oxkeeper_proto::{Encode, Epoch, ServerId, Zxid};
use oxkeeper_state::{State, Tree};
use oxkeeper_zab::DiskRequest;

use crate::check::clients::ClientChecks;
use crate::check::delivery::{Deliveries, Entry};
use crate::net::ConnId;
use crate::plan::Plan;
use crate::server::Seen;
use crate::violation::{Rule, Violation};
use crate::world::World;

/// What was observed so far.
#[derive(Debug, Default)]
pub struct Checks {
    /// What clients may see.
    pub clients: ClientChecks,
    /// What servers log and deliver.
    pub deliveries: Deliveries,
    /// Tree digest by zxid.
    digests: BTreeMap<i64, Digest>,
    /// Where the history of an epoch begins: last zxid of its leader.
    bases: BTreeMap<Epoch, Zxid>,
    /// Who served as leader of an epoch.
    leaders: BTreeMap<Epoch, (usize, u64)>,
    /// What was sent on each link to a learner.
    links: BTreeMap<ConnId, SentLast>,
    /// Largest zxid applied by a serving leader.
    committed: Zxid,
}

/// What a link to a learner has carried last.
#[derive(Clone, Copy, Debug, Default)]
struct SentLast {
    proposal: Zxid,
    commit: Zxid,
}

/// The first that was seen of a zxid.
#[derive(Clone, Copy, Debug)]
struct Digest {
    value: u64,
    server: usize,
}

impl Checks {
    /// Digest of the tree after this zxid.
    pub fn digest_at(&self, zxid: Zxid) -> Option<u64> {
        self.digests.get(&zxid.0).map(|digest| digest.value)
    }

    /// Nothing was observed yet.
    pub fn new(plan: &Plan) -> Checks {
        let mut checks = Checks::default();
        checks.clients.rules = plan.work.rules;
        checks.clients.history.begins_with(plan.shape.last_zxid.unwrap_or_default());
        checks
    }
}

impl World<'_> {
    /// A role asks its disk for something.
    pub fn check_request(&mut self, server: usize, request: &DiskRequest) -> Result<(), Violation> {
        match request {
            DiskRequest::Append(proposal) => {
                let entry = Entry::of(proposal);
                self.trace.mix(&[server as u64, entry.zxid.0 as u64, entry.hash]);
                self.checks.deliveries.appended(server, proposal)?;
                self.follow_proposal(server, proposal)?;
            }
            DiskRequest::SaveSnapshot => self.checks.deliveries.adopts(server),
            _ => {}
        }
        Ok(())
    }

    /// A server acknowledges to its leader.
    pub fn check_ack(&mut self, server: usize, packet: &Packet) -> Result<(), Violation> {
        if packet.known_kind() != Some(PacketKind::Ack) || packet.zxid.counter() == 0 {
            return Ok(());
        }
        let durable = self.servers[server].durable;
        if durable < packet.zxid {
            return Err(Rule::AckedIsDurable.broken(format!(
                "s{} acknowledges {}, but its disk has only {durable} for sure",
                server + 1,
                packet.zxid
            )));
        }
        Ok(())
    }

    /// A server without others begins with this history: what it has shown is still there. What it never
    /// showed may be gone, and its zxids may be given out again.
    pub fn check_standalone_start(&mut self, last: Zxid) -> Result<(), Violation> {
        let shown = self.checks.committed;
        if last < shown {
            return Err(Rule::Durability
                .broken(format!("the server has shown {shown}, and starts with {last}")));
        }
        self.checks.deliveries.forget_behind(last);
        self.follow_start_alone(last)
    }

    /// A leader sends a proposal to a learner: each link gets them in zxid order.
    pub fn check_proposal(
        &mut self,
        server: usize,
        link: ConnId,
        zxid: Zxid,
    ) -> Result<(), Violation> {
        let last = self.checks.links.entry(link).or_default();
        if zxid <= last.proposal {
            let before = last.proposal;
            return Err(Rule::LocalPrimaryOrder
                .broken(format!("s{} proposes {zxid} behind {before} on a link", server + 1)));
        }
        last.proposal = zxid;
        Ok(())
    }

    /// A leader sends something to a learner.
    pub fn check_to_learner(
        &mut self,
        server: usize,
        link: ConnId,
        packet: &Packet,
    ) -> Result<(), Violation> {
        let deliveries = &mut self.checks.deliveries;
        match packet.known_kind() {
            Some(PacketKind::NewLeader) => deliveries.announces(server, packet.zxid.epoch()),
            Some(PacketKind::UpToDate) => return deliveries.lets_serve(server),
            Some(PacketKind::Commit) => return self.check_commit(server, link, packet.zxid),
            _ => {}
        }
        Ok(())
    }

    /// COMMITs go out in zxid order, and only of what the link has carried.
    fn check_commit(&mut self, server: usize, link: ConnId, zxid: Zxid) -> Result<(), Violation> {
        let last = self.checks.links.entry(link).or_default();
        if zxid <= last.commit || last.proposal < zxid {
            return Err(Rule::TotalOrder.broken(format!(
                "s{} sends COMMIT {zxid} on a link that had COMMIT {} and PROPOSAL {}",
                server + 1,
                last.commit,
                last.proposal
            )));
        }
        last.commit = zxid;
        // It may leave its role in the same step, and then what it applies is no delivery any more.
        self.checks.deliveries.commits(server, zxid)
    }

    /// A server writes currentEpoch.
    pub fn check_current_epoch(&mut self, server: usize, epoch: Epoch) -> Result<(), Violation> {
        let durable = self.servers[server].durable;
        let Some(process) = &self.servers[server].process else { return Ok(()) };
        let leading = process.replica().zab().map(|zab| zab.state()) == Some(ServerState::Leading);
        let appended = process.queue.appended();
        if durable < appended {
            return Err(Rule::Epochs.broken(format!(
                "s{} saves currentEpoch {epoch} while {appended} is only durable to {durable}",
                server + 1
            )));
        }
        if leading {
            // Counter 0 is no transaction: the history is the one that epoch began with.
            let begin = self.checks.bases.get(&durable.epoch()).filter(|_| durable.counter() == 0);
            let base = begin.copied().unwrap_or(durable);
            self.checks.bases.insert(epoch, base);
            return Ok(());
        }
        match self.checks.bases.get(&epoch) {
            Some(base) if durable < *base => Err(Rule::Epochs.broken(format!(
                "s{} saves currentEpoch {epoch} before its history: durable {durable}, the epoch \
                 begins after {base}",
                server + 1
            ))),
            _ => Ok(()),
        }
    }

    /// After each run of a replica thread.
    pub fn check_server(&mut self, server: usize) -> Result<(), Violation> {
        let fuzzy_until = self.servers[server].fuzzy_until;
        let me = (server, self.servers[server].incarnation);
        let Some(process) = &mut self.servers[server].process else { return Ok(()) };
        let shared = process.shared.clone();
        let state = shared.state.read();
        // The state itself trusts its digest only once a record has confirmed it.
        let (zxid, digest, exact) = (state.last_zxid(), state.digest(), state.is_exact());
        if let Some(mismatch) = state.last_digest_mismatch() {
            return Err(
                Rule::Digest.broken(format!("s{}: digest mismatch {mismatch:?}", server + 1))
            );
        }
        let Some(zab) = process.replica().zab() else {
            process.seen = Seen { state: ServerState::Leading, serving: true };
            self.trace.mix(&[self.now, server as u64, zxid.0 as u64, digest]);
            let durable = self.servers[server].durable;
            self.checks.committed = self.checks.committed.max(zxid);
            if durable < zxid {
                return Err(Rule::AckedIsDurable
                    .broken(format!("the server shows {zxid}, and {durable} is on its disk")));
            }
            drop(state);
            return self.follow_alone(server, zxid);
        };
        let damaged = self.faults.damaged.contains(&me);
        if let Some(lost) = zab.last_loss().filter(|lost| lost.breaks_protocol() && !damaged) {
            return Err(
                Rule::Accusation.broken(format!("s{} has left its role: {lost}", server + 1))
            );
        }
        health::check_queues(server, zab, self.plan.shape.limits.queued_bytes)?;
        let serving = process.replica().is_serving();
        let seen = Seen { state: zab.state(), serving };
        let (epoch, applied) = (zab.epoch(), zab.applied());
        let loss = zab.last_loss().map(health::name_of);
        let before = std::mem::replace(&mut process.seen, seen);
        if before.state != ServerState::Looking
            && seen.state == ServerState::Looking
            && let Some(lost) = loss
        {
            self.summary.count_loss(lost);
            if [health::ZXIDS_USED_UP, health::TOO_MUCH_QUEUED].contains(&lost) {
                // Where an epoch has few of them, or a queue has room for few, nobody can expect much of a calm.
                self.faults.disturbed = self.now;
            }
        }
        self.trace.mix(&[self.now, server as u64, zxid.0 as u64, digest]);
        if serving && (exact || fuzzy_until <= zxid) {
            let known =
                *self.checks.digests.entry(zxid.0).or_insert(Digest { value: digest, server });
            if known.value != digest {
                return Err(Rule::Digest.broken(format!(
                    "at {zxid} s{} has digest {digest:x}, s{} has {:x}",
                    server + 1,
                    known.server + 1,
                    known.value
                )));
            }
        }
        drop(state);
        let deliveries = &mut self.checks.deliveries;
        match (before == seen, seen.leads()) {
            _ if !serving => deliveries.idle(server),
            (true, leads) => deliveries.delivers(server, applied, leads)?,
            (false, false) => deliveries.follows(server, applied)?,
            (false, true) => {
                deliveries.leads(server, epoch, applied)?;
                self.check_new_leader(server, epoch)?;
            }
        }
        self.follow(server, before, seen, epoch)?;
        if seen.leads() { self.check_committed(server, zxid) } else { Ok(()) }
    }

    fn check_new_leader(&mut self, server: usize, epoch: Epoch) -> Result<(), Violation> {
        self.note(|| format!("s{} leads epoch {epoch}", server + 1));
        self.summary.leaders += 1;
        let me = (server, self.servers[server].incarnation);
        if let Some(other) = self.checks.leaders.insert(epoch, me) {
            return Err(Rule::Leadership
                .broken(format!("epoch {epoch} has two leaders: {other:?} and {me:?}")));
        }
        Ok(())
    }

    fn check_committed(&mut self, server: usize, zxid: Zxid) -> Result<(), Violation> {
        if zxid <= self.checks.committed || zxid.counter() == 0 {
            return Ok(());
        }
        self.checks.committed = zxid;
        let durable = |id: ServerId| self.servers[(id - 1) as usize].told() >= zxid;
        if !self.plan.ensemble.is_quorum(durable) {
            let who: Vec<_> =
                self.plan.ensemble.servers.keys().filter(|id| durable(**id)).collect();
            return Err(Rule::AckedIsDurable.broken(format!(
                "s{} has committed {zxid}, but only {who:?} have it for sure: no quorum",
                server + 1
            )));
        }
        Ok(())
    }

    /// Is everything over and agreed?
    pub fn is_quiet(&self) -> bool {
        let mut zxids = BTreeSet::new();
        for server in &self.servers {
            let Some(process) = &server.process else { return false };
            let state = process.shared.state.read();
            if !process.replica().is_serving()
                || !process.queue.is_idle()
                || state.sessions().len() > 0
                || process.replica().outstanding_proposals() > 0
            {
                return false;
            }
            zxids.insert(state.last_zxid());
        }
        zxids.len() == 1 && !self.is_reaping()
    }

    /// For the message of a run that does not end.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (index, server) in self.servers.iter().enumerate() {
            let line = match &server.process {
                None => format!("s{} down; ", index + 1),
                Some(process) => {
                    let state = process.shared.state.read();
                    format!(
                        "s{} {:?} serving {} at {} with {} sessions, disk idle {}, outstanding {}; ",
                        index + 1,
                        process.seen.state,
                        process.replica().is_serving(),
                        state.last_zxid(),
                        state.sessions().len(),
                        process.queue.is_idle(),
                        process.replica().outstanding_proposals()
                    )
                }
            };
            text.push_str(&line);
        }
        text
    }

    /// What must hold when all is quiet.
    pub fn check_end(&mut self) -> Result<(), Violation> {
        self.check_trees()?;
        let mut first: Option<(u64, Vec<Vec<u8>>)> = None;
        for (index, server) in self.servers.iter().enumerate() {
            let Some(process) = &server.process else { continue };
            let state = process.shared.state.read();
            let id = index + 1;
            if state.ephemerals_count() > 0 {
                return Err(
                    Rule::Ephemerals.broken(format!("s{id}: ephemerals outlived their sessions"))
                );
            }
            let tree = dump(&state);
            let digest = state.digest();
            match &first {
                None => first = Some((digest, tree)),
                Some(first) if first.0 != digest => {
                    return Err(Rule::Digest
                        .broken(format!("s{id} ends with digest {digest:x}, s1 {:x}", first.0)));
                }
                Some(first) if first.1 != tree => {
                    return Err(
                        Rule::Digest.broken(format!("s{id} ends with another tree than s1"))
                    );
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// All of a tree: per node its path, data and stat.
fn dump(state: &State) -> Vec<Vec<u8>> {
    let mut nodes = Vec::with_capacity(state.tree.len());
    let mut open = vec![Tree::ROOT];
    while let Some(node) = open.pop() {
        let path = state.tree.path(node);
        // Each server writes the configuration itself.
        if path.starts_with("/zookeeper") {
            continue;
        }
        open.extend(state.tree.children(node).map(|(child, _)| child));
        let data = state.tree.data(node);
        let mut text = path.into_bytes();
        text.extend([0, u8::from(data.is_some())]);
        text.extend(data.unwrap_or_default());
        state.tree.persisted(node).encode(&mut text);
        nodes.push(text);
    }
    nodes.sort_unstable();
    nodes
}
