//! What a connection shows while its sessions play, once in a period.
//!
//! Looked at while something is read anyway: a connection that is silent costs nothing.

use std::time::Instant;

use super::{sessions::Sessions, transport::Transport};
use crate::mux::{
    delivery::Budget,
    policy::congestion::{Reading, Strain, StrainWatch, Way},
    proto::Measures,
};

/// So much waiting for consumers is usual; beyond it what comes late may do so for us.
const BEHIND: usize = 4 * 1024 * 1024;

/// What was seen last, for statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Vitals {
    /// Why the connection is strained, if it is.
    pub(crate) strain: Option<Strain>,
    /// The last look was as bad.
    pub(crate) is_suffering: bool,
    /// The server is to be asked, for how long its answer takes.
    pub(crate) calls_for_answer: bool,
    /// Octets a second.
    pub(crate) rate: u64,
    /// RTP packets the server has left out since the connection was made.
    pub(crate) lost: u64,
    /// What the system says of the way; counted since the connection was made.
    pub(crate) way: Option<Way>,
}

/// Takes readings of one connection.
#[derive(Debug, Default)]
pub(super) struct Examination {
    watch: StrainWatch,
    vitals: Vitals,
    octets: u64,
    answers: u64,
    out_of_order: u32,
    since: Option<Instant>,
}

impl Examination {
    /// Looks, if it is time to; gives what was seen.
    pub(super) fn look(
        &mut self,
        now: Instant,
        octets: u64,
        measures: impl FnOnce() -> Measures,
        budget: &Budget,
        (sessions, transport): (&mut Sessions, &Transport),
    ) -> Option<Vitals> {
        if !self.watch.is_due(now) {
            return None;
        }
        let since = self.since.replace(now);
        let way = transport.way();
        let out_of_order = way.map_or(0, |way| way.out_of_order);
        let measures = measures();
        let is_answered = measures.lone_answers != self.answers;
        let mut reading = Reading {
            time: since.map_or_else(Default::default, |since| {
                now.saturating_duration_since(since)
            }),
            octets: octets.saturating_sub(self.octets),
            answer: measures.last_answer.filter(|_| is_answered),
            round_trip: measures.round_trip,
            way: way.map(|way| Way {
                out_of_order: out_of_order.wrapping_sub(self.out_of_order),
                ..way
            }),
            is_behind: budget.used() > BEHIND,
            ..Reading::default()
        };
        sessions.take_gaps(&mut reading);
        (self.octets, self.answers, self.out_of_order) =
            (octets, measures.lone_answers, out_of_order);
        // The first period has no beginning.
        since?;
        self.vitals = Vitals {
            strain: self.watch.on_reading(&reading),
            is_suffering: self.watch.was_bad(),
            calls_for_answer: reading.calls_for_answer(),
            rate: reading.rate(),
            lost: self.vitals.lost + reading.lost,
            way,
        };
        Some(self.vitals)
    }
}
