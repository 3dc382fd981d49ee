//! Computes running times from RTP times.
//!
//! As with `rtspsrc` over TCP the first packet gets the time of its arrival, and each later one is as
//! much later as its RTP time is: so the jitter of a transport that delivers in bursts does not show. To
//! that the drift of the sender's clock is added ([`Skew`]), and the offset that
//! synchronises the streams of a session ([`LipSync`]).
//!
//! # Drift
//!
//! Estimates how the sender's clock drifts against the pipeline's clock.
//!
//! A packet's *delay* is its arrival minus its sending, each by its own clock. It is the sum of an
//! unknown constant, the time on the network, and the drift of the clocks. The time on the network has a
//! minimum, and over TCP it is often longer because of a burst or a stall; so the smallest delay within a
//! window shows the drift without the network. Without this a camera whose crystal is off by 50 ppm would
//! be 4 s early or late after a day, and one that begins with a burst would stay late.
//!
//! The filter is that of GStreamer's `rtpjitterbuffer` (mode `slave`), after Fober, Orlarey and Letz,
//! "Real time clock skew estimation over network delays" (2005), so that recordings and sinks see the
//! same times from both managers.
//!
//! # Lip-sync
//!
//! Synchronises the streams of a session by their sender reports.
//!
//! A report gives one moment by the sender's wall clock (NTP) and by the RTP time of its stream. From it
//! follows, for each stream, the difference between running time and wall clock. If the streams began at
//! different moments the differences are not equal, and the stream that is early is delayed to match. No
//! stream is brought forward, as that time has passed. The rules and limits are those of rtpbin.

use std::{collections::BTreeMap, time::Duration};

const SECOND: i64 = 1_000_000_000;

/// A sender report that is further behind the last packet is not used.
const REPORT_AGE: i64 = Duration::from_secs(10).as_nanos() as i64;

/// The origin of the times of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Origin {
    /// In units of the clock rate, without wraps.
    rtp: i64,
    /// Running time.
    time: i64,
}

/// The last packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastStamp {
    rtp: i64,
    arrival: i64,
    /// Its time without the offset of lip-sync, and with it.
    stamp: i64,
    shown: i64,
}

/// The times of one source; all but RTP time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timing {
    /// In Hz; 0 before the first packet.
    pub(super) clock_rate: u32,
    /// How late a packet may come and still be in time for a sink.
    latency: i64,
    origin: Option<Origin>,
    pub(super) last: Option<LastStamp>,
    skew: Skew,
}

impl Timing {
    /// `clock_rate` in Hz, above 0. `latency`, in nanoseconds, is how long sinks wait.
    pub(super) fn new(clock_rate: u32, latency: u64) -> Self {
        Self {
            clock_rate,
            latency: i64::try_from(latency).unwrap_or(i64::MAX / 2),
            ..Self::default()
        }
    }

    /// The time of the last packet, if it has this RTP time.
    pub(super) fn again(&self, time: u32) -> Option<u64> {
        let last = self.last.filter(|last| last.rtp == self.extend(time))?;
        Some(running_time(last.shown))
    }

    /// The time of a packet with this RTP time that came at the running time `arrival`. `floor`: the time
    /// of the last buffer, before which a new source does not begin. `offset`: what lip-sync adds.
    pub(super) fn stamp(&mut self, time: u32, arrival: u64, floor: u64, offset: i64) -> u64 {
        if let Some(again) = self.again(time) {
            return again;
        }
        let arrival = i64::try_from(arrival).unwrap_or(i64::MAX);
        let floor = i64::try_from(floor).unwrap_or(i64::MAX);
        let rtp = self.extend(time);
        let origin = *self.origin.get_or_insert(Origin {
            rtp,
            time: arrival.max(floor),
        });
        let sent = self.nanoseconds(rtp - origin.rtp);
        let skew = self.skew.on_packet(arrival - origin.time, sent);
        let mut stamp = origin.time + sent + skew;
        let mut least = i64::MIN;
        if let Some(last) = self.last
            && rtp > last.rtp
        {
            // If a correction would make time go back, time stands still. Only RTP time itself may go
            // back: frames that refer to later ones are sent after those.
            stamp = stamp.max(last.stamp);
            least = last.shown;
            if stamp.saturating_add(self.latency) < arrival {
                // Sinks would drop the packet for being late, so it is a new origin: the sender has
                // paused, or the first packet was faster than any other.
                self.origin = Some(Origin { rtp, time: arrival });
                self.skew = Skew::default();
                stamp = arrival;
            }
        }
        let shown = stamp.saturating_add(offset).max(least);
        self.last = Some(LastStamp {
            rtp,
            arrival,
            stamp,
            shown,
        });
        running_time(shown)
    }

    /// The time of a packet that comes when downstream takes it: its arrival says nothing. The first one is at
    /// `floor`.
    pub(super) fn stamp_by_sender(&mut self, time: u32, floor: u64) -> u64 {
        if let Some(again) = self.again(time) {
            return again;
        }
        let rtp = self.extend(time);
        let begin = i64::try_from(floor).unwrap_or(i64::MAX);
        let origin = *self.origin.get_or_insert(Origin { rtp, time: begin });
        let stamp = origin.time + self.nanoseconds(rtp - origin.rtp);
        self.last = Some(LastStamp {
            rtp,
            arrival: stamp,
            stamp,
            shown: stamp,
        });
        running_time(stamp)
    }

    /// The running time of the RTP time in a sender report, without the offset of lip-sync. `None` before
    /// the first packet, or if the report is too far from the last packet.
    pub(super) fn time_of(&self, time: u32) -> Option<i64> {
        let (origin, last) = (self.origin?, self.last?);
        let rtp = self.extend(time);
        // The moment of a report may lie ahead of the last packet (`max-rtcp-rtp-time-diff` of rtpbin).
        let ahead = self.nanoseconds(rtp - last.rtp);
        (-REPORT_AGE..=SECOND)
            .contains(&ahead)
            .then(|| origin.time + self.nanoseconds(rtp - origin.rtp) + self.skew.now())
    }

    /// The RTP time without wraps that is nearest to that of the last packet.
    fn extend(&self, time: u32) -> i64 {
        match self.last {
            Some(last) => last.rtp + i64::from(time.wrapping_sub(last.rtp as u32).cast_signed()),
            None => i64::from(time),
        }
    }

    fn nanoseconds(&self, units: i64) -> i64 {
        let nanoseconds = i128::from(units) * i128::from(SECOND) / i128::from(self.clock_rate);
        nanoseconds as i64
    }
}

/// No buffer is before the pipeline's start.
fn running_time(time: i64) -> u64 {
    time.max(0).unsigned_abs()
}

/// The window for the smallest delay: so much media, by the sender's clock, ...
const WINDOW: i64 = Duration::from_secs(2).as_nanos() as i64;
/// ... or so many packets of different times.
const MAX_DELAYS: usize = 512;

/// The estimate follows a change by one part in so many with each packet.
const SLOWNESS: i64 = 125;

/// The drift of one source. All times in nanoseconds since the source's origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Skew {
    /// The last delays; a ring when the window is full.
    delays: Vec<i64>,
    is_full: bool,
    /// The position of the next delay in the ring.
    next: usize,
    smallest: i64,
    skew: i64,
}

impl Skew {
    /// A packet was `sent` by the sender's clock and came at `arrival` by the pipeline's. Returns what to
    /// add to the sender's time.
    pub(super) fn on_packet(&mut self, arrival: i64, sent: i64) -> i64 {
        let delay = arrival - sent;
        if self.is_full {
            self.replace(delay);
            self.skew = (self.smallest + (SLOWNESS - 1) * self.skew) / SLOWNESS;
        } else {
            self.fill(delay, sent);
        }
        self.skew
    }

    /// What to add to the sender's time at present.
    pub(super) fn now(&self) -> i64 {
        self.skew
    }

    /// While the window fills, the smallest delay counts the more the fuller it is.
    fn fill(&mut self, delay: i64, sent: i64) {
        self.smallest = match self.delays.is_empty() {
            true => delay,
            false => self.smallest.min(delay),
        };
        self.delays.push(delay);
        if sent >= WINDOW || self.delays.len() >= MAX_DELAYS {
            self.is_full = true;
            self.skew = self.smallest;
            return;
        }
        let by_time = sent.saturating_mul(100) / WINDOW;
        let by_count = (self.delays.len() * 100 / MAX_DELAYS) as i64;
        let weight = by_time.max(by_count).pow(2);
        self.skew = (weight * self.smallest + (10_000 - weight) * self.skew) / 10_000;
    }

    fn replace(&mut self, delay: i64) {
        let old = std::mem::replace(&mut self.delays[self.next], delay);
        self.next = (self.next + 1) % self.delays.len();
        if delay <= self.smallest {
            self.smallest = delay;
        } else if old == self.smallest {
            self.smallest = self.delays.iter().copied().min().unwrap_or(delay);
        }
    }
}

/// Streams that are further apart do not have one clock (`max-ts-offset`).
const MAX_OFFSET: i64 = Duration::from_secs(3).as_nanos() as i64;
/// A smaller change is not worth a jump (`min-ts-offset`).
const MIN_OFFSET: i64 = Duration::from_millis(4).as_nanos() as i64;

/// What is known of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Track {
    /// Running time minus wall clock, in nanoseconds.
    difference: Option<i64>,
    /// The participant (CNAME) that it belongs to; `None` if no report has named one.
    name: Option<Box<[u8]>>,
    offset: i64,
}

/// The streams of one session, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LipSync(BTreeMap<usize, Track>);

impl LipSync {
    /// A source description names the participant of a stream.
    pub(super) fn on_name(&mut self, stream: usize, name: &[u8]) {
        let track = self.0.entry(stream).or_default();
        if track.name.as_deref() != Some(name) {
            track.name = Some(name.into());
        }
    }

    /// A sender report: the wall clock `ntp`, in units of 2^-32 s, is `time` in running time. Calls
    /// `change` for each stream whose offset changes.
    pub(super) fn on_report(
        &mut self,
        stream: usize,
        ntp: u64,
        time: i64,
        mut change: impl FnMut(usize, i64),
    ) {
        let track = self.0.entry(stream).or_default();
        track.difference = Some(time.wrapping_sub(nanoseconds(ntp)));
        let name = track.name.clone();
        let is_one = |(_, track): &(&usize, &mut Track)| {
            let is_other = name.is_some() && track.name.is_some() && track.name != name;
            track.difference.is_some() && !is_other
        };
        let mut together: Vec<_> = self.0.iter_mut().filter(is_one).collect();
        if together.len() < 2 {
            return;
        }
        let differences = together.iter().filter_map(|(_, track)| track.difference);
        let latest = differences.max();
        for (stream, track) in &mut together {
            let (Some(latest), Some(own)) = (latest, track.difference) else {
                return;
            };
            let offset = latest.wrapping_sub(own);
            let is_in_reach = (0..=MAX_OFFSET).contains(&offset);
            if is_in_reach && offset.abs_diff(track.offset) >= MIN_OFFSET.unsigned_abs() {
                track.offset = offset;
                change(**stream, offset);
            }
        }
    }

    /// The stream has a new source: what was known of it is void. Its reports may be of another clock, so
    /// the other streams are compared again when they have reported.
    pub(super) fn forget(&mut self, stream: usize) {
        self.0.remove(&stream);
        for track in self.0.values_mut() {
            track.difference = None;
        }
    }
}

/// Nanoseconds since 1900. They fit until the NTP era ends in 2036; then lip-sync begins anew for all
/// streams.
fn nanoseconds(ntp: u64) -> i64 {
    let nanoseconds = (u128::from(ntp) * 1_000_000_000) >> 32;
    nanoseconds as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;
    const LATENCY: u64 = 2 * S;

    fn stamps(packets: &[(u32, u64)]) -> Vec<u64> {
        let mut timing = Timing::new(90_000, LATENCY);
        let stamp = |&(time, arrival): &(u32, u64)| timing.stamp(time, arrival, 0, 0);
        packets.iter().map(stamp).collect()
    }

    #[test]
    fn the_first_packet_is_of_its_arrival_the_others_follow() {
        let packets = [(900, S), (4_500, S + 40 * MS), (8_100, S + 500 * MS)];
        assert_eq!(stamps(&packets), [S, S + 40 * MS, S + 80 * MS]);
    }

    #[test]
    fn packets_that_downstream_fetches_have_the_times_of_their_sender() {
        let mut timing = Timing::new(90_000, 0);
        let times = [u32::MAX - 89_999, 0, 90_000, 45_000, 180_000];
        let stamps = times.map(|time| timing.stamp_by_sender(time, 0));
        assert_eq!(stamps, [0, S, 2 * S, S + S / 2, 3 * S]);
    }

    #[test]
    fn rtp_time_wraps() {
        let packets = [(u32::MAX - 89_999, S), (0, 2 * S), (90_000, 3 * S)];
        assert_eq!(stamps(&packets), [S, 2 * S, 3 * S]);
    }

    #[test]
    fn a_picture_between_others_goes_back() {
        let arrivals = [120, 121, 122].map(|late| S + late * MS);
        let packets = [
            (0, S),
            (10_800, arrivals[0]),
            (3_600, arrivals[1]),
            (7_200, arrivals[2]),
        ];
        let expected = [S, S + 120 * MS, S + 40 * MS, S + 80 * MS];
        assert_eq!(stamps(&packets), expected);
    }

    #[test]
    fn a_source_that_was_silent_or_stood_still_has_no_new_origin() {
        let mut timing = Timing::new(90_000, LATENCY);
        assert_eq!(timing.stamp(7, 3 * S, 0, 0), 3 * S);
        // As long as its time went on.
        assert_eq!(timing.stamp(7 + 90_000 * 60, 63 * S, 0, 0), 63 * S);
        assert_eq!(timing.time_of(7), None, "too far from the last packet");
        // Nor one whose connection stood still, though its packets come late.
        assert_eq!(timing.stamp(7 + 90_000 * 61, 90 * S, 0, 0), 90 * S);
    }

    #[test]
    fn a_packet_that_sinks_would_drop_is_delayed() {
        let mut timing = Timing::new(90_000, 20 * MS);
        timing.stamp(0, S, 0, 0);
        // In time, as late as may be, too late.
        for (frame, late, expected) in [(1, 0, 0), (2, 20, 0), (3, 21, 21), (4, 21, 21)] {
            let sent = S + frame * 40 * MS;
            let stamp = timing.stamp(frame as u32 * 3_600, sent + late * MS, 0, 0);
            assert_eq!(stamp, sent + expected * MS, "{frame}");
        }
    }

    #[test]
    fn a_new_source_does_not_go_back_behind_the_last_buffer() {
        assert_eq!(Timing::new(8_000, LATENCY).stamp(5, S, 2 * S, 0), 2 * S);
    }

    #[test]
    fn an_offset_that_goes_back_holds_time_still() {
        let mut timing = Timing::new(90_000, LATENCY);
        timing.stamp(0, S, 0, 100 * MS as i64);
        assert_eq!(timing.stamp(3_600, S + 40 * MS, 0, 0), S + 100 * MS);
        assert_eq!(timing.stamp(3_600, S + 41 * MS, 0, 0), S + 100 * MS);
        assert_eq!(timing.stamp(18_000, S + 200 * MS, 0, 0), S + 200 * MS);
    }

    #[test]
    fn a_year_of_sound_does_not_add_up_errors() {
        let mut timing = Timing::new(44_100, LATENCY);
        let hour = 3_600u64;
        for hours in 0..24 * 365 {
            let seconds = hours * hour;
            let time = (seconds * 44_100) as u32;
            let arrival = S + seconds * S;
            assert_eq!(timing.stamp(time, arrival, 0, 0), arrival);
        }
    }

    #[test]
    fn reports_are_placed_if_they_are_near() {
        let mut timing = Timing::new(90_000, LATENCY);
        assert_eq!(timing.time_of(0), None);
        timing.stamp(900_000, S, 0, 50);
        assert_eq!(timing.time_of(900_000), Some(S as i64));
        assert_eq!(timing.time_of(945_000), Some((S + 500 * MS) as i64));
        assert_eq!(timing.time_of(855_000), Some((S / 2) as i64));
        assert_eq!(timing.time_of(1_900_000), None);
    }
}

#[cfg(test)]
mod skew_tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const S: i64 = 1_000 * MS;
    const DAY: i64 = 24 * 3600 * S;
    const FRAME: i64 = 40 * MS;

    /// How early times are at the end of `time`, of a sender whose clock is fast by `ppm`.
    fn early(ppm: i64, time: i64, network: impl Fn(i64) -> i64) -> i64 {
        let mut skew = Skew::default();
        let mut early = 0;
        for number in 0..time / FRAME {
            let at = number * FRAME;
            let sent = at + at / 1_000_000 * ppm;
            early = at - sent - skew.on_packet(at + network(number), sent);
        }
        early
    }

    #[test]
    fn a_clock_that_is_off_is_followed_for_days() {
        // The filter lags behind: 100 ppm are half a millisecond in 5 s.
        for ppm in [-100, -20, 0, 20, 100] {
            let early = early(ppm, 3 * DAY, |_| 0);
            assert!(early.abs() < MS, "{ppm} ppm: {early}");
        }
    }

    #[test]
    fn jitter_and_bursts_are_no_drift() {
        // Ten frames at a time, and up to 3 ms on top.
        let jitter = |number: i64| (9 - number % 10) * FRAME + number * 7_919 % 4 * MS;
        let early = early(0, 3_600 * S, jitter);
        assert!(early.abs() < 2 * MS, "{early}");
    }

    #[test]
    fn a_connection_that_stands_still_for_a_second_changes_nothing() {
        let still = |number: i64| (1_025 - number).clamp(0, 25) % 25 * FRAME;
        assert!(early(0, 60 * S, still).abs() < 2 * MS);
    }

    #[test]
    fn a_source_that_begins_with_a_burst_is_in_time_two_seconds_later() {
        // A second of media at once, as a server sends it that keeps the last frames.
        let burst = |number: i64| -(number * FRAME).min(S);
        let late = S - early(0, 5 * S, burst);
        assert!(late.abs() < MS, "{late}");
    }

    #[test]
    fn a_sender_that_stood_still_is_followed() {
        let stood = |number: i64| if number > 1_000 { S } else { 0 };
        let late = early(0, 120 * S, stood) + S;
        assert!(late.abs() < MS, "{late}");
    }

    #[test]
    fn many_packets_fill_the_window_before_its_time() {
        let mut skew = Skew::default();
        for number in 0..10_000 {
            skew.on_packet(number * 10 + 5, number * 10);
        }
        assert_eq!((skew.delays.len(), skew.now()), (MAX_DELAYS, 5));
    }
}

#[cfg(test)]
mod lip_sync_tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const SECOND: u64 = 1 << 32;
    const NOW: u64 = 3_900_000_000 * SECOND;

    fn report(sync: &mut LipSync, stream: usize, ntp: u64, time: i64) -> Vec<(usize, i64)> {
        let mut changes = Vec::new();
        sync.on_report(stream, ntp, time, |stream, offset| {
            changes.push((stream, offset))
        });
        changes
    }

    #[test]
    fn a_stream_that_is_early_is_delayed() {
        let mut sync = LipSync::default();
        assert_eq!(report(&mut sync, 0, NOW, 1_000 * MS), []);
        // The same moment is 30 ms later in stream 1: stream 0 is delayed.
        assert_eq!(report(&mut sync, 1, NOW, 1_030 * MS), [(0, 30 * MS)]);
        // Half a second later, by both clocks.
        assert_eq!(report(&mut sync, 1, NOW + SECOND / 2, 1_530 * MS), []);
        // Stream 0 is now 80 ms later than it was.
        assert_eq!(
            report(&mut sync, 0, NOW, 1_080 * MS),
            [(0, 0), (1, 50 * MS)]
        );
    }

    #[test]
    fn an_offset_too_small_to_see_is_left_alone() {
        let mut sync = LipSync::default();
        report(&mut sync, 0, NOW, 0);
        assert_eq!(report(&mut sync, 1, NOW, 3 * MS), []);
        assert_eq!(report(&mut sync, 1, NOW, 4 * MS), [(0, 4 * MS)]);
    }

    #[test]
    fn clocks_that_have_nothing_to_do_with_each_other_are_left_alone() {
        let mut sync = LipSync::default();
        report(&mut sync, 0, NOW, 0);
        assert_eq!(
            report(&mut sync, 1, SECOND, 0),
            [],
            "one counts from its start"
        );
        let mut sync = LipSync::default();
        sync.on_name(0, b"camera");
        sync.on_name(1, b"microphone");
        report(&mut sync, 0, NOW, 0);
        assert_eq!(report(&mut sync, 1, NOW, 30 * MS), []);
        sync.on_name(1, b"camera");
        assert_eq!(report(&mut sync, 1, NOW, 30 * MS), [(0, 30 * MS)]);
    }

    #[test]
    fn a_new_source_begins_anew() {
        let mut sync = LipSync::default();
        report(&mut sync, 0, NOW, 0);
        sync.forget(0);
        assert_eq!(report(&mut sync, 1, NOW, 30 * MS), []);
        assert_eq!(report(&mut sync, 0, NOW, 0), [(0, 30 * MS)]);
        // While stream 1 begins anew stream 0 stays where it is.
        sync.forget(1);
        assert_eq!(report(&mut sync, 0, NOW, 0), []);
        assert_eq!(report(&mut sync, 1, NOW, 30 * MS), []);
    }
}
