//! The order that comes out, and what begins anew.

use bytes::Bytes;

use super::*;
use crate::{mux::PacketKind, rtspsrc::threads::timer};

const MS: Duration = Duration::from_millis(1);
/// Of a picture, in RTP time.
const PICTURE: u32 = 3_600;

/// 35 and 36 are pictures, 13 is comfort noise; the description does not name others.
fn kind_of(payload_type: u8) -> PayloadKind {
    match payload_type {
        35 | 36 => PayloadKind::Media(90_000),
        13 => PayloadKind::Beside,
        _ => PayloadKind::Unknown,
    }
}

/// A stream of pictures of two packets each, 25 a second.
struct Stream {
    sequencer: Sequencer,
    now: Instant,
    out: Vec<(Packet, Marks)>,
}

impl Stream {
    fn new(puts_in_order: bool) -> Self {
        Self {
            sequencer: Sequencer::new(puts_in_order),
            now: timer::now(),
            out: Vec::new(),
        }
    }

    fn send(&mut self, header: RtpHeader, discontinuity: bool) {
        let packet = Packet {
            stream: 0,
            kind: PacketKind::Rtp,
            header: Some(header),
            payload: Bytes::new(),
            received: self.now,
            discontinuity,
        };
        let kind = kind_of(header.payload_type);
        match self.sequencer.pass(&packet, kind) {
            Some(marks) => self.out.push((packet, marks)),
            None => self.sequencer.handle_packet(packet, kind, &mut self.out),
        }
    }

    /// Packets of payload type 35 with these numbers; RTP time goes on with the numbers, from `time` on.
    fn send_all(&mut self, numbers: impl IntoIterator<Item = u16>, time: u32) {
        for number in numbers {
            self.send(header(number, time), false);
            self.now += 20 * MS;
        }
    }

    /// Number and marks of what has come out.
    fn take(&mut self) -> Vec<(u16, bool)> {
        let number = |(packet, marks): (Packet, Marks)| {
            assert!(marks.discont || !marks.anew);
            (packet.header.unwrap().sequence, marks.anew)
        };
        self.out.drain(..).map(number).collect()
    }
}

fn header(number: u16, time: u32) -> RtpHeader {
    RtpHeader {
        payload_type: 35,
        sequence: number,
        timestamp: time
            .wrapping_add_signed(i32::from(number.cast_signed().div_euclid(2)) * PICTURE as i32),
        ssrc: 1,
    }
}

fn in_order(numbers: impl IntoIterator<Item = u16>) -> Vec<(u16, bool)> {
    numbers.into_iter().map(|number| (number, false)).collect()
}

#[test]
fn packets_that_were_swapped_come_out_in_order_and_at_once() {
    let mut stream = Stream::new(true);
    stream.send_all([65_533, 65_535, 65_534, 2, 1, 0, 3, 5, 5, 4, 3], 0);
    let mut expected = in_order([65_533, 65_534, 65_535, 0, 1, 2, 3, 4, 5]);
    expected[0].1 = true;
    assert_eq!(stream.take(), expected);
    assert_eq!(stream.sequencer.deadline(), None);
}

#[test]
fn a_packet_that_is_lost_is_waited_for_for_a_tenth_of_a_second() {
    let mut stream = Stream::new(true);
    stream.send_all([1, 2, 4], 0);
    assert_eq!(stream.take().len(), 2);
    let due = stream.sequencer.deadline().unwrap();
    let sent = stream.now - 20 * MS;
    assert_eq!(due, sent + MAX_WAIT);
    stream.sequencer.give_up_waiting(due - MS, &mut stream.out);
    assert_eq!(stream.take(), []);
    stream.sequencer.give_up_waiting(due, &mut stream.out);
    assert!(stream.out[0].1.discont);
    assert_eq!(stream.take(), in_order([4]));
    // It is too late now.
    stream.send_all([3, 5], 0);
    assert_eq!(stream.take(), in_order([5]));
    // What is known to be lost, or too much, is not waited for.
    stream.send(header(7, 0), true);
    stream.now += 2_000 * MS;
    stream.send(header(100, 0), false);
    assert_eq!(stream.take(), in_order([7, 100]));
    // In a burst as many wait as one picture has.
    (102..200).for_each(|number| stream.send(header(number, 0), false));
    assert_eq!(stream.take(), in_order(102..200));
}

#[test]
fn a_jitterbuffer_gets_packets_as_they_come() {
    let mut stream = Stream::new(false);
    stream.send_all([1, 3, 2, 2, 6], 0);
    let mut expected = in_order([1, 3, 2, 6]);
    expected[0].1 = true;
    assert_eq!(stream.take(), expected);
}

/// The encoder starts again behind number 200. Each line: the numbers and RTP time of its new packets.
#[test]
fn f50_an_encoder_that_starts_again_loses_no_packet() {
    for puts_in_order in [true, false] {
        for (first, time) in [
            (201, 0x1234_5678),
            (201, 0x8000_0000),
            (0, 5),
            (141, 30 * PICTURE),
            (190, 500 * PICTURE),
            (60_736, 0),
            (20_200, 0),
            (205, 7_000_000),
        ] {
            let mut stream = Stream::new(puts_in_order);
            stream.send_all(1..=200, 0);
            stream.take();
            let new: Vec<u16> = (0..20).map(|n| first + n).collect();
            stream.send_all(new.clone(), time);
            let mut expected = in_order(new);
            expected[0].1 = true;
            assert_eq!(stream.take(), expected, "{first} {time} {puts_in_order}");
        }
    }
}

#[test]
fn f51_one_odd_packet_changes_nothing() {
    let odd: [fn(&mut RtpHeader); 6] = [
        |it| it.sequence = it.sequence.wrapping_add(30_000),
        |it| it.sequence = it.sequence.wrapping_sub(30_000),
        |it| it.sequence -= 50,
        |it| it.timestamp ^= 0x4000_0000,
        |it| it.payload_type = 36,
        |it| (it.sequence, it.timestamp) = (7, 7),
    ];
    for (n, change) in odd.iter().enumerate() {
        let mut stream = Stream::new(false);
        stream.send_all(1..=200, 0);
        stream.take();
        let mut changed = header(201, 0);
        change(&mut changed);
        stream.send(changed, false);
        stream.send_all(202..220, 0);
        assert_eq!(stream.take(), in_order(202..220), "{n}");
    }
}

#[test]
fn f51_after_anything_at_all_good_packets_come_out() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for puts_in_order in [true, false] {
        let mut stream = Stream::new(puts_in_order);
        for round in 0..300 {
            for _ in 0..100 {
                let (one, two) = (random(), random());
                let header = RtpHeader {
                    payload_type: (one % 40) as u8,
                    sequence: (one >> 16) as u16,
                    timestamp: (one >> 32) as u32,
                    ssrc: (two % 3) as u32,
                };
                stream.send(header, two % 50 == 0);
                stream.now += Duration::from_millis(two % 30);
            }
            stream.out.clear();
            stream.send_all(1_000..1_100, 0);
            let good: Vec<u16> = stream.take().iter().map(|(number, _)| *number).collect();
            assert!(
                good.ends_with(&(1_002..1_100).collect::<Vec<_>>()),
                "{round}"
            );
            assert!(stream.sequencer.waiting.len() <= MAX_WAITING);
        }
    }
}

#[test]
fn f42_behind_lost_packets_a_source_goes_on_or_begins_anew_at_once() {
    const HZ: u32 = 90_000;
    // Sequence number and time, and what came 4 s after (500, 1 000 000).
    let table = [
        (501, 1_000_000, true),
        (620, 1_000_000 + 4 * HZ, true),
        (620, 1_000_000 + 5 * HZ, true),
        (620, 1_000_000 + 6 * HZ, false),
        (620, 1_000_000 - 2 * HZ, false),
        (620, 77, false),
        (300, 1_000_000, false),
        (3_400, 1_000_000 + 4 * HZ, true),
        (3_500, 1_000_000 + 4 * HZ, false),
        (40_000, 1_000_000 + 4 * HZ, false),
    ];
    for (sequence, timestamp, goes_on) in table {
        let mut stream = Stream::new(true);
        let header = |sequence, timestamp| RtpHeader {
            sequence,
            timestamp,
            ..header(0, 0)
        };
        stream.send(header(500, 1_000_000), false);
        stream.take();
        stream.now += 4_000 * MS;
        stream.send(header(sequence, timestamp), true);
        assert_eq!(
            stream.take(),
            [(sequence, !goes_on)],
            "{sequence} {timestamp}"
        );
    }
}

#[test]
fn another_source_goes_on_or_begins_anew_with_its_first_packet() {
    let mut stream = Stream::new(true);
    stream.send_all(1..=10, 0);
    stream.take();
    for (number, ssrc) in [(11, 0), (12, 1), (13, 7), (5_000, 8), (4_999, 9)] {
        stream.send(
            RtpHeader {
                ssrc,
                ..header(number, 0)
            },
            false,
        );
    }
    let expected = [
        (11, false),
        (12, false),
        (13, false),
        (5_000, true),
        (4_999, true),
    ];
    assert_eq!(stream.take(), expected);
}

#[test]
fn f41_the_payload_type_follows_the_media_and_nothing_beside_it() {
    let mut stream = Stream::new(true);
    let typed = |number, payload_type| RtpHeader {
        payload_type,
        ..header(number, 0)
    };
    for (number, payload_type) in [
        (1, 13),
        (2, 35),
        (3, 13),
        (4, 35),
        (5, 36),
        (6, 36),
        (7, 13),
        (8, 36),
    ] {
        stream.send(typed(number, payload_type), false);
    }
    let expected = [1, 2, 3, 4, 5, 6, 7, 8].map(|number| (number, [1, 2, 5].contains(&number)));
    assert_eq!(stream.take(), expected);
}

#[test]
fn only_the_first_packet_is_stamped_and_the_first_after_a_long_gap() {
    let mut stream = Stream::new(true);
    let mut stamped = |number, after: Duration, discontinuity| {
        stream.now += after;
        let passed = stream.now.saturating_duration_since(timer::now()).as_secs() as u32;
        stream.send(header(number, passed * 90_000), discontinuity);
        let stamps = stream.out.drain(..).map(|(_, marks)| marks.stamp);
        stamps.collect::<Vec<_>>()
    };
    assert_eq!(stamped(1, MS, false), [true]);
    assert_eq!(stamped(2, MS, false), [false]);
    assert_eq!(stamped(3, MS, true), [false]);
    assert_eq!(stamped(4, LONG_GAP, true), [true]);
    // No packet is missing: a camera may be silent for that long.
    assert_eq!(stamped(5, LONG_GAP, false), [false]);
}

#[test]
fn media_is_counted_by_its_own_time() {
    let mut stream = Stream::new(true);
    stream.send_all(0..=50, 0);
    assert_eq!(stream.sequencer.passed(), Duration::from_secs(1));
    stream.send_all(0..=50, 0x7000_0000);
    assert_eq!(stream.sequencer.passed(), Duration::from_secs(2));
    stream.sequencer.reset();
    assert_eq!(stream.sequencer.passed(), Duration::ZERO);
}
