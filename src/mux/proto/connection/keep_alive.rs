//! When a session needs a keep-alive, and which request it is.
//!
//! Keep-alives are sent per session, because servers expire sessions and not connections: live555
//! silently stops exactly the session without one. They are sent early, because servers were seen
//! to expire sessions at 0.8 of the timeout they announce, and because the slow DESCRIBE of another
//! session may hold an answer for 20 s.

use std::time::Duration;

use rtsp_types::Method;

use crate::mux::proto::wire::header::Methods;

/// The longest interval; announced timeouts of hours cannot be trusted.
const LONGEST: Duration = Duration::from_secs(30);
const SHORTEST: Duration = Duration::from_secs(1);
/// How long a slow request of another session may hold a keep-alive up, plus one second for the
/// answer.
const HEAD_OF_LINE: Duration = Duration::from_secs(21);
/// The share of the interval over which the sessions' keep-alives are spread, downwards only.
const SPREAD: f64 = 0.1;

/// Time between two requests of a session with this timeout. `position`, 0 to 1, spreads sessions
/// that began together.
pub(crate) fn interval(session_timeout: Duration, position: f64) -> Duration {
    let expiry = session_timeout.mul_f64(0.8);
    let in_time = expiry.saturating_sub(HEAD_OF_LINE).max(session_timeout / 4);
    let interval = LONGEST.min(session_timeout.mul_f64(0.4)).min(in_time);
    interval
        .mul_f64(1.0 - SPREAD * position.clamp(0.0, 1.0))
        .max(SHORTEST)
}

/// The request that keeps sessions of this connection alive. It only ever steps down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Means {
    /// GET_PARAMETER without a body where `Public` names it, else OPTIONS.
    #[default]
    GetParameter,
    /// OPTIONS: the server answered GET_PARAMETER with an error, or not at all.
    Options,
    /// Receiver reports alone: it left OPTIONS without an answer.
    ReceiverReports,
}

impl Means {
    /// The request to send for a session, if any. Before its first PLAY a session gets no
    /// GET_PARAMETER: go2rtc closes the connection on it.
    pub(crate) fn method(self, public: Methods, has_played: bool) -> Option<Method> {
        match self {
            Self::ReceiverReports => None,
            Self::GetParameter if has_played && public.get_parameter => Some(Method::GetParameter),
            Self::GetParameter | Self::Options => Some(Method::Options),
        }
    }

    /// The server answered `method` with an error. It has seen the session all the same, and
    /// without any request a paused session would expire. So the core goes on with OPTIONS,
    /// whatever the answers are (Tapo).
    pub(crate) fn on_refused(&mut self, method: &Method) {
        if (*self, method) == (Self::GetParameter, &Method::GetParameter) {
            *self = Self::Options;
        }
    }

    /// The server did not answer `method`: another request of that kind would hold up all requests
    /// after it.
    pub(crate) fn on_unanswered(&mut self, method: &Method) {
        match method {
            Method::Options => *self = Self::ReceiverReports,
            method => self.on_refused(method),
        }
    }
}

/// Statuses that mean "method not supported" (and not "session not found").
pub(crate) fn means_unsupported(code: u16) -> bool {
    matches!(code, 400 | 405 | 451 | 501)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(timeout: u64) -> f64 {
        interval(Duration::from_secs(timeout), 0.0).as_secs_f64()
    }

    #[test]
    fn intervals_of_common_timeouts() {
        assert_eq!(seconds(60), 24.0);
        assert_eq!(seconds(15), 3.75);
        assert_eq!(seconds(30), 7.5);
        assert_eq!(seconds(3600), 30.0);
        assert_eq!(seconds(1), 1.0);
    }

    #[test]
    fn f26_two_intervals_fit_before_the_earliest_expiry_seen() {
        for timeout in 4..7200 {
            for position in [0.0, 0.5, 1.0] {
                let timeout = Duration::from_secs(timeout);
                assert!(
                    2 * interval(timeout, position) <= timeout.mul_f64(0.8),
                    "{timeout:?}"
                );
            }
        }
    }

    #[test]
    fn spread_goes_down_only() {
        let full = interval(Duration::from_secs(60), 0.0);
        let spread = interval(Duration::from_secs(60), 1.0);
        assert!(spread < full && spread >= full.mul_f64(0.89));
    }

    #[test]
    fn means_step_down_and_never_up() {
        let public = Methods {
            get_parameter: true,
            ..Methods::default()
        };
        let mut means = Means::default();
        assert_eq!(means.method(public, true), Some(Method::GetParameter));
        assert_eq!(
            means.method(public, false),
            Some(Method::Options),
            "not before PLAY"
        );
        assert_eq!(
            means.method(Methods::default(), true),
            Some(Method::Options)
        );
        means.on_refused(&Method::GetParameter);
        assert_eq!(means.method(public, true), Some(Method::Options));
        means.on_refused(&Method::Options);
        assert_eq!(
            means.method(public, true),
            Some(Method::Options),
            "an error is an answer"
        );
        means.on_unanswered(&Method::GetParameter);
        assert_eq!(means.method(public, true), Some(Method::Options));
        means.on_unanswered(&Method::Options);
        assert_eq!(means.method(public, true), None);
        means.on_unanswered(&Method::GetParameter);
        assert_eq!(means.method(public, true), None);
    }
}
