//! What the bus hears of outages of hours, in simulated time. The whole path is there: task, recovery,
//! multiplexer, and the messages on a bus. Only the network and the server are this file's own.
#![expect(clippy::disallowed_methods, reason = "the tests stop the clock")]

mod streams;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt::{self, Write as _},
    future::{pending, poll_fn, ready},
    io::{self, Read as _, Write as _},
    pin::pin,
    rc::Rc,
    sync::{
        Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    runtime::{Builder, Handle},
    task::{JoinHandle, LocalSet},
    time::sleep,
};

use super::*;
use crate::{
    mux::{
        Mux, RetryBounds, TlsOptions,
        network::{Connecting, Network, Wire},
        recovery::{ByePolicy, RecoveryPolicy},
    },
    rtspsrc::{lock, manager::ManagerSettings, messages::bus_queue},
};

const S: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Long enough for a repeat after ten minutes and for one an hour later.
const LASTS: Duration = Duration::from_secs(90 * 60);
/// Packets of each camera, one a second, before the server begins to fail.
const PACKETS: usize = 40;
const MEDIA_TIMEOUT: Duration = Duration::from_secs(20);

/// How the server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Plays,
    /// It refuses dials.
    Refuses,
    /// It answers no dial.
    Absent,
    /// Its name has no address.
    Unknown,
    /// It shows a certificate that no authority has signed.
    Unproven,
    /// It answers no request.
    Mute,
    /// It closes behind this request.
    ClosesBehind(&'static str),
    /// It answers this request so.
    Status(&'static str, u16),
    /// Each DESCRIBE leads to another URI that leads back.
    RedirectsInACircle,
    /// Its description is none.
    Undescribed,
    /// It plays, and no media comes.
    Still,
    /// It plays, and what comes is of a type that the description does not name.
    Unmapped,
    /// It plays, and sends a packet and an RTCP BYE.
    Leaves,
    /// It plays, and describes no second stream.
    PlaysFirst,
    /// It plays, and refuses the second stream.
    RefusesSecond,
}

/// The server, and the network in front of it.
struct Server {
    conduct: Mutex<Conduct>,
    ends: Mutex<Vec<Weak<Mutex<End>>>>,
    /// Signed by an authority, and by nothing but itself.
    identities: Option<[Arc<ServerConfig>; 2]>,
}

/// One connection, as the server has it.
#[derive(Default)]
struct End {
    tls: Option<ServerConnection>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    is_closed: bool,
    waker: Option<Waker>,
    sessions: Vec<Playing>,
}

/// A session at the server.
struct Playing {
    camera: u32,
    is_second: bool,
    channel: u8,
    is_playing: bool,
    sent: u16,
}

/// The client's side of it.
struct ClientEnd(Arc<Server>, Arc<Mutex<End>>);

struct Net(Arc<Server>);

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

impl fmt::Debug for ClientEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientEnd")
    }
}

impl Network for Net {
    fn connect(&self, _: &str, _: u16) -> Connecting {
        let refused = |kind: io::ErrorKind| Box::pin(ready(Err(kind.into())));
        let conduct = *lock(&self.0.conduct);
        match conduct {
            Conduct::Refuses => return refused(io::ErrorKind::ConnectionRefused),
            Conduct::Unknown => return refused(io::ErrorKind::NotFound),
            Conduct::Absent => return Box::pin(pending()),
            _ => {}
        }
        let identities = self.0.identities.as_ref();
        let identity = identities.map(|both| &both[usize::from(conduct == Conduct::Unproven)]);
        let tls = identity.map(|config| ServerConnection::new(config.clone()).unwrap());
        let end = Arc::new(Mutex::new(End {
            tls,
            ..End::default()
        }));
        lock(&self.0.ends).push(Arc::downgrade(&end));
        let client: Box<dyn Wire> = Box::new(ClientEnd(self.0.clone(), end));
        Box::pin(ready(Ok(client)))
    }

    fn seed(&self) -> u128 {
        7
    }

    fn time_suspended(&self) -> Duration {
        Duration::ZERO
    }
}

impl Wire for ClientEnd {
    fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut end = lock(&self.1);
        if end.outgoing.is_empty() && !end.is_closed {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let room = buffer.capacity() - buffer.len();
        let count = end.outgoing.len().min(room);
        buffer.extend(end.outgoing.drain(..count));
        Ok(count)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.1).receive(bytes, *lock(&self.0.conduct));
        Ok(bytes.len())
    }

    fn poll_ready(
        &mut self,
        context: &mut Context<'_>,
        wants_to_read: bool,
        wants_to_write: bool,
    ) -> Poll<io::Result<bool>> {
        let mut end = lock(&self.1);
        let is_readable = !end.outgoing.is_empty() || end.is_closed;
        if wants_to_read && is_readable {
            return Poll::Ready(Ok(true));
        }
        if wants_to_write {
            return Poll::Ready(Ok(false));
        }
        end.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl End {
    fn receive(&mut self, mut bytes: &[u8], conduct: Conduct) {
        match &mut self.tls {
            None => self.incoming.extend_from_slice(bytes),
            Some(tls) => {
                while !bytes.is_empty() {
                    tls.read_tls(&mut bytes).unwrap();
                    // The client sends an alert where it refuses the certificate.
                    if tls.process_new_packets().is_err() {
                        break;
                    }
                    // An error is that no more has come.
                    let _ = tls.reader().read_to_end(&mut self.incoming);
                }
            }
        }
        while let Some(request) = self.next_request() {
            let answer = self.answer(&request, conduct);
            self.send(answer.as_bytes());
            if request.starts_with("PLAY") && conduct == Conduct::Leaves {
                self.send_media(0);
                self.send_goodbye();
            }
        }
        self.send(&[]);
    }

    /// Frames of the client are skipped.
    fn next_request(&mut self) -> Option<String> {
        while let [b'$', _, high, low, ..] = self.incoming[..] {
            let length = 4 + usize::from(u16::from_be_bytes([high, low]));
            if self.incoming.len() < length {
                return None;
            }
            self.incoming.drain(..length);
        }
        let end = self.incoming.windows(4).position(|it| it == b"\r\n\r\n")?;
        let request = self.incoming.drain(..end + 4);
        Some(String::from_utf8(request.collect()).unwrap())
    }

    fn answer(&mut self, request: &str, conduct: Conduct) -> String {
        let header = |name: &str| {
            let mut lines = request.lines().filter_map(|line| line.split_once(": "));
            let value = lines.find(|(found, _)| *found == name);
            value.map(|(_, value)| value.to_owned()).unwrap_or_default()
        };
        let mut words = request.split(' ');
        let (method, uri) = (words.next().unwrap(), words.next().unwrap());
        let number = uri.split("/cam/").nth(1).unwrap_or("0");
        // A URI that is none of the server's: the other reading of a control URL that was refused.
        let Ok(camera) = number.split('/').next().unwrap().parse() else {
            return format!("RTSP/1.0 404 Not Found\r\nCSeq: {}\r\n\r\n", header("CSeq"));
        };
        let (mut status, mut more, mut body) = (200, String::new(), String::new());
        match (method, conduct) {
            (_, Conduct::Mute) => return String::new(),
            (_, Conduct::ClosesBehind(this)) if this == method => {
                self.is_closed = true;
                return String::new();
            }
            (_, Conduct::Status(this, code)) if this == method => {
                status = code;
                if code == 401 {
                    more = "WWW-Authenticate: Basic realm=\"x\"\r\n".to_owned();
                }
            }
            ("DESCRIBE", Conduct::RedirectsInACircle) => {
                status = 302;
                let other = match uri.strip_suffix("/again") {
                    Some(first) => first.to_owned(),
                    None => format!("{uri}/again"),
                };
                more = format!("Location: {other}\r\n");
            }
            ("DESCRIBE", _) => {
                body = match conduct {
                    Conduct::Undescribed => "nothing".to_owned(),
                    _ => sdp(camera, conduct),
                };
                more = "Content-Type: application/sdp\r\n".to_owned();
            }
            ("SETUP", Conduct::RefusesSecond) if uri.ends_with("second") => status = 404,
            ("SETUP", _) => {
                let transport = header("Transport");
                let channel = transport.split("interleaved=").nth(1).unwrap();
                let channel = channel.split(['-', ';']).next().unwrap().parse().unwrap();
                let session = Playing {
                    camera,
                    is_second: uri.ends_with("second"),
                    channel,
                    is_playing: false,
                    sent: 0,
                };
                self.sessions.push(session);
                more = format!("Session: s{camera}\r\nTransport: {transport}\r\n");
            }
            ("TEARDOWN", _) => self.sessions.retain(|session| session.camera != camera),
            ("PLAY", _) => {
                let sessions = self.sessions.iter_mut();
                sessions
                    .filter(|session| session.camera == camera)
                    .for_each(|session| session.is_playing = true);
                more = format!("Session: s{camera}\r\n");
            }
            _ => more = "Public: DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n".to_owned(),
        }
        let (cseq, length) = (header("CSeq"), body.len());
        format!(
            "RTSP/1.0 {status} X\r\nCSeq: {cseq}\r\nServer: GStreamer RTSP server\r\n{more}\
             Content-Length: {length}\r\n\r\n{body}"
        )
    }

    /// A packet of each session that plays. Returns how many.
    fn send_media(&mut self, payload_type: u8) -> usize {
        let mut sent = 0;
        let mut frames = Vec::new();
        for session in self.sessions.iter_mut().filter(|it| it.is_playing) {
            let time = u32::from(session.sent) * 8_000;
            let (payload_type, ssrc) = match session.is_second {
                true => (8, session.camera + 1_000),
                false => (payload_type, session.camera),
            };
            let mut packet = vec![0x80, payload_type];
            packet.extend(session.sent.to_be_bytes());
            packet.extend(time.to_be_bytes());
            packet.extend(ssrc.to_be_bytes());
            packet.extend([0xd5; 8]);
            session.sent += 1;
            sent += 1;
            frames.extend(frame(session.channel, &packet));
        }
        self.send(&frames);
        sent
    }

    fn send_goodbye(&mut self) {
        let mut frames = Vec::new();
        for session in &mut self.sessions {
            let ssrc = session.camera.to_be_bytes();
            let report = [&[0x80, 201, 0, 1][..], &ssrc, &[0x81, 203, 0, 1], &ssrc].concat();
            frames.extend(frame(session.channel + 1, &report));
        }
        self.send(&frames);
    }

    fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => self.outgoing.extend_from_slice(bytes),
            Some(tls) => {
                tls.writer().write_all(bytes).unwrap();
                while tls.wants_write() {
                    tls.write_tls(&mut self.outgoing).unwrap();
                }
            }
        }
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn frame(channel: u8, packet: &[u8]) -> Vec<u8> {
    let length = u16::try_from(packet.len()).unwrap().to_be_bytes();
    [&[b'$', channel], &length[..], packet].concat()
}

fn sdp(camera: u32, conduct: Conduct) -> String {
    let mut sdp = String::new();
    for line in [
        "v=0",
        "o=- 1 1 IN IP4 0.0.0.0",
        &format!("s=camera {camera}"),
        "c=IN IP4 0.0.0.0",
        "t=0 0",
        "m=audio 0 RTP/AVP 0",
        "a=control:track",
    ] {
        write!(sdp, "{line}\r\n").unwrap();
    }
    if camera == streams::CAMERA && conduct != Conduct::PlaysFirst {
        sdp += "m=audio 0 RTP/AVP 8\r\na=control:second\r\n";
    }
    sdp
}

impl Server {
    fn each_end(&self, act: impl Fn(&mut End)) {
        let ends = lock(&self.ends).clone();
        let ends = ends.iter().filter_map(Weak::upgrade);
        ends.for_each(|end| act(&mut lock(&end)));
    }

    /// From now on the server behaves like this, and all connections are gone.
    fn strike(&self, conduct: Conduct) {
        *lock(&self.conduct) = conduct;
        self.each_end(|end| {
            end.is_closed = true;
            end.wake();
        });
    }

    /// A packet of each session that plays. Returns how many.
    fn send_media(&self) -> usize {
        let payload_type = match *lock(&self.conduct) {
            Conduct::Plays | Conduct::PlaysFirst | Conduct::RefusesSecond => 0,
            Conduct::Unmapped => 99,
            _ => return 0,
        };
        let sent = Cell::new(0);
        self.each_end(|end| {
            if !end.is_closed {
                sent.set(sent.get() + end.send_media(payload_type));
            }
        });
        sent.get()
    }
}

/// The certificates of a server, and what the users trust.
fn certificates() -> ([Arc<ServerConfig>; 2], TlsOptions) {
    let key = || KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, key()).unwrap();
    let params = CertificateParams::new(vec!["nvr".to_owned()]).unwrap();
    let keys = [key(), key()];
    let chains = [
        params.signed_by(&keys[0], &authority).unwrap(),
        params.self_signed(&keys[1]).unwrap(),
    ];
    let config = |number: usize| {
        let chain = CertificateDer::from_pem_slice(chains[number].pem().as_bytes()).unwrap();
        let pem = keys[number].serialize_pem();
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![chain], key);
        Arc::new(config.unwrap())
    };
    let trusted = TlsOptions::default().with_authorities(authority.pem().as_bytes());
    ([config(0), config(1)], trusted.unwrap())
}

/// What the bus has heard of each camera, and when in the simulation.
struct Ear {
    bus: gst::Bus,
    began: Instant,
    last: Instant,
    told: BTreeMap<String, Vec<(Duration, String)>>,
}

impl Ear {
    fn new() -> Rc<RefCell<Self>> {
        let (bus, began) = (gst::Bus::new(), timer::now());
        Rc::new(RefCell::new(Self {
            bus,
            began,
            last: began,
            told: BTreeMap::new(),
        }))
    }

    /// Takes down what was posted in the second before this.
    fn listen(&mut self, element: &RtspMuxSrc) {
        let now = timer::now();
        if now >= self.last + S {
            self.take(element);
            self.last = now;
        }
    }

    fn take(&mut self, element: &RtspMuxSrc) {
        // The messages are posted by a thread, for which the simulation does not wait by itself.
        let mut posted = pin!(bus_queue::posted(element));
        let mut context = Context::from_waker(Waker::noop());
        while posted.as_mut().poll(&mut context).is_pending() {
            std::thread::yield_now();
        }
        let at = self.last.saturating_duration_since(self.began);
        let kinds = [
            gst::MessageType::Error,
            gst::MessageType::Warning,
            gst::MessageType::Element,
            gst::MessageType::Progress,
        ];
        while let Some(message) = self.bus.pop_filtered(&kinds) {
            if message.type_() != gst::MessageType::Progress {
                let name = message.src().unwrap().name().to_string();
                let told = self.told.entry(name).or_default();
                told.push((at, format!("{message:?}")));
            }
        }
    }
}

/// What takes the place of downstream.
#[derive(Default)]
struct Sinks {
    pads: Mutex<Vec<gst::Pad>>,
    buffers: AtomicUsize,
    /// What came to the pads: GAP and EOS events, and buffers.
    heard: Mutex<Vec<(String, Heard)>>,
}

/// What came to a pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Buffer,
    Gap,
    Eos,
}

/// A camera of the server, and its task.
struct Camera {
    element: RtspMuxSrc,
    control: Arc<SessionControl>,
    sinks: Arc<Sinks>,
    task: JoinHandle<()>,
}

impl Camera {
    /// The threads that push have no part in the simulation: its time stops until they are done.
    async fn wait_for_buffers(&self, count: usize) {
        while self.sinks.buffers.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
    }
}

fn options(camera: u32, tls: Option<&TlsOptions>) -> SessionOptions {
    let scheme = if tls.is_some() { "rtsps" } else { "rtsp" };
    let url = format!("{scheme}://user:password@nvr/cam/{camera}");
    SessionOptions {
        tls: tls.cloned().unwrap_or_default(),
        ..SessionOptions::new(&url).unwrap()
    }
}

fn start(mux: &Mux, options: SessionOptions, number: u32, ear: &Rc<RefCell<Ear>>) -> Camera {
    let element = glib::Object::builder::<RtspMuxSrc>()
        .property("name", format!("camera-{number}"))
        .build();
    element.set_bus(Some(&ear.borrow().bus));
    let sinks = Arc::<Sinks>::default();
    let kept = sinks.clone();
    element.connect_pad_added(move |_, pad| {
        let (counted, told, name) = (kept.clone(), kept.clone(), pad.name().to_string());
        let of = name.clone();
        let sink = gst::Pad::builder(gst::PadDirection::Sink)
            .chain_function(move |_, _, _| {
                lock(&counted.heard).push((of.clone(), Heard::Buffer));
                counted.buffers.fetch_add(1, Ordering::Relaxed);
                Ok(gst::FlowSuccess::Ok)
            })
            .event_function(move |_, _, event| {
                let heard = match event.type_() {
                    gst::EventType::Gap => Some(Heard::Gap),
                    gst::EventType::Eos => Some(Heard::Eos),
                    _ => None,
                };
                lock(&told.heard).extend(heard.map(|heard| (name.clone(), heard)));
                true
            })
            .build();
        sink.set_active(true).unwrap();
        pad.link(&sink).unwrap();
        lock(&kept.pads).push(sink);
    });
    let plan = SessionPlan {
        mux: mux.clone(),
        options: options.clone(),
        intent: None,
        manager: ManagerSettings {
            sends_reports: true,
            ..ManagerSettings::default()
        },
        seeking: Arc::default(),
        onvif: None,
        media_timeout: MEDIA_TIMEOUT,
        policy: RecoveryPolicy {
            is_on: true,
            fails_at_start: false,
            follows_changes: true,
            on_bye: ByePolicy::default(),
            attempts: None,
            bounds: RetryBounds::default(),
        },
    };
    let control = SessionControl::new(options, Arc::default());
    control.set(TargetState::Playing);
    let task = SessionTask::new(&element, plan, control.clone());
    let (heard, by) = (ear.clone(), element.clone());
    let task = tokio::task::spawn_local(async move {
        let mut task = pin!(task.run());
        poll_fn(|context| {
            heard.borrow_mut().listen(&by);
            task.as_mut().poll(context)
        })
        .await;
    });
    Camera {
        element,
        control,
        sinks,
        task,
    }
}

/// The times at which the bus hears of each camera, after the server has begun to behave like this.
async fn watch(conduct: Conduct, cameras: u32, has_played: bool, time: Duration) -> Vec<Told> {
    let certificates = (conduct == Conduct::Unproven).then(certificates);
    let (identities, trusted) = certificates.unzip();
    let server = Arc::new(Server {
        conduct: Mutex::new(if has_played { Conduct::Plays } else { conduct }),
        ends: Mutex::default(),
        identities,
    });
    let mux = Mux::builder()
        .runtime(Handle::current())
        .network(Arc::new(Net(server.clone())))
        .build();
    let ear = Ear::new();
    let start = |number| start(&mux, options(number, trusted.as_ref()), number, &ear);
    let all: Vec<Camera> = (1..=cameras).map(start).collect();
    if has_played {
        for sent in 0..PACKETS {
            sleep(S).await;
            for camera in &all {
                camera.wait_for_buffers(sent).await;
            }
            server.send_media();
        }
        for camera in &all {
            camera.wait_for_buffers(PACKETS).await;
            let status = lock(&camera.control.status).clone();
            assert_eq!(status.state, SessionState::Playing, "{status:?}");
        }
        server.strike(conduct);
    }
    let struck = timer::now();
    while timer::now() < struck + time {
        sleep(5 * S).await;
        server.send_media();
    }
    ear.borrow_mut().take(&all[0].element);
    for camera in &all {
        camera.control.set(TargetState::Stopped);
    }
    for camera in all {
        camera.task.await.unwrap();
    }
    let told = std::mem::take(&mut ear.borrow_mut().told);
    let began = struck.saturating_duration_since(ear.borrow().began);
    let times = told.into_values().map(|told| {
        let after = |(at, text): (Duration, String)| (at.saturating_sub(began), text);
        told.into_iter().map(after).collect()
    });
    times.collect()
}

/// What was told of one camera.
type Told = Vec<(Duration, String)>;

/// The same over some hours, in a simulation of its own.
fn hear(conduct: Conduct, cameras: u32, has_played: bool) -> Vec<Told> {
    gst::init().unwrap();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    let run = watch(conduct, cameras, has_played, LASTS);
    let told = LocalSet::new().block_on(&runtime.unwrap(), run);
    assert_eq!(told.len(), cameras as usize, "each camera says why");
    told
}

/// Asserts that the bus hears of each camera thrice at most in the first minute, then after ten minutes,
/// and then each hour. `at_least`: what has to be told at all.
fn assert_told(conduct: Conduct, has_played: bool, at_least: usize) {
    for cameras in [1, 16] {
        for told in hear(conduct, cameras, has_played) {
            let times: Vec<Duration> = told.iter().map(|(at, _)| *at).collect();
            let what = format!("{conduct:?}, {cameras} cameras: {told:#?}");
            let early = times.iter().take_while(|at| **at < MINUTE).count();
            assert!((1..=3).contains(&early), "{what}");
            assert!(times.len() >= at_least, "{what}");
            // A camera may have its first turn after the first minute.
            let late = times[early..].windows(2);
            let spans: Vec<Duration> = late.map(|two| two[1] - two[0]).collect();
            assert!(spans.iter().all(|span| *span >= 10 * MINUTE), "{what}");
            assert!(spans.iter().skip(1).all(|span| *span >= HOUR), "{what}");
        }
    }
}

#[test]
fn f44_an_outage_of_hours_is_told_at_long_intervals_where_the_server_cannot_be_reached() {
    for conduct in [Conduct::Refuses, Conduct::Absent, Conduct::Unknown] {
        assert_told(conduct, false, 4);
        assert_told(conduct, true, 4);
    }
    assert_told(Conduct::Unproven, true, 4);
}

#[test]
fn f44_an_outage_of_hours_is_told_at_long_intervals_where_the_server_refuses() {
    for conduct in [
        Conduct::Status("DESCRIBE", 503),
        Conduct::Status("SETUP", 461),
        Conduct::Status("PLAY", 454),
        Conduct::RedirectsInACircle,
        Conduct::Undescribed,
    ] {
        assert_told(conduct, true, 4);
    }
    // Each try of the password is a long time after the one before.
    assert_told(Conduct::Status("DESCRIBE", 401), true, 4);
}

#[test]
fn f44_an_outage_of_hours_is_told_at_long_intervals_where_the_server_does_not_answer() {
    // Each try takes so long that a camera of sixteen has its turn after more than an hour.
    assert_told(Conduct::Mute, false, 3);
    assert_told(Conduct::Mute, true, 3);
    for conduct in [
        Conduct::ClosesBehind("DESCRIBE"),
        Conduct::ClosesBehind("SETUP"),
        Conduct::ClosesBehind("PLAY"),
    ] {
        assert_told(conduct, true, 4);
    }
}

#[test]
fn f44_an_outage_of_hours_is_told_at_long_intervals_where_no_media_can_be_played() {
    assert_told(Conduct::Still, true, 4);
    assert_told(Conduct::Unmapped, true, 4);
    // Media comes each time: that it does not last is no other reason.
    assert_told(Conduct::Leaves, true, 2);
}

#[test]
fn f44_what_is_final_at_the_first_start_is_told_once() {
    for conduct in [
        Conduct::Status("DESCRIBE", 503),
        Conduct::Status("SETUP", 461),
        Conduct::RedirectsInACircle,
        Conduct::Undescribed,
        Conduct::Unproven,
    ] {
        for told in hear(conduct, 16, false) {
            assert_eq!(told.len(), 1, "{conduct:?}: {told:#?}");
        }
    }
    // Of sixteen cameras with a wrong password one is refused; the others try again, which is told once.
    for told in hear(Conduct::Status("DESCRIBE", 401), 16, false) {
        assert!((1..=2).contains(&told.len()), "{told:#?}");
    }
}
