//! A camera that refuses user and password.

use gst::{glib, prelude::*};
use gstreamer as gst;

use super::{news, stats};
use crate::one_camera::{line, more, playing};
use crate::player::{Player, for_both_managers, init};
use crate::support::mock_server::{AccountOddity, Algorithm, Auth, Camera, MockServer};

/// A camera of the user admin, on this port or a free one.
fn protected(password: &str, port: u16) -> MockServer {
    MockServer::builder()
        .camera("/cam", Camera::video())
        .credentials(digest(password))
        .start_at(port)
}

fn digest(password: &str) -> Auth {
    Auth::Digest {
        algorithm: Algorithm::Md5,
        user: "admin".to_owned(),
        password: password.to_owned(),
    }
}

/// Requests with a password, or what stands for one.
fn tries(server: &MockServer) -> usize {
    let requests = server.requests();
    let with = requests
        .iter()
        .filter(|request| request.headers.contains("Authorization"));
    with.count()
}

#[test]
fn f22_a_wrong_password_stops_until_there_is_another_one() {
    init();
    let server = protected("right", 0);
    let player = Player::playing(&line(&server.url("/cam"), "user-id=admin user-pw=wrong"));
    let (error, _) = player.error();
    assert!(error.matches(gst::ResourceError::NotAuthorized), "{error}");
    assert_eq!(stats(&player).get::<&str>("state"), Ok("unauthorized"));
    assert_eq!(tries(&server), 1, "cameras lock accounts");
    player.element("source").set_property("user-pw", "right");
    let seen = player.seen_by("sink");
    more(&server, &seen, 1);
    player.assert_no_error();
    assert_eq!(stats(&player).get::<&str>("state"), Ok("playing"));
}

#[test]
fn f22_a_password_that_has_played_and_is_refused_waits_for_another_one_without_an_error() {
    init();
    let server = protected("right", 0);
    let port = server.address().port();
    let (player, seen) = playing(&server, "user-id=admin user-pw=right");
    server.stop();
    news(&player, "lost");
    let server = protected("other", port);
    let is_told = |message: &gst::Message| match message.view() {
        gst::MessageView::Progress(progress) => progress.get().2.contains("other credentials"),
        _ => false,
    };
    while !is_told(&player.message(gst::MessageType::Progress)) {}
    assert_eq!(stats(&player).get::<&str>("state"), Ok("unauthorized"));
    assert_eq!(tries(&server), 1, "cameras lock accounts");
    player.element("source").set_property("user-pw", "other");
    more(&server, &seen, 1);
    news(&player, "recovered");
    player.assert_no_error();
    assert_eq!(player.element("source").src_pads().len(), 1);
}

/// The warnings and errors of four cameras, once there are four.
fn told(player: &Player) -> Vec<glib::Error> {
    let next = || {
        let message = player.warning_or_error();
        match message.view() {
            gst::MessageView::Warning(warning) => warning.error(),
            gst::MessageView::Error(error) => error.error(),
            _ => unreachable!("asked for these"),
        }
    };
    std::iter::repeat_with(next).take(4).collect()
}

/// The first two that try are dead, which says nothing of the password.
fn f22_cameras_that_wait_behind_dead_ones_are_told_so_and_are_no_errors() {
    init();
    let paths = ["/1", "/2", "/3", "/4"];
    let all = paths.map(str::to_owned).to_vec();
    let builder = paths.iter().fold(MockServer::builder(), |builder, path| {
        builder.camera(path, Camera::video())
    });
    let server = builder
        .credentials(digest("right"))
        .account(AccountOddity::Dead(404, all))
        .start();
    let sources = paths.map(|path| {
        let source = line(&server.url(path), "user-id=admin user-pw=right");
        source
            .replace("=sink", &format!("=sink{}", &path[1..]))
            .replace("name=source", "")
    });
    let player = Player::playing(&sources.join(" "));
    let told = told(&player);
    let of = |code: gst::ResourceError| told.iter().filter(|it| it.matches(code)).count();
    assert_eq!(of(gst::ResourceError::NotFound), 2, "{told:?}");
    assert_eq!(of(gst::ResourceError::Busy), 2, "{told:?}");
    assert_eq!(tries(&server), 2);
}
for_both_managers!(f22_cameras_that_wait_behind_dead_ones_are_told_so_and_are_no_errors);
