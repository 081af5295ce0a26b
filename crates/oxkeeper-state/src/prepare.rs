//! Request to transaction: the leader's checks, against the state plus everything that is proposed but
//! not applied yet.
//!
//! This is the only place where a write can fail. A request that fails still becomes a transaction (an
//! error, or a multi that failed) and uses its zxid; only what cannot be parsed is refused without one.
//! The order of the checks decides which error a client sees; it is the reference's.
//! Source: `docs/spec/client-protocol.md` 7 to 9, 11, 14; `docs/spec/storage-formats.md` 3, 9.

mod attempt;
mod create;
mod overlay;
mod parse;
mod reap;

use oxkeeper_proto::client::Id;
use oxkeeper_proto::txn::{DIGEST_VERSION, Payload, Txn, TxnDigest, TxnHeader};
use oxkeeper_proto::{ErrorCode, OpCode, SessionId, Zxid};

use crate::State;
use crate::auth::AuthSettings;
use attempt::Attempt;
use overlay::Overlay;
pub use parse::parses;
use parse::{Operation, parse};
pub use reap::containers_to_reap;

/// Rules that a leader prepares requests by. The same on every server of an ensemble.
#[derive(Clone, Debug)]
pub struct PrepareSettings {
    /// Schemes, super user, `skipACL`.
    pub auth: AuthSettings,
    /// `extendedTypesEnabled`: may nodes with a time to live be created?
    pub extended_types: bool,
    /// `enforceQuota`: do hard limits refuse writes?
    pub enforce_quota: bool,
    /// Predict the tree digest and send it along. Needs a state that keeps one.
    pub digests: bool,
    /// Write a create2 inside a multi as a create: members older than 3.8.2 lose what follows it
    /// (`docs/spec/quorum-protocol.md` 18, trap 1). The reply degrades to that of a create.
    pub multi_create2_as_create: bool,
    /// A standalone server with `reconfigEnabled=true`: it answers a reconfig with `Unimplemented`,
    /// where others say that it is disabled.
    pub nothing_to_reconfigure: bool,
    /// `znode.container.maxNeverUsedIntervalMs`: a container that never had a child may be reaped when
    /// it is older than this, in ms; 0: never. Must be what [`containers_to_reap`] is given.
    pub reap_never_used_ms: i64,
}

impl Default for PrepareSettings {
    fn default() -> Self {
        PrepareSettings {
            auth: AuthSettings::default(),
            extended_types: false,
            enforce_quota: false,
            digests: true,
            multi_create2_as_create: false,
            nothing_to_reconfigure: false,
            reap_never_used_ms: 0,
        }
    }
}

/// A request to turn into a transaction.
#[derive(Clone, Copy, Debug)]
pub struct WriteRequest<'a> {
    /// Session of the requester; 0 for the server itself.
    pub session: SessionId,
    /// The client's request number; 0 for session creation, expiry, server-made.
    pub cxid: i32,
    /// An [`OpCode`] number, as the client sent it.
    pub op: i32,
    /// The request's record.
    pub body: &'a [u8],
    /// Identities of the requester.
    pub ids: &'a [Id],
    /// Of the transaction to be made.
    pub zxid: Zxid,
    /// The leader's wall clock, in ms since 1970.
    pub time_ms: i64,
}

/// What the session tracker says about the requester. Asked for at the place in the order of checks
/// where the reference asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionCheck {
    /// May the session write here? Else `SessionExpired` or `SessionMoved`.
    pub any: Result<(), ErrorCode>,
    /// May it own ephemeral nodes? Else also `EphemeralOnLocalSession`.
    pub ephemeral: Result<(), ErrorCode>,
}

impl SessionCheck {
    /// A live global session, or the server itself.
    pub const LIVE: SessionCheck = SessionCheck { any: Ok(()), ephemeral: Ok(()) };

    /// A session that may do nothing.
    pub fn failed(code: ErrorCode) -> SessionCheck {
        SessionCheck { any: Err(code), ephemeral: Err(code) }
    }
}

/// A prepared request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared {
    /// Payload of a proposal: header, record, digest. It uses the zxid and must be proposed.
    Txn(Vec<u8>),
    /// No transaction, no zxid used: the body cannot be parsed (`MarshallingError`), the operation is
    /// no write (`Unimplemented`; close the connection), or there is nothing to reap any more.
    Refused(ErrorCode),
}

/// The state as it will be when all proposals are applied, and the rules.
#[derive(Debug)]
pub struct Prepare {
    overlay: Overlay,
    settings: PrepareSettings,
}

impl Prepare {
    /// Nothing is proposed beyond `state`.
    pub fn new(state: &State, settings: PrepareSettings) -> Prepare {
        Prepare { overlay: Overlay::new(state), settings }
    }

    /// The rules.
    pub fn settings(&self) -> &PrepareSettings {
        &self.settings
    }

    /// Changes a rule; holds for requests prepared from here on.
    pub fn settings_mut(&mut self) -> &mut PrepareSettings {
        &mut self.settings
    }

    /// Transactions up to `zxid` are applied to the state that later calls are given.
    pub fn applied(&mut self, zxid: Zxid) {
        self.overlay.applied(zxid);
    }

    /// Prepares a request of a live session.
    pub fn prepare(&mut self, state: &State, request: &WriteRequest<'_>) -> Prepared {
        self.prepare_checked(state, request, SessionCheck::LIVE)
    }

    /// Prepares a request of a session that was checked. Zxids must ascend.
    pub fn prepare_checked(
        &mut self,
        state: &State,
        request: &WriteRequest<'_>,
        session: SessionCheck,
    ) -> Prepared {
        self.overlay.settle(state);
        let operation = match parse(request.op, request.body) {
            Ok(operation) => operation,
            Err(code) => return Prepared::Refused(code),
        };
        let reaping = matches!(operation, Operation::DeleteContainer { .. });
        let settings = &self.settings;
        let overlay = &mut self.overlay;
        let mut attempt = Attempt { overlay, state, request, settings, session, acl_bytes: 0 };
        let prepared = attempt.operation(operation);
        match prepared {
            Ok(txn) => Prepared::Txn(self.payload(state, request, txn)),
            Err(code) if reaping => Prepared::Refused(code),
            Err(code) => Prepared::Txn(self.payload(state, request, Txn::Error(code.code()))),
        }
    }

    /// The payload of a request that failed before it could be prepared.
    pub fn error(
        &self,
        session: SessionId,
        cxid: i32,
        zxid: Zxid,
        time_ms: i64,
        code: ErrorCode,
    ) -> Vec<u8> {
        let kind = OpCode::Error.code();
        let header = TxnHeader { client_id: session, cxid, zxid: zxid.0, time_ms, kind };
        let mut payload = Vec::with_capacity(36);
        Payload { header, txn: Txn::Error(code.code()), digest: None }.encode(&mut payload);
        payload
    }

    /// Encodes the transaction, with the digest that the tree will have after it.
    fn payload(&self, state: &State, request: &WriteRequest<'_>, txn: Txn<'_>) -> Vec<u8> {
        let header = TxnHeader {
            client_id: request.session,
            cxid: request.cxid,
            zxid: request.zxid.0,
            time_ms: request.time_ms,
            kind: txn.kind(),
        };
        let wanted =
            self.settings.digests && state.digests_enabled() && !matches!(txn, Txn::Error(_));
        let digest = wanted
            .then(|| TxnDigest { version: DIGEST_VERSION, tree: self.overlay.digest() as i64 });
        // A transaction is about as long as its request.
        let mut payload = Vec::with_capacity(request.body.len() + 96);
        Payload { header, txn, digest }.encode(&mut payload);
        payload
    }
}

#[cfg(test)]
mod tests;
