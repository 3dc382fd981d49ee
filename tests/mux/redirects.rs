//! F40: where redirects lead, and where they end.

use std::time::Duration;

use gstrtspmux::mux::{Error, ErrorKind, Mux, SessionOptions};

use crate::{
    player::{camera_url, mux, next_of_mock, options, play, server, with_credentials},
    support::mock_server::{Auth, MockServer, Reaction, Rule},
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

#[tokio::test]
async fn f40_another_protocol_is_not_followed() {
    let (mux, server) = (mux(), server(1));
    for to in ["rtspu://127.0.0.1/cam", "http://127.0.0.1/cam"] {
        redirect(&server, 1, to);
        let error = refused(&mux, options(&camera_url(&server, 1))).await;
        assert!(error.to_string().contains("cannot go"), "{to}: {error}");
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
    redirect(
        &server,
        1,
        &with_credentials(&camera_url(&elsewhere, 1), "x", "y"),
    );
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
