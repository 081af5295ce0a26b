//! Bodies of write requests, decoded.

use std::borrow::Cow;

use oxkeeper_proto::client::{
    AclEntry, CheckRequest, CreateRequest, CreateTtlRequest, DeleteContainerRequest, DeleteRequest,
    MultiHeader, SetAclRequest, SetDataRequest,
};
use oxkeeper_proto::{Decode, DecodeError, ErrorCode, OpCode, Reader};

/// A create of any kind, as asked for.
#[derive(Debug)]
pub(super) struct Create<'a> {
    pub(super) op: OpCode,
    pub(super) path: Cow<'a, str>,
    pub(super) data: Option<&'a [u8]>,
    pub(super) acl: Option<Vec<AclEntry<'a>>>,
    pub(super) flags: i32,
    /// -1 unless the request was a createTTL.
    pub(super) ttl_ms: i64,
}

/// A decoded write request.
#[derive(Debug)]
pub(super) enum Operation<'a> {
    Create(Create<'a>),
    Delete {
        path: Cow<'a, str>,
        version: i32,
    },
    DeleteContainer {
        path: Cow<'a, str>,
    },
    SetData {
        path: Cow<'a, str>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    SetAcl {
        path: Cow<'a, str>,
        acl: Option<Vec<AclEntry<'a>>>,
        version: i32,
    },
    /// Only inside a multi.
    Check {
        path: Cow<'a, str>,
        version: i32,
    },
    Multi(Vec<Operation<'a>>),
    /// A multi that cannot be parsed or holds what it must not. Unlike other such requests it uses a
    /// zxid.
    BadMulti,
    Reconfig,
    CreateSession {
        timeout_ms: i32,
    },
    CloseSession,
}

/// Does the body of a write parse? A learner answers -5 itself when it does not, as the leader would
/// make no transaction of it. Any multi does: the leader makes a transaction of every one.
pub fn parses(op: i32, body: &[u8]) -> bool {
    !matches!(parse(op, body), Err(ErrorCode::MarshallingError))
}

/// Decodes a request. `Unimplemented`: no write.
pub(super) fn parse(op: i32, body: &[u8]) -> Result<Operation<'_>, ErrorCode> {
    let op = OpCode::from_code(op).ok_or(ErrorCode::Unimplemented)?;
    let mut r = Reader::new(body);
    let operation = match op {
        OpCode::Multi => Ok(parse_multi(&mut r).unwrap_or(Operation::BadMulti)),
        OpCode::SetAcl => SetAclRequest::decode(&mut r)
            .map(|SetAclRequest { path, acl, version }| Operation::SetAcl { path, acl, version }),
        OpCode::DeleteContainer => DeleteContainerRequest::decode(&mut r)
            .map(|DeleteContainerRequest { path }| Operation::DeleteContainer { path }),
        OpCode::Reconfig => parse_reconfig(&mut r),
        OpCode::CreateSession => r.int().map(|timeout_ms| Operation::CreateSession { timeout_ms }),
        OpCode::CloseSession => Ok(Operation::CloseSession),
        OpCode::Check => return Err(ErrorCode::Unimplemented),
        _ => parse_part(&mut r, op).ok_or(ErrorCode::Unimplemented)?,
    };
    operation.map_err(|_| ErrorCode::MarshallingError)
}

/// An operation that may stand alone as well as (check: only) in a multi.
fn parse_part<'a>(r: &mut Reader<'a>, op: OpCode) -> Option<Result<Operation<'a>, DecodeError>> {
    Some(match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer => {
            CreateRequest::decode(r).map(|CreateRequest { path, data, acl, flags }| {
                Operation::Create(Create { op, path, data, acl, flags, ttl_ms: -1 })
            })
        }
        OpCode::CreateTtl => {
            CreateTtlRequest::decode(r).map(|CreateTtlRequest { path, data, acl, flags, ttl }| {
                Operation::Create(Create { op, path, data, acl, flags, ttl_ms: ttl })
            })
        }
        OpCode::Delete => DeleteRequest::decode(r)
            .map(|DeleteRequest { path, version }| Operation::Delete { path, version }),
        OpCode::SetData => {
            SetDataRequest::decode(r).map(|SetDataRequest { path, data, version }| {
                Operation::SetData { path, data, version }
            })
        }
        OpCode::Check => CheckRequest::decode(r)
            .map(|CheckRequest { path, version }| Operation::Check { path, version }),
        _ => return None,
    })
}

fn parse_multi<'a>(r: &mut Reader<'a>) -> Option<Operation<'a>> {
    let mut parts = Vec::new();
    loop {
        let header = MultiHeader::decode(r).ok()?;
        if header.done {
            return Some(Operation::Multi(parts));
        }
        let mut part = parse_part(r, OpCode::from_code(header.kind)?)?.ok()?;
        if let Operation::Create(create) = &mut part {
            settle_in_multi(create)?;
        }
        parts.push(part);
    }
}

/// Inside a multi the reference takes flags differently than outside (as tried with 3.9.5): flag 4 makes a
/// container of any create; createTTL with a flag that is not about a time to live is a plain create; and
/// a flag that is unknown or of a TTL spoils the whole request (`None`), except in createTTL.
fn settle_in_multi(create: &mut Create<'_>) -> Option<()> {
    match (create.op, create.flags) {
        (OpCode::CreateTtl, 5 | 6) => {}
        (_, 4) => (create.op, create.ttl_ms) = (OpCode::CreateContainer, -1),
        (OpCode::CreateTtl, _) => (create.op, create.ttl_ms) = (OpCode::Create, -1),
        (_, 0..=3) => {}
        _ => return None,
    }
    Some(())
}

fn parse_reconfig<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, DecodeError> {
    for _ in 0..3 {
        r.opt_string()?;
    }
    r.long()?;
    Ok(Operation::Reconfig)
}
