//! setWatches and setWatches2: watches of a connection that was lost, set again.
//!
//! What changed meanwhile is told at once, with zxid -1, not filtered by ACLs and not de-duplicated
//! across lists. A null list, or a null path where something could be missed, ends the request with
//! an error; what came before it has been done. Source: `docs/spec/client-protocol.md` 10.5.

use std::borrow::Cow;

use oxkeeper_proto::client::{EventKind, put_notification};
use oxkeeper_proto::snapshot::StatPersisted;
use oxkeeper_proto::{DecodeError, ErrorCode, OpCode, Reader, Zxid};

use super::Read;
use crate::watch::{Modes, NULL_PATH};

/// The lists of a request, in their order, and the watch that each sets.
#[derive(Clone, Copy)]
enum List {
    Data,
    Exist,
    Child,
    Persistent,
    Recursive,
}

const LISTS: [List; 5] = [List::Data, List::Exist, List::Child, List::Persistent, List::Recursive];

impl List {
    fn modes(self) -> Modes {
        match self {
            List::Data | List::Exist => Modes::DATA,
            List::Child => Modes::CHILD,
            List::Persistent => Modes::PERSISTENT,
            List::Recursive => Modes::RECURSIVE,
        }
    }

    /// What a watcher who has seen everything up to `seen` missed at a node (`None`: absent).
    fn missed(self, node: Option<&StatPersisted>, seen: i64) -> Option<EventKind> {
        match (self, node) {
            (List::Data | List::Child, None) => Some(EventKind::NodeDeleted),
            (List::Data, Some(stat)) if stat.mzxid > seen => Some(EventKind::NodeDataChanged),
            (List::Child, Some(stat)) if stat.pzxid > seen => Some(EventKind::NodeChildrenChanged),
            (List::Exist, Some(_)) => Some(EventKind::NodeCreated),
            _ => None,
        }
    }
}

/// Calls `visit` for each path of a vector, which may be null as well as the paths.
fn for_each<'a>(
    r: &mut Reader<'a>,
    mut visit: impl FnMut(Option<Cow<'a, str>>) -> Result<(), ErrorCode>,
) -> Result<(), ErrorCode> {
    let count = r.count(4).map_err(unparsable)?.ok_or(ErrorCode::MarshallingError)?;
    (0..count).try_for_each(|_| visit(r.opt_string().map_err(unparsable)?))
}

/// Passes over a vector of paths.
fn skip(r: &mut Reader<'_>) -> Result<(), DecodeError> {
    let count = r.count(4)?.unwrap_or(0);
    (0..count).try_for_each(|_| r.buffer().map(drop))
}

fn unparsable(_: DecodeError) -> ErrorCode {
    ErrorCode::MarshallingError
}

impl Read<'_> {
    /// Appends the notifications. A request that does not parse has no effect at all.
    pub(super) fn set_watches(
        &self,
        op: OpCode,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorCode> {
        let lists = if op == OpCode::SetWatches { &LISTS[..3] } else { &LISTS[..] };
        let mut r = Reader::new(body);
        let seen = r.long().map_err(unparsable)?;
        let mut check = r.clone();
        lists.iter().try_for_each(|_| skip(&mut check)).map_err(unparsable)?;
        lists.iter().try_for_each(|list| {
            for_each(&mut r, |path| self.set_watch(*list, path.as_deref(), seen, out))
        })
    }

    fn set_watch(
        &self,
        list: List,
        path: Option<&str>,
        seen: i64,
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorCode> {
        let path = match (path, list) {
            (Some(path), _) => path,
            (None, List::Persistent | List::Recursive) => NULL_PATH,
            (None, _) => return Err(ErrorCode::MarshallingError),
        };
        let tree = &self.state.tree;
        let stat = tree.lookup(path).map(|node| tree.persisted(node));
        match list.missed(stat.as_ref(), seen) {
            Some(kind) => put_notification(out, Zxid(-1), kind, path),
            None => self.watch_if(true, path, list.modes()),
        }
        Ok(())
    }
}
