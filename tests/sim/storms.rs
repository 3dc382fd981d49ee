//! F44: servers that fail at every step, and users that bring their sessions back whatever happens: what
//! reaches the server in any minute.

use std::sync::atomic::{AtomicU64, Ordering};

use gstrtspmux::mux::{SessionOptions, TlsOptions};

use crate::certificates::{Authority, Request};
use crate::network::{Event, Fault, Millis, NEVER, Net, Weather};
use crate::run::{simulate, wait};
use crate::server::{Reach, Server};
use crate::support::mock_server::{Family, MockServer, Reaction, Rule};
use crate::support::random::Random;
use crate::tls::TlsIdentity;
use crate::viewers::Viewers;

const SECOND: Millis = 1_000;
const MINUTE: Millis = 60 * SECOND;
/// When the server begins to fail, where it does not from the beginning.
const FAULT: Millis = 90 * SECOND;
const LASTS: Millis = 12 * MINUTE;
/// Redirects that a session follows.
const HOPS: usize = 5;
/// How often a session comes back in a minute that is lost each time it is kept alive.
const RETURNS: usize = 3;

/// How a server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storm {
    Away(Away),
    /// It closes instead of an answer to this.
    Closes(&'static str),
    /// It does this and never answers it, and no media comes.
    Forgets(&'static str),
    /// It answers so.
    Status(&'static str, u16),
    /// It answers this, and then it ends the session, or the connection.
    After(&'static str, Ends),
    /// Its DESCRIBEs lead to a server that cannot be reached.
    RedirectsToOneThatIs(Away),
    /// They lead to a server that closes at DESCRIBE.
    RedirectsToOneThatCloses,
    /// They lead to another server that leads back.
    RedirectsInACircle,
    /// Each leads somewhere else, without end.
    RedirectsWithoutEnd,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Away {
    Refusing,
    Unreachable,
    /// There is no such name.
    Unknown,
    /// It shows a certificate that is another host's.
    Unproven,
}

/// How a session ends that has been set up or plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Close,
    Teardown,
    Goodbye,
}

const REQUESTS: [&str; 4] = ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"];

const AWAY: [Away; 4] = [
    Away::Refusing,
    Away::Unreachable,
    Away::Unknown,
    Away::Unproven,
];

impl Storm {
    /// The scheme of the server that the users name, and that of the other one.
    fn schemes(self) -> [&'static str; 2] {
        match self {
            Self::Away(Away::Unproven) => ["rtsps", "rtsp"],
            Self::RedirectsToOneThatIs(Away::Unproven) => ["rtsp", "rtsps"],
            _ => ["rtsp", "rtsp"],
        }
    }

    /// What the server that the users name does, and the other one.
    fn rules(self, cameras: u32) -> [Vec<Rule>; 2] {
        let redirects = |to: &'static str| {
            let rule = |camera: u32| {
                let path = format!("/cam/{camera}");
                let to = Reaction::redirect(&format!("{to}{path}"));
                Rule::new("DESCRIBE", to).camera(&path)
            };
            (1..=cameras).map(rule).collect::<Vec<_>>()
        };
        match self {
            Self::Away(_) => [vec![], vec![]],
            Self::Closes(method) => [vec![Rule::new(method, Reaction::Close)], vec![]],
            Self::Forgets(method) => [vec![Rule::new(method, Reaction::Unanswered)], vec![]],
            Self::Status(method, status) => {
                [vec![Rule::new(method, Reaction::status(status))], vec![]]
            }
            Self::After(method, ends) => {
                let ends = match ends {
                    Ends::Close => Reaction::HalfClose,
                    Ends::Teardown => Reaction::Teardown,
                    Ends::Goodbye => Reaction::Goodbye,
                };
                [vec![Rule::new(method, ends)], vec![]]
            }
            Self::RedirectsToOneThatIs(Away::Unproven) => [redirects("rtsps://other"), vec![]],
            Self::RedirectsToOneThatIs(_) => [redirects("rtsp://other"), vec![]],
            Self::RedirectsToOneThatCloses => {
                let closes = Rule::new("DESCRIBE", Reaction::Close);
                [redirects("rtsp://other"), vec![closes]]
            }
            Self::RedirectsInACircle => [redirects("rtsp://other"), redirects("rtsp://nvr")],
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

    fn strike(self, cameras: u32, servers: &mut [Server], certificates: &Certificates) {
        for (server, rules) in servers.iter_mut().zip(self.rules(cameras)) {
            rules
                .into_iter()
                .for_each(|rule| server.engine.add_rule(rule));
        }
        match self {
            Self::Away(away) => away.strike(&mut servers[0], certificates),
            Self::RedirectsToOneThatIs(away) => away.strike(&mut servers[1], certificates),
            Self::Forgets(_) => servers[0].media_every = NEVER / 2,
            _ => {}
        }
    }

    /// Of each kind of request, how many each camera may cause beside the budget, in the minute that begins
    /// with the fault: by its start, or its return after a success.
    fn free(self, cameras: u32) -> usize {
        let is_alone = cameras == 1;
        match self {
            // PLAY is answered: that is the start, and what comes after it the return.
            Self::After("PLAY", _) if is_alone => 2,
            Self::RedirectsWithoutEnd if is_alone => 1 + HOPS,
            Self::Closes("OPTIONS") | Self::After("OPTIONS", _) if is_alone => RETURNS,
            _ if is_alone => 1,
            // One dials for all, but each that had a connection of its own tries that once.
            Self::Away(_) | Self::Closes("DESCRIBE") | Self::Status("DESCRIBE" | "OPTIONS", _) => 1,
            // What fails on a connection with others is tried again on another one, or alone.
            Self::Closes(_) | Self::Status("SETUP", _) | Self::After("SETUP" | "DESCRIBE", _) => 2,
            // What waits behind a request that is not answered goes to another connection, thrice at most.
            Self::Forgets(_) => 4,
            // And once more where the others' TEARDOWNs were not answered yet: they may make room.
            Self::Status(..) => 3,
            // The start, on another connection, and the return.
            Self::After("PLAY", _) => 3,
            Self::RedirectsToOneThatIs(_) | Self::RedirectsToOneThatCloses => 2,
            Self::RedirectsInACircle => 2,
            // Some of the hops lead to another connection.
            Self::RedirectsWithoutEnd => 1 + HOPS + 1,
            Self::After("OPTIONS", _) => RETURNS + 1,
            Self::After(..) => 1,
        }
    }

    /// How long after its beginning the free ones are used up.
    fn settles(self) -> Millis {
        match self {
            // It is asked that to keep a session alive which has played for 24 s: a success each time.
            Self::Closes("OPTIONS") | Self::After("OPTIONS", _) => 5 * MINUTE,
            _ => 10 * SECOND,
        }
    }

    /// The most in a minute after ten minutes.
    fn late(self) -> usize {
        match self {
            // Each try is a start and as many hops as may be.
            Self::RedirectsWithoutEnd => 3 * (1 + HOPS),
            // Each camera plays meanwhile.
            Self::Closes("OPTIONS") | Self::After("OPTIONS", _) => 30,
            _ => 5,
        }
    }
}

impl Away {
    fn strike(self, server: &mut Server, certificates: &Certificates) {
        match self {
            Self::Refusing => server.reach = Reach::Refusing,
            Self::Unreachable => server.reach = Reach::Unreachable,
            Self::Unknown => server.reach = Reach::Unknown,
            Self::Unproven => server.tls = Some(certificates.of("elsewhere")),
        }
    }
}

/// Those of the servers.
struct Certificates(Authority);

impl Certificates {
    fn of(&self, name: &str) -> TlsIdentity {
        TlsIdentity::new(&self.0.issue(&Request::server(&[name])))
    }

    /// What the users trust.
    fn trusted(&self) -> TlsOptions {
        let pem = self.0.pem();
        let trusted = TlsOptions::default().with_authorities(pem.as_bytes());
        trusted.expect("an authority")
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

    /// The most dials, or requests of one of these kinds.
    fn worst(&self, methods: &[&str], from: Millis, until: Millis) -> usize {
        let of = |server| {
            let asked = methods.iter().map(|m| self.asked(server, m, from, until));
            asked.chain([self.dials(server, from, until)]).max()
        };
        of(0).max(of(1)).unwrap_or_default()
    }
}

impl Outcome {
    /// What is more than the budget.
    fn excess(
        &self,
        storm: Storm,
        cameras: u32,
        begins: Millis,
    ) -> impl Iterator<Item = String> + use<> {
        let end = begins + LASTS;
        let free = storm.free(cameras) * cameras as usize;
        let spans = [
            ("the first minute", begins, 30 + free),
            ("a minute", begins + storm.settles(), 30),
            ("one of the last minutes", end - 2 * MINUTE, storm.late()),
        ];
        let mut found = Vec::new();
        for (span, from, most) in spans {
            let worst = match storm {
                // Those that have played are described again beside their SETUP, some on a connection
                // of their own before it.
                Storm::Closes("OPTIONS") | Storm::After("OPTIONS", _) => {
                    self.worst(&["SETUP", "PLAY"], from, end)
                }
                _ => self.worst(&["DESCRIBE", "SETUP", "PLAY"], from, end),
            };
            if worst > most {
                found.push(format!("{worst} in {span}, not {most}"));
            }
        }
        if begins > 0 && self.last_media <= begins - SECOND {
            found.push("it did not play before".to_owned());
        }
        found.into_iter()
    }
}

/// What the server is, and when it begins to fail.
#[derive(Clone, Copy, Debug)]
struct Setting {
    cameras: u32,
    family: Family,
    begins: Millis,
    /// How long it takes for a DESCRIBE.
    describe: Millis,
}

async fn run(storm: Storm, setting: Setting) -> Outcome {
    let Setting {
        cameras,
        family,
        begins,
        describe,
    } = setting;
    let certificates = Certificates(Authority::new());
    let schemes = storm.schemes();
    let net = Net::new(Random::new(1), Weather::Calm, false);
    {
        let mut world = net.world();
        world.trace.be_silent();
        let server = |host| {
            let builder = MockServer::builder().cameras(cameras).family(family);
            let mut server = Server::new(host, builder.engine(host), family, 1);
            server.media_every = 100;
            server.asked = Some(Vec::new());
            server.slow = (describe > 0).then(|| ("/cam/".to_owned(), describe));
            server
        };
        world.servers = vec![server("nvr"), server("other")];
        for (server, scheme) in world.servers.iter_mut().zip(schemes) {
            let host = server.host.clone();
            server.tls = (scheme == "rtsps").then(|| certificates.of(&host));
        }
        if begins == 0 {
            storm.strike(cameras, &mut world.servers, &certificates);
        } else {
            world.at(begins, Event::Fault(Fault::Kill(0, 0, true)));
        }
    }
    let mut viewers = Viewers::new(&net, cameras, begins + LASTS);
    for camera in 1..=cameras {
        let url = format!("{}://nvr/cam/{camera}", schemes[0]);
        let options = SessionOptions {
            tls: certificates.trusted(),
            ..SessionOptions::new(&url).expect("a URL")
        };
        viewers.enter(0, options);
    }
    let mut has_struck = begins == 0;
    loop {
        {
            let mut world = net.world();
            world.proceed();
            // It was killed at that time, has come back at once, and is like this from now on.
            if world.now >= begins && !has_struck {
                has_struck = true;
                storm.strike(cameras, &mut world.servers, &certificates);
            }
        }
        viewers.executor.poll_woken();
        if viewers.executor.is_empty() {
            break;
        }
        wait(&net, &viewers.executor, None).await;
    }
    let last_media = viewers.all_seen().filter_map(|seen| seen.last().copied());
    let last_media = last_media.max();
    let mut world = net.world();
    let mut asked = |server: usize| world.servers[server].asked.take().unwrap_or_default();
    Outcome {
        asked: [asked(0), asked(1)],
        dials: world.dials_made.clone(),
        last_media: last_media.unwrap_or_default(),
    }
}

/// What each of these storms does, with one camera and many, from the start and after they have played.
fn assert_no_storm(kinds: impl IntoIterator<Item = Storm>) {
    let families = [Family::Gst, Family::MediaMtx];
    let settings = families.iter().flat_map(|family| {
        let numbers = [1, 16].into_iter();
        numbers.flat_map(|cameras| {
            [0, FAULT].map(|begins| Setting {
                cameras,
                family: *family,
                begins,
                describe: 0,
            })
        })
    });
    let settings: Vec<_> = settings.collect();
    let kinds = kinds.into_iter();
    assert_none(kinds.flat_map(|kind| settings.iter().map(move |setting| (kind, *setting))));
}

fn assert_none(storms: impl IntoIterator<Item = (Storm, Setting)>) {
    let mut findings = Vec::new();
    for (kind, setting) in storms {
        let outcome = simulate(run(kind, setting));
        let found = outcome.excess(kind, setting.cameras, setting.begins);
        findings.extend(found.map(|found| format!("{kind:?}, {setting:?}: {found}")));
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

/// Its cameras were described on connections beside those that count, when it was there.
#[test]
fn f44_no_storm_where_a_server_is_away_that_takes_long_to_describe() {
    let kinds = [Away::Refusing, Away::Unreachable].into_iter();
    let kinds = kinds.flat_map(|away| [Storm::Away(away), Storm::RedirectsToOneThatIs(away)]);
    let settings = [Family::Live555, Family::Gst].map(|family| Setting {
        cameras: 16,
        family,
        begins: FAULT,
        describe: 100,
    });
    assert_none(kinds.flat_map(|kind| settings.map(|setting| (kind, setting))));
}

#[test]
fn f44_no_storm_where_there_is_no_connection() {
    assert_no_storm(AWAY.map(Storm::Away));
}

#[test]
fn f44_no_storm_whatever_request_is_not_answered() {
    assert_no_storm(REQUESTS.map(Storm::Closes));
}

#[test]
fn f44_no_storm_whatever_request_is_forgotten() {
    assert_no_storm(["DESCRIBE", "SETUP", "PLAY"].map(Storm::Forgets));
}

#[test]
fn f44_no_storm_whatever_request_is_refused() {
    assert_no_storm(REQUESTS.map(|method| Storm::Status(method, 503)));
}

#[test]
fn f44_no_storm_whatever_request_a_close_follows() {
    assert_no_storm(REQUESTS.map(|method| Storm::After(method, Ends::Close)));
}

#[test]
fn f44_no_storm_where_sessions_are_ended() {
    for ends in [Ends::Teardown, Ends::Goodbye] {
        // No other request names a session.
        assert_no_storm(["SETUP", "PLAY"].map(|method| Storm::After(method, ends)));
    }
}

#[test]
fn f44_no_storm_wherever_redirects_lead() {
    assert_no_storm(AWAY.map(Storm::RedirectsToOneThatIs));
    assert_no_storm([
        Storm::RedirectsToOneThatCloses,
        Storm::RedirectsInACircle,
        Storm::RedirectsWithoutEnd,
    ]);
}
