//! Moving a session that plays to another connection, without a gap: make before break.
//!
//! On a *tainted* connection the server has given two sessions one channel: it is not known whose packets
//! come next, or what a request does. The driver goes on reading the connection as long as packets come,
//! and sends no request there. Meanwhile the session is set up again on a connection of its own, and
//! plays there from its first RTP packet on; reports may come long before.
//!
//! A session whose stray bytes harm its neighbours moves in the same way. Where the server was ever full
//! the old session ends first, as the server may have no room for both.
//!
//! A session that the server sends elsewhere (REDIRECT, fault F55) moves in the same way, and stays where it
//! is if the target has nothing for it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::setup::{Attached, Setup};
use crate::mux::{
    error::{Error, ErrorKind},
    proto::Presentation,
};

/// So many times a session follows within this time where servers send it: there are servers that send
/// their sessions on and back, or again and again to where nothing is (fault F40).
const MOST_REDIRECTS: u32 = 5;
const REDIRECTS_WITHIN: Duration = Duration::from_secs(10 * 60);

/// How often a session was sent elsewhere while it played.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RedirectBudget {
    since: Option<Instant>,
    count: u32,
}

impl RedirectBudget {
    /// The server sends the session elsewhere. Gives whether it is to follow, and whether that is a new
    /// beginning: the URLs to which earlier ones led are no loop any more.
    pub(super) fn take(&mut self, now: Instant) -> (bool, bool) {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= REDIRECTS_WITHIN;
        let is_new = self.since.is_none_or(is_over);
        if is_new {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count = self.count.saturating_add(1);
        (self.count <= MOST_REDIRECTS, is_new)
    }
}

type Coming = dyn Future<Output = Result<(Attached, Setup), Error>> + Send;

/// The streams of a session. Its consumer knows them by their numbers, so these stay.
#[derive(Clone)]
pub(super) struct MovingStreams {
    pub(super) numbers: Vec<usize>,
    pub(super) of: Presentation,
}

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
    pub(super) fn new(setup: Setup, streams: MovingStreams) -> Self {
        Self::at(std::future::ready(()), setup, streams)
    }

    /// Brings them up when it is `due`.
    pub(super) fn at(
        due: impl Future<Output = ()> + Send + 'static,
        setup: Setup,
        streams: MovingStreams,
    ) -> Self {
        Self::coming(async move {
            due.await;
            begin(setup, &streams).await
        })
    }

    /// Brings the streams up once the server has released the session; if that fails, once more, `back`
    /// to a connection that has room.
    pub(super) fn after(
        gone: impl Future<Output = ()> + Send + 'static,
        setup: Setup,
        back: Setup,
        streams: MovingStreams,
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

async fn begin(mut setup: Setup, streams: &MovingStreams) -> Result<(Attached, Setup), Error> {
    let described = setup.describe().await?;
    let now = setup.edited(&described.presentation);
    let is_there = |stream: &usize| {
        let both = streams
            .of
            .streams
            .get(*stream)
            .zip(now.streams.get(*stream));
        both.is_some_and(|(before, now)| before.is_same_media(now))
    };
    if !streams.numbers.iter().all(is_there) {
        let error = Error::new(ErrorKind::Sdp, "other streams are described there");
        return Err(error.in_request("DESCRIBE").of_camera(&setup.camera()));
    }
    let set_up = setup.set_up(described, &streams.numbers).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f55_five_redirects_are_followed_in_ten_minutes() {
        #[expect(clippy::disallowed_methods, reason = "any time will do")]
        let begin = Instant::now();
        let mut budget = RedirectBudget::default();
        for second in 0..10 {
            let (follows, is_new) = budget.take(begin + Duration::from_secs(second));
            assert_eq!((follows, is_new), (second < 5, second == 0), "{second}");
        }
        let later = begin + REDIRECTS_WITHIN;
        assert_eq!(budget.take(later), (true, true));
        assert_eq!(budget.take(later), (true, false));
    }
}
