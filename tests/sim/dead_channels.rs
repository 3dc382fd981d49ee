//! F44: a recorder of which some channels are dead, and what that costs the cameras of the others.

use gstrtspmux::mux::SessionOptions;

use crate::network::{Event, Fault, Millis, Net, Weather};
use crate::run::{simulate, wait};
use crate::server::Server;
use crate::support::mock_server::{Family, MockServer, Reaction, Rule};
use crate::support::random::Random;
use crate::viewers::Viewers;

const SECOND: Millis = 1_000;
const CHANNELS: u32 = 64;
/// When the server comes back from a restart without these, where they have played.
const RESTART: Millis = 60 * SECOND;
/// After the channels have died, new cameras are started, one each.
const STARTS: [Millis; 5] = [300, 3 * SECOND, 20 * SECOND, 70 * SECOND, 110 * SECOND];
const LASTS: Millis = 120 * SECOND;

/// Eleven of the channels: those whose path contains this.
const DEAD: &str = "/cam/2";

fn is_dead(camera: u32) -> bool {
    format!("/cam/{camera}").contains(DEAD)
}

/// How a channel is dead.
#[derive(Clone, Copy, Debug)]
enum Death {
    Status(u16),
    /// It is never described.
    Silent,
    /// The server closes the connection instead of an answer.
    Closes,
    /// It is described after 20 s, and what comes behind it on the connection waits (gst-rtsp-server).
    Slow,
}

impl Death {
    fn strike(self, server: &mut Server) {
        let reaction = match self {
            Self::Status(status) => Reaction::status(status),
            Self::Silent => Reaction::Ignore,
            Self::Closes => Reaction::Close,
            Self::Slow => {
                server.slow = Some((DEAD.to_owned(), 20 * SECOND));
                return;
            }
        };
        for camera in (1..=CHANNELS).filter(|camera| is_dead(*camera)) {
            let rule = Rule::new("DESCRIBE", reaction.clone());
            server
                .engine
                .add_rule(rule.camera(&format!("/cam/{camera}")));
        }
    }
}

impl Death {
    /// How long a camera may take that is started so long after the deaths.
    fn patience(self, begins: Millis) -> Millis {
        match self {
            // No new camera is to be seen for 20 s, and until all slow channels are found out, one by
            // one, each connection is behind one of them for a while.
            Self::Slow if begins < 5 * SECOND => 5 * SECOND,
            _ => SECOND,
        }
    }
}

struct Outcome {
    /// How long each new camera took for its first packet, if it got one.
    started: Vec<Option<Millis>>,
    /// The longest time without a packet of a channel that is not dead, once it played after the deaths.
    worst_gap: Millis,
    violations: Vec<String>,
}

fn play(death: Death, family: Family, dies: Millis) -> Outcome {
    simulate(run(death, family, dies))
}

async fn run(death: Death, family: Family, dies: Millis) -> Outcome {
    let new = STARTS.len() as u32;
    let cameras = CHANNELS + new;
    let net = Net::new(Random::new(1), Weather::Calm, false);
    {
        let mut world = net.world();
        world.trace.be_silent();
        let builder = MockServer::builder().cameras(cameras).family(family);
        let mut server = Server::new("nvr", builder.engine("nvr"), family, 1);
        server.media_every = 250;
        server.has_rules = true;
        world.servers = vec![server];
        if dies > 0 {
            world.at(dies, Event::Fault(Fault::Kill(0, 0, true)));
        }
    }
    let mut viewers = Viewers::new(&net, cameras, dies + LASTS);
    let begins = |camera: u32| match camera.checked_sub(CHANNELS + 1) {
        Some(new) => dies + STARTS[new as usize],
        None => 0,
    };
    for camera in 1..=cameras {
        let options = SessionOptions::new(&format!("rtsp://nvr/cam/{camera}"));
        viewers.enter(begins(camera), options.expect("a URL"));
    }
    let mut are_dead = false;
    loop {
        {
            let mut world = net.world();
            world.proceed();
            if world.now >= dies && !std::mem::replace(&mut are_dead, true) {
                death.strike(&mut world.servers[0]);
            }
        }
        viewers.executor.poll_woken();
        if viewers.executor.is_empty() {
            break;
        }
        wait(&net, &viewers.executor, None).await;
    }
    let started = (CHANNELS + 1..=cameras)
        .map(|camera| viewers.seen(camera).first().map(|at| at - begins(camera)))
        .collect();
    let alive = (1..=CHANNELS).filter(|camera| !is_dead(*camera));
    let gaps = alive.map(|camera| {
        let seen = viewers.seen(camera);
        let after = seen.iter().copied().skip_while(|at| *at <= dies);
        let times: Vec<Millis> = after.chain([dies + LASTS]).collect();
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or(LASTS)
    });
    Outcome {
        started,
        worst_gap: gaps.max().unwrap_or_default(),
        violations: net.world().violations.clone(),
    }
}

#[test]
fn f44_eleven_dead_channels_of_64_delay_no_new_camera_and_none_that_plays() {
    assert_no_delay(0);
}

#[test]
fn f44_eleven_channels_that_are_dead_after_a_restart_delay_no_new_camera_and_none_that_plays() {
    assert_no_delay(RESTART);
}

fn assert_no_delay(dies: Millis) {
    let mut findings = Vec::new();
    for death in [
        Death::Status(404),
        Death::Status(503),
        Death::Silent,
        Death::Closes,
        Death::Slow,
    ] {
        for family in [
            Family::Gst,
            Family::Live555,
            Family::OwnChannels,
            Family::MediaMtx,
        ] {
            let outcome = play(death, family, dies);
            let what = format!("{death:?}, {family:?}, from {dies}");
            let is_late = |(took, begins): (&Option<Millis>, Millis)| {
                took.is_none_or(|took| took > death.patience(begins))
            };
            if outcome.started.iter().zip(STARTS).any(is_late) {
                findings.push(format!("{what}: {:?}", outcome.started));
            }
            if outcome.worst_gap > SECOND {
                findings.push(format!("{what}: {} ms without a packet", outcome.worst_gap));
            }
            findings.extend(outcome.violations);
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
}
