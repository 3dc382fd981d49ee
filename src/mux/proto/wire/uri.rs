//! The URI of each request.
//!
//! A URI chooses the resource, never the socket: a description may name another host in its control
//! attributes, and the request is still sent on the same connection.
//!
//! Control attributes are *not* resolved by RFC 3986, although RFC 2326 (C.1.1) implies it. rtspsrc
//! and FFmpeg append them to the base with a '/' between, and cameras are tested with these:
//! `trackID=0` under `rtsp://h/cam/realmonitor?channel=1` means
//! `rtsp://h/cam/realmonitor?channel=1/trackID=0`, where RFC 3986 gives `rtsp://h/cam/trackID=0`,
//! without the channel. Under a base that ends in '/' (gst-rtsp-server, live555) both agree.

use std::{borrow::Cow, net::Ipv6Addr};

use percent_encoding::{
    AsciiSet, NON_ALPHANUMERIC, PercentEncode, percent_decode_str, percent_encode_byte,
    utf8_percent_encode,
};
use url::{ParseError, Url};

use super::octets;
use crate::mux::proto::auth::credentials::{Credentials, InvalidCredentials};

/// The longest URL accepted from a description or header; our requests must fit a start line of 8
/// KiB.
const MAX_CONTROL: usize = 4096;

/// Stands in a [`Url`] before each escape that [`wire`] writes as the byte itself. It is U+E000, of
/// private use, and itself escaped.
const AS_WRITTEN: &str = "%EE%80%80";

/// Parses a URL as people and devices write it, and as rtspsrc and FFmpeg take it: user and password may
/// have reserved characters, an IPv6 address may have a zone, and path and query go to the server as they
/// are written: braces, blanks, letters that are not ASCII, dot segments. [`Url`] would escape the first
/// and resolve the last, and some cameras know neither.
///
/// # Errors
///
/// It is no URL all the same.
pub fn parse(text: &str) -> Result<Url, ParseError> {
    // `admin:password@nvr/1` would be a URL of the scheme `admin`.
    let scheme = text.split_once("://");
    let (scheme, rest) = scheme.ok_or(ParseError::RelativeUrlWithoutBase)?;
    let (userinfo, rest) = split_userinfo(rest);
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let userinfo = userinfo.map_or_else(String::new, |userinfo| {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        format!("{}:{}@", escaped(user), escaped(password))
    });
    let host = with_zone(host).unwrap_or_else(|| host.to_owned());
    Url::parse(&format!("{scheme}://{userinfo}{host}{}", as_written(path)))
}

/// A URL as it is written in a request.
pub(crate) fn wire(url: &Url) -> Cow<'_, str> {
    let text = url.as_str();
    let zoned = url.host_str().filter(|host| is_zoned(host));
    if zoned.is_none() && !text.contains(AS_WRITTEN) {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split(AS_WRITTEN);
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (escape, rest) = part.split_at_checked("%XX".len()).unwrap_or((part, ""));
        bytes.extend(percent_decode_str(escape));
        bytes.extend(rest.as_bytes());
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The zone is this machine's (RFC 6874, 4).
    Cow::Owned(match zoned {
        Some(host) => {
            let address = unzoned(host);
            let address = address.split('%').next().unwrap_or_default();
            text.replacen(host, &format!("[{address}]"), 1)
        }
        None => text,
    })
}

/// The same of the text of a URL.
pub(crate) fn wire_of(url: &str) -> Cow<'_, str> {
    match url.contains(AS_WRITTEN) || is_zoned(url) {
        true => Url::parse(url).map_or(Cow::Borrowed(url), |url| {
            Cow::Owned(wire(&url).into_owned())
        }),
        false => Cow::Borrowed(url),
    }
}

/// The host of a URL that [`parse`] gave, an IPv6 address with its zone.
pub(crate) fn host(url: &Url) -> Cow<'_, str> {
    match url.host_str().unwrap_or_default() {
        host if is_zoned(host) => Cow::Owned(unzoned(host)),
        host => Cow::Borrowed(host),
    }
}

/// User and password of `user:password@host/path`, and the rest. They end at the last `@` before the
/// path; at a later one if what is before the path is no host with its port.
fn split_userinfo(text: &str) -> (Option<&str>, &str) {
    let end = |text: &str| text.find(['/', '?']).unwrap_or(text.len());
    let path = end(text);
    let at = text[..path].rfind('@').or_else(|| {
        let mut later = text.match_indices('@').map(|(at, _)| at);
        let is_before_host = |at: &usize| {
            let rest = &text[at + 1..];
            is_host(&rest[..end(rest)])
        };
        later
            .find(is_before_host)
            .filter(|_| !is_host(&text[..path]))
    });
    match at {
        Some(at) => (Some(&text[..at]), &text[at + 1..]),
        None => (None, text),
    }
}

/// True if this may be a host, with or without a port.
fn is_host(text: &str) -> bool {
    let port = match text.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => Some(port),
        _ => None,
    };
    let is_port = |port: &str| port.ends_with(']') || port.parse::<u16>().is_ok();
    !text.is_empty() && port.is_none_or(is_port)
}

/// What may be in userinfo. A '%' stays: it begins an escape, or stands for itself.
const USERINFO: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'%');

/// Escapes all that may not be in userinfo; what is escaped stays so.
fn escaped(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, USERINFO)
}

/// `[fe80::1%eth0]:554` as a host that [`Url`] takes, `fe80%3A%3A1%25eth0:554`.
fn with_zone(host: &str) -> Option<String> {
    let (address, port) = host.strip_prefix('[')?.split_once(']')?;
    let (address, zone) = address.split_once('%')?;
    let zone = zone
        .strip_prefix("25")
        .filter(|it| !it.is_empty())
        .unwrap_or(zone);
    let is_name = |zone: &str| {
        zone.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    let is_zone = !zone.is_empty() && is_name(zone);
    let address = address.parse::<Ipv6Addr>().ok().filter(|_| is_zone)?;
    let address = address.to_string().replace(':', "%3A");
    Some(format!("{address}%25{zone}{port}"))
}

fn is_zoned(host: &str) -> bool {
    host.contains("%3A")
}

fn unzoned(host: &str) -> String {
    percent_decode_str(host).decode_utf8_lossy().into_owned()
}

/// Path and query with all that [`Url`] would change marked, see [`AS_WRITTEN`].
fn as_written(path: &str) -> String {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let is_dots = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        matches!(segment.as_str(), "." | "..")
    };
    let mut segments = path[..end].split('/');
    let has_dots = segments.any(|it| it.starts_with(['.', '%']) && is_dots(it));
    let mut marked = String::with_capacity(path.len());
    for (at, byte) in path.bytes().enumerate() {
        let is_changed = match byte {
            b'.' | b'%' => has_dots && at < end,
            _ => b" \"<>`{}|^\\".contains(&byte) || !byte.is_ascii(),
        };
        match is_changed {
            true => marked.extend([AS_WRITTEN, percent_encode_byte(byte)]),
            false => marked.push(char::from(byte)),
        }
    }
    marked
}

/// A user's URL as a Request-URI: as [`named_uri`], and with `rtspt` and `rtspst`, which only choose the
/// transport, written as `rtsp` and `rtsps`.
pub(crate) fn request_uri(url: &Url) -> Url {
    match url.scheme() {
        "rtspt" | "rtspst" => with_plain_scheme(url),
        _ => named_uri(url),
    }
}

/// With `rtspt`, `rtspu` and their like written as `rtsp` and `rtsps`, whatever transport they name.
fn with_plain_scheme(url: &Url) -> Url {
    let mut url = named_uri(url);
    // None of these schemes has special rules, so the change cannot fail.
    let _ = match url.scheme() {
        "rtspt" | "rtspu" => url.set_scheme("rtsp"),
        "rtspst" | "rtspsu" => url.set_scheme("rtsps"),
        _ => Ok(()),
    };
    url
}

/// A URL that the server has named as a Request-URI: without user and password, and with '$' as `%24`,
/// because live555 takes a '$' for the start of an interleaved frame.
pub(crate) fn named_uri(url: &Url) -> Url {
    let mut url = url.clone();
    strip_userinfo(&mut url);
    if !url.as_str().contains('$') {
        return url;
    }
    Url::parse(&url.as_str().replace('$', "%24")).unwrap_or(url)
}

/// True if the answer to a DESCRIBE names no base for control URLs, or none that ends in a slash:
/// servers that know what a base is for do.
pub(crate) fn is_bare(content_base: Option<&str>, content_location: Option<&str>) -> bool {
    let is_base = |base: &str| base.trim_end().ends_with('/');
    content_location.is_none() && !content_base.is_some_and(is_base)
}

/// The base for control attributes: Content-Base, Content-Location or the request's URL, the first
/// that is usable (RFC 2326, C.1.1). `rtspsrc` and FFmpeg know no Content-Location, so a relative one
/// may be anything.
pub fn presentation_base(
    request: &Url,
    content_base: Option<&str>,
    content_location: Option<&str>,
) -> Url {
    [content_base, content_location.filter(|it| is_absolute(it))]
        .into_iter()
        .flatten()
        .find_map(|value| usable_base(request, value))
        .unwrap_or_else(|| request_uri(request))
}

fn usable_base(request: &Url, value: &str) -> Option<Url> {
    let value = value.trim();
    if !is_harmless(value) || value.is_empty() || value == "*" {
        return None;
    }
    let base = match request.host_str().and_then(|host| value.strip_prefix(host)) {
        // Some cameras omit the scheme: `192.168.1.10:554/stream0/`.
        Some(rest) if rest.starts_with([':', '/']) => {
            parse(&format!("{}://{value}", request.scheme()))
        }
        _ if is_absolute(value) => parse(value),
        _ => request.join(value),
    };
    base.ok()
        .filter(|url| is_rtsp(url.scheme()) && url.has_host())
        .map(|url| named_uri(&url))
}

/// The URI of a control attribute: itself if it is an RTSP URL, the base if it is absent, empty or
/// `*`, or else the base with it appended. `None` if that is no URL, or one of another protocol, and if
/// the attribute is too long or has a control character, which could start another header.
pub fn resolve_control(base: &Url, control: Option<&str>) -> Option<Url> {
    let control = control.unwrap_or_default();
    if !is_harmless(control) {
        return None;
    }
    let control = control.trim();
    if control.is_empty() || control == "*" {
        return Some(named_uri(base));
    }
    if let Some(url) = absolute_control(control) {
        return Some(url);
    }
    // A URL of another protocol is relative, too.
    let url = match repeats_path(base, control) {
        true => base.join(control),
        false => append(base, control),
    };
    url.ok().map(|url| named_uri(&url))
}

/// The other URL that a control may stand for. A relative one: where RFC 3986 and plain concatenation
/// differ, `rtsp://h/track1` for `track1` under `rtsp://h/live`. Else: with the scheme of the request, where
/// the server has named another one, `rtsp` for `rtspu`. `resolved` is what [`resolve_control`] made of it.
pub(crate) fn other_control(base: &Url, control: Option<&str>, resolved: &Url) -> Option<Url> {
    let control = control.unwrap_or_default().trim();
    let is_relative = !control.is_empty() && control != "*" && !is_absolute(control);
    let other = match repeats_path(base, control) {
        true => append(base, control),
        false => base.join(control),
    };
    let other = other.ok().filter(|_| is_relative);
    let other = other.filter(|url| is_rtsp(url.scheme()) && url.has_host());
    let others = [
        other.as_ref().map(named_uri),
        Some(with_plain_scheme(resolved)),
    ];
    others.into_iter().flatten().find(|other| other != resolved)
}

/// The URL that a control attribute is on its own.
pub(crate) fn absolute_control(control: &str) -> Option<Url> {
    let control = control.trim();
    let is_url =
        split_scheme(control).is_some_and(|(scheme, _)| is_rtsp(scheme)) && is_harmless(control);
    let url = is_url.then(|| parse(control).ok()).flatten()?;
    Some(named_uri(&url))
}

/// The target of a redirect: a URL of any scheme without its userinfo, and the credentials in that
/// userinfo, if they can be used. One that is relative is so to `asked`, as RFC 7826 and HTTP allow.
pub(crate) fn parse_location(
    location: &str,
    asked: Option<&Url>,
) -> Option<(Url, Option<Credentials>)> {
    let location = Some(location.trim()).filter(|it| is_harmless(it) && !it.is_empty())?;
    let mut url = match asked.filter(|_| !is_absolute(location)) {
        Some(asked) => asked.join(location).ok()?,
        None => parse(location).ok()?,
    };
    let credentials = take_userinfo(&mut url).ok().flatten();
    url.has_host()
        .then(|| (with_plain_scheme(&url), credentials))
}

/// True if a control attribute is a whole URL, false if it is relative to a base.
pub(crate) fn is_absolute(control: &str) -> bool {
    split_scheme(control.trim()).is_some()
}

fn is_harmless(text: &str) -> bool {
    text.len() <= MAX_CONTROL && !text.contains(char::is_control)
}

/// The scheme of `scheme://...`, and the rest. A colon alone is not enough: `track:1` is relative.
pub(crate) fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let is_scheme = (1..=16).contains(&scheme.len()) && scheme.chars().all(is_of_scheme);
    is_scheme.then_some((scheme, rest))
}

/// All schemes that name the same resource; the scheme chooses the URI too, not the socket.
fn is_rtsp(scheme: &str) -> bool {
    ["rtsp", "rtspt", "rtspu", "rtsps", "rtspst", "rtspsu"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
}

/// True if a control begins with the base's own path (`/live/1/track1` under `/live/1`): appended,
/// the path would be there twice, so the control is resolved by RFC 3986.
fn repeats_path(base: &Url, control: &str) -> bool {
    let path = base.path().trim_end_matches('/');
    !path.is_empty()
        && control
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with(['/', '?']))
}

fn append(base: &Url, control: &str) -> Result<Url, ParseError> {
    let text = base.as_str();
    // `?ctype=video` under a base without a query selects a stream, so no slash goes before it.
    let is_query = control.starts_with('?') && base.query().is_none();
    let separated = is_query || text.ends_with('/') || control.starts_with('/');
    let slash = if separated { "" } else { "/" };
    let control = match control.starts_with(['/', '?']) {
        true => as_written(control),
        // A dot segment follows a slash.
        false => as_written(&format!("/{control}")).split_off(1),
    };
    Url::parse(&format!("{text}{slash}{control}"))
}

/// Takes user and password out of a URL, percent-decoded: they are octets, in whatever character set the
/// camera has. `None` if it names no user.
pub fn take_userinfo(url: &mut Url) -> Result<Option<Credentials>, InvalidCredentials> {
    let decode = |text: &str| {
        let bytes: Cow<'_, [u8]> = percent_decode_str(text).into();
        octets::decode(&bytes).into_owned()
    };
    let user = decode(url.username());
    let password = decode(url.password().unwrap_or_default());
    // The userinfo is removed even if it cannot be used.
    strip_userinfo(url);
    if user.is_empty() && password.is_empty() {
        return Ok(None);
    }
    Credentials::new(user, password).map(Some)
}

/// Fails only for URLs without a host, which have no user either.
fn strip_userinfo(url: &mut Url) {
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn resolved(base: &str, control: &str) -> String {
        let resolved = resolve_control(&parse(base).unwrap(), Some(control));
        wire(&resolved.unwrap()).into_owned()
    }

    #[test]
    fn relative_controls_are_appended_with_one_slash() {
        for (base, control, uri) in [
            ("rtsp://h/test/", "stream=0", "rtsp://h/test/stream=0"),
            (
                "rtsp://h/live/ch1",
                "trackID=1",
                "rtsp://h/live/ch1/trackID=1",
            ),
            (
                "rtsp://h/live/ch1",
                "/trackID=1",
                "rtsp://h/live/ch1/trackID=1",
            ),
            ("rtsp://h:8554", "track1", "rtsp://h:8554/track1"),
            ("rtsp://h/", "track:1", "rtsp://h/track:1"),
            ("rtsp://h/a", "?ctype=video", "rtsp://h/a?ctype=video"),
            ("rtsp://h/a", "my track", "rtsp://h/a/my track"),
            ("rtsp://h/{a}", "../{b}", "rtsp://h/{a}/../{b}"),
        ] {
            assert_eq!(resolved(base, control), uri);
        }
    }

    #[test]
    fn path_and_query_are_written_as_they_were() {
        for text in [
            "rtsp://h/live/{0c4b}?a={b}|c",
            "rtsp://h/Stream 1/a\"b",
            "rtsp://h/\u{9580}\u{53e3}/1?name=\u{fc}",
            "rtsp://h/a/../b/./c/%2e%2E/d",
            "rtsp://h/%7Ba%7D/%20?x=%5B1%5D",
            "rtsp://h:8554/cam/realmonitor?channel=1&subtype=0",
            "rtsp://h/a?b#c",
            "rtsp://h",
        ] {
            let url = parse(text).unwrap();
            assert_eq!(wire(&url), text);
            assert_eq!(parse(url.as_str()).unwrap(), url, "again");
            assert_eq!(wire_of(url.as_str()), text);
        }
    }

    #[test]
    fn user_and_password_may_have_reserved_characters() {
        for (text, user, password) in [
            ("rtsp://admin:pa#ss@h:99/a?b", "admin", "pa#ss"),
            ("rtsp://admin:#1Cam@h:99/a?b", "admin", "#1Cam"),
            ("rtsp://admin:a#b%23@h:99/a?b", "admin", "a#b#"),
            ("rtsp://admin:p@ss@h:99/a?b", "admin", "p@ss"),
            ("rtsp://admin:a:b@h:99/a?b", "admin", "a:b"),
            ("rtsp://admin:a/b?c@h:99/a?b", "admin", "a/b?c"),
            ("rtsp://admin:100%@h:99/a?b", "admin", "100%"),
            ("rtsp://admin:%@%%4@h:99/a?b", "admin", "%@%%4"),
            ("rtsp://ad min:[x]{y}@h:99/a?b", "ad min", "[x]{y}"),
            ("rtsp://\u{fc}:\u{df}@h:99/a?b", "\u{fc}", "\u{df}"),
        ] {
            let mut url = parse(text).unwrap();
            let credentials = take_userinfo(&mut url).unwrap().unwrap();
            assert_eq!(
                credentials,
                Credentials::new(user, password).unwrap(),
                "{text}"
            );
            assert_eq!(wire(&url), "rtsp://h:99/a?b", "{text}");
        }
        for text in [
            "rtsp://h/cam@1",
            "rtsp://h:554/?user=a@b",
            "rtsp://[::1]:554/a@b",
        ] {
            let mut url = parse(text).unwrap();
            assert_eq!(take_userinfo(&mut url), Ok(None));
            assert_eq!(wire(&url), text);
        }
    }

    #[test]
    fn an_ipv6_address_may_have_a_zone_that_no_server_sees() {
        for text in [
            "rtsp://[fe80::1%eth0]:99/a",
            "rtsp://u:p@[FE80::1%25eth0]:99/a",
        ] {
            let mut url = parse(text).unwrap();
            take_userinfo(&mut url).unwrap();
            assert_eq!(host(&url), "fe80::1%eth0");
            assert_eq!(wire(&url), "rtsp://[fe80::1]:99/a");
            let control = resolve_control(&url, Some("t1")).unwrap();
            assert_eq!(wire_of(control.as_str()), "rtsp://[fe80::1]:99/a/t1");
        }
        assert_eq!(host(&parse("rtsp://[::1]/a").unwrap()), "[::1]");
        assert!(parse("rtsp://[fe80::1%]/a").is_err() && parse("rtsp://[x%eth0]/a").is_err());
    }

    #[test]
    fn the_query_that_names_the_camera_is_kept() {
        let base = "rtsp://h/cam/realmonitor?channel=1&subtype=0";
        let uri = "rtsp://h/cam/realmonitor?channel=1&subtype=0/trackID=0";
        assert_eq!(resolved(base, "trackID=0"), uri);
        assert_eq!(resolved(&format!("{base}/"), "trackID=0"), uri);
    }

    #[test]
    fn a_control_that_repeats_the_path_stands_for_itself() {
        assert_eq!(
            resolved("rtsp://h/live/1", "/live/1/track1"),
            "rtsp://h/live/1/track1"
        );
        assert_eq!(
            resolved("rtsp://h/live/1/", "/live/1/track1"),
            "rtsp://h/live/1/track1"
        );
        assert_eq!(
            resolved("rtsp://h/live/1", "/live/11"),
            "rtsp://h/live/1/live/11"
        );
    }

    #[test]
    fn absolute_controls_are_taken_as_they_are_but_for_the_user() {
        for control in ["rtspu://x/b", "rtspt://x/b", "rtspsu://x/b", "rtspst://x/b"] {
            assert_eq!(resolved("rtsp://h/a", control), control);
            assert_eq!(base(Some(control), None), control);
        }
        assert_eq!(
            resolved("rtsp://h/a", "RTSP://admin:pw@10.0.0.9:8554/b/track1?x=1"),
            "rtsp://10.0.0.9:8554/b/track1?x=1"
        );
    }

    #[test]
    fn absolute_controls_that_are_no_rtsp_url_are_appended_as_rtspsrc_does() {
        for control in [
            "http://h/a",
            "rtsp://h:99999/a",
            "rtsp://[::1/a",
            "rtsp://a b/c",
        ] {
            assert_eq!(
                resolved("rtsp://h/a/", control),
                format!("rtsp://h/a/{control}")
            );
        }
    }

    #[test]
    fn a_relative_control_may_stand_for_another_url_as_well() {
        let other = |base: &str, control| {
            let base = parse(base).unwrap();
            let resolved = resolve_control(&base, Some(control)).unwrap();
            other_control(&base, Some(control), &resolved).map(String::from)
        };
        for (base, control, expected) in [
            ("rtsp://h/live", "t1", Some("rtsp://h/t1")),
            ("rtsp://h/live", "/t1", Some("rtsp://h/t1")),
            ("rtsp://h/live/", "../t1", Some("rtsp://h/t1")),
            ("rtsp://h/live/x.sdp", "t1", Some("rtsp://h/live/t1")),
            ("rtsp://h/live/", "/live/t1", Some("rtsp://h/live//live/t1")),
            ("rtsp://h/live?c=1", "t1", Some("rtsp://h/t1")),
            ("rtsp://h/live/", "t1", None),
            ("rtsp://h/live", "?t=1", None),
            ("rtsp://h/live", "track:1", None),
            ("rtsp://h/live", "*", None),
            ("rtspu://h/live", "*", Some("rtsp://h/live")),
            ("rtsp://h/live", "rtsp://x/t1", None),
            ("rtsp://h/live", "//x/t1", Some("rtsp://x/t1")),
            ("rtsp://h/live/", "RTSPU://x/t1", Some("rtsp://x/t1")),
            ("rtsp://h/live/", "rtspsu://x/t1", Some("rtsps://x/t1")),
            ("rtspt://h/live/", "t1", Some("rtsp://h/live/t1")),
            ("rtspt://h/live", "t1", Some("rtspt://h/t1")),
        ] {
            assert_eq!(
                other(base, control).as_deref(),
                expected,
                "{base} {control}"
            );
        }
    }

    #[test]
    fn no_control_is_the_base() {
        let base = url("rtsp://u:p@h/a?b=c");
        for control in [None, Some(""), Some("*"), Some(" * ")] {
            assert_eq!(
                resolve_control(&base, control).unwrap().as_str(),
                "rtsp://h/a?b=c"
            );
        }
    }

    #[test]
    fn controls_that_could_do_harm_are_refused() {
        let base = url("rtsp://h/a");
        for control in ["a\r\nX: y", "a\0", "a\tb", "\u{7f}"] {
            assert_eq!(resolve_control(&base, Some(control)), None);
        }
        assert_eq!(resolve_control(&base, Some(&"x".repeat(4097))), None);
        assert!(resolve_control(&base, Some(&"x".repeat(4096))).is_some());
    }

    #[test]
    fn dollar_signs_never_reach_the_wire() {
        assert_eq!(
            resolved("rtsp://h/a$b", "t$1?x=$"),
            "rtsp://h/a%24b/t%241?x=%24"
        );
        assert_eq!(request_uri(&url("rtspt://u@h/$")).as_str(), "rtsp://h/%24");
        assert_eq!(
            request_uri(&url("RTSPST://u@h/$")).as_str(),
            "rtsps://h/%24"
        );
    }

    #[test]
    fn a_redirect_chooses_no_transport() {
        for (location, target) in [
            ("RTSP://u@h/$", "rtsp://h/%24"),
            ("rtspu://u@h/$", "rtsp://h/%24"),
            ("rtspt://u@h/$", "rtsp://h/%24"),
            ("rtspsu://u@h/$", "rtsps://h/%24"),
        ] {
            let (url, _) = parse_location(location, None).unwrap();
            assert_eq!(url.as_str(), target);
        }
    }

    fn base(content_base: Option<&str>, content_location: Option<&str>) -> String {
        let request = url("rtsp://u:p@10.0.0.1:554/live");
        presentation_base(&request, content_base, content_location).to_string()
    }

    #[test]
    fn the_base_is_the_first_usable_of_content_base_location_and_request() {
        assert_eq!(
            base(Some("rtsp://u:p@x/b/"), Some("rtsp://x/l")),
            "rtsp://x/b/"
        );
        assert_eq!(base(None, Some("rtsp://x/l")), "rtsp://x/l");
        assert_eq!(base(None, None), "rtsp://10.0.0.1:554/live");
        assert_eq!(base(None, Some("%%")), "rtsp://10.0.0.1:554/live");
        for unusable in ["", "*", "http://x/", "rtsp://h:99999/", "a\r\nb", "rtsp:/x"] {
            assert_eq!(
                base(Some(unusable), Some("rtsp://x/l")),
                "rtsp://x/l",
                "{unusable}"
            );
        }
    }

    #[test]
    fn relative_bases_resolve_against_the_request() {
        assert_eq!(base(Some("/live/"), None), "rtsp://10.0.0.1:554/live/");
        assert_eq!(base(Some("live/1/"), None), "rtsp://10.0.0.1:554/live/1/");
        assert_eq!(
            base(Some("10.0.0.1:554/stream0/"), None),
            "rtsp://10.0.0.1:554/stream0/"
        );
    }

    #[test]
    fn userinfo_is_taken_out_decoded() {
        let mut camera = url("rtsp://ad%20min:p%40ss%3Aw%2F%C3%B6%25@h/a");
        let credentials = take_userinfo(&mut camera).unwrap().unwrap();
        assert_eq!(
            credentials,
            Credentials::new("ad min", "p@ss:w/ö%").unwrap()
        );
        assert_eq!(camera.as_str(), "rtsp://h/a");

        let user_only = take_userinfo(&mut url("rtsp://admin@h/")).unwrap();
        assert_eq!(user_only, Some(Credentials::new("admin", "").unwrap()));
        let octets = [
            octets::decode(b"\xe9ric").into_owned(),
            octets::decode(b"\xff").into_owned(),
        ];
        let latin = take_userinfo(&mut url("rtsp://%e9ric:%ff@h/")).unwrap();
        let [user, password] = octets;
        assert_eq!(latin, Some(Credentials::new(user, password).unwrap()));
        assert_eq!(take_userinfo(&mut url("rtsp://h/")).unwrap(), None);
    }

    #[test]
    fn userinfo_that_cannot_be_used_does_not_stay_either() {
        for (text, error) in [
            (
                "rtsp://a:b%0d%0ac@h/",
                InvalidCredentials::ControlCharacterInPassword,
            ),
            (
                "rtsp://a%00:b@h/",
                InvalidCredentials::ControlCharacterInUser,
            ),
        ] {
            let mut camera = url(text);
            assert_eq!(take_userinfo(&mut camera), Err(error));
            assert_eq!(camera.as_str(), "rtsp://h/");
        }
    }
}
