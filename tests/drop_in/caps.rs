//! The caps of the pads, field by field.

use gst::prelude::*;
use gstreamer as gst;

use crate::stage::{Stage, behaviours, stream_of};
use crate::support::mock_server::{Camera, MockServer};

behaviours! {
    caps_of_h264
    caps_of_h265
    caps_of_mjpeg
    caps_of_mpeg4
    caps_of_mp2t
    caps_of_vp8
    caps_of_aac_in_hbr_mode
    caps_of_aac_as_latm
    caps_of_opus
    caps_of_pcmu
    caps_of_pcma
    caps_of_l16
    caps_of_g722
    caps_of_picture_and_sound
    caps_of_metadata
    caps_of_attributes_in_the_session
    caps_of_attributes_of_the_medium
    caps_of_feedback_lines
    caps_of_header_extensions
    caps_of_sparse_fmtp
    caps_of_an_odd_rtpmap
    caps_of_several_payload_types
    caps_of_a_frame_size
    caps_say_the_onvif_mode
    caps_query_of_a_pad
    caps_of_the_pad_in_pad_added
    caps_stay_the_same_while_it_plays
    caps_of_bandwidth_and_language_lines
}

/// Each field of the caps of each pad.
fn note_caps(stage: &Stage, stream: &str, caps: &gst::CapsRef) {
    stage.note(format!("{stream} structures"), caps.size());
    for structure in caps.iter() {
        stage.note(format!("{stream} name"), structure.name());
        let mut fields: Vec<_> = structure.iter().collect();
        fields.sort_by_key(|(name, _)| name.to_string());
        for (name, value) in fields {
            // See `caps_say_the_onvif_mode`.
            if name == "onvif-mode" {
                continue;
            }
            // The server draws a new one for each description.
            if name.ends_with("-cname") {
                stage.note(format!("{stream} {name}"), value.type_().name());
                continue;
            }
            let shown = value.serialize().map(|it| it.to_string());
            let shown = format!("({}) {}", value.type_().name(), shown.unwrap_or_default());
            stage.note(format!("{stream} {name}"), stage.clean(&shown));
        }
    }
}

fn caps_of(stage: &Stage, mount: &str, pads: usize) {
    let show = stage.play(mount, &[]);
    show.buffers(pads, 3);
    let mut pads = show.source().src_pads();
    pads.sort_by_key(|pad| stream_of(&pad.name()));
    for pad in pads {
        note_caps(stage, &stream_of(&pad.name()), &pad.current_caps().unwrap());
    }
}

macro_rules! mounts {
    ($($behaviour:ident: $mount:literal, $pads:literal;)*) => {
        $(fn $behaviour(stage: &Stage) {
            caps_of(stage, $mount, $pads);
        })*
    };
}

mounts! {
    caps_of_h264: "h264", 1;
    caps_of_h265: "h265", 1;
    caps_of_mjpeg: "mjpeg", 1;
    caps_of_mp2t: "mp2t", 1;
    caps_of_vp8: "vp8", 1;
    caps_of_aac_in_hbr_mode: "aac", 1;
    caps_of_aac_as_latm: "latm", 1;
    caps_of_opus: "opus", 1;
    caps_of_pcmu: "pcmu", 1;
    caps_of_pcma: "pcma", 1;
    caps_of_l16: "l16", 1;
    caps_of_g722: "g722", 1;
    caps_of_picture_and_sound: "av", 2;
}

/// The caps that the element makes of a description whose packets have payload type 96.
fn caps_of_description(stage: &Stage, session: &str, medium: &str) {
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\na=control:*\r\n{session}\
         {medium}a=control:stream=0\r\n"
    );
    let server = MockServer::builder()
        .camera("/cam", Camera::video().sdp(sdp))
        .start();
    let show = stage
        .show("", &[("location", &server.url("/cam"))])
        .playing();
    assert!(server.wait_until(|view| view.playing() == 1, crate::stage::PATIENCE));
    server.send_packets("/cam", 10);
    show.buffers(1, 3);
    let pad = show.source().src_pads().remove(0);
    note_caps(stage, "stream", &pad.current_caps().unwrap());
    drop(show);
}

macro_rules! descriptions {
    ($($behaviour:ident: $session:literal, $medium:literal;)*) => {
        $(fn $behaviour(stage: &Stage) {
            caps_of_description(stage, $session, $medium);
        })*
    };
}

descriptions! {
    caps_of_mpeg4: "",
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 MP4V-ES/90000\r\na=fmtp:96 profile-level-id=3;config=000001b003000001b5090000010000000120008440fa282c2090a21f\r\n";
    caps_of_metadata: "",
        "m=application 0 RTP/AVP 96\r\na=rtpmap:96 vnd.onvif.metadata/90000\r\na=recvonly\r\n";
    caps_of_attributes_in_the_session:
        "a=range:npt=0-\r\na=tool:a tool\r\na=type:broadcast\r\na=x-qt-text-nam:name\r\na=recvonly\r\n",
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n";
    caps_of_attributes_of_the_medium: "",
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42001f;sprop-parameter-sets=Z0LAHtkDxWhAAAADAEAAAAwDxYuS,aMuMsg==\r\na=framerate:25.0\r\na=x-dimensions:640,480\r\na=cliprect:0,0,480,640\r\na=ts-refclk:local\r\na=mediaclk:sender\r\na=mid:video\r\na=rtcp-mux\r\n";
    caps_of_feedback_lines: "",
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 ccm fir\r\na=rtcp-fb:* nack\r\n";
    caps_of_header_extensions: "",
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:4/recvonly http://example.com/ext attributes\r\n";
    caps_of_sparse_fmtp: "",
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 a; b=;  C=D ;=e;packetization-mode = 1;x=y=z\r\n";
    caps_of_an_odd_rtpmap: "",
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96  h264/90000\r\na=fmtp:96  profile-level-id=42e01e ; packetization-mode=1 ;\r\n";
    caps_of_several_payload_types: "",
        "m=video 0 RTP/AVP 97 96\r\na=rtpmap:97 H264/90000\r\na=fmtp:97 packetization-mode=0\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n";
    caps_of_a_frame_size: "",
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=framesize:96 640-480\r\n";
    caps_of_bandwidth_and_language_lines: "b=AS:5000\r\ni=info\r\ne=a@b\r\na=lang:en\r\n",
        "m=video 0 RTP/AVP 96\r\ni=title\r\nb=AS:4000\r\nb=TIAS:4000000\r\na=rtpmap:96 H264/90000\r\na=maxptime:20\r\na=ptime:20\r\n";
}

fn caps_say_the_onvif_mode(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 3);
    let caps = show.source().src_pads()[0].current_caps().unwrap();
    let mode = caps.structure(0).unwrap().get::<bool>("onvif-mode");
    stage.note("mode", format!("{mode:?}"));
}

fn caps_query_of_a_pad(stage: &Stage) {
    let show = stage.play("h264", &[]);
    show.buffers(1, 3);
    let pad = show.source().src_pads().remove(0);
    note_caps(stage, "query", &pad.query_caps(None));
    note_caps(stage, "allowed", &pad.allowed_caps().unwrap());
    note_caps(stage, "template", &pad.pad_template_caps());
    let other = gst::Caps::new_empty_simple("video/x-raw");
    stage.note("accepts raw", pad.query_accept_caps(&other));
}

fn caps_of_the_pad_in_pad_added(stage: &Stage) {
    let show = stage.show("av", &[]);
    let (caps, told) = std::sync::mpsc::channel();
    show.source().connect_pad_added(move |_, pad| {
        let _ = caps.send((stream_of(&pad.name()), pad.current_caps()));
    });
    let show = show.playing();
    show.buffers(2, 1);
    let mut told: Vec<_> = told.try_iter().collect();
    told.sort_by(|one, two| one.0.cmp(&two.0));
    for (stream, caps) in told {
        note_caps(stage, &stream, &caps.unwrap());
    }
}

fn caps_stay_the_same_while_it_plays(stage: &Stage) {
    let show = stage.play("h264", &[]);
    let passed = show.buffers(1, 200).remove(0);
    let caps = passed
        .events
        .iter()
        .filter(|it| it.type_() == gst::EventType::Caps);
    stage.note("caps events", caps.count());
}
