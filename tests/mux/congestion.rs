//! A connection that carries more than its server can bear: new sessions go elsewhere, then some move.

use std::time::Duration;

use gstrtspmux::mux::{
    Congestion, Mux, MuxEvent, MuxEvents, PacketKind, Pooling, Session, SessionOptions,
    SharingVerdict,
};

use crate::{
    player::{assert_clean, camera_url, mux_of_this_runtime, pass, play, pooled},
    support::{
        mock_server::{Camera, Family, MockServer},
        polling::ready,
    },
};

/// Longer than a look is after the one before it.
const A_LOOK: Duration = Duration::from_millis(2100);

/// A server with eight cameras, of which the first four play on one connection.
struct Scene {
    server: MockServer,
    mux: Mux,
    events: MuxEvents,
    pooling: Pooling,
    sessions: Vec<(u32, Session)>,
}

impl Scene {
    async fn new(family: Family, max_connections_per_server: u32) -> Self {
        let server = MockServer::builder().cameras(8).family(family).start();
        let mux = mux_of_this_runtime();
        let pooling = Pooling {
            max_connections_per_server,
            ..Pooling::default()
        };
        let mut scene = Self {
            events: mux.events(),
            server,
            mux,
            pooling,
            sessions: Vec::new(),
        };
        for camera in 1..=4 {
            scene.join(camera).await;
        }
        assert_eq!(scene.server.accepted(), 1);
        assert_eq!(scene.mux.stats().servers[0].sharing, SharingVerdict::Yes);
        scene
    }

    async fn join(&mut self, camera: u32) -> u64 {
        let url = camera_url(&self.server, camera);
        // Of a clock that jumps an answer under way seems late.
        let options = SessionOptions {
            keep_alive: false,
            ..pooled(&url, &self.pooling)
        };
        let session = play(&self.mux, options).await.unwrap();
        let connection = session.monitor().stats().connection.unwrap();
        self.sessions.push((camera, session));
        connection
    }

    /// Time passes, and then all that play get two packets. On the first connection one is missing
    /// between them for each of `lossy`.
    async fn look(&mut self, lossy: &[u32]) {
        pass(A_LOOK).await;
        self.packet_for_all().await;
        for camera in lossy {
            self.server.leave_out(0, &format!("/cam/{camera}"), 1);
        }
        self.packet_for_all().await;
        // No time passes while one is on its way, though the server takes some.
        while self.is_moving() {
            self.packet_for_all().await;
        }
    }

    async fn packet_for_all(&mut self) {
        self.server.send_packets_to_all(1);
        for (camera, session) in &mut self.sessions {
            loop {
                let packet = session.next().await.unwrap();
                if packet.kind == PacketKind::Rtp {
                    assert_eq!(Camera::number_of(&packet.payload), Some(*camera));
                    break;
                }
            }
        }
    }

    fn is_moving(&self) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|(_, session)| session.monitor().stats().is_moving)
    }

    async fn looks(&mut self, count: usize, lossy: &[u32]) {
        for _ in 0..count {
            self.look(lossy).await;
        }
    }

    fn congestion(&self) -> Option<Congestion> {
        self.mux.stats().servers[0].connections[0].health.congestion
    }

    /// Sessions of the four that are not on the first connection any more.
    fn moved(&self) -> usize {
        let first = self.mux.stats().servers[0].connections[0].id;
        let four = self.sessions.iter().take(4);
        four.filter(|(_, session)| session.monitor().stats().connection != Some(first))
            .count()
    }

    fn limits_told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(event) = ready(self.events.next()).flatten() {
            if let MuxEvent::Limit(limit) = event {
                told.push(format!("{}={}", limit.limit, limit.value));
            }
        }
        told
    }
}

#[tokio::test]
async fn new_sessions_go_elsewhere_and_some_move_until_it_is_over() {
    let mut scene = Scene::new(Family::Gst, 4).await;
    let all = [1, 2, 3, 4];
    scene.looks(3, &all).await;
    assert_eq!(
        scene.congestion(),
        None,
        "the first look has nothing to compare with"
    );
    scene.look(&all).await;
    assert_eq!(scene.congestion(), Some(Congestion::Losses));
    assert!(scene.mux.stats().servers[0].connections[0].health.lost >= 12);
    assert_eq!(scene.join(5).await, 2, "a connection that is not congested");
    assert_eq!(scene.moved(), 0, "not yet");
    scene.looks(6, &all).await;
    assert_eq!(scene.moved(), 1);
    assert_eq!(scene.server.accepted(), 2, "where the new one is");
    scene.looks(12, &[]).await;
    assert_eq!(scene.congestion(), None);
    assert_eq!(scene.moved(), 1, "it has helped");
    assert_eq!(scene.join(6).await, 2, "the one with fewer sessions");
    assert_eq!(scene.limits_told(), Vec::<String>::new());
    assert_clean(&scene.server);
}

#[tokio::test]
async fn where_moving_does_not_help_half_of_them_stay_and_nothing_moves_for_a_while() {
    let mut scene = Scene::new(Family::Gst, 4).await;
    scene.looks(60, &[1, 2, 3, 4]).await;
    assert_eq!(scene.moved(), 2);
    assert_eq!(scene.server.accepted(), 2);
    assert_clean(&scene.server);
}

#[tokio::test]
async fn the_limit_that_is_in_the_way_is_named_once() {
    let mut scene = Scene::new(Family::Gst, 1).await;
    scene.looks(40, &[1, 2, 3, 4]).await;
    assert_eq!(scene.moved(), 0);
    assert_eq!(scene.server.accepted(), 1);
    assert_eq!(scene.limits_told(), ["max-connections-per-server=1"]);
}

#[tokio::test]
async fn one_camera_that_loses_packets_moves_nothing() {
    let mut scene = Scene::new(Family::Gst, 4).await;
    scene.looks(30, &[3]).await;
    assert_eq!((scene.congestion(), scene.moved()), (None, 0));
    assert_eq!(scene.join(5).await, 1);
}
