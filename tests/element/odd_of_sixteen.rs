//! One odd camera of sixteen: what it costs its neighbours, as they come out of their elements (F42,
//! F43).

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstreamer as gst;

use crate::certificates::{Authority, Request};
use crate::player::{PATIENCE, Player, for_both_managers, init, manager, use_manager};
use crate::support::mock_server::{Camera, Family, MockServer, Reaction, Rule, ServerView};
use crate::support::random::Random;
use crate::support::rtsp::RtpPacket;
use crate::tls::TextFile;
use crate::tls_front::{Terms, TlsFront};

const CAMERAS: u32 = 16;
const STRAY: &[u8] = b"\x47AZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZ";

/// Between two packets of a camera.
const TICK: Duration = Duration::from_millis(20);
/// The odd one is odd every so many packets.
const EVERY: usize = 10;
/// So many packets of each camera in all.
const TICKS: usize = 160;

/// A gap that is allowed once.
const GAP: Duration = Duration::from_secs(1);
/// What a busy machine makes of the time between two packets.
const NO_GAP: Duration = Duration::from_millis(500);

/// What is odd about the odd camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    StrayBehind,
    StrayBefore,
    /// A frame says that it has 203 bytes, and has 30.
    CutFrame,
    AnswersTwice,
}

/// When the odd camera is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    First,
    Middle,
    Last,
    /// The odd camera begins when the others play.
    Later,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    oddity: Oddity,
    place: Place,
    has_sound: bool,
    is_secure: bool,
}

const fn case(oddity: Oddity, place: Place, has_sound: bool, is_secure: bool) -> Case {
    Case {
        oddity,
        place,
        has_sound,
        is_secure,
    }
}

/// When packets of the first medium came out of an element, and their numbers.
type Arrivals = Arc<Mutex<Vec<(Instant, u16)>>>;

fn arrivals(player: &Player, camera: u32) -> Arrivals {
    let arrivals = Arrivals::default();
    let into = Arc::clone(&arrivals);
    let sink = player.element(&format!("sink{camera}"));
    let pad = sink.static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(buffer) = info.buffer() {
            let data = buffer.map_readable().unwrap();
            let packet = RtpPacket::parse(&data).unwrap();
            if packet.payload_type == 96 {
                into.lock().unwrap().push((Instant::now(), packet.sequence));
            }
        }
        gst::PadProbeReturn::Ok
    });
    arrivals
}

struct Scene {
    case: Case,
    odd: u32,
    server: MockServer,
    players: Vec<Player>,
    arrivals: Vec<(u32, Arrivals)>,
    random: Random,
    _front: Option<TlsFront>,
}

impl Scene {
    fn new(case: Case) -> Self {
        init();
        let odd = match case.place {
            Place::First => 1,
            Place::Middle => CAMERAS / 2,
            Place::Last | Place::Later => CAMERAS,
        };
        let camera = if case.has_sound {
            Camera::av
        } else {
            Camera::video
        };
        let mut builder = MockServer::builder();
        for number in 1..=CAMERAS {
            builder = builder.camera(&path(number), camera().number(number));
        }
        if case.oddity == Oddity::AnswersTwice {
            builder = builder.rule(Rule::new("*", Reaction::Twice).camera(&path(odd)));
        }
        let server = builder.family(Family::Gst).start();
        let (front, properties) = secure(case, &server);
        let mut scene = Self {
            case,
            odd,
            server,
            players: Vec::new(),
            arrivals: Vec::new(),
            random: Random::new(1),
            _front: front,
        };
        let together = CAMERAS - u32::from(case.place == Place::Later);
        scene.start(1..=together, &properties);
        if case.place == Place::Later {
            scene.start(odd..=odd, &properties);
        }
        assert_eq!(scene.server.accepted(), 1, "{case:?}");
        scene
    }

    fn start(
        &mut self,
        cameras: std::ops::RangeInclusive<u32>,
        properties: &dyn Fn(u32) -> String,
    ) {
        let last = *cameras.end() as usize;
        let line = |camera| {
            let properties = properties(camera);
            let branch = |media: &str, name: &str| {
                format!(
                    "source{camera}. ! application/x-rtp,media={media} ! fakesink \
                     name={name}{camera} sync=false async=false "
                )
            };
            let sound = match self.case.has_sound {
                true => branch("audio", "sound"),
                false => String::new(),
            };
            format!(
                "rtspmuxsrc name=source{camera} {properties} latency=0 {} {sound}",
                branch("video", "sink")
            )
        };
        let player = Player::new(&cameras.clone().map(line).collect::<String>());
        let arrivals = cameras.map(|camera| (camera, arrivals(&player, camera)));
        self.arrivals.extend(arrivals);
        player.set_state(gst::State::Playing).unwrap();
        self.players.push(player);
        let all_play = |view: &ServerView| view.playing() == last;
        assert!(
            self.server.wait_until(all_play, PATIENCE),
            "{:?}",
            self.case
        );
    }

    /// Sends media of all cameras, in any order; the odd one misbehaves now and then.
    fn play(&mut self) {
        let mut next = Instant::now();
        for tick in 0..TICKS {
            let mut cameras: Vec<u32> = (1..=CAMERAS).collect();
            while !cameras.is_empty() {
                let camera = cameras.swap_remove(self.random.index(cameras.len()));
                let is_odd = camera == self.odd && tick % EVERY == EVERY - 1;
                self.send(camera, is_odd.then_some(self.case.oddity));
            }
            next += TICK;
            let left = next.saturating_duration_since(Instant::now());
            self.server.wait_until(|_| false, left);
        }
    }

    fn send(&self, camera: u32, oddity: Option<Oddity>) {
        let path = path(camera);
        let connection = || {
            let view = self.server.view();
            let mut sessions = view.sessions.iter().rev();
            let its_own = sessions.find(|session| session.camera == path).unwrap();
            (its_own.connection, its_own.tracks[0].1.0)
        };
        let raw = |bytes: &[u8]| self.server.send_raw(connection().0, bytes);
        match oddity {
            Some(Oddity::StrayBehind) => {
                self.server.send_packets(&path, 1);
                raw(STRAY);
            }
            Some(Oddity::StrayBefore) => {
                raw(STRAY);
                self.server.send_packets(&path, 1);
            }
            Some(Oddity::CutFrame) => {
                self.server.send_packets(&path, 1);
                let mut cut = vec![b'$', connection().1, 0, 203, 0x80, 96];
                cut.resize(34, 7);
                raw(&cut);
            }
            Some(Oddity::AnswersTwice) | None => drop(self.server.send_packets(&path, 1)),
        }
    }

    fn assert_neighbours_were_left_alone(&self) {
        let case = self.case;
        let all_came = |arrivals: &Arrivals| arrivals.lock().unwrap().len() >= TICKS * 9 / 10;
        let deadline = Instant::now() + PATIENCE;
        for (camera, arrivals) in self
            .arrivals
            .iter()
            .filter(|(camera, _)| *camera != self.odd)
        {
            while !all_came(arrivals) {
                assert!(
                    Instant::now() < deadline,
                    "{case:?}: camera {camera} gets too little"
                );
                self.server.wait_until(|_| false, TICK);
            }
            let arrivals = arrivals.lock().unwrap();
            let gaps = arrivals.windows(2).map(|pair| pair[1].0 - pair[0].0);
            let mut gaps: Vec<Duration> = gaps.filter(|gap| *gap > NO_GAP).collect();
            gaps.sort();
            assert!(gaps.len() <= 1, "{case:?}: camera {camera}: {gaps:?}");
            assert!(
                gaps.iter().all(|gap| *gap <= GAP),
                "{case:?}: camera {camera}: {gaps:?}"
            );
            let missing = missing(&arrivals);
            // Three times a frame that is cut destroys frames of other cameras.
            let most = if case.oddity == Oddity::CutFrame {
                3 * 4
            } else {
                0
            };
            assert!(
                missing <= most,
                "{case:?}: camera {camera} misses {missing}"
            );
        }
        let view = self.server.view();
        let is_elsewhere = |camera: u32| {
            let mut sessions = view.sessions.iter();
            sessions.any(|session| session.camera == path(camera) && session.connection > 0)
        };
        let elsewhere: Vec<u32> = (1..=CAMERAS)
            .filter(|camera| is_elsewhere(*camera))
            .collect();
        match case.oddity {
            Oddity::AnswersTwice => assert_eq!(elsewhere, [0; 0], "{case:?}"),
            _ => assert_eq!(elsewhere, [self.odd], "{case:?}"),
        }
        assert_eq!(view.accepted, 1 + elsewhere.len(), "{case:?}");
        self.players.iter().for_each(Player::assert_no_error);
    }
}

/// Packets between the first and the last one that did not come.
fn missing(arrivals: &[(Instant, u16)]) -> usize {
    let numbers = arrivals.windows(2);
    let steps = numbers.map(|pair| usize::from(pair[1].1.wrapping_sub(pair[0].1)));
    steps.sum::<usize>() + 1 - arrivals.len()
}

fn path(camera: u32) -> String {
    format!("/cam/{camera}")
}

/// What is in front of the server, and where and how a camera is asked for.
fn secure(case: Case, server: &MockServer) -> (Option<TlsFront>, Box<dyn Fn(u32) -> String>) {
    if !case.is_secure {
        let url = server.url("");
        return (
            None,
            Box::new(move |camera| format!("location={url}{}", path(camera))),
        );
    }
    let authority = Authority::new();
    let identity = authority.issue(&Request::server(&["localhost", "127.0.0.1"]));
    let front = TlsFront::with_terms(&identity, server.address(), &Terms::default());
    let name = front.url("").replace(['/', ':'], "");
    let file = TextFile::new(&format!("{name}.pem"), &authority.pem());
    let url = front.url("").replace("rtsps://", "rtspst://");
    let properties = move |camera| {
        let (path, file) = (path(camera), file.0.display());
        format!("location={url}{path} tls-ca-file={file}")
    };
    (Some(front), Box::new(properties))
}

/// All at the same time, each with a server of its own.
fn run(cases: &[Case]) {
    let manager = manager();
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || {
                use_manager(manager);
                let mut scene = Scene::new(*case);
                scene.play();
                scene.assert_neighbours_were_left_alone();
            });
        }
    });
}

for_both_managers!(f42_stray_bytes_behind_its_frames_cost_the_others_nothing);
fn f42_stray_bytes_behind_its_frames_cost_the_others_nothing() {
    run(&[
        case(Oddity::StrayBehind, Place::First, false, false),
        case(Oddity::StrayBehind, Place::Middle, true, true),
        case(Oddity::StrayBehind, Place::Last, true, false),
        case(Oddity::StrayBehind, Place::Later, false, true),
    ]);
}

for_both_managers!(f42_stray_bytes_before_its_frames_cost_the_others_nothing);
fn f42_stray_bytes_before_its_frames_cost_the_others_nothing() {
    run(&[
        case(Oddity::StrayBefore, Place::First, true, false),
        case(Oddity::StrayBefore, Place::Middle, false, true),
        case(Oddity::StrayBefore, Place::Later, false, false),
    ]);
}

for_both_managers!(f42_frames_that_are_cut_cost_the_others_a_few_packets);
fn f42_frames_that_are_cut_cost_the_others_a_few_packets() {
    run(&[
        case(Oddity::CutFrame, Place::First, true, true),
        case(Oddity::CutFrame, Place::Middle, false, false),
        case(Oddity::CutFrame, Place::Last, false, true),
        case(Oddity::CutFrame, Place::Later, true, false),
    ]);
}

for_both_managers!(f43_answers_sent_twice_cost_the_others_nothing);
fn f43_answers_sent_twice_cost_the_others_nothing() {
    run(&[
        case(Oddity::AnswersTwice, Place::First, true, false),
        case(Oddity::AnswersTwice, Place::Middle, false, true),
        case(Oddity::AnswersTwice, Place::Last, false, false),
        case(Oddity::AnswersTwice, Place::Later, true, true),
    ]);
}
