//! The task of one element's session: it opens the session, plays it, and sets it up again after a loss.
//!
//! A state change only sets a [`TargetState`]; the task reaches it as the answers of the server come. On
//! [`TargetState::Stopped`] the task drops the future that is under way, and with it the session: the
//! multiplexer sends the TEARDOWN.
//!
//! Pads and manager outlive sessions: the first session that is described builds them, and later ones use
//! the same. During an outage the task sends nothing downstream, neither flush nor EOS: running time goes
//! on, and recordings with it.

mod recover;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use gst::{glib, prelude::*};
use gstreamer as gst;
use tokio::sync::watch;

use super::{
    control::{SessionControl, SessionPlan, SessionState, TargetState, reached},
    feed::Feed,
    playback::Playback,
    report::{EndReason, ProgressReporter, ReportHistory},
};
use crate::{
    mux::{
        Credentials, Error, MediaStream, Presentation, Ready, RedialPermit, Session,
        SessionOptions, WaitReason,
        proto::wire::redacted,
        recovery::{OnBye, Recovered, Recovery, StreamKind, StreamKinds, Watchdog},
    },
    rtspsrc::{
        CAT, RtspMuxSrc,
        manager::{self, Manager, ReportSender},
        media::{
            buffer::LeftOut,
            caps,
            numbers::StreamNumbers,
            pads::{NewStream, Pads},
        },
        messages::{self, OverflowReports, ProgressStep, SessionChange, SessionNews, SessionPhase},
        threads::timer,
    },
};

/// The task of one session.
pub(crate) struct SessionTask {
    element: glib::WeakRef<RtspMuxSrc>,
    plan: SessionPlan,
    control: Arc<SessionControl>,
    target: watch::Receiver<TargetState>,
    /// The options of the next attempt.
    latest: watch::Receiver<SessionOptions>,
    reporter: ProgressReporter,
    recovery: Recovery,
    reports: ReportHistory,
    /// Media has come in this attempt. Then the failure of the attempt is a loss, which is reported as
    /// such.
    has_media: bool,
    /// The outage that media has ended, until the recovery is reported.
    recovered: Option<Recovered>,
    /// The error that ended the last attempt.
    failure: Option<Error>,
    /// The credentials of the last attempt.
    credentials: Option<Credentials>,
    /// An ERROR was posted for these credentials, and they have not played since.
    is_refusal_told: bool,
    /// The URL without secrets.
    camera: String,
    /// The streams that were described when the pads were made.
    kinds: Option<StreamKinds>,
    /// Which stream of the present session plays on which pad.
    numbers: StreamNumbers,
    /// The pads whose stream is not described any more, and since when.
    gone: BTreeMap<usize, Instant>,
    /// The last description had nothing in common with the pads.
    is_other_camera: bool,
    /// A WARNING was posted for streams that have no pad.
    is_new_told: bool,
    /// A WARNING was posted for streams that cannot be played.
    is_left_told: bool,
    /// The streams whose silence is a failure.
    watched: Vec<usize>,
    /// There is one from the first PLAY on.
    feed: Option<Feed>,
}

impl SessionTask {
    pub(crate) fn new(
        element: &RtspMuxSrc,
        plan: SessionPlan,
        control: Arc<SessionControl>,
    ) -> Self {
        Self {
            element: element.downgrade(),
            target: control.target.subscribe(),
            latest: control.options.subscribe(),
            reporter: ProgressReporter::new(element, control.clone()),
            recovery: Recovery::new(plan.policy),
            reports: ReportHistory::default(),
            has_media: false,
            recovered: None,
            failure: None,
            credentials: None,
            is_refusal_told: false,
            camera: String::new(),
            kinds: None,
            numbers: StreamNumbers::default(),
            gone: BTreeMap::new(),
            is_other_camera: false,
            is_new_told: false,
            is_left_told: false,
            watched: Vec::new(),
            feed: None,
            plan,
            control,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut target = self.target.clone();
        self.reporter.set_state(SessionState::Opening);
        let end = tokio::select! {
            biased;
            () = reached(&mut target, |target| target == TargetState::Stopped) => EndReason::Stopped,
            end = self.live() => end,
        };
        self.reporter.set_state(SessionState::Ended);
        tokio::select! {
            biased;
            () = reached(&mut target, |target| target == TargetState::Stopped), if !end.is_wanted() => {}
            () = self.report(&end) => {}
        }
    }

    /// Plays one session after the other, until an end is final.
    async fn live(&mut self) -> EndReason {
        self.reporter.begin(ProgressStep::Open, "Opening Stream");
        loop {
            let end = self.attempt().await;
            if let Some(end) = self.recover(end).await {
                return end;
            }
        }
    }

    /// Plays one session, from its turn at the server to its end.
    async fn attempt(&mut self) -> EndReason {
        self.has_media = false;
        let playing = async {
            let (ready, setup_plan) = self.open().await?;
            let session = self.play(ready, setup_plan).await?;
            Ok(self.play_on(session).await)
        };
        playing.await.unwrap_or_else(|end| end)
    }

    /// Sends PLAY when the element wants to play, and makes manager and pads ready for packets.
    async fn play(&mut self, ready: Ready, setup_plan: SetupPlan) -> Result<Session, EndReason> {
        let session = if *self.target.borrow() == TargetState::Playing {
            self.reporter
                .begin(ProgressStep::Request, "Sending PLAY request");
            // The task builds the pads while the answer is on its way. It yields first, so that all
            // sessions that start together send their PLAY before one of them builds pads.
            let building = async {
                tokio::task::yield_now().await;
                self.build(setup_plan)
            };
            let (session, built) = tokio::join!(ready.play(), building);
            built?;
            session
        } else {
            self.build(setup_plan)?;
            reached(&mut self.target, |target| target == TargetState::Playing).await;
            self.reporter
                .begin(ProgressStep::Request, "Sending PLAY request");
            ready.play().await
        };
        let session = session.map_err(|error| self.failed(SessionPhase::Playing, error))?;
        self.reporter.complete("Sent PLAY request");
        self.recovery.on_playing();
        self.is_refusal_told = false;
        let manager = self.manager().ok_or(EndReason::Stopped)?;
        let described = &session.presentation().streams;
        for stream in &manager.pads().streams {
            if let Some(number) = self.numbers.of_session(stream.number) {
                let info = caps::play_info(session.rtp_info(), described, number);
                stream.set_payloads(|payloads| payloads.with_play_info(info));
            }
        }
        let reports = ReportSender {
            session: session.rtcp_sender(),
            numbers: self.numbers.clone(),
        };
        let started = self.control.build_guard.work(|manager| {
            manager.sync_state();
            manager.start(reports)
        });
        started
            .ok_or(EndReason::Stopped)?
            .map_err(EndReason::Manager)?;
        let feed = self
            .feed
            .get_or_insert_with(|| Feed::new(self.control.clone(), manager));
        feed.begin(self.numbers.clone());
        Ok(session)
    }

    /// Plays from the answer to PLAY to the end of the session.
    async fn play_on(&mut self, session: Session) -> EndReason {
        let watchdog = Watchdog::new(
            self.plan.media_timeout,
            std::mem::take(&mut self.watched),
            timer::now(),
        );
        let timeout = self.plan.media_timeout;
        let first = self.recovery.first_media_wait(timer::now(), timeout);
        let watchdog = watchdog.with_first(first);
        let Some(mut feed) = self.feed.take() else {
            return EndReason::Stopped;
        };
        let mut playback = Playback {
            element: self.element.clone(),
            camera: self.camera.clone(),
            control: self.control.clone(),
            target: self.target.clone(),
            session,
            feed: &mut feed,
            watchdog,
            overflows: OverflowReports::default(),
            left_out: LeftOut::default(),
            media_timeout: self.plan.media_timeout,
            dropped: 0,
            is_mute_told: false,
            gone: std::mem::take(&mut self.gone),
        };
        let end = playback.run(|| self.on_media()).await;
        self.gone = std::mem::take(&mut playback.gone);
        drop(playback);
        self.feed = Some(feed);
        end
    }

    /// Media has come, which ends an outage if there was one. Returns when to call this again, if the
    /// media has to last before the recovery is reported.
    fn on_media(&mut self) -> Option<Instant> {
        let now = timer::now();
        self.has_media = true;
        self.reporter.set_state(SessionState::Playing);
        if let Some(recovered) = self.recovery.on_media(now) {
            self.recovered = Some(recovered);
        }
        let due = self.reports.on_media(now, self.plan.media_timeout)?;
        if now < due {
            return Some(due);
        }
        let duration = self.reports.on_recovered()?;
        let recovered = self.recovered.take()?;
        self.reporter.set_quiet(false);
        self.reporter.tell(&SessionNews {
            change: SessionChange::Recovered,
            reason: None,
            attempt: recovered.attempts,
            outages: recovered.outages,
            duration,
        });
        None
    }

    /// Whether the pipeline has sent EOS into all streams.
    fn is_finished(&self) -> bool {
        self.manager().is_some_and(|manager| {
            let mut streams = manager.pads().streams.iter();
            streams.all(|stream| manager.has_ended(stream.number))
        })
    }

    fn manager(&self) -> Option<Arc<dyn Manager>> {
        self.control.build_guard.manager()
    }

    fn failed(&self, phase: SessionPhase, error: Error) -> EndReason {
        match self.recovery.has_played() {
            true => EndReason::Mux(SessionPhase::Playing, error),
            false => EndReason::Mux(phase, error),
        }
    }

    /// Posts what happens to the session.
    fn tell(&self, change: SessionChange, reason: &str) {
        self.reporter.tell(&self.news(change, reason));
    }

    fn news<'a>(&self, change: SessionChange, reason: &'a str) -> SessionNews<'a> {
        SessionNews {
            change,
            reason: Some(reason),
            attempt: self.recovery.attempts(),
            outages: self.recovery.outages(),
            duration: self.recovery.duration(timer::now()),
        }
    }

    /// Posts why the session ended, and then sends EOS. An application that sees EOS first takes the end
    /// for a good one.
    async fn report(&mut self, end: &EndReason) {
        if end.is_wanted() {
            return self.reporter.cancel();
        }
        self.reporter.fail(end);
        self.reporter.said().await;
        if let Some(manager) = self.manager() {
            manager::push_event(&*manager, &gst::event::Eos::new());
        }
    }
}

/// Of so many streams of a description that cannot be played the bus hears.
const MOST_LEFT_TOLD: usize = 4;

/// What the task builds for a session that is set up.
pub(crate) struct SetupPlan {
    streams: Vec<NewStream>,
    on_bye: OnBye,
}

impl SessionTask {
    /// Sends DESCRIBE and SETUP.
    pub(crate) async fn open(&mut self) -> Result<(Ready, SetupPlan), EndReason> {
        let options = self.latest.borrow_and_update().clone();
        self.camera = redacted(&options.url);
        if self.credentials != options.credentials {
            self.credentials.clone_from(&options.credentials);
            self.recovery.on_other_credentials();
        }
        let turn = self.turn(&options).await?;
        let opening = self.plan.mux.reopen(options, &self.control.monitor);
        let opening = opening.intended(self.plan.intent.take());
        self.reporter
            .go_on(&format!("Connecting to {}", self.camera));
        let described = opening.describe().await;
        drop(turn);
        let described = described.map_err(|error| self.failed(SessionPhase::Opening, error))?;
        let mut streams = self.playable(described.presentation())?;
        self.follow(described.presentation(), &mut streams)?;
        let numbers: Vec<usize> = streams.iter().map(|stream| stream.number).collect();
        let sdp = described.presentation().sdp.clone();
        self.reporter.go_on("Setting up streams");
        let ready = described.setup(&numbers).await;
        let ready = ready.map_err(|error| self.failed(SessionPhase::Opening, error))?;
        // The SETUPs may follow the description of an earlier session, while the server describes
        // something else now.
        if ready.presentation().sdp != sdp {
            streams = self.playable(ready.presentation())?;
            self.follow(ready.presentation(), &mut streams)?;
        }
        let is_recovered = self.recovery.policy().is_on;
        let on_bye = OnBye::of(ready.presentation(), is_recovered);
        for (number, error) in ready.failed_streams() {
            gst::warning!(CAT, "stream {number} left out: {error}");
            // The stream has a pad: another attempt may set it up.
            if self.manager().is_some() {
                return Err(self.failed(SessionPhase::Opening, error.clone()));
            }
            let described = ready.presentation().streams.get(*number);
            if let (Some(element), Some(described)) = (self.element.upgrade(), described) {
                let MediaStream { media, index, .. } = described;
                let text = format!("{error}: stream {number} ({media}, m= line {index}) left out");
                messages::left_out(&element, &text);
            }
        }
        let is_granted = |number| ready.streams().iter().any(|grant| grant.stream == number);
        streams.retain(|stream| is_granted(stream.number));
        self.watched = watched(ready.presentation(), &streams);
        self.reporter.complete("Opened Stream");
        Ok((ready, SetupPlan { streams, on_bye }))
    }

    /// The streams of the presentation for which GStreamer has caps. The others are told, once.
    fn playable(&mut self, presentation: &Presentation) -> Result<Vec<NewStream>, EndReason> {
        let (mut streams, mut left_out) = (Vec::new(), Vec::new());
        for (number, stream) in presentation.streams.iter().enumerate() {
            let MediaStream { media, index, .. } = stream;
            match caps::payload_map(presentation, stream) {
                Ok(payloads) => streams.push(NewStream {
                    number,
                    section: *index,
                    payloads,
                }),
                Err(reason) => left_out.push(format!(
                    "stream {number} ({media}, m= line {index}) left out: {reason}"
                )),
            }
        }
        if streams.is_empty() {
            let text = format!(
                "{}: DESCRIBE: no stream of the session description can be played: {}",
                self.camera,
                left_out.first().map_or("", String::as_str)
            );
            return Err(EndReason::Description(text));
        }
        let is_told = std::mem::replace(&mut self.is_left_told, !left_out.is_empty());
        if let (Some(element), false) = (self.element.upgrade(), is_told) {
            for text in left_out.iter().take(MOST_LEFT_TOLD) {
                messages::left_out(&element, &format!("{}: {text}", self.camera));
            }
        }
        Ok(streams)
    }

    /// Waits for the session's turn at the server. With `reconnect=false` there is no turn: the session
    /// fails at once if the server is not there.
    async fn turn(&self, options: &SessionOptions) -> Result<Option<RedialPermit>, EndReason> {
        let policy = self.recovery.policy();
        if !policy.is_on {
            return Ok(None);
        }
        let after = self.failure.as_ref();
        let _waiting = self.control.monitor.waits_for(WaitReason::Redial);
        let turn = self.plan.mux.turn(options, after, policy.bounds).await;
        turn.map(Some)
            .map_err(|error| self.failed(SessionPhase::Opening, error))
    }

    /// Finds out which pads of an earlier session go on with which streams, and leaves out the others. A
    /// stream that has no pad, as its first SETUP was refused, is left out again.
    fn follow(
        &mut self,
        presentation: &Presentation,
        streams: &mut Vec<NewStream>,
    ) -> Result<(), EndReason> {
        let kinds = StreamKinds(streams.iter().map(|it| kind(presentation, it)).collect());
        let (Some(before), Some(manager)) = (&self.kinds, self.control.build_guard.manager())
        else {
            let same = |stream: &NewStream| (stream.number, stream.number);
            self.numbers = StreamNumbers(streams.iter().map(same).collect());
            self.kinds = Some(kinds);
            return Ok(());
        };
        let changes = before.compare(&kinds);
        let is_changed = !changes.gone.is_empty() || !changes.new.is_empty();
        let camera = &self.camera;
        let text = format!("{camera}: the streams have changed: {kinds} instead of {before}");
        let is_other = changes.kept.is_empty();
        if is_other && self.recovery.policy().follows_changes && !self.is_other_camera {
            // A camera that has just started may describe itself in full a moment later.
            self.is_other_camera = true;
            return Err(EndReason::Description(text));
        }
        if is_other || is_changed && !self.recovery.policy().follows_changes {
            let text = text.replace("the streams", "the pads cannot follow: the streams");
            return Err(EndReason::Changed(text));
        }
        self.is_other_camera = false;
        if !changes.new.is_empty()
            && !std::mem::replace(&mut self.is_new_told, true)
            && let Some(element) = self.element.upgrade()
        {
            messages::left_out(&element, &format!("{text}; what is new is left out"));
        }
        let now = timer::now();
        self.gone.retain(|pad, _| changes.gone.contains(pad));
        for pad in changes.gone {
            self.gone.entry(pad).or_insert(now);
        }
        let mut kept = changes.kept;
        kept.retain(|(_, pad)| manager.pads().stream(*pad).is_some() && !manager.has_ended(*pad));
        streams.retain(|stream| kept.iter().any(|(number, _)| *number == stream.number));
        self.numbers = StreamNumbers(kept);
        Ok(())
    }

    /// Builds pads and manager, or sets new caps if they exist.
    pub(crate) fn build(&self, setup_plan: SetupPlan) -> Result<(), EndReason> {
        let SetupPlan { streams, on_bye } = setup_plan;
        let element = self.element.upgrade().ok_or(EndReason::Stopped)?;
        if let Some(manager) = self.manager() {
            for stream in streams {
                let pad = self.numbers.of_pad(stream.number);
                if let Some(out) = pad.and_then(|pad| manager.pads().stream(pad)) {
                    out.set_payloads(|_| stream.payloads);
                }
            }
            return Ok(());
        }
        let (choice, latency) = (self.plan.manager, self.plan.latency_ms);
        let built = self.control.build_guard.build(|| {
            let pads = Arc::new(Pads::new(&element, &self.camera, streams));
            choice.build(&element, pads, latency, on_bye)
        });
        match built {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(EndReason::Manager(error)),
            None => Err(EndReason::Stopped),
        }
    }
}

/// A stream, as later descriptions are compared with it.
fn kind(presentation: &Presentation, stream: &NewStream) -> StreamKind {
    let described = presentation.streams.get(stream.number);
    StreamKind {
        number: stream.number,
        media: described.map_or_else(String::new, |stream| stream.media.clone()),
        encoding: stream.payloads.encoding(),
    }
}

/// Of the streams that are played, the ones whose silence is a failure.
fn watched(presentation: &Presentation, streams: &[NewStream]) -> Vec<usize> {
    let described = |number: &usize| presentation.streams.get(*number);
    let is_watched = |number: &usize| described(number).is_some_and(Watchdog::watches);
    let numbers = streams.iter().map(|stream| stream.number);
    numbers.filter(is_watched).collect()
}

#[cfg(test)]
mod tests;
