//! One consumer that stops, among sixteen on one connection: it alone pays for it (fault F32).
//!
//! The server is a real gst-rtsp-server, and every picture says which one it is. In an ordinary run
//! the consumer is held until its queue has overflowed; `RTSPMUX_SECONDS=60 cargo test --release
//! --test isolation minute -- --ignored --nocapture` holds it for a minute and compares how regular
//! the others' packets come with and without that.
#![allow(clippy::unwrap_used, reason = "a test binary")]
#![allow(
    clippy::disallowed_methods,
    reason = "packets are timed by the wall clock"
)]

#[path = "support/gst_server.rs"]
mod gst_server;
#[path = "isolation/viewers.rs"]
mod viewers;

use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;

use gst_server::{GstServer, clip::FRAME_RATE};
use viewers::{Delivered, Viewers};

/// Far more than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

const CAMERAS: usize = 16;
const HELD: usize = 7;

fn start(cameras: usize, properties: &[(&str, &str)]) -> (GstServer, Viewers) {
    viewers::init();
    let server = GstServer::builder().mounts(cameras).start().unwrap();
    let urls: Vec<String> = (0..cameras).map(|camera| server.url(camera)).collect();
    let viewers = Viewers::start(&urls, properties);
    (server, viewers)
}

/// Holds one viewer until its queue has overflowed, and the others have had some pictures more.
fn hold_until_overflow(viewers: &Viewers, held: usize) {
    viewers.hold(held);
    while viewers.stat(held, "overflows") == 0 {
        viewers.wait_for_more_frames(&others(viewers, held), 5);
    }
    viewers.wait_for_more_frames(&others(viewers, held), FRAME_RATE);
}

fn others(viewers: &Viewers, held: usize) -> Vec<usize> {
    (0..viewers.count())
        .filter(|camera| *camera != held)
        .collect()
}

/// Packets that are missing between those that came.
fn missing(delivered: &[Delivered]) -> u64 {
    let pairs = delivered.iter().zip(delivered.iter().skip(1));
    pairs
        .map(|(one, next)| u64::from(next.sequence.wrapping_sub(one.sequence)) - 1)
        .sum()
}

/// Where one consumer is held and let go again: it has one gap, which says so, and all else it had
/// to have; no other element has any.
fn check(viewers: &Viewers, held: usize) {
    for camera in others(viewers, held) {
        let delivered = viewers.delivered(camera);
        assert_eq!(missing(&delivered), 0, "camera {camera}");
        assert_eq!(viewers.stat(camera, "drops"), 0, "camera {camera}");
        assert!(
            delivered
                .iter()
                .flat_map(|packet| packet.stamp)
                .all(|stamp| stamp.camera == camera)
        );
    }
    let delivered = viewers.delivered(held);
    let gaps: Vec<usize> = (1..delivered.len())
        .filter(|at| missing(&delivered[at - 1..=*at]) > 0)
        .collect();
    assert!(!gaps.is_empty());
    for at in &gaps {
        assert!(delivered[*at].discont, "packet {at}");
    }
    assert!(
        delivered
            .iter()
            .skip(1)
            .filter(|packet| packet.discont)
            .count()
            <= gaps.len()
    );
    for pair in delivered.windows(2) {
        assert!(
            pair[0].pts.is_some() && pair[0].pts <= pair[1].pts,
            "{pair:?} of {gaps:?}"
        );
    }
    assert_eq!(missing(&delivered), viewers.stat(held, "drops"));
    assert_eq!(viewers.outages(held), 0);
    let overflows = viewers.stat(held, "overflows");
    assert!((1..=gaps.len() as u64).contains(&overflows), "{overflows}");
    assert!(viewers.stat(held, "dropped-bytes") > 0);
}

/// The first pictures after gaps.
fn frames_after_gaps(delivered: &[Delivered]) -> Vec<u64> {
    let gaps = (1..delivered.len()).filter(|at| missing(&delivered[at - 1..=*at]) > 0);
    let first = |at: usize| delivered[at..].iter().find_map(|packet| packet.stamp);
    gaps.filter_map(first).map(|stamp| stamp.frame).collect()
}

#[test]
fn f32_one_of_sixteen_consumers_stops_and_goes_on_with_a_keyframe() {
    let (server, viewers) = start(CAMERAS, &[]);
    viewers.wait_for_more_frames(&[HELD], FRAME_RATE * 2);
    hold_until_overflow(&viewers, HELD);
    viewers.release();
    viewers.wait_for_keyframe_after_gap(HELD);
    viewers.wait_for_more_frames(&[HELD], FRAME_RATE);
    assert_eq!(server.counts().accepted, 1);
    check(&viewers, HELD);
    for frame in frames_after_gaps(&viewers.delivered(HELD)) {
        assert_eq!(frame % FRAME_RATE as u64, 0, "frame {frame} is no keyframe");
    }
    viewers.assert_decoded(HELD);
    let qos = viewers.qos(HELD);
    assert!(qos.is_live && qos.began.is_some(), "{qos:?}");
    assert_eq!(qos.dropped as u64, viewers.stat(HELD, "drops"), "{qos:?}");
    assert!(qos.processed > 0, "{qos:?}");
    assert!(qos.gap > Some(gst::ClockTime::from_mseconds(40)), "{qos:?}");
    viewers.stop();
}

#[test]
fn f32_with_drop_oldest_what_comes_after_is_the_newest() {
    let (_server, viewers) = start(4, &[("overflow-policy", "drop-oldest"), ("latency", "200")]);
    viewers.wait_for_more_frames(&[1], FRAME_RATE);
    hold_until_overflow(&viewers, 1);
    let newest = viewers.newest_frame(0);
    viewers.release();
    viewers.wait_for_frame(1, newest);
    viewers.wait_for_more_frames(&[1], FRAME_RATE);
    check(&viewers, 1);
    viewers.stop();
}

#[test]
fn block_holds_up_the_server_and_loses_nothing() {
    let properties = [("overflow-policy", "block"), ("multiplex", "never")];
    let (server, viewers) = start(2, &properties);
    viewers.wait_for_more_frames(&[1], FRAME_RATE);
    viewers.hold(1);
    viewers.wait_for_more_frames(&[0], FRAME_RATE * 6);
    viewers.release();
    viewers.wait_for_frame(1, viewers.newest_frame(0));
    assert_eq!(server.counts().accepted, 2);
    for camera in 0..2 {
        assert_eq!(missing(&viewers.delivered(camera)), 0);
        assert_eq!(viewers.stat(camera, "drops"), 0);
    }
    viewers.stop();
}

#[test]
fn block_on_a_shared_connection_is_refused_at_once() {
    viewers::init();
    let source = gst::ElementFactory::make("rtspmuxsrc")
        .property("location", "rtsp://127.0.0.1:9/cam")
        .property_from_str("overflow-policy", "block")
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    source.set_bus(Some(&bus));
    assert!(source.set_state(gst::State::Paused).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    let error = error.error();
    assert!(error.matches(gst::ResourceError::Settings), "{error}");
    assert!(error.message().contains("overflow-policy=block"), "{error}");
    source.set_state(gst::State::Null).unwrap();
}

/// How far apart the packets of these came that came between two moments, the 99th percentile.
fn spacing(viewers: &Viewers, cameras: &[usize], from: usize) -> Duration {
    let mut spacings: Vec<Duration> = Vec::new();
    for camera in cameras {
        let delivered = viewers.delivered(*camera);
        let times = delivered.iter().skip(from).map(|packet| packet.at);
        let next = times.clone().skip(1);
        spacings.extend(next.zip(times).map(|(next, one)| next - one));
    }
    spacings.sort();
    spacings[spacings.len() * 99 / 100]
}

#[test]
#[ignore = "takes minutes; for its figures"]
fn f32_a_minute() {
    let seconds = std::env::var("RTSPMUX_SECONDS").ok();
    let seconds: usize = seconds.and_then(|n| n.parse().ok()).unwrap_or(60);
    let spacing_with = |is_held: bool| {
        let (server, viewers) = start(CAMERAS, &[]);
        viewers.wait_for_more_frames(&[HELD], FRAME_RATE * 2);
        let others = others(&viewers, HELD);
        let begin = viewers.delivered(others[0]).len();
        if is_held {
            viewers.hold(HELD);
        }
        for _ in 0..seconds {
            viewers.wait_for_more_frames(&others, FRAME_RATE);
        }
        let spacing = spacing(&viewers, &others, begin);
        if is_held {
            println!(
                "held for {seconds} s: {} of {} packets dropped in {} overflows; {} kB resident",
                viewers.stat(HELD, "drops"),
                viewers.stat(HELD, "packets"),
                viewers.stat(HELD, "overflows"),
                viewers::resident_kb()
            );
            viewers.release();
            viewers.wait_for_keyframe_after_gap(HELD);
            viewers.wait_for_more_frames(&[HELD], FRAME_RATE);
            check(&viewers, HELD);
        } else {
            println!("undisturbed: {} kB resident", viewers::resident_kb());
        }
        assert_eq!(server.counts().accepted, 1);
        viewers.stop();
        spacing
    };
    let (undisturbed, beside) = (spacing_with(false), spacing_with(true));
    let ratio = beside.as_secs_f64() / undisturbed.as_secs_f64();
    println!(
        "99th percentile of the others' packet spacing: {beside:?}, undisturbed {undisturbed:?}: {ratio:.2}"
    );
    assert!(ratio <= 1.2, "{ratio}");
}
