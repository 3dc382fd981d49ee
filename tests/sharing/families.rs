//! Each family of servers, in each order of arrival.

use std::{
    pin::Pin,
    task::{Context, Waker},
};

use gstrtspmux::mux::{Multiplex, Mux, Pooling, Session, SharingVerdict};

use crate::{
    PATIENCE, assert_media, gather, join, options, play,
    support::mock_server::{Behaviour, Excess, Family, MockServer, Reaction, Rule},
    verdicts,
};

fn server(family: Family, cameras: u32) -> MockServer {
    MockServer::builder()
        .cameras(cameras)
        .family(family)
        .start()
}

fn mux() -> Mux {
    Mux::builder().build()
}

fn numbered(sessions: impl IntoIterator<Item = Session>) -> Vec<(u32, Session)> {
    (1..).zip(sessions).collect()
}

/// A server that behaves like this one, but does not say who it is.
fn anonymous(behaviours: impl IntoIterator<Item = Behaviour>, cameras: u32) -> MockServer {
    behaviours
        .into_iter()
        .fold(
            MockServer::builder().cameras(cameras),
            |builder, behaviour| builder.behaviour(behaviour),
        )
        .start()
}

fn sessions_per_connection(server: &MockServer) -> usize {
    let view = server.view();
    let on = |connection| {
        view.sessions
            .iter()
            .filter(|session| session.connection == connection)
            .count()
    };
    (0..view.accepted).map(on).max().unwrap_or_default()
}

async fn assert_gathered(server: &MockServer, connections: usize, verdict: SharingVerdict) {
    let mux = mux();
    let mut events = mux.events();
    let sessions = gather(&mux, server, 16, &Pooling::default()).await;
    let mut sessions = numbered(sessions.into_iter().map(Result::unwrap));
    let view = server.view();
    let playing: std::collections::BTreeSet<_> = view
        .sessions
        .iter()
        .map(|session| session.connection)
        .collect();
    assert_eq!(playing.len(), connections, "{view:?}");
    assert_media(server, &mut sessions).await;
    assert_eq!(verdicts(&mut events), [verdict]);
}

async fn assert_one_after_another(
    server: &MockServer,
    connections: std::ops::RangeInclusive<usize>,
    verdict: SharingVerdict,
) {
    let mux = mux();
    let mut events = mux.events();
    let mut sessions = Vec::new();
    for camera in 1..=16 {
        sessions.push((camera, join(&mux, server, camera).await));
        // Whatever the newcomer was put through, those before it have lost nothing.
        assert_media(server, &mut sessions).await;
    }
    assert!(
        connections.contains(&server.view().most_open_connections),
        "{} connections",
        server.view().most_open_connections
    );
    assert_eq!(verdicts(&mut events), [verdict]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gathered_servers_that_share_take_all_on_one_connection() {
    for family in [Family::Gst, Family::Live555] {
        assert_gathered(&server(family, 16), 1, SharingVerdict::Yes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_after_another_servers_that_share_take_few_connections() {
    let gst = server(Family::Gst, 16);
    assert_one_after_another(&gst, 1..=1, SharingVerdict::Yes).await;
    // Any other that shares and does not say who it is: one for the canary, and one on which each is
    // described before it joins those that play.
    let unnamed = anonymous([], 16);
    assert_one_after_another(&unnamed, 3..=3, SharingVerdict::Yes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f07_gathered_mediamtx_gives_each_its_own_connection() {
    assert_gathered(&server(Family::MediaMtx, 16), 16, SharingVerdict::No).await;
    let unnamed = [Behaviour::SessionsPerConnection(
        1,
        Excess::BadRequestAndClose,
    )];
    assert_gathered(&anonymous(unnamed, 16), 16, SharingVerdict::No).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f07_one_after_another_mediamtx_never_closes_on_what_plays() {
    let named = server(Family::MediaMtx, 16);
    assert_one_after_another(&named, 16..=16, SharingVerdict::No).await;
    assert_eq!(named.accepted(), 16, "not one trial");
    let unnamed = [Behaviour::SessionsPerConnection(
        1,
        Excess::BadRequestAndClose,
    )];
    let unnamed = anonymous(unnamed, 16);
    assert_one_after_another(&unnamed, 16..=17, SharingVerdict::No).await;
    assert_eq!(unnamed.accepted(), 17, "one canary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f08_zlmediakit_plays_each_camera_as_itself() {
    assert_gathered(&server(Family::ZlMediaKit, 16), 16, SharingVerdict::No).await;
    let named = server(Family::ZlMediaKit, 16);
    assert_one_after_another(&named, 16..=16, SharingVerdict::No).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_go2rtc_plays_each_camera_as_itself() {
    assert_gathered(&server(Family::Go2Rtc, 16), 16, SharingVerdict::No).await;
    let late = server(Family::Go2Rtc, 16);
    assert_one_after_another(&late, 16..=17, SharingVerdict::No).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_a_late_joiner_of_evostream_plays_all_the_same() {
    let server = server(Family::EvoStream, 16);
    assert_one_after_another(&server, 16..=16, SharingVerdict::No).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_one_id_for_all_gets_a_connection_for_each() {
    let constant = || [Behaviour::SessionId("12345678".to_owned())];
    let gathered = anonymous(constant(), 16);
    assert_gathered(&gathered, 16, SharingVerdict::No).await;
    let late = anonymous(constant(), 16);
    assert_one_after_another(&late, 16..=16, SharingVerdict::No).await;
}

/// xiu ends a camera's stream for all clients when a connection that described it closes without a PLAY.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_camera_is_described_on_a_connection_that_does_not_play_it() {
    let gathered = server(Family::Xiu, 16);
    assert_gathered(&gathered, 16, SharingVerdict::No).await;
    assert_eq!(
        gathered.accepted(),
        16,
        "the connection of the canary plays, too"
    );
    let late = server(Family::Xiu, 16);
    assert_one_after_another(&late, 16..=16, SharingVerdict::No).await;
    assert_eq!(late.accepted(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_the_second_session_gets_one_each() {
    let refuses = || [Behaviour::SessionsPerConnection(1, Excess::Status(455))];
    assert_gathered(&anonymous(refuses(), 16), 16, SharingVerdict::No).await;
    let late = anonymous(refuses(), 16);
    assert_one_after_another(&late, 16..=16, SharingVerdict::No).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f09_evostream_that_ignores_the_second_session_is_found_out() {
    let gathered = server(Family::EvoStream, 16);
    assert_gathered(&gathered, 16, SharingVerdict::No).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flaky_refusal_costs_no_verdict() {
    let server = server(Family::Live555, 4);
    server.add_rule(Rule::new("SETUP", Reaction::status(400)).skip(1).times(1));
    let mux = mux();
    let mut events = mux.events();
    let sessions = gather(&mux, &server, 2, &Pooling::default()).await;
    let mut sessions = numbered(sessions.into_iter().map(Result::unwrap));
    assert_media(&server, &mut sessions).await;
    assert_eq!(verdicts(&mut events), [SharingVerdict::Yes]);
}

/// A relay does so now and then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_454_to_play_costs_no_verdict() {
    let server = server(Family::Live555, 3);
    let mux = mux();
    let mut events = mux.events();
    let sessions = gather(&mux, &server, 2, &Pooling::default()).await;
    let mut sessions = numbered(sessions.into_iter().map(Result::unwrap));
    server.add_rule(Rule::new("PLAY", Reaction::status(454)).times(1));
    sessions.push((3, join(&mux, &server, 3).await));
    assert_media(&server, &mut sessions).await;
    assert_eq!(verdicts(&mut events), [SharingVerdict::Yes]);
    let stats = mux.stats();
    assert_eq!(stats.servers[0].sharing, SharingVerdict::Yes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offline_cameras_hold_up_no_other() {
    let server = server(Family::Live555, 1);
    let mux = mux();
    let mut sessions = gather(&mux, &server, 16, &Pooling::default()).await;
    let first = sessions.remove(0).unwrap();
    for session in sessions {
        assert_eq!(session.unwrap_err().status(), Some(404));
    }
    assert_media(&server, &mut [(1, first)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_takes_for_ever_costs_the_others_one_redo() {
    let server = server(Family::Live555, 3);
    // Its DESCRIBE holds everybody's answers on that connection, as gst-rtsp-server does.
    server.add_rule(Rule::new("DESCRIBE", Reaction::Hold).camera("/cam/2"));
    let mux = mux();
    let slow = mux.open_many(vec![
        options(&server, 1, &Pooling::default()),
        options(&server, 2, &Pooling::default()),
    ]);
    let mut opened = slow.into_iter().map(|opening| tokio::spawn(play(opening)));
    let (first, slow) = (opened.next().unwrap(), opened.next().unwrap());
    let mut sessions = vec![(1, first.await.unwrap().unwrap())];
    assert!(!slow.is_finished());
    assert_media(&server, &mut sessions).await;
    server.clear_rules();
    server.release();
    sessions.push((2, slow.await.unwrap().unwrap()));
    sessions.push((3, join(&mux, &server, 3).await));
    assert_media(&server, &mut sessions).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_a_server_that_said_it_is_full_gets_no_canary() {
    let server = server(Family::Live555, 3);
    server.add_rule(Rule::new("SETUP", Reaction::status(453)).camera("/cam/2"));
    let mux = mux();
    let mut sessions = vec![(1, join(&mux, &server, 1).await)];
    let refused = play(mux.open(options(&server, 2, &Pooling::default()))).await;
    assert_eq!(refused.unwrap_err().status(), Some(453));
    let setups = server.view().count("SETUP");
    sessions.push((3, join(&mux, &server, 3).await));
    assert_eq!(server.view().count("SETUP"), setups + 1);
    assert_media(&server, &mut sessions).await;
    assert_eq!(sessions_per_connection(&server), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_session_plays_at_once() {
    let server = server(Family::Live555, 1);
    let mux = mux();
    let mut sessions = vec![(1, join(&mux, &server, 1).await)];
    assert_media(&server, &mut sessions).await;
    let view = server.view();
    assert_eq!((view.count("DESCRIBE"), view.count("SETUP")), (1, 1));
    drop(sessions);
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_are_remembered_from_run_to_run() {
    let server = server(Family::Live555, 3);
    let name = format!("rtspmux-verdicts-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let first = Mux::builder().state(&path).build();
    let sessions = gather(&first, &server, 2, &Pooling::default()).await;
    assert!(sessions.iter().all(Result::is_ok));
    drop(sessions);
    first.shutdown(PATIENCE).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let accepted = server.accepted();
    let second = Mux::builder().state(&path).build();
    let mut sessions = Vec::new();
    for camera in 1..=3 {
        sessions.push((camera, join(&second, &server, camera).await));
    }
    // One, and one on which the others are described.
    assert_eq!(server.accepted(), accepted + 2, "known to share: {text}");
    assert_media(&server, &mut sessions).await;
    std::fs::remove_file(&path).unwrap();
}

fn poll_once<F: Future + Unpin>(future: &mut F) {
    let polled = Pin::new(future).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
}

/// The camera that the server stays with for the connection is not the one that the connection was
/// made for, nor one for which a session still waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_camera_whose_user_has_gone_is_not_played_in_place_of_another() {
    let server = server(Family::Go2Rtc, 2);
    server.add_rule(Rule::new("DESCRIBE", Reaction::Defer).times(1));
    let mux = mux();
    let all = [2, 1].map(|camera| options(&server, camera, &Pooling::default()));
    let mut openings = mux.open_many(all.to_vec());
    let (first, second) = (openings.remove(0), openings.remove(0));
    // The first one announced dials; the other one is the first to ask.
    let mut staying = Box::pin(play(first));
    let mut going = Box::pin(play(second));
    poll_once(&mut staying);
    while server.view().count("DESCRIBE") == 0 {
        poll_once(&mut going);
    }
    drop(going);
    let staying = tokio::spawn(staying);
    assert!(server.wait_until(|view| view.count("DESCRIBE") > 1, PATIENCE));
    server.release();
    let mut sessions = vec![(2, staying.await.unwrap().unwrap())];
    assert_media(&server, &mut sessions).await;
}

/// The same when the connection has no session any more: the server stays with the camera as long as the
/// connection lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_sessions_still_shows_what_it_was_first_asked_for() {
    let server = anonymous([Behaviour::LatchesFirst], 2);
    let mux = mux();
    let always = Pooling {
        multiplex: Multiplex::Always,
        ..Pooling::default()
    };
    let all = [2, 1].map(|camera| options(&server, camera, &always));
    let mut openings = mux.open_many(all.to_vec());
    let (first, second) = (openings.remove(0), openings.remove(0));
    let mut dialing = Box::pin(play(first));
    poll_once(&mut dialing);
    let mut asking = Box::pin(play(second));
    poll_once(&mut asking);
    drop(dialing);
    drop(asking.await.unwrap());
    assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    while mux.stats().servers[0].connections[0].sessions > 0 {
        tokio::task::yield_now().await;
    }
    let session = play(mux.open(options(&server, 2, &always))).await.unwrap();
    assert_media(&server, &mut [(2, session)]).await;
}

/// A server that is out of order closes the connection of a session that is alone, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_a_server_that_closes_each_connection_is_not_said_to_refuse_sharing() {
    for method in ["PLAY", "SETUP"] {
        for reaction in [Reaction::Close, Reaction::HalfClose] {
            let server = anonymous([], 8);
            server.add_rule(Rule::new(method, reaction));
            let mux = mux();
            let mut events = mux.events();
            for _ in 0..3 {
                drop(gather(&mux, &server, 8, &Pooling::default()).await);
            }
            let verdicts = verdicts(&mut events);
            assert!(
                !verdicts.contains(&SharingVerdict::No),
                "{method}: {verdicts:?}"
            );
        }
    }
}
