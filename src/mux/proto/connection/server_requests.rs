//! Requests of the server: the core answers each, with *its* CSeq; otherwise the server may end the
//! session.

use std::time::Instant;

use rtsp_types::Method;

use super::{Connection, SessionPhase, session::CoreSession};
use crate::mux::proto::{
    event::FailureKind,
    limits::Timeouts,
    wire::{
        header::parse_session,
        message::{Message, MessageWriter},
    },
};

/// Our answer to OPTIONS: the methods that a server may use.
const PUBLIC: &str = "OPTIONS, GET_PARAMETER, SET_PARAMETER, ANNOUNCE, REDIRECT, TEARDOWN";

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
        self.answer(method, request);
        match method {
            Method::Teardown => self.on_server_teardown(now, request),
            Method::Redirect => self.on_server_redirect(now, uri, request),
            _ => {}
        }
    }

    fn answer(&mut self, method: &Method, request: &Message) {
        // A request without CSeq cannot be answered.
        let Some(cseq) = request.headers.first("CSeq") else {
            return;
        };
        let (code, reason) = match method {
            Method::Options
            | Method::GetParameter
            | Method::SetParameter
            | Method::Announce
            | Method::Redirect
            | Method::Teardown => (200, "OK"),
            _ => (501, "Not Implemented"),
        };
        let cseq: String = cseq.chars().filter(char::is_ascii_digit).take(10).collect();
        let from = self.out.len();
        let mut writer = MessageWriter::response(&mut self.out, code, reason, &cseq);
        if let Some(session) = request.headers.first("Session").and_then(parse_session) {
            writer.header("Session", &session.id);
        }
        if *method == Method::Options {
            writer.header("Public", PUBLIC);
        }
        writer.header("User-Agent", &self.config.user_agent);
        writer.finish();
        self.log_sent(None, from);
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
