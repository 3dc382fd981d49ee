//! From the end of one session to the beginning of the next one.

use std::time::Duration;

use gstreamer as gst;

use super::SessionTask;
use crate::{
    mux::recovery::{FailureClass, RecoveryDecision},
    rtspsrc::{
        CAT,
        messages::{ProgressStep, SessionChange},
        session::{control::SessionState, report::EndReason},
        threads::timer,
    },
};

/// An application sets user and password one after the other. After the first one the task waits this
/// long for the second.
const BOTH_SET: Duration = Duration::from_millis(300);

impl SessionTask {
    /// Waits, after the end of a session, until the next attempt is due. Returns the end if it is final.
    pub(super) async fn recover(&mut self, end: EndReason) -> Option<EndReason> {
        if end.is_wanted() {
            return Some(end);
        }
        if self.is_finished() {
            return Some(EndReason::Flow(gst::FlowError::Eos));
        }
        let is_new = self.recovery.on_end(timer::now());
        let reason = end.reason();
        // Without an error `Mux::turn` takes the attempt for one that the user starts.
        self.failure = Some(end.to_error());
        let (failure, _) = end.classes();
        let decision = self.recovery.decide(failure);
        self.reporter.note(|status| {
            status.last_error = Some(reason.clone());
            status.outages = self.recovery.outages();
        });
        if decision == RecoveryDecision::GiveUp {
            // The program may start again at once, by another element: its next start waits.
            if let (true, Some(error)) = (self.plan.policy.fails_at_start, &self.failure) {
                let options = self.latest.borrow();
                self.plan.mux.on_start_failed(&options, error);
            }
            return Some(end);
        }
        self.tell_end(&end, &reason, is_new, decision);
        // Another session may show that the credentials are right.
        let is_held = matches!(
            failure,
            FailureClass::Credentials(Some(_)) | FailureClass::OnHold(_)
        );
        self.wait(&end, &reason, decision, is_held).await;
        if self.is_finished() {
            return Some(EndReason::Flow(gst::FlowError::Eos));
        }
        let attempt = self.recovery.on_attempt();
        self.reporter.note(|status| status.attempts = attempt);
        if self.reports.on_attempt(timer::now()) {
            self.tell(SessionChange::Retrying, &reason);
        }
        self.reporter.is_quiet = !self.reports.tells_steps();
        None
    }

    /// Posts what the bus is to hear of the end of a session that is set up again.
    fn tell_end(
        &mut self,
        end: &EndReason,
        reason: &str,
        is_new: bool,
        decision: RecoveryDecision,
    ) {
        let now = timer::now();
        if is_new && self.recovery.has_played() && self.reports.on_lost(now) {
            gst::warning!(CAT, "lost: {reason}");
            self.tell(SessionChange::Lost, reason);
        }
        let is_asked = matches!(decision, RecoveryDecision::Ask(_));
        let is_credentials = is_asked || matches!(decision, RecoveryDecision::Later(_));
        self.reporter.is_quiet = !self.reports.tells_steps() && !is_credentials;
        if !is_asked && !self.has_media && self.reports.on_failure(now, end.classes().1) {
            self.reporter
                .warn(end, &self.news(SessionChange::Retrying, reason));
        }
        if self.reporter.step != Some(ProgressStep::Open) {
            let text = format!("Reconnecting to {}", self.camera);
            self.reporter.begin(ProgressStep::Open, &text);
        }
    }

    /// Waits as decided.
    async fn wait(
        &mut self,
        end: &EndReason,
        reason: &str,
        decision: RecoveryDecision,
        is_held: bool,
    ) {
        let mut state = SessionState::Recovering;
        let when = match decision {
            RecoveryDecision::After(wait) => format!(" in {:.1} s", wait.as_secs_f64()),
            RecoveryDecision::Later(wait) => {
                state = SessionState::Unauthorized;
                format!(" in {} s, or with other credentials", wait.as_secs())
            }
            RecoveryDecision::OnHold(wait) => {
                let seconds = wait.as_secs();
                format!(" in {seconds} s, or once the server has accepted user and password")
            }
            RecoveryDecision::Ask(again) => return self.ask(end, again, is_held).await,
            _ => String::new(),
        };
        self.reporter.set_state(state);
        self.reporter
            .go_on(&format!("Trying again{when}: {reason}"));
        match decision {
            RecoveryDecision::After(wait) => timer::pass(wait).await,
            RecoveryDecision::Later(wait) | RecoveryDecision::OnHold(wait) => {
                self.other_credentials_within(Some(wait), is_held).await;
            }
            _ => {}
        }
    }

    /// Posts the ERROR for refused credentials and waits for other ones, or for the time `again`.
    async fn ask(&mut self, end: &EndReason, again: Option<Duration>, is_held: bool) {
        self.reporter.set_state(SessionState::Unauthorized);
        // Posted once: a session whose turn comes later is refused several times.
        if !std::mem::replace(&mut self.is_refusal_told, true) {
            self.reporter.fail(end);
        }
        self.is_refusal_told &= !self.other_credentials_within(again, is_held).await;
        self.reporter.begin(ProgressStep::Open, "Opening Stream");
    }

    /// Waits for other credentials, for `wait` at most; if `is_held`, also until the server has accepted
    /// the present ones from another session. Returns false if the present ones are to be tried again.
    async fn other_credentials_within(&mut self, wait: Option<Duration>, is_held: bool) -> bool {
        let (mux, options) = (self.plan.mux.clone(), self.latest.borrow().clone());
        let over = async {
            match wait {
                Some(wait) => timer::pass(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.other_credentials() => true,
            () = mux.credentials_accepted(&options), if is_held => {
                // The session itself was not refused: for its first attempt it need not wait for its
                // turn.
                self.failure.take_if(|_| self.recovery.attempts() == 0);
                false
            }
            () = over => false,
        }
    }

    /// Waits for other credentials than those that the server refused: repeating those locks accounts.
    async fn other_credentials(&mut self) {
        // The task holds the sender too, so there is no error.
        let _ = self.latest.changed().await;
        while let Some(Ok(())) = timer::within(BOTH_SET, self.latest.changed()).await {}
    }
}
