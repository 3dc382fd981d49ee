//! Between client and server: passes everything on, but for what the test changes in requests.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is changed in requests: these bytes into those, as many of them.
type Changes = Arc<Vec<(&'static str, &'static str)>>;

/// Serves until the runtime ends. Gives its port.
pub(crate) async fn proxy(server: u16, changes: Vec<(&'static str, &'static str)>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let changes: Changes = Arc::new(changes);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, server, Arc::clone(&changes)));
        }
    });
    port
}

async fn pass(client: TcpStream, server: u16, changes: Changes) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    // The client writes each message whole, and so it is read on loopback.
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(count) = from_client.read(&mut chunk).await
        && count > 0
    {
        let read = &mut chunk[..count];
        changes.iter().for_each(|(from, to)| change(read, from, to));
        if to_server.write_all(read).await.is_err() {
            return;
        }
    }
}

fn change(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let places = bytes.windows(from.len()).enumerate();
    let places = places.filter(|(_, here)| *here == from.as_bytes());
    let places: Vec<_> = places.map(|(at, _)| at).collect();
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
}
