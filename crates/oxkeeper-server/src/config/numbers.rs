//! Whole numbers among properties, as the reference's machine reads them.
//!
//! Most go through `Integer.getInteger` or `Long.getLong`, which know hexadecimal and octal digits; a
//! few are parsed as decimals. Source: `docs/spec/operations.md` 1.4.

/// How the reference reads a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// 32 bits, `Integer.decode`.
    Integer,
    /// 64 bits, `Long.decode`.
    Long,
    /// 64 bits, decimal digits only.
    Decimal,
}

impl Reading {
    /// The number in `text`; `None` where the reference keeps its default.
    pub(super) fn read(self, text: &str) -> Option<i64> {
        match self {
            Reading::Integer => decode(text).filter(|number| i32::try_from(*number).is_ok()),
            Reading::Long => decode(text),
            Reading::Decimal => text.parse().ok(),
        }
    }
}

/// An optional sign, then `0x`, `0X` or `#` and hexadecimal digits, `0` and octal digits, or decimal
/// digits.
fn decode(text: &str) -> Option<i64> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let hexadecimal = ["0x", "0X", "#"].iter().find_map(|prefix| digits.strip_prefix(prefix));
    let (digits, radix) = match (hexadecimal, digits.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(octal)) if !octal.is_empty() => (octal, 8),
        _ => (digits, 10),
    };
    // The parser would take a sign here as well.
    if digits.starts_with(['-', '+']) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_choose_the_digits_and_a_sign_comes_first() {
        for (text, number) in [
            ("0", 0),
            ("-0", 0),
            ("7", 7),
            ("017", 15),
            ("-017", -15),
            ("0xff", 255),
            ("-0xFF", -255),
            ("+#ff", 255),
            ("2147483647", i64::from(i32::MAX)),
            ("-0x80000000", i64::from(i32::MIN)),
        ] {
            assert_eq!(Reading::Integer.read(text), Some(number), "{text}");
            assert_eq!(Reading::Long.read(text), Some(number), "{text}");
        }
        for text in ["", "-", "+", "0x", "#", "0x-1", "#+1", "--1", "09", "0b1", "1e3", "1L", "٣"]
        {
            assert_eq!(Reading::Long.read(text), None, "{text}");
        }
    }

    #[test]
    fn a_number_must_fit_what_the_reference_keeps_it_in() {
        assert_eq!(Reading::Integer.read("0x80000000"), None);
        assert_eq!(Reading::Long.read("0x80000000"), Some(0x8000_0000));
        assert_eq!(Reading::Long.read("-0x8000000000000000"), Some(i64::MIN));
        assert_eq!(Reading::Long.read("0x8000000000000000"), None);
    }

    #[test]
    fn decimals_know_no_prefix() {
        assert_eq!(Reading::Decimal.read("010"), Some(10));
        assert_eq!(Reading::Decimal.read("+5"), Some(5));
        assert_eq!(Reading::Decimal.read("0x10"), None);
    }
}
