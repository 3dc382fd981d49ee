//! Requests that are shown to the user of the connection before they are sent.
//!
//! The user may add, change and remove headers, or hold a request back. One request is shown at a time, when it
//! could be written, and the connection writes nothing else meanwhile: such a connection has one user. What
//! names a request and where its media goes is not the user's: method and URI, `CSeq`, `Session`, the channels in
//! `Transport`, the length of the body, and the answer to a challenge.
//!
//! A request that is repeated, as after a 401, is not shown again. Neither is the OPTIONS by which the
//! connection finds out whether the server has ignored a request.

use std::time::Instant;

use bytes::Bytes;

use super::{
    Connection,
    requests::{Draft, Purpose},
    session::SessionPhase,
};
use crate::mux::proto::{
    command::{OutgoingRequest, PlayRange, SessionKey},
    event::{Event, FailureKind},
    wire::uri,
};

/// The request that is shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The number of the last one.
    last: u64,
    draft: Option<Draft>,
}

impl Shown {
    pub(super) fn is_any(&self) -> bool {
        self.draft.is_some()
    }

    pub(super) fn take(&mut self) -> Option<Draft> {
        self.draft.take()
    }

    /// Takes it out if it is this session's, whose requests are cancelled.
    pub(super) fn take_of(&mut self, key: SessionKey) -> Option<Draft> {
        self.draft.take_if(|draft| draft.session == Some(key))
    }
}

impl Connection {
    /// The user has looked at a request that was shown ([`Event::BeforeSend`]): it goes with these headers, or
    /// is held back. A keep-alive that is held back counts as sent, as does a TEARDOWN; what has a caller
    /// fails.
    pub fn handle_seen(
        &mut self,
        now: Instant,
        number: u64,
        headers: Option<Vec<(String, String)>>,
    ) {
        if self.shown.last != number {
            return;
        }
        // It may have been cancelled meanwhile.
        if let Some(mut draft) = self.shown.take() {
            match headers {
                Some(headers) => {
                    draft.seen = Some(headers.into());
                    self.waiting.push_front(draft);
                }
                None => self.withdraw(draft, FailureKind::Withheld),
            }
        }
        self.flush(now);
    }

    /// Writes a request, or shows it first.
    pub(super) fn write_or_show(&mut self, now: Instant, draft: Draft) {
        if !self.config.shows_requests || draft.seen.is_some() {
            self.write(now, draft);
            return;
        }
        let mut headers = Vec::new();
        self.headers(&draft, &mut |name, value| {
            headers.push((name.to_owned(), value.to_owned()));
        });
        let body = match &draft.purpose {
            Purpose::Parameters(parameters) => parameters.body.clone(),
            _ => Bytes::new(),
        };
        let request = OutgoingRequest {
            method: <&str>::from(&draft.method).to_owned(),
            uri: uri::wire(&draft.url).into_owned(),
            headers,
            body,
        };
        self.shown.last += 1;
        self.shown.draft = Some(draft);
        let number = self.shown.last;
        self.events.push_back(Event::BeforeSend { number, request });
    }

    /// The headers of a request, but for `CSeq` and `Authorization`.
    pub(super) fn headers(&self, draft: &Draft, put: &mut dyn FnMut(&str, &str)) {
        let session = draft.session.and_then(|key| self.sessions.get(&key));
        let is_first_play = session.is_some_and(|it| it.phase != SessionPhase::Paused);
        put("User-Agent", &self.config.user_agent);
        let requires = matches!(
            draft.purpose,
            Purpose::Describe | Purpose::Setup { .. } | Purpose::Play(_) | Purpose::Pause
        );
        if let Some(feature) = self.config.require.filter(|_| requires) {
            put("Require", feature);
        }
        match &draft.purpose {
            Purpose::Describe | Purpose::Probe => put("Accept", "application/sdp"),
            Purpose::Setup { asked, profile, .. } => {
                let (profile, channels) = (profile.name(), channels(*asked));
                put(
                    "Transport",
                    &format!("RTP/{profile}/TCP;unicast;{channels}"),
                );
                if let Some(size) = session.and_then(|it| it.config.block_size) {
                    put("Blocksize", &size.to_string());
                }
            }
            // After PAUSE, PLAY without a range resumes (RFC 2326 10.5).
            Purpose::Play(PlayRange::Start) if is_first_play => put("Range", "npt=0.000-"),
            Purpose::Play(PlayRange::Now) if is_first_play => put("Range", "npt=now-"),
            Purpose::Play(PlayRange::Given(headers)) => {
                headers.iter().for_each(|(name, value)| put(name, value));
            }
            Purpose::Parameters(parameters) => {
                put("Content-Type", &parameters.content_type);
                put("Content-Length", &parameters.body.len().to_string());
            }
            _ => {}
        }
        let id = match &draft.purpose {
            Purpose::Undo { id } => Some(id),
            _ => session.and_then(|it| it.id.as_ref()),
        };
        // The server may have named none.
        if let Some(id) = id.filter(|id| !id.is_empty()) {
            put("Session", id);
        }
    }

    /// The headers of a request that was shown: the user's, and those that are not the user's.
    pub(super) fn seen_headers(
        &self,
        draft: &Draft,
        seen: &[(String, String)],
        put: &mut dyn FnMut(&str, &str),
    ) {
        let is = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
        let keeps_channels = |value: &str| match &draft.purpose {
            Purpose::Setup { asked, .. } => {
                value.split(';').any(|it| it.trim() == channels(*asked))
            }
            _ => true,
        };
        let is_own = |name: &str, value: &str| match name {
            name if is(name, "Transport") => !keeps_channels(value),
            name => OURS.iter().any(|ours| is(name, ours)),
        };
        let mut has_transport = false;
        for (name, value) in seen {
            if is_header_name(name) && !is_own(name, value) {
                has_transport |= is(name, "Transport");
                put(name, &without_control(value));
            }
        }
        self.headers(draft, &mut |name, value| match name {
            "Transport" if has_transport => {}
            "Transport" | "Session" | "Content-Length" => put(name, value),
            _ => {}
        });
    }
}

/// Headers that no user sets.
pub(super) const OURS: [&str; 4] = ["CSeq", "Session", "Content-Length", "Authorization"];

/// The parameter of `Transport` for a pair of channels.
fn channels(asked: u8) -> String {
    format!("interleaved={asked}-{}", asked | 1)
}

/// RFC 2326 15.1: a token.
pub(super) fn is_header_name(name: &str) -> bool {
    let is_token = |it: char| it.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(it);
    !name.is_empty() && name.chars().all(is_token)
}

/// A value that ends with its line, and begins no other.
pub(super) fn without_control(value: &str) -> String {
    value.chars().filter(|it| !it.is_ascii_control()).collect()
}
