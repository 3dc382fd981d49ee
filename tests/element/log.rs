//! What the element's connections say in GStreamer's log.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gstreamer as gst;
use gstrtspmux::mux::proto::wire::redacted;

use crate::player::{Player, init};
use crate::support::mock_server::{Algorithm, Auth, Camera, MockServer};

const PASSWORD: &str = "hunter2";

/// All that comes in the category of the multiplexer.
///
/// Its function is never removed: GStreamer frees it then, while a thread of ours may be logging.
struct Log {
    lines: Arc<Mutex<Vec<(gst::DebugLevel, String)>>>,
}

impl Log {
    fn new() -> Self {
        let lines = Arc::<Mutex<Vec<_>>>::default();
        let kept = Arc::clone(&lines);
        gst::log::add_log_function(move |category, level, _, _, _, _, message| {
            if category.name() == "rtspmux" {
                let text = message.get().map(|text| text.to_string());
                kept.lock().unwrap().push((level, text.unwrap_or_default()));
            }
        });
        gst::log::set_threshold_for_name("rtspmux", gst::DebugLevel::Trace);
        Self { lines }
    }

    /// At this level and in this order, as text.
    fn at(&self, level: gst::DebugLevel) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        let at_level = lines.iter().filter(|(at, _)| *at == level);
        at_level.map(|(_, text)| text.clone()).collect()
    }
}

#[test]
fn every_rtsp_message_is_in_the_log_without_secrets() {
    init();
    let server = MockServer::builder()
        .camera("/logged?password=hunter2", Camera::video())
        .credentials(Auth::Digest {
            algorithm: Algorithm::Md5,
            user: "us3r".to_owned(),
            password: PASSWORD.to_owned(),
        })
        .start();
    let log = Log::new();
    let url = server.url("/logged?password=hunter2");
    let player = Player::playing(&format!(
        "rtspmuxsrc location={url} user-id=us3r user-pw={PASSWORD} idle-connection-timeout=0 \
         ! fakesink sync=false"
    ));
    assert!(server.wait_until(|view| view.playing() == 1, Duration::from_secs(10)));
    drop(player);
    assert!(server.wait_until(|view| view.count("TEARDOWN") > 0, Duration::from_secs(10)));
    let wire = log.at(gst::DebugLevel::Trace);
    let shown = redacted(&url.parse().unwrap());
    assert!(
        shown.starts_with(&server.url("/logged?password=~")),
        "{shown}"
    );
    for method in ["DESCRIBE", "SETUP", "PLAY", "TEARDOWN"] {
        let start = format!(": > {method} {shown}");
        assert!(
            wire.iter().any(|text| text.contains(&start)),
            "no {start} in {wire:#?}"
        );
    }
    let has = |part: &str| wire.iter().any(|text| text.contains(part));
    assert!(has("< RTSP/1.0 401") && has("realm=") && has("m=video"));
    assert!(has("Authorization: Digest ***") && has("nonce=***"));
    let info = log.at(gst::DebugLevel::Info);
    let connected = format!("connected to {}", server.address());
    assert!(
        info.iter().any(|text| text.contains(&connected)),
        "{info:?}"
    );
    let authorized = server.requests();
    let mut secrets = vec![PASSWORD.to_owned(), "us3r".to_owned(), "c0n0".to_owned()];
    for request in &authorized {
        let value = request.headers.value("Authorization");
        let response = value.and_then(|value| value.split("response=\"").nth(1));
        secrets.extend(response.and_then(|rest| Some(rest.split('"').next()?.to_owned())));
    }
    assert!(secrets.len() > 5, "{secrets:?}");
    let all = log.lines.lock().unwrap();
    for secret in secrets {
        let shown = all.iter().find(|(_, text)| text.contains(&secret));
        assert!(shown.is_none(), "{secret} in {shown:?}");
    }
}
