//! Servers that give all sessions of a connection one id: none of them is played there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::player::{PATIENCE, Player, Seen, for_both_managers, init};
use crate::support::mock_server::{
    Behaviour, Builder, Camera, Family, MockServer, Recorded, ServerView,
};
use crate::support::rtsp::RtpPacket;

/// A camera has its first picture within a second; a loaded machine takes longer.
const SOON: Duration = Duration::from_secs(2);

fn server(behaviours: &[Behaviour], family: Option<Family>, cameras: u32) -> MockServer {
    start_with(behaviours, family, cameras, Camera::video)
}

fn start_with(
    behaviours: &[Behaviour],
    family: Option<Family>,
    cameras: u32,
    camera: fn() -> Camera,
) -> MockServer {
    let mut builder = MockServer::builder().behaviour(Behaviour::PacketsAfterPlay(20));
    for number in 1..=cameras {
        builder = builder.camera(&format!("/cam/{number}"), camera().number(number));
    }
    if let Some(family) = family {
        builder = builder.family(family);
    }
    let with = |builder: Builder, behaviour: &Behaviour| builder.behaviour(behaviour.clone());
    behaviours.iter().fold(builder, with).start()
}

fn camera_of(request: &Recorded) -> Option<&str> {
    let (_, camera) = request.uri.split_once("/cam/")?;
    camera.split('/').next()
}

/// By connection: the cameras that a request of this method was sent for.
fn cameras_of(view: &ServerView, method: &str) -> BTreeMap<usize, BTreeSet<String>> {
    let mut cameras: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for request in view.requests.iter().filter(|r| r.method == method) {
        let of_connection = cameras.entry(request.connection).or_default();
        of_connection.extend(camera_of(request).map(ToOwned::to_owned));
    }
    cameras
}

fn assert_own_pictures(seen: &[Arc<Seen>]) {
    for (camera, seen) in (1..).zip(seen) {
        for buffer in seen.wait_for(1) {
            let data = buffer.map_readable().unwrap();
            let packet = RtpPacket::parse(&data).unwrap();
            assert_eq!(packet.ssrc, Camera::ssrc(camera, 0), "camera {camera}");
        }
    }
}

/// No camera plays where two were set up: all of them were set up anew.
fn assert_none_plays_where_two_were_set_up(server: &MockServer) {
    let view = server.view();
    let plays = cameras_of(&view, "PLAY");
    for (connection, cameras) in cameras_of(&view, "SETUP") {
        let is_shared = cameras.len() > 1;
        let has_played = plays.contains_key(&connection);
        assert!(
            !(is_shared && has_played),
            "{connection}: {cameras:?} {plays:?}"
        );
    }
}

fn start(server: &MockServer, cameras: u32) -> (Player, Vec<Arc<Seen>>) {
    let line = |camera| {
        let url = server.url(&format!("/cam/{camera}"));
        format!(
            "rtspmuxsrc location={url} latency=0 ! fakesink name=sink{camera} sync=false async=false "
        )
    };
    let player = Player::new(&(1..=cameras).map(line).collect::<String>());
    let seen = (1..=cameras).map(|camera| player.seen_by(&format!("sink{camera}")));
    let seen = seen.collect();
    (player, seen)
}

for_both_managers!(one_id_for_all_costs_no_camera_its_first_second);
fn one_id_for_all_costs_no_camera_its_first_second() {
    init();
    let constant = Behaviour::SessionId("12345678".to_owned());
    let servers: [(&[Behaviour], Option<Family>); 5] = [
        (std::slice::from_ref(&constant), None),
        (&[], Some(Family::Lal)),
        (&[], Some(Family::AioToolkit)),
        (&[Behaviour::OneSource], None),
        (&[constant.clone(), Behaviour::OneSource], None),
    ];
    for (behaviours, family) in servers {
        for cameras in [2, 4, 16] {
            let server = server(behaviours, family, cameras);
            let (player, seen) = start(&server, cameras);
            let begun = Instant::now();
            player.set_state(gstreamer::State::Playing).unwrap();
            seen.iter().for_each(|seen| drop(seen.wait_for(1)));
            let took = begun.elapsed();
            println!("{behaviours:?} {family:?}, {cameras}: {took:?}");
            assert!(
                took < SOON,
                "{behaviours:?} {family:?}, {cameras}: {took:?}"
            );
            let all_play = |view: &ServerView| view.playing() == cameras as usize;
            assert!(server.wait_until(all_play, PATIENCE));
            assert_own_pictures(&seen);
            assert_none_plays_where_two_were_set_up(&server);
            player.assert_no_error();
        }
    }
}

/// Of presentations with sound the second medium is set up under the id as well, and a server that
/// takes its time for each request answers while others wait.
#[test]
fn one_id_for_all_costs_slow_cameras_with_sound_no_more() {
    init();
    let constant = Behaviour::SessionId("12345678".to_owned());
    let slow = Behaviour::ServiceTime(Duration::from_millis(10));
    for one_id in [constant, Behaviour::OneSource] {
        for cameras in [2, 4, 16] {
            let server = start_with(&[one_id.clone(), slow.clone()], None, cameras, Camera::av);
            let (player, seen) = start(&server, cameras);
            let begun = Instant::now();
            player.set_state(gstreamer::State::Playing).unwrap();
            seen.iter().for_each(|seen| drop(seen.wait_for(1)));
            let took = begun.elapsed();
            println!("{one_id:?}, {cameras}: {took:?}");
            assert!(took < SOON, "{one_id:?}, {cameras}: {took:?}");
            assert_none_plays_where_two_were_set_up(&server);
            player.assert_no_error();
        }
    }
}

/// The next one comes as soon as the server has seen a request of the one before.
#[test]
fn one_id_for_all_silences_none_where_they_come_one_after_another() {
    init();
    let constant = Behaviour::SessionId("12345678".to_owned());
    let slow = Behaviour::ServiceTime(Duration::from_millis(5));
    for one_id in [constant, Behaviour::OneSource] {
        for awaited in ["DESCRIBE", "SETUP", "PLAY"] {
            let server = server(&[one_id.clone(), slow.clone()], None, 8);
            let mut players = Vec::new();
            for number in 1..=8 {
                let before = server.view().count(awaited);
                players.push(one(&server, number));
                let came = |view: &ServerView| view.count(awaited) > before;
                assert!(server.wait_until(came, PATIENCE), "{awaited}");
            }
            let all_play = |view: &ServerView| view.playing() == 8;
            assert!(
                server.wait_until(all_play, PATIENCE),
                "{one_id:?} {awaited}"
            );
            for (player, seen) in &players {
                let before = seen.wait_for(1).len();
                server.send_packets_to_all(20);
                seen.wait_for(before + 10);
                player.assert_no_error();
            }
            let seen: Vec<_> = players.into_iter().map(|(_, seen)| seen).collect();
            assert_own_pictures(&seen);
        }
    }
}

/// One camera in a pipeline of its own.
fn one(server: &MockServer, number: u32) -> (Player, Arc<Seen>) {
    let url = server.url(&format!("/cam/{number}"));
    let player = Player::new(&format!(
        "rtspmuxsrc location={url} latency=0 ! fakesink name=sink sync=false async=false"
    ));
    let seen = player.seen_by("sink");
    player.set_state(gstreamer::State::Playing).unwrap();
    (player, seen)
}
