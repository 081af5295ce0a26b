//! Numbers with meaning: zxids, epochs, server and session ids.

use std::fmt;

/// Number of a leader's reign; the high half of a [`Zxid`].
pub type Epoch = u32;

/// Id of a server of the ensemble (`myid`). Usable range 1..=255; negative values are assigned to
/// learners that announce none.
pub type ServerId = i64;

/// Id of a client session, as a signed 64-bit pattern. 0 is never valid.
pub type SessionId = i64;

/// Transaction id: the total order of all writes in an ensemble.
///
/// High 32 bits are the leader's [`Epoch`], low 32 bits count its proposals from 1, so integer order
/// is Zab order. Counter 0 is no proposal: it marks `NEWLEADER`. Compared as signed, as the wire has
/// it. -1 means "database empty and not trusted".
/// Source: Junqueira, Reed, Serafini, "Zab", DSN 2011.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Zxid(pub i64);

impl Zxid {
    /// No transaction yet.
    pub const ZERO: Zxid = Zxid(0);
    /// The last zxid of an epoch that may be proposed is one below this counter
    /// (`docs/spec/quorum-protocol.md` 14.4).
    pub const COUNTER_END: u32 = u32::MAX;

    /// The zxid with this epoch and counter.
    pub fn new(epoch: Epoch, counter: u32) -> Zxid {
        Zxid(((u64::from(epoch) << 32) | u64::from(counter)) as i64)
    }

    /// The epoch, the high half.
    pub fn epoch(self) -> Epoch {
        (self.0 as u64 >> 32) as u32
    }

    /// The counter, the low half.
    pub fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The next proposal of this epoch, or `None` at the counter's end: the leader then steps down,
    /// since only an election can open the next epoch.
    pub fn next(self) -> Option<Zxid> {
        let counter = self.counter().checked_add(1)?;
        (counter != Zxid::COUNTER_END).then(|| Zxid::new(self.epoch(), counter))
    }

    /// May a transaction of this zxid stand behind `previous` in a history: is it the next one, or the first
    /// of a later epoch? Anything else is a hole that no start would survive (ZOOKEEPER-3642,
    /// ZOOKEEPER-4925). How the epoch before a later one ended the numbers do not say.
    ///
    /// Nothing may follow -1, a history that is empty and not trusted: only a snapshot can replace that.
    /// Source: `docs/spec/quorum-protocol.md` 2, `docs/spec/storage-formats.md` 2 and 7.2.
    pub fn may_follow(self, previous: Zxid) -> bool {
        let first_of_later_epoch = previous.epoch() < self.epoch() && self.counter() == 1;
        self.is_next(previous) || (Zxid::ZERO <= previous && first_of_later_epoch)
    }

    /// Do the numbers say that nothing is between them? A single server of Apache's counts on where the
    /// counter of an epoch ends, from 0x0ffffffff to 0x100000000.
    pub fn is_next(self, previous: Zxid) -> bool {
        Zxid::ZERO <= previous && previous.0.checked_add(1) == Some(self.0)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// The two epochs that a member keeps on disk. Never `accepted < current`.
/// Source: `docs/spec/quorum-protocol.md` 2, `docs/spec/storage-formats.md` 10.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epochs {
    /// acceptedEpoch: the newest epoch that this server has promised to take part in.
    pub accepted: Epoch,
    /// currentEpoch: the newest epoch whose history this server has taken over.
    pub current: Epoch,
}

/// The 16 bytes a client must present to resume `session`.
///
/// Every member of an ensemble, ours or Apache's, computes the same bytes: four outputs of
/// `java.util.Random` seeded with `session ^ 0xB3415C00`, least significant byte first.
/// Source: `docs/spec/client-protocol.md` 2.7.
pub fn session_password(session: SessionId) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut state = ((session as u64 ^ 0xB341_5C00) ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for word in password.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    password
}

/// First session id a server hands out: its id in the top byte, five bytes of a millisecond clock,
/// two zero bytes. Later sessions count up.
/// Source: `docs/spec/client-protocol.md` 2.6.
pub fn first_session_id(server: ServerId, now_ms: i64) -> SessionId {
    let clock = (((now_ms as u64) << 24) >> 8) & 0x00ff_ffff_ffff_ffff;
    ((server as u64) << 56 | clock) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_match_the_reference() {
        let check = |session: i64, hex: &str| {
            let text: String =
                session_password(session).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text, hex);
        };
        check(0x0100_0000_0000_0000, "f22acd4a97e69d6d20a49bb638eadb38");
        check(0x0100_0f3a_2b4c_0000, "165e8313eb0454f2e405d6a4aca23d34");
        check(1, "054cc74a37327db215e702e20c73f005");
    }

    #[test]
    fn the_counter_ends_before_its_last_value() {
        assert_eq!(Zxid::new(3, 0xffff_fffd).next(), Some(Zxid::new(3, 0xffff_fffe)));
        assert_eq!(Zxid::new(3, 0xffff_fffe).next(), None);
    }

    #[test]
    fn a_zxid_follows_the_one_before_it_or_any_of_an_earlier_epoch_if_it_is_an_epochs_first() {
        let follows = |previous, next| Zxid::may_follow(next, previous);
        assert!(follows(Zxid::new(1, 1), Zxid::new(1, 2)));
        assert!(follows(Zxid::new(1, 7), Zxid::new(3, 1)));
        assert!(follows(Zxid::ZERO, Zxid::new(0, 1)));
        assert!(follows(Zxid::new(0, u32::MAX), Zxid::new(1, 0)));
        for (previous, next) in [
            (Zxid::new(1, 1), Zxid::new(1, 1)),
            (Zxid::new(1, 1), Zxid::new(1, 3)),
            (Zxid::new(1, 1), Zxid::new(2, 2)),
            (Zxid::new(2, 1), Zxid::new(1, 1)),
            (Zxid(-1), Zxid::ZERO),
            (Zxid(-1), Zxid::new(1, 1)),
            (Zxid(i64::MAX), Zxid(i64::MIN)),
        ] {
            assert!(!follows(previous, next), "{next} behind {previous}");
        }
    }

    #[test]
    fn session_ids_carry_the_server_and_end_in_two_zero_bytes() {
        let id = first_session_id(3, 0x0000_018c_1234_5678);
        assert_eq!(id >> 56, 3);
        assert_eq!(id & 0xffff, 0);
    }
}
