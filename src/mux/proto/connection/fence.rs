//! Requests that the core sends to learn something about the server: the fence and the probe.
//!
//! # The fence: what it means if an answer does not come
//!
//! Some servers ignore the request that would add a session (go2rtc while a session plays,
//! EvoStream), or the SETUP of a stream that they describe and cannot send (Uniview: the metadata);
//! others are only busy (gst-rtsp-server holds all answers for the 20 s of one slow
//! DESCRIBE). A *fence* tells them apart: after some silence the core sends one OPTIONS, under the
//! URL of a session that is known to work. If the server answers the OPTIONS and not the request
//! before it, it has ignored that request. If it answers neither, it is busy, and nothing follows
//! from that.
//!
//! A fence follows a request that may have been lost among several after 100 ms, or four round trips;
//! one that the server has certainly read after a second. No fence follows a DESCRIBE, except to a
//! server that works in order.
//!
//! The answer to a later request is a fence, too, where the server has kept the order of requests so
//! far. After one more round trip the core sends a DESCRIBE again that the server has passed over.
//!
//! If a request was lost among several, the server may have lost it because there were several (VLC
//! drops all but the first). So the core sends it again, and from then on sends one request at a
//! time, unless it is lost again. It does the same after an error that matches no request while several
//! wait (Tapo C520WS: wrong CSeq; live555: none).
//!
//! # The probe: does the connection survive a DESCRIBE of a resource that does not exist?
//!
//! MediaMTX and ZLMediaKit close the connection after a 404, and with it all sessions on it; some
//! cameras answer only one DESCRIBE on a connection. So on a connection where nothing plays the
//! core sends such a DESCRIBE on purpose, and one OPTIONS once it is answered. If the OPTIONS is
//! answered too, the connection has survived, and no session had to wait for a close that does not
//! come.

use std::time::{Duration, Instant};

use rtsp_types::Method;
use url::Url;

use super::{
    Connection, ConnectionPhase,
    channels::ChannelPair,
    requests::{Draft, Outstanding, Purpose},
    session::CoreSession,
};
use crate::mux::proto::{
    command::SessionKey,
    event::{CloseReason, Event, FailureKind, ProbeOutcome},
};

#[derive(Debug, Default)]
pub(super) struct Fences {
    /// The CSeq of the last fence: no request before it needs another one.
    last: u32,
    /// The error for which the last fence was sent; it may belong to any request.
    stray: Option<FailureKind>,
    /// Errors that could not be matched with any of the outstanding DESCRIBEs.
    strays: usize,
    /// A request was lost among several: send one at a time from now on.
    is_serial: bool,
    /// That is known: a request that was sent again, alone, was answered.
    is_shown: bool,
}

impl Fences {
    pub(super) fn new(is_serial: bool) -> Self {
        Self {
            is_serial,
            is_shown: is_serial,
            ..Self::default()
        }
    }

    /// From now on one request is sent at a time.
    pub(super) fn become_serial(&mut self) {
        (self.is_serial, self.is_shown) = (true, true);
    }

    pub(super) fn on_answered(&mut self, draft: &Draft) {
        self.is_shown |= draft.is_repeated;
    }

    /// A request was not lost for being one of several: it was lost again alone, or is answered late.
    pub(super) fn on_not_lost(&mut self) {
        self.is_serial &= self.is_shown;
    }

    /// True if the server is known to lose requests that are sent together.
    pub(super) fn is_known_serial(&self) -> bool {
        self.is_serial && self.is_shown
    }

    pub(super) fn is_pipelining(&self) -> bool {
        !self.is_serial
    }
}

/// How long the answer to a request that may have been lost is waited for, at least.
const SHORTEST_FENCE: Duration = Duration::from_millis(100);
/// And this many round trips.
const ROUND_TRIPS: u32 = 4;

/// How long the answer to a request is waited for behind that to a later one: some servers answer pairs
/// in reverse. And a round trip.
const SHORTEST_GRACE: Duration = Duration::from_millis(20);

/// Sending a fence.
impl Connection {
    /// When a fence is due, unless an answer comes first.
    pub(super) fn next_fence(&self) -> Option<Instant> {
        if !self.may_fence() || self.config.timeouts.fence == Duration::MAX {
            return None;
        }
        let path = self.meter.measures().round_trip.unwrap_or_default();
        let lost = SHORTEST_FENCE.max(path.saturating_mul(ROUND_TRIPS));
        let is_one_of_several = self.requests.waiting().nth(1).is_some();
        let due = |entry: &Outstanding| {
            let key = entry.draft.session?;
            let is_setup = matches!(entry.draft.purpose, Purpose::Setup { .. });
            let is_beside_others = is_one_of_several
                || entry.overtaken.is_some()
                || !entry.was_alone
                || self.neighbour(key).is_some()
                || self.sessions.is(key, |session| session.id.is_some());
            let is_new = entry.cseq > self.fences.last && self.may_be_ignored(entry);
            let since = entry.quiet_since().filter(|_| is_new)?;
            let fence = self.config.timeouts.fence;
            let is_describe = entry.draft.purpose == Purpose::Describe;
            if !is_describe && !self.requests.was_seen(entry) {
                return since.checked_add(lost.min(fence));
            }
            // The session may be the only one, with other streams.
            let alone = || is_setup.then(|| fence.max(entry.draft.deadline / 2));
            since.checked_add(is_beside_others.then_some(fence).or_else(alone)?)
        };
        self.requests.waiting().filter_map(due).min()
    }

    fn may_fence(&self) -> bool {
        let is_fence = |entry: &Outstanding| entry.draft.purpose == Purpose::Fence;
        self.may_write() && !self.is_describing() && !self.requests.waiting().any(is_fence)
    }

    /// A DESCRIBE that would add a session, or a SETUP, even if its caller is gone: the next session
    /// waits for the answer to the DESCRIBE, and the answer to the SETUP owes a TEARDOWN. A PLAY only
    /// if it may have been lost.
    fn may_be_ignored(&self, entry: &Outstanding) -> bool {
        let session = self.sessions.of(&entry.draft);
        let has_id = session.is_some_and(|session| session.id.is_some());
        match entry.draft.purpose {
            Purpose::Describe => !has_id,
            Purpose::Setup { .. } => true,
            Purpose::Play(_) => entry.draft.caller.is_some() && !self.requests.was_seen(entry),
            _ => false,
        }
    }

    /// The aggregate URL of another session that works; of one that plays, if there is any.
    fn neighbour(&self, key: SessionKey) -> Option<&Url> {
        let works = |session: &CoreSession| session.is_set_up() && !session.is_tearing_down();
        let others = self.sessions.iter();
        let others = others.filter(|(other, session)| **other != key && works(session));
        let others = others.map(|(_, session)| session);
        let best = others.min_by_key(|session| !session.is_playing());
        best.map(CoreSession::aggregate)
    }

    /// When the server is taken to have lost a request because it has answered a later one.
    pub(super) fn next_passed_over(&self) -> Option<Instant> {
        let path = self.meter.measures().round_trip.unwrap_or_default();
        let grace = SHORTEST_GRACE.max(path);
        let begins = |entry: &Outstanding| {
            let purpose = &entry.draft.purpose;
            matches!(purpose, Purpose::Describe | Purpose::Setup { .. })
        };
        let passed_over = self.requests.passed_over();
        let its = passed_over.filter(|(entry, _)| begins(entry) && entry.draft.caller.is_some());
        let its = its.filter(|_| self.is_reading());
        its.map(|(_, since)| since + grace).min()
    }

    /// A DESCRIBE is sent again, and the SETUP of a further stream. The SETUP of a new session is not:
    /// the server may have made the session.
    pub(super) fn repeat_if_passed_over(&mut self, now: Instant) {
        if self.next_passed_over().is_none_or(|due| due > now) {
            return;
        }
        let remedy = |(entry, _): (&Outstanding, _)| {
            let session = self.sessions.of(&entry.draft);
            let has_id = session.is_some_and(|session| session.id.is_some());
            let remedy = match entry.draft.purpose {
                Purpose::Describe | Purpose::Setup { .. } if entry.draft.is_repeated => {
                    FenceRemedy::GiveUp
                }
                Purpose::Setup { .. } if !has_id => FenceRemedy::GiveUp,
                Purpose::Describe | Purpose::Setup { .. } => FenceRemedy::Repeat,
                _ => return None,
            };
            Some((entry.cseq, remedy))
        };
        let remedies = self.requests.passed_over().filter_map(remedy).collect();
        self.apply(now, remedies);
        self.flush(now);
    }

    pub(super) fn send_fence_if_due(&mut self, now: Instant) {
        if self.next_fence().is_some_and(|due| due <= now) {
            self.send_fence(now, None);
        }
    }

    /// An error that may be the answer to any of several requests.
    pub(super) fn on_stray_error(&mut self, now: Instant, error: FailureKind) {
        self.requests.note_stray_error();
        if self.is_describing() {
            self.fences.strays += 1;
            self.settle_strays(now);
        } else if self.requests.waiting().next().is_some() && self.may_fence() {
            self.send_fence(now, Some(error));
        }
    }

    /// No fence may follow a DESCRIBE. But once there are as many unmatched errors as unanswered
    /// requests, the errors were their answers.
    pub(super) fn settle_strays(&mut self, now: Instant) {
        let unanswered = self.requests.waiting().count();
        if self.fences.strays == 0 || unanswered > self.fences.strays {
            return;
        }
        self.fences.strays = 0;
        let remedy = |entry: &Outstanding| Some((entry.cseq, self.remedy(entry, true)?));
        let remedies = self.requests.waiting().filter_map(remedy).collect();
        self.apply(now, remedies);
    }

    fn send_fence(&mut self, now: Instant, stray: Option<FailureKind>) {
        let Some(url) = self.fence_url() else {
            return;
        };
        let fence = self.own_draft(Method::Options, url, Purpose::Fence);
        self.fences.last = self.write(now, fence);
        self.fences.stray = stray;
        self.flush(now);
    }

    /// Never `*`, and never a URL that the server has not seen: go2rtc plays the first URL that it
    /// sees.
    fn fence_url(&self) -> Option<Url> {
        let oldest = &self.requests.waiting().next()?.draft;
        let key = oldest.session;
        let own = || self.sessions.of(oldest).map(CoreSession::aggregate);
        let url = key.and_then(|key| self.neighbour(key)).or_else(own);
        Some(url.unwrap_or(&oldest.url).clone())
    }
}

/// The answer to a fence.
impl Connection {
    pub(super) fn on_fence_answered(&mut self, now: Instant, fence: u32) {
        let stray = self.fences.stray.take_if(|_| fence == self.fences.last);
        let is_for_stray = stray.is_some();
        if let Some(error) = stray
            && let Some(answered) = self.sole_owner_of_stray(now, fence)
        {
            return self.on_failure(now, answered, error);
        }
        let is_before = |entry: &&Outstanding| entry.cseq < fence;
        let before = || self.requests.waiting().filter(is_before);
        // If the server has processed one of the requests and ignored it, the others were not lost
        // because there were several.
        let is_ignored =
            |entry: &Outstanding| self.requests.was_seen(entry) && self.may_be_ignored(entry);
        let may_repeat = is_for_stray || !before().any(is_ignored);
        let remedy = |entry: &Outstanding| match self.remedy(entry, is_for_stray)? {
            FenceRemedy::Repeat if may_repeat => Some((entry.cseq, FenceRemedy::Repeat)),
            _ => Some((entry.cseq, FenceRemedy::GiveUp)),
        };
        let unanswered = before().filter_map(remedy).collect();
        self.apply(now, unanswered);
    }

    fn apply(&mut self, now: Instant, unanswered: Vec<(u32, FenceRemedy)>) {
        let mut repeats = Vec::new();
        for (cseq, remedy) in unanswered {
            let Some(draft) = self.on_ignored(now, cseq) else {
                continue;
            };
            match remedy {
                FenceRemedy::Repeat => repeats.extend(self.repeat(now, cseq, draft)),
                FenceRemedy::GiveUp => {
                    if draft.is_repeated {
                        self.fences.on_not_lost();
                    }
                    self.fail_draft(draft, Some(cseq), FailureKind::Ignored);
                }
            }
        }
        for draft in repeats.into_iter().rev() {
            self.waiting.push_front(draft);
        }
    }

    /// The only unanswered request before the fence, if it must not be sent again: the error is its
    /// answer.
    fn sole_owner_of_stray(&mut self, now: Instant, fence: u32) -> Option<Outstanding> {
        let mut unanswered = self.requests.waiting().filter(|entry| entry.cseq < fence);
        let only = unanswered.next()?;
        let is_only = unanswered.next().is_none();
        let is_repeatable = self.remedy(only, true) == Some(FenceRemedy::Repeat);
        let cseq = only.cseq;
        drop(unanswered);
        if !is_only || is_repeatable {
            return None;
        }
        self.requests.take(cseq, now)
    }

    /// What to do with a request that was sent before an answered fence and is unanswered. `None`:
    /// nothing, and its deadline goes on.
    fn remedy(&self, entry: &Outstanding, is_for_stray: bool) -> Option<FenceRemedy> {
        entry.quiet_since()?; // else it is being worked on
        let draft = &entry.draft;
        let is_candidate = self.may_be_ignored(entry);
        let is_idempotent = is_candidate
            || matches!(draft.purpose, Purpose::Describe) && draft.caller.is_some()
            || matches!(draft.purpose, Purpose::KeepAlive);
        let may_repeat = !draft.is_repeated && (is_for_stray || !self.requests.was_seen(entry));
        match (is_candidate, is_idempotent && may_repeat) {
            (true, true) => Some(FenceRemedy::Repeat),
            (false, true) if is_for_stray => Some(FenceRemedy::Repeat),
            (true, false) => Some(FenceRemedy::GiveUp),
            _ => None,
        }
    }

    /// The caller does not wait for this answer any more. A channel pair that it may still grant is
    /// not given to other sessions.
    fn on_ignored(&mut self, now: Instant, cseq: u32) -> Option<Draft> {
        let entry = self.requests.waiting().find(|entry| entry.cseq == cseq)?;
        let session = self.sessions.of(&entry.draft);
        let url = session.map(|session| session.aggregate().clone());
        let draft = self.requests.on_ignored(cseq, url, now)?;
        if let (Purpose::Setup { asked, .. }, Some(key)) = (&draft.purpose, draft.session) {
            self.forgo_channels(now, key, *asked);
        }
        Some(draft)
    }

    /// The server may grant the channels of a SETUP without an answer that we see, so they are put
    /// in quarantine.
    pub(super) fn forgo_channels(&mut self, now: Instant, key: SessionKey, asked: u8) {
        let (until, quiet) = self.unconfirmed_quarantine(now, key);
        self.channels.unreserve(key, asked);
        let pair = ChannelPair::from_answer(asked, None);
        self.channels.quarantine_pair(key, pair, until, quiet);
    }

    /// Sends the same request again, if a session still needs its answer.
    fn repeat(&mut self, now: Instant, cseq: u32, mut draft: Draft) -> Option<Draft> {
        if !self.is_wanted(&draft) {
            if let (Purpose::KeepAlive, Some(key)) = (&draft.purpose, draft.session) {
                self.end_keep_alive(key);
            }
            return None;
        }
        if let (Purpose::Setup { asked, .. }, Some(key)) = (&mut draft.purpose, draft.session) {
            match self.reserve_channels(now, key, true) {
                Ok(pair) => *asked = pair,
                Err(kind) => {
                    self.fail_draft(draft, Some(cseq), kind);
                    return None;
                }
            }
        }
        self.fences.is_serial = true;
        draft.is_repeated = true;
        Some(draft)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FenceRemedy {
    Repeat,
    GiveUp,
}

/// Statuses with which servers refuse a second DESCRIBE as such.
const REFUSALS: [u16; 10] = [400, 405, 406, 451, 454, 455, 459, 460, 501, 551];

/// A probe under way.
#[derive(Debug)]
pub(super) struct OpenProbe {
    /// A URL that the server has described.
    known: Url,
    /// The result, as far as the answer to the DESCRIBE shows it.
    answer: Option<ProbeOutcome>,
}

impl Connection {
    /// Finds out whether a DESCRIBE that fails harms the connection; the result is
    /// [`Event::Probed`], exactly once. Call it only where nothing plays. `missing` is a URL that
    /// does not exist, `known` one that the server has described.
    pub fn probe(&mut self, now: Instant, missing: Url, known: Url) {
        if self.state != ConnectionPhase::Open || self.probe.is_some() {
            return self
                .events
                .push_back(Event::Probed(ProbeOutcome::Undecided));
        }
        self.probe = Some(OpenProbe {
            known,
            answer: None,
        });
        let describe = self.own_draft(Method::Describe, missing, Purpose::Probe);
        self.waiting.push_back(describe);
        self.flush(now);
    }

    /// The DESCRIBE was answered; `status` if it failed.
    pub(super) fn on_probe_answered(&mut self, status: Option<u16>) {
        let Some(probe) = &mut self.probe else {
            return;
        };
        let is_refused = status.is_some_and(|status| REFUSALS.contains(&status));
        probe.answer = Some(match is_refused {
            true => ProbeOutcome::Fails,
            false => ProbeOutcome::Stands,
        });
        let known = probe.known.clone();
        let options = self.own_draft(Method::Options, known, Purpose::ProbeFence);
        self.waiting.push_back(options);
    }

    /// The OPTIONS after it was answered, or never will be.
    pub(super) fn on_probe_over(&mut self, was_answered: bool) {
        if let Some(probe) = self.probe.take() {
            let answer = probe.answer.filter(|_| was_answered);
            let outcome = answer.unwrap_or(ProbeOutcome::Undecided);
            self.events.push_back(Event::Probed(outcome));
        }
    }

    /// The connection is over, perhaps because of the probe.
    pub(super) fn end_probe(&mut self, reason: &CloseReason) {
        if self.probe.take().is_some() {
            let outcome = match reason {
                CloseReason::PeerClosed | CloseReason::Io(_) => ProbeOutcome::Fails,
                _ => ProbeOutcome::Undecided,
            };
            self.events.push_back(Event::Probed(outcome));
        }
    }
}
