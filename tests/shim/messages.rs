//! The messages of a failure and of a life, beside those of GStreamer's `rtspsrc`, in this process.

use std::net::TcpListener;

use gst::{glib::error::ErrorDomain as _, prelude::*};
use gstreamer as gst;

use crate::support::mock_server::{Behaviour, Camera, MockServer, Reaction, Rule};

const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(20);

/// Both elements, with what each needs to behave as the other.
const BOTH: [&str; 2] = [
    "rtspsrc protocols=tcp",
    "rtspmuxsrc connect-failure=error multiplex=never",
];

struct Life {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
}

impl Life {
    fn start(source: &str, url: &str) -> Self {
        gst::init().unwrap();
        // Another test may have registered it.
        let _ = gstrtspmux::plugin_register_static();
        let line = format!("{source} location={url} ! fakesink async=false sync=false");
        let pipeline = gst::parse::launch(&line).unwrap();
        let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
        let bus = pipeline.bus().unwrap();
        // A source whose failure the state change sees is no different for programs.
        let _ = pipeline.set_state(gst::State::Playing);
        Self { pipeline, bus }
    }

    /// Domain and code of the first ERROR, with the status and reason in its details.
    fn error(&self) -> (String, i32, Option<(u32, String)>) {
        let kinds = [gst::MessageType::Error];
        let message = self.bus.timed_pop_filtered(PATIENCE, &kinds);
        let message = message.expect("an ERROR");
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        let details = error.details().map(|details| {
            let reason: String = details.get("rtsp-status-reason").unwrap();
            (details.get("rtsp-status-code").unwrap(), reason)
        });
        let error = error.error();
        (error.domain().as_str().to_string(), code(&error), details)
    }

    /// Takes part of the life's PROGRESS up to the completion with this text: code and text of what goes on and
    /// of what is complete. `rtspsrc` begins `open` several times, or cancels it and begins it again.
    fn progress_to(&self, end: &str, told: &mut Vec<String>) {
        let kinds = [gst::MessageType::Progress];
        loop {
            let message = self.bus.timed_pop_filtered(PATIENCE, &kinds);
            let message = message.unwrap_or_else(|| panic!("no {end}: {told:?}"));
            let gst::MessageView::Progress(progress) = message.view() else {
                unreachable!()
            };
            let (kind, code, text) = progress.get();
            if matches!(
                kind,
                gst::ProgressType::Continue | gst::ProgressType::Complete
            ) {
                told.push(format!("{kind:?} {code} {text}"));
            }
            if kind == gst::ProgressType::Complete && text == end {
                return;
            }
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn code(error: &gst::glib::Error) -> i32 {
    let resource = error.kind::<gst::ResourceError>().map(|it| it.code());
    let stream = error.kind::<gst::StreamError>().map(|it| it.code());
    resource.or(stream).unwrap()
}

#[test]
fn errors_have_domain_code_and_details_of_rtspsrc() {
    let refused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut cases = vec![
        ("refused".to_owned(), format!("rtsp://{refused}/cam"), None),
        (
            "unknown".to_owned(),
            "rtsp://no-such-host.invalid/cam".to_owned(),
            None,
        ),
    ];
    let answers = [
        ("DESCRIBE", Reaction::status(401)),
        ("DESCRIBE", Reaction::status(403)),
        ("DESCRIBE", Reaction::status(404)),
        ("DESCRIBE", Reaction::status(453)),
        ("DESCRIBE", Reaction::status(503)),
        ("DESCRIBE", Reaction::Close),
        ("SETUP", Reaction::status(403)),
        ("SETUP", Reaction::status(404)),
        ("SETUP", Reaction::status(453)),
        ("PLAY", Reaction::status(404)),
        ("PLAY", Reaction::status(503)),
    ];
    let mut serve = |name: String, server: MockServer| {
        cases.push((name, server.url("/cam"), Some(server)));
    };
    for (method, reaction) in answers {
        let name = format!("{method} {reaction:?}");
        let builder = MockServer::builder().camera("/cam", Camera::video());
        serve(name, builder.rule(Rule::new(method, reaction)).start());
    }
    let no_media = MockServer::builder().camera("/cam", Camera::without_media());
    serve("no media".to_owned(), no_media.start());
    for (name, url, _server) in &cases {
        let [theirs, ours] = BOTH.map(|source| Life::start(source, url).error());
        assert_eq!((&ours.0, ours.1), (&theirs.0, theirs.1), "{name}");
        // `rtspsrc` has none for a SETUP.
        if theirs.2.is_some() {
            assert_eq!(ours.2, theirs.2, "{name}");
        }
    }
}

#[test]
fn progress_has_codes_texts_and_order_of_rtspsrc() {
    let server = MockServer::builder()
        .camera("/cam", Camera::av())
        .behaviour(Behaviour::PacketsAfterPlay(20))
        .start();
    let url = server.url("/cam");
    let [theirs, ours] = BOTH.map(|source| {
        let life = Life::start(source, &url);
        let mut told = Vec::new();
        life.progress_to("Sent PLAY request", &mut told);
        life.pipeline.set_state(gst::State::Paused).unwrap();
        life.progress_to("Sent PAUSE request", &mut told);
        life.pipeline.set_state(gst::State::Ready).unwrap();
        life.progress_to("Closed Stream", &mut told);
        told
    });
    assert_eq!(ours, theirs);
}

/// Programs restart their pipeline on it.
#[test]
fn a_timeout_is_told_when_the_session_is_given_up() {
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .start();
    let silent = "rtspmuxsrc media-timeout=200000000";
    let life = Life::start(&format!("{silent} reconnect=false"), &server.url("/cam"));
    let kinds = [gst::MessageType::Element, gst::MessageType::Error];
    let message = life.bus.timed_pop_filtered(PATIENCE, &kinds).unwrap();
    let structure = message.structure().unwrap();
    assert_eq!(structure.name(), "GstRTSPSrcTimeout");
    assert_eq!(life.error().1, gst::ResourceError::Read.code());
    drop(life);

    let life = Life::start(silent, &server.url("/cam"));
    let recovers = |structure: &gst::StructureRef| {
        structure.get::<&str>("state") == Ok("retrying") && structure.name() == "rtspmux-session"
    };
    loop {
        let message = life.bus.timed_pop_filtered(PATIENCE, &kinds).unwrap();
        let structure = message.structure().unwrap();
        assert_ne!(structure.name(), "GstRTSPSrcTimeout");
        if recovers(structure) {
            return;
        }
    }
}
