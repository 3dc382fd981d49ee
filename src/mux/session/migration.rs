//! Moving a session that plays to another connection, without a gap: make before break.
//!
//! On a *tainted* connection the server has given two sessions one channel: it is not known whose packets
//! come next, or what a request does. The driver goes on reading the connection as long as packets come,
//! and sends no request there. Meanwhile the session is set up again on a connection of its own, and
//! plays there from its first RTP packet on; reports may come long before.
//!
//! A session whose stray bytes harm its neighbours moves in the same way. Where the server was ever full
//! the old session ends first, as the server may have no room for both.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use super::setup::{Attached, Setup};
use crate::mux::error::Error;

type Coming = dyn Future<Output = Result<(Attached, Setup), Error>> + Send;

/// The session that is to take over.
pub(super) enum Successor {
    /// The session is being brought up. The mutex is for `Sync` and never locked.
    Coming(Mutex<Pin<Box<Coming>>>),
    /// The session plays; no media has come.
    Here(Box<(Attached, Setup)>),
    /// The set-up failed. The session stays where it is as long as packets come there.
    Failed(Option<Error>),
}

impl Successor {
    /// Brings up the streams of a session once more.
    pub(super) fn new(setup: Setup, streams: Vec<usize>) -> Self {
        Self::coming(async move { begin(setup, &streams).await })
    }

    /// Brings the streams up once the server has released the session; if that fails, once more, `back`
    /// to a connection that has room.
    pub(super) fn after(
        gone: impl Future<Output = ()> + Send + 'static,
        setup: Setup,
        back: Setup,
        streams: Vec<usize>,
    ) -> Self {
        Self::coming(async move {
            gone.await;
            match begin(setup, &streams).await {
                Ok(here) => Ok(here),
                Err(error) => {
                    tracing::warn!("not moved to a connection of its own: {error}");
                    begin(back, &streams).await
                }
            }
        })
    }

    fn coming(
        coming: impl Future<Output = Result<(Attached, Setup), Error>> + Send + 'static,
    ) -> Self {
        Self::Coming(Mutex::new(Box::pin(coming)))
    }

    /// Why the set-up failed.
    pub(super) fn failure(self) -> Option<Error> {
        match self {
            Self::Failed(error) => error,
            _ => None,
        }
    }

    /// Whether it may still take over.
    pub(super) fn is_on_its_way(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }

    /// Ready with the session once it has media.
    pub(super) fn poll_take_over(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Box<(Attached, Setup)>> {
        if let Self::Coming(coming) = self {
            let coming = coming.get_mut().unwrap_or_else(PoisonError::into_inner);
            match std::task::ready!(coming.as_mut().poll(context)) {
                Ok((mut playing, setup)) => {
                    let streams = playing.streams.grants.iter().map(|grant| grant.stream);
                    playing.attachment.consumer.begin_anew(streams);
                    *self = Self::Here(Box::new((playing, setup)));
                }
                Err(error) => {
                    tracing::warn!("not moved to another connection: {error}");
                    *self = Self::Failed(Some(error));
                }
            }
        }
        let Self::Here(here) = self else {
            return Poll::Pending;
        };
        let is_alive = std::task::ready!(here.0.attachment.consumer.poll_media(context));
        let reason = here.0.attachment.consumer.delivery().end_reason();
        match std::mem::replace(self, Self::Failed(reason)) {
            Self::Here(here) if is_alive => Poll::Ready(here),
            _ => Poll::Pending,
        }
    }
}

async fn begin(mut setup: Setup, streams: &[usize]) -> Result<(Attached, Setup), Error> {
    let described = setup.describe().await?;
    let set_up = setup.set_up(described, streams).await?;
    let playing = setup.play(set_up).await?;
    Ok((playing, setup))
}

impl fmt::Debug for Successor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coming(_) => "Coming",
            Self::Here(_) => "Here",
            Self::Failed(_) => "Failed",
        })
    }
}
