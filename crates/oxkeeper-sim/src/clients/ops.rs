//! Requests, and their bytes.

use std::borrow::Cow;

use oxkeeper_proto::client::{
    AclEntry, AuthRequest, CheckRequest, CreateRequest, CreateTtlRequest, DeleteRequest,
    MultiHeader, PathRequest, PersistentWatches, ReadRequest, RequestHeader, SetAclRequest,
    SetDataRequest, SetWatchesRequest, XID_AUTH, XID_PING, XID_SET_WATCHES, put_frame,
};
use oxkeeper_proto::{Encode, OpCode};

/// What kind of node a create makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mode {
    Plain,
    Ephemeral,
    Container,
    Ttl { ms: i64 },
}

/// Which list of permissions a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclChoice {
    /// Everybody may do everything.
    Open,
    /// Only [`BEN`] may do anything.
    Ben,
    /// Everybody may read, [`BEN`] may do everything.
    BenWrites,
    /// Whoever makes the request: fails for those who are nobody.
    Creator,
}

/// An identity, and what proves it (`docs/spec/client-protocol.md` 11.4).
pub const BEN: (&str, &str) = ("ben:passwd", "ben:GnIFqmuceuc/72KWrVhTHjDv9u4=");

impl AclChoice {
    /// Entries as sent: permissions, scheme, id.
    pub fn entries(self) -> Vec<(i32, &'static str, &'static str)> {
        match self {
            AclChoice::Open => vec![(31, "world", "anyone")],
            AclChoice::Ben => vec![(31, "digest", BEN.1)],
            AclChoice::BenWrites => vec![(1, "world", "anyone"), (31, "digest", BEN.1)],
            AclChoice::Creator => vec![(31, "auth", "")],
        }
    }

    fn encoded(self) -> Option<Vec<AclEntry<'static>>> {
        let entry = |(perms, scheme, id)| AclEntry {
            perms,
            scheme: Some(Cow::Borrowed(scheme)),
            id: Some(Cow::Borrowed(id)),
        };
        Some(self.entries().into_iter().map(entry).collect())
    }
}

/// A create of any kind.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Create {
    pub path: String,
    pub data: Vec<u8>,
    pub mode: Mode,
    pub sequential: bool,
    pub acl: AclChoice,
    /// Is the stat wanted in the reply? Containers and TTL nodes always give it.
    pub stat: bool,
}

impl Create {
    /// An ordinary node that everybody may use.
    pub fn plain(path: impl Into<String>, data: impl Into<Vec<u8>>) -> Create {
        Create {
            path: path.into(),
            data: data.into(),
            mode: Mode::Plain,
            sequential: false,
            acl: AclChoice::Open,
            stat: false,
        }
    }

    /// The operation that clients use for it.
    pub fn op(&self) -> OpCode {
        match self.mode {
            Mode::Container => OpCode::CreateContainer,
            Mode::Ttl { .. } => OpCode::CreateTtl,
            _ if self.stat => OpCode::Create2,
            _ => OpCode::Create,
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let (path, data) = (Cow::Borrowed(self.path.as_str()), Some(&self.data[..]));
        let acl = self.acl.encoded();
        let flags = match (self.mode, self.sequential) {
            (Mode::Plain, false) => 0,
            (Mode::Ephemeral, false) => 1,
            (Mode::Plain, true) => 2,
            (Mode::Ephemeral, true) => 3,
            (Mode::Container, _) => 4,
            (Mode::Ttl { .. }, false) => 5,
            (Mode::Ttl { .. }, true) => 6,
        };
        match self.mode {
            Mode::Ttl { ms } => CreateTtlRequest { path, data, acl, flags, ttl: ms }.encode(out),
            _ => CreateRequest { path, data, acl, flags }.encode(out),
        }
    }
}

/// Watches of a session, as it sets them again: bits of [`crate::check::watches`] by path.
pub type WatchList = Vec<(String, u8)>;

/// A request.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Create(Create),
    Delete {
        path: String,
        version: i32,
    },
    SetData {
        path: String,
        data: Vec<u8>,
        version: i32,
    },
    SetAcl {
        path: String,
        acl: AclChoice,
        version: i32,
    },
    /// Only in a multi.
    Check {
        path: String,
        version: i32,
    },
    Multi(Vec<Op>),
    Exists {
        path: String,
        watch: bool,
    },
    GetData {
        path: String,
        watch: bool,
    },
    GetChildren {
        path: String,
        watch: bool,
        stat: bool,
    },
    GetEphemerals {
        prefix: String,
    },
    CountDescendants {
        path: String,
    },
    MultiRead(Vec<Op>),
    SetWatches {
        seen: i64,
        watches: WatchList,
    },
    AddWatch {
        path: String,
        recursive: bool,
    },
    /// `kind`: number of the wire.
    RemoveWatches {
        path: String,
        kind: i32,
    },
    CheckWatches {
        path: String,
        kind: i32,
    },
    /// Become [`BEN`].
    Auth,
    Sync,
    Ping,
    Close,
}

impl Op {
    /// Does it become a transaction?
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Op::Create(_)
                | Op::Delete { .. }
                | Op::SetData { .. }
                | Op::SetAcl { .. }
                | Op::Multi(_)
                | Op::Close
        )
    }

    /// The operation's number.
    pub fn code(&self) -> OpCode {
        match self {
            Op::Create(create) => create.op(),
            Op::Delete { .. } => OpCode::Delete,
            Op::SetData { .. } => OpCode::SetData,
            Op::SetAcl { .. } => OpCode::SetAcl,
            Op::Check { .. } => OpCode::Check,
            Op::Multi(_) => OpCode::Multi,
            Op::Exists { .. } => OpCode::Exists,
            Op::GetData { .. } => OpCode::GetData,
            Op::GetChildren { stat: false, .. } => OpCode::GetChildren,
            Op::GetChildren { stat: true, .. } => OpCode::GetChildren2,
            Op::GetEphemerals { .. } => OpCode::GetEphemerals,
            Op::CountDescendants { .. } => OpCode::GetAllChildrenNumber,
            Op::MultiRead(_) => OpCode::MultiRead,
            Op::SetWatches { watches, .. } => match watches.iter().any(|(_, bits)| *bits >= 8) {
                true => OpCode::SetWatches2,
                false => OpCode::SetWatches,
            },
            Op::AddWatch { .. } => OpCode::AddWatch,
            Op::RemoveWatches { .. } => OpCode::RemoveWatches,
            Op::CheckWatches { .. } => OpCode::CheckWatches,
            Op::Auth => OpCode::Auth,
            Op::Sync => OpCode::Sync,
            Op::Ping => OpCode::Ping,
            Op::Close => OpCode::CloseSession,
        }
    }

    /// Its name in counters.
    pub fn name(&self) -> &'static str {
        match self.code() {
            OpCode::Create => "create",
            OpCode::Create2 => "create2",
            OpCode::CreateContainer => "createContainer",
            OpCode::CreateTtl => "createTTL",
            OpCode::Delete => "delete",
            OpCode::SetData => "setData",
            OpCode::SetAcl => "setACL",
            OpCode::Multi => "multi",
            OpCode::Exists => "exists",
            OpCode::GetData => "getData",
            OpCode::GetChildren => "getChildren",
            OpCode::GetChildren2 => "getChildren2",
            OpCode::GetEphemerals => "getEphemerals",
            OpCode::GetAllChildrenNumber => "getAllChildrenNumber",
            OpCode::MultiRead => "multiRead",
            OpCode::SetWatches | OpCode::SetWatches2 => "setWatches",
            OpCode::AddWatch => "addWatch",
            OpCode::RemoveWatches => "removeWatches",
            OpCode::CheckWatches => "checkWatches",
            OpCode::Auth => "auth",
            OpCode::Sync => "sync",
            OpCode::CloseSession => "closeSession",
            _ => "ping",
        }
    }

    /// The request number that it is sent with; `next` if it needs one of its own.
    pub fn xid(&self, next: i32) -> i32 {
        match self {
            Op::Ping => XID_PING,
            Op::Auth => XID_AUTH,
            Op::SetWatches { .. } => XID_SET_WATCHES,
            _ => next,
        }
    }

    /// Appends the frame.
    pub fn put(&self, out: &mut Vec<u8>, xid: i32) {
        put_frame(out, |out| {
            RequestHeader { xid, op: self.code().code() }.encode(out);
            self.put_body(out);
        });
    }

    fn put_body(&self, out: &mut Vec<u8>) {
        let cow = |path: &'_ String| Cow::<'static, str>::Owned(path.clone());
        match self {
            Op::Create(create) => create.encode(out),
            Op::Delete { path, version } => {
                DeleteRequest { path: cow(path), version: *version }.encode(out);
            }
            Op::SetData { path, data, version } => {
                SetDataRequest { path: cow(path), data: Some(data), version: *version }.encode(out);
            }
            Op::SetAcl { path, acl, version } => {
                let (path, acl) = (cow(path), acl.encoded());
                SetAclRequest { path, acl, version: *version }.encode(out);
            }
            Op::Check { path, version } => {
                CheckRequest { path: cow(path), version: *version }.encode(out);
            }
            Op::Multi(ops) | Op::MultiRead(ops) => {
                for op in ops {
                    MultiHeader { kind: op.code().code(), done: false, err: -1 }.encode(out);
                    op.put_body(out);
                }
                MultiHeader::END.encode(out);
            }
            Op::Exists { path, watch }
            | Op::GetData { path, watch }
            | Op::GetChildren { path, watch, .. } => {
                ReadRequest { path: cow(path), watch: *watch }.encode(out);
            }
            Op::GetEphemerals { prefix: path } | Op::CountDescendants { path } => {
                PathRequest { path: cow(path) }.encode(out);
            }
            Op::Sync => PathRequest { path: "/".into() }.encode(out),
            Op::SetWatches { seen, watches } => put_watches(out, *seen, watches, self.code()),
            Op::AddWatch { path, recursive } => {
                cow(path).encode(out);
                i32::from(*recursive).encode(out);
            }
            Op::RemoveWatches { path, kind } | Op::CheckWatches { path, kind } => {
                cow(path).encode(out);
                kind.encode(out);
            }
            Op::Auth => {
                let (scheme, auth) = (Some("digest".into()), Some(BEN.0.as_bytes()));
                AuthRequest { kind: 0, scheme, auth }.encode(out);
            }
            Op::Ping | Op::Close => {}
        }
    }
}

fn put_watches(out: &mut Vec<u8>, seen: i64, watches: &WatchList, code: OpCode) {
    let list = |bit: u8| -> Vec<Cow<'_, str>> {
        let these = watches.iter().filter(|(_, bits)| bits & bit != 0);
        these.map(|(path, _)| Cow::Borrowed(path.as_str())).collect()
    };
    let (data, exist, child) = (list(1), list(2), list(4));
    SetWatchesRequest { relative_zxid: seen, data, exist, child }.encode(out);
    if code == OpCode::SetWatches2 {
        PersistentWatches { persistent: list(8), recursive: list(16) }.encode(out);
    }
}
