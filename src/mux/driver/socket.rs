//! The octets of a connection as they are on the wire.

use std::{
    future::{pending, poll_fn},
    io::{self, IoSlice},
};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::{io::Interest, net::TcpStream};

use super::tcp_info;
use crate::mux::{network::Wire, strain::Way};

/// A socket, or what stands for one in simulations.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Simulated(Box<dyn Wire>),
}

impl Socket {
    /// As [`TcpStream::try_read_buf`]; but after a read that leaves room in `buffer`, the next one
    /// finds nothing without asking the system, until that says that there is more.
    pub(super) fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => read_all(socket, buffer),
            Self::Simulated(wire) => wire.try_read(buffer),
        }
    }

    /// As [`TcpStream::try_write_vectored`].
    pub(super) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.try_write_vectored(slices),
            Self::Simulated(wire) => wire.try_write(slices),
        }
    }

    /// Waits until there is something to read, or room to write, as far as that is wanted; true if
    /// reading is worth a try. Dropping the future loses nothing.
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

    /// What the system says of the way.
    pub(super) fn way(&self) -> Option<Way> {
        let Self::Tcp(socket) = self else { return None };
        tcp_info::way(socket.local_addr().ok()?, socket.peer_addr().ok()?)
    }

    /// Acknowledges what was read at once. The system forgets the option by itself.
    pub(super) fn acknowledge_at_once(&self) {
        let Self::Tcp(socket) = self else { return };
        // Without it everything is a little slower, and nothing else.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(socket).set_tcp_quickack(true);
        #[cfg(not(target_os = "linux"))]
        let _ = SockRef::from(socket);
    }
}

/// Reads, and takes a read that leaves room for the last one. That is so where readiness is told by
/// epoll, and is how tokio's own [`AsyncRead`](tokio::io::AsyncRead) sees it; elsewhere it would wait
/// for what is there already.
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
