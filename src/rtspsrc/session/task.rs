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

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};
use gstreamer as gst;
use tokio::sync::watch;

use super::{
    backchannel,
    control::{SessionControl, SessionPlan, SessionState, TargetState, reached},
    feed::Feed,
    playback::Playback,
    repeat::HeldBack,
    report::{EndReason, ProgressReporter, ReportHistory},
    seek::{self, SeekTarget},
    selection::{self, NEW_MANAGER, StreamOffer},
    streams::{FollowedStreams, SessionStreams},
};
use crate::{
    mux::{
        Credentials, Described, Error, PlayHeaders, Presentation, Ready, RedialPermit, Session,
        SessionOptions, WaitReason,
        proto::wire::redacted,
        recovery::{OnBye, Recovered, Recovery, Watchdog},
    },
    rtspsrc::{
        RtspMuxSrc, handlers,
        manager::{self, Manager, ManagerChoice, ReportSender},
        media::{
            buffer::LeftOut,
            caps,
            pads::Pads,
            seeking::{Listening, Segment},
        },
        messages::{FailurePhase, OverflowReports, ProgressStep, SessionChange, SessionNews},
        threads::timer,
    },
};

/// How long a start that is to fail with an error waits at most behind a failed dial: 30 dials a minute.
const BETWEEN_STARTS: Duration = Duration::from_secs(2);

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
    /// Its streams and their pads.
    streams: SessionStreams,
    /// There is one from the first PLAY on.
    feed: Option<Feed>,
    /// Takes seeks while a session plays, and behind EOS.
    listening: Option<Listening>,
    /// Where a recording goes on whose session was lost.
    place: Option<gst::ClockTime>,
    /// Whether the server plays the same again.
    repeats: HeldBack,
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
            streams: SessionStreams::default(),
            feed: None,
            place: None,
            listening: None,
            repeats: HeldBack::default(),
            plan,
            control,
        }
    }

    pub(crate) async fn run(mut self) {
        while let Some(end) = self.play_to_the_end().await {
            if !self.is_sought_again(&end).await {
                break;
            }
        }
        let mut target = self.target.clone();
        let mut reporter = self.into_reporter();
        reached(&mut target, |target| target == TargetState::Stopped).await;
        reporter.close().await;
    }

    /// Lets go of everything else, the session and the manager among them.
    fn into_reporter(self) -> ProgressReporter {
        self.reporter
    }

    /// Plays, and posts how that ended. `None`: it was stopped meanwhile.
    async fn play_to_the_end(&mut self) -> Option<EndReason> {
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
            () = reached(&mut target, |target| target == TargetState::Stopped), if !end.is_wanted() => None,
            () = self.report(&end) => Some(end),
        }
    }

    /// The stream has ended. True if a seek plays it again.
    async fn is_sought_again(&mut self, end: &EndReason) -> bool {
        let manager = self.manager();
        let (EndReason::Flow(gst::FlowError::Eos), Some(manager)) = (end, manager) else {
            return false;
        };
        let mut target = self.target.clone();
        let listening = self.listening.take();
        let _listening = listening.unwrap_or_else(|| self.control.seeking.listen());
        let request = tokio::select! {
            biased;
            () = reached(&mut target, |target| target == TargetState::Stopped) => return false,
            request = self.control.seeking.asked() => request,
        };
        self.control.seeking.keep(request.event.clone());
        seek::flush(request, manager).await;
        true
    }

    /// Plays one session after the other, until an end is final.
    async fn live(&mut self) -> EndReason {
        self.reporter.begin(ProgressStep::Open, "Opening Stream");
        loop {
            let end = self.attempt().await;
            if let EndReason::StreamIsBack = end {
                // The session was not lost, and begins again at once.
                self.failure = None;
                self.reporter.begin(ProgressStep::Open, "Opening Stream");
            } else if let Some(end) = self.recover(end).await {
                return end;
            }
        }
    }

    /// Plays one session, from its turn at the server to its end.
    async fn attempt(&mut self) -> EndReason {
        self.has_media = false;
        self.control.set_parameters(None);
        let playing = async {
            let (ready, setup_plan) = self.open().await?;
            let session = self.play(ready, setup_plan).await?;
            Ok(self.play_on(session).await)
        };
        let end = playing.await.unwrap_or_else(|end| end);
        self.control.set_parameters(None);
        end
    }

    /// Sends PLAY when the element wants to play, and makes manager and pads ready for packets.
    async fn play(&mut self, ready: Ready, setup_plan: SetupPlan) -> Result<Session, EndReason> {
        let (segment, begins_at) = self.begin_at(ready.presentation());
        let is_awaited = handlers::are_connected_weak(&self.element, NEW_MANAGER);
        let session = if *self.target.borrow() == TargetState::Playing && !is_awaited {
            self.begin_play();
            // The task builds the pads while the answer is on its way. It yields first, so that all
            // sessions that start together send their PLAY before one of them builds pads.
            let building = async {
                tokio::task::yield_now().await;
                self.build(setup_plan)
            };
            let (session, built) = tokio::join!(ready.play_from(begins_at), building);
            built?;
            session
        } else {
            self.build(setup_plan)?;
            self.control
                .announce_manager(&self.element)
                .await
                .map_err(EndReason::Manager)?;
            reached(&mut self.target, |target| target == TargetState::Playing).await;
            self.begin_play();
            ready.play_from(begins_at).await
        };
        let session = session.map_err(|error| self.failed(FailurePhase::Playing, error))?;
        self.control
            .set_parameters(Some(session.parameter_sender()));
        self.reporter.complete("Sent PLAY request");
        self.recovery.on_playing();
        self.is_refusal_told = false;
        let manager = self.manager().ok_or(EndReason::Stopped)?;
        let segment = seek::answered(segment, session.play_answer());
        let onvif = self.plan.onvif;
        let is_live = seek::is_live(session.presentation(), onvif);
        self.control.seeking.on_playing(segment.clone(), is_live);
        let described = &session.presentation().streams;
        for (number, pad) in &self.streams.numbers.0 {
            if let Some(stream) = manager.pads().stream(*pad) {
                let info = caps::play_info(&session.play_answer().rtp_info, described, *number);
                let is_onvif = onvif.is_some();
                stream.set_payloads(|payloads| payloads.with_play_info(info, &segment, is_onvif));
                if is_onvif {
                    stream.set_segment(gst::event::Segment::new(&segment));
                }
            }
        }
        self.streams.on_playing(timer::now(), &*manager);
        self.control.backchannel.begin(&session);
        let reports = ReportSender {
            session: session.rtcp_sender(),
            numbers: self.streams.numbers.clone(),
            is_mute: !self.plan.manager.sends_reports,
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
        feed.begin(self.streams.numbers.clone());
        Ok(session)
    }

    /// Where the session begins: what is described, or where a seek leads that came before.
    fn begin_at(&self, presentation: &Presentation) -> (Segment, Option<PlayHeaders>) {
        let described = seek::described(presentation);
        let kept = self.control.seeking.take_kept();
        let kept = kept.and_then(|event| SeekTarget::new(&event, &described));
        let lost = self.place.filter(|_| described.duration().is_some());
        let lost = || lost.and_then(|place| seek::going_on(&described, place));
        match kept.or_else(lost) {
            Some(target) => (
                target.segment.clone(),
                Some(target.headers(self.plan.onvif)),
            ),
            None => {
                let headers = seek::beginning(presentation, &described, self.plan.onvif);
                (described, headers)
            }
        }
    }

    fn begin_play(&mut self) {
        let text = "Sending PLAY request";
        self.reporter.begin(ProgressStep::Request, text);
        self.reporter.go_on(text);
    }

    /// Plays from the answer to PLAY to the end of the session.
    async fn play_on(&mut self, session: Session) -> EndReason {
        let watchdog = Watchdog::new(
            self.plan.media_timeout,
            std::mem::take(&mut self.streams.watched),
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
            sdp: session.presentation().sdp.clone(),
            session,
            feed: &mut feed,
            watchdog,
            overflows: OverflowReports::default(),
            left_out: LeftOut::default(),
            media_timeout: self.plan.media_timeout,
            dropped: 0,
            is_mute_told: false,
            streams: std::mem::take(&mut self.streams),
            question: None,
            repeats: std::mem::take(&mut self.repeats),
            sought: None,
            onvif: self.plan.onvif,
            on_bye: self.plan.policy.on_bye,
        };
        let listening = self.control.seeking.listen();
        let end = playback.run(|| self.on_media()).await;
        let is_over = matches!(end, EndReason::Flow(gst::FlowError::Eos));
        self.listening = Some(listening).filter(|_| is_over);
        self.streams = std::mem::take(&mut playback.streams);
        self.repeats = std::mem::take(&mut playback.repeats);
        self.place = playback.place();
        drop(playback);
        self.repeats.on_end(&end, self.plan.policy.on_bye);
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
        self.reporter.is_quiet = false;
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
            let mut streams = manager.pads().streams();
            streams.all(|stream| manager.has_ended(stream.number))
        })
    }

    fn manager(&self) -> Option<Arc<dyn Manager>> {
        self.control.build_guard.manager()
    }

    fn failed(&self, phase: FailurePhase, error: Error) -> EndReason {
        match self.recovery.has_played() {
            true => EndReason::Mux(FailurePhase::Playing, error),
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
        let mut target = self.target.clone();
        tokio::select! {
            () = self.reporter.said() => {}
            // The handler that does not return may be what stops the element.
            () = reached(&mut target, |target| target == TargetState::Stopped) => {}
        }
        if let Some(manager) = self.manager() {
            manager::push_event(&*manager, &gst::event::Eos::new());
        }
    }
}

/// What the task builds for a session that is set up.
pub(crate) struct SetupPlan {
    followed: FollowedStreams,
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
        let connecting = format!("Connecting to {}", self.camera);
        self.reporter.go_on_with(ProgressStep::Connect, &connecting);
        // One after the other in `rtspsrc`; here it depends on what is known of the server.
        self.reporter.go_on("Retrieving server options");
        self.reporter.go_on("Retrieving media info");
        let described = opening.describe().await;
        drop(turn);
        let mut described = described.map_err(|error| self.failed(FailurePhase::Opening, error))?;
        self.choose(&mut described).await?;
        let mut followed = self.follow(described.presentation())?;
        let streams = followed.streams.iter();
        let numbers = streams.map(|stream| stream.number);
        let backchannels = backchannel::streams(described.presentation());
        let numbers: Vec<usize> = numbers.chain(backchannels).collect();
        let sdp = described.presentation().sdp.clone();
        for number in &numbers {
            let text = format!("SETUP stream {number}");
            self.reporter.go_on_with(ProgressStep::Request, &text);
        }
        let ready = described.setup(&numbers).await;
        let ready = ready.map_err(|error| self.failed(FailurePhase::Opening, error))?;
        self.control.set_parameters(Some(ready.parameter_sender()));
        self.decide_manager();
        // The SETUPs may follow the description of an earlier session, while the server describes
        // something else now.
        if ready.presentation().sdp != sdp {
            followed = self.follow(ready.presentation())?;
        }
        let on_bye = OnBye::of(ready.presentation(), &self.plan.policy);
        let element = self.element.upgrade().ok_or(EndReason::Stopped)?;
        let manager = self.manager();
        let pads = (&element, manager.as_deref());
        let set_up = self.streams.on_set_up(&ready, &mut followed, pads);
        set_up.map_err(|error| self.failed(FailurePhase::Opening, error))?;
        self.reporter.complete("Opened Stream");
        Ok((ready, SetupPlan { followed, on_bye }))
    }

    /// Asks the application what of the description it wants: its handlers of `on-sdp` may change it, and
    /// those of `select-stream`, or a SELECT_STREAMS, refuse streams.
    async fn choose(&mut self, described: &mut Described) -> Result<(), EndReason> {
        let camera = &self.camera;
        selection::edit(&self.element, described)
            .await
            .map_err(|why| EndReason::Description(format!("{camera}: on-sdp: {why}")))?;
        let manager = self.manager();
        let has_pad = |section| {
            let mut streams = manager.iter().flat_map(|manager| manager.pads().streams());
            streams.any(|stream| stream.section == section)
        };
        let offer = StreamOffer::new(camera, described.presentation());
        let selection = &self.control.selection;
        self.streams.refused = selection.refused(&self.element, offer, has_pad).await;
        Ok(())
    }

    /// `manager=auto` takes rtpbin where the application wants to have it; once decided it stays.
    fn decide_manager(&mut self) {
        let choice = &mut self.plan.manager.choice;
        if *choice == ManagerChoice::Auto {
            *choice = match handlers::are_connected_weak(&self.element, NEW_MANAGER) {
                true => ManagerChoice::Rtpbin,
                false => ManagerChoice::Light,
            };
        }
    }

    /// Waits for the session's turn at the server. With `reconnect=false` there is no turn: the session
    /// fails at once if the server is not there. With `connect-failure=error` a program may start again at
    /// each error, so there is one from the first attempt on, with short waits.
    async fn turn(&self, options: &SessionOptions) -> Result<Option<RedialPermit>, EndReason> {
        let policy = self.plan.policy;
        if !policy.is_on && !policy.fails_at_start {
            return Ok(None);
        }
        let after = self.failure.as_ref();
        let _waiting = self.control.monitor.waits_for(WaitReason::Redial);
        let turn = match policy.fails_at_start && after.is_none() {
            true => {
                let bounds = policy.bounds.at_most(BETWEEN_STARTS);
                self.plan.mux.turn_of_restart(options, bounds).await
            }
            false => self.plan.mux.turn(options, after, policy.bounds).await,
        };
        turn.map(Some)
            .map_err(|error| self.failed(FailurePhase::Opening, error))
    }

    /// Finds out which streams of the description play on which pads.
    fn follow(&mut self, presentation: &Presentation) -> Result<FollowedStreams, EndReason> {
        let element = self.element.upgrade().ok_or(EndReason::Stopped)?;
        let (manager, follows) = (self.manager(), self.plan.policy.follows_changes);
        let pads = (&element, manager.as_deref(), follows);
        self.streams.follow(&self.camera, presentation, pads)
    }

    /// Builds pads and manager; if they exist, sets new caps and adds pads for new streams.
    pub(crate) fn build(&mut self, setup_plan: SetupPlan) -> Result<(), EndReason> {
        let SetupPlan { followed, on_bye } = setup_plan;
        let element = self.element.upgrade().ok_or(EndReason::Stopped)?;
        if self.manager().is_some() {
            let streams = &mut self.streams;
            let extended = self
                .control
                .build_guard
                .work(|manager| streams.extend(followed, manager));
            return extended
                .ok_or(EndReason::Stopped)?
                .map_err(EndReason::Manager);
        }
        let settings = &self.plan.manager;
        let FollowedStreams { streams, kinds } = followed;
        self.streams.kinds.get_or_insert(kinds);
        let built = self.control.build_guard.build(|| {
            let seeking = self.control.seeking.clone();
            let pads = Arc::new(Pads::new(&element, &self.camera, streams, seeking));
            settings.build(&element, pads, on_bye)
        });
        match built {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(EndReason::Manager(error)),
            None => Err(EndReason::Stopped),
        }
    }
}

#[cfg(test)]
mod tests;
