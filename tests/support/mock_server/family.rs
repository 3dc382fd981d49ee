//! Families of servers: what each kind is known for, as behaviours of the mock server.
//!
//! The facts are those of `fixtures/servers/`, whose second line says where each comes from.

use std::time::Duration;

use super::auth::{Algorithm, Auth};
use super::behaviour::{Behaviour, ChannelPolicy, Excess};
use super::camera::Camera;

/// A family of servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// gst-rtsp-server: the default.
    Gst,
    /// live555 since 2017.06: channels verbatim, RTCP before the PLAY answer; works on what comes inside a DESCRIBE.
    Live555,
    /// live555 before 2017.06, many Reolink: RTP before the PLAY answer, packets of the dead go to the living.
    LiveOld,
    /// MediaMTX and everything on gortsplib: one session, the second one kills the connection, and so does a 404.
    MediaMtx,
    /// go2rtc: the first URI is latched, its description grows with every DESCRIBE, mute while playing.
    Go2Rtc,
    /// ZLMediaKit: the first URI is latched, every DESCRIBE replaces the session's id.
    ZlMediaKit,
    /// aio-rtsp-toolkit: one session and one id for each connection, each SETUP replaces what it plays.
    AioToolkit,
    /// PHZ76/RtspServer, in small cameras: as aio-rtsp-toolkit, and of requests that arrive together the first alone is
    /// answered.
    Phz76,
    /// xiu: as PHZ76/RtspServer, nothing is answered while a session plays, and a connection that never plays what it
    /// described ends that stream for all.
    Xiu,
    /// EvoStream: the second SETUP is never answered.
    EvoStream,
    /// VLC: no TCP interleaving, pipelined requests are lost.
    Vlc,
    /// rtsp_demo, in Rockchip's firmware: a connection describes one camera, others are refused; its ids count up.
    Rockchip,
    /// lal: every session has the same id, on every connection; one session for each connection.
    Lal,
    /// H264DVR: another id in each SETUP of a session.
    H264Dvr,
    /// A cheap camera: the second DESCRIBE of a connection fails.
    CheapCamera,
    /// Tapo C520WS: keep-alives get an error with a wrong CSeq.
    Tapo,
    /// Axis: digest, with a new nonce in mid-session.
    Axis,
    /// Hikvision: the id in the Session header is padded.
    Hikvision,
    /// Dahua: the camera is in the query string.
    Dahua,
    /// Numbers the channels itself.
    OwnChannels,
    /// Names no channels in its answers.
    NoInterleaved,
    /// Has room for two sessions; the third gets this status.
    AtLimit(u16),
    /// Works requests off one by one, and takes its time for each.
    Serial,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::Gst,
        Self::Live555,
        Self::LiveOld,
        Self::MediaMtx,
        Self::Go2Rtc,
        Self::ZlMediaKit,
        Self::AioToolkit,
        Self::Phz76,
        Self::Xiu,
        Self::EvoStream,
        Self::Vlc,
        Self::Rockchip,
        Self::Lal,
        Self::H264Dvr,
        Self::CheapCamera,
        Self::Tapo,
        Self::Axis,
        Self::Hikvision,
        Self::Dahua,
        Self::OwnChannels,
        Self::NoInterleaved,
        Self::AtLimit(453),
        Self::AtLimit(503),
        Self::Serial,
    ];

    /// The path of a camera, the query included.
    pub fn path(self, camera: u32) -> String {
        match self {
            Self::Dahua => format!("/cam/realmonitor?channel={camera}&subtype=0"),
            _ => format!("/cam/{camera}"),
        }
    }

    /// User and password in front of the host, where it asks for them.
    pub fn userinfo(self) -> &'static str {
        match self {
            Self::Axis => "root:pass@",
            _ => "",
        }
    }

    pub(super) fn camera(self, number: u32) -> Camera {
        match self {
            Self::H264Dvr => Camera::av().number(number),
            _ => Camera::video().number(number),
        }
    }

    /// What it asks for, and the number of requests a nonce is good for.
    pub(super) fn auth(self) -> Option<(Auth, usize)> {
        let digest = || Auth::Digest {
            algorithm: Algorithm::Md5,
            user: "root".to_owned(),
            password: "pass".to_owned(),
        };
        (self == Self::Axis).then(|| (digest(), 20))
    }

    pub(super) fn behaviours(self) -> Vec<Behaviour> {
        use Behaviour::*;
        let server = |name: &str| Header("Server".to_owned(), name.to_owned());
        let sdp = |line: &str| SdpLine(line.to_owned());
        let suffix = |text: &str| SessionSuffix(text.to_owned());
        match self {
            Self::Gst => vec![server("GStreamer RTSP server")],
            Self::Live555 => vec![
                Channels(ChannelPolicy::Verbatim),
                suffix(";timeout=65"),
                sdp("a=tool:LIVE555 Streaming Media v2026.06.24"),
                OmitSsrc,
                ReportsBeforePlayAnswer,
                ReentrantDescribe(Duration::from_millis(20)),
            ],
            Self::LiveOld => vec![
                Channels(ChannelPolicy::Verbatim),
                suffix(";timeout=65"),
                sdp("a=tool:LIVE555 Streaming Media v2013.04.08"),
                OmitSsrc,
                PacketsBeforePlayAnswer(1),
                SequenceBegins((1..=u16::MAX).step_by(257).collect()),
                ReentrantDescribe(Duration::from_millis(20)),
                StraysOfTheDead,
            ],
            Self::MediaMtx => vec![
                server("gortsplib"),
                SessionsPerConnection(1, Excess::BadRequestAndClose),
                CloseOnNotFound,
            ],
            Self::Go2Rtc => vec![
                sdp("s=go2rtc/1.9.14+dev.dc1685e"),
                LatchesFirst,
                OneConsumer,
                NoContentBase,
                DescriptionGrows,
                CloseOnTeardown,
                OmitSsrc,
                MuteWhilePlaying,
                CloseOnEarlyGetParameter,
                Channels(ChannelPolicy::PerTrack),
            ],
            Self::ZlMediaKit => vec![
                server("ZLMediaKit-8.0"),
                LatchesFirst,
                IdPerDescribe,
                CloseOnNotFound,
                CloseOnTeardown,
                Channels(ChannelPolicy::PerTrack),
            ],
            Self::AioToolkit => vec![
                server("python aio rtsp server"),
                OneSource,
                OmitSsrc,
                CloseOnTeardown,
            ],
            Self::Phz76 => vec![OneSource, DropsPipelined, NoContentBase, OmitSsrc],
            Self::Xiu => vec![
                OneSource,
                DropsPipelined,
                NoContentBase,
                OmitSsrc,
                MuteWhilePlaying,
                UnpublishesUnplayed,
            ],
            Self::EvoStream => vec![SessionsPerConnection(1, Excess::Swallow)],
            Self::Vlc => vec![
                server("VLC/3.0.24"),
                DropsPipelined,
                SessionsPerConnection(0, Excess::Status(461)),
            ],
            Self::Rockchip => vec![server("rtsp_demo (Nov 30 2026 14:44:30)"), OneDescribe(451)],
            Self::Lal => vec![
                SessionId("191201771".to_owned()),
                OneSource,
                NoContentBase,
                OmitSsrc,
                CloseOnTeardown,
            ],
            Self::H264Dvr => vec![server("H264DVR 1.0"), OtherIdInLaterSetups],
            Self::CheapCamera => vec![OneDescribe(400)],
            Self::Tapo => vec![KeepAliveWithWrongCSeq(400)],
            Self::Axis => vec![],
            Self::Hikvision => vec![SessionPrefix(" ".repeat(8)), suffix(" ; timeout=60")],
            Self::Dahua => vec![server("Rtsp Server/2.0")],
            Self::OwnChannels => vec![Channels(ChannelPolicy::Own)],
            Self::NoInterleaved => vec![Channels(ChannelPolicy::Omit)],
            Self::AtLimit(status) => vec![Sessions(2), FullStatus(status)],
            Self::Serial => vec![ServiceTime(Duration::from_millis(2))],
        }
    }
}
