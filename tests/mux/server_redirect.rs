//! F55: REDIRECT, by which a server sends sessions elsewhere while they play.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use gstrtspmux::mux::{Mux, PacketKind, Pooling, Session};

use crate::{
    player::{
        PATIENCE, camera_url, mux, next_rtp, options, play, play_all, server, with_credentials,
        within_patience,
    },
    support::{
        mock_server::{Algorithm, Auth, Camera, MockServer, Reaction, Rule, ServerView},
        rtsp::Request,
    },
};

/// The one of four that is sent elsewhere.
const SENT: u32 = 2;

/// Longer than a session that stays needs to begin to leave.
const MOMENT: Duration = Duration::from_millis(300);

fn redirect(location: Option<&str>) -> Request {
    let request = Request::new("REDIRECT", "*");
    match location {
        Some(location) => request.header("Location", location),
        None => request,
    }
}

/// A REDIRECT for the session of one camera.
fn redirect_session(server: &MockServer, camera: u32, location: Option<&str>) {
    let view = server.view();
    let path = format!("/cam/{camera}");
    let session = view.sessions.iter().find(|it| it.camera == path).unwrap();
    let request = redirect(location).header("Session", session.id.clone());
    server.send_request(session.connection, request);
}

/// What comes of one session, until it has moved.
struct Followed {
    camera: u32,
    session: Session,
    /// The number of its next packet at the server.
    next: u32,
    has_moved: bool,
}

impl Followed {
    fn all(sessions: Vec<Session>) -> Vec<Self> {
        let followed = |(camera, session)| Self {
            camera,
            session,
            next: 0,
            has_moved: false,
        };
        (1..).zip(sessions).map(followed).collect()
    }

    /// Takes a packet, before which none is missing.
    async fn take(&mut self) {
        let packet = next_rtp(&mut self.session).await.expect("a packet");
        let camera = Camera::number_of(&packet.payload);
        assert_eq!(camera, Some(self.camera));
        if packet.discontinuity {
            (self.has_moved, self.next) = (true, 0);
        }
        let index = Camera::index_of(&packet.payload);
        assert_eq!(index, Some(self.next), "camera {camera:?}");
        self.next += 1;
    }
}

/// The servers send packets of all cameras until those in `moving` have moved; no camera misses one.
async fn until_moved(servers: &[&MockServer], all: &mut [Followed], moving: &[u32]) {
    within_patience(async {
        loop {
            let moved = all.iter().filter(|it| it.has_moved);
            let moved: BTreeSet<u32> = moved.map(|it| it.camera).collect();
            assert!(moved.iter().all(|camera| moving.contains(camera)));
            if moved.len() == moving.len() {
                break;
            }
            for server in servers {
                server.send_packets_to_all(1);
            }
            for followed in &mut *all {
                followed.take().await;
            }
        }
    })
    .await;
}

async fn four(server: &MockServer) -> (Mux, Vec<Followed>) {
    let mux = mux();
    let sessions = play_all(&mux, server, 4, &Pooling::default()).await;
    assert_eq!(server.accepted(), 1);
    (mux, Followed::all(sessions))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_one_of_four_goes_where_it_is_sent_and_the_others_lose_nothing() {
    let (here, there) = (server(4), server(4));
    let (_mux, mut all) = four(&here).await;
    redirect_session(&here, SENT, Some(&camera_url(&there, SENT)));
    until_moved(&[&here, &there], &mut all, &[SENT]).await;
    // The target was set up before the old session was torn down.
    assert!(here.wait_until(|view| view.playing() == 3, PATIENCE));
    assert_eq!(here.view().count("TEARDOWN"), 1);
    assert_eq!((there.view().playing(), here.accepted()), (1, 1));
    let answer = &here.view().responses[0].1;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_a_redirect_of_the_connection_sends_each_camera_to_its_own_url() {
    for location in ["", "/"] {
        let (here, there) = (server(4), server(4));
        let (_mux, mut all) = four(&here).await;
        let to = there.url(location);
        here.send_request(0, redirect(Some(&to)));
        until_moved(&[&here, &there], &mut all, &[1, 2, 3, 4]).await;
        assert!(here.wait_until(|view| view.open_connections <= 1, PATIENCE));
        assert_eq!(there.view().playing(), 4);
        assert_eq!(there.accepted(), 1, "they share there as well");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_without_a_location_the_same_server_is_connected_to_anew() {
    let here = server(4);
    let (mux, mut all) = four(&here).await;
    here.send_request(0, redirect(None));
    until_moved(&[&here], &mut all, &[1, 2, 3, 4]).await;
    let are_elsewhere = |view: &ServerView| view.sessions.iter().all(|it| it.connection != 0);
    assert!(here.wait_until(are_elsewhere, PATIENCE));
    // No session is added to the old one.
    let _more = play(&mux, options(&camera_url(&here, 1))).await.unwrap();
    assert!(are_elsewhere(&here.view()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_a_session_whose_target_is_not_to_be_had_stays() {
    let (here, there) = (server(4), server(4));
    there.add_rule(Rule::new("SETUP", Reaction::status(503)));
    let gone = {
        let gone = server(1);
        camera_url(&gone, 1)
    };
    let (_mux, mut all) = four(&here).await;
    let targets = [
        gone,
        camera_url(&there, SENT),
        there.url("/nothing"),
        "http://127.0.0.1/cam".to_owned(),
        "nonsense".to_owned(),
    ];
    for target in &targets {
        redirect_session(&here, SENT, Some(target));
    }
    for _ in 0..20 {
        here.send_packets_to_all(1);
        for followed in &mut all {
            followed.take().await;
        }
        // Each attempt has its time.
        here.wait_until(|_| false, MOMENT / 10);
    }
    assert!(all.iter().all(|followed| !followed.has_moved));
    assert_eq!(here.view().playing(), 4);
    assert_eq!(here.view().count("TEARDOWN"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_a_server_that_closes_behind_its_redirect_is_left_for_the_target() {
    let (here, there) = (server(1), Arc::new(server(1)));
    let mux = mux();
    let mut session = play(&mux, options(&camera_url(&here, 1))).await.unwrap();
    here.send_packets("/cam/1", 1);
    next_rtp(&mut session).await.unwrap();
    here.send_request(0, redirect(Some(&camera_url(&there, 1))));
    here.close_connections();
    let watched = Arc::clone(&there);
    let plays = tokio::task::spawn_blocking(move || {
        let plays = watched.wait_until(|view| view.playing() == 1, PATIENCE);
        watched.send_packets("/cam/1", 1);
        plays
    });
    let packet = next_rtp(&mut session).await.expect("the session goes on");
    assert!(packet.discontinuity && plays.await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_five_redirects_are_followed_and_a_circle_ends() {
    // A server that sends each session on at once; and two that send it to and fro.
    for servers in [7, 2] {
        let servers: Vec<_> = (0..servers).map(|_| Arc::new(server(1))).collect();
        let mux = mux();
        let first = camera_url(&servers[0], 1);
        let mut session = play(&mux, options(&first)).await.unwrap();
        let mut at = 0;
        for hop in 0..6 {
            let next = (at + 1) % servers.len();
            let connection = servers[at].view().sessions[0].connection;
            let to = camera_url(&servers[next], 1);
            servers[at].send_request(connection, redirect(Some(&to)));
            // The way back is a circle.
            let follows = hop < 5 && next > at;
            let limit = if follows { PATIENCE } else { MOMENT };
            let plays = plays_there(&mut session, &servers[next], limit).await;
            assert_eq!(plays, follows, "hop {hop} of {} servers", servers.len());
            if !follows {
                servers[at].send_packets("/cam/1", 1);
                let packet = next_rtp(&mut session).await.unwrap();
                assert!(!packet.discontinuity, "it stays");
                break;
            }
            servers[next].send_packets("/cam/1", 1);
            while !next_rtp(&mut session).await.unwrap().discontinuity {}
            assert!(servers[at].wait_until(|view| view.playing() == 0, PATIENCE));
            at = next;
        }
    }
}

/// Whether a session, whose packets are taken meanwhile, plays at that server within `limit`.
async fn plays_there(session: &mut Session, server: &Arc<MockServer>, limit: Duration) -> bool {
    let watched = Arc::clone(server);
    let plays = move || watched.wait_until(|view| view.playing() == 1, limit);
    let mut plays = tokio::task::spawn_blocking(plays);
    loop {
        tokio::select! {
            plays = &mut plays => return plays.unwrap(),
            packet = session.next() => assert!(packet.is_some()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_credentials_go_where_a_redirected_describe_takes_them() {
    let auth = |user: &str, password: &str| Auth::Digest {
        algorithm: Algorithm::Md5,
        user: user.to_owned(),
        password: password.to_owned(),
    };
    let asks = |auth| MockServer::builder().cameras(1).credentials(auth).start();
    // The user's own go to another port of the host; those of the Location before them.
    for (there, to) in [
        (asks(auth("admin", "hunter2")), None),
        (asks(auth("viewer", "43")), Some(("viewer", "43"))),
    ] {
        let here = asks(auth("admin", "hunter2"));
        let mux = mux();
        let url = with_credentials(&camera_url(&here, 1), "admin", "hunter2");
        let session = play(&mux, options(&url)).await.unwrap();
        let mut all = Followed::all(vec![session]);
        let mut target = camera_url(&there, 1);
        if let Some((user, password)) = to {
            target = with_credentials(&target, user, password);
        }
        here.send_request(0, redirect(Some(&target)));
        until_moved(&[&here, &there], &mut all, &[1]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_a_redirect_that_names_a_later_time_is_followed_then() {
    let (here, there) = (server(1), server(1));
    let mux = mux();
    let session = play(&mux, options(&camera_url(&here, 1))).await.unwrap();
    let mut all = Followed::all(vec![session]);
    let request = redirect(Some(&camera_url(&there, 1)))
        .header("Date", "Tue, 05 Nov 1996 08:00:00 GMT")
        .header("Range", "clock=19961105T080002Z-");
    here.send_request(0, request);
    for _ in 0..5 {
        here.send_packets_to_all(1);
        all[0].take().await;
    }
    assert!(!there.wait_until(|view| view.accepted > 0, MOMENT));
    until_moved(&[&here, &there], &mut all, &[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f55_a_target_with_other_streams_is_none() {
    let here = server(1);
    let sound = "v=0\r\ns=x\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\na=control:stream=0\r\n";
    let camera = Camera::video().number(1).sdp(sound);
    let there = MockServer::builder().camera("/cam/1", camera).start();
    let mux = mux();
    let mut session = play(&mux, options(&camera_url(&here, 1))).await.unwrap();
    here.send_request(0, redirect(Some(&camera_url(&there, 1))));
    tokio::select! {
        packet = session.next() => assert_eq!(packet.map(|it| it.kind), Some(PacketKind::Rtp)),
        () = async { while there.view().count("DESCRIBE") == 0 { tokio::task::yield_now().await; } } => {}
    }
    here.send_packets("/cam/1", 1);
    assert!(!next_rtp(&mut session).await.unwrap().discontinuity);
    assert_eq!(there.view().count("SETUP"), 0);
}
