//! The election and quorum ports' messages.
//!
//! Quorum packets have no outer length, so they are parsed incrementally: a decoder says how many
//! bytes a message took, or that more must arrive. Source: `docs/spec/quorum-protocol.md` 5, 6, 8.

use bytes::Bytes;

use crate::client::Id;
use crate::jute::{Decode, DecodeError, Encode, Reader, put_buffer, put_int, put_long};
use crate::{Epoch, ServerId, Zxid, records};

/// Protocol version in [`LearnerInfo`] and LEADERINFO.
pub const PROTOCOL_VERSION: i32 = 0x10000;

macro_rules! packet_kinds {
    ($($(#[$meta:meta])* $name:ident = $value:expr,)*) => {
        /// Packet types of the quorum port (`docs/spec/quorum-protocol.md` 8.2).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum PacketKind { $($(#[$meta])* $name = $value,)* }

        impl PacketKind {
            /// The kind with this number.
            pub fn from_code(code: i32) -> Option<Self> {
                match code { $($value => Some(PacketKind::$name),)* _ => None }
            }
        }
    };
}

packet_kinds! {
    /// L -> M: a client's write, see [`Request`].
    Request = 1,
    /// M -> F: a transaction to log.
    Proposal = 2,
    /// L -> M: logged (or NEWLEADER / UPTODATE accepted).
    Ack = 3,
    /// M -> F: the oldest pending proposal is committed.
    Commit = 4,
    /// Both ways: liveness; the reply carries session touches.
    Ping = 5,
    /// Both ways: does this session still exist?
    Revalidate = 6,
    /// M -> L: the oldest pending sync is done.
    Sync = 7,
    /// M -> O: a committed transaction.
    Inform = 8,
    /// M -> F: as Commit, for a reconfiguration.
    CommitAndActivate = 9,
    /// M -> L: the history up to here is the new leader's.
    NewLeader = 10,
    /// F -> M: first packet, see [`LearnerInfo`].
    FollowerInfo = 11,
    /// M -> L: serve clients.
    UpToDate = 12,
    /// M -> L: missing proposals follow.
    Diff = 13,
    /// M -> L: cut the log back to this zxid.
    Trunc = 14,
    /// M -> L: a snapshot follows.
    Snap = 15,
    /// O -> M: first packet, see [`LearnerInfo`].
    ObserverInfo = 16,
    /// M -> L: the new epoch.
    LeaderInfo = 17,
    /// L -> M: last zxid and currentEpoch.
    AckEpoch = 18,
    /// M -> O: as Inform, for a reconfiguration.
    InformAndActivate = 19,
}

/// One packet of the quorum port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// A [`PacketKind`] number, or one we do not know.
    pub kind: i32,
    /// Meaning by kind.
    pub zxid: Zxid,
    /// Meaning by kind; null and empty differ.
    pub data: Option<Bytes>,
    /// Identities of the client of a REQUEST.
    pub auth: Option<Vec<Id>>,
}

impl Packet {
    /// A packet without data.
    pub fn bare(kind: PacketKind, zxid: Zxid) -> Packet {
        Packet { kind: kind as i32, zxid, data: None, auth: None }
    }

    /// A packet with data.
    pub fn with(kind: PacketKind, zxid: Zxid, data: impl Into<Bytes>) -> Packet {
        Packet { kind: kind as i32, zxid, data: Some(data.into()), auth: None }
    }

    /// Its kind, if known.
    pub fn known_kind(&self) -> Option<PacketKind> {
        PacketKind::from_code(self.kind)
    }

    /// The packet at the start of `buf` and its length in bytes; `None` if more bytes must arrive. A
    /// string or buffer longer than `max_len` is an error.
    pub fn decode(buf: &[u8], max_len: usize) -> Result<Option<(Packet, usize)>, DecodeError> {
        let mut r = Reader::new(buf);
        let packet = Packet::read(&mut r);
        incremental(packet, &r, max_len)
    }

    fn read(r: &mut Reader<'_>) -> Result<Packet, DecodeError> {
        Ok(Packet {
            kind: r.int()?,
            zxid: Zxid(r.long()?),
            data: r.buffer()?.map(Bytes::copy_from_slice),
            auth: r.opt_vec()?,
        })
    }
}

impl Encode for Packet {
    fn encode(&self, out: &mut Vec<u8>) {
        put_int(out, self.kind);
        put_long(out, self.zxid.0);
        put_buffer(out, self.data.as_deref());
        self.auth.encode(out);
    }
}

/// Turns "the input is shorter than what it announces, within the limit" into "wait for more".
fn incremental<T>(
    result: Result<T, DecodeError>,
    r: &Reader<'_>,
    max_len: usize,
) -> Result<Option<(T, usize)>, DecodeError> {
    match result {
        Ok(value) => Ok(Some((value, r.position()))),
        Err(DecodeError::Eof { .. }) => Ok(None),
        Err(DecodeError::BadLength { len, .. }) if 0 <= len && len <= max_len as i64 => Ok(None),
        Err(error) => Err(error),
    }
}

records! {
    /// Data of FOLLOWERINFO and OBSERVERINFO; 20 bytes. (Shorter forms are not accepted: they belong
    /// to versions before 3.4.)
    #[derive(Copy)]
    LearnerInfo {
        server: i64,
        /// [`PROTOCOL_VERSION`].
        protocol: i32,
        /// Version of the learner's committed configuration.
        config_version: i64,
    }

    /// Data of a REVALIDATE request: session and timeout in ms.
    #[derive(Copy)]
    RevalidateRequest { session: i64, timeout_ms: i32, }

    /// Data of a REVALIDATE reply.
    #[derive(Copy)]
    RevalidateReply { session: i64, valid: bool, }

    /// Starts the data of a REQUEST; the client's request body follows.
    #[derive(Copy)]
    RequestHead { session: i64, cxid: i32, op: i32, }
}

/// Data of a REQUEST packet, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The client's session.
    pub session: i64,
    /// The client's request number.
    pub cxid: i32,
    /// An [`crate::OpCode`] number.
    pub op: i32,
    /// The request record, as the client sent it.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads the data of a REQUEST.
    pub fn decode(data: &'a [u8]) -> Result<Request<'a>, DecodeError> {
        let mut r = Reader::new(data);
        let head = RequestHead::decode(&mut r)?;
        Ok(Request { session: head.session, cxid: head.cxid, op: head.op, body: r.rest() })
    }

    /// The data of a REQUEST.
    pub fn encode(&self, out: &mut Vec<u8>) {
        RequestHead { session: self.session, cxid: self.cxid, op: self.op }.encode(out);
        out.extend_from_slice(self.body);
    }
}

/// Reads the touches in a PING reply: (session, timeout ms)*. A cut entry ends the list.
pub fn decode_touches(data: &[u8]) -> impl Iterator<Item = (i64, i32)> + '_ {
    let mut r = Reader::new(data);
    std::iter::from_fn(move || Some((r.long().ok()?, r.int().ok()?)))
}

/// Appends one touch to the data of a PING reply.
pub fn put_touch(out: &mut Vec<u8>, session: i64, timeout_ms: i32) {
    put_long(out, session);
    put_int(out, timeout_ms);
}

/// What a server of the ensemble is doing, as notifications tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum ServerState {
    Looking = 0,
    Following = 1,
    Leading = 2,
    Observing = 3,
}

impl ServerState {
    /// The state with this number.
    pub fn from_code(code: i32) -> Option<Self> {
        Some(match code {
            0 => ServerState::Looking,
            1 => ServerState::Following,
            2 => ServerState::Leading,
            3 => ServerState::Observing,
            _ => return None,
        })
    }
}

/// Marks "no candidate", in the leader, zxid and epoch of observers and strangers.
pub const NO_VOTE: i64 = i64::MIN;

/// One message of the election port: the sender's vote and state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Notification {
    /// A [`ServerState`] number.
    pub state: i32,
    /// The proposed, or followed, leader; [`NO_VOTE`] from a server that is no voter.
    pub leader: ServerId,
    /// That leader's last logged zxid at election time.
    pub zxid: Zxid,
    /// Round of the election.
    pub election_epoch: i64,
    /// That leader's currentEpoch (after synchronization: the new epoch).
    pub peer_epoch: i64,
    /// 2 in all supported versions.
    pub version: i32,
    /// Text of the sender's committed configuration, see [`crate::ensemble`].
    pub config: Option<Bytes>,
}

/// Version of the notification format with configuration text.
pub const NOTIFICATION_VERSION: i32 = 2;
/// Bounds of an election frame's length, in bytes.
pub const ELECTION_FRAME: std::ops::RangeInclusive<usize> = 1..=524_288;

impl Notification {
    /// Reads the payload of one election frame; older, shorter formats are accepted.
    pub fn decode(frame: &[u8]) -> Result<Notification, DecodeError> {
        let mut r = Reader::new(frame);
        let (state, leader, zxid) = (r.int()?, r.long()?, Zxid(r.long()?));
        let election_epoch = r.long()?;
        let peer_epoch = if r.remaining() >= 8 { r.long()? } else { i64::from(zxid.epoch()) };
        // 40 bytes are an old format whose last four mean nothing.
        let version = if r.remaining() >= 4 && frame.len() != 40 { r.int()? } else { 0 };
        let config = match version {
            2.. => r.buffer()?.map(Bytes::copy_from_slice),
            _ => None,
        };
        Ok(Notification { state, leader, zxid, election_epoch, peer_epoch, version, config })
    }
}

impl Encode for Notification {
    /// The payload, without the frame length; always the current format.
    fn encode(&self, out: &mut Vec<u8>) {
        put_int(out, self.state);
        put_long(out, self.leader);
        put_long(out, self.zxid.0);
        put_long(out, self.election_epoch);
        put_long(out, self.peer_epoch);
        put_int(out, self.version);
        put_buffer(out, Some(self.config.as_deref().unwrap_or_default()));
    }
}

/// The first message on an election connection, from the side that connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitialMessage {
    /// [`InitialMessage::V1`] or [`InitialMessage::V2`].
    pub protocol: i64,
    /// The sender.
    pub server: ServerId,
    /// Its election addresses, `host:port`, joined by `|` (V1: exactly one).
    pub addresses: String,
}

impl InitialMessage {
    /// One address.
    pub const V1: i64 = -65536;
    /// Several addresses; sent only with `multiAddress.enabled`.
    pub const V2: i64 = -65535;
    /// Longest address text accepted, in bytes.
    pub const MAX_ADDRESSES: usize = 2048;

    /// The message at the start of `buf` and its length; `None` if more bytes must arrive.
    ///
    /// A first long that is not negative is a legacy form: the sender's id and nothing else.
    pub fn decode(buf: &[u8]) -> Result<Option<(InitialMessage, usize)>, DecodeError> {
        let mut r = Reader::new(buf);
        let message = InitialMessage::read(&mut r);
        incremental(message, &r, InitialMessage::MAX_ADDRESSES)
    }

    fn read(r: &mut Reader<'_>) -> Result<InitialMessage, DecodeError> {
        let protocol = r.long()?;
        if protocol >= 0 {
            return Ok(InitialMessage { protocol, server: protocol, addresses: String::new() });
        }
        if protocol != InitialMessage::V1 && protocol != InitialMessage::V2 {
            return Err(DecodeError::BadValue {
                what: "election protocol",
                value: protocol,
                at: 0,
            });
        }
        let server = r.long()?;
        let at = r.position();
        let len = r.int()?;
        if !(1..=InitialMessage::MAX_ADDRESSES as i32).contains(&len) {
            return Err(DecodeError::BadLength { at, len: i64::from(len).min(-1) });
        }
        let addresses = String::from_utf8_lossy(r.take(len as usize)?).into_owned();
        Ok(InitialMessage { protocol, server, addresses })
    }
}

impl Encode for InitialMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        put_long(out, self.protocol);
        put_long(out, self.server);
        put_buffer(out, Some(self.addresses.as_bytes()));
    }
}

/// Data of ACKEPOCH: currentEpoch, or -1 for "already acknowledged".
pub fn ack_epoch_data(current: Option<Epoch>) -> Bytes {
    let value = current.map_or(-1, |epoch| epoch as i32);
    Bytes::copy_from_slice(&value.to_be_bytes())
}

/// Appends a whole PROPOSAL or INFORM packet around a payload that is encoded already.
pub fn put_payload_packet(out: &mut Vec<u8>, kind: PacketKind, zxid: Zxid, payload: &[u8]) {
    put_int(out, kind as i32);
    put_long(out, zxid.0);
    put_buffer(out, Some(payload));
    put_int(out, -1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_packet_has_20_bytes_and_waits_for_all_of_them() {
        let bytes = Packet::bare(PacketKind::Ping, Zxid::new(1, 2)).to_bytes();
        assert_eq!(bytes.len(), 20);
        for end in 0..20 {
            assert_eq!(Packet::decode(&bytes[..end], 1024), Ok(None));
        }
        let (packet, len) = Packet::decode(&bytes, 1024).unwrap().unwrap();
        assert_eq!((packet.known_kind(), len), (Some(PacketKind::Ping), 20));
    }

    #[test]
    fn a_packet_longer_than_the_limit_is_refused_before_it_arrives() {
        let mut bytes = Packet::bare(PacketKind::Proposal, Zxid(1)).to_bytes();
        bytes[12..16].copy_from_slice(&2000i32.to_be_bytes());
        assert!(Packet::decode(&bytes, 1024).is_err());
        assert_eq!(Packet::decode(&bytes, 4096), Ok(None));
    }

    #[test]
    fn old_notifications_of_28_and_40_bytes_have_no_version() {
        let mut frame = vec![0, 0, 0, 2];
        frame.extend_from_slice(&3i64.to_be_bytes());
        frame.extend_from_slice(&Zxid::new(5, 1).0.to_be_bytes());
        frame.extend_from_slice(&4i64.to_be_bytes());
        let short = Notification::decode(&frame).unwrap();
        assert_eq!((short.leader, short.election_epoch, short.peer_epoch), (3, 4, 5));
        frame.extend_from_slice(&6i64.to_be_bytes());
        frame.extend_from_slice(&[9; 4]);
        let longer = Notification::decode(&frame).unwrap();
        assert_eq!((longer.peer_epoch, longer.version, longer.config), (6, 0, None));
        assert!(Notification::decode(&frame[..27]).is_err());
    }

    #[test]
    fn an_initial_message_with_an_absurd_length_is_refused() {
        let message = InitialMessage {
            protocol: InitialMessage::V1,
            server: 2,
            addresses: "127.0.0.1:3888".into(),
        };
        let mut bytes = message.to_bytes();
        assert_eq!(InitialMessage::decode(&bytes), Ok(Some((message, bytes.len()))));
        bytes[16..20].copy_from_slice(&3000i32.to_be_bytes());
        assert!(InitialMessage::decode(&bytes).is_err());
    }
}
