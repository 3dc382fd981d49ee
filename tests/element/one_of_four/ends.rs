//! One of four cameras whose server ends something: a recording, or the connection at a keep-alive.

use std::time::{Duration, Instant};

use gstreamer as gst;

use super::{INTERVAL, Kind, ODD, PATH, PICTURE, Scene, Tls};
use crate::player::{PATIENCE, for_both_managers};
use crate::support::mock_server::{
    Behaviour, Builder, Camera, Reaction, Recorded, Rule, ServerView,
};
use crate::support::rtsp::{Request, rtcp_bye};

/// A neighbour whose connection the odd camera's server closed may be without pictures for so long; on a
/// machine that does nothing else it is a tenth of that.
const GAP: Duration = Duration::from_secs(2);

/// How a recorder ends a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Bye,
    Teardown,
    Close,
    HalfClose,
}

/// How many requests of that method came for a camera.
fn count(view: &ServerView, method: &str, path: &str) -> usize {
    let is_it = |it: &&Recorded| it.method == method && it.uri.contains(path);
    view.requests.iter().filter(is_it).count()
}

impl Scene {
    fn end(&self, how: End) {
        let session = self.session();
        match how {
            End::Bye => {
                let ssrc = Camera::ssrc(ODD, 0);
                let empty = [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes()].concat();
                let bye = [empty, rtcp_bye(ssrc).to_vec()].concat();
                self.send_frame(&session, session.tracks[0].1.1, bye);
            }
            End::Teardown => {
                self.server.expire_session(&session.id);
                let teardown = Request::new("TEARDOWN", &self.server.url(PATH));
                let teardown = teardown.header("Session", &session.id);
                self.server.send_request(session.connection, teardown);
            }
            End::Close => self.server.close_connection(session.connection),
            End::HalfClose => self.server.half_close_connections(),
        }
    }

    /// The neighbours play, for that time.
    fn neighbours_play(&self, times: usize) {
        let plays = |view: &ServerView| {
            (1..ODD).all(|camera| {
                let path = format!("/cam/{camera}");
                let mut sessions = view.sessions.iter();
                let is_playing = sessions.any(|it| it.camera == path && it.is_playing);
                is_playing && count(view, "PLAY", &path) == times
            })
        };
        assert!(self.server.wait_until(plays, PATIENCE));
        let before: Vec<_> = self.seen.iter().map(|(_, seen)| seen.count()).collect();
        self.server.send_packets_to_all(5);
        for ((_, seen), before) in self.seen.iter().zip(before) {
            seen.wait_for(before + 5);
        }
        self.neighbours.assert_no_error();
    }
}

fn recording() -> Kind {
    // 20 pictures, 30 a second.
    Kind::new("a recording").described(&format!("a=range:npt=0-0.667\r\n{PICTURE}"))
}

fn play_to_the_end(how: End, tls: Option<&Tls>) {
    println!("{how:?}");
    let scene = Scene::new(&recording(), tls);
    scene.server.send_packets(PATH, 20);
    scene.picture.wait_for(20);
    scene.neighbours_play(1);
    let is_shared = scene.session().connection == 0;
    assert!(is_shared, "the recording has a connection of its own");
    let ended = Instant::now();
    scene.end(how);
    scene.odd.message(gst::MessageType::Eos);
    let closes = matches!(how, End::Close | End::HalfClose);
    scene.neighbours_play(if closes { 2 } else { 1 });
    assert!(ended.elapsed() < GAP, "{:?}", ended.elapsed());
    assert_eq!(count(&scene.server.view(), "PLAY", PATH), 1, "played again");
}

for_both_managers!(a_recording_of_one_of_four_cameras_ends_as_announced);
fn a_recording_of_one_of_four_cameras_ends_as_announced() {
    for how in [End::Bye, End::Teardown, End::Close, End::HalfClose] {
        play_to_the_end(how, None);
    }
}

/// Sessions are over after a second, so a keep-alive comes each second.
fn short_lived(builder: Builder, public: &str) -> Builder {
    builder
        .behaviour(Behaviour::SessionSuffix(";timeout=1".to_owned()))
        .behaviour(Behaviour::Public(public.to_owned()))
        .behaviour(Behaviour::Header("Public".to_owned(), public.to_owned()))
}

/// The server ends a session, or the connection, at this keep-alive of the odd camera.
fn keep_alive_kills(kills: &str, reaction: Reaction, tls: Option<&Tls>) {
    println!("{reaction:?} at {kills}");
    let closes = matches!(reaction, Reaction::Close);
    let kind = Kind::new(kills).rule(Rule::new(kills, reaction));
    let (other, kind) = match kills {
        "OPTIONS" => {
            let server = |it| short_lived(it, "OPTIONS, DESCRIBE, SETUP, PLAY");
            ("GET_PARAMETER", kind.server(server))
        }
        _ => {
            let server = |it| short_lived(it, "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER");
            ("OPTIONS", kind.server(server))
        }
    };
    let scene = Scene::new(&kind, tls);
    let is_kept = |view: &ServerView| count(view, other, PATH) >= 3 && view.playing() == 4;
    let deadline = Instant::now() + PATIENCE;
    while !is_kept(&scene.server.view()) {
        assert!(Instant::now() < deadline, "not kept alive by {other}");
        scene.server.send_packets_to_all(1);
        scene.server.wait_until(is_kept, INTERVAL);
    }
    assert_eq!(count(&scene.server.view(), kills, PATH), 1);
    scene.neighbours_play(if closes { 2 } else { 1 });
    scene.odd.assert_no_error();
}

#[test]
fn a_keep_alive_at_which_one_of_four_cameras_ends_is_not_sent_again() {
    for kills in ["GET_PARAMETER", "OPTIONS"] {
        for reaction in [Reaction::Close, Reaction::Teardown] {
            keep_alive_kills(kills, reaction, None);
        }
    }
}

#[test]
fn ends_are_the_same_over_tls() {
    let tls = Tls::new("ends-ca.pem");
    for how in [End::Bye, End::Teardown, End::Close, End::HalfClose] {
        play_to_the_end(how, Some(&tls));
    }
    keep_alive_kills("GET_PARAMETER", Reaction::Close, Some(&tls));
}
