//! What is dropped, policy by policy, and that nothing is lost uncounted.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use url::Url;

use super::*;
use crate::mux::{
    delivery::{
        Consumer, Producer, stream,
        tests::{Wakes, push, queue_with, rtcp, rtp, take},
    },
    error::Error,
};

const POLICIES: [OverflowPolicy; 3] = [
    OverflowPolicy::DropToKeyframe,
    OverflowPolicy::DropOldest,
    OverflowPolicy::Block,
];

pub(crate) const VIDEO: usize = 0;
pub(crate) const AUDIO: usize = 1;
/// The stream of the packet that fills the queue.
const FILLER: usize = 2;

/// What a packet of H.264 carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    ParameterSets,
    RecoveryPoint,
    Key,
    Picture,
    More,
}

impl Part {
    fn payload(self) -> &'static [u8] {
        match self {
            Self::ParameterSets => &[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xce],
            Self::RecoveryPoint => &[0x06, 0x06, 0x01, 0x71, 0x80],
            Self::Key => &[0x7c, 0x85, 0x88, 0x84],
            Self::Picture => &[0x41, 0x9a, 0x20],
            Self::More => &[0x7c, 0x05, 0x11],
        }
    }
}

fn media(name: &str, payload_type: u8, encoding: &str) -> MediaStream {
    MediaStream {
        is_inactive: false,
        index: 0,
        media: name.to_owned(),
        protocol: "RTP/AVP".to_owned(),
        payload_types: vec![payload_type],
        control: Url::parse("rtsp://nvr/1").unwrap(),
        other_control: None,
        encodings: vec![(payload_type, encoding.to_owned(), 90_000)],
        is_backchannel: false,
    }
}

/// A session with H.264 and sound, and its packets.
pub(crate) struct Camera {
    pub(crate) producer: Producer,
    pub(crate) consumer: Consumer,
    pub(crate) now: Instant,
    /// So many bytes each packet is larger than its payload.
    pub(crate) padding: usize,
    sent: u32,
}

impl Camera {
    pub(crate) fn new(policy: OverflowPolicy) -> Self {
        let (producer, consumer) = queue_with(policy);
        let streams = [media("video", 96, "H264"), media("audio", 8, "PCMA")];
        consumer.delivery().describe(&streams);
        Self {
            producer,
            consumer,
            now: Instant::now(),
            padding: 0,
            sent: 0,
        }
    }

    /// The packet's number is in the SSRC field, which the queue does not read.
    pub(crate) fn push(&mut self, stream: usize, timestamp: u32, body: &[u8]) -> u32 {
        let number = self.sent;
        self.sent += 1;
        let payload_type = if stream == VIDEO { 96 } else { 8 };
        // A header extension does not belong to the payload.
        let words = (self.padding / 4) as u16;
        let extension = [&[0, 0][..], &words.to_be_bytes(), &vec![0; self.padding]].concat();
        let payload = [
            &[0x90, payload_type, 0, 0][..],
            &timestamp.to_be_bytes(),
            &number.to_be_bytes(),
            &extension,
            body,
        ];
        let packet = rtp(stream, Bytes::from(payload.concat()), self.now);
        push(&mut self.producer, packet);
        number
    }

    pub(crate) fn picture(&mut self, timestamp: u32, parts: &[Part]) -> Vec<u32> {
        let push = |part: &Part| self.push(VIDEO, timestamp, part.payload());
        parts.iter().map(push).collect()
    }

    /// Fills the queue, until something is taken.
    pub(crate) fn fill(&mut self) {
        let waiting = self.producer.delivery.lock().queue.open.media.bytes;
        let filler = Bytes::from(vec![0; MAX_BYTES - waiting]);
        push(&mut self.producer, rtp(FILLER, filler, self.now));
    }

    /// The numbers of the packets taken, and which of them follow a loss.
    pub(crate) fn take(&mut self) -> (Vec<u32>, Vec<u32>) {
        let mut packets = take(&mut self.consumer);
        packets.retain(|packet| packet.stream != FILLER);
        let gaps = packets.iter().filter(|packet| packet.discontinuity);
        (
            packets.iter().map(number).collect(),
            gaps.map(number).collect(),
        )
    }

    pub(crate) fn count(&self, stream: usize) -> StreamCount {
        self.consumer.delivery().counts()[stream]
    }
}

fn number(packet: &Packet) -> u32 {
    u32::from_be_bytes(packet.payload[8..12].try_into().unwrap())
}

#[test]
fn f32_video_goes_on_with_a_key_picture_and_its_parameter_sets() {
    let mut camera = Camera::new(OverflowPolicy::DropToKeyframe);
    let kept = camera.picture(1, &[Part::ParameterSets, Part::Key, Part::More]);
    camera.fill();
    camera.picture(2, &[Part::Picture]);
    // One packet in between for which there is no room.
    camera.picture(3, &[Part::ParameterSets, Part::Key, Part::More]);
    assert_eq!(camera.take(), (kept, vec![]));
    camera.picture(3, &[Part::More]);
    camera.picture(4, &[Part::Picture, Part::More]);
    assert_eq!(camera.take(), (vec![], vec![]));
    let next = camera.picture(5, &[Part::ParameterSets, Part::Key, Part::More]);
    let more = camera.picture(6, &[Part::Picture]);
    assert_eq!(
        camera.take(),
        ([next.clone(), more].concat(), vec![next[0]])
    );
    let count = camera.count(VIDEO);
    assert_eq!((count.packets, count.dropped, count.overflows), (14, 7, 1));
    assert!(count.dropped_bytes > 0 && count.dropped_bytes < count.bytes);
}

#[test]
fn parameter_sets_of_an_earlier_time_belong_to_the_key_picture_too() {
    let mut camera = Camera::new(OverflowPolicy::DropToKeyframe);
    camera.picture(1, &[Part::Key]);
    camera.fill();
    camera.picture(2, &[Part::Picture]);
    camera.take();
    let sets = camera.picture(3, &[Part::ParameterSets]);
    let key = camera.picture(4, &[Part::Key]);
    assert_eq!(camera.take(), ([sets.clone(), key].concat(), sets));
}

#[test]
fn parameter_sets_before_any_other_picture_are_dropped_with_it() {
    let mut camera = Camera::new(OverflowPolicy::DropToKeyframe);
    camera.picture(1, &[Part::Key]);
    camera.fill();
    camera.picture(2, &[Part::Picture]);
    camera.take();
    camera.picture(3, &[Part::ParameterSets, Part::Picture]);
    let key = camera.picture(4, &[Part::Key]);
    assert_eq!(camera.take(), (key.clone(), key));
}

#[test]
fn a_picture_that_is_cut_leaves_nothing_behind() {
    let mut camera = Camera::new(OverflowPolicy::DropToKeyframe);
    let first = camera.picture(1, &[Part::Key]);
    camera.picture(2, &[Part::Picture]);
    let sound = camera.push(AUDIO, 1, b"sound");
    camera.picture(2, &[Part::More]);
    camera.fill();
    camera.picture(2, &[Part::More]);
    assert_eq!(camera.take(), (vec![first[0], sound], vec![]));
    assert_eq!(camera.count(VIDEO).dropped, 3);
}

#[test]
fn a_key_picture_that_did_not_fit_is_not_begun_in_its_middle() {
    let mut camera = Camera::new(OverflowPolicy::DropToKeyframe);
    camera.picture(1, &[Part::Key]);
    camera.fill();
    camera.picture(2, &[Part::ParameterSets, Part::Key]);
    camera.take();
    camera.picture(2, &[Part::More, Part::More]);
    assert_eq!(camera.take(), (vec![], vec![]));
    let next = camera.picture(3, &[Part::Key]);
    assert_eq!(camera.take(), (next.clone(), next));
}

#[test]
fn parameter_sets_that_did_not_fit_still_come_before_their_picture() {
    let mut camera = Camera::new(OverflowPolicy::DropToKeyframe);
    camera.picture(1, &[Part::Key]);
    camera.fill();
    let sets = camera.picture(2, &[Part::ParameterSets]);
    camera.take();
    let key = camera.picture(2, &[Part::Key]);
    assert_eq!(camera.take(), ([sets.clone(), key].concat(), sets));
    assert_eq!(camera.count(VIDEO).dropped, 0);
}

#[test]
fn gradual_refresh_goes_on_at_a_recovery_point() {
    let mut camera = Camera::new(OverflowPolicy::DropToKeyframe);
    camera.picture(1, &[Part::RecoveryPoint, Part::Picture]);
    camera.fill();
    camera.picture(2, &[Part::Picture]);
    camera.take();
    camera.picture(3, &[Part::Picture]);
    let next = camera.picture(4, &[Part::RecoveryPoint, Part::Picture]);
    assert_eq!(camera.take(), (next.clone(), vec![next[0]]));
}

#[test]
fn where_no_key_picture_comes_any_more_the_wait_has_an_end() {
    let mut camera = Camera::new(OverflowPolicy::DropToKeyframe);
    camera.picture(1, &[Part::Key]);
    camera.fill();
    camera.picture(2, &[Part::Picture]);
    // The time in which the consumer takes nothing does not count.
    camera.now += 10 * stream::MAX_WAIT;
    camera.picture(3, &[Part::Picture]);
    camera.take();
    camera.picture(4, &[Part::Picture]);
    camera.now += stream::MAX_WAIT - Duration::from_millis(1);
    camera.picture(5, &[Part::Picture]);
    assert_eq!(camera.take(), (vec![], vec![]));
    camera.now += Duration::from_millis(1);
    camera.picture(5, &[Part::More]);
    let next = camera.picture(6, &[Part::Picture, Part::More]);
    assert_eq!(camera.take(), (next.clone(), vec![next[0]]));
}

#[test]
fn without_key_pictures_that_can_be_told_it_goes_on_with_the_next_picture() {
    let mut camera = Camera::new(OverflowPolicy::DropToKeyframe);
    // Encrypted: the bytes do not show a picture.
    camera.picture(1, &[Part::More]);
    camera.fill();
    camera.picture(2, &[Part::More]);
    camera.take();
    camera.picture(2, &[Part::More]);
    let next = camera.picture(3, &[Part::More, Part::More]);
    assert_eq!(camera.take(), (next.clone(), vec![next[0]]));
}

#[test]
fn sound_goes_on_with_the_next_access_unit() {
    let mut camera = Camera::new(OverflowPolicy::DropToKeyframe);
    let first = camera.push(AUDIO, 1, b"1");
    camera.push(AUDIO, 2, b"2");
    camera.fill();
    camera.push(AUDIO, 2, b"2");
    assert_eq!(camera.take(), (vec![first], vec![]));
    camera.push(AUDIO, 2, b"2");
    let next = camera.push(AUDIO, 3, b"3");
    assert_eq!(camera.take(), (vec![next], vec![next]));
    assert_eq!(camera.count(AUDIO).dropped, 3);
}

#[test]
fn drop_oldest_keeps_the_newest_whole_access_units() {
    let mut camera = Camera::new(OverflowPolicy::DropOldest);
    // Four of them fit.
    let part = vec![0; MAX_BYTES / 5];
    camera.push(VIDEO, 1, &part);
    camera.push(AUDIO, 1, &part);
    camera.push(VIDEO, 1, &part);
    let kept = [2, 2, 3, 4].map(|timestamp| camera.push(VIDEO, timestamp, &part));
    assert_eq!(camera.take(), (kept.to_vec(), vec![kept[0]]));
    assert_eq!(
        (camera.count(VIDEO).dropped, camera.count(AUDIO).dropped),
        (2, 1)
    );
    assert_eq!(camera.count(VIDEO).overflows, 1);
    let next = camera.push(AUDIO, 2, b"2");
    assert_eq!(camera.take(), (vec![next], vec![next]));
}

#[test]
fn drop_oldest_drops_the_rest_of_an_access_unit_larger_than_the_queue() {
    let mut camera = Camera::new(OverflowPolicy::DropOldest);
    let part = vec![0; MAX_BYTES / 4];
    for _ in 0..5 {
        camera.push(VIDEO, 1, &part);
    }
    assert_eq!(camera.take(), (vec![], vec![]));
    let next = camera.push(VIDEO, 2, &part);
    assert_eq!(camera.take(), (vec![next], vec![next]));
}

#[test]
fn the_newest_reports_are_kept_beside_whatever_waits() {
    for policy in POLICIES {
        let mut camera = Camera::new(policy);
        for n in 0..MAX_PACKETS + 10 {
            camera.push(VIDEO, n as u32, Part::Key.payload());
        }
        for n in 0..=MAX_REPORTS {
            let report = Bytes::from(vec![n as u8, (n >> 8) as u8]);
            push(
                &mut camera.producer,
                Packet {
                    payload: report,
                    ..rtcp(VIDEO, camera.now)
                },
            );
        }
        let packets = take(&mut camera.consumer);
        let mut reports = packets
            .iter()
            .filter(|packet| packet.kind == PacketKind::Rtcp);
        assert_eq!(reports.clone().count(), MAX_REPORTS, "{policy:?}");
        assert_eq!(reports.next().unwrap().payload[..], [1, 0], "{policy:?}");
    }
}

#[test]
fn block_drops_nothing_and_says_when_to_stop() {
    let mut camera = Camera::new(OverflowPolicy::Block);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    for n in 0..MAX_PACKETS {
        assert!(camera.producer.poll_room(&mut context).is_ready());
        camera.push(VIDEO, n as u32, b"");
    }
    assert!(camera.producer.poll_room(&mut context).is_pending());
    // Packets that were already read.
    for _ in 0..50 {
        camera.push(VIDEO, 0, b"");
    }
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    assert_eq!(camera.take().0.len(), MAX_PACKETS + 50);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(camera.producer.poll_room(&mut context).is_ready());
    assert_eq!(camera.count(VIDEO).dropped, 0);
}

#[test]
fn block_lets_go_of_a_consumer_that_went_away() {
    let mut camera = Camera::new(OverflowPolicy::Block);
    for _ in 0..MAX_PACKETS {
        camera.push(VIDEO, 0, b"");
    }
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    assert!(camera.producer.poll_room(&mut context).is_pending());
    let Camera {
        producer, consumer, ..
    } = camera;
    drop(consumer);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(producer.poll_room(&mut context).is_ready());
}

/// A generator good enough for schedules (Marsaglia's xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What the test knows of a pushed packet.
#[derive(Clone, Copy)]
struct Pushed {
    stream: usize,
    timestamp: u32,
    part: Part,
}

/// Invariants 2 and 10: every packet of a stream is delivered, in order, or counted as dropped;
/// every loss is reported, and nothing else is; with the default policy, pictures are complete and
/// a loss ends with a key picture.
#[test]
fn i2_whatever_is_pushed_and_taken_is_delivered_or_dropped() {
    for policy in POLICIES {
        for may_park in [false, true] {
            let overflows: u64 = (1..=20).map(|seed| run(policy, seed, may_park)).sum();
            assert_eq!(overflows > 20, policy != OverflowPolicy::Block);
        }
    }
}

/// Returns how often the queue overflowed. With `may_park` a stream is parked now and then.
fn run(policy: OverflowPolicy, seed: u64, may_park: bool) -> u64 {
    let mut dice = Dice(seed * 0x9E37_79B9);
    let mut camera = Camera::new(policy);
    camera.padding = MAX_BYTES / 512;
    let mut pushed: Vec<Pushed> = Vec::new();
    let mut delivered: Vec<(u32, bool)> = Vec::new();
    let mut push = |camera: &mut Camera, known: Pushed| {
        let body = match known.stream {
            VIDEO => known.part.payload(),
            _ => b"sound",
        };
        camera.push(known.stream, known.timestamp, body);
        pushed.push(known);
    };
    for timestamp in 1..=600 {
        let parts: &[Part] = match dice.below(6) {
            _ if timestamp == 1 => &[Part::ParameterSets, Part::Key, Part::More],
            0 => &[Part::ParameterSets, Part::Key, Part::More, Part::More],
            1 => &[Part::ParameterSets, Part::Picture],
            _ => &[Part::Picture, Part::More, Part::More],
        };
        for part in parts {
            let stream = VIDEO;
            push(
                &mut camera,
                Pushed {
                    stream,
                    timestamp,
                    part: *part,
                },
            );
            if dice.below(3) == 0 {
                let (stream, part) = (AUDIO, Part::More);
                push(
                    &mut camera,
                    Pushed {
                        stream,
                        timestamp,
                        part,
                    },
                );
            }
            camera.now += Duration::from_millis(dice.below(40));
        }
        // A picture is taken as a whole, so that the consumer cuts none.
        if dice.below(200) == 0 {
            for stream in [VIDEO, AUDIO] {
                let is_parked = may_park && dice.below(3) == 0;
                camera.consumer.set_parked(stream, is_parked);
            }
            let packets = take(&mut camera.consumer);
            delivered.extend(
                packets
                    .iter()
                    .map(|packet| (number(packet), packet.discontinuity)),
            );
        }
    }
    // At the end everything is taken, parked or not.
    camera.producer.end(Error::shut_down());
    let packets = take(&mut camera.consumer);
    delivered.extend(
        packets
            .iter()
            .map(|packet| (number(packet), packet.discontinuity)),
    );
    let about = format!("{policy:?}, seed {seed}, parking {may_park}");
    for stream in [VIDEO, AUDIO] {
        let of_stream = |n: &u32| pushed[*n as usize].stream == stream;
        let all: Vec<u32> = (0..pushed.len() as u32).filter(of_stream).collect();
        let got: Vec<(u32, bool)> = delivered
            .iter()
            .copied()
            .filter(|(n, _)| of_stream(n))
            .collect();
        assert!(
            got.is_sorted_by(|one, next| one.0 < next.0),
            "{about}: order"
        );
        let count = camera.count(stream);
        assert_eq!(count.packets, all.len() as u64, "{about}");
        assert_eq!(count.dropped, (all.len() - got.len()) as u64, "{about}");
        assert!(count.dropped == 0 || count.overflows > 0, "{about}");
        check_gaps(policy, &about, &pushed, &all, &got);
    }
    let counts = camera.consumer.delivery().counts();
    counts.iter().map(|count| count.overflows).sum()
}

fn check_gaps(
    policy: OverflowPolicy,
    about: &str,
    pushed: &[Pushed],
    all: &[u32],
    got: &[(u32, bool)],
) {
    let mut next = all.iter();
    let mut last: Option<Pushed> = None;
    for (number, told) in got {
        let skipped = next.by_ref().take_while(|n| *n != number).count();
        let packet = pushed[*number as usize];
        assert_eq!(
            *told,
            skipped > 0,
            "{about}: packet {number} after {skipped}"
        );
        if skipped > 0 {
            let is_cut = last.is_some_and(|last| last.timestamp == packet.timestamp);
            assert!(
                !is_cut,
                "{about}: packet {number} is the rest of an access unit"
            );
            let begins = matches!(packet.part, Part::ParameterSets | Part::Key);
            let wants_key = policy == OverflowPolicy::DropToKeyframe && packet.stream == VIDEO;
            assert!(
                begins || !wants_key,
                "{about}: goes on with {:?}",
                packet.part
            );
        }
        last = Some(packet);
    }
}
