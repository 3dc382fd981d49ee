//! Many cameras of one server start at once, and the server takes 100 ms for each DESCRIBE, one at a time on
//! each connection (live555): how soon the last one plays, and over how many connections.

use gstrtspmux::mux::{Multiplex, MuxStats, Pooling, SessionOptions, SharingVerdict};

use crate::network::{Crowd, Millis, Net, Weather};
use crate::run::{simulate, wait};
use crate::server::Server;
use crate::support::mock_server::{Behaviour, ChannelPolicy, Excess, Family, MockServer};
use crate::support::random::Random;
use crate::viewers::Viewers;

/// What live555 takes for a DESCRIBE.
const DESCRIBE: Millis = 100;
/// How much longer one of them may take.
const UNEVEN: Millis = 12;
/// One way.
const LATENCY: Millis = 1;
const SECOND: Millis = 1_000;
/// What a dial, a DESCRIBE, a SETUP and a PLAY take on their ways, and what wakes up a moment late.
const WAYS: Millis = 30;
/// When those come that are not the first.
const BEFORE: Millis = 3_000;
/// When everything plays, whatever the server does.
const LASTS: Millis = 20_000;

/// So many DESCRIBEs, one after the other, and then SETUP and PLAY.
const fn rounds(describes: Millis) -> Millis {
    describes * (DESCRIBE + 2 * LATENCY) + WAYS
}

/// Who starts, and what kind of server it is.
struct Cold {
    cameras: u32,
    pooling: Pooling,
    behaviours: Vec<Behaviour>,
    family: Family,
    /// They are described in the same words.
    is_one_model: bool,
    describe: Millis,
    /// One way.
    latency: Millis,
    /// Between two starts.
    spacing: Millis,
    crowd: Option<(usize, Crowd)>,
    /// Cameras that play since long before.
    playing: u32,
    /// All have played before, and gone.
    is_known: bool,
    /// DESCRIBEs take up to [`UNEVEN`] more, in an order that follows from this number.
    uneven: Option<u64>,
}

impl Default for Cold {
    fn default() -> Self {
        Self {
            cameras: 16,
            pooling: Pooling::default(),
            behaviours: behaviours_of_live555(),
            family: Family::Live555,
            is_one_model: false,
            describe: DESCRIBE,
            latency: LATENCY,
            spacing: 0,
            crowd: None,
            playing: 0,
            is_known: false,
            uneven: None,
        }
    }
}

/// As `Family::Live555` has them, but for the time that the simulated server takes itself.
fn behaviours_of_live555() -> Vec<Behaviour> {
    vec![
        Behaviour::Channels(ChannelPolicy::Verbatim),
        Behaviour::SessionSuffix(";timeout=65".to_owned()),
        Behaviour::SdpLine("a=tool:LIVE555 Streaming Media v2026.06.24".to_owned()),
        Behaviour::OmitSsrc,
    ]
}

/// What came of it.
struct Outcome {
    /// From the first start to the last PLAY that the server answered.
    last_play: Millis,
    /// DESCRIBEs answered.
    describes: usize,
    dials: usize,
    /// The most that were open at a time.
    most_open: usize,
    /// At the end, at the server.
    open: usize,
    stats: MuxStats,
    violations: Vec<String>,
}

impl Outcome {
    /// All of them share connections that count, and none is left that does not.
    #[track_caller]
    fn assert_shares(&self, connections: usize) {
        let server = &self.stats.servers[0];
        assert_eq!(server.sharing, SharingVerdict::Yes);
        let counted = |c: &&gstrtspmux::mux::ConnectionStats| !c.is_aside && !c.is_dedicated;
        assert_eq!(server.connections.iter().filter(counted).count(), self.open);
        assert!(self.open <= connections, "{:?}", server.connections);
        assert_eq!(self.violations, Vec::<String>::new());
    }
}

fn start(cold: &Cold) -> Outcome {
    simulate(run(cold))
}

fn server(cold: &Cold) -> Server {
    let builder = match cold.is_one_model {
        true => MockServer::builder().cameras_of_one_model(cold.cameras),
        false => MockServer::builder().cameras(cold.cameras),
    };
    let builder = cold
        .behaviours
        .iter()
        .cloned()
        .fold(builder, |builder, behaviour| builder.behaviour(behaviour));
    let mut server = Server::new("nvr", builder.engine("nvr"), cold.family, cold.latency);
    server.media_every = 100;
    server.asked = Some(Vec::new());
    server.slow = (cold.describe > 0).then(|| ("/cam/".to_owned(), cold.describe));
    server.uneven = cold.uneven.map(|number| (UNEVEN, number));
    server.crowd = cold.crowd;
    server.is_reentrant = cold.family == Family::Live555;
    server
}

async fn run(cold: &Cold) -> Outcome {
    let net = Net::new(Random::new(1), Weather::Calm, false);
    {
        let mut world = net.world();
        world.trace.be_silent();
        world.servers = vec![server(cold)];
    }
    let mut viewers = Viewers::new(&net, cold.cameras, LASTS);
    if cold.is_known {
        let mux = viewers.mux.clone();
        let mut before = Viewers::of(mux, &net, cold.cameras, BEFORE - SECOND);
        for camera in 1..=cold.cameras {
            before.enter(0, options(cold, camera));
        }
        loop {
            net.world().proceed();
            before.executor.poll_woken();
            if before.executor.is_empty() {
                break;
            }
            wait(&net, &before.executor, None).await;
        }
    }
    // Those that come later come when the others have played for a while.
    let is_later = cold.playing > 0 || cold.is_known;
    let begin = if is_later { BEFORE } else { 0 };
    for camera in 1..=cold.cameras {
        let begins = match camera <= cold.playing {
            true => 0,
            false => begin + cold.spacing * Millis::from(camera - 1 - cold.playing),
        };
        viewers.enter(begins, options(cold, camera));
    }
    let mut stats = None;
    loop {
        net.world().proceed();
        viewers.executor.poll_woken();
        let (now, open) = {
            let world = net.world();
            (world.now, world.open_wires(0))
        };
        if stats.is_none() && now >= LASTS / 2 {
            stats = Some((viewers.mux.stats(), open));
        }
        if viewers.executor.is_empty() {
            break;
        }
        wait(&net, &viewers.executor, Some(now + SECOND)).await;
    }
    for (number, seen) in viewers.all_seen().enumerate() {
        let plays_on = seen.iter().any(|at| *at > LASTS / 2);
        assert!(plays_on, "camera {} plays", number + 1);
    }
    let (stats, open) = stats.expect("half of the time has passed");
    let world = net.world();
    let asked = world.servers[0].asked.clone().unwrap_or_default();
    let of = |method: &'static str| asked.iter().filter(move |(_, asked)| asked == method);
    Outcome {
        last_play: of("PLAY").map(|(at, _)| *at).max().unwrap_or_default() - begin,
        describes: of("DESCRIBE").count(),
        dials: world.dialled,
        most_open: world.most_open,
        open,
        stats,
        violations: world.violations.clone(),
    }
}

fn options(cold: &Cold, camera: u32) -> SessionOptions {
    let mut options = SessionOptions::new(&format!("rtsp://nvr/cam/{camera}")).expect("a URL");
    options.pooling = cold.pooling.clone();
    options
}

fn limit(max: u32) -> Pooling {
    Pooling {
        max_connections_per_server: max,
        ..Pooling::default()
    }
}

#[test]
fn sixteen_cameras_are_described_in_two_rounds_and_play_on_four_connections() {
    let outcome = start(&Cold::default());
    // One that finds out, and fifteen at a time, one of them behind the first.
    assert!(outcome.last_play <= rounds(2), "{} ms", outcome.last_play);
    assert_eq!(outcome.describes, 16, "once each");
    assert!(outcome.most_open <= 15, "{}", outcome.most_open);
    outcome.assert_shares(4);
}

#[test]
fn sixteen_cameras_of_a_known_server_are_described_in_one_round() {
    for is_one_model in [false, true] {
        let outcome = start(&Cold {
            is_known: true,
            is_one_model,
            ..Cold::default()
        });
        assert!(outcome.last_play <= rounds(1), "{} ms", outcome.last_play);
        assert!(outcome.most_open <= 16, "{}", outcome.most_open);
        outcome.assert_shares(4);
    }
}

/// Over a radio link or from another site. A dial, OPTIONS, DESCRIBE, SETUP and PLAY, each a round trip: so
/// long a client with a connection for each camera takes.
#[test]
fn over_a_long_path_sixteen_cameras_take_at_most_twice_what_separate_connections_do() {
    for latency in [6, 15, 40, 75] {
        let outcome = start(&Cold {
            latency,
            ..Cold::default()
        });
        let separate = 5 * 2 * latency + DESCRIBE;
        let last = outcome.last_play;
        assert!(last <= 2 * separate, "{latency} ms one way: {last} ms");
        assert_eq!(outcome.describes, 16, "once each");
        outcome.assert_shares(4);
    }
}

/// What a DESCRIBE takes on its way is not the server's work.
#[test]
fn over_a_long_path_a_server_that_describes_quickly_is_asked_for_many_at_a_time() {
    for latency in [15, 75] {
        let outcome = start(&Cold {
            latency,
            describe: 0,
            ..Cold::default()
        });
        let round_trips = outcome.last_play / (2 * latency);
        assert!(
            round_trips <= 7,
            "{latency} ms one way: {round_trips} round trips"
        );
        assert_eq!(outcome.describes, 16, "once each");
    }
}

/// A user who allows fewer connections than by default gets as many more for DESCRIBEs, and no more.
#[test]
fn at_a_known_server_the_limit_bounds_what_is_described_at_a_time() {
    let outcome = start(&Cold {
        is_known: true,
        pooling: limit(2),
        ..Cold::default()
    });
    assert!(outcome.last_play <= rounds(4), "{} ms", outcome.last_play);
    assert!(outcome.most_open <= 4, "{}", outcome.most_open);
    outcome.assert_shares(2);
}

/// It never takes more than ten connections, and is not asked for more again.
#[test]
fn a_known_server_is_not_asked_for_more_connections_than_it_took() {
    let outcome = start(&Cold {
        is_known: true,
        crowd: Some((10, Crowd::Refused)),
        ..Cold::default()
    });
    let dials = outcome.dials;
    assert!(dials <= 15 + 6, "{dials} dials");
    assert!(outcome.last_play <= rounds(2), "{} ms", outcome.last_play);
    outcome.assert_shares(4);
}

/// They are described over connections that count. Where two meet on one of these, the others wait for
/// what these two find out, and send no canary.
#[test]
fn a_few_cameras_are_described_once_each_and_play_after_two_rounds() {
    for cameras in 2..=7 {
        for number in 1..=12 {
            let outcome = start(&Cold {
                cameras,
                uneven: Some(number),
                ..Cold::default()
            });
            let last = outcome.last_play;
            assert!(
                last <= rounds(2) + 2 * UNEVEN,
                "{cameras}, {number}: {last} ms"
            );
            assert_eq!(outcome.describes, cameras as usize, "{cameras}, {number}");
            outcome.assert_shares(4);
        }
    }
}

#[test]
fn sixteen_that_come_in_one_another_s_wake_are_described_as_soon() {
    let outcome = start(&Cold {
        spacing: 3,
        ..Cold::default()
    });
    assert!(
        outcome.last_play <= rounds(2) + 15 * 3,
        "{}",
        outcome.last_play
    );
    assert_eq!(outcome.describes, 16);
    assert!(outcome.most_open <= 15, "{}", outcome.most_open);
    outcome.assert_shares(4);
}

#[test]
fn sixteen_of_one_model_are_told_apart_meanwhile() {
    let outcome = start(&Cold {
        is_one_model: true,
        ..Cold::default()
    });
    // One of them is described once more, alone.
    assert!(outcome.last_play <= rounds(3), "{} ms", outcome.last_play);
    assert!(outcome.most_open <= 16, "{}", outcome.most_open);
    outcome.assert_shares(4);
}

#[test]
fn sixty_four_cameras_take_as_many_rounds_as_twenty_connections_need() {
    let outcome = start(&Cold {
        cameras: 64,
        ..Cold::default()
    });
    assert!(outcome.last_play <= rounds(5), "{} ms", outcome.last_play);
    assert_eq!(outcome.describes, 64);
    assert!(outcome.most_open <= 20, "{}", outcome.most_open);
    outcome.assert_shares(4);
}

#[test]
fn with_a_limit_of_one_there_is_one_describe_only_connection() {
    let outcome = start(&Cold {
        pooling: limit(1),
        ..Cold::default()
    });
    assert!(outcome.last_play <= rounds(9), "{} ms", outcome.last_play);
    assert_eq!(outcome.describes, 16);
    assert!(outcome.most_open <= 2, "{}", outcome.most_open);
    outcome.assert_shares(1);
}

/// Where nothing is left to be tried on a connection that counts, no session leaves it.
#[test]
fn two_and_three_cameras_with_a_limit_of_one_share_it_as_soon_as_before() {
    for cameras in [2, 3] {
        let outcome = start(&Cold {
            cameras,
            pooling: limit(1),
            ..Cold::default()
        });
        assert!(outcome.last_play <= rounds(2), "{} ms", outcome.last_play);
        assert_eq!(outcome.describes, cameras as usize);
        outcome.assert_shares(1);
    }
}

#[test]
fn always_stays_within_the_limit_whatever_a_describe_takes() {
    for max in [1, 4] {
        let outcome = start(&Cold {
            pooling: Pooling {
                multiplex: Multiplex::Always,
                ..limit(max)
            },
            ..Cold::default()
        });
        let rest = Millis::from(15_u32.div_ceil(max));
        assert!(
            outcome.last_play <= rounds(1 + rest),
            "{}",
            outcome.last_play
        );
        assert!(outcome.most_open <= max as usize, "{}", outcome.most_open);
        outcome.assert_shares(max as usize);
    }
}

#[test]
fn without_a_limit_each_gets_a_connection_at_once() {
    let outcome = start(&Cold {
        pooling: limit(0),
        ..Cold::default()
    });
    assert!(outcome.last_play <= rounds(2), "{} ms", outcome.last_play);
    assert_eq!(outcome.describes, 16);
    assert!(outcome.most_open <= 16, "{}", outcome.most_open);
}

/// It refuses the fifth connection, or closes it at once, or never answers the dial.
#[test]
fn a_server_that_takes_four_connections_describes_all_over_these() {
    for crowd in [Crowd::Refused, Crowd::Closed, Crowd::Ignored] {
        let outcome = start(&Cold {
            crowd: Some((4, crowd)),
            ..Cold::default()
        });
        // Those that were sent away come back, and wait on a connection that counts.
        let wait = if crowd == Crowd::Ignored { 500 } else { 0 };
        let last = outcome.last_play;
        assert!(last <= rounds(6) + wait, "{crowd:?}: {last} ms");
        assert!(outcome.dials <= 16, "{crowd:?}: {} dials", outcome.dials);
        assert_eq!(outcome.describes, 16, "{crowd:?}");
        outcome.assert_shares(4);
    }
}

/// Several sessions wait on a describe-only connection; the first that gives it up closes it.
#[test]
fn sessions_that_wait_on_a_silent_describe_only_connection_all_come_back() {
    for cameras in [16, 64] {
        let outcome = start(&Cold {
            cameras,
            crowd: Some((4, Crowd::Silent)),
            ..Cold::default()
        });
        assert_eq!(outcome.describes, cameras as usize);
        outcome.assert_shares(4);
    }
}

#[test]
fn at_a_server_of_which_some_play_those_that_come_are_described_over_as_many() {
    let outcome = start(&Cold {
        cameras: 17,
        playing: 1,
        ..Cold::default()
    });
    assert!(outcome.last_play <= rounds(2), "{} ms", outcome.last_play);
    assert!(outcome.most_open <= 17, "{}", outcome.most_open);
    outcome.assert_shares(4);
}

#[test]
fn a_server_that_describes_quickly_sees_one_connection() {
    for describe in [0, 10, 50] {
        let outcome = start(&Cold {
            describe,
            ..Cold::default()
        });
        assert_eq!(outcome.dials, 1, "{describe} ms");
        outcome.assert_shares(1);
    }
}

/// Each user asserts that all of its packets are of its own camera.
#[test]
fn f11_servers_that_cannot_share_show_each_camera_its_own_picture() {
    let latching = |more: &[Behaviour]| {
        let mut behaviours = vec![Behaviour::LatchesFirst, Behaviour::NoContentBase];
        behaviours.extend_from_slice(more);
        behaviours
    };
    let per_track = Behaviour::Channels(ChannelPolicy::PerTrack);
    let refuses = Behaviour::SessionsPerConnection(1, Excess::BadRequestAndClose);
    let kinds: [(Family, Vec<Behaviour>); 4] = [
        // go2rtc, were it not for what it says of itself.
        (
            Family::Go2Rtc,
            latching(&[
                Behaviour::OneConsumer,
                Behaviour::DescriptionGrows,
                per_track.clone(),
            ]),
        ),
        // ZLMediaKit.
        (
            Family::ZlMediaKit,
            latching(&[Behaviour::IdPerDescribe, per_track]),
        ),
        // MediaMTX.
        (Family::MediaMtx, vec![refuses, Behaviour::CloseOnNotFound]),
        // EvoStream.
        (
            Family::EvoStream,
            vec![Behaviour::SessionsPerConnection(1, Excess::Swallow)],
        ),
    ];
    for (family, behaviours) in kinds {
        for is_one_model in [false, true] {
            let outcome = start(&Cold {
                behaviours: behaviours.clone(),
                family,
                is_one_model,
                ..Cold::default()
            });
            let server = &outcome.stats.servers[0];
            assert_eq!(server.sharing, SharingVerdict::No, "{family:?}");
            assert!(
                outcome.last_play < 6_000,
                "{family:?}: {}",
                outcome.last_play
            );
            let shared = |c: &&gstrtspmux::mux::ConnectionStats| c.sessions > 1;
            assert_eq!(
                server.connections.iter().filter(shared).count(),
                0,
                "{family:?}"
            );
        }
    }
}
