//! The life of one element's session, as a task: open, set up, play, feed, end.
//!
//! State changes only say what they want, as a [`Target`]; the task gets there when the network
//! lets it. Stopping drops whatever future is under way, and with it the session's handle: the
//! multiplexer sends the TEARDOWN.

use gstreamer as gst;
use std::{panic::AssertUnwindSafe, sync::Arc};

use gst::{glib, prelude::*};
use tokio::sync::watch;

use super::{
    CAT, RtspMuxSrc, caps,
    feed::Feed,
    manager::{self, Manager, Rtpbin},
    messages::{self, Phase, Step},
    pads::{NewStream, Pads},
    panics, runtime,
    stage::Stage,
};
use crate::mux::{self, Opening, Presentation, Ready, Session, SessionMonitor};

/// Where the element wants its session to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Set up, or paused.
    Paused,
    /// Playing.
    Playing,
    /// Gone.
    Stopped,
}

/// The element's end of a session task. Dropping it stops the task.
pub(super) struct SessionControl {
    target: watch::Sender<Target>,
    stage: Arc<Stage>,
    monitor: SessionMonitor,
}

impl SessionControl {
    /// Starts the session of `element`. Nothing was sent when this returns.
    ///
    /// # Errors
    ///
    /// The system gives no threads.
    pub(super) fn start(
        element: &RtspMuxSrc,
        opening: Opening,
        latency_ms: u32,
    ) -> std::io::Result<Self> {
        let runtime = runtime::feeders()?;
        let (sender, target) = watch::channel(Target::Paused);
        let stage = Arc::new(Stage::default());
        let camera = opening.camera();
        let monitor = opening.monitor();
        let task = SessionTask {
            element: element.downgrade(),
            target,
            stage: stage.clone(),
            camera,
            latency_ms,
            step: None,
        };
        let task = supervise(element.downgrade(), task.run(opening));
        #[expect(
            clippy::disallowed_methods,
            reason = "the one task of a session; it ends when this control is dropped"
        )]
        runtime.spawn(task);
        Ok(Self {
            target: sender,
            stage,
            monitor,
        })
    }

    /// Tells the task where to go. Never blocks.
    pub(super) fn set(&self, target: Target) {
        self.target.send_replace(target);
    }

    /// Ends the session and gives what was built for it. Waits for no network, only for the task to
    /// finish building, if it is just doing that.
    pub(super) fn stop(&self) -> Option<Arc<dyn Manager>> {
        self.set(Target::Stopped);
        self.stage.close()
    }

    /// What was built for the session so far.
    pub(super) fn manager(&self) -> Option<Arc<dyn Manager>> {
        self.stage.manager()
    }

    /// Statistics, and when nothing is owed to the server any more.
    pub(super) fn monitor(&self) -> &SessionMonitor {
        &self.monitor
    }
}

/// A panic in a task is silent unless somebody looks.
async fn supervise(element: glib::WeakRef<RtspMuxSrc>, task: impl Future<Output = ()>) {
    let mut task = std::pin::pin!(task);
    let outcome = std::future::poll_fn(|context| {
        match std::panic::catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(panic)),
        }
    });
    if let (Err(panic), Some(element)) = (outcome.await, element.upgrade()) {
        panics::report(&element, &*panic);
    }
}

struct SessionTask {
    element: glib::WeakRef<RtspMuxSrc>,
    target: watch::Receiver<Target>,
    stage: Arc<Stage>,
    /// Its URL without secrets.
    camera: String,
    latency_ms: u32,
    /// The step that was announced and is not complete.
    step: Option<Step>,
}

/// Why a session ended by itself.
enum End {
    /// The server ended it in good order.
    Regular,
    /// The multiplexer gave it up.
    Mux(Phase, mux::Error),
    /// What the server describes cannot be played.
    Description(String),
    /// rtpbin is missing or refuses.
    Manager(glib::BoolError),
    /// Downstream has ended, or does not want data.
    Flow(gst::FlowError),
    /// The element is on its way down or gone.
    Stopped,
}

impl SessionTask {
    async fn run(mut self, opening: Opening) {
        let mut target = self.target.clone();
        let end = tokio::select! {
            biased;
            () = reached(&mut target, |target| target == Target::Stopped) => End::Stopped,
            end = self.live(opening) => end,
        };
        self.report(&end);
    }

    async fn live(&mut self, opening: Opening) -> End {
        match self.open(opening).await {
            Ok(ready) => match self.play(ready).await {
                Ok(()) => End::Regular,
                Err(end) => end,
            },
            Err(end) => end,
        }
    }

    /// DESCRIBE and SETUP, and all that GStreamer needs to take the first packet.
    async fn open(&mut self, opening: Opening) -> Result<Ready, End> {
        let opening_failed = |error| End::Mux(Phase::Opening, error);
        self.begin(Step::Open, "Opening Stream");
        self.go_on(&format!("Connecting to {}", self.camera));
        let described = opening.describe().await.map_err(opening_failed)?;
        let mut streams = self.streams(described.presentation())?;
        let numbers: Vec<usize> = streams.iter().map(|stream| stream.number).collect();
        self.go_on("Setting up streams");
        let ready = described.setup(&numbers).await.map_err(opening_failed)?;
        for (number, error) in ready.failed_streams() {
            gst::warning!(CAT, "stream {number} left out: {error}");
        }
        streams.retain(|stream| {
            ready
                .streams()
                .iter()
                .any(|grant| grant.stream == stream.number)
        });
        self.build(streams)?;
        self.complete("Opened Stream");
        Ok(ready)
    }

    /// The streams of the presentation that GStreamer has caps for.
    fn streams(&self, presentation: &Presentation) -> Result<Vec<NewStream>, End> {
        let mut maps = caps::payload_maps(&presentation.sdp)
            .map_err(|refused| End::Description(format!("{}: DESCRIBE: {refused}", self.camera)))?;
        let mut streams = Vec::new();
        for (number, stream) in presentation.streams.iter().enumerate() {
            let map = match maps.get_mut(stream.index) {
                Some(map) => std::mem::replace(map, Err(caps::Unusable::Malformed)),
                None => Err(caps::Unusable::Malformed),
            };
            match map {
                Ok(payloads) => streams.push(NewStream {
                    number,
                    section: stream.index,
                    payloads,
                }),
                Err(reason) => {
                    gst::warning!(
                        CAT,
                        "{}: m= line {} left out: {reason}",
                        self.camera,
                        stream.index
                    );
                }
            }
        }
        if streams.is_empty() {
            let text = format!(
                "{}: DESCRIBE: no stream of the session description can be played",
                self.camera
            );
            return Err(End::Description(text));
        }
        Ok(streams)
    }

    fn build(&self, streams: Vec<NewStream>) -> Result<(), End> {
        let element = self.element.upgrade().ok_or(End::Stopped)?;
        let built = self.stage.build(|| {
            let pads = Arc::new(Pads::new(&element, &self.camera, streams));
            let manager = Rtpbin::build(&element, pads, self.latency_ms)?;
            Ok(Arc::new(manager) as Arc<dyn Manager>)
        });
        match built {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(End::Manager(error)),
            None => Err(End::Stopped),
        }
    }

    /// From the first PLAY to the end.
    async fn play(&mut self, ready: Ready) -> Result<(), End> {
        self.reach(Target::Playing).await?;
        self.begin(Step::Request, "Sending PLAY request");
        let mut session = ready.play().await.map_err(playing_failed)?;
        self.complete("Sent PLAY request");
        let manager = self.stage.manager().ok_or(End::Stopped)?;
        for (number, info) in caps::play_info(session.rtp_info(), &session.presentation().streams) {
            manager
                .pads()
                .set_payloads(number, |payloads| payloads.with_play_info(&info));
        }
        self.stage
            .work(|manager| {
                manager.sync_state();
                manager.start(session.rtcp_sender());
            })
            .ok_or(End::Stopped)?;
        let mut feed = Feed::new(self.stage.clone(), manager);
        loop {
            self.feed(&mut session, &mut feed).await?;
            self.pause(&mut session, &mut feed).await?;
        }
    }

    /// Feeds until the element wants to pause.
    async fn feed(&mut self, session: &mut Session, feed: &mut Feed) -> Result<(), End> {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = reached(&mut self.target, |target| target != Target::Playing) => return Ok(()),
                more = session.next_batch(&mut batch) => if !more {
                    return Err(session.end_reason().map_or(End::Regular, playing_failed));
                },
            }
            let element = self.element.upgrade().ok_or(End::Stopped)?;
            for packet in batch.drain(..) {
                feed.push(&element, packet).map_err(End::Flow)?;
            }
            drop(element);
            // A batch is as long as the queue was; the other sessions of this thread come next.
            tokio::task::yield_now().await;
        }
    }

    /// PAUSE, until the element wants to play again; then PLAY.
    async fn pause(&mut self, session: &mut Session, feed: &mut Feed) -> Result<(), End> {
        let paused = match session.pause().await {
            Ok(()) => true,
            // Live servers may know no PAUSE. What they go on sending is read and dropped.
            Err(error) if matches!(error.kind(), mux::ErrorKind::Status(_)) => {
                gst::info!(CAT, "no pause: {error}");
                false
            }
            Err(error) => return Err(playing_failed(error)),
        };
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = reached(&mut self.target, |target| target == Target::Playing) => break,
                more = session.next_batch(&mut batch) => if !more {
                    return Err(session.end_reason().map_or(End::Regular, playing_failed));
                },
            }
            batch.clear();
        }
        if paused {
            session.play().await.map_err(playing_failed)?;
        }
        self.stage
            .work(|manager| manager.sync_state())
            .ok_or(End::Stopped)?;
        feed.restart().map_err(End::Flow)
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
        match end {
            End::Stopped | End::Flow(gst::FlowError::Flushing) => {
                return self.progress(gst::ProgressType::Canceled, "Cancelled");
            }
            _ => self.progress(gst::ProgressType::Error, "Failed"),
        }
        match end {
            End::Stopped
            | End::Regular
            | End::Flow(gst::FlowError::Eos | gst::FlowError::Flushing) => {}
            End::Mux(phase, error) => messages::error(&element, *phase, error),
            End::Description(text) => {
                gst::element_error!(element, gst::StreamError::Format, ("{text}"));
            }
            End::Manager(error) => {
                gst::element_error!(
                    element,
                    gst::CoreError::MissingPlugin,
                    ("rtpbin cannot be used"),
                    ["{error}"]
                );
            }
            End::Flow(flow) => messages::flow_error(&element, *flow),
        }
        if let Some(manager) = self.stage.manager() {
            manager::push_event(&*manager, &gst::event::Eos::new());
        }
    }
}

fn playing_failed(error: mux::Error) -> End {
    End::Mux(Phase::Playing, error)
}

/// Returns once the target is as wanted, or the element is gone.
async fn reached(target: &mut watch::Receiver<Target>, wanted: impl Fn(Target) -> bool) {
    // An error means that the control was dropped: the caller looks at the target again.
    let _ = target.wait_for(|target| wanted(*target)).await;
}
