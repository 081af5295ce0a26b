//! What a read must be answered with, at the zxid of its reply.

use std::collections::BTreeSet;

use oxkeeper_proto::client::MultiHeader;
use oxkeeper_proto::{Decode, DecodeError, ErrorCode, OpCode, Reader, Stat};

use crate::check::attempt::permits;
use crate::check::model::{Model, Node, name_hash};
use crate::clients::ops::Op;

/// Who reads, and of which state.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'m> {
    /// All states.
    pub model: &'m Model,
    /// The one.
    pub zxid: i64,
    /// Whose session.
    pub session: i64,
    /// Is it the one whom lists name?
    pub ben: bool,
}

impl Reading<'_> {
    /// Compares a reply with the model; an error says how they differ.
    pub fn check(&self, op: &Op, err: i32, body: &[u8]) -> Result<(), String> {
        let mut reader = Reader::new(body);
        let expected = self.error(op);
        if expected != err {
            return Err(format!("answered with {err}, where {expected} is right"));
        }
        if err == 0 {
            self.body(op, &mut reader).map_err(|error| format!("cannot be read: {error}"))??;
        }
        match reader.remaining() {
            0 => Ok(()),
            more => Err(format!("{more} bytes too many")),
        }
    }

    /// The error that the reply must have; 0: none.
    pub fn error(&self, op: &Op) -> i32 {
        let code = match op {
            Op::Exists { path, .. }
            | Op::GetData { path, .. }
            | Op::GetChildren { path, .. }
            | Op::CountDescendants { path } => self.readable(path).err(),
            _ => None,
        };
        code.map_or(0, ErrorCode::code)
    }

    fn readable(&self, path: &str) -> Result<&Node, ErrorCode> {
        let node = self.model.at(path, self.zxid).ok_or(ErrorCode::NoNode)?;
        if permits(&node.acl, 1, self.ben) { Ok(node) } else { Err(ErrorCode::NoAuth) }
    }

    fn body(&self, op: &Op, r: &mut Reader<'_>) -> Result<Result<(), String>, DecodeError> {
        match op {
            Op::MultiRead(ops) => return self.parts(ops, r),
            Op::AddWatch { .. } => return Ok(same("body", &r.int()?, &0)),
            Op::Sync => return Ok(same("echo", &&*r.string()?, &"/")),
            Op::GetEphemerals { prefix } => {
                let read: BTreeSet<_> = r.vec::<String>()?.into_iter().collect();
                let right = self.model.ephemerals(self.session, self.zxid).into_iter();
                let all = prefix == "/";
                let right: BTreeSet<String> = right
                    .filter(|path| all || path.starts_with(prefix))
                    .map(str::to_owned)
                    .collect();
                return Ok(same("ephemerals", &read, &right));
            }
            Op::CountDescendants { path } => {
                let below = format!("{path}/");
                let nodes = self.model.paths_below(&below);
                let there = nodes.filter(|path| self.model.at(path, self.zxid).is_some()).count();
                return Ok(same("descendants", &r.int()?, &(there as i32)));
            }
            _ => {}
        }
        let path = match op {
            Op::Exists { path, .. } | Op::GetData { path, .. } | Op::GetChildren { path, .. } => {
                path
            }
            _ => return Ok(Ok(())),
        };
        let Ok(node) = self.readable(path) else { return Ok(Ok(())) };
        if let Op::GetData { .. } = op {
            let data = r.buffer()?;
            if data != node.data.as_deref() {
                let text =
                    |data: Option<&[u8]>| data.map(String::from_utf8_lossy).map(|t| t.into_owned());
                let (read, right) = (text(data), text(node.data.as_deref()));
                return Ok(Err(format!("data {read:?}, where {right:?} is right")));
            }
        }
        if let Op::GetChildren { .. } = op {
            let names = r.vec::<String>()?;
            let sum = names.iter().fold(0u64, |sum, name| sum.wrapping_add(name_hash(name)));
            if (names.len() as i32, sum) != (node.children, node.names) {
                return Ok(Err(format!(
                    "children {names:?} are not the {} that are",
                    node.children
                )));
            }
        }
        if let Op::GetChildren { stat: false, .. } = op {
            return Ok(Ok(()));
        }
        Ok(same("stat", &Stat::decode(r)?, &node.stat()))
    }

    fn parts(&self, ops: &[Op], r: &mut Reader<'_>) -> Result<Result<(), String>, DecodeError> {
        for op in ops {
            let header = MultiHeader::decode(r)?;
            let err = self.error(op);
            let kind = if err == 0 { op.code() } else { OpCode::Error };
            if header != (MultiHeader { kind: kind.code(), done: false, err }) {
                return Ok(Err(format!("{header:?}, where {err} is right for {op:?}")));
            }
            if err != 0 {
                if r.int()? != err {
                    return Ok(Err("a part has two errors".to_owned()));
                }
                continue;
            }
            if let Err(wrong) = self.body(op, r)? {
                return Ok(Err(wrong));
            }
        }
        Ok(same("end", &MultiHeader::decode(r)?, &MultiHeader::END))
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, read: &T, right: &T) -> Result<(), String> {
    match read == right {
        true => Ok(()),
        false => Err(format!("{what} {read:?}, where {right:?} is right")),
    }
}
