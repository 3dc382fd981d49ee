//! F44: servers that fail at every step, and users that bring their sessions back whatever happens: what
//! reaches the server in any minute.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use gstrtspmux::mux::network::Network;
use gstrtspmux::mux::{Mux, SessionOptions};
use tokio::runtime::{Builder, Handle};

use crate::network::{Event, Fault, Millis, Net, Weather};
use crate::recovery::User;
use crate::run::wait;
use crate::server::{Reach, Server};
use crate::support::mock_server::{Family, MockServer, Reaction, Rule};
use crate::support::random::Random;
use crate::troupe::Troupe;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
/// When the server begins to fail, where it does not from the beginning.
const FAULT: Millis = 90 * SECOND;
const LASTS: Millis = 12 * MINUTE;

/// How a server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storm {
    Refusing,
    Unreachable,
    /// It closes instead of an answer to this.
    Closes(&'static str),
    /// It answers so.
    Status(&'static str, u16),
    /// PLAY is answered, and then it closes.
    ClosesAfterPlay,
    /// Its DESCRIBEs lead to a server that refuses every dial.
    RedirectsToNobody,
    /// They lead to a server that closes at DESCRIBE.
    RedirectsToOneThatCloses,
    /// They lead to another server that leads back.
    RedirectsInACircle,
    /// Each leads somewhere else, without end.
    RedirectsWithoutEnd,
}

const STORMS: [Storm; 13] = [
    Storm::Refusing,
    Storm::Unreachable,
    Storm::Closes("DESCRIBE"),
    Storm::Closes("SETUP"),
    Storm::Closes("PLAY"),
    Storm::Status("DESCRIBE", 503),
    Storm::Status("SETUP", 503),
    Storm::Status("PLAY", 503),
    Storm::ClosesAfterPlay,
    Storm::RedirectsToNobody,
    Storm::RedirectsToOneThatCloses,
    Storm::RedirectsInACircle,
    Storm::RedirectsWithoutEnd,
];

impl Storm {
    /// What the server that the users name does, and the other one.
    fn rules(self, cameras: u32) -> [Vec<Rule>; 2] {
        let redirects = |to: &'static str| {
            let rule = |camera: u32| {
                let path = format!("/cam/{camera}");
                let to = Reaction::redirect(&format!("rtsp://{to}{path}"));
                Rule::new("DESCRIBE", to).camera(&path)
            };
            (1..=cameras).map(rule).collect::<Vec<_>>()
        };
        match self {
            Self::Refusing | Self::Unreachable => [vec![], vec![]],
            Self::Closes(method) => [vec![Rule::new(method, Reaction::Close)], vec![]],
            Self::Status(method, status) => {
                [vec![Rule::new(method, Reaction::status(status))], vec![]]
            }
            Self::ClosesAfterPlay => [vec![Rule::new("PLAY", Reaction::HalfClose)], vec![]],
            Self::RedirectsToNobody => [redirects("other"), vec![]],
            Self::RedirectsToOneThatCloses => {
                let closes = Rule::new("DESCRIBE", Reaction::Close);
                [redirects("other"), vec![closes]]
            }
            Self::RedirectsInACircle => [redirects("other"), redirects("nvr")],
            Self::RedirectsWithoutEnd => {
                let count = AtomicU64::new(0);
                let elsewhere = Reaction::edit(move |response| {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    let to = format!("rtsp://nvr/cam/1?{number}");
                    response.status = 302;
                    response.headers.push("Location".to_owned(), to);
                });
                [vec![Rule::new("DESCRIBE", elsewhere)], vec![]]
            }
        }
    }

    fn strike(self, cameras: u32, servers: &mut [Server]) {
        for (server, rules) in servers.iter_mut().zip(self.rules(cameras)) {
            rules
                .into_iter()
                .for_each(|rule| server.engine.add_rule(rule));
        }
        match self {
            Self::Refusing => servers[0].reach = Reach::Refusing,
            Self::Unreachable => servers[0].reach = Reach::Unreachable,
            Self::RedirectsToNobody => servers[1].reach = Reach::Refusing,
            _ => {}
        }
    }
}

/// What reached the servers.
struct Outcome {
    dials: Vec<(Millis, usize)>,
    /// Of each server.
    asked: [Vec<(Millis, String)>; 2],
    /// When the last packet came.
    last_media: Millis,
}

impl Outcome {
    /// The most in any minute that begins in a span of time.
    fn most(times: impl Iterator<Item = Millis>, from: Millis, until: Millis) -> usize {
        let times: Vec<Millis> = times.filter(|at| *at >= from).collect();
        let firsts = times.iter().filter(|first| **first < until);
        firsts
            .map(|first| {
                let is_within = |at: &&Millis| *at >= first && **at < first + MINUTE;
                times.iter().filter(is_within).count()
            })
            .max()
            .unwrap_or_default()
    }

    fn dials(&self, server: usize, from: Millis, until: Millis) -> usize {
        let dials = self.dials.iter().filter(|(_, to)| *to == server);
        Self::most(dials.map(|(at, _)| *at), from, until)
    }

    fn asked(&self, server: usize, method: &str, from: Millis, until: Millis) -> usize {
        let asked = self.asked[server]
            .iter()
            .filter(|(_, asked)| asked == method);
        Self::most(asked.map(|(at, _)| *at), from, until)
    }

    /// The most of anything.
    fn worst(&self, from: Millis, until: Millis) -> usize {
        let of = |server| {
            let asked = ["DESCRIBE", "SETUP", "PLAY"].map(|m| self.asked(server, m, from, until));
            asked
                .into_iter()
                .chain([self.dials(server, from, until)])
                .max()
        };
        of(0).max(of(1)).unwrap_or_default()
    }
}

fn storm(storm: Storm, cameras: u32, family: Family, begins: Millis) -> Outcome {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(run(storm, cameras, family, begins))
}

async fn run(storm: Storm, cameras: u32, family: Family, begins: Millis) -> Outcome {
    let net = Net::new(Random::new(1), Weather::Calm, false);
    {
        let mut world = net.world();
        world.trace.be_silent();
        let server = |host| {
            let builder = MockServer::builder().cameras(cameras).family(family);
            let mut server = Server::new(host, builder.engine(host), family, 1);
            server.media_every = 100;
            server.asked = Some(Vec::new());
            server
        };
        world.servers = vec![server("nvr"), server("other")];
        if begins == 0 {
            storm.strike(cameras, &mut world.servers);
        } else {
            world.at(begins, Event::Fault(Fault::Kill(0, 0, true)));
        }
    }
    let network: Arc<dyn Network> = Arc::clone(&net) as Arc<dyn Network>;
    let mux = Mux::builder()
        .runtime(Handle::current())
        .network(network)
        .build();
    let until = net.instant(begins + LASTS);
    let mut troupe = Troupe::new(cameras as usize);
    let mut seen = Vec::new();
    for camera in 1..=cameras {
        let times = Rc::new(RefCell::new(Vec::new()));
        seen.push(Rc::clone(&times));
        let user = User {
            mux: mux.clone(),
            options: SessionOptions::new(&format!("rtsp://nvr/cam/{camera}")).expect("a URL"),
            net: Arc::clone(&net),
            camera,
            begins: net.instant(0),
            until,
            seen: times,
        };
        let watching = async move {
            tokio::select! {
                () = user.watch() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        };
        troupe.enter(camera as usize - 1, watching);
    }
    let mut has_struck = begins == 0;
    loop {
        {
            let mut world = net.world();
            if world.now >= begins && !has_struck {
                has_struck = true;
                storm.strike(cameras, &mut world.servers);
            }
            world.proceed();
            // It has come back at once, and is as it is now.
            if world.now >= begins && storm == Storm::Refusing {
                world.servers[0].reach = Reach::Refusing;
            }
            if world.now >= begins && storm == Storm::Unreachable {
                world.servers[0].reach = Reach::Unreachable;
            }
        }
        troupe.poll_woken();
        if troupe.is_empty() {
            break;
        }
        wait(&net, &troupe, None).await;
    }
    let last_media = seen
        .iter()
        .filter_map(|seen| seen.borrow().last().copied())
        .max();
    let mut world = net.world();
    let mut asked = |server: usize| world.servers[server].asked.take().unwrap_or_default();
    Outcome {
        asked: [asked(0), asked(1)],
        dials: world.dials_made.clone(),
        last_media: last_media.unwrap_or_default(),
    }
}

#[test]
fn f44_no_storm_whatever_step_fails() {
    let only = std::env::var("RTSPMUX_STORM").ok();
    for kind in STORMS {
        if only
            .as_ref()
            .is_some_and(|only| !format!("{kind:?}").contains(only))
        {
            continue;
        }
        for family in [Family::Gst, Family::MediaMtx] {
            for cameras in [1, 16] {
                for begins in [0, FAULT] {
                    let outcome = storm(kind, cameras, family, begins);
                    let what = format!("{kind:?}, {family:?}, {cameras} cameras, from {begins}");
                    let end = begins + LASTS;
                    let figures = [begins, begins + 10 * SECOND, end - 2 * MINUTE].map(|from| {
                        [0, 1].map(|server| {
                            let asked = |method| outcome.asked(server, method, from, end);
                            (
                                outcome.dials(server, from, end),
                                asked("DESCRIBE"),
                                asked("SETUP"),
                                asked("PLAY"),
                            )
                        })
                    });
                    println!("{what}: {figures:?}");
                    assert!(
                        begins == 0 || outcome.last_media > begins - SECOND,
                        "{what}"
                    );
                    // The start, and the return after a success, are free, though what fails among others is
                    // tried alone before it has failed, and what is remembered is asked for once more.
                    let free = match kind {
                        // Each start leads over five redirects, and some of these are tried on a second connection.
                        Storm::RedirectsWithoutEnd => 9 * cameras as usize,
                        _ => 3 * cameras as usize,
                    };
                    let first = outcome.worst(begins, end);
                    assert!(first <= 30 + free, "{what}: {first} in the first minute");
                    let steady = outcome.worst(begins + 10 * SECOND, end);
                    assert!(steady <= 30, "{what}: {steady} in a minute");
                }
            }
        }
    }
}
