//! Detects texts that must not be written to a file: signs of passwords, tokens and keys in URLs
//! and descriptions.
//!
//! In doubt a text counts as secret: what may not be shown is not stored. Tokens are recognised by
//! their form, because UniFi uses them as paths (`/5nPr7RCmueGTKMP7`).

use url::Url;

use super::redaction::{redacted_sdp_line, redacted_whole};

/// A word of so many mixed letters and digits is taken for a token.
const TOKEN: usize = 12;
/// So is a word of so many of either.
const LONG_TOKEN: usize = 24;

/// True if a URL may hold a secret.
pub(crate) fn may_be_in_url(url: &Url) -> bool {
    let words = url.as_str().split(|c: char| !c.is_ascii_alphanumeric());
    redacted_whole(url) != url.as_str() || words.into_iter().any(is_like_token)
}

/// True if a session description may hold a secret: media keys, or what a URL in it may hold.
pub(crate) fn may_be_in_sdp(sdp: &[u8]) -> bool {
    let text = String::from_utf8_lossy(sdp);
    let mut lines = text.split(['\r', '\n']).map(str::trim_start);
    lines.any(|line| redacted_sdp_line(line) != line)
}

fn is_like_token(word: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| word.as_bytes().iter().any(kind);
    let is_mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    word.len() >= if is_mixed { TOKEN } else { LONG_TOKEN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cameras_have_in_their_paths_is_no_secret() {
        for path in [
            "Streaming/Channels/101?profile=1",
            "cam/realmonitor?channel=1&subtype=0&unicast=true&proto=Onvif",
            "axis-media/media.amp?camera=1",
            "h264Preview_01_main/trackID=1",
            "LowResolutionVideo",
            "av0_0",
        ] {
            let url = format!("rtsp://192.168.100.201:554/{path}")
                .parse()
                .unwrap();
            assert!(!may_be_in_url(&url), "{path}");
        }
    }

    #[test]
    fn passwords_and_tokens_are() {
        for url in [
            "rtsp://admin:x@nvr/1",
            "rtsp://nvr/user=admin&password=x&channel=1.sdp",
            "rtsp://nvr/5nPr7RCmueGTKMP7",
            "rtsp://nvr/live?sig=MTIzNDU2Nzg5MDEyMzQ1Njc4",
            "rtsp://nvr/1#x",
            "rtsp://nvr/1?anything=x",
            "rtsp://nvr/1;x",
        ] {
            assert!(may_be_in_url(&url.parse().unwrap()), "{url}");
        }
    }

    #[test]
    fn keys_of_media_are() {
        for sdp in [
            "v=0\nk=clear:x",
            "v=0\r\n a=crypto:1 x",
            "a=key-mgmt:mikey x",
            "a=control:rtsp://a:b@c/",
        ] {
            assert!(may_be_in_sdp(sdp.as_bytes()), "{sdp}");
        }
        assert!(!may_be_in_sdp(
            b"v=0\r\ns=Session streamed by \"x\"\r\na=control:track1\r\n\xff"
        ));
    }
}
