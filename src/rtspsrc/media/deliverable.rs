//! Whether the packets of a stream can be delivered at all (fault F41). Pure.
//!
//! Packets that are dropped because the consumer is slow show that the camera works. Packets that the
//! description does not say how to play do not: a session of which no packet can be delivered counts as
//! silent.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// Why a packet cannot be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undeliverable {
    /// The description does not name its payload type.
    NoMap(u8),
    /// The description gives no clock rate for it, or 0.
    NoClockRate(u8),
    /// The stream began with another payload type, and its pad has the caps of that.
    OtherType { first: u8, now: u8 },
    /// It is no RTP packet, or not of the stream's source.
    Foreign,
}

impl fmt::Display for Undeliverable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMap(payload_type) => {
                write!(
                    f,
                    "the description says nothing of payload type {payload_type}"
                )
            }
            Self::NoClockRate(payload_type) => {
                write!(
                    f,
                    "payload type {payload_type} is described without a clock rate"
                )
            }
            Self::OtherType { first, now } => {
                write!(f, "the payload type has changed from {first} to {now}")
            }
            Self::Foreign => f.write_str("they are not of the stream's source"),
        }
    }
}

/// The payload type that the pad of one stream shows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown(Option<u8>);

impl Shown {
    /// Judges a packet of this payload type. `begins`: the stream begins anew with it. `described` tells
    /// whether the description is sufficient for a payload type.
    pub(crate) fn judge(
        &mut self,
        payload_type: u8,
        begins: bool,
        described: impl FnOnce(u8) -> Result<(), Undeliverable>,
    ) -> Result<(), Undeliverable> {
        match self.0.filter(|_| !begins) {
            Some(first) if first == payload_type => Ok(()),
            Some(first) => Err(Undeliverable::OtherType {
                first,
                now: payload_type,
            }),
            None => {
                let judged = described(payload_type);
                self.0 = judged.is_ok().then_some(payload_type);
                judged
            }
        }
    }
}

/// The packets of one stream that could not be delivered, since the last one that could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    since: Instant,
    pub(crate) count: u64,
    pub(crate) why: Undeliverable,
}

impl Left {
    pub(crate) fn new(since: Instant, count: u64, why: Undeliverable) -> Self {
        Self { since, count, why }
    }
}

/// The packets that could not be delivered, of all streams of a session.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    streams: BTreeMap<usize, Left>,
    is_told: bool,
}

impl LeftOut {
    /// A packet of the stream was delivered.
    pub(crate) fn on_delivered(&mut self, stream: usize) {
        if !self.streams.is_empty() {
            self.streams.remove(&stream);
        }
    }

    /// A packet of the stream could not be delivered. Returns what to report, once in a session: when no
    /// packet of this stream was delivered for `timeout`, while those of others may have been.
    pub(crate) fn on_left(
        &mut self,
        stream: usize,
        why: Undeliverable,
        now: Instant,
        timeout: Duration,
    ) -> Option<Left> {
        let left = self.streams.entry(stream).or_insert(Left {
            since: now,
            count: 0,
            why,
        });
        left.count += 1;
        left.why = why;
        let is_long = now.saturating_duration_since(left.since) >= timeout;
        let is_news = is_long && !timeout.is_zero() && !self.is_told;
        self.is_told |= is_news;
        is_news.then_some(*left)
    }

    /// Whether to report a stream. True once in a session.
    pub(crate) fn tell_once(&mut self) -> bool {
        !std::mem::replace(&mut self.is_told, true)
    }

    /// The sum of all streams; `None` if every packet was delivered.
    pub(crate) fn all(&self) -> Option<Left> {
        let streams = self.streams.values().copied();
        streams.reduce(|one, other| Left {
            count: one.count + other.count,
            ..one
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// A payload type, whether the stream begins anew with it, and the verdict on the packet.
    type JudgedPacket = (u8, bool, Result<(), Undeliverable>);

    /// 96 and 97 are described, 98 without a clock rate.
    fn described(payload_type: u8) -> Result<(), Undeliverable> {
        match payload_type {
            96 | 97 => Ok(()),
            98 => Err(Undeliverable::NoClockRate(98)),
            other => Err(Undeliverable::NoMap(other)),
        }
    }

    #[test]
    fn f41_the_description_and_the_first_packet_show_what_cannot_be_delivered() {
        use Undeliverable::{NoClockRate, NoMap, OtherType};
        let other = |first, now| Err(OtherType { first, now });
        let cases: [&[JudgedPacket]; 5] = [
            &[
                (96, true, Ok(())),
                (96, false, Ok(())),
                (97, false, other(96, 97)),
            ],
            &[
                (96, true, Ok(())),
                (13, false, other(96, 13)),
                (96, false, Ok(())),
            ],
            &[
                (96, true, Ok(())),
                (97, true, Ok(())),
                (96, false, other(97, 96)),
            ],
            &[
                (98, true, Err(NoClockRate(98))),
                (98, false, Err(NoClockRate(98))),
            ],
            &[(99, true, Err(NoMap(99))), (96, false, Ok(()))],
        ];
        for case in cases {
            let mut shown = Shown::default();
            for (payload_type, begins, expected) in case {
                let judged = shown.judge(*payload_type, *begins, described);
                assert_eq!(judged, *expected, "{case:?}");
            }
        }
    }

    #[test]
    fn a_stream_without_a_delivered_packet_is_reported_once() {
        let start = crate::rtspsrc::threads::timer::now();
        let mut left_out = LeftOut::default();
        let why = Undeliverable::NoMap(99);
        let mut told = Vec::new();
        for second in 0..60 {
            left_out.on_delivered(0);
            let now = start + second * S;
            told.extend(
                left_out
                    .on_left(1, why, now, 20 * S)
                    .map(|left| (second, left.count)),
            );
        }
        assert_eq!(told, [(20, 21)]);
        assert_eq!(left_out.all().map(|left| left.count), Some(60));
        left_out.on_delivered(1);
        assert_eq!(left_out.all(), None);
    }

    #[test]
    fn packets_beside_delivered_ones_are_never_reported() {
        let start = crate::rtspsrc::threads::timer::now();
        let mut left_out = LeftOut::default();
        for second in 0..60 {
            let (now, why) = (start + second * S, Undeliverable::Foreign);
            assert_eq!(left_out.on_left(0, why, now, 2 * S), None);
            left_out.on_delivered(0);
        }
    }
}
