//! Servers that do the worst at a bad moment, under sixteen cameras and several pipelines.

use std::sync::Arc;

use gst::prelude::*;
use gstreamer as gst;

use crate::player::{PATIENCE, PROMPT, Player, Seen, init};
use crate::support::mock_server::{
    Algorithm, Auth, Behaviour, Camera, Family, MockServer, Reaction, Rule, ServerView,
};
use crate::support::rtsp::RtpPacket;

const CAMERAS: u32 = 16;

/// Some cameras of a server in a pipeline of their own.
struct Wall {
    player: Player,
    cameras: Vec<(u32, Arc<Seen>)>,
}

impl Wall {
    fn playing(server: &MockServer, cameras: impl Iterator<Item = u32>, properties: &str) -> Self {
        init();
        let cameras: Vec<u32> = cameras.collect();
        let line = |camera: &u32| {
            format!(
                "rtspmuxsrc name=source-{camera} location={} latency=0 {properties} \
                 fakesink name=sink-{camera} sync=false async=false ",
                server.url(&format!("/cam/{camera}"))
            )
        };
        let player = Player::new(&cameras.iter().map(line).collect::<String>());
        for camera in &cameras {
            // Linked anew in every run: gst_parse_launch does so in the first one only.
            let sink = player.element(&format!("sink-{camera}"));
            let sink = sink.static_pad("sink").unwrap().downgrade();
            let source = player.element(&format!("source-{camera}"));
            source.connect_pad_added(move |_, pad| {
                if let Some(sink) = sink.upgrade().filter(|sink| !sink.is_linked()) {
                    pad.link(&sink).unwrap();
                }
            });
        }
        let watched = |camera| (camera, player.seen_by(&format!("sink-{camera}")));
        let cameras = cameras.into_iter().map(watched).collect();
        player.set_state(gst::State::Playing).unwrap();
        Self { player, cameras }
    }

    /// Each camera shows its own packets, and more of them than before.
    fn assert_goes_on(&self, server: &MockServer) {
        for (camera, seen) in &self.cameras {
            let before = seen.count();
            assert!(server.send_packets(&format!("/cam/{camera}"), 3) > 0);
            for buffer in seen.wait_for(before + 3) {
                let packet = RtpPacket::parse(&buffer.map_readable().unwrap()).unwrap();
                assert_eq!(packet.ssrc, Camera::ssrc(*camera, 0), "camera {camera}");
            }
        }
        self.player.assert_no_error();
    }
}

fn builder() -> crate::support::mock_server::Builder {
    MockServer::builder().cameras(CAMERAS)
}

fn all_play(view: &ServerView) -> bool {
    view.playing() == CAMERAS as usize
}

/// What is cut off is no part of what comes on the next connection.
#[test]
fn half_of_anything_before_a_close_costs_one_reconnect() {
    let halves: [&[u8]; 5] = [
        &[b'$', 0, 0, 100, 0x80, 96, 1, 2],
        &[b'$', 0],
        b"RTSP/1.0 200 OK\r\nCSeq: 9",
        b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\nab",
        &[0xff; 3000],
    ];
    let servers = halves.map(|half| (half, builder().family(Family::Gst).start()));
    let walls = servers.each_ref().map(|(_, server)| {
        let wall = Wall::playing(server, 1..=CAMERAS, "");
        assert!(server.wait_until(all_play, PATIENCE));
        wall.assert_goes_on(server);
        wall
    });
    for (half, server) in &servers {
        assert_eq!(server.accepted(), 1);
        server.send_raw(0, half);
        server.close_connections();
    }
    for (wall, (half, server)) in walls.iter().zip(&servers) {
        let is_back = |view: &ServerView| view.accepted == 2 && all_play(view);
        assert!(server.wait_until(is_back, PATIENCE), "{half:?}");
        wall.assert_goes_on(server);
        let plays = server.view().count("PLAY");
        assert_eq!(plays, 2 * CAMERAS as usize, "{half:?}");
    }
    drop(walls);
    for (half, server) in servers {
        assert_eq!(server.violations(), [""; 0], "{half:?}");
    }
}

/// Media is the proof that a session is alive, and a password is not tried again for a keep-alive.
#[test]
fn f22_a_keep_alive_that_is_answered_401_ends_no_session() {
    let digest = || Auth::Digest {
        algorithm: Algorithm::Md5,
        user: "user".to_owned(),
        password: "right".to_owned(),
    };
    let short = Behaviour::SessionSuffix(";timeout=2".to_owned());
    let servers = [
        builder().behaviour(short.clone()).start(),
        builder().behaviour(short).credentials(digest()).start(),
    ];
    let walls = servers.each_ref().map(|server| {
        let wall = Wall::playing(server, 1..=CAMERAS, "user-id=user user-pw=right");
        assert!(server.wait_until(all_play, PATIENCE));
        wall.assert_goes_on(server);
        wall
    });
    let keep_alives = |view: &ServerView| view.count("GET_PARAMETER") + view.count("OPTIONS");
    for server in &servers {
        let before = keep_alives(&server.view());
        for method in ["GET_PARAMETER", "OPTIONS"] {
            server.add_rule(Rule::new(method, Reaction::Unauthorized));
        }
        let is_on = |view: &ServerView| keep_alives(view) > before;
        assert!(server.wait_until(is_on, PATIENCE));
    }
    for (wall, server) in walls.iter().zip(&servers) {
        wall.assert_goes_on(server);
        assert_eq!(
            server.sessions_made(),
            CAMERAS as usize,
            "none was made anew"
        );
    }
}

/// Applications restart pipelines that do not play.
#[test]
fn f44_pipelines_that_change_state_in_a_storm_do_so_at_once_and_play_afterwards() {
    let states = [
        gst::State::Paused,
        gst::State::Playing,
        gst::State::Ready,
        gst::State::Paused,
        gst::State::Null,
        gst::State::Playing,
    ];
    for reaction in [
        Reaction::HalfClose,
        Reaction::Teardown,
        Reaction::Goodbye,
        Reaction::Ignore,
    ] {
        // A server is there again when media comes.
        let server = builder()
            .family(Family::Gst)
            .behaviour(Behaviour::PacketsAfterPlay(2))
            .start();
        let quarter = |number: u32| 4 * number + 1..=4 * number + 4;
        let walls = [0, 1, 2, 3].map(|number| Wall::playing(&server, quarter(number), ""));
        assert!(server.wait_until(all_play, PATIENCE), "{reaction:?}");
        server.add_rule(Rule::new("PLAY", reaction.clone()));
        server.close_connections();
        for state in states.repeat(3) {
            let before = server.view().requests.len();
            for wall in &walls[1..] {
                let begin = std::time::Instant::now();
                wall.player.set_state(state).unwrap();
                assert!(begin.elapsed() < PROMPT, "{reaction:?}, {state:?}");
            }
            // Some of it is under way when the next state comes.
            let is_under_way = |view: &ServerView| view.requests.len() > before + 4;
            if state == gst::State::Playing {
                assert!(server.wait_until(is_under_way, PATIENCE), "{reaction:?}");
            }
        }
        server.clear_rules();
        assert!(server.wait_until(all_play, 2 * PATIENCE), "{reaction:?}");
        assert_eq!(server.sessions_alive(), CAMERAS as usize, "{reaction:?}");
        drop(walls);
        let is_empty = |view: &ServerView| view.sessions.is_empty();
        assert!(server.wait_until(is_empty, PATIENCE), "{reaction:?}");
        assert_eq!(server.violations(), [""; 0], "{reaction:?}");
    }
}

/// Its answers fill the socket, and each of them is an answer to send.
#[test]
fn a_server_that_asks_without_end_and_reads_nothing_is_left() {
    let server = builder().family(Family::Gst).start();
    let wall = Wall::playing(&server, 1..=CAMERAS, "");
    assert!(server.wait_until(all_play, PATIENCE));
    wall.assert_goes_on(&server);
    // The server does not read on from the next request, which is one of its own sessions' end.
    server.add_rule(Rule::new("*", Reaction::Hold));
    let asks = |number| format!("OPTIONS * RTSP/1.0\r\nCSeq: {number}\r\n\r\n");
    let asks: String = (0..200_000).map(asks).collect();
    server.send_raw(0, asks.as_bytes());
    server.clear_rules();
    server.release();
    let is_back = |view: &ServerView| view.accepted > 1 && all_play(view);
    assert!(server.wait_until(is_back, PATIENCE));
    wall.assert_goes_on(&server);
}
