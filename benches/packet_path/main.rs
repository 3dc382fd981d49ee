//! What it costs to take a connection's packets apart and hand them to their sessions.
//!
//! `bare` reads and slices, and does nothing else: what any client must do. `multiplexer` does that
//! and finds each packet's session and stream, checks it, queues it for its consumer and takes it
//! out there. Both read the same bytes from a loopback TCP connection. What is measured is the CPU
//! time of the reading thread, because on a small machine the sender is often the slower side.
//!
//! `cargo bench --bench packet_path` prints both in bytes and packets per CPU second, and their
//! ratio from interleaved rounds of one run; it fails if that is over the limit.

mod playing;
mod reader;

use std::{
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use criterion::{Criterion, Throughput};
use reader::{Bare, Multiplexer, Reader};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
};

const SESSIONS: u8 = 64;
const PACKETS: usize = 20_000;
const CHUNK: usize = 64 * 1024;
const LOW: usize = 16 * 1024;
/// The most CPU the multiplexer may use, in multiples of the bare loop.
const LIMIT: f64 = 1.5;
const ROUNDS: usize = 15;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut link = Link::new();
    let bytes = link.bytes;
    for (unit, throughput) in [
        ("octets", Throughput::Bytes(bytes as u64)),
        ("packets", Throughput::Elements(PACKETS as u64)),
    ] {
        let mut group = criterion.benchmark_group(format!("packet_path/{unit}"));
        group.throughput(throughput).sample_size(15);
        group.bench_function("bare", |bencher| {
            bencher.iter_custom(|rounds| link.time(rounds, &mut Bare));
        });
        group.bench_function("multiplexer", |bencher| {
            bencher.iter_custom(|rounds| {
                link.time(rounds, &mut Multiplexer::new(SESSIONS, Instant::now()))
            });
        });
    }
    criterion.final_summary();
    assert_ratio(&mut link);
}

/// Interleaved, so that whatever else the machine does falls on both.
fn assert_ratio(link: &mut Link) {
    let (mut bare, mut multiplexer) = (Bare, Multiplexer::new(SESSIONS, Instant::now()));
    let mut ratios: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let bare = link.time(1, &mut bare);
            link.time(1, &mut multiplexer).as_secs_f64() / bare.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    let [least, median, most] = [ratios[0], ratios[ROUNDS / 2], ratios[ROUNDS - 1]];
    println!(
        "packet_path ratio: CPU of the multiplexer is {median:.2} times that of the bare loop \
         (least {least:.2}, most {most:.2}, {ROUNDS} rounds; limit {LIMIT})"
    );
    assert!(median <= LIMIT, "over the limit");
}

/// A loopback connection on which a thread sends the same packets, as often as it is asked to.
struct Link {
    runtime: Runtime,
    socket: TcpStream,
    rounds: std::sync::mpsc::Sender<()>,
    bytes: usize,
    _sender: JoinHandle<()>,
}

impl Link {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let socket = runtime
            .block_on(TcpStream::connect(address))
            .expect("a connection");
        let (mut peer, _) = listener.accept().expect("a connection");
        let stream = playing::stream(SESSIONS, PACKETS);
        let bytes = stream.len();
        let (rounds, asked) = std::sync::mpsc::channel();
        let sender =
            std::thread::spawn(
                move || {
                    while asked.recv().is_ok() && peer.write_all(&stream).is_ok() {}
                },
            );
        Self {
            runtime,
            socket,
            rounds,
            bytes,
            _sender: sender,
        }
    }

    /// CPU time that `reader` needs for this many times all packets.
    fn time(&mut self, rounds: u64, reader: &mut impl Reader) -> Duration {
        let before = thread_time();
        for _ in 0..rounds {
            self.rounds.send(()).expect("the sender");
            let received = self.runtime.block_on(receive(&self.socket, reader));
            assert_eq!(received, PACKETS);
        }
        thread_time() - before
    }
}

async fn receive(socket: &TcpStream, reader: &mut impl Reader) -> usize {
    let (mut buffer, mut packets) = (BytesMut::new(), 0);
    while packets < PACKETS {
        socket.readable().await.expect("a readable socket");
        if buffer.capacity() - buffer.len() < LOW {
            buffer.reserve(CHUNK);
        }
        match socket.try_read_buf(&mut buffer) {
            Ok(0) => panic!("the sender has gone"),
            Ok(_) => packets += reader.take(&mut buffer),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
    packets
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
