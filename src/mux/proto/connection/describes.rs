//! DESCRIBE: what may be sent beside one, and which URL was described first.
//!
//! # The batch
//!
//! Nothing may follow a DESCRIBE before it is answered; several DESCRIBEs may go together.
//!
//! live555, which is inside most cameras (2012 to 2026), runs an event loop of its own while it
//! works on a DESCRIBE, 100 ms for each. It handles bytes that arrive on the connection meanwhile
//! inside that loop and, once media is interleaved there, byte by byte. 2026.08.07 answered a
//! keep-alive of 106 bytes that came 10 ms after a DESCRIBE, and then the DESCRIBE 106 times more;
//! DESCRIBE and SETUP of six cameras in one write hung the server for all its clients; 2014.07.04
//! died.
//!
//! So after a DESCRIBE, until it is answered, the core sends only RTCP and the answers to the
//! server's own requests, which were measured to do no harm. Where nothing plays, several DESCRIBEs
//! go together in one write that fits one segment: the server finds all of them in its buffer, and
//! nothing arrives while it works on them. Where a session plays, one DESCRIBE goes alone, and
//! first the core sends the keep-alives that fall due within its deadline. A TEARDOWN that waits
//! for too long is given up.
//!
//! gst-rtsp-server answers each request once and in order, whatever arrives meanwhile (captured
//! from 1.22.0), so none of this is done for it.
//!
//! # The window
//!
//! How many DESCRIBEs may be outstanding beside sessions that need keep-alives.
//!
//! gst-rtsp-server processes the requests of a connection one by one, and holds a DESCRIBE for 20 s
//! while it waits for a camera that is switched off. After one such DESCRIBE a keep-alive is still
//! in time (`interval` in `session.rs` allows for it), after two in a row it is not. Apart
//! from that, DESCRIBEs are best sent all at once. So quick answers open the window, up to the
//! usual number of sessions of a connection, and a slow answer closes it. A closed window also
//! holds while no session needs keep-alives: sessions of this connection may be set up before the
//! last one is described.
//!
//! # The first URL
//!
//! Some servers stay with the first URL that was requested on a connection, and answer every later
//! request for it (go2rtc, ZLMediaKit). It is that of the request *written* first; the server does
//! not care whether its session still exists. If the server refused or lost that one, it may stay with
//! the first URL that it has described instead.

use std::time::{Duration, Instant};

use bytes::Bytes;
use url::Url;

use super::{
    Connection, SessionKey,
    requests::{Draft, Purpose, take_where},
    session::CoreSession,
};
use crate::mux::proto::{
    event::{FailureKind, FirstAsked},
    limits::LONG_PATH,
    wire::{header::is_in_order, message::Message},
};

/// The size of a batch of DESCRIBEs, with all that is written before it: one segment, one TLS
/// record.
const ONE_SEGMENT: usize = 1400;

/// A server that works longer on a DESCRIBE is slow: live555 takes 100 ms for each, and serves other
/// connections meanwhile, but never two DESCRIBEs of one connection at a time. To find that out costs a
/// round trip or two; twelve DESCRIBEs in one write cost 1.2 s there.
const QUICK: Duration = Duration::from_millis(80);

/// From so many quick answers in a row on several DESCRIBEs go together: live555 answers at once for a
/// file that it has described before, and takes 100 ms for each of the next ones. Over a long path, where
/// each costs a round trip, one is enough.
const ENOUGH_QUICK: u8 = 2;
const ENOUGH_OVER_A_LONG_PATH: u8 = 1;

/// The DESCRIBEs that are sent together, and the TEARDOWNs that wait for their answers.
#[derive(Debug, Default)]
pub(super) struct DescribeBatch {
    /// The DESCRIBE written last is still in the buffer, and goes out with the next write.
    is_open: bool,
    /// The length of that DESCRIBE without its URL.
    overhead: usize,
    /// Quick answers in a row.
    quick: u8,
    /// From so many on several DESCRIBEs go together.
    enough: u8,
    /// The round trip, which is no work of the server.
    path: Duration,
    /// The keep-alives that have to go before the next DESCRIBE were sent.
    has_refreshed: bool,
    /// TEARDOWNs that wait, and until when.
    teardowns: Vec<(Instant, SessionKey)>,
}

impl DescribeBatch {
    pub(super) fn new(is_slow: bool, path: Duration) -> Self {
        let enough = match path >= LONG_PATH {
            true => ENOUGH_OVER_A_LONG_PATH,
            false => ENOUGH_QUICK,
        };
        Self {
            quick: if is_slow { 0 } else { enough },
            enough,
            path,
            ..Self::default()
        }
    }

    pub(super) fn on_written(&mut self, length: usize, url: usize) {
        self.is_open = true;
        self.overhead = length.saturating_sub(url);
        self.has_refreshed = false;
    }

    /// The buffer was handed out: a later DESCRIBE would be in another segment.
    pub(super) fn on_transmitted(&mut self) {
        self.is_open = false;
    }

    pub(super) fn on_answered(&mut self, took: Duration) {
        self.quick = match took.saturating_sub(self.path) < QUICK {
            true => self.quick.saturating_add(1),
            false => 0,
        };
    }
}

impl Connection {
    /// True if the server processes the requests of a connection strictly in order, so that
    /// requests may follow a DESCRIBE. What an earlier connection has shown holds until this one
    /// shows otherwise.
    pub(super) fn is_in_order(&self) -> bool {
        match &self.server_header {
            Some(server) => is_in_order(server),
            None => self.config.is_in_order && self.counters.answers == 0,
        }
    }

    /// True if nothing may be sent because a DESCRIBE is unanswered. A DESCRIBE that has timed out
    /// does not hold the other sessions up any longer.
    pub(super) fn is_describing(&self) -> bool {
        let is_describe = |purpose: &Purpose| matches!(purpose, Purpose::Describe | Purpose::Probe);
        let mut waiting = self.requests.waiting();
        !self.is_in_order() && waiting.any(|entry| is_describe(&entry.draft.purpose))
    }

    /// True if a request has to wait for the answer to a DESCRIBE, or for the requests that go
    /// before one.
    pub(super) fn is_barred(&self, draft: &Draft) -> bool {
        if self.is_in_order() {
            return false;
        }
        match draft.purpose {
            Purpose::Describe if self.is_kept_for_first(draft) => true,
            Purpose::Describe | Purpose::Probe => !self.may_join_batch(draft),
            _ => self.is_describing(),
        }
    }

    fn may_join_batch(&self, draft: &Draft) -> bool {
        let may_interleave = self.is_media_interleaved();
        if !self.is_describing() {
            return !may_interleave || !self.is_keeping_alive();
        }
        let url = draft.url.as_str().len();
        // The digest repeats the URL.
        let urls = match self.authorizer.authenticator {
            Some(_) => 2 * url,
            None => url,
        };
        let length = self.out.len() + self.describe_batch.overhead + urls;
        // A probe may cost the connection: requests before it go first.
        draft.purpose == Purpose::Describe
            && self.describe_batch.is_open
            && self.describe_batch.quick >= self.describe_batch.enough
            && !may_interleave
            && self.write_backlog == 0
            && length <= ONE_SEGMENT
    }

    /// True if the server may be sending media on this connection, or may begin to.
    fn is_media_interleaved(&self) -> bool {
        self.has_given_up_teardown || self.sessions.values().any(CoreSession::has_played)
    }

    /// True if a keep-alive is outstanding, or waits to be sent.
    fn is_keeping_alive(&self) -> bool {
        let mut sessions = self.sessions.values();
        sessions.any(|session| session.is_kept_alive() && session.keep_alive_outstanding)
    }

    /// Before a DESCRIBE is sent, sends the keep-alives that would be late because of it. Once for
    /// each session: if a session expires sooner than that, nothing can be done.
    pub(super) fn refresh_before_describe(&mut self, now: Instant) {
        let is_describe = |draft: &Draft| draft.purpose == Purpose::Describe;
        if !self.waiting.iter().any(is_describe) {
            self.describe_batch.has_refreshed = false;
            return;
        }
        let is_too_early = !self.may_write() || self.is_in_order() || self.is_describing();
        if is_too_early || self.describe_batch.has_refreshed {
            return;
        }
        let (is_reading, wait) = (self.is_reading(), self.config.timeouts.describe);
        let is_late = |session: &CoreSession| session.is_late_after(now, wait, is_reading);
        self.describe_batch.has_refreshed = true;
        for key in self.sessions.keys_where(is_late).into_iter().rev() {
            self.keep_alive(now, key);
        }
    }
}

/// TEARDOWNs that wait for the answer to a DESCRIBE.
impl Connection {
    pub(super) fn watch_teardown(&mut self, now: Instant, key: SessionKey) {
        let until = now + self.config.timeouts.teardown;
        self.describe_batch.teardowns.push((until, key));
    }

    /// Until when the oldest waiting TEARDOWN waits.
    pub(super) fn next_teardown_given_up(&self) -> Option<Instant> {
        let waiting = self.describe_batch.teardowns.iter();
        waiting.map(|(until, _)| *until).min()
    }

    /// Gives up the sessions whose TEARDOWN has waited for too long. Their channels have been in
    /// quarantine since the release. The TEARDOWN is sent once the DESCRIBE is answered, if the
    /// connection is still open then.
    pub(super) fn give_up_teardowns(&mut self, now: Instant) {
        let teardowns = std::mem::take(&mut self.describe_batch.teardowns);
        let (due, kept): (Vec<_>, Vec<_>) =
            teardowns.into_iter().partition(|(until, _)| *until <= now);
        self.describe_batch.teardowns = kept;
        for (_, key) in due {
            match self.is_describing() {
                true => self.give_up_teardown(key),
                // It waits for another reason, and may still have to wait for a DESCRIBE.
                false if self.waiting.iter().any(|it| is_teardown_of(it, key)) => {
                    self.watch_teardown(now, key);
                }
                false => {}
            }
        }
    }

    fn give_up_teardown(&mut self, key: SessionKey) {
        let mut waiting = take_where(&mut self.waiting, |draft| is_teardown_of(draft, key));
        let retry = || self.authorizer.take_retries_of(key).pop_front();
        let draft = waiting.pop_front().or_else(retry);
        let Some(draft) = draft else {
            return;
        };
        let session = self.sessions.get(&key);
        let id = session.and_then(|session| session.id.clone());
        let (url, after) = (draft.url.clone(), draft.deadline);
        self.fail_draft(draft, None, FailureKind::TimedOut(after));
        self.has_given_up_teardown = true;
        self.on_teardown_expired(key);
        if let Some(id) = id {
            let undo = self.own_draft(rtsp_types::Method::Teardown, url, Purpose::Undo { id });
            self.waiting.push_back(undo);
        }
    }
}

fn is_teardown_of(draft: &Draft, key: SessionKey) -> bool {
    draft.session == Some(key) && draft.purpose == Purpose::Teardown
}

/// A DESCRIBE that takes longer is slow; live555 takes 0.1 s for a file.
const SLOW: Duration = Duration::from_secs(1);
/// Sixteen DESCRIBEs at once.
const MOST_DOUBLINGS: u32 = 4;

/// The window of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DescribeWindow {
    /// How often the window, which begins with one DESCRIBE, has doubled.
    doublings: u32,
    has_seen_slow: bool,
}

impl DescribeWindow {
    /// True if the window limits a connection whose oldest request is a DESCRIBE that the server
    /// has worked on for `head_time`.
    pub(crate) fn holds(self, has_kept_alive: bool, head_time: Duration) -> bool {
        has_kept_alive || self.has_seen_slow || head_time >= SLOW
    }

    /// If the window holds: true if one more DESCRIBE may be sent beside `under_way`.
    pub(crate) fn admits(self, under_way: usize, head_time: Duration) -> bool {
        under_way == 0 || (under_way < 1 << self.doublings && head_time < SLOW)
    }

    /// The server took this long to answer a DESCRIBE.
    pub(crate) fn on_answered(&mut self, took: Duration) {
        if took < SLOW {
            self.doublings = (self.doublings + 1).min(MOST_DOUBLINGS);
        } else {
            self.doublings = 0;
            self.has_seen_slow = true;
        }
    }
}

/// The first URL, and the result of its DESCRIBE.
#[derive(Debug, Default)]
pub(super) struct FirstUrl {
    url: Option<Url>,
    answer: Option<FirstAsked>,
    /// Another URL was requested too.
    has_others: bool,
    /// The first URL that was described while the first one was not, and its description.
    described_instead: Option<(Url, Bytes)>,
    /// The first URL that was described without a base, until the server has shown that it carries
    /// several sessions on a connection.
    bare: Option<Url>,
}

impl FirstUrl {
    /// A session's request with this URL is written.
    pub(super) fn on_written(&mut self, url: &Url) {
        let first = self.url.get_or_insert_with(|| url.clone());
        self.has_others |= first != url;
    }

    /// True if all requests of sessions had one URL: whatever the server sends is of that presentation.
    pub(super) fn is_only_one(&self) -> bool {
        !self.has_others
    }

    fn is(&self, url: &Url) -> bool {
        self.url.as_ref() == Some(url)
    }

    /// A presentation with media was described, without Content-Base and Content-Location.
    pub(super) fn on_bare(&mut self, url: &Url) {
        self.bare.get_or_insert_with(|| url.clone());
    }

    /// Two sessions were set up, each with an id and channels of its own.
    pub(super) fn on_shared(&mut self) {
        self.bare = None;
    }
}

impl Connection {
    /// True if a DESCRIBE has to wait because the connection is kept for the presentation that was
    /// described first, as long as a session has it.
    ///
    /// A server that names no base for its control URLs may know one presentation for each connection.
    /// Whatever is described beside it costs one of the two: xiu unpublishes a camera whose connection
    /// ends without a PLAY, PHZ76/RtspServer plays all that was described.
    fn is_kept_for_first(&self, draft: &Draft) -> bool {
        let bare = self.first.bare.as_ref().filter(|_| self.config.is_tried);
        bare.is_some_and(|bare| {
            let has_it = |session: &CoreSession| session.config.url == *bare;
            draft.url != *bare && self.sessions.values().any(has_it)
        })
    }

    /// A DESCRIBE was answered; returns what its caller has to know about the first URL. Only the
    /// first answer for the first URL counts: later ones may be longer (go2rtc).
    pub(super) fn note_described(&mut self, draft: &Draft, response: &Message) -> FirstAsked {
        let is_first = self.first.is(&draft.url);
        if !matches!(self.first.answer, Some(FirstAsked::Described(_))) {
            let body = || Bytes::copy_from_slice(&response.body);
            match &self.first.described_instead {
                Some((url, description)) if *url != draft.url => {
                    return FirstAsked::Described(description.clone());
                }
                None if is_first => self.first.answer = Some(FirstAsked::Described(body())),
                None => self.first.described_instead = Some((draft.url.clone(), body())),
                Some(_) => {}
            }
        }
        if is_first {
            return FirstAsked::Own;
        }
        let answer = self.first.answer.clone();
        answer.unwrap_or(FirstAsked::Unanswered)
    }

    /// A request failed.
    pub(super) fn note_refused(&mut self, draft: &Draft, kind: &FailureKind) {
        let is_answer = matches!(
            kind,
            FailureKind::Status { .. } | FailureKind::Redirect { .. }
        );
        if draft.purpose == Purpose::Describe && is_answer && self.first.is(&draft.url) {
            self.first.answer.get_or_insert(FirstAsked::Refused);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_with_quick_answers_and_closes_with_a_slow_one() {
        let mut window = DescribeWindow::default();
        assert!(window.admits(0, Duration::ZERO));
        assert!(!window.admits(1, Duration::ZERO));
        for _ in 0..10 {
            window.on_answered(SLOW / 2);
        }
        let widest = 1 << MOST_DOUBLINGS;
        assert!(window.admits(widest - 1, Duration::ZERO));
        assert!(!window.admits(widest, Duration::ZERO));
        assert!(!window.holds(false, Duration::ZERO) && window.holds(true, Duration::ZERO));
        assert!(window.holds(false, SLOW));
        window.on_answered(SLOW);
        assert!(!window.admits(1, Duration::ZERO));
        assert!(window.holds(false, Duration::ZERO));
    }

    #[test]
    fn behind_one_that_is_slow_nothing_else_goes_out() {
        let mut window = DescribeWindow::default();
        window.on_answered(Duration::ZERO);
        assert!(window.admits(1, Duration::ZERO));
        assert!(!window.admits(1, SLOW));
    }
}
