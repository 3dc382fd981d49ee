//! Which sources (SSRCs) a stream accepts packets from.
//!
//! The channel decides which stream a packet belongs to, and one source at a time sends it. Cameras
//! change theirs: some with each group of pictures (Uniview), some write another one than they have
//! announced, or 0 now and then. So a packet of another source is accepted at once if it goes on where
//! the last one was, or if an answer names it. Else it is *held*, and accepted with all that are held
//! when the old source has been silent for three of its pictures and the other one was heard twice: a
//! sender of random sources never is. If the old one goes on, they are dropped in the end: they are of
//! some other stream.
//!
//! Some servers are known to write packets of other streams on the channel:
//!
//! live555 before 2017.06.04 goes on sending the packets of a session whose connection has died, to
//! the number of the old socket, which by then belongs to another connection. The client of that
//! connection gets them on the dead session's channels, with the right version and often the right
//! payload type, from its first moment on. So such a *stray* source is mostly heard before its
//! channel has an owner, or before the server works on that owner's PLAY: live555 processes one
//! request of a connection after the other, except DESCRIBE. It may also be heard only later.
//!
//! No sign of a source is proof. A dead session of the *same* camera has the same SSRC if the
//! server encodes once for all, sender reports of dead sessions arrive as their packets do, and
//! some servers announce an SSRC that they do not use. So each source has a standing, a source with
//! a better one takes the stream over at once, and none is excluded for ever.

use std::time::{Duration, Instant};

use crate::mux::proto::{
    command::SourcePolicy,
    wire::{header::RtpInfo, rtp::RtpHeader},
};

/// How long the source of a stream must be silent before another one of the same standing takes
/// over; and how long a stream waits, after PLAY, for a better source than a stray. Longer than the
/// pause of a camera with one picture a second; so much is lost when an encoder restarts.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);

/// The same if the other source is known to be a stray. A picture of the wrong camera is worse than
/// none, but not than none for ever. Shorter than the time after which a watchdog gives up the
/// session.
pub(crate) const STRAY_SILENCE: Duration = Duration::from_secs(10);

/// How long packets of a doubtful source are held, and how many bytes of them.
pub(crate) const MAX_HELD: Duration = Duration::from_secs(2);
pub(crate) const MAX_HELD_BYTES: usize = 512 * 1024;

/// How long packets that come before the answer to PLAY wait for it where it may name their source. live555
/// sends it right behind them; some firmware loses it among the frames.
const ANSWER_WAIT: Duration = Duration::from_millis(500);

/// What a packet that is held counts for: its payload, and what is kept beside it.
pub(crate) const fn held_weight(bytes: usize) -> usize {
    bytes + 128
}

/// A source has been silent for so many of its pictures when another one takes over.
const SILENT_PICTURES: u32 = 3;
/// The shortest such silence: a stall of a link is no end.
const SHORTEST_SILENCE: Duration = Duration::from_millis(60);

/// A source that was heard so often between packets of the stream's own one is a stray.
const STRAY_RUNS: u8 = 3;

/// The standing of a source, from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SourceStanding {
    /// Heard before PLAY, or between packets of the stream's source.
    Stray,
    /// First heard once the server worked on PLAY.
    Fresh,
    /// Announced in the answer to SETUP, or its packets begin where `RTP-Info` says. A source that
    /// was not announced is not suspect: some servers announce another one.
    Named,
}

/// Where a stream begins, from the answer to PLAY (RFC 2326 12.33).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    sequence: u16,
    timestamp: Option<u32>,
}

impl Start {
    /// 12 s at 90 kHz.
    const TICKS: u32 = 1 << 20;

    pub(crate) fn of(info: &RtpInfo) -> Option<Self> {
        Some(Self {
            sequence: info.seq?,
            timestamp: info.rtptime,
        })
    }

    /// True if a packet is near the first one. Packets may arrive before the answer, and the first
    /// ones may be lost.
    pub(crate) fn fits(self, header: RtpHeader) -> bool {
        const PACKETS: std::ops::RangeInclusive<i16> = -32..=256;
        let packets = header.sequence.wrapping_sub(self.sequence).cast_signed();
        let is_near = |timestamp: u32| {
            let ticks = header.timestamp.wrapping_sub(timestamp).cast_signed();
            ticks.unsigned_abs() <= Self::TICKS
        };
        PACKETS.contains(&packets) && self.timestamp.is_none_or(is_near)
    }
}

/// The source that a stream accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Latched {
    standing: SourceStanding,
    first: RtpHeader,
    last: RtpHeader,
    last_heard: Instant,
    since: Instant,
    /// How often the RTP time has changed: the number of pictures.
    pictures: u32,
    /// The time between pictures of the source before, until this one has shown its own.
    interval_before: Duration,
}

impl Latched {
    #[inline]
    fn on_packet(&mut self, header: RtpHeader, now: Instant) {
        self.pictures += u32::from(self.last.timestamp != header.timestamp);
        self.last = header;
        self.last_heard = now;
    }

    /// The mean time between its pictures.
    fn interval(&self) -> Duration {
        let played = self.last_heard.saturating_duration_since(self.since);
        played
            .checked_div(self.pictures)
            .unwrap_or(self.interval_before)
    }

    /// How long this source must be silent before another one takes over that is held meanwhile.
    fn patience(&self) -> Duration {
        (self.interval() * SILENT_PICTURES).clamp(SHORTEST_SILENCE, MAX_HELD)
    }
}

/// True if a packet goes on where another one was, whatever their sources: the server writes another
/// SSRC into the packets of the same stream.
fn goes_on(last: RtpHeader, header: RtpHeader) -> bool {
    const PACKETS: std::ops::RangeInclusive<u16> = 1..=16;
    let ticks = header.timestamp.wrapping_sub(last.timestamp);
    PACKETS.contains(&header.sequence.wrapping_sub(last.sequence))
        && ticks.cast_signed().unsigned_abs() <= Start::TICKS
}

/// The source that had the stream before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ousted {
    last: RtpHeader,
    /// A packet of it has come since.
    is_back: bool,
}

/// Another source, heard on the stream's channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Other {
    ssrc: u32,
    is_stray: bool,
    last_heard: Option<Instant>,
    /// It was heard more than once.
    is_known: bool,
    /// How often it was heard between packets of the stream's source.
    runs: u8,
}

impl Other {
    /// Heard once, and nothing else is known of it.
    fn is_single(&self) -> bool {
        !self.is_known && !self.is_stray
    }
}

/// What to do with an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is of the stream's source.
    Accept,
    /// Its source takes the stream over: the packets of it that are held come first. `is_disproved`:
    /// the server has announced a source that has not come.
    TakeOver { is_disproved: bool },
    /// It is not known yet whether it belongs to the stream.
    Hold,
    /// It does not.
    Refuse,
}

/// The sources of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    policy: SourcePolicy,
    /// From the answer to SETUP.
    announced: Option<u32>,
    /// The source of the channel's previous owner, and whether that was of the same presentation: then the
    /// server may go on with it in this session (go2rtc).
    previous: Option<(u32, bool)>,
    /// Since when packets are held while the stream has no source or its source is silent, and their
    /// weight.
    held: Option<(Instant, usize)>,
    /// Packets of others that were held since then came before the stream's source took it over.
    released_since: Option<Instant>,
    /// Since when the server works on PLAY, or plays.
    begun: Option<Instant>,
    /// PLAY is answered: the answer has named the source if the server does that.
    is_answered: bool,
    /// The client has paused the session: that its source is silent means nothing.
    is_paused: bool,
    /// PAUSE was sent, and may be answered late or never.
    is_pausing: bool,
    latched: Option<Latched>,
    ousted: Option<Ousted>,
    /// A server has few dead sessions at once.
    others: [Option<Other>; 4],
}

impl Sources {
    pub(crate) fn new(
        policy: SourcePolicy,
        announced: Option<u32>,
        previous: Option<(u32, bool)>,
    ) -> Self {
        Self {
            policy,
            announced,
            previous,
            ..Self::default()
        }
    }

    /// The source of the last accepted packet.
    pub(crate) fn last(&self) -> Option<u32> {
        self.latched.map(|latched| latched.first.ssrc)
    }

    /// When the last packet was accepted.
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        self.latched.map(|latched| latched.last_heard)
    }

    /// Since when packets that are held of other sources are the stream's as well, if they are: they came
    /// after its last source had ended, and ended before the present one began.
    pub(crate) fn released_since(&self) -> Option<Instant> {
        self.released_since
    }

    /// True if this source was announced for the stream, or is the one of its last packet.
    pub(crate) fn is_of(&self, ssrc: u32) -> bool {
        self.last().or(self.announced) == Some(ssrc)
    }

    /// The server works on PLAY: from now on it may send.
    pub(crate) fn on_begun(&mut self, now: Instant) {
        self.begun.get_or_insert(now);
        self.is_pausing = false;
        if std::mem::take(&mut self.is_paused)
            && let Some(latched) = &mut self.latched
        {
            latched.last_heard = now;
        }
    }

    /// PAUSE is sent.
    pub(crate) fn on_pausing(&mut self) {
        self.is_pausing = true;
    }

    /// PAUSE is answered.
    pub(crate) fn on_paused(&mut self) {
        self.is_paused = true;
    }

    /// The answer to PLAY has come.
    pub(crate) fn on_started(&mut self, now: Instant, starts: &[Start]) {
        if !std::mem::replace(&mut self.is_answered, true) {
            self.begun = Some(now);
        }
        if let Some(latched) = &mut self.latched
            && starts.iter().any(|start| start.fits(latched.first))
        {
            latched.standing = SourceStanding::Named;
        }
    }

    /// A source was heard on a channel where it does not belong.
    pub(crate) fn note_stray(&mut self, ssrc: u32) {
        match self.others.iter_mut().flatten().find(|o| o.ssrc == ssrc) {
            Some(other) => other.is_stray = true,
            None => self.insert(ssrc, true),
        }
    }

    /// Of sources that were heard once one takes the place of another, which one depends on its number:
    /// where a sender takes random ones, a source that goes on is heard again before it is forgotten.
    /// If all are known the oldest is replaced.
    fn insert(&mut self, ssrc: u32, is_stray: bool) {
        let new = Some(Other {
            ssrc,
            is_stray,
            last_heard: None,
            is_known: false,
            runs: 0,
        });
        let start = ssrc as usize % self.others.len();
        let (before, from) = self.others.split_at_mut(start);
        let mut places = from.iter_mut().chain(before);
        match places.find(|place| place.is_none_or(|other| other.is_single())) {
            Some(place) => *place = new,
            None => {
                self.others.rotate_right(1);
                self.others[0] = new;
            }
        }
    }

    fn is_stray(&self, ssrc: u32) -> bool {
        let mut others = self.others.iter().flatten();
        others.any(|other| other.ssrc == ssrc && other.is_stray)
    }

    /// True if a packet is of the stream's source and of the same payload type as its last one, as nearly
    /// all are.
    #[inline]
    pub(crate) fn is_next(&mut self, header: RtpHeader, now: Instant) -> bool {
        match &mut self.latched {
            Some(latched)
                if (latched.last.ssrc, latched.last.payload_type)
                    == (header.ssrc, header.payload_type) =>
            {
                latched.on_packet(header, now);
                true
            }
            _ => false,
        }
    }

    /// Decides on a packet of `bytes`. `is_start` says that the answer to PLAY names this packet as
    /// the beginning of a stream of the session.
    pub(crate) fn admit(
        &mut self,
        header: RtpHeader,
        bytes: usize,
        now: Instant,
        is_start: impl FnOnce(RtpHeader) -> bool,
    ) -> Admission {
        match &mut self.latched {
            Some(latched) if latched.last.ssrc == header.ssrc => {
                latched.on_packet(header, now);
                Admission::Accept
            }
            _ => self.admit_other(header, bytes, now, is_start),
        }
    }

    fn standing(&self, ssrc: u32, is_start: bool) -> SourceStanding {
        if is_start || self.announced == Some(ssrc) {
            SourceStanding::Named
        } else if self.is_stray(ssrc) {
            SourceStanding::Stray
        } else {
            SourceStanding::Fresh
        }
    }

    /// Decides on a packet of another source.
    fn admit_other(
        &mut self,
        header: RtpHeader,
        bytes: usize,
        now: Instant,
        is_start: impl FnOnce(RtpHeader) -> bool,
    ) -> Admission {
        let is_known = self.note_other(header.ssrc, now);
        let standing = self.standing(header.ssrc, is_start(header));
        let is_any = self.policy == SourcePolicy::Any;
        if is_any
            && self.is_of_previous(header.ssrc)
            && standing != SourceStanding::Named
            && !self.is_held_for_long(bytes, now)
        {
            self.note_held(0, now);
            return Admission::Refuse;
        }
        if !is_any && self.begun.is_none() {
            self.note_stray(header.ssrc);
            return Admission::Refuse;
        }
        let is_its_turn = match self.latched {
            None if is_any => {
                standing == SourceStanding::Named
                    || self.announced.is_none()
                    || self.is_held_for_long(bytes, now)
            }
            None if standing == SourceStanding::Stray => {
                let begun = self.begun.unwrap_or(now);
                // A server that has not answered may not have read PLAY.
                let silence = match self.is_answered {
                    true => SILENCE,
                    false => STRAY_SILENCE,
                };
                now.saturating_duration_since(begun) >= silence
            }
            // A stray may come between PLAY and its answer.
            None => {
                let is_named = standing == SourceStanding::Named;
                is_named || self.is_answered || self.is_held_for(ANSWER_WAIT, bytes, now)
            }
            Some(latched) => {
                let silence = match self.is_paused {
                    true => Duration::ZERO,
                    false => now.saturating_duration_since(latched.last_heard),
                };
                let is_over = match standing {
                    SourceStanding::Stray => silence >= STRAY_SILENCE && !self.is_pausing,
                    _ if is_any => {
                        is_known && (silence >= latched.patience() || self.is_held_full(bytes))
                    }
                    _ => silence >= SILENCE,
                };
                standing > latched.standing
                    || is_over
                    || is_any && standing > SourceStanding::Stray && goes_on(latched.last, header)
            }
        };
        let is_back = self.is_back(header, standing);
        if is_its_turn || is_back {
            let is_disproved = is_any
                && self.latched.is_none()
                && self.announced.is_some()
                && standing != SourceStanding::Named;
            self.latch(header, standing, now);
            if is_back {
                self.ousted = None;
            }
            return Admission::TakeOver { is_disproved };
        }
        self.note_held(bytes, now);
        let is_held = match self.latched {
            // The answer to PLAY may name what looks like a stray: a dead session of the same camera.
            None => is_any || standing > SourceStanding::Stray || !self.is_answered,
            Some(_) => is_any && !self.is_stray(header.ssrc),
        };
        match is_held {
            true => Admission::Hold,
            false => Admission::Refuse,
        }
    }

    /// True if a packet is taken for one of the channel's previous owner.
    fn is_of_previous(&self, ssrc: u32) -> bool {
        let goes_on = |is_own| is_own && self.begun.is_some();
        let mut previous = self.previous.iter();
        previous.any(|(it, is_own)| *it == ssrc && !goes_on(*is_own))
    }

    /// A packet is held.
    fn note_held(&mut self, bytes: usize, now: Instant) {
        let heard = self.last_heard();
        let is_since = |(since, _): &(Instant, usize)| heard.is_none_or(|heard| *since > heard);
        let (since, weight) = self.held.filter(is_since).unwrap_or((now, 0));
        self.held = Some((since, weight + held_weight(bytes)));
    }

    /// True if the stream's source has been silent while as much was held as may be.
    fn is_held_full(&self, bytes: usize) -> bool {
        let heard = self.last_heard();
        self.held.is_some_and(|(since, weight)| {
            heard.is_none_or(|heard| since > heard) && weight + held_weight(bytes) > MAX_HELD_BYTES
        })
    }

    /// True for the second packet of the source that had the stream before, if both go on where it was:
    /// an encoder that has started again does not send with the old numbers. Two sources that both go on
    /// do not take turns: the one that was silent meanwhile is not back once more, nor one that the server
    /// has named another one in place of.
    fn is_back(&mut self, header: RtpHeader, standing: SourceStanding) -> bool {
        let is_it = |it: &Ousted| it.last.ssrc == header.ssrc;
        let is_worse = self.latched.is_some_and(|own| own.standing > standing);
        let may_be_back = self.policy == SourcePolicy::Any && standing > SourceStanding::Stray;
        let Some(ousted) = self
            .ousted
            .filter(|it| is_it(it) && may_be_back && !is_worse)
        else {
            return false;
        };
        let goes_on = goes_on(ousted.last, header);
        self.ousted = goes_on.then_some(Ousted {
            last: header,
            is_back: true,
        });
        goes_on && ousted.is_back
    }

    fn is_held_for_long(&self, bytes: usize, now: Instant) -> bool {
        self.is_held_for(MAX_HELD, bytes, now)
    }

    fn is_held_for(&self, time: Duration, bytes: usize, now: Instant) -> bool {
        let is_long = |(since, _): (Instant, _)| now.saturating_duration_since(since) >= time;
        self.held.is_some_and(is_long) || self.is_held_full(bytes)
    }

    /// A source was heard that is not the stream's own. True if it was heard before.
    fn note_other(&mut self, ssrc: u32, now: Instant) -> bool {
        // A restarted encoder does not use its old source again. Packets around its restart may have
        // overtaken each other.
        let runs = match self.policy {
            SourcePolicy::Any => STRAY_RUNS,
            SourcePolicy::OneAtATime => 1,
        };
        if !self.others.iter().flatten().any(|o| o.ssrc == ssrc) {
            self.insert(ssrc, false);
        }
        let own = self.latched.map(|latched| latched.last_heard);
        let Some(other) = self.others.iter_mut().flatten().find(|o| o.ssrc == ssrc) else {
            return false;
        };
        let before = other.last_heard.replace(now);
        other.is_known |= before.is_some();
        if own.is_some() && before.is_some_and(|before| own > Some(before)) {
            other.runs = other.runs.saturating_add(1);
            other.is_stray |= other.runs >= runs;
        }
        other.is_known
    }

    /// The previous source does not become a stray, unless it was one: it may come back when this one is
    /// silent.
    fn latch(&mut self, header: RtpHeader, standing: SourceStanding, now: Instant) {
        let held_since = self.held.take().map(|(since, _)| since);
        let stray = self
            .latched
            .filter(|latched| latched.standing == SourceStanding::Stray);
        stray
            .into_iter()
            .for_each(|stray| self.note_stray(stray.last.ssrc));
        let old = self.latched;
        let before = old.filter(|latched| goes_on(latched.last, header));
        let is_in_turn = before.is_none() && standing != SourceStanding::Named;
        let ended = match old {
            Some(old) => Some(old.last_heard),
            // Until then the announced source could have come.
            None => held_since.filter(|_| self.announced.is_some()),
        };
        self.released_since = ended.filter(|_| is_in_turn);
        self.ousted = old.filter(|_| before.is_none()).map(|old| Ousted {
            last: old.last,
            is_back: false,
        });
        self.latched = Some(Latched {
            standing: before.map_or(standing, |before| before.standing.max(standing)),
            first: header,
            last: header,
            last_heard: now,
            since: before.map_or(now, |before| before.since),
            pictures: before.map_or(0, |before| before.pictures),
            interval_before: old.map_or(MAX_HELD, |old| old.interval()),
        });
        for other in &mut self.others {
            if other.is_some_and(|other| other.ssrc == header.ssrc) {
                *other = None;
            }
        }
    }

    /// True if a report of this source is accepted. A report never makes a source the stream's:
    /// dead sessions send reports too.
    pub(crate) fn admit_report(&mut self, ssrc: u32) -> bool {
        if self.policy == SourcePolicy::Any {
            return true;
        }
        match self.latched {
            Some(latched) => latched.first.ssrc == ssrc,
            None if self.begun.is_none() => {
                self.note_stray(ssrc);
                false
            }
            None => self.announced == Some(ssrc) || !self.is_stray(ssrc),
        }
    }
}

#[cfg(test)]
mod tests;
