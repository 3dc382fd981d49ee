//! Signals and actions of `rtspsrc`: the same test with both elements.

use std::{
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use gst::glib::subclass::{SignalId, SignalQuery};
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_sdp as gst_sdp;

use crate::player::{PATIENCE, Player, init};
use crate::support::mock_server::{Camera, MockServer, Reaction, Rule};
use crate::support::rtsp::Response;

/// Makes two tests of a function, one for each element.
macro_rules! for_both_elements {
    ($name:ident) => {
        mod $name {
            #[test]
            fn rtspmuxsrc() {
                super::$name("rtspmuxsrc");
            }

            #[test]
            fn rtspsrc() {
                super::$name("rtspsrc");
            }
        }
    };
}

const CAMERA: &str = "/cam";

fn server(camera: Camera) -> MockServer {
    MockServer::builder().camera(CAMERA, camera).start()
}

/// A source in a pipeline that links its pads to sinks.
struct Source {
    player: Player,
    element: gst::Element,
    /// What has happened, in order.
    events: Receiver<String>,
    log: Arc<Mutex<Sender<String>>>,
}

impl Source {
    fn new(element: &str, server: &MockServer) -> Self {
        init();
        let player = Player::new(&format!(
            "{element}  name=source location={} protocols=tcp latency=0 fakesrc is-live=true num-buffers=1 ! fakesink async=false",
            server.url(CAMERA)
        ));
        let element = player.element("source");
        let (sender, events) = mpsc::channel();
        let log = Arc::new(Mutex::new(sender));
        let pipeline = player.pipeline.downgrade();
        let added = Arc::clone(&log);
        element.connect_pad_added(move |_, pad| {
            let _ = added.lock().unwrap().send("pad".to_owned());
            let sink = gst::ElementFactory::make("fakesink").build().unwrap();
            sink.set_property("async", false);
            sink.set_property("sync", false);
            pipeline.upgrade().unwrap().add(&sink).unwrap();
            sink.sync_state_with_parent().unwrap();
            pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        });
        let source = Self {
            player,
            element,
            events,
            log,
        };
        let complete = source.note();
        source
            .element
            .connect_no_more_pads(move |_| complete("no-more-pads".to_owned()));
        source
    }

    /// Writes down what happens.
    fn note(&self) -> impl Fn(String) + Send + Sync + 'static {
        let log = Arc::clone(&self.log);
        move |event| drop(log.lock().unwrap().send(event))
    }

    fn play(&self) {
        self.player.set_state(gst::State::Playing).unwrap();
    }

    /// Plays, and sends packets until there are no more pads.
    fn play_through(&self, server: &MockServer) -> Vec<String> {
        self.play();
        assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
        let mut events = Vec::new();
        while events.last().map(String::as_str) != Some("no-more-pads") {
            server.send_packets(CAMERA, 2);
            match self.events.recv_timeout(Duration::from_millis(50)) {
                Ok(event) => events.push(event),
                Err(error) => assert_eq!(error, mpsc::RecvTimeoutError::Timeout),
            }
        }
        events
    }
}

/// The signals that are there so far.
const SIGNALS: [&str; 10] = [
    "accept-certificate",
    "before-send",
    "handle-request",
    "on-sdp",
    "select-stream",
    "new-manager",
    "request-rtcp-key",
    "get-parameter",
    "get-parameters",
    "set-parameter",
];

#[test]
fn signatures_are_those_of_rtspsrc() {
    init();
    let signature = |element: &str, signal: &str| -> Option<SignalQuery> {
        let element = gst::ElementFactory::make(element).build().unwrap();
        SignalId::lookup(signal, element.type_()).map(|id| id.query())
    };
    let newer = ["request-rtp-key", "soft-limit", "hard-limit"];
    for signal in SIGNALS.into_iter().chain(newer) {
        let theirs = signature("rtspsrc", signal);
        let ours = signature("rtspmuxsrc", signal);
        assert_eq!(ours.is_some(), theirs.is_some(), "{signal}");
        let (Some(ours), Some(theirs)) = (ours, theirs) else {
            continue;
        };
        let types = |query: &SignalQuery| -> Vec<_> {
            let types = query.param_types().iter();
            types.map(|it| (it.type_(), it.static_scope())).collect()
        };
        assert_eq!(types(&ours), types(&theirs), "{signal}");
        assert_eq!(
            ours.return_type().type_(),
            theirs.return_type().type_(),
            "{signal}"
        );
        let is_action = |it: &SignalQuery| it.flags().contains(gst::glib::SignalFlags::ACTION);
        assert_eq!(is_action(&ours), is_action(&theirs), "{signal}");
    }
}

for_both_elements!(the_description_comes_first_then_each_stream_the_manager_and_the_pads);
fn the_description_comes_first_then_each_stream_the_manager_and_the_pads(element: &str) {
    let server = server(Camera::video());
    let source = Source::new(element, &server);
    let note = source.note();
    source.element.connect("on-sdp", false, move |args| {
        let message: gst_sdp::SDPMessage = args[1].get().unwrap();
        note(format!("on-sdp {}", message.medias().count()));
        None
    });
    let note = source.note();
    source.element.connect("select-stream", false, move |args| {
        let (number, caps): (u32, gst::Caps) = (args[1].get().unwrap(), args[2].get().unwrap());
        let fields = caps.structure(0).unwrap();
        let encoding: String = fields.get("encoding-name").unwrap();
        note(format!("select-stream {number} {encoding}"));
        Some(true.to_value())
    });
    let note = source.note();
    source.element.connect("new-manager", false, move |args| {
        let manager: gst::Element = args[1].get().unwrap();
        let parent = manager.parent().unwrap();
        let is_child = parent == args[0].get::<gst::Object>().unwrap();
        let factory = manager.factory().unwrap().name();
        note(format!(
            "new-manager {factory} {} {is_child}",
            manager.name()
        ));
        None
    });
    assert_eq!(
        source.play_through(&server),
        [
            "on-sdp 1",
            "select-stream 0 H264",
            "new-manager rtpbin manager true",
            "pad",
            "no-more-pads",
        ]
    );
    source.player.assert_no_error();
}

for_both_elements!(a_stream_that_is_refused_is_not_set_up_and_has_no_pad);
fn a_stream_that_is_refused_is_not_set_up_and_has_no_pad(element: &str) {
    for (refused, pad) in [(1, "stream_0"), (0, "stream_1")] {
        let server = server(Camera::av());
        let source = Source::new(element, &server);
        source.element.connect("select-stream", false, move |args| {
            Some((args[1].get::<u32>().unwrap() != refused).to_value())
        });
        assert_eq!(source.play_through(&server), ["pad", "no-more-pads"]);
        let setups = server
            .requests()
            .into_iter()
            .filter(|it| it.method == "SETUP");
        let setups: Vec<_> = setups.map(|it| it.uri).collect();
        assert_eq!(setups.len(), 1, "{setups:?}");
        assert!(setups[0].ends_with(&format!("stream={}", 1 - refused)));
        if element == "rtspmuxsrc" {
            assert_eq!(source.element.src_pads()[0].name(), pad);
        }
    }
}

for_both_elements!(the_first_handler_that_refuses_is_the_last_that_is_asked);
fn the_first_handler_that_refuses_is_the_last_that_is_asked(element: &str) {
    let server = server(Camera::av());
    let source = Source::new(element, &server);
    for handler in ["first", "second"] {
        let note = source.note();
        source.element.connect("select-stream", false, move |args| {
            let number: u32 = args[1].get().unwrap();
            note(format!("{handler} {number}"));
            Some((number == 0).to_value())
        });
    }
    let events = source.play_through(&server);
    assert_eq!(
        events,
        ["first 0", "second 0", "first 1", "pad", "no-more-pads"]
    );
}

for_both_elements!(without_any_stream_there_is_an_error);
fn without_any_stream_there_is_an_error(element: &str) {
    let server = server(Camera::av());
    let source = Source::new(element, &server);
    source
        .element
        .connect("select-stream", false, |_| Some(false.to_value()));
    let _ = source.player.set_state(gst::State::Playing);
    let (error, _) = source.player.error();
    assert!(error.matches(gst::StreamError::CodecNotFound), "{error}");
}

#[test]
fn the_light_path_has_no_manager_to_give() {
    let server = server(Camera::video());
    let source = Source::new("rtspmuxsrc", &server);
    source.element.set_property_from_str("manager", "light");
    let note = source.note();
    source.element.connect("new-manager", false, move |_| {
        note("new-manager".to_owned());
        None
    });
    assert_eq!(source.play_through(&server), ["pad", "no-more-pads"]);
}

#[test]
fn each_rtpbin_is_announced_before_it_is_used() {
    let server = server(Camera::video());
    let source = Source::new("rtspmuxsrc", &server);
    let (sender, managers) = mpsc::channel();
    source.element.connect("new-manager", false, move |args| {
        let manager: gst::Element = args[1].get().unwrap();
        let has_pads = !manager.pads().is_empty();
        sender.send((manager, has_pads)).unwrap();
        None
    });
    source.play_through(&server);
    let (first, has_pads) = managers.recv_timeout(PATIENCE).unwrap();
    assert!(!has_pads);
    source.player.set_state(gst::State::Paused).unwrap();
    assert!(server.wait_until(|view| view.playing() == 0, PATIENCE));
    source.play();
    let (second, has_pads) = managers.recv_timeout(PATIENCE).unwrap();
    assert!(!has_pads && first != second);
    let source = source.element.downcast_ref::<gst::Bin>().unwrap();
    let taken = || source.by_name("manager") == Some(second.clone());
    crate::support::polling::wait_until(taken, PATIENCE);
}

/// What is asked with an action, and the reply.
fn ask(element: &gst::Element, action: &str, args: &[&str]) -> Option<gst::Structure> {
    let promise = gst::Promise::new();
    let types = None::<String>;
    let is_sent: bool = match args {
        [name, value] => element.emit_by_name(action, &[name, value, &types, &promise]),
        [name] if action == "get-parameters" => {
            let names = vec![(*name).to_owned()];
            element.emit_by_name(action, &[&names, &types, &promise])
        }
        args => element.emit_by_name(action, &[&args[0], &types, &promise]),
    };
    assert!(is_sent, "{action}");
    promise.wait();
    promise.get_reply().map(ToOwned::to_owned)
}

for_both_elements!(parameters_are_asked_for_and_set);
fn parameters_are_asked_for_and_set(element: &str) {
    let answer = Response::new(200).content("text/parameters", "position: 7\r\n");
    let server = MockServer::builder()
        .camera(CAMERA, Camera::video())
        .rule(Rule::new("GET_PARAMETER", Reaction::Answer(answer)))
        .rule(Rule::new("SET_PARAMETER", Reaction::status(451)))
        .start();
    let edit = Reaction::edit(|response| {
        let methods =
            "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, SET_PARAMETER";
        response.headers.set("Public", methods);
    });
    server.add_rule(Rule::new("OPTIONS", edit));
    let source = Source::new(element, &server);
    source.play_through(&server);
    let reply = |action, args: &[&str]| ask(&source.element, action, args).unwrap();
    for action in ["get-parameter", "get-parameters"] {
        let reply = reply(action, &["position"]);
        assert_eq!(reply.name(), "get-parameter-reply");
        assert_eq!(reply.n_fields(), 4);
        assert_eq!(reply.get::<i32>("rtsp-result"), Ok(0));
        assert_eq!(reply.get::<i32>("rtsp-code"), Ok(200));
        assert_eq!(reply.get::<&str>("rtsp-reason"), Ok("OK"));
        let body = reply.get::<&str>("body").unwrap();
        assert!(body.starts_with("position: 7"), "{body}");
    }
    let reply = reply("set-parameter", &["zoom", "2"]);
    assert_eq!(reply.name(), "set-parameter-reply");
    assert_eq!(reply.n_fields(), 3);
    assert_eq!(reply.get::<i32>("rtsp-result"), Ok(0));
    assert_eq!(reply.get::<i32>("rtsp-code"), Ok(451));
    let reason = reply.get::<&str>("rtsp-reason").unwrap();
    assert_eq!(reason, "Parameter Not Understood");
    let requests = server.requests();
    let id = server.view().sessions[0].id.clone();
    let sent = |method: &str, body: &[u8]| {
        let mut sent = requests.iter();
        let sent = sent.find(|it| it.method == method && it.body == body);
        let sent = sent.unwrap_or_else(|| panic!("{method}: {requests:?}"));
        assert_eq!(sent.headers.value("Session"), Some(id.as_str()));
        let content_type = sent.headers.value("Content-Type");
        assert_eq!(content_type, Some("text/parameters"));
        assert!(sent.uri.contains(CAMERA), "{}", sent.uri);
    };
    sent("GET_PARAMETER", b"position:\r\n");
    sent("SET_PARAMETER", b"zoom: 2\r\n");
    source.player.assert_no_error();
}

for_both_elements!(parameters_that_cannot_be_sent_are_refused);
fn parameters_that_cannot_be_sent_are_refused(element: &str) {
    let server = server(Camera::video());
    let source = Source::new(element, &server);
    let (promise, none) = (gst::Promise::new(), None::<String>);
    let get = |name: Option<&str>| -> bool {
        source
            .element
            .emit_by_name("get-parameter", &[&name, &none, &promise])
    };
    let set = |name: Option<&str>, value: Option<&str>| -> bool {
        let args: [&dyn ToValue; 4] = [&name, &value, &none, &promise];
        source.element.emit_by_name("set-parameter", &args)
    };
    assert!(!get(Some("position")), "there is no session");
    source.play_through(&server);
    for name in [None, Some(""), Some("a b"), Some("a\r\nb")] {
        assert!(!get(name), "{name:?}");
        assert!(!set(name, Some("1")), "{name:?}");
    }
    assert!(!set(Some("a"), None));
    let without = None::<gst::Promise>;
    let args: [&dyn ToValue; 3] = [&"position", &none, &without];
    assert!(!source.element.emit_by_name::<bool>("get-parameter", &args));
}

#[test]
fn a_promise_without_an_answer_ends_with_the_session() {
    let server = MockServer::builder()
        .camera(CAMERA, Camera::video())
        .rule(Rule::new("GET_PARAMETER", Reaction::Ignore))
        .start();
    let source = Source::new("rtspmuxsrc", &server);
    source.play_through(&server);
    let promise = gst::Promise::new();
    let args: [&dyn ToValue; 3] = [&"position", &None::<String>, &promise];
    assert!(source.element.emit_by_name::<bool>("get-parameter", &args));
    assert!(server.wait_until(|view| view.count("GET_PARAMETER") > 0, PATIENCE));
    source.player.set_state(gst::State::Null).unwrap();
    assert_eq!(promise.wait(), gst::PromiseResult::Expired);
}

#[test]
fn a_promise_fails_with_its_connection() {
    let server = MockServer::builder()
        .camera(CAMERA, Camera::video())
        .rule(Rule::new("GET_PARAMETER", Reaction::Close))
        .start();
    let source = Source::new("rtspmuxsrc", &server);
    source.play_through(&server);
    let reply = ask(&source.element, "get-parameter", &["position"]).unwrap();
    // GST_RTSP_EEOF
    assert_eq!(reply.get::<i32>("rtsp-result"), Ok(-11));
}

/// Two cameras of one connection; the handler of the first one does as it likes.
fn play_beside(signal: &'static str, handler: impl Fn(&gst::Element) + Send + Sync + 'static) {
    init();
    let server = MockServer::builder().cameras(2).start();
    let branch = |number: u32| {
        format!(
            "rtspmuxsrc  name=source{number} location={} latency=0 manager=rtpbin ! fakesink name=sink{number} sync=false async=false ",
            server.url(&format!("/cam/{number}"))
        )
    };
    let player = Player::new(&(branch(1) + &branch(2)));
    let source = player.element("source1");
    let is_question = matches!(signal, "select-stream" | "before-send");
    source.connect(signal, false, move |args| {
        handler(&args[0].get().unwrap());
        is_question.then(|| true.to_value())
    });
    let seen = player.seen_by("sink2");
    player.set_state(gst::State::Playing).unwrap();
    let plays = |view: &crate::support::mock_server::ServerView| {
        view.sessions.iter().any(|it| it.is_playing)
    };
    assert!(server.wait_until(plays, PATIENCE));
    while seen.count() < 10 {
        server.send_packets("/cam/2", 2);
        std::thread::yield_now();
    }
}

#[test]
fn a_handler_that_takes_its_time_holds_up_no_other() {
    for signal in ["on-sdp", "select-stream", "new-manager", "before-send"] {
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        // The other one plays while this waits: it ends after the pictures have come.
        let release = Arc::new(Mutex::new(Some(release)));
        play_beside(signal, move |_| {
            let _ = released.lock().unwrap().recv_timeout(PATIENCE);
        });
        drop(release.lock().unwrap().take());
    }
}

#[test]
fn a_handler_may_stop_its_element() {
    for signal in ["on-sdp", "select-stream", "new-manager", "before-send"] {
        let (sender, stopped) = mpsc::channel();
        let sender = Mutex::new(sender);
        play_beside(signal, move |element| {
            let result = element.set_state(gst::State::Null);
            let _ = sender.lock().unwrap().send(result);
        });
        stopped.recv_timeout(PATIENCE).unwrap().unwrap();
    }
}
