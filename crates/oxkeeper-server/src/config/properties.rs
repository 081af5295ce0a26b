//! Java's properties text: the format of zoo.cfg and of dynamic configuration files.
//!
//! Source: `docs/spec/operations.md` 1.1.

use std::iter::Peekable;
use std::vec::IntoIter;

/// One `key = value` of a file, without blanks around either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The key.
    pub key: String,
    /// The value; may be empty.
    pub value: String,
    /// Line on which it starts, from 1.
    pub line: u32,
}

/// A `\u` that is not followed by four hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Malformed \\uxxxx encoding.")]
pub struct MalformedEscape {
    /// Line on which the entry starts.
    pub line: u32,
}

/// Reads a file, whose bytes are ISO-8859-1. Entries come in the file's order, repetitions included.
pub fn parse(bytes: &[u8]) -> Result<Vec<Property>, MalformedEscape> {
    let mut properties = Vec::new();
    let mut lines = natural_lines(bytes).into_iter().peekable();
    while let Some((line, text)) = logical_line(&mut lines) {
        let (key, value) = split(&text);
        let unescape = |text: &[char]| unescape(text).ok_or(MalformedEscape { line });
        properties.push(Property {
            key: unescape(key)?.trim().to_owned(),
            value: unescape(value)?.trim().to_owned(),
            line,
        });
    }
    Ok(properties)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Lines with their numbers, without leading blanks; ended by `\n`, `\r` or `\r\n`.
fn natural_lines(bytes: &[u8]) -> Vec<(u32, Vec<char>)> {
    let mut lines = vec![(1, Vec::new())];
    let mut previous = 0;
    for &byte in bytes {
        match byte {
            b'\n' if previous == b'\r' => {}
            b'\n' | b'\r' => {
                let number = lines.len() as u32 + 1;
                lines.push((number, Vec::new()));
            }
            // Every byte is the character of that number.
            _ => match lines.last_mut() {
                Some((_, line)) if line.is_empty() && is_blank(char::from(byte)) => {}
                Some((_, line)) => line.push(char::from(byte)),
                None => {}
            },
        }
        previous = byte;
    }
    lines
}

/// The next entry, joined from its lines; comments and empty lines are skipped.
fn logical_line(lines: &mut Peekable<IntoIter<(u32, Vec<char>)>>) -> Option<(u32, Vec<char>)> {
    loop {
        let (number, mut text) = lines.next()?;
        if matches!(text.first(), None | Some('#' | '!')) {
            continue;
        }
        while ends_in_odd_backslashes(&text) {
            text.pop();
            match lines.next() {
                Some((_, more)) => text.extend(more),
                None => break,
            }
        }
        if !text.is_empty() {
            return Some((number, text));
        }
    }
}

fn ends_in_odd_backslashes(text: &[char]) -> bool {
    text.iter().rev().take_while(|c| **c == '\\').count() % 2 == 1
}

/// Splits at the first unescaped separator: blanks, or one `=` or `:` with blanks around it.
fn split(text: &[char]) -> (&[char], &[char]) {
    let mut escaped = false;
    let end = text.iter().position(|&c| {
        let ends = !escaped && (is_blank(c) || c == '=' || c == ':');
        escaped = c == '\\' && !escaped;
        ends
    });
    let Some(end) = end else { return (text, &[]) };
    let (key, mut rest) = text.split_at(end);
    let skip_blanks = |text: &[char]| text.iter().take_while(|c| is_blank(**c)).count();
    rest = &rest[skip_blanks(rest)..];
    if let Some('=' | ':') = rest.first() {
        rest = &rest[1..];
        rest = &rest[skip_blanks(rest)..];
    }
    (key, rest)
}

/// Resolves escapes; `None` for a malformed `\u`.
fn unescape(text: &[char]) -> Option<String> {
    // As UTF-16, so that two escapes can make one character.
    let mut units = Vec::with_capacity(text.len());
    let mut chars = text.iter().copied();
    while let Some(c) = chars.next() {
        let unit = match c {
            '\\' => match chars.next() {
                Some('u') => {
                    let mut unit = 0;
                    for _ in 0..4 {
                        unit = unit << 4 | chars.next()?.to_digit(16)?;
                    }
                    unit
                }
                Some('t') => '\t'.into(),
                Some('n') => '\n'.into(),
                Some('r') => '\r'.into(),
                Some('f') => 0x0c,
                Some(other) => other.into(),
                None => break,
            },
            other => other.into(),
        };
        units.push(unit as u16);
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, u32)]) {
        let found = parse(text.as_bytes()).unwrap();
        let found: Vec<_> =
            found.iter().map(|p| (p.key.as_str(), p.value.as_str(), p.line)).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn separators_are_equals_colon_or_blanks() {
        check(
            "a=1\nb:2\nc 3\nd = 4\ne\t:\t5\nf",
            &[
                ("a", "1", 1),
                ("b", "2", 2),
                ("c", "3", 3),
                ("d", "4", 4),
                ("e", "5", 5),
                ("f", "", 6),
            ],
        );
        check("a==1\nb= =2\nc : =3", &[("a", "=1", 1), ("b", "=2", 2), ("c", "=3", 3)]);
    }

    #[test]
    fn comments_and_empty_lines_are_skipped_and_every_line_end_counts() {
        check("# a=1\r\n  ! b=2\r\r\n\n \t\nc=3 # no comment\r\n", &[("c", "3 # no comment", 6)]);
    }

    #[test]
    fn an_odd_number_of_backslashes_joins_the_next_line() {
        check(
            "a=1,\\\n   2,\\\r\n\t3\nb=4\\\\\nc=5\\",
            &[("a", "1,2,3", 1), ("b", "4\\", 4), ("c", "5", 5)],
        );
        check("a=1\\\n# 2\nb=\\\n\nc=3", &[("a", "1# 2", 1), ("b", "", 3), ("c", "3", 5)]);
    }

    #[test]
    fn escapes_are_resolved_and_unknown_ones_lose_their_backslash() {
        check(r"dataDir=C:\zk\\x", &[("dataDir", r"C:zk\x", 1)]);
        check(r"a\=b\:c\ d=\#\!\t.\u0041\uD83D\uDE00", &[("a=b:c d", "#!\t.A😀", 1)]);
        assert_eq!(parse(b"x=1\ny=\\u12"), Err(MalformedEscape { line: 2 }));
    }

    #[test]
    fn bytes_are_latin_1_and_blanks_at_the_end_are_dropped() {
        check("a=1  \t", &[("a", "1", 1)]);
        let found = parse(b"a=\xe9").unwrap();
        assert_eq!(found[0].value, "\u{e9}");
    }

    #[test]
    fn repetitions_are_kept_in_order() {
        check("a=1\na=2", &[("a", "1", 1), ("a", "2", 2)]);
    }
}
