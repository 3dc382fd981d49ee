//! Header values are octets: a realm or a session id in Latin-1 or GBK is hashed and sent back as it came.
//!
//! A head is kept as text all the same, as nearly all of it is ASCII. A byte that is not UTF-8 becomes a
//! character of private use, from which [`encode`] gets it back. Texts are equal if their bytes are: where
//! such a character itself was received, its bytes are taken apart, too.

use std::borrow::Cow;

/// The character of byte 0.
const FIRST: u32 = 0x10_ff00;

/// The text of a head.
pub(crate) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() || !text.contains(is_octet) => return Cow::Borrowed(text),
        _ => {}
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match is_octet(c) {
                true => push_octets(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                false => text.push(c),
            }
        }
        push_octets(&mut text, chunk.invalid());
    }
    Cow::Owned(text)
}

fn push_octets(text: &mut String, bytes: &[u8]) {
    text.extend(
        bytes
            .iter()
            .filter_map(|byte| char::from_u32(FIRST + u32::from(*byte))),
    );
}

/// The bytes of a text that was decoded.
pub(crate) fn encode(text: &str) -> Cow<'_, [u8]> {
    if text.is_ascii() || !text.contains(is_octet) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u32::from(c).checked_sub(FIRST).map(u8::try_from) {
            Some(Ok(byte)) => bytes.push(byte),
            _ => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// The text as a person may see it: a byte that is not UTF-8 as `\xE9`.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if text.is_ascii() || !text.contains(is_octet) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_octet(c) {
            true => shown.push_str(&format!("\\x{:02X}", u32::from(c) & 0xff)),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// True for the character of a byte that is not UTF-8.
fn is_octet(c: char) -> bool {
    u32::from(c) >= FIRST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_utf8_comes_back_as_it_was() {
        for bytes in [
            &b"camera"[..],
            "Cam\u{e9}ra".as_bytes(),
            b"Cam\xe9ra",
            b"\xb5\xc7\xc2\xbc \xff\xfe\x80 \xe7",
            "\u{10ffe9}\u{10ffff}".as_bytes(),
        ] {
            assert_eq!(*encode(&decode(bytes)), *bytes);
        }
        assert_ne!(decode(b"\xe9"), decode("\u{10ffe9}".as_bytes()));
    }

    #[test]
    fn octets_are_shown_escaped() {
        assert_eq!(escape(&decode(b"Cam\xe9ra\xff")), "Cam\\xE9ra\\xFF");
        assert_eq!(escape("Cam\u{e9}ra"), "Cam\u{e9}ra");
    }
}
