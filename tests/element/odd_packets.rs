//! Kinds of odd packets in the middle of a stream, one kind after the other, in front of real decoders. Behind each
//! of them pictures come again soon, and other cameras of the connection go on meanwhile (F50, F51).

use gstreamer as gst;

use crate::{
    odd_media::{Company, FOREIGN, ODD, Scene, payload},
    player::{for_both_managers, manager, use_manager},
    real_media::{self, Medium, Numbering},
    support::{
        mock_server::{Camera, MockServer},
        random::Random,
        rtsp::{RtpPacket, rtcp_bye},
    },
};

/// Bursts of a kind, each followed by the time of a picture.
const BURSTS: usize = 5;

/// Packets of pictures and of sound in a burst.
const PACKETS: usize = 60;

/// What is odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Each number is nearly 3 000 behind the last one, which is a loss to RFC 3550.
    Gaps,
    Numbers,
    Times,
    /// Times that are a little less than a second off: a jitterbuffer believes them.
    SmallTimes,
    Sources,
    PayloadTypes,
    /// A payload type of the description that is another stream's.
    OtherTypes,
    /// All of the header.
    Headers,
    Repeated,
    Backwards,
    /// Padding that is longer than the packet.
    Padding,
    /// More CSRCs than there are bytes, and an extension that is longer than the packet.
    ShortHeaders,
    /// Units of other coding.
    Garbage,
    /// Sender reports whose clocks are absurd.
    Clocks,
    /// Reports that are cut, or say that they are longer than they are.
    Reports,
    /// The source says BYE and goes on.
    Bye,
    /// Sources that were never heard say BYE.
    ForeignByes,
}

const KINDS: [Kind; 17] = [
    Kind::Gaps,
    Kind::Numbers,
    Kind::Times,
    Kind::SmallTimes,
    Kind::Sources,
    Kind::PayloadTypes,
    Kind::OtherTypes,
    Kind::Headers,
    Kind::Repeated,
    Kind::Backwards,
    Kind::Padding,
    Kind::ShortHeaders,
    Kind::Garbage,
    Kind::Clocks,
    Kind::Reports,
    Kind::Bye,
    Kind::ForeignByes,
];

impl Kind {
    /// An RTP packet of this kind, made of a good one. `index` counts the packets of the kind.
    fn rtp(self, good: &RtpPacket, index: usize, random: &mut Random) -> Vec<u8> {
        let mut packet = good.clone();
        let some = random.next() as u32;
        match self {
            Self::Gaps => {
                packet.sequence = good
                    .sequence
                    .wrapping_add(2_990_u16.wrapping_mul(index as u16))
            }
            Self::Numbers => packet.sequence = some as u16,
            Self::Times => packet.timestamp = some,
            Self::SmallTimes => packet.timestamp = good.timestamp.wrapping_add(some % 85_000),
            Self::Sources => packet.ssrc = FOREIGN.wrapping_add(some % 1_000_000),
            Self::PayloadTypes => packet.payload_type = 98 + (some % 30) as u8,
            Self::OtherTypes => packet.payload_type ^= 1,
            Self::Headers => {
                packet.sequence = some as u16;
                packet.timestamp = random.next() as u32;
                packet.ssrc = random.next() as u32;
                packet.payload_type = (some % 128) as u8;
                packet.marker = some.is_multiple_of(2);
            }
            Self::Backwards => packet.sequence = good.sequence.wrapping_sub(2 * index as u16),
            Self::Garbage => {
                packet.payload.fill_with(|| random.next() as u8);
                // Not a kind that the depayloader posts ERROR for, as it does not know it.
                packet.payload[0] = [0x41, 0x61, 0x65, 0x06][some as usize % 4];
            }
            _ => {}
        }
        let mut bytes = packet.to_bytes();
        match self {
            Self::Padding => {
                bytes[0] |= 0x20;
                *bytes.last_mut().unwrap() = 255;
            }
            Self::ShortHeaders => {
                bytes.truncate(12 + index % 8);
                bytes[0] |= [0x0f, 0x10, 0x1f][index % 3];
                bytes.resize(12 + index % 20, 0xff);
            }
            _ => {}
        }
        bytes
    }

    /// Its reports, one behind the other, of the source with this SSRC.
    fn rtcp(self, ssrc: u32, random: &mut Random) -> Vec<Vec<u8>> {
        let report = |ssrc: u32, ntp: u64, time: u32| {
            let mut bytes = vec![0x80, 200, 0, 6];
            bytes.extend(ssrc.to_be_bytes());
            bytes.extend(ntp.to_be_bytes());
            bytes.extend(time.to_be_bytes());
            bytes.extend([0xff; 8]);
            bytes
        };
        let bye = |ssrc: u32| [report(ssrc, 1 << 62, 0), rtcp_bye(ssrc)].concat();
        match self {
            Self::Clocks => [0, 1, u64::MAX, 1 << 63, random.next(), random.next()]
                .map(|ntp| report(ssrc, ntp, random.next() as u32))
                .into(),
            Self::Reports => {
                let whole = report(ssrc, random.next(), random.next() as u32);
                let mut long = whole.clone();
                long[2] = 0xff;
                let cut = |at: usize| whole[..at].to_vec();
                vec![long, cut(3), cut(9), cut(27), Vec::new()]
            }
            Self::Bye => vec![bye(ssrc)],
            Self::ForeignByes => (0..5).map(|_| bye(random.next() as u32)).collect(),
            _ => Vec::new(),
        }
    }
}

/// A burst of a kind on both streams.
fn burst(scene: &mut Scene, kind: Kind, sound: (&Medium, &mut Numbering), random: &mut Random) {
    let mut pictures = Vec::new();
    while pictures.len() < PACKETS {
        pictures.extend(scene.picture());
    }
    let (sound, own) = sound;
    let sounds = sound.packets().iter().cycle().take(PACKETS);
    let sounds = sounds.map(|packet| own.packet(packet)).collect();
    for (stream, good) in [(0, pictures), (1, sounds)] {
        // Sound of another coding ends the process of `rtpmp4gdepay` 1.22 in some cases, with any source.
        if stream == 1 && matches!(kind, Kind::Garbage | Kind::OtherTypes) {
            continue;
        }
        let (first, ssrc) = (good[0].clone(), Camera::ssrc(ODD, stream));
        let odd = |(index, packet): (usize, &RtpPacket)| match kind {
            Kind::Repeated => first.to_bytes(),
            _ => kind.rtp(packet, index, random),
        };
        let odd: Vec<_> = good.iter().enumerate().map(odd).collect();
        scene.send_bytes(stream, &odd);
        // Where all sources say BYE the session is set up anew.
        if stream == 1 && kind == Kind::Bye {
            continue;
        }
        scene.send_reports(stream, &kind.rtcp(ssrc, random));
    }
}

for_both_managers!(f51_behind_each_kind_of_odd_packets_pictures_and_sound_come_again);
fn f51_behind_each_kind_of_odd_packets_pictures_and_sound_come_again() {
    let manager = manager();
    std::thread::scope(|scope| {
        for company in Company::ALL {
            scope.spawn(move || {
                use_manager(manager);
                all_kinds(company);
            });
        }
    });
}

fn all_kinds(company: Company) {
    let mut scene = Scene::new(MockServer::builder(), company);
    let (mut random, sound) = (Random::new(11), real_media::sound());
    let mut own = Numbering {
        ssrc: Camera::ssrc(ODD, 1),
        sequence: 0,
        timestamp: 0,
    };
    scene.recovers("before");
    scene.assert_sound_goes_on(&sound, &mut own);
    for kind in KINDS {
        for _ in 0..BURSTS {
            burst(&mut scene, kind, (&sound, &mut own), &mut random);
            scene.pass();
        }
        scene.recovers(&format!("{kind:?} beside {company:?}"));
        scene.assert_others_are_in_time();
        scene.assert_sound_goes_on(&sound, &mut own);
    }
    scene.assert_others_have_all();
}

for_both_managers!(f51_a_large_gap_is_a_discontinuity_and_is_not_waited_for);
fn f51_a_large_gap_is_a_discontinuity_and_is_not_waited_for() {
    let mut scene = Scene::new(MockServer::builder(), Company::Nothing);
    scene.recovers("before");
    for missing in [33, 100, 2_900] {
        scene.own.sequence = scene.own.sequence.wrapping_add(missing);
        let picture = scene.picture();
        scene.send_bytes(0, &[picture[0].to_bytes()]);
        let is_it = |it: &gst::Buffer| payload(it) == picture[0].payload;
        let packets = scene
            .packets
            .wait_until(|packets| packets.last().is_some_and(is_it));
        let flags = packets.last().unwrap().flags();
        assert!(
            flags.contains(gst::BufferFlags::DISCONT),
            "{missing} missing"
        );
        scene.recovers("behind a gap");
    }
}

for_both_managers!(f51_contributing_sources_extensions_and_padding_are_no_part_of_the_media);
fn f51_contributing_sources_extensions_and_padding_are_no_part_of_the_media() {
    Company::ALL.into_iter().for_each(|company| {
        let mut scene = Scene::new(MockServer::builder(), company);
        scene.recovers("before");
        let before = scene.pictures.count();
        const PICTURES: usize = 40;
        for index in 0..PICTURES {
            let dressed = |packet: &RtpPacket| dressed(packet, index);
            let picture: Vec<_> = scene.picture().iter().map(dressed).collect();
            scene.send_bytes(0, &picture);
            scene.pass();
        }
        // The last ones come out when the next one has begun.
        scene.pictures.wait_for(before + PICTURES - 2);
        scene.assert_others_have_all();
    });
}

/// A good packet with 15 CSRCs, an extension and padding, or some of them.
fn dressed(packet: &RtpPacket, index: usize) -> Vec<u8> {
    let plain = packet.to_bytes();
    let (head, payload) = plain.split_at(12);
    let mut bytes = head.to_vec();
    if index.is_multiple_of(2) {
        bytes[0] |= 15;
        bytes.extend([0xcc; 60]);
    }
    if !index.is_multiple_of(3) {
        bytes[0] |= 0x10;
        bytes.extend([0xbe, 0xde, 0, 100]);
        bytes.extend([0x11; 400]);
    }
    bytes.extend(payload);
    if !index.is_multiple_of(5) {
        bytes[0] |= 0x20;
        bytes.extend([0; 199]);
        bytes.push(200);
    }
    bytes
}
