//! What a driver reads from and writes to: a socket, or TLS over one.

use std::io::{self, IoSlice};

use bytes::BytesMut;

use super::{socket::Socket, tls::TlsStream};
use crate::mux::health::PathInfo;

/// A socket, or TLS over one (RFC 7826, 19.2).
#[derive(Debug)]
pub(super) enum Transport {
    Plain(Socket),
    Tls(Box<TlsStream>),
}

impl Transport {
    /// Appends received bytes to `buffer`, as far as it has room, and returns how many; 0 if the
    /// peer has closed, [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing to read.
    pub(super) fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read_buf(buffer),
            Self::Tls(stream) => stream.try_read_buf(buffer),
        }
    }

    /// True if the system has bytes to read, EOF or an error, whether tokio knows of it or not.
    pub(super) fn has_unread(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.has_unread(),
            Self::Tls(stream) => stream.has_unread(),
        }
    }

    /// Writes what fits, and returns how many bytes; [`WouldBlock`](io::ErrorKind::WouldBlock) if
    /// nothing does.
    pub(super) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(slices),
            Self::Tls(stream) => stream.try_write_vectored(slices),
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
            Self::Plain(socket) => socket.ready(wants_to_read, wants_to_write).await,
            Self::Tls(stream) => stream.ready(wants_to_read, wants_to_write).await,
        }
    }

    /// What the system says about the network path.
    pub(super) fn path_info(&self) -> Option<PathInfo> {
        match self {
            Self::Plain(socket) => socket.path_info(),
            Self::Tls(stream) => stream.path_info(),
        }
    }

    /// Acknowledges at once what was read. The system resets the option by itself.
    pub(super) fn acknowledge_at_once(&self) {
        match self {
            Self::Plain(socket) => socket.acknowledge_at_once(),
            Self::Tls(stream) => stream.acknowledge_at_once(),
        }
    }
}
