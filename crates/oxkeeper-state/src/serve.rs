//! Reads: answered from the state as it is, straight into the connection's output.
//!
//! A reply is written behind its header's place; if the read fails, what was written is cut off and
//! only the header stays. A watch is set while the state cannot change (the caller holds `&State`), so
//! its notification can neither be missed nor precede the reply.
//! Source: `docs/spec/client-protocol.md` 3, 8 to 10.

mod multi_read;
mod set_watches;

use std::borrow::Cow;

use oxkeeper_proto::client::{Id, ReadRequest, ReplyHeader, RequestHeader, XID_PING, perms};
use oxkeeper_proto::jute::{put_buffer, put_int, put_string};
use oxkeeper_proto::{Decode, Encode, ErrorCode, OpCode, Reader, SessionId, Stat, Zxid};
use parking_lot::Mutex;

use crate::auth::{AuthSettings, user_name};
use crate::watch::{Modes, NULL_PATH, WatchKind, WatchTable, WatcherId};
use crate::{NodeId, State, acl, path};

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub struct ReadContext<'a> {
    /// The connection, as the owner of watches.
    pub watcher: WatcherId,
    /// Its session.
    pub session: SessionId,
    /// Its identities.
    pub ids: &'a [Id],
    /// Schemes, super user, `skipACL`.
    pub settings: &'a AuthSettings,
}

/// Answers a read: appends the notifications it makes (setWatches only) and exactly one reply, whose
/// zxid is the state's last.
///
/// An operation that is no read is answered with -6 and zxid -1; the caller should not ask, and must
/// close the connection.
pub fn serve(
    state: &State,
    watches: &Mutex<WatchTable>,
    request: RequestHeader,
    body: &[u8],
    context: &ReadContext<'_>,
    out: &mut Vec<u8>,
) {
    let read = Read { state, watches, context };
    let zxid = state.last_zxid();
    let op = OpCode::from_code(request.op);
    if let Some(op @ (OpCode::SetWatches | OpCode::SetWatches2)) = op {
        let set = read.set_watches(op, body, out);
        return put_reply(out, request.xid, zxid, |_| set);
    }
    let xid = if op == Some(OpCode::Ping) { XID_PING } else { request.xid };
    let mut r = Reader::new(body);
    match op {
        Some(op) if is_read(op) => put_reply(out, xid, zxid, |out| read.answer(op, &mut r, out)),
        _ => put_reply(out, xid, Zxid(-1), |_| Err(ErrorCode::Unimplemented)),
    }
}

/// Is this operation answered by [`serve`]?
pub fn is_read(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::Ping
            | OpCode::Exists
            | OpCode::GetData
            | OpCode::GetAcl
            | OpCode::GetChildren
            | OpCode::GetChildren2
            | OpCode::MultiRead
            | OpCode::SetWatches
            | OpCode::SetWatches2
            | OpCode::AddWatch
            | OpCode::CheckWatches
            | OpCode::RemoveWatches
            | OpCode::GetEphemerals
            | OpCode::GetAllChildrenNumber
            | OpCode::WhoAmI
    )
}

/// Appends a reply frame; an error leaves the header alone.
fn put_reply(
    out: &mut Vec<u8>,
    xid: i32,
    zxid: Zxid,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), ErrorCode>,
) {
    let start = out.len();
    put_int(out, 0);
    ReplyHeader { xid, zxid: zxid.0, err: 0 }.encode(out);
    let header_end = out.len();
    if let Err(code) = body(out) {
        out.truncate(header_end);
        out[header_end - 4..].copy_from_slice(&code.code().to_be_bytes());
    }
    let len = (out.len() - start - 4) as i32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Decodes a request record; whatever is wrong with it is -5.
fn decode<'a, T: Decode<'a>>(r: &mut Reader<'a>) -> Result<T, ErrorCode> {
    T::decode(r).map_err(|_| ErrorCode::MarshallingError)
}

/// A read in progress.
struct Read<'a> {
    state: &'a State,
    watches: &'a Mutex<WatchTable>,
    context: &'a ReadContext<'a>,
}

impl Read<'_> {
    fn answer(&self, op: OpCode, r: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        match op {
            OpCode::Exists => self.exists(&decode(r)?, out),
            OpCode::GetData => {
                let ReadRequest { path, watch } = decode(r)?;
                self.put_data(&path, out)?;
                self.watch_if(watch, &path, Modes::DATA);
                Ok(())
            }
            OpCode::GetChildren | OpCode::GetChildren2 => {
                let ReadRequest { path, watch } = decode(r)?;
                let node = self.put_children(&path, out)?;
                if op == OpCode::GetChildren2 {
                    self.stat(node).encode(out);
                }
                self.watch_if(watch, &path, Modes::CHILD);
                Ok(())
            }
            OpCode::GetAcl => self.get_acl(&decode::<Cow<'_, str>>(r)?, out),
            OpCode::GetAllChildrenNumber => {
                let path = decode::<Cow<'_, str>>(r)?;
                let node = self.readable(&path, perms::READ)?;
                // Under its empty name the reference counts the root itself as well.
                let root = i32::from(path.is_empty());
                put_int(out, self.state.tree.descendants_count(node) as i32 + root);
                Ok(())
            }
            OpCode::GetEphemerals => self.get_ephemerals(decode(r)?, out),
            OpCode::MultiRead => self.multi_read(r, out),
            OpCode::AddWatch => self.add_watch(decode(r)?, decode(r)?, out),
            OpCode::CheckWatches | OpCode::RemoveWatches => {
                self.watches(op, decode(r)?, decode(r)?)
            }
            OpCode::WhoAmI => {
                self.who_am_i(out);
                Ok(())
            }
            // Ping, which has neither body nor result.
            _ => Ok(()),
        }
    }

    fn stat(&self, node: NodeId) -> Stat {
        self.state.tree.stat(node)
    }

    fn permits(&self, node: NodeId, wanted: i32) -> bool {
        let acl = self.state.acls.get(self.state.tree.acl(node));
        acl::permits_node(self.context.settings, acl, wanted, self.context.ids)
    }

    /// The node at `path`, if it is there and one of the permissions too.
    fn readable(&self, path: &str, wanted: i32) -> Result<NodeId, ErrorCode> {
        let node = self.state.tree.lookup(path).ok_or(ErrorCode::NoNode)?;
        if self.permits(node, wanted) { Ok(node) } else { Err(ErrorCode::NoAuth) }
    }

    fn watch_if(&self, wanted: bool, path: &str, modes: Modes) {
        if wanted {
            let ReadContext { watcher, ids, .. } = *self.context;
            self.watches.lock().add(watcher, ids, path, modes);
        }
    }

    /// The one read that leaves a watch also when the node is absent.
    fn exists(&self, request: &ReadRequest<'_>, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let path = &*request.path;
        if path::has_nul(path) {
            return Err(ErrorCode::BadArguments);
        }
        let found = self.readable(path, perms::READ);
        if found != Err(ErrorCode::NoAuth) {
            self.watch_if(request.watch, path, Modes::DATA);
        }
        self.stat(found?).encode(out);
        Ok(())
    }

    fn put_data(&self, path: &str, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let node = self.readable(path, perms::READ)?;
        put_buffer(out, self.state.tree.data(node));
        self.stat(node).encode(out);
        Ok(())
    }

    fn put_children(&self, path: &str, out: &mut Vec<u8>) -> Result<NodeId, ErrorCode> {
        let node = self.readable(path, perms::READ)?;
        put_int(out, self.state.tree.child_count(node) as i32);
        for (_, name) in self.state.tree.children(node) {
            put_string(out, name);
        }
        Ok(node)
    }

    fn get_acl(&self, path: &str, out: &mut Vec<u8>) -> Result<(), ErrorCode> {
        let node = self.readable(path, perms::READ | perms::ADMIN)?;
        let acl = self.state.acls.get(self.state.tree.acl(node)).unwrap_or_default();
        acl::put_acl(out, self.context.settings, acl, self.context.ids);
        self.stat(node).encode(out);
        Ok(())
    }

    /// Of the own session, whose path starts with the string: not by components, no permission asked.
    fn get_ephemerals(
        &self,
        prefix: Option<Cow<'_, str>>,
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorCode> {
        let prefix = prefix.as_deref().unwrap_or_default();
        // Blank is what Java trims: everything up to the space.
        let all = prefix == "/" || prefix.chars().all(|c| c <= ' ');
        let count_at = out.len();
        put_int(out, 0);
        let mut count = 0;
        for path in self.state.ephemerals(self.context.session) {
            if all || path.starts_with(prefix) {
                put_string(out, &path);
                count += 1;
            }
        }
        out[count_at..count_at + 4].copy_from_slice(&i32::to_be_bytes(count));
        Ok(())
    }

    /// A null path is accepted; no node has it, but the watch can be found and removed.
    fn add_watch(
        &self,
        path: Option<Cow<'_, str>>,
        mode: i32,
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorCode> {
        let modes = match mode {
            0 => Modes::PERSISTENT,
            1 => Modes::RECURSIVE,
            _ => return Err(ErrorCode::MarshallingError),
        };
        self.watch_if(true, path.as_deref().unwrap_or(NULL_PATH), modes);
        put_int(out, 0);
        Ok(())
    }

    fn watches(&self, op: OpCode, path: Option<Cow<'_, str>>, kind: i32) -> Result<(), ErrorCode> {
        let kind = WatchKind::from_code(kind).ok_or(ErrorCode::MarshallingError)?;
        let path = path.unwrap_or(Cow::Borrowed(NULL_PATH));
        let watcher = self.context.watcher;
        let mut watches = self.watches.lock();
        let found = match op {
            OpCode::RemoveWatches => watches.remove(watcher, &path, kind),
            _ => watches.contains(watcher, &path, kind),
        };
        if found { Ok(()) } else { Err(ErrorCode::NoWatcher) }
    }

    fn who_am_i(&self, out: &mut Vec<u8>) {
        let ReadContext { ids, settings, .. } = *self.context;
        put_int(out, ids.len() as i32);
        for id in ids {
            put_string(out, &id.scheme);
            put_string(out, &user_name(settings, id));
        }
    }
}

#[cfg(test)]
mod tests;
