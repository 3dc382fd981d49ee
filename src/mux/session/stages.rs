//! The stages before a session plays, each consumed by the next.
//!
//! `Opening` knows what to play, `Described` what there is, `Ready` has it set up. Each may be
//! dropped at any moment, and so may the future of a step: what the server has begun for it by then
//! is torn down behind the scenes.

use std::fmt;

use super::{
    Session,
    attachment::Attachment,
    monitor::SessionMonitor,
    setup::{BringUp, StreamsSetUp},
};
use crate::mux::{
    config::SessionOptions,
    connection_pool::{ConnectionPool, Intent},
    error::{Error, ErrorKind, Initiator, Scope},
    proto::{Presentation, StreamGrant},
};

/// A session that has done nothing yet.
#[derive(Debug)]
#[must_use = "nothing happens before `describe`"]
pub struct Opening {
    bring_up: Result<BringUp, Error>,
    monitor: SessionMonitor,
}

impl Opening {
    pub(crate) fn new(pool: ConnectionPool, options: SessionOptions) -> Self {
        Self::watched(pool, options, SessionMonitor::new())
    }

    /// The same under a monitor that is there already.
    pub(crate) fn watched(
        pool: ConnectionPool,
        options: SessionOptions,
        monitor: SessionMonitor,
    ) -> Self {
        Self {
            bring_up: BringUp::new(pool, options, monitor.clone()),
            monitor,
        }
    }

    /// The session is the one that was announced by `intent`, which ends once the session has its
    /// place at a connection.
    pub fn intended(mut self, intent: Option<Intent>) -> Self {
        if let Ok(bring_up) = &mut self.bring_up {
            bring_up.set_intent(intent);
        }
        self
    }

    /// Takes a reference to a connection - made for the purpose if need be - and asks the server
    /// to describe the presentation. A connection that had gone stale is replaced once; up to five
    /// redirects are followed, to another host without the user's credentials and with those that
    /// the redirect names; a server that turns out not to stand several sessions on one connection is
    /// tried on one of its own, if [`Multiplex`](crate::mux::Multiplex) allows.
    ///
    /// A presentation that was played before on a server that shares is told from memory, and asked
    /// for again together with its first SETUP, see [`Described::is_remembered`].
    ///
    /// # Errors
    ///
    /// The first thing that went wrong and could not be helped.
    pub async fn describe(self) -> Result<Described, Error> {
        let mut bring_up = self.bring_up?;
        bring_up.begin()?;
        let described = bring_up.describe().await;
        let (attachment, presentation) = described.map_err(|error| bring_up.of_target(error))?;
        Ok(Described {
            attachment,
            presentation,
            bring_up,
        })
    }

    /// The camera's URL without secrets.
    pub fn camera(&self) -> String {
        self.bring_up
            .as_ref()
            .map(BringUp::camera)
            .unwrap_or_default()
    }

    /// Observes this session through all its stages.
    pub fn monitor(&self) -> SessionMonitor {
        self.monitor.clone()
    }
}

/// A session whose presentation is known; nothing is reserved at the server yet.
#[must_use = "dropping it gives the connection back"]
pub struct Described {
    attachment: Attachment,
    presentation: Presentation,
    /// Declared last: it drops the handle's release guard, after the release went out.
    bring_up: BringUp,
}

impl Described {
    /// What there is to play.
    pub fn presentation(&self) -> &Presentation {
        &self.presentation
    }

    /// Whether that is what the server said before, perhaps to an earlier process (see
    /// [`MuxBuilder::state`](crate::mux::MuxBuilder::state)): it is asked again together with the first
    /// SETUP, and what it says then is in [`Ready::presentation`].
    pub fn is_remembered(&self) -> bool {
        self.bring_up.is_remembered()
    }

    /// Observes this session through all its stages.
    pub fn monitor(&self) -> SessionMonitor {
        self.bring_up.monitor.clone()
    }

    /// Sets up all streams. See [`setup`](Self::setup).
    ///
    /// # Errors
    ///
    /// As [`setup`](Self::setup).
    pub async fn setup_all(self) -> Result<Ready, Error> {
        let streams: Vec<usize> = (0..self.presentation.streams.len()).collect();
        self.setup(&streams).await
    }

    /// Sets up the streams with these indices. Where the connection has no channels left, or the
    /// server no room for another session on it, another connection is used. A stream after the
    /// first that the server refuses is left out: see [`Ready::failed_streams`].
    ///
    /// # Errors
    ///
    /// The first thing that went wrong and could not be helped; an empty list, or an index that
    /// the presentation does not have.
    pub async fn setup(self, streams: &[usize]) -> Result<Ready, Error> {
        let Self {
            attachment,
            presentation,
            mut bring_up,
        } = self;
        let count = presentation.streams.len();
        if streams.is_empty() || streams.iter().any(|stream| *stream >= count) {
            let explanation = format!("streams {streams:?} of a presentation that has {count}");
            let error = Error::new(ErrorKind::Sdp, Scope::Session, Initiator::User, explanation);
            return Err(error.in_request("SETUP").of_camera(&bring_up.camera()));
        }
        let set_up = bring_up.set_up(attachment, presentation, streams).await;
        let (attachment, presentation, streams) =
            set_up.map_err(|error| bring_up.of_target(error))?;
        Ok(Ready {
            attachment,
            presentation,
            streams,
            bring_up,
        })
    }
}

/// Without the presentation: its URLs may hold secrets.
impl fmt::Debug for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Described")
            .field("camera", &self.bring_up.camera())
            .field("connection", &self.attachment.connection())
            .field("session", &self.attachment.key())
            .finish_non_exhaustive()
    }
}

/// A session that is set up and can be played.
#[must_use = "dropping it tears the session down"]
pub struct Ready {
    attachment: Attachment,
    presentation: Presentation,
    streams: StreamsSetUp,
    /// Declared last: it drops the handle's release guard, after the release went out.
    bring_up: BringUp,
}

impl Ready {
    /// What there is to play.
    pub fn presentation(&self) -> &Presentation {
        &self.presentation
    }

    /// The streams that were set up, in the order of their set-up.
    pub fn streams(&self) -> &[StreamGrant] {
        &self.streams.grants
    }

    /// The streams that the server refused, and why.
    pub fn failed_streams(&self) -> &[(usize, Error)] {
        &self.streams.failed
    }

    /// Observes this session through all its stages.
    pub fn monitor(&self) -> SessionMonitor {
        self.bring_up.monitor.clone()
    }

    /// Starts all streams. Packets may come before the answer; they are delivered.
    ///
    /// # Errors
    ///
    /// The server refused, or the connection ended.
    pub async fn play(self) -> Result<Session, Error> {
        let Self {
            attachment,
            presentation,
            streams,
            mut bring_up,
        } = self;
        let playing = bring_up.play(attachment, presentation, streams).await;
        let playing = playing.map_err(|error| bring_up.of_target(error))?;
        Ok(Session::new(playing, bring_up))
    }
}

/// Without the presentation: its URLs may hold secrets.
impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("camera", &self.bring_up.camera())
            .field("connection", &self.attachment.connection())
            .field("session", &self.attachment.key())
            .finish_non_exhaustive()
    }
}
