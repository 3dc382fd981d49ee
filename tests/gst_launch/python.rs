//! Signals and actions as programs in Python use them, with both elements.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::certificates::{Authority, Request};
use crate::gst_server::GstServer;
use crate::support::mock_server::{Camera, MockServer, Reaction, Rule, ServerView};
use crate::support::rtsp::{Request as RtspRequest, Response};
use crate::tool::Tool;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn handlers_in_python_see_change_and_choose_as_with_rtspsrc() {
    let answer = Response::new(200).content("text/parameters", "position: 7");
    let server = MockServer::builder()
        .camera("/cam", Camera::av())
        .rule(Rule::new("GET_PARAMETER", Reaction::Answer(answer)))
        .start();
    let tool = Tool::with_plugin("python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gst_launch/signals.py");
    for element in ["rtspmuxsrc", "rtspsrc"] {
        let is_over = AtomicBool::new(false);
        let printed = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    server.send_packets("/cam", 1);
                    std::thread::yield_now();
                }
            });
            let printed = tool.python(&script, &[element, &server.url("/cam")]);
            is_over.store(true, Ordering::Relaxed);
            printed
        });
        let lines: Vec<&str> = printed.lines().collect();
        let expected = [
            "on-sdp 2",
            "select-stream 0 yes",
            "new-manager rtpbin",
            "select-stream 1 yes",
            "pad yes",
            "no-more-pads",
            "get-parameter-reply 200 position: 7",
        ];
        // rtspsrc asks for one stream after the other, and has the manager with the first.
        let in_order = |lines: &[&str]| {
            let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
            lines[2..4].sort();
            lines
        };
        assert_eq!(lines.len(), expected.len(), "{element}: {printed}");
        assert_eq!(in_order(&lines), in_order(&expected), "{element}");
    }
}

#[test]
fn a_program_in_python_decides_about_certificates_as_with_rtspsrc() {
    let authority = Authority::new();
    let server = |request: &Request| {
        let identity = authority.issue(request).pem();
        GstServer::builder().tls(identity).start().unwrap()
    };
    let good = server(&Request::server(&["127.0.0.1"]));
    let other = server(&Request::server(&["recorder.example"]));
    let tool = Tool::with_plugin("certificates");
    let file = tool.file("authority.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gst_launch/certificates.py");
    for (server, what, expected) in [
        (
            &good,
            "accept",
            "accept-certificate True True\nthe same True\npad\n",
        ),
        (
            &good,
            "refuse",
            "accept-certificate True True\nthe same True\nerror True\n",
        ),
        (&good, "database", "pad\n"),
        (&other, "database", "error True\n"),
    ] {
        let [ours, theirs] = ["rtspmuxsrc", "rtspsrc"].map(|element| {
            let file = file.to_str().unwrap();
            tool.python(&script, &[element, &server.url(0), what, file])
        });
        assert_eq!(ours, expected, "{what}");
        assert_eq!(theirs, expected, "{what}, rtspsrc");
    }
}

#[test]
fn requests_are_seen_changed_and_answered_in_python_as_with_rtspsrc() {
    let tool = Tool::with_plugin("requests");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gst_launch/requests.py");
    for element in ["rtspmuxsrc", "rtspsrc"] {
        let server = MockServer::builder()
            .camera("/cam", Camera::video())
            .start();
        let is_over = AtomicBool::new(false);
        let printed = std::thread::scope(|scope| {
            scope.spawn(|| {
                server.wait_until(|view| view.playing() == 1, PATIENCE);
                let ask = RtspRequest::new("OPTIONS", "*").header("CSeq", "7");
                server.send_request(0, ask);
                while !is_over.load(Ordering::Relaxed) {
                    server.send_packets("/cam", 1);
                    std::thread::yield_now();
                }
            });
            let printed = tool.python(&script, &[element, &server.url("/cam"), "TEARDOWN"]);
            is_over.store(true, Ordering::Relaxed);
            printed
        });
        // rtspsrc pauses before it goes.
        let is_usual = |line: &&str| !line.ends_with("OPTIONS") && !line.ends_with("PAUSE");
        let lines: Vec<&str> = printed.lines().filter(is_usual).collect();
        let expected = [
            "before-send DESCRIBE",
            "before-send SETUP",
            "before-send PLAY",
            "handle-request options",
            "before-send TEARDOWN",
        ];
        assert_eq!(lines, expected, "{element}");
        let requests = server.requests();
        assert!(
            requests.iter().all(|it| it.method != "TEARDOWN"),
            "{element}"
        );
        for request in requests.iter().filter(|it| it.method != "OPTIONS") {
            let method = Some(&*request.method);
            assert_eq!(request.headers.value("X-Seen"), method, "{element}");
            assert_eq!(request.headers.value("User-Agent"), None, "{element}");
        }
        let is_answer = |view: &ServerView| {
            let mut answers = view.responses.iter().map(|(_, response)| response);
            answers.any(|it| it.headers.value("X-Answered") == Some("yes"))
        };
        assert!(server.wait_until(is_answer, PATIENCE), "{element}");
    }
}

#[test]
fn a_description_that_is_held_back_is_an_error() {
    let tool = Tool::with_plugin("held-back");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gst_launch/requests.py");
    for element in ["rtspmuxsrc", "rtspsrc"] {
        let server = MockServer::builder()
            .camera("/cam", Camera::video())
            .start();
        let printed = tool.python(&script, &[element, &server.url("/cam"), "DESCRIBE"]);
        assert!(printed.ends_with("error\n"), "{element}: {printed}");
        let requests = server.requests();
        assert!(
            requests.iter().all(|it| it.method != "DESCRIBE"),
            "{element}"
        );
    }
}
