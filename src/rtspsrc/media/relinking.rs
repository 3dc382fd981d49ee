//! Pads that are unlinked while they play, and linked again: a recorder is stopped, a window closed, a branch
//! of a `tee` taken away.
//!
//! A pad that was never linked is an error if no other is linked, as with `rtspsrc`: the application does
//! not know that there is a stream. A pad that downstream has taken media from is none, nor is one whose branch
//! was stopped before it is unlinked: it returns FLUSHING. What comes while
//! nothing takes it is dropped, and a picture goes on with the next key picture: the decoder that gets it has
//! missed those before.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gstreamer as gst;

use crate::{
    mux::proto::wire::rtp::{Content, VideoCoding, payload},
    rtspsrc::lock,
};

/// Where no key picture can be told, it goes on without one after this time. Cameras send one in 10 s at
/// least.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// The result of a push.
pub(crate) type FlowResult = Result<gst::FlowSuccess, gst::FlowError>;

/// Whether downstream takes the media of one pad.
#[derive(Debug, Default)]
pub(crate) struct Relinking {
    /// It has taken some.
    was_linked: AtomicBool,
    /// It takes none at present, or has missed some since the last key picture.
    is_cut: AtomicBool,
    /// Since when it is, or when it was last found to be unlinked.
    since: Mutex<Option<Instant>>,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PacketFate {
    /// It is pushed, as nothing is missing before it.
    Follow,
    /// It is pushed, and the stream goes on with it if downstream takes it.
    Resume,
    /// It is pushed: parameter sets, which are of use whatever comes next.
    Ahead,
    /// It is dropped.
    Drop,
}

impl Relinking {
    /// Decides on an RTP packet. `coding` is that of its payload, if key pictures can be told. A stream that
    /// `rests` gets only what recovers a decoder.
    pub(crate) fn admit(
        &self,
        now: impl FnOnce() -> Instant,
        packet: &[u8],
        coding: impl FnOnce() -> Option<VideoCoding>,
        rests: bool,
    ) -> PacketFate {
        if !rests && !self.is_cut.load(Ordering::Relaxed) {
            return PacketFate::Follow;
        }
        let is_late = || {
            let age = |since| now().saturating_duration_since(since);
            lock(&self.since).is_none_or(|since| age(since) >= LONGEST_WAIT)
        };
        let Some((coding, payload)) = coding().zip(payload(packet)) else {
            return match rests {
                true => PacketFate::Drop,
                false => PacketFate::Resume,
            };
        };
        match coding.look(payload) {
            Content::Picture { is_key: true } | Content::Ahead { recovers: true } => {
                PacketFate::Resume
            }
            Content::Ahead { recovers: false } => PacketFate::Ahead,
            Content::Picture { is_key: false } | Content::Rest => match !rests && is_late() {
                true => PacketFate::Resume,
                false => PacketFate::Drop,
            },
        }
    }

    /// A packet was pushed. Returns the result as the pad is to have it.
    pub(crate) fn on_pushed(
        &self,
        fate: PacketFate,
        flow: FlowResult,
        now: impl FnOnce() -> Instant,
    ) -> FlowResult {
        match flow {
            Err(gst::FlowError::NotLinked | gst::FlowError::Flushing)
                if self.was_linked.load(Ordering::Relaxed) =>
            {
                *lock(&self.since) = Some(now());
                self.is_cut.store(true, Ordering::Relaxed);
                Ok(gst::FlowSuccess::Ok)
            }
            Ok(_) if fate == PacketFate::Resume => {
                self.is_cut.store(false, Ordering::Relaxed);
                flow
            }
            Ok(_) if !self.was_linked.load(Ordering::Relaxed) => {
                self.was_linked.store(true, Ordering::Relaxed);
                flow
            }
            _ => flow,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "any time will do")]

    use super::*;

    const NOT_LINKED: FlowResult = Err(gst::FlowError::NotLinked);
    const KEY: u8 = 0x65;
    const OTHER: u8 = 0x41;
    const PARAMETERS: u8 = 0x67;

    /// A pad with H.264, and what came out of it.
    struct Pad {
        relinking: Relinking,
        coding: Option<VideoCoding>,
        is_linked: bool,
        rests: bool,
        now: Instant,
        out: Vec<(u8, bool)>,
    }

    impl Pad {
        fn new(coding: Option<VideoCoding>) -> Self {
            Self {
                relinking: Relinking::default(),
                coding,
                is_linked: true,
                rests: false,
                now: Instant::now(),
                out: Vec::new(),
            }
        }

        /// Pushes a packet with one NAL unit of this kind.
        fn push(&mut self, unit: u8) -> FlowResult {
            // The first slice of a picture.
            let packet = [&[0x80, 96][..], &[0; 10], &[unit, 0x88, 0, 0]].concat();
            let (now, coding) = (self.now, self.coding);
            let fate = self.relinking.admit(|| now, &packet, || coding, self.rests);
            if fate == PacketFate::Drop {
                return Ok(gst::FlowSuccess::Ok);
            }
            let flow = match self.is_linked {
                true => Ok(gst::FlowSuccess::Ok),
                false => NOT_LINKED,
            };
            if self.is_linked {
                self.out.push((unit, fate == PacketFate::Resume));
            }
            self.relinking.on_pushed(fate, flow, || now)
        }
    }

    #[test]
    fn a_pad_that_was_never_linked_says_so() {
        let mut pad = Pad::new(Some(VideoCoding::H264));
        pad.is_linked = false;
        assert_eq!(pad.push(KEY), NOT_LINKED);
        assert_eq!(pad.push(OTHER), NOT_LINKED);
        pad.is_linked = true;
        assert!(pad.push(OTHER).is_ok());
        assert_eq!(pad.out, [(OTHER, false)]);
    }

    #[test]
    fn a_branch_that_is_stopped_is_as_one_that_is_unlinked() {
        let relinking = Relinking::default();
        let push = |flow| relinking.on_pushed(PacketFate::Follow, flow, Instant::now);
        let flushing = Err(gst::FlowError::Flushing);
        assert_eq!(push(flushing), flushing);
        assert!(push(Ok(gst::FlowSuccess::Ok)).is_ok() && push(flushing).is_ok());
        assert_eq!(push(Err(gst::FlowError::Eos)), Err(gst::FlowError::Eos));
    }

    #[test]
    fn a_pad_that_is_linked_again_goes_on_with_the_next_key_picture() {
        let mut pad = Pad::new(Some(VideoCoding::H264));
        pad.push(OTHER).unwrap();
        pad.is_linked = false;
        for unit in [OTHER, KEY, OTHER] {
            assert!(pad.push(unit).is_ok(), "it is no error");
        }
        pad.is_linked = true;
        for unit in [OTHER, PARAMETERS, KEY, OTHER] {
            pad.push(unit).unwrap();
        }
        let expected = [
            (OTHER, false),
            (PARAMETERS, false),
            (KEY, true),
            (OTHER, false),
        ];
        assert_eq!(pad.out, expected);
    }

    #[test]
    fn a_stream_that_rests_gets_only_what_recovers_a_decoder() {
        for coding in [Some(VideoCoding::H264), None] {
            let mut pad = Pad::new(coding);
            pad.rests = true;
            for unit in [OTHER, PARAMETERS, KEY] {
                assert!(pad.push(unit).is_ok());
            }
            match coding {
                Some(_) => assert_eq!(pad.out, [(PARAMETERS, false), (KEY, true)]),
                None => assert_eq!(pad.out, []),
            }
            pad.rests = false;
            pad.out.clear();
            pad.push(OTHER).unwrap();
            assert_eq!(pad.out, [(OTHER, false)]);
        }
    }

    #[test]
    fn sound_goes_on_at_once_and_so_does_a_picture_without_key_pictures_after_a_while() {
        let mut sound = Pad::new(None);
        let mut picture = Pad::new(Some(VideoCoding::H264));
        for pad in [&mut sound, &mut picture] {
            pad.push(OTHER).unwrap();
            pad.is_linked = false;
            pad.push(OTHER).unwrap();
            pad.is_linked = true;
            pad.push(OTHER).unwrap();
        }
        assert_eq!((sound.out.len(), picture.out.len()), (2, 1));
        picture.now += LONGEST_WAIT;
        picture.push(OTHER).unwrap();
        picture.push(OTHER).unwrap();
        assert_eq!(picture.out[1..], [(OTHER, true), (OTHER, false)]);
    }
}
