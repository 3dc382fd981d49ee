//! What is known of a session that is set up, of its server and of its connection, when it is decided
//! what it does next.

use std::time::{Duration, Instant};

use crate::mux::{
    ids::ConnectionId,
    policy::{
        failover::Tried,
        placement::{Isolation, RejoinInput},
        sharing::{
            Finder, SharingMode,
            descriptions::Doubt,
            play_gate::{PlayGate, PlayGateInput, gate},
        },
    },
    proto::{Presentation, SessionKey},
    stats::WaitReason,
};

/// How far a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SetupStage {
    /// It has no connection, and first waits for a decision on sharing.
    #[default]
    Undecided,
    /// It has no connection.
    Unplaced,
    /// It is on a connection, where it is to be described.
    Placed,
    /// What was described may be another URI.
    InDoubt,
    /// It is described.
    Described,
    /// It is set up.
    SetUp,
    /// PLAY was answered.
    Playing,
}

/// What a session has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A connection is made, or becomes free.
    Connect,
    /// A request of its own: DESCRIBE, all its SETUPs, PLAY.
    Describe,
    SetUp,
    Play,
    /// Its URI is described once more on a fresh connection.
    CheckDescription,
    /// It goes from where it was described to those that play.
    Rejoin,
    /// One SETUP more, which shows whether the server shares.
    Canary,
}

impl Operation {
    /// Whether it is a request of the session's own, which may wait behind those of others.
    pub(crate) fn is_request(self) -> bool {
        matches!(self, Self::Describe | Self::SetUp | Self::Play)
    }
}

/// How long a request waits behind those of other sessions before its session turns elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AnswerPatience {
    pub(crate) usual: Duration,
    /// Behind a DESCRIBE that keeps it from being sent at all.
    pub(crate) behind_describe: Duration,
    /// Behind a DESCRIBE that may have been lost.
    pub(crate) behind_lost: Duration,
}

/// A session's operation under way, and what is in front of it on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnderWay {
    pub(crate) operation: Operation,
    pub(crate) since: Instant,
    pub(crate) patience: AnswerPatience,
    /// It was not sent yet.
    pub(crate) is_unsent: bool,
    /// Since when another session's request is at the head of the line, or one of its own that may have
    /// been lost.
    pub(crate) blocked_since: Option<Instant>,
    /// The request at the head of the line is its own.
    pub(crate) is_at_head: bool,
    /// The request at the head of the line is a DESCRIBE.
    pub(crate) is_behind_describe: bool,
    /// The request at the head of the line is a DESCRIBE that may have been lost; it may be its own.
    pub(crate) is_behind_lost: bool,
}

impl UnderWay {
    /// Until when it waits behind the request of another session, if it does.
    pub(super) fn blocked_until(&self) -> Option<Instant> {
        let patience = match (self.is_behind_lost, self.is_behind_describe) {
            (true, _) => self.patience.behind_lost,
            (false, true) => self.patience.behind_describe,
            (false, false) => self.patience.usual,
        };
        self.blocked_since.map(|since| since + patience)
    }

    /// Whether other sessions are in front of it, so that what the pool knows decides.
    pub(crate) fn is_behind_others(&self) -> bool {
        self.is_unsent || self.blocked_since.is_some()
    }
}

/// How long a session's DESCRIBE took, and when it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DescribeTiming {
    pub(crate) took: Duration,
    pub(crate) at: Instant,
    /// Its connection was asked for this URI before any other.
    pub(crate) is_first: bool,
}

/// The connection that a session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetupPlace {
    pub(crate) id: ConnectionId,
    pub(crate) session: SessionKey,
    /// It is there to be described only; sessions play on another one.
    pub(crate) is_aside: bool,
    /// The connection was made for descriptions alone.
    pub(crate) is_describe_only: bool,
    /// The server has answered there since the connection was last idle.
    pub(crate) is_proven: bool,
    /// Other sessions were there at the same time.
    pub(crate) was_shared: bool,
}

/// Whether a session that wants to play is to send a canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CanaryState {
    /// It sends one if the server is to be tried.
    #[default]
    Possible,
    /// Other sessions wait for its canary.
    Promised,
    /// It has sent one, or is not to be held up any more.
    Spent,
}

/// Sessions that have left the server and may be there still when another one asks for a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PendingTeardowns {
    #[default]
    Unseen,
    /// There are some.
    Seen,
    /// They may be why there was no place.
    InTheWay,
    /// They have gone, or were waited for in vain.
    Awaited,
}

/// What a session knows of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) stage: SetupStage,
    /// How far it is to get.
    pub(crate) goal: SetupStage,
    /// It takes part in trials: with settings other than `multiplex=auto` all is said beforehand.
    pub(crate) is_tried: bool,
    pub(crate) isolation: Isolation,
    /// How long it waits for a place.
    pub(crate) connect_timeout: Duration,
    /// The reason of the wait that goes on, and when that began.
    pub(crate) waits: Option<(WaitReason, Instant)>,
    pub(crate) under_way: Option<UnderWay>,
    pub(crate) tried: Tried,
    pub(crate) place: Option<SetupPlace>,
    /// It has its description, perhaps from another connection: where the server shares, it need not be
    /// asked for again.
    pub(crate) is_described: bool,
    pub(crate) described: Option<DescribeTiming>,
    /// It was described where it is.
    pub(crate) needs_describe: bool,
    /// It went to a describe-only connection, if there was one.
    pub(crate) is_spread: bool,
    /// It has tried to go to those that play.
    pub(crate) has_rejoined: bool,
    pub(crate) canary: CanaryState,
    pub(crate) pending_teardowns: PendingTeardowns,
    /// It was refused for want of room, and is not the one that looks for room.
    pub(crate) seeks_capacity: bool,
    /// The server has refused it before.
    pub(crate) has_refusal: bool,
}

impl Attempt {
    pub(super) fn is_dedicated(&self) -> bool {
        self.isolation == Isolation::Dedicated
    }

    /// Whether a description holds on every connection of a server with this mode: a server that
    /// shares says it once; with others a connection may be bound to what it described first.
    pub(crate) fn is_described_once(&self, mode: SharingMode) -> bool {
        self.is_tried && !self.is_dedicated() && mode == SharingMode::Share
    }

    pub(super) fn is_first(&self) -> bool {
        self.described.is_some_and(|described| described.is_first)
    }

    /// Since when it waits for `reason`.
    pub(crate) fn waits_since(&self, reason: WaitReason, now: Instant) -> Instant {
        let waits = self.waits.filter(|(other, _)| *other == reason);
        waits.map_or(now, |(_, since)| since)
    }

    /// Whether it may have to turn to another connection now, so that it matters whether there is one.
    pub(crate) fn may_turn(&self, input: Option<&PlayGateInput>, now: Instant) -> bool {
        match self.under_way {
            Some(under_way) => under_way.blocked_until().is_some_and(|until| now >= until),
            None => input.is_some_and(|input| gate(input, now) == PlayGate::Leave),
        }
    }
}

/// What the pool knows of the connection that a session is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionView {
    /// Sessions, this one included.
    pub(crate) references: u32,
    /// Sessions that are set up.
    pub(crate) set_up: u32,
    /// A session was set up since it was last idle.
    pub(crate) had_session: bool,
    /// Several presentations were described.
    pub(crate) has_described_several: bool,
    /// The session that goes on here although the others are to leave.
    pub(crate) owner: Option<SessionKey>,
    /// It counts against the user's limit.
    pub(crate) is_counted: bool,
}

/// What the pool knows that concerns one session, at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Whether the server shares.
    pub(crate) mode: SharingMode,
    /// Whether connections broke off when this session was added to them.
    pub(crate) is_isolated: bool,
    /// Which session finds out whether the server shares.
    pub(crate) deciding: Finder,
    /// Whether there is room on another connection.
    pub(crate) room: Finder,
    pub(crate) has_pending_teardowns: bool,
    /// Whether likeness of descriptions is harmless.
    pub(crate) check: Finder,
    /// Why its description, which has just come, may be that of another URI.
    pub(crate) doubt: Option<Doubt>,
    /// How it was described when it was last played, where that may be relied on.
    pub(crate) remembered: Option<Presentation>,
    pub(crate) patience: Duration,
    pub(crate) describe_patience: Duration,
    pub(crate) lost_patience: Duration,
    /// The server is known to describe each URI of a connection as itself.
    pub(crate) tells_apart: bool,
    /// Requests that would add a session are ignored, or would come to nothing.
    pub(crate) is_ignoring: bool,
    /// One presentation is described on a connection, as long as no canary has passed.
    pub(crate) describes_one: bool,
    /// A server that has answered on another describe-only connection, or may not answer this URI.
    pub(crate) may_answer_late: bool,
    /// None: the session has none, or it is over.
    pub(crate) here: Option<ConnectionView>,
    /// Before SETUP.
    pub(crate) rejoin: Option<RejoinInput>,
    /// Before PLAY; none if the connection is over.
    pub(crate) gate: Option<PlayGateInput>,
    /// There is another connection for it, if it [may have to turn](Attempt::may_turn) to one.
    pub(crate) has_place: bool,
    /// Its unsent DESCRIBE would be answered sooner on another connection.
    pub(crate) is_described_sooner_elsewhere: bool,
}

impl View {
    pub(super) fn answer_patience(&self, more: Duration) -> AnswerPatience {
        let usual = self.patience + more;
        AnswerPatience {
            usual,
            behind_describe: self.describe_patience.min(usual),
            behind_lost: self.lost_patience.min(self.describe_patience),
        }
    }
}
