//! The create family: create, create2, createContainer, createTTL.
//!
//! Source: `docs/spec/client-protocol.md` 7.4, 8.

use std::borrow::Cow;

use oxkeeper_proto::client::perms;
use oxkeeper_proto::snapshot::StatPersisted;
use oxkeeper_proto::txn::{CreateMode, CreateTxn, Txn};
use oxkeeper_proto::{Acl, ErrorCode, OpCode};

use super::attempt::Attempt;
use super::overlay::{AclRef, Record};
use super::parse::Create;
use crate::owner::MAX_TTL_MS;
use crate::{OwnerKind, path};

/// What the flag of a create says.
struct Flags {
    ephemeral: bool,
    sequential: bool,
    ttl: bool,
}

impl Flags {
    fn parse(flags: i32) -> Result<Flags, ErrorCode> {
        let (ephemeral, sequential, ttl) = match flags {
            // 4 is a container; but it is the operation that makes one, not the flag.
            0 | 4 => (false, false, false),
            1 => (true, false, false),
            2 => (false, true, false),
            3 => (true, true, false),
            5 => (false, false, true),
            6 => (false, true, true),
            _ => return Err(ErrorCode::BadArguments),
        };
        Ok(Flags { ephemeral, sequential, ttl })
    }
}

impl Attempt<'_> {
    pub(super) fn create<'b>(&mut self, create: Create<'b>) -> Result<Txn<'b>, ErrorCode> {
        let flags = Flags::parse(create.flags)?;
        let mode = self.mode(&create, &flags)?;
        self.check_session(flags.ephemeral)?;
        let asked = create.path.clone().ok_or(ErrorCode::MarshallingError)?;
        let (parent_path, _) = path::split(&asked).ok_or(ErrorCode::BadArguments)?;
        let acl = self.expand(create.acl.as_deref())?;
        let parent = self.get(parent_path)?;
        self.permit(&parent, perms::CREATE)?;
        let path = match flags.sequential {
            true => Cow::Owned(format!("{asked}{:010}", parent.stat.cversion)),
            false => asked.clone(),
        };
        if !path::is_valid(&path) {
            return Err(ErrorCode::BadArguments);
        }
        if self.overlay.exists(self.state, &path) {
            return Err(ErrorCode::NodeExists);
        }
        let owners = self.state.tree.owner_rules();
        if matches!(owners.kind(parent.stat.ephemeral_owner), OwnerKind::Ephemeral(_)) {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        self.check_quota(&path, 1, create.data.map_or(0, <[u8]>::len) as i64)?;
        let parent_cversion = self.grow(parent_path, parent);
        self.insert(&path, create.data, &acl, mode);
        let Create { op, data, .. } = create;
        Ok(Txn::Create(CreateTxn { op, path, data, acl, mode, parent_cversion }))
    }

    /// What kind of node the operation makes.
    fn mode(&self, create: &Create<'_>, flags: &Flags) -> Result<CreateMode, ErrorCode> {
        if flags.ttl && !self.settings.extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        // A time to live goes with a TTL flag, and both with createTTL only.
        let by_ttl_op = create.op == OpCode::CreateTtl;
        if flags.ttl != by_ttl_op || (flags.ttl && !(1..=MAX_TTL_MS).contains(&create.ttl_ms)) {
            return Err(ErrorCode::BadArguments);
        }
        Ok(match create.op {
            OpCode::CreateContainer => CreateMode::Container,
            OpCode::CreateTtl => CreateMode::Ttl { ttl_ms: create.ttl_ms },
            _ if flags.ephemeral => CreateMode::Ephemeral,
            _ => CreateMode::Persistent,
        })
    }

    /// The parent's share of a create; returns its new create counter.
    fn grow(&mut self, parent_path: &str, parent: Record) -> i32 {
        let zxid = self.zxid();
        let counter = parent.stat.cversion.wrapping_add(1);
        let mut changed = parent.clone();
        changed.children += 1;
        // As it is applied: a counter that wraps around changes nothing.
        if counter > parent.stat.cversion {
            changed.stat.cversion = counter;
            changed.stat.pzxid = zxid.0;
        }
        self.overlay.put(zxid, parent_path, Some(&parent), Some(changed));
        counter
    }

    fn insert(&mut self, path: &str, data: Option<&[u8]>, acl: &[Acl], mode: CreateMode) {
        let (zxid, time_ms) = (self.zxid(), self.request.time_ms);
        let session = self.request.session;
        let stat = StatPersisted {
            czxid: zxid.0,
            mzxid: zxid.0,
            pzxid: zxid.0,
            ctime: time_ms,
            mtime: time_ms,
            ephemeral_owner: self.state.tree.owner_rules().owner(mode, session),
            ..StatPersisted::default()
        };
        let record = Record {
            stat,
            children: 0,
            data_len: data.map_or(0, <[u8]>::len),
            acl: AclRef::New(acl.into()),
            prefix: self.overlay.prefix(path, data),
        };
        self.overlay.put(zxid, path, None, Some(record));
        if mode == CreateMode::Ephemeral {
            self.overlay.add_ephemeral(zxid, session, path);
        }
    }
}
