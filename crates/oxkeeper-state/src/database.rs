//! A data directory to a state: the snapshot, then the log.
//!
//! Source: `docs/spec/storage-formats.md` 7, 8.

use oxkeeper_proto::snapshot::{Database, DigestCheck, NodeRecord, SnapshotDigest, SnapshotSink};
use oxkeeper_proto::txn::{DIGEST_VERSION, Payload};
use oxkeeper_proto::{Acl, Zxid};

use crate::{Options, State, StateLoader};

/// What a data directory is loaded into.
#[derive(Debug)]
pub struct StateDatabase {
    seed: u64,
    options: Options,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// Nothing has come yet; a directory may have no snapshot.
    Empty,
    Loading(Box<StateLoader>),
    Loaded(Box<State>),
}

impl StateDatabase {
    /// Nothing. Arguments as in [`State::with_options`].
    pub fn new(seed: u64, options: Options) -> StateDatabase {
        StateDatabase { seed, options, stage: Stage::Empty }
    }

    /// The state, once the directory is loaded.
    pub fn into_state(self) -> State {
        match self.stage {
            Stage::Loaded(state) => *state,
            _ => State::with_options(self.seed, self.options),
        }
    }

    fn loader(&mut self) -> &mut StateLoader {
        if matches!(self.stage, Stage::Empty) {
            self.stage = Stage::Loading(Box::new(StateLoader::new(self.seed, self.options)));
        }
        match &mut self.stage {
            Stage::Loading(loader) => loader,
            _ => panic!("a snapshot's body comes before its end"),
        }
    }
}

impl SnapshotSink for StateDatabase {
    fn session(&mut self, id: i64, timeout_ms: i32) {
        self.loader().session(id, timeout_ms);
    }

    fn acl(&mut self, id: i64, acl: Vec<Acl>) {
        self.loader().acl(id, acl);
    }

    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), String> {
        self.loader().node(node)
    }
}

impl Database for StateDatabase {
    fn snapshot_loaded(
        &mut self,
        zxid: Zxid,
        digest: Option<SnapshotDigest>,
    ) -> Result<(), String> {
        let state = match std::mem::replace(&mut self.stage, Stage::Empty) {
            Stage::Loading(loader) => {
                let mut state = loader.finish(zxid)?;
                // zxid 0: no digest known; older than the name: a leader that has just begun.
                let known = digest.filter(|digest| {
                    digest.version == DIGEST_VERSION
                        && digest.zxid != Zxid::ZERO
                        && zxid <= digest.zxid
                });
                if let Some(digest) = known {
                    state.expect_digest(digest.zxid, digest.tree as u64);
                }
                state
            }
            _ => {
                let mut state = State::with_options(self.seed, self.options);
                state.set_last_zxid(zxid);
                state
            }
        };
        self.stage = Stage::Loaded(Box::new(state));
        Ok(())
    }

    fn apply(&mut self, payload: &Payload<'_>, _bytes: &[u8]) -> Result<DigestCheck, String> {
        match &mut self.stage {
            Stage::Loaded(state) => Ok(apply_and_compare(state, payload)),
            _ => Err("a transaction came before the snapshot was complete".to_owned()),
        }
    }
}

fn apply_and_compare(state: &mut State, payload: &Payload<'_>) -> DigestCheck {
    let exact_before = state.is_exact();
    state.apply(payload, &mut (), false);
    let digest = payload.digest.filter(|digest| digest.version == DIGEST_VERSION);
    match digest.filter(|_| state.digests_enabled()) {
        Some(digest) if digest.tree as u64 == state.digest() && state.is_exact() => {
            DigestCheck::Equal
        }
        // A tree that was not exact before says nothing when it differs.
        Some(_) if exact_before => DigestCheck::Unequal,
        _ => DigestCheck::NotCompared,
    }
}
