//! What an application decides itself in a TLS handshake: whether it trusts a certificate, and which one of
//! its own it shows.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use super::{CertificateChecks, ClientIdentity, InvalidTls};

/// Decides in TLS handshakes, in place of the [options](super::TlsOptions) or beside them.
///
/// Each call is made on a thread that serves this handshake alone, and may take its time: the handshake
/// waits for it, up to 30 s beyond the time that it may take otherwise. A call that takes longer goes on,
/// and its result is not used. Where the handshake's session ends first, the same holds.
///
/// Connections of sessions with different decisions are never shared, whatever they have decided. No TLS
/// session is resumed: each connection asks anew.
pub trait TlsDecisions: Send + Sync {
    /// Whether a connection to this server may be used. As it is: if the options' checks are passed.
    fn accepts(&self, server: &ServerCertificate<'_>) -> bool {
        !server.is_refused
    }

    /// The certificate for a server that asks for one, where the options have none. As it is: none.
    ///
    /// # Errors
    ///
    /// Why the connection cannot be made, for the [error](crate::mux::Error) of the session.
    fn client_certificate(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Option<ClientCertificate>, String> {
        let _ = (host, port);
        Ok(None)
    }
}

/// A server's certificate, and what the checks say of it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ServerCertificate<'a> {
    /// The host of the URL.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// The certificates that the server has shown, in DER: its own first.
    pub chain: &'a [&'a [u8]],
    /// The checks that fail, whether or not the options ask for them.
    pub failed: CertificateChecks,
    /// The options refuse the certificate: a check that they ask for fails, or it has another fingerprint.
    pub is_refused: bool,
}

impl<'a> ServerCertificate<'a> {
    pub(crate) fn new(
        (host, port): (&'a str, u16),
        chain: &'a [&'a [u8]],
        failed: CertificateChecks,
        is_refused: bool,
    ) -> Self {
        Self {
            host,
            port,
            chain,
            failed,
            is_refused,
        }
    }
}

/// A certificate with its key, for a server that asks for one. `Debug` shows neither.
#[derive(Clone)]
pub struct ClientCertificate(pub(crate) Arc<ClientIdentity>);

impl ClientCertificate {
    /// The certificate that `chain` begins with. Both are PEM.
    ///
    /// # Errors
    ///
    /// As [`TlsOptions::with_client_certificate`](super::TlsOptions::with_client_certificate).
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, InvalidTls> {
        ClientIdentity::from_pem(chain, key).map(|it| Self(Arc::new(it)))
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate")
    }
}

/// Equal only to itself: what one application decides serves no other.
#[derive(Clone)]
pub(crate) struct Decisions(pub(crate) Arc<dyn TlsDecisions>);

impl PartialEq for Decisions {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Decisions {}

impl Hash for Decisions {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<()>().hash(state);
    }
}
