//! Passwords appear nowhere.

use std::{
    env,
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    process,
    sync::{Arc, Mutex},
};

use gstrtspmux::mux::{Credentials, Mux, SessionOptions, Timeouts, TlsOptions};
use tokio::runtime::Handle;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::{
    certificates::{Authority, Request},
    player::{PATIENCE, play, set_up, with_credentials},
    support::mock_server::{Algorithm, Auth, MockServer, Reaction, Rule},
    tls_front::{Terms, TlsFront},
};

const SECRET: &str = "hunter2";

/// Collects all that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text<'a>(&'a mut String);
        impl Visit for Text<'_> {
            fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
                let _ = writeln!(self.0, "{value:?}");
            }
        }
        event.record(&mut Text(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// On one thread, so that everything is logged where it can be seen.
#[tokio::test]
async fn no_password_is_displayed_debugged_logged_or_kept() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let auth = Auth::Digest {
        algorithm: Algorithm::Md5,
        user: "admin".to_owned(),
        password: SECRET.to_owned(),
    };
    let paths = [
        "/cam?password=hunter2&channel=1",
        "/a?pwd=hunter2",
        "/b?token=hunter2",
        "/plain",
    ];
    let mut builder = MockServer::builder().cameras(1).credentials(auth);
    for path in paths {
        builder = builder.camera(path, crate::support::mock_server::Camera::video());
    }
    let server = builder.start();
    let moved = format!(
        "{}?password={SECRET}",
        with_credentials(&server.url("/gone"), "admin", SECRET)
    );
    server.add_rule(Rule::new("DESCRIBE", Reaction::redirect(&moved)).camera("/cam/1"));
    let timeouts = Timeouts::default();
    let path = env::temp_dir().join(format!("rtspmux-secrets-{}", process::id()));
    let mux = Mux::builder()
        .runtime(Handle::current())
        .state(&path)
        .build();
    let mut shown = format!(
        "{timeouts:?} {:?}",
        Credentials::new("admin", SECRET).unwrap()
    );
    let mut playing = Vec::new();
    for path in paths {
        let url = with_credentials(&server.url(path), "admin", SECRET);
        let options = SessionOptions::new(&url).unwrap();
        let opening = mux.open(options.clone());
        let _ = write!(shown, "{options:?} {opening:?} {:?}", opening.monitor());
        let described = opening.describe().await.unwrap();
        let _ = write!(shown, "{described:?}");
        let ready = set_up(&mux, options).await.unwrap();
        let _ = write!(shown, "{ready:?} {:?}", ready.streams());
        let session = ready.play().await.unwrap();
        let _ = write!(shown, "{session:?} {:?}", session.monitor().stats());
        let _ = write!(shown, "{:?}", session.rtcp_sender());
        playing.push(session);
    }
    let _ = write!(shown, "{mux:?} {:?} {:?}", mux.stats(), mux.pool());
    let mut errors = Vec::new();
    for url in [
        with_credentials(&server.url("/cam/1"), "admin", SECRET),
        with_credentials(&server.url("/none?password=hunter2"), "admin", SECRET),
        with_credentials(&server.url("/none"), SECRET, SECRET),
        format!("rtsp://admin:{SECRET}@no-such-host.invalid/?token={SECRET}"),
        format!("rtsp://admin:{SECRET}@127.0.0.1:1/?user=x&pwd={SECRET}"),
    ] {
        errors.push(
            play(&mux, SessionOptions::new(&url).unwrap())
                .await
                .unwrap_err(),
        );
    }
    server.close_connections();
    for mut session in playing {
        while session.next().await.is_some() {}
        errors.push(session.end_reason().unwrap());
        errors.extend(session.teardown().await.err());
    }
    for url in [
        format!("http://admin:{SECRET}@nvr/"),
        format!("rtsp://admin:{SECRET}@nvr:99999/"),
        format!("rtsp://admin:{SECRET}@/"),
        format!("rtsp://admin:{SECRET}%0d@nvr/"),
        format!("admin:{SECRET}@nvr/"),
    ] {
        errors.extend(SessionOptions::new(&url).err());
    }
    assert!(errors.len() >= 14, "{errors:?}");
    for error in &errors {
        let _ = write!(shown, "{error} {error:?}");
    }
    mux.shutdown(PATIENCE).await;
    let kept = fs::read_to_string(&path).unwrap();
    assert!(kept.contains("/plain rtsp://"), "{kept}");
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    fs::remove_file(path).unwrap();
    let logged = log.0.lock().unwrap();
    assert!(logged.contains("connected to"), "{logged}");
    for text in [&shown, &*logged, &kept] {
        assert_holds_no_secret(text);
    }
}

/// Nor is what proves to TLS who we are; and what was encrypted is in no log in clear text.
#[tokio::test]
async fn no_private_key_is_displayed_debugged_or_logged() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let (authority, clients) = (Authority::new(), Authority::new());
    let auth = Auth::Basic {
        user: "admin".to_owned(),
        password: SECRET.to_owned(),
    };
    let server = MockServer::builder().cameras(1).credentials(auth).start();
    let identity = authority.issue(&Request::server(&["localhost"]));
    let terms = Terms {
        clients_of: Some(clients.pem()),
        ..Terms::default()
    };
    let front = TlsFront::with_terms(&identity, server.address(), &terms);
    let client = clients.issue(&Request::client());
    let url = front
        .url("/cam/1")
        .replacen("rtsps://", &format!("rtsps://admin:{SECRET}@"), 1);
    let mut options = SessionOptions::new(&url).unwrap();
    options.tls = TlsOptions::default()
        .with_authorities(authority.pem().as_bytes())
        .unwrap()
        .with_client_certificate(client.certificate.as_bytes(), client.key.as_bytes())
        .unwrap();
    let mux = Mux::builder().runtime(Handle::current()).build();
    let session = play(&mux, options.clone()).await.unwrap();
    let mut shown = format!("{options:?} {session:?} {mux:?} {:?}", mux.stats());
    mux.shutdown(PATIENCE).await;
    shown.push_str(&log.0.lock().unwrap());
    assert!(shown.contains("DESCRIBE rtsps://localhost"), "{shown}");
    assert_holds_no_secret(&shown);
    let der: Vec<u8> = PrivateKeyDer::from_pem_slice(client.key.as_bytes())
        .unwrap()
        .secret_der()
        .to_vec();
    let (list, hex) = (format!("{:?}", &der[40..48]), hex(&der[40..48]));
    let base64 = client.key.lines().nth(2).unwrap();
    for key in [list.trim_matches(['[', ']']), &hex, base64] {
        assert!(!shown.to_lowercase().contains(&key.to_lowercase()));
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn assert_holds_no_secret(text: &str) {
    let found: Vec<_> = text
        .match_indices(SECRET)
        .map(|(at, _)| {
            let from = text[..at]
                .char_indices()
                .rev()
                .nth(80)
                .map_or(0, |(from, _)| from);
            &text[from..at + SECRET.len()]
        })
        .collect();
    assert_eq!(found, Vec::<&str>::new());
}
