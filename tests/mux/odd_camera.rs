//! One camera of sixteen whose stray bytes or cut frames cost its neighbours packets (fault F42).

use std::{
    future::poll_fn,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use gstrtspmux::mux::{Multiplex, Mux, Packet, PacketKind, Pooling, Session};

use tokio::time::timeout;

use crate::{
    player::{camera_url, mux_of_this_runtime, pass, play, pooled, within_patience},
    support::mock_server::{Builder, Camera, Family, MockServer, Reaction, Rule},
};

const CAMERAS: u32 = 16;
/// The odd one.
const ODD: u32 = 7;
/// Between two losses. What a session has not taken by then is not too old for it.
const BETWEEN: Duration = Duration::from_millis(200);

/// Longer than a packet is on its way.
const MOMENT: Duration = Duration::from_millis(20);

const STRAY: &[u8] = b"\x47AZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZAZ";

/// What the odd camera does behind one of its frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    StrayBytes,
    /// A frame says that it has 203 bytes, and has 30.
    CutFrame,
}

struct Scene {
    server: MockServer,
    mux: Mux,
    sessions: Vec<(u32, Session)>,
    /// Packets that the neighbours did not get, and those that say they follow a gap.
    missing: u32,
    expected: Vec<Option<u32>>,
    /// A neighbour that may be taken for the odd one.
    suspect: u32,
}

/// The next packet if it is there.
async fn at_hand(session: &mut Session) -> Option<Packet> {
    let mut next = pin!(session.next());
    let look = |context: &mut Context<'_>| match next.as_mut().poll(context) {
        Poll::Ready(packet) => Poll::Ready(packet),
        Poll::Pending => Poll::Ready(None),
    };
    poll_fn(look).await
}

fn servers() -> Builder {
    MockServer::builder().family(Family::Gst)
}

fn with_cameras(builder: Builder, camera: fn() -> Camera) -> Builder {
    let add = |builder: Builder, number| {
        builder.camera(&format!("/cam/{number}"), camera().number(number))
    };
    (1..=CAMERAS).fold(builder, add)
}

impl Scene {
    async fn new(server: MockServer, pooling: &Pooling) -> Self {
        let mux = mux_of_this_runtime();
        let mut sessions = Vec::new();
        for camera in 1..=CAMERAS {
            let options = pooled(&camera_url(&server, camera), pooling);
            sessions.push((camera, play(&mux, options).await.unwrap()));
        }
        assert_eq!(server.accepted(), 1);
        Self {
            server,
            mux,
            sessions,
            missing: 0,
            expected: vec![None; CAMERAS as usize + 1],
            suspect: ODD,
        }
    }

    fn connection_of(&self, camera: u32) -> usize {
        let view = self.server.view();
        let path = format!("/cam/{camera}");
        let mut sessions = view.sessions.iter().filter(|s| s.camera == path);
        sessions.next_back().expect("its session").connection
    }

    /// Stray bytes or a cut frame right behind a frame of the odd camera, and then packets for all.
    async fn loss(&mut self, oddity: Oddity) {
        pass(BETWEEN).await;
        self.server.send_packets(&format!("/cam/{ODD}"), 1);
        self.spoil(self.connection_of(ODD), oddity);
        self.media().await;
        while self.is_moving() {
            self.media().await;
        }
    }

    fn spoil(&self, connection: usize, oddity: Oddity) {
        match oddity {
            Oddity::StrayBytes => self.server.send_raw(connection, STRAY),
            Oddity::CutFrame => {
                let channel = self.channel_of(connection, ODD);
                let mut cut = vec![b'$', channel, 0, 203, 0x80, 96];
                cut.resize(34, 7);
                self.server.send_raw(connection, &cut);
            }
        }
    }

    fn channel_of(&self, connection: usize, camera: u32) -> u8 {
        let path = format!("/cam/{camera}");
        let view = self.server.view();
        let mut sessions = view.sessions.iter();
        let session = sessions.find(|s| s.connection == connection && s.camera == path);
        session.expect("its session").tracks[0].1.0
    }

    /// Three packets for each; each gets two at least, and what has come by then.
    async fn media(&mut self) {
        for _ in 0..3 {
            self.server.send_packets_to_all(1);
        }
        for at in 0..self.sessions.len() {
            let mut got = 0;
            while got < 2 {
                let packet = self.next_or_more(at).await;
                got += u32::from(self.take(at, packet));
            }
        }
        for at in 0..self.sessions.len() {
            while let Some(packet) = at_hand(&mut self.sessions[at].1).await {
                self.take(at, Some(packet));
            }
        }
    }

    /// The next packet; more are sent where none comes: it was lost, or the session is between two
    /// connections.
    async fn next_or_more(&mut self, at: usize) -> Option<Packet> {
        let (camera, session) = &mut self.sessions[at];
        let path = format!("/cam/{camera}");
        within_patience(async {
            loop {
                if let Ok(packet) = timeout(MOMENT, session.next()).await {
                    return packet;
                }
                self.server.send_packets(&path, 1);
            }
        })
        .await
    }

    /// Whether it is an RTP packet of the first track; all are the camera's own.
    fn take(&mut self, at: usize, packet: Option<Packet>) -> bool {
        let (camera, session) = &self.sessions[at];
        let packet = packet.unwrap_or_else(|| panic!("{camera}: {:?}", session.end_reason()));
        if packet.kind != PacketKind::Rtp || packet.stream != 0 {
            return false;
        }
        let index = Camera::index_of(&packet.payload).unwrap_or_default();
        if *camera == ODD || *camera == self.suspect {
            return true;
        }
        assert_eq!(Camera::number_of(&packet.payload), Some(*camera));
        assert!(!packet.discontinuity, "{camera} was moved");
        let expected = self.expected[*camera as usize].replace(index + 1);
        self.missing += expected.map_or(0, |expected| index - expected);
        true
    }

    fn is_moving(&self) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|(_, session)| session.monitor().stats().is_moving)
    }

    /// Where its sessions are, the odd one's first.
    fn connections(&self) -> (u64, Vec<u64>) {
        let of = |session: &Session| session.monitor().stats().connection.unwrap();
        let (odd, mut others) = (of(&self.sessions[ODD as usize - 1].1), Vec::new());
        for (camera, session) in &self.sessions {
            if *camera != ODD && !others.contains(&of(session)) {
                others.push(of(session));
            }
        }
        (odd, others)
    }
}

#[tokio::test]
async fn f42_the_odd_one_moves_after_three_losses_and_the_others_stay() {
    for (oddity, camera) in [
        (Oddity::StrayBytes, Camera::video as fn() -> Camera),
        (Oddity::StrayBytes, Camera::av),
        (Oddity::CutFrame, Camera::video),
        (Oddity::CutFrame, Camera::av),
    ] {
        let server = with_cameras(servers(), camera).start();
        let mut scene = Scene::new(server, &Pooling::default()).await;
        for _ in 0..2 {
            scene.loss(oddity).await;
        }
        assert_eq!(scene.connections(), (1, vec![1]), "{oddity:?}: not yet");
        for _ in 0..20 {
            scene.loss(oddity).await;
        }
        assert_eq!(scene.connections(), (2, vec![1]), "{oddity:?}");
        assert_eq!(scene.server.accepted(), 2);
        assert!(scene.mux.stats().servers[0].connections[1].is_dedicated);
        // What the three first ones cost, and no more.
        let cost = match oddity {
            Oddity::StrayBytes => 0..=0,
            Oddity::CutFrame => 1..=3 * 8,
        };
        assert!(
            cost.contains(&scene.missing),
            "{oddity:?}: {}",
            scene.missing
        );
    }
}

#[tokio::test]
async fn f42_an_odd_one_that_comes_again_has_its_own_connection_at_once() {
    let server = with_cameras(servers(), Camera::video).start();
    let mut scene = Scene::new(server, &Pooling::default()).await;
    for _ in 0..4 {
        scene.loss(Oddity::StrayBytes).await;
    }
    let (_, session) = scene.sessions.remove(ODD as usize - 1);
    session.teardown().await.unwrap();
    let url = camera_url(&scene.server, ODD);
    let session = play(&scene.mux, pooled(&url, &Pooling::default()))
        .await
        .unwrap();
    assert_eq!(session.monitor().stats().sessions_on_connection, 1);
}

fn always(max_connections_per_server: u32) -> Pooling {
    Pooling {
        multiplex: Multiplex::Always,
        max_connections_per_server,
        ..Pooling::default()
    }
}

#[tokio::test]
async fn f42_a_limit_that_holds_whatever_happens_is_not_exceeded() {
    let server = with_cameras(servers(), Camera::video).start();
    let mut scene = Scene::new(server, &always(1)).await;
    for _ in 0..20 {
        scene.loss(Oddity::StrayBytes).await;
    }
    assert_eq!(scene.connections(), (1, vec![1]));
    assert_eq!((scene.server.accepted(), scene.missing), (1, 0));

    let server = with_cameras(servers(), Camera::video).start();
    let mut scene = Scene::new(server, &always(2)).await;
    for _ in 0..6 {
        scene.loss(Oddity::StrayBytes).await;
    }
    assert_eq!(scene.connections(), (2, vec![1]));
}

#[tokio::test]
async fn f42_a_move_that_fails_leaves_the_session_where_it_was_and_is_tried_twice() {
    let server = with_cameras(servers(), Camera::video).start();
    let mut scene = Scene::new(server, &Pooling::default()).await;
    let refused = Rule::new("SETUP", Reaction::status(404)).camera(&format!("/cam/{ODD}"));
    scene.server.add_rule(refused);
    for _ in 0..20 {
        scene.loss(Oddity::StrayBytes).await;
    }
    assert_eq!(scene.connections(), (1, vec![1]));
    assert_eq!(scene.server.accepted(), 3, "two moves");
    assert_eq!(scene.missing, 0);
}

/// Stray bytes of the recorder itself, that happen to follow the same cameras' frames.
#[tokio::test]
async fn f42_where_losses_go_on_without_it_no_other_is_moved() {
    let server = with_cameras(servers(), Camera::video).start();
    let mut scene = Scene::new(server, &Pooling::default()).await;
    for _ in 0..3 {
        scene.loss(Oddity::StrayBytes).await;
    }
    assert_eq!(scene.connections(), (2, vec![1]));
    for _ in 0..20 {
        pass(BETWEEN).await;
        scene.server.send_packets("/cam/3", 1);
        scene.spoil(0, Oddity::StrayBytes);
        scene.media().await;
    }
    assert_eq!(scene.connections(), (2, vec![1]), "camera 3 stays");
    assert_eq!((scene.server.accepted(), scene.missing), (2, 0));
}

/// Stray bytes before the frames of the odd one, whose predecessor in a fixed order is taken for it.
#[tokio::test]
async fn f42_where_a_neighbour_was_taken_for_the_odd_one_no_other_is_moved() {
    let server = with_cameras(servers(), Camera::video).start();
    let mut scene = Scene::new(server, &Pooling::default()).await;
    scene.suspect = ODD - 1;
    for _ in 0..30 {
        pass(BETWEEN).await;
        for camera in 1..=CAMERAS {
            if camera == ODD {
                scene.spoil(scene.connection_of(ODD), Oddity::StrayBytes);
            }
            scene.server.send_packets(&format!("/cam/{camera}"), 1);
        }
        scene.media().await;
        while scene.is_moving() {
            scene.media().await;
        }
    }
    assert_eq!(scene.server.accepted(), 2, "one move");
    let of = |camera: u32| {
        let (_, session) = &scene.sessions[camera as usize - 1];
        session.monitor().stats().connection
    };
    let moved: Vec<u32> = (1..=CAMERAS)
        .filter(|camera| of(*camera) != Some(1))
        .collect();
    assert_eq!(moved, [ODD - 1]);
    assert_eq!(scene.missing, 0);
}

/// The server has refused one more camera for want of room.
async fn at_a_server_that_was_full() -> Scene {
    let builder = servers().camera("/full", Camera::video());
    let server = with_cameras(builder, Camera::video)
        .rule(Rule::new("SETUP", Reaction::status(453)).camera("/full"))
        .start();
    let scene = Scene::new(server, &Pooling::default()).await;
    let full = pooled(&scene.server.url("/full"), &Pooling::default());
    let refused = play(&scene.mux, full).await;
    assert_eq!(refused.unwrap_err().status(), Some(453));
    scene
}

#[tokio::test]
async fn f42_where_the_server_was_ever_full_the_old_session_ends_first() {
    let mut scene = at_a_server_that_was_full().await;
    let accepted = scene.server.accepted();
    for _ in 0..3 {
        scene.loss(Oddity::StrayBytes).await;
    }
    let view = scene.server.view();
    let path = format!("/cam/{ODD}");
    let odd: Vec<_> = view.sessions.iter().filter(|s| s.camera == path).collect();
    assert_eq!(odd.len(), 1, "{odd:?}");
    assert_eq!(scene.connections().1, [1]);
    assert_ne!(scene.connections().0, 1);
    assert!(view.accepted > accepted);
    let requests = view.requests.iter().filter(|r| r.uri.contains(&path));
    let methods: Vec<_> = requests.map(|r| r.method.as_str()).collect();
    assert_eq!(methods[3..], ["TEARDOWN", "DESCRIBE", "SETUP", "PLAY"]);
    assert_eq!(scene.missing, 0);
}

#[tokio::test]
async fn f42_where_it_gets_no_connection_of_its_own_it_comes_back() {
    let mut scene = at_a_server_that_was_full().await;
    let refused = Rule::new("SETUP", Reaction::status(404)).camera(&format!("/cam/{ODD}"));
    scene.server.add_rule(refused.times(1));
    for _ in 0..3 {
        scene.loss(Oddity::StrayBytes).await;
    }
    let failed = scene.server.requests().into_iter().filter(|request| {
        request.method == "SETUP" && request.uri.contains(&format!("/cam/{ODD}/"))
    });
    assert_eq!(failed.count(), 3, "at first, in vain, and again");
    assert_eq!(scene.connections().1, [1]);
    assert_eq!(scene.missing, 0);
}
