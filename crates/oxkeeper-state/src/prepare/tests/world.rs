//! A state with a leader's preparation in front of it.

use oxkeeper_proto::client::{
    AclEntry, CheckRequest, CreateRequest, CreateTtlRequest, DeleteRequest, Id, MultiHeader,
    SetAclRequest, SetDataRequest,
};
use oxkeeper_proto::txn::Payload;
use oxkeeper_proto::{Acl, Encode, OpCode, Stat, Zxid};

use crate::prepare::{Prepare, PrepareSettings, Prepared, SessionCheck, WriteRequest};
use crate::{NodeId, Outcome, State};

pub(super) const SESSION: i64 = 0x0100_0000_0000_0007;

/// `world:anyone` with these permissions, as a request has it.
pub(crate) fn anyone(perms: i32) -> Option<Vec<AclEntry<'static>>> {
    Some(vec![entry(perms, "world", "anyone")])
}

pub(crate) fn entry<'a>(perms: i32, scheme: &'a str, id: &'a str) -> AclEntry<'a> {
    AclEntry { perms, scheme: Some(scheme.into()), id: Some(id.into()) }
}

pub(crate) fn create(path: &str, data: Option<&[u8]>, flags: i32) -> Vec<u8> {
    create_with(path, data, anyone(31), flags)
}

pub(crate) fn create_with(
    path: &str,
    data: Option<&[u8]>,
    acl: Option<Vec<AclEntry<'_>>>,
    flags: i32,
) -> Vec<u8> {
    CreateRequest { path: path.into(), data, acl, flags }.to_bytes()
}

pub(crate) fn create_ttl(path: &str, flags: i32, ttl: i64) -> Vec<u8> {
    CreateTtlRequest { path: path.into(), data: None, acl: anyone(31), flags, ttl }.to_bytes()
}

pub(crate) fn delete(path: &str, version: i32) -> Vec<u8> {
    DeleteRequest { path: path.into(), version }.to_bytes()
}

pub(crate) fn set_data(path: &str, data: Option<&[u8]>, version: i32) -> Vec<u8> {
    SetDataRequest { path: path.into(), data, version }.to_bytes()
}

pub(crate) fn set_acl(path: &str, acl: Option<Vec<AclEntry<'_>>>, version: i32) -> Vec<u8> {
    SetAclRequest { path: path.into(), acl, version }.to_bytes()
}

pub(crate) fn check(path: &str, version: i32) -> Vec<u8> {
    CheckRequest { path: path.into(), version }.to_bytes()
}

pub(crate) fn multi(parts: &[(OpCode, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (op, part) in parts {
        MultiHeader { kind: op.code(), done: false, err: -1 }.encode(&mut body);
        body.extend_from_slice(part);
    }
    MultiHeader::END.encode(&mut body);
    body
}

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) prepare: Prepare,
    pub(crate) zxid: i64,
    pub(crate) time_ms: i64,
    pub(crate) ids: Vec<Id>,
}

impl World {
    pub(crate) fn new() -> World {
        World::with_settings(PrepareSettings { extended_types: true, ..Default::default() })
    }

    pub(crate) fn with_settings(settings: PrepareSettings) -> World {
        let state = State::new(1);
        let prepare = Prepare::new(&state, settings);
        let ids = vec![Id::new("ip", "127.0.0.1")];
        World { state, prepare, zxid: 0, time_ms: 1_000_000, ids }
    }

    /// Prepares the next transaction; the zxid is used up unless the request is refused.
    pub(crate) fn prepare(&mut self, session: i64, op: i32, body: &[u8]) -> Prepared {
        self.prepare_checked(session, op, body, SessionCheck::LIVE)
    }

    pub(crate) fn prepare_checked(
        &mut self,
        session: i64,
        op: i32,
        body: &[u8],
        check: SessionCheck,
    ) -> Prepared {
        self.time_ms += 10;
        let (zxid, time_ms, ids) = (Zxid(self.zxid + 1), self.time_ms, &self.ids);
        let request = WriteRequest { session, cxid: 1, op, body, ids, zxid, time_ms };
        let prepared = self.prepare.prepare_checked(&self.state, &request, check);
        if matches!(prepared, Prepared::Txn(_)) {
            self.zxid += 1;
        }
        prepared
    }

    pub(crate) fn apply(&mut self, payload: &[u8]) -> Outcome {
        let payload = Payload::decode(payload).unwrap();
        let outcome = self.state.apply(&payload, &mut (), true);
        assert_eq!(self.state.last_digest_mismatch(), None);
        outcome
    }

    /// Prepares and applies.
    pub(crate) fn run(&mut self, op: OpCode, body: &[u8]) -> Outcome {
        match self.prepare(SESSION, op.code(), body) {
            Prepared::Txn(payload) => self.apply(&payload),
            Prepared::Refused(code) => panic!("{op:?} was refused: {code}"),
        }
    }

    pub(crate) fn make(&mut self, path: &str) {
        let outcome = self.run(OpCode::Create, &create(path, Some(b""), 0));
        assert!(matches!(outcome, Outcome::Created { .. }), "{path}: {outcome:?}");
    }

    pub(crate) fn node(&self, path: &str) -> NodeId {
        self.state.tree.lookup(path).unwrap_or_else(|| panic!("{path} exists"))
    }

    pub(crate) fn stat(&self, path: &str) -> Stat {
        self.state.tree.stat(self.node(path))
    }

    pub(crate) fn acl(&self, path: &str) -> &[Acl] {
        self.state.acls.get(self.state.tree.acl(self.node(path))).unwrap()
    }
}
