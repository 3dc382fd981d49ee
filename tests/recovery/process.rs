//! A real gst-rtsp-server in a process of its own, which can be killed like one that crashed.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use crate::gst_server::GstServer;

/// The test that is the server; see `serve`.
const CHILD: &str = "process::serve";
const PORT: &str = "RTSPMUX_TEST_PORT";
const CAMERAS: &str = "RTSPMUX_TEST_CAMERAS";
const LISTENING: &str = "listening on ";

/// A server that was started from here. Dropped, it is killed.
pub(crate) struct ServerProcess {
    child: Child,
    port: u16,
}

impl ServerProcess {
    /// Starts one with pictures and sound, on this port or, for 0, on a free one, and returns when it
    /// listens.
    pub(crate) fn start(port: u16, cameras: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD, "--ignored", "--nocapture"])
            .env(PORT, port.to_string())
            .env(CAMERAS, cameras.to_string())
            // It ends with this one, should that be killed.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, port) = line.split_once(LISTENING)?;
                port.parse().ok()
            })
            .expect("a server that listens");
        // What it says later must not fail for want of a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// As a crash or a loss of power would.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
#[ignore = "the server of the other tests, run by them"]
fn serve() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (Some(port), Some(cameras)) = (number(PORT), number(CAMERAS)) else {
        return;
    };
    let server = GstServer::builder()
        .port(u16::try_from(port).unwrap())
        .mounts(cameras)
        .audio(|_| true)
        .start()
        .unwrap();
    println!("{LISTENING}{}", server.port());
    // Until the other end is gone.
    let _ = std::io::stdin().read(&mut [0]);
}
