//! Whether a server may carry several sessions on one connection: learned, and remembered.
//!
//! A server is *Unknown* until it has shown what it does. *Yes* once two sessions were set up on one
//! of its connections with ids and channels of their own. *No* only when a session that met
//! [`Evidence`] works on a connection of its own - else it was that session's own error - and, where
//! the evidence is a mere status, only when a second instance or a canary agrees: a flaky 400 must
//! not cost a server its sharing for a day. Evidence that is not confirmed is a *suspicion*: no
//! session is added to a connection while there is one. Pure: time is passed in.

pub(crate) mod descriptions;
pub(crate) mod evidence;
pub(crate) mod join_history;
pub(crate) mod persist;
pub(crate) mod play_gate;
mod single_flight;

use std::time::{Duration, Instant};

use self::join_history::JoinHistory;
pub(crate) use self::{
    evidence::{Evidence, Fingerprint, ServerIdentity},
    single_flight::{Finder, SingleFlight},
};
use crate::mux::{event::SharingVerdict, proto::ProbeOutcome};

/// After the first *No* sharing is tried again soon: it may have been wrong.
const FIRST_RETRY: Duration = Duration::from_secs(10 * 60);
/// After that, once a day: firmware gets updated.
const LATER_RETRY: Duration = Duration::from_secs(24 * 60 * 60);
/// A learned limit of sessions is tried again by one more after each of these.
const CAP_RETRY: Duration = Duration::from_secs(10 * 60);
/// A canary that brought no verdict is not sent again before.
const CANARY_RETRY: Duration = Duration::from_secs(10 * 60);
/// The same of a check of descriptions: the server has no room for one more connection, or does not
/// answer.
const CHECK_RETRY: Duration = Duration::from_secs(2);
/// Whether there is room on another connection is known for so long: not every session that was refused
/// at the same time needs to look.
const ROOM_HOLDS: Duration = Duration::from_secs(5);
/// Longest `Retry-After` that is believed.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// The verdict on one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DatedVerdict {
    /// It has shown nothing yet, or too long ago.
    #[default]
    Unknown,
    /// Several sessions per connection.
    Yes {
        /// When that was first seen.
        since: Instant,
    },
    /// One session per connection.
    No {
        /// What was seen.
        reason: Evidence,
        /// When it was confirmed.
        since: Instant,
    },
}

impl DatedVerdict {
    /// What was seen, for a No.
    pub(crate) fn reason(self) -> Option<Evidence> {
        match self {
            Self::No { reason, .. } => Some(reason),
            Self::Unknown | Self::Yes { .. } => None,
        }
    }

    /// As the user reads it.
    pub(crate) fn explanation(self) -> Option<String> {
        self.reason().map(|reason| reason.to_string())
    }

    pub(crate) fn since(self) -> Option<Instant> {
        match self {
            Self::Unknown => None,
            Self::Yes { since } | Self::No { since, .. } => Some(since),
        }
    }
}

impl From<DatedVerdict> for SharingVerdict {
    fn from(verdict: DatedVerdict) -> Self {
        match verdict {
            DatedVerdict::Unknown => Self::Unknown,
            DatedVerdict::Yes { .. } => Self::Yes,
            DatedVerdict::No { .. } => Self::No,
        }
    }
}

/// What follows for a session that asks for a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SharingMode {
    /// Share.
    Share,
    /// Try, but only where nothing plays.
    #[default]
    Try,
    /// Try, also where something plays: this family is known to leave it alone.
    TryInBand,
    /// One session per connection: it cannot share, or is suspected of that.
    Apart(Option<Evidence>),
}

/// Evidence that waits for confirmation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspicion {
    evidence: Evidence,
    /// Sessions that met it and worked alone.
    instances: u32,
    /// Sessions that met it and are being tried alone.
    open: u32,
    since: Instant,
}

/// How many sessions the server lets onto one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cap {
    sessions: u32,
    since: Instant,
}

/// All that is known of one server's sharing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sharing {
    verdict: DatedVerdict,
    suspicion: Option<Suspicion>,
    /// How often *No* was confirmed since the last *Yes*.
    denials: u32,
    fingerprint: Option<Fingerprint>,
    is_safe_in_band: bool,
    /// A canary passed where a session had been refused: cheap cameras let a second SETUP pass and
    /// no second DESCRIBE. The next refusal counts.
    was_refuted: bool,
    /// Waiting for other sessions held up a session; a canary has to decide.
    is_gathering_barred: bool,
    /// It describes without a base for control URLs: false until a canary has passed. Until then one
    /// presentation is described on a connection.
    may_gather: Option<bool>,
    /// Whether descriptions that are alike are known to be those of cameras that are alike.
    pub(crate) description_check: SingleFlight,
    /// Whether its connections stand a DESCRIBE that fails.
    pub(crate) probe: SingleFlight,
    /// It was out of room.
    pub(crate) has_said_full: bool,
    /// When it last did not know a session that it had just set up.
    lost_session_at: Option<Instant>,
    /// What canaries show is a verdict; known: none is sent before that time.
    pub(crate) canary: SingleFlight,
    cap: Option<Cap>,
    /// Whether a session that found no room on its connection finds some on another one.
    pub(crate) room: SingleFlight,
    pub(crate) joins: JoinHistory,
    /// It announces sources of media that do not come: what it announces is not believed.
    pub(crate) is_ssrc_disproved: bool,
    /// A session ended without its TEARDOWN: until its ghost is gone, a full server means nothing.
    ghosts_until: Option<Instant>,
}

/// What callers ask.
impl Sharing {
    /// The verdict as it holds now.
    pub(crate) fn verdict(&self, now: Instant) -> DatedVerdict {
        match self.verdict {
            DatedVerdict::No { since, reason }
                if !reason.mixes_sessions() && now >= since + self.memory() =>
            {
                DatedVerdict::Unknown
            }
            verdict => verdict,
        }
    }

    /// Whether the server is known to describe each URI of a connection as itself, so that cameras
    /// which are described alike are alike.
    pub(crate) fn tells_apart(&self) -> bool {
        self.is_safe_in_band || self.description_check.outcome() == Some(true)
    }

    /// What is suspected; not for ever, where nothing confirms or refutes it.
    fn suspicion(&self, now: Instant) -> Option<Suspicion> {
        self.suspicion
            .filter(|suspicion| suspicion.open > 0 || now < suspicion.since + FIRST_RETRY)
    }

    fn memory(&self) -> Duration {
        let is_of_crashes = self.verdict.reason() == Some(Evidence::Crashes);
        match self.denials > 1 && !is_of_crashes {
            true => LATER_RETRY,
            false => FIRST_RETRY,
        }
    }

    /// Why this server cannot share, if that was confirmed.
    pub(crate) fn objection(&self, now: Instant) -> Option<Evidence> {
        self.verdict(now).reason()
    }

    /// Where a session may be tried.
    pub(crate) fn mode(&self, now: Instant) -> SharingMode {
        match self.verdict(now) {
            DatedVerdict::No { reason, .. } => SharingMode::Apart(Some(reason)),
            _ if self.suspicion(now).is_some() => SharingMode::Apart(None),
            DatedVerdict::Yes { .. } => SharingMode::Share,
            DatedVerdict::Unknown if self.is_safe_in_band => SharingMode::TryInBand,
            DatedVerdict::Unknown if self.is_gathering_barred || self.describes_one(now) => {
                SharingMode::Apart(None)
            }
            DatedVerdict::Unknown => SharingMode::Try,
        }
    }

    /// The same for a session that takes part in no trial: where one presentation is described on a
    /// connection until a canary has passed, it sends none.
    pub(crate) fn mode_untried(&self, now: Instant) -> SharingMode {
        let is_kept_apart = self.is_gathering_barred || self.suspicion(now).is_some();
        match self.mode(now) {
            SharingMode::Apart(None) if !is_kept_apart => SharingMode::Try,
            mode => mode,
        }
    }

    /// Whether a canary may be sent now. Never to a server that has said it is full: a canary is
    /// one session more, and may evict one.
    pub(crate) fn may_send_canary(&self, now: Instant) -> bool {
        self.verdict(now) == DatedVerdict::Unknown
            && !self.has_said_full
            && self.canary.next(now) == Finder::You
            // Evidence that needs no second instance is not tried again on the connection that works.
            && self
                .suspicion
                .is_none_or(|suspicion| suspicion.evidence.needs_agreement())
    }

    /// Whether requests that would add a session are ignored, or would come to nothing.
    pub(crate) fn is_ignoring(&self, now: Instant) -> bool {
        let is_suspected = |suspicion: Suspicion| suspicion.evidence == Evidence::Unanswered;
        self.objection(now).is_some() || self.suspicion(now).is_some_and(is_suspected)
    }

    /// Whether one presentation is described on a connection, as long as no canary has passed.
    pub(crate) fn describes_one(&self, now: Instant) -> bool {
        self.is_bare() && self.verdict(now) == DatedVerdict::Unknown
    }

    /// Whether it describes without a base for control URLs, and no canary has passed.
    pub(crate) fn is_bare(&self) -> bool {
        self.may_gather == Some(false)
    }

    /// Whether a canary would decide a question that is open.
    pub(crate) fn wants_canary(&self) -> bool {
        self.is_gathering_barred || self.suspicion.is_some()
    }

    /// Whether a URI that may not be there may be described where something plays: MediaMTX closes
    /// the connection behind a 404.
    pub(crate) fn describes_in_band(&self) -> bool {
        self.is_safe_in_band || self.probe.outcome() == Some(true)
    }

    /// Whether the server works on the requests of a connection strictly in order: anything may follow
    /// an unanswered DESCRIBE.
    pub(crate) fn is_in_order(&self) -> bool {
        self.is_safe_in_band
    }

    /// Whether that is not known, and no session is finding it out.
    pub(crate) fn wants_probe(&self) -> bool {
        !self.is_safe_in_band && self.probe == SingleFlight::Open && self.suspicion.is_none()
    }

    /// Sessions on one connection beyond which the server was seen to refuse.
    pub(crate) fn session_cap(&self, now: Instant) -> Option<u32> {
        let cap = self.cap?;
        let periods = now.saturating_duration_since(cap.since).as_secs() / CAP_RETRY.as_secs();
        let more = u32::try_from(periods).unwrap_or(u32::MAX);
        Some(cap.sessions.saturating_add(more))
    }

    /// Whether nothing would be lost by forgetting it.
    pub(crate) fn is_forgettable(&self, now: Instant) -> bool {
        self.verdict == DatedVerdict::Unknown
            && self.joins.is_forgettable(now)
            && self.session_cap(now).is_none()
            && !self.has_said_full
            && !self.is_ssrc_disproved
            && !matches!(self.canary.next(now), Finder::Known(_))
    }
}

/// What is learned.
impl Sharing {
    /// A DESCRIBE was answered: the server says who it is.
    pub(crate) fn on_introduced(&mut self, now: Instant, introduction: ServerIdentity<'_>) {
        let fingerprint = introduction.fingerprint();
        let is_lasting = self.objection(now).is_some_and(Evidence::mixes_sessions);
        let is_another = match (&self.fingerprint, &fingerprint) {
            (Some(known), Some(new)) => {
                known.is_contradicted_by(new)
                    // What would hold for ever else is judged by this, too.
                    || (is_lasting && known.has_server_header() != new.has_server_header())
            }
            _ => false,
        };
        if is_another {
            *self = Self::default();
        }
        if self.fingerprint.is_none() || is_another {
            self.fingerprint = fingerprint;
        }
        self.is_safe_in_band |= introduction.is_safe_in_band();
        if let Some(words) = introduction.words_for_no() {
            self.deny(now, Evidence::KnownServer(words));
        }
    }

    /// A second session was set up on a connection, with an id and channels of its own.
    pub(crate) fn on_shared(&mut self, now: Instant) {
        let is_refuted = self
            .suspicion
            .is_none_or(|suspicion| suspicion.evidence.needs_agreement());
        if self.verdict(now) == DatedVerdict::Unknown && is_refuted {
            self.verdict = DatedVerdict::Yes { since: now };
            self.denials = 0;
        }
        if is_refuted {
            self.was_refuted |= self.suspicion.is_some();
            self.suspicion = None;
            self.is_gathering_barred = false;
        }
    }

    /// A presentation was described without a base for its control URLs.
    pub(crate) fn on_bare(&mut self) {
        self.may_gather.get_or_insert(false);
    }

    /// A canary has passed on a connection on which sessions wait to be described: they are tried
    /// together now.
    pub(crate) fn on_canary_passed(&mut self) {
        self.may_gather = Some(true);
    }

    /// Who finds out whether the server can share, where each session would get a connection of its
    /// own until that is known.
    pub(crate) fn deciding(&self, now: Instant, may_decide: bool) -> Finder {
        if self.mode(now) != SharingMode::Apart(None) {
            return Finder::Known(true);
        }
        let is_open = self
            .suspicion(now)
            .is_some_and(|suspicion| suspicion.open > 0);
        if is_open || self.canary == SingleFlight::UnderWay {
            return Finder::Others;
        }
        match may_decide && self.may_send_canary(now) {
            true => Finder::You,
            false => Finder::Known(false),
        }
    }

    /// A session met `evidence` on a connection that it shares: nothing is confirmed.
    pub(crate) fn on_suspected(&mut self, now: Instant, evidence: Evidence) {
        self.suspicion = self.suspicion(now);
        let first = Suspicion {
            evidence,
            instances: 0,
            open: 0,
            since: now,
        };
        self.suspicion.get_or_insert(first).open += 1;
    }

    /// The suspicion is refuted: the session fails alone, too. Evidence of other sessions stays.
    pub(crate) fn on_own_error(&mut self) {
        self.suspicion = self.suspicion.and_then(|suspicion| {
            let open = suspicion.open.saturating_sub(1);
            let is_held = open > 0 || suspicion.instances > 0;
            is_held.then_some(Suspicion { open, ..suspicion })
        });
    }

    /// A session that met `evidence` on a shared connection works on one of its own.
    pub(crate) fn on_works_alone(&mut self, now: Instant, evidence: Evidence) {
        // A connection of a server that shares may die for any reason.
        let was_yes = matches!(self.verdict, DatedVerdict::Yes { .. });
        let needs_agreement = self.objection(now).is_none()
            && (evidence.needs_agreement() || (was_yes && evidence == Evidence::Closed));
        let (instances, open) = self.suspicion.map_or((1, 0), |suspicion| {
            (suspicion.instances + 1, suspicion.open.saturating_sub(1))
        });
        if needs_agreement && instances < 2 && !self.was_refuted {
            self.suspicion = Some(Suspicion {
                evidence,
                instances,
                open,
                since: now,
            });
            if was_yes {
                // So that a canary may decide.
                self.verdict = DatedVerdict::Unknown;
            }
        } else {
            self.deny(now, evidence);
        }
    }

    /// Something happened that sessions which joined others may have caused.
    pub(crate) fn on_join_history(
        &mut self,
        now: Instant,
        blame: impl FnOnce(&mut JoinHistory) -> Option<Evidence>,
    ) {
        if let Some(evidence) = blame(&mut self.joins) {
            self.deny(now, evidence);
        }
    }

    /// What a session is to do whose description may be that of another URI.
    pub(crate) fn next_description_check(&self, now: Instant) -> Finder {
        match self.is_safe_in_band {
            true => Finder::Known(true),
            false => self.description_check.next(now),
        }
    }

    /// The server did not describe the URI on a fresh connection.
    pub(crate) fn on_description_check_failed(&mut self, now: Instant) {
        if self.description_check == SingleFlight::UnderWay {
            self.description_check
                .settle(false, Some(now + CHECK_RETRY));
        }
    }

    /// A URI was described on a shared connection, so that the description could have been another
    /// URI's, and alone.
    pub(crate) fn on_described_twice(&mut self, now: Instant, is_same: bool) {
        match is_same {
            true => self.on_described_apart(),
            false => self.deny(now, Evidence::SameDescription),
        }
    }

    /// Another URI was described on a connection than the one asked for first, with media of its own.
    pub(crate) fn on_described_apart(&mut self) {
        self.description_check.settle(true, None);
    }

    /// PLAY was answered 454, right behind its SETUP. True if that is no mishap: it was so before,
    /// a short time ago.
    pub(crate) fn on_session_not_found(&mut self, now: Instant) -> bool {
        let last = self.lost_session_at.replace(now);
        last.is_some_and(|last| now < last + FIRST_RETRY)
    }

    /// It is known what a DESCRIBE of nothing did to its connection; or not, and then it may be tried
    /// again.
    pub(crate) fn on_probed(&mut self, outcome: ProbeOutcome) {
        match outcome {
            ProbeOutcome::Stands => self.probe.settle(true, None),
            ProbeOutcome::Fails => self.probe.settle(false, None),
            ProbeOutcome::Undecided => self.probe.give_up(),
        }
    }

    /// The canary is back: with evidence that the session it was sent beside survived, or with none.
    pub(crate) fn on_canary_failed(&mut self, now: Instant, evidence: Option<Evidence>) {
        self.canary.give_up();
        match evidence {
            Some(evidence) => self.deny(now, evidence),
            None => self.canary.settle(false, Some(now + CANARY_RETRY)),
        }
    }

    /// A session waited too long for others and left. True if it is the first.
    pub(crate) fn on_gathering_lapsed(&mut self) -> bool {
        !std::mem::replace(&mut self.is_gathering_barred, true)
    }

    /// The server had no room for another session on a connection that had `sessions`.
    pub(crate) fn on_full(&mut self, code: u16) {
        self.has_said_full |= matches!(code, 453 | 503);
    }

    /// Nor was there room on a fresh connection; the server wants to be left alone for so long.
    pub(crate) fn on_no_room(&mut self, now: Instant, retry_after: Duration) {
        let pause = retry_after.clamp(ROOM_HOLDS, LONGEST_RETRY_AFTER);
        self.room.settle(false, Some(now + pause));
    }

    /// Sessions that took up room have left: there may be room now, whatever the server has said before.
    pub(crate) fn on_room_freed(&mut self) {
        if self.room.outcome() == Some(false) {
            self.room = SingleFlight::Open;
        }
    }

    /// A session that had no room on a connection with `sessions` works on another one.
    pub(crate) fn on_room_elsewhere(&mut self, now: Instant, sessions: u32) {
        self.room.settle(true, Some(now + ROOM_HOLDS));
        let has_ghosts = self.ghosts_until.is_some_and(|until| now < until);
        if sessions > 0 && !has_ghosts {
            self.cap = Some(Cap {
                sessions,
                since: now,
            });
        }
    }

    /// A session ended without an answered TEARDOWN; the server keeps it for `timeout`.
    pub(crate) fn on_unclean_end(&mut self, now: Instant, timeout: Duration) {
        let until = now + timeout;
        self.ghosts_until = Some(self.ghosts_until.map_or(until, |other| other.max(until)));
    }

    fn deny(&mut self, now: Instant, reason: Evidence) {
        self.suspicion = None;
        self.is_gathering_barred = false;
        let objection = self.objection(now);
        let is_worse = reason.mixes_sessions() && !objection.is_some_and(Evidence::mixes_sessions);
        if objection.is_some() && !is_worse {
            return;
        }
        self.denials = self.denials.saturating_add(1);
        self.verdict = DatedVerdict::No { reason, since: now };
    }
}

#[cfg(test)]
mod tests;
