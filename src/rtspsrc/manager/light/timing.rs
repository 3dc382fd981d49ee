//! Computes running times from RTP times.
//!
//! As with `rtspsrc` over TCP the first packet gets the time of its arrival, and each later one is as
//! much later as its RTP time is: so the jitter of a transport that delivers in bursts does not show. To
//! that the drift of the sender's clock is added ([`skew`](super::skew)), and the offset that
//! synchronises the streams of a session ([`lip_sync`](super::lip_sync)).

use std::time::Duration;

use super::skew::Skew;

const SECOND: i64 = 1_000_000_000;

/// If RTP time jumps further than this, while the time of arrival does not, it has a new origin: the
/// encoder was restarted under its old SSRC.
const JUMP: i64 = Duration::from_secs(1).as_nanos() as i64;

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
struct LastStamp {
    rtp: i64,
    arrival: i64,
    /// Its time without the offset of lip-sync, and with it.
    stamp: i64,
    shown: i64,
}

/// The times of one source; all but RTP time in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    /// In Hz, above 0.
    clock_rate: u32,
    /// How late a packet may come and still be in time for a sink.
    latency: i64,
    origin: Option<Origin>,
    last: Option<LastStamp>,
    skew: Skew,
}

/// The time of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PacketTime {
    /// Running time.
    pub(super) time: u64,
    /// The times of the source begin anew with it.
    pub(super) is_anew: bool,
}

impl PacketTime {
    fn of(time: i64, is_anew: bool) -> Self {
        Self {
            time: time.max(0).unsigned_abs(),
            is_anew,
        }
    }
}

impl Timing {
    /// `clock_rate` in Hz; 0 is taken for that of video, 90 000. `latency`, in nanoseconds, is how long
    /// sinks wait.
    pub(super) fn new(clock_rate: u32, latency: u64) -> Self {
        Self {
            clock_rate: if clock_rate == 0 { 90_000 } else { clock_rate },
            latency: i64::try_from(latency).unwrap_or(i64::MAX / 2),
            origin: None,
            last: None,
            skew: Skew::default(),
        }
    }

    /// In Hz.
    pub(super) fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    /// The time of a packet with this RTP time that came at the running time `arrival`. `floor`: the time
    /// of the last buffer, before which a new source does not begin. `offset`: what lip-sync adds.
    pub(super) fn stamp(&mut self, time: u32, arrival: u64, floor: u64, offset: i64) -> PacketTime {
        let arrival = i64::try_from(arrival).unwrap_or(i64::MAX);
        let floor = i64::try_from(floor).unwrap_or(i64::MAX);
        let floor = match self.has_jumped(time, arrival) {
            true => self.begin_anew().max(floor),
            false => floor,
        };
        let rtp = self.extend(time);
        if let Some(last) = self.last.filter(|last| last.rtp == rtp) {
            return PacketTime::of(last.shown, false);
        }
        let is_anew = self.origin.is_none();
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
                self.delay_until(rtp, arrival);
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
        PacketTime::of(shown, is_anew)
    }

    /// Takes a packet that sinks would drop for being late as a new origin: the sender has paused, or the
    /// first packet was faster than any other.
    fn delay_until(&mut self, rtp: i64, arrival: i64) {
        self.origin = Some(Origin { rtp, time: arrival });
        self.skew = Skew::default();
    }

    /// Forgets the source. Returns the time of the last packet.
    fn begin_anew(&mut self) -> i64 {
        self.origin = None;
        self.skew = Skew::default();
        self.last.take().map_or(0, |last| last.shown)
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

    fn has_jumped(&self, time: u32, arrival: i64) -> bool {
        self.last.is_some_and(|last| {
            let step = self.nanoseconds(self.extend(time) - last.rtp);
            step.abs() > JUMP && (step - (arrival - last.arrival)).abs() > JUMP
        })
    }

    fn nanoseconds(&self, units: i64) -> i64 {
        let nanoseconds = i128::from(units) * i128::from(SECOND) / i128::from(self.clock_rate);
        nanoseconds as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const S: u64 = 1_000 * MS;
    const LATENCY: u64 = 2 * S;

    fn stamps(packets: &[(u32, u64)]) -> Vec<u64> {
        let mut timing = Timing::new(90_000, LATENCY);
        let stamp = |&(time, arrival): &(u32, u64)| timing.stamp(time, arrival, 0, 0).time;
        packets.iter().map(stamp).collect()
    }

    #[test]
    fn the_first_packet_is_of_its_arrival_the_others_follow() {
        let packets = [(900, S), (4_500, S + 40 * MS), (8_100, S + 500 * MS)];
        assert_eq!(stamps(&packets), [S, S + 40 * MS, S + 80 * MS]);
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
    fn a_new_origin_is_of_its_arrival() {
        let mut timing = Timing::new(90_000, LATENCY);
        timing.stamp(0, S, 0, 0);
        for time in [90_000_000, 7] {
            let stamp = timing.stamp(time, 3 * S, 0, 0);
            assert_eq!((stamp.time, stamp.is_anew), (3 * S, true));
        }
        // A source that was silent for as long as its time went on has no new origin.
        let stamp = timing.stamp(7 + 90_000 * 60, 63 * S, 0, 0);
        assert_eq!((stamp.time, stamp.is_anew), (63 * S, false));
        // Nor has one whose connection stood still, though its packets come late.
        let stamp = timing.stamp(7 + 90_000 * 61, 90 * S, 0, 0);
        assert_eq!((stamp.time, stamp.is_anew), (90 * S, false));
    }

    #[test]
    fn a_packet_that_sinks_would_drop_is_delayed() {
        let mut timing = Timing::new(90_000, 20 * MS);
        timing.stamp(0, S, 0, 0);
        // In time, as late as may be, too late.
        for (frame, late, expected) in [(1, 0, 0), (2, 20, 0), (3, 21, 21), (4, 21, 21)] {
            let sent = S + frame * 40 * MS;
            let stamp = timing.stamp(frame as u32 * 3_600, sent + late * MS, 0, 0);
            assert_eq!(stamp.time, sent + expected * MS, "{frame}");
        }
    }

    #[test]
    fn a_new_source_does_not_go_back_behind_the_last_buffer() {
        assert_eq!(
            Timing::new(8_000, LATENCY).stamp(5, S, 2 * S, 0).time,
            2 * S
        );
    }

    #[test]
    fn an_offset_that_goes_back_holds_time_still() {
        let mut timing = Timing::new(90_000, LATENCY);
        timing.stamp(0, S, 0, 100 * MS as i64);
        assert_eq!(timing.stamp(3_600, S + 40 * MS, 0, 0).time, S + 100 * MS);
        assert_eq!(timing.stamp(3_600, S + 41 * MS, 0, 0).time, S + 100 * MS);
        assert_eq!(timing.stamp(18_000, S + 200 * MS, 0, 0).time, S + 200 * MS);
    }

    #[test]
    fn a_year_of_sound_does_not_add_up_errors() {
        let mut timing = Timing::new(44_100, LATENCY);
        let hour = 3_600u64;
        for hours in 0..24 * 365 {
            let seconds = hours * hour;
            let time = (seconds * 44_100) as u32;
            assert_eq!(
                timing.stamp(time, S + seconds * S, 0, 0).time,
                S + seconds * S
            );
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
