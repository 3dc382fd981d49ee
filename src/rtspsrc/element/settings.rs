//! The properties: their specifications, their values, and the options of a session that follow from them.

use std::{fmt, fs, sync::LazyLock, time::Duration};

use gio::TlsCertificateFlags;
use gst::{glib, prelude::*};
use gst_rtsp::RTSPLowerTrans;
use gstreamer as gst;
use gstreamer_rtsp as gst_rtsp;

use crate::{
    mux::{
        self, CertificateChecks, Credentials, InvalidTls, SessionOptions, TlsOptions,
        proto::wire::{
            redaction::{redacted_reference, redacted_whole},
            server_text::harmless,
            uri,
        },
        recovery::RecoveryPolicy,
    },
    rtspsrc::{manager::ManagerChoice, nanoseconds},
};

/// The value for a timeout of 0: long enough to be never, short enough to be added to any time.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long connecting may take if `tcp-timeout` is not set: the element reports an unreachable camera
/// after 5 s, while a stalled one gets the 20 s that `rtspsrc` gives it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// GObject's enumeration has the values of the multiplexer's.
macro_rules! mirrored {
    ($name:ident: $($value:ident),*) => {
        impl From<$name> for mux::$name {
            fn from(value: $name) -> Self {
                match value { $($name::$value => Self::$value,)* }
            }
        }
    };
}

/// `multiplex`: whether sessions share a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxMultiplex")]
pub enum Multiplex {
    /// Learn whether the server can share; if it cannot, give each session its own connection.
    #[default]
    #[enum_value(name = "Share where the server can", nick = "auto")]
    Auto,
    /// Share without a trial, and never fall back.
    #[enum_value(name = "Always share", nick = "always")]
    Always,
    /// A connection each.
    #[enum_value(name = "Never share", nick = "never")]
    Never,
}

mirrored!(Multiplex: Auto, Always, Never);

/// `overflow-policy`: which packets are dropped when downstream does not take them in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxOverflowPolicy")]
pub enum OverflowPolicy {
    /// New packets are dropped; video goes on with a keyframe, other media with the next access unit.
    #[default]
    #[enum_value(name = "Drop up to the next keyframe", nick = "drop-to-keyframe")]
    DropToKeyframe,
    /// The packets that have waited longest are dropped.
    #[enum_value(name = "Drop what is oldest", nick = "drop-oldest")]
    DropOldest,
    /// No packet is dropped: the server has to wait.
    #[enum_value(
        name = "Do not read from the connection, which must be unshared",
        nick = "block"
    )]
    Block,
}

mirrored!(OverflowPolicy: DropToKeyframe, DropOldest, Block);

/// `on-stream-change`: what happens when a camera comes back with other streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxOnStreamChange")]
pub enum OnStreamChange {
    /// Streams that are still there go on.
    #[default]
    #[enum_value(name = "Go on with the streams that are still there", nick = "follow")]
    Follow,
    /// An ERROR.
    #[enum_value(name = "Post an error", nick = "error")]
    Error,
}

/// `tcp-timeout` of `rtspsrc`, in microseconds.
const DEFAULT_TCP_TIMEOUT_US: u64 = 20_000_000;

/// Shown instead of a password that is set.
const HIDDEN: &str = "***";

/// The specification of a property without nick and blurb, from its name and default; and when it may be
/// changed.
macro_rules! spec {
    (mutable $spec:expr) => {
        $spec.mutable_ready()
    };
    (mutable $spec:expr, playing) => {
        $spec.mutable_playing()
    };
    (text $name:literal, $default:expr) => {
        glib::ParamSpecString::builder($name).default_value($default.as_deref())
    };
    (Flags $name:literal, $default:expr) => {
        glib::ParamSpecFlags::builder::<_>($name).default_value($default)
    };
    (Enum $name:literal, $default:expr) => {
        glib::ParamSpecEnum::builder_with_default($name, $default)
    };
    ($kind:ident $name:literal, $default:expr) => {
        glib::$kind::builder($name).default_value($default)
    };
}

/// The value that a property shows.
macro_rules! shown {
    ($settings:ident.$field:ident) => {
        $settings.$field.to_value()
    };
    ($settings:ident.$field:ident as $shown:expr) => {
        $shown($settings).to_value()
    };
}

/// Makes [`Settings`] of the table below, and what reads, writes and specifies the properties, of which only
/// `tcp-timeout` and `stats` are no rows of it.
macro_rules! settings {
    ($(
        $name:literal $kind:ident $field:ident: $type:ty = $default:expr,
        $nick:literal, $blurb:literal
        $(, [$($limit:tt)+])? $(, mutable while $mutable:ident)? $(, shown as $shown:expr)?;
    )*) => {
        /// The values of the properties. They are secret, and so have no `Debug`.
        #[derive(Clone)]
        pub(crate) struct Settings {
            /// `None`: not set. [`DEFAULT_TCP_TIMEOUT_US`] applies then, but neither to connecting nor to
            /// answers.
            tcp_timeout_us: Option<u64>,
            $(pub(crate) $field: $type,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { tcp_timeout_us: None, $($field: $default,)* }
            }
        }

        impl Settings {
            /// Sets the value of a property. False if it is not one of the settings.
            pub(crate) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
                match name {
                    "tcp-timeout" => self.tcp_timeout_us = Some(get(value)),
                    $($name => self.$field = get(value),)*
                    _ => return false,
                }
                true
            }

            /// The value of a property. `None` if it is not one of the settings.
            pub(crate) fn value(&self, name: &str) -> Option<glib::Value> {
                Some(match name {
                    "tcp-timeout" => self.tcp_timeout_us().to_value(),
                    $($name => shown!(self.$field $(as $shown)?),)*
                    _ => return None,
                })
            }
        }

        /// All properties. Their order does not matter, as `gst-inspect-1.0` sorts them.
        pub(crate) static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let defaults = Settings::default();
            vec![
                $(spec!(
                    mutable
                    spec!($kind $name, defaults.$field)$($($limit)+)?.nick($nick).blurb($blurb)
                    $(, $mutable)?
                ).build(),)*
                glib::ParamSpecUInt64::builder("tcp-timeout")
                    .nick("TCP Timeout")
                    .blurb("Fail after timeout microseconds without data on a TCP connection (0 = disabled). Connecting may take 5 s, an answer 10 s (DESCRIBE 25 s), or each of them this long at most once it is set")
                    .default_value(DEFAULT_TCP_TIMEOUT_US)
                    .mutable_ready()
                    .build(),
                glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                    .nick("Statistics")
                    .blurb("Connection, session and streams of this element, while it has a session")
                    .read_only()
                    .build(),
            ]
        });
    };
}

settings! {
    // Name, kind, field, type and default; nick; blurb; limits; while it may be changed, unless that is up to
    // READY; what it shows in place of its value. The first ones have the names, types, units and defaults of
    // `rtspsrc` 1.22, except the default of `protocols`, as the element plays only TCP.
    // As set; may hold a password and may be anything but a URL.
    "location" text location: Option<String> = None,
        "RTSP location",
        "Location of the RTSP url to read; reads back without user and password, and with hashes in place of other parts that may be secret",
        shown as Settings::shown_location;
    "user-id" text user_id: Option<String> = None,
        "User id", "RTSP location URI user id for authentication", mutable while playing;
    "user-pw" text user_pw: Option<String> = None,
        "User password", "RTSP location URI user password for authentication; reads back as ***",
        mutable while playing, shown as |settings: &Settings| settings.user_pw.as_ref().map(|_| HIDDEN);
    "user-agent" text user_agent: Option<String> = Some(default_user_agent()),
        "User Agent", "The User-Agent string to send to the server", shown as Settings::user_agent;
    "protocols" Flags protocols: RTSPLowerTrans = RTSPLowerTrans::TCP,
        "Protocols",
        "Allowed lower transport protocols; tcp must be among them, as only it is used";
    "latency" ParamSpecUInt latency_ms: u32 = 2_000,
        "Buffer latency in ms", "Amount of ms to buffer";
    "timeout" ParamSpecUInt64 udp_timeout_us: u64 = 5_000_000,
        "Timeout",
        "Without effect, for compatibility: in rtspsrc, microseconds until UDP is given up for TCP";
    "teardown-timeout" ParamSpecUInt64 teardown_timeout_ns: u64 = 100_000_000,
        "Teardown Timeout",
        "When transitioning READY-NULL, allow up to timeout (in nanoseconds) delay for the answer to teardown (0 = disabled)";
    "do-rtsp-keep-alive" ParamSpecBoolean keep_alive: bool = true,
        "Do RTSP Keep Alive", "Send RTSP keep alive packets, disable for old incompatible server";
    "tls-validation-flags" Flags tls_validation_flags: TlsCertificateFlags = TlsCertificateFlags::VALIDATE_ALL,
        "TLS validation flags",
        "TLS certificate validation flags used to validate the server certificate; without any, every certificate is accepted";
    "tls-ca-file" text tls_ca_file: Option<String> = None,
        "TLS CA file",
        "PEM file with certificates that are trusted besides those of the system: of authorities, or of the server itself";
    "tls-client-certificate" text tls_client_certificate: Option<String> = None,
        "TLS client certificate",
        "PEM file with certificate and private key, for servers that ask for a certificate";
    "enable-connection-pooling" ParamSpecBoolean pooling: bool = mux::Pooling::default().enable_connection_pooling,
        "Enable connection pooling",
        "Share connections to the server with other elements; false: a connection of its own";
    "max-connections-per-server" ParamSpecUInt max_connections_per_server: u32 = mux::Pooling::default().max_connections_per_server,
        "Max connections per server",
        "Shared connections to one server, including those that are connecting or closing (0 = no limit)";
    "idle-connection-timeout" ParamSpecUInt64 idle_connection_timeout_ns: u64 = nanoseconds(mux::Pooling::default().idle_connection_timeout),
        "Idle connection timeout",
        "Nanoseconds for which a connection without sessions is kept (0 = close at once)";
    "multiplex" Enum multiplex: Multiplex = Multiplex::default(),
        "Multiplex", "Whether sessions share a connection to the server";
    "max-sessions-per-connection" ParamSpecUInt max_sessions_per_connection: u32 = mux::Pooling::default().max_sessions_per_connection,
        "Max sessions per connection",
        "Sessions on one connection; further sessions use another connection, if max-connections-per-server allows it",
        [.minimum(1).maximum(128)];
    "overflow-policy" Enum overflow_policy: OverflowPolicy = OverflowPolicy::default(),
        "Overflow policy",
        "Which packets are dropped when downstream does not take them in time; block needs enable-connection-pooling=false or multiplex=never";
    "reconnect" ParamSpecBoolean reconnect: bool = true,
        "Reconnect",
        "Set up a lost session again, on the same pads, and wait for a camera that is not there at the start; false: post an error";
    "reconnect-attempts" ParamSpecInt reconnect_attempts: i32 = -1,
        "Reconnect attempts",
        "Attempts in one outage before an error is posted (-1 = no limit)",
        [.minimum(-1)];
    "reconnect-min-delay" ParamSpecUInt64 reconnect_min_delay_ns: u64 = nanoseconds(mux::RetryBounds::default().min),
        "Reconnect minimum delay", "Shortest wait before another attempt, in nanoseconds";
    "reconnect-max-delay" ParamSpecUInt64 reconnect_max_delay_ns: u64 = nanoseconds(mux::RetryBounds::default().max),
        "Reconnect maximum delay",
        "Longest wait before another attempt, in nanoseconds; a server is still dialled 30 times a minute at most, and a Retry-After of the server is obeyed";
    "on-stream-change" Enum on_stream_change: OnStreamChange = OnStreamChange::default(),
        "On stream change",
        "What to do if the server describes other streams after a reconnect: go on with those that are still there and add pads for new ones, or post an error";
    // As long as a connection may be silent. Cameras that send less at night need more.
    "media-timeout" ParamSpecUInt64 media_timeout_ns: u64 = 20_000_000_000,
        "Media timeout",
        "Nanoseconds without deliverable RTP on any video or audio stream after which a session that plays counts as lost (0 = never)";
    "manager" Enum manager: ManagerChoice = ManagerChoice::default(),
        "Manager",
        "What turns RTP packets into timed buffers; used at the next READY to PAUSED";
}

/// `location` cannot be played. No text of it may show a secret.
fn bad_location(why: impl fmt::Display) -> glib::Error {
    glib::Error::new(gst::ResourceError::NotFound, &why.to_string())
}

/// Another setting cannot be used.
fn bad_setting(why: impl fmt::Display) -> glib::Error {
    glib::Error::new(gst::ResourceError::Settings, &why.to_string())
}

impl Settings {
    /// The location without user and password, for logs, messages and the property.
    pub(crate) fn shown_location(&self) -> Option<String> {
        self.location.as_deref().map(shown)
    }

    /// The default for NULL.
    fn user_agent(&self) -> String {
        self.user_agent.clone().unwrap_or_else(default_user_agent)
    }

    /// The value of the property `tcp-timeout`.
    fn tcp_timeout_us(&self) -> u64 {
        self.tcp_timeout_us.unwrap_or(DEFAULT_TCP_TIMEOUT_US)
    }

    /// Whether and when a session that ended is set up again.
    pub(crate) fn recovery_policy(&self) -> RecoveryPolicy {
        RecoveryPolicy {
            is_on: self.reconnect,
            follows_changes: self.on_stream_change == OnStreamChange::Follow,
            attempts: u32::try_from(self.reconnect_attempts).ok(),
            bounds: mux::RetryBounds {
                min: Duration::from_nanos(self.reconnect_min_delay_ns).min(NEVER),
                max: Duration::from_nanos(self.reconnect_max_delay_ns).min(NEVER),
            },
        }
    }

    /// How long a session that plays may be silent; 0: for ever.
    pub(crate) fn media_timeout(&self) -> Duration {
        Duration::from_nanos(self.media_timeout_ns).min(NEVER)
    }

    /// The options of the session; or why the settings cannot be used, as the ERROR says it.
    pub(crate) fn session_options(&self) -> Result<SessionOptions, glib::Error> {
        if !self.protocols.contains(RTSPLowerTrans::TCP) {
            let protocols = self.protocols.to_value().serialize().unwrap_or_default();
            return Err(bad_setting(format_args!(
                "protocols={protocols} lacks tcp: only RTP interleaved over TCP is played"
            )));
        }
        let location = self.location.as_deref();
        let location = location.ok_or_else(|| bad_location("no location is set"))?;
        let mut options = parse_location(location)?;
        if self.user_id.is_some() || self.user_pw.is_some() {
            options.credentials = Some(self.credentials(options.credentials.as_ref())?);
        }
        options.overflow = self.overflow_policy.into();
        options.pooling = mux::Pooling {
            enable_connection_pooling: self.pooling,
            multiplex: self.multiplex.into(),
            max_connections_per_server: self.max_connections_per_server,
            idle_connection_timeout: Duration::from_nanos(self.idle_connection_timeout_ns),
            max_sessions_per_connection: self.max_sessions_per_connection,
        };
        if options.blocks_others() {
            return Err(bad_setting(
                "overflow-policy=block holds up the whole connection: it needs enable-connection-pooling=false or multiplex=never",
            ));
        }
        options.tls = self.tls_options()?;
        options.user_agent = Some(self.user_agent());
        options.keep_alive = self.keep_alive;
        // 0 switches the timeout off, as in rtspsrc.
        options.silence_timeout = Some(timeout(self.tcp_timeout_us()));
        options.connect_timeout = self.tcp_timeout_us.map_or(CONNECT_TIMEOUT, timeout);
        options.answer_timeout = self.tcp_timeout_us.map(timeout);
        Ok(options)
    }

    /// Reads the files at each start, so that a certificate may be replaced meanwhile.
    fn tls_options(&self) -> Result<TlsOptions, glib::Error> {
        let mut options = TlsOptions::default();
        options.checks = checks(self.tls_validation_flags);
        if let Some(file) = &self.tls_ca_file {
            options = with_file("tls-ca-file", file, |pem| options.with_authorities(pem))?;
        }
        if let Some(file) = &self.tls_client_certificate {
            options = with_file("tls-client-certificate", file, |pem| {
                options.with_client_certificate(pem, pem)
            })?;
        }
        Ok(options)
    }

    /// `user-id` and `user-pw` take precedence over user and password in the URL, each by itself.
    fn credentials(&self, in_url: Option<&Credentials>) -> Result<Credentials, glib::Error> {
        let user = self.user_id.as_deref().or(in_url.map(Credentials::user));
        let password = self
            .user_pw
            .as_deref()
            .or(in_url.map(Credentials::password));
        Credentials::new(user.unwrap_or_default(), password.unwrap_or_default())
            .map_err(bad_setting)
    }
}

/// The checks that the flags stand for. Revocation is not checked here; the usual backends of GLib do not
/// check it either.
fn checks(flags: TlsCertificateFlags) -> CertificateChecks {
    CertificateChecks {
        authority: flags.contains(TlsCertificateFlags::UNKNOWN_CA),
        identity: flags.contains(TlsCertificateFlags::BAD_IDENTITY),
        not_yet_valid: flags.contains(TlsCertificateFlags::NOT_ACTIVATED),
        expired: flags.contains(TlsCertificateFlags::EXPIRED),
        form: flags.intersects(TlsCertificateFlags::INSECURE | TlsCertificateFlags::GENERIC_ERROR),
    }
}

/// Options with the contents of a file. An error says nothing of the contents.
fn with_file(
    property: &str,
    file: &str,
    options: impl FnOnce(&[u8]) -> Result<TlsOptions, InvalidTls>,
) -> Result<TlsOptions, glib::Error> {
    let invalid = |why: &dyn fmt::Display| bad_setting(format_args!("{property}={file}: {why}"));
    let pem = fs::read(file).map_err(|error| invalid(&error))?;
    options(&pem).map_err(|error| invalid(&error))
}

/// The options for a `location`.
pub(crate) fn parse_location(location: &str) -> Result<SessionOptions, glib::Error> {
    SessionOptions::new(location.trim()).map_err(|error| match error.camera() {
        Some(_) => bad_location(error),
        None => bad_location(format_args!("cannot play {:?}: {error}", shown(location))),
    })
}

/// `location` without secrets. A text that is no URL may hold secrets too: if it has an `@`, only the
/// scheme is shown.
fn shown(location: &str) -> String {
    match uri::parse(location.trim()) {
        Ok(url) if url.has_host() => redacted_whole(&url),
        _ if location.contains('@') => match location.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://..."),
            None => "...".to_owned(),
        },
        _ => harmless(&redacted_reference(location)).into_owned(),
    }
}

fn default_user_agent() -> String {
    let (major, minor, micro, _) = gst::version();
    format!("GStreamer/{major}.{minor}.{micro}")
}

fn timeout(microseconds: u64) -> Duration {
    match microseconds {
        0 => NEVER,
        set => Duration::from_micros(set).min(NEVER),
    }
}

/// GObject has checked the type against the specification.
fn get<'v, T: glib::value::FromValue<'v>>(value: &'v glib::Value) -> T {
    value.get().expect("a value of the property's type")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(location: &str) -> Settings {
        gst::init().unwrap();
        Settings {
            location: Some(location.to_owned()),
            ..Settings::default()
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_multiplexer_and_of_rtspsrc() {
        let options = settings("rtsp://nvr/1").session_options().unwrap();
        assert_eq!(options.pooling, mux::Pooling::default());
        assert_eq!(options.connect_timeout, Duration::from_secs(5));
        assert_eq!(options.silence_timeout, Some(Duration::from_secs(20)));
        assert!(options.keep_alive && options.credentials.is_none());
    }

    #[test]
    fn rtspt_is_rtsp_over_tcp() {
        let options = settings("rtspt://nvr:8554/cam?channel=3")
            .session_options()
            .unwrap();
        assert_eq!(options.url.as_str(), "rtsp://nvr:8554/cam?channel=3");
    }

    #[test]
    fn rtspst_is_rtsps_over_tcp() {
        for location in ["rtspst://nvr/cam", "RTSPS://nvr/cam"] {
            let options = settings(location).session_options().unwrap();
            assert_eq!(options.url.as_str(), "rtsps://nvr/cam");
            assert_eq!(options.server().unwrap(), "nvr:322");
        }
    }

    #[test]
    fn flags_choose_what_is_checked() {
        let mut settings = settings("rtsps://nvr/cam");
        let all = settings.session_options().unwrap().tls;
        assert_eq!(all, TlsOptions::default());
        settings.tls_validation_flags = TlsCertificateFlags::empty();
        let none = settings.session_options().unwrap().tls;
        assert_eq!(none.checks, CertificateChecks::NONE);
        settings.tls_validation_flags =
            TlsCertificateFlags::VALIDATE_ALL - TlsCertificateFlags::BAD_IDENTITY;
        let some = settings.session_options().unwrap().tls;
        let expected = CertificateChecks {
            identity: false,
            ..CertificateChecks::default()
        };
        assert_eq!(some.checks, expected);
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let mut settings = settings("rtsps://nvr/cam");
        settings.tls_ca_file = Some("/nonexistent.pem".into());
        let error = settings.session_options().unwrap_err();
        assert!(error.matches(gst::ResourceError::Settings), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("tls-ca-file=/nonexistent.pem: "), "{text}");
        settings.tls_ca_file = None;
        settings.tls_client_certificate = Some("/dev/null".into());
        let text = settings.session_options().unwrap_err().to_string();
        assert!(text.ends_with("there is no certificate in it"), "{text}");
    }

    #[test]
    fn a_bad_location_is_named_without_its_password() {
        for location in [
            "http://u:secret@nvr/",
            "rtspsu://u:secret@nvr/",
            "u:secret@nvr",
            "rtsp://u:secret@",
        ] {
            let error = settings(location)
                .session_options()
                .unwrap_err()
                .to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let error = settings("/dev/video0").session_options().unwrap_err();
        assert!(error.matches(gst::ResourceError::NotFound), "{error}");
        assert!(error.message().contains("/dev/video0"), "{error}");
        let error = Settings::default().session_options().unwrap_err();
        assert!(error.matches(gst::ResourceError::NotFound), "{error}");
    }

    #[test]
    fn the_location_reads_back_without_its_password() {
        let settings = settings("rtsp://u:secret@nvr/1?password=secret");
        assert!(!settings.shown_location().unwrap().contains("secret"));
    }

    #[test]
    fn user_and_password_come_before_those_of_the_url() {
        let mut settings = settings("rtsp://u:p%40@nvr/1");
        let credentials = settings.session_options().unwrap().credentials.unwrap();
        assert_eq!((credentials.user(), credentials.password()), ("u", "p@"));
        settings.user_pw = Some("other".into());
        let credentials = settings.session_options().unwrap().credentials.unwrap();
        assert_eq!((credentials.user(), credentials.password()), ("u", "other"));
        settings.user_id = Some("a\r\nb".into());
        let error = settings.session_options().unwrap_err();
        assert!(error.matches(gst::ResourceError::Settings), "{error}");
        assert!(error.message().contains("user"), "{error}");
    }

    #[test]
    fn without_tcp_nothing_is_played() {
        let mut settings = settings("rtsp://nvr/1");
        settings.protocols = RTSPLowerTrans::UDP | RTSPLowerTrans::UDP_MCAST;
        let error = settings.session_options().unwrap_err();
        assert!(error.matches(gst::ResourceError::Settings), "{error}");
        let text = error.message();
        assert!(text.starts_with("protocols=") && text.contains("UDP_MCAST lacks tcp"));
        settings.protocols |= RTSPLowerTrans::TCP;
        assert!(settings.session_options().is_ok());
    }

    #[test]
    fn block_needs_a_connection_of_its_own() {
        let mut settings = settings("rtsp://nvr/1");
        settings.overflow_policy = OverflowPolicy::Block;
        let error = settings.session_options().unwrap_err();
        assert!(error.matches(gst::ResourceError::Settings), "{error}");
        assert!(error.message().contains("overflow-policy=block"));
        settings.multiplex = Multiplex::Never;
        let options = settings.session_options().unwrap();
        assert_eq!(options.overflow, mux::OverflowPolicy::Block);
        settings.multiplex = Multiplex::Auto;
        settings.pooling = false;
        assert!(settings.session_options().is_ok());
    }

    #[test]
    fn tcp_timeout_bounds_connecting_and_answers_once_it_is_set() {
        let mut settings = settings("rtsp://nvr/1");
        let options = settings.session_options().unwrap();
        assert_eq!(options.answer_timeout, None);
        settings.tcp_timeout_us = Some(1_500_000);
        let options = settings.session_options().unwrap();
        assert_eq!(options.connect_timeout, Duration::from_millis(1_500));
        assert_eq!(options.answer_timeout, Some(options.connect_timeout));
        settings.tcp_timeout_us = Some(0);
        assert_eq!(
            settings.session_options().unwrap().silence_timeout,
            Some(NEVER)
        );
    }
}

#[cfg(test)]
mod properties_tests {
    use super::*;

    #[test]
    fn every_property_is_read_and_has_its_default() {
        gst::init().unwrap();
        let settings = Settings::default();
        for spec in SPECS.iter().filter(|spec| spec.name() != "stats") {
            let value = settings.value(spec.name()).unwrap();
            assert!(spec.value_type() == value.type_(), "{}", spec.name());
            assert_eq!(
                value.serialize().ok(),
                spec.default_value().serialize().ok(),
                "{}",
                spec.name()
            );
        }
    }

    #[test]
    fn every_property_that_is_written_reads_back() {
        gst::init().unwrap();
        let mut settings = Settings::default();
        for spec in SPECS
            .iter()
            .filter(|spec| spec.flags().contains(glib::ParamFlags::WRITABLE))
        {
            let before = settings.value(spec.name()).unwrap();
            assert!(settings.set(spec.name(), &before), "{}", spec.name());
        }
        assert!(!settings.set("stats", &0u32.to_value()));
    }

    #[test]
    fn the_password_is_written_not_read() {
        gst::init().unwrap();
        let mut settings = Settings::default();
        assert!(settings.set("user-pw", &"secret".to_value()));
        let shown: Option<String> = settings.value("user-pw").unwrap().get().unwrap();
        assert_eq!(shown.as_deref(), Some(HIDDEN));
        assert_eq!(settings.user_pw.as_deref(), Some("secret"));
    }
}
