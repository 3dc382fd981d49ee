//! Ends a session whose server plays the same again after a BYE.
//!
//! [`Repeats`] decides; here packets wait for its decision.

use gstreamer as gst;

use super::{control::BuildGuard, report::EndReason};
use crate::mux::{
    Packet, PacketKind,
    proto::wire::rtp,
    recovery::{ByePolicy, Repeats, Repetition},
};

/// The packets of a session that may be the same as those of the one before. It outlives sessions.
#[derive(Debug, Default)]
pub(crate) struct HeldBack {
    repeats: Repeats,
    held: Vec<Packet>,
    /// The last session has ended by BYE.
    after_bye: bool,
}

impl HeldBack {
    /// A session plays. What is live never plays the same again.
    pub(crate) fn on_playing(&mut self, is_live: bool) {
        self.held.clear();
        self.repeats.on_playing(self.after_bye && !is_live);
    }

    /// It has ended.
    pub(crate) fn on_end(&mut self, end: &EndReason, policy: ByePolicy) {
        self.after_bye = policy == ByePolicy::Auto && matches!(end, EndReason::Bye(_));
    }

    /// Takes packets out of the batch, and puts them back when it is known that they are others.
    ///
    /// # Errors
    ///
    /// The content is the same: the stream has ended before.
    pub(crate) fn hold_back(
        &mut self,
        batch: &mut Vec<Packet>,
        build_guard: &BuildGuard,
    ) -> Result<(), EndReason> {
        if self.repeats.is_done() && self.held.is_empty() {
            return Ok(());
        }
        for packet in &*batch {
            let payload = rtp::payload(&packet.payload);
            if let (PacketKind::Rtp, Some(payload)) = (packet.kind, payload)
                && self.repeats.on_payload(packet.stream, payload) == Repetition::Yes
            {
                end_pads(build_guard);
                return Err(EndReason::Flow(gst::FlowError::Eos));
            }
        }
        if self.repeats.is_comparing() {
            self.held.append(batch);
        } else if !self.held.is_empty() {
            self.held.append(batch);
            std::mem::swap(&mut self.held, batch);
        }
        Ok(())
    }
}

/// Sends EOS out of the pads. The manager has seen nothing of this session, so an EOS would not come through it.
fn end_pads(build_guard: &BuildGuard) {
    if let Some(manager) = build_guard.manager() {
        manager
            .pads()
            .streams()
            .for_each(|stream| stream.push_eos());
    }
}
