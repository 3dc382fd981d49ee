//! Sources (SSRCs) that a server announces and does not send (F50).

use std::{
    env, fs, process,
    time::{Duration, Instant},
};

use gstrtspmux::mux::{Multiplex, Mux, Pooling, Session};

use crate::{
    player::{PATIENCE, camera_url, mux, next_of_mock, play, pooled},
    support::mock_server::{Family, MockServer, Reaction, Rule},
};

/// Far less than packets are held for.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The Transport header announces another source.
fn announces_another() -> Reaction {
    Reaction::edit(|response| {
        let transport = response.headers.value("Transport").unwrap().to_owned();
        let (before, _) = transport.split_once(";ssrc=").expect("an SSRC");
        response
            .headers
            .set("Transport", format!("{before};ssrc=DEADBEEF"));
    })
}

/// A session on a connection of its own, and when its first packet came.
async fn first_packet(mux: &Mux, server: &MockServer, camera: u32) -> (Session, Duration) {
    let pooling = Pooling {
        multiplex: Multiplex::Never,
        ..Pooling::default()
    };
    let url = camera_url(server, camera);
    let mut session = play(mux, pooled(&url, &pooling)).await.unwrap();
    let began = Instant::now();
    server.send_packets(&format!("/cam/{camera}"), 5);
    for sequence in 0..5 {
        assert_eq!(next_of_mock(&mut session).await, (camera, sequence));
    }
    (session, began.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f50_the_next_process_knows_whose_announced_sources_do_not_come() {
    let name = format!("rtspmux-odd-sources-{}", process::id());
    let path = env::temp_dir().join(name);
    let server = MockServer::builder().cameras(2).family(Family::Gst).start();
    server.add_rule(Rule::new("SETUP", announces_another()));
    let without = Reaction::edit(|response| response.headers.remove("RTP-Info"));
    server.add_rule(Rule::new("PLAY", without));
    for (camera, is_held) in [(1, true), (2, false)] {
        let mux = Mux::builder().state(&path).build();
        let (session, took) = first_packet(&mux, &server, camera).await;
        assert_eq!(took > AT_ONCE, is_held, "{took:?}");
        drop(session);
        mux.shutdown(PATIENCE).await;
    }
    fs::remove_file(path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f50_a_server_whose_announced_sources_do_not_come_is_not_believed_again() {
    let (mux, server) = (
        mux(),
        MockServer::builder().cameras(3).family(Family::Gst).start(),
    );
    server.add_rule(Rule::new("SETUP", announces_another()));
    let without = Reaction::edit(|response| response.headers.remove("RTP-Info"));
    server.add_rule(Rule::new("PLAY", without));
    let (_first, took) = first_packet(&mux, &server, 1).await;
    assert!(
        took > AT_ONCE,
        "held until the announced one does not come: {took:?}"
    );
    for camera in [2, 3] {
        let (_session, took) = first_packet(&mux, &server, camera).await;
        assert!(took < AT_ONCE, "{took:?}");
    }
    // What one server does says nothing of another.
    let other = MockServer::builder().cameras(1).family(Family::Gst).start();
    other.add_rule(Rule::new("SETUP", announces_another()));
    other.add_rule(Rule::new(
        "PLAY",
        Reaction::edit(|response| response.headers.remove("RTP-Info")),
    ));
    let (_session, took) = first_packet(&mux, &other, 1).await;
    assert!(took > AT_ONCE, "{took:?}");
}
