//! Chooses what a driver does next.
//!
//! In a fixed order, a source that is always ready would starve those after it. With a random order no
//! run could be repeated. So the driver polls its sources in turn: each is the first one now and then.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    sync::mpsc::{Receiver, UnboundedReceiver},
    time::Sleep,
};

use super::{Command, Report};
use crate::mux::{delivery::Producer, network::Wire};

/// What the driver is to do.
#[derive(Debug)]
pub(super) enum SelectOutcome {
    /// Reading may succeed.
    Read,
    /// Writing may succeed.
    Write,
    /// The socket is broken.
    Fail(io::Error),
    Command(Command),
    Report(Report),
    Timer,
    /// The pause of reading is over.
    Resume,
}

/// All that a driver waits for.
pub(super) struct SelectSources<'a> {
    pub(super) transport: &'a mut dyn Wire,
    /// The driver does not read before this is over.
    pub(super) pause: Option<Pin<&'a mut Sleep>>,
    /// The driver does not read before this queue has room.
    pub(super) blocking: Option<&'a Producer>,
    pub(super) wants_to_write: bool,
    pub(super) commands: &'a mut UnboundedReceiver<Command>,
    pub(super) reports: &'a mut Receiver<Report>,
    /// `None` while the timer is not armed.
    pub(super) timer: Option<Pin<&'a mut Sleep>>,
}

/// The index of the source that is polled first.
#[derive(Debug, Default)]
pub(super) struct FairSelect(usize);

impl FairSelect {
    const SOURCES: usize = 4;

    /// Waits until there is something to do. Dropping the future loses nothing.
    pub(super) async fn next(&mut self, mut sources: SelectSources<'_>) -> SelectOutcome {
        let first = self.0;
        self.0 = (first + 1) % Self::SOURCES;
        let wants_to_read = sources.pause.is_none() && sources.blocking.is_none();
        let wants_to_write = sources.wants_to_write;
        poll_fn(|context| {
            if expired(sources.pause.as_mut(), context).is_ready() {
                return Poll::Ready(SelectOutcome::Resume);
            }
            if sources
                .blocking
                .is_some_and(|producer| producer.poll_room(context).is_ready())
            {
                return Poll::Ready(SelectOutcome::Read);
            }
            for source in first..first + Self::SOURCES {
                let outcome = match source % Self::SOURCES {
                    0 => {
                        let transport = &mut sources.transport;
                        let ready = transport.poll_ready(context, wants_to_read, wants_to_write);
                        ready.map(|ready| match ready {
                            Ok(true) => SelectOutcome::Read,
                            Ok(false) => SelectOutcome::Write,
                            Err(error) => SelectOutcome::Fail(error),
                        })
                    }
                    1 => some(sources.commands.poll_recv(context)).map(SelectOutcome::Command),
                    2 => some(sources.reports.poll_recv(context)).map(SelectOutcome::Report),
                    _ => expired(sources.timer.as_mut(), context).map(|()| SelectOutcome::Timer),
                };
                if outcome.is_ready() {
                    return outcome;
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// A channel whose senders are all gone never becomes ready.
fn some<T>(received: Poll<Option<T>>) -> Poll<T> {
    match received {
        Poll::Ready(Some(value)) => Poll::Ready(value),
        _ => Poll::Pending,
    }
}

fn expired(timer: Option<&mut Pin<&mut Sleep>>, context: &mut Context<'_>) -> Poll<()> {
    match timer {
        Some(timer) => timer.as_mut().poll(context),
        None => Poll::Pending,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use bytes::BytesMut;
    use tokio::{sync::mpsc, time::sleep_until};

    use super::*;

    /// Always ready.
    #[derive(Debug)]
    struct Busy;

    impl Wire for Busy {
        fn try_read(&mut self, _: &mut BytesMut) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn try_write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn poll_ready(&mut self, _: &mut Context<'_>, _: bool, _: bool) -> Poll<io::Result<bool>> {
            Poll::Ready(Ok(true))
        }
    }

    #[tokio::test]
    async fn a_source_that_is_always_ready_does_not_starve_the_others() {
        let (command_sender, mut commands) = mpsc::unbounded_channel();
        // The sender is dropped at once.
        let (_, mut reports) = mpsc::channel(1);
        let mut transport = Busy;
        let mut timer = pin!(sleep_until(tokio::time::Instant::now()));
        timer.as_mut().await;
        let mut fair_select = FairSelect::default();
        let mut seen = [0; 3];
        for _ in 0..30 {
            command_sender.send(Command::Close).unwrap();
            let outcome = fair_select.next(SelectSources {
                transport: &mut transport,
                pause: None,
                blocking: None,
                wants_to_write: false,
                commands: &mut commands,
                reports: &mut reports,
                timer: Some(timer.as_mut()),
            });
            match outcome.await {
                SelectOutcome::Read => seen[0] += 1,
                SelectOutcome::Command(_) => seen[1] += 1,
                _ => seen[2] += 1,
            }
        }
        assert!(seen.iter().all(|times| *times >= 7), "{seen:?}");
    }
}
