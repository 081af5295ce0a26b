//! The body of a snapshot: sessions, ACL table, nodes. The same bytes stand in a snapshot file and
//! in the stream of a SNAP synchronization.
//!
//! ```text
//! sessions:  count, (session id: i64, timeout ms: i32)*
//! ACLs:      count, (acl id: i64, vector of ACL)*
//! nodes:     (path, data, acl id: i64, stat: 60 bytes)*, then the string "/"
//! ```
//!
//! Parents precede children; the root comes first with path "".
//! Source: `docs/spec/storage-formats.md` 6, `docs/spec/quorum-protocol.md` 10.6.

use std::borrow::Cow;

use crate::client::Acl;
use crate::jute::{Decode, DecodeError, Encode, Reader, put_int, put_long, put_string, put_vec};
use crate::txn::Payload;
use crate::{Zxid, records};

/// Ends the stream of a SNAP synchronization.
pub const SNAP_SIGNATURE: &str = "BenWasHere";
/// The acl id that means `world:anyone` with all permissions, without an entry in the table.
pub const OPEN_ACL_ID: i64 = -1;

records! {
    /// What is stored of a znode besides data and ACL; 60 bytes.
    #[derive(Copy, Default)]
    StatPersisted {
        czxid: i64, mzxid: i64, ctime: i64, mtime: i64, version: i32,
        /// Children ever created (not what clients see).
        cversion: i32,
        aversion: i32,
        /// 0, a session id, or a container or TTL mark.
        ephemeral_owner: i64,
        pzxid: i64,
    }

    /// One znode.
    NodeRecord<'a> { path: Cow<'a, str>, data: Option<&'a [u8]>, acl: i64, stat: StatPersisted, }
}

/// Appends the session table and the ACL table.
pub fn put_tables<'a>(
    out: &mut Vec<u8>,
    sessions: impl ExactSizeIterator<Item = (i64, i32)>,
    acls: impl ExactSizeIterator<Item = (i64, &'a [Acl])>,
) {
    put_int(out, sessions.len() as i32);
    for (session, timeout_ms) in sessions {
        put_long(out, session);
        put_int(out, timeout_ms);
    }
    put_int(out, acls.len() as i32);
    for (id, acl) in acls {
        put_long(out, id);
        put_vec(out, acl);
    }
}

/// Appends one node, from borrowed parts.
pub fn put_node(
    out: &mut Vec<u8>,
    path: &str,
    data: Option<&[u8]>,
    acl: i64,
    stat: &StatPersisted,
) {
    put_string(out, path);
    data.encode(out);
    put_long(out, acl);
    stat.encode(out);
}

/// Appends the end of the nodes.
pub fn put_nodes_end(out: &mut Vec<u8>) {
    put_string(out, "/");
}

/// One piece of a snapshot body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// How many sessions follow.
    SessionCount(u32),
    /// A session and its timeout in ms.
    Session(i64, i32),
    /// How many ACL table entries follow.
    AclCount(u32),
    /// An entry of the ACL table.
    Acl(i64, Vec<Acl>),
    /// A znode.
    Node(NodeRecord<'a>),
    /// The body is complete.
    End,
}

impl Item<'_> {
    /// Gives the item to `sink`; true: it was the end. An error is the sink's.
    #[inline]
    pub fn give(self, sink: &mut impl SnapshotSink) -> Result<bool, String> {
        match self {
            Item::SessionCount(_) | Item::AclCount(_) => {}
            Item::Session(id, timeout_ms) => sink.session(id, timeout_ms),
            Item::Acl(id, acl) => sink.acl(id, acl),
            Item::Node(node) => sink.node(node)?,
            Item::End => return Ok(true),
        }
        Ok(false)
    }
}

/// Receives a snapshot as it is read. Implemented by the state.
pub trait SnapshotSink {
    /// A live session and its timeout in ms.
    fn session(&mut self, id: i64, timeout_ms: i32);
    /// An entry of the ACL table.
    fn acl(&mut self, id: i64, acl: Vec<Acl>);
    /// A znode; its parent has been given before. An error says what is wrong with it (missing
    /// parent, duplicate path).
    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), String>;
}

impl<T: SnapshotSink + ?Sized> SnapshotSink for Box<T> {
    fn session(&mut self, id: i64, timeout_ms: i32) {
        (**self).session(id, timeout_ms);
    }

    fn acl(&mut self, id: i64, acl: Vec<Acl>) {
        (**self).acl(id, acl);
    }

    fn node(&mut self, node: NodeRecord<'_>) -> Result<(), String> {
        (**self).node(node)
    }
}

/// The digest section of a snapshot: the tree's digest after a transaction, which is the snapshot's own
/// or, in a fuzzy one, a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotDigest {
    /// The transaction.
    pub zxid: Zxid,
    /// [`crate::txn::DIGEST_VERSION`], or older.
    pub version: i32,
    /// Tree digest, an unsigned number.
    pub tree: i64,
}

/// What became of a logged transaction's digest when the transaction was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestCheck {
    /// Nothing to compare: the record has none, digests are off, or the tree still holds effects of
    /// later transactions (a fuzzy snapshot).
    NotCompared,
    /// The tree has exactly the digest that the leader predicted.
    Equal,
    /// The tree has another one.
    Unequal,
}

/// What a data directory is loaded into. Implemented by the state, filled by the storage.
pub trait Database: SnapshotSink {
    /// The snapshot is complete: the state is now at `zxid`. `digest`: what the tree must have after
    /// the transaction that it names. Called once, also without a snapshot (zxid 0 or -1).
    fn snapshot_loaded(&mut self, zxid: Zxid, digest: Option<SnapshotDigest>)
    -> Result<(), String>;

    /// Applies one transaction of the log, in zxid order, and compares its digest. `bytes` is the
    /// payload as logged. What fails by the replay rules (`docs/spec/storage-formats.md` 8.1) is no
    /// error; an error stops the start.
    fn apply(&mut self, payload: &Payload<'_>, bytes: &[u8]) -> Result<DigestCheck, String>;
}

/// Which item comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    SessionCount,
    Sessions(u32),
    Acls(u32),
    Nodes,
    End,
}

/// Reads a snapshot body item by item from whatever bytes have arrived.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    part: Part,
    /// Longest string or buffer accepted, in bytes.
    max_len: usize,
}

impl BodyDecoder {
    /// Starts before the session table. A string or buffer longer than `max_len` is an error.
    pub fn new(max_len: usize) -> Self {
        BodyDecoder { part: Part::SessionCount, max_len }
    }

    /// The item at the start of `buf` and its length in bytes, or `None` if `buf` does not hold all
    /// of it yet (call again with the same bytes and more). Nothing follows [`Item::End`].
    pub fn next<'a>(&mut self, buf: &'a [u8]) -> Result<Option<(Item<'a>, usize)>, DecodeError> {
        let mut r = Reader::new(buf);
        match self.item(&mut r) {
            Ok(item) => {
                self.part = self.after(&item);
                Ok(Some((item, r.position())))
            }
            Err(DecodeError::Eof { .. }) => Ok(None),
            // A string, buffer or vector that is longer than what has arrived, but not too long.
            Err(DecodeError::BadLength { len, .. }) if 0 <= len && len <= self.max_len as i64 => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn after(&self, item: &Item<'_>) -> Part {
        match (item, self.part) {
            (Item::SessionCount(n), _) => Part::Sessions(*n),
            (Item::Session(..), Part::Sessions(left)) => Part::Sessions(left - 1),
            (Item::AclCount(n), _) => Part::Acls(*n),
            (Item::Acl(..), Part::Acls(left)) => Part::Acls(left - 1),
            (Item::Node(_), _) => Part::Nodes,
            (Item::End, _) => Part::End,
            (item, part) => unreachable!("{item:?} does not come from {part:?}"),
        }
    }

    fn item<'a>(&self, r: &mut Reader<'a>) -> Result<Item<'a>, DecodeError> {
        Ok(match self.part {
            Part::SessionCount => Item::SessionCount(table_len(r)?),
            Part::Sessions(0) => Item::AclCount(table_len(r)?),
            Part::Sessions(_) => Item::Session(r.long()?, r.int()?),
            Part::Acls(left) if left > 0 => Item::Acl(r.long()?, r.opt_vec()?.unwrap_or_default()),
            Part::Acls(_) | Part::Nodes => {
                let path = r.string()?;
                if path == "/" {
                    return Ok(Item::End);
                }
                let data = r.buffer()?;
                Item::Node(NodeRecord {
                    path,
                    data,
                    acl: r.long()?,
                    stat: StatPersisted::decode(r)?,
                })
            }
            Part::End => panic!("a snapshot body was read beyond its end"),
        })
    }
}

fn table_len(r: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let at = r.position();
    let len = r.int()?;
    u32::try_from(len).map_err(|_| DecodeError::BadLength { at, len: len.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_decodes_from_any_split() {
        let acl = Acl::open_unsafe();
        let stat = StatPersisted { czxid: 4, pzxid: 5, ..StatPersisted::default() };
        let mut bytes = Vec::new();
        put_tables(&mut bytes, [(9, 1000)].into_iter(), [(1, &acl[..])].into_iter());
        put_node(&mut bytes, "", Some(b""), OPEN_ACL_ID, &stat);
        put_node(&mut bytes, "/a", None, 1, &stat);
        put_nodes_end(&mut bytes);

        let (mut decoder, mut start, mut names) = (BodyDecoder::new(1024), 0, Vec::new());
        for end in 0..=bytes.len() {
            while let Some((item, len)) = decoder.next(&bytes[start..end]).unwrap() {
                start += len;
                names.push(format!("{item:?}").split(['(', ' ']).next().unwrap().to_owned());
                if item == Item::End {
                    assert_eq!(start, bytes.len());
                    assert_eq!(
                        names,
                        ["SessionCount", "Session", "AclCount", "Acl", "Node", "Node", "End"]
                    );
                    return;
                }
            }
        }
        panic!("no end: {names:?}");
    }

    #[test]
    fn a_node_beyond_the_limit_is_refused_at_once() {
        let mut decoder = BodyDecoder { part: Part::Nodes, max_len: 16 };
        assert!(decoder.next(&[0, 0, 1, 0]).is_err());
    }
}
