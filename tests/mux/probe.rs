//! What a user is told of a server: which cameras play, whether it shares connections, and why not.

use std::time::Duration;

use gstrtspmux::mux::{
    Mux, SessionOptions, SharingVerdict,
    probe::{ProbePatience, ProbeReport, probe},
};

use crate::support::mock_server::{Behaviour, Family, MockServer};

/// Enough for a busy machine; a server that answers takes a fraction of it.
const PATIENCE: ProbePatience = ProbePatience {
    start: Duration::from_secs(10),
    play: Duration::from_millis(10),
};

fn server(family: Family, cameras: u32) -> MockServer {
    let server = MockServer::builder()
        .family(family)
        .behaviour(Behaviour::PacketsAfterPlay(3));
    (1..=cameras)
        .fold(server, |server, camera| server.camera_of(family, camera))
        .start()
}

fn report(urls: &[String]) -> ProbeReport {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mux = Mux::builder().runtime(runtime.handle().clone()).build();
    let cameras = urls.iter().map(|url| SessionOptions::new(url).unwrap());
    let report = runtime.block_on(probe(&mux, cameras.collect(), PATIENCE));
    runtime.block_on(mux.shutdown(Duration::from_secs(3)));
    report.unwrap()
}

fn urls(server: &MockServer, family: Family, cameras: u32) -> Vec<String> {
    let url = |camera| server.url(&family.path(camera));
    (1..=cameras).map(url).collect()
}

#[test]
fn a_server_that_shares_is_said_to() {
    let server = server(Family::Gst, 2);
    let report = report(&urls(&server, Family::Gst, 2));
    assert!(report.all_play(), "{report}");
    assert_eq!(report.cameras.len(), 2);
    assert_eq!(report.servers[0].sharing, SharingVerdict::Yes);
    assert_eq!(report.servers[0].connections.len(), 1);
    let text = report.to_string();
    assert!(text.contains("plays: rtsp://"), "{text}");
    assert!(text.contains("\nshares: "), "{text}");
}

#[test]
fn a_single_camera_is_opened_twice() {
    let server = server(Family::Gst, 1);
    let report = report(&urls(&server, Family::Gst, 1));
    assert!(report.all_play(), "{report}");
    assert_eq!(report.cameras.len(), 2);
    assert_eq!(report.servers[0].sharing, SharingVerdict::Yes);
}

#[test]
fn the_reason_why_a_server_does_not_share_is_said() {
    for family in [Family::MediaMtx, Family::AioToolkit, Family::CheapCamera] {
        let server = server(family, 2);
        let report = report(&urls(&server, family, 2));
        assert!(report.all_play(), "{family:?}: {report}");
        assert_eq!(report.servers[0].sharing, SharingVerdict::No, "{family:?}");
        assert!(report.to_string().contains("does not share: "), "{report}");
    }
}

#[test]
fn a_camera_that_does_not_play_says_why_and_holds_up_no_other() {
    let server = server(Family::Gst, 2);
    let mut urls = urls(&server, Family::Gst, 2);
    urls.push(
        server
            .url("/nothing")
            .replace("rtsp://", "rtsp://user:secret@"),
    );
    let report = report(&urls);
    assert!(!report.all_play());
    let plays = report.cameras.iter().map(|camera| camera.result.is_ok());
    assert_eq!(plays.collect::<Vec<_>>(), [true, true, false]);
    let text = report.to_string();
    assert!(text.contains("does not play: rtsp://"), "{text}");
    assert!(text.contains("404") && !text.contains("secret"), "{text}");
    assert_eq!(text.matches("/nothing").count(), 1, "{text}");
}
