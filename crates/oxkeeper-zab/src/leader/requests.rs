//! What learners and local clients ask a leader that serves.
//!
//! Source: `docs/spec/quorum-protocol.md` 13.

use oxkeeper_proto::quorum::{Packet, PacketKind, Request};
use oxkeeper_proto::{OpCode, Zxid};

use super::link::{Link, Stage};
use super::{Leader, MAX_SYNCS, Sync, SyncFor};
use crate::core::Core;
use crate::error::Misbehaved;
use crate::{Effect, LinkId, Output};

impl Leader {
    pub(super) fn on_request(
        &mut self,
        core: &Core,
        id: LinkId,
        packet: Packet,
        out: &mut Vec<Output>,
    ) -> Result<(), Misbehaved> {
        let data = packet.data.unwrap_or_default();
        let request = Request::decode(&data)
            .map_err(|error| Misbehaved::Malformed { packet: "REQUEST", error })?;
        if request.op == OpCode::Sync.code() {
            if MAX_SYNCS <= self.syncs.len() {
                return Err(Misbehaved::TooManySyncs(MAX_SYNCS));
            }
            self.sync(core, SyncFor::Link(id), out);
        } else {
            let auth = packet.auth.unwrap_or_default();
            out.push(Output::Replica(Effect::Forwarded { link: id, data, auth }));
        }
        Ok(())
    }

    /// A sync of a local client.
    pub fn local_sync(&mut self, core: &Core, out: &mut Vec<Output>) {
        self.sync(core, SyncFor::Local, out);
    }

    /// Done once everything proposed so far is committed and on its way to whoever asks, and a quorum is
    /// known to have followed this leader not longer than a tick ago: until then nobody else can have
    /// committed anything that this leader does not know. Else the quorum is asked; if it answers no more,
    /// the role ends.
    pub(super) fn sync(&mut self, core: &Core, who: SyncFor, out: &mut Vec<Output>) {
        let fresh_ms = core.now_ms.saturating_sub(core.config.tick_ms);
        let fresh = self.followed_by_quorum(core, fresh_ms, who);
        let since_ms = if fresh { fresh_ms } else { core.now_ms };
        let after = self.outstanding.back().map_or(self.committed, |last| last.zxid);
        self.syncs.push_back(Sync { after, since_ms, who });
        let pause_ms = core.config.tick_ms / 4;
        if !fresh && self.asked_ms.is_none_or(|asked_ms| asked_ms + pause_ms < core.now_ms) {
            self.ask(core, out);
        }
        self.answer_syncs(core, out);
    }

    fn ask(&mut self, core: &Core, out: &mut Vec<Output>) {
        self.asked_ms = Some(core.now_ms);
        self.ping(core, out);
    }

    /// An answer has come: those who asked since the question need another one, all of them the same.
    pub(super) fn ask_again(&mut self, core: &Core, out: &mut Vec<Output>) {
        let waits = |sync: &Sync| {
            self.asked_ms < Some(sync.since_ms)
                && !self.followed_by_quorum(core, sync.since_ms, sync.who)
        };
        if self.syncs.front().is_some_and(waits) {
            self.ask(core, out);
        }
    }

    pub(super) fn answer_syncs(&mut self, core: &Core, out: &mut Vec<Output>) {
        while let Some(Sync { after, since_ms, who }) = self.syncs.front().copied() {
            if self.committed < after || !self.followed_by_quorum(core, since_ms, who) {
                return;
            }
            self.syncs.pop_front();
            Self::sync_done(who, out);
        }
    }

    /// Is a quorum, this server included, known to have followed it at or after that time? Whoever asks did
    /// when it sent its question, which is later than what its client wants to see.
    fn followed_by_quorum(&self, core: &Core, ms: u64, who: SyncFor) -> bool {
        let me = core.config.me;
        core.config.ensemble.is_quorum(|id| {
            let followed = |(link, learner): (&LinkId, &Link)| {
                let asks = matches!(who, SyncFor::Link(asking) if asking == *link);
                learner.server == Some(id) && (asks || learner.followed_since(ms))
            };
            id == me || self.links.iter().any(followed)
        })
    }

    pub(super) fn ping(&mut self, core: &Core, out: &mut Vec<Output>) {
        let ping = Packet::bare(PacketKind::Ping, self.proposed);
        for (id, link) in self.links.iter_mut().filter(|(_, link)| link.forwards()) {
            assert!(link.server.is_some(), "who is synchronized has introduced itself");
            link.pinged(self.proposed, core.now_ms);
            out.push(Output::to_learner(*id, ping.clone()));
        }
    }

    pub(super) fn sync_done(sync: SyncFor, out: &mut Vec<Output>) {
        match sync {
            SyncFor::Local => out.push(Output::Replica(Effect::SyncDone)),
            SyncFor::Link(id) => {
                out.push(Output::to_learner(id, Packet::bare(PacketKind::Sync, Zxid::ZERO)));
            }
        }
    }

    /// A packet that the replica made for a learner.
    pub fn to_learner(&self, id: LinkId, packet: Packet, out: &mut Vec<Output>) {
        if self.links.get(&id).is_some_and(|link| link.stage == Stage::UpToDate) {
            out.push(Output::to_learner(id, packet));
        }
    }
}
