//! What is wrong in a JSON text is put right in a copy of the same length,
//! so that the next mistake can be found at its place.

use std::ops::Range;

use jsonc_parser::errors::ParseErrorKind;

/// `text` without the mistake at `range`; none where what was meant can't be
/// told.
pub(in crate::spec) fn repair(text: &str, range: &Range<usize>, kind: &ParseErrorKind) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    let found = bytes.get_mut(range.clone())?;
    match kind {
        ParseErrorKind::CommentsNotAllowed => {
            found.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        ParseErrorKind::TrailingCommasNotAllowed => found.fill(b' '),
        ParseErrorKind::ExpectedComma => {
            let space = bytes.get_mut(range.start).filter(|byte| byte.is_ascii_whitespace())?;
            *space = b',';
        }
        ParseErrorKind::SingleQuotedStringsNotAllowed => {
            let inner = text.get(range.start + 1..)?.split_once('\'')?.0;
            if inner.contains(['"', '\\', '\n']) {
                return None;
            }
            *bytes.get_mut(range.start)? = b'"';
            *bytes.get_mut(range.start + 1 + inner.len())? = b'"';
        }
        ParseErrorKind::HexadecimalNumbersNotAllowed
        | ParseErrorKind::UnaryPlusNumbersNotAllowed
        | ParseErrorKind::BareDecimalPointNumbersNotAllowed
        | ParseErrorKind::NonFiniteNumbersNotAllowed => zero(&mut bytes, range.start),
        ParseErrorKind::UnexpectedWord | ParseErrorKind::UnexpectedToken => {
            let word = text.get(range.clone())?;
            if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return None;
            }
            found.fill(b' ');
            *found.first_mut()? = b'0';
        }
        ParseErrorKind::String(_) if found.len() == 2 && found.starts_with(b"\\") => found.fill(b'x'),
        ParseErrorKind::ExpectedStringObjectProperty if range.len() == 1 => {
            // Two quotes need one more byte: that of the space before it.
            let both = bytes.get_mut(range.start.checked_sub(1)?..range.end)?;
            both.first().filter(|byte| byte.is_ascii_whitespace())?;
            both.fill(b'"');
        }
        ParseErrorKind::ExpectedStringObjectProperty => {
            let (first, rest) = found.split_first_mut()?;
            let (last, inner) = rest.split_last_mut()?;
            (*first, *last) = (b'"', b'"');
            inner.fill(b'x');
        }
        _ => return None,
    }
    String::from_utf8(bytes).ok().filter(|repaired| repaired != text)
}

/// Makes the number at `start` a plain 0.
fn zero(bytes: &mut [u8], start: usize) {
    let mut digit = b'0';
    for byte in bytes.iter_mut().skip(start) {
        if !(byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-')) {
            break;
        }
        *byte = digit;
        digit = b' ';
    }
}

/// What JSON has instead.
pub(in crate::spec) fn hint(kind: &ParseErrorKind) -> &'static str {
    match kind {
        ParseErrorKind::CommentsNotAllowed => "JSON has no comments: remove it, or write the spec in TOML",
        ParseErrorKind::TrailingCommasNotAllowed => "remove the comma before the closing bracket",
        ParseErrorKind::ExpectedComma => "put a comma between the two",
        ParseErrorKind::SingleQuotedStringsNotAllowed => "text stands between double quotes",
        ParseErrorKind::HexadecimalNumbersNotAllowed
        | ParseErrorKind::UnaryPlusNumbersNotAllowed
        | ParseErrorKind::BareDecimalPointNumbersNotAllowed
        | ParseErrorKind::NonFiniteNumbersNotAllowed => "write it as a plain decimal number",
        ParseErrorKind::ExpectedStringObjectProperty => "keys stand between double quotes",
        ParseErrorKind::ExpectedColonAfterObjectKey => "a key is followed by a colon and a value",
        ParseErrorKind::UnterminatedArray => "close it with ]",
        ParseErrorKind::UnterminatedObject => "close it with }",
        ParseErrorKind::MultipleRootJsonValues => "a file is one object, { … }",
        ParseErrorKind::UnexpectedWord | ParseErrorKind::UnexpectedToken => {
            "text stands between double quotes; true, false and null don't"
        }
        ParseErrorKind::String(_) => "see RFC 8259, section 7, for what a string can hold",
        _ => "JSON is written as { \"key\": value, … }",
    }
}
