//! The socket of a connection: plain bytes, without TLS.

use std::{
    future::{pending, poll_fn},
    io::{self, IoSlice},
    mem::MaybeUninit,
};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use super::tcp_info;
use crate::mux::{health::PathInfo, network::Wire};

/// A socket, or its stand-in in simulations.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Simulated(Box<dyn Wire>),
}

impl Socket {
    /// As [`TcpStream::try_read_buf`]. But after a read that leaves room in `buffer`, the next call
    /// returns `WouldBlock` without a system call, until tokio reports readiness again.
    pub(super) fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => read_all(socket, buffer),
            Self::Simulated(wire) => wire.try_read(buffer),
        }
    }

    /// True if the system has bytes to read, EOF or an error, whether tokio knows of it or not.
    pub(super) fn has_unread(&self) -> bool {
        let Self::Tcp(socket) = self else {
            return false;
        };
        let peeked = SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]);
        !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// As [`TcpStream::try_write_vectored`], but never raises SIGPIPE.
    pub(super) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => send(socket, slices),
            Self::Simulated(wire) => wire.try_write(slices),
        }
    }

    /// Waits until the socket is readable or writable, as far as that is wanted; true if reading
    /// may succeed. Dropping the future loses nothing.
    pub(super) async fn ready(
        &mut self,
        wants_to_read: bool,
        wants_to_write: bool,
    ) -> io::Result<bool> {
        match self {
            Self::Tcp(socket) => {
                let interest = match (wants_to_read, wants_to_write) {
                    (true, true) => Interest::READABLE | Interest::WRITABLE,
                    (true, false) => Interest::READABLE,
                    (false, true) => Interest::WRITABLE,
                    (false, false) => return pending().await,
                };
                let ready = socket.ready(interest).await?;
                Ok(wants_to_read && (ready.is_readable() || ready.is_read_closed()))
            }
            Self::Simulated(wire) => {
                poll_fn(|context| wire.poll_ready(context, wants_to_read, wants_to_write)).await
            }
        }
    }

    /// What the system says about the network path.
    pub(super) fn path_info(&self) -> Option<PathInfo> {
        let Self::Tcp(socket) = self else { return None };
        tcp_info::path_info(socket.local_addr().ok()?, socket.peer_addr().ok()?)
    }

    /// Acknowledges at once what was read. The system resets the option by itself.
    pub(super) fn acknowledge_at_once(&self) {
        let Self::Tcp(socket) = self else { return };
        // If it fails, everything is a little slower, and that is all.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(socket).set_tcp_quickack(true);
        #[cfg(not(target_os = "linux"))]
        let _ = SockRef::from(socket);
    }
}

/// Writes to a socket whose peer may have closed it. `writev`, which tokio uses, then raises
/// SIGPIPE, which ends a process without a handler for it: every C program, `gst-launch-1.0` too.
/// Only Rust programs ignore the signal from the start.
#[cfg(all(unix, not(target_vendor = "apple")))]
fn send(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};

    socket.try_io(Interest::WRITABLE, || {
        let mut no_control_data = SendAncillaryBuffer::default();
        Ok(sendmsg(
            socket,
            slices,
            &mut no_control_data,
            SendFlags::NOSIGNAL,
        )?)
    })
}

/// On Apple's systems a socket option does the same, which socket2 sets when it makes the socket
/// for tokio. Windows has no signals.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
fn send(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    socket.try_write_vectored(slices)
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
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
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        drop(listener.accept().unwrap());
        let mut socket = Socket::Tcp(stream);
        let broken = loop {
            socket.ready(false, true).await.unwrap();
            match socket.try_write_vectored(&[IoSlice::new(b"OPTIONS"), IoSlice::new(b" * ")]) {
                Ok(written) => assert_eq!(written, 10),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => break error,
            }
        };
        assert_eq!(broken.kind(), io::ErrorKind::BrokenPipe);
        assert!(!is_raised.load(Ordering::Relaxed));
    }
}
