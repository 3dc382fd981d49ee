//! TLS between a socket and the rest of the driver.
//!
//! rustls is a state machine without I/O, as our own core is. So it fits in between without an
//! adapter that has buffers and wakers of its own: the driver uses a TLS stream with the same calls
//! as a socket.

mod asking;
mod verifier;

use std::{
    fmt,
    future::poll_fn,
    io::{self, BufRead, Write},
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BufMut, BytesMut};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{sync::OnceCell, task::spawn_blocking, time::timeout};

use self::{
    asking::{ANSWER_LIMIT, Asking},
    verifier::{Breakdown, Verifier},
};
use super::socket::write_out;
use crate::mux::{
    error::{Error, ErrorKind},
    network::Wire,
    server_key::ServerId,
    tls::TlsOptions,
};

/// Bytes of ciphertext in one read. rustls alone would read 4 KiB at a time, which is four reads
/// for a record.
const READ_CHUNK: usize = 32 * 1024;
/// Bytes of plaintext in one write: a record. Encrypted data cannot be taken back, and the write
/// backlog does not count it.
const RECORD: usize = 16 * 1024;

/// TLS over a socket, after the handshake (RFC 7826, 19.2).
#[derive(Debug)]
pub(crate) struct TlsStream {
    socket: Box<dyn Wire>,
    session: ClientConnection,
    /// Received and not yet decrypted.
    ciphertext: BytesMut,
    /// Encrypted and not yet sent.
    unsent: BytesMut,
    /// Bytes that are decrypted and not yet taken.
    plaintext: usize,
    /// The peer has closed.
    is_closed: bool,
}

impl TlsStream {
    /// Makes the handshake over a socket that was just connected.
    async fn handshake(
        socket: Box<dyn Wire>,
        mut session: ClientConnection,
        asking: Option<&Asking>,
    ) -> Result<Self, Breakdown> {
        session.set_buffer_limit(Some(RECORD));
        let stream = Self {
            socket,
            session,
            ciphertext: BytesMut::new(),
            unsent: BytesMut::new(),
            plaintext: 0,
            is_closed: false,
        };
        let (mut stream, outcome) = stream.shake_hands(asking).await?;
        // The client's last flight: its Finished message, or the alert that says why the handshake
        // failed.
        let flushed = stream.flush();
        outcome?;
        flushed?;
        Ok(stream)
    }

    /// The second result is the handshake's. Where the application decides, what the server sends is
    /// processed on a thread of its own.
    async fn shake_hands(
        mut self,
        asking: Option<&Asking>,
    ) -> Result<(Self, Result<(), Breakdown>), Breakdown> {
        while self.session.is_handshaking() {
            self.flush()?;
            let has_debt = self.has_debt();
            poll_fn(|context| self.socket.poll_ready(context, true, has_debt)).await?;
            let received;
            (self, received) = match asking {
                None => {
                    let received = self.receive();
                    (self, received)
                }
                Some(asking) => asking.receive(self).await?,
            };
            match received {
                Ok(()) if self.is_closed => return Ok((self, Err(Breakdown::Closed))),
                Ok(()) => {}
                Err(Breakdown::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Ok((self, Err(error))),
            }
        }
        Ok((self, Ok(())))
    }

    fn take_plaintext(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut reader = self.session.reader();
        let mut total = 0;
        while self.plaintext > 0 {
            let room = buffer.capacity() - buffer.len();
            let chunk = reader.fill_buf()?;
            let taken = chunk.len().min(room);
            if taken == 0 {
                break;
            }
            buffer.extend_from_slice(&chunk[..taken]);
            reader.consume(taken);
            self.plaintext = self.plaintext.saturating_sub(taken);
            total += taken;
        }
        Ok(total)
    }

    /// Reads from the socket unless ciphertext is left, and decrypts up to the next plaintext.
    fn receive(&mut self) -> Result<(), Breakdown> {
        if self.ciphertext.is_empty() {
            self.ciphertext.reserve(READ_CHUNK);
            // Cameras close without `close_notify`. RTSP's own framing shows whether something is
            // missing.
            self.is_closed = self.socket.try_read(&mut self.ciphertext)? == 0;
        }
        while !self.ciphertext.is_empty() && self.plaintext == 0 && !self.is_closed {
            let mut unread = &self.ciphertext[..];
            let read = self.session.read_tls(&mut unread)?;
            self.ciphertext.advance(read);
            let state = self.session.process_new_packets()?;
            self.plaintext = state.plaintext_bytes_to_read();
            self.is_closed = state.peer_has_closed();
        }
        Ok(())
    }

    /// Writes as much ciphertext as fits.
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut (&mut self.unsent).writer())?;
        }
        write_out(&mut *self.socket, &mut self.unsent).map(drop)
    }

    /// True if TLS has something to send.
    fn has_debt(&self) -> bool {
        self.session.wants_write() || !self.unsent.is_empty()
    }
}

impl Wire for TlsStream {
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        while self.plaintext == 0 {
            if self.is_closed {
                return Ok(0);
            }
            self.receive()?;
        }
        self.take_plaintext(buffer)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        if self.has_debt() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = self.session.writer().write(bytes)?;
        self.flush()?;
        Ok(taken)
    }

    /// Also writes the rest of a record, and what TLS itself has to send.
    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        wants_to_read: bool,
        wants_to_write: bool,
    ) -> Poll<io::Result<bool>> {
        let has_input = self.plaintext > 0 || !self.ciphertext.is_empty() || self.is_closed;
        if has_input && wants_to_read {
            return Poll::Ready(Ok(true));
        }
        loop {
            let has_debt = self.has_debt();
            let wants_to_write_any = wants_to_write || has_debt;
            let ready = self
                .socket
                .poll_ready(context, wants_to_read, wants_to_write_any);
            let is_readable = ready!(ready)?;
            if has_debt {
                self.flush()?;
            }
            if is_readable || wants_to_write {
                return Poll::Ready(Ok(is_readable));
            }
        }
    }

    fn has_unread(&self) -> bool {
        self.plaintext > 0 || !self.ciphertext.is_empty() || self.socket.has_unread()
    }

    fn path_info(&self) -> Option<(Duration, u32)> {
        self.socket.path_info()
    }

    fn acknowledge_at_once(&self) {
        self.socket.acknowledge_at_once();
    }
}

/// Sends `close_notify`, if that is possible without waiting (RFC 8446, 6.1).
impl Drop for TlsStream {
    fn drop(&mut self) {
        self.session.send_close_notify();
        // A peer that is gone does not get it.
        let _ = self.flush();
    }
}

/// Shared by all connections that are made with the same [`TlsOptions`]. It keeps the session
/// tickets, with which a server resumes a TLS session without sending its certificate again.
pub(crate) struct TlsClient {
    options: TlsOptions,
    /// Built by the first handshake.
    config: OnceCell<TlsConfig>,
}

/// What handshakes go by.
struct TlsConfig {
    shared: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
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
        connecting: impl Future<Output = Result<Box<dyn Wire>, Error>>,
        server: &ServerId,
        limit: Duration,
    ) -> Result<TlsStream, Error> {
        let configuring = self.config.get_or_try_init(|| self.configure());
        let (socket, config) = tokio::try_join!(connecting, configuring)?;
        let asking = (self.options.decisions.as_ref())
            .map(|decisions| Asking::new(decisions.clone(), server, config));
        let limit = limit + asking.as_ref().map_or(Duration::ZERO, |_| ANSWER_LIMIT);
        let securing = async {
            let name = name_of(server).ok_or(Breakdown::NoName)?;
            let config = asking.as_ref().map_or(&config.shared, Asking::config);
            let session = ClientConnection::new(Arc::clone(config), name)?;
            let handshake = TlsStream::handshake(socket, session, asking.as_ref());
            let handshake = timeout(limit, handshake);
            handshake.await.map_err(|_| Breakdown::TimedOut(limit))?
        };
        let secured = securing.await;
        secured.map_err(|breakdown| verifier::error(server, breakdown))
    }

    async fn configure(&self) -> Result<TlsConfig, Error> {
        let needs_roots = self.options.checks.authority || self.options.has_decisions();
        let roots = match needs_roots && self.options.fingerprint.is_none() {
            true => self.roots().await?,
            false => Arc::new(RootCertStore::empty()),
        };
        self.config(roots).map_err(|error| {
            let explanation = format!("the TLS options cannot be used: {error}");
            Error::new(ErrorKind::Options, explanation)
        })
    }

    async fn roots(&self) -> Result<Arc<RootCertStore>, Error> {
        let system = system_roots().await?;
        if self.options.authorities.is_empty() {
            return Ok(system);
        }
        let mut roots = RootCertStore::clone(&system);
        roots.add_parsable_certificates(self.options.authorities.iter().cloned());
        Ok(Arc::new(roots))
    }

    fn config(&self, roots: Arc<RootCertStore>) -> Result<TlsConfig, rustls::Error> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(Verifier {
            checks: self.options.checks,
            roots,
            trusted: self.options.authorities.to_vec(),
            algorithms: provider.signature_verification_algorithms,
            fingerprint: self.options.fingerprint,
        });
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone());
        let config = match &self.options.client {
            Some(client) => {
                config.with_client_auth_cert(client.chain.clone(), client.key.clone_key())?
            }
            None => config.with_no_client_auth(),
        };
        Ok(TlsConfig {
            shared: Arc::new(config),
            verifier,
        })
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
mod tests;

#[cfg(test)]
mod client_tests {
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
