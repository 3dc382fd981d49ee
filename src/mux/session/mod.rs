//! A session that plays.

pub(crate) mod attachment;
mod migration;
pub(crate) mod monitor;
pub(crate) mod parameters;
pub(crate) mod setup;
pub(crate) mod stages;

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;

use self::{
    attachment::{Attachment, Requester},
    migration::{MovingStreams, RedirectBudget, Successor},
    monitor::SessionMonitor,
    parameters::ParameterSender,
    setup::{Attached, Setup},
};
use super::{
    delivery::Packet,
    driver::Report,
    error::{Error, ErrorKind},
    proto::{
        PacketKind, PlayAnswer, PlayHeaders, PlayRange, Presentation, Redirect, Reply, SessionKey,
        SessionRequest, StreamGrant,
    },
};
use crate::mux::{clock, ids::ConnectionId, release::lock};

/// A playing session: a stream of packets, and the requests that steer it.
///
/// Dropping it releases it: its TEARDOWN goes out and its reference to the connection is given
/// back, without blocking and whatever state it is in.
pub struct Session {
    attachment: Attachment,
    presentation: Presentation,
    streams: Vec<StreamGrant>,
    play_answer: PlayAnswer,
    /// Packets that waited in the old place before the session moved.
    left: VecDeque<Packet>,
    /// Takes over when the connection is of no use any more.
    successor: Option<Successor>,
    /// The server has sent the session elsewhere, to where it moves.
    is_redirected: bool,
    redirects: RedirectBudget,
    /// The session was asked to leave this connection, because it does its neighbours harm.
    odd: Option<(ConnectionId, SessionKey)>,
    /// The old place was given up before the session had a new one.
    is_between: bool,
    /// Why it has none.
    lost: Option<Error>,
    /// Where the session is, for its RTCP senders.
    place: Arc<Mutex<Requester>>,
    /// Declared last: it drops the handle's release guard, after the release went out.
    setup: Setup,
}

impl Session {
    pub(crate) fn new(playing: Attached, setup: Setup) -> Self {
        let presentation = setup.edited(&playing.presentation).clone();
        let Attached {
            attachment,
            streams,
            play_answer,
            ..
        } = playing;
        Self {
            place: Arc::new(Mutex::new(attachment.requester())),
            attachment,
            presentation,
            streams: streams.grants,
            play_answer,
            left: VecDeque::new(),
            successor: None,
            is_redirected: false,
            redirects: RedirectBudget::default(),
            odd: None,
            is_between: false,
            lost: None,
            setup,
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

    /// Where each stream starts, and what is played, as the last PLAY's answer says.
    pub fn play_answer(&self) -> &PlayAnswer {
        &self.play_answer
    }

    /// The next packet. None once the session is over, see [`end_reason`](Self::end_reason).
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Packet> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Appends all packets there are, waiting for one if there is none. False once the session is
    /// over. Cheaper than [`next`](Self::next), and as safe to drop.
    pub async fn next_batch(&mut self, batch: &mut Vec<Packet>) -> bool {
        poll_fn(|context| self.poll_batch(context, batch)).await
    }

    /// Parks a stream: its packets, RTCP too, are left waiting while those of the others are taken; or
    /// no more. For consumers that cannot take from one stream for a while, perhaps because they wait
    /// for another one, as a muxer does for sound.
    ///
    /// What waits of a stream that is parked has room of its own, as much as a session has, and goes
    /// by the session's [`OverflowPolicy`](super::OverflowPolicy). What had been taken from the queue
    /// before may still come, and once the session is over all that waits does. A stream that the
    /// presentation does not have is left out.
    pub fn set_parked(&mut self, stream: usize, is_parked: bool) {
        if stream < self.presentation.streams.len() {
            self.attachment.consumer.set_parked(stream, is_parked);
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Packet>> {
        self.poll_move(context);
        let polled = match self.left.pop_front() {
            Some(packet) => Poll::Ready(Some(packet)),
            None => match self.attachment.consumer.poll_next(context) {
                Poll::Ready(None) if self.is_awaiting() => Poll::Pending,
                polled => polled,
            },
        };
        if let Poll::Ready(Some(packet)) = &polled {
            self.note_media(packet);
        }
        polled
    }

    fn poll_batch(&mut self, context: &mut Context<'_>, batch: &mut Vec<Packet>) -> Poll<bool> {
        self.poll_move(context);
        let polled = match self.left.is_empty() {
            true => match self.attachment.consumer.poll_batch(context, batch) {
                Poll::Ready(false) if self.is_awaiting() => Poll::Pending,
                polled => polled,
            },
            false => {
                batch.extend(self.left.drain(..));
                Poll::Ready(true)
            }
        };
        if let Some(packet) = batch.last() {
            self.note_media(packet);
        }
        polled
    }

    /// For the redial policy: media is what makes a session a success. A batch that ends with a report
    /// is followed by others.
    fn note_media(&mut self, packet: &Packet) {
        if packet.kind == PacketKind::Rtp {
            self.attachment.on_media(packet.received);
        }
    }

    /// Whether there may be packets though the present place is lost. A server that sends its sessions
    /// elsewhere often closes at once.
    fn is_awaiting(&self) -> bool {
        self.is_between || self.is_redirected
    }

    fn is_to_move(&mut self) -> bool {
        let driver = self.attachment.driver();
        if !self.is_between
            && let Some(redirect) = driver.take_redirect(self.attachment.key())
        {
            self.begin_to_follow(&redirect);
            return self.successor.is_some();
        }
        if self.successor.is_none() && driver.is_asked_to_move(self.attachment.key()) {
            self.odd = Some((driver.id, self.attachment.key()));
        }
        self.successor.is_some() || self.odd.is_some() || driver.is_to_be_left()
    }

    /// Moves to a connection of its own. Where the server may have no room for a session that is there
    /// twice, the old one ends first.
    fn begin_to_move_apart(&mut self, odd: (ConnectionId, SessionKey)) {
        let streams = self.moving_streams();
        let Some(apart) = self.setup.apart(odd.0) else {
            self.odd = None;
            return self.setup.on_stays(odd);
        };
        self.successor = match self.setup.is_ever_full() {
            false => Some(Successor::new(apart, streams)),
            true => self.setup.another().map(|back| {
                let gone = self.attachment.end();
                self.is_between = true;
                Successor::after(gone, apart, back, streams)
            }),
        };
        self.setup.monitor.set_moving(self.successor.is_some());
    }

    fn moving_streams(&self) -> MovingStreams {
        MovingStreams {
            numbers: self.streams.iter().map(|grant| grant.stream).collect(),
            of: self.presentation.clone(),
        }
    }

    /// Begins to move to where the server sends the session (fault F55), when it says. What else was
    /// under way is given up for that.
    fn begin_to_follow(&mut self, redirect: &Redirect) {
        let driver = Arc::clone(self.attachment.driver());
        let (follows, is_new) = self.redirects.take(clock::now());
        let there = match follows {
            true => self.setup.redirected(redirect, driver.id, is_new),
            false => Err(Error::new(
                ErrorKind::Redirects,
                "redirected again and again",
            )),
        };
        let runtime = self.setup.runtime();
        let (there, runtime) = match there.and_then(|there| Ok((there, runtime?))) {
            Ok(there) => there,
            Err(error) => return tracing::warn!("the session stays where it is: {error}"),
        };
        if let Some(odd) = self.odd.take() {
            self.setup.on_stays(odd);
        }
        let streams = self.moving_streams();
        self.is_redirected = true;
        self.setup.monitor.set_moving(true);
        self.successor = Some(match self.setup.may_be_full_for(&there) {
            false => {
                let wait = redirect.when.wait(clock::since_1970());
                let due = async move { _ = clock::within(&runtime, wait, driver.closed()).await };
                Successor::at(due, there, streams)
            }
            true => {
                let back = self.setup.another();
                let gone = self.attachment.end();
                self.is_between = true;
                match back {
                    Some(back) => Successor::after(gone, there, back, streams),
                    None => Successor::at(gone, there, streams),
                }
            }
        });
    }

    /// Begins to bring up the session elsewhere, if that is possible. All sessions leave a connection on
    /// which no session can be addressed any more; one at a time leaves a congested connection.
    fn begin_to_move(&mut self) {
        let driver = self.attachment.driver();
        let setup = match driver.is_tainted() {
            true => self.setup.successor(),
            false if let Some(odd) = self.odd => return self.begin_to_move_apart(odd),
            false if driver.accept_invitation() => self.setup.relief(driver.id),
            false => None,
        };
        if let Some(setup) = setup {
            self.setup.monitor.set_moving(true);
            self.successor = Some(Successor::new(setup, self.moving_streams()));
        }
    }

    /// Moves to another connection once that has media. Not where the server was seen to be full:
    /// there a second session is one too many, and only a session that has lost its media is set up
    /// again, by its user.
    fn poll_move(&mut self, context: &mut Context<'_>) {
        if !self.is_to_move() {
            return;
        }
        if self.successor.is_none() {
            self.begin_to_move();
        }
        let Some(successor) = &mut self.successor else {
            return;
        };
        let outcome = successor.poll_take_over(context);
        let has_stopped = !successor.is_on_its_way() && self.setup.monitor.set_moving(false);
        if has_stopped && outcome.is_pending() {
            // The monitor had observed the attempt that has failed.
            let seat = self.attachment.seat(self.streams.clone());
            self.setup.monitor.set_location(seat);
        }
        match outcome {
            Poll::Ready(here) => self.move_over(context, *here),
            // On a tainted connection nothing else is tried; otherwise there may be another invitation.
            Poll::Pending if successor.is_on_its_way() => {}
            Poll::Pending if self.attachment.driver().is_tainted() && !self.is_redirected => {}
            Poll::Pending => self.give_up_move(),
        }
    }

    fn give_up_move(&mut self) {
        let failure = self.successor.take().and_then(Successor::failure);
        self.is_redirected = false;
        if std::mem::take(&mut self.is_between) {
            self.lost = failure;
        }
        if let Some(odd) = self.odd.take() {
            self.setup.on_stays(odd);
        }
    }

    fn move_over(&mut self, context: &mut Context<'_>, (playing, setup): (Attached, Setup)) {
        tracing::info!(
            "{}/{}: moved to {}",
            self.attachment.connection(),
            self.attachment.key(),
            playing.attachment.connection()
        );
        self.successor = None;
        self.streams = playing.streams.grants;
        self.presentation = setup.edited(&playing.presentation).clone();
        self.play_answer = playing.play_answer;
        let mut old = std::mem::replace(&mut self.attachment, playing.attachment);
        let mut left = Vec::new();
        _ = old.consumer.poll_batch(context, &mut left);
        self.left.extend(left);
        self.attachment.consumer.park_as(&old.consumer);
        self.attachment.handle.reporter = old.handle.reporter.take();
        // The old session is released, and its release guard is dropped with it.
        drop(old);
        self.setup = setup;
        (self.is_between, self.is_redirected) = (false, false);
        match self.odd.take() {
            Some(odd) if odd.0 == self.attachment.connection() => self.setup.on_stays(odd),
            Some(odd) => self.setup.on_apart(odd),
            None => {}
        }
        *lock(&self.place) = self.attachment.requester();
    }

    /// Why there are no more packets; none while there may be.
    pub fn end_reason(&self) -> Option<Error> {
        let lost = self.lost.clone();
        let reason = lost.or_else(|| self.attachment.consumer.delivery().end_reason());
        reason.map(|error| self.setup.of_target(error))
    }

    /// Asks the server once more how it describes what is played, beside the session, which plays on. What
    /// is remembered of an earlier answer does not count.
    ///
    /// # Errors
    ///
    /// The server has given no description.
    pub fn describe_again(
        &self,
    ) -> impl Future<Output = Result<Presentation, Error>> + Send + use<> {
        let setup = self.setup.describing_again();
        async move {
            let mut setup = setup?;
            let described = setup.describe().await?.presentation;
            Ok(setup.edited(&described).clone())
        }
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
        self.play_range(self.presentation.play_range()).await
    }

    /// Plays from where these headers say. Most servers take that of a session that is
    /// [paused](Self::pause) only.
    ///
    /// # Errors
    ///
    /// The server refused, and the session is as it was; or the connection ended.
    pub async fn play_from(&mut self, headers: PlayHeaders) -> Result<(), Error> {
        self.play_range(PlayRange::Given(headers)).await
    }

    async fn play_range(&mut self, range: PlayRange) -> Result<(), Error> {
        let request = SessionRequest::Play {
            aggregate: self.presentation.aggregate.clone(),
            range,
        };
        let joining = self.setup.joining(&self.attachment);
        let reply = self.request(request).await;
        drop(joining);
        if let Reply::Playing(answer) = reply? {
            self.play_answer = answer;
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
            let error = Error::from_failure(&failure)
                .of_camera(&self.setup.camera())
                .on(self.attachment.connection());
            self.setup.of_target(error)
        })
    }

    /// Sends RTCP to the server.
    pub fn rtcp_sender(&self) -> RtcpSender {
        RtcpSender {
            place: Arc::clone(&self.place),
        }
    }

    /// Sends parameters of the session to the server.
    pub fn parameter_sender(&self) -> ParameterSender {
        ParameterSender::new(Arc::clone(&self.place))
    }

    /// Observes this session.
    pub fn monitor(&self) -> SessionMonitor {
        self.setup.monitor.clone()
    }
}

/// Without the presentation: its URLs may hold secrets.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("camera", &self.setup.camera())
            .field("connection", &self.attachment.connection())
            .field("session", &self.attachment.key())
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

/// Sends RTCP of one session from any thread. Holds no reference: it keeps nothing alive.
#[derive(Clone, Debug)]
pub struct RtcpSender {
    place: Arc<Mutex<Requester>>,
}

impl RtcpSender {
    /// Queues a packet for the stream with this index. Never blocks; false if the packet was
    /// dropped because too much waits or the connection is over. A session that is over sends
    /// nothing.
    pub fn try_send(&self, stream: usize, packet: impl Into<Bytes>) -> bool {
        self.send(stream, PacketKind::Rtcp, packet.into())
    }

    /// The same for an RTP packet of a backchannel.
    pub fn try_send_media(&self, stream: usize, packet: impl Into<Bytes>) -> bool {
        self.send(stream, PacketKind::Rtp, packet.into())
    }

    fn send(&self, stream: usize, kind: PacketKind, packet: Bytes) -> bool {
        let place = lock(&self.place);
        let report = Report {
            session: place.session,
            stream,
            kind,
            packet,
        };
        place.driver.reports.try_send(report).is_ok()
    }
}
