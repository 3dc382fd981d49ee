//! The probe: does the server keep the connection open after a DESCRIBE of a resource that does not
//! exist?
//!
//! MediaMTX and ZLMediaKit close the connection after a 404, and with it all sessions on it; some
//! cameras answer only one DESCRIBE on a connection. So on a connection where nothing plays the
//! core sends such a DESCRIBE on purpose, and one OPTIONS once it is answered. If the OPTIONS is
//! answered too, the connection has survived, and no session had to wait for a close that does not
//! come.

use std::time::Instant;

use rtsp_types::Method;
use url::Url;

use super::{Connection, ConnectionPhase, draft::Purpose};
use crate::mux::proto::event::{CloseReason, Event, ProbeOutcome};

/// Statuses with which servers refuse a second DESCRIBE as such.
const REFUSALS: [u16; 10] = [400, 405, 406, 451, 454, 455, 459, 460, 501, 551];

/// A probe under way.
#[derive(Debug)]
pub(super) struct Probe {
    /// A URL that the server has described.
    known: Url,
    /// The result, as far as the answer to the DESCRIBE shows it.
    answer: Option<ProbeOutcome>,
}

impl Connection {
    /// Finds out whether a DESCRIBE that fails harms the connection; the result is
    /// [`Event::Probed`], exactly once. Call it only where nothing plays. `missing` is a URL that
    /// does not exist, `known` one that the server has described.
    pub fn probe(&mut self, now: Instant, missing: Url, known: Url) {
        if self.state != ConnectionPhase::Open || self.probe.is_some() {
            return self
                .events
                .push_back(Event::Probed(ProbeOutcome::Undecided));
        }
        self.probe = Some(Probe {
            known,
            answer: None,
        });
        let describe = self.own_draft(Method::Describe, missing, Purpose::Probe);
        self.waiting.push_back(describe);
        self.flush(now);
    }

    /// The DESCRIBE was answered; `status` if it failed.
    pub(super) fn on_probe_answered(&mut self, status: Option<u16>) {
        let known = self.probe.as_ref().map(|probe| probe.known.clone());
        if let Some(probe) = &mut self.probe {
            let is_refused = status.is_some_and(|status| REFUSALS.contains(&status));
            probe.answer = Some(match is_refused {
                true => ProbeOutcome::Fails,
                false => ProbeOutcome::Stands,
            });
        }
        if let Some(known) = known {
            let options = self.own_draft(Method::Options, known, Purpose::ProbeFence);
            self.waiting.push_back(options);
        }
    }

    /// The OPTIONS after it was answered, or never will be.
    pub(super) fn on_probe_over(&mut self, was_answered: bool) {
        if let Some(probe) = self.probe.take() {
            let answer = probe.answer.filter(|_| was_answered);
            let outcome = answer.unwrap_or(ProbeOutcome::Undecided);
            self.events.push_back(Event::Probed(outcome));
        }
    }

    /// The connection is over, perhaps because of the probe.
    pub(super) fn end_probe(&mut self, reason: &CloseReason) {
        if self.probe.take().is_some() {
            let outcome = match reason {
                CloseReason::PeerClosed | CloseReason::Io(_) => ProbeOutcome::Fails,
                _ => ProbeOutcome::Undecided,
            };
            self.events.push_back(Event::Probed(outcome));
        }
    }
}
