//! What Linux knows of a TCP connection (`TCP_INFO`), read over netlink (`sock_diag(7)`).
//!
//! The socket option `TCP_INFO` gives the same, but no crate reads it, and without a crate it takes
//! unsafe code. Where netlink is missing (another system, a sandbox) the driver goes without: only
//! the reason for a congestion is then not known.

#[cfg(target_os = "linux")]
pub(super) use linux::path_info;

#[cfg(not(target_os = "linux"))]
pub(super) fn path_info(
    _local: std::net::SocketAddr,
    _peer: std::net::SocketAddr,
) -> Option<crate::mux::health::PathInfo> {
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        io::{Read, Write},
        net::{IpAddr, SocketAddr},
        time::Duration,
    };

    use socket2::{Domain, Protocol, Socket, Type};

    use crate::mux::health::PathInfo;

    const AF_NETLINK: i32 = 16;
    const NETLINK_SOCK_DIAG: i32 = 4;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const IPPROTO_TCP: u8 = 6;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const INET_DIAG_INFO: u16 = 2;

    /// The length of a netlink header, and below of the answer's fixed part (`struct
    /// inet_diag_msg`).
    const HEADER: usize = 16;
    const ANSWER: usize = 72;
    /// Offsets in `struct tcp_info`, which only ever grows at its end.
    const RCV_RTT: usize = 92;
    const RCV_OOOPACK: usize = 224;

    /// The connection between these two addresses; `None` if the system does not say. Takes some
    /// microseconds.
    pub(crate) fn path_info(local: SocketAddr, peer: SocketAddr) -> Option<PathInfo> {
        let kind = Type::RAW.nonblocking();
        let protocol = Protocol::from(NETLINK_SOCK_DIAG);
        let mut netlink = Socket::new(Domain::from(AF_NETLINK), kind, Some(protocol)).ok()?;
        netlink.write_all(&question(local, peer)).ok()?;
        // The system answers within the call that sends the question.
        let mut answer = [0; 2048];
        let length = netlink.read(&mut answer).ok()?;
        parse(answer.get(..length)?)
    }

    /// A `struct inet_diag_req_v2` for one socket.
    fn question(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
        let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        let mut question = Vec::with_capacity(HEADER + 56);
        let length = u32::try_from(HEADER + 56).unwrap_or_default();
        question.extend(length.to_ne_bytes());
        question.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        question.extend(NLM_F_REQUEST.to_ne_bytes());
        question.extend([0; 8]);
        question.extend([family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
        question.extend(u32::MAX.to_ne_bytes());
        question.extend(local.port().to_be_bytes());
        question.extend(peer.port().to_be_bytes());
        question.extend(words(local.ip()));
        question.extend(words(peer.ip()));
        // Any interface, and no cookie.
        question.extend([0; 4]);
        question.extend([0xff; 8]);
        question
    }

    fn words(address: IpAddr) -> [u8; 16] {
        match address {
            IpAddr::V6(address) => address.octets(),
            IpAddr::V4(address) => {
                let mut words = [0; 16];
                for (word, octet) in words.iter_mut().zip(address.octets()) {
                    *word = octet;
                }
                words
            }
        }
    }

    fn parse(answer: &[u8]) -> Option<PathInfo> {
        let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
        if kind != SOCK_DIAG_BY_FAMILY {
            return None;
        }
        let mut attributes = answer.get(HEADER + ANSWER..)?;
        loop {
            let length = u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?);
            let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
            let length = usize::from(length).max(4);
            let info = attributes.get(4..length)?;
            if kind == INET_DIAG_INFO {
                let word =
                    |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
                return Some(PathInfo {
                    round_trip: Duration::from_micros(u64::from(word(RCV_RTT)?)),
                    // Linux has counted it since 5.4.
                    out_of_order: word(RCV_OOOPACK).unwrap_or_default(),
                });
            }
            attributes = attributes.get(length.next_multiple_of(4)..)?;
        }
    }

    #[cfg(test)]
    mod tests {
        use std::net::{TcpListener, TcpStream};

        use super::*;

        #[test]
        fn a_connection_is_found_by_its_addresses() {
            for address in ["127.0.0.1:0", "[::1]:0"] {
                // Not every machine has IPv6.
                let Ok(listener) = TcpListener::bind(address) else {
                    continue;
                };
                let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                server.write_all(&[0; 100_000]).unwrap();
                let mut read = vec![0; 100_000];
                (&client).read_exact(&mut read).unwrap();
                let (local, peer) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
                let path = path_info(local, peer).expect("sock_diag");
                assert!(
                    path.out_of_order < 10 && path.round_trip < Duration::from_secs(1),
                    "{path:?}"
                );
            }
        }

        #[test]
        fn what_is_no_connection_is_not_found() {
            let unused = "127.0.0.1:1".parse().unwrap();
            assert_eq!(path_info(unused, unused), None);
        }

        #[test]
        fn an_answer_of_any_length_is_read_or_not() {
            let mut answer = [0x02; 400];
            answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
            for length in 0..answer.len() {
                assert_eq!(parse(&answer[..length]), None);
            }
        }
    }
}
