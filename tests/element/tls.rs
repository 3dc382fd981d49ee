//! `rtsps://`: certificates as properties have it, connections as ever.

use std::{env, fs, path::PathBuf, process};

use gstreamer as gst;

use crate::certificates::{Authority, Request};
use crate::gst_server::GstServer;
use crate::player::{Player, init};

/// A file that goes away with the test.
pub(crate) struct TextFile(pub(crate) PathBuf);

impl TextFile {
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let path = env::temp_dir().join(format!("rtspmux-{}-{name}", process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for TextFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn elements_that_trust_the_same_share_a_connection_over_tls() {
    init();
    let authority = Authority::new();
    let identity = authority.issue(&Request::server(&["127.0.0.1"]));
    let server = GstServer::builder()
        .mounts(4)
        .tls(identity.pem())
        .start()
        .unwrap();
    let file = TextFile::new("ca.pem", &authority.pem());
    let line: String = (0..4)
        .map(|camera| {
            format!(
                "rtspmuxsrc location={} tls-ca-file={} latency=0 ! fakesink name=sink{camera} \
                 sync=false ",
                server.url(camera).replace("rtsps://", "rtspst://"),
                file.0.display()
            )
        })
        .collect();
    let player = Player::playing(&line);
    for camera in 0..4 {
        player.seen_by(&format!("sink{camera}")).wait_for(10);
    }
    player.assert_no_error();
    assert_eq!(server.counts().accepted, 1);
}

#[test]
fn a_certificate_of_an_unknown_authority_is_an_error_unless_flags_say_otherwise() {
    init();
    let identity = Request::server(&["127.0.0.1"])
        .claiming_authority()
        .self_signed();
    let server = GstServer::builder().tls(identity.pem()).start().unwrap();
    let play = |properties: &str| {
        Player::playing(&format!(
            "rtspmuxsrc location={} latency=0 {properties} ! fakesink name=sink async=false",
            server.url(0)
        ))
    };
    let (error, _) = play("").error();
    assert!(error.matches(gst::ResourceError::OpenReadWrite), "{error}");
    let text = error.to_string();
    assert!(text.contains("trusted"), "{text}");
    assert_eq!(server.counts().describes, 0);
    for flags in ["0", "bad-identity+expired"] {
        let player = play(&format!("tls-validation-flags={flags}"));
        player.seen_by("sink").wait_for(5);
        player.assert_no_error();
    }
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_of_the_settings() {
    init();
    let file = TextFile::new("empty.pem", "");
    for property in ["tls-ca-file", "tls-client-certificate"] {
        let player = Player::new(&format!(
            "rtspmuxsrc location=rtsps://127.0.0.1/ {property}={} ! fakesink async=false",
            file.0.display()
        ));
        assert!(player.set_state(gst::State::Playing).is_err());
        let (error, _) = player.error();
        assert!(error.matches(gst::ResourceError::Settings), "{error}");
        assert!(error.to_string().contains(property), "{error}");
    }
}
