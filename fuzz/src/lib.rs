//! What the fuzz targets share: how one input becomes several pieces, and what every message must
//! hold.

use std::fmt::Debug;

/// Cuts pieces from a fuzzer's input. Numbers are big-endian, as in the protocol.
pub struct Pieces<'a>(pub &'a [u8]);

impl<'a> Pieces<'a> {
    /// The next `len` bytes, fewer at the end.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        piece
    }

    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// The next 32-bit number; missing bytes are 0 in front.
    pub fn int(&mut self) -> i32 {
        self.take(4).iter().fold(0, |value, byte| value << 8 | i32::from(*byte))
    }

    /// A piece behind its length of two bytes, or `None` at the end.
    pub fn piece(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let len = self.take(2).iter().fold(0, |value, byte| value << 8 | usize::from(*byte));
        Some(self.take(len))
    }
}

/// Decodes a stream of messages that say their own length: cut anywhere, a message is the same, and
/// a prefix of it is no message and no error. `check` sees each message.
pub fn stream<T: Debug + PartialEq, E: Debug>(
    mut buf: &[u8],
    decode: impl Fn(&[u8]) -> Result<Option<(T, usize)>, E>,
    mut check: impl FnMut(&T),
) {
    while let Ok(Some((message, len))) = decode(buf) {
        assert!(0 < len && len <= buf.len(), "a message of {len} bytes in {}", buf.len());
        let (whole, rest) = buf.split_at(len);
        assert_eq!(decode(whole).unwrap().unwrap(), (message, len));
        for end in [0, 1, len / 2, len - 1] {
            assert!(matches!(decode(&whole[..end.min(len - 1)]), Ok(None)), "cut at {end}");
        }
        let (message, _) = decode(whole).unwrap().unwrap();
        check(&message);
        buf = rest;
    }
}
