//! A handshake in which the application decides: about the server's certificate, and which one of its own
//! is shown.
//!
//! rustls asks while it processes what the server has sent. So that is done on a thread of its own, which
//! serves no other connection; the handshake waits for it without a thread.

use std::{
    fmt,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::CertifiedKey,
};
use tokio::sync::oneshot;

use super::{
    TlsConfig, TlsStream,
    verifier::{Breakdown, Verifier, refusal},
};
use crate::mux::{
    release::lock,
    server_key::ServerId,
    tls::{Decisions, ServerCertificate},
};

/// How much longer a handshake may take where the application is asked: as long as servers wait.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The application's part in one handshake.
pub(super) struct Asking {
    config: Arc<ClientConfig>,
    /// Why the application has no certificate.
    failure: DecisionFailure,
}

type DecisionFailure = Arc<Mutex<Option<String>>>;

impl Asking {
    /// For a handshake with `server`, by `config` where nothing is asked.
    pub(super) fn new(decisions: Decisions, server: &ServerId, config: &TlsConfig) -> Self {
        let failure = DecisionFailure::default();
        let asked = Arc::new(AskingVerifier {
            decisions,
            server: server.clone(),
            verifier: config.verifier.clone(),
            failure: failure.clone(),
        });
        let mut config = ClientConfig::clone(&config.shared);
        config.resumption = Resumption::disabled();
        config.dangerous().set_certificate_verifier(asked.clone());
        if !config.client_auth_cert_resolver.has_certs() {
            config.client_auth_cert_resolver = asked;
        }
        Self {
            config: Arc::new(config),
            failure,
        }
    }

    pub(super) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// Processes what the server has sent, on a thread of its own. If the handshake is given up, the thread
    /// ends after the call of the application, and closes the connection.
    pub(super) async fn receive(
        &self,
        mut stream: TlsStream,
    ) -> Result<(TlsStream, Result<(), Breakdown>), Breakdown> {
        let (done, received) = oneshot::channel();
        let thread = thread::Builder::new().name("rtspmux-tls".to_owned());
        let started = thread.spawn(move || {
            let received = stream.receive();
            // An error means that the handshake was given up.
            let _ = done.send((stream, received));
        });
        started.map_err(|error| Breakdown::NotAsked(error.to_string()))?;
        let panicked = |_| Breakdown::NotAsked("it has panicked".to_owned());
        let (stream, mut received) = received.await.map_err(panicked)?;
        if let Some(why) = lock(&self.failure).take() {
            received = Err(Breakdown::NoClientCertificate(why));
        }
        Ok((stream, received))
    }
}

/// What rustls asks.
struct AskingVerifier {
    decisions: Decisions,
    server: ServerId,
    verifier: Arc<Verifier>,
    failure: DecisionFailure,
}

impl fmt::Debug for AskingVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskingVerifier")
            .field("server", &self.server)
            .field("verifier", &self.verifier)
            .finish_non_exhaustive()
    }
}

impl ServerCertVerifier for AskingVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = &self.verifier;
        let verdict =
            verifier.verify_server_cert(certificate, intermediates, name, ocsp_response, now);
        let chain: Vec<&[u8]> = std::iter::once(certificate)
            .chain(intermediates)
            .map(AsRef::as_ref)
            .collect();
        let failed = verifier.failed(certificate, intermediates, name, now);
        let server = (self.server.host(), self.server.port());
        let shown = ServerCertificate::new(server, &chain, failed, verdict.is_err());
        match self.decisions.0.accepts(&shown) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(verdict.err().unwrap_or_else(|| {
                refusal(
                    certificate,
                    CertificateError::ApplicationVerificationFailure.into(),
                )
            })),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl ResolvesClientCert for AskingVerifier {
    fn resolve(
        &self,
        _authorities: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let (host, port) = (self.server.host(), self.server.port());
        let asked = self.decisions.0.client_certificate(host, port);
        let certified = asked.and_then(|certificate| {
            let certified = certificate.map(|it| it.0.certified());
            certified.transpose().map_err(|error| error.to_string())
        });
        match certified {
            Ok(certified) => certified.map(Arc::new),
            Err(why) => {
                *lock(&self.failure) = Some(why);
                None
            }
        }
    }

    fn has_certs(&self) -> bool {
        true
    }
}
