//! A session of the load server: where it is in the clip, and when its next picture is due.

use std::time::{Duration, Instant};

use super::clip::{Clip, Stamp};
use crate::encode::FRAME_RATE;

const FRAME: Duration = Duration::from_millis(1000 / FRAME_RATE as u64);
const CLOCK_RATE: f64 = 90_000.0;

pub(super) struct Session {
    pub(super) id: String,
    /// As in its URI: decides where its clip begins a second time, so that keyframes and pictures
    /// of cameras that start together do not stay together.
    camera: usize,
    is_paced: bool,
    channel: u8,
    sequence: u16,
    frame: usize,
    playing: Option<Playing>,
}

struct Playing {
    since: Instant,
    due: Instant,
}

impl Session {
    pub(super) fn new(id: String, camera: usize, is_paced: bool, channel: u8) -> Self {
        Self {
            id,
            camera,
            is_paced,
            channel,
            sequence: 0,
            frame: 0,
            playing: None,
        }
    }

    pub(super) fn play(&mut self, now: Instant) {
        self.playing = Some(Playing {
            since: now,
            due: now,
        });
    }

    pub(super) fn pause(&mut self) {
        self.playing = None;
    }

    /// When a picture is due; none: never.
    pub(super) fn due(&self) -> Option<Instant> {
        self.playing.as_ref().map(|playing| playing.due)
    }

    pub(super) fn is_unthrottled(&self) -> bool {
        !self.is_paced && self.playing.is_some()
    }

    /// Writes the picture that is due. The times in it are those of the wall, at any pace.
    pub(super) fn write(&mut self, clip: &Clip, now: Instant, out: &mut Vec<u8>) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        let time = if self.is_paced { playing.due } else { now };
        let elapsed = time.saturating_duration_since(playing.since);
        let stamp = Stamp {
            channel: self.channel,
            sequence: self.sequence,
            timestamp: (elapsed.as_secs_f64() * CLOCK_RATE) as u64 as u32,
            ssrc: 0x10_0000 + self.camera as u32,
        };
        let packets = clip.write(self.frame, stamp, out);
        self.sequence = self.sequence.wrapping_add(packets);
        self.advance(clip);
    }

    /// Leaves the picture out; its packets are missing then.
    pub(super) fn skip(&mut self, clip: &Clip) {
        self.sequence = self.sequence.wrapping_add(1);
        self.advance(clip);
    }

    fn advance(&mut self, clip: &Clip) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        if self.frame == 0 && self.is_paced {
            // Out of step with the others that start now.
            playing.due += FRAME * (self.camera as u32 * 7 % 40) / 40;
        }
        playing.due += FRAME;
        self.frame += 1;
        let first_round = 1 + self.camera * 13 % clip.len();
        if self.frame == first_round {
            self.frame = clip.len();
        }
    }
}
