//! What elements post on the buses of their pipelines.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;

/// What one element has posted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Posted {
    /// ERROR, WARNING and `rtspmux-session`.
    pub(crate) trouble: Vec<String>,
    /// PROGRESS.
    pub(crate) progress: usize,
}

/// Hears buses in the place of an application; the messages go no further.
#[derive(Clone, Default)]
pub(crate) struct Listener(Arc<Heard>);

#[derive(Default)]
struct Heard {
    posted: Mutex<BTreeMap<String, Posted>>,
    changed: Condvar,
}

impl Listener {
    pub(crate) fn listen(&self, pipeline: &gst::Pipeline) {
        let heard = Arc::clone(&self.0);
        let bus = pipeline.bus().unwrap();
        bus.set_sync_handler(move |_, message| {
            heard.hear(message);
            gst::BusSyncReply::Drop
        });
    }

    /// What was posted since this was asked last, by name of the element.
    pub(crate) fn take(&self) -> BTreeMap<String, Posted> {
        std::mem::take(&mut self.0.posted())
    }

    /// Waits until each of these has posted trouble; gives those that have not.
    pub(crate) fn wait_for(&self, names: &[String], limit: Duration) -> Vec<String> {
        let missing = |posted: &BTreeMap<String, Posted>| {
            let is_missing = |name: &&String| {
                let posted = posted.get(name.as_str());
                posted.is_none_or(|posted| posted.trouble.is_empty())
            };
            names.iter().filter(is_missing).cloned().collect::<Vec<_>>()
        };
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.0.posted(), limit, |posted| !missing(posted).is_empty());
        missing(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

impl Heard {
    fn posted(&self) -> MutexGuard<'_, BTreeMap<String, Posted>> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, message: &gst::Message) {
        let Some(source) = message.src().map(|source| source.name().to_string()) else {
            return;
        };
        let mut posted = self.posted();
        match message.type_() {
            gst::MessageType::Progress => posted.entry(source).or_default().progress += 1,
            gst::MessageType::Error | gst::MessageType::Warning => {
                let trouble = &mut posted.entry(source).or_default().trouble;
                trouble.push(format!("{message:?}"));
            }
            gst::MessageType::Element => {
                let structure = message.structure();
                if structure.is_some_and(|it| it.name() == "rtspmux-session") {
                    let trouble = &mut posted.entry(source).or_default().trouble;
                    trouble.push(format!("{message:?}"));
                }
            }
            _ => return,
        }
        drop(posted);
        self.changed.notify_all();
    }
}
