//! The properties: their specifications, and the conversion to and from [`Settings`].

use gstreamer as gst;
use gstreamer_rtsp as gst_rtsp;
use std::sync::LazyLock;

use gio::TlsCertificateFlags;
use gst::{glib, prelude::*};
use gst_rtsp::RTSPLowerTrans;

use super::settings::{DEFAULT_TCP_TIMEOUT_US, Settings, default_user_agent};

/// Shown instead of a password that is set.
const HIDDEN: &str = "***";

/// All properties. Their order does not matter, as `gst-inspect-1.0` sorts them.
pub(crate) static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let mut specs = rtspsrc_specs();
    specs.extend(tls_specs());
    specs.extend(pooling_specs());
    specs.extend(recovery_specs());
    specs.push(manager_spec());
    specs
});

/// Those of `rtspsrc`, with its names, types, units and defaults.
fn rtspsrc_specs() -> Vec<glib::ParamSpec> {
    let defaults = Settings::default();
    vec![
        glib::ParamSpecString::builder("location")
            .nick("RTSP location")
            .blurb("Location of the RTSP url to read; reads back without user and password, and with hashes in place of other parts that may be secret")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("user-id")
            .nick("User id")
            .blurb("RTSP location URI user id for authentication")
            .mutable_playing()
            .build(),
        glib::ParamSpecString::builder("user-pw")
            .nick("User password")
            .blurb("RTSP location URI user password for authentication; reads back as ***")
            .mutable_playing()
            .build(),
        glib::ParamSpecFlags::builder::<RTSPLowerTrans>("protocols")
            .nick("Protocols")
            .blurb("Allowed lower transport protocols; tcp must be among them, as only it is used")
            .default_value(defaults.protocols)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("latency")
            .nick("Buffer latency in ms")
            .blurb("Amount of ms to buffer")
            .default_value(defaults.latency_ms)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("timeout")
            .nick("Timeout")
            .blurb("Without effect, for compatibility: in rtspsrc, microseconds until UDP is given up for TCP")
            .default_value(defaults.udp_timeout_us)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("tcp-timeout")
            .nick("TCP Timeout")
            .blurb("Fail after timeout microseconds without data on a TCP connection (0 = disabled). Connecting may take 5 s, an answer 10 s (DESCRIBE 25 s), or each of them this long at most once it is set")
            .default_value(DEFAULT_TCP_TIMEOUT_US)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("teardown-timeout")
            .nick("Teardown Timeout")
            .blurb("When transitioning READY-NULL, allow up to timeout (in nanoseconds) delay for the answer to teardown (0 = disabled)")
            .default_value(defaults.teardown_timeout_ns)
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("user-agent")
            .nick("User Agent")
            .blurb("The User-Agent string to send to the server")
            .default_value(Some(defaults.user_agent.as_str()))
            .mutable_ready()
            .build(),
        glib::ParamSpecBoolean::builder("do-rtsp-keep-alive")
            .nick("Do RTSP Keep Alive")
            .blurb("Send RTSP keep alive packets, disable for old incompatible server")
            .default_value(defaults.keep_alive)
            .mutable_ready()
            .build(),
        glib::ParamSpecFlags::builder::<TlsCertificateFlags>("tls-validation-flags")
            .nick("TLS validation flags")
            .blurb("TLS certificate validation flags used to validate the server certificate; without any, every certificate is accepted")
            .default_value(defaults.tls_validation_flags)
            .mutable_ready()
            .build(),
    ]
}

/// Those of TLS, for which `rtspsrc` has objects.
fn tls_specs() -> Vec<glib::ParamSpec> {
    vec![
        glib::ParamSpecString::builder("tls-ca-file")
            .nick("TLS CA file")
            .blurb("PEM file with certificates that are trusted besides those of the system: of authorities, or of the server itself")
            .mutable_ready()
            .build(),
        glib::ParamSpecString::builder("tls-client-certificate")
            .nick("TLS client certificate")
            .blurb("PEM file with certificate and private key, for servers that ask for a certificate")
            .mutable_ready()
            .build(),
    ]
}

/// Those of the pool, and `stats`.
fn pooling_specs() -> Vec<glib::ParamSpec> {
    let defaults = Settings::default();
    vec![
        glib::ParamSpecBoolean::builder("enable-connection-pooling")
            .nick("Enable connection pooling")
            .blurb("Share connections to the server with other elements; false: a connection of its own")
            .default_value(defaults.pooling)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("max-connections-per-server")
            .nick("Max connections per server")
            .blurb("Shared connections to one server, including those that are connecting or closing (0 = no limit)")
            .default_value(defaults.max_connections_per_server)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("idle-connection-timeout")
            .nick("Idle connection timeout")
            .blurb("Nanoseconds for which a connection without sessions is kept (0 = close at once)")
            .default_value(defaults.idle_connection_timeout_ns)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("multiplex", defaults.multiplex)
            .nick("Multiplex")
            .blurb("Whether sessions share a connection to the server")
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt::builder("max-sessions-per-connection")
            .nick("Max sessions per connection")
            .blurb("Sessions on one connection; further sessions use another connection, if max-connections-per-server allows it")
            .minimum(1)
            .maximum(128)
            .default_value(defaults.max_sessions_per_connection)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("overflow-policy", defaults.overflow_policy)
            .nick("Overflow policy")
            .blurb("Which packets are dropped when downstream does not take them in time; block needs enable-connection-pooling=false or multiplex=never")
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("Connection, session and streams of this element, while it has a session")
            .read_only()
            .build(),
    ]
}

/// Those of recovery.
fn recovery_specs() -> Vec<glib::ParamSpec> {
    let defaults = Settings::default();
    vec![
        glib::ParamSpecBoolean::builder("reconnect")
            .nick("Reconnect")
            .blurb("Set up a lost session again, on the same pads, and wait for a camera that is not there at the start; false: post an error")
            .default_value(defaults.reconnect)
            .mutable_ready()
            .build(),
        glib::ParamSpecInt::builder("reconnect-attempts")
            .nick("Reconnect attempts")
            .blurb("Attempts in one outage before an error is posted (-1 = no limit)")
            .minimum(-1)
            .default_value(defaults.reconnect_attempts)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("reconnect-min-delay")
            .nick("Reconnect minimum delay")
            .blurb("Shortest wait before another attempt, in nanoseconds")
            .default_value(defaults.reconnect_min_delay_ns)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("reconnect-max-delay")
            .nick("Reconnect maximum delay")
            .blurb("Longest wait before another attempt, in nanoseconds; a server is still dialled 30 times a minute at most, and a Retry-After of the server is obeyed")
            .default_value(defaults.reconnect_max_delay_ns)
            .mutable_ready()
            .build(),
        glib::ParamSpecUInt64::builder("media-timeout")
            .nick("Media timeout")
            .blurb("Nanoseconds without deliverable RTP on any video or audio stream after which a session that plays counts as lost (0 = never)")
            .default_value(defaults.media_timeout_ns)
            .mutable_ready()
            .build(),
    ]
}

/// The property `manager`.
fn manager_spec() -> glib::ParamSpec {
    glib::ParamSpecEnum::builder_with_default("manager", Settings::default().manager)
        .nick("Manager")
        .blurb("What turns RTP packets into timed buffers; used at the next READY to PAUSED")
        .mutable_ready()
        .build()
}

impl Settings {
    /// Sets the value of a property. False if it is not one of the settings.
    pub(crate) fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        match name {
            "location" => self.location = get(value),
            "user-id" => self.user_id = get(value),
            "user-pw" => self.user_pw = get(value),
            "protocols" => self.protocols = get(value),
            "latency" => self.latency_ms = get(value),
            "timeout" => self.udp_timeout_us = get(value),
            "tcp-timeout" => self.tcp_timeout_us = Some(get(value)),
            "teardown-timeout" => self.teardown_timeout_ns = get(value),
            "user-agent" => {
                self.user_agent = get::<Option<String>>(value).unwrap_or_else(default_user_agent);
            }
            "do-rtsp-keep-alive" => self.keep_alive = get(value),
            "tls-validation-flags" => self.tls_validation_flags = get(value),
            "tls-ca-file" => self.tls_ca_file = get(value),
            "tls-client-certificate" => self.tls_client_certificate = get(value),
            "enable-connection-pooling" => self.pooling = get(value),
            "max-connections-per-server" => self.max_connections_per_server = get(value),
            "idle-connection-timeout" => self.idle_connection_timeout_ns = get(value),
            "multiplex" => self.multiplex = get(value),
            "max-sessions-per-connection" => self.max_sessions_per_connection = get(value),
            "overflow-policy" => self.overflow_policy = get(value),
            "reconnect" => self.reconnect = get(value),
            "reconnect-attempts" => self.reconnect_attempts = get(value),
            "reconnect-min-delay" => self.reconnect_min_delay_ns = get(value),
            "reconnect-max-delay" => self.reconnect_max_delay_ns = get(value),
            "media-timeout" => self.media_timeout_ns = get(value),
            "manager" => self.manager = get(value),
            _ => return false,
        }
        true
    }

    /// The value of a property. `None` if it is not one of the settings.
    pub(crate) fn value(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "location" => self.shown_location().to_value(),
            "user-id" => self.user_id.to_value(),
            "user-pw" => self.user_pw.as_ref().map(|_| HIDDEN).to_value(),
            "protocols" => self.protocols.to_value(),
            "latency" => self.latency_ms.to_value(),
            "timeout" => self.udp_timeout_us.to_value(),
            "tcp-timeout" => self.tcp_timeout_us().to_value(),
            "teardown-timeout" => self.teardown_timeout_ns.to_value(),
            "user-agent" => self.user_agent.to_value(),
            "do-rtsp-keep-alive" => self.keep_alive.to_value(),
            "tls-validation-flags" => self.tls_validation_flags.to_value(),
            "tls-ca-file" => self.tls_ca_file.to_value(),
            "tls-client-certificate" => self.tls_client_certificate.to_value(),
            "enable-connection-pooling" => self.pooling.to_value(),
            "max-connections-per-server" => self.max_connections_per_server.to_value(),
            "idle-connection-timeout" => self.idle_connection_timeout_ns.to_value(),
            "multiplex" => self.multiplex.to_value(),
            "max-sessions-per-connection" => self.max_sessions_per_connection.to_value(),
            "overflow-policy" => self.overflow_policy.to_value(),
            "reconnect" => self.reconnect.to_value(),
            "reconnect-attempts" => self.reconnect_attempts.to_value(),
            "reconnect-min-delay" => self.reconnect_min_delay_ns.to_value(),
            "reconnect-max-delay" => self.reconnect_max_delay_ns.to_value(),
            "media-timeout" => self.media_timeout_ns.to_value(),
            "manager" => self.manager.to_value(),
            _ => return None,
        })
    }
}

/// GObject has checked the type against the specification.
fn get<'v, T: glib::value::FromValue<'v>>(value: &'v glib::Value) -> T {
    value.get().expect("a value of the property's type")
}

#[cfg(test)]
mod tests {
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
