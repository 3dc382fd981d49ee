//! Bad input: the error says what was wrong with which camera, and no other session notices.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gstrtspmux::mux::{Error, ErrorKind, Initiator, Mux, Session, SessionOptions, Timeouts};

use crate::{
    player::{
        PATIENCE, camera_url, eventually, mux, mux_of_this_runtime, next_of_mock, options, pass,
        play, play_camera, server, try_all, with_credentials, within_patience,
    },
    support::{
        mock_server::{
            Algorithm, Auth, Behaviour, Builder, Camera, Family, MockServer, Reaction, Rule,
        },
        rtsp::Request,
    },
};

/// The camera that something is wrong with.
const BAD: &str = "/bad?channel=1";

/// `/cam/1`, and a bad one.
fn good_and(bad: Camera) -> Builder {
    MockServer::builder()
        .cameras(1)
        .family(Family::Gst)
        .camera(BAD, bad)
}

/// A session of `/cam/1` that nothing may disturb.
struct Sibling {
    session: Session,
    sequence: u16,
}

impl Sibling {
    async fn playing(mux: &Mux, server: &MockServer) -> Self {
        let session = play_camera(mux, server, 1).await;
        let mut sibling = Self {
            session,
            sequence: 0,
        };
        sibling.plays_on(server).await;
        sibling
    }

    /// Gets all of what the server sends now, and has missed nothing of what it sent before.
    async fn plays_on(&mut self, server: &MockServer) {
        server.send_packets("/cam/1", 5);
        for _ in 0..5 {
            assert_eq!(next_of_mock(&mut self.session).await, (1, self.sequence));
            self.sequence += 1;
        }
    }

    fn connection(&self) -> Option<u64> {
        self.session.monitor().stats().connection
    }
}

/// The error of a session that must not come to play, in time and naming its camera.
async fn fails(mux: &Mux, url: &str) -> Error {
    let options = options(url);
    let camera = options.url.to_string();
    let error = within_patience(play(mux, options)).await.unwrap_err();
    assert_eq!(error.camera(), Some(camera.as_str()));
    assert!(error.to_string().starts_with(&camera), "{error}");
    error
}

/// The error of the bad camera of a server, beside a good one on the same connection.
async fn fails_beside_a_sibling(server: MockServer) -> Error {
    let mux = mux();
    let mut sibling = Sibling::playing(&mux, &server).await;
    let error = fails(&mux, &server.url(BAD)).await;
    assert_eq!(error.connection(), sibling.connection(), "{error}");
    sibling.plays_on(&server).await;
    assert_eq!(server.accepted(), 1, "{error}");
    error
}

#[tokio::test]
async fn a_camera_that_is_not_there_is_a_404() {
    let server = server(1);
    let error = fails_beside_a_sibling(server).await;
    assert_eq!(
        (error.status(), error.request(), error.reason()),
        (Some(404), Some("DESCRIBE"), Some("Not Found"))
    );
    assert!(error.to_string().contains("404"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_status_of_setup_or_play_is_named_with_its_request() {
    for (request, status) in [("SETUP", 403), ("SETUP", 415), ("PLAY", 457), ("PLAY", 403)] {
        let rule = Rule::new(request, Reaction::status(status)).camera(BAD);
        let server = good_and(Camera::video()).rule(rule).start();
        let error = fails_beside_a_sibling(server).await;
        assert_eq!(
            (error.status(), error.request()),
            (Some(status), Some(request))
        );
        assert!(error.cseq().is_some());
    }
}

fn protected() -> MockServer {
    let auth = Auth::Digest {
        algorithm: Algorithm::Sha256,
        user: "viewer".to_owned(),
        password: "right".to_owned(),
    };
    MockServer::builder().cameras(20).credentials(auth).start()
}

/// Requests that carried credentials on other connections than the first.
fn tries(server: &MockServer) -> usize {
    let is_try = |request: &&crate::support::mock_server::Recorded| {
        request.connection > 0 && request.headers.contains("Authorization")
    };
    server.requests().iter().filter(is_try).count()
}

/// Other credentials are another key: such a session never gets near the sibling's connection.
#[tokio::test]
async fn f22_without_or_with_a_wrong_password_it_is_a_401() {
    let (mux, server) = (mux(), protected());
    let right = with_credentials(&camera_url(&server, 1), "viewer", "right");
    let mut sibling = Sibling {
        session: play(&mux, options(&right)).await.unwrap(),
        sequence: 0,
    };
    sibling.plays_on(&server).await;
    let without = camera_url(&server, 2);
    for (url, allowed) in [
        (without.clone(), 0),
        (with_credentials(&without, "viewer", "hunter2"), 1),
    ] {
        let error = fails(&mux, &url).await;
        assert_eq!(
            (error.kind(), error.status(), error.request()),
            (ErrorKind::Unauthorized, Some(401), Some("DESCRIBE"))
        );
        assert_ne!(error.connection(), sibling.connection());
        assert!(!error.is_retryable());
        assert!(tries(&server) <= allowed, "{} tries", tries(&server));
        sibling.plays_on(&server).await;
    }
}

#[tokio::test]
async fn f22_a_wrong_password_is_tried_once_for_all_sessions() {
    let (mux, server) = (mux(), protected());
    let right = with_credentials(&camera_url(&server, 1), "viewer", "right");
    let _sibling = play(&mux, options(&right)).await.unwrap();
    let urls =
        (1..=20).map(|camera| with_credentials(&camera_url(&server, camera), "viewer", "no"));
    for result in try_all(&mux, urls, &Default::default()).await {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    }
    assert!(tries(&server) <= 2, "{} tries", tries(&server));
}

#[tokio::test]
async fn a_description_that_is_not_utf8_plays() {
    let sdp = b"v=0\r\ns=caf\xe9\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
        a=control:stream=0\r\na=\xff:\xfe\r\n";
    let server = good_and(Camera::video().number(9).sdp(*sdp)).start();
    let mux = mux();
    let mut sibling = Sibling::playing(&mux, &server).await;
    let mut session = play(&mux, options(&server.url(BAD))).await.unwrap();
    server.send_packets(BAD, 1);
    assert_eq!(next_of_mock(&mut session).await, (9, 0));
    sibling.plays_on(&server).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_description_with_nothing_to_play_is_an_sdp_error() {
    for camera in [
        Camera::without_media(),
        Camera::video().sdp(""),
        Camera::video().sdp(*b"\0\xff\0"),
        Camera::video().sdp("<html>"),
    ] {
        let error = fails_beside_a_sibling(good_and(camera).start()).await;
        assert_eq!(
            (error.kind(), error.request(), error.initiator()),
            (ErrorKind::Sdp, Some("DESCRIBE"), Initiator::Server),
            "{error}"
        );
    }
}

#[tokio::test]
async fn f36_a_description_over_the_limit_is_skipped() {
    let camera = Camera::video().sdp_size(5 * 1024 * 1024);
    let error = fails_beside_a_sibling(good_and(camera).start()).await;
    assert_eq!(
        (error.kind(), error.request()),
        (ErrorKind::LimitExceeded, Some("DESCRIBE"))
    );
    assert!(error.to_string().contains("4194304"), "{error}");
}

async fn assert_headers_are_skipped(count: usize, length: usize) {
    let rule = Rule::new("DESCRIBE", Reaction::header_flood(count, length)).camera(BAD);
    let error = fails_beside_a_sibling(good_and(Camera::video()).rule(rule).start()).await;
    assert_eq!(
        (error.kind(), error.request()),
        (ErrorKind::LimitExceeded, Some("DESCRIBE")),
        "{count} headers of {length}: {error}"
    );
}

#[tokio::test]
async fn f36_headers_over_their_number_are_skipped() {
    assert_headers_are_skipped(2_000, 10).await;
}

/// As an answer to PLAY may have an `RTP-Info` of 60 kB.
#[tokio::test]
async fn f36_a_header_over_its_length_is_left_out_and_the_camera_plays() {
    let rule = Rule::new("DESCRIBE", Reaction::header_flood(1, 20_000)).camera(BAD);
    let server = good_and(Camera::video()).rule(rule).start();
    let mux = mux();
    let mut sibling = Sibling::playing(&mux, &server).await;
    let bad = play(&mux, options(&server.url(BAD))).await.unwrap();
    sibling.plays_on(&server).await;
    assert_eq!(bad.monitor().stats().connection, sibling.connection());
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn f36_headers_over_their_sum_are_skipped() {
    assert_headers_are_skipped(100, 1000).await;
}

/// The request that is not answered, and its error once its time is over.
async fn times_out(answer: Reaction, request: &str, timeouts: Timeouts) {
    let rule = Rule::new(request, answer).camera(BAD);
    let server = good_and(Camera::video()).rule(rule).start();
    let mux = Mux::builder()
        .runtime(tokio::runtime::Handle::current())
        .timeouts(timeouts)
        .build();
    let mut sibling = Sibling::playing(&mux, &server).await;
    let options = options(&server.url(BAD));
    let failing = tokio::spawn({
        let mux = mux.clone();
        async move { play(&mux, options).await }
    });
    let is_bad = |uri: &str| uri.contains(BAD);
    eventually(|| {
        let view = server.view();
        view.requests
            .iter()
            .any(|seen| seen.method == request && is_bad(&seen.uri))
    })
    .await;
    sibling.plays_on(&server).await;
    pass(TIMEOUT).await;
    let error = within_patience(failing).await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.request()),
        (ErrorKind::TimedOut, Some(request)),
        "{error}"
    );
    assert!(error.is_retryable());
    assert_eq!(error.connection(), sibling.connection(), "{error}");
    sibling.plays_on(&server).await;
    assert_eq!(server.accepted(), 1);
}

const TIMEOUT: Duration = Duration::from_secs(8);

#[tokio::test]
async fn an_answer_that_never_comes_is_waited_for_so_long() {
    let describe = Timeouts {
        describe: TIMEOUT,
        ..Timeouts::default()
    };
    times_out(Reaction::Ignore, "DESCRIBE", describe).await;
    let others = Timeouts {
        response: TIMEOUT,
        ..Timeouts::default()
    };
    times_out(Reaction::Ignore, "SETUP", others).await;
    times_out(Reaction::Ignore, "PLAY", others).await;
}

#[tokio::test]
async fn f16_an_answer_whose_status_line_is_garbage_is_none() {
    let describe = Timeouts {
        describe: TIMEOUT,
        ..Timeouts::default()
    };
    for garbage in [
        "RTSP/1.0 twohundred OK\r\nCSeq: 4\r\n\r\n",
        "RTSP/1.0\r\n\r\n",
        "RTSQ/1.0 200 OK\r\nCSeq: 4\r\n\r\n",
    ] {
        let answer = Reaction::Raw(garbage.as_bytes().to_vec());
        times_out(answer, "DESCRIBE", describe).await;
    }
}

/// A server of its own that says `answer` to everybody who connects, and closes or waits.
struct Oddity {
    url: String,
    thread: Option<JoinHandle<()>>,
}

impl Oddity {
    fn says(answer: &'static [u8], closes: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rtsp://{}/cam", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer);
            if !closes {
                let _ = stream.read_to_end(&mut Vec::new());
            }
        });
        Self {
            url,
            thread: Some(thread),
        }
    }
}

impl Drop for Oddity {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[tokio::test]
async fn a_web_server_is_told_apart() {
    let (mux, good) = (mux(), server(1));
    let mut sibling = Sibling::playing(&mux, &good).await;
    for closes in [true, false] {
        let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 5\r\n\r\n<html";
        let web = Oddity::says(answer, closes);
        let error = fails(&mux, &web.url).await;
        assert_eq!(error.request(), Some("DESCRIBE"), "{error}");
        assert!(error.to_string().contains("HTTP"), "{error}");
        sibling.plays_on(&good).await;
    }
}

#[tokio::test]
async fn bytes_of_no_protocol_end_in_an_error() {
    let (mux, good) = (mux(), server(1));
    let mut sibling = Sibling::playing(&mux, &good).await;
    for answer in [
        &b"SSH-2.0-OpenSSH_9.6\r\n"[..],
        b"\x15\x03\x01\0\x02\x02\x46",
    ] {
        let odd = Oddity::says(answer, false);
        let error = fails(&mux, &odd.url).await;
        assert_eq!(
            (error.kind(), error.request()),
            (ErrorKind::ConnectionLost, Some("DESCRIBE")),
            "{error}"
        );
        sibling.plays_on(&good).await;
    }
}

#[tokio::test]
async fn a_connection_closed_as_soon_as_it_was_accepted_is_lost() {
    let (mux, good) = (mux(), server(1));
    let mut sibling = Sibling::playing(&mux, &good).await;
    for behaviour in [Behaviour::EofOnAccept, Behaviour::CloseOnAccept] {
        let closing = MockServer::builder()
            .cameras(1)
            .behaviour(behaviour)
            .start();
        let error = fails(&mux, &camera_url(&closing, 1)).await;
        assert_eq!(
            (error.kind(), error.request()),
            (ErrorKind::ConnectionLost, Some("DESCRIBE")),
            "{error}"
        );
        assert!(error.is_retryable());
        assert!(closing.accepted() <= 2, "{}", closing.accepted());
        sibling.plays_on(&good).await;
    }
}

#[tokio::test]
async fn a_refused_port_and_an_unknown_host_are_told_apart() {
    let (mux, good) = (mux(), server(1));
    let mut sibling = Sibling::playing(&mux, &good).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = format!("rtsp://{}/cam", listener.local_addr().unwrap());
    drop(listener);
    let unknown = "rtsp://no-such-host.invalid/cam".to_owned();
    for (url, kind) in [(refused, ErrorKind::Connect), (unknown, ErrorKind::Resolve)] {
        let error = fails(&mux, &url).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.is_retryable());
        sibling.plays_on(&good).await;
    }
    assert_eq!(
        mux.stats().servers.len(),
        1,
        "failed attempts are forgotten"
    );
}

#[test]
fn what_is_no_rtsp_url_is_refused_at_once_and_named() {
    for (url, named) in [
        ("http://u:hunter2@nvr/cam", Some("http://nvr/cam")),
        ("rtsps://u:hunter2@nvr:0/cam", Some("rtsps://nvr:0/cam")),
        ("file:///dev/video0", None),
        ("rtsp:///cam", None),
        ("admin:hunter2@nvr/cam", None),
        ("rtsp://nvr:0/cam", Some("rtsp://nvr:0/cam")),
        ("nvr/cam", None),
        ("", None),
        ("rtsp://nvr:99999/cam?password=hunter2", None),
    ] {
        let error = SessionOptions::new(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}");
        assert_eq!(error.initiator(), Initiator::User, "{url}");
        assert_eq!(error.camera(), named, "{url}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}

/// A server that floods a connection loses that connection with all its sessions; others stay. The flood
/// comes in place of the answer to a request with the CSeq given to it.
async fn assert_ends_the_connection(storm: impl Fn(u32) -> Vec<u8>, reason: &str) {
    let rule = Rule::new("DESCRIBE", Reaction::Ignore).camera(BAD);
    let server = good_and(Camera::video()).rule(rule).start();
    let mux = mux();
    let mut sibling = Sibling::playing(&mux, &server).await;
    let mut bad = options(&server.url(BAD));
    bad.group = Some("apart".to_owned());
    let failing = tokio::spawn({
        let mux = mux.clone();
        async move { play(&mux, bad).await }
    });
    let asked = || {
        let requests = server.requests();
        requests.into_iter().find(|seen| seen.uri.contains(BAD))
    };
    eventually(|| asked().is_some()).await;
    let asked = asked().unwrap();
    server.send_raw(asked.connection, &storm(asked.headers.cseq().unwrap()));
    let error = within_patience(failing).await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.request()),
        (ErrorKind::ConnectionLost, Some("DESCRIBE")),
        "{error}"
    );
    assert!(error.to_string().contains(reason), "{error}");
    sibling.plays_on(&server).await;
    assert!(server.wait_until(|view| view.open_connections == 1, PATIENCE));
}

#[tokio::test]
async fn f19_a_storm_of_requests_ends_its_connection() {
    let requests = |_| {
        let request = |cseq: u32| Request::new("OPTIONS", "*").header("CSeq", cseq.to_string());
        (1..=150)
            .flat_map(|cseq| request(cseq).to_bytes())
            .collect()
    };
    assert_ends_the_connection(requests, "request").await;
}

#[tokio::test]
async fn f19_a_storm_of_provisional_answers_ends_its_connection() {
    let provisional = |cseq| {
        let answer = format!("RTSP/1.0 100 Continue\r\nCSeq: {cseq}\r\n\r\n");
        answer.repeat(50).into_bytes()
    };
    assert_ends_the_connection(provisional, "provisional").await;
}

#[tokio::test]
async fn f19_a_storm_of_answers_to_nothing_ends_its_connection() {
    let unasked = |_| b"RTSP/1.0 200 OK\r\nCSeq: 4711\r\n\r\n".repeat(50);
    assert_ends_the_connection(unasked, "not asked").await;
}

#[tokio::test]
async fn server_requests_within_reason_are_answered_once_each() {
    let requests = (0..50).map(|_| Request::new("OPTIONS", "*")).collect();
    let server = MockServer::builder()
        .cameras(1)
        .behaviour(Behaviour::RequestsAfterPlay(requests))
        .start();
    let mux = mux_of_this_runtime();
    let mut sibling = Sibling::playing(&mux, &server).await;
    eventually(|| server.view().responses.len() == 50).await;
    sibling.plays_on(&server).await;
    let view = server.view();
    let mut answered: Vec<_> = view
        .responses
        .iter()
        .map(|(_, response)| response.headers.cseq())
        .collect();
    answered.dedup();
    assert_eq!(answered.len(), 50);
}

/// A listener whose queue is full: the system drops what else would connect, without a word.
fn black_hole() -> (socket2::Socket, Vec<TcpStream>) {
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    listener.bind(&any_port.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let fill = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
    let waiting = std::iter::from_fn(fill).collect();
    (listener, waiting)
}

#[tokio::test]
async fn f02_a_server_that_does_not_answer_at_all_is_an_error_after_connect_timeout() {
    let (listener, _waiting) = black_hole();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut options = options(&format!("rtsp://{address}/cam/1"));
    assert_eq!(
        options.connect_timeout,
        Duration::from_secs(5),
        "the default"
    );
    options.connect_timeout = Duration::from_millis(300);
    let started = Instant::now();
    let error = within_patience(play(&mux(), options)).await.unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(
        error.to_string().contains("no answer within 300ms"),
        "{error}"
    );
}

/// A session that is dropped while the server checks its password has made a try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f22_a_try_without_a_waiting_caller_counts() {
    let auth = Auth::Digest {
        algorithm: Algorithm::Md5,
        user: "admin".to_owned(),
        password: "right".to_owned(),
    };
    let server = MockServer::builder().cameras(1).credentials(auth).start();
    // The second one carries the password.
    server.add_rule(Rule::new("DESCRIBE", Reaction::Ignore).skip(1).times(1));
    let mux = mux();
    let url = with_credentials(&camera_url(&server, 1), "admin", "wrong");
    let mut options = options(&url);
    options.pooling.idle_connection_timeout = Duration::ZERO;
    let going = tokio::spawn({
        let (mux, options) = (mux.clone(), options.clone());
        async move { play(&mux, options).await }
    });
    assert!(server.wait_until(|view| view.count("DESCRIBE") == 2, PATIENCE));
    going.abort();
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
    for _ in 0..3 {
        let error = play(&mux, options.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CredentialsOnHold, "{error}");
    }
    let view = server.view();
    let tries = view
        .requests
        .iter()
        .filter(|request| request.headers.contains("Authorization"));
    assert_eq!(tries.count(), 1);
}

/// The server says nothing to DESCRIBE, or to SETUP; another session of the connection goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f02_answer_timeout_bounds_the_wait_of_one_session() {
    for method in ["DESCRIBE", "SETUP", "PLAY"] {
        let server = MockServer::builder().cameras(2).start();
        let mux = mux();
        let mut sibling = play(&mux, options(&camera_url(&server, 1))).await.unwrap();
        server.add_rule(Rule::new(method, Reaction::Ignore));
        let mut impatient = options(&camera_url(&server, 2));
        assert_eq!(impatient.answer_timeout, None, "the default");
        impatient.answer_timeout = Some(Duration::from_millis(300));
        let started = Instant::now();
        let error = within_patience(play(&mux, impatient)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{method}: {error}");
        assert!(started.elapsed() < Duration::from_secs(5), "{method}");
        server.send_packets("/cam/1", 1);
        assert!(within_patience(sibling.next()).await.is_some(), "{method}");
    }
}
