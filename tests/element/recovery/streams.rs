//! A camera that comes back with other streams.

use gst::prelude::*;
use gstreamer as gst;

use std::sync::mpsc::{Receiver, channel};

use crate::one_camera::{line, more, one_camera, playing};
use crate::player::{PATIENCE, Player, Seen, for_both_managers, init};
use crate::support::mock_server::{Camera, MockServer, Reaction, Rule};

/// A camera that came back as another one: H.265 instead of H.264.
const OTHER_CODEC: &str = "v=0\r\no=- 0 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=range:npt=now-\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=control:stream=0\r\n";

/// The description of a camera with these media, each of which is the track of its number.
fn described(media: &[(&str, usize)]) -> String {
    let lines = |&(media, track): &(&str, usize)| {
        let (media, number, map) = match media {
            "video" => (media, 96, "H264/90000"),
            "h265" => ("video", 96, "H265/90000"),
            "other sets" => (
                "video",
                96,
                "H264/90000\r\na=fmtp:96 sprop-parameter-sets=Z0LB,aM4=",
            ),
            "audio" => (media, 8, "PCMA/8000"),
            _ => (media, 98, "VND.ONVIF.METADATA/90000"),
        };
        format!(
            "m={media} 0 RTP/AVP {number}\r\na=rtpmap:{number} {map}\r\na=control:stream={track}\r\n"
        )
    };
    let media: String = media.iter().map(lines).collect();
    format!("v=0\r\no=- 0 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=range:npt=now-\r\n{media}")
}

/// Plays a camera with `before`, which comes back with `then`. Its picture goes on.
fn comes_back(
    manager: &str,
    before: &[(&str, usize)],
    then: &[(&str, usize)],
) -> (MockServer, Player) {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::av().sdp(described(before)))
        .start();
    let port = server.address().port();
    let line = line(&server.url("/cam"), &format!("manager={manager}"))
        .replace("! fakesink", "! application/x-rtp,media=video ! fakesink");
    let player = Player::playing(&line);
    let seen = player.seen_by("sink");
    more(&server, &seen, 1);
    server.stop();
    let server = MockServer::builder()
        .camera("/cam", Camera::av().sdp(described(then)))
        .start_at(port);
    more(&server, &seen, 1);
    (server, player)
}

#[test]
fn a_picture_goes_on_when_sound_is_switched_on_or_off_or_moves() {
    let (picture, sound) = (("video", 0), ("audio", 1));
    for manager in ["light", "rtpbin"] {
        comes_back(manager, &[picture], &[picture, sound])
            .1
            .assert_no_error();
        comes_back(manager, &[picture, sound], &[picture])
            .1
            .assert_no_error();
        comes_back(manager, &[picture, sound], &[sound, picture])
            .1
            .assert_no_error();
        comes_back(manager, &[sound, picture], &[picture])
            .1
            .assert_no_error();
    }
}

/// The names of the pads of the source, as they come, and how often it says that there are no more. What
/// comes out of them is seen.
fn pads(player: &Player) -> (Receiver<(String, std::sync::Arc<Seen>)>, Receiver<()>) {
    let (added, pads) = channel();
    let pipeline = player.pipeline.downgrade();
    player.element("source").connect_pad_added(move |_, pad| {
        let sink = gst::ElementFactory::make("fakesink")
            .property("async", false)
            .property("sync", false)
            .build()
            .unwrap();
        pipeline.upgrade().unwrap().add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        let to = sink.static_pad("sink").unwrap();
        pad.link(&to).unwrap();
        let _ = added.send((pad.name().to_string(), Seen::on(&to)));
    });
    let (said, no_more) = channel();
    let source = player.element("source");
    source.connect_no_more_pads(move |_| said.send(()).unwrap_or_default());
    (pads, no_more)
}

/// Plays a camera with `before`, which comes back with `then`; each pad is linked. Gives the caps of the pads that
/// came later, and of the first one.
fn linked(
    before: &[(&str, usize)],
    then: &[(&str, usize)],
) -> (Vec<(String, gst::Caps)>, gst::Caps) {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::av().sdp(described(before)))
        .start();
    let port = server.address().port();
    let player = Player::new(&format!(
        "rtspmuxsrc name=source location={} latency=0 \
         fakesrc is-live=true num-buffers=1 ! fakesink async=false",
        server.url("/cam")
    ));
    let (pads, no_more) = pads(&player);
    player.set_state(gst::State::Playing).unwrap();
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam", 10);
    let first: Vec<_> = before
        .iter()
        .map(|_| pads.recv_timeout(PATIENCE).unwrap())
        .collect();
    first.iter().for_each(|(_, seen)| drop(seen.wait_for(5)));
    server.stop();
    let server = MockServer::builder()
        .camera("/cam", Camera::av().sdp(described(then)))
        .start_at(port);
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    let counts: Vec<_> = first.iter().map(|(_, seen)| seen.count()).collect();
    server.send_packets("/cam", 20);
    let goes_on = first.iter().zip(&counts);
    let goes_on = goes_on.filter(|((name, _), _)| {
        let kind = before[name
            .strip_prefix("stream_")
            .unwrap()
            .parse::<usize>()
            .unwrap()]
        .0;
        then.iter()
            .any(|(then, _)| *then == kind || *then == "other sets")
    });
    goes_on.for_each(|((_, seen), before)| drop(seen.wait_for(before + 10)));
    let caps = |name: &str| {
        let pad = player.element("source").static_pad(name).unwrap();
        pad.current_caps().unwrap()
    };
    let is_new = |(media, _): &&(&str, usize)| {
        *media != "other sets" && !before.iter().any(|(before, _)| before == media)
    };
    let mut kinds: Vec<_> = then.iter().filter(is_new).map(|(media, _)| media).collect();
    kinds.dedup();
    let new = kinds.iter().map(|_| {
        let (name, seen) = pads.recv_timeout(PATIENCE).unwrap();
        seen.wait_for(5);
        let caps = caps(&name);
        (name, caps)
    });
    let new = new.collect();
    assert!(pads.try_recv().is_err(), "no other pad");
    assert!(no_more.try_iter().count() <= 1);
    player.assert_no_error();
    (new, caps("stream_0"))
}

for_both_managers!(a_new_stream_has_a_pad_of_its_own);
fn a_new_stream_has_a_pad_of_its_own() {
    let (picture, sound, other) = (("video", 0), ("audio", 1), ("h265", 0));
    let field = |caps: &gst::Caps, name: &str| {
        let fields = caps.structure(0).unwrap();
        fields.get::<String>(name).unwrap_or_default()
    };
    for (before, then, new) in [
        (
            &[picture][..],
            &[picture, sound][..],
            &[("stream_1", "PCMA")][..],
        ),
        (&[picture], &[sound, picture], &[("stream_1", "PCMA")]),
        (
            &[picture],
            &[picture, sound, sound],
            &[("stream_1", "PCMA")],
        ),
        (&[picture, sound], &[picture, picture, sound], &[]),
        // Another encoding is another stream.
        (&[picture, sound], &[other, sound], &[("stream_2", "H265")]),
    ] {
        println!("{before:?} {then:?}");
        let (pads, _) = linked(before, then);
        let pads: Vec<_> = pads
            .iter()
            .map(|(name, caps)| (name.clone(), field(caps, "encoding-name")))
            .collect();
        let expected: Vec<_> = new
            .iter()
            .map(|(name, encoding)| ((*name).to_owned(), (*encoding).to_owned()))
            .collect();
        assert_eq!(pads, expected);
    }
    // The same encoding with other parameters is the same stream.
    let (pads, caps) = linked(&[picture], &[("other sets", 0)]);
    assert_eq!(pads.len(), 0);
    assert_eq!(field(&caps, "sprop-parameter-sets"), "Z0LB,aM4=");
}

for_both_managers!(a_stream_that_is_refused_after_a_reconnect_costs_its_pad_alone);
fn a_stream_that_is_refused_after_a_reconnect_costs_its_pad_alone() {
    init();
    for refusal in [
        Reaction::status(404),
        Reaction::status(461),
        Reaction::status(500),
    ] {
        let server = MockServer::builder().camera("/cam", Camera::av()).start();
        let player = Player::playing(&format!(
            "rtspmuxsrc name=source location={} latency=0 \
             source. ! application/x-rtp,media=video ! fakesink name=picture sync=false async=false \
             source. ! application/x-rtp,media=audio ! fakesink name=sound sync=false async=false",
            server.url("/cam")
        ));
        let (picture, sound) = (player.seen_by("picture"), player.seen_by("sound"));
        assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
        server.send_packets("/cam", 10);
        picture.wait_for(10);
        sound.wait_for(10);
        let (told, gaps) = channel();
        let pad = player.element("sound").static_pad("sink").unwrap();
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let _ = told.send(info.event().unwrap().type_());
            gst::PadProbeReturn::Ok
        });
        server.add_rule(Rule::new("SETUP", refusal).control("stream=1"));
        server.close_connections();
        more(&server, &picture, 2);
        assert_eq!(gaps.recv_timeout(PATIENCE), Ok(gst::EventType::Gap));
        // The first one says that all streams are asked for once more.
        let text = loop {
            let message = player.warning_or_error();
            let gst::MessageView::Warning(warning) = message.view() else {
                panic!("{message:?}")
            };
            let text = warning.error().to_string();
            if !text.contains("SETUP failed") || text.contains("left out") {
                break text;
            }
        };
        assert!(text.contains("stream 1 (audio"), "{text}");
        player.assert_no_error();
    }
}

#[test]
fn a_camera_that_has_nothing_in_common_with_its_pads_is_an_error_at_the_second_look() {
    init();
    for other in [
        OTHER_CODEC.to_owned(),
        OTHER_CODEC.replace("m=video", "m=audio"),
    ] {
        let server = one_camera();
        let port = server.address().port();
        let (player, _) = playing(&server, "");
        server.stop();
        let server = MockServer::builder()
            .camera("/cam", Camera::video().sdp(other))
            .start_at(port);
        let (error, _) = player.error();
        assert!(error.matches(gst::StreamError::Format), "{error}");
        assert!(
            error.to_string().contains("cannot follow") && error.to_string().contains("/cam"),
            "{error}"
        );
        assert_eq!(server.view().count("DESCRIBE"), 2);
    }
}

#[test]
fn with_on_stream_change_error_any_change_is_an_error() {
    init();
    let server = one_camera();
    let port = server.address().port();
    let (player, _) = playing(&server, "on-stream-change=error");
    server.stop();
    let _server = MockServer::builder()
        .camera("/cam", Camera::av())
        .start_at(port);
    let (error, _) = player.error();
    assert!(error.to_string().contains("cannot follow"), "{error}");
}

#[test]
fn a_stream_that_was_refused_at_first_is_left_out_again() {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::av())
        .rule(Rule::new("SETUP", Reaction::status(404)).skip(1).times(2))
        .start();
    let (player, seen) = playing(&server, "");
    server.close_connections();
    more(&server, &seen, 2);
    assert_eq!(server.view().count("SETUP"), 4, "one and two refusals, one");
    assert_eq!(player.element("source").src_pads().len(), 1);
    player.assert_no_error();
}

#[test]
fn a_stream_that_has_a_pad_is_asked_for_until_it_is_granted() {
    init();
    let server = MockServer::builder()
        .camera("/cam", Camera::av())
        .rule(Rule::new("SETUP", Reaction::status(404)).skip(3).times(2))
        .start();
    let line = line(&server.url("/cam"), "")
        .replace("! fakesink", "! application/x-rtp,media=video ! fakesink");
    let player = Player::playing(&line);
    let seen = player.seen_by("sink");
    more(&server, &seen, 1);
    server.close_connections();
    more(&server, &seen, 2);
    assert_eq!(
        server.view().count("SETUP"),
        7,
        "two, one and two refusals, two"
    );
    player.assert_no_error();
}
