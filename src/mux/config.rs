//! The options of a session, each default with its reason.

use std::{fmt, time::Duration};

use url::Url;

use super::{
    error::Error,
    proto::{
        auth::credentials::Credentials,
        limits::with_defaults,
        wire::{
            redacted,
            uri::{self, request_uri, take_userinfo},
        },
    },
    server_key::{ConnectionKey, ServerId, is_secure},
    tls::TlsOptions,
};
pub use super::{
    proto::{Limits, Timeouts},
    server_key::{BeforeSend, OnRequest},
};
use crate::mux::ids::PresentationUri;

/// The options of a session: what to play, with which credentials, and on what kind of connection.
#[derive(Clone)]
pub struct SessionOptions {
    /// The presentation, without user and password.
    pub url: Url,
    /// User and password for the server.
    pub credentials: Option<Credentials>,
    /// The `User-Agent` header; `None` for name and version of this crate.
    pub user_agent: Option<String>,
    /// Whether to keep the session alive. True: a server ends it after its timeout otherwise.
    pub keep_alive: bool,
    /// How long a connection attempt may take, all addresses of the host together. 5 s: a camera
    /// answers in milliseconds, a lost SYN is repeated after 1 s and 3 s. Also the longest wait
    /// for a free place at the server, and the longest TLS handshake, counted from when there is a
    /// connection.
    pub connect_timeout: Duration,
    /// Silence after which a connection with playing sessions is considered dead; `None` for that
    /// of [`Timeouts`]. The session for which the connection is dialled decides.
    pub silence_timeout: Option<Duration>,
    /// The longest wait for an answer of the server, counted from when all requests before it are
    /// answered or given up; `None` for that of [`Timeouts`]: 25 s for DESCRIBE and 10 s for the
    /// others. It applies to this session only: the connection and its other sessions go on
    /// waiting.
    pub answer_timeout: Option<Duration>,
    /// What TLS connections trust, and the client certificate. Without effect unless the URL is
    /// `rtsps`.
    pub tls: TlsOptions,
    /// Sessions share connections only within one group.
    pub group: Option<String>,
    /// Set up the streams on which the client sends (ONVIF Streaming 5.3), and name that feature in the
    /// requests.
    pub backchannel: bool,
    /// How connections are shared.
    pub pooling: Pooling,
    /// What happens to packets that are not taken in time.
    pub overflow: OverflowPolicy,
    /// The size of packets that SETUP asks for, in bytes (`Blocksize`, RFC 2326 12.7). Servers may
    /// pass it over. `None`: SETUP asks for none.
    pub block_size: Option<u32>,
    /// Sees and changes each request of the session's connection before it is sent. Only for a session with
    /// a connection of its own: [`Pooling::enable_connection_pooling`] false, or
    /// [`multiplex`](Pooling::multiplex) [`Never`](Multiplex::Never).
    /// [`Opening::describe`](super::Opening::describe) is refused otherwise.
    pub before_send: Option<BeforeSend>,
    /// Answers the server's requests. Only for a session with a connection of its own, as
    /// [`before_send`](Self::before_send).
    pub on_request: Option<OnRequest>,
}

impl SessionOptions {
    /// The defaults for a URL `rtsp[s]://[user:password@]host[:port]/path`; user and password are
    /// taken out of it. `rtspt` and `rtspst` are other names for `rtsp` and `rtsps`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidUrl`](super::ErrorKind::InvalidUrl) for everything that is no such URL.
    pub fn new(url: &str) -> Result<Self, Error> {
        let mut url =
            uri::parse(url).map_err(|error| Error::invalid_url(format!("not a URL: {error}")))?;
        let credentials = take_userinfo(&mut url)
            .map_err(|error| Error::invalid_url(error.to_string()).of_camera(&redacted(&url)))?;
        let options = Self {
            url: request_uri(&url),
            credentials,
            user_agent: None,
            keep_alive: true,
            connect_timeout: Duration::from_secs(5),
            silence_timeout: None,
            answer_timeout: None,
            tls: TlsOptions::default(),
            group: None,
            backchannel: false,
            pooling: Pooling::default(),
            overflow: OverflowPolicy::default(),
            block_size: None,
            before_send: None,
            on_request: None,
        };
        match options.connection_key() {
            Ok(_) => Ok(options),
            Err(error) if options.url.has_host() => Err(error.of_camera(&options.camera())),
            Err(error) => Err(error),
        }
    }

    /// The key that decides which sessions may share a connection with this one.
    ///
    /// The options are destructured without `..`, so that a new option does not compile until its
    /// author decides here whether it is part of the key. An option left out by mistake means that
    /// a connection is reused for a session that must not use it; curl has had over 30 CVEs of that
    /// form.
    pub(crate) fn connection_key(&self) -> Result<ConnectionKey, Error> {
        let Self {
            url,
            credentials,
            user_agent,
            tls,
            group,
            backchannel,
            keep_alive: _,
            connect_timeout: _,
            silence_timeout: _,
            answer_timeout: _,
            pooling: _,
            overflow: _,
            block_size: _,
            before_send,
            on_request,
        } = self;
        let agent = user_agent.as_deref().unwrap_or_default();
        if agent.contains(char::is_control) {
            // It could add headers.
            let explanation = "the user agent contains a control character";
            return Err(Error::invalid_url(explanation));
        }
        Ok(ConnectionKey {
            server: ServerId::from_url(url)
                .map_err(|error| Error::invalid_url(error.to_string()))?,
            tls: is_secure(url).then(|| tls.clone()),
            credentials: credentials.clone(),
            user_agent: user_agent.clone(),
            group: group.clone(),
            backchannel: *backchannel,
            before_send: before_send.clone(),
            on_request: on_request.clone(),
        })
    }

    /// Host and port of the server, as in [`SharingChange::server`](super::SharingChange::server).
    ///
    /// # Errors
    ///
    /// The URL cannot be opened.
    pub fn server(&self) -> Result<String, Error> {
        Ok(self.connection_key()?.server().to_string())
    }

    /// True if the session would block others on its connection; such a session is refused.
    pub(crate) fn blocks_others(&self) -> bool {
        self.overflow == OverflowPolicy::Block && !self.pooling.is_dedicated()
    }

    /// The URI of its presentation, with the query: a camera is often named only there.
    pub(crate) fn presentation(&self) -> PresentationUri {
        PresentationUri(self.url.to_string())
    }

    /// The camera's name in logs and errors.
    pub(crate) fn camera(&self) -> String {
        redacted(&self.url)
    }
}

impl fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionOptions")
            .field("url", &self.camera())
            .field("credentials", &self.credentials.is_some())
            .field("user_agent", &self.user_agent)
            .field("keep_alive", &self.keep_alive)
            .field("connect_timeout", &self.connect_timeout)
            .field("silence_timeout", &self.silence_timeout)
            .field("answer_timeout", &self.answer_timeout)
            .field("tls", &self.tls)
            .field("group", &self.group)
            .field("backchannel", &self.backchannel)
            .field("pooling", &self.pooling)
            .field("overflow", &self.overflow)
            .field("block_size", &self.block_size)
            .field("before_send", &self.before_send)
            .field("on_request", &self.on_request)
            .finish()
    }
}

with_defaults! {
    /// How a session shares connections with others. The limits are those of the session that asks for
    /// a connection.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Pooling {
        /// False for a connection of its own, which does not count against the limit and closes after
        /// its TEARDOWN.
        pub enable_connection_pooling: bool = true,
        /// Whether to share.
        pub multiplex: Multiplex = Multiplex::Auto,
        /// Pooled connections the server may have, those connecting and closing included; 0: no
        /// limit. 4: enough for 64 cameras with the default below, far below what recorders accept.
        pub max_connections_per_server: u32 = 4,
        /// How long a connection without references is kept; 0: closed once its TEARDOWNs are
        /// answered. 60 s: as long as servers keep theirs.
        pub idle_connection_timeout: Duration = Duration::from_secs(60),
        /// Sessions beyond which another connection is preferred while the server's limit allows one;
        /// 1 to 128. 16: what one lost connection may take down with it.
        pub max_sessions_per_connection: u32 = 16,
    }
}

impl Pooling {
    /// True if the session gets a connection of its own whatever the server supports.
    pub(crate) fn is_dedicated(&self) -> bool {
        !self.enable_connection_pooling || self.multiplex == Multiplex::Never
    }
}

/// Whether to share connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Multiplex {
    /// Share connections; if the server turns out not to support that, its sessions get connections
    /// of their own.
    #[default]
    Auto,
    /// Share connections, and fail if that does not work.
    Always,
    /// Give each session a connection of its own.
    Never,
}

/// What is dropped when a session's packets are not taken in time: when 4 MiB or 8192 packets of
/// RTP wait; also when all sessions of a connection have 64 MiB waiting, or all of the process
/// 512 MiB. RTCP has a queue of its own, 256 packets or
/// 64 KiB, which drops the oldest. Streams that are [parked](super::Session::set_parked) have the
/// same limits each, beside the others.
///
/// Dropped packets are counted, and the next packet of their stream says so
/// ([`Packet::discontinuity`](super::Packet::discontinuity)). Access units (packets of one RTP
/// timestamp) are dropped as a whole, as far as their beginning has not been taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OverflowPolicy {
    /// Packets in the queue stay, new ones are dropped. H.264 and H.265 go on with a key picture,
    /// or one that is announced as a recovery point, together with the parameter sets right before
    /// it, so a decoder sees no picture that refers to a missing one. If none comes within 20 s
    /// after there is room again, they go on with any picture. Other media, and video in which no
    /// key picture was ever recognised (it is encrypted, or uses an unknown packetisation), go on
    /// with the next access unit.
    #[default]
    DropToKeyframe,
    /// The oldest packets are dropped, so the queue holds the newest. Pictures are broken from the
    /// loss to the next key picture.
    DropOldest,
    /// The session's own limits drop nothing. While a limit is
    /// reached, the driver does not read from the connection, which slows the server down. Some
    /// servers drop packets then, some close the connection. Meanwhile nothing is received from the
    /// server at all: no deadline of a request runs, the connection is not taken for dead,
    /// keep-alives are sent, and their answers wait.
    ///
    /// Only for a session with a connection of its own: `enable_connection_pooling` false or
    /// `multiplex` [`Never`](Multiplex::Never). [`Opening::describe`](super::Opening::describe) is
    /// refused otherwise.
    Block,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::tls::CertificateChecks;

    #[test]
    fn user_and_password_leave_the_url_and_show_nowhere() {
        let options =
            SessionOptions::new("rtsp://admin:hunter2@nvr/ch/1?password=hunter2").unwrap();
        assert_eq!(options.credentials.as_ref().unwrap().user(), "admin");
        assert_eq!(options.url.username(), "");
        let shown = format!("{options:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("admin"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_no_rtsp_url_is_refused() {
        let no_urls = ["", "nvr/1", "admin:hunter2@nvr/1", "hunter2:nvr/1"];
        let others = ["http://nvr/1", "rtsp:///1", "rtsps:///1"];
        for url in no_urls.into_iter().chain(others) {
            let error = SessionOptions::new(url).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_eq!(error.kind(), super::super::ErrorKind::InvalidUrl, "{url}");
        }
    }

    #[test]
    fn tls_options_separate_connections_where_there_is_tls() {
        let key = |url: &str, checks| {
            let mut options = SessionOptions::new(url).unwrap();
            options.tls.checks = checks;
            options.connection_key().unwrap()
        };
        let (all, none) = (CertificateChecks::default(), CertificateChecks::NONE);
        assert_ne!(key("rtsps://nvr/1", all), key("rtsps://nvr/1", none));
        assert_eq!(key("rtsps://nvr/1", all), key("rtspst://nvr:322/2", all));
        assert_eq!(key("rtsp://nvr/1", all), key("rtsp://nvr/2", none));
        assert_ne!(key("rtsps://nvr:554/1", all), key("rtsp://nvr/1", all));
    }

    #[test]
    fn credentials_and_group_separate_connections() {
        let base = SessionOptions::new("rtsp://nvr/1").unwrap();
        let same = SessionOptions::new("rtsp://NVR:554/2").unwrap();
        assert_eq!(
            base.connection_key().unwrap(),
            same.connection_key().unwrap()
        );
        let user = SessionOptions::new("rtsp://a:b@nvr/1").unwrap();
        assert_ne!(
            base.connection_key().unwrap(),
            user.connection_key().unwrap()
        );
        let group = SessionOptions {
            group: Some("east".into()),
            ..base.clone()
        };
        assert_ne!(
            base.connection_key().unwrap(),
            group.connection_key().unwrap()
        );
    }
}
