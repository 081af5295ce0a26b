//! Requests as ready-made frames, in which only the xid and a node number are filled in.

use std::borrow::Cow;

use oxkeeper_proto::client::{
    AclEntry, CreateRequest, DeleteRequest, ReadRequest, RequestHeader, SetDataRequest, perms,
    put_frame,
};
use oxkeeper_proto::{Encode, OpCode};

/// Digits of a node number in a path.
const DIGITS: usize = 9;
/// Where the xid stands: behind the frame's length.
const XID_AT: usize = 4;
/// Where the path stands: behind length, header and the path's own length.
const PATH_AT: usize = 4 + 8 + 4;

/// A frame to be sent many times.
#[derive(Clone)]
pub struct Template {
    bytes: Vec<u8>,
    number_at: Option<usize>,
}

impl Template {
    fn new(
        op: OpCode,
        path: &str,
        numbered: bool,
        body: impl FnOnce(String, &mut Vec<u8>),
    ) -> Self {
        let zeros = if numbered { "0".repeat(DIGITS) } else { String::new() };
        let path = format!("{path}{zeros}");
        let number_at = numbered.then_some(PATH_AT + path.len() - DIGITS);
        let mut bytes = Vec::new();
        put_frame(&mut bytes, |out| {
            RequestHeader { xid: 0, op: op.code() }.encode(out);
            body(path, out);
        });
        Template { bytes, number_at }
    }

    /// getData of `path` + number.
    pub fn get(path: &str, numbered: bool, watch: bool) -> Template {
        Template::new(OpCode::GetData, path, numbered, |path, out| {
            ReadRequest { path: Cow::Owned(path), watch }.encode(out);
        })
    }

    /// getChildren of `path`.
    pub fn list(path: &str) -> Template {
        Template::new(OpCode::GetChildren, path, false, |path, out| {
            ReadRequest { path: Cow::Owned(path), watch: false }.encode(out);
        })
    }

    /// setData of `path` + number, whatever the version.
    pub fn set(path: &str, numbered: bool, data: &[u8]) -> Template {
        Template::new(OpCode::SetData, path, numbered, |path, out| {
            let data = Some(data);
            SetDataRequest { path: Cow::Owned(path), data, version: -1 }.encode(out);
        })
    }

    /// create of the persistent node `path` + number, open to all.
    pub fn create(path: &str, numbered: bool, data: &[u8]) -> Template {
        Template::new(OpCode::Create, path, numbered, |path, out| {
            let scheme = Some(Cow::Borrowed("world"));
            let id = Some(Cow::Borrowed("anyone"));
            let acl = Some(vec![AclEntry { perms: perms::ALL, scheme, id }]);
            CreateRequest { path: Cow::Owned(path), data: Some(data), acl, flags: 0 }.encode(out);
        })
    }

    /// delete of `path`, whatever the version.
    pub fn delete(path: &str) -> Template {
        Template::new(OpCode::Delete, path, false, |path, out| {
            DeleteRequest { path: Cow::Owned(path), version: -1 }.encode(out);
        })
    }

    /// A request without a body: closeSession, ping.
    pub fn bare(op: OpCode) -> Template {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, |out| RequestHeader { xid: 0, op: op.code() }.encode(out));
        Template { bytes, number_at: None }
    }

    /// Appends the frame with this xid and node number.
    pub fn put(&self, out: &mut Vec<u8>, xid: i32, mut number: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let frame = &mut out[start..];
        frame[XID_AT..XID_AT + 4].copy_from_slice(&xid.to_be_bytes());
        if let Some(at) = self.number_at {
            for digit in frame[at..at + DIGITS].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
    }
}

/// The next xid: positive, and from 1 again behind the last one.
pub fn next_xid(xid: i32) -> i32 {
    xid.checked_add(1).unwrap_or(1)
}

/// A small generator for picking nodes; its quality does not matter.
pub struct Random(u64);

impl Random {
    /// Every seed gives its own stream.
    pub fn new(seed: u64) -> Random {
        Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxkeeper_proto::{Decode, Reader};

    #[test]
    fn a_template_gives_the_frame_of_any_node() {
        let mut out = Vec::new();
        Template::set("/b/data/n", true, b"xyz").put(&mut out, 7, 120_304);
        let mut r = Reader::new(&out);
        assert_eq!(r.int().unwrap() as usize, out.len() - 4);
        assert_eq!(RequestHeader::decode(&mut r).unwrap(), RequestHeader { xid: 7, op: 5 });
        let request = SetDataRequest::decode(&mut r).unwrap();
        assert_eq!(request.path, "/b/data/n000120304");
        assert_eq!((request.data, request.version), (Some(&b"xyz"[..]), -1));
        assert_eq!(r.remaining(), 0);
    }

    #[test]
    fn xids_stay_positive() {
        assert_eq!(next_xid(i32::MAX), 1);
        assert_eq!(next_xid(1), 2);
    }

    #[test]
    fn random_numbers_stay_below_their_bound() {
        let mut random = Random::new(0);
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert!((0..100).any(|_| random.below(7) == 6));
    }
}
