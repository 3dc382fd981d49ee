//! Pictures and sound as encoders and payloaders make them, for decoders behind the element.

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;

use crate::support::rtsp::RtpPacket;

/// The payload types.
pub(crate) const PICTURE: u8 = 96;
pub(crate) const SOUND: u8 = 97;

/// Pictures from one key picture to the next.
pub(crate) const GROUP: usize = 10;

/// How far RTP time goes on with each picture.
pub(crate) const PICTURE_TIME: u32 = 3_600;

/// The packets of a medium, as its payloader sent them.
pub(crate) struct Medium {
    packets: Vec<RtpPacket>,
    /// `a=rtpmap` and `a=fmtp`.
    pub(crate) lines: String,
}

/// Three seconds of H.264, a key picture in each ten, in packets of 400 bytes.
pub(crate) fn pictures() -> Medium {
    medium(&format!(
        "videotestsrc num-buffers=75 pattern=ball ! video/x-raw,width=320,height=240,framerate=25/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={GROUP} bitrate=400 threads=1 \
         ! rtph264pay pt={PICTURE} mtu=400 config-interval=-1 ! appsink name=packets sync=false"
    ))
}

/// Three seconds of AAC.
pub(crate) fn sound() -> Medium {
    medium(&format!(
        "audiotestsrc num-buffers=140 samplesperbuffer=1024 ! audio/x-raw,rate=48000,channels=2 \
         ! voaacenc ! rtpmp4gpay pt={SOUND} ! appsink name=packets sync=false"
    ))
}

fn medium(line: &str) -> Medium {
    gst::init().unwrap();
    let pipeline = gst::parse::launch(line).unwrap();
    let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
    let sink = pipeline.by_name("packets").unwrap();
    let sink = sink.downcast::<gst_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let (mut packets, mut lines) = (Vec::new(), String::new());
    while let Ok(sample) = sink.pull_sample() {
        let data = sample.buffer().unwrap().map_readable().unwrap();
        packets.push(RtpPacket::parse(&data).unwrap());
        if lines.is_empty() {
            lines = described(sample.caps().unwrap().structure(0).unwrap());
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(packets.len() > 50, "{} packets", packets.len());
    Medium { packets, lines }
}

fn described(fields: &gst::StructureRef) -> String {
    let text = |name: &str| fields.get::<String>(name).ok();
    let (number, rate) = (
        fields.get::<i32>("payload").unwrap(),
        fields.get::<i32>("clock-rate").unwrap(),
    );
    let names = [
        "packetization-mode",
        "sprop-parameter-sets",
        "streamtype",
        "profile-level-id",
        "mode",
        "config",
        "sizelength",
        "indexlength",
        "indexdeltalength",
    ];
    let parameters: Vec<_> = names
        .iter()
        .filter_map(|name| Some(format!("{name}={}", text(name)?)))
        .collect();
    let channels = text("encoding-params").map_or_else(String::new, |it| format!("/{it}"));
    format!(
        "a=rtpmap:{number} {}/{rate}{channels}\r\na=fmtp:{number} {}\r\n",
        text("encoding-name").unwrap(),
        parameters.join(";")
    )
}

impl Medium {
    /// Its access units.
    pub(crate) fn units(&self) -> Vec<&[RtpPacket]> {
        let is_same = |one: &RtpPacket, two: &RtpPacket| one.timestamp == two.timestamp;
        self.packets.chunk_by(is_same).collect()
    }

    pub(crate) fn packets(&self) -> &[RtpPacket] {
        &self.packets
    }
}

/// Gives packets the numbers of one source, one behind the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbering {
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
}

impl Numbering {
    /// The packets of the next access unit.
    pub(crate) fn unit(&mut self, unit: &[RtpPacket], step: u32) -> Vec<RtpPacket> {
        let packets = unit.iter().map(|packet| self.packet(packet)).collect();
        self.timestamp = self.timestamp.wrapping_add(step);
        packets
    }

    /// The next packet, of the same access unit as the last one.
    pub(crate) fn packet(&mut self, packet: &RtpPacket) -> RtpPacket {
        let numbered = RtpPacket {
            ssrc: self.ssrc,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ..packet.clone()
        };
        self.sequence = self.sequence.wrapping_add(1);
        numbered
    }
}
