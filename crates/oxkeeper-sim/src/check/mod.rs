//! What must hold for all servers, at every step and at the end.

mod delivery;
mod health;

use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_proto::quorum::{Packet, PacketKind, ServerState};
use oxkeeper_proto::{Encode, Epoch, ServerId, Zxid};
use oxkeeper_state::{State, Tree};
use oxkeeper_zab::DiskRequest;

use crate::check::delivery::{Deliveries, Entry};
use crate::net::ConnId;
use crate::server::Seen;
use crate::violation::{Rule, Violation};
use crate::world::World;

/// What was observed so far.
#[derive(Debug, Default)]
pub struct Checks {
    /// Largest zxid acknowledged to a client.
    pub max_acked: i64,
    /// Acknowledged nodes that nobody deletes, and their data.
    pub kept: BTreeMap<String, String>,
    /// Ids given out.
    pub sessions: BTreeSet<i64>,
    /// Sessions that a client knows to be over.
    pub dead_sessions: BTreeSet<i64>,
    /// The common nodes are there.
    pub setup_done: bool,
    /// Data of the shared registers by zxid of the write.
    shared: BTreeMap<(String, i64), String>,
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
    /// `path` had `value` after the write `mzxid`.
    pub fn shared_value(
        &mut self,
        path: &str,
        mzxid: i64,
        value: &str,
        written: bool,
    ) -> Result<(), Violation> {
        let known = self.shared.entry((path.to_owned(), mzxid)).or_insert_with(|| value.to_owned());
        if known == value {
            return Ok(());
        }
        let what = if written { "written" } else { "read" };
        Err(Rule::Semantics
            .broken(format!("{path} at {mzxid:#x}: {value:?} was {what}, but it is {known:?}")))
    }

    fn missing(&self, state: &State) -> Option<String> {
        for (path, value) in &self.kept {
            let Some(node) = state.tree.lookup(path) else {
                return Some(format!("the acknowledged node {path} is missing"));
            };
            if state.tree.data(node) != Some(value.as_bytes()) {
                return Some(format!("the acknowledged node {path} has other data"));
            }
        }
        None
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
        Ok(())
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

    /// A leader sends a COMMIT to a learner: in zxid order, and only of what the link has carried.
    pub fn check_commit(
        &mut self,
        server: usize,
        link: ConnId,
        packet: &Packet,
    ) -> Result<(), Violation> {
        if packet.known_kind() != Some(PacketKind::Commit) {
            return Ok(());
        }
        let zxid = packet.zxid;
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
            return match zxid <= durable {
                true => Ok(()),
                false => Err(Rule::AckedIsDurable
                    .broken(format!("the server shows {zxid}, and {durable} is on its disk"))),
            };
        };
        if let Some(lost) = zab.last_loss().filter(|lost| lost.breaks_protocol()) {
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
        if !serving {
            deliveries.idle(server);
            return Ok(());
        }
        match (before == seen, seen.leads()) {
            (true, leads) => deliveries.delivers(server, applied, leads)?,
            (false, false) => deliveries.follows(server, applied)?,
            (false, true) => {
                deliveries.leads(server, epoch, applied)?;
                self.check_new_leader(server, epoch)?;
            }
        }
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
        let Some(process) = &self.servers[server].process else { return Ok(()) };
        let state = process.shared.state.read();
        if let Some(missing) = self.checks.missing(&state) {
            return Err(Rule::CommittedHistory
                .broken(format!("s{} leads epoch {epoch}, but {missing}", server + 1)));
        }
        Ok(())
    }

    fn check_committed(&mut self, server: usize, zxid: Zxid) -> Result<(), Violation> {
        if zxid <= self.checks.committed || zxid.counter() == 0 {
            return Ok(());
        }
        self.checks.committed = zxid;
        let durable = |id: ServerId| self.servers[(id - 1) as usize].durable >= zxid;
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
        zxids.len() == 1
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
        let mut first: Option<(u64, Vec<Vec<u8>>)> = None;
        for (index, server) in self.servers.iter().enumerate() {
            let Some(process) = &server.process else { continue };
            let state = process.shared.state.read();
            let id = index + 1;
            if let Some(missing) = self.checks.missing(&state) {
                return Err(Rule::Durability.broken(format!("at the end {missing} at s{id}")));
            }
            if state.ephemerals_count() > 0 {
                return Err(
                    Rule::Ephemerals.broken(format!("s{id}: ephemerals outlived their sessions"))
                );
            }
            check_pairs(&state)?;
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

/// Each multi created both nodes or none.
fn check_pairs(state: &State) -> Result<(), Violation> {
    let Some(parent) = state.tree.lookup("/m") else { return Ok(()) };
    let names: BTreeSet<_> = state.tree.children(parent).map(|(_, name)| name.to_owned()).collect();
    for name in &names {
        let (stem, end) = name.split_at(name.len() - 1);
        let other = if end == "a" { "b" } else { "a" };
        if !names.contains(&format!("{stem}{other}")) {
            return Err(Rule::Semantics.broken(format!("half of a multi: /m/{name}")));
        }
    }
    Ok(())
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
