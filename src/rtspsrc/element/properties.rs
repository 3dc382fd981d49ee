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

use super::certificates::connection::TlsObject;

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

/// `backchannel` of `rtspsrc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxBackchannel")]
pub enum Backchannel {
    /// None.
    #[default]
    #[enum_value(name = "No backchannel", nick = "none")]
    None,
    /// Sound for the camera.
    #[enum_value(name = "ONVIF audio backchannel", nick = "onvif")]
    Onvif,
}

/// `on-bye`: what an RTCP BYE means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxOnBye")]
pub enum OnBye {
    /// EOS where an end was announced or the server plays the same again; else the session is set up again.
    #[default]
    #[enum_value(name = "EOS for recordings, reconnect for cameras", nick = "auto")]
    Auto,
    /// EOS.
    #[enum_value(name = "EOS", nick = "eos")]
    Eos,
    /// The session is set up again.
    #[enum_value(name = "Reconnect", nick = "reconnect")]
    Reconnect,
}

/// `connect-failure`: what happens when a session does not come up at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxConnectFailure")]
pub enum ConnectFailure {
    /// The element waits for the camera.
    #[default]
    #[enum_value(name = "Try again, as reconnect says", nick = "retry")]
    Retry,
    /// An ERROR, as with `rtspsrc`.
    #[enum_value(name = "Post an error, as rtspsrc does", nick = "error")]
    Error,
}

/// `buffer-mode` of `rtspsrc`, whose enumeration belongs to its plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxBufferMode")]
pub enum BufferMode {
    /// RTP time alone.
    #[enum_value(name = "Only use RTP timestamps", nick = "none")]
    None,
    /// With the drift of the sender's clock.
    #[enum_value(name = "Slave receiver to sender clock", nick = "slave")]
    Slave,
    /// By watermarks.
    #[enum_value(name = "Do low/high watermark buffering", nick = "buffer")]
    Buffer,
    /// As `Slave`.
    #[default]
    #[enum_value(name = "Choose mode depending on stream live", nick = "auto")]
    Auto,
    /// Both have one clock.
    #[enum_value(name = "Synchronized sender and receiver clocks", nick = "synced")]
    Synced,
}

/// `ntp-time-source` of `rtspsrc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxNtpTimeSource")]
pub enum NtpTimeSource {
    /// Since 1900.
    #[default]
    #[enum_value(name = "NTP time based on realtime clock", nick = "ntp")]
    Ntp,
    /// Since 1970.
    #[enum_value(name = "UNIX time based on realtime clock", nick = "unix")]
    Unix,
    /// Of the pipeline.
    #[enum_value(name = "Running time based on pipeline clock", nick = "running-time")]
    RunningTime,
    /// Of the pipeline's clock.
    #[enum_value(name = "Pipeline clock time", nick = "clock-time")]
    ClockTime,
}

/// `nat-method` of `rtspsrc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxNatMethod")]
pub enum NatMethod {
    /// Nothing is done.
    #[enum_value(name = "None", nick = "none")]
    None,
    /// UDP packets open a way through a firewall.
    #[default]
    #[enum_value(name = "Send Dummy packets", nick = "dummy")]
    Dummy,
}

/// `default-rtsp-version` of `rtspsrc`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, glib::Enum)]
#[enum_type(name = "GstRtspMuxVersion")]
pub enum RtspVersion {
    /// None.
    #[enum_value(name = "GST_RTSP_VERSION_INVALID", nick = "invalid")]
    Invalid = 0,
    /// RFC 2326.
    #[default]
    #[enum_value(name = "GST_RTSP_VERSION_1_0", nick = "1-0")]
    V1_0 = 0x10,
    /// For tunnels.
    #[enum_value(name = "GST_RTSP_VERSION_1_1", nick = "1-1")]
    V1_1 = 0x11,
    /// RFC 7826.
    #[enum_value(name = "GST_RTSP_VERSION_2_0", nick = "2-0")]
    V2_0 = 0x20,
}

/// `tcp-timeout` of `rtspsrc`, in microseconds.
const DEFAULT_TCP_TIMEOUT_US: u64 = 20_000_000;

/// Shown instead of a password that is set.
const HIDDEN: &str = "***";

fn hidden(secret: &Option<String>) -> Option<&'static str> {
    let text = secret.as_ref()?;
    Some(if text.is_empty() { "" } else { HIDDEN })
}

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
    (Structure $name:literal, $default:expr) => {
        glib::ParamSpecBoxed::builder::<gst::Structure>($name)
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

/// Makes [`Settings`] of the table below, and what reads, writes and specifies the properties, of which
/// `tcp-timeout`, `stats`, and the two of objects are no rows of it.
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
            /// Programs see the element as `rtspsrc`.
            pub(crate) is_shim: bool,
            pub(crate) tls_database: Option<TlsObject<gio::TlsDatabase>>,
            pub(crate) tls_interaction: Option<TlsObject<gio::TlsInteraction>>,
            $(pub(crate) $field: $type,)*
        }

        impl Default for Settings {
            fn default() -> Self {
                Self {
                    tcp_timeout_us: None,
                    is_shim: false,
                    tls_database: None,
                    tls_interaction: None,
                    $($field: $default,)*
                }
            }
        }

        impl Settings {
            /// Sets the value of a property. False if it is not one of the settings.
            pub(crate) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
                match name {
                    "tcp-timeout" => self.tcp_timeout_us = Some(get(value)),
                    "tls-database" => self.tls_database = get::<Option<_>>(value).map(TlsObject),
                    "tls-interaction" => self.tls_interaction = get::<Option<_>>(value).map(TlsObject),
                    $($name => self.$field = get(value),)*
                    _ => return false,
                }
                true
            }

            /// The value of a property. `None` if it is not one of the settings.
            pub(crate) fn value(&self, name: &str) -> Option<glib::Value> {
                Some(match name {
                    "tcp-timeout" => self.tcp_timeout_us().to_value(),
                    "tls-database" => self.tls_database.as_ref().map(|it| &it.0).to_value(),
                    "tls-interaction" => self.tls_interaction.as_ref().map(|it| &it.0).to_value(),
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
                glib::ParamSpecObject::builder::<gio::TlsDatabase>("tls-database")
                    .nick("TLS database")
                    .blurb("TLS database with anchor certificate authorities used to validate the server certificate, in place of those of the system and of tls-ca-file")
                    .mutable_ready()
                    .build(),
                glib::ParamSpecObject::builder::<gio::TlsInteraction>("tls-interaction")
                    .nick("TLS interaction")
                    .blurb("A GTlsInteraction object to prompt the user for password or certificate")
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
        mutable while playing, shown as |settings: &Settings| hidden(&settings.user_pw);
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
    "do-rtcp" ParamSpecBoolean do_rtcp: bool = true,
        "Do RTCP", "Send RTCP packets, disable for old incompatible server.";
    // What rtpbin does: see [`FOR_RTPBIN`].
    "drop-on-latency" ParamSpecBoolean drop_on_latency: bool = false,
        "Drop buffers when maximum latency is reached",
        "Tells the jitterbuffer of manager=rtpbin to never exceed the given latency in size; the light manager holds nothing back";
    "buffer-mode" Enum buffer_mode: BufferMode = BufferMode::default(),
        "Buffer Mode",
        "Control the buffering algorithm in use; none, buffer and synced need rtpbin, which manager=auto then takes";
    "probation" ParamSpecUInt probation: u32 = 2,
        "Number of probations",
        "Consecutive packet sequence numbers to accept the source, with manager=rtpbin";
    "ntp-sync" ParamSpecBoolean ntp_sync: bool = false,
        "Sync on NTP clock",
        "Synchronize received streams to the NTP clock; needs rtpbin, which manager=auto then takes";
    "ntp-time-source" Enum ntp_time_source: NtpTimeSource = NtpTimeSource::default(),
        "NTP Time Source", "NTP time source for RTCP packets, with manager=rtpbin";
    "rfc7273-sync" ParamSpecBoolean rfc7273_sync: bool = false,
        "Sync on RFC7273 clock",
        "Synchronize received streams to the RFC7273 clock (requires clock and offset to be provided); needs rtpbin, which manager=auto then takes";
    "add-reference-timestamp-meta" ParamSpecBoolean add_reference_timestamp_meta: bool = false,
        "Add Reference Timestamp Meta",
        "Add Reference Timestamp Meta to buffers with the original clock timestamp before any adjustments when syncing to an RFC7273 clock; needs rtpbin, which manager=auto then takes";
    "max-rtcp-rtp-time-diff" ParamSpecInt max_rtcp_rtp_time_diff: i32 = default_time_diff(),
        "Max RTCP RTP Time Diff",
        "Maximum amount of time in ms that the RTP time in RTCP SRs is allowed to be ahead (-1 disabled), with manager=rtpbin",
        [.minimum(-1)];
    "max-ts-offset" ParamSpecInt64 max_ts_offset_ns: i64 = 3_000_000_000,
        "Max TS Offset",
        "The maximum absolute value of the time offset in (nanoseconds), with manager=rtpbin. Note, if the ntp-sync parameter is set the default value is changed to 0 (no limit)",
        [.minimum(0)];
    "max-ts-offset-adjustment" ParamSpecUInt64 max_ts_offset_adjustment_ns: u64 = 0,
        "Max Timestamp Offset Adjustment",
        "The maximum number of nanoseconds per frame that time stamp offsets may be adjusted (0 = no limit), with manager=rtpbin";
    "backchannel" Enum backchannel: Backchannel = Backchannel::default(),
        "Backchannel type", "The type of backchannel to setup. Default is 'none'.";
    "onvif-mode" ParamSpecBoolean onvif_mode: bool = false,
        "Onvif Mode", "Act as an ONVIF client";
    "onvif-rate-control" ParamSpecBoolean onvif_rate_control: bool = true,
        "Onvif Rate Control",
        "When in onvif-mode, whether to set Rate-Control to yes or no; with no, the server sends as fast as it is read";
    "is-live" ParamSpecBoolean is_live: bool = true,
        "Is live",
        "Whether to act as a live source; if not, the element has a connection of its own, from which it reads what downstream takes";
    "rtp-blocksize" ParamSpecUInt rtp_blocksize: u32 = 0,
        "RTP Blocksize", "RTP package size to suggest to server (0 = disabled)",
        [.maximum(0x10000)];
    "tcp-timestamp" ParamSpecBoolean tcp_timestamp: bool = false,
        "TCP Timestamp",
        "Timestamp RTP packets with receive times, with manager=rtpbin; the light manager follows them without that";
    "sdes" Structure sdes: Option<gst::Structure> = None,
        "SDES", "The SDES items of this session, with manager=rtpbin";
    // Without effect over TCP; where a value may have been set in the belief that it has one, the log says so.
    "do-retransmission" ParamSpecBoolean do_retransmission: bool = true,
        "Retransmission", "Without effect: over TCP no packet is lost on the network";
    "short-header" ParamSpecBoolean short_header: bool = false,
        "Short Header", "Without effect: the headers that it leaves out are never sent";
    "connection-speed" ParamSpecUInt64 connection_speed_kbps: u64 = 0,
        "Connection Speed",
        "Without effect: network connection speed in kbps (0 = unknown)",
        [.maximum(u64::MAX / 1_000)];
    "retry" ParamSpecUInt retry: u32 = 20,
        "Retry", "Without effect, it concerns UDP: max number of retries when allocating RTP ports. Lost sessions are set up again by reconnect",
        [.maximum(u16::MAX.into())];
    "udp-buffer-size" ParamSpecInt udp_buffer_size: i32 = 0x80000,
        "UDP Buffer Size", "Without effect, it concerns UDP: size of the kernel's receive buffer in bytes",
        [.minimum(0)];
    "udp-reconnect" ParamSpecBoolean udp_reconnect: bool = true,
        "Reconnect to the server", "Without effect, it concerns UDP";
    "nat-method" Enum nat_method: NatMethod = NatMethod::default(),
        "NAT Method", "Without effect, it concerns UDP";
    "port-range" text port_range: Option<String> = None,
        "Port range", "Without effect, it concerns UDP: client port range";
    "multicast-iface" text multicast_iface: Option<String> = None,
        "Multicast Interface", "Without effect, it concerns UDP";
    "proxy" text proxy: Option<String> = None,
        "Proxy", "Without effect: there is no HTTP tunnelling, for which rtspsrc is there; reads back as *** once it is set",
        shown as |settings: &Settings| hidden(&settings.proxy);
    "proxy-id" text proxy_id: Option<String> = Some(String::new()),
        "proxy-id", "Without effect: there is no HTTP tunnelling, for which rtspsrc is there";
    "proxy-pw" text proxy_pw: Option<String> = Some(String::new()),
        "proxy-pw", "Without effect: there is no HTTP tunnelling, for which rtspsrc is there; reads back as *** once it is set",
        shown as |settings: &Settings| hidden(&settings.proxy_pw);
    "ignore-x-server-reply" ParamSpecBoolean ignore_x_server_reply: bool = false,
        "Ignore x-server-ip-address", "Without effect: there is no HTTP tunnelling, for which rtspsrc is there";
    "extra-http-request-headers" Structure extra_http_request_headers: Option<gst::Structure> = Some(gst::Structure::new_empty("extra-http-request-headers")),
        "Extra HTTP request headers", "Without effect: there is no HTTP tunnelling, for which rtspsrc is there";
    "force-non-compliant-url" ParamSpecBoolean force_non_compliant_url: bool = false,
        "Force non-compliant URL", "Without effect: control URLs are resolved as servers mean them";
    "default-rtsp-version" Enum default_rtsp_version: RtspVersion = RtspVersion::default(),
        "The RTSP version to try first", "Without effect: RTSP 1.0 is spoken, which servers of 2.0 understand";
    "debug" ParamSpecBoolean debug: bool = false,
        "Debug", "Without effect, as in rtspsrc: the requests and responses are in the log at level trace",
        [.deprecated()];
    "use-pipeline-clock" ParamSpecBoolean use_pipeline_clock: bool = false,
        "Use pipeline clock", "Use the pipeline running-time to set the NTP time in the RTCP SR messages, with manager=rtpbin (DEPRECATED: Use ntp-time-source property)",
        [.deprecated()];
    "tls-ca-file" text tls_ca_file: Option<String> = None,
        "TLS CA file",
        "PEM file with certificates that are trusted besides those of the system: of authorities, or of the server itself";
    "tls-client-certificate" text tls_client_certificate: Option<String> = None,
        "TLS client certificate",
        "PEM file with certificate and private key, for servers that ask for a certificate";
    "tls-fingerprint" text tls_fingerprint: Option<String> = None,
        "TLS fingerprint",
        "SHA-256 fingerprint of the server's certificate, in hexadecimal digits: that certificate is trusted, whatever is in it, and no other one. The error about a certificate prints it";
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
    "connect-failure" Enum connect_failure: ConnectFailure = ConnectFailure::default(),
        "Connect failure",
        "What to do if the camera does not play at the start: try again, or post an error. Programs that start again by themselves on an error still dial a server 30 times a minute at most";
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
    "on-bye" Enum on_bye: OnBye = OnBye::default(),
        "On BYE",
        "What an RTCP BYE means: auto is EOS where the description announces an end or the server plays the same again, and a loss elsewhere";
    // As long as a connection may be silent. Cameras that send less at night need more.
    "media-timeout" ParamSpecUInt64 media_timeout_ns: u64 = 20_000_000_000,
        "Media timeout",
        "Nanoseconds without deliverable RTP on any video or audio stream after which a session that plays counts as lost (0 = never)";
    "manager" Enum manager: ManagerChoice = ManagerChoice::default(),
        "Manager",
        "What turns RTP packets into timed buffers; used at the next READY to PAUSED";
}

/// Properties that `rtpbin` has as well.
const FOR_RTPBIN: [&str; 11] = [
    "drop-on-latency",
    "buffer-mode",
    "ntp-sync",
    "ntp-time-source",
    "rfc7273-sync",
    "add-reference-timestamp-meta",
    "max-rtcp-rtp-time-diff",
    "max-ts-offset",
    "max-ts-offset-adjustment",
    "sdes",
    "use-pipeline-clock",
];

impl Settings {
    /// The properties of `rtpbin` that were changed: name and value, as text.
    pub(super) fn for_rtpbin(&self) -> Vec<(&'static str, String)> {
        let changed = |name: &&'static str| {
            let spec = SPECS.iter().find(|spec| spec.name() == *name)?;
            let value = self.value(name)?;
            // A structure that is not set cannot be written as text.
            if matches!(value.get::<Option<gst::Structure>>(), Ok(None)) {
                return None;
            }
            let value = value.serialize().ok()?;
            let is_default = match spec.value_type() == gst::Structure::static_type() {
                true => false,
                false => spec.default_value().serialize().ok().as_ref() == Some(&value),
            };
            (!is_default).then(|| (*name, value.into()))
        };
        FOR_RTPBIN.iter().filter_map(changed).collect()
    }

    /// Whether only rtpbin does what the properties ask for.
    pub(super) fn needs_rtpbin(&self) -> bool {
        let is_usual = matches!(self.buffer_mode, BufferMode::Auto | BufferMode::Slave);
        self.ntp_sync || self.rfc7273_sync || self.add_reference_timestamp_meta || !is_usual
    }

    /// Why a value that was set has no effect, if the user may expect one.
    pub(super) fn why_without_effect(&self, name: &str) -> Option<&'static str> {
        const UDP: &str = "it concerns UDP, and only TCP is played";
        fn is_filled(text: &Option<String>) -> bool {
            text.as_ref().is_some_and(|text| !text.is_empty())
        }
        const HTTP: &str = "there is no HTTP tunnelling: rtspsrc has it";
        let (is_set, why) = match name {
            "default-rtsp-version" => (
                self.default_rtsp_version != RtspVersion::default(),
                "RTSP 1.0 is spoken",
            ),
            "port-range" => (self.port_range.is_some(), UDP),
            "multicast-iface" => (self.multicast_iface.is_some(), UDP),
            "proxy" => (is_filled(&self.proxy), HTTP),
            "proxy-id" => (is_filled(&self.proxy_id), HTTP),
            "proxy-pw" => (is_filled(&self.proxy_pw), HTTP),
            "ignore-x-server-reply" => (self.ignore_x_server_reply, HTTP),
            "extra-http-request-headers" => {
                let headers = self.extra_http_request_headers.as_ref();
                (headers.is_some_and(|it| it.n_fields() > 0), HTTP)
            }
            _ => return None,
        };
        is_set.then_some(why)
    }

    /// The location without user and password, for logs, messages and the property.
    pub(crate) fn shown_location(&self) -> Option<String> {
        self.location.as_deref().map(shown)
    }

    /// The default for NULL.
    pub(super) fn user_agent(&self) -> String {
        self.user_agent.clone().unwrap_or_else(default_user_agent)
    }

    /// What the property `user-agent` means to the server.
    pub(super) fn sent_user_agent(&self) -> String {
        let agent = self.user_agent();
        match has_version_placeholder() {
            true => agent.replace(VERSION_PLACEHOLDER, &running_version()),
            false => agent,
        }
    }

    /// The value of the property `tcp-timeout`.
    pub(super) fn tcp_timeout_us(&self) -> u64 {
        self.tcp_timeout_us.unwrap_or(DEFAULT_TCP_TIMEOUT_US)
    }
}

/// From GStreamer 1.26 on `rtspsrc` takes all sender reports.
fn default_time_diff() -> i32 {
    match gst::version() >= (1, 26, 0, 0) {
        true => -1,
        false => 1_000,
    }
}

/// What `rtspsrc` replaces by its version, from GStreamer 1.24 on.
const VERSION_PLACEHOLDER: &str = "{VERSION}";

fn has_version_placeholder() -> bool {
    gst::version() >= (1, 24, 0, 0)
}

fn running_version() -> String {
    let (major, minor, micro, _) = gst::version();
    format!("{major}.{minor}.{micro}")
}

fn default_user_agent() -> String {
    let version = match has_version_placeholder() {
        true => VERSION_PLACEHOLDER.to_owned(),
        false => running_version(),
    };
    format!("GStreamer/{version}")
}

/// GObject has checked the type against the specification.
fn get<'v, T: glib::value::FromValue<'v>>(value: &'v glib::Value) -> T {
    value.get().expect("a value of the property's type")
}

/// `location` without secrets. A text that is no URL may hold secrets too: if it has an `@`, only the
/// scheme is shown.
pub(crate) fn shown(location: &str) -> String {
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
            // The specification of a structure has no default.
            if spec.value_type() == gst::Structure::static_type() {
                continue;
            }
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
