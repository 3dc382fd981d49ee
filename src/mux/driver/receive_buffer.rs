//! Room for what many sessions send at once when they start.
//!
//! Sixteen first key frames come to a megabyte. The system's own receive buffer begins with room for
//! 64 KiB and grows by what is read in each round trip, so over a long way it is the buffer that
//! first pictures wait for, with every session behind the same one: 64 cameras of 4 Mbit/s at 50 ms
//! were there after 0.52 s instead of 0.66 s. A buffer that is set stays as it is, so it is set only
//! where the system grants enough for a busy connection, too (Linux: `net.core.rmem_max`); else the
//! system goes on adapting its own. Never a small one: live555 loses framing behind it.

use std::{fs, sync::OnceLock};

use socket2::SockRef;
use tokio::net::TcpStream;

/// 320 Mbit/s at a round trip of 50 ms.
const WANTED: u32 = 2 * 1024 * 1024;

/// Where Linux says what a process may ask for, in bytes.
const LIMIT: &str = "/proc/sys/net/core/rmem_max";

/// Once the connection is made: set before, it costs a round trip where the first pictures are small.
pub(super) fn widen(socket: &TcpStream) {
    static IS_GRANTED: OnceLock<bool> = OnceLock::new();

    if *IS_GRANTED.get_or_init(|| fs::read_to_string(LIMIT).is_ok_and(|limit| grants(&limit))) {
        // Without it a start over a long way is slower, and nothing else.
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
