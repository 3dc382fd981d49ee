//! Header values are octets: a realm in Latin-1 or GBK is hashed and sent back as it came.
//!
//! A head is kept as text all the same, as nearly all of it is ASCII. A byte that is not UTF-8 becomes a
//! character of private use, from which [`encode`] gets it back.

use std::borrow::Cow;

/// The character of byte 0.
const FIRST: u32 = 0x10_ff00;

/// The text of a head.
pub(crate) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid().iter();
        text.extend(invalid.filter_map(|byte| char::from_u32(FIRST + u32::from(*byte))));
    }
    Cow::Owned(text)
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

/// True for the character of a byte that is not UTF-8.
pub(crate) fn is_octet(c: char) -> bool {
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
        ] {
            assert_eq!(*encode(&decode(bytes)), *bytes);
        }
        assert!(decode(b"a\xff").contains(is_octet));
    }
}
