//! The stages before a session plays, each consumed by the next.
//!
//! `Opening` knows what to play, `Described` what there is, `Ready` has it set up. Each may be
//! dropped at any moment, and so may the future of a step: what the server has begun for it by then
//! is torn down behind the scenes.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{
    Session,
    monitor::SessionMonitor,
    parameters::ParameterSender,
    setup::{Attached, Setup},
};
use crate::mux::{
    config::SessionOptions,
    connection_pool::{ConnectionPool, Intent},
    error::{Error, ErrorKind, Initiator},
    proto::{InvalidSdp, PlayHeaders, Presentation, StreamGrant, wire::sdp::parse_presentation},
};

/// A session that has done nothing yet.
#[derive(Debug)]
#[must_use = "nothing happens before `describe`"]
pub struct Opening {
    setup: Result<Setup, Error>,
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
            setup: Setup::new(pool, options, monitor.clone()),
            monitor,
        }
    }

    /// The session is the one that was announced by `intent`, which ends once the session has its
    /// place at a connection.
    pub fn intended(mut self, intent: Option<Intent>) -> Self {
        if let Ok(setup) = &mut self.setup {
            setup.set_intent(intent);
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
    /// for again together with its first SETUP: what the server says then is in [`Ready::presentation`].
    ///
    /// # Errors
    ///
    /// The first thing that went wrong and could not be helped.
    pub async fn describe(self) -> Result<Described, Error> {
        let mut setup = self.setup?;
        setup.begin();
        let attached = setup.describe().await?;
        Ok(Described { attached, setup })
    }

    /// Observes this session through all its stages.
    pub fn monitor(&self) -> SessionMonitor {
        self.monitor.clone()
    }
}

/// A session whose presentation is known; nothing is reserved at the server yet.
#[must_use = "dropping it gives the connection back"]
#[derive(Debug)]
pub struct Described {
    attached: Attached,
    /// Declared last: it drops the handle's release guard, after the release went out.
    setup: Setup,
}

impl Described {
    /// What there is to play.
    pub fn presentation(&self) -> &Presentation {
        self.setup.edited(&self.attached.presentation)
    }

    /// Changes what there is to play: from now on the session goes by this description in place of the
    /// server's, also where it is moved to another connection. Other sessions do not.
    ///
    /// # Errors
    ///
    /// Nothing of it can be set up; then the server's stays.
    pub fn edit(&mut self, sdp: Bytes) -> Result<(), InvalidSdp> {
        let described = self.attached.presentation.clone();
        let edited = parse_presentation(sdp, described.base.clone())?;
        self.setup.edit(described, edited);
        Ok(())
    }

    /// Sets up all streams. See [`setup`](Self::setup).
    ///
    /// # Errors
    ///
    /// As [`setup`](Self::setup).
    pub async fn setup_all(self) -> Result<Ready, Error> {
        let streams: Vec<usize> = (0..self.presentation().streams.len()).collect();
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
        let count = self.presentation().streams.len();
        let Self {
            attached,
            mut setup,
        } = self;
        if streams.is_empty() || streams.iter().any(|stream| *stream >= count) {
            let explanation = format!("streams {streams:?} of a presentation that has {count}");
            let error = Error::new(ErrorKind::Sdp, explanation).caused_by(Initiator::User);
            return Err(error.in_request("SETUP").of_camera(&setup.camera()));
        }
        let attached = setup.set_up(attached, streams).await?;
        Ok(Ready { attached, setup })
    }
}

/// A session that is set up and can be played.
#[must_use = "dropping it tears the session down"]
#[derive(Debug)]
pub struct Ready {
    attached: Attached,
    /// Declared last: it drops the handle's release guard, after the release went out.
    setup: Setup,
}

impl Ready {
    /// What there is to play.
    pub fn presentation(&self) -> &Presentation {
        self.setup.edited(&self.attached.presentation)
    }

    /// Sends parameters of the session until it plays; then
    /// [`Session::parameter_sender`](super::Session::parameter_sender) does.
    pub fn parameter_sender(&self) -> ParameterSender {
        ParameterSender::new(Arc::new(Mutex::new(self.attached.attachment.requester())))
    }

    /// The streams that were set up, in the order of their set-up.
    pub fn streams(&self) -> &[StreamGrant] {
        &self.attached.streams.grants
    }

    /// The streams that the server refused, and why.
    pub fn failed_streams(&self) -> &[(usize, Error)] {
        &self.attached.streams.failed
    }

    /// Starts all streams. Packets may come before the answer; they are delivered.
    ///
    /// # Errors
    ///
    /// The server refused, or the connection ended.
    pub async fn play(self) -> Result<Session, Error> {
        self.play_from(None).await
    }

    /// The same, from where these headers say.
    ///
    /// # Errors
    ///
    /// As [`play`](Self::play).
    pub async fn play_from(self, headers: Option<PlayHeaders>) -> Result<Session, Error> {
        let Self {
            attached,
            mut setup,
        } = self;
        setup.begins_at = headers;
        let playing = setup.play(attached).await?;
        Ok(Session::new(playing, setup))
    }
}
