//! Whether a session that ended is set up again, and how long it waits for that.
//!
//! * [`Recovery`] decides after each end, by the [class](FailureClass) of the failure.
//! * [`Watchdog`] notices that a session sends no media any more.
//! * [`OnBye`] tells what an RTCP BYE means, [`StreamKinds`] what of a changed description still fits, and
//!   [`GonePads`] what becomes of a pad whose stream is gone.
//!
//! When a session that waits for its turn may dial, [`redial`](super::redial) decides for all sessions
//! of the server together.
//!
//! | the session ... | is set up again |
//! |---|---|
//! | has played | until it plays, whatever the server answers: a recorder wants its cameras back |
//! | has never played, and the server was not reached or is busy | until it plays: the camera may be off while the recorder starts |
//! | has never played, and the server refused it | never: the user learns at once what is wrong with the request |
//! | was refused for its credentials, which have never worked | with other credentials only: repeating a wrong password locks the account |
//! | was refused for credentials that worked before | rarely enough for any account: some cameras refuse every login in the first seconds after power-on |
//! | ended for a reason that time does not change | never |
//! | has never played, and its user wants an error then (`fails_at_start`) | never |
//!
//! Pure: time is passed in.

mod gone;
mod repeat;

use std::{
    fmt,
    time::{Duration, Instant},
};

pub(crate) use self::{
    gone::{AskedAgain, GonePads},
    repeat::{Repeats, Repetition},
};
use crate::mux::{
    error::ErrorKind,
    policy::redial::RetryBounds,
    proto::{Presentation, ServerText},
};

/// How long a session waits after its first refusal with credentials that have worked before. Each
/// further refusal doubles the wait, up to [`LONGEST_REFUSAL`].
const FIRST_REFUSAL: Duration = Duration::from_secs(60);
const LONGEST_REFUSAL: Duration = Duration::from_secs(15 * 60);

/// What the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecoveryPolicy {
    /// Whether sessions are set up again at all.
    pub(crate) is_on: bool,
    /// Whether a session that does not come up at its start fails, as with `rtspsrc`.
    pub(crate) fails_at_start: bool,
    /// Whether a session goes on when the server describes other streams than before.
    pub(crate) follows_changes: bool,
    /// What an RTCP BYE means.
    pub(crate) on_bye: ByePolicy,
    /// Attempts in one outage; `None`: no limit.
    pub(crate) attempts: Option<u32>,
    /// The shortest and the longest wait before an attempt.
    pub(crate) bounds: RetryBounds,
}

/// What the user wants an RTCP BYE to mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ByePolicy {
    /// The end, where the description announces one or the server then plays the same again; else a loss.
    #[default]
    Auto,
    /// The end.
    Eos,
    /// A loss.
    Reconnect,
}

/// The class of a failure, by which [`Recovery::decide`] decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureClass {
    /// The server could not be reached, or its connection was lost.
    Unreachable,
    /// The server does not answer, or asks the client to come back after this time.
    Busy(Option<Duration>),
    /// TLS with the server fails until its certificate or its configuration is changed.
    Untrusted,
    /// The server refused this session, or the session was lost while its connection lived.
    Refused,
    /// The server wants other credentials. With a time: it refused these to another session, and they
    /// are not tried again before that time is over.
    Credentials(Option<Duration>),
    /// The credentials are not tried for this time, though the server has not refused them.
    OnHold(Duration),
    /// A failure that no later attempt can mend.
    Hopeless,
}

/// The class of the reason for which a session does not come up. A second failure of the same class is no
/// news for the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ReasonClass {
    /// The server could not be reached, or its connection was lost.
    Unreachable,
    /// TLS with the server failed.
    Tls,
    /// The server does not answer.
    NoAnswer,
    /// The server has answered with an error.
    Refused,
    /// The server wants other credentials.
    Credentials,
    /// The server redirects the session, and it plays at none of the targets.
    Redirects,
    /// A limit of the user, of this crate or of the system is reached.
    Limit,
    /// The description, or another answer, cannot be used.
    Unusable,
    /// No media came.
    Silent,
    /// Media came, and none of it could be delivered.
    Undeliverable,
    /// The server ended the session.
    Ended,
}

/// The classes of an error of the multiplexer.
pub(crate) fn classes(
    kind: ErrorKind,
    retry_after: Option<Duration>,
) -> (FailureClass, ReasonClass) {
    use {FailureClass as Failure, ReasonClass as Reason};

    match kind {
        ErrorKind::Resolve | ErrorKind::Connect | ErrorKind::ConnectionLost => {
            (Failure::Unreachable, Reason::Unreachable)
        }
        ErrorKind::Tls(failure) if failure.is_passing() => (Failure::Unreachable, Reason::Tls),
        ErrorKind::Tls(_) => (Failure::Untrusted, Reason::Tls),
        ErrorKind::TimedOut => (Failure::Busy(None), Reason::NoAnswer),
        ErrorKind::Unauthorized => (Failure::Credentials(retry_after), Reason::Credentials),
        ErrorKind::CredentialsOnHold => {
            let wait = retry_after.unwrap_or(FIRST_REFUSAL);
            (Failure::OnHold(wait), Reason::Credentials)
        }
        ErrorKind::Status(401 | 403 | 407) => (Failure::Credentials(None), Reason::Credentials),
        ErrorKind::Status(_) if retry_after.is_some() => {
            (Failure::Busy(retry_after), Reason::Refused)
        }
        ErrorKind::Status(_) => (Failure::Refused, Reason::Refused),
        ErrorKind::Redirects => (Failure::Refused, Reason::Redirects),
        ErrorKind::ServerLimit => (Failure::Refused, Reason::Limit),
        ErrorKind::Sdp | ErrorKind::LimitExceeded | ErrorKind::Malformed => {
            (Failure::Refused, Reason::Unusable)
        }
        ErrorKind::CannotShare | ErrorKind::Runtime => (Failure::Hopeless, Reason::Limit),
        ErrorKind::Cancelled | ErrorKind::ShutDown => (Failure::Hopeless, Reason::Ended),
        ErrorKind::InvalidUrl | ErrorKind::Options => (Failure::Hopeless, Reason::Unusable),
    }
}

/// What to do about the end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecoveryDecision {
    /// The session is over.
    GiveUp,
    /// Wait for other credentials. With a time: try again after it, as this session has not tried the
    /// credentials itself.
    Ask(Option<Duration>),
    /// Try again when it is the session's turn at the server.
    InTurn,
    /// Try again after this time.
    After(Duration),
    /// Try again after this time, or as soon as there are other credentials.
    Later(Duration),
    /// Try again after this time, or as soon as there are other credentials or the server has accepted
    /// these.
    OnHold(Duration),
}

/// A time without media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SessionOutage {
    began: Instant,
    attempts: u32,
}

/// An outage that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Attempts it took.
    pub(crate) attempts: u32,
    /// How long it lasted.
    pub(crate) duration: Duration,
    /// Its number, from 1; 0 if the session had not played before.
    pub(crate) outages: u64,
}

/// The recoveries of one session, over all attempts to play it.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    policy: RecoveryPolicy,
    outage: Option<SessionOutage>,
    /// When the first media of this attempt came.
    media_since: Option<Instant>,
    has_played: bool,
    /// The session has played with the credentials that it has now.
    are_credentials_good: bool,
    /// How often the server has refused these credentials since.
    refusals: u32,
    outages: u64,
    /// The longest time from PLAY to the first media so far.
    first_media_took: Option<Duration>,
    /// Since when the session plays without media.
    mute_since: Option<Instant>,
    /// How often PLAY was answered before the first media of all.
    mute: u32,
}

impl Recovery {
    pub(crate) fn new(policy: RecoveryPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }

    /// Whether the session has ever played.
    pub(crate) fn has_played(&self) -> bool {
        self.has_played
    }

    /// How often the session stopped playing without being told to.
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

    /// How long the session that plays from now on waits for its first media, where `timeout` is the
    /// longest silence later. A battery camera wakes up on PLAY, which takes longer; and it never gets to
    /// its first picture if it is asked again too soon. So until one has come, each wait in vain doubles
    /// the next one.
    pub(crate) fn first_media_wait(&mut self, now: Instant, timeout: Duration) -> Duration {
        const MOST_DOUBLINGS: u32 = 5;
        self.mute_since = Some(now);
        self.mute = self.mute.saturating_add(1);
        match self.first_media_took {
            Some(took) => timeout.max(2 * took),
            None => timeout.saturating_mul(1 << self.mute.min(MOST_DOUBLINGS)),
        }
    }

    /// From now on the session uses other credentials.
    pub(crate) fn on_other_credentials(&mut self) {
        self.are_credentials_good = false;
        self.refusals = 0;
    }

    /// Media came. Returns the outage that this ends, if there was one.
    pub(crate) fn on_media(&mut self, now: Instant) -> Option<Recovered> {
        if self.media_since.is_some() {
            return None;
        }
        self.media_since = Some(now);
        let took = self
            .mute_since
            .take()
            .map(|since| now.saturating_duration_since(since));
        self.first_media_took = self.first_media_took.max(took);
        self.outage.take().map(|outage| Recovered {
            attempts: outage.attempts,
            duration: now.saturating_duration_since(outage.began),
            outages: self.outages,
        })
    }

    /// The session has ended without being told to. Returns true if an outage begins with that.
    pub(crate) fn on_end(&mut self, now: Instant) -> bool {
        self.media_since = None;
        if self.outage.is_some() {
            return false;
        }
        self.outage = Some(SessionOutage {
            began: now,
            attempts: 0,
        });
        self.outages += u64::from(self.has_played);
        true
    }

    /// Decides what to do about the end that [`on_end`](Self::on_end) reported.
    pub(crate) fn decide(&mut self, failure: FailureClass) -> RecoveryDecision {
        let fails_at_start = self.policy.fails_at_start && !self.has_played;
        if !self.policy.is_on || fails_at_start || failure == FailureClass::Hopeless {
            return RecoveryDecision::GiveUp;
        }
        let attempts = self.attempts();
        let is_used_up = self.policy.attempts.is_some_and(|most| most <= attempts);
        if let FailureClass::Credentials(again) = failure {
            return match self.are_credentials_good && !is_used_up {
                true => RecoveryDecision::Later(
                    self.wait_after_refusal().max(again.unwrap_or_default()),
                ),
                false => RecoveryDecision::Ask(again.filter(|_| !is_used_up)),
            };
        }
        let is_refusal = matches!(failure, FailureClass::Refused | FailureClass::Untrusted);
        if (is_refusal && !self.has_played) || is_used_up {
            return RecoveryDecision::GiveUp;
        }
        // `redial` decides for all sessions of the server how long they wait. A wait that the server
        // asks for takes precedence over that, and over the limits that the user has set.
        match failure {
            FailureClass::Busy(Some(asked)) => RecoveryDecision::After(asked),
            FailureClass::OnHold(wait) => RecoveryDecision::OnHold(wait),
            _ => RecoveryDecision::InTurn,
        }
    }

    /// The wait is not random: the server has refused its sessions together, and of those that try again
    /// together only one sends the password.
    fn wait_after_refusal(&mut self) -> Duration {
        let wait = FIRST_REFUSAL.saturating_mul(1 << self.refusals.min(8));
        self.refusals = self.refusals.saturating_add(1);
        wait.min(LONGEST_REFUSAL)
    }

    /// Another attempt begins. Returns its number in this outage.
    pub(crate) fn on_attempt(&mut self) -> u32 {
        let Some(outage) = &mut self.outage else {
            return 0;
        };
        outage.attempts = outage.attempts.saturating_add(1);
        outage.attempts
    }
}

/// Whether the end of a session that has played for so long is the end of a recording of this `length`.
/// The last packets may be missing, and lengths are rounded.
pub(crate) fn is_end_of_recording(played: Duration, length: Duration) -> bool {
    let tolerance = (Duration::from_secs(1) + length / 100).min(length / 4);
    played + tolerance >= length
}

// What the description of a session means for its recovery: whether it announces an end, and whether a
// later description still fits what the first one was set up for.

/// What an RTCP BYE of a source means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnBye {
    /// The end of the stream.
    End,
    /// The loss of the session: a camera has no end, so one that sends BYE restarts.
    Loss,
}

impl OnBye {
    /// By what the user wants.
    pub(crate) fn of(presentation: &Presentation, policy: &RecoveryPolicy) -> Self {
        let is_loss = match policy.on_bye {
            ByePolicy::Auto => !presentation.announces_end(),
            ByePolicy::Eos => false,
            ByePolicy::Reconnect => true,
        };
        match policy.is_on && is_loss {
            true => Self::Loss,
            false => Self::End,
        }
    }
}

/// A stream that is described, as far as a later description is compared with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamKind {
    /// Its number in its session.
    pub(crate) number: usize,
    /// `video`, `audio` ...
    pub(crate) media: String,
    /// The encoding name of its media.
    pub(crate) encoding: String,
}

/// The streams of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamKinds(pub(crate) Vec<StreamKind>);

/// How the streams of a later description fit those that the pads were made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamChanges {
    /// The numbers of those that go on: in the later session, and of their pads.
    pub(crate) kept: Vec<(usize, usize)>,
    /// The numbers of the pads whose stream is gone.
    pub(crate) gone: Vec<usize>,
    /// The numbers of streams, in the later session, that have no pad.
    pub(crate) new: Vec<usize>,
}

impl StreamKinds {
    /// Compares a later description. A stream goes on with the pad of its medium and encoding, of its own
    /// number if there are several; a stream that is described twice is not new.
    pub(crate) fn compare(&self, now: &Self) -> StreamChanges {
        let mut changes = StreamChanges::default();
        let is_alike = |one: &StreamKind, other: &StreamKind| {
            (&one.media, &one.encoding) == (&other.media, &other.encoding)
        };
        for pad in &self.0 {
            let is_free = |it: &&StreamKind| {
                let mut kept = changes.kept.iter();
                is_alike(it, pad) && !kept.any(|(number, _)| *number == it.number)
            };
            let own = now
                .0
                .iter()
                .filter(is_free)
                .find(|it| it.number == pad.number);
            match own.or_else(|| now.0.iter().find(is_free)) {
                Some(stream) => changes.kept.push((stream.number, pad.number)),
                None => changes.gone.push(pad.number),
            }
        }
        for stream in &now.0 {
            let is_kept = changes
                .kept
                .iter()
                .any(|(number, _)| *number == stream.number);
            let mut before = now.0.iter().take_while(|it| it.number != stream.number);
            let is_repeated = self.0.iter().any(|pad| is_alike(pad, stream))
                || before.any(|it| is_alike(it, stream));
            if !is_kept && !is_repeated {
                changes.new.push(stream.number);
            }
        }
        changes
    }
}

impl fmt::Display for StreamKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, stream) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            let (media, encoding) = (&stream.media, &stream.encoding);
            let (media, encoding) = (ServerText::new(media), ServerText::new(encoding));
            write!(f, "{separator}{media} ({encoding})")?;
        }
        Ok(())
    }
}

// Notices that a session whose connection is alive sends no media any more (fault F28). Pure.

/// Watches the streams of one session that send all the time: video and audio. A stream of metadata
/// sends on events only and may be silent for hours.
#[derive(Debug)]
pub(crate) struct Watchdog {
    timeout: Option<Duration>,
    /// How long the first packet may take, until it comes.
    first: Option<Duration>,
    streams: Vec<WatchedStream>,
}

#[derive(Debug)]
struct WatchedStream {
    number: usize,
    last: Instant,
    /// Its silence was reported.
    is_told: bool,
}

impl Watchdog {
    /// Watches `streams` from `now` on. It is off if `timeout` is 0 or there is no stream to watch.
    pub(crate) fn new(timeout: Duration, streams: Vec<usize>, now: Instant) -> Self {
        let is_on = !timeout.is_zero() && !streams.is_empty();
        let watched = |number| WatchedStream {
            number,
            last: now,
            is_told: false,
        };
        Self {
            timeout: is_on.then_some(timeout),
            first: None,
            streams: streams.into_iter().map(watched).collect(),
        }
    }

    /// The first packet may take this long.
    pub(crate) fn with_first(self, first: Duration) -> Self {
        Self {
            first: self.timeout.map(|timeout| timeout.max(first)),
            ..self
        }
    }

    /// The first packet may not take longer than later ones any more.
    pub(crate) fn end_first_wait(&mut self) {
        self.first = None;
    }

    /// When it is to be said that nothing has come so far.
    pub(crate) fn warns_at(&self) -> Option<Instant> {
        let is_longer = self.first > self.timeout;
        let timeout = self.timeout.filter(|_| is_longer)?;
        Some(self.last()? + timeout)
    }

    /// Counts the silence from `now` on, after a pause for instance.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.streams.iter_mut().for_each(|stream| stream.last = now);
    }

    /// An RTP packet of `stream` came.
    pub(crate) fn on_packet(&mut self, stream: usize, received: Instant) {
        let is_first = self
            .first
            .take_if(|_| self.streams.iter().any(|it| it.number == stream));
        if is_first.is_some() {
            // The other streams may take as long after it.
            self.restart(received);
        }
        let watched = self.streams.iter_mut().find(|it| it.number == stream);
        if let Some(watched) = watched {
            watched.last = watched.last.max(received);
        }
    }

    /// When the silence of the session, or of a stream, will have lasted for too long; `None`: never.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        if self.first.is_some() {
            return Some(self.last()? + self.first?);
        }
        let untold = self.streams.iter().filter(|stream| !stream.is_told);
        let first = untold.map(|stream| stream.last).min().or(self.last());
        Some(first? + self.timeout?)
    }

    /// When the last packet came.
    fn last(&self) -> Option<Instant> {
        self.streams.iter().map(|stream| stream.last).max()
    }

    /// A stream that has been silent for too long, while others may not be; each once.
    pub(crate) fn silent_stream(&mut self, now: Instant) -> Option<usize> {
        // Where nothing has come, all are silent.
        let timeout = self.timeout.filter(|_| self.first.is_none())?;
        let is_silent = |stream: &&mut WatchedStream| {
            !stream.is_told && now.saturating_duration_since(stream.last) >= timeout
        };
        let stream = self.streams.iter_mut().find(is_silent)?;
        stream.is_told = true;
        Some(stream.number)
    }

    /// How long the silence has lasted, if that is too long.
    pub(crate) fn silence(&self, now: Instant) -> Option<Duration> {
        let silence = now.saturating_duration_since(self.last()?);
        let timeout = self.first.or(self.timeout);
        timeout
            .is_some_and(|timeout| silence >= timeout)
            .then_some(silence)
    }
}

#[cfg(test)]
mod tests;
