//! Servers that are odd about user and password, and many cameras of one element each (F22, F46).

use std::sync::Arc;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;
use gstrtspmux::mux::Mux;
use gstrtspmux::rtspsrc::pool_context;

use crate::certificates::{Authority, Request};
use crate::player::{PATIENCE, Player, Seen, for_both_managers, init};
use crate::support::mock_server::{
    AccountOddity, Algorithm, Auth, Behaviour, Builder, Camera, Family, MockServer, Recorded,
    ServerView,
};
use crate::support::rtsp::RtpPacket;
use crate::tls_front::TlsFront;

/// It takes a tenth of that.
const LONGEST_START: Duration = Duration::from_secs(2);

fn digest() -> Auth {
    Auth::Digest {
        algorithm: Algorithm::Md5,
        user: "admin".to_owned(),
        password: "right".to_owned(),
    }
}

fn server(cameras: u32, oddities: &[AccountOddity]) -> MockServer {
    let builder = MockServer::builder()
        .cameras(cameras)
        .family(Family::Gst)
        .credentials(digest());
    let with = |builder: Builder, oddity: &AccountOddity| builder.account(oddity.clone());
    oddities.iter().fold(builder, with).start()
}

fn has_password(request: &&Recorded) -> bool {
    request.headers.contains("Authorization")
}

/// Requests with a password, or what stands for one.
fn tries(server: &MockServer) -> usize {
    server.requests().iter().filter(has_password).count()
}

/// Cameras `1..=n` of a server at this address, with a multiplexer that knows nothing yet.
struct Wall {
    player: Player,
    seen: Vec<Arc<Seen>>,
}

impl Wall {
    /// `location` gives the beginning of the URLs, and properties may follow.
    fn playing(cameras: u32, location: &str, properties: &str) -> Self {
        init();
        let source = |camera| {
            format!(
                "rtspmuxsrc name=source{camera} location={location}/cam/{camera} latency=0 \
                 user-id=admin {properties} ! fakesink name=sink{camera} sync=false async=false"
            )
        };
        let line: Vec<String> = (1..=cameras).map(source).collect();
        let player = Player::new(&line.join(" "));
        let mux = Mux::builder().build();
        player.pipeline.set_context(&pool_context(&mux));
        let seen = (1..=cameras).map(|camera| player.seen_by(&format!("sink{camera}")));
        let seen = seen.collect();
        player.set_state(gst::State::Playing).unwrap();
        Self { player, seen }
    }

    /// These cameras show their own pictures.
    fn assert_own(&self, server: &MockServer, cameras: impl Iterator<Item = u32>) {
        for camera in cameras {
            let seen = &self.seen[camera as usize - 1];
            let before = seen.count();
            server.send_packets(&format!("/cam/{camera}"), 3);
            for buffer in &seen.wait_for(before + 3)[before..] {
                let packet = RtpPacket::parse(&buffer.map_readable().unwrap()).unwrap();
                assert_eq!(packet.ssrc, Camera::ssrc(camera, 0), "camera {camera}");
            }
        }
    }

    /// Errors so far, and the source that each is of.
    fn errors(&self) -> Vec<(String, gst::glib::Error)> {
        let bus = self.player.pipeline.bus().unwrap();
        let next = || bus.pop_filtered(&[gst::MessageType::Error]);
        let messages = std::iter::from_fn(next);
        let read = |message: gst::Message| match message.view() {
            gst::MessageView::Error(error) => {
                let source = error.src().map(|source| source.name().to_string());
                (source.unwrap_or_default(), error.error())
            }
            _ => unreachable!("asked for errors"),
        };
        messages.map(read).collect()
    }
}

fn playing(count: u32) -> impl Fn(&ServerView) -> bool {
    move |view| view.playing() == count as usize
}

fn f46_all_cameras_of_an_odd_server_play_within_two_seconds() {
    let oddities = [
        vec![AccountOddity::RealmPerCamera],
        vec![AccountOddity::NonceGoodOnce],
        vec![AccountOddity::ServersNewestNonceGoodOnce],
        vec![AccountOddity::ClosesBehind401 { is_announced: true }],
        vec![AccountOddity::ClosesBehind401 {
            is_announced: false,
        }],
        vec![AccountOddity::BrokenSha256],
    ];
    for oddity in oddities {
        for cameras in [1, 4, 16] {
            let case = format!("{oddity:?}, {cameras} cameras");
            let server = server(cameras, &oddity);
            let began = Instant::now();
            let wall = Wall::playing(cameras, &server.url(""), "user-pw=right");
            assert!(server.wait_until(playing(cameras), PATIENCE), "{case}");
            let took = began.elapsed();
            println!("{case}: {took:?}");
            assert!(took < LONGEST_START, "{case}: {took:?}");
            wall.assert_own(&server, 1..=cameras);
            assert!(wall.errors().is_empty(), "{case}: {:?}", wall.errors());
            let is_broken = oddity.contains(&AccountOddity::BrokenSha256);
            assert_eq!(server.wrong_passwords(), usize::from(is_broken), "{case}");
        }
    }
}
for_both_managers!(f46_all_cameras_of_an_odd_server_play_within_two_seconds);

fn f22_a_camera_that_this_user_may_not_see_is_the_only_error() {
    let forbidden = 2;
    let server = server(8, &[AccountOddity::Forbids(format!("/cam/{forbidden}"))]);
    let wall = Wall::playing(8, &server.url(""), "user-pw=right");
    let (error, _) = wall.player.error();
    assert!(error.matches(gst::ResourceError::NotAuthorized), "{error}");
    assert!(error.to_string().contains("/cam/2"), "{error}");
    assert!(server.wait_until(playing(7), PATIENCE));
    wall.assert_own(&server, (1..=8).filter(|camera| *camera != forbidden));
    assert!(wall.errors().is_empty(), "{:?}", wall.errors());
}
for_both_managers!(f22_a_camera_that_this_user_may_not_see_is_the_only_error);

fn f21_a_stale_nonce_is_answered_whatever_request_meets_it() {
    // Each nonce is good for so many requests, and short sessions are kept alive by GET_PARAMETER.
    for (requests, cameras) in [(1, 1), (1, 4), (1, 16), (3, 16)] {
        let server = MockServer::builder()
            .cameras(cameras)
            .credentials(digest())
            .rotate_nonce_after(requests)
            .behaviour(Behaviour::SessionSuffix(";timeout=1".to_owned()))
            .start();
        let wall = Wall::playing(cameras, &server.url(""), "user-pw=right");
        assert!(server.wait_until(playing(cameras), PATIENCE));
        wall.assert_own(&server, 1..=cameras);
        // Where each nonce is good once, each is asked for twice.
        let kept_alive = 2 * cameras as usize;
        let is_kept = |view: &ServerView| view.count("GET_PARAMETER") >= kept_alive;
        assert!(server.wait_until(is_kept, PATIENCE));
        wall.assert_own(&server, 1..=cameras);
        let errors = wall.errors();
        assert!(
            errors.is_empty(),
            "{requests}, {cameras} cameras: {errors:?}"
        );
        assert_eq!(
            server.sessions_made(),
            cameras as usize,
            "none was made anew"
        );
        drop(wall);
        assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
        assert_eq!(server.violations(), Vec::<String>::new());
    }
}
for_both_managers!(f21_a_stale_nonce_is_answered_whatever_request_meets_it);

/// A mock server behind TLS, whose certificate a file vouches for.
struct Secured {
    server: MockServer,
    front: TlsFront,
    file: std::path::PathBuf,
}

impl Secured {
    fn new(name: &str, server: MockServer) -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&Request::server(&["127.0.0.1"]));
        let front = TlsFront::start(&identity, server.address());
        let name = format!("rtspmux-{}-{name}.pem", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, authority.pem()).unwrap();
        Self {
            server,
            front,
            file,
        }
    }

    fn playing(&self, cameras: u32, password: &str) -> Wall {
        let file = self.file.display();
        let properties = format!("tls-ca-file={file} user-pw={password}");
        Wall::playing(cameras, &self.front.url_by_address(""), &properties)
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

#[test]
fn f22_over_tls_a_wrong_password_is_sent_twice_for_sixteen_cameras() {
    let secured = Secured::new("wrong", server(16, &[AccountOddity::LocksAfter(5)]));
    let wall = secured.playing(16, "wrong");
    for _ in 0..16 {
        let (error, _) = wall.player.error();
        assert!(error.matches(gst::ResourceError::NotAuthorized), "{error}");
    }
    assert_eq!(tries(&secured.server), 2);
}

#[test]
fn f46_over_tls_a_realm_for_each_camera_plays() {
    for cameras in [4, 16] {
        let secured = Secured::new("realms", server(cameras, &[AccountOddity::RealmPerCamera]));
        let wall = secured.playing(cameras, "right");
        let server = &secured.server;
        assert!(server.wait_until(playing(cameras), PATIENCE));
        wall.assert_own(server, 1..=cameras);
        assert!(wall.errors().is_empty(), "{:?}", wall.errors());
        assert_eq!(server.wrong_passwords(), 0);
    }
}
