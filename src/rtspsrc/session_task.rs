//! The life of one element's session, as a task: open, set up, play, lose, and again.
//!
//! State changes only say what they want, as a [`Target`]; the task gets there when the network
//! lets it. Stopping drops whatever future is under way, and with it the session's handle: the
//! multiplexer sends the TEARDOWN.
//!
//! What the pipeline sees outlives sessions: pads and manager are built by the first one that gets so
//! far, and the next ones go on with them. During an outage nothing is sent downstream, no flush and
//! no end of stream: running time goes on, and recordings with it.

use gstreamer as gst;
use std::sync::Arc;

use gst::{glib, prelude::*};
use tokio::sync::watch;

use super::{
    CAT, RtspMuxSrc, caps,
    end::End,
    feed::Feed,
    manager::{self, Goodbye, Manager, Rtpbin},
    messages::{self, Change, Phase, Step},
    pads::{NewStream, Pads},
    playback::Playback,
    recovery::{Recovery, Verdict},
    session_control::{Plan, SessionControl, Target, reached},
    stage::Stage,
    status::{State, Status},
    streams, timer,
    watchdog::Watchdog,
};
use crate::mux::{
    Error, Opening, Ready, Session, SessionMonitor, SessionOptions, Turn, proto::uri::redacted,
};

/// User and password are set one after the other; both count.
const BOTH_SET: std::time::Duration = std::time::Duration::from_millis(300);

/// The task of one session.
pub(super) struct SessionTask {
    element: glib::WeakRef<RtspMuxSrc>,
    plan: Plan,
    target: watch::Receiver<Target>,
    /// What is to be played by now.
    latest: watch::Receiver<SessionOptions>,
    stage: Arc<Stage>,
    monitor: SessionMonitor,
    status: Arc<Status>,
    recovery: Recovery,
    /// What ended the last attempt.
    failure: Option<Error>,
    /// Its URL without secrets.
    camera: String,
    /// The streams that are watched for silence.
    watched: Vec<usize>,
    /// From the first PLAY on.
    feed: Option<Feed>,
    /// The step that was announced and is not complete.
    step: Option<Step>,
}

impl SessionTask {
    pub(super) fn new(
        element: &RtspMuxSrc,
        plan: Plan,
        control: &SessionControl,
        target: watch::Receiver<Target>,
        latest: watch::Receiver<SessionOptions>,
    ) -> Self {
        Self {
            element: element.downgrade(),
            target,
            latest,
            stage: control.stage().clone(),
            monitor: control.monitor().clone(),
            status: control.status().clone(),
            recovery: Recovery::new(plan.policy),
            failure: None,
            camera: String::new(),
            watched: Vec::new(),
            feed: None,
            step: None,
            plan,
        }
    }

    pub(super) async fn run(mut self) {
        let mut target = self.target.clone();
        self.set_state(State::Opening);
        let end = tokio::select! {
            biased;
            () = reached(&mut target, |target| target == Target::Stopped) => End::Stopped,
            end = self.live() => end,
        };
        self.set_state(State::Ended);
        self.report(&end);
    }

    /// One session after the other, until there is no sense in another one.
    async fn live(&mut self) -> End {
        self.begin(Step::Open, "Opening Stream");
        loop {
            let end = self.attempt().await;
            if let Some(end) = self.recover(end).await {
                return end;
            }
        }
    }

    /// One session, from its turn to its end.
    async fn attempt(&mut self) -> End {
        let ready = match self.open().await {
            Ok(ready) => ready,
            Err(end) => return end,
        };
        match self.play(ready).await {
            Ok(session) => self.play_on(session).await,
            Err(end) => end,
        }
    }

    /// The session has ended: waits for the time of the next attempt. Gives the end back if it is
    /// final.
    async fn recover(&mut self, end: End) -> Option<End> {
        let now = timer::now();
        if end.is_wanted() {
            return Some(end);
        }
        if self.is_finished() {
            return Some(End::Flow(gst::FlowError::Eos));
        }
        let is_new = self.recovery.on_end(now);
        self.failure = end.error().cloned();
        let reason = end.reason();
        let verdict = self
            .recovery
            .verdict(now, end.ailment(), glib::random_double());
        self.status.change(|standing| {
            standing.last_error = Some(reason.clone());
            standing.outages = self.recovery.outages();
        });
        if verdict == Verdict::GiveUp {
            return Some(end);
        }
        if is_new && self.recovery.has_played() {
            gst::warning!(CAT, "lost: {reason}");
            self.tell(Change::Lost, &reason);
        }
        if self.step != Some(Step::Open) {
            self.progress(gst::ProgressType::Canceled, "Cancelled");
            self.begin(Step::Open, &format!("Reconnecting to {}", self.camera));
        }
        match verdict {
            Verdict::After(wait) => {
                self.set_state(State::Recovering);
                self.go_on(&format!(
                    "Trying again in {:.1} s: {reason}",
                    wait.as_secs_f64()
                ));
                timer::pass(wait).await;
            }
            Verdict::Ask => self.wait_for_credentials(&end).await?,
            _ => {
                self.set_state(State::Recovering);
                self.go_on(&format!("Trying again: {reason}"));
            }
        }
        if self.is_finished() {
            return Some(End::Flow(gst::FlowError::Eos));
        }
        let attempt = self.recovery.on_attempt();
        self.status.change(|standing| standing.attempts = attempt);
        self.tell(Change::Retrying, &reason);
        None
    }

    /// Says that the credentials were refused, and waits for others: repeating them locks accounts.
    async fn wait_for_credentials(&mut self, end: &End) -> Option<()> {
        let element = self.element.upgrade()?;
        self.set_state(State::Unauthorized);
        self.progress(gst::ProgressType::Error, "Failed");
        end.post(&element);
        drop(element);
        // The element is gone if that fails.
        self.latest.changed().await.ok()?;
        while let Some(()) = self.changed_soon().await {}
        self.begin(Step::Open, "Opening Stream");
        Some(())
    }

    async fn changed_soon(&mut self) -> Option<()> {
        tokio::select! {
            changed = self.latest.changed() => changed.ok(),
            () = timer::pass(BOTH_SET) => None,
        }
    }

    /// DESCRIBE and SETUP, and all that GStreamer needs to take the first packet.
    async fn open(&mut self) -> Result<Ready, End> {
        let options = self.latest.borrow_and_update().clone();
        self.camera = redacted(&options.url);
        let turn = self.turn(&options).await?;
        let opening = self.opening(options);
        self.go_on(&format!("Connecting to {}", self.camera));
        let described = opening.describe().await;
        drop(turn);
        let described = described.map_err(|error| self.failed(Phase::Opening, error))?;
        let mut streams = streams::playable(&self.camera, described.presentation())?;
        let goodbye = self.meaning_of_goodbye(&described.presentation().sdp);
        let numbers: Vec<usize> = streams.iter().map(|stream| stream.number).collect();
        self.go_on("Setting up streams");
        let ready = described.setup(&numbers).await;
        let ready = ready.map_err(|error| self.failed(Phase::Opening, error))?;
        for (number, error) in ready.failed_streams() {
            gst::warning!(CAT, "stream {number} left out: {error}");
        }
        streams.retain(|stream| {
            ready
                .streams()
                .iter()
                .any(|grant| grant.stream == stream.number)
        });
        self.watched = streams::steady(&streams);
        self.build(streams, goodbye)?;
        self.complete("Opened Stream");
        Ok(ready)
    }

    /// Sessions that are recovered wait for their turn; others fail at once if the server is away.
    async fn turn(&self, options: &SessionOptions) -> Result<Option<Turn>, End> {
        let policy = self.recovery.policy();
        if !policy.is_on {
            return Ok(None);
        }
        let after = self.failure.as_ref();
        let turn = self.plan.mux.turn(options, after, policy.bounds).await;
        turn.map(Some)
            .map_err(|error| self.failed(Phase::Opening, error))
    }

    fn opening(&mut self, options: SessionOptions) -> Opening {
        self.plan
            .mux
            .reopen(options, &self.monitor)
            .intended(self.plan.intent.take())
    }

    /// Recordings have an end; a camera that says goodbye restarts.
    fn meaning_of_goodbye(&self, sdp: &[u8]) -> Goodbye {
        if !self.recovery.policy().is_on || streams::has_end(sdp) {
            Goodbye::End
        } else {
            Goodbye::Loss
        }
    }

    /// Pads and manager, or the check that those of the session before will do.
    fn build(&self, streams: Vec<NewStream>, goodbye: Goodbye) -> Result<(), End> {
        let element = self.element.upgrade().ok_or(End::Stopped)?;
        if let Some(manager) = self.stage.manager() {
            streams::fit(&self.camera, manager.pads(), &streams)?;
            for stream in streams {
                manager
                    .pads()
                    .set_payloads(stream.number, |_| stream.payloads);
            }
            return Ok(());
        }
        let latency = self.plan.latency_ms;
        let built = self.stage.build(|| {
            let pads = Arc::new(Pads::new(&element, &self.camera, streams));
            let manager = Rtpbin::build(&element, pads, latency, goodbye)?;
            Ok(Arc::new(manager) as Arc<dyn Manager>)
        });
        match built {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(End::Manager(error)),
            None => Err(End::Stopped),
        }
    }

    /// PLAY, once the element wants to, and all that makes the pads ready for what comes.
    async fn play(&mut self, ready: Ready) -> Result<Session, End> {
        self.reach(Target::Playing).await?;
        self.begin(Step::Request, "Sending PLAY request");
        let session = ready.play().await;
        let session = session.map_err(|error| self.failed(Phase::Playing, error))?;
        self.complete("Sent PLAY request");
        self.recovery.on_playing();
        let manager = self.stage.manager().ok_or(End::Stopped)?;
        for (number, info) in caps::play_info(session.rtp_info(), &session.presentation().streams) {
            manager
                .pads()
                .set_payloads(number, |payloads| payloads.with_play_info(&info));
        }
        let reports = session.rtcp_sender();
        let started = self.stage.work(|manager| {
            manager.sync_state();
            manager.start(reports)
        });
        started.ok_or(End::Stopped)?.map_err(End::Manager)?;
        match &mut self.feed {
            Some(feed) => feed.resume(),
            None => self.feed = Some(Feed::new(self.stage.clone(), manager)),
        }
        Ok(session)
    }

    /// From PLAY to the end of the session.
    async fn play_on(&mut self, session: Session) -> End {
        let (stage, element) = (self.stage.clone(), self.element.clone());
        let watchdog = Watchdog::new(
            self.plan.media_timeout,
            std::mem::take(&mut self.watched),
            timer::now(),
        );
        let Some(mut feed) = self.feed.take() else {
            return End::Stopped;
        };
        let camera = self.camera.clone();
        let mut playback = Playback {
            element: &element,
            camera: &camera,
            stage: &stage,
            target: self.target.clone(),
            session,
            feed: &mut feed,
            watchdog,
        };
        let end = playback.run(|| self.on_media()).await;
        drop(playback);
        self.feed = Some(feed);
        end
    }

    /// Media has come, which is the end of an outage if there was one.
    fn on_media(&mut self) {
        self.set_state(State::Playing);
        let Some(recovered) = self.recovery.on_media(timer::now()) else {
            return;
        };
        if let Some(element) = self.element.upgrade() {
            messages::session(
                &element,
                &messages::News {
                    change: Change::Recovered,
                    reason: None,
                    attempt: recovered.attempts,
                    outages: recovered.outages,
                    duration: recovered.duration,
                },
            );
        }
    }

    async fn reach(&mut self, wanted: Target) -> Result<(), End> {
        reached(&mut self.target, |target| target == wanted).await;
        // A closed channel looks like any target: the element is gone then.
        if *self.target.borrow() == wanted {
            Ok(())
        } else {
            Err(End::Stopped)
        }
    }

    /// Whether the pipeline has ended the streams while nothing came.
    fn is_finished(&self) -> bool {
        let Some(manager) = self.stage.manager() else {
            return false;
        };
        manager.pads().streams().all(|stream| {
            manager
                .rtp_pad(stream)
                .is_some_and(|pad| pad.pad_flags().contains(gst::PadFlags::EOS))
        })
    }

    fn failed(&self, phase: Phase, error: Error) -> End {
        let phase = if self.recovery.has_played() {
            Phase::Playing
        } else {
            phase
        };
        End::Mux(phase, error)
    }

    fn set_state(&self, state: State) {
        self.status.change(|standing| standing.state = state);
    }

    /// Says on the bus what happens to the session.
    fn tell(&self, change: Change, reason: &str) {
        if let Some(element) = self.element.upgrade() {
            messages::session(
                &element,
                &messages::News {
                    change,
                    reason: Some(reason),
                    attempt: self.recovery.attempts(),
                    outages: self.recovery.outages(),
                    duration: self.recovery.duration(timer::now()),
                },
            );
        }
    }

    fn begin(&mut self, step: Step, text: &str) {
        self.step = Some(step);
        self.progress(gst::ProgressType::Start, text);
    }

    fn go_on(&self, text: &str) {
        self.progress(gst::ProgressType::Continue, text);
    }

    fn complete(&mut self, text: &str) {
        self.progress(gst::ProgressType::Complete, text);
        self.step = None;
    }

    /// About the step under way, if there is one.
    fn progress(&self, kind: gst::ProgressType, text: &str) {
        if let (Some(step), Some(element)) = (self.step, self.element.upgrade()) {
            messages::progress(&element, kind, step, text);
        }
    }

    /// Says on the bus why the session ended, and ends the streams.
    fn report(&self, end: &End) {
        let Some(element) = self.element.upgrade() else {
            return;
        };
        if end.is_wanted() {
            return self.progress(gst::ProgressType::Canceled, "Cancelled");
        }
        self.progress(gst::ProgressType::Error, "Failed");
        end.post(&element);
        if let Some(manager) = self.stage.manager() {
            manager::push_event(&*manager, &gst::event::Eos::new());
        }
    }
}
