//! The lines people write, and what comes out at their ends.

use std::path::{Path, PathBuf};

use gst::{glib, prelude::*};
use gstreamer as gst;

use crate::gst_server::GstServer;
use crate::one_camera::{Entangled, one_camera, playing, send_bye, send_frame};
use crate::player::{PATIENCE, Player, Seen, for_both_managers, init, manager};
use crate::support::mock_server::{Camera, MockServer, ServerView};

/// A file of this process's own that goes away.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("rtspmux-{}-{name}", std::process::id())))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

for_both_managers!(a_recording_ends_in_good_order_and_plays_back);
fn a_recording_ends_in_good_order_and_plays_back() {
    init();
    let server = GstServer::builder().start().unwrap();
    let file = TemporaryFile::new("recording.mkv");
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} protocols=tcp latency=100 ! rtph264depay ! h264parse name=parse \
           ! matroskamux ! filesink location={}",
        server.url(0),
        file.path().display()
    ));
    player.seen_by("parse").wait_for(50);
    assert!(player.pipeline.send_event(gst::event::Eos::new()));
    player.message(gst::MessageType::Eos);
    drop(player);

    let playback = Player::playing(&format!(
        "filesrc location={} ! matroskademux ! h264parse ! avdec_h264 ! fakesink name=sink sync=false",
        file.path().display()
    ));
    playback.seen_by("sink").wait_for(40);
    playback.message(gst::MessageType::Eos);
}

for_both_managers!(decodebin_finds_a_decoder);
fn decodebin_finds_a_decoder() {
    init();
    let server = GstServer::builder().start().unwrap();
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} latency=100 ! decodebin ! fakesink name=sink sync=false",
        server.url(0)
    ));
    player.seen_by("sink").wait_for(10);
    let caps = player
        .element("sink")
        .static_pad("sink")
        .unwrap()
        .current_caps()
        .unwrap();
    assert_eq!(caps.structure(0).unwrap().name(), "video/x-raw");
    player.assert_no_error();
}

for_both_managers!(times_rise_and_follow_the_clock_of_the_pipeline);
fn times_rise_and_follow_the_clock_of_the_pipeline() {
    init();
    let server = GstServer::builder().start().unwrap();
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} latency=100 ! rtph264depay ! fakesink name=sink sync=false",
        server.url(0)
    ));
    let buffers = player.seen_by("sink").wait_for(50);
    let times: Vec<gst::ClockTime> = buffers.iter().filter_map(|buffer| buffer.pts()).collect();
    assert_eq!(times.len(), buffers.len());
    assert!(times.is_sorted());
    assert!(buffers[0].flags().contains(gst::BufferFlags::DISCONT));
    // 49 pictures at 25 a second.
    let span = *times.last().unwrap() - times[0];
    assert!(
        span.absdiff(gst::ClockTime::from_mseconds(49 * 40)) < gst::ClockTime::from_mseconds(100),
        "{span}"
    );
    let now = player.pipeline.current_running_time().unwrap();
    assert!(
        times.last().unwrap().absdiff(now) < gst::ClockTime::SECOND,
        "{times:?} at {now}"
    );
}

for_both_managers!(a_stream_that_is_not_linked_is_no_error);
fn a_stream_that_is_not_linked_is_no_error() {
    init();
    let server = GstServer::builder().audio(|_| true).start().unwrap();
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} latency=50 ! application/x-rtp,media=audio ! rtppcmadepay ! fakesink name=sink sync=false",
        server.url(0)
    ));
    player.seen_by("sink").wait_for(100);
    player.assert_no_error();
}

for_both_managers!(no_stream_linked_is_an_error);
fn no_stream_linked_is_an_error() {
    init();
    let server = GstServer::builder().audio(|_| true).start().unwrap();
    // The second branch is there for the pipeline to have a sink.
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} latency=0 fakesrc is-live=true num-buffers=1 ! fakesink async=false",
        server.url(0)
    ));
    let (error, details) = player.error();
    assert!(error.matches(gst::StreamError::Failed), "{error}");
    assert_eq!(details.unwrap().get::<i32>("flow-return"), Ok(-1));
    server
        .wait_until(PATIENCE, |counts| counts.teardowns == 1)
        .unwrap();
}

for_both_managers!(receiver_reports_go_back_on_the_rtcp_channel);
fn receiver_reports_go_back_on_the_rtcp_channel() {
    init();
    let server = one_camera();
    let (_player, _) = playing(&server, "");
    // rtpsession sends its first report after half an interval, 2.5 s.
    let reported = server.wait_until(|view| !view.frames.is_empty(), PATIENCE);
    assert!(reported);
    let report = &server.frames_from_client()[0];
    let channels = server.view().sessions[0].tracks[0].1;
    assert_eq!(report.channel, channels.1);
    // Version 2, receiver report (RFC 3550 6.4.2), of the camera's source.
    assert_eq!((report.payload[0] >> 6, report.payload[1]), (2, 201));
    assert_eq!(report.payload[8..12], Camera::ssrc(0, 0).to_be_bytes());
    assert_eq!(server.violations(), [""; 0]);
}

for_both_managers!(without_rtcp_no_report_goes_back);
fn without_rtcp_no_report_goes_back() {
    init();
    let server = MockServer::builder()
        .camera("/told", Camera::video())
        .camera("/untold", Camera::video())
        .start();
    let branch = |path: &str, more: &str| {
        let url = server.url(path);
        format!("rtspmuxsrc location={url} latency=0 {more} ! fakesink sync=false async=false ")
    };
    let line = [branch("/told", ""), branch("/untold", "do-rtcp=false")].concat();
    let _player = Player::playing(&line);
    assert!(server.wait_until(|view| view.playing() == 2, PATIENCE));
    for camera in ["/told", "/untold"] {
        server.send_packets(camera, 10);
    }
    // Both would report about as often.
    let is_told_twice = server.wait_until(|view| view.frames.len() >= 2, 2 * PATIENCE);
    assert!(is_told_twice);
    let sessions = server.view().sessions;
    let channel = |path: &str| {
        let session = sessions.iter().find(|it| it.camera == path).unwrap();
        session.tracks[0].1.1
    };
    let frames = server.frames_from_client();
    assert!(frames.iter().all(|it| it.channel == channel("/told")));
    assert_ne!(channel("/told"), channel("/untold"));
    assert_eq!(server.violations(), [""; 0]);
}

for_both_managers!(what_the_user_sets_reaches_rtpbin);
fn what_the_user_sets_reaches_rtpbin() {
    init();
    let server = one_camera();
    let line = "ntp-sync=true buffer-mode=synced probation=5 max-ts-offset=7 ntp-time-source=clock-time \
                sdes=\"application/x-rtp-source-sdes, cname=(string)nvr\"";
    let (player, _) = playing(&server, line);
    let source = player.element("source").downcast::<gst::Bin>().unwrap();
    let Some(bin) = source.by_name("manager") else {
        return assert_eq!(manager(), "light");
    };
    let value = |name: &str| bin.property_value(name).serialize().unwrap();
    assert_eq!(value("ntp-sync"), "true");
    assert_eq!(value("buffer-mode"), "synced");
    assert_eq!(value("max-ts-offset"), "7");
    assert_eq!(value("ntp-time-source"), "clock-time");
    assert!(value("sdes").contains("nvr"));
    let session: glib::Object = bin.emit_by_name("get-internal-session", &[&0u32]);
    assert_eq!(session.property::<u32>("probation"), 5);
}

// A decoder that has lost its reference asks for a key picture. RFC 4585 6.3.1: PLI, and at once.
for_both_managers!(with_feedback_the_camera_is_asked_for_a_key_picture);
fn with_feedback_the_camera_is_asked_for_a_key_picture() {
    init();
    let sdp = "v=0\r\ns=x\r\nt=0 0\r\na=control:*\r\nm=video 0 RTP/AVPF 96\r\n\
               a=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack pli\r\na=control:stream=0\r\n";
    let server = MockServer::builder()
        .camera("/cam", Camera::video().sdp(sdp))
        .start();
    let (player, _) = playing(&server, "");
    let source = player.element("source").downcast::<gst::Bin>().unwrap();
    if let Some(bin) = source.by_name("manager") {
        // With AVP it would wait for the next regular report.
        let session: glib::Object = bin.emit_by_name("get-internal-session", &[&0u32]);
        let profile = session.property_value("rtp-profile").serialize().unwrap();
        assert_eq!(profile, "avpf");
    }
    let wanted = gst::Structure::builder("GstForceKeyUnit")
        .field("all-headers", true)
        .field("count", 1u32)
        .build();
    let sink = player.element("sink").static_pad("sink").unwrap();
    let is_wanted = |view: &ServerView| {
        let mut frames = view.frames.iter();
        frames.any(|frame| has_picture_loss(&frame.payload))
    };
    sink.push_event(gst::event::CustomUpstream::new(wanted));
    assert!(server.wait_until(is_wanted, PATIENCE));
    assert_eq!(server.violations(), [""; 0]);
}

/// Whether a compound RTCP packet has a picture loss indication.
fn has_picture_loss(compound: &[u8]) -> bool {
    let mut rest = compound;
    while let [flags, kind, high, low, ..] = *rest {
        if (flags & 0x1f, kind) == (1, 206) {
            return true;
        }
        let length = 4 + 4 * usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(length..).unwrap_or_default();
    }
    false
}

/// `manager=auto` takes rtpbin where only rtpbin does what is asked for.
#[test]
fn auto_is_rtpbin_where_the_light_manager_will_not_do() {
    init();
    let server = one_camera();
    for (properties, is_rtpbin) in [
        ("", false),
        (
            "drop-on-latency=true buffer-mode=slave do-retransmission=false",
            false,
        ),
        ("ntp-sync=true", true),
        ("buffer-mode=none", true),
        ("add-reference-timestamp-meta=true", true),
    ] {
        let (player, _) = playing(&server, properties);
        let source = player.element("source").downcast::<gst::Bin>().unwrap();
        assert_eq!(
            source.by_name("manager").is_some(),
            is_rtpbin,
            "{properties}"
        );
        drop(player);
        assert!(server.wait_until(|view| view.playing() == 0, PATIENCE));
    }
}

for_both_managers!(without_recovery_a_bye_ends_the_stream);
fn without_recovery_a_bye_ends_the_stream() {
    init();
    let server = one_camera();
    let (player, _) = playing(&server, "reconnect=false");
    send_bye(&server);
    player.message(gst::MessageType::Eos);
    assert!(server.wait_until(|view| view.count("TEARDOWN") == 1, PATIENCE));
}

for_both_managers!(two_elements_watch_one_camera);
fn two_elements_watch_one_camera() {
    init();
    let server = GstServer::builder().start().unwrap();
    let player = Player::playing(&format!(
        "rtspmuxsrc location={url} latency=0 ! fakesink name=one sync=false \
         rtspmuxsrc location={url} latency=0 ! fakesink name=two sync=false",
        url = server.url(0)
    ));
    let seen: Vec<_> = ["one", "two"].map(|name| player.seen_by(name)).into();
    seen.iter()
        .for_each(|seen: &std::sync::Arc<Seen>| drop(seen.wait_for(20)));
    assert_eq!(server.counts().accepted, 1);
}

/// The packets of a mock camera, with another SSRC.
fn of_another_source(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0x80 | 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 3_000).to_be_bytes());
    packet.extend(0xdead_beef_u32.to_be_bytes());
    packet.extend([0x41, 1, 2, 3, 4, 5]);
    packet
}

for_both_managers!(a_new_source_goes_on_on_the_same_pad);
fn a_new_source_goes_on_on_the_same_pad() {
    init();
    let server = one_camera();
    let (player, seen) = playing(&server, "");
    let before = seen.count();
    let channel = server.view().sessions[0].tracks[0].1.0;
    for sequence in 7_000..7_020 {
        send_frame(&server, channel, of_another_source(sequence));
    }
    let buffers = seen.wait_for(before + 10);
    assert!(buffers[before].flags().contains(gst::BufferFlags::DISCONT));
    let times: Vec<_> = buffers.iter().filter_map(|buffer| buffer.pts()).collect();
    assert!(
        times.len() == buffers.len() && times.is_sorted(),
        "{times:?}"
    );
    assert_eq!(player.element("source").src_pads().len(), 1);
    player.assert_no_error();
}

for_both_managers!(a_new_source_goes_on_though_the_old_one_waits_for_another_stream);
/// As a muxer without queues does: it keeps the thread of the picture until there is sound.
fn a_new_source_goes_on_though_the_old_one_waits_for_another_stream() {
    let server = MockServer::builder().camera("/cam", Camera::av()).start();
    let entangled = Entangled::new(&server);
    entangled.hold(&server);
    let channel = server.view().sessions[0].tracks[0].1.0;
    for sequence in 7_000..7_010 {
        send_frame(&server, channel, of_another_source(sequence));
    }
    server.send_packets("/cam", 5);
    entangled.audio.wait_for(entangled.before + 1);
    entangled.video.wait_for(15);
    entangled.player.assert_no_error();
}

for_both_managers!(a_sink_that_blocks_holds_up_no_other_element);
fn a_sink_that_blocks_holds_up_no_other_element() {
    init();
    let server = GstServer::builder().mounts(4).start().unwrap();
    let line: String = (0..4)
        .map(|camera| {
            format!(
                "rtspmuxsrc location={} latency=0 ! fakesink name=sink{camera} sync=false async=false ",
                server.url(camera)
            )
        })
        .collect();
    let player = Player::new(&line);
    for camera in 0..3 {
        let pad = player
            .element(&format!("sink{camera}"))
            .static_pad("sink")
            .unwrap();
        pad.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| {
            gst::PadProbeReturn::Ok
        });
    }
    player.set_state(gst::State::Playing).unwrap();
    player.seen_by("sink3").wait_for(50);
    let begin = std::time::Instant::now();
    player.set_state(gst::State::Null).unwrap();
    assert!(
        begin.elapsed() < crate::player::PROMPT,
        "{:?}",
        begin.elapsed()
    );
    server
        .wait_until(PATIENCE, |counts| counts.sessions_now == 0)
        .unwrap();
}

/// More than there are processors: each holds a thread, and the next one has its own all the same.
#[test]
fn sixteen_sinks_that_block_hold_up_neither_the_seventeenth_nor_a_stop() {
    init();
    let server = MockServer::builder().cameras(17).start();
    let line: String = (1..=17)
        .map(|camera| {
            format!(
                "rtspmuxsrc name=source{camera} manager=light location={} latency=0 \
                   ! fakesink name=sink{camera} sync=false async=false ",
                server.url(&format!("/cam/{camera}"))
            )
        })
        .collect();
    let player = Player::new(&line);
    let (held, is_held) = std::sync::mpsc::channel();
    for camera in 1..=16 {
        let pad = player.element(&format!("sink{camera}"));
        let pad = pad.static_pad("sink").unwrap();
        let held = held.clone();
        pad.add_probe(
            gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER,
            move |_, _| {
                let _ = held.send(());
                gst::PadProbeReturn::Ok
            },
        );
    }
    player.set_state(gst::State::Playing).unwrap();
    let seen = player.seen_by("sink17");
    assert!(server.wait_until(|view| view.playing() == 17, PATIENCE));
    server.send_packets_to_all(20);
    for _ in 1..=16 {
        is_held.recv_timeout(PATIENCE).unwrap();
    }
    server.send_packets("/cam/17", 20);
    seen.wait_for(40);
    let begin = std::time::Instant::now();
    let free = player.element("source17");
    free.set_state(gst::State::Null).unwrap();
    assert!(begin.elapsed() < crate::player::PROMPT);
    player.set_state(gst::State::Null).unwrap();
    assert!(begin.elapsed() < 2 * crate::player::PROMPT);
    player.assert_no_error();
    assert!(server.wait_until(|view| view.playing() == 0, PATIENCE));
}
