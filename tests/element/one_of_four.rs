//! What cameras were reported to do, each as one of four on a connection: it plays, and the other three lose
//! nothing.
//!
//! What a whole server does is in `account.rs`, `one_id.rs` and `tests/servers.rs`; a camera with stray bytes
//! is in `odd_camera.rs`, one that comes back with other streams in `recovery/streams.rs`.

#[path = "one_of_four/ends.rs"]
mod ends;
#[path = "one_of_four/heads.rs"]
mod heads;
#[path = "one_of_four/urls.rs"]
mod urls;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gstreamer as gst;

use crate::certificates::{Authority, Identity, Request};
use crate::odd_setups::oddities;
use crate::player::{PATIENCE, Player, Seen, for_both_managers, init};
use crate::support::mock_server::{
    Behaviour, Builder, Camera, Family, MockServer, Reaction, Rule, SessionView,
};
use crate::support::rtsp::{Frame, Response, RtpPacket, rtcp_bye};
use crate::tls::TextFile;
use crate::tls_front::{Terms, TlsFront};

/// The odd one; 1 to 3 are its neighbours, and 5 to 16 where it is one of sixteen.
const ODD: u32 = 4;
const PATH: &str = "/cam/4";

/// So many pictures are sent.
const PICTURES: u16 = 20;

/// The time between two pictures, where that matters.
const INTERVAL: Duration = Duration::from_millis(40);

/// What the odd camera does.
struct Kind {
    name: String,
    camera: Camera,
    /// What the whole server does.
    server: fn(Builder) -> Builder,
    /// What stands before the path in the URLs of the neighbours, and in its own; none: the server's address.
    hosts: [&'static str; 2],
    rules: Vec<Rule>,
    properties: &'static str,
    /// Cameras beside it.
    neighbours: u32,
    /// Sends its media. Gives how many pictures come out.
    send: fn(&Scene) -> usize,
    /// A WARNING says this.
    warning: Option<&'static str>,
}

impl Kind {
    fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            camera: Camera::av(),
            server: |builder| builder,
            hosts: [""; 2],
            rules: Vec::new(),
            properties: "",
            neighbours: ODD - 1,
            send: |scene| {
                scene.server.send_packets(PATH, u32::from(PICTURES));
                usize::from(PICTURES)
            },
            warning: None,
        }
    }

    fn camera(self, camera: Camera) -> Self {
        Self { camera, ..self }
    }

    fn described(self, media: &str) -> Self {
        let sdp =
            format!("v=0\r\no=- 4 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=control:*\r\n{media}");
        self.camera(Camera::av().sdp(sdp))
    }

    fn server(self, server: fn(Builder) -> Builder) -> Self {
        Self { server, ..self }
    }

    fn hosts(self, neighbours: &'static str, own: &'static str) -> Self {
        let hosts = [neighbours, own];
        Self { hosts, ..self }
    }

    fn properties(self, properties: &'static str) -> Self {
        Self { properties, ..self }
    }

    fn one_of_sixteen(self) -> Self {
        let neighbours = 15;
        Self { neighbours, ..self }
    }

    fn is_ipv6(&self) -> bool {
        self.hosts[0].contains('[')
    }

    fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule.camera(PATH));
        self
    }

    fn send(self, send: fn(&Scene) -> usize) -> Self {
        Self { send, ..self }
    }

    fn warns(self, text: &'static str) -> Self {
        let warning = Some(text);
        Self { warning, ..self }
    }

    fn play(self, tls: Option<&Tls>) {
        println!("{}", self.name);
        let scene = Scene::new(&self, tls);
        let expected = (self.send)(&scene);
        let came = scene.picture.wait_for(expected);
        let times: Vec<_> = came.iter().filter_map(|buffer| buffer.pts()).collect();
        assert!(times.len() == came.len() && times.is_sorted(), "{times:?}");
        scene.check(self.warning);
    }
}

/// What servers show that speak TLS, and what trusts it.
struct Tls {
    identity: Identity,
    trusted: TextFile,
}

impl Tls {
    /// `name`: of the file, one for each test.
    fn new(name: &str) -> Self {
        let authority = Authority::new();
        Self {
            identity: authority.issue(&Request::server(&["localhost", "::1"])),
            trusted: TextFile::new(name, &authority.pem()),
        }
    }
}

struct Scene {
    server: MockServer,
    _front: Option<TlsFront>,
    neighbours: Player,
    seen: Vec<(u32, Arc<Seen>)>,
    odd: Player,
    picture: Arc<Seen>,
}

impl Scene {
    fn new(kind: &Kind, tls: Option<&Tls>) -> Self {
        init();
        let builder = MockServer::builder()
            .cameras(ODD - 1)
            .camera(PATH, kind.camera.clone().number(ODD))
            .family(Family::Gst)
            .behaviour(Behaviour::OmitSsrc);
        let others = ODD + 1..=kind.neighbours + 1;
        let builder = others.clone().fold(builder, |builder, number| {
            builder.camera(&format!("/cam/{number}"), Camera::video().number(number))
        });
        let number = kind.neighbours as usize;
        let builder = (kind.server)(builder);
        let is_ipv6 = kind.is_ipv6();
        let server = match is_ipv6 {
            true => builder.start_on_ipv6(),
            false => builder.start(),
        };
        let terms = Terms {
            is_ipv6,
            ..Terms::default()
        };
        let front = tls.map(|tls| TlsFront::with_terms(&tls.identity, server.address(), &terms));
        let (scheme, name, port) = match &front {
            Some(front) => ("rtsps", "localhost", front.address().port()),
            None => ("rtsp", "127.0.0.1", server.address().port()),
        };
        let trust = tls.map(|tls| format!("tls-ca-file={}", tls.trusted.0.display()));
        let trust = trust.unwrap_or_default();
        let source = |camera| {
            let host = match kind.hosts[usize::from(camera == ODD)] {
                host if host.ends_with(']') => host.to_owned(),
                account => format!("{account}{name}"),
            };
            format!(
                "rtspmuxsrc name=source{camera} location=\"{scheme}://{host}:{port}/cam/{camera}\" \
                 {trust} latency=100"
            )
        };
        let line = |camera| {
            let source = source(camera);
            format!("{source} ! fakesink name=sink{camera} sync=false async=false ")
        };
        let cameras = (1..ODD).chain(others);
        let neighbours = Player::playing(&cameras.clone().map(line).collect::<String>());
        let seen = cameras.map(|camera| (camera, neighbours.seen_by(&format!("sink{camera}"))));
        let seen: Vec<_> = seen.collect();
        assert!(server.wait_until(|view| view.playing() == number, PATIENCE));
        assert_eq!(server.accepted(), 1);
        for rule in &kind.rules {
            server.add_rule(rule.clone());
        }
        let odd = Player::playing(&format!(
            "{} {} \
             ! application/x-rtp,media=video ! fakesink name=picture sync=false async=false",
            source(ODD),
            kind.properties
        ));
        let picture = odd.seen_by("picture");
        let scene = Self {
            server,
            _front: front,
            neighbours,
            seen,
            odd,
            picture,
        };
        assert!(
            scene
                .server
                .wait_until(|view| view.playing() == number + 1, PATIENCE)
        );
        scene
    }

    /// The session of the odd camera that plays.
    fn session(&self) -> SessionView {
        let sessions = self.server.view().sessions;
        let mut playing = sessions.into_iter().filter(|it| it.is_playing);
        playing.find(|session| session.camera == PATH).unwrap()
    }

    fn send_frame(&self, session: &SessionView, channel: u8, payload: Vec<u8>) {
        let frame = Frame { channel, payload };
        self.server.send_raw(session.connection, &frame.to_bytes());
    }

    /// Sends these pictures, and gives their number.
    fn send_pictures(&self, pictures: impl Iterator<Item = RtpPacket>) -> usize {
        let session = self.session();
        let channel = session.tracks[0].1.0;
        let sent = pictures.map(|it| self.send_frame(&session, channel, it.to_bytes()));
        sent.count()
    }

    /// The neighbours have lost nothing, and no camera has failed.
    fn check(&self, warning: Option<&str>) {
        self.server.send_packets_to_all(20);
        for (camera, seen) in &self.seen {
            let buffers = seen.wait_for(20);
            let numbers: Vec<_> = buffers
                .iter()
                .map(|it| Camera::index_of(&it.map_readable().unwrap()).unwrap())
                .collect();
            assert_eq!(numbers, (0..20).collect::<Vec<_>>(), "camera {camera}");
        }
        if let Some(expected) = warning {
            let message = self.odd.warning_or_error();
            let gst::MessageView::Warning(warning) = message.view() else {
                panic!("{message:?}")
            };
            let text = warning.error().to_string();
            assert!(text.contains(expected), "{text}");
        }
        self.odd.assert_no_error();
        self.neighbours.assert_no_error();
        let view = self.server.view();
        assert_eq!(view.playing(), self.seen.len() + 1);
        // One to describe the odd camera on, and one that it may need of its own.
        assert!(view.accepted <= 3, "{} connections", view.accepted);
        let of_neighbours = view.sessions.iter().filter(|it| it.camera != PATH);
        assert!(of_neighbours.clone().all(|it| it.connection == 0));
        assert_eq!(of_neighbours.count(), self.seen.len());
    }
}

fn picture(number: u16, payload_type: u8) -> RtpPacket {
    RtpPacket {
        payload_type,
        sequence: number,
        timestamp: u32::from(number) * 3_000,
        ssrc: Camera::ssrc(ODD, 0),
        marker: true,
        // Every fifth one is a key picture.
        payload: vec![
            if number.is_multiple_of(5) { 0x65 } else { 0x41 },
            0x88,
            number as u8,
            0,
        ],
    }
}

const PICTURE: &str = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\n";
const SOUND: &str = "m=audio 0 RTP/AVP 8\r\na=control:stream=1\r\n";

/// The answers to all SETUPs of the camera name the channels of the first one.
fn same_channels() -> Reaction {
    let first = Arc::<Mutex<Option<String>>>::default();
    Reaction::edit(move |response| {
        let mut first = first.lock().unwrap();
        let own = response.headers.value("Transport").unwrap_or_default();
        let transport = first.get_or_insert_with(|| own.to_owned()).clone();
        let mut edited = Response::new(response.status);
        for (name, value) in response.headers.iter() {
            let is_it = name.eq_ignore_ascii_case("Transport");
            edited = edited.header(
                name,
                if is_it {
                    transport.clone()
                } else {
                    value.to_owned()
                },
            );
        }
        *response = edited;
    })
}

/// The base for control URLs is a file: by RFC 3986 a control attribute takes its place, and is not appended.
fn based_on_a_file() -> Reaction {
    Reaction::edit(|response| {
        let base = response.headers.value("Content-Base").map(str::to_owned);
        if let Some(base) = base {
            response.headers.set("Content-Base", format!("{base}x.sdp"));
        }
    })
}

/// Cameras whose control URLs are not what they are usually taken for.
fn with_other_controls() -> Vec<Kind> {
    let kind = |status| {
        let appended = |stream| format!("x.sdp/stream={stream}");
        let refused = Reaction::status(status);
        Kind::new(format!("control URLs by RFC 3986, or {status}"))
            .rule(Rule::new("DESCRIBE", based_on_a_file()))
            .rule(Rule::new("SETUP", refused.clone()).control(&appended(0)))
            .rule(Rule::new("SETUP", refused).control(&appended(1)))
    };
    [400, 403, 404, 451, 454, 500].map(kind).into()
}

fn without_session() -> Reaction {
    Reaction::edit(|response| response.headers.remove("Session"))
}

/// Media of a server that never answers PLAY: it goes on until the session takes it for the answer.
fn until_it_plays(scene: &Scene) -> usize {
    let deadline = Instant::now() + PATIENCE;
    while scene.picture.count() == 0 {
        assert!(Instant::now() < deadline, "no picture");
        scene.server.send_packets(PATH, 1);
        scene.server.wait_until(|_| false, INTERVAL);
    }
    1
}

/// Cameras of which one stream cannot be had.
fn with_a_stream_less() -> Vec<Kind> {
    let kind = |(at, (name, reaction)): (usize, (&str, Reaction))| {
        let odd = 1 + at % 2;
        let rule = Rule::new("SETUP", reaction.clone()).control(&format!("stream={odd}"));
        let kind = Kind::new(format!("{name} {reaction:?} for stream {odd}"))
            .camera(Camera::with_two_sounds())
            .rule(rule)
            .warns("left out");
        // A server that does not answer costs a second.
        kind.properties("tcp-timeout=1000000")
    };
    oddities().into_iter().enumerate().map(kind).collect()
}

fn with_odd_descriptions() -> Vec<Kind> {
    let with = |from: &str, to: &str| format!("{PICTURE}{SOUND}").replace(from, to);
    // What the server wants to hear is not set up: it would close.
    let spoken = format!(
        "{PICTURE}{}",
        SOUND.replace("a=control", "a=sendonly\r\na=control")
    );
    let close = Rule::new("SETUP", Reaction::Close).control("stream=1");
    vec![
        Kind::new("protocol of interleaving").described(&with("RTP/AVP", "RTP/AVP/TCP")),
        Kind::new("protocol of datagrams").described(&with("RTP/AVP", "RTP/AVP/UDP")),
        Kind::new("lower case").described(&with("RTP/AVP", "rtp/avp")),
        Kind::new("feedback").described(&with("RTP/AVP", "RTP/AVPF")),
        Kind::new("no clock rate").described(&with("H264/90000", "H264/")),
        Kind::new("clock rate of 0").described(&with("H264/90000", "H264/0")),
        Kind::new("the present only").described(&format!("a=range:npt=now-\r\n{PICTURE}{SOUND}")),
        Kind::new("579 kB").camera(Camera::av().sdp_size(579_000)),
        Kind::new("a medium that the server receives")
            .described(&spoken)
            .rule(close),
    ]
}

fn with_odd_answers() -> Vec<Kind> {
    vec![
        Kind::new("PLAY refused for its range")
            .rule(Rule::new("PLAY", Reaction::status(457)).times(1)),
        Kind::new("PLAY not answered")
            .rule(Rule::new("PLAY", Reaction::Unanswered))
            .send(until_it_plays),
        Kind::new("one pair of channels for both streams")
            .rule(Rule::new("SETUP", same_channels())),
        Kind::new("no session id before PLAY")
            .server(|builder| builder.behaviour(Behaviour::FindsSessionsByUri))
            .rule(Rule::new("SETUP", without_session())),
        Kind::new("no session id at all")
            .server(|builder| builder.behaviour(Behaviour::FindsSessionsByUri))
            .rule(Rule::new("*", without_session())),
        Kind::new("no session id in the first answer")
            .server(|builder| builder.behaviour(Behaviour::FindsSessionsByUri))
            .rule(Rule::new("SETUP", without_session()).times(1)),
        Kind::new("no session id in the second answer")
            .rule(Rule::new("SETUP", without_session()).skip(1)),
    ]
}

fn with_odd_media() -> Vec<Kind> {
    vec![
        Kind::new("a new source with each group of pictures").send(|scene| {
            scene.send_pictures((0..PICTURES).map(|number| RtpPacket {
                ssrc: Camera::ssrc(ODD, 0) + u32::from(number / 5),
                ..picture(number, 96)
            }))
        }),
        Kind::new("neighbours swapped").send(|scene| {
            // The first ones are in order: rtpbin believes no other source.
            let place = |number| if number < 4 { number } else { number ^ 1 };
            scene.send_pictures((0..PICTURES).map(|number| picture(place(number), 96)))
        }),
        Kind::new("an encoder that begins anew").send(|scene| {
            scene.send_pictures((0..PICTURES).map(|number| RtpPacket {
                sequence: if number < 10 {
                    number + 100
                } else {
                    number + 40
                },
                timestamp: u32::from(number) * 3_000 + u32::from(number / 10) * 9_000_000,
                ..picture(number, 96)
            }))
        }),
        Kind::new("two codecs in one medium")
            .described(
                "m=video 0 RTP/AVP 96 97\r\na=rtpmap:96 H264/90000\r\na=rtpmap:97 H265/90000\r\n\
                 a=control:stream=0\r\n",
            )
            .send(|scene| {
                let kind = |number| if number < 10 { 96 } else { 97 };
                scene.send_pictures((0..PICTURES).map(|number| picture(number, kind(number))))
            }),
        Kind::new("the end of the sound alone").send(|scene| {
            let session = scene.session();
            scene.server.send_packets(PATH, 10);
            let sound = Camera::ssrc(ODD, 1);
            let bye = [
                &[0x80, 201, 0, 1][..],
                &sound.to_be_bytes(),
                &rtcp_bye(sound),
            ]
            .concat();
            scene.send_frame(&session, session.tracks[1].1.1, bye);
            scene.server.send_packets(PATH, 10);
            20
        }),
        Kind::new("a camera that wakes up at PLAY")
            .properties("media-timeout=1000000000")
            .send(|scene| {
                // Later than media may stay away once it has come.
                let end = Instant::now() + Duration::from_millis(1_500);
                scene
                    .server
                    .wait_until(|_| Instant::now() > end, 2 * INTERVAL);
                while Instant::now() < end {
                    scene.server.wait_until(|_| false, INTERVAL);
                }
                assert_eq!(scene.session().number, 4);
                scene.server.send_packets(PATH, 20);
                20
            }),
        Kind::new("a sender that sets its clock").send(|scene| {
            for seconds in [0, 0, 2, 2] {
                scene
                    .server
                    .send_reports(PATH, (0xe000_0000_u64 + seconds) << 32);
                scene.server.send_packets(PATH, 5);
            }
            20
        }),
    ]
}

fn play_all(kinds: Vec<Kind>) {
    kinds.into_iter().for_each(|kind| kind.play(None));
}

#[test]
fn a_camera_with_a_stream_that_cannot_be_had_plays_the_others_as_one_of_four() {
    play_all(with_a_stream_less());
}

#[test]
fn a_camera_with_an_odd_description_plays_as_one_of_four() {
    play_all(with_odd_descriptions());
}

#[test]
fn a_camera_with_odd_answers_plays_as_one_of_four() {
    play_all(with_odd_answers());
}

#[test]
fn a_camera_with_other_control_urls_plays_as_one_of_four() {
    play_all(with_other_controls());
}

for_both_managers!(a_camera_with_odd_media_plays_as_one_of_four);
fn a_camera_with_odd_media_plays_as_one_of_four() {
    play_all(with_odd_media());
}

#[test]
fn odd_cameras_play_over_tls_as_well() {
    let tls = Tls::new("one-of-four-ca.pem");
    let kinds = [
        with_a_stream_less(),
        with_odd_descriptions(),
        with_odd_answers(),
        with_odd_media(),
    ];
    for kind in kinds.into_iter().flatten() {
        kind.play(Some(&tls));
    }
}
