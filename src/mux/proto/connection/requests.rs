//! A request: what it is for and whose it is, and its deadlines once it is on the wire.
//!
//! Answers are found by CSeq, never by position: media flows between them, servers answer out of
//! order, and some do not answer at all. Two rules exist because of servers that process the
//! requests of a connection one by one (gst-rtsp-server holds all answers for the 20 s of one slow
//! DESCRIBE):
//!
//! * a response deadline runs only while its request is *head of line*, the oldest unanswered one;
//! * a request that timed out completes for its caller but stays as a *tombstone*, and no later
//!   deadline runs, until it or a later request is answered. A ceiling bounds every wait.
//!
//! A caller may be less patient. It is told that its request timed out, and the request stays in
//! line as if its caller had gone. The caller's patience runs from when the callers of all earlier
//! requests have their results.
//!
//! An *ignored* request - the server answered a later one and not this one - is kept too, but out
//! of line: its answer may still come, and must not be taken for the answer to another.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use rtsp_types::Method;
use url::Url;

use crate::mux::proto::{
    auth::{Answered, AuthTrail},
    command::{ParameterRequest, PlayRange, Profile, RequestId, SessionKey, SourcePolicy},
};

/// How long the answer to an ignored request is still recognised.
const IGNORED_MEMORY: Duration = Duration::from_secs(60);

/// What is still expected of a request on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestState {
    /// The request waits for its answer.
    Awaited,
    /// It timed out for its caller. Its answer may still come, and other requests wait for it.
    TimedOut,
    /// A later request was answered. No other request waits for it.
    Ignored,
}

/// A request on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Outstanding {
    pub(crate) cseq: u32,
    pub(crate) draft: Draft,
    pub(crate) authorization: Option<Answered>,
    pub(crate) sent: Instant,
    /// Since when it is the oldest unanswered request.
    head_since: Option<Instant>,
    /// Since when no caller waits for an earlier request.
    front_since: Option<Instant>,
    /// When it was sent, or an earlier request was answered, whichever is later.
    quiet_since: Instant,
    /// No other request was unanswered when it was sent.
    pub(crate) was_alone: bool,
    /// When a later request was answered first; fences do not count.
    pub(crate) overtaken: Option<Instant>,
    /// While it waited an error came that matched no request: the error may be its answer.
    pub(crate) is_perhaps_refused: bool,
    provisional: u32,
    standing: RequestState,
}

impl Outstanding {
    fn is_awaited(&self) -> bool {
        self.standing == RequestState::Awaited
    }

    pub(crate) fn is_ignored(&self) -> bool {
        self.standing == RequestState::Ignored
    }

    /// Since when nothing was received for it or for requests before it; `None` once a provisional
    /// answer came for it.
    pub(crate) fn quiet_since(&self) -> Option<Instant> {
        (self.provisional == 0).then_some(self.quiet_since)
    }

    /// How long it has been the oldest unanswered request.
    pub(crate) fn head_time(&self, now: Instant) -> Duration {
        self.head_since
            .map(|since| now.saturating_duration_since(since))
            .unwrap_or_default()
    }

    /// When an answer brought it to the head of the line.
    pub(crate) fn promoted(&self) -> Option<Instant> {
        self.head_since.filter(|since| *since > self.sent)
    }

    /// A copy of the request with its caller, which it loses.
    fn take_caller(&mut self) -> Draft {
        let copy = self.draft.clone();
        self.draft.caller = None;
        copy
    }

    /// True if its caller still waits.
    fn has_caller(&self) -> bool {
        self.is_awaited() && self.draft.caller.is_some()
    }

    /// When its caller's patience ends; `None` if the caller waits as long as the connection does.
    fn patience_ends(&self) -> Option<Instant> {
        let patience = self.draft.patience.filter(|_| self.has_caller())?;
        Some(self.front_since? + patience)
    }

    fn due(&self, ceiling: Duration) -> Option<Instant> {
        if !self.is_awaited() {
            return None;
        }
        let latest = self.sent + ceiling.max(self.draft.deadline);
        let at_head = self.head_since.map(|since| since + self.draft.deadline);
        Some(at_head.map_or(latest, |due| due.min(latest)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct RequestTable {
    outstanding: VecDeque<Outstanding>,
    last_cseq: u32,
    /// A request that arrived while another one waited was answered: the server loses none for
    /// that.
    stands_pipelining: bool,
    /// A request was answered after a later one.
    breaks_order: bool,
}

impl RequestTable {
    /// Enters a request that is being written, and gives it its CSeq.
    pub(crate) fn insert(
        &mut self,
        draft: Draft,
        authorization: Option<Answered>,
        now: Instant,
    ) -> u32 {
        self.last_cseq = self.last_cseq.wrapping_add(1);
        let cseq = self.last_cseq;
        self.outstanding.retain(|entry| {
            let age = now.saturating_duration_since(entry.sent);
            !(entry.is_ignored() && age >= IGNORED_MEMORY)
        });
        let is_first = self.outstanding.iter().all(Outstanding::is_ignored);
        let head_since = is_first.then_some(now);
        let was_alone = self.waiting().next().is_none();
        self.outstanding.push_back(Outstanding {
            cseq,
            draft,
            authorization,
            sent: now,
            head_since,
            front_since: None,
            quiet_since: now,
            was_alone,
            overtaken: None,
            is_perhaps_refused: false,
            provisional: 0,
            standing: RequestState::Awaited,
        });
        self.promote_front(now);
        cseq
    }

    /// Takes the request with this CSeq, whose final answer has come. Tombstones before it are
    /// removed, and the next request becomes head of line.
    pub(crate) fn take(&mut self, cseq: u32, now: Instant) -> Option<Outstanding> {
        let mut entries = self.outstanding.iter();
        let at = entries.position(|entry| entry.cseq == cseq)?;
        let answered = self.outstanding.remove(at)?;
        // A fence is sent to be answered last.
        let is_fence = answered.draft.purpose == Purpose::Fence;
        self.stands_pipelining |= !answered.was_alone && !is_fence;
        self.breaks_order |= answered.overtaken.is_some();
        let mut earlier = at;
        self.outstanding.retain_mut(|entry| {
            let is_earlier = earlier > 0;
            earlier = earlier.saturating_sub(1);
            match is_earlier {
                true if !is_fence => _ = entry.overtaken.get_or_insert(now),
                true => {}
                false => entry.quiet_since = now,
            }
            !(is_earlier && entry.standing == RequestState::TimedOut)
        });
        self.promote_head(now);
        Some(answered)
    }

    /// The session whose PLAY is at the head of the line; DESCRIBEs before it do not count, because
    /// live555 2017.01.26 processes the requests after a DESCRIBE while it reads the file. For a
    /// later PLAY the server sends nothing yet.
    pub(crate) fn session_that_begins_to_play(&self) -> Option<SessionKey> {
        let is_ahead =
            |entry: &&Outstanding| !entry.is_ignored() && entry.draft.purpose != Purpose::Describe;
        let head = self.outstanding.iter().find(is_ahead)?;
        let is_play = matches!(head.draft.purpose, Purpose::Play(_));
        head.draft.session.filter(|_| is_play)
    }

    /// The request with this CSeq.
    pub(crate) fn get(&self, cseq: u32) -> Option<&Outstanding> {
        self.outstanding.iter().find(|entry| entry.cseq == cseq)
    }

    /// The only request that waits for an answer, if there is exactly one and no tombstone.
    pub(crate) fn only(&self) -> Option<&Outstanding> {
        match (self.outstanding.front(), self.outstanding.len()) {
            (Some(entry), 1) if entry.is_awaited() => Some(entry),
            _ => None,
        }
    }

    /// The only request that waits for an answer, tombstones left out.
    pub(crate) fn only_awaited(&self) -> Option<&Outstanding> {
        let mut waiting = self.waiting();
        let first = waiting.next();
        first.filter(|_| waiting.next().is_none())
    }

    /// Counts a provisional (1xx) answer; `None` if nothing of that CSeq is outstanding.
    pub(crate) fn count_provisional(&mut self, cseq: u32) -> Option<u32> {
        let entry = self.find(|entry| entry.cseq == cseq)?;
        entry.provisional += 1;
        Some(entry.provisional)
    }

    /// An error came that matched no request: it may be the answer to any request that waits.
    pub(crate) fn note_stray_error(&mut self) {
        for entry in &mut self.outstanding {
            entry.is_perhaps_refused |= entry.is_awaited();
        }
    }

    /// True if the server certainly read a request: it was sent alone, or this server is known not
    /// to lose requests that arrive together (VLC loses all but the first).
    pub(crate) fn was_seen(&self, entry: &Outstanding) -> bool {
        entry.was_alone || self.stands_pipelining
    }

    /// Requests that the server has passed over, although it kept the order of all others, and since
    /// when.
    pub(crate) fn passed_over(&self) -> impl Iterator<Item = (&Outstanding, Instant)> {
        let waiting = self.waiting().filter(|_| !self.breaks_order);
        waiting.filter_map(|entry| Some((entry, entry.overtaken?)))
    }

    /// Takes the caller of a request whose patience is over; returns the request with that caller.
    pub(crate) fn lose_patience(&mut self, now: Instant) -> Option<(u32, Draft)> {
        let entry = self.find(|entry| entry.patience_ends().is_some_and(|end| end <= now))?;
        let taken = (entry.cseq, entry.take_caller());
        self.promote_front(now);
        Some(taken)
    }

    /// Turns one request whose deadline has passed into a tombstone.
    pub(crate) fn expire_one(&mut self, now: Instant, ceiling: Duration) -> Option<Outstanding> {
        let entry = self.find(|entry| entry.due(ceiling).is_some_and(|due| due <= now))?;
        entry.standing = RequestState::TimedOut;
        let expired = entry.clone();
        entry.draft.caller = None;
        self.promote_front(now);
        Some(expired)
    }

    /// The server has ignored the request with this CSeq: its answer is not expected any more.
    /// Returns the request with its caller. `url` is the URL for a TEARDOWN, should a late answer
    /// need one.
    pub(crate) fn on_ignored(
        &mut self,
        cseq: u32,
        url: Option<Url>,
        now: Instant,
    ) -> Option<Draft> {
        let entry = self.find(|entry| entry.cseq == cseq && entry.is_awaited())?;
        entry.standing = RequestState::Ignored;
        let draft = entry.take_caller();
        if let Some(url) = url {
            entry.draft.url = url;
        }
        self.promote_head(now);
        Some(draft)
    }

    /// For `time` up to `now` reading was paused: deadlines do not count it.
    pub(crate) fn postpone(&mut self, now: Instant, time: Duration) {
        for entry in &mut self.outstanding {
            let later = |at: Instant| (at + time).min(now);
            entry.sent = later(entry.sent);
            entry.head_since = entry.head_since.map(later);
            entry.front_since = entry.front_since.map(later);
            entry.quiet_since = later(entry.quiet_since);
        }
    }

    pub(crate) fn next_deadline(&self, ceiling: Duration) -> Option<Instant> {
        self.outstanding
            .iter()
            .flat_map(|entry| [entry.due(ceiling), entry.patience_ends()])
            .flatten()
            .min()
    }

    /// No caller waits for answers to this session any more. Returns its callers.
    pub(crate) fn disown(
        &mut self,
        session: SessionKey,
        now: Instant,
    ) -> Vec<(u32, Method, RequestId)> {
        let disown = |entry: &mut Outstanding| {
            let its = entry.draft.session == Some(session);
            let caller = its.then(|| entry.draft.caller.take()).flatten()?;
            Some((entry.cseq, entry.draft.method.clone(), caller))
        };
        let disowned = self.outstanding.iter_mut().filter_map(disown).collect();
        self.promote_front(now);
        disowned
    }

    /// Requests that wait for an answer, tombstones left out.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Outstanding> {
        self.outstanding.iter().filter(|entry| entry.is_awaited())
    }

    /// The oldest request in line, and since when it is the oldest. `is_in_order`: the server loses no
    /// requests.
    pub(crate) fn head(&self, is_in_order: bool) -> Option<HeadOfLine> {
        let entry = self.outstanding.iter().find(|entry| !entry.is_ignored())?;
        let is_describe = entry.draft.purpose == Purpose::Describe;
        Some(HeadOfLine {
            session: entry.draft.session,
            since: entry.head_since?,
            is_describe,
            is_perhaps_lost: is_describe && !is_in_order && !self.was_seen(entry),
        })
    }

    /// DESCRIBEs that the server may still be working on.
    pub(crate) fn describes(&self) -> impl Iterator<Item = &Outstanding> {
        let is_describe =
            |entry: &&Outstanding| entry.draft.purpose == Purpose::Describe && !entry.is_ignored();
        self.outstanding.iter().filter(is_describe)
    }

    /// True if an answer may still come that gives this session an id.
    pub(crate) fn has_setup(&self, session: SessionKey) -> bool {
        self.outstanding.iter().any(|entry| {
            entry.draft.session == Some(session)
                && !entry.is_ignored()
                && matches!(entry.draft.purpose, Purpose::Setup { .. })
        })
    }

    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Outstanding> {
        self.outstanding.drain(..)
    }

    fn find(&mut self, is_it: impl Fn(&Outstanding) -> bool) -> Option<&mut Outstanding> {
        self.outstanding.iter_mut().find(|entry| is_it(entry))
    }

    fn promote_head(&mut self, now: Instant) {
        if let Some(head) = self.find(|entry| !entry.is_ignored()) {
            head.head_since.get_or_insert(now);
        }
        self.promote_front(now);
    }

    fn promote_front(&mut self, now: Instant) {
        if let Some(front) = self.find(Outstanding::has_caller) {
            front.front_since.get_or_insert(now);
        }
    }
}

/// The request that all others wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadOfLine {
    /// The session of the request; `None` if it is the connection's own.
    pub session: Option<SessionKey>,
    /// Since when it is the oldest one.
    pub since: Instant,
    /// The request is a DESCRIBE: to most servers nothing may be sent before its answer.
    pub is_describe: bool,
    /// It is a DESCRIBE that the server may have lost because it came together with other requests
    /// (PHZ76/RtspServer and VLC take one for each read). Nothing may be sent behind a DESCRIBE to find
    /// that out.
    pub is_perhaps_lost: bool,
}

/// The purpose of a request, which decides what its answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Describe,
    Setup {
        stream: usize,
        /// The RTP channel asked for; the RTCP channel is the next one.
        asked: u8,
        profile: Profile,
        payload_types: Vec<u8>,
        sources: SourcePolicy,
    },
    Play(PlayRange),
    Pause,
    /// Asks for parameters of a session or changes one, for its user.
    Parameters(ParameterRequest),
    Teardown,
    /// Keeps a session alive.
    KeepAlive,
    /// Checks that the server still answers: before reuse, or in silence.
    Ping,
    /// Its answer shows that the server has ignored all unanswered requests before it.
    Fence,
    /// A DESCRIBE of a resource that does not exist; what counts is what the server does with the
    /// connection.
    Probe,
    /// Its answer shows that the connection has survived the probe before it.
    ProbeFence,
    /// Ends a session without an owner: its id came with the late answer to an ignored SETUP.
    Undo {
        id: String,
    },
}

/// The headers of a request that the user has seen, as the user left them.
pub(crate) type SeenHeaders = Arc<[(String, String)]>;

/// A request that can be written; again, if it gets a 401.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) purpose: Purpose,
    /// The session of the request; `None` if it is the connection's own.
    pub(crate) session: Option<SessionKey>,
    /// The caller to notify; `None` if there is none any more.
    pub(crate) caller: Option<RequestId>,
    pub(crate) deadline: Duration,
    /// How long its caller waits, if less than that.
    pub(crate) patience: Option<Duration>,
    /// The 401s that the request got.
    pub(crate) auth: AuthTrail,
    /// True if it was sent before and ignored.
    pub(crate) is_repeated: bool,
    /// The headers as the user has left them; `None` if the user has not seen it.
    pub(crate) seen: Option<SeenHeaders>,
}

/// Takes out of a queue the requests of which `is_taken` is true.
pub(super) fn take_where(
    queue: &mut VecDeque<Draft>,
    is_taken: impl FnMut(&Draft) -> bool,
) -> VecDeque<Draft> {
    let (taken, kept) = queue.drain(..).partition(is_taken);
    *queue = kept;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mux::proto::auth::AuthTrail;

    const CEILING: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    fn draft(deadline: u64) -> Draft {
        Draft {
            method: Method::Options,
            url: Url::parse("rtsp://nvr/1").unwrap(),
            purpose: Purpose::Ping,
            session: Some(SessionKey(1)),
            caller: Some(RequestId(deadline)),
            deadline: Duration::from_secs(deadline),
            patience: None,
            auth: AuthTrail::default(),
            is_repeated: false,
            seen: None,
        }
    }

    fn table(deadlines: &[u64], now: Instant) -> RequestTable {
        let mut table = RequestTable::default();
        for deadline in deadlines {
            table.insert(draft(*deadline), None, now);
        }
        table
    }

    #[test]
    fn cseq_begins_at_1_and_rises_by_one() {
        let now = Instant::now();
        let mut table = RequestTable::default();
        assert_eq!(table.insert(draft(1), None, now), 1);
        assert_eq!(table.insert(draft(1), None, now), 2);
    }

    #[test]
    fn f18_answers_out_of_order_find_their_own_request() {
        let now = Instant::now();
        let mut table = table(&[10, 20, 30], now);
        assert_eq!(
            table.take(3, now).unwrap().draft.caller,
            Some(RequestId(30))
        );
        assert_eq!(
            table.take(1, now).unwrap().draft.caller,
            Some(RequestId(10))
        );
        assert!(table.take(1, now).is_none());
        assert!(table.take(9, now).is_none());
        assert_eq!(table.only().map(|entry| entry.cseq), Some(2));
    }

    #[test]
    fn a_deadline_runs_only_at_the_head_of_the_line() {
        let now = Instant::now();
        let mut table = table(&[25, 10], now);
        assert!(table.expire_one(now + 20 * SECOND, CEILING).is_none());
        table.take(1, now + 20 * SECOND);
        assert_eq!(table.next_deadline(CEILING), Some(now + 30 * SECOND));
        assert_eq!(
            table.expire_one(now + 30 * SECOND, CEILING).unwrap().cseq,
            2
        );
    }

    #[test]
    fn a_tombstone_stops_later_deadlines_until_a_later_answer_or_the_ceiling() {
        let now = Instant::now();
        let mut table = table(&[10, 10, 10], now);
        assert_eq!(
            table
                .expire_one(now + 10 * SECOND, CEILING)
                .unwrap()
                .draft
                .caller,
            Some(RequestId(10))
        );
        assert!(table.expire_one(now + 59 * SECOND, CEILING).is_none());
        assert!(table.take(2, now + 59 * SECOND).is_some());
        assert_eq!(table.waiting().count(), 1);
        assert_eq!(
            table.only().map(|entry| entry.cseq),
            Some(3),
            "the tombstone went with the later answer"
        );
        assert_eq!(
            table.expire_one(now + 60 * SECOND, CEILING).unwrap().cseq,
            3,
            "the ceiling"
        );
    }

    #[test]
    fn an_impatient_caller_is_told_and_its_request_stays_in_line() {
        let now = Instant::now();
        let mut table = RequestTable::default();
        for (deadline, patience) in [(25, Some(2)), (24, Some(3)), (23, None)] {
            let patience = patience.map(Duration::from_secs);
            let draft = Draft {
                patience,
                ..draft(deadline)
            };
            table.insert(draft, None, now);
        }
        assert_eq!(table.next_deadline(CEILING), Some(now + 2 * SECOND));
        assert!(table.lose_patience(now + SECOND).is_none());
        let (cseq, draft) = table.lose_patience(now + 2 * SECOND).unwrap();
        assert_eq!((cseq, draft.caller), (1, Some(RequestId(25))));
        assert!(table.lose_patience(now + 2 * SECOND).is_none());
        // The second request had its time since then, and the one with the short patience waits for
        // the first.
        assert_eq!(table.next_deadline(CEILING), Some(now + 5 * SECOND));
        assert_eq!(table.lose_patience(now + 5 * SECOND).unwrap().0, 2);
        assert_eq!(table.next_deadline(CEILING), Some(now + 25 * SECOND));
        let late = table.take(1, now + 6 * SECOND).unwrap();
        assert!(late.is_awaited() && late.draft.caller.is_none());
        assert_eq!(table.waiting().count(), 2);
    }

    #[test]
    fn a_late_answer_finds_its_tombstone_without_a_caller() {
        let now = Instant::now();
        let mut table = table(&[10], now);
        table.expire_one(now + 10 * SECOND, CEILING);
        let late = table.take(1, now + 11 * SECOND).unwrap();
        assert!(late.standing == RequestState::TimedOut && late.draft.caller.is_none());
    }

    #[test]
    fn an_ignored_request_holds_up_no_other_and_keeps_its_answer_apart() {
        let now = Instant::now();
        let mut table = table(&[25, 10], now);
        let ignored = table.on_ignored(1, None, now + SECOND).unwrap();
        assert_eq!(ignored.caller, Some(RequestId(25)));
        assert_eq!(table.next_deadline(CEILING), Some(now + 11 * SECOND));
        assert!(table.take(2, now + SECOND).is_some());
        assert!(!table.has_setup(SessionKey(1)));
        let late = table.take(1, now + 2 * SECOND).unwrap();
        assert!(late.is_ignored() && late.draft.caller.is_none());
    }

    #[test]
    fn silence_begins_anew_for_whatever_is_behind_an_answer() {
        let now = Instant::now();
        let mut table = table(&[10, 10, 10], now);
        table.take(2, now + SECOND);
        let quiet: Vec<_> = table.waiting().map(Outstanding::quiet_since).collect();
        assert_eq!(quiet, [Some(now), Some(now + SECOND)]);
    }

    #[test]
    fn a_disowned_session_tells_each_caller_once() {
        let now = Instant::now();
        let mut table = table(&[10, 20], now);
        assert_eq!(table.disown(SessionKey(1), now).len(), 2);
        assert!(table.disown(SessionKey(1), now).is_empty());
        assert!(table.disown(SessionKey(2), now).is_empty());
    }
}
