//! Users of cameras who bring their sessions back whatever happens, on one simulated network.

use std::cell::{Ref, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use gstrtspmux::mux::network::Network;
use gstrtspmux::mux::{Error, Mux, PacketKind, RetryBounds, SessionOptions};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use crate::executor::Executor;
use crate::network::{Millis, Net};
use crate::schedule::stamp;

/// The viewers of one multiplexer, until a time at which all of them end. The test proceeds with the
/// world and polls the executor, and may look or do something in between.
pub(crate) struct Viewers {
    pub(crate) mux: Mux,
    pub(crate) executor: Executor,
    net: Arc<Net>,
    until: Instant,
    /// When the packets of each came.
    seen: Vec<Rc<RefCell<Vec<Millis>>>>,
}

impl Viewers {
    pub(crate) fn new(net: &Arc<Net>, cameras: u32, until: Millis) -> Self {
        let network: Arc<dyn Network> = Arc::clone(net) as Arc<dyn Network>;
        let mux = Mux::builder()
            .runtime(Handle::current())
            .network(network)
            .build();
        Self::of(mux, net, cameras, until)
    }

    /// Others of a multiplexer.
    pub(crate) fn of(mux: Mux, net: &Arc<Net>, cameras: u32, until: Millis) -> Self {
        Self {
            mux,
            executor: Executor::new(cameras as usize),
            net: Arc::clone(net),
            until: net.instant(until),
            seen: Vec::new(),
        }
    }

    /// The viewer of the next camera, from 1 on.
    pub(crate) fn enter(&mut self, begins: Millis, options: SessionOptions) {
        let (number, times) = (self.seen.len(), Rc::default());
        self.seen.push(Rc::clone(&times));
        let viewer = Viewer {
            mux: self.mux.clone(),
            options,
            net: Arc::clone(&self.net),
            camera: number as u32 + 1,
            begins: self.net.instant(begins),
            until: self.until,
            seen: times,
        };
        let until = self.until;
        self.executor.spawn(number, async move {
            tokio::select! {
                () = viewer.watch() => {}
                () = sleep_until(until) => {}
            }
        });
    }

    /// When the packets of a camera came.
    pub(crate) fn seen(&self, camera: u32) -> Ref<'_, Vec<Millis>> {
        self.seen[camera as usize - 1].borrow()
    }

    /// The same of each camera.
    pub(crate) fn all_seen(&self) -> impl Iterator<Item = Ref<'_, Vec<Millis>>> {
        self.seen.iter().map(|seen| seen.borrow())
    }
}

/// One viewer of one camera.
struct Viewer {
    mux: Mux,
    options: SessionOptions,
    net: Arc<Net>,
    camera: u32,
    begins: Instant,
    until: Instant,
    /// When its packets came.
    seen: Rc<RefCell<Vec<Millis>>>,
}

impl Viewer {
    async fn watch(self) {
        sleep_until(self.begins).await;
        let mut failure: Option<Error> = None;
        while Instant::now() < self.until {
            let Err(error) = self.live(failure.as_ref()).await else {
                return;
            };
            failure = Some(error);
        }
    }

    /// One session, until the end.
    async fn live(&self, failure: Option<&Error>) -> Result<(), Error> {
        let options = &self.options;
        let turn = self.mux.turn(options, failure, RetryBounds::default());
        let turn = turn.await?;
        let described = self.mux.open(options.clone()).describe().await;
        drop(turn);
        let mut session = described?.setup_all().await?.play().await?;
        let mut batch = Vec::new();
        loop {
            let is_on = tokio::select! {
                biased;
                is_on = session.next_batch(&mut batch) => is_on,
                () = sleep_until(self.until) => return Ok(()),
            };
            for packet in batch.drain(..) {
                if packet.kind != PacketKind::Rtp {
                    match is_goodbye(&packet.payload) {
                        true => return Err(given_up()),
                        false => continue,
                    }
                }
                let camera = stamp(&packet.payload).map(|(camera, _)| camera);
                assert_eq!(camera, Some(self.camera), "a packet of another camera");
                self.seen.borrow_mut().push(self.net.world().now);
            }
            if !is_on {
                return Err(session.end_reason().expect("a reason"));
            }
        }
    }
}

/// Whether one of the packets of a report is a BYE of one source (RFC 3550 6.6).
fn is_goodbye(report: &[u8]) -> bool {
    report.chunks(4).any(|word| word.starts_with(&[0x81, 203]))
}

/// Why a user ends a session that goes on. The policy sees that it is no loss of a connection.
fn given_up() -> Error {
    SessionOptions::new("").expect_err("no URL")
}
