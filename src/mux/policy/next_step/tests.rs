//! What the tests of the steps share: a view, an attempt, and changes to them.

use std::time::{Duration, Instant};

use super::*;
pub(super) use crate::mux::{
    ids::ConnectionId,
    policy::{
        failover::Tried,
        sharing::{Evidence, play_gate::PlayGateInput},
    },
    proto::SessionKey,
};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const TAKEN: ConnectionId = ConnectionId(1);
pub(super) const OWN: SessionKey = SessionKey(1);
pub(super) const OTHER: SessionKey = SessionKey(2);
pub(super) const NO: SharingMode = SharingMode::Apart(Some(Evidence::Closed));
pub(super) const SUSPECTED: SharingMode = SharingMode::Apart(None);
pub(super) const ONE_FOR_ALL: SharingMode = SharingMode::Apart(Some(Evidence::SameDescription));
pub(super) const PATIENCE: AnswerPatience = AnswerPatience {
    usual: Duration::from_millis(500),
    behind_describe: Duration::from_millis(300),
    behind_lost: Duration::from_millis(100),
};

/// One connection with one session, at a server that shares.
pub(super) fn view() -> View {
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
        lost_patience: PATIENCE.behind_lost,
        tells_apart: true,
        is_ignoring: false,
        describes_one: false,
        may_answer_late: false,
        here: Some(ConnectionView {
            references: 1,
            set_up: 0,
            had_session: false,
            has_described_several: false,
            owner: None,
            is_counted: true,
        }),
        rejoin: None,
        gate: None,
        has_place: false,
        is_described_sooner_elsewhere: false,
    }
}

pub(super) fn in_mode(mode: SharingMode) -> View {
    View { mode, ..view() }
}

/// Where so many sessions are, of which so many are set up.
pub(super) fn beside(mode: SharingMode, references: u32, set_up: u32) -> View {
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
pub(super) fn at(stage: SetupStage, now: Instant) -> Attempt {
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
pub(super) fn asked(operation: Operation, now: Instant) -> Attempt {
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
            is_at_head: false,
            is_behind_describe: false,
            is_behind_lost: false,
        }),
        ..at(stage, now)
    }
}

pub(super) fn with(attempt: Attempt, change: impl FnOnce(&mut UnderWay)) -> Attempt {
    let mut under_way = attempt.under_way;
    if let Some(under_way) = &mut under_way {
        change(under_way);
    }
    Attempt {
        under_way,
        ..attempt
    }
}

pub(super) fn on(attempt: Attempt, change: impl FnOnce(&mut SetupPlace)) -> Attempt {
    let mut place = attempt.place;
    if let Some(place) = &mut place {
        change(place);
    }
    Attempt { place, ..attempt }
}

pub(super) fn dedicated(attempt: Attempt) -> Attempt {
    Attempt {
        isolation: Isolation::Dedicated,
        ..attempt
    }
}

/// On a connection for descriptions alone, where nothing was answered.
pub(super) fn describe_only(attempt: Attempt) -> Attempt {
    let attempt = on(attempt, |place| {
        (place.is_aside, place.is_describe_only) = (true, true);
        place.is_proven = false;
    });
    Attempt {
        is_spread: true,
        ..attempt
    }
}

pub(super) fn uncounted(view: View) -> View {
    View {
        here: view.here.map(|here| ConnectionView {
            is_counted: false,
            ..here
        }),
        ..view
    }
}

pub(super) fn waiting(attempt: Attempt, reason: WaitReason, since: Instant) -> Attempt {
    Attempt {
        waits: Some((reason, since)),
        ..attempt
    }
}

pub(super) fn wait(until: Instant, reason: WaitReason) -> SetupStep {
    SetupStep::Wait(Some(until), reason)
}

pub(super) fn connect(needs_describe: bool, isolation: Isolation) -> SetupStep {
    SetupStep::Connect {
        needs_describe,
        isolation,
    }
}

pub(super) fn gate_of(mode: SharingMode, now: Instant) -> PlayGateInput {
    PlayGateInput {
        mode,
        references: 1,
        intents: 0,
        ends_describing: false,
        is_endangered: false,
        in_doubt_until: None,
        is_tried_elsewhere: false,
        wants_canary: false,
        suspect_until: None,
        until: now + 500 * MS,
        intents_until: now + 20 * MS,
    }
}

pub(super) fn gated(gate: PlayGateInput) -> View {
    View {
        gate: Some(gate),
        ..in_mode(gate.mode)
    }
}

pub(super) type Row = (&'static str, View, Attempt, SetupStep);

pub(super) fn check(now: Instant, rows: impl IntoIterator<Item = Row>) {
    for (name, view, attempt, expected) in rows {
        assert_eq!(next_step(&view, &attempt, now), expected, "{name}");
    }
}

/// The patience with a SETUP where it may be ignored.
pub(super) fn fenced() -> AnswerPatience {
    AnswerPatience {
        usual: PATIENCE.usual + FENCE,
        ..PATIENCE
    }
}

/// It was described on another connection.
pub(super) fn undescribed(attempt: Attempt) -> Attempt {
    Attempt {
        needs_describe: false,
        ..attempt
    }
}
