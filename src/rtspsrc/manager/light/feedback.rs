//! Asks the camera for a key picture: a picture loss indication (RFC 4585 6.3.1), or a full intra request (RFC 5104
//! 4.3.1) where downstream wants the parameter sets as well, as GStreamer's `rtpsession` does.
//!
//! The camera is asked when downstream pushes a `GstForceKeyUnit` event, and while a pad that was linked again
//! drops pictures. Only a stream with the profile AVPF whose description offers that feedback is asked, and not
//! more often than once in [`APART`].

use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use super::{Light, rtcp, stream::LightStream};
use crate::rtspsrc::{lock, threads::timer};

/// The time between two requests of one stream.
const APART: Duration = Duration::from_millis(500);

/// Payload-specific feedback (RFC 4585 6.1), and its kinds.
const FEEDBACK: u8 = 206;
const PICTURE_LOSS: u8 = 1;
const FULL_INTRA: u8 = 4;

/// The requests for key pictures of one stream.
#[derive(Debug, Default)]
pub(super) struct KeyPictureRequests {
    last: Option<Instant>,
    /// The number of the last full intra request. A camera takes one with the same number for a repetition.
    number: u8,
}

/// What a description offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feedback {
    PictureLoss,
    FullIntra,
}

impl Feedback {
    /// By the fields that a description's `rtcp-fb` attributes have in caps.
    fn of(caps: &gst::CapsRef, all_headers: bool) -> Option<Self> {
        let fields = caps.structure(0)?;
        if all_headers && fields.has_field("rtcp-fb-ccm-fir") {
            return Some(Self::FullIntra);
        }
        let offers_loss = fields.has_field("rtcp-fb-nack-pli");
        offers_loss.then_some(Self::PictureLoss)
    }
}

impl KeyPictureRequests {
    /// The feedback packet of `own` about `source`, or `None` if one was sent just now.
    fn next(&mut self, now: Instant, own: u32, source: u32, kind: Feedback) -> Option<Vec<u8>> {
        let is_early = |last| now.saturating_duration_since(last) < APART;
        if self.last.is_some_and(is_early) {
            return None;
        }
        self.last = Some(now);
        let (format, media, entry) = match kind {
            Feedback::PictureLoss => (PICTURE_LOSS, source, None),
            Feedback::FullIntra => {
                self.number = self.number.wrapping_add(1);
                (FULL_INTRA, 0, Some(source))
            }
        };
        let mut words = vec![own, media];
        words.extend(
            entry
                .into_iter()
                .flat_map(|it| [it, u32::from(self.number) << 24]),
        );
        let mut packet = vec![0x80 | format, FEEDBACK];
        packet.extend((words.len() as u16).to_be_bytes());
        packet.extend(words.into_iter().flat_map(u32::to_be_bytes));
        Some(packet)
    }
}

impl Light {
    /// Takes an event from downstream.
    pub(super) fn on_upstream_event(&self, stream: usize, event: &gst::Event) {
        let gst::EventView::CustomUpstream(event) = event.view() else {
            return;
        };
        let wanted = event
            .structure()
            .filter(|it| it.name() == "GstForceKeyUnit");
        if let (Some(wanted), Some(stream)) = (wanted, self.stream(stream)) {
            self.ask_for_key_picture(stream, wanted.get("all-headers").unwrap_or_default());
        }
    }

    /// Asks the camera, if it can be asked.
    pub(super) fn ask_for_key_picture(&self, stream: &LightStream, all_headers: bool) {
        let caps = stream.pad.current_caps();
        let caps = caps.filter(|_| stream.out.has_feedback);
        let Some(kind) = caps.and_then(|caps| Feedback::of(&caps, all_headers)) else {
            return;
        };
        let Some(reports) = lock(&self.reports).clone() else {
            return;
        };
        let Some((own, source)) = stream.reporter() else {
            return;
        };
        let now = timer::now();
        let request = lock(&stream.key_pictures).next(now, own, source, kind);
        if let Some(request) = request {
            // Each compound begins with a report (RFC 3550 6.1).
            let mut compound = rtcp::receiver_report(own, None, &self.name);
            compound.extend(request);
            let is_sent = reports.try_send(stream.out.number, compound);
            gst::debug!(
                super::CAT,
                obj = stream.pad,
                "asked for a key picture: {is_sent}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caps(text: &str) -> gst::Caps {
        gst::init().unwrap();
        format!("application/x-rtp, {text}").parse().unwrap()
    }

    #[test]
    fn what_is_offered_is_asked_for() {
        for (offered, plain, with_headers) in [
            ("payload=96", None, None),
            (
                "rtcp-fb-nack-pli=true",
                Some(Feedback::PictureLoss),
                Some(Feedback::PictureLoss),
            ),
            ("rtcp-fb-ccm-fir=true", None, Some(Feedback::FullIntra)),
            (
                "rtcp-fb-nack-pli=true, rtcp-fb-ccm-fir=true",
                Some(Feedback::PictureLoss),
                Some(Feedback::FullIntra),
            ),
        ] {
            let caps = caps(offered);
            assert_eq!(Feedback::of(&caps, false), plain, "{offered}");
            assert_eq!(Feedback::of(&caps, true), with_headers, "{offered}");
        }
    }

    #[test]
    fn requests_are_written_as_the_rfcs_say_and_not_too_often() {
        let mut requests = KeyPictureRequests::default();
        let now = Instant::now();
        let loss = requests.next(now, 1, 2, Feedback::PictureLoss).unwrap();
        assert_eq!(loss, [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(
            requests.next(now + APART / 2, 1, 2, Feedback::PictureLoss),
            None
        );
        for number in 1..=2 {
            let now = now + APART * number;
            let full = requests.next(now, 1, 2, Feedback::FullIntra).unwrap();
            let head = [0x84, 206, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
            assert_eq!(full, [&head[..], &[number as u8, 0, 0, 0]].concat());
        }
    }
}
