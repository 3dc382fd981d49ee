use std::{
    sync::atomic::{AtomicU32, Ordering},
    task::Wake,
    time::Duration,
};

use super::{
    budget::PROCESS_BYTES,
    queue::{COPY_BEYOND, MAX_BYTES, MAX_PACKETS, MAX_REPORTS},
    *,
};

#[derive(Default)]
pub(super) struct Wakes(pub(super) AtomicU32);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn queue() -> (Producer, Consumer) {
    queue_with(OverflowPolicy::default())
}

pub(super) fn queue_with(policy: OverflowPolicy) -> (Producer, Consumer) {
    let process = Box::leak(Box::new(Budget::new(PROCESS_BYTES)));
    with_budgets(Budget::for_connection(), process, policy)
}

pub(super) fn rtp(stream: usize, payload: Bytes, received: Instant) -> Packet {
    Packet {
        stream,
        kind: PacketKind::Rtp,
        header: RtpHeader::of(&payload),
        payload,
        received,
        discontinuity: false,
    }
}

pub(super) fn rtcp(stream: usize, received: Instant) -> Packet {
    Packet {
        kind: PacketKind::Rtcp,
        header: None,
        ..rtp(stream, Bytes::from_static(&[0; 28]), received)
    }
}

/// A batch of one packet.
pub(super) fn push(producer: &mut Producer, packet: Packet) {
    let now = packet.received;
    producer.push(packet);
    producer.hand_over(now);
}

pub(super) fn take(consumer: &mut Consumer) -> Vec<Packet> {
    let mut batch = Vec::new();
    let _ = consumer.poll_batch(&mut Context::from_waker(Waker::noop()), &mut batch);
    batch
}

#[test]
fn packets_arrive_in_order() {
    let (mut producer, mut consumer) = queue();
    let now = Instant::now();
    for n in 0..100_u8 {
        push(
            &mut producer,
            rtp(usize::from(n % 3), Bytes::from(vec![n]), now),
        );
    }
    let order: Vec<u8> = take(&mut consumer)
        .iter()
        .map(|packet| packet.payload[0])
        .collect();
    assert_eq!(order, (0..100).collect::<Vec<u8>>());
}

#[test]
fn f32_delivered_and_dropped_are_all_that_was_pushed() {
    let (mut producer, mut consumer) = queue();
    let now = Instant::now();
    let pushed = MAX_PACKETS + 500;
    for _ in 0..pushed {
        push(&mut producer, rtp(0, Bytes::from_static(b"x"), now));
    }
    let delivered = take(&mut consumer).len();
    let count = consumer.delivery().counts()[0];
    assert_eq!((delivered, count.dropped), (MAX_PACKETS, 500));
    assert_eq!(count.packets, pushed as u64);
}

#[test]
fn each_stream_that_takes_over_says_so_whenever_its_media_begins() {
    let (mut producer, mut consumer) = queue();
    let (now, mut context) = (Instant::now(), Context::from_waker(Waker::noop()));
    consumer.begin_anew(0..2);
    push(&mut producer, rtcp(0, now));
    assert!(consumer.poll_media(&mut context).is_pending(), "a report");
    let mut begun = Vec::new();
    for stream in [0, 0, 1, 1, 0] {
        push(&mut producer, rtp(stream, Bytes::from_static(b"x"), now));
        assert!(consumer.poll_media(&mut context).is_ready());
        let batch = take(&mut consumer);
        begun.extend(batch.iter().map(|packet| packet.discontinuity));
    }
    assert_eq!(begun, [false, true, false, true, false, false]);
    assert_eq!(consumer.delivery().counts()[0].overflows, 0);
    producer.end(Error::driver_died());
    assert_eq!(consumer.poll_media(&mut context), Poll::Ready(false));
}

#[test]
fn the_packet_after_a_gap_says_so_and_only_that_of_its_stream() {
    let (mut producer, mut consumer) = queue();
    let now = Instant::now();
    for _ in 0..=MAX_PACKETS {
        push(&mut producer, rtp(1, Bytes::from_static(b"x"), now));
    }
    take(&mut consumer);
    for stream in [0, 1, 1] {
        push(&mut producer, rtp(stream, Bytes::from_static(b"y"), now));
    }
    let gaps: Vec<bool> = take(&mut consumer)
        .iter()
        .map(|packet| packet.discontinuity)
        .collect();
    assert_eq!(gaps, [false, true, false]);
}

#[test]
fn rtcp_gets_through_when_rtp_does_not() {
    let (mut producer, mut consumer) = queue();
    let now = Instant::now();
    for _ in 0..MAX_PACKETS + 10 {
        push(&mut producer, rtp(0, Bytes::from_static(b"x"), now));
    }
    for _ in 0..MAX_REPORTS + 5 {
        push(&mut producer, rtcp(0, now));
    }
    let packets = take(&mut consumer);
    let reports = packets
        .iter()
        .filter(|packet| packet.kind == PacketKind::Rtcp)
        .count();
    assert_eq!(reports, MAX_REPORTS);
    assert_eq!(consumer.delivery().counts()[0].dropped, 15);
}

#[test]
fn f32_a_stall_of_any_length_loses_nothing_that_fits() {
    for policy in [OverflowPolicy::DropToKeyframe, OverflowPolicy::DropOldest] {
        let (mut producer, mut consumer) = queue_with(policy);
        let start = Instant::now();
        // Ten minutes of a camera with few packets.
        for second in 0..600 {
            let packet = rtp(
                0,
                Bytes::from_static(b"x"),
                start + Duration::from_secs(second),
            );
            push(&mut producer, packet);
        }
        let packets = take(&mut consumer);
        assert_eq!(packets.len(), 600, "{policy:?}");
        assert!(packets.iter().all(|packet| !packet.discontinuity));
    }
}

#[test]
fn the_caps_of_session_connection_and_process_hold_and_everything_is_given_back() {
    for (connection, process) in [
        (usize::MAX, usize::MAX),
        (1_000_000, usize::MAX),
        (usize::MAX, 1_000_000),
    ] {
        let process: &'static Budget = Box::leak(Box::new(Budget::new(process)));
        let connection = Arc::new(Budget::new(connection));
        let limit = MAX_BYTES.min(connection.limit()).min(process.limit());
        let policy = OverflowPolicy::default();
        let (mut producer, consumer) = with_budgets(Arc::clone(&connection), process, policy);
        for n in 0..1000_u32 {
            // Each packet is an access unit.
            let mut payload = vec![0; 10_000];
            payload[4..8].copy_from_slice(&n.to_be_bytes());
            push(&mut producer, rtp(0, Bytes::from(payload), Instant::now()));
        }
        let used = connection.used();
        assert!(used <= limit && used + 10_000 > limit, "{used} of {limit}");
        drop((producer, consumer));
        assert_eq!(connection.used(), 0);
        assert_eq!(process.used(), 0);
    }
}

#[test]
fn a_backlog_does_not_pin_the_chunks_it_was_read_into() {
    let (mut producer, mut consumer) = queue();
    let chunk = Bytes::from(vec![7; 64 * 1024]);
    for n in 0..COPY_BEYOND + 1 {
        push(
            &mut producer,
            rtp(0, chunk.slice(n * 1000..(n + 1) * 1000), Instant::now()),
        );
    }
    let within = |payload: &Bytes| chunk.as_ptr_range().contains(&payload.as_ptr());
    let packets = take(&mut consumer);
    assert!(
        packets[..COPY_BEYOND]
            .iter()
            .all(|packet| within(&packet.payload))
    );
    assert!(!within(&packets[COPY_BEYOND].payload));
    assert_eq!(packets[COPY_BEYOND].payload, packets[0].payload);
}

#[test]
fn the_consumer_is_woken_once_per_batch() {
    let (mut producer, mut consumer) = queue();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    assert!(
        consumer
            .poll_next(&mut Context::from_waker(&waker))
            .is_pending()
    );
    for _ in 0..3 {
        for _ in 0..10 {
            producer.push(rtp(0, Bytes::from_static(b"x"), Instant::now()));
        }
        producer.hand_over(Instant::now());
    }
    assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
}

#[test]
fn what_waits_is_delivered_before_the_end() {
    let (mut producer, mut consumer) = queue();
    push(
        &mut producer,
        rtp(0, Bytes::from_static(b"x"), Instant::now()),
    );
    drop(producer);
    let mut context = Context::from_waker(Waker::noop());
    assert!(matches!(
        consumer.poll_next(&mut context),
        Poll::Ready(Some(_))
    ));
    assert_eq!(consumer.poll_next(&mut context), Poll::Ready(None));
    assert!(consumer.delivery().end_reason().is_some());
}

#[test]
fn without_a_consumer_everything_is_dropped_and_counted() {
    let (mut producer, consumer) = queue();
    let delivery = Arc::clone(consumer.delivery());
    push(
        &mut producer,
        rtp(0, Bytes::from_static(b"x"), Instant::now()),
    );
    drop(consumer);
    push(
        &mut producer,
        rtp(0, Bytes::from_static(b"x"), Instant::now()),
    );
    let count = delivery.counts()[0];
    assert_eq!((count.packets, count.dropped), (2, 2));
}
