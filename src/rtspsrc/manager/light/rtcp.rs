//! Reads and writes RTCP (RFC 3550 6), as far as a receiver of media needs it, and counts what receiver
//! reports say: losses and jitter of the packets of one source (RFC 3550 6.4.1, A.3 and A.8).
//!
//! # When reports are due
//!
//! RFC 3550 6.2 has one every 5 s, varied at random by half, so that many receivers do not report at once.
//! All sessions of the process report at moments that are half a second apart, so that the thread of the
//! timers wakes up twice a second at most, however many sessions there are.

use std::{
    sync::{LazyLock, Weak},
    time::{Duration, Instant},
};

use gstreamer::glib;

use super::Light;
use crate::rtspsrc::{
    CAT, lock,
    manager::SenderReport,
    threads::timer::{self, timers},
};

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;

/// The item of a source description that names the participant.
const CNAME: u8 = 1;

/// The largest count of sources in one packet.
const MAX_COUNT: u8 = 31;

/// What a compound packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// The sender's clocks at one moment.
    SenderReport { ssrc: u32, report: SenderReport },
    /// The participant that a source belongs to. The sources of one participant have one clock.
    Name { ssrc: u32, name: &'a [u8] },
    /// The source has left.
    Bye { ssrc: u32 },
}

/// Calls `each` for each item of a compound packet, up to the first packet in it that cannot be parsed.
pub(super) fn read<'a>(mut packet: &'a [u8], mut each: impl FnMut(Item<'a>)) {
    while let Some((kind, count, body, rest)) = split(packet) {
        packet = rest;
        match kind {
            SENDER_REPORT => sender_report(body).into_iter().for_each(&mut each),
            SOURCE_DESCRIPTION => names(body, count, &mut each),
            BYE => {
                let sources = body.chunks_exact(4).take(usize::from(count));
                for ssrc in sources.filter_map(|source| word(source, 0)) {
                    each(Item::Bye { ssrc });
                }
            }
            _ => {}
        }
    }
}

/// Type, count and body of the first packet of a compound, and the rest of it.
fn split(packet: &[u8]) -> Option<(u8, u8, &[u8], &[u8])> {
    let [first, kind, l0, l1] = *packet.first_chunk::<4>()?;
    if first >> 6 != 2 {
        return None;
    }
    let length = 4 * usize::from(u16::from_be_bytes([l0, l1]));
    let (body, rest) = packet.get(4..)?.split_at_checked(length)?;
    Some((kind, first & MAX_COUNT, body, rest))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    word.try_into().ok().map(u32::from_be_bytes)
}

fn sender_report(body: &[u8]) -> Option<Item<'_>> {
    let ntp = (u64::from(word(body, 4)?) << 32) | u64::from(word(body, 8)?);
    let (ssrc, time) = (word(body, 0)?, word(body, 12)?);
    Some(Item::SenderReport {
        ssrc,
        report: SenderReport { ntp, time },
    })
}

/// Each chunk is a source and its items, padded with at least one zero to a multiple of four bytes.
fn names<'a>(mut body: &'a [u8], count: u8, each: &mut impl FnMut(Item<'a>)) {
    for _ in 0..count {
        let Some(ssrc) = word(body, 0) else { return };
        let mut at = 4;
        while let Some(&[kind, length]) = body.get(at..at + 2)
            && kind != 0
        {
            let Some(name) = body.get(at + 2..at + 2 + usize::from(length)) else {
                return;
            };
            if kind == CNAME {
                each(Item::Name { ssrc, name });
            }
            at += 2 + name.len();
        }
        let next = (at / 4 + 1) * 4;
        body = body.get(next..).unwrap_or_default();
    }
}

/// The report block of one source (RFC 3550 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReportBlock {
    pub(super) ssrc: u32,
    /// Losses since the last report, in 256ths.
    pub(super) fraction_lost: u8,
    pub(super) lost: u32,
    pub(super) highest: u32,
    pub(super) jitter: u32,
    /// The middle 32 bits of the last sender report's NTP time; 0: no report came.
    pub(super) last_sender_report: u32,
    /// The time since that report, in units of 2^-16 s.
    pub(super) delay: u32,
}

/// A receiver report from the SSRC `own`, with the name that every compound packet must have (RFC 3550
/// 6.1).
pub(super) fn receiver_report(own: u32, report: Option<ReportBlock>, name: &str) -> Vec<u8> {
    let mut packet = Vec::with_capacity(64);
    let words: u16 = if report.is_some() { 7 } else { 1 };
    packet.extend([0x80 | u8::from(report.is_some()), RECEIVER_REPORT]);
    packet.extend(words.to_be_bytes());
    packet.extend(own.to_be_bytes());
    if let Some(report) = report {
        let lost = u32::from(report.fraction_lost) << 24 | (report.lost & 0xff_ffff);
        for word in [
            report.ssrc,
            lost,
            report.highest,
            report.jitter,
            report.last_sender_report,
            report.delay,
        ] {
            packet.extend(word.to_be_bytes());
        }
    }
    describe(&mut packet, own, name);
    packet
}

fn describe(packet: &mut Vec<u8>, own: u32, name: &str) {
    let name = &name.as_bytes()[..name.len().min(255)];
    // Source, kind and length, name, and at least one zero.
    let words = (4 + 2 + name.len()) / 4 + 1;
    packet.extend([0x81, SOURCE_DESCRIPTION]);
    packet.extend((words as u16).to_be_bytes());
    let end = packet.len() + 4 * words;
    packet.extend(own.to_be_bytes());
    packet.extend([CNAME, name.len() as u8]);
    packet.extend(name);
    packet.resize(end, 0);
}

/// A random CNAME, which says nothing about this machine (RFC 7022).
pub(super) fn new_name() -> String {
    let random = [glib::random_int(), glib::random_int(), glib::random_int()];
    random.iter().map(|word| format!("{word:08x}")).collect()
}

/// The packets of one source. They come in the order of their numbers, as the stream's
/// [`Sequencer`](crate::rtspsrc::media::sequence::Sequencer) lets them through; a source that begins anew
/// gets another `Reception`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reception {
    /// The first sequence number, ...
    first: u64,
    /// ... and the highest one, with all its cycles: 2^32 packets are four months of a camera.
    highest: u64,
    received: u64,
    /// Arrival minus RTP time of the last packet, in units of the clock rate.
    transit: Option<i64>,
    /// In sixteenths of a unit.
    jitter: u64,
    expected_before: u64,
    received_before: u64,
}

impl Reception {
    /// A packet came; `arrival` in units of its clock rate, from any origin. Returns how many packets are
    /// missing before it, or `None` if it is not newer than the last one, as behind packets that have
    /// waited for too long.
    pub(super) fn on_packet(&mut self, sequence: u16, time: u32, arrival: i64) -> Option<u16> {
        if self.received == 0 {
            (self.first, self.highest) = (sequence.into(), sequence.into());
        }
        let step = sequence.wrapping_sub(self.highest as u16);
        if self.received > 0 && step.cast_signed() <= 0 {
            return None;
        }
        self.highest += u64::from(step);
        self.received += 1;
        self.on_transit(arrival - i64::from(time));
        Some(step.saturating_sub(1))
    }

    /// The highest sequence number, with its cycles in the upper half.
    pub(super) fn highest(&self) -> u32 {
        self.highest as u32
    }

    /// How many packets there are from the first to the highest number.
    fn expected(&self) -> u64 {
        self.highest - self.first + u64::from(self.received > 0)
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
        self.expected().saturating_sub(self.received)
    }

    /// The receiver report of the source. It counts the losses since the last report. `sender`: the last
    /// two fields, about the source's own reports. `None` before the first packet.
    pub(super) fn report(&mut self, ssrc: u32, sender: (u32, u32)) -> Option<ReportBlock> {
        let (all, received) = (self.expected(), self.received);
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
            highest: self.highest(),
            jitter: self.jitter(),
            last_sender_report: sender.0,
            delay: sender.1,
        })
    }
}

/// The average time between two reports of a session. The first one comes after half of it.
const INTERVAL: Duration = Duration::from_secs(5);

/// All sessions report at the same moments, which are this far apart.
const STEP: Duration = Duration::from_millis(500);

/// Sends reports of a session from now on, until it cannot send them any more or is gone.
pub(super) fn schedule_reports(session: Weak<Light>) {
    let send = async move {
        wait_about(INTERVAL / 2).await;
        while session.upgrade().is_some_and(|session| session.report()) {
            wait_about(INTERVAL).await;
        }
    };
    match timers() {
        #[expect(
            clippy::disallowed_methods,
            reason = "one task for each session that plays; it ends with the session"
        )]
        Ok(timers) => drop(timers.spawn(send)),
        Err(error) => gstreamer::warning!(CAT, "no receiver reports: {error}"),
    }
}

/// Waits for `time`, varied at random by half, and then for the next moment at which all sessions report.
async fn wait_about(time: Duration) {
    static FIRST: LazyLock<Instant> = LazyLock::new(timer::now);

    let time = time.mul_f64(glib::random_double_range(0.5, 1.5));
    let due = timer::now().saturating_duration_since(*FIRST) + time;
    let behind_a_moment = Duration::from_nanos((due.as_nanos() % STEP.as_nanos()) as u64);
    timer::pass(time + STEP - behind_a_moment).await;
}

impl Light {
    /// Sends a report for each stream. False if the session has no connection to send it on.
    fn report(&self) -> bool {
        let Some(reports) = lock(&self.reports).clone() else {
            return false;
        };
        let streams = self.streams.values();
        for stream in streams.filter(|_| !reports.is_mute) {
            let (own, report) = stream.receiver_report(timer::now());
            let packet = receiver_report(own, report, &self.name);
            if !reports.try_send(stream.out.number, packet) {
                gstreamer::log!(CAT, obj = stream.pad, "a report was dropped");
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(packet: &[u8]) -> Vec<Item<'_>> {
        let mut items = Vec::new();
        read(packet, |item| items.push(item));
        items
    }

    fn compound() -> Vec<u8> {
        let mut packet = vec![0x80, 200, 0, 6, 0, 0, 0, 7];
        packet.extend([0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 9]);
        packet.extend([0; 8]);
        packet.extend([0x81, 202, 0, 3, 0, 0, 0, 7, 1, 3, b'c', b'a', b'm', 0, 0, 0]);
        packet.extend([0x81, 203, 0, 1, 0, 0, 0, 7]);
        packet
    }

    #[test]
    fn a_compound_packet_is_read() {
        let expected = [
            Item::SenderReport {
                ssrc: 7,
                report: SenderReport {
                    ntp: 0x1_8000_0000,
                    time: 9,
                },
            },
            Item::Name {
                ssrc: 7,
                name: b"cam",
            },
            Item::Bye { ssrc: 7 },
        ];
        assert_eq!(all(&compound()), expected);
    }

    #[test]
    fn any_octets_are_read_to_an_end() {
        let whole = compound();
        for length in 0..whole.len() {
            all(&whole[..length]);
        }
        for at in 0..whole.len() {
            for value in 0..=255 {
                let mut packet = whole.clone();
                packet[at] = value;
                all(&packet);
            }
        }
    }

    #[test]
    fn chunks_of_several_sources_are_told_apart() {
        let mut packet = vec![0x82, 202, 0, 6];
        packet.extend([0, 0, 0, 1, 1, 1, b'a', 0]);
        packet.extend([0, 0, 0, 2, 2, 1, b'x', 1, 2, b'b', b'b', 0, 0, 0, 0, 0]);
        let names = [(1, &b"a"[..]), (2, b"bb")].map(|(ssrc, name)| Item::Name { ssrc, name });
        assert_eq!(all(&packet), names);
    }

    #[test]
    fn a_receiver_report_has_a_name_and_whole_words() {
        for name in ["", "a", "ab", "abc", "abcd"] {
            let packet = receiver_report(5, None, name);
            assert_eq!(packet.len() % 4, 0);
            assert_eq!(packet[..8], [0x80, 201, 0, 1, 0, 0, 0, 5]);
            let name = name.as_bytes();
            assert_eq!(all(&packet), [Item::Name { ssrc: 5, name }]);
        }
    }

    #[test]
    fn a_report_is_laid_out_as_in_the_rfc() {
        let report = ReportBlock {
            ssrc: 1,
            fraction_lost: 2,
            lost: 3,
            highest: 4,
            jitter: 5,
            last_sender_report: 6,
            delay: 7,
        };
        let packet = receiver_report(9, Some(report), "x");
        assert_eq!(packet[..4], [0x81, 201, 0, 7]);
        let words = packet[4..32]
            .chunks(4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()));
        assert_eq!(words.collect::<Vec<_>>(), [9, 1, 0x0200_0003, 4, 5, 6, 7]);
    }
}

#[cfg(test)]
mod reception_tests {
    use super::*;

    fn received<const N: usize>(sequences: [u16; N]) -> (Reception, [Option<u16>; N]) {
        let mut reception = Reception::default();
        let missing = sequences.map(|sequence| reception.on_packet(sequence, 0, 0));
        (reception, missing)
    }

    #[test]
    fn what_is_missing_is_counted_and_said_once() {
        let (mut reception, missing) = received([10, 12, 13]);
        assert_eq!(missing, [Some(0), Some(1), Some(0)]);
        let report = reception.report(7, (8, 9)).unwrap();
        assert_eq!((report.ssrc, report.lost, report.highest), (7, 1, 13));
        assert_eq!((report.last_sender_report, report.delay), (8, 9));
        assert_eq!(report.fraction_lost, 64, "one of four");
        let again = reception.report(7, (8, 9)).unwrap();
        assert_eq!((again.fraction_lost, again.lost), (0, 1));
    }

    #[test]
    fn sequence_numbers_wrap() {
        let (reception, missing) = received([65_534, 65_535, 0, 1]);
        assert_eq!(missing, [Some(0); 4]);
        assert_eq!((reception.highest(), reception.lost()), (0x1_0001, 0));
    }

    #[test]
    fn repeated_and_late_packets_are_told_and_not_counted() {
        let (reception, missing) = received([0, 0, 3, 1, 2, 4]);
        assert_eq!(missing, [Some(0), None, Some(2), None, None, Some(0)]);
        assert_eq!((reception.highest(), reception.lost()), (4, 2));
    }

    #[test]
    fn nothing_is_reported_before_the_first_packet() {
        assert_eq!(Reception::default().report(1, (0, 0)), None);
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
