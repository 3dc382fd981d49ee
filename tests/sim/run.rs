//! One schedule from beginning to end, and what is asserted after every step.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use gstrtspmux::mux::network::Network;
use gstrtspmux::mux::{ConnectionStats, Multiplex, Mux, MuxStats, Opening, SharingVerdict};
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep_until};

use crate::coverage::{Coverage, Listener};
use crate::executor::Executor;
use crate::network::{Event, Millis, Net};
use crate::schedule::{Schedule, User};
use crate::support::mock_server::Family;
use crate::support::random::Random;
use crate::user::{Actor, Scene, Stage, Stages};
use crate::wire::WireState;

/// Every future completes within that: the longest chain of deadlines there is.
const PATIENCE: Millis = 600_000;
/// What a shutdown gets.
const SHUTDOWN: Duration = Duration::from_secs(3);
/// Beyond its idle timeout a connection gets this to tear down what it owes.
const GOODBYE: Millis = 40_000;

/// What came of a schedule.
pub(crate) struct Report {
    pub(crate) violations: Vec<String>,
    pub(crate) hash: u64,
    pub(crate) coverage: Coverage,
    pub(crate) story: Vec<String>,
    pub(crate) steps: u64,
}

/// Runs a simulation to its end, in simulated time.
pub(crate) fn simulate<T>(simulation: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(simulation)
}

/// Runs what `seed` stands for.
pub(crate) fn run(seed: u64, is_told: bool) -> Report {
    let (listener, heard) = Listener::new(is_told);
    let mut report = tracing::subscriber::with_default(listener, || {
        simulate(async {
            let mut random = Random::new(seed);
            let schedule = Schedule::new(&mut random);
            let run = Run::new(schedule, random, is_told);
            run.net.world().heard = Arc::clone(&heard);
            run.go().await
        })
    });
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    report.coverage.add(&heard.coverage);
    report.story.append(heard.lines.get_or_insert_default());
    report
}

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Until something happens, anywhere, or until `limit`.
pub(crate) async fn wait(net: &Net, executor: &Executor, limit: Option<Millis>) {
    let next = net.world().next_event();
    let until = next.into_iter().chain(limit).min();
    let far = Instant::now() + Duration::from_secs(3_600);
    let mut timer = pin!(sleep_until(until.map_or(far, |at| net.instant(at))));
    let mut is_waiting = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_waiting, true) {
            return Poll::Ready(());
        }
        net.world().runner = Some(context.waker().clone());
        if !executor.register(context.waker()) {
            return Poll::Ready(());
        }
        timer.as_mut().poll(context)
    })
    .await;
}

/// What happens at a cue.
#[derive(Clone, Debug)]
enum Cue {
    /// These users come, announced together.
    Enter(Vec<usize>),
    /// A user is gone, wherever it was.
    Vanish(usize),
    Shutdown,
}

struct Run {
    net: Arc<Net>,
    scene: Scene,
    executor: Executor,
    stages: Stages,
    users: Vec<User>,
    cues: Vec<Cue>,
    /// Users that have not come yet.
    to_come: usize,
    steps: u64,
    is_shut_down: bool,
}

impl Run {
    fn new(schedule: Schedule, random: Random, is_told: bool) -> Self {
        let Schedule {
            weather,
            servers,
            users,
            faults,
            shutdown,
        } = schedule;
        let net = Net::new(random, weather, is_told);
        let network: Arc<dyn Network> = Arc::clone(&net) as Arc<dyn Network>;
        let mux = Mux::builder()
            .runtime(Handle::current())
            .network(network)
            .build();
        let stages: Stages = Rc::default();
        stages.borrow_mut().resize(users.len(), Stage::Away);
        let mut run = Self {
            scene: Scene {
                mux,
                net: Arc::clone(&net),
                stages: Rc::clone(&stages),
                weather,
            },
            // One place more for the shutdown.
            executor: Executor::new(users.len() + 1),
            to_come: users.len(),
            stages,
            users,
            cues: Vec::new(),
            steps: 0,
            is_shut_down: false,
            net,
        };
        {
            let mut world = run.net.world();
            for server in &servers {
                let about = format!(
                    "{}: {:?}, {} ms away, timeout {} ms, slow {:?}, {weather:?}",
                    server.host, server.family, server.latency, server.session_timeout, server.slow
                );
                world.trace.tell(0, || about);
            }
            world.servers = servers;
            for user in &run.users {
                if user.options.pooling.multiplex == Multiplex::Always {
                    world.servers[user.server].is_forced = true;
                }
            }
            for (at, fault) in faults {
                world.at(at, Event::Fault(fault));
            }
        }
        run.write_cues(shutdown);
        run
    }

    fn write_cues(&mut self, shutdown: Option<Millis>) {
        let mut cues: Vec<(Millis, Cue)> = Vec::new();
        let groups: std::collections::BTreeSet<usize> =
            self.users.iter().filter_map(|user| user.group).collect();
        for group in groups {
            let is_of = |user: &&usize| self.users[**user].group == Some(group);
            let together: Vec<usize> = (0..self.users.len())
                .collect::<Vec<_>>()
                .iter()
                .filter(is_of)
                .copied()
                .collect();
            cues.push((1, Cue::Enter(together)));
        }
        for (number, user) in self.users.iter().enumerate() {
            if user.group.is_none() {
                cues.push((user.begins, Cue::Enter(vec![number])));
            }
            if let Some(after) = user.vanishes {
                cues.push((user.begins + after, Cue::Vanish(number)));
            }
        }
        cues.extend(shutdown.map(|at| (at, Cue::Shutdown)));
        let mut world = self.net.world();
        for (at, cue) in cues {
            world.at(at, Event::Cue(self.cues.len()));
            self.cues.push(cue);
        }
    }

    async fn go(mut self) -> Report {
        let mut last_word = 0;
        while self.to_come > 0 || !self.executor.is_empty() {
            self.step();
            let now = self.net.world().now;
            if self.to_come > 0 {
                last_word = now;
            }
            if now > last_word + PATIENCE {
                self.say_who_hangs();
                break;
            }
            if self.to_come > 0 || !self.executor.is_empty() {
                self.wait(None).await;
            }
        }
        self.rest().await;
        self.shut_down().await;
        let world = self.net.world();
        Report {
            violations: world.violations.clone(),
            hash: world.trace.hash(),
            coverage: world.coverage.clone(),
            story: world.trace.lines().to_vec(),
            steps: self.steps,
        }
    }

    fn say_who_hangs(&mut self) {
        let hanging: Vec<String> = (0..self.users.len())
            .filter(|user| self.executor.is_there(*user))
            .map(|user| format!("{user}: {:?}", self.stages.borrow()[user]))
            .collect();
        let stats = self.scene.mux.stats();
        self.net
            .world()
            .violate(format!("i4: these never end: {hanging:?} {stats:?}"));
        for user in 0..=self.users.len() {
            self.executor.cancel(user);
        }
    }

    /// Everything that is due, and then a look at everything.
    fn step(&mut self) {
        self.steps += 1;
        let cues = {
            let mut world = self.net.world();
            world.proceed();
            std::mem::take(&mut world.cues)
        };
        for cue in cues {
            self.on_cue(self.cues[cue].clone());
        }
        for user in self.executor.poll_woken() {
            if let Some(stage) = self.stages.borrow_mut().get_mut(user) {
                *stage = Stage::Away;
            }
        }
        self.check();
    }

    fn on_cue(&mut self, cue: Cue) {
        match cue {
            Cue::Enter(users) => {
                self.to_come -= users.len();
                let options = users
                    .iter()
                    .map(|user| self.users[*user].options.clone())
                    .collect();
                let openings = self.scene.mux.open_many(options);
                for (user, opening) in users.into_iter().zip(openings) {
                    self.enter(user, opening);
                }
            }
            Cue::Vanish(user) => {
                if self.executor.cancel(user) {
                    self.stages.borrow_mut()[user] = Stage::Away;
                    let mut world = self.net.world();
                    world.coverage.hit("vanished");
                    let now = world.now;
                    world.trace.note(now, "vanishes: user", user, &[]);
                }
            }
            Cue::Shutdown => {
                self.is_shut_down = true;
                let mux = self.scene.mux.clone();
                let mut world = self.net.world();
                world.is_shut_down = true;
                world.heard().departures.shut_down();
                world.coverage.hit("shutdown in mid-run");
                self.executor.spawn(
                    self.users.len(),
                    async move { mux.shutdown(SHUTDOWN).await },
                );
            }
        }
    }

    fn enter(&mut self, number: usize, opening: Opening) {
        let actor = Actor {
            number,
            user: self.users[number].clone(),
            scene: self.scene.clone(),
        };
        self.executor.spawn(number, actor.act(opening));
    }

    async fn wait(&self, limit: Option<Millis>) {
        wait(&self.net, &self.executor, limit).await;
    }

    /// No session is left: connections become idle and close.
    async fn rest(&mut self) {
        let idle = self.users.iter().map(|user| {
            let pooling = &user.options.pooling;
            u64::try_from(pooling.idle_connection_timeout.as_millis()).unwrap_or_default()
        });
        let begin = self.net.world().now;
        let limit = begin + idle.max().unwrap_or_default() + GOODBYE;
        let wants_to_see = begin.is_multiple_of(2);
        while wants_to_see && !self.is_shut_down {
            self.step();
            if self.connections().is_empty() {
                self.net.world().coverage.hit("all connections went");
                return;
            }
            if self.net.world().now >= limit {
                let stats = self.scene.mux.stats();
                self.net
                    .world()
                    .violate(format!("i6: still there after the idle timeout: {stats:?}"));
                return;
            }
            self.wait(Some(limit)).await;
        }
    }

    fn connections(&self) -> Vec<ConnectionStats> {
        let servers = self.scene.mux.stats().servers;
        servers
            .into_iter()
            .flat_map(|server| server.connections)
            .collect()
    }

    /// Invariant 13.
    async fn shut_down(&mut self) {
        let begin = Instant::now();
        self.net.world().heard().departures.shut_down();
        let mux = self.scene.mux.clone();
        let shutdown = self.users.len();
        self.executor
            .spawn(shutdown, async move { mux.shutdown(SHUTDOWN).await });
        loop {
            self.step();
            if !self.executor.is_there(shutdown) {
                break;
            }
            self.wait(None).await;
        }
        let took = begin.elapsed();
        // Tasks that have ended are counted until the runtime has looked at them.
        tokio::task::yield_now().await;
        let tasks = Handle::current().metrics().num_alive_tasks();
        let mut world = self.net.world();
        if took > SHUTDOWN + Duration::from_millis(1_100) {
            world.violate(format!("f29: the shutdown took {took:?}"));
        }
        if tasks > 0 {
            world.violate(format!("i13: {tasks} tasks after the shutdown"));
        }
        let open: Vec<usize> = (0..world.wires.len())
            .filter(|wire| world.wires[*wire].closed.is_none())
            .collect();
        if !open.is_empty() {
            world.violate(format!("i13: open after the shutdown: {open:?}"));
        }
    }

    fn check(&mut self) {
        let stats = self.scene.mux.stats();
        self.check_limits(&stats);
        self.check_references(&stats);
        self.check_frames(&stats);
    }

    /// Invariant 7, and what is known of the servers.
    fn check_limits(&self, stats: &MuxStats) {
        let mut world = self.net.world();
        let now = world.now;
        for of_server in &stats.servers {
            let name = of_server.server.split(':').next().unwrap_or_default();
            let Some(number) = world.servers.iter().position(|s| s.host == name) else {
                continue;
            };
            let is_apart = of_server.sharing == SharingVerdict::No;
            let since = &mut world.servers[number].apart_since;
            *since = is_apart.then(|| since.unwrap_or(now));
            if is_apart && *since == Some(now) {
                let family = world.servers[number].family;
                world.coverage.hit(&format!("verdict No: {family:?}"));
            }
            let limits = self.users.iter().filter(|user| user.server == number);
            let limits: Vec<u32> = limits
                .map(|user| user.options.pooling.max_connections_per_server)
                .collect();
            let pooled = of_server
                .connections
                .iter()
                .filter(|c| !c.is_dedicated && !c.is_aside);
            let pooled = pooled.count();
            let limit = limits.iter().max().copied().unwrap_or_default();
            if !limits.contains(&0) && pooled > limit as usize {
                world.violate(format!("i7: {pooled} connections to {name}, limit {limit}"));
            }
        }
    }

    /// Invariant 2: whatever was received is delivered or counted.
    fn check_frames(&self, stats: &MuxStats) {
        let mut world = self.net.world();
        for connection in stats.servers.iter().flat_map(|server| &server.connections) {
            let is_it = |wire: &&WireState| wire.connection == connection.id;
            let Some(wire) = world.wires.iter().find(is_it) else {
                continue;
            };
            let is_judged = wire.is_open() && wire.is_quiet() && !wire.is_disturbed;
            let counted = connection.packets
                + connection.counts.unknown_frames
                + connection.counts.foreign_frames
                + connection.counts.late_frames;
            let settled = match world.servers[wire.server].family {
                Family::LiveOld => wire.frames_settled(world.now),
                _ => wire.frames,
            };
            if is_judged && !(settled..=wire.frames).contains(&counted) {
                let (id, frames) = (connection.id, wire.frames);
                world.violate(format!(
                    "i2: {frames} frames for connection {id}: {connection:?}"
                ));
            }
        }
    }

    /// Invariant 6: references are live handles.
    fn check_references(&self, stats: &MuxStats) {
        let stages = self.stages.borrow();
        let moving = stages.iter().filter(|s| matches!(s, Stage::Moving)).count() as u64;
        let mut held: Vec<u64> = stages
            .iter()
            .filter_map(|stage| match stage {
                Stage::Holding(monitor) => monitor.stats().connection,
                _ => None,
            })
            .collect();
        let is_moved = |stage: &&Stage| match stage {
            Stage::Holding(monitor) => monitor.stats().is_moving,
            _ => false,
        };
        let moved = stages.iter().filter(is_moved).count() as u64;
        held.sort_unstable();
        let connections = stats.servers.iter().flat_map(|server| &server.connections);
        let mut more = 0;
        for connection in connections {
            let holders = held.iter().filter(|id| **id == connection.id).count() as u64;
            if connection.references < holders {
                self.net.world().violate(format!(
                    "i6: {} references to connection {}, {holders} handles",
                    connection.references, connection.id
                ));
            }
            more += connection.references.saturating_sub(holders);
        }
        // A step may hold the old session, or a canary beside its own.
        if more > 2 * moving + moved {
            self.net.world().violate(format!(
                "i6: {more} references more than handles, {moving} on their way"
            ));
        }
    }
}
