//! Both managers give the same: pads, caps, times and flags, buffer by buffer.

use std::collections::VecDeque;

use gst::prelude::*;
use gstreamer as gst;

use crate::player::{PATIENCE, Player};
use crate::support::mock_server::{Camera, MockServer, SessionView};
use crate::support::rtsp::{Frame, RtpPacket, SenderReport};

/// What is compared of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Taken {
    sequence: u16,
    /// Since the last buffer that began anew.
    time: gst::ClockTime,
    is_discont: bool,
    has_dts: bool,
    data: Vec<u8>,
}

fn taken(buffers: &[gst::Buffer]) -> Vec<Taken> {
    let mut begin = gst::ClockTime::ZERO;
    let mut source = None;
    let take = |buffer: &gst::Buffer| {
        let data = buffer.map_readable().unwrap().to_vec();
        let packet = RtpPacket::parse(&data).unwrap();
        let time = buffer.pts().unwrap();
        if source.replace(packet.ssrc) != Some(packet.ssrc) {
            begin = time;
        }
        Taken {
            sequence: packet.sequence,
            time: time - begin,
            is_discont: buffer.flags().contains(gst::BufferFlags::DISCONT),
            has_dts: buffer.dts().is_some(),
            data: data.clone(),
        }
    };
    buffers.iter().map(take).collect()
}

/// The same packets to an element with each manager, in one pipeline, in pieces; gives what came out.
fn play(packets: &[RtpPacket], at_a_time: usize) -> [Vec<Taken>; 2] {
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .start();
    let branch = |manager: &str| {
        format!(
            "rtspmuxsrc  manager={manager} location={} latency=0 ! fakesink name={manager} sync=false async=false ",
            server.url("/cam")
        )
    };
    let player = Player::playing(&(branch("light") + &branch("rtpbin")));
    let seen = ["light", "rtpbin"].map(|manager| player.seen_by(manager));
    assert!(server.wait_until(|view| view.playing() == 2, PATIENCE));
    let sessions = server.view().sessions;
    let mut sent = 0;
    for piece in packets.chunks(at_a_time) {
        for session in &sessions {
            let frames = piece.iter().flat_map(|packet| frame(session, packet));
            server.send_raw(session.connection, &frames.collect::<Vec<_>>());
        }
        sent += piece.len();
        // A packet that is late then is late by the time that the others took.
        seen.iter().for_each(|seen| drop(seen.wait_for(sent)));
    }
    player.assert_no_error();
    seen.map(|seen| taken(&seen.wait_for(0)))
}

fn frame(session: &SessionView, packet: &RtpPacket) -> Vec<u8> {
    Frame {
        channel: session.tracks[0].1.0,
        payload: packet.to_bytes(),
    }
    .to_bytes()
}

fn packet(sequence: u16, timestamp: u32) -> RtpPacket {
    RtpPacket {
        payload_type: 96,
        sequence,
        timestamp,
        ssrc: Camera::ssrc(0, 0),
        marker: true,
        payload: vec![0x41, 1, 2, sequence as u8],
    }
}

/// How far the two are apart at most: from 1.25 on rtpbin no longer corrects the skew of packets that come without a time of arrival,
/// as those of a TCP connection do. Then they agree to within a picture.
fn agreement() -> gst::ClockTime {
    if gst::version() >= (1, 25, 0, 0) {
        gst::ClockTime::from_mseconds(40)
    } else {
        gst::ClockTime::MSECOND
    }
}

/// They agree to within a millisecond, and to the octet in the rest.
fn assert_same([light, rtpbin]: [Vec<Taken>; 2]) {
    assert_eq!(light.len(), rtpbin.len());
    for (light, rtpbin) in light.iter().zip(&rtpbin) {
        let apart = light.time.absdiff(rtpbin.time);
        assert!(apart < agreement(), "{light:?} {rtpbin:?}");
        let light = Taken {
            time: rtpbin.time,
            ..light.clone()
        };
        assert_eq!(light, *rtpbin);
    }
}

// What comes at which moment is not in the hand of these tests, and times follow it a little. So they
// are short; long and exact ones are in `src/rtspsrc/manager/light/reference_tests.rs`.

#[test]
fn sequence_numbers_and_times_that_wrap_are_stamped_alike() {
    let packets: Vec<_> = (0..25u16)
        .map(|n| {
            let time = (u32::MAX - 4_000).wrapping_add(u32::from(n) * 360);
            packet(65_525u16.wrapping_add(n), time)
        })
        .collect();
    assert_same(play(&packets, 7));
}

#[test]
fn pictures_that_are_sent_behind_later_ones_are_stamped_alike() {
    let times = [0u32, 4, 2, 1, 3, 8, 6, 5, 7, 12, 10, 9, 11];
    let packets: Vec<_> = times
        .iter()
        .enumerate()
        .map(|(n, time)| packet(n as u16, 900_000 + time * 360))
        .collect();
    assert_same(play(&packets, 5));
}

/// It begins at its arrival, or where the last one was. What is held until it is believed is not lost.
#[test]
fn f50_another_source_comes_out_whole() {
    let other = |n: u16| RtpPacket {
        ssrc: 0xdead_beef,
        ..packet(n + 900, u32::from(n) * 360 + 77)
    };
    let packets: Vec<_> = (0..25)
        .map(|n| packet(n, u32::from(n) * 360))
        .chain((0..25).map(other))
        .collect();
    let last = |packet: &RtpPacket| packet.payload[3];
    let sent: Vec<u8> = packets.iter().map(last).collect();
    for taken in play(&packets, 25) {
        let came: Vec<u8> = taken
            .iter()
            .map(|taken| *taken.data.last().unwrap())
            .collect();
        assert_eq!(came, sent);
        let times: Vec<_> = taken.iter().map(|taken| taken.time).collect();
        assert!(times.chunks(25).all(<[_]>::is_sorted), "{times:?}");
    }
}

/// What comes twice, or behind its successors, is left out; nothing goes back.
#[test]
fn packets_that_come_twice_come_out_once() {
    let mut packets: VecDeque<_> = (0..40).map(|n| packet(n, u32::from(n) * 3_600)).collect();
    packets.insert(20, packet(18, 18 * 3_600));
    packets.insert(30, packets[29].clone());
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .start();
    let player = Player::playing(&format!(
        "rtspmuxsrc location={} latency=0 ! fakesink name=sink sync=false async=false",
        server.url("/cam")
    ));
    let seen = player.seen_by("sink");
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    let session = &server.view().sessions[0];
    let frames = packets.iter().flat_map(|packet| frame(session, packet));
    server.send_raw(session.connection, &frames.collect::<Vec<_>>());
    let taken = taken(&seen.wait_for(40));
    let sequences: Vec<u16> = taken.iter().map(|taken| taken.sequence).collect();
    assert_eq!(sequences, (0..40).collect::<Vec<_>>());
    assert!(taken.is_sorted_by_key(|taken| taken.time));
}

/// What was received is told to the server and, in `stats`, to the operator.
#[test]
fn reports_are_read_and_written() {
    let server = MockServer::builder()
        .camera("/cam", Camera::video())
        .start();
    let player = Player::playing(&format!(
        "rtspmuxsrc name=source manager=light location={} latency=0 ! fakesink name=sink sync=false async=false",
        server.url("/cam")
    ));
    let seen = player.seen_by("sink");
    assert!(server.wait_until(|view| view.playing() == 1, PATIENCE));
    let session = server.view().sessions.remove(0);
    // One packet of eleven is missing.
    for sequence in (0..11).filter(|sequence| *sequence != 5) {
        let packet = packet(sequence, u32::from(sequence) * 3_600);
        server.send_raw(session.connection, &frame(&session, &packet));
    }
    seen.wait_for(10);
    let ntp = 0x1234_5678_9abc_def0;
    let report = SenderReport {
        ssrc: Camera::ssrc(0, 0),
        ntp,
        timestamp: 36_000,
        ..SenderReport::default()
    };
    let channel = session.tracks[0].1.1;
    let report = Frame {
        channel,
        payload: report.to_bytes(),
    };
    server.send_raw(session.connection, &report.to_bytes());
    assert!(server.wait_until(|view| !view.frames.is_empty(), PATIENCE));
    let report = &server.frames_from_client()[0];
    assert_eq!(report.channel, channel);
    let word = |at: usize| u32::from_be_bytes(report.payload[at..at + 4].try_into().unwrap());
    assert_eq!(word(0) >> 16, 0x81c9, "a receiver report of one source");
    assert_eq!(word(8), Camera::ssrc(0, 0));
    assert_eq!(word(12), (256 / 11) << 24 | 1, "lost");
    assert_eq!(word(16), 10, "highest");
    assert_eq!(word(24), 0x5678_9abc, "last sender report");
    assert!(word(28) > 0, "delay");
    assert_eq!(word(32) >> 16, 0x81ca, "a source description");

    let stats: gst::Structure = player.element("source").property("stats");
    let streams = stats.get::<gst::Array>("streams").unwrap();
    let stream = streams[0].get::<gst::Structure>().unwrap();
    assert_eq!(stream.get::<u64>("lost"), Ok(1));
    assert_eq!(stream.get::<u32>("highest-sequence"), Ok(10));
    assert_eq!(stream.get::<u64>("sr-ntp-time"), Ok(ntp));
    assert_eq!(stream.get::<u32>("sr-rtp-time"), Ok(36_000));
    assert_eq!(stream.get::<u64>("reports-sent"), Ok(1));
    assert!(stream.get::<u32>("jitter").is_ok());
}
