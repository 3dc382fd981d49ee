//! `rtsps://`: certificates as properties have it, connections as ever.

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::{Mutex, mpsc},
};

use gio::prelude::TlsConnectionExt as _;
use gst::prelude::*;
use gstreamer as gst;

use crate::certificates::{Authority, Request};
use crate::gst_server::GstServer;
use crate::player::{PATIENCE, Player, init};

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

/// A server with a certificate of its own making, for another name.
fn stranger(mounts: usize) -> GstServer {
    init();
    let identity = Request::server(&["recorder.example"]).self_signed();
    let server = GstServer::builder().mounts(mounts).tls(identity.pem());
    server.start().unwrap()
}

/// Elements for cameras of a server; `properties` are those of the first one.
fn cameras(server: &GstServer, count: usize, properties: &str) -> Player {
    let line: String = (0..count)
        .map(|camera| {
            let own = match camera {
                0 => properties,
                _ => "tls-validation-flags=0",
            };
            let url = server.url(camera);
            format!(
                "rtspmuxsrc name=source{camera} location={url} latency=0 {own} ! fakesink name=sink{camera} sync=false async=false "
            )
        })
        .collect();
    Player::new(&line)
}

#[test]
fn a_handler_accepts_a_certificate_for_its_element_alone() {
    let server = stranger(2);
    let player = cameras(&server, 2, "");
    let (sender, asked) = mpsc::channel();
    let source = player.element("source0");
    source.connect("accept-certificate", false, move |args| {
        let connection: gio::TlsConnection = args[1].get().unwrap();
        let certificate: Option<gio::TlsCertificate> = args[2].get().unwrap();
        let errors: gio::TlsCertificateFlags = args[3].get().unwrap();
        let is_same = connection.peer_certificate() == certificate;
        let is_named = connection.peer_certificate_errors() == errors;
        let thread = std::thread::current().name().map(str::to_owned);
        let _ = sender.send((certificate.is_some(), is_same && is_named, errors, thread));
        Some(true.to_value())
    });
    player.set_state(gst::State::Playing).unwrap();
    for camera in 0..2 {
        player.seen_by(&format!("sink{camera}")).wait_for(5);
    }
    player.assert_no_error();
    let (is_there, is_same, errors, thread) = asked.recv_timeout(PATIENCE).unwrap();
    assert!(is_there && is_same);
    let expected = gio::TlsCertificateFlags::UNKNOWN_CA | gio::TlsCertificateFlags::BAD_IDENTITY;
    assert_eq!(errors, expected);
    assert_eq!(thread.as_deref(), Some("rtspmux-tls"));
    assert_eq!(
        server.counts().accepted,
        2,
        "what it accepts serves no other element"
    );
    // Taken down and up, it is asked again.
    player.set_state(gst::State::Null).unwrap();
    player.set_state(gst::State::Playing).unwrap();
    asked.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_handler_that_refuses_a_certificate_is_an_error() {
    let server = stranger(1);
    let player = cameras(&server, 1, "");
    let source = player.element("source0");
    source.connect("accept-certificate", false, |_| Some(false.to_value()));
    let _ = player.set_state(gst::State::Playing);
    let (error, _) = player.error();
    assert!(error.matches(gst::ResourceError::OpenReadWrite), "{error}");
    assert!(error.message().contains("trusted"), "{error}");
    assert_eq!(server.counts().describes, 0);
}

#[test]
fn a_handler_for_certificates_that_takes_its_time_holds_up_no_other() {
    let server = stranger(2);
    let player = cameras(&server, 2, "");
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let source = player.element("source0");
    source.connect("accept-certificate", false, move |_| {
        let _ = released.lock().unwrap().recv_timeout(PATIENCE);
        Some(true.to_value())
    });
    player.set_state(gst::State::Playing).unwrap();
    // The other one plays while the handler waits; and then its own.
    player.seen_by("sink1").wait_for(10);
    assert_eq!(player.seen_by("sink0").count(), 0);
    release.send(()).unwrap();
    player.seen_by("sink0").wait_for(5);
}

#[test]
fn a_handler_for_certificates_may_stop_its_element() {
    let server = stranger(2);
    let player = cameras(&server, 2, "");
    let (sender, stopped) = mpsc::channel();
    let source = player.element("source0");
    source.connect("accept-certificate", false, move |args| {
        let element: gst::Element = args[0].get().unwrap();
        let _ = sender.send(element.set_state(gst::State::Null));
        Some(true.to_value())
    });
    player.set_state(gst::State::Playing).unwrap();
    stopped.recv_timeout(PATIENCE).unwrap().unwrap();
    player.seen_by("sink1").wait_for(5);
}

#[test]
fn the_error_about_a_certificate_prints_the_fingerprint_to_paste() {
    let server = stranger(1);
    let (error, _) = {
        let player = cameras(&server, 1, "");
        let _ = player.set_state(gst::State::Playing);
        player.error()
    };
    let text = error.message().to_owned();
    let (_, fingerprint) = text.split_once("SHA-256 fingerprint is ").expect(&text);
    let fingerprint = &fingerprint[..95];
    let player = cameras(&server, 1, &format!("tls-fingerprint={fingerprint}"));
    player.set_state(gst::State::Playing).unwrap();
    player.seen_by("sink0").wait_for(5);
    player.assert_no_error();
    drop(player);
    let other = stranger(1);
    let player = cameras(&other, 1, &format!("tls-fingerprint={fingerprint}"));
    let _ = player.set_state(gst::State::Playing);
    let (error, _) = player.error();
    assert!(error.message().contains(fingerprint), "{error}");
    assert_eq!(other.counts().describes, 0);
    let player = cameras(&other, 1, "tls-fingerprint=12:34");
    assert!(player.set_state(gst::State::Playing).is_err());
    let (error, _) = player.error();
    assert!(error.message().contains("tls-fingerprint"), "{error}");
}

#[test]
fn a_database_decides_in_place_of_the_system() {
    init();
    let authority = Authority::new();
    let file = TextFile::new("database.pem", &authority.pem());
    let database = gio::TlsFileDatabase::new(&file.0).unwrap();
    let good = authority.issue(&Request::server(&["127.0.0.1"]));
    for (identity, plays) in [
        (good, true),
        (Request::server(&["127.0.0.1"]).self_signed(), false),
    ] {
        let server = GstServer::builder().tls(identity.pem()).start().unwrap();
        let player = cameras(&server, 1, "");
        player
            .element("source0")
            .set_property("tls-database", &database);
        let _ = player.set_state(gst::State::Playing);
        match plays {
            true => drop(player.seen_by("sink0").wait_for(5)),
            false => {
                let (error, _) = player.error();
                assert!(error.matches(gst::ResourceError::OpenReadWrite), "{error}");
            }
        }
    }
}
