//! What a session waits for, as its statistics tell an operator.

use std::net::TcpListener;

use gstrtspmux::mux::{Mux, Opening, Pooling, SessionMonitor, WaitReason};

use crate::{
    player::{camera_url, eventually, mux, options, pooled, server, within_patience},
    support::mock_server::{MockServer, Reaction, Rule},
};

fn opening(mux: &Mux, server: &MockServer, camera: u32, pooling: &Pooling) -> Opening {
    mux.open(pooled(&camera_url(server, camera), pooling))
}

/// The server has got the DESCRIBE that it holds.
async fn is_held(server: &MockServer) {
    eventually(|| server.view().count("DESCRIBE") == 1).await;
}

async fn waits_for(monitor: &SessionMonitor, reason: WaitReason) {
    eventually(|| monitor.stats().waiting_for == Some(reason)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_and_then_nothing() {
    let (mux, server) = (mux(), server(1));
    server.add_rule(Rule::new("DESCRIBE", Reaction::Hold).times(1));
    let opening = opening(&mux, &server, 1, &Pooling::default());
    let monitor = opening.monitor();
    assert_eq!(monitor.stats().waiting_for, None, "it has not begun");
    let describing = tokio::spawn(opening.describe());
    is_held(&server).await;
    waits_for(&monitor, WaitReason::Answer).await;
    server.release();
    let described = within_patience(describing).await.unwrap().unwrap();
    assert_eq!(monitor.stats().waiting_for, None);
    drop(described);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_not_sent_behind_the_describe_of_another_session() {
    let (mux, server) = (mux(), server(2));
    server.add_rule(Rule::new("DESCRIBE", Reaction::Hold).times(1));
    let pooling = Pooling {
        max_connections_per_server: 1,
        ..Pooling::default()
    };
    let first = opening(&mux, &server, 1, &pooling);
    let monitor = first.monitor();
    let first = tokio::spawn(first.describe());
    is_held(&server).await;
    waits_for(&monitor, WaitReason::Answer).await;
    let second = opening(&mux, &server, 2, &pooling);
    let monitor = second.monitor();
    let second = tokio::spawn(second.describe());
    waits_for(&monitor, WaitReason::Unsent).await;
    server.release();
    let first = within_patience(first).await.unwrap().unwrap();
    let second = within_patience(second).await.unwrap().unwrap();
    assert_eq!(monitor.stats().waiting_for, None);
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_being_made() {
    // Nothing answers the handshake.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsps://{}/cam", listener.local_addr().unwrap());
    let opening = mux().open(options(&url));
    let monitor = opening.monitor();
    let describing = tokio::spawn(opening.describe());
    waits_for(&monitor, WaitReason::Connection).await;
    describing.abort();
    eventually(|| monitor.stats().waiting_for.is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_once_its_future_is_dropped() {
    let (mux, server) = (mux(), server(1));
    server.add_rule(Rule::new("DESCRIBE", Reaction::Hold).times(1));
    let opening = opening(&mux, &server, 1, &Pooling::default());
    let monitor = opening.monitor();
    let describing = tokio::spawn(opening.describe());
    is_held(&server).await;
    waits_for(&monitor, WaitReason::Answer).await;
    describing.abort();
    eventually(|| monitor.stats().waiting_for.is_none()).await;
    server.release();
}
