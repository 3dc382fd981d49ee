//! F52: programs that leave SIGPIPE as it is live on when a camera breaks its connection: a C program,
//! and gst-launch-1.0.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::breaking_front::{Break, BreakingFront};
use crate::certificates::{Authority, Identity, Request};
use crate::support::mock_server::{Behaviour, MockServer};
use crate::tool::{Launched, Tool};

/// Far more than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(40);

const CAMERAS: u32 = 4;

/// What a session's life consists of. A keep-alive is one as well.
const REQUESTS: [&str; 5] = ["DESCRIBE", "SETUP", "PLAY", "GET_PARAMETER", "TEARDOWN"];

/// The C program, compiled.
fn c_program(tool: &Tool) -> PathBuf {
    let program = tool.file("player");
    let flags = Command::new("pkg-config")
        .args(["--cflags", "--libs", "gstreamer-1.0"])
        .output()
        .unwrap();
    let flags = String::from_utf8(flags.stdout).unwrap();
    let compiled = Command::new("cc")
        .arg("-o")
        .arg(&program)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/gst_launch/player.c"
        ))
        .args(flags.split_whitespace())
        .status()
        .unwrap();
    assert!(compiled.success());
    program
}

/// Who plays.
#[derive(Clone, Copy)]
enum Program<'a> {
    C(&'a Path),
    GstLaunch,
}

impl Program<'_> {
    fn play(self, tool: &Tool, line: &str) -> Launched {
        match self {
            Self::C(program) => tool.run(program, line),
            Self::GstLaunch => tool.launch(line),
        }
    }

    fn end(self, launched: &mut Launched) {
        match self {
            Self::C(_) => launched.close_input(),
            Self::GstLaunch => launched.interrupt(),
        }
    }
}

/// Cameras whose connection is broken at one request play again, and the program ends by itself.
fn survives(
    tool: &Tool,
    program: Program<'_>,
    identity: Option<&Identity>,
    (method, how): (&'static str, Break),
) {
    let server = MockServer::builder()
        .cameras(CAMERAS)
        .behaviour(Behaviour::SessionSuffix(";timeout=4".to_owned()))
        .behaviour(Behaviour::PacketsAfterPlay(4))
        .start();
    let front = BreakingFront::start(server.address(), identity, method, how);
    let (scheme, trust) = match identity {
        Some(_) => ("rtsps", format!("tls-ca-file={}", ca_file(tool).display())),
        None => ("rtsp", String::new()),
    };
    let camera = |number: u32| {
        format!(
            "rtspmuxsrc location={scheme}://127.0.0.1:{}/cam/{number} {trust} latency=0 \
             ! fakesink sync=false async=false ",
            front.port()
        )
    };
    let line: String = (1..=CAMERAS).map(camera).collect();
    let mut launched = program.play(tool, &line);
    if method != "TEARDOWN" {
        assert!(front.wait_broken(PATIENCE), "no {method} came");
    }
    let plays = server.wait_until(|view| view.playing() == CAMERAS as usize, PATIENCE);
    program.end(&mut launched);
    launched.finish();
    assert!(plays, "after {method} and {how:?}");
    assert!(front.wait_broken(PATIENCE), "no {method} came");
}

fn ca_file(tool: &Tool) -> PathBuf {
    tool.file("ca.pem")
}

/// Each request and each way to break, at the same time; in clear text or with TLS.
fn survives_all(tool: &Tool, program: Program<'_>, is_secret: bool) {
    let identity = is_secret.then(|| {
        let authority = Authority::new();
        std::fs::write(ca_file(tool), authority.pem()).unwrap();
        authority.issue(&Request::server(&["127.0.0.1"]))
    });
    // One writes the registry, all read it.
    tool.inspect(&["rtspmuxsrc"]);
    std::thread::scope(|scope| {
        for method in REQUESTS {
            for how in [Break::Reset, Break::Close] {
                let identity = identity.as_ref();
                scope.spawn(move || survives(tool, program, identity, (method, how)));
            }
        }
    });
}

fn survives_in_c(test: &str, is_secret: bool) {
    let tool = Tool::with_plugin(test);
    let program = c_program(&tool);
    survives_all(&tool, Program::C(&program), is_secret);
}

#[test]
fn f52_a_c_program_survives_broken_connections() {
    survives_in_c("sigpipe_c", false);
}

#[test]
fn f52_a_c_program_survives_broken_tls() {
    survives_in_c("sigpipe_c_tls", true);
}

#[test]
fn f52_gst_launch_survives_broken_connections() {
    survives_all(&Tool::with_plugin("sigpipe"), Program::GstLaunch, false);
}

#[test]
fn f52_gst_launch_survives_broken_tls() {
    survives_all(&Tool::with_plugin("sigpipe_tls"), Program::GstLaunch, true);
}
