//! From nothing to a connection.

use super::{tests::*, *};

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
