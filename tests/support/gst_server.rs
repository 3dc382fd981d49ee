//! A real gst-rtsp-server inside the process, counted from the server's side.
//!
//! ```ignore
//! let server = GstServer::builder().mounts(16).audio(|camera| camera % 4 == 0).start()?;
//! play(server.url(0)); // rtsp://127.0.0.1:PORT/cam/0
//! server.wait_until(PATIENCE, |counts| counts.plays == 16)?;
//! assert_eq!(server.counts().accepted, 1);
//! ```
//!
//! The server has a thread and a `MainContext` of its own; every connection is worked there too,
//! as gst-rtsp-server does it: strictly one request after the other. With `threads(true)` each
//! connection has a thread of its own, so that only its own requests wait for a slow one. What the
//! cameras send is described in the module `clip`.
#![allow(
    dead_code,
    reason = "included by several binaries, none of which uses all of it"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "a real server: its thread and its clock are its own"
)]

#[path = "gst_clip.rs"]
pub(crate) mod clip;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use gst::glib;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server as rtsp_server;
use rtsp_server::gst_rtsp;
use rtsp_server::prelude::*;

use clip::{Clip, Format};

/// A path at which there is a mount whose medium cannot be made: DESCRIBE gives 503. Any path
/// without a mount gives 404.
pub(crate) const BROKEN: &str = "/broken";

/// The path of the recording.
pub(crate) const RECORDING: &str = "/recording";

/// How long `stop` waits for connections and media to be gone.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a DESCRIBE is held that no test lets go.
const HOLD_TIMEOUT: Duration = Duration::from_secs(30);

/// The RTP SSRC of a camera's stream (0 video, 1 audio), the same in every session.
pub(crate) fn ssrc(camera: usize, stream: usize) -> u32 {
    0xCA00_0000 | (camera as u32) << 4 | stream as u32
}

/// What the server has seen. Requests are those it answered with success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// TCP connections accepted so far.
    pub(crate) accepted: usize,
    /// Of those, not closed yet.
    pub(crate) open: usize,
    /// Sessions made so far.
    pub(crate) sessions: usize,
    /// Of those, not torn down, expired or removed yet.
    pub(crate) sessions_now: usize,
    /// Media (pipelines of the server) at present; more than sessions, if DESCRIBE was not
    /// followed by SETUP.
    pub(crate) media_now: usize,
    pub(crate) options: usize,
    pub(crate) describes: usize,
    pub(crate) setups: usize,
    pub(crate) plays: usize,
    pub(crate) pauses: usize,
    pub(crate) teardowns: usize,
    pub(crate) get_parameters: usize,
    pub(crate) set_parameters: usize,
}

/// The counts at the time a condition still did not hold.
#[derive(Debug)]
pub(crate) struct NotInTime(pub(crate) Counts);

impl fmt::Display for NotInTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not in time: {:?}", self.0)
    }
}

impl Error for NotInTime {}

#[derive(Default)]
struct Observed {
    counts: Mutex<Counts>,
    changed: Condvar,
}

impl Observed {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Which challenge the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    Basic,
    Digest,
}

/// What a DESCRIBE of the held mount waits for. It holds up its connection's thread, which is the
/// server's only one unless it has `threads`.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    is_reached: bool,
    is_open: bool,
}

impl Gate {
    /// Lets the DESCRIBE go on.
    pub(crate) fn open(&self) {
        self.lock().is_open = true;
        self.changed.notify_all();
    }

    /// Waits until a DESCRIBE is held; false if none was within `timeout`.
    pub(crate) fn wait_until_reached(&self, timeout: Duration) -> bool {
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), timeout, |state| !state.is_reached);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_reached
    }

    /// The server's side. A test that has failed does not open it.
    fn pass(&self) {
        let mut state = self.lock();
        state.is_reached = true;
        self.changed.notify_all();
        let waited = self
            .changed
            .wait_timeout_while(state, HOLD_TIMEOUT, |state| !state.is_open);
        drop(waited);
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Made by [`GstServer::builder`].
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    mounts: usize,
    format: Format,
    audio: fn(usize) -> bool,
    shared: bool,
    held: Option<(usize, Arc<Gate>)>,
    threads: bool,
    port: u16,
    max_sessions: u32,
    session_timeout: Option<u32>,
    credentials: Option<(Auth, String, String)>,
    tls: Option<String>,
    recording: Option<PathBuf>,
    frames: u64,
}

impl Builder {
    /// A medium ends behind so many frames, with RTCP BYE. Default: it does not.
    pub(crate) fn frames(mut self, frames: u64) -> Self {
        self.frames = frames;
        self
    }

    /// A file that can be sought, at [`RECORDING`]: H.264 in MP4.
    pub(crate) fn recording(mut self, file: PathBuf) -> Self {
        self.recording = Some(file);
        self
    }

    /// Speaks TLS only, with the certificate and key of this PEM text.
    pub(crate) fn tls(mut self, identity: String) -> Self {
        self.tls = Some(identity);
        self
    }

    /// The DESCRIBE of this camera waits at the gate.
    pub(crate) fn held(mut self, camera: usize, gate: &Arc<Gate>) -> Self {
        self.held = Some((camera, Arc::clone(gate)));
        self
    }

    /// A thread for each connection. Default: one for all of them.
    pub(crate) fn threads(mut self, threads: bool) -> Self {
        self.threads = threads;
        self
    }

    /// Cameras, at `/cam/0`, `/cam/1` ...
    pub(crate) fn mounts(mut self, mounts: usize) -> Self {
        self.mounts = mounts;
        self
    }

    /// Which of the cameras have sound (PCMA, the second stream). Default: none.
    pub(crate) fn audio(mut self, audio: fn(usize) -> bool) -> Self {
        self.audio = audio;
        self
    }

    /// Default 160 x 120.
    pub(crate) fn size(mut self, width: usize, height: usize) -> Self {
        self.format.width = width;
        self.format.height = height;
        self
    }

    /// Of a camera's video. Default: what the pictures take, some 50 kbit/s.
    pub(crate) fn kbits(mut self, kbits: usize) -> Self {
        self.format.kbits = Some(kbits);
        self
    }

    /// One medium for all clients of a mount (the default, as a camera has one encoder): a later
    /// client joins in the middle. Else each starts with frame 0.
    pub(crate) fn shared(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Default 0, a free port.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sessions the server has room for, the next SETUP gets 503. Default 0, no limit.
    pub(crate) fn max_sessions(mut self, max_sessions: u32) -> Self {
        self.max_sessions = max_sessions;
        self
    }

    /// What the server says in `Session: ...;timeout=`, and does to 250 ms. Default 60, with
    /// gst-rtsp-server's margin of 5 s.
    pub(crate) fn session_timeout(mut self, seconds: u32) -> Self {
        self.session_timeout = Some(seconds);
        self
    }

    /// Nothing without these credentials: 401.
    pub(crate) fn auth(mut self, auth: Auth, user: &str, password: &str) -> Self {
        self.credentials = Some((auth, user.to_owned(), password.to_owned()));
        self
    }

    /// Encodes the clips this process does not have yet, listens on 127.0.0.1 and serves.
    pub(crate) fn start(self) -> Result<GstServer, Box<dyn Error>> {
        gst::init()?;
        // Else GLib keeps the threads of stopped media for 15 s; so it is half a second.
        glib::ThreadPool::set_max_unused_threads(Some(0));
        let observed = Arc::<Observed>::default();
        let server = rtsp_server::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service(&self.port.to_string());
        server.set_backlog(512);
        if let Some(threads) = server.thread_pool() {
            // 0: connections are worked by the server's own; -1: as many as there are connections.
            threads.set_max_threads(if self.threads { -1 } else { 0 });
        }
        let sessions = server.session_pool().ok_or("no session pool")?;
        sessions.set_max_sessions(self.max_sessions);
        self.mount(&server, &observed)?;
        self.protect(&server)?;
        observe(&server, &sessions, &observed, self.session_timeout);

        let context = glib::MainContext::new();
        let main_loop = glib::MainLoop::new(Some(&context), false);
        let listener = server.create_source(rtsp_server::gio::Cancellable::NONE)?;
        listener.attach(Some(&context));
        let expired = sessions.clone();
        let expiry = glib::timeout_source_new(
            Duration::from_millis(250),
            None,
            glib::Priority::DEFAULT,
            move || {
                expired.cleanup();
                glib::ControlFlow::Continue
            },
        );
        expiry.attach(Some(&context));
        let thread = spawn(&context, &main_loop)?;
        Ok(GstServer {
            port: u16::try_from(server.bound_port())?,
            scheme: if self.tls.is_some() { "rtsps" } else { "rtsp" },
            credentials: self.credentials,
            server,
            sessions,
            sources: [listener, expiry],
            context,
            main_loop,
            observed,
            thread: Some(thread),
        })
    }

    fn mount(
        &self,
        server: &rtsp_server::RTSPServer,
        observed: &Arc<Observed>,
    ) -> Result<(), Box<dyn Error>> {
        let mounts = server.mount_points().ok_or("no mount points")?;
        for (camera, clip) in clip::clips(self.mounts, self.format)?
            .into_iter()
            .enumerate()
        {
            let video = format!(
                "appsrc name=video format=time \
                   caps=video/x-h264,stream-format=byte-stream,alignment=au,width={},height={},framerate={}/1 \
                 ! rtph264pay name=pay0 pt=96 config-interval=-1 ssrc={}",
                self.format.width,
                self.format.height,
                clip::FRAME_RATE,
                ssrc(camera, 0)
            );
            let audio = if (self.audio)(camera) {
                format!(
                    "appsrc name=audio format=time caps=audio/x-alaw,rate=8000,channels=1 \
                     ! rtppcmapay name=pay1 pt=8 min-ptime=20000000 max-ptime=20000000 ssrc={}",
                    ssrc(camera, 1)
                )
            } else {
                String::new()
            };
            let factory = self.factory(&format!("( {video} {audio} )"));
            let observed = Arc::clone(observed);
            let held = self.held.clone().filter(|(held, _)| *held == camera);
            let frames = self.frames;
            factory.connect_media_configure(move |_, media| {
                if let Some((_, gate)) = &held {
                    gate.pass();
                }
                configure(media, camera, (&clip, frames), &observed);
            });
            mounts.add_factory(&format!("/cam/{camera}"), factory);
        }
        if let Some(file) = &self.recording {
            let launch = format!(
                "( filesrc location={} ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )",
                file.display()
            );
            let factory = self.factory(&launch);
            factory.set_shared(false);
            mounts.add_factory(RECORDING, factory);
        }
        mounts.add_factory(
            BROKEN,
            self.factory("( filesrc location=/nonexistent ! rtpgstpay name=pay0 )"),
        );
        Ok(())
    }

    fn factory(&self, launch: &str) -> rtsp_server::RTSPMediaFactory {
        let factory = rtsp_server::RTSPMediaFactory::new();
        factory.set_launch(launch);
        factory.set_shared(self.shared);
        factory.add_role_from_structure(
            &gst::Structure::builder("viewer")
                .field("media.factory.access", true)
                .field("media.factory.construct", true)
                .build(),
        );
        factory
    }

    fn protect(&self, server: &rtsp_server::RTSPServer) -> Result<(), Box<dyn Error>> {
        if self.credentials.is_none() && self.tls.is_none() {
            return Ok(());
        }
        let token = rtsp_server::RTSPToken::builder()
            .field("media.factory.role", "viewer")
            .build();
        let auth = rtsp_server::RTSPAuth::new();
        if let Some(identity) = &self.tls {
            let certificate = rtsp_server::gio::TlsCertificate::from_pem(identity)?;
            auth.set_tls_certificate(Some(&certificate));
        }
        let Some((kind, user, password)) = &self.credentials else {
            auth.set_default_token(Some(&mut token.clone()));
            server.set_auth(Some(&auth));
            return Ok(());
        };
        match kind {
            Auth::Basic => {
                auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Basic);
                let basic = rtsp_server::RTSPAuth::make_basic(user, password);
                auth.add_basic(&basic, &token);
            }
            Auth::Digest => {
                auth.set_supported_methods(gst_rtsp::RTSPAuthMethod::Digest);
                auth.add_digest(user, password, &token);
            }
        }
        server.set_auth(Some(&auth));
        Ok(())
    }
}

/// The loop's thread. When this returns, the thread owns the context.
fn spawn(
    context: &glib::MainContext,
    main_loop: &glib::MainLoop,
) -> Result<JoinHandle<()>, Box<dyn Error>> {
    let (running, is_running) = mpsc::channel();
    let thread = std::thread::Builder::new()
        .name("rtsp-server".to_owned())
        .spawn({
            let (context, main_loop) = (context.clone(), main_loop.clone());
            move || {
                let ran = context.with_thread_default(|| {
                    // Told from within: a loop that is to quit before it runs, runs for ever.
                    let tell = move || {
                        let _ = running.send(());
                        glib::ControlFlow::Break
                    };
                    glib::idle_source_new(None, glib::Priority::DEFAULT, tell)
                        .attach(Some(&context));
                    main_loop.run();
                });
                debug_assert!(ran.is_ok(), "a context of our own is ours to run");
            }
        })?;
    is_running.recv()?;
    Ok(thread)
}

/// Feeds a new medium, and counts it. Video and sound are produced by the same arithmetic from
/// the same zero; the sinks of gst-rtsp-server keep the pace.
fn configure(
    media: &rtsp_server::RTSPMedia,
    camera: usize,
    (clip, frames): (&Arc<Clip>, u64),
    observed: &Arc<Observed>,
) {
    observed.change(|counts| counts.media_now += 1);
    let observed = Arc::clone(observed);
    media.connect_unprepared(move |_| observed.change(|counts| counts.media_now -= 1));
    let Ok(bin) = media.element().downcast::<gst::Bin>() else {
        return;
    };
    if let Ok(appsrc) = clip::child(&bin, "video") {
        let clip = Arc::clone(clip);
        feed(&appsrc, frames, move |frame| clip.frame(frame));
    }
    if let Ok(appsrc) = clip::child(&bin, "audio") {
        let chunks = frames.saturating_mul(2);
        feed(&appsrc, chunks, move |chunk| {
            clip::audio_chunk(camera, chunk)
        });
    }
}

/// One buffer whenever the element has run dry.
fn feed(
    appsrc: &gst_app::AppSrc,
    count: u64,
    buffer: impl Fn(u64) -> gst::Buffer + Send + Sync + 'static,
) {
    let next = AtomicU64::new(0);
    appsrc.set_callbacks(
        gst_app::AppSrcCallbacks::builder()
            .need_data(move |appsrc, _| {
                // An error says that the medium is being stopped.
                let _ = match next.fetch_add(1, Ordering::Relaxed) {
                    number if number < count => appsrc.push_buffer(buffer(number)),
                    _ => appsrc.end_of_stream(),
                };
            })
            .build(),
    );
}

fn observe(
    server: &rtsp_server::RTSPServer,
    sessions: &rtsp_server::RTSPSessionPool,
    observed: &Arc<Observed>,
    session_timeout: Option<u32>,
) {
    let removed = Arc::clone(observed);
    sessions.connect_session_removed(move |_, _| removed.change(|counts| counts.sessions_now -= 1));
    let observed = Arc::clone(observed);
    server.connect_client_connected(move |_, client| {
        observed.change(|counts| {
            counts.accepted += 1;
            counts.open += 1;
        });
        let closed = Arc::clone(&observed);
        client.connect_closed(move |_| closed.change(|counts| counts.open -= 1));
        let made = Arc::clone(&observed);
        client.connect_new_session(move |_, session| {
            if let Some(seconds) = session_timeout {
                session.set_timeout(seconds);
                session.set_extra_timeout(0);
            }
            made.change(|counts| {
                counts.sessions += 1;
                counts.sessions_now += 1;
            });
        });
        let count = |field: fn(&mut Counts) -> &mut usize| {
            let observed = Arc::clone(&observed);
            move |_: &rtsp_server::RTSPClient, _: &rtsp_server::RTSPContext| {
                observed.change(|counts| *field(counts) += 1);
            }
        };
        client.connect_options_request(count(|counts| &mut counts.options));
        client.connect_describe_request(count(|counts| &mut counts.describes));
        client.connect_setup_request(count(|counts| &mut counts.setups));
        client.connect_play_request(count(|counts| &mut counts.plays));
        client.connect_pause_request(count(|counts| &mut counts.pauses));
        client.connect_teardown_request(count(|counts| &mut counts.teardowns));
        client.connect_get_parameter_request(count(|counts| &mut counts.get_parameters));
        client.connect_set_parameter_request(count(|counts| &mut counts.set_parameters));
    });
}

/// A running server. Dropped, it is stopped.
pub(crate) struct GstServer {
    port: u16,
    scheme: &'static str,
    credentials: Option<(Auth, String, String)>,
    server: rtsp_server::RTSPServer,
    sessions: rtsp_server::RTSPSessionPool,
    sources: [glib::Source; 2],
    context: glib::MainContext,
    main_loop: glib::MainLoop,
    observed: Arc<Observed>,
    thread: Option<JoinHandle<()>>,
}

impl GstServer {
    /// One mount, no sound, no authentication, a free port.
    pub(crate) fn builder() -> Builder {
        Builder {
            mounts: 1,
            format: Format::SMALL,
            audio: |_| false,
            shared: true,
            held: None,
            threads: false,
            port: 0,
            max_sessions: 0,
            session_timeout: None,
            credentials: None,
            tls: None,
            recording: None,
            frames: u64::MAX,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Of a camera, without credentials.
    pub(crate) fn url(&self, camera: usize) -> String {
        self.url_of(&format!("/cam/{camera}"))
    }

    /// Of any path, without credentials.
    pub(crate) fn url_of(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// Of a camera, with the credentials the server asks for, if it does.
    pub(crate) fn url_with_credentials(&self, camera: usize) -> String {
        match &self.credentials {
            Some((_, user, password)) => {
                let host = format!("{user}:{password}@127.0.0.1");
                self.url(camera).replacen("127.0.0.1", &host, 1)
            }
            None => self.url(camera),
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.observed.lock()
    }

    /// Waits, woken by every change of the counts, until the condition holds, and gives the
    /// counts for which it did.
    pub(crate) fn wait_until(
        &self,
        timeout: Duration,
        mut condition: impl FnMut(&Counts) -> bool,
    ) -> Result<Counts, NotInTime> {
        let (counts, _) = self
            .observed
            .changed
            .wait_timeout_while(self.observed.lock(), timeout, |counts| !condition(counts))
            .unwrap_or_else(PoisonError::into_inner);
        if condition(&counts) {
            Ok(*counts)
        } else {
            Err(NotInTime(*counts))
        }
    }

    /// Closes every connection, and with them their sessions, but goes on listening: what clients
    /// see when a recorder restarts its RTSP service.
    pub(crate) fn close_connections(&self) {
        let (server, sessions) = (self.server.clone(), self.sessions.clone());
        self.context.invoke(move || {
            server.client_filter(Some(&mut |_, _| rtsp_server::RTSPFilterResult::Remove));
            sessions.filter(Some(&mut |_, _| rtsp_server::RTSPFilterResult::Remove));
        });
    }

    /// Stops listening, closes what is open, and joins the thread. Gives the last counts. Threads
    /// that GStreamer had from GLib's pool end within half a second.
    pub(crate) fn stop(mut self) -> Counts {
        self.shut_down();
        self.counts()
    }

    fn shut_down(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        for source in &self.sources {
            source.destroy();
        }
        self.close_connections();
        let gone = self.wait_until(STOP_TIMEOUT, |counts| {
            counts.open == 0 && counts.sessions_now == 0 && counts.media_now == 0
        });
        if let Err(left) = gone {
            eprintln!("gst-rtsp-server did not stop: {left}");
        }
        self.main_loop.quit();
        if thread.join().is_err() {
            eprintln!("the thread of gst-rtsp-server panicked");
        }
    }
}

impl Drop for GstServer {
    fn drop(&mut self) {
        self.shut_down();
    }
}
