//! User and password: how often they are tried, and servers that are odd about them (F21, F22, F46).

use std::time::Duration;

use gstrtspmux::mux::{ErrorKind, Multiplex, Mux, Pooling, Session};

use crate::{
    player::{
        assert_own_media, camera_url, eventually, mux, options, pass, play, pooled, start, try_all,
        with_credentials, within_patience,
    },
    support::mock_server::{AccountOddity, Algorithm, Auth, Family, MockServer, Recorded},
};

const USER: &str = "viewer";

fn digest() -> Auth {
    Auth::Digest {
        algorithm: Algorithm::Md5,
        user: USER.to_owned(),
        password: "right".to_owned(),
    }
}

fn basic() -> Auth {
    Auth::Basic {
        user: USER.to_owned(),
        password: "right".to_owned(),
    }
}

fn server(cameras: u32, auth: Auth, oddities: &[AccountOddity]) -> MockServer {
    let builder = MockServer::builder()
        .cameras(cameras)
        .family(Family::Gst)
        .credentials(auth);
    let builder = oddities
        .iter()
        .cloned()
        .fold(builder, |builder, oddity| builder.account(oddity));
    builder.start()
}

fn urls(server: &MockServer, cameras: u32, password: &str) -> Vec<String> {
    let url = |camera| with_credentials(&camera_url(server, camera), USER, password);
    (1..=cameras).map(url).collect()
}

fn with(multiplex: Multiplex) -> Pooling {
    Pooling {
        multiplex,
        ..Pooling::default()
    }
}

fn has_password(request: &&Recorded) -> bool {
    request.headers.contains("Authorization")
}

/// Requests with a password, or what stands for one.
fn tries(server: &MockServer) -> usize {
    server.requests().iter().filter(has_password).count()
}

/// All cameras play, and show their own pictures.
async fn all_play(server: &MockServer, cameras: u32, pooling: &Pooling) -> Vec<Session> {
    let mux = mux();
    let results = within_patience(try_all(&mux, urls(server, cameras, "right"), pooling)).await;
    let sessions = results.into_iter().enumerate().map(|(camera, result)| {
        result.unwrap_or_else(|error| panic!("camera {} of {cameras}: {error}", camera + 1))
    });
    let mut sessions: Vec<Session> = sessions.collect();
    assert_own_media(server, &mut sessions).await;
    sessions
}

#[tokio::test]
async fn f22_a_wrong_password_is_sent_once_for_one_camera_and_twice_for_many() {
    let new_nonce = [AccountOddity::NewNonceEachTime];
    let same_nonce = [AccountOddity::LocksAfter(5)];
    for (auth, oddities) in [
        (basic(), &same_nonce),
        (digest(), &same_nonce),
        (digest(), &new_nonce),
    ] {
        for multiplex in [Multiplex::Auto, Multiplex::Never, Multiplex::Always] {
            for cameras in [1, 2, 16, 64] {
                let server = server(cameras, auth.clone(), oddities);
                let pooling = Pooling {
                    max_connections_per_server: 0,
                    ..with(multiplex)
                };
                let urls = urls(&server, cameras, "wrong");
                for result in within_patience(try_all(&mux(), urls, &pooling)).await {
                    let error = result.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
                }
                let most = 2.min(cameras as usize);
                let case = format!("{auth:?} {oddities:?} {multiplex:?}, {cameras} cameras");
                assert_eq!(tries(&server), most, "{case}");
            }
        }
    }
}

#[tokio::test]
async fn f22_sessions_one_by_one_share_the_tries_and_another_password_has_its_own() {
    let server = server(8, digest(), &[AccountOddity::NewNonceEachTime]);
    let mux = mux();
    for url in urls(&server, 8, "wrong") {
        let error = play(&mux, options(&url)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
    }
    assert_eq!(tries(&server), 2, "however the connections come and go");
    let right = urls(&server, 8, "right");
    play(&mux, options(&right[0])).await.unwrap();
}

#[tokio::test]
async fn f22_a_wrong_password_is_tried_four_times_in_half_an_hour() {
    let server = server(4, digest(), &[]);
    let mux = crate::player::mux_of_this_runtime();
    let urls = urls(&server, 4, "wrong");
    let mut in_minutes = Vec::new();
    for _ in 0..30 {
        for url in &urls {
            play(&mux, options(url)).await.unwrap_err();
        }
        in_minutes.push(tries(&server));
        pass(Duration::from_secs(60)).await;
    }
    assert_eq!(in_minutes[0], 2);
    assert_eq!(in_minutes.last(), Some(&4), "{in_minutes:?}");
}

#[tokio::test]
async fn f22_two_algorithms_are_two_tries() {
    let server = server(4, digest(), &[AccountOddity::BrokenSha256]);
    let error = play(&mux(), options(&urls(&server, 1, "wrong")[0])).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unauthorized);
    let requests = server.requests();
    let algorithms: Vec<bool> = requests
        .iter()
        .filter_map(|request| request.headers.value("Authorization"))
        .map(|value| value.contains("SHA-256"))
        .collect();
    assert_eq!(algorithms, [true, false]);
}

#[tokio::test]
async fn f46_odd_servers_play_and_none_is_refused() {
    let oddities = [
        vec![AccountOddity::RealmPerCamera],
        vec![AccountOddity::NonceGoodOnce],
        vec![AccountOddity::NewestNonce],
        vec![AccountOddity::NewestNonceGoodOnce],
        vec![AccountOddity::ServersNewestNonceGoodOnce],
        vec![AccountOddity::NewNonceEachTime],
        vec![AccountOddity::BrokenSha256],
        vec![AccountOddity::ClosesBehind401 { is_announced: true }],
        vec![AccountOddity::ClosesBehind401 {
            is_announced: false,
        }],
        vec![
            AccountOddity::ClosesBehind401 { is_announced: true },
            AccountOddity::BrokenSha256,
        ],
        vec![
            AccountOddity::ClosesBehind401 {
                is_announced: false,
            },
            AccountOddity::BrokenSha256,
        ],
        vec![AccountOddity::RealmPerCamera, AccountOddity::NonceGoodOnce],
        vec![AccountOddity::RealmPerCamera, AccountOddity::BrokenSha256],
    ];
    for oddity in oddities {
        for multiplex in [Multiplex::Auto, Multiplex::Never, Multiplex::Always] {
            for cameras in [1, 4, 16] {
                let case = format!("{oddity:?} {multiplex:?}, {cameras} cameras");
                println!("{case}");
                let server = server(cameras, digest(), &oddity);
                let pooling = Pooling {
                    max_connections_per_server: 0,
                    ..with(multiplex)
                };
                let began = std::time::Instant::now();
                let sessions = all_play(&server, cameras, &pooling).await;
                println!(
                    "  {:?}, {} connections, {} wrong",
                    began.elapsed(),
                    server.accepted(),
                    server.wrong_passwords()
                );
                drop(sessions);
            }
        }
    }
}

/// Requests for a description without a password.
fn bare_describes(server: &MockServer) -> usize {
    let requests = server.requests();
    let bare = |it: &&Recorded| it.method == "DESCRIBE" && !has_password(it);
    requests.iter().filter(bare).count()
}

/// A careless server takes an answer to another camera's realm for a wrong password.
#[tokio::test]
async fn f46_no_camera_answers_the_realm_of_another_one() {
    for oddities in [
        vec![AccountOddity::RealmPerCamera],
        vec![AccountOddity::RealmPerCamera, AccountOddity::NonceGoodOnce],
        vec![
            AccountOddity::RealmPerCamera,
            AccountOddity::NewNonceEachTime,
        ],
        vec![AccountOddity::RealmPerCamera, AccountOddity::LocksAfter(1)],
    ] {
        for multiplex in [Multiplex::Auto, Multiplex::Never, Multiplex::Always] {
            for cameras in [1, 2, 4, 16, 64] {
                let server = server(cameras, digest(), &oddities);
                let pooling = Pooling {
                    max_connections_per_server: 0,
                    ..with(multiplex)
                };
                let sessions = all_play(&server, cameras, &pooling).await;
                let case = format!("{oddities:?} {multiplex:?}, {cameras} cameras");
                assert_eq!(server.wrong_passwords(), 0, "{case}");
                drop(sessions);
            }
        }
    }
}

/// In two contacts.
async fn find_out_the_realm(multiplex: Multiplex, oddities: &[AccountOddity]) {
    let server = server(16, digest(), oddities);
    let mux = mux();
    let pooling = Pooling {
        idle_connection_timeout: Duration::ZERO,
        ..with(multiplex)
    };
    let urls = urls(&server, 16, "right");
    for (bare, all) in [(2, 18), (3, 35)] {
        let results = within_patience(try_all(&mux, urls.clone(), &pooling)).await;
        let sessions: Vec<Session> = results.into_iter().map(Result::unwrap).collect();
        let describes = server.requests();
        let describes = describes.iter().filter(|it| it.method == "DESCRIBE");
        let seen = (bare_describes(&server), describes.count());
        assert_eq!(seen, (bare, all), "{multiplex:?} {oddities:?}");
        drop(sessions);
        let stats = || mux.stats().servers;
        eventually(|| stats().iter().all(|it| it.connections.is_empty())).await;
    }
    assert_eq!(server.wrong_passwords(), 0);
}

#[tokio::test]
async fn f46_a_server_of_one_realm_is_found_out_with_two_cameras_and_remembered() {
    for multiplex in [Multiplex::Auto, Multiplex::Always] {
        find_out_the_realm(multiplex, &[]).await;
        find_out_the_realm(multiplex, &[AccountOddity::NewestNonce]).await;
    }
}

#[tokio::test]
async fn f22_one_camera_that_the_user_may_not_see_keeps_nothing_from_the_others() {
    for forbidden in [1, 3, 8] {
        for multiplex in [Multiplex::Auto, Multiplex::Never] {
            let path = format!("/cam/{forbidden}");
            let server = server(8, digest(), &[AccountOddity::Forbids(path)]);
            let urls = urls(&server, 8, "right");
            let results = within_patience(try_all(&mux(), urls, &with(multiplex))).await;
            for (camera, result) in (1..).zip(results) {
                match camera == forbidden {
                    true => assert_eq!(result.unwrap_err().kind(), ErrorKind::Unauthorized),
                    false => drop(result.unwrap()),
                }
            }
        }
    }
}

/// Cameras of 64 that a server answers in some other way than 401, whatever the password.
fn dead(status: u16, cameras: impl Iterator<Item = u32>) -> AccountOddity {
    let paths = cameras.map(|camera| format!("/cam/{camera}"));
    AccountOddity::Dead(status, paths.collect())
}

#[tokio::test]
async fn f22_a_wrong_password_is_sent_twice_where_dead_channels_come_first() {
    // 0: closes the connection without an answer.
    for status in [404, 503, 454, 500, 0] {
        for multiplex in [Multiplex::Auto, Multiplex::Never, Multiplex::Always] {
            for auth in [basic(), digest()] {
                let oddities = [dead(status, 1..=10), AccountOddity::NewNonceEachTime];
                let server = server(64, auth.clone(), &oddities);
                let pooling = Pooling {
                    max_connections_per_server: 0,
                    ..with(multiplex)
                };
                let urls = urls(&server, 64, "wrong");
                for result in within_patience(try_all(&mux(), urls, &pooling)).await {
                    result.unwrap_err();
                }
                let requests = server.requests();
                let tried: Vec<&str> = requests
                    .iter()
                    .filter(has_password)
                    .map(|request| request.uri.as_str())
                    .collect();
                let case = format!("{status} {multiplex:?} {auth:?}");
                assert!(tried.len() <= 2, "{case}: {tried:?}");
            }
        }
    }
}

#[tokio::test]
async fn f22_with_the_right_password_ten_dead_channels_of_64_delay_no_other() {
    let places: [Vec<u32>; 2] = [(1..=10).collect(), (55..=64).collect()];
    for status in [404, 503] {
        for place in &places {
            for multiplex in [Multiplex::Auto, Multiplex::Never, Multiplex::Always] {
                let oddities = [
                    dead(status, place.iter().copied()),
                    AccountOddity::NewNonceEachTime,
                ];
                let server = server(64, digest(), &oddities);
                let pooling = Pooling {
                    max_connections_per_server: 0,
                    ..with(multiplex)
                };
                let urls = urls(&server, 64, "right");
                let began = std::time::Instant::now();
                let results = within_patience(try_all(&mux(), urls, &pooling)).await;
                let took = began.elapsed();
                let case = format!("{status} {multiplex:?} {place:?}");
                for (camera, result) in (1..).zip(results) {
                    match (place.contains(&camera), result) {
                        (true, result) => {
                            let tried: Vec<String> = server
                                .requests()
                                .iter()
                                .filter(has_password)
                                .map(|request| request.uri.clone())
                                .take(3)
                                .collect();
                            let error = result.unwrap_err();
                            assert_eq!(
                                error.status(),
                                Some(status),
                                "{case}: {camera}: {error}, tried {tried:?}"
                            );
                        }
                        (false, Ok(_)) => {}
                        (false, Err(error)) => panic!("{case}: camera {camera}: {error}"),
                    }
                }
                println!("{case}: {took:?}");
                assert!(took < Duration::from_secs(2), "{case}: {took:?}");
            }
        }
    }
}

/// How sessions fail to play with the right password where the server's cameras are all dead.
async fn all_dead(status: u16, mux: &Mux, urls: Vec<String>) -> Vec<ErrorKind> {
    let pooling = Pooling {
        max_connections_per_server: 0,
        ..with(Multiplex::Auto)
    };
    let results = within_patience(try_all(mux, urls, &pooling)).await;
    let kinds = results.into_iter().map(|result| {
        let error = result.unwrap_err();
        let is_held = error.kind() == ErrorKind::CredentialsOnHold;
        assert_eq!(error.retry_after().is_some(), is_held, "{status}: {error}");
        error.kind()
    });
    kinds.collect()
}

#[tokio::test]
async fn f22_behind_two_dead_channels_none_is_told_that_the_password_is_wrong() {
    // 0: closes the connection without an answer.
    for (status, expected) in [
        (404, ErrorKind::Status(404)),
        (503, ErrorKind::Status(503)),
        (0, ErrorKind::ConnectionLost),
    ] {
        let server = server(16, digest(), &[dead(status, 1..=16)]);
        let kinds = all_dead(status, &mux(), urls(&server, 16, "right")).await;
        let of_kind = |wanted| kinds.iter().filter(|kind| **kind == wanted).count();
        let on_hold = of_kind(ErrorKind::CredentialsOnHold);
        assert!(on_hold >= 14, "{status}: {kinds:?}");
        assert_eq!(on_hold + of_kind(expected), 16, "{status}: {kinds:?}");
        assert!(tries(&server) <= 2);
    }
}

#[tokio::test]
async fn f22_a_camera_that_plays_lets_all_try_that_were_on_hold() {
    let server = server(16, digest(), &[dead(404, 1..=15)]);
    let mux = crate::player::mux_of_this_runtime();
    let mut urls = urls(&server, 16, "right");
    let good = urls.pop().unwrap();
    all_dead(404, &mux, urls.clone()).await;
    let accepted = options(&urls[0]);
    let mut accepted = std::pin::pin!(mux.credentials_accepted(&accepted));
    let on_hold = play(&mux, options(&good)).await.unwrap_err();
    assert_eq!(on_hold.kind(), ErrorKind::CredentialsOnHold, "{on_hold}");
    pass(on_hold.retry_after().unwrap()).await;
    let is_early = tokio::select! {
        biased;
        () = &mut accepted => true,
        () = std::future::ready(()) => false,
    };
    assert!(!is_early);
    let session = play(&mux, options(&good)).await.unwrap();
    within_patience(accepted).await;
    let tried = tries(&server);
    for url in &urls {
        let error = play(&mux, options(url)).await.unwrap_err();
        assert_eq!(error.status(), Some(404), "{error}");
    }
    assert!(tries(&server) >= tried + 15);
    drop(session);
}

#[tokio::test]
async fn f22_two_multiplexers_of_a_process_share_the_tries() {
    for (oddities, cameras) in [
        (vec![AccountOddity::NewNonceEachTime], 1),
        (vec![AccountOddity::NewNonceEachTime], 16),
        (vec![dead(404, 1..=3), AccountOddity::NewNonceEachTime], 16),
    ] {
        for auth in [basic(), digest()] {
            let server = server(cameras, auth, &oddities);
            let muxes = [mux(), mux(), mux()];
            let pooling = Pooling::default();
            let started = muxes.iter().map(|mux| {
                let urls = urls(&server, cameras, "wrong");
                try_all(mux, urls, &pooling)
            });
            let [first, second, third]: [_; 3] =
                started.collect::<Vec<_>>().try_into().ok().unwrap();
            let results = within_patience(async { tokio::join!(first, second, third) }).await;
            for result in results.0.into_iter().chain(results.1).chain(results.2) {
                result.unwrap_err();
            }
            let tries = tries(&server);
            assert!(tries <= 2, "{cameras} cameras, {oddities:?}: {tries}");
        }
    }
}

#[tokio::test]
async fn f22_two_multiplexers_of_a_process_with_the_right_password_play_at_once() {
    for cameras in [1, 16] {
        let server = server(cameras, digest(), &[AccountOddity::NewNonceEachTime]);
        let began = std::time::Instant::now();
        let (one, other) = (mux(), mux());
        let urls = || urls(&server, cameras, "right");
        let pooling = Pooling::default();
        let (one, other) = within_patience(async {
            tokio::join!(
                try_all(&one, urls(), &pooling),
                try_all(&other, urls(), &pooling)
            )
        })
        .await;
        let sessions: Vec<Session> = one.into_iter().chain(other).map(Result::unwrap).collect();
        let took = began.elapsed();
        println!("{cameras} cameras: {took:?}");
        assert!(took < Duration::from_secs(2), "{took:?}");
        drop(sessions);
    }
}

/// Behind the check of the password the mock looks for the camera.
#[tokio::test]
async fn f22_a_404_proves_nothing_and_the_next_camera_plays() {
    let server = server(16, digest(), &[AccountOddity::NewNonceEachTime]);
    let mux = mux();
    let right = urls(&server, 1, "right").remove(0);
    let error = play(&mux, options(&right.replace("/cam/1", "/gone"))).await;
    assert_eq!(error.unwrap_err().status(), Some(404));
    play(&mux, options(&right)).await.unwrap();
}

#[tokio::test]
async fn f22_a_wrong_password_that_is_corrected_plays_at_once() {
    let server = server(16, digest(), &[AccountOddity::LocksAfter(5)]);
    let mux = mux();
    let wrong = urls(&server, 16, "wrong");
    for result in within_patience(try_all(&mux, wrong, &Pooling::default())).await {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unauthorized);
    }
    let right = urls(&server, 16, "right");
    let results = within_patience(try_all(&mux, right, &Pooling::default())).await;
    let mut sessions: Vec<Session> = results.into_iter().map(Result::unwrap).collect();
    assert_own_media(&server, &mut sessions).await;
}

#[tokio::test]
async fn f22_what_was_accepted_is_unproven_again_when_the_last_connection_is_gone() {
    let server = server(16, digest(), &[AccountOddity::LocksAfter(5)]);
    let port = server.address().port();
    let mux = mux();
    let session = play(&mux, options(&urls(&server, 1, "right")[0])).await;
    drop(session.unwrap());
    server.stop();
    let is_gone = |mux: &Mux| {
        mux.stats()
            .servers
            .iter()
            .all(|server| server.connections.is_empty())
    };
    eventually(|| is_gone(&mux)).await;
    let changed = Auth::Digest {
        algorithm: Algorithm::Md5,
        user: USER.to_owned(),
        password: "other".to_owned(),
    };
    let server = MockServer::builder()
        .cameras(16)
        .credentials(changed)
        .account(AccountOddity::NewNonceEachTime)
        .start_at(port);
    let urls = urls(&server, 16, "right");
    for result in within_patience(try_all(&mux, urls, &with(Multiplex::Never))).await {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unauthorized);
    }
    assert_eq!(tries(&server), 2);
}

#[tokio::test]
async fn a_server_that_wants_no_password_is_not_slowed_down() {
    let server = MockServer::builder()
        .cameras(16)
        .family(Family::Gst)
        .start();
    let mux = mux();
    let urls = urls(&server, 16, "needless");
    let tasks: Vec<_> = urls
        .iter()
        .map(|url| start(&mux, pooled(url, &with(Multiplex::Never))))
        .collect();
    for task in tasks {
        within_patience(task).await.unwrap().unwrap();
    }
    assert_eq!(tries(&server), 0);
}
