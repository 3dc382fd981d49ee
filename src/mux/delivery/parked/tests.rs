//! Parked streams: what is dropped of them, and that the other streams are not affected.

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use crate::mux::{
    PacketKind,
    config::OverflowPolicy,
    delivery::{
        budget::Budget,
        queue::{
            MAX_BYTES, MAX_PACKETS,
            tests::{AUDIO, Camera, Part, VIDEO},
        },
        tests::{Wakes, push, rtcp, take},
        with_budgets,
    },
    error::Error,
};

const KEY_PICTURE: &[Part] = &[Part::ParameterSets, Part::Key, Part::More];

/// A camera one of whose streams was parked after its first packets were taken.
fn parked(policy: OverflowPolicy, stream: usize) -> Camera {
    let mut camera = Camera::new(policy);
    camera.picture(1, KEY_PICTURE);
    camera.push(AUDIO, 1, b"sound");
    camera.take();
    camera.consumer.set_parked(stream, true);
    assert_eq!(camera.take(), (vec![], vec![]));
    camera
}

#[test]
fn a_parked_stream_waits_and_the_others_are_taken() {
    let mut camera = parked(OverflowPolicy::default(), VIDEO);
    let picture = camera.picture(2, &[Part::Picture]);
    push(&mut camera.producer, rtcp(VIDEO, camera.now));
    let next = camera.picture(3, &[Part::Picture]);
    let sound = camera.push(AUDIO, 2, b"sound");
    push(&mut camera.producer, rtcp(AUDIO, camera.now));
    let kinds: Vec<_> = take(&mut camera.consumer)
        .iter()
        .map(|packet| (packet.stream, packet.kind))
        .collect();
    assert_eq!(
        kinds,
        [(AUDIO, PacketKind::Rtp), (AUDIO, PacketKind::Rtcp)],
        "{sound}"
    );
    camera.consumer.set_parked(VIDEO, false);
    let waited = take(&mut camera.consumer);
    let kinds: Vec<_> = waited.iter().map(|packet| packet.kind).collect();
    assert_eq!(
        kinds,
        [PacketKind::Rtp, PacketKind::Rtcp, PacketKind::Rtp],
        "{picture:?} {next:?}"
    );
    assert!(waited.iter().all(|packet| !packet.discontinuity));
}

#[test]
fn what_waits_when_a_stream_is_parked_waits_on() {
    let mut camera = Camera::new(OverflowPolicy::default());
    let first = camera.picture(1, KEY_PICTURE);
    let sound = camera.push(AUDIO, 1, b"sound");
    camera.consumer.set_parked(VIDEO, true);
    assert_eq!(camera.take(), (vec![sound], vec![]));
    let next = camera.picture(2, &[Part::Picture]);
    camera.consumer.set_parked(VIDEO, false);
    assert_eq!(camera.take(), ([first, next].concat(), vec![]));
}

/// So a muxer that waits for sound treats the picture.
#[test]
fn f32_parked_video_is_dropped_to_the_next_key_picture_and_sound_goes_on() {
    let mut camera = parked(OverflowPolicy::DropToKeyframe, VIDEO);
    camera.padding = MAX_BYTES / 32;
    let kept = camera.picture(2, &[Part::Picture]);
    let mut dropped = 0;
    for n in 0..100 {
        dropped += camera.picture(3 + n, &[Part::Picture]).len();
        let sound = camera.push(AUDIO, 3 + n, b"sound");
        assert_eq!(camera.take(), (vec![sound], vec![]));
    }
    camera.padding = 0;
    camera.consumer.set_parked(VIDEO, false);
    let (taken, gaps) = camera.take();
    assert_eq!((&taken[..1], &gaps[..]), (&kept[..], &[][..]));
    dropped -= taken.len() - 1;
    dropped += camera.picture(200, &[Part::Picture]).len();
    let key = camera.picture(201, KEY_PICTURE);
    assert_eq!(camera.take(), (key.clone(), vec![key[0]]));
    let (video, audio) = (camera.count(VIDEO), camera.count(AUDIO));
    assert_eq!((video.dropped, video.overflows), (dropped as u64, 1));
    assert_eq!((audio.dropped, audio.packets), (0, 101));
}

#[test]
fn f32_parked_sound_is_dropped_and_the_picture_goes_on() {
    let mut camera = parked(OverflowPolicy::DropToKeyframe, AUDIO);
    camera.padding = MAX_BYTES / 32;
    let mut sound = Vec::new();
    for n in 0..100 {
        sound.push(camera.push(AUDIO, 2 + n, b"sound"));
        let picture = camera.picture(2 + n, &[Part::Picture]);
        assert_eq!(camera.take(), (picture, vec![]));
    }
    camera.consumer.set_parked(AUDIO, false);
    // 31 of them fit, with their headers.
    assert_eq!(camera.take(), (sound[..31].to_vec(), vec![]));
    let next = camera.push(AUDIO, 200, b"sound");
    assert_eq!(camera.take(), (vec![next], vec![next]));
    let (video, audio) = (camera.count(VIDEO), camera.count(AUDIO));
    assert_eq!((audio.dropped, audio.overflows), (69, 1));
    assert_eq!(video.dropped, 0);
}

#[test]
fn drop_oldest_drops_of_the_parked_stream_alone() {
    let mut camera = parked(OverflowPolicy::DropOldest, VIDEO);
    let sound = camera.push(AUDIO, 2, b"sound");
    let pictures: Vec<_> = (0..MAX_PACKETS as u32 + 3)
        .flat_map(|n| camera.picture(2 + n, &[Part::Picture]))
        .collect();
    assert_eq!(camera.take(), (vec![sound], vec![]));
    camera.consumer.set_parked(VIDEO, false);
    assert_eq!(camera.take(), (pictures[3..].to_vec(), vec![pictures[3]]));
    assert_eq!(camera.count(VIDEO).dropped, 3);
}

#[test]
fn block_stops_for_a_parked_stream_as_well() {
    let mut camera = parked(OverflowPolicy::Block, VIDEO);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    for n in 0..MAX_PACKETS {
        assert!(!camera.producer.is_blocking());
        camera.push(VIDEO, n as u32, b"");
    }
    let mut context = Context::from_waker(&waker);
    assert!(camera.producer.poll_room(&mut context).is_pending());
    camera.consumer.set_parked(VIDEO, false);
    assert_eq!(camera.take().0.len(), MAX_PACKETS);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    assert!(camera.producer.poll_room(&mut context).is_ready());
}

#[test]
fn what_has_waited_for_long_is_not_in_the_way_when_it_may_go_on() {
    let mut camera = parked(OverflowPolicy::default(), VIDEO);
    let picture = camera.picture(2, &[Part::Picture]);
    camera.now += std::time::Duration::from_secs(600);
    camera.consumer.set_parked(VIDEO, false);
    // Arrives before anything is taken.
    let sound = camera.push(AUDIO, 2, b"sound");
    let (mut taken, gaps) = camera.take();
    taken.sort_unstable();
    assert_eq!((taken, gaps), ([&picture[..], &[sound]].concat(), vec![]));
}

#[test]
fn a_consumer_is_not_woken_for_a_parked_stream() {
    let mut camera = parked(OverflowPolicy::default(), VIDEO);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    assert!(camera.consumer.poll_next(&mut context).is_pending());
    camera.picture(2, &[Part::Picture]);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    camera.push(AUDIO, 2, b"sound");
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

#[test]
fn after_the_end_nothing_is_parked() {
    let mut camera = parked(OverflowPolicy::default(), VIDEO);
    let picture = camera.picture(2, &[Part::Picture]);
    camera.producer.end(Error::shut_down());
    camera.consumer.set_parked(AUDIO, true);
    assert_eq!(camera.take(), (picture, vec![]));
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(camera.consumer.poll_next(&mut context), Poll::Ready(None));
}

#[test]
fn what_is_parked_counts_in_the_budgets_until_it_is_gone() {
    let process: &'static Budget = Box::leak(Box::new(Budget::new(usize::MAX)));
    let connection = Arc::new(Budget::new(usize::MAX));
    let policy = OverflowPolicy::default();
    let (producer, mut consumer) = with_budgets(Arc::clone(&connection), process, policy);
    let mut push = {
        let mut producer = producer;
        move |n: usize| {
            let now = std::time::Instant::now();
            for stream in [VIDEO, AUDIO].into_iter().cycle().take(n) {
                producer.push(rtcp(stream, now));
            }
            producer.hand_over(now);
        }
    };
    push(4);
    let used = connection.used();
    consumer.set_parked(VIDEO, true);
    assert_eq!(take(&mut consumer).len(), 2);
    assert_eq!(connection.used(), used / 2);
    push(4);
    assert_eq!(take(&mut consumer).len(), 2);
    assert_eq!(connection.used(), used);
    consumer.set_parked(VIDEO, false);
    assert_eq!(take(&mut consumer).len(), 4);
    assert_eq!((connection.used(), process.used()), (0, 0));
    consumer.set_parked(VIDEO, true);
    take(&mut consumer);
    push(4);
    assert_eq!(connection.used(), used);
    drop((push, consumer));
    assert_eq!((connection.used(), process.used()), (0, 0));
}
