//! Caps of real and of hostile descriptions.

use bytes::Bytes;

use super::*;
use crate::mux::proto::wire::sdp::{InvalidSdp, parse_presentation};

/// The description that gst-rtsp-server 1.22 gives of a mount with H.264 and PCMA, with attributes that
/// cameras add.
const SDP: &str = "v=0\r\n\
o=- 9543131813022586421 1 IN IP4 127.0.0.1\r\n\
s=Session streamed with GStreamer\r\n\
i=rtsp-server\r\n\
t=0 0\r\n\
a=tool:GStreamer\r\n\
a=type:broadcast\r\n\
a=control:*\r\n\
a=range:npt=now-\r\n\
m=video 0 RTP/AVP 96\r\n\
c=IN IP4 0.0.0.0\r\n\
b=AS:2048\r\n\
a=rtpmap:96 H264/90000\r\n\
a=framerate:25\r\n\
a=x-dimensions:1280,720\r\n\
a=fmtp:96 packetization-mode=1;profile-level-id=42c01f;sprop-parameter-sets=Z0LAH9oBQBboQAAAAwBAAAAMo8YMqA==,aM48gA==\r\n\
a=control:stream=0\r\n\
a=ts-refclk:local\r\n\
m=audio 0 RTP/AVP 8 101\r\n\
c=IN IP4 0.0.0.0\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=control:stream=1\r\n";

/// The line on which `attributes_to_caps` never returns.
const ENDLESS: &str = "a=key-mgmt:mikey AQAd=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;config=1210\r\n";

fn maps(sdp: &[u8]) -> Vec<Result<PayloadMap, Unusable>> {
    gst::init().unwrap();
    let presentation = parsed(sdp).unwrap();
    let streams = presentation.streams.iter();
    streams
        .map(|stream| payload_map(&presentation, stream))
        .collect()
}

fn parsed(sdp: &[u8]) -> Result<Presentation, InvalidSdp> {
    let sdp = Bytes::copy_from_slice(sdp);
    parse_presentation(sdp, "rtsp://camera/1".parse().unwrap())
}

fn structure(map: &PayloadMap) -> gst::Structure {
    map.default_caps().unwrap().structure(0).unwrap().to_owned()
}

#[test]
fn video_caps_have_what_depayloaders_and_parsers_need() {
    let maps = maps(SDP.as_bytes());
    let video = structure(maps[0].as_ref().unwrap());
    assert_eq!(video.name(), "application/x-rtp");
    assert_eq!(video.get::<&str>("media"), Ok("video"));
    assert_eq!(video.get::<i32>("payload"), Ok(96));
    assert_eq!(video.get::<i32>("clock-rate"), Ok(90_000));
    assert_eq!(video.get::<&str>("encoding-name"), Ok("H264"));
    assert_eq!(video.get::<&str>("packetization-mode"), Ok("1"));
    assert_eq!(video.get::<&str>("profile-level-id"), Ok("42c01f"));
    assert!(
        video
            .get::<&str>("sprop-parameter-sets")
            .unwrap()
            .starts_with("Z0LAH9o")
    );
    assert_eq!(video.get::<&str>("a-framerate"), Ok("25"));
    assert_eq!(video.get::<&str>("x-dimensions"), Ok("1280,720"));
    assert_eq!(video.get::<&str>("a-tool"), Ok("GStreamer"));
}

/// `rtspsrc` gives the text of the description to GStreamer's own parser.
#[test]
fn caps_are_those_of_gstreamers_parser() {
    gst::init().unwrap();
    let odd = "a=recvonly\r\na=framerate: 25\r\na=x-a:b:c\r\na=x-a:d\r\na=rtcp-fb:96 nack pli\r\na=framesize:96 64-48\r\n";
    let sdp = SDP.replace("a=ts-refclk:local\r\n", odd);
    let message = gst_sdp::SDPMessage::parse_buffer(sdp.as_bytes()).unwrap();
    let media = message.media(0).unwrap();
    let mut attributes = gst::Caps::new_empty_simple("application/x-unknown");
    message.attributes_to_caps(attributes.make_mut()).unwrap();
    media.attributes_to_caps(attributes.make_mut()).unwrap();
    let mut expected = media.caps_from_media(96).unwrap().intersect(&attributes);
    let fields = expected.make_mut().structure_mut(0).unwrap();
    fields.set_name("application/x-rtp");
    let ours = maps(sdp.as_bytes()).remove(0).unwrap();
    assert_eq!(ours.caps(96), Some(&expected));
}

#[test]
fn static_payload_types_need_no_rtpmap() {
    let maps = maps(SDP.as_bytes());
    let audio = maps[1].as_ref().unwrap();
    let first = structure(audio);
    assert_eq!(first.get::<&str>("encoding-name"), Ok("PCMA"));
    assert_eq!(first.get::<i32>("clock-rate"), Ok(8_000));
    assert!(audio.caps(101).is_some());
    assert!(audio.caps(0).is_none());
}

#[test]
fn play_info_goes_into_the_caps() {
    let maps = maps(SDP.as_bytes());
    let info = RtpInfo {
        url: String::new(),
        seq: Some(65_535),
        rtptime: Some(u32::MAX),
    };
    let playing = maps[0]
        .as_ref()
        .unwrap()
        .with_play_info(Some(&info), &Segment::new(), false);
    let video = structure(&playing);
    assert_eq!(video.get::<u32>("seqnum-base"), Ok(65_535));
    assert_eq!(video.get::<u32>("clock-base"), Ok(u32::MAX));
    assert_eq!(video.get::<u64>("npt-start"), Ok(0));
    let without = structure(&maps[0].as_ref().unwrap().with_play_info(
        None,
        &Segment::new(),
        false,
    ));
    assert!(!without.has_field("seqnum-base"));
}

#[test]
fn f42_another_source_does_not_begin_where_play_said() {
    let maps = maps(SDP.as_bytes());
    let info = RtpInfo {
        url: String::new(),
        seq: Some(1),
        rtptime: Some(2),
    };
    let playing = maps[0]
        .as_ref()
        .unwrap()
        .with_play_info(Some(&info), &Segment::new(), false);
    let other = structure(&playing.without_start());
    assert!(!other.has_field("seqnum-base") && !other.has_field("clock-base"));
    assert_eq!(other.get::<u64>("npt-start"), Ok(0));
}

#[test]
fn the_key_management_line_that_never_ends_does() {
    let everywhere = SDP.replace("a=control", &format!("{ENDLESS}a=control"));
    let maps = maps(everywhere.as_bytes());
    assert!(maps.iter().all(Result::is_ok));
}

#[test]
fn a_description_that_is_not_utf8_is_played() {
    let sdp = [
        &b"s=caf\xe9 \xff\r\n"[..],
        SDP.as_bytes(),
        b"a=title:\xfc\xfc\r\n",
    ]
    .concat();
    assert!(maps(&sdp).iter().all(Result::is_ok));
}

#[test]
fn streams_that_cannot_be_played_say_why() {
    let sdp = "v=0\r\nm=video 0 RTP/SAVP 96\r\nm=application 0 UDP wb\r\nm=audio 0 RTP/AVP 99\r\nm=\r\nm=audio 0 RTP/AVP 0\r\n";
    let maps = maps(sdp.as_bytes());
    let reasons: Vec<_> = maps.iter().map(|map| map.as_ref().err().cloned()).collect();
    assert_eq!(
        reasons,
        [
            Some(Unusable::Protocol("RTP/SAVP".into())),
            Some(Unusable::NoPayload),
            None
        ]
    );
}

#[test]
fn key_management_is_taken_out_however_it_is_written() {
    for attribute in [
        "key-mgmt:mikey AQAd",
        "Key-Mgmt:x",
        " key-mgmt",
        "\u{1}key\u{2}-mgmt:",
    ] {
        let line = format!("a={attribute}\r\n");
        let sdp = format!("v=0\r\n{line}m=audio 0 RTP/AVP 0\r\n{line}a=crypto:1 x\r\n");
        let caps = structure(maps(sdp.as_bytes())[0].as_ref().unwrap());
        let of_attributes = caps.fields().filter(|field| field.starts_with("a-"));
        assert_eq!(of_attributes.count(), 0, "{caps:?}");
    }
}

#[test]
fn f54_data_is_as_it_is_and_texts_are_what_may_be_logged() {
    let long = "Z".repeat(400);
    let sdp = format!(
        "v=0\nk=clear:hunter2\na=tool:x\u{202e}y /cam?k=hunter2\na=control:/user=hunter2\n\
         a=x-long:{long}\na=crypto:1 hunter2\nm=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n\
         a=fmtp:96 sprop-parameter-sets={long}\u{2066}\n"
    );
    let caps = structure(maps(sdp.as_bytes())[0].as_ref().unwrap());
    assert_eq!(caps.get::<&str>("sprop-parameter-sets"), Ok(long.as_str()));
    assert!(!caps.to_string().contains("hunter2"), "{caps}");
    let tool = caps.get::<&str>("a-tool").unwrap();
    assert!(tool.starts_with("xy /cam?~"), "{tool}");
    assert!(caps.get::<&str>("x-long").unwrap().ends_with("ZZ…"));
}

#[test]
fn ten_thousand_mutations_neither_hang_nor_panic() {
    gst::init().unwrap();
    let seed = SDP.replace("a=control", &format!("{ENDLESS}a=control"));
    let lines: Vec<&str> = seed.split_inclusive("\r\n").collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..10_000 {
        let mut sdp = seed.clone().into_bytes();
        for _ in 0..=random.below(6) {
            mutate(&mut sdp, &lines, &mut random);
        }
        if parsed(&sdp).is_ok() {
            for map in maps(&sdp).iter().flatten() {
                let _ = map
                    .with_play_info(None, &Segment::new(), false)
                    .default_caps()
                    .unwrap()
                    .to_string();
            }
        }
    }
}

fn mutate(sdp: &mut Vec<u8>, lines: &[&str], random: &mut Random) {
    if sdp.is_empty() {
        return;
    }
    let at = random.below(sdp.len());
    match random.below(6) {
        0 => sdp[at] = random.below(256) as u8,
        1 => sdp[at] ^= 1 << random.below(8),
        2 => {
            let end = (at + random.below(40)).min(sdp.len());
            sdp.drain(at..end);
        }
        3 => {
            let line = lines[random.below(lines.len())].as_bytes();
            sdp.splice(at..at, line.iter().copied());
        }
        4 => sdp.truncate(at),
        _ => {
            let end = (at + random.below(20)).min(sdp.len());
            let copy = sdp[at..end].to_vec();
            let to = random.below(sdp.len());
            sdp.splice(to..to, copy);
        }
    }
}

fn rate_of(rtpmap: &str) -> Option<(String, i32)> {
    let sdp = format!("v=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 {rtpmap}\r\n");
    let map = maps(sdp.as_bytes()).remove(0).ok()?;
    let fields = structure(&map);
    let rate = fields.get::<i32>("clock-rate").unwrap();
    Some((fields.get::<String>("encoding-name").unwrap(), rate))
}

#[test]
fn f41_an_impossible_clock_rate_is_that_of_the_codec() {
    let bad = [
        "",
        "/",
        "/0",
        "/25",
        "/-1",
        "/2147483648",
        "/4294967296",
        "/fast",
        "/0/1",
        "/ ",
    ];
    for rate in bad {
        for (written, name, right) in [
            ("H264", "H264", 90_000),
            ("h265", "H265", 90_000),
            ("jpeg", "JPEG", 90_000),
            ("vnd.onvif.metadata", "VND.ONVIF.METADATA", 90_000),
            ("PCMA", "PCMA", 8_000),
            ("opus", "OPUS", 48_000),
        ] {
            let played = rate_of(&format!("{written}{rate}"));
            assert_eq!(played, Some((name.to_owned(), right)), "{written}{rate}");
        }
        // Which rate it has is in no table: it cannot be played.
        assert_eq!(rate_of(&format!("MPEG4-GENERIC{rate}")), None, "{rate}");
    }
    for (written, right) in [
        ("H264/90000/1", 90_000),
        ("H264 / 90000", 90_000),
        ("L16/44100/2", 44_100),
    ] {
        assert_eq!(rate_of(written).unwrap().1, right, "{written}");
    }
}

/// As much of it as an answer may have: the work does not grow with the attributes.
#[test]
fn f49_a_description_bomb_costs_as_much_as_a_camera() {
    let attributes: String = (0..10_000).map(|n| format!("a=x-{n}:{n}\r\n")).collect();
    let types: String = (96..128).map(|n| format!(" {n}")).collect();
    let maps_of_types: String = (96..128)
        .map(|n| format!("a=rtpmap:{n} H264/90000\r\na=fmtp:{n} a={n}\r\n"))
        .collect();
    let medium = format!(
        "m=video 0 RTP/AVP{types}\r\n{}{maps_of_types}",
        &attributes[..30_000]
    );
    let sdp = format!("v=0\r\n{attributes}{}", medium.repeat(32));
    let maps = maps(sdp.as_bytes());
    assert_eq!(maps.len(), 32);
    for map in maps {
        let map = map.unwrap();
        for number in 96..128 {
            let fields = map.caps(number).unwrap().structure(0).unwrap();
            assert_eq!(fields.get::<&str>("a"), Ok(number.to_string().as_str()));
            assert!(fields.n_fields() < 2 * MAX_TEXTS + 10);
        }
    }
}

/// SplitMix64: the same mutations in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}
