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
    support::{
        mock_server::{Algorithm, Auth, Behaviour, MockServer, Reaction, Rule},
        polling::ready,
        rtsp::Response,
    },
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

/// Each place of a URL in which cameras, or people, have put keys; `S` stands for one.
const PLACES: [&str; 21] = [
    "/cam?zz=S",
    "/cam?S",
    "/cam?S=1",
    "/cam?channel=1&k=S&subtype=0",
    "/cam?channel=S",
    "/cam?channel=1;S/x",
    "/cam?p%61ss=S",
    "/cam?pass%3DS",
    "/user=S&password=S&channel=1&stream=0.sdp",
    "/user=S_password=S_channel=1_stream=0.sdp",
    "/ch_user=S_password=S_channel=1.sdp?real_stream",
    "/user%3DS%26password%3DS/1",
    "/cam;user=S;password=S",
    "/cam;S/1",
    "/S:S@cam/1",
    "/S%3AS%40cam",
    "/token/S/cam",
    "/cam?url=rtsp://S:S@h/S=S",
    "/cam#S",
    "/cam?a=b#S?S",
    "//S@h/1",
];
/// Neither short, as what chooses a stream may be, nor all of it found by chance.
const KEY: &str = "hunter2key";

/// What a session of `url` shows while it plays and when it has ended.
async fn shown_of(mux: &Mux, server: &MockServer, url: &str) -> String {
    let options = SessionOptions::new(url).unwrap();
    let mut shown = format!("{options:?}");
    match set_up(mux, options).await {
        Ok(ready) => {
            let _ = write!(shown, "{ready:?} {:?}", ready.streams());
            let mut session = ready.play().await.unwrap();
            let _ = write!(shown, "{session:?} {:?}", session.monitor().stats());
            let _ = write!(shown, "{:?} {:?}", mux.stats(), mux.pool());
            server.close_connections();
            while session.next().await.is_some() {}
            let _ = write!(shown, "{0} {0:?}", session.end_reason().unwrap());
        }
        Err(error) => {
            let _ = write!(shown, "{error} {error:?} {:?}", error.reason());
            let _ = write!(shown, "{:?}", error.camera());
        }
    }
    shown
}

#[tokio::test]
async fn f54_no_key_of_a_url_is_displayed_debugged_logged_or_kept() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let file = env::temp_dir().join(format!("rtspmux-places-{}", process::id()));
    for place in PLACES {
        let path = place.replace('S', KEY);
        // A fragment is not sent everywhere, and is answered by itself.
        let mut builder = MockServer::builder();
        for camera in [path.as_str(), path.split('#').next().unwrap()] {
            builder = builder.camera(camera, crate::support::mock_server::Camera::video());
        }
        let server = builder.start();
        let runtime = Handle::current();
        let mux = Mux::builder().runtime(runtime).state(&file).build();
        let url = with_credentials(&server.url(&path), KEY, KEY);
        let mut shown = shown_of(&mux, &server, &url).await;
        // It is known to share, so that what was played would be kept.
        server.add_rule(Rule::new("DESCRIBE", Reaction::status(404)));
        shown += &shown_of(&mux, &server, &url).await;
        mux.shutdown(PATIENCE).await;
        shown += &fs::read_to_string(&file).unwrap();
        assert!(shown.contains("rtsp://127.0.0.1:"), "{shown}");
        let found = shown.find(KEY).map(|at| &shown[at.saturating_sub(80)..]);
        assert_eq!(found, None, "{place}");
    }
    fs::remove_file(file).unwrap();
    let logged = log.0.lock().unwrap();
    assert!(logged.contains("> DESCRIBE rtsp://127.0.0.1:"), "{logged}");
    let found = logged
        .match_indices(KEY)
        .map(|(at, _)| &logged[at.saturating_sub(80)..at]);
    assert_eq!(found.collect::<Vec<_>>(), Vec::<&str>::new());
}

/// Words of a server that quote the key, obey a terminal, turn the direction of writing and are long.
fn hostile(words: &str) -> String {
    let long = "0123456789".repeat(50);
    format!(
        "{words} /cam?q={KEY} rtsp://{KEY}:{KEY}@h/?{KEY} \x1b[2J\u{9b}31m\u{202e}\u{2066}\u{200f}\u{2028}{long}"
    )
}

fn assert_harmless(text: &str, of: &str) {
    assert_eq!(text.find(KEY), None, "{of}: {text}");
    let is_harmful = |c: char| {
        let is_mark = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        c != '\n' && (c.is_control() || is_mark)
    };
    assert_eq!(text.find(is_harmful), None, "{of}: {text:?}");
    // The numbers run on for longer than is shown of one text.
    assert_eq!(text.find(&"0123456789".repeat(20)), None, "{of}: {text}");
}

/// Says it in every header and line.
fn talkative(reference: &str) -> MockServer {
    let builder = MockServer::builder()
        .cameras(2)
        .behaviour(Behaviour::Header("Server".to_owned(), hostile("Server")))
        .behaviour(Behaviour::Header("X-Url".to_owned(), hostile("x")))
        .behaviour(Behaviour::Header(
            "Content-Location".to_owned(),
            reference.to_owned(),
        ))
        .behaviour(Behaviour::Public(hostile("OPTIONS, DESCRIBE")));
    let lines = ["s=", "i=", "u=", "e=", "a=tool:", "a=x-url:", "k=clear:"];
    let builder = lines.iter().fold(builder, |builder, line| {
        let line = format!("{line}{}", hostile("x"));
        builder.behaviour(Behaviour::SdpLine(line))
    });
    builder.start()
}

#[tokio::test]
async fn f54_no_text_of_a_server_is_shown_as_it_came() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let file = env::temp_dir().join(format!("rtspmux-texts-{}", process::id()));
    let reference = format!("?q={KEY}&{KEY}#{KEY}");
    let spoken = |status| {
        let mut response = Response::new(status);
        response.reason = hostile("No");
        response.header("Server", hostile("Server"))
    };
    let challenge = format!("Digest realm=\"{}\", nonce=\"{KEY}\"", hostile("cam"));
    let location = |server: &MockServer| server.url(&format!("/gone{reference}"));
    let server = talkative(&reference);
    let runtime = Handle::current();
    let mux = Mux::builder().runtime(runtime).state(&file).build();
    let mut events = mux.events();
    let played = shown_of(&mux, &server, &server.url("/cam/1")).await;
    assert_harmless(&played, "played");
    assert!(played.contains("stream=0"), "{played}");
    let info = format!("url=/cam/1{reference};seq=1;rtptime=2");
    let rules = [
        Rule::new("DESCRIBE", Reaction::Answer(spoken(404))),
        Rule::new("DESCRIBE", Reaction::Answer(spoken(401))),
        Rule::new(
            "DESCRIBE",
            Reaction::Answer(spoken(401).header("WWW-Authenticate", challenge)),
        ),
        Rule::new(
            "DESCRIBE",
            Reaction::Answer(spoken(401).header("WWW-Authenticate", hostile("Odd"))),
        ),
        Rule::new(
            "DESCRIBE",
            Reaction::Answer(spoken(302).header("Location", location(&server))),
        ),
        Rule::new(
            "DESCRIBE",
            Reaction::Answer(spoken(302).header(
                "Location",
                format!("rtsp://{KEY}:{KEY}@127.0.0.1:1/{KEY}={KEY}"),
            )),
        ),
        Rule::new(
            "DESCRIBE",
            Reaction::Answer(spoken(302).header("Location", format!("{}://h/", "x".repeat(400)))),
        ),
        Rule::new(
            "DESCRIBE",
            Reaction::Answer(spoken(200).content("application/sdp", hostile("v=0"))),
        ),
        Rule::new(
            "DESCRIBE",
            Reaction::Answer(spoken(200).content(
                "application/sdp",
                format!("v=0\r\nm={} 0 X 1\r\n", hostile("x")),
            )),
        ),
        Rule::new("SETUP", Reaction::Answer(spoken(455))),
        Rule::new(
            "SETUP",
            Reaction::Answer(spoken(200).header("Session", hostile("1"))),
        ),
        Rule::new(
            "SETUP",
            Reaction::Answer(
                spoken(200)
                    .header("Session", "1")
                    .header("Transport", hostile("RTP/AVP/TCP;interleaved=x")),
            ),
        ),
        Rule::new(
            "PLAY",
            Reaction::edit(move |response| response.headers.push("RTP-Info", info.clone())),
        ),
    ];
    let count = rules.len();
    for (number, rule) in rules.into_iter().enumerate() {
        server.clear_rules();
        server.add_rule(rule.camera("/cam/2"));
        let url = with_credentials(&server.url("/cam/2"), "admin", KEY);
        let shown = shown_of(&mux, &server, &url).await;
        assert_harmless(&shown, &format!("rule {number} of {count}"));
    }
    let mut told = String::new();
    while let Some(event) = ready(events.next()).flatten() {
        let _ = write!(told, "{event:?}");
    }
    mux.shutdown(PATIENCE).await;
    let kept = fs::read_to_string(&file).unwrap_or_default();
    let _ = fs::remove_file(file);
    assert_harmless(&told, "events");
    assert_harmless(&kept, "state file");
    let logged = log.0.lock().unwrap();
    assert!(logged.contains("< RTSP/1.0 404 No"), "{logged}");
    assert_harmless(&logged, "log");
}

/// So that the hashes of two runs can be compared.
#[tokio::test]
async fn f54_the_key_of_the_hashes_is_kept_in_the_state_file() {
    let file = env::temp_dir().join(format!("rtspmux-key-{}", process::id()));
    let server = MockServer::builder().cameras(1).start();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let runtime = Handle::current();
        let mux = Mux::builder().runtime(runtime).state(&file).build();
        let options = SessionOptions::new(&server.url("/cam/1")).unwrap();
        drop(play(&mux, options).await.unwrap());
        mux.shutdown(PATIENCE).await;
        let kept = fs::read_to_string(&file).unwrap();
        keys.extend(kept.lines().nth(1).map(str::to_owned));
    }
    fs::remove_file(file).unwrap();
    assert!(
        keys[0].starts_with("key ") && keys[0].len() == 36,
        "{keys:?}"
    );
    assert_eq!(keys[0], keys[1]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
