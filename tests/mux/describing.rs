//! Where sessions are described, and how often: a DESCRIBE may cost the connection it is made on.

use std::{env, fs, process, time::Duration};

use gstrtspmux::mux::{ErrorKind, Mux, Pooling, Session, Timeouts};

use crate::{
    player::{
        PATIENCE, assert_clean, assert_own_media, camera_url, mux, options, play, play_all,
        play_camera, pooled, set_up, start, within_patience,
    },
    support::mock_server::{Behaviour, Camera, Family, MockServer, Reaction, Rule, ServerView},
};

/// Shares, does not say who it is, and closes a connection behind a 404.
fn touchy(cameras: u32) -> MockServer {
    MockServer::builder()
        .cameras(cameras)
        .behaviour(Behaviour::CloseOnNotFound)
        .start()
}

fn tolerant(cameras: u32) -> MockServer {
    MockServer::builder().cameras(cameras).start()
}

/// Works on the requests of a connection strictly in order.
fn in_order(cameras: u32) -> MockServer {
    MockServer::builder()
        .cameras(cameras)
        .family(Family::Gst)
        .start()
}

/// As gst-rtsp-server, but its sessions expire soon.
fn brief(cameras: u32) -> MockServer {
    let short = Behaviour::SessionSuffix(";timeout=15".to_owned());
    MockServer::builder()
        .cameras(cameras)
        .family(Family::Gst)
        .behaviour(short)
        .start()
}

async fn one_by_one(mux: &Mux, server: &MockServer, cameras: u32) -> Vec<Session> {
    let mut sessions = Vec::new();
    for camera in 1..=cameras {
        sessions.push(play_camera(mux, server, camera).await);
        assert_own_media(server, &mut sessions).await;
    }
    sessions
}

/// A camera that is not there, beside those that play.
async fn miss(mux: &Mux, server: &MockServer, sessions: &mut [Session]) {
    let error = play(mux, options(&server.url("/missing")))
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(404), "{error}");
    assert_own_media(server, sessions).await;
}

fn are_all_on_one(view: &ServerView) -> bool {
    let mut connections: Vec<usize> = view.sessions.iter().map(|s| s.connection).collect();
    connections.dedup();
    view.sessions.len() == 4 && connections.len() == 1
}

#[tokio::test]
async fn f25_a_404_that_costs_the_connection_costs_no_session() {
    let server = touchy(4);
    let mux = mux();
    let mut sessions = one_by_one(&mux, &server, 3).await;
    for _ in 0..3 {
        miss(&mux, &server, &mut sessions).await;
    }
    sessions.push(play_camera(&mux, &server, 4).await);
    assert_own_media(&server, &mut sessions).await;
    // The server may still have to forget what a connection had that it closed.
    assert!(server.wait_until(are_all_on_one, PATIENCE));
    let view = server.view();
    assert!(view.most_open_connections <= 2, "{view:?}");
}

/// The session is described on a connection that the server had given up, and then on a newer one. From
/// there it joins the older connection on which the others play.
#[tokio::test]
async fn f25_a_describe_only_connection_that_was_given_up_costs_no_sharing() {
    let server = touchy(4);
    let mux = mux();
    let mut sessions = one_by_one(&mux, &server, 3).await;
    server.add_rule(
        Rule::new("DESCRIBE", Reaction::Close)
            .camera("/cam/4")
            .times(1),
    );
    sessions.push(play_camera(&mux, &server, 4).await);
    assert_own_media(&server, &mut sessions).await;
    let requests = server.requests();
    let described: Vec<usize> = requests
        .iter()
        .filter(|request| request.method == "DESCRIBE" && request.uri.ends_with("/cam/4"))
        .map(|request| request.connection)
        .collect();
    assert!(described.len() >= 2, "given up before: {described:?}");
    assert!(
        server.wait_until(are_all_on_one, Duration::from_secs(5)),
        "{:?}",
        server.view().sessions
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f25_started_together_with_one_that_is_not_there_the_others_play() {
    for _ in 0..10 {
        let server = touchy(8);
        let mux = mux();
        let missing = start(&mux, options(&server.url("/missing")));
        let mut sessions = play_all(&mux, &server, 8, &Pooling::default()).await;
        assert_eq!(missing.await.unwrap().unwrap_err().status(), Some(404));
        assert_own_media(&server, &mut sessions).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f25_one_that_is_never_described_holds_up_the_others_until_that_times_out() {
    let server = touchy(3);
    let timeouts = Timeouts {
        describe: Duration::from_millis(800),
        fence: Duration::MAX,
        ..Timeouts::default()
    };
    let mux = Mux::builder().timeouts(timeouts).build();
    // What was played before asks for no other connection, and there is none.
    let pooling = Pooling {
        max_connections_per_server: 1,
        ..Pooling::default()
    };
    let camera = |camera| pooled(&camera_url(&server, camera), &pooling);
    drop(play_all(&mux, &server, 2, &pooling).await);
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    server.add_rule(Rule::new("DESCRIBE", Reaction::Unanswered).camera("/cam/3"));
    let missing = start(&mux, camera(3));
    assert!(server.wait_until(|view| view.count("DESCRIBE") == 3, PATIENCE));
    let session = within_patience(play(&mux, camera(1))).await.unwrap();
    assert_eq!(server.view().count("OPTIONS"), 0, "before a keep-alive");
    assert_own_media(&server, &mut [session]).await;
    let error = missing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[tokio::test]
async fn what_is_not_known_to_be_there_is_described_where_nothing_plays() {
    let server = tolerant(4);
    let mux = mux();
    let mut sessions = one_by_one(&mux, &server, 4).await;
    miss(&mux, &server, &mut sessions).await;
    assert_eq!(
        server.accepted(),
        3,
        "one for the canary, one to describe on"
    );
    let strange = |r: &&crate::support::mock_server::Recorded| r.uri.contains("is-not-there");
    assert_eq!(server.requests().iter().filter(strange).count(), 1, "once");
}

#[tokio::test]
async fn sessions_that_expire_soon_do_not_wait_behind_a_describe() {
    let server = brief(2);
    let mux = mux();
    let mut sessions = one_by_one(&mux, &server, 2).await;
    assert_own_media(&server, &mut sessions).await;
    let view = server.view();
    let of = |camera: &str, method: &str| {
        let mut requests = view.requests.iter();
        let found = requests.find(|r| r.method == method && r.uri.contains(camera));
        found.unwrap().connection
    };
    assert_ne!(of("/cam/2", "DESCRIBE"), of("/cam/1", "PLAY"), "aside");
    assert_eq!(
        of("/cam/2", "SETUP"),
        of("/cam/1", "PLAY"),
        "and then there"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_limit_those_that_are_described_aside_share_a_connection() {
    for server in [touchy(20), brief(20)] {
        let mux = mux();
        let pooling = Pooling {
            max_connections_per_server: 1,
            ..Pooling::default()
        };
        let camera = |camera| pooled(&camera_url(&server, camera), &pooling);
        let mut sessions = Vec::new();
        for number in 1..=2 {
            sessions.push(play(&mux, camera(number)).await.unwrap());
        }
        let openings: Vec<_> = (3..=20).map(|number| start(&mux, camera(number))).collect();
        for opening in openings {
            sessions.push(opening.await.unwrap().unwrap());
        }
        assert_own_media(&server, &mut sessions).await;
        let view = server.view();
        let connection = view.sessions[0].connection;
        assert!(view.sessions.iter().all(|s| s.connection == connection));
        assert!(view.most_open_connections <= 2, "{view:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f20_a_camera_that_takes_for_ever_holds_up_no_other_for_long() {
    let server = MockServer::builder()
        .cameras(8)
        .family(Family::Gst)
        .rule(Rule::new("DESCRIBE", Reaction::Hold).camera("/cam/8"))
        .start();
    let mux = mux();
    let mut sessions = one_by_one(&mux, &server, 2).await;
    let slow = start(&mux, options(&camera_url(&server, 8)));
    assert!(server.wait_until(|view| view.count("DESCRIBE") == 3, PATIENCE));
    for camera in 3..=7 {
        sessions.push(play_camera(&mux, &server, camera).await);
    }
    assert_own_media(&server, &mut sessions).await;
    assert!(!slow.is_finished());
    server.clear_rules();
    server.release();
    sessions.push(slow.await.unwrap().unwrap());
    assert_own_media(&server, &mut sessions).await;
    assert!(server.accepted() <= 3, "{}", server.accepted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_played_before_is_set_up_without_waiting_for_its_description() {
    let server = in_order(2);
    let mux = mux();
    drop(play_all(&mux, &server, 2, &Pooling::default()).await);
    assert_set_up_before_described(&mux, &server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_process_played_is_set_up_without_waiting_for_its_description() {
    let server = in_order(2);
    let path = env::temp_dir().join(format!("rtspmux-played-{}", process::id()));
    let mux = || Mux::builder().state(&path).build();
    let before = mux();
    drop(play_all(&before, &server, 2, &Pooling::default()).await);
    before.shutdown(PATIENCE).await;
    assert_set_up_before_described(&mux(), &server).await;
    fs::remove_file(path).unwrap();
}

/// Of a server with two cameras that both have played.
async fn assert_set_up_before_described(mux: &Mux, server: &MockServer) {
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    // The description is asked for, but comes late.
    server.add_rule(Rule::new("DESCRIBE", Reaction::Defer));
    let opening = start(mux, options(&camera_url(server, 1)));
    assert!(server.wait_until(|view| view.count("DESCRIBE") == 3, PATIENCE));
    assert!(server.wait_until(|view| view.sessions.len() == 1, PATIENCE));
    assert_eq!(server.view().playing(), 0, "it may have changed");
    server.clear_rules();
    server.release();
    let session = opening.await.unwrap().unwrap();
    assert_own_media(server, &mut [session]).await;
}

#[tokio::test]
async fn a_description_that_has_changed_is_set_up_anew() {
    let server = tolerant(2);
    let port = server.address().port();
    let mux = mux();
    drop(play_all(&mux, &server, 2, &Pooling::default()).await);
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    server.stop();
    let server = MockServer::builder()
        .camera("/cam/1", Camera::av().number(1))
        .camera("/cam/2", Camera::video().number(2))
        .start_at(port);
    let ready = set_up(&mux, options(&camera_url(&server, 1)))
        .await
        .unwrap();
    assert_eq!(ready.presentation().streams.len(), 2);
    assert_eq!(ready.streams().len(), 2);
    let session = ready.play().await.unwrap();
    assert_own_media(&server, &mut [session]).await;
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
}

/// Nothing goes out behind an unanswered DESCRIBE, however the sessions move, and what was only made to
/// describe on is closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_described_on_describe_only_connections_play_on_those_that_count() {
    for is_one_model in [false, true] {
        let cameras = match is_one_model {
            true => MockServer::builder().cameras_of_one_model(16),
            false => MockServer::builder().cameras(16),
        };
        let server = cameras
            .family(Family::Live555)
            .behaviour(Behaviour::ReentrantDescribe(Duration::from_millis(100)))
            .start();
        let mux = mux();
        let mut sessions = play_all(&mux, &server, 16, &Pooling::default()).await;
        assert_own_media(&server, &mut sessions).await;
        assert!(server.wait_until(|view| view.open_connections <= 4, PATIENCE));
        let view = server.view();
        // Four that count, one for each session that waits, and one on which a camera is described once
        // more.
        assert!(view.most_open_connections <= 17, "{view:?}");
        assert!(view.most_open_connections > 4, "{view:?}");
        assert_eq!(view.playing(), 16);
        assert_clean(&server);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_at_a_full_server_one_looks_for_room_and_the_others_wait_for_what_it_finds() {
    let server = MockServer::builder()
        .cameras(16)
        .family(Family::AtLimit(503))
        .start();
    let mux = mux();
    let openings = (1..=16).map(|camera| start(&mux, options(&camera_url(&server, camera))));
    let mut playing = Vec::new();
    for opening in openings.collect::<Vec<_>>() {
        match opening.await.unwrap() {
            Ok(session) => playing.push(session),
            Err(error) => assert_eq!(error.status(), Some(503), "{error}"),
        }
    }
    assert_eq!(playing.len(), 2);
    assert_eq!(server.accepted(), 2);
    assert_eq!(server.view().count("SETUP"), 17);
}

/// A guess: a relay that ends a camera's stream with a connection that described it and did not play it, as
/// xiu does, but names a base for control URLs, and shares.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_of_a_description_ends_no_session_at_a_relay_that_unpublishes() {
    for cameras in [1, 2, 4] {
        let server = MockServer::builder()
            .cameras_of_one_model(cameras)
            .behaviour(Behaviour::UnpublishesUnplayed)
            .start();
        let mut sessions = play_all(&mux(), &server, cameras, &Pooling::default()).await;
        assert_own_media(&server, &mut sessions).await;
        assert!(server.accepted() <= 2);
    }
}

/// A guess: the same, and it describes each camera of a connection as the first one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_of_a_description_costs_no_camera_at_a_relay_that_unpublishes_and_does_not_share()
{
    for cameras in [2, 4] {
        let server = MockServer::builder()
            .cameras(cameras)
            .behaviour(Behaviour::LatchesFirst)
            .behaviour(Behaviour::UnpublishesUnplayed)
            .start();
        let mut sessions = play_all(&mux(), &server, cameras, &Pooling::default()).await;
        assert_own_media(&server, &mut sessions).await;
        assert_eq!(server.accepted(), cameras as usize);
        // Each on the first connection, where all but one are described as the first one, and on its own.
        assert_eq!(server.view().count("DESCRIBE"), 2 * cameras as usize - 1);
    }
}
