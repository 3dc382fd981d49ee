//! What a seed stands for: servers, users and what goes wrong.

use std::time::Duration;

use gstrtspmux::mux::{Multiplex, OverflowPolicy, Pooling, SessionOptions};

use crate::network::{AfterSuspend, Fault, Millis, Weather};
use crate::server::Server;
use crate::support::mock_server::{Behaviour, Camera, Family, MockServer, Reaction, Rule};
use crate::support::random::Random;
use crate::support::rtsp::{Request, Response};

/// Cameras of a server.
const CAMERAS: u32 = 6;

/// One user and what it is going to do.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) server: usize,
    pub(crate) camera: u32,
    pub(crate) options: SessionOptions,
    pub(crate) begins: Millis,
    /// Users with the same number come together, announced.
    pub(crate) group: Option<usize>,
    /// Between the steps.
    pub(crate) lingers: Duration,
    pub(crate) plays: Duration,
    /// It pauses once, for so long.
    pub(crate) pauses: Option<Duration>,
    /// It takes nothing for so long.
    pub(crate) sleeps: Option<Duration>,
    /// It waits for the answer to its TEARDOWN.
    pub(crate) tears_down: bool,
    /// After so long its future is dropped, wherever it is.
    pub(crate) vanishes: Option<Millis>,
    /// How often it comes back after a failure.
    pub(crate) retries: u32,
    pub(crate) has_wrong_password: bool,
}

/// All that a run consists of.
pub(crate) struct Schedule {
    pub(crate) weather: Weather,
    pub(crate) servers: Vec<Server>,
    pub(crate) users: Vec<User>,
    pub(crate) faults: Vec<(Millis, Fault)>,
    pub(crate) shutdown: Option<Millis>,
}

impl Schedule {
    pub(crate) fn new(random: &mut Random) -> Self {
        let weather = random.pick(&[
            Weather::Calm,
            Weather::Calm,
            Weather::Rough,
            Weather::Rough,
            Weather::Stormy,
            Weather::Stormy,
        ]);
        let count = random.pick(&[1, 1, 1, 2, 3]);
        let servers: Vec<Server> = (0..count).map(|n| server(random, weather, n)).collect();
        let users = users(random, &servers);
        let faults = match weather {
            Weather::Stormy => faults(random, servers.len()),
            _ => Vec::new(),
        };
        let shutdown = random.once_in(6).then(|| random.between(1, 30_000));
        Self {
            weather,
            servers,
            users,
            faults,
            shutdown,
        }
    }
}

fn family(random: &mut Random) -> Family {
    match random.below(10) {
        0..4 => Family::Gst,
        4 => Family::Live555,
        // Where a user that goes before PLAY ends the camera's stream for all, nothing is to be judged.
        _ => {
            let all = Family::ALL.into_iter();
            let judged: Vec<Family> = all.filter(|it| *it != Family::Xiu).collect();
            random.pick(&judged)
        }
    }
}

fn server(random: &mut Random, weather: Weather, number: usize) -> Server {
    let family = family(random);
    let host = format!("nvr{number}");
    let mut builder = MockServer::builder().family(family);
    for camera in 1..=CAMERAS {
        builder = builder.camera_of(family, camera);
    }
    if weather != Weather::Calm && random.once_in(3) {
        for _ in 0..random.between(1, 3) {
            builder = builder.behaviour(habit(random));
        }
    }
    let is_short = matches!(family, Family::Gst | Family::Serial) && random.once_in(4);
    if is_short {
        builder = builder.behaviour(Behaviour::SessionSuffix(";timeout=15".to_owned()));
    }
    // Where a rule answers, the server does not check the digest.
    let may_have_rules = weather != Weather::Calm && family != Family::Axis;
    let has_rules = may_have_rules && random.once_in(3);
    if has_rules {
        for _ in 0..random.between(1, 3) {
            builder = builder.rule(rule(random));
        }
    }
    let latency = random.pick(&[1, 1, 2, 5, 20, 60]);
    let mut server = Server::new(&host, builder.engine(&host), family, latency);
    server.session_timeout = if is_short { 15_000 } else { 60_000 };
    server.has_rules = has_rules;
    server.media_every = random.between(100, 1_000);
    if !is_short && random.once_in(8) {
        let camera = u32::try_from(random.between(1, u64::from(CAMERAS))).unwrap_or(1);
        let time = random.pick(&[700, 3_000, 20_000]);
        server.slow = Some((family.path(camera), time));
    }
    server
}

/// What servers of any family may have picked up.
fn habit(random: &mut Random) -> Behaviour {
    let few = u32::try_from(random.between(1, 4)).unwrap_or(1);
    match random.below(7) {
        0 => Behaviour::PacketsAfterPlay(few),
        1 => Behaviour::PacketsBeforePlayAnswer(few),
        2 => Behaviour::ReportsBeforePlayAnswer,
        3 => Behaviour::PacketsAfterTeardown(few),
        4 => Behaviour::StrayPackets {
            channel: 150,
            count: few,
        },
        5 => Behaviour::CloseAfterLastTeardown,
        _ => Behaviour::RequestsAfterPlay(vec![
            Request::new("OPTIONS", "*"),
            Request::new("GET_PARAMETER", "*"),
        ]),
    }
}

fn rule(random: &mut Random) -> Rule {
    let method = random.pick(&[
        "DESCRIBE",
        "SETUP",
        "SETUP",
        "PLAY",
        "PAUSE",
        "TEARDOWN",
        "GET_PARAMETER",
        "OPTIONS",
    ]);
    let status = random.pick(&[400, 404, 451, 453, 454, 461, 500, 503]);
    // What goes out with the answer to PLAY would be held back, too, and come out of order.
    let kinds = if method == "PLAY" { 7 } else { 10 };
    let reaction = match random.below(kinds) {
        0..3 => Reaction::Answer(Response::new(status)),
        3 => Reaction::AnswerAndClose(Response::new(status)),
        4 => Reaction::Ignore,
        5 => Reaction::Unanswered,
        6 => Reaction::Close,
        7 => Reaction::Swap,
        8 => Reaction::HalfClose,
        _ => Reaction::Before(
            Request::new("GET_PARAMETER", "*")
                .header("CSeq", "1")
                .to_bytes(),
        ),
    };
    let skip = usize::try_from(random.below(4)).unwrap_or_default();
    Rule::new(method, reaction).skip(skip).times(1)
}

fn pooling(random: &mut Random) -> Pooling {
    Pooling {
        enable_connection_pooling: !random.once_in(25),
        multiplex: match random.below(12) {
            0 => Multiplex::Always,
            1 => Multiplex::Never,
            _ => Multiplex::Auto,
        },
        max_connections_per_server: random.pick(&[4, 4, 1, 2, 3, 0]),
        idle_connection_timeout: Duration::from_millis(random.pick(&[0, 1_000, 10_000, 60_000])),
        max_sessions_per_connection: random.pick(&[16, 16, 16, 1, 3]),
    }
}

fn overflow(random: &mut Random, pooling: &Pooling) -> OverflowPolicy {
    let is_dedicated = !pooling.enable_connection_pooling || pooling.multiplex == Multiplex::Never;
    match random.below(5) {
        0 | 1 => OverflowPolicy::DropOldest,
        2 if is_dedicated => OverflowPolicy::Block,
        _ => OverflowPolicy::DropToKeyframe,
    }
}

fn users(random: &mut Random, servers: &[Server]) -> Vec<User> {
    let count = match random.once_in(10) {
        true => random.between(10, 40),
        false => random.between(1, 10),
    };
    let all = pooling(random);
    let each_its_own = random.once_in(6);
    let starts_together = random.once_in(2);
    (0..count)
        .map(|_| {
            let server = random.index(servers.len());
            let pooling = match each_its_own {
                true => pooling(random),
                false => all.clone(),
            };
            let (begins, group) = match starts_together && !random.once_in(3) {
                true => (1, Some(server)),
                false => (random.between(1, 20_000), None),
            };
            let user = user(random, server, &servers[server], pooling);
            User {
                begins,
                group,
                ..user
            }
        })
        .collect()
}

fn user(random: &mut Random, server: usize, of: &Server, pooling: Pooling) -> User {
    let camera = u32::try_from(random.between(1, u64::from(CAMERAS))).unwrap_or(1);
    let has_wrong_password = of.family == Family::Axis && random.once_in(4);
    let userinfo = match has_wrong_password {
        true => "root:wrong@",
        false => of.family.userinfo(),
    };
    let url = format!("rtsp://{userinfo}{}{}", of.host, of.family.path(camera));
    let mut options = SessionOptions::new(&url).expect("a URL");
    options.overflow = overflow(random, &pooling);
    options.pooling = pooling;
    let often = |random: &mut Random, time: Duration| random.once_in(5).then_some(time);
    User {
        server,
        camera,
        options,
        begins: 0,
        group: None,
        lingers: match random.below(4) {
            0 => random.millis(1, 3_000),
            _ => Duration::ZERO,
        },
        plays: random.millis(1, 15_000),
        pauses: {
            let time = random.millis(1, 70_000);
            often(random, time)
        },
        sleeps: {
            let time = random.millis(100, 6_000);
            often(random, time)
        },
        tears_down: random.once_in(2),
        vanishes: {
            let time = random.between(0, 4_000);
            random.once_in(5).then_some(time)
        },
        retries: u32::try_from(random.below(3)).unwrap_or_default(),
        has_wrong_password,
    }
}

const AFTER_SUSPEND: [AfterSuspend; 3] = [
    AfterSuspend::Expired,
    AfterSuspend::Reset,
    AfterSuspend::Silence,
];

fn faults(random: &mut Random, servers: usize) -> Vec<(Millis, Fault)> {
    (0..random.between(1, 6))
        .map(|_| {
            let time = random.pick(&[200, 1_000, 8_000, 30_000]);
            let fault = match random.below(11) {
                0 => Fault::Reset,
                1 => Fault::CutFrame,
                2 => Fault::Stall(time),
                3 => Fault::Hole,
                4 => Fault::Deaf(time),
                5 => Fault::Corrupt(u32::try_from(random.between(1, 4)).unwrap_or(1)),
                6 => Fault::Garbage(u16::try_from(random.between(1, 3_000)).unwrap_or(1)),
                7 => Fault::Trickle,
                8 => Fault::Sleep(time * 100, random.pick(&AFTER_SUSPEND)),
                _ => Fault::Kill(random.index(servers), time, random.once_in(2)),
            };
            (random.between(1, 25_000), fault)
        })
        .collect()
}

/// Who a packet says it is from, and which of its session and stream it is.
pub(crate) fn stamp(packet: &[u8]) -> Option<(u32, u32)> {
    Some((Camera::number_of(packet)?, Camera::index_of(packet)?))
}
