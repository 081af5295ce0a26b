//! Transactions: the payload of a log record and of a PROPOSAL, byte for byte the same.
//!
//! ```text
//! payload:  header (32 bytes)  record by type  [digest: version i32 = 2, tree digest i64]
//! ```
//!
//! Source: `docs/spec/storage-formats.md` 3. Payload bytes that arrived are logged and relayed
//! unchanged; this module is for making new ones and for reading what they say.

use std::borrow::Cow;

use crate::client::Acl;
use crate::jute::{Decode, DecodeError, Encode, Reader, put_int, put_string};
use crate::{OpCode, Zxid, records};

records! {
    /// Starts every transaction; 32 bytes.
    #[derive(Copy)]
    TxnHeader {
        /// Session of the requester; 0 for a deletion made by the server.
        client_id: i64,
        /// The client's request number; 0 for session creation, expiry, server-made.
        cxid: i32,
        zxid: i64,
        /// Leader's wall clock at preparation, ms since 1970.
        time_ms: i64,
        /// An [`OpCode`] number.
        kind: i32,
    }

    /// Tree digest after the transaction, as the leader predicted it. Absent after errors.
    #[derive(Copy)]
    TxnDigest { version: i32, tree: i64, }
}

/// Digest version of all supported peers.
pub const DIGEST_VERSION: i32 = 2;

/// What becomes of a created node's owner field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// A plain node.
    Persistent,
    /// Dies with its session (the header's client id).
    Ephemeral,
    /// Reaped once its last child is gone.
    Container,
    /// Reaped when it has no children and was not modified for `ttl_ms`.
    Ttl {
        /// 1 ..= 2^40 - 1.
        ttl_ms: i64,
    },
}

/// A create of any kind, sequential name already expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTxn<'a> {
    /// `Create`, `Create2`, `CreateContainer` or `CreateTtl`: the record's type number.
    pub op: OpCode,
    /// Full path.
    pub path: Cow<'a, str>,
    /// Null and empty differ.
    pub data: Option<&'a [u8]>,
    /// Expanded list.
    pub acl: Vec<Acl>,
    /// Owner by mode.
    pub mode: CreateMode,
    /// The parent's stored cversion after this create; -1 (very old logs): stored + 1.
    pub parent_cversion: i32,
}

/// One transaction's effect, as logged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Txn<'a> {
    Create(CreateTxn<'a>),
    /// `op` is `Delete` or `DeleteContainer`.
    Delete {
        op: OpCode,
        path: Cow<'a, str>,
    },
    /// `op` is `SetData` or `Reconfig`; `version` is the new one.
    SetData {
        op: OpCode,
        path: Cow<'a, str>,
        data: Option<&'a [u8]>,
        version: i32,
    },
    /// `version` is the new aversion.
    SetAcl {
        path: Cow<'a, str>,
        acl: Vec<Acl>,
        version: i32,
    },
    /// Only inside a multi (a top-level one is refused as [`DecodeError::BadValue`]).
    Check {
        path: Cow<'a, str>,
        version: i32,
    },
    /// Sub-transactions share header and zxid. If any is [`Txn::Error`], nothing is applied.
    Multi(Vec<Txn<'a>>),
    CreateSession {
        timeout_ms: i32,
    },
    /// `paths`: the ephemerals deleted; `None` in logs of servers that write no list.
    CloseSession {
        paths: Option<Vec<Cow<'a, str>>>,
    },
    /// A failed request. Changes nothing but the zxid.
    Error(i32),
}

impl<'a> Txn<'a> {
    /// The type number of the record.
    pub fn kind(&self) -> i32 {
        match self {
            Txn::Create(create) => create.op.code(),
            Txn::Delete { op, .. } | Txn::SetData { op, .. } => op.code(),
            Txn::SetAcl { .. } => OpCode::SetAcl.code(),
            Txn::Check { .. } => OpCode::Check.code(),
            Txn::Multi(_) => OpCode::Multi.code(),
            Txn::CreateSession { .. } => OpCode::CreateSession.code(),
            Txn::CloseSession { .. } => OpCode::CloseSession.code(),
            Txn::Error(_) => OpCode::Error.code(),
        }
    }

    fn decode_record(r: &mut Reader<'a>, kind: i32, nested: bool) -> Result<Txn<'a>, DecodeError> {
        let at = r.position();
        let bad = Err(DecodeError::BadValue { what: "transaction type", value: kind.into(), at });
        let Some(op) = OpCode::from_code(kind) else { return bad };
        Ok(match op {
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                Txn::Create(CreateTxn::decode(r, op)?)
            }
            OpCode::Delete | OpCode::DeleteContainer => Txn::Delete { op, path: r.string()? },
            OpCode::SetData => {
                Txn::SetData { op, path: r.string()?, data: r.buffer()?, version: r.int()? }
            }
            OpCode::Reconfig if !nested => {
                Txn::SetData { op, path: r.string()?, data: r.buffer()?, version: r.int()? }
            }
            OpCode::SetAcl if !nested => Txn::SetAcl {
                path: r.string()?,
                acl: r.opt_vec()?.unwrap_or_default(),
                version: r.int()?,
            },
            OpCode::Check if nested => Txn::Check { path: r.string()?, version: r.int()? },
            OpCode::Multi if !nested => Txn::Multi(Txn::decode_multi(r)?),
            OpCode::CreateSession if !nested => Txn::CreateSession { timeout_ms: r.int()? },
            OpCode::CloseSession if !nested => {
                Txn::CloseSession { paths: decode_close_session(r)? }
            }
            OpCode::Error => Txn::Error(r.int()?),
            _ => return bad,
        })
    }

    fn decode_multi(r: &mut Reader<'a>) -> Result<Vec<Txn<'a>>, DecodeError> {
        let count = r.count(8)?.unwrap_or(0);
        let mut txns = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let kind = r.int()?;
            let at = r.position();
            let record = r.buffer()?.ok_or(DecodeError::Null { at })?;
            txns.push(Txn::decode_record(&mut Reader::new(record), kind, true)?);
        }
        Ok(txns)
    }

    /// Appends the record (no header, no digest).
    pub fn encode_record(&self, out: &mut Vec<u8>) {
        match self {
            Txn::Create(create) => create.encode(out),
            Txn::Delete { path, .. } => path.encode(out),
            Txn::SetData { path, data, version, .. } => {
                path.encode(out);
                data.encode(out);
                version.encode(out);
            }
            Txn::SetAcl { path, acl, version } => {
                path.encode(out);
                acl.encode(out);
                version.encode(out);
            }
            Txn::Check { path, version } => {
                path.encode(out);
                version.encode(out);
            }
            Txn::Multi(txns) => {
                put_int(out, txns.len() as i32);
                for txn in txns {
                    put_int(out, txn.kind());
                    crate::client::put_frame(out, |out| txn.encode_record(out));
                }
            }
            Txn::CreateSession { timeout_ms } => timeout_ms.encode(out),
            Txn::CloseSession { paths } => {
                if let Some(paths) = paths {
                    paths.encode(out);
                }
            }
            Txn::Error(code) => code.encode(out),
        }
    }
}

impl<'a> CreateTxn<'a> {
    fn decode(r: &mut Reader<'a>, op: OpCode) -> Result<CreateTxn<'a>, DecodeError> {
        let path = r.string()?;
        let data = r.buffer()?;
        let acl = r.opt_vec()?.unwrap_or_default();
        let (mode, parent_cversion) = match op {
            OpCode::CreateContainer => (CreateMode::Container, r.int()?),
            OpCode::CreateTtl => {
                let parent_cversion = r.int()?;
                (CreateMode::Ttl { ttl_ms: r.long()? }, parent_cversion)
            }
            _ => {
                let mode = if r.bool()? { CreateMode::Ephemeral } else { CreateMode::Persistent };
                // Very old servers wrote type 1 without the last field.
                let old = op == OpCode::Create && r.remaining() < 4;
                (mode, if old { -1 } else { r.int()? })
            }
        };
        Ok(CreateTxn { op, path, data, acl, mode, parent_cversion })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, &self.path);
        self.data.encode(out);
        self.acl.encode(out);
        match self.mode {
            CreateMode::Container => self.parent_cversion.encode(out),
            CreateMode::Ttl { ttl_ms } => {
                self.parent_cversion.encode(out);
                ttl_ms.encode(out);
            }
            mode => {
                (mode == CreateMode::Ephemeral).encode(out);
                self.parent_cversion.encode(out);
            }
        }
    }
}

/// What follows a closeSession header is a path list, a digest, both or neither
/// (`docs/spec/storage-formats.md` 3.4). Leaves a digest unread.
fn decode_close_session<'a>(r: &mut Reader<'a>) -> Result<Option<Vec<Cow<'a, str>>>, DecodeError> {
    let rest = r.rest();
    // A 12-byte path list is (count 1, length 4, 4 bytes); a digest starts with its version, 2.
    let digest_only = rest.len() == 12 && rest[..4] == DIGEST_VERSION.to_be_bytes();
    if rest.is_empty() || (digest_only && Vec::<Cow<'a, str>>::from_bytes(rest).is_err()) {
        return Ok(None);
    }
    r.opt_vec().map(|paths| Some(paths.unwrap_or_default()))
}

/// A decoded log payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// Who asked, when, and the zxid.
    pub header: TxnHeader,
    /// What changes.
    pub txn: Txn<'a>,
    /// Tree digest after it, if the leader sent one.
    pub digest: Option<TxnDigest>,
}

impl<'a> Payload<'a> {
    /// Appends header, record and digest.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.txn.encode_record(out);
        if let Some(digest) = self.digest {
            digest.encode(out);
        }
    }

    /// Reads a payload. Bytes beyond the digest are ignored.
    pub fn decode(buf: &'a [u8]) -> Result<Payload<'a>, DecodeError> {
        let mut r = Reader::new(buf);
        let header = TxnHeader::decode(&mut r)?;
        let txn = Txn::decode_record(&mut r, header.kind, false)?;
        let digest = if r.remaining() >= 12 { Some(TxnDigest::decode(&mut r)?) } else { None };
        Ok(Payload { header, txn, digest })
    }
}

/// The zxid of a payload, without decoding the rest.
pub fn payload_zxid(payload: &[u8]) -> Result<Zxid, DecodeError> {
    TxnHeader::from_bytes(payload).map(|header| Zxid(header.zxid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roundtrip(txn: Txn<'_>, digest: Option<TxnDigest>) {
        let header = TxnHeader { client_id: 7, cxid: 3, zxid: 9, time_ms: 5, kind: txn.kind() };
        let payload = Payload { header, txn, digest };
        let mut bytes = Vec::new();
        payload.encode(&mut bytes);
        assert_eq!(Payload::decode(&bytes).unwrap(), payload);
    }

    #[test]
    fn a_close_session_tells_its_list_from_its_digest() {
        let digest = Some(TxnDigest { version: 2, tree: 0x51c6_d660 });
        for digest in [None, digest] {
            roundtrip(Txn::CloseSession { paths: None }, digest);
            roundtrip(Txn::CloseSession { paths: Some(vec!["/abc".into()]) }, digest);
            roundtrip(Txn::CloseSession { paths: Some(vec![]) }, digest);
        }
    }

    #[test]
    fn a_multi_keeps_its_parts() {
        roundtrip(
            Txn::Multi(vec![
                Txn::Check { path: "/a".into(), version: 1 },
                Txn::Delete { op: OpCode::Delete, path: "/a".into() },
                Txn::Error(-2),
            ]),
            None,
        );
    }

    #[test]
    fn a_top_level_check_is_refused() {
        let header = TxnHeader { client_id: 0, cxid: 0, zxid: 1, time_ms: 0, kind: 13 };
        let mut bytes = header.to_bytes();
        bytes.extend([0, 0, 0, 2, b'/', b'a', 0, 0, 0, 0]);
        assert!(matches!(
            Payload::decode(&bytes),
            Err(DecodeError::BadValue { what: "transaction type", value: 13, .. })
        ));
    }
}
