//! What a driver reads from and writes to.

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
    /// Appends what has come to `buffer`, as far as it has room, and tells how much; 0: the peer has
    /// closed. [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing.
    pub(super) fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_read_buf(buffer),
            Self::Tls(stream) => stream.try_read_buf(buffer),
        }
    }

    /// Whether the system has something to read, the end or a failure included, whatever tokio has
    /// heard of.
    pub(super) fn has_unread(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.has_unread(),
            Self::Tls(stream) => stream.has_unread(),
        }
    }

    /// Writes what fits, and tells how much. [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing
    /// does.
    pub(super) fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(slices),
            Self::Tls(stream) => stream.try_write_vectored(slices),
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
            Self::Plain(socket) => socket.ready(wants_to_read, wants_to_write).await,
            Self::Tls(stream) => stream.ready(wants_to_read, wants_to_write).await,
        }
    }

    /// What the system says of the way.
    pub(super) fn path_info(&self) -> Option<PathInfo> {
        match self {
            Self::Plain(socket) => socket.path_info(),
            Self::Tls(stream) => stream.path_info(),
        }
    }

    /// Acknowledges what was read at once. The system forgets the option by itself.
    pub(super) fn acknowledge_at_once(&self) {
        match self {
            Self::Plain(socket) => socket.acknowledge_at_once(),
            Self::Tls(stream) => stream.acknowledge_at_once(),
        }
    }
}
