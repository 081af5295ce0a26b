//! Replies to writes, from what applying the transaction did.
//!
//! Source: `docs/spec/client-protocol.md` 3, 4, 9.1.

use oxkeeper_proto::client::{MultiHeader, ReplyHeader, put_frame};
use oxkeeper_proto::jute::{put_int, put_string};
use oxkeeper_proto::{Encode, OpCode, Stat, Zxid};

use crate::apply::Outcome;

/// Appends the reply to a write: `op` is the request's operation number. A failed one is a header of 16
/// bytes; a multi that failed is none such, its error is in its body.
pub fn put_reply(out: &mut Vec<u8>, xid: i32, zxid: Zxid, op: i32, outcome: &Outcome) {
    put_frame(out, |out| {
        let err = if let Outcome::Failed(code) = outcome { *code } else { 0 };
        ReplyHeader { xid, zxid: zxid.0, err }.encode(out);
        match outcome {
            Outcome::Created { path, stat, .. } => {
                put_created(out, op != OpCode::Create.code(), path, stat);
            }
            Outcome::DataSet(stat) if op == OpCode::Reconfig.code() => {
                // The reference answers with the new text as well; it is not at hand here.
                put_int(out, -1);
                stat.encode(out);
            }
            Outcome::DataSet(stat) | Outcome::AclSet(stat) => stat.encode(out),
            Outcome::Multi(outcomes) => {
                outcomes.iter().for_each(|outcome| put_part(out, outcome));
                MultiHeader::END.encode(out);
            }
            Outcome::MultiFailed(codes) => {
                codes.iter().for_each(|code| put_error_part(out, *code));
                MultiHeader::END.encode(out);
            }
            Outcome::Deleted
            | Outcome::Checked
            | Outcome::SessionCreated { .. }
            | Outcome::SessionClosed
            | Outcome::Failed(_) => {}
        }
    });
}

fn put_created(out: &mut Vec<u8>, with_stat: bool, path: &str, stat: &Stat) {
    put_string(out, path);
    if with_stat {
        stat.encode(out);
    }
}

/// One result of a multi that was applied.
fn put_part(out: &mut Vec<u8>, outcome: &Outcome) {
    let kind = match outcome {
        Outcome::Created { op: OpCode::Create, .. } => OpCode::Create,
        // All others look like a create2, also containers and nodes with a time to live.
        Outcome::Created { .. } => OpCode::Create2,
        Outcome::DataSet(_) => OpCode::SetData,
        Outcome::Checked => OpCode::Check,
        Outcome::Failed(code) => return put_error_part(out, *code),
        _ => OpCode::Delete,
    };
    MultiHeader { kind: kind.code(), done: false, err: 0 }.encode(out);
    match outcome {
        Outcome::Created { path, stat, .. } => {
            put_created(out, kind == OpCode::Create2, path, stat);
        }
        Outcome::DataSet(stat) => stat.encode(out),
        _ => {}
    }
}

/// One result of a multi that failed, or of a read in a multiRead that did.
pub(crate) fn put_error_part(out: &mut Vec<u8>, code: i32) {
    MultiHeader { kind: OpCode::Error.code(), done: false, err: code }.encode(out);
    put_int(out, code);
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

    fn reply(xid: i32, zxid: i64, op: OpCode, outcome: Outcome) -> Vec<u8> {
        let mut out = Vec::new();
        put_reply(&mut out, xid, Zxid(zxid), op.code(), &outcome);
        out
    }

    fn created(op: OpCode) -> Outcome {
        Outcome::Created { op, path: "/a".into(), stat: Stat { czxid: 2, ..Default::default() } }
    }

    /// Bytes of `docs/spec/client-protocol.md` appendix A.
    #[test]
    fn replies_are_the_bytes_of_the_specification() {
        assert_eq!(
            reply(1, 2, OpCode::Create, created(OpCode::Create)),
            hex("00000016 00000001 0000000000000002 00000000 00000002 2f61")
        );
        assert_eq!(
            reply(5, 6, OpCode::Multi, Outcome::Multi(vec![Outcome::Checked, Outcome::Deleted])),
            hex("0000002b 00000005 0000000000000006 00000000 0000000d 00 00000000 00000002 00 \
                 00000000 ffffffff 01 ffffffff")
        );
    }

    #[test]
    fn trap_02_a_failed_multi_has_no_error_in_its_header() {
        assert_eq!(
            reply(5, 6, OpCode::Multi, Outcome::MultiFailed(vec![0, -101])),
            hex("00000033 00000005 0000000000000006 00000000 ffffffff 00 00000000 00000000 \
                 ffffffff 00 ffffff9b ffffff9b ffffffff 01 ffffffff")
        );
    }

    #[test]
    fn trap_03_containers_and_ttl_nodes_in_a_multi_are_typed_create2() {
        let kind = |op| {
            let bytes = reply(1, 1, OpCode::Multi, Outcome::Multi(vec![created(op)]));
            (i32::from_be_bytes(bytes[20..24].try_into().unwrap()), bytes.len())
        };
        let with_stat = 4 + 16 + 9 + 6 + 68 + 9;
        assert_eq!(kind(OpCode::Create), (1, with_stat - 68));
        for op in [OpCode::Create2, OpCode::CreateContainer, OpCode::CreateTtl] {
            assert_eq!(kind(op), (15, with_stat));
        }
    }

    #[test]
    fn trap_18_writes_without_result_have_no_body() {
        assert_eq!(reply(1, 1, OpCode::Delete, Outcome::Deleted).len(), 20);
        assert_eq!(reply(1, 1, OpCode::CloseSession, Outcome::SessionClosed).len(), 20);
    }

    #[test]
    fn trap_19_an_error_reply_has_sixteen_bytes() {
        for op in [OpCode::Create, OpCode::Create2, OpCode::SetData, OpCode::Multi] {
            assert_eq!(
                reply(3, 2, op, Outcome::Failed(-101)),
                hex("00000010 00000003 0000000000000002 ffffff9b")
            );
        }
    }

    #[test]
    fn only_a_plain_create_is_answered_without_a_stat() {
        assert_eq!(reply(1, 1, OpCode::Create, created(OpCode::Create)).len(), 26);
        for op in [OpCode::Create2, OpCode::CreateContainer, OpCode::CreateTtl] {
            assert_eq!(reply(1, 1, op, created(op)).len(), 26 + 68);
        }
        assert_eq!(reply(1, 1, OpCode::SetAcl, Outcome::AclSet(Stat::default())).len(), 20 + 68);
    }
}
