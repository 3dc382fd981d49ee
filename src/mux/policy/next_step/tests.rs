use std::time::{Duration, Instant};

use super::*;
use crate::mux::policy::sharing::Evidence;

const MS: Duration = Duration::from_millis(1);
const TAKEN: ConnectionId = ConnectionId(1);
const OWN: SessionKey = SessionKey::numbered(1);
const OTHER: SessionKey = SessionKey::numbered(2);
const NO: SharingMode = SharingMode::Apart(Some(Evidence::Closed));
const SUSPECTED: SharingMode = SharingMode::Apart(None);
const ONE_FOR_ALL: SharingMode = SharingMode::Apart(Some(Evidence::SameDescription));
const PATIENCE: AnswerPatience = AnswerPatience {
    usual: Duration::from_millis(500),
    behind_describe: Duration::from_millis(300),
};

/// One connection with one session, at a server that shares.
fn view() -> View {
    View {
        mode: SharingMode::Share,
        is_isolated: false,
        deciding: Finder::Known(true),
        room: Finder::Known(true),
        has_pending_teardowns: false,
        check: Finder::Known(true),
        doubt: None,
        remembered: None,
        patience: PATIENCE.usual,
        describe_patience: PATIENCE.behind_describe,
        tells_apart: true,
        is_ignoring: false,
        may_answer_late: false,
        here: Some(ConnectionView {
            references: 1,
            set_up: 0,
            had_session: false,
            owner: None,
            is_counted: true,
        }),
        rejoin: None,
        gate: None,
        has_place: false,
        is_described_sooner_elsewhere: false,
    }
}

fn in_mode(mode: SharingMode) -> View {
    View { mode, ..view() }
}

/// Where so many sessions are, of which so many are set up.
fn beside(mode: SharingMode, references: u32, set_up: u32) -> View {
    View {
        here: view().here.map(|here| ConnectionView {
            references,
            set_up,
            had_session: set_up > 0,
            ..here
        }),
        ..in_mode(mode)
    }
}

/// A session at this stage, on its way to the next one.
fn at(stage: SetupStage, now: Instant) -> Attempt {
    let is_placed = stage >= SetupStage::Placed;
    let is_described = stage >= SetupStage::Described;
    Attempt {
        stage,
        goal: match stage {
            SetupStage::Described => SetupStage::SetUp,
            SetupStage::SetUp => SetupStage::Playing,
            _ => SetupStage::Described,
        },
        is_tried: true,
        isolation: Isolation::Shared,
        connect_timeout: 10_000 * MS,
        waits: None,
        under_way: None,
        place: is_placed.then_some(SetupPlace {
            id: TAKEN,
            session: OWN,
            is_aside: false,
            is_describe_only: false,
            is_proven: true,
            was_shared: false,
        }),
        is_described,
        described: is_described.then_some(DescribeTiming {
            took: 10 * MS,
            at: now,
            is_first: true,
        }),
        needs_describe: true,
        is_spread: false,
        has_rejoined: false,
        canary: CanaryState::Possible,
        pending_teardowns: PendingTeardowns::Unseen,
        seeks_capacity: false,
        has_refusal: false,
        tried: Tried {
            connections: 1,
            ..Tried::default()
        },
    }
}

/// Its own request, which went out a moment ago.
fn asked(operation: Operation, now: Instant) -> Attempt {
    let stage = match operation {
        Operation::Describe => SetupStage::Placed,
        Operation::Play | Operation::Canary => SetupStage::SetUp,
        Operation::Connect => SetupStage::Unplaced,
        Operation::CheckDescription => SetupStage::InDoubt,
        Operation::SetUp | Operation::Rejoin => SetupStage::Described,
    };
    Attempt {
        under_way: Some(UnderWay {
            operation,
            since: now,
            patience: PATIENCE,
            is_unsent: false,
            blocked_since: None,
            is_behind_describe: false,
        }),
        ..at(stage, now)
    }
}

fn with(attempt: Attempt, change: impl FnOnce(&mut UnderWay)) -> Attempt {
    let mut under_way = attempt.under_way;
    if let Some(under_way) = &mut under_way {
        change(under_way);
    }
    Attempt {
        under_way,
        ..attempt
    }
}

fn on(attempt: Attempt, change: impl FnOnce(&mut SetupPlace)) -> Attempt {
    let mut place = attempt.place;
    if let Some(place) = &mut place {
        change(place);
    }
    Attempt { place, ..attempt }
}

fn dedicated(attempt: Attempt) -> Attempt {
    Attempt {
        isolation: Isolation::Dedicated,
        ..attempt
    }
}

/// On a connection for descriptions alone, where nothing was answered.
fn describe_only(attempt: Attempt) -> Attempt {
    let attempt = on(attempt, |place| {
        (place.is_aside, place.is_describe_only) = (true, true);
        place.is_proven = false;
    });
    Attempt {
        is_spread: true,
        ..attempt
    }
}

fn uncounted(view: View) -> View {
    View {
        here: view.here.map(|here| ConnectionView {
            is_counted: false,
            ..here
        }),
        ..view
    }
}

fn waiting(attempt: Attempt, reason: WaitReason, since: Instant) -> Attempt {
    Attempt {
        waits: Some((reason, since)),
        ..attempt
    }
}

fn wait(until: Instant, reason: WaitReason) -> SetupStep {
    SetupStep::Wait(Some(until), reason)
}

fn connect(needs_describe: bool, isolation: Isolation) -> SetupStep {
    SetupStep::Connect {
        needs_describe,
        isolation,
    }
}

fn gate_of(mode: SharingMode, now: Instant) -> PlayGateInput {
    PlayGateInput {
        mode,
        references: 1,
        intents: 0,
        ends_describing: false,
        is_endangered: false,
        in_doubt_until: None,
        wants_canary: false,
        suspect_until: None,
        until: now + 500 * MS,
        intents_until: now + 20 * MS,
    }
}

fn gated(gate: PlayGateInput) -> View {
    View {
        gate: Some(gate),
        ..in_mode(gate.mode)
    }
}

type Row = (&'static str, View, Attempt, SetupStep);

fn check(now: Instant, rows: impl IntoIterator<Item = Row>) {
    for (name, view, attempt, expected) in rows {
        assert_eq!(next_step(&view, &attempt, now), expected, "{name}");
    }
}

#[test]
fn a_session_without_connection_waits_for_a_decision_at_most() {
    let now = Instant::now();
    let decided_by = |deciding| View {
        deciding,
        ..in_mode(SUSPECTED)
    };
    let new = at(SetupStage::Undecided, now);
    let others = || decided_by(Finder::Others);
    let decision = WaitReason::SharingDecision;
    let shared = Isolation::Shared;
    check(
        now,
        [
            ("known", view(), new, connect(true, shared)),
            (
                "its own",
                decided_by(Finder::You),
                new,
                SetupStep::PromiseCanary,
            ),
            ("others", others(), new, wait(now + 500 * MS, decision)),
            (
                "others, for too long",
                others(),
                waiting(new, decision, now - 500 * MS),
                connect(true, shared),
            ),
            (
                "others at a slow server",
                View {
                    patience: 10_000 * MS,
                    ..others()
                },
                new,
                wait(now + REGROUP, decision),
            ),
            (
                "its own canary is promised",
                others(),
                Attempt {
                    canary: CanaryState::Promised,
                    ..new
                },
                connect(true, shared),
            ),
            (
                "dedicated",
                others(),
                dedicated(new),
                connect(true, Isolation::Dedicated),
            ),
            (
                "multiplex=always",
                others(),
                Attempt {
                    is_tried: false,
                    ..new
                },
                connect(true, shared),
            ),
            (
                "decided before",
                others(),
                at(SetupStage::Unplaced, now),
                connect(true, shared),
            ),
        ],
    );
}

#[test]
fn f23_a_session_that_found_no_room_waits_for_teardowns_and_for_the_one_that_looks() {
    let now = Instant::now();
    let full = Attempt {
        seeks_capacity: true,
        has_refusal: true,
        ..at(SetupStage::Unplaced, now)
    };
    let in_the_way = Attempt {
        pending_teardowns: PendingTeardowns::InTheWay,
        ..full
    };
    let leaving = || View {
        has_pending_teardowns: true,
        ..view()
    };
    let found = |room| View { room, ..view() };
    let (teardowns, capacity) = (WaitReason::Teardowns, WaitReason::Capacity);
    let place = || connect(true, Isolation::Shared);
    check(
        now,
        [
            (
                "leaving",
                leaving(),
                in_the_way,
                wait(now + 500 * MS, teardowns),
            ),
            (
                "leaving, to the end of its patience",
                leaving(),
                waiting(in_the_way, teardowns, now - 490 * MS),
                wait(now + 10 * MS, teardowns),
            ),
            (
                "leaving for too long",
                leaving(),
                waiting(in_the_way, teardowns, now - 500 * MS),
                SetupStep::NoteRoom,
            ),
            ("left", view(), in_the_way, SetupStep::NoteRoom),
            (
                "its turn",
                found(Finder::You),
                full,
                SetupStep::ProbeCapacity,
            ),
            (
                "another looks",
                found(Finder::Others),
                full,
                wait(now + 10_000 * MS, capacity),
            ),
            (
                "another looks for too long",
                found(Finder::Others),
                waiting(full, capacity, now - 10_000 * MS),
                place(),
            ),
            ("found", found(Finder::Known(true)), full, place()),
            ("none", found(Finder::Known(false)), full, SetupStep::Fail),
            (
                "none, and nothing said",
                found(Finder::Known(false)),
                Attempt {
                    has_refusal: false,
                    ..full
                },
                place(),
            ),
            (
                "it is the one that looks",
                found(Finder::Known(false)),
                Attempt {
                    seeks_capacity: false,
                    ..full
                },
                place(),
            ),
        ],
    );
}

#[test]
fn a_description_is_asked_for_once_where_the_server_shares() {
    let now = Instant::now();
    let described = Attempt {
        is_described: true,
        ..at(SetupStage::Unplaced, now)
    };
    let isolated = View {
        is_isolated: true,
        ..view()
    };
    let shared = Isolation::Shared;
    check(
        now,
        [
            ("shares", view(), described, connect(false, shared)),
            (
                "unknown",
                in_mode(SharingMode::Try),
                described,
                connect(true, shared),
            ),
            (
                "cannot share",
                in_mode(NO),
                described,
                connect(true, shared),
            ),
            (
                "on a connection of its own",
                view(),
                dedicated(described),
                connect(true, Isolation::Dedicated),
            ),
            (
                "its neighbours broke off",
                isolated.clone(),
                at(SetupStage::Unplaced, now),
                connect(true, Isolation::Dedicated),
            ),
            (
                "its neighbours broke off, multiplex=always",
                isolated,
                Attempt {
                    is_tried: false,
                    ..at(SetupStage::Unplaced, now)
                },
                connect(true, shared),
            ),
            (
                "placed",
                view(),
                at(SetupStage::Placed, now),
                SetupStep::Describe(PATIENCE),
            ),
        ],
    );
}

#[test]
fn f11_a_doubtful_description_is_checked_before_setup() {
    let now = Instant::now();
    let doubted = |mode| View {
        doubt: Some(Doubt::Grown),
        check: Finder::You,
        ..in_mode(mode)
    };
    let harmless = View {
        check: Finder::Known(true),
        ..doubted(SharingMode::Share)
    };
    let described = at(SetupStage::Described, now);
    let checked = |mode, check| View {
        check,
        ..in_mode(mode)
    };
    let in_doubt = Attempt {
        described: described.described,
        ..at(SetupStage::InDoubt, now)
    };
    let late = Attempt {
        described: described.described.map(|described| DescribeTiming {
            at: now - REGROUP,
            ..described
        }),
        ..in_doubt
    };
    let share = SharingMode::Share;
    check(
        now,
        [
            (
                "doubt",
                doubted(share),
                described,
                SetupStep::Doubt(Doubt::Grown),
            ),
            (
                "likeness is harmless",
                harmless,
                described,
                SetupStep::SetUp(PATIENCE),
            ),
            (
                "cannot share",
                doubted(NO),
                described,
                SetupStep::SetUp(fenced()),
            ),
            (
                "dedicated",
                doubted(share),
                dedicated(described),
                SetupStep::SetUp(PATIENCE),
            ),
            (
                "harmless",
                checked(share, Finder::Known(true)),
                in_doubt,
                SetupStep::Believe,
            ),
            (
                "its turn",
                checked(share, Finder::You),
                in_doubt,
                SetupStep::CheckDescription(now + REGROUP),
            ),
            (
                "another checks",
                checked(share, Finder::Others),
                in_doubt,
                wait(now + REGROUP, WaitReason::DescriptionCheck),
            ),
            (
                "another checks for too long",
                checked(share, Finder::Others),
                late,
                SetupStep::Move(Move::InDoubt),
            ),
            (
                "it failed a moment ago",
                checked(share, Finder::Known(false)),
                in_doubt,
                SetupStep::Move(Move::InDoubt),
            ),
            (
                "a verdict came",
                checked(NO, Finder::Others),
                in_doubt,
                SetupStep::Believe,
            ),
        ],
    );
}

/// The patience with a SETUP where it may be ignored.
fn fenced() -> AnswerPatience {
    AnswerPatience {
        usual: PATIENCE.usual + FENCE,
        ..PATIENCE
    }
}

#[test]
fn f11_one_session_stays_where_the_server_cannot_share() {
    let now = Instant::now();
    let first = at(SetupStage::Described, now);
    let second = Attempt {
        described: first.described.map(|described| DescribeTiming {
            is_first: false,
            ..described
        }),
        ..first
    };
    let owned_by = |owner| {
        let view = beside(SUSPECTED, 2, 0);
        View {
            here: view.here.map(|here| ConnectionView {
                owner: Some(owner),
                ..here
            }),
            ..view
        }
    };
    let (stays, leaves) = (
        SetupStep::SetUp(fenced()),
        SetupStep::Move(Move::OthersStay),
    );
    let described = Attempt {
        goal: SetupStage::Described,
        ..second
    };
    check(
        now,
        [
            ("first of two", beside(SUSPECTED, 2, 0), first, stays),
            ("second of two", beside(SUSPECTED, 2, 0), second, leaves),
            (
                "second, described",
                beside(SUSPECTED, 2, 0),
                described,
                leaves,
            ),
            (
                "first, and another is set up",
                beside(SUSPECTED, 2, 1),
                first,
                leaves,
            ),
            (
                "first, after one that has left",
                beside(NO, 1, 1),
                first,
                leaves,
            ),
            ("owner", owned_by(OWN), first, stays),
            ("another owns it", owned_by(OTHER), first, leaves),
        ],
    );
}

#[test]
fn f11_a_session_stays_beside_others_where_no_other_was_asked_for_or_the_server_may_share() {
    let now = Instant::now();
    let first = at(SetupStage::Described, now);
    let second = Attempt {
        described: first.described.map(|described| DescribeTiming {
            is_first: false,
            ..described
        }),
        ..first
    };
    let (stays, leaves) = (
        SetupStep::SetUp(fenced()),
        SetupStep::Move(Move::OthersStay),
    );
    let untried = Attempt {
        is_tried: false,
        ..second
    };
    check(
        now,
        [
            (
                "described elsewhere",
                beside(SUSPECTED, 2, 0),
                undescribed(second),
                stays,
            ),
            (
                "shares",
                beside(SharingMode::Share, 2, 1),
                second,
                SetupStep::SetUp(PATIENCE),
            ),
            ("tried", beside(SharingMode::Try, 2, 1), second, stays),
            (
                "always, suspected",
                beside(SUSPECTED, 2, 1),
                untried,
                SetupStep::SetUp(PATIENCE),
            ),
            ("always, cannot share", beside(NO, 2, 0), untried, leaves),
            (
                "dedicated",
                beside(NO, 1, 0),
                dedicated(second),
                SetupStep::SetUp(fenced()),
            ),
            (
                "the connection is over",
                View {
                    here: None,
                    ..in_mode(SharingMode::Share)
                },
                second,
                SetupStep::SetUp(PATIENCE),
            ),
        ],
    );
}

/// It was described on another connection.
fn undescribed(attempt: Attempt) -> Attempt {
    Attempt {
        needs_describe: false,
        ..attempt
    }
}

#[test]
fn what_a_step_takes_of_others_is_taken_by_one_session() {
    let now = Instant::now();
    let first = at(SetupStage::Described, now);
    let stays = SetupStep::SetUp(fenced());
    let view = beside(SUSPECTED, 2, 0);
    assert!(takes_ownership(&view, &first, stays));
    assert!(takes_ownership(&view, &first, SetupStep::Done));
    assert!(!takes_ownership(
        &view,
        &first,
        SetupStep::Move(Move::OthersStay)
    ));
    assert!(!takes_ownership(&view, &dedicated(first), stays));
    assert!(!takes_ownership(&view, &undescribed(first), stays));
    assert!(!takes_ownership(&self::view(), &first, stays), "it shares");
    let aside = describe_only(first);
    let shares = uncounted(self::view());
    assert!(keeps_others_away(&shares, &aside, stays));
    assert!(!keeps_others_away(&shares, &first, stays));
    assert!(!keeps_others_away(&uncounted(view), &aside, stays));
}

#[test]
fn a_session_that_was_described_aside_goes_to_those_that_play() {
    let now = Instant::now();
    let aside = on(at(SetupStage::Described, now), |place| {
        place.is_aside = true
    });
    let spread = describe_only(at(SetupStage::Described, now));
    let input = RejoinInput {
        mode: SharingMode::Try,
        tells_apart: false,
        is_being_tried: true,
        is_describing: true,
        until: now + 500 * MS,
    };
    let tried = |input: RejoinInput| View {
        rejoin: Some(input),
        ..uncounted(in_mode(input.mode))
    };
    let share = RejoinInput {
        mode: SharingMode::Share,
        ..input
    };
    let known = RejoinInput {
        tells_apart: true,
        ..share
    };
    let decision = wait(now + 500 * MS, WaitReason::SharingDecision);
    let over = RejoinInput {
        is_being_tried: false,
        ..input
    };
    let rejoined = Attempt {
        has_rejoined: true,
        ..spread
    };
    let company = View {
        rejoin: Some(known),
        ..uncounted(beside(SharingMode::Share, 2, 0))
    };
    check(
        now,
        [
            ("shares", view(), aside, SetupStep::Rejoin),
            (
                "in band",
                in_mode(SharingMode::TryInBand),
                aside,
                SetupStep::Rejoin,
            ),
            (
                "tried",
                in_mode(SharingMode::Try),
                aside,
                SetupStep::SetUp(fenced()),
            ),
            ("verdict awaited", tried(input), spread, decision),
            ("others are checked", tried(share), spread, decision),
            (
                "no verdict",
                tried(over),
                spread,
                SetupStep::Move(Move::NotToRemain),
            ),
            ("known", tried(known), spread, SetupStep::Rejoin),
            (
                "no place",
                tried(known),
                rejoined,
                SetupStep::SetUp(PATIENCE),
            ),
            (
                "no place, with company",
                company,
                rejoined,
                SetupStep::Move(Move::NotToRemain),
            ),
        ],
    );
}

#[test]
fn it_waits_for_the_verdict_as_long_as_others_find_it_out() {
    let now = Instant::now();
    let facts = RejoinInput {
        mode: SharingMode::Try,
        tells_apart: false,
        is_being_tried: true,
        is_describing: true,
        until: now + 500 * MS,
    };
    let awaits = Some(wait(facts.until, WaitReason::SharingDecision));
    let leaves = Some(SetupStep::Move(Move::NotToRemain));
    assert_eq!(await_verdict(&facts, now), awaits);
    assert_eq!(await_verdict(&facts, facts.until), leaves);
    let untried = RejoinInput {
        is_being_tried: false,
        ..facts
    };
    assert_eq!(await_verdict(&untried, now), leaves);
    let apart = RejoinInput {
        mode: SharingMode::Apart(None),
        ..facts
    };
    assert_eq!(await_verdict(&apart, now), None);
}

#[test]
fn f11_it_waits_until_uris_are_known_to_be_told_apart() {
    let now = Instant::now();
    let facts = RejoinInput {
        mode: SharingMode::Share,
        tells_apart: false,
        is_being_tried: false,
        is_describing: true,
        until: now + 500 * MS,
    };
    let awaits = Some(wait(facts.until, WaitReason::SharingDecision));
    assert_eq!(await_verdict(&facts, now), awaits);
    assert_eq!(await_verdict(&facts, facts.until), None);
    for facts in [
        RejoinInput {
            tells_apart: true,
            ..facts
        },
        RejoinInput {
            is_describing: false,
            ..facts
        },
    ] {
        assert_eq!(await_verdict(&facts, now), None);
    }
}

#[test]
fn the_play_gate_holds_until_others_are_set_up_and_then_the_session_leaves() {
    let now = Instant::now();
    let set_up = at(SetupStage::SetUp, now);
    let tried = gate_of(SharingMode::Try, now);
    let company = PlayGateInput {
        references: 2,
        ..tried
    };
    let late = PlayGateInput {
        until: now,
        ..company
    };
    let canary = PlayGateInput {
        wants_canary: true,
        ..tried
    };
    let with_place = View {
        has_place: true,
        ..gated(late)
    };
    let mixed_up = on(
        Attempt {
            described: set_up.described.map(|described| DescribeTiming {
                is_first: false,
                ..described
            }),
            ..set_up
        },
        |place| place.was_shared = true,
    );
    let play = || SetupStep::Play(PATIENCE);
    let gate_wait = |until| wait(until, WaitReason::PlayGate);
    let untried = Attempt {
        is_tried: false,
        ..set_up
    };
    check(
        now,
        [
            ("alone", gated(tried), set_up, play()),
            (
                "shares",
                gated(gate_of(SharingMode::Share, now)),
                set_up,
                play(),
            ),
            ("company", gated(company), set_up, gate_wait(now + 500 * MS)),
            (
                "company for too long",
                with_place,
                set_up,
                SetupStep::Move(Move::HeldUp),
            ),
            (
                "no other place",
                gated(late),
                set_up,
                gate_wait(now + 50 * MS),
            ),
            ("canary", gated(canary), set_up, SetupStep::SendCanary),
            ("multiplex=always", gated(company), untried, play()),
            ("the connection is over", view(), set_up, play()),
            (
                "F11 mixed up",
                in_mode(ONE_FOR_ALL),
                mixed_up,
                SetupStep::Move(Move::MixedUp),
            ),
            ("F11 mixed up, first", in_mode(ONE_FOR_ALL), set_up, play()),
            (
                "F11 mixed up, dedicated",
                in_mode(ONE_FOR_ALL),
                dedicated(mixed_up),
                play(),
            ),
            ("refuses to share", in_mode(NO), mixed_up, play()),
            (
                "plays",
                view(),
                at(SetupStage::Playing, now),
                SetupStep::Done,
            ),
        ],
    );
}

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
fn f11_nothing_is_described_where_another_session_goes_on_alone() {
    let now = Instant::now();
    let owned_by = |owner| {
        let view = beside(ONE_FOR_ALL, 2, 1);
        View {
            here: view.here.map(|here| ConnectionView { owner, ..here }),
            ..view
        }
    };
    let describe = SetupStep::Describe(owned_by(None).answer_patience(Duration::ZERO));
    let unsent = with(asked(Operation::Describe, now), |it| it.is_unsent = true);
    let leaves = SetupStep::Move(Move::OthersStay);
    let placed = || at(SetupStage::Placed, now);
    let dedicated = Attempt {
        isolation: Isolation::Dedicated,
        ..placed()
    };
    check(
        now,
        [
            ("another's", owned_by(Some(OTHER)), placed(), leaves),
            ("another's, unsent", owned_by(Some(OTHER)), unsent, leaves),
            ("its own", owned_by(Some(OWN)), placed(), describe),
            ("without an owner", owned_by(None), placed(), describe),
            ("dedicated", owned_by(Some(OTHER)), dedicated, describe),
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
