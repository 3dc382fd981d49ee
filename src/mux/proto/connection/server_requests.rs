//! Requests of the server: the core answers each, with *its* CSeq; otherwise the server may end the
//! session. The user of the connection may be asked first; without an answer in time the core's own goes out.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rtsp_types::Method;

use super::{
    Connection, SessionPhase, Timer,
    session::CoreSession,
    shown::{OURS, is_header_name, without_control},
};
use crate::mux::proto::{
    command::{ServerAnswer, ServerRequest},
    event::{Event, FailureKind},
    limits::Timeouts,
    wire::{
        header::parse_session,
        message::{Message, MessageWriter},
    },
};

/// Our answer to OPTIONS: the methods that a server may use.
const PUBLIC: &str = "OPTIONS, GET_PARAMETER, SET_PARAMETER, ANNOUNCE, REDIRECT, TEARDOWN";

/// How long the user has to answer.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// The most requests that the user is asked about at a time.
const MOST_QUESTIONS: usize = 8;

/// The requests of the server that wait for the user's answer.
#[derive(Debug, Default)]
pub(super) struct OpenRequests {
    /// The number of the last one.
    last: u64,
    waiting: BTreeMap<u64, OpenRequest>,
}

#[derive(Debug)]
struct OpenRequest {
    cseq: String,
    session: Option<String>,
    /// Ours, if the user has none.
    answer: ServerAnswer,
    due: Instant,
}

/// Counts unrequested messages of the server in time windows, to tell a storm from normal traffic.
#[derive(Debug, Default)]
pub(super) struct StormGuard {
    window_began: Option<Instant>,
    count: u32,
}

impl StormGuard {
    pub(super) fn is_storm(&mut self, now: Instant, timeouts: &Timeouts, limit: u32) -> bool {
        let window = timeouts.storm_window;
        let is_over = |began: Instant| now.saturating_duration_since(began) >= window;
        if self.window_began.is_none_or(is_over) {
            (self.window_began, self.count) = (Some(now), 0);
        }
        self.count += 1;
        self.count > limit
    }
}

impl Connection {
    pub(super) fn on_server_request(
        &mut self,
        now: Instant,
        (method, uri): (&Method, &str),
        request: &Message,
    ) {
        self.counters.server_requests += 1;
        let (timeouts, limit) = (&self.config.timeouts, self.config.limits.server_requests);
        if self.requests_of_server.is_storm(now, timeouts, limit) {
            return self.break_off("the server sends requests without end");
        }
        self.answer_or_ask(now, (method, uri), request);
        match method {
            Method::Teardown => self.on_server_teardown(now, request),
            Method::Redirect => self.on_server_redirect(now, uri, request),
            _ => {}
        }
    }

    fn answer_or_ask(&mut self, now: Instant, (method, uri): (&Method, &str), request: &Message) {
        // A request without CSeq cannot be answered.
        let Some(cseq) = request.headers.first("CSeq") else {
            return;
        };
        let mut answer = ServerAnswer::usual(method);
        if *method == Method::Options {
            answer
                .headers
                .push(("Public".to_owned(), PUBLIC.to_owned()));
        }
        let agent = self.config.user_agent.clone();
        answer.headers.push(("User-Agent".to_owned(), agent));
        let session = request.headers.first("Session").and_then(parse_session);
        let question = OpenRequest {
            cseq: cseq.chars().filter(char::is_ascii_digit).take(10).collect(),
            session: session.map(|session| session.id),
            answer: answer.clone(),
            due: now + ANSWER_TIME,
        };
        if !self.config.asks_for_answers || self.questions.waiting.len() >= MOST_QUESTIONS {
            return self.answer(&question, &answer);
        }
        let headers = request.headers.iter();
        let request = ServerRequest {
            method: <&str>::from(method).to_owned(),
            uri: uri.to_owned(),
            headers: headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            body: request.body.clone(),
        };
        self.questions.last += 1;
        let number = self.questions.last;
        self.questions.waiting.insert(number, question);
        self.set_question_timer();
        self.events.push_back(Event::ServerRequest {
            number,
            request,
            answer,
        });
    }

    /// The user answers a request of the server ([`Event::ServerRequest`]); too late, it changes nothing.
    pub fn handle_server_answer(&mut self, number: u64, answer: &ServerAnswer) {
        if let Some(question) = self.questions.waiting.remove(&number)
            && !self.is_closed()
        {
            self.answer(&question, answer);
        }
        self.set_question_timer();
    }

    /// The user has not answered in time.
    pub(super) fn answer_as_usual(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.questions.waiting);
        let (over, waiting) = waiting.into_iter().partition(|(_, it)| it.due <= now);
        self.questions.waiting = waiting;
        let over: BTreeMap<u64, OpenRequest> = over;
        for question in over.values() {
            self.answer(question, &question.answer);
        }
        self.set_question_timer();
    }

    fn set_question_timer(&mut self) {
        match self.questions.waiting.values().map(|it| it.due).min() {
            Some(due) => self.timers.set(Timer::Answer, due),
            None => self.timers.clear(Timer::Answer),
        }
    }

    fn answer(&mut self, question: &OpenRequest, answer: &ServerAnswer) {
        let from = self.out.len();
        let (code, reason) = (answer.code, &answer.reason);
        let reason = without_control(reason);
        let mut writer = MessageWriter::response(&mut self.out, code, &reason, &question.cseq);
        if let Some(id) = &question.session {
            writer.header("Session", id);
        }
        let is_own = |name: &str| OURS.iter().any(|own| own.eq_ignore_ascii_case(name));
        for (name, value) in &answer.headers {
            if is_header_name(name) && !is_own(name) {
                writer.header(name, &without_control(value));
            }
        }
        if !answer.body.is_empty() {
            writer.header("Content-Length", &answer.body.len().to_string());
        }
        writer.finish();
        self.log_sent(None, from);
        self.out.extend_from_slice(&answer.body);
    }

    /// The server tears one of our sessions down (RFC 7826 13.7.2).
    fn on_server_teardown(&mut self, now: Instant, request: &Message) {
        let Some(named) = request.headers.first("Session").and_then(parse_session) else {
            return;
        };
        let is_it = |session: &CoreSession| {
            session.id.as_ref() == Some(&named.id) && session.phase != SessionPhase::Lost
        };
        for key in self.sessions.keys_where(is_it).into_iter().take(1) {
            self.on_torn_down_by_server(now, key);
            let kind = FailureKind::Malformed("the server has torn the session down".to_owned());
            self.lose_session(key, Method::Teardown, None, kind);
        }
    }
}
