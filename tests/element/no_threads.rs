//! A system that gives no thread when the element starts: an ERROR, and it plays when there are some.
//!
//! The child process is an ordinary user's, so that `RLIMIT_NPROC` binds it. Without the right to start one, or
//! without `setpriv`, the test says so and passes.
#![allow(unsafe_code, reason = "setrlimit")]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
};

use gst::prelude::*;
use gstreamer as gst;

use crate::one_camera::{line, one_camera};
use crate::player::{Player, init, use_manager};
use crate::support::mock_server::MockServer;

/// The test that is the child; see `child`.
const CHILD: &str = "no_threads::child";
const URL: &str = "RTSPMUX_TEST_URL";
const MANAGER: &str = "RTSPMUX_TEST_MANAGER";
const SAYS: &str = "child: ";

/// A user that has no other process.
const USER: u32 = 54_321;

/// A process that has initialised GStreamer and has as many threads as it may have.
struct Limited {
    child: Child,
    input: ChildStdin,
    said: Box<dyn Iterator<Item = String>>,
}

impl Limited {
    fn start(server: &MockServer, manager: &str, user: u32) -> Option<Self> {
        let mut child = Command::new("setpriv")
            .args(["--clear-groups", "--reuid", &user.to_string()])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                CHILD,
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(URL, server.url("/cam"))
            .env(MANAGER, manager)
            .env("GST_REGISTRY_UPDATE", "no")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let lines = BufReader::new(child.stdout.take()?)
            .lines()
            .map_while(Result::ok);
        let said = lines.filter_map(|line| Some(line.split_once(SAYS)?.1.to_owned()));
        let mut limited = Self {
            input: child.stdin.take()?,
            said: Box::new(said),
            child,
        };
        (limited.said.next()? == "ready").then_some(limited)
    }

    /// Tries to play with so many more threads than it has; what comes of it.
    fn play(&mut self, threads: u64) -> String {
        writeln!(self.input, "{threads}").unwrap();
        self.said.next().expect("the child lives")
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn without_threads_there_is_an_error_and_with_them_it_plays() {
    for (manager, user) in [("light", USER), ("rtpbin", USER + 1)] {
        // How many of the threads that the element needs can be had.
        for some in 0..7 {
            let server = one_camera();
            let Some(mut limited) = Limited::start(&server, manager, user + 2 * some as u32) else {
                println!("skipped: no process of another user");
                return;
            };
            let outcome = limited.play(some);
            println!("{manager}, {some} threads: {outcome}");
            // What it cannot do without: the thread that reads, the monitor, a worker.
            let is_told = outcome.starts_with("error") && outcome.contains("thread");
            assert!(is_told || some >= 3 && outcome == "plays", "{outcome}");
            let outcome = limited.play(4096);
            println!("{manager}, as many as it wants: {outcome}");
            assert_eq!(outcome, "plays");
        }
    }
}

#[test]
#[ignore = "the child of the other test, run by it"]
fn child() {
    let Ok(url) = std::env::var(URL) else { return };
    let manager = match std::env::var(MANAGER).as_deref() {
        Ok("rtpbin") => "rtpbin",
        _ => "light",
    };
    use_manager(manager);
    std::panic::set_hook(Box::new(|panic| println!("{SAYS}panic {panic}")));
    init();
    println!("{SAYS}ready");
    for more in std::io::stdin().lock().lines() {
        let more: u64 = more.unwrap().parse().unwrap();
        let threads = std::fs::read_dir("/proc/self/task").unwrap().count() as u64;
        allow(threads + more);
        println!("{SAYS}{}", outcome(&url));
    }
}

/// From now on this user may have so many threads.
fn allow(threads: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the limit is a valid place.
    assert_eq!(
        unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &raw mut limit) },
        0
    );
    limit.rlim_cur = threads.min(limit.rlim_max);
    // SAFETY: the same.
    assert_eq!(
        unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) },
        0
    );
}

/// Plays until the first message that says how that went.
fn outcome(url: &str) -> String {
    let player = Player::new(&line(url, ""));
    let state = player.set_state(gst::State::Playing);
    let bus = player.pipeline.bus().unwrap();
    let kinds = [gst::MessageType::Error, gst::MessageType::Progress];
    loop {
        let waited = bus.timed_pop_filtered(gst::ClockTime::from_seconds(10), &kinds);
        let Some(message) = waited else {
            return format!("silence after {state:?}");
        };
        match message.view() {
            gst::MessageView::Error(error) => return format!("error {}", error.error()),
            gst::MessageView::Progress(progress) => {
                let (kind, code, _) = progress.get();
                if kind == gst::ProgressType::Complete && code == "request" {
                    return "plays".to_owned();
                }
            }
            _ => {}
        }
    }
}
