//! Which paths were taken: a simulation that never gets somewhere shows nothing about it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::departures::Departures;

/// How often each of them was.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    pub(crate) fn hit(&mut self, path: &str) {
        match self.0.get_mut(path) {
            Some(times) => *times += 1,
            None => _ = self.0.insert(path.to_owned(), 1),
        }
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (path, times) in &other.0 {
            *self.0.entry(path.clone()).or_default() += times;
        }
    }

    pub(crate) fn missing<'a>(&self, expected: &[&'a str]) -> Vec<&'a str> {
        let is_missing = |path: &&&str| !self.0.contains_key(**path);
        expected.iter().filter(is_missing).copied().collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, times) in &self.0 {
            writeln!(f, "{times:>9} {path}")?;
        }
        Ok(())
    }
}

/// What the library says of itself while it goes a way that cannot be seen from outside.
const WORDS: [(&str, &str); 12] = [
    ("trying another connection", "another connection"),
    ("held up, trying elsewhere", "regrouped"),
    ("not waiting for others any more", "gathering lapsed"),
    ("others stay here", "stepped aside"),
    (": canary: ", "canary failed"),
    ("idle timeout", "idle timeout"),
    ("credentials refused", "credentials refused"),
    ("takes no more sessions", "no more sessions"),
    (": lost: ", "session lost"),
    ("stream 1 left out", "stream left out"),
    ("stream 0 left out", "stream left out"),
    ("sessions share connections", "verdict Yes"),
];

/// Listens to the library's log, except for what is on the wire.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    heard: Arc<Mutex<Heard>>,
}

/// What was heard.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    pub(crate) coverage: Coverage,
    pub(crate) departures: Departures,
    /// All of it, if it is to be told.
    pub(crate) lines: Option<Vec<String>>,
}

impl Listener {
    pub(crate) fn new(is_told: bool) -> (Self, Arc<Mutex<Heard>>) {
        let heard = Heard {
            lines: is_told.then(Vec::new),
            ..Heard::default()
        };
        let heard = Arc::new(Mutex::new(heard));
        let listener = Self {
            heard: Arc::clone(&heard),
        };
        (listener, heard)
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("gstrtspmux") && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for (words, path) in WORDS {
            if message.0.contains(words) {
                heard.coverage.hit(path);
            }
        }
        heard.departures.hear(&message.0);
        if let Some(lines) = &mut heard.lines {
            lines.push(message.0);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write as _;
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}
