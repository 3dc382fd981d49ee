//! Order, losses and jitter of the packets of one source (RFC 3550 6.4.1, A.3 and A.8).

use super::rtcp::ReportBlock;
use crate::mux::proto::wire::rtp::{SequenceOrder, SequenceTracker};

/// The state of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reception {
    pub(super) sequence: SequenceTracker,
    received: u64,
    /// Arrival minus RTP time of the last packet, in units of the clock rate.
    transit: Option<i64>,
    /// In sixteenths of a unit.
    jitter: u64,
    expected_before: u64,
    received_before: u64,
}

impl Reception {
    /// A packet came; `arrival` in units of its clock rate, from any origin.
    pub(super) fn on_packet(&mut self, sequence: u16, time: u32, arrival: i64) -> SequenceOrder {
        let order = self.sequence.on_packet(sequence);
        if order == SequenceOrder::Anew {
            *self = Self {
                sequence: self.sequence,
                ..Self::default()
            };
        }
        if order != SequenceOrder::Old {
            self.received += 1;
            self.on_transit(arrival - i64::from(time));
        }
        order
    }

    /// RFC 3550 A.8. RTP time wraps, and with it the transit time.
    fn on_transit(&mut self, transit: i64) {
        if let Some(before) = self.transit.replace(transit) {
            let difference = (transit - before) as i32;
            let difference = u64::from(difference.unsigned_abs());
            self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
        }
    }

    /// Interarrival jitter in units of the clock rate.
    pub(super) fn jitter(&self) -> u32 {
        u32::try_from(self.jitter >> 4).unwrap_or(u32::MAX)
    }

    /// Packets that never came.
    pub(super) fn lost(&self) -> u64 {
        self.sequence.expected().saturating_sub(self.received)
    }

    /// The receiver report of the source, without the fields about its sender reports. It counts the
    /// losses since the last report. `None` before the first packet.
    pub(super) fn report(&mut self, ssrc: u32) -> Option<ReportBlock> {
        let (all, received) = (self.sequence.expected(), self.received);
        if all == 0 {
            return None;
        }
        let expected = all - std::mem::replace(&mut self.expected_before, all);
        let received = received - std::mem::replace(&mut self.received_before, received);
        let lost = expected.saturating_sub(received);
        let fraction = (lost << 8).checked_div(expected).unwrap_or(0);
        Some(ReportBlock {
            ssrc,
            // 256 of 256 does not fit; it would mean that no packet was received.
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            // 24 bits, signed.
            lost: u32::try_from(self.lost())
                .unwrap_or(u32::MAX)
                .min(0x7f_ffff),
            highest: self.sequence.highest(),
            jitter: self.jitter(),
            last_sender_report: 0,
            delay: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(sequences: impl IntoIterator<Item = u16>) -> (Reception, Vec<SequenceOrder>) {
        let mut reception = Reception::default();
        let orders = sequences
            .into_iter()
            .map(|sequence| reception.on_packet(sequence, 0, 0))
            .collect();
        (reception, orders)
    }

    #[test]
    fn what_is_missing_is_counted_and_said_once() {
        let (mut reception, orders) = received([10, 12, 13]);
        assert_eq!(
            orders,
            [
                SequenceOrder::Next,
                SequenceOrder::Gap(1),
                SequenceOrder::Next
            ]
        );
        let report = reception.report(7).unwrap();
        assert_eq!((report.ssrc, report.lost, report.highest), (7, 1, 13));
        assert_eq!(report.fraction_lost, 64, "one of four");
        let again = reception.report(7).unwrap();
        assert_eq!((again.fraction_lost, again.lost), (0, 1));
    }

    #[test]
    fn a_sender_that_begins_anew_has_lost_nothing() {
        let (reception, orders) = received([30_000, 30_001, 5, 6, 8, 20_000]);
        assert_eq!(orders[2..4], [SequenceOrder::Old, SequenceOrder::Anew]);
        assert_eq!(orders[4..], [SequenceOrder::Gap(1), SequenceOrder::Anew]);
        assert_eq!(
            (reception.sequence.highest(), reception.lost()),
            (20_000, 0)
        );
    }

    #[test]
    fn nothing_is_reported_before_the_first_packet() {
        assert_eq!(Reception::default().report(1), None);
    }

    #[test]
    fn jitter_is_that_of_the_rfc() {
        let mut reception = Reception::default();
        // Every other packet is 160 units late: the difference is 160 each time.
        for number in 0..400u16 {
            let time = u32::from(number) * 160;
            let late = i64::from(number % 2) * 160;
            reception.on_packet(number, time.wrapping_sub(1_000), i64::from(time) + late);
        }
        assert!((150..=160).contains(&reception.jitter()), "{reception:?}");
    }
}
