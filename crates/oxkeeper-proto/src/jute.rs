//! Jute, the primitive encoding of every border: big-endian integers, length-prefixed strings and
//! buffers (-1 is null), counted vectors, records without tags or padding.
//!
//! Source: `docs/spec/client-protocol.md` 1.2.

use std::borrow::Cow;

/// Default of `jute.maxbuffer`: the largest frame a server accepts, in bytes.
pub const DEFAULT_MAX_BUFFER: usize = 0xf_ffff;

/// Why bytes did not decode. Offsets count from the start of the message.
#[derive(Clone, Debug, PartialEq, Hash, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ended inside a field.
    #[error("message ends at byte {at}: {needed} more bytes needed")]
    Eof {
        /// Where the field starts.
        at: usize,
        /// How many bytes are missing.
        needed: usize,
    },
    /// A length prefix is negative (other than -1) or above what is allowed.
    #[error("unreasonable length {len} at byte {at}")]
    BadLength {
        /// Where the length prefix stands.
        at: usize,
        /// Its value.
        len: i64,
    },
    /// Null stands where a value is required.
    #[error("null at byte {at} where a value is required")]
    Null {
        /// Where the length prefix stands.
        at: usize,
    },
    /// A field has a value that its record does not allow.
    #[error("{what} has the unknown value {value} at byte {at}")]
    BadValue {
        /// Name of the field.
        what: &'static str,
        /// Its value.
        value: i64,
        /// Where it stands.
        at: usize,
    },
}

/// Reads jute values from a slice, borrowing strings and buffers from it.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `buf`.
    pub fn new(buf: &'a [u8]) -> Self {
        Reader { buf, pos: 0 }
    }

    /// Bytes consumed so far.
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Bytes not yet consumed.
    pub fn remaining(&self) -> usize {
        self.buf.len() - self.pos
    }

    /// The bytes not yet consumed.
    pub fn rest(&self) -> &'a [u8] {
        &self.buf[self.pos..]
    }

    /// The next `n` raw bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        if self.remaining() < n {
            return Err(DecodeError::Eof { at: self.pos, needed: n - self.remaining() });
        }
        let bytes = &self.buf[self.pos..self.pos + n];
        self.pos += n;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte; any non-zero value is true.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.array::<1>()?[0] != 0)
    }

    /// A 32-bit integer.
    pub fn int(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// A 64-bit integer.
    pub fn long(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A buffer; `None` is null, which differs from empty.
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        let at = self.pos;
        match self.int()? {
            -1 => Ok(None),
            len if len < 0 => Err(DecodeError::BadLength { at, len: len.into() }),
            len if len as usize > self.remaining() => {
                Err(DecodeError::BadLength { at, len: len.into() })
            }
            len => self.take(len as usize).map(Some),
        }
    }

    /// A string; malformed UTF-8 becomes U+FFFD, as in the reference. `None` is null.
    pub fn opt_string(&mut self) -> Result<Option<Cow<'a, str>>, DecodeError> {
        Ok(self.buffer()?.map(decode_utf8))
    }

    /// A string that must not be null.
    pub fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        let at = self.pos;
        self.opt_string()?.ok_or(DecodeError::Null { at })
    }

    /// A vector's element count; `None` is null, other negative counts are empty.
    ///
    /// `min_size` is the smallest encoding of one element: a count that the remaining bytes cannot
    /// hold is an error here, so callers may allocate for it.
    pub fn count(&mut self, min_size: usize) -> Result<Option<usize>, DecodeError> {
        let at = self.pos;
        match self.int()? {
            -1 => Ok(None),
            n if n < 0 => Ok(Some(0)),
            n if n as usize > self.remaining() / min_size.max(1) => {
                Err(DecodeError::BadLength { at, len: n.into() })
            }
            n => Ok(Some(n as usize)),
        }
    }

    /// A vector of records; `None` is null.
    pub fn opt_vec<T: Decode<'a>>(&mut self) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.count(T::MIN_SIZE)? else { return Ok(None) };
        // In memory an element can be many times its encoding: grow with what really decodes.
        let mut items = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            items.push(T::decode(self)?);
        }
        Ok(Some(items))
    }

    /// A vector of records that must not be null.
    pub fn vec<T: Decode<'a>>(&mut self) -> Result<Vec<T>, DecodeError> {
        let at = self.pos;
        self.opt_vec()?.ok_or(DecodeError::Null { at })
    }
}

/// Bytes as a string, malformed UTF-8 replaced by U+FFFD as Java does it.
///
/// That is what [`String::from_utf8_lossy`] does, but for encoded surrogates (ED A0 to ED BF and a third
/// byte): Java replaces one of them as a whole, not byte by byte.
pub fn decode_utf8(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(decode_malformed(bytes)),
    }
}

fn decode_malformed(mut rest: &[u8]) -> String {
    let mut text = String::with_capacity(rest.len());
    while !rest.is_empty() {
        let chunk = rest.utf8_chunks().next().expect("bytes that are left make a chunk");
        text.push_str(chunk.valid());
        rest = &rest[chunk.valid().len()..];
        rest = match rest {
            [] => break,
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, behind @ ..] | [0xed, 0xa0..=0xbf, behind @ ..] => {
                behind
            }
            _ => &rest[chunk.invalid().len()..],
        };
        text.push(char::REPLACEMENT_CHARACTER);
    }
    text
}

/// A value that can be read from jute bytes.
pub trait Decode<'a>: Sized {
    /// Smallest possible encoding in bytes; bounds what a vector count may claim.
    const MIN_SIZE: usize;

    /// Reads one value.
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError>;

    /// Reads one value from the start of `buf`; trailing bytes are ignored.
    fn from_bytes(buf: &'a [u8]) -> Result<Self, DecodeError> {
        Self::decode(&mut Reader::new(buf))
    }
}

/// A value that can be written as jute bytes.
pub trait Encode {
    /// Appends the encoding to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// The encoding as a vector of its own.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// Appends a 32-bit integer.
pub fn put_int(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a 64-bit integer.
pub fn put_long(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a boolean.
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(value.into());
}

/// Appends a buffer; `None` is null.
pub fn put_buffer(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => put_int(out, -1),
        Some(bytes) => {
            put_int(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends a string.
pub fn put_string(out: &mut Vec<u8>, value: &str) {
    put_buffer(out, Some(value.as_bytes()));
}

/// Appends a string as the reference's writer does: a character beyond U+FFFF becomes its two
/// surrogates of three bytes each. No such character can stand in a path that exists; a client may
/// still have one echoed (`docs/spec/client-protocol.md` 1.2).
pub fn put_java_string(out: &mut Vec<u8>, value: &str) {
    if value.chars().all(|c| c <= '\u{ffff}') {
        return put_string(out, value);
    }
    let mut bytes = Vec::with_capacity(value.len() * 3 / 2);
    for unit in value.encode_utf16() {
        match unit {
            0..0x80 => bytes.push(unit as u8),
            0x80..0x800 => bytes.extend([0xc0 | (unit >> 6) as u8, 0x80 | (unit & 0x3f) as u8]),
            _ => bytes.extend([
                0xe0 | (unit >> 12) as u8,
                0x80 | (unit >> 6 & 0x3f) as u8,
                0x80 | (unit & 0x3f) as u8,
            ]),
        }
    }
    put_buffer(out, Some(&bytes));
}

/// Appends a vector of records.
pub fn put_vec<T: Encode>(out: &mut Vec<u8>, items: &[T]) {
    put_int(out, items.len() as i32);
    for item in items {
        item.encode(out);
    }
}

macro_rules! primitive {
    ($type:ty, $size:expr, $read:ident, $put:path) => {
        impl Decode<'_> for $type {
            const MIN_SIZE: usize = $size;
            fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
                r.$read()
            }
        }
        impl Encode for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                $put(out, *self)
            }
        }
    };
}
primitive!(bool, 1, bool, put_bool);
primitive!(i32, 4, int, put_int);
primitive!(i64, 8, long, put_long);

impl<'a> Decode<'a> for Cow<'a, str> {
    const MIN_SIZE: usize = 4;
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.string()
    }
}
impl Encode for Cow<'_, str> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, self)
    }
}
impl<'a> Decode<'a> for Option<Cow<'a, str>> {
    const MIN_SIZE: usize = 4;
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.opt_string()
    }
}
impl Encode for Option<Cow<'_, str>> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_buffer(out, self.as_deref().map(str::as_bytes))
    }
}
impl<'a> Decode<'a> for Option<&'a [u8]> {
    const MIN_SIZE: usize = 4;
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.buffer()
    }
}
impl Encode for Option<&[u8]> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_buffer(out, *self)
    }
}
impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        put_string(out, self)
    }
}
impl Decode<'_> for String {
    const MIN_SIZE: usize = 4;
    fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        r.string().map(Cow::into_owned)
    }
}
impl<'a, T: Decode<'a>> Decode<'a> for Vec<T> {
    const MIN_SIZE: usize = 4;
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.vec()
    }
}
impl<T: Encode> Encode for Vec<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        put_vec(out, self)
    }
}
impl<'a, T: Decode<'a>> Decode<'a> for Option<Vec<T>> {
    const MIN_SIZE: usize = 4;
    fn decode(r: &mut Reader<'a>) -> Result<Self, DecodeError> {
        r.opt_vec()
    }
}
impl<T: Encode> Encode for Option<Vec<T>> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => put_int(out, -1),
            Some(items) => put_vec(out, items),
        }
    }
}

/// Declares records once: struct, [`Encode`] and [`Decode`], fields in wire order.
#[macro_export]
macro_rules! records {
    ($($(#[$meta:meta])* $name:ident $(<$life:lifetime>)? { $($(#[$fmeta:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        // Fields are documented where the name does not say it all.
        #[allow(missing_docs)]
        pub struct $name $(<$life>)? { $($(#[$fmeta])* pub $field: $type,)* }

        $crate::record_impl!($name $(<$life>)? { $($field: $type,)* });
    )*};
}

/// The implementations behind [`records!`].
#[doc(hidden)]
#[macro_export]
macro_rules! record_impl {
    ($name:ident <$life:lifetime> { $($field:ident: $type:ty,)* }) => {
        impl<$life> $crate::Decode<$life> for $name<$life> {
            const MIN_SIZE: usize = 0 $(+ <$type as $crate::Decode<$life>>::MIN_SIZE)*;
            fn decode(r: &mut $crate::Reader<$life>) -> Result<Self, $crate::DecodeError> {
                Ok($name { $($field: <$type as $crate::Decode<$life>>::decode(r)?,)* })
            }
        }
        impl<$life> $crate::Encode for $name<$life> {
            fn encode(&self, out: &mut Vec<u8>) { $($crate::Encode::encode(&self.$field, out);)* }
        }
    };
    ($name:ident { $($field:ident: $type:ty,)* }) => {
        impl<'de> $crate::Decode<'de> for $name {
            const MIN_SIZE: usize = 0 $(+ <$type as $crate::Decode<'de>>::MIN_SIZE)*;
            fn decode(r: &mut $crate::Reader<'de>) -> Result<Self, $crate::DecodeError> {
                Ok($name { $($field: <$type as $crate::Decode<'de>>::decode(r)?,)* })
            }
        }
        impl $crate::Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) { let _ = &out; $($crate::Encode::encode(&self.$field, out);)* }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_buffers_differ() {
        let mut out = Vec::new();
        put_buffer(&mut out, None);
        put_buffer(&mut out, Some(b""));
        let mut r = Reader::new(&out);
        assert_eq!(r.buffer(), Ok(None));
        assert_eq!(r.buffer(), Ok(Some(&b""[..])));
    }

    #[test]
    fn a_length_beyond_the_message_is_refused_without_allocating() {
        let bytes = [0x7f, 0xff, 0xff, 0xff, 1, 2];
        assert_eq!(
            Reader::new(&bytes).buffer(),
            Err(DecodeError::BadLength { at: 0, len: 0x7fff_ffff })
        );
        assert!(Reader::new(&bytes).vec::<i64>().is_err());
    }

    #[test]
    fn malformed_utf8_becomes_the_replacement_character() {
        let bytes = [0, 0, 0, 2, b'/', 0xff];
        assert_eq!(Reader::new(&bytes).string().unwrap(), "/\u{fffd}");
    }

    #[test]
    fn a_surrogate_is_replaced_as_a_whole() {
        for (bytes, text) in [
            (&b"\xed\xa0\x80"[..], "\u{fffd}"),
            (b"\xed\xa0", "\u{fffd}"),
            (b"\xed\xa0A", "\u{fffd}A"),
            (b"\xed\xa0\xe2", "\u{fffd}\u{fffd}"),
            (b"a\xed\xa0\xbd\xed\xb8\x80b", "a\u{fffd}\u{fffd}b"),
            (b"\xed\xbf\xbf\xff/\xf0\x9f", "\u{fffd}\u{fffd}/\u{fffd}"),
            (b"\xed\x9f\xbf\xed", "\u{d7ff}\u{fffd}"),
        ] {
            assert_eq!(decode_utf8(bytes), text, "{bytes:x?}");
        }
        assert!(matches!(decode_utf8("/\u{1f600}".as_bytes()), Cow::Borrowed(_)));
    }

    #[test]
    fn characters_beyond_the_basic_plane_are_written_as_two_surrogates() {
        let mut out = Vec::new();
        put_java_string(&mut out, "/\u{1f600}\u{e9}\u{20ac}");
        assert_eq!(out[4..], *b"/\xed\xa0\xbd\xed\xb8\x80\xc3\xa9\xe2\x82\xac");
    }

    #[test]
    fn any_non_zero_byte_is_true() {
        assert_eq!(Reader::new(&[7]).bool(), Ok(true));
    }
}
