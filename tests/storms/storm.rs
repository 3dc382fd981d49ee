//! One server that fails, and the cameras that a pipeline plays from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::away::NoServer;
use crate::calls;
use crate::certificates::{Authority, Identity, Request};
use crate::support::mock_server::{Behaviour, Family, MockServer, Reaction, Rule};
use crate::tls_front::TlsFront;

/// Redirects that a session follows.
const HOPS: usize = 5;

/// How a server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Away(Away),
    /// Its DESCRIBEs lead to a server that cannot be reached.
    RedirectsTo(Away),
    /// They lead to another server that leads back.
    RedirectsInACircle,
    /// Each leads somewhere else, without end.
    RedirectsWithoutEnd,
    /// It closes instead of an answer to this.
    Closes(&'static str),
    /// It does this, and never answers it.
    Forgets(&'static str),
    /// It refuses this with 503.
    Refuses(&'static str),
    /// It answers this, and then it ends the session, or the connection.
    After(&'static str, Ends),
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Away {
    Refusing,
    /// It answers no dial.
    Silent,
    /// There is no such name.
    Unknown,
    /// It shows a certificate that it has signed itself.
    Unproven,
    /// It accepts connections, and does not answer in the TLS handshake.
    Stalling,
}

impl Away {
    fn is_of_tls(self) -> bool {
        matches!(self, Self::Unproven | Self::Stalling)
    }
}

/// How a session ends that has been set up or plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    Close,
    Teardown,
    Goodbye,
}

pub(crate) const FAULTS: [Fault; 27] = [
    Fault::Away(Away::Refusing),
    Fault::Away(Away::Silent),
    Fault::Away(Away::Unknown),
    Fault::Away(Away::Unproven),
    Fault::Away(Away::Stalling),
    Fault::RedirectsTo(Away::Refusing),
    Fault::RedirectsTo(Away::Silent),
    Fault::RedirectsTo(Away::Unknown),
    Fault::RedirectsTo(Away::Unproven),
    Fault::RedirectsTo(Away::Stalling),
    Fault::RedirectsInACircle,
    Fault::RedirectsWithoutEnd,
    Fault::Closes("DESCRIBE"),
    Fault::Closes("SETUP"),
    Fault::Closes("PLAY"),
    Fault::Forgets("DESCRIBE"),
    Fault::Forgets("SETUP"),
    Fault::Forgets("PLAY"),
    Fault::Refuses("DESCRIBE"),
    Fault::Refuses("SETUP"),
    Fault::Refuses("PLAY"),
    Fault::After("DESCRIBE", Ends::Close),
    Fault::After("SETUP", Ends::Close),
    Fault::After("PLAY", Ends::Close),
    Fault::After("SETUP", Ends::Teardown),
    Fault::After("PLAY", Ends::Teardown),
    Fault::After("PLAY", Ends::Goodbye),
];

impl Fault {
    fn away(self) -> Option<Away> {
        match self {
            Self::Away(away) | Self::RedirectsTo(away) => Some(away),
            _ => None,
        }
    }

    /// What befalls single requests, where a redirect leads to `target`.
    fn rules(self, cameras: u32, target: &str) -> Vec<Rule> {
        let ends = |ends| match ends {
            Ends::Close => Reaction::HalfClose,
            Ends::Teardown => Reaction::Teardown,
            Ends::Goodbye => Reaction::Goodbye,
        };
        match self {
            Self::Away(_) => Vec::new(),
            Self::RedirectsTo(_) | Self::RedirectsInACircle => redirects(cameras, target),
            Self::RedirectsWithoutEnd => {
                let (count, target) = (AtomicU64::new(0), target.to_owned());
                let elsewhere = Reaction::edit(move |response| {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    response.status = 302;
                    let to = format!("{target}/cam/1?{number}");
                    response.headers.push("Location".to_owned(), to);
                });
                vec![Rule::new("DESCRIBE", elsewhere)]
            }
            Self::Closes(method) => vec![Rule::new(method, Reaction::Close)],
            Self::Forgets(method) => vec![Rule::new(method, Reaction::Unanswered)],
            Self::Refuses(method) => vec![Rule::new(method, Reaction::status(503))],
            Self::After(method, how) => vec![Rule::new(method, ends(how))],
        }
    }
}

/// Of each camera to the one of the same path there.
fn redirects(cameras: u32, target: &str) -> Vec<Rule> {
    let rule = |camera: u32| {
        let path = format!("/cam/{camera}");
        let to = Reaction::redirect(&format!("{target}{path}"));
        Rule::new("DESCRIBE", to).camera(&path)
    };
    (1..=cameras).map(rule).collect()
}

/// The certificates of all servers.
pub(crate) struct Certificates {
    good: Identity,
    bad: Identity,
    /// What the elements trust.
    file: std::path::PathBuf,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let authority = Authority::new();
        let request = Request::server(&["127.0.0.1"]);
        let name = format!("rtspmux-storms-{}.pem", std::process::id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, authority.pem()).unwrap();
        Self {
            good: authority.issue(&request),
            bad: request.self_signed(),
            file,
        }
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Counts of dials, and of each kind of request, by server.
pub(crate) type Counts = BTreeMap<String, usize>;

/// A server and its cameras.
pub(crate) struct Storm {
    pub(crate) name: String,
    pub(crate) fault: Fault,
    pub(crate) cameras: u32,
    /// The server fails after its cameras have played; else from the beginning.
    pub(crate) has_played: bool,
    manager: &'static str,
    /// None: it is away.
    pub(crate) server: Option<MockServer>,
    /// The one that a redirect leads to.
    other: Option<MockServer>,
    front: Option<TlsFront>,
    no_server: Option<NoServer>,
    /// What was counted before the storm.
    before: Counts,
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = match self.has_played {
            true => "after having played",
            false => "at first",
        };
        let (fault, cameras, manager) = (self.fault, self.cameras, self.manager);
        write!(f, "{fault:?}, {cameras} cameras, {when}, {manager}")
    }
}

fn mock_server(cameras: u32) -> MockServer {
    MockServer::builder()
        .cameras(cameras)
        .family(Family::Gst)
        .behaviour(Behaviour::PacketsAfterPlay(2))
        .start()
}

impl Storm {
    pub(crate) fn new(
        name: String,
        fault: Fault,
        cameras: u32,
        has_played: bool,
        manager: &'static str,
        certificates: &Certificates,
    ) -> Self {
        let is_there = has_played || !matches!(fault, Fault::Away(Away::Refusing | Away::Silent));
        let mut storm = Self {
            name,
            fault,
            cameras,
            has_played,
            manager,
            server: is_there.then(|| mock_server(cameras)),
            other: None,
            front: None,
            no_server: None,
            before: Counts::new(),
        };
        storm.add_target(certificates);
        if has_played {
            calls::resolve(&storm.host());
        } else {
            storm.strike(certificates);
        }
        storm
    }

    /// What is beside the server, or in front of it.
    fn add_target(&mut self, certificates: &Certificates) {
        match self.fault {
            Fault::RedirectsTo(Away::Refusing) => self.no_server = Some(NoServer::refusing(0)),
            Fault::RedirectsTo(Away::Silent) => self.no_server = Some(NoServer::silent(0)),
            Fault::RedirectsTo(Away::Unproven | Away::Stalling) | Fault::RedirectsInACircle => {
                self.other = Some(mock_server(self.cameras));
            }
            _ => {}
        }
        if self.fault.away().is_some_and(Away::is_of_tls)
            && let Some(behind) = self.other.as_ref().or(self.server.as_ref())
        {
            self.front = Some(TlsFront::start(&certificates.good, behind.address()));
        }
    }

    /// A name of its own.
    fn host(&self) -> String {
        format!("{}{}", self.name, calls::DOMAIN)
    }

    /// What cannot be reached, or the server that a redirect leads to.
    fn target(&self) -> String {
        let port = self.no_server.as_ref().map(NoServer::port);
        let port = port.or(self.server.as_ref().map(|server| server.address().port()));
        let port = port.unwrap_or_default();
        match (self.fault.away(), &self.front, &self.other) {
            (Some(Away::Unknown), ..) => format!("rtsp://{}:{port}", self.host()),
            (_, Some(front), _) => front.url_by_address(""),
            (_, _, Some(other)) => other.url(""),
            _ => format!("rtsp://127.0.0.1:{port}"),
        }
    }

    /// What the user names.
    fn named(&self) -> String {
        match (self.fault, &self.server) {
            (Fault::Away(_), _) | (_, None) => self.target(),
            (_, Some(server)) => server.url(""),
        }
    }

    /// Its part of a pipeline.
    pub(crate) fn line(&self, certificates: &Certificates) -> String {
        let (name, manager, named) = (&self.name, self.manager, self.named());
        let trust = match self.front {
            Some(_) => format!("tls-ca-file={}", certificates.file.display()),
            None => String::new(),
        };
        let cameras = (1..=self.cameras).map(|camera| {
            format!(
                "rtspmuxsrc name={name}-{camera} manager={manager} location={named}/cam/{camera} \
                 latency=0 {trust} ! fakesink name=sink-{name}-{camera} sync=false async=false "
            )
        });
        cameras.collect()
    }

    /// From now on the server fails.
    pub(crate) fn strike(&mut self, certificates: &Certificates) {
        let target = self.target();
        if let (Fault::RedirectsInACircle, Some(other), Some(server)) =
            (self.fault, &self.other, &self.server)
        {
            let back = redirects(self.cameras, &server.url(""));
            back.into_iter().for_each(|rule| other.add_rule(rule));
        }
        if let Some(server) = &self.server {
            let rules = self.fault.rules(self.cameras, &target);
            rules.into_iter().for_each(|rule| server.add_rule(rule));
        }
        calls::forget(&self.host());
        if let Some(front) = &self.front {
            match self.fault.away() {
                Some(Away::Stalling) => front.stall(),
                _ => front.show(&certificates.bad),
            }
        }
        if let Fault::Away(away @ (Away::Refusing | Away::Silent)) = self.fault {
            let port = self.server.take().map_or(0, |server| {
                let port = server.address().port();
                server.stop();
                port
            });
            self.no_server = Some(match away {
                Away::Silent => NoServer::silent(port),
                _ => NoServer::refusing(port),
            });
        }
        self.before = self.counts();
        if let Some(server) = &self.server {
            server.close_connections();
        }
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::new();
        for (server, which) in [(&self.server, "server"), (&self.other, "other server")] {
            let Some(server) = server else { continue };
            let view = server.view();
            for method in ["DESCRIBE", "SETUP", "PLAY"] {
                counts.insert(format!("{method}s at the {which}"), view.count(method));
            }
            // The front dials the server behind it.
            if self.front.is_none() {
                let dials = calls::dials(server.address().port());
                counts.insert(format!("dials of the {which}"), dials);
            }
        }
        let ports = [
            self.no_server.as_ref().map(NoServer::port),
            self.front.as_ref().map(|front| front.address().port()),
        ];
        for port in ports.into_iter().flatten() {
            counts.insert("dials of the target".to_owned(), calls::dials(port));
        }
        counts.insert("lookups".to_owned(), calls::lookups(&self.host()));
        counts
    }

    /// What has come since the storm began.
    pub(crate) fn since(&self) -> Counts {
        let counts = self.counts().into_iter();
        let since = counts.map(|(what, count)| {
            let before = self.before.get(&what).copied().unwrap_or_default();
            (what, count.saturating_sub(before))
        });
        since.collect()
    }

    /// Of each kind of request, and of dials, how many the cameras may cause in the first minute beside the
    /// budget: by their start, or their return after a success.
    pub(crate) fn free(&self) -> usize {
        let is_alone = self.cameras == 1;
        let each = match self.fault {
            Fault::RedirectsWithoutEnd if is_alone => 1 + HOPS,
            // PLAY is answered: that is the start, and what comes after it the return.
            Fault::After("PLAY", _) if is_alone => 2,
            _ if is_alone => 1,
            // Some of the hops lead to another connection.
            Fault::RedirectsWithoutEnd => 1 + HOPS + 1,
            Fault::Away(_) => 1,
            // What fails on a connection with others is tried again on another one, or alone, and for PLAY
            // on three others. How often depends on what the machine has time for; the simulator holds
            // the exact numbers.
            _ => 4,
        };
        each * self.cameras as usize
    }

    /// Whether each camera says why in the first half of the minute: where nothing is answered it waits for
    /// the requests before its own.
    pub(crate) fn is_told_soon(&self) -> bool {
        !matches!(self.fault, Fault::Forgets(_))
    }

    /// Its cameras' names.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        (1..=self.cameras).map(|camera| format!("{}-{camera}", self.name))
    }
}
