//! What a session does next on its way from DESCRIBE to PLAY: the decision, without I/O.
//!
//! The pool takes a [`View`], one snapshot of all that it knows, and [`next_step`] decides from it and
//! from the session's [`Attempt`]. Each row of the tests is one view, one attempt and one step.

mod facts;

use std::time::{Duration, Instant};

pub(crate) use self::facts::{
    AnswerPatience, Attempt, CanaryState, ConnectionView, DescribeTiming, Operation,
    PendingTeardowns, SetupPlace, SetupStage, UnderWay, View,
};
use super::{
    placement::{Isolation, RejoinInput},
    sharing::{
        Evidence, Finder, SharingMode,
        descriptions::Doubt,
        play_gate::{FENCE, PlayGate, REGROUP, gate, patience},
    },
};
use crate::mux::stats::WaitReason;

/// Where there is no other place, one may become free: that is looked at this often.
const NEXT_LOOK: Duration = Duration::from_millis(50);

/// A session that has been on so many connections waits for the answer to its PLAY, whatever is before
/// it, and to its own DESCRIBE that may have been lost: a server that answers no PLAY is set up once for
/// each of them, and one that loses requests would make two sessions leave each of them together.
const MOST_BEFORE_ANSWER: usize = 4;

/// How long after a refusal a server may close the connection for it: gortsplib does at once.
const SHORTEST_CLOSE: Duration = Duration::from_millis(20);
const LONGEST_CLOSE: Duration = Duration::from_millis(200);

/// The same of a server that is so far away, where that is known.
pub(crate) fn closes_within(round_trip: Option<Duration>) -> Duration {
    let close = round_trip.map(|path| path.saturating_mul(4));
    close.map_or(LONGEST_CLOSE, |close| {
        close.clamp(SHORTEST_CLOSE, LONGEST_CLOSE)
    })
}

/// What a session does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetupStep {
    /// Nothing: it is as far as it is to get.
    Done,
    /// Promises a canary: until then other sessions wait.
    PromiseCanary,
    /// Looks for room on a fresh connection, for all sessions that were refused.
    ProbeCapacity,
    /// Sessions that had left are gone: there may be room now.
    NoteRoom,
    /// Takes a connection.
    Connect {
        /// Its presentation is to be described there.
        needs_describe: bool,
        isolation: Isolation,
    },
    Describe(AnswerPatience),
    /// Has its description checked before it is set up.
    Doubt(Doubt),
    /// Describes its URI once more on a fresh connection, until then.
    CheckDescription(Instant),
    /// Takes its description for its own.
    Believe,
    /// Goes to the sessions that play.
    Rejoin,
    SetUp(AnswerPatience),
    SendCanary,
    Play(AnswerPatience),
    /// Waits until something changes or its answer comes, but not longer.
    Wait(Option<Instant>, WaitReason),
    /// Goes to another connection.
    Move(Move),
    /// Fails with what the server said.
    Fail,
}

/// Why a session goes to another connection; it says what kind of connection that is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// One session alone may stay here, and it is another one.
    OthersStay,
    /// Other sessions are in the way of its request, or take too long.
    HeldUp,
    /// It is described sooner on a connection with fewer sessions.
    Spread,
    /// The server does not answer on its describe-only connection.
    Ignored,
    /// It could not leave its describe-only connection in time.
    NotToRemain,
    /// It could not be found out whether it was described as itself.
    InDoubt,
    /// The server takes sessions of a connection for one another.
    MixedUp,
}

/// Decides what the session does next.
pub(crate) fn next_step(view: &View, attempt: &Attempt, now: Instant) -> SetupStep {
    if let Some(under_way) = &attempt.under_way {
        return while_under_way(view, attempt, under_way, now);
    }
    match attempt.stage {
        SetupStage::Undecided => {
            decide(view, attempt, now).unwrap_or_else(|| place(view, attempt, now))
        }
        SetupStage::Unplaced => place(view, attempt, now),
        SetupStage::Placed if belongs_to_another(view, attempt) => {
            SetupStep::Move(Move::OthersStay)
        }
        SetupStage::Placed => SetupStep::Describe(view.answer_patience(Duration::ZERO)),
        SetupStage::InDoubt => check_description(view, attempt, now),
        SetupStage::Described => set_up(view, attempt, now),
        SetupStage::SetUp => play(view, attempt, now),
        SetupStage::Playing => SetupStep::Done,
    }
}

/// While it is not known whether the server can share, one session finds that out; the others wait
/// for it for a moment instead of taking a connection each.
fn decide(view: &View, attempt: &Attempt, now: Instant) -> Option<SetupStep> {
    if !attempt.is_tried || attempt.is_dedicated() || attempt.canary == CanaryState::Promised {
        return None;
    }
    let reason = WaitReason::SharingDecision;
    // The session that decides may have a dead camera, and find out nothing.
    let until = attempt.waits_since(reason, now) + view.patience.min(REGROUP);
    match view.deciding {
        Finder::You => Some(SetupStep::PromiseCanary),
        Finder::Others if now < until => Some(SetupStep::Wait(Some(until), reason)),
        Finder::Others | Finder::Known(_) => None,
    }
}

fn place(view: &View, attempt: &Attempt, now: Instant) -> SetupStep {
    if let Some(step) = seek_capacity(view, attempt, now) {
        return step;
    }
    // What was played before need not be described first, where the server shares and a SETUP may
    // follow an unanswered DESCRIBE.
    let is_described = attempt.is_described || view.remembered.is_some();
    SetupStep::Connect {
        needs_describe: !is_described || !attempt.is_described_once(view.mode),
        isolation: match attempt.is_tried && view.is_isolated {
            true => Isolation::Dedicated,
            false => attempt.isolation,
        },
    }
}

/// After a refusal for want of room: none if there may be some on another connection.
fn seek_capacity(view: &View, attempt: &Attempt, now: Instant) -> Option<SetupStep> {
    if !attempt.seeks_capacity {
        return None;
    }
    if attempt.pending_teardowns == PendingTeardowns::InTheWay {
        // As long as one request waits for another: a TEARDOWN may be stuck behind a slow DESCRIBE.
        let reason = WaitReason::Teardowns;
        let until = attempt.waits_since(reason, now) + view.patience;
        return Some(match view.has_pending_teardowns && now < until {
            true => SetupStep::Wait(Some(until), reason),
            false => SetupStep::NoteRoom,
        });
    }
    let reason = WaitReason::Capacity;
    let until = attempt.waits_since(reason, now) + attempt.connect_timeout;
    match view.room {
        Finder::You => Some(SetupStep::ProbeCapacity),
        Finder::Others if now < until => Some(SetupStep::Wait(Some(until), reason)),
        Finder::Known(false) => attempt.has_refusal.then_some(SetupStep::Fail),
        Finder::Others | Finder::Known(true) => None,
    }
}

/// Until it is known whether the server describes the URIs of a connection as themselves.
fn check_description(view: &View, attempt: &Attempt, now: Instant) -> SetupStep {
    if matches!(view.mode, SharingMode::Apart(_)) && !view.describes_one {
        return SetupStep::Believe;
    }
    let described = attempt.described;
    let until = described.map_or(now, |described| {
        described.at + patience(described.took).max(REGROUP)
    });
    match view.check {
        Finder::Known(true) => SetupStep::Believe,
        Finder::You => SetupStep::CheckDescription(until),
        Finder::Others if now < until => SetupStep::Wait(Some(until), WaitReason::DescriptionCheck),
        Finder::Others | Finder::Known(false) => SetupStep::Move(Move::InDoubt),
    }
}

fn set_up(view: &View, attempt: &Attempt, now: Instant) -> SetupStep {
    let is_apart = matches!(view.mode, SharingMode::Apart(_));
    if let Some(doubt) = view.doubt
        && !attempt.is_dedicated()
        && (!is_apart || view.describes_one)
        && view.check != Finder::Known(true)
    {
        return SetupStep::Doubt(doubt);
    }
    let stays = !attempt.needs_describe || may_stay(view, attempt);
    // The server has answered the canary, which is known in a moment.
    let until = attempt.described.map_or(now, |described| described.at) + view.patience;
    let is_decided_soon = view.describes_one && view.deciding == Finder::Others && now < until;
    if !stays && is_decided_soon {
        return SetupStep::Wait(Some(until), WaitReason::SharingDecision);
    }
    // Before another session on another connection finds it out.
    if stays && view.describes_one && attempt.is_tried && view.deciding == Finder::You {
        return SetupStep::PromiseCanary;
    }
    if attempt.goal == SetupStage::Described {
        return match stays {
            true => SetupStep::Done,
            false => SetupStep::Move(Move::OthersStay),
        };
    }
    let is_on_describe_only = is_on_describe_only(view, attempt);
    if is_on_describe_only
        && let Some(input) = &view.rejoin
        && let Some(step) = await_verdict(input, now)
    {
        return step;
    }
    if !stays {
        return SetupStep::Move(Move::OthersStay);
    }
    let shares = matches!(view.mode, SharingMode::Share | SharingMode::TryInBand);
    if shares && !attempt.has_rejoined && attempt.place.is_some_and(|place| place.is_aside) {
        return SetupStep::Rejoin;
    }
    // Not beside others, with which the server would have to share the connection.
    let has_company = view.here.is_some_and(|here| here.references > 1);
    if is_on_describe_only && !is_apart && has_company {
        return SetupStep::Move(Move::NotToRemain);
    }
    // Where a session that would be added is ignored, that is what is found out meanwhile.
    let fence = match attempt.is_tried && view.mode != SharingMode::Share {
        true => FENCE,
        false => Duration::ZERO,
    };
    SetupStep::SetUp(view.answer_patience(fence))
}

/// What a session does that was described on a describe-only connection, as long as it is not known
/// whether it may go to those that play. None: it goes on, to a connection that counts, or by the rules
/// for a server that cannot share.
fn await_verdict(input: &RejoinInput, now: Instant) -> Option<SetupStep> {
    let awaits = match input.mode {
        SharingMode::Apart(_) => false,
        // Where it is not known, the session finds it out itself.
        SharingMode::Share | SharingMode::TryInBand => !input.tells_apart && input.is_describing,
        SharingMode::Try => input.is_being_tried,
    };
    if awaits && now < input.until {
        let reason = WaitReason::SharingDecision;
        return Some(SetupStep::Wait(Some(input.until), reason));
    }
    // It is described again where it can stay: nothing more will be known in time.
    (input.mode == SharingMode::Try).then_some(SetupStep::Move(Move::NotToRemain))
}

/// Whether another session goes on here, at a server that cannot share: a DESCRIBE between its SETUP
/// and its PLAY costs it its session (ZLMediaKit). Or at one where no session is finding that out any
/// more.
fn belongs_to_another(view: &View, attempt: &Attempt) -> bool {
    let owner = view.here.and_then(|here| here.owner);
    let waits_in_vain = view.describes_one && view.deciding != Finder::Others;
    (matches!(view.mode, SharingMode::Apart(Some(_))) || waits_in_vain)
        && !attempt.is_dedicated()
        && owner.is_some_and(|owner| attempt.place.is_some_and(|place| place.session != owner))
}

/// Whether a session that is described may be set up on its connection.
///
/// On a connection of a server that cannot share, or is suspected of that, only one session may go
/// on: the one whose URI the server was asked for first there, for the server may stay with it
/// (go2rtc, ZLMediaKit). If that session has gone, none may. Nor may any that was there with others, unless
/// the server is known to do no worse.
fn may_stay(view: &View, attempt: &Attempt) -> bool {
    let (SharingMode::Apart(verdict), Some(here), Some(place)) =
        (view.mode, view.here, attempt.place)
    else {
        return true;
    };
    if attempt.is_dedicated() || !(attempt.is_tried || verdict.is_some()) {
        return true;
    }
    // The server may still hold what other sessions had there, refused ones too.
    if here.owner.is_none() && here.had_session && verdict.is_some() {
        return false;
    }
    // The server may play every URI that was described here on the connection (PHZ76/RtspServer).
    let is_alone = view.describes_one && !here.has_described_several;
    if place.was_shared && !is_alone && verdict.is_none_or(Evidence::mixes_sessions) {
        return false;
    }
    let is_first = attempt.is_first() && (here.references < 2 || here.set_up == 0);
    is_first && here.owner.is_none_or(|owner| owner == place.session)
}

/// Whether the session is only to be described on its connection.
fn is_on_describe_only(view: &View, attempt: &Attempt) -> bool {
    attempt.is_spread
        && attempt.place.is_some_and(|place| place.is_describe_only)
        && !view.here.is_some_and(|here| here.is_counted)
}

/// Whether the server has answered nothing on the describe-only connection: it may have no place for
/// it, and leave it where its kernel has it. One that has answered on another one has places for
/// them, and behind a DESCRIBE that was not answered there may be more of the kind: then it is what
/// was asked for that is not answered.
pub(crate) fn is_ignored_aside(view: &View, attempt: &Attempt) -> bool {
    is_on_describe_only(view, attempt)
        && !attempt.place.is_some_and(|place| place.is_proven)
        && !view.may_answer_late
}

fn play(view: &View, attempt: &Attempt, now: Instant) -> SetupStep {
    if is_mixed_up(view, attempt) {
        return SetupStep::Move(Move::MixedUp);
    }
    let play = SetupStep::Play(view.answer_patience(Duration::ZERO));
    let Some(input) = view.gate.as_ref().filter(|_| attempt.is_tried) else {
        // Its settings say beforehand that it shares, or that it does not; or the connection is over,
        // and the PLAY will fail and say so.
        return play;
    };
    match gate(input, now) {
        PlayGate::Play => play,
        PlayGate::Canary => SetupStep::SendCanary,
        PlayGate::Leave if view.has_place => SetupStep::Move(Move::HeldUp),
        PlayGate::Leave => SetupStep::Wait(Some(now + NEXT_LOOK), WaitReason::PlayGate),
        PlayGate::Hold(until) => SetupStep::Wait(Some(until), WaitReason::PlayGate),
    }
}

/// Whether the server turned out to take sessions of one connection for one another after this one
/// was set up beside others: it may be played under another's name.
fn is_mixed_up(view: &View, attempt: &Attempt) -> bool {
    attempt.described.is_some()
        && !attempt.is_dedicated()
        && attempt.place.is_some_and(|place| place.was_shared)
        && !attempt.is_first()
        && matches!(view.mode, SharingMode::Apart(Some(evidence)) if evidence.shows_one_for_all())
}

/// The answer is waited for, unless the session had better turn to another connection: one slow
/// DESCRIBE held the answers of all sessions for 20 s on gst-rtsp-server. The session whose request is
/// the slow one stays, except on a describe-only connection on which the server has answered nothing.
fn while_under_way(
    view: &View,
    attempt: &Attempt,
    under_way: &UnderWay,
    now: Instant,
) -> SetupStep {
    let is_patient = attempt.tried.connections >= MOST_BEFORE_ANSWER;
    let waits_for_own = is_patient && under_way.is_at_head;
    let reason = match under_way.operation {
        Operation::Connect => WaitReason::Connection,
        Operation::CheckDescription | Operation::Rejoin => WaitReason::DescriptionCheck,
        Operation::Canary => WaitReason::Canary,
        _ if under_way.is_unsent => WaitReason::Unsent,
        _ if under_way.blocked_since.is_some() && !waits_for_own => WaitReason::HeadOfLine,
        _ => WaitReason::Answer,
    };
    if !under_way.operation.is_request() {
        return SetupStep::Wait(None, reason);
    }
    let is_describe = under_way.operation == Operation::Describe;
    if is_describe && under_way.is_unsent && view.is_described_sooner_elsewhere {
        return SetupStep::Move(Move::Spread);
    }
    if is_describe && under_way.is_unsent && belongs_to_another(view, attempt) {
        return SetupStep::Move(Move::OthersStay);
    }
    let is_play = under_way.operation == Operation::Play;
    let may_turn = !(is_patient && (is_play || under_way.is_at_head));
    let blocked_until = blocked_until(view, under_way).filter(|_| may_turn);
    let is_held_up = blocked_until.is_some_and(|until| now >= until) && view.has_place;
    let ignored_until = (is_describe && is_ignored_aside(view, attempt))
        .then_some(under_way.since + under_way.patience.usual);
    let is_ignored = ignored_until.is_some_and(|until| now >= until);
    if is_held_up || is_ignored || is_doomed(view, attempt, under_way.operation) {
        return SetupStep::Move(match ignored_until {
            Some(_) => Move::Ignored,
            None => Move::HeldUp,
        });
    }
    let blocked_until = blocked_until.map(|until| until.max(now + NEXT_LOOK));
    let until = blocked_until.into_iter().chain(ignored_until).min();
    SetupStep::Wait(until, reason)
}

/// Until when it waits behind the request of another session, if it does. What was learned since it asked
/// makes no DESCRIBE a lost one that is only slow.
fn blocked_until(view: &View, under_way: &UnderWay) -> Option<Instant> {
    let mut under_way = *under_way;
    let lost = under_way.patience.behind_lost;
    under_way.patience.behind_lost = lost.max(view.answer_patience(Duration::ZERO).behind_lost);
    under_way.blocked_until()
}

/// Whether a session is to leave the connection on which it waits for its answer, because the server
/// is known to ignore requests.
fn is_doomed(view: &View, attempt: &Attempt, operation: Operation) -> bool {
    let (Some(here), Some(place)) = (view.here, attempt.place) else {
        return false;
    };
    // The answer may have been for a session that has left since.
    attempt.is_tried
        && operation != Operation::Play
        && view.is_ignoring
        && place.was_shared
        && (here.set_up > 0 || operation == Operation::Describe)
        && here.owner != Some(place.session)
}

/// Whether the session is from now on the one that goes on where it is although the others leave.
pub(crate) fn takes_ownership(view: &View, attempt: &Attempt, step: SetupStep) -> bool {
    attempt.stage == SetupStage::Described
        && matches!(
            step,
            SetupStep::Done | SetupStep::PromiseCanary | SetupStep::Rejoin | SetupStep::SetUp(_)
        )
        && matches!(view.mode, SharingMode::Apart(verdict) if attempt.is_tried || verdict.is_some())
        && attempt.needs_describe
        && !attempt.is_dedicated()
}

/// Whether the session stays on its describe-only connection: no other session is to come there.
pub(crate) fn keeps_others_away(view: &View, attempt: &Attempt, step: SetupStep) -> bool {
    matches!(step, SetupStep::SetUp(_))
        && !matches!(view.mode, SharingMode::Apart(_))
        && is_on_describe_only(view, attempt)
}

#[cfg(test)]
mod describe_tests;
#[cfg(test)]
mod place_tests;
#[cfg(test)]
mod play_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod under_way_tests;
