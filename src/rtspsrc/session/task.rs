//! The life of one element's session, as a task: open, set up, play, lose, and again.
//!
//! State changes only say what they want, as a [`Target`]; the task gets there when the network
//! lets it. Stopping drops whatever future is under way, and with it the session's handle: the
//! multiplexer sends the TEARDOWN.
//!
//! What the pipeline sees outlives sessions: pads and manager are built by the first one that gets so
//! far, and the next ones go on with them. During an outage nothing is sent downstream, no flush and
//! no end of stream: running time goes on, and recordings with it.

mod open;
mod recover;

use std::{sync::Arc, time::Instant};

use gst::{glib, prelude::*};
use gstreamer as gst;
use tokio::sync::watch;

use self::open::SetupPlan;
use super::{
    build_guard::BuildGuard,
    end::EndReason,
    feed::Feed,
    playback::Playback,
    report::{ProgressReporter, Reports},
    shared_state::{SessionPlan, SessionState, SharedStatus, Target, reached},
};
use crate::{
    mux::{
        Credentials, Error, Ready, Session, SessionMonitor, SessionOptions,
        recovery::{Recovered, Recovery, StreamKinds, Watchdog},
    },
    rtspsrc::{
        RtspMuxSrc, manager,
        media::{caps, deliverable::LeftOut},
        messages::{
            ProgressStep, SessionChange, SessionNews, SessionPhase, overflow::OverflowReports,
        },
        threads::timer,
    },
};

/// The task's ends of what it shares with the element's [control](super::control).
pub(crate) struct TaskEnds {
    pub(crate) target: watch::Receiver<Target>,
    /// What is to be played by now.
    pub(crate) latest: watch::Receiver<SessionOptions>,
    pub(crate) build_guard: Arc<BuildGuard>,
    pub(crate) monitor: SessionMonitor,
    pub(crate) status: Arc<SharedStatus>,
}

/// The task of one session.
pub(crate) struct SessionTask {
    element: glib::WeakRef<RtspMuxSrc>,
    plan: SessionPlan,
    target: watch::Receiver<Target>,
    /// What is to be played by now.
    latest: watch::Receiver<SessionOptions>,
    build_guard: Arc<BuildGuard>,
    monitor: SessionMonitor,
    reporter: ProgressReporter,
    recovery: Recovery,
    reports: Reports,
    /// Media has come in this attempt.
    has_media: bool,
    /// What the outage came to that media has ended, until that is told.
    recovered: Option<Recovered>,
    /// What ended the last attempt.
    failure: Option<Error>,
    /// What it was made with.
    credentials: Option<Credentials>,
    /// An error was posted for these, and they have not played since.
    is_refusal_told: bool,
    /// Its URL without secrets.
    camera: String,
    /// What was described when the pads were made.
    kinds: Option<StreamKinds>,
    /// The streams that are watched for silence.
    watched: Vec<usize>,
    /// From the first PLAY on.
    feed: Option<Feed>,
}

impl SessionTask {
    pub(crate) fn new(element: &RtspMuxSrc, plan: SessionPlan, ends: TaskEnds) -> Self {
        Self {
            element: element.downgrade(),
            target: ends.target,
            latest: ends.latest,
            build_guard: ends.build_guard,
            monitor: ends.monitor,
            reporter: ProgressReporter::new(element, &ends.status),
            recovery: Recovery::new(plan.policy),
            reports: Reports::default(),
            has_media: false,
            recovered: None,
            failure: None,
            credentials: None,
            is_refusal_told: false,
            camera: String::new(),
            kinds: None,
            watched: Vec::new(),
            feed: None,
            plan,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut target = self.target.clone();
        self.reporter.set_state(SessionState::Opening);
        let end = tokio::select! {
            biased;
            () = reached(&mut target, |target| target == Target::Stopped) => EndReason::Stopped,
            end = self.live() => end,
        };
        self.reporter.set_state(SessionState::Ended);
        tokio::select! {
            biased;
            () = reached(&mut target, |target| target == Target::Stopped), if !end.is_wanted() => {}
            () = self.report(&end) => {}
        }
    }

    /// One session after the other, until there is no sense in another one.
    async fn live(&mut self) -> EndReason {
        self.reporter.begin(ProgressStep::Open, "Opening Stream");
        loop {
            let end = self.attempt().await;
            if let Some(end) = self.recover(end).await {
                return end;
            }
        }
    }

    /// One session, from its turn to its end.
    async fn attempt(&mut self) -> EndReason {
        self.has_media = false;
        let session = match self.open().await {
            Ok((ready, setup_plan)) => self.play(ready, setup_plan).await,
            Err(end) => return end,
        };
        match session {
            Ok(session) => self.play_on(session).await,
            Err(end) => end,
        }
    }

    /// PLAY, once the element wants to, and all that makes the pads ready for what comes.
    async fn play(&mut self, ready: Ready, setup_plan: SetupPlan) -> Result<Session, EndReason> {
        let session = if *self.target.borrow() == Target::Playing {
            self.reporter
                .begin(ProgressStep::Request, "Sending PLAY request");
            // While the answer is on its way pads can be made; and first all sessions that start
            // together are to ask, so that no picture waits for somebody's pads.
            let building = async {
                tokio::task::yield_now().await;
                self.build(setup_plan)
            };
            let (session, built) = tokio::join!(ready.play(), building);
            built?;
            session
        } else {
            self.build(setup_plan)?;
            self.reach(Target::Playing).await?;
            self.reporter
                .begin(ProgressStep::Request, "Sending PLAY request");
            ready.play().await
        };
        let session = session.map_err(|error| self.failed(SessionPhase::Playing, error))?;
        self.reporter.complete("Sent PLAY request");
        self.recovery.on_playing();
        self.is_refusal_told = false;
        let manager = self.build_guard.manager().ok_or(EndReason::Stopped)?;
        for (number, info) in caps::play_info(session.rtp_info(), &session.presentation().streams) {
            manager
                .pads()
                .set_payloads(number, |payloads| payloads.with_play_info(&info));
        }
        let reports = session.rtcp_sender();
        let started = self.build_guard.work(|manager| {
            manager.sync_state();
            manager.start(reports)
        });
        started
            .ok_or(EndReason::Stopped)?
            .map_err(EndReason::Manager)?;
        match &mut self.feed {
            Some(feed) => feed.resume(),
            None => self.feed = Some(Feed::new(self.build_guard.clone(), manager)),
        }
        Ok(session)
    }

    /// From PLAY to the end of the session.
    async fn play_on(&mut self, session: Session) -> EndReason {
        let (build_guard, element) = (self.build_guard.clone(), self.element.clone());
        let watchdog = Watchdog::new(
            self.plan.media_timeout,
            std::mem::take(&mut self.watched),
            timer::now(),
        );
        let Some(mut feed) = self.feed.take() else {
            return EndReason::Stopped;
        };
        let camera = self.camera.clone();
        let mut playback = Playback {
            element: &element,
            camera: &camera,
            build_guard: &build_guard,
            target: self.target.clone(),
            session,
            feed: &mut feed,
            watchdog,
            overflows: OverflowReports::default(),
            left_out: LeftOut::default(),
            media_timeout: self.plan.media_timeout,
            dropped: 0,
        };
        let end = playback.run(|| self.on_media()).await;
        drop(playback);
        self.feed = Some(feed);
        end
    }

    /// Media has come, which is the end of an outage if there was one. Gives when to call again,
    /// if the media has to last until it is told.
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

    async fn reach(&mut self, wanted: Target) -> Result<(), EndReason> {
        reached(&mut self.target, |target| target == wanted).await;
        // A closed channel looks like any target: the element is gone then.
        if *self.target.borrow() == wanted {
            Ok(())
        } else {
            Err(EndReason::Stopped)
        }
    }

    /// Whether the pipeline has ended the streams while nothing came.
    fn is_finished(&self) -> bool {
        let Some(manager) = self.build_guard.manager() else {
            return false;
        };
        let mut streams = manager.pads().streams();
        streams.all(|stream| manager.has_ended(stream))
    }

    fn failed(&self, phase: SessionPhase, error: Error) -> EndReason {
        let phase = if self.recovery.has_played() {
            SessionPhase::Playing
        } else {
            phase
        };
        EndReason::Mux(phase, error)
    }

    /// Says on the bus what happens to the session.
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

    /// Says on the bus why the session ended, and ends the streams. An application that sees the end
    /// of the stream first takes it for a good one.
    async fn report(&mut self, end: &EndReason) {
        if end.is_wanted() {
            return self.reporter.cancel();
        }
        self.reporter.fail(end);
        self.reporter.said().await;
        if let Some(manager) = self.build_guard.manager() {
            manager::push_event(&*manager, &gst::event::Eos::new());
        }
    }
}
