//! Servers that cannot carry several sessions on one connection, or not that many.

use std::time::Duration;

use gstrtspmux::mux::{ErrorKind, Multiplex, Pooling, SharingVerdict};

use crate::{
    player::{
        PATIENCE, assert_own_media, camera_url, mux, next_of_mock, options, play, play_all,
        play_camera, pooled, set_up, start, with_credentials, within_patience,
    },
    support::mock_server::{
        Behaviour, ChannelPolicy, Excess, Family, MockServer, Reaction, Rule, ServerView,
    },
};

#[tokio::test]
async fn a_461_moves_the_session_to_the_next_connection() {
    let server = MockServer::builder()
        .cameras(4)
        .behaviour(Behaviour::SessionsPerConnection(2, Excess::Status(461)))
        .start();
    let mux = mux();
    let mut sessions = play_all(&mux, &server, 4, &Pooling::default()).await;
    assert!(server.open_connections() <= 4);
    assert_own_media(&server, &mut sessions).await;
}

#[tokio::test]
async fn a_full_server_under_always_is_an_error_that_names_property_and_limit() {
    let server = MockServer::builder()
        .cameras(2)
        .behaviour(Behaviour::SessionsPerConnection(1, Excess::Status(461)))
        .start();
    let mux = mux();
    let pooling = Pooling {
        multiplex: Multiplex::Always,
        max_connections_per_server: 1,
        ..Pooling::default()
    };
    let _first = play(&mux, pooled(&camera_url(&server, 1), &pooling))
        .await
        .unwrap();
    let error = play(&mux, pooled(&camera_url(&server, 2), &pooling))
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("/cam/2"), "{text}");
    assert!(
        text.contains("max-connections-per-server") || text.contains("461"),
        "{text}"
    );
}

#[tokio::test]
async fn f07_with_multiplex_always_the_server_s_refusal_is_the_error() {
    let excess = Behaviour::SessionsPerConnection(1, Excess::Status(455));
    let server = MockServer::builder().cameras(2).behaviour(excess).start();
    let mux = mux();
    let pooling = Pooling {
        multiplex: Multiplex::Always,
        ..Pooling::default()
    };
    let always = |camera| pooled(&camera_url(&server, camera), &pooling);
    let _first = play(&mux, always(1)).await.unwrap();
    let error = play(&mux, always(2)).await.unwrap_err();
    assert_eq!(
        (error.status(), error.request()),
        (Some(455), Some("SETUP"))
    );
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn f23_a_full_server_is_asked_once_on_a_fresh_connection() {
    let server = MockServer::builder()
        .cameras(2)
        .behaviour(Behaviour::Sessions(1))
        .start();
    let mux = mux();
    let _first = play_camera(&mux, &server, 1).await;
    let error = play(&mux, options(&camera_url(&server, 2)))
        .await
        .unwrap_err();
    assert_eq!(
        (error.status(), error.retry_after()),
        (Some(503), Some(Duration::from_secs(5)))
    );
    assert_eq!((server.accepted(), server.view().count("SETUP")), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_a_refusal_is_final_only_when_the_sessions_that_leave_have_left() {
    for status in [453, 503] {
        let server = MockServer::builder()
            .cameras(3)
            .family(Family::AtLimit(status))
            .start();
        let mux = mux();
        let mut sessions = vec![play_camera(&mux, &server, 1).await];
        let leaver = play_camera(&mux, &server, 3).await;
        let canaries = server.view().count("TEARDOWN");
        server.add_rule(Rule::new("TEARDOWN", Reaction::Hold));
        drop(leaver);
        let is_leaving = |view: &ServerView| view.count("TEARDOWN") > canaries;
        assert!(server.wait_until(is_leaving, PATIENCE));
        let next = start(&mux, options(&camera_url(&server, 2)));
        let is_refused = |view: &ServerView| {
            let mut requests = view.requests.iter();
            requests.any(|r| r.method == "SETUP" && r.uri.contains("/cam/2"))
        };
        assert!(server.wait_until(is_refused, PATIENCE));
        server.clear_rules();
        server.release();
        sessions.push(next.await.unwrap().unwrap());
        assert_own_media(&server, &mut sessions).await;
    }
}

/// A server that shows it cannot share: both cameras play all the same, each on its own.
async fn assert_falls_back(behaviour: Behaviour) {
    let server = MockServer::builder()
        .cameras(2)
        .behaviour(behaviour)
        .start();
    let mux = mux();
    let mut sessions = play_all(&mux, &server, 2, &Pooling::default()).await;
    let view = server.view();
    let mut connections: Vec<_> = view
        .sessions
        .iter()
        .map(|session| session.connection)
        .collect();
    connections.dedup();
    assert_eq!(connections.len(), 2, "a connection each: {view:?}");
    assert_own_media(&server, &mut sessions).await;
}

#[tokio::test]
async fn f11_the_same_channels_twice_gives_the_new_session_its_own_connection() {
    assert_falls_back(Behaviour::Channels(ChannelPolicy::PerTrack)).await;
}

#[tokio::test]
async fn the_same_session_id_twice_gives_the_new_session_its_own_connection() {
    assert_falls_back(Behaviour::SessionId("12345678".to_owned())).await;
}

#[tokio::test]
async fn f07_a_refusal_and_close_gives_both_sessions_their_own_connection() {
    assert_falls_back(Behaviour::SessionsPerConnection(
        1,
        Excess::BadRequestAndClose,
    ))
    .await;
}

#[tokio::test]
async fn an_error_status_gives_the_new_session_its_own_connection() {
    assert_falls_back(Behaviour::SessionsPerConnection(1, Excess::Status(455))).await;
}

/// All are set up before the first one plays: what a pipeline with many cameras does.
#[tokio::test]
async fn f07_cameras_of_a_server_that_cannot_share_get_a_connection_each() {
    let server = MockServer::builder()
        .cameras(6)
        .family(Family::MediaMtx)
        .start();
    let mux = mux();
    let mut ready = Vec::new();
    for camera in 1..=6 {
        let options = options(&camera_url(&server, camera));
        ready.push(set_up(&mux, options).await.unwrap());
    }
    let mut sessions = Vec::new();
    for ready in ready {
        sessions.push(ready.play().await.unwrap());
    }
    assert!(mux.stats().servers[0].cannot_share.is_some());
    assert!(server.wait_until(
        |view| view.playing() == 6 && view.open_connections == 6,
        PATIENCE
    ));
    assert_own_media(&server, &mut sessions).await;
    drop(sessions);
    assert!(
        server.wait_until(|view| view.open_connections == 0, PATIENCE),
        "closed after their TEARDOWNs"
    );
}

#[tokio::test]
async fn what_fails_alone_too_is_the_cameras_own_error() {
    let server = MockServer::builder()
        .cameras(2)
        .rule(Rule::new("SETUP", Reaction::status(455)).camera("/cam/2"))
        .start();
    let mux = mux();
    let mut first = play_camera(&mux, &server, 1).await;
    let error = play(&mux, options(&camera_url(&server, 2)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Status(455));
    assert_eq!(error.request(), Some("SETUP"));
    assert!(
        mux.stats().servers[0].cannot_share.is_none(),
        "no verdict from a broken camera"
    );
    assert_own_media(&server, std::slice::from_mut(&mut first)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_waits_behind_another_leaves_once_the_server_cannot_share() {
    let server = MockServer::builder()
        .cameras(3)
        .behaviour(Behaviour::SessionsPerConnection(1, Excess::Status(455)))
        .rule(Rule::new("SETUP", Reaction::Hold).camera("/cam/1").times(1))
        .start();
    let mux = mux();
    let pooling = Pooling {
        max_connections_per_server: 1,
        ..Pooling::default()
    };
    let open = |camera| mux.open(pooled(&camera_url(&server, camera), &pooling));
    let (first, second) = tokio::join!(open(1).describe(), open(2).describe());
    let slow = tokio::spawn(first.unwrap().setup_all());
    let is_held = |view: &ServerView| view.count("SETUP") == 1;
    assert!(server.wait_until(is_held, PATIENCE));
    let waiting = tokio::spawn(second.unwrap().setup_all());
    // It gets a connection of its own, and its canary shows that the server cannot share.
    let third = play(&mux, pooled(&camera_url(&server, 3), &pooling)).await;
    let second = waiting.await.unwrap().unwrap().play().await;
    let setups = server
        .requests()
        .into_iter()
        .filter(|request| request.connection == 0 && request.method == "SETUP");
    assert_eq!(setups.count(), 1, "the one that is slow");
    server.release();
    let first = slow.await.unwrap().unwrap().play().await;
    let mut sessions = [first, second, third].map(Result::unwrap);
    assert_own_media(&server, &mut sessions).await;
}

#[tokio::test]
async fn a_session_that_waits_for_a_place_gets_one_once_the_server_cannot_share() {
    let same_channels = Rule::new("SETUP", Reaction::channels("0-1"));
    let server = MockServer::builder()
        .cameras(3)
        .family(Family::Gst)
        .rule(same_channels.camera("/cam/3").times(1))
        .start();
    let mux = mux();
    let limited = Pooling {
        max_connections_per_server: 1,
        ..Pooling::default()
    };
    let url = |camera| camera_url(&server, camera);
    let _first = play(&mux, pooled(&url(1), &limited)).await.unwrap();
    // Another user cannot share the one connection that there may be.
    let others = with_credentials(&url(2), "other", "secret");
    let waiting = tokio::spawn({
        let mux = mux.clone();
        async move { play(&mux, pooled(&others, &limited)).await }
    });
    while mux.stats().servers[0].waiting == 0 {
        tokio::task::yield_now().await;
    }
    let _third = play(&mux, options(&url(3))).await.unwrap();
    assert_eq!(mux.stats().servers[0].sharing, SharingVerdict::No);
    let mut second = within_patience(waiting).await.unwrap().unwrap();
    server.send_packets("/cam/2", 1);
    assert_eq!(next_of_mock(&mut second).await, (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_another_has_played_no_session_is_added_once_the_server_cannot_share() {
    let server = MockServer::builder()
        .cameras(3)
        .behaviour(Behaviour::SessionId("12345678".to_owned()))
        .start();
    let mux = mux();
    let open = |camera| mux.open(options(&camera_url(&server, camera)));
    let (first, second, third) =
        tokio::join!(open(1).describe(), open(2).describe(), open(3).describe());
    assert_eq!(server.accepted(), 1);
    let first = first.unwrap().setup_all().await.unwrap();
    let _second = second.unwrap().setup_all().await.unwrap();
    assert_eq!(mux.stats().servers[0].sharing, SharingVerdict::No);
    // What the second one was given there, and did not take, may still be there. A TEARDOWN of the
    // first one's id might end it.
    drop(first);
    let _third = third.unwrap().setup_all().await.unwrap();
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.method != "TEARDOWN"));
    let setups = requests.iter().filter(|r| r.method == "SETUP");
    let connections: Vec<usize> = setups.map(|setup| setup.connection).collect();
    assert_eq!(connections, [0, 0, 1, 2]);
}
