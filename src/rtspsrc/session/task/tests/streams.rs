//! Pads whose stream is gone, in simulated time: GAP events for a minute, and a second DESCRIBE before EOS.

use super::*;

/// The camera that has two streams.
pub(super) const CAMERA: u32 = 100;

const FIRST: &str = "stream_0";
const SECOND: &str = "stream_1";

/// The camera, which plays both streams at first.
struct Scene {
    server: Arc<Server>,
    camera: Camera,
    ear: Rc<RefCell<Ear>>,
    _mux: Mux,
}

impl Scene {
    async fn new() -> Self {
        let server = Arc::new(Server {
            conduct: Mutex::new(Conduct::Plays),
            ends: Mutex::default(),
            identities: None,
        });
        let mux = Mux::builder()
            .runtime(Handle::current())
            .network(Arc::new(Net(server.clone())))
            .build();
        let ear = Ear::new();
        let scene = Self {
            camera: start(&mux, options(CAMERA, None), CAMERA, &ear),
            server,
            ear,
            _mux: mux,
        };
        scene.pass(5).await;
        scene.camera.wait_for_buffers(6).await;
        let heard = scene.heard();
        assert!(heard(FIRST, Heard::Buffer) > 0 && heard(SECOND, Heard::Buffer) > 0);
        scene
    }

    /// From now on the server behaves so, and is not lost.
    fn turn(&self, conduct: Conduct) {
        *lock(&self.server.conduct) = conduct;
    }

    /// So many seconds pass, in each of which the server sends media.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            sleep(S).await;
            let before = self.camera.sinks.buffers.load(Ordering::Relaxed);
            let sent = self.server.send_media();
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            // The threads that push have no part in the simulation: its time stops until they are done. What
            // is sent while the session is set up again may never come.
            let stopped = std::time::Instant::now();
            let is_done = || {
                let pushed = self.camera.sinks.buffers.load(Ordering::Relaxed) - before;
                pushed >= sent || stopped.elapsed() >= S / 2
            };
            while !is_done() {
                tokio::task::yield_now().await;
                std::thread::yield_now();
            }
        }
    }

    /// How often that came to a pad since the last call.
    fn heard(&self) -> impl Fn(&str, Heard) -> usize + use<> {
        let heard = std::mem::take(&mut *lock(&self.camera.sinks.heard));
        move |pad, what| {
            let is_it = |(of, it): &&(String, Heard)| of == pad && *it == what;
            heard.iter().filter(is_it).count()
        }
    }

    /// Ends it. Gives how many WARNINGs there were about streams; those about the session have details.
    async fn end(self) -> usize {
        self.ear.borrow_mut().take(&self.camera.element);
        self.camera.control.set(TargetState::Stopped);
        self.camera.task.await.unwrap();
        let told = std::mem::take(&mut self.ear.borrow_mut().told);
        let is_warning =
            |(_, text): &&(Duration, String)| text.contains("warning") && !text.contains("details");
        told.values().flatten().filter(is_warning).count()
    }
}

fn simulate(scene: impl Future<Output = ()>) {
    gst::init().unwrap();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    LocalSet::new().block_on(&runtime.unwrap(), scene);
}

/// After a reconnect the second stream is gone, and its pad gets GAP events.
async fn with_gap(conduct: Conduct) -> Scene {
    let scene = Scene::new().await;
    scene.server.strike(conduct);
    scene.pass(55).await;
    let heard = scene.heard();
    assert!(
        (45..=55).contains(&heard(SECOND, Heard::Gap)),
        "{}",
        heard(SECOND, Heard::Gap)
    );
    assert!(heard(FIRST, Heard::Buffer) > 45);
    assert_eq!(heard(SECOND, Heard::Buffer) + heard(SECOND, Heard::Eos), 0);
    scene
}

#[test]
fn a_pad_whose_stream_is_gone_ends_after_a_minute_and_a_second_describe() {
    simulate(async {
        let scene = with_gap(Conduct::PlaysFirst).await;
        scene.pass(10).await;
        let heard = scene.heard();
        assert_eq!(heard(SECOND, Heard::Eos), 1);
        assert_eq!(heard(FIRST, Heard::Eos), 0);
        scene.pass(60).await;
        let heard = scene.heard();
        assert_eq!(heard(SECOND, Heard::Gap), 0);
        assert!(
            heard(FIRST, Heard::Buffer) > 50,
            "the picture was not interrupted"
        );
        assert_eq!(scene.end().await, 1, "the change is told once");
    });
}

#[test]
fn a_stream_that_is_described_again_within_the_minute_goes_on_on_its_pad() {
    simulate(async {
        let scene = with_gap(Conduct::PlaysFirst).await;
        scene.turn(Conduct::Plays);
        scene.pass(30).await;
        let heard = scene.heard();
        assert!(
            heard(SECOND, Heard::Buffer) > 15,
            "{}",
            heard(SECOND, Heard::Buffer)
        );
        assert!(heard(FIRST, Heard::Buffer) > 25);
        assert_eq!(heard(SECOND, Heard::Eos), 0);
        assert_eq!(lock(&scene.camera.sinks.pads).len(), 2, "no new pad");
        let status = lock(&scene.camera.control.status).clone();
        assert_eq!(status.outages, 1, "to be set up again is no outage");
        scene.end().await;
    });
}

#[test]
fn a_stream_that_comes_back_with_another_reconnect_goes_on_on_its_pad() {
    simulate(async {
        let scene = with_gap(Conduct::PlaysFirst).await;
        scene.server.strike(Conduct::Plays);
        scene.pass(30).await;
        let heard = scene.heard();
        assert!(heard(SECOND, Heard::Buffer) > 20);
        assert_eq!(heard(SECOND, Heard::Eos), 0);
        scene.end().await;
    });
}

#[test]
fn a_stream_that_comes_back_after_its_end_has_a_new_pad() {
    simulate(async {
        let scene = with_gap(Conduct::PlaysFirst).await;
        scene.pass(10).await;
        assert_eq!(scene.heard()(SECOND, Heard::Eos), 1);
        scene.server.strike(Conduct::Plays);
        scene.pass(10).await;
        let heard = scene.heard();
        assert_eq!(heard(SECOND, Heard::Buffer), 0);
        assert!(heard("stream_2", Heard::Buffer) > 0);
        assert!(heard(FIRST, Heard::Buffer) > 0);
        scene.end().await;
    });
}

#[test]
fn a_stream_that_is_refused_after_a_reconnect_costs_its_pad_alone() {
    simulate(async {
        let scene = with_gap(Conduct::RefusesSecond).await;
        // It is described all the same, so it is tried once more.
        scene.pass(15).await;
        let heard = scene.heard();
        assert_eq!(heard(SECOND, Heard::Eos), 1);
        assert!(heard(FIRST, Heard::Buffer) > 10);
        scene.pass(100).await;
        let heard = scene.heard();
        assert_eq!(heard(SECOND, Heard::Gap), 0);
        assert!(heard(FIRST, Heard::Buffer) > 90);
        assert_eq!(scene.end().await, 1, "the refusal is told once");
    });
}
