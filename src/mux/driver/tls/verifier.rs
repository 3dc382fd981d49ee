//! Verifies a server's certificate, and says why a handshake has failed.

use std::{fmt, io, sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use crate::mux::{
    error::{Error, ErrorKind, TlsFailure},
    proto::ServerText,
    server_key::ServerId,
    tls::{CertificateChecks, CertificateFingerprint},
};

/// The most expiry dates that are ignored in one chain; real chains are shorter.
const MAX_DATES: usize = 8;

/// rustls' own verification, of which the user can switch parts off. A certificate that the user
/// named as trusted needs no issuer.
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    pub(super) checks: CertificateChecks,
    /// The authorities that may issue certificates.
    pub(super) roots: Arc<RootCertStore>,
    /// Certificates that are trusted by themselves. Those of cameras often claim to be an
    /// authority's, because that is what `openssl req -x509` makes; webpki accepts none of these
    /// for a server (`CaUsedAsEndEntity`).
    pub(super) trusted: Vec<CertificateDer<'static>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    /// The only certificate that is trusted; nothing else is checked of it.
    pub(super) fingerprint: Option<CertificateFingerprint>,
}

impl Verifier {
    /// What the options say of a certificate.
    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        if let Some(expected) = self.fingerprint {
            let is_it = CertificateFingerprint::of(certificate) == expected;
            let flaw = || OtherError(Arc::new(OtherFingerprint(expected)));
            return is_it
                .then_some(())
                .ok_or_else(|| CertificateError::Other(flaw()).into());
        }
        if !self.accepts_any() {
            self.check_issuer_and_dates(certificate, intermediates, now)?;
        }
        if self.checks.identity {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        }
        Ok(())
    }

    /// All checks that fail, each by itself.
    pub(super) fn failed(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> CertificateChecks {
        let fails = |ask: fn(&mut CertificateChecks)| {
            let mut alone = Self {
                checks: CertificateChecks::NONE,
                fingerprint: None,
                ..self.clone()
            };
            ask(&mut alone.checks);
            alone.check(certificate, intermediates, name, now).is_err()
        };
        CertificateChecks {
            authority: fails(|checks| checks.authority = true),
            identity: fails(|checks| checks.identity = true),
            not_yet_valid: fails(|checks| checks.not_yet_valid = true),
            expired: fails(|checks| checks.expired = true),
            form: fails(|checks| checks.form = true),
        }
    }

    fn check_issuer_and_dates(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let mut time = now;
        for _ in 0..MAX_DATES {
            let verdict = verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.roots,
                intermediates,
                time,
                self.algorithms.all,
            );
            let flaw = match verdict {
                Err(rustls::Error::InvalidCertificate(flaw)) => flaw,
                verdict => return verdict,
            };
            time = match flaw {
                // The first flaw hides all others: verify again as of a time at which this one does
                // not exist.
                CertificateError::ExpiredContext { not_after, .. } if !self.checks.expired => {
                    not_after
                }
                CertificateError::NotValidYetContext { not_before, .. }
                    if !self.checks.not_yet_valid =>
                {
                    not_before
                }
                flaw if self.overlooks(&flaw, certificate) => return Ok(()),
                // The certificate was issued by another authority of the same name.
                CertificateError::BadSignature => {
                    return Err(CertificateError::UnknownIssuer.into());
                }
                flaw => return Err(flaw.into()),
            };
        }
        Err(CertificateError::Expired.into())
    }

    /// True where any certificate is accepted: then the signature of the handshake proves nothing. Old
    /// cameras have keys and certificates (RSA of 1024 bits, X.509 version 1) with which it could
    /// not be verified.
    fn accepts_any(&self) -> bool {
        self.checks == CertificateChecks::NONE && self.fingerprint.is_none()
    }

    /// True if a flaw other than a date is to be ignored. What webpki checks before it looks for
    /// the issuer, dates among it, has no flaw then.
    fn overlooks(&self, flaw: &CertificateError, certificate: &CertificateDer<'_>) -> bool {
        let needs_no_issuer = !self.checks.authority || self.trusted.contains(certificate);
        match flaw {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => needs_no_issuer,
            flaw if claims_authority(flaw) => needs_no_issuer,
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => false,
            // Behind another flaw there may be a chain without a trusted authority.
            _ => !self.checks.form && !self.checks.authority,
        }
    }
}

/// True if a server's certificate claims to be an authority's.
pub(super) fn claims_authority(flaw: &CertificateError) -> bool {
    let CertificateError::Other(other) = flaw else {
        return false;
    };
    let error = other.0.downcast_ref::<webpki::Error>();
    error.is_some_and(|error| *error == webpki::Error::CaUsedAsEndEntity)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.check(certificate, intermediates, name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(flaw) => Err(refusal(certificate, flaw)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.accepts_any() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.accepts_any() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A refused certificate: why, and which it was.
#[derive(Debug, thiserror::Error)]
#[error("{flaw}")]
struct RefusedCertificate {
    flaw: rustls::Error,
    fingerprint: CertificateFingerprint,
}

/// The certificate has another fingerprint than this one.
#[derive(Debug, thiserror::Error)]
#[error("it has another fingerprint than {0}")]
struct OtherFingerprint(CertificateFingerprint);

/// The error for a certificate that is refused.
pub(super) fn refusal(certificate: &CertificateDer<'_>, flaw: rustls::Error) -> rustls::Error {
    let fingerprint = CertificateFingerprint::of(certificate);
    CertificateError::Other(OtherError(Arc::new(RefusedCertificate {
        flaw,
        fingerprint,
    })))
    .into()
}

/// The most names of a certificate that an error shows.
const MAX_NAMES: usize = 4;

/// Why a TLS session cannot be made, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Breakdown {
    /// The socket's error. `WouldBlock` is not a failure.
    #[error("the connection broke in the handshake: {0}")]
    Io(#[from] io::Error),
    #[error("TLS: {}", shown(.0))]
    Tls(#[from] rustls::Error),
    /// The server closed the connection.
    #[error("the server closed the connection in the handshake; it may not speak TLS on this port")]
    Closed,
    /// The handshake took longer than this.
    #[error("the handshake did not end within {0:?}; it may not speak TLS on this port")]
    TimedOut(Duration),
    /// The application has no certificate for a server that asks for one, and says why.
    #[error("{0}")]
    NoClientCertificate(String),
    /// The thread that asks the application cannot be started, or a call of the application has panicked.
    #[error("the application cannot be asked about the connection: {0}")]
    NotAsked(String),
    /// No certificate can be issued for the name of this host.
    #[error("the host's name is none that a certificate could be for")]
    NoName,
}

/// After the handshake a TLS error ends the connection like any other error.
impl From<Breakdown> for io::Error {
    fn from(breakdown: Breakdown) -> Self {
        match breakdown {
            Breakdown::Io(error) => error,
            Breakdown::Closed => io::ErrorKind::UnexpectedEof.into(),
            other => Self::other(other.to_string()),
        }
    }
}

/// The error of a handshake with `server`.
pub(super) fn error(server: &ServerId, breakdown: Breakdown) -> Error {
    let (failure, what) = match breakdown {
        Breakdown::Tls(error) => explain(server, error),
        Breakdown::Io(_) | Breakdown::Closed => (TlsFailure::Interrupted, breakdown.to_string()),
        Breakdown::TimedOut(_) => (TlsFailure::TimedOut, breakdown.to_string()),
        Breakdown::NoName => (TlsFailure::WrongName, breakdown.to_string()),
        Breakdown::NoClientCertificate(_) | Breakdown::NotAsked(_) => {
            (TlsFailure::Refused, breakdown.to_string())
        }
    };
    let explanation = format!("no TLS connection to {server}: {what}");
    Error::new(ErrorKind::Tls(failure), explanation)
}

fn explain(server: &ServerId, error: rustls::Error) -> (TlsFailure, String) {
    use TlsFailure as F;
    use rustls::Error as E;

    match error {
        E::InvalidCertificate(CertificateError::Other(ref other))
            if let Some(refusal) = other.0.downcast_ref::<RefusedCertificate>() =>
        {
            let (failure, what) = explain(server, refusal.flaw.clone());
            let fingerprint = refusal.fingerprint;
            (
                failure,
                format!("{what}; its SHA-256 fingerprint is {fingerprint}"),
            )
        }
        E::InvalidCertificate(CertificateError::UnknownIssuer) => {
            let what = "no trusted authority has issued its certificate";
            (F::UnknownAuthority, what.to_owned())
        }
        E::InvalidCertificate(flaw) => {
            let (failure, what) = explain_certificate(server, flaw);
            (failure, format!("its certificate {what}"))
        }
        E::NoCertificatesPresented => {
            (F::Certificate, "the server shows no certificate".to_owned())
        }
        E::InvalidMessage(_) => {
            let what = "what answers on this port does not speak TLS";
            (F::NotTls, what.to_owned())
        }
        E::AlertReceived(alert) => (
            F::Refused,
            format!("the server refuses the handshake: {alert:?}"),
        ),
        E::PeerIncompatible(what) => {
            let what = format!("the server cannot do what is needed (TLS 1.2 or later): {what:?}");
            (F::Refused, what)
        }
        error => (
            F::Refused,
            format!("the handshake failed: {}", shown(&error)),
        ),
    }
}

/// What is wrong with "its certificate".
fn explain_certificate(server: &ServerId, flaw: CertificateError) -> (TlsFailure, String) {
    use CertificateError as C;
    use TlsFailure as F;

    match flaw {
        C::NotValidForName => (F::WrongName, not_for(server, &[])),
        C::NotValidForNameContext { presented, .. } => (F::WrongName, not_for(server, &presented)),
        C::Expired => (F::Expired, "has expired".to_owned()),
        C::ExpiredContext { time, not_after } => {
            let over = time.as_secs().saturating_sub(not_after.as_secs());
            (F::Expired, format!("expired {} ago", span(over)))
        }
        C::NotValidYet => (
            F::NotYetValid,
            "is not valid yet; is the clock right?".to_owned(),
        ),
        C::NotValidYetContext { time, not_before } => {
            let left = span(not_before.as_secs().saturating_sub(time.as_secs()));
            let what = format!("will not be valid for another {left}; is the clock right?");
            (F::NotYetValid, what)
        }
        C::ApplicationVerificationFailure => {
            (F::Certificate, "is refused by the application".to_owned())
        }
        C::Other(ref other) if let Some(flaw) = other.0.downcast_ref::<OtherFingerprint>() => {
            let what = format!("is not the one with the fingerprint {}", flaw.0);
            (F::OtherFingerprint, what)
        }
        flaw if claims_authority(&flaw) => {
            let what = "is an authority's, and not one of those that are trusted";
            (F::UnknownAuthority, what.to_owned())
        }
        flaw => {
            let what = format!("cannot be used: {}", shown(&flaw));
            (F::Certificate, what)
        }
    }
}

/// An error of the TLS library, which may quote what the peer has sent.
fn shown(error: &dyn fmt::Display) -> ServerText {
    ServerText::of_identifier(&error.to_string())
}

/// The names come from the peer: they are escaped, and their number is limited.
fn not_for(server: &ServerId, names: &[String]) -> String {
    let host = server.host();
    if names.is_empty() {
        return format!("has no name, and so is not for {host}");
    }
    let shown: Vec<_> = names
        .iter()
        .take(MAX_NAMES)
        .map(|name| name.escape_debug().take(80).collect::<String>())
        .collect();
    let more = match names.len() - shown.len() {
        0 => String::new(),
        more => format!(" and {more} others"),
    };
    let names = shown.join(", ");
    format!("is not for {host}, but for {names}{more}")
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;

    use super::*;

    fn text(error: rustls::Error) -> (ErrorKind, String) {
        let server = ServerId::new("nvr", 322).unwrap();
        let error = super::error(&server, error.into());
        (error.kind(), error.to_string())
    }

    #[test]
    fn a_certificate_that_is_refused_says_why() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let expired = CertificateError::ExpiredContext {
            time: time(10 * 86_400),
            not_after: time(7 * 86_400),
        };
        let (kind, shown) = text(expired.into());
        assert_eq!(kind, ErrorKind::Tls(TlsFailure::Expired));
        assert_eq!(
            shown,
            "no TLS connection to nvr:322: its certificate expired 3 days ago"
        );
        let other = CertificateError::NotValidForNameContext {
            expected: "nvr".try_into().unwrap(),
            presented: vec!["a\r\nb".to_owned(); 9],
        };
        let (kind, shown) = text(other.into());
        assert_eq!(kind, ErrorKind::Tls(TlsFailure::WrongName));
        assert!(shown.contains(r"a\r\nb"), "{shown}");
        assert!(shown.ends_with("and 5 others"), "{shown}");
    }

    #[test]
    fn spans_are_told_in_what_they_are_many_of() {
        for (seconds, shown) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 minutes"),
            (7_200, "2 hours"),
            (172_800, "2 days"),
        ] {
            assert_eq!(span(seconds), shown);
        }
    }
}
