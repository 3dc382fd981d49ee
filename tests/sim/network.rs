//! The simulated network: what is under way, when it arrives, and what goes wrong.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use gstrtspmux::mux::network::{Connecting, Network, Wire};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::coverage::{Coverage, Heard};
use crate::server::{Reach, Server};
use crate::support::random::Random;
use crate::tls::TlsEnd;
use crate::trace::Trace;
use crate::wire::{ClientEnd, WireState};

/// Since the beginning of the run.
pub(crate) type Millis = u64;

/// Never.
pub(crate) const NEVER: Millis = Millis::MAX;

/// What a network that is not calm adds to a way, at most.
pub(crate) const LONGEST_DELAY: Millis = 300;

/// What the network is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It does nothing but take its time, always the same.
    Calm,
    /// It splits and delays; nothing is lost.
    Rough,
    /// It also cuts, stalls and corrupts.
    Stormy,
}

/// What becomes of a connection that a server has no place for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// The dial is refused.
    Refused,
    /// It is closed at once.
    Closed,
    /// The dial is not answered.
    Ignored,
    /// It is accepted, and no request on it is answered.
    Silent,
}

/// Something that happens at a time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A connection attempt is decided.
    Dialled(usize),
    /// Something arrives at the server's end of a wire.
    ToServer(usize),
    /// Or at the client's.
    ToClient(usize),
    /// A server is done with a request.
    Work(usize),
    /// A server's cameras have a packet each.
    Media(usize),
    /// A byte of a drip.
    Drop(usize),
    /// Something goes wrong.
    Fault(Fault),
    /// A user does something.
    Cue(usize),
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// A wire is reset, at both ends.
    Reset,
    /// The server's end closes in the middle of a frame.
    CutFrame,
    /// Nothing arrives for so long.
    Stall(Millis),
    /// Nothing ever arrives any more.
    Hole,
    /// The server does not read for so long, and goes on sending.
    Deaf(Millis),
    /// A byte of each of so many deliveries is changed.
    Corrupt(u32),
    /// So many bytes of nonsense between two frames.
    Garbage(u16),
    /// From now on every byte comes alone.
    Trickle,
    /// The server stops in the middle of something, and sends a byte now and then.
    Drip(Drip),
    /// A server dies for so long; the next dials are refused or get no answer.
    Kill(usize, Millis, bool),
    /// It is back.
    Return(usize),
    /// The client's machine sleeps for so long, and wakes up to this.
    Sleep(Millis, AfterSuspend),
}

/// What a server that has stopped sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Drip {
    pub(crate) half: Half,
    /// How often this byte follows.
    pub(crate) every: Millis,
    pub(crate) byte: u8,
}

/// In the middle of what it has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Half {
    Header,
    Frame,
    LongFrame,
    Answer,
}

/// What has become of all connections while the client slept. No session of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AfterSuspend {
    /// They are open, and their sessions have expired.
    Expired,
    /// The server has closed them, and says so.
    Reset,
    /// They are gone without FIN or reset.
    Silence,
}

struct Dial {
    server: usize,
    connection: u64,
    answer: oneshot::Sender<io::Result<Box<dyn Wire>>>,
}

/// Everything outside of the multiplexer.
pub(crate) struct World {
    pub(crate) now: Millis,
    /// For how long the client's machine has slept. Its clock, which is `now`, stood still.
    pub(crate) asleep: Millis,
    pub(crate) random: Random,
    pub(crate) weather: Weather,
    events: BinaryHeap<Reverse<(Millis, u64, Event)>>,
    sequence: u64,
    pub(crate) wires: Vec<WireState>,
    pub(crate) servers: Vec<Server>,
    dials: BTreeMap<usize, Dial>,
    /// Attempts to connect.
    pub(crate) dialled: usize,
    /// When, and which server.
    pub(crate) dials_made: Vec<(Millis, usize)>,
    /// The most that any server had at a time.
    pub(crate) most_open: usize,
    /// Dials that are not answered.
    ignored: Vec<oneshot::Sender<io::Result<Box<dyn Wire>>>>,
    /// Connections that were begun: each asks for a seed first, and then dials at once if at all.
    connections: u64,
    pub(crate) trace: Trace,
    pub(crate) coverage: Coverage,
    pub(crate) violations: Vec<String>,
    /// Everything was told to end.
    pub(crate) is_shut_down: bool,
    /// What the library says of itself.
    pub(crate) heard: Arc<Mutex<Heard>>,
    begin: Instant,
    /// Users whose turn has come.
    pub(crate) cues: Vec<usize>,
    /// The task that runs the world, while it waits for the next event.
    pub(crate) runner: Option<Waker>,
    net: Weak<Net>,
}

/// The world behind its lock.
pub(crate) struct Net {
    begin: Instant,
    world: Mutex<World>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Net")
    }
}

impl Net {
    /// Begins now, by the clock of the runtime.
    pub(crate) fn new(random: Random, weather: Weather, is_told: bool) -> Arc<Self> {
        let begin = Instant::now();
        Arc::new_cyclic(|net| Self {
            begin,
            world: Mutex::new(World {
                now: 0,
                asleep: 0,
                random,
                weather,
                events: BinaryHeap::new(),
                sequence: 0,
                wires: Vec::new(),
                servers: Vec::new(),
                dials: BTreeMap::new(),
                dialled: 0,
                dials_made: Vec::new(),
                most_open: 0,
                ignored: Vec::new(),
                connections: 0,
                trace: Trace::new(is_told),
                coverage: Coverage::default(),
                violations: Vec::new(),
                is_shut_down: false,
                heard: Arc::default(),
                begin,
                cues: Vec::new(),
                runner: None,
                net: net.clone(),
            }),
        })
    }

    /// The world as it is now.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        let elapsed = Instant::now().duration_since(self.begin);
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.now = u64::try_from(elapsed.as_millis()).unwrap_or(NEVER);
        world
    }

    /// On the runtime's clock.
    pub(crate) fn instant(&self, at: Millis) -> Instant {
        self.begin + Duration::from_millis(at)
    }
}

impl Network for Net {
    fn connect(&self, host: &str, port: u16) -> Connecting {
        let answer = self.world().dial(host, port);
        Box::pin(async move {
            let unreachable = || Err(io::ErrorKind::HostUnreachable.into());
            answer.await.unwrap_or_else(|_| unreachable())
        })
    }

    fn seed(&self) -> u128 {
        let mut world = self.world();
        world.connections += 1;
        u128::from(world.random.next())
    }

    fn time_suspended(&self) -> Duration {
        Duration::from_millis(self.world().asleep)
    }
}

impl World {
    pub(crate) fn at(&mut self, at: Millis, event: Event) {
        if at == NEVER {
            return;
        }
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
        if let Some(runner) = self.runner.take() {
            runner.wake();
        }
    }

    pub(crate) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When that was.
    pub(crate) fn millis(&self, at: Instant) -> Millis {
        let elapsed = at.duration_since(self.begin);
        u64::try_from(elapsed.as_millis()).unwrap_or(NEVER)
    }

    pub(crate) fn next_event(&self) -> Option<Millis> {
        self.events.peek().map(|Reverse((at, ..))| *at)
    }

    pub(crate) fn violate(&mut self, what: String) {
        let at = self.now;
        self.trace.tell(at, || format!("VIOLATION {what}"));
        self.violations.push(format!("at {at} ms: {what}"));
    }

    /// Everything that is due happens.
    pub(crate) fn proceed(&mut self) {
        while let Some(Reverse((at, ..))) = self.events.peek() {
            if *at > self.now {
                return;
            }
            let Some(Reverse((_, _, event))) = self.events.pop() else {
                return;
            };
            match event {
                Event::Dialled(dial) => self.on_dialled(dial),
                Event::ToServer(wire) => self.deliver_to_server(wire),
                Event::ToClient(wire) => self.deliver_to_client(wire),
                Event::Work(wire) => self.work(wire),
                Event::Media(server) => self.send_media(server),
                Event::Drop(wire) => self.drop_on(wire),
                Event::Fault(fault) => self.on_fault(fault),
                Event::Cue(cue) => self.cues.push(cue),
            }
        }
    }

    /// How long something takes to get there.
    fn latency(&mut self, server: usize) -> Millis {
        let way = self.servers[server].latency;
        match self.weather {
            Weather::Calm => way,
            _ if self.random.once_in(20) => way + self.random.below(LONGEST_DELAY),
            _ => way + self.random.below(way + 1),
        }
    }

    fn dial(&mut self, host: &str, port: u16) -> oneshot::Receiver<io::Result<Box<dyn Wire>>> {
        let (sender, answer) = oneshot::channel();
        let server = self.servers.iter().position(|server| server.host == host);
        let usual = |server: &usize| match self.servers[*server].tls {
            None => 554,
            Some(_) => 322,
        };
        let Some(server) = server.filter(|server| port == usual(server)) else {
            self.violate(format!("dialled {host}:{port}, where no server is"));
            return answer;
        };
        self.dialled += 1;
        self.dials_made.push((self.now, server));
        let number = self.dialled;
        self.trace.note(self.now, "dial", server, &[]);
        let dial = Dial {
            server,
            connection: self.connections,
            answer: sender,
        };
        self.dials.insert(number, dial);
        // There and back. A dial to where no server is gets no answer.
        let way = 2 * self.latency(server);
        if self.servers[server].reach == Reach::Unreachable {
            self.coverage.hit("dial unreachable");
        } else {
            self.at(self.now + way, Event::Dialled(number));
        }
        answer
    }

    fn on_dialled(&mut self, number: usize) {
        let Some(dial) = self.dials.remove(&number) else {
            return;
        };
        let Dial {
            server,
            connection,
            answer,
        } = dial;
        if answer.is_closed() {
            return;
        }
        let at = self.now;
        if self.servers[server].reach == Reach::Unknown {
            self.trace.note(at, "no such name", server, &[]);
            let _ = answer.send(Err(io::ErrorKind::NotFound.into()));
            return;
        }
        if self.servers[server].reach != Reach::Up {
            self.coverage.hit("dial refused");
            self.trace.note(at, "refused by", server, &[]);
            let _ = answer.send(Err(io::ErrorKind::ConnectionRefused.into()));
            return;
        }
        let open = self.open_wires(server);
        let crowd = self.servers[server].crowd.filter(|(most, _)| open >= *most);
        match crowd {
            Some((_, Crowd::Refused)) => {
                let _ = answer.send(Err(io::ErrorKind::ConnectionRefused.into()));
                return;
            }
            Some((_, Crowd::Ignored)) => {
                self.ignored.push(answer);
                return;
            }
            Some((_, Crowd::Closed | Crowd::Silent)) | None => {}
        }
        let Some(net) = self.net.upgrade() else {
            return;
        };
        let wire = self.wires.len();
        self.trace.note(at, "connected", wire, &[]);
        let peer = self.servers[server].accept(wire);
        let tls = self.servers[server].tls.as_ref();
        self.wires.push(WireState {
            server,
            connection,
            peer,
            tls: tls.map(TlsEnd::new),
            ..WireState::default()
        });
        let end = ClientEnd { net, number: wire };
        if let Err(Ok(unwanted)) = answer.send(Ok(Box::new(end))) {
            // Its drop takes the lock.
            std::mem::forget(unwanted);
            self.close_by_client(wire);
        }
        match crowd {
            Some((_, Crowd::Silent)) => self.servers[server].ignore(wire),
            Some(_) => {
                self.close_by_server(wire);
                self.forget(wire);
            }
            None => {}
        }
        let open = self.open_wires(server);
        self.most_open = self.most_open.max(open);
    }

    /// Connections that a server has.
    pub(crate) fn open_wires(&self, server: usize) -> usize {
        let wires = self.wires.iter();
        wires
            .filter(|wire| wire.server == server && wire.is_open())
            .count()
    }

    /// A socket may take a part of what it is given.
    pub(crate) fn cut_write(&mut self, bytes: &mut Vec<u8>) {
        if self.weather != Weather::Calm && bytes.len() > 1 && self.random.once_in(8) {
            let length = bytes.len() as u64;
            bytes.truncate(usize::try_from(self.random.between(1, length)).unwrap_or(1));
        }
    }

    pub(crate) fn send_to_server(&mut self, wire: usize, bytes: Vec<u8>) {
        self.trace.note(self.now, "C>", wire, &bytes);
        let arrival = self.now + self.latency(self.wires[wire].server);
        let state = &mut self.wires[wire];
        state.unread += bytes.len();
        let flight = &mut state.to_server;
        flight.last = flight.last.max(arrival);
        let last = flight.last;
        flight.chunks.push_back((last, bytes));
        self.at(last, Event::ToServer(wire));
    }

    pub(crate) fn send_to_client(&mut self, wire: usize, bytes: &[u8]) {
        let state = &self.wires[wire];
        if bytes.is_empty() || !state.is_open() || state.drips.is_some() {
            return;
        }
        self.trace.note(self.now, "S>", wire, bytes);
        match &mut self.wires[wire].tls {
            None => self.carry_to_client(wire, bytes),
            Some(tls) => {
                let records = tls.seal(bytes);
                self.carry_to_client(wire, &records);
            }
        }
    }

    fn carry_to_client(&mut self, wire: usize, bytes: &[u8]) {
        let server = self.wires[wire].server;
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = self.piece(wire, rest.len());
            let (piece, after) = rest.split_at(length);
            rest = after;
            let piece = self.spoilt(wire, piece);
            let arrival = self.now + self.latency(server);
            let flight = &mut self.wires[wire].to_client;
            flight.last = flight.last.max(arrival);
            let last = flight.last;
            flight.chunks.push_back((last, piece));
            self.at(last, Event::ToClient(wire));
        }
    }

    /// How much of so many bytes arrives together.
    fn piece(&mut self, wire: usize, length: usize) -> usize {
        if self.wires[wire].trickles && length <= 512 {
            return 1;
        }
        if self.weather == Weather::Calm || !self.random.once_in(4) {
            return length;
        }
        match self.random.below(3) {
            0 => 1,
            _ => 1 + self.random.index(length),
        }
    }

    fn spoilt(&mut self, wire: usize, piece: &[u8]) -> Vec<u8> {
        let mut piece = piece.to_vec();
        if self.wires[wire].to_corrupt > 0 {
            self.wires[wire].to_corrupt -= 1;
            self.wires[wire].is_corrupted = true;
            let at = self.random.index(piece.len());
            piece[at] ^= 1 << self.random.below(8);
            self.coverage.hit("bytes corrupted");
        }
        piece
    }

    fn deliver_to_client(&mut self, wire: usize) {
        let (now, state) = (self.now, &mut self.wires[wire]);
        if state.is_reset || state.closed.is_some() {
            return;
        }
        if now < state.stalled_until {
            let until = state.stalled_until;
            return self.at(until, Event::ToClient(wire));
        }
        while let Some(chunk) = state.to_client.pop_due(now) {
            state.inbox.extend(chunk);
        }
        if state.to_client.chunks.is_empty() && state.to_client.ends.is_some_and(|at| at <= now) {
            state.is_ended = true;
        }
        state.wake();
    }

    fn deliver_to_server(&mut self, wire: usize) {
        let (now, state) = (self.now, &mut self.wires[wire]);
        if state.is_reset || state.is_forgotten {
            return;
        }
        let until = state.stalled_until.max(state.deaf_until);
        if now < until {
            return self.at(until, Event::ToServer(wire));
        }
        let mut arrived = Vec::new();
        while let Some(chunk) = state.to_server.pop_due(now) {
            arrived.extend(chunk);
        }
        state.unread -= arrived.len();
        state.wake();
        let is_over =
            state.to_server.chunks.is_empty() && state.to_server.ends.is_some_and(|at| at <= now);
        if let Some(tls) = &mut self.wires[wire].tls {
            let records;
            (arrived, records) = tls.open(&arrived);
            self.carry_to_client(wire, &records);
        }
        if !arrived.is_empty() {
            self.arrive(wire, &arrived);
        }
        if is_over && !self.wires[wire].is_forgotten {
            self.on_client_gone(wire);
        }
    }

    /// The client has closed its end.
    pub(crate) fn close_by_client(&mut self, wire: usize) {
        self.trace.note(self.now, "closed by client", wire, &[]);
        let arrival = self.now + self.latency(self.wires[wire].server);
        let state = &mut self.wires[wire];
        state.closed = Some(self.now);
        state.waker = None;
        state.to_server.last = state.to_server.last.max(arrival);
        let last = state.to_server.last;
        state.to_server.ends = Some(last);
        self.at(last, Event::ToServer(wire));
    }

    /// The server closes its end, after what is under way.
    pub(crate) fn close_by_server(&mut self, wire: usize) {
        self.trace.note(self.now, "closed by server", wire, &[]);
        let arrival = self.now + self.latency(self.wires[wire].server);
        let flight = &mut self.wires[wire].to_client;
        flight.last = flight.last.max(arrival);
        let last = flight.last;
        flight.ends = Some(last);
        self.at(last, Event::ToClient(wire));
    }
}
