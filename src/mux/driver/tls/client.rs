//! TLS handshakes with one set of options.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::ServerName,
};
use tokio::{sync::OnceCell, task::spawn_blocking, time::timeout};

use super::{TlsStream, failure, verifier::Verifier};
use crate::mux::{driver::socket::Socket, error::Error, server_key::ServerId, tls::TlsOptions};

/// Shared by all connections that are made with the same [`TlsOptions`]. It keeps the session
/// tickets, with which a server resumes a TLS session without sending its certificate again.
pub(crate) struct TlsClient {
    options: TlsOptions,
    /// Built by the first handshake.
    config: OnceCell<Arc<ClientConfig>>,
}

impl TlsClient {
    pub(crate) fn new(options: TlsOptions) -> Self {
        Self {
            options,
            config: OnceCell::new(),
        }
    }

    /// Makes the TLS handshake with `server` within `limit`, over the socket that `connecting`
    /// returns. While that connects, the first call in a process reads the system's certificate
    /// authorities, which takes some ten milliseconds.
    pub(crate) async fn secure(
        &self,
        connecting: impl Future<Output = Result<Socket, Error>>,
        server: &ServerId,
        limit: Duration,
    ) -> Result<TlsStream, Error> {
        let configuring = self.config.get_or_try_init(|| self.configure());
        let (socket, config) = tokio::try_join!(connecting, configuring)?;
        let name = name_of(server).ok_or_else(|| failure::no_name(server))?;
        let session = ClientConnection::new(Arc::clone(config), name)
            .map_err(|error| failure::error(server, error.into()))?;
        match timeout(limit, TlsStream::handshake(socket, session)).await {
            Ok(outcome) => outcome.map_err(|breakdown| failure::error(server, breakdown)),
            Err(_) => Err(failure::timed_out(server, limit)),
        }
    }

    async fn configure(&self) -> Result<Arc<ClientConfig>, Error> {
        let roots = match self.options.checks.authority {
            true => self.roots().await?,
            false => Arc::new(RootCertStore::empty()),
        };
        let provider = Arc::new(ring::default_provider());
        self.config(provider, roots)
            .map(Arc::new)
            .map_err(|error| failure::unusable(&error))
    }

    async fn roots(&self) -> Result<Arc<RootCertStore>, Error> {
        let system = system_roots().await?;
        if self.options.authorities().is_empty() {
            return Ok(system);
        }
        let mut roots = RootCertStore::clone(&system);
        roots.add_parsable_certificates(self.options.authorities().iter().cloned());
        Ok(Arc::new(roots))
    }

    fn config(
        &self,
        provider: Arc<CryptoProvider>,
        roots: Arc<RootCertStore>,
    ) -> Result<ClientConfig, rustls::Error> {
        let verifier = Verifier {
            checks: self.options.checks,
            roots,
            trusted: self.options.authorities().to_vec(),
            algorithms: provider.signature_verification_algorithms,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        match self.options.client() {
            Some(client) => {
                config.with_client_auth_cert(client.chain.clone(), client.key.clone_key())
            }
            None => Ok(config.with_no_client_auth()),
        }
    }
}

/// Leaves out tickets and keys.
impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsClient").field(&self.options).finish()
    }
}

/// The host name as certificates have it. An IP address is not sent to the server (RFC 6066, 3) and
/// has no zone there, because zones are local to this machine.
fn name_of(server: &ServerId) -> Option<ServerName<'static>> {
    let host = server.host();
    let address = host
        .split_once('%')
        .map_or(host, |(address, _zone)| address);
    match address.parse::<IpAddr>() {
        Ok(address) => Some(address.into()),
        Err(_) => ServerName::try_from(host.to_owned()).ok(),
    }
}

/// The certificate authorities that the system trusts: read once, from files.
async fn system_roots() -> Result<Arc<RootCertStore>, Error> {
    static SYSTEM: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();

    let load = || async { spawn_blocking(load_roots).await.map(Arc::new) };
    let roots = SYSTEM.get_or_try_init(load).await;
    roots.cloned().map_err(|_| Error::driver_died())
}

fn load_roots() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!("trusted authorities: {error}");
    }
    let mut roots = RootCertStore::empty();
    let (usable, useless) = roots.add_parsable_certificates(found.certs);
    tracing::debug!("trusted authorities: {usable}, and {useless} that cannot be used");
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(host: &str) -> Option<ServerName<'static>> {
        name_of(&ServerId::new(host, 322).unwrap())
    }

    #[test]
    fn names_and_addresses_are_told_apart() {
        let name = named("NVR.example").unwrap();
        assert!(matches!(&name, ServerName::DnsName(_)), "{name:?}");
        assert_eq!(name.to_str(), "nvr.example");
        for (host, address) in [
            ("10.0.0.1", "10.0.0.1"),
            ("[fe80::1]", "fe80::1"),
            ("fe80::1%eth0", "fe80::1"),
        ] {
            let name = named(host).unwrap();
            assert!(matches!(&name, ServerName::IpAddress(_)), "{name:?}");
            assert_eq!(name.to_str(), address);
        }
        assert_eq!(named("-nvr-"), None);
    }
}
