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

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use url::{ParseError, Url};

pub use super::redaction::redacted;
use crate::mux::proto::auth::credentials::{Credentials, InvalidCredentials};

/// The longest URL accepted from a description or header; our requests must fit a start line of 8
/// KiB.
const MAX_CONTROL: usize = 4096;

/// Why a control attribute cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidControl {
    /// It contains a control character, which could start another header.
    #[error("the control URL contains a control character")]
    ControlCharacter,
    /// It is longer than 4096 bytes.
    #[error("the control URL is {0} bytes long")]
    TooLong(usize),
    /// It is a URL of another protocol.
    #[error("the control URL is not an RTSP URL")]
    NotRtsp,
    /// It does not form a URL.
    #[error("the control attribute makes no URL: {0}")]
    NotAUrl(ParseError),
}

/// A user's URL as a Request-URI: without user and password; with `rtspt` and `rtspst`, which only
/// choose the transport, written as `rtsp` and `rtsps`; and with '$' as `%24`, because live555
/// takes a '$' for the start of an interleaved frame.
pub(crate) fn request_uri(url: &Url) -> Url {
    let mut url = url.clone();
    strip_userinfo(&mut url);
    // None of these schemes has special rules, so the change cannot fail.
    let _ = match url.scheme() {
        "rtspt" => url.set_scheme("rtsp"),
        "rtspst" => url.set_scheme("rtsps"),
        _ => Ok(()),
    };
    if !url.as_str().contains('$') {
        return url;
    }
    Url::parse(&url.as_str().replace('$', "%24")).unwrap_or(url)
}

/// The base for control attributes: Content-Base, Content-Location or the request's URL, the first
/// that is usable (RFC 2326, C.1.1).
pub fn presentation_base(
    request: &Url,
    content_base: Option<&str>,
    content_location: Option<&str>,
) -> Url {
    [content_base, content_location]
        .into_iter()
        .flatten()
        .find_map(|value| usable_base(request, value))
        .unwrap_or_else(|| request_uri(request))
}

fn usable_base(request: &Url, value: &str) -> Option<Url> {
    let value = value.trim();
    check(value).ok()?;
    if value.is_empty() || value == "*" {
        return None;
    }
    let base = match request.host_str().and_then(|host| value.strip_prefix(host)) {
        // Some cameras omit the scheme: `192.168.1.10:554/stream0/`.
        Some(rest) if rest.starts_with([':', '/']) => {
            Url::parse(&format!("{}://{value}", request.scheme()))
        }
        _ => request.join(value),
    };
    base.ok()
        .filter(|url| is_rtsp(url.scheme()) && url.has_host())
        .map(|url| request_uri(&url))
}

/// The URI of a control attribute: itself if it is an RTSP URL, the base if it is absent, empty or
/// `*`, or else the base with it appended.
pub fn resolve_control(base: &Url, control: Option<&str>) -> Result<Url, InvalidControl> {
    let control = control.unwrap_or_default();
    check(control)?;
    let control = control.trim();
    if control.is_empty() || control == "*" {
        return Ok(request_uri(base));
    }
    let url = match absolute_scheme(control) {
        Some(scheme) if is_rtsp(scheme) => Url::parse(control),
        Some(_) => return Err(InvalidControl::NotRtsp),
        None if repeats_path(base, control) => base.join(control),
        None => append(base, control),
    };
    url.map(|url| request_uri(&url))
        .map_err(InvalidControl::NotAUrl)
}

/// The target of a redirect: an absolute URL of any scheme without its userinfo, and the
/// credentials in that userinfo, if they can be used.
pub(crate) fn parse_location(location: &str) -> Option<(Url, Option<Credentials>)> {
    check(location).ok()?;
    let mut url = Url::parse(location.trim()).ok()?;
    let credentials = take_userinfo(&mut url).ok().flatten();
    url.has_host().then(|| (request_uri(&url), credentials))
}

/// True if a control attribute is a whole URL, false if it is relative to a base.
pub(crate) fn is_absolute(control: &str) -> bool {
    absolute_scheme(control.trim()).is_some()
}

fn check(text: &str) -> Result<(), InvalidControl> {
    if text.len() > MAX_CONTROL {
        return Err(InvalidControl::TooLong(text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(InvalidControl::ControlCharacter);
    }
    Ok(())
}

/// The scheme of `scheme://...`. A colon alone is not enough: `track:1` is relative.
fn absolute_scheme(control: &str) -> Option<&str> {
    let (scheme, _) = control.split_once("://")?;
    scheme
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
        .then_some(scheme)
}

/// All schemes that name the same resource; the scheme chooses the URI too, not the socket.
fn is_rtsp(scheme: &str) -> bool {
    ["rtsp", "rtspt", "rtspu", "rtsps", "rtspst"]
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
    Url::parse(&format!("{text}{slash}{control}"))
}

/// Takes user and password out of a URL, percent-decoded. `None` if it names no user.
pub fn take_userinfo(url: &mut Url) -> Result<Option<Credentials>, InvalidCredentials> {
    let decode = |text: &str| {
        percent_decode_str(text)
            .decode_utf8()
            .map(Cow::into_owned)
            .map_err(|_| InvalidCredentials::NotUtf8)
    };
    let user = decode(url.username());
    let password = decode(url.password().unwrap_or_default());
    // The userinfo is removed even if it cannot be decoded.
    strip_userinfo(url);
    let (user, password) = (user?, password?);
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
        resolve_control(&url(base), Some(control))
            .unwrap()
            .to_string()
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
            ("rtsp://h/a", "my track", "rtsp://h/a/my%20track"),
        ] {
            assert_eq!(resolved(base, control), uri);
        }
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
        assert_eq!(
            resolved("rtsp://h/a", "RTSP://admin:pw@10.0.0.9:8554/b/track1?x=1"),
            "rtsp://10.0.0.9:8554/b/track1?x=1"
        );
        assert_eq!(
            resolve_control(&url("rtsp://h/a"), Some("http://h/a")),
            Err(InvalidControl::NotRtsp)
        );
        assert!(matches!(
            resolve_control(&url("rtsp://h/a"), Some("rtsp://h:99999/a")),
            Err(InvalidControl::NotAUrl(_))
        ));
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
            assert_eq!(
                resolve_control(&base, Some(control)),
                Err(InvalidControl::ControlCharacter)
            );
        }
        assert_eq!(
            resolve_control(&base, Some(&"x".repeat(4097))),
            Err(InvalidControl::TooLong(4097))
        );
        assert!(resolve_control(&base, Some(&"x".repeat(4096))).is_ok());
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
        assert_eq!(take_userinfo(&mut url("rtsp://h/")).unwrap(), None);
    }

    #[test]
    fn userinfo_that_cannot_be_used_does_not_stay_either() {
        for (text, error) in [
            ("rtsp://a:%ff@h/", InvalidCredentials::NotUtf8),
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
