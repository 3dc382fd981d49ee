//! From a connection to a set-up.

use super::{tests::*, *};

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
    let shared = |attempt: Attempt| Attempt {
        place: attempt.place.map(|place| SetupPlace {
            was_shared: true,
            ..place
        }),
        ..attempt
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
            (
                "first, after another was described",
                beside(SUSPECTED, 1, 0),
                shared(first),
                leaves,
            ),
            ("owner", owned_by(OWN), first, stays),
            ("another owns it", owned_by(OTHER), first, leaves),
        ],
    );
}

#[test]
fn where_one_presentation_is_described_on_a_connection_its_session_sends_the_canary() {
    let now = Instant::now();
    let shared = |attempt| on(attempt, |place| place.was_shared = true);
    let first = shared(at(SetupStage::Described, now));
    let promised = Attempt {
        canary: CanaryState::Promised,
        ..first
    };
    let described = Attempt {
        goal: SetupStage::Described,
        ..first
    };
    let second = Attempt {
        described: first.described.map(|described| DescribeTiming {
            is_first: false,
            ..described
        }),
        ..first
    };
    let one = |deciding| View {
        deciding,
        describes_one: true,
        ..beside(SUSPECTED, 4, 0)
    };
    let several = |view: View| View {
        here: view.here.map(|here| ConnectionView {
            has_described_several: true,
            ..here
        }),
        ..view
    };
    let stays = SetupStep::SetUp(fenced());
    let waits = with(asked(Operation::Describe, now), |it| it.is_unsent = true);
    let owned = |deciding| {
        let view = one(deciding);
        View {
            here: view.here.map(|here| ConnectionView {
                owner: Some(OTHER),
                ..here
            }),
            ..view
        }
    };
    let leaves = SetupStep::Move(Move::OthersStay);
    check(
        now,
        [
            (
                "waits for it",
                owned(Finder::Others),
                waits,
                SetupStep::Wait(None, WaitReason::Unsent),
            ),
            (
                "it is not found out",
                owned(Finder::Known(false)),
                waits,
                leaves,
            ),
            ("first", one(Finder::You), first, SetupStep::PromiseCanary),
            (
                "asked to be described",
                one(Finder::You),
                described,
                SetupStep::PromiseCanary,
            ),
            (
                "and described as the first one",
                View {
                    doubt: Some(Doubt::SameDescription),
                    check: Finder::You,
                    ..several(one(Finder::Others))
                },
                second,
                SetupStep::Doubt(Doubt::SameDescription),
            ),
            (
                "described while the canary was on its way back",
                several(one(Finder::Others)),
                second,
                wait(now + PATIENCE.usual, WaitReason::SharingDecision),
            ),
            ("has promised", one(Finder::Others), promised, stays),
            ("another finds it out", one(Finder::Others), first, stays),
            (
                "others were described before that was known",
                several(one(Finder::You)),
                first,
                SetupStep::Move(Move::OthersStay),
            ),
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
