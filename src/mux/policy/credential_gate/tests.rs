#![expect(clippy::disallowed_methods, reason = "any time will do")]

use super::*;

const A: u32 = 1;
const B: u32 = 2;
const C: u32 = 3;
/// How long the second try waits for company.
const SOON: Duration = Duration::from_millis(300);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HALF_HOUR: Duration = Duration::from_secs(1800);

fn gate(now: Instant, members: &[u32]) -> CredentialGate<u32> {
    let mut gate = CredentialGate::default();
    for member in members {
        let status = gate.join(now, *member);
        assert_eq!(status, CredentialStatus::Unproven { is_exclusive: true });
    }
    gate
}

fn want(uri: &str) -> CredentialWant {
    CredentialWant {
        uri: Tag::of(uri),
        is_weaker: false,
        was_accepted: false,
    }
}

fn permitted(uri: &str) -> Notice {
    Notice::Status(CredentialStatus::Permitted(Permit {
        uri: Tag::of(uri),
        below: None,
        ceiling: None,
        closes_behind_401: false,
    }))
}

fn turned_away(until: Instant, was_refused: bool) -> Notice {
    Notice::Status(CredentialStatus::Refused { until, was_refused })
}

fn refused(until: Instant) -> Notice {
    turned_away(until, true)
}

fn refusal(now: Instant, uri: &str) -> Refusal {
    Refusal {
        uri: Tag::of(uri),
        realm: Tag::of("NVR"),
        nonce: Tag::of("n"),
        is_same_nonce: false,
        challenged: now,
        strength: Strength::Md5,
        offers_weaker: false,
    }
}

const FINAL: Notice = Notice::Verdict(RefusalVerdict::Refused { try_weaker: false });

/// Asks for leave and tries, if it may. Whether it did.
fn try_once(gate: &mut CredentialGate<u32>, now: Instant, connection: u32, uri: &str) -> bool {
    let notices = gate.on_wanted(now, connection, vec![want(uri)]);
    let is_permit = |notice: &(u32, Notice)| {
        let is_mine = notice.0 == connection;
        is_mine && matches!(notice.1, Notice::Status(CredentialStatus::Permitted(_)))
    };
    let may_go = notices.iter().any(is_permit);
    if may_go {
        gate.on_tried(now, connection, Tag::of(uri));
    }
    may_go
}

/// The same, and the server refuses.
fn fail_once(gate: &mut CredentialGate<u32>, now: Instant, connection: u32, uri: &str) -> bool {
    let has_tried = try_once(gate, now, connection, uri);
    if has_tried {
        gate.on_refused(now, connection, &refusal(now, uri));
    }
    has_tried
}

fn most_within(tries: &[Duration], window: Duration) -> usize {
    let within = |from: &Duration| {
        let in_window = tries
            .iter()
            .filter(|at| **at >= *from && **at < *from + window);
        in_window.count()
    };
    tries.iter().map(within).max().unwrap_or_default()
}

#[test]
fn f22_one_connection_at_a_time_tries() {
    let now = Instant::now();
    let mut gate = gate(now, &[A, B, C]);
    assert_eq!(
        gate.on_wanted(now, B, vec![want("2")]),
        [(B, permitted("2"))]
    );
    assert_eq!(gate.on_wanted(now, A, vec![want("1")]), []);
    assert_eq!(gate.on_wanted(now, C, vec![want("3")]), []);
    let back = gate.on_returned(now, B, PermitReturn::Unused);
    assert_eq!(back, [(A, permitted("1"))]);
}

#[test]
fn f22_a_second_try_waits_for_the_answer_to_the_first_or_a_second() {
    let now = Instant::now();
    let mut gate = gate(now, &[A, B]);
    assert!(try_once(&mut gate, now, A, "1"));
    let soon = now + SECOND / 2;
    gate.on_returned(soon, A, PermitReturn::Unanswered);
    assert_eq!(gate.on_wanted(soon, B, vec![want("2")]), []);
    let later = now + SECOND;
    assert_eq!(
        gate.on_wanted(later, B, vec![want("2")]),
        [(B, permitted("2"))]
    );
    gate.on_tried(later, B, Tag::of("2"));
    gate.on_returned(later + SECOND, B, PermitReturn::Unanswered);
    let third = gate.on_wanted(later + SECOND, B, vec![want("3")]);
    assert_eq!(third, [], "either answer may be good news");
    let news = gate.on_proven(later + 2 * SECOND, A, Strength::Md5);
    let proven = Notice::Status(CredentialStatus::Proven(None));
    assert!(news.contains(&(A, proven)) && news.contains(&(B, proven)));
}

#[test]
fn f22_one_camera_is_tried_once_a_minute() {
    let now = Instant::now();
    let mut gate = gate(now, &[A, B]);
    assert!(fail_once(&mut gate, now, A, "1"));
    for connection in [A, B] {
        let told = gate.on_wanted(now + SECOND, connection, vec![want("1")]);
        assert_eq!(told, [(connection, refused(now + MINUTE))]);
    }
    assert!(fail_once(&mut gate, now + MINUTE, B, "1"));
}

#[test]
fn f22_wrong_credentials_are_tried_rarely_for_hours_whatever_asks() {
    for cameras in [1, 2, 16, 64] {
        let start = Instant::now();
        let mut gate = CredentialGate::default();
        let mut tries = Vec::new();
        for second in 0..6 * 3600 {
            let at = Duration::from_secs(second);
            let now = start + at;
            for camera in 0..cameras {
                // Connections come and go.
                let connection = camera % 16 + 1000 * u32::try_from(second / 7).unwrap();
                gate.join(now, connection);
                if fail_once(&mut gate, now, connection, &camera.to_string()) {
                    tries.push(at);
                }
                gate.leave(now, connection);
            }
        }
        let in_first_minute = tries.iter().filter(|at| **at < MINUTE).count();
        assert_eq!(in_first_minute, 2.min(cameras as usize), "{cameras}");
        assert!(most_within(&tries, HALF_HOUR) <= 4, "{cameras}: {tries:?}");
        assert!(tries.len() >= 20, "{cameras}: it is tried again: {tries:?}");
        for gap in tries.windows(2).skip(1).map(|pair| pair[1] - pair[0]) {
            assert!(gap >= MINUTE, "{cameras}: {tries:?}");
        }
    }
}

#[test]
fn f22_the_waits_double() {
    let start = Instant::now();
    let mut gate = gate(start, &[A]);
    let mut tries = Vec::new();
    for second in 0..3600 {
        let at = Duration::from_secs(second);
        if fail_once(&mut gate, start + at, A, "1") {
            tries.push(second);
        }
    }
    assert_eq!(tries[..4], [0, 60, 180, 420]);
    assert!(tries[4] >= 1800, "{tries:?}");
}

#[test]
fn f22_new_credentials_are_another_gate_and_acceptance_forgets_the_tries() {
    let now = Instant::now();
    let mut gate = gate(now, &[A]);
    fail_once(&mut gate, now, A, "1");
    assert!(try_once(&mut gate, now, A, "2"));
    gate.on_proven(now, A, Strength::Md5);
    assert_eq!(gate.join(now, C), CredentialStatus::Proven(None));
    gate.leave(now, A);
    assert!(!gate.is_forgettable(now));
    gate.leave(now, C);
    assert!(gate.is_forgettable(now));
    let status = gate.join(now, B);
    assert_eq!(
        status,
        CredentialStatus::Unproven { is_exclusive: true },
        "the server may be another one"
    );
}

#[test]
fn one_camera_that_this_user_may_not_see_keeps_nothing_from_the_others() {
    let now = Instant::now();
    let mut gate = gate(now, &[A, B]);
    assert!(fail_once(&mut gate, now, A, "forbidden"));
    assert!(try_once(&mut gate, now, B, "2"));
    gate.on_proven(now, B, Strength::Md5);
    let told = gate.on_refused(now, A, &refusal(now, "forbidden"));
    let unproven = Notice::Status(CredentialStatus::Unproven { is_exclusive: true });
    assert_eq!(told, [(A, unproven), (B, unproven), (A, FINAL)]);
    // Sent while they were proven: no try of its own.
    gate.on_refused(now, B, &refusal(now, "forbidden, too"));
    let accepted = CredentialWant {
        was_accepted: true,
        ..want("2")
    };
    let told = gate.on_wanted(now, B, vec![want("forbidden, too"), accepted]);
    assert_eq!(told, [(B, permitted("2"))], "what is known to work is next");
    gate.on_tried(now, B, Tag::of("2"));
    let told = gate.on_proven(now, B, Strength::Md5);
    assert!(told.contains(&(A, Notice::Status(CredentialStatus::Proven(None)))));
}

#[test]
fn f22_a_password_that_was_changed_is_tried_twice() {
    let now = Instant::now();
    let mut gate = gate(now, &[A, B]);
    try_once(&mut gate, now, A, "1");
    gate.on_proven(now, A, Strength::Md5);
    gate.on_refused(now, A, &refusal(now, "1"));
    assert!(fail_once(&mut gate, now, B, "2"));
    assert!(!try_once(&mut gate, now + SECOND, A, "3"));
}

#[test]
fn f22_a_404_uses_up_a_try() {
    let start = Instant::now();
    let mut gate = gate(start, &[A, B]);
    assert!(try_once(&mut gate, start, A, "1"));
    gate.on_returned(start, A, PermitReturn::Undecided);
    let soon = Notice::Status(CredentialStatus::AskAgain {
        at: start + SOON / 2,
    });
    let told = gate.on_wanted(start, A, vec![want("2")]);
    assert_eq!(told, [(A, soon)], "others may come");
    assert!(try_once(&mut gate, start + SOON, B, "3"));
    gate.on_returned(start + SOON, B, PermitReturn::Undecided);
    let third = gate.on_wanted(start + SOON, B, vec![want("4")]);
    let until = start + SOON + MINUTE;
    assert_eq!(third, [(B, turned_away(until, false))]);
    let mut tries = vec![Duration::ZERO, SOON];
    for second in 1..3600 {
        let at = SECOND * second;
        let uri = second.to_string();
        if try_once(&mut gate, start + at, A, &uri) {
            gate.on_returned(start + at, A, PermitReturn::Undecided);
            tries.push(at);
        }
    }
    assert!(most_within(&tries, MINUTE) <= 2, "{tries:?}");
    assert!(most_within(&tries, HALF_HOUR) <= 4, "{tries:?}");
    assert!(tries.len() >= 6, "it is tried again: {tries:?}");
}

/// 64 cameras, a connection for each or all on one, and the right password.
#[test]
fn f22_where_channels_are_dead_the_second_try_is_far_from_the_first() {
    let dead_lists: [Vec<u32>; 5] = [
        (0..10).collect(),
        (0..5).chain(59..64).collect(),
        (54..64).collect(),
        (0..64).step_by(7).collect(),
        (0..30).collect(),
    ];
    for dead in dead_lists {
        for is_shared in [false, true] {
            let start = Instant::now();
            let mut gate = gate(start, &[]);
            let connection_of = |camera: u32| if is_shared { 0 } else { camera };
            let members = if is_shared { 1 } else { 64 };
            for member in 0..members {
                gate.join(start, member);
            }
            let wants = |tried: &[u32]| {
                let left = (0..64).filter(|camera| !tried.contains(camera));
                left.map(|camera| (camera, want(&camera.to_string())))
                    .collect::<Vec<_>>()
            };
            let mut tried: Vec<u32> = Vec::new();
            let mut now = start;
            let is_proven = loop {
                let mut permitted = None;
                let left = wants(&tried);
                let asks: Vec<(u32, Vec<CredentialWant>)> = match is_shared {
                    true => vec![(0, left.iter().map(|(_, want)| *want).collect())],
                    false => left
                        .iter()
                        .map(|(camera, want)| (connection_of(*camera), vec![*want]))
                        .collect(),
                };
                for (connection, wants) in asks {
                    for (to, notice) in gate.on_wanted(now, connection, wants) {
                        if let Notice::Status(CredentialStatus::Permitted(permit)) = notice {
                            permitted = Some((to, permit.uri));
                        }
                    }
                    if permitted.is_some() && tried.is_empty() {
                        break;
                    }
                }
                let Some((to, uri)) = permitted else {
                    break false;
                };
                gate.on_tried(now, to, uri);
                let camera = (0..64).find(|camera| Tag::of(&camera.to_string()) == uri);
                tried.extend(camera);
                if camera.is_some_and(|camera| !dead.contains(&camera)) {
                    break true;
                }
                gate.on_returned(now, to, PermitReturn::Undecided);
                // All have asked by then.
                for (camera, want) in wants(&tried).into_iter().filter(|_| !is_shared) {
                    gate.on_wanted(now, camera, vec![want]);
                }
                now += SOON;
            };
            assert!(is_proven, "{dead:?}, shared: {is_shared}, tried {tried:?}");
            assert!(tried.len() <= 2, "{tried:?}");
        }
    }
}

#[test]
fn f22_a_server_that_closes_instead_of_refusing_is_not_tried_for_ever() {
    let now = Instant::now();
    let mut gate = gate(now, &[A, B, C]);
    for (connection, uri) in [(A, "1"), (B, "2")] {
        assert!(try_once(&mut gate, now, connection, uri));
        gate.leave(now, connection);
    }
    let told = gate.on_wanted(now, C, vec![want("3")]);
    let on_hold = turned_away(now + MINUTE, false);
    assert_eq!(
        told,
        [(C, on_hold)],
        "a server that fails may do so as well"
    );
}

#[test]
fn f46_a_try_that_the_server_has_not_seen_may_be_repeated_and_counts() {
    let now = Instant::now();
    let mut gate = gate(now, &[A, B]);
    for connection in [A, B] {
        assert!(try_once(&mut gate, now, connection, "1"));
        gate.on_returned(now, connection, PermitReturn::Unseen);
        gate.leave(now, connection);
    }
    gate.join(now, C);
    assert!(!try_once(&mut gate, now, C, "1"));
}

#[test]
fn f46_the_weaker_algorithm_is_tried_for_the_same_camera_or_another_and_remembered() {
    for uri in ["1", "2"] {
        let now = Instant::now();
        let mut gate = gate(now, &[A]);
        try_once(&mut gate, now, A, "1");
        let strong = Refusal {
            strength: Strength::Sha256,
            offers_weaker: true,
            ..refusal(now, "1")
        };
        let weaker = Notice::Verdict(RefusalVerdict::Refused { try_weaker: true });
        assert_eq!(gate.on_refused(now, A, &strong), [(A, weaker)]);
        let permit = |below, ceiling| {
            Notice::Status(CredentialStatus::Permitted(Permit {
                uri: Tag::of(uri),
                below,
                ceiling,
                closes_behind_401: false,
            }))
        };
        let told = gate.on_wanted(now, A, vec![want(uri)]);
        assert_eq!(told, [(A, permit(Some(Strength::Sha256), None))]);
        gate.on_tried(now, A, Tag::of(uri));
        gate.on_proven(now, A, Strength::Md5);
        let weak = CredentialStatus::Proven(Some(Strength::Md5));
        assert_eq!(gate.join(now, B), weak);
        gate.leave(now, A);
        gate.leave(now, B);
        assert!(!gate.is_forgettable(now), "else the stronger one is tried");
        gate.join(now, C);
        let told = gate.on_wanted(now, C, vec![want(uri)]);
        assert_eq!(told, [(C, permit(None, Some(Strength::Md5)))]);
    }
}

#[test]
fn f22_two_algorithms_are_two_tries_and_no_more() {
    let now = Instant::now();
    let mut gate = gate(now, &[A]);
    for offers_weaker in [true, false] {
        assert!(try_once(&mut gate, now, A, "1"));
        let refusal = Refusal {
            offers_weaker,
            ..refusal(now, "1")
        };
        gate.on_refused(now, A, &refusal);
    }
    let told = gate.on_wanted(now, A, vec![want("2")]);
    assert_eq!(told, [(A, refused(now + MINUTE))]);
}

#[test]
fn f46_connections_that_invalidate_each_others_challenges_take_turns() {
    let now = Instant::now();
    let mut gate = gate(now, &[A, B]);
    try_once(&mut gate, now, A, "1");
    gate.on_proven(now, A, Strength::Md5);
    let realm = Tag::of("NVR");
    gate.on_challenged(now, A, realm, Tag::of("n"));
    gate.on_challenged(now + SECOND, B, realm, Tag::of("m"));
    let later = now + 2 * SECOND;
    let told = gate.on_refused(later, A, &refusal(now, "1"));
    let turns = Notice::Status(CredentialStatus::Unproven { is_exclusive: true });
    let excused = Notice::Verdict(RefusalVerdict::Excused);
    assert_eq!(told, [(A, turns), (B, turns), (A, excused)]);
    assert_eq!(
        gate.on_wanted(later, A, vec![want("1")]),
        [(A, permitted("1"))]
    );
    assert_eq!(gate.on_wanted(later, B, vec![want("2")]), []);
    let told = gate.on_proven(later, A, Strength::Md5);
    assert_eq!(told, [(A, turns), (B, permitted("2"))]);
    gate.on_returned(later, B, PermitReturn::Undecided);
    let told = gate.on_wanted(later + 61 * SECOND, B, vec![want("2")]);
    let proven = Notice::Status(CredentialStatus::Proven(None));
    assert_eq!(told, [(B, proven)], "that was long ago");
    let told = gate.on_refused(later, A, &refusal(later, "1"));
    assert_eq!(told.last(), Some(&(A, FINAL)), "nothing came in between");
}

#[test]
fn a_server_that_asks_for_no_credentials_is_not_kept_waiting() {
    let now = Instant::now();
    let mut gate = gate(now, &[A, B]);
    gate.on_wanted(now, A, vec![want("1")]);
    gate.on_wanted(now, B, vec![want("2")]);
    let open = Notice::Status(CredentialStatus::Unproven {
        is_exclusive: false,
    });
    assert_eq!(gate.on_not_asked(now), [(B, open)]);
    assert_eq!(gate.on_not_asked(now), []);
}

#[test]
fn a_gate_without_members_is_kept_while_its_tries_count() {
    let start = Instant::now();
    let mut gate = gate(start, &[A]);
    fail_once(&mut gate, start, A, "1");
    gate.leave(start, A);
    assert!(!gate.is_forgettable(start + MINUTE));
    assert!(gate.is_forgettable(start + HALF_HOUR));
}
