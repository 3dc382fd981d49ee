use std::{
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::*;
use crate::mux::network::Wire;

/// The server's end of the wire, which lets only so many bytes pass at a time.
#[derive(Debug)]
struct Peer {
    session: ServerConnection,
    /// Sent, and not yet received by the client.
    sent: Vec<u8>,
    /// What the client has sent.
    heard: Vec<u8>,
    portion: usize,
    /// Every other attempt would block, unless everything passes at once.
    attempts: usize,
    is_closed: bool,
}

impl Peer {
    fn is_wrong_time(&mut self) -> bool {
        self.attempts += 1;
        self.portion < usize::MAX && self.attempts.is_multiple_of(2)
    }

    fn say(&mut self, text: &[u8]) {
        self.session.writer().write_all(text).unwrap();
        self.send();
    }

    fn send(&mut self) {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.sent).unwrap();
        }
    }
}

#[derive(Clone, Debug)]
struct TestWire(Arc<Mutex<Peer>>);

impl TestWire {
    fn peer(&self) -> MutexGuard<'_, Peer> {
        self.0.lock().unwrap()
    }
}

impl Wire for TestWire {
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut peer = self.peer();
        if peer.sent.is_empty() && peer.is_closed {
            return Ok(0);
        }
        if peer.sent.is_empty() || peer.is_wrong_time() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let room = buffer.capacity() - buffer.len();
        let count = peer.sent.len().min(peer.portion).min(room);
        buffer.extend(peer.sent.drain(..count));
        Ok(count)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut peer = self.peer();
        if peer.is_wrong_time() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = bytes.len().min(peer.portion);
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            peer.session.read_tls(&mut rest).unwrap();
            let Ok(state) = peer.session.process_new_packets() else {
                // The client says that it gives up.
                return Ok(count);
            };
            let mut said = vec![0; state.plaintext_bytes_to_read()];
            io::Read::read_exact(&mut peer.session.reader(), &mut said).unwrap();
            peer.heard.extend(said);
        }
        peer.send();
        Ok(count)
    }

    fn poll_ready(
        &mut self,
        _: &mut Context<'_>,
        wants_to_read: bool,
        wants_to_write: bool,
    ) -> Poll<io::Result<bool>> {
        let peer = self.peer();
        if wants_to_read && (!peer.sent.is_empty() || peer.is_closed) {
            return Poll::Ready(Ok(true));
        }
        match wants_to_write {
            true => Poll::Ready(Ok(false)),
            false => Poll::Pending,
        }
    }
}

/// Runs a future that waits only for its own wire.
fn run<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..1_000_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("it waits for ever");
}

/// A connection over which so many bytes pass at a time.
/// Waits until it can be read or, else, written; true if it can be read.
fn ready(stream: &mut TlsStream, wants_to_read: bool) -> bool {
    let ready = poll_fn(|context| stream.poll_ready(context, wants_to_read, !wants_to_read));
    run(ready).unwrap()
}

fn connected(portion: usize) -> (TlsStream, TestWire) {
    let made = rcgen::generate_simple_self_signed(["nvr".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let wire = TestWire(Arc::new(Mutex::new(Peer {
        session: ServerConnection::new(Arc::new(server)).unwrap(),
        sent: Vec::new(),
        heard: Vec::new(),
        portion,
        attempts: 0,
        is_closed: false,
    })));
    let session = ClientConnection::new(Arc::new(client), "nvr".try_into().unwrap()).unwrap();
    let socket = Box::new(wire.clone());
    let mut stream = run(TlsStream::handshake(socket, session, None)).unwrap();
    while wire.peer().session.is_handshaking() {
        stream.flush().unwrap();
    }
    (stream, wire)
}

/// A text without short repetitions.
fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}

/// Reads as the driver does, until there are so many bytes or the end.
fn read(stream: &mut TlsStream, bytes: usize) -> Vec<u8> {
    let mut input = BytesMut::new();
    loop {
        loop {
            input.reserve(1_000);
            match stream.try_read(&mut input) {
                Ok(0) => return input.to_vec(),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        if input.len() >= bytes {
            return input.to_vec();
        }
        assert!(ready(stream, true));
    }
}

const PORTIONS: [usize; 6] = [1, 7, 1_000, 4_096, 20_000, usize::MAX];

#[test]
fn what_comes_in_any_portions_is_read_whole() {
    for portion in PORTIONS {
        let (mut stream, wire) = connected(portion);
        for bytes in [1, 100, 40_000] {
            wire.peer().say(&text(bytes));
            assert_eq!(read(&mut stream, bytes), text(bytes), "{portion}");
        }
    }
}

#[test]
fn what_is_written_in_any_portions_arrives_whole_without_another_word() {
    for portion in PORTIONS {
        let (mut stream, wire) = connected(portion);
        let text = text(portion.saturating_mul(3_000).min(50_000));
        let mut unwritten = BytesMut::from(&text[..]);
        loop {
            write_out(&mut stream, &mut unwritten).unwrap();
            assert!(stream.unsent.len() <= 2 * RECORD, "{}", stream.unsent.len());
            if unwritten.is_empty() {
                break;
            }
            assert!(!ready(&mut stream, false));
        }
        // A wait for reading alone writes the rest all the same.
        let mut context = Context::from_waker(Waker::noop());
        while wire.peer().heard.len() < text.len() {
            // What the server's TLS sends by itself.
            if stream.poll_ready(&mut context, true, false).is_ready() {
                assert!(read(&mut stream, 0).is_empty());
            }
        }
        assert_eq!(wire.peer().heard, text, "{portion}");
    }
}

#[test]
fn the_end_is_the_end_with_and_without_a_word() {
    for says_so in [true, false] {
        let (mut stream, wire) = connected(usize::MAX);
        let mut peer = wire.peer();
        peer.say(b"last words");
        if says_so {
            peer.session.send_close_notify();
            peer.send();
        }
        // A server may send `close_notify` and leave the TCP connection open.
        peer.is_closed = !says_so;
        drop(peer);
        assert_eq!(read(&mut stream, usize::MAX), b"last words");
    }
}

#[test]
fn a_stream_that_is_dropped_says_so() {
    let (stream, wire) = connected(usize::MAX);
    drop(stream);
    let mut peer = wire.peer();
    assert!(
        peer.session
            .process_new_packets()
            .unwrap()
            .peer_has_closed()
    );
}

#[test]
fn bytes_that_are_no_tls_end_it() {
    let (mut stream, wire) = connected(usize::MAX);
    wire.peer().sent.extend(b"RTSP/1.0 200 OK\r\n\r\n");
    let mut input = BytesMut::with_capacity(100);
    let error = loop {
        match stream.try_read(&mut input) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => break error,
            Ok(read) => panic!("{read}"),
        }
    };
    assert!(error.to_string().starts_with("TLS: "), "{error}");
}
