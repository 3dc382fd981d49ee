//! What happened, in order: for a human, and as one number to compare runs by.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Lines kept for a report.
const KEPT: usize = 4000;

/// The story of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    lines: Option<Vec<String>>,
    is_silent: bool,
}

impl Trace {
    /// `is_told`: every line is kept.
    pub(crate) fn new(is_told: bool) -> Self {
        Self {
            // Its keys are fixed, unlike those of a hash table.
            hasher: DefaultHasher::new(),
            lines: is_told.then(Vec::new),
            is_silent: false,
        }
    }

    /// For runs that are too long to be compared.
    pub(crate) fn be_silent(&mut self) {
        self.is_silent = true;
    }

    /// Something happened at a time in milliseconds; `bytes` are only hashed.
    pub(crate) fn note(&mut self, at: u64, what: &str, number: usize, bytes: &[u8]) {
        if self.is_silent {
            return;
        }
        (at, what, number, bytes).hash(&mut self.hasher);
        self.tell(at, || match bytes {
            [] => format!("{what} {number}"),
            _ => format!("{what} {number}: {}", abbreviated(bytes)),
        });
    }

    /// Only for the human.
    pub(crate) fn tell(&mut self, at: u64, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            if lines.len() >= KEPT {
                lines.drain(..KEPT / 2);
            }
            let (seconds, millis) = (at / 1000, at % 1000);
            lines.push(format!("{seconds:>6}.{millis:03} {}", line()));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub(crate) fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

fn abbreviated(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(240)];
    let text = shown.escape_ascii().to_string().replace("\\r\\n", " | ");
    match bytes.len() {
        length if length > shown.len() => format!("{text}.. ({length})"),
        _ => text,
    }
}
