//! An RTSP server over TCP for tests: many sessions on a connection like gst-rtsp-server, deviations on demand.
//!
//! It runs on std threads and never sleeps: media goes out when a test says so, and a test waits for a state of
//! the server, not for a time. [`MockServer::play`] is the other kind of server, which follows a transcript.
//!
//! Locks: a connection's writer before the state of the server, never the other way round.

mod account;
mod answer;
mod auth;
mod behaviour;
mod camera;
mod connection;
mod engine;
mod family;
mod latched;
mod play;
mod state;

pub use account::AccountOddity;
pub use auth::{Algorithm, Auth};
pub use behaviour::{Behaviour, ChannelPolicy, Excess, Reaction, Rule};
pub use camera::{Camera, Track};
pub use engine::Engine;
pub use family::Family;
pub use play::TranscriptServer;
pub use state::{Ends, Outcome};

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::rtsp::{Headers, Request, Response};
use crate::support::transcript::Transcript;
use behaviour::Habits;
use state::State;

/// A request, as the server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The connection it came on, from 0 in the order of accepting.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// The URI.
    pub uri: String,
    /// The header lines.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
    /// How many requests the server had seen before, on all connections.
    pub at_nth: usize,
}

/// An interleaved frame from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameFromClient {
    /// The connection it came on.
    pub connection: usize,
    /// The channel.
    pub channel: u8,
    /// The RTP or RTCP packet.
    pub payload: Vec<u8>,
}

/// A session that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// The connection it is on.
    pub connection: usize,
    /// The path of its camera.
    pub camera: String,
    /// The tracks that are set up, with their channels.
    pub tracks: Vec<(usize, (u8, u8))>,
    /// PLAY was answered, and no PAUSE since.
    pub is_playing: bool,
    /// How many sessions there were before it; ids may repeat.
    pub number: usize,
    /// Packets sent so far, by track: the index of the next one.
    pub sent: Vec<u32>,
}

/// What the server has seen, and how it stands.
#[derive(Debug, Clone, Default)]
pub struct ServerView {
    /// Connections accepted so far.
    pub accepted: usize,
    /// Connections that are open now.
    pub open_connections: usize,
    /// The most that were open at a time.
    pub most_open_connections: usize,
    /// Every request so far.
    pub requests: Vec<Recorded>,
    /// Every interleaved frame so far.
    pub frames: Vec<FrameFromClient>,
    /// Every answer to a request of the server, with its connection.
    pub responses: Vec<(usize, Response)>,
    /// The sessions that are alive.
    pub sessions: Vec<SessionView>,
    /// What a correct client would not have done: a CSeq that does not rise by one, a digest count out of order,
    /// a frame on a channel that is not live, bytes that are not RTSP.
    pub violations: Vec<String>,
}

impl ServerView {
    /// How many requests of that method came so far.
    pub fn count(&self, method: &str) -> usize {
        self.requests.iter().filter(|r| r.method == method).count()
    }

    /// How many sessions play.
    pub fn playing(&self) -> usize {
        self.sessions.iter().filter(|s| s.is_playing).count()
    }
}

/// What does not change while a server runs.
struct Config {
    cameras: Vec<(String, Camera)>,
    auth: Option<Auth>,
    oddities: Vec<AccountOddity>,
    rotate_nonce_after: usize,
    habits: Habits,
}

struct Shared {
    config: Config,
    authority: String,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes who waits for it.
    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_all();
        result
    }

    /// The time a server takes for its work; a stop cuts it short.
    fn pause(&self, time: Duration) {
        if time > Duration::ZERO {
            let guard = self.state();
            let is_busy = |state: &mut State| !state.is_stopped;
            drop(self.changed.wait_timeout_while(guard, time, is_busy));
        }
    }

    /// Waits, without limit, until the state is so.
    fn wait(&self, mut is_so: impl FnMut(&State) -> bool) {
        let guard = self.state();
        drop(self.changed.wait_while(guard, |state| !is_so(state)));
    }
}

/// One connection, for those who write on it or end it.
#[derive(Clone)]
struct Link {
    writer: Arc<Mutex<TcpStream>>,
    stream: Arc<TcpStream>,
}

impl Link {
    fn new(stream: &TcpStream) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            writer: Arc::new(Mutex::new(stream.try_clone()?)),
            stream: Arc::new(stream.try_clone()?),
        })
    }

    fn writer(&self) -> MutexGuard<'_, TcpStream> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client that is gone is not the server's trouble.
    fn write(&self, bytes: &[u8]) {
        let _ = self.writer().write_all(bytes);
    }

    fn shutdown(&self, how: Shutdown) {
        let _ = self.stream.shutdown(how);
    }
}

/// A server that behaves.
pub struct MockServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<JoinHandle<()>>,
}

/// Describes a [`MockServer`].
#[derive(Default)]
pub struct Builder {
    cameras: Vec<(String, Camera)>,
    auth: Option<Auth>,
    oddities: Vec<AccountOddity>,
    rotate_nonce_after: Option<usize>,
    habits: Habits,
    rules: Vec<Rule>,
}

impl Builder {
    /// A camera at a path; a query string is part of the path.
    pub fn camera(mut self, path: &str, camera: Camera) -> Self {
        self.cameras.push((path.to_owned(), camera));
        self
    }

    /// Cameras `/cam/1` to `/cam/<count>`, one H.264 track each, numbered like their path.
    pub fn cameras(mut self, count: u32) -> Self {
        for number in 1..=count {
            self = self.camera(&format!("/cam/{number}"), Camera::video().number(number));
        }
        self
    }

    /// The same, all of one model: described alike but for the session lines.
    pub fn cameras_of_one_model(mut self, count: u32) -> Self {
        for number in 1..=count {
            let camera = Camera::video().number(number).of_one_model();
            self = self.camera(&format!("/cam/{number}"), camera);
        }
        self
    }

    /// Every request but OPTIONS needs these.
    pub fn credentials(mut self, auth: Auth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// The server is odd about them.
    pub fn account(mut self, oddity: AccountOddity) -> Self {
        self.oddities.push(oddity);
        self
    }

    /// A nonce is good for so many requests; then comes a 401 with `stale=true`.
    pub fn rotate_nonce_after(mut self, requests: usize) -> Self {
        self.rotate_nonce_after = Some(requests);
        self
    }

    /// A standing habit.
    pub fn behaviour(mut self, behaviour: Behaviour) -> Self {
        self.habits.add(behaviour);
        self
    }

    /// The habits of a family of servers, its credentials included.
    pub fn family(mut self, family: Family) -> Self {
        if let Some((auth, requests)) = family.auth() {
            self = self.credentials(auth).rotate_nonce_after(requests);
        }
        family.behaviours().into_iter().fold(self, Self::behaviour)
    }

    /// A camera as a family has it, at the path that [`Family::path`] names.
    pub fn camera_of(self, family: Family, number: u32) -> Self {
        self.camera(&family.path(number), family.camera(number))
    }

    /// What happens to single requests; of the rules that match a request the first one counts.
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// The server alone, to be driven by a simulation; `authority` is what URLs call it.
    pub fn engine(self, authority: &str) -> Engine {
        let (config, rules) = self.split();
        Engine::new(config, authority, rules)
    }

    fn split(self) -> (Config, Vec<Rule>) {
        let config = Config {
            cameras: self.cameras,
            auth: self.auth,
            oddities: self.oddities,
            rotate_nonce_after: self.rotate_nonce_after.unwrap_or(usize::MAX),
            habits: self.habits,
        };
        (config, self.rules)
    }

    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When there is none.
    pub fn start(self) -> MockServer {
        self.start_at(0)
    }

    /// Listens on that port of 127.0.0.1: a server that comes back.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn start_at(self, port: u16) -> MockServer {
        self.listen(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
    }

    /// Listens on a free port of `::1`.
    ///
    /// # Panics
    /// When there is none.
    pub fn start_on_ipv6(self) -> MockServer {
        self.listen(IpAddr::V6(Ipv6Addr::LOCALHOST), 0)
    }

    fn listen(self, host: IpAddr, port: u16) -> MockServer {
        let listener = TcpListener::bind((host, port)).expect("a port to listen on");
        let address = listener.local_addr().expect("an address of its own");
        let (config, rules) = self.split();
        let shared = Arc::new(Shared {
            config,
            authority: address.to_string(),
            state: Mutex::new(State::new(rules)),
            changed: Condvar::new(),
        });
        let for_thread = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || connection::accept(&for_thread, &listener));
        MockServer {
            shared,
            address,
            acceptor: Some(acceptor),
        }
    }
}

impl MockServer {
    /// Describes a server.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A server that follows a transcript with the first who connects.
    pub fn play(transcript: &Transcript) -> TranscriptServer {
        TranscriptServer::start(transcript)
    }

    /// The URL of a path of this server.
    pub fn url(&self, path: &str) -> String {
        format!("rtsp://{}{path}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen, and how it stands.
    pub fn view(&self) -> ServerView {
        self.shared.state().view.clone()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.state().view.accepted
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.state().view.open_connections
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.view().requests
    }

    /// Every interleaved frame from clients so far.
    pub fn frames_from_client(&self) -> Vec<FrameFromClient> {
        self.view().frames
    }

    /// Requests that carried a user and password which were not right.
    pub fn wrong_passwords(&self) -> usize {
        self.shared.state().account.failures
    }

    /// How many sessions it has made so far.
    pub fn sessions_made(&self) -> usize {
        self.shared.state().sessions_made
    }

    /// How many sessions are alive.
    pub fn sessions_alive(&self) -> usize {
        self.shared.state().view.sessions.len()
    }

    /// What a correct client would not have done.
    pub fn violations(&self) -> Vec<String> {
        self.view().violations
    }

    /// Waits until the server stands so; `false` when that took longer than `limit`.
    pub fn wait_until(&self, is_so: impl Fn(&ServerView) -> bool, limit: Duration) -> bool {
        let guard = self.shared.state();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(guard, limit, |state| !is_so(&state.view));
        waited.is_ok_and(|(state, _)| is_so(&state.view))
    }

    /// Sends so many packets on every track of every session that plays this camera; returns how many went out.
    pub fn send_packets(&self, path: &str, count: u32) -> usize {
        connection::send_media(&self.shared, path, count)
    }

    /// So many packets of this camera do not go out on the connection: the next ones follow a gap.
    pub fn leave_out(&self, connection: usize, path: &str, count: u32) {
        let mut state = self.shared.state();
        let (_, _left_out) = state.media(&self.shared.config, connection, path, count);
    }

    /// Sends a sender report on every track of every session that plays this camera.
    pub fn send_reports(&self, path: &str, ntp: u64) -> usize {
        connection::send_reports(&self.shared, path, ntp)
    }

    /// Sends a request of the server; it gets the server's next CSeq on that connection.
    pub fn send_request(&self, connection: usize, request: Request) {
        let bytes = self
            .shared
            .update(|s| s.number_request(connection, request));
        self.send_raw(connection, &bytes);
    }

    /// Sends any bytes.
    pub fn send_raw(&self, connection: usize, bytes: &[u8]) {
        if let Some(link) = self.link(connection) {
            link.write(bytes);
        }
    }

    /// Sends so many packets on every track of every session that plays, whatever the camera.
    pub fn send_packets_to_all(&self, count: u32) -> usize {
        let cameras = self.shared.config.cameras.iter();
        cameras
            .map(|(path, _)| self.send_packets(path, count))
            .sum()
    }

    /// Adds a rule, before all others.
    pub fn add_rule(&self, rule: Rule) {
        self.shared.state().rules.insert(0, rule);
    }

    /// Removes all rules.
    pub fn clear_rules(&self) {
        self.shared.state().rules.clear();
    }

    /// Removes the rules for this camera.
    pub fn clear_rules_of(&self, path: &str) {
        self.shared
            .update(|state| state.rules.retain(|rule| !rule.is_of(path)));
    }

    /// Lets go on what waits: answers held or deferred, connections no longer read. What comes later waits again.
    pub fn release(&self) {
        let deferred = self.shared.update(State::release);
        for (connection, bytes) in deferred {
            self.send_raw(connection, &bytes);
        }
    }

    /// Forgets a session, as one that expired: no BYE, the connection stays.
    pub fn expire_session(&self, id: &str) {
        self.shared
            .update(|s| s.view.sessions.retain(|session| session.id != id));
    }

    /// Closes one connection.
    pub fn close_connection(&self, connection: usize) {
        if let Some(link) = self.link(connection) {
            link.shutdown(Shutdown::Both);
        }
    }

    /// Closes all connections; the server goes on listening.
    pub fn close_connections(&self) {
        self.each_link(|link| link.shutdown(Shutdown::Both));
    }

    /// Resets all connections (RST); the server goes on listening.
    pub fn reset_connections(&self) {
        self.each_link(|link| {
            // With a linger of zero the last close sends RST. The connection's own thread is the last to hold it.
            let _ = socket2::SockRef::from(&*link.stream).set_linger(Some(Duration::ZERO));
            link.shutdown(Shutdown::Read);
        });
    }

    /// FIN on all connections; the server still reads.
    pub fn half_close_connections(&self) {
        self.each_link(|link| link.shutdown(Shutdown::Write));
    }

    /// Closes everything and waits for the threads.
    pub fn stop(mut self) {
        self.end();
    }

    fn link(&self, connection: usize) -> Option<Link> {
        self.shared.state().links.get(connection)?.clone()
    }

    fn each_link(&self, act: impl Fn(&Link)) {
        let links = self.shared.state().links.clone();
        links.iter().flatten().for_each(act);
    }

    fn end(&mut self) {
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        self.shared.update(|state| state.is_stopped = true);
        self.close_connections();
        // accept() has no other way to learn of it.
        drop(TcpStream::connect(self.address));
        let _ = acceptor.join();
    }
}

impl Drop for MockServer {
    fn drop(&mut self) {
        self.end();
    }
}
