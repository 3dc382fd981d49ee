//! A session that plays.

use std::{fmt, future::poll_fn, sync::Arc};

use bytes::Bytes;

use super::{
    attachment::Attachment,
    bring_up::{BringUp, Playing},
    delivery::Packet,
    driver::{Link, Report},
    error::Error,
    monitor::SessionMonitor,
    proto::{Presentation, Reply, RtpInfo, SessionKey, SessionRequest, StreamGrant},
};

/// A playing session: a stream of packets, and the requests that steer it.
///
/// Dropping it releases it: its TEARDOWN goes out and its reference to the connection is given
/// back, without blocking and whatever state it is in.
pub struct Session {
    attachment: Attachment,
    presentation: Presentation,
    streams: Vec<StreamGrant>,
    rtp_info: Vec<RtpInfo>,
    /// Declared last: it settles the handle's debt, after the release went out.
    bring_up: BringUp,
}

impl Session {
    pub(super) fn new(playing: Playing, bring_up: BringUp) -> Self {
        let Playing {
            attachment,
            presentation,
            streams,
            rtp_info,
        } = playing;
        Self {
            attachment,
            presentation,
            streams: streams.grants,
            rtp_info,
            bring_up,
        }
    }

    /// What is played.
    pub fn presentation(&self) -> &Presentation {
        &self.presentation
    }

    /// The streams that were set up.
    pub fn streams(&self) -> &[StreamGrant] {
        &self.streams
    }

    /// Where each stream starts, as the last PLAY's answer says; empty where it does not.
    pub fn rtp_info(&self) -> &[RtpInfo] {
        &self.rtp_info
    }

    /// The next packet. None once the session is over, see [`end_reason`](Self::end_reason).
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Packet> {
        let consumer = &mut self.attachment.consumer;
        poll_fn(|context| consumer.poll_next(context)).await
    }

    /// Appends all packets there are, waiting for one if there is none. False once the session is
    /// over. Cheaper than [`next`](Self::next), and as safe to drop.
    pub async fn next_batch(&mut self, batch: &mut Vec<Packet>) -> bool {
        let consumer = &mut self.attachment.consumer;
        poll_fn(|context| consumer.poll_batch(context, batch)).await
    }

    /// Why there are no more packets; none while there may be.
    pub fn end_reason(&self) -> Option<Error> {
        self.attachment.consumer.delivery().end_reason()
    }

    /// Stops the streams; the session stays and is kept alive.
    ///
    /// # Errors
    ///
    /// The server refused, or the connection ended.
    pub async fn pause(&mut self) -> Result<(), Error> {
        self.request(SessionRequest::Pause).await.map(drop)
    }

    /// Starts the streams again.
    ///
    /// # Errors
    ///
    /// The server refused, or the connection ended.
    pub async fn play(&mut self) -> Result<(), Error> {
        let request = SessionRequest::Play {
            aggregate: self.presentation.aggregate.clone(),
        };
        if let Reply::Playing(rtp_info) = self.request(request).await? {
            self.rtp_info = rtp_info;
        }
        Ok(())
    }

    /// Ends the session and waits for the server's answer. To end it without waiting, drop it.
    ///
    /// # Errors
    ///
    /// The server did not answer in time, or the connection ended. The session is over all the same.
    pub async fn teardown(self) -> Result<(), Error> {
        self.request(SessionRequest::Teardown).await.map(drop)
    }

    async fn request(&self, request: SessionRequest) -> Result<Reply, Error> {
        self.attachment.request(request).await.map_err(|failure| {
            Error::from_failure(&failure)
                .of_camera(&self.bring_up.camera())
                .on(self.attachment.connection())
        })
    }

    /// Sends RTCP to the server.
    pub fn rtcp_sender(&self) -> RtcpSender {
        RtcpSender {
            link: Arc::clone(self.attachment.link()),
            session: self.attachment.key(),
        }
    }

    /// Observes this session.
    pub fn monitor(&self) -> SessionMonitor {
        self.bring_up.monitor.clone()
    }
}

/// Without the presentation: its URLs may hold secrets.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("camera", &self.bring_up.camera())
            .field("connection", &self.attachment.connection())
            .field("session", &self.attachment.key())
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

/// Sends RTCP of one session from any thread. Holds no reference: it keeps nothing alive.
#[derive(Clone, Debug)]
pub struct RtcpSender {
    link: Arc<Link>,
    session: SessionKey,
}

impl RtcpSender {
    /// Queues a packet for the stream with this index. Never blocks; false if the packet was
    /// dropped because too much waits or the connection is over. A session that is over sends
    /// nothing.
    pub fn try_send(&self, stream: usize, packet: impl Into<Bytes>) -> bool {
        self.link.try_send_report(Report {
            session: self.session,
            stream,
            packet: packet.into(),
        })
    }
}
