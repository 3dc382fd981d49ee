//! Parses header values, as tolerantly as real servers need.
//!
//! Each function takes the value of one header, without its name and line end. None of them can
//! fail on hostile input: what cannot be parsed gives `None`, an empty set, or an error with the
//! reason.

use std::{fmt, time::Duration};

use super::message::trimmed;

/// RFC 2326 names no upper limit for a session id; those seen are 8 to 32 characters long. Each request
/// repeats it.
const MAX_SESSION_ID: usize = 4096;
/// A session timeout is clamped to this range: zero would be a busy loop of keep-alives, and a
/// year the same as none.
const SESSION_TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), MAX_WAIT);
/// The longest time a server can ask us to wait for anything.
const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// One entry per media stream; a presentation has at most 32.
const MAX_RTP_INFO: usize = 64;

/// `Session: 12345678;timeout=60`, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionHeader {
    /// The bare id, which is all that a request may echo.
    pub(crate) id: String,
    /// The announced session timeout; None means the default of 60 s (RFC 2326, 12.37).
    pub(crate) timeout: Option<Duration>,
}

/// Parses a `Session` header; `None` if it has no id that could be echoed safely.
///
/// gst-rtsp-server writes `;timeout=60`, others `; timeout=60`, and some pad the id. All before the `;` is
/// the id, quotes and bytes of any encoding included, as it is for `rtspsrc` and FFmpeg.
pub(crate) fn parse_session(value: &str) -> Option<SessionHeader> {
    let (id, params) = value.split_once(';').unwrap_or((value, ""));
    let id = trimmed(id);
    let is_sound =
        (1..=MAX_SESSION_ID).contains(&id.len()) && !id.contains(|c: char| c.is_ascii_control());
    is_sound.then(|| SessionHeader {
        id: id.to_owned(),
        timeout: params.split(';').find_map(session_timeout),
    })
}

fn session_timeout(param: &str) -> Option<Duration> {
    let (name, value) = split_param(param, '=');
    if !name.eq_ignore_ascii_case("timeout") {
        return None;
    }
    let seconds = digits::<u64>(unquoted(value)).filter(|seconds| *seconds > 0)?;
    let (least, most) = SESSION_TIMEOUT;
    Some(Duration::from_secs(seconds).clamp(least, most))
}

/// The server's answer about the transport of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransportAnswer {
    /// The channels as written: `interleaved=6-7` or `interleaved=6`.
    pub(crate) interleaved: Option<(u8, Option<u8>)>,
    pub(crate) ssrc: Option<u32>,
    /// True if the media is sent on this connection.
    pub(crate) tcp: bool,
}

/// Why a `Transport` header cannot be used.
const NO_TRANSPORT: &str = "the Transport header is empty";
const NO_CHANNELS: &str = "the interleaved channels are not numbers from 0 to 255";

/// Parses a `Transport` header: its first transport over TCP, or else its first one.
pub(crate) fn parse_transport(value: &str) -> Result<TransportAnswer, &'static str> {
    let mut first = None;
    for spec in split_unquoted(value, ',').filter(|spec| !spec.trim().is_empty()) {
        let transport = parse_one_transport(spec)?;
        if transport.tcp {
            return Ok(transport);
        }
        first.get_or_insert(transport);
    }
    first.ok_or(NO_TRANSPORT)
}

fn parse_one_transport(spec: &str) -> Result<TransportAnswer, &'static str> {
    let (profile, params) = split_param(spec, ';');
    let mut transport = TransportAnswer {
        interleaved: None,
        ssrc: None,
        // Some servers leave out `/TCP`, and only `interleaved` shows that they use TCP.
        tcp: profile
            .rsplit('/')
            .next()
            .is_some_and(|lower| lower.trim().eq_ignore_ascii_case("TCP")),
    };
    for (name, value) in params.split(';').map(|param| split_param(param, '=')) {
        if name.eq_ignore_ascii_case("interleaved") {
            let channels = channels(unquoted(value)).ok_or(NO_CHANNELS)?;
            transport.interleaved = Some(channels);
            transport.tcp = true;
        } else if name.eq_ignore_ascii_case("ssrc") {
            transport.ssrc = ssrc(unquoted(value));
        }
    }
    Ok(transport)
}

fn channels(text: &str) -> Option<(u8, Option<u8>)> {
    let (rtp, rtcp) = text.split_once('-').unwrap_or((text, ""));
    let rtcp = match rtcp.trim() {
        "" => None,
        rtcp => Some(digits(rtcp)?),
    };
    Some((digits(rtp.trim())?, rtcp))
}

/// Eight hexadecimal digits (RFC 2326, 12.39) or fewer, with or without `0x`. Some servers write it
/// in decimal: with more than eight digits it is not taken for an SSRC, with fewer the two cannot
/// be told apart.
fn ssrc(text: &str) -> Option<u32> {
    let hex = text
        .strip_prefix("0x")
        .or_else(|| text.strip_prefix("0X"))
        .unwrap_or(text);
    let is_hex = (1..=8).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex.then(|| u32::from_str_radix(hex, 16).ok()).flatten()
}

/// True if `Server` names a server that answers each request of a connection once and in order,
/// even requests that arrive while it works on a DESCRIBE: captured from gst-rtsp-server 1.22.0.
pub(crate) fn is_in_order(server: &str) -> bool {
    server.starts_with("GStreamer RTSP server")
}

/// True if `Public` or `Allow` names the method.
pub(crate) fn has_method(value: &str, method: &str) -> bool {
    let mut names = value.split([',', ' ', ';']);
    names.any(|name| name.trim().eq_ignore_ascii_case(method))
}

/// Parses `Retry-After` in seconds, at most a day. A date gives `None`: the clocks of cameras are
/// wrong.
pub(crate) fn parse_retry_after(value: &str) -> Option<Duration> {
    let seconds: u64 = digits(value.trim())?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}

/// Parses `CSeq`.
pub(crate) fn parse_cseq(value: &str) -> Option<u32> {
    digits(value.trim())
}

/// Parses `Content-Length`. Repeated values joined by commas count as one if they agree (RFC 9110,
/// 8.6); a sign before the number and words behind it do not count.
pub(crate) fn parse_content_length(value: &str) -> Option<u64> {
    let mut lengths = value.split(',').map(|length| {
        let mut words = length
            .split([' ', '\t', ';'])
            .filter(|word| !word.is_empty());
        let number = words.next()?;
        digits::<u64>(number.strip_prefix('+').unwrap_or(number))
    });
    let first = lengths.next().flatten()?;
    lengths.all(|length| length == Some(first)).then_some(first)
}

/// The part of `RTP-Info` about one stream: where its packets start. `Debug` leaves the URL out,
/// because it may carry a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RtpInfo {
    /// The stream's control URL as written, possibly relative or empty.
    pub url: String,
    /// The sequence number of the first packet.
    pub seq: Option<u16>,
    /// The RTP time that corresponds to the start of the range.
    pub rtptime: Option<u32>,
}

impl fmt::Debug for RtpInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtpInfo")
            .field("seq", &self.seq)
            .field("rtptime", &self.rtptime)
            .finish_non_exhaustive()
    }
}

/// Parses `RTP-Info`: at most 64 entries, in order.
pub(crate) fn parse_rtp_info(value: &str) -> Vec<RtpInfo> {
    let mut entries: Vec<String> = Vec::new();
    for piece in split_unquoted(value, ',') {
        let is_full = entries.len() == MAX_RTP_INFO;
        match entries.last_mut() {
            // The comma is inside a URL, because an entry cannot end before its parameters.
            Some(entry) if !entry.contains(';') && !starts_entry(piece) => {
                entry.push(',');
                entry.push_str(piece);
            }
            _ if is_full => break,
            _ => entries.push(piece.to_owned()),
        }
    }
    entries
        .iter()
        .filter(|entry| !entry.trim().is_empty())
        .map(|entry| parse_rtp_info_entry(entry))
        .collect()
}

fn starts_entry(piece: &str) -> bool {
    let (name, _) = split_param(piece, '=');
    ["url", "seq", "rtptime"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

fn parse_rtp_info_entry(entry: &str) -> RtpInfo {
    let mut info = RtpInfo::default();
    for (index, param) in split_unquoted(entry, ';').enumerate() {
        let (name, value) = split_param(param, '=');
        match name.to_ascii_lowercase().as_str() {
            "url" => info.url = unquoted(value).to_owned(),
            "seq" => info.seq = digits(unquoted(value)),
            "rtptime" => info.rtptime = digits(unquoted(value)),
            // Some servers start with the bare URL, which may contain a '='.
            _ if index == 0 => info.url = unquoted(param).to_owned(),
            _ => {}
        }
    }
    info
}

/// Splits a name and a value (or a value and its parameters), without padding; the rest may be
/// empty.
pub(super) fn split_param(text: &str, separator: char) -> (&str, &str) {
    let (name, value) = text.split_once(separator).unwrap_or((text, ""));
    (name.trim(), value.trim())
}

fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches('"').trim()
}

/// Parses digits only: `parse` alone would also accept a sign.
fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_come_bare_however_they_are_written() {
        for (value, id, timeout) in [
            ("12345678", "12345678", None),
            ("AB;timeout=30", "AB", Some(30)),
            ("AB; timeout=30", "AB", Some(30)),
            ("  AB ;  Timeout = 30 ;x=y  ", "AB", Some(30)),
            ("\"AB\";timeout=\"30\"", "\"AB\"", Some(30)),
            ("a b;timeout=30", "a b", Some(30)),
            ("ä/?#,=;timeout=30", "ä/?#,=", Some(30)),
            (
                "\u{a0}a\u{85}\u{10ffe9};timeout=30",
                "\u{a0}a\u{85}\u{10ffe9}",
                Some(30),
            ),
            ("AB;x;timeout=0", "AB", None),
            ("AB;timeout=soon", "AB", None),
            ("AB;timeout=-5", "AB", None),
            ("AB;timeout=999999999", "AB", Some(86_400)),
            ("AB;timeout=99999999999999999999999", "AB", None),
        ] {
            let session = parse_session(value).unwrap();
            assert_eq!(session.id, id, "{value}");
            assert_eq!(session.timeout, timeout.map(Duration::from_secs), "{value}");
        }
    }

    #[test]
    fn session_ids_that_cannot_be_echoed_are_none() {
        for value in ["", "  ", ";timeout=60", "a\rb", "a\0b"] {
            assert_eq!(parse_session(value), None, "{value:?}");
        }
        assert!(parse_session(&"x".repeat(4096)).is_some());
        assert!(parse_session(&"x".repeat(4097)).is_none());
    }

    fn interleaved(value: &str) -> Option<(u8, Option<u8>)> {
        parse_transport(value).unwrap().interleaved
    }

    #[test]
    fn channels_are_read_single_or_in_pairs() {
        assert_eq!(
            interleaved("RTP/AVP/TCP;unicast;interleaved=0-1"),
            Some((0, Some(1)))
        );
        assert_eq!(
            interleaved(" RTP/AVP/TCP ; unicast ; Interleaved = 254 - 255 ;mode=\"PLAY\""),
            Some((254, Some(255)))
        );
        assert_eq!(interleaved("RTP/AVP/TCP;interleaved=6"), Some((6, None)));
        assert_eq!(interleaved("RTP/AVP/TCP;interleaved=6-"), Some((6, None)));
        assert_eq!(interleaved("RTP/AVP/TCP;unicast"), None);
    }

    #[test]
    fn channels_out_of_range_make_the_transport_malformed() {
        for channels in ["256-257", "255-256", "-1-0", "a-b", "", "-", "1-2-3"] {
            assert_eq!(
                parse_transport(&format!("RTP/AVP/TCP;interleaved={channels}")),
                Err(NO_CHANNELS),
                "{channels}"
            );
        }
        assert_eq!(parse_transport(" , "), Err(NO_TRANSPORT));
    }

    #[test]
    fn the_first_transport_over_tcp_is_taken() {
        let list = "RTP/AVP;unicast;client_port=1-2;mode=\"PLAY,RECORD\",\
                    RTP/AVP/TCP;interleaved=4-5,RTP/AVP/TCP;interleaved=6-7";
        assert_eq!(interleaved(list), Some((4, Some(5))));
        assert!(
            !parse_transport("RTP/AVP;unicast;client_port=1-2")
                .unwrap()
                .tcp
        );
        assert!(
            parse_transport("RTP/AVP;unicast;interleaved=0-1")
                .unwrap()
                .tcp
        );
    }

    #[test]
    fn ssrc_is_hexadecimal_in_any_spelling() {
        for (text, ssrc) in [
            ("4D3F2a11", Some(0x4d3f_2a11)),
            ("0x4d3f2a11", Some(0x4d3f_2a11)),
            (" 1A ", Some(0x1a)),
            ("4294967295", None),
            ("xyz", None),
            ("+1", None),
            ("", None),
        ] {
            let transport = parse_transport(&format!("RTP/AVP/TCP;ssrc={text}")).unwrap();
            assert_eq!(transport.ssrc, ssrc, "{text}");
        }
    }

    #[test]
    fn public_is_read_with_any_separator_and_case() {
        for public in [
            "PLAY, get_parameter,X-MAGIC",
            "GET_PARAMETER",
            "PLAY;GET_PARAMETER PAUSE",
        ] {
            assert!(has_method(public, "GET_PARAMETER"), "{public}");
        }
        for public in ["", "SET_PARAMETER", "GET_PARAMETERS, PLAY"] {
            assert!(!has_method(public, "GET_PARAMETER"), "{public}");
        }
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(parse_cseq(" 17 "), Some(17));
        assert_eq!(parse_cseq("4294967296"), None);
        assert_eq!(parse_cseq("+1"), None);
        assert_eq!(parse_retry_after("30"), Some(Duration::from_secs(30)));
        assert_eq!(parse_retry_after("99999999999"), Some(MAX_WAIT));
        assert_eq!(parse_retry_after("Wed, 21 Oct 2026 07:28:00 GMT"), None);
    }

    #[test]
    fn f36_content_lengths_that_contradict_or_make_no_sense_are_none() {
        assert_eq!(parse_content_length("460"), Some(460));
        assert_eq!(parse_content_length("460, 460"), Some(460));
        for value in ["+460", "460 bytes", "460;x", " 460\t"] {
            assert_eq!(parse_content_length(value), Some(460), "{value}");
        }
        assert_eq!(parse_content_length("9223372036854775808"), Some(1 << 63));
        for value in ["", "-1", "0x10", "5, 6", "5,", "99999999999999999999"] {
            assert_eq!(parse_content_length(value), None, "{value}");
        }
    }

    fn info(url: &str, seq: Option<u16>, rtptime: Option<u32>) -> RtpInfo {
        RtpInfo {
            url: url.to_owned(),
            seq,
            rtptime,
        }
    }

    #[test]
    fn rtp_info_lists_streams_in_order() {
        assert_eq!(
            parse_rtp_info(
                "url=rtsp://h/a/track1;seq=17040;rtptime=1467265309, \
                 url = \"rtsp://h/a/track2\" ; seq = 70000 ; rtptime=4294967295"
            ),
            [
                info("rtsp://h/a/track1", Some(17_040), Some(1_467_265_309)),
                info("rtsp://h/a/track2", None, Some(u32::MAX)),
            ]
        );
    }

    #[test]
    fn rtp_info_tolerates_commas_in_urls_and_missing_names() {
        assert_eq!(
            parse_rtp_info(
                "url=rtsp://h/a,b?c=1,2/track1;seq=1,rtsp://h/x?c=2;seq=2,seq=3;rtptime=4"
            ),
            [
                info("rtsp://h/a,b?c=1,2/track1", Some(1), None),
                info("rtsp://h/x?c=2", Some(2), None),
                info("", Some(3), Some(4)),
            ]
        );
        assert_eq!(
            parse_rtp_info("url=trackID=0,url=trackID=1"),
            [info("trackID=0", None, None), info("trackID=1", None, None)]
        );
        assert!(parse_rtp_info("").is_empty());
    }

    #[test]
    fn rtp_info_is_bounded() {
        assert_eq!(parse_rtp_info(&"url=a;seq=1,".repeat(1_000)).len(), 64);
    }
}
