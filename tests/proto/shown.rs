//! Requests that the user sees before they are sent, and requests of the server that the user answers.

use gstrtspmux::mux::proto::{
    ConnectionConfig, Event, FailureKind, OutgoingRequest, ServerAnswer, ServerRequest,
};

use crate::sim::{SECOND, Sim, config};
use crate::support::rtsp::{Incoming, Request, Response};

fn showing() -> Sim {
    Sim::new(ConnectionConfig {
        shows_requests: true,
        ..config()
    })
}

fn shown(sim: &mut Sim) -> (u64, OutgoingRequest) {
    sim.expect_nothing_sent();
    match sim.next_event() {
        Some(Event::BeforeSend { number, request }) => (number, request),
        other => panic!("no request is shown, but {other:?}"),
    }
}

fn sent(sim: &mut Sim) -> Request {
    match sim.next_sent() {
        Some(Incoming::Request(request)) => request,
        other => panic!("no request, but {other:?}"),
    }
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_request_goes_as_its_user_has_left_it() {
    let mut sim = showing();
    let session = sim.open("rtsp://nvr/1");
    sim.describe(session);
    let (number, mut request) = shown(&mut sim);
    assert_eq!(
        (&*request.method, &*request.uri),
        ("DESCRIBE", "rtsp://nvr/1")
    );
    let expected = [
        header("User-Agent", "test"),
        header("Accept", "application/sdp"),
    ];
    assert_eq!(request.headers, expected);
    request.headers.remove(0);
    for (name, value) in [
        ("Require", "onvif-replay"),
        ("CSeq", "99"),
        ("Session", "other"),
        ("Authorization", "Basic abc"),
        ("Content-Length", "7"),
        ("no name", "x"),
        ("X", "1\r\nY: 2"),
    ] {
        request.headers.push(header(name, value));
    }
    sim.seen(number, Some(request.headers));
    let request = sent(&mut sim);
    let headers: Vec<_> = request.headers.iter().collect();
    assert_eq!(
        headers,
        [
            ("CSeq", "1"),
            ("Accept", "application/sdp"),
            ("Require", "onvif-replay"),
            ("X", "1Y: 2"),
        ]
    );
}

#[test]
fn the_channels_of_a_setup_stay_those_of_the_connection() {
    for (edited, goes) in [
        (
            "RTP/AVP/TCP;unicast;interleaved=8-9",
            "RTP/AVP/TCP;unicast;interleaved=0-1",
        ),
        ("RTP/AVP/TCP;unicast", "RTP/AVP/TCP;unicast;interleaved=0-1"),
        (
            "RTP/AVP/TCP;unicast;interleaved=0-1;mode=play",
            "RTP/AVP/TCP;unicast;interleaved=0-1;mode=play",
        ),
    ] {
        let mut sim = showing();
        let session = sim.open("rtsp://nvr/1");
        sim.setup(session, "rtsp://nvr/1/track1");
        let (number, mut request) = shown(&mut sim);
        let transport = request.headers.iter_mut();
        let transport = transport.filter(|(name, _)| name == "Transport");
        transport.for_each(|(_, value)| *value = edited.to_owned());
        sim.seen(number, Some(request.headers));
        let request = sent(&mut sim);
        assert_eq!(request.headers.value("Transport"), Some(goes));
    }
}

#[test]
fn a_request_that_is_held_back_fails_and_the_next_one_is_shown() {
    let mut sim = showing();
    let session = sim.open("rtsp://nvr/1");
    sim.describe(session);
    let (number, _) = shown(&mut sim);
    sim.seen(number, None);
    let Some(Event::Completed { result, .. }) = sim.next_event() else {
        panic!("it is not over");
    };
    assert_eq!(result.unwrap_err().kind, FailureKind::Withheld);
    sim.describe(session);
    let (next, request) = shown(&mut sim);
    // The answer about the first one comes again, and is not taken for one about the second.
    sim.seen(number, None);
    sim.expect_nothing_sent();
    sim.seen(next, Some(request.headers));
    assert_eq!(sent(&mut sim).method, "DESCRIBE");
}

#[test]
fn a_session_that_ends_takes_the_request_that_is_shown_with_it() {
    let mut sim = showing();
    let session = sim.open("rtsp://nvr/1");
    sim.describe(session);
    let (number, request) = shown(&mut sim);
    sim.release(session);
    let Some(Event::Completed { result, .. }) = sim.next_event() else {
        panic!("it is not over");
    };
    assert_eq!(result.unwrap_err().kind, FailureKind::Cancelled);
    assert!(matches!(sim.next_event(), Some(Event::SessionClosed(_))));
    sim.seen(number, Some(request.headers));
    sim.expect_nothing_sent();
}

/// Lets all requests pass.
fn pass(sim: &mut Sim) -> Request {
    let (number, request) = shown(sim);
    sim.seen(number, Some(request.headers));
    sent(sim)
}

#[test]
fn keep_alive_and_teardown_are_shown_and_count_as_sent_if_they_are_held_back() {
    let mut sim = showing();
    let session = sim.open("rtsp://nvr/1");
    sim.setup(session, "rtsp://nvr/1/track1");
    assert_eq!(pass(&mut sim).method, "SETUP");
    let granted = [
        "Session: A;timeout=10",
        "Transport: RTP/AVP/TCP;interleaved=0-1",
    ];
    sim.answer(200, 1, &granted);
    assert!(matches!(
        sim.next_event(),
        Some(Event::Completed { result: Ok(_), .. })
    ));
    for _ in 0..3 {
        sim.advance(10 * SECOND);
        let (number, request) = shown(&mut sim);
        assert!(matches!(&*request.method, "GET_PARAMETER" | "OPTIONS"));
        assert!(request.headers.contains(&header("Session", "A")));
        sim.seen(number, None);
        sim.expect_nothing_sent();
    }
    sim.release(session);
    let (number, request) = shown(&mut sim);
    assert_eq!(request.method, "TEARDOWN");
    sim.seen(number, None);
    sim.expect_nothing_sent();
    let rest = std::iter::from_fn(|| sim.next_event());
    assert!(
        rest.into_iter()
            .any(|it| matches!(it, Event::SessionClosed(_)))
    );
}

fn asking() -> Sim {
    Sim::new(ConnectionConfig {
        asks_for_answers: true,
        ..config()
    })
}

fn asked(sim: &mut Sim, method: &str) -> (u64, ServerRequest, ServerAnswer) {
    let request = Request::new(method, "rtsp://nvr/1")
        .header("CSeq", "5")
        .header("Session", "A;timeout=60")
        .header("X", "1");
    sim.receive(&request.to_bytes());
    sim.expect_nothing_sent();
    match sim.next_event() {
        Some(Event::ServerRequest {
            number,
            request,
            answer,
        }) => (number, request, answer),
        other => panic!("the user is not asked, but {other:?}"),
    }
}

fn answered(sim: &mut Sim) -> Response {
    match sim.next_sent() {
        Some(Incoming::Response(response)) => response,
        other => panic!("no answer, but {other:?}"),
    }
}

#[test]
fn the_user_answers_a_request_of_the_server() {
    let mut sim = asking();
    let (number, request, mut answer) = asked(&mut sim, "ANNOUNCE");
    assert_eq!(
        (&*request.method, &*request.uri),
        ("ANNOUNCE", "rtsp://nvr/1")
    );
    assert!(request.headers.contains(&header("X", "1")));
    assert_eq!(answer.code, 200);
    (answer.code, answer.reason) = (451, "No\r\nInvalid: x".to_owned());
    for (name, value) in [("X", "2"), ("CSeq", "8"), ("Content-Length", "77")] {
        answer.headers.push(header(name, value));
    }
    answer.body = "why".into();
    sim.answer_server(number, &answer);
    let response = answered(&mut sim);
    assert_eq!((response.status, &*response.body), (451, &b"why"[..]));
    for (name, value) in [
        ("CSeq", "5"),
        ("Session", "A"),
        ("X", "2"),
        ("Content-Length", "3"),
    ] {
        assert_eq!(response.headers.value(name), Some(value), "{name}");
    }
    sim.answer_server(number, &answer);
    sim.advance(3 * SECOND);
    sim.expect_nothing_sent();
}

#[test]
fn without_an_answer_in_time_the_usual_one_goes_out() {
    for (method, code) in [("OPTIONS", 200), ("RECORD", 501)] {
        let mut sim = asking();
        let (number, _, answer) = asked(&mut sim, method);
        sim.advance(SECOND);
        sim.expect_nothing_sent();
        sim.advance(SECOND);
        assert_eq!(answered(&mut sim).status, code, "{method}");
        sim.answer_server(number, &answer);
        sim.expect_nothing_sent();
    }
}

#[test]
fn a_server_that_asks_without_end_is_answered_as_usual() {
    let mut sim = asking();
    for _ in 0..8 {
        asked(&mut sim, "OPTIONS");
    }
    let request = Request::new("OPTIONS", "rtsp://nvr/1").header("CSeq", "9");
    sim.receive(&request.to_bytes());
    assert_eq!(answered(&mut sim).headers.value("CSeq"), Some("9"));
}
