//! A session of the load server: where it is in the clip, and when its next picture is due.

use std::time::{Duration, Instant};

use super::clip::{Clip, Stamp};
use crate::{clock::rtp_time, encode::FRAME_RATE};

const FRAME: Duration = Duration::from_millis(1000 / FRAME_RATE as u64);
const CLOCK_RATE: f64 = 90_000.0;

/// When a camera sends its pictures, and what their RTP times say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// At the clip's pace; the times are those at which the pictures are due.
    Paced,
    /// At the clip's pace; the times are those at which they are sent.
    Stamped,
    /// As fast as they are read.
    Unthrottled,
}

impl Pace {
    /// By the first part of a camera's path.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "paced" => Some(Self::Paced),
            "stamped" => Some(Self::Stamped),
            "unthrottled" => Some(Self::Unthrottled),
            _ => None,
        }
    }
}

pub(super) struct Session {
    pub(super) id: String,
    /// As in its URI: decides where its clip begins a second time, so that keyframes and pictures
    /// of cameras that start together do not stay together.
    camera: usize,
    pace: Pace,
    channel: u8,
    sequence: u16,
    frame: usize,
    playing: Option<Playing>,
}

struct Playing {
    since: Instant,
    /// The RTP time of `since`.
    base: u32,
    due: Instant,
}

impl Session {
    pub(super) fn new(id: String, camera: usize, pace: Pace, channel: u8) -> Self {
        Self {
            id,
            camera,
            pace,
            channel,
            sequence: 0,
            frame: 0,
            playing: None,
        }
    }

    /// Returns the RTP time of the first picture.
    pub(super) fn play(&mut self, now: Instant) -> u32 {
        let base = rtp_time();
        self.playing = Some(Playing {
            since: now,
            base,
            due: now,
        });
        base
    }

    pub(super) fn pause(&mut self) {
        self.playing = None;
    }

    /// When a picture is due; none: never.
    pub(super) fn due(&self) -> Option<Instant> {
        self.playing.as_ref().map(|playing| playing.due)
    }

    pub(super) fn is_unthrottled(&self) -> bool {
        self.pace == Pace::Unthrottled && self.playing.is_some()
    }

    /// Writes the picture that is due. The times in it are those of the wall, at any pace.
    pub(super) fn write(&mut self, clip: &Clip, now: Instant, out: &mut Vec<u8>) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        let time = match self.pace {
            Pace::Paced => playing.due,
            Pace::Stamped | Pace::Unthrottled => now,
        };
        let elapsed = time.saturating_duration_since(playing.since);
        let elapsed = (elapsed.as_secs_f64() * CLOCK_RATE) as u64 as u32;
        let stamp = Stamp {
            channel: self.channel,
            sequence: self.sequence,
            timestamp: playing.base.wrapping_add(elapsed),
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
        if self.frame == 0 && self.pace != Pace::Unthrottled {
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
