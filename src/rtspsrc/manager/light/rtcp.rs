//! Reads and writes RTCP (RFC 3550 6), as far as a receiver of media needs it.

use gstreamer::glib;

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
    SenderReport {
        ssrc: u32,
        /// Since 1900, in units of 2^-32 s.
        ntp: u64,
        /// The same moment in RTP time.
        time: u32,
    },
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
    Some(Item::SenderReport {
        ssrc: word(body, 0)?,
        ntp: (u64::from(word(body, 4)?) << 32) | u64::from(word(body, 8)?),
        time: word(body, 12)?,
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
                ntp: 0x1_8000_0000,
                time: 9,
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
