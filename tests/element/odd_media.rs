//! Odd media in front of real decoders, alone and as one of four cameras of a connection (F50, F51).
//!
//! Media goes out at the pace of a camera, as what is odd is told from what is not by time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gstreamer as gst;

use gst::prelude::*;

use crate::{
    certificates::{Authority, Request},
    player::{PATIENCE, Player, Seen, for_both_managers, init},
    real_media::{self, GROUP, Medium, Numbering, PICTURE_TIME},
    support::{
        mock_server::{Behaviour, Builder, Camera, Family, MockServer, Reaction, Rule},
        random::Random,
        rtsp::{Frame, RtpPacket},
    },
    tls::TextFile,
    tls_front::TlsFront,
};

/// The time of a picture.
const PACE: Duration = Duration::from_millis(40);

/// Pictures have to come out within so many that were sent: two seconds.
const SOON: usize = 50;

/// The odd camera, and how many there are.
pub(crate) const ODD: u32 = 3;
const CAMERAS: u32 = 4;

/// A source that was not announced.
pub(crate) const FOREIGN: u32 = 0xf00d_0000;

fn path(camera: u32) -> String {
    format!("/cam/{camera}")
}

/// What is beside the odd camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Nothing,
    /// Three other cameras, on one connection.
    Cameras,
    /// The same, over TLS.
    Tls,
}

impl Company {
    pub(crate) const ALL: [Self; 3] = [Self::Nothing, Self::Cameras, Self::Tls];
}

/// TLS in front of a server, and who has to be trusted then.
fn secure(server: &MockServer) -> (TlsFront, TextFile) {
    let authority = Authority::new();
    let identity = authority.issue(&Request::server(&["localhost", "127.0.0.1"]));
    let front = TlsFront::start(&identity, server.address());
    let name = front.url("").replace(['/', ':'], "");
    let file = TextFile::new(&format!("{name}.pem"), &authority.pem());
    (front, file)
}

/// An element with decoders behind it, and its camera; beside others, or alone.
pub(crate) struct Scene {
    server: MockServer,
    player: Player,
    /// Decoded pictures, and sound.
    pub(crate) pictures: Arc<Seen>,
    sound: Arc<Seen>,
    /// RTP packets of pictures as they come out.
    pub(crate) packets: Arc<Seen>,
    neighbours: Vec<Arc<Seen>>,
    _front: Option<(TlsFront, TextFile)>,
    /// What each of them was sent.
    sent: usize,
    medium: Medium,
    /// Numbers of the pictures.
    pub(crate) own: Numbering,
    next: usize,
}

impl Scene {
    pub(crate) fn new(builder: Builder, company: Company) -> Self {
        init();
        let (medium, sound) = (real_media::pictures(), real_media::sound());
        let sdp = format!(
            "v=0\r\no=- 0 1 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n\
             m=video 0 RTP/AVP 96\r\n{}a=control:stream=0\r\n\
             m=audio 0 RTP/AVP 97\r\n{}a=control:stream=1\r\n",
            medium.lines, sound.lines
        );
        let mut builder = builder.family(Family::Gst);
        for camera in 1..=CAMERAS {
            let it = match camera {
                ODD => Camera::av().number(ODD).sdp(sdp.clone()),
                camera => Camera::video().number(camera),
            };
            builder = builder.camera(&path(camera), it);
        }
        let server = builder.start();
        let front = (company == Company::Tls).then(|| secure(&server));
        let source = |camera| match &front {
            None => format!("location={} latency=0", server.url(&path(camera))),
            Some((front, file)) => {
                let url = front.url(&path(camera)).replace("rtsps://", "rtspst://");
                format!("location={url} tls-ca-file={} latency=0", file.0.display())
            }
        };
        let odd = format!(
            "rtspmuxsrc name=source {} \
             source. ! application/x-rtp,media=video ! identity name=packets ! rtph264depay ! h264parse \
             ! avdec_h264 max-threads=1 ! fakesink name=pictures sync=false async=false \
             source. ! application/x-rtp,media=audio ! rtpmp4gdepay ! avdec_aac \
             ! fakesink name=sound sync=false async=false ",
            source(ODD)
        );
        let others: Vec<u32> = match company {
            Company::Nothing => Vec::new(),
            _ => (1..=CAMERAS).filter(|camera| *camera != ODD).collect(),
        };
        let line = |camera: &u32| {
            format!(
                "rtspmuxsrc {} ! fakesink name=sink{camera} sync=false async=false ",
                source(*camera)
            )
        };
        let lines: String = others.iter().map(line).collect();
        let player = Player::playing(&(odd + &lines));
        let neighbours: Vec<_> = others
            .iter()
            .map(|camera| player.seen_by(&format!("sink{camera}")))
            .collect();
        let [pictures, sound, packets] =
            ["pictures", "sound", "packets"].map(|name| player.seen_by(name));
        let all = others.len() + 1;
        let plays = server.wait_until(|view| view.playing() == all, PATIENCE);
        if !plays {
            player.assert_no_error();
        }
        assert!(plays, "{:?}", player.warning_or_error());
        Self {
            server,
            player,
            pictures,
            sound,
            packets,
            neighbours,
            _front: front,
            sent: 0,
            medium,
            own: Numbering {
                ssrc: Camera::ssrc(ODD, 0),
                sequence: 0,
                timestamp: 0,
            },
            next: 0,
        }
    }

    /// Sends RTP packets on the odd camera's stream, byte for byte.
    pub(crate) fn send_bytes(&self, stream: usize, packets: &[Vec<u8>]) {
        self.send_on(stream, |(rtp, _)| rtp, packets);
    }

    /// Sends RTCP packets of the stream.
    pub(crate) fn send_reports(&self, stream: usize, packets: &[Vec<u8>]) {
        self.send_on(stream, |(_, rtcp)| rtcp, packets);
    }

    fn send_on(&self, stream: usize, of_pair: fn((u8, u8)) -> u8, packets: &[Vec<u8>]) {
        let view = self.server.view();
        let session = view.sessions.iter().find(|it| it.camera == path(ODD));
        if session.is_none() {
            self.assert_source_has_no_error();
        }
        let session = session.unwrap();
        let channels = session.tracks.iter().find(|(track, _)| *track == stream);
        let channel = of_pair(channels.unwrap().1);
        let frame = |payload: &Vec<u8>| {
            Frame {
                channel,
                payload: payload.clone(),
            }
            .to_bytes()
        };
        let frames: Vec<u8> = packets.iter().flat_map(frame).collect();
        self.server.send_raw(session.connection, &frames);
    }

    fn send(&self, stream: usize, packets: &[RtpPacket]) {
        let bytes: Vec<_> = packets.iter().map(RtpPacket::to_bytes).collect();
        self.send_bytes(stream, &bytes);
    }

    /// The next picture of the clip, with the next numbers.
    pub(crate) fn picture(&mut self) -> Vec<RtpPacket> {
        let units = self.medium.units();
        // Whole groups, so that the clip can be repeated.
        let unit = units[self.next % (units.len() / GROUP * GROUP)];
        self.next += 1;
        self.own.unit(unit, PICTURE_TIME)
    }

    /// Time passes by one picture, of which the neighbours have one packet.
    pub(crate) fn pass(&mut self) {
        for camera in (1..=CAMERAS).filter(|camera| *camera != ODD) {
            self.server.send_packets(&path(camera), 1);
        }
        self.sent += 1;
        self.server.wait_until(|_| false, PACE);
    }

    /// Sends good pictures until one is decoded that was not before. They have to come soon.
    pub(crate) fn recovers(&mut self, what: &str) {
        let before = self.pictures.count();
        // From the next key picture on.
        self.next = self.next.next_multiple_of(GROUP);
        for sent in 0.. {
            assert!(sent < 10 * SOON, "{what}: no picture");
            if self.pictures.count() > before {
                println!("{what}: a picture after {sent}");
                assert!(sent <= SOON, "{what}: {sent} pictures until one came out");
                break;
            }
            let picture = self.picture();
            self.send(0, &picture);
            self.pass();
        }
    }

    /// Sends good sound, of which some has to come out.
    pub(crate) fn assert_sound_goes_on(&self, sound: &Medium, own: &mut Numbering) {
        let before = self.sound.count();
        for packet in sound.packets() {
            own.timestamp = own.timestamp.wrapping_add(1_024);
            self.send(1, &[own.packet(packet)]);
            self.server.wait_until(|_| false, PACE / 4);
        }
        assert!(self.sound.count() > before, "no sound");
    }

    /// A depayloader posts ERROR for a kind of unit that it does not know, and goes on.
    fn assert_source_has_no_error(&self) {
        let bus = self.player.pipeline.bus().unwrap();
        while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
            let name = message.src().map(|source| source.name());
            let is_of_media =
                name.is_some_and(|name| name.starts_with("rtp") || name.starts_with("av"));
            assert!(is_of_media, "{message:?}");
        }
    }

    /// The others have had a packet within the last second.
    pub(crate) fn assert_others_are_in_time(&self) {
        for seen in &self.neighbours {
            let late = self.sent - seen.count();
            assert!(late <= SOON / 2, "{late} packets late");
        }
    }

    pub(crate) fn assert_others_have_all(&self) {
        for seen in &self.neighbours {
            seen.wait_for(self.sent);
        }
        self.assert_source_has_no_error();
        let opened = self.server.view();
        let plays = opened.requests.iter().filter(|it| it.method == "PLAY");
        assert_eq!(plays.count(), self.neighbours.len() + 1, "no session anew");
    }
}

for_both_managers!(f50_a_new_source_with_each_group_of_pictures_costs_no_group);
fn f50_a_new_source_with_each_group_of_pictures_costs_no_group() {
    const GROUPS: usize = 6;
    Company::ALL.into_iter().for_each(|company| {
        for goes_on in [true, false] {
            let mut scene = Scene::new(MockServer::builder(), company);
            let mut sent = Vec::new();
            for group in 0..GROUPS {
                if group > 0 {
                    scene.own.ssrc = FOREIGN + group as u32;
                }
                if !goes_on {
                    scene.own.sequence = 50_000_u16.wrapping_mul(group as u16);
                    scene.own.timestamp = 4_000_000_u32.wrapping_mul(group as u32);
                }
                for _ in 0..GROUP {
                    let picture = scene.picture();
                    sent.extend(picture.iter().map(|packet| packet.payload.clone()));
                    scene.send(0, &picture);
                    scene.pass();
                }
            }
            // What is held of the last group has come out by then.
            scene.recovers("the same source");
            let name = format!("beside {company:?}, numbers go on: {goes_on}");
            let came: Vec<_> = scene.packets.wait_for(0).iter().map(payload).collect();
            let lost = sent.iter().filter(|packet| !came.contains(packet)).count();
            let decoded = scene.pictures.count();
            println!(
                "{name}: {lost} of {} packets lost, {decoded} pictures",
                sent.len()
            );
            assert_eq!(lost, 0, "{name}");
            assert!(decoded >= GROUPS * GROUP - 1, "{name}: {decoded} pictures");
            scene.assert_others_have_all();
        }
    });
}

/// Bytes of packets with something else at a few places.
fn mutated(packet: &RtpPacket, random: &mut Random) -> Vec<u8> {
    let mut bytes = packet.to_bytes();
    for _ in 0..=random.below(3) {
        let among = match random.below(3) {
            0 => bytes.len(),
            1 => bytes.len().min(16),
            _ => bytes.len().min(12),
        };
        if among == 0 {
            break;
        }
        let at = random.index(among);
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.below(256) as u8),
            2 => bytes[at] = 0xff,
            3 => bytes[at] = 0,
            _ => bytes[at] ^= 1 << random.below(8),
        }
    }
    bytes
}

/// Bytes of packets with something else in payload type, numbers or source.
fn with_other_numbers(packet: &RtpPacket, random: &mut Random) -> Vec<u8> {
    let mut bytes = packet.to_bytes();
    bytes[1 + random.index(11)] ^= 1 << random.below(8);
    bytes
}

for_both_managers!(f51_after_30_000_mutated_packets_pictures_come_again);
fn f51_after_30_000_mutated_packets_pictures_come_again() {
    Company::ALL.into_iter().for_each(|company| {
        let mut scene = Scene::new(MockServer::builder(), company);
        let (mut random, sound) = (Random::new(7), real_media::sound());
        scene.recovers("before");
        let mut own = Numbering {
            ssrc: Camera::ssrc(ODD, 1),
            sequence: 0,
            timestamp: 0,
        };
        for turn in 0..75 {
            let pictures: Vec<_> = std::iter::repeat_with(|| scene.picture())
                .take(40)
                .flatten()
                .take(200)
                .map(|packet| mutated(&packet, &mut random))
                .collect();
            scene.send_bytes(0, &pictures);
            // Behind a header that is elsewhere than it was `rtpmp4gdepay` of GStreamer 1.22 ends the process
            // on some sounds, with any source.
            let sounds: Vec<_> = (sound.packets().iter().cycle().skip(turn).take(200))
                .map(|packet| with_other_numbers(&own.packet(packet), &mut random))
                .collect();
            scene.send_bytes(1, &sounds);
            scene.pass();
        }
        scene.recovers("behind mutated packets");
        scene.assert_sound_goes_on(&sound, &mut own);
        scene.assert_others_have_all();
    });
}

/// Payloads of H.264 whose headers say what is not so (RFC 6184 5.7 and 5.8).
fn lying_pictures(random: &mut Random) -> Vec<u8> {
    let rest: Vec<u8> = (0..random.below(300))
        .map(|_| random.below(256) as u8)
        .collect();
    let head = match random.below(8) {
        // Beginnings without ends, ends without beginnings, both at once, of units that are none.
        0 => vec![0x7c, 0x85],
        1 => vec![0x7c, 0x45],
        2 => vec![0x7c, 0xc5],
        3 => vec![0x7c, random.below(256) as u8],
        // Units that are longer than the packet, empty ones, aggregates in aggregates.
        4 => vec![0x78, 0xff, 0xff, 0x65],
        5 => vec![0x78, 0, 0, 0, 0, 0, 0],
        6 => vec![0x78, 0, 3, 0x78, 0, 9],
        _ => vec![random.below(256) as u8],
    };
    [head, rest].concat()
}

/// Payloads of AAC whose AU headers say what is not so (RFC 3640 3.2.1).
fn lying_sound(random: &mut Random) -> Vec<u8> {
    let rest: Vec<u8> = (0..random.below(300))
        .map(|_| random.below(256) as u8)
        .collect();
    let head = match random.below(5) {
        0 => vec![0xff, 0xff],
        1 => vec![0, 0],
        2 => vec![0, 16, 0xff, 0xf8],
        3 => vec![0, 32, 0, 8, 0xff, 0xff],
        _ => vec![0, 15, 0x10],
    };
    [head, rest].concat()
}

for_both_managers!(f51_behind_lying_headers_pictures_and_sound_come_again);
fn f51_behind_lying_headers_pictures_and_sound_come_again() {
    Company::ALL.into_iter().for_each(|company| {
        let mut scene = Scene::new(MockServer::builder(), company);
        let (mut random, sound) = (Random::new(3), real_media::sound());
        let mut own = Numbering {
            ssrc: Camera::ssrc(ODD, 1),
            sequence: 0,
            timestamp: 0,
        };
        scene.recovers("before");
        for _ in 0..50 {
            let mut pictures = scene.picture();
            let mut sounds = vec![own.packet(&sound.packets()[0])];
            pictures.truncate(1);
            for packets in [&mut pictures, &mut sounds] {
                let first = packets[0].clone();
                packets.resize(40, first);
            }
            for packet in &mut pictures {
                *packet = scene.own.packet(packet);
                packet.marker = random.below(2) == 0;
                packet.payload = lying_pictures(&mut random);
            }
            for packet in &mut sounds {
                own.timestamp = own.timestamp.wrapping_add(1_024);
                *packet = own.packet(packet);
                packet.payload = lying_sound(&mut random);
            }
            scene.send(0, &pictures);
            scene.send(1, &sounds);
            scene.pass();
        }
        scene.recovers("behind lying headers");
        scene.assert_sound_goes_on(&sound, &mut own);
        scene.assert_others_have_all();
    });
}

for_both_managers!(f50_foreign_packets_sprayed_before_setup_and_between_own_ones_do_no_harm);
fn f50_foreign_packets_sprayed_before_setup_and_between_own_ones_do_no_harm() {
    let foreign = |ssrc: u32, n: u16| RtpPacket {
        payload_type: 96,
        // Those of a source go on, those of random ones do not.
        sequence: n.wrapping_add(20_000).wrapping_add((ssrc >> 18) as u16),
        timestamp: ssrc.wrapping_add(u32::from(n) * 777),
        ssrc,
        marker: true,
        payload: vec![0x41, 0xee, 0xee, 0xee],
    };
    // Where SETUP announces a source, and where only RTP-Info says where the stream begins; from one source
    // and from a new one each time.
    for is_announced in [true, false] {
        for is_random in [false, true] {
            let ssrc = |n: u16| match is_random {
                true => u32::from(n).wrapping_mul(0x9e37_79b9) | 1,
                false => FOREIGN,
            };
            // The pairs of the four cameras' streams.
            let spray: Vec<u8> = (0..200_u16)
                .flat_map(|n| {
                    Frame {
                        channel: (n % 5 * 2) as u8,
                        payload: foreign(ssrc(n), n).to_bytes(),
                    }
                    .to_bytes()
                })
                .collect();
            let mut builder =
                MockServer::builder().rule(Rule::new("SETUP", Reaction::Before(spray)).times(1));
            if !is_announced {
                builder = builder.behaviour(Behaviour::OmitSsrc);
            }
            let mut scene = Scene::new(builder, Company::Cameras);
            let mut sent = Vec::new();
            let mut n = 200;
            for _ in 0..3 * GROUP {
                let picture = scene.picture();
                for packet in &picture {
                    for _ in 0..3 {
                        n += 1;
                        scene.send(0, &[foreign(ssrc(n), n)]);
                    }
                    sent.push(packet.payload.clone());
                    scene.send(0, std::slice::from_ref(packet));
                }
                scene.pass();
            }
            let name = format!("announced: {is_announced}, random: {is_random}");
            let came: Vec<_> = scene
                .packets
                .wait_until(|buffers| buffers.last().map(payload).as_ref() == sent.last())
                .iter()
                .map(payload)
                .collect();
            let strange = came.iter().filter(|it| it.ends_with(&[0xee; 3])).count();
            let lost = sent.iter().filter(|it| !came.contains(it)).count();
            println!("{name}: {strange} strange, {lost} lost of {}", sent.len());
            // Where nothing is announced the first packets are the stream's until others come.
            let most = if is_announced { 0 } else { 3 };
            assert!(strange <= most && lost == 0, "{name}");
            scene.recovers(&name);
        }
    }
}

for_both_managers!(an_rtp_info_of_60_kb_is_ignored_and_the_camera_plays);
fn an_rtp_info_of_60_kb_is_ignored_and_the_camera_plays() {
    for (size, company) in [
        (60_000, Company::Nothing),
        (60_000, Company::Cameras),
        (100_000, Company::Tls),
    ] {
        let long = Reaction::edit(move |response| {
            let entry = "url=rtsp://camera/stream=0;seq=1;rtptime=5,";
            let value = entry.repeat(size / entry.len());
            response.headers.set("RTP-Info", value);
        });
        let mut scene = Scene::new(MockServer::builder().rule(Rule::new("PLAY", long)), company);
        scene.recovers("RTP-Info");
        (0..5).for_each(|_| scene.pass());
        scene.assert_others_have_all();
    }
}

for_both_managers!(a_length_that_lies_on_a_slow_stream_is_found_out_within_two_seconds);
fn a_length_that_lies_on_a_slow_stream_is_found_out_within_two_seconds() {
    Company::ALL.into_iter().for_each(|company| {
        let mut scene = Scene::new(MockServer::builder(), company);
        scene.recovers("before");
        for length in [65_535_u16, 20_000] {
            let view = scene.server.view();
            let session = view
                .sessions
                .iter()
                .find(|it| it.camera == path(ODD))
                .unwrap();
            let payload = scene.picture()[0].to_bytes();
            let mut lie = vec![b'$', session.tracks[0].1.0];
            lie.extend(length.to_be_bytes());
            lie.extend(payload);
            scene.server.send_raw(session.connection, &lie);
            scene.recovers(&format!("a length of {length}"));
        }
        // The camera that lies may have been moved, so only errors and the neighbours' packets are looked at.
        scene.assert_source_has_no_error();
        let sent = scene.sent;
        scene
            .neighbours
            .iter()
            .for_each(|seen| drop(seen.wait_for(sent * 8 / 10)));
    });
}

/// Of an RTP packet that came out. Numbers may be others in front of rtpbin.
pub(crate) fn payload(buffer: &gst::Buffer) -> Vec<u8> {
    let data = buffer.map_readable().unwrap();
    RtpPacket::parse(&data).unwrap().payload
}

fn described(lines: &str) -> MockServer {
    let sdp = format!(
        "v=0\r\no=- 0 1 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n{lines}"
    );
    MockServer::builder()
        .camera("/cam", Camera::av().sdp(sdp))
        .behaviour(Behaviour::PacketsAfterPlay(10))
        .start()
}

for_both_managers!(f41_impossible_clock_rates_play_or_are_told);
fn f41_impossible_clock_rates_play_or_are_told() {
    init();
    for rate in ["0", "2147483648", "4294967296", "text"] {
        let picture = |rate| {
            format!("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/{rate}\r\na=control:stream=0\r\n")
        };
        // The codec has one rate only.
        let server = described(&picture(rate));
        let player = Player::playing(&crate::one_camera::line(&server.url("/cam"), ""));
        player.seen_by("sink").wait_for(5);
        player.assert_no_error();

        // It has several: the stream is left out with a warning, or is all there is.
        let sound = format!(
            "m=audio 0 RTP/AVP 8\r\na=rtpmap:8 MPEG4-GENERIC/{rate}\r\na=control:stream=1\r\n"
        );
        let server = described(&(picture("90000") + &sound));
        let player = Player::playing(&crate::one_camera::line(&server.url("/cam"), ""));
        let told = player.warning_or_error();
        let gst::MessageView::Warning(warning) = told.view() else {
            panic!("{told:?}")
        };
        let text = warning.error().message().to_owned();
        assert!(
            text.contains("audio") && text.contains("clock rate"),
            "{text}"
        );
        player.seen_by("sink").wait_for(5);

        let server = described(&sound);
        let began = Instant::now();
        let line = crate::one_camera::line(&server.url("/cam"), "reconnect=false");
        let (error, _) = Player::playing(&line).error();
        println!("{rate}: told after {:?}", began.elapsed());
        assert!(error.to_string().contains("clock rate"), "{error}");
    }
}
