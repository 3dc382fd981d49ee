//! Addresses on which no server is.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1 that refuses each dial, or answers none. It is taken, so that no other socket of the
/// machine listens there meanwhile.
pub(crate) struct NoServer {
    port: u16,
    _socket: Socket,
    /// Fills the queue of those that wait to be accepted.
    _filler: Option<TcpStream>,
}

impl NoServer {
    /// Dials are refused. Port 0: any.
    pub(crate) fn refusing(port: u16) -> Self {
        let socket = bound(port);
        Self {
            port: port_of(&socket),
            _socket: socket,
            _filler: None,
        }
    }

    /// Dials get no answer: the system drops them, as nothing accepts the one that came first.
    pub(crate) fn silent(port: u16) -> Self {
        let socket = bound(port);
        socket.listen(0).expect("a socket that listens");
        let port = port_of(&socket);
        let filler = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the first dial");
        Self {
            port,
            _socket: socket,
            _filler: Some(filler),
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

fn bound(port: u16) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    // Connections of a server that was there may not be quite gone.
    socket.set_reuse_address(true).expect("a socket");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.bind(&address.into()).expect("a port");
    socket
}

fn port_of(socket: &Socket) -> u16 {
    let address = socket.local_addr().expect("an address of its own");
    address.as_socket().expect("an IP address").port()
}
