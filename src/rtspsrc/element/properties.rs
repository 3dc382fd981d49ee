//! The properties: their specifications and their values.

use std::sync::LazyLock;

use gio::TlsCertificateFlags;
use gst::{glib, prelude::*};
use gst_rtsp::RTSPLowerTrans;
use gstreamer as gst;
use gstreamer_rtsp as gst_rtsp;

use crate::{
    mux::{
        self,
        proto::wire::{
            redaction::{redacted_reference, redacted_whole},
            server_text::harmless,
            uri,
        },
    },
    rtspsrc::{manager::ManagerChoice, nanoseconds},
};

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
            pub(super) tcp_timeout_us: Option<u64>,
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

impl Settings {
    /// The location without user and password, for logs, messages and the property.
    pub(crate) fn shown_location(&self) -> Option<String> {
        self.location.as_deref().map(shown)
    }

    /// The default for NULL.
    pub(super) fn user_agent(&self) -> String {
        self.user_agent.clone().unwrap_or_else(default_user_agent)
    }

    /// The value of the property `tcp-timeout`.
    pub(super) fn tcp_timeout_us(&self) -> u64 {
        self.tcp_timeout_us.unwrap_or(DEFAULT_TCP_TIMEOUT_US)
    }
}

fn default_user_agent() -> String {
    let (major, minor, micro, _) = gst::version();
    format!("GStreamer/{major}.{minor}.{micro}")
}

/// GObject has checked the type against the specification.
fn get<'v, T: glib::value::FromValue<'v>>(value: &'v glib::Value) -> T {
    value.get().expect("a value of the property's type")
}

/// `location` without secrets. A text that is no URL may hold secrets too: if it has an `@`, only the
/// scheme is shown.
pub(super) fn shown(location: &str) -> String {
    match uri::parse(location.trim()) {
        Ok(url) if url.has_host() => redacted_whole(&url),
        _ if location.contains('@') => match location.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://..."),
            None => "...".to_owned(),
        },
        _ => harmless(&redacted_reference(location)).into_owned(),
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
