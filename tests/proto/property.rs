//! Random schedules: an application that makes any request at any time; a server that answers late,
//! out of order, with errors or not at all; stray bytes, splits and sudden ends. After every step
//! the invariants of the core are checked.
//!
//! A schedule depends on its seed alone. To replay one and print its steps: `RTSPMUX_SEED=123 cargo
//! test --test proto random_schedules -- --nocapture`. For more of them:
//! `RTSPMUX_SCHEDULES=100000`.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use gstrtspmux::mux::proto::{
    CloseReason, CredentialReport, CredentialStatus, Event, FailureKind, Permit, PlayRange,
    Profile, RefusalVerdict, Reply, Retirement, SessionKey, SessionRequest, SharingViolation,
    SourcePolicy,
};
use url::Url;

use crate::sim::{Sim, config, config_with, media};
use crate::support::rtsp::{Incoming, Request, Response};

const SCHEDULES: u64 = 3000;
const STEPS: u64 = 120;
/// The id that firmware which knows only one gives to every session.
const CONSTANT_ID: &str = "id0";
const CHALLENGE: &str = r#"Digest realm="cam", nonce="NONCE", qop="auth""#;

/// xorshift64*: enough to choose by, and the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        // Neighbouring seeds must not begin alike, and none may be zero.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % limit).unwrap_or_default()
    }

    /// True once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }
}

/// What the application knows about one of its sessions.
#[derive(Debug, Default)]
struct Camera {
    number: u32,
    is_released: bool,
    closed: usize,
    /// The RTP channels granted to it.
    granted: BTreeSet<u8>,
    /// Session ids that it got while the connection was open.
    ids: BTreeSet<String>,
}

struct World {
    random: Random,
    sim: Sim,
    is_told: bool,
    cameras: BTreeMap<SessionKey, Camera>,
    /// Requests that the server has read and not answered.
    pending: Vec<Request>,
    next_id: u32,
    nonce: u32,
    /// The session to whose URL the server gave each id.
    given: BTreeMap<String, u32>,
    teardowns: BTreeMap<String, usize>,
    last_authorized: BTreeMap<String, u32>,
    is_tainted: bool,
    /// Bytes of the server that were held back from the last read.
    held_back: Vec<u8>,
    /// The server ignores requests that would add a session, or answers them late, and answers
    /// OPTIONS at once.
    ignores: bool,
    has_garbage: bool,
    has_credentials: bool,
    was_idle: bool,
    /// At the end a DESCRIBE was unanswered, after which no TEARDOWN may be sent.
    was_describing: bool,
    is_closing: bool,
    lost: BTreeSet<SessionKey>,
    /// Kinds of events.
    seen: BTreeSet<&'static str>,
}

impl World {
    fn new(seed: u64, is_told: bool) -> Self {
        let mut random = Random::new(seed);
        let kind = random.below(3);
        let ignores = random.once_in(4);
        let config = match kind {
            0 => config(),
            1 => config_with("u", "p", CredentialStatus::Proven(None)),
            _ => {
                let is_exclusive = random.once_in(2);
                config_with("u", "p", CredentialStatus::Unproven { is_exclusive })
            }
        };
        Self {
            random,
            sim: Sim::new(config),
            is_told,
            cameras: BTreeMap::new(),
            pending: Vec::new(),
            next_id: 0,
            nonce: 0,
            given: BTreeMap::new(),
            teardowns: BTreeMap::new(),
            last_authorized: BTreeMap::new(),
            is_tainted: false,
            held_back: Vec::new(),
            ignores,
            has_garbage: false,
            has_credentials: kind > 0,
            was_idle: false,
            was_describing: false,
            is_closing: false,
            lost: BTreeSet::new(),
            seen: BTreeSet::new(),
        }
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:>10.3?} {}", self.sim.elapsed(), what());
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            match self.random.below(10) {
                0..4 => self.act(),
                4..9 => self.serve(),
                _ => self.pass_time(),
            }
            self.observe();
            self.check();
            if self.sim.close_reason().is_some() && self.random.once_in(4) {
                break;
            }
        }
        self.end();
    }
}

/// The application.
impl World {
    fn act(&mut self) {
        if self.random.once_in(12) {
            return self.act_on_connection();
        }
        let open: Vec<SessionKey> = self.cameras.keys().copied().collect();
        let session = self.random.pick(&open);
        match session.filter(|_| !self.random.once_in(6)) {
            Some(session) => self.act_on_session(session),
            None => self.open(),
        }
    }

    fn open(&mut self) {
        let number = u32::try_from(self.cameras.len()).unwrap_or(u32::MAX);
        if let Ok(session) = self.sim.try_open(&format!("rtsp://nvr/{number}")) {
            self.tell(|| format!("open {session}"));
            let camera = Camera {
                number,
                ..Camera::default()
            };
            self.cameras.insert(session, camera);
        }
    }

    fn act_on_connection(&mut self) {
        let choice = self.random.below(8);
        self.tell(|| format!("on the connection: {choice}"));
        let idle = [0, 1, 60].map(Duration::from_secs);
        match choice {
            0 => {
                self.is_closing = true;
                self.close_connection();
            }
            1..4 => {
                self.was_idle = true;
                let timeout = self.random.pick(&idle);
                self.sim.set_idle(timeout);
            }
            4..7 => self.sim.set_idle(None),
            _ if self.random.once_in(2) => {
                let status = CredentialStatus::Unproven { is_exclusive: true };
                self.sim.set_credentials(status);
            }
            _ => self.sim.set_credentials(CredentialStatus::Proven(None)),
        }
    }

    fn act_on_session(&mut self, session: SessionKey) {
        let Some(number) = self.cameras.get(&session).map(|camera| camera.number) else {
            return;
        };
        let url = |rest: &str| Url::parse(&format!("rtsp://nvr/{number}{rest}")).expect("a URL");
        let choice = self.random.below(20);
        self.tell(|| format!("{session}: {choice}"));
        let request = match choice {
            0..3 => SessionRequest::Describe,
            3..10 => {
                let stream = self.random.below(3);
                SessionRequest::Setup {
                    stream,
                    control: url(&format!("/track{stream}")),
                    profile: Profile::Avp,
                    payload_types: vec![96],
                    sources: SourcePolicy::default(),
                }
            }
            10..14 => SessionRequest::Play {
                aggregate: url("/"),
                range: PlayRange::Start,
            },
            14 => SessionRequest::Pause,
            15 => {
                self.leave(session);
                SessionRequest::Teardown
            }
            16 | 17 => {
                self.leave(session);
                return self.sim.release(session);
            }
            _ => {
                let report = [0x80, 0xc9, 0, 1, 0, 0, 0, 9];
                self.sim.send_rtcp(session, 0, &report);
                return;
            }
        };
        self.sim.request(session, request);
    }

    fn leave(&mut self, session: SessionKey) {
        let is_open = self.sim.close_reason().is_none();
        if let Some(camera) = self.cameras.get_mut(&session) {
            camera.is_released |= is_open;
        }
    }

    fn pass_time(&mut self) {
        let time = match self.random.below(8) {
            0..4 => Duration::from_millis(self.random.next() % 300),
            4..7 => Duration::from_millis(self.random.next() % 6000),
            _ => Duration::from_millis(self.random.next() % 70_000),
        };
        self.tell(|| format!("{time:?} pass"));
        self.sim.advance(time);
    }
}

/// The server.
impl World {
    fn serve(&mut self) {
        if self.sim.close_reason().is_some() {
            return;
        }
        match self.random.below(60) {
            0 => self.sim.eof(),
            1 => self.sim.reset(),
            2 => self.send_garbage(),
            3..6 => self.ask(),
            6..20 => {
                let channel = u8::try_from(self.random.below(12)).unwrap_or_default();
                // The SSRC encodes the channel, so that the session that gets the packet can be
                // checked.
                let source = u32::from(channel) + 256 * u32::from(self.random.once_in(2));
                self.send(&media(channel, source));
            }
            20..24 => drop(self.take_pending()),
            _ => self.answer_one(),
        }
    }

    /// Mostly in order.
    fn take_pending(&mut self) -> Option<Request> {
        if self.pending.is_empty() {
            return None;
        }
        if self.ignores && !self.random.once_in(6) {
            let adds_session = |request: &Request| {
                matches!(request.method.as_str(), "DESCRIBE" | "SETUP")
                    && !request.headers.contains("Session")
            };
            let at = self.pending.iter().position(|next| !adds_session(next));
            return at.map(|at| self.pending.remove(at));
        }
        let at = match self.random.once_in(5) {
            true => self.random.below(self.pending.len()),
            false => 0,
        };
        Some(self.pending.remove(at))
    }

    fn answer_one(&mut self) {
        let Some(request) = self.take_pending() else {
            return;
        };
        let status = match self.random.below(12) {
            0 => self
                .random
                .pick(&[302, 400, 404, 451, 453, 454, 461, 500, 503]),
            1 => Some(100),
            2 if request.headers.contains("Authorization") && self.random.once_in(2) => Some(200),
            2 => Some(401),
            _ => Some(200),
        };
        let status = status.unwrap_or(200);
        let mut answer = Response::new(status);
        match request.headers.cseq() {
            Some(_) if self.random.once_in(40) => {}
            // Not to SETUP: an id under a wrong number would belong to another session.
            Some(cseq) if request.method != "SETUP" && self.random.once_in(30) => {
                answer = answer.header("CSeq", (cseq + 1).to_string());
            }
            Some(cseq) => answer = answer.header("CSeq", cseq.to_string()),
            None => {}
        }
        answer = self.with_content(answer, &request);
        if status == 100 {
            self.pending.insert(0, request);
        }
        self.send(&answer.to_bytes());
    }

    fn with_content(&mut self, mut answer: Response, request: &Request) -> Response {
        if answer.status == 401 {
            self.nonce += u32::from(self.random.once_in(3));
            let challenge = CHALLENGE.replace("NONCE", &format!("n{}", self.nonce));
            return answer.header("WWW-Authenticate", challenge);
        }
        if answer.status != 200 || request.method != "SETUP" {
            return answer;
        }
        let id = match request.headers.value("Session") {
            Some(id) => id.to_owned(),
            None if self.random.once_in(30) => CONSTANT_ID.to_owned(),
            None => {
                self.next_id += 1;
                format!("id{}", self.next_id)
            }
        };
        answer = answer.header("Session", format!("{id};timeout=30"));
        match self.random.below(8) {
            0 => {}
            1 => {
                let channel = 2 * self.random.below(6);
                let other = format!("RTP/AVP/TCP;unicast;interleaved={channel}-{}", channel + 1);
                answer = answer.header("Transport", other);
            }
            _ => {
                let asked = request.headers.value("Transport").unwrap_or_default();
                answer = answer.header("Transport", asked);
            }
        }
        answer
    }

    fn ask(&mut self) {
        let ids: Vec<u32> = (0..=self.next_id).collect();
        let id = self.random.pick(&ids).unwrap_or_default();
        let methods = ["OPTIONS", "GET_PARAMETER", "TEARDOWN", "ANNOUNCE", "PLAY"];
        let method = self.random.pick(&methods).unwrap_or("OPTIONS");
        let request = Request::new(method, "rtsp://nvr/")
            .header("CSeq", "9")
            .header("Session", format!("id{id}"));
        self.send(&request.to_bytes());
    }

    fn send_garbage(&mut self) {
        self.has_garbage = true;
        let length = self.random.below(40);
        let garbage: Vec<u8> = (0..length)
            .map(|_| u8::try_from(self.random.next() % 256).unwrap_or_default())
            .collect();
        self.send(&garbage);
    }

    /// Sends all of it, or only a part now; the rest comes before the next bytes.
    fn send(&mut self, bytes: &[u8]) {
        self.tell(|| format!("server: {}", bytes.escape_ascii()));
        self.held_back.extend_from_slice(bytes);
        let length = match self.random.once_in(4) {
            true => self.random.below(self.held_back.len() + 1),
            false => self.held_back.len(),
        };
        let now: Vec<u8> = self.held_back.drain(..length).collect();
        self.sim.receive(&now);
    }
}

/// The outputs, and their invariants.
impl World {
    fn close_connection(&mut self) {
        self.was_describing |= self.sim.connection.backlog().describes > 0;
        self.sim.close();
    }

    fn observe(&mut self) {
        while let Some(sent) = self.sim.next_sent() {
            self.tell(|| format!("client: {}", sent.summary()));
            match sent {
                Incoming::Request(request) => self.on_request(request),
                Incoming::Frame(frame) => self.check_owner(frame.channel - 1),
                Incoming::Response(_) => {}
            }
        }
        while let Some(event) = self.sim.next_event() {
            self.tell(|| format!("event: {event:?}"));
            self.on_event(event);
        }
    }

    /// Reports are sent only on channels whose owner is not released.
    fn check_owner(&self, channel: u8) {
        let owns = |camera: &Camera| !camera.is_released && camera.granted.contains(&channel);
        assert!(self.cameras.values().any(owns), "{channel} has no owner");
    }

    fn on_request(&mut self, request: Request) {
        let id = request.headers.value("Session");
        if let Some(id) = id.filter(|id| *id != CONSTANT_ID) {
            let torn_down = self.teardowns.contains_key(id);
            let is_teardown = request.method == "TEARDOWN";
            assert!(is_teardown || !torn_down, "{id} is addressed after its end");
            assert!(
                !(is_teardown && self.is_tainted),
                "TEARDOWN on a tainted connection"
            );
            // A TEARDOWN is sent again only for a 401.
            if is_teardown && !self.has_credentials {
                let sent = self.teardowns.entry(id.to_owned()).or_default();
                *sent += 1;
                assert_eq!(*sent, 1, "{id} is torn down again");
            } else if is_teardown {
                self.teardowns.insert(id.to_owned(), 1);
            }
        }
        self.check_nonce_count(&request);
        self.pending.push(request);
    }

    fn check_nonce_count(&mut self, request: &Request) {
        let Some(value) = request.headers.value("Authorization") else {
            return;
        };
        let field = |name: &str| {
            let (_, rest) = value.split_once(name).expect("a field of the digest");
            rest.split([',', '"']).next().unwrap_or_default().to_owned()
        };
        let count = u32::from_str_radix(&field("nc="), 16).expect("a nonce count");
        let last = self.last_authorized.entry(field("nonce=\"")).or_default();
        *last += 1;
        assert_eq!(count, *last, "the nonce count rises by one in wire order");
    }

    fn on_event(&mut self, event: Event) {
        self.seen.insert(kind_of(&event));
        match event {
            Event::Packet(packet) | Event::HeldPacket { packet, .. } => {
                let camera = self.cameras.get(&packet.session).expect("a known session");
                assert!(!camera.is_released, "a packet for a released session");
                let channel = packet.payload.get(11).copied().unwrap_or_default();
                let is_owner = self.has_garbage || camera.granted.contains(&channel);
                assert!(is_owner, "{} does not own {channel}", packet.session);
            }
            Event::Completed {
                session,
                result: Ok(Reply::SetUp(grant)),
                ..
            } => self.on_grant(session, &grant.session_id, grant.rtp_channel),
            Event::SessionClosed(session) => {
                let camera = self.cameras.get_mut(&session).expect("a known session");
                camera.closed += 1;
                camera.granted.clear();
                assert!(
                    camera.is_released || self.is_closing,
                    "{session} was not released"
                );
                assert_eq!(camera.closed, 1, "{session} closed twice");
            }
            Event::NoMoreSessions(Retirement::CannotShare(SharingViolation::SameChannels)) => {
                self.is_tainted = true;
            }
            Event::SessionLost { session, .. } => {
                self.lost.insert(session);
            }
            Event::Credentials(report) => self.on_report(report),
            _ => {}
        }
    }

    fn on_report(&mut self, report: CredentialReport) {
        match report {
            // Sometimes not at once: the request that needs the permit may be withdrawn first.
            CredentialReport::Wanted(_) if self.random.once_in(4) => {}
            CredentialReport::Wanted(_) if self.random.once_in(8) => {
                let until = self.sim.now() + Duration::from_secs(60);
                self.sim.set_credentials(CredentialStatus::Refused {
                    until,
                    was_refused: true,
                });
            }
            CredentialReport::Wanted(wants) => {
                let uri = self.random.pick(&wants).expect("a want").uri;
                self.sim
                    .set_credentials(CredentialStatus::Permitted(Permit {
                        uri,
                        below: None,
                        ceiling: None,
                        closes_behind_401: false,
                    }));
            }
            CredentialReport::Proven(_) if self.random.once_in(2) => {
                self.sim.set_credentials(CredentialStatus::Proven(None));
            }
            CredentialReport::Refused(_) => {
                let verdicts = [
                    RefusalVerdict::Refused { try_weaker: false },
                    RefusalVerdict::Refused { try_weaker: true },
                    RefusalVerdict::Excused,
                ];
                let verdict = self.random.pick(&verdicts);
                self.sim.judge(verdict.expect("a verdict"));
            }
            _ => {}
        }
    }

    fn on_grant(&mut self, session: SessionKey, id: &str, channel: u8) {
        let number = self.cameras.get(&session).map_or(0, |camera| camera.number);
        let owner = self.given.entry(id.to_owned()).or_insert(number);
        let is_own = *owner == number;
        let mut lost = self.lost.iter().filter_map(|key| self.cameras.get(key));
        let is_lost = lost.any(|camera| camera.number == *owner);
        let is_reused = is_lost || self.lost.contains(&session) || self.teardowns.contains_key(id);
        assert!(
            is_own || is_reused || id == CONSTANT_ID,
            "{id} is {owner}'s, not {session}'s"
        );
        *owner = number;
        for (other, camera) in &mut self.cameras {
            let is_shared = *other != session && camera.granted.contains(&channel);
            assert!(!is_shared, "{other} and {session} share channel {channel}");
            if *other == session {
                camera.granted.insert(channel);
                camera.ids.insert(id.to_owned());
            }
        }
    }

    fn check(&mut self) {
        let is_open = self.sim.close_reason().is_none();
        if !is_open {
            assert_eq!(
                self.sim.unfinished(),
                0,
                "requests outlive their connection"
            );
            assert_eq!(self.sim.deadline(), None, "a deadline after the end");
            for (session, camera) in &self.cameras {
                let expected = usize::from(camera.is_released);
                assert!(camera.closed >= expected, "{session} was not closed");
            }
        }
        for camera in self
            .cameras
            .values_mut()
            .filter(|camera| camera.is_released)
        {
            camera.granted.clear();
        }
    }

    /// Releases all sessions, and the server answers all requests.
    fn end(&mut self) {
        self.tell(|| "the end".to_owned());
        let all: Vec<SessionKey> = self.cameras.keys().copied().collect();
        for session in all {
            self.leave(session);
            self.sim.release(session);
        }
        self.observe();
        self.is_closing = true;
        self.close_connection();
        self.observe();
        self.check();
        self.sim.advance(Duration::from_secs(2));
        self.observe();
        assert!(self.sim.close_reason().is_some(), "close() did not end it");
        self.check();
        self.check_teardowns();
    }

    /// Each granted id was torn down, unless the connection died, nothing may be sent on it any
    /// more, or an answer was missing that the TEARDOWN had to wait for.
    fn check_teardowns(&self) {
        let has_died = self.sim.close_reason() != Some(&CloseReason::Local);
        let has_to_wait = self.was_idle || self.was_describing;
        if has_died || self.is_tainted || self.has_credentials || has_to_wait {
            return;
        }
        for (session, camera) in &self.cameras {
            let mut owed = camera.ids.iter().filter(|id| *id != CONSTANT_ID);
            let is_due = |id: &&String| !self.teardowns.contains_key(*id);
            if let Some(id) = owed.find(is_due).filter(|_| !self.lost.contains(session)) {
                panic!("{id} was never torn down");
            }
        }
    }
}

fn kind_of(event: &Event) -> &'static str {
    match event {
        Event::Packet(_) | Event::HeldPacket { .. } => "packet",
        Event::Completed { result: Ok(_), .. } => "success",
        Event::Completed {
            result: Err(failure),
            ..
        } if failure.kind == FailureKind::Ignored => "ignored",
        Event::Completed { result: Err(_), .. } => "failure",
        Event::SessionLost { .. } => "session lost",
        Event::Redirected { .. } => "redirected",
        Event::SessionClosed(_) => "session closed",
        Event::Credentials(report) => match report {
            CredentialReport::Wanted(_) => "credentials wanted",
            CredentialReport::Tried(_) => "credentials tried",
            CredentialReport::Proven(_) => "credentials proven",
            CredentialReport::NotAsked => "credentials not asked for",
            CredentialReport::Returned(_) => "permit returned",
            CredentialReport::Refused(_) => "credentials refused",
            CredentialReport::Challenged { .. } => "challenged",
            CredentialReport::Left(_) => "challenge left",
        },
        Event::NoMoreSessions(_) => "no more sessions",
        Event::Probed(_) => "probed",
        Event::BeforeSend { .. } => "before send",
        Event::ServerRequest { .. } => "server request",
        Event::IdleExpired => "idle expired",
        Event::Closed(_) => "closed",
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn random_schedules_keep_the_invariants() {
    if let Some(seed) = number_from("RTSPMUX_SEED") {
        return World::new(seed, true).run();
    }
    let mut seen = BTreeSet::new();
    for seed in 0..number_from("RTSPMUX_SCHEDULES").unwrap_or(SCHEDULES) {
        let mut world = World::new(seed, false);
        let run = catch_unwind(AssertUnwindSafe(|| world.run()));
        assert!(run.is_ok(), "play it again with RTSPMUX_SEED={seed}");
        seen.append(&mut world.seen);
    }
    assert_eq!(seen.len(), 17, "only these events ever came: {seen:?}");
}

#[test]
fn the_same_seed_gives_the_same_schedule() {
    let trace = |seed| {
        let mut world = World::new(seed, false);
        world.run();
        (world.sim.elapsed(), world.sim.connection.counters())
    };
    for seed in 0..20 {
        assert_eq!(trace(seed), trace(seed));
    }
}
