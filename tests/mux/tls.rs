//! RTSP over TLS: who is trusted, who shares, and what is said when it does not work.
//!
//! What speaks TLS is a proxy in front of the mock server, or a real gst-rtsp-server: neither has
//! anything in common with the library's side but the cryptography.

use std::{net::TcpListener, time::Duration};

use gstrtspmux::mux::{
    CertificateChecks, Error, ErrorKind, Mux, Pooling, RetryBounds, Session, SessionOptions,
    TlsFailure, TlsOptions,
};
use tokio::io::AsyncReadExt as _;
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::{
    certificates::{Authority, Request},
    player::{
        PATIENCE, eventually, mux, next_of_mock, next_rtp, options, play, server, within_patience,
    },
    support::mock_server::{Behaviour, Family, MockServer, Reaction, Rule},
    tls_front::{Terms, TlsFront},
};

#[path = "tls/certificates.rs"]
mod certificates;
#[path = "tls/decisions.rs"]
mod decisions;
#[cfg(feature = "plugin")]
#[path = "tls/real_server.rs"]
mod real_server;
#[path = "tls/unasked.rs"]
mod unasked;

fn trusting(authority: &Authority) -> TlsOptions {
    let pem = authority.pem();
    TlsOptions::default()
        .with_authorities(pem.as_bytes())
        .unwrap()
}

fn secure(url: &str, tls: &TlsOptions) -> SessionOptions {
    SessionOptions {
        tls: tls.clone(),
        ..options(url)
    }
}

/// A mock server behind TLS, and the options that trust it.
struct Secured {
    server: MockServer,
    front: TlsFront,
    tls: TlsOptions,
}

impl Secured {
    /// A camera for each version of TLS.
    fn of_each_version() -> impl Iterator<Item = Self> {
        [&TLS12, &TLS13].into_iter().map(|version| {
            let terms = Terms {
                version: Some(version),
                ..Terms::default()
            };
            Self::with_terms(1, &terms)
        })
    }

    fn with_terms(cameras: u32, terms: &Terms) -> Self {
        Self::in_front_of(server(cameras), terms)
    }

    fn in_front_of(server: MockServer, terms: &Terms) -> Self {
        let authority = Authority::new();
        let identity = authority.issue(&Request::server(&["localhost", "127.0.0.1"]));
        let front = TlsFront::with_terms(&identity, server.address(), terms);
        let tls = trusting(&authority);
        Self { server, front, tls }
    }

    fn new(cameras: u32) -> Self {
        Self::with_terms(cameras, &Terms::default())
    }

    async fn play(&self, mux: &Mux, camera: u32) -> Result<Session, Error> {
        let url = self.front.url(&format!("/cam/{camera}"));
        play(mux, secure(&url, &self.tls)).await
    }
}

/// The check of descriptions that are alike goes over TLS as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_cameras_show_their_own_pictures() {
    let of_family = |family| MockServer::builder().cameras(4).family(family).start();
    let only_latches = MockServer::builder()
        .cameras(4)
        .behaviour(Behaviour::LatchesFirst)
        .behaviour(Behaviour::NoContentBase);
    for server in [
        of_family(Family::Go2Rtc),
        of_family(Family::AioToolkit),
        only_latches.start(),
        MockServer::builder().cameras_of_one_model(4).start(),
    ] {
        let secured = Secured::in_front_of(server, &Terms::default());
        let mux = mux();
        let all = (1..=4).map(|camera| {
            let url = secured.front.url(&format!("/cam/{camera}"));
            secure(&url, &secured.tls)
        });
        let openings = mux.open_many(all.collect()).into_iter();
        let started: Vec<_> = openings
            .map(|opening| {
                tokio::spawn(async { opening.describe().await?.setup_all().await?.play().await })
            })
            .collect();
        let mut sessions = Vec::new();
        for session in started {
            sessions.push(session.await.unwrap().unwrap());
        }
        for camera in 1..=4 {
            secured.server.send_packets(&format!("/cam/{camera}"), 1);
        }
        for (camera, session) in (1..).zip(&mut sessions) {
            assert_eq!(next_of_mock(session).await.0, camera);
        }
    }
}

#[tokio::test]
async fn sessions_share_one_connection_and_its_handshake() {
    let (mux, secured) = (mux(), Secured::new(4));
    let mut sessions = Vec::new();
    for camera in 1..=4 {
        sessions.push(secured.play(&mux, camera).await.unwrap());
    }
    for camera in 1..=4 {
        secured.server.send_packets(&format!("/cam/{camera}"), 3);
    }
    for (at, session) in sessions.iter_mut().enumerate() {
        assert_eq!(next_of_mock(session).await.0, at as u32 + 1);
    }
    let handshakes = secured.front.handshakes();
    let [handshake] = &handshakes[..] else {
        panic!("{handshakes:?}");
    };
    assert_eq!(handshake.name.as_deref(), Some("localhost"));
    assert_eq!(handshake.protocol, None);
    let requests = secured.server.requests();
    let describes = requests
        .iter()
        .filter(|request| request.method == "DESCRIBE");
    for request in describes {
        assert!(request.uri.starts_with("rtsps://localhost"), "{request:?}");
    }
}

#[tokio::test]
async fn an_address_is_checked_and_not_sent() {
    let (mux, secured) = (mux(), Secured::new(1));
    let url = secured.front.url_by_address("/cam/1");
    play(&mux, secure(&url, &secured.tls)).await.unwrap();
    assert_eq!(secured.front.handshakes()[0].name, None);
}

/// More than a record, a read and a socket's buffers hold.
#[tokio::test]
async fn nothing_is_lost_of_what_comes_in_a_rush() {
    const PACKETS: u32 = 5_000;
    for secured in Secured::of_each_version() {
        let mux = mux();
        let mut session = secured.play(&mux, 1).await.unwrap();
        let sent = secured.server.send_packets("/cam/1", PACKETS);
        assert_eq!(sent, PACKETS as usize);
        assert!(!next_rtp(&mut session).await.unwrap().discontinuity);
        for _ in 1..PACKETS {
            next_rtp(&mut session).await.unwrap();
        }
        let stats = session.monitor().stats();
        assert_eq!(stats.streams[0].count.packets, u64::from(PACKETS));
    }
}

#[tokio::test]
async fn sessions_with_other_tls_options_never_share() {
    let (mux, secured) = (mux(), Secured::new(2));
    let _checked = secured.play(&mux, 1).await.unwrap();
    let mut unchecked = secured.tls.clone();
    unchecked.checks = CertificateChecks::NONE;
    let url = secured.front.url("/cam/2");
    let _unchecked = play(&mux, secure(&url, &unchecked)).await.unwrap();
    assert_eq!(secured.front.accepted(), 2);
    let untrusting = secure(&url, &TlsOptions::default());
    let error = play(&mux, untrusting).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::UnknownAuthority));
    let _third = secured.play(&mux, 2).await.unwrap();
    assert_eq!(secured.front.handshakes().len(), 2);
}

/// A server that lets connect and says nothing: the time of the handshake is a time of its own.
#[tokio::test]
async fn f02_a_handshake_that_hangs_is_ended() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsps://{}/cam", silent.local_addr().unwrap());
    let mut options = options(&url);
    assert_eq!(options.connect_timeout, Duration::from_secs(5));
    options.connect_timeout = Duration::from_millis(300);
    let error = within_patience(play(&mux(), options)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::TimedOut));
    assert!(error.is_retryable());
    let text = error.to_string();
    assert!(text.contains("did not end within 300ms"), "{text}");
}

#[tokio::test]
async fn f31_no_session_waits_for_a_handshake_that_no_session_wants_any_more() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtsps://{}/cam", silent.local_addr().unwrap());
    let mux = mux();
    let opening = tokio::spawn({
        let mux = mux.clone();
        async move { play(&mux, options(&url)).await.map(drop) }
    });
    let (mut connection, _) = silent.accept().await.unwrap();
    opening.abort();
    let mut bytes = Vec::new();
    // The ClientHello, and then the end.
    within_patience(connection.read_to_end(&mut bytes))
        .await
        .unwrap();
    eventually(|| mux.stats().servers.is_empty()).await;
}

#[tokio::test]
async fn what_speaks_no_tls_is_told() {
    let talkative = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsps://{}/cam", talkative.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut client, _) = talkative.accept().unwrap();
        let answer = b"RTSP/1.0 400 Bad Request\r\n\r\n";
        std::io::Write::write_all(&mut client, answer).unwrap();
        client
    });
    let error = play(&mux(), options(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::NotTls), "{error}");
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    assert!(!error.is_retryable());
    drop(answering.join().unwrap());
}

#[tokio::test]
async fn a_server_that_hangs_up_in_the_handshake_is_told() {
    let shy = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsps://{}/cam", shy.local_addr().unwrap());
    let hanging_up = std::thread::spawn(move || drop(shy.accept().unwrap()));
    let error = play(&mux(), options(&url)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::Interrupted));
    assert!(error.is_retryable());
    hanging_up.join().unwrap();
}

#[tokio::test]
async fn who_we_are_is_shown_to_a_server_that_asks() {
    let clients = Authority::new();
    let identity = clients.issue(&Request::client());
    for version in [&TLS12, &TLS13] {
        let terms = Terms {
            clients_of: Some(clients.pem()),
            version: Some(version),
            ..Terms::default()
        };
        let (mux, mut secured) = (mux(), Secured::with_terms(1, &terms));
        let error = secured.play(&mux, 1).await.unwrap_err();
        // In TLS 1.3 the client is through before the server has looked.
        assert!(
            matches!(
                error.kind(),
                ErrorKind::Tls(TlsFailure::Refused) | ErrorKind::ConnectionLost
            ),
            "{error:?}"
        );
        let text = error.to_string().to_lowercase();
        assert!(text.contains("certificate"), "{text}");

        let (chain, key) = (identity.certificate.as_bytes(), identity.key.as_bytes());
        secured.tls = secured.tls.with_client_certificate(chain, key).unwrap();
        let session = secured.play(&mux, 1).await.unwrap();
        assert!(secured.front.handshakes()[0].has_client);
        session.teardown().await.unwrap();
    }
}

/// All sessions of one identity, of whichever multiplexer's life: a ticket instead of certificates.
#[tokio::test]
async fn a_connection_that_is_made_again_takes_up_the_session() {
    for secured in Secured::of_each_version() {
        let mux = mux();
        let mut session = secured.play(&mux, 1).await.unwrap();
        secured.server.close_connections();
        while session.next().await.is_some() {}
        let _again = secured.play(&mux, 1).await.unwrap();
        let resumed: Vec<_> = secured
            .front
            .handshakes()
            .iter()
            .map(|handshake| handshake.is_resumed)
            .collect();
        assert_eq!(resumed, [false, true]);
    }
}

/// Who tries again waits for the others of its kind, and fails with them; a certificate that will not
/// do for one may do for another.
#[tokio::test]
async fn f03_a_refused_certificate_fails_those_who_would_refuse_it_too() {
    let (mux, secured) = (mux(), Secured::new(1));
    let url = secured.front.url("/cam/1");
    let trusting = secure(&url, &secured.tls);
    let untrusting = secure(&url, &TlsOptions::default());
    let first = play(&mux, untrusting.clone()).await.unwrap_err();
    let bounds = RetryBounds {
        min: PATIENCE * 2,
        max: PATIENCE * 2,
    };
    let waiting = async {
        tokio::select! {
            biased;
            turn = mux.turn(&trusting, Some(&first), bounds) => panic!("{turn:?}"),
            turn = mux.turn(&untrusting, Some(&first), bounds) => turn.unwrap_err(),
        }
    };
    let failing = async { play(&mux, untrusting.clone()).await.unwrap_err() };
    let (error, _) = within_patience(async { tokio::join!(waiting, failing) }).await;
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::UnknownAuthority));
}

fn redirect(server: &MockServer, to: &str) {
    server.add_rule(Rule::new("DESCRIBE", Reaction::redirect(to)).camera("/cam/1"));
}

#[tokio::test]
async fn f40_a_redirect_leads_into_tls_and_not_out_of_it() {
    let mux = mux();
    let (plain, secured) = (server(2), Secured::new(2));
    let plain_url = |camera: u32| plain.url(&format!("/cam/{camera}"));
    redirect(&plain, &secured.front.url("/cam/2"));
    let mut session = play(&mux, secure(&plain_url(1), &secured.tls))
        .await
        .unwrap();
    secured.server.send_packets("/cam/2", 1);
    assert_eq!(next_of_mock(&mut session).await.0, 2);

    redirect(&secured.server, &plain_url(2));
    let error = secured.play(&mux, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirects);
    assert!(error.to_string().contains("clear text"), "{error}");
    // Nor in two steps: into TLS, and out of it again.
    redirect(&plain, &secured.front.url("/cam/1"));
    let there_and_back = secure(&plain_url(1), &secured.tls);
    let error = play(&mux, there_and_back).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirects);
    assert_eq!(
        plain.view().count("SETUP"),
        0,
        "nothing was asked for there"
    );
}

#[tokio::test]
async fn f40_another_server_is_not_told_who_we_are_to_tls() {
    let clients = Authority::new();
    let terms = Terms {
        clients_of: Some(clients.pem()),
        version: Some(&TLS12),
        ..Terms::default()
    };
    let mut first = Secured::with_terms(1, &terms);
    let elsewhere = Secured::with_terms(2, &terms);
    let identity = clients.issue(&Request::client());
    let (chain, key) = (identity.certificate.as_bytes(), identity.key.as_bytes());
    first.tls = first.tls.with_client_certificate(chain, key).unwrap();
    first.tls.checks = CertificateChecks::NONE;
    redirect(&first.server, &elsewhere.front.url("/cam/2"));
    let error = first.play(&mux(), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::Refused), "{error}");
    assert_eq!(elsewhere.front.handshakes(), []);
}

/// Sixteen that start together are one connection here as well, and one failure if it fails.
#[tokio::test]
async fn one_handshake_is_made_for_all_who_wait() {
    let mux = mux();
    let identity = Request::server(&["localhost"]).self_signed();
    let server = server(16);
    let front = TlsFront::start(&identity, server.address());
    let attempts: Vec<_> = (1..=16)
        .map(|camera| {
            let (mux, url) = (mux.clone(), front.url(&format!("/cam/{camera}")));
            tokio::spawn(async move { play(&mux, options(&url)).await.map(drop) })
        })
        .collect();
    for attempt in attempts {
        let error = attempt.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::UnknownAuthority));
    }
    assert!(front.accepted() <= Pooling::default().max_connections_per_server as usize);
}
