//! Storms in simulated time: cameras whose users ask for their turn whenever they fail.

use std::collections::VecDeque;

use super::*;

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

fn uri(number: u32) -> PresentationUri {
    PresentationUri(format!("rtsp://nvr/{number}"))
}

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// No connection can be made.
    Refused,
    /// Its DESCRIBE or SETUP fails; the connection is lost with it, or not.
    NotSetUp { is_lost: bool },
    /// It plays for so long, and then it ends; the connection is lost with it, or not.
    Plays { for_: Duration, is_lost: bool },
    /// Its PLAY is answered, and no media comes for so long; then it ends.
    Silent { for_: Duration },
}

enum User {
    /// Has nothing; how its last session ended.
    Idle(Option<Ending>),
    /// Until when at least, unless something changes.
    Waiting(TurnId, Instant),
    /// Until when, and how it ends then.
    Playing(AttemptId, Instant, Ending),
}

/// One server and its users.
struct World {
    now: Instant,
    start: Instant,
    redial: Redial,
    users: Vec<User>,
    connections: u64,
    /// When sessions were tried.
    tries: Vec<(Duration, usize)>,
    chances: VecDeque<f64>,
}

impl World {
    fn new(users: usize) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            redial: Redial::default(),
            users: (0..users).map(|_| User::Idle(None)).collect(),
            connections: 0,
            tries: Vec::new(),
            chances: [0.1, 0.9, 0.5, 0.0, 1.0, 0.3].into(),
        }
    }

    fn chance(&mut self) -> f64 {
        self.chances.rotate_left(1);
        self.chances[0]
    }

    /// Lets so much time pass, where `fate` says what becomes of each user's next session.
    fn pass(&mut self, time: Duration, fate: impl Fn(usize, Duration) -> Fate) {
        let until = self.now + time;
        while self.now < until {
            let mut has_changed = false;
            for user in 0..self.users.len() {
                has_changed |= self.step(user, &fate);
            }
            let next = self.users.iter().map(|user| match user {
                User::Idle(_) => self.now,
                User::Waiting(_, until) | User::Playing(_, until, _) => *until,
            });
            self.now = match has_changed {
                true => self.now + 5 * MS,
                false => next.min().unwrap_or(until).clamp(self.now + MS, until),
            };
        }
    }

    /// True if something changed.
    fn step(&mut self, number: usize, fate: &impl Fn(usize, Duration) -> Fate) -> bool {
        let uri = uri(number as u32);
        match self.users[number] {
            User::Idle(ending) => {
                let chance = self.chance();
                if let Some(ending) = ending {
                    self.redial.on_failed(self.now, &uri, ending, chance);
                }
                let waiter = self.redial.enter(&uri, ending.is_none());
                self.users[number] = User::Waiting(waiter, self.now);
            }
            User::Waiting(waiter, _) => {
                match self.redial.admit(self.now, waiter, RetryBounds::default()) {
                    Err(until) => {
                        self.users[number] = User::Waiting(waiter, until);
                        return false;
                    }
                    Ok(probe) => {
                        self.redial.leave(waiter);
                        let at = self.now - self.start;
                        self.tries.push((at, number));
                        self.users[number] = self.session(&uri, fate(number, at));
                        if let Some(number) = probe {
                            self.redial.on_permit_dropped(number);
                        }
                    }
                }
            }
            User::Playing(id, until, ending) if self.now >= until => {
                let chance = self.chance();
                self.redial.on_over(self.now, id, Some(until), chance);
                self.users[number] = User::Idle(Some(ending));
            }
            User::Playing(..) => return false,
        }
        true
    }

    fn session(&mut self, uri: &PresentationUri, fate: Fate) -> User {
        let (now, chance) = (self.now, self.chance());
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        let id = self.redial.begin(now, uri);
        if fate == Fate::Refused {
            self.redial.on_dial_failed(now, connection, chance);
            self.redial.on_over(now, id, None, chance);
            return User::Idle(Some(Ending::NotDialled));
        }
        self.redial.on_reached(now, connection);
        let ending = |is_lost| match is_lost {
            true => Ending::Lost(connection),
            false => Ending::Failed,
        };
        match fate {
            Fate::NotSetUp { is_lost } => {
                self.redial.on_over(now, id, None, chance);
                User::Idle(Some(ending(is_lost)))
            }
            Fate::Plays { for_, is_lost } => {
                for step in [
                    AttemptStep::SetUp,
                    AttemptStep::Asked,
                    AttemptStep::Playing,
                    AttemptStep::Media,
                ] {
                    self.redial.on_progress(now, id, step);
                }
                User::Playing(id, now + for_, ending(is_lost))
            }
            Fate::Silent { for_ } => {
                for step in [AttemptStep::SetUp, AttemptStep::Asked, AttemptStep::Playing] {
                    self.redial.on_progress(now, id, step);
                }
                User::Playing(id, now + for_, ending(false))
            }
            Fate::Refused => unreachable!(),
        }
    }

    /// The most tries in any minute, of users that are asked for, from so long after the start.
    fn most(&self, from: Duration, users: impl Fn(usize) -> bool) -> usize {
        let tries = self
            .tries
            .iter()
            .filter(|(at, user)| *at >= from && users(*user));
        let tries: Vec<Duration> = tries.map(|(at, _)| *at).collect();
        let within = |first: &Duration| {
            let is_within = |at: &&Duration| *at >= first && **at < *first + MINUTE;
            tries.iter().filter(is_within).count()
        };
        tries.iter().map(within).max().unwrap_or_default()
    }
}

const AT_ONCE: Duration = Duration::from_millis(40);

const STORMS: [Fate; 6] = [
    Fate::Refused,
    Fate::NotSetUp { is_lost: false },
    Fate::NotSetUp { is_lost: true },
    Fate::Plays {
        for_: AT_ONCE,
        is_lost: false,
    },
    Fate::Plays {
        for_: AT_ONCE,
        is_lost: true,
    },
    Fate::Plays {
        for_: Duration::from_millis(1_900),
        is_lost: true,
    },
];

#[test]
fn f44_whatever_step_fails_a_server_is_tried_thirty_times_a_minute_and_ever_less() {
    for fate in STORMS {
        for users in [1, 2, 16] {
            for after in [Duration::ZERO, 60 * S] {
                let mut world = World::new(users);
                let plays = Fate::Plays {
                    for_: after,
                    is_lost: true,
                };
                world.pass(after, |_, _| plays);
                world.pass(1_800 * S, |_, _| fate);
                // The start, the return after the first end and that after the success are free.
                let free = users * (2 + usize::from(!after.is_zero()));
                let (first, last) = (world.most(after, |_| true), world.most(1_700 * S, |_| true));
                let what = format!("{fate:?}, {users} users, after {after:?}");
                assert!(first <= 30 + free, "{what}: {first}");
                let steady = world.most(after + 5 * S, |_| true);
                assert!(steady <= 30, "{what}: {steady}");
                assert!((1..=8).contains(&last), "{what}: {last} in the end");
            }
        }
    }
}

#[test]
fn f44_ten_dead_cameras_of_64_get_half_the_budget_and_hold_up_no_other() {
    for fate in [
        Fate::NotSetUp { is_lost: false },
        Fate::NotSetUp { is_lost: true },
        STORMS[4],
    ] {
        let mut world = World::new(64);
        let fine = Fate::Plays {
            for_: 4_000 * S,
            is_lost: true,
        };
        let fates = move |user: usize, _| if user < 10 { fate } else { fine };
        world.pass(1_200 * S, fates);
        let dead = world.most(20 * S, |user| user < 10);
        assert!(dead <= 15, "{fate:?}: {dead}");
        let late = world.most(1_000 * S, |user| user < 10);
        assert!((4..=10).contains(&late), "{fate:?}: {late}");
        for user in 0..10 {
            assert!(
                world.most(600 * S, |other| other == user) > 0,
                "camera {user} starved"
            );
        }
        // A new one starts at once, and one that has played comes back at once.
        let start = world.now;
        world.users.push(User::Idle(None));
        world.pass(40 * MS, fates);
        assert!(matches!(world.users[64], User::Playing(..)));
        let User::Playing(id, ..) = world.users[20] else {
            panic!("plays")
        };
        world.redial.on_over(world.now, id, Some(world.now), 0.5);
        world.users[20] = User::Idle(Some(Ending::Failed));
        world.pass(S, fates);
        assert!(
            matches!(world.users[20], User::Playing(..)),
            "{:?}",
            world.now - start
        );
    }
}

#[test]
fn f44_the_turn_goes_round_however_long_a_try_takes() {
    for for_ in [5 * S, 20 * S, 29 * S, 31 * S, 40 * S, 90 * S] {
        let mut world = World::new(16);
        world.pass(3_600 * S, |_, _| Fate::Silent { for_ });
        let late = world.tries.iter().filter(|(at, _)| *at >= 300 * S);
        let mut tries = [0_usize; 16];
        late.for_each(|(_, user)| tries[*user] += 1);
        let (least, most) = (tries.iter().min().unwrap(), tries.iter().max().unwrap());
        assert!(*least > 0 && *most <= least + 2, "{for_:?}: {tries:?}");
    }
}

#[test]
fn f45_sessions_come_back_at_once_after_each_of_several_restarts() {
    let mut world = World::new(64);
    // Nine seconds apart, and away for three of these.
    let is_away =
        |at: Duration| at >= 60 * S && at < 96 * S && (at - 60 * S).as_millis() % 9_000 < 3_000;
    let plays = |at: Duration| {
        let lost = |n: u64| Duration::from_secs(60 + 9 * n);
        let next = (0..4).map(lost).find(|lost| *lost > at);
        next.unwrap_or(Duration::from_secs(500)) - at
    };
    world.pass(200 * S, move |_, at| match is_away(at) {
        true => Fate::Refused,
        false => Fate::Plays {
            for_: plays(at),
            is_lost: true,
        },
    });
    for restart in 0..4 {
        let back = Duration::from_secs(63 + 9 * restart);
        let is_soon = |at: &Duration| *at >= back && *at < back + 3 * S;
        let came = world.tries.iter().filter(|(at, _)| is_soon(at)).count();
        assert!(came >= 64, "{came} after restart {restart}");
    }
    assert!(
        world
            .users
            .iter()
            .all(|user| matches!(user, User::Playing(..)))
    );
}

#[test]
fn f44_a_camera_whose_tries_cost_more_makes_fewer_of_them() {
    let mut redial = Redial::default();
    let mut now = Instant::now();
    let (start, mut cost) = (now, 0);
    let mut ending = Some(Ending::Failed);
    while now < start + 120 * S {
        if let Some(ending) = ending.take() {
            redial.on_failed(now, &uri(1), ending, 0.0);
        }
        let waiter = redial.enter(&uri(1), false);
        let admission = redial.admit(now, waiter, RetryBounds::default());
        redial.leave(waiter);
        match admission {
            Err(until) => now = until,
            Ok(_) => {
                let id = redial.begin(now, &uri(1));
                cost += 1;
                // Five redirects.
                for _ in 0..5 {
                    cost += usize::from(redial.on_extra(now, id));
                }
                redial.on_over(now, id, None, 0.0);
                ending = Some(Ending::Failed);
            }
        }
    }
    assert!(cost <= 65, "{cost} in two minutes");
    assert!(cost > 12, "{cost} in two minutes");
}

#[test]
fn f44_a_session_that_is_paused_before_it_plays_is_a_success_too() {
    let (mut redial, now) = (Redial::default(), Instant::now());
    let id = redial.begin(now, &uri(1));
    redial.on_progress(now, id, AttemptStep::SetUp);
    let lost = now + 60 * S;
    redial.on_over(lost, id, None, 0.0);
    redial.on_failed(lost, &uri(1), Ending::Lost(ConnectionId(1)), 0.0);
    let waiter = redial.enter(&uri(1), false);
    let admission = redial.admit(lost, waiter, RetryBounds::default());
    assert_eq!(admission, Ok(Some(1)));
    redial.on_reached(lost, ConnectionId(2));
    let other = redial.enter(&uri(2), false);
    let admission = redial.admit(lost, other, RetryBounds::default());
    assert_eq!(admission, Ok(None));
}

#[test]
fn what_is_over_is_forgotten() {
    let (mut redial, now) = (Redial::default(), Instant::now());
    let id = redial.begin(now, &uri(1));
    assert!(!redial.is_forgettable(now + 3_600 * S), "on its way");
    redial.on_over(now, id, None, 0.0);
    assert!(!redial.is_forgettable(now));
    assert!(redial.is_forgettable(now + FORGOTTEN));
}
