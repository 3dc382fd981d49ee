//! Applications that decide in handshakes, and certificates that are named by their fingerprint.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use gstrtspmux::mux::{
    CertificateChecks, ClientCertificate, ErrorKind, ServerCertificate, TlsDecisions, TlsFailure,
    TlsOptions,
};

use super::{secure, trusting};
use crate::{
    certificates::{Authority, Identity, Request},
    player::{mux, play, server},
    tls_front::{Terms, TlsFront},
};

/// Accepts or refuses all, and shows this certificate.
#[derive(Default)]
struct Decider {
    accepts: bool,
    client: Option<Identity>,
    refuses_to_show: bool,
    asked: AtomicUsize,
    failed: Mutex<Option<(CertificateChecks, bool, usize)>>,
}

impl TlsDecisions for Decider {
    fn accepts(&self, server: &ServerCertificate<'_>) -> bool {
        assert_eq!(server.host, "localhost");
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.failed.lock().unwrap() = Some((server.failed, server.is_refused, server.chain.len()));
        self.accepts
    }

    fn client_certificate(
        &self,
        _host: &str,
        _port: u16,
    ) -> Result<Option<ClientCertificate>, String> {
        if self.refuses_to_show {
            return Err("the token is not there".to_owned());
        }
        let made = self.client.as_ref().map(|identity| {
            ClientCertificate::from_pem(identity.certificate.as_bytes(), identity.key.as_bytes())
                .unwrap()
        });
        Ok(made)
    }
}

#[tokio::test]
async fn the_application_has_the_last_word_on_a_certificate() {
    let camera = server(1);
    let stranger = Request::server(&["recorder.example"]).valid(2001, 2002);
    let front = TlsFront::start(&stranger.self_signed(), camera.address());
    let yes = Arc::new(Decider {
        accepts: true,
        ..Decider::default()
    });
    let tls = TlsOptions::default().with_decisions(yes.clone());
    let session = play(&mux(), secure(&front.url("/cam/1"), &tls))
        .await
        .unwrap();
    session.teardown().await.unwrap();
    let (failed, is_refused, chain) = yes.failed.lock().unwrap().unwrap();
    let expected = CertificateChecks {
        authority: true,
        identity: true,
        expired: true,
        ..CertificateChecks::NONE
    };
    assert_eq!((failed, is_refused, chain), (expected, true, 1));

    // It may also refuse what the checks accept.
    let authority = Authority::new();
    let good = authority.issue(&Request::server(&["localhost"]));
    let front = TlsFront::start(&good, camera.address());
    let no = Arc::new(Decider::default());
    let tls = trusting(&authority).with_decisions(no.clone());
    let error = play(&mux(), secure(&front.url("/cam/1"), &tls))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::Certificate));
    let text = error.to_string();
    assert!(text.contains("refused by the application"), "{text}");
    let (failed, is_refused, _) = no.failed.lock().unwrap().unwrap();
    assert_eq!((failed, is_refused), (CertificateChecks::NONE, false));
}

#[tokio::test]
async fn each_connection_asks_anew_and_none_is_shared_with_others() {
    let camera = server(2);
    let identity = Request::server(&["localhost"]).self_signed();
    let front = TlsFront::start(&identity, camera.address());
    let mux = mux();
    let decider = || {
        Arc::new(Decider {
            accepts: true,
            ..Decider::default()
        })
    };
    let (one, two) = (decider(), decider());
    let tls = |decider: &Arc<Decider>| TlsOptions::default().with_decisions(decider.clone());
    let first = play(&mux, secure(&front.url("/cam/1"), &tls(&one)))
        .await
        .unwrap();
    let second = play(&mux, secure(&front.url("/cam/2"), &tls(&two)))
        .await
        .unwrap();
    assert_eq!(front.accepted(), 2);
    assert_eq!(one.asked.load(Ordering::Relaxed), 1);
    assert_eq!(two.asked.load(Ordering::Relaxed), 1);
    assert!(front.handshakes().iter().all(|it| !it.is_resumed));
    first.teardown().await.unwrap();
    second.teardown().await.unwrap();
}

#[tokio::test]
async fn the_application_shows_a_certificate_or_says_why_not() {
    let authority = Authority::new();
    let terms = Terms {
        clients_of: Some(authority.pem()),
        ..Terms::default()
    };
    let camera = server(1);
    let identity = authority.issue(&Request::server(&["localhost"]));
    let front = TlsFront::with_terms(&identity, camera.address(), &terms);
    let shows = Arc::new(Decider {
        accepts: true,
        client: Some(authority.issue(&Request::client())),
        ..Decider::default()
    });
    let url = front.url("/cam/1");
    let tls = trusting(&authority).with_decisions(shows);
    let session = play(&mux(), secure(&url, &tls)).await.unwrap();
    session.teardown().await.unwrap();
    assert!(front.handshakes().iter().all(|it| it.has_client));
    let fails = Arc::new(Decider {
        accepts: true,
        refuses_to_show: true,
        ..Decider::default()
    });
    let tls = trusting(&authority).with_decisions(fails);
    let error = play(&mux(), secure(&url, &tls)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::Refused));
    assert!(
        error.to_string().contains("the token is not there"),
        "{error}"
    );
}

#[tokio::test]
async fn a_fingerprint_is_an_identity_of_its_own() {
    let camera = server(1);
    let stranger = Request::server(&["recorder.example"]).valid(2001, 2002);
    let front = TlsFront::start(&stranger.self_signed(), camera.address());
    let url = front.url("/cam/1");
    let refused = play(&mux(), secure(&url, &TlsOptions::default()))
        .await
        .unwrap_err();
    let text = refused.to_string();
    let (_, fingerprint) = text.split_once("SHA-256 fingerprint is ").unwrap();
    let tls = TlsOptions::default();
    let tls = tls.with_fingerprint(&fingerprint[..95]).unwrap();
    let session = play(&mux(), secure(&url, &tls)).await.unwrap();
    session.teardown().await.unwrap();
    front.show(&stranger.self_signed());
    let error = play(&mux(), secure(&url, &tls)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::OtherFingerprint));
}
