//! A receive buffer with room for the first key frames of many sessions.
//!
//! Sixteen first key frames are about a megabyte. The system's receive buffer starts at 64 KiB and
//! grows by what is read in each round trip. So over a long path first pictures wait for the
//! buffer, and every session waits behind the same one: with a larger buffer 64 cameras of 4 Mbit/s
//! over 50 ms had their pictures after 0.52 s instead of 0.66 s. The system does not adapt a buffer
//! whose size was set. So the size is set only where the system grants enough for a busy connection
//! as well (Linux: `net.core.rmem_max`); elsewhere the system goes on adapting it. It is never made
//! small: live555 loses framing behind a small one.

use std::{fs, sync::OnceLock};

use socket2::SockRef;
use tokio::net::TcpStream;

/// 320 Mbit/s at a round trip of 50 ms.
const WANTED: u32 = 2 * 1024 * 1024;

/// Where Linux says what size a process may ask for, in bytes.
const LIMIT: &str = "/proc/sys/net/core/rmem_max";

/// Called once the connection is established: set before, the size costs a round trip where the
/// first pictures are small.
pub(super) fn widen(socket: &TcpStream) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_below_what_is_wanted_leaves_the_systems_own() {
        assert!(grants("4194304\n") && grants("2097152"));
        assert!(!grants("212992\n") && !grants("") && !grants("much"));
    }
}
