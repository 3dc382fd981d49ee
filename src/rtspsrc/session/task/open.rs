//! Describes and sets up one session, and builds manager and pads for it.

use std::sync::Arc;

use gstreamer as gst;

use super::SessionTask;
use crate::{
    mux::{
        MediaStream, Opening, Presentation, Ready, RedialPermit, SessionOptions, WaitReason,
        proto::wire::uri::redacted,
        recovery::{OnBye, StreamKinds, Watchdog},
    },
    rtspsrc::{
        CAT,
        media::{
            caps,
            pads::{NewStream, Pads},
        },
        messages::SessionPhase,
        session::end::EndReason,
    },
};

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
        let opening = self.opening(options);
        self.reporter
            .go_on(&format!("Connecting to {}", self.camera));
        let described = opening.describe().await;
        drop(turn);
        let described = described.map_err(|error| self.failed(SessionPhase::Opening, error))?;
        let mut streams = playable(&self.camera, described.presentation())?;
        self.follow(described.presentation(), &mut streams)?;
        let numbers: Vec<usize> = streams.iter().map(|stream| stream.number).collect();
        let sdp = described.presentation().sdp.clone();
        self.reporter.go_on("Setting up streams");
        let ready = described.setup(&numbers).await;
        let ready = ready.map_err(|error| self.failed(SessionPhase::Opening, error))?;
        // The SETUPs may follow the description of an earlier session, while the server describes
        // something else now.
        if ready.presentation().sdp != sdp {
            streams = playable(&self.camera, ready.presentation())?;
            self.follow(ready.presentation(), &mut streams)?;
        }
        let is_recovered = self.recovery.policy().is_on;
        let on_bye = OnBye::of(ready.presentation(), is_recovered);
        for (number, error) in ready.failed_streams() {
            gst::warning!(CAT, "stream {number} left out: {error}");
            // The stream has a pad: another attempt may set it up.
            if self.build_guard.manager().is_some() {
                return Err(self.failed(SessionPhase::Opening, error.clone()));
            }
        }
        streams.retain(|stream| {
            ready
                .streams()
                .iter()
                .any(|grant| grant.stream == stream.number)
        });
        self.watched = watched(ready.presentation(), &streams);
        self.reporter.complete("Opened Stream");
        Ok((ready, SetupPlan { streams, on_bye }))
    }

    /// Waits for the session's turn at the server. With `reconnect=false` there is no turn: the session
    /// fails at once if the server is not there.
    async fn turn(&self, options: &SessionOptions) -> Result<Option<RedialPermit>, EndReason> {
        let policy = self.recovery.policy();
        if !policy.is_on {
            return Ok(None);
        }
        let after = self.failure.as_ref();
        let _waiting = self.monitor.waits_for(WaitReason::Redial);
        let turn = self.plan.mux.turn(options, after, policy.bounds).await;
        turn.map(Some)
            .map_err(|error| self.failed(SessionPhase::Opening, error))
    }

    fn opening(&mut self, options: SessionOptions) -> Opening {
        self.plan
            .mux
            .reopen(options, &self.monitor)
            .intended(self.plan.intent.take())
    }

    /// Checks that pads of an earlier session can go on with these streams. A stream that has no pad, as
    /// its first SETUP was refused, is left out again.
    fn follow(
        &mut self,
        presentation: &Presentation,
        streams: &mut Vec<NewStream>,
    ) -> Result<(), EndReason> {
        let kinds = StreamKinds::of(described(presentation, streams));
        let (Some(before), Some(manager)) = (&self.kinds, self.build_guard.manager()) else {
            self.kinds = Some(kinds);
            return Ok(());
        };
        before.check(&kinds).map_err(|changed| {
            let camera = &self.camera;
            EndReason::Changed(format!("{camera}: the pads cannot follow: {changed}"))
        })?;
        let has_pad = |number| manager.pads().streams().any(|stream| stream == number);
        streams.retain(|stream| has_pad(stream.number));
        Ok(())
    }

    /// Builds pads and manager, or sets new caps if they exist.
    pub(crate) fn build(&self, setup_plan: SetupPlan) -> Result<(), EndReason> {
        let SetupPlan { streams, on_bye } = setup_plan;
        let element = self.element.upgrade().ok_or(EndReason::Stopped)?;
        if let Some(manager) = self.build_guard.manager() {
            for stream in streams {
                manager
                    .pads()
                    .set_payloads(stream.number, |_| stream.payloads);
            }
            return Ok(());
        }
        let (choice, latency) = (self.plan.manager, self.plan.latency_ms);
        let built = self.build_guard.build(|| {
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

/// The streams of the presentation for which GStreamer has caps.
fn playable(camera: &str, presentation: &Presentation) -> Result<Vec<NewStream>, EndReason> {
    let mut streams = Vec::new();
    for (number, stream) in presentation.streams.iter().enumerate() {
        let section = stream.index;
        match caps::payload_map(presentation, stream) {
            Ok(payloads) => streams.push(NewStream {
                number,
                section,
                payloads,
            }),
            Err(reason) => gst::warning!(CAT, "{camera}: m= line {section} left out: {reason}"),
        }
    }
    if streams.is_empty() {
        let text =
            format!("{camera}: DESCRIBE: no stream of the session description can be played");
        return Err(EndReason::Description(text));
    }
    Ok(streams)
}

/// What the server describes of the streams that are played.
fn described<'a>(
    presentation: &'a Presentation,
    streams: &[NewStream],
) -> impl Iterator<Item = &'a MediaStream> {
    let of = |stream: &NewStream| presentation.streams.get(stream.number);
    streams.iter().filter_map(of)
}

/// Of the streams that are played, the ones whose silence is a failure.
fn watched(presentation: &Presentation, streams: &[NewStream]) -> Vec<usize> {
    let is_watched = |stream: &&NewStream| {
        let described = presentation.streams.get(stream.number);
        described.is_some_and(Watchdog::watches)
    };
    let watched = streams.iter().filter(is_watched);
    watched.map(|stream| stream.number).collect()
}
