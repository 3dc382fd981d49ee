//! Users that see the requests of their connection, and answer those of the server.

use std::sync::{Arc, Mutex};

use gstrtspmux::mux::{BeforeSend, ErrorKind, Multiplex, OnRequest, SessionOptions};

use crate::{
    player::{eventually, mux, options, play, server},
    support::rtsp::Request,
};

fn unshared(url: &str) -> SessionOptions {
    let mut options = options(url);
    options.pooling.multiplex = Multiplex::Never;
    options
}

#[tokio::test]
async fn requests_are_shown_and_changed_on_an_unshared_connection_only() {
    let server = server(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let methods = Arc::clone(&seen);
    let before_send = BeforeSend::new(move |request| {
        methods.lock().unwrap().push(request.method.clone());
        let marked = ("X-Seen".to_owned(), request.method.clone());
        request.headers.push(marked);
        true
    });
    let shared = SessionOptions {
        before_send: Some(before_send.clone()),
        ..options(&server.url("/cam/1"))
    };
    let error = play(&mux(), shared).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Options);
    let own = SessionOptions {
        before_send: Some(before_send),
        ..unshared(&server.url("/cam/1"))
    };
    let session = play(&mux(), own).await.unwrap();
    session.teardown().await.unwrap();
    let seen = seen.lock().unwrap().clone();
    for method in ["DESCRIBE", "SETUP", "PLAY", "TEARDOWN"] {
        assert!(seen.iter().any(|it| it == method), "{method}: {seen:?}");
    }
    for request in server.requests() {
        let method = Some(&*request.method);
        assert_eq!(request.headers.value("X-Seen"), method);
    }
}

#[tokio::test]
async fn a_request_that_its_user_holds_back_is_the_users_error() {
    let server = server(1);
    let options = SessionOptions {
        before_send: Some(BeforeSend::new(|request| request.method != "SETUP")),
        ..unshared(&server.url("/cam/1"))
    };
    let error = play(&mux(), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Options);
    let text = error.to_string();
    assert!(
        text.contains("the application has held the request back"),
        "{text}"
    );
}

#[tokio::test]
async fn the_user_answers_a_request_of_the_server() {
    let server = server(1);
    let options = SessionOptions {
        on_request: Some(OnRequest::new(|request, answer| {
            assert_eq!(request.method, "ANNOUNCE");
            (answer.code, answer.reason) = (451, "No".to_owned());
        })),
        ..unshared(&server.url("/cam/1"))
    };
    let session = play(&mux(), options).await.unwrap();
    server.send_request(0, Request::new("ANNOUNCE", "*").header("CSeq", "7"));
    eventually(|| {
        let responses = server.view().responses;
        responses.iter().any(|(_, it)| it.status == 451)
    })
    .await;
    session.teardown().await.unwrap();
}
