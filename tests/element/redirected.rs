//! F55: a server sends cameras elsewhere while they play (REDIRECT).

use gst::prelude::*;
use gstreamer as gst;

use crate::certificates::{Authority, Identity, Request as Certificate};
use crate::player::{PATIENCE, Player, for_both_managers, init};
use crate::support::mock_server::{Camera, Family, MockServer};
use crate::support::rtsp::Request;
use crate::tls::TextFile;
use crate::tls_front::TlsFront;

const CAMERAS: u32 = 4;
/// The one that is sent elsewhere.
const SENT: u32 = 2;

/// A server, perhaps behind TLS.
struct Place {
    server: MockServer,
    front: Option<TlsFront>,
}

impl Place {
    fn new(identity: Option<&Identity>, parameters: &str) -> Self {
        let camera = |number| {
            let sdp = format!(
                "v=0\r\no=- {number} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
                 a=rtpmap:96 H264/90000\r\na=fmtp:96 sprop-parameter-sets={parameters}\r\n\
                 a=control:stream=0\r\n"
            );
            Camera::video().number(number).sdp(sdp)
        };
        let builder = MockServer::builder().family(Family::Gst);
        let builder = (1..=CAMERAS).fold(builder, |builder, number| {
            builder.camera(&format!("/cam/{number}"), camera(number))
        });
        let server = builder.start();
        let front = identity.map(|identity| TlsFront::start(identity, server.address()));
        Self { server, front }
    }

    fn url(&self, camera: u32) -> String {
        let path = format!("/cam/{camera}");
        match &self.front {
            Some(front) => front.url(&path),
            None => self.server.url(&path),
        }
    }
}

/// One of four cameras is sent to another place, where its pictures have other parameter sets.
fn one_of_four_is_sent_elsewhere(identity: Option<&Identity>, properties: &str) {
    let (here, there) = (
        Place::new(identity, "Z0LA,aM4="),
        Place::new(identity, "Z0LB,aM4="),
    );
    let line = |camera| {
        format!(
            "rtspmuxsrc location={} latency=0 {properties} ! fakesink name=sink{camera} sync=false \
             async=false ",
            here.url(camera)
        )
    };
    let player = Player::playing(&(1..=CAMERAS).map(line).collect::<String>());
    let seen = |camera| player.seen_by(&format!("sink{camera}"));
    let seen: Vec<_> = (1..=CAMERAS).map(seen).collect();
    let all_play = |view: &crate::support::mock_server::ServerView| view.playing() == 4;
    assert!(here.server.wait_until(all_play, PATIENCE));
    here.server.send_packets_to_all(10);
    seen.iter().for_each(|seen| drop(seen.wait_for(10)));
    let view = here.server.view();
    let mut sessions = view.sessions.iter();
    let session = sessions
        .find(|it| it.camera == format!("/cam/{SENT}"))
        .unwrap();
    let request = Request::new("REDIRECT", "*")
        .header("Location", there.url(SENT))
        .header("Session", session.id.clone());
    here.server.send_request(session.connection, request);
    let is_there = there
        .server
        .wait_until(|view| view.playing() == 1, PATIENCE);
    assert!(is_there);
    there.server.send_packets_to_all(10);
    let has_left = here.server.wait_until(|view| view.playing() == 3, PATIENCE);
    assert!(has_left);
    here.server.send_packets_to_all(10);
    for (camera, seen) in (1..).zip(&seen) {
        let buffers = seen.wait_for(20);
        let numbers: Vec<_> = buffers
            .iter()
            .map(|it| Camera::index_of(&it.map_readable().unwrap()).unwrap())
            .collect();
        let expected: Vec<u32> = match camera {
            SENT => (0..10).chain(0..10).collect(),
            _ => (0..20).collect(),
        };
        assert_eq!(numbers, expected, "camera {camera}");
        let times: Vec<_> = buffers.iter().filter_map(|buffer| buffer.pts()).collect();
        // The first ones came in a burst.
        assert!(times.chunks(10).all(<[_]>::is_sorted), "{times:?}");
    }
    let pad = player
        .element(&format!("sink{SENT}"))
        .static_pad("sink")
        .unwrap();
    let caps = pad.current_caps().unwrap();
    let sets = caps
        .structure(0)
        .unwrap()
        .get::<&str>("sprop-parameter-sets");
    assert_eq!(sets, Ok("Z0LB,aM4="));
    assert_eq!(here.server.accepted(), 1);
    player.assert_no_error();
}

for_both_managers!(f55_one_of_four_cameras_goes_on_where_it_is_sent);
fn f55_one_of_four_cameras_goes_on_where_it_is_sent() {
    init();
    one_of_four_is_sent_elsewhere(None, "");
    let authority = Authority::new();
    let identity = authority.issue(&Certificate::server(&["localhost"]));
    let file = TextFile::new("redirected-ca.pem", &authority.pem());
    let properties = format!("tls-ca-file={}", file.0.display());
    one_of_four_is_sent_elsewhere(Some(&identity), &properties);
}

#[test]
fn f55_no_camera_goes_from_tls_to_clear_text() {
    init();
    let authority = Authority::new();
    let identity = authority.issue(&Certificate::server(&["localhost"]));
    let file = TextFile::new("downgraded-ca.pem", &authority.pem());
    let (here, there) = (
        Place::new(Some(&identity), "Z0LA"),
        Place::new(None, "Z0LB"),
    );
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} latency=0 tls-ca-file={} user-id=admin user-pw=hunter2 \
         ! fakesink name=sink sync=false async=false",
        here.url(1),
        file.0.display()
    ));
    let seen = player.seen_by("sink");
    assert!(here.server.wait_until(|view| view.playing() == 1, PATIENCE));
    let request = Request::new("REDIRECT", "*").header("Location", there.url(1));
    here.server.send_request(0, request);
    here.server.send_packets("/cam/1", 10);
    seen.wait_for(10);
    assert!(
        here.server
            .wait_until(|view| !view.responses.is_empty(), PATIENCE)
    );
    here.server.send_packets("/cam/1", 10);
    seen.wait_for(20);
    assert_eq!(
        (here.server.view().playing(), there.server.accepted()),
        (1, 0)
    );
    player.assert_no_error();
}
