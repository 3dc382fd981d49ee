//! What Linux knows of a TCP connection: `getsockopt(TCP_INFO)`.
//!
//! This is the only unsafe code of the crate, and therefore stands outside of `mux`, which forbids it: of
//! the crates used here none reads this option (`docs/dependencies.md`).
#![expect(unsafe_code, reason = "libc is the only way to this option")]

use std::os::fd::{AsFd, AsRawFd as _};

/// Takes less than a microsecond. What the system is too old to know is 0.
pub(crate) fn read(socket: impl AsFd) -> Option<libc::tcp_info> {
    // SAFETY: all fields are integers, and 0 is a value of each.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while it is borrowed, and the system writes at most `length` bytes,
    // which `info` has.
    let result = unsafe {
        libc::getsockopt(
            descriptor,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(info)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_connection_tells_what_it_has_received() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(&[0; 100_000]).unwrap();
        client.read_exact(&mut vec![0; 100_000]).unwrap();
        let info = read(&client).expect("TCP_INFO");
        assert_eq!(info.tcpi_bytes_received, 100_000);
        assert!(info.tcpi_rcv_ooopack < 10 && info.tcpi_rcv_rtt < 1_000_000);
    }

    #[test]
    fn what_is_no_connection_tells_nothing() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(read(file).is_none());
    }
}
