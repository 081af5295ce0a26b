//! Bodies of write requests, decoded.

use std::borrow::Cow;

use oxkeeper_proto::client::{AclEntry, DeleteContainerRequest, MultiHeader};
use oxkeeper_proto::{Decode, DecodeError, ErrorCode, OpCode, Reader};

/// A create of any kind, as asked for.
#[derive(Debug)]
pub(super) struct Create<'a> {
    pub(super) op: OpCode,
    /// `None`: null, which fails late with -5.
    pub(super) path: Option<Cow<'a, str>>,
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
        /// `None`: null, which fails late with -5.
        path: Option<Cow<'a, str>>,
        version: i32,
    },
    DeleteContainer {
        path: Cow<'a, str>,
    },
    SetData {
        /// `None`: null, which alone is as bad as an empty path.
        path: Option<Cow<'a, str>>,
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
        /// `None`: null, which no multi that is prepared has.
        path: Option<Cow<'a, str>>,
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

impl Operation<'_> {
    /// Of those that may stand in a multi.
    fn has_null_path(&self) -> bool {
        matches!(
            self,
            Operation::Create(Create { path: None, .. })
                | Operation::Delete { path: None, .. }
                | Operation::SetData { path: None, .. }
                | Operation::Check { path: None, .. }
        )
    }
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
        OpCode::Multi => match parse_multi(&mut r) {
            Err(Spoiled::NullAcl) => return Err(ErrorCode::MarshallingError),
            parsed => Ok(parsed.unwrap_or(Operation::BadMulti)),
        },
        OpCode::SetAcl => parse_set_acl(&mut r),
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
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            parse_create(r, op)
        }
        OpCode::Delete => parse_delete(r),
        OpCode::SetData => parse_set_data(r),
        OpCode::Check => parse_check(r),
        _ => return None,
    })
}

// These records are read field by field: a null path is no error of the format in the reference, it
// fails later, with its zxid used.

fn parse_create<'a>(r: &mut Reader<'a>, op: OpCode) -> Result<Operation<'a>, DecodeError> {
    Ok(Operation::Create(Create {
        op,
        path: r.opt_string()?,
        data: r.buffer()?,
        acl: r.opt_vec()?,
        flags: r.int()?,
        ttl_ms: if op == OpCode::CreateTtl { r.long()? } else { -1 },
    }))
}

fn parse_delete<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, DecodeError> {
    Ok(Operation::Delete { path: r.opt_string()?, version: r.int()? })
}

fn parse_set_data<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, DecodeError> {
    Ok(Operation::SetData { path: r.opt_string()?, data: r.buffer()?, version: r.int()? })
}

fn parse_check<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, DecodeError> {
    Ok(Operation::Check { path: r.opt_string()?, version: r.int()? })
}

/// A null path is as bad as an empty one.
fn parse_set_acl<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, DecodeError> {
    let path = r.opt_string()?.unwrap_or_default();
    Ok(Operation::SetAcl { path, acl: r.opt_vec()?, version: r.int()? })
}

/// Why a multi as a whole fails with -5.
enum Spoiled {
    /// It cannot be read, or holds what it must not, such as a null path. Uses a zxid.
    Malformed,
    /// The reference's decoder stumbles over a null ACL before it takes a zxid.
    NullAcl,
}

fn parse_multi<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, Spoiled> {
    let mut parts = Vec::new();
    let (mut null_path, mut reads) = (false, false);
    loop {
        let header = MultiHeader::decode(r).map_err(|_| Spoiled::Malformed)?;
        if header.done {
            // The reference looks at all paths before it tries the first part.
            let spoiled = null_path || reads;
            return if spoiled { Err(Spoiled::Malformed) } else { Ok(Operation::Multi(parts)) };
        }
        let op = OpCode::from_code(header.kind).ok_or(Spoiled::Malformed)?;
        // The reference's decoder takes reads as well; it is their mixture with writes that stops it, once
        // it has read the second kind.
        if parts.is_empty() && matches!(op, OpCode::GetData | OpCode::GetChildren) {
            r.opt_string().and_then(|_| r.bool()).map_err(|_| Spoiled::Malformed)?;
            reads = true;
            continue;
        }
        let part = parse_part(r, op).ok_or(Spoiled::Malformed)?;
        let mut part = part.map_err(|_| Spoiled::Malformed)?;
        if let Operation::Create(create) = &mut part {
            settle_in_multi(create)?;
        }
        if reads {
            return Err(Spoiled::Malformed);
        }
        null_path |= part.has_null_path();
        parts.push(part);
    }
}

/// Inside a multi the reference takes flags differently than outside (as tried with 3.9.5): flag 4 makes a
/// container of any create; createTTL with a flag that is not about a time to live is a plain create. In
/// other creates an unknown flag, a null ACL and the flag of a TTL spoil the whole request, in this order.
fn settle_in_multi(create: &mut Create<'_>) -> Result<(), Spoiled> {
    if create.op != OpCode::CreateTtl {
        match create.flags {
            0..=6 if create.acl.is_none() => return Err(Spoiled::NullAcl),
            0..=4 => {}
            _ => return Err(Spoiled::Malformed),
        }
    }
    match (create.op, create.flags) {
        (OpCode::CreateTtl, 5 | 6) => {}
        (_, 4) => (create.op, create.ttl_ms) = (OpCode::CreateContainer, -1),
        (OpCode::CreateTtl, _) => (create.op, create.ttl_ms) = (OpCode::Create, -1),
        _ => {}
    }
    Ok(())
}

fn parse_reconfig<'a>(r: &mut Reader<'a>) -> Result<Operation<'a>, DecodeError> {
    for _ in 0..3 {
        r.opt_string()?;
    }
    r.long()?;
    Ok(Operation::Reconfig)
}
