//! F42: one camera of a recorder sends stray bytes behind its frames, and is moved to a connection of its own.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::player::{PATIENCE, Player, Seen, for_both_managers, init};
use crate::support::mock_server::{
    Behaviour, Builder, Camera, Family, MockServer, ServerView, SessionView,
};

const CAMERAS: u32 = 4;
/// The odd one.
const ODD: u32 = 3;

const STRAY: &[u8] = b"\x47AZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZ";

/// Losses closer than 50 ms are taken for one.
const BETWEEN: Duration = Duration::from_millis(100);

/// The elements of all cameras, on one connection.
struct Scene {
    server: MockServer,
    player: Player,
    /// The buffers of the first stream of each camera.
    seen: Vec<Arc<Seen>>,
}

fn path(camera: u32) -> String {
    format!("/cam/{camera}")
}

fn odd(view: &ServerView) -> impl Iterator<Item = usize> {
    let sessions = view.sessions.iter();
    let of_odd = sessions.filter(|session| session.is_playing && session.camera == path(ODD));
    of_odd.map(|session| session.connection)
}

impl Scene {
    fn new(builder: Builder) -> Self {
        init();
        let server = builder.cameras(CAMERAS).family(Family::Gst).start();
        let line = |camera| {
            let url = server.url(&path(camera));
            format!(
                "rtspmuxsrc location={url} latency=0 ! fakesink name=sink{camera} sync=false async=false "
            )
        };
        let player = Player::playing(&(1..=CAMERAS).map(line).collect::<String>());
        let seen = |camera| player.seen_by(&format!("sink{camera}"));
        let seen: Vec<_> = (1..=CAMERAS).map(seen).collect();
        let all_play = |view: &ServerView| view.playing() == CAMERAS as usize;
        assert!(server.wait_until(all_play, PATIENCE));
        assert_eq!(server.accepted(), 1);
        server.send_packets_to_all(10);
        seen.iter().for_each(|seen| drop(seen.wait_for(10)));
        Self {
            server,
            player,
            seen,
        }
    }

    /// Sends stray bytes right behind a frame of the odd camera, and then packets of all cameras.
    fn loss(&self) {
        let connection = odd(&self.server.view()).next().unwrap();
        self.server.send_packets(&path(ODD), 1);
        self.server.send_raw(connection, STRAY);
        self.server.send_packets_to_all(3);
    }

    /// Makes losses until the odd camera has a connection of its own as well, and sends packets until it
    /// has no other.
    fn move_odd_one(&self) {
        let plays_elsewhere = |view: &ServerView| odd(view).any(|connection| connection > 0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.loss();
            if self.server.wait_until(plays_elsewhere, BETWEEN) {
                break;
            }
            assert!(Instant::now() < deadline, "it stays");
        }
        self.server.send_packets_to_all(3);
        let has_moved = |view: &ServerView| odd(view).all(|connection| connection > 0);
        assert!(self.server.wait_until(has_moved, PATIENCE));
    }

    fn seen_of(&self, camera: u32) -> &Seen {
        &self.seen[camera as usize - 1]
    }
}

/// Which packet of its session it is.
fn index(buffer: &gstreamer::Buffer) -> u32 {
    Camera::index_of(&buffer.map_readable().unwrap()).unwrap()
}

for_both_managers!(f42_a_camera_that_was_moved_goes_on_wherever_its_numbers_do);
fn f42_a_camera_that_was_moved_goes_on_wherever_its_numbers_do() {
    // The first sequence numbers: at the start, and on the new connection.
    for (at_first, then) in [
        (1_000, 60_000),
        (60_000, 1_000),
        (30_000, 31_000),
        (31_000, 30_000),
        (65_530, 3),
        (3, 65_530),
    ] {
        for has_own_ssrc in [true, false] {
            let mut begins = vec![at_first; CAMERAS as usize];
            begins.push(then);
            let mut builder = MockServer::builder().behaviour(Behaviour::SequenceBegins(begins));
            if has_own_ssrc {
                builder = builder.behaviour(Behaviour::OwnSsrc);
            }
            println!("from {at_first} to {then}, SSRC of its own: {has_own_ssrc}");
            let scene = Scene::new(builder);
            scene.move_odd_one();
            let sent = scene.server.view();
            let sent = sent.sessions.iter().find(|s| s.camera == path(ODD));
            let sent = sent.unwrap().sent[0] as usize;
            for _ in 0..10 {
                scene.server.send_packets_to_all(5);
            }
            // Also the first one, which is a keyframe.
            let all: Vec<u32> = (0..).take(sent + 50).collect();
            let seen = scene.seen_of(ODD).wait_until(|buffers| {
                let last = buffers.last().map(index);
                last == all.last().copied()
            });
            let came: Vec<u32> = seen[seen.len().saturating_sub(all.len())..]
                .iter()
                .map(index)
                .collect();
            assert_eq!(came, all, "{at_first} {then} {has_own_ssrc}");
            scene.player.assert_no_error();
        }
    }
}

/// The server stops in the middle of something and sends a byte now and then.
struct Drip {
    scene: Scene,
    kind: String,
    every: Duration,
    next: Instant,
    begun: Instant,
    found_out: Option<Instant>,
    all_play: Option<Instant>,
}

impl Drip {
    fn new(half: &[u8], every: u64) -> Self {
        let scene = Scene::new(MockServer::builder());
        scene.server.send_raw(0, half);
        let (begun, every) = (Instant::now(), Duration::from_secs(every));
        Self {
            scene,
            kind: format!("{half:?}, each {every:?}"),
            every,
            next: begun + every,
            begun,
            found_out: None,
            all_play: None,
        }
    }

    /// Sends another stray byte if it is due, and looks how far the sessions are.
    fn proceed(&mut self) {
        let now = Instant::now();
        let (server, cameras) = (&self.scene.server, CAMERAS as usize);
        let view = server.view();
        let mut sessions = view.sessions.iter();
        if view.accepted > 1 {
            self.found_out.get_or_insert(now);
        } else if now >= self.next {
            self.next += self.every;
            server.send_raw(0, b"A");
        }
        let is_back = |session: &&SessionView| session.is_playing && session.connection > 0;
        if sessions.by_ref().filter(is_back).count() == cameras {
            self.all_play.get_or_insert(now);
        }
    }

    fn assert_all_came_back(&self) {
        let (found_out, all_play) = (self.found_out.unwrap(), self.all_play.unwrap());
        let took = found_out - self.begun;
        assert!(took <= Duration::from_secs(13), "{}: {took:?}", self.kind);
        let took = all_play - found_out;
        assert!(took <= Duration::from_secs(2), "{}: {took:?}", self.kind);
        assert_eq!(self.scene.server.accepted(), 2, "{}", self.kind);
        let before: Vec<usize> = self.scene.seen.iter().map(|seen| seen.count()).collect();
        self.scene.server.send_packets_to_all(30);
        for (seen, before) in self.scene.seen.iter().zip(before) {
            seen.wait_for(before + 20);
        }
        self.scene.player.assert_no_error();
    }
}

for_both_managers!(f42_after_a_drip_all_cameras_are_on_one_new_connection);
fn f42_after_a_drip_all_cameras_are_on_one_new_connection() {
    let header = b"$\0\x02";
    let long_frame = b"$\0\xff\xff\x80\x60\0\x01\0\0\0\x01\0\0\0\x01";
    let answer = b"RTSP/1.0 200 OK\r\nCSeq: 7\r\nDate: ";
    let mut drips = Vec::new();
    for half in [&header[..], long_frame, answer] {
        drips.extend([1, 5].map(|every| Drip::new(half, every)));
    }
    let deadline = Instant::now() + 2 * PATIENCE;
    while drips.iter().any(|drip| drip.all_play.is_none()) {
        assert!(Instant::now() < deadline, "not all came back");
        for drip in &mut drips {
            drip.proceed();
            drip.scene.server.wait_until(|_| false, BETWEEN / 10);
        }
    }
    drips.iter().for_each(Drip::assert_all_came_back);
}
