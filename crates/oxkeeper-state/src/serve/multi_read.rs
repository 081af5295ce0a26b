//! multiRead: several reads at one point of the state, each with its own success.
//!
//! Source: `docs/spec/client-protocol.md` 9.3.

use oxkeeper_proto::client::{MultiHeader, ReadRequest};
use oxkeeper_proto::{Encode, ErrorCode, OpCode, Reader};

use super::{Read, decode};
use crate::reply::put_error_part;

impl Read<'_> {
    /// Only getData and getChildren may occur, else the whole request fails. No watch is set.
    pub(super) fn multi_read(
        &self,
        r: &mut Reader<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ErrorCode> {
        loop {
            let header: MultiHeader = decode(r)?;
            if header.done {
                MultiHeader::END.encode(out);
                return Ok(());
            }
            let op = OpCode::from_code(header.kind);
            let op = op.filter(|op| matches!(op, OpCode::GetData | OpCode::GetChildren));
            let op = op.ok_or(ErrorCode::MarshallingError)?;
            let ReadRequest { path, .. } = decode(r)?;
            let start = out.len();
            MultiHeader { kind: op.code(), done: false, err: 0 }.encode(out);
            let read = match op {
                OpCode::GetData => self.put_data(&path, out),
                _ => self.put_children(&path, out).map(drop),
            };
            if let Err(code) = read {
                out.truncate(start);
                put_error_part(out, code.code());
            }
        }
    }
}
