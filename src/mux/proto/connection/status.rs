//! What can be read off a connection: its phase, unanswered requests, counters, and what it knows of
//! its server.
//!
//! It measures the round trip to the server, and the server's own time for a request. Placement uses
//! both. Over a long path one connection serves as well as many; a server that
//! processes the requests of a connection one by one, and slowly, is used over several.

use std::time::{Duration, Instant};

use rtsp_types::Method;

use super::liveness::KeepAliveMethod;
use super::{
    Connection, ConnectionPhase,
    requests::{Draft, HeadOfLine, Purpose},
};
use crate::mux::proto::{command::SessionKey, event::CloseReason};

/// The counters of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests sent, including those repeated after a 401.
    pub requests: u64,
    /// Final answers to them.
    pub answers: u64,
    /// Frames on channels that no session owns.
    pub unknown_frames: u64,
    /// Frames that do not fit the stream of their channel: version, payload type or source.
    pub foreign_frames: u64,
    /// Frames on channels whose session was torn down.
    pub late_frames: u64,
    /// Losses of framing.
    pub resyncs: u64,
    /// Requests of the server.
    pub server_requests: u64,
    /// Answers that match no request.
    pub unmatched_responses: u64,
    /// Answers that came before.
    pub repeated_responses: u64,
    /// Receiver reports that were not sent because the peer reads too slowly.
    pub reports_dropped: u64,
}

/// The unanswered requests. Servers that process the requests of a connection one by one hold all
/// answers back while they work on the first (gst-rtsp-server for the 20 s of one slow DESCRIBE).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// The oldest unanswered request on the wire.
    pub head: Option<HeadOfLine>,
    /// DESCRIBEs that are unanswered or wait to be sent, even if their session was released. Those
    /// that timed out do not count: their answer may never come.
    pub describes: usize,
    /// The sessions whose DESCRIBE waits to be sent, in order.
    pub unsent: Vec<SessionKey>,
}

impl Backlog {
    /// Since when `session` waits for the request of another session, or for the answer to one of its
    /// own that may have been lost: an answer may come sooner on another connection.
    pub fn blocked_since(&self, session: SessionKey) -> Option<Instant> {
        let head = self.head?;
        (head.session != Some(session) || head.is_perhaps_lost).then_some(head.since)
    }
}

impl Connection {
    /// True once [`Event::Closed`](crate::mux::proto::Event::Closed) was or will be polled; nothing
    /// else happens any more.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, ConnectionPhase::Closed(_))
    }

    /// Why the connection is over, if it is.
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        match &self.state {
            ConnectionPhase::Closed(reason) => Some(reason.clone()),
            ConnectionPhase::Open | ConnectionPhase::Closing(_) => None,
        }
    }

    /// True while the connection is closing: sessions are torn down, and nothing else is sent.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, ConnectionPhase::Closing(_))
    }

    /// True if a session is being set up: a DESCRIBE, SETUP or PLAY is unanswered.
    pub fn is_bringing_up(&self) -> bool {
        self.requests.waiting().any(|entry| {
            matches!(
                entry.draft.purpose,
                Purpose::Describe | Purpose::Setup { .. } | Purpose::Play(_)
            )
        })
    }

    /// The unanswered requests.
    pub fn backlog(&self) -> Backlog {
        let is_describe = |draft: &&Draft| draft.purpose == Purpose::Describe;
        let sent = self.requests.waiting().map(|entry| &entry.draft);
        let unanswered = sent.chain(&self.waiting).filter(is_describe).count();
        Backlog {
            head: self.requests.head(self.is_in_order()),
            describes: unanswered + self.authorizer.describes(),
            unsent: self
                .waiting
                .iter()
                .filter(is_describe)
                .filter_map(|draft| draft.session)
                .collect(),
        }
    }

    /// True if a PLAY is unanswered.
    pub fn is_about_to_play(&self) -> bool {
        let mut waiting = self.requests.waiting();
        waiting.any(|entry| matches!(entry.draft.purpose, Purpose::Play(_)))
    }

    /// The number of sessions that have not played yet and are going to.
    pub fn sessions_coming_up(&self) -> usize {
        let sessions = self.sessions.values();
        sessions.filter(|session| session.is_coming_up()).count()
    }

    /// The number of sessions that are open, or whose TEARDOWN is due or unanswered.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Of these, the number of sessions being torn down, which the server may still have.
    pub fn teardown_count(&mut self) -> usize {
        self.sessions.tearing_down()
    }

    /// The measurements so far.
    pub fn measures(&self) -> Measures {
        self.meter.measures()
    }

    /// The server's name (`Server`), shortened and without control characters. live555 and go2rtc
    /// send none.
    pub fn server_header(&self) -> Option<&str> {
        self.server_header.as_deref()
    }

    /// The methods the server named last (`Public`), as written, shortened and without control
    /// characters.
    pub fn public_header(&self) -> Option<&str> {
        self.public_header.as_deref()
    }

    /// What the connection has learned of the server's keep-alives.
    pub fn keep_alive_method(&self) -> KeepAliveMethod {
        self.keep_alive_method
    }

    /// True unless the server is known to lose requests that are sent together (VLC drops all but the
    /// first).
    pub fn is_pipelining(&self) -> bool {
        !self.fences.is_known_serial()
    }

    /// True if the server has announced a source that did not come, here or on an earlier connection.
    pub fn is_ssrc_disproved(&self) -> bool {
        self.channels.is_ssrc_disproved
    }

    /// True if the server has asked for Digest, for the
    /// [`refuse_basic`](super::ConnectionConfig::refuse_basic) of other connections.
    pub fn has_seen_digest(&self) -> bool {
        self.authorizer.has_seen_digest()
    }

    /// The counters so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

/// The measurements of a connection so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    /// The shortest answer time of a request that was alone on the connection: the round trip plus
    /// the server's time for its quickest request.
    pub round_trip: Option<Duration>,
    /// The time from one answer to the next while requests were pipelined; a quarter of the samples
    /// were quicker.
    pub service_time: Option<Duration>,
    /// The same for DESCRIBE alone; live555 takes up to 100 ms to describe a file.
    pub describe_time: Option<Duration>,
    /// The answer time of the last DESCRIBE that was alone on the connection, round trip included.
    pub lone_describe: Option<Duration>,
    /// The answer time of the last keep-alive, or other OPTIONS, that was alone on the connection.
    /// It is no work for the server, but the answer waits there behind the media of all sessions.
    pub last_answer: Option<Duration>,
    /// The number of these answers.
    pub lone_answers: u64,
}

/// The last samples. Their lower quartile is the server's time: on a busy machine some answers are
/// seen late, and those after them too soon.
#[derive(Clone, Copy, Debug, Default)]
struct Samples {
    last: [Duration; Self::KEPT],
    count: usize,
}

impl Samples {
    const KEPT: usize = 16;

    fn add(&mut self, sample: Duration) {
        if let Some(oldest) = self.last.get_mut(self.count % Self::KEPT) {
            *oldest = sample;
        }
        self.count += 1;
    }

    fn lower_quartile(&self) -> Option<Duration> {
        let mut sorted = self.last;
        let kept = sorted.get_mut(..self.count.min(Self::KEPT))?;
        kept.sort_unstable();
        kept.get(kept.len() / 4).copied()
    }
}

/// Measures by the answers that come in.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    measures: Measures,
    any: Samples,
    describe: Samples,
    last_answer: Option<Instant>,
}

impl Meter {
    /// A request that was sent at `sent` was answered; `was_alone` says whether it was the only one
    /// outstanding.
    pub(crate) fn on_answer(
        &mut self,
        now: Instant,
        method: &Method,
        sent: Instant,
        was_alone: bool,
    ) {
        let last = self.last_answer.replace(now);
        let took = now.saturating_duration_since(sent);
        let measures = &mut self.measures;
        let least = measures.round_trip.map_or(took, |least| least.min(took));
        if was_alone {
            measures.round_trip = Some(least);
            if *method == Method::Describe {
                measures.lone_describe = Some(took);
            }
            if matches!(method, Method::Options | Method::GetParameter) {
                measures.last_answer = Some(took);
                measures.lone_answers += 1;
            }
            return;
        }
        // The server began with this request when it had answered the one before, or when it
        // received it.
        let Some(last) = last.filter(|last| *last >= sent) else {
            return;
        };
        let received = sent + measures.round_trip.unwrap_or_default();
        let service = now.saturating_duration_since(last.max(received));
        self.any.add(service);
        if *method == Method::Describe {
            self.describe.add(service);
        }
    }

    pub(crate) fn measures(&self) -> Measures {
        Measures {
            service_time: self.any.lower_quartile(),
            describe_time: self.describe.lower_quartile(),
            ..self.measures
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_quickest_lonely_answer_is_the_round_trip() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        assert_eq!(meter.measures(), Measures::default());
        meter.on_answer(start + 900 * MS, &Method::Describe, start, true);
        meter.on_answer(start + 950 * MS, &Method::Options, start + 900 * MS, true);
        meter.on_answer(start + 999 * MS, &Method::Setup, start, false);
        let measures = meter.measures();
        assert_eq!(measures.round_trip, Some(50 * MS));
        assert_eq!(measures.last_answer, Some(50 * MS));
        assert_eq!(measures.lone_answers, 1, "a DESCRIBE takes its time");
    }

    #[test]
    fn the_time_between_pipelined_answers_is_the_servers() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        meter.on_answer(start + 50 * MS, &Method::Options, start, true);
        let sent = start + 50 * MS;
        meter.on_answer(start + 110 * MS, &Method::Describe, sent, true);
        for answered in 1..=4 {
            let now = start + (110 + 10 * answered) * MS;
            meter.on_answer(now, &Method::Setup, sent, false);
        }
        meter.on_answer(start + 180 * MS, &Method::Describe, sent, false);
        let measures = meter.measures();
        assert_eq!(measures.describe_time, Some(30 * MS));
        assert_eq!(measures.service_time, Some(10 * MS));
    }

    #[test]
    fn the_way_is_not_taken_for_service() {
        let (start, mut meter) = (Instant::now(), Meter::default());
        meter.on_answer(start + 50 * MS, &Method::Options, start, true);
        // Sent 10 ms before the answer to the request before it: that one was still outstanding.
        let sent = start + 40 * MS;
        meter.on_answer(start + 95 * MS, &Method::Setup, sent, false);
        assert_eq!(meter.measures().service_time, Some(5 * MS));
    }

    #[test]
    fn a_server_that_becomes_slower_is_noticed() {
        let (mut now, mut meter) = (Instant::now(), Meter::default());
        let sent = now;
        meter.on_answer(now, &Method::Options, sent, true);
        for sample in 0..1000 {
            now += if sample < 800 { MS } else { 100 * MS };
            meter.on_answer(now, &Method::Setup, sent, false);
        }
        assert!(meter.measures().service_time > Some(80 * MS));
    }
}
