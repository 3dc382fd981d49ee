//! The embedded gst-rtsp-server tells the truth: what it counts and what its cameras send,
//! seen through GStreamer's own rtspsrc.

#![allow(clippy::unwrap_used, reason = "a test binary")]

#[path = "support/gst_server.rs"]
mod gst_server;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;

use gst_server::clip::{self, Stamp};
use gst_server::{Auth, BROKEN, Counts, GstServer};

const PATIENCE: Duration = Duration::from_secs(20);

/// One packet that came out of a pad of rtspsrc.
#[derive(Clone, Debug)]
struct Packet {
    ssrc: u32,
    pts: Option<gst::ClockTime>,
    payload: Vec<u8>,
}

/// What the pads of one rtspsrc gave.
#[derive(Default)]
struct Received {
    packets: Mutex<Vec<Packet>>,
    changed: Condvar,
}

impl Received {
    fn wait_for(&self, what: &str, condition: impl Fn(&[Packet]) -> bool) -> Vec<Packet> {
        let packets = self.packets.lock().unwrap();
        let (packets, _) = self
            .changed
            .wait_timeout_while(packets, PATIENCE, |packets| !condition(packets))
            .unwrap();
        assert!(
            condition(&packets),
            "no {what} in {} packets",
            packets.len()
        );
        packets.clone()
    }

    fn push(&self, pad: &gst::Pad, buffer: &gst::Buffer) {
        let data = buffer.map_readable().unwrap();
        assert!(data.len() > 12, "an RTP packet on {}", pad.name());
        self.packets.lock().unwrap().push(Packet {
            ssrc: u32::from_be_bytes(data[8..12].try_into().unwrap()),
            pts: buffer.pts(),
            payload: data[12..].to_vec(),
        });
        self.changed.notify_all();
    }
}

struct Player {
    pipeline: gst::Pipeline,
    received: Arc<Received>,
}

impl Player {
    fn start(url: &str) -> Self {
        let pipeline = gst::Pipeline::new();
        let source = gst::ElementFactory::make("rtspsrc")
            .property("location", url)
            .property_from_str("protocols", "tcp")
            .property("latency", 0u32)
            .build()
            .unwrap();
        pipeline.add(&source).unwrap();
        let received = Arc::<Received>::default();
        let (bin, sink) = (pipeline.downgrade(), Arc::clone(&received));
        source.connect_pad_added(move |_, pad| {
            let Some(bin) = bin.upgrade() else { return };
            let fakesink = gst::ElementFactory::make("fakesink")
                .property("sync", false)
                .property("async", false)
                .build()
                .unwrap();
            bin.add(&fakesink).unwrap();
            fakesink.sync_state_with_parent().unwrap();
            pad.link(&fakesink.static_pad("sink").unwrap()).unwrap();
            let sink = Arc::clone(&sink);
            pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                if let Some(buffer) = info.buffer() {
                    sink.push(pad, buffer);
                }
                gst::PadProbeReturn::Ok
            });
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline, received }
    }

    fn error(&self) -> String {
        let message = self
            .pipeline
            .bus()
            .unwrap()
            .timed_pop_filtered(
                gst::ClockTime::try_from(PATIENCE).unwrap(),
                &[gst::MessageType::Error],
            )
            .expect("an error");
        match message.view() {
            gst::MessageView::Error(error) => {
                format!("{} {}", error.error(), error.debug().unwrap_or_default())
            }
            _ => unreachable!("only errors were asked for"),
        }
    }

    fn stop(self) {
        self.pipeline.set_state(gst::State::Null).unwrap();
    }
}

fn stamps(packets: &[Packet]) -> Vec<Stamp> {
    packets
        .iter()
        .filter_map(|packet| Stamp::find(&packet.payload))
        .collect()
}

#[test]
fn four_rtspsrc_make_four_connections() {
    let server = GstServer::builder().mounts(4).start().unwrap();
    let players: Vec<_> = (0..4).map(|i| Player::start(&server.url(i))).collect();
    for (camera, player) in players.iter().enumerate() {
        let packets = player
            .received
            .wait_for("30 frames", |packets| stamps(packets).len() >= 30);
        for packet in &packets {
            assert_eq!(packet.ssrc, gst_server::ssrc(camera, 0));
        }
        for (frame, stamp) in stamps(&packets).into_iter().enumerate() {
            let frame = frame as u64;
            assert_eq!(stamp, Stamp { camera, frame });
        }
    }
    let counts = server.counts();
    assert_eq!((counts.accepted, counts.open), (4, 4), "{counts:?}");
    assert_eq!((counts.sessions, counts.sessions_now), (4, 4), "{counts:?}");
    assert_eq!((counts.setups, counts.plays), (4, 4), "{counts:?}");
    assert_eq!(counts.media_now, 4, "{counts:?}");
    players.into_iter().for_each(Player::stop);
    let counts = server
        .wait_until(PATIENCE, |counts| counts.open == 0 && counts.media_now == 0)
        .unwrap();
    assert_eq!((counts.accepted, counts.teardowns), (4, 4));
    assert_eq!((counts.sessions, counts.sessions_now), (4, 0));
    let port = server.port();
    assert_eq!(server.stop(), counts);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn stop_ends_what_still_plays() {
    let server = GstServer::builder().mounts(2).start().unwrap();
    let players: Vec<_> = (0..2).map(|i| Player::start(&server.url(i))).collect();
    server.wait_until(PATIENCE, |c| c.plays == 2).unwrap();
    let counts = server.stop();
    assert_eq!(
        (counts.open, counts.sessions_now, counts.media_now),
        (0, 0, 0)
    );
    players.into_iter().for_each(Player::stop);
}

#[test]
fn closed_connections_can_be_opened_again() {
    let server = GstServer::builder().start().unwrap();
    let player = Player::start(&server.url(0));
    server.wait_until(PATIENCE, |c| c.plays == 1).unwrap();
    server.close_connections();
    server
        .wait_until(PATIENCE, |c| c.open == 0 && c.sessions_now == 0)
        .unwrap();
    player.stop();
    let again = Player::start(&server.url(0));
    again
        .received
        .wait_for("a frame", |p| !stamps(p).is_empty());
    assert_eq!(server.counts().accepted, 2);
    again.stop();
}

#[test]
fn the_beep_comes_with_the_flash() {
    let server = GstServer::builder().audio(|_| true).start().unwrap();
    let player = Player::start(&server.url(0));
    let is_video = |packet: &Packet| packet.ssrc == gst_server::ssrc(0, 0);
    let flash = |packets: &[Packet]| {
        packets
            .iter()
            .filter(|packet| is_video(packet))
            .find(|packet| Stamp::find(&packet.payload).is_some_and(|s| s.frame == 25))
            .and_then(|packet| packet.pts)
    };
    // The first beep belongs to frame 0; the one after a silence to frame 25.
    let beep = |packets: &[Packet]| {
        packets
            .iter()
            .filter(|packet| packet.ssrc == gst_server::ssrc(0, 1))
            .skip_while(|packet| clip::is_beep(&packet.payload))
            .find(|packet| clip::is_beep(&packet.payload))
            .and_then(|packet| packet.pts)
    };
    let packets = player.received.wait_for("flash and beep", |packets| {
        flash(packets).is_some() && beep(packets).is_some()
    });
    let (flash, beep) = (flash(&packets).unwrap(), beep(&packets).unwrap());
    let apart = Duration::from_nanos(flash.nseconds().abs_diff(beep.nseconds()));
    assert!(apart <= Duration::from_millis(40), "{flash} and {beep}");
    for packet in packets.iter().filter(|packet| !is_video(packet)) {
        let quiet = packet.payload.iter().all(|&byte| byte == clip::silence(0));
        assert!(quiet || clip::is_beep(&packet.payload));
    }
    player.stop();
}

#[test]
fn credentials_are_asked_for() {
    for auth in [Auth::Basic, Auth::Digest] {
        let server = GstServer::builder()
            .auth(auth, "user", "secret")
            .start()
            .unwrap();
        let stranger = Player::start(&server.url(0));
        assert!(stranger.error().contains("401"), "{auth:?}");
        assert_eq!(server.counts().sessions, 0);
        stranger.stop();
        let user = Player::start(&server.url_with_credentials(0));
        user.received.wait_for("a frame", |p| !stamps(p).is_empty());
        user.stop();
    }
}

#[test]
fn failures_have_their_status() {
    let server = GstServer::builder()
        .mounts(2)
        .max_sessions(1)
        .start()
        .unwrap();
    for (path, status) in [("/nothing", "404"), (BROKEN, "503")] {
        let player = Player::start(&server.url_of(path));
        let error = player.error();
        assert!(error.contains(status), "{path}: {error}");
        player.stop();
    }
    let first = Player::start(&server.url(0));
    server.wait_until(PATIENCE, |c| c.plays == 1).unwrap();
    let second = Player::start(&server.url(1));
    let error = second.error();
    assert!(error.contains("503"), "{error}");
    second.stop();
    first.stop();
}

/// Sends the requests in one go and gives the `Session` of each answer, in their order; packets
/// in between go to `packet`.
fn converse(
    client: &mut BufReader<TcpStream>,
    requests: &[String],
    mut packet: impl FnMut(u8, &[u8]),
) -> Vec<String> {
    client
        .get_mut()
        .write_all(requests.concat().as_bytes())
        .unwrap();
    let mut sessions = Vec::new();
    while sessions.len() < requests.len() {
        if let Some((channel, payload)) = read_packet(client) {
            packet(channel, &payload);
            continue;
        }
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(client.read_line(&mut head).unwrap(), 0, "closed: {head}");
        }
        assert!(head.starts_with("RTSP/1.0 200 "), "{head}");
        let session = head.lines().find_map(|line| line.strip_prefix("Session: "));
        sessions.push(session.unwrap().split(';').next().unwrap().to_owned());
    }
    sessions
}

/// An interleaved packet and its channel; `None` if an answer comes next.
fn read_packet(client: &mut BufReader<TcpStream>) -> Option<(u8, Vec<u8>)> {
    if client.fill_buf().unwrap().first()? != &b'$' {
        return None;
    }
    let mut head = [0; 4];
    client.read_exact(&mut head).unwrap();
    let mut payload = vec![0; u16::from_be_bytes([head[2], head[3]]).into()];
    client.read_exact(&mut payload).unwrap();
    Some((head[1], payload))
}

#[test]
fn one_connection_carries_128_sessions() {
    let cameras = 128;
    let server = GstServer::builder().mounts(cameras).start().unwrap();
    let client = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = BufReader::new(client);
    let setups: Vec<_> = (0..cameras)
        .map(|i| {
            let (url, rtp, rtcp) = (server.url(i), 2 * i, 2 * i + 1);
            format!(
                "SETUP {url}/stream=0 RTSP/1.0\r\nCSeq: {i}\r\n\
                 Transport: RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}\r\n\r\n"
            )
        })
        .collect();
    let sessions = converse(&mut client, &setups, |_, _| ());
    let plays: Vec<_> = (0..cameras)
        .map(|i| {
            let (url, session) = (server.url(i), &sessions[i]);
            format!("PLAY {url} RTSP/1.0\r\nCSeq: {i}\r\nSession: {session}\r\n\r\n")
        })
        .collect();
    let mut frames = vec![0; cameras];
    let mut see = |channel: u8, payload: &[u8]| {
        if let Some(stamp) = Stamp::find(payload) {
            assert_eq!(stamp.camera, usize::from(channel) / 2);
            frames[stamp.camera] += 1;
        }
        frames.iter().all(|&frames| frames >= 50)
    };
    converse(&mut client, &plays, |channel, payload| {
        see(channel, payload);
    });
    let counts = server.counts();
    assert_eq!((counts.accepted, counts.sessions_now), (1, cameras));
    loop {
        let (channel, payload) = read_packet(&mut client).expect("a packet");
        if see(channel, &payload) {
            break;
        }
    }
}

#[test]
fn many_mounts_are_cheap() {
    let server = GstServer::builder().mounts(128).start().unwrap();
    assert_eq!(server.counts(), Counts::default());
    let player = Player::start(&server.url(127));
    let packets = player
        .received
        .wait_for("a frame", |packets| !stamps(packets).is_empty());
    assert_eq!(stamps(&packets)[0].camera, 127);
    player.stop();
}

#[test]
fn a_session_without_keep_alive_expires() {
    let server = GstServer::builder().session_timeout(1).start().unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let setup = format!(
        "SETUP {}/stream=0 RTSP/1.0\r\nCSeq: 1\r\n\
         Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n",
        server.url(0)
    );
    client.write_all(setup.as_bytes()).unwrap();
    server
        .wait_until(PATIENCE, |c| c.sessions_now == 1)
        .unwrap();
    server
        .wait_until(PATIENCE, |c| c.sessions_now == 0)
        .unwrap();
    assert_eq!(server.counts().teardowns, 0);
}
