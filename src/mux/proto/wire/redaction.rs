//! Which parts of a URL may be shown in logs, messages, dot files, getters and errors.
//!
//! Scheme, host, port and path are shown, and of parameters, wherever they are, those that choose a
//! stream ([`SHOWN_PARAMETERS`]) if their value is short and plain. Everything else is replaced by
//! a hash, such as `~1b2e9f04`, which tells cameras apart. The reason: secret parameters have any
//! name, and cameras put them into the query, the path (`/user=admin&password=x&channel=1.sdp`,
//! Hi3516 and XM recorders), behind a semicolon and into fragments. User and password before the
//! host are left out.
//!
//! The hash is keyed with a random number, so that a reader of the log cannot find a password by
//! trying. The key comes from the state file, if there is one, so that the hashes of two runs can
//! be compared; otherwise each process makes its own. Only what is shown depends on the hash.
//!
//! # What is stored
//!
//! A text with signs of passwords, tokens or keys is not written to a file either. In doubt a text
//! counts as secret: what may not be shown is not stored. Tokens are recognised by their form, because
//! UniFi uses them as paths (`/5nPr7RCmueGTKMP7`).

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    sync::OnceLock,
};

use percent_encoding::percent_decode_str;
use url::Url;

use super::{octets, uri};

/// Parameters that choose a stream and are no secret.
const SHOWN_PARAMETERS: &str =
    "channel subtype stream profile unicast proto trackid camera video audio";
/// The most characters of one text that are shown.
pub(crate) const LONGEST: usize = 200;
/// The longest value of a shown parameter.
const LONGEST_VALUE: usize = 8;
/// Names whose value is secret in any text.
const SECRET_NAMES: &str = "user username usr loginuse login account password passwd pass pwd \
    loginpas token auth authbasic key apikey secret sig signature sign session sessionid ticket nonce";
/// More names that may be shown, but not their values: common words, which are no secret themselves.
const KNOWN_NAMES: &str = "streamid track starttime endtime transportmode";
/// A path segment of so many small and capital letters and digits is taken for a token: UniFi uses
/// tokens as paths (`/5nPr7RCmueGTKMP7`).
const TOKEN: usize = 16;

type Key = [u64; 2];

static KEPT_KEY: OnceLock<Key> = OnceLock::new();
static OWN_KEY: OnceLock<Key> = OnceLock::new();

/// The key of all hashes.
pub(crate) fn key() -> Key {
    let random = || {
        let half = || RandomState::new().hash_one(0_u8);
        [half(), half()]
    };
    *KEPT_KEY
        .get()
        .unwrap_or_else(|| OWN_KEY.get_or_init(random))
}

/// Sets the key of an earlier run. The first key that a process uses stays.
pub(crate) fn use_key(key: Key) {
    let _ = KEPT_KEY.set(key);
}

/// The digits of a hash: eight are enough to tell a million cameras apart.
const HASH: usize = 8;

/// Takes the place of a text that is not shown.
fn hash(text: &str) -> String {
    hash_with(key(), text)
}

fn hash_with([k0, k1]: Key, text: &str) -> String {
    #[expect(
        deprecated,
        reason = "std has no other keyed hash that is the same in two runs"
    )]
    let mut hasher = std::hash::SipHasher::new_with_keys(k0, k1);
    hasher.write(text.as_bytes());
    format!("~{:0HASH$x}", hasher.finish() as u32)
}

/// A URL as it is shown, with all hidden parts made equal.
#[cfg(any(feature = "plugin", test))]
pub(crate) fn without_hashes(shown: &str) -> String {
    let mut parts = shown.split('~');
    let mut alike = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_hash = |hash: &&str| hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let hash = part.get(..HASH).filter(is_hash).unwrap_or_default();
        alike.push('~');
        alike.push_str(part.strip_prefix(hash).unwrap_or(part));
    }
    alike
}

/// A URL for logs and messages, at most 200 characters.
pub fn redacted(url: &Url) -> String {
    let shown = redacted_whole(url);
    let short = cut(&shown);
    if short.len() == shown.len() {
        return shown;
    }
    // Two long URLs with the same beginning still differ in the hash.
    let hash = hash(url.as_str());
    let kept: String = short
        .chars()
        .take(short.chars().count() - 1 - hash.len())
        .collect();
    format!("{kept}…{hash}")
}

/// A URL without secrets, however long it is.
pub(crate) fn redacted_whole(url: &Url) -> String {
    redacted_reference(&octets::escape(&uri::wire(url)))
}

/// An absolute or relative URL, as written.
pub(crate) fn redacted_reference(text: &str) -> String {
    let Some((scheme, rest)) = uri::split_scheme(text) else {
        return redacted_resource(text);
    };
    let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
    let (authority, resource) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    // In `rtsp://admin:pass/word@nvr/` the apparent host is not one.
    let host = match is_host(host) {
        true => host.to_owned(),
        false => hash(host),
    };
    format!("{scheme}://{host}{}", redacted_resource(resource))
}

/// A host name or an address, with or without a port.
fn is_host(authority: &str) -> bool {
    let (host, port) = match authority
        .strip_prefix('[')
        .and_then(|it| it.split_once(']'))
    {
        Some((address, "")) => (address, "0"),
        Some((address, port)) => (address, port.strip_prefix(':').unwrap_or("x")),
        None => authority.split_once(':').unwrap_or((authority, "0")),
    };
    let is_name = |c: char| c.is_alphanumeric() || "-._:%~".contains(c);
    host.chars().all(is_name) && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())
}

/// Path, query and fragment.
fn redacted_resource(text: &str) -> String {
    if let Some((text, fragment)) = text.split_once('#') {
        // The fragment may be a part of a password whose '#' was not encoded.
        return format!("{}#{}", redacted_resource(text), hash(fragment));
    }
    match text.split_once('?') {
        Some((path, query)) => format!("{}?{}", redacted_path(path), redacted_query(query)),
        None => redacted_path(text),
    }
}

fn redacted_path(path: &str) -> String {
    let mut shown = String::with_capacity(path.len());
    let mut is_value = false;
    for (segment, end) in pieces(path, "/") {
        // `/token/abc` is treated like `/token=abc`.
        let shown_segment = match is_value && !segment.is_empty() {
            true => hash(segment),
            false => redacted_segment(segment),
        };
        is_value = is_secret_name(segment) || is_value && segment.is_empty();
        shown.push_str(&shown_segment);
        shown.push_str(end);
    }
    shown
}

/// One segment of a path: a name, and parameters in it or after it.
fn redacted_segment(segment: &str) -> String {
    let shown = pieces(segment, "&;")
        .enumerate()
        .map(|(number, (piece, end))| {
            let shown = match number == 0 && is_plain(piece) {
                true => piece.to_owned(),
                false => redacted_parameter(piece),
            };
            shown + end
        });
    shown.collect()
}

/// True if it holds no parameter, no `user:password@` and no token, encoded or not.
fn is_plain(name: &str) -> bool {
    let decoded = decoded(name);
    let is_separator = |c: char| "=&;@:?#%".contains(c) || c.is_control();
    !decoded.contains(is_separator) && !decoded.split(|c: char| !c.is_alphanumeric()).any(is_token)
}

fn is_token(word: &str) -> bool {
    let has = |kind: fn(char) -> bool| word.chars().any(kind);
    word.len() >= TOKEN
        && has(|c| c.is_ascii_digit())
        && has(|c| c.is_ascii_lowercase())
        && has(|c| c.is_ascii_uppercase())
}

fn redacted_query(query: &str) -> String {
    // Control attributes are appended to a query: `?channel=1&subtype=0/trackID=0`.
    let shown = pieces(query, "&;/?").map(|(piece, end)| redacted_parameter(piece) + end);
    shown.collect()
}

/// The pieces of a text between any of these characters, each with the one behind it.
fn pieces<'a>(text: &'a str, separators: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let is_separator = |c: char| separators.contains(c);
    text.split_inclusive(is_separator).map(move |piece| {
        let body = piece.strip_suffix(is_separator).unwrap_or(piece);
        (body, piece.strip_prefix(body).unwrap_or_default())
    })
}

/// A parameter with its value, or a hash in place of it.
fn redacted_parameter(parameter: &str) -> String {
    if parameter.is_empty() {
        return String::new();
    }
    let at = parameter.find(['=', ':']).unwrap_or(parameter.len());
    let (name, value) = parameter.split_at(at);
    let mut characters = value.chars();
    let (sign, value) = (characters.next(), characters.as_str());
    let lists = [SHOWN_PARAMETERS, SECRET_NAMES, KNOWN_NAMES];
    match sign {
        Some(_) if is_in(SHOWN_PARAMETERS, name) && is_short(value) => parameter.to_owned(),
        Some(sign) if lists.iter().any(|names| is_in(names, name)) => {
            // The hash includes the name, so that equal user and password do not show.
            format!("{name}{sign}{}", hash(parameter))
        }
        _ => hash(parameter),
    }
}

/// Recorders of XM write `channel=1&stream=0.sdp`.
fn is_short(value: &str) -> bool {
    let value = value.strip_suffix(".sdp").unwrap_or(value);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    value.len() <= LONGEST_VALUE && value.bytes().all(is_plain)
}

/// True if a list of words has the name.
pub(super) fn is_in(names: &str, name: &str) -> bool {
    let mut names = names.split_ascii_whitespace();
    names.any(|known| known.eq_ignore_ascii_case(name))
}

/// Also with a prefix: `ch_user=admin_password=x` is common on XM recorders.
fn is_secret_name(name: &str) -> bool {
    let name = decoded(name);
    let last = name.rsplit(['_', '-', '.']).next().unwrap_or_default();
    is_in(SECRET_NAMES, &name) || is_in(SECRET_NAMES, last)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// How a text is searched for secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    /// A text for people, which quotes a URL or a parameter at most: redacted like a URL.
    Prose,
    /// A text in a standard format, whose parameters are useful: URLs are redacted, and values are
    /// hidden if their name says that they are secret.
    Protocol,
}

/// Any text, with its secrets hidden.
pub(crate) fn redacted_text(text: &str, kind: TextKind) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut is_value = false;
    for (word, end) in pieces(text, " \t\"'<>()|") {
        match is_value && !word.is_empty() {
            true => shown.push_str(&hash(word)),
            false => shown.push_str(&redacted_word(word, kind)),
        }
        shown.push_str(end);
        // `password: x` and `password="x"` are treated like `password=x`.
        is_value = match word.strip_suffix([':', '=']) {
            Some(name) => is_secret_name(last_part(name)),
            None => is_value && word.is_empty(),
        };
    }
    shown
}

fn last_part(name: &str) -> &str {
    let mut parts = name.rsplit([',', ';', '&', '?', '/']);
    parts.next().unwrap_or(name)
}

fn redacted_word(word: &str, kind: TextKind) -> String {
    let Some(at) = word.find("://") else {
        return redacted_local(word, kind);
    };
    // `url=rtsp://nvr/1`, `a=control:rtsp://nvr/1`
    let is_of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let before = word.get(..at).unwrap_or_default();
    let (before, url) = word.split_at(before.trim_end_matches(is_of_scheme).len());
    redacted_local(before, kind) + &redacted_reference(url)
}

/// Redacts a word without a whole URL in it.
fn redacted_local(word: &str, kind: TextKind) -> String {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
    if let Some(name) = word.strip_suffix([':', '='])
        && name.bytes().all(is_of_name)
    {
        // The word introduces the next one.
        return word.to_owned();
    }
    let is_suspect = word.contains(['=', '?', '&', ';', '@', '#', '/']) || decoded(word) != word;
    match kind {
        TextKind::Prose if is_suspect => redacted_reference(word),
        TextKind::Prose => word.to_owned(),
        TextKind::Protocol => {
            let query = word.find('?').unwrap_or(word.len());
            let (before, query) = word.split_at(query);
            without_secret_parameters(before) + &redacted_resource(query)
        }
    }
}

/// Hides the value after a name that says that it is secret.
fn without_secret_parameters(word: &str) -> String {
    let shown = pieces(word, "&;?/,").map(|(body, end)| {
        let mut read = 0;
        for (name, sign) in pieces(body, "=:") {
            read += name.len() + sign.len();
            if read < body.len() && is_secret_name(name) {
                let kept = body.get(..read).unwrap_or_default();
                return format!("{kept}{}{end}", hash(body));
            }
        }
        format!("{body}{end}")
    });
    shown.collect()
}

type Redaction = fn(&str) -> String;

/// How the lines of a session description that begin so are shown: those with media keys (RFC 4566, 5.12;
/// RFC 4568; RFC 4567), with URLs and with words.
const LINES: [(&str, Redaction); 10] = [
    ("k=", |_| "***".to_owned()),
    ("a=crypto:", |_| "***".to_owned()),
    ("a=key-mgmt:", |_| "***".to_owned()),
    ("a=control:", redacted_reference),
    ("u=", redacted_reference),
    ("s=", redacted_prose),
    ("i=", redacted_prose),
    ("e=", redacted_prose),
    ("p=", redacted_prose),
    ("a=tool:", redacted_prose),
];

fn redacted_prose(text: &str) -> String {
    redacted_text(text, TextKind::Prose)
}

/// A line of a session description.
pub(crate) fn redacted_sdp_line(line: &str) -> String {
    for (begin, shown) in LINES {
        if let Some((beginning, rest)) = line.split_at_checked(begin.len())
            && beginning.eq_ignore_ascii_case(begin)
        {
            return format!("{beginning}{}", shown(rest));
        }
    }
    redacted_text(line, TextKind::Protocol)
}

/// `RTP-Info`: its URLs are not quoted, and may contain commas and semicolons.
pub(crate) fn redacted_rtp_info(value: &str) -> String {
    const FIELDS: [&str; 3] = [";seq=", ";rtptime=", ";ssrc="];
    let mut entries = value.split("url=");
    let mut shown = redacted_text(entries.next().unwrap_or_default(), TextKind::Protocol);
    for entry in entries {
        let ends = FIELDS.iter().filter_map(|field| entry.find(field));
        let url = entry.get(..ends.min().unwrap_or(entry.len()));
        let url = url.unwrap_or(entry).trim_end_matches([',', ' ']);
        let rest = entry.strip_prefix(url).unwrap_or_default();
        shown.push_str("url=");
        shown.push_str(&redacted_reference(url.trim_matches('"')));
        shown.push_str(&redacted_text(rest, TextKind::Protocol));
    }
    shown
}

/// At most 200 characters; the last one is `…` if the text was longer.
pub(super) fn cut(text: &str) -> String {
    if text.chars().nth(LONGEST).is_none() {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(LONGEST - 1).collect();
    kept.push('…');
    kept
}

/// A word of so many mixed letters and digits is taken for a token.
const STORED_TOKEN: usize = 12;
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
    word.len() >= if is_mixed { STORED_TOKEN } else { LONG_TOKEN }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod secrets_tests {
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
