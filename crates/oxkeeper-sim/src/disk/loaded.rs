//! What a start must find.
//!
//! A disk that kept its promises holds all that it told durable, and no more is said to be lost. After
//! damage a start may say that acknowledged transactions are gone, or refuse; but what it gives is the
//! history as it was, never less without a word.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use oxkeeper_node::{LoadedState, load_state};
use oxkeeper_proto::Zxid;

use crate::disk::trust::{HarmKind, UnderWay};
use crate::violation::{Rule, Violation};
use crate::world::World;

impl World<'_> {
    /// A start has loaded its directory.
    pub fn check_loaded(&mut self, server: usize, loaded: &LoadedState) -> Result<(), Violation> {
        let last = loaded.history.last_zxid.max(Zxid::ZERO);
        let me = &self.servers[server];
        let told = me.trust.harm.as_ref().map_or(me.durable, |harm| harm.told.max(me.durable));
        let enough = told <= last
            || match me.trust.under_way {
                None => false,
                Some(UnderWay::Down(zxid)) => zxid <= last,
                Some(UnderWay::Adoption(zxid)) => last == zxid,
            };
        let lost = loaded.history.lost_tail;
        let whom = format!("s{}", server + 1);
        match (me.trust.harm.as_ref().map(|harm| harm.kind), lost) {
            (None | Some(HarmKind::Lying), Some(to)) => {
                return Err(Rule::Storage.broken(format!(
                    "{whom} says that it has lost what follows {last} up to {to}; its disk has lost nothing"
                )));
            }
            (None | Some(HarmKind::Lying | HarmKind::Damaged), None) if !enough => {
                return Err(Rule::Storage.broken(format!(
                    "{whom} loads only {last} without a word, and {told} was durable"
                )));
            }
            _ => {}
        }
        self.check_history(server, loaded)?;
        let harmed = self.servers[server].trust.harm.is_some();
        if lost.is_some() {
            self.summary.count_disk("lost tail told");
        } else if harmed {
            self.summary.count_disk("loaded after harm");
        }
        let me = &mut self.servers[server];
        me.durable = last;
        if let Some(harm) = &mut me.trust.harm {
            // What it acknowledged until it ended counts, whatever it has now.
            harm.told = told;
        }
        let interrupted = me.trust.under_way.take().is_some();
        if let Some(harm) = me.trust.harm.as_mut().filter(|_| interrupted && lost.is_none()) {
            // It was to go.
            harm.told = harm.told.min(last);
        }
        Ok(())
    }

    /// Names are durable in any order on a disk that lies about everything, so that it may keep files of two
    /// histories. A start counts that their digests do not fit (`digest_mismatches_count`), and the operator
    /// replaces the disk.
    pub fn is_mixture(&mut self, server: usize, loaded: &LoadedState) -> bool {
        let trust = &mut self.servers[server].trust;
        let forgot = trust.harm.as_ref().is_some_and(|harm| harm.kind == HarmKind::Forgot);
        if !forgot || loaded.state.last_digest_mismatch().is_none() {
            return false;
        }
        trust.given_up = true;
        self.summary.count_disk("files of two histories told");
        true
    }

    /// What was loaded is what was proposed, and the tree is the one that all others have there.
    fn check_history(&self, server: usize, loaded: &LoadedState) -> Result<(), Violation> {
        let whom = format!("s{}", server + 1);
        for proposal in &loaded.history.recent {
            let mut hasher = DefaultHasher::new();
            proposal.payload.hash(&mut hasher);
            if self.checks.deliveries.hash_of(proposal.zxid) != Some(hasher.finish()) {
                return Err(Rule::Storage
                    .broken(format!("{whom} loads a {} that nobody proposed", proposal.zxid)));
            }
        }
        if let Some(mismatch) = loaded.state.last_digest_mismatch() {
            return Err(
                Rule::Storage.broken(format!("{whom} loads a wrong tree: digest {mismatch:?}"))
            );
        }
        let (last, digest) = (loaded.state.last_zxid(), loaded.state.digest());
        match self.checks.digest_at(last).filter(|_| loaded.state.is_exact()) {
            Some(known) if known != digest => Err(Rule::Storage.broken(format!(
                "{whom} loads a wrong tree: digest {digest:x} at {last}, others have {known:x}"
            ))),
            _ => Ok(()),
        }
    }

    /// Would a start find everything now?
    pub fn loads_whole(&self, server: usize) -> Result<bool, Violation> {
        let me = &self.servers[server];
        let settings = self.store_settings().load;
        let Ok(loaded) = load_state(&me.disk.copy(), &settings, &|_| {}) else { return Ok(false) };
        let whole = me.durable <= loaded.history.last_zxid && loaded.history.lost_tail.is_none();
        if whole {
            self.check_history(server, &loaded)?;
        }
        Ok(whole)
    }
}
