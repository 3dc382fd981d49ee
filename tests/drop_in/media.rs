//! A gst-rtsp-server with a mount for each kind of medium. Each session begins with the first frame, and the
//! numbers of its packets are the same each time, so that two elements get the same bytes.

use std::sync::OnceLock;

use gst::glib;
use gstreamer as gst;
use gstreamer_rtsp_server as rtsp_server;
use rtsp_server::prelude::*;

const RTP: &str = "ssrc=1234567 seqnum-offset=1000 timestamp-offset=5000";
const PICTURES: &str =
    "videotestsrc pattern=ball ! video/x-raw,format=I420,width=64,height=48,framerate=100/1";
const X264: &str = "x264enc tune=zerolatency speed-preset=ultrafast threads=1 key-int-max=50";
const X265: &str = "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=50 \
                    option-string=pools=none:frame-threads=1:log-level=none";

fn sound(rate: u32, samples: u32) -> String {
    format!(
        "audiotestsrc samplesperbuffer={samples} ! audio/x-raw,format=S16LE,rate={rate},channels=1"
    )
}

/// Mounts by name.
fn mounts() -> Vec<(&'static str, String)> {
    let h264 = |pictures: &str| {
        format!("{pictures} ! {X264} ! rtph264pay name=pay0 pt=96 config-interval=-1 {RTP}")
    };
    let pcma = format!(
        "{} ! alawenc ! rtppcmapay name=pay1 pt=8 {RTP}",
        sound(8_000, 160)
    );
    let few = PICTURES.replace("videotestsrc", "videotestsrc num-buffers=50");
    let live = PICTURES.replace("videotestsrc", "videotestsrc is-live=true");
    vec![
        ("h264", h264(PICTURES)),
        ("live", h264(&live)),
        ("ends", h264(&few)),
        (
            "h265",
            format!("{PICTURES} ! {X265} ! rtph265pay name=pay0 pt=96 config-interval=-1 {RTP}"),
        ),
        (
            "mjpeg",
            format!("{PICTURES} ! jpegenc ! rtpjpegpay name=pay0 pt=26 {RTP}"),
        ),
        (
            "mp2t",
            format!("{PICTURES} ! {X264} ! mpegtsmux ! rtpmp2tpay name=pay0 pt=33 {RTP}"),
        ),
        (
            "vp8",
            format!("{PICTURES} ! vp8enc deadline=1 threads=1 ! rtpvp8pay name=pay0 pt=96 {RTP}"),
        ),
        (
            "aac",
            format!(
                "{} ! voaacenc ! rtpmp4gpay name=pay0 pt=97 {RTP}",
                sound(96_000, 1024)
            ),
        ),
        (
            "latm",
            format!(
                "{} ! voaacenc ! rtpmp4apay name=pay0 pt=97 {RTP}",
                sound(96_000, 1024)
            ),
        ),
        (
            "opus",
            format!(
                "{} ! opusenc frame-size=5 ! rtpopuspay name=pay0 pt=98 {RTP}",
                sound(48_000, 240)
            ),
        ),
        (
            "pcmu",
            format!(
                "{} ! mulawenc ! rtppcmupay name=pay0 pt=0 {RTP}",
                sound(8_000, 160)
            ),
        ),
        ("pcma", pcma.replace("pay1", "pay0")),
        (
            "l16",
            format!(
                "{} ! audioconvert ! rtpL16pay name=pay0 pt=99 {RTP}",
                sound(8_000, 160)
            ),
        ),
        (
            "g722",
            format!(
                "{} ! avenc_g722 ! rtpg722pay name=pay0 pt=9 {RTP}",
                sound(16_000, 320)
            ),
        ),
        ("av", format!("{} {pcma}", h264(PICTURES))),
    ]
}

pub(crate) struct MediaServer {
    port: u16,
}

impl MediaServer {
    /// The one of this process. It ends with it.
    pub(crate) fn of_all() -> &'static Self {
        static SERVER: OnceLock<MediaServer> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn start() -> Self {
        let server = rtsp_server::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service("0");
        let points = server.mount_points().unwrap();
        for (name, launch) in mounts() {
            let factory = rtsp_server::RTSPMediaFactory::new();
            factory.set_launch(&format!("( {launch} )"));
            points.add_factory(&format!("/{name}"), factory);
        }
        let broken = rtsp_server::RTSPMediaFactory::new();
        broken.set_launch("( filesrc location=/nonexistent ! rtpgstpay name=pay0 )");
        points.add_factory("/broken", broken);
        let context = glib::MainContext::new();
        let source = server.create_source(rtsp_server::gio::Cancellable::NONE);
        source.unwrap().attach(Some(&context));
        let port = u16::try_from(server.bound_port()).unwrap();
        std::thread::spawn(move || {
            let _server = server;
            let main_loop = glib::MainLoop::new(Some(&context), false);
            let ran = context.with_thread_default(|| main_loop.run());
            ran.unwrap();
        });
        Self { port }
    }
}
