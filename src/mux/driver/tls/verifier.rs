//! Whether a server's certificate will do.

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

/// Dates that are overlooked in one chain; chains are shorter.
const MAX_DATES: usize = 8;

/// rustls' own verification, of which parts can be left out, and for which a certificate that is
/// named as trusted needs nobody to have issued it.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) checks: CertificateChecks,
    /// Who may issue.
    pub(super) roots: Arc<RootCertStore>,
    /// What is trusted by itself. Cameras have certificates that claim to be an authority's, which
    /// none of a server's may (webpki: `CaUsedAsEndEntity`), because that is what `openssl req -x509`
    /// makes.
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
                // The first flaw hides all others: look again as of a time at which it is none.
                CertificateError::ExpiredContext { not_after, .. } if !self.checks.expired => {
                    not_after
                }
                CertificateError::NotValidYetContext { not_before, .. }
                    if !self.checks.not_yet_valid =>
                {
                    not_before
                }
                flaw if self.overlooks(&flaw, certificate) => return Ok(()),
                // Issued by somebody of the same name.
                CertificateError::BadSignature => {
                    return Err(CertificateError::UnknownIssuer.into());
                }
                flaw => return Err(flaw.into()),
            };
        }
        Err(CertificateError::Expired.into())
    }

    /// Where any certificate will do, that its key was used says nothing. Old cameras have keys and
    /// certificates (RSA of 1024 bits, X.509 version 1) with which that could not be checked.
    fn unless_any_will_do(
        &self,
        verify: impl FnOnce(&WebPkiSupportedAlgorithms) -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.checks == CertificateChecks::NONE {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => verify(&self.algorithms),
        }
    }

    /// Whether a flaw that is no matter of dates is none here. What was found before it is looked
    /// for an issuer, dates among it, has no flaw.
    fn overlooks(&self, flaw: &CertificateError, certificate: &CertificateDer<'_>) -> bool {
        let needs_no_issuer = !self.checks.authority || self.trusted.contains(certificate);
        if is_about_issuer(flaw) {
            return needs_no_issuer;
        }
        // Behind another flaw there may be none who is trusted.
        !is_about_dates(flaw) && !self.checks.form && !self.checks.authority
    }
}

fn is_about_issuer(flaw: &CertificateError) -> bool {
    match flaw {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
        flaw => claims_authority(flaw),
    }
}

/// Whether a server's certificate says that it is an authority's.
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
