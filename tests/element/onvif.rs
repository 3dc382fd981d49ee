//! ONVIF: replay, and sound for the camera.

use std::sync::{Arc, mpsc};

use gst::glib;
use gstreamer as gst;
use gstreamer_rtsp_server as rtsp_server;
use rtsp_server::prelude::*;

use crate::player::{PATIENCE, Player, for_both_managers, init};
use crate::support::mock_server::{Camera, MockServer, Reaction, Rule};
use crate::support::rtsp::{Response, RtpPacket};

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

const TALKS: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\na=recvonly\r\n\
    m=audio 0 RTP/AVP 8\r\na=control:stream=1\r\na=sendonly\r\n";

/// One packet of A-law.
fn sound(sequence: u16) -> gst::Sample {
    let packet = RtpPacket {
        payload_type: 8,
        sequence,
        timestamp: u32::from(sequence) * 160,
        ssrc: 7,
        marker: false,
        payload: vec![0xd5; 160],
    };
    let buffer = gst::Buffer::from_slice(packet.to_bytes());
    gst::Sample::builder().buffer(&buffer).build()
}

for_both_managers!(sound_goes_to_the_channel_of_the_backchannel);
fn sound_goes_to_the_channel_of_the_backchannel() {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::av().sdp(TALKS))
        .start();
    let player = Player::playing(&format!(
        "rtspmuxsrc name=source backchannel=onvif do-rtcp=false location={} latency=0 ! fakesink name=sink sync=false async=false",
        server.url("/cam")
    ));
    let seen = player.seen_by("sink");
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam", 5);
    seen.wait_for(5);
    let source = player.element("source");
    for (signal, stream) in [
        ("push-backchannel-sample", 1u32),
        ("push-backchannel-buffer", 1),
        ("push-backchannel-sample", 7),
    ] {
        let mut sample = sound(9);
        if signal == "push-backchannel-buffer" {
            // It takes over a reference.
            std::mem::forget(sample.clone());
        }
        let flow: gst::FlowReturn = source.emit_by_name(signal, &[&stream, &sample]);
        assert_eq!(flow, gst::FlowReturn::Ok);
        assert!(sample.get_mut().is_some(), "{signal} keeps no reference");
    }
    assert!(server.wait_until(|view| view.frames.len() == 2, PATIENCE));
    let channel = server.view().sessions[0].tracks[1].1.0;
    for frame in server.frames_from_client() {
        assert_eq!(frame.channel, channel);
        assert_eq!(RtpPacket::parse(&frame.payload).unwrap().sequence, 9);
    }
    for request in server.requests() {
        let requires = ["DESCRIBE", "SETUP", "PLAY"].contains(&request.method.as_str());
        let feature = requires.then_some("www.onvif.org/ver20/backchannel");
        assert_eq!(
            request.headers.value("Require"),
            feature,
            "{}",
            request.method
        );
    }
    player.assert_no_error();
}

#[test]
fn without_backchannel_the_stream_is_not_set_up() {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::av().sdp(TALKS))
        .start();
    let _player = Player::playing(&format!(
        "rtspmuxsrc location={} ! fakesink sync=false",
        server.url("/cam")
    ));
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    let view = server.view();
    assert_eq!(view.count("SETUP"), 1);
    assert!(
        server
            .requests()
            .iter()
            .all(|it| !it.headers.contains("Require"))
    );
}

/// gst-rtsp-server's own ONVIF server plays the camera and hears the sound.
#[test]
fn sound_is_heard_by_the_onvif_server_of_gstreamer() {
    init();
    let server = rtsp_server::RTSPOnvifServer::new().upcast::<rtsp_server::RTSPServer>();
    server.set_address("127.0.0.1");
    server.set_service("0");
    let factory = rtsp_server::RTSPOnvifMediaFactory::new();
    factory.set_media_gtype(rtsp_server::RTSPOnvifMedia::static_type());
    factory.set_launch("( audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 )");
    factory.set_backchannel_launch(Some(
        "( capsfilter name=depay_backchannel caps=\"application/x-rtp,media=audio,payload=8,clock-rate=8000,encoding-name=PCMA\" \
           ! fakesink name=heard async=false sync=false signal-handoffs=true )",
    ));
    let (told, heard) = mpsc::channel();
    factory.connect_media_configure(move |_, media| {
        let sink = media
            .element()
            .downcast::<gst::Bin>()
            .unwrap()
            .by_name("heard")
            .unwrap();
        let told = told.clone();
        sink.connect("handoff", false, move |arguments| {
            let buffer = arguments[1].get::<gst::Buffer>().unwrap();
            let _ = told.send(buffer.map_readable().unwrap().to_vec());
            None
        });
    });
    server.mount_points().unwrap().add_factory("/cam", factory);
    let context = glib::MainContext::new();
    let main_loop = glib::MainLoop::new(Some(&context), false);
    let listener = server
        .create_source(rtsp_server::gio::Cancellable::NONE)
        .unwrap();
    listener.attach(Some(&context));
    let running = main_loop.clone();
    let thread = std::thread::spawn(move || context.with_thread_default(|| running.run()).unwrap());

    let player = Player::playing(&format!(
        "rtspmuxsrc name=source backchannel=onvif location=rtsp://127.0.0.1:{}/cam latency=0 ! fakesink name=sink sync=false async=false",
        server.bound_port()
    ));
    player.seen_by("sink").wait_for(5);
    let source = player.element("source");
    // Its rtpbin takes a source for one from the second packet on.
    for sequence in 0..20 {
        let sample = sound(sequence);
        let flow: gst::FlowReturn =
            source.emit_by_name("push-backchannel-sample", &[&1u32, &sample]);
        assert_eq!(flow, gst::FlowReturn::Ok);
    }
    let packet = heard.recv_timeout(PATIENCE).expect("the sound");
    assert_eq!(RtpPacket::parse(&packet).unwrap().payload, [0xd5; 160]);
    drop(player);
    main_loop.quit();
    thread.join().unwrap();
}
