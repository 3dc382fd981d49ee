//! Order, losses and jitter of the packets of one source (RFC 3550 6.4.1, A.1, A.3 and A.8).

use super::rtcp::ReportBlock;

/// A sequence number that is further behind the highest is no late packet: the sender has begun anew.
const MAX_MISORDER: i16 = 100;

/// How a packet follows the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SequenceOrder {
    /// It is the first or the next one.
    Next,
    /// Packets between it and the one before are missing.
    Gap,
    /// It came before, or is older than the last one. TCP delivers in order, so the sender repeats
    /// packets.
    Old,
    /// The sender has begun anew with this one.
    Anew,
}

/// The state of one source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reception {
    /// The first sequence number since the source began (anew).
    base: Option<u16>,
    /// The highest one, with all its cycles: 2^32 packets are four months of a camera.
    highest: u64,
    received: u64,
    /// An old sequence number. If the next packet has the next number, the sender has begun anew.
    suspect: Option<u16>,
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
        let order = self.order(sequence);
        if order != SequenceOrder::Old {
            self.received += 1;
            self.on_transit(arrival - i64::from(time));
        }
        order
    }

    fn order(&mut self, sequence: u16) -> SequenceOrder {
        if self.base.is_none() {
            self.begin(sequence);
            return SequenceOrder::Next;
        }
        let step = sequence.wrapping_sub(self.highest as u16).cast_signed();
        if step > 0 {
            self.highest += u64::from(step.unsigned_abs());
            self.suspect = None;
            return if step == 1 {
                SequenceOrder::Next
            } else {
                SequenceOrder::Gap
            };
        }
        let is_suspect = step < -MAX_MISORDER;
        if is_suspect && self.suspect == Some(sequence.wrapping_sub(1)) {
            *self = Self::default();
            self.begin(sequence);
            return SequenceOrder::Anew;
        }
        self.suspect = is_suspect.then_some(sequence);
        SequenceOrder::Old
    }

    fn begin(&mut self, sequence: u16) {
        self.base = Some(sequence);
        self.highest = u64::from(sequence);
    }

    /// RFC 3550 A.8. RTP time wraps, and with it the transit time.
    fn on_transit(&mut self, transit: i64) {
        if let Some(before) = self.transit.replace(transit) {
            let difference = (transit - before) as i32;
            let difference = u64::from(difference.unsigned_abs());
            self.jitter = self.jitter + difference - ((self.jitter + 8) >> 4);
        }
    }

    /// The highest sequence number, with its cycles in the upper half.
    pub(super) fn highest(&self) -> u32 {
        self.highest as u32
    }

    /// Interarrival jitter in units of the clock rate.
    pub(super) fn jitter(&self) -> u32 {
        u32::try_from(self.jitter >> 4).unwrap_or(u32::MAX)
    }

    fn expected(&self) -> u64 {
        self.base
            .map_or(0, |base| self.highest - u64::from(base) + 1)
    }

    /// Packets that never came.
    pub(super) fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }

    /// The receiver report of the source, without the fields about its sender reports. It counts the
    /// losses since the last report. `None` before the first packet.
    pub(super) fn report(&mut self, ssrc: u32) -> Option<ReportBlock> {
        self.base?;
        let (all, received) = (self.expected(), self.received);
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
            highest: self.highest(),
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
    fn sequence_numbers_wrap() {
        let (mut reception, orders) = received([65_534, 65_535, 0, 1]);
        assert_eq!(orders, [SequenceOrder::Next; 4]);
        assert_eq!(reception.highest(), 0x1_0001);
        assert_eq!(reception.report(1).unwrap().lost, 0);
    }

    #[test]
    fn what_is_missing_is_counted_and_said_once() {
        let (mut reception, orders) = received([10, 12, 13]);
        assert_eq!(
            orders,
            [SequenceOrder::Next, SequenceOrder::Gap, SequenceOrder::Next]
        );
        let report = reception.report(7).unwrap();
        assert_eq!((report.ssrc, report.lost, report.highest), (7, 1, 13));
        assert_eq!(report.fraction_lost, 64, "one of four");
        let again = reception.report(7).unwrap();
        assert_eq!((again.fraction_lost, again.lost), (0, 1));
    }

    #[test]
    fn repeated_and_late_packets_are_old() {
        let (reception, orders) = received([10, 11, 11, 10, 12]);
        let expected = [
            SequenceOrder::Next,
            SequenceOrder::Next,
            SequenceOrder::Old,
            SequenceOrder::Old,
            SequenceOrder::Next,
        ];
        assert_eq!(orders, expected);
        assert_eq!(reception.lost(), 0);
    }

    #[test]
    fn a_sender_that_begins_anew_is_believed_at_its_second_packet() {
        let (reception, orders) = received([30_000, 30_001, 5, 30_002, 7, 8, 9]);
        let expected = [
            SequenceOrder::Next,
            SequenceOrder::Next,
            SequenceOrder::Old,
            SequenceOrder::Next,
            SequenceOrder::Old,
            SequenceOrder::Anew,
            SequenceOrder::Next,
        ];
        assert_eq!(orders, expected);
        assert_eq!((reception.highest(), reception.lost()), (9, 0));
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
