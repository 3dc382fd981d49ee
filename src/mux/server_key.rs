//! Which sessions may share a connection: the security boundary of the pool.
//!
//! [`ServerId`] names the server, which owns limits, the sharing verdict and the backoff.
//! [`ConnectionKey`] says more: two sessions may use one connection only if their keys are equal.

mod hooks;

use std::fmt;

use url::Url;

use super::{
    proto::{ServerText, auth::credentials::Credentials, wire::uri},
    tls::TlsOptions,
};

pub use self::hooks::{BeforeSend, OnRequest};

/// RFC 2326, 3.2.
const DEFAULT_PORT: u16 = 554;
/// RFC 7826, 4.2; RFC 2326 has no TLS.
const DEFAULT_TLS_PORT: u16 = 322;

/// True if the URL is played over TLS.
pub(crate) fn is_secure(url: &Url) -> bool {
    matches!(url.scheme(), "rtsps" | "rtspst")
}

/// A server: host and port, as the user wrote them.
///
/// The host is compared without case and never resolved: two names of one machine are two servers,
/// since they may point to different machines later.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId {
    host: String,
    port: u16,
}

impl ServerId {
    /// A server by host name or address; an IPv6 address with or without brackets, its zone kept
    /// (`fe80::1%eth0`, which a [`Url`] cannot hold).
    ///
    /// # Errors
    ///
    /// An empty host, port 0, and characters that no host contains are refused.
    pub fn new(host: &str, port: u16) -> Result<Self, InvalidUrl> {
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        if bare.is_empty() {
            return Err(InvalidUrl::NoHost);
        }
        let is_forbidden =
            |c: char| c.is_control() || c.is_whitespace() || "/\\?#@[]\"<>".contains(c);
        if bare.contains(is_forbidden) {
            return Err(InvalidUrl::InvalidHost);
        }
        if port == 0 {
            return Err(InvalidUrl::PortZero);
        }
        Ok(Self {
            host: lower_case(bare),
            port,
        })
    }

    /// The server of an `rtsp`, `rtspt`, `rtsps` or `rtspst` URL; path, query and user do not
    /// matter. Without a port it is 554, and with TLS (`rtsps`, `rtspst`) 322.
    ///
    /// # Errors
    ///
    /// Other schemes are refused, and URLs without a host.
    pub fn from_url(url: &Url) -> Result<Self, InvalidUrl> {
        let default_port = match url.scheme() {
            "rtsp" | "rtspt" => DEFAULT_PORT,
            _ if is_secure(url) => DEFAULT_TLS_PORT,
            other => return Err(InvalidUrl::UnsupportedScheme(other.to_owned())),
        };
        let host = uri::host(url);
        Self::new(&host, url.port().unwrap_or(default_port))
    }

    /// The host in lower case, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The name of a network interface (`fe80::1%ETH0`) has case.
fn lower_case(host: &str) -> String {
    match host.split_once('%') {
        Some((address, zone)) if address.contains(':') => {
            format!("{}%{zone}", address.to_ascii_lowercase())
        }
        _ => host.to_ascii_lowercase(),
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Two sessions may share a connection only if their keys are equal.
///
/// Everything is compared as written and an unset option equals only an unset one. `Debug` shows
/// no secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    pub(crate) server: ServerId,
    /// `None` for plain TCP.
    pub(crate) tls: Option<TlsOptions>,
    /// `None` sends no authorisation, and does not match any others.
    pub(crate) credentials: Option<Credentials>,
    /// The `User-Agent` header; `None` is the default one.
    pub(crate) user_agent: Option<String>,
    /// Sessions of different groups never share a connection; for users who want that.
    pub(crate) group: Option<String>,
    /// Its requests name the feature, which a server without it refuses.
    pub(crate) backchannel: bool,
    /// Sees its requests.
    pub(crate) before_send: Option<BeforeSend>,
    /// Answers the server's.
    pub(crate) on_request: Option<OnRequest>,
}

impl ConnectionKey {
    pub(crate) fn server(&self) -> &ServerId {
        &self.server
    }
}

/// Why a URL names no server that we can connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidUrl {
    /// None of `rtsp`, `rtspt`, `rtsps` and `rtspst`.
    #[error("the scheme of the URL is \"{}\", not rtsp or rtsps", ServerText::of_identifier(.0))]
    UnsupportedScheme(String),
    /// There is no host.
    #[error("the URL names no host")]
    NoHost,
    /// The host contains characters that no host has.
    #[error("the host contains a character that no host has")]
    InvalidHost,
    /// Port 0.
    #[error("the port of the URL is 0")]
    PortZero,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::mux::{CertificateChecks, ErrorKind, SessionOptions};

    fn server(url: &str) -> Result<ServerId, InvalidUrl> {
        ServerId::from_url(&Url::parse(url).unwrap())
    }

    fn options(url: &str) -> SessionOptions {
        SessionOptions::new(url).unwrap()
    }

    fn key(options: &SessionOptions) -> ConnectionKey {
        options.connection_key().unwrap()
    }

    fn user(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::new(user, password).unwrap())
    }

    #[test]
    fn everything_that_must_separate_two_keys_does() {
        let base = options("rtsps://nvr/1");
        let change = |change: fn(&mut SessionOptions)| {
            let mut changed = base.clone();
            change(&mut changed);
            key(&changed)
        };
        let keys = [
            key(&base),
            change(|o| o.url.set_host(Some("nvr2")).unwrap()),
            change(|o| o.url.set_port(Some(8554)).unwrap()),
            change(|o| o.url = Url::parse("rtsp://nvr:322/1").unwrap()),
            change(|o| o.tls.checks = CertificateChecks::NONE),
            change(|o| o.credentials = user("admin", "")),
            change(|o| o.credentials = user("admin", "a")),
            change(|o| o.credentials = user("admin", "b")),
            change(|o| o.credentials = user("operator", "a")),
            change(|o| o.user_agent = Some(String::new())),
            change(|o| o.user_agent = Some("agent".into())),
            change(|o| o.user_agent = Some("Agent".into())),
            change(|o| o.group = Some(String::new())),
            change(|o| o.group = Some("east".into())),
            change(|o| o.backchannel = true),
            change(|o| o.before_send = Some(BeforeSend::new(|_| true))),
            change(|o| o.on_request = Some(OnRequest::new(|_, _| {}))),
        ];
        let count = keys.len();
        assert_eq!(keys.into_iter().collect::<HashSet<_>>().len(), count);
    }

    #[test]
    fn what_must_not_separate_two_keys_does_not() {
        let first = key(&options("rtsp://nvr/cam?channel=1"));
        for same in [
            "rtsp://NVR:554/cam?channel=2",
            "rtspt://nvr",
            "rtsp://u:p@nvr/#x",
        ] {
            let mut same = options(same);
            same.credentials = None;
            assert_eq!(first, key(&same), "{same:?}");
        }
    }

    #[test]
    fn hosts_are_kept_as_written_in_lower_case() {
        for (url, shown) in [
            ("rtsp://NVR.Local./a", "nvr.local.:554"),
            ("rtsp://10.0.0.1:8554", "10.0.0.1:8554"),
            ("rtsp://[FE80::1]/a", "[fe80::1]:554"),
            ("rtsps://nvr", "nvr:322"),
            ("rtspst://nvr:8322", "nvr:8322"),
        ] {
            assert_eq!(server(url).unwrap().to_string(), shown);
        }
        let zoned = ServerId::new("[FE80::1%eTh0]", 554).unwrap();
        assert_eq!(zoned.host(), "fe80::1%eTh0");
        assert_ne!(zoned, ServerId::new("fe80::1%eth1", 554).unwrap());
    }

    #[test]
    fn urls_without_a_reachable_server_are_refused() {
        assert_eq!(
            server("http://nvr/"),
            Err(InvalidUrl::UnsupportedScheme("http".into()))
        );
        assert_eq!(server("rtsp:///a"), Err(InvalidUrl::NoHost));
        assert_eq!(server("rtsp:a"), Err(InvalidUrl::NoHost));
        assert_eq!(server("rtsp://nvr:0/"), Err(InvalidUrl::PortZero));
        for host in ["a\r\nb", "a b", "a/b", "u@h", "[::1"] {
            assert_eq!(
                ServerId::new(host, 554),
                Err(InvalidUrl::InvalidHost),
                "{host}"
            );
        }
    }

    #[test]
    fn a_user_agent_with_control_characters_is_refused() {
        let mut options = options("rtsp://nvr");
        options.user_agent = Some("a\r\nX: y".into());
        let error = options.connection_key().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUrl);
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut options = options("rtsp://nvr");
        options.credentials = user("admin", "hunter2");
        let text = format!("{options:?} {:?}", key(&options));
        assert!(
            !text.contains("hunter2") && !text.contains("admin"),
            "{text}"
        );
    }
}
