//! No camera shows another's picture, whatever the server answers on a shared connection; and cameras
//! of one model, which describe themselves alike, share all the same.

use std::{collections::BTreeSet, time::Duration};

use gstrtspmux::mux::{Multiplex, Mux, Pooling, Session, SharingVerdict, Timeouts};

use crate::{
    PATIENCE, assert_media, gather, join, options, play,
    support::mock_server::{
        Behaviour, Builder, ChannelPolicy, Family, MockServer, Reaction, Rule, ServerView,
    },
    verdicts, while_sending,
};

/// go2rtc as it is, but for its name: nothing but what it does gives it away.
fn unnamed_go2rtc() -> Vec<Behaviour> {
    vec![
        Behaviour::LatchesFirst,
        Behaviour::OneConsumer,
        Behaviour::NoContentBase,
        Behaviour::DescriptionGrows,
        Behaviour::CloseOnTeardown,
        Behaviour::MuteWhilePlaying,
        Behaviour::CloseOnEarlyGetParameter,
        Behaviour::Channels(ChannelPolicy::PerTrack),
    ]
}

/// Shows the first camera of each connection under every URI, and mixes nothing else up: only its
/// descriptions tell.
fn only_latches() -> Vec<Behaviour> {
    vec![Behaviour::LatchesFirst, Behaviour::NoContentBase]
}

fn server(behaviours: impl IntoIterator<Item = Behaviour>, cameras: u32) -> MockServer {
    let builder = MockServer::builder().cameras(cameras);
    let with =
        |builder: crate::support::mock_server::Builder, behaviour| builder.behaviour(behaviour);
    behaviours.into_iter().fold(builder, with).start()
}

fn named(family: Family, cameras: u32) -> MockServer {
    MockServer::builder()
        .cameras(cameras)
        .family(family)
        .start()
}

fn mux() -> Mux {
    Mux::builder().build()
}

async fn gather_all(mux: &Mux, server: &MockServer, cameras: u32) -> Vec<(u32, Session)> {
    let sessions = gather(mux, server, cameras, &Pooling::default()).await;
    (1..)
        .zip(sessions.into_iter().map(Result::unwrap))
        .collect()
}

/// Cameras of one model: the server shares, and describes them alike.
fn alike(behaviours: impl IntoIterator<Item = Behaviour>, cameras: u32) -> MockServer {
    let builder = MockServer::builder().cameras_of_one_model(cameras);
    behaviours
        .into_iter()
        .fold(builder, Builder::behaviour)
        .start()
}

fn always(limit: u32) -> Pooling {
    Pooling {
        multiplex: Multiplex::Always,
        max_connections_per_server: limit,
        ..Pooling::default()
    }
}

/// Connections on which a session plays.
fn connections_playing(server: &MockServer) -> usize {
    let sessions = server.view().sessions;
    let playing = sessions.iter().filter(|session| session.is_playing);
    let connections: BTreeSet<usize> = playing.map(|session| session.connection).collect();
    connections.len()
}

/// Every kind of server that shows one camera for several URIs of a connection.
fn mixing_up(cameras: u32) -> Vec<MockServer> {
    vec![
        named(Family::Go2Rtc, cameras),
        server(unnamed_go2rtc(), cameras),
        server(only_latches(), cameras),
        server([Behaviour::LatchesFirst], cameras),
        alike(unnamed_go2rtc(), cameras),
        named(Family::ZlMediaKit, cameras),
        named(Family::AioToolkit, cameras),
        named(Family::MediaMtx, cameras),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_cameras_that_start_together_show_their_own_pictures() {
    for cameras in [2, 4, 16] {
        for round in 0..3 {
            for server in mixing_up(cameras) {
                let mux = mux();
                let mut events = mux.events();
                let mut sessions = gather_all(&mux, &server, cameras).await;
                assert_media(&server, &mut sessions).await;
                assert_eq!(verdicts(&mut events), [SharingVerdict::No], "round {round}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_cameras_of_separate_pipelines_show_their_own_pictures() {
    for server in mixing_up(4) {
        let (one, other) = (mux(), mux());
        let pooling = Pooling::default();
        let all = |mux: &Mux, cameras: [u32; 2]| {
            let all = cameras.map(|camera| options(&server, camera, &pooling));
            let openings = mux.open_many(all.to_vec()).into_iter();
            let openings = cameras.into_iter().zip(openings);
            let spawned = openings.map(|(camera, opening)| (camera, tokio::spawn(play(opening))));
            spawned.collect::<Vec<_>>()
        };
        let mut sessions = Vec::new();
        let started = [all(&one, [1, 2]), all(&other, [3, 4])];
        for (camera, session) in started.into_iter().flatten() {
            sessions.push((camera, session.await.unwrap().unwrap()));
        }
        assert_media(&server, &mut sessions).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_cameras_that_come_one_after_another_show_their_own_pictures() {
    for server in mixing_up(4) {
        let mux = mux();
        let mut sessions = Vec::new();
        for camera in 1..=4 {
            sessions.push((camera, join(&mux, &server, camera).await));
            assert_media(&server, &mut sessions).await;
        }
    }
}

/// The camera that the server stays with is not one that any session still waits for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_session_that_goes_at_any_stage_leaves_its_picture_to_no_other() {
    for stage in ["DESCRIBE", "SETUP", "PLAY"] {
        for server in mixing_up(3) {
            let mux = mux();
            server.add_rule(Rule::new(stage, Reaction::Defer).camera("/cam/1").times(1));
            let pooling = Pooling::default();
            let all = (1..=3).map(|camera| options(&server, camera, &pooling));
            let mut openings = mux.open_many(all.collect()).into_iter();
            let going = tokio::spawn(play(openings.next().unwrap()));
            let asked = |view: &ServerView| {
                let mut requests = view.requests.iter();
                requests.any(|r| r.method == stage && r.uri.contains("/cam/1"))
            };
            let staying: Vec<_> = openings
                .map(|opening| tokio::spawn(play(opening)))
                .collect();
            // It may be the first one of its connection or not, and be refused before it gets so far.
            let _ = server.wait_until(asked, PATIENCE / 20);
            going.abort();
            let _ = going.await;
            server.release();
            let mut sessions = Vec::new();
            for (camera, session) in (2..).zip(staying) {
                sessions.push((camera, session.await.unwrap().unwrap()));
            }
            assert_media(&server, &mut sessions).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_with_multiplex_always_a_camera_fails_rather_than_show_anothers_picture() {
    for limit in [1, 2, 4] {
        for server in [
            named(Family::Go2Rtc, 4),
            server(unnamed_go2rtc(), 4),
            server(only_latches(), 4),
            server([Behaviour::LatchesFirst], 4),
            named(Family::ZlMediaKit, 4),
        ] {
            // go2rtc never answers a DESCRIBE beside what plays.
            let timeouts = Timeouts {
                describe: Duration::from_secs(2),
                ceiling: Duration::from_secs(2),
                ..Timeouts::default()
            };
            let mux = Mux::builder().timeouts(timeouts).build();
            let pooling = always(limit);
            let gathering = gather(&mux, &server, 4, &pooling);
            // go2rtc ignores a DESCRIBE beside what plays. Without its packets it would count as dead.
            let sessions = while_sending(&server, gathering).await;
            let sessions = (1..).zip(sessions);
            let mut playing: Vec<(u32, Session)> = sessions
                .filter_map(|(camera, session)| Some((camera, session.ok()?)))
                .collect();
            assert!(!playing.is_empty(), "one has the connection for itself");
            assert!(mux.stats().servers[0].connections.len() <= limit as usize);
            assert!(connections_playing(&server) <= limit as usize);
            assert_media(&server, &mut playing).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_another_server_behind_the_address_shows_no_camera_for_another() {
    let sharing = MockServer::builder().cameras(4).family(Family::Gst).start();
    let (port, mux) = (sharing.address().port(), mux());
    let mut sessions = gather_all(&mux, &sharing, 4).await;
    assert_media(&sharing, &mut sessions).await;
    drop(sessions);
    sharing.stop();
    let go2rtc = MockServer::builder().cameras(4).family(Family::Go2Rtc);
    let go2rtc = go2rtc.start_at(port);
    let mut sessions = gather_all(&mux, &go2rtc, 4).await;
    assert_media(&go2rtc, &mut sessions).await;
    drop(sessions);
    go2rtc.stop();
    // And back: what was said of the other one does not hold for this one.
    let sharing = MockServer::builder().cameras(4).family(Family::Gst);
    let sharing = sharing.start_at(port);
    drop(gather_all(&mux, &sharing, 4).await);
    let mut sessions = gather_all(&mux, &sharing, 4).await;
    assert_media(&sharing, &mut sessions).await;
    assert_eq!(connections_playing(&sharing), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_of_one_model_share_one_connection_after_a_single_check() {
    for behaviours in [vec![], vec![Behaviour::NoContentBase]] {
        for cameras in [2, 4, 16] {
            let server = alike(behaviours.clone(), cameras);
            let mux = mux();
            let mut events = mux.events();
            let mut sessions = gather_all(&mux, &server, cameras).await;
            assert_media(&server, &mut sessions).await;
            assert_eq!(verdicts(&mut events), [SharingVerdict::Yes]);
            let view = server.view();
            assert_eq!(connections_playing(&server), 1);
            assert_eq!(view.accepted, 2, "one connection for the check");
            let describes = view.count("DESCRIBE");
            // Without a base for control URLs a canary passes first, perhaps with a DESCRIBE of nothing.
            let (checked, canary) = (cameras as usize + 1, behaviours.len());
            assert!(
                (checked + canary..=checked + 2 * canary).contains(&describes),
                "one DESCRIBE for the check: {describes} of {cameras} cameras"
            );
            let is_gone = |view: &ServerView| view.open_connections == 1;
            assert!(server.wait_until(is_gone, PATIENCE), "it is closed again");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cameras_of_one_model_are_checked_once_for_all_times() {
    let server = alike([Behaviour::NoContentBase], 4);
    let name = format!("rtspmux-one-model-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    for run in 0..3 {
        let before = server.accepted();
        let mux = Mux::builder().state(&path).build();
        let mut sessions = gather_all(&mux, &server, 4).await;
        assert_media(&server, &mut sessions).await;
        assert_eq!(connections_playing(&server), 1);
        let checks = usize::from(run == 0);
        assert_eq!(server.accepted() - before, 1 + checks, "run {run}");
        drop(sessions);
        mux.shutdown(PATIENCE).await;
        assert!(server.wait_until(|view| view.sessions.is_empty(), PATIENCE));
    }
    std::fs::remove_file(&path).unwrap();
}

/// A process before this version wrote that down, without a word on descriptions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_remembered_yes_that_says_nothing_of_descriptions_is_checked_when_two_are_alike() {
    let server = server(only_latches(), 3);
    let name = format!("rtspmux-old-yes-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let seconds = std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let address = server.address();
    let line = format!("yes {address} {seconds} 0 - in-band - - - - -");
    std::fs::write(&path, format!("rtspmux-state 4\n{line}\n")).unwrap();
    let mux = Mux::builder().state(&path).build();
    let mut events = mux.events();
    let mut sessions = gather_all(&mux, &server, 3).await;
    assert_media(&server, &mut sessions).await;
    assert_eq!(verdicts(&mut events), [SharingVerdict::No]);
    std::fs::remove_file(&path).unwrap();
}

/// The check finds no room. Nothing is known then, and each camera plays for itself or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_check_that_comes_to_nothing_is_no_permission() {
    let server = server(only_latches(), 3);
    let is_second = Rule::new("DESCRIBE", Reaction::status(503))
        .skip(3)
        .times(1);
    server.add_rule(is_second);
    let mux = mux();
    let mut sessions = gather_all(&mux, &server, 3).await;
    assert_media(&server, &mut sessions).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_id_for_all_sessions_silences_no_camera() {
    for cameras in [2, 4, 16] {
        let server = named(Family::AioToolkit, cameras);
        let mux = mux();
        let mut events = mux.events();
        let mut sessions = gather_all(&mux, &server, cameras).await;
        assert_media(&server, &mut sessions).await;
        assert_eq!(connections_playing(&server), cameras as usize);
        assert_eq!(verdicts(&mut events), [SharingVerdict::No]);
    }
}
