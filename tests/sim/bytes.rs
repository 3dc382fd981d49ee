//! What is in the bytes that a simulated server sends.

/// Interleaved frames in what a server sends, which is never half a message.
pub(crate) fn frames_in(bytes: &[u8]) -> u64 {
    let (mut rest, mut frames) = (bytes, 0);
    while let [first, ..] = rest {
        let length = match (first, rest) {
            (b'$', [_, _, high, low, ..]) => {
                frames += 1;
                4 + usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => message_length(rest),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    frames
}

fn message_length(bytes: &[u8]) -> usize {
    let Some(head) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return bytes.len();
    };
    let text = String::from_utf8_lossy(&bytes[..head]);
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .and_then(|length| length.parse().ok());
    head + 4 + length.unwrap_or(0)
}

/// The status of the answer in what a server sends.
pub(crate) fn status_of(bytes: &[u8]) -> Option<u16> {
    let start = b"RTSP/1.0 ";
    let at = bytes.windows(start.len()).position(|w| w == start)?;
    let digits = bytes.get(at + start.len()..at + start.len() + 3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
