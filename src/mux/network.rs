//! A network other than the system's.
//!
//! For the simulator in `tests/sim` only: everything above the sockets runs there as it is, over a
//! network that follows a seed. Nothing else implements these traits; of the real network the driver
//! uses sockets as they are, without a call through a pointer for each read.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;

/// A connection attempt; dropped, it is given up.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

/// Takes the place of the system's sockets.
pub trait Network: fmt::Debug + Send + Sync {
    /// Connects to a server. How long that may take is the caller's affair. An error of the kind
    /// [`NotFound`](io::ErrorKind::NotFound) says that the host has no address.
    fn connect(&self, host: &str, port: u16) -> Connecting;

    /// In place of 128 random bits, for the next connection.
    fn seed(&self) -> u128;

    /// How long the machine has slept since it was started, in all its sleeps. The runtime's clock
    /// stood still meanwhile.
    fn time_suspended(&self) -> Duration;
}

/// One connection, as a socket that does not block. Closed by dropping it.
pub trait Wire: fmt::Debug + Send + Sync {
    /// Appends what has come to `buffer`, as far as it has room, and tells how much; 0: the peer
    /// has closed.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing; everything else ends it.
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize>;

    /// Writes what fits, and tells how much.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing fits; everything else ends it.
    fn try_write(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize>;

    /// Ready with true if a read would not block, with false if only a write would not. What is not
    /// wanted does not matter.
    ///
    /// # Errors
    ///
    /// The connection is over.
    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        wants_to_read: bool,
        wants_to_write: bool,
    ) -> Poll<io::Result<bool>>;
}
