//! TLS of the simulated servers: the records of a connection, without sockets.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection};

use crate::certificates::Identity;

/// What a server shows to those that connect.
#[derive(Clone)]
pub(crate) struct TlsIdentity(Arc<ServerConfig>);

impl TlsIdentity {
    pub(crate) fn new(identity: &Identity) -> Self {
        let chain = CertificateDer::pem_slice_iter(identity.certificate.as_bytes());
        let chain = chain.map(|found| found.expect("PEM")).collect();
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("a key");
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder
            .with_safe_default_protocol_versions()
            .expect("versions");
        let config = builder.with_no_client_auth().with_single_cert(chain, key);
        Self(Arc::new(config.expect("an identity")))
    }
}

/// The server's end of one connection.
pub(crate) struct TlsEnd(ServerConnection);

impl fmt::Debug for TlsEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsEnd")
    }
}

impl TlsEnd {
    pub(crate) fn new(identity: &TlsIdentity) -> Self {
        let session = ServerConnection::new(Arc::clone(&identity.0)).expect("a session");
        Self(session)
    }

    /// What records of the client contain, and the records that are the server's answer to them.
    pub(crate) fn open(&mut self, mut records: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut contents = Vec::new();
        while !records.is_empty() {
            self.0.read_tls(&mut records).expect("room for a record");
            // The client sends an alert that says why it ends the handshake; no bytes behind it are read.
            if self.0.process_new_packets().is_err() {
                break;
            }
            // An end of what has come, or one that the client announced.
            let _ = self.0.reader().read_to_end(&mut contents);
        }
        (contents, self.records())
    }

    /// Records that contain these bytes.
    pub(crate) fn seal(&mut self, contents: &[u8]) -> Vec<u8> {
        self.0.writer().write_all(contents).expect("room");
        self.records()
    }

    fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut records).expect("a vector");
        }
        records
    }
}
