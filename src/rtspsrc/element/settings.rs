//! The options of a session that follow from the [properties](super::properties).

use std::{fmt, fs, time::Duration};

use gio::TlsCertificateFlags;
use gst::{glib, prelude::*};
use gst_rtsp::RTSPLowerTrans;
use gstreamer as gst;
use gstreamer_rtsp as gst_rtsp;

use super::properties::{Backchannel, ConnectFailure, OnBye, OnStreamChange, Settings, shown};
use crate::{
    mux::{
        self, CertificateChecks, Credentials, InvalidTls, SessionOptions, TlsOptions,
        recovery::{ByePolicy, RecoveryPolicy},
    },
    rtspsrc::{
        manager::{ManagerChoice, ManagerSettings},
        session::seek::OnvifReplay,
    },
};

/// The value for a timeout of 0: long enough to be never, short enough to be added to any time.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long connecting may take if `tcp-timeout` is not set: the element reports an unreachable camera
/// after 5 s, while a stalled one gets the 20 s that `rtspsrc` gives it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The schemes of URIs that are played.
pub(crate) const PLAYED: [&str; 4] = ["rtsp", "rtspt", "rtsps", "rtspst"];

/// `location` cannot be played. No text of it may show a secret.
fn bad_location(why: impl fmt::Display) -> glib::Error {
    glib::Error::new(gst::ResourceError::NotFound, &why.to_string())
}

/// Another setting cannot be used.
fn bad_setting(why: impl fmt::Display) -> glib::Error {
    glib::Error::new(gst::ResourceError::Settings, &why.to_string())
}

impl Settings {
    /// Whether and when a session that ended is set up again.
    pub(crate) fn recovery_policy(&self) -> RecoveryPolicy {
        RecoveryPolicy {
            is_on: self.reconnect,
            fails_at_start: self.connect_failure == ConnectFailure::Error,
            follows_changes: self.on_stream_change == OnStreamChange::Follow,
            on_bye: match self.on_bye {
                OnBye::Auto => ByePolicy::Auto,
                OnBye::Eos => ByePolicy::Eos,
                OnBye::Reconnect => ByePolicy::Reconnect,
            },
            attempts: u32::try_from(self.reconnect_attempts).ok(),
            bounds: mux::RetryBounds {
                min: Duration::from_nanos(self.reconnect_min_delay_ns).min(NEVER),
                max: Duration::from_nanos(self.reconnect_max_delay_ns).min(NEVER),
            },
        }
    }

    /// The rate control of ONVIF replay; `None` without it.
    pub(crate) fn onvif_replay(&self) -> OnvifReplay {
        self.onvif_mode.then_some(self.onvif_rate_control)
    }

    /// What turns packets into buffers.
    pub(crate) fn manager_settings(&self) -> ManagerSettings {
        ManagerSettings {
            choice: match self.manager {
                // As in rtspsrc: a jitterbuffer would take all there is.
                _ if !self.is_live => ManagerChoice::Light,
                ManagerChoice::Auto if self.needs_rtpbin() => ManagerChoice::Rtpbin,
                choice => choice,
            },
            follows_downstream: !self.is_live,
            latency_ms: self.latency_ms,
            sends_reports: self.do_rtcp,
            probation: self.probation,
            stamps_each_packet: self.tcp_timestamp,
            rtpbin: self.for_rtpbin(),
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
                "protocols={protocols} lacks tcp: only RTP interleaved over TCP is played; {}",
                self.go_back()
            )));
        }
        let location = self.location.as_deref();
        let location = location.ok_or_else(|| bad_location("no location is set"))?;
        let mut options = parse_location(location).map_err(|error| self.explained(error))?;
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
        if !self.is_live {
            options.pooling.multiplex = mux::Multiplex::Never;
            options.overflow = mux::OverflowPolicy::Block;
        }
        if options.blocks_others() {
            return Err(bad_setting(
                "overflow-policy=block holds up the whole connection: it needs enable-connection-pooling=false or multiplex=never",
            ));
        }
        options.block_size = (self.rtp_blocksize > 0).then_some(self.rtp_blocksize);
        options.backchannel = self.backchannel == Backchannel::Onvif;
        options.tls = self.tls_options()?;
        options.user_agent = Some(self.sent_user_agent());
        options.keep_alive = self.keep_alive;
        // 0 switches the timeout off, as in rtspsrc.
        options.silence_timeout = Some(timeout(self.tcp_timeout_us()));
        options.connect_timeout = self.tcp_timeout_us.map_or(CONNECT_TIMEOUT, timeout);
        options.answer_timeout = self.tcp_timeout_us.map(timeout);
        Ok(options)
    }

    /// What plays over UDP and through HTTP.
    fn go_back(&self) -> &'static str {
        match self.is_shim {
            true => {
                "GStreamer's own rtspsrc does that: without the directory of the shim in GST_PLUGIN_PATH the program has it back"
            }
            false => "rtspsrc does that",
        }
    }

    /// A location that cannot be played: where it is one of `rtspsrc`, tells what plays it.
    fn explained(&self, error: glib::Error) -> glib::Error {
        let location = self.location.as_deref().unwrap_or_default();
        let is_of_rtspsrc = location.trim_start().starts_with("rtsp");
        let is_played = PLAYED.iter().any(|scheme| {
            let rest = location.trim_start().strip_prefix(scheme);
            rest.is_some_and(|rest| rest.starts_with(':'))
        });
        match is_of_rtspsrc && !is_played {
            true => bad_location(format_args!("{}; {}", error.message(), self.go_back())),
            false => error,
        }
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
        if let Some(text) = &self.tls_fingerprint {
            let invalid = |why| bad_setting(format_args!("tls-fingerprint: {why}"));
            options = options.with_fingerprint(text).map_err(invalid)?;
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

fn timeout(microseconds: u64) -> Duration {
    match microseconds {
        0 => NEVER,
        set => Duration::from_micros(set).min(NEVER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtspsrc::element::properties::{Multiplex, OverflowPolicy};

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
    fn the_version_is_filled_in_where_rtspsrc_fills_it_in() {
        let agent = |written: &str| {
            let user_agent = Some(written.to_owned());
            let settings = Settings {
                user_agent,
                ..settings("rtsp://nvr/1")
            };
            settings.session_options().unwrap().user_agent.unwrap()
        };
        let (major, minor, micro, _) = gst::version();
        let filled_in = format!("recorder {major}.{minor}.{micro}");
        match gst::version() < (1, 24, 0, 0) {
            true => assert_eq!(agent("recorder {VERSION}"), "recorder {VERSION}"),
            false => assert_eq!(agent("recorder {VERSION}"), filled_in),
        }
        assert_eq!(agent(""), "");
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
