//! What the mock server knows: connections, sessions, what was sent. Without threads, sockets or a clock.

use std::collections::BTreeSet;

use super::account::Account;
use super::auth::Guard;
use super::behaviour::{Reaction, Rule};
use super::{Camera, Config, Link, Recorded, ServerView, SessionView};
use crate::support::rtsp::{Frame, Headers, Request, Response, SenderReport, rtcp_bye};

/// What goes out for one request.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) before: Vec<u8>,
    pub(super) response: Option<Response>,
    pub(super) after: Vec<u8>,
    pub(super) closes: bool,
}

impl Answer {
    /// This response, with the CSeq of the request unless it has one.
    pub(super) fn to(request: &Request, mut response: Response) -> Self {
        if let (None, Some(cseq)) = (
            response.headers.value("CSeq"),
            request.headers.value("CSeq"),
        ) {
            let mut headers = Headers::default();
            headers.push("CSeq", cseq);
            response
                .headers
                .iter()
                .for_each(|(name, value)| headers.push(name, value));
            response.headers = headers;
        }
        Self {
            response: Some(response),
            ..Self::default()
        }
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        let mut bytes = self.before;
        if let Some(response) = self.response {
            bytes.extend(response.to_bytes());
        }
        bytes.append(&mut self.after);
        bytes
    }
}

/// A text of UTF-8 in Latin-1.
fn in_latin1(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
        .collect()
}

/// What a request comes to on the wire.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What goes out.
    pub bytes: Vec<u8>,
    /// What ends after that.
    pub ends: Ends,
}

/// What the server ends after an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ends {
    /// Nothing does.
    #[default]
    Nothing,
    /// It still reads.
    Writing,
    /// The connection does.
    Both,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) view: ServerView,
    pub(super) links: Vec<Option<Link>>,
    pub(super) rules: Vec<Rule>,
    pub(super) deferred: Vec<(usize, Vec<u8>)>,
    pub(super) releases: u64,
    pub(super) is_stopped: bool,
    pub(super) peers: Vec<Peer>,
    pub(super) sessions_made: usize,
    /// Requests are checked and not kept: for runs that would fill the memory with them.
    pub(super) is_forgetful: bool,
    ghosts: Vec<Ghost>,
    /// Cameras whose streams a client has ended.
    unpublished: BTreeSet<usize>,
    pub(super) account: Account,
    /// Connections that the server has decided to end, and has not counted as closed yet: a client may
    /// know of that, and dial again, before.
    pub(super) closing: BTreeSet<usize>,
}

/// A session whose connection is gone, and which the server still feeds.
struct Ghost {
    session: SessionView,
    /// The connection its packets go to, once there is one.
    haunts: Option<usize>,
}

/// What is remembered of one connection.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) guard: Guard,
    pub(super) last_cseq: Option<u32>,
    own_cseq: u32,
    pub(super) latched: Option<usize>,
    /// The camera that was described last, as long as nothing was played.
    pub(super) unplayed: Option<usize>,
    /// DESCRIBEs that succeeded.
    pub(super) describes: usize,
    /// The id in the last answer to DESCRIBE, where these carry one.
    pub(super) described_id: Option<String>,
    /// Tracks that were set up since the last DESCRIBE.
    pub(super) initialised: Vec<usize>,
    /// An answer that goes out after the next one.
    swapped: Vec<u8>,
    /// Channels that once were set up: the client may still send RTCP on its way while TEARDOWN is answered.
    pub(super) past_channels: Vec<u8>,
}

impl State {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Self {
            rules,
            ..Self::default()
        }
    }

    pub(super) fn accept(&mut self, link: Option<Link>) -> usize {
        self.links.push(link);
        self.peers.push(Peer::default());
        let homeless = self
            .ghosts
            .iter_mut()
            .filter(|ghost| ghost.haunts.is_none());
        homeless.for_each(|ghost| ghost.haunts = Some(self.links.len() - 1));
        self.view.accepted += 1;
        self.view.open_connections += 1;
        let open = self.view.open_connections - self.closing.len();
        self.view.most_open_connections = self.view.most_open_connections.max(open);
        self.links.len() - 1
    }

    pub(super) fn closed(&mut self, config: &Config, connection: usize) {
        self.view.open_connections -= 1;
        self.closing.remove(&connection);
        if config.habits.strays_of_the_dead {
            let dead = self.view.sessions.iter();
            let dead = dead.filter(|s| s.connection == connection && s.is_playing);
            self.ghosts.extend(dead.map(|session| Ghost {
                session: session.clone(),
                haunts: None,
            }));
        }
        self.view.sessions.retain(|s| s.connection != connection);
        self.unpublish(config, connection);
    }

    /// A connection ends, or a session on it is torn down.
    pub(super) fn unpublish(&mut self, config: &Config, connection: usize) {
        let unplayed = self.peers[connection].unplayed.take();
        let ends = unplayed.filter(|_| config.habits.unpublishes_unplayed);
        self.unpublished.extend(ends);
    }

    /// Whether the camera has no stream any more.
    pub(super) fn is_unpublished(&self, camera: usize) -> bool {
        self.unpublished.contains(&camera)
    }

    pub(super) fn release(&mut self) -> Vec<(usize, Vec<u8>)> {
        self.releases += 1;
        std::mem::take(&mut self.deferred)
    }

    pub(super) fn number_request(&mut self, connection: usize, request: Request) -> Vec<u8> {
        let Some(peer) = self.peers.get_mut(connection) else {
            return Vec::new();
        };
        peer.own_cseq += 1;
        request.header("CSeq", peer.own_cseq.to_string()).to_bytes()
    }

    pub(super) fn record(&mut self, connection: usize, request: &Request) {
        let last = self.peers[connection].last_cseq;
        let cseq = request.headers.cseq();
        if cseq.is_none() || last.is_some_and(|last| cseq != Some(last + 1)) {
            let cseq = request.headers.value("CSeq");
            self.violate(
                connection,
                format!("CSeq {cseq:?} of {} after {last:?}", request.method),
            );
        }
        self.peers[connection].last_cseq = cseq;
        if self.is_forgetful {
            return;
        }
        self.view.requests.push(Recorded {
            connection,
            method: request.method.clone(),
            uri: request.uri.clone(),
            headers: request.headers.clone(),
            body: request.body.clone(),
            at_nth: self.view.requests.len(),
        });
    }

    pub(super) fn violate(&mut self, connection: usize, text: String) {
        self.view
            .violations
            .push(format!("connection {connection}: {text}"));
    }

    /// The effect of a request, and what goes out for it.
    pub(super) fn react(
        &mut self,
        config: &Config,
        authority: &str,
        connection: usize,
        request: &Request,
        reaction: Option<Reaction>,
    ) -> Outcome {
        let mut answer = Answer::default();
        let mut ends = Ends::Nothing;
        let ordinary = |state: &mut Self| state.answer(config, authority, connection, request);
        match reaction {
            None | Some(Reaction::Hold | Reaction::Defer) => answer = ordinary(self),
            Some(Reaction::Ignore) => {
                // Its digest counts all the same.
                let _ = self.refused(config, connection, request);
                return Outcome::default();
            }
            Some(Reaction::Close) => {
                return Outcome {
                    ends: Ends::Both,
                    ..Outcome::default()
                };
            }
            Some(Reaction::Raw(bytes)) => answer.before = bytes,
            Some(Reaction::Answer(response)) => answer = Answer::to(request, response),
            Some(Reaction::AnswerAndClose(response)) => {
                answer = Answer::to(request, response);
                answer.closes = true;
            }
            Some(Reaction::Edit(edit)) => {
                answer = ordinary(self);
                answer
                    .response
                    .iter_mut()
                    .for_each(|response| edit(response));
            }
            Some(Reaction::Rewrite(rewrite)) => {
                answer = ordinary(self);
                let response = answer.response.take();
                let bytes = response.map(|response| rewrite(&response.to_bytes()));
                answer.before.extend(bytes.unwrap_or_default());
            }
            Some(Reaction::Unauthorized) => {
                let guard = &self.peers[connection].guard;
                let challenge = guard.challenge(config.auth.as_ref(), connection);
                answer = ordinary(self);
                let response = Response::new(401).header("WWW-Authenticate", challenge);
                answer.response = Answer::to(request, response).response;
            }
            Some(Reaction::Before(bytes)) => {
                answer = ordinary(self);
                answer.before.splice(0..0, bytes);
            }
            Some(Reaction::After(bytes)) => {
                answer = ordinary(self);
                answer.after.extend(bytes);
            }
            Some(Reaction::Twice) => {
                answer = ordinary(self);
                let again = answer.response.iter().flat_map(Response::to_bytes);
                answer.after.splice(0..0, again);
            }
            Some(Reaction::Unanswered) => {
                answer = ordinary(self);
                answer.response = None;
            }
            Some(Reaction::Swap) => {
                self.peers[connection].swapped = ordinary(self).into_bytes();
                return Outcome::default();
            }
            Some(Reaction::HalfClose) => {
                answer = ordinary(self);
                ends = Ends::Writing;
            }
            Some(Reaction::Teardown) => {
                answer = ordinary(self);
                let teardown = self.teardown_after(connection, request, &answer);
                answer.after.extend(teardown);
            }
            Some(Reaction::Goodbye) => {
                answer = ordinary(self);
                let goodbye = self.goodbye_after(config, connection, &answer);
                answer.after.extend(goodbye);
            }
        }
        if answer.closes {
            ends = Ends::Both;
        }
        if config.habits.latin1 {
            let response = answer.response.take();
            let bytes = response.map(|response| in_latin1(&response.to_bytes()));
            answer.before.extend(bytes.unwrap_or_default());
        }
        let mut bytes = answer.into_bytes();
        bytes.append(&mut self.peers[connection].swapped);
        Outcome { bytes, ends }
    }

    /// The session that an answer names.
    fn session_of(&self, connection: usize, answer: &Answer) -> Option<usize> {
        let header = answer.response.as_ref()?.headers.value("Session")?;
        let id = header.split(';').next().unwrap_or_default().trim();
        let is_it = |s: &SessionView| s.connection == connection && s.id == id;
        self.view.sessions.iter().position(is_it)
    }

    /// The server's TEARDOWN of the session that its answer names.
    fn teardown_after(&mut self, connection: usize, request: &Request, answer: &Answer) -> Vec<u8> {
        let Some(index) = self.session_of(connection, answer) else {
            return Vec::new();
        };
        let session = self.view.sessions.remove(index);
        // The client cannot know yet, and goes on with its receiver reports.
        let channels = session.tracks.iter().flat_map(|(_, (a, b))| [*a, *b]);
        self.peers[connection].past_channels.extend(channels);
        let teardown = Request::new("TEARDOWN", &request.uri).header("Session", session.id);
        self.number_request(connection, teardown)
    }

    /// A BYE of each source of the session that an answer names, which sends nothing more.
    fn goodbye_after(&mut self, config: &Config, connection: usize, answer: &Answer) -> Vec<u8> {
        let Some(index) = self.session_of(connection, answer) else {
            return Vec::new();
        };
        self.view.sessions[index].is_playing = false;
        let session = &self.view.sessions[index];
        let source = config.habits.source(session);
        let number = config
            .camera_at(&session.camera)
            .map_or(0, Camera::own_number);
        let frames = session.tracks.iter().map(|(track, (_, channel))| {
            let ssrc = Camera::ssrc(number, *track) ^ source.ssrc;
            // An empty receiver report has to come before it (RFC 3550 6.1).
            let report = [&[0x80, 201, 0, 1][..], &ssrc.to_be_bytes(), &rtcp_bye(ssrc)].concat();
            Frame {
                channel: *channel,
                payload: report,
            }
        });
        frames.flat_map(|frame| frame.to_bytes()).collect()
    }

    /// live555 loses its framing over a frame on a channel it does not know.
    pub(super) fn check_channel(&mut self, connection: usize, channel: u8) {
        let is_known = self
            .channels(connection)
            .any(|(a, b)| channel == a || channel == b)
            || self.peers[connection].past_channels.contains(&channel);
        if !is_known {
            self.violate(
                connection,
                format!("a frame on channel {channel}, which was never set up"),
            );
        }
    }

    pub(super) fn reaction(&mut self, config: &Config, request: &Request) -> Option<Reaction> {
        let camera = config
            .camera(&request.uri)
            .map(|(index, _)| config.cameras[index].0.as_str());
        self.rules
            .iter_mut()
            .find_map(|rule| rule.apply(request, camera))
    }

    /// The session a request names, when it lives on this connection.
    pub(super) fn session(
        &self,
        config: &Config,
        connection: usize,
        request: &Request,
    ) -> Option<usize> {
        let Some(id) = request.headers.value("Session") else {
            let finds = config.habits.finds_sessions_by_uri;
            let is_it = |s: &SessionView| {
                finds && s.connection == connection && config.is_of(&request.uri, &s.camera)
            };
            return self.view.sessions.iter().position(is_it);
        };
        // ZLMediaKit answers keep-alives that carry an id from before the last DESCRIBE.
        let is_keep_alive = matches!(request.method.as_str(), "OPTIONS" | "GET_PARAMETER");
        let is_any = config.habits.one_consumer || (config.habits.id_per_describe && is_keep_alive);
        let is_it = |s: &SessionView| s.connection == connection && (is_any || s.id == id);
        self.view.sessions.iter().position(is_it)
    }

    pub(super) fn channels(&self, connection: usize) -> impl Iterator<Item = (u8, u8)> {
        let here = self
            .view
            .sessions
            .iter()
            .filter(move |s| s.connection == connection);
        here.flat_map(|s| s.tracks.iter().map(|(_, pair)| *pair))
    }

    /// Packets for every session of a connection that plays the camera; how many, and their frames.
    pub(super) fn media(
        &mut self,
        config: &Config,
        connection: usize,
        path: &str,
        count: u32,
    ) -> (usize, Vec<u8>) {
        let mut frames = Vec::new();
        let mut sent = 0;
        for index in self.players(connection, path) {
            sent += self.view.sessions[index].tracks.len() * count as usize;
            frames.extend(self.media_of(config, index, count));
        }
        (sent, frames)
    }

    /// A sender report for every track of those sessions.
    pub(super) fn reports(
        &self,
        config: &Config,
        connection: usize,
        path: &str,
        make: impl Fn(u32, u32) -> SenderReport,
    ) -> (usize, Vec<u8>) {
        let mut frames = Vec::new();
        let mut count = 0;
        let number = config.camera_at(path).map_or(0, Camera::own_number);
        for index in self.players(connection, path) {
            let session = &self.view.sessions[index];
            let source = config.habits.source(session);
            for (track, (_, channel)) in &session.tracks {
                let sent = session.sent.get(*track).copied().unwrap_or(0);
                let timestamp = config
                    .camera_at(path)
                    .map_or(0, |c| c.timestamp(*track, sent));
                let ssrc = Camera::ssrc(number, *track) ^ source.ssrc;
                let payload = make(ssrc, source.timestamp(timestamp)).to_bytes();
                let channel = *channel;
                frames.extend(Frame { channel, payload }.to_bytes());
                count += 1;
            }
        }
        (count, frames)
    }

    fn players(&self, connection: usize, path: &str) -> Vec<usize> {
        let is_player =
            |s: &SessionView| s.is_playing && s.connection == connection && s.camera == path;
        let sessions = self.view.sessions.iter().enumerate();
        sessions
            .filter(|(_, s)| is_player(s))
            .map(|(index, _)| index)
            .collect()
    }

    /// Packets for one session, and with them those that go astray to its connection.
    pub(super) fn media_of(&mut self, config: &Config, session: usize, count: u32) -> Vec<u8> {
        let mut out = Vec::new();
        let connection = self.view.sessions[session].connection;
        for _ in 0..count {
            out.extend(packets(config, &mut self.view.sessions[session]));
            out.extend(self.strays_on(config, connection));
        }
        out
    }

    /// Packets that go astray to a connection.
    pub(super) fn strays_on(&mut self, config: &Config, connection: usize) -> Vec<u8> {
        let ghosts = self.ghosts.iter_mut();
        let here = ghosts.filter(|ghost| ghost.haunts == Some(connection));
        here.flat_map(|ghost| packets(config, &mut ghost.session))
            .collect()
    }

    /// Whether packets of sessions are sent whose connection is gone.
    pub(super) fn is_haunted(&self) -> bool {
        !self.ghosts.is_empty()
    }

    /// Sender reports for one session.
    pub(super) fn reports_of(&self, config: &Config, session: usize) -> Vec<u8> {
        let session = &self.view.sessions[session];
        let source = config.habits.source(session);
        let number = config
            .camera_at(&session.camera)
            .map_or(0, Camera::own_number);
        let frames = session.tracks.iter().map(|(track, (_, channel))| Frame {
            channel: *channel,
            payload: SenderReport {
                ssrc: Camera::ssrc(number, *track) ^ source.ssrc,
                ntp: 1,
                ..SenderReport::default()
            }
            .to_bytes(),
        });
        frames.flat_map(|frame| frame.to_bytes()).collect()
    }
}

/// The next packet of each track of a session.
fn packets(config: &Config, session: &mut SessionView) -> Vec<u8> {
    let Some(camera) = config.camera_at(&session.camera) else {
        return Vec::new();
    };
    let (mut out, source) = (Vec::new(), config.habits.source(session));
    for (track, (channel, _)) in &session.tracks {
        if session.sent.len() <= *track {
            session.sent.resize(track + 1, 0);
        }
        let payload = camera.packet_of(source, *track, session.sent[*track]);
        session.sent[*track] += 1;
        out.extend_from_slice(&config.habits.garbage);
        let channel = *channel;
        out.extend(Frame { channel, payload }.to_bytes());
    }
    out
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self {
            response: Some(response),
            ..Self::default()
        }
    }
}

impl Config {
    /// The camera of a URI and what follows its path: the longest path wins.
    pub(super) fn camera<'a>(&self, uri: &'a str) -> Option<(usize, &'a str)> {
        let path = path_and_query(uri);
        let cameras = self.cameras.iter().enumerate();
        cameras
            .filter_map(|(index, (camera, _))| {
                let rest = path.strip_prefix(camera.as_str())?;
                (rest.is_empty() || rest.starts_with('/'))
                    .then_some((index, rest.trim_start_matches('/')))
            })
            .min_by_key(|(_, rest)| rest.len())
    }

    pub(super) fn is_of(&self, uri: &str, path: &str) -> bool {
        self.camera(uri)
            .is_some_and(|(index, _)| self.cameras[index].0 == path)
    }

    pub(super) fn camera_at(&self, path: &str) -> Option<&Camera> {
        self.cameras
            .iter()
            .find(|(p, _)| p == path)
            .map(|(_, camera)| camera)
    }
}

/// What follows the authority, the query included.
fn path_and_query(uri: &str) -> &str {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    rest.find('/').map_or("", |at| &rest[at..])
}
