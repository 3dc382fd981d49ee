//! A pipeline written as one line, and what came out of it.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, Once};
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use gstreamer as gst;

/// Far more than anything here takes; a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What must not block has this long; on a loaded machine a thread may have to wait for its turn.
pub(crate) const PROMPT: Duration = Duration::from_secs(1);

pub(crate) fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstrtspmux::plugin_register_static().unwrap();
    });
}

thread_local! {
    /// `manager` of all elements that the test on this thread makes.
    static MANAGER: Cell<&'static str> = const { Cell::new("auto") };
}

/// Elements of this test have this manager.
pub(crate) fn use_manager(manager: &'static str) {
    MANAGER.set(manager);
}

/// What they have: for threads that this test starts.
pub(crate) fn manager() -> &'static str {
    MANAGER.get()
}

/// Makes two tests of a function, one for each manager.
macro_rules! for_both_managers {
    ($name:ident) => {
        mod $name {
            #[test]
            fn light() {
                crate::player::use_manager("light");
                super::$name();
            }

            #[test]
            fn rtpbin() {
                crate::player::use_manager("rtpbin");
                super::$name();
            }
        }
    };
}
pub(crate) use for_both_managers;

/// What a pad let through.
#[derive(Default)]
pub(crate) struct Seen {
    buffers: Mutex<Vec<gst::Buffer>>,
    changed: Condvar,
}

impl Seen {
    /// Watches the buffers of a pad.
    pub(crate) fn on(pad: &gst::Pad) -> Arc<Self> {
        let seen = Arc::<Self>::default();
        let buffers = Arc::clone(&seen);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                buffers.buffers.lock().unwrap().push(buffer.clone());
                buffers.changed.notify_all();
            }
            gst::PadProbeReturn::Ok
        });
        seen
    }

    pub(crate) fn count(&self) -> usize {
        self.buffers.lock().unwrap().len()
    }

    /// Waits until there are so many buffers, and returns them.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<gst::Buffer> {
        let buffers = self.buffers.lock().unwrap();
        let (buffers, _) = self
            .changed
            .wait_timeout_while(buffers, PATIENCE, |buffers| buffers.len() < count)
            .unwrap();
        assert!(
            buffers.len() >= count,
            "{} buffers, not {count}",
            buffers.len()
        );
        buffers.clone()
    }

    /// Waits until the buffers are like this, and returns them.
    pub(crate) fn wait_until(&self, is_so: impl Fn(&[gst::Buffer]) -> bool) -> Vec<gst::Buffer> {
        let buffers = self.buffers.lock().unwrap();
        let (buffers, waited) = self
            .changed
            .wait_timeout_while(buffers, PATIENCE, |buffers| !is_so(buffers))
            .unwrap();
        assert!(!waited.timed_out(), "{} buffers are not so", buffers.len());
        buffers.clone()
    }
}

/// A pipeline; goes to NULL when it is dropped.
pub(crate) struct Player {
    pub(crate) pipeline: gst::Pipeline,
}

impl Player {
    /// Takes the place of gst-launch.
    pub(crate) fn new(line: &str) -> Self {
        init();
        let source = format!("rtspmuxsrc manager={} ", MANAGER.get());
        let pipeline = gst::parse::launch(&line.replace("rtspmuxsrc ", &source)).unwrap();
        Self {
            pipeline: pipeline.downcast().unwrap(),
        }
    }

    pub(crate) fn playing(line: &str) -> Self {
        let player = Self::new(line);
        player.set_state(gst::State::Playing).unwrap();
        player
    }

    pub(crate) fn set_state(
        &self,
        state: gst::State,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        self.pipeline.set_state(state)
    }

    pub(crate) fn element(&self, name: &str) -> gst::Element {
        self.pipeline.by_name(name).unwrap()
    }

    /// The buffers at the sink pad of the element with this name.
    pub(crate) fn seen_by(&self, name: &str) -> Arc<Seen> {
        Seen::on(&self.element(name).static_pad("sink").unwrap())
    }

    /// The first message of that type.
    pub(crate) fn message(&self, kind: gst::MessageType) -> gst::Message {
        let timeout = gst::ClockTime::try_from(PATIENCE).unwrap();
        let wanted = [kind, gst::MessageType::Error];
        let message = self
            .pipeline
            .bus()
            .unwrap()
            .timed_pop_filtered(timeout, &wanted);
        let message = message.unwrap_or_else(|| panic!("no {kind:?}"));
        assert_eq!(message.type_(), kind, "{message:?}");
        message
    }

    /// The next warning or error.
    pub(crate) fn warning_or_error(&self) -> gst::Message {
        let timeout = gst::ClockTime::try_from(PATIENCE).unwrap();
        let wanted = [gst::MessageType::Warning, gst::MessageType::Error];
        let bus = self.pipeline.bus().unwrap();
        let message = bus.timed_pop_filtered(timeout, &wanted);
        message.expect("a warning or an error")
    }

    /// The first error, and its details.
    pub(crate) fn error(&self) -> (glib::Error, Option<gst::Structure>) {
        let message = self.message(gst::MessageType::Error);
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        (error.error(), error.details().map(ToOwned::to_owned))
    }

    /// Asserts that no ERROR was posted so far.
    pub(crate) fn assert_no_error(&self) {
        let error = self
            .pipeline
            .bus()
            .unwrap()
            .pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "{error:?}");
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
