//! A socket, and its options.
//!
//! # Receive buffer
//!
//! Sixteen first key frames are about a megabyte. The system's receive buffer starts at 64 KiB and
//! grows by what is read in each round trip. So over a long path first pictures wait for the
//! buffer, and every session waits behind the same one: with a larger buffer 64 cameras of 4 Mbit/s
//! over 50 ms had their pictures after 0.52 s instead of 0.66 s. The system does not adapt a buffer
//! whose size was set. So the size is set only where the system grants enough for a busy connection
//! as well (Linux: `net.core.rmem_max`); elsewhere the system goes on adapting it. It is never made
//! small: live555 loses framing behind a small one.
//!
//! # Acknowledgements
//!
//! A server may wait for an acknowledgement before it sends the next answer, or the rest of the
//! first key frame. Delayed acknowledgements add up to 40 ms to each, against a round trip of a few
//! milliseconds. Once media flows steadily, acknowledgements may be delayed: each one costs a
//! packet, and the server does not wait for it.

use std::{
    fs, io,
    mem::MaybeUninit,
    sync::OnceLock,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Buf as _, BytesMut};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::Interest,
    net::{TcpSocket, TcpStream},
};

use crate::mux::network::Wire;

impl Wire for TcpStream {
    /// As [`TcpStream::try_read_buf`]. But after a read that leaves room in `buffer`, the next call
    /// returns `WouldBlock` without a system call, until tokio reports readiness again.
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        read_all(self, buffer)
    }

    /// One buffer at a time, because the peer may have closed the socket: `writev`, which tokio calls
    /// for several, then raises SIGPIPE, which ends a process without a handler for it: every C
    /// program, `gst-launch-1.0` too. Only Rust programs ignore the signal from the start.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::try_write(self, bytes)
    }

    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        wants_to_read: bool,
        wants_to_write: bool,
    ) -> Poll<io::Result<bool>> {
        if wants_to_read && let Poll::Ready(ready) = self.poll_read_ready(context) {
            return Poll::Ready(ready.map(|()| true));
        }
        match wants_to_write {
            true => self.poll_write_ready(context).map_ok(|()| false),
            false => Poll::Pending,
        }
    }

    fn has_unread(&self) -> bool {
        let peeked = SockRef::from(self).peek(&mut [MaybeUninit::uninit()]);
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[cfg(target_os = "linux")]
    fn path_info(&self) -> Option<(Duration, u32)> {
        let info = crate::tcp_info::read(self)?;
        let round_trip = Duration::from_micros(info.tcpi_rcv_rtt.into());
        Some((round_trip, info.tcpi_rcv_ooopack))
    }

    #[cfg(target_os = "linux")]
    fn acknowledge_at_once(&self) {
        // If it fails, everything is a little slower, and that is all.
        let _ = SockRef::from(self).set_tcp_quickack(true);
    }
}

/// How long the handshake of a connection took, as the system has measured it: a busy machine may wake
/// the thread that dials much later.
#[cfg(target_os = "linux")]
pub(super) fn handshake_time(socket: &TcpStream) -> Option<Duration> {
    let info = crate::tcp_info::read(socket)?;
    (info.tcpi_rtt > 0).then(|| Duration::from_micros(info.tcpi_rtt.into()))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn handshake_time(_socket: &TcpStream) -> Option<Duration> {
    None
}

/// Takes from `bytes` what `wire` takes without waiting, and returns how many that were.
pub(super) fn write_out(wire: &mut dyn Wire, bytes: &mut BytesMut) -> io::Result<usize> {
    let before = bytes.len();
    while !bytes.is_empty() {
        match wire.try_write(bytes) {
            Ok(written) => bytes.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(before - bytes.len())
}

/// Reads, and takes a read that leaves room for the last one. That holds where readiness comes from
/// epoll, and tokio's own [`AsyncRead`](tokio::io::AsyncRead) does the same. On other systems it
/// would wait although there is more to read.
fn read_all(socket: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
    let room = buffer.capacity() - buffer.len();
    let mut read = 0;
    let result = socket.try_io(Interest::READABLE, || {
        read = socket.try_read_buf(buffer)?;
        match cfg!(target_os = "linux") && (1..room).contains(&read) {
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        }
    });
    match result {
        Err(error) if read == 0 => Err(error),
        _ => Ok(read),
    }
}

const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
/// The same time as the core's silence limit: both mean that the peer is gone.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// 320 Mbit/s at a round trip of 50 ms.
const WANTED: u32 = 2 * 1024 * 1024;

/// Where Linux says what size a process may ask for, in bytes.
const LIMIT: &str = "/proc/sys/net/core/rmem_max";

/// How long the first frames may take after the last answer.
const FIRST_FRAMES: Duration = Duration::from_secs(1);

/// Sets the options of a socket that is about to connect.
pub(super) fn set_before_connect(socket: &TcpSocket) -> io::Result<()> {
    // Requests are small and each waits for its answer: Nagle would add 40 ms to every round trip.
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// Called once the connection is established: set before, the size costs a round trip where the
/// first pictures are small.
pub(super) fn widen_receive_buffer(socket: &TcpStream) {
    static IS_GRANTED: OnceLock<bool> = OnceLock::new();

    if *IS_GRANTED.get_or_init(|| fs::read_to_string(LIMIT).is_ok_and(|limit| grants(&limit))) {
        // If it fails, a start over a long path is slower, and that is all.
        let _ = SockRef::from(socket).set_recv_buffer_size(WANTED as usize);
    }
}

fn grants(limit: &str) -> bool {
    limit
        .trim()
        .parse()
        .is_ok_and(|limit: u64| limit >= u64::from(WANTED))
}

/// Until when a connection acknowledges at once.
#[derive(Debug, Default)]
pub(super) struct QuickAck {
    until: Option<Instant>,
}

impl QuickAck {
    /// Called after each read; true if it is to be acknowledged at once.
    pub(super) fn on_read(&mut self, now: Instant, is_bringing_up: bool) -> bool {
        if is_bringing_up {
            self.until = Some(now + FIRST_FRAMES);
        }
        self.until.is_some_and(|until| now <= until)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod socket_tests {
    use std::{
        net::TcpListener,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use super::*;

    /// The peer closes; our first write makes it answer with a reset; our second write finds the
    /// connection broken.
    #[tokio::test]
    async fn f52_a_write_after_the_peer_has_closed_raises_no_sigpipe() {
        let is_raised = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::clone(&is_raised)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        drop(listener.accept().unwrap());
        let broken = loop {
            stream.writable().await.unwrap();
            if let Err(error) = write_out(&mut stream, &mut BytesMut::from("OPTIONS * ")) {
                break error;
            }
        };
        assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);
        assert!(!is_raised.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tcp_options_tests {
    use super::*;

    #[test]
    fn a_limit_below_what_is_wanted_leaves_the_systems_own() {
        assert!(grants("4194304\n") && grants("2097152"));
        assert!(!grants("212992\n") && !grants("") && !grants("much"));
    }
}
