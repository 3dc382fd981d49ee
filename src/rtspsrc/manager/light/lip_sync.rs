//! Synchronises the streams of a session by their sender reports.
//!
//! A report gives one moment by the sender's wall clock (NTP) and by the RTP time of its stream. From it
//! follows, for each stream, the difference between running time and wall clock. If the streams began at
//! different moments the differences are not equal, and the stream that is early is delayed to match. No
//! stream is brought forward, as that time has passed. The rules and limits are those of rtpbin.

use std::time::Duration;

/// Streams that are further apart do not have one clock (`max-ts-offset`).
const MAX_OFFSET: i64 = Duration::from_secs(3).as_nanos() as i64;
/// A smaller change is not worth a jump (`min-ts-offset`).
const MIN_OFFSET: i64 = Duration::from_millis(4).as_nanos() as i64;

/// What is known of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Track {
    stream: usize,
    /// Running time minus wall clock, in nanoseconds.
    difference: Option<i64>,
    /// The participant (CNAME) that it belongs to; `None` if no report has named one.
    name: Option<Box<[u8]>>,
    offset: i64,
}

/// The streams of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LipSync {
    tracks: Vec<Track>,
}

impl LipSync {
    /// A source description names the participant of a stream.
    pub(super) fn on_name(&mut self, stream: usize, name: &[u8]) {
        let track = self.track(stream);
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
        let track = self.track(stream);
        track.difference = Some(time.wrapping_sub(nanoseconds(ntp)));
        let name = track.name.clone();
        let is_one = |track: &&mut Track| {
            let is_other = name.is_some() && track.name.is_some() && track.name != name;
            track.difference.is_some() && !is_other
        };
        let mut together: Vec<&mut Track> = self.tracks.iter_mut().filter(is_one).collect();
        let latest = together.iter().filter_map(|track| track.difference).max();
        for track in &mut together {
            let (Some(latest), Some(own)) = (latest, track.difference) else {
                return;
            };
            let offset = latest.wrapping_sub(own);
            let is_in_reach = (0..=MAX_OFFSET).contains(&offset);
            if is_in_reach && offset.abs_diff(track.offset) >= MIN_OFFSET.unsigned_abs() {
                track.offset = offset;
                change(track.stream, offset);
            }
        }
    }

    /// The stream has a new source: what was known of it is void.
    pub(super) fn forget(&mut self, stream: usize) {
        self.tracks.retain(|track| track.stream != stream);
    }

    fn track(&mut self, stream: usize) -> &mut Track {
        let at = self.tracks.iter().position(|track| track.stream == stream);
        let at = at.unwrap_or_else(|| {
            self.tracks.push(Track {
                stream,
                ..Track::default()
            });
            self.tracks.len() - 1
        });
        &mut self.tracks[at]
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
    }
}
