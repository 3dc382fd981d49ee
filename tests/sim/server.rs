//! The simulated servers: the mock server's state, fed by the network, and what is checked there.

use std::collections::{BTreeMap, VecDeque};

use crate::bytes::{frames_in, status_of};
use crate::network::{Crowd, Event, LONGEST_DELAY, Millis, Weather, World};
use crate::support::mock_server::{Ends, Engine, Family};
use crate::support::rtsp::{Incoming, Parser, Request};
use crate::tls::TlsIdentity;

/// How long a TEARDOWN waits for the answer to a DESCRIBE.
const TEARDOWN_TIMEOUT: Millis = 2_000;

/// Whether one gets through to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Up,
    /// Its machine says no.
    Refusing,
    /// No answer to a dial.
    Unreachable,
    /// Its name has no address.
    Unknown,
}

/// One server.
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) engine: Engine,
    pub(crate) family: Family,
    pub(crate) reach: Reach,
    /// One way.
    pub(crate) latency: Millis,
    /// Whose DESCRIBE takes how long.
    pub(crate) slow: Option<(String, Millis)>,
    /// Such a DESCRIBE takes up to so many milliseconds more, depending on camera and number.
    pub(crate) uneven: Option<(Millis, u64)>,
    /// What it announces.
    pub(crate) session_timeout: Millis,
    pub(crate) media_every: Millis,
    /// Some user shares there whatever the server can bear (`multiplex=always`).
    pub(crate) is_forced: bool,
    /// It has refused the TEARDOWN of a session, or denied that it has it, and the session goes on.
    pub(crate) keeps_sessions: bool,
    /// Rules may swallow what the client did right.
    pub(crate) has_rules: bool,
    /// How long sessions have been kept apart.
    pub(crate) apart_since: Option<Millis>,
    /// Requests that it answered, where that is written down: when, and the method.
    pub(crate) asked: Option<Vec<(Millis, String)>>,
    /// How many connections it takes, and what becomes of others.
    pub(crate) crowd: Option<(usize, Crowd)>,
    /// It handles what comes behind an unanswered DESCRIBE inside of that (live555).
    pub(crate) is_reentrant: bool,
    /// It speaks TLS, and shows this to those that connect.
    pub(crate) tls: Option<TlsIdentity>,
    is_ticking: bool,
    desks: BTreeMap<usize, Desk>,
    /// By connection and session id.
    pub(crate) grants: BTreeMap<(usize, String), Grant>,
    /// Authorised requests that were refused.
    refusals: VecDeque<Millis>,
}

/// What the server works on for one connection.
#[derive(Default)]
struct Desk {
    parser: Parser,
    queue: VecDeque<Task>,
    current: Option<(Millis, Request)>,
    busy_until: Millis,
    describes: Vec<Describe>,
}

/// A DESCRIBE of the client.
#[derive(Debug)]
struct Describe {
    cseq: String,
    arrived: Millis,
    /// When the whole answer is with the client.
    answered: Option<Millis>,
}

impl Desk {
    /// Requests of a session that have come and are not answered.
    fn requests_of(&self, id: &str) -> impl Iterator<Item = &Request> {
        let requests = self.queue.iter().filter_map(|task| match task {
            Task::Request(_, request) => Some(request),
            _ => None,
        });
        let current = self.current.iter().map(|(_, request)| request);
        current
            .chain(requests)
            .filter(move |request| request.headers.value("Session") == Some(id))
    }

    /// It is asked something while it works on a DESCRIBE.
    fn is_describing(&self) -> bool {
        let is_describe = |(_, request): &(Millis, Request)| request.method == "DESCRIBE";
        self.current.as_ref().is_some_and(is_describe)
    }

    fn note_describe(&mut self, now: Millis, request: &Request) {
        if request.method == "DESCRIBE" {
            self.describes.push(Describe {
                cseq: request.headers.value("CSeq").unwrap_or_default().to_owned(),
                arrived: now,
                answered: None,
            });
        }
    }

    fn note_answer(&mut self, arrives: Millis, request: &Request) {
        let cseq = request.headers.value("CSeq").unwrap_or_default();
        let mut describes = self.describes.iter_mut();
        if let Some(describe) = describes.find(|describe| describe.cseq == cseq) {
            describe.answered = Some(arrives);
        }
    }

    /// Whether a TEARDOWN has come that the server has not got to.
    fn has_goodbye_of(&self, id: &str) -> bool {
        self.requests_of(id).any(|r| r.method == "TEARDOWN")
    }
}

/// What a connection has brought.
enum Task {
    /// A request, and when it came.
    Request(Millis, Request),
    Message(Incoming),
    /// It came with another one, and is lost.
    Lost(Request),
}

/// A session that the server has made.
#[derive(Debug)]
pub(crate) struct Grant {
    /// The answer is with the client.
    arrives: Millis,
    last_request: Millis,
    teardowns: u32,
    /// The client was told that it is gone, or not told that it is there.
    is_lost: bool,
}

/// Families that bear several sessions and whose ids name sessions.
pub(crate) fn is_plain(family: Family) -> bool {
    matches!(
        family,
        Family::Gst
            | Family::Live555
            | Family::Hikvision
            | Family::Dahua
            | Family::OwnChannels
            | Family::NoInterleaved
            | Family::Axis
            | Family::Serial
            | Family::Tapo
            | Family::AtLimit(_)
    )
}

impl Server {
    pub(crate) fn new(host: &str, engine: Engine, family: Family, latency: Millis) -> Self {
        Self {
            host: host.to_owned(),
            engine,
            family,
            reach: Reach::Up,
            latency,
            slow: None,
            uneven: None,
            session_timeout: 60_000,
            media_every: 500,
            is_forced: false,
            keeps_sessions: false,
            has_rules: false,
            apart_since: None,
            asked: None,
            crowd: None,
            is_reentrant: false,
            tls: None,
            is_ticking: false,
            desks: BTreeMap::new(),
            grants: BTreeMap::new(),
            refusals: VecDeque::new(),
        }
    }

    pub(crate) fn accept(&mut self, wire: usize) -> usize {
        self.desks.insert(wire, Desk::default());
        self.engine.accept()
    }

    /// Reads nothing from a connection.
    pub(crate) fn ignore(&mut self, wire: usize) {
        self.desks.remove(&wire);
    }

    /// How long an answer is under way at most, while nothing is wrong.
    fn longest_way(&self, weather: Weather) -> Millis {
        match weather {
            Weather::Calm => self.latency,
            Weather::Rough | Weather::Stormy => self.latency + LONGEST_DELAY,
        }
    }

    fn work_for(&self, request: &Request) -> Millis {
        let work = u64::try_from(self.engine.service_time().as_millis()).unwrap_or_default();
        let more = self.uneven.map_or(0, |(most, number)| {
            let camera = request.uri.bytes().last().map_or(0, u64::from);
            number * 31 * camera % (most + 1)
        });
        match &self.slow {
            Some((path, time)) if request.method == "DESCRIBE" && request.uri.contains(path) => {
                work + time + more
            }
            _ => work,
        }
    }
}

impl World {
    /// Bytes of the client have come.
    pub(crate) fn arrive(&mut self, wire: usize, bytes: &[u8]) {
        let number = self.wires[wire].server;
        let server = &mut self.servers[number];
        let Some(desk) = server.desks.get_mut(&wire) else {
            return;
        };
        desk.parser.push(bytes);
        let is_describing = server.is_reentrant && desk.is_describing();
        let mut is_first = true;
        let mut nonsense = None;
        loop {
            match desk.parser.next() {
                Ok(None) => break,
                Ok(Some(Incoming::Request(request)))
                    if !is_first && server.engine.drops_pipelined() =>
                {
                    desk.note_describe(self.now, &request);
                    desk.queue.push_back(Task::Lost(request));
                }
                Ok(Some(Incoming::Request(request))) => {
                    is_first = false;
                    desk.note_describe(self.now, &request);
                    desk.queue.push_back(Task::Request(self.now, request));
                }
                Ok(Some(message)) => desk.queue.push_back(Task::Message(message)),
                Err(error) => {
                    nonsense = Some(error.to_string());
                    break;
                }
            }
        }
        if let Some(nonsense) = nonsense {
            self.violate(format!("wire {wire}: {nonsense}"));
        }
        if is_describing {
            self.violate(format!(
                "wire {wire}: a request behind an unanswered DESCRIBE"
            ));
        }
        self.work(wire);
    }

    /// The server goes on with what a connection has asked.
    pub(crate) fn work(&mut self, wire: usize) {
        let (number, peer) = (self.wires[wire].server, self.wires[wire].peer);
        loop {
            let now = self.now;
            let server = &mut self.servers[number];
            let Some(desk) = server.desks.get_mut(&wire) else {
                return;
            };
            if desk.current.is_some() && now < desk.busy_until {
                return;
            }
            if let Some((arrived, request)) = desk.current.take() {
                self.answer(wire, arrived, &request);
                continue;
            }
            match desk.queue.pop_front() {
                None => return,
                Some(Task::Lost(request)) => server.engine.lose(peer, &request),
                Some(Task::Message(Incoming::Frame(frame))) => {
                    self.coverage.hit("frame from client");
                    server.engine.frame(peer, frame.channel);
                    self.take_violations(wire);
                }
                Some(Task::Message(_)) => self.coverage.hit("server request answered"),
                Some(Task::Request(arrived, request)) => {
                    let work = server.work_for(&request);
                    if work == 0 {
                        self.answer(wire, arrived, &request);
                        continue;
                    }
                    if let Some(desk) = server.desks.get_mut(&wire) {
                        desk.current = Some((arrived, request));
                        desk.busy_until = now + work;
                    }
                    return self.at(now + work, Event::Work(wire));
                }
            }
        }
    }

    fn answer(&mut self, wire: usize, arrived: Millis, request: &Request) {
        let (number, peer) = (self.wires[wire].server, self.wires[wire].peer);
        self.before_answer(wire, arrived, request);
        let now = self.now;
        let server = &mut self.servers[number];
        if let Some(asked) = &mut server.asked {
            asked.push((now, request.method.clone()));
        }
        let outcome = server.engine.request(peer, request);
        let status = status_of(&outcome.bytes);
        let arrives = now + server.longest_way(self.weather);
        let made: Vec<String> = server
            .engine
            .sessions()
            .iter()
            .filter(|session| session.connection == peer)
            .map(|session| session.id.clone())
            .filter(|id| !server.grants.contains_key(&(peer, id.clone())))
            .collect();
        for id in made {
            let grant = Grant {
                arrives,
                last_request: now,
                teardowns: 0,
                is_lost: status != Some(200),
            };
            server.grants.insert((peer, id), grant);
        }
        let is_stale = outcome.bytes.windows(10).any(|w| w == b"stale=true");
        self.after_answer(wire, request, status.map(|status| (status, is_stale)));
        self.take_violations(wire);
        self.wires[wire].send_frames(now, frames_in(&outcome.bytes));
        self.send_to_client(wire, &outcome.bytes);
        // Nothing is sent to a client that has closed.
        let arrives = self.wires[wire].to_client.last.max(now);
        if let Some(desk) = self.servers[number].desks.get_mut(&wire)
            && !outcome.bytes.is_empty()
        {
            desk.note_answer(arrives, request);
        }
        match outcome.ends {
            Ends::Nothing => {}
            Ends::Writing => self.close_by_server(wire),
            Ends::Both => {
                self.close_by_server(wire);
                self.forget(wire);
            }
        }
        self.start_media(number);
    }

    /// What the client did wrong on `wire`.
    fn take_violations(&mut self, wire: usize) {
        // An answer that was changed on its way may have named other channels.
        let is_corrupted = self.wires[wire].is_corrupted;
        let number = self.wires[wire].server;
        for violation in self.servers[number].engine.take_violations() {
            if is_corrupted && violation.contains("never set up") {
                continue;
            }
            self.violate(format!("wire {wire}: {violation}"));
        }
    }

    fn before_answer(&mut self, wire: usize, arrived: Millis, request: &Request) {
        let (now, peer) = (self.now, self.wires[wire].peer);
        let server = &mut self.servers[self.wires[wire].server];
        let id = request.headers.value("Session").map(str::to_owned);
        if let Some(id) = &id {
            if let Some(grant) = server.grants.get_mut(&(peer, id.clone())) {
                grant.last_request = now;
            }
            if request.method == "GET_PARAMETER" || request.method == "OPTIONS" {
                self.coverage.hit("keep-alive");
            }
        }
        if request.method != "SETUP" || id.is_some() {
            return;
        }
        let sessions = server.engine.sessions().iter();
        let here: Vec<_> = sessions.filter(|s| s.connection == peer).collect();
        if here.is_empty() {
            return;
        }
        let is_canary = here.iter().any(|s| request.uri.contains(&s.camera));
        let is_late = here.iter().any(|s| s.is_playing);
        // What was under way, or waited for a free place, when the verdict came may still come: a
        // canary behind its DESCRIBE, and once more where that seems to have got lost.
        let slow = server.slow.as_ref().map_or(0, |(_, time)| *time);
        let grace = 2 * server.latency + 3_000 + if is_canary { slow } else { 0 };
        let is_apart = server
            .apart_since
            .is_some_and(|since| since + grace < arrived);
        self.coverage.hit(match (is_canary, is_late) {
            (true, _) => "canary",
            (_, true) => "second session beside one that plays",
            _ => "second session",
        });
        let is_judged = is_apart && !self.wires[wire].is_disturbed && !server.is_forced;
        if is_judged {
            self.violate(format!(
                "i11: wire {wire}: {} although sessions are kept apart",
                request.uri
            ));
        }
    }

    fn after_answer(&mut self, wire: usize, request: &Request, answer: Option<(u16, bool)>) {
        let (status, is_stale) = (
            answer.map(|(status, _)| status),
            answer.is_some_and(|a| a.1),
        );
        let (now, peer) = (self.now, self.wires[wire].peer);
        let is_misled = self.has_corrupted(self.wires[wire].server);
        let server = &mut self.servers[self.wires[wire].server];
        if let Some(status) = status.filter(|status| *status != 200) {
            self.coverage.hit(&format!("status {status}"));
        }
        // A nonce that has grown old is refused, too, and is no guess.
        if is_stale {
            self.coverage.hit("stale nonce");
        } else if status == Some(401) && request.headers.contains("Authorization") {
            self.coverage.hit("wrong password");
            server.refusals.push_back(now);
            server.refusals.retain(|at| at + 60_000 > now);
        }
        let is_corrupted = self.wires[wire].is_corrupted;
        // A refusal that was changed on its way reads like a success, for all connections; an answer to
        // a challenge that was is no guess.
        let is_guessing = server.refusals.len() > 2 && !is_misled;
        let id = request.headers.value("Session").unwrap_or_default();
        let grant = server.grants.get_mut(&(peer, id.to_owned()));
        let mut is_torn_down_again = false;
        if let Some(grant) = grant {
            grant.is_lost |= status == Some(454);
            let mut sessions = server.engine.sessions().iter();
            server.keeps_sessions |=
                status == Some(454) && sessions.any(|s| s.connection == peer && s.id == id);
            if request.method == "TEARDOWN" && status != Some(401) {
                grant.teardowns += 1;
                server.keeps_sessions |= status != Some(200);
                // An id that was changed on its way may read like that of a session that has left; it
                // is to be taken for one that comes again (Rockchip).
                let is_judged = is_plain(server.family) && !is_corrupted;
                is_torn_down_again = grant.teardowns > 1 && is_judged;
                self.coverage.hit("teardown");
            }
        }
        if is_torn_down_again {
            self.violate(format!("i5: wire {wire}: a second TEARDOWN of {id}"));
        }
        if is_guessing {
            self.violate("f22: more than two refusals of a password in a minute".to_owned());
        }
    }

    /// The client has closed a wire, and the server has heard of it.
    pub(crate) fn on_client_gone(&mut self, wire: usize) {
        let state = &self.wires[wire];
        let (peer, closed) = (state.peer, state.closed.unwrap_or(self.now));
        let server = &self.servers[state.server];
        let is_owed = is_plain(server.family) && !state.is_disturbed && !server.has_rules;
        let alive: Vec<String> = server
            .engine
            .sessions()
            .iter()
            .filter(|session| session.connection == peer)
            .filter(|session| !self.is_given_up(wire, closed, &session.id, &session.camera))
            .map(|session| session.id.clone())
            .collect();
        let said_goodbye = |id: &str| {
            let desk = server.desks.get(&wire);
            desk.is_some_and(|desk| desk.has_goodbye_of(id))
        };
        let is_left_behind = |id: &&String| {
            let grant = server.grants.get(&(peer, id.to_string()));
            grant.is_some_and(|grant| {
                !grant.is_lost
                    && grant.teardowns == 0
                    && grant.arrives < closed
                    && !said_goodbye(id)
            })
        };
        let left_behind: Vec<&String> = alive.iter().filter(is_left_behind).collect();
        if !left_behind.is_empty() {
            let what = format!("i5: wire {wire}: closed without TEARDOWN of {left_behind:?}");
            match is_owed {
                true => self.violate(what),
                false => self.coverage.hit("sessions left behind"),
            }
        }
        self.forget(wire);
    }

    /// Whether the client may close a wire without the TEARDOWN of a session: a DESCRIBE was unanswered
    /// there, from before the session left until the end, and for longer than a TEARDOWN waits.
    fn is_given_up(&self, wire: usize, closed: Millis, id: &str, path: &str) -> bool {
        let state = &self.wires[wire];
        let server = &self.servers[state.server];
        let Some(desk) = server.desks.get(&wire) else {
            return false;
        };
        let waited_in_vain = |left: Millis| {
            let is_unanswered = |describe: &Describe| {
                // It was written a while before it came.
                describe.arrived <= left + server.longest_way(self.weather)
                    && describe.answered.is_none_or(|at| at >= closed)
            };
            left + TEARDOWN_TIMEOUT <= closed && desk.describes.iter().any(is_unanswered)
        };
        // Of several sessions of a camera the log does not tell which one is meant.
        let departures = &mut self.heard().departures;
        let left = departures.of(state.connection, id, path);
        // Answers in order: anything may follow its DESCRIBE.
        server.family != Family::Gst && left.into_iter().any(|at| waited_in_vain(self.millis(at)))
    }

    /// The server has done with a wire.
    pub(crate) fn forget(&mut self, wire: usize) {
        let state = &mut self.wires[wire];
        if std::mem::replace(&mut state.is_forgotten, true) {
            return;
        }
        let (server, peer) = (&mut self.servers[state.server], state.peer);
        server.desks.remove(&wire);
        server
            .grants
            .retain(|(connection, _), _| *connection != peer);
        server.engine.close(peer);
    }

    fn start_media(&mut self, number: usize) {
        let server = &mut self.servers[number];
        let plays = server.engine.sessions().iter().any(|s| s.is_playing);
        if plays && !std::mem::replace(&mut server.is_ticking, true) {
            let at = self.now + server.media_every;
            self.at(at, Event::Media(number));
        }
    }

    /// One packet of every stream that plays; and a look at what has expired.
    pub(crate) fn send_media(&mut self, number: usize) {
        self.expire_sessions(number);
        let wires: Vec<usize> = self.servers[number].desks.keys().copied().collect();
        for wire in wires {
            let (peer, server) = (self.wires[wire].peer, &mut self.servers[number]);
            let bytes = server.engine.media(peer);
            self.wires[wire].send_frames(self.now, frames_in(&bytes));
            self.send_to_client(wire, &bytes);
        }
        let server = &mut self.servers[number];
        server.is_ticking = !server.engine.sessions().is_empty() || server.engine.is_haunted();
        if server.is_ticking {
            let at = self.now + server.media_every;
            self.at(at, Event::Media(number));
        }
    }

    /// All sessions of a connection expire.
    pub(crate) fn expire_all(&mut self, wire: usize) {
        let (number, peer) = (self.wires[wire].server, self.wires[wire].peer);
        let engine = &mut self.servers[number].engine;
        let sessions = engine.sessions().iter();
        let ids: Vec<String> = sessions
            .filter(|session| session.connection == peer)
            .map(|session| session.id.clone())
            .collect();
        for id in ids {
            engine.expire(peer, &id);
        }
    }

    /// Servers were seen to be impatient.
    fn expire_sessions(&mut self, number: usize) {
        let now = self.now;
        let server = &self.servers[number];
        let patience = server.session_timeout * 8 / 10;
        let expired: Vec<(usize, String)> = server
            .grants
            .iter()
            .filter(|(_, grant)| grant.last_request + patience < now)
            .filter(|((peer, id), _)| {
                let sessions = server.engine.sessions();
                sessions
                    .iter()
                    .any(|s| s.connection == *peer && s.id == *id)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for (peer, id) in expired {
            let of_peer = |w: &crate::wire::WireState| w.server == number && w.peer == peer;
            let wire = self.wires.iter().position(of_peer);
            let disturbed = wire.is_none_or(|number| {
                let wire = &self.wires[number];
                wire.is_disturbed || wire.closed.is_some()
            });
            // A session that leaves is not kept alive.
            let desk = wire.and_then(|wire| self.servers[number].desks.get(&wire));
            let is_leaving = desk.is_some_and(|desk| desk.has_goodbye_of(&id));
            self.coverage.hit("session expired");
            let server = &mut self.servers[number];
            server.engine.expire(peer, &id);
            let is_excused =
                disturbed || is_leaving || server.has_rules || !is_plain(server.family);
            if !is_excused {
                self.violate(format!("i12: {id} on connection {peer} has expired"));
            }
        }
    }
}
