//! A session while it plays: from its packets to the manager, paused and played again, watched.

use gstreamer as gst;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gst::glib;
use tokio::sync::watch;

use super::{
    CAT, RtspMuxSrc,
    end::End,
    feed::{Feed, Halt, Next},
    losses::Losses,
    messages::{self, Phase},
    session_control::{Target, reached},
    stage::Stage,
    timer,
    watchdog::Watchdog,
};
use crate::mux::{self, Packet, PacketKind, Session};

/// Pushing takes so long only where downstream holds it up.
const HELD_UP: Duration = Duration::from_secs(1);

/// One session that plays.
pub(super) struct Playback<'a> {
    pub(super) element: &'a glib::WeakRef<RtspMuxSrc>,
    pub(super) camera: &'a str,
    pub(super) stage: &'a Arc<Stage>,
    pub(super) target: watch::Receiver<Target>,
    pub(super) session: Session,
    pub(super) feed: &'a mut Feed,
    pub(super) watchdog: Watchdog,
    pub(super) losses: Losses,
}

impl Playback<'_> {
    /// Plays and pauses until the session is over; `on_media` is told when the first RTP packet came.
    pub(super) async fn run(&mut self, mut on_media: impl FnMut()) -> End {
        loop {
            if let Err(end) = self.feed(&mut on_media).await {
                return end;
            }
            if let Err(end) = self.pause().await {
                return end;
            }
        }
    }

    /// Feeds until the element wants to pause.
    async fn feed(&mut self, on_media: &mut impl FnMut()) -> Result<(), End> {
        let mut batch = Vec::new();
        let mut is_first = true;
        self.watchdog.restart(timer::now());
        let mut alarm = timer::Alarm::at(self.watchdog.deadline());
        loop {
            tokio::select! {
                biased;
                () = reached(&mut self.target, |target| target != Target::Playing) => return Ok(()),
                next = self.feed.next_batch(&mut self.session, &mut batch) => match next {
                    Next::Packets => {}
                    // What downstream held up is no silence of the camera.
                    Next::Room => self.watchdog.restart(timer::now()),
                    Next::End => {
                        return Err(self.session.end_reason().map_or(End::Regular, playing_failed));
                    }
                },
                () = alarm.rings() => {
                    if self.feed.is_held_up() {
                        self.watchdog.restart(timer::now());
                    }
                    self.check_silence()?;
                    alarm = timer::Alarm::at(self.watchdog.deadline());
                }
            }
            let element = self.element.upgrade().ok_or(End::Stopped)?;
            let began = timer::now();
            for packet in batch.drain(..) {
                self.tell_losses(&element, began, &packet);
                if packet.kind == PacketKind::Rtp {
                    self.watchdog.on_packet(packet.stream, packet.received);
                    if std::mem::take(&mut is_first) {
                        on_media();
                    }
                }
                self.feed
                    .push(&element, packet)
                    .map_err(|halt| self.halted(halt))?;
            }
            drop(element);
            if timer::now().saturating_duration_since(began) > HELD_UP {
                self.watchdog.restart(timer::now());
            }
            // A batch is as long as the queue was; its streams and the other sessions come next.
            tokio::task::yield_now().await;
        }
    }

    /// `began`: when the batch did, which will do for packets of which nothing is told.
    fn tell_losses(&mut self, element: &RtspMuxSrc, began: Instant, packet: &Packet) {
        let now = match packet.discontinuity {
            true => timer::now(),
            false => began,
        };
        let session = &self.session;
        let dropped = || {
            let streams = session.monitor().stats().streams;
            let mut streams = streams.iter();
            let stream = streams.find(|stream| stream.stream == packet.stream);
            stream.map_or(0, |stream| stream.dropped)
        };
        let overflow = self.losses.on_packet(packet, now, dropped);
        if let Some(overflow) = overflow {
            gst::warning!(
                CAT,
                obj = element,
                "stream {}: not taken in time: {overflow:?}",
                packet.stream
            );
            messages::overflow(element, &overflow);
        }
    }

    fn check_silence(&self) -> Result<(), End> {
        match self.watchdog.silence(timer::now()) {
            Some(silence) => Err(End::Silent(self.camera.to_owned(), silence)),
            None => Ok(()),
        }
    }

    fn halted(&self, halt: Halt) -> End {
        match halt {
            Halt::Flow(flow) => End::Flow(flow),
            Halt::Goodbye => End::Goodbye(self.camera.to_owned()),
        }
    }

    /// PAUSE, until the element wants to play again; then PLAY.
    async fn pause(&mut self) -> Result<(), End> {
        let paused = match self.session.pause().await {
            Ok(()) => true,
            // Live servers may know no PAUSE. What they go on sending is read and dropped.
            Err(error) if matches!(error.kind(), mux::ErrorKind::Status(_)) => {
                gst::info!(CAT, "no pause: {error}");
                false
            }
            Err(error) => return Err(playing_failed(error)),
        };
        let mut batch = Vec::new();
        self.feed.unpark(&mut self.session);
        loop {
            tokio::select! {
                biased;
                () = reached(&mut self.target, |target| target == Target::Playing) => break,
                more = self.session.next_batch(&mut batch) => if !more {
                    return Err(self.session.end_reason().map_or(End::Regular, playing_failed));
                },
            }
            batch.clear();
        }
        if paused {
            self.session.play().await.map_err(playing_failed)?;
        }
        self.stage
            .work(|manager| manager.sync_state())
            .ok_or(End::Stopped)?;
        self.feed.restart().map_err(End::Flow)
    }
}

fn playing_failed(error: mux::Error) -> End {
    End::Mux(Phase::Playing, error)
}
