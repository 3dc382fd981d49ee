//! Which certificates of servers will do.

use gstrtspmux::mux::{CertificateChecks, Error, ErrorKind, TlsFailure, TlsOptions};

use super::{secure, trusting};
use crate::{
    certificates::{Authority, Identity, Request},
    player::{mux, play, server},
    tls_front::TlsFront,
};

/// What becomes of a session with a server of that identity.
async fn outcome(identity: &Identity, tls: &TlsOptions) -> Result<(), Error> {
    let server = server(1);
    let front = TlsFront::start(identity, server.address());
    let session = play(&mux(), secure(&front.url("/cam/1"), tls)).await?;
    session.teardown().await
}

async fn refusal(identity: &Identity, tls: &TlsOptions) -> (ErrorKind, String) {
    let error = outcome(identity, tls).await.unwrap_err();
    assert!(error.camera().unwrap().starts_with("rtsps://localhost"));
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn a_bad_certificate_is_refused_unless_it_is_not_checked() {
    let authority = Authority::new();
    let good = Request::server(&["localhost"]);
    type Set = fn(&mut CertificateChecks, bool);
    let cases: [(Identity, TlsFailure, &str, Set); 4] = [
        (
            good.self_signed(),
            TlsFailure::UnknownAuthority,
            "no trusted authority",
            |checks, on| checks.authority = on,
        ),
        (
            authority.issue(&Request::server(&["recorder.example"])),
            TlsFailure::WrongName,
            "not for localhost, but for",
            |checks, on| checks.identity = on,
        ),
        (
            authority.issue(&good.clone().valid(2001, 2002)),
            TlsFailure::Expired,
            "days ago",
            |checks, on| checks.expired = on,
        ),
        (
            authority.issue(&good.clone().valid(2999, 3000)),
            TlsFailure::NotYetValid,
            "is the clock right?",
            |checks, on| checks.not_yet_valid = on,
        ),
    ];
    for (identity, failure, text, set) in cases {
        let mut tls = trusting(&authority);
        let (kind, shown) = refusal(&identity, &tls).await;
        assert_eq!(kind, ErrorKind::Tls(failure), "{shown}");
        assert!(shown.contains(text), "{shown}");
        set(&mut tls.checks, false);
        outcome(&identity, &tls).await.unwrap();
        tls.checks = CertificateChecks::NONE;
        outcome(&identity, &tls).await.unwrap();
        set(&mut tls.checks, true);
        let (kind, shown) = refusal(&identity, &tls).await;
        assert_eq!(kind, ErrorKind::Tls(failure), "alone: {shown}");
    }
}

/// One flaw must not hide another: who overlooks dates or form still wants a trusted issuer.
#[tokio::test]
async fn overlooking_one_flaw_overlooks_no_other() {
    let authority = Authority::new();
    let mut tls = trusting(&authority);
    let expired = Request::server(&["localhost"]).valid(2001, 2002);
    tls.checks.expired = false;
    let (kind, _) = refusal(&expired.self_signed(), &tls).await;
    assert_eq!(kind, ErrorKind::Tls(TlsFailure::UnknownAuthority));

    tls.checks = CertificateChecks::default();
    tls.checks.form = false;
    let claiming = Request::server(&["localhost"]).claiming_authority();
    let (kind, _) = refusal(&claiming.self_signed(), &tls).await;
    assert_eq!(kind, ErrorKind::Tls(TlsFailure::UnknownAuthority));

    tls.checks = CertificateChecks::default();
    tls.checks.authority = false;
    let (kind, _) = refusal(&expired.self_signed(), &tls).await;
    assert_eq!(kind, ErrorKind::Tls(TlsFailure::Expired));
    outcome(&claiming.self_signed(), &tls).await.unwrap();
}

#[tokio::test]
async fn a_certificate_named_as_trusted_needs_no_issuer_and_still_the_name() {
    for request in [
        Request::server(&["localhost"]),
        Request::server(&["localhost"]).claiming_authority(),
    ] {
        let identity = request.self_signed();
        let named = |identity: &Identity| {
            let pem = identity.certificate.as_bytes();
            TlsOptions::default().with_authorities(pem).unwrap()
        };
        outcome(&identity, &named(&identity)).await.unwrap();
        let (kind, _) = refusal(&request.self_signed(), &named(&identity)).await;
        let untrusted = ErrorKind::Tls(TlsFailure::UnknownAuthority);
        assert_eq!(kind, untrusted, "another certificate of the same name");
        let elsewhere = Request::server(&["elsewhere"]).self_signed();
        let (kind, _) = refusal(&elsewhere, &named(&elsewhere)).await;
        assert_eq!(kind, ErrorKind::Tls(TlsFailure::WrongName));
    }
}

#[tokio::test]
async fn without_options_only_the_systems_authorities_are_trusted() {
    let identity = Authority::new().issue(&Request::server(&["localhost"]));
    let (kind, shown) = refusal(&identity, &TlsOptions::default()).await;
    assert_eq!(
        kind,
        ErrorKind::Tls(TlsFailure::UnknownAuthority),
        "{shown}"
    );
}
