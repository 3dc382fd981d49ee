//! One case of the matrix, and how it is run.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gstrtspmux::mux::{Error, ErrorKind, Mux, Opening, SessionOptions};
use tokio::task::JoinHandle;

use crate::support::mock_server::{Family, MockServer, Reaction, Rule, ServerView, SessionView};
use crate::support::rtsp::{Incoming, Parser, Request, Response};
use crate::watch::Watch;

/// How long a case that should hold may take; only one that does not hold waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// When the cameras are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// All at once.
    Together,
    /// Each when the one before plays or has failed.
    OneByOne,
}

/// What is the matter with one of the cameras.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Nothing,
    /// This one is not there: 404.
    Missing(u32),
    /// This one's DESCRIBE is answered only when all others are done, standing for 20 s.
    Slow(u32),
    /// Four of them at once: [`DEAD`], [`SLOW`], [`MALFORMED`] and [`REFUSED`].
    Four,
}

/// With [`Trouble::Four`]: its DESCRIBE is never answered.
const DEAD: u32 = 2;
/// As with [`Trouble::Slow`].
const SLOW: u32 = 5;
/// What describes it is no description.
const MALFORMED: u32 = 9;
/// 401, whatever the credentials, which are good for the others.
const REFUSED: u32 = 14;

impl Trouble {
    /// What becomes of which camera's DESCRIBE.
    fn reactions(self) -> Vec<(u32, Reaction)> {
        let garbage = |response: &mut Response| response.body = b"\x00\xff<html>".to_vec();
        match self {
            Self::Nothing | Self::Missing(_) => Vec::new(),
            Self::Slow(camera) => vec![(camera, Reaction::Hold)],
            Self::Four => vec![
                (DEAD, Reaction::Ignore),
                (SLOW, Reaction::Hold),
                (MALFORMED, Reaction::edit(garbage)),
                (REFUSED, Reaction::Unauthorized),
            ],
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) family: Family,
    pub(crate) cameras: u32,
    pub(crate) order: Order,
    pub(crate) trouble: Trouble,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Together => "together",
            Order::OneByOne => "one after another",
        };
        write!(f, "{:?}, cameras: {}, {order}", self.family, self.cameras)?;
        match self.trouble {
            Trouble::Nothing => Ok(()),
            Trouble::Missing(camera) => write!(f, ", camera {camera} missing"),
            Trouble::Slow(camera) => write!(f, ", camera {camera} slow"),
            Trouble::Four => write!(f, ", one dead, one slow, one malformed, one 401"),
        }
    }
}

/// What a case cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) connections: usize,
    pub(crate) requests: usize,
}

/// What became of a camera.
enum Outcome {
    Plays(Watch),
    Failed(Box<Error>),
    Waits,
    /// Another one that waits was enough.
    NotAwaited,
}

impl Outcome {
    fn text(&self) -> String {
        match self {
            Self::Plays(_) => "plays".to_owned(),
            Self::Failed(error) => error.to_string(),
            Self::Waits => "neither plays nor fails".to_owned(),
            Self::NotAwaited => "not awaited".to_owned(),
        }
    }

    fn status(&self) -> Option<u16> {
        match self {
            Self::Failed(error) => error.status(),
            _ => None,
        }
    }
}

impl Case {
    /// Runs it: what it cost, or what was wrong.
    pub(crate) fn run(self, patience: Duration) -> Result<Cost, String> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = self.server();
        let is_over = AtomicBool::new(false);
        let (outcomes, stuck) = std::thread::scope(|scope| {
            scope.spawn(|| pump(&server, &is_over));
            let run = Run {
                case: self,
                server: &server,
                mux: Mux::builder().runtime(runtime.handle().clone()).build(),
                patience,
                outcomes: (0..self.cameras).map(|_| Outcome::NotAwaited).collect(),
                stuck: 0,
            };
            let outcomes = runtime.block_on(run.outcomes());
            is_over.store(true, Ordering::SeqCst);
            // Wakes the pump, which looks.
            server.release();
            outcomes
        });
        let result = self.judge(&server, &outcomes, stuck);
        runtime.shutdown_background();
        result
    }

    fn server(self) -> MockServer {
        let mut server = MockServer::builder().family(self.family);
        for camera in (1..=self.cameras).filter(|camera| self.trouble != Trouble::Missing(*camera))
        {
            server = server.camera_of(self.family, camera);
        }
        for (camera, reaction) in self.trouble.reactions() {
            let rule = Rule::new("DESCRIBE", reaction).camera(&self.family.path(camera));
            server = server.rule(rule);
        }
        if self.family == Family::LiveOld {
            let ghost = self.cameras + 1;
            let server = server.camera_of(self.family, ghost).start();
            haunt(&server, &self.family.path(ghost));
            return server;
        }
        server.start()
    }

    fn options(self, server: &MockServer, camera: u32) -> SessionOptions {
        let url = server.url(&self.family.path(camera));
        let scheme = format!("rtsp://{}", self.family.userinfo());
        SessionOptions::new(&url.replace("rtsp://", &scheme)).unwrap()
    }

    /// The cameras that cannot play whatever the server.
    fn is_missing(self, camera: u32) -> bool {
        self.trouble == Trouble::Missing(camera)
    }

    fn judge(self, server: &MockServer, outcomes: &[Outcome], stuck: u32) -> Result<Cost, String> {
        let cost = self.cost(server);
        self.judge_outcomes(outcomes, stuck)?;
        server.send_packets_to_all(1);
        let view = server.view();
        for (camera, outcome) in (1..).zip(outcomes) {
            if let Outcome::Plays(watch) = outcome {
                let wrong = |what: String| format!("camera {camera}: {what}");
                let session = self.session(&view, camera).map_err(wrong)?;
                let id = watch.session_id();
                if session.id != id {
                    return Err(wrong(format!(
                        "session {id} is {} at the server",
                        session.id
                    )));
                }
                watch.wait_for(&session.sent, PATIENCE / 2).map_err(wrong)?;
            }
        }
        match &server.violations()[..] {
            [] => Ok(cost),
            violations => Err(format!("at the server: {violations:?}")),
        }
    }

    fn judge_outcomes(self, outcomes: &[Outcome], stuck: u32) -> Result<(), String> {
        let waits = |outcome: &Outcome| matches!(outcome, Outcome::Waits);
        if let Some(index) = outcomes.iter().position(waits) {
            return Err(format!("camera {}: {}", index + 1, outcomes[index].text()));
        }
        let mut playing = 0;
        for (camera, outcome) in (1..).zip(outcomes) {
            if self.trouble == Trouble::Four {
                match (camera, outcome) {
                    (DEAD, Outcome::NotAwaited) => continue,
                    (MALFORMED, Outcome::Failed(error)) if error.kind() == ErrorKind::Sdp => {
                        continue;
                    }
                    (REFUSED, Outcome::Failed(error)) if error.status() == Some(401) => continue,
                    (DEAD | MALFORMED | REFUSED, _) => {
                        return Err(format!("camera {camera}: {}", outcome.text()));
                    }
                    _ => {}
                }
            }
            let may_fail = match self.family {
                _ if self.is_missing(camera) => Some(404),
                Family::Vlc => Some(461),
                Family::AtLimit(status) => Some(status),
                _ => None,
            };
            let is_right = match outcome {
                Outcome::Plays(watch) => {
                    playing += 1;
                    if let Some(fault) = watch.fault() {
                        return Err(format!("camera {camera}: {fault}"));
                    }
                    !self.is_missing(camera) && self.family != Family::Vlc
                }
                // Described without media.
                Outcome::Failed(error) if self.family == Family::Xiu => {
                    self.is_missing(camera) && error.kind() == ErrorKind::Sdp
                }
                Outcome::Failed(_) => may_fail.is_some() && outcome.status() == may_fail,
                Outcome::Waits | Outcome::NotAwaited => false,
            };
            if !is_right {
                return Err(format!("camera {camera}: {}", outcome.text()));
            }
        }
        let expected = self.expected_to_play(stuck);
        match expected.contains(&playing) {
            true => Ok(()),
            false => Err(format!("{playing} cameras play instead of {expected:?}")),
        }
    }

    /// While the slow camera holds everybody's answers on a connection, sessions that were set up there and
    /// have gone elsewhere cannot give up their places.
    fn expected_to_play(self, stuck: u32) -> RangeInclusive<u32> {
        let out_of_order = match self.trouble {
            Trouble::Nothing | Trouble::Slow(_) => 0,
            Trouble::Missing(_) => 1,
            Trouble::Four => 3,
        };
        let there = self.cameras - out_of_order;
        match self.family {
            Family::Vlc => 0..=0,
            Family::AtLimit(_) => there.min(2).saturating_sub(stuck)..=there.min(2),
            _ => there..=there,
        }
    }

    /// The camera's session at the server.
    fn session(self, view: &ServerView, camera: u32) -> Result<&SessionView, String> {
        let path = self.family.path(camera);
        let playing = view.sessions.iter();
        let mut playing = playing.filter(|session| session.is_playing && session.camera == path);
        match (playing.next(), playing.next()) {
            (Some(session), None) => Ok(session),
            (None, _) => Err("no session plays at the server".to_owned()),
            (Some(_), Some(_)) => Err("several sessions play at the server".to_owned()),
        }
    }

    /// Without the connection that has made ghosts.
    fn cost(self, server: &MockServer) -> Cost {
        let view = server.view();
        let is_ghost = self.family == Family::LiveOld;
        let before = usize::from(is_ghost);
        let ours = view.requests.iter();
        Cost {
            connections: view.accepted - before,
            requests: ours.filter(|r| r.connection >= before).count(),
        }
    }
}

/// Sends a packet to all that play whenever a request has come in, so that there is media all the time.
fn pump(server: &MockServer, is_over: &AtomicBool) {
    let is_over = || is_over.load(Ordering::SeqCst);
    let mut seen = 0;
    while !is_over() {
        server.wait_until(|view| view.requests.len() > seen || is_over(), PATIENCE);
        seen = server.view().requests.len();
        server.send_packets_to_all(1);
    }
}

/// A client that plays a camera and goes without a word: where the server feeds the dead, there is one now.
fn haunt(server: &MockServer, path: &str) {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(server.address()).unwrap();
    let mut parser = Parser::default();
    let mut ask = |request: Request| {
        stream.write_all(&request.to_bytes()).unwrap();
        let mut chunk = [0; 4096];
        loop {
            while let Some(message) = parser.next().unwrap() {
                if let Incoming::Response(response) = message {
                    return response;
                }
            }
            let count = stream.read(&mut chunk).unwrap();
            parser.push(&chunk[..count]);
        }
    };
    let url = server.url(path);
    let setup = Request::new("SETUP", &format!("{url}/stream=0"))
        .header("CSeq", "1")
        .header("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1");
    let session = ask(setup).headers.value("Session").unwrap().to_owned();
    let id = session.split(';').next().unwrap();
    let play = Request::new("PLAY", &url).header("CSeq", "2");
    assert_eq!(ask(play.header("Session", id)).status, 200);
    drop(stream);
    assert!(server.wait_until(|view| view.open_connections == 0, PATIENCE));
}

/// A case under way.
struct Run<'a> {
    case: Case,
    server: &'a MockServer,
    mux: Mux,
    patience: Duration,
    outcomes: Vec<Outcome>,
    /// Sessions that the server still has when all others are done, and that do not play.
    stuck: u32,
}

impl Run<'_> {
    /// What became of each camera, in their order, and how many sessions were stuck. Ends with the first
    /// that becomes nothing.
    async fn outcomes(mut self) -> (Vec<Outcome>, u32) {
        let mut starting = match self.case.order {
            Order::Together => self.start_all(),
            Order::OneByOne => self.start_one_by_one().await,
        };
        // The slow one and the dead one last.
        starting.sort_by_key(|(camera, _)| (self.is_dead(*camera), self.is_slow(*camera)));
        for (camera, task) in starting {
            if self.is_slow(camera) {
                self.stuck = self.count_stuck();
                // The dead one stays dead.
                let path = self.case.family.path(camera);
                self.server.clear_rules_of(&path);
                self.server.release();
            }
            if self.is_dead(camera) {
                task.abort();
            } else if self.finish(camera, task).await == Then::GiveUp {
                break;
            }
        }
        (self.outcomes, self.stuck)
    }

    fn count_stuck(&self) -> u32 {
        let view = self.server.view();
        let stuck = view.sessions.iter().filter(|session| !session.is_playing);
        stuck.count() as u32
    }

    fn start_all(&self) -> Vec<(u32, Starting)> {
        let start = |(camera, opening)| (camera, start(camera, opening));
        (1..).zip(self.open_all()).map(start).collect()
    }

    /// Each is known before the first one starts.
    fn open_all(&self) -> Vec<Opening> {
        let options = (1..=self.case.cameras).map(|camera| self.case.options(self.server, camera));
        self.mux.open_many(options.collect())
    }

    /// Gives back the slow one and the dead one, for which no test waits.
    async fn start_one_by_one(&mut self) -> Vec<(u32, Starting)> {
        let mut waiting = Vec::new();
        for camera in 1..=self.case.cameras {
            let options = self.case.options(self.server, camera);
            let task = start(camera, self.mux.open(options));
            if self.is_slow(camera) || self.is_dead(camera) {
                self.wait_for_describe(camera);
                waiting.push((camera, task));
            } else if self.finish(camera, task).await == Then::GiveUp {
                return Vec::new();
            }
        }
        waiting
    }

    /// The next ones are to find it waiting.
    fn wait_for_describe(&self, camera: u32) {
        let path = self.case.family.path(camera);
        let has_asked = |view: &ServerView| {
            let mut requests = view.requests.iter();
            requests.any(|r| r.method == "DESCRIBE" && r.uri.ends_with(&path))
        };
        self.server.wait_until(has_asked, self.patience);
    }

    async fn finish(&mut self, camera: u32, mut task: Starting) -> Then {
        let outcome = match tokio::time::timeout(self.patience, &mut task).await {
            Ok(Ok(Ok(watch))) => Outcome::Plays(watch),
            Ok(Ok(Err(error))) => Outcome::Failed(Box::new(error)),
            Ok(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
            Err(_) => Outcome::Waits,
        };
        let then = match outcome {
            Outcome::Waits => Then::GiveUp,
            _ => Then::GoOn,
        };
        self.outcomes[camera as usize - 1] = outcome;
        then
    }

    fn is_slow(&self, camera: u32) -> bool {
        match self.case.trouble {
            Trouble::Slow(slow) => camera == slow,
            Trouble::Four => camera == SLOW,
            Trouble::Nothing | Trouble::Missing(_) => false,
        }
    }

    fn is_dead(&self, camera: u32) -> bool {
        self.case.trouble == Trouble::Four && camera == DEAD
    }
}

type Starting = JoinHandle<Result<Watch, Error>>;

/// Watched from the first packet on: packets that are not taken for two seconds are dropped.
fn start(camera: u32, opening: Opening) -> Starting {
    tokio::spawn(async move {
        let ready = opening.describe().await?.setup_all().await?;
        Ok(Watch::start(camera, ready.play().await?))
    })
}

#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    GiveUp,
}
