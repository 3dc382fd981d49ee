//! Descriptions in the form of the named servers, and malformed ones.

use super::*;

const GST: &str = "v=0\r\no=- 1188340656180883 1 IN IP4 127.0.0.1\r\ns=Session streamed with GStreamer\r\n\
i=rtsp-server\r\nt=0 0\r\na=tool:GStreamer\r\na=type:broadcast\r\na=control:*\r\na=range:npt=now-\r\n\
m=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\nb=AS:2097\r\na=rtpmap:96 H264/90000\r\n\
a=fmtp:96 packetization-mode=1;profile-level-id=42c01e\r\na=control:stream=0\r\n\
m=audio 0 RTP/AVP 97\r\nc=IN IP4 0.0.0.0\r\na=rtpmap:97 MPEG4-GENERIC/44100/2\r\na=control:stream=1\r\n";

const LIVE555: &str = "v=0\r\no=- 1700000000000000 1 IN IP4 10.0.0.2\r\ns=H.264 Video, streamed by the LIVE555 Media Server\r\n\
i=test.264\r\nt=0 0\r\na=tool:LIVE555 Streaming Media v2026.06.24\r\na=type:broadcast\r\na=control:*\r\n\
a=range:npt=now-\r\na=x-qt-text-nam:H.264 Video\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\nb=AS:500\r\n\
a=rtpmap:96 H264/90000\r\na=control:track1\r\n";

const HIKVISION: &str = "v=0\r\no=- 1109162014219182 1109162014219192 IN IP4 x.y.z.w\r\ns=Media Presentation\r\n\
e=NONE\r\nb=AS:5100\r\nt=0 0\r\na=control:rtsp://10.0.0.3:554/Streaming/Channels/101/\r\n\
m=video 0 RTP/AVP 96\r\nb=AS:5000\r\na=recvonly\r\na=x-dimensions:1920,1080\r\n\
a=control:rtsp://10.0.0.3:554/Streaming/Channels/101/trackID=1\r\na=rtpmap:96 H264/90000\r\n\
m=application 0 RTP/AVP 107\r\nb=AS:50\r\n\
a=control:rtsp://10.0.0.3:554/Streaming/Channels/101/trackID=3\r\n\
a=rtpmap:107 vnd.onvif.metadata/90000\r\na=Media_header:MEDIAINFO=494D4B48010100;\r\na=appversion:1.0\r\n";

const DAHUA: &str = "v=0\r\no=- 2252316233 2252316233 IN IP4 0.0.0.0\r\ns=Media Server\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n\
a=control:*\r\na=packetization-supported:DH\r\na=range:npt=now-\r\nm=video 0 RTP/AVP 98\r\n\
a=control:trackID=0\r\na=framerate:15.000000\r\na=rtpmap:98 H265/90000\r\na=recvonly\r\n\
m=audio 0 RTP/AVP 8\r\na=control:trackID=1\r\na=rtpmap:8 PCMA/8000\r\na=recvonly\r\n";

const AXIS: &str = "v=0\r\no=- 1188340656180883 1 IN IP4 10.0.0.4\r\ns=Session streamed with GStreamer\r\n\
i=rtsp-server\r\nt=0 0\r\na=tool:GStreamer\r\na=type:broadcast\r\na=range:npt=now-\r\n\
a=control:rtsp://10.0.0.4/axis-media/media.amp?videocodec=h264\r\nm=video 0 RTP/AVP 96\r\n\
c=IN IP4 0.0.0.0\r\nb=AS:50000\r\na=rtpmap:96 H264/90000\r\n\
a=control:rtsp://10.0.0.4/axis-media/media.amp/stream=0?videocodec=h264\r\n";

fn parse(sdp: impl Into<Bytes>, base: &str) -> Result<Presentation, InvalidSdp> {
    parse_presentation(sdp.into(), Url::parse(base).unwrap())
}

/// Aggregate and stream controls.
fn uris(sdp: &'static str, base: &str) -> Vec<String> {
    let presentation = parse(sdp, base).unwrap();
    let controls = presentation.streams.iter().map(|stream| &stream.control);
    [&presentation.aggregate]
        .into_iter()
        .chain(controls)
        .map(Url::to_string)
        .collect()
}

#[test]
fn gst_rtsp_server_is_read() {
    let presentation = parse(GST, "rtsp://h:8554/test/").unwrap();
    assert_eq!(presentation.tool.as_deref(), Some("GStreamer"));
    assert_eq!(
        presentation.session_name.as_deref(),
        Some("Session streamed with GStreamer")
    );
    assert_eq!(presentation.sdp, GST.as_bytes());
    let audio = &presentation.streams[1];
    assert_eq!((audio.index, audio.media.as_str()), (1, "audio"));
    assert_eq!(audio.payload_types, [97]);
    assert_eq!(audio.encodings, [(97, "MPEG4-GENERIC".to_owned(), 44_100)]);
    assert_eq!(
        uris(GST, "rtsp://h:8554/test/"),
        [
            "rtsp://h:8554/test/",
            "rtsp://h:8554/test/stream=0",
            "rtsp://h:8554/test/stream=1"
        ]
    );
}

#[test]
fn attributes_are_those_of_their_section_as_received() {
    let sdp = "a=control:*\na= tool: x \nm=data 0 UDP 1\na=skipped:1\n\
               m=audio 0 RTP/AVPF 8\r\nc=x\na=fmtp:8 a=b\0a=recvonly";
    let presentation = parse(sdp, "rtsp://h/a").unwrap();
    let session: Vec<_> = presentation.session_attributes().collect();
    assert_eq!(session, ["control:*", " tool: x"]);
    let audio = &presentation.streams[0];
    assert_eq!((audio.index, audio.protocol.as_str()), (1, "RTP/AVPF"));
    let own: Vec<_> = presentation.attributes(audio).collect();
    assert_eq!(own, ["fmtp:8 a=b", "recvonly"]);
}

#[test]
fn live555_is_read() {
    let presentation = parse(LIVE555, "rtsp://h/test.264/").unwrap();
    let tool = presentation.tool.unwrap();
    assert_eq!(tool, "LIVE555 Streaming Media v2026.06.24");
    assert_eq!(
        presentation.streams[0].control.as_str(),
        "rtsp://h/test.264/track1"
    );
}

#[test]
fn absolute_controls_of_hikvision_and_axis_are_kept() {
    assert_eq!(
        uris(HIKVISION, "rtsp://nvr/Streaming/Channels/101"),
        [
            "rtsp://10.0.0.3:554/Streaming/Channels/101/",
            "rtsp://10.0.0.3:554/Streaming/Channels/101/trackID=1",
            "rtsp://10.0.0.3:554/Streaming/Channels/101/trackID=3"
        ]
    );
    assert_eq!(
        uris(AXIS, "rtsp://cam/axis-media/media.amp"),
        [
            "rtsp://10.0.0.4/axis-media/media.amp?videocodec=h264",
            "rtsp://10.0.0.4/axis-media/media.amp/stream=0?videocodec=h264"
        ]
    );
}

#[test]
fn the_channel_in_the_query_of_dahua_is_kept() {
    let base = "rtsp://h/cam/realmonitor?channel=3&subtype=0";
    assert_eq!(
        uris(DAHUA, base),
        [
            base.to_owned(),
            format!("{base}/trackID=0"),
            format!("{base}/trackID=1")
        ]
    );
}

#[test]
fn a_whole_url_of_the_session_is_the_base_of_the_streams() {
    let sdp = "a=control:*\na=control:rtsp://u:p@x/s\nm=video 0 RTP/AVP 96\na=control:t1";
    let presentation = parse(sdp, "rtsp://h/a").unwrap();
    assert_eq!(presentation.base.as_str(), "rtsp://x/s");
    assert_eq!(presentation.aggregate.as_str(), "rtsp://x/s");
    assert_eq!(presentation.streams[0].control.as_str(), "rtsp://x/s/t1");
}

#[test]
fn a_relative_control_of_the_session_is_the_aggregate_alone() {
    let sdp = "a=control:all\nm=video 0 RTP/AVP 96\na=control:t1";
    assert_eq!(uris(sdp, "rtsp://h/a"), ["rtsp://h/a/all", "rtsp://h/a/t1"]);
    let sdp = "a=control:http://x/\nm=video 0 RTP/AVP 96\na=control:t1";
    assert_eq!(uris(sdp, "rtsp://h/a"), ["rtsp://h/a", "rtsp://h/a/t1"]);
}

#[test]
fn without_control_the_stream_is_the_base() {
    assert_eq!(
        uris("m=video 0 RTP/AVP 26", "rtsp://h/a?c=1"),
        ["rtsp://h/a?c=1", "rtsp://h/a?c=1"]
    );
}

#[test]
fn broken_lines_do_not_matter() {
    let sdp = b"\xef\xbb\xbfv=0\n\no=\xff\xfe\ns=\xb3\xb5 cam \n t=x\nb=?\r\rnonsense\nm=Video 0/2 rtp/avp 96  96 x 200\n\
        a=rtpmap:96  h264 / 90000\na=rtpmap:96 H265/90000\na=rtpmap:97\na=rtpmap:300 X/1\na=rtpmap:98 NOCLOCK\n\
        a=control: t1 \na=control:t2\n\0\0\0";
    let presentation = parse(&sdp[..], "rtsp://h/a").unwrap();
    assert!(presentation.session_name.unwrap().ends_with(" cam"));
    let [stream] = &presentation.streams[..] else {
        panic!("{:?}", presentation.streams);
    };
    assert_eq!(stream.media, "video");
    assert_eq!(stream.payload_types, [96]);
    assert_eq!(
        stream.encodings,
        [
            (96, "H264".to_owned(), 90_000),
            (98, "NOCLOCK".to_owned(), 0)
        ]
    );
    assert_eq!(stream.control.as_str(), "rtsp://h/a/t1");
}

#[test]
fn media_that_cannot_be_set_up_are_listed_with_the_reason() {
    let sdp = "m=application 9 DTLS/SCTP 5000\nm=video 0 RTP/SAVPF 96\na=control:1\n\
               m=audio 0 RTP/AVP/TCP 0\na=control:2\nm=text 0 RTP/AVP/X 0\nm=\n\
               m=video 0 RTP/AVP 97\na=control:a\tb";
    let presentation = parse(sdp, "rtsp://h/a").unwrap();
    let indices: Vec<_> = presentation.streams.iter().map(|s| s.index).collect();
    assert_eq!(indices, [1, 2]);
}

#[test]
fn the_profile_is_found_however_cameras_write_the_protocol() {
    for (protocol, profile) in [
        ("RTP/AVP", Some(Profile::Avp)),
        ("rtp/avp", Some(Profile::Avp)),
        ("RTP/AVP/TCP", Some(Profile::Avp)),
        ("RTP/AVP/UDP", Some(Profile::Avp)),
        ("TCP/RTP/AVP", Some(Profile::Avp)),
        ("RTP/avpf/tcp", Some(Profile::Avpf)),
        ("RTP/SAVP", Some(Profile::Savp)),
        ("RTP/SAVPF", Some(Profile::Savpf)),
        ("RTP", None),
        ("UDP", None),
        ("RTP/AVP/X", None),
    ] {
        assert_eq!(Profile::of(protocol), profile, "{protocol}");
    }
}

#[test]
fn control_characters_in_a_control_skip_the_stream() {
    let sdp = "m=video 0 RTP/AVP 96\na=control:a\tb\nm=audio 0 RTP/AVP 0\na=control:c";
    let presentation = parse(sdp, "rtsp://h/a").unwrap();
    let left: Vec<_> = presentation.streams.iter().map(|it| it.index).collect();
    assert_eq!(left, [1]);
}

#[test]
fn descriptions_of_no_use_say_why() {
    for (sdp, error) in [
        ("", InvalidSdp::Empty),
        (" \r\n\0\n", InvalidSdp::Empty),
        ("v=0\r\ns=x\r\n", InvalidSdp::NoMedia),
        ("m=x 0 UDP 1\nm=y", InvalidSdp::NothingUsable(2)),
    ] {
        assert_eq!(parse(sdp, "rtsp://h/a"), Err(error), "{sdp:?}");
    }
    let many = |count| parse("m=video 0 RTP/AVP 96\r\n".repeat(count), "rtsp://h/a");
    assert_eq!(many(32).unwrap().streams.len(), 32);
    assert_eq!(many(33), Err(InvalidSdp::TooManyStreams(33)));
}

#[test]
fn f36_large_descriptions_are_read_within_bounds() {
    let padding = "a=x-thumbnail:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n".repeat(6_500);
    let sdp = format!("s={}\r\n{padding}{GST}", "n".repeat(10_000));
    assert!(sdp.len() > 300_000);
    let presentation = parse(sdp, "rtsp://h/a/").unwrap();
    assert_eq!(presentation.streams.len(), 2);
    let name = presentation.session_name.unwrap();
    assert!(
        name.ends_with("n…") && name.chars().count() == 200,
        "{name}"
    );
}

#[test]
fn f36_mutated_descriptions_never_panic_nor_smuggle_control_characters() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for round in 0..4_000 {
        let seeds = [GST, LIVE555, HIKVISION, DAHUA, AXIS];
        let mut sdp = seeds[round % seeds.len()].as_bytes().to_vec();
        for _ in 0..=random(12) {
            let at = random(sdp.len());
            match random(4) {
                0 => sdp[at] = random(256) as u8,
                1 => sdp.truncate(at + 1),
                2 => sdp.insert(at, b"\r\n\0=:/ \xff"[random(8)]),
                _ => sdp.rotate_left(at),
            }
        }
        if let Ok(presentation) = parse(sdp, "rtsp://h/a") {
            let controls = presentation.streams.iter().map(|stream| &stream.control);
            for url in controls.chain([&presentation.aggregate, &presentation.base]) {
                assert!(
                    url.as_str()
                        .bytes()
                        .all(|b| b.is_ascii_graphic() && b != b'$')
                );
                assert!(url.username().is_empty() && url.password().is_none());
            }
        }
    }
}

#[test]
fn debug_shows_no_password() {
    let sdp =
        Bytes::from_static(b"v=0\r\nm=video 0 RTP/AVP 96\r\na=control:t?password=hunter2\r\n");
    let base = Url::parse("rtsp://nvr/1?user=admin&password=hunter2").unwrap();
    let presentation = parse_presentation(sdp, base).unwrap();
    let shown = format!("{presentation:?}");
    assert!(
        !shown.contains("hunter2") && shown.contains("nvr"),
        "{shown}"
    );
}

#[test]
fn media_on_which_the_server_sends_nothing_are_skipped() {
    // Attribute of the session, of each medium, and the media that are left.
    type Row = (
        &'static str,
        &'static [(&'static str, &'static str)],
        &'static [usize],
    );
    let table: [Row; 9] = [
        // ONVIF's backchannel, wherever it stands.
        (
            "",
            &[
                ("audio", "recvonly"),
                ("audio", "sendonly"),
                ("video", "recvonly"),
            ],
            &[0, 2],
        ),
        (
            "",
            &[("video", ""), ("audio", "SendOnly"), ("audio", "sendrecv")],
            &[0, 2],
        ),
        ("recvonly", &[("video", ""), ("audio", "sendonly")], &[0]),
        ("sendonly", &[("video", "recvonly"), ("audio", "")], &[0]),
        // Cameras send on it all the same.
        ("", &[("video", "inactive"), ("audio", "")], &[0, 1]),
        // The server writes what it does itself.
        ("", &[("video", "sendonly"), ("audio", "sendonly")], &[0, 1]),
        ("sendonly", &[("video", ""), ("audio", "recvonly")], &[0]),
        // Nothing would be left.
        ("inactive", &[("video", ""), ("audio", "")], &[0, 1]),
        ("", &[("audio", "sendonly")], &[0]),
    ];
    for (session, media, expected) in table {
        let line = |attribute: &str| match attribute {
            "" => String::new(),
            attribute => format!("a={attribute}\r\n"),
        };
        let mut sdp = format!("v=0\r\ns=x\r\n{}", line(session));
        for (number, (kind, direction)) in media.iter().enumerate() {
            let direction = line(direction);
            sdp += &format!("m={kind} 0 RTP/AVP 96\r\na=control:{number}\r\n{direction}");
        }
        let presentation = parse(sdp.clone(), "rtsp://h/1").unwrap();
        let left: Vec<_> = presentation.streams.iter().map(|it| it.index).collect();
        assert_eq!(left, expected, "{sdp}");
    }
}
