//! The same with gst-rtsp-server, whose TLS is GnuTLS's.

use gstrtspmux::mux::{ErrorKind, TlsFailure};

use super::{Authority, Request, mux, options, play, secure, trusting};
use crate::{
    gst_server::{Auth, GstServer},
    player::assert_own_frames,
};

#[tokio::test]
async fn sessions_of_a_real_server_share_one_connection() {
    let authority = Authority::new();
    let identity = authority.issue(&Request::server(&["127.0.0.1"]));
    let server = GstServer::builder()
        .mounts(4)
        .auth(Auth::Digest, "viewer", "hunter2")
        .tls(identity.pem())
        .start()
        .unwrap();
    let (mux, tls) = (mux(), trusting(&authority));
    let starts: Vec<_> = (0..4)
        .map(|camera| {
            let options = secure(&server.url_with_credentials(camera), &tls);
            let mux = mux.clone();
            tokio::spawn(async move { play(&mux, options).await })
        })
        .collect();
    let mut sessions = Vec::new();
    for (camera, start) in starts.into_iter().enumerate() {
        sessions.push((camera, start.await.unwrap().unwrap()));
    }
    assert_own_frames(sessions, 10).await;
    assert_eq!(server.counts().accepted, 1);
    let error = play(&mux, options(&server.url(0))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls(TlsFailure::UnknownAuthority));
    mux.shutdown(crate::player::PATIENCE).await;
    server.stop();
}

#[tokio::test]
async fn a_real_server_without_tls_is_told() {
    let server = GstServer::builder().start().unwrap();
    let url = server.url(0).replacen("rtsp://", "rtsps://", 1);
    let mut options = options(&url);
    options.connect_timeout = std::time::Duration::from_secs(1);
    let error = play(&mux(), options).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Tls(_)), "{error}");
    assert!(error.to_string().contains("TLS"), "{error}");
    println!("{error}");
}
