//! How the mock server answers when no rule says otherwise.

use super::behaviour::{ChannelPolicy, Excess};
use super::state::{Answer, State};
use super::{Camera, Config, SessionView};
use crate::support::rtsp::{Frame, Request, Response};

impl State {
    /// The effect and the answer of a well-behaved server, but for its habits.
    pub(super) fn answer(
        &mut self,
        config: &Config,
        authority: &str,
        connection: usize,
        request: &Request,
    ) -> Answer {
        let habits = &config.habits;
        let answer = self
            .refused(config, connection, request)
            .unwrap_or_else(|| match request.method.as_str() {
                "DESCRIBE" => self.describe(config, authority, connection, request).into(),
                "SETUP" => self.setup(config, connection, request),
                "PLAY" => self.play(config, connection, request),
                "TEARDOWN" => self.teardown(config, connection, request),
                _ => self.simple(config, connection, request).into(),
            });
        let Some(mut response) = answer.response else {
            return answer;
        };
        for (name, value) in &habits.headers {
            response.headers.push(name, value);
        }
        // A server that latches is ZLMediaKit's kind, which closes on a session it does not know.
        let closes = answer.closes || (habits.latches_first && response.status == 454);
        Answer {
            before: answer.before,
            after: answer.after,
            closes,
            ..Answer::to(request, response)
        }
    }

    /// What is refused before anybody looks at the method; an answer without response is none at all.
    fn refused(&mut self, config: &Config, connection: usize, request: &Request) -> Option<Answer> {
        let is_playing = self
            .view
            .sessions
            .iter()
            .any(|s| s.connection == connection && s.is_playing);
        let is_heard = matches!(request.method.as_str(), "OPTIONS" | "TEARDOWN");
        if config.habits.mute_while_playing && is_playing && !is_heard {
            return Some(Answer::default());
        }
        let auth = config
            .auth
            .as_ref()
            .filter(|_| request.method != "OPTIONS")?;
        let guard = &mut self.peers[connection].guard;
        let refused = guard
            .check(auth, connection, config.rotate_nonce_after, request)
            .err()?;
        if let Some(text) = refused.violation {
            self.violate(connection, text);
        }
        let response = Response::new(401).header("WWW-Authenticate", refused.challenge);
        Some(response.into())
    }

    /// The camera a request is about, and the rest of the URI; the first one for ever when the server latches.
    fn resolve<'a>(
        &mut self,
        config: &Config,
        connection: usize,
        uri: &'a str,
    ) -> Option<(usize, &'a str)> {
        let found = config.camera(uri)?;
        if !config.habits.latches_first {
            return Some(found);
        }
        let first = self.peers[connection].latched.get_or_insert(found.0);
        Some((*first, found.1))
    }

    fn describe(
        &mut self,
        config: &Config,
        authority: &str,
        connection: usize,
        request: &Request,
    ) -> Response {
        let Some((camera, _)) = self.resolve(config, connection, &request.uri) else {
            return Response::new(404);
        };
        if request.headers.value("Accept").is_none() {
            self.violate(connection, "DESCRIBE without Accept".to_owned());
        }
        let (path, camera) = &config.cameras[camera];
        Response::new(200)
            .header("Content-Base", format!("rtsp://{authority}{path}/"))
            .content("application/sdp", camera.description())
    }

    fn setup(&mut self, config: &Config, connection: usize, request: &Request) -> Answer {
        let Some((camera, rest)) = self.resolve(config, connection, &request.uri) else {
            return Response::new(404).into();
        };
        let (path, camera) = &config.cameras[camera];
        let Some(track) = camera.track(rest) else {
            return Response::new(404).into();
        };
        let Some(asked) = request.headers.value("Transport").and_then(interleaved) else {
            return Response::new(461).into();
        };
        let session = match request.headers.value("Session") {
            None => match self.refuse_session(config, connection) {
                Some(answer) => return answer,
                None => None,
            },
            Some(_) => match self.session(connection, request) {
                Some(index) if self.view.sessions[index].camera == *path => Some(index),
                Some(_) => return Response::new(459).into(),
                None => return Response::new(454).into(),
            },
        };
        let Some(pair) = self.choose(config.habits.channels, connection, track, asked) else {
            return Response::new(461).into();
        };
        let index = session.unwrap_or_else(|| self.new_session(config, connection, path));
        let session = &mut self.view.sessions[index];
        session.tracks.retain(|(t, _)| *t != track);
        session.tracks.push((track, pair));
        let id = session.id.clone();
        let ssrc = Camera::ssrc(camera.own_number(), track);
        let channels = match config.habits.channels {
            ChannelPolicy::Omit => String::new(),
            ChannelPolicy::SingleNumber => format!(";interleaved={}", pair.0),
            _ => format!(";interleaved={}-{}", pair.0, pair.1),
        };
        Response::new(200)
            .header(
                "Transport",
                format!("RTP/AVP/TCP;unicast{channels};ssrc={ssrc:08X};mode=\"PLAY\""),
            )
            .header("Session", format!("{id}{}", config.habits.session_suffix))
            .into()
    }

    /// The answer to a SETUP that would make a session too many.
    fn refuse_session(&mut self, config: &Config, connection: usize) -> Option<Answer> {
        let sessions = &mut self.view.sessions;
        if config.habits.latches_first {
            sessions.retain(|s| s.connection != connection);
        }
        let here = sessions
            .iter()
            .filter(|s| s.connection == connection)
            .count();
        if let Some((most, excess)) = config.habits.per_connection
            && here >= most
        {
            return Some(match excess {
                Excess::Swallow => Answer::default(),
                Excess::Status(status) => Response::new(status).into(),
                Excess::BadRequestAndClose => Answer {
                    closes: true,
                    ..Response::new(400).into()
                },
            });
        }
        (sessions.len() >= config.habits.sessions)
            .then(|| Response::new(503).header("Retry-After", "5").into())
    }

    fn new_session(&mut self, config: &Config, connection: usize, path: &str) -> usize {
        self.sessions_made += 1;
        let own_id = || format!("M0CK{:04}", self.sessions_made);
        let id = config.habits.session_id.clone().unwrap_or_else(own_id);
        self.view.sessions.push(SessionView {
            id,
            connection,
            camera: path.to_owned(),
            tracks: Vec::new(),
            is_playing: false,
        });
        self.view.sessions.len() - 1
    }

    fn choose(
        &self,
        policy: ChannelPolicy,
        connection: usize,
        track: usize,
        asked: (u8, u8),
    ) -> Option<(u8, u8)> {
        let is_free = |a: u8, b: u8| {
            !self
                .channels(connection)
                .any(|(x, y)| a == x || a == y || b == x || b == y)
        };
        match policy {
            ChannelPolicy::Reassign if is_free(asked.0, asked.1) => Some(asked),
            ChannelPolicy::Reassign => (0..=127)
                .map(|half: u8| (2 * half, 2 * half + 1))
                .find(|&(a, b)| is_free(a, b)),
            ChannelPolicy::PerTrack => {
                let first = u8::try_from(2 * track).ok()?;
                Some((first, first + 1))
            }
            ChannelPolicy::Shift(by) => Some((asked.0.wrapping_add(by), asked.1.wrapping_add(by))),
            ChannelPolicy::Verbatim | ChannelPolicy::Omit | ChannelPolicy::SingleNumber => {
                Some(asked)
            }
        }
    }

    fn play(&mut self, config: &Config, connection: usize, request: &Request) -> Answer {
        let habits = &config.habits;
        let Some(index) = self.session(connection, request) else {
            return Response::new(454).into();
        };
        let path = self.view.sessions[index].camera.clone();
        if !config.is_of(&request.uri, &path) && !habits.latches_first {
            return Response::new(404).into();
        }
        self.view.sessions[index].is_playing = true;
        let id = self.view.sessions[index].id.clone();
        let before = self.media_of(config, index, habits.before_play_answer);
        let mut after = self.media_of(config, index, habits.after_play);
        if let Some((channel, count)) = habits.stray {
            for packet in 0..count {
                let payload = Camera::video().packet(0, packet);
                after.extend(Frame { channel, payload }.to_bytes());
            }
        }
        for request in &habits.requests_after_play {
            after.extend(self.number_request(connection, request.clone()));
        }
        Answer {
            before,
            after,
            ..Response::new(200)
                .header("Session", format!("{id}{}", habits.session_suffix))
                .header("Range", "npt=now-")
                .header("RTP-Info", format!("url={}", request.uri))
                .into()
        }
    }

    fn teardown(&mut self, config: &Config, connection: usize, request: &Request) -> Answer {
        let Some(index) = self.session(connection, request) else {
            return Response::new(454).into();
        };
        let after = self.media_of(config, index, config.habits.after_teardown);
        let session = self.view.sessions.remove(index);
        let channels = session.tracks.iter().flat_map(|(_, (a, b))| [*a, *b]);
        self.peers[connection].past_channels.extend(channels);
        let is_last = !self
            .view
            .sessions
            .iter()
            .any(|s| s.connection == connection);
        Answer {
            after,
            closes: is_last && config.habits.close_after_last_teardown,
            ..Response::new(200)
                .header("Session", session.id)
                .header("Connection", "close")
                .into()
        }
    }

    /// Methods that are no more than looked up.
    fn simple(&mut self, config: &Config, connection: usize, request: &Request) -> Response {
        let session = self.session(connection, request);
        if session.is_none() && request.headers.contains("Session") {
            return Response::new(454);
        }
        let response = match (request.method.as_str(), session) {
            ("OPTIONS", _) => Response::new(200).header("Public", &config.habits.public),
            ("GET_PARAMETER" | "SET_PARAMETER", _) => Response::new(200),
            ("PAUSE", Some(index)) => {
                self.view.sessions[index].is_playing = false;
                Response::new(200)
            }
            ("PAUSE", None) => return Response::new(454),
            _ => return Response::new(501),
        };
        match session {
            Some(index) => {
                let id = &self.view.sessions[index].id;
                response.header("Session", format!("{id}{}", config.habits.session_suffix))
            }
            None => response,
        }
    }
}

/// The channels of the first TCP transport of a Transport header.
fn interleaved(transport: &str) -> Option<(u8, u8)> {
    let tcp = transport
        .split(',')
        .map(str::trim)
        .find(|spec| spec.starts_with("RTP/AVP/TCP"))?;
    let channels = tcp
        .split(';')
        .find_map(|parameter| parameter.trim().strip_prefix("interleaved="))?;
    let (first, second) = channels.split_once('-')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}
