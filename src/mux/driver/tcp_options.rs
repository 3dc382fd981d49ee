//! The TCP options of a connection: those set before it connects, its receive buffer, and when it
//! acknowledges at once.
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
    sync::OnceLock,
    time::{Duration, Instant},
};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

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
    watch_for_death(socket)
}

fn watch_for_death(socket: &TcpSocket) -> io::Result<()> {
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
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_what_is_wanted_leaves_the_systems_own() {
        assert!(grants("4194304\n") && grants("2097152"));
        assert!(!grants("212992\n") && !grants("") && !grants("much"));
    }
}
