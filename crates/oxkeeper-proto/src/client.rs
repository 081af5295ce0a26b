//! The client port's messages: headers, requests, replies, codes.
//!
//! Source: `docs/spec/client-protocol.md` 2 to 6 and 9. Requests borrow from the frame they came in.

use std::borrow::Cow;

use crate::jute::{Decode, DecodeError, Encode, Reader, put_int, put_java_string, put_long};
use crate::{Zxid, records};

/// `xid` of a notification.
pub const XID_NOTIFICATION: i32 = -1;
/// `xid` of a ping and its reply.
pub const XID_PING: i32 = -2;
/// `xid` of an auth packet.
pub const XID_AUTH: i32 = -4;
/// `xid` of setWatches and setWatches2.
pub const XID_SET_WATCHES: i32 = -8;

macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:expr,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i32)]
        pub enum $name { $($(#[$vmeta])* $variant = $value,)* }

        impl $name {
            /// The code with this number, if there is one.
            pub fn from_code(code: i32) -> Option<Self> {
                match code { $(v if v == $value => Some($name::$variant),)* _ => None }
            }
            /// The number on the wire.
            pub fn code(self) -> i32 { self as i32 }
        }
    };
}

codes! {
    /// Operation numbers (`docs/spec/client-protocol.md` 4).
    #[allow(missing_docs)]
    OpCode {
        Create = 1, Delete = 2, Exists = 3, GetData = 4, SetData = 5, GetAcl = 6, SetAcl = 7,
        GetChildren = 8, Sync = 9, Ping = 11, GetChildren2 = 12, Check = 13, Multi = 14,
        Create2 = 15, Reconfig = 16, CheckWatches = 17, RemoveWatches = 18, CreateContainer = 19,
        DeleteContainer = 20, CreateTtl = 21, MultiRead = 22, Auth = 100, SetWatches = 101,
        Sasl = 102, GetEphemerals = 103, GetAllChildrenNumber = 104, SetWatches2 = 105,
        AddWatch = 106, WhoAmI = 107, CreateSession = -10, CloseSession = -11, Error = -1,
    }
}

codes! {
    /// Error numbers (`docs/spec/client-protocol.md` 6).
    #[derive(thiserror::Error)]
    #[allow(missing_docs)]
    ErrorCode {
        #[error("ok")] Ok = 0,
        #[error("an earlier operation of the multi failed")] RuntimeInconsistency = -2,
        #[error("request cannot be parsed")] MarshallingError = -5,
        #[error("operation is not implemented")] Unimplemented = -6,
        #[error("bad arguments")] BadArguments = -8,
        #[error("unknown session")] UnknownSession = -12,
        #[error("no quorum of the new configuration is connected")] NewConfigNoQuorum = -13,
        #[error("another reconfiguration is running")] ReconfigInProgress = -14,
        #[error("node does not exist")] NoNode = -101,
        #[error("not authorized")] NoAuth = -102,
        #[error("version does not match")] BadVersion = -103,
        #[error("ephemeral nodes cannot have children")] NoChildrenForEphemerals = -108,
        #[error("node exists")] NodeExists = -110,
        #[error("node has children")] NotEmpty = -111,
        #[error("session expired")] SessionExpired = -112,
        #[error("invalid ACL")] InvalidAcl = -114,
        #[error("authentication failed")] AuthFailed = -115,
        #[error("session moved to another server")] SessionMoved = -118,
        #[error("server is read-only")] NotReadOnly = -119,
        #[error("ephemeral node on a local session")] EphemeralOnLocalSession = -120,
        #[error("no such watch")] NoWatcher = -121,
        #[error("reconfiguration is disabled")] ReconfigDisabled = -123,
        #[error("session closed: authentication required")] SessionClosedRequireAuth = -124,
        #[error("quota exceeded")] QuotaExceeded = -125,
        #[error("operation was throttled")] ThrottledOp = -127,
    }
}

/// Permission bits of an ACL entry (`docs/spec/client-protocol.md` 11.1).
pub mod perms {
    /// Read data, list children.
    pub const READ: i32 = 1;
    /// Set data.
    pub const WRITE: i32 = 2;
    /// Create children.
    pub const CREATE: i32 = 4;
    /// Delete children.
    pub const DELETE: i32 = 8;
    /// Set the ACL.
    pub const ADMIN: i32 = 16;
    /// All of them.
    pub const ALL: i32 = 31;
}

records! {
    /// Who: a scheme and an id within it, for example (`digest`, `user:hash`) or (`ip`, `10.0.0.1`).
    #[derive(Hash, PartialOrd, Ord)]
    Id { scheme: String, id: String, }

    /// One entry of a stored ACL.
    #[derive(Hash, PartialOrd, Ord)]
    Acl {
        /// Bits of [`perms`]; bits outside the mask are stored as given.
        perms: i32,
        id: Id,
    }

    /// An ACL entry as a client sends it: scheme and id may be null.
    AclEntry<'a> { perms: i32, scheme: Option<Cow<'a, str>>, id: Option<Cow<'a, str>>, }

    /// What a client sees of a znode besides its data; 68 bytes.
    #[derive(Copy, Default)]
    Stat {
        czxid: i64, mzxid: i64, ctime: i64, mtime: i64, version: i32,
        /// 2 x children ever created - children now.
        cversion: i32,
        aversion: i32,
        /// Session id of an ephemeral node, else 0 (also for container and TTL nodes).
        ephemeral_owner: i64,
        data_length: i32, num_children: i32, pzxid: i64,
    }

    /// Precedes the body of every client request.
    #[derive(Copy)]
    RequestHeader {
        /// Chosen by the client, echoed in the reply.
        xid: i32,
        /// An [`OpCode`], or anything else a client may have sent.
        op: i32,
    }

    /// Precedes the body of every reply, 16 bytes; `err` other than 0 means no body.
    #[derive(Copy)]
    ReplyHeader { xid: i32, zxid: i64, err: i32, }

    /// Body of create, create2 and createContainer.
    CreateRequest<'a> {
        path: Cow<'a, str>, data: Option<&'a [u8]>, acl: Option<Vec<AclEntry<'a>>>, flags: i32,
    }
    /// Body of createTTL.
    CreateTtlRequest<'a> {
        path: Cow<'a, str>, data: Option<&'a [u8]>, acl: Option<Vec<AclEntry<'a>>>, flags: i32,
        ttl: i64,
    }
    /// Body of delete.
    DeleteRequest<'a> { path: Cow<'a, str>, version: i32, }
    /// Body of deleteContainer (the reference has a buffer here; the layout is the same).
    DeleteContainerRequest<'a> { path: Cow<'a, str>, }
    /// Body of exists, getData, getChildren, getChildren2.
    ReadRequest<'a> { path: Cow<'a, str>, watch: bool, }
    /// Body of setData.
    SetDataRequest<'a> { path: Cow<'a, str>, data: Option<&'a [u8]>, version: i32, }
    /// Body of getACL, sync, getEphemerals, getAllChildrenNumber.
    PathRequest<'a> { path: Cow<'a, str>, }
    /// Body of setACL.
    SetAclRequest<'a> { path: Cow<'a, str>, acl: Option<Vec<AclEntry<'a>>>, version: i32, }
    /// Body of check (only inside multi).
    CheckRequest<'a> { path: Cow<'a, str>, version: i32, }
    /// Body of setWatches.
    SetWatchesRequest<'a> {
        relative_zxid: i64, data: Vec<Cow<'a, str>>, exist: Vec<Cow<'a, str>>,
        child: Vec<Cow<'a, str>>,
    }
    /// What setWatches2 adds behind setWatches.
    PersistentWatches<'a> { persistent: Vec<Cow<'a, str>>, recursive: Vec<Cow<'a, str>>, }
    /// Body of auth.
    AuthRequest<'a> { kind: i32, scheme: Option<Cow<'a, str>>, auth: Option<&'a [u8]>, }
    /// Body of a notification.
    WatcherEvent<'a> { kind: i32, state: i32, path: Cow<'a, str>, }
    /// Precedes every operation and result of a multi.
    #[derive(Copy)]
    MultiHeader { kind: i32, done: bool, err: i32, }
}

impl Id {
    /// The id (`scheme`, `id`).
    pub fn new(scheme: impl Into<String>, id: impl Into<String>) -> Id {
        Id { scheme: scheme.into(), id: id.into() }
    }
}

impl Acl {
    /// An entry granting `perms` to (`scheme`, `id`).
    pub fn new(perms: i32, scheme: &str, id: &str) -> Acl {
        Acl { perms, id: Id::new(scheme, id) }
    }

    /// `world:anyone` with all permissions.
    pub fn open_unsafe() -> Vec<Acl> {
        vec![Acl::new(perms::ALL, "world", "anyone")]
    }
}

impl MultiHeader {
    /// Ends a multi request or reply.
    pub const END: MultiHeader = MultiHeader { kind: -1, done: true, err: -1 };
}

/// Kinds of watch notification (`docs/spec/client-protocol.md` 10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum EventKind {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

/// The first message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// 0; not checked.
    pub protocol_version: i32,
    /// Largest zxid the client has seen; a server behind it must refuse.
    pub last_zxid_seen: i64,
    /// Wanted session timeout in ms.
    pub timeout_ms: i32,
    /// 0 for a new session.
    pub session: i64,
    /// 16 bytes for an existing session.
    pub password: Option<&'a [u8]>,
    /// `None` if the client did not send the byte; the response must then omit it too.
    pub read_only: Option<bool>,
}

impl<'a> Decode<'a> for ConnectRequest<'a> {
    const MIN_SIZE: usize = 28;
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(ConnectRequest {
            protocol_version: r.int()?,
            last_zxid_seen: r.long()?,
            timeout_ms: r.int()?,
            session: r.long()?,
            password: r.buffer()?,
            read_only: if r.remaining() > 0 { Some(r.bool()?) } else { None },
        })
    }
}

impl Encode for ConnectRequest<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_int(out, self.protocol_version);
        put_long(out, self.last_zxid_seen);
        put_int(out, self.timeout_ms);
        put_long(out, self.session);
        self.password.encode(out);
        if let Some(read_only) = self.read_only {
            read_only.encode(out);
        }
    }
}

/// The answer to a [`ConnectRequest`]. A refused session has timeout 0, id 0 and a zero password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// Negotiated session timeout in ms; 0 means the session is refused.
    pub timeout_ms: i32,
    /// The session's id.
    pub session: i64,
    /// What the client must present to resume the session.
    pub password: [u8; 16],
    /// Only if the request had the byte.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// The answer to an expired session or a wrong password.
    pub fn refused(read_only: Option<bool>) -> Self {
        ConnectResponse { timeout_ms: 0, session: 0, password: [0; 16], read_only }
    }
}

impl Encode for ConnectResponse {
    fn encode(&self, out: &mut Vec<u8>) {
        put_int(out, 0);
        put_int(out, self.timeout_ms);
        put_long(out, self.session);
        Some(&self.password[..]).encode(out);
        if let Some(read_only) = self.read_only {
            read_only.encode(out);
        }
    }
}

impl Decode<'_> for ConnectResponse {
    const MIN_SIZE: usize = 36;
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.int()?;
        let timeout_ms = r.int()?;
        let session = r.long()?;
        let at = r.position();
        let bytes = r.buffer()?.ok_or(DecodeError::Null { at })?;
        let password =
            bytes.try_into().map_err(|_| DecodeError::BadLength { at, len: bytes.len() as i64 })?;
        let read_only = if r.remaining() > 0 { Some(r.bool()?) } else { None };
        Ok(ConnectResponse { timeout_ms, session, password, read_only })
    }
}

/// Appends a length-prefixed frame whose content `body` writes.
pub fn put_frame(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_int(out, 0);
    body(out);
    let len = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Appends a whole notification frame. The state field is 3 (SyncConnected), always.
pub fn put_notification(out: &mut Vec<u8>, zxid: Zxid, kind: EventKind, path: &str) {
    put_frame(out, |out| {
        ReplyHeader { xid: XID_NOTIFICATION, zxid: zxid.0, err: 0 }.encode(out);
        put_int(out, kind as i32);
        put_int(out, 3);
        put_java_string(out, path);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Example bytes of `docs/spec/client-protocol.md` appendix A, length prefix left out.
    #[test]
    fn example_bytes_decode_and_reencode() {
        let connect = hex("00000000 0000000000000000 00007530 0000000000000000 00000010 \
             00000000000000000000000000000000 00");
        let request = ConnectRequest::from_bytes(&connect).unwrap();
        assert_eq!((request.timeout_ms, request.read_only), (30000, Some(false)));
        assert_eq!(request.to_bytes(), connect);

        let response =
            hex("00000000 00007530 01000f3a2b4c0000 00000010 165e8313eb0454f2e405d6a4aca23d34 00");
        assert_eq!(ConnectResponse::from_bytes(&response).unwrap().to_bytes(), response);

        let create =
            hex("00000002 2f61 00000002 6869 00000001 0000001f 00000005 776f726c64 00000006 \
             616e796f6e65 00000000");
        let request = CreateRequest::from_bytes(&create).unwrap();
        assert_eq!(request.path, "/a");
        assert_eq!(request.data, Some(&b"hi"[..]));
        assert_eq!(request.to_bytes(), create);

        let mut event = Vec::new();
        put_notification(&mut event, Zxid(3), EventKind::NodeDataChanged, "/a");
        assert_eq!(
            event,
            hex("0000001e ffffffff 0000000000000003 00000000 00000003 00000003 00000002 2f61")
        );
    }

    #[test]
    fn an_old_client_without_the_read_only_byte_gets_none_back() {
        let request = ConnectRequest::from_bytes(&[0; 28]).unwrap();
        assert_eq!(request.read_only, None);
        assert_eq!(ConnectResponse::refused(None).to_bytes().len(), 36);
        assert_eq!(ConnectResponse::refused(Some(true)).to_bytes().len(), 37);
    }

    #[test]
    fn a_stat_has_68_bytes() {
        assert_eq!(Stat::default().to_bytes().len(), 68);
    }
}
