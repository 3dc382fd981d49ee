//! Why a session ended, what the bus hears of it, and how often: [`ReportHistory`] decides (pure),
//! [`ProgressReporter`] posts.
//!
//! The bus hears of every change of state: the loss, the first attempt after it, and the recovery. If a
//! session does not come up, the bus hears the reason, and later hears it again at long intervals only: a
//! camera that is switched off for a week, or a server that ends each session at once, must not fill a
//! log.
//!
//! A session counts as recovered when its media has lasted for [`PROOF`]: a server that sends some
//! packets and closes has not recovered.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use gst::{glib, prelude::*};
use gstreamer as gst;

use super::control::{SessionControl, SessionState, SessionStatus};
use crate::{
    mux::{
        self,
        recovery::{self, FailureClass, ReasonClass},
    },
    rtspsrc::{
        RtspMuxSrc, lock,
        messages::{self, FailureMessage, FailurePhase, ProgressStep, SessionNews, bus_queue},
    },
};

/// How long after the first report a reason of the same class is reported again, and how long after each
/// later one.
const FIRST_REPEAT: Duration = Duration::from_secs(10 * 60);
const LATER_REPEATS: Duration = Duration::from_secs(60 * 60);

/// The shortest time between reasons of different classes: one incident, such as a restart of the server,
/// fails in several ways.
const BETWEEN_CLASSES: Duration = Duration::from_secs(60);

/// How long media has to last until the session counts as recovered.
const PROOF: Duration = Duration::from_millis(500);

/// After so many messages about one outage its attempts are not reported any more, and after the first
/// minute of it none but the first attempt.
const FEW: u32 = 3;
const FIRST_MINUTE: Duration = Duration::from_secs(60);

/// When and how often a class was reported.
#[derive(Clone, Copy, Debug)]
struct Told {
    last: Instant,
    times: u32,
}

/// What was reported of one session, over all attempts to play it.
#[derive(Debug, Default)]
pub(crate) struct ReportHistory {
    told: BTreeMap<ReasonClass, Told>,
    /// The outage, from the first report of it until media lasts.
    outage: Option<ReportedOutage>,
    /// When media came that has not lasted for [`PROOF`] yet.
    unproven: Option<Instant>,
}

/// What was reported of an outage.
#[derive(Clone, Copy, Debug)]
struct ReportedOutage {
    began: Instant,
    /// The loss of the session was reported.
    is_lost: bool,
    attempts: u32,
    messages: u32,
}

impl ReportHistory {
    fn outage(&mut self, now: Instant) -> &mut ReportedOutage {
        self.outage.get_or_insert(ReportedOutage {
            began: now,
            is_lost: false,
            attempts: 0,
            messages: 0,
        })
    }

    /// A session that played is lost. Returns whether to report that.
    pub(crate) fn on_lost(&mut self, now: Instant) -> bool {
        self.unproven = None;
        let outage = self.outage(now);
        let is_news = !std::mem::replace(&mut outage.is_lost, true);
        outage.messages += u32::from(is_news);
        is_news
    }

    /// The session did not come up and waits. Returns whether to report that.
    pub(crate) fn on_failure(&mut self, now: Instant, class: ReasonClass) -> bool {
        let age = |told: &Told| now.saturating_duration_since(told.last);
        let before = self.told.get(&class);
        let is_due = match before {
            Some(told) if told.times < 2 => age(told) >= FIRST_REPEAT,
            Some(told) => age(told) >= LATER_REPEATS,
            None => self.told.values().all(|told| age(told) >= BETWEEN_CLASSES),
        };
        if is_due {
            let times = before.map_or(0, |told| told.times) + 1;
            self.told.insert(class, Told { last: now, times });
            self.outage(now).messages += 1;
        }
        is_due
    }

    /// Another attempt begins. Returns whether to report that.
    pub(crate) fn on_attempt(&mut self, now: Instant) -> bool {
        let outage = self.outage(now);
        outage.attempts = outage.attempts.saturating_add(1);
        let is_early = now.saturating_duration_since(outage.began) < FIRST_MINUTE;
        let is_news = outage.attempts == 1 || is_early && outage.messages < FEW;
        outage.messages += u32::from(is_news);
        is_news
    }

    /// Whether to report the steps of this attempt by PROGRESS: only those of the first attempts.
    pub(crate) fn tells_steps(&self) -> bool {
        self.outage.is_none_or(|outage| outage.attempts < 2)
    }

    /// Media has come. Returns when the session will count as recovered, if that is to be reported.
    pub(crate) fn on_media(&mut self, now: Instant, media_timeout: Duration) -> Option<Instant> {
        self.outage?;
        let proof = match media_timeout {
            Duration::ZERO => PROOF,
            timeout => PROOF.min(timeout / 2),
        };
        Some(*self.unproven.get_or_insert(now) + proof)
    }

    /// The media has lasted. Returns how long the outage was.
    pub(crate) fn on_recovered(&mut self) -> Option<Duration> {
        let since = self.unproven.take()?;
        let outage = self.outage.take()?;
        for told in self.told.values_mut() {
            told.times = 1;
        }
        Some(since.saturating_duration_since(outage.began))
    }
}

/// Posts the messages of one session task, as long as the element exists, and keeps its status for
/// `stats`.
pub(crate) struct ProgressReporter {
    element: glib::WeakRef<RtspMuxSrc>,
    control: Arc<SessionControl>,
    /// The step that was begun on the bus and is not complete.
    pub(super) step: Option<ProgressStep>,
    /// No step is begun on the bus, as an outage may last for days; one that was begun before is still
    /// completed there.
    pub(super) is_quiet: bool,
}

impl ProgressReporter {
    pub(crate) fn new(element: &RtspMuxSrc, control: Arc<SessionControl>) -> Self {
        Self {
            element: element.downgrade(),
            control,
            step: None,
            is_quiet: false,
        }
    }

    pub(crate) fn set_state(&self, state: SessionState) {
        self.note(|status| status.state = state);
    }

    /// Changes the status that `stats` shows.
    pub(crate) fn note(&self, change: impl FnOnce(&mut SessionStatus)) {
        change(&mut lock(&self.control.status));
    }

    /// A step begins. If another one was under way it is cancelled.
    pub(crate) fn begin(&mut self, step: ProgressStep, text: &str) {
        if self.step.is_some_and(|under_way| under_way != step) {
            self.cancel();
        }
        if !self.is_quiet {
            self.step = Some(step);
            self.progress(gst::ProgressType::Start, text);
        }
    }

    pub(crate) fn go_on(&self, text: &str) {
        if let Some(step) = self.step {
            self.go_on_with(step, text);
        }
    }

    /// The step under way goes on with a part that has a code of its own.
    pub(crate) fn go_on_with(&self, part: ProgressStep, text: &str) {
        if let (Some(_), false, Some(element)) = (self.step, self.is_quiet, self.element.upgrade())
        {
            messages::progress(&element, gst::ProgressType::Continue, part, text);
        }
    }

    pub(crate) fn complete(&mut self, text: &str) {
        self.progress(gst::ProgressType::Complete, text);
        self.step = None;
    }

    pub(crate) fn cancel(&mut self) {
        let text = format!("{} canceled", self.step_name());
        self.progress(gst::ProgressType::Canceled, &text);
        self.step = None;
    }

    /// Posts ERROR: the session is over, or waits for other credentials.
    pub(crate) fn fail(&mut self, end: &EndReason) {
        if let (Some(element), Some(failure)) = (self.element.upgrade(), end.failure()) {
            if let EndReason::Silent(reason) = end {
                messages::timeout(&element, reason);
            }
            messages::error(&element, failure);
        }
        let text = format!("{} failed", self.step_name());
        self.progress(gst::ProgressType::Error, &text);
        self.step = None;
    }

    /// As `rtspsrc` names the step under way. The only requests that are steps of a session task are PLAYs.
    fn step_name(&self) -> &'static str {
        match self.step {
            Some(ProgressStep::Request) => "PLAY",
            _ => "Open",
        }
    }

    /// Posts the end of a session: its start at once, and its completion when all that the server was owed is
    /// done.
    pub(crate) async fn close(&mut self) {
        self.is_quiet = false;
        self.begin(ProgressStep::Close, "Closing Stream");
        self.go_on("Closing stream");
        self.control.monitor.released().await;
        self.complete("Closed Stream");
    }

    /// Posts WARNING: the session did not come up, and waits.
    pub(crate) fn warn(&self, end: &EndReason, news: &SessionNews<'_>) {
        if let (Some(element), Some(failure)) = (self.element.upgrade(), end.failure()) {
            messages::not_up(&element, failure, news);
        }
    }

    /// Returns when all messages so far are on the bus, or were dropped.
    pub(crate) async fn said(&self) {
        if let Some(element) = self.element.upgrade() {
            bus_queue::posted(&element).await;
        }
    }

    /// Posts a loss, an attempt or a recovery.
    pub(crate) fn tell(&self, news: &SessionNews<'_>) {
        if let Some(element) = self.element.upgrade() {
            messages::session(&element, news);
        }
    }

    /// Posts PROGRESS for the step under way, if there is one.
    fn progress(&self, kind: gst::ProgressType, text: &str) {
        if let (Some(step), Some(element)) = (self.step, self.element.upgrade()) {
            messages::progress(&element, kind, step, text);
        }
    }
}

/// Why a session ended without being told to.
#[derive(Debug)]
pub(crate) enum EndReason {
    /// The server ended it without an error.
    Regular,
    /// The multiplexer ended it with an error.
    Mux(FailurePhase, mux::Error),
    /// The element cannot play what the server describes.
    Description(String),
    /// The application has refused all streams.
    NothingSelected(String),
    /// The server describes other streams than those that the pads were made for.
    Changed(String),
    /// No media came for a while, on a connection that is alive; the text says for how long.
    Silent(String),
    /// Packets came, and none of them could be delivered; the text says why.
    Undeliverable(String),
    /// A source sent RTCP BYE, though the description announced no end.
    Bye(String),
    /// rtpbin is missing or cannot be set up.
    Manager(glib::BoolError),
    /// Downstream has ended, or does not want data.
    Flow(gst::FlowError),
    /// A stream that a pad waits for is described again: the session is to be set up again, with it.
    StreamIsBack,
    /// A state change has stopped the session, or the element is gone.
    Stopped,
}

impl EndReason {
    /// The classes by which `mux::recovery` decides whether the session is set up again, and
    /// [`ReportHistory`] how often the bus hears of it.
    pub(crate) fn classes(&self) -> (FailureClass, ReasonClass) {
        use FailureClass::{Hopeless, Refused};

        match self {
            Self::Mux(_, error) => recovery::classes(error.kind(), error.retry_after()),
            Self::Description(_) => (Refused, ReasonClass::Unusable),
            Self::Silent(_) => (Refused, ReasonClass::Silent),
            Self::Undeliverable(_) => (Refused, ReasonClass::Undeliverable),
            Self::Bye(_) => (Refused, ReasonClass::Ended),
            Self::NothingSelected(_) | Self::Changed(_) | Self::Manager(_) => {
                (Hopeless, ReasonClass::Unusable)
            }
            Self::Regular | Self::Flow(_) | Self::StreamIsBack | Self::Stopped => {
                (Hopeless, ReasonClass::Ended)
            }
        }
    }

    /// The error that [`Mux::turn`](crate::mux::Mux::turn) takes into account when the session asks for
    /// its turn.
    pub(crate) fn to_error(&self) -> mux::Error {
        let kind = match self {
            Self::Mux(_, error) => return error.clone(),
            Self::Description(_) | Self::Undeliverable(_) => mux::ErrorKind::Sdp,
            _ => mux::ErrorKind::TimedOut,
        };
        mux::Error::new(kind, self.reason())
    }

    /// The reason in one sentence, without secrets.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Regular => "the server ended the session".to_owned(),
            Self::Mux(_, error) => error.to_string(),
            Self::Description(text)
            | Self::NothingSelected(text)
            | Self::Changed(text)
            | Self::Silent(text)
            | Self::Undeliverable(text)
            | Self::Bye(text) => text.clone(),
            Self::Manager(error) => error.to_string(),
            Self::Flow(flow) => format!("streaming stopped, reason {flow}"),
            Self::StreamIsBack => "a stream is back".to_owned(),
            Self::Stopped => "stopped".to_owned(),
        }
    }

    /// Whether the application or the pipeline wanted the end, so that it is no failure.
    pub(crate) fn is_wanted(&self) -> bool {
        matches!(self, Self::Stopped | Self::Flow(gst::FlowError::Flushing))
    }

    /// The ERROR or WARNING for it; `None` if it is no failure.
    pub(crate) fn failure(&self) -> Option<FailureMessage> {
        let text = self.reason();
        Some(match self {
            Self::Stopped
            | Self::StreamIsBack
            | Self::Regular
            | Self::Flow(gst::FlowError::Eos | gst::FlowError::Flushing) => return None,
            Self::Mux(phase, error) => FailureMessage::of_mux(*phase, error),
            Self::Description(_) => {
                FailureMessage::new(glib::Error::new(gst::StreamError::CodecNotFound, &text))
            }
            Self::Changed(_) => {
                FailureMessage::new(glib::Error::new(gst::StreamError::Format, &text))
            }
            Self::NothingSelected(_) => {
                FailureMessage::new(glib::Error::new(gst::StreamError::CodecNotFound, &text))
            }
            Self::Silent(_) | Self::Undeliverable(_) | Self::Bye(_) => {
                FailureMessage::new(glib::Error::new(gst::ResourceError::Read, &text))
            }
            Self::Manager(error) => FailureMessage {
                error: glib::Error::new(gst::CoreError::MissingPlugin, "rtpbin cannot be used"),
                debug: error.to_string(),
                details: None,
            },
            Self::Flow(flow) => FailureMessage::of_flow(*flow),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReasonClass as Class;

    const S: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(60 * 60);
    const DAY: u32 = 24 * 60;

    fn start() -> Instant {
        static START: std::sync::LazyLock<Instant> =
            std::sync::LazyLock::new(crate::rtspsrc::threads::timer::now);
        *START
    }

    /// The seconds at which something is reported of a session that fails every `every` from the start
    /// on, for `time`. `class` gives the class of each failure.
    fn told(
        has_played: bool,
        every: Duration,
        time: Duration,
        class: impl Fn(u32) -> Class,
    ) -> Vec<u64> {
        let mut reports = ReportHistory::default();
        let mut told = Vec::new();
        let mut tell = |after: Duration, is_told| {
            if is_told {
                told.push(after.as_secs());
            }
        };
        if has_played {
            tell(Duration::ZERO, reports.on_lost(start()));
            tell(Duration::ZERO, reports.on_attempt(start()));
        }
        for number in 0..(time.as_millis() / every.as_millis()) as u32 {
            let after = every * number;
            tell(after, reports.on_failure(start() + after, class(number)));
            tell(after, reports.on_attempt(start() + after));
        }
        told
    }

    #[test]
    fn f44_a_camera_that_fails_for_days_is_told_thrice_then_after_ten_minutes_then_each_hour() {
        for has_played in [false, true] {
            let told = told(has_played, 2 * S, DAY * MINUTE, |_| Class::Unreachable);
            let (first, later) = told.split_at(3);
            assert!(first.iter().all(|at| *at < 60), "{first:?}");
            assert_eq!(later[..3], [600, 600 + 3600, 600 + 2 * 3600]);
            assert_eq!(later.len(), 24);
        }
    }

    #[test]
    fn a_trouble_with_two_faces_is_told_once_in_the_first_minute() {
        let told = told(true, S, 5 * MINUTE, |number| match number % 2 {
            0 => Class::Unreachable,
            _ => Class::NoAnswer,
        });
        assert_eq!(told, [0, 0, 0, 61], "the second class after a minute");
    }

    /// Of sixteen cameras of a server that does not answer, each has its turn after some minutes.
    #[test]
    fn a_second_attempt_that_comes_after_minutes_is_no_news() {
        let told = told(false, 4 * MINUTE, HOUR, |_| Class::NoAnswer);
        assert_eq!(told, [0, 0, 12 * 60]);
    }

    #[test]
    fn every_loss_and_every_recovery_is_told_and_a_reason_once_in_ten_minutes() {
        let mut reports = ReportHistory::default();
        let (mut warnings, mut now) = (0, start());
        for _ in 0..30 {
            assert!(reports.on_lost(now));
            assert!(reports.on_attempt(now));
            warnings += u32::from(reports.on_failure(now, Class::Refused));
            let due = reports.on_media(now + 10 * S, 20 * S).unwrap();
            assert_eq!(due, now + 10 * S + PROOF);
            assert_eq!(reports.on_recovered(), Some(10 * S));
            assert_eq!(reports.on_media(due, 20 * S), None, "no news");
            now += MINUTE;
        }
        assert_eq!(warnings, 3);
    }

    #[test]
    fn media_that_does_not_last_ends_no_outage() {
        let mut reports = ReportHistory::default();
        assert!(reports.on_lost(start()) && reports.on_attempt(start()));
        assert!(reports.on_media(start() + S, 20 * S).is_some());
        assert!(!reports.on_lost(start() + S));
        assert_eq!(reports.on_recovered(), None);
        let due = reports.on_media(start() + 9 * S, 20 * S);
        assert_eq!(due, Some(start() + 9 * S + PROOF));
        assert_eq!(reports.on_recovered(), Some(9 * S));
    }

    #[test]
    fn a_start_without_trouble_is_no_recovery() {
        assert_eq!(ReportHistory::default().on_media(start(), 20 * S), None);
    }

    #[test]
    fn media_need_not_last_longer_than_it_may_be_silent() {
        let mut reports = ReportHistory::default();
        reports.on_lost(start());
        let due = reports.on_media(start(), S / 2);
        assert_eq!(due, Some(start() + S / 4));
        assert_eq!(
            reports.on_media(start(), Duration::ZERO),
            Some(start() + PROOF)
        );
    }

    #[test]
    fn only_the_steps_of_the_first_attempts_are_told() {
        let mut reports = ReportHistory::default();
        assert!(reports.tells_steps(), "of the first start");
        reports.on_attempt(start());
        assert!(reports.tells_steps());
        reports.on_attempt(start());
        assert!(!reports.tells_steps());
        reports.on_media(start(), S);
        reports.on_recovered();
        assert!(reports.tells_steps());
    }
}
