//! One stream: its pad, the state of its source, and the queue of its packets and events that wait for the
//! worker thread that pushes them.
//!
//! Mostly the queue is empty: a worker thread takes all at once. While downstream blocks that thread a
//! few packets gather here; then the stream is full, and further packets wait in the session's queue,
//! which has the rules for dropping.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};
use gstreamer as gst;

use super::{
    feedback::KeyPictureRequests,
    rtcp::{Reception, ReportBlock},
    timing::Timing,
};
use crate::{
    mux::{Packet, RtpHeader},
    rtspsrc::{
        RtspMuxSrc, lock,
        manager::{SenderReport, StreamReport, src_pad},
        media::{buffer::Marks, pads::PadStream, relinking::FlowResult, sequence::PayloadKind},
        threads::Task,
    },
};

/// What is known of an RTP packet that is to be pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The events that a source begins with go before it.
    pub(super) is_first: bool,
    /// Packets are missing before it.
    pub(super) has_gap: bool,
    /// The time of the packet before it, if it has the same one.
    pub(super) time: Option<u64>,
}

/// Items that a worker thread has taken out of the send queue.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) messages: VecDeque<QueuedItem>,
    /// The life of the stream when they were taken.
    pub(super) life: u32,
}

/// One stream.
pub(super) struct LightStream {
    pub(super) out: Arc<PadStream>,
    /// The pad from which packets are pushed. It has no parent, so it lives only as long as this.
    pub(super) pad: gst::Pad,
    /// Whether the pad may be added to the element. Held while it is added, which runs code of the
    /// application, and while this is closed.
    pub(super) gate: Mutex<bool>,
    /// What lip-sync adds to its times, in nanoseconds.
    pub(super) offset: AtomicI64,
    /// The server, or the pipeline, has ended it.
    pub(super) has_ended: AtomicBool,
    /// The packets and events to push.
    pub(super) queue: Mutex<SendQueue>,
    /// Its task on the worker pool, which pushes them.
    pub(super) task: Arc<Task>,
    /// What the worker thread has taken out of the queue.
    pub(super) taken: Mutex<Taken>,
    /// How often the stream was begun anew. Packets that were taken in an earlier life are not pushed.
    life: AtomicU32,
    /// In nanoseconds; `None`: downstream decides how fast packets are taken, and their times are by RTP alone.
    latency: Option<u64>,
    /// The SSRC of the receiver in reports.
    own: u32,
    pub(super) key_pictures: Mutex<KeyPictureRequests>,
    /// A leaf in the order of locks.
    state: Mutex<SourceState>,
}

/// A sender report that came.
#[derive(Clone, Copy, Debug)]
struct Received {
    ssrc: u32,
    report: SenderReport,
    at: Instant,
    /// Its running time is not known yet.
    is_unplaced: bool,
    /// The source has begun anew since.
    is_old: bool,
}

#[derive(Default)]
struct SourceState {
    source: Option<u32>,
    /// The payload type that the pad shows.
    payload_type: Option<u8>,
    reception: Reception,
    timing: Timing,
    /// The origin of arrival times.
    origin: Option<Instant>,
    sender: Option<Received>,
    /// How far the sender has set its wall clock while it sent, in units of 2^-32 s. Streams are
    /// compared by the clock that was not set: a camera that sets it by 2 s says so in the report of
    /// the sound half a second before that of the picture.
    clock_set_by: i64,
    reports_sent: u64,
}

/// A wall clock that goes so much faster or slower than RTP time between two reports was set: 40 ms, in
/// units of 2^-32 s.
const CLOCK_SET: u64 = (1 << 32) / 25;

impl SourceState {
    /// Compares a sender report with the one before it.
    fn note_clock(&mut self, SenderReport { ntp, time }: SenderReport) {
        let Some(before) = self.sender.filter(|it| !it.is_old).map(|it| it.report) else {
            return;
        };
        if self.payload_type.is_none() || ntp == 0 || before.ntp == 0 {
            return;
        }
        let units = i64::from(time.wrapping_sub(before.time).cast_signed());
        let passed = (units << 32) / i64::from(self.timing.clock_rate);
        let set_by = ntp
            .wrapping_sub(before.ntp)
            .cast_signed()
            .wrapping_sub(passed);
        if set_by.unsigned_abs() > CLOCK_SET {
            self.clock_set_by = self.clock_set_by.wrapping_add(set_by);
        }
    }

    /// The time since the first packet, in units of the clock rate.
    fn arrival(&mut self, received: Instant) -> i64 {
        let origin = *self.origin.get_or_insert(received);
        let passed = received.saturating_duration_since(origin).as_nanos();
        let units = passed * u128::from(self.timing.clock_rate) / 1_000_000_000;
        units as i64
    }
}

impl LightStream {
    pub(super) fn new(
        element: &RtspMuxSrc,
        out: Arc<PadStream>,
        latency: Option<gst::ClockTime>,
        task: Arc<Task>,
        on_event: impl Fn(&gst::Event) + Send + Sync + 'static,
    ) -> Self {
        Self {
            pad: src_pad(element, &format!("rtp_{}", out.number), latency, on_event),
            out,
            gate: Mutex::new(true),
            offset: AtomicI64::new(0),
            has_ended: AtomicBool::new(false),
            queue: Mutex::default(),
            task,
            taken: Mutex::default(),
            life: AtomicU32::new(0),
            latency: latency.map(gst::ClockTime::nseconds),
            own: glib::random_int(),
            key_pictures: Mutex::default(),
            state: Mutex::default(),
        }
    }

    /// Begins the stream anew: drops the packets that wait, and forgets the source.
    pub(super) fn renew(&self) {
        self.life.fetch_add(1, Ordering::AcqRel);
        lock(&self.queue).renew();
        self.out.has_left.store(false, Ordering::Release);
        self.begin(None);
    }

    /// Drops packets and events, in the queue and downstream, and forgets the source.
    pub(super) fn flush(&self, seqnum: gst::Seqnum) {
        // With this a push that is under way has returned.
        let mut taken = lock(&self.taken);
        taken.messages.clear();
        lock(&self.queue).flush();
        self.has_ended.store(false, Ordering::Release);
        self.renew();
        self.out.timeline.restart();
        let stop = gst::event::FlushStop::builder(true).seqnum(seqnum);
        self.pad.push_event(stop.build());
    }

    /// Closes the send queue and drops what waits.
    pub(super) fn close(&self) {
        self.life.fetch_add(1, Ordering::AcqRel);
        lock(&self.queue).close();
    }

    pub(super) fn life(&self) -> u32 {
        self.life.load(Ordering::Acquire)
    }

    /// Whether it takes more packets. A stream whose pad is not linked is never held up.
    pub(super) fn has_room(&self) -> bool {
        let queue = lock(&self.queue);
        !queue.is_full() || queue.flow == Err(gst::FlowError::NotLinked)
    }

    /// The next packet is the first one of this source. Sender reports of the source stay.
    pub(super) fn begin(&self, source: Option<u32>) {
        let mut state = lock(&self.state);
        let mut sender = state.sender.filter(|it| Some(it.ssrc) == source);
        if let Some(sender) = &mut sender {
            sender.is_old = !sender.is_unplaced;
        }
        *state = SourceState {
            sender,
            reports_sent: state.reports_sent,
            ..SourceState::default()
        };
        drop(state);
        self.offset.store(0, Ordering::Relaxed);
    }

    /// Decides on a packet. `None`: it came before, or its payload type is not that of the stream.
    pub(super) fn accept(&self, header: &RtpHeader, received: Instant) -> Option<Accepted> {
        let mut state = lock(&self.state);
        let is_first = state.payload_type.is_none();
        if is_first {
            let PayloadKind::Media(clock_rate) = self.out.kind(header.payload_type) else {
                return None;
            };
            state.payload_type = Some(header.payload_type);
            state.source = Some(header.ssrc);
            state.timing = Timing::new(clock_rate, self.latency.unwrap_or_default());
        }
        let arrival = state.arrival(received);
        let missing = state
            .reception
            .on_packet(header.sequence, header.timestamp, arrival)?;
        // Comfort noise or telephone events beside the audio share its sequence numbers.
        let is_media = state.payload_type == Some(header.payload_type);
        is_media.then(|| Accepted {
            is_first,
            has_gap: missing > 0 || is_first,
            time: state.timing.again(header.timestamp),
        })
    }

    /// The time of a packet that came at the running time `arrival`. The first one does not get a time
    /// before `floor`. All in nanoseconds.
    pub(super) fn stamp(&self, time: u32, arrival: u64, floor: u64) -> u64 {
        let offset = self.offset.load(Ordering::Relaxed);
        let timing = &mut lock(&self.state).timing;
        match self.latency {
            Some(_) => timing.stamp(time, arrival, floor, offset),
            None => timing.stamp_by_sender(time, floor),
        }
    }

    /// Whether the last packet that came is of this source.
    pub(super) fn is_source(&self, ssrc: u32) -> bool {
        lock(&self.queue).source == Some(ssrc)
    }

    /// Takes a sender report. False if it is from another source.
    pub(super) fn on_sender_report(&self, ssrc: u32, report: SenderReport, at: Instant) -> bool {
        let mut state = lock(&self.state);
        if state.source.is_some_and(|source| source != ssrc) {
            return false;
        }
        state.note_clock(report);
        state.sender = Some(Received {
            ssrc,
            report,
            at,
            is_unplaced: true,
            is_old: false,
        });
        true
    }

    /// From now on compares reports by the clock that the sender has now.
    pub(super) fn forget_clock(&self) {
        lock(&self.state).clock_set_by = 0;
    }

    /// Wall clock and running time of the last sender report, once. `None` before the first packet, and if
    /// the sender has no wall clock (RFC 3550 6.4.1: it sends 0).
    pub(super) fn place_report(&self) -> Option<(u64, i64)> {
        let mut state = lock(&self.state);
        // A report waits for the first packet.
        state.timing.last?;
        let sender = state.sender.as_mut().filter(|sender| sender.is_unplaced)?;
        sender.is_unplaced = false;
        let SenderReport { ntp, time } = sender.report;
        let placed = state.timing.time_of(time)?;
        let unset = ntp.wrapping_sub(state.clock_set_by.cast_unsigned());
        (ntp != 0).then_some((unset, placed))
    }

    /// The SSRC of the receiver, and the report about the stream's source at this time.
    pub(super) fn receiver_report(&self, now: Instant) -> (u32, Option<ReportBlock>) {
        let mut state = lock(&self.state);
        state.reports_sent += 1;
        let sender = state.sender.map(|sender| {
            let passed = now.saturating_duration_since(sender.at);
            ((sender.report.ntp >> 16) as u32, delay(passed))
        });
        let source = state.source;
        let report =
            source.and_then(|source| state.reception.report(source, sender.unwrap_or_default()));
        (self.own, report)
    }

    /// The SSRC of the receiver, and that of the source.
    pub(super) fn reporter(&self) -> Option<(u32, u32)> {
        Some((self.own, lock(&self.state).source?))
    }

    /// For `stats`.
    pub(super) fn report(&self) -> StreamReport {
        let state = lock(&self.state);
        StreamReport {
            stream: self.out.number,
            ssrc: state.source,
            highest_sequence: state.reception.highest(),
            lost: state.reception.lost(),
            jitter: state.reception.jitter(),
            sender: state.sender.map(|sender| sender.report),
            reports_sent: state.reports_sent,
        }
    }
}

/// A time in units of 2^-16 s.
fn delay(passed: Duration) -> u32 {
    u32::try_from((passed.as_nanos() << 16) / 1_000_000_000).unwrap_or(u32::MAX)
}

/// So many items are enough work for a worker thread that comes back.
const FULL: usize = 32;

/// What is to be pushed out of a stream's pad.
pub(super) enum QueuedItem {
    /// A packet and its marks.
    Rtp(Packet, Marks),
    Event(gst::Event),
}

/// The queue of one stream.
pub(super) struct SendQueue {
    waiting: VecDeque<QueuedItem>,
    /// The source of the last packet.
    source: Option<u32>,
    /// The result of the last push.
    pub(super) flow: FlowResult,
    /// The queue takes nothing any more.
    is_closed: bool,
}

impl Default for SendQueue {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            source: None,
            flow: Ok(gst::FlowSuccess::Ok),
            is_closed: false,
        }
    }
}

impl SendQueue {
    /// Takes an item, even if the queue is full. False if the queue is closed.
    pub(super) fn put(&mut self, item: QueuedItem) -> bool {
        if self.is_closed {
            return false;
        }
        if let QueuedItem::Rtp(packet, _) = &item {
            self.source = packet.header.map(|header| header.ssrc);
        }
        self.waiting.push_back(item);
        true
    }

    /// Swaps the items for `taken`, which is empty.
    pub(super) fn take(&mut self, taken: &mut VecDeque<QueuedItem>) {
        std::mem::swap(&mut self.waiting, taken);
    }

    /// Drops the packets, as their source is over. Keeps events.
    pub(super) fn renew(&mut self) {
        self.waiting
            .retain(|message| matches!(message, QueuedItem::Event(_)));
        self.source = None;
        self.flow = Ok(gst::FlowSuccess::Ok);
    }

    /// Drops all items.
    fn flush(&mut self) {
        self.waiting.clear();
        self.flow = Ok(gst::FlowSuccess::Ok);
    }

    /// Drops all items and closes the queue.
    pub(super) fn close(&mut self) {
        self.waiting.clear();
        self.is_closed = true;
    }

    /// Whether the stream is to get no more packets for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= FULL
    }
}

#[cfg(test)]
mod send_queue_tests {
    use super::*;
    use crate::mux::PacketKind;

    fn put(queue: &mut SendQueue) -> bool {
        let header = RtpHeader {
            payload_type: 96,
            sequence: 0,
            timestamp: 0,
            ssrc: 7,
        };
        let packet = Packet {
            stream: 0,
            kind: PacketKind::Rtp,
            header: Some(header),
            payload: vec![0; 10].into(),
            received: crate::rtspsrc::threads::timer::now(),
            discontinuity: false,
        };
        queue.put(QueuedItem::Rtp(packet, Marks::default()))
    }

    fn put_event(queue: &mut SendQueue) -> bool {
        queue.put(QueuedItem::Event(gst::event::Eos::new()))
    }

    fn take(queue: &mut SendQueue) -> Vec<QueuedItem> {
        let mut taken = VecDeque::new();
        queue.take(&mut taken);
        taken.into()
    }

    #[test]
    fn a_full_queue_still_takes_packets() {
        let mut queue = SendQueue::default();
        for _ in 0..FULL {
            assert!(!queue.is_full() && put(&mut queue));
        }
        assert!(queue.is_full() && put(&mut queue));
        assert_eq!(take(&mut queue).len(), FULL + 1);
        assert!(!queue.is_full());
    }

    #[test]
    fn an_event_outlives_the_packets_before_it() {
        gst::init().unwrap();
        let mut queue = SendQueue::default();
        put(&mut queue);
        assert!(put_event(&mut queue));
        assert_eq!(queue.source, Some(7));
        queue.renew();
        assert_eq!((take(&mut queue).len(), queue.source), (1, None));
        queue.close();
        assert!(!put(&mut queue) && !put_event(&mut queue));
    }
}

#[cfg(test)]
mod clock_tests {
    use super::*;

    const SECOND: u64 = 1 << 32;

    /// What is added to the wall clock of the last of these reports, in ms: seconds of the wall clock, and
    /// of RTP time.
    fn set_by(reports: &[(f64, f64)]) -> i64 {
        let mut state = SourceState {
            payload_type: Some(0),
            timing: Timing::new(8_000, 0),
            ..SourceState::default()
        };
        for (wall, media) in reports {
            let ntp = 3_000_000_000 * SECOND + (wall * SECOND as f64) as u64;
            // RTP time wraps between the first two.
            let time = ((media * 8_000.0) as u32).wrapping_sub(4_000);
            let report = SenderReport { ntp, time };
            state.note_clock(report);
            state.sender = Some(Received {
                ssrc: 1,
                report,
                at: crate::rtspsrc::threads::timer::now(),
                is_unplaced: false,
                is_old: false,
            });
        }
        ((i128::from(state.clock_set_by) * 1_000) >> 32) as i64
    }

    #[test]
    fn a_wall_clock_that_is_set_is_told_from_one_that_drifts() {
        assert_eq!(set_by(&[(0.0, 0.0), (1.0, 1.0), (6.001, 6.0)]), 0);
        assert_eq!(set_by(&[(0.0, 0.0), (3.0, 1.0), (8.0, 6.0)]), 2_000);
        assert_eq!(set_by(&[(5.0, 0.0), (4.5, 1.0)]), -1_500);
        assert_eq!(set_by(&[(0.0, 0.0), (3.0, 1.0), (2.0, 2.0)]), 0, "and back");
        // Thirty years: the camera has got the time.
        assert_eq!(set_by(&[(0.0, 0.0), (946_080_001.0, 1.0)]), 946_080_000_000);
    }
}
