//! Verifies a server's certificate.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

use crate::mux::tls::CertificateChecks;

/// The most expiry dates that are ignored in one chain; real chains are shorter.
const MAX_DATES: usize = 8;

/// rustls' own verification, of which the user can switch parts off. A certificate that the user
/// named as trusted needs no issuer.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) checks: CertificateChecks,
    /// The authorities that may issue certificates.
    pub(super) roots: Arc<RootCertStore>,
    /// Certificates that are trusted by themselves. Those of cameras often claim to be an
    /// authority's, because that is what `openssl req -x509` makes; webpki accepts none of these
    /// for a server (`CaUsedAsEndEntity`).
    pub(super) trusted: Vec<CertificateDer<'static>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn check_issuer_and_dates(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
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
                Err(Error::InvalidCertificate(flaw)) => flaw,
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

    /// Where any certificate is accepted, the signature of the handshake proves nothing. Old
    /// cameras have keys and certificates (RSA of 1024 bits, X.509 version 1) with which it could
    /// not be verified.
    fn unless_any_will_do(
        &self,
        verify: impl FnOnce(&WebPkiSupportedAlgorithms) -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.checks == CertificateChecks::NONE {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => verify(&self.algorithms),
        }
    }

    /// True if a flaw other than a date is to be ignored. What webpki checks before it looks for
    /// the issuer, dates among it, has no flaw then.
    fn overlooks(&self, flaw: &CertificateError, certificate: &CertificateDer<'_>) -> bool {
        let needs_no_issuer = !self.checks.authority || self.trusted.contains(certificate);
        if is_about_issuer(flaw) {
            return needs_no_issuer;
        }
        // Behind another flaw there may be a chain without a trusted authority.
        !is_about_dates(flaw) && !self.checks.form && !self.checks.authority
    }
}

fn is_about_issuer(flaw: &CertificateError) -> bool {
    match flaw {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
        flaw => claims_authority(flaw),
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

fn is_about_dates(flaw: &CertificateError) -> bool {
    matches!(
        flaw,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.checks != CertificateChecks::NONE {
            self.check_issuer_and_dates(certificate, intermediates, now)?;
        }
        if self.checks.identity {
            verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.unless_any_will_do(|algorithms| {
            verify_tls12_signature(message, certificate, signature, algorithms)
        })
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.unless_any_will_do(|algorithms| {
            verify_tls13_signature(message, certificate, signature, algorithms)
        })
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
