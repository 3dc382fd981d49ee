use std::ops::{Deref, DerefMut};

use super::*;
use crate::mux::ids::PresentationUri;

/// No caller: a connection was closed for one that still waits.
pub(super) const NO_CALLER: WaiterId = WaiterId(0);

/// A table that keeps nothing of connections, and of waiting callers their id.
pub(super) struct Names(Table<(), WaiterId>);

impl Names {
    pub(super) fn new() -> Self {
        Self(Table::new())
    }

    pub(super) fn checkout(&mut self, request: &PlacementRequest) -> Placement {
        self.0.checkout(request, |_| ())
    }

    pub(super) fn enqueue(&mut self, request: PlacementRequest) -> Option<WaiterId> {
        let id = WaiterId(self.0.last_waiter + 1);
        self.0.enqueue(request, id)
    }

    /// The caller asks for this now, the others of its server for what they asked for.
    pub(super) fn refresh_waiting(&mut self, id: WaiterId, request: PlacementRequest) {
        let server = request.key.server().clone();
        let waiting = self.0.waiting.iter();
        let of_server = waiting.filter(|waiting| *waiting.request.key.server() == server);
        let requests = of_server.map(|waiting| match waiting.id == id {
            true => request.clone(),
            false => waiting.request.clone(),
        });
        let requests = requests.collect();
        self.0.refresh_waiting(&server, requests);
    }

    pub(super) fn serve(&mut self, server: &str) -> Vec<(WaiterId, Placement)> {
        let served = self.0.serve(key(server, 0).server(), |_, _| ());
        let mut callers = Vec::new();
        for served in served {
            match served {
                Served::Caller(id, placement) => callers.push((id, placement)),
                Served::Close(id) => callers.push((NO_CALLER, Placement::Wait { close: Some(id) })),
            }
        }
        callers
    }
}

impl Deref for Names {
    type Target = Table<(), WaiterId>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Names {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// Different for each server and number.
pub(super) fn key(server: &str, number: u8) -> ConnectionKey {
    ConnectionKey {
        server: ServerId::new(server, 554).unwrap(),
        tls: None,
        credentials: None,
        user_agent: None,
        group: Some(number.to_string()),
        backchannel: false,
        before_send: None,
        on_request: None,
    }
}

/// What the defaults ask for.
pub(super) fn request(server: &str, key: u8) -> PlacementRequest {
    PlacementRequest {
        key: self::key(server, key),
        max_connections: Some(4),
        preferred_sessions: 16,
        batch: u32::MAX,
        presentation: PresentationUri("/1".to_owned()),
        is_dedicated: false,
        shared_with: SharedWith::Any,
        describes: DescribeMode::Nothing,
        describe_only: None,
        ceiling: SESSION_CEILING,
        overflows: false,
        patient: true,
        avoid: Vec::new(),
        shun: Vec::new(),
        younger_than: None,
    }
}

pub(super) fn dedicated(server: &str, key: u8) -> PlacementRequest {
    PlacementRequest {
        is_dedicated: true,
        shared_with: SharedWith::Alone,
        patient: false,
        ..request(server, key)
    }
}

pub(super) fn connect(table: &mut Names, request: &PlacementRequest) -> ConnectionId {
    match table.checkout(request) {
        Placement::Connect(id) => id,
        other => panic!("expected a new connection, got {other:?}"),
    }
}

fn connections_after(sessions: u32, request: &PlacementRequest) -> Vec<u32> {
    let mut table = Names::new();
    for _ in 0..sessions {
        assert!(matches!(
            table.checkout(request),
            Placement::Connect(_) | Placement::Existing(_)
        ));
    }
    let mut loads: Vec<(ConnectionId, u32)> = table
        .connections
        .iter()
        .map(|(id, entry)| (*id, entry.references))
        .collect();
    loads.sort();
    loads.into_iter().map(|(_, load)| load).collect()
}

#[test]
fn sixty_four_at_once_make_four_connections_of_sixteen() {
    assert_eq!(connections_after(64, &request("nvr", 0)), [16; 4]);
}

#[test]
fn sixteen_at_once_share_one_attempt() {
    assert_eq!(connections_after(16, &request("nvr", 0)), [16]);
}

#[test]
fn f12_a_hundred_and_thirty_sessions_fit_two_connections() {
    let request = PlacementRequest {
        preferred_sessions: 128,
        ..request("nvr", 0)
    };
    assert_eq!(connections_after(130, &request), [128, 2]);
}

#[test]
fn beyond_the_preference_connections_fill_evenly_up_to_the_ceiling() {
    assert_eq!(connections_after(70, &request("nvr", 0)), [18, 18, 17, 17]);
    assert_eq!(
        connections_after(4 * SESSION_CEILING, &request("nvr", 0)),
        [SESSION_CEILING; 4]
    );
}

#[test]
fn without_a_limit_every_sixteen_sessions_get_a_connection() {
    let request = PlacementRequest {
        max_connections: None,
        ..request("nvr", 0)
    };
    assert_eq!(connections_after(160, &request), [16; 10]);
}

#[test]
fn different_keys_and_servers_never_share() {
    let mut table = Names::new();
    let first = connect(&mut table, &request("nvr", 0));
    table.on_connected(first);
    assert_ne!(connect(&mut table, &request("nvr", 1)), first);
    assert_ne!(connect(&mut table, &request("other", 0)), first);
}

#[test]
fn the_limit_counts_all_keys_of_a_server_and_no_other_server() {
    let mut table = Names::new();
    let one = |key| PlacementRequest {
        max_connections: Some(1),
        patient: false,
        ..request("nvr", key)
    };
    connect(&mut table, &one(0));
    assert_eq!(table.checkout(&one(1)), Placement::Refused);
    connect(&mut table, &request("other", 1));
}

#[test]
fn an_idle_connection_of_another_key_is_closed_to_make_room() {
    let mut table = Names::new();
    let one = |key| PlacementRequest {
        max_connections: Some(1),
        ..request("nvr", key)
    };
    let idle = connect(&mut table, &one(0));
    table.on_connected(idle);
    assert_eq!(table.checkin(idle), Checkin::Idle);
    assert_eq!(
        table.checkout(&one(1)),
        Placement::Wait { close: Some(idle) }
    );
    let waiter = table.enqueue(one(1)).unwrap();
    assert_eq!(table.serve("nvr"), [], "the closing one still counts");
    table.remove(idle);
    assert!(
        matches!(table.serve("nvr")[..], [(served, Placement::Connect(_))] if served == waiter)
    );
}

#[test]
fn f37_waiters_are_served_in_order_and_not_overtaken() {
    let mut table = Names::new();
    let one = PlacementRequest {
        max_connections: Some(1),
        preferred_sessions: 1,
        ..request("nvr", 0)
    };
    let id = connect(&mut table, &one);
    table.on_connected(id);
    for _ in 1..SESSION_CEILING {
        assert_eq!(table.checkout(&one), Placement::Existing(id));
    }
    let waiters: Vec<WaiterId> = (0..3)
        .map(|_| {
            assert_eq!(table.checkout(&one), Placement::Wait { close: None });
            table.enqueue(one.clone()).unwrap()
        })
        .collect();
    for waiter in waiters {
        table.checkin(id);
        assert_eq!(
            table.checkout(&one),
            Placement::Wait { close: None },
            "a newcomer waits behind"
        );
        assert_eq!(table.serve("nvr"), [(waiter, Placement::Existing(id))]);
        assert_eq!(table.serve("nvr"), []);
    }
}

/// A server that cannot share may never answer the TEARDOWN that has just gone out on a connection.
#[test]
fn who_waits_avoids_what_is_to_be_avoided_by_then() {
    let mut table = Names::new();
    let one = PlacementRequest {
        max_connections: Some(1),
        ..request("nvr", 0)
    };
    let id = connect(&mut table, &one);
    table.on_connected(id);
    let waiter = table.enqueue(one.clone()).unwrap();
    table.checkin(id);
    let avoid = vec![id];
    table.refresh_waiting(waiter, PlacementRequest { avoid, ..one });
    let replaced = Placement::Wait { close: Some(id) };
    assert_eq!(table.serve("nvr"), [(NO_CALLER, replaced)]);
    table.remove(id);
    assert!(matches!(
        table.serve("nvr")[..],
        [(_, Placement::Connect(_))]
    ));
}

#[test]
fn f37_the_queue_is_bounded() {
    let mut table = Names::new();
    for _ in 0..MAX_WAITING {
        assert!(table.enqueue(request("nvr", 0)).is_some());
    }
    assert!(table.enqueue(request("nvr", 0)).is_none());
    assert!(table.enqueue(request("other", 0)).is_some());
}

#[test]
fn a_waiter_of_another_key_is_not_held_up() {
    let mut table = Names::new();
    let one = |key| PlacementRequest {
        max_connections: Some(2),
        ..request("nvr", key)
    };
    let first = connect(&mut table, &one(0));
    let second = connect(&mut table, &one(1));
    table.on_connected(first);
    table.on_connected(second);
    let blocked = table.enqueue(one(2)).unwrap();
    assert_eq!(table.checkout(&one(1)), Placement::Existing(second));
    assert_eq!(table.serve("nvr"), []);
    table.stop_waiting(blocked);
    assert_eq!(table.waiting_for(key("nvr", 0).server()), 0);
}

#[test]
fn with_multiplex_always_what_does_not_fit_is_refused_at_once() {
    let mut table = Names::new();
    let always = |key| PlacementRequest {
        max_connections: Some(1),
        patient: false,
        ..request("nvr", key)
    };
    let id = connect(&mut table, &always(0));
    assert_eq!(table.checkout(&always(1)), Placement::Refused);
    assert_eq!(
        table.checkout(&PlacementRequest {
            shared_with: SharedWith::Alone,
            ..always(0)
        }),
        Placement::Refused
    );
    table.on_connected(id);
    table.checkin(id);
    assert_eq!(
        table.checkout(&PlacementRequest {
            shared_with: SharedWith::Alone,
            ..always(0)
        }),
        Placement::Existing(id)
    );
}

#[test]
fn what_was_tried_is_not_given_again() {
    let mut table = Names::new();
    let first = connect(&mut table, &request("nvr", 0));
    table.on_connected(first);
    let elsewhere = PlacementRequest {
        avoid: vec![first],
        ..request("nvr", 0)
    };
    let second = connect(&mut table, &elsewhere);
    let younger = PlacementRequest {
        younger_than: Some(first),
        ..request("nvr", 0)
    };
    assert_eq!(
        table.checkout(&younger),
        Placement::Existing(second),
        "those who retry share one attempt"
    );
}

#[test]
fn a_dedicated_connection_counts_for_no_limit_and_is_given_to_no_other() {
    let mut table = Names::new();
    let own = connect(&mut table, &dedicated("nvr", 0));
    table.on_connected(own);
    assert_eq!(
        table.count(key("nvr", 0).server(), ConnectionPurpose::Pooled),
        0
    );
    assert_eq!(table.connections_to(key("nvr", 0).server()), 1);
    assert_ne!(connect(&mut table, &request("nvr", 0)), own);
    assert_eq!(table.checkin(own), Checkin::Finished);
}

#[test]
fn a_caller_that_gets_a_connection_of_its_own_by_now_waits_behind_no_other() {
    let mut table = Names::new();
    let one = PlacementRequest {
        max_connections: Some(1),
        preferred_sessions: 1,
        ceiling: 1,
        ..request("nvr", 0)
    };
    let id = connect(&mut table, &one);
    table.on_connected(id);
    let first = table.enqueue(one.clone()).unwrap();
    let second = table.enqueue(one).unwrap();
    assert_eq!(table.serve("nvr"), []);
    table.refresh_waiting(second, dedicated("nvr", 0));
    assert!(matches!(
        table.serve("nvr")[..],
        [(waiter, Placement::Connect(_))] if waiter == second
    ));
    table.refresh_waiting(first, dedicated("nvr", 0));
    connect(&mut table, &dedicated("nvr", 0));
    assert!(matches!(
        table.serve("nvr")[..],
        [(waiter, Placement::Connect(_))] if waiter == first
    ));
}

#[test]
fn what_saw_an_error_is_never_handed_out_again() {
    let mut table = Names::new();
    let id = connect(&mut table, &request("nvr", 0));
    table.on_connected(id);
    assert!(table.retire(id));
    assert!(!table.retire(id), "only once");
    assert_ne!(connect(&mut table, &request("nvr", 0)), id);
    assert_eq!(table.checkin(id), Checkin::Nothing, "it closes already");
}

#[test]
fn what_takes_no_more_sessions_goes_on_and_closes_when_left() {
    let mut table = Names::new();
    let id = connect(&mut table, &request("nvr", 0));
    table.on_connected(id);
    table.checkout(&request("nvr", 0));
    table.on_no_more_sessions(id);
    assert_ne!(connect(&mut table, &request("nvr", 0)), id);
    assert_eq!(table.checkin(id), Checkin::Nothing);
    assert_eq!(table.checkin(id), Checkin::Finished);
}

/// The last reference goes, the idle deadline passes, a new caller comes: in every order of the
/// three that the lock allows it is reuse or a new connection, never both and never neither.
#[test]
fn f38_at_the_idle_deadline_it_is_reuse_or_a_new_connection() {
    // The caller comes after the last reference went and before the deadline.
    let mut table = Names::new();
    let id = connect(&mut table, &request("nvr", 0));
    table.on_connected(id);
    table.checkin(id);
    assert_eq!(table.checkout(&request("nvr", 0)), Placement::Existing(id));
    assert!(!table.try_retire(id));

    // After the deadline.
    table.checkin(id);
    assert!(table.try_retire(id));
    assert!(!table.try_retire(id), "a timer that fires closes once");
    let fresh = connect(&mut table, &request("nvr", 0));
    assert_ne!(fresh, id);

    // Before the last reference went: there is nothing to expire.
    table.on_connected(fresh);
    assert!(!table.try_retire(fresh));
    assert_eq!(
        table.checkout(&request("nvr", 0)),
        Placement::Existing(fresh)
    );
}

#[test]
fn an_attempt_that_all_callers_left_can_be_given_up() {
    let mut table = Names::new();
    let id = connect(&mut table, &request("nvr", 0));
    assert!(!table.try_retire(id));
    assert_eq!(table.checkin(id), Checkin::Idle);
    assert!(table.try_retire(id));
}

/// A small random number generator; the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}

/// What a test knows of the handles it was given.
#[derive(Default)]
struct Model {
    handles: Vec<ConnectionId>,
    waiting: VecDeque<(WaiterId, u8)>,
    started: Vec<ConnectionId>,
    closing: Vec<ConnectionId>,
}

impl Model {
    fn on_placement(&mut self, table: &Names, key: u8, placement: Placement) {
        match placement {
            Placement::Existing(id) | Placement::Connect(id) => {
                let entry = table.entry(id).unwrap();
                assert_eq!(entry.key, self::key("nvr", key), "shared with another key");
                assert!(
                    entry.phase != ConnectionState::Closing && entry.references <= SESSION_CEILING
                );
                if let Placement::Connect(id) = placement {
                    self.started.push(id);
                }
                self.handles.push(id);
            }
            Placement::Wait { close } => self.closing.extend(close),
            Placement::Refused => {}
        }
    }

    fn serve(&mut self, table: &mut Names) {
        for (waiter, placement) in table.serve("nvr") {
            if waiter == NO_CALLER {
                self.on_placement(table, 0, placement);
                continue;
            }
            let position = self
                .waiting
                .iter()
                .position(|(id, _)| *id == waiter)
                .unwrap();
            let key = self.waiting[position].1;
            let earlier = self
                .waiting
                .iter()
                .take(position)
                .any(|(_, other)| *other == key);
            assert!(!earlier, "overtook a caller with the same key");
            self.waiting.remove(position);
            self.on_placement(table, key, placement);
        }
    }
}

#[test]
fn f37_no_sequence_of_events_breaks_the_limit_or_the_count() {
    for seed in 0..200 {
        let mut numbers = Numbers(seed);
        let mut table = Names::new();
        let mut model = Model::default();
        for _ in 0..400 {
            step(&mut numbers, &mut table, &mut model);
            assert!(
                table.count(key("nvr", 0).server(), ConnectionPurpose::Pooled) <= 3,
                "limit exceeded"
            );
            for (id, entry) in &table.connections {
                let handles = model.handles.iter().filter(|handle| *handle == id).count();
                assert_eq!(
                    entry.references as usize, handles,
                    "references are live handles"
                );
            }
        }
    }
}

fn step(numbers: &mut Numbers, table: &mut Names, model: &mut Model) {
    match numbers.below(8) {
        0..=2 => {
            let key = u8::try_from(numbers.below(3)).unwrap();
            let request = PlacementRequest {
                max_connections: Some(3),
                preferred_sessions: 2,
                patient: numbers.below(2) == 0,
                ..request("nvr", key)
            };
            let placement = table.checkout(&request);
            model.on_placement(table, key, placement);
            if let Placement::Wait { .. } = placement {
                model
                    .waiting
                    .push_back((table.enqueue(request).unwrap(), key));
            }
        }
        3 | 4 if !model.handles.is_empty() => {
            let handle = model
                .handles
                .swap_remove(numbers.below(model.handles.len()));
            table.checkin(handle);
        }
        5 if !model.started.is_empty() => {
            table.on_connected(model.started[numbers.below(model.started.len())]);
        }
        6 if !model.started.is_empty() => {
            let id = model.started[numbers.below(model.started.len())];
            let is_idle = table.entry(id).is_some_and(|entry| {
                entry.references == 0 && entry.phase != ConnectionState::Closing
            });
            assert_eq!(table.try_retire(id), is_idle);
            model.closing.push(id);
        }
        // A connection ends: one that is closing, or any of them.
        _ => {
            let from = if numbers.below(4) == 0 {
                &mut model.started
            } else {
                &mut model.closing
            };
            if from.is_empty() {
                return;
            }
            let id = from.swap_remove(numbers.below(from.len()));
            let closes = table.entry(id).is_some_and(|entry| {
                entry.phase == ConnectionState::Closing || entry.references > 0
            });
            if closes {
                table.retire(id);
                table.remove(id);
                model.handles.retain(|handle| *handle != id);
            }
        }
    }
    model.serve(table);
}

#[test]
fn a_control_url_is_below_its_own_presentation_only() {
    let is_above = |uri: &str, control: &str| {
        PresentationUri(uri.to_owned()).is_above(&PresentationUri(control.to_owned()))
    };
    assert!(is_above("rtsp://nvr/cam/1", "rtsp://nvr/cam/1/stream=0"));
    assert!(is_above("rtsp://nvr/cam/1/", "rtsp://nvr/cam/1/stream=0"));
    assert!(is_above("rtsp://nvr/cam/1", "rtsp://nvr/cam/1"));
    assert!(is_above(
        "rtsp://nvr/c?channel=1",
        "rtsp://nvr/c?channel=1/trackID=0"
    ));
    assert!(!is_above("rtsp://nvr/cam/1", "rtsp://nvr/cam/14/stream=0"));
    assert!(!is_above(
        "rtsp://nvr/c?channel=1",
        "rtsp://nvr/c?channel=14/trackID=0"
    ));
}
