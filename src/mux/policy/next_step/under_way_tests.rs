//! While an operation is under way.

use super::{tests::*, *};

#[test]
fn a_session_waits_for_its_own_answer_however_long_it_takes() {
    let now = Instant::now();
    let later = now + 100_000 * MS;
    let with_place = || View {
        has_place: true,
        ..view()
    };
    for operation in [Operation::Describe, Operation::SetUp, Operation::Play] {
        let step = next_step(&with_place(), &asked(operation, now), later);
        assert_eq!(step, SetupStep::Wait(None, WaitReason::Answer));
    }
    for (operation, reason) in [
        (Operation::Connect, WaitReason::Connection),
        (Operation::CheckDescription, WaitReason::DescriptionCheck),
        (Operation::Rejoin, WaitReason::DescriptionCheck),
        (Operation::Canary, WaitReason::Canary),
    ] {
        let step = next_step(&with_place(), &asked(operation, now), later);
        assert_eq!(step, SetupStep::Wait(None, reason));
    }
}

#[test]
fn behind_the_request_of_another_it_waits_as_long_as_there_is_no_other_place() {
    let now = Instant::now();
    let blocked_for = |waited: u32, operation| {
        with(asked(operation, now), |under_way| {
            under_way.blocked_since = Some(now - waited * MS);
        })
    };
    let behind_describe = |waited: u32| {
        with(blocked_for(waited, Operation::SetUp), |under_way| {
            under_way.is_behind_describe = true;
        })
    };
    let unsent = with(asked(Operation::Describe, now), |under_way| {
        under_way.is_unsent = true;
    });
    let place = || View {
        has_place: true,
        ..view()
    };
    let sooner = View {
        is_described_sooner_elsewhere: true,
        ..view()
    };
    let head = |until| wait(until, WaitReason::HeadOfLine);
    let held_up = || SetupStep::Move(Move::HeldUp);
    let set_up = Operation::SetUp;
    check(
        now,
        [
            (
                "blocked",
                place(),
                blocked_for(100, set_up),
                head(now + 400 * MS),
            ),
            (
                "blocked for too long",
                place(),
                blocked_for(500, set_up),
                held_up(),
            ),
            (
                "no place",
                view(),
                blocked_for(500, set_up),
                head(now + 50 * MS),
            ),
            (
                "a DESCRIBE",
                place(),
                behind_describe(200),
                head(now + 100 * MS),
            ),
            (
                "a DESCRIBE for too long",
                place(),
                behind_describe(300),
                held_up(),
            ),
            (
                "PLAY",
                place(),
                blocked_for(500, Operation::Play),
                held_up(),
            ),
            (
                "PLAY on the fourth connection",
                place(),
                Attempt {
                    tried: Tried {
                        connections: 4,
                        ..Tried::default()
                    },
                    ..blocked_for(500, Operation::Play)
                },
                SetupStep::Wait(None, WaitReason::HeadOfLine),
            ),
            (
                "unsent",
                view(),
                unsent,
                SetupStep::Wait(None, WaitReason::Unsent),
            ),
            (
                "sooner elsewhere",
                sooner,
                unsent,
                SetupStep::Move(Move::Spread),
            ),
        ],
    );
}

#[test]
fn f09_a_session_leaves_where_what_it_asks_is_known_to_be_ignored() {
    let now = Instant::now();
    let shared = |operation| on(asked(operation, now), |place| place.was_shared = true);
    let ignoring = |set_up| View {
        is_ignoring: true,
        ..beside(SUSPECTED, 2, set_up)
    };
    let owned = View {
        here: ignoring(1).here.map(|here| ConnectionView {
            owner: Some(OWN),
            ..here
        }),
        ..ignoring(1)
    };
    let untried = Attempt {
        is_tried: false,
        ..shared(Operation::SetUp)
    };
    let answer = || SetupStep::Wait(None, WaitReason::Answer);
    let held_up = || SetupStep::Move(Move::HeldUp);
    check(
        now,
        [
            (
                "DESCRIBE",
                ignoring(0),
                shared(Operation::Describe),
                held_up(),
            ),
            ("SETUP", ignoring(1), shared(Operation::SetUp), held_up()),
            (
                "the first SETUP",
                ignoring(0),
                shared(Operation::SetUp),
                answer(),
            ),
            ("PLAY", ignoring(1), shared(Operation::Play), answer()),
            ("owner", owned, shared(Operation::SetUp), answer()),
            ("alone", ignoring(1), asked(Operation::SetUp, now), answer()),
            ("multiplex=always", ignoring(1), untried, answer()),
        ],
    );
}

#[test]
fn a_describe_only_connection_on_which_nothing_is_answered_is_left() {
    let now = Instant::now();
    let aside = |waited: u32| {
        with(
            describe_only(asked(Operation::Describe, now)),
            |under_way| under_way.since = now - waited * MS,
        )
    };
    let proven = on(aside(500), |place| place.is_proven = true);
    let late = View {
        may_answer_late: true,
        ..uncounted(view())
    };
    let answer = |until| SetupStep::Wait(until, WaitReason::Answer);
    let unproven = || uncounted(view());
    check(
        now,
        [
            (
                "asked",
                unproven(),
                aside(100),
                answer(Some(now + 400 * MS)),
            ),
            (
                "ignored",
                unproven(),
                aside(500),
                SetupStep::Move(Move::Ignored),
            ),
            ("has answered", unproven(), proven, answer(None)),
            ("may answer late", late, aside(500), answer(None)),
            ("counts by now", view(), aside(500), answer(None)),
        ],
    );
}

#[test]
fn a_describe_that_may_have_been_lost_is_waited_for_for_a_shorter_time() {
    let now = Instant::now();
    let waited = |waited: u32| {
        with(asked(Operation::Describe, now), |under_way| {
            under_way.blocked_since = Some(now - waited * MS);
            (under_way.is_behind_describe, under_way.is_behind_lost) = (true, true);
        })
    };
    let place = || View {
        has_place: true,
        ..view()
    };
    let still = wait(now + 50 * MS, WaitReason::HeadOfLine);
    let own = |connections| {
        let mut attempt = with(waited(100), |under_way| under_way.is_at_head = true);
        attempt.tried.connections = connections;
        attempt
    };
    let answer = SetupStep::Wait(None, WaitReason::Answer);
    check(
        now,
        [
            ("not yet", place(), waited(60), still),
            ("lost", place(), waited(100), SetupStep::Move(Move::HeldUp)),
            (
                "the server turned out to be slow",
                View {
                    lost_patience: 200 * MS,
                    ..place()
                },
                waited(100),
                wait(now + 100 * MS, WaitReason::HeadOfLine),
            ),
            ("its own", place(), own(3), SetupStep::Move(Move::HeldUp)),
            ("its own again and again", place(), own(4), answer),
        ],
    );
}
