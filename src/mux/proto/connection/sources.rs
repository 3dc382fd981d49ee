//! Which sources (SSRCs) a stream accepts packets from.
//!
//! The channel decides which stream a packet belongs to. The source is checked only where a server
//! is known to write packets of other streams on the channel:
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

use crate::mux::proto::wire::{header::RtpInfo, rtp::RtpHeader};

/// Which sources are accepted on a stream's channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SourcePolicy {
    /// All sources, except that of the channel's previous owner while the channel is in quarantine.
    /// For all servers but those below: a stream may have several sources, with retransmission or
    /// after a restart of the encoder.
    #[default]
    Any,
    /// One source at a time, for live555 before 2017.06.04 and the cameras it is in (many of
    /// Reolink).
    ///
    /// The stream belongs to the first source heard once PLAY is at the head of the line. It passes to another one
    /// * at once if that has a better [`SourceStanding`];
    /// * else when its own has been silent for [`SILENCE`] - an encoder that starts again under a
    ///   new SSRC - or for [`STRAY_SILENCE`], if the other is known for a stray.
    ///
    /// Two sources of equal standing that both go on cannot be told apart: the first one keeps the
    /// stream. It takes a server that names neither an SSRC nor, in `RTP-Info`, the first packet,
    /// and a stray that was not heard before PLAY. live555 does send `RTP-Info`.
    OneAtATime,
}

impl SourcePolicy {
    /// Chooses by the `a=tool` of a description.
    pub(crate) fn of_tool(tool: Option<&str>) -> Self {
        match tool.and_then(live555_version) {
            Some(version) if version < MENDED => Self::OneAtATime,
            _ => Self::Any,
        }
    }
}

/// How long the source of a stream must be silent before another one of the same standing takes
/// over; and how long a stream waits, after PLAY, for a better source than a stray. Longer than the
/// pause of a camera with one picture a second; so much is lost when an encoder restarts.
pub(crate) const SILENCE: Duration = Duration::from_secs(2);

/// The same if the other source is known to be a stray. A picture of the wrong camera is worse than
/// none, but not than none for ever. Shorter than the time after which a watchdog gives up the
/// session.
pub(crate) const STRAY_SILENCE: Duration = Duration::from_secs(10);

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
        /// 12 s at 90 kHz.
        const TICKS: u32 = 1 << 20;
        let packets = header.sequence.wrapping_sub(self.sequence).cast_signed();
        let is_near = |timestamp: u32| {
            let ticks = header.timestamp.wrapping_sub(timestamp).cast_signed();
            ticks.unsigned_abs() <= TICKS
        };
        PACKETS.contains(&packets) && self.timestamp.is_none_or(is_near)
    }
}

/// The source that a stream accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Latched {
    standing: SourceStanding,
    first: RtpHeader,
    last_heard: Instant,
}

/// Another source, heard on the stream's channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Other {
    ssrc: u32,
    is_stray: bool,
}

/// The sources of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sources {
    policy: SourcePolicy,
    /// From the answer to SETUP.
    announced: Option<u32>,
    /// The source of the channel's previous owner.
    previous: Option<u32>,
    /// The source of the last accepted packet.
    last: Option<u32>,
    /// Since when the server works on PLAY, or plays.
    begun: Option<Instant>,
    latched: Option<Latched>,
    /// The oldest is replaced; a server has few dead sessions at once.
    others: [Option<Other>; 4],
}

impl Sources {
    pub(crate) fn new(policy: SourcePolicy, announced: Option<u32>, previous: Option<u32>) -> Self {
        Self {
            policy,
            announced,
            previous,
            last: None,
            begun: None,
            latched: None,
            others: [None; 4],
        }
    }

    pub(crate) fn policy(&self) -> SourcePolicy {
        self.policy
    }

    /// The source of the last accepted packet.
    pub(crate) fn last(&self) -> Option<u32> {
        self.last
    }

    /// The server works on PLAY: from now on it may send.
    pub(crate) fn on_begun(&mut self, now: Instant) {
        self.begun.get_or_insert(now);
    }

    /// The answer to PLAY has come.
    pub(crate) fn on_started(&mut self, starts: &[Start]) {
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

    fn insert(&mut self, ssrc: u32, is_stray: bool) {
        self.others.rotate_right(1);
        self.others[0] = Some(Other { ssrc, is_stray });
    }

    fn is_stray(&self, ssrc: u32) -> bool {
        let mut others = self.others.iter().flatten();
        others.any(|other| other.ssrc == ssrc && other.is_stray)
    }

    /// True if a packet is accepted. `is_start` says that the answer to PLAY names this packet as
    /// the beginning of a stream of the session.
    pub(crate) fn admit(
        &mut self,
        header: RtpHeader,
        now: Instant,
        is_start: impl FnOnce(RtpHeader) -> bool,
    ) -> bool {
        let is_admitted = match self.policy {
            SourcePolicy::Any => self.previous != Some(header.ssrc),
            SourcePolicy::OneAtATime => {
                self.is_latched(header.ssrc, now) || {
                    let standing = self.standing(header.ssrc, is_start(header));
                    self.admit_other(header, standing, now)
                }
            }
        };
        if is_admitted {
            self.last = Some(header.ssrc);
        }
        is_admitted
    }

    /// True if this is the stream's source; notes that it was heard.
    fn is_latched(&mut self, ssrc: u32, now: Instant) -> bool {
        let Some(latched) = &mut self.latched else {
            return false;
        };
        if latched.first.ssrc != ssrc {
            return false;
        }
        latched.last_heard = now;
        // A restarted encoder does not use its old source again, so a source heard in between is
        // none.
        let between = self.others.iter_mut().flatten();
        between.for_each(|other| other.is_stray = true);
        true
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

    /// True if another source takes the stream over.
    fn admit_other(&mut self, header: RtpHeader, standing: SourceStanding, now: Instant) -> bool {
        let Some(begun) = self.begun else {
            self.note_stray(header.ssrc);
            return false;
        };
        let is_its_turn = match self.latched {
            None => {
                standing > SourceStanding::Stray || now.saturating_duration_since(begun) >= SILENCE
            }
            Some(latched) => {
                let silence = now.saturating_duration_since(latched.last_heard);
                standing > latched.standing || silence >= patience(standing)
            }
        };
        if is_its_turn {
            self.latch(header, standing, now);
        } else if !self.others.iter().flatten().any(|o| o.ssrc == header.ssrc) {
            self.insert(header.ssrc, false);
        }
        is_its_turn
    }

    /// The previous source does not become a stray: it may come back when this one is silent.
    fn latch(&mut self, header: RtpHeader, standing: SourceStanding, now: Instant) {
        self.latched = Some(Latched {
            standing,
            first: header,
            last_heard: now,
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

fn patience(standing: SourceStanding) -> Duration {
    match standing {
        SourceStanding::Stray => STRAY_SILENCE,
        SourceStanding::Fresh | SourceStanding::Named => SILENCE,
    }
}

/// The first live555 that does not write packets of sessions whose connection has died into other
/// connections.
const MENDED: (u16, u8, u8) = (2017, 6, 4);

/// `LIVE555 Streaming Media v2017.06.04` gives (2017, 6, 4).
fn live555_version(tool: &str) -> Option<(u16, u8, u8)> {
    if !tool.starts_with("LIVE555") {
        return None;
    }
    let (_, version) = tool.rsplit_once('v')?;
    let mut parts = version.trim().split('.');
    let year = parts.next()?.parse().ok()?;
    let month = parts.next()?.parse().ok()?;
    let day = parts.next()?.parse().ok()?;
    Some((year, month, day))
}

#[cfg(test)]
mod tests;
