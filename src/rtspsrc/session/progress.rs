//! What a session task says: progress, news and errors on the bus, its standing for `stats`.

use gst::{glib, prelude::*};
use gstreamer as gst;
use std::sync::Arc;

use super::{
    end::EndReason,
    status::{SessionState, SessionStatus, SharedStatus},
};
use crate::rtspsrc::{
    RtspMuxSrc,
    messages::{self, ProgressStep, SessionNews, bus_queue},
};

/// Speaks for one session, as long as there is an element.
pub(crate) struct ProgressReporter {
    element: glib::WeakRef<RtspMuxSrc>,
    status: Arc<SharedStatus>,
    /// The step that was announced and is not complete.
    step: Option<ProgressStep>,
    /// Nothing is said of steps, but that one is complete which was announced.
    is_quiet: bool,
}

impl ProgressReporter {
    pub(crate) fn new(element: &RtspMuxSrc, status: &Arc<SharedStatus>) -> Self {
        Self {
            element: element.downgrade(),
            status: status.clone(),
            step: None,
            is_quiet: false,
        }
    }

    /// Whether something is said of steps. Attempts that are made for days are told otherwise.
    pub(crate) fn set_quiet(&mut self, is_quiet: bool) {
        self.is_quiet = is_quiet;
    }

    pub(crate) fn set_state(&self, state: SessionState) {
        self.note(|status| status.state = state);
    }

    /// For `stats`.
    pub(crate) fn note(&self, change: impl FnOnce(&mut SessionStatus)) {
        self.status.change(change);
    }

    /// A step begins; another one that was under way is not completed any more.
    pub(crate) fn begin(&mut self, step: ProgressStep, text: &str) {
        if self.step.is_some_and(|under_way| under_way != step) {
            self.cancel();
        }
        if !self.is_quiet {
            self.step = Some(step);
            self.progress(gst::ProgressType::Start, text);
        }
    }

    /// The step under way is this one.
    pub(crate) fn is_at(&self, step: ProgressStep) -> bool {
        self.step == Some(step)
    }

    pub(crate) fn go_on(&self, text: &str) {
        if !self.is_quiet {
            self.progress(gst::ProgressType::Continue, text);
        }
    }

    pub(crate) fn complete(&mut self, text: &str) {
        self.progress(gst::ProgressType::Complete, text);
        self.step = None;
    }

    pub(crate) fn cancel(&mut self) {
        self.progress(gst::ProgressType::Canceled, "Cancelled");
        self.step = None;
    }

    /// The session is over, or waits for somebody to do something.
    pub(crate) fn fail(&mut self, end: &EndReason) {
        self.progress(gst::ProgressType::Error, "Failed");
        self.step = None;
        if let (Some(element), Some(failure)) = (self.element.upgrade(), end.failure()) {
            messages::error(&element, failure);
        }
    }

    /// The session did not come up, and waits.
    pub(crate) fn warn(&self, end: &EndReason, news: &SessionNews<'_>) {
        if let (Some(element), Some(failure)) = (self.element.upgrade(), end.failure()) {
            messages::not_up(&element, failure, news);
        }
    }

    /// Returns once all that was said is on the bus, or will not be.
    pub(crate) async fn said(&self) {
        if let Some(element) = self.element.upgrade() {
            bus_queue::posted(&element).await;
        }
    }

    /// Tells of a loss, an attempt or a recovery.
    pub(crate) fn tell(&self, news: &SessionNews<'_>) {
        if let Some(element) = self.element.upgrade() {
            messages::session(&element, news);
        }
    }

    /// About the step under way, if there is one.
    fn progress(&self, kind: gst::ProgressType, text: &str) {
        if let (Some(step), Some(element)) = (self.step, self.element.upgrade()) {
            messages::progress(&element, kind, step, text);
        }
    }
}
