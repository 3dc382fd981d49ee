//! From a set-up to PLAY.

use super::{tests::*, *};

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
