//! Recordings are sought as with `rtspsrc`: the same test runs with both elements, where both can.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, mpsc};

use gst::prelude::*;
use gstreamer as gst;

use crate::gst_server::clip::{self, Stamp};
use crate::gst_server::{GstServer, RECORDING};
use crate::player::{PATIENCE, Player, for_both_managers, init};
use crate::support::mock_server::{Behaviour, Camera, MockServer, Reaction, Rule};
use crate::support::rtsp::{Response, RtpPacket};

const S: gst::ClockTime = gst::ClockTime::SECOND;
const FLUSH: gst::SeekFlags = gst::SeekFlags::FLUSH;

/// 10 s, with a key picture each second.
fn recording() -> PathBuf {
    init();
    let name = format!("recording-{}.mp4", std::process::id());
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !file.exists() {
        clip::record(250, &file).unwrap();
    }
    file
}

fn server() -> GstServer {
    GstServer::builder().recording(recording()).start().unwrap()
}

/// What came to a pad, in order.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    FlushStart,
    FlushStop,
    Caps {
        start: u64,
        stop: Option<u64>,
        speed: f64,
    },
    /// With the number of the event.
    Segment(gst::Seqnum),
    Frame(u64),
    Eos,
}

#[derive(Default)]
struct Items {
    all: Mutex<Vec<Item>>,
    changed: Condvar,
}

impl Items {
    fn on(pad: &gst::Pad) -> Arc<Self> {
        let items = Arc::<Self>::default();
        let own = Arc::clone(&items);
        let what = gst::PadProbeType::BUFFER
            | gst::PadProbeType::EVENT_DOWNSTREAM
            | gst::PadProbeType::EVENT_FLUSH;
        pad.add_probe(what, move |_, info| {
            if let Some(item) = item(info) {
                own.all.lock().unwrap().push(item);
                own.changed.notify_all();
            }
            gst::PadProbeReturn::Ok
        });
        items
    }

    /// Waits until the items are like this, and returns them.
    fn wait_until(&self, is_so: impl Fn(&[Item]) -> bool) -> Vec<Item> {
        let items = self.all.lock().unwrap();
        let waited = self
            .changed
            .wait_timeout_while(items, PATIENCE, |items| !is_so(items));
        let (items, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "{items:?}");
        items.clone()
    }

    fn count(&self) -> usize {
        self.all.lock().unwrap().len()
    }
}

fn item(info: &gst::PadProbeInfo<'_>) -> Option<Item> {
    if let Some(buffer) = info.buffer() {
        let stamp = Stamp::find(&buffer.map_readable().unwrap())?;
        return Some(Item::Frame(stamp.frame));
    }
    let event = info.event()?;
    Some(match event.view() {
        gst::EventView::FlushStart(_) => Item::FlushStart,
        gst::EventView::FlushStop(_) => Item::FlushStop,
        gst::EventView::Caps(caps) => {
            let caps = caps.caps().structure(0).unwrap();
            Item::Caps {
                start: caps.get("npt-start").ok()?,
                stop: caps.get("npt-stop").ok(),
                speed: caps.get("play-speed").ok()?,
            }
        }
        gst::EventView::Segment(_) => Item::Segment(event.seqnum()),
        gst::EventView::Eos(_) => Item::Eos,
        _ => return None,
    })
}

fn frames(items: &[Item]) -> Vec<u64> {
    let frame = |item: &Item| match item {
        Item::Frame(frame) => Some(*frame),
        _ => None,
    };
    items.iter().filter_map(frame).collect()
}

/// Both elements, the one of the test's manager and `rtspsrc`.
const ELEMENTS: [&str; 2] = ["rtspmuxsrc ", "rtspsrc protocols=tcp "];

fn playing(element: &str, url: &str) -> (Player, Arc<Items>) {
    let player = Player::new(&format!(
        "{element}name=source location={url} latency=100 ! fakesink name=sink sync=false async=false"
    ));
    let items = Items::on(&player.element("sink").static_pad("sink").unwrap());
    player.set_state(gst::State::Playing).unwrap();
    items.wait_until(|items| frames(items).len() > 10);
    (player, items)
}

fn seek(rate: f64, flags: gst::SeekFlags, to: gst::ClockTime) -> gst::Event {
    let (set, none) = (gst::SeekType::Set, gst::SeekType::None);
    gst::event::Seek::new(rate, flags, set, to, none, gst::ClockTime::NONE)
}

for_both_managers!(queries_tell_of_the_recording);
fn queries_tell_of_the_recording() {
    let server = server();
    for element in ELEMENTS {
        let (player, _) = playing(element, &server.url_of(RECORDING));
        let sink = player.element("sink").static_pad("sink").unwrap();
        let mut duration = gst::query::Duration::new(gst::Format::Time);
        assert!(sink.peer_query(&mut duration), "{element}");
        assert_eq!(
            duration.result(),
            gst::GenericFormattedValue::from(Some(10 * S))
        );
        let mut seeking = gst::query::Seeking::new(gst::Format::Time);
        assert!(sink.peer_query(&mut seeking), "{element}");
        let (is_seekable, _, end) = seeking.result();
        assert!(is_seekable, "{element}");
        assert_eq!(end, gst::GenericFormattedValue::from(Some(10 * S)));
        let mut position = gst::query::Position::new(gst::Format::Time);
        assert!(sink.peer_query(&mut position), "{element}");
        assert!(
            player.pipeline.send_event(seek(1.0, FLUSH, 5 * S)),
            "{element}"
        );
    }
}

for_both_managers!(a_flushing_seek_lands_where_that_of_rtspsrc_does);
fn a_flushing_seek_lands_where_that_of_rtspsrc_does() {
    let server = server();
    let mut landed = Vec::new();
    for element in ELEMENTS {
        let (player, items) = playing(element, &server.url_of(RECORDING));
        let event = seek(1.0, FLUSH, 5 * S);
        let seqnum = event.seqnum();
        assert!(player.pipeline.send_event(event), "{element}");
        let is_there = |items: &[Item]| {
            let stop = items.iter().position(|item| *item == Item::FlushStop);
            stop.is_some_and(|stop| frames(&items[stop..]).len() >= 20)
        };
        let mut items = items.wait_until(is_there);
        let start = items.iter().position(|item| *item == Item::FlushStart);
        let mut after = items.split_off(start.unwrap());
        assert!(frames(&items).iter().all(|frame| *frame < 120), "{element}");
        let came = frames(&after);
        assert!(came.is_sorted() && came[0] == 125, "{element}: {came:?}");
        after.retain(|item| !matches!(item, Item::Frame(_)));
        assert_eq!(after[..2], [Item::FlushStart, Item::FlushStop], "{element}");
        assert!(
            after.contains(&Item::Segment(seqnum)),
            "{element}: {after:?}"
        );
        let caps = Item::Caps {
            start: 5_000_000_000,
            stop: Some(10_000_000_000),
            speed: 1.0,
        };
        assert!(after.contains(&caps), "{element}: {after:?}");
        player.assert_no_error();
        landed.push(came[..20].to_vec());
    }
    assert_eq!(landed[0], landed[1]);
}

for_both_managers!(a_seek_that_does_not_flush_loses_no_frame_before_it);
/// `rtspsrc` 1.22 never returns from such a seek while it plays.
fn a_seek_that_does_not_flush_loses_no_frame_before_it() {
    let server = server();
    let (player, items) = playing(ELEMENTS[0], &server.url_of(RECORDING));
    let event = seek(1.0, gst::SeekFlags::empty(), 8 * S);
    assert!(player.pipeline.send_event(event));
    let items = items.wait_until(|items| frames(items).contains(&205));
    assert!(!items.contains(&Item::FlushStart));
    let came = frames(&items);
    let landing = came.iter().position(|frame| *frame >= 200).unwrap();
    assert_eq!(came[landing], 200, "{came:?}");
    let before: Vec<u64> = (0..landing as u64).collect();
    assert_eq!(came[..landing], before);
}

for_both_managers!(of_twenty_seeks_the_last_one_wins);
fn of_twenty_seeks_the_last_one_wins() {
    let server = server();
    let (player, items) = playing(ELEMENTS[0], &server.url_of(RECORDING));
    let last = std::thread::scope(|scope| {
        let mut seeks = Vec::new();
        for second in 0..20u64 {
            let event = seek(1.0, FLUSH, (second % 4 + 2) * S);
            let sent = items.count();
            let pipeline = player.pipeline.clone();
            seeks.push(scope.spawn(move || pipeline.send_event(event)));
            if second % 5 == 0 {
                items.wait_until(|items| items.len() > sent);
            }
        }
        let last = seek(1.0, FLUSH, 7 * S);
        let seqnum = last.seqnum();
        assert!(seeks.into_iter().all(|seek| seek.join().unwrap()));
        assert!(player.pipeline.send_event(last));
        seqnum
    });
    let items = items.wait_until(|items| {
        let segment = items.iter().rposition(|item| *item == Item::Segment(last));
        segment.is_some_and(|at| frames(&items[at..]).len() > 10)
    });
    let segment = items.iter().rposition(|item| *item == Item::Segment(last));
    let came = frames(&items[segment.unwrap()..]);
    assert_eq!(came[..3], [175, 176, 177]);
    player.assert_no_error();
}

for_both_managers!(the_end_of_a_recording_is_the_end_of_the_stream);
fn the_end_of_a_recording_is_the_end_of_the_stream() {
    let server = server();
    for element in ELEMENTS {
        let (player, items) = playing(element, &server.url_of(RECORDING));
        assert!(
            player.pipeline.send_event(seek(1.0, FLUSH, 9 * S)),
            "{element}"
        );
        let items = items.wait_until(|items| items.contains(&Item::Eos));
        assert_eq!(frames(&items).last(), Some(&249), "{element}");
        player.message(gst::MessageType::Eos);
    }
}

for_both_managers!(a_seek_behind_the_end_plays_the_recording_again);
fn a_seek_behind_the_end_plays_the_recording_again() {
    let server = server();
    let (player, items) = playing(ELEMENTS[0], &server.url_of(RECORDING));
    assert!(player.pipeline.send_event(seek(1.0, FLUSH, 9 * S)));
    player.message(gst::MessageType::Eos);
    let ended = items.count();
    assert!(player.pipeline.send_event(seek(1.0, FLUSH, 3 * S)));
    let items = items.wait_until(|items| frames(&items[ended..]).len() > 5);
    assert_eq!(frames(&items[ended..])[..3], [75, 76, 77]);
    player.assert_no_error();
}

for_both_managers!(a_recording_goes_on_behind_a_pause);
fn a_recording_goes_on_behind_a_pause() {
    let server = server();
    let (player, items) = playing(ELEMENTS[0], &server.url_of(RECORDING));
    player.set_state(gst::State::Paused).unwrap();
    server
        .wait_until(PATIENCE, |counts| counts.pauses == 1)
        .unwrap();
    let before = items.count();
    player.set_state(gst::State::Playing).unwrap();
    let items = items.wait_until(|items| frames(&items[before.min(items.len())..]).len() > 10);
    let came = frames(&items);
    assert!(came.is_sorted() && !came.contains(&200), "{came:?}");
}

for_both_managers!(a_recording_whose_connection_is_lost_goes_on_from_its_place);
fn a_recording_whose_connection_is_lost_goes_on_from_its_place() {
    let server = server();
    let (player, items) = playing(ELEMENTS[0], &server.url_of(RECORDING));
    assert!(player.pipeline.send_event(seek(1.0, FLUSH, 6 * S)));
    items.wait_until(|items| frames(items).contains(&160));
    server.close_connections();
    server
        .wait_until(PATIENCE, |counts| counts.accepted == 2)
        .unwrap();
    let items = items.wait_until(|items| frames(items).contains(&220));
    let came = frames(&items);
    let place = came.iter().position(|frame| *frame == 150).unwrap();
    assert!(came[place..].iter().all(|frame| *frame >= 150), "{came:?}");
}

for_both_managers!(a_seek_while_paused_is_where_it_goes_on);
fn a_seek_while_paused_is_where_it_goes_on() {
    let server = server();
    for element in ELEMENTS {
        let pauses = server.counts().pauses;
        let (player, items) = playing(element, &server.url_of(RECORDING));
        player.set_state(gst::State::Paused).unwrap();
        server
            .wait_until(PATIENCE, |counts| counts.pauses > pauses)
            .unwrap();
        assert!(
            player.pipeline.send_event(seek(1.0, FLUSH, 6 * S)),
            "{element}"
        );
        player.set_state(gst::State::Playing).unwrap();
        let items = items.wait_until(|items| frames(items).contains(&155));
        let came = frames(&items);
        let landing = came.iter().position(|frame| *frame >= 150).unwrap();
        assert_eq!(came[landing], 150, "{element}: {came:?}");
    }
}

for_both_managers!(a_seek_before_it_plays_is_where_it_begins);
fn a_seek_before_it_plays_is_where_it_begins() {
    let server = server();
    for element in ELEMENTS {
        let player = Player::new(&format!(
            "{element}name=source location={} latency=100 ! fakesink name=sink sync=false async=false",
            server.url_of(RECORDING)
        ));
        let items = Items::on(&player.element("sink").static_pad("sink").unwrap());
        assert!(
            player.element("source").send_event(seek(1.0, FLUSH, 4 * S)),
            "{element}"
        );
        player.set_state(gst::State::Playing).unwrap();
        let items = items.wait_until(|items| frames(items).len() > 5);
        assert_eq!(frames(&items)[..3], [100, 101, 102], "{element}");
    }
}

/// A description with an end.
const RECORDED: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=rec\r\nt=0 0\r\na=range:npt=0-60\r\n\
    m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\n";

for_both_managers!(a_server_that_refuses_a_seek_plays_on);
fn a_server_that_refuses_a_seek_plays_on() {
    init();
    for (method, status) in [("PAUSE", 455), ("PLAY", 457), ("PLAY", 455)] {
        let server = MockServer::builder()
            .camera("/cam", Camera::video().sdp(RECORDED))
            .start();
        let player = Player::playing(&format!(
            "rtspmuxsrc location={} latency=0 ! fakesink name=sink sync=false async=false",
            server.url("/cam")
        ));
        let pad = player.element("sink").static_pad("sink").unwrap();
        let (seen, items) = (player.seen_by("sink"), Items::on(&pad));
        assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
        server.send_packets("/cam", 5);
        seen.wait_for(5);
        let refused = Reaction::status(status);
        server.add_rule(Rule::new(method, refused).times(1));
        assert!(
            !player.pipeline.send_event(seek(1.0, FLUSH, 5 * S)),
            "{method} {status}"
        );
        assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
        server.send_packets("/cam", 5);
        seen.wait_for(10);
        items.wait_until(|items| !items.contains(&Item::FlushStart));
        player.assert_no_error();
        assert_eq!(server.accepted(), 1);
    }
}

for_both_managers!(a_live_camera_is_not_sought);
fn a_live_camera_is_not_sought() {
    init();
    let server = GstServer::builder().start().unwrap();
    let (player, items) = playing(ELEMENTS[0], &server.url(0));
    assert!(!player.pipeline.send_event(seek(1.0, FLUSH, S)));
    let before = items.count();
    items.wait_until(|items| items.len() > before + 5);
    assert_eq!(server.counts().pauses, 0);
}

for_both_managers!(what_comes_between_the_answers_is_sorted_by_rtp_info);
/// Four packets come before the answer to each PLAY. Of those of the second one, two are from the old place.
fn what_comes_between_the_answers_is_sorted_by_rtp_info() {
    init();
    let answer = |response: &mut Response| {
        let info = "url=stream=0;seq=11;rtptime=0";
        response.headers.set("RTP-Info", info);
    };
    let server = MockServer::builder()
        .camera("/cam", Camera::video().sdp(RECORDED))
        .behaviour(Behaviour::PacketsBeforePlayAnswer(4))
        .rule(Rule::new("PLAY", Reaction::Edit(Arc::new(answer))).skip(1))
        .start();
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} latency=0 ! fakesink name=sink sync=false async=false",
        server.url("/cam")
    ));
    let seen = player.seen_by("sink");
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam", 5);
    seen.wait_for(9);
    assert!(player.pipeline.send_event(seek(1.0, FLUSH, 5 * S)));
    server.send_packets("/cam", 3);
    let buffers = seen.wait_for(14);
    let number = |buffer: &gst::Buffer| {
        let packet = RtpPacket::parse(&buffer.map_readable().unwrap());
        packet.unwrap().sequence
    };
    let numbers: Vec<u16> = buffers.iter().map(number).collect();
    let expected: Vec<u16> = (0..9).chain(11..16).collect();
    assert_eq!(numbers, expected);
}

/// Fifteen cameras and a recording, on one connection.
#[test]
fn a_seek_costs_the_others_of_its_connection_no_frame() {
    let server = GstServer::builder().mounts(15).recording(recording());
    let server = server.start().unwrap();
    let url = |camera: usize| match camera {
        15 => server.url_of(RECORDING),
        camera => server.url(camera),
    };
    let branch = |camera: usize| {
        let url = url(camera);
        format!(
            "rtspmuxsrc location={url} latency=0 ! fakesink name=sink{camera} sync=false async=false "
        )
    };
    let player = Player::playing(&(0..16).map(branch).collect::<String>());
    let pad = |camera: usize| player.element(&format!("sink{camera}")).static_pad("sink");
    let items: Vec<_> = (0..16)
        .map(|camera| Items::on(&pad(camera).unwrap()))
        .collect();
    let has = |count: usize| move |items: &[Item]| frames(items).len() >= count;
    items
        .iter()
        .for_each(|items| drop(items.wait_until(has(10))));
    for second in [6, 2, 4] {
        assert!(
            player
                .element("sink15")
                .send_event(seek(1.0, FLUSH, second * S))
        );
    }
    for (camera, items) in items.iter().enumerate().take(15) {
        let more = items.count() + 25;
        let came = frames(&items.wait_until(has(more)));
        let all: Vec<u64> = (came[0]..).take(came.len()).collect();
        assert_eq!(came, all, "camera {camera}");
    }
    assert_eq!(server.counts().accepted, 1);
    player.assert_no_error();
}

for_both_managers!(a_seek_drops_what_waits_behind_a_sink_that_blocks);
fn a_seek_drops_what_waits_behind_a_sink_that_blocks() {
    init();
    let answer = |response: &mut Response| {
        let info = "url=stream=0;seq=200;rtptime=0";
        response.headers.set("RTP-Info", info);
    };
    let server = MockServer::builder()
        .camera("/cam", Camera::video().sdp(RECORDED))
        .rule(Rule::new("PLAY", Reaction::Edit(Arc::new(answer))).skip(1))
        .start();
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} latency=0 ! fakesink name=sink sync=false async=false",
        server.url("/cam")
    ));
    let seen = player.seen_by("sink");
    let pad = player.element("sink").static_pad("sink").unwrap();
    let blocked = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
    let (told, is_blocked) = mpsc::channel();
    let probe = pad.add_probe(blocked, move |_, _| {
        // The test may be over.
        let _ = told.send(());
        gst::PadProbeReturn::Ok
    });
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    server.send_packets("/cam", 200);
    is_blocked.recv_timeout(PATIENCE).unwrap();
    std::thread::scope(|scope| {
        let sought = scope.spawn(|| player.pipeline.send_event(seek(1.0, FLUSH, 5 * S)));
        assert!(sought.join().unwrap());
    });
    pad.remove_probe(probe.unwrap());
    server.send_packets("/cam", 5);
    let number = |buffer: &gst::Buffer| {
        let packet = RtpPacket::parse(&buffer.map_readable().unwrap());
        packet.unwrap().sequence
    };
    let is_there = |buffers: &[gst::Buffer]| buffers.last().map(number) == Some(204);
    let numbers: Vec<u16> = seen.wait_until(is_there).iter().map(number).collect();
    assert!(numbers.ends_with(&[200, 201, 202, 203, 204]), "{numbers:?}");
    assert!(
        numbers.len() < 100,
        "{} of the old place",
        numbers.len() - 5
    );
}
