//! A session while it plays: from its packets to the manager, paused and played again, watched.

use gstreamer as gst;
use std::sync::Arc;

use gst::glib;
use tokio::sync::watch;

use super::{
    CAT, RtspMuxSrc,
    end::End,
    feed::{Feed, Halt},
    messages::Phase,
    session_control::{Target, reached},
    stage::Stage,
    timer,
    watchdog::Watchdog,
};
use crate::mux::{self, PacketKind, Session};

/// One session that plays.
pub(super) struct Playback<'a> {
    pub(super) element: &'a glib::WeakRef<RtspMuxSrc>,
    pub(super) camera: &'a str,
    pub(super) stage: &'a Arc<Stage>,
    pub(super) target: watch::Receiver<Target>,
    pub(super) session: Session,
    pub(super) feed: &'a mut Feed,
    pub(super) watchdog: Watchdog,
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
                more = async {
                    self.feed.room().await;
                    self.session.next_batch(&mut batch).await
                } => if !more {
                    return Err(self.session.end_reason().map_or(End::Regular, playing_failed));
                },
                () = alarm.rings() => {
                    self.check_silence()?;
                    alarm = timer::Alarm::at(self.watchdog.deadline());
                }
            }
            let element = self.element.upgrade().ok_or(End::Stopped)?;
            for packet in batch.drain(..) {
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
            // A batch is as long as the queue was; its streams and the other sessions come next.
            tokio::task::yield_now().await;
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
