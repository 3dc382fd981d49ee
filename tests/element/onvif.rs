//! ONVIF replay: what is asked of the server.

use std::sync::Arc;

use gst::prelude::*;
use gstreamer as gst;

use crate::player::{PATIENCE, Player, for_both_managers, init};
use crate::support::mock_server::{Camera, MockServer, Reaction, Rule};
use crate::support::rtsp::Response;

const REPLAY: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=rec\r\nt=0 0\r\n\
    a=range:clock=20260101T000000Z-20260101T010000Z\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\n";

/// Seconds from 1900 to 2026.
const BEGIN: gst::ClockTime = gst::ClockTime::from_seconds(46_021 * 86_400);

const RANGE: &str = "clock=20260101T000000Z-20260101T010000Z";

fn answer(response: &mut Response) {
    response.headers.set("Range", RANGE);
}

for_both_managers!(a_replay_is_asked_for_by_the_headers_of_onvif);
fn a_replay_is_asked_for_by_the_headers_of_onvif() {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::video().sdp(REPLAY))
        .rule(Rule::new("PLAY", Reaction::Edit(Arc::new(answer))))
        .start();
    let player = Player::playing(&format!(
        "rtspmuxsrc name=source onvif-mode=true onvif-rate-control=false location={} latency=0 ! fakesink name=sink sync=false async=false",
        server.url("/cam")
    ));
    let seen = player.seen_by("sink");
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam", 5);
    seen.wait_for(5);
    let pad = player.element("sink").static_pad("sink").unwrap();
    let caps = pad.current_caps().unwrap();
    let caps = caps.structure(0).unwrap();
    assert_eq!(caps.get("onvif-mode"), Ok(true));
    assert_eq!(caps.get("npt-start"), Ok(BEGIN.nseconds()));
    let segment = pad.sticky_event::<gst::event::Segment>(0).unwrap();
    let segment = segment.segment().downcast_ref::<gst::ClockTime>().unwrap();
    assert_eq!(segment.start(), Some(BEGIN));

    let (set, none) = (gst::SeekType::Set, gst::SeekType::None);
    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::TRICKMODE_KEY_UNITS;
    let to = BEGIN + gst::ClockTime::from_seconds(60);
    let event = gst::event::Seek::new(1.0, flags, set, to, none, gst::ClockTime::NONE);
    assert!(player.pipeline.send_event(event));
    let plays: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|recorded| recorded.method == "PLAY")
        .map(|recorded| {
            let names = ["Require", "Rate-Control", "Range", "Frames"];
            names.map(|name| recorded.headers.value(name).map(str::to_owned))
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    let replay = [some("onvif-replay"), some("no")];
    let [require, rate] = replay;
    let first = some(RANGE);
    let second = some("clock=20260101T000100Z-20260101T010000Z");
    assert_eq!(plays[0], [require.clone(), rate.clone(), first, None]);
    assert_eq!(plays[1], [require, rate, second, some("intra")]);
}
