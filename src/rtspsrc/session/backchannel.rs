//! Sound for the camera (ONVIF Streaming 5.3): RTP packets of the application go to a stream on which the server
//! receives.
//!
//! The packets go through the writer of the connection, as receiver reports do. Where that has too much to write
//! they are dropped: sound that is late is of no use.

use std::sync::Mutex;

use bytes::Bytes;

use crate::{
    mux::{Presentation, RtcpSender, Session},
    rtspsrc::lock,
};

/// Where the sound goes while a session plays.
#[derive(Default)]
pub(crate) struct BackchannelSender(Mutex<Option<Playing>>);

struct Playing {
    sender: RtcpSender,
    /// The numbers of the streams in the session, by the index of their `m=` line.
    streams: Vec<(usize, usize)>,
}

impl BackchannelSender {
    /// The session plays.
    pub(super) fn begin(&self, session: &Session) {
        let described = &session.presentation().streams;
        let number = |number: usize| Some((described.get(number)?.index, number));
        let streams = self::streams(session.presentation()).filter_map(number);
        let playing = Playing {
            sender: session.rtcp_sender(),
            streams: streams.collect(),
        };
        let before = lock(&self.0).replace(playing);
        drop(before);
    }

    /// Sends an RTP packet to the stream of that `m=` line. False if there is none, or the packet was dropped.
    pub(crate) fn send(&self, section: u32, packet: Bytes) -> bool {
        let playing = lock(&self.0);
        let Some(playing) = &*playing else {
            return false;
        };
        let mut streams = playing.streams.iter();
        let its = streams.find(|(index, _)| u32::try_from(*index) == Ok(section));
        its.is_some_and(|(_, number)| playing.sender.try_send_media(*number, packet))
    }
}

/// The numbers of the backchannels of a presentation.
pub(super) fn streams(presentation: &Presentation) -> impl Iterator<Item = usize> {
    let streams = presentation.streams.iter().enumerate();
    streams
        .filter(|(_, stream)| stream.is_backchannel)
        .map(|(number, _)| number)
}
