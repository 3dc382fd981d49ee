//! The interleaved channels of a connection: which stream of which session owns each.
//!
//! Channels are one byte, so there are 256 of them, used in pairs: an even one for RTP, the next for
//! RTCP. The owner of a channel changes in a fixed circle:
//!
//! ```text
//! free -> reserved (asked for in a SETUP) -> live (granted by its answer) -> quarantined -> free
//! ```
//!
//! Assumptions. Each fails with some server, and is therefore checked:
//! * a server answers with the pair it was asked for - or with any other, or with a single number;
//! * a pair belongs to one stream - live555 mixes two streams on one channel past 255, go2rtc gives
//!   every session the same pair;
//! * nothing arrives on a pair after TEARDOWN - it does, hence the quarantine;
//! * packets that arrive on a pair belong to its owner - old live555 writes a dead session's
//!   packets there, hence the [`SourcePolicy`].

use std::time::{Duration, Instant};

use super::{
    route::{FrameVerdict, Heard, PacketOwner, PayloadTypes, Route, is_rtp},
    sources::{Admission, Sources, Start},
};
use crate::mux::proto::{
    command::{SessionKey, SourcePolicy},
    event::{Packet, PacketKind},
    wire::{header::RtpInfo, rtp::RtpHeader},
};

/// A granted SETUP, as far as channels are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) session: SessionKey,
    pub(crate) stream: u32,
    pub(crate) payload_types: PayloadTypes,
    /// `ssrc` in the answer.
    pub(crate) announced_ssrc: Option<u32>,
    pub(crate) sources: SourcePolicy,
    /// All sessions of the connection have had this presentation: what its channels carried before is of
    /// the same camera.
    pub(crate) is_only_presentation: bool,
}

/// The most sources that are remembered for channels without an owner; a server has few dead
/// sessions.
const MOST_STRAYS: usize = 16;

#[expect(
    clippy::large_enum_variant,
    reason = "a table of 256, made once; a box would cost each packet a look-up"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Slot {
    #[default]
    Free,
    Reserved(SessionKey),
    Live(Route, Sources),
    Quarantined {
        owner: SessionKey,
        until: Instant,
        /// A frame moves `until` this far into the future; zero if frames do not move it.
        quiet: Duration,
        ssrc: Option<u32>,
    },
}

/// A granted pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChannelPair {
    pub(crate) rtp: u8,
    pub(crate) rtcp: Option<u8>,
}

impl ChannelPair {
    /// The pair as numbered in a Transport header; a single number stands for itself and the next.
    pub(crate) fn from_answer(first: u8, second: Option<u8>) -> Self {
        let rtcp = second
            .or_else(|| first.checked_add(1))
            .filter(|second| *second != first);
        Self { rtp: first, rtcp }
    }

    fn channels(self) -> impl Iterator<Item = (u8, PacketKind)> {
        let rtcp = self.rtcp.map(|channel| (channel, PacketKind::Rtcp));
        std::iter::once((self.rtp, PacketKind::Rtp)).chain(rtcp)
    }
}

/// The channel belongs to another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Collision(pub(crate) SessionKey);

#[derive(Debug)]
pub(crate) struct ChannelTable {
    slots: Box<[Slot; 256]>,
    /// Streams on a channel that another stream of their session has as well: the server answers the
    /// SETUPs of picture and sound with one pair.
    sharers: Vec<(u8, Route, Sources)>,
    /// Sources heard on channels while these had no owner.
    strays: Vec<(u8, u32)>,
    /// Where the streams of the sessions begin, from their answers to PLAY.
    starts: Vec<(SessionKey, Vec<Start>)>,
    /// The server has announced a source that has not come: what it announces is not believed.
    pub(crate) is_ssrc_disproved: bool,
}

impl ChannelTable {
    pub(crate) fn new(is_ssrc_disproved: bool) -> Self {
        Self {
            slots: Box::new([Slot::Free; 256]),
            sharers: Vec::new(),
            strays: Vec::new(),
            starts: Vec::new(),
            is_ssrc_disproved,
        }
    }

    fn slot(&self, channel: u8) -> &Slot {
        // A u8 cannot be out of the bounds of 256 slots.
        &self.slots[usize::from(channel)]
    }

    fn slot_mut(&mut self, channel: u8) -> &mut Slot {
        &mut self.slots[usize::from(channel)]
    }

    /// True if a pair is neither owned nor reserved nor in quarantine.
    fn is_free_pair(&self, rtp: u8) -> bool {
        let is_free = |channel| matches!(self.slot(channel), Slot::Free);
        is_free(rtp) && is_free(rtp | 1)
    }

    pub(crate) fn quarantined_pairs(&self) -> usize {
        let is_it = |channel: &u8| matches!(self.slot(*channel), Slot::Quarantined { .. });
        even_channels().filter(is_it).count()
    }

    /// Reserves the lowest free pair for a SETUP, provided `spare` others stay free.
    pub(crate) fn reserve(
        &mut self,
        session: SessionKey,
        spare: usize,
        now: Instant,
    ) -> Option<u8> {
        self.expire(now);
        let mut free = even_channels().filter(|channel| self.is_free_pair(*channel));
        let rtp = free.next()?;
        if free.take(spare).count() < spare {
            return None;
        }
        *self.slot_mut(rtp) = Slot::Reserved(session);
        *self.slot_mut(rtp | 1) = Slot::Reserved(session);
        Some(rtp)
    }

    /// Frees a reservation, because its SETUP was refused.
    pub(crate) fn unreserve(&mut self, session: SessionKey, asked: u8) {
        for channel in [asked, asked | 1] {
            if *self.slot(channel) == Slot::Reserved(session) {
                *self.slot_mut(channel) = Slot::Free;
            }
        }
    }

    /// Opens the route that the answer to a SETUP grants. A reservation of another session for the
    /// pair is dropped. A pair in quarantine gets its new owner at once, except for packets of its
    /// last source.
    pub(crate) fn grant(&mut self, pair: ChannelPair, grant: Grant) -> Result<(), Collision> {
        for (channel, _) in pair.channels() {
            if let Some(route) = self.route(channel)
                && route.session != grant.session
            {
                return Err(Collision(route.session));
            }
        }
        for (channel, kind) in pair.channels() {
            let route = Route {
                session: grant.session,
                stream: grant.stream,
                kind,
                payload_types: grant.payload_types,
                rtp_channel: pair.rtp,
            };
            let sources = self.sources_heard(channel, kind, grant);
            match self.slot_mut(channel) {
                Slot::Live(..) => self.sharers.push((channel, route, sources)),
                slot => *slot = Slot::Live(route, sources),
            }
        }
        Ok(())
    }

    /// What the sources heard on the channel before mean for its new owner.
    fn sources_heard(&self, channel: u8, kind: PacketKind, grant: Grant) -> Sources {
        let previous = match self.slot(channel) {
            Slot::Quarantined { ssrc, .. } if kind == PacketKind::Rtp => *ssrc,
            _ => None,
        };
        let announced = grant.announced_ssrc.filter(|_| !self.is_ssrc_disproved);
        let is_own = grant.is_only_presentation;
        let mut sources = Sources::new(grant.sources, announced, previous.map(|it| (it, is_own)));
        let strays = self.strays.iter();
        let here = strays.filter(|(heard_on, _)| *heard_on == channel);
        here.for_each(|(_, ssrc)| sources.note_stray(*ssrc));
        if let Some(ssrc) = previous.filter(|_| !is_own) {
            sources.note_stray(ssrc);
        }
        sources
    }

    /// The server works on a session's PLAY: all requests before it are answered.
    pub(crate) fn on_play_begun(&mut self, session: SessionKey, now: Instant) {
        self.sources_of(session).for_each(|s| s.on_begun(now));
    }

    /// A session's PAUSE is sent.
    pub(crate) fn on_pausing(&mut self, session: SessionKey) {
        self.sources_of(session).for_each(Sources::on_pausing);
    }

    /// The server has paused a session.
    pub(crate) fn on_paused(&mut self, session: SessionKey) {
        self.sources_of(session).for_each(Sources::on_paused);
    }

    /// The answer to PLAY says where the session's streams begin. The order of the streams does not
    /// matter: a stray source matches none of the beginnings.
    pub(crate) fn on_play_answered(
        &mut self,
        session: SessionKey,
        infos: &[RtpInfo],
        now: Instant,
    ) {
        let starts: Vec<Start> = infos.iter().filter_map(Start::of).collect();
        for sources in self.sources_of(session) {
            sources.on_begun(now);
            sources.on_started(now, &starts);
        }
        self.starts.retain(|(owner, _)| *owner != session);
        if !starts.is_empty() {
            self.starts.push((session, starts));
        }
    }

    fn sources_of(&mut self, session: SessionKey) -> impl Iterator<Item = &mut Sources> {
        let live = self.slots.iter_mut().filter_map(|slot| match slot {
            Slot::Live(route, sources) => Some((route, sources)),
            _ => None,
        });
        let sharers = self.sharers.iter_mut();
        live.chain(sharers.map(|(_, route, sources)| (route, sources)))
            .filter_map(move |(route, sources)| (route.session == session).then_some(sources))
    }

    /// All routes, with their channels.
    fn routes(&self) -> impl Iterator<Item = (u8, &Route, &Sources)> {
        let live = (0..=u8::MAX).filter_map(|channel| match self.slot(channel) {
            Slot::Live(route, sources) => Some((channel, route, sources)),
            _ => None,
        });
        let sharers = self.sharers.iter();
        live.chain(sharers.map(|(channel, route, sources)| (*channel, route, sources)))
    }

    /// True if the stream of the session has a channel.
    pub(crate) fn has_stream(&self, session: SessionKey, stream: u32) -> bool {
        let mut routes = self.routes();
        routes.any(|(_, route, _)| route.session == session && route.stream == stream)
    }

    /// True if no stream has a channel of the pair.
    pub(crate) fn is_unowned(&self, pair: ChannelPair) -> bool {
        let mut channels = pair.channels();
        channels.all(|(channel, _)| !matches!(self.slot(channel), Slot::Live(..)))
    }

    /// When the last packet of the session was accepted.
    pub(crate) fn last_heard(&self, session: SessionKey) -> Option<Instant> {
        let routes = self.routes();
        let its = routes.filter(|(_, route, _)| route.session == session);
        its.filter_map(|(.., sources)| sources.last_heard()).max()
    }

    /// Puts the stream to which a packet belongs in the place of those that share its channel: the one
    /// whose source it is, else the one with its payload type.
    #[cold]
    fn put_owner_first(&mut self, channel: u8, packet: &[u8]) {
        let of_source = |ssrc| {
            let mut routes = self.routes();
            let it = routes.find(|(_, _, sources)| sources.is_of(ssrc));
            it.map(|(_, route, _)| route.stream)
        };
        let claim = |route: &Route| match route.heard(packet) {
            None => 0,
            Some(Heard::Rtp(RtpHeader { ssrc, .. }) | Heard::Rtcp(ssrc)) => {
                1 + u8::from(of_source(ssrc) == Some(route.stream))
            }
        };
        let Slot::Live(owner, _) = self.slot(channel) else {
            return;
        };
        let least = claim(owner);
        let mut sharers = self.sharers.iter();
        let better = sharers.position(|(on, route, _)| *on == channel && claim(route) > least);
        let better = better.and_then(|at| self.sharers.get_mut(at));
        if let (Some((_, route, sources)), Slot::Live(owner, its)) =
            (better, &mut self.slots[usize::from(channel)])
        {
            std::mem::swap(route, owner);
            std::mem::swap(sources, its);
        }
    }

    /// Takes all channels from a session that is torn down. They stay in quarantine until `until`,
    /// and as long as frames keep arriving less than `quiet` apart.
    pub(crate) fn quarantine(&mut self, owner: SessionKey, until: Instant, quiet: Duration) {
        self.starts.retain(|(session, _)| *session != owner);
        self.sharers.retain(|(_, route, _)| route.session != owner);
        for slot in self.slots.iter_mut() {
            let ssrc = match slot {
                Slot::Live(route, sources) if route.session == owner => sources.last(),
                Slot::Reserved(session) if *session == owner => None,
                _ => continue,
            };
            *slot = Slot::Quarantined {
                owner,
                until,
                quiet,
                ssrc,
            };
        }
    }

    /// The same for a pair that is granted to a session that is already being torn down.
    pub(crate) fn quarantine_pair(
        &mut self,
        owner: SessionKey,
        pair: ChannelPair,
        until: Instant,
        quiet: Duration,
    ) {
        for (channel, _) in pair.channels() {
            if *self.slot(channel) == Slot::Free {
                *self.slot_mut(channel) = Slot::Quarantined {
                    owner,
                    until,
                    quiet,
                    ssrc: None,
                };
            }
        }
    }

    /// The server has confirmed the TEARDOWN: the channels stay in quarantine until nothing has
    /// arrived on them for `rest`. A server may confirm it and go on sending.
    pub(crate) fn confirm_teardown(&mut self, session: SessionKey, now: Instant, rest: Duration) {
        for slot in self.slots.iter_mut() {
            match slot {
                Slot::Quarantined {
                    owner,
                    until,
                    quiet,
                    ..
                } if *owner == session => {
                    (*until, *quiet) = (now + rest, rest);
                }
                _ => {}
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        for slot in self.slots.iter_mut() {
            if matches!(slot, Slot::Quarantined { until, .. } if *until <= now) {
                *slot = Slot::Free;
            }
        }
    }

    /// Decides on one frame. It goes by the channel, never by the SSRC: a shared gst-rtsp-server
    /// mount gives the same SSRC to two sessions.
    #[inline]
    pub(crate) fn judge(&mut self, channel: u8, payload: &[u8], now: Instant) -> FrameVerdict {
        // The fast path: nearly every frame is an RTP packet of its stream's source, and of the payload type
        // of the one before. A stream that shares the channel has no better claim to it.
        if let Slot::Live(route, sources) = &mut self.slots[usize::from(channel)]
            && route.kind == PacketKind::Rtp
            && is_rtp(payload)
            && let Some(header) = RtpHeader::of(payload)
            && sources.is_next(header, now)
        {
            return FrameVerdict::Deliver(PacketOwner {
                session: route.session,
                stream: route.stream,
                header: Some(header),
            });
        }
        self.judge_other(channel, payload, now)
    }

    #[cold]
    #[inline(never)]
    fn judge_other(&mut self, channel: u8, payload: &[u8], now: Instant) -> FrameVerdict {
        if !self.sharers.is_empty() {
            self.put_owner_first(channel, payload);
        }
        match &mut self.slots[usize::from(channel)] {
            Slot::Free | Slot::Reserved(_) => {
                self.note_stray(channel, payload);
                FrameVerdict::Unknown
            }
            Slot::Quarantined { until, quiet, .. } => {
                if !quiet.is_zero() {
                    *until = (*until).max(now + *quiet);
                }
                FrameVerdict::Quarantined
            }
            Slot::Live(route, sources) => {
                let mut owner = PacketOwner {
                    session: route.session,
                    stream: route.stream,
                    header: None,
                };
                let rtp_channel = route.rtp_channel;
                let header = match route.heard(payload) {
                    None => return route.of_other_type(payload),
                    Some(Heard::Rtp(header)) => header,
                    Some(Heard::Rtcp(ssrc)) if self.admit_report(rtp_channel, ssrc) => {
                        return FrameVerdict::Deliver(owner);
                    }
                    Some(Heard::Rtcp(_)) => return FrameVerdict::Foreign,
                };
                owner.header = Some(header);
                let is_start = |header| is_start(&self.starts, owner.session, header);
                match sources.admit(header, payload.len(), now, is_start) {
                    Admission::Accept => FrameVerdict::Deliver(owner),
                    Admission::TakeOver { is_disproved } => {
                        self.is_ssrc_disproved |= is_disproved;
                        FrameVerdict::TakeOver(owner)
                    }
                    Admission::Hold => FrameVerdict::Hold(owner),
                    Admission::Refuse => FrameVerdict::Foreign,
                }
            }
        }
    }

    /// Decides again, at a later time, on the last packet that is held. True if its source takes the
    /// stream over.
    pub(crate) fn reconsider(
        &mut self,
        channel: u8,
        session: SessionKey,
        held: RtpHeader,
        now: Instant,
    ) -> bool {
        let sources = match &mut self.slots[usize::from(channel)] {
            Slot::Live(route, sources) if route.session == session => sources,
            _ => return false,
        };
        let is_start = |header| is_start(&self.starts, session, header);
        match sources.admit(held, 0, now, is_start) {
            Admission::TakeOver { is_disproved } => {
                self.is_ssrc_disproved |= is_disproved;
                true
            }
            Admission::Accept | Admission::Hold | Admission::Refuse => false,
        }
    }

    /// True if the answer to PLAY names this packet.
    pub(crate) fn is_named(&self, packet: &Packet) -> bool {
        let mut header = packet.header.iter();
        header.any(|header| is_start(&self.starts, packet.session, *header))
    }

    /// As [`Sources::released_since`], for the stream of a channel.
    pub(crate) fn released_since(&self, channel: u8) -> Option<Instant> {
        match self.slot(channel) {
            Slot::Live(_, sources) => sources.released_since(),
            _ => None,
        }
    }

    fn admit_report(&mut self, rtp_channel: u8, ssrc: u32) -> bool {
        match self.slot_mut(rtp_channel) {
            Slot::Live(_, sources) => sources.admit_report(ssrc),
            _ => true,
        }
    }

    /// A source that is heard on a channel without an owner will also be heard when the channel has
    /// one.
    fn note_stray(&mut self, channel: u8, payload: &[u8]) {
        let Some(header) = RtpHeader::of(payload).filter(|_| is_rtp(payload)) else {
            return;
        };
        let stray = (channel, header.ssrc);
        if self.strays.len() < MOST_STRAYS && !self.strays.contains(&stray) {
            self.strays.push(stray);
        }
    }

    /// True if a frame that begins with these two bytes could belong to a session. The search for
    /// lost framing goes by this.
    pub(crate) fn is_plausible(&self, channel: u8, first: [u8; 2]) -> bool {
        let is_sharer = |(on, it, _): &(u8, Route, _)| *on == channel && it.is_plausible(first);
        let route = self.route(channel);
        route.is_some_and(|route| route.is_plausible(first) || self.sharers.iter().any(is_sharer))
    }

    /// The session that owns this channel.
    pub(crate) fn owner(&self, channel: u8) -> Option<SessionKey> {
        self.route(channel).map(|route| route.session)
    }

    fn route(&self, channel: u8) -> Option<&Route> {
        match self.slot(channel) {
            Slot::Live(route, _) => Some(route),
            _ => None,
        }
    }

    /// The channel for receiver reports.
    pub(crate) fn channel_of(
        &self,
        session: SessionKey,
        stream: u32,
        kind: PacketKind,
    ) -> Option<u8> {
        let its = (session, stream, kind);
        let is_its = |(_, it, _): &(_, &Route, _)| (it.session, it.stream, it.kind) == its;
        // Of two pairs the later one is where the server sends now.
        let its = self.routes().filter(is_its).last();
        its.map(|(channel, ..)| channel)
    }
}

fn even_channels() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).step_by(2)
}

/// True if the answer to the session's PLAY says that a stream begins with this packet.
fn is_start(starts: &[(SessionKey, Vec<Start>)], session: SessionKey, header: RtpHeader) -> bool {
    let mut of_session = starts.iter().filter(|(owner, _)| *owner == session);
    of_session.any(|(_, starts)| starts.iter().any(|start| start.fits(header)))
}

#[cfg(test)]
mod tests;
