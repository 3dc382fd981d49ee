//! What to do when a session has ended: again, or not. When, the multiplexer decides for all sessions of
//! the server ([`Mux::turn`](crate::mux::Mux::turn)). Pure: time is passed in.
//!
//! A recorder wants its cameras back, whatever happened to them. So what has played once is set up
//! again until it plays, but for what time does not heal: a wrong password locks accounts if it is
//! repeated, and a pipeline that takes no data any more takes none from a new session either. With a
//! password that was good before, though, it may be the camera: some refuse everybody in the first
//! seconds after they were switched on. That one is tried again, rarely enough for any account. A first
//! start is tried again only if the camera was not there: it may be off while the recorder starts.
//! What it says about what was asked of it is told at once.

use std::time::{Duration, Instant};

use crate::mux::{ErrorKind, RetryBounds};

/// Until refused credentials that were good before are tried again; then twice as long each time.
const FIRST_REFUSAL: Duration = Duration::from_secs(60);
const LONGEST_REFUSAL: Duration = Duration::from_secs(15 * 60);

/// What the properties say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecoveryPolicy {
    /// `reconnect`.
    pub(crate) is_on: bool,
    /// `reconnect-attempts`; none: without end.
    pub(crate) attempts: Option<u32>,
    /// `reconnect-min-delay` and `reconnect-max-delay`.
    pub(crate) bounds: RetryBounds,
}

/// What a session died of, as far as that decides what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureClass {
    /// The server is not there, or its connection went.
    Unreachable,
    /// It does not answer, or wants to be asked later.
    Busy(Option<Duration>),
    /// It cannot be trusted, or cannot be talked to in secret, until somebody changes something there.
    Untrusted,
    /// The session itself was lost or refused.
    Refused,
    /// It wants other credentials; or it refused them for another session, and they are not tried
    /// again for so long.
    Credentials(Option<Duration>),
    /// Its credentials are not tried for so long, though they may be right.
    OnHold(Duration),
    /// Nothing that time heals.
    Hopeless,
}

impl FailureClass {
    /// What an error of the multiplexer is.
    pub(crate) fn of(kind: ErrorKind, retry_after: Option<Duration>) -> Self {
        match kind {
            ErrorKind::Resolve | ErrorKind::Connect | ErrorKind::ConnectionLost => {
                Self::Unreachable
            }
            ErrorKind::Tls(failure) if failure.is_passing() => Self::Unreachable,
            ErrorKind::Tls(_) => Self::Untrusted,
            ErrorKind::TimedOut => Self::Busy(None),
            ErrorKind::Unauthorized => Self::Credentials(retry_after),
            ErrorKind::CredentialsOnHold => Self::OnHold(retry_after.unwrap_or(FIRST_REFUSAL)),
            ErrorKind::Status(401 | 403 | 407) => Self::Credentials(None),
            ErrorKind::Status(_) if retry_after.is_some() => Self::Busy(retry_after),
            ErrorKind::Status(_)
            | ErrorKind::Sdp
            | ErrorKind::LimitExceeded
            | ErrorKind::Malformed
            | ErrorKind::Redirects
            | ErrorKind::ServerLimit => Self::Refused,
            ErrorKind::InvalidUrl
            | ErrorKind::CannotShare
            | ErrorKind::Cancelled
            | ErrorKind::ShutDown
            | ErrorKind::Options
            | ErrorKind::Runtime => Self::Hopeless,
        }
    }
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecoveryDecision {
    /// Nothing; it is over.
    GiveUp,
    /// Wait for other credentials; or, where this session has not tried them itself, for so long.
    Ask(Option<Duration>),
    /// Again, when it is the session's turn at the server.
    InTurn,
    /// Again after so long.
    After(Duration),
    /// Again after so long, or as soon as there are other credentials.
    Later(Duration),
    /// Again after so long, or as soon as there are other credentials or the server has accepted these.
    OnHold(Duration),
}

/// A time without media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outage {
    began: Instant,
    attempts: u32,
}

/// What an outage came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Attempts it took.
    pub(crate) attempts: u32,
    /// How long it lasted.
    pub(crate) duration: Duration,
    /// Which one it was, from 1; 0: it had not played before.
    pub(crate) outages: u64,
}

/// The recoveries of one session over all its lives.
#[derive(Debug)]
pub(crate) struct Recovery {
    policy: RecoveryPolicy,
    outage: Option<Outage>,
    /// Since when there is media.
    media_since: Option<Instant>,
    has_played: bool,
    /// It has played with the credentials that it has now.
    are_credentials_good: bool,
    /// How often these were refused since.
    refusals: u32,
    outages: u64,
}

impl Recovery {
    pub(crate) fn new(policy: RecoveryPolicy) -> Self {
        Self {
            policy,
            outage: None,
            media_since: None,
            has_played: false,
            are_credentials_good: false,
            refusals: 0,
            outages: 0,
        }
    }

    pub(crate) fn policy(&self) -> RecoveryPolicy {
        self.policy
    }

    /// Whether it has ever played: what it describes is known to be playable.
    pub(crate) fn has_played(&self) -> bool {
        self.has_played
    }

    /// Times it stopped playing by itself.
    pub(crate) fn outages(&self) -> u64 {
        self.outages
    }

    /// Attempts in the present outage.
    pub(crate) fn attempts(&self) -> u32 {
        self.outage.map_or(0, |outage| outage.attempts)
    }

    /// How long the present outage lasts.
    pub(crate) fn duration(&self, now: Instant) -> Duration {
        self.outage
            .map(|outage| now.saturating_duration_since(outage.began))
            .unwrap_or_default()
    }

    /// PLAY was answered.
    pub(crate) fn on_playing(&mut self) {
        self.has_played = true;
        self.are_credentials_good = true;
        self.refusals = 0;
    }

    /// From now on it is tried with other credentials.
    pub(crate) fn on_other_credentials(&mut self) {
        self.are_credentials_good = false;
        self.refusals = 0;
    }

    /// Media came; says what that is the end of, if anything.
    pub(crate) fn on_media(&mut self, now: Instant) -> Option<Recovered> {
        if self.media_since.is_some() {
            return None;
        }
        self.media_since = Some(now);
        self.outage.take().map(|outage| Recovered {
            attempts: outage.attempts,
            duration: now.saturating_duration_since(outage.began),
            outages: self.outages,
        })
    }

    /// The session has ended by itself. True if that is the beginning of an outage.
    pub(crate) fn on_end(&mut self, now: Instant) -> bool {
        self.media_since = None;
        if self.outage.is_some() {
            return false;
        }
        self.outage = Some(Outage {
            began: now,
            attempts: 0,
        });
        self.outages += u64::from(self.has_played);
        true
    }

    /// What to do about it.
    pub(crate) fn verdict(&mut self, failure_class: FailureClass) -> RecoveryDecision {
        if !self.policy.is_on || failure_class == FailureClass::Hopeless {
            return RecoveryDecision::GiveUp;
        }
        let attempts = self.attempts();
        let is_used_up = self.policy.attempts.is_some_and(|most| most <= attempts);
        if let FailureClass::Credentials(again) = failure_class {
            return match self.are_credentials_good && !is_used_up {
                true => RecoveryDecision::Later(
                    self.wait_after_refusal().max(again.unwrap_or_default()),
                ),
                false => RecoveryDecision::Ask(again.filter(|_| !is_used_up)),
            };
        }
        let is_refusal = matches!(
            failure_class,
            FailureClass::Refused | FailureClass::Untrusted
        );
        if (is_refusal && !self.has_played) || is_used_up {
            return RecoveryDecision::GiveUp;
        }
        // How long it waits is decided for all sessions of the server together. What the server asks
        // for comes before that, and before what the user does.
        match failure_class {
            FailureClass::Busy(Some(asked)) => RecoveryDecision::After(asked),
            FailureClass::OnHold(wait) => RecoveryDecision::OnHold(wait),
            _ => RecoveryDecision::InTurn,
        }
    }

    /// Not drawn at random: the sessions of a server were refused together, and of those that try again
    /// together only one does so with the password.
    fn wait_after_refusal(&mut self) -> Duration {
        let wait = FIRST_REFUSAL.saturating_mul(1 << self.refusals.min(8));
        self.refusals = self.refusals.saturating_add(1);
        wait.min(LONGEST_REFUSAL)
    }

    /// Another attempt begins; its number in this outage.
    pub(crate) fn on_attempt(&mut self) -> u32 {
        let Some(outage) = &mut self.outage else {
            return 0;
        };
        outage.attempts = outage.attempts.saturating_add(1);
        outage.attempts
    }
}

#[cfg(test)]
mod tests;
