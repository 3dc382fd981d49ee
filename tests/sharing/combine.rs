//! How `enable-connection-pooling`, `multiplex` and the limits combine: each cell a test.

use gstrtspmux::mux::{ErrorKind, Multiplex, Mux, Pooling, Session};

use crate::{
    assert_media, gather, options, play,
    support::mock_server::{Behaviour, Excess, Family, MockServer},
};

fn server(family: Family) -> MockServer {
    MockServer::builder().cameras(6).family(family).start()
}

fn with(multiplex: Multiplex, limit: u32) -> Pooling {
    Pooling {
        multiplex,
        max_connections_per_server: limit,
        ..Pooling::default()
    }
}

async fn one_by_one(server: &MockServer, pooling: &Pooling) -> (Mux, Vec<(u32, Session)>) {
    let mux = Mux::builder().build();
    let mut sessions = Vec::new();
    for camera in 1..=6 {
        let opening = mux.open(options(server, camera, pooling));
        sessions.push((camera, play(opening).await.unwrap()));
    }
    assert_media(server, &mut sessions).await;
    (mux, sessions)
}

#[tokio::test]
async fn without_pooling_each_has_its_own_uncounted_whatever_multiplex_says() {
    for multiplex in [Multiplex::Auto, Multiplex::Always, Multiplex::Never] {
        let server = server(Family::Gst);
        let pooling = Pooling {
            enable_connection_pooling: false,
            ..with(multiplex, 1)
        };
        let (mux, _sessions) = one_by_one(&server, &pooling).await;
        assert_eq!(server.open_connections(), 6);
        assert_eq!(mux.stats().servers, []);
    }
}

#[tokio::test]
async fn never_is_a_connection_each_uncounted_and_listed() {
    let server = server(Family::Gst);
    let (mux, _sessions) = one_by_one(&server, &with(Multiplex::Never, 1)).await;
    assert_eq!(server.open_connections(), 6);
    assert_eq!(mux.stats().servers[0].connections.len(), 6);
}

#[tokio::test]
async fn auto_shares_within_the_limit_where_the_server_can() {
    let server = server(Family::Gst);
    let _playing = one_by_one(&server, &with(Multiplex::Auto, 1)).await;
    assert_eq!(server.open_connections(), 1);
}

#[tokio::test]
async fn auto_goes_beyond_the_limit_where_the_server_cannot() {
    let server = server(Family::MediaMtx);
    let _playing = one_by_one(&server, &with(Multiplex::Auto, 4)).await;
    assert_eq!(server.open_connections(), 6);
}

#[tokio::test]
async fn auto_with_a_limit_of_one_sends_the_canary_on_a_dedicated_connection() {
    let server = MockServer::builder().cameras(6).start();
    let (mux, _sessions) = one_by_one(&server, &with(Multiplex::Auto, 1)).await;
    assert_eq!(server.open_connections(), 2);
    let connections = &mux.stats().servers[0].connections;
    let dedicated = connections
        .iter()
        .filter(|connection| connection.is_dedicated);
    assert_eq!((connections.len(), dedicated.count()), (2, 1));
}

#[tokio::test]
async fn always_shares_without_a_trial() {
    let server = server(Family::Live555);
    let _playing = one_by_one(&server, &with(Multiplex::Always, 1)).await;
    assert_eq!(server.open_connections(), 1);
    assert_eq!(server.view().count("SETUP"), 6, "no canary");
}

#[tokio::test]
async fn always_stays_within_the_limit_and_says_so() {
    let excess = Behaviour::SessionsPerConnection(1, Excess::Status(461));
    let server = MockServer::builder().cameras(3).behaviour(excess).start();
    let sessions = gather(
        &Mux::builder().build(),
        &server,
        3,
        &with(Multiplex::Always, 1),
    )
    .await;
    let failed: Vec<_> = sessions.iter().filter_map(|s| s.as_ref().err()).collect();
    assert_eq!((failed.len(), server.accepted()), (2, 1));
    for error in failed {
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::Status(461) | ErrorKind::ServerLimit),
            "{error}"
        );
    }
}
