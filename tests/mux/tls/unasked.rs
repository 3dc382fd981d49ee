//! What a server says on an idle connection (fault F47), behind TLS.

use std::time::{Duration, Instant};

use super::{Secured, eventually, mux, next_of_mock};
use crate::pool_reuse::unasked::{may_come, unasked};

/// Connections that the server has accepted once the second camera plays, which it does at once.
async fn accepted_after(bytes: &[u8]) -> usize {
    let (mux, secured) = (mux(), Secured::new(2));
    let session = secured.play(&mux, 1).await.unwrap();
    session.teardown().await.unwrap();
    let received = || {
        let stats = mux.stats();
        let connections = stats.servers.first().map(|server| &server.connections);
        connections
            .and_then(|all| all.first())
            .map(|first| first.bytes_received)
    };
    let before = received();
    secured.server.send_raw(0, bytes);
    eventually(|| received() != before).await;
    let begun = Instant::now();
    let mut session = secured.play(&mux, 2).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{bytes:?}");
    secured.server.send_packets("/cam/2", 1);
    assert_eq!(next_of_mock(&mut session).await.0, 2);
    secured.server.accepted()
}

#[tokio::test]
async fn f47_a_connection_that_has_said_something_unasked_is_not_used_again() {
    for bytes in unasked() {
        assert_eq!(accepted_after(&bytes).await, 2, "{bytes:?}");
    }
}

#[tokio::test]
async fn f47_what_may_come_does_not_cost_the_connection() {
    for bytes in may_come() {
        assert_eq!(accepted_after(&bytes).await, 1, "{bytes:?}");
    }
}
