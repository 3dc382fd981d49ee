//! Plays a transcript to the core: feeds it the application's and the server's lines, and compares
//! its output with the client's lines and the expectations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use gstrtspmux::mux::proto::{
    CloseReason, ConnectionConfig, CredentialReport, CredentialStatus, CredentialWant, Event,
    Failure, FailureKind, Limits, ParameterRequest, Permit, PermitReturn, PlayRange, Presentation,
    Profile, RefusalVerdict, Reply, RequestId, SessionKey, SessionRequest, SourcePolicy, Tag,
    wire::{sdp, uri},
};
use url::Url;

use crate::sim::{Sim, config, config_with};
use crate::support::rtsp::Incoming;
use crate::support::transcript::{
    Expect, ExpectedFrame, ExpectedMessage, ExpectedStart, Step, Transcript, word_bytes,
};

/// How the bytes between two steps of the client arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Each line of the transcript in one read.
    Whole,
    /// One byte a read.
    ByteByByte,
    /// Each line in two reads; the first read has so many bytes.
    SplitAt(usize),
    /// All consecutive lines in one read.
    Glued,
    /// The same, split into two reads.
    GluedSplitAt(usize),
}

impl Arrival {
    fn is_glued(self) -> bool {
        matches!(self, Self::Glued | Self::GluedSplitAt(_))
    }

    fn reads(self, bytes: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Whole | Self::Glued => vec![bytes],
            Self::ByteByByte => bytes.chunks(1).collect(),
            Self::SplitAt(at) | Self::GluedSplitAt(at) => match bytes.split_at_checked(at) {
                Some((first, second)) => vec![first, second],
                None => vec![bytes],
            },
        }
    }
}

/// Plays a transcript in every way its bytes can arrive.
///
/// # Panics
/// With file and line, where the core differs from the transcript.
pub(crate) fn play_in_every_way(transcript: &Transcript) {
    let (line, run) = longest(transcript);
    let ways = [Arrival::Whole, Arrival::ByteByByte, Arrival::Glued]
        .into_iter()
        .chain((1..line).map(Arrival::SplitAt))
        .chain((1..run).map(Arrival::GluedSplitAt));
    ways.for_each(|arrival| play(transcript, arrival));
}

/// The longest line of the server, and the longest run of such lines, in bytes.
fn longest(transcript: &Transcript) -> (usize, usize) {
    let (mut line, mut run, mut longest_run) = (0, 0, 0);
    for step in &transcript.steps {
        match step {
            Step::ServerBytes { bytes, .. } => {
                line = line.max(bytes.len());
                run += bytes.len();
                longest_run = longest_run.max(run);
            }
            _ => run = 0,
        }
    }
    (line, longest_run)
}

/// Plays a transcript once.
///
/// # Panics
/// With file and line, where the core differs from the transcript.
pub(crate) fn play(transcript: &Transcript, arrival: Arrival) {
    let mut player = Player::new(transcript);
    let mut steps = transcript.steps.iter().peekable();
    while let Some(step) = steps.next() {
        let mut run = vec![step];
        // Consecutive requests of the application go into one write.
        let has_more = is_action(step) && steps.peek().is_some_and(|next| is_action(next));
        player.hold(has_more);
        if arrival.is_glued() && is_bytes(step) {
            while let Some(next) = steps.next_if(|step| is_bytes(step)) {
                run.push(next);
            }
        }
        let played = player
            .play(&run, arrival)
            .and_then(|()| match steps.peek() {
                Some(Step::Expect { .. }) => Ok(()),
                Some(step) => player.check_quiet(step),
                None => player.check_end(),
            });
        if let Err((line, what)) = played {
            let at = transcript.at(line);
            panic!("{at}: {what}\n  ({}; {arrival:?})", transcript.intent);
        }
    }
}

fn is_bytes(step: &Step) -> bool {
    matches!(step, Step::ServerBytes { .. })
}

fn is_action(step: &Step) -> bool {
    matches!(step, Step::Action { .. })
}

/// A line, and what is wrong there.
type Played = Result<(), (usize, String)>;

/// One event that the application sees.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    session: Option<u32>,
    what: &'static str,
    fields: BTreeMap<&'static str, String>,
    payload: Option<Bytes>,
}

impl Seen {
    fn new(session: Option<u32>, what: &'static str) -> Self {
        Self {
            session,
            what,
            fields: BTreeMap::new(),
            payload: None,
        }
    }

    fn with(mut self, key: &'static str, value: impl ToString) -> Self {
        self.fields.insert(key, value.to_string());
        self
    }

    fn is(&self, expect: &Expect) -> bool {
        let has = |(key, value): (&String, &String)| self.fields.get(key.as_str()) == Some(value);
        self.what == expect.what && self.session == expect.label && expect.fields.iter().all(has)
    }

    /// Events that a transcript need not mention.
    fn is_incidental(&self) -> bool {
        matches!(self.what, "released" | "no-more-sessions")
    }
}

/// A session of the application.
#[derive(Debug)]
struct Camera {
    key: SessionKey,
    url: Url,
    presentation: Option<Presentation>,
    step: Option<ApplicationStep>,
    has_left: bool,
}

/// The request whose result a session of the application waits for.
#[derive(Debug)]
struct ApplicationStep {
    requests: BTreeSet<RequestId>,
    failure: Option<Failure>,
}

struct Player {
    sim: Option<Sim>,
    cameras: BTreeMap<u32, Camera>,
    seen: Vec<Seen>,
    /// How often each session was reported as over.
    released: BTreeMap<u32, usize>,
    /// Configuration for the connection that the first `open` makes.
    config: ConnectionConfig,
    /// The last question for a permit.
    wants: Vec<CredentialWant>,
    /// Questions for a permit are granted at once.
    is_permitting: bool,
    /// Refusals are confirmed at once.
    is_judging: bool,
}

impl Player {
    fn new(transcript: &Transcript) -> Self {
        Self {
            sim: None,
            cameras: BTreeMap::new(),
            seen: Vec::new(),
            released: BTreeMap::new(),
            config: configuration(transcript),
            wants: Vec::new(),
            is_permitting: is_told(transcript, |words| {
                words.iter().any(|it| it == "credentials=permitted")
            }),
            is_judging: !is_told(transcript, |words| {
                words.first().is_some_and(|it| it == "verdict")
            }),
        }
    }

    /// The connection; made at the first call.
    fn sim(&mut self) -> &mut Sim {
        let config = &self.config;
        self.sim.get_or_insert_with(|| Sim::new(config.clone()))
    }

    /// Holds writes back until the application's next request.
    fn hold(&mut self, is_held: bool) {
        if let Some(sim) = &mut self.sim {
            sim.is_held = is_held;
        }
    }

    /// Plays one step, or a run of steps whose bytes arrive together.
    fn play(&mut self, run: &[&Step], arrival: Arrival) -> Played {
        let Some(first) = run.first() else {
            return Ok(());
        };
        let line = first.line();
        match first {
            Step::Action { label, words, .. } => self.act(*label, words).map_err(|e| (line, e)),
            Step::Request { expected, .. } => self.compare(expected).map_err(|e| (line, e)),
            Step::ClientFrame { expected, .. } => {
                self.compare_frame(expected).map_err(|e| (line, e))
            }
            Step::ServerBytes { .. } => {
                let bytes = run.iter().copied().flat_map(bytes_of).copied();
                let bytes: Vec<u8> = bytes.collect();
                for read in arrival.reads(&bytes) {
                    self.sim().receive(read);
                    self.look();
                }
                run.iter().try_for_each(|step| self.check_bytes(step))
            }
            Step::ServerClose { reset, expect, .. } => {
                match reset {
                    true => self.sim().reset(),
                    false => self.sim().eof(),
                }
                self.look();
                self.check(line, expect.as_ref(), None)
            }
            Step::Advance { time, .. } => {
                self.sim().advance(*time);
                self.look();
                Ok(())
            }
            Step::Expect { expect, .. } => self.check(line, Some(expect), None),
        }
    }

    fn check_bytes(&mut self, step: &Step) -> Played {
        let Step::ServerBytes {
            line,
            bytes,
            expect,
        } = step
        else {
            return Ok(());
        };
        self.check(*line, expect.as_ref(), Some(bytes))
    }

    /// Takes the next event, which must be the expected one.
    fn check(&mut self, line: usize, expect: Option<&Expect>, bytes: Option<&[u8]>) -> Played {
        let Some(expect) = expect.filter(|expect| expect.what != "nothing") else {
            return Ok(());
        };
        let next = self
            .seen
            .iter()
            .position(|seen| seen.is(expect) || !seen.is_incidental());
        let Some(seen) = next.map(|at| self.seen.remove(at)) else {
            return Err((line, format!("{expect} did not come")));
        };
        if !seen.is(expect) {
            return Err((line, format!("instead of {expect} came {seen:?}")));
        }
        // On a line of its own it is that of a frame that has waited.
        let Some(bytes) = bytes else { return Ok(()) };
        if seen.payload.is_some() && seen.payload.as_deref() != bytes.get(4..) {
            return Err((
                line,
                format!("{expect} came with another payload: {seen:?}"),
            ));
        }
        Ok(())
    }

    /// Before the next step no output may be left that no line expects.
    fn check_quiet(&mut self, next: &Step) -> Played {
        let line = next.line();
        if let Some(seen) = self.seen.iter().find(|seen| !seen.is_incidental()) {
            return Err((line, format!("before this line came {seen:?}")));
        }
        // Adjacent lines of the server may arrive together: the client may answer any of them.
        let may_be_answered = matches!(
            next,
            Step::Request { .. } | Step::ClientFrame { .. } | Step::ServerBytes { .. }
        );
        if may_be_answered {
            return Ok(());
        }
        match self.sim().next_sent() {
            Some(sent) => Err((
                line,
                format!("before this line was sent {}", sent.summary()),
            )),
            None => Ok(()),
        }
    }

    fn check_end(&mut self) -> Played {
        let end = Step::Advance {
            line: 0,
            time: Duration::ZERO,
        };
        self.check_quiet(&end)?;
        let open = self.cameras.iter().filter(|(_, camera)| !camera.has_left);
        let open: Vec<u32> = open.map(|(label, _)| *label).collect();
        if let Some(label) = open.iter().find(|label| self.released.contains_key(label)) {
            return Err((
                0,
                format!("session {label} was released, but not by its owner"),
            ));
        }
        self.sim().close();
        self.sim().advance(Duration::from_secs(2));
        self.look();
        let is_over_once = |label: &&u32| self.released.get(label) == Some(&1);
        let torn_down = |(label, camera): (&u32, &Camera)| camera.has_left.then_some(*label);
        let torn_down: Vec<u32> = self.cameras.iter().filter_map(torn_down).collect();
        match torn_down.iter().find(|label| !is_over_once(label)) {
            Some(label) => Err((0, format!("session {label} was not released once"))),
            None => Ok(()),
        }
    }
}

fn bytes_of(step: &Step) -> &[u8] {
    match step {
        Step::ServerBytes { bytes, .. } => bytes,
        _ => &[],
    }
}

/// Lines of the client.
impl Player {
    fn compare(&mut self, expected: &ExpectedMessage) -> Result<(), String> {
        let name = match &expected.start {
            ExpectedStart::Request { method, uri } => format!("{method} {uri}"),
            ExpectedStart::Response { status } => format!("an answer {status}"),
        };
        let sent = self.sim().next_sent();
        let sent = sent.ok_or_else(|| format!("{name} was not sent"))?;
        match expected.mismatch(&sent) {
            Some(difference) => Err(format!("{difference}; sent was {}", sent.summary())),
            None => Ok(()),
        }
    }

    fn compare_frame(&mut self, expected: &ExpectedFrame) -> Result<(), String> {
        match self.sim().next_sent() {
            Some(Incoming::Frame(frame)) => expected.mismatch(&frame).map_or(Ok(()), Err),
            Some(other) => Err(format!("instead of a frame was sent {}", other.summary())),
            None => Err("no frame was sent".to_owned()),
        }
    }
}

/// Lines of the application.
impl Player {
    fn act(&mut self, label: u32, words: &[String]) -> Result<(), String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match (label, words.as_slice()) {
            (0, words) => self.act_on_connection(words)?,
            (_, ["open", url, ..]) => self.open(label, url)?,
            (_, words) => self.act_on_session(label, words)?,
        }
        self.look();
        Ok(())
    }

    fn act_on_connection(&mut self, words: &[&str]) -> Result<(), String> {
        let seconds = |word: &str| word.strip_suffix('s').and_then(|s| s.parse().ok());
        match words {
            ["idle", time] => {
                let time = seconds(time).ok_or("idle takes seconds")?;
                self.sim().set_idle(Some(Duration::from_secs(time)));
            }
            ["busy"] => self.sim().set_idle(None),
            ["probe", missing, known] => {
                let url = |text: &str| url::Url::parse(text).map_err(|error| error.to_string());
                self.sim().probe(url(missing)?, url(known)?);
            }
            ["close"] => {
                let cameras = self.cameras.values_mut();
                cameras.for_each(|camera| camera.has_left = true);
                self.sim().close();
            }
            ["credentials", status] => {
                let status = match *status {
                    "permitted" => CredentialStatus::Permitted(self.permit().ok_or("no want")?),
                    "refused" => CredentialStatus::Refused {
                        until: self.sim().now() + Duration::from_secs(60),
                        was_refused: true,
                    },
                    status => credential_status(status).ok_or("what status?")?,
                };
                self.sim().set_credentials(status);
            }
            ["verdict", verdict] => {
                let verdict = match *verdict {
                    "refused" => RefusalVerdict::Refused { try_weaker: false },
                    "weaker" => RefusalVerdict::Refused { try_weaker: true },
                    "excused" => RefusalVerdict::Excused,
                    _ => return Err("what verdict?".to_owned()),
                };
                self.sim().judge(verdict);
            }
            _ => return Err(format!("unknown action on the connection: {words:?}")),
        }
        Ok(())
    }

    fn open(&mut self, label: u32, url: &str) -> Result<(), String> {
        match self.sim().try_open(url) {
            Ok(key) => {
                let camera = Camera {
                    key,
                    url: Url::parse(url).map_err(|e| e.to_string())?,
                    presentation: None,
                    step: None,
                    has_left: false,
                };
                self.cameras.insert(label, camera);
            }
            Err(_) => self.seen.push(Seen::new(Some(label), "failed")),
        }
        Ok(())
    }

    fn act_on_session(&mut self, label: u32, words: &[&str]) -> Result<(), String> {
        let camera = self.cameras.get_mut(&label).ok_or("no such session")?;
        let key = camera.key;
        let requests = match words {
            ["describe"] => vec![SessionRequest::Describe],
            ["setup", which] => vec![camera.setup(which)?],
            ["setup-all"] => camera.setup_all()?,
            ["play"] => vec![camera.play()],
            ["seek", range] => vec![camera.seek(range)],
            ["pause"] => vec![SessionRequest::Pause],
            [method @ ("get-parameter" | "set-parameter"), name] => {
                let parameters = ParameterRequest {
                    is_change: *method == "set-parameter",
                    content_type: "text/parameters".to_owned(),
                    body: format!("{name}:\r\n").into(),
                };
                vec![SessionRequest::Parameters(parameters)]
            }
            ["teardown"] => {
                camera.has_left = true;
                vec![SessionRequest::Teardown]
            }
            ["drop"] => {
                (camera.has_left, camera.step) = (true, None);
                self.sim().release(key);
                return Ok(());
            }
            ["rtcp", stream, bytes] => {
                let stream = stream.parse().map_err(|_| "which stream?")?;
                self.sim().send_rtcp(key, stream, &word_bytes(bytes));
                return Ok(());
            }
            _ => return Err(format!("unknown action {words:?}")),
        };
        let sim = self.sim.as_mut().ok_or("no connection")?;
        let requests = requests.into_iter().map(|asked| sim.request(key, asked));
        let step = ApplicationStep {
            requests: requests.collect(),
            failure: None,
        };
        if let Some(camera) = self.cameras.get_mut(&label) {
            camera.step = Some(step);
        }
        Ok(())
    }
}

impl Camera {
    /// `setup 1` is the second stream of the description, `setup rtsp://...` a stream without one.
    fn setup(&self, which: &str) -> Result<SessionRequest, String> {
        if which.starts_with("rtsp://") {
            return Ok(SessionRequest::Setup {
                stream: 0,
                control: Url::parse(which).map_err(|e| e.to_string())?,
                profile: Profile::default(),
                payload_types: Vec::new(),
                sources: SourcePolicy::default(),
            });
        }
        let index: usize = which.parse().map_err(|_| "setup takes a number or a URL")?;
        let all = self.setup_all()?;
        all.into_iter()
            .nth(index)
            .ok_or("no such stream".to_owned())
    }

    fn setup_all(&self) -> Result<Vec<SessionRequest>, String> {
        let presentation = self.presentation.as_ref().ok_or("not described yet")?;
        let setup = |stream: &sdp::MediaStream| SessionRequest::Setup {
            stream: stream.index,
            control: stream.control.clone(),
            profile: stream.profile(),
            payload_types: stream.payload_types.clone(),
            sources: SourcePolicy::of_tool(presentation.tool.as_deref()),
        };
        Ok(presentation.streams.iter().map(setup).collect())
    }

    fn seek(&self, range: &str) -> SessionRequest {
        let mut request = self.play();
        if let SessionRequest::Play { range: asked, .. } = &mut request {
            *asked = PlayRange::Given([("Range", range.to_owned())].into());
        }
        request
    }

    fn play(&self) -> SessionRequest {
        let presentation = self.presentation.as_ref();
        let aggregate = presentation.map_or(&self.url, |presentation| &presentation.aggregate);
        SessionRequest::Play {
            aggregate: aggregate.clone(),
            range: presentation.map_or(PlayRange::Start, sdp::Presentation::play_range),
        }
    }
}

/// Expectations of the application.
impl Player {
    fn look(&mut self) {
        while let Some(event) = self.sim().next_event() {
            self.on_event(event);
        }
    }

    fn label(&self, key: SessionKey) -> Option<u32> {
        let is_it = |(_, camera): &(&u32, &Camera)| camera.key == key;
        self.cameras.iter().find(is_it).map(|(label, _)| *label)
    }

    fn on_event(&mut self, event: Event) {
        let seen = match event {
            Event::Completed {
                session,
                request,
                result,
            } => return self.on_completed(session, request, result),
            Event::Packet(packet) | Event::HeldPacket { packet, .. } => {
                let kind = format!("{:?}", packet.kind).to_lowercase();
                let mut seen = Seen::new(self.label(packet.session), "packet")
                    .with("stream", packet.stream)
                    .with("kind", kind);
                seen.payload = Some(packet.payload);
                seen
            }
            Event::SessionLost { session, failure } => {
                with_reason(Seen::new(self.label(session), "lost"), &failure)
            }
            Event::Redirected { session, redirect } => {
                let to = redirect.location.map_or("same".to_owned(), String::from);
                Seen::new(self.label(session), "redirected").with("to", to)
            }
            Event::SessionClosed(session) => {
                let label = self.label(session);
                *self.released.entry(label.unwrap_or_default()).or_default() += 1;
                Seen::new(label, "released")
            }
            Event::Credentials(report) => return self.on_report(report),
            Event::NoMoreSessions(_) => Seen::new(None, "no-more-sessions"),
            Event::Probed(outcome) => {
                Seen::new(None, "probed").with("outcome", format!("{outcome:?}").to_lowercase())
            }
            Event::BeforeSend { .. } => Seen::new(None, "before-send"),
            Event::ServerRequest { .. } => Seen::new(None, "server-request"),
            Event::IdleExpired => Seen::new(None, "idle-expired"),
            Event::Closed(reason) => Seen::new(None, "closed").with("reason", word_for(&reason)),
        };
        self.seen.push(seen);
    }

    /// Ignores reports that only inform.
    fn on_report(&mut self, report: CredentialReport) {
        let name = match report {
            CredentialReport::Wanted(wants) => {
                self.wants = wants;
                if let Some(permit) = self.permit().filter(|_| self.is_permitting) {
                    let status = CredentialStatus::Permitted(permit);
                    return self.sim().set_credentials(status);
                }
                "credentials-wanted"
            }
            CredentialReport::Proven(_) => {
                self.sim().set_credentials(CredentialStatus::Proven(None));
                "credentials-proven"
            }
            CredentialReport::Returned(PermitReturn::Unused) => "credentials-unwanted",
            CredentialReport::Returned(PermitReturn::Unanswered) => "credentials-unanswered",
            CredentialReport::Returned(PermitReturn::Undecided) => "credentials-undecided",
            CredentialReport::Returned(PermitReturn::Excused) => "credentials-excused",
            CredentialReport::Returned(PermitReturn::Unseen) => "credentials-unseen",
            CredentialReport::Refused(_) => "credentials-refused",
            CredentialReport::Left(_) => "challenge-left",
            CredentialReport::Tried(_)
            | CredentialReport::NotAsked
            | CredentialReport::Challenged { .. } => return,
        };
        self.seen.push(Seen::new(None, name));
        if name == "credentials-refused" && self.is_judging {
            let verdict = RefusalVerdict::Refused { try_weaker: false };
            self.sim().judge(verdict);
        }
    }

    /// A permit for the first presentation in the question.
    fn permit(&self) -> Option<Permit> {
        self.wants.first().map(|want| Permit {
            uri: want.uri,
            below: None,
            ceiling: None,
            closes_behind_401: false,
        })
    }

    fn on_completed(
        &mut self,
        session: SessionKey,
        request: RequestId,
        result: Result<Reply, Failure>,
    ) {
        let Some(label) = self.label(session) else {
            return;
        };
        let Some(camera) = self.cameras.get_mut(&label) else {
            return;
        };
        // The requests of a dropped session have no caller.
        let Some(step) = &mut camera.step else {
            return;
        };
        if !step.requests.remove(&request) {
            return; // of the step before, which this one has cut short
        }
        let done = match result {
            Ok(reply) => camera.on_reply(label, reply),
            Err(failure) => {
                step.failure.get_or_insert(failure);
                None
            }
        };
        if let Some(step) = camera.step.take_if(|step| step.requests.is_empty()) {
            let failed = |failure| with_reason(Seen::new(Some(label), "failed"), &failure);
            self.seen.extend(step.failure.map(failed).or(done));
        }
    }
}

impl Camera {
    fn on_reply(&mut self, label: u32, reply: Reply) -> Option<Seen> {
        let seen = |what| Some(Seen::new(Some(label), what));
        match reply {
            Reply::Described {
                sdp,
                content_base,
                content_location,
                ..
            } => {
                let (base, location) = (content_base.as_deref(), content_location.as_deref());
                let base = uri::presentation_base(&self.url, base, location);
                let presentation = sdp::parse_presentation(sdp, base).ok()?;
                let streams = presentation.streams.len();
                self.presentation = Some(presentation);
                seen("described").map(|seen| seen.with("streams", streams))
            }
            Reply::SetUp(_) => seen("ready"),
            Reply::Playing(_) => seen("playing"),
            Reply::Paused => seen("paused"),
            Reply::Parameters(answer) => {
                let length = answer.body.len();
                seen("parameters").map(|it| it.with("status", answer.code).with("body", length))
            }
            Reply::TornDown => seen("torn-down"),
        }
    }
}

fn with_reason(seen: Seen, failure: &Failure) -> Seen {
    match &failure.kind {
        FailureKind::Status { code, .. } => seen.with("status", code),
        FailureKind::Unauthorized { .. } => seen.with("reason", "unauthorized"),
        FailureKind::CredentialsOnHold { .. } => seen.with("reason", "credentials-on-hold"),
        FailureKind::TimedOut(_) => seen.with("reason", "timeout"),
        FailureKind::Ignored => seen.with("reason", "ignored"),
        FailureKind::CannotShare(_) => seen.with("reason", "cannot-share"),
        FailureKind::ConnectionLost(_) => seen.with("reason", "connection"),
        FailureKind::LimitExceeded(_) => seen.with("reason", "limit"),
        FailureKind::Malformed(_) => seen.with("reason", "malformed"),
        FailureKind::Cancelled => seen.with("reason", "cancelled"),
        _ => seen,
    }
}

fn word_for(reason: &CloseReason) -> &'static str {
    match reason {
        CloseReason::Local => "local",
        CloseReason::PeerClosed => "peer",
        CloseReason::Io(_) => "io",
        CloseReason::Dead(_) => "dead",
        CloseReason::Protocol(_) => "protocol",
        _ => "other",
    }
}

/// True if the transcript has such an action.
fn is_told(transcript: &Transcript, is_it: impl Fn(&[String]) -> bool) -> bool {
    let mut steps = transcript.steps.iter();
    steps.any(|step| matches!(step, Step::Action { words, .. } if is_it(words)))
}

/// The credentials are those of the first session that has any.
fn configuration(transcript: &Transcript) -> ConnectionConfig {
    let actions = || {
        transcript.steps.iter().filter_map(|step| match step {
            Step::Action { words, .. } => Some(words),
            _ => None,
        })
    };
    let opened = actions().find_map(|words| credentials(words));
    let says = |what: &str| actions().any(|words| words.iter().any(|word| word == what));
    ConnectionConfig {
        limits: Limits::default(),
        is_in_order: says("in-order"),
        is_tried: says("tried"),
        ..opened.unwrap_or_else(config)
    }
}

fn credentials(words: &[String]) -> Option<ConnectionConfig> {
    let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
    let status = value("credentials=").and_then(credential_status);
    let status = status.unwrap_or(CredentialStatus::Proven(None));
    let mut config = config_with(value("user=")?, value("password=")?, status);
    for presentation in ["a", "b", "c"] {
        if let Some(realm) = value("realm=") {
            let realms = &mut config.realms;
            realms.on_challenged(Tag::of(presentation), Tag::of(realm));
        }
    }
    Some(config)
}

fn credential_status(word: &str) -> Option<CredentialStatus> {
    match word {
        "unproven" => Some(CredentialStatus::Unproven {
            is_exclusive: false,
        }),
        "exclusive" => Some(CredentialStatus::Unproven { is_exclusive: true }),
        "proven" => Some(CredentialStatus::Proven(None)),
        "permitted" => Some(CredentialStatus::Unproven {
            is_exclusive: false,
        }),
        _ => None,
    }
}
