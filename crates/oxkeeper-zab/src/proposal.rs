//! A transaction between servers: the one place where a payload from the network is read.

use bytes::Bytes;
use oxkeeper_proto::txn::{Payload, TxnHeader};
use oxkeeper_proto::{Decode, OpCode, Zxid};

use crate::error::Misbehaved;

/// A transaction on its way: its zxid and its log payload (header, record, digest), which the log
/// and every learner share.
///
/// It is known to decode, whoever carries it: it comes from [`Proposal::from_wire`], from a log whose
/// records were read when it was loaded, or from this server's own preparation. (The one exception
/// precedes the proposals of [`Input::LogRead`](crate::Input::LogRead), and serves only as a zxid.)
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Position in the total order.
    pub zxid: Zxid,
    /// The bytes of the log record and of the PROPOSAL packet.
    pub payload: Bytes,
}

impl Proposal {
    /// A proposal as a leader sent it, in PROPOSAL or INFORM: `zxid` of the packet, `payload` its data.
    ///
    /// The whole payload is decoded: what cannot be read must not be logged, for it would come back at
    /// every start. An error names what is wrong with it.
    /// Source: `docs/spec/quorum-protocol.md` 14.1, trap 4.
    pub fn from_wire(zxid: Zxid, payload: Bytes) -> Result<Proposal, Misbehaved> {
        let malformed = |error| Misbehaved::Malformed { packet: "PROPOSAL", error };
        let header = TxnHeader::from_bytes(&payload).map_err(malformed)?;
        if header.kind == OpCode::Check.code() {
            return Err(Misbehaved::TopLevelCheck(zxid));
        }
        if header.zxid != zxid.0 {
            return Err(Misbehaved::WrongZxid { packet: zxid, payload: Zxid(header.zxid) });
        }
        Payload::decode(&payload).map_err(malformed)?;
        Ok(Proposal { zxid, payload })
    }
}
