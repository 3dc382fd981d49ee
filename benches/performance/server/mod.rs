//! The load server: plays a clip to any number of sessions of any number of connections, at the
//! clip's own pace or as fast as it is read.
//!
//! `/paced/N`, `/stamped/N` and `/unthrottled/N` are its cameras; all addresses of the machine have
//! them. A connection has a thread. It says `port=N`, and when its input ends what it has seen.

mod clip;
mod connection;
mod session;

use std::{
    io::Read as _,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use self::{clip::Clip, connection::Connection};
use crate::{Outcome, arguments::Arguments};

/// Counted over all connections.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
    sessions: AtomicU64,
    /// Not sent, because the client did not read.
    dropped_frames: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let clip = Arc::new(Clip::read(&arguments.value::<PathBuf>("clip")?)?);
    let counts = Arc::<Counts>::default();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    println!("port={}", listener.local_addr()?.port());
    std::thread::spawn({
        let counts = Arc::clone(&counts);
        move || {
            for stream in listener.incoming().flatten() {
                Counts::add(&counts.connections);
                let connection = Connection::new(stream, Arc::clone(&clip), Arc::clone(&counts));
                std::thread::spawn(move || connection.serve());
            }
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    for (name, counter) in [
        ("connections", &counts.connections),
        ("requests", &counts.requests),
        ("sessions", &counts.sessions),
        ("dropped-frames", &counts.dropped_frames),
    ] {
        println!("{name}={}", counter.load(Ordering::Relaxed));
    }
    Ok(())
}
