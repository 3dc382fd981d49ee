//! Dials a server: tries its addresses one by one within one deadline, and makes the TLS handshake.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

use super::{DriverHandle, TlsClient, socket};
use crate::mux::{
    clock,
    error::{Error, ErrorKind},
    network::{Network, Wire},
    release::lock,
    server_key::ServerId,
};

/// Connects, and makes the TLS handshake for `rtsps`; each may take `limit`.
pub(super) async fn dial(
    handle: &DriverHandle,
    limit: Duration,
    tls: Option<Arc<TlsClient>>,
    network: Option<Arc<dyn Network>>,
) -> Result<Box<dyn Wire>, Error> {
    let connecting = async {
        let (socket, took) = connect_to(&handle.server, limit, network).await?;
        // Measured before the TLS handshake, which takes one or two round trips more.
        lock(&handle.server_info).connect_time = Some(took);
        Ok(socket)
    };
    match tls {
        None => connecting.await,
        Some(tls) => {
            let stream = tls.secure(connecting, &handle.server, limit).await?;
            Ok(Box::new(stream))
        }
    }
}

/// Connects to `server`, and says how long that took: a round trip. All addresses of its name share `timeout` evenly, so that a first address
/// that drops packets does not use up the time of a second one that answers. A `network` takes the
/// place of the system's.
async fn connect_to(
    server: &ServerId,
    timeout: Duration,
    network: Option<Arc<dyn Network>>,
) -> Result<(Box<dyn Wire>, Duration), Error> {
    let deadline = Instant::now() + timeout;
    let mut last = None;
    if let Some(network) = network {
        let began = clock::now();
        let connecting = network.connect(server.host(), server.port());
        return match timeout_at(deadline, connecting).await {
            Ok(Ok(wire)) => Ok((wire, clock::now().saturating_duration_since(began))),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                Err(unresolved(server, &error.to_string()))
            }
            Ok(Err(error)) => Err(refused(server, &error.to_string())),
            Err(_) => Err(refused(server, &no_answer(timeout))),
        };
    }
    let addresses = resolve(server, deadline).await?;
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let now = Instant::now();
        let until = now + deadline.saturating_duration_since(now) / left;
        let began = clock::now();
        match timeout_at(until, connect(*address)).await {
            Ok(Ok(socket)) => {
                let took = clock::now().saturating_duration_since(began);
                let took = took.min(socket::handshake_time(&socket).unwrap_or(took));
                return Ok((Box::new(socket), took));
            }
            Ok(Err(error)) => last = Some(error.to_string()),
            Err(_) => last = Some(no_answer(timeout)),
        }
    }
    let reason = last.unwrap_or_else(|| "its name has no address".to_owned());
    Err(refused(server, &reason))
}

fn no_answer(timeout: Duration) -> String {
    format!("no answer within {timeout:?}")
}

fn refused(server: &ServerId, reason: &str) -> Error {
    let explanation = format!("cannot connect to {server}: {reason}");
    Error::new(ErrorKind::Connect, explanation)
}

async fn resolve(server: &ServerId, deadline: Instant) -> Result<Vec<SocketAddr>, Error> {
    let host = without_needless_zone(server.host());
    let looked_up = timeout_at(deadline, lookup_host((host, server.port()))).await;
    let reason = match looked_up {
        Ok(Ok(addresses)) => return Ok(addresses.collect()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    Err(unresolved(server, &reason))
}

/// The resolver takes a zone with a link-local address only; with another one it says nothing.
fn without_needless_zone(host: &str) -> &str {
    let zoned = host.split_once('%');
    let address = zoned.and_then(|(address, _)| Some((address, address.parse::<Ipv6Addr>().ok()?)));
    match address {
        Some((text, address)) if !address.is_unicast_link_local() => text,
        _ => host,
    }
}

fn unresolved(server: &ServerId, reason: &str) -> Error {
    let explanation = format!("cannot resolve {}: {reason}", server.host());
    Error::new(ErrorKind::Resolve, explanation)
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket::set_before_connect(&socket)?;
    let socket = socket.connect(address).await?;
    socket::widen_receive_buffer(&socket);
    Ok(socket)
}
