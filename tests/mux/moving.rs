//! Sessions that play and had better be elsewhere: moved, made before broken.

use std::sync::Arc;

use gstrtspmux::mux::{Mux, PacketKind, Pooling, Session, SharingVerdict};

use crate::{
    player::{PATIENCE, camera_url, mux, next_rtp, play, play_camera, pooled, within_patience},
    support::mock_server::{Behaviour, Builder, Camera, Family, MockServer, Reaction, Rule},
};

/// Shares until camera 3 comes, to which it gives the channels of camera 1.
fn treacherous() -> Builder {
    MockServer::builder()
        .cameras(4)
        .family(Family::Gst)
        .rule(Rule::new("SETUP", Reaction::status(453)).camera("/cam/4"))
        .rule(
            Rule::new("SETUP", Reaction::channels("0-1"))
                .camera("/cam/3")
                .times(1),
        )
}

/// Its next packets, until one is the first of a new life: the camera of each, and none is missing.
async fn follow_to_a_new_life(server: &MockServer, camera: u32, session: &mut Session) {
    let before = session.monitor().stats().connection;
    let mut expected = None;
    loop {
        server.send_packets_to_all(1);
        let packet = session.next().await.unwrap();
        if packet.kind != PacketKind::Rtp {
            continue;
        }
        assert_eq!(Camera::number_of(&packet.payload), Some(camera));
        let index = Camera::index_of(&packet.payload).unwrap();
        if packet.discontinuity {
            assert_eq!(index, 0, "from its beginning");
            assert_ne!(session.monitor().stats().connection, before);
            return;
        }
        assert!(
            expected.is_none_or(|expected| expected == index),
            "a gap before it moved"
        );
        expected = Some(index + 1);
    }
}

async fn two_playing(mux: &Mux, server: &MockServer) -> Vec<Session> {
    let mut sessions = Vec::new();
    for camera in 1..=2 {
        sessions.push(play_camera(mux, server, camera).await);
    }
    assert_eq!(server.accepted(), 1);
    sessions
}

#[tokio::test]
async fn f11_what_plays_on_a_connection_that_is_mixed_up_moves_without_a_gap() {
    let server = treacherous().start();
    let mux = mux();
    let mut sessions = two_playing(&mux, &server).await;
    let third = play_camera(&mux, &server, 3).await;
    for (camera, session) in (1..).zip(&mut sessions) {
        follow_to_a_new_life(&server, camera, session).await;
    }
    sessions.push(third);
    // The old connection is closed without a request: its ids may be those of any session.
    assert!(server.wait_until(|view| view.open_connections == 3, PATIENCE));
    assert_eq!(server.view().count("TEARDOWN"), 0);
    assert_eq!(mux.stats().servers[0].sharing, SharingVerdict::No);
    for (camera, session) in (1..).zip(&mut sessions) {
        server.send_packets(&format!("/cam/{camera}"), 1);
        let packet = session.next().await.unwrap();
        assert_eq!(Camera::number_of(&packet.payload), Some(camera));
        assert!(session.rtcp_sender().try_send(0, RECEIVER_REPORT.to_vec()));
    }
    assert!(server.wait_until(|view| view.frames.len() >= 3, PATIENCE));
    let channels: Vec<_> = server
        .frames_from_client()
        .iter()
        .map(|f| (f.connection, f.channel))
        .collect();
    assert_eq!(channels.len(), 3, "{channels:?}");
}

/// So many packets have come on each of the server's connections.
async fn until_received(mux: &Mux, packets: u64) {
    let is_there = || {
        let stats = mux.stats();
        let mut connections = stats.servers[0].connections.iter();
        connections.all(|connection| connection.packets >= packets)
    };
    within_patience(async {
        while !is_there() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_moves_nothing_and_what_waits_comes_first() {
    let reports = Behaviour::ReportsBeforePlayAnswer;
    let server = Arc::new(treacherous().behaviour(reports).start());
    let mux = mux();
    let mut sessions = two_playing(&mux, &server).await;
    let mut session = sessions.remove(0);
    let _third = play_camera(&mux, &server, 3).await;
    // While it asks for packets its successor comes up, and gets nothing yet but a report.
    let watched = Arc::clone(&server);
    let has_successor = move || watched.wait_until(|view| view.playing() == 4, PATIENCE);
    tokio::select! {
        packet = next_rtp(&mut session) => panic!("the server did not send {packet:?}"),
        seen = tokio::task::spawn_blocking(has_successor) => assert!(seen.unwrap()),
    }
    server.send_packets_to_all(3);
    until_received(&mux, 3).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        let packet = next_rtp(&mut session).await.unwrap();
        let index = Camera::index_of(&packet.payload).unwrap();
        seen.push((index, packet.discontinuity));
    }
    let [old, new] = [false, true].map(|is_new| [(0, is_new), (1, false), (2, false)]);
    assert_eq!(seen, [old, new].concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_move_is_seen_where_it_stays() {
    let gone = Rule::new("SETUP", Reaction::status(404)).camera("/cam/1");
    let server = treacherous().rule(gone.skip(1)).start();
    let mux = mux();
    let mut session = two_playing(&mux, &server).await.remove(0);
    let before = session.monitor().stats().connection;
    let _third = play_camera(&mux, &server, 3).await;
    let mut has_moved = false;
    within_patience(async {
        loop {
            server.send_packets("/cam/1", 1);
            next_rtp(&mut session).await.unwrap();
            let is_moving = session.monitor().stats().is_moving;
            if has_moved && !is_moving {
                break;
            }
            has_moved |= is_moving;
        }
    })
    .await;
    assert_eq!(session.monitor().stats().connection, before);
    assert_eq!(session.monitor().stats().streams.len(), 1);
}

/// An empty one (RFC 3550 6.4.2).
const RECEIVER_REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 1];

#[tokio::test]
async fn where_the_server_is_full_at_times_nothing_is_moved_that_plays() {
    let server = treacherous().start();
    let mux = mux();
    let one_connection = Pooling {
        max_connections_per_server: 1,
        ..Pooling::default()
    };
    let play = |camera| play(&mux, pooled(&camera_url(&server, camera), &one_connection));
    let mut sessions = vec![play(1).await.unwrap(), play(2).await.unwrap()];
    let refused = play(4).await;
    assert_eq!(refused.unwrap_err().status(), Some(453));
    let _third = play(3).await.unwrap();
    assert_eq!(mux.stats().servers[0].sharing, SharingVerdict::No);
    for round in 0..20 {
        server.send_packets_to_all(1);
        for (camera, session) in (1..).zip(&mut sessions) {
            let packet = session.next().await.unwrap();
            let seen = (
                Camera::number_of(&packet.payload),
                Camera::index_of(&packet.payload),
            );
            assert_eq!(seen, (Some(camera), Some(round)));
        }
    }
    let view = server.view();
    let of_first_two = view.sessions.iter().filter(|s| s.camera != "/cam/3");
    assert_eq!(of_first_two.filter(|s| s.connection == 0).count(), 2);
}
