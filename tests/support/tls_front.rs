//! TLS in front of a server that speaks none: what it decrypts it passes on.
#![allow(
    dead_code,
    reason = "included by several binaries, none of which uses all of it"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::certificates::Identity;

/// A handshake, as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The host it was asked for.
    pub(crate) name: Option<String>,
    /// With a ticket instead of certificates.
    pub(crate) is_resumed: bool,
    /// The client showed a certificate.
    pub(crate) has_client: bool,
    /// The application protocol they agreed upon.
    pub(crate) protocol: Option<Vec<u8>>,
}

#[derive(Default)]
struct Seen {
    accepted: usize,
    handshakes: Vec<Handshake>,
}

/// Listens on 127.0.0.1. Dropped, it ends its connections.
pub(crate) struct TlsFront {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    acceptor: Arc<Mutex<Option<TlsAcceptor>>>,
    runtime: Option<Runtime>,
}

/// How it shakes hands.
#[derive(Default)]
pub(crate) struct Terms {
    /// Who may issue certificates of clients; all of them need one then.
    pub(crate) clients_of: Option<String>,
    /// None: 1.2 and 1.3.
    pub(crate) version: Option<&'static SupportedProtocolVersion>,
    /// On `::1` instead of 127.0.0.1.
    pub(crate) is_ipv6: bool,
}

impl TlsFront {
    /// In front of `server`.
    pub(crate) fn start(identity: &Identity, server: SocketAddr) -> Self {
        Self::with_terms(identity, server, &Terms::default())
    }

    /// The same, not for everybody.
    pub(crate) fn with_terms(identity: &Identity, server: SocketAddr, terms: &Terms) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let host = if terms.is_ipv6 {
            "[::1]:0"
        } else {
            "127.0.0.1:0"
        };
        let listener = std::net::TcpListener::bind(host).expect("a port to listen on");
        let address = listener.local_addr().expect("an address of its own");
        listener.set_nonblocking(true).expect("a socket");
        let acceptor = Arc::new(Mutex::new(Some(acceptor(identity, terms))));
        let for_accepting = Arc::clone(&acceptor);
        let seen = Arc::<Mutex<Seen>>::default();
        let for_task = Arc::clone(&seen);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a socket");
            while let Ok((client, _)) = listener.accept().await {
                lock(&for_task).accepted += 1;
                let acceptor = lock(&for_accepting).clone();
                let seen = Arc::clone(&for_task);
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => pass_on(client, &acceptor, server, &seen).await,
                        None => ignore(client).await,
                    }
                });
            }
        });
        Self {
            address,
            seen,
            acceptor,
            runtime: Some(runtime),
        }
    }

    /// Shows this to those that connect from now on.
    pub(crate) fn show(&self, identity: &Identity) {
        *lock(&self.acceptor) = Some(acceptor(identity, &Terms::default()));
    }

    /// Accepts connections from now on, and says nothing on them.
    pub(crate) fn stall(&self) {
        *lock(&self.acceptor) = None;
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path by the name `localhost`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtsps://localhost:{}{path}", self.address.port())
    }

    /// The same by address.
    pub(crate) fn url_by_address(&self, path: &str) -> String {
        format!("rtsps://{}{path}", self.address)
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        lock(&self.seen).accepted
    }

    /// Handshakes that came to something so far.
    pub(crate) fn handshakes(&self) -> Vec<Handshake> {
        lock(&self.seen).handshakes.clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn acceptor(identity: &Identity, terms: &Terms) -> TlsAcceptor {
    TlsAcceptor::from(Arc::new(config(identity, terms)))
}

fn config(identity: &Identity, terms: &Terms) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = match terms.version {
        Some(version) => builder.with_protocol_versions(&[version]),
        None => builder.with_safe_default_protocol_versions(),
    };
    let builder = builder.expect("versions");
    let builder = match &terms.clients_of {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(authority));
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("an authority"))
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
    builder
        .with_single_cert(certificates(&identity.certificate), key)
        .expect("an identity")
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    certificates.map(|found| found.expect("PEM")).collect()
}

/// Reads what comes until the client is gone.
async fn ignore(mut client: TcpStream) {
    let _ = tokio::io::copy(&mut client, &mut tokio::io::sink()).await;
}

/// A client that is gone is not the front's trouble.
async fn pass_on(
    client: TcpStream,
    acceptor: &TlsAcceptor,
    server: SocketAddr,
    seen: &Mutex<Seen>,
) {
    let _ = client.set_nodelay(true);
    let Ok(mut client) = acceptor.accept(client).await else {
        return;
    };
    let session = client.get_ref().1;
    let handshake = Handshake {
        name: session.server_name().map(str::to_owned),
        is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        has_client: session.peer_certificates().is_some(),
        protocol: session.alpn_protocol().map(<[u8]>::to_vec),
    };
    lock(seen).handshakes.push(handshake);
    if let Ok(mut server) = TcpStream::connect(server).await {
        let _ = server.set_nodelay(true);
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
