//! A session while it plays: pushes its packets, pauses and plays it again, and watches for silence.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gst::glib;
use gstreamer as gst;
use tokio::sync::watch;

use super::{
    control::{SessionControl, TargetState, reached},
    feed::{Feed, FeedHalt, FeedInput, PushOutcome},
    repeat::HeldBack,
    report::EndReason,
    seek::{OnvifReplay, Resumed, SeekTarget},
    streams::SessionStreams,
};
use crate::{
    mux::{
        self, Packet, PacketKind, Presentation, Session,
        recovery::{ByePolicy, Watchdog, is_end_of_recording},
    },
    rtspsrc::{
        CAT, RtspMuxSrc,
        media::{
            buffer::{Left, LeftOut, Undeliverable},
            caps,
        },
        messages::{self, FailurePhase, OverflowReports},
        threads::timer,
    },
};

/// Pushing a batch takes longer than this only if downstream holds it up.
const HELD_UP: Duration = Duration::from_secs(1);

/// The description of a presentation that plays, asked for once more.
type SecondDescribe = Pin<Box<dyn Future<Output = Option<Presentation>> + Send>>;

/// One session that plays.
pub(crate) struct Playback<'a> {
    pub(crate) element: glib::WeakRef<RtspMuxSrc>,
    pub(crate) camera: String,
    pub(crate) control: Arc<SessionControl>,
    pub(crate) target: watch::Receiver<TargetState>,
    pub(crate) session: Session,
    pub(crate) feed: &'a mut Feed,
    pub(crate) watchdog: Watchdog,
    pub(crate) overflows: OverflowReports,
    pub(crate) left_out: LeftOut,
    pub(crate) media_timeout: Duration,
    /// Packets that were dropped because downstream was slow, as of the last look.
    pub(crate) dropped: u64,
    /// A WARNING was posted because no media has come so far.
    pub(crate) is_mute_told: bool,
    /// Its streams and their pads.
    pub(crate) streams: SessionStreams,
    /// The description that its streams have their caps from.
    pub(crate) sdp: Bytes,
    /// The server is asked once more how it describes the camera.
    pub(crate) question: Option<SecondDescribe>,
    /// What is held back while the server may play the same again.
    pub(crate) repeats: HeldBack,
    /// A seek that was made while the element is paused.
    pub(crate) sought: Option<SeekTarget>,
    pub(crate) onvif: OnvifReplay,
    pub(crate) on_bye: ByePolicy,
}

impl Playback<'_> {
    /// Plays and pauses until the session is over. Calls `on_media` when the first RTP packet was
    /// delivered, and again at the time that it returns.
    pub(crate) async fn run(&mut self, mut on_media: impl FnMut() -> Option<Instant>) -> EndReason {
        let is_live = self.session.presentation().is_live();
        self.repeats.on_playing(is_live);
        loop {
            if let Err(end) = self.feed(&mut on_media).await {
                return self.as_announced(end);
            }
            if let Err(end) = self.pause().await {
                return self.as_announced(end);
            }
        }
    }

    /// An end that the description has announced is that of a recording. Many recorders send no BYE then:
    /// they close the connection, or send nothing any more.
    fn as_announced(&self, end: EndReason) -> EndReason {
        if self.on_bye == ByePolicy::Reconnect && matches!(end, EndReason::Bye(_)) {
            return end;
        }
        let is_of_server = matches!(
            end,
            EndReason::Mux(..) | EndReason::Silent(_) | EndReason::Bye(_) | EndReason::Regular
        );
        let segment = self.control.seeking.segment();
        let stop = segment.stop().or(segment.duration());
        let length = stop
            .zip(segment.start())
            .map(|(stop, start)| stop.saturating_sub(start));
        let announced = || self.session.presentation().announced_length();
        let length = length.map(Duration::from).or_else(announced);
        match length.is_some_and(|length| is_end_of_recording(self.feed.passed(), length)) {
            true if is_of_server => EndReason::Flow(gst::FlowError::Eos),
            _ => end,
        }
    }

    /// Feeds until the element wants to pause.
    async fn feed(
        &mut self,
        on_media: &mut impl FnMut() -> Option<Instant>,
    ) -> Result<(), EndReason> {
        let mut batch = Vec::new();
        let mut is_first = true;
        let mut proof = None;
        self.watchdog.restart(timer::now());
        let mut alarm = self.alarm(None);
        let mut selection = self.control.selection.changes();
        loop {
            tokio::select! {
                biased;
                () = reached(&mut self.target, |target| target != TargetState::Playing) => return Ok(()),
                (next, is_at_once) = at_once(self.feed.next_batch(&mut self.session, &mut batch)) => match next {
                    // A batch is as long as the queue was. The other sessions have their turn first.
                    FeedInput::Packets if is_at_once => tokio::task::yield_now().await,
                    FeedInput::Packets => {}
                    FeedInput::Late => self.feed.push_late().map_err(|halt| self.halted(halt))?,
                    // Downstream held the stream up: the camera was not silent.
                    FeedInput::Room => self.watchdog.restart(timer::now()),
                    FeedInput::End => {
                        return Err(self.session.end_reason().map_or(EndReason::Regular, playing_failed));
                    }
                },
                request = self.control.seeking.asked() => self.seek(request, &mut batch).await?,
                Ok(()) = selection.changed() => self.on_selected(),
                answer = answered(&mut self.question), if self.question.is_some() => {
                    self.on_described_again(answer.as_ref())?;
                }
                () = alarm.rings() => {
                    if self.feed.is_held_up() || self.has_dropped() {
                        self.watchdog.restart(timer::now());
                    }
                    self.tell_mute();
                    self.check_silence()?;
                    self.tell_undescribed();
                    self.tell_silent_streams();
                    self.tend_gone_pads();
                    if proof.is_some_and(|due| timer::now() >= due) {
                        proof = on_media();
                    }
                    alarm = self.alarm(proof);
                }
            }
            self.repeats
                .hold_back(&mut batch, &self.control.build_guard)?;
            let element = self.element.upgrade().ok_or(EndReason::Stopped)?;
            let began = timer::now();
            for packet in batch.drain(..) {
                self.tell_overflow(&element, began, &packet);
                if packet.discontinuity {
                    self.on_discontinuity()?;
                }
                let (kind, stream, received) = (packet.kind, packet.stream, packet.received);
                let pushed = self.feed.push(packet);
                let fate = pushed.map_err(|halt| self.halted(halt))?;
                if kind != PacketKind::Rtp {
                    continue;
                }
                match fate {
                    PushOutcome::Delivered => {
                        self.watchdog.on_packet(stream, received);
                        self.left_out.on_delivered(stream);
                        if std::mem::take(&mut is_first) {
                            proof = on_media();
                            alarm = self.alarm(proof);
                        }
                    }
                    PushOutcome::Left(why) => {
                        let told = self
                            .left_out
                            .on_left(stream, why, received, self.media_timeout);
                        if let Some(left) = told {
                            self.warn_left_out(stream, &left);
                        }
                    }
                    PushOutcome::Waiting => {}
                }
            }
            drop(element);
            if timer::now().saturating_duration_since(began) > HELD_UP {
                self.watchdog.restart(timer::now());
            }
            // The tasks of the streams run before more is taken, or streams are parked that are not slow.
            if self.feed.is_held_up() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Posts QOS if the packet comes after a gap and a message is due. `began` is the time at which the
    /// batch was taken; it is precise enough for packets without a gap.
    fn tell_overflow(&mut self, element: &RtspMuxSrc, began: Instant, packet: &Packet) {
        let now = match packet.discontinuity {
            true => timer::now(),
            false => began,
        };
        let session = &self.session;
        let dropped = || {
            let streams = session.monitor().stats().streams;
            let mut streams = streams.iter();
            let stream = streams.find(|stream| stream.stream == packet.stream);
            stream.map_or(0, |stream| stream.count.dropped)
        };
        if let Some(told) = self.overflows.on_packet(packet, now, dropped) {
            gst::warning!(
                CAT,
                obj = element,
                "stream {}: not taken in time: {told:?}",
                packet.stream
            );
            messages::overflow(element, &told);
        }
    }

    fn alarm(&self, proof: Option<Instant>) -> timer::Alarm {
        let warning = self.watchdog.warns_at().filter(|_| !self.is_mute_told);
        let fill = self.streams.gone.deadline(timer::now());
        let times = [self.watchdog.deadline(), warning, proof, fill];
        timer::Alarm::at(times.into_iter().flatten().min())
    }

    /// Whether packets were dropped since the last call because downstream was slow, or because no
    /// keyframe has come since then. If so, the camera is not silent.
    fn has_dropped(&mut self) -> bool {
        let streams = self.session.monitor().stats().streams;
        let dropped = streams.iter().map(|stream| stream.count.dropped).sum();
        dropped > std::mem::replace(&mut self.dropped, dropped)
    }

    /// Posts WARNING.
    fn warn(&self, text: &str) {
        if let Some(element) = self.element.upgrade() {
            messages::left_out(&element, &format!("{}: {text}", self.camera));
        }
    }

    fn warn_left_out(&self, stream: usize, left: &Left) {
        self.warn(&format!("stream {stream}: {}", undeliverable(left)));
    }

    fn check_silence(&self) -> Result<(), EndReason> {
        let Some(silence) = self.watchdog.silence(timer::now()) else {
            return Ok(());
        };
        let (camera, silence) = (&self.camera, silence.as_secs_f64());
        let undescribed = || Some(self.undescribed(|_| true)?.1);
        Err(match self.left_out.all().or_else(undescribed) {
            Some(left) => EndReason::Undeliverable(format!("{camera}: {}", undeliverable(&left))),
            None => EndReason::Silent(format!("{camera}: no media for {silence:.1} s")),
        })
    }

    /// Posts WARNING, once in a session, if no media has come for as long as it may be silent later.
    fn tell_mute(&mut self) {
        let warns_at = self.watchdog.warns_at();
        if self.is_mute_told || warns_at.is_none_or(|at| timer::now() < at) {
            return;
        }
        // Packets come, and none can be delivered: to wait for longer is of no use.
        if self.left_out.all().is_some() || self.undescribed(|_| true).is_some() {
            return self.watchdog.end_first_wait();
        }
        self.is_mute_told = true;
        self.warn("no media has come since PLAY, it still waits");
    }

    /// Sees to the pads without a stream: fills them, and asks for the description once more.
    fn tend_gone_pads(&mut self) {
        if let Some(manager) = self.control.build_guard.manager() {
            self.streams.fill(&*manager);
        }
        if self.streams.gone.asks(timer::now()) {
            let described = self.session.describe_again();
            self.question = Some(Box::pin(async { described.await.ok() }));
        }
    }

    /// The description was asked for once more.
    fn on_described_again(&mut self, described: Option<&Presentation>) -> Result<(), EndReason> {
        self.question = None;
        let manager = self.control.build_guard.manager();
        let manager = manager.ok_or(EndReason::Stopped)?;
        let answer = (described, &*manager);
        match self.streams.on_asked(timer::now(), answer) {
            true => Err(EndReason::StreamIsBack),
            false => Ok(()),
        }
    }

    /// The application has selected among the streams.
    fn on_selected(&self) {
        let manager = self.control.build_guard.manager();
        if let (Some(manager), Some(element)) = (manager, self.element.upgrade()) {
            self.control.selection.apply(&element, &*manager);
        }
    }

    /// The session may have moved to where its streams, which are the same, have other caps.
    fn on_discontinuity(&mut self) -> Result<(), EndReason> {
        let there = self.session.presentation();
        if there.sdp == self.sdp {
            return Ok(());
        }
        self.sdp = there.sdp.clone();
        let manager = self.control.build_guard.manager();
        let manager = manager.ok_or(EndReason::Stopped)?;
        for (number, pad) in &self.streams.numbers.0 {
            let stream = there.streams.get(*number);
            let payloads = stream.and_then(|it| caps::payload_map(there, it).ok());
            if let (Some(payloads), Some(out)) = (payloads, manager.pads().stream(*pad)) {
                let info = caps::play_info(
                    &self.session.play_answer().rtp_info,
                    &there.streams,
                    *number,
                );
                let playing = self.control.seeking.segment();
                let is_onvif = self.onvif.is_some();
                out.set_payloads(|_| payloads.with_play_info(info, &playing, is_onvif));
            }
        }
        manager.renew_caps();
        Ok(())
    }

    /// Posts WARNING for each stream of sound or picture from which nothing has come for as long as the
    /// session may be silent. The others go on.
    fn tell_silent_streams(&mut self) {
        while let Some(stream) = self.watchdog.silent_stream(timer::now()) {
            // Its packets come, and the bus hears why they are not delivered.
            if self.undescribed(|it| it.stream == stream).is_some() {
                continue;
            }
            let streams = &self.session.presentation().streams;
            let media = streams.get(stream).map_or("", |stream| &stream.media);
            let silence = self.media_timeout.as_secs_f64();
            self.warn(&format!(
                "stream {stream} ({media}): no media for {silence:.1} s"
            ));
        }
    }

    /// Posts WARNING, once in a session, if a stream has sent only payload types that the description
    /// does not name, for as long as the session may be silent. Packets of other streams may have been
    /// delivered.
    fn tell_undescribed(&mut self) {
        if let Some((stream, left)) = self.undescribed(|stream| stream.count.packets == 0)
            && self.left_out.tell_once()
        {
            self.warn_left_out(stream, &left);
        }
    }

    /// The first such stream with packets of payload types that the description does not name, and these
    /// packets.
    fn undescribed(&self, is_it: impl Fn(&mux::StreamStats) -> bool) -> Option<(usize, Left)> {
        let stats = self.session.monitor().stats();
        let mut streams = stats.streams.iter();
        let stream = streams.find(|stream| stream.count.undescribed > 0 && is_it(stream))?;
        let why = Undeliverable::NoMap(stream.count.undescribed_type?);
        let left = Left::new(timer::now(), stream.count.undescribed, why);
        Some((stream.stream, left))
    }

    pub(super) fn halted(&self, halt: FeedHalt) -> EndReason {
        match halt {
            FeedHalt::Flow(flow) => EndReason::Flow(flow),
            FeedHalt::Bye => {
                let camera = &self.camera;
                EndReason::Bye(format!("{camera}: the server ended a stream (RTCP BYE)"))
            }
        }
    }

    /// Posts PROGRESS of a request that the session sends while it plays.
    fn tell_request(&self, kind: gst::ProgressType, text: &str) {
        if let Some(element) = self.element.upgrade() {
            messages::progress(&element, kind, messages::ProgressStep::Request, text);
        }
    }

    /// Sends PAUSE, waits until the element wants to play again, and sends PLAY.
    async fn pause(&mut self) -> Result<(), EndReason> {
        self.tell_request(gst::ProgressType::Start, "Sending PAUSE request");
        self.tell_request(gst::ProgressType::Continue, "Sending PAUSE request");
        let paused = match self.session.pause().await {
            Ok(()) => {
                self.tell_request(gst::ProgressType::Complete, "Sent PAUSE request");
                true
            }
            // Servers of live media may refuse PAUSE. The session then drops what they go on sending.
            Err(error) if matches!(error.kind(), mux::ErrorKind::Status(_)) => {
                gst::info!(CAT, "no pause: {error}");
                self.tell_request(gst::ProgressType::Error, "PAUSE failed");
                false
            }
            Err(error) => return Err(playing_failed(error)),
        };
        let mut batch = Vec::new();
        self.feed.unpark(&mut self.session);
        loop {
            tokio::select! {
                biased;
                () = reached(&mut self.target, |target| target == TargetState::Playing) => break,
                request = self.control.seeking.asked() => self.seek_paused(request).await,
                more = self.session.next_batch(&mut batch) => if !more {
                    return Err(self.session.end_reason().map_or(EndReason::Regular, playing_failed));
                },
            }
            batch.clear();
        }
        let announced = self.control.announce_manager(&self.element).await;
        announced.map_err(EndReason::Manager)?;
        self.control
            .build_guard
            .work(|manager| manager.sync_state())
            .ok_or(EndReason::Stopped)?;
        match self.resume_at_seek().await? {
            Resumed::AtSeek => return Ok(()),
            Resumed::Nowhere if paused => {
                self.tell_request(gst::ProgressType::Start, "Sending PLAY request");
                self.tell_request(gst::ProgressType::Continue, "Sending PLAY request");
                self.resume().await?;
                self.tell_request(gst::ProgressType::Complete, "Sent PLAY request");
            }
            Resumed::Nowhere | Resumed::AsBefore => {}
        }
        self.on_discontinuity()?;
        self.feed.restart().map_err(EndReason::Flow)
    }
}

/// The output of a future, and whether it was there when it was first asked for.
async fn at_once<T>(future: impl Future<Output = T>) -> (T, bool) {
    let mut future = pin!(future);
    let mut is_first = true;
    poll_fn(|context| {
        let is_at_once = std::mem::take(&mut is_first);
        let output = future.as_mut().poll(context);
        output.map(|output| (output, is_at_once))
    })
    .await
}

async fn answered(question: &mut Option<SecondDescribe>) -> Option<Presentation> {
    match question {
        Some(question) => question.await,
        None => None,
    }
}

fn undeliverable(left: &Left) -> String {
    format!("{} packets cannot be delivered: {}", left.count, left.why)
}

pub(super) fn playing_failed(error: mux::Error) -> EndReason {
    EndReason::Mux(FailurePhase::Playing, error)
}
