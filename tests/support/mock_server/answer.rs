//! How the mock server answers when no rule says otherwise.

use super::account::Judgement;
use super::behaviour::{ChannelPolicy, Excess};
use super::state::{Answer, State};
use super::{AccountOddity, Auth, Camera, Config, SessionView};
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
        let closes = answer.closes
            || (habits.close_on_teardown && request.method == "TEARDOWN" && response.status == 200)
            || (habits.id_per_describe && response.status == 454)
            || (habits.close_on_not_found && response.status == 404);
        Answer {
            before: answer.before,
            after: answer.after,
            closes,
            ..Answer::to(request, response)
        }
    }

    /// What the server refuses before it looks at the method; an answer without response is none at all.
    pub(super) fn refused(
        &mut self,
        config: &Config,
        connection: usize,
        request: &Request,
    ) -> Option<Answer> {
        let is_playing = self
            .view
            .sessions
            .iter()
            .any(|s| s.connection == connection && s.is_playing);
        let habits = &config.habits;
        if habits.mute_while_playing && is_playing && request.method != "OPTIONS" {
            return Some(Answer::default());
        }
        if habits.close_on_early_get_parameter && request.method == "GET_PARAMETER" && !is_playing {
            return Some(Answer {
                closes: true,
                ..Answer::default()
            });
        }
        let is_keep_alive = matches!(request.method.as_str(), "OPTIONS" | "GET_PARAMETER")
            && request.headers.contains("Session");
        if let Some(status) = habits.keep_alive_with_wrong_cseq.filter(|_| is_keep_alive) {
            let cseq = request.headers.cseq().unwrap_or_default().saturating_sub(1);
            return Some(
                Response::new(status)
                    .header("CSeq", cseq.to_string())
                    .into(),
            );
        }
        // Asked without need, the digest counts all the same.
        let is_open = request.method == "OPTIONS";
        let auth = config
            .auth
            .as_ref()
            .filter(|_| !is_open || request.headers.contains("Authorization"))?;
        if !config.oddities.is_empty() {
            return self.judged(config, auth, connection, request);
        }
        let guard = &mut self.peers[connection].guard;
        let refused = guard
            .check(auth, connection, config.rotate_nonce_after, request)
            .err()?;
        if let Some(text) = refused.violation {
            self.violate(connection, text);
        }
        if is_open {
            return None;
        }
        let response = Response::new(401).header("WWW-Authenticate", refused.challenge);
        Some(response.into())
    }

    /// The same at a server that is odd about it.
    fn judged(
        &mut self,
        config: &Config,
        auth: &Auth,
        connection: usize,
        request: &Request,
    ) -> Option<Answer> {
        let camera = config.camera(&request.uri);
        let path = camera.map_or("", |(camera, _)| config.cameras[camera].0.as_str());
        let oddities = &config.oddities;
        let dead = oddities.iter().find_map(|oddity| match oddity {
            AccountOddity::Dead(status, paths) if paths.iter().any(|it| it == path) => {
                Some(*status)
            }
            _ => None,
        });
        if let Some(status) = dead.filter(|_| request.headers.contains("Authorization")) {
            return Some(match status {
                // No answer at all.
                0 => Answer {
                    closes: true,
                    ..Answer::default()
                },
                status => Response::new(status).into(),
            });
        }
        let account = &mut self.account;
        let Judgement::Challenged(challenges, closes) =
            account.judge(oddities, auth, connection, path, request)
        else {
            return None;
        };
        let mut response = Response::new(401);
        for challenge in challenges {
            response = response.header("WWW-Authenticate", challenge);
        }
        if oddities.contains(&AccountOddity::ClosesBehind401 { is_announced: true }) {
            response = response.header("Connection", "close".to_owned());
        }
        Some(Answer {
            closes,
            ..response.into()
        })
    }

    /// The camera a request is about, and the rest of the URI; the first one for ever when the server latches.
    fn resolve<'a>(
        &mut self,
        config: &Config,
        connection: usize,
        uri: &'a str,
    ) -> Option<(usize, &'a str)> {
        let found = config.camera(uri);
        if !config.habits.latches_first {
            return found;
        }
        let latched = &mut self.peers[connection].latched;
        *latched = latched.or(found.map(|(camera, _)| camera));
        latched.map(|first| (first, found.map_or("", |(_, rest)| rest)))
    }

    fn describe(
        &mut self,
        config: &Config,
        authority: &str,
        connection: usize,
        request: &Request,
    ) -> Response {
        let habits = &config.habits;
        let found = self.resolve(config, connection, &request.uri);
        let published = found.filter(|(camera, _)| !self.is_unpublished(*camera));
        let Some((camera, _)) = published else {
            return match habits.unpublishes_unplayed {
                true => Response::new(200).content("application/sdp", NO_STREAM.to_vec()),
                false => Response::new(404),
            };
        };
        if request.headers.value("Accept").is_none() {
            self.violate(connection, "DESCRIBE without Accept".to_owned());
        }
        let peer = &mut self.peers[connection];
        peer.describes += 1;
        peer.unplayed = Some(camera);
        let describes = peer.describes;
        if let Some(status) = habits.one_describe.filter(|_| describes > 1) {
            return Response::new(status);
        }
        let mut response = Response::new(200);
        if habits.id_per_describe {
            let id = self.rename(connection);
            response = response.header("Session", id);
        } else if habits.one_consumer
            && let Some(session) = self.session_on(connection)
        {
            response = response.header("Session", &session.id);
        }
        let (path, camera) = &config.cameras[camera];
        if !habits.no_content_base {
            response = response.header("Content-Base", format!("rtsp://{authority}{path}/"));
        }
        let sdp = match habits.description_grows {
            true => camera.grown_description(describes),
            false => camera.description(),
        };
        response.content("application/sdp", habits.sdp(sdp))
    }

    fn setup(&mut self, config: &Config, connection: usize, request: &Request) -> Answer {
        let Some((camera, rest)) = self.resolve(config, connection, &request.uri) else {
            return Response::new(404).into();
        };
        let (path, camera) = &config.cameras[camera];
        let Some(track) = self.track(config, connection, camera, rest) else {
            return Response::new(404).into();
        };
        let Some(asked) = request.headers.value("Transport").and_then(interleaved) else {
            return Response::new(461).into();
        };
        if config.habits.id_per_describe || config.habits.one_consumer {
            return self.setup_latched(config, connection, (path, track), asked);
        }
        if config.habits.one_source {
            return self.setup_replacing(config, connection, (path, track), asked);
        }
        let session = match request.headers.value("Session") {
            None => match self.session(config, connection, request) {
                Some(index) => Some(index),
                None => match self.refuse_session(config, connection) {
                    Some(answer) => return answer,
                    None => None,
                },
            },
            Some(_) => match self.session(config, connection, request) {
                Some(index) if self.view.sessions[index].camera == *path => Some(index),
                Some(_) => return Response::new(459).into(),
                None => return Response::new(454).into(),
            },
        };
        let Some(pair) = self.choose(config.habits.channels, connection, track, asked) else {
            return Response::new(461).into();
        };
        let is_later = session.is_some();
        let index = session.unwrap_or_else(|| self.new_session(config, connection, path));
        self.set_up(config, index, (camera, track), pair, is_later)
            .into()
    }

    /// The effect of a SETUP, and its answer.
    pub(super) fn set_up(
        &mut self,
        config: &Config,
        session: usize,
        (camera, track): (&Camera, usize),
        pair: (u8, u8),
        is_later: bool,
    ) -> Response {
        let habits = &config.habits;
        let session = &mut self.view.sessions[session];
        session.tracks.retain(|(t, _)| *t != track);
        session.tracks.push((track, pair));
        let id = match is_later && habits.other_id_in_later_setups {
            true => format!("{}x{track}", session.id),
            false => session.id.clone(),
        };
        let source = habits.source(session);
        let ssrc = Camera::ssrc(camera.own_number(), track) ^ source.ssrc;
        let channels = match habits.channels {
            ChannelPolicy::Omit => String::new(),
            ChannelPolicy::SingleNumber => format!(";interleaved={}", pair.0),
            _ => format!(";interleaved={}-{}", pair.0, pair.1),
        };
        let ssrc = match habits.omit_ssrc {
            true => String::new(),
            false => format!(";ssrc={ssrc:08X}"),
        };
        Response::new(200)
            .header(
                "Transport",
                format!("RTP/AVP/TCP;unicast{channels}{ssrc};mode=\"PLAY\""),
            )
            .header("Session", config.habits.session_header(&id))
    }

    /// The answer to a SETUP that would make a session too many.
    fn refuse_session(&mut self, config: &Config, connection: usize) -> Option<Answer> {
        let sessions = &self.view.sessions;
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
        let full = Response::new(config.habits.full_status);
        let full = match full.status {
            503 => full.header("Retry-After", "5"),
            _ => full,
        };
        (sessions.len() >= config.habits.sessions).then(|| full.into())
    }

    pub(super) fn new_session(&mut self, config: &Config, connection: usize, path: &str) -> usize {
        let mut own_id = self.new_id();
        if config.habits.latin1 {
            own_id.push('\u{e9}');
        }
        let id = config.habits.session_id.clone().unwrap_or(own_id);
        self.view.sessions.push(SessionView {
            id,
            connection,
            camera: path.to_owned(),
            tracks: Vec::new(),
            is_playing: false,
            number: self.sessions_made,
            sent: Vec::new(),
        });
        self.view.sessions.len() - 1
    }

    pub(super) fn new_id(&mut self) -> String {
        self.sessions_made += 1;
        format!("M0CK{:04}", self.sessions_made)
    }

    pub(super) fn choose(
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
            ChannelPolicy::Own => (0..=127)
                .rev()
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
        let Some(index) = self.session(config, connection, request) else {
            return Response::new(454).into();
        };
        let path = self.view.sessions[index].camera.clone();
        let is_any = habits.latches_first || habits.one_source;
        if !config.is_of(&request.uri, &path) && !is_any {
            return Response::new(404).into();
        }
        self.view.sessions[index].is_playing = true;
        self.peers[connection].unplayed = None;
        let id = self.view.sessions[index].id.clone();
        let mut before = match habits.reports_before_play_answer {
            true => self.reports_of(config, index),
            false => Vec::new(),
        };
        before.extend(self.media_of(config, index, habits.before_play_answer));
        let info = self.rtp_info(config, index, &request.uri);
        let mut after = self.media_of(config, index, habits.after_play);
        if habits.one_consumer {
            return Answer {
                before,
                after,
                ..Response::new(200).header("Session", id).into()
            };
        }
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
                .header("Session", habits.session_header(&id))
                .header("Range", "npt=now-")
                .header("RTP-Info", info)
                .into()
        }
    }

    /// The URL alone, or where the numbers and times of each stream go on from here.
    fn rtp_info(&self, config: &Config, session: usize, uri: &str) -> String {
        let session = &self.view.sessions[session];
        let camera = config.camera_at(&session.camera);
        let Some(camera) = camera.filter(|_| !config.habits.sequence_begins.is_empty()) else {
            return format!("url={uri}");
        };
        let source = config.habits.source(session);
        let of_track = |(track, _): &(usize, (u8, u8))| {
            let sent = session.sent.get(*track).copied().unwrap_or_default();
            let control = &camera.tracks()[*track].control;
            let sequence = source.sequence.wrapping_add(sent as u16);
            let time = source.timestamp(camera.timestamp(*track, sent));
            let base = uri.trim_end_matches('/');
            format!("url={base}/{control};seq={sequence};rtptime={time}")
        };
        let tracks: Vec<_> = session.tracks.iter().map(of_track).collect();
        tracks.join(",")
    }

    fn teardown(&mut self, config: &Config, connection: usize, request: &Request) -> Answer {
        let Some(index) = self.session(config, connection, request) else {
            return Response::new(454).into();
        };
        let after = self.media_of(config, index, config.habits.after_teardown);
        self.unpublish(config, connection);
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
        self.resolve(config, connection, &request.uri);
        let session = self.session(config, connection, request);
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
                response.header("Session", config.habits.session_header(id))
            }
            None => response,
        }
    }
}

/// What xiu describes where nothing is published.
const NO_STREAM: &[u8] = b"v=0\r\no=\r\ns=\r\nc=\r\nt=\r\n";

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
