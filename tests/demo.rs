//! The demonstration, ended by a signal: every session is torn down, every file is finished.
#![allow(clippy::unwrap_used, reason = "a test binary")]

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Killed if it is still there when the test ends.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Cargo builds examples together with all tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/demo");
    assert!(program.exists(), "run `cargo build --example demo` first");
    program
}

fn demo_ended_by(signal: Signal, name: &str) -> String {
    let recordings = std::env::temp_dir().join(format!("rtspmux-{name}-{}", std::process::id()));
    let child = Command::new(program())
        .args(["--cameras", "4", "--seconds", "600", "--output"])
        .arg(&recordings)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut demo = Demo(child);
    let mut output = BufReader::new(demo.0.stdout.take().unwrap());
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        while !line.contains("4 of 4 cameras playing") {
            line.clear();
            assert_ne!(
                output.read_line(&mut line).unwrap(),
                0,
                "it ended by itself"
            );
        }
        sender.send(String::new()).unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        sender.send(rest).unwrap();
    });
    receiver.recv_timeout(PATIENCE).expect("it plays");
    let process = Pid::from_child(&demo.0);
    kill_process(process, signal).unwrap();
    let rest = receiver.recv_timeout(PATIENCE).expect("it ends");
    let status = demo.0.wait().unwrap();
    std::fs::remove_dir_all(recordings).unwrap();
    assert!(status.success(), "{status}: {rest}");
    rest
}

#[test]
fn a_signal_tears_all_sessions_down_and_finishes_the_files() {
    for (signal, name) in [(Signal::TERM, "term"), (Signal::INT, "int")] {
        let summary = demo_ended_by(signal, name);
        assert!(summary.contains("for 4 sessions; 4 TEARDOWNs"), "{summary}");
        assert!(summary.contains("4 of 4 playable"), "{summary}");
    }
}
