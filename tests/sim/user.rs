//! What users do, and what they check of what they get.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gstrtspmux::mux::{
    Error, ErrorKind, Multiplex, Mux, Opening, OverflowPolicy, Packet, PacketKind, Session,
    SessionMonitor,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::network::{Net, Weather};
use crate::schedule::{User, stamp};
use crate::support::mock_server::Family;

/// An empty receiver report.
const REPORT: &[u8] = &[0x80, 201, 0, 1, 0, 0, 0, 7];

/// F07, F09: a decision takes 3 s at most, and a second way to be tried may take as long.
const LONGEST_START: Duration = Duration::from_secs(7);

/// How far a user is.
#[derive(Clone, Debug, Default)]
pub(crate) enum Stage {
    /// It holds nothing.
    #[default]
    Away,
    /// A step is under way: it may hold a session, another one, or none.
    Moving,
    /// It holds this one.
    Holding(SessionMonitor),
}

/// Where all users are.
pub(crate) type Stages = Rc<RefCell<Vec<Stage>>>;

/// What a user acts in.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) mux: Mux,
    pub(crate) net: Arc<Net>,
    pub(crate) stages: Stages,
    pub(crate) weather: Weather,
}

/// One user at work.
pub(crate) struct Actor {
    pub(crate) number: usize,
    pub(crate) user: User,
    pub(crate) scene: Scene,
}

/// What became of one session.
enum End {
    Left,
    Failed,
    Lost,
}

impl Actor {
    pub(crate) async fn act(self, opening: Opening) {
        let mut opening = Some(opening);
        for _ in 0..=self.user.retries {
            let opening = opening
                .take()
                .unwrap_or_else(|| self.scene.mux.open(self.user.options.clone()));
            let end = self.play(opening).await;
            self.stage(Stage::Away);
            match end {
                End::Left => return,
                End::Failed => self.hit("attempt failed"),
                End::Lost => self.hit("session lost in play"),
            }
            sleep(Duration::from_secs(1)).await;
        }
    }

    fn stage(&self, stage: Stage) {
        self.scene.stages.borrow_mut()[self.number] = stage;
    }

    fn hit(&self, path: &str) {
        self.scene.net.world().coverage.hit(path);
    }

    fn tell(&self, what: &str) {
        let mut world = self.scene.net.world();
        let now = world.now;
        world.trace.note(now, what, self.number, &[]);
    }

    fn violate(&self, what: &str) {
        let what = format!("user {}: {what}", self.number);
        self.scene.net.world().violate(what);
    }

    async fn play(&self, opening: Opening) -> End {
        let begin = Instant::now();
        self.stage(Stage::Moving);
        self.tell("opens: user");
        let monitor = opening.monitor();
        let described = match opening.describe().await {
            Ok(described) => described,
            Err(error) => return self.failed("describe", &error),
        };
        self.stage(Stage::Holding(monitor.clone()));
        sleep(self.user.lingers).await;
        self.stage(Stage::Moving);
        let ready = match described.setup_all().await {
            Ok(ready) => ready,
            Err(error) => return self.failed("setup", &error),
        };
        self.stage(Stage::Holding(monitor));
        sleep(self.user.lingers).await;
        self.stage(Stage::Moving);
        let session = match ready.play().await {
            Ok(session) => session,
            Err(error) => return self.failed("play", &error),
        };
        self.stage(Stage::Holding(session.monitor()));
        self.tell("plays: user");
        self.hit("played");
        self.check_time(begin.elapsed());
        self.watch(session).await
    }

    /// Without faults and slow cameras a session is there at once, whatever its server can bear. One that
    /// is full aside: there another session may have to go first. So is one that takes one request for
    /// each read: where a session may have no other connection it may learn of a DESCRIBE that was lost only
    /// by its deadline (seed 5036).
    fn check_time(&self, took: Duration) {
        let took = took.saturating_sub(self.user.lingers * 2);
        let mut world = self.scene.net.world();
        let server = &world.servers[self.user.server];
        let is_judged = self.scene.weather == Weather::Calm
            && server.slow.is_none()
            && !matches!(server.family, Family::AtLimit(_) | Family::Phz76)
            && !world.is_shut_down;
        if !is_judged || took <= LONGEST_START {
            return;
        }
        let (user, family) = (self.number, server.family);
        world.violate(format!("f07: user {user}: {family:?}: only after {took:?}"));
    }

    async fn watch(&self, mut session: Session) -> End {
        let monitor = session.monitor();
        let mut seen = Seen {
            connection: monitor.stats().connection,
            ..Seen::default()
        };
        let end = self.listen_through(&mut session, &mut seen).await;
        if let End::Lost = end {
            let reason = session.end_reason();
            self.on_lost(reason.as_ref());
        } else if self.user.tears_down {
            self.tell("tears down: user");
            self.stage(Stage::Moving);
            self.tell_departure(&monitor);
            let _ = session.teardown().await;
        } else {
            self.tell("drops: user");
            drop(session);
        }
        self.stage(Stage::Away);
        self.check_counts(&monitor, &seen);
        end
    }

    fn tell_departure(&self, monitor: &SessionMonitor) {
        let world = self.scene.net.world();
        let stats = monitor.stats();
        if let (Some(connection), Some(id)) = (stats.connection, stats.session_id) {
            world.heard().departures.tear_down(connection, id);
        }
    }

    async fn listen_through(&self, session: &mut Session, seen: &mut Seen) -> End {
        let half = self.user.plays / 2;
        if !self.listen(session, seen, half).await {
            return End::Lost;
        }
        if let Some(time) = self.user.sleeps {
            sleep(time).await;
        }
        if let Some(time) = self.user.pauses {
            self.tell("pauses: user");
            let paused = session.pause().await;
            if !self.listen(session, seen, time).await {
                return End::Lost;
            }
            if paused.is_ok() && session.play().await.is_ok() {
                self.hit("paused and played");
            }
        }
        let sender = session.rtcp_sender();
        if sender.try_send(0, Bytes::from_static(REPORT)) {
            self.hit("report sent");
        }
        match self.listen(session, seen, half).await {
            true => End::Left,
            false => End::Lost,
        }
    }

    /// False once the session is over.
    async fn listen(&self, session: &mut Session, seen: &mut Seen, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut batch = Vec::new();
        loop {
            let is_on = tokio::select! {
                biased;
                is_on = session.next_batch(&mut batch) => is_on,
                () = sleep_until(until) => return true,
            };
            for packet in batch.drain(..) {
                self.check(&packet, seen);
            }
            if !is_on {
                return false;
            }
        }
    }

    /// Invariants 1 and 2.
    fn check(&self, packet: &Packet, seen: &mut Seen) {
        seen.taken += 1;
        if packet.kind == PacketKind::Rtcp {
            return;
        }
        let mut world = self.scene.net.world();
        let now = world.now;
        world
            .trace
            .note(now, "packet of user", self.number, &packet.payload);
        // Which connection it has moved to, a packet does not tell.
        seen.has_moved |= packet.discontinuity;
        let is_spoilt = world.wires.iter().any(|wire| {
            let may_be_its = seen.has_moved || Some(wire.connection) == seen.connection;
            wire.server == self.user.server && wire.is_corrupted && may_be_its
        });
        let family = world.servers[self.user.server].family;
        if is_spoilt {
            return world.coverage.hit("packet not judged");
        }
        let Some((camera, index)) = stamp(&packet.payload) else {
            return world.violate(format!("i1: user {}: no packet of a camera", self.number));
        };
        if camera != self.user.camera {
            // It may have been described elsewhere, and the description changed on its way.
            if world.has_corrupted(self.user.server) {
                return world.coverage.hit("packet not judged");
            }
            let (user, multiplex) = (self.number, self.user.options.pooling.multiplex);
            return world.violate(format!(
                "i1: user {user}: {family:?}, {multiplex:?}: a packet of camera {camera}"
            ));
        }
        // live555 of old: what the dead of this camera are still sent is just like what the living get.
        if family == Family::LiveOld {
            return;
        }
        let has_one_session = matches!(
            family,
            Family::AioToolkit
                | Family::Phz76
                | Family::Xiu
                | Family::Lal
                | Family::Go2Rtc
                | Family::ZlMediaKit
        );
        let keeps_session = has_one_session && world.servers[self.user.server].keeps_sessions;
        let next = seen.next_mut(packet.stream);
        // Moved to another connection, it begins anew.
        let is_moved = packet.discontinuity && index == 0;
        if is_moved {
            world.coverage.hit("session moved");
        }
        let (expected, is_in_order) = (*next, is_moved || index >= *next);
        *next = index + 1;
        // A connection of these has one session for ever. Where the server goes on with one that it has
        // said to be gone, or was to tear down, so do its numbers in the session that comes next.
        let goes_on = expected == 0 && keeps_session;
        let is_gap = index != expected && !packet.discontinuity && !goes_on;
        if !is_in_order || is_gap {
            let user = self.number;
            world.violate(format!(
                "i2: user {user}: packet {index} where {expected} was next"
            ));
        }
    }

    /// Invariant 2: delivered and dropped are all that was received.
    fn check_counts(&self, monitor: &SessionMonitor, seen: &Seen) {
        // What it received on a connection that it had to leave is not in its statistics any more.
        if monitor.stats().connection != seen.connection {
            return;
        }
        for stream in monitor.stats().streams {
            let received = stream.count.packets + stream.count.rtcp_packets;
            let policy = self.user.options.overflow;
            if stream.count.dropped > 0 {
                self.hit(&format!("packets dropped: {policy:?}"));
            }
            if policy == OverflowPolicy::Block && stream.count.overflows > 0 {
                self.violate("packets dropped though the connection was to wait");
            }
            if monitor.stats().streams.len() == 1 && received != seen.taken + stream.count.dropped {
                self.violate(&format!(
                    "i2: received {received}, taken {}, dropped {}",
                    seen.taken, stream.count.dropped
                ));
            }
        }
    }

    fn failed(&self, step: &str, error: &Error) -> End {
        self.tell(&format!("cannot {step}: user"));
        let mut world = self.scene.net.world();
        let now = world.now;
        world.trace.tell(now, || format!("  {error}"));
        world.coverage.hit(&format!("{step}: {:?}", error.kind()));
        let server = &world.servers[self.user.server];
        let is_expected = self.scene.weather != Weather::Calm
            || world.is_shut_down
            || matches!(
                error.kind(),
                ErrorKind::ServerLimit | ErrorKind::CannotShare
            )
            || matches!(
                server.family,
                Family::Vlc | Family::AtLimit(_) | Family::LiveOld
            )
            || self.user.options.pooling.multiplex == Multiplex::Always
            || server.slow.is_some()
            || self.user.has_wrong_password;
        if !is_expected {
            let (user, family) = (self.number, server.family);
            world.violate(format!(
                "user {user}: {family:?} and a calm network, but: {error}"
            ));
        }
        End::Failed
    }

    /// What plays is never interrupted by what others do.
    fn on_lost(&self, reason: Option<&Error>) {
        self.tell("lost: user");
        let mut world = self.scene.net.world();
        let kind = reason.map(Error::kind);
        world.coverage.hit(&format!("lost: {kind:?}"));
        let is_expected = self.scene.weather != Weather::Calm || world.is_shut_down;
        if !is_expected {
            let family = world.servers[self.user.server].family;
            let (user, multiplex) = (self.number, self.user.options.pooling.multiplex);
            world.violate(format!(
                "i11: user {user}: {family:?}, {multiplex:?}: lost in play: {reason:?}"
            ));
        }
    }
}

/// What a user got of one session.
#[derive(Debug, Default)]
struct Seen {
    connection: Option<u64>,
    /// Its packets may come on another connection by now.
    has_moved: bool,
    /// The index of the next packet of each stream.
    next: Vec<u32>,
    taken: u64,
}

impl Seen {
    fn next_mut(&mut self, stream: usize) -> &mut u32 {
        if self.next.len() <= stream {
            self.next.resize(stream + 1, 0);
        }
        &mut self.next[stream]
    }
}
