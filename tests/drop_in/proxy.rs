//! A TCP proxy before a server, which records the requests that one element sends and can break the
//! connection.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::rtsp::{Incoming, Parser, Request};

#[derive(Default)]
struct Seen {
    accepted: usize,
    open: usize,
    requests: Vec<Request>,
    /// RTCP packets from the client.
    reports: usize,
    streams: Vec<TcpStream>,
}

/// What went through.
#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Before the server at this port.
    pub(crate) fn before(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let accepted = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&accepted);
                std::thread::spawn(move || carry(client, server, &shared));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().requests.clone()
    }

    /// The first request with this method.
    pub(crate) fn request(&self, method: &str) -> Request {
        let is_there = |seen: &Seen| seen.requests.iter().any(|it| it.method == method);
        assert!(self.wait(is_there), "no {method}");
        let requests = self.requests();
        requests.into_iter().find(|it| it.method == method).unwrap()
    }

    /// Whether so many requests of this method come.
    pub(crate) fn sees(&self, method: &str, count: usize) -> bool {
        self.wait(|seen| count_of(seen, method) >= count)
    }

    /// How many requests of this method came so far.
    pub(crate) fn count(&self, method: &str) -> usize {
        count_of(&self.shared.seen.lock().unwrap(), method)
    }

    /// Whether RTCP comes from the client within `limit`.
    pub(crate) fn sees_report(&self, limit: Duration) -> bool {
        self.wait_for(limit, |seen| seen.reports > 0)
    }

    /// Whether the client closes all its connections.
    pub(crate) fn is_left(&self) -> bool {
        self.wait(|seen| seen.accepted > 0 && seen.open == 0)
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        for stream in &self.shared.seen.lock().unwrap().streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn wait(&self, is_so: impl Fn(&Seen) -> bool) -> bool {
        self.wait_for(crate::stage::PATIENCE, is_so)
    }

    fn wait_for(&self, limit: Duration, is_so: impl Fn(&Seen) -> bool) -> bool {
        let seen = self.shared.seen.lock().unwrap();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(seen, limit, |seen| !is_so(seen));
        is_so(&waited.unwrap().0)
    }
}

fn count_of(seen: &Seen, method: &str) -> usize {
    let requests = seen.requests.iter();
    requests.filter(|it| it.method == method).count()
}

fn carry(mut client: TcpStream, server: u16, shared: &Arc<Shared>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)) else {
        return;
    };
    let (mut back, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    {
        let mut seen = shared.seen.lock().unwrap();
        seen.accepted += 1;
        seen.open += 1;
        seen.streams.push(client.try_clone().unwrap());
        seen.streams.push(server.try_clone().unwrap());
    }
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let (mut parser, mut bytes) = (Parser::default(), [0; 8192]);
    while let Ok(count @ 1..) = client.read(&mut bytes) {
        parser.push(&bytes[..count]);
        let mut seen = shared.seen.lock().unwrap();
        while let Ok(Some(incoming)) = parser.next() {
            match incoming {
                Incoming::Request(request) => seen.requests.push(request),
                Incoming::Frame(_) => seen.reports += 1,
                Incoming::Response(_) => {}
            }
        }
        drop(seen);
        shared.changed.notify_all();
        if server.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    shared.seen.lock().unwrap().open -= 1;
    shared.changed.notify_all();
}
