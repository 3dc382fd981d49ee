//! F40: where redirects lead, and where they end.

use std::time::Duration;

use gstrtspmux::mux::{Error, ErrorKind, Mux, SessionOptions};

use crate::{
    player::{camera_url, mux, next_of_mock, options, play, server, with_credentials},
    support::{
        mock_server::{AccountOddity, Algorithm, Auth, MockServer, Reaction, Rule},
        rtsp::Response,
    },
};

/// From one camera of a server to anywhere.
fn redirect(server: &MockServer, camera: u32, to: &str) {
    let rule = Rule::new("DESCRIBE", Reaction::redirect(to));
    server.add_rule(rule.camera(&format!("/cam/{camera}")));
}

async fn refused(mux: &Mux, options: SessionOptions) -> Error {
    let camera = options.url.to_string();
    let error = play(mux, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirects, "{error}");
    assert_eq!(error.request(), Some("DESCRIBE"));
    assert_eq!(error.camera(), Some(camera.as_str()));
    assert!(!error.is_retryable());
    error
}

/// A chain of so many redirects; the last camera plays.
async fn chain(redirects: u32) -> (MockServer, Mux) {
    let (mux, server) = (mux(), server(redirects + 1));
    for camera in 1..=redirects {
        redirect(&server, camera, &camera_url(&server, camera + 1));
    }
    (server, mux)
}

#[tokio::test]
async fn f40_five_redirects_are_followed_on_one_connection() {
    let (server, mux) = chain(5).await;
    // Until the server has said who it is, another URI gets another connection.
    let _known = play(&mux, options(&camera_url(&server, 6))).await.unwrap();
    let mut session = play(&mux, options(&camera_url(&server, 1))).await.unwrap();
    server.send_packets("/cam/6", 1);
    assert_eq!(next_of_mock(&mut session).await.0, 6);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn f40_six_redirects_are_too_many() {
    let (server, mux) = chain(6).await;
    refused(&mux, options(&camera_url(&server, 1))).await;
    assert_eq!(server.view().count("DESCRIBE"), 6);
}

#[tokio::test]
async fn f40_a_loop_of_redirects_ends() {
    let (mux, server) = (mux(), server(2));
    redirect(&server, 1, &camera_url(&server, 2));
    redirect(&server, 2, &camera_url(&server, 1));
    refused(&mux, options(&camera_url(&server, 1))).await;
    assert_eq!(server.view().count("DESCRIBE"), 2);
}

/// Some write a path, or the URL that was asked for, and describe at the second request.
#[tokio::test]
async fn f40_a_redirect_may_be_relative_or_lead_to_the_same_url_once() {
    for (to, leads_to) in [("/cam/2", 2), ("2", 2), ("", 1)] {
        let (mux, server) = (mux(), server(2));
        let to = match to {
            "" => camera_url(&server, 1),
            to => to.to_owned(),
        };
        server.add_rule(
            Rule::new("DESCRIBE", Reaction::redirect(&to))
                .camera("/cam/1")
                .times(1),
        );
        let mut session = play(&mux, options(&camera_url(&server, 1))).await.unwrap();
        server.send_packets(&format!("/cam/{leads_to}"), 1);
        assert_eq!(next_of_mock(&mut session).await.0, leads_to, "{to}");
    }
    let (mux, server) = (mux(), server(1));
    redirect(&server, 1, &camera_url(&server, 1));
    refused(&mux, options(&camera_url(&server, 1))).await;
    assert_eq!(server.view().count("DESCRIBE"), 2);
}

#[tokio::test]
async fn f40_a_redirect_of_play_is_followed() {
    let (mux, server) = (mux(), server(2));
    let to = Reaction::redirect(&camera_url(&server, 2));
    server.add_rule(Rule::new("PLAY", to).camera("/cam/1"));
    let mut session = play(&mux, options(&camera_url(&server, 1))).await.unwrap();
    server.send_packets("/cam/2", 1);
    assert_eq!(next_of_mock(&mut session).await.0, 2);
    let view = server.view();
    assert!(
        view.sessions.iter().all(|it| it.camera == "/cam/2"),
        "{view:?}"
    );
}

#[tokio::test]
async fn f40_another_protocol_is_not_followed() {
    let (mux, server) = (mux(), server(1));
    for to in ["rtmp://127.0.0.1/cam", "http://127.0.0.1/cam"] {
        redirect(&server, 1, to);
        let error = refused(&mux, options(&camera_url(&server, 1))).await;
        assert!(error.to_string().contains("cannot go"), "{to}: {error}");
    }
}

/// A scheme that names a transport besides is followed over TCP.
#[tokio::test]
async fn f40_a_redirect_chooses_no_transport() {
    for scheme in ["RTSP", "rtspt", "rtspu"] {
        let (mux, server) = (mux(), server(2));
        let to = camera_url(&server, 2).replacen("rtsp", scheme, 1);
        redirect(&server, 1, &to);
        let mut session = play(&mux, options(&camera_url(&server, 1))).await.unwrap();
        server.send_packets("/cam/2", 1);
        assert_eq!(next_of_mock(&mut session).await.0, 2, "{scheme}");
    }
}

#[tokio::test]
async fn f40_another_server_gets_no_credentials() {
    let mux = mux();
    let auth = Auth::Basic {
        user: "admin".to_owned(),
        password: "hunter2".to_owned(),
    };
    let elsewhere = MockServer::builder().cameras(1).credentials(auth).start();
    let server = server(1);
    redirect(&server, 1, &camera_url(&elsewhere, 1));
    let url = with_credentials(&camera_url(&server, 1), "admin", "hunter2");
    let error = play(&mux, options(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert_eq!(error.camera(), Some(camera_url(&elsewhere, 1).as_str()));
    for request in elsewhere.requests() {
        assert!(!request.headers.contains("Authorization"), "{request:?}");
        assert!(!request.uri.contains('@'), "{request:?}");
    }
}

#[tokio::test]
async fn f40_a_camera_of_another_server_plays() {
    let mux = mux();
    let (first, second) = (server(1), server(2));
    redirect(&first, 1, &camera_url(&second, 2));
    let mut session = play(&mux, options(&camera_url(&first, 1))).await.unwrap();
    second.send_packets("/cam/2", 1);
    assert_eq!(next_of_mock(&mut session).await.0, 2);
    session.teardown().await.unwrap();
    mux.shutdown(Duration::from_secs(3)).await;
    assert_eq!((first.accepted(), second.accepted()), (1, 1));
}

/// Requests of this server that carry credentials.
fn authorised(server: &MockServer) -> Vec<String> {
    let requests = server.requests().into_iter();
    let headers = requests.filter_map(|r| r.headers.value("Authorization").map(str::to_owned));
    headers.collect()
}

fn asks_for(auth: Auth) -> MockServer {
    MockServer::builder().cameras(2).credentials(auth).start()
}

fn digest(user: &str, password: &str) -> Auth {
    Auth::Digest {
        algorithm: Algorithm::Md5,
        user: user.to_owned(),
        password: password.to_owned(),
    }
}

/// A cloud of cameras lends the credentials of the camera.
#[tokio::test]
async fn f40_credentials_of_the_location_are_for_there_and_only_there() {
    let basic = Auth::Basic {
        user: "viewer".to_owned(),
        password: "p@ss:word".to_owned(),
    };
    for auth in [basic, digest("viewer", "p@ss:word")] {
        let (mux, camera, third) = (
            mux(),
            asks_for(auth),
            asks_for(digest("viewer", "p@ss:word")),
        );
        let cloud = asks_for(digest("admin", "hunter2"));
        let lent = with_credentials(&camera_url(&camera, 1), "viewer", "p%40ss%3Aword");
        redirect(&cloud, 1, &lent);
        let url = with_credentials(&camera_url(&cloud, 1), "admin", "hunter2");
        let mut session = play(&mux, options(&url)).await.unwrap();
        camera.send_packets("/cam/1", 1);
        assert_eq!(next_of_mock(&mut session).await.0, 1);
        assert!(
            !authorised(&camera)
                .iter()
                .any(|line| line.contains("admin"))
        );
        assert!(
            !authorised(&cloud)
                .iter()
                .any(|line| line.contains("viewer"))
        );
        let uris = [camera.requests(), cloud.requests()].concat();
        assert!(uris.iter().all(|request| !request.uri.contains('@')));
        session.teardown().await.unwrap();

        // Elsewhere on the same server, and on to another one.
        redirect(&cloud, 2, &lent);
        redirect(&camera, 1, &camera_url(&camera, 2));
        let url = with_credentials(&camera_url(&cloud, 2), "admin", "hunter2");
        let session = play(&mux, options(&url)).await.unwrap();
        session.teardown().await.unwrap();
        redirect(&camera, 2, &camera_url(&third, 1));
        let error = play(&mux, options(&url)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
        assert_eq!(authorised(&third), [""; 0]);
        for secret in ["p@ss", ":word", "hunter2", "viewer"] {
            assert!(!format!("{error:?} {error}").contains(secret), "{error:?}");
        }
    }
}

/// The server lends other credentials than the user's for itself.
#[tokio::test]
async fn f40_credentials_of_the_location_go_before_the_users_own() {
    let (mux, server) = (mux(), asks_for(digest("viewer", "43")));
    let lent = with_credentials(&camera_url(&server, 1), "viewer", "43");
    let rule = Rule::new("DESCRIBE", Reaction::redirect(&lent)).times(1);
    server.add_rule(rule.camera("/cam/1"));
    let mut session = play(&mux, options(&camera_url(&server, 1))).await.unwrap();
    server.send_packets("/cam/1", 1);
    assert_eq!(next_of_mock(&mut session).await.0, 1);
}

/// The same for those whom the server knows: it asks for user and password first.
fn redirect_behind_401(server: &MockServer, to: &str) {
    let to = to.to_owned();
    let redirect = Reaction::edit(move |response| {
        if response.status == 200 {
            *response = Response::new(302)
                .header("CSeq", response.headers.value("CSeq").unwrap_or_default())
                .header("Location", &to);
        }
    });
    server.add_rule(Rule::new("DESCRIBE", redirect).camera("/cam/1"));
}

/// A server whose cameras have a realm each.
fn realms(auth: Auth) -> MockServer {
    MockServer::builder()
        .cameras(2)
        .credentials(auth)
        .account(AccountOddity::RealmPerCamera)
        .start()
}

/// A recorder hands its streams out at another port.
#[tokio::test]
async fn f40_the_users_own_credentials_go_to_another_port_of_the_host() {
    let auth = || digest("admin", "hunter2");
    for (recorder, streams) in [
        (asks_for(auth()), asks_for(auth())),
        (realms(auth()), realms(auth())),
    ] {
        let mux = mux();
        redirect_behind_401(&recorder, &camera_url(&streams, 1));
        let url = with_credentials(&camera_url(&recorder, 1), "admin", "hunter2");
        let mut session = play(&mux, options(&url)).await.unwrap();
        streams.send_packets("/cam/1", 1);
        assert_eq!(next_of_mock(&mut session).await.0, 1);
        let uris = [recorder.requests(), streams.requests()].concat();
        assert!(uris.iter().all(|request| !request.uri.contains('@')));
        session.teardown().await.unwrap();
    }
}

#[tokio::test]
async fn f40_the_users_own_credentials_go_to_another_port_by_digest_of_the_same_realm_only() {
    let auth = || digest("admin", "hunter2");
    let basic = Auth::Basic {
        user: "admin".to_owned(),
        password: "hunter2".to_owned(),
    };
    let no_realm = || MockServer::builder().cameras(2).start();
    for (what, recorder, streams, camera) in [
        ("Basic", asks_for(auth()), asks_for(basic), 1),
        ("another realm", realms(auth()), realms(auth()), 2),
        (
            "a realm of which nothing is known",
            no_realm(),
            asks_for(auth()),
            1,
        ),
    ] {
        let mux = mux();
        redirect_behind_401(&recorder, &camera_url(&streams, camera));
        let url = with_credentials(&camera_url(&recorder, 1), "admin", "hunter2");
        let error = play(&mux, options(&url)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{what}: {error}");
        assert_eq!(authorised(&streams), [""; 0], "{what}");
        for secret in ["hunter2", "admin"] {
            assert!(!format!("{error:?} {error}").contains(secret), "{error:?}");
        }
    }
}

/// Two names of one machine may be two machines later.
#[tokio::test]
async fn f40_the_users_own_credentials_go_to_the_host_as_the_user_has_written_it() {
    let (mux, auth) = (mux(), || digest("admin", "hunter2"));
    let (recorder, streams) = (asks_for(auth()), asks_for(auth()));
    let elsewhere = camera_url(&streams, 1).replace("127.0.0.1", "localhost");
    redirect_behind_401(&recorder, &elsewhere);
    let url = with_credentials(&camera_url(&recorder, 1), "admin", "hunter2");
    let error = play(&mux, options(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert_eq!(authorised(&streams), [""; 0]);
}
