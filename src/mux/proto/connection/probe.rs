//! Whether the connection stands a DESCRIBE of something that is not there.
//!
//! MediaMTX and ZLMediaKit close the connection behind a 404, and with it whatever plays on it; some
//! cameras answer one DESCRIBE on a connection and no other. So on a connection where nothing plays
//! one such DESCRIBE is made on purpose, and once it is answered one OPTIONS: if that is answered, too,
//! the connection has stood it, and no session had to wait for a close that does not come.

use std::time::Instant;

use rtsp_types::Method;
use url::Url;

use super::{Connection, ConnectionPhase, requests::Purpose};
use crate::mux::proto::event::{CloseReason, Event, ProbeOutcome};

/// What servers say to a second DESCRIBE that they refuse as such.
const REFUSALS: [u16; 10] = [400, 405, 406, 451, 454, 455, 459, 460, 501, 551];

/// A probe under way.
#[derive(Debug)]
pub(super) struct Probe {
    /// A URL that the server has described.
    known: Url,
    /// What the answer to the DESCRIBE says.
    answer: Option<ProbeOutcome>,
}

impl Connection {
    /// Finds out whether a DESCRIBE that fails does the connection harm; the result is
    /// [`Event::Probed`], exactly once. To be asked only where nothing plays. `missing` is a URL of
    /// nothing, `known` one that the server has described.
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

    /// The DESCRIBE was answered, with a status if it failed.
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

    /// The OPTIONS behind it was answered, or never will be.
    pub(super) fn on_probe_over(&mut self, was_answered: bool) {
        if let Some(probe) = self.probe.take() {
            let answer = probe.answer.filter(|_| was_answered);
            let outcome = answer.unwrap_or(ProbeOutcome::Undecided);
            self.events.push_back(Event::Probed(outcome));
        }
    }

    /// The connection is over, and may be so for the probe.
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
