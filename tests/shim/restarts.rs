//! A program that takes its sources down and up at each ERROR, EOS and silence, while the server is away.

use std::{
    net::{Ipv4Addr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{script, shim};
use crate::gst_server::GstServer;

const PATIENCE: Duration = Duration::from_secs(40);
const CAMERAS: usize = 4;
/// The server is away twice as long. The program looks at each camera five times a second, so without a limit it
/// would start 80 times.
const AWAY: Duration = Duration::from_secs(4);
/// Those at the beginning of a row of failures are close together, and each session tries a second connection
/// once; they count for the minute.
const MOST_AT_FIRST: usize = 16;
/// One in two seconds.
const MOST_LATER: usize = 3;

/// In the place of a server: takes connections and closes them.
struct Closing {
    dials: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
    port: u16,
}

impl Closing {
    fn start(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (dials, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counted, ends) = (dials.clone(), is_over.clone());
        let thread = thread::spawn(move || {
            for connection in listener.incoming() {
                drop(connection);
                if ends.load(Ordering::Acquire) {
                    return;
                }
                counted.fetch_add(1, Ordering::AcqRel);
            }
        });
        Self {
            dials,
            is_over,
            thread,
            port,
        }
    }

    fn end(self) {
        self.is_over.store(true, Ordering::Release);
        let _ = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        self.thread.join().unwrap();
    }
}

/// What is counted is how often something happens in this time.
fn pass(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

#[test]
fn a_program_that_restarts_dials_no_more_than_thirty_times_a_minute() {
    let builder = || GstServer::builder().mounts(CAMERAS);
    let server = builder().start().unwrap();
    let port = server.port();
    let urls: Vec<String> = (0..CAMERAS).map(|camera| server.url(camera)).collect();
    // A session that has played comes back by itself. A start that fails is an ERROR, at which the program
    // starts again.
    server.stop();
    let closing = Closing::start(port);
    let tool = shim("restarts");
    let Some(mut program) = script(&tool, "restarting.py", &urls.join(" ")) else {
        return;
    };
    let all_play = |server: &GstServer| {
        let played = |counts: &crate::gst_server::Counts| counts.sessions_now == CAMERAS;
        server.wait_until(PATIENCE, played).unwrap();
    };

    pass(AWAY);
    let first = closing.dials.load(Ordering::Acquire);
    pass(AWAY);
    let later = closing.dials.load(Ordering::Acquire) - first;
    assert!((2..=MOST_AT_FIRST).contains(&first), "{first} dials");
    assert!(
        (1..=MOST_LATER).contains(&later),
        "{first} and {later} dials"
    );
    program.wait_for_lines("restart", CAMERAS);
    closing.end();

    let server = builder().port(port).start().unwrap();
    all_play(&server);
    let counts = server.counts();
    assert_eq!(counts.sessions, CAMERAS, "one for each camera: {counts:?}");
    program.close_input();
    program.finish();
    let none = server.wait_until(PATIENCE, |counts| counts.sessions_now == 0);
    none.unwrap();
}
