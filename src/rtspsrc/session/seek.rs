//! Seeks of a session that plays, by the rules of `rtspsrc`: PAUSE, then PLAY with `Range`, and with `Scale` or
//! `Speed` for other rates.
//!
//! What has come before the answer to PAUSE is from the old place. What comes between the answers to PAUSE and
//! PLAY may be from the old place or from the new one; the sequence number that `RTP-Info` names tells.
//! All of it waits in the session's queue meanwhile.
//!
//! A server that refuses the seek goes on where it was: the seek fails, and nothing was flushed.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use gst::glib;
use gstreamer as gst;
use tokio::sync::oneshot;

use super::{
    playback::{Playback, playing_failed},
    report::EndReason,
};
use crate::{
    mux::{
        self, Packet, PacketKind, PlayAnswer, PlayHeaders, Presentation,
        proto::wire::sdp::range_times,
    },
    rtspsrc::{
        CAT,
        manager::Manager,
        media::{
            caps,
            seeking::{SeekRequest, Segment},
        },
        threads::timer,
    },
};

pub(crate) use crate::rtspsrc::media::seeking::Seeking;

/// `onvif-mode` and `onvif-rate-control` of the element; `None` outside of ONVIF replay.
pub(crate) type OnvifReplay = Option<bool>;

/// Where a seek leads.
#[derive(Clone, Debug)]
pub(crate) struct SeekTarget {
    pub(super) segment: Segment,
    flags: gst::SeekFlags,
    seqnum: gst::Seqnum,
    /// Of key pictures.
    interval: Option<gst::ClockTime>,
}

impl SeekTarget {
    /// Where an event leads from what is played. `None` if it is not a seek by time.
    pub(crate) fn new(event: &gst::Event, from: &Segment) -> Option<Self> {
        let gst::EventView::Seek(seek) = event.view() else {
            return None;
        };
        let (rate, flags, start_type, start, stop_type, stop) = seek.get();
        let time = |value| match value {
            gst::GenericFormattedValue::Time(time) => Some(time),
            _ => None,
        };
        let mut segment = from.clone();
        let (start, stop) = (time(start)?, time(stop)?);
        segment.do_seek(rate, flags, start_type, start, stop_type, stop)?;
        Some(Self {
            segment,
            flags,
            seqnum: event.seqnum(),
            interval: seek.trickmode_interval(),
        })
    }

    fn flushes(&self) -> bool {
        self.flags.contains(gst::SeekFlags::FLUSH)
    }

    /// The headers of the PLAY that leads there.
    pub(crate) fn headers(&self, onvif: OnvifReplay) -> PlayHeaders {
        let rate = self.segment.rate();
        let mut headers = vec![("Range", range(&self.segment, onvif.is_some()))];
        if self.flags.contains(gst::SeekFlags::TRICKMODE) && rate != 1.0 {
            headers.push(("Scale", rate.to_string()));
        } else if rate != 1.0 {
            if rate < 0.0 {
                headers.push(("Scale", "-1".to_owned()));
            }
            if rate.abs() != 1.0 {
                headers.push(("Speed", rate.abs().to_string()));
            }
        }
        if onvif.is_some() {
            headers.extend(self.frames().map(|frames| ("Frames", frames)));
        }
        headers.extend(replay_headers(onvif));
        headers.into()
    }

    /// `Frames` of ONVIF: which pictures are sent.
    fn frames(&self) -> Option<String> {
        if self.flags.contains(gst::SeekFlags::TRICKMODE_KEY_UNITS) {
            let interval = self.interval.filter(|it| !it.is_zero());
            Some(interval.map_or("intra".to_owned(), |interval| {
                format!("intra/{}", interval.mseconds())
            }))
        } else {
            let forward = gst::SeekFlags::TRICKMODE_FORWARD_PREDICTED;
            self.flags.contains(forward).then(|| "predicted".to_owned())
        }
    }
}

/// The headers of the first PLAY of an ONVIF replay; `None` outside of it.
pub(super) fn beginning(
    presentation: &Presentation,
    described: &Segment,
    onvif: OnvifReplay,
) -> Option<PlayHeaders> {
    onvif?;
    let is_clock = presentation
        .time_range()
        .is_some_and(|range| range.starts_with("clock"));
    let range = is_clock.then(|| ("Range", range(described, true)));
    Some(range.into_iter().chain(replay_headers(onvif)).collect())
}

/// The headers that ask for ONVIF replay (ONVIF Streaming 6).
pub(crate) fn replay_headers(onvif: OnvifReplay) -> Vec<(&'static str, String)> {
    let Some(rate_control) = onvif else {
        return Vec::new();
    };
    let rate_control = if rate_control { "yes" } else { "no" };
    vec![
        ("Require", "onvif-replay".to_owned()),
        ("Rate-Control", rate_control.to_owned()),
    ]
}

/// The `Range` of a segment. Reverse playback begins at its end.
fn range(segment: &Segment, is_clock: bool) -> String {
    let (unit, text): (_, fn(gst::ClockTime) -> String) = match is_clock {
        true => ("clock", clock_text),
        false => ("npt", |time| (time.nseconds() as f64 / 1e9).to_string()),
    };
    let shown = |time: Option<gst::ClockTime>| time.map_or(String::new(), text);
    let (start, stop) = (shown(segment.start()), shown(segment.stop()));
    match segment.rate() > 0.0 {
        true => format!("{unit}={start}-{stop}"),
        false => format!("{unit}={stop}-{start}"),
    }
}

/// `20260101T120000.25Z`, of a time since 1900.
fn clock_text(time: gst::ClockTime) -> String {
    let begin = glib::DateTime::from_utc(1900, 1, 1, 0, 0, 0.0);
    let time = begin.and_then(|begin| begin.add_seconds(time.nseconds() as f64 / 1e9));
    let text = time.and_then(|time| {
        let fraction = time.microsecond() / 10_000;
        let seconds = time.format("%Y%m%dT%H%M%S")?;
        Ok(match fraction {
            0 => format!("{seconds}Z"),
            _ => format!("{seconds}.{fraction:02}Z"),
        })
    });
    text.unwrap_or_default()
}

/// Whether a presentation is not sought. It would cost a camera a gap, and its server answers the seek with 200
/// all the same.
pub(super) fn is_live(presentation: &Presentation, onvif: OnvifReplay) -> bool {
    onvif.is_none() && !presentation.announces_end()
}

/// Where a session begins that goes on at `place`.
pub(super) fn going_on(described: &Segment, place: gst::ClockTime) -> Option<SeekTarget> {
    let flags = gst::SeekFlags::empty();
    let (set, none) = (gst::SeekType::Set, gst::SeekType::None);
    let event = gst::event::Seek::new(1.0, flags, set, place, none, gst::ClockTime::NONE);
    SeekTarget::new(&event, described)
}

/// What a description says is played.
pub(crate) fn described(presentation: &Presentation) -> Segment {
    let mut segment = Segment::new();
    if let Some(range) = presentation.time_range() {
        put_range(&mut segment, &range, true);
        segment.set_duration(segment.stop());
    }
    segment
}

/// What is played after the answer to a PLAY that asked for `segment`. Where no end is announced one in the
/// answer counts for nothing: it would end a camera.
pub(crate) fn answered(mut segment: Segment, answer: &PlayAnswer) -> Segment {
    if let Some(range) = &answer.range {
        let has_end = segment.duration().is_some();
        put_range(&mut segment, range, has_end);
    }
    segment.set_rate(answer.speed.or(answer.scale).unwrap_or(1.0));
    segment
}

fn put_range(segment: &mut Segment, range: &str, has_end: bool) {
    let Some((begin, end)) = range_times(range) else {
        return;
    };
    let time = |seconds: f64| gst::ClockTime::from_nseconds((seconds.max(0.0) * 1e9) as u64);
    let begin = time(begin);
    // A server of live media may say that it ends where it begins.
    let is_known = segment.duration().is_some();
    let end = end.map(time);
    let end = end.filter(|end| has_end && (is_known || *end != begin));
    segment.set_position(begin);
    match segment.rate() > 0.0 {
        true => {
            segment.set_start(begin);
            segment.set_stop(end);
        }
        false => {
            segment.set_stop(begin);
            segment.set_start(end.unwrap_or_default());
        }
    }
}

/// Tells packets of the old place from those of the new one, in the order of their arrival.
#[derive(Debug, Default)]
struct PlaceFilter {
    /// By stream: the last sequence number of the old place, and the first one of the new.
    numbers: BTreeMap<usize, (Option<u16>, Option<u16>)>,
    /// When PAUSE was answered: tells where the server names no number.
    paused: Option<Instant>,
    /// Streams of which packets of the new place have come.
    begun: Vec<usize>,
}

impl PlaceFilter {
    fn is_new(&mut self, packet: &Packet) -> bool {
        if self.begun.contains(&packet.stream) {
            return true;
        }
        let numbers = self.numbers.get(&packet.stream);
        let is_new = match (packet.header, numbers) {
            (Some(header), Some((last, Some(first)))) => {
                is_of_new_place(header.sequence, *last, *first)
            }
            _ => self.paused.is_some_and(|paused| packet.received > paused),
        };
        if is_new && packet.kind == PacketKind::Rtp {
            self.begun.push(packet.stream);
        }
        is_new
    }
}

/// Whether a number goes on from the `first` one of the new place, rather than from the `last` one of the
/// old. Numbers may go on over a seek, or begin anywhere.
fn is_of_new_place(number: u16, last: Option<u16>, first: u16) -> bool {
    let ahead = number.wrapping_sub(first);
    let is_nearer_to_old = last.is_some_and(|last| number.wrapping_sub(last) < ahead);
    ahead == 0 || ahead < 0x8000 && !is_nearer_to_old
}

impl Playback<'_> {
    /// Makes a seek. Puts what has come of the new place into `batch`.
    ///
    /// # Errors
    ///
    /// The session is over.
    pub(super) async fn seek(
        &mut self,
        mut request: SeekRequest,
        batch: &mut Vec<Packet>,
    ) -> Result<(), EndReason> {
        let is_paused = match self.session.pause().await {
            Ok(()) => true,
            Err(error) if !is_refusal(&error) => return Err(playing_failed(error)),
            // Some recorders know no PAUSE, and take PLAY with a range.
            Err(error) if matches!(error.kind(), mux::ErrorKind::Status(405 | 501)) => false,
            Err(error) => {
                gst::info!(CAT, "no seek: {error}");
                return Ok(());
            }
        };
        while let Some(later) = self.control.seeking.take() {
            std::mem::replace(&mut request, later).supersede();
        }
        let paused = timer::now();
        let from = self.control.seeking.segment();
        let Some(target) = SeekTarget::new(&request.event, &from) else {
            return self.go_on(is_paused).await;
        };
        if !self.play_at(&target, is_paused).await? {
            return Ok(());
        }
        self.land(target, Some(request), paused, batch).await
    }

    /// Sends PLAY. False if the server has refused it, and plays on.
    async fn play_at(&mut self, target: &SeekTarget, is_paused: bool) -> Result<bool, EndReason> {
        let headers = target.headers(self.onvif);
        match self.session.play_from(headers).await {
            Ok(()) => Ok(true),
            Err(error) if is_refusal(&error) => {
                gst::info!(CAT, "no seek: {error}");
                self.go_on(is_paused).await?;
                Ok(false)
            }
            Err(error) => Err(playing_failed(error)),
        }
    }

    /// There is no seek: the server plays on.
    async fn go_on(&mut self, is_paused: bool) -> Result<(), EndReason> {
        match is_paused {
            true => self.session.play().await.map_err(playing_failed),
            false => Ok(()),
        }
    }

    /// The server plays from there.
    async fn land(
        &mut self,
        target: SeekTarget,
        request: Option<SeekRequest>,
        paused: Instant,
        batch: &mut Vec<Packet>,
    ) -> Result<(), EndReason> {
        let mut filter = self.place_filter(paused);
        let mut came = Vec::new();
        // Also what waits because downstream does not take it.
        self.feed.unpark(&mut self.session);
        tokio::select! {
            biased;
            more = self.session.next_batch(&mut came) => if !more {
                return Err(self.session.end_reason().map_or(EndReason::Regular, playing_failed));
            },
            () = std::future::ready(()) => {}
        }
        let (new, old): (Vec<_>, Vec<_>) = came.into_iter().partition(|it| filter.is_new(it));
        let manager = self.control.build_guard.manager();
        let manager = manager.ok_or(EndReason::Stopped)?;
        if target.flushes() {
            if let Some(request) = request {
                flush(request, manager.clone()).await;
            }
        } else {
            for packet in old {
                self.feed.push(packet).map_err(|halt| self.halted(halt))?;
            }
            if let Some(request) = request {
                request.accept(Box::new(|| ()));
            }
        }
        let segment = answered(target.segment.clone(), self.session.play_answer());
        let shown = gst::event::Segment::builder(&self.shown_segment(&segment, &target))
            .seqnum(target.seqnum)
            .build();
        for stream in manager.pads().streams() {
            stream.set_segment(shown.clone());
        }
        self.note_playing(segment);
        manager.on_sought();
        self.feed.resume();
        self.watchdog.restart(timer::now());
        batch.extend(new);
        Ok(())
    }

    /// Outside of ONVIF replay the segment begins with the pipeline, and the depayloaders have the place from
    /// the caps.
    fn shown_segment(&self, segment: &Segment, target: &SeekTarget) -> Segment {
        if self.onvif.is_none() {
            return Segment::new();
        }
        let mut shown = segment.clone();
        if target.flags.contains(gst::SeekFlags::ACCURATE) {
            let asked = &target.segment;
            shown.set_start(segment.start().max(asked.start()));
            let stops = segment.stop().into_iter().chain(asked.stop());
            shown.set_stop(stops.min());
        }
        shown
    }

    fn place_filter(&self, paused: Instant) -> PlaceFilter {
        let described = &self.session.presentation().streams;
        let rtp_info = &self.session.play_answer().rtp_info;
        let of_stream = |number: usize| {
            let info = caps::play_info(rtp_info, described, number);
            let numbers = (
                self.feed.last_number(number),
                info.and_then(|info| info.seq),
            );
            (number, numbers)
        };
        PlaceFilter {
            numbers: (0..described.len()).map(of_stream).collect(),
            paused: Some(paused),
            begun: Vec::new(),
        }
    }

    /// The server plays this: from now on queries and caps say so.
    pub(super) fn note_playing(&mut self, segment: Segment) {
        if let Some(manager) = self.control.build_guard.manager() {
            let described = &self.session.presentation().streams;
            for (number, pad) in &self.streams.numbers.0 {
                let rtp_info = &self.session.play_answer().rtp_info;
                let info = caps::play_info(rtp_info, described, *number);
                if let Some(out) = manager.pads().stream(*pad) {
                    let is_onvif = self.onvif.is_some();
                    out.set_payloads(|payloads| payloads.with_play_info(info, &segment, is_onvif));
                }
            }
        }
        let is_live = is_live(self.session.presentation(), self.onvif);
        self.control.seeking.on_playing(segment, is_live);
    }

    /// Plays on from where the pause was.
    pub(super) async fn resume(&mut self) -> Result<(), EndReason> {
        let mut segment = self.control.seeking.segment();
        if let Some(place) = self.place() {
            segment.set_start(place);
        }
        self.session.play().await.map_err(playing_failed)?;
        let segment = answered(segment, self.session.play_answer());
        self.note_playing(segment);
        Ok(())
    }

    /// Where a recording goes on if its session is lost.
    pub(super) fn place(&self) -> Option<gst::ClockTime> {
        let segment = self.control.seeking.segment();
        let (start, end) = (segment.start()?, segment.duration()?);
        let passed = gst::ClockTime::try_from(self.feed.passed()).ok()?;
        Some(start + passed).filter(|place| segment.rate() > 0.0 && *place < end)
    }

    /// A seek while the element is paused: PLAY will begin there.
    pub(super) async fn seek_paused(&mut self, request: SeekRequest) {
        let from = self.control.seeking.segment();
        let Some(target) = SeekTarget::new(&request.event, &from) else {
            return;
        };
        let manager = self.control.build_guard.manager();
        match manager.filter(|_| target.flushes()) {
            Some(manager) => flush(request, manager).await,
            None => request.accept(Box::new(|| ())),
        }
        self.sought = Some(target);
    }

    /// The element plays again, from where a seek leads that was made meanwhile.
    pub(super) async fn resume_at_seek(&mut self) -> Result<Resumed, EndReason> {
        let Some(target) = self.sought.take() else {
            return Ok(Resumed::Nowhere);
        };
        let paused = timer::now();
        if !self.play_at(&target, true).await? {
            return Ok(Resumed::AsBefore);
        }
        let mut batch = Vec::new();
        self.land(target, None, paused, &mut batch).await?;
        for packet in batch {
            self.feed.push(packet).map_err(|halt| self.halted(halt))?;
        }
        Ok(Resumed::AtSeek)
    }
}

/// Lets the thread of the event flush, and returns when it has.
pub(super) async fn flush(request: SeekRequest, manager: Arc<dyn Manager>) {
    let (done, flushed) = oneshot::channel::<()>();
    let seqnum = request.event.seqnum();
    request.accept(Box::new(move || {
        manager.flush(seqnum);
        drop(done);
    }));
    // An error says that the flush is over.
    let _ = flushed.await;
}

/// How a session plays again after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resumed {
    /// PLAY has not been sent: there was no seek.
    Nowhere,
    /// The server has refused the seek, and goes on.
    AsBefore,
    AtSeek,
}

/// The server has answered, and the session goes on.
fn is_refusal(error: &mux::Error) -> bool {
    matches!(error.kind(), mux::ErrorKind::Status(code) if code != 454)
}

#[cfg(test)]
mod tests;
