//! A network that takes the place of the system's, for simulations.
//!
//! The simulator in `tests/sim` implements these traits: all code above the sockets runs unchanged over
//! a network whose behaviour follows a seed.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;

/// A connection attempt. Dropping it cancels the attempt.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

/// Takes the place of the system's sockets.
pub trait Network: fmt::Debug + Send + Sync {
    /// Connects to a server. The caller limits how long that may take. An error of the kind
    /// [`NotFound`](io::ErrorKind::NotFound) means that the host has no address.
    fn connect(&self, host: &str, port: u16) -> Connecting;

    /// Returns 128 bits that take the place of random ones, for the next connection.
    fn seed(&self) -> u128;

    /// The time of all suspends since the machine was started. The runtime's clock stood still in
    /// them.
    fn time_suspended(&self) -> Duration;
}

/// One connection: a non-blocking socket, TLS over one, or what takes its place in simulations. Dropping
/// it closes the connection.
pub trait Wire: fmt::Debug + Send + Sync {
    /// Appends received bytes to `buffer`, as far as it has room, and returns how many; 0 if the
    /// peer has closed.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing to read; any other error ends
    /// the connection.
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize>;

    /// Writes what fits, and returns how many bytes.
    ///
    /// # Errors
    ///
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing fits; any other error ends the
    /// connection.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Ready with true if a read would not block, with false if only a write would not. Ignores an
    /// operation that the caller does not want.
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

    /// True if the system has bytes to read, EOF or an error, whether the runtime knows of it or not.
    fn has_unread(&self) -> bool {
        false
    }

    /// What the system says about the network path: its round trip, and the segments that came out of
    /// order.
    fn path_info(&self) -> Option<(Duration, u32)> {
        None
    }

    /// Acknowledges at once what was read. The system resets the option by itself.
    fn acknowledge_at_once(&self) {}
}
