//! A server that sends as fast as the client reads, and consumers of any speed. A consumer that keeps
//! taking packets loses nothing; a consumer that stands still holds up no other one.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use gstrtspmux::mux::network::{Connecting, Network, Wire};
use gstrtspmux::mux::{Multiplex, Mux, Session, SessionOptions};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::run::simulate;
use crate::support::rtsp::{Incoming, Parser, Request, Response};

const CAMERAS: usize = 8;
const PAYLOAD: usize = 1400;
/// Packets of a camera that come in a row.
const PICTURE: usize = 40;

/// All connections lead to a flood of so many packets.
#[derive(Debug)]
struct FloodNetwork(usize);

impl Network for FloodNetwork {
    fn connect(&self, _host: &str, _port: u16) -> Connecting {
        let flood = Flood {
            left: self.0,
            ..Flood::default()
        };
        Box::pin(async { Ok(Box::new(flood) as Box<dyn Wire>) })
    }

    fn seed(&self) -> u128 {
        1
    }

    fn time_suspended(&self) -> Duration {
        Duration::ZERO
    }
}

/// A connection to a server that has everything, and begins when all cameras play.
#[derive(Default)]
struct Flood {
    parser: Parser,
    out: BytesMut,
    playing: usize,
    sent: usize,
    left: usize,
    waker: Option<Waker>,
}

impl fmt::Debug for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flood({})", self.sent)
    }
}

impl Flood {
    fn answer(&mut self, request: &Request) {
        let camera = request.uri.split('/').nth(3).unwrap_or("0");
        let number: usize = camera.parse().unwrap_or(0);
        let response = Response::new(200);
        let mut response = match request.method.as_str() {
            "DESCRIBE" => response.content(
                "application/sdp",
                "v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:video\r\n",
            ),
            "SETUP" => response.header(
                "Transport",
                format!(
                    "RTP/AVP/TCP;unicast;interleaved={}-{}",
                    2 * number,
                    2 * number + 1
                ),
            ),
            "PLAY" => {
                self.playing += 1;
                response
            }
            _ => response,
        };
        if request.method != "DESCRIBE" {
            response.headers.set("Session", format!("session{camera}"));
        }
        let cseq = request.headers.value("CSeq").unwrap_or("0");
        response.headers.set("CSeq", cseq);
        self.out.extend_from_slice(&response.to_bytes());
    }

    fn is_flowing(&self) -> bool {
        self.playing >= CAMERAS && self.left > 0
    }

    fn send_packet(&mut self) {
        let channel = 2 * (self.sent / PICTURE % CAMERAS) as u8;
        self.out.put_slice(&[b'$', channel]);
        self.out.put_u16(PAYLOAD as u16);
        self.out.put_slice(&[0x80, 96]);
        self.out.put_u16(self.sent as u16);
        self.out.put_bytes(0, PAYLOAD - 4);
        self.sent += 1;
        self.left -= 1;
    }
}

impl Wire for Flood {
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let room = buffer.capacity() - buffer.len();
        while self.is_flowing() && self.out.len() < room {
            self.send_packet();
        }
        if self.out.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let read = self.out.split_to(self.out.len().min(room));
        buffer.put_slice(&read);
        Ok(read.len())
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.parser.push(bytes);
        while let Ok(Some(incoming)) = self.parser.next() {
            if let Incoming::Request(request) = incoming {
                self.answer(&request);
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(bytes.len())
    }

    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        wants_to_read: bool,
        wants_to_write: bool,
    ) -> Poll<io::Result<bool>> {
        let is_readable = self.is_flowing() || !self.out.is_empty();
        if wants_to_read && is_readable || wants_to_write {
            return Poll::Ready(Ok(wants_to_read && is_readable));
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// What a consumer does with what it takes.
#[derive(Clone, Copy, Debug)]
enum Habit {
    /// Takes so many bytes in a millisecond.
    Takes(usize),
    /// Takes something once.
    StandsStill,
}

/// What became of it all.
struct Outcome {
    received: usize,
    /// Of each camera.
    dropped: Vec<u64>,
    /// Until the first camera had half of it, or all was read.
    time: Duration,
}

/// Plays so many bytes of each camera.
fn play(habits: [Habit; CAMERAS], bytes: usize) -> Outcome {
    simulate(run(habits, bytes))
}

async fn run(habits: [Habit; CAMERAS], bytes: usize) -> Outcome {
    let packets = CAMERAS * bytes / PAYLOAD;
    let network: Arc<dyn Network> = Arc::new(FloodNetwork(packets));
    let mux = Mux::builder()
        .runtime(Handle::current())
        .network(network)
        .build();
    let options = (0..CAMERAS).map(|camera| {
        let mut options = SessionOptions::new(&format!("rtsp://flood/{camera}")).expect("a URL");
        options.pooling.multiplex = Multiplex::Always;
        options
    });
    let (mut monitors, mut consumers) = (Vec::new(), Vec::new());
    for (opening, habit) in mux.open_many(options.collect()).into_iter().zip(habits) {
        monitors.push(opening.monitor());
        let (sender, done) = oneshot::channel();
        consumers.push(done);
        tokio::spawn(async move {
            let ready = opening.describe().await.unwrap().setup_all().await.unwrap();
            consume(ready.play().await.unwrap(), habit, bytes / 2, sender).await;
        });
    }
    let counts = || -> Vec<(u64, u64)> {
        let streams = monitors.iter().flat_map(|monitor| monitor.stats().streams);
        streams
            .map(|stream| (stream.count.packets, stream.count.dropped))
            .collect()
    };
    let received = || {
        counts()
            .iter()
            .map(|(packets, _)| *packets as usize)
            .sum::<usize>()
    };
    let begin = Instant::now();
    match habits[0] {
        Habit::Takes(_) => consumers.swap_remove(0).await.unwrap(),
        Habit::StandsStill => {
            while received() < packets {
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
    Outcome {
        received: received(),
        dropped: counts().into_iter().map(|(_, dropped)| dropped).collect(),
        time: begin.elapsed(),
    }
}

/// Says so when it has taken so many bytes, and goes on.
async fn consume(mut session: Session, habit: Habit, bytes: usize, done: oneshot::Sender<()>) {
    let (mut batch, mut taken, mut done) = (Vec::new(), 0, Some(done));
    while session.next_batch(&mut batch).await {
        let got: usize = batch.drain(..).map(|packet| packet.payload.len()).sum();
        taken += got;
        if let Some(done) = done.take_if(|_| taken >= bytes) {
            let _ = done.send(());
        }
        match habit {
            Habit::Takes(usize::MAX) => {}
            Habit::Takes(speed) => sleep(Duration::from_millis((got / speed) as u64)).await,
            Habit::StandsStill => std::future::pending().await,
        }
    }
}

#[test]
fn who_takes_what_it_can_loses_nothing_and_is_not_slowed_down() {
    // 50, 200 and 1000 Mbit/s each.
    for speed in [6_250, 25_000, 125_000] {
        let milliseconds = 500;
        let outcome = play([Habit::Takes(speed); CAMERAS], 2 * milliseconds * speed);
        assert_eq!(outcome.dropped, [0; CAMERAS], "at {speed}");
        let limit = Duration::from_millis(milliseconds as u64 * 5 / 4);
        assert!(outcome.time < limit, "{:?} at {speed}", outcome.time);
    }
}

/// The last camera's consumer does so, all others take what they can.
fn assert_slows_down_no_other(habit: Habit) {
    let mut habits = [Habit::Takes(usize::MAX); CAMERAS];
    habits[CAMERAS - 1] = habit;
    let outcome = play(habits, 32 << 20);
    assert_eq!(outcome.dropped[..CAMERAS - 1], [0; CAMERAS - 1]);
    assert!(outcome.dropped[CAMERAS - 1] > 0);
    assert!(
        outcome.time < Duration::from_millis(10),
        "{:?}",
        outcome.time
    );
}

#[test]
fn f32_a_consumer_that_stands_still_slows_down_no_other() {
    assert_slows_down_no_other(Habit::StandsStill);
}

#[test]
fn f32_a_slow_consumer_loses_packets_and_slows_down_no_other() {
    assert_slows_down_no_other(Habit::Takes(1_000));
}

#[test]
fn f33_a_connection_on_which_all_stand_still_is_read_on() {
    let bytes = 32 << 20;
    let outcome = play([Habit::StandsStill; CAMERAS], bytes);
    assert_eq!(outcome.received, CAMERAS * bytes / PAYLOAD);
    assert!(outcome.dropped.iter().all(|dropped| *dropped > 0));
    assert!(outcome.time < Duration::from_secs(1), "{:?}", outcome.time);
}
